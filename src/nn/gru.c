/* gru.c: gated recurrent units on the tape. */
#include "nn/tape.h"
#include "ops/gru.h"

#include <string.h>

static bool is_shape(const attn_tensor *t, int rank, size_t a, size_t b) {
    return t->rank == rank && t->shape[0] == a && (rank < 2 || t->shape[1] == b);
}

/* U is (3H, H); c, if there, (3H). */
static bool weights_fit(attn_tape *tape, const char *operation, const attn_parameter *u, const attn_parameter *c) {
    if (!u || u->value.rank != 2 || u->value.shape[0] != 3 * u->value.shape[1])
        return attn_tape_fail(tape, ATTN_E_SHAPE, "%s: u is not (3H, H)", operation), false;
    if (c && !is_shape(&c->value, 1, u->value.shape[0], 0))
        return attn_tape_fail(tape, ATTN_E_SHAPE, "%s: %s is not (3H) with H = %zu", operation, c->name,
                              u->value.shape[1]),
               false;
    return true;
}

/* ---- one step --------------------------------------------------------------------------------- */

typedef struct cell_node {
    attn_node node;
    attn_var *gx, *h;
    attn_parameter *u, *c;
    attn_gru_step step;
} cell_node;

attn_var *attn_tape_gru_cell(attn_tape *tape, attn_var *gx, attn_var *h, attn_parameter *u, attn_parameter *c,
                             bool reset_after) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "gru cell", "gx", gx) ||
        !attn_tape_use(tape, "gru cell", "h", h) || !weights_fit(tape, "gru cell", u, c))
        return NULL;
    size_t n = u->value.shape[1];
    attn_tensor rows = attn_rows_of(&h->value, h->value.data), gates = attn_rows_of(&gx->value, gx->value.data);
    size_t batch = rows.shape[0];
    if (!is_shape(&rows, 2, batch, n) || !is_shape(&gates, 2, batch, 3 * n))
        return attn_tape_fail(tape, ATTN_E_SHAPE, "gru cell: expected gx (…, %zu) and h (…, %zu)", 3 * n, n);
    attn_var *y = attn_tape_var(tape, h->value.rank, h->value.shape, true);
    if (!y) return NULL;
    attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    attn_gru_step step = {.batch = batch,
                          .hidden = n,
                          .reset_after = reset_after,
                          .gx = gx->value.data,
                          .c = c ? c->value.data : NULL,
                          .h = h->value.data,
                          .y = y->value.data};
    bool keep = y->needs_grad || !reset_after;
    if (!(step.gh = attn_tape_memory(tape, batch * 3, n * sizeof(float))) ||
        (keep && !(step.rzn = attn_tape_memory(tape, batch * 3, n * sizeof(float)))) ||
        (!reset_after && !(step.rh = attn_tape_memory(tape, batch, n * sizeof(float)))))
        return NULL;
    const attn_packed *form = attn_parameter_form(u, ATTN_FORM_FORWARD, tape->panels);
    if (!attn_tape_check(tape, form ? attn_gru_step_fwd(tape->ctx, &step, form) : ATTN_E_NOMEM)) return NULL;
    if (!y->needs_grad) return attn_arena_rewind(&tape->arena, mark), y;
    cell_node *node = attn_tape_push(tape, ATTN_OPERATION_gru_cell, y, sizeof *node);
    if (!node) return NULL;
    node->gx = gx, node->h = h;
    node->u = u, node->c = c;
    node->step = step;
    return y;
}

/* Gradients of rows that were multiplied at once: nothing waits for them. */
static void release_rows(attn_tape *tape, float *grad, size_t rows, size_t n) {
    if (grad && rows >= ATTN_MANY_ROWS) attn_grad_release(tape, grad, rows * n);
}

attn_status attn_backward_gru_cell(attn_tape *tape, attn_node *node) {
    const cell_node *own = (const cell_node *)node;
    const attn_gru_step *step = &own->step;
    const size_t batch = step->batch, n = step->hidden;
    attn_gru_step_grad grad = {.dy = node->out->grad.data};
    const attn_packed *form = attn_parameter_form(own->u, ATTN_FORM_BACKWARD, tape->panels);
    if (!form || !(grad.dgx = attn_grad_memory(tape, batch * 3 * n)) ||
        !(grad.dgh = attn_grad_memory(tape, batch * 3 * n)) || !(grad.dh = attn_grad_memory(tape, batch * n)) ||
        (!step->reset_after && !(grad.dgq = attn_grad_memory(tape, batch * 3 * n))))
        return ATTN_E_NOMEM;
    ATTN_TRY(attn_gru_step_bwd(tape->ctx, step, &grad, form));
    if (grad.dgq) ATTN_TRY(attn_tape_gather(tape, own->u, own->c, step->rh, grad.dgq, batch));
    ATTN_TRY(attn_tape_gather(tape, own->u, own->c, step->h, grad.dgh, batch));
    release_rows(tape, grad.dgq, batch, 3 * n);
    release_rows(tape, grad.dgh, batch, 3 * n);
    if (own->gx->needs_grad) ATTN_TRY(attn_grad_pass(tape, own->gx, grad.dgx));
    return own->h->needs_grad ? attn_grad_pass(tape, own->h, grad.dh) : ATTN_OK;
}

