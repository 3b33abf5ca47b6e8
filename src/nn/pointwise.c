/* pointwise.c: operations on elements and on pairs of neighbours. */
#include "nn/tape.h"

typedef struct pointwise_node {
    attn_node node;
    attn_var *a, *b;
    attn_activation act;
    float p; /* dropout's probability, or the factor */
    uint64_t seed, offset;
} pointwise_node;

static pointwise_node *push(attn_tape *tape, attn_operation operation, attn_var *out, attn_var *a, attn_var *b) {
    pointwise_node *node = attn_tape_push(tape, operation, out, sizeof *node);
    if (node) node->a = a, node->b = b;
    return node;
}

/* ---- dropout -------------------------------------------------------------------------------- */

/* The finaliser of SplitMix64 (Steele, Lea & Flood 2014): makes one key of seed and step. */
static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

uint64_t attn_tape_dropout_seed(const attn_tape *tape) { return mix(mix(tape->seed) + tape->step); }

attn_var *attn_tape_dropout(attn_tape *tape, attn_var *x, float p) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "dropout", "x", x)) return NULL;
    if (!(p >= 0 && p < 1))
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "dropout: p is %g, expected 0 ≤ p < 1", (double)p);
    if (!tape->record || p == 0) return x;
    uint64_t seed = attn_tape_dropout_seed(tape), offset = tape->position;
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, x->needs_grad);
    if (!y || !attn_tape_check(tape, attn_dropout(tape->ctx, &y->value, &x->value, p, seed, offset))) return NULL;
    if (!y->needs_grad) return y;
    pointwise_node *node = push(tape, ATTN_OPERATION_dropout, y, x, NULL);
    if (!node) return NULL;
    node->p = p;
    node->seed = seed;
    node->offset = offset;
    return y;
}

attn_status attn_backward_dropout(attn_tape *tape, attn_node *node) {
    const pointwise_node *own = (const pointwise_node *)node;
    const attn_tensor *dy = &node->out->grad;
    ATTN_TRY(attn_dropout(tape->ctx, dy, dy, own->p, own->seed, own->offset));
    return attn_grad_pass(tape, own->a, dy->data);
}

/* ---- add, scale and activation --------------------------------------------------------------------- */

static bool same_shape(const attn_tensor *a, const attn_tensor *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

attn_var *attn_tape_add(attn_tape *tape, attn_var *a, attn_var *b) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "add", "a", a) || !attn_tape_use(tape, "add", "b", b))
        return NULL;
    if (!same_shape(&a->value, &b->value))
        return attn_tape_fail(tape, ATTN_E_SHAPE,
                              "add: a has %zu elements of rank %d, b %zu of rank %d, expected the same shape",
                              attn_tensor_count(&a->value), a->value.rank, attn_tensor_count(&b->value), b->value.rank);
    attn_var *y = attn_tape_var(tape, a->value.rank, a->value.shape, a->needs_grad || b->needs_grad);
    if (!y || !attn_tape_check(tape, attn_add(tape->ctx, &y->value, &a->value, &b->value))) return NULL;
    y->disposable = true;
    return !y->needs_grad || push(tape, ATTN_OPERATION_add, y, a, b) ? y : NULL;
}

attn_status attn_backward_add(attn_tape *tape, attn_node *node) {
    const pointwise_node *own = (const pointwise_node *)node;
    float *dy = node->out->grad.data;
    if (own->b->needs_grad) {
        if (!own->a->needs_grad) return attn_grad_pass(tape, own->b, dy);
        ATTN_TRY(attn_grad_add(tape, own->b, dy));
    }
    return own->a->needs_grad ? attn_grad_pass(tape, own->a, dy) : ATTN_OK;
}

attn_var *attn_tape_scale(attn_tape *tape, attn_var *x, float factor) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "scale", "x", x)) return NULL;
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, x->needs_grad);
    if (!y) return NULL;
    attn_scale_floats(tape->ctx, y->value.data, x->value.data, factor, attn_tensor_count(&x->value));
    if (!y->needs_grad) return y;
    pointwise_node *node = push(tape, ATTN_OPERATION_scale, y, x, NULL);
    if (!node) return NULL;
    node->p = factor;
    return y;
}

