/* rotary.h: one row of rotary position embedding (Su et al. 2021). Every pair is turned by itself:
 *     y1 = x1·cos − x2·sin     y2 = x2·cos + x1·sin     one product is rounded, the other is fused with the sum
 * so the bits do not depend on the vector's width. */
#ifndef ATTN_KERNEL_BODY_ROTARY_H
#define ATTN_KERNEL_BODY_ROTARY_H

#include "kernel/body/attention.h" /* load_any */

enum { ROTARY_CHUNK = 64 };

V_FN void rotary_lanes(attn_dtype dtype, void *y1, void *y2, const void *x1, const void *x2, const float *cos,
                       const float *sin, size_t i, size_t n, V sign) {
    V a = load_any(dtype, x1, i, n), b = load_any(dtype, x2, i, n);
    V c = part_load(cos + i, n), s = v_mul(sign, part_load(sin + i, n));
    store_any(dtype, y1, i, v_fnma(b, s, v_mul(a, c)), n);
    store_any(dtype, y2, i, v_fma(a, s, v_mul(b, c)), n);
}

/* Pair i is x1[i], x2[i]; y1 may be x1, y2 may be x2. */
V_FN void rotary_pairs(attn_dtype dtype, void *y1, void *y2, const void *x1, const void *x2, const float *cos,
                       const float *sin, size_t n, float sign) {
    V s = v_set(sign);
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) rotary_lanes(dtype, y1, y2, x1, x2, cos, sin, i, V_LANES, s);
    if (i < n) rotary_lanes(dtype, y1, y2, x1, x2, cos, sin, i, n - i, s);
}

/* Pairs are neighbours: a chunk of them is laid out as two halves, turned, and laid back. */
V_FN void rotary_neighbours_f32(float *y, const float *x, const float *cos, const float *sin, size_t half, float sign) {
    float a[ROTARY_CHUNK], b[ROTARY_CHUNK];
    for (size_t i = 0; i < half; i += ROTARY_CHUNK) {
        size_t n = half - i < ROTARY_CHUNK ? half - i : ROTARY_CHUNK;
        for (size_t j = 0; j < n; j++) a[j] = x[2 * (i + j)], b[j] = x[2 * (i + j) + 1];
        rotary_pairs(ATTN_F32, a, b, a, b, cos + i, sin + i, n, sign);
        for (size_t j = 0; j < n; j++) y[2 * (i + j)] = a[j], y[2 * (i + j) + 1] = b[j];
    }
}
V_FN void rotary_neighbours_16(attn_dtype dtype, uint16_t *y, const uint16_t *x, const float *cos, const float *sin,
                               size_t half, float sign) {
    uint16_t a[ROTARY_CHUNK], b[ROTARY_CHUNK];
    for (size_t i = 0; i < half; i += ROTARY_CHUNK) {
        size_t n = half - i < ROTARY_CHUNK ? half - i : ROTARY_CHUNK;
        for (size_t j = 0; j < n; j++) a[j] = x[2 * (i + j)], b[j] = x[2 * (i + j) + 1];
        rotary_pairs(dtype, a, b, a, b, cos + i, sin + i, n, sign);
        for (size_t j = 0; j < n; j++) y[2 * (i + j)] = a[j], y[2 * (i + j) + 1] = b[j];
    }
}

V_FN void rotary_halves(attn_dtype dtype, void *y, const void *x, const float *cos, const float *sin, size_t half,
                        float sign) {
    size_t bytes = half * (dtype == ATTN_F32 ? sizeof(float) : sizeof(uint16_t));
    rotary_pairs(dtype, y, (char *)y + bytes, x, (const char *)x + bytes, cos, sin, half, sign);
}

/* The first 2·half elements of a row; y may be x. */
static void rotary_row(void *y, const void *x, attn_dtype dtype, const float *cos, const float *sin, size_t half,
                       bool interleaved, bool inverse) {
    float sign = inverse ? -1.0f : 1.0f;
    if (interleaved && dtype == ATTN_F32) rotary_neighbours_f32(y, x, cos, sin, half, sign);
    else if (interleaved) rotary_neighbours_16(dtype, y, x, cos, sin, half, sign);
    else if (dtype == ATTN_F32) rotary_halves(ATTN_F32, y, x, cos, sin, half, sign);
    else if (dtype == ATTN_BF16) rotary_halves(ATTN_BF16, y, x, cos, sin, half, sign);
    else rotary_halves(ATTN_F16, y, x, cos, sin, half, sign);
}

#endif
