/* arrange.c: operations that move elements and compute nothing. */
#include "nn/tape.h"

#include <string.h>

typedef struct arrange_node {
    attn_node node;
    attn_var **parts; /* concat, stack */
    attn_var *x;      /* the others */
    size_t n, first;
    const int32_t *lengths; /* last */
    const int32_t *index;   /* (n) select */
    int dim;
} arrange_node;

/* Checks that the parts agree up to the last `free` dimensions, and that there are any. */
static bool parts_fit(attn_tape *tape, const char *operation, attn_var *const *parts, size_t n, int free,
                      bool *needs_grad) {
    *needs_grad = false;
    if (n == 0) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "%s: no parts, expected at least one", operation), false;
    for (size_t i = 0; i < n; i++) {
        if (!attn_tape_use(tape, operation, "a part", parts[i])) return false;
        const attn_tensor *a = &parts[0]->value, *b = &parts[i]->value;
        bool fits = a->rank == b->rank && b->rank >= free;
        for (int d = 0; fits && d + free < a->rank; d++) fits = a->shape[d] == b->shape[d];
        if (!fits)
            return attn_tape_fail(tape, ATTN_E_SHAPE, "%s: part %zu does not fit to part 0 in its dimensions",
                                  operation, i),
                   false;
        *needs_grad |= parts[i]->needs_grad;
    }
    return true;
}

static attn_var *push_parts(attn_tape *tape, attn_operation operation, attn_var *y, attn_var *const *parts, size_t n) {
    if (!y->needs_grad) return y;
    arrange_node *node = attn_tape_push(tape, operation, y, sizeof *node);
    attn_var **kept = node ? attn_tape_copy(tape, parts, n, sizeof(attn_var *)) : NULL;
    if (!kept) return NULL;
    node->parts = kept;
    node->n = n;
    return y;
}

static arrange_node *push_one(attn_tape *tape, attn_operation operation, attn_var *y, attn_var *x, size_t first) {
    arrange_node *node = attn_tape_push(tape, operation, y, sizeof *node);
    if (node) node->x = x, node->first = first;
    return node;
}

static size_t last_dimension(const attn_var *var) { return var->value.shape[var->value.rank - 1]; }

/* ---- concat and stack ------------------------------------------------------------------------ */

attn_var *attn_tape_concat(attn_tape *tape, attn_var *const *parts, size_t n) {
    bool needs_grad;
    if (!attn_tape_begin(tape) || !parts_fit(tape, "concat", parts, n, 1, &needs_grad)) return NULL;
    size_t width = 0;
    for (size_t i = 0; i < n; i++)
        if (!attn_size_add(&width, width, last_dimension(parts[i])))
            return attn_tape_fail(tape, ATTN_E_NOMEM, "concat: too many columns");
    attn_var *y = attn_tape_var_like(tape, &parts[0]->value, width, needs_grad);
    if (!y) return NULL;
    size_t rows = attn_rows_of(&y->value, NULL).shape[0], column = 0;
    for (size_t i = 0; i < n; i++) {
        size_t own = last_dimension(parts[i]);
        attn_copy_rows(tape->ctx, (float *)y->value.data + column, width, parts[i]->value.data, own, rows, own, false);
        column += own;
    }
    return push_parts(tape, ATTN_OPERATION_concat, y, parts, n);
}

attn_status attn_backward_concat(attn_tape *tape, attn_node *node) {
    const arrange_node *own = (const arrange_node *)node;
    size_t width = last_dimension(node->out), rows = attn_rows_of(&node->out->value, NULL).shape[0];
    const float *dy = node->out->grad.data;
    for (size_t i = 0; i < own->n; dy += last_dimension(own->parts[i]), i++) {
        attn_var *part = own->parts[i];
        if (!part->needs_grad) continue;
        bool accumulate;
        float *dx = attn_grad_begin(tape, part, &accumulate);
        if (!dx) return ATTN_E_NOMEM;
        size_t n = last_dimension(part);
        attn_copy_rows(tape->ctx, dx, n, dy, width, rows, n, accumulate);
    }
    return ATTN_OK;
}

