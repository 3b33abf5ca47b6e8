/* linear.c: products with a weight matrix, and the lookup of its rows. */
#include "nn/tape.h"

/* GELU and SiLU are not monotone: their derivative needs x, the others' is a function of y. */
static bool needs_input(attn_activation act) { return act == ATTN_GELU || act == ATTN_GELU_TANH || act == ATTN_SILU; }

typedef struct linear_node {
    attn_node node;
    attn_var *x, *residual;
    attn_parameter *w, *b;
    attn_activation act;
    float *before; /* the activation's input, where its derivative needs it */
} linear_node;

static bool linear_fits(attn_tape *tape, const attn_var *x, const attn_parameter *w, const attn_parameter *b,
                        const attn_var *residual) {
    if (!w || w->value.rank != 2)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "linear: w is not a matrix, expected (N, K)"), false;
    size_t n = w->value.shape[0], k = w->value.shape[1];
    attn_tensor rows = attn_rows_of(&x->value, NULL);
    if (x->value.rank < 1 || rows.shape[1] != k)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "linear: x has %zu columns, %s (%zu, %zu) expects %zu", rows.shape[1],
                              w->name, n, k, k),
               false;
    if (b && (b->value.rank != 1 || b->value.shape[0] != n))
        return attn_tape_fail(tape, ATTN_E_SHAPE, "linear: bias %s has %zu elements of rank %d, expected (%zu)",
                              b->name, attn_tensor_count(&b->value), b->value.rank, n),
               false;
    if (!residual) return true;
    attn_tensor more = attn_rows_of(&residual->value, NULL);
    if (more.shape[0] != rows.shape[0] || more.shape[1] != n)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "linear: residual is (%zu, %zu), expected (%zu, %zu)", more.shape[0],
                              more.shape[1], rows.shape[0], n),
               false;
    return true;
}

/* Weights that are kept as integers; of one form, or one alone. */
static bool linear_quantised(attn_tape *tape, attn_var **y, const attn_var *x, const attn_linear_weights *l, size_t n,
                             const attn_var *residual, attn_activation act) {
    attn_quantised_gemm gemms[ATTN_MANY_LINEARS];
    if (tape->record) return attn_tape_check(tape, attn_parameter_needs_floats(l->w, "linear on a tape that records"));
    const attn_tensor rows = attn_rows_of(&x->value, x->value.data);
    for (size_t i = 0; i < n; i++) {
        const size_t columns = l[i].w->value.shape[0];
        y[i] = attn_tape_var_like(tape, &x->value, columns, false);
        if (!y[i]) return false;
        y[i]->disposable = act == ATTN_IDENTITY;
        gemms[i] = (attn_quantised_gemm){.w = l[i].w->quantised,
                                         .m = rows.shape[0],
                                         .x = rows.data,
                                         .x_row = (ptrdiff_t)rows.shape[1],
                                         .y = y[i]->value.data,
                                         .y_row = (ptrdiff_t)columns,
                                         .bias = l[i].b ? l[i].b->value.data : NULL,
                                         .residual = residual ? residual->value.data : NULL,
                                         .residual_row = (ptrdiff_t)columns,
                                         .act = act};
    }
    return attn_tape_check(tape, attn_quantised_run(tape->ctx, gemms, n));
}

/* The product with w: of a tape that records packed in passing where there are many rows. */
static attn_status multiply(attn_tape *tape, attn_gemm *gemm, attn_parameter *w, attn_form form) {
    if (tape->record) return attn_parameter_multiply_once(gemm, w, form, tape->panels, &tape->weights);
    gemm->b = attn_parameter_form(w, form, tape->panels);
    return gemm->b ? attn_gemm_run(tape->ctx, gemm) : ATTN_E_NOMEM;
}

