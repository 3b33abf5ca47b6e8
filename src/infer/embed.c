/* embed.c: states of tokens, and texts as vectors, by an encoder. Sequences go through the model one behind the other,
 * without padding. */
#include "io/file.h"
#include "model/bert.h"
#include "model/weights.h"
#include "nn/tape.h"
#include <attn/encoder.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool attn_model_is_encoder(const attn_model *model) { return !model->class->encode && !model->class->loss; }

size_t attn_model_state_size(const attn_model *model) {
    return attn_model_is_encoder(model) ? attn_bert_state_size(attn_bert_of(model)) : 0;
}

/* ---- states ----------------------------------------------------------------------------------------- */

typedef struct batch {
    const int32_t *ids, *types; /* (batch, steps); types may be NULL */
    size_t batch, steps;
    const int32_t *first, *end; /* (batch), or NULL */
} batch;

static size_t first_of(const batch *in, size_t b) { return in->first ? (size_t)in->first[b] : 0; }
static size_t end_of(const batch *in, size_t b) { return in->end ? (size_t)in->end[b] : in->steps; }

static attn_status check(const attn_model *model, const batch *in) {
    attn_context *ctx = model->ctx;
    size_t cells;
    if (!attn_size_mul(&cells, in->batch, in->steps) || cells > INT32_MAX)
        return attn_fail(ctx, ATTN_E_SHAPE, "states: %zu sequences of %zu tokens are too many", in->batch, in->steps);
    for (size_t b = 0; b < in->batch; b++) {
        const size_t first = first_of(in, b), end = end_of(in, b);
        if (first > end || end > in->steps)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "states: sequence %zu is tokens %d to %d, expected some of the %zu",
                             b, in->first ? (int)in->first[b] : 0, in->end ? (int)in->end[b] : (int)in->steps,
                             in->steps);
        if (end - first > model->max_positions)
            return attn_fail(ctx, ATTN_E_SHAPE, "states: %zu tokens, the model's context length is %zu", end - first,
                             model->max_positions);
    }
    return ATTN_OK;
}

static bool pack(attn_bert_rows *rows, attn_tape *tape, const batch *in) {
    const size_t cells = in->batch * in->steps;
    int32_t *id = attn_tape_memory(tape, cells, 3 * sizeof *id), *position = id + cells, *type = position + cells;
    int32_t *cu = attn_tape_memory(tape, in->batch + 1, sizeof *cu);
    if (!id || !cu) return false;
    size_t n = 0;
    for (size_t b = 0; b < in->batch; b++) {
        cu[b] = (int32_t)n;
        for (size_t t = first_of(in, b); t < end_of(in, b); t++, n++) {
            id[n] = in->ids[b * in->steps + t];
            type[n] = in->types ? in->types[b * in->steps + t] : 0;
            position[n] = (int32_t)n - cu[b];
        }
    }
    cu[in->batch] = (int32_t)n;
    *rows = (attn_bert_rows){n, id, position, type, in->batch, cu};
    return true;
}

attn_status attn_encoder_states(const attn_model *model, float *states, const int32_t *ids, const int32_t *types,
                                size_t batch_size, size_t steps, const int32_t *first, const int32_t *end) {
    const attn_bert *m = attn_bert_of(model);
    const batch in = {ids, types, batch_size, steps, first, end};
    attn_bert_rows rows;
    attn_tape *tape;
    if (!m) return ATTN_E_ARGUMENT;
    ATTN_TRY(check(model, &in));
    ATTN_TRY(attn_tape_create(&tape, model->ctx, false));
    const size_t width = attn_bert_state_size(m);
    if (pack(&rows, tape, &in)) {
        const attn_var *out = rows.count ? attn_bert_states(m, tape, &rows) : NULL;
        if (attn_tape_status(tape) == ATTN_OK) memset(states, 0, batch_size * steps * width * sizeof *states);
        for (size_t b = 0; out && b < batch_size; b++)
            memcpy(states + (b * steps + first_of(&in, b)) * width,
                   (const float *)attn_var_value(out)->data + (size_t)rows.cu[b] * width,
                   (size_t)(rows.cu[b + 1] - rows.cu[b]) * width * sizeof *states);
    }
    attn_status status = attn_tape_status(tape);
    attn_tape_free(tape);
    return status;
}

