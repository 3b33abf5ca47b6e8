/* text_formats.c: tokenizers in other forms than tokenizer.json: GPT-2's two files, SentencePiece's models, GGUF's
 * metadata, held to the ids of the packages they come from (scripts/make_pipeline_goldens.py); tiktoken's refusals. */
#include "unit/text_golden.h"

#include <attn/gguf.h>

#include "text/charsmap.h"
#include "text/formats.h"

static int set_up(void **state) {
    (void)state;
    return open_golden("tests/golden/pipelines.json.xz");
}

static const char *const files[] = {"x.model", "x.gguf", "vocab.json", "merges.txt", "saved.json"};

static int remove_files(void **state) {
    (void)state;
    scratch_remove(files, sizeof files / sizeof *files);
    return 0;
}

static void check_ids(const attn_tokenizer *tokenizer, json_t *row) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    json_t *text;
    size_t i;
    json_array_foreach(json_object_get(golden, "texts"), i, text) {
        json_t *ids = json_array_get(json_object_get(row, "ids"), i);
        if (json_is_null(ids)) continue;
        CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, json_string_value(text), json_string_length(text), false));
        bool same = tokens.count == json_array_size(ids);
        for (size_t k = 0; k < tokens.count && same; k++)
            same = tokens.token[k].id == json_integer_value(json_array_get(ids, k));
        if (!same)
            fail_msg("%s: text %zu, \"%s\": other ids", json_string_value(json_object_get(row, "name")), i,
                     json_string_value(text));
    }
    attn_tokens_free(ctx, &tokens);
}

/* Gives the bytes of a golden file. */
static char *file_of(json_t *row, size_t *bytes) {
    json_t *text = json_object_get(row, "file");
    char *data;
    CHECK_OK(ctx, attn_base64(ctx, &data, bytes, json_string_value(text), json_string_length(text)));
    return data;
}

static const char *place_of(json_t *row) {
    return scratch_path(strcmp(json_string_value(json_object_get(row, "ending")), ".gguf") ? "x.model" : "x.gguf");
}

static void test_golden(void **state) {
    (void)state;
    json_t *row;
    size_t i, bytes;
    assert_int_equal(json_array_size(json_object_get(golden, "files")), 6);
    json_array_foreach(json_object_get(golden, "files"), i, row) {
        char *data = file_of(row, &bytes);
        attn_tokenizer *tokenizer;
        write_file(place_of(row), data, bytes);
        CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, place_of(row)));
        check_ids(tokenizer, row);
        CHECK_OK(ctx, attn_tokenizer_save(tokenizer, scratch_path("saved.json")));
        attn_tokenizer_free(tokenizer);
        CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("saved.json")));
        attn_tokenizer_free(tokenizer);
        attn_release(ctx, data);
    }
}

/* GPT-2's vocab.json and merges.txt, from a pipeline that has them. */
static void test_gpt2(void **state) {
    (void)state;
    json_t *row = json_array_get(json_object_get(golden, "pipelines"), 0), *merge;
    json_t *model = json_object_get(json_object_get(row, "tokenizer"), "model");
    json_t *vocab = json_deep_copy(json_object_get(model, "vocab"));
    assert_string_equal(json_string_value(json_object_get(row, "name")), "gpt2");
    json_object_del(vocab, "<|x|>"); /* it has another name there */
    json_object_set_new(vocab, "<|endoftext|>", json_integer(0));
    attn_buffer lines = ATTN_BUFFER_INIT(ctx);
    size_t i;
    attn_buffer_text(&lines, "#version: 0.2\n");
    json_array_foreach(json_object_get(model, "merges"), i, merge) attn_buffer_printf(
        &lines, "%s %s\n", json_string_value(json_array_get(merge, 0)), json_string_value(json_array_get(merge, 1)));
    char *text = json_dumps(vocab, 0);
    attn_tokenizer *tokenizer;
    write_file(scratch_path("vocab.json"), text, strlen(text));
    unlink(scratch_path("merges.txt"));
    CHECK_FAILS(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("vocab.json")), ATTN_E_IO, "merges.txt");
    write_file(scratch_path("merges.txt"), lines.data, lines.bytes);
    CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("vocab.json")));
    assert_true(attn_tokenizer_is_special(tokenizer, 0));
    attn_tokens tokens = ATTN_TOKENS_INIT;
    json_t *ids = json_array_get(json_object_get(row, "ids"), 3);
    const char *said = json_string_value(json_array_get(json_object_get(golden, "texts"), 3));
    CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, said, strlen(said), false));
    assert_int_equal(tokens.count, json_array_size(ids));
    for (i = 0; i < tokens.count; i++) assert_int_equal(tokens.token[i].id, json_integer_value(json_array_get(ids, i)));
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
    attn_buffer_free(&lines);
    json_decref(vocab);
    free(text);
}

