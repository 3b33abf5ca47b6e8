/* llama2c.c: models in the form that llama2.c reads, written here as its reader expects them: sizes, embeddings, then
 * each kind of matrix of all layers, rows of queries and keys in rotary pairs. */
#include "support/translator.h"
#include "unit/text_support.h"
#include <attn/generate.h>
#include <attn/io.h>
#include <math.h>

enum {
    DIM = 16,
    HIDDEN = 24,
    LAYERS = 2,
    HEADS = 4,
    KEY_HEADS = 2,
    SIZE = DIM / HEADS,
    VOCABULARY = 270,
    CONTEXT = 40
};
#define CONFIG                                                                                                   \
    "{\"model_type\": \"llama\", \"vocab_size\": 270, \"hidden_size\": 16, \"intermediate_size\": 24,"           \
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"rms_norm_eps\": 1e-5," \
    " \"max_position_embeddings\": 40, \"bos_token_id\": 1, \"eos_token_id\": [1, 2], \"tie_word_embeddings\": %s}"

static attn_context *ctx;

static int set_up(void **state) {
    (void)state;
    ctx = test_context(1);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    attn_context_free(ctx);
    return 0;
}

static int remove_files(void **state) {
    (void)state;
    static const char *const names[] = {"model.bin", "tok270.bin", "tokenizer.bin", "tok1.bin"};
    scratch_remove(names, 4);
    return 0;
}

typedef struct file {
    float data[1 << 16];
    size_t count;
} file;

static void put(file *f, const attn_model *model, const char *name, size_t head) {
    const attn_parameter *p = attn_parameters_find(attn_model_parameters(model), name);
    assert_non_null(p);
    const size_t rows = p->value.shape[0], columns = attn_tensor_count(&p->value) / rows;
    const float *w = p->value.data;
    assert_true(f->count + rows * columns < sizeof f->data / sizeof *f->data);
    for (size_t r = 0; r < rows; r++) {
        const size_t pair = r % (head ? head : 1), from = head ? r - pair + pair / 2 + pair % 2 * (head / 2) : r;
        memcpy(f->data + f->count, w + from * columns, columns * sizeof *w);
        f->count += columns;
    }
}

static file *file_of(const attn_model *model, bool tied) {
    static const struct {
        const char *name;
        size_t head;
    } kinds[] = {{"input_norm", 0}, {"query", SIZE}, {"key", SIZE}, {"value", 0}, {"out", 0},
                 {"mlp_norm", 0},   {"gate", 0},     {"down", 0},   {"up", 0}};
    const int32_t header[] = {DIM, HIDDEN, LAYERS, HEADS, KEY_HEADS, tied ? VOCABULARY : -VOCABULARY, CONTEXT};
    file *f = calloc(1, sizeof *f);
    assert_non_null(f);
    memcpy(f->data, header, sizeof header);
    f->count = 7;
    put(f, model, "tokens.weight", 0);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (size_t l = 0; l < LAYERS; l++) {
            char name[64];
            snprintf(name, sizeof name, "layers.%zu.%s.weight", l, kinds[i].name);
            put(f, model, name, kinds[i].head);
        }
    put(f, model, "final_norm.weight", 0);
    f->count += CONTEXT * SIZE;
    if (!tied) put(f, model, "head.weight", 0);
    return f;
}

static void write_bytes(const char *name, const void *data, size_t bytes) {
    assert_ok(attn_file_write(ctx, scratch_path(name), data, bytes));
}

static attn_model *random_model(bool tied) {
    char config[1024];
    snprintf(config, sizeof config, CONFIG, tied ? "true" : "false");
    return test_model(ctx, config, 5, 0.3);
}

static void test_same_model(void **state) {
    (void)state;
    for (int tied = 0; tied < 2; tied++) {
        attn_model *model = random_model(tied), *again;
        file *f = file_of(model, tied);
        write_bytes("model.bin", f->data, f->count * sizeof(float));
        if (attn_model_load(&again, ctx, scratch_path("model.bin")) != ATTN_OK) fail_msg("%s", attn_error(ctx));
        assert_string_equal(attn_model_config(model), attn_model_config(again));
        attn_parameters *set = attn_model_parameters(model);
        assert_int_equal(attn_parameters_count(set), attn_parameters_count(attn_model_parameters(again)));
        for (size_t i = 0; i < attn_parameters_count(set); i++) {
            const attn_parameter *p = attn_parameters_at(set, i);
            const attn_parameter *q = attn_parameters_find(attn_model_parameters(again), p->name);
            assert_non_null(q);
            assert_memory_equal(p->value.data, q->value.data, attn_tensor_count(&p->value) * sizeof(float));
        }
        free(f);
        attn_model_free(model);
        attn_model_free(again);
    }
}

static void refused(const void *data, size_t bytes, const char *says) {
    attn_model *model;
    write_bytes("model.bin", data, bytes);
    assert_fails(ctx, attn_model_load(&model, ctx, scratch_path("model.bin")), ATTN_E_FORMAT, says);
    assert_non_null(strstr(attn_error(ctx), "model.bin"));
    assert_null(model);
}

