/* rotary.c: what the Llama family adds to a transformer's block: rotary positions, gated activations. */
#include "nn/tape.h"

typedef struct rotary_node {
    attn_node node;
    attn_var *x;
    size_t heads;
    attn_rotary table;
    const int64_t *positions;
} rotary_node;

/* ---- rotary positions (Su et al. 2021) ----------------------------------------------------------------- */

/* (…, H·D) as (1, H, rows, D). */
static attn_tensor heads_of(const attn_tensor *t, void *data, size_t heads) {
    attn_tensor rows = attn_rows_of(t, data);
    const size_t columns = rows.shape[1], size = columns / heads;
    return (attn_tensor){
        data, ATTN_F32, 4, {1, heads, rows.shape[0], size}, {0, (ptrdiff_t)size, (ptrdiff_t)columns, 1}};
}

attn_var *attn_tape_rotary(attn_tape *tape, attn_var *x, size_t heads, const attn_rotary *table,
                           const int64_t *positions) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "rotary", "x", x)) return NULL;
    const attn_tensor rows = attn_rows_of(&x->value, x->value.data);
    if (heads == 0 || rows.shape[1] % heads)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "rotary: x has %zu columns, expected a multiple of its %zu heads",
                              rows.shape[1], heads);
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, x->needs_grad);
    int64_t *kept = y ? attn_tape_copy(tape, positions, rows.shape[0], sizeof *kept) : NULL;
    if (!kept) return NULL;
    attn_tensor from = heads_of(&x->value, x->value.data, heads), to = heads_of(&y->value, y->value.data, heads);
    if (!attn_tape_check(tape, attn_rotary_embedding(tape->ctx, &to, &from, &table->cos, &table->sin, kept,
                                                     table->rotary_dim, table->interleaved, false)))
        return NULL;
    if (!y->needs_grad) return y;
    rotary_node *node = attn_tape_push(tape, ATTN_OPERATION_rotary, y, sizeof *node);
    if (!node) return NULL;
    node->x = x, node->heads = heads, node->table = *table, node->positions = kept;
    return y;
}

/* The inverse of a rotation is its transpose. */
attn_status attn_backward_rotary(attn_tape *tape, attn_node *node) {
    const rotary_node *own = (const rotary_node *)node;
    const attn_tensor *grad = &node->out->grad;
    attn_tensor dy = heads_of(grad, grad->data, own->heads);
    ATTN_TRY(attn_rotary_embedding(tape->ctx, &dy, &dy, &own->table.cos, &own->table.sin, own->positions,
                                   own->table.rotary_dim, own->table.interleaved, true));
    return attn_grad_pass(tape, own->x, grad->data);
}

/* ---- gates (Dauphin et al. 2017; Shazeer 2020) ---------------------------------------------------------- */

typedef struct gate_node {
    attn_node node;
    attn_var *gate, *x;
    attn_activation act;
    float *open; /* act(gate) */
} gate_node;

enum { PRODUCTS_PER_TASK = 1 << 15 };

typedef struct product_job {
    float *y;
    const float *a, *b;
    size_t n;
} product_job;

static void product_task(void *arg, size_t index) {
    const product_job *job = arg;
    size_t first = index * PRODUCTS_PER_TASK, end = ATTN_MIN(first + PRODUCTS_PER_TASK, job->n);
    for (size_t i = first; i < end; i++) job->y[i] = job->a[i] * job->b[i];
}

/* y = a ∘ b; y may be a or b. */
static void multiply(attn_context *ctx, float *y, const float *a, const float *b, size_t n) {
    product_job job = {y, a, b, n};
    attn_parallel_for(ctx, (n + PRODUCTS_PER_TASK - 1) / PRODUCTS_PER_TASK, product_task, &job);
}

attn_var *attn_tape_gate(attn_tape *tape, attn_var *gate, attn_var *x, attn_activation act) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "gate", "the gate", gate) ||
        !attn_tape_use(tape, "gate", "x", x))
        return NULL;
    const size_t n = attn_tensor_count(&x->value);
    bool same = gate->value.rank == x->value.rank;
    for (int i = 0; same && i < x->value.rank; i++) same = gate->value.shape[i] == x->value.shape[i];
    if (!same) return attn_tape_fail(tape, ATTN_E_SHAPE, "gate: the gate and x have different shapes");
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, gate->needs_grad || x->needs_grad);
    if (!y) return NULL;
    float *open = y->needs_grad ? attn_tape_memory(tape, n, sizeof *open) : y->value.data;
    if (!open) return NULL;
    attn_tensor activated = x->value;
    activated.data = open;
    if (!attn_tape_check(tape, attn_activation_fwd(tape->ctx, &activated, &gate->value, act))) return NULL;
    multiply(tape->ctx, y->value.data, open, x->value.data, n);
    if (!y->needs_grad) return y;
    gate_node *node = attn_tape_push(tape, ATTN_OPERATION_gate, y, sizeof *node);
    if (!node) return NULL;
    node->gate = gate, node->x = x, node->act = act, node->open = open;
    return y;
}

attn_status attn_backward_gate(attn_tape *tape, attn_node *node) {
    const gate_node *own = (const gate_node *)node;
    const attn_tensor *dy = &node->out->grad;
    const size_t n = attn_tensor_count(dy);
    if (own->x->needs_grad) {
        float *dx = attn_grad_memory(tape, n);
        if (!dx) return ATTN_E_NOMEM;
        multiply(tape->ctx, dx, dy->data, own->open, n);
        ATTN_TRY(attn_grad_pass(tape, own->x, dx));
    }
    if (!own->gate->needs_grad) return ATTN_OK;
    multiply(tape->ctx, dy->data, dy->data, own->x->value.data, n);
    attn_tensor open = *dy;
    open.data = own->open;
    ATTN_TRY(attn_activation_bwd(tape->ctx, dy, dy, &own->gate->value, &open, own->act, false));
    return attn_grad_pass(tape, own->gate, dy->data);
}
