/* Diagrams of attention on every surface. */
#include "viz_check.h"

#include "viz/diagram.h"

#include <math.h>

static attn_context *ctx;

static const char *const words[] = {"The", "dog", "</script>&\"", "\xE2\x80\xAE", "", "caf\xC3\xA9"};
static const float x[18] = {0.1f, 0.2f, 0.3f, 0.4f, 0.1f, 0.2f,  0.3f,      0.2f, 0.1f,
                            0.2f, 0.3f, 0.1f, 0.1f, 1e9f, -0.2f, 0.000001f, 0.1f, 123456.0f};
static const float weights[12] = {0.5f, 0.5f, 0, 0, 0, 0, 0.1f, 0.2f, NAN, 0.3f, -1, INFINITY};
static const attn_diagram plain = {"Attention", words, x, weights, x, 6, 3, 2, 3};

static attn_status draw_svg(attn_context *c, char **out) { return attn_diagram_svg(c, out, NULL, &plain); }
static attn_status draw_png(attn_context *c, char **out) { return attn_diagram_png(c, out, NULL, &plain, 0.5); }
static attn_status draw_text(attn_context *c, char **out) { return attn_diagram_terminal(c, out, NULL, &plain, NULL); }
static attn_status draw_mermaid(attn_context *c, char **out) { return attn_diagram_mermaid(c, out, NULL, &plain); }

static void memory_may_fail_anywhere(void **state) {
    (void)state;
    check_failing_memory(draw_svg);
    check_failing_memory(draw_png);
    check_failing_memory(draw_text);
    check_failing_memory(draw_mermaid);
}

static void draw_everywhere(const attn_diagram *diagram) {
    char *out;
    size_t bytes;
    assert_int_equal(attn_diagram_svg(ctx, &out, &bytes, diagram), ATTN_OK);
    check_svg(out, bytes);
    attn_text_free(ctx, out);
    assert_int_equal(attn_diagram_png(ctx, &out, &bytes, diagram, 1.0), ATTN_OK);
    attn_text_free(ctx, out);
    assert_int_equal(attn_diagram_mermaid(ctx, &out, &bytes, diagram), ATTN_OK);
    assert_null(strstr(out, "</script>"));
    attn_text_free(ctx, out);
    static const int widths[] = {40, 80, 300};
    for (size_t i = 0; i < 12; i++) {
        attn_terminal_options options = ATTN_TERMINAL_OPTIONS_INIT;
        options.width = widths[i % 3];
        options.colours = i % 4 < 2 ? 256 : 0;
        options.unicode = i >= 6;
        assert_int_equal(attn_diagram_terminal(ctx, &out, &bytes, diagram, &options), ATTN_OK);
        if (diagram->n <= 12) check_terminal(out, bytes, (size_t)options.width, options.colours > 0);
        attn_text_free(ctx, out);
    }
}

static void every_diagram_can_be_drawn(void **state) {
    (void)state;
    attn_diagram d = plain;
    draw_everywhere(&d);
    d.title = NULL, d.tokens = NULL;
    draw_everywhere(&d);
    d.n = 2, d.m = 6; /* more context vectors than tokens */
    draw_everywhere(&d);
    d.d = 18, d.c = 18, d.n = d.m = 1;
    draw_everywhere(&d);
    d.d = 0, d.c = 0;
    draw_everywhere(&d);
    static float many[64 * 64];
    for (size_t i = 0; i < 64 * 64; i++) many[i] = 1.0f / 64;
    const attn_diagram wide = {NULL, NULL, many, many, many, 64, 8, 64, 4};
    draw_everywhere(&wide);
}

static void refused(void **state) {
    (void)state;
    char *out;
    attn_diagram d = plain;
    d.n = 65;
    assert_int_equal(attn_diagram_svg(ctx, &out, NULL, &d), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "attn_diagram: 65 tokens and 2 context vectors, expected 1 to 64 each");
    d = plain, d.m = 0;
    assert_int_equal(attn_diagram_terminal(ctx, &out, NULL, &d, NULL), ATTN_E_SHAPE);
    d = plain, d.weights = NULL;
    assert_int_equal(attn_diagram_mermaid(ctx, &out, NULL, &d), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx), "attn_diagram: weights is NULL");
    assert_int_equal(attn_diagram_svg(ctx, &out, NULL, NULL), ATTN_E_ARGUMENT);
}

static int setup(void **state) {
    (void)state;
    return attn_context_create(&ctx, NULL) == ATTN_OK ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    attn_context_free(ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_may_fail_anywhere),
                                       cmocka_unit_test(every_diagram_can_be_drawn), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
