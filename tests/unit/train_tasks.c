/* train_tasks.c: a language model that is tuned: to instructions, as a classifier. A training that is stopped and goes
 * on with another number of threads ends with the same bytes; what is frozen stays. */
#include "support/toy.h"
#include "support/translator.h"
#include <attn/generate.h>
#include <attn/io.h>
#include <attn/train.h>
#include <math.h>

static const char base_config[] = "{\"model_type\": \"%s\", \"vocab_size\": 40, \"%s\": 32, \"%s\": 2, \"%s\": 2, "
                                  "\"%s\": 96, \"eos_token_id\": 39%s%s}";

typedef struct tuning {
    const char *name, *type;
    attn_train_task task;
    attn_model_part part;
    attn_dtype precision;
    size_t lora;          /* rank of adapters; 0: none */
    double before, after; /* the loss falls from above `before` to below `after` */
    double accuracy;      /* of valid, afterwards */
} tuning;

static const tuning cases[] = {
    {"instructions", "llama", ATTN_TASK_INSTRUCTIONS, ATTN_PART_ALL, ATTN_F32, 0, 3.5, 0.9, 0.6},
    {"instructions, bf16", "gpt2", ATTN_TASK_INSTRUCTIONS, ATTN_PART_ALL, ATTN_BF16, 0, 3.5, 0.9, 0.6},
    {"instructions, last layer", "llama", ATTN_TASK_INSTRUCTIONS, ATTN_PART_LAST, ATTN_F32, 0, 3.5, 3.4, 0},
    {"instructions, adapters", "llama", ATTN_TASK_INSTRUCTIONS, ATTN_PART_ALL, ATTN_F32, 4, 3.5, 3.3, 0.5},
    {"classify, adapters", "gpt2", ATTN_TASK_CLASSIFY, ATTN_PART_ALL, ATTN_F32, 2, 0.6, 0.5, 0.8},
    {"preferences", "llama", ATTN_TASK_PREFERENCES, ATTN_PART_ALL, ATTN_F32, 0, 0.69, 0.1, 0.95},
    {"preferences, adapters", "gpt2", ATTN_TASK_PREFERENCES, ATTN_PART_ALL, ATTN_F32, 4, 0.69, 0.65, 0.9},
    {"classify", "gpt2", ATTN_TASK_CLASSIFY, ATTN_PART_ALL, ATTN_F32, 0, 0.6, 0.1, 0.9},
    {"classify, last layer", "llama", ATTN_TASK_CLASSIFY, ATTN_PART_LAST, ATTN_F32, 0, 0.6, 0.5, 0.6},
    {"classify, head", "llama", ATTN_TASK_CLASSIFY, ATTN_PART_HEAD, ATTN_F32, 0, 0.6, 0.69, 0.5},
};
enum { STEPS = 60 };

typedef struct events {
    size_t stop_at; /* 0: never */
    double first, last, accuracy;
} events;

static bool on_event(void *user, const attn_train_event *e) {
    events *seen = user;
    if (e->kind == ATTN_TRAIN_VALID && e->step == 0) seen->first = e->nll;
    if (e->kind == ATTN_TRAIN_VALID) seen->last = e->nll, seen->accuracy = e->accuracy;
    return seen->stop_at == 0 || e->kind != ATTN_TRAIN_STEP || e->step != seen->stop_at;
}

/* "say a number" is answered by it twice; texts with more a's than b's are of one class, the others of another. */
static attn_corpus *task_corpus(attn_context *ctx, const char *folder, attn_train_task task, unsigned seed, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/data-%u", folder, seed);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < n; i++) {
        char word[8] = "";
        size_t length = 3 + 2 * (seed >> 20) % 4, a = 0;
        for (size_t k = 0; k < length; k++) {
            seed = seed * 1664525u + 1013904223u;
            word[k] = "ab"[seed >> 24 & 1];
            a += word[k] == 'a';
        }
        if (task == ATTN_TASK_CLASSIFY) fprintf(file, "%s\t%s.\n", 2 * a > length ? "more a" : "more b", word);
        else if (task == ATTN_TASK_PREFERENCES)
            fprintf(file, "{\"instruction\": \"say\", \"input\": \"%c\", \"chosen\": \"%c!\", \"rejected\": \"%c!\"}\n",
                    word[0], word[0], word[0] ^ 3);
        else
            fprintf(file, "{\"instruction\": \"say\", \"input\": \"%c%c\", \"output\": \"%c%c!\"}\n", word[0], word[1],
                    word[0], word[1]);
    }
    fclose(file);
    attn_corpus *corpus;
    const char *const paths[] = {path};
    const attn_corpus_options options = {sizeof options, true, 0};
    const attn_status status =
        task == ATTN_TASK_CLASSIFY
            ? attn_corpus_read(&corpus, ctx, paths, 1, &options)
            : attn_corpus_read_instructions(&corpus, ctx, paths, 1, ATTN_TEMPLATE_PLAIN, task == ATTN_TASK_PREFERENCES);
    if (status != ATTN_OK) fail_msg("%s", attn_error(ctx));
    return corpus;
}

