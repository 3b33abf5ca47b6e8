/* bert.c: encoders as transformers saves them, against what transformers computes: states, pooler, weights of heads;
 * saving, padding, other files. The models and what they must give are made by scripts/make_bert_goldens.py. */
#include "support/golden.h"
#include "support/translator.h"
#include <attn/encoder.h>
#include <attn/generate.h>
#include <attn/io.h>
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const variants[] = {"bert", "masked", "old"};

enum { PATH = 1024, MOST = 256 };

typedef struct fixture {
    attn_context *ctx;
    attn_model *model;
    attn_safetensors *expected;
    const char *name;
    const int32_t *ids, *types, *length;
    size_t batch, steps, width;
} fixture;

static const attn_tensor *find(const fixture *f, const char *name) {
    const attn_named_tensor *found = attn_safetensors_find(f->expected, name);
    return found ? &found->tensor : NULL;
}

static void open_fixture(fixture *f, const char *name, int threads) {
    *f = (fixture){.ctx = test_context(threads), .name = name};
    f->model = golden_open(f->ctx, &f->expected, "bert", name);
    const attn_tensor *ids = find(f, "ids");
    f->ids = ids->data, f->types = find(f, "types")->data, f->length = find(f, "length")->data;
    f->batch = ids->shape[0], f->steps = ids->shape[1], f->width = attn_model_state_size(f->model);
}

static void close_fixture(fixture *f) {
    attn_safetensors_close(f->expected);
    attn_model_free(f->model);
    attn_context_free(f->ctx);
}

static void for_all(void (*test)(fixture *f)) {
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        fixture f;
        open_fixture(&f, variants[i], 1);
        test(&f);
        close_fixture(&f);
    }
}

static float *states_of(const fixture *f, const int32_t *ids, const int32_t *types, size_t batch, size_t steps,
                        const int32_t *first, const int32_t *end) {
    float *states = malloc(batch * steps * f->width * sizeof *states);
    assert_non_null(states);
    if (attn_encoder_states(f->model, states, ids, types, batch, steps, first, end) != ATTN_OK)
        fail_msg("%s: %s", f->name, attn_error(f->ctx));
    return states;
}

static void check_close(const fixture *f, const char *what, const float *found, const float *want, size_t n) {
    double worst = 0;
    for (size_t i = 0; i < n; i++) worst = fmax(worst, fabs((double)found[i] - (double)want[i]));
    if (!(worst < 1e-5)) fail_msg("%s: %s are off by %g", f->name, what, worst);
}

/* ---- against transformers -------------------------------------------------------------------------------- */

static void check_states(fixture *f) {
    float *found = states_of(f, f->ids, f->types, f->batch, f->steps, NULL, f->length);
    check_close(f, "states", found, find(f, "states")->data, f->batch * f->steps * f->width);
    free(found);
    assert_true(attn_model_is_encoder(f->model) && !attn_model_is_language_model(f->model));
    assert_int_equal(attn_model_context_length(f->model), 40);
}
static void test_states(void **state) {
    (void)state;
    for_all(check_states);
}

