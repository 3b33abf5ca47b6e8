/* model_files.c: a model's folder: config.json and model.safetensors.
 *
 * Weights are stored as F32, BF16, or I8. An I8 matrix W (N, K) has beside it `name.scale` (N) in F32:
 *     W[n][k] = scale[n] · q[n][k],  scale[n] = max_k |W[n][k]| / 127
 * Vectors stay F32. Whatever is stored, a loaded model computes in f32.                                */
#include "io/file.h"
#include "model/model.h"

#include <attn/io.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PATH = 4096, MAX_CONFIG = 1 << 20 };

static attn_status join(attn_context *ctx, char path[MAX_PATH], const char *folder, const char *file) {
    int n = snprintf(path, MAX_PATH, "%s/%s", folder, file);
    return n < MAX_PATH
               ? ATTN_OK
               : attn_fail(ctx, ATTN_E_ARGUMENT, "%.60s…: the path is longer than %d bytes", folder, MAX_PATH - 1);
}

/* ---- loading -------------------------------------------------------------------------------------- */

struct attn_weights {
    const char *path;
    attn_safetensors *file;
};

static const char *shape_text(char out[128], int rank, const size_t *shape) {
    int at = snprintf(out, 128, "(");
    for (int i = 0; i < rank; i++) at += snprintf(out + at, 128 - (size_t)at, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(out + at, 128 - (size_t)at, ")");
    return out;
}

/* The scales of an I8 matrix. */
static attn_status find_scale(const attn_weights *weights, const attn_model *model, const float **scale,
                              const char *name, size_t rows) {
    char scale_name[256];
    snprintf(scale_name, sizeof scale_name, "%s.scale", name);
    const attn_named_tensor *found = attn_safetensors_find(weights->file, scale_name);
    if (!found || found->tensor.dtype != ATTN_F32 || found->tensor.rank != 1 || found->tensor.shape[0] != rows)
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32 of shape (%zu), found %s",
                         weights->path, scale_name, rows, found ? "another dtype or shape" : "none");
    *scale = found->tensor.data;
    return ATTN_OK;
}

/* The stored tensor of a parameter, checked against what the model wants; scale: of I8. */
static attn_status find_stored(const attn_weights *weights, const attn_model *model, const attn_tensor **out,
                               const float **scale, const char *name, int rank, const size_t *shape) {
    const attn_named_tensor *found = attn_safetensors_find(weights->file, name);
    if (!found) return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" is missing", weights->path, name);
    const attn_tensor *stored = &found->tensor;
    if (stored->rank != rank || memcmp(stored->shape, shape, (size_t)rank * sizeof *shape) != 0) {
        char have[128], want[128];
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected shape %s, found %s", weights->path,
                         name, shape_text(want, rank, shape), shape_text(have, stored->rank, stored->shape));
    }
    if (stored->dtype != ATTN_F32 && stored->dtype != ATTN_BF16 && stored->dtype != ATTN_I8)
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32, BF16 or I8, found %s",
                         weights->path, name, attn_dtype_name(stored->dtype));
    *out = stored;
    *scale = NULL;
    return stored->dtype == ATTN_I8 ? find_scale(weights, model, scale, name, shape[0]) : ATTN_OK;
}

static void to_f32(float *out, const attn_tensor *stored, const float *scale) {
    size_t count = attn_tensor_count(stored);
    if (stored->dtype == ATTN_F32) {
        memcpy(out, stored->data, count * sizeof *out);
    } else if (stored->dtype == ATTN_BF16) {
        const uint16_t *halves = stored->data;
        for (size_t i = 0; i < count; i++) {
            uint32_t bits = (uint32_t)halves[i] << 16;
            memcpy(&out[i], &bits, sizeof bits);
        }
    } else {
        const int8_t *q = stored->data;
        size_t rows = stored->shape[0], columns = rows ? count / rows : 0;
        for (size_t n = 0; n < rows; n++)
            for (size_t k = 0; k < columns; k++) out[n * columns + k] = scale[n] * (float)q[n * columns + k];
    }
}

/* The first element that is not finite, or count. */
static size_t find_not_finite(const float *x, size_t count) {
    size_t i = 0;
    while (i < count && isfinite(x[i])) i++;
    return i;
}

