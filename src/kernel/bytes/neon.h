/* neon.h: the vocabulary of bytes for AArch64, with and without dot products. scalar.h says what each name means. */
#ifndef ATTN_KERNEL_BYTES_H
#define ATTN_KERNEL_BYTES_H

#include "kernel/simd/neon.h"

#define B_BIAS 0
#define B_SMALL_IS_FASTER 0
#if defined(__ARM_FEATURE_DOTPROD)
#define B_UNROLL ATTN_UNROLL
#else
#define B_UNROLL _Pragma("GCC unroll 1")
#endif
#define B_ROWS 2
#define B_UNROLL_WIDE ATTN_UNROLL
#define B_PANELS 1
#define B_TILES(X) X(1) X(2)

typedef uint8x16_t VB;
typedef int32x4_t VI;

V_FN VB b_load(const void *p) { return vld1q_u8(p); }
V_FN void b_store(void *p, VB a) { vst1q_u8(p, a); }
V_FN VB b_set(const int8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_u8_u32(vdupq_n_u32(four));
}
V_FN VB b_flip(VB a) { return a; }
V_FN VB b_field(VB a, const int shift, const int mask) {
    return vandq_u8(vshlq_u8(a, vdupq_n_s8((int8_t)-shift)), vdupq_n_u8((uint8_t)mask));
}
V_FN VB b_join(VB low, VB high, const int shift) { return vorrq_u8(low, vshlq_u8(high, vdupq_n_s8((int8_t)shift))); }

V_FN VI b_start(int32_t x) { return vdupq_n_s32(x); }
V_FN VI b_add(VI a, VI b) { return vaddq_s32(a, b); }
V_FN V b_float(VI a) { return vcvtq_f32_s32(a); }
V_FN VI b_dot(VI sum, VB w, VB x, const bool small) {
    const int8x16_t a = vreinterpretq_s8_u8(w), b = vreinterpretq_s8_u8(x);
    (void)small;
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, a, b);
#else
    /* Two products of at most 128 · 127 fit into 16 bits. */
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}
V_FN void b_store_i8(int8_t *p, V a) {
    const int16x4_t half = vqmovn_s32(vcvtnq_s32_f32(a));
    const int8x8_t bytes = vqmovn_s16(vcombine_s16(half, half));
    vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(bytes), 0);
}

#endif
