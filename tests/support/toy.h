/* toy.h: a small language pair, a tokenizer and a model that learn in seconds.
 *
 *     struct toy toy;
 *     toy_make(&toy, ctx, 300, 1);        // pairs; seed of the model
 *     ...
 *     toy_free(&toy);
 *
 * A sentence has 1–6 of 14 words; its translation has each word's counterpart, in the opposite order.               */
#ifndef ATTN_TEST_SUPPORT_TOY_H
#define ATTN_TEST_SUPPORT_TOY_H

#include "support/test.h"
#include <attn/train.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct toy {
    attn_context *ctx;
    attn_corpus *train, *valid;
    attn_tokenizer *tokenizer;
    attn_model *model;
};

static inline attn_corpus *toy_corpus(attn_context *ctx, size_t pairs, unsigned seed) {
    static const char *const words[14][2] = {
        {"Hund", "dog"},   {"Katze", "cat"},  {"läuft", "runs"}, {"schläft", "sleeps"}, {"groß,", "big"},
        {"klein", "tiny"}, {"rot", "red"},    {"Haus", "house"}, {"Baum", "tree"},      {"geht", "goes"},
        {"schön", "fine"}, {"Kind", "child"}, {"sieht", "sees"}, {"Vogel", "bird"},
    };
    char path[] = "/tmp/attn-toy-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "w");
    for (size_t i = 0; i < pairs; i++) {
        unsigned pick[6], n = 1;
        for (unsigned k = 0; k < 6; k++) {
            seed = seed * 1664525u + 1013904223u;
            pick[k] = (seed >> 16) % 14;
        }
        n += (seed >> 8) % 6;
        for (unsigned k = 0; k < n; k++) fprintf(file, "%s%s", k ? " " : "", words[pick[k]][0]);
        fputs(" .\t", file);
        for (unsigned k = n; k-- > 0;) fprintf(file, "%s ", words[pick[k]][1]);
        fputs(".\n", file);
    }
    fclose(file);
    const char *paths[] = {path};
    attn_corpus_options options = ATTN_CORPUS_OPTIONS_INIT;
    attn_corpus *corpus = NULL;
    assert_ok(attn_corpus_read(&corpus, ctx, paths, 1, &options));
    unlink(path);
    assert_int_equal(attn_corpus_count(corpus), pairs);
    return corpus;
}

static inline attn_tokenizer *toy_tokenizer(attn_context *ctx, const attn_corpus *corpus) {
    size_t n = attn_corpus_count(corpus);
    const char **lines = calloc(2 * n, sizeof *lines);
    size_t *bytes = calloc(2 * n, sizeof *bytes);
    for (size_t i = 0; i < n; i++) {
        const attn_pair *pair = attn_corpus_at(corpus, i);
        lines[2 * i] = pair->source, bytes[2 * i] = pair->source_bytes;
        lines[2 * i + 1] = pair->target, bytes[2 * i + 1] = pair->target_bytes;
    }
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    options.vocab_size = 340;
    attn_tokenizer *tokenizer = NULL;
    assert_ok(attn_tokenizer_train_bpe(&tokenizer, ctx, lines, bytes, 2 * n, &options));
    free(lines);
    free(bytes);
    return tokenizer;
}

static inline attn_model *toy_model(attn_context *ctx, size_t vocab_size, size_t hidden, uint64_t seed) {
    char config[400];
    snprintf(
        config, sizeof config,
        "{\"model_type\": \"bahdanau\", \"vocab_size\": %zu, \"embedding_size\": 16, \"hidden_size\": %zu, "
        "\"attention_size\": 16, \"embedding_dropout\": 0.1, \"annotation_dropout\": 0.1, \"output_dropout\": 0.1}",
        vocab_size, hidden);
    attn_model *model = NULL;
    if (attn_model_create(&model, ctx, config, seed) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    return model;
}

static inline void toy_make(struct toy *toy, attn_context *ctx, size_t pairs, uint64_t seed) {
    toy->ctx = ctx;
    toy->train = toy_corpus(ctx, pairs, 1);
    toy->valid = toy_corpus(ctx, 40, 99);
    toy->tokenizer = toy_tokenizer(ctx, toy->train);
    toy->model = toy_model(ctx, attn_tokenizer_size(toy->tokenizer), 24, seed);
}

static inline void toy_free(struct toy *toy) {
    attn_model_free(toy->model);
    attn_tokenizer_free(toy->tokenizer);
    attn_corpus_free(toy->train);
    attn_corpus_free(toy->valid);
}

/* A new empty folder; the name is the caller's array. */
static inline void toy_folder(char name[64]) {
    strcpy(name, "/tmp/attn-train-XXXXXX");
    assert_non_null(mkdtemp(name));
}

static inline void toy_remove(const char *folder) {
    char command[160];
    snprintf(command, sizeof command, "rm -rf %.127s", folder);
    assert_int_equal(system(command), 0);
}

static inline void toy_options(attn_train_options *options, const char *folder, size_t steps) {
    attn_train_options_init(options);
    options->folder = folder;
    options->max_steps = steps;
    options->epochs = 1000;
    options->batch_tokens = 120;
    options->warmup_steps = 5;
    options->learning_rate = 5e-3f;
    options->valid_steps = 10;
    options->valid_sentences = 10;
    options->average = 2;
    options->concatenate = 0.2f;
    options->concatenate_words = 12;
    options->augment.lowercase_source = options->augment.fold_umlauts = 0.2f;
    options->augment.drop_source_commas = options->augment.drop_final_punctuation = 0.2f;
}

static inline char *toy_read(const char *folder, const char *name, size_t *bytes) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    *bytes = 0;
    if (!file) return NULL;
    struct stat info;
    assert_int_equal(fstat(fileno(file), &info), 0);
    char *data = malloc((size_t)info.st_size + 1);
    *bytes = fread(data, 1, (size_t)info.st_size, file);
    data[*bytes] = 0;
    fclose(file);
    return data;
}

static inline bool toy_same_file(const char *folder_a, const char *folder_b, const char *name) {
    size_t a_bytes, b_bytes;
    char *a = toy_read(folder_a, name, &a_bytes), *b = toy_read(folder_b, name, &b_bytes);
    bool same = (a && b && a_bytes == b_bytes && !memcmp(a, b, a_bytes)) || (!a && !b);
    free(a);
    free(b);
    return same;
}

/* Every file that a training leaves, but those that hold times. */
static inline void toy_same_folder(const char *a, const char *b) {
    static const char *const names[] = {
        "checkpoint.safetensors",
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "best/config.json",
        "best/tokenizer.json",
        "best/model.safetensors",
        "adapter_config.json",
        "adapter_model.safetensors",
        "best/adapter_model.safetensors",
        "checkpoints/average-0.safetensors",
        "checkpoints/average-1.safetensors",
        "checkpoints/average-2.safetensors",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!toy_same_file(a, b, names[i])) fail_msg("%s/%s and %s/%s differ", a, names[i], b, names[i]);
}

#endif
