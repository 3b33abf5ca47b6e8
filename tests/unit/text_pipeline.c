/* text_pipeline.c: small tokenizers that have every part of tokenizer.json between them, held to what the package
 * `tokenizers` makes of some texts (scripts/make_pipeline_goldens.py); and what is damaged. */
#include "unit/text_golden.h"

#include "text/pipeline.h"

static int set_up(void **state) {
    (void)state;
    return open_golden("tests/golden/pipelines.json.xz");
}

static attn_tokenizer *parse(json_t *json) {
    char *text = json_dumps(json, JSON_COMPACT);
    attn_tokenizer *tokenizer;
    CHECK_OK(ctx, attn_tokenizer_parse(&tokenizer, ctx, text, strlen(text)));
    free(text);
    return tokenizer;
}

static json_t *pipeline(const char *name) {
    json_t *row;
    size_t i;
    json_array_foreach(json_object_get(golden, "pipelines"), i, row) {
        if (!strcmp(json_string_value(json_object_get(row, "name")), name)) return row;
    }
    fail_msg("no pipeline %s", name);
    return NULL;
}

static int32_t *read_ids(json_t *list, size_t *n) {
    *n = json_array_size(list);
    int32_t *ids = calloc(*n + 1, sizeof *ids);
    for (size_t k = 0; k < *n; k++) ids[k] = (int32_t)json_integer_value(json_array_get(list, k));
    return ids;
}

static void check_decoded(const attn_tokenizer *tokenizer, const char *name, json_t *list, json_t *expected) {
    size_t n, bytes;
    char *out;
    int32_t *ids = read_ids(list, &n);
    attn_token *spans = calloc(n + 1, sizeof *spans);
    CHECK_OK(ctx, attn_detokenize(tokenizer, &out, &bytes, ids, n, spans));
    if (bytes != json_string_length(expected) || memcmp(out, json_string_value(expected), bytes) != 0)
        fail_msg("%s: decoded \"%s\", expected \"%s\"", name, out, json_string_value(expected));
    size_t at = 0;
    for (size_t i = 0; i < n; i++) { /* the ids' texts follow each other */
        assert_true(spans[i].first == at || attn_tokenizer_is_special(tokenizer, ids[i]));
        at = spans[i].end;
        assert_true(at <= bytes);
    }
    attn_text_free(ctx, out);
    free(spans);
    free(ids);
}

static void check_text(const attn_tokenizer *tokenizer, json_t *row, size_t i) {
    const char *name = json_string_value(json_object_get(row, "name"));
    const char *text = json_string_value(json_array_get(json_object_get(golden, "texts"), i));
    json_t *ids = json_array_get(json_object_get(row, "ids"), i);
    json_t *spans = json_array_get(json_object_get(row, "spans"), i);
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, text, strlen(text), true));
    assert_int_equal(tokens.count, json_integer_value(json_array_get(json_object_get(row, "special"), i)));
    CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, text, strlen(text), false));
    assert_string_equal(tokens.text, text);
    bool same = tokens.count == json_array_size(ids);
    for (size_t k = 0; k < tokens.count && same; k++)
        same = tokens.token[k].id == json_integer_value(json_array_get(ids, k));
    if (!same) fail_msg("%s: text %zu, \"%s\": other ids", name, i, text);
    for (size_t k = 0; k < tokens.count; k++) {
        attn_token token = tokens.token[k];
        assert_true(token.first <= token.end && token.end <= tokens.bytes);
        if (!spans) continue;
        if ((json_int_t)token.first != json_integer_value(json_array_get(spans, 2 * k)) ||
            (json_int_t)token.end != json_integer_value(json_array_get(spans, 2 * k + 1)))
            fail_msg("%s: text %zu, \"%s\": token %zu has bytes %zu to %zu", name, i, text, k, token.first, token.end);
    }
    check_decoded(tokenizer, name, ids, json_array_get(json_object_get(row, "decoded"), i));
    attn_tokens_free(ctx, &tokens);
}

