/* softmax.h: rows of a softmax, its logarithm, the cross entropy on top, and the largest elements of a row.
 *
 * Every row is reduced to its maximum m first, then to l = Σ e^(x − m); log-sum-exp is m + ln l. A row without a finite
 * or infinite maximum (all −inf, or empty) has weights 0 and log-sum-exp −inf; a NaN anywhere makes the row NaN. */
#ifndef ATTN_KERNEL_BODY_SOFTMAX_H
#define ATTN_KERNEL_BODY_SOFTMAX_H

#include "kernel/body/exp.h"
#include "kernel/body/partial.h"
#include "kernel/body/rows.h"

#define ROW_EMPTY (-__builtin_inff())

/* The largest element that is not NaN; −inf if there is none. */
V_FN float row_max(const float *x, size_t n) {
    V a = v_set(ROW_EMPTY), b = a;
    size_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        a = v_max(v_load(x + i), a);
        b = v_max(v_load(x + i + V_LANES), b);
    }
    a = v_max(a, b);
    for (; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        a = v_max(v_select(v_first(m), v_load_n(x + i, m), v_set(ROW_EMPTY)), a);
    }
    return v_max_of(a);
}

V_FN float row_sum(const float *x, size_t n) {
    V a = v_zero(), b = a;
    size_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        a = v_add(a, v_load(x + i));
        b = v_add(b, v_load(x + i + V_LANES));
    }
    a = v_add(a, b);
    for (; i < n; i += V_LANES) a = v_add(a, v_load_n(x + i, n - i < V_LANES ? n - i : V_LANES));
    return v_sum(a);
}

/* y = e^(x − m) where y is wanted; Σ of it. */
V_FN float row_exp(float *y, const float *x, size_t n, float max) {
    V m = v_set(max), a = v_zero(), b = a;
    size_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        V p = v_exp_negative(v_sub(v_load(x + i), m));
        V q = v_exp_negative(v_sub(v_load(x + i + V_LANES), m));
        if (y) v_store(y + i, p), v_store(y + i + V_LANES, q);
        a = v_add(a, p), b = v_add(b, q);
    }
    a = v_add(a, b);
    for (; i < n; i += V_LANES) {
        size_t k = n - i < V_LANES ? n - i : V_LANES;
        V p = v_and_mask(v_first(k), v_exp_negative(v_sub(v_load_n(x + i, k), m)));
        if (y) v_store_n(y + i, p, k);
        a = v_add(a, p);
    }
    return v_sum(a);
}

/* y = x·scale + shift */
V_FN void row_affine(float *y, const float *x, size_t n, float scale, float shift) {
    V s = v_set(scale), t = v_set(shift);
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) v_store(y + i, v_fma(v_load(x + i), s, t));
    if (i < n) v_store_n(y + i, v_fma(v_load_n(x + i, n - i), s, t), n - i);
}

/* True if all elements are −inf, and not NaN. */
V_FN bool row_is_empty(const float *x, size_t n, float max) {
    if (max > ROW_EMPTY) return false;
    for (size_t i = 0; i < n; i++)
        if (x[i] != ROW_EMPTY) return false;
    return true;
}

V_FN void row_fill(float *y, size_t n, float value) {
    for (size_t i = 0; i < n; i += V_LANES) v_store_n(y + i, v_set(value), n - i < V_LANES ? n - i : V_LANES);
}

/* y = softmax(x), y may be x; returns the log-sum-exp. */
static float softmax_row(float *y, const float *x, size_t n) {
    float max = row_max(x, n);
    if (row_is_empty(x, n, max)) {
        row_fill(y, n, 0.0f);
        return ROW_EMPTY;
    }
    float sum = row_exp(y, x, n, max);
    row_affine(y, y, n, 1.0f / sum, 0.0f);
    return max + logf(sum);
}

V_FN void softmax_bwd_lanes(float *dx, const float *dy, const float *y, size_t n, V inner, V scale, bool accumulate) {
    part_add(dx, v_mul(v_mul(part_load(y, n), scale), v_sub(part_load(dy, n), inner)), n, accumulate);
}

