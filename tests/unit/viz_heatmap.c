/* Heat maps on every surface. */
#include "viz_check.h"

#include "viz/drawing.h"

#include <math.h>
#include <png.h>
#include <stdio.h>

static attn_context *ctx;

static const char *const source[] = {"Kannst", "du", "mir", "bitte", "helfen", "?"};
static const char *const target[] = {"Can", "you", "help", "me", "?"};
static const char *const hostile_rows[] = {"</script><script>alert(1)</script>",
                                           "\"q' & <b>",
                                           "\x1b[31mred\x07",
                                           "a\xE2\x80\xA8"
                                           "b",
                                           "\xE2\x80\xAE"
                                           "evil",
                                           "\xFF\xC3"
                                           "bad",
                                           " the ",
                                           "",
                                           NULL,
                                           "]]>",
                                           "--><!--"};
static const char *const hostile_columns[] = {"\xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E",
                                              "\xF0\x9F\x98\x80",
                                              "\xF0\x9F\x91\xA8\xE2\x80\x8D\xF0\x9F\x91\xA9",
                                              "e\xCC\x81t",
                                              "\xCC\x88",
                                              "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D",
                                              "\xD9\x85\xD8\xB1",
                                              "&#x3c;",
                                              "\r\n"};

static float small_values[30];
static attn_heatmap small(void) {
    for (size_t i = 0; i < 30; i++) small_values[i] = (float)(i % 7) / 10.0f;
    small_values[2 * 6 + 4] = 0.91f;
    return (attn_heatmap){"Bahdanau", "target", "source", target, source, small_values, 5, 6};
}

static float bad_values[11 * 9];
static attn_heatmap hostile(void) {
    static const float bad[] = {NAN, INFINITY, -INFINITY, -0.2f, 1.7f, 3e38f, -3e38f, 1e-40f, 1.0f, 0.5f};
    for (size_t i = 0; i < 99; i++) bad_values[i] = bad[i % 10];
    return (attn_heatmap){"<b>\xE2\x80\xAE & \x01", "\"", "'>", hostile_rows, hostile_columns, bad_values, 11, 9};
}

static attn_status draw_svg(attn_context *c, char **out) {
    attn_heatmap map = small();
    return attn_heatmap_svg(c, out, NULL, &map);
}
static attn_status draw_png(attn_context *c, char **out) {
    attn_heatmap map = small();
    map.rows = 1, map.columns = 2, map.title = NULL;
    return attn_heatmap_png(c, out, NULL, &map, 1.0);
}
static attn_status draw_terminal(attn_context *c, char **out) {
    attn_heatmap map = small();
    attn_terminal_options options = ATTN_TERMINAL_OPTIONS_INIT;
    options.width = 24;
    return attn_heatmap_terminal(c, out, NULL, &map, &options);
}

static void memory_may_fail_anywhere(void **state) {
    (void)state;
    check_failing_memory(draw_svg);
    check_failing_memory(draw_png);
    check_failing_memory(draw_terminal);
}

