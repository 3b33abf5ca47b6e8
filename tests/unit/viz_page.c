/* The page of many heads: its weights and words come back as they were, and nothing of them is markup. */
#include "base/half.h"
#include "viz_check.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <zlib.h>

static attn_context *ctx;

enum { ROWS = 3, COLUMNS = 5, LAYERS = 2, HEADS = 3, CELLS = ROWS * COLUMNS, ALL = LAYERS * HEADS * CELLS };
static const char *const sources[COLUMNS] = {"</script><script>alert(1)</script>", "<!--", "\xE2\x80\xA8\xE2\x80\xAE",
                                             "&amp;\"'\\u003c", "caf\xC3\xA9"};
static const char *const targets[ROWS] = {"]]>", "", "\xFF\x01"}, *const target_words[2] = {"]]>\"", "</SCRIPT>"};
static const size_t word[ROWS] = {0, 0, 1};
static const attn_page_axis source = {.name = "<source>", .tokens = sources, .n = COLUMNS};
static const attn_page_axis target = {"target", targets, ROWS, target_words, word, 2};
static float weights[ALL], square[CELLS * CELLS];
static const attn_page_view views[] = {
    {"cross", &target, &source, weights, LAYERS, HEADS, .first_layer = 4},
    {"</title><b>", &source, &source, square, 1, 1, .whole = true},
};
enum { SIZE = 4, KEY_HEADS = 1 };
static float queries[LAYERS * HEADS * ROWS * SIZE], keys[LAYERS * KEY_HEADS * COLUMNS * SIZE];
static const attn_page plain = {"A & <title>", "two\nlines\t\x01", .views = views, .n = 2};

static attn_status draw(attn_context *c, char **out) { return attn_page_html(c, out, NULL, &plain); }

static size_t count(const char *text, const char *part) {
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, part)); at++) n++;
    return n;
}

/* What lies between an element's start and the next "</script>"; free(). */
static char *element(const char *page, const char *start) {
    const char *at = strstr(page, start);
    assert_non_null(at);
    at += strlen(start);
    return strndup(at, (size_t)(strstr(at, "</script>") - at));
}

static size_t unbase64(const char *text, uint8_t *out) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    unsigned bits = 0, held = 0;
    for (; *text && *text != '='; text++) {
        assert_non_null(strchr(digits, *text));
        bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
        held += 6;
        if (held >= 8) out[n++] = (uint8_t)(bits >> (held -= 8));
    }
    return n;
}

static void weights_come_back(void **state) {
    (void)state;
    char *page;
    assert_int_equal(draw(ctx, &page), ATTN_OK);
    char *text = element(page, "id=\"weights\">");
    uint8_t *packed = malloc(strlen(text) + 1), codes[2 * ALL];
    uLongf bytes = sizeof codes;
    assert_int_equal(uncompress(codes, &bytes, packed, unbase64(text, packed)), Z_OK);
    assert_int_equal(bytes, ALL + COLUMNS * COLUMNS);
    for (size_t i = 0; i < bytes; i++) {
        const float w = i < ALL ? weights[i] : square[i - ALL], seen = (float)codes[i] / 254;
        if (!(w >= 0 && w <= 1)) assert_int_equal(codes[i], 255);
        else if (codes[i] == 255 || fabsf(seen * seen - w) > 0.004f)
            fail_msg("weight %zu: %u, %g", i, codes[i], (double)w);
    }
    free(packed);
    free(text);
    char *again;
    assert_int_equal(draw(ctx, &again), ATTN_OK);
    assert_string_equal(page, again);
    attn_text_free(ctx, again);
    attn_text_free(ctx, page);
}

