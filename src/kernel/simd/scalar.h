/* scalar.h: the vocabulary of the kernels in plain C, one lane. Runs anywhere, and says what each name means.
 *
 * Bodies are written in these names only; avx2.h, avx512.h and neon.h define the same ones.
 *   - a partial form (…_n) takes n = 0 … V_LANES lanes: a load gives 0 in the rest, a store leaves the rest
 *     untouched, and no byte past n elements is read or written;
 *   - no pointer needs an alignment;
 *   - v_min and v_max are a < b ? a : b and a > b ? a : b: a NaN in b comes through, a NaN in a does not;
 *   - v_fma is one rounding in every file, so a body's bits depend on V_LANES alone. */
#ifndef ATTN_KERNEL_SIMD_H
#define ATTN_KERNEL_SIMD_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V_LANES 1
#define V_FN static inline __attribute__((always_inline))
/* The micro-kernel of a matrix product: rows × panels of 16 columns in registers, and what fewer rows are split into.
 */
#define V_GEMM_ROWS 4
#define V_GEMM_PANELS 1
#define V_GEMM_TILES(X) X(1) X(4)
#define V_GEMM_FEW_ROWS 1
#define V_GEMM_FEW_PANELS 2
#define V_GEMM_FEW_TILES(X) X(1)
/* The micro-kernel of attention: rows × vectors in registers; and the vectors of a block of queries. */
#define V_FAST_BF16 false
#define V_PRODUCT_ROWS 4
#define V_PRODUCT_VECTORS 2
#define V_BLOCK_VECTORS 16

typedef float V;
typedef bool VM;

V_FN V v_zero(void) { return 0.0f; }
V_FN V v_set(float x) { return x; }
V_FN V v_load(const float *p) {
    float x;
    memcpy(&x, p, sizeof x);
    return x;
}
V_FN void v_store(float *p, V a) { *p = a; }
V_FN V v_load_n(const float *p, size_t n) { return n ? *p : 0.0f; }
V_FN void v_store_n(float *p, V a, size_t n) {
    if (n) *p = a;
}

