/* norm.h: rows of layer normalisation (Ba, Kiros & Hinton 2016) and of RMS normalisation (Zhang & Sennrich 2019).
 * The variance is summed from x − mean, not from squares. */
#ifndef ATTN_KERNEL_BODY_NORM_H
#define ATTN_KERNEL_BODY_NORM_H

#include "kernel/body/rows.h"
#include "kernel/body/softmax.h"

/* y = gain ∘ (x − mean)·rstd + bias; bias may be NULL. */
static void layer_norm_row(float *y, float *mean, float *rstd, const float *x, const float *gain, const float *bias,
                           size_t n, float epsilon) {
    float center = row_sum(x, n) / (float)n;
    V c = v_set(center), a = v_zero();
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V d = v_and_mask(v_first(m), v_sub(v_load_n(x + i, m), c));
        a = v_fma(d, d, a);
    }
    float scale = 1.0f / sqrtf(v_sum(a) / (float)n + epsilon);
    V s = v_set(scale);
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V h = v_mul(v_sub(v_load_n(x + i, m), c), s);
        v_store_n(y + i, v_fma(h, v_load_n(gain + i, m), bias ? v_load_n(bias + i, m) : v_zero()), m);
    }
    *mean = center;
    *rstd = scale;
}

static void rms_norm_row(float *y, float *rstd, const float *x, const float *gain, size_t n, float epsilon) {
    float scale = 1.0f / sqrtf(row_dot(x, x, n) / (float)n + epsilon);
    V s = v_set(scale);
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        v_store_n(y + i, v_mul(v_mul(v_load_n(x + i, m), s), v_load_n(gain + i, m)), m);
    }
    *rstd = scale;
}

/* With x̂ = (x − mean)·rstd and g = dy ∘ gain: dx = rstd·(g − mean(g) − x̂·mean(g ∘ x̂)); the middle term only where
 * the forward pass subtracted the mean. */
V_FN void norm_row_bwd(float *dx, const float *dy, const float *x, const float *gain, float mean, float rstd, size_t n,
                       bool centered, bool accumulate) {
    V c = v_set(mean), s = v_set(rstd), sum_g = v_zero(), sum_gx = v_zero();
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V g = v_mul(v_load_n(dy + i, m), v_load_n(gain + i, m));
        V h = v_mul(v_sub(v_load_n(x + i, m), c), s);
        sum_g = v_add(sum_g, g);
        sum_gx = v_add(sum_gx, v_and_mask(v_first(m), v_mul(g, h)));
    }
    V mean_g = v_set(centered ? v_sum(sum_g) / (float)n : 0.0f), mean_gx = v_set(v_sum(sum_gx) / (float)n);
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V g = v_mul(v_load_n(dy + i, m), v_load_n(gain + i, m));
        V h = v_mul(v_sub(v_load_n(x + i, m), c), s);
        V d = v_mul(s, v_fnma(h, mean_gx, v_sub(g, mean_g)));
        v_store_n(dx + i, accumulate ? v_add(v_load_n(dx + i, m), d) : d, m);
    }
}

static void layer_norm_row_bwd(float *dx, const float *dy, const float *x, const float *gain, float mean, float rstd,
                               size_t n, bool accumulate) {
    norm_row_bwd(dx, dy, x, gain, mean, rstd, n, true, accumulate);
}

static void rms_norm_row_bwd(float *dx, const float *dy, const float *x, const float *gain, float rstd, size_t n,
                             bool accumulate) {
    norm_row_bwd(dx, dy, x, gain, 0.0f, rstd, n, false, accumulate);
}

/* dgain = Σ_rows dy ∘ x̂ and dbias = Σ_rows dy for `width` columns of rows that are `stride` apart; rows in order, in
 * blocks of SUM_BLOCK. mean may be NULL (RMS), and so may dgain or dbias. */
#define SUM_BLOCK 64

static void norm_columns(float *dgain, float *dbias, const float *dy, const float *x, ptrdiff_t stride,
                         const float *mean, const float *rstd, size_t rows, size_t width, bool accumulate) {
    for (size_t i = 0; i < width; i += V_LANES) {
        size_t m = width - i < V_LANES ? width - i : V_LANES;
        V total_gain = v_zero(), total_bias = v_zero();
        for (size_t first = 0; first < rows; first += SUM_BLOCK) {
            size_t end = rows - first < SUM_BLOCK ? rows : first + SUM_BLOCK;
            V gain = v_zero(), bias = v_zero();
            for (size_t r = first; r < end; r++) {
                V d = v_load_n(dy + (ptrdiff_t)r * stride + i, m);
                bias = v_add(bias, d);
                if (!dgain) continue;
                V h = v_sub(v_load_n(x + (ptrdiff_t)r * stride + i, m), v_set(mean ? mean[r] : 0.0f));
                gain = v_fma(d, v_mul(h, v_set(rstd[r])), gain);
            }
            total_gain = v_add(total_gain, gain);
            total_bias = v_add(total_bias, bias);
        }
        if (dgain) v_store_n(dgain + i, accumulate ? v_add(v_load_n(dgain + i, m), total_gain) : total_gain, m);
        if (dbias) v_store_n(dbias + i, accumulate ? v_add(v_load_n(dbias + i, m), total_bias) : total_bias, m);
    }
}

#endif
