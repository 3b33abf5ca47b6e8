/* Line charts on every surface. */
#include "viz_check.h"

#include "viz/drawing.h"

#include <math.h>

static attn_context *ctx;

static const double words[] = {5, 10, 20, 30, 50}, with[] = {28.1, 30.2, 29.8, 28.9, 27.2},
                    without[] = {27, 29, 24, 18, 9.9};
static const attn_plot_series both[] = {{"with attention", words, with, 5}, {"without", words, without, 5}};
static const attn_plot lengths = {"BLEU by length", "words", "BLEU", both, 2, true};

static attn_status draw_svg(attn_context *c, char **out) { return attn_plot_svg(c, out, NULL, &lengths); }
static attn_status draw_png(attn_context *c, char **out) {
    const attn_plot plain = {NULL, NULL, NULL, both, 1, true};
    return attn_plot_png(c, out, NULL, &plain, 0.25);
}
static attn_status draw_terminal(attn_context *c, char **out) {
    return attn_plot_terminal(c, out, NULL, &lengths, NULL);
}

static void memory_may_fail_anywhere(void **state) {
    (void)state;
    check_failing_memory(draw_svg);
    check_failing_memory(draw_png);
    check_failing_memory(draw_terminal);
}

static void draw_everywhere(const attn_plot *plot) {
    char *out, *again;
    size_t bytes, bytes_again;
    assert_int_equal(attn_plot_svg(ctx, &out, &bytes, plot), ATTN_OK);
    check_svg(out, bytes);
    assert_null(strstr(out, "n/a"));
    assert_null(strstr(out, "\"inf"));
    attn_text_free(ctx, out);
    assert_int_equal(attn_plot_png(ctx, &out, &bytes, plot, 1.0), ATTN_OK);
    assert_int_equal(attn_plot_png(ctx, &again, &bytes_again, plot, 1.0), ATTN_OK);
    assert_int_equal(bytes, bytes_again);
    assert_memory_equal(out, again, bytes);
    attn_text_free(ctx, out);
    attn_text_free(ctx, again);
    static const int widths[] = {20, 40, 80, 300};
    for (size_t i = 0; i < 16; i++) {
        attn_terminal_options options = ATTN_TERMINAL_OPTIONS_INIT;
        options.width = widths[i % 4];
        options.colours = i & 4 ? 256 : 0;
        options.unicode = i >= 8;
        assert_int_equal(attn_plot_terminal(ctx, &out, &bytes, plot, &options), ATTN_OK);
        check_terminal(out, bytes, (size_t)options.width, options.colours > 0);
        attn_text_free(ctx, out);
    }
}

static void every_plot_can_be_drawn(void **state) {
    (void)state;
    static const double bad[] = {NAN, INFINITY, -INFINITY, 1e300, -1e300, 0.0, -1.0, 5e-324, 1e149, -1e149};
    static const double one[] = {3.0}, constant[] = {7.0, 7.0, 7.0}, near[] = {1e15, 1e15 + 1.0, 1e15 + 2.0};
    const attn_plot_series series[] = {{"<b>\xE2\x80\xAE", bad, bad, 10},
                                       {NULL, one, one, 1},
                                       {"", constant, constant, 3},
                                       {"near", near, constant, 3},
                                       {"none", NULL, NULL, 0}};
    for (size_t first = 0; first < 5; first++)
        for (size_t n = 0; first + n <= 5; n++) {
            attn_plot plot = {n % 2 ? "\x1b\"" : NULL, "x&", "y<", series + first, n, n % 2 == 0};
            draw_everywhere(&plot);
        }
    attn_plot_series many[20];
    for (size_t i = 0; i < 20; i++) many[i] = both[i % 2];
    attn_plot plot = {"many", "x", "y", many, 20, false};
    draw_everywhere(&plot);
    draw_everywhere(&lengths);
}

static void long_curves_keep_their_extremes(void **state) {
    (void)state;
    enum { N = 100000 };
    static double x[N], y[N];
    for (size_t i = 0; i < N; i++) x[i] = (double)i, y[i] = sin((double)i / 3000.0);
    y[54321] = 5.0;
    y[54322] = -5.0;
    attn_plot_series series = {"loss", x, y, N};
    attn_plot plot = {NULL, NULL, NULL, &series, 1, false};
    viz_font *font;
    viz_drawing drawing;
    assert_int_equal(viz_font_open(ctx, &font), ATTN_OK);
    viz_drawing_start(&drawing, ctx);
    assert_int_equal(viz_plot_layout(&drawing, font, &plot), ATTN_OK);
    double low = 1e9, high = -1e9;
    for (size_t i = 2; i < drawing.n_points; i++) { /* the first two belong to the legend */
        low = fmin(low, drawing.points[2 * i + 1]);
        high = fmax(high, drawing.points[2 * i + 1]);
    }
    assert_true(drawing.n_points < 10000);
    assert_true(high - low > 200.0);
    viz_drawing_free(&drawing);
    viz_font_close(font);
    draw_everywhere(&plot);
}

static void the_legend_and_axes_are_there(void **state) {
    (void)state;
    char *out;
    assert_int_equal(attn_plot_terminal(ctx, &out, NULL, &lengths, NULL), ATTN_OK);
    assert_non_null(strstr(out, "** with attention  oo without\n"));
    assert_non_null(strstr(out, "40 \xE2\x94\xA4"));
    assert_non_null(strstr(out, "words\n"));
    attn_text_free(ctx, out);
    assert_int_equal(attn_plot_svg(ctx, &out, NULL, &lengths), ATTN_OK);
    assert_non_null(strstr(out, ">with attention</text>"));
    assert_non_null(strstr(out, "aria-label=\"BLEU by length: line chart, 2 series\""));
    attn_text_free(ctx, out);
}

static void wrong_arguments_are_named(void **state) {
    (void)state;
    char *out;
    attn_plot_series series = {"x", NULL, words, 3};
    attn_plot plot = {NULL, NULL, NULL, &series, 1, false};
    assert_int_equal(attn_plot_svg(ctx, &out, NULL, &plot), ATTN_E_ARGUMENT);
    assert_int_equal(attn_plot_terminal(ctx, &out, NULL, &plot, NULL), ATTN_E_ARGUMENT);
    plot.series = NULL;
    assert_int_equal(attn_plot_png(ctx, &out, NULL, &plot, 1.0), ATTN_E_ARGUMENT);
    assert_int_equal(attn_plot_png(ctx, &out, NULL, NULL, 1.0), ATTN_E_ARGUMENT);
    assert_int_equal(attn_plot_png(ctx, &out, NULL, &lengths, -1.0), ATTN_E_ARGUMENT);
    assert_null(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_legend_and_axes_are_there),   cmocka_unit_test(every_plot_can_be_drawn),
        cmocka_unit_test(long_curves_keep_their_extremes), cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    counter count = {0, -1};
    ctx = counted_context(&count);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    attn_context_free(ctx);
    return failed + (count.live != 0);
}
