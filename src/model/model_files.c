/* model_files.c: a model's folder: config.json and its weights. */
#include "io/file.h"
#include "model/weights.h"

#include <stdio.h>
#include <string.h>

enum { MAX_CONFIG = 1 << 20 };

attn_status attn_model_path(attn_context *ctx, char path[ATTN_MODEL_PATH], const char *folder, const char *file) {
    int n = snprintf(path, ATTN_MODEL_PATH, "%s/%s", folder, file);
    return n < ATTN_MODEL_PATH ? ATTN_OK
                               : attn_fail(ctx, ATTN_E_ARGUMENT, "%.60s…: the path is longer than %d bytes", folder,
                                           ATTN_MODEL_PATH - 1);
}

attn_stored_form attn_model_stored_form(const attn_model *model, const char *name) {
    attn_stored_form form = {.parts = 1};
    if (model->class->stored_form) model->class->stored_form(model, &form, name);
    else snprintf(form.name, sizeof form.name, "%s", name);
    return form;
}

attn_status attn_model_read_text(attn_context *ctx, char **gives, const char *path, size_t most) {
    attn_mapping mapping;
    *gives = NULL;
    ATTN_TRY(attn_map_file(&mapping, ctx, path));
    attn_status status = ATTN_OK;
    if (mapping.bytes > most)
        status = attn_fail(ctx, ATTN_E_FORMAT, "%s: expected at most %zu bytes, found %zu", path, most, mapping.bytes);
    else if (mapping.bytes && memchr(mapping.data, 0, mapping.bytes))
        status = attn_fail(ctx, ATTN_E_FORMAT, "%s: expected text, found a NUL byte", path);
    else if (!(*gives = attn_copy_text(ctx, (const char *)mapping.data, mapping.bytes))) status = ATTN_E_NOMEM;
    attn_unmap_file(&mapping);
    return status;
}

static attn_status configure(attn_model **gives, attn_context *ctx, const char *path) {
    char *json, what[1024];
    *gives = NULL;
    ATTN_TRY(attn_model_read_text(ctx, &json, path, MAX_CONFIG));
    attn_status status = attn_model_configure(gives, ctx, json, 0);
    attn_release(ctx, json);
    if (status == ATTN_OK) return ATTN_OK;
    snprintf(what, sizeof what, "%s", attn_error(ctx));
    return attn_fail(ctx, status, "%s: %s", path, what);
}

static attn_status load_weights(attn_model *model, const char *folder) {
    attn_weights *weights;
    ATTN_TRY(attn_weights_open(&weights, model->ctx, folder));
    model->stored = weights;
    attn_status status = model->class->recognise ? model->class->recognise(model, weights) : ATTN_OK;
    if (status == ATTN_OK) status = model->class->add_parameters(model);
    if (status == ATTN_OK) status = attn_weights_check_extra(weights, model);
    model->stored = NULL;
    attn_weights_close(weights);
    return status;
}

attn_status attn_model_load(attn_model **gives, attn_context *ctx, const char *folder) {
    char path[ATTN_MODEL_PATH];
    attn_model *model;
    *gives = NULL;
    ATTN_TRY(attn_model_path(ctx, path, folder, "config.json"));
    ATTN_TRY(configure(&model, ctx, path));
    attn_status status = load_weights(model, folder);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

attn_status attn_model_save(const attn_model *model, const char *folder, attn_dtype dtype) {
    char path[ATTN_MODEL_PATH];
    if (dtype != ATTN_F32 && dtype != ATTN_BF16 && dtype != ATTN_I8)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "weights are saved as F32, BF16 or I8, not %s",
                         attn_dtype_name(dtype));
    ATTN_TRY(attn_folder_make(model->ctx, folder));
    ATTN_TRY(attn_model_path(model->ctx, path, folder, "model.safetensors"));
    ATTN_TRY(attn_weights_save(model, path, dtype));
    ATTN_TRY(attn_model_path(model->ctx, path, folder, "config.json"));
    return attn_file_write(model->ctx, path, model->config, strlen(model->config));
}
