/* checkpoint.c: going on from a damaged checkpoint. A good one is made at the start; the input changes it, three bytes
 * at a time: a position (two bytes, modulo its size) and the byte that belongs there, the first position being where
 * the file ends. Whatever comes of it: refused with the file as it was, or trained on from. */
#include "fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char pairs[] = "ja\tyes\nnein\tno\nja ja\tyes yes\nnein nein\tno no\n";
static char *good;
static size_t good_bytes;

static bool stop(void *user, const attn_train_event *event) {
    (void)user;
    return event->kind != ATTN_TRAIN_STEP && event->kind != ATTN_TRAIN_NOTE;
}

/* The same training each time; it stops in its first step after the checkpoint, if it comes so far. */
static attn_status train(attn_context *ctx) {
    static const char *const lines[] = {"ja nein", "yes no"};
    static const size_t bytes[] = {7, 6};
    char config[256];
    const char *path = fuzz_file("pairs.tsv", pairs, sizeof pairs - 1);
    attn_corpus_options reading = ATTN_CORPUS_OPTIONS_INIT;
    attn_bpe_options bpe = ATTN_BPE_OPTIONS_INIT;
    attn_train_options options;
    attn_corpus *corpus;
    attn_tokenizer *tokenizer;
    attn_model *model;
    FUZZ_CHECK(attn_corpus_read(&corpus, ctx, &path, 1, &reading) == ATTN_OK);
    FUZZ_CHECK(attn_tokenizer_train_bpe(&tokenizer, ctx, lines, bytes, 2, &bpe) == ATTN_OK);
    snprintf(config, sizeof config,
             "{\"model_type\":\"rnn\",\"vocab_size\":%zu,\"embedding_size\":1,\"hidden_size\":1}",
             attn_tokenizer_size(tokenizer));
    FUZZ_CHECK(attn_model_create(&model, ctx, config, 1) == ATTN_OK);
    attn_train_options_init(&options);
    options.folder = fuzz_folder();
    options.resume = true;
    options.max_steps = 1000;
    attn_status status = attn_train(model, tokenizer, corpus, NULL, &options, stop, NULL);
    attn_model_free(model);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    return status;
}

static char *read_checkpoint(size_t *bytes) {
    FILE *file = fopen(fuzz_path("checkpoint.safetensors"), "rb");
    struct stat info;
    FUZZ_CHECK(file && fstat(fileno(file), &info) == 0);
    char *data = malloc((size_t)info.st_size + 1);
    FUZZ_CHECK(data);
    *bytes = fread(data, 1, (size_t)info.st_size, file);
    fclose(file);
    return data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_context *ctx = fuzz_begin(64 << 20);
    fuzz_clean();
    if (!good) {
        FUZZ_CHECK(train(ctx) == ATTN_E_INTERRUPTED);
        good = read_checkpoint(&good_bytes);
    }
    char *bad = malloc(good_bytes + 1);
    FUZZ_CHECK(bad);
    memcpy(bad, good, good_bytes);
    size_t end = good_bytes, changed = 0;
    for (size_t i = 0; i + 3 <= size; i += 3) {
        size_t at = (size_t)(data[i] | data[i + 1] << 8) % good_bytes;
        if (i == 0 && data[2]) end = at;
        else if (i > 0) changed += bad[at] != (char)data[i + 2], bad[at] = (char)data[i + 2];
    }
    fuzz_file("checkpoint.safetensors", bad, end);
    fuzz_file("log.jsonl", bad, end < 200 ? end : 200); /* this one may hold anything */
    attn_status status = train(ctx);
    if (end == good_bytes && !changed) FUZZ_CHECK(status == ATTN_E_INTERRUPTED);
    if (status != ATTN_E_INTERRUPTED && status != ATTN_OK) {
        size_t bytes;
        char *still = read_checkpoint(&bytes);
        FUZZ_CHECK(attn_error(ctx)[0] && bytes == end && !memcmp(still, bad, end));
        free(still);
    }
    free(bad);
    return fuzz_end();
}