attn_var *attn_tape_linear(attn_tape *tape, attn_var *x, attn_parameter *w, attn_parameter *b, attn_var *residual,
                           attn_activation act) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "linear", "x", x) ||
        (residual && !attn_tape_use(tape, "linear", "residual", residual)) || !linear_fits(tape, x, w, b, residual))
        return NULL;
    attn_var *y = NULL;
    if (w->quantised) return linear_quantised(tape, &y, x, &(attn_linear_weights){w, b}, 1, residual, act) ? y : NULL;
    attn_context *ctx = tape->ctx;
    size_t n = w->value.shape[0];
    attn_tensor rows = attn_rows_of(&x->value, x->value.data);
    const bool learns = !w->frozen || (b && !b->frozen);
    y = attn_tape_var_like(tape, &x->value, n, learns || x->needs_grad || (residual && residual->needs_grad));
    if (!y) return NULL;
    /* Recorded or not, the same kernels run, so that both give the same bits. */
    bool apart = needs_input(act);
    float *before = y->value.data;
    if (apart && y->needs_grad && !(before = attn_tape_memory(tape, attn_tensor_count(&y->value), sizeof *before)))
        return NULL;
    attn_gemm gemm = {.m = rows.shape[0],
                      .a = rows.data,
                      .a_row = (ptrdiff_t)rows.shape[1],
                      .a_column = 1,
                      .c = before,
                      .c_row = (ptrdiff_t)n,
                      .bias = b ? b->value.data : NULL,
                      .residual = residual ? residual->value.data : NULL,
                      .residual_row = (ptrdiff_t)n,
                      .act = apart ? ATTN_IDENTITY : act};
    if (!attn_tape_check(tape, multiply(tape, &gemm, w, ATTN_FORM_FORWARD))) return NULL;
    if (apart) {
        attn_tensor input = attn_rows_of(&y->value, before);
        attn_tensor output = attn_rows_of(&y->value, y->value.data);
        if (!attn_tape_check(tape, attn_activation_fwd(ctx, &output, &input, act))) return NULL;
    }
    y->disposable = act == ATTN_IDENTITY;
    if (!y->needs_grad) return y;
    linear_node *node = attn_tape_push(tape, ATTN_OPERATION_linear, y, sizeof *node);
    if (!node) return NULL;
    node->x = x, node->residual = residual;
    node->w = w, node->b = b;
    node->act = act;
    node->before = apart ? before : NULL;
    return y;
}

bool attn_tape_linears(attn_tape *tape, attn_var **y, attn_var *x, const attn_linear_weights *l, size_t n) {
    bool together = n <= ATTN_MANY_LINEARS;
    for (size_t i = 0; i < n; i++) {
        const attn_quantised *first = l[0].w->quantised, *own = l[i].w->quantised;
        together = together && first && own && attn_quantised_alike(first, own);
        y[i] = NULL;
    }
    for (size_t i = 0; together && i < n; i++) {
        together = attn_tape_begin(tape) && attn_tape_use(tape, "linear", "x", x) &&
                   linear_fits(tape, x, l[i].w, l[i].b, NULL);
        if (!together) return false;
    }
    if (together) return linear_quantised(tape, y, x, l, n, NULL, ATTN_IDENTITY);
    for (size_t i = 0; i < n; i++) y[i] = attn_tape_linear(tape, x, l[i].w, l[i].b, NULL, ATTN_IDENTITY);
    return y[n - 1] != NULL;
}

