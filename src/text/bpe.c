/* bpe.c: merging the symbols of a word (Sennrich, Haddow & Birch 2016, "Neural machine translation of rare words with
 * subword units").
 *
 * A short word is searched for its best pair again and again. A long one keeps a queue of places for each rank, and a
 * heap of the ranks that have places:
 *   (I1) every place whose pair has a merge is in the queue of its rank, once;
 *   (I2) a place in a queue whose symbol has another rank by now is stale and is skipped: a pair's text only grows, so
 *        no rank comes back to a place;
 *   (I3) a queue is sorted but for its late places, which came after a greater one and lie in a heap.
 * A merged word leaves all queues empty. Places nearly always come in order, so that ten million equal letters take
 * linear time. */
#include "text/bpe.h"

#include <string.h>

enum { SHORT_WORD = 128 };

attn_status attn_bpe_add(attn_bpe *bpe, attn_merge merge) { return attn_bpe_add_as(bpe, merge, bpe->count); }

attn_status attn_bpe_add_as(attn_bpe *bpe, attn_merge merge, size_t rank) {
    if (bpe->count >= ATTN_PAIR_NONE)
        return attn_fail(bpe->ctx, ATTN_E_UNSUPPORTED, "more than %u merges", ATTN_PAIR_NONE);
    ATTN_TRY(attn_grow(bpe->ctx, &bpe->merge, &bpe->capacity, bpe->count + 1, bpe->count, sizeof *bpe->merge));
    ATTN_TRY(attn_pairs_add(&bpe->rank, merge.left, merge.right, (uint32_t)rank));
    bpe->merge[bpe->count++] = merge;
    return ATTN_OK;
}

void attn_bpe_free(attn_bpe *bpe) {
    attn_release(bpe->ctx, bpe->merge);
    attn_pairs_free(&bpe->rank);
    *bpe = (attn_bpe)ATTN_BPE_INIT(bpe->ctx);
}

attn_status attn_symbols_add(attn_context *ctx, attn_symbols *symbols, int32_t id, size_t start) {
    size_t n = symbols->count;
    if (start > UINT32_MAX || n >= ATTN_SYMBOL_NONE)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "a text of more than %u bytes", UINT32_MAX);
    ATTN_TRY(attn_grow(ctx, &symbols->at, &symbols->capacity, n + 1, n, sizeof *symbols->at));
    symbols->at[n] = (attn_symbol){.id = id, .start = (uint32_t)start};
    symbols->count = n + 1;
    return ATTN_OK;
}

static uint32_t rank_at(const attn_bpe *bpe, const attn_symbol *at, uint32_t i) {
    uint32_t next = at[i].next;
    return next == ATTN_SYMBOL_NONE ? ATTN_PAIR_NONE : attn_pairs_find(&bpe->rank, at[i].id, at[next].id);
}

/* Joins symbol i with its right neighbour; the ranks of i and of its left neighbour are new. */
static void join(const attn_bpe *bpe, attn_symbol *at, uint32_t i) {
    uint32_t gone = at[i].next, next = at[gone].next, prev = at[i].prev;
    at[i].id = bpe->merge[at[i].rank].joined;
    at[i].next = next;
    at[gone].rank = ATTN_PAIR_NONE;
    if (next != ATTN_SYMBOL_NONE) at[next].prev = i;
    at[i].rank = rank_at(bpe, at, i);
    if (prev != ATTN_SYMBOL_NONE) at[prev].rank = rank_at(bpe, at, prev);
}

static void merge_short(const attn_bpe *bpe, attn_symbol *at) {
    for (;;) {
        uint32_t best = 0;
        for (uint32_t i = 0; i != ATTN_SYMBOL_NONE; i = at[i].next)
            if (at[i].rank < at[best].rank) best = i;
        if (at[best].rank == ATTN_PAIR_NONE) return;
        join(bpe, at, best);
    }
}

/* ---- long words ----------------------------------------------------------------------------- */

/* A binary heap of numbers, the smallest on top. */
typedef struct heap {
    uint32_t *at;
    size_t count, capacity;
} heap;

static attn_status heap_push(attn_context *ctx, heap *h, uint32_t value) {
    ATTN_TRY(attn_grow(ctx, &h->at, &h->capacity, h->count + 1, h->count, sizeof *h->at));
    size_t i = h->count++;
    for (; i > 0 && h->at[(i - 1) / 2] > value; i = (i - 1) / 2) h->at[i] = h->at[(i - 1) / 2];
    h->at[i] = value;
    return ATTN_OK;
}

