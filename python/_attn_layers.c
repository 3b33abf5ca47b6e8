/* _attn_layers.c: softmax, activations and normalisations, over the last dimensions of f32 arrays. */
#include "_attn.h"

#include <string.h>

enum { MOST = 6 };

typedef struct layer_call {
    view views[MOST];
    int which;
    float epsilon;
} layer_call;

/* Everything that is read becomes contiguous; what is written is that already, since the package makes it. */
static bool take(layer_call *c, const argument *arguments, size_t n, PyObject *tuple, size_t extra) {
    memset(c, 0, sizeof *c);
    if (!views_take(c->views, arguments, n, tuple, extra)) return false;
    for (size_t i = 0; i < n; i++)
        if (arguments[i].use == VIEW_READ && view_tensor(&c->views[i]) && !view_dense_floats(&c->views[i]))
            return false;
    return true;
}

static PyObject *finish(layer_call *c, bool done) {
    views_release(c->views, MOST);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- softmax, activations ---------------------------------------------------------------------------- */

static const argument pointwise[] = {{"y", VIEW_F32, VIEW_WRITE, false}, {"x", VIEW_F32, VIEW_READ, false}};

static PyObject *call_pointwise(PyObject *arguments, context_fn *run) {
    layer_call c;
    bool done = take(&c, pointwise, 2, arguments, 1);
    if (done) {
        c.which = (int)PyLong_AsLong(PyTuple_GetItem(arguments, 2));
        done = !PyErr_Occurred() && context_call(run, &c);
    }
    return finish(&c, done);
}

static attn_status run_softmax(attn_context *ctx, void *arg) {
    const layer_call *c = arg;
    return (c->which ? attn_log_softmax_fwd : attn_softmax_fwd)(ctx, &c->views[0].tensor, &c->views[1].tensor);
}

/* softmax(y, x, log) */
PyObject *softmax(PyObject *module, PyObject *arguments) {
    (void)module;
    return call_pointwise(arguments, run_softmax);
}

static attn_status run_gelu(attn_context *ctx, void *arg) {
    const layer_call *c = arg;
    return attn_activation_fwd(ctx, &c->views[0].tensor, &c->views[1].tensor, c->which ? ATTN_GELU_TANH : ATTN_GELU);
}

/* gelu(y, x, tanh) */
PyObject *gelu(PyObject *module, PyObject *arguments) {
    (void)module;
    return call_pointwise(arguments, run_gelu);
}

/* ---- normalisations ---------------------------------------------------------------------------------- */

enum { Y, MEAN, RSTD, X, GAIN, BIAS, TENSORS };

/* x, whose last dimensions are the gain's, as rows of them; mean and rstd as one number a row. */
static bool as_rows(layer_call *c) {
    attn_tensor *x = &c->views[X].tensor, *gain = &c->views[GAIN].tensor;
    int before = x->rank - gain->rank;
    bool fits = before >= 0 && gain->rank > 0;
    for (int i = 0; fits && i < gain->rank; i++) fits = gain->shape[i] == x->shape[before + i];
    if (!fits) {
        PyErr_Format(PyExc_ValueError, "gain has %d dimensions that are not the last ones of x, which has %d",
                     gain->rank, x->rank);
        return false;
    }
    const view *bias = &c->views[BIAS];
    if (view_tensor(bias) && (bias->tensor.rank != gain->rank ||
                              memcmp(bias->tensor.shape, gain->shape, (size_t)gain->rank * sizeof *gain->shape) != 0)) {
        PyErr_SetString(PyExc_ValueError, "bias has another shape than gain");
        return false;
    }
    size_t shape[2] = {1, attn_tensor_count(gain)};
    for (int i = 0; i < before; i++) shape[0] *= x->shape[i];
    for (int i = 0; i < TENSORS; i++) {
        attn_tensor *t = &c->views[i].tensor;
        if (!view_tensor(&c->views[i])) continue;
        if (i == Y || i == X) *t = attn_tensor_of(t->data, ATTN_F32, 2, shape);
        else *t = attn_tensor_of(t->data, ATTN_F32, 1, i == MEAN || i == RSTD ? shape : shape + 1);
    }
    return true;
}

static attn_status run_norm(attn_context *ctx, void *arg) {
    const layer_call *c = arg;
    const view *v = c->views;
    if (c->which)
        return attn_rms_norm_fwd(ctx, view_tensor(v + Y), view_tensor(v + RSTD), view_tensor(v + X),
                                 view_tensor(v + GAIN), c->epsilon);
    return attn_layer_norm_fwd(ctx, view_tensor(v + Y), view_tensor(v + MEAN), view_tensor(v + RSTD),
                               view_tensor(v + X), view_tensor(v + GAIN), view_tensor(v + BIAS), c->epsilon);
}

/* norm(y, mean, rstd, x, gain, bias, epsilon, rms); None where there is none. */
PyObject *norm(PyObject *module, PyObject *arguments) {
    static const argument tensors[TENSORS] = {
        {"y", VIEW_F32, VIEW_WRITE, false}, {"mean", VIEW_F32, VIEW_WRITE, true}, {"rstd", VIEW_F32, VIEW_WRITE, true},
        {"x", VIEW_F32, VIEW_READ, false},  {"gain", VIEW_F32, VIEW_READ, false}, {"bias", VIEW_F32, VIEW_READ, true}};
    layer_call c;
    (void)module;
    bool done = take(&c, tensors, TENSORS, arguments, 2);
    if (done) {
        c.epsilon = (float)PyFloat_AsDouble(PyTuple_GetItem(arguments, TENSORS));
        c.which = PyObject_IsTrue(PyTuple_GetItem(arguments, TENSORS + 1));
        done = !PyErr_Occurred() && as_rows(&c) && context_call(run_norm, &c);
    }
    return finish(&c, done);
}
