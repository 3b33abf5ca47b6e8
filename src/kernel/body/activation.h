/* activation.h: tanh, the logistic function, GELU, SiLU, ReLU, with their derivatives.
 * All let NaN through; none exceeds the range of its function. */
#ifndef ATTN_KERNEL_BODY_ACTIVATION_H
#define ATTN_KERNEL_BODY_ACTIVATION_H

#include "kernel/body/exp.h"

/* tanh x for x ≥ 0 is (1 − e^−2x) / (1 + e^−2x), with e^−2x = s·(1 − 2p), s = 2^n, 2p = 1 − e^−2r, |r| ≤ ln 2 / 4:
 *
 *     tanh x = (1/2 − s/2 + s·p) / (1/2 + s/2 − s·p)
 *
 * p = r + r²·q(r) has no cancellation, so small x keep their relative accuracy; q is a minimax polynomial (1e-8 of p).
 * Error ≤ 2 ulp. Odd; ≤ 1 in magnitude; 1 from 9.01 on. */
V_FN V v_tanh(V x) {
    V half = v_set(0.5f), y = v_min(v_set(9.2f), v_abs(x));
    V n = v_round(v_mul(y, v_set(-0x1.715476p+1f)));
    V r = v_fma(n, v_set(0x1.62e430p-2f), y);
    V q = v_fma(v_set(-0.04442405048105438f), r, v_set(0.13386433430889538f));
    q = v_fma(q, r, v_set(-0.33333759954033115f));
    q = v_fma(q, r, v_set(0.6666617447077059f));
    q = v_fma(q, r, v_set(-0.9999999630763775f));
    V p = v_fma(v_mul(r, r), q, r), s = v_pow2i(n);
    V top = v_fma(s, p, v_fnma(s, half, half)), bottom = v_fnma(s, p, v_fma(s, half, half));
    return v_copysign(v_div(top, bottom), x);
}

/* σ(x) = 1 / (1 + e^−x), relatively accurate on both sides. */
V_FN V v_sigmoid(V x) {
    V e = v_exp_negative(v_neg(v_abs(x)));
    return v_div(v_select(v_lt(x, v_zero()), e, v_set(1.0f)), v_add(e, v_set(1.0f)));
}

/* The same with its derivative, which keeps its relative accuracy where σ is close to 1. */
V_FN V v_sigmoid_slope(V x, V *slope) {
    V e = v_exp_negative(v_neg(v_abs(x)));
    V high = v_div(v_set(1.0f), v_add(e, v_set(1.0f))), low = v_mul(e, high);
    *slope = v_mul(low, high);
    return v_select(v_lt(x, v_zero()), low, high);
}

/* The normal distribution: Φ(−t) = e^(−t²/2)·W(t) for t ≥ 0, W a minimax fraction on t ≤ 13.5 (5e-9 relative);
 * *density is φ(x). The exponent carries the rounding error of t², so that the tail keeps its relative accuracy. */
V_FN V v_normal(V x, V *density) {
    V t = v_min(v_set(13.5f), v_abs(x)), square = v_mul(t, t), rest = v_fma(t, t, v_neg(square));
    V e = v_exp_negative(v_mul(square, v_set(-0.5f)));
    e = v_fma(v_mul(rest, v_set(-0.5f)), e, e);
    V p = v_fma(v_set(0.004037323798542248f), t, v_set(0.04010028019795132f));
    V q = v_fma(v_set(0.010119931210538554f), t, v_set(0.10052370320401498f));
    p = v_fma(p, t, v_set(0.1816524273286397f));
    q = v_fma(q, t, v_set(0.4652926242441424f));
    p = v_fma(p, t, v_set(0.436155148544413f));
    q = v_fma(q, t, v_set(1.195923595084105f));
    p = v_fma(p, t, v_set(0.5000000025585255f));
    q = v_fma(q, t, v_set(1.6701952260761572f));
    q = v_fma(q, t, v_set(1.0f));
    V tail = v_div(v_mul(e, p), q);
    *density = v_mul(e, v_set(0.3989422804014327f));
    return v_select(v_lt(x, v_zero()), tail, v_sub(v_set(1.0f), tail));
}

#define GELU_TANH_LINEAR 1.5957691216057308f /* 2·sqrt(2/π) */
#define GELU_TANH_CUBIC 0.07135481282553113f /* 0.044715 times that */

/* x·(1 + tanh u)/2 with u = sqrt(2/π)(x + 0.044715 x³) is x·σ(2u). */
V_FN V v_gelu_tanh(V x) {
    V ratio = v_fma(v_mul(x, x), v_set(GELU_TANH_CUBIC), v_set(GELU_TANH_LINEAR));
    return v_mul(x, v_sigmoid(v_mul(x, ratio)));
}

