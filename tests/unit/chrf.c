/* chrF against sacreBLEU's own figures. */
#include "support/allocator.h"
#include "support/measures.h"

#include <math.h>

static void test_golden(void **state) {
    (void)state;
    static struct test_measures measures;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    long alive = memory.alive;
    test_measures_read(&measures);
    FILE *file = test_expected_open();
    struct test_measure want;
    while (test_expected_next(file, &want)) {
        double got = -1;
        assert_true(want.first + want.count <= measures.n);
        assert_ok(
            attn_chrf_score(ctx, &got, measures.hypothesis + want.first, measures.reference + want.first, want.count));
        assert_true(fabs(got - want.chrf) <= 1e-9);
    }
    fclose(file);
    free(measures.data);
    assert_int_equal(memory.alive, alive);
    attn_context_free(ctx);
}

static void test_by_hand(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    /* "ab" and "ac" share one letter of two and no pair: mean precision = recall = (1/2 + 0) / 2. */
    const char *h[] = {"a b"}, *r[] = {"ac"}, *broken[] = {"\xff\xff"};
    double score;
    assert_ok(attn_chrf_score(ctx, &score, h, r, 1));
    assert_true(fabs(score - 25) < 1e-12);
    assert_ok(attn_chrf_score(ctx, &score, broken, broken, 1));
    assert_true(fabs(score - 100) < 1e-12);
    assert_int_equal(attn_chrf_score(ctx, &score, h, r, 0), ATTN_E_ARGUMENT);
    assert_int_equal(attn_chrf_score(ctx, NULL, h, r, 1), ATTN_E_ARGUMENT);
    attn_context_free(ctx);
}

static void test_no_memory(void **state) {
    (void)state;
    const char *h[] = {"It costs 1,000.5 dollars."}, *r[] = {"It costs 1,000 dollars - so!"};
    for (long fail_after = 0;; fail_after++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        long alive = memory.alive;
        double score;
        memory.fail_after = fail_after;
        attn_status status = attn_chrf_score(ctx, &score, h, r, 1);
        assert_int_equal(memory.alive, alive);
        attn_context_free(ctx);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_true(fail_after < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_by_hand),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
