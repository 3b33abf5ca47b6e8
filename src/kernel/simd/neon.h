/* neon.h: the vocabulary of the kernels for AArch64's Advanced SIMD, 4 lanes. scalar.h says what each name means. */
#ifndef ATTN_KERNEL_SIMD_H
#define ATTN_KERNEL_SIMD_H

#include <arm_neon.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V_LANES 4
#define V_FN static inline __attribute__((always_inline))
#define V_GEMM_ROWS 5
#define V_GEMM_PANELS 1
#define V_GEMM_TILES(X) X(1) X(2) X(3) X(4) X(5)
#define V_GEMM_FEW_ROWS 2
#define V_GEMM_FEW_PANELS 2
#define V_GEMM_FEW_TILES(X) X(1) X(2)
#define V_FAST_BF16 false
#define V_PRODUCT_ROWS 8
#define V_PRODUCT_VECTORS 2
#define V_BLOCK_VECTORS 6

typedef float32x4_t V;
typedef uint32x4_t VM; /* all bits of a lane, or none */

V_FN V v_zero(void) { return vdupq_n_f32(0.0f); }
V_FN V v_set(float x) { return vdupq_n_f32(x); }
V_FN V v_load(const float *p) { return vld1q_f32(p); }
V_FN void v_store(float *p, V a) { vst1q_f32(p, a); }
V_FN V v_load_n(const float *p, size_t n) { /* no call, not even memcpy: accumulators live across it would be spilled */
    if (n == V_LANES) return vld1q_f32(p);
    float32x2_t low = vdup_n_f32(0.0f), high = low;
    if (n & 2) {
        low = vld1_f32(p);
        if (n & 1) high = vld1_lane_f32(p + 2, high, 0);
    } else if (n & 1) {
        low = vld1_lane_f32(p, low, 0);
    }
    return vcombine_f32(low, high);
}
V_FN void v_store_n(float *p, V a, size_t n) {
    if (n == V_LANES) {
        vst1q_f32(p, a);
    } else if (n & 2) {
        vst1_f32(p, vget_low_f32(a));
        if (n & 1) vst1q_lane_f32(p + 2, a, 2);
    } else if (n & 1) {
        vst1q_lane_f32(p, a, 0);
    }
}

V_FN VM v_lt(V a, V b) { return vcltq_f32(a, b); }
V_FN VM v_gt(V a, V b) { return vcgtq_f32(a, b); }
V_FN VM v_eq(V a, V b) { return vceqq_f32(a, b); }
V_FN VM v_is_nan(V a) { return vmvnq_u32(vceqq_f32(a, a)); }
V_FN VM v_first(size_t n) { return vcltq_u32((VM){0, 1, 2, 3}, vdupq_n_u32((uint32_t)n)); }
V_FN VM v_and(VM a, VM b) { return vandq_u32(a, b); }
V_FN bool v_any(VM m) { return vmaxvq_u32(m) != 0; }
V_FN V v_and_mask(VM m, V a) { return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(a))); }
V_FN V v_select(VM m, V a, V b) { return vbslq_f32(m, a, b); }
V_FN uint32x4_t v_lane_bits(void) {
    return vshlq_u32(vdupq_n_u32(1), vcombine_s32(vcreate_s32(0x100000000), vcreate_s32(0x300000002)));
}
V_FN uint32_t v_bits(VM m) { return vaddvq_u32(vandq_u32(m, v_lane_bits())); }
V_FN VM v_of_bits(uint32_t bits) { return vtstq_u32(vdupq_n_u32(bits), v_lane_bits()); }

V_FN V v_add(V a, V b) { return vaddq_f32(a, b); }
V_FN V v_sub(V a, V b) { return vsubq_f32(a, b); }
V_FN V v_mul(V a, V b) { return vmulq_f32(a, b); }
V_FN V v_div(V a, V b) { return vdivq_f32(a, b); }
V_FN V v_fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
V_FN V v_fnma(V a, V b, V c) { return vfmsq_f32(c, a, b); }
V_FN V v_min(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
V_FN V v_max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
V_FN V v_abs(V a) { return vabsq_f32(a); }
V_FN V v_neg(V a) { return vnegq_f32(a); }
V_FN V v_copysign(V a, V sign) { return vbslq_f32(vdupq_n_u32(0x80000000), sign, a); }
V_FN V v_round(V a) { return vrndnq_f32(a); }
V_FN V v_sqrt(V a) { return vsqrtq_f32(a); }
V_FN V v_pow2i(V n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23)); }
V_FN V v_raise(V a, V t) {
    return vreinterpretq_f32_u32(vaddq_u32(vreinterpretq_u32_f32(a), vshlq_n_u32(vreinterpretq_u32_f32(t), 23)));
}

