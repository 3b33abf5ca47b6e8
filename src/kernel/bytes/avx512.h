/* avx512.h: the vocabulary of bytes for AVX-512 with VNNI; without it AVX2 does. scalar.h says what each name means. */
#ifndef ATTN_KERNEL_BYTES_H
#define ATTN_KERNEL_BYTES_H

#include "kernel/simd/avx512.h"

#include <string.h>

#define B_BIAS 128
#define B_SMALL_IS_FASTER 0
#define B_ROWS 6
#define B_TILES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#define B_UNROLL ATTN_UNROLL
#define B_UNROLL_WIDE ATTN_UNROLL
#define B_PANELS 2

typedef __m512i VB;
typedef __m512i VI;

V_FN VB b_load(const void *p) { return _mm512_loadu_si512(p); }
V_FN void b_store(void *p, VB a) { _mm512_storeu_si512(p, a); }
V_FN VB b_set(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
V_FN VB b_flip(VB a) { return _mm512_xor_si512(a, _mm512_set1_epi8(-128)); }
V_FN VB b_field(VB a, const int shift, const int mask) {
    return _mm512_and_si512(_mm512_srli_epi32(a, (unsigned)shift), _mm512_set1_epi8((char)mask));
}
V_FN VB b_join(VB low, VB high, const int shift) {
    return _mm512_or_si512(low, _mm512_slli_epi32(high, (unsigned)shift));
}

V_FN VI b_start(int32_t x) { return _mm512_set1_epi32(x); }
V_FN VI b_add(VI a, VI b) { return _mm512_add_epi32(a, b); }
V_FN V b_float(VI a) { return _mm512_cvtepi32_ps(a); }
V_FN VI b_dot(VI sum, VB w, VB x, const bool small) {
    (void)small;
    return _mm512_dpbusd_epi32(sum, w, x);
}
V_FN void b_store_i8(int8_t *p, V a) { _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(a))); }

#endif