attn_status attn_backward_linear(attn_tape *tape, attn_node *node) {
    const linear_node *own = (const linear_node *)node;
    attn_context *ctx = tape->ctx;
    attn_var *x = own->x, *y = node->out;
    attn_tensor dy = attn_rows_of(&y->grad, y->grad.data);
    if (own->act != ATTN_IDENTITY) {
        attn_tensor output = attn_rows_of(&y->value, y->value.data), input = attn_rows_of(&y->value, own->before);
        ATTN_TRY(attn_activation_bwd(ctx, &dy, &dy, own->before ? &input : NULL, &output, own->act, false));
    }
    if (x->needs_grad) {
        bool accumulate;
        float *dx = attn_grad_begin(tape, x, &accumulate);
        if (!dx) return ATTN_E_NOMEM;
        attn_gemm gemm = {.m = dy.shape[0],
                          .a = dy.data,
                          .a_row = (ptrdiff_t)dy.shape[1],
                          .a_column = 1,
                          .c = dx,
                          .c_row = (ptrdiff_t)own->w->value.shape[1],
                          .accumulate = accumulate};
        ATTN_TRY(multiply(tape, &gemm, own->w, ATTN_FORM_BACKWARD));
    }
    if (!own->w->frozen || (own->b && !own->b->frozen))
        ATTN_TRY(attn_tape_gather(tape, own->w, own->b, x->value.data, dy.data, dy.shape[0]));
    if (!own->residual || !own->residual->needs_grad) return ATTN_OK;
    return tape->handed ? attn_grad_add(tape, own->residual, dy.data) : attn_grad_pass(tape, own->residual, dy.data);
}

/* ---- embedding ------------------------------------------------------------------------------ */

typedef struct embedding_node {
    attn_node node;
    attn_parameter *table;
    const int32_t *ids;
    size_t n;
} embedding_node;

/* Rows of a table that is kept as integers: these alone become floats. */
static bool embed_quantised(attn_tape *tape, float *y, const attn_parameter *table, const int32_t *ids, size_t n) {
    const size_t rows = table->value.shape[0], width = table->value.shape[1];
    if (tape->record)
        return attn_tape_check(tape, attn_parameter_needs_floats(table, "embedding on a tape that records"));
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || (size_t)ids[i] >= rows)
            return attn_tape_fail(tape, ATTN_E_ARGUMENT, "embedding: ids[%zu] is %d, expected 0 … %zu", i, (int)ids[i],
                                  rows - 1),
                   false;
        attn_quantised_row(y + i * width, table->quantised, (size_t)ids[i]);
    }
    return true;
}

attn_var *attn_tape_embedding(attn_tape *tape, attn_parameter *table, const int32_t *ids, int rank,
                              const size_t *shape) {
    if (!attn_tape_begin(tape)) return NULL;
    if (!table || table->value.rank != 2)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "embedding: the table is not a matrix, expected (V, E)");
    if (rank < 0 || rank > 3)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "embedding: ids of rank %d, expected at most 3", rank);
    size_t full[ATTN_MAX_RANK], n = 1, width = table->value.shape[1];
    for (int i = 0; i < rank; i++) {
        full[i] = shape[i];
        if (!attn_size_mul(&n, n, shape[i])) return attn_tape_fail(tape, ATTN_E_NOMEM, "embedding: too many ids");
    }
    full[rank] = width;
    attn_var *y = attn_tape_var(tape, rank + 1, full, !table->frozen);
    int32_t *kept = y ? attn_tape_copy(tape, ids, n, sizeof *ids) : NULL;
    if (!kept) return NULL;
    attn_tensor rows = attn_tensor_f32(y->value.data, 2, n, width);
    if (table->quantised ? !embed_quantised(tape, y->value.data, table, kept, n)
                         : !attn_tape_check(tape, attn_embedding_fwd(tape->ctx, &rows, &table->value, kept, n)))
        return NULL;
    if (!y->needs_grad) return y;
    embedding_node *node = attn_tape_push(tape, ATTN_OPERATION_embedding, y, sizeof *node);
    if (!node) return NULL;
    node->table = table;
    node->ids = kept;
    node->n = n;
    return y;
}

attn_status attn_backward_embedding(attn_tape *tape, attn_node *node) {
    const embedding_node *own = (const embedding_node *)node;
    if (!attn_parameter_grad(own->table)) return ATTN_E_NOMEM;
    attn_tensor dy = attn_tensor_f32(node->out->grad.data, 2, own->n, own->table->value.shape[1]);
    return attn_embedding_bwd(tape->ctx, &own->table->grad, &dy, own->ids, own->n);
}
