/* exp.h: the exponential function of a vector.
 *
 *     x = n·ln 2 + r, n an integer, |r| ≤ ln 2 / 2;   e^x = 2^n (1 + r + r²·q(r))
 *
 * q is the minimax polynomial of degree 4 (3e-9 relative); the reduction is exact but for the last bits of ln 2.
 * Error ≤ 1 ulp; results below 2^−126 are 0 (where subnormal numbers are); NaN comes through. */
#ifndef ATTN_KERNEL_BODY_EXP_H
#define ATTN_KERNEL_BODY_EXP_H

#include <math.h>

/* e^r for |r| ≤ ln 2 / 2, with *n = round(x / ln 2). */
V_FN V v_exp_reduced(V x, V *n) {
    *n = v_round(v_mul(x, v_set(0x1.715476p+0f)));
    V r = v_fnma(*n, v_set(0x1.62e430p-1f), x);
    r = v_fma(*n, v_set(0x1.05c610p-29f), r);
    V q = v_fma(v_set(0.001381459733475546f), r, v_set(0.008368716998634961f));
    q = v_fma(q, r, v_set(0.041668388072741404f));
    q = v_fma(q, r, v_set(0.16666520630430748f));
    q = v_fma(q, r, v_set(0.4999999344765969f));
    return v_add(v_fma(v_mul(r, r), q, r), v_set(1.0f));
}

/* From here down n is −127, and v_pow2i(−127), all bits of the exponent 0, is 0. */
#define EXP_LOWEST (-88.0f)

/* e^x for x ≤ 0. */
V_FN V v_exp_negative(V x) {
    V n, p = v_exp_reduced(v_max(v_set(EXP_LOWEST), x), &n);
    return v_mul(p, v_pow2i(n));
}

/* e^x for any x; past 88.72 it is +inf. */
V_FN V v_exp(V x) {
    V n, p = v_exp_reduced(v_min(v_set(89.0f), v_max(v_set(EXP_LOWEST), x)), &n);
    V m = v_min(v_set(127.0f), n); /* 2^128 is no float: the last doubling is made by hand */
    p = v_fma(p, v_sub(n, m), p);
    return v_mul(p, v_pow2i(m));
}

/* 2^x for n vectors, side by side, since each step waits for the one before: x = k + r, k an integer, which lies in the
 * low bits of t, |r| ≤ 1/2; 2^r by the polynomial with these coefficients, the highest first. */
enum { EXP2_MOST = 4 };
V_FN void v_exp2_by(const float *coefficients, const int degree, const int n, V *x) {
    V t[EXP2_MOST], p[EXP2_MOST];
    ATTN_UNROLL for (int i = 0; i < n; i++) x[i] = v_max(v_set(-127.0f), x[i]);
    ATTN_UNROLL for (int i = 0; i < n; i++) t[i] = v_add(x[i], v_set(0x1.8p23f));
    ATTN_UNROLL for (int i = 0; i < n; i++) x[i] = v_sub(x[i], v_sub(t[i], v_set(0x1.8p23f)));
    ATTN_UNROLL for (int i = 0; i < n; i++) p[i] = v_set(coefficients[0]);
    ATTN_UNROLL for (int k = 1; k <= degree; k++) {
        ATTN_UNROLL for (int i = 0; i < n; i++) p[i] = v_fma(p[i], x[i], v_set(coefficients[k]));
    }
    ATTN_UNROLL for (int i = 0; i < n; i++) x[i] = v_raise(p[i], t[i]);
}

/* 2^x for any x; 2^r by a minimax polynomial (3e-9 relative). Error ≤ 1 ulp, exact for integers; 0 below 2^−126 (where
 * subnormal numbers are); NaN comes through. x < 128 is the caller's. */
V_FN void v_exp2_all(const int n, V *x) {
    static const float coefficients[] = {
        0x1.470b4ap-13f, 0x1.5f7276p-10f, 0x1.3b270ep-7f, 0x1.c6ae72p-5f, 0x1.ebfbe2p-3f, 0x1.62e432p-1f, 1.0f};
    v_exp2_by(coefficients, 6, n, x);
}
V_FN V v_exp2(V x) {
    v_exp2_all(1, &x);
    return x;
}

/* The same for numbers that are rounded to bf16 next, whose sum is not: 8e-8 relative. */
V_FN void v_exp2_bf16_all(const int n, V *x) {
    static const float coefficients[] = {0x1.5bfc8ep-10f, 0x1.3cee4cp-7f, 0x1.c6b62ap-5f,
                                         0x1.ebf9b2p-3f,  0x1.62e42cp-1f, 1.0f};
    v_exp2_by(coefficients, 5, n, x);
}
V_FN V v_exp2_bf16(V x) {
    v_exp2_bf16_all(1, &x);
    return x;
}

#endif
