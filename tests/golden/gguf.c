/* gguf.c: language models in GGUF files, against what transformers computes with the numbers in them, and what is
 * refused (scripts/make_gguf_model_goldens.py makes them). */
#include "support/translator.h"
#include <attn/generate.h>
#include <attn/gguf.h>
#include <attn/io.h>
#include <math.h>
#include <unistd.h>

static const char *const variants[] = {"gpt2", "llama", "llama3", "linear", "qwen2", "qwen3", "gemma2", "gemma3"};

enum { PATH = 1024 };

typedef struct fixture {
    attn_context *ctx;
    attn_model *model;
    attn_safetensors *expected;
    const int32_t *ids;
    size_t batch, steps, vocabulary;
} fixture;

static const char *golden_path(const char *name, const char *end) {
    static char path[2][PATH];
    static int turn;
    const char *source = getenv("ATTN_TEST_SOURCE");
    turn = !turn;
    snprintf(path[turn], PATH, "%s/tests/golden/gguf/%s%s", source ? source : ".", name, end);
    return path[turn];
}

static void open_fixture(fixture *f, const char *name) {
    *f = (fixture){.ctx = test_context(1)};
    if (attn_model_load(&f->model, f->ctx, golden_path(name, ".gguf")) != ATTN_OK)
        fail_msg("%s: %s", name, attn_error(f->ctx));
    assert_ok(attn_safetensors_open(&f->expected, f->ctx, golden_path(name, ".safetensors")));
    const attn_tensor *ids = &attn_safetensors_find(f->expected, "ids")->tensor;
    f->ids = ids->data, f->batch = ids->shape[0], f->steps = ids->shape[1];
    f->vocabulary = attn_model_vocab_size(f->model);
}

static void close_fixture(fixture *f) {
    attn_safetensors_close(f->expected);
    attn_model_free(f->model);
    attn_context_free(f->ctx);
}

static void check_logits(const fixture *f, const char *name) {
    const float *want = attn_safetensors_find(f->expected, "logits")->tensor.data;
    const size_t count = f->batch * f->steps * f->vocabulary;
    float *found = malloc(count * sizeof *found);
    double worst = 0;
    assert_non_null(found);
    assert_ok(attn_language_logits(f->model, found, f->ids, f->batch, f->steps, NULL));
    for (size_t i = 0; i < count; i++) worst = fmax(worst, fabs((double)found[i] - (double)want[i]));
    if (!(worst < 2e-5)) fail_msg("%s: logits are off by %g", name, worst);
    free(found);
}

static void check_greedy(const fixture *f, const char *name) {
    const attn_tensor *want = &attn_safetensors_find(f->expected, "greedy")->tensor;
    const int32_t *greedy = want->data;
    attn_tokenizer *tokenizer;
    assert_ok(attn_tokenizer_of_model(&tokenizer, f->ctx, golden_path(name, ".gguf")));
    attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
    o.temperature = 0, o.max_tokens = want->shape[0];
    attn_generator *g;
    if (attn_generator_create(&g, f->model, tokenizer, &o) != ATTN_OK) fail_msg("%s: %s", name, attn_error(f->ctx));
    assert_ok(attn_generator_prompt_ids(g, f->ids, f->steps));
    const char *text;
    size_t bytes = 0, count;
    do assert_ok(attn_generator_next(g, &text, &bytes));
    while (bytes);
    const int32_t *ids = attn_generator_ids(g, &count);
    assert_true(count > f->steps || attn_generator_end(g) == ATTN_GENERATE_END_TOKEN);
    for (size_t i = f->steps; i < count; i++)
        if (ids[i] != greedy[i - f->steps])
            fail_msg("%s: token %zu is %d, expected %d", name, i - f->steps, (int)ids[i], (int)greedy[i - f->steps]);
    if (count - f->steps < want->shape[0]) assert_true(greedy[count - f->steps] == 2 || greedy[count - f->steps] == 4);
    attn_generator_free(g);
    attn_tokenizer_free(tokenizer);
}

static void test_models(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        fixture f;
        open_fixture(&f, variants[i]);
        check_logits(&f, variants[i]);
        check_greedy(&f, variants[i]);
        close_fixture(&f);
    }
}

/* The largest logit after each text that begins with the first `prompt` ids, without a cache. */
static void go_on(const fixture *f, int32_t *ids, size_t prompt, size_t end) {
    float *logits = malloc(end * f->vocabulary * sizeof *logits);
    assert_non_null(logits);
    for (size_t n = prompt; n < end; n++) {
        assert_ok(attn_language_logits(f->model, logits, ids, 1, n, NULL));
        const float *row = logits + (n - 1) * f->vocabulary;
        size_t best = 0;
        for (size_t i = 1; i < f->vocabulary; i++)
            if (row[i] > row[best]) best = i;
        ids[n] = (int32_t)best;
    }
    free(logits);
}

