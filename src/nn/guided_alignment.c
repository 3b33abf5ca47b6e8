/* guided_alignment.c: the loss of a head's alignment against given links.
 *
 * For a query with links to keys L:  loss = −1/|L| Σ_{j∈L} log α_j,  dscore_j = α_j − [j ∈ L] / |L|.
 * The forward pass keeps dscore of the linked queries' rows; backward multiplies it with k and q. */
#include "nn/tape.h"

#include <math.h>

typedef struct linked_row {    /* a query that has links */
    size_t query, first, keys; /* its row of q; the first row of k that it sees and how many */
    size_t link, links;
    float *dscore; /* (keys) */
} linked_row;

typedef struct guided_node {
    attn_node node;
    attn_var *q, *k;
    size_t columns, offset, size; /* of a row of q and k; the head's columns */
    linked_row *row;
    size_t rows, *sequence; /* (sequences + 1): each one's first linked row */
    size_t sequences;
    const int32_t *key;
    float scale;  /* of the loss */
    double *loss; /* (rows) */
    float *dq, *dk, factor;
} guided_node;

/* ---- the links ---------------------------------------------------------------------------------------- */

static bool check_shapes(attn_tape *tape, const attn_guided_alignment *g) {
    static const char where[] = "guided alignment";
    if (!attn_tape_use(tape, where, "q", g->q) || !attn_tape_use(tape, where, "k", g->k)) return false;
    const attn_tensor *q = &g->q->value, *k = &g->k->value;
    if (q->rank != 2 || k->rank != 2 || q->shape[1] != k->shape[1])
        return attn_tape_fail(tape, ATTN_E_SHAPE,
                              "%s: q and k have ranks %d and %d, expected packed rows of one length", where, q->rank,
                              k->rank),
               false;
    if (g->heads == 0 || q->shape[1] % g->heads || g->head >= g->heads)
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "%s: head %zu of %zu in %zu columns", where, g->head, g->heads,
                              q->shape[1]),
               false;
    const size_t n = g->sequences;
    if (g->cu_q[0] != 0 || g->cu_k[0] != 0 || (size_t)g->cu_q[n] != q->shape[0] || (size_t)g->cu_k[n] != k->shape[0])
        return attn_tape_fail(tape, ATTN_E_SHAPE, "%s: cu_q ends at %d and cu_k at %d, expected %zu and %zu rows",
                              where, (int)g->cu_q[n], (int)g->cu_k[n], q->shape[0], k->shape[0]),
               false;
    return true;
}

static bool bad_link(attn_tape *tape, const attn_guided_alignment *g, size_t link) {
    return attn_tape_fail(tape, ATTN_E_ARGUMENT,
                          "guided alignment: link %zu joins query %d and key %d, expected rows of one sequence, sorted",
                          link, (int)g->query[link], (int)g->key[link]),
           false;
}

/* Groups the links by query. */
static bool find_rows(attn_tape *tape, guided_node *own, const attn_guided_alignment *g) {
    size_t s = 0;
    own->sequence[0] = 0;
    for (size_t i = 0; i < g->links; i++) {
        const int32_t query = g->query[i], key = g->key[i];
        if (query < 0 || (i && query < g->query[i - 1])) return bad_link(tape, g, i);
        while (s < g->sequences && query >= g->cu_q[s + 1]) own->sequence[++s] = own->rows;
        if (s == g->sequences || key < g->cu_k[s] || key >= g->cu_k[s + 1]) return bad_link(tape, g, i);
        if (own->rows && own->row[own->rows - 1].query == (size_t)query) {
            own->row[own->rows - 1].links++;
            continue;
        }
        const size_t keys = (size_t)(g->cu_k[s + 1] - g->cu_k[s]);
        float *dscore = attn_tape_memory(tape, keys, sizeof *dscore);
        if (!dscore) return false;
        own->row[own->rows++] = (linked_row){(size_t)query, (size_t)g->cu_k[s], keys, i, 1, dscore};
    }
    while (s < g->sequences) own->sequence[++s] = own->rows;
    return true;
}

/* ---- one row -------------------------------------------------------------------------------------------- */