static void make_config(char out[600], const tuning *t, bool labels) {
    const bool gpt2 = !strcmp(t->type, "gpt2");
    snprintf(out, 600, base_config, t->type, gpt2 ? "n_embd" : "hidden_size", gpt2 ? "n_layer" : "num_hidden_layers",
             gpt2 ? "n_head" : "num_attention_heads", gpt2 ? "n_positions" : "max_position_embeddings",
             gpt2 ? "" : ", \"intermediate_size\": 64",
             labels ? ", \"id2label\": {\"0\": \"more a\", \"1\": \"more b\"}" : "");
}

static void make_base(const char *folder, const tuning *t) {
    char config[600];
    attn_context *ctx = test_context(1);
    attn_model *model;
    make_config(config, t, false);
    if (attn_model_create(&model, ctx, config, 3) != ATTN_OK) fail_msg("%s: %s", t->name, attn_error(ctx));
    assert_ok(attn_model_save(model, folder, ATTN_F32));
    attn_model_free(model);
    attn_context_free(ctx);
}

/* log p of an answer, from the logits of its prompt and itself. */
static double answer_log_prob(const attn_model *model, const attn_tokenizer *tokenizer, const attn_pair *pair,
                              size_t *count) {
    enum { MOST = 32, VOCABULARY = 40 };
    attn_context *ctx = test_context(1);
    attn_tokens prompt = ATTN_TOKENS_INIT, answer = ATTN_TOKENS_INIT;
    assert_ok(attn_language_tokenize(tokenizer, &prompt, pair->source, pair->source_bytes));
    assert_ok(attn_tokenize(tokenizer, &answer, pair->target, pair->target_bytes, false));
    const size_t m = prompt.count, n = m + answer.count + 1;
    int32_t id[MOST];
    assert_true(n <= MOST);
    for (size_t i = 0; i < m; i++) id[i] = prompt.token[i].id;
    for (size_t i = m; i + 1 < n; i++) id[i] = answer.token[i - m].id;
    id[n - 1] = VOCABULARY - 1; /* eos_token_id */
    static float logits[MOST * VOCABULARY];
    assert_ok(attn_language_logits(model, logits, id, 1, n, NULL));
    double sum = 0;
    for (size_t t = m; t < n; t++) {
        const float *row = logits + (t - 1) * VOCABULARY;
        double all = 0;
        for (size_t v = 0; v < VOCABULARY; v++) all += exp((double)row[v]);
        sum += (double)row[id[t]] - log(all);
    }
    *count = n - m;
    attn_tokens_free(ctx, &prompt);
    attn_tokens_free(ctx, &answer);
    attn_context_free(ctx);
    return sum;
}

static void check_answers(const attn_model *model, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                          const attn_train_options *o, size_t likelier) {
    enum { MOST = 200 };
    attn_answer answer[MOST];
    const size_t n = attn_corpus_count(corpus);
    size_t counted = 0, tokens;
    assert_true(n <= MOST);
    assert_ok(attn_train_answers(model, tokenizer, corpus, o, answer));
    for (size_t i = 0; i < n; i++) {
        const double expected = answer_log_prob(model, tokenizer, attn_corpus_at(corpus, i), &tokens);
        assert_int_equal(answer[i].tokens, tokens);
        if (!(fabs(answer[i].log_prob - expected) <= 1e-4 * (1 + fabs(expected))))
            fail_msg("answer %zu: log p is %g, expected %g", i, answer[i].log_prob, expected);
        counted += i % 2 == 0 && answer[i].log_prob > answer[i + 1].log_prob;
    }
    assert_int_equal(counted, likelier);
}

/* What the folder says is what the model became: merged, if there are adapters. */
static void check_result(const tuning *t, const char *folder, const attn_model *model, const attn_tokenizer *tokenizer,
                         const attn_corpus *valid, const attn_train_options *o) {
    attn_context *ctx = test_context(1);
    attn_loss_stats kept = {0}, read = {0};
    attn_model *again;
    if (attn_model_load(&again, ctx, folder) != ATTN_OK) fail_msg("%s: %s", t->name, attn_error(ctx));
    assert_ok(attn_train_measure(model, tokenizer, valid, o, &kept));
    assert_ok(attn_train_measure(again, tokenizer, valid, o, &read));
    assert_int_equal(kept.tokens, read.tokens);
    if (t->task == ATTN_TASK_PREFERENCES) check_answers(model, tokenizer, valid, o, kept.correct);
    const double off = fabs(kept.nll - read.nll) / kept.nll;
    if (!(off <= (t->lora ? 1e-5 : 0))) fail_msg("%s: a loss of %g became %g", t->name, kept.nll, read.nll);
    attn_model_free(again);
    attn_context_free(ctx);
}

