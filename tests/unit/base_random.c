/* Random numbers: published vectors, independence of streams, ranges, moments. */
#include "support/test.h"
#include "base/base.h"

#include <math.h>

static void test_philox_vectors(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        /* Random123's kat_vectors, philox4x32 with 10 rounds */
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < ATTN_COUNT(vectors); i++) {
        uint32_t out[4];
        attn_philox(out, vectors[i].counter, vectors[i].key);
        assert_memory_equal(out, vectors[i].expected, sizeof out);
    }
}

static void test_stream_is_philox(void **state) {
    (void)state;
    attn_random random = {0x299f31d0a4093822u, 0x0370734413198a2eu, (uint64_t)0x05a308d3243f6a88u * 4}, copy = random;
    const uint32_t counter[4] = {0x243f6a88, 0x05a308d3, 0x13198a2e, 0x03707344}, key[2] = {0xa4093822, 0x299f31d0};
    uint32_t block[4];
    attn_philox(block, counter, key);
    for (int i = 0; i < 4; i++) assert_int_equal(attn_random_u32(&random), block[i]);
    assert_true(random.position == copy.position + 4);

    attn_random_u32(&copy);
    attn_random resumed = copy; /* copying the struct copies the state */
    for (int i = 0; i < 20; i++) assert_int_equal(attn_random_u32(&resumed), attn_random_u32(&copy));
}

/* However words are grouped, the stream is the same. */
static void test_grouping(void **state) {
    (void)state;
    attn_random words = {7, 9, 0}, pairs = {7, 9, 0};
    for (int shift = 0; shift < 3; shift++) {
        words.position = pairs.position = (uint64_t)shift;
        for (int i = 0; i < 10; i++) {
            uint64_t low = attn_random_u32(&words), high = attn_random_u32(&words);
            double expected = (double)((high << 32 | low) >> 11) * 0x1p-53;
            assert_true(attn_random_uniform(&pairs) == expected);
        }
    }
    attn_random other = {7, 10, 0}, first = {7, 9, 0};
    int equal = 0;
    for (int i = 0; i < 100; i++) equal += attn_random_u32(&first) == attn_random_u32(&other);
    assert_int_equal(equal, 0);
}

static void test_below(void **state) {
    (void)state;
    attn_random random = {1, 2, 0};
    assert_int_equal(attn_random_below(&random, 0), 0);
    enum { N = 7, DRAWS = 70000 };
    int count[N] = {0};
    for (int i = 0; i < DRAWS; i++) {
        uint64_t value = attn_random_below(&random, N);
        assert_true(value < N);
        count[value]++;
    }
    double chi = 0;
    for (int i = 0; i < N; i++) chi += pow(count[i] - DRAWS / (double)N, 2) / (DRAWS / (double)N);
    assert_true(chi < 30); /* 6 degrees of freedom: p < 10⁻⁴ */

    /* n = 3·2^62: without the second draw, results with value mod 3 = 0 would come up in half of all cases. */
    int zero = 0;
    for (int i = 0; i < 30000; i++) {
        uint64_t value = attn_random_below(&random, (uint64_t)3 << 62);
        assert_true(value < (uint64_t)3 << 62);
        zero += value % 3 == 0;
    }
    assert_in_range(zero, 9500, 10500);
    for (int i = 0; i < 100; i++) assert_int_equal(attn_random_below(&random, 1), 0);
}

static void test_moments(void **state) {
    (void)state;
    enum { DRAWS = 200000 };
    attn_random random = {3, 4, 0};
    double sum = 0, squares = 0, cubes = 0, low = 1, high = 0;
    for (int i = 0; i < DRAWS; i++) {
        double u = attn_random_uniform(&random);
        assert_true(u >= 0 && u < 1);
        sum += u, low = fmin(low, u), high = fmax(high, u);
    }
    assert_true(fabs(sum / DRAWS - .5) < .004 && low < 1e-4 && high > 1 - 1e-4);
    sum = 0;
    double fourth = 0, extreme = 0;
    for (int i = 0; i < DRAWS; i++) {
        double x = attn_random_normal(&random);
        assert_true(isfinite(x));
        sum += x, squares += x * x, cubes += x * x * x, fourth += x * x * x * x, extreme = fmax(extreme, fabs(x));
    }
    assert_true(fabs(sum / DRAWS) < .012);
    assert_true(fabs(squares / DRAWS - 1) < .02);
    assert_true(fabs(cubes / DRAWS) < .05);
    assert_true(fabs(fourth / DRAWS - 3) < .15);
    assert_true(extreme > 3.9 && extreme < 7);
}

static void test_hash(void **state) {
    (void)state;
    /* Fowler, Noll & Vo's own vectors */
    assert_true(attn_hash_text("", 0) == 0xcbf29ce484222325u);
    assert_true(attn_hash_text("a", 1) == 0xaf63dc4c8601ec8cu);
    assert_true(attn_hash_text("foobar", 6) == 0x85944171f73967e8u);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_vectors), cmocka_unit_test(test_stream_is_philox), cmocka_unit_test(test_grouping),
        cmocka_unit_test(test_below),          cmocka_unit_test(test_moments),          cmocka_unit_test(test_hash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