static float dot(const float *a, const float *b, size_t n) {
    float sum = 0;
    for (size_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* Leaves α − links / |L| in dscore; gives the loss. */
static double row_forward(const guided_node *own, const linked_row *row) {
    const float *q = (const float *)own->q->value.data + row->query * own->columns + own->offset;
    const float *k = (const float *)own->k->value.data + row->first * own->columns + own->offset;
    const float root = 1 / sqrtf((float)own->size), share = 1 / (float)row->links;
    float most = -INFINITY, sum = 0, *score = row->dscore;
    for (size_t j = 0; j < row->keys; j++) {
        score[j] = root * dot(q, k + j * own->columns, own->size);
        most = fmaxf(most, score[j]);
    }
    for (size_t j = 0; j < row->keys; j++) sum += expf(score[j] - most);
    const float lse = most + logf(sum);
    double loss = 0;
    for (size_t i = 0; i < row->links; i++)
        loss -= (double)(score[(size_t)own->key[row->link + i] - row->first] - lse) * (double)share;
    for (size_t j = 0; j < row->keys; j++) score[j] = expf(score[j] - lse);
    for (size_t i = 0; i < row->links; i++) score[(size_t)own->key[row->link + i] - row->first] -= share;
    return loss;
}

static void row_backward(const guided_node *own, const linked_row *row) {
    const float *q = (const float *)own->q->value.data + row->query * own->columns + own->offset;
    const float *k = (const float *)own->k->value.data + row->first * own->columns + own->offset;
    float *dq = own->dq ? own->dq + row->query * own->columns + own->offset : NULL;
    float *dk = own->dk ? own->dk + row->first * own->columns + own->offset : NULL;
    for (size_t j = 0; j < row->keys; j++) {
        const float d = own->factor * row->dscore[j];
        for (size_t i = 0; dq && i < own->size; i++) dq[i] += d * k[j * own->columns + i];
        for (size_t i = 0; dk && i < own->size; i++) dk[j * own->columns + i] += d * q[i];
    }
}

static void forward_task(void *arg, size_t index) {
    const guided_node *own = arg;
    own->loss[index] = row_forward(own, &own->row[index]);
}

/* A sequence's keys are its own: no two tasks write the same row. */
static void backward_task(void *arg, size_t index) {
    const guided_node *own = arg;
    for (size_t r = own->sequence[index]; r < own->sequence[index + 1]; r++) row_backward(own, &own->row[r]);
}

/* ---- on the tape ------------------------------------------------------------------------------------------ */

attn_var *attn_tape_guided_alignment(attn_tape *tape, const attn_guided_alignment *guided, float scale) {
    if (!attn_tape_begin(tape) || !check_shapes(tape, guided)) return NULL;
    const attn_guided_alignment *g = guided;
    guided_node own = {
        .q = g->q, .k = g->k, .columns = g->q->value.shape[1], .sequences = g->sequences, .scale = scale};
    own.size = own.columns / g->heads;
    own.offset = g->head * own.size;
    attn_var *loss = attn_tape_var(tape, 0, NULL, g->q->needs_grad || g->k->needs_grad);
    own.row = attn_tape_memory(tape, g->links, sizeof *own.row);
    own.loss = attn_tape_memory(tape, g->links, sizeof *own.loss);
    own.sequence = attn_tape_memory(tape, g->sequences + 1, sizeof *own.sequence);
    own.key = attn_tape_copy(tape, g->key, g->links, sizeof *g->key);
    if (!loss || !own.row || !own.loss || !own.sequence || !own.key || !find_rows(tape, &own, g)) return NULL;
    attn_parallel_for(tape->ctx, own.rows, forward_task, &own);
    double sum = 0;
    for (size_t r = 0; r < own.rows; r++) sum += own.loss[r];
    *(float *)loss->value.data = (float)(sum * (double)scale);
    if (!loss->needs_grad) return loss;
    guided_node *node = attn_tape_push(tape, ATTN_OPERATION_guided_alignment, loss, sizeof *node);
    if (!node) return NULL;
    own.node = node->node;
    *node = own;
    return loss;
}

attn_status attn_backward_guided_alignment(attn_tape *tape, attn_node *node) {
    guided_node own = *(const guided_node *)node;
    if (own.q->needs_grad && !(own.dq = attn_grad_zeroed(tape, own.q))) return ATTN_E_NOMEM;
    if (own.k->needs_grad && !(own.dk = attn_grad_zeroed(tape, own.k))) return ATTN_E_NOMEM;
    own.factor = *(const float *)node->out->grad.data * own.scale / sqrtf((float)own.size);
    attn_parallel_for(tape->ctx, own.sequences, backward_task, &own);
    return ATTN_OK;
}
