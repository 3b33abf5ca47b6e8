/* train_language.c: a small language model learns a text, and a training that was stopped ends with the same bytes. */
#include "support/translator.h"
#include <attn/generate.h>
#include <attn/io.h>
#include <attn/train.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

static const char config[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 30, \"hidden_size\": 32, \"intermediate_size\": 64,"
    " \"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"max_position_embeddings\": 16,"
    " \"attention_dropout\": 0.1}";
enum { PATH = 256, STEPS = 120 };

typedef struct run {
    size_t stop_at; /* 0: never */
    double first_nll, last_nll, valid_nll, done_nll;
    double bleu;
} run;

static bool on_event(void *user, const attn_train_event *e) {
    run *r = user;
    if (e->kind == ATTN_TRAIN_STEP && e->step == 1) r->first_nll = e->nll;
    if (e->kind == ATTN_TRAIN_STEP) r->last_nll = e->nll;
    if (e->kind == ATTN_TRAIN_VALID) r->valid_nll = e->nll, r->bleu = e->bleu;
    if (e->kind == ATTN_TRAIN_DONE) r->done_nll = e->nll;
    return r->stop_at == 0 || e->kind != ATTN_TRAIN_STEP || e->step != r->stop_at;
}

/* "the n-th line says n" again and again: what comes next is mostly clear. */
static attn_corpus *text_corpus(attn_context *ctx, const char *folder) {
    char path[PATH], text[4000];
    size_t n = 0;
    for (int i = 0; i < 80; i++)
        n += (size_t)sprintf(text + n, "line %c has the letter %c.\n", 'a' + i % 7, 'a' + i % 7);
    snprintf(path, sizeof path, "%s/text.txt", folder);
    assert_ok(attn_file_write(ctx, path, text, n));
    attn_corpus *corpus;
    const char *const paths[] = {path};
    assert_ok(attn_corpus_read_texts(&corpus, ctx, paths, 1));
    return corpus;
}

static attn_status train(const char *folder, const char *out, int threads, bool resume, run *r) {
    attn_context *ctx = test_context(threads);
    attn_corpus *corpus = text_corpus(ctx, folder), *valid;
    assert_ok(attn_corpus_split_texts(&valid, corpus, 0.1));
    const char *text = attn_corpus_at(corpus, 0)->target;
    const size_t bytes = strlen(text);
    attn_tokenizer *tokenizer;
    attn_model *model;
    if (attn_tokenizer_of_characters(&tokenizer, ctx, &text, &bytes, 1) != ATTN_OK ||
        attn_model_create(&model, ctx, config, 5) != ATTN_OK)
        fail_msg("%s", attn_error(ctx));
    attn_train_options o;
    attn_train_options_init(&o);
    char path[PATH];
    snprintf(path, sizeof path, "%s/%s", folder, out);
    o.folder = path, o.resume = resume, o.epochs = 0, o.max_steps = STEPS, o.batch_tokens = 128, o.valid_steps = 40;
    o.recompute = resume; /* the same bytes with it */
    o.learning_rate = 1e-2f, o.warmup_steps = 10, o.label_smoothing = 0, o.average = 1;
    const attn_status status = attn_train(model, tokenizer, corpus, valid, &o, on_event, r);
    if (status != ATTN_OK && status != ATTN_E_INTERRUPTED) fail_msg("%s", attn_error(ctx));
    if (status == ATTN_OK) { /* what it learned can be read again, and is as good as it says */
        attn_model *again;
        attn_tokens tokens = ATTN_TOKENS_INIT;
        attn_loss_stats stats = {0};
        int32_t ids[1000];
        assert_ok(attn_model_load(&again, ctx, path));
        assert_ok(attn_tokenize(tokenizer, &tokens, attn_corpus_at(valid, 0)->target,
                                strlen(attn_corpus_at(valid, 0)->target), false));
        for (size_t i = 0; i < tokens.count; i++) ids[i] = tokens.token[i].id;
        assert_ok(attn_language_loss(again, &stats, ids, tokens.count));
        assert_true(fabs(stats.nll / (double)stats.tokens - r->done_nll) < 1e-5);
        attn_tokens_free(ctx, &tokens);
        attn_model_free(again);
    }
    attn_model_free(model);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    attn_corpus_free(valid);
    attn_context_free(ctx);
    return status;
}

static void same_files(const char *folder, const char *a, const char *b) {
    attn_context *ctx = test_context(1);
    char *text[2];
    size_t bytes[2];
    const char *const out[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        char path[PATH];
        snprintf(path, sizeof path, "%s/%s/model.safetensors", folder, out[i]);
        assert_ok(attn_read_text(ctx, &text[i], &bytes[i], path));
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(text[0], text[1], bytes[0]);
    for (int i = 0; i < 2; i++) attn_text_free(ctx, text[i]);
    attn_context_free(ctx);
}

static void test_training(void **state) {
    (void)state;
    char folder[] = "/tmp/attn-train-language-XXXXXX", command[PATH];
    assert_non_null(mkdtemp(folder));
    run whole = {0}, first = {.stop_at = 50}, rest = {0};
    assert_int_equal(train(folder, "whole", 1, false, &whole), ATTN_OK);
    assert_true(whole.first_nll > 2.5 && whole.last_nll < 0.6);
    assert_true(whole.valid_nll < 0.8 && whole.done_nll <= whole.valid_nll + 1e-12);
    assert_true(whole.bleu < 0);
    assert_int_equal(train(folder, "parts", 2, false, &first), ATTN_E_INTERRUPTED);
    assert_int_equal(train(folder, "parts", 2, true, &rest), ATTN_OK);
    same_files(folder, "whole", "parts");
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    assert_int_equal(system(command), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_training)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