attn_var *attn_tape_stack(attn_tape *tape, attn_var *const *parts, size_t n) {
    bool needs_grad;
    if (!attn_tape_begin(tape) || !parts_fit(tape, "stack", parts, n, 0, &needs_grad)) return NULL;
    const attn_tensor *one = &parts[0]->value;
    if (one->rank >= ATTN_MAX_RANK)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "stack: parts of rank %d, expected less than %d", one->rank,
                              ATTN_MAX_RANK);
    size_t shape[ATTN_MAX_RANK], each = attn_tensor_count(one);
    shape[0] = n;
    memcpy(shape + 1, one->shape, (size_t)one->rank * sizeof *shape);
    attn_var *y = attn_tape_var(tape, one->rank + 1, shape, needs_grad);
    if (!y) return NULL;
    for (size_t i = 0; i < n; i++)
        attn_copy_floats(tape->ctx, (float *)y->value.data + i * each, parts[i]->value.data, each);
    return push_parts(tape, ATTN_OPERATION_stack, y, parts, n);
}

/* A part's gradient is its place in the stack's: handed over, not copied. */
attn_status attn_backward_stack(attn_tape *tape, attn_node *node) {
    const arrange_node *own = (const arrange_node *)node;
    size_t each = attn_tensor_count(&own->parts[0]->value);
    for (size_t i = 0; i < own->n; i++)
        if (own->parts[i]->needs_grad)
            ATTN_TRY(attn_grad_pass(tape, own->parts[i], (float *)node->out->grad.data + i * each));
    return ATTN_OK;
}

/* ---- parts ------------------------------------------------------------------------------------ */

attn_var *attn_tape_row(attn_tape *tape, attn_var *x, size_t index) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "row", "x", x)) return NULL;
    if (x->value.rank < 1 || index >= x->value.shape[0])
        return attn_tape_fail(tape, ATTN_E_SHAPE, "row: index %zu, expected less than %zu", index,
                              x->value.rank ? x->value.shape[0] : 0);
    size_t each = attn_tensor_count(&x->value) / x->value.shape[0];
    attn_var *y = attn_tape_memory(tape, 1, sizeof *y);
    if (!y) return NULL;
    *y = (attn_var){.tape = tape, .parent = x, .offset = index * each, .needs_grad = x->needs_grad};
    y->value = attn_tensor_of((float *)x->value.data + y->offset, ATTN_F32, x->value.rank - 1, x->value.shape + 1);
    y->grad = y->value;
    y->grad.data = NULL;
    return !y->needs_grad || push_one(tape, ATTN_OPERATION_row, y, x, index) ? y : NULL;
}

/* A row's gradient is part of its parent's from the first write on. */
attn_status attn_backward_row(attn_tape *tape, attn_node *node) {
    (void)tape, (void)node;
    return ATTN_OK;
}

attn_var *attn_tape_reshape(attn_tape *tape, attn_var *x, int rank, const size_t *shape) {
    attn_tensor value;
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "reshape", "x", x)) return NULL;
    if (!attn_tape_check(tape, attn_tensor_reshape(tape->ctx, &value, &x->value, rank, shape))) return NULL;
    attn_var *y = attn_tape_var_of(tape, &value, x->needs_grad);
    if (!y) return NULL;
    y->parent = x;
    return !y->needs_grad || push_one(tape, ATTN_OPERATION_reshape, y, x, 0) ? y : NULL;
}

/* As a row's. */
attn_status attn_backward_reshape(attn_tape *tape, attn_node *node) {
    (void)tape, (void)node;
    return ATTN_OK;
}

attn_var *attn_tape_slice(attn_tape *tape, attn_var *x, size_t first, size_t count) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "slice", "x", x)) return NULL;
    size_t width = x->value.rank ? last_dimension(x) : 0;
    if (first > width || count > width - first)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "slice: columns %zu … +%zu of %zu", first, count, width);
    attn_var *y = attn_tape_var_like(tape, &x->value, count, x->needs_grad);
    if (!y) return NULL;
    attn_copy_rows(tape->ctx, y->value.data, count, (const float *)x->value.data + first, width,
                   attn_rows_of(&x->value, NULL).shape[0], count, false);
    return !y->needs_grad || push_one(tape, ATTN_OPERATION_slice, y, x, first) ? y : NULL;
}

attn_status attn_backward_slice(attn_tape *tape, attn_node *node) {
    const arrange_node *own = (const arrange_node *)node;
    float *dx = attn_grad_zeroed(tape, own->x);
    if (!dx) return ATTN_E_NOMEM;
    size_t count = last_dimension(node->out), rows = attn_rows_of(&own->x->value, NULL).shape[0];
    attn_copy_rows(tape->ctx, dx + own->first, last_dimension(own->x), node->out->grad.data, count, rows, count, true);
    return ATTN_OK;
}

/* Elements before and behind a dimension. */
static void around(const attn_tensor *x, int dim, size_t *outer, size_t *inner) {
    *outer = *inner = 1;
    for (int i = 0; i < dim; i++) *outer *= x->shape[i];
    for (int i = dim + 1; i < x->rank; i++) *inner *= x->shape[i];
}