V_FN float v_sum(V a) {
    float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
}
V_FN float v_max_of(V a) {
    V b = v_max(a, vextq_f32(a, a, 2));
    return vgetq_lane_f32(v_max(b, vextq_f32(b, b, 1)), 0);
}

V_FN void v_transpose(V x[V_LANES]) {
    float64x2_t low0 = vreinterpretq_f64_f32(vtrn1q_f32(x[0], x[1])),
                low1 = vreinterpretq_f64_f32(vtrn1q_f32(x[2], x[3]));
    float64x2_t high0 = vreinterpretq_f64_f32(vtrn2q_f32(x[0], x[1])),
                high1 = vreinterpretq_f64_f32(vtrn2q_f32(x[2], x[3]));
    x[0] = vreinterpretq_f32_f64(vtrn1q_f64(low0, low1));
    x[1] = vreinterpretq_f32_f64(vtrn1q_f64(high0, high1));
    x[2] = vreinterpretq_f32_f64(vtrn2q_f64(low0, low1));
    x[3] = vreinterpretq_f32_f64(vtrn2q_f64(high0, high1));
}

#define V_TURNED V_LANES
V_FN void v_load_turned(V x[V_TURNED], const void *const *rows, size_t at) {
    for (int i = 0; i < V_LANES; i++) x[i] = v_load((const float *)rows[i] + at);
    v_transpose(x);
}

V_FN V v_bf16_widen(uint16x4_t h) { return vreinterpretq_f32_u32(vshll_n_u16(h, 16)); }
V_FN uint16x4_t v_bf16_narrow(V a) {
    uint32x4_t bits = vreinterpretq_u32_f32(a), high = vshrq_n_u32(bits, 16);
    uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    uint32x4_t nearest = vshrq_n_u32(vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd), 16);
    return vmovn_u32(vbslq_u32(v_is_nan(a), vorrq_u32(high, vdupq_n_u32(0x40)), nearest));
}
V_FN V v_low_bf16(V a) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(a), 16)); }
V_FN V v_high_bf16(V a) { return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), vdupq_n_u32(0xffff0000u))); }
V_FN V v_dot_bf16(V a, V b, V c) {
    return v_fma(v_low_bf16(a), v_low_bf16(b), v_fma(v_high_bf16(a), v_high_bf16(b), c));
}
V_FN V v_pair_bf16(V low, V high) {
    return vreinterpretq_f32_u32(
        vorrq_u32(vmovl_u16(v_bf16_narrow(low)), vshlq_n_u32(vmovl_u16(v_bf16_narrow(high)), 16)));
}
V_FN void v_split_bf16(uint16_t *low, uint16_t *high, V pairs) {
    vst1_u16(low, vmovn_u32(vreinterpretq_u32_f32(pairs)));
    vst1_u16(high, vshrn_n_u32(vreinterpretq_u32_f32(pairs), 16));
}
V_FN V v_load_bf16(const uint16_t *p) { return v_bf16_widen(vld1_u16(p)); }
V_FN void v_store_bf16(uint16_t *p, V a) { vst1_u16(p, v_bf16_narrow(a)); }
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
V_FN V v_load_f16(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
V_FN V v_load_f16_n(const uint16_t *p, size_t n) {
    uint16_t part[V_LANES] = {0};
    memcpy(part, p, n * sizeof *p);
    return v_load_f16(part);
}
V_FN void v_store_f16(uint16_t *p, V a) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(a))); }
V_FN void v_store_f16_n(uint16_t *p, V a, size_t n) {
    uint16_t part[V_LANES];
    v_store_f16(part, a);
    memcpy(p, part, n * sizeof *p);
}
V_FN V v_load_i8(const int8_t *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

#endif