/* Blocks are multiplied as they are: near what their numbers give, which the rounding of the other side bounds; a
 * text's bits alone are those among others; and with a cache the same tokens come as without. */
static void test_integers(void **state) {
    (void)state;
    enum { MORE = 40 };
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        fixture f;
        open_fixture(&f, variants[v]);
        attn_model_free(f.model);
        if (attn_model_load_quantised(&f.model, f.ctx, golden_path(variants[v], ".gguf")) != ATTN_OK)
            fail_msg("%s: %s", variants[v], attn_error(f.ctx));
        size_t kept = 0;
        const attn_parameters *set = attn_model_parameters(f.model);
        for (size_t i = 0; i < attn_parameters_count(set); i++) kept += !attn_parameters_at(set, i)->value.data;
        assert_true(kept > 0);
        const float *want = attn_safetensors_find(f.expected, "logits")->tensor.data;
        const size_t one = f.steps * f.vocabulary, count = f.batch * one;
        float *found = malloc(count * sizeof *found), *alone = malloc(one * sizeof *alone);
        assert_true(found && alone);
        assert_ok(attn_language_logits(f.model, found, f.ids, f.batch, f.steps, NULL));
        double off = 0, size = 0;
        for (size_t i = 0; i < count; i++) {
            off += pow((double)found[i] - (double)want[i], 2);
            size += pow((double)want[i], 2);
        }
        if (!(off > 0 && off < 0.03 * 0.03 * size))
            fail_msg("%s: off by %g of the size", variants[v], sqrt(off / size));
        assert_ok(attn_language_logits(f.model, alone, f.ids + f.steps, 1, f.steps, NULL));
        assert_memory_equal(alone, found + one, one * sizeof *alone);

        attn_tokenizer *tokenizer;
        attn_generator *g;
        attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
        o.temperature = 0, o.max_tokens = MORE;
        int32_t ids[64];
        const char *text;
        size_t bytes, n;
        assert_ok(attn_tokenizer_of_model(&tokenizer, f.ctx, golden_path(variants[v], ".gguf")));
        assert_ok(attn_generator_create(&g, f.model, tokenizer, &o));
        assert_ok(attn_generator_prompt_ids(g, f.ids, f.steps));
        do assert_ok(attn_generator_next(g, &text, &bytes));
        while (bytes);
        const int32_t *written = attn_generator_ids(g, &n);
        memcpy(ids, f.ids, f.steps * sizeof *ids);
        go_on(&f, ids, f.steps, n);
        assert_memory_equal(ids, written, n * sizeof *ids);
        attn_generator_free(g);
        attn_tokenizer_free(tokenizer);

        assert_int_equal(attn_model_save(f.model, "/tmp/attn-gguf-never", ATTN_F32), ATTN_E_UNSUPPORTED);
        assert_non_null(strstr(attn_error(f.ctx), "expected F32: load the model in f32"));
        rmdir("/tmp/attn-gguf-never");
        free(found), free(alone);
        close_fixture(&f);
    }
}

/* Saved as a folder: the same config, the same weights, but for what a gain less 1 has lost. */
static void test_folders(void **state) {
    (void)state;
    char folder[] = "/tmp/attn-gguf-XXXXXX", path[PATH];
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        fixture f;
        attn_tokenizer *tokenizer;
        attn_model *again;
        open_fixture(&f, variants[i]);
        assert_ok(attn_tokenizer_of_model(&tokenizer, f.ctx, golden_path(variants[i], ".gguf")));
        assert_ok(attn_model_save(f.model, folder, ATTN_F32));
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        assert_ok(attn_tokenizer_save(tokenizer, path));
        attn_tokenizer_free(tokenizer);
        assert_ok(attn_model_load(&again, f.ctx, folder));
        assert_string_equal(attn_model_config(f.model), attn_model_config(again));
        attn_model_free(f.model);
        f.model = again;
        check_logits(&f, variants[i]);
        assert_ok(attn_tokenizer_of_model(&tokenizer, f.ctx, folder));
        attn_tokenizer_free(tokenizer);
        close_fixture(&f);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* ---- written ------------------------------------------------------------------------------------------------ */

static void same_weights(const attn_model *a, const attn_model *b, const char *name) {
    const attn_parameters *p = attn_model_parameters(a), *q = attn_model_parameters(b);
    assert_int_equal(attn_parameters_count(p), attn_parameters_count(q));
    for (size_t i = 0; i < attn_parameters_count(p); i++) {
        const attn_parameter *x = attn_parameters_at(p, i), *y = attn_parameters_find(q, x->name);
        if (!y || memcmp(x->value.data, y->value.data, attn_tensor_count(&x->value) * sizeof(float)) != 0)
            fail_msg("%s: %s is not what it was", name, x->name);
    }
}

static void same_tokens(attn_context *ctx, const attn_tokenizer *a, const attn_tokenizer *b, const char *name) {
    static const char *const texts[] = {"the quick brown fox", "  <s>the in</s> of",
                                        "gr\xC3\xBC\xC3\x9F"
                                        "e \xF0\x9F\x98\x80",
                                        ""};
    attn_tokens x = ATTN_TOKENS_INIT, y = ATTN_TOKENS_INIT;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_ok(attn_language_tokenize(a, &x, texts[i], strlen(texts[i])));
        assert_ok(attn_language_tokenize(b, &y, texts[i], strlen(texts[i])));
        if (x.count != y.count) fail_msg("%s: \"%s\" is %zu tokens, was %zu", name, texts[i], y.count, x.count);
        for (size_t k = 0; k < x.count; k++) assert_int_equal(x.token[k].id, y.token[k].id);
    }
    attn_tokens_free(ctx, &x);
    attn_tokens_free(ctx, &y);
}

