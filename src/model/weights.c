/* weights.c: stored tensors become parameters. See weights.h. */
#include "model/weights.h"
#include "base/half.h"
#include "nn/parameters.h"
#include "model/llama2c.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_INDEX = 16 << 20 };

/* ---- the files ------------------------------------------------------------------------------------ */

static attn_status add_file(attn_weights *weights, const char *path) {
    if (weights->files == ATTN_MAX_SHARDS)
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: it is one of more than %d files", path, ATTN_MAX_SHARDS);
    char *copy = attn_copy_text(weights->ctx, path, strlen(path));
    if (!copy) return ATTN_E_NOMEM;
    attn_status status = attn_safetensors_open(&weights->file[weights->files], weights->ctx, path);
    if (status != ATTN_OK) attn_release(weights->ctx, copy);
    else weights->path[weights->files++] = copy;
    return status;
}

/* A shard lies beside its index. */
static attn_status add_shard(attn_weights *weights, const char *index_path, const char *folder, const char *tensor,
                             const json_t *value) {
    const char *name = json_string_value(value);
    char path[ATTN_MODEL_PATH];
    if (!name || !*name || strchr(name, '/'))
        return attn_fail(weights->ctx, ATTN_E_FORMAT,
                         "%s: weight_map: \"%.100s\": expected the name of a file beside it, found %s%.60s", index_path,
                         tensor, name ? "" : "another value", name ? name : "");
    ATTN_TRY(attn_model_path(weights->ctx, path, folder, name));
    for (size_t i = 0; i < weights->files; i++)
        if (!strcmp(weights->path[i], path)) return ATTN_OK;
    return add_file(weights, path);
}

static attn_status open_shards(attn_weights *weights, const char *path, const char *folder) {
    json_t *root, *value;
    ATTN_TRY(attn_model_read_json(weights->ctx, &root, path, MAX_INDEX, JSON_REJECT_DUPLICATES));
    json_t *map = json_object_get(root, "weight_map");
    const char *tensor;
    attn_status status = ATTN_OK;
    if (!json_object_size(map))
        status = attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: expected an object \"weight_map\"", path);
    else json_object_foreach(map, tensor, value) {
            if (status == ATTN_OK) status = add_shard(weights, path, folder, tensor, value);
        }
    json_decref(root);
    return status;
}

static attn_status open_folder(attn_weights *weights, const char *folder) {
    char path[ATTN_MODEL_PATH], index[ATTN_MODEL_PATH];
    ATTN_TRY(attn_model_path(weights->ctx, path, folder, "model.safetensors"));
    ATTN_TRY(attn_model_path(weights->ctx, index, folder, "model.safetensors.index.json"));
    weights->file = attn_alloc_zero(weights->ctx, ATTN_MAX_SHARDS, sizeof(attn_safetensors *));
    if (!weights->file) return ATTN_E_NOMEM;
    const bool sharded = access(path, F_OK) != 0 && access(index, F_OK) == 0;
    return sharded ? open_shards(weights, index, folder) : add_file(weights, path);
}

static attn_status open_file(attn_weights *weights, const char *path) {
    bool gguf;
    if (attn_model_is_safetensors(path)) {
        weights->file = attn_alloc_zero(weights->ctx, 1, sizeof(attn_safetensors *));
        return weights->file ? add_file(weights, path) : ATTN_E_NOMEM;
    }
    ATTN_TRY(attn_model_is_gguf(weights->ctx, &gguf, path));
    weights->path[0] = attn_copy_text(weights->ctx, path, strlen(path));
    if (!weights->path[0]) return ATTN_E_NOMEM;
    return gguf ? attn_gguf_open(&weights->gguf, weights->ctx, path)
                : attn_llama2c_open(&weights->llama2c, weights->ctx, path);
}

static attn_status open_adapter(attn_weights *weights, const char *folder, char **base) {
    char path[ATTN_MODEL_PATH];
    ATTN_TRY(attn_adapter_base(weights->ctx, folder, &weights->adapter_scale, base));
    ATTN_TRY(attn_model_path(weights->ctx, path, folder, "adapter_model.safetensors"));
    weights->adapter_path = attn_copy_text(weights->ctx, path, strlen(path));
    return weights->adapter_path ? attn_safetensors_open(&weights->adapter, weights->ctx, path) : ATTN_E_NOMEM;
}

