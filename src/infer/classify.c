/* classify.c: labels of texts, by a language model whose head has a row for each label. A text's logits are those of
 * its last token, which has seen all of it. */
#include "model/gpt.h"
#include "nn/tape.h"

#include <string.h>

enum { TOKENS_AT_ONCE = 2048 };

/* Texts one behind the other, as far as they go together. */
typedef struct group {
    attn_context *ctx;
    int32_t *id, *cu, *last; /* cu and last are of sequences */
    int64_t *position;
    size_t count, sequences, id_capacity, position_capacity, cu_capacity, last_capacity;
} group;

static attn_status add_text(group *g, const attn_tokens *tokens, size_t most) {
    const size_t n = ATTN_MIN(tokens->count, most), s = g->sequences;
    ATTN_TRY(attn_grow(g->ctx, &g->id, &g->id_capacity, g->count + n, g->count, sizeof *g->id));
    ATTN_TRY(attn_grow(g->ctx, &g->position, &g->position_capacity, g->count + n, g->count, sizeof *g->position));
    ATTN_TRY(attn_grow(g->ctx, &g->cu, &g->cu_capacity, s + 2, s ? s + 1 : 0, sizeof *g->cu));
    ATTN_TRY(attn_grow(g->ctx, &g->last, &g->last_capacity, s + 1, s, sizeof *g->last));
    for (size_t i = 0; i < n; i++) {
        g->id[g->count + i] = tokens->token[i].id;
        g->position[g->count + i] = (int64_t)i;
    }
    g->cu[s] = (int32_t)g->count;
    g->count += n;
    g->cu[s + 1] = (int32_t)g->count;
    g->last[s] = (int32_t)g->count - 1;
    g->sequences++;
    return ATTN_OK;
}

static attn_status run_group(const attn_gpt *m, attn_tape *tape, group *g, float *probability) {
    const attn_gpt_rows rows = {
        .count = g->count, .id = g->id, .position = g->position, .sequences = g->sequences, .cu = g->cu};
    attn_tape_reset(tape);
    attn_var *states = attn_gpt_states(m, tape, &rows);
    attn_var *logits = attn_gpt_logits(m, tape, attn_tape_select(tape, states, 0, g->last, g->sequences));
    attn_var *out = attn_tape_softmax(tape, logits);
    if (out) memcpy(probability, attn_var_value(out)->data, g->sequences * m->labels * sizeof *probability);
    g->count = g->sequences = 0;
    return attn_tape_status(tape);
}

static attn_status classify(const attn_gpt *m, attn_tape *tape, group *g, const attn_tokenizer *tokenizer,
                            attn_tokens *tokens, float *probability, const char *const *texts, const size_t *bytes,
                            size_t n, size_t most) {
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        ATTN_TRY(attn_language_tokenize(tokenizer, tokens, texts[i], bytes ? bytes[i] : strlen(texts[i])));
        if (!tokens->count)
            return attn_fail(g->ctx, ATTN_E_ARGUMENT, "text %zu has no token, expected one at least", i + 1);
        ATTN_TRY(add_text(g, tokens, most));
        if (g->count < TOKENS_AT_ONCE && i + 1 < n) continue;
        const size_t sequences = g->sequences;
        ATTN_TRY(run_group(m, tape, g, probability + done * m->labels));
        done += sequences;
    }
    return ATTN_OK;
}

attn_status attn_classify(const attn_model *model, const attn_tokenizer *tokenizer, float *probability,
                          const char *const *texts, const size_t *bytes, size_t n, size_t max_tokens) {
    const attn_gpt *m = (const attn_gpt *)model;
    if (!attn_model_labels(model))
        return attn_fail(model->ctx, ATTN_E_ARGUMENT, "a %s model without labels: it does not classify texts",
                         model->class->type);
    attn_tape *tape;
    ATTN_TRY(attn_tape_create(&tape, model->ctx, false));
    group g = {.ctx = model->ctx};
    attn_tokens tokens = ATTN_TOKENS_INIT;
    const size_t most = max_tokens ? ATTN_MIN(max_tokens, m->config.context) : m->config.context;
    attn_status status = classify(m, tape, &g, tokenizer, &tokens, probability, texts, bytes, n, most);
    attn_tokens_free(model->ctx, &tokens);
    attn_release(model->ctx, g.id);
    attn_release(model->ctx, g.position);
    attn_release(model->ctx, g.cu);
    attn_release(model->ctx, g.last);
    attn_tape_free(tape);
    return status;
}
