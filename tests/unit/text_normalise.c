/* text_normalise.c: NFC, the named mappings, white space, lower case, bytes that are not UTF-8. */
#include "unit/text_support.h"

static memory m;
static attn_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = memory_context(&m);
    return 0;
}

static void check(const char *text, size_t bytes, const char *expected, size_t expected_bad) {
    char *out;
    size_t n, bad;
    CHECK_OK(ctx, attn_text_normalise(ctx, &out, &n, text, bytes, &bad));
    assert_string_equal(out, expected);
    assert_int_equal(n, strlen(expected));
    assert_int_equal(bad, expected_bad);
    attn_text_free(ctx, out);
}

#define NORMAL(text, expected) check(text, sizeof(text) - 1, expected, SIZE_MAX)

static void test_nfc(void **state) {
    (void)state;
    NORMAL("", "");
    NORMAL("ue\xCC\x88", "u\xC3\xAB");                              /* ë */
    NORMAL("\xCC\x88", "\xCC\x88");                                 /* a mark with nothing before it */
    NORMAL("a\xCC\x81\xCC\xA3", "\xE1\xBA\xA1\xCC\x81");            /* marks are ordered first: ạ, acute */
    NORMAL("\xE2\x84\xAB", "\xC3\x85");                             /* Ångström to Å */
    NORMAL("\xEF\xAC\x81", "\xEF\xAC\x81");                         /* ﬁ stays: not NFKC */
    NORMAL("\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8", "\xEA\xB0\x81"); /* Hangul */
    NORMAL("\xEA\xB0\x80\xE1\x86\xA7", "\xEA\xB0\x80\xE1\x86\xA7"); /* U+11A7 is not lost */
    NORMAL("\xE0\xA5\x98", "\xE0\xA4\x95\xE0\xA4\xBC");             /* excluded from composition */
}

static void test_mappings(void **state) {
    (void)state;
    NORMAL("a\xC2\xA0"
           "b\xE2\x80\xAF!",
           "a b !");
    NORMAL("don\xE2\x80\x99t", "don't");
    NORMAL(" \t a \r\n\xE3\x80\x80 b\xE2\x80\xA8", "a b");
    NORMAL(" \t\n", "");
    NORMAL("\xE2\x80\x98x\xE2\x80\x9D", "\xE2\x80\x98x\xE2\x80\x9D"); /* other quotes stay */
    NORMAL("\xE2\x96\x81x", "\xE2\x96\x81x");                         /* so does ▁ */
    char *out;                                                        /* a NUL is a character like others */
    size_t n;
    CHECK_OK(ctx, attn_text_normalise(ctx, &out, &n, " a\0b", 4, NULL));
    assert_int_equal(n, 3);
    assert_memory_equal(out, "a\0b", 4);
    attn_text_free(ctx, out);
}

static void test_bad_bytes(void **state) {
    (void)state;
    check("a\xFF", 2, "a\xEF\xBF\xBD", 1);
    check("\xC3", 1, "\xEF\xBF\xBD", 0);
    check("x\xED\xA0\x80y", 5, "x\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDy", 1); /* a surrogate: three bad bytes */
    check("\xC0\xAF", 2, "\xEF\xBF\xBD\xEF\xBF\xBD", 0);                     /* overlong */
    check("\xF4\x90\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD", 0);
}

static void test_lowercase(void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"\xC3\x84RGER Stra\xC3\x9F"
         "e",
         "\xC3\xA4rger stra\xC3\x9F"
         "e"},
        {"\xC4\xB0I", "i\xCC\x87i"},              /* İ becomes two characters */
        {"\xE1\xBA\x9E", "\xC3\x9F"},             /* ẞ */
        {"\xCE\xA3\xCE\xA3", "\xCF\x83\xCF\x83"}, /* no final sigma: characters by themselves */
        {"\xC7\x85", "\xC7\x86"},                 /* ǅ */
        {"\xF0\x90\x90\x80", "\xF0\x90\x90\xA8"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char *out;
        size_t n;
        CHECK_OK(ctx, attn_text_lowercase(ctx, &out, &n, pairs[i][0], strlen(pairs[i][0])));
        assert_string_equal(out, pairs[i][1]);
        assert_int_equal(n, strlen(out));
        attn_text_free(ctx, out);
    }
}

/* Marks of two classes in the wrong order, a megabyte of them: quadratic sorting would take minutes. */
static void test_many_marks(void **state) {
    (void)state;
    enum { PAIRS = 250000 };
    char *text = malloc(4 * PAIRS + 1), *out;
    size_t n;
    text[0] = 'q';
    for (size_t i = 0; i < PAIRS; i++) memcpy(text + 1 + 4 * i, "\xCC\x81\xCC\xA3", 4);
    CHECK_OK(ctx, attn_text_normalise(ctx, &out, &n, text, 4 * PAIRS + 1, NULL));
    assert_int_equal(n, 4 * PAIRS + 1);
    for (size_t i = 0; i < PAIRS; i++) assert_memory_equal(out + 1 + 2 * i, "\xCC\xA3", 2);
    for (size_t i = PAIRS; i < 2 * PAIRS; i++) assert_memory_equal(out + 1 + 2 * i, "\xCC\x81", 2);
    attn_text_free(ctx, out);
    free(text);
}

static int tear_down(void **state) {
    (void)state;
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nfc, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_mappings, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_bytes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lowercase, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_marks, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