/* Saved as a GGUF file: the same weights, bit for bit, config and tokens; with other types what these leave of them. */
static void test_written(void **state) {
    (void)state;
    static const char path[] = "/tmp/attn-gguf-written.gguf";
    static const attn_gguf_type types[] = {ATTN_GGUF_F32, ATTN_GGUF_F16, ATTN_GGUF_BF16, ATTN_GGUF_Q8_0};
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        fixture f;
        attn_tokenizer *tokenizer, *read;
        open_fixture(&f, variants[i]);
        assert_ok(attn_tokenizer_of_model(&tokenizer, f.ctx, golden_path(variants[i], ".gguf")));
        for (size_t t = 0; t < 4; t++) {
            attn_model *again;
            attn_gguf *file;
            const char *chat;
            size_t bytes;
            if (attn_model_save_gguf(f.model, tokenizer, t ? NULL : "{{ x }}", path, types[t]) != ATTN_OK ||
                attn_model_load(&again, f.ctx, path) != ATTN_OK)
                fail_msg("%s: %s", variants[i], attn_error(f.ctx));
            assert_string_equal(attn_model_config(f.model), attn_model_config(again));
            if (t == 0) same_weights(f.model, again, variants[i]);
            assert_ok(attn_tokenizer_of_model(&read, f.ctx, path));
            same_tokens(f.ctx, tokenizer, read, variants[i]);
            attn_tokenizer_free(read);
            assert_ok(attn_gguf_open(&file, f.ctx, path));
            assert_int_equal(attn_gguf_find(file, "token_embd.weight")->type, types[t]);
            assert_int_equal(attn_gguf_find(file, "output_norm.weight")->type, ATTN_GGUF_F32);
            assert_true(attn_gguf_text(file, "tokenizer.chat_template", &chat, &bytes) == !t);
            attn_gguf_close(file);
            attn_model_free(again);
        }
        attn_tokenizer_free(tokenizer);
        close_fixture(&f);
    }
    assert_int_equal(unlink(path), 0);
}