/* Behind the weights the vectors of each view that has some, in f16. */
static void vectors_come_back(void **state) {
    (void)state;
    enum {
        QUERIES = sizeof queries / sizeof *queries,
        KEYS = sizeof keys / sizeof *keys,
        BEFORE = ALL + COLUMNS * COLUMNS
    };
    attn_page_view both[2] = {views[1], views[0]};
    both[1].queries = queries, both[1].keys = keys, both[1].key_heads = KEY_HEADS, both[1].head_size = SIZE;
    both[1].scale = 0.5f, both[1].softcap = 30;
    for (size_t i = 0; i < QUERIES; i++) queries[i] = (float)i / 7 - 5;
    for (size_t i = 0; i < KEYS; i++) keys[i] = 1e-6f * (float)i; /* subnormal there */
    keys[1] = -INFINITY, keys[2] = 7e4f, keys[3] = -65504;
    char *page;
    assert_int_equal(attn_page_html(ctx, &page, NULL, &(attn_page){.views = both, .n = 2}), ATTN_OK);
    char *text = element(page, "id=\"weights\">"), *words = element(page, "id=\"data\">");
    uint8_t *packed = malloc(strlen(text) + 1), bytes[BEFORE + 2 * (QUERIES + KEYS) + 1];
    uLongf n = sizeof bytes;
    assert_int_equal(uncompress(bytes, &n, packed, unbase64(text, packed)), Z_OK);
    assert_int_equal(n, sizeof bytes - 1);
    for (size_t i = 0; i < QUERIES + KEYS; i++) {
        const uint16_t half = (uint16_t)(bytes[BEFORE + 2 * i] | bytes[BEFORE + 2 * i + 1] << 8);
        const float found = attn_float_of_f16(half), x = i < QUERIES ? queries[i] : keys[i - QUERIES];
        if (fabsf(x) > 65504) assert_true(isinf(found) && signbit(found) == signbit(x));
        else assert_true(fabsf(found - x) <= fmaxf(fabsf(x) * 0x1p-11f, 0x1p-25f));
    }
    json_t *root = json_loads(words, 0, NULL), *list = json_object_get(root, "views");
    assert_true(json_is_null(json_object_get(json_array_get(list, 0), "vectors")));
    const json_t *found = json_object_get(json_array_get(list, 1), "vectors");
    assert_int_equal(json_integer_value(json_object_get(found, "at")), BEFORE);
    assert_int_equal(json_integer_value(json_object_get(found, "keyHeads")), KEY_HEADS);
    assert_int_equal(json_integer_value(json_object_get(found, "size")), SIZE);
    assert_true(json_real_value(json_object_get(found, "scale")) == 0.5);
    assert_true(json_real_value(json_object_get(found, "softcap")) == 30);
    json_decref(root);
    free(packed);
    free(text);
    free(words);
    attn_text_free(ctx, page);
}

static const char *at(const json_t *root, size_t view, const char *axis, const char *list, size_t i) {
    const json_t *v = json_array_get(json_object_get(root, "views"), view);
    return json_string_value(json_array_get(json_object_get(json_object_get(v, axis), list), i));
}

static void words_stay_words(void **state) {
    (void)state;
    char *page;
    assert_int_equal(draw(ctx, &page), ATTN_OK);
    check_harmless(page, strlen(page), false);
    assert_int_equal(count(page, "<script"), 3);
    assert_int_equal(count(page, "</script>"), 3);
    assert_int_equal(count(page, "</title>"), 1);
    assert_int_equal(count(page, "alert(1)"), 6); /* as a token and as a word of three axes */
    assert_non_null(strstr(page, "<title>A &amp; &lt;title&gt;</title>"));
    for (const char *p = strstr(page, "http"); p; p = strstr(p + 1, "http")) /* nothing is loaded */
        assert_memory_equal(p, "http-equiv", 10);
    char *text = element(page, "id=\"data\">");
    assert_null(strpbrk(text, "<>&"));
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "title")), "A & <title>");
    assert_string_equal(json_string_value(json_object_get(root, "about")), "two lines <U+0001>");
    assert_string_equal(at(root, 0, "columns", "tokens", 0), sources[0]);
    assert_string_equal(at(root, 0, "columns", "tokens", 2), "<U+2028><U+202E>");
    assert_string_equal(at(root, 0, "columns", "words", 3), sources[3]);
    assert_string_equal(at(root, 0, "rows", "tokens", 2), "<0xFF><U+0001>");
    assert_string_equal(at(root, 0, "rows", "words", 1), "</SCRIPT>");
    json_t *first = json_array_get(json_object_get(root, "views"), 0),
           *second = json_array_get(json_object_get(root, "views"), 1);
    assert_int_equal(json_integer_value(json_object_get(first, "first")), 4);
    assert_int_equal(json_integer_value(json_object_get(first, "firstHead")), 1);
    assert_int_equal(json_integer_value(json_object_get(second, "at")), ALL);
    assert_true(json_is_false(json_object_get(first, "square")) && json_is_true(json_object_get(second, "square")));
    json_decref(root);
    free(text);
    attn_text_free(ctx, page);
}

