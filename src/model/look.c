/* look.c: a head's weights, from what its attention left: q, k and LSE. */
#include "model/model.h"
#include "nn/tape.h"
#include <attn/weights.h>

#include <string.h>

/* (B, T, heads·D), or (T, heads·D) for one sequence, as (B, heads, T, D). */
static attn_tensor heads_of(const attn_var *x, size_t heads) {
    const attn_tensor *t = attn_var_value(x);
    const size_t batch = t->rank == 3 ? t->shape[0] : 1, steps = t->shape[t->rank - 2], columns = t->shape[t->rank - 1];
    const ptrdiff_t row = (ptrdiff_t)columns, size = (ptrdiff_t)(columns / heads);
    return (attn_tensor){
        t->data, ATTN_F32, 4, {batch, heads, steps, columns / heads}, {(ptrdiff_t)steps * row, size, row, 1}};
}

static bool see(attn_tape *tape, attn_var *out, const int32_t *heads, size_t n, const attn_tensor *q,
                const attn_tensor *k, const attn_tensor *lse, const attn_attention_options *options) {
    attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
    look.weights = attn_var_value(out);
    look.heads = heads, look.head_count = n;
    return attn_tape_check(tape, attn_attention_weights(tape->ctx, &look, q, k, lse, options));
}

attn_var *attn_tape_head_weights(attn_tape *tape, const attn_head_of *from, const attn_attention_options *options) {
    if (!from->q || !from->k || !from->lse) return NULL;
    const attn_tensor q = heads_of(from->q, from->heads), k = heads_of(from->k, from->key_heads);
    const size_t batch = q.shape[0], T = q.shape[2], S = k.shape[2], seen = from->head ? 1 : from->heads;
    const attn_tensor lse =
        attn_tensor_of(attn_var_value(from->lse)->data, ATTN_F32, 3, (const size_t[]){batch, from->heads, T});
    if (from->head == ATTN_EVERY_HEAD) {
        attn_var *all = attn_tape_zeros(tape, 4, (const size_t[]){batch, from->heads, T, S});
        return all && see(tape, all, NULL, 0, &q, &k, &lse, options) ? all : NULL;
    }
    attn_var *out = attn_tape_zeros(tape, 3, (const size_t[]){batch, T, S});
    attn_var *one = attn_tape_zeros(tape, 4, (const size_t[]){batch, 1, T, S});
    if (!out || !one) return NULL;
    const float *weights = attn_var_value(one)->data;
    float *mean = attn_var_value(out)->data;
    for (size_t h = 0; h < seen; h++) { /* one at a time, so that memory is that of one */
        const int32_t chosen = (int32_t)(from->head ? from->head - 1 : h);
        if (!see(tape, one, &chosen, 1, &q, &k, &lse, options)) return NULL;
        for (size_t i = 0; i < batch * T * S; i++) mean[i] += weights[i] / (float)seen;
    }
    return out;
}

void attn_model_heads(const attn_model *model, attn_look_kind kind, size_t *layers, size_t *heads) {
    *layers = kind <= ATTN_LOOK_CROSS ? model->layers[kind] : 0;
    *heads = *layers ? model->heads : 0;
}

/* Puts a number in the place of ATTN_LAST_LAYER. */
static attn_status resolve(const attn_model *model, attn_look *look) {
    size_t layers, heads;
    attn_model_heads(model, look->kind, &layers, &heads);
    if (look->layer == ATTN_LAST_LAYER) look->layer = layers - 1;
    if (look->layer < layers && (look->head <= heads || look->head == ATTN_EVERY_HEAD)) return ATTN_OK;
    return attn_fail(model->ctx, ATTN_E_ARGUMENT, "layer %zu, head %zu: the model has %zu layers of %zu heads",
                     look->layer + 1, look->head, layers, heads);
}

/* The variable's value as memory of its own. */
static attn_status give(attn_context *ctx, float **weights, size_t *rows, size_t *columns, const attn_var *seen) {
    const attn_tensor *t = attn_var_value(seen);
    const size_t n = attn_tensor_count(t);
    *rows = t->shape[t->rank - 2], *columns = t->shape[t->rank - 1];
    *weights = attn_alloc(ctx, n, sizeof **weights);
    if (!*weights) return ATTN_E_NOMEM;
    memcpy(*weights, t->data, n * sizeof **weights);
    return ATTN_OK;
}

attn_status attn_look_at_pair(const attn_model *model, float **weights, size_t *rows, size_t *columns,
                              const attn_look *look, const int32_t *source, size_t source_count, const int32_t *target,
                              size_t target_count) {
    attn_context *ctx = model->ctx;
    *weights = NULL;
    if (!model->class->look)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "the %s model has no heads to look at", model->class->type);
    if (!source_count || !target_count)
        return attn_fail(ctx, ATTN_E_SHAPE, "%zu source and %zu target tokens, expected at least one of each",
                         source_count, target_count);
    attn_look where = *look;
    attn_tape *tape;
    attn_var *seen;
    ATTN_TRY(resolve(model, &where));
    ATTN_TRY(attn_tape_create(&tape, ctx, false));
    attn_status status = model->class->look(model, tape, &seen, &where, source, source_count, target, target_count);
    if (status == ATTN_OK) status = give(ctx, weights, rows, columns, seen);
    attn_tape_free(tape);
    return status;
}

attn_status attn_look_at_text(const attn_model *model, float **weights, size_t layer, size_t head, const int32_t *ids,
                              const int32_t *types, size_t n) {
    attn_context *ctx = model->ctx;
    attn_look look = {model->class->loss ? ATTN_LOOK_DECODER : ATTN_LOOK_ENCODER, layer, head};
    attn_var *seen;
    size_t rows, columns;
    *weights = NULL;
    if (!model->class->look_at_text)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "a %s model reads no single text with heads to look at",
                         model->class->type);
    if (!n) return attn_fail(ctx, ATTN_E_SHAPE, "the text has no tokens, expected at least one");
    if (n > model->max_positions)
        return attn_fail(ctx, ATTN_E_SHAPE, "the text has %zu tokens, the model's context length is %zu: shorten it", n,
                         model->max_positions);
    attn_tape *tape;
    ATTN_TRY(resolve(model, &look));
    ATTN_TRY(attn_tape_create(&tape, ctx, false));
    attn_status status = model->class->look_at_text(model, tape, &seen, &look, ids, types, n);
    if (status == ATTN_OK) status = attn_tape_status(tape);
    if (status == ATTN_OK) status = give(ctx, weights, &rows, &columns, seen);
    attn_tape_free(tape);
    return status;
}