static void test_golden(void **state) {
    (void)state;
    json_t *row;
    size_t i, texts = json_array_size(json_object_get(golden, "texts"));
    assert_true(json_array_size(json_object_get(golden, "pipelines")) >= 20);
    json_array_foreach(json_object_get(golden, "pipelines"), i, row) {
        attn_tokenizer *tokenizer = parse(json_object_get(row, "tokenizer"));
        json_t *runs = json_object_get(row, "runs"), *decoded = json_object_get(row, "runs_decoded");
        assert_non_null(tokenizer->pipeline);
        for (size_t k = 0; k < texts; k++) check_text(tokenizer, row, k);
        for (size_t k = 0; k < json_array_size(runs); k++)
            check_decoded(tokenizer, json_string_value(json_object_get(row, "name")), json_array_get(runs, k),
                          json_array_get(decoded, k));
        attn_tokenizer_free(tokenizer);
    }
}

/* What is saved is read again and does the same. */
static void test_saved(void **state) {
    (void)state;
    json_t *row;
    size_t i;
    static const char *const names[] = {"pipeline.json"};
    json_array_foreach(json_object_get(golden, "pipelines"), i, row) {
        attn_tokenizer *tokenizer = parse(json_object_get(row, "tokenizer"));
        CHECK_OK(ctx, attn_tokenizer_save(tokenizer, scratch_path(names[0])));
        size_t size = attn_tokenizer_size(tokenizer);
        attn_tokenizer_free(tokenizer);
        CHECK_OK(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path(names[0])));
        assert_int_equal(attn_tokenizer_size(tokenizer), size);
        for (size_t k = 0; k < 30; k++) check_text(tokenizer, row, k);
        attn_tokenizer_free(tokenizer);
    }
    scratch_remove(names, 1);
}

typedef struct expected_token {
    const char *piece;
    size_t first, end;
    int32_t word;
} expected_token;

static void check_tokens(const attn_tokenizer *tokenizer, const char *text, size_t bytes,
                         const attn_tokenize_options *options, const expected_token *expected, size_t n) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenize_with(tokenizer, &tokens, text, bytes, options));
    assert_int_equal(tokens.count, n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(attn_tokenizer_piece(tokenizer, tokens.token[i].id), expected[i].piece);
        assert_int_equal(tokens.token[i].first, expected[i].first);
        assert_int_equal(tokens.token[i].end, expected[i].end);
        assert_int_equal(tokens.token[i].word, expected[i].word);
    }
    attn_tokens_free(ctx, &tokens);
}

/* Spans are bytes of what was given, through decomposition, marks that go away and spaces that are added. */
static void test_spans(void **state) {
    (void)state;
    attn_tokenizer *tokenizer = parse(json_object_get(pipeline("bert"), "tokenizer"));
    attn_tokenize_options options = ATTN_TOKENIZE_OPTIONS_INIT;
    options.add_special = true;
    static const expected_token expected[] = {
        {"[CLS]", 0, 0, -1}, {"to", 0, 5, 0}, {"[UNK]", 5, 8, 0}, {"!", 10, 11, 1}, {"[SEP]", 11, 11, -1}};
    check_tokens(tokenizer, "T\xCC\x81\xC3\xB6\xE6\xBC\xA2 \t!", 11, &options, expected, 5);
    attn_tokenizer_free(tokenizer);
    tokenizer = parse(json_object_get(pipeline("llama2"), "tokenizer"));
    static const expected_token bytes[] = {{"\xE2\x96\x81", 0, 1, 0}, {"a", 0, 1, 0},       {"<0xF0>", 1, 2, -1},
                                           {"<0x9F>", 2, 3, -1},      {"<0x99>", 3, 4, -1}, {"<0x82>", 4, 5, -1}};
    check_tokens(tokenizer, "a\xF0\x9F\x99\x82", 5, NULL, bytes, 6);
    attn_tokenizer_free(tokenizer);
}

