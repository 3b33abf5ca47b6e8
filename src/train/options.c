/* options.c: what a training is told, what it refuses, and what a resumed one must be told again. */
#include "train/trainer.h"

#include <math.h>
#include <string.h>

void attn_train_options_init(attn_train_options *options) {
    *options = (attn_train_options){
        .struct_size = sizeof *options,
        .seed = 1,
        .epochs = 10,
        .batch_tokens = 4000,
        .accumulate = 1,
        .max_tokens = 100,
        .schedule = ATTN_SCHEDULE_LINEAR,
        .learning_rate = 5e-4f,
        .warmup_steps = 200,
        .beta1 = 0.9f,
        .beta2 = 0.98f,
        .epsilon = 1e-9f,
        .clip = 1,
        .label_smoothing = 0.1f,
        .concatenate_words = 60,
        .augment = {.struct_size = sizeof(attn_augment_options)},
        .valid_sentences = 500,
        .average = 5,
        .beta = 0.1f,
        .save_seconds = 300,
    };
}

/* Every numeric option: where it lies, what it may be. */
typedef enum option_kind {
    OPTION_FLOAT,
    OPTION_DOUBLE,
    OPTION_SIZE,
    OPTION_U64,
    OPTION_INT,
    OPTION_BOOL,
    OPTION_SCHEDULE,
    OPTION_TASK,
    OPTION_DTYPE
} option_kind;
typedef struct option_rule {
    const char *name;
    option_kind kind;
    size_t offset;
    double low, high;
    bool fixed; /* a resume must find the same value */
} option_rule;

#define RULE(field, kind, low, high, fixed) \
    { #field, kind, offsetof(attn_train_options, field), low, high, fixed }
static const option_rule rules[] = {
    RULE(seed, OPTION_U64, 0, 0x1p64, true),
    RULE(precision, OPTION_DTYPE, ATTN_F32, ATTN_BF16, true),
    RULE(epochs, OPTION_DOUBLE, 0, 1e9, true),
    RULE(max_steps, OPTION_SIZE, 0, 0x1p53, true),
    RULE(max_seconds, OPTION_DOUBLE, 0, 1e12, false),
    RULE(batch_tokens, OPTION_SIZE, 1, 1e9, true),
    RULE(accumulate, OPTION_SIZE, 1, 1e6, true),
    RULE(recompute, OPTION_BOOL, 0, 1, false),
    RULE(max_tokens, OPTION_SIZE, 1, 1e9, true),
    RULE(fixed_windows, OPTION_BOOL, 0, 1, true),
    RULE(schedule, OPTION_SCHEDULE, 0, ATTN_SCHEDULE_PLATEAU, true),
    RULE(learning_rate, OPTION_FLOAT, 0, 1e6, true),
    RULE(final_learning_rate, OPTION_FLOAT, 0, 1e6, true),
    RULE(warmup_steps, OPTION_SIZE, 0, 0x1p53, true),
    RULE(beta1, OPTION_FLOAT, 0, 0.9999999, true),
    RULE(beta2, OPTION_FLOAT, 0, 0.9999999, true),
    RULE(epsilon, OPTION_FLOAT, 1e-38, 1, true),
    RULE(weight_decay, OPTION_FLOAT, 0, 1e3, true),
    RULE(clip, OPTION_FLOAT, 0, 1e30, true),
    RULE(label_smoothing, OPTION_FLOAT, 0, 0.999, true),
    RULE(concatenate, OPTION_FLOAT, 0, 1, true),
    RULE(concatenate_words, OPTION_SIZE, 1, 1e9, true),
    RULE(augment.lowercase_source, OPTION_FLOAT, 0, 1, true),
    RULE(augment.drop_final_punctuation, OPTION_FLOAT, 0, 1, true),
    RULE(augment.drop_source_commas, OPTION_FLOAT, 0, 1, true),
    RULE(augment.fold_umlauts, OPTION_FLOAT, 0, 1, true),
    RULE(valid_steps, OPTION_SIZE, 0, 0x1p53, true),
    RULE(valid_sentences, OPTION_SIZE, 0, 0x1p53, true),
    RULE(lowercase_bleu, OPTION_BOOL, 0, 1, true),
    RULE(patience, OPTION_INT, 0, 1e9, true),
    RULE(guided_alignment, OPTION_FLOAT, 0, 100, true),
    RULE(task, OPTION_TASK, 0, ATTN_TASK_PREFERENCES, true),
    RULE(beta, OPTION_FLOAT, 1e-6, 1e6, true),
    RULE(average, OPTION_INT, 0, 1000, true),
    RULE(save_seconds, OPTION_DOUBLE, 0, 1e12, false),
};
#undef RULE

static double option_value(const attn_train_options *options, const option_rule *rule) {
    const char *at = (const char *)options + rule->offset;
    switch (rule->kind) {
    case OPTION_FLOAT: return (double)*(const float *)at;
    case OPTION_DOUBLE: return *(const double *)at;
    case OPTION_SIZE: return (double)*(const size_t *)at;
    case OPTION_U64: return (double)*(const uint64_t *)at;
    case OPTION_INT: return *(const int *)at;
    case OPTION_BOOL: return *(const bool *)at;
    case OPTION_SCHEDULE: return *(const attn_schedule *)at;
    case OPTION_TASK: return *(const attn_train_task *)at;
    case OPTION_DTYPE: return *(const attn_dtype *)at;
    }
    return 0;
}

attn_status attn_train_options_check(attn_context *ctx, const attn_train_options *options, bool has_valid) {
    if (options->struct_size != sizeof *options)
        return attn_fail(ctx, ATTN_E_VERSION, "training options: expected a struct of %zu bytes, found %zu",
                         sizeof *options, options->struct_size);
    if (!options->folder || !*options->folder)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "training options: folder is missing");
    for (size_t i = 0; i < ATTN_COUNT(rules); i++) {
        double value = option_value(options, &rules[i]);
        if (!(value >= rules[i].low && value <= rules[i].high))
            return attn_fail(ctx, ATTN_E_ARGUMENT, "training options: %s: expected %g to %g, found %g", rules[i].name,
                             rules[i].low, rules[i].high, value);
    }
    if (options->epochs == 0 && !options->max_steps && options->max_seconds == 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "training options: one of epochs, max_steps, max_seconds must be given");
    if (!has_valid && (options->schedule == ATTN_SCHEDULE_PLATEAU || options->patience))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "training options: %s needs validation data",
                         options->patience ? "patience" : "the plateau schedule");
    return ATTN_OK;
}

