/* pointwise.h: element by element: sums, AdamW, dropout, sums of squares. */
#ifndef ATTN_KERNEL_BODY_POINTWISE_H
#define ATTN_KERNEL_BODY_POINTWISE_H

#include "kernel/body/partial.h"

/* y = a + b; y may be a or b. */
static void vector_add(float *y, const float *a, const float *b, size_t n) {
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) v_store(y + i, v_add(v_load(a + i), v_load(b + i)));
    if (i < n) v_store_n(y + i, v_add(v_load_n(a + i, n - i), v_load_n(b + i, n - i)), n - i);
}

/* Σ x² in double: sixteen chains, added in order. */
static double sum_of_squares(const float *x, size_t n) {
    double chain[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) chain[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; i + j < n; j++) chain[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; j < 16; j++) sum += chain[j];
    return sum;
}

/* m = β1·m + (1 − β1)·g    v = β2·v + (1 − β2)·g²    value = decay·value − rate·m / (sqrt(v)·correction + ε) */
V_FN void adamw_lanes(float *value, float *m, float *v, const float *grad, size_t n, const attn_adamw_factors *f) {
    V g = v_mul(part_load(grad, n), v_set(f->grad_scale));
    V first = v_fma(v_set(f->beta1), part_load(m, n), v_mul(v_set(1.0f - f->beta1), g));
    V second = v_fma(v_set(f->beta2), part_load(v, n), v_mul(v_set(1.0f - f->beta2), v_mul(g, g)));
    V step = v_div(first, v_fma(v_sqrt(second), v_set(f->correction), v_set(f->epsilon)));
    part_store(m, first, n);
    part_store(v, second, n);
    part_store(value, v_fnma(v_set(f->rate), step, v_mul(v_set(f->decay), part_load(value, n))), n);
}

static void adamw(float *value, float *m, float *v, const float *grad, size_t n, const attn_adamw_factors *factors) {
    attn_adamw_factors f = *factors; /* its own: no store may change it */
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) adamw_lanes(value + i, m + i, v + i, grad + i, V_LANES, &f);
    if (i < n) adamw_lanes(value + i, m + i, v + i, grad + i, n - i, &f);
}

/* Philox4x32-10 of n counters, word by word: a[i], b[i], c[i], d[i]. Written in plain loops that compilers vectorise.
 */
V_FN void philox_rounds(uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d, size_t n, uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++, key0 += 0x9e3779b9u, key1 += 0xbb67ae85u) {
        for (size_t i = 0; i < n; i++) {
            uint32_t p = (uint32_t)((uint64_t)a[i] * 0xd2511f53u >> 32),
                     q = (uint32_t)((uint64_t)c[i] * 0xcd9e8d57u >> 32);
            uint32_t low_p = a[i] * 0xd2511f53u, low_q = c[i] * 0xcd9e8d57u;
            a[i] = q ^ b[i] ^ key0;
            c[i] = p ^ d[i] ^ key1;
            b[i] = low_q;
            d[i] = low_p;
        }
    }
}

#define PHILOX_BLOCKS 64

/* PHILOX_BLOCKS counters at once: counter (offset, block + i), key seed. words[j][i] is word j of counter i. */
static void philox_blocks(uint32_t words[4][PHILOX_BLOCKS], uint64_t seed, uint64_t offset, uint64_t block) {
    uint32_t *a = words[0], *b = words[1], *c = words[2], *d = words[3];
    for (size_t i = 0; i < PHILOX_BLOCKS; i++) {
        a[i] = (uint32_t)offset, b[i] = (uint32_t)(offset >> 32);
        c[i] = (uint32_t)(block + i), d[i] = (uint32_t)((block + i) >> 32);
    }
    philox_rounds(a, b, c, d, PHILOX_BLOCKS, (uint32_t)seed, (uint32_t)(seed >> 32));
}

/* y = x·scale where the element's 16 bits are ≥ threshold, else 0. Element 8i + 2j + h has half h of word j of counter
 * block + i. y may be x. */
static void dropout(float *y, const float *x, size_t n, uint32_t threshold, float scale, uint64_t seed, uint64_t offset,
                    uint64_t block) {
    uint32_t words[4][PHILOX_BLOCKS];
    float keep[8 * PHILOX_BLOCKS];
    for (size_t first = 0; first < n; first += 8 * PHILOX_BLOCKS, block += PHILOX_BLOCKS) {
        philox_blocks(words, seed, offset, block);
        for (size_t i = 0; i < PHILOX_BLOCKS; i++)
            for (size_t j = 0; j < 4; j++) {
                keep[8 * i + 2 * j] = (words[j][i] & 0xffff) >= threshold ? scale : 0.0f;
                keep[8 * i + 2 * j + 1] = words[j][i] >> 16 >= threshold ? scale : 0.0f;
            }
        size_t m = n - first < 8 * PHILOX_BLOCKS ? n - first : 8 * PHILOX_BLOCKS;
        for (size_t i = 0; i < m; i += V_LANES) {
            size_t k = m - i < V_LANES ? m - i : V_LANES;
            V factor = v_load(keep + i); /* 8·PHILOX_BLOCKS is a multiple of V_LANES */
            V kept = v_mul(part_load(x + first + i, k), factor);
            part_store(y + first + i, v_and_mask(v_gt(factor, v_zero()), kept), k);
        }
    }
}

#endif