attn_status attn_weights_take(const attn_weights *weights, attn_model *model, attn_parameter **out, const char *name,
                              int rank, const size_t *shape) {
    const attn_tensor *stored;
    const float *scale;
    ATTN_TRY(find_stored(weights, model, &stored, &scale, name, rank, shape));
    ATTN_TRY(attn_parameters_add(model->parameters, out, name, ATTN_INIT_ZERO, 0, rank, shape));
    float *value = (*out)->value.data;
    to_f32(value, stored, scale);
    size_t count = attn_tensor_count(stored), bad = find_not_finite(value, count);
    return bad == count ? ATTN_OK
                        : attn_fail(model->ctx, ATTN_E_NUMERIC, "%s: tensor \"%s\": element %zu is not a finite number",
                                    weights->path, name, bad);
}

/* Every stored tensor must be a parameter, or the scale of one that is stored as I8. */
static attn_status check_extra(const attn_weights *weights, const attn_model *model) {
    for (size_t i = 0; i < attn_safetensors_count(weights->file); i++) {
        const char *name = attn_safetensors_at(weights->file, i)->name;
        if (attn_parameters_find(model->parameters, name)) continue;
        char base[256] = "";
        size_t bytes = strlen(name);
        if (bytes > 6 && bytes < sizeof base && !strcmp(name + bytes - 6, ".scale")) memcpy(base, name, bytes - 6);
        const attn_named_tensor *matrix = attn_safetensors_find(weights->file, base);
        if (!matrix || matrix->tensor.dtype != ATTN_I8 || !attn_parameters_find(model->parameters, base))
            return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%.100s\" does not belong to this %s model",
                             weights->path, name, model->class->type);
    }
    return ATTN_OK;
}

/* Reads config.json, which must be a file of sensible size and text: it may come from anybody. */
static attn_status read_config(attn_context *ctx, char **gives, const char *path) {
    attn_mapping mapping;
    *gives = NULL;
    ATTN_TRY(attn_map_file(&mapping, ctx, path));
    attn_status status = ATTN_OK;
    if (mapping.bytes > MAX_CONFIG)
        status =
            attn_fail(ctx, ATTN_E_FORMAT, "%s: expected at most %d bytes, found %zu", path, MAX_CONFIG, mapping.bytes);
    else if (mapping.bytes && memchr(mapping.data, 0, mapping.bytes))
        status = attn_fail(ctx, ATTN_E_FORMAT, "%s: expected text, found a NUL byte", path);
    else if (!(*gives = attn_copy_text(ctx, (const char *)mapping.data, mapping.bytes))) status = ATTN_E_NOMEM;
    attn_unmap_file(&mapping);
    return status;
}

static attn_status configure(attn_model **gives, attn_context *ctx, const char *path) {
    char *json, what[1024];
    *gives = NULL;
    ATTN_TRY(read_config(ctx, &json, path));
    attn_status status = attn_model_configure(gives, ctx, json, 0);
    attn_release(ctx, json);
    if (status == ATTN_OK) return ATTN_OK;
    snprintf(what, sizeof what, "%s", attn_error(ctx));
    return attn_fail(ctx, status, "%s: %s", path, what);
}

static attn_status load_weights(attn_model *model, const char *path) {
    attn_weights weights = {path, NULL};
    ATTN_TRY(attn_safetensors_open(&weights.file, model->ctx, path));
    model->stored = &weights;
    attn_status status = model->class->add_parameters(model);
    if (status == ATTN_OK) status = check_extra(&weights, model);
    model->stored = NULL;
    attn_safetensors_close(weights.file);
    return status;
}

attn_status attn_model_load(attn_model **gives, attn_context *ctx, const char *folder) {
    char path[MAX_PATH];
    attn_model *model;
    *gives = NULL;
    ATTN_TRY(join(ctx, path, folder, "config.json"));
    ATTN_TRY(configure(&model, ctx, path));
    attn_status status = join(ctx, path, folder, "model.safetensors");
    if (status == ATTN_OK) status = load_weights(model, path);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

/* ---- saving --------------------------------------------------------------------------------------- */

/* Divides by the scale itself: its inverse overflows where the row is tiny. */
static void quantise_i8(const float *w, size_t rows, size_t columns, int8_t *q, float *scale) {
    for (size_t n = 0; n < rows; n++) {
        const float *row = w + n * columns;
        float top = 0;
        for (size_t k = 0; k < columns; k++) top = fmaxf(top, fabsf(row[k]));
        scale[n] = top / 127.0f;
        for (size_t k = 0; k < columns; k++)
            q[n * columns + k] = scale[n] > 0 ? (int8_t)lrintf(fminf(fmaxf(row[k] / scale[n], -127), 127)) : 0;
    }
}

/* To nearest, ties to even. */
static void round_bf16(const float *w, size_t count, uint16_t *out) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        uint32_t half = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
        out[i] = (uint16_t)((half & 0x7fff) == 0x7f80 ? half - 1 : half); /* finite stays finite */
    }
}

