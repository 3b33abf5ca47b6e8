/* tiles_decode.h: the parts of decode.h that multiply pairs, by tiles. Rows are queries, so they are rows of A; blocks
 * of a cache are tiles of B as they lie. The bits are those of the products in tiles.h, where keys are A. */
#ifndef ATTN_KERNEL_BODY_TILES_DECODE_H
#define ATTN_KERNEL_BODY_TILES_DECODE_H

#include "kernel/body/tiles.h"
#include "kernel/decode.h"

enum { TILE_GROUPS = ATTN_TILE / (2 * T_SIDE) }; /* groups of pairs of keys */

/* s of `blocks` blocks of keys, the first of which is number `first`. */
static void scores_pairs(const attn_decode_tile *t, const void *const *k, size_t first, size_t blocks) {
    float a_copies[2][T_MOST_GROUPS][T_FLOATS] __attribute__((aligned(64)));
    float b_copies[2][T_MOST_GROUPS][T_FLOATS] __attribute__((aligned(64)));
    tile_place a[2][T_MOST_GROUPS], b[2][T_MOST_GROUPS];
    tile_sums sums = {.a = {a[0], a[1]}, .b = {b[0], b[1]}, .c_row = ATTN_TILE};
    const size_t pairs = (t->d + 1) / 2;
    for (size_t row = 0; row < t->rows; row += 2 * T_SIDE) {
        sums.rows = t->rows - row < 2 * T_SIDE ? t->rows - row : 2 * T_SIDE;
        for (size_t from = 0; from < pairs; from += ATTN_CHAIN) {
            const size_t terms = pairs - from < ATTN_CHAIN ? pairs - from : ATTN_CHAIN;
            sums.groups = (terms + T_SIDE - 1) / T_SIDE, sums.add = from > 0;
            for (size_t i = 0; i * T_SIDE < sums.rows; i++)
                for (size_t g = 0; g < sums.groups; g++)
                    a[i][g] =
                        tile_find(a_copies[i][g], t->q + (ptrdiff_t)(row + i * T_SIDE) * t->q_row + from + g * T_SIDE,
                                  t->q_row, 1, sums.rows - i * T_SIDE, terms - g * T_SIDE);
            for (size_t block = 0; block < blocks; block += 2) {
                const size_t some = blocks - block < 2 ? 1 : 2;
                for (size_t j = 0; j < some; j++)
                    for (size_t g = 0; g < sums.groups; g++)
                        b[j][g] =
                            tile_find(b_copies[j][g], (const float *)k[block + j] + (from + g * T_SIDE) * ATTN_KEYS,
                                      ATTN_KEYS, 1, terms - g * T_SIDE, T_SIDE);
                sums.c = t->s + row * ATTN_TILE + (first + block) * ATTN_KEYS, sums.columns = some * ATTN_KEYS;
                tile_sums_run(&sums);
            }
        }
    }
}

/* The weights of up to 16 rows, pairs 16·group …, those from `low` to `high`−1 of them. */
static tile_place weights_tile(float *copy, const attn_decode_tile *t, size_t row, size_t rows, size_t group,
                               size_t low, size_t high) {
    const float *from = t->pairs + row * (ATTN_TILE / 2) + group * T_SIDE;
    if (low == 0) return tile_find(copy, from, ATTN_TILE / 2, 1, rows, high);
    const VM some = v_of_bits((1u << high) - (1u << low));
    for (size_t i = 0; i < T_SIDE; i++)
        v_store(copy + i * T_SIDE, i < rows ? v_and_mask(some, v_load(from + i * (ATTN_TILE / 2))) : v_zero());
    return (tile_place){copy, T_SIDE};
}

/* 16 or fewer columns of the values of the pairs 16·group + low … high−1. With `seen`, a half of a pair whose bit (a
 * key of the tile) is not set is 0. */