attn_status attn_backward_scale(attn_tape *tape, attn_node *node) {
    const pointwise_node *own = (const pointwise_node *)node;
    float *dy = node->out->grad.data;
    attn_scale_floats(tape->ctx, dy, dy, own->p, attn_tensor_count(&node->out->value));
    return attn_grad_pass(tape, own->a, dy);
}

attn_var *attn_tape_activation(attn_tape *tape, attn_var *x, attn_activation act) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "activation", "x", x)) return NULL;
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, x->needs_grad);
    if (!y || !attn_tape_check(tape, attn_activation_fwd(tape->ctx, &y->value, &x->value, act))) return NULL;
    if (!y->needs_grad) return y;
    pointwise_node *node = push(tape, ATTN_OPERATION_activation, y, x, NULL);
    if (!node) return NULL;
    node->act = act;
    return y;
}

attn_status attn_backward_activation(attn_tape *tape, attn_node *node) {
    const pointwise_node *own = (const pointwise_node *)node;
    const attn_tensor *dy = &node->out->grad;
    ATTN_TRY(attn_activation_bwd(tape->ctx, dy, dy, &own->a->value, &node->out->value, own->act, false));
    return attn_grad_pass(tape, own->a, dy->data);
}

/* ---- maxout (Goodfellow et al. 2013) --------------------------------------------------------- */

enum { PAIRS_PER_TASK = 1 << 14 };

typedef struct maxout_job {
    float *y;
    const float *x;
    float *dx; /* forward: NULL */
    const float *dy;
    size_t pairs;
    bool accumulate;
} maxout_job;

/* The left one wins a tie; a NaN on either side is the result (on the right, because no comparison with it holds). */
static bool left_wins(const float *pair) { return pair[0] >= pair[1] || pair[0] != pair[0]; }

static void maxout_task(void *arg, size_t index) {
    const maxout_job *job = arg;
    size_t first = index * PAIRS_PER_TASK, end = ATTN_MIN(first + PAIRS_PER_TASK, job->pairs);
    for (size_t i = first; i < end; i++) {
        const float *pair = job->x + 2 * i;
        bool left = left_wins(pair);
        if (!job->dx) {
            job->y[i] = left ? pair[0] : pair[1];
            continue;
        }
        float to_left = left ? job->dy[i] : 0, to_right = left ? 0 : job->dy[i];
        float *dpair = job->dx + 2 * i;
        dpair[0] = job->accumulate ? dpair[0] + to_left : to_left;
        dpair[1] = job->accumulate ? dpair[1] + to_right : to_right;
    }
}

static void maxout_run(attn_context *ctx, maxout_job *job) {
    attn_parallel_for(ctx, (job->pairs + PAIRS_PER_TASK - 1) / PAIRS_PER_TASK, maxout_task, job);
}

attn_var *attn_tape_maxout(attn_tape *tape, attn_var *x) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "maxout", "x", x)) return NULL;
    size_t n = x->value.rank ? x->value.shape[x->value.rank - 1] : 1;
    if (n % 2) return attn_tape_fail(tape, ATTN_E_SHAPE, "maxout: x has %zu columns, expected an even number", n);
    attn_var *y = attn_tape_var_like(tape, &x->value, n / 2, x->needs_grad);
    if (!y) return NULL;
    maxout_job job = {.y = y->value.data, .x = x->value.data, .pairs = attn_tensor_count(&y->value)};
    maxout_run(tape->ctx, &job);
    return !y->needs_grad || push(tape, ATTN_OPERATION_maxout, y, x, NULL) ? y : NULL;
}

attn_status attn_backward_maxout(attn_tape *tape, attn_node *node) {
    const pointwise_node *own = (const pointwise_node *)node;
    bool accumulate;
    float *dx = attn_grad_begin(tape, own->a, &accumulate);
    if (!dx) return ATTN_E_NOMEM;
    maxout_job job = {.x = own->a->value.data,
                      .dx = dx,
                      .dy = node->out->grad.data,
                      .pairs = attn_tensor_count(&node->out->value),
                      .accumulate = accumulate};
    maxout_run(tape->ctx, &job);
    return ATTN_OK;
}