/* ---- what must not change ------------------------------------------------------------------------- */

static void put(attn_buffer *out, const char *key, const char *value) {
    attn_buffer_add(out, key, strlen(key) + 1);
    attn_buffer_add(out, value, strlen(value) + 1);
}

static uint64_t mix(uint64_t hash, const char *text, size_t bytes) {
    return (hash ^ attn_hash_text(text, bytes)) * 0x9e3779b97f4a7c15u + bytes;
}

static void put_corpus(attn_buffer *out, const char *key, const attn_corpus *corpus) {
    char text[64] = "none";
    if (corpus) {
        uint64_t hash = 0;
        size_t n = attn_corpus_count(corpus);
        for (size_t i = 0; i < n; i++) {
            const attn_pair *pair = attn_corpus_at(corpus, i);
            hash = mix(hash, pair->source, pair->source_bytes);
            hash = mix(hash, pair->target, pair->target_bytes);
        }
        snprintf(text, sizeof text, "%zu pairs, %016llx", n, (unsigned long long)hash);
    }
    put(out, key, text);
}

static void put_tokenizer(attn_buffer *out, const attn_tokenizer *tokenizer) {
    char text[64];
    uint64_t hash = 0;
    size_t n = attn_tokenizer_size(tokenizer);
    for (size_t i = 0; i < n; i++) {
        const char *piece = attn_tokenizer_piece(tokenizer, (int32_t)i);
        if (piece) hash = mix(hash, piece, strlen(piece));
    }
    snprintf(text, sizeof text, "%zu tokens, %016llx", n, (unsigned long long)hash);
    put(out, "tokenizer", text);
}

/* The weights at the beginning, where a checkpoint does not hold all that a training needs of them; and which of them
 * are learned. */
static void put_start(attn_buffer *out, const attn_trainer *trainer) {
    char text[96];
    uint64_t hash = 0, learned = 0;
    const size_t n = attn_parameters_count(trainer->parameters);
    for (size_t i = 0; i < n; i++) {
        const attn_parameter *parameter = attn_parameters_at(trainer->parameters, i);
        const attn_tensor *value = &parameter->value;
        hash = mix(hash, value->data, attn_tensor_count(value) * sizeof(float));
        if (!parameter->frozen) learned = mix(learned, parameter->name, strlen(parameter->name));
    }
    snprintf(text, sizeof text, "%016llx, %zu tensors of %zu learned, %016llx", (unsigned long long)hash,
             trainer->count, n, (unsigned long long)learned);
    put(out, "model.start", text);
}

attn_status attn_train_describe(attn_trainer *trainer) {
    attn_buffer *out = &trainer->settings;
    for (size_t i = 0; i < ATTN_COUNT(rules); i++) {
        if (!rules[i].fixed) continue;
        char key[64], value[64];
        snprintf(key, sizeof key, "option.%s", rules[i].name);
        const char *at = (const char *)&trainer->options + rules[i].offset;
        if (rules[i].kind == OPTION_DTYPE)
            snprintf(value, sizeof value, "%s", attn_dtype_name(*(const attn_dtype *)at));
        else if (rules[i].kind == OPTION_U64)
            snprintf(value, sizeof value, "%llu", (unsigned long long)*(const uint64_t *)at);
        else if (rules[i].kind == OPTION_FLOAT)
            snprintf(value, sizeof value, "%.9g", option_value(&trainer->options, &rules[i]));
        else snprintf(value, sizeof value, "%.17g", option_value(&trainer->options, &rules[i]));
        put(out, key, value);
    }
    put_corpus(out, "data.train", trainer->train);
    put_corpus(out, "data.valid", trainer->valid);
    put_tokenizer(out, trainer->tokenizer);
    put(out, "model.config", attn_model_config(trainer->model));
    if (trainer->options.task == ATTN_TASK_PREFERENCES || trainer->count < attn_parameters_count(trainer->parameters))
        put_start(out, trainer);
    return out->status;
}
