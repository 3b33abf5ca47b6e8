/* generate.c: texts that go on: cached and not, in pieces, sampled, stopped, slid. */
#include "infer/sample.h"
#include "support/translator.h"
#include <attn/generate.h>
#include <math.h>
#include <unistd.h>

enum { PATH = 1024, MOST = 512 };

typedef struct fixture {
    attn_context *ctx;
    attn_model *model;
    attn_tokenizer *tokenizer;
} fixture;

/* A random model on the tokenizer of the toy corpus; texts mean nothing, but always the same. */
static void open_fixture(fixture *f, const char *config, int threads) {
    *f = (fixture){.ctx = test_context(threads)};
    static const char *const lines[] = {"the quick brown fox jumps over the lazy dog",
                                        "pack my box with five dozen jugs", "grüße an alle, sagte sie",
                                        "the dog and the fox"};
    size_t bytes[4];
    for (size_t i = 0; i < 4; i++) bytes[i] = strlen(lines[i]);
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    options.vocab_size = 300;
    assert_ok(attn_tokenizer_train_bpe(&f->tokenizer, f->ctx, lines, bytes, 4, &options));
    if (attn_model_create(&f->model, f->ctx, config, 3) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
}

static void close_fixture(fixture *f) {
    attn_tokenizer_free(f->tokenizer);
    attn_model_free(f->model);
    attn_context_free(f->ctx);
}

#define LLAMA                                                                                                        \
    "{\"model_type\": \"llama\", \"vocab_size\": 320, \"hidden_size\": 16, \"intermediate_size\": 24,"               \
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"initializer_range\": 0.5," \
    " \"max_position_embeddings\": 600}"
#define MISTRAL                                                                                                      \
    "{\"model_type\": \"mistral\", \"vocab_size\": 320, \"hidden_size\": 16, \"intermediate_size\": 24,"             \
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"initializer_range\": 0.5," \
    " \"max_position_embeddings\": 600, \"sliding_window\": 7}"
#define GPT2                                                                                         \
    "{\"model_type\": \"gpt2\", \"vocab_size\": 320, \"n_embd\": 16, \"n_layer\": 2, \"n_head\": 2," \
    " \"n_positions\": 64, \"initializer_range\": 0.5}"

#define UNTIED                                                                                       \
    "{\"model_type\": \"gpt2\", \"vocab_size\": 320, \"n_embd\": 16, \"n_layer\": 2, \"n_head\": 2," \
    " \"n_positions\": 400, \"initializer_range\": 0.5, \"tie_word_embeddings\": false}"

static const char prompt[] = "the quick dog said ";

/* The whole continuation, and the tokens of prompt and continuation. */
static size_t run(fixture *f, const attn_generate_options *options, char *out, int32_t *ids, size_t *count) {
    attn_generator *g;
    size_t n = 0;
    if (attn_generator_create(&g, f->model, f->tokenizer, options) != ATTN_OK ||
        attn_generator_prompt(g, prompt, strlen(prompt)) != ATTN_OK)
        fail_msg("%s", attn_error(f->ctx));
    for (;;) {
        const char *text;
        size_t bytes;
        if (attn_generator_next(g, &text, &bytes) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
        if (bytes == 0) break;
        assert_true(n + bytes < 16 * MOST);
        memcpy(out + n, text, bytes);
        n += bytes;
    }
    out[n] = '\0';
    const int32_t *all = attn_generator_ids(g, count);
    if (ids) memcpy(ids, all, *count * sizeof *ids);
    attn_generator_free(g);
    return n;
}

static size_t largest(const float *row, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return best;
}

/* The model as bytes, which stay bytes. */
static void keep_integers(fixture *f) {
    char folder[] = "/tmp/attn-generate-XXXXXX", path[PATH];
    assert_non_null(mkdtemp(folder));
    assert_ok(attn_model_save(f->model, folder, ATTN_I8));
    attn_model_free(f->model);
    if (attn_model_load_quantised(&f->model, f->ctx, folder) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
    assert_null(attn_parameters_at(attn_model_parameters(f->model), 0)->value.data);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, i ? "config.json" : "model.safetensors");
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* Greedy with a cache is what whole passes without one give: also where a prompt comes in chunks, and windows in rings.
 */
static void check_cache(const char *config, size_t prompt_tokens, size_t tokens, bool integers) {
    fixture f;
    open_fixture(&f, config, 2);
    if (integers) keep_integers(&f);
    int32_t ids[MOST], text[MOST];
    const size_t vocabulary = attn_model_vocab_size(f.model);
    for (size_t i = 0; i < prompt_tokens; i++) ids[i] = text[i] = (int32_t)((i * 37 + 5) % 290);
    attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
    options.temperature = 0, options.max_tokens = tokens;
    attn_generator *g;
    assert_ok(attn_generator_create(&g, f.model, f.tokenizer, &options));
    assert_ok(attn_generator_prompt_ids(g, ids, prompt_tokens));
    const char *piece;
    size_t bytes = 1, count;
    while (bytes) assert_ok(attn_generator_next(g, &piece, &bytes));
    assert_int_equal(attn_generator_end(g), ATTN_GENERATE_MAX_TOKENS);
    const int32_t *found = attn_generator_ids(g, &count);
    assert_int_equal(count, prompt_tokens + tokens);
    float *logits = malloc(count * vocabulary * sizeof *logits);
    for (size_t n = prompt_tokens; n < count; n++) {
        assert_ok(attn_language_logits(f.model, logits, text, 1, n, NULL));
        text[n] = (int32_t)largest(logits + (n - 1) * vocabulary, vocabulary);
        assert_int_equal(text[n], found[n]);
    }
    free(logits);
    attn_generator_free(g);
    close_fixture(&f);
}
static void test_cache(void **state) {
    (void)state;
    for (int integers = 0; integers < 2; integers++) {
        check_cache(GPT2, 5, 40, integers);
        check_cache(LLAMA, 300, 20, integers);
        check_cache(MISTRAL, 300, 20, integers);
    }
}

/* Several texts in one pass, each in its own time and with its own options. */
enum { TEXTS = 7, TEXT_BYTES = 4096 };

static attn_generator *begin(fixture *f, size_t i, int dtype) {
    static const char *const stop[] = {"e"};
    attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
    options.max_tokens = 5 + i * 11 % 37, options.seed = i + 1, options.cache = dtype ? ATTN_I8 : ATTN_F32;
    options.temperature = i % 3 ? 1 : 0, options.slide = i % 2, options.context = i % 2 ? 24 : 0;
    if (i == 3) options.stop = stop, options.stops = 1;
    attn_generator *g;
    int32_t ids[MOST];
    const size_t n = i == 4 ? 300 : 1 + i * 5 % 17;
    for (size_t k = 0; k < n; k++) ids[k] = (int32_t)((k * 37 + 5 + i) % 290);
    if (attn_generator_create(&g, f->model, f->tokenizer, &options) != ATTN_OK ||
        attn_generator_prompt_ids(g, ids, ATTN_MIN(n, attn_model_context_length(f->model) - 8)) != ATTN_OK)
        fail_msg("%s", attn_error(f->ctx));
    return g;
}

/* The next piece behind *out; false: the text has ended. */
static bool take_piece(fixture *f, attn_generator *g, char *out) {
    const char *text;
    size_t bytes, have = strlen(out);
    if (attn_generator_next(g, &text, &bytes) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
    assert_true(have + bytes < TEXT_BYTES);
    memcpy(out + have, text, bytes);
    out[have + bytes] = '\0';
    return bytes > 0;
}

static void check_together(const char *config, int dtype, bool integers, int threads) {
    static char alone[TEXTS][TEXT_BYTES], text[TEXTS][TEXT_BYTES];
    fixture f;
    open_fixture(&f, config, threads);
    if (integers) keep_integers(&f);
    for (size_t i = 0; i < TEXTS; i++) {
        attn_generator *g = begin(&f, i, dtype);
        alone[i][0] = '\0';
        while (take_piece(&f, g, alone[i])) {}
        attn_generator_free(g);
    }
    for (size_t slots = 1; slots <= 5; slots += 2) {
        attn_generator *g[5];
        size_t which[5], n = 0, next = 0;
        for (size_t i = 0; i < TEXTS; i++) text[i][0] = '\0';
        do {
            for (; n < slots && next < TEXTS; n++, next++) g[n] = begin(&f, next, dtype), which[n] = next;
            if (attn_generators_advance(g, n) != ATTN_OK) fail_msg("%s", attn_error(f.ctx));
            for (size_t i = 0; i < n;) {
                if (take_piece(&f, g[i], text[which[i]])) {
                    i++;
                    continue;
                }
                attn_generator_free(g[i]);
                g[i] = g[--n], which[i] = which[n];
            }
        } while (n || next < TEXTS);
        for (size_t i = 0; i < TEXTS; i++) assert_string_equal(text[i], alone[i]);
    }
    close_fixture(&f);
}

static void test_together(void **state) {
    (void)state;
    static const char *const configs[] = {GPT2, LLAMA, MISTRAL};
    for (size_t i = 0; i < 3; i++)
        for (int dtype = 0; dtype < 2; dtype++)
            for (int integers = 0; integers < 2; integers++) check_together(configs[i], dtype, integers, 1 + dtype);
    fixture f, other;
    open_fixture(&f, LLAMA, 1);
    open_fixture(&other, LLAMA, 1);
    attn_generator *g[] = {begin(&f, 0, 0), begin(&other, 1, 0)};
    assert_int_equal(attn_generators_advance(g, 2), ATTN_E_ARGUMENT);
    assert_ok(attn_generators_advance(g, 0));
    attn_generator_free(g[0]);
    attn_generator_free(g[1]);
    close_fixture(&f);
    close_fixture(&other);
}

/* Bytes by themselves are no text: makes them all but impossible, in a model with LayerNorm and a head of its own. */
static void forbid_bytes(const fixture *f) {
    attn_parameters *set = attn_model_parameters(f->model);
    attn_parameter *head = attn_parameters_find(set, "head.weight"),
                   *bias = attn_parameters_find(set, "final_norm.bias");
    assert_non_null(head), assert_non_null(bias);
    const size_t columns = head->value.shape[1];
    for (size_t i = 0; i < columns; i++) ((float *)bias->value.data)[i] = 10;
    for (size_t id = 0; id < head->value.shape[0]; id++) {
        const char *piece = attn_tokenizer_piece(f->tokenizer, (int32_t)id);
        const bool text = piece && strncmp(piece, "<", 1) != 0;
        for (size_t i = 0; i < columns && !text; i++) ((float *)head->value.data)[id * columns + i] = -10;
    }
    attn_parameter_touch(head), attn_parameter_touch(bias);
}

/* The pieces together are the tokens' text, on any number of threads. */
static void test_pieces(void **state) {
    (void)state;
    char text[2][16 * MOST];
    for (int threads = 1; threads <= 2; threads++) {
        fixture f;
        open_fixture(&f, UNTIED, threads);
        forbid_bytes(&f);
        int32_t ids[MOST];
        size_t count;
        attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
        options.max_tokens = 200, options.seed = 9, options.temperature = 15;
        run(&f, &options, text[threads - 1], ids, &count);
        char *whole;
        assert_ok(attn_detokenize(f.tokenizer, &whole, NULL, ids, count, NULL));
        assert_true(strlen(whole) > strlen(text[threads - 1]) && strlen(text[threads - 1]) > 200);
        assert_string_equal(whole + strlen(whole) - strlen(text[threads - 1]), text[threads - 1]);
        attn_text_free(f.ctx, whole);
        close_fixture(&f);
    }
    assert_string_equal(text[0], text[1]);
}

static void test_stop(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, UNTIED, 1);
    forbid_bytes(&f);
    char whole[16 * MOST], cut[16 * MOST], stop[8];
    size_t count;
    attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
    options.max_tokens = 60, options.seed = 4, options.temperature = 15;
    const size_t bytes = run(&f, &options, whole, NULL, &count);
    assert_true(bytes > 20);
    size_t at = bytes / 2;
    while (((unsigned char)whole[at] & 0xC0) == 0x80) at++;
    snprintf(stop, sizeof stop, "%.5s", whole + at);
    for (size_t n = strlen(stop); n && ((unsigned char)stop[n - 1] & 0x80); n--) stop[n - 1] = '\0'; /* whole letters */
    if (!*stop) snprintf(stop, sizeof stop, "%c", whole[0]);
    const char *const stops[] = {"no such words in the text", stop};
    options.stop = stops, options.stops = 2;
    run(&f, &options, cut, NULL, &count);
    const size_t expected = (size_t)(strstr(whole, stop) - whole);
    assert_int_equal(strlen(cut), expected);
    assert_memory_equal(cut, whole, expected);
    close_fixture(&f);
}

static void test_full_context(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, GPT2, 1);
    char text[16 * MOST];
    size_t count;
    attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
    options.seed = 2;
    run(&f, &options, text, NULL, &count);
    assert_int_equal(count, 64);
    options.slide = true, options.max_tokens = 200;
    assert_true(run(&f, &options, text, NULL, &count) > 100);
    assert_true(count <= 64);
    options.context = 5;
    attn_generator *g;
    assert_ok(attn_generator_create(&g, f.model, f.tokenizer, &options));
    assert_fails(f.ctx, attn_generator_prompt(g, prompt, strlen(prompt)), ATTN_E_SHAPE,
                 "the context length is 5: shorten");
    const char *piece;
    size_t bytes;
    assert_fails(f.ctx, attn_generator_next(g, &piece, &bytes), ATTN_E_ARGUMENT, "there is no prompt");
    const int32_t wrong[] = {320};
    assert_fails(f.ctx, attn_generator_prompt_ids(g, wrong, 1), ATTN_E_ARGUMENT, "expected 0 to 319");
    attn_generator_free(g);
    options.top_p = 1.5f;
    assert_fails(f.ctx, attn_generator_create(&g, f.model, f.tokenizer, &options), ATTN_E_ARGUMENT, "top_p is 1.5");
    close_fixture(&f);
}

/* ---- sampling ------------------------------------------------------------------------------------------ */

enum { DRAWS = 20000, V = 5 };

/* How often each token is drawn. */
static void frequencies(double out[V], const attn_generate_options *o, const int32_t *history, size_t n) {
    static const float logits[V] = {1, 3, 2, -1, 2.5f};
    attn_context *ctx = test_context(1);
    attn_sampler sampler;
    assert_ok(attn_sampler_create(&sampler, ctx, V, 5));
    memset(out, 0, V * sizeof *out);
    for (int i = 0; i < DRAWS; i++) {
        int32_t id;
        assert_ok(attn_sample(&sampler, &id, logits, history, n, o));
        out[id] += 1.0 / DRAWS;
    }
    attn_sampler_free(&sampler);
    attn_context_free(ctx);
}

static void expect(const double found[V], const double logits[V]) {
    double sum = 0;
    for (int i = 0; i < V; i++) sum += exp(logits[i]);
    for (int i = 0; i < V; i++) assert_true(fabs(found[i] - exp(logits[i]) / sum) < 0.015);
}

static void test_sampling(void **state) {
    (void)state;
    const double none = -(double)INFINITY;
    double found[V];
    attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
    frequencies(found, &o, NULL, 0);
    expect(found, (const double[V]){1, 3, 2, -1, 2.5});
    o.temperature = 2;
    frequencies(found, &o, NULL, 0);
    expect(found, (const double[V]){0.5, 1.5, 1, -0.5, 1.25});
    o.top_k = 2;
    frequencies(found, &o, NULL, 0);
    expect(found, (const double[V]){none, 1.5, none, none, 1.25});
    o = (attn_generate_options)ATTN_GENERATE_OPTIONS_INIT;
    o.top_p = 0.6f; /* 0.47 and 0.28 */
    frequencies(found, &o, NULL, 0);
    expect(found, (const double[V]){none, 3, none, none, 2.5});
    o.top_p = 1, o.min_p = 0.3f; /* e^−1 = 0.37, e^−2 = 0.14 */
    frequencies(found, &o, NULL, 0);
    expect(found, (const double[V]){none, 3, 2, none, 2.5});
    o.min_p = 0, o.repetition_penalty = 2;
    frequencies(found, &o, (const int32_t[]){1, 3, 1}, 3);
    expect(found, (const double[V]){1, 1.5, 2, -2, 2.5});
    o.temperature = 0, o.repetition_penalty = 1;
    frequencies(found, &o, NULL, 0);
    assert_true(found[1] > 0.999);
}

static void test_not_a_number(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_sampler sampler;
    int32_t id;
    const attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
    assert_ok(attn_sampler_create(&sampler, ctx, 2, 5));
    assert_fails(ctx, attn_sample(&sampler, &id, (const float[]){1, NAN}, NULL, 0, &o), ATTN_E_NUMERIC, "token 1");
    attn_sampler_free(&sampler);
    attn_context_free(ctx);
}

/* The loss of windows is that of their logits. */
static void test_loss(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, GPT2, 1);
    enum { TOKENS = 150, CONTEXT = 64, VOCABULARY = 320 };
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = (i * 53 + 7) % 290;
    attn_loss_stats stats = {0};
    assert_ok(attn_language_loss(f.model, &stats, ids, TOKENS));
    assert_int_equal(stats.tokens, TOKENS - 1);
    double nll = 0;
    float *logits = malloc(CONTEXT * VOCABULARY * sizeof *logits);
    for (int first = 0; first + 1 < TOKENS; first += CONTEXT) {
        const int n = TOKENS - 1 - first < CONTEXT ? TOKENS - 1 - first : CONTEXT;
        assert_ok(attn_language_logits(f.model, logits, ids + first, 1, (size_t)n, NULL));
        for (int t = 0; t < n; t++) {
            double sum = 0;
            for (int v = 0; v < VOCABULARY; v++) sum += exp((double)logits[t * VOCABULARY + v]);
            nll += log(sum) - (double)logits[t * VOCABULARY + ids[first + t + 1]];
        }
    }
    assert_true(fabs(nll - stats.nll) < 1e-4 * nll);
    free(logits);
    close_fixture(&f);
}

/* Through a cache: the same with f32, also where a layer's cache is a ring; near it with bytes, and never equal. */
static void test_cached_loss(void **state) {
    (void)state;
    static const char *const configs[] = {GPT2, LLAMA, MISTRAL};
    enum { TOKENS = 700 };
    int32_t ids[TOKENS];
    for (int i = 0; i < TOKENS; i++) ids[i] = (i * 53 + 7) % 290;
    for (size_t c = 0; c < 3; c++) {
        fixture f;
        open_fixture(&f, configs[c], 2);
        attn_loss_stats plain = {0}, cached = {0}, bytes = {0};
        assert_ok(attn_language_loss(f.model, &plain, ids, TOKENS));
        assert_ok(attn_language_loss_cached(f.model, &cached, ids, TOKENS, ATTN_F32));
        assert_ok(attn_language_loss_cached(f.model, &bytes, ids, TOKENS, ATTN_I8));
        assert_int_equal(cached.tokens, TOKENS - 1);
        assert_true(fabs(cached.nll - plain.nll) < 1e-9 * plain.nll);
        assert_true(bytes.nll != plain.nll && fabs(bytes.nll - plain.nll) < 1e-2 * plain.nll);
        assert_fails(f.ctx, attn_language_loss_cached(f.model, &bytes, ids, TOKENS, ATTN_F16), ATTN_E_UNSUPPORTED,
                     "expected F32 or I8");
        attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
        attn_generator *g;
        options.cache = ATTN_F16;
        assert_fails(f.ctx, attn_generator_create(&g, f.model, f.tokenizer, &options), ATTN_E_UNSUPPORTED, "F16");
        close_fixture(&f);
    }
}

/* A token that the options name ends the text as the config's does, and is no part of it. */
static void test_ends(void **state) {
    (void)state;
    fixture f;
    open_fixture(&f, LLAMA, 1);
    char text[16 * MOST];
    int32_t ids[MOST], less[MOST];
    size_t count, fewer, at;
    attn_generate_options options = ATTN_GENERATE_OPTIONS_INIT;
    options.temperature = 0, options.max_tokens = 12;
    run(&f, &options, text, ids, &count);
    options.ends = &ids[count - 4], options.end_count = 1;
    for (at = count - 12; ids[at] != ids[count - 4]; at++) {}
    run(&f, &options, text, less, &fewer);
    assert_int_equal(fewer, at);
    assert_memory_equal(ids, less, fewer * sizeof *ids);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_together),     cmocka_unit_test(test_cache),        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_stop),         cmocka_unit_test(test_full_context), cmocka_unit_test(test_sampling),
        cmocka_unit_test(test_not_a_number), cmocka_unit_test(test_loss),         cmocka_unit_test(test_cached_loss),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