/* Of the first sequence, which has no padding: each head, and the mean of a layer's. */
static void check_weights(fixture *f) {
    const attn_tensor *want = find(f, "weights");
    const size_t layers = want->shape[0], heads = want->shape[1], n = f->steps * f->steps;
    float *mean = malloc(n * sizeof *mean);
    for (size_t l = 0; l < layers; l++) {
        const float *of_layer = (const float *)want->data + l * heads * n;
        for (size_t i = 0; i < n; i++) mean[i] = 0;
        for (size_t h = 0; h <= heads; h++) {
            float *found;
            assert_ok(attn_look_at_text(f->model, &found, l + 1 == layers ? ATTN_LAST_LAYER : l, (h + 1) % (heads + 1),
                                        f->ids, f->types, f->steps));
            check_close(f, "weights", found, h < heads ? of_layer + h * n : mean, n);
            attn_text_free(f->ctx, found);
            for (size_t i = 0; h < heads && i < n; i++) mean[i] += of_layer[h * n + i] / (float)heads;
        }
    }
    free(mean);
    attn_look_vectors v;
    float *none, *all;
    assert_ok(attn_look_at_text(f->model, &all, 0, ATTN_EVERY_HEAD, f->ids, f->types, f->steps));
    assert_ok(attn_look_at_text_vectors(f->model, &v, 0, f->ids, f->types, f->steps));
    check_look_vectors(&v, all);
    attn_text_free(f->ctx, v.queries);
    attn_text_free(f->ctx, all);
    assert_fails(f->ctx, attn_look_at_text_vectors(f->model, &v, layers, f->ids, NULL, 2), ATTN_E_ARGUMENT,
                 "layers of");
    assert_null(v.queries);
    size_t have[2];
    attn_model_heads(f->model, ATTN_LOOK_ENCODER, &have[0], &have[1]);
    assert_true(have[0] == layers && have[1] == heads);
    assert_fails(f->ctx, attn_look_at_text(f->model, &none, layers, 0, f->ids, NULL, 2), ATTN_E_ARGUMENT, "layers of");
    assert_fails(f->ctx, attn_look_at_text(f->model, &none, 0, heads + 1, f->ids, NULL, 2), ATTN_E_ARGUMENT, "heads");
    assert_fails(f->ctx, attn_look_at_text(f->model, &none, 0, 0, f->ids, NULL, 41), ATTN_E_SHAPE, "length is 40");
    assert_fails(f->ctx, attn_look_at_text(f->model, &none, 0, 0, f->ids, NULL, 0), ATTN_E_SHAPE, "no tokens");
}
static void test_weights(void **state) {
    (void)state;
    for_all(check_weights);
}

/* ---- the same bits --------------------------------------------------------------------------------------- */

/* Padding on both sides, other sequences beside it and more threads change no bit. */
static void check_bits(fixture *f) {
    enum { PAD = 3 };
    const size_t steps = f->steps + PAD;
    int32_t ids[MOST], types[MOST], first[8], end[8];
    assert_true(f->batch * steps <= MOST);
    fixture g;
    open_fixture(&g, f->name, 2);
    for (size_t b = 0; b < f->batch; b++) {
        first[b] = b % 2 ? PAD : PAD - 1;
        end[b] = first[b] + f->length[b];
        for (size_t t = 0; t < steps; t++) {
            const bool inside = (int32_t)t >= first[b] && (int32_t)t < end[b];
            const size_t at = b * f->steps + (inside ? t - (size_t)first[b] : 0);
            ids[b * steps + t] = inside ? f->ids[at] : (int32_t)(t * 5 + 1) - 40; /* some are no ids at all */
            types[b * steps + t] = inside ? f->types[at] : 99;
        }
    }
    float *all = states_of(&g, ids, types, f->batch, steps, first, end);
    for (size_t b = 0; b < f->batch; b++) {
        const size_t n = (size_t)f->length[b], row = f->width;
        float *alone = states_of(f, f->ids + b * f->steps, f->types + b * f->steps, 1, n, NULL, NULL);
        const float *of_all = all + b * steps * row;
        assert_memory_equal(alone, of_all + (size_t)first[b] * row, n * row * sizeof *alone);
        for (size_t i = 0; i < steps * row; i++)
            if (i / row < (size_t)first[b] || i / row >= (size_t)end[b]) assert_true(of_all[i] == 0);
        free(alone);
    }
    free(all);
    close_fixture(&g);
}
static void test_bits(void **state) {
    (void)state;
    for_all(check_bits);
}

/* ---- texts ----------------------------------------------------------------------------------------------- */

/* A token for each letter, from 5, with "[CLS]", 2, and "[SEP]", 3, around. */
static attn_tokenizer *letters(const fixture *f) {
    const char *source = getenv("ATTN_TEST_SOURCE");
    char path[PATH];
    attn_tokenizer *tokenizer;
    snprintf(path, sizeof path, "%s/tests/golden/bert/bert/tokenizer.json", source ? source : ".");
    if (attn_tokenizer_load(&tokenizer, f->ctx, path) != ATTN_OK) fail_msg("%s", attn_error(f->ctx));
    return tokenizer;
}

