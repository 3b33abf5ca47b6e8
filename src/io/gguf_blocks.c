/* gguf_blocks.c: blocks of quantised numbers to f32. Each number is rounded where the formats' definitions round: the
 * product of scale and integer, then the sum with the minimum. Halves are 16-bit floats, little-endian.
 *
 *   Q4_0  d; 32 × 4 bits           d (q − 8)          Q4_1  d, m; 32 × 4 bits            d q + m
 *   Q5_0  d; 32 high bits, 4 bits  d (q − 16)         Q5_1  d, m; 32 high bits, 4 bits   d q + m
 *   Q8_0  d; 32 bytes              d q
 *   Q4_K  d, m; 8 scales and minima of 6 bits; 256 × 4 bits      (d s) q − (m t)
 *   Q6_K  256 × 4 bits; 256 × 2 bits; 16 scales; d               (d s) (q − 32)
 *
 * Low nibbles are the first half of a group, high ones the second. */
#include "base/base.h"
#include "base/half.h"
#include <attn/gguf.h>

#include <string.h>

typedef const unsigned char bytes;

static uint16_t bits_at(bytes *at) { return (uint16_t)(at[0] | at[1] << 8); }
static float half(bytes *at) { return attn_float_of_f16(bits_at(at)); }

static void from_F32(float *y, bytes *x) { memcpy(y, x, sizeof *y); }

static void from_F16(float *y, bytes *x) { *y = half(x); }

static void from_BF16(float *y, bytes *x) { *y = attn_float_of_bf16(bits_at(x)); }

static void from_Q4_0(float *y, bytes *x) {
    const float d = half(x);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((x[2 + i] & 15) - 8);
        y[i + 16] = d * (float)((x[2 + i] >> 4) - 8);
    }
}

static void from_Q4_1(float *y, bytes *x) {
    const float d = half(x), m = half(x + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(x[4 + i] & 15) + m;
        y[i + 16] = d * (float)(x[4 + i] >> 4) + m;
    }
}

/* The fifth bits of 32 numbers. */
static uint32_t high_bits(bytes *x) {
    return (uint32_t)x[0] | (uint32_t)x[1] << 8 | (uint32_t)x[2] << 16 | (uint32_t)x[3] << 24;
}

static void from_Q5_0(float *y, bytes *x) {
    const float d = half(x);
    const uint32_t high = high_bits(x + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((int)((uint32_t)(x[6 + i] & 15) | (high >> i & 1) << 4) - 16);
        y[i + 16] = d * (float)((int)((uint32_t)(x[6 + i] >> 4) | (high >> (i + 16) & 1) << 4) - 16);
    }
}

static void from_Q5_1(float *y, bytes *x) {
    const float d = half(x), m = half(x + 2);
    const uint32_t high = high_bits(x + 4);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((uint32_t)(x[8 + i] & 15) | (high >> i & 1) << 4) + m;
        y[i + 16] = d * (float)((uint32_t)(x[8 + i] >> 4) | (high >> (i + 16) & 1) << 4) + m;
    }
}

static void from_Q8_0(float *y, bytes *x) {
    const float d = half(x);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)x[2 + i];
}

/* Scale and minimum j of eight: the first four have their six bits together, the others' upper two lie above those. */
static void scale_and_minimum(int j, bytes *x, int *scale, int *minimum) {
    if (j < 4) *scale = x[j] & 63, *minimum = x[j + 4] & 63;
    else *scale = (x[j + 4] & 15) | (x[j - 4] >> 6) << 4, *minimum = (x[j + 4] >> 4) | (x[j] >> 6) << 4;
}

static void from_Q4_K(float *y, bytes *x) {
    const float d = half(x), m = half(x + 2);
    for (int group = 0; group < 8; group++) {
        bytes *q = x + 16 + group / 2 * 32;
        int scale, minimum, shift = group % 2 * 4;
        scale_and_minimum(group, x + 4, &scale, &minimum);
        const float ds = d * (float)scale, mt = m * (float)minimum;
        for (int i = 0; i < 32; i++) y[group * 32 + i] = ds * (float)(q[i] >> shift & 15) - mt;
    }
}

static void from_Q6_K(float *y, bytes *x) {
    const float d = half(x + 208);
    for (int group = 0; group < 8; group++) {
        bytes *low = x + group / 4 * 64 + group % 2 * 32, *high = x + 128 + group / 4 * 32;
        const int low_shift = group % 4 / 2 * 4, high_shift = group % 4 * 2;
        for (int i = 0; i < 32; i++) {
            const float ds = d * (float)(int8_t)x[192 + group * 2 + i / 16];
            const int q = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
            y[group * 32 + i] = ds * (float)(q - 32);
        }
    }
}

static const struct block_type {
    const char *name;
    attn_gguf_type type;
    size_t elements, bytes;
    void (*read)(float *y, bytes *x);
} types[] = {
#define TYPE_ROW(name, number, elements, bytes) {#name, ATTN_GGUF_##name, elements, bytes, from_##name},
    ATTN_GGUF_TYPE_LIST(TYPE_ROW)
#undef TYPE_ROW
};

static const struct block_type *find_type(attn_gguf_type type) {
    for (size_t i = 0; i < ATTN_COUNT(types); i++)
        if (types[i].type == type) return &types[i];
    return NULL;
}

const char *attn_gguf_type_name(attn_gguf_type type) {
    const struct block_type *found = find_type(type);
    return found ? found->name : NULL;
}

bool attn_gguf_type_block(attn_gguf_type type, size_t *elements, size_t *block_bytes) {
    const struct block_type *found = find_type(type);
    if (!found) return false;
    *elements = found->elements;
    *block_bytes = found->bytes;
    return true;
}

void attn_gguf_dequantise(float *out, const attn_gguf_tensor *t, size_t first, size_t n) {
    const struct block_type *type = find_type(t->type);
    bytes *at = (bytes *)t->data + first / type->elements * type->bytes;
    for (size_t i = 0; i < n; i += type->elements, at += type->bytes) type->read(out + i, at);
}