/* ---- what a folder says ----------------------------------------------------------------------------- */

enum { MAX_SETTINGS = 1 << 20 };

/* *root NULL: there is no such file. gives. */
static attn_status read_json(json_t **root, attn_context *ctx, char path[ATTN_MODEL_PATH], const char *folder,
                             const char *file) {
    *root = NULL;
    ATTN_TRY(attn_model_path(ctx, path, folder, file));
    return access(path, F_OK) == 0 ? attn_model_read_json(ctx, root, path, MAX_SETTINGS, 0) : ATTN_OK;
}

/* {"pooling_mode_mean_tokens": true, …}, one of them true. */
static attn_status read_pooling(attn_embed_options *options, attn_context *ctx, const char *path, json_t *root) {
    const char *key, prefix[] = "pooling_mode_";
    size_t found = 0;
    json_t *value;
    json_object_foreach(root, key, value) {
        if (strncmp(key, prefix, sizeof prefix - 1) != 0 || !json_is_true(value)) continue;
        const bool mean = !strcmp(key, "pooling_mode_mean_tokens"), cls = !strcmp(key, "pooling_mode_cls_token");
        if (found++ || (!mean && !cls))
            return attn_fail(ctx, ATTN_E_UNSUPPORTED,
                             "%s: \"%.60s\": expected \"pooling_mode_mean_tokens\" or \"pooling_mode_cls_token\" alone",
                             path, key);
        options->pooling = cls ? ATTN_POOL_CLS : ATTN_POOL_MEAN;
    }
    return ATTN_OK;
}

/* A list of {"type": "sentence_transformers.models.Transformer"}, …Pooling, …Normalize. */
static attn_status check_modules(attn_context *ctx, const char *path, const json_t *root) {
    static const char *const known[] = {"Transformer", "Pooling", "Normalize"};
    for (size_t i = 0; i < json_array_size(root); i++) {
        const char *type = json_string_value(json_object_get(json_array_get(root, i), "type"));
        const char *name = type && strrchr(type, '.') ? strrchr(type, '.') + 1 : type ? type : "";
        bool fine = false;
        for (size_t k = 0; k < ATTN_COUNT(known); k++) fine |= !strcmp(name, known[k]);
        if (!fine)
            return attn_fail(ctx, ATTN_E_UNSUPPORTED,
                             "%s: expected Transformer, Pooling and Normalize, found \"%.60s\"", path, name);
    }
    return ATTN_OK;
}

attn_status attn_embed_options_read(attn_embed_options *options, attn_context *ctx, const char *folder) {
    char path[ATTN_MODEL_PATH];
    json_t *root;
    ATTN_TRY(read_json(&root, ctx, path, folder, "modules.json"));
    attn_status status = check_modules(ctx, path, root);
    json_decref(root);
    ATTN_TRY(status);
    ATTN_TRY(read_json(&root, ctx, path, folder, "1_Pooling/config.json"));
    status = root ? read_pooling(options, ctx, path, root) : ATTN_OK;
    json_decref(root);
    ATTN_TRY(status);
    ATTN_TRY(read_json(&root, ctx, path, folder, "sentence_bert_config.json"));
    const json_int_t most = json_integer_value(json_object_get(root, "max_seq_length"));
    if (most > 0) options->max_tokens = (size_t)most;
    json_decref(root);
    return ATTN_OK;
}

static attn_status write_text(attn_context *ctx, const char *folder, const char *file, const char *text) {
    char path[ATTN_MODEL_PATH];
    ATTN_TRY(attn_model_path(ctx, path, folder, file));
    return attn_file_write(ctx, path, text, strlen(text));
}

