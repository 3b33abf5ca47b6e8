/* norm.h: rows of layer normalisation (Ba, Kiros & Hinton 2016) and of RMS normalisation (Zhang & Sennrich 2019).
 * The variance is summed from x − mean, not from squares. */
#ifndef ATTN_KERNEL_BODY_NORM_H
#define ATTN_KERNEL_BODY_NORM_H

#include "kernel/body/partial.h"
#include "kernel/body/rows.h"
#include "kernel/body/softmax.h"

/* Σ (x − center)² */
V_FN float row_squares(const float *x, size_t n, float center) {
    V c = v_set(center), a = v_zero(), b = a;
    size_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        V d = v_sub(v_load(x + i), c), e = v_sub(v_load(x + i + V_LANES), c);
        a = v_fma(d, d, a), b = v_fma(e, e, b);
    }
    a = v_add(a, b);
    for (; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V d = part_keep(v_sub(part_load(x + i, m), c), m);
        a = v_fma(d, d, a);
    }
    return v_sum(a);
}

V_FN void norm_lanes(float *y, const float *x, const float *gain, const float *bias, size_t n, V center, V scale) {
    V h = v_mul(v_sub(part_load(x, n), center), scale);
    V g = part_load(gain, n);
    part_store(y, bias ? v_fma(h, g, part_load(bias, n)) : v_mul(h, g), n);
}

V_FN void norm_row(float *y, const float *x, const float *gain, const float *bias, size_t n, float center,
                   float scale) {
    V c = v_set(center), s = v_set(scale);
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) norm_lanes(y + i, x + i, gain + i, bias ? bias + i : NULL, V_LANES, c, s);
    if (i < n) norm_lanes(y + i, x + i, gain + i, bias ? bias + i : NULL, n - i, c, s);
}

/* y = gain ∘ (x − mean)·rstd + bias; bias may be NULL. */
static void layer_norm_row(float *y, float *mean, float *rstd, const float *x, const float *gain, const float *bias,
                           size_t n, float epsilon) {
    *mean = row_sum(x, n) / (float)n;
    *rstd = 1.0f / sqrtf(row_squares(x, n, *mean) / (float)n + epsilon);
    norm_row(y, x, gain, bias, n, *mean, *rstd);
}

static void rms_norm_row(float *y, float *rstd, const float *x, const float *gain, size_t n, float epsilon) {
    *rstd = 1.0f / sqrtf(row_dot(x, x, n) / (float)n + epsilon);
    norm_row(y, x, gain, NULL, n, 0.0f, *rstd);
}

V_FN void norm_bwd_lanes(float *dx, const float *dy, const float *x, const float *gain, size_t n, V center, V scale,
                         V mean_g, V mean_gx, bool accumulate) {
    V g = v_mul(part_load(dy, n), part_load(gain, n)), h = v_mul(v_sub(part_load(x, n), center), scale);
    part_add(dx, v_mul(scale, v_fnma(h, mean_gx, v_sub(g, mean_g))), n, accumulate);
}

/* With x̂ = (x − mean)·rstd and g = dy ∘ gain: dx = rstd·(g − mean(g) − x̂·mean(g ∘ x̂)); the middle term only where
 * the forward pass subtracted the mean. */
V_FN void norm_row_bwd(float *dx, const float *dy, const float *x, const float *gain, float mean, float rstd, size_t n,
                       bool centered, bool accumulate) {
    V c = v_set(mean), s = v_set(rstd), sum_g = v_zero(), sum_gx = v_zero();
    size_t i = 0;
    for (; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V g = v_mul(part_load(dy + i, m), part_load(gain + i, m));
        V h = v_mul(v_sub(part_load(x + i, m), c), s);
        sum_g = v_add(sum_g, g);
        sum_gx = v_add(sum_gx, part_keep(v_mul(g, h), m));
    }
    V mean_g = v_set(centered ? v_sum(sum_g) / (float)n : 0.0f), mean_gx = v_set(v_sum(sum_gx) / (float)n);
    for (i = 0; i + V_LANES <= n; i += V_LANES)
        norm_bwd_lanes(dx + i, dy + i, x + i, gain + i, V_LANES, c, s, mean_g, mean_gx, accumulate);
    if (i < n) norm_bwd_lanes(dx + i, dy + i, x + i, gain + i, n - i, c, s, mean_g, mean_gx, accumulate);
}

static void layer_norm_row_bwd(float *dx, const float *dy, const float *x, const float *gain, float mean, float rstd,
                               size_t n, bool accumulate) {
    norm_row_bwd(dx, dy, x, gain, mean, rstd, n, true, accumulate);
}

static void rms_norm_row_bwd(float *dx, const float *dy, const float *x, const float *gain, float rstd, size_t n,
                             bool accumulate) {
    norm_row_bwd(dx, dy, x, gain, 0.0f, rstd, n, false, accumulate);
}

/* The sums of n ≤ V_LANES columns; rows in order, in blocks of SUM_BLOCK. */
#define SUM_BLOCK 64

V_FN void norm_columns_lanes(float *dgain, float *dbias, const float *dy, const float *x, ptrdiff_t stride,
                             const float *mean, const float *rstd, size_t rows, size_t n, bool accumulate) {
    V total_gain = v_zero(), total_bias = v_zero();
    for (size_t first = 0; first < rows; first += SUM_BLOCK) {
        size_t end = rows - first < SUM_BLOCK ? rows : first + SUM_BLOCK;
        V gain = v_zero(), bias = v_zero();
        for (size_t r = first; r < end; r++) {
            V d = part_load(dy + (ptrdiff_t)r * stride, n);
            V h = v_sub(part_load(x + (ptrdiff_t)r * stride, n), v_set(mean ? mean[r] : 0.0f));
            bias = v_add(bias, d);
            gain = v_fma(d, v_mul(h, v_set(rstd[r])), gain);
        }
        total_gain = v_add(total_gain, gain);
        total_bias = v_add(total_bias, bias);
    }
    if (dgain) part_add(dgain, total_gain, n, accumulate);
    if (dbias) part_add(dbias, total_bias, n, accumulate);
}

/* dgain = Σ_rows dy ∘ x̂ and dbias = Σ_rows dy for `width` columns of rows that are `stride` apart. mean may be NULL
 * (RMS), and so may dgain or dbias. */
static void norm_columns(float *dgain, float *dbias, const float *dy, const float *x, ptrdiff_t stride,
                         const float *mean, const float *rstd, size_t rows, size_t width, bool accumulate) {
    size_t i = 0;
    for (; i + V_LANES <= width; i += V_LANES)
        norm_columns_lanes(dgain ? dgain + i : NULL, dbias ? dbias + i : NULL, dy + i, x + i, stride, mean, rstd, rows,
                           V_LANES, accumulate);
    if (i < width)
        norm_columns_lanes(dgain ? dgain + i : NULL, dbias ? dbias + i : NULL, dy + i, x + i, stride, mean, rstd, rows,
                           width - i, accumulate);
}

#endif