static void svg_is_well_formed(void **state) {
    (void)state;
    attn_heatmap maps[] = {small(), hostile()};
    for (size_t i = 0; i < 2; i++) {
        char *svg;
        size_t bytes;
        assert_int_equal(attn_heatmap_svg(ctx, &svg, &bytes, &maps[i]), ATTN_OK);
        assert_true(check_svg(svg, bytes) > maps[i].rows * maps[i].columns);
        assert_non_null(strstr(svg, "role=\"img\" aria-label=\""));
        attn_text_free(ctx, svg);
    }
    char *svg;
    assert_int_equal(attn_heatmap_svg(ctx, &svg, NULL, &maps[0]), ATTN_OK);
    assert_non_null(strstr(svg, "<title>help \xE2\x86\x90 helfen 0.91</title>"));
    attn_text_free(ctx, svg);
    assert_int_equal(attn_heatmap_svg(ctx, &svg, NULL, &maps[1]), ATTN_OK);
    assert_non_null(strstr(svg, "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_non_null(strstr(svg, "&lt;U+202E&gt;evil"));
    assert_non_null(strstr(svg, "n/a</title>"));
    attn_text_free(ctx, svg);
}

/* Names of the chunks, and the pixels. */
static uint8_t *decode(const char *file, size_t bytes, png_image *image, char *chunks) {
    *chunks = '\0';
    for (size_t at = 8; at + 8 <= bytes;) {
        const uint8_t *length = (const uint8_t *)file + at;
        if (!strstr(chunks, "IDAT") || strncmp(file + at + 4, "IDAT", 4)) strncat(chunks, file + at + 4, 4);
        at += 12 + ((size_t)length[0] << 24 | (size_t)length[1] << 16 | (size_t)length[2] << 8 | length[3]);
    }
    *image = (png_image){.version = PNG_IMAGE_VERSION};
    assert_true(png_image_begin_read_from_memory(image, file, bytes));
    image->format = PNG_FORMAT_RGB;
    uint8_t *pixels = malloc(PNG_IMAGE_SIZE(*image));
    assert_non_null(pixels);
    assert_true(png_image_finish_read(image, NULL, pixels, 0, NULL));
    return pixels;
}

static void png_shows_the_values(void **state) {
    (void)state;
    attn_heatmap map = small();
    viz_font *font;
    viz_drawing drawing;
    assert_int_equal(viz_font_open(ctx, &font), ATTN_OK);
    viz_drawing_start(&drawing, ctx);
    assert_int_equal(viz_heatmap_layout(&drawing, font, &map), ATTN_OK);
    const viz_item *cells = NULL;
    for (size_t i = 0; i < drawing.n; i++)
        if (drawing.items[i].kind == VIZ_CELLS) cells = &drawing.items[i];
    assert_non_null(cells);
    for (int scale = 1; scale <= 2; scale++) {
        char *file, chunks[64];
        size_t bytes;
        png_image image;
        assert_int_equal(attn_heatmap_png(ctx, &file, &bytes, &map, scale), ATTN_OK);
        uint8_t *pixels = decode(file, bytes, &image, chunks);
        assert_string_equal(chunks, "IHDRsRGBIDATIEND");
        assert_int_equal(image.width, (int)drawing.width * scale);
        assert_int_equal(image.height, (int)drawing.height * scale);
        double side = cells->w / 6.0;
        for (size_t i = 0; i < 30; i++) { /* near a corner, where no number stands */
            size_t x = (size_t)((cells->x + (double)(i % 6) * side + 3.0) * scale);
            size_t y = (size_t)((cells->y + (double)(i / 6) * side + 3.0) * scale);
            viz_colour colour = viz_map(map.values[i]);
            assert_memory_equal(pixels + 3 * (y * image.width + x), &colour, 3);
        }
        size_t dark = 0; /* the words left of the cells are there */
        for (size_t y = 0; y < image.height; y++)
            for (size_t x = 0; x < (size_t)(cells->x - 4.0) * (size_t)scale; x++)
                dark += pixels[3 * (y * image.width + x)] < 100;
        assert_true(dark > 100);
        free(pixels);
        attn_text_free(ctx, file);
    }
    viz_drawing_free(&drawing);
    viz_font_close(font);
}

static void the_same_map_gives_the_same_bytes(void **state) {
    (void)state;
    attn_heatmap maps[] = {small(), hostile()};
    for (size_t i = 0; i < 2; i++) {
        char *a, *b;
        size_t a_bytes, b_bytes;
        assert_int_equal(attn_heatmap_svg(ctx, &a, &a_bytes, &maps[i]), ATTN_OK);
        assert_int_equal(attn_heatmap_svg(ctx, &b, &b_bytes, &maps[i]), ATTN_OK);
        assert_int_equal(a_bytes, b_bytes);
        assert_memory_equal(a, b, a_bytes);
        attn_text_free(ctx, a);
        attn_text_free(ctx, b);
        assert_int_equal(attn_heatmap_png(ctx, &a, &a_bytes, &maps[i], 1.5), ATTN_OK);
        assert_int_equal(attn_heatmap_png(ctx, &b, &b_bytes, &maps[i], 1.5), ATTN_OK);
        assert_int_equal(a_bytes, b_bytes);
        assert_memory_equal(a, b, a_bytes);
        attn_text_free(ctx, a);
        attn_text_free(ctx, b);
    }
}

/* All surfaces at all widths. */
static void draw_everywhere(const attn_heatmap *map, bool png) {
    char *out;
    size_t bytes;
    assert_int_equal(attn_heatmap_svg(ctx, &out, &bytes, map), ATTN_OK);
    check_svg(out, bytes);
    attn_text_free(ctx, out);
    if (png) {
        png_image image;
        char chunks[64];
        assert_int_equal(attn_heatmap_png(ctx, &out, &bytes, map, 1.0), ATTN_OK);
        free(decode(out, bytes, &image, chunks));
        attn_text_free(ctx, out);
    }
    static const int widths[] = {1, 20, 40, 80, 200}, colours[] = {0, 256, 1 << 24};
    for (size_t i = 0; i < 30; i++) {
        attn_terminal_options options = ATTN_TERMINAL_OPTIONS_INIT;
        options.width = widths[i % 5];
        options.colours = colours[i / 5 % 3];
        options.unicode = i >= 15;
        assert_int_equal(attn_heatmap_terminal(ctx, &out, &bytes, map, &options), ATTN_OK);
        check_terminal(out, bytes, (size_t)(options.width < 20 ? 20 : options.width), options.colours > 0);
        attn_text_free(ctx, out);
    }
}

static void every_shape_can_be_drawn(void **state) {
    (void)state;
    static const size_t shapes[][2] = {{0, 0},  {0, 3},   {3, 0},   {1, 1},   {1, 60},
                                       {60, 1}, {12, 14}, {40, 45}, {60, 60}, {130, 7}};
    for (size_t s = 0; s < ATTN_COUNT(shapes); s++) {
        size_t rows = shapes[s][0], columns = shapes[s][1];
        float *values = calloc(rows * columns + 1, sizeof *values);
        const char **words = calloc(200, sizeof *words);
        assert_non_null(values);
        assert_non_null(words);
        for (size_t i = 0; i < 200; i++)
            words[i] = i % 3 ? source[i % 6] : "Donaudampfschifffahrtsgesellschaftskapit\xC3\xA4n";
        for (size_t i = 0; i < rows * columns; i++) values[i] = (float)(i * 37 % 101) / 100.0f;
        attn_heatmap map = {"title", "target", "source", words, words, values, rows, columns};
        draw_everywhere(&map, true);
        map = (attn_heatmap){NULL, NULL, NULL, NULL, NULL, values, rows, columns};
        draw_everywhere(&map, rows < 50);
        free(values);
        free(words);
    }
    attn_heatmap map = hostile();
    draw_everywhere(&map, true);
}

static void large_maps_can_be_drawn(void **state) {
    (void)state;
    static float values[500 * 500], wide[3 * 5000];
    for (size_t i = 0; i < 500 * 500; i++) values[i] = (float)(i % 501) / 501.0f;
    values[77] = NAN;
    attn_heatmap map = {"large", "target", "source", NULL, NULL, values, 500, 500};
    char *out;
    size_t bytes;
    assert_int_equal(attn_heatmap_svg(ctx, &out, &bytes, &map), ATTN_OK);
    check_svg(out, bytes);
    assert_non_null(strstr(out, "data:image/png;base64,iVBORw0KGgo"));
    attn_text_free(ctx, out);
    assert_int_equal(attn_heatmap_png(ctx, &out, &bytes, &map, 1.0), ATTN_OK);
    attn_text_free(ctx, out);
    assert_int_equal(attn_heatmap_terminal(ctx, &out, &bytes, &map, NULL), ATTN_OK);
    check_terminal(out, bytes, 80, false);
    attn_text_free(ctx, out);

    wide[3 * 5000 - 1] = 1.0f; /* blocks keep the greatest weight */
    map = (attn_heatmap){NULL, NULL, NULL, NULL, NULL, wide, 3, 5000};
    viz_font *font;
    viz_drawing drawing;
    assert_int_equal(viz_font_open(ctx, &font), ATTN_OK);
    viz_drawing_start(&drawing, ctx);
    assert_int_equal(viz_heatmap_layout(&drawing, font, &map), ATTN_OK);
    assert_true(drawing.cells.rows == 3 && drawing.cells.columns <= 2048);
    assert_true(drawing.cells.values[3 * drawing.cells.columns - 1] == 1.0f);
    assert_true(drawing.cells.values[3 * drawing.cells.columns - 2] == 0.0f);
    viz_drawing_free(&drawing);
    viz_font_close(font);
}

static void terminal_reads_as_expected(void **state) {
    (void)state;
    static const float values[] = {0.9f, 0.1f, 0.0f, 0.05f, 0.15f, 0.8f};
    attn_heatmap map = {"T", "target", "source", target, source, values, 2, 3};
    attn_terminal_options options = ATTN_TERMINAL_OPTIONS_INIT;
    char *out;
    assert_int_equal(attn_heatmap_terminal(ctx, &out, NULL, &map, &options), ATTN_OK);
    assert_string_equal(out, "T\n"
                             "target \xE2\x86\x93  source \xE2\x86\x92\n"
                             "     \xE2\x94\x8C Kannst\n"
                             "     \xE2\x94\x82  \xE2\x94\x8C du\n"
                             "     \xE2\x94\x82  \xE2\x94\x82  \xE2\x94\x8C mir\n"
                             "Can \xE2\x96\x88\xE2\x96\x88\xE2\x96\x88\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91 \xC2\xB7  "
                             "\xE2\x86\x90 Kannst 0.90\n"
                             "you "
                             "\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91\xE2\x96\x88\xE2"
                             "\x96\x88\xE2\x96\x88 \xE2\x86\x90 mir 0.80\n"
                             "  0 "
                             "\xC2\xB7\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91\xE2\x96\x91\xE2\x96\x92\xE2\x96\x92\xE2\x96"
                             "\x92\xE2\x96\x92\xE2\x96\x92"
                             "\xE2\x96\x93\xE2\x96\x93\xE2\x96\x93\xE2\x96\x93\xE2\x96\x93\xE2\x96\x88\xE2\x96\x88\xE2"
                             "\x96\x88\xE2\x96\x88\xE2\x96\x88 1\n");
    attn_text_free(ctx, out);
    options.unicode = false;
    assert_int_equal(attn_heatmap_terminal(ctx, &out, NULL, &map, &options), ATTN_OK);
    for (const char *at = out; *at; at++) assert_true((unsigned char)*at < 128);
    assert_non_null(strstr(out, "Can %%%...    <- Kannst 0.90\n"));
    attn_text_free(ctx, out);
    options.colours = 1 << 24;
    assert_int_equal(attn_heatmap_terminal(ctx, &out, NULL, &map, &options), ATTN_OK);
    assert_non_null(strstr(out, " .90 "));
    attn_text_free(ctx, out);
}

static void wrong_arguments_are_named(void **state) {
    (void)state;
    attn_heatmap map = small();
    char *out;
    assert_int_equal(attn_heatmap_svg(ctx, &out, NULL, NULL), ATTN_E_ARGUMENT);
    assert_int_equal(attn_heatmap_png(ctx, &out, NULL, &map, NAN), ATTN_E_ARGUMENT);
    assert_null(out);
    assert_int_equal(attn_heatmap_png(ctx, &out, NULL, &map, 1000.0), ATTN_E_ARGUMENT);
    assert_non_null(strstr(attn_error(ctx), "1000"));
    attn_terminal_options options = {0, 80, 0, true};
    assert_int_equal(attn_heatmap_terminal(ctx, &out, NULL, &map, &options), ATTN_E_VERSION);
    map.values = NULL;
    assert_int_equal(attn_heatmap_svg(ctx, &out, NULL, &map), ATTN_E_ARGUMENT);
    map.rows = SIZE_MAX / 2;
    assert_int_equal(attn_heatmap_terminal(ctx, &out, NULL, &map, NULL), ATTN_E_SHAPE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(svg_is_well_formed),
        cmocka_unit_test(png_shows_the_values),
        cmocka_unit_test(the_same_map_gives_the_same_bytes),
        cmocka_unit_test(every_shape_can_be_drawn),
        cmocka_unit_test(large_maps_can_be_drawn),
        cmocka_unit_test(terminal_reads_as_expected),
        cmocka_unit_test(wrong_arguments_are_named),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    counter count = {0, -1};
    ctx = counted_context(&count);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    attn_context_free(ctx);
    return failed + (count.live != 0);
}
