/* _attn_weights.c: the weights of attention, and its scores. */
#include "_attn.h"

#include <string.h>

/* ---- weights ----------------------------------------------------------------------------------------- */

enum { WEIGHTS, TOP_VALUES, TOP_KEYS, ARGMAX, ENTROPY, COLUMN_SUM, BLOCK_MAX, Q, K, LSE, TENSORS };
enum { HEADS = TENSORS, ROWS, BLOCK_ROWS, BLOCK_KEYS, KEYWORDS };
static const argument arguments_of_weights[TENSORS] = {
    {"weights", VIEW_F32, VIEW_WRITE, true},   {"top_values", VIEW_F32, VIEW_WRITE, true},
    {"top_keys", VIEW_I32, VIEW_WRITE, true},  {"argmax", VIEW_I32, VIEW_WRITE, true},
    {"entropy", VIEW_F32, VIEW_WRITE, true},   {"column_sum", VIEW_F32, VIEW_WRITE, true},
    {"block_max", VIEW_F32, VIEW_WRITE, true}, {"q", VIEW_FLOATS, VIEW_READ, false},
    {"k", VIEW_FLOATS, VIEW_READ, false},      {"lse", VIEW_F32, VIEW_READ, false}};

struct call {
    view views[TENSORS];
    call_options options;
    int32_t *heads;
    int64_t *rows;
    size_t head_count, row_count;
    Py_ssize_t block_rows, block_keys;
};

static bool take_choice(struct call *c, PyObject *heads, PyObject *rows) {
    return (heads == Py_None || int32_take(heads, "heads", &c->heads, &c->head_count)) &&
           (rows == Py_None || integers_take(rows, "rows", &c->rows, &c->row_count));
}

static void release(struct call *c) {
    views_release(c->views, TENSORS);
    options_release(&c->options);
    PyMem_Free(c->heads);
    PyMem_Free(c->rows);
}

static attn_status run(attn_context *ctx, void *arg) {
    const struct call *c = arg;
    const view *v = c->views;
    attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
    look.heads = c->heads, look.head_count = c->head_count;
    look.rows = c->rows, look.row_count = c->row_count;
    look.weights = view_tensor(v + WEIGHTS);
    look.top_values = view_tensor(v + TOP_VALUES), look.top_keys = view_tensor(v + TOP_KEYS);
    look.argmax = view_tensor(v + ARGMAX);
    look.entropy = view_tensor(v + ENTROPY);
    look.column_sum = view_tensor(v + COLUMN_SUM);
    look.block_max = view_tensor(v + BLOCK_MAX);
    look.block_rows = (size_t)c->block_rows, look.block_keys = (size_t)c->block_keys;
    return attn_attention_weights(ctx, &look, view_tensor(v + Q), view_tensor(v + K), view_tensor(v + LSE),
                                  &c->options.options);
}

/* attention_weights(weights, top_values, top_keys, argmax, entropy, column_sum, block_max, q, k, lse, heads, rows,
 * block_rows, block_keys, keywords); None where there is none. */
PyObject *attention_weights(PyObject *module, PyObject *arguments) {
    struct call c;
    (void)module;
    memset(&c, 0, sizeof c);
    bool done = views_take(c.views, arguments_of_weights, TENSORS, arguments, 5) &&
                take_choice(&c, PyTuple_GetItem(arguments, HEADS), PyTuple_GetItem(arguments, ROWS));
    if (done) {
        c.block_rows = PyLong_AsSsize_t(PyTuple_GetItem(arguments, BLOCK_ROWS));
        c.block_keys = PyLong_AsSsize_t(PyTuple_GetItem(arguments, BLOCK_KEYS));
        done = !PyErr_Occurred() &&
               options_take(&c.options, PyTuple_GetItem(arguments, KEYWORDS), &c.views[Q].tensor, &c.views[K].tensor) &&
               context_call(run, &c);
    }
    release(&c);
    return done ? Py_NewRef(Py_None) : NULL;
}

