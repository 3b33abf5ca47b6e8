#include "ref/quantised.h"

#include <math.h>

enum { BLOCK = 32, LARGE = 256 };

static const size_t block_bytes[ATTN_QUANTISED_FORMS] = {
    [ATTN_QUANTISED_I8] = 32,   [ATTN_QUANTISED_Q8_0] = 34, [ATTN_QUANTISED_Q4_0] = 18,  [ATTN_QUANTISED_Q4_1] = 20,
    [ATTN_QUANTISED_Q5_0] = 22, [ATTN_QUANTISED_Q5_1] = 24, [ATTN_QUANTISED_Q4_K] = 144, [ATTN_QUANTISED_Q6_K] = 210};

static size_t block_of(attn_quantised_form form) {
    return form == ATTN_QUANTISED_Q4_K || form == ATTN_QUANTISED_Q6_K ? LARGE : BLOCK;
}
size_t ref_quantised_row_bytes(attn_quantised_form form, size_t k) {
    return form == ATTN_QUANTISED_I8 ? k : k / block_of(form) * block_bytes[form];
}

static double half(const unsigned char *at) {
    const int bits = at[0] + 256 * at[1], exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return bits & 0x8000 ? -size : size;
}
static int nibble(const unsigned char *x, size_t i) { return i < 16 ? x[i] % 16 : x[i - 16] / 16; }
static int bit(const unsigned char *x, size_t i) { return x[i / 8] >> i % 8 & 1; }

static ref_number number_Q4_K(const unsigned char *x, size_t i) {
    const size_t group = i / 32;
    const unsigned char *six = x + 4;
    int s, t;
    if (group < 4) s = six[group] % 64, t = six[4 + group] % 64;
    else {
        s = six[4 + group] % 16 + six[group - 4] / 64 * 16;
        t = six[4 + group] / 16 + six[group] / 64 * 16;
    }
    const unsigned char byte = x[16 + group / 2 * 32 + i % 32];
    return (ref_number){half(x) * s, -half(x + 2) * t, group % 2 ? byte / 16 : byte % 16};
}
/* Two halves of 128; in each, four quarters of 32: bytes 0 … 63 have the lower bits of quarters 0 and 1 in their lower
 * halves, of 2 and 3 in their upper ones; 32 bytes have the upper two bits of all four. */
static ref_number number_Q6_K(const unsigned char *x, size_t i) {
    const size_t quarter = i % 128 / 32, at = i % 32;
    const unsigned char *low = x + i / 128 * 64, *high = x + 128 + i / 128 * 32;
    const unsigned char byte = low[quarter % 2 * 32 + at];
    const int q = (quarter < 2 ? byte % 16 : byte / 16) + 16 * (high[at] >> 2 * quarter & 3);
    return (ref_number){half(x + 208) * (signed char)x[192 + i / 16], 0, q - 32};
}

ref_number ref_quantised_number(attn_quantised_form form, const unsigned char *row, float scale_of_row, size_t k) {
    const size_t i = k % block_of(form);
    const unsigned char *x = row + k / block_of(form) * block_bytes[form];
    switch (form) {
    case ATTN_QUANTISED_I8: return (ref_number){(double)scale_of_row, 0, (signed char)row[k]};
    case ATTN_QUANTISED_Q8_0: return (ref_number){half(x), 0, (signed char)x[2 + i]};
    case ATTN_QUANTISED_Q4_0: return (ref_number){half(x), 0, nibble(x + 2, i) - 8};
    case ATTN_QUANTISED_Q4_1: return (ref_number){half(x), half(x + 2), nibble(x + 4, i)};
    case ATTN_QUANTISED_Q5_0: return (ref_number){half(x), 0, nibble(x + 6, i) + 16 * bit(x + 2, i) - 16};
    case ATTN_QUANTISED_Q5_1: return (ref_number){half(x), half(x + 2), nibble(x + 8, i) + 16 * bit(x + 4, i)};
    case ATTN_QUANTISED_Q4_K: return number_Q4_K(x, i);
    case ATTN_QUANTISED_Q6_K: return number_Q6_K(x, i);
    case ATTN_QUANTISED_FORMS: break;
    }
    return (ref_number){0, 0, 0};
}

void ref_quantise(int *q, float *scale, const float *x, size_t k) {
    for (size_t first = 0; first < k; first += BLOCK) {
        float most = 0;
        for (size_t i = first; i < first + BLOCK && i < k; i++) most = fmaxf(most, fabsf(x[i]));
        const float factor = most > 0 ? 127.0f / most : 0;
        scale[first / BLOCK] = most * (1.0f / 127.0f);
        for (size_t i = first; i < first + BLOCK && i < k; i++) q[i] = (int)nearbyintf(x[i] * factor);
    }
}

bool ref_quantised_uneven(const float *scale, size_t k) {
    const size_t blocks = (k + BLOCK - 1) / BLOCK;
    float largest = 0, sum = 0;
    for (size_t b = 0; b < blocks; b++) largest = fmaxf(largest, scale[b]), sum += scale[b];
    return largest * (float)blocks > 4 * sum;
}

/* A block adds two terms to the chain, in order; each sum is rounded once, and so are the products that enter it: the
 * scales' (twice where the scale is itself a product) and scale · J. */
double ref_quantised_dot(attn_quantised_form form, const unsigned char *row, float scale_of_row, const int *q,
                         const float *scale, size_t k, double *bound) {
    double sum = 0, size = 0;
    for (size_t i = 0; i < k; i++) {
        const ref_number w = ref_quantised_number(form, row, scale_of_row, i);
        const double x = (double)scale[i / BLOCK] * q[i];
        sum += (w.scale * w.q + w.minimum) * x;
        size += (fabs(w.scale * w.q) + fabs(w.minimum)) * fabs(x);
    }
    *bound = 1.01 * (2.0 * (double)((k + BLOCK - 1) / BLOCK) + 3.0) * 0x1p-24 * size;
    return sum;
}