/* ---- a sequence ------------------------------------------------------------------------------- */

typedef struct gru_node {
    attn_node node;
    attn_var *x, *h0;
    attn_gru_weights weights;
    attn_gru_sequence sequence;
    float *gx; /* becomes its own gradient */
} gru_node;

static bool sequence_fits(attn_tape *tape, const attn_var *x, const attn_gru_weights *weights, const attn_var *h0,
                          const int32_t *lengths) {
    if (!weights) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "gru: the weights are NULL"), false;
    if (!weights_fit(tape, "gru", weights->u, weights->c)) return false;
    size_t n = weights->u->value.shape[1];
    const attn_parameter *w = weights->w, *b = weights->b;
    if (x->value.rank != 3 || !w || !is_shape(&w->value, 2, 3 * n, x->value.shape[2]))
        return attn_tape_fail(tape, ATTN_E_SHAPE, "gru: expected x (T, B, E) and w (%zu, E)", 3 * n), false;
    if (b && !is_shape(&b->value, 1, 3 * n, 0))
        return attn_tape_fail(tape, ATTN_E_SHAPE, "gru: %s is not (%zu)", b->name, 3 * n), false;
    size_t steps = x->value.shape[0], batch = x->value.shape[1];
    if (h0 && !is_shape(&h0->value, 2, batch, n))
        return attn_tape_fail(tape, ATTN_E_SHAPE, "gru: h0 is not (%zu, %zu)", batch, n), false;
    for (size_t i = 0; lengths && i < batch; i++)
        if (lengths[i] < 0 || (size_t)lengths[i] > steps)
            return attn_tape_fail(tape, ATTN_E_ARGUMENT, "gru: length %zu is %d, expected 0 … %zu", i, (int)lengths[i],
                                  steps),
                   false;
    return true;
}

/* (T, B) flags; *out stays NULL if all sequences are whole. */
static bool make_active(attn_tape *tape, const uint8_t **out, const int32_t *lengths, size_t steps, size_t batch) {
    bool whole = true;
    for (size_t b = 0; lengths && b < batch; b++) whole &= (size_t)lengths[b] == steps;
    if (whole) return true;
    uint8_t *active = attn_tape_memory(tape, steps, batch);
    if (!active) return false;
    for (size_t t = 0; t < steps; t++)
        for (size_t b = 0; b < batch; b++) active[t * batch + b] = t < (size_t)lengths[b];
    *out = active;
    return true;
}

attn_var *attn_tape_gru(attn_tape *tape, attn_var *x, const attn_gru_weights *weights, attn_var *h0,
                        const int32_t *lengths, bool reverse, bool reset_after) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "gru", "x", x) ||
        (h0 && !attn_tape_use(tape, "gru", "h0", h0)) || !sequence_fits(tape, x, weights, h0, lengths))
        return NULL;
    attn_context *ctx = tape->ctx;
    size_t steps = x->value.shape[0], batch = x->value.shape[1], n = weights->u->value.shape[1], state = batch * n;
    attn_gru_sequence sequence = {.steps = steps,
                                  .batch = batch,
                                  .hidden = n,
                                  .reverse = reverse,
                                  .reset_after = reset_after,
                                  .keep = tape->record,
                                  .c = weights->c ? weights->c->value.data : NULL};
    sequence.states = attn_tape_memory(tape, steps + 1, state * sizeof(float));
    if (!sequence.states) return NULL;
    attn_tensor value = attn_tensor_f32(sequence.states + (reverse ? 0 : state), 3, steps, batch, n);
    attn_var *y = attn_tape_var_of(tape, &value, true);
    if (!y) return NULL;
    float *start = sequence.states + (reverse ? steps * state : 0);
    if (h0) attn_copy_floats(ctx, start, h0->value.data, state);
    else attn_fill_zero(ctx, start, state);

    attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    size_t kept = tape->record ? steps * batch : batch;
    float *gx = attn_tape_memory(tape, steps * batch, 3 * n * sizeof *gx);
    if (!gx || !make_active(tape, &sequence.active, lengths, steps, batch) ||
        !(sequence.gh = attn_tape_memory(tape, kept, 3 * n * sizeof(float))) ||
        ((tape->record || !reset_after) && !(sequence.rzn = attn_tape_memory(tape, kept, 3 * n * sizeof(float)))) ||
        (!reset_after && !(sequence.rh = attn_tape_memory(tape, kept, n * sizeof(float)))))
        return NULL;
    const attn_packed *w = attn_parameter_form(weights->w, ATTN_FORM_FORWARD, tape->panels);
    const attn_packed *u = attn_parameter_form(weights->u, ATTN_FORM_FORWARD, tape->panels);
    if (!w || !u) return attn_tape_check(tape, ATTN_E_NOMEM), NULL;
    attn_gemm gemm = {.m = steps * batch,
                      .a = x->value.data,
                      .a_row = (ptrdiff_t)w->k,
                      .a_column = 1,
                      .b = w,
                      .c = gx,
                      .c_row = (ptrdiff_t)w->n,
                      .bias = weights->b ? weights->b->value.data : NULL};
    sequence.gx = gx;
    if (!attn_tape_check(tape, attn_gemm_run(ctx, &gemm)) ||
        !attn_tape_check(tape, attn_gru_sequence_fwd(ctx, &sequence, u)))
        return NULL;
    if (!y->needs_grad) return attn_arena_rewind(&tape->arena, mark), y;
    gru_node *node = attn_tape_push(tape, ATTN_OPERATION_gru, y, sizeof *node);
    if (!node) return NULL;
    node->x = x, node->h0 = h0;
    node->weights = *weights;
    node->sequence = sequence;
    node->gx = gx;
    return y;
}