attn_status attn_embed_options_save(const attn_embed_options *options, attn_context *ctx, const char *folder) {
    char path[ATTN_MODEL_PATH], text[160];
    const bool cls = options->pooling == ATTN_POOL_CLS;
    if (options->pooling == ATTN_POOL_POOLER)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: the pooler has no form there, expected mean or cls", folder);
    ATTN_TRY(attn_model_path(ctx, path, folder, "1_Pooling"));
    ATTN_TRY(attn_folder_make(ctx, path));
    snprintf(text, sizeof text, "{\n  \"pooling_mode_cls_token\": %s,\n  \"pooling_mode_mean_tokens\": %s\n}\n",
             cls ? "true" : "false", cls ? "false" : "true");
    ATTN_TRY(write_text(ctx, folder, "1_Pooling/config.json", text));
    if (!options->max_tokens) return ATTN_OK;
    snprintf(text, sizeof text, "{\n  \"max_seq_length\": %zu\n}\n", options->max_tokens);
    return write_text(ctx, folder, "sentence_bert_config.json", text);
}

/* ---- vectors ---------------------------------------------------------------------------------------- */

enum { BATCH_TOKENS = 4096 };

typedef struct embedder {
    const attn_model *model;
    const attn_bert *m;
    const attn_tokenizer *tokenizer;
    attn_embed_options options;
    attn_tape *tape;
    attn_tokens tokens, plain; /* with and without special tokens */
    int32_t *id, *cu;          /* of the texts that wait for the model */
    size_t count, capacity, texts, texts_capacity;
} embedder;

/* Cuts a text's own tokens, not what is put around them. */
static attn_status cut(embedder *e, const char *text, size_t bytes, size_t most) {
    attn_tokens *t = &e->tokens;
    ATTN_TRY(attn_tokenize(e->tokenizer, &e->plain, text, bytes, false));
    const size_t around = t->count - ATTN_MIN(e->plain.count, t->count);
    size_t before = 0;
    if (around >= most)
        return attn_fail(e->model->ctx, ATTN_E_ARGUMENT,
                         "embedding: max_tokens is %zu, expected more than the %zu special tokens", most, around);
    while (before < around && t->token[before].id != e->plain.token[0].id) before++;
    const size_t after = around - before, kept = most - around;
    memmove(t->token + before + kept, t->token + t->count - after, after * sizeof *t->token);
    t->count = most;
    return ATTN_OK;
}

static attn_status tokenize(embedder *e, const char *text, size_t bytes, size_t index) {
    attn_context *ctx = e->model->ctx;
    const size_t context = e->model->max_positions, own = e->options.max_tokens;
    const size_t most = own ? ATTN_MIN(own, context) : context;
    ATTN_TRY(attn_tokenize(e->tokenizer, &e->tokens, text, bytes, true));
    if (!e->tokens.count) return attn_fail(ctx, ATTN_E_ARGUMENT, "embedding: text %zu has no tokens", index + 1);
    if (e->tokens.count <= most) return ATTN_OK;
    if (e->options.truncate) return cut(e, text, bytes, most);
    return attn_fail(ctx, ATTN_E_SHAPE,
                     "embedding: text %zu has %zu tokens, expected at most %zu: shorten or truncate it", index + 1,
                     e->tokens.count, most);
}

static attn_status add(embedder *e) {
    attn_context *ctx = e->model->ctx;
    const size_t want = e->count + e->tokens.count;
    ATTN_TRY(attn_grow(ctx, &e->id, &e->capacity, want, e->count, sizeof *e->id));
    ATTN_TRY(attn_grow(ctx, &e->cu, &e->texts_capacity, e->texts + 2, e->texts + 1, sizeof *e->cu));
    for (size_t i = 0; i < e->tokens.count; i++) e->id[e->count++] = e->tokens.token[i].id;
    e->cu[++e->texts] = (int32_t)want;
    return ATTN_OK;
}

