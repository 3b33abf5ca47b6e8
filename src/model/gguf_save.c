/* gguf_save.c: a language model as one GGUF file.
 *
 * What the format, or llama.cpp's reading of it, has no place for is refused: a window where the architecture has none,
 * another activation, another scale of the scores, other rotary positions. */
#include "model/gguf_keys.h"
#include "model/gguf_save.h"
#include "model/gpt.h"
#include "model/weights.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY = 96, FILE_TYPE_F32 = 0, FILE_TYPE_F16 = 1, FILE_TYPE_Q8_0 = 7, FILE_TYPE_BF16 = 32, MOST_ENDS = 3 };

typedef struct saver {
    attn_context *ctx;
    const attn_gpt *m;
    const attn_gguf_architecture *architecture;
    attn_gguf_writer *w;
    float divisor[288]; /* of rotary positions as Llama 3.1 has them */
} saver;

static const char *full_key(const saver *s, char out[KEY], const char *key) {
    snprintf(out, KEY, "%s.%s", s->architecture->stored, key);
    return out;
}

#define REFUSE(s, ...) attn_fail((s)->ctx, ATTN_E_UNSUPPORTED, "GGUF: " __VA_ARGS__)

/* ---- what has a place ------------------------------------------------------------------------------------------- */

static attn_status find_architecture(saver *s) {
    const char *type = s->m->base.class->type;
    for (const attn_gguf_architecture *a = attn_gguf_architectures; a->stored; a++)
        if (!strcmp(a->type, type)) s->architecture = a;
    if (s->architecture && !s->m->labels && !s->m->base.adapter) return ATTN_OK;
    return s->architecture
               ? REFUSE(s, "%s: expected a language model without labels and adapters", type)
               : REFUSE(s,
                        "model_type \"%s\" has no form there, expected gpt2, llama, qwen2, qwen3, gemma2 or "
                        "gemma3_text",
                        type);
}

static bool slides(const saver *s, size_t l) {
    if (!s->architecture->gemma || !s->m->config.window) return false;
    return strcmp(s->architecture->stored, "gemma2") ? (l + 1) % 6 != 0 : l % 2 == 0;
}

static attn_status check(const saver *s) {
    const attn_gpt *m = s->m;
    const attn_gpt_config *c = &m->config;
    const char *type = s->architecture->type;
    const attn_activation usual = s->architecture->gpt2 || s->architecture->gemma ? ATTN_GELU_TANH : ATTN_SILU;
    const float scalar = s->architecture->gemma && (int64_t)c->num_layers == s->architecture->odd_layers
                             ? (float)c->hidden_size / (float)c->heads
                             : (float)c->head_size;
    if (attn_gpt_activation(c) != usual) return REFUSE(s, "%s has another activation than the usual one there", type);
    if (c->query_scalar != scalar)
        return REFUSE(s, "scores are scaled by %g, expected %g for %s", (double)c->query_scalar, (double)scalar, type);
    for (size_t l = 0; l < c->num_layers; l++)
        if (m->layer[l].sliding != slides(s, l))
            return REFUSE(s, "layer %zu %s, which %s has no place for there", l,
                          m->layer[l].sliding ? "has a window" : "has no window", type);
    if (c->rope.kind == ATTN_ROPE_LLAMA3 && (c->rope.low != 1 || c->rope.high != 4))
        return REFUSE(s, "rotary positions: frequency factors are %g and %g, expected 1 and 4", (double)c->rope.low,
                      (double)c->rope.high);
    if (c->rope.kind == ATTN_ROPE_LLAMA3) { /* what the reader finds again in the divisors */
        const size_t half = c->head_size / 2, original = (size_t)c->rope.original;
        const double last = attn_gguf_llama3_divisor((double)c->rope.theta, (double)c->rope.factor,
                                                     (double)c->rope.original, half - 1, half);
        if (original < ATTN_GGUF_LEAST_ORIGINAL || original > ATTN_GGUF_MOST_ORIGINAL || (original & (original - 1)))
            return REFUSE(s, "rotary positions: an original length of %zu, expected a power of 2 from %d to %d",
                          original, ATTN_GGUF_LEAST_ORIGINAL, ATTN_GGUF_MOST_ORIGINAL);
        if (fabs(last - (double)c->rope.factor) > 1e-4 * last)
            return REFUSE(s, "rotary positions: heads of %zu columns do not show the factor %g", c->head_size,
                          (double)c->rope.factor);
    }
    if (c->window && strcmp(s->architecture->stored, "gemma3") == 0 &&
        (c->local_rope.kind != ATTN_ROPE_PLAIN || c->local_rope.theta != 1e4f))
        return REFUSE(s, "rotary positions of layers with a window have the base %g, expected 10000",
                      (double)c->local_rope.theta);
    if (c->head_size / 2 > ATTN_COUNT(s->divisor)) return REFUSE(s, "heads have %zu columns", c->head_size);
    if (c->end_count > MOST_ENDS) return REFUSE(s, "%zu ids end a text, expected at most %d", c->end_count, MOST_ENDS);
    return ATTN_OK;
}