attn_status attn_weights_open(attn_weights **gives, attn_context *ctx, const char *path) {
    char *base = NULL; /* of an adapter */
    *gives = NULL;
    attn_weights *weights = attn_alloc_zero(ctx, 1, sizeof *weights);
    if (!weights) return ATTN_E_NOMEM;
    weights->ctx = ctx;
    weights->path = attn_alloc_zero(ctx, ATTN_MAX_SHARDS, sizeof(char *));
    attn_status status = weights->path ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK && attn_adapter_is_there(ctx, path)) status = open_adapter(weights, path, &base);
    if (base) path = base;
    if (status == ATTN_OK) status = attn_model_is_file(path) ? open_file(weights, path) : open_folder(weights, path);
    attn_release(ctx, base);
    if (status == ATTN_OK) *gives = weights;
    else attn_weights_close(weights);
    return status;
}

void attn_weights_close(attn_weights *weights) {
    if (!weights) return;
    attn_context *ctx = weights->ctx;
    for (size_t i = 0; i < weights->files; i++) attn_safetensors_close(weights->file[i]);
    for (size_t i = 0; weights->path && i < ATTN_MAX_SHARDS; i++) attn_release(ctx, weights->path[i]);
    attn_safetensors_close(weights->adapter);
    attn_release(ctx, weights->adapter_path);
    attn_gguf_close(weights->gguf);
    attn_llama2c_close(weights->llama2c);
    attn_release(ctx, weights->file);
    attn_release(ctx, weights->path);
    attn_release(ctx, weights);
}

/* ---- their tensors ---------------------------------------------------------------------------------- */

/* What GGUF stores as plain numbers is a tensor as in any other file; the rest stays in blocks. */
static attn_stored of_gguf(const attn_weights *weights, const attn_gguf_tensor *t) {
    const attn_dtype dtype = t->type == ATTN_GGUF_F16 ? ATTN_F16 : t->type == ATTN_GGUF_BF16 ? ATTN_BF16 : ATTN_F32;
    const bool plain = dtype != ATTN_F32 || t->type == ATTN_GGUF_F32;
    void *data = plain ? (void *)(uintptr_t)t->data : NULL;
    return (attn_stored){t->name, weights->path[0], attn_tensor_of(data, dtype, t->rank, t->shape), plain ? NULL : t};
}

static attn_stored of_named(const char *path, const attn_named_tensor *t) {
    return (attn_stored){t->name, path, t->tensor, NULL};
}

static size_t count_stored(const attn_weights *weights) {
    size_t n = weights->llama2c ? attn_llama2c_count(weights->llama2c) : 0;
    if (weights->gguf) n = attn_gguf_count(weights->gguf);
    for (size_t i = 0; i < weights->files; i++) n += attn_safetensors_count(weights->file[i]);
    return n;
}

static attn_stored stored_at(const attn_weights *weights, size_t index) {
    size_t file = 0;
    if (weights->gguf) return of_gguf(weights, attn_gguf_at(weights->gguf, index));
    if (weights->llama2c) return of_named(weights->path[0], attn_llama2c_at(weights->llama2c, index));
    for (; index >= attn_safetensors_count(weights->file[file]); file++)
        index -= attn_safetensors_count(weights->file[file]);
    return of_named(weights->path[file], attn_safetensors_at(weights->file[file], index));
}

/* What an adapter has whole. */
static bool find_learned(const attn_weights *weights, attn_stored *out, const char *name) {
    char full[320];
    if (!weights->adapter) return false;
    snprintf(full, sizeof full, ATTN_ADAPTER_PREFIX "%s", name);
    const attn_named_tensor *found = attn_safetensors_find(weights->adapter, full);
    if (found) *out = of_named(weights->adapter_path, found);
    return found != NULL;
}