/* x with zeros past the lengths, so that no NaN there reaches the weights' gradients as 0 · NaN. */
static const float *visible_input(attn_tape *tape, const attn_var *x, const uint8_t *active) {
    if (!active) return x->value.data;
    size_t rows = x->value.shape[0] * x->value.shape[1], width = x->value.shape[2];
    float *copy = attn_tape_memory(tape, rows, width * sizeof *copy);
    if (!copy) return NULL;
    attn_copy_floats(tape->ctx, copy, x->value.data, rows * width);
    for (size_t r = 0; r < rows; r++)
        if (!active[r]) memset(copy + r * width, 0, width * sizeof *copy);
    return copy;
}

attn_status attn_backward_gru(attn_tape *tape, attn_node *node) {
    const gru_node *own = (const gru_node *)node;
    const attn_gru_sequence *sequence = &own->sequence;
    const attn_gru_weights *weights = &own->weights;
    attn_context *ctx = tape->ctx;
    size_t rows = sequence->steps * sequence->batch, n = sequence->hidden;
    float *dgx = own->gx, *dgq = NULL;
    float *dgh = attn_grad_memory(tape, rows * 3 * n), *dh = attn_grad_memory(tape, sequence->batch * n);
    const float *x = visible_input(tape, own->x, sequence->active);
    const attn_packed *u = attn_parameter_form(weights->u, ATTN_FORM_BACKWARD, tape->panels);
    if (!dgh || !dh || !x || !u || (!sequence->reset_after && !(dgq = attn_grad_memory(tape, rows * 3 * n))))
        return ATTN_E_NOMEM;
    ATTN_TRY(attn_gru_sequence_bwd(ctx, sequence, dgx, dgh, dgq, dh, node->out->grad.data, u));
    if (own->h0 && own->h0->needs_grad) ATTN_TRY(attn_grad_pass(tape, own->h0, dh));
    if (own->x->needs_grad) {
        bool accumulate;
        const attn_packed *w = attn_parameter_form(weights->w, ATTN_FORM_BACKWARD, tape->panels);
        float *dx = w ? attn_grad_begin(tape, own->x, &accumulate) : NULL;
        if (!dx) return ATTN_E_NOMEM;
        attn_gemm gemm = {.m = rows,
                          .a = dgx,
                          .a_row = (ptrdiff_t)w->k,
                          .a_column = 1,
                          .b = w,
                          .c = dx,
                          .c_row = (ptrdiff_t)w->n,
                          .accumulate = accumulate};
        ATTN_TRY(attn_gemm_run(ctx, &gemm));
    }
    /* The states before each step follow one another in memory, whichever way time runs. */
    const float *before = sequence->states + (sequence->reverse ? sequence->batch * n : 0);
    if (dgq) ATTN_TRY(attn_tape_gather(tape, weights->u, weights->c, sequence->rh, dgq, rows));
    ATTN_TRY(attn_tape_gather(tape, weights->u, weights->c, before, dgh, rows));
    ATTN_TRY(attn_tape_gather(tape, weights->w, weights->b, x, dgx, rows));
    release_rows(tape, dgq, rows, 3 * n);
    release_rows(tape, dgh, rows, 3 * n);
    release_rows(tape, dgx, rows, 3 * n);
    return ATTN_OK;
}
