/* weights.c: stored tensors become parameters. See weights.h. */
#include "model/weights.h"

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
    char *text;
    json_error_t error;
    ATTN_TRY(attn_model_read_text(weights->ctx, &text, path, MAX_INDEX));
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error), *value;
    attn_release(weights->ctx, text);
    if (!root) return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: line %d: %s", path, error.line, error.text);
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

attn_status attn_weights_open(attn_weights **gives, attn_context *ctx, const char *folder) {
    char path[ATTN_MODEL_PATH], index[ATTN_MODEL_PATH];
    *gives = NULL;
    ATTN_TRY(attn_model_path(ctx, path, folder, "model.safetensors"));
    ATTN_TRY(attn_model_path(ctx, index, folder, "model.safetensors.index.json"));
    attn_weights *weights = attn_alloc_zero(ctx, 1, sizeof *weights);
    if (!weights) return ATTN_E_NOMEM;
    weights->ctx = ctx;
    weights->file = attn_alloc_zero(ctx, ATTN_MAX_SHARDS, sizeof(attn_safetensors *));
    weights->path = attn_alloc_zero(ctx, ATTN_MAX_SHARDS, sizeof(char *));
    attn_status status = weights->file && weights->path ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK) {
        bool sharded = access(path, F_OK) != 0 && access(index, F_OK) == 0;
        status = sharded ? open_shards(weights, index, folder) : add_file(weights, path);
    }
    if (status == ATTN_OK) *gives = weights;
    else attn_weights_close(weights);
    return status;
}

void attn_weights_close(attn_weights *weights) {
    if (!weights) return;
    attn_context *ctx = weights->ctx;
    for (size_t i = 0; i < weights->files; i++) {
        attn_safetensors_close(weights->file[i]);
        attn_release(ctx, weights->path[i]);
    }
    attn_release(ctx, weights->file);
    attn_release(ctx, weights->path);
    attn_release(ctx, weights);
}

const attn_tensor *attn_weights_find(const attn_weights *weights, const char *name, const char **path) {
    for (size_t i = 0; i < weights->files; i++) {
        const attn_named_tensor *found = attn_safetensors_find(weights->file[i], name);
        if (path) *path = weights->path[i];
        if (found) return &found->tensor;
    }
    if (path) *path = weights->path[0];
    return NULL;
}

/* ---- one tensor ------------------------------------------------------------------------------------ */

static const char *shape_text(char out[128], int rank, const size_t *shape) {
    int at = snprintf(out, 128, "(");
    for (int i = 0; i < rank; i++) at += snprintf(out + at, 128 - (size_t)at, "%s%zu", i ? ", " : "", shape[i]);
    snprintf(out + at, 128 - (size_t)at, ")");
    return out;
}

/* The scales of an I8 matrix. */
static attn_status find_scale(const attn_weights *weights, const float **scale, const char *name, size_t rows) {
    char scale_name[256];
    const char *path;
    snprintf(scale_name, sizeof scale_name, "%s.scale", name);
    const attn_tensor *found = attn_weights_find(weights, scale_name, &path);
    if (!found || found->dtype != ATTN_F32 || found->rank != 1 || found->shape[0] != rows)
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32 of shape (%zu), found %s", path,
                         scale_name, rows, found ? "another dtype or shape" : "none");
    *scale = found->data;
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

static attn_status find_stored(const attn_weights *weights, const attn_tensor **out, const float **scale,
                               const char **path, const attn_stored_form *form, int rank, const size_t *shape) {
    const attn_tensor *stored = attn_weights_find(weights, form->name, path);
    size_t want[ATTN_MAX_RANK];
    if (!stored) return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" is missing", *path, form->name);
    stored_shape(want, form, rank, shape);
    if (stored->rank != rank || memcmp(stored->shape, want, (size_t)rank * sizeof *want) != 0) {
        char have[128], expected[128];
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected shape %s, found %s", *path,
                         form->name, shape_text(expected, rank, want), shape_text(have, stored->rank, stored->shape));
    }
    if (stored->dtype != ATTN_F32 && stored->dtype != ATTN_BF16 && stored->dtype != ATTN_F16 &&
        stored->dtype != ATTN_I8)
        return attn_fail(weights->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\": expected F32, BF16, F16 or I8, found %s",
                         *path, form->name, attn_dtype_name(stored->dtype));
    *out = stored;
    *scale = NULL;
    return stored->dtype == ATTN_I8 ? find_scale(weights, scale, form->name, want[0]) : ATTN_OK;
}

