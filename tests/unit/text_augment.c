/* text_augment.c: each change by itself, how often, and that the same numbers give the same texts. */
#include "unit/text_support.h"

static memory m;
static attn_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = memory_context(&m);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

enum { LOWER = 1, FINAL = 2, COMMAS = 4, UMLAUTS = 8 };

static attn_augment_options chances(int which, float p) {
    attn_augment_options options = {sizeof options, 0, 0, 0, 0};
    if (which & LOWER) options.lowercase_source = p;
    if (which & FINAL) options.drop_final_punctuation = p;
    if (which & COMMAS) options.drop_source_commas = p;
    if (which & UMLAUTS) options.fold_umlauts = p;
    return options;
}

static void test_each(void **state) {
    (void)state;
    static const struct {
        int which;
        const char *source, *target, *new_source, *new_target;
    } cases[] = {
        {0,
         "Das, \xC3\x9C"
         "bel.",
         "So, \xC3\x9C.",
         "Das, \xC3\x9C"
         "bel.",
         "So, \xC3\x9C."},
        {LOWER,
         "Das \xC3\x9C"
         "bel.",
         "The Evil.",
         "das \xC3\xBC"
         "bel.",
         "The Evil."},
        {FINAL, "Wirklich?!", "Really?", "Wirklich", "Really"},
        {FINAL, "Quoi\xC2\xA0?", "What\xE2\x80\xA6 ", "Quoi", "What"},
        {FINAL, "Er sagte: \"Komm!\"", "e.g. this", "Er sagte: \"Komm!\"", "e.g. this"},
        {FINAL, "...", "?", "...", "?"}, /* nothing would be left */
        {COMMAS, "Ja, gut, 3,5 und 1,000,000, ja", "Yes, good", "Ja gut 3,5 und 1,000,000 ja", "Yes, good"},
        {UMLAUTS, "\xC3\xA4\xC3\xB6\xC3\xBC\xC3\x9F",
         "na\xC3\xAF"
         "ve \xC3\xBC",
         "aeoeuess",
         "na\xC3\xAF"
         "ve \xC3\xBC"},
        {UMLAUTS, "\xC3\x84pfel \xC3\x96L \xC3\x9C", "x", "Aepfel OEL Ue", "x"},
        {LOWER | FINAL | COMMAS | UMLAUTS,
         "\xC3\x84h, Gr\xC3\xBC\xC3\x9F"
         "e!",
         "Er, greetings!", "aeh gruesse", "Er, greetings"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const attn_pair pair = {cases[i].source, cases[i].target, strlen(cases[i].source), strlen(cases[i].target), 1};
        attn_augment_options options = chances(cases[i].which, 1);
        char *source, *target;
        CHECK_OK(ctx, attn_augment_pair(ctx, &source, &target, &pair, &options, 7, i));
        assert_string_equal(source, cases[i].new_source);
        assert_string_equal(target, cases[i].new_target);
        attn_text_free(ctx, source);
        attn_text_free(ctx, target);
    }
}

/* Four independent draws: each change is made in a tenth of the cases, two together in a hundredth. */
static void test_frequencies(void **state) {
    (void)state;
    enum { N = 40000 };
    static const char text[] = "\xC3\x84h, Du!";
    const attn_pair pair = {text, "Er!", sizeof text - 1, 3, 1};
    attn_augment_options options = chances(LOWER | FINAL | COMMAS | UMLAUTS, 0.1f);
    int count[16] = {0}, each[4] = {0};
    for (uint64_t i = 0; i < N; i++) {
        char *source, *target, *again, *other;
        CHECK_OK(ctx, attn_augment_pair(ctx, &source, &target, &pair, &options, 3, i));
        CHECK_OK(ctx, attn_augment_pair(ctx, &again, &other, &pair, &options, 3, i));
        assert_string_equal(source, again);
        assert_string_equal(target, other);
        int what = (strstr(source, "du") ? LOWER : 0) | (strchr(source, '!') ? 0 : FINAL) |
                   (strchr(source, ',') ? 0 : COMMAS) | (source[1] == 'e' ? UMLAUTS : 0);
        assert_int_equal(strchr(target, '!') == NULL, (what & FINAL) != 0);
        count[what]++;
        for (int b = 0; b < 4; b++) each[b] += what >> b & 1;
        attn_text_free(ctx, source);
        attn_text_free(ctx, target);
        attn_text_free(ctx, again);
        attn_text_free(ctx, other);
    }
    for (int b = 0; b < 4; b++) assert_in_range(each[b], 3700, 4300); /* 4000, σ = 60 */
    assert_in_range(count[LOWER | FINAL], 230, 420);                  /* 324, σ = 18 */
    assert_in_range(count[COMMAS | UMLAUTS], 230, 420);
    assert_in_range(count[0], 25700, 26800); /* 26244, σ = 95 */
}

static void test_refusals(void **state) {
    (void)state;
    const attn_pair pair = {"a", "b", 1, 1, 1};
    attn_augment_options options = {0};
    char *source, *target;
    CHECK_FAILS(ctx, attn_augment_pair(ctx, &source, &target, &pair, &options, 0, 0), ATTN_E_VERSION, "struct_size");
    options = chances(LOWER | UMLAUTS, 1);
    size_t live = m.live;
    for (long left = 0;; left++) {
        m.left = left;
        attn_status status = attn_augment_pair(ctx, &source, &target, &pair, &options, 0, 0);
        m.left = -1;
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_null(source);
        assert_int_equal(m.live, live);
    }
    attn_text_free(ctx, source);
    attn_text_free(ctx, target);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_each), TEST(test_frequencies), TEST(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