/* Two texts beside one another: what is the second's is said, and what does not fit is refused. */
static void two_texts(void **state) {
    (void)state;
    const attn_page_view both[] = {views[1], views[0], views[1], views[0]};
    attn_page p = {.views = both, .n = 4, .open = 1, .beside = 2, .texts = {"<one>", "two"}};
    char *page;
    assert_int_equal(attn_page_html(ctx, &page, NULL, &p), ATTN_OK);
    char *words = element(page, "id=\"data\">");
    json_t *root = json_loads(words, 0, NULL), *texts = json_object_get(root, "texts");
    assert_int_equal(json_integer_value(json_object_get(root, "beside")), 2);
    assert_string_equal(json_string_value(json_array_get(texts, 0)), "<one>");
    assert_string_equal(json_string_value(json_array_get(texts, 1)), "two");
    json_decref(root);
    free(words);
    attn_text_free(ctx, page);
    p.open = 2;
    assert_int_equal(attn_page_html(ctx, &page, NULL, &p), ATTN_E_ARGUMENT);
    p.open = 0, p.n = 3;
    assert_int_equal(attn_page_html(ctx, &page, NULL, &p), ATTN_E_ARGUMENT);
    assert_non_null(strstr(attn_error(ctx), "a page of two texts has 3 views"));
    p.n = 2, p.beside = 1;
    assert_int_equal(attn_page_html(ctx, &page, NULL, &p), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx),
                        "a page's \"cross\" has 2 layers of 3 heads, expected the 1 of 1 of the first text");
    const attn_page_view unlike[] = {views[1], {.name = "x", &source, &source, square, 1, 1, .queries = square}};
    p.views = unlike;
    assert_int_equal(attn_page_html(ctx, &page, NULL, &p), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx), "a page's \"x\" has queries, expected none as the first text has");
}

/* All that a page can have. */
static attn_status draw_two(attn_context *c, char **out) {
    attn_page_view of_one = views[0];
    of_one.queries = queries, of_one.keys = keys, of_one.key_heads = KEY_HEADS, of_one.head_size = SIZE;
    const attn_page_view both[] = {of_one, of_one};
    return attn_page_html(c, out, NULL, &(attn_page){.views = both, .n = 2, .beside = 1, .texts = {"one", "two"}});
}

static void memory_may_fail_anywhere(void **state) {
    (void)state;
    check_failing_memory(draw);
    check_failing_memory(draw_two);
}

static void refused(void **state) {
    (void)state;
    char *out;
    attn_page p = plain;
    p.open = 2;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx), "a page has 2 views, of which number 2 is open; expected 1 to 16");
    assert_null(out);
    assert_int_equal(attn_page_html(ctx, &out, NULL, NULL), ATTN_E_ARGUMENT);
    attn_page_view v = views[0];
    p = (attn_page){.views = &v, .n = 1};
    v.layers = (size_t)1 << 40, v.heads = (size_t)1 << 30;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_SHAPE);
    assert_non_null(strstr(attn_error(ctx), "expected at most 268435456 in all"));
    v = views[0], v.heads = 0;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_ARGUMENT);
    v = views[0], v.queries = v.keys = weights, v.head_size = 1, v.key_heads = 2;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_ARGUMENT);
    assert_non_null(strstr(attn_error(ctx), "queries of 3 heads with 1 numbers each and keys of 2 key heads"));
    v.key_heads = 1, v.scale = INFINITY;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx), "a page's \"cross\" has the scale inf and softcap 0, expected numbers");
    v.scale = 1, v.softcap = NAN;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_ARGUMENT);
    v.softcap = 0, v.head_size = SIZE_MAX / 2 + 1;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_SHAPE);
    attn_page_axis beyond = target;
    beyond.n_words = 1;
    v = views[0], v.rows = &beyond;
    assert_int_equal(attn_page_html(ctx, &out, NULL, &p), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx), "a page's \"cross\": token 2 is of word 1, expected less than 1");
}

static int setup(void **state) {
    (void)state;
    for (size_t i = 0; i < ALL; i++) weights[i] = (float)(i % 97) / 96;
    for (size_t i = 0; i < CELLS * CELLS; i++) square[i] = expf(-(float)i);
    weights[7] = NAN, weights[8] = -1, weights[9] = INFINITY, weights[10] = 1e-4f;
    return attn_context_create(&ctx, NULL) == ATTN_OK ? 0 : -1;
}
static int teardown(void **state) {
    (void)state;
    attn_context_free(ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_come_back), cmocka_unit_test(vectors_come_back),        cmocka_unit_test(two_texts),
        cmocka_unit_test(words_stay_words),  cmocka_unit_test(memory_may_fail_anywhere), cmocka_unit_test(refused)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
