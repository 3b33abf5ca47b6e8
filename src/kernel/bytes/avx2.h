/* avx2.h: the vocabulary of bytes for AVX2, and for AVX-VNNI. scalar.h says what each name means. */
#ifndef ATTN_KERNEL_BYTES_H
#define ATTN_KERNEL_BYTES_H

#include "kernel/simd/avx2.h"

#if defined(__AVXVNNI__)
#define B_BIAS 128
#define B_SMALL_IS_FASTER 0
#define B_ROWS 3
#define B_TILES(X) X(1) X(2) X(3)
#define B_UNROLL ATTN_UNROLL
#else
#define B_BIAS 0
#define B_SMALL_IS_FASTER 1
#define B_ROWS 2
#define B_TILES(X) X(1) X(2)
#define B_UNROLL _Pragma("GCC unroll 1")
#endif
#define B_UNROLL_WIDE ATTN_UNROLL
#define B_PANELS 1

typedef __m256i VB;
typedef __m256i VI;

V_FN VB b_load(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
V_FN void b_store(void *p, VB a) { _mm256_storeu_si256((__m256i *)p, a); }
V_FN VB b_set(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
V_FN VB b_flip(VB a) { return B_BIAS ? _mm256_xor_si256(a, _mm256_set1_epi8(-128)) : a; }
V_FN VB b_field(VB a, const int shift, const int mask) {
    return _mm256_and_si256(_mm256_srli_epi32(a, shift), _mm256_set1_epi8((char)mask));
}
V_FN VB b_join(VB low, VB high, const int shift) { return _mm256_or_si256(low, _mm256_slli_epi32(high, shift)); }

V_FN VI b_start(int32_t x) { return _mm256_set1_epi32(x); }
V_FN VI b_add(VI a, VI b) { return _mm256_add_epi32(a, b); }
V_FN V b_float(VI a) { return _mm256_cvtepi32_ps(a); }
V_FN VI b_dot(VI sum, VB w, VB x, const bool small) {
#if defined(__AVXVNNI__)
    (void)small;
    return _mm256_dpbusd_avx_epi32(sum, w, x);
#else
    /* Two products of at most 128 · 127 fit into 16 bits. */
    const __m256i pairs =
        small ? _mm256_maddubs_epi16(w, x) : _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}
V_FN void b_store_i8(int8_t *p, V a) {
    const __m256i wide = _mm256_cvtps_epi32(a);
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(half, half));
}

#endif