static uint32_t heap_pop(heap *h) {
    uint32_t top = h->at[0], value = h->at[--h->count];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && h->at[child + 1] < h->at[child]) child++;
        if (h->at[child] >= value) break;
        h->at[i] = h->at[child];
    }
    h->at[i] = value;
    return top;
}

typedef struct places {
    uint32_t *at; /* [head, count) in ascending order */
    size_t head, count, capacity;
    heap late;
    bool listed; /* the rank is in the heap of ranks */
} places;

struct attn_bpe_queue {
    places *of; /* (merges) */
    heap ranks;
};
typedef struct attn_bpe_queue queue;

static attn_status queue_push(attn_context *ctx, queue *q, uint32_t rank, uint32_t place) {
    if (rank == ATTN_PAIR_NONE) return ATTN_OK;
    places *p = q->of + rank;
    if (p->head == p->count) p->head = p->count = 0;
    if (p->count && p->at[p->count - 1] > place) ATTN_TRY(heap_push(ctx, &p->late, place));
    else {
        ATTN_TRY(attn_grow(ctx, &p->at, &p->capacity, p->count + 1, p->count, sizeof *p->at));
        p->at[p->count++] = place;
    }
    if (p->listed) return ATTN_OK;
    p->listed = true;
    return heap_push(ctx, &q->ranks, rank);
}

/* false: no rank has a place. */
static bool queue_pop(queue *q, uint32_t *rank, uint32_t *place) {
    while (q->ranks.count) {
        places *p = q->of + q->ranks.at[0];
        bool sorted = p->head < p->count;
        *rank = q->ranks.at[0];
        if (p->late.count && (!sorted || p->late.at[0] < p->at[p->head])) *place = heap_pop(&p->late);
        else if (sorted) *place = p->at[p->head++];
        else {
            heap_pop(&q->ranks);
            p->listed = false;
            continue;
        }
        return true;
    }
    return false;
}

static attn_status merge_long(const attn_bpe *bpe, attn_symbol *at, size_t n, queue *q) {
    for (size_t i = 0; i < n; i++) ATTN_TRY(queue_push(bpe->ctx, q, at[i].rank, (uint32_t)i));
    for (uint32_t rank, i; queue_pop(q, &rank, &i);) {
        if (at[i].rank != rank) continue;
        join(bpe, at, i);
        ATTN_TRY(queue_push(bpe->ctx, q, at[i].rank, i));
        uint32_t prev = at[i].prev;
        if (prev != ATTN_SYMBOL_NONE) ATTN_TRY(queue_push(bpe->ctx, q, at[prev].rank, prev));
    }
    return ATTN_OK;
}

attn_status attn_bpe_merge(const attn_bpe *bpe, attn_symbols *symbols) {
    attn_symbol *at = symbols->at;
    uint32_t n = (uint32_t)symbols->count;
    if (!n) return ATTN_OK;
    for (uint32_t i = 0; i < n; i++) {
        at[i].prev = i ? i - 1 : ATTN_SYMBOL_NONE;
        at[i].next = i + 1 < n ? i + 1 : ATTN_SYMBOL_NONE;
        at[i].rank = i && i + 1 < n && at[i].id == at[i - 1].id && at[i + 1].id == at[i].id
                         ? at[i - 1].rank
                         : (i + 1 < n ? attn_pairs_find(&bpe->rank, at[i].id, at[i + 1].id) : ATTN_PAIR_NONE);
    }
    if (n <= SHORT_WORD) {
        merge_short(bpe, at);
        return ATTN_OK;
    }
    if (!symbols->queue) {
        queue *q = attn_alloc_zero(bpe->ctx, 1, sizeof *q);
        if (!q) return ATTN_E_NOMEM;
        symbols->queue = q;
        q->of = attn_alloc_zero(bpe->ctx, bpe->count, sizeof *q->of);
    }
    return symbols->queue->of ? merge_long(bpe, at, n, symbols->queue) : ATTN_E_NOMEM;
}

void attn_symbols_free(const attn_bpe *bpe, attn_symbols *symbols) {
    queue *q = symbols->queue;
    for (size_t r = 0; q && q->of && r < bpe->count; r++) {
        attn_release(bpe->ctx, q->of[r].at);
        attn_release(bpe->ctx, q->of[r].late.at);
    }
    if (q) {
        attn_release(bpe->ctx, q->of);
        attn_release(bpe->ctx, q->ranks.at);
    }
    attn_release(bpe->ctx, q);
    attn_release(bpe->ctx, symbols->at);
    *symbols = (attn_symbols)ATTN_SYMBOLS_INIT;
}