V_FN V v_activation(V x, attn_activation act) {
    V density;
    switch (act) {
    case ATTN_IDENTITY: return x;
    case ATTN_TANH: return v_tanh(x);
    case ATTN_SIGMOID: return v_sigmoid(x);
    case ATTN_RELU: return v_max(v_zero(), x);
    case ATTN_GELU: return v_mul(x, v_normal(x, &density));
    case ATTN_GELU_TANH: return v_gelu_tanh(x);
    case ATTN_SILU: return v_mul(x, v_sigmoid(x));
    }
    return x;
}

/* dy·act'(·): of the result y for tanh, σ and ReLU, of the argument x for the others. Where an infinite x would
 * make ∞·0 the argument is cut, the derivative being 0 or 1 there. */
V_FN V v_activation_grad(V dy, V xy, attn_activation act) {
    V one = v_set(1.0f), s, slope, square;
    switch (act) {
    case ATTN_IDENTITY: return dy;
    case ATTN_TANH: return v_mul(dy, v_fnma(xy, xy, one));
    case ATTN_SIGMOID: return v_mul(dy, v_fnma(xy, xy, xy));
    case ATTN_RELU: return v_and_mask(v_gt(xy, v_zero()), dy);
    case ATTN_GELU:
        xy = v_max(v_set(-20.0f), v_min(v_set(20.0f), xy));
        s = v_normal(xy, &slope);
        return v_mul(dy, v_fma(xy, slope, s));
    case ATTN_GELU_TANH:
        xy = v_max(v_set(-20.0f), v_min(v_set(20.0f), xy));
        square = v_mul(xy, xy);
        s = v_sigmoid_slope(v_mul(xy, v_fma(square, v_set(GELU_TANH_CUBIC), v_set(GELU_TANH_LINEAR))), &slope);
        square = v_fma(square, v_set(3 * GELU_TANH_CUBIC), v_set(GELU_TANH_LINEAR));
        return v_mul(dy, v_fma(v_mul(xy, square), slope, s));
    case ATTN_SILU:
        xy = v_max(v_set(-200.0f), v_min(v_set(200.0f), xy));
        s = v_sigmoid_slope(xy, &slope);
        return v_mul(dy, v_fma(xy, slope, s));
    }
    return dy;
}

V_FN void activation_fwd_of(float *y, const float *x, size_t n, attn_activation act) {
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) v_store(y + i, v_activation(v_load(x + i), act));
    if (i < n) v_store_n(y + i, v_activation(v_load_n(x + i, n - i), act), n - i);
}

static void activation_fwd(float *y, const float *x, size_t n, attn_activation act) {
    switch (act) { /* one loop for each */
    case ATTN_IDENTITY: activation_fwd_of(y, x, n, ATTN_IDENTITY); break;
    case ATTN_TANH: activation_fwd_of(y, x, n, ATTN_TANH); break;
    case ATTN_SIGMOID: activation_fwd_of(y, x, n, ATTN_SIGMOID); break;
    case ATTN_RELU: activation_fwd_of(y, x, n, ATTN_RELU); break;
    case ATTN_GELU: activation_fwd_of(y, x, n, ATTN_GELU); break;
    case ATTN_GELU_TANH: activation_fwd_of(y, x, n, ATTN_GELU_TANH); break;
    case ATTN_SILU: activation_fwd_of(y, x, n, ATTN_SILU); break;
    }
}

V_FN void activation_bwd_of(float *dx, const float *dy, const float *xy, size_t n, attn_activation act,
                            bool accumulate) {
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        V d = v_activation_grad(v_load(dy + i), v_load(xy + i), act);
        v_store(dx + i, accumulate ? v_add(v_load(dx + i), d) : d);
    }
    if (i < n) {
        V d = v_activation_grad(v_load_n(dy + i, n - i), v_load_n(xy + i, n - i), act);
        v_store_n(dx + i, accumulate ? v_add(v_load_n(dx + i, n - i), d) : d, n - i);
    }
}

static void activation_bwd(float *dx, const float *dy, const float *xy, size_t n, attn_activation act,
                           bool accumulate) {
    switch (act) {
    case ATTN_IDENTITY: activation_bwd_of(dx, dy, dy, n, ATTN_IDENTITY, accumulate); break;
    case ATTN_TANH: activation_bwd_of(dx, dy, xy, n, ATTN_TANH, accumulate); break;
    case ATTN_SIGMOID: activation_bwd_of(dx, dy, xy, n, ATTN_SIGMOID, accumulate); break;
    case ATTN_RELU: activation_bwd_of(dx, dy, xy, n, ATTN_RELU, accumulate); break;
    case ATTN_GELU: activation_bwd_of(dx, dy, xy, n, ATTN_GELU, accumulate); break;
    case ATTN_GELU_TANH: activation_bwd_of(dx, dy, xy, n, ATTN_GELU_TANH, accumulate); break;
    case ATTN_SILU: activation_bwd_of(dx, dy, xy, n, ATTN_SILU, accumulate); break;
    }
}

#endif
