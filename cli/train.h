/* train.h: what attn train is told, and what it makes of that before the first step. */
#ifndef ATTN_CLI_TRAIN_H
#define ATTN_CLI_TRAIN_H

#include "common.h"

/* Places of --model, translators before GPT, and of --train. */
enum { RNN, BAHDANAU, TRANSFORMER, GPT };

typedef struct train_settings {
    int model, schedule, precision, task, prompt_template, part;
    bool language; /* a language model, by --model or by --init */
    const char *config, *output, *tokenizer, *init, *lora_targets;
    text_list data, valid, set;
    bool resume, reverse, lowercase, augment, sample, json, recompute, fixed_windows;
    long long vocab_size, max_steps, batch_tokens, accumulate, max_tokens, warmup, seed, limit, valid_steps,
        valid_sentences, patience, average, concatenate_words, layers, lora;
    double epochs, learning_rate, final_learning_rate, clip, label_smoothing, concatenate, minutes, augment_probability,
        weight_decay, guided_alignment, holdout, beta, lora_alpha;
} train_settings;

typedef struct train_job {
    attn_corpus *data, *valid;
    attn_tokenizer *tokenizer;
    attn_model *model;
    json_t *config;
} train_job;

/* The model_types of the places. */
extern const char *const train_model_types[];
/* Whether a folder's config.json says that it holds a language model. */
bool train_is_language_model(const char *folder);
/* Everything that can be wrong and is quickly seen comes first: the folder, the config, the files. GO_ON or an exit
 * code, after a message. */
int train_prepare(const command *c, const train_settings *s, train_job *j);
void train_free(train_job *j);

#endif