static attn_status tune(const tuning *t, const char *base, const char *folder, int threads, events *seen) {
    char config[600];
    attn_context *ctx = test_context(threads);
    attn_model *model;
    attn_tokenizer *tokenizer;
    const char letters[] = "ab.!\n abcdefghijklmnopqrstuvwxyz#:", *text = letters;
    const size_t bytes = strlen(letters);
    make_config(config, t, t->task == ATTN_TASK_CLASSIFY);
    attn_corpus *train = task_corpus(ctx, base, t->task, 7, 200), *valid = task_corpus(ctx, base, t->task, 99, 40);
    if (attn_tokenizer_of_characters(&tokenizer, ctx, &text, &bytes, 1) != ATTN_OK ||
        attn_model_load_as(&model, ctx, base, config, 5) != ATTN_OK || attn_model_learn(model, t->part, 1) != ATTN_OK)
        fail_msg("%s: %s", t->name, attn_error(ctx));
    const attn_lora_options lora = {sizeof lora, t->lora, 2 * (float)t->lora, ATTN_LORA_ALL, base};
    if (t->lora && attn_model_add_lora(model, &lora) != ATTN_OK) fail_msg("%s: %s", t->name, attn_error(ctx));
    attn_train_options o;
    attn_train_options_init(&o);
    o.folder = folder, o.resume = true, o.epochs = 0, o.max_steps = STEPS, o.batch_tokens = 128, o.valid_steps = 25;
    o.learning_rate = 1e-2f, o.warmup_steps = 5, o.label_smoothing = 0, o.average = 2, o.task = t->task;
    o.precision = t->precision, o.save_seconds = 0.05;
    const attn_status status = attn_train(model, tokenizer, train, valid, &o, on_event, seen);
    if (status != ATTN_OK && status != ATTN_E_INTERRUPTED) fail_msg("%s: %s", t->name, attn_error(ctx));
    if (status == ATTN_OK) check_result(t, folder, model, tokenizer, valid, &o);
    attn_model_free(model);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(train);
    attn_corpus_free(valid);
    attn_context_free(ctx);
    return status;
}

/* What is not of the part that is learned has the base's bits. */
static void check_frozen(const tuning *t, const char *base, const char *folder) {
    attn_context *ctx = test_context(1);
    attn_model *before, *after;
    assert_ok(attn_model_load(&before, ctx, base));
    if (t->lora) {
        attn_model_free(before);
        attn_context_free(ctx);
        return;
    }
    if (attn_model_load(&after, ctx, folder) != ATTN_OK) fail_msg("%s: %s", t->name, attn_error(ctx));
    assert_ok(attn_model_learn(after, t->part, 1));
    const attn_parameters *was = attn_model_parameters(before), *is = attn_model_parameters(after);
    size_t changed = 0;
    for (size_t i = 0; i < attn_parameters_count(is); i++) {
        const attn_parameter *p = attn_parameters_at(is, i), *q = attn_parameters_find(was, p->name);
        if (!q || !strcmp(p->name, "head.weight")) continue;
        const bool same = !memcmp(p->value.data, q->value.data, attn_tensor_count(&p->value) * sizeof(float));
        if (p->frozen && !same) fail_msg("%s: %s was frozen and changed", t->name, p->name);
        changed += !same;
    }
    assert_true((changed > 0) == (t->part != ATTN_PART_HEAD));
    attn_model_free(before);
    attn_model_free(after);
    attn_context_free(ctx);
}

static void test_tasks(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const tuning *t = &cases[i];
        char base[64], whole[64], parts[64];
        toy_folder(base);
        toy_folder(whole);
        toy_folder(parts);
        make_base(base, t);
        events all = {0}, first = {.stop_at = 12}, second = {.stop_at = 37}, rest = {0};
        assert_int_equal(tune(t, base, whole, 1, &all), ATTN_OK);
        if (!(all.first > t->before && all.last < t->after && all.accuracy >= t->accuracy))
            fail_msg("%s: loss %g, then %g, accuracy %g", t->name, all.first, all.last, all.accuracy);
        if (t->task == ATTN_TASK_PREFERENCES) assert_true(fabs(all.first - log(2)) < 1e-5); /* the reference itself */
        assert_int_equal(tune(t, base, parts, 2, &first), ATTN_E_INTERRUPTED);
        assert_int_equal(tune(t, base, parts, 3, &second), ATTN_E_INTERRUPTED);
        assert_int_equal(tune(t, base, parts, 2, &rest), ATTN_OK);
        toy_same_folder(whole, parts);
        check_frozen(t, base, whole);
        toy_remove(base);
        toy_remove(whole);
        toy_remove(parts);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tasks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
