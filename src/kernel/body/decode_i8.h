/* decode_i8.h: decode.h for a cache of bytes. Both products are of integers.
 *
 *     scores   s[row][key] = (scale of q · scale of the key) · Σ_d q[row][d] · k[d][key]
 *     steps    n[row][key] = round(p[row][key] · scale of the value / step[row]), at most 2^16 − 1
 *     output   o[row][c]   = o[row][c] · rescale + step[row] · Σ_key n[row][key] · v[key][c]
 *
 * With W the sum of a row's weights in this tile, each times its value's scale, a step is W rounded down to a power of
 * two, over `parts`, 2^12 or 2^15. So Σ n is less than 2^16 and a little, |v| ≤ 127, both sums are exact in any order,
 * and so is the product with the step: no instruction set has other bits. Rounding moves an output by half a step for
 * each key, with 2^12 by less than the mean scale of its values; what weights lose does not depend on greater ones in
 * other tiles. */
#ifndef ATTN_KERNEL_BODY_DECODE_I8_H
#define ATTN_KERNEL_BODY_DECODE_I8_H

#include "base/half.h"
#include "kernel/body/decode.h"

static void decode_scores_i8(const attn_decode_tile *t) {
    const size_t groups = (t->d + 3) / 4;
    for (size_t b = t->first; b < t->end; b++) {
        const uint8_t *k = t->k[b];
        for (size_t r = 0; r < t->rows; r++) {
            const int8_t *q = t->q8 + (ptrdiff_t)r * t->q8_row;
            int32_t sum[ATTN_KEYS] = {0};
            for (size_t g = 0; g < groups; g++) {
                const int32_t q0 = q[4 * g], q1 = q[4 * g + 1], q2 = q[4 * g + 2], q3 = q[4 * g + 3];
                const uint8_t *four = k + g * 4 * ATTN_KEYS;
                for (size_t j = 0; j < ATTN_KEYS; j++)
                    sum[j] += q0 * (four[4 * j] - 128) + q1 * (four[4 * j + 1] - 128) + q2 * (four[4 * j + 2] - 128) +
                              q3 * (four[4 * j + 3] - 128);
            }
            float *s = t->s + r * ATTN_TILE + b * ATTN_KEYS;
            for (size_t j = 0; j < ATTN_KEYS; j++) s[j] = (float)sum[j] * (t->q_scale[r] * t->k_scale[b][j]);
        }
    }
}

/* ---- steps ---------------------------------------------------------------------------------------- */

/* What the weights of a row, times the scales of their values, are multiplied by to be numbers of steps, from their
 * sum; the row's step is set. 0: there is nothing, or something is not finite, which a step of NaN passes on. */
V_FN float steps_in(const attn_decode_tile *t, size_t row, float all) {
    const float whole = attn_float_of_bits(attn_float_bits(all) & 0x7f800000), parts = t->parts[row];
    const bool some = all >= 0x1p-90f && whole <= 0x1p127f;
    t->step[row] = some ? whole / parts : all * 0.0f;
    return some ? parts / whole : 0.0f;
}

/* Weights of a row become numbers of steps. sum: they are added to the row's first. What is not visible stays 0,
 * whatever its scale is. */
V_FN void count_steps(const bool sum, const attn_decode_tile *t, size_t row) {
    const size_t first = t->first * ATTN_KEYS, end = t->end * ATTN_KEYS;
    float *p = t->s + row * ATTN_TILE;
    V weights = v_zero(), scaled = v_zero();
    for (size_t j = first; j < end; j += V_LANES) {
        const V weight = v_load(p + j), scale = v_load(t->v_scale[j / ATTN_KEYS] + j % ATTN_KEYS);
        const V product = v_and_mask(v_of_bits((uint32_t)(t->visible[row] >> j)), v_mul(weight, scale));
        weights = v_add(weights, weight), scaled = v_add(scaled, product);
        v_store(p + j, product);
    }
    if (sum) t->sum[row] = t->sum[row] * t->rescale[row] + v_sum(weights);
    const float by = steps_in(t, row, v_sum(scaled));
    if (by == 0.0f) memset(p + first, 0, (end - first) * sizeof *p);
    else
        for (size_t j = first; j < end; j += V_LANES)
            v_store(p + j, v_min(v_set(65535.0f), v_round(v_mul(v_load(p + j), v_set(by)))));
}
static void decode_steps(const attn_decode_tile *t) {
    for (size_t row = 0; row < t->rows; row++) count_steps(false, t, row);
}
static void decode_softmax_i8(const attn_decode_tile *t) {
    softmax_rows(true, t);
    for (size_t row = 0; row < t->rows; row++) count_steps(true, t, row);
}

/* ---- output --------------------------------------------------------------------------------------- */

/* Byte i of each lane, signed, as a float. */
V_FN V byte_of(V four, const int i) {
    typedef int32_t lanes __attribute__((vector_size(V_LANES * sizeof(int32_t))));
    typedef float floats __attribute__((vector_size(V_LANES * sizeof(float))));
    lanes x;
    memcpy(&x, &four, sizeof x);
    x = x << (24 - 8 * i) >> 24;
    const floats y = __builtin_convertvector(x, floats);
    memcpy(&four, &y, sizeof four);
    return four;
}

/* Some rows by some vectors of columns, four keys at a time. */
V_FN void mix_bytes(const int rows, const int vectors, const attn_decode_tile *t, size_t row, size_t column) {
    V chain[4][2];
    ATTN_UNROLL for (int r = 0; r < rows; r++) { ATTN_UNROLL for (int j = 0; j < vectors; j++) chain[r][j] = v_zero(); }
    for (size_t key = t->from / 4 * 4; key < t->to; key += 4) {
        const char *v = (const char *)t->v[key / ATTN_KEYS] + (ptrdiff_t)(key % ATTN_KEYS) * t->v_row + 4 * column;
        const ptrdiff_t ahead = (const char *)t->next_v[key / ATTN_KEYS] - (const char *)t->v[key / ATTN_KEYS];
        if (row == 0) fetch(v + ahead, 0, (size_t)(4 * vectors * V_LANES));
        const float *n = t->s + row * ATTN_TILE + key;
        ATTN_UNROLL for (int j = 0; j < vectors; j++) {
            const V four = v_load((const float *)(const void *)v + j * V_LANES);
            ATTN_UNROLL for (int i = 0; i < 4; i++) {
                const V value = byte_of(four, i);
                ATTN_UNROLL for (int r = 0; r < rows; r++) chain[r][j] =
                    v_fma(value, v_set(n[r * ATTN_TILE + i]), chain[r][j]);
            }
        }
    }
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        float *to = t->o + (ptrdiff_t)(row + (size_t)r) * t->o_row + column;
        const V rescale = v_set(t->rescale[row + (size_t)r]), step = v_set(t->step[row + (size_t)r]);
        ATTN_UNROLL for (int j = 0; j < vectors; j++) {
            v_store(to + j * V_LANES, v_fma(chain[r][j], step, v_mul(v_load(to + j * V_LANES), rescale)));
        }
    }
}

/* All columns of some rows. */
V_FN void mix_columns(const int rows, const attn_decode_tile *t, size_t row) {
    size_t column = 0;
    for (; column + 2 * V_LANES <= t->dv; column += 2 * V_LANES) mix_bytes(rows, 2, t, row, column);
    for (; column < t->dv; column += V_LANES) mix_bytes(rows, 1, t, row, column);
}
static void decode_mix_i8(const attn_decode_tile *t) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) mix_columns(4, t, row);
    for (; row < t->rows; row++) mix_columns(1, t, row);
}

#endif
