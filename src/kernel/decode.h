/* decode.h: what the kernels of attention for few queries take; body/decode.h says what they do with it.
 *
 * A tile is the keys of one row of the grid of ATTN_TILE, in blocks of ATTN_KEYS. Arrays are [row][key] or
 * [row][column] with queries as rows; bit j of a word is key j of the tile. */
#ifndef ATTN_KERNEL_DECODE_H
#define ATTN_KERNEL_DECODE_H

#include "kernel/attention.h"

#define ATTN_KEYS 16 /* keys in a block of a cache */
#define ATTN_STEP_BYTES 256
#define ATTN_TILE_BLOCKS (ATTN_TILE / ATTN_KEYS)

typedef struct attn_decode_tile {
    size_t rows, d, dv;
    attn_dtype dtype;                                      /* of keys and values */
    bool fast;                                             /* bf16: products of pairs, as attn_product_bf16 */
    bool paired;                                           /* bf16: v[i] has pairs of keys, [8][v_row][2]; else rows */
    size_t first, end;                                     /* blocks first … end−1 hold all that is looked at */
    size_t keys;                                           /* of the tile that exist */
    const void *k[ATTN_TILE_BLOCKS], *v[ATTN_TILE_BLOCKS]; /* of each block */
    const void *next_k[ATTN_TILE_BLOCKS], *next_v[ATTN_TILE_BLOCKS]; /* of the next tile, which is fetched meanwhile */
    bool in_rows;    /* or k[i] are blocks [D][16], bf16 [⌈D/2⌉][16][2], I8 [⌈D/4⌉][16][4] + 128 */
    ptrdiff_t k_row; /* in_rows: elements from key to key */
    ptrdiff_t v_row; /* elements from key to key; paired: floats from pair to pair; I8: v[i] is [4][v_row][4] */
    const float *k_scale[ATTN_TILE_BLOCKS], *v_scale[ATTN_TILE_BLOCKS]; /* I8: [16] */
    const float *q; /* [row][D], fast: [row][⌈D/2⌉] pairs, with zeros to whole vectors; q_row apart */
    ptrdiff_t q_row;
    const int8_t *q8; /* I8: [row][D], zeros up to q8_row, a multiple of 4 */
    ptrdiff_t q8_row;
    const int32_t *q_sum; /* I8: [row] of q8 */
    const float *q_scale;
    float *packed, *padded; /* scratch for in_rows: tiles: [2][D][16]; [64][padded_row] */
    size_t padded_row;      /* as q_row, in whole vectors */
    const float *zeros;     /* fast and not paired: as long as a row of values */
    float *s, *pairs;       /* [row][ATTN_TILE] scores, then weights; fast: [row][ATTN_TILE/2] those as pairs of bf16 */
    float factor;
    const uint64_t *visible;    /* [row] */
    float *max, *sum, *rescale; /* [row] */
    const float *parts;         /* I8: [row] of the weights' sum, a step is one of them */
    float *step;                /* I8: [row] what weights are numbers of, once they are rounded */
    void *steps;                /* I8: [row][ATTN_STEP_BYTES] those numbers, where they do not stand in s */
    size_t from, to;            /* keys that are weighted */
    bool summed;                /* sum is up to date; else decode_mix sums the weights as it goes */
    bool exact;                 /* fast: sum is that of weights before they are rounded, not after */
    size_t rounded;             /* fast: the column of o that has the sum of the rounded weights */
    float *o;                   /* [row][Dv in whole vectors], o_row apart */
    ptrdiff_t o_row;
} attn_decode_tile;

#define ATTN_DECODE_KERNEL_LIST(X)                                                                              \
    /* body/decode.h */                                                                                         \
    X(void, decode_scores, (const attn_decode_tile *tile))                                                      \
    X(void, decode_scores_i8, (const attn_decode_tile *tile))                                                   \
    X(void, decode_softmax, (const attn_decode_tile *tile))                                                     \
    X(void, decode_softmax_i8, (const attn_decode_tile *tile))                                                  \
    X(void, decode_steps, (const attn_decode_tile *tile))                                                       \
    X(void, decode_mix_i8, (const attn_decode_tile *tile))                                                      \
    X(void, decode_sums, (const attn_decode_tile *tile))                                                        \
    X(void, decode_mix, (const attn_decode_tile *tile))                                                         \
    X(void, decode_mix_row, (const attn_decode_tile *tile, size_t row))                                         \
    X(void, decode_merge,                                                                                       \
      (float *total, float *total_max, float *total_sum, const float *part, const float *max, const float *sum, \
       size_t rows, size_t columns))

#endif
