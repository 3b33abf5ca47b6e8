/* half.h: the two floats of 16 bits, one number at a time. Widening is exact; narrowing is to nearest, ties to even,
 * too large ones become infinite, and NaN stays NaN. */
#ifndef ATTN_BASE_HALF_H
#define ATTN_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t attn_float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float attn_float_of_bits(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float attn_float_of_bf16(uint16_t h) { return attn_float_of_bits((uint32_t)h << 16); }

static inline uint16_t attn_bf16_of(float x) {
    const uint32_t bits = attn_float_bits(x);
    if (x != x) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* The exponent's bias is 127 here, 15 there; subnormal ones are multiples of 2^−24. */
static inline float attn_float_of_f16(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return attn_float_of_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return attn_float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    const float size = (float)fraction * 0x1p-24f;
    return sign ? -size : size;
}

static inline uint16_t attn_f16_of(float x) {
    const uint32_t bits = attn_float_bits(x), sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (size >> 13 & 0x3ff));
    if (size >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds to 2^16 or more */
    if (size >= 0x38800000) return (uint16_t)(sign | ((size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13));
    /* Subnormal there: the addition rounds at the right bit. */
    return (uint16_t)(sign | (attn_float_bits(attn_float_of_bits(size) + 0.5f) - 0x3f000000));
}

#endif