/* ---- settings -------------------------------------------------------------------------------------------------------
 */

static void put_setting(const saver *s, const json_t *config, const attn_gguf_setting *row) {
    const json_t *value = json_object_get(config, row->key);
    char key[KEY];
    full_key(s, key, row->stored);
    if (!json_is_number(value)) return;
    if (row->kind == ATTN_GGUF_NUMBER) attn_gguf_put_float(s->w, key, (float)json_number_value(value));
    else attn_gguf_put_size(s->w, key, (size_t)json_integer_value(value));
}

static void put_rope(saver *s) {
    const attn_rope *rope = &s->m->config.rope;
    const size_t half = s->m->config.head_size / 2;
    char key[KEY];
    if (rope->kind == ATTN_ROPE_LINEAR) {
        attn_gguf_put_text(s->w, full_key(s, key, "rope.scaling.type"), "linear");
        attn_gguf_put_float(s->w, full_key(s, key, "rope.scaling.factor"), rope->factor);
    }
    if (rope->kind != ATTN_ROPE_LLAMA3) return;
    for (size_t i = 0; i < half; i++)
        s->divisor[i] =
            (float)attn_gguf_llama3_divisor((double)rope->theta, (double)rope->factor, (double)rope->original, i, half);
    attn_gguf_put_tensor(s->w, "rope_freqs.weight", ATTN_GGUF_F32, 1, &half, s->divisor);
}

static void put_ends(const saver *s) {
    static const char *const keys[MOST_ENDS] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                                "tokenizer.ggml.eom_token_id"};
    const attn_gpt_config *c = &s->m->config;
    if (c->begin >= 0) attn_gguf_put_size(s->w, "tokenizer.ggml.bos_token_id", (size_t)c->begin);
    for (size_t i = 0; i < c->end_count; i++) attn_gguf_put_size(s->w, keys[i], (size_t)c->ends[i]);
}

static attn_status put_settings(saver *s, attn_gguf_type type) {
    static const char *const head_sizes[] = {"attention.key_length", "attention.value_length", "rope.dimension_count"};
    const int file_type = type == ATTN_GGUF_F16    ? FILE_TYPE_F16
                          : type == ATTN_GGUF_BF16 ? FILE_TYPE_BF16
                          : type == ATTN_GGUF_Q8_0 ? FILE_TYPE_Q8_0
                                                   : FILE_TYPE_F32;
    char key[KEY];
    json_t *config = json_loads(s->m->base.config, 0, NULL);
    if (!config) return attn_fail(s->ctx, ATTN_E_NOMEM, "out of memory: a config");
    attn_gguf_put_text(s->w, "general.architecture", s->architecture->stored);
    attn_gguf_put_text(s->w, "general.type", "model");
    attn_gguf_put_size(s->w, "general.file_type", (size_t)file_type);
    for (size_t i = 0; i < s->architecture->key_count; i++) put_setting(s, config, &s->architecture->key[i]);
    for (size_t i = 0; i < ATTN_COUNT(head_sizes) && !s->architecture->gpt2; i++)
        attn_gguf_put_size(s->w, full_key(s, key, head_sizes[i]), s->m->config.head_size);
    attn_gguf_put_size(s->w, full_key(s, key, "vocab_size"), s->m->config.vocab_size);
    put_rope(s);
    put_ends(s);
    json_decref(config);
    return s->w->metadata.status;
}

