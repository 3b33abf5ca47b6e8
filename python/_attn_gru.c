/* _attn_gru.c: a GRU over a sequence, of the library's linear layer and pointwise step:
 *
 *     r = σ(W_r x + b_r + U_r h + c_r)     z likewise     h' = (1 − z) ∘ n + z ∘ h
 *     n = tanh(W_n x + b_n + r ∘ (U_n h + c_n))          reset_after
 *     n = tanh(W_n x + b_n + U_n (r ∘ h) + c_n)          else: Cho et al. 2014
 *
 * The pointwise step has the first form. The second is that form with W_n x + b_n + U_n (r ∘ h) + c_n in place of the
 * input's part of n, and 0 in place of the state's. */
#include "_attn.h"

#include <string.h>

enum { Y, X, W, U, B, C, H0, TENSORS };
static const argument tensors[TENSORS] = {{"y", VIEW_F32, VIEW_WRITE, false}, {"x", VIEW_F32, VIEW_READ, false},
                                          {"w", VIEW_F32, VIEW_READ, false},  {"u", VIEW_F32, VIEW_READ, false},
                                          {"b", VIEW_F32, VIEW_READ, true},   {"c", VIEW_F32, VIEW_READ, true},
                                          {"h0", VIEW_F32, VIEW_READ, true}};

struct call {
    view views[TENSORS];
    int32_t *lengths;
    int reverse, reset_after;
    size_t steps, batch, size; /* T, B, H */
    float *memory, *gx, *gh;   /* gx (T, B, 3H), gh (B, 3H) */
    float *state;              /* (B, H) zeros */
    float *reset, *candidate;  /* (B, H) */
    uint8_t *active;           /* (B) */
};

/* Rows first … first + n − 1 of a matrix or vector. */
static attn_tensor part(const attn_tensor *t, size_t first, size_t n) {
    attn_tensor rows = *t;
    rows.data = (float *)t->data + (ptrdiff_t)first * t->stride[0];
    rows.shape[0] = n;
    return rows;
}

/* y = x · (rows of w)ᵀ + (those of b) */
static attn_status product(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, const attn_tensor *w,
                           const attn_tensor *b, size_t first, size_t n, const attn_tensor *residual) {
    attn_tensor rows = part(w, first, n), bias;
    if (b) bias = part(b, first, n);
    return attn_linear_fwd(ctx, y, x, &rows, b ? &bias : NULL, residual, ATTN_IDENTITY);
}

/* n's part of gx, and 0 for n in gh, which has r's and z's. */
static attn_status paper_candidate(attn_context *ctx, struct call *c, float *gx, const attn_tensor *h) {
    const size_t n = c->size;
    attn_tensor reset = attn_tensor_f32(c->reset, 2, c->batch, n), sum = attn_tensor_f32(c->candidate, 2, c->batch, n);
    for (size_t b = 0; b < c->batch; b++) {
        memcpy(c->reset + b * n, gx + 3 * b * n, n * sizeof *gx);
        memcpy(c->candidate + b * n, c->gh + 3 * b * n, n * sizeof *gx);
    }
    attn_status status = attn_add(ctx, &reset, &reset, &sum);
    if (status == ATTN_OK) status = attn_activation_fwd(ctx, &reset, &reset, ATTN_SIGMOID);
    if (status != ATTN_OK) return status;
    for (size_t i = 0; i < c->batch * n; i++) c->reset[i] *= ((const float *)h->data)[i];
    attn_tensor to = attn_tensor_f32(gx, 2, c->batch, 3 * n);
    to.data = gx + 2 * n, to.shape[1] = n;
    for (size_t b = 0; b < c->batch; b++) {
        memcpy(c->candidate + b * n, gx + (3 * b + 2) * n, n * sizeof *gx);
        memset(c->gh + (3 * b + 2) * n, 0, n * sizeof *gx);
    }
    return product(ctx, &to, &reset, &c->views[U].tensor, view_tensor(&c->views[C]), 2 * n, n, &sum);
}

static attn_status step(attn_context *ctx, struct call *c, size_t t, const attn_tensor *h) {
    const size_t n = c->size, state = c->batch * n;
    attn_tensor gx = attn_tensor_f32(c->gx + 3 * t * state, 2, c->batch, 3 * n);
    attn_tensor gh = attn_tensor_f32(c->gh, 2, c->batch, 3 * n), gates = gh;
    attn_tensor y = attn_tensor_f32((float *)c->views[Y].tensor.data + t * state, 2, c->batch, n);
    for (size_t b = 0; b < c->batch; b++) c->active[b] = !c->lengths || t < (size_t)c->lengths[b];
    gates.shape[1] = c->reset_after ? 3 * n : 2 * n;
    attn_status status =
        product(ctx, &gates, h, &c->views[U].tensor, view_tensor(&c->views[C]), 0, gates.shape[1], NULL);
    if (status == ATTN_OK && !c->reset_after) status = paper_candidate(ctx, c, gx.data, h);
    return status == ATTN_OK ? attn_gru_point_fwd(ctx, &y, NULL, &gx, &gh, h, c->active) : status;
}

