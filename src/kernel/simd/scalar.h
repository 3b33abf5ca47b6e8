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

#include "base/half.h"
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
V_FN V v_raise(V a, V t) { /* a · 2ⁿ for t = n + 1.5·2^23: n is added to the bits of the exponent */
    uint32_t a_bits, t_bits;
    memcpy(&a_bits, &a, sizeof a_bits);
    memcpy(&t_bits, &t, sizeof t_bits);
    a_bits += t_bits << 23;
    memcpy(&a, &a_bits, sizeof a);
    return a;
}

V_FN VM v_lt(V a, V b) { return a < b; }
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
    const uint32_t x = attn_float_bits(a), y = attn_float_bits(b);
    const float upper = __builtin_fmaf(attn_float_of_bits(x & 0xffff0000u), attn_float_of_bits(y & 0xffff0000u), c);
    return __builtin_fmaf(attn_float_of_bits(x << 16), attn_float_of_bits(y << 16), upper);
}

V_FN V v_low_bf16(V a) { return attn_float_of_bits(attn_float_bits(a) << 16); } /* the first of a pair */

/* Across lanes: upper half onto lower half, until one is left. */
V_FN float v_sum(V a) { return a; }
V_FN float v_max_of(V a) { return a; }

V_FN void v_transpose(V x[V_LANES]) { (void)x; } /* lane i of x[j] ↔ lane j of x[i] */
#define V_TURNED 1 /* vectors that v_load_turned makes: lane j of x[i] = rows[j][at + i] */
V_FN void v_load_turned(V x[V_TURNED], const void *const *rows, size_t at) {
    x[0] = v_load((const float *)rows[0] + at);
}

V_FN V v_load_bf16(const uint16_t *p) { return attn_float_of_bf16(*p); }
V_FN void v_store_bf16(uint16_t *p, V a) { *p = attn_bf16_of(a); } /* to nearest, ties to even; NaN stays NaN */
V_FN V v_pair_bf16(V low, V high) { return attn_float_of_bits((uint32_t)attn_bf16_of(high) << 16 | attn_bf16_of(low)); }
V_FN void v_zip_bf16(V two[2], const uint16_t *a, const uint16_t *b) { /* pairs a[i], b[i] of two vectors of columns */
    for (size_t i = 0; i < 2; i++) two[i] = v_pair_bf16(v_load_bf16(a + i * V_LANES), v_load_bf16(b + i * V_LANES));
}
V_FN void v_split_bf16(uint16_t *low, uint16_t *high, V pairs) { /* the halves of pairs, each in its row */
    const uint32_t bits = attn_float_bits(pairs);
    *low = (uint16_t)bits, *high = (uint16_t)(bits >> 16);
}
V_FN V v_load_bf16_n(const uint16_t *p, size_t n) { return n ? v_load_bf16(p) : 0.0f; }
V_FN void v_store_bf16_n(uint16_t *p, V a, size_t n) {
    if (n) v_store_bf16(p, a);
}
V_FN V v_load_f16(const uint16_t *p) { return attn_float_of_f16(*p); }
V_FN V v_load_f16_n(const uint16_t *p, size_t n) { return n ? v_load_f16(p) : 0.0f; }
V_FN void v_store_f16(uint16_t *p, V a) { *p = attn_f16_of(a); }
V_FN void v_store_f16_n(uint16_t *p, V a, size_t n) {
    if (n) v_store_f16(p, a);
}
V_FN V v_load_i8(const int8_t *p) { return (float)*p; }

#endif