attn_var *attn_tape_select(attn_tape *tape, attn_var *x, int dim, const int32_t *index, size_t n) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "select", "x", x)) return NULL;
    if (dim < 0 || dim >= x->value.rank)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "select: dimension %d of %d", dim, x->value.rank);
    size_t shape[ATTN_MAX_RANK], outer, inner, size = x->value.shape[dim];
    memcpy(shape, x->value.shape, sizeof shape);
    around(&x->value, dim, &outer, &inner);
    shape[dim] = n;
    for (size_t i = 0; i < n; i++)
        if (index[i] < 0 || (size_t)index[i] >= size)
            return attn_tape_fail(tape, ATTN_E_ARGUMENT, "select: index %zu is %d, expected 0 … %zu", i, (int)index[i],
                                  size - 1);
    attn_var *y = attn_tape_var(tape, x->value.rank, shape, x->needs_grad);
    if (!y) return NULL;
    /* The i-th selected piece of every outer block, all at the same distances. */
    for (size_t i = 0; i < n; i++)
        attn_copy_rows(tape->ctx, (float *)y->value.data + i * inner, n * inner,
                       (const float *)x->value.data + (size_t)index[i] * inner, size * inner, outer, inner, false);
    if (!y->needs_grad) return y;
    const int32_t *kept = attn_tape_copy(tape, index, n, sizeof *kept);
    arrange_node *node = kept ? push_one(tape, ATTN_OPERATION_select, y, x, 0) : NULL;
    if (!node) return NULL;
    node->index = kept, node->n = n, node->dim = dim;
    return y;
}

/* A piece that was selected twice gets both gradients, one after the other. */
attn_status attn_backward_select(attn_tape *tape, attn_node *node) {
    const arrange_node *own = (const arrange_node *)node;
    float *dx = attn_grad_zeroed(tape, own->x);
    if (!dx) return ATTN_E_NOMEM;
    size_t outer, inner, size = own->x->value.shape[own->dim];
    around(&own->x->value, own->dim, &outer, &inner);
    for (size_t i = 0; i < own->n; i++)
        attn_copy_rows(tape->ctx, dx + (size_t)own->index[i] * inner, size * inner,
                       (const float *)node->out->grad.data + i * inner, own->n * inner, outer, inner, true);
    return ATTN_OK;
}

attn_var *attn_tape_last(attn_tape *tape, attn_var *x, const int32_t *lengths) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "last", "x", x)) return NULL;
    if (x->value.rank != 3)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "last: x has rank %d, expected (T, B, C)", x->value.rank);
    size_t steps = x->value.shape[0], batch = x->value.shape[1], width = x->value.shape[2];
    for (size_t b = 0; b < batch; b++)
        if (lengths[b] < 0 || (size_t)lengths[b] > steps)
            return attn_tape_fail(tape, ATTN_E_ARGUMENT, "last: length %zu is %d, expected 0 … %zu", b, (int)lengths[b],
                                  steps);
    attn_var *y = attn_tape_var(tape, 2, x->value.shape + 1, x->needs_grad);
    int32_t *kept = y ? attn_tape_copy(tape, lengths, batch, sizeof *kept) : NULL;
    if (!kept) return NULL;
    for (size_t b = 0; b < batch; b++) {
        float *out = (float *)y->value.data + b * width;
        if (kept[b] == 0) memset(out, 0, width * sizeof *out);
        else
            memcpy(out, (const float *)x->value.data + ((size_t)(kept[b] - 1) * batch + b) * width,
                   width * sizeof *out);
    }
    if (!y->needs_grad) return y;
    arrange_node *node = push_one(tape, ATTN_OPERATION_last, y, x, 0);
    if (!node) return NULL;
    node->lengths = kept;
    return y;
}

attn_status attn_backward_last(attn_tape *tape, attn_node *node) {
    const arrange_node *own = (const arrange_node *)node;
    size_t batch = node->out->value.shape[0], width = node->out->value.shape[1];
    float *dx = attn_grad_zeroed(tape, own->x);
    if (!dx) return ATTN_E_NOMEM;
    for (size_t b = 0; b < batch; b++) {
        if (own->lengths[b] == 0) continue;
        float *sum = dx + ((size_t)(own->lengths[b] - 1) * batch + b) * width;
        const float *dy = (const float *)node->out->grad.data + b * width;
        for (size_t i = 0; i < width; i++) sum[i] += dy[i];
    }
    return ATTN_OK;
}
