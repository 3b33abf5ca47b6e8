/* The vocabulary of one instruction set, lane for lane against the C library. Built once for each, like isa.c. */
#include ATTN_ISA_HEADER
#include "kern/harness.h"
#include "kernel/select.h"

#include <math.h>

#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
enum { SAMPLES = 4096 };
extern const struct attn_kernels ATTN_TABLE;

static const float special[] = {0.0f,  -0.0f,      1.0f,       -1.0f,     0.5f,           1.5f,     2.5f,
                                -2.5f, 126.0f,     -126.0f,    0x1p-126f, 3.4e38f,        INFINITY, -INFINITY,
                                NAN,   0x1.008p0f, 0x1.018p0f, 0x1.01p0f, 0x1.fffffep127f};

static float sample(uint64_t *seed) {
    if (random_below(seed, 4) == 0) return special[random_below(seed, sizeof special / sizeof special[0])];
    return ldexpf(random_float(seed), (int)random_below(seed, 40) - 20);
}

/* Equal bits, or both NaN. */
static void check_lanes(const char *name, V found, const float *expected) {
    float x[V_LANES];
    v_store(x, found);
    for (size_t i = 0; i < V_LANES; i++)
        if (memcmp(&x[i], &expected[i], sizeof x[i]) != 0 && !(isnan(x[i]) && isnan(expected[i])))
            fail_msg("%s: lane %zu is %a, expected %a", name, i, (double)x[i], (double)expected[i]);
}

