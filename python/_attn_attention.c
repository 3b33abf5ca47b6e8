/* _attn_attention.c: attention forward and backward. */
#include "_attn.h"

#include <string.h>

struct call {
    enum { OUT, LSE, Q, K, V, DOUT, DLSE, DQ, DK, DV, DBIAS, DSINKS, TENSORS } unused;
    view views[TENSORS];
    call_options options;
};

static const char *const names[TENSORS] = {"out",  "lse", "q",  "k",  "v",     "dout",
                                           "dlse", "dq",  "dk", "dv", "dbias", "dsinks"};

static bool take(struct call *c, int which, PyObject *object, unsigned allowed, view_use use) {
    return view_take(&c->views[which], object, names[which], allowed, use);
}

static bool take_optional(struct call *c, int which, PyObject *object, unsigned allowed, view_use use) {
    return object == Py_None || take(c, which, object, allowed, use);
}

/* NULL where None was given. */
static const attn_tensor *tensor(const struct call *c, int which) {
    const view *v = &c->views[which];
    return v->buffered || v->capsule ? &v->tensor : NULL;
}

static void release(struct call *c) {
    for (int i = 0; i < TENSORS; i++) view_release(&c->views[i]);
    options_release(&c->options);
}

static bool take_inputs(struct call *c, PyObject *q, PyObject *k, PyObject *v) {
    return take(c, Q, q, VIEW_FLOATS, VIEW_READ) && take(c, K, k, VIEW_FLOATS, VIEW_READ) &&
           take(c, V, v, VIEW_FLOATS, VIEW_READ);
}

static attn_status run_fwd(attn_context *ctx, void *arg) {
    const struct call *c = arg;
    return attn_attention_fwd(ctx, tensor(c, OUT), tensor(c, LSE), tensor(c, Q), tensor(c, K), tensor(c, V),
                              &c->options.options);
}

/* attention_fwd(out, lse or None, q, k, v, keywords) */
PyObject *attention_fwd(PyObject *module, PyObject *arguments) {
    PyObject *out, *lse, *q, *k, *v, *keywords;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOOOOO!:attention_fwd", &out, &lse, &q, &k, &v, &PyDict_Type, &keywords))
        return NULL;
    struct call c;
    memset(&c, 0, sizeof c);
    bool done = take_inputs(&c, q, k, v) && take(&c, OUT, out, VIEW_FLOATS, VIEW_WRITE) &&
                take_optional(&c, LSE, lse, VIEW_F32, VIEW_WRITE) &&
                options_take(&c.options, keywords, tensor(&c, Q), tensor(&c, K)) && context_call(run_fwd, &c);
    release(&c);
    return done ? Py_NewRef(Py_None) : NULL;
}

static attn_status run_bwd(attn_context *ctx, void *arg) {
    const struct call *c = arg;
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    grads.dq = tensor(c, DQ);
    grads.dk = tensor(c, DK);
    grads.dv = tensor(c, DV);
    grads.dbias = tensor(c, DBIAS);
    grads.dsinks = tensor(c, DSINKS);
    return attn_attention_bwd(ctx, &grads, tensor(c, DOUT), tensor(c, DLSE), tensor(c, Q), tensor(c, K), tensor(c, V),
                              tensor(c, OUT), tensor(c, LSE), &c->options.options);
}

/* attention_bwd((dq, dk, dv, dbias, dsinks), dout, dlse, q, k, v, out, lse, keywords); None where there is none. */
PyObject *attention_bwd(PyObject *module, PyObject *arguments) {
    PyObject *dq, *dk, *dv, *dbias, *dsinks, *dout, *dlse, *q, *k, *v, *out, *lse, *keywords;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "(OOOOO)OOOOOOOO!:attention_bwd", &dq, &dk, &dv, &dbias, &dsinks, &dout, &dlse, &q,
                          &k, &v, &out, &lse, &PyDict_Type, &keywords))
        return NULL;
    struct call c;
    memset(&c, 0, sizeof c);
    bool done =
        take_inputs(&c, q, k, v) && take(&c, DOUT, dout, VIEW_FLOATS, VIEW_READ) &&
        take(&c, OUT, out, VIEW_FLOATS, VIEW_READ) && take(&c, LSE, lse, VIEW_F32, VIEW_READ) &&
        take_optional(&c, DLSE, dlse, VIEW_F32, VIEW_READ) && take_optional(&c, DQ, dq, VIEW_FLOATS, VIEW_WRITE) &&
        take_optional(&c, DK, dk, VIEW_FLOATS, VIEW_WRITE) && take_optional(&c, DV, dv, VIEW_FLOATS, VIEW_WRITE) &&
        take_optional(&c, DBIAS, dbias, VIEW_F32, VIEW_WRITE) &&
        take_optional(&c, DSINKS, dsinks, VIEW_F32, VIEW_WRITE) &&
        (dbias == Py_None || view_raise(&c.views[DBIAS], "dbias", 4)) &&
        options_take(&c.options, keywords, tensor(&c, Q), tensor(&c, K)) && context_call(run_bwd, &c);
    release(&c);
    return done ? Py_NewRef(Py_None) : NULL;
}
