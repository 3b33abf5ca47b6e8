/* avx2.h: the vocabulary of the kernels for AVX2 with FMA and F16C, 8 lanes. scalar.h says what each name means. */
#ifndef ATTN_KERNEL_SIMD_H
#define ATTN_KERNEL_SIMD_H

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V_LANES 8
#define V_FN static inline __attribute__((always_inline))
#define V_GEMM_ROWS 6
#define V_GEMM_PANELS 1
#define V_GEMM_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define V_GEMM_FEW_ROWS 2
#define V_GEMM_FEW_PANELS 2
#define V_GEMM_FEW_TILES(X) X(1) X(2)
#define V_FAST_BF16 false
#define V_PRODUCT_ROWS 4
#define V_PRODUCT_VECTORS 3
#define V_BLOCK_VECTORS 3

typedef __m256 V;
typedef __m256 VM; /* all bits of a lane, or none */

V_FN __m256i v_first_i(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_FN VM v_first(size_t n) { return _mm256_castsi256_ps(v_first_i(n)); }

V_FN V v_zero(void) { return _mm256_setzero_ps(); }
V_FN V v_set(float x) { return _mm256_set1_ps(x); }
V_FN V v_load(const float *p) { return _mm256_loadu_ps(p); }
V_FN void v_store(float *p, V a) { _mm256_storeu_ps(p, a); }
V_FN V v_load_n(const float *p, size_t n) { return _mm256_maskload_ps(p, v_first_i(n)); }
V_FN void v_store_n(float *p, V a, size_t n) { _mm256_maskstore_ps(p, v_first_i(n), a); }

V_FN V v_add(V a, V b) { return _mm256_add_ps(a, b); }
V_FN V v_sub(V a, V b) { return _mm256_sub_ps(a, b); }
V_FN V v_mul(V a, V b) { return _mm256_mul_ps(a, b); }
V_FN V v_div(V a, V b) { return _mm256_div_ps(a, b); }
V_FN V v_fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
V_FN V v_fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
V_FN V v_min(V a, V b) { return _mm256_min_ps(a, b); }
V_FN V v_max(V a, V b) { return _mm256_max_ps(a, b); }
V_FN V v_abs(V a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
V_FN V v_neg(V a) { return _mm256_xor_ps(_mm256_set1_ps(-0.0f), a); }
V_FN V v_copysign(V a, V sign) {
    V bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign));
}
V_FN V v_round(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
V_FN V v_sqrt(V a) { return _mm256_sqrt_ps(a); }
V_FN V v_pow2i(V n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
V_FN V v_raise(V a, V t) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}

V_FN VM v_lt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
V_FN VM v_gt(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_GT_OQ); }
V_FN VM v_eq(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
V_FN VM v_is_nan(V a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
V_FN VM v_and(VM a, VM b) { return _mm256_and_ps(a, b); }
V_FN bool v_any(VM m) { return _mm256_movemask_ps(m) != 0; }
V_FN V v_and_mask(VM m, V a) { return _mm256_and_ps(m, a); }
V_FN V v_select(VM m, V a, V b) { return _mm256_blendv_ps(b, a, m); }
V_FN uint32_t v_bits(VM m) { return (uint32_t)_mm256_movemask_ps(m); }
V_FN VM v_of_bits(uint32_t bits) {
    __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)bits), lane), lane));
}