V_FN V v_add(V a, V b) { return a + b; }
V_FN V v_sub(V a, V b) { return a - b; }
V_FN V v_mul(V a, V b) { return a * b; }
V_FN V v_div(V a, V b) { return a / b; }
V_FN V v_fma(V a, V b, V c) { return __builtin_fmaf(a, b, c); }   /* a·b + c */
V_FN V v_fnma(V a, V b, V c) { return __builtin_fmaf(-a, b, c); } /* c − a·b */
V_FN V v_min(V a, V b) { return a < b ? a : b; }
V_FN V v_max(V a, V b) { return a > b ? a : b; }
V_FN V v_abs(V a) { return __builtin_fabsf(a); }
V_FN V v_neg(V a) { return -a; }
V_FN V v_copysign(V a, V sign) { return __builtin_copysignf(a, sign); }
V_FN V v_round(V a) { return rintf(a); } /* to nearest, ties to even */
V_FN V v_sqrt(V a) { return sqrtf(a); }
V_FN V v_pow2i(V n) { /* 2ⁿ for an integral n in −126 … 127 */
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
V_FN V v_scale(V a, V n) { return a * v_pow2i(n); } /* a · 2ⁿ, the same n */
V_FN V v_raise(V a, V t) { /* a · 2ⁿ for t = n + 1.5·2^23: n is added to the bits of the exponent */
    uint32_t a_bits, t_bits;
    memcpy(&a_bits, &a, sizeof a_bits);
    memcpy(&t_bits, &t, sizeof t_bits);
    a_bits += t_bits << 23;
    memcpy(&a, &a_bits, sizeof a);
    return a;
}

V_FN VM v_lt(V a, V b) { return a < b; }
V_FN VM v_le(V a, V b) { return a <= b; }
V_FN VM v_gt(V a, V b) { return a > b; }
V_FN VM v_eq(V a, V b) { return a == b; }
V_FN VM v_is_nan(V a) { return a != a; }
V_FN VM v_first(size_t n) { return n > 0; } /* lanes 0 … n−1 */
V_FN VM v_and(VM a, VM b) { return a && b; }
V_FN bool v_any(VM m) { return m; }
V_FN V v_and_mask(VM m, V a) { return m ? a : 0.0f; } /* 0 where m is false */
V_FN V v_select(VM m, V a, V b) { return m ? a : b; }
V_FN uint32_t v_bits(VM m) { return m; } /* bit i is lane i */
V_FN VM v_of_bits(uint32_t bits) { return bits & 1; }

/* Lanes that hold two bf16, the second in the upper half: c + a₁b₁ + a₀b₀; and such a lane from two floats, rounded. */
V_FN V v_dot_bf16(V a, V b, V c) {
    uint32_t x, y, halves[4];
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    halves[0] = x << 16, halves[1] = x & 0xffff0000u, halves[2] = y << 16, halves[3] = y & 0xffff0000u;
    float f[4];
    memcpy(f, halves, sizeof f);
    return __builtin_fmaf(f[0], f[2], __builtin_fmaf(f[1], f[3], c));
}

V_FN V v_low_bf16(V a) { /* the first of a pair */
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    bits <<= 16;
    memcpy(&a, &bits, sizeof a);
    return a;
}

/* Across lanes: upper half onto lower half, until one is left. */
V_FN float v_sum(V a) { return a; }
V_FN float v_max_of(V a) { return a; }

V_FN void v_transpose(V x[V_LANES]) { (void)x; } /* lane i of x[j] ↔ lane j of x[i] */

V_FN V v_load_bf16(const uint16_t *p) {
    uint32_t bits = (uint32_t)*p << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
V_FN void v_store_bf16(uint16_t *p, V a) { /* to nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    if (a != a) *p = (uint16_t)(bits >> 16 | 0x40);
    else *p = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
V_FN V v_pair_bf16(V low, V high) {
    uint16_t pair[2];
    v_store_bf16(pair, low);
    v_store_bf16(pair + 1, high);
    uint32_t bits = (uint32_t)pair[1] << 16 | pair[0];
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
V_FN void v_split_bf16(uint16_t *low, uint16_t *high, V pairs) { /* the halves of pairs, each in its row */
    uint32_t bits;
    memcpy(&bits, &pairs, sizeof bits);
    *low = (uint16_t)bits, *high = (uint16_t)(bits >> 16);
}
V_FN V v_load_bf16_n(const uint16_t *p, size_t n) { return n ? v_load_bf16(p) : 0.0f; }
V_FN void v_store_bf16_n(uint16_t *p, V a, size_t n) {
    if (n) v_store_bf16(p, a);
}
V_FN V v_load_f16(const uint16_t *p) {
    uint32_t magnitude = (uint32_t)(*p & 0x7fff) << 13, sign = (uint32_t)(*p & 0x8000) << 16;
    float x;
    memcpy(&x, &magnitude, sizeof x);
    x *= 0x1p112f;                                                     /* the exponent's bias is 127 here, 15 there */
    if (magnitude < 0x800000) x = (float)(magnitude >> 13) * 0x1p-24f; /* subnormal there: tasks read it here as 0 */
    memcpy(&magnitude, &x, sizeof x);
    if ((*p & 0x7c00) == 0x7c00) magnitude |= 0x7f800000;
    magnitude |= sign;
    memcpy(&x, &magnitude, sizeof x);
    return x;
}
V_FN V v_load_f16_n(const uint16_t *p, size_t n) { return n ? v_load_f16(p) : 0.0f; }
V_FN void v_store_f16(uint16_t *p, V a) { /* to nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) { /* NaN */
        *p = (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    } else if (magnitude >= 0x477ff000) { /* rounds to 2^16 or more */
        *p = (uint16_t)(sign | 0x7c00);
    } else if (magnitude >= 0x38800000) {
        *p = (uint16_t)(sign | ((magnitude - 0x38000000 + 0xfff + (magnitude >> 13 & 1)) >> 13));
    } else { /* subnormal there: the addition rounds at the right bit */
        float x = __builtin_fabsf(a) + 0.5f;
        memcpy(&magnitude, &x, sizeof magnitude);
        *p = (uint16_t)(sign | (magnitude - 0x3f000000));
    }
}
V_FN void v_store_f16_n(uint16_t *p, V a, size_t n) {
    if (n) v_store_f16(p, a);
}
V_FN V v_load_i8(const int8_t *p) { return (float)*p; }

#endif