bool attn_weights_find(const attn_weights *weights, attn_stored *out, const char *name) {
    attn_stored unwanted;
    if (!out) out = &unwanted;
    if (find_learned(weights, out, name)) return true;
    const attn_gguf_tensor *blocks = weights->gguf ? attn_gguf_find(weights->gguf, name) : NULL;
    *out = (attn_stored){.path = weights->path[0]};
    if (blocks) *out = of_gguf(weights, blocks);
    for (size_t i = 0; weights->llama2c && i < attn_llama2c_count(weights->llama2c) && !out->name; i++)
        if (!strcmp(attn_llama2c_at(weights->llama2c, i)->name, name)) *out = stored_at(weights, i);
    for (size_t i = 0; i < weights->files && !out->name; i++) {
        const attn_named_tensor *found = attn_safetensors_find(weights->file[i], name);
        if (found) *out = of_named(weights->path[i], found);
    }
    return out->name != NULL;
}

/* ---- one tensor ------------------------------------------------------------------------------------ */

static const char *shape_text(char out[128], int rank, const size_t *shape) {
    int at = snprintf(out, 128, "(");
    for (int i = 0; i < rank; i++) at += snprintf(out + at, 128 - (size_t)at, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(out + at, 128 - (size_t)at, ")");
    return out;
}

/* What is read of a parameter. */
typedef struct source {
    attn_stored stored;
    const float *scale; /* of an I8 matrix */
    const attn_stored_form *form;
} source;

static attn_status find_scale(const attn_weights *weights, const float **scale, const char *name, size_t rows) {
    char scale_name[256];
    attn_stored found;
    snprintf(scale_name, sizeof scale_name, "%s.scale", name);
    const bool there = attn_weights_find(weights, &found, scale_name);
    if (!there || found.blocks || found.tensor.dtype != ATTN_F32 || found.tensor.rank != 1 ||
        found.tensor.shape[0] != rows)
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32 of shape (%zu), found %s",
                         found.path, scale_name, rows, there ? "another dtype or shape" : "none");
    *scale = found.tensor.data;
    return ATTN_OK;
}

/* What a parameter of this shape is stored in. */
static void stored_shape(size_t out[ATTN_MAX_RANK], const attn_stored_form *form, int rank, const size_t *shape) {
    for (int i = 0; i < rank; i++) out[i] = shape[i];
    if (rank > 0 && !__builtin_mul_overflow(form->parts, shape[0], &out[0]) && form->transposed && rank == 2) {
        size_t rows = out[0];
        out[0] = shape[1];
        out[1] = rows;
    }
}

/* Blocks lie along rows, and are read by whole rows. */
static bool has_readable_dtype(const attn_stored *stored, const attn_stored_form *form) {
    const attn_dtype dtype = stored->tensor.dtype;
    if (stored->blocks) return stored->tensor.rank == 2 && !form->transposed;
    return dtype == ATTN_F32 || dtype == ATTN_BF16 || dtype == ATTN_F16 || dtype == ATTN_I8;
}

static attn_status find_stored(const attn_weights *weights, source *out, const attn_stored_form *form, int rank,
                               const size_t *shape) {
    attn_stored *stored = &out->stored;
    size_t want[ATTN_MAX_RANK];
    *out = (source){.form = form};
    if (!attn_weights_find(weights, stored, form->name))
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" is missing", stored->path, form->name);
    stored_shape(want, form, rank, shape);
    const attn_tensor *t = &stored->tensor;
    if (t->rank != rank || memcmp(t->shape, want, (size_t)rank * sizeof *want) != 0) {
        char have[128], expected[128];
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected shape %s, found %s", stored->path,
                         form->name, shape_text(expected, rank, want), shape_text(have, t->rank, t->shape));
    }
    if (!has_readable_dtype(stored, form))
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32, BF16, F16 or I8, found %s",
                         stored->path, form->name,
                         stored->blocks ? attn_gguf_type_name(stored->blocks->type) : attn_dtype_name(t->dtype));
    return t->dtype == ATTN_I8 ? find_scale(weights, &out->scale, form->name, want[0]) : ATTN_OK;
}