static attn_status run(attn_context *ctx, void *arg) {
    struct call *c = arg;
    const size_t rows = c->steps * c->batch, state = c->batch * c->size;
    attn_tensor x = attn_tensor_f32(c->views[X].tensor.data, 2, rows, c->views[X].tensor.shape[2]);
    attn_tensor gx = attn_tensor_f32(c->gx, 2, rows, 3 * c->size);
    attn_tensor h =
        attn_tensor_f32(view_tensor(&c->views[H0]) ? c->views[H0].tensor.data : c->state, 2, c->batch, c->size);
    attn_status status = product(ctx, &gx, &x, &c->views[W].tensor, view_tensor(&c->views[B]), 0, 3 * c->size, NULL);
    for (size_t i = 0; i < c->steps && status == ATTN_OK; i++) {
        size_t t = c->reverse ? c->steps - 1 - i : i;
        status = step(ctx, c, t, &h);
        h.data = (float *)c->views[Y].tensor.data + t * state;
    }
    return status;
}

static bool fits(const struct call *c, int which, int rank, size_t first, size_t second, const char *expected) {
    const attn_tensor *t = view_tensor(&c->views[which]);
    if (!t || (t->rank == rank && t->shape[0] == first && (rank < 2 || t->shape[1] == second))) return true;
    PyErr_Format(PyExc_ValueError, "%s: expected %s with H = %zu, B = %zu, E = %zu", tensors[which].name, expected,
                 c->size, c->batch, c->views[X].tensor.shape[2]);
    return false;
}

static bool prepare(struct call *c) {
    const attn_tensor *x = &c->views[X].tensor, *u = &c->views[U].tensor;
    if (x->rank != 3 || u->rank != 2 || u->shape[0] != 3 * u->shape[1]) {
        PyErr_Format(PyExc_ValueError,
                     x->rank != 3 ? "x has %d dimensions, expected 3: (T, B, E)"
                                  : "u has %d dimensions, or is not (3H, H)",
                     x->rank != 3 ? x->rank : u->rank);
        return false;
    }
    c->steps = x->shape[0], c->batch = x->shape[1], c->size = u->shape[1];
    const size_t n = c->size, state = c->batch * n;
    if (!fits(c, W, 2, 3 * n, x->shape[2], "(3H, E)") || !fits(c, B, 1, 3 * n, 0, "(3H)") ||
        !fits(c, C, 1, 3 * n, 0, "(3H)") || !fits(c, H0, 2, c->batch, n, "(B, H)"))
        return false;
    for (size_t b = 0; c->lengths && b < c->batch; b++)
        if (c->lengths[b] < 0 || (size_t)c->lengths[b] > c->steps) {
            PyErr_Format(PyExc_ValueError, "lengths[%zu] is %d, expected 0 to %zu", b, (int)c->lengths[b], c->steps);
            return false;
        }
    for (int i = X; i < TENSORS; i++)
        if (view_tensor(&c->views[i]) && !view_dense_floats(&c->views[i])) return false;
    /* x, w and u are in memory already: their sizes bound these. */
    c->memory = PyMem_Calloc(3 * c->steps * state + 6 * state + 1, sizeof *c->memory);
    c->active = PyMem_Malloc(c->batch + 1);
    if (!c->memory || !c->active) return PyErr_NoMemory(), false;
    c->gx = c->memory;
    c->gh = c->gx + 3 * c->steps * state;
    c->state = c->gh + 3 * state, c->reset = c->state + state, c->candidate = c->reset + state;
    return true;
}

/* gru(y, x, w, u, b, c, h0, lengths, reverse, reset_after); b, c, h0, lengths may be None. y is (T, B, H). */
PyObject *gru(PyObject *module, PyObject *arguments) {
    struct call c;
    (void)module;
    memset(&c, 0, sizeof c);
    bool done = views_take(c.views, tensors, TENSORS, arguments, 3);
    if (done) {
        const attn_tensor *x = &c.views[X].tensor;
        c.reverse = PyObject_IsTrue(PyTuple_GetItem(arguments, TENSORS + 1));
        c.reset_after = PyObject_IsTrue(PyTuple_GetItem(arguments, TENSORS + 2));
        done =
            c.reverse >= 0 && c.reset_after >= 0 &&
            lengths_take(PyTuple_GetItem(arguments, TENSORS), "lengths", x->rank == 3 ? x->shape[1] : 0, &c.lengths) &&
            prepare(&c) && context_call(run, &c);
    }
    views_release(c.views, TENSORS);
    PyMem_Free(c.lengths);
    PyMem_Free(c.memory);
    PyMem_Free(c.active);
    return done ? Py_NewRef(Py_None) : NULL;
}
