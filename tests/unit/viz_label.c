/* Labels, numbers and ticks. */
#include "viz_check.h"

#include "viz/drawing.h"

#include <math.h>

static attn_context *ctx;

static void check_label(const char *text, size_t columns, unsigned flags, const char *expected,
                        size_t expected_columns) {
    attn_buffer out = ATTN_BUFFER_INIT(ctx);
    attn_buffer_text(&out, "before ");
    size_t used = viz_label_add(&out, text, columns, flags);
    assert_int_equal(out.status, ATTN_OK);
    assert_string_equal(out.data + 7, expected);
    assert_int_equal(out.bytes, 7 + strlen(expected));
    assert_int_equal(used, expected_columns);
    attn_buffer_free(&out);
}

static void what_cannot_be_seen_is_shown(void **state) {
    (void)state;
    check_label("plain", 24, 0, "plain", 5);
    check_label("", 24, VIZ_WORD, "", 0);
    check_label("\x1b[31m", 24, 0, "<U+001B>[31m", 12);
    check_label("a\nb\t", 24, 0, "a<U+000A>b<U+0009>", 18);
    check_label("\xE2\x80\xAE"
                "evil",
                24, 0, "<U+202E>evil", 12);
    check_label("\xE2\x80\xA8", 24, 0, "<U+2028>", 8);
    check_label("\xC2\x85\xC2\xAD", 24, 0, "<U+0085><U+00AD>", 16);
    check_label("\xEF\xBF\xBE", 24, 0, "<U+FFFE>", 8);
    check_label("\xE3\x85\xA4", 24, 0, "<U+3164>", 8);
    check_label("\xFF"
                "a\xC3",
                24, 0, "<0xFF>a<0xC3>", 13);
    check_label("\xED\xA0\x80", 24, 0, "<0xED><0xA0><0x80>", 18);
    check_label("\xE2\x80\x8D", 24, 0, "<U+200D>", 8);
    check_label("</script>", 24, 0, "</script>", 9);
}

static void spaces_of_words_are_shown_at_the_ends(void **state) {
    (void)state;
    check_label(" the cat ", 24, VIZ_WORD, "\xE2\x90\xA3the cat\xE2\x90\xA3", 9);
    check_label(" the ", 24, VIZ_WORD | VIZ_ASCII, "_the_", 5);
    check_label(" the ", 24, 0, " the ", 5);
    check_label("\xC2\xA0", 24, VIZ_WORD, "<U+00A0>", 8);
    check_label("a\xC2\xA0"
                "b",
                24, VIZ_WORD,
                "a\xC2\xA0"
                "b",
                3);
}

static void long_labels_are_cut_between_characters(void **state) {
    (void)state;
    check_label("12345", 5, 0, "12345", 5);
    check_label("123456", 5, 0, "1234\xE2\x80\xA6", 5);
    check_label("123456", 5, VIZ_ASCII, "12...", 5);
    check_label("\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", 6, 0, "\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", 6);
    check_label("\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", 5, 0, "\xE6\x97\xA5\xE6\x9C\xAC\xE2\x80\xA6", 5);
    check_label("\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", 4, 0, "\xE6\x97\xA5\xE2\x80\xA6", 3);
    check_label("abe\xCC\x81"
                "d",
                3, 0, "ab\xE2\x80\xA6", 3);
    check_label("abce\xCC\x81", 4, 0, "abce\xCC\x81", 4);
    check_label("abc", 0, 0, "", 0);
    check_label("a\x1b", 5, 0, "a\xE2\x80\xA6", 2);
}

static void marks_are_bounded_and_have_a_base(void **state) {
    (void)state;
    check_label("\xCC\x88", 24, 0, "\xE2\x97\x8C\xCC\x88", 1);
    char text[1 + 2 * 100 + 1] = "a", expected[64] = "a";
    for (int i = 0; i < 100; i++) strcat(text, "\xCC\x81");
    for (int i = 0; i < 6; i++) strcat(expected, "\xCC\x81");
    strcat(expected, "\xE2\x80\xA6");
    check_label(text, 24, 0, expected, 2);
    check_label("\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7", 24, VIZ_TERMINAL, "\xF0\x9F\x91\xA9\xF0\x9F\x91\xA7",
                4);
}

static void numbers_read_well(void **state) {
    (void)state;
    static const struct {
        double value;
        int decimals;
        const char *text;
    } cases[] = {{0.834, 2, "0.83"},    {-0.001, 2, "0.00"}, {-1.5, 1, "-1.5"},    {0.999, 2, "1.00"},
                 {1234.0, 0, "1234"},   {NAN, 2, "n/a"},     {INFINITY, 2, "inf"}, {-INFINITY, 2, "-inf"},
                 {3.4e38, 2, "3.4e38"}, {0.05, 3, "0.050"}};
    for (size_t i = 0; i < ATTN_COUNT(cases); i++) {
        char text[VIZ_NUMBER_BYTES];
        viz_number(text, cases[i].value, cases[i].decimals);
        assert_string_equal(text, cases[i].text);
    }
}

static void check_ticks(double low, double high, int wanted, const char *expected) {
    viz_ticks ticks = viz_ticks_make(low, high, wanted);
    char all[400] = "", text[VIZ_NUMBER_BYTES];
    for (int i = 0; i < ticks.n; i++) {
        viz_tick_text(text, &ticks, i);
        if (i) strcat(all, " ");
        strcat(all, text);
    }
    assert_string_equal(all, expected);
}

static void ticks_are_round(void **state) {
    (void)state;
    check_ticks(0.0, 1.0, 5, "0.0 0.2 0.4 0.6 0.8 1.0");
    check_ticks(5.0, 60.0, 8, "10 20 30 40 50 60");
    check_ticks(0.0, 99500.0, 6, "0 20k 40k 60k 80k");
    check_ticks(-1.0, 1.0, 4, "-1.0 -0.5 0.0 0.5 1.0");
    check_ticks(0.0, 3e8, 3, "0 1e8 2e8 3e8");
    check_ticks(9e-8, 1.1e-7, 4, "0.90e-7 0.95e-7 1.00e-7 1.05e-7 1.10e-7");
    for (double scale = 1e-100; scale < 1e100; scale *= 777.0) {
        viz_ticks ticks = viz_ticks_make(-0.3 * scale, 1.7 * scale, 6);
        assert_in_range(ticks.n, 3, 12);
    }
}

static void the_map_darkens_steadily(void **state) {
    (void)state;
    int before = 256 * 1000;
    for (int i = 0; i <= 1000; i++) {
        viz_colour colour = viz_map(i / 1000.0);
        int luma = 299 * colour.r + 587 * colour.g + 114 * colour.b;
        assert_true(luma <= before + 600); /* rounding of one channel */
        before = luma;
    }
    viz_colour first = viz_map(NAN), last = viz_map(7.0);
    assert_memory_equal(&first, &viz_map_stops[0], sizeof first);
    assert_memory_equal(&last, &viz_map_stops[VIZ_MAP_STOPS - 1], sizeof last);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_cannot_be_seen_is_shown),
        cmocka_unit_test(spaces_of_words_are_shown_at_the_ends),
        cmocka_unit_test(long_labels_are_cut_between_characters),
        cmocka_unit_test(marks_are_bounded_and_have_a_base),
        cmocka_unit_test(numbers_read_well),
        cmocka_unit_test(ticks_are_round),
        cmocka_unit_test(the_map_darkens_steadily),
    };
    counter count = {0, -1};
    ctx = counted_context(&count);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    attn_context_free(ctx);
    return failed + (count.live != 0);
}