/* A name of a special token in the text is that token, unless it is to be text. A bad byte is U+FFFD. */
static void test_special_as_text(void **state) {
    (void)state;
    attn_tokenizer *tokenizer = parse(json_object_get(pipeline("gpt2"), "tokenizer"));
    attn_tokenize_options options = ATTN_TOKENIZE_OPTIONS_INIT;
    static const expected_token special[] = {{"a", 0, 1, 0}, {"<|x|>", 1, 6, -1}};
    static const expected_token text[] = {{"a", 0, 1, 0}, {"<", 1, 2, 0}, {"|", 2, 3, 0},
                                          {"x", 3, 4, 0}, {"|", 4, 5, 0}, {">", 5, 6, 0}};
    check_tokens(tokenizer, "a<|x|>", 6, &options, special, 2);
    options.special_as_text = true;
    check_tokens(tokenizer, "a<|x|>", 6, &options, text, 6);
    assert_int_equal(attn_tokenizer_find(tokenizer, "<|x|>"), 0);
    assert_int_equal(attn_tokenizer_find(tokenizer, "<|y|>"), -1);
    assert_true(attn_tokenizer_is_special(tokenizer, 0));
    assert_false(attn_tokenizer_is_special(tokenizer, 1) || attn_tokenizer_is_special(tokenizer, -1));
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenize(tokenizer, &tokens, "\xFF", 1, false));
    assert_string_equal(tokens.text, "\xEF\xBF\xBD");
    options.struct_size = 3;
    CHECK_FAILS(ctx, attn_tokenize_with(tokenizer, &tokens, "a", 1, &options), ATTN_E_VERSION, "struct_size");
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
}

/* The decoder's Strip takes at most so many from each end of each token. */
static void test_decoder_strip(void **state) {
    (void)state;
    static const char file[] =
        "{\"added_tokens\":[],\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"?\",\"vocab\":{\"?\":0,\"xxaxx\":2,"
        "\"x\":7}},\"decoder\":{\"type\":\"Strip\",\"content\":\"x\",\"start\":1,\"stop\":3}}";
    attn_tokenizer *tokenizer;
    static const int32_t ids[] = {2, 7, 5, 2};
    char *out;
    CHECK_OK(ctx, attn_tokenizer_parse(&tokenizer, ctx, file, sizeof file - 1));
    assert_int_equal(attn_tokenizer_size(tokenizer), 8);
    assert_string_equal(attn_tokenizer_piece(tokenizer, 5), ""); /* a number that no token has */
    CHECK_OK(ctx, attn_detokenize(tokenizer, &out, NULL, ids, 4, NULL));
    assert_string_equal(out, "xaxa");
    attn_text_free(ctx, out);
    attn_tokenizer_free(tokenizer);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *file;
        attn_status status;
        const char *words;
    } cases[] = {
        {"{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}", ATTN_E_FORMAT, "row 0"},
        {"{\"model\":{\"type\":\"Unigram\",\"unk_id\":4,\"vocab\":[[\"a\",-1.0]]}}", ATTN_E_FORMAT, "unk_id"},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":5000}}}", ATTN_E_FORMAT, "\"a\""},
        {"{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0,\"b\":0}}}", ATTN_E_FORMAT, "id 0"},
        {"{\"model\":{\"type\":\"WordPiece\",\"max_input_chars_per_word\":-1,\"vocab\":{\"a\":0}}}", ATTN_E_FORMAT,
         "max_input_chars_per_word"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}}}", ATTN_E_FORMAT, "merges"},
        {"{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", ATTN_E_FORMAT, "merge 0"},
        {"{\"model\":{\"type\":\"BPE\",\"fuse_unk\":1,\"vocab\":{\"a\":0},\"merges\":[]}}", ATTN_E_FORMAT, "fuse_unk"},
        {"{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0}}}",
         ATTN_E_UNSUPPORTED, "ByteLevel"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a{1,2}+\"}},\"model\":{\"type\":\"BPE\"}}",
         ATTN_E_UNSUPPORTED, "{n,m}+"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[a[b]]\"}},\"model\":{\"type\":\"BPE\"}}",
         ATTN_E_UNSUPPORTED, "class within"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(*UTF)a\"}},\"model\":{\"type\":\"BPE\"}}",
         ATTN_E_UNSUPPORTED, "(*"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\K\"}},\"model\":{\"type\":\"BPE\"}}",
         ATTN_E_UNSUPPORTED, "\\K"},
        {"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{}},\"model\":{\"type\":\"BPE\"}}", ATTN_E_FORMAT,
         "pattern"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"},\"model\":{\"type\":\"BPE\"}}",
         ATTN_E_FORMAT, "table of characters"},
        {"{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"?\"},\"model\":{\"type\":\"BPE\"}}",
         ATTN_E_FORMAT, "base64"},
        {"{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]},\"model\":{\"type\":\"WordLevel\","
         "\"vocab\":{\"a\":0}}}",
         ATTN_E_FORMAT, "Sequence"},
        {"{\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\",0],\"sep\":[\"b\",1]},\"model\":{\"type\":"
         "\"WordLevel\",\"vocab\":{\"a\":0}}}",
         ATTN_E_FORMAT, "ids from 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        attn_tokenizer *tokenizer;
        CHECK_FAILS(ctx, attn_tokenizer_parse(&tokenizer, ctx, cases[i].file, strlen(cases[i].file)), cases[i].status,
                    cases[i].words);
        assert_null(tokenizer);
    }
}

