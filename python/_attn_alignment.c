/* _attn_alignment.c: additive (Bahdanau's) and dot (Luong's) attention. */
#include "_attn.h"

#include <assert.h>
#include <string.h>

enum { MOST = 10 };

typedef struct alignment_call {
    view views[MOST];
    int32_t *lengths;
    float scale;
} alignment_call;

typedef struct alignment_operation {
    const argument *arguments;
    size_t count, key; /* argument `key` has the number of sequences as its first size */
    bool scaled;       /* a number follows the tensors */
    context_fn *run;
} alignment_operation;

/* tensors…, scale where there is one, lengths or None */
static PyObject *call(const alignment_operation *operation, PyObject *arguments) {
    alignment_call c;
    memset(&c, 0, sizeof c);
    bool done = views_take(c.views, operation->arguments, operation->count, arguments, operation->scaled ? 2 : 1);
    if (done && operation->scaled) {
        c.scale = (float)PyFloat_AsDouble(PyTuple_GetItem(arguments, (Py_ssize_t)operation->count));
        done = !PyErr_Occurred();
    }
    const attn_tensor *key = &c.views[operation->key].tensor;
    if (done) {
        PyObject *lengths = PyTuple_GetItem(arguments, PyTuple_Size(arguments) - 1);
        done = lengths_take(lengths, "kv_lengths", key->rank > 0 ? key->shape[0] : 0, &c.lengths) &&
               context_call(operation->run, &c);
    }
    views_release(c.views, MOST);
    PyMem_Free(c.lengths);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- additive ---------------------------------------------------------------------------------------- */

enum { C, LSE, ALIGNMENT, SQ, HK, V, H, ADDITIVE_FWD };

static attn_status run_additive_fwd(attn_context *ctx, void *arg) {
    const alignment_call *c = arg;
    const view *v = c->views;
    return attn_additive_attention_fwd(ctx, view_tensor(v + C), view_tensor(v + LSE), view_tensor(v + ALIGNMENT), NULL,
                                       view_tensor(v + SQ), view_tensor(v + HK), view_tensor(v + V), view_tensor(v + H),
                                       c->lengths);
}

/* additive_fwd(c, lse, alignment, sq, hk, v, h, lengths); lse, alignment and lengths may be None. */
PyObject *additive_fwd(PyObject *module, PyObject *arguments) {
    static const argument tensors[ADDITIVE_FWD] = {
        {"c", VIEW_F32_BF16, VIEW_WRITE, false},   {"lse", VIEW_F32, VIEW_WRITE, true},
        {"alignment", VIEW_F32, VIEW_WRITE, true}, {"sq", VIEW_F32_BF16, VIEW_READ, false},
        {"hk", VIEW_F32_BF16, VIEW_READ, false},   {"v", VIEW_F32_BF16, VIEW_READ, false},
        {"h", VIEW_F32_BF16, VIEW_READ, false}};
    static const alignment_operation operation = {tensors, ADDITIVE_FWD, HK, false, run_additive_fwd};
    (void)module;
    return call(&operation, arguments);
}

enum { DSQ, DHK, DV, DH, DC, BWD_SQ, BWD_HK, BWD_V, BWD_H, BWD_ALIGNMENT, ADDITIVE_BWD };
static_assert((int)ADDITIVE_BWD <= (int)MOST, "views of a call");

static attn_status run_additive_bwd(attn_context *ctx, void *arg) {
    const alignment_call *c = arg;
    const view *v = c->views;
    return attn_additive_attention_bwd(ctx, view_tensor(v + DSQ), view_tensor(v + DHK), view_tensor(v + DV),
                                       view_tensor(v + DH), view_tensor(v + DC), view_tensor(v + BWD_SQ),
                                       view_tensor(v + BWD_HK), view_tensor(v + BWD_V), view_tensor(v + BWD_H),
                                       view_tensor(v + BWD_ALIGNMENT), c->lengths, false);
}

/* additive_bwd(dsq, dhk, dv, dh, dc, sq, hk, v, h, alignment, lengths) */
PyObject *additive_bwd(PyObject *module, PyObject *arguments) {
    static const argument tensors[ADDITIVE_BWD] = {
        {"dsq", VIEW_F32_BF16, VIEW_WRITE, false}, {"dhk", VIEW_F32_BF16, VIEW_WRITE, false},
        {"dv", VIEW_F32_BF16, VIEW_WRITE, false},  {"dh", VIEW_F32_BF16, VIEW_WRITE, false},
        {"dc", VIEW_F32_BF16, VIEW_READ, false},   {"sq", VIEW_F32_BF16, VIEW_READ, false},
        {"hk", VIEW_F32_BF16, VIEW_READ, false},   {"v", VIEW_F32_BF16, VIEW_READ, false},
        {"h", VIEW_F32_BF16, VIEW_READ, false},    {"alignment", VIEW_F32, VIEW_READ, false}};
    static const alignment_operation operation = {tensors, ADDITIVE_BWD, BWD_HK, false, run_additive_bwd};
    (void)module;
    return call(&operation, arguments);
}

/* ---- dot --------------------------------------------------------------------------------------------- */

enum { DOT_C, DOT_ALIGNMENT, DOT_Q, DOT_K, DOT_H, DOT_FWD };

static attn_status run_dot_fwd(attn_context *ctx, void *arg) {
    const alignment_call *c = arg;
    const view *v = c->views;
    return attn_dot_attention_fwd(ctx, view_tensor(v + DOT_C), view_tensor(v + DOT_ALIGNMENT), NULL,
                                  view_tensor(v + DOT_Q), view_tensor(v + DOT_K), view_tensor(v + DOT_H), c->scale,
                                  c->lengths);
}

/* dot_fwd(c, alignment or None, q, k, h, scale, lengths or None) */
PyObject *dot_fwd(PyObject *module, PyObject *arguments) {
    static const argument tensors[DOT_FWD] = {{"c", VIEW_F32_BF16, VIEW_WRITE, false},
                                              {"alignment", VIEW_F32, VIEW_WRITE, true},
                                              {"q", VIEW_F32_BF16, VIEW_READ, false},
                                              {"k", VIEW_F32_BF16, VIEW_READ, false},
                                              {"h", VIEW_F32_BF16, VIEW_READ, false}};
    static const alignment_operation operation = {tensors, DOT_FWD, DOT_K, true, run_dot_fwd};
    (void)module;
    return call(&operation, arguments);
}

enum { DOT_DQ, DOT_DK, DOT_DH, DOT_DC, DOT_BWD_Q, DOT_BWD_K, DOT_BWD_H, DOT_BWD_ALIGNMENT, DOT_BWD };

static attn_status run_dot_bwd(attn_context *ctx, void *arg) {
    const alignment_call *c = arg;
    const view *v = c->views;
    return attn_dot_attention_bwd(ctx, view_tensor(v + DOT_DQ), view_tensor(v + DOT_DK), view_tensor(v + DOT_DH),
                                  view_tensor(v + DOT_DC), view_tensor(v + DOT_BWD_Q), view_tensor(v + DOT_BWD_K),
                                  view_tensor(v + DOT_BWD_H), view_tensor(v + DOT_BWD_ALIGNMENT), c->scale, c->lengths,
                                  false);
}

/* dot_bwd(dq, dk, dh, dc, q, k, h, alignment, scale, lengths or None) */
PyObject *dot_bwd(PyObject *module, PyObject *arguments) {
    static const argument tensors[DOT_BWD] = {
        {"dq", VIEW_F32_BF16, VIEW_WRITE, false}, {"dk", VIEW_F32_BF16, VIEW_WRITE, false},
        {"dh", VIEW_F32_BF16, VIEW_WRITE, false}, {"dc", VIEW_F32_BF16, VIEW_READ, false},
        {"q", VIEW_F32_BF16, VIEW_READ, false},   {"k", VIEW_F32_BF16, VIEW_READ, false},
        {"h", VIEW_F32_BF16, VIEW_READ, false},   {"alignment", VIEW_F32, VIEW_READ, false}};
    static const alignment_operation operation = {tensors, DOT_BWD, DOT_BWD_K, true, run_dot_bwd};
    (void)module;
    return call(&operation, arguments);
}
