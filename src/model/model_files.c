/* model_files.c: a model's folder: config.json and model.safetensors.
 *
 * Weights are stored as F32, BF16, or I8. An I8 matrix W (N, K) has beside it `name.scale` (N) in F32:
 *     W[n][k] = scale[n] · q[n][k],  scale[n] = max_k |W[n][k]| / 127
 * Vectors stay F32. Whatever is stored, a loaded model computes in f32.                                */
#include "model/model.h"

#include <attn/io.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PATH = 4096 };

static attn_status join(attn_context *ctx, char path[MAX_PATH], const char *folder, const char *file) {
    int n = snprintf(path, MAX_PATH, "%s/%s", folder, file);
    return n < MAX_PATH
               ? ATTN_OK
               : attn_fail(ctx, ATTN_E_ARGUMENT, "%.60s…: the path is longer than %d bytes", folder, MAX_PATH - 1);
}

/* ---- loading -------------------------------------------------------------------------------------- */

static bool same_shape(const attn_tensor *a, const attn_tensor *b) {
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

static const char *shape_text(char out[96], const attn_tensor *t) {
    size_t at = 0;
    for (int i = 0; i < t->rank && at < 90; i++)
        at += (size_t)snprintf(out + at, 96 - at, "%s%zu", i ? ", " : "", t->shape[i]);
    if (t->rank == 0) out[0] = 0;
    return out;
}

static attn_status load_i8(const attn_model *model, const char *path, const attn_safetensors *file, attn_parameter *p,
                           const attn_tensor *stored) {
    char name[256];
    snprintf(name, sizeof name, "%s.scale", p->name);
    const attn_named_tensor *scale = attn_safetensors_find(file, name);
    size_t rows = p->value.shape[0], columns = attn_tensor_count(&p->value) / (rows ? rows : 1);
    if (!scale || scale->tensor.dtype != ATTN_F32 || scale->tensor.rank != 1 || scale->tensor.shape[0] != rows)
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32 (%zu), %s", path, name, rows,
                         scale ? "found another dtype or shape" : "found none");
    const int8_t *q = stored->data;
    const float *s = scale->tensor.data;
    float *w = p->value.data;
    for (size_t n = 0; n < rows; n++)
        for (size_t k = 0; k < columns; k++) w[n * columns + k] = s[n] * (float)q[n * columns + k];
    return ATTN_OK;
}

static attn_status load_parameter(const attn_model *model, const char *path, const attn_safetensors *file,
                                  attn_parameter *p) {
    const attn_named_tensor *found = attn_safetensors_find(file, p->name);
    char have[96], want[96];
    if (!found) return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" is missing", path, p->name);
    const attn_tensor *stored = &found->tensor;
    if (!same_shape(stored, &p->value))
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected shape (%s), found (%s)", path, p->name,
                         shape_text(want, &p->value), shape_text(have, stored));
    size_t count = attn_tensor_count(stored);
    switch (stored->dtype) {
    case ATTN_F32: memcpy(p->value.data, stored->data, count * sizeof(float)); break;
    case ATTN_BF16:
        for (size_t i = 0; i < count; i++) {
            uint32_t bits = (uint32_t)((const uint16_t *)stored->data)[i] << 16;
            memcpy((float *)p->value.data + i, &bits, sizeof bits);
        }
        break;
    case ATTN_I8: ATTN_TRY(load_i8(model, path, file, p, stored)); break;
    default:
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32, BF16 or I8, found %s", path,
                         p->name, attn_dtype_name(stored->dtype));
    }
    for (size_t i = 0; i < count; i++)
        if (!isfinite(((const float *)p->value.data)[i]))
            return attn_fail(model->ctx, ATTN_E_NUMERIC, "%s: tensor \"%s\": element %zu is not a finite number", path,
                             p->name, i);
    attn_parameter_touch(p);
    return ATTN_OK;
}

/* Every stored tensor must be a parameter, or the scale of one. */
static attn_status check_extra(const attn_model *model, const char *path, const attn_safetensors *file) {
    for (size_t i = 0; i < attn_safetensors_count(file); i++) {
        const char *name = attn_safetensors_at(file, i)->name;
        size_t bytes = strlen(name);
        char base[256] = "";
        if (bytes > 6 && bytes < sizeof base && !strcmp(name + bytes - 6, ".scale")) memcpy(base, name, bytes - 6);
        if (!attn_parameters_find(model->parameters, name) &&
            !(base[0] && attn_parameters_find(model->parameters, base)))
            return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%.100s\" does not belong to a %s model", path,
                             name, model->class->type);
    }
    return ATTN_OK;
}

static attn_status load_weights(const attn_model *model, const char *path) {
    attn_safetensors *file;
    ATTN_TRY(attn_safetensors_open(&file, model->ctx, path));
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < attn_parameters_count(model->parameters) && status == ATTN_OK; i++)
        status = load_parameter(model, path, file, attn_parameters_at(model->parameters, i));
    if (status == ATTN_OK) status = check_extra(model, path, file);
    attn_safetensors_close(file);
    return status;
}

attn_status attn_model_load(attn_model **gives, attn_context *ctx, const char *folder) {
    char path[MAX_PATH], *json;
    *gives = NULL;
    ATTN_TRY(join(ctx, path, folder, "config.json"));
    ATTN_TRY(attn_read_text(ctx, &json, NULL, path));
    attn_model *model;
    attn_status status = attn_model_create(&model, ctx, json, 0);
    attn_text_free(ctx, json);
    if (status != ATTN_OK) {
        char what[1024];
        snprintf(what, sizeof what, "%s", attn_error(ctx));
        return attn_fail(ctx, status, "%s: %s", path, what);
    }
    status = join(ctx, path, folder, "model.safetensors");
    if (status == ATTN_OK) status = load_weights(model, path);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

/* ---- saving --------------------------------------------------------------------------------------- */

static void quantise_i8(const float *w, size_t rows, size_t columns, int8_t *q, float *scale) {
    for (size_t n = 0; n < rows; n++) {
        float top = 0;
        for (size_t k = 0; k < columns; k++) top = fmaxf(top, fabsf(w[n * columns + k]));
        scale[n] = top / 127.0f;
        float inverse = top > 0 ? 127.0f / top : 0;
        for (size_t k = 0; k < columns; k++) q[n * columns + k] = (int8_t)lrintf(w[n * columns + k] * inverse);
    }
}

static void round_bf16(const float *w, size_t count, uint16_t *out) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &w[i], sizeof bits);
        out[i] = (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
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
    size_t count = attn_tensor_count(&p->value);
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
