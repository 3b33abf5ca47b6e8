/* text_tokenizer_file.c: tokenizer.json that is damaged, hostile or of a kind that is not understood. */
#include "unit/text_support.h"

#include "text/tokenizer.h"

static memory m;
static attn_context *ctx;

/* A small file: bytes, a few pieces, no indentation. */
static char *small_file(void) {
    enum { ROOM = 1 << 16 };
    char *text = malloc(ROOM);
    size_t n = (size_t)snprintf(
        text, ROOM, "%s",
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[{\"id\":2,\"content\":\"</s>\","
        "\"special\":true},{\"id\":265,\"content\":\"<x>\",\"special\":true}],"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{"
        "\"String\":\"q\"},\"content\":\"kw\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\s+\"},\"content\":\" "
        "\"},"
        "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":false},{\"type\":\"Lowercase\"}]},"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Metaspace\",\"replacement\":"
        "\"\xE2\x96\x81\","
        "\"prepend_scheme\":\"always\",\"split\":true},{\"type\":\"Punctuation\",\"behavior\":\"Isolated\"},"
        "{\"type\":\"Digits\",\"individual_digits\":true}]},\"post_processor\":null,"
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":"
        "\"\xE2\x96\x81\"},"
        "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" "
        "\",\"start\":1,"
        "\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"<unk>\",\"byte_fallback\":true,"
        "\"vocab\":{\"<s>\":0,\"<pad>\":1,\"</s>\":2,\"<unk>\":3,\"a\":260,\"b\":261,\"ab\":262,\"\xE2\x96\x81\":263,"
        "\"\xE2\x96\x81"
        "ab\":264");
    for (int b = 0; b < 256; b++) n += (size_t)snprintf(text + n, ROOM - n, ",\"<0x%02X>\":%d", b, b + 4);
    snprintf(text + n, ROOM - n, "%s", "},\"merges\":[\"a b\",[\"\xE2\x96\x81\",\"ab\"]]}}");
    return text;
}

static int set_up(void **state) {
    ctx = memory_context(&m);
    *state = small_file();
    return 0;
}

static int tear_down(void **state) {
    free(*state);
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

/* An error, or a tokenizer that works; in both cases memory as the size allows and nothing left behind. */
static void try_file(const char *text, size_t bytes) {
    attn_tokenizer *tokenizer;
    size_t live = m.live;
    m.peak = m.bytes;
    size_t before = m.bytes;
    attn_status status = attn_tokenizer_parse(&tokenizer, ctx, text, bytes);
    assert_true(m.peak - before <= 4 * bytes + (1 << 20));
    if (status == ATTN_OK) {
        attn_tokens tokens = ATTN_TOKENS_INIT;
        int32_t ids[64];
        char *out;
        assert_int_equal(attn_tokenize(tokenizer, &tokens, "ab qab, 1 \xC3\x84\n\xE2\x82\xAC", 15, false), ATTN_OK);
        for (size_t i = 0; i < tokens.count && i < 64; i++) ids[i] = tokens.token[i].id;
        assert_int_equal(attn_detokenize(tokenizer, &out, NULL, ids, tokens.count < 64 ? tokens.count : 64, NULL),
                         ATTN_OK);
        attn_text_free(ctx, out);
        attn_tokens_free(ctx, &tokens);
    } else assert_true(*attn_error(ctx) != '\0');
    attn_tokenizer_free(tokenizer);
    assert_int_equal(m.live, live);
}

static void test_whole(void **state) {
    attn_tokenizer *tokenizer;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    const char *text = *state;
    CHECK_OK(ctx, attn_tokenizer_parse(&tokenizer, ctx, text, strlen(text)));
    assert_int_equal(attn_tokenizer_size(tokenizer), 266);
    CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, "ab Bq7", 6, true));
    static const int32_t expected[] = {264, 263, 261, 4 + 'k', 4 + 'w', 4 + '7', 2};
    assert_int_equal(tokens.count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < tokens.count; i++) assert_int_equal(tokens.token[i].id, expected[i]);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
}

static void test_truncated(void **state) {
    size_t bytes = strlen(*state);
    for (size_t n = 0; n < bytes; n++) {
        char *copy = malloc(n ? n : 1); /* its end is the end of the block */
        memcpy(copy, *state, n);
        attn_tokenizer *tokenizer;
        assert_int_equal(attn_tokenizer_parse(&tokenizer, ctx, copy, n), ATTN_E_FORMAT);
        assert_null(tokenizer);
        free(copy);
    }
}

static void test_bit_flips(void **state) {
    char *text = *state;
    size_t bytes = strlen(text);
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            try_file(text, bytes);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
}

/* The file with its first `from` replaced by `to` fails with this status and these words. */
static void refused(const char *text, const char *from, const char *to, attn_status status, const char *words) {
    const char *at = strstr(text, from);
    assert_non_null(at);
    size_t room = strlen(text) + strlen(to) + 1;
    char *changed = malloc(room);
    snprintf(changed, room, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    attn_tokenizer *tokenizer;
    CHECK_FAILS(ctx, attn_tokenizer_parse(&tokenizer, ctx, changed, strlen(changed)), status, words);
    assert_null(tokenizer);
    free(changed);
}

static void test_refused_by_name(void **state) {
    static const struct {
        const char *from, *to;
        attn_status status;
        const char *words;
    } cases[] = {
        {"\"type\":\"BPE\"", "\"type\":\"Trigram\"", ATTN_E_UNSUPPORTED, "Trigram"},
        {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", ATTN_E_FORMAT, "vocab"},
        {"\"dropout\":null", "\"dropout\":0.1", ATTN_E_UNSUPPORTED, "dropout"},
        {"\"NFC\"", "\"NFX\"", ATTN_E_UNSUPPORTED, "NFX"},
        {"\\\\s+", "[a-z&&b]", ATTN_E_UNSUPPORTED, "&&"},
        {"\\\\s+", "(a", ATTN_E_FORMAT, "(a"},
        {"\"Metaspace\"", "\"ByteLevel\"", ATTN_E_UNSUPPORTED, "ByteLevel"},
        {"\"always\"", "\"sometimes\"", ATTN_E_UNSUPPORTED, "Metaspace"},
        {"\"Digits\"", "\"UnicodeScripts\"", ATTN_E_UNSUPPORTED, "UnicodeScripts"},
        {"\"Punctuation\",\"behavior\":\"Isolated\"", "\"Punctuation\",\"behavior\":\"Torn\"", ATTN_E_UNSUPPORTED,
         "Torn"},
        {"\"ByteFallback\"", "\"CTC\"", ATTN_E_UNSUPPORTED, "CTC"},
        {"\"post_processor\":null", "\"post_processor\":{\"type\":\"XlnetProcessing\"}", ATTN_E_UNSUPPORTED,
         "XlnetProcessing"},
        {"\"post_processor\":null", "\"post_processor\":{\"type\":\"BertProcessing\"}", ATTN_E_FORMAT, "cls"},
        {"\"id\":265", "\"id\":266", ATTN_E_FORMAT, "id 265"},
        {"\"id\":265", "\"id\":264", ATTN_E_FORMAT, "<x>"},
        {"\"id\":2,", "\"id\":1,", ATTN_E_FORMAT, "another id"},
        {"\"a\":260", "\"a\":-1", ATTN_E_FORMAT, "\"a\""},
        {"\"a\":260", "\"a\":99999999999", ATTN_E_FORMAT, "\"a\""},
        {"\"a\":260", "\"a\":\"x\"", ATTN_E_FORMAT, "\"a\""},
        {"\"a\":260", "\"\":260", ATTN_E_FORMAT, "empty"},
        {"\"a\":260", "\"<s>\":260", ATTN_E_FORMAT, "duplicate"},
        {"\"a b\"", "\"a z\"", ATTN_E_FORMAT, "merge 0"},
        {"\"a b\"", "\"ab\"", ATTN_E_FORMAT, "merge 0"},
        {"\"a b\"", "\"a b b\"", ATTN_E_FORMAT, "merge 0"},
        {"\"a b\"", "\"a b\",\"a b\"", ATTN_E_FORMAT, "second time"},
        {"\"a b\"", "7", ATTN_E_FORMAT, "merge 0"},
        {"\"model\"", "\"modal\"", ATTN_E_FORMAT, "model"},
        {"\"merges\"", "\"merge\"", ATTN_E_FORMAT, "merges"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refused(*state, cases[i].from, cases[i].to, cases[i].status, cases[i].words);
}

/* Sixteen replacements of a letter by sixty would fill any memory. */
static void test_growing_normaliser(void **state) {
    const char *text = *state, *from = "\"normalizers\":[", *at = strstr(text, from) + strlen(from);
    char *changed = malloc(1 << 17);
    int n = snprintf(changed, 1 << 17, "%.*s", (int)(at - text), text);
    for (int i = 0; i < 10; i++)
        n += snprintf(changed + n, (size_t)((1 << 17) - n),
                      "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"},",
                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
    snprintf(changed + n, (size_t)((1 << 17) - n), "%s", at);
    attn_tokenizer *tokenizer;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenizer_parse(&tokenizer, ctx, changed, strlen(changed)));
    CHECK_FAILS(ctx, attn_tokenize(tokenizer, &tokens, "a", 1, false), ATTN_E_FORMAT, "normalizer");
    assert_int_equal(tokens.count, 0);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
    free(changed);
}

static void test_files(void **state) {
    attn_tokenizer *tokenizer;
    CHECK_FAILS(ctx, attn_tokenizer_load(&tokenizer, ctx, "/nonexistent/tokenizer.json"), ATTN_E_IO, "/nonexistent/");
    write_file(scratch_path("bad.json"), "{\"model\": 1", 11);
    CHECK_FAILS(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("bad.json")), ATTN_E_FORMAT, "bad.json: line 1");
    write_file(scratch_path("good.json"), *state, strlen(*state));
    CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("good.json")));
    CHECK_FAILS(ctx, attn_tokenizer_save(tokenizer, "/nonexistent/tokenizer.json"), ATTN_E_IO, "/nonexistent/");
    CHECK_OK(ctx, attn_tokenizer_save(tokenizer, scratch_path("bad.json"))); /* takes its place */
    attn_tokenizer_free(tokenizer);
    CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("bad.json")));
    assert_int_equal(attn_tokenizer_size(tokenizer), 266);
    attn_tokenizer_free(tokenizer);
    static const char *const names[] = {"bad.json", "good.json"};
    scratch_remove(names, 2);
}

static void test_out_of_memory(void **state) {
    size_t live = m.live;
    for (long left = 0;; left++) {
        attn_tokenizer *tokenizer;
        m.left = left;
        attn_status status = attn_tokenizer_parse(&tokenizer, ctx, *state, strlen(*state));
        m.left = -1;
        attn_tokenizer_free(tokenizer);
        assert_int_equal(m.live, live);
        if (status == ATTN_OK) return;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_true(left < 10000);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_whole),           TEST(test_truncated),          TEST(test_bit_flips),
        TEST(test_refused_by_name), TEST(test_growing_normaliser), TEST(test_files),
        TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
