/* language.c: logits of texts that are there. */
#include "infer/caches.h"
#include "nn/tape.h"

#include <string.h>

bool attn_model_is_language_model(const attn_model *model) { return model->class->loss && !model->class->encode; }

size_t attn_model_context_length(const attn_model *model) { return model->max_positions; }

/* What is trained here would put </s> behind a text; other tokenizers may have something to put before it. */
attn_status attn_language_tokenize(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text,
                                   size_t bytes) {
    const bool own =
        attn_tokenizer_find(tokenizer, "<s>") == ATTN_ID_BOS && attn_tokenizer_find(tokenizer, "<pad>") == ATTN_ID_PAD;
    return attn_tokenize(tokenizer, tokens, text, bytes, !own);
}

/* All sequences' tokens, one behind the other, without the padding. */
static bool pack(attn_gpt_rows *rows, attn_tape *tape, const int32_t *ids, size_t batch, size_t steps,
                 const int32_t *first) {
    int32_t *id = attn_tape_memory(tape, batch * steps, sizeof *id);
    int32_t *cu = attn_tape_memory(tape, batch + 1, sizeof *cu);
    int64_t *position = attn_tape_memory(tape, batch * steps, sizeof *position);
    if (!id || !cu || !position) return false;
    size_t n = 0;
    for (size_t b = 0; b < batch; b++) {
        cu[b] = (int32_t)n;
        for (size_t t = first ? (size_t)first[b] : 0; t < steps; t++, n++) {
            id[n] = ids[b * steps + t];
            position[n] = (int64_t)(n - (size_t)cu[b]);
        }
    }
    cu[batch] = (int32_t)n;
    *rows = (attn_gpt_rows){.count = n, .id = id, .position = position, .sequences = batch, .cu = cu};
    return true;
}

static void unpack(float *out, const attn_var *logits, size_t vocabulary, size_t batch, size_t steps,
                   const int32_t *first) {
    const float *from = attn_var_value(logits)->data;
    for (size_t b = 0; b < batch; b++) {
        const size_t padding = first ? (size_t)first[b] : 0, n = (steps - padding) * vocabulary;
        memset(out, 0, padding * vocabulary * sizeof *out);
        memcpy(out + padding * vocabulary, from, n * sizeof *out);
        out += steps * vocabulary;
        from += n;
    }
}

attn_status attn_language_logits(const attn_model *model, float *logits, const int32_t *ids, size_t batch, size_t steps,
                                 const int32_t *first) {
    attn_context *ctx = model->ctx;
    const attn_gpt *m = attn_gpt_of(model);
    size_t cells;
    if (!m) return ATTN_E_ARGUMENT;
    if (steps > m->config.context)
        return attn_fail(ctx, ATTN_E_SHAPE,
                         "logits: %zu tokens, the model's context length is %zu: give fewer at a time", steps,
                         m->config.context);
    if (!attn_size_mul(&cells, batch, steps) || cells > INT32_MAX)
        return attn_fail(ctx, ATTN_E_SHAPE, "logits: %zu sequences of %zu tokens are too many", batch, steps);
    for (size_t b = 0; first && b < batch; b++)
        if (first[b] < 0 || (size_t)first[b] > steps)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "logits: first[%zu] is %d, expected 0 to %zu", b, (int)first[b],
                             steps);
    attn_tape *tape;
    ATTN_TRY(attn_tape_create(&tape, ctx, false));
    attn_gpt_rows rows;
    if (pack(&rows, tape, ids, batch, steps, first) && rows.count) {
        attn_var *out = attn_gpt_logits(m, tape, attn_gpt_states(m, tape, &rows));
        if (out) unpack(logits, out, m->config.vocab_size, batch, steps, first);
    } else if (attn_tape_status(tape) == ATTN_OK) {
        memset(logits, 0, cells * m->config.vocab_size * sizeof *logits);
    }
    attn_status status = attn_tape_status(tape);
    attn_tape_free(tape);
    return status;
}

/* Tokens first … first+n−1 of a window, the earlier ones of which are in the cache. */
static attn_status add_loss(const attn_gpt *m, attn_tape *tape, attn_kv_cache **cache, attn_loss_stats *stats,
                            const int32_t *window, size_t first, size_t n) {
    attn_tape_reset(tape);
    attn_var *states = attn_caches_run(m, tape, cache, window, first, n);
    if (states) attn_tape_cross_entropy(tape, attn_gpt_logits(m, tape, states), window + first + 1, 0, 1, stats);
    return attn_tape_status(tape);
}

attn_status attn_language_loss_cached(const attn_model *model, attn_loss_stats *stats, const int32_t *ids, size_t n,
                                      attn_dtype dtype) {
    const attn_gpt *m = attn_gpt_of(model);
    attn_tape *tape;
    attn_kv_cache **cache = NULL;
    if (!m) return ATTN_E_ARGUMENT;
    ATTN_TRY(attn_tape_create(&tape, model->ctx, false));
    attn_status status = attn_caches_create(&cache, m, m->config.context, dtype);
    for (size_t first = 0; first + 1 < n && status == ATTN_OK; first += m->config.context) {
        const size_t steps = ATTN_MIN(m->config.context, n - 1 - first);
        status = attn_caches_reset(m, cache);
        for (size_t t = 0; t < steps && status == ATTN_OK; t += ATTN_CHUNK)
            status = add_loss(m, tape, cache, stats, ids + first, t, ATTN_MIN(steps - t, (size_t)ATTN_CHUNK));
    }
    attn_caches_free(m, cache);
    attn_tape_free(tape);
    return status;
}

attn_status attn_language_loss(const attn_model *model, attn_loss_stats *stats, const int32_t *ids, size_t n) {
    const attn_gpt *m = attn_gpt_of(model);
    attn_tape *tape;
    if (!m) return ATTN_E_ARGUMENT;
    ATTN_TRY(attn_tape_create(&tape, model->ctx, false));
    attn_status status = ATTN_OK;
    for (size_t first = 0; first + 1 < n && status == ATTN_OK; first += m->config.context) {
        const attn_pair_batch window = {.batch = 1,
                                        .target_steps = ATTN_MIN(m->config.context, n - 1 - first),
                                        .target_in = ids + first,
                                        .target_out = ids + first + 1};
        attn_tape_reset(tape);
        attn_model_loss(model, tape, &window, 0, 1, stats);
        status = attn_tape_status(tape);
    }
    attn_tape_free(tape);
    return status;
}
