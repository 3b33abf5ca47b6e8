/* config.c: config.json: defaults, round trip, and what is refused, by its sentence. */
#include "support/translator.h"
#include <jansson.h>
#include <locale.h>

static void complete(const char *given, const char *expected) {
    attn_context *ctx = test_context(1);
    attn_model *model, *again;
    if (attn_model_configure(&model, ctx, given, 1) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    json_t *found = json_loads(attn_model_config(model), 0, NULL), *want = json_loads(expected, 0, NULL);
    assert_non_null(want);
    if (!json_equal(found, want)) fail_msg("expected %s, found %s", expected, attn_model_config(model));
    assert_ok(attn_model_configure(&again, ctx, attn_model_config(model), 1));
    assert_string_equal(attn_model_config(again), attn_model_config(model));
    json_decref(found);
    json_decref(want);
    attn_model_free(again);
    attn_model_free(model);
    attn_context_free(ctx);
}

static void test_defaults(void **state) {
    (void)state;
    complete("{\"model_type\": \"rnn\", \"vocab_size\": 5}",
             "{\"model_type\": \"rnn\", \"vocab_size\": 5, \"embedding_size\": 256, \"hidden_size\": 512,"
             " \"num_layers\": 1, \"readout\": \"tanh\","
             " \"input_feeding\": false, \"tie_embeddings\": true, \"reset_after\": true, \"embedding_dropout\": 0.3,"
             " \"annotation_dropout\": 0.3, \"output_dropout\": 0.5}");
}

/* bahdanau has three keys more. */
static void test_attention_defaults(void **state) {
    (void)state;
    complete("{\"model_type\": \"bahdanau\", \"vocab_size\": 5}",
             "{\"model_type\": \"bahdanau\", \"vocab_size\": 5, \"embedding_size\": 256, \"hidden_size\": 512,"
             " \"attention_size\": 512, \"num_layers\": 1, \"score\": \"additive\", \"conditional_gru\": false,"
             " \"readout\": \"tanh\","
             " \"input_feeding\": false, \"tie_embeddings\": true, \"reset_after\": true, \"embedding_dropout\": 0.3,"
             " \"annotation_dropout\": 0.3, \"output_dropout\": 0.5}");
}

#define FULL                                                                                                    \
    "{\"model_type\": \"bahdanau\", \"vocab_size\": 7, \"embedding_size\": 3, \"hidden_size\": 2,"              \
    " \"attention_size\": 4, \"num_layers\": 4, \"score\": \"concat\", \"conditional_gru\": true,"              \
    " \"readout\": \"maxout\","                                                                                 \
    " \"input_feeding\": true, \"tie_embeddings\": false, \"reset_after\": false, \"embedding_dropout\": 0.95," \
    " \"annotation_dropout\": 0.0, \"output_dropout\": 0.12345679}"

static void test_every_key(void **state) {
    (void)state;
    complete(FULL, FULL);
}

static void test_keys_passed_over(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_model *model;
    assert_ok(attn_model_create(
        &model, ctx, "{\"_note\": [1, {}], \"model_type\": \"rnn\", \"vocab_size\": 5, \"hidden_size\": 2}", 1));
    assert_null(strstr(attn_model_config(model), "_note"));
    assert_string_equal(attn_model_type(model), "rnn");
    assert_int_equal(attn_model_vocab_size(model), 5);
    attn_model_free(model);
    attn_context_free(ctx);
}

/* A host's locale writes 0,3; a config never. */
static void test_locale(void **state) {
    (void)state;
    static const char *const names[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    for (size_t i = 0; i < ATTN_COUNT(names) && !setlocale(LC_ALL, names[i]); i++) continue;
    complete(FULL, FULL);
    setlocale(LC_ALL, "C");
}

#define BAHDANAU(rest) "{\"model_type\": \"bahdanau\", \"vocab_size\": 5, \"hidden_size\": 2" rest "}"
#define RNN(rest) "{\"model_type\": \"rnn\", \"vocab_size\": 5, \"hidden_size\": 2, \"embedding_size\": 2" rest "}"

static const struct refused {
    const char *config;
    attn_status status;
    const char *sentence;
} refused[] = {
    {"", ATTN_E_FORMAT, "config: line 1: "},
    {"{\"model_type\": \"rnn\",\n \"vocab_size\": }", ATTN_E_FORMAT, "config: line 2: "},
    {"[1, 2]", ATTN_E_FORMAT, "\"model_type\" is missing or not a string"},
    {"{}", ATTN_E_FORMAT, "\"model_type\" is missing or not a string"},
    {"{\"model_type\": 7}", ATTN_E_FORMAT, "\"model_type\" is missing or not a string"},
    {"{\"model_type\": \"gpt9\"}", ATTN_E_UNSUPPORTED, ", found \"gpt9\""},
    {"{\"model_type\": \"rnn\"}", ATTN_E_FORMAT, "config: \"vocab_size\" is missing"},
    {RNN(", \"hiden_size\": 5"), ATTN_E_FORMAT, "config: unknown key \"hiden_size\", expected one of vocab_size, "},
    {RNN(", \"num_layers\": 1, \"num_layers\": 2"), ATTN_E_FORMAT, "duplicate"},
    {RNN("} trailing {\"a\": 1"), ATTN_E_FORMAT, "config: line 1: "},
    {RNN(", \"num_layers\": \"2\""), ATTN_E_FORMAT, "config: \"num_layers\": expected an integer, found a string"},
    {RNN(", \"num_layers\": 1.5"), ATTN_E_FORMAT, "config: \"num_layers\": expected an integer, found a number"},
    {RNN(", \"num_layers\": true"), ATTN_E_FORMAT, "config: \"num_layers\": expected an integer, found true"},
    {RNN(", \"num_layers\": null"), ATTN_E_FORMAT, "config: \"num_layers\": expected an integer, found null"},
    {RNN(", \"num_layers\": 0"), ATTN_E_FORMAT, "config: \"num_layers\": expected 1 to 4, found 0"},
    {RNN(", \"num_layers\": 5"), ATTN_E_FORMAT, "config: \"num_layers\": expected 1 to 4, found 5"},
    {RNN(", \"num_layers\": -1"), ATTN_E_FORMAT, "config: \"num_layers\": expected 1 to 4, found -1"},
    {RNN(", \"num_layers\": 99999999999999999999"), ATTN_E_FORMAT, "too big"},
    {"{\"model_type\": \"rnn\", \"vocab_size\": 4}", ATTN_E_FORMAT, "\"vocab_size\": expected 5 to 16777216, found 4"},
    {"{\"model_type\": \"rnn\", \"vocab_size\": 16777217}", ATTN_E_FORMAT, "found 16777217"},
    {BAHDANAU(", \"attention_size\": 65537"), ATTN_E_FORMAT, "\"attention_size\": expected 1 to 65536, found 65537"},
    {RNN(", \"output_dropout\": 1"), ATTN_E_FORMAT, "config: \"output_dropout\": expected 0 to 0.95, found 1"},
    {RNN(", \"output_dropout\": -0.1"), ATTN_E_FORMAT, "expected 0 to 0.95, found -0.1"},
    {RNN(", \"output_dropout\": [0.1]"), ATTN_E_FORMAT, "\"output_dropout\": expected a number, found an array"},
    {RNN(", \"tie_embeddings\": 1"), ATTN_E_FORMAT, "\"tie_embeddings\": expected true or false, found an integer"},
    {RNN(", \"readout\": false"), ATTN_E_FORMAT, "config: \"readout\": expected a string, found false"},
    {BAHDANAU(", \"score\": \"Dot\""), ATTN_E_FORMAT,
     "config: \"score\": expected one of \"additive\", \"dot\", \"general\", \"concat\", found \"Dot\""},
    {BAHDANAU(", \"score\": {}"), ATTN_E_FORMAT, "config: \"score\": expected a string, found an object"},
    {RNN(", \"score\": \"dot\""), ATTN_E_FORMAT, "config: \"score\" has no meaning for \"rnn\", only for \"bahdanau\""},
    {RNN(", \"attention_size\": 8"), ATTN_E_FORMAT, "config: \"attention_size\" has no meaning for \"rnn\""},
};

static void test_refused(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    for (size_t i = 0; i < ATTN_COUNT(refused); i++) {
        attn_model *model = (attn_model *)&i;
        assert_fails(ctx, attn_model_create(&model, ctx, refused[i].config, 0), refused[i].status, refused[i].sentence);
        assert_null(model);
    }
    attn_context_free(ctx);
}

/* jansson stops at a depth of 2048; no input may go deeper than that on our stack. */
static void test_deep(void **state) {
    (void)state;
    enum { DEPTH = 100000 };
    attn_context *ctx = test_context(1);
    char *text = malloc(DEPTH + 32);
    assert_non_null(text);
    memcpy(text, "{\"_a\": ", 7);
    memset(text + 7, '[', DEPTH);
    text[7 + DEPTH] = '\0';
    attn_model *model;
    assert_fails(ctx, attn_model_create(&model, ctx, text, 0), ATTN_E_FORMAT, "maximum parsing depth");
    free(text);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),  cmocka_unit_test(test_attention_defaults),
        cmocka_unit_test(test_every_key), cmocka_unit_test(test_keys_passed_over),
        cmocka_unit_test(test_locale),    cmocka_unit_test(test_refused),
        cmocka_unit_test(test_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