static void check_embeddings(fixture *f) {
    static const char *const texts[] = {"a b c d", "q", "x y z a b c d e f g"};
    static const int32_t ids[] = {2, 5, 6, 7, 8, 3};
    enum { TEXTS = 3, WIDTH = 12 };
    attn_tokenizer *tokenizer = letters(f);
    float vectors[TEXTS * WIDTH], one[WIDTH];
    attn_embed_options o = ATTN_EMBED_OPTIONS_INIT;
    o.normalise = false;
    float *states = states_of(f, ids, NULL, 1, 6, NULL, NULL);

    assert_ok(attn_embed(f->model, tokenizer, vectors, texts, NULL, TEXTS, &o));
    for (size_t i = 0; i < WIDTH; i++) {
        double mean = 0;
        for (size_t t = 0; t < 6; t++) mean += (double)states[t * WIDTH + i] / 6;
        assert_true(fabs(mean - (double)vectors[i]) < 1e-6);
    }
    for (size_t t = 0; t < TEXTS; t++) {
        assert_ok(attn_embed(f->model, tokenizer, one, texts + t, NULL, 1, &o));
        assert_memory_equal(one, vectors + t * WIDTH, sizeof one);
    }
    o.pooling = ATTN_POOL_CLS;
    assert_ok(attn_embed(f->model, tokenizer, one, texts, NULL, 1, &o));
    assert_memory_equal(one, states, sizeof one);
    assert_ok(attn_embed(f->model, tokenizer, vectors, texts, NULL, 1, NULL)); /* length 1 */
    double squares = 0;
    for (size_t i = 0; i < WIDTH; i++) squares += (double)vectors[i] * (double)vectors[i];
    assert_true(fabs(squares - 1) < 1e-6);

    o.pooling = ATTN_POOL_MEAN, o.max_tokens = 4; /* what is put around a text is not cut */
    assert_fails(f->ctx, attn_embed(f->model, tokenizer, one, texts, NULL, 1, &o), ATTN_E_SHAPE, "text 1 has 6 tokens");
    o.truncate = true;
    static const char *const cut[] = {"a b"};
    assert_ok(attn_embed(f->model, tokenizer, one, texts, NULL, 1, &o));
    assert_ok(attn_embed(f->model, tokenizer, vectors, cut, NULL, 1, &o));
    assert_memory_equal(one, vectors, sizeof one);
    o.max_tokens = 2;
    assert_fails(f->ctx, attn_embed(f->model, tokenizer, one, texts, NULL, 1, &o), ATTN_E_ARGUMENT, "special tokens");
    free(states);
    attn_tokenizer_free(tokenizer);
}
static void test_embeddings(void **state) {
    (void)state;
    for_all(check_embeddings);
}