static void test_refused(void **state) {
    (void)state;
    attn_model *model = random_model(true);
    file *f = file_of(model, true);
    const size_t bytes = f->count * sizeof(float);
    static const struct {
        size_t place;
        int32_t value;
        const char *says;
    } cases[] = {
        {0, 0, "whose dim would be 0"},
        {1, -1, "whose hidden_dim would be -1"},
        {2, 1025, "whose n_layers would be 1025"},
        {3, 1 << 25, "whose n_heads would be 33554432"},
        {3, 3, "n_heads 3, n_kv_heads 2: expected heads of equal, even size"},
        {3, 16, "n_heads 16, n_kv_heads 2: expected heads of equal, even size"},
        {4, 3, "n_heads 4, n_kv_heads 3: expected heads"},
        {5, INT32_MIN, "whose vocab_size would be -2147483648"},
        {6, 1 << 24, "bytes as its first numbers make for a file of llama2.c, found"},
        {1, 1 << 24, "bytes as its first numbers make for a file of llama2.c, found"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        float kept = f->data[cases[i].place];
        memcpy(&f->data[cases[i].place], &cases[i].value, sizeof cases[i].value);
        refused(f->data, bytes, cases[i].says);
        f->data[cases[i].place] = kept;
    }
    refused(f->data, bytes - 4, "expected");
    refused(f->data, 27, "found 27 bytes, expected a model's folder, a GGUF file, or one of llama2.c");
    refused(f->data, 0, "found 0 bytes");
    f->data[20] = NAN;
    write_bytes("model.bin", f->data, bytes);
    attn_model *none;
    assert_fails(ctx, attn_model_load(&none, ctx, scratch_path("model.bin")), ATTN_E_NUMERIC,
                 "tensor \"tok_embeddings.weight\": element 13 is not a finite number");
    free(f);
    attn_model_free(model);
}

/* ---- tokenizers ------------------------------------------------------------------------------------------ */

static void add_piece(char *out, size_t *n, float score, const char *text) {
    const int32_t length = (int32_t)strlen(text);
    memcpy(out + *n, &score, 4);
    memcpy(out + *n + 4, &length, 4);
    memcpy(out + *n + 8, text, (size_t)length);
    *n += 8 + (size_t)length;
}

/* 259 pieces that all such files begin with, and eleven. */
static size_t write_tokenizer(char *out) {
    static const char *const pieces[] = {" ", "t", "h", "e", "th", "he", " the", " th", "\xC3\xA4", "a", "<s>"};
    const int32_t longest = 10;
    size_t n = 4;
    memcpy(out, &longest, 4);
    add_piece(out, &n, 0, "<unk>");
    add_piece(out, &n, 0, "\n<s>\n");
    add_piece(out, &n, 0, "\n</s>\n");
    for (int b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)b);
        add_piece(out, &n, 0, text);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) add_piece(out, &n, -(float)i, pieces[i]);
    return n;
}

/* By its rules: a space before the text, merges by score, bytes for what has no piece, <s> before it all. */
static void test_tokenizer(void **state) {
    (void)state;
    char data[8192], *text;
    const size_t bytes = write_tokenizer(data);
    write_bytes("tok270.bin", data, bytes);
    attn_tokenizer *tokenizer;
    if (attn_tokenizer_of_model(&tokenizer, ctx, scratch_path("model.bin")) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    attn_tokens tokens = ATTN_TOKENS_INIT;
    static const int32_t want[] = {1,   265,     259,      263,      265 - 3,  259,
                                   267, 3 + 'z', 3 + 0xF0, 3 + 0x9F, 3 + 0x98, 3 + 0x80};
    assert_ok(attn_tokenize(tokenizer, &tokens, "the the \xC3\xA4z\xF0\x9F\x98\x80", 15, true));
    assert_int_equal(tokens.token[0].id, 1);
    assert_int_equal(tokens.token[1].id, 265);
    assert_int_equal(tokens.token[2].id, 265);
    for (size_t i = 3; i < tokens.count; i++) assert_int_equal(tokens.token[i].id, want[i + 2]);
    int32_t ids[16];
    size_t n = 0;
    for (size_t i = 1; i < tokens.count; i++) ids[n++] = tokens.token[i].id;
    assert_ok(attn_detokenize(tokenizer, &text, NULL, ids, n, NULL));
    assert_string_equal(text, "the the \xC3\xA4z\xF0\x9F\x98\x80");
    attn_text_free(ctx, text);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);

    write_bytes("tok1.bin", data, bytes);
    assert_fails(ctx, attn_tokenizer_of_model(&tokenizer, ctx, scratch_path("model.bin")), ATTN_E_IO,
                 "found 2 files tok….bin beside it");
    write_bytes("tokenizer.bin", data, bytes - 1);
    assert_fails(ctx, attn_tokenizer_of_model(&tokenizer, ctx, scratch_path("model.bin")), ATTN_E_FORMAT,
                 "tokenizer.bin: piece 269: expected its score, its length and so many bytes, found length 3");
    write_bytes("tokenizer.bin", data, 4);
    assert_fails(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("tokenizer.bin")), ATTN_E_FORMAT,
                 "found 0 pieces, expected at least 259");
    const int32_t endless = -5;
    memcpy(data + 8, &endless, 4);
    write_bytes("tokenizer.bin", data, bytes);
    assert_fails(ctx, attn_tokenizer_load(&tokenizer, ctx, scratch_path("tokenizer.bin")), ATTN_E_FORMAT,
                 "piece 0: expected its score, its length and so many bytes, found length -5");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_same_model, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
                                       cmocka_unit_test_setup_teardown(test_tokenizer, set_up, tear_down)};
    return cmocka_run_group_tests(tests, NULL, remove_files);
}
