/* Alignment error rate and files of gold links. */
#include "support/allocator.h"
#include <attn/text.h>

#include <math.h>
#include <stdio.h>
#include <unistd.h>

static void test_value(void **state) {
    (void)state;
    attn_link found[] = {{0, 0}, {1, 1}, {2, 3}, {4, 4}}, sure[] = {{0, 0}, {2, 3}, {5, 5}},
              possible[] = {{1, 1}, {0, 0}};
    attn_links a = {found, 4}, s = {sure, 3}, p = {possible, 2}, none = {NULL, 0};
    attn_aer aer = {0, 0, 0, 0};
    assert_true(attn_aer_value(&aer) == 0);
    attn_aer_add(&aer, &a, &s, &p);
    assert_int_equal(aer.hits_sure, 2);
    assert_int_equal(aer.hits_possible, 3); /* 0-0, 1-1, and 2-3, which is sure and so possible */
    assert_int_equal(aer.links, 4);
    assert_int_equal(aer.sure, 3);
    assert_true(fabs(attn_aer_value(&aer) - (1 - 5.0 / 7)) < 1e-15);
    attn_aer_add(&aer, &none, &s, NULL);
    attn_aer_add(&aer, NULL, NULL, NULL);
    assert_true(fabs(attn_aer_value(&aer) - (1 - 5.0 / 10)) < 1e-15);
    attn_aer perfect = {0, 0, 0, 0};
    attn_aer_add(&perfect, &s, &s, &none);
    assert_true(attn_aer_value(&perfect) == 0);
}

/* Reads `text` as a file of gold links. */
static attn_status read_gold_text(attn_context *ctx, attn_links **sure, attn_links **possible, size_t *n,
                                  const char *text, size_t bytes, bool one_based) {
    char path[] = "/tmp/attn-gold-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(write(fd, text, bytes) == (ssize_t)bytes);
    close(fd);
    attn_status status = attn_gold_read(ctx, sure, possible, n, path, one_based);
    unlink(path);
    return status;
}

static void test_read(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    long alive = memory.alive;
    attn_links *sure, *possible;
    size_t n;
    static const char text[] = "\xEF\xBB\xBF"
                               "2-2 1-1\t1p3 1-1 4?1 1p3\r\n\n  \n2147483647-1";
    assert_ok(read_gold_text(ctx, &sure, &possible, &n, text, sizeof text - 1, true));
    assert_int_equal(n, 4);
    assert_int_equal(sure[0].count, 2); /* sorted, each once */
    assert_true(sure[0].link[0].source == 0 && sure[0].link[0].target == 0);
    assert_true(sure[0].link[1].source == 1 && sure[0].link[1].target == 1);
    assert_int_equal(possible[0].count, 2);
    assert_true(possible[0].link[0].source == 0 && possible[0].link[0].target == 2);
    assert_true(possible[0].link[1].source == 3 && possible[0].link[1].target == 0);
    assert_int_equal(sure[1].count + possible[1].count + sure[2].count + possible[2].count, 0);
    assert_int_equal(sure[3].link[0].source, INT32_MAX - 1);
    attn_gold_free(ctx, sure, n);
    attn_gold_free(ctx, possible, n);
    assert_ok(read_gold_text(ctx, &sure, &possible, &n, "0-7\n", 4, false));
    assert_int_equal(n, 1);
    assert_int_equal(sure[0].link[0].target, 7);
    attn_gold_free(ctx, sure, n);
    attn_gold_free(ctx, possible, n);
    assert_ok(read_gold_text(ctx, &sure, &possible, &n, "", 0, false));
    assert_int_equal(n, 0);
    attn_gold_free(ctx, sure, n);
    attn_gold_free(ctx, possible, n);
    assert_int_equal(memory.alive, alive);
    attn_context_free(ctx);
}

static void test_hostile(void **state) {
    (void)state;
    static const char *const bad[] = {"1-",
                                      "-1",
                                      "1",
                                      "1--2",
                                      "1-2-3",
                                      "1-2x",
                                      "x",
                                      "1:2",
                                      "+1-2",
                                      "1- 2",
                                      "1P2",
                                      "0x1-2",
                                      "-",
                                      "p",
                                      "2147483648-1",
                                      "1-99999999999999999999999999",
                                      "1-\xc2\xb2",
                                      "\xff",
                                      "1.0-2"};
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    long alive = memory.alive;
    attn_links *sure, *possible;
    size_t n;
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char text[128];
        int bytes = snprintf(text, sizeof text, "0-0 1-1\n3p3 %s 2-2\n0-0\n", bad[k]);
        assert_int_equal(read_gold_text(ctx, &sure, &possible, &n, text, (size_t)bytes, false), ATTN_E_FORMAT);
        assert_non_null(strstr(attn_error(ctx), ":2:"));
        assert_null(sure);
        assert_null(possible);
        assert_int_equal(n, 0);
    }
    assert_int_equal(read_gold_text(ctx, &sure, &possible, &n, "0-1\n", 4, true), ATTN_E_FORMAT);
    assert_int_equal(read_gold_text(ctx, &sure, &possible, &n, "1-1\0002-2\n", 8, false), ATTN_E_FORMAT);
    static char endless[100001];
    memset(endless, '1', sizeof endless - 1);
    assert_int_equal(read_gold_text(ctx, &sure, &possible, &n, endless, sizeof endless - 1, false), ATTN_E_FORMAT);
    assert_int_equal(attn_gold_read(ctx, &sure, &possible, &n, "/nonexistent/gold", false), ATTN_E_IO);
    assert_int_equal(attn_gold_read(ctx, NULL, &possible, &n, "x", false), ATTN_E_ARGUMENT);
    assert_int_equal(memory.alive, alive);
    attn_context_free(ctx);
}

static void test_no_memory(void **state) {
    (void)state;
    static const char text[] = "0-0 1p1\n2-2\n";
    for (long fail_after = 0;; fail_after++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        long alive = memory.alive;
        attn_links *sure, *possible;
        size_t n;
        memory.fail_after = fail_after;
        attn_status status = read_gold_text(ctx, &sure, &possible, &n, text, sizeof text - 1, false);
        attn_gold_free(ctx, sure, n);
        attn_gold_free(ctx, possible, n);
        assert_int_equal(memory.alive, alive);
        attn_context_free(ctx);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_true(fail_after < 100);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_value), cmocka_unit_test(test_read),
                                       cmocka_unit_test(test_hostile), cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