/* IEEE half to float: exact, subnormals, infinities and NaN included. */
static float from_half(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    float value;
    if (exponent == 31) bits = sign | 0x7f800000 | fraction << 13;
    if (exponent == 0) {
        value = (float)fraction * 0x1p-24f;
        return sign ? -value : value;
    }
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Elements first … first+n−1 of a row of `columns`. */
static void read_row(float *out, const attn_tensor *stored, const float *scale, size_t row, size_t columns,
                     size_t first, size_t n) {
    const size_t at = row * columns + first;
    const uint16_t *halves = (const uint16_t *)stored->data + at;
    if (stored->dtype == ATTN_F32) {
        memcpy(out, (const float *)stored->data + at, n * sizeof *out);
    } else if (stored->dtype == ATTN_BF16) {
        for (size_t i = 0; i < n; i++) {
            uint32_t bits = (uint32_t)halves[i] << 16;
            memcpy(&out[i], &bits, sizeof bits);
        }
    } else if (stored->dtype == ATTN_F16) {
        for (size_t i = 0; i < n; i++) out[i] = from_half(halves[i]);
    } else {
        const int8_t *q = (const int8_t *)stored->data + at;
        for (size_t i = 0; i < n; i++) out[i] = scale[row] * (float)q[i];
    }
}

static attn_status read_transposed(attn_context *ctx, float *out, const attn_tensor *stored, const float *scale,
                                   size_t first, size_t n) {
    const size_t k = stored->shape[0], columns = stored->shape[1];
    float *row = attn_alloc(ctx, n, sizeof *row);
    if (!row) return ATTN_E_NOMEM;
    for (size_t r = 0; r < k; r++) {
        read_row(row, stored, scale, r, columns, first, n);
        for (size_t i = 0; i < n; i++) out[i * k + r] = row[i];
    }
    attn_release(ctx, row);
    return ATTN_OK;
}

static attn_status read_stored(attn_context *ctx, const attn_tensor *value, const attn_tensor *stored,
                               const float *scale, const attn_stored_form *form) {
    float *out = value->data;
    const size_t count = attn_tensor_count(value), n = value->rank ? value->shape[0] : 1, first = form->part * n;
    if (form->transposed && value->rank == 2) {
        ATTN_TRY(read_transposed(ctx, out, stored, scale, first, n));
    } else if (value->rank < 2) {
        read_row(out, stored, scale, 0, n, first, count);
    } else {
        const size_t columns = n ? count / n : 0;
        for (size_t r = 0; r < n; r++) read_row(out + r * columns, stored, scale, first + r, columns, 0, columns);
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

attn_status attn_weights_take(const attn_weights *weights, attn_model *model, attn_parameter **out, const char *name,
                              int rank, const size_t *shape) {
    const attn_stored_form form = attn_model_stored_form(model, name);
    const attn_tensor *stored = NULL;
    const float *scale = NULL;
    const char *path = NULL;
    ATTN_TRY(find_stored(weights, &stored, &scale, &path, &form, rank, shape));
    ATTN_TRY(attn_parameters_add(model->parameters, out, name, ATTN_INIT_ZERO, 0, rank, shape));
    const attn_tensor *value = &(*out)->value;
    ATTN_TRY(read_stored(model->ctx, value, stored, scale, &form));
    size_t count = attn_tensor_count(value), bad = attn_find_not_finite(value->data, count);
    return bad == count ? ATTN_OK
                        : attn_fail(model->ctx, ATTN_E_NUMERIC, "%s: tensor \"%s\": element %zu is not a finite number",
                                    path, form.name, bad);
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
    const attn_tensor *matrix = attn_weights_find(weights, base, NULL);
    return matrix && matrix->dtype == ATTN_I8 && is_stored_name(model, base);
}

attn_status attn_weights_check_extra(const attn_weights *weights, const attn_model *model) {
    for (size_t f = 0; f < weights->files; f++)
        for (size_t i = 0; i < attn_safetensors_count(weights->file[f]); i++) {
            const char *name = attn_safetensors_at(weights->file[f], i)->name;
            if (is_stored_name(model, name) || is_scale(weights, model, name)) continue;
            if (model->class->ignores && model->class->ignores(model, name)) continue;
            return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%.100s\" does not belong to this %s model",
                             weights->path[f], name, model->class->type);
        }
    return ATTN_OK;
}