V_FN float v_sum(V a) {
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
V_FN float v_max_of(V a) {
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* 4 × 4 within each half of 4 vectors. */
V_FN void v_transpose_halves(V x[4]) {
    V low0 = _mm256_unpacklo_ps(x[0], x[1]), low1 = _mm256_unpacklo_ps(x[2], x[3]);
    V high0 = _mm256_unpackhi_ps(x[0], x[1]), high1 = _mm256_unpackhi_ps(x[2], x[3]);
    x[0] = _mm256_shuffle_ps(low0, low1, 0x44);
    x[1] = _mm256_shuffle_ps(low0, low1, 0xee);
    x[2] = _mm256_shuffle_ps(high0, high1, 0x44);
    x[3] = _mm256_shuffle_ps(high0, high1, 0xee);
}
V_FN void v_transpose(V x[V_LANES]) {
    v_transpose_halves(x), v_transpose_halves(x + 4);
    for (int i = 0; i < 4; i++) {
        V low = _mm256_permute2f128_ps(x[i], x[i + 4], 0x20);
        x[i + 4] = _mm256_permute2f128_ps(x[i], x[i + 4], 0x31);
        x[i] = low;
    }
}
#define V_TURNED 4
V_FN void v_load_turned(V x[V_TURNED], const void *const *rows, size_t at) {
    for (int i = 0; i < 4; i++) { /* loads put quarters of two rows together, which spares shuffles */
        const float *low = (const float *)rows[i] + at, *high = (const float *)rows[i + 4] + at;
        x[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
    }
    v_transpose_halves(x);
}

V_FN V v_bf16_widen(__m128i h) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)); }
V_FN __m128i v_bf16_narrow(V a) {
    __m256i bits = _mm256_castps_si256(a), high = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i nearest = _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd), 16);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    __m256i h = _mm256_blendv_epi8(nearest, quiet, _mm256_castps_si256(v_is_nan(a)));
    return _mm_packus_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}
V_FN V v_low_bf16(V a) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(a), 16)); }
V_FN V v_high_bf16(V a) {
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(-65536)));
}
V_FN V v_dot_bf16(V a, V b, V c) {
    return v_fma(v_low_bf16(a), v_low_bf16(b), v_fma(v_high_bf16(a), v_high_bf16(b), c));
}
V_FN V v_pair_bf16(V low, V high) {
    return _mm256_castsi256_ps(_mm256_or_si256(_mm256_cvtepu16_epi32(v_bf16_narrow(low)),
                                               _mm256_slli_epi32(_mm256_cvtepu16_epi32(v_bf16_narrow(high)), 16)));
}
V_FN void v_split_bf16(uint16_t *low, uint16_t *high, V pairs) {
    __m256i bits = _mm256_castps_si256(pairs), lower = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff));
    __m256i both = _mm256_packus_epi32(lower, _mm256_srli_epi32(bits, 16)); /* by quarters */
    both = _mm256_permute4x64_epi64(both, 0xd8);
    _mm_storeu_si128((__m128i *)low, _mm256_castsi256_si128(both));
    _mm_storeu_si128((__m128i *)high, _mm256_extracti128_si256(both, 1));
}
V_FN V v_load_bf16(const uint16_t *p) { return v_bf16_widen(_mm_loadu_si128((const __m128i *)p)); }
V_FN void v_store_bf16(uint16_t *p, V a) { _mm_storeu_si128((__m128i *)p, v_bf16_narrow(a)); }
V_FN V v_load_bf16_n(const uint16_t *p, size_t n) {
    uint16_t part[V_LANES] = {0};
    memcpy(part, p, n * sizeof *p);
    return v_load_bf16(part);
}
V_FN void v_zip_bf16(V two[2], const uint16_t *a, const uint16_t *b) {
    for (size_t i = 0; i < 2; i++) two[i] = v_pair_bf16(v_load_bf16(a + i * V_LANES), v_load_bf16(b + i * V_LANES));
}
V_FN void v_store_bf16_n(uint16_t *p, V a, size_t n) {
    uint16_t part[V_LANES];
    v_store_bf16(part, a);
    memcpy(p, part, n * sizeof *p);
}
V_FN V v_load_f16(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
V_FN V v_load_f16_n(const uint16_t *p, size_t n) {
    uint16_t part[V_LANES] = {0};
    memcpy(part, p, n * sizeof *p);
    return v_load_f16(part);
}
V_FN void v_store_f16(uint16_t *p, V a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
V_FN void v_store_f16_n(uint16_t *p, V a, size_t n) {
    uint16_t part[V_LANES];
    v_store_f16(part, a);
    memcpy(p, part, n * sizeof *p);
}
V_FN V v_load_i8(const int8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#endif
