/* attention.h: what the kernels of scaled dot-product attention take; body/attention.h says what they do with it.
 *
 * A block is up to `block_lanes` queries (attn_kernels), a tile up to ATTN_TILE keys. Arrays of a block or tile are
 * [row][lane] with `lanes` floats to a row, a multiple of the vector; lane masks are 64-bit words, bit i is lane i. */
#ifndef ATTN_KERNEL_ATTENTION_H
#define ATTN_KERNEL_ATTENTION_H

#include <attn/tensor.h>

#define ATTN_TILE 64      /* keys in a tile; the grid begins at key 0 of a sequence, in every path */
#define ATTN_SPLIT 512    /* keys in a split: what one chain of tiles adds up, and what decoding gives to a thread */
#define ATTN_CHAIN 64     /* multiply-adds in a chain along D */
#define ATTN_MAX_LANES 64 /* the most queries of a block, at any level */

/* Memory that is wanted soon: a product fetches some of its lines into the L2 cache after every ATTN_AHEAD_TERMS terms
 * of a tile, few at a time, because a core waits for only so many. Pieces are spans of rows. */
#define ATTN_AHEAD_SPANS 8
#define ATTN_AHEAD_TERMS 16
typedef struct attn_ahead {
    const char *next, *end; /* what is left of a row */
    bool written;           /* it is to be written, not read */
    size_t lines;           /* at a time */
    struct attn_span {
        const char *row;
        ptrdiff_t step;     /* bytes from row to row */
        size_t bytes, rows; /* of a row; rows left */
        bool written;
    } spans[ATTN_AHEAD_SPANS];
    size_t span, spans_n; /* the first span with rows left */
} attn_ahead;

/* C[row][lane] = or += one chain (by tiles: groups of 16) over the terms of A[row][term] · B[term][lane]. Strides in
 * floats; whole vectors of B and C. */
typedef struct attn_product {
    size_t rows, terms, lanes; /* of pairs at most ATTN_CHAIN terms */
    const float *a;
    ptrdiff_t a_row, a_term;
    const float *b;
    ptrdiff_t b_term;
    float *c;
    ptrdiff_t c_row;
    bool add;
    /* For each vector of lanes, how many rows or terms it needs; NULL: all. Lanes past `lanes` have no entry. */
    const uint8_t *row_ends, *term_ends;
    attn_ahead *ahead; /* or NULL */
} attn_product;

typedef struct attn_softmax_tile {
    size_t keys, lanes;
    float *s;                /* [keys][lanes] scores; weights afterwards */
    float factor;            /* > 0: scores times it are in units of log 2 */
    const uint64_t *visible; /* [keys], or NULL: all */
    const uint8_t *ends; /* with visible: for each vector of lanes, keys from there on are visible to none; or NULL */
    float *max, *sum, *rescale; /* [lanes] */
    /* bf16 only */
    float *pairs;       /* [keys/2, rounded up][lanes]: weights */
    const float *keep;  /* [keys][lanes] or NULL */
    float *rounded_sum; /* [lanes]: the sum of the rounded weights; what the output is divided by */
} attn_softmax_tile;

typedef struct attn_logits_tile {
    size_t keys, lanes;
    float *s;
    float scale, softcap;  /* softcap 0: none */
    float unit;            /* what the logits are multiplied by at last: log2 e */
    const float *bias;     /* [keys][lanes] or NULL */
    const float *slope;    /* [lanes] or NULL */
    const float *position; /* [lanes], counted from the tile's first key */
    float *capped;         /* [keys][lanes]: gets tanh(scale·s / softcap), for backward; or NULL */
} attn_logits_tile;

typedef struct attn_dropout_tile {
    size_t keys, lanes;
    float *keep;                    /* [keys rounded up to 8][lanes] */
    const uint32_t *stream, *query; /* [lanes]: counter words 1 and 2 */
    uint32_t word0, group;          /* counter word 0; word 3 of the first 8 keys */
    uint32_t key[2], threshold;
    float kept;
} attn_dropout_tile;

