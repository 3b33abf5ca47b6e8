/* Products of pairs of bf16 by tiles, to the bit: against the sums as tiles/amx.h describes them, one float at a time,
 * at every level that has tiles (a machine without AMX has the emulated ones). */
#include "kern/guard.h"
#include "base/base.h"
#include "kernel/select.h"

#include <math.h>

enum { MOST = 64 };

static float as_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
static float flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
static float half_of(float pair, int upper) {
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return flushed(as_float(upper ? bits & 0xffff0000u : bits << 16));
}

/* c + the groups of a row of A and a column of B. */
static float expected(float c, const float *a, ptrdiff_t a_term, const float *b, ptrdiff_t b_term, size_t terms) {
    for (size_t group = 0; group < terms; group += 16) {
        float sum[2] = {0};
        for (size_t i = group; i < terms && i < group + 16; i++)
            for (int upper = 0; upper < 2; upper++) {
                const float x = half_of(a[(ptrdiff_t)i * a_term], upper), y = half_of(b[(ptrdiff_t)i * b_term], upper);
                sum[upper] = flushed(fmaf(x, y, sum[upper]));
            }
        c = flushed(flushed(c) + flushed(sum[0] + sum[1]));
    }
    return c;
}

/* Pairs of random bf16 of sizes between 2^-spread and 16; of a wide spread some are subnormal. */
static void fill_pairs(float *x, size_t n, uint64_t seed, int spread) {
    attn_random random = {.seed = seed};
    for (size_t i = 0; i < n; i++) {
        uint32_t pair = 0;
        for (int half = 0; half < 2; half++) {
            const uint32_t word = attn_random_u32(&random);
            uint32_t exponent = (uint32_t)(127 - spread) + (word >> 16) % ((uint32_t)spread + 5);
            if (spread > 60 && word >> 28 == 0) exponent = 0;
            pair |= ((word & 0x807f) | exponent << 7) << 16 * half;
        }
        memcpy(x + i, &pair, sizeof pair);
    }
}

typedef struct shape {
    size_t rows, terms, lanes;
    bool columns, add; /* columns: A's rows lie one behind the other */
    int spread;
} shape;

static void product(const attn_kernels *kernels, const shape *s, uint64_t seed) {
    const ptrdiff_t a_row = s->columns ? 1 : (ptrdiff_t)s->terms, a_term = s->columns ? (ptrdiff_t)s->rows : 1;
    float *a = guard_floats(s->rows * s->terms), *b = guard_floats(s->terms * s->lanes);
    float *c = guard_floats(s->rows * s->lanes), before[256 * MOST];
    fill_pairs(a, s->rows * s->terms, seed, s->spread), fill_pairs(b, s->terms * s->lanes, seed + 1, s->spread);
    for (size_t i = 0; i < s->rows * s->lanes; i++) c[i] = before[i] = ldexpf((float)(i % 17) - 8.0f, -s->spread);
    const attn_product job = {.rows = s->rows,
                              .terms = s->terms,
                              .lanes = s->lanes,
                              .a = a,
                              .a_row = a_row,
                              .a_term = a_term,
                              .b = b,
                              .b_term = (ptrdiff_t)s->lanes,
                              .c = c,
                              .c_row = (ptrdiff_t)s->lanes,
                              .add = s->add};
    kernels->tiles_begin();
    kernels->attention_product_bf16(&job);
    kernels->tiles_end();
    for (size_t i = 0; i < s->rows; i++)
        for (size_t j = 0; j < s->lanes; j++) {
            const float start = s->add ? before[i * s->lanes + j] : 0.0f;
            const float want = expected(start, a + (ptrdiff_t)i * a_row, a_term, b + j, (ptrdiff_t)s->lanes, s->terms);
            if (memcmp(&want, c + i * s->lanes + j, sizeof want) != 0)
                fail_msg("%s, %zu × %zu × %zu, row %zu lane %zu: %a, expected %a", kernels->level, s->rows, s->terms,
                         s->lanes, i, j, (double)c[i * s->lanes + j], (double)want);
        }
    guard_release();
}

static void products(void **state) {
    (void)state;
    static const size_t rows[] = {1, 5, 16, 17, 31, 32, 33, 64, 80}, terms[] = {1, 7, 16, 20, 32, 40, 64};
    size_t levels = 0;
    FOR_LEVELS(level) {
        attn_kernels kernels;
        assert_true(attn_kernels_get(&kernels, *level));
        if (kernels.pair_group == 1) continue;
        assert_int_equal(kernels.pair_group, 16);
        levels++;
        uint64_t seed = 1;
        for (size_t r = 0; r < ATTN_COUNT(rows); r++)
            for (size_t t = 0; t < ATTN_COUNT(terms); t++)
                for (size_t lanes = 16; lanes <= MOST; lanes += 16)
                    for (int how = 0; how < 4; how++, seed += 2) {
                        const shape s = {.rows = rows[r],
                                         .terms = terms[t],
                                         .lanes = lanes,
                                         .columns = how % 2,
                                         .add = how >= 2,
                                         .spread = seed % 5 == 0 ? 66 : 4}; /* 2^-132: products and sums below 2^-126 */
                        product(&kernels, &s, seed);
                    }
    }
    if (levels == 0) skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