static void not_written(const char *config, const char *said) {
    attn_context *ctx = test_context(1);
    attn_model *model;
    attn_tokenizer *tokenizer;
    if (attn_model_create(&model, ctx, config, 1) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    assert_ok(attn_tokenizer_of_model(&tokenizer, ctx, golden_path("llama", ".gguf")));
    assert_int_equal(attn_model_save_gguf(model, tokenizer, NULL, "/tmp/attn-gguf-never.gguf", ATTN_GGUF_F32),
                     ATTN_E_UNSUPPORTED);
    if (!strstr(attn_error(ctx), said)) fail_msg("found \"%s\", expected \"%s\"", attn_error(ctx), said);
    assert_int_not_equal(access("/tmp/attn-gguf-never.gguf", F_OK), 0);
    attn_tokenizer_free(tokenizer);
    attn_model_free(model);
    attn_context_free(ctx);
}

static void test_not_written(void **state) {
    (void)state;
#define SMALL                                                                                       \
    "\"vocab_size\": 900, \"hidden_size\": 8, \"intermediate_size\": 8, \"num_hidden_layers\": 1, " \
    "\"num_attention_heads\": 2"
    not_written("{\"model_type\": \"mistral\", " SMALL "}", "model_type \"mistral\" has no form there");
    not_written("{\"model_type\": \"llama\", \"hidden_act\": \"gelu\", " SMALL "}", "another activation");
    not_written("{\"model_type\": \"llama\", \"eos_token_id\": [1, 2, 3, 4], " SMALL "}", "4 ids end a text");
    not_written("{\"model_type\": \"gemma2\", \"query_pre_attn_scalar\": 5, " SMALL "}",
                "scores are scaled by 5, expected");
    not_written("{\"model_type\": \"qwen2\", \"use_sliding_window\": true, \"sliding_window\": 4, "
                "\"max_window_layers\": 0, " SMALL "}",
                "layer 0 has a window");
    not_written("{\"model_type\": \"llama\", \"bos_token_id\": 7, " SMALL "}", "puts before a text what is not");
#undef SMALL
}

/* ---- files that are changed in one place ------------------------------------------------------------------ */

static char *read_golden(const char *name, size_t *bytes) {
    FILE *file = fopen(golden_path(name, ".gguf"), "rb");
    char *data = malloc(1 << 20);
    assert_non_null(file);
    assert_non_null(data);
    *bytes = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

static void refused(const char *name, const char *find, size_t after, const char *with, size_t n, const char *said) {
    static const char path[] = "/tmp/attn-gguf-refused.gguf";
    attn_context *ctx = test_context(1);
    size_t bytes;
    char *data = read_golden(name, &bytes), *at = memmem(data, bytes, find, strlen(find));
    attn_model *model;
    if (!at) fail_msg("%s has no %s", name, find);
    memcpy(at + after, with, n);
    assert_ok(attn_file_write(ctx, path, data, bytes));
    const attn_status status = attn_model_load(&model, ctx, path);
    assert_true(status == ATTN_E_FORMAT || status == ATTN_E_UNSUPPORTED);
    assert_null(model);
    if (!strstr(attn_error(ctx), said)) fail_msg("found \"%s\", expected \"%s\"", attn_error(ctx), said);
    assert_non_null(strstr(attn_error(ctx), path));
    assert_int_equal(unlink(path), 0);
    free(data);
    attn_context_free(ctx);
}

/* A key's value lies behind its name and four bytes for the kind; a tensor's sizes behind four for their number. */
static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *model, *find;
        const char *with; /* four bytes, or text */
        bool text;
        const char *said;
    } cases[] = {
        {"llama", "llama.attention.head_count", "\0\0\0\0", false, "\"llama.attention.head_count\": expected 1 to"},
        {"llama", "llama.embedding_length", "\0\0\0\x7f", false, "\"llama.embedding_length\": expected 1 to 16777216"},
        {"llama", "llama.block_count", "\3\0\0\0", false, "tensor \"blk.2.attn_norm.weight\" is missing"},
        {"llama", "llama.block_count", "\0\0\1\0", false, "\"num_hidden_layers\": expected 1 to 1024, found 65536"},
        {"llama", "llama.block_count", "\1\0\0\0", false, "does not belong to this llama model"},
        {"llama", "llama.context_length", "\0\0\0\x80", false, "\"llama.context_length\": expected 1 to"},
        {"llama", "llama.attention.head_count", "\5\0\0\0", false,
         "\"num_attention_heads\" is 5, expected a multiple of"},
        {"llama", "llama.feed_forward_length", "\x41\0\0\0", false, "expected shape (65, 32), found (64, 32)"},
        {"llama", "llama.feed_forward_length", "feed", true, "\"llama.feed_forward_length\": expected an integer"},
        {"llama", "token_embd.weight", "tokem_embd.weight", true, "tensor \"token_embd.weight\" is missing"},
        {"llama", "output_norm.weight", "output_form.weight", true, "tensor \"output_norm.weight\" is missing"},
        {"llama", "blk.1.ffn_up.weight", "blk.1.ffn_op.weight", true, "tensor \"blk.1.ffn_up.weight\" is missing"},
        {"gpt2", "gpt2.attention.head_count", "\5\0\0\0", false, "\"n_embd\" is 32, expected a multiple of \"n_head\""},
        {"qwen3", "qwen3.attention.key_length", "\x11\0\0\0", false, "expected 17 as the heads' size, found 16"},
        {"linear", "linear", "longer", true, "expected \"none\" or \"linear\", found \"longer\""},
        {"llama3", "llama.rope.freq_base", "\0\0\x80\x46", false, "expected factors as Llama 3.1 scales positions"},
        {"gemma2", "gemma2.attention.head_count_kv", "\3\0\0\0", false, "expected a multiple of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t length = strlen(cases[i].find);
        if (cases[i].text && !strcmp(cases[i].with, "feed"))
            refused(cases[i].model, cases[i].find, 6, "tool", 4, cases[i].said);
        else if (cases[i].text) refused(cases[i].model, cases[i].find, 0, cases[i].with, length, cases[i].said);
        else refused(cases[i].model, cases[i].find, length + 4, cases[i].with, 4, cases[i].said);
    }
    refused("llama", "general.architecture", strlen("general.architecture") + 4 + 8, "lamma", 5,
            "general.architecture: expected one of gpt2, llama, qwen2, qwen3, gemma2, gemma3, found \"lamma\"");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_models),      cmocka_unit_test(test_integers),
                                       cmocka_unit_test(test_folders),     cmocka_unit_test(test_written),
                                       cmocka_unit_test(test_not_written), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
