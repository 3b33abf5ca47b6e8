/* BLEU against sacreBLEU's own figures. */
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
    size_t corpora = 0;
    for (; test_expected_next(file, &want); corpora++) {
        attn_bleu got;
        assert_true(want.first + want.count <= measures.n);
        assert_ok(attn_bleu_score(ctx, &got, measures.hypothesis + want.first, measures.reference + want.first,
                                  want.count, want.lowercase != 0));
        assert_int_equal(got.hypothesis_tokens, want.bleu.hypothesis_tokens);
        assert_int_equal(got.reference_tokens, want.bleu.reference_tokens);
        for (int k = 0; k < 4; k++) {
            assert_int_equal(got.correct[k], want.bleu.correct[k]);
            assert_int_equal(got.total[k], want.bleu.total[k]);
            assert_true(fabs(got.precision[k] - want.bleu.precision[k]) <= 1e-9);
        }
        assert_true(fabs(got.brevity_penalty - want.bleu.brevity_penalty) <= 1e-12);
        assert_true(fabs(got.score - want.bleu.score) <= 1e-9);
    }
    fclose(file);
    free(measures.data);
    assert_true(corpora > 100);
    assert_int_equal(memory.alive, alive);
    attn_context_free(ctx);
}

static void test_broken_utf8(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    const char *text[] = {"a \xff\xfe b\xc3 \xe2\x82 c"};
    attn_bleu bleu;
    for (int lowercase = 0; lowercase < 2; lowercase++) {
        assert_ok(attn_bleu_score(ctx, &bleu, text, text, 1, lowercase != 0));
        assert_int_equal(bleu.hypothesis_tokens, 5);
        assert_true(fabs(bleu.score - 100) < 1e-9);
    }
    attn_context_free(ctx);
}

static void test_arguments(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    const char *one[] = {"a", NULL};
    attn_bleu bleu;
    assert_int_equal(attn_bleu_score(ctx, &bleu, one, one, 0, false), ATTN_E_ARGUMENT);
    assert_int_equal(attn_bleu_score(ctx, &bleu, one, one, 2, false), ATTN_E_ARGUMENT);
    assert_non_null(strstr(attn_error(ctx), "2 of 2"));
    assert_int_equal(attn_bleu_score(ctx, NULL, one, one, 1, false), ATTN_E_ARGUMENT);
    assert_int_equal(attn_bleu_score(ctx, &bleu, NULL, one, 1, false), ATTN_E_ARGUMENT);
    assert_int_equal(attn_bleu_score(NULL, &bleu, one, one, 1, false), ATTN_E_ARGUMENT);
    attn_context_free(ctx);
}

static void test_no_memory(void **state) {
    (void)state;
    const char *h[] = {"&quot;It costs 1,000.5 dollars.", "b"}, *r[] = {"It costs 1,000 dollars - so!", "b c"};
    for (long fail_after = 0;; fail_after++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        long alive = memory.alive;
        attn_bleu bleu;
        memory.fail_after = fail_after;
        attn_status status = attn_bleu_score(ctx, &bleu, h, r, 2, true);
        assert_int_equal(memory.alive, alive);
        attn_context_free(ctx);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_true(fail_after < 1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_broken_utf8),
                                       cmocka_unit_test(test_arguments), cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