/* Elements first … first+n−1 of a row of `columns`; of blocks a whole row. */
static void read_row(float *out, const source *from, size_t row, size_t columns, size_t first, size_t n) {
    const size_t at = row * columns + first;
    const attn_tensor *stored = &from->stored.tensor;
    const uint16_t *halves = stored->data;
    if (from->stored.blocks) {
        attn_gguf_dequantise(out, from->stored.blocks, at, n);
    } else if (stored->dtype == ATTN_F32) {
        memcpy(out, (const float *)stored->data + at, n * sizeof *out);
    } else if (stored->dtype == ATTN_BF16) {
        for (size_t i = 0; i < n; i++) out[i] = attn_float_of_bf16(halves[at + i]);
    } else if (stored->dtype == ATTN_F16) {
        for (size_t i = 0; i < n; i++) out[i] = attn_float_of_f16(halves[at + i]);
    } else {
        const int8_t *q = (const int8_t *)stored->data + at;
        for (size_t i = 0; i < n; i++) out[i] = from->scale[row] * (float)q[i];
    }
}

static attn_status read_transposed(attn_context *ctx, float *out, const source *from, size_t first, size_t n) {
    const size_t k = from->stored.tensor.shape[0], columns = from->stored.tensor.shape[1];
    float *row = attn_alloc(ctx, n, sizeof *row);
    if (!row) return ATTN_E_NOMEM;
    for (size_t r = 0; r < k; r++) {
        read_row(row, from, r, columns, first, n);
        for (size_t i = 0; i < n; i++) out[i * k + r] = row[i];
    }
    attn_release(ctx, row);
    return ATTN_OK;
}

size_t attn_stored_row(const attn_stored_form *form, size_t r) {
    const size_t d = form->paired, half = d / 2;
    return d ? r - r % d + r % d % half * 2 + r % d / half : r;
}

static attn_status read_stored(attn_context *ctx, const attn_tensor *value, const source *from) {
    float *out = value->data;
    const attn_stored_form *form = from->form;
    const size_t count = attn_tensor_count(value), n = value->rank ? value->shape[0] : 1, first = form->part * n;
    if (form->transposed && value->rank == 2) {
        ATTN_TRY(read_transposed(ctx, out, from, first, n));
    } else if (value->rank < 2 && !form->paired) {
        read_row(out, from, 0, n, first, count);
    } else {
        const size_t columns = n ? count / n : 0;
        for (size_t r = 0; r < n; r++)
            read_row(out + r * columns, from, first + attn_stored_row(form, r), columns, 0, columns);
    }
    if (form->offset != 0)
        for (size_t i = 0; i < count; i++) out[i] += form->offset;
    return ATTN_OK;
}

size_t attn_find_not_finite(const float *x, size_t count) {
    size_t i = 0;
    while (i < count && isfinite(x[i])) i++;
    return i;
}

/* ---- a matrix that stays what it is ------------------------------------------------------------------ */

static bool is_integers(const source *from, attn_quantised_form *out, int rank) {
    const attn_stored *stored = &from->stored;
    *out = ATTN_QUANTISED_I8;
    if (rank != 2 || from->form->transposed || from->form->offset != 0) return false;
    return stored->blocks ? attn_quantised_form_named(out, attn_gguf_type_name(stored->blocks->type))
                          : stored->tensor.dtype == ATTN_I8;
}

