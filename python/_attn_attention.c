/* _attn_attention.c: attention forward and backward. */
#include "_attn.h"

#include <string.h>

/* ---- forward ----------------------------------------------------------------------------------------- */

enum { OUT, LSE, Q, K, V, FORWARD };
static const argument forward[FORWARD] = {{"out", VIEW_FLOATS, VIEW_WRITE, false},
                                          {"lse", VIEW_F32, VIEW_WRITE, true},
                                          {"q", VIEW_FLOATS, VIEW_READ, false},
                                          {"k", VIEW_FLOATS, VIEW_READ, false},
                                          {"v", VIEW_FLOATS, VIEW_READ, false}};

struct forward_call {
    view views[FORWARD];
    call_options options;
};

static attn_status run_forward(attn_context *ctx, void *arg) {
    const struct forward_call *c = arg;
    const view *v = c->views;
    return attn_attention_fwd(ctx, view_tensor(v + OUT), view_tensor(v + LSE), view_tensor(v + Q), view_tensor(v + K),
                              view_tensor(v + V), &c->options.options);
}

/* attention_fwd(out, lse or None, q, k, v, keywords) */
PyObject *attention_fwd(PyObject *module, PyObject *arguments) {
    struct forward_call c;
    (void)module;
    memset(&c, 0, sizeof c);
    bool done = views_take(c.views, forward, FORWARD, arguments, 1) &&
                options_take(&c.options, PyTuple_GetItem(arguments, FORWARD), &c.views[Q].tensor, &c.views[K].tensor) &&
                context_call(run_forward, &c);
    views_release(c.views, FORWARD);
    options_release(&c.options);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- backward ---------------------------------------------------------------------------------------- */

enum { DQ, DK, DV, DBIAS, DSINKS, DOUT, DLSE, Q2, K2, V2, OUT2, LSE2, BACKWARD };
static const argument backward[BACKWARD] = {
    {"dq", VIEW_FLOATS, VIEW_WRITE, true},  {"dk", VIEW_FLOATS, VIEW_WRITE, true},
    {"dv", VIEW_FLOATS, VIEW_WRITE, true},  {"dbias", VIEW_F32, VIEW_WRITE, true},
    {"dsinks", VIEW_F32, VIEW_WRITE, true}, {"dout", VIEW_FLOATS, VIEW_READ, false},
    {"dlse", VIEW_F32, VIEW_READ, true},    {"q", VIEW_FLOATS, VIEW_READ, false},
    {"k", VIEW_FLOATS, VIEW_READ, false},   {"v", VIEW_FLOATS, VIEW_READ, false},
    {"out", VIEW_FLOATS, VIEW_READ, false}, {"lse", VIEW_F32, VIEW_READ, false}};

struct backward_call {
    view views[BACKWARD];
    call_options options;
};

static attn_status run_backward(attn_context *ctx, void *arg) {
    const struct backward_call *c = arg;
    const view *v = c->views;
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    grads.dq = view_tensor(v + DQ);
    grads.dk = view_tensor(v + DK);
    grads.dv = view_tensor(v + DV);
    grads.dbias = view_tensor(v + DBIAS);
    grads.dsinks = view_tensor(v + DSINKS);
    return attn_attention_bwd(ctx, &grads, view_tensor(v + DOUT), view_tensor(v + DLSE), view_tensor(v + Q2),
                              view_tensor(v + K2), view_tensor(v + V2), view_tensor(v + OUT2), view_tensor(v + LSE2),
                              &c->options.options);
}

/* attention_bwd(dq, dk, dv, dbias, dsinks, dout, dlse, q, k, v, out, lse, keywords); None where there is none. */
PyObject *attention_bwd(PyObject *module, PyObject *arguments) {
    struct backward_call c;
    (void)module;
    memset(&c, 0, sizeof c);
    bool done =
        views_take(c.views, backward, BACKWARD, arguments, 1) &&
        (!view_tensor(&c.views[DBIAS]) || view_raise(&c.views[DBIAS], "dbias", 4)) &&
        options_take(&c.options, PyTuple_GetItem(arguments, BACKWARD), &c.views[Q2].tensor, &c.views[K2].tensor) &&
        context_call(run_backward, &c);
    views_release(c.views, BACKWARD);
    options_release(&c.options);
    return done ? Py_NewRef(Py_None) : NULL;
}