/* ---- tensors ------------------------------------------------------------------------------------------------------
 */

/* A matrix in its type; data is released by the caller through `owned`. */
static attn_status put_tensor(const saver *s, const attn_named_tensor *t, attn_gguf_type type, void **owned) {
    const size_t count = attn_tensor_count(&t->tensor);
    const size_t columns = t->tensor.rank ? t->tensor.shape[t->tensor.rank - 1] : 1;
    size_t elements = 1, bytes = 4;
    const void *data = t->tensor.data;
    attn_gguf_type_block(type, &elements, &bytes);
    if (t->tensor.rank < 2 || columns % elements) type = ATTN_GGUF_F32;
    const float most =
        65520.0f * (type == ATTN_GGUF_Q8_0 ? 127 : 1); /* from there on a half, or a scale, is infinite */
    if (type == ATTN_GGUF_F16 || type == ATTN_GGUF_Q8_0)
        for (size_t i = 0; i < count; i++)
            if (fabsf(((const float *)data)[i]) >= most)
                return REFUSE(s, "tensor \"%s\": element %zu is too large for %s", t->name, i,
                              attn_gguf_type_name(type));
    if (type != ATTN_GGUF_F32) {
        if (!(*owned = attn_alloc(s->ctx, count / elements, bytes))) return ATTN_E_NOMEM;
        attn_gguf_quantise(*owned, data, count, type);
        data = *owned;
    }
    attn_gguf_put_tensor(s->w, t->name, type, t->tensor.rank, t->tensor.shape, data);
    return s->w->metadata.status;
}

static attn_status write_all(saver *s, const char *path, attn_gguf_type type) {
    attn_stored_set set = {0};
    attn_status status = attn_stored_set_make(&set, &s->m->base, attn_gpt_gguf_form);
    void **owned = status == ATTN_OK ? attn_alloc_zero(s->ctx, set.count, sizeof *owned) : NULL;
    if (status == ATTN_OK && !owned) status = ATTN_E_NOMEM;
    for (size_t i = 0; i < set.count && status == ATTN_OK; i++) status = put_tensor(s, &set.tensor[i], type, &owned[i]);
    if (status == ATTN_OK) status = attn_gguf_write(s->w, path);
    for (size_t i = 0; owned && i < set.count; i++) attn_release(s->ctx, owned[i]);
    attn_release(s->ctx, owned);
    attn_stored_set_free(&set);
    return status;
}

attn_status attn_model_save_gguf(const attn_model *model, const attn_tokenizer *tokenizer, const char *chat,
                                 const char *path, attn_gguf_type type) {
    attn_gguf_writer w = ATTN_GGUF_WRITER_INIT(model->ctx);
    saver s = {.ctx = model->ctx, .m = attn_gpt_of(model), .w = &w};
    if (!s.m || !tokenizer)
        return attn_fail(model->ctx, ATTN_E_ARGUMENT, "attn_model_save_gguf: %s",
                         tokenizer ? "expected a language model" : "tokenizer is NULL");
    if (type != ATTN_GGUF_F32 && type != ATTN_GGUF_F16 && type != ATTN_GGUF_BF16 && type != ATTN_GGUF_Q8_0)
        return attn_fail(s.ctx, ATTN_E_UNSUPPORTED, "GGUF: matrices are written as F32, F16, BF16 or Q8_0");
    const attn_gguf_ends ends = {s.m->config.begin, s.m->config.end_count ? s.m->config.ends[0] : -1};
    attn_status status = find_architecture(&s);
    if (status == ATTN_OK) status = check(&s);
    if (status == ATTN_OK) status = put_settings(&s, type);
    if (status == ATTN_OK) status = attn_tokenizer_put_gguf(tokenizer, &w, s.m->config.vocab_size, &ends);
    if (status == ATTN_OK && chat) attn_gguf_put_text(&w, "tokenizer.chat_template", chat);
    if (status == ATTN_OK) status = write_all(&s, path, type);
    attn_gguf_writer_free(&w);
    return status;
}
