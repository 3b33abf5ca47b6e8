/* avx512.h: the vocabulary of the kernels for AVX-512 (F, BW, VL, DQ), 16 lanes. scalar.h says what each name means. */
#ifndef ATTN_KERNEL_SIMD_H
#define ATTN_KERNEL_SIMD_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define V_LANES 16
#define V_FN static inline __attribute__((always_inline))
#define V_GEMM_ROWS 12
#define V_GEMM_PANELS 2
#define V_GEMM_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(10) X(12)
#define V_GEMM_FEW_ROWS 3
#define V_GEMM_FEW_PANELS 4
#define V_GEMM_FEW_TILES(X) X(1) X(2) X(3)
#define V_PRODUCT_ROWS 8
#define V_PRODUCT_VECTORS 3
#define V_BLOCK_VECTORS 3

typedef __m512 V;
typedef __mmask16 VM;

V_FN VM v_first(size_t n) { return (VM)_bzhi_u32(0xffff, (uint32_t)n); }

V_FN V v_zero(void) { return _mm512_setzero_ps(); }
V_FN V v_set(float x) { return _mm512_set1_ps(x); }
V_FN V v_load(const float *p) { return _mm512_loadu_ps(p); }
V_FN void v_store(float *p, V a) { _mm512_storeu_ps(p, a); }
V_FN V v_load_n(const float *p, size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
V_FN void v_store_n(float *p, V a, size_t n) { _mm512_mask_storeu_ps(p, v_first(n), a); }

V_FN V v_add(V a, V b) { return _mm512_add_ps(a, b); }
V_FN V v_sub(V a, V b) { return _mm512_sub_ps(a, b); }
V_FN V v_mul(V a, V b) { return _mm512_mul_ps(a, b); }
V_FN V v_div(V a, V b) { return _mm512_div_ps(a, b); }
V_FN V v_fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
V_FN V v_fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
V_FN V v_min(V a, V b) { return _mm512_min_ps(a, b); }
V_FN V v_max(V a, V b) { return _mm512_max_ps(a, b); }
V_FN V v_abs(V a) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
V_FN V v_neg(V a) { return _mm512_xor_ps(_mm512_set1_ps(-0.0f), a); }
V_FN V v_copysign(V a, V sign) {
    __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    return _mm512_castsi512_ps(/* 0xca: bit of the first chooses second or third */
                               _mm512_ternarylogic_epi32(magnitude, _mm512_castps_si512(a), _mm512_castps_si512(sign),
                                                         0xca));
}
V_FN V v_round(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
V_FN V v_sqrt(V a) { return _mm512_sqrt_ps(a); }
V_FN V v_pow2i(V n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
V_FN V v_raise(V a, V t) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}

V_FN VM v_lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
V_FN VM v_gt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
V_FN VM v_eq(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
V_FN VM v_is_nan(V a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
V_FN VM v_and(VM a, VM b) { return a & b; }
V_FN bool v_any(VM m) { return m != 0; }
V_FN V v_and_mask(VM m, V a) { return _mm512_maskz_mov_ps(m, a); }
V_FN V v_select(VM m, V a, V b) { return _mm512_mask_blend_ps(m, b, a); }
V_FN uint32_t v_bits(VM m) { return m; }
V_FN VM v_of_bits(uint32_t bits) { return (VM)bits; }

V_FN float v_sum(V a) {
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
V_FN float v_max_of(V a) {
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* 4 × 4 within each quarter of 4 vectors. */
V_FN void v_transpose_quarters(V x[4]) {
    __m512d low0 = _mm512_castps_pd(_mm512_unpacklo_ps(x[0], x[1]));
    __m512d low1 = _mm512_castps_pd(_mm512_unpacklo_ps(x[2], x[3]));
    __m512d high0 = _mm512_castps_pd(_mm512_unpackhi_ps(x[0], x[1]));
    __m512d high1 = _mm512_castps_pd(_mm512_unpackhi_ps(x[2], x[3]));
    x[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
    x[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
    x[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
    x[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
}
V_FN void v_transpose(V x[V_LANES]) {
    for (int i = 0; i < 16; i += 4) v_transpose_quarters(x + i);
    for (int i = 0; i < 4; i++) { /* 4 × 4 of the quarters */
        V a = _mm512_shuffle_f32x4(x[i], x[i + 4], 0x88), b = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0x88);
        V c = _mm512_shuffle_f32x4(x[i], x[i + 4], 0xdd), d = _mm512_shuffle_f32x4(x[i + 8], x[i + 12], 0xdd);
        x[i] = _mm512_shuffle_f32x4(a, b, 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(c, d, 0x88);
        x[i + 8] = _mm512_shuffle_f32x4(a, b, 0xdd);
        x[i + 12] = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
}
#define V_TURNED 8
V_FN void v_load_turned(V x[V_TURNED], const void *const *rows, size_t at) {
    V y[8];
    for (int i = 0; i < 8; i++) { /* loads put halves of two rows together, which spares shuffles */
        const float *low = (const float *)rows[i / 4 * 8 + i % 4] + at,
                    *high = (const float *)rows[i / 4 * 8 + i % 4 + 4] + at;
        y[i] = _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high), 1);
    }
    v_transpose_quarters(y), v_transpose_quarters(y + 4);
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_f32x4(y[i], y[i + 4], 0x88);
        x[i + 4] = _mm512_shuffle_f32x4(y[i], y[i + 4], 0xdd);
    }
}

V_FN V v_bf16_widen(__m256i h) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16)); }
V_FN __m256i v_bf16_narrow(V a) {
    __m512i bits = _mm512_castps_si512(a), high = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i nearest = _mm512_srli_epi32(_mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd), 16);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(nearest, v_is_nan(a), high, _mm512_set1_epi32(0x40)));
}
V_FN V v_low_bf16(V a) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a), 16)); }
V_FN V v_high_bf16(V a) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(-65536)));
}
#if defined(__AVX512BF16__)
#define V_FAST_BF16 true
V_FN V v_dot_bf16(V a, V b, V c) {
    return _mm512_dpbf16_ps(c, (__m512bh)_mm512_castps_si512(a), (__m512bh)_mm512_castps_si512(b));
}
V_FN V v_pair_bf16(V low, V high) {
    __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i lanes = _mm512_or_si512(first, _mm512_slli_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(16)), 16));
    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(lanes, (__m512i)_mm512_cvtne2ps_pbh(high, low)));
}
#else
#define V_FAST_BF16 false
V_FN V v_dot_bf16(V a, V b, V c) {
    return v_fma(v_low_bf16(a), v_low_bf16(b), v_fma(v_high_bf16(a), v_high_bf16(b), c));
}
V_FN V v_pair_bf16(V low, V high) {
    return _mm512_castsi512_ps(_mm512_or_si512(_mm512_cvtepu16_epi32(v_bf16_narrow(low)),
                                               _mm512_slli_epi32(_mm512_cvtepu16_epi32(v_bf16_narrow(high)), 16)));
}
#endif
V_FN void v_split_bf16(uint16_t *low, uint16_t *high, V pairs) {
    __m512i bits = _mm512_castps_si512(pairs);
    _mm256_storeu_si256((__m256i *)low, _mm512_cvtepi32_epi16(bits));
    _mm256_storeu_si256((__m256i *)high, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
}
V_FN V v_load_bf16(const uint16_t *p) { return v_bf16_widen(_mm256_loadu_si256((const __m256i *)p)); }
V_FN void v_zip_bf16(V two[2], const uint16_t *a, const uint16_t *b) {
    const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
    __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); /* i and 32 + i */
    first = _mm512_or_si512(first, _mm512_slli_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(32)), 16));
    const __m512i second = _mm512_add_epi16(first, _mm512_set1_epi16(16));
    two[0] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(x, first, y));
    two[1] = _mm512_castsi512_ps(_mm512_permutex2var_epi16(x, second, y));
}
V_FN void v_store_bf16(uint16_t *p, V a) { _mm256_storeu_si256((__m256i *)p, v_bf16_narrow(a)); }
V_FN V v_load_bf16_n(const uint16_t *p, size_t n) { return v_bf16_widen(_mm256_maskz_loadu_epi16(v_first(n), p)); }
V_FN void v_store_bf16_n(uint16_t *p, V a, size_t n) { _mm256_mask_storeu_epi16(p, v_first(n), v_bf16_narrow(a)); }
V_FN V v_load_f16(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
V_FN V v_load_f16_n(const uint16_t *p, size_t n) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p)); }
V_FN __m256i v_f16_narrow(V a) { return _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
V_FN void v_store_f16(uint16_t *p, V a) { _mm256_storeu_si256((__m256i *)p, v_f16_narrow(a)); }
V_FN void v_store_f16_n(uint16_t *p, V a, size_t n) { _mm256_mask_storeu_epi16(p, v_first(n), v_f16_narrow(a)); }
V_FN V v_load_i8(const int8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#endif