static attn_status take_integers(attn_model *model, attn_parameter **out, const char *name, const source *from,
                                 attn_quantised_form form, const size_t shape[2]) {
    attn_context *ctx = model->ctx;
    const size_t n = shape[0], k = shape[1], first = from->form->part * n;
    const char *data = from->stored.blocks ? from->stored.blocks->data : from->stored.tensor.data;
    size_t elements = 1, bytes = 1;
    if (from->stored.blocks) attn_gguf_type_block(from->stored.blocks->type, &elements, &bytes);
    const void **row = attn_alloc(ctx, n, sizeof *row);
    float *scale = attn_alloc(ctx, n, sizeof *scale);
    attn_status status = row && scale ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t r = 0; r < n && status == ATTN_OK; r++) {
        const size_t at = first + attn_stored_row(from->form, r);
        row[r] = data + at * (k / elements * bytes);
        scale[r] = from->scale ? from->scale[at] : 0;
    }
    attn_quantised *w = NULL;
    if (status == ATTN_OK)
        status = attn_quantised_create(&w, ctx, attn_parameters_store(model->parameters), form, n, k, row, scale);
    if (status == ATTN_OK) status = attn_parameters_add_quantised(model->parameters, out, name, w, n, k);
    if (status == ATTN_E_NUMERIC) {
        char what[256];
        snprintf(what, sizeof what, "%s", attn_error(ctx));
        attn_fail(ctx, status, "%s: tensor \"%s\": %s", from->stored.path, from->form->name, what);
    }
    attn_release(ctx, row);
    attn_release(ctx, scale);
    return status;
}

attn_status attn_weights_take(const attn_weights *weights, attn_model *model, attn_parameter **out, const char *name,
                              int rank, const size_t *shape) {
    const attn_stored_form form = attn_model_stored_form(model, name);
    source from;
    attn_quantised_form integers;
    if (form.optional && !attn_weights_find(weights, NULL, form.name))
        return attn_parameters_add(model->parameters, out, name, ATTN_INIT_ZERO, 0, rank, shape);
    ATTN_TRY(find_stored(weights, &from, &form, rank, shape));
    if (model->keeps_integers && is_integers(&from, &integers, rank))
        return take_integers(model, out, name, &from, integers, shape);
    ATTN_TRY(attn_parameters_add(model->parameters, out, name, ATTN_INIT_ZERO, 0, rank, shape));
    const attn_tensor *value = &(*out)->value;
    ATTN_TRY(read_stored(model->ctx, value, &from)); /* blocks, too, become f32 here */
    size_t count = attn_tensor_count(value), bad = attn_find_not_finite(value->data, count);
    return bad == count ? ATTN_OK
                        : attn_fail(model->ctx, ATTN_E_NUMERIC, "%s: tensor \"%s\": element %zu is not a finite number",
                                    from.stored.path, form.name, bad);
}

/* ---- tensors that belong to nothing ------------------------------------------------------------------ */

static bool is_stored_name(const attn_model *model, const char *name) {
    for (size_t i = 0; i < attn_parameters_count(model->parameters); i++)
        if (!strcmp(attn_model_stored_form(model, attn_parameters_at(model->parameters, i)->name).name, name))
            return true;
    return false;
}

static bool is_scale(const attn_weights *weights, const attn_model *model, const char *name) {
    char base[256] = "";
    size_t bytes = strlen(name);
    if (bytes > 6 && bytes < sizeof base && !strcmp(name + bytes - 6, ".scale")) memcpy(base, name, bytes - 6);
    attn_stored matrix;
    return attn_weights_find(weights, &matrix, base) && matrix.tensor.dtype == ATTN_I8 && is_stored_name(model, base);
}

attn_status attn_weights_check_extra(const attn_weights *weights, const attn_model *model) {
    for (size_t i = 0; i < count_stored(weights); i++) {
        const attn_stored stored = stored_at(weights, i);
        if (is_stored_name(model, stored.name) || is_scale(weights, model, stored.name)) continue;
        if (model->class->ignores && model->class->ignores(model, stored.name)) continue;
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%.100s\" does not belong to this %s model",
                         stored.path, stored.name, model->class->type);
    }
    for (size_t i = 0; weights->adapter && i < attn_safetensors_count(weights->adapter); i++) {
        const char *name = attn_safetensors_at(weights->adapter, i)->name;
        const size_t skip =
            strncmp(name, ATTN_ADAPTER_PREFIX, sizeof ATTN_ADAPTER_PREFIX - 1) ? 0 : sizeof ATTN_ADAPTER_PREFIX - 1;
        if (strstr(name, ".lora_") || is_stored_name(model, name + skip)) continue; /* see attn_adapter_merge */
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%.100s\" does not belong to this %s model",
                         weights->adapter_path, name, model->class->type);
    }
    return ATTN_OK;
}
