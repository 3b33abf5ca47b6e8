/* text_tokenizer_golden.c: ids and texts as the package `tokenizers` gives them (scripts/make_tokenizer_goldens.py). */
#include "unit/text_golden.h"

static int set_up(void **state) {
    (void)state;
    return open_golden("tests/golden/tokenizer_cases.json");
}

static attn_tokenizer *load(const char *name) {
    attn_tokenizer *tokenizer;
    CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, source_path(name)));
    return tokenizer;
}

static void check_ids(const char *file, const char *key) {
    attn_tokenizer *tokenizer = load(file);
    attn_tokens tokens = ATTN_TOKENS_INIT;
    json_t *cases = json_object_get(golden, "encode"), *row;
    size_t i;
    assert_true(json_array_size(cases) >= 200);
    json_array_foreach(cases, i, row) {
        json_t *text = json_object_get(row, "text"), *ids = json_object_get(row, key);
        CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, json_string_value(text), json_string_length(text), false));
        bool same = tokens.count == json_array_size(ids);
        for (size_t k = 0; k < tokens.count && same; k++)
            same = tokens.token[k].id == json_integer_value(json_array_get(ids, k));
        if (!same) fail_msg("case %zu, \"%s\": other ids than in %s", i, json_string_value(text), key);
    }
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
}

static void test_ids(void **state) {
    (void)state;
    check_ids("tests/golden/tokenizer.json", "ids");
}

static void test_lower_ids(void **state) {
    (void)state;
    check_ids("tests/golden/tokenizer_lower.json", "lower_ids");
}

static void check_texts(const attn_tokenizer *tokenizer, json_t *rows) {
    json_t *row;
    size_t i;
    json_array_foreach(rows, i, row) {
        json_t *list = json_object_get(row, "ids"), *expected = json_object_get(row, "decoded");
        size_t n = json_array_size(list), bytes;
        int32_t *ids = calloc(n + 1, sizeof *ids);
        char *out;
        for (size_t k = 0; k < n; k++) ids[k] = (int32_t)json_integer_value(json_array_get(list, k));
        CHECK_OK(ctx, attn_detokenize(tokenizer, &out, &bytes, ids, n, NULL));
        assert_int_equal(bytes, json_string_length(expected));
        assert_memory_equal(out, json_string_value(expected), bytes);
        attn_text_free(ctx, out);
        free(ids);
    }
}

static void test_texts(void **state) {
    (void)state;
    attn_tokenizer *tokenizer = load("tests/golden/tokenizer.json");
    check_texts(tokenizer, json_object_get(golden, "encode"));
    check_texts(tokenizer, json_object_get(golden, "decode"));
    attn_tokenizer_free(tokenizer);
}

static char *whole_file(const char *path, size_t *bytes) {
    char *text;
    CHECK_OK(ctx, attn_read_text(ctx, &text, bytes, path));
    return text;
}

/* Training again writes the committed file, byte for byte; so does loading and saving it. */
static void test_same_file(void **state) {
    (void)state;
    attn_corpus *corpus;
    char path[1024];
    snprintf(path, sizeof path, "%s", source_path("data/tatoeba/de-en.sample.valid.tsv.xz"));
    const char *const paths[] = {path};
    CHECK_OK(ctx, attn_corpus_read(&corpus, ctx, paths, 1, NULL));
    size_t n = attn_corpus_count(corpus), bytes, expected_bytes;
    assert_int_equal(n, 1000);
    const char **lines = calloc(2 * n, sizeof *lines);
    for (size_t i = 0; i < n; i++) {
        lines[2 * i] = attn_corpus_at(corpus, i)->source;
        lines[2 * i + 1] = attn_corpus_at(corpus, i)->target;
    }
    char *expected = whole_file(source_path("tests/golden/tokenizer.json"), &expected_bytes);
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    options.vocab_size = 900;
    attn_tokenizer *made[2];
    CHECK_OK(ctx, attn_tokenizer_train_bpe(&made[0], ctx, lines, NULL, 2 * n, &options));
    made[1] = load("tests/golden/tokenizer.json");
    for (int i = 0; i < 2; i++) {
        CHECK_OK(ctx, attn_tokenizer_save(made[i], scratch_path("tokenizer.json")));
        char *text = whole_file(scratch_path("tokenizer.json"), &bytes);
        assert_int_equal(bytes, expected_bytes);
        assert_memory_equal(text, expected, bytes);
        attn_text_free(ctx, text);
        attn_tokenizer_free(made[i]);
    }
    static const char *const names[] = {"tokenizer.json"};
    scratch_remove(names, 1);
    attn_text_free(ctx, expected);
    attn_corpus_free(corpus);
    free(lines);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_ids), TEST(test_lower_ids), TEST(test_texts), TEST(test_same_file)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