/* The merges alone: the ids are those of all of GPT-2's files. */
static void test_merges(void **state) {
    (void)state;
    static const char said[] = "Kannst du mir helfen diesen Satz zu \xC3\xBC"
                               "bersetzen";
    static const int32_t ids[] = {42,   1236, 301,  7043, 5720, 932, 41037, 10564, 268,
                                  7031, 89,   1976, 84,   6184, 120, 1213,  316,   4801};
    attn_tokenizer *tokenizer;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, source_path("data/gpt2/vocab.bpe.xz")));
    assert_int_equal(attn_tokenizer_size(tokenizer), 50257);
    assert_int_equal(attn_tokenizer_find(tokenizer, "<|endoftext|>"), 50256);
    CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, said, strlen(said), false));
    assert_int_equal(tokens.count, ATTN_COUNT(ids));
    for (size_t i = 0; i < tokens.count; i++) assert_int_equal(tokens.token[i].id, ids[i]);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
    static const char *const bad[] = {"#version: 0.2\nab\n", "#version: 0.2\na \xFF\n", "#version: 0.2\nab cd\n"};
    for (size_t i = 0; i < ATTN_COUNT(bad); i++) {
        write_file(scratch_path("bad.bpe"), bad[i], strlen(bad[i]));
        CHECK_FAILS(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("bad.bpe")), ATTN_E_FORMAT, "merge");
    }
    unlink(scratch_path("bad.bpe"));
}

static void test_damaged(void **state) {
    (void)state;
    json_t *row = json_array_get(json_object_get(golden, "files"), 3); /* with a table of characters */
    size_t bytes, live = m.live;
    char *data = file_of(row, &bytes);
    for (size_t at = 0; at < bytes; at += 1 + bytes / 900) {
        attn_tokenizer *tokenizer;
        attn_tokens tokens = ATTN_TOKENS_INIT;
        data[at] = (char)(data[at] ^ 1 << at % 8);
        if (attn_tokenizer_of_sentencepiece(&tokenizer, ctx, data, bytes) == ATTN_OK)
            (void)attn_tokenize(tokenizer, &tokens, "Tom \xEF\xAC\x81 \xC3\x84 1", 11, true);
        attn_tokens_free(ctx, &tokens);
        attn_tokenizer_free(tokenizer);
        data[at] = (char)(data[at] ^ 1 << at % 8);
        if (attn_tokenizer_of_sentencepiece(&tokenizer, ctx, data, at) == ATTN_OK) attn_tokenizer_free(tokenizer);
    }
    attn_release(ctx, data);
    assert_int_equal(m.live, live);
}

static void test_refused(void **state) {
    (void)state;
    attn_tokenizer *tokenizer;
    CHECK_FAILS(ctx, attn_tokenizer_of_tiktoken(&tokenizer, ctx, "YQ== 0\nYg== 1\n", 14), ATTN_E_UNSUPPORTED,
                "found 2 tokens");
    CHECK_FAILS(ctx, attn_tokenizer_of_tiktoken(&tokenizer, ctx, "YQ== 0\nYg== 2\n", 14), ATTN_E_FORMAT, "line 2");
    CHECK_FAILS(ctx, attn_tokenizer_of_tiktoken(&tokenizer, ctx, "?? 0\n", 5), ATTN_E_FORMAT, "base64");
    CHECK_FAILS(ctx, attn_tokenizer_of_sentencepiece(&tokenizer, ctx, "\x12\x02\x18\x03", 4), ATTN_E_UNSUPPORTED,
                "model type 3");
    CHECK_FAILS(ctx, attn_tokenizer_of_sentencepiece(&tokenizer, ctx, "\x12\x02\x18\x02", 4), ATTN_E_FORMAT, "none");
    CHECK_FAILS(ctx, attn_tokenizer_of_sentencepiece(&tokenizer, ctx, "\x0A\x7F", 2), ATTN_E_FORMAT, "protocol buffer");
    attn_gguf *file;
    CHECK_OK(ctx, attn_gguf_open(&file, ctx, source_path("tests/golden/blocks.gguf")));
    CHECK_FAILS(ctx, attn_tokenizer_of_gguf(&tokenizer, ctx, file), ATTN_E_UNSUPPORTED, "tokenizer.ggml.model");
    attn_gguf_close(file);
    CHECK_FAILS(ctx, attn_tokenizer_load(&tokenizer, ctx, source_path("tests/golden/blocks.gguf")), ATTN_E_UNSUPPORTED,
                "blocks.gguf");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_golden), TEST(test_gpt2), TEST(test_merges), TEST(test_damaged),
                                       TEST(test_refused)};
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
