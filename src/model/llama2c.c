/* llama2c.c: files of llama2.c. See llama2c.h. */
#include "model/llama2c.h"
#include "io/file.h"
#include "model/model.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 48, HEADER = 7, TENSORS_OF_A_LAYER = 9, OTHER_TENSORS = 3, MOST_LAYERS = 1024 };

struct attn_llama2c {
    attn_context *ctx;
    attn_mapping mapping;
    size_t dim, hidden, layers, heads, key_heads, vocabulary, context;
    bool tied;
    char (*name)[NAME];
    attn_named_tensor *tensor; /* (count) */
    size_t count;
};

static attn_status read_header(attn_llama2c *f, const char *path) {
    static const char *const names[HEADER] = {"dim",        "hidden_dim", "n_layers", "n_heads",
                                              "n_kv_heads", "vocab_size", "seq_len"};
    size_t *const to[HEADER] = {&f->dim, &f->hidden, &f->layers, &f->heads, &f->key_heads, &f->vocabulary, &f->context};
    if (f->mapping.bytes < HEADER * sizeof(int32_t))
        return attn_fail(
            f->ctx, ATTN_E_FORMAT,
            "%s: found %zu bytes, expected a model's folder, a GGUF file, or one of llama2.c, which begins "
            "with %d integers",
            path, f->mapping.bytes, HEADER);
    for (size_t i = 0; i < HEADER; i++) {
        int32_t value;
        memcpy(&value, f->mapping.data + i * sizeof value, sizeof value);
        const bool negated = to[i] == &f->vocabulary && value < 0; /* then the output has a matrix of its own */
        const int64_t size = negated ? -(int64_t)value : value, most = to[i] == &f->layers ? MOST_LAYERS : 1 << 24;
        if (size < 1 || size > most)
            return attn_fail(
                f->ctx, ATTN_E_FORMAT,
                "%s: expected a model's folder, a GGUF file, or one of llama2.c, whose %s would be %d here", path,
                names[i], (int)value);
        *to[i] = (size_t)size;
        if (to[i] == &f->vocabulary) f->tied = !negated;
    }
    if (f->dim % f->heads || f->dim / f->heads % 2 || f->heads % f->key_heads)
        return attn_fail(f->ctx, ATTN_E_FORMAT,
                         "%s: dim %zu, n_heads %zu, n_kv_heads %zu: expected heads of equal, even size, a multiple of "
                         "n_kv_heads of them",
                         path, f->dim, f->heads, f->key_heads);
    return ATTN_OK;
}

/* Where the next floats begin; all sizes are below 2^24 each, two of them and the layers make less than 2^58. */
static const float *take(const attn_llama2c *f, size_t *at, size_t count) {
    const float *data = (const float *)(const void *)f->mapping.data + *at;
    *at += count;
    return data;
}

static void add(attn_llama2c *f, const float *data, size_t rows, size_t columns) {
    attn_named_tensor *t = &f->tensor[f->count];
    t->name = f->name[f->count++];
    t->tensor = columns ? attn_tensor_f32((float *)(uintptr_t)data, 2, rows, columns)
                        : attn_tensor_f32((float *)(uintptr_t)data, 1, rows);
}

/* One kind of matrix (columns 0: vector), of all layers. */
static void add_layers(attn_llama2c *f, size_t *at, const char *name, size_t rows, size_t columns) {
    const size_t count = rows * (columns ? columns : 1);
    const float *data = take(f, at, f->layers * count);
    for (size_t l = 0; l < f->layers && f->tensor; l++) {
        snprintf(f->name[f->count], NAME, "layers.%zu.%s.weight", l, name);
        add(f, data + l * count, rows, columns);
    }
}

static void add_one(attn_llama2c *f, size_t *at, const char *name, size_t rows, size_t columns) {
    const float *data = take(f, at, rows * (columns ? columns : 1));
    if (!f->tensor) return;
    snprintf(f->name[f->count], NAME, "%s.weight", name);
    add(f, data, rows, columns);
}