#define CHECK(call, formula)                          \
    do {                                              \
        for (size_t i = 0; i < V_LANES; i++) {        \
            const float a = x[i], b = y[i], c = z[i]; \
            (void)a, (void)b, (void)c;                \
            expected[i] = (formula);                  \
        }                                             \
        check_lanes(#call, call, expected);           \
    } while (0)

static void test_arithmetic(void **state) {
    (void)state;
    uint64_t seed = 11;
    for (int turn = 0; turn < SAMPLES; turn++) {
        float x[V_LANES], y[V_LANES], z[V_LANES], expected[V_LANES];
        for (size_t i = 0; i < V_LANES; i++) x[i] = sample(&seed), y[i] = sample(&seed), z[i] = sample(&seed);
        V A = v_load(x), B = v_load(y), C = v_load(z);
        CHECK(v_add(A, B), a + b);
        CHECK(v_sub(A, B), a - b);
        CHECK(v_mul(A, B), a * b);
        CHECK(v_div(A, B), a / b);
        CHECK(v_fma(A, B, C), fmaf(a, b, c));
        CHECK(v_fnma(A, B, C), fmaf(-a, b, c));
        CHECK(v_min(A, B), a < b ? a : b);
        CHECK(v_max(A, B), a > b ? a : b);
        CHECK(v_abs(A), fabsf(a));
        CHECK(v_neg(A), -a);
        CHECK(v_copysign(A, B), copysignf(a, b));
        CHECK(v_round(A), rintf(a));
        CHECK(v_sqrt(A), sqrtf(a));
        CHECK(v_select(v_lt(A, B), A, C), a < b ? a : c);
        CHECK(v_select(v_gt(A, B), A, C), a > b ? a : c);
        CHECK(v_select(v_eq(A, B), A, C), a == b ? a : c);
        CHECK(v_select(v_is_nan(A), B, C), isnan(a) ? b : c);
        CHECK(v_and_mask(v_gt(A, B), C), a > b ? c : 0.0f);
        CHECK(v_and_mask(v_and(v_gt(A, B), v_gt(C, B)), C), a > b && c > b ? c : 0.0f);
        CHECK(v_set(x[0]), x[0]);
        CHECK(v_zero(), 0.0f);
        bool any = false;
        for (size_t i = 0; i < V_LANES; i++) any = any || x[i] < y[i];
        assert_int_equal(v_any(v_lt(A, B)), any);
    }
}

static void test_powers(void **state) {
    (void)state;
    for (int n = -126; n <= 127; n++) {
        float x[V_LANES], y[V_LANES], z[V_LANES], expected[V_LANES];
        for (size_t i = 0; i < V_LANES; i++) x[i] = (float)((n + 126 + 37 * (int)i) % 254 - 126), y[i] = z[i] = 1.25f;
        CHECK(v_pow2i(v_load(x)), ldexpf(1.0f, (int)a));
    }
}

/* The sum and the maximum of halves, as scalar.h says. */
static void test_across(void **state) {
    (void)state;
    uint64_t seed = 12;
    for (int turn = 0; turn < SAMPLES; turn++) {
        float x[V_LANES], most[V_LANES], sum[V_LANES];
        for (size_t i = 0; i < V_LANES; i++) most[i] = sum[i] = x[i] = random_float(&seed);
        for (size_t half = V_LANES / 2; half > 0; half /= 2)
            for (size_t i = 0; i < half; i++)
                sum[i] += sum[i + half], most[i] = most[i] > most[i + half] ? most[i] : most[i + half];
        assert_true(v_sum(v_load(x)) == sum[0]);
        assert_true(v_max_of(v_load(x)) == most[0]);
    }
    float square[V_LANES][V_LANES], turned[V_LANES];
    V rows[V_LANES];
    for (size_t i = 0; i < V_LANES; i++)
        for (size_t j = 0; j < V_LANES; j++) square[i][j] = random_float(&seed);
    for (size_t i = 0; i < V_LANES; i++) rows[i] = v_load(square[i]);
    v_transpose(rows);
    for (size_t i = 0; i < V_LANES; i++) {
        for (size_t j = 0; j < V_LANES; j++) turned[j] = square[j][i];
        check_lanes("v_transpose", rows[i], turned);
    }
}

/* Partial loads and stores at both ends of a page: nothing past n is touched. */
static void test_partial(void **state) {
    (void)state;
    uint64_t seed = 13;
    for (size_t n = 0; n <= V_LANES; n++) {
        for (int side = GUARD_BEFORE; side <= GUARD_AFTER; side++) {
            float *x = guarded(n * sizeof *x, (guard_side)side), *y = guarded(n * sizeof *y, (guard_side)side);
            uint16_t *h = guarded(n * sizeof *h, (guard_side)side);
            float expected[V_LANES] = {0}, half[V_LANES] = {0}, mask[V_LANES] = {0}, wide[V_LANES + 1];
            fill_random(x, n, &seed);
            for (size_t i = 0; i < n; i++) expected[i] = x[i], mask[i] = 1.0f;
            check_lanes("v_load_n", v_load_n(x, n), expected);
            v_store_n(y, v_load_n(x, n), n);
            assert_memory_equal(x, y, n * sizeof *x);
            for (size_t i = 0; i <= V_LANES; i++) wide[i] = 7.0f;
            v_store_n(wide, v_zero(), n);
            for (size_t i = 0; i <= V_LANES; i++) assert_true(wide[i] == (i < n ? 0.0f : 7.0f));
            check_lanes("v_first", v_and_mask(v_first(n), v_set(1.0f)), mask);
            v_store_bf16_n(h, v_load_n(x, n), n);
            for (size_t i = 0; i < n; i++) {
                uint32_t bits = (uint32_t)h[i] << 16;
                memcpy(&half[i], &bits, sizeof bits);
                assert_true(fabsf(half[i] - x[i]) <= 0x1p-8f * fabsf(x[i]));
            }
            check_lanes("v_load_bf16_n", v_load_bf16_n(h, n), half);
            guarded_free_all();
        }
    }
}

/* Every bf16 and f16 there is, every int8; bf16 rounding of what lies between. */
static void test_narrow_types(void **state) {
    (void)state;
    for (uint32_t first = 0; first < 65536; first += V_LANES) {
        uint16_t h[V_LANES], back[V_LANES];
        float bf16[V_LANES], f16[V_LANES], up[V_LANES];
        for (uint32_t i = 0; i < V_LANES; i++) {
            h[i] = (uint16_t)(first + i);
            uint32_t bits = (uint32_t)h[i] << 16, exponent = h[i] >> 10 & 31, fraction = h[i] & 1023;
            memcpy(&bf16[i], &bits, sizeof bits);
            f16[i] = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent     ? ldexpf((float)(1024 + fraction), (int)exponent - 25)
                                    : ldexpf((float)fraction, -24);
            if (h[i] & 0x8000) f16[i] = -f16[i];
            bits |= 0x8000 - (~(uint32_t)h[i] & 1); /* odd: the tie, to the even one above; even: just under it */
            memcpy(&up[i], &bits, sizeof bits);
        }
        check_lanes("v_load_bf16", v_load_bf16(h), bf16);
        check_lanes("v_load_f16", v_load_f16(h), f16);
        v_store_bf16(back, v_load_bf16(h));
        for (uint32_t i = 0; i < V_LANES; i++) assert_int_equal(back[i], isnan(bf16[i]) ? h[i] | 0x40 : h[i]);
        v_store_bf16(back, v_load(up));
        for (uint32_t i = 0; i < V_LANES; i++)
            if (!isnan(up[i])) assert_int_equal(back[i], h[i] + (h[i] & 1));
    }
    for (int first = -128; first < 128; first += V_LANES) {
        int8_t x[V_LANES];
        float expected[V_LANES];
        for (int i = 0; i < V_LANES; i++) x[i] = (int8_t)(first + i), expected[i] = (float)x[i];
        check_lanes("v_load_i8", v_load_i8(x), expected);
        check_lanes("v_low_bf16", v_low_bf16(v_pair_bf16(v_load(expected), v_set(3.0f))), expected);
        uint16_t low[V_LANES], high[V_LANES];
        v_split_bf16(low, high, v_pair_bf16(v_load(expected), v_set(3.0f)));
        check_lanes("v_split_bf16", v_load_bf16(low), expected);
        check_lanes("v_split_bf16", v_load_bf16(high),
                    (const float[16]){3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3});
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic), cmocka_unit_test(test_powers),       cmocka_unit_test(test_across),
        cmocka_unit_test(test_partial),    cmocka_unit_test(test_narrow_types),
    };
    attn_kernels best;
    if (!attn_kernels_get(&best, ATTN_LEVEL) ||
        (V_FAST_BF16 && best.attention_product_bf16 != ATTN_TABLE.attention_product_bf16)) {
        puts("this machine does not have " TEXT(ATTN_TABLE));
        return 77; /* meson: skipped */
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