static void test_pooler(void **state) {
    (void)state;
    fixture f;
    float one[12];
    open_fixture(&f, "bert", 1);
    attn_tokenizer *tokenizer = letters(&f);
    static const char *const text[] = {"a b c"};
    static const int32_t ids[] = {2, 5, 6, 7, 3};
    attn_embed_options o = ATTN_EMBED_OPTIONS_INIT;
    o.pooling = ATTN_POOL_POOLER, o.normalise = false;
    assert_ok(attn_embed(f.model, tokenizer, one, text, NULL, 1, &o));
    float *states = states_of(&f, ids, NULL, 1, 5, NULL, NULL);
    const attn_parameters *set = attn_model_parameters(f.model);
    const float *w = attn_parameters_find(set, "pooler.weight")->value.data;
    const float *b = attn_parameters_find(set, "pooler.bias")->value.data, *want = find(&f, "pooled")->data;
    float *golden = states_of(&f, f.ids, f.types, 1, f.steps, NULL, NULL);
    for (size_t i = 0; i < 12; i++) {
        double mine = (double)b[i], theirs = (double)b[i];
        for (size_t k = 0; k < 12; k++) {
            mine += (double)w[i * 12 + k] * (double)states[k];
            theirs += (double)w[i * 12 + k] * (double)golden[k];
        }
        assert_true(fabs(tanh(mine) - (double)one[i]) < 1e-5);
        assert_true(fabs(tanh(theirs) - (double)want[i]) < 1e-5);
    }
    free(states);
    free(golden);
    attn_tokenizer_free(tokenizer);
    close_fixture(&f);
    open_fixture(&f, "masked", 1);
    tokenizer = letters(&f);
    assert_fails(f.ctx, attn_embed(f.model, tokenizer, one, text, NULL, 1, &o), ATTN_E_UNSUPPORTED, "no pooler");
    attn_tokenizer_free(tokenizer);
    close_fixture(&f);
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static void make_folder(char folder[64]) {
    strcpy(folder, "/tmp/attn-bert-XXXXXX");
    assert_non_null(mkdtemp(folder));
}

static void check_round_trip(fixture *f) {
    char folder[64], path[PATH];
    attn_model *model = f->model;
    make_folder(folder);
    assert_ok(attn_model_save(model, folder, ATTN_F32));
    if (attn_model_load(&f->model, f->ctx, folder) != ATTN_OK) fail_msg("%s: %s", f->name, attn_error(f->ctx));
    assert_string_equal(attn_model_config(model), attn_model_config(f->model));
    check_states(f);
    attn_model_free(model);
    static const char *const files[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}
static void test_round_trip(void **state) {
    (void)state;
    for_all(check_round_trip);
}

static void put(attn_context *ctx, const char *folder, const char *file, const char *text) {
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    assert_ok(attn_file_write(ctx, path, text, strlen(text)));
}

static void test_folder_options(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_embed_options o = ATTN_EMBED_OPTIONS_INIT;
    char folder[64], path[PATH];
    make_folder(folder);
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    o.pooling = ATTN_POOL_CLS;
    assert_ok(attn_embed_options_read(&o, ctx, folder));
    assert_true(o.pooling == ATTN_POOL_CLS && o.max_tokens == 0);
    put(ctx, folder, "1_Pooling/config.json",
        "{\"pooling_mode_cls_token\": false, \"pooling_mode_mean_tokens\": true}");
    put(ctx, folder, "sentence_bert_config.json", "{\"max_seq_length\": 256}");
    put(ctx, folder, "modules.json",
        "[{\"type\": \"sentence_transformers.models.Transformer\"}, {\"type\": \"x.Normalize\"}]");
    assert_ok(attn_embed_options_read(&o, ctx, folder));
    assert_true(o.pooling == ATTN_POOL_MEAN && o.max_tokens == 256);
    o.pooling = ATTN_POOL_CLS, o.max_tokens = 77;
    assert_ok(attn_embed_options_save(&o, ctx, folder));
    o = (attn_embed_options)ATTN_EMBED_OPTIONS_INIT;
    assert_ok(attn_embed_options_read(&o, ctx, folder));
    assert_true(o.pooling == ATTN_POOL_CLS && o.max_tokens == 77);
    o.pooling = ATTN_POOL_POOLER;
    assert_fails(ctx, attn_embed_options_save(&o, ctx, folder), ATTN_E_UNSUPPORTED, "the pooler has no form");
    put(ctx, folder, "1_Pooling/config.json", "{\"pooling_mode_max_tokens\": true}");
    assert_fails(ctx, attn_embed_options_read(&o, ctx, folder), ATTN_E_UNSUPPORTED, "\"pooling_mode_max_tokens\"");
    put(ctx, folder, "1_Pooling/config.json", "{");
    assert_fails(ctx, attn_embed_options_read(&o, ctx, folder), ATTN_E_FORMAT, "1_Pooling/config.json: line 1");
    put(ctx, folder, "modules.json", "[{\"type\": \"sentence_transformers.models.Dense\"}]");
    assert_fails(ctx, attn_embed_options_read(&o, ctx, folder), ATTN_E_UNSUPPORTED, "found \"Dense\"");
    static const char *const files[] = {"1_Pooling/config.json", "sentence_bert_config.json", "modules.json"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        assert_int_equal(unlink(path), 0);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", folder);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(folder), 0);
    attn_context_free(ctx);
}

/* vocab.txt has the pieces alone: the same ids as of tokenizer.json. */
static void test_vocabulary(void **state) {
    (void)state;
    static const char *const texts[] = {"a b c", "abc", "[SEP] a [MASK]", "x \xC3\xA9 y", "", "A b"};
    fixture f;
    char folder[64], path[PATH], text[2048] = "";
    open_fixture(&f, "bert", 1);
    make_folder(folder);
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    attn_tokenizer *json = letters(&f), *lines;
    for (size_t i = 0; i < attn_tokenizer_size(json); i++)
        sprintf(text + strlen(text), "%s\n", attn_tokenizer_piece(json, (int32_t)i));
    put(f.ctx, folder, "vocab.txt", text);
    put(f.ctx, folder, "tokenizer_config.json", "{\"do_lower_case\": false}");
    if (attn_tokenizer_load(&lines, f.ctx, path) != ATTN_OK) fail_msg("%s", attn_error(f.ctx));
    attn_tokens a = ATTN_TOKENS_INIT, b = ATTN_TOKENS_INIT;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_ok(attn_tokenize(json, &a, texts[i], strlen(texts[i]), true));
        assert_ok(attn_tokenize(lines, &b, texts[i], strlen(texts[i]), true));
        assert_int_equal(a.count, b.count);
        for (size_t k = 0; k < a.count; k++) assert_int_equal(a.token[k].id, b.token[k].id);
    }
    attn_tokenizer_free(lines);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", folder);
    assert_int_equal(unlink(path), 0);
    if (attn_tokenizer_of_model(&lines, f.ctx, folder) != ATTN_OK) fail_msg("%s", attn_error(f.ctx)); /* lower case */
    assert_ok(attn_tokenize(lines, &b, "A \xC3\x84", 4, false));
    assert_true(b.count == 2 && b.token[0].id == 5 && b.token[1].id == 5);
    attn_tokenizer_free(lines);
    attn_tokenizer_free(json);
    attn_tokens_free(f.ctx, &a);
    attn_tokens_free(f.ctx, &b);
    snprintf(path, sizeof path, "%s/vocab.txt", folder);
    put(f.ctx, folder, "vocab.txt", "[UNK]\na\n\nb\n");
    assert_fails(f.ctx, attn_tokenizer_load(&lines, f.ctx, path), ATTN_E_FORMAT, "vocab.txt: line 3: expected a piece");
    put(f.ctx, folder, "vocab.txt", "[UNK]\na\na\n");
    assert_fails(f.ctx, attn_tokenizer_load(&lines, f.ctx, path), ATTN_E_FORMAT, "line 3: expected a piece, found one");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);
    close_fixture(&f);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *config, *said;
    } cases[] = {
        {"{\"model_type\": \"bert\", \"hidden_size\": 10, \"num_attention_heads\": 3}", "\"hidden_size\" is 10"},
        {"{\"model_type\": \"bert\", \"is_decoder\": true}", "\"is_decoder\": expected false"},
        {"{\"model_type\": \"bert\", \"position_embedding_type\": \"relative_key\"}", "expected \"absolute\""},
        {"{\"model_type\": \"bert\", \"hidden_sise\": 12}", "unknown key \"hidden_sise\""},
    };
    fixture f;
    open_fixture(&f, "bert", 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        attn_model *model;
        const attn_status status = attn_model_create(&model, f.ctx, cases[i].config, 1);
        assert_true(status == ATTN_E_FORMAT || status == ATTN_E_UNSUPPORTED);
        if (!strstr(attn_error(f.ctx), cases[i].said)) fail_msg("found \"%s\"", attn_error(f.ctx));
    }
    float states[2 * 12], logits[31];
    static const int32_t ids[] = {3, 31}, types[] = {0, 2}, fine[] = {3, 4}, first[] = {1}, end[] = {3};
    attn_model *m = f.model;
    assert_fails(f.ctx, attn_encoder_states(m, states, ids, NULL, 1, 2, NULL, NULL), ATTN_E_ARGUMENT, "31");
    assert_fails(f.ctx, attn_encoder_states(m, states, fine, types, 1, 2, NULL, NULL), ATTN_E_ARGUMENT, "2");
    assert_fails(f.ctx, attn_encoder_states(m, states, fine, NULL, 1, 2, first, end), ATTN_E_ARGUMENT, "tokens 1 to 3");
    assert_fails(f.ctx, attn_encoder_states(m, states, fine, NULL, 1, 41, NULL, NULL), ATTN_E_SHAPE, "length is 40");
    assert_fails(f.ctx, attn_language_logits(m, logits, fine, 1, 1, NULL), ATTN_E_ARGUMENT, "no language model");
    attn_tape *tape;
    assert_ok(attn_tape_create(&tape, f.ctx, true));
    const attn_pair_batch batch = {.batch = 1, .target_steps = 2, .target_in = fine, .target_out = fine};
    assert_null(attn_model_loss(m, tape, &batch, 0, 1, NULL));
    assert_fails(f.ctx, attn_tape_status(tape), ATTN_E_UNSUPPORTED, "not trained here");
    attn_tape_free(tape);
    close_fixture(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_states),         cmocka_unit_test(test_weights),    cmocka_unit_test(test_bits),
        cmocka_unit_test(test_embeddings),     cmocka_unit_test(test_pooler),     cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_folder_options), cmocka_unit_test(test_vocabulary), cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
