/* bpe.h: byte-pair encoding of one word: merges, applied in the order in which they were learned.
 *
 *     attn_symbols s = ATTN_SYMBOLS_INIT;
 *     attn_symbols_add(ctx, &s, id, start);            // the characters of a word, left to right
 *     attn_bpe_merge(&bpe, &s);
 *     for (uint32_t i = 0; i != ATTN_SYMBOL_NONE; i = s.at[i].next) ... s.at[i].id;
 */
#ifndef ATTN_TEXT_BPE_H
#define ATTN_TEXT_BPE_H

#include "text/vocabulary.h"

typedef struct attn_merge {
    int32_t left, right, joined;
} attn_merge;

typedef struct attn_bpe {
    attn_context *ctx;
    attn_merge *merge; /* by rank: 0 is applied first */
    size_t count, capacity;
    attn_pairs rank; /* (left, right) → index in merge */
} attn_bpe;
#define ATTN_BPE_INIT(ctx) \
    { (ctx), NULL, 0, 0, ATTN_PAIRS_INIT(ctx) }

/* A merge of the pair must not be there yet. */
attn_status attn_bpe_add(attn_bpe *bpe, attn_merge merge);
/* With the rank of an earlier merge (or of this one) that makes the same piece of another pair. */
attn_status attn_bpe_add_as(attn_bpe *bpe, attn_merge merge, size_t rank);
void attn_bpe_free(attn_bpe *bpe);

#define ATTN_SYMBOL_NONE UINT32_MAX

typedef struct attn_symbol {
    int32_t id;
    uint32_t start;      /* first byte in the text */
    uint32_t next, prev; /* neighbours; ATTN_SYMBOL_NONE at the ends */
    uint32_t rank;       /* of the merge with the right neighbour; ATTN_PAIR_NONE: none, or merged away */
} attn_symbol;

/* A word at work, and the queues of long words, which stay for the next one. Symbol 0 is always the first of the word:
 * merging keeps the left one of a pair. */
typedef struct attn_symbols {
    attn_symbol *at;
    size_t count, capacity;
    struct attn_bpe_queue *queue;
} attn_symbols;
#define ATTN_SYMBOLS_INIT \
    { NULL, 0, 0, NULL }

attn_status attn_symbols_add(attn_context *ctx, attn_symbols *symbols, int32_t id, size_t start);
/* Merges the pair of lowest rank, the leftmost first, until no pair has a merge. */
attn_status attn_bpe_merge(const attn_bpe *bpe, attn_symbols *symbols);
void attn_symbols_free(const attn_bpe *bpe, attn_symbols *symbols);

#endif