/* Gives the number of floats, and the tensors where there is room for them. */
static size_t lay_out(attn_llama2c *f) {
    const size_t head = f->dim / f->heads, keys = f->key_heads * head;
    size_t at = HEADER;
    add_one(f, &at, "tok_embeddings", f->vocabulary, f->dim);
    add_layers(f, &at, "attention_norm", f->dim, 0);
    add_layers(f, &at, "attention.wq", f->dim, f->dim);
    add_layers(f, &at, "attention.wk", keys, f->dim);
    add_layers(f, &at, "attention.wv", keys, f->dim);
    add_layers(f, &at, "attention.wo", f->dim, f->dim);
    add_layers(f, &at, "ffn_norm", f->dim, 0);
    add_layers(f, &at, "feed_forward.w1", f->hidden, f->dim);
    add_layers(f, &at, "feed_forward.w2", f->dim, f->hidden);
    add_layers(f, &at, "feed_forward.w3", f->hidden, f->dim);
    add_one(f, &at, "norm", f->dim, 0);
    at += 2 * f->context * (head / 2); /* cosines and sines, which are computed here */
    if (!f->tied) add_one(f, &at, "output", f->vocabulary, f->dim);
    return at;
}

static attn_status read_file(attn_llama2c *f, const char *path) {
    ATTN_TRY(attn_map_file(&f->mapping, f->ctx, path));
    ATTN_TRY(read_header(f, path));
    const size_t floats = lay_out(f);
    if (f->mapping.bytes != floats * sizeof(float))
        return attn_fail(f->ctx, ATTN_E_FORMAT,
                         "%s: expected %zu bytes as its first numbers make for a file of llama2.c, found %zu", path,
                         floats * sizeof(float), f->mapping.bytes);
    const size_t most = f->layers * TENSORS_OF_A_LAYER + OTHER_TENSORS;
    f->name = attn_alloc_zero(f->ctx, most, sizeof *f->name);
    attn_named_tensor *tensor = f->name ? attn_alloc_zero(f->ctx, most, sizeof *tensor) : NULL;
    if (!tensor) return ATTN_E_NOMEM;
    f->tensor = tensor;
    lay_out(f);
    return ATTN_OK;
}

attn_status attn_llama2c_open(attn_llama2c **gives, attn_context *ctx, const char *path) {
    *gives = NULL;
    attn_llama2c *f = attn_alloc_zero(ctx, 1, sizeof *f);
    if (!f) return ATTN_E_NOMEM;
    f->ctx = ctx;
    attn_status status = read_file(f, path);
    if (status == ATTN_OK) *gives = f;
    else attn_llama2c_close(f);
    return status;
}

void attn_llama2c_close(attn_llama2c *f) {
    if (!f) return;
    attn_context *ctx = f->ctx;
    attn_release(ctx, f->name);
    attn_release(ctx, f->tensor);
    attn_unmap_file(&f->mapping);
    attn_release(ctx, f);
}

size_t attn_llama2c_count(const attn_llama2c *f) { return f->count; }
const attn_named_tensor *attn_llama2c_at(const attn_llama2c *f, size_t index) { return &f->tensor[index]; }

/* A text of its training sets begins with token 1, which so also ends the one before. */
attn_status attn_llama2c_config(const attn_llama2c *f, char **json) {
    json_t *root = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:i, s:[i, i]}", "model_type", "llama", "vocab_size",
        (json_int_t)f->vocabulary, "hidden_size", (json_int_t)f->dim, "intermediate_size", (json_int_t)f->hidden,
        "num_hidden_layers", (json_int_t)f->layers, "num_attention_heads", (json_int_t)f->heads, "num_key_value_heads",
        (json_int_t)f->key_heads, "max_position_embeddings", (json_int_t)f->context, "rms_norm_eps", 1e-5, "rope_theta",
        1e4, "tie_word_embeddings", (int)f->tied, "bos_token_id", 1, "eos_token_id", 1, 2);
    return attn_json_text(f->ctx, json, root);
}