static tile_place values_tile(float *copy, const attn_decode_tile *t, size_t group, size_t low, size_t high,
                              size_t column, const uint64_t *seen) {
    enum { PAIRS = ATTN_KEYS / 2 };
    const size_t columns = t->dv - column < T_SIDE ? t->dv - column : T_SIDE;
    const float *const *v = (const float *const *)t->v + group * T_SIDE / PAIRS;
    if (!seen && low == 0 && high == T_SIDE && columns == T_SIDE && v[1] == v[0] + PAIRS * t->v_row)
        return (tile_place){v[0] + column, t->v_row};
    for (size_t i = 0; i < T_SIDE; i++) {
        V x = v_zero();
        if (i >= low && i < high) x = v_load_n(v[i / PAIRS] + (ptrdiff_t)(i % PAIRS) * t->v_row + column, columns);
        if (seen) {
            const uint64_t both = *seen >> (2 * (group * T_SIDE + i)) & 3;
            x = v_pair_bf16(both & 1 ? v_low_bf16(x) : v_zero(), both & 2 ? v_high_bf16(x) : v_zero());
        }
        v_store(copy + i * T_SIDE, x);
    }
    return (tile_place){copy, T_SIDE};
}

/* o = o · rescale, then the groups of the keys from … to−1 one after the other, for some rows. */
static void mix_pairs_rows(const attn_decode_tile *t, size_t row, size_t rows, const uint64_t *seen) {
    float a_copies[2][TILE_GROUPS][T_FLOATS] __attribute__((aligned(64)));
    float b_copies[2][TILE_GROUPS][T_FLOATS] __attribute__((aligned(64)));
    tile_place a[2][TILE_GROUPS], b[2][TILE_GROUPS];
    const size_t from = t->from / 2, to = (t->to + 1) / 2, first = from / T_SIDE, end = (to + T_SIDE - 1) / T_SIDE;
    tile_sums sums = {
        .groups = end - first, .a = {a[0], a[1]}, .b = {b[0], b[1]}, .c_row = t->o_row, .rows = rows, .add = true};
    size_t low[TILE_GROUPS], high[TILE_GROUPS];
    for (size_t g = first; g < end; g++) {
        low[g - first] = from > g * T_SIDE ? from - g * T_SIDE : 0;
        high[g - first] = to - g * T_SIDE < T_SIDE ? to - g * T_SIDE : T_SIDE;
        for (size_t i = 0; i * T_SIDE < rows; i++)
            a[i][g - first] = weights_tile(a_copies[i][g - first], t, row + i * T_SIDE, rows - i * T_SIDE, g,
                                           low[g - first], high[g - first]);
    }
    float *o = t->o + (ptrdiff_t)row * t->o_row;
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < t->dv; j += V_LANES) {
            float *at = o + (ptrdiff_t)i * t->o_row + j;
            v_store(at, v_mul(v_load(at), v_set(t->rescale[row + i])));
        }
    for (size_t column = 0; column < t->dv; column += 2 * T_SIDE) {
        const size_t left = t->dv - column, some = left > T_SIDE ? 2 : 1;
        for (size_t j = 0; j < some; j++)
            for (size_t g = 0; g < sums.groups; g++)
                b[j][g] = values_tile(b_copies[j][g], t, first + g, low[g], high[g], column + j * T_SIDE, seen);
        sums.c = o + column, sums.columns = some * T_SIDE; /* rows of o are whole vectors */
        tile_sums_run(&sums);
    }
}
static void mix_pairs(const attn_decode_tile *t) {
    for (size_t row = 0; row < t->rows; row += 2 * T_SIDE)
        mix_pairs_rows(t, row, t->rows - row < 2 * T_SIDE ? t->rows - row : 2 * T_SIDE, NULL);
}
static void mix_pairs_seen(const attn_decode_tile *t, size_t row) { mix_pairs_rows(t, row, 1, t->visible + row); }

#endif