static size_t longest(const int32_t *cumulative, size_t sequences) {
    int32_t most = 0;
    for (size_t b = 0; b < sequences; b++) {
        int32_t length = 0; /* what is not in order is refused by the call that follows */
        if (!__builtin_sub_overflow(cumulative[b + 1], cumulative[b], &length) && length > most) most = length;
    }
    return (size_t)most;
}

/* look_shape(q, k, heads, rows, keywords) → (B, H', R, S) */
PyObject *look_shape(PyObject *module, PyObject *arguments) {
    static const argument inputs[] = {{"q", VIEW_FLOATS, VIEW_READ, false}, {"k", VIEW_FLOATS, VIEW_READ, false}};
    struct call c;
    (void)module;
    memset(&c, 0, sizeof c);
    bool done = views_take(c.views, inputs, 2, arguments, 3) &&
                take_choice(&c, PyTuple_GetItem(arguments, 2), PyTuple_GetItem(arguments, 3)) &&
                options_take(&c.options, PyTuple_GetItem(arguments, 4), &c.views[0].tensor, &c.views[1].tensor);
    const attn_tensor *q = &c.views[0].tensor, *k = &c.views[1].tensor;
    const attn_attention_options *o = &c.options.options;
    if (done && k->rank != q->rank) {
        PyErr_Format(PyExc_ValueError, "k has %d dimensions, expected %d", k->rank, q->rank);
        done = false;
    }
    PyObject *shape = NULL;
    if (done) {
        size_t rows = o->cu_q ? longest(o->cu_q, o->sequences) : q->shape[2];
        size_t keys = o->cu_k ? longest(o->cu_k, o->sequences) : k->shape[2];
        shape = Py_BuildValue("(nnnn)", (Py_ssize_t)(o->cu_q ? o->sequences : q->shape[0]),
                              (Py_ssize_t)(c.heads ? c.head_count : q->shape[o->cu_q ? 0 : 1]),
                              (Py_ssize_t)(c.rows ? c.row_count : rows), (Py_ssize_t)keys);
    }
    release(&c);
    return shape;
}

/* ---- scores ------------------------------------------------------------------------------------------ */

enum { SCORES, SCORES_Q, SCORES_K, SCORES_TENSORS };

struct scores_call {
    view views[SCORES_TENSORS];
    call_options options;
    int stage;
};

static attn_status run_scores(attn_context *ctx, void *arg) {
    const struct scores_call *c = arg;
    const view *v = c->views;
    return attn_attention_scores(ctx, view_tensor(v + SCORES), view_tensor(v + SCORES_Q), view_tensor(v + SCORES_K),
                                 (attn_score_stage)c->stage, &c->options.options);
}

/* attention_scores(scores, q, k, stage, keywords) */
PyObject *attention_scores(PyObject *module, PyObject *arguments) {
    static const argument tensors[SCORES_TENSORS] = {{"scores", VIEW_F32, VIEW_WRITE, false},
                                                     {"q", VIEW_FLOATS, VIEW_READ, false},
                                                     {"k", VIEW_FLOATS, VIEW_READ, false}};
    struct scores_call c;
    (void)module;
    memset(&c, 0, sizeof c);
    bool done = views_take(c.views, tensors, SCORES_TENSORS, arguments, 2);
    if (done) {
        long stage = PyLong_AsLong(PyTuple_GetItem(arguments, SCORES_TENSORS));
        if (stage < 0 || stage > ATTN_SCORES_PROBABILITIES) {
            if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "stage is %ld, expected 0 to 3", stage);
            done = false;
        }
        c.stage = (int)stage;
    }
    done = done &&
           options_take(&c.options, PyTuple_GetItem(arguments, SCORES_TENSORS + 1), &c.views[SCORES_Q].tensor,
                        &c.views[SCORES_K].tensor) &&
           context_call(run_scores, &c);
    views_release(c.views, SCORES_TENSORS);
    options_release(&c.options);
    return done ? Py_NewRef(Py_None) : NULL;
}