/* One text's vector from its n states (n, width). */
static void pool(float *out, const float *states, size_t n, size_t width, const attn_embed_options *options) {
    double squares = 0;
    for (size_t i = 0; i < width; i++) {
        double sum = 0;
        const size_t rows = options->pooling == ATTN_POOL_MEAN ? n : 1;
        for (size_t r = 0; r < rows; r++) sum += (double)states[r * width + i];
        out[i] = (float)(sum / (double)rows);
        squares += (double)out[i] * (double)out[i];
    }
    if (!options->normalise || squares == 0) return;
    for (size_t i = 0; i < width; i++) out[i] = (float)((double)out[i] / sqrt(squares));
}

/* Vectors of the texts that wait. */
static attn_status run(embedder *e, float *vectors) {
    const size_t width = attn_bert_state_size(e->m);
    attn_tape_reset(e->tape);
    int32_t *position = attn_tape_memory(e->tape, e->count, 2 * sizeof *position), *type = position + e->count;
    if (!position) return attn_tape_status(e->tape);
    memset(type, 0, e->count * sizeof *type);
    for (size_t t = 0; t < e->texts; t++)
        for (int32_t r = e->cu[t]; r < e->cu[t + 1]; r++) position[r] = r - e->cu[t];
    const attn_bert_rows rows = {e->count, e->id, position, type, e->texts, e->cu};
    attn_var *states = attn_bert_states(e->m, e->tape, &rows);
    for (size_t t = 0; states && t < e->texts; t++) {
        const attn_var *from = states;
        size_t first = (size_t)e->cu[t];
        if (e->options.pooling == ATTN_POOL_POOLER) {
            from = attn_bert_pool(e->m, e->tape, attn_tape_row(e->tape, states, first));
            first = 0;
        }
        if (!from) break;
        const float *own = (const float *)attn_var_value(from)->data + first * width;
        pool(vectors + t * width, own, (size_t)(e->cu[t + 1] - e->cu[t]), width, &e->options);
    }
    e->count = e->texts = 0;
    return attn_tape_status(e->tape);
}

static attn_status embed_all(embedder *e, float *vectors, const char *const *texts, const size_t *bytes, size_t n) {
    const size_t width = attn_bert_state_size(e->m);
    size_t done = 0;
    for (size_t i = 0; i < n; i++) {
        ATTN_TRY(tokenize(e, texts[i], bytes ? bytes[i] : strlen(texts[i]), e->options.texts_before + i));
        if (e->texts && e->count + e->tokens.count > BATCH_TOKENS) {
            ATTN_TRY(run(e, vectors + done * width));
            done = i;
        }
        ATTN_TRY(add(e));
    }
    return e->texts ? run(e, vectors + done * width) : ATTN_OK;
}

attn_status attn_embed(const attn_model *model, const attn_tokenizer *tokenizer, float *vectors,
                       const char *const *texts, const size_t *bytes, size_t n, const attn_embed_options *options) {
    static const attn_embed_options defaults = ATTN_EMBED_OPTIONS_INIT;
    attn_context *ctx = model->ctx;
    embedder e = {.model = model, .tokenizer = tokenizer, .options = options ? *options : defaults};
    e.tokens = e.plain = (attn_tokens)ATTN_TOKENS_INIT;
    if (e.options.struct_size != sizeof e.options)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_embed_options: found struct_size %zu, expected %zu",
                         e.options.struct_size, sizeof e.options);
    e.m = attn_bert_of(model);
    if (!e.m) return ATTN_E_ARGUMENT;
    attn_status status = attn_tape_create(&e.tape, ctx, false);
    if (status == ATTN_OK) status = attn_grow(ctx, &e.cu, &e.texts_capacity, 1, 0, sizeof *e.cu);
    if (status == ATTN_OK) e.cu[0] = 0;
    if (status == ATTN_OK) status = embed_all(&e, vectors, texts, bytes, n);
    attn_tape_free(e.tape);
    attn_tokens_free(ctx, &e.tokens);
    attn_tokens_free(ctx, &e.plain);
    attn_release(ctx, e.id);
    attn_release(ctx, e.cu);
    return status;
}