typedef struct attn_backward_tile {
    size_t keys, lanes;
    float *s;                /* [keys][lanes] scores or logits; weights, after dropout, afterwards */
    float *dp;               /* [keys][lanes] dO·V; dS afterwards */
    float factor;            /* as in attn_softmax_tile */
    const float *lse;        /* [lanes], in units of log 2; +inf: weights are 0 */
    const float *delta;      /* [lanes] */
    const uint64_t *visible; /* [keys] or NULL */
    const uint8_t *ends;     /* as in attn_softmax_tile: zeros from there on */
    const float *keep;       /* [keys][lanes] or NULL */
    const float *capped;     /* [keys][lanes] or NULL */
    /* bf16 only, instead of s and dp: weights and dS, [keys][row] bf16, and dS of keys 2i and 2i+1 as pairs,
     * [keys/2][lanes]. */
    uint16_t *weights, *ds;
    float *ds_pairs;
    size_t row;
    float *dbias; /* [keys][lanes]: gets dS before the derivative of the cap; or NULL */
} attn_backward_tile;

typedef struct attn_weights_tile {
    size_t keys, lanes;
    float *s;                /* [keys][lanes] scores or logits; weights afterwards */
    float factor;            /* as in attn_softmax_tile */
    const float *lse;        /* [lanes], in units of log 2 */
    const uint64_t *visible; /* [keys] or NULL */
    uint64_t live;           /* lanes that have weights */
    float *entropy;          /* [lanes], in units of log 2, added to; or NULL */
    const float *threshold;  /* [lanes] or NULL */
    uint64_t *above;         /* [keys] */
} attn_weights_tile;

#define ATTN_ATTENTION_KERNEL_LIST(X)                                                                              \
    /* body/attention.h */                                                                                         \
    X(void, attention_product, (const attn_product *product))                                                      \
    X(void, attention_pack, (float *to, size_t lanes, const void *const *rows, attn_dtype dtype, size_t columns))  \
    X(void, attention_unpack,                                                                                      \
      (void *const *rows, attn_dtype dtype, const float *from, size_t lanes, const float *factor, size_t columns)) \
    X(bool, attention_copy,                                                                                        \
      (float *to, ptrdiff_t to_row, const void *from, attn_dtype dtype, ptrdiff_t from_row, size_t rows,           \
       size_t columns, bool clean))                                                                                \
    X(bool, attention_is_finite, (const float *x, ptrdiff_t x_row, size_t rows, size_t columns))                   \
    X(bool, attention_softmax, (const attn_softmax_tile *tile))                                                    \
    X(void, attention_scale, (float *x, size_t lanes, size_t rows, const float *factor))                           \
    X(void, attention_merge,                                                                                       \
      (float *total, float *total_max, float *total_sum, const float *part, const float *max, const float *sum,    \
       size_t lanes, size_t rows))                                                                                 \
    X(void, attention_logits, (const attn_logits_tile *tile))                                                      \
    X(void, attention_multiply, (float *x, const float *y, size_t n))                                              \
    X(void, attention_row_dots,                                                                                    \
      (float *dots, const void *const *a, const void *const *b, attn_dtype dtype, size_t lanes, size_t columns))   \
    X(void, attention_put,                                                                                         \
      (void *to, attn_dtype dtype, ptrdiff_t to_row, const float *from, ptrdiff_t from_row, size_t rows,           \
       size_t columns, float factor, bool accumulate))                                                             \
    X(void, attention_dropout, (const attn_dropout_tile *tile))                                                    \
    X(void, attention_backward, (const attn_backward_tile *tile))                                                  \
    /* body/weights.h */                                                                                           \
    X(bool, attention_weights, (const attn_weights_tile *tile))                                                    \
    X(void, attention_lane_sums, (float *sums, const float *x, size_t lanes, size_t keys))                         \
    X(float, attention_lane_max, (const float *x, size_t lanes, size_t keys, uint64_t which))

#endif