/* dx = y ∘ (dy − Σ y·dy), times scale; dx may be dy. */
static void softmax_row_bwd(float *dx, const float *dy, const float *y, size_t n, float scale, bool accumulate) {
    V inner = v_set(row_dot(y, dy, n)), s = v_set(scale);
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) softmax_bwd_lanes(dx + i, dy + i, y + i, V_LANES, inner, s, accumulate);
    if (i < n) softmax_bwd_lanes(dx + i, dy + i, y + i, n - i, inner, s, accumulate);
}

/* y = x − log-sum-exp; an empty row stays −inf. */
static void log_softmax_row(float *y, const float *x, size_t n) {
    float max = row_max(x, n);
    if (row_is_empty(x, n, max)) {
        row_fill(y, n, ROW_EMPTY);
        return;
    }
    float lse = logf(row_exp(NULL, x, n, max));
    V m = v_set(max), l = v_set(lse);
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) v_store(y + i, v_sub(v_sub(v_load(x + i), m), l));
    if (i < n) v_store_n(y + i, v_sub(v_sub(v_load_n(x + i, n - i), m), l), n - i);
}

V_FN void log_softmax_bwd_lanes(float *dx, const float *dy, const float *y, size_t n, V sum, bool accumulate) {
    part_add(dx, v_fnma(v_exp(part_load(y, n)), sum, part_load(dy, n)), n, accumulate);
}

/* dx = dy − e^y·Σ dy */
static void log_softmax_row_bwd(float *dx, const float *dy, const float *y, size_t n, bool accumulate) {
    V sum = v_set(row_sum(dy, n));
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) log_softmax_bwd_lanes(dx + i, dy + i, y + i, V_LANES, sum, accumulate);
    if (i < n) log_softmax_bwd_lanes(dx + i, dy + i, y + i, n - i, sum, accumulate);
}

/* One row of the cross entropy with label smoothing ε:
 *     loss = lse − (1 − ε)·x_target − ε·mean(x),   dx = scale·(softmax(x) − (1 − ε)·[target] − ε/n).
 * dx may be x, or NULL. out: loss, −log p(target). Returns whether target is the first maximum. */
static bool cross_entropy_row(float *dx, const float *x, size_t n, size_t target, float smoothing, float scale,
                              double out[2]) {
    float max = row_max(x, n), at = x[target];
    bool correct = at == max;
    for (size_t i = 0; correct && i < target; i++) correct = x[i] < max;
    double mean = smoothing > 0 ? (double)row_sum(x, n) / (double)n : 0.0;
    float sum = row_exp(dx, x, n, max);
    double lse = (double)max + log((double)sum);
    out[1] = lse - (double)at;
    out[0] = smoothing > 0 ? lse - (1.0 - (double)smoothing) * (double)at - (double)smoothing * mean : out[1];
    if (dx) {
        row_affine(dx, dx, n, scale / sum, -smoothing * scale / (float)n);
        dx[target] -= (1.0f - smoothing) * scale;
    }
    return correct;
}

/* The k ≤ n largest of a row, largest first; of equal ones the lower index; NaN counts as −inf. */
static void top_k_row(int32_t *ids, float *values, const float *x, size_t n, size_t k) {
    size_t held = 0;
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        if (held == k && !v_any(v_and(v_gt(v_load_n(x + i, m), v_set(values[k - 1])), v_first(m)))) continue;
        for (size_t j = i; j < i + m; j++) {
            float value = x[j] == x[j] ? x[j] : ROW_EMPTY;
            if (held == k && !(value > values[k - 1])) continue;
            size_t at = held < k ? held++ : k - 1;
            for (; at > 0 && value > values[at - 1]; at--) values[at] = values[at - 1], ids[at] = ids[at - 1];
            values[at] = value, ids[at] = (int32_t)j;
        }
    }
}

#endif
