/* look.c: a head's weights, from what its attention left: q, k and LSE; and these vectors. */
#include "model/model.h"
#include "nn/tape.h"
#include <attn/weights.h>

#include <math.h>
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

/* What there is to read: a pair of id sequences, or one text. */
typedef struct reading {
    const int32_t *source, *target, *types;
    size_t source_count, target_count;
    bool pair;
} reading;

static attn_status check_pair(const attn_model *model, const reading *of) {
    if (!model->class->look)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "the %s model has no heads to look at", model->class->type);
    if (of->source_count && of->target_count) return ATTN_OK;
    return attn_fail(model->ctx, ATTN_E_SHAPE, "%zu source and %zu target tokens, expected at least one of each",
                     of->source_count, of->target_count);
}

static attn_status check_text(const attn_model *model, const reading *of) {
    if (!model->class->look_at_text)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "a %s model reads no single text with heads to look at",
                         model->class->type);
    if (!of->source_count) return attn_fail(model->ctx, ATTN_E_SHAPE, "the text has no tokens, expected at least one");
    if (of->source_count <= model->max_positions) return ATTN_OK;
    return attn_fail(model->ctx, ATTN_E_SHAPE, "the text has %zu tokens, the model's context length is %zu: shorten it",
                     of->source_count, model->max_positions);
}

/* Puts a number in the place of ATTN_LAST_LAYER. */
static attn_status check(const attn_model *model, const reading *of, attn_look *look) {
    size_t layers, heads;
    ATTN_TRY(of->pair ? check_pair(model, of) : check_text(model, of));
    attn_model_heads(model, look->kind, &layers, &heads);
    if (look->layer == ATTN_LAST_LAYER) look->layer = layers - 1;
    if (look->layer < layers && (look->head <= heads || look->head == ATTN_EVERY_HEAD)) return ATTN_OK;
    return attn_fail(model->ctx, ATTN_E_ARGUMENT, "layer %zu, head %zu: the model has %zu layers of %zu heads",
                     look->layer + 1, look->head, layers, heads);
}

/* Makes of what was seen what the caller wants. */
typedef attn_status use_of(void *out, attn_tape *tape, const attn_seen *seen);

static attn_status see_with(const attn_model *model, const attn_look *look, const reading *of, use_of *use, void *out) {
    const attn_model_class *class = model->class;
    attn_look where = *look;
    attn_seen seen = {0};
    attn_tape *tape;
    ATTN_TRY(check(model, of, &where));
    ATTN_TRY(attn_tape_create(&tape, model->ctx, false));
    attn_status status =
        of->pair ? class->look(model, tape, &seen, &where, of->source, of->source_count, of->target, of->target_count)
                 : class->look_at_text(model, tape, &seen, &where, of->source, of->types, of->source_count);
    if (status == ATTN_OK) status = attn_tape_status(tape);
    seen.of.head = where.head;
    if (status == ATTN_OK) status = use(out, tape, &seen);
    attn_tape_free(tape);
    return status;
}

/* ---- weights -------------------------------------------------------------------------------------------------- */

typedef struct matrix {
    float *weights;
    size_t rows, columns;
} matrix;

/* The weights as memory of their own. */
static attn_status give_weights(void *out, attn_tape *tape, const attn_seen *seen) {
    matrix *m = out;
    const attn_var *weights = attn_tape_head_weights(tape, &seen->of, &seen->options);
    if (!weights) return attn_tape_status(tape);
    const attn_tensor *t = attn_var_value(weights);
    const size_t n = attn_tensor_count(t);
    m->rows = t->shape[t->rank - 2], m->columns = t->shape[t->rank - 1];
    m->weights = attn_alloc(tape->ctx, n, sizeof *m->weights);
    if (!m->weights) return ATTN_E_NOMEM;
    memcpy(m->weights, t->data, n * sizeof *m->weights);
    return ATTN_OK;
}

attn_status attn_look_at_pair(const attn_model *model, float **weights, size_t *rows, size_t *columns,
                              const attn_look *look, const int32_t *source, size_t source_count, const int32_t *target,
                              size_t target_count) {
    const reading of = {source, target, NULL, source_count, target_count, true};
    matrix m = {0};
    *weights = NULL;
    ATTN_TRY(see_with(model, look, &of, give_weights, &m));
    *weights = m.weights, *rows = m.rows, *columns = m.columns;
    return ATTN_OK;
}

static attn_look_kind only_kind(const attn_model *model) {
    return model->class->loss ? ATTN_LOOK_DECODER : ATTN_LOOK_ENCODER;
}

attn_status attn_look_at_text(const attn_model *model, float **weights, size_t layer, size_t head, const int32_t *ids,
                              const int32_t *types, size_t n) {
    const attn_look look = {only_kind(model), layer, head};
    const reading of = {ids, NULL, types, n, 0, false};
    matrix m = {0};
    *weights = NULL;
    ATTN_TRY(see_with(model, &look, &of, give_weights, &m));
    *weights = m.weights;
    return ATTN_OK;
}

/* ---- queries and keys ----------------------------------------------------------------------------------------- */

/* (heads, n, D) of (n, heads·D). */
static void copy_heads(float *out, const attn_tensor *from, size_t heads, size_t n, size_t size) {
    const float *x = from->data;
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < n; i++, out += size) memcpy(out, x + (i * heads + h) * size, size * sizeof *out);
}

static attn_status give_vectors(void *out, attn_tape *tape, const attn_seen *seen) {
    const attn_tensor *q = attn_var_value(seen->of.q), *k = attn_var_value(seen->of.k);
    attn_look_vectors v = {.heads = seen->of.heads, .key_heads = seen->of.key_heads};
    v.head_size = q->shape[q->rank - 1] / v.heads;
    v.rows = q->shape[q->rank - 2], v.columns = k->shape[k->rank - 2];
    v.scale = isnan(seen->options.scale) ? 1 / sqrtf((float)v.head_size) : seen->options.scale;
    v.softcap = seen->options.softcap;
    const size_t queries = attn_tensor_count(q);
    v.queries = attn_alloc(tape->ctx, queries + attn_tensor_count(k), sizeof *v.queries);
    if (!v.queries) return ATTN_E_NOMEM;
    v.keys = v.queries + queries;
    copy_heads(v.queries, q, v.heads, v.rows, v.head_size);
    copy_heads(v.keys, k, v.key_heads, v.columns, v.head_size);
    *(attn_look_vectors *)out = v;
    return ATTN_OK;
}

attn_status attn_look_at_pair_vectors(const attn_model *model, attn_look_vectors *out, attn_look_kind kind,
                                      size_t layer, const int32_t *source, size_t source_count, const int32_t *target,
                                      size_t target_count) {
    const attn_look look = {kind, layer, 0};
    const reading of = {source, target, NULL, source_count, target_count, true};
    *out = (attn_look_vectors){0};
    return see_with(model, &look, &of, give_vectors, out);
}

attn_status attn_look_at_text_vectors(const attn_model *model, attn_look_vectors *out, size_t layer, const int32_t *ids,
                                      const int32_t *types, size_t n) {
    const attn_look look = {only_kind(model), layer, 0};
    const reading of = {ids, NULL, types, n, 0, false};
    *out = (attn_look_vectors){0};
    return see_with(model, &look, &of, give_vectors, out);
}