/* What is written: tensors with their names; owned data is released together. */
typedef struct stored_set {
    attn_named_tensor *tensor;
    void **owned;
    size_t count, owned_count;
} stored_set;

static attn_status store_parameter(const attn_model *model, stored_set *set, const attn_parameter *p,
                                   attn_dtype dtype) {
    attn_context *ctx = model->ctx;
    size_t count = attn_tensor_count(&p->value), bad = find_not_finite(p->value.data, count);
    if (bad < count) /* it could not be loaded again */
        return attn_fail(ctx, ATTN_E_NUMERIC, "tensor \"%s\": element %zu is not a finite number, nothing is saved",
                         p->name, bad);
    if (dtype == ATTN_F32 || p->value.rank < 2) {
        set->tensor[set->count++] = (attn_named_tensor){p->name, p->value};
        return ATTN_OK;
    }
    void *data = attn_alloc(ctx, count, attn_dtype_size(dtype));
    if (!data) return ATTN_E_NOMEM;
    set->owned[set->owned_count++] = data;
    set->tensor[set->count++] =
        (attn_named_tensor){p->name, attn_tensor_of(data, dtype, p->value.rank, p->value.shape)};
    if (dtype == ATTN_BF16) {
        round_bf16(p->value.data, count, data);
        return ATTN_OK;
    }
    size_t rows = p->value.shape[0], name_bytes = strlen(p->name);
    float *scale = attn_alloc(ctx, rows, sizeof *scale);
    if (!scale) return ATTN_E_NOMEM;
    set->owned[set->owned_count++] = scale;
    char *name = attn_alloc(ctx, name_bytes + 7, 1);
    if (!name) return ATTN_E_NOMEM;
    set->owned[set->owned_count++] = name;
    snprintf(name, name_bytes + 7, "%s.scale", p->name);
    set->tensor[set->count++] = (attn_named_tensor){name, attn_tensor_f32(scale, 1, rows)};
    quantise_i8(p->value.data, rows, count / (rows ? rows : 1), data, scale);
    return ATTN_OK;
}

static attn_status save_weights(const attn_model *model, const char *path, attn_dtype dtype) {
    attn_context *ctx = model->ctx;
    size_t n = attn_parameters_count(model->parameters);
    stored_set set = {attn_alloc(ctx, n, 2 * sizeof *set.tensor), attn_alloc(ctx, n, 3 * sizeof *set.owned), 0, 0};
    attn_status status = set.tensor && set.owned ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < n && status == ATTN_OK; i++)
        status = store_parameter(model, &set, attn_parameters_at(model->parameters, i), dtype);
    const attn_key_value metadata[] = {{"format", "pt"}, {"model_type", model->class->type}};
    if (status == ATTN_OK)
        status = attn_safetensors_save(ctx, path, set.tensor, set.count, metadata, ATTN_COUNT(metadata));
    for (size_t i = 0; i < set.owned_count; i++) attn_release(ctx, set.owned[i]);
    attn_release(ctx, set.owned);
    attn_release(ctx, set.tensor);
    return status;
}

attn_status attn_model_save(const attn_model *model, const char *folder, attn_dtype dtype) {
    char path[MAX_PATH];
    if (dtype != ATTN_F32 && dtype != ATTN_BF16 && dtype != ATTN_I8)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "weights are saved as F32, BF16 or I8, not %s",
                         attn_dtype_name(dtype));
    ATTN_TRY(attn_folder_make(model->ctx, folder));
    ATTN_TRY(join(model->ctx, path, folder, "model.safetensors"));
    ATTN_TRY(save_weights(model, path, dtype));
    ATTN_TRY(join(model->ctx, path, folder, "config.json"));
    return attn_file_write(model->ctx, path, model->config, strlen(model->config));
}