/* A word without a piece, where there is no token for it, is an error with its place. */
static void test_no_unknown(void **state) {
    (void)state;
    static const char file[] = "{\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"model\":{\"type\":\"WordLevel\","
                               "\"unk_token\":\"?\",\"vocab\":{\"a\":0}}}";
    attn_tokenizer *tokenizer;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenizer_parse(&tokenizer, ctx, file, sizeof file - 1));
    CHECK_FAILS(ctx, attn_tokenize(tokenizer, &tokens, "a  bc", 5, false), ATTN_E_UNSUPPORTED, "bytes 3 to 5");
    assert_int_equal(tokens.count, 0);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
}

static void try_text(const char *text, size_t bytes) {
    static const char said[] = "Tom's <s> \xC3\xA4 12 \xF0\x9F\x99\x82\n Maria";
    attn_tokenizer *tokenizer;
    size_t live = m.live;
    if (attn_tokenizer_parse(&tokenizer, ctx, text, bytes) == ATTN_OK) {
        attn_tokens tokens = ATTN_TOKENS_INIT;
        int32_t ids[64];
        size_t n = 0;
        char *out;
        if (attn_tokenize(tokenizer, &tokens, said, sizeof said - 1, true) == ATTN_OK)
            for (; n < tokens.count && n < 64; n++) ids[n] = tokens.token[n].id;
        if (attn_detokenize(tokenizer, &out, NULL, ids, n, NULL) == ATTN_OK) attn_text_free(ctx, out);
        attn_tokens_free(ctx, &tokens);
        attn_tokenizer_free(tokenizer);
    } else assert_true(*attn_error(ctx) != '\0');
    assert_int_equal(m.live, live);
}

/* Bits of the file's parts, and of a bit of its vocabulary, change. */
static void test_bit_flips(void **state) {
    (void)state;
    static const char *const names[] = {"llama3", "bert", "xlmr"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *text = json_dumps(json_object_get(pipeline(names[i]), "tokenizer"), JSON_COMPACT | JSON_ENSURE_ASCII);
        size_t bytes = strlen(text), step = bytes / 600 + 1;
        for (size_t at = i; at < bytes; at += step) {
            text[at] = (char)(text[at] ^ 1 << at % 7);
            try_text(text, bytes);
            text[at] = (char)(text[at] ^ 1 << at % 7);
        }
        free(text);
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    static const char *const names[] = {"llama3", "t5", "bert"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *text = json_dumps(json_object_get(pipeline(names[i]), "tokenizer"), JSON_COMPACT);
        size_t bytes = strlen(text), live = m.live;
        attn_status status = ATTN_E_NOMEM;
        for (long left = 0; status != ATTN_OK; left += 1 + left / 16) {
            attn_tokenizer *tokenizer;
            attn_tokens tokens = ATTN_TOKENS_INIT;
            m.left = left;
            status = attn_tokenizer_parse(&tokenizer, ctx, text, bytes);
            if (status == ATTN_OK) status = attn_tokenize(tokenizer, &tokens, "Tom <mask> is \xC3\xA4!", 17, true);
            m.left = -1;
            attn_tokens_free(ctx, &tokens);
            attn_tokenizer_free(tokenizer);
            assert_int_equal(m.live, live);
            assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
        }
        free(text);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_golden),          TEST(test_saved),         TEST(test_spans),
        TEST(test_special_as_text), TEST(test_decoder_strip), TEST(test_refused),
        TEST(test_no_unknown),      TEST(test_bit_flips),     TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
