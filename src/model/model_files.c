/* model_files.c: a model's folder: config.json and its weights; or one file that holds both. */
#include "io/file.h"
#include "model/llama2c.h"
#include "model/weights.h"
#include "text/formats.h"

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

attn_status attn_model_read_json(attn_context *ctx, json_t **gives, const char *path, size_t most, size_t flags) {
    char *text;
    json_error_t error;
    *gives = NULL;
    ATTN_TRY(attn_model_read_text(ctx, &text, path, most));
    *gives = json_loads(text, flags, &error);
    attn_release(ctx, text);
    return *gives ? ATTN_OK : attn_fail(ctx, ATTN_E_FORMAT, "%s: line %d: %s", path, error.line, error.text);
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && !strcmp(text + n - k, end);
}

bool attn_model_is_file(const char *path) {
    struct stat st;
    if (stat(path, &st) == 0) return !S_ISDIR(st.st_mode);
    return ends_with(path, ".gguf") || ends_with(path, ".bin") || ends_with(path, ".safetensors");
}

bool attn_model_is_safetensors(const char *path) { return ends_with(path, ".safetensors"); }

/* The folder that a file lies in. */
static void folder_of(char out[ATTN_MODEL_PATH], const char *path) {
    const char *slash = strrchr(path, '/');
    snprintf(out, ATTN_MODEL_PATH, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (!*out) snprintf(out, ATTN_MODEL_PATH, "/");
}

attn_status attn_model_is_gguf(attn_context *ctx, bool *out, const char *path) {
    attn_mapping mapping;
    ATTN_TRY(attn_map_file(&mapping, ctx, path));
    *out = mapping.bytes >= 4 && !memcmp(mapping.data, "GGUF", 4);
    attn_unmap_file(&mapping);
    return ATTN_OK;
}

/* A failure's sentence, with the file before it. */
static attn_status of_file(attn_context *ctx, attn_status status, const char *file) {
    if (status == ATTN_OK || status == ATTN_E_NOMEM) return status;
    return attn_fail(ctx, status, "%s: %s", file, attn_error(ctx));
}

/* The config's text: of a folder its config.json, else what the file's head says. *origin gets what messages name. */
static attn_status read_config(attn_context *ctx, char **json, char origin[ATTN_MODEL_PATH], const char *path,
                               attn_weights **weights) {
    const bool safetensors = attn_model_is_safetensors(path), file = attn_model_is_file(path);
    if (!file || safetensors) {
        char folder[ATTN_MODEL_PATH], weights_file[ATTN_MODEL_PATH];
        if (file) folder_of(folder, path);
        ATTN_TRY(attn_model_path(ctx, origin, file ? folder : path, "config.json"));
        ATTN_TRY(attn_model_path(ctx, weights_file, file ? folder : path, "model.safetensors"));
        const bool guess = access(origin, F_OK) != 0 && access(file ? path : weights_file, F_OK) == 0;
        if (!guess) {
            ATTN_TRY(attn_model_read_text(ctx, json, origin, MAX_CONFIG));
            return of_file(ctx, attn_raschka_settings(ctx, json), origin);
        }
        ATTN_TRY(attn_weights_open(weights, ctx, path));
        snprintf(origin, ATTN_MODEL_PATH, "%s", path);
        return of_file(ctx, attn_raschka_guess(ctx, json, *weights), path);
    }
    snprintf(origin, ATTN_MODEL_PATH, "%s", path);
    ATTN_TRY(attn_weights_open(weights, ctx, path));
    return (*weights)->gguf ? attn_gguf_config(ctx, json, (*weights)->gguf, path)
                            : attn_llama2c_config((*weights)->llama2c, json);
}

static attn_status configure(attn_model **gives, attn_context *ctx, const char *path, attn_weights **weights) {
    char *json = NULL, origin[ATTN_MODEL_PATH];
    attn_status status = read_config(ctx, &json, origin, path, weights);
    if (status == ATTN_OK) status = of_file(ctx, attn_model_configure(gives, ctx, json, 0), origin);
    attn_release(ctx, json);
    return status;
}

static attn_status load_weights(attn_model *model, const attn_weights *weights) {
    model->stored = weights;
    attn_status status = model->class->recognise ? model->class->recognise(model, weights) : ATTN_OK;
    if (status == ATTN_OK) status = model->class->add_parameters(model);
    if (status == ATTN_OK) status = attn_weights_check_extra(weights, model);
    model->stored = NULL;
    if (status == ATTN_OK && weights->adapter)
        status = attn_adapter_merge(model, weights->adapter, weights->adapter_path, weights->adapter_scale);
    return status;
}

attn_status attn_model_load_as(attn_model **gives, attn_context *ctx, const char *path, const char *config_json,
                               uint64_t seed) {
    attn_model *model;
    attn_weights *weights = NULL;
    *gives = NULL;
    ATTN_TRY(attn_model_configure(&model, ctx, config_json, seed));
    attn_status status = attn_weights_open(&weights, ctx, path);
    model->new_head = true;
    if (status == ATTN_OK) status = load_weights(model, weights);
    model->new_head = false;
    attn_weights_close(weights);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

static attn_status load_model(attn_model **gives, attn_context *ctx, const char *path, bool keeps_integers) {
    attn_model *model = NULL;
    attn_weights *weights = NULL;
    *gives = NULL;
    attn_status status = configure(&model, ctx, path, &weights);
    if (status == ATTN_OK && !weights) status = attn_weights_open(&weights, ctx, path);
    if (status == ATTN_OK) model->keeps_integers = keeps_integers && !model->class->encode && !weights->adapter;
    if (status == ATTN_OK) status = load_weights(model, weights);
    attn_weights_close(weights);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

attn_status attn_model_load(attn_model **gives, attn_context *ctx, const char *path) {
    return load_model(gives, ctx, path, false);
}

attn_status attn_model_load_quantised(attn_model **gives, attn_context *ctx, const char *path) {
    return load_model(gives, ctx, path, true);
}

/* ---- its tokenizer ------------------------------------------------------------------------------------ */

/* The one tokenizer of llama2.c's beside its model. */
static attn_status beside_bin(attn_context *ctx, char path[ATTN_MODEL_PATH], const char *model) {
    folder_of(path, model);
    DIR *folder = opendir(path);
    const size_t at = strlen(path);
    size_t found = 0;
    for (const struct dirent *e; folder && (e = readdir(folder)) != NULL;) {
        const bool usual = !strcmp(e->d_name, "tokenizer.bin");
        if (!usual && (found == SIZE_MAX || strncmp(e->d_name, "tok", 3) != 0 || !ends_with(e->d_name, ".bin")))
            continue;
        found = usual ? SIZE_MAX : found + 1;
        snprintf(path + at, ATTN_MODEL_PATH - at, "/%s", e->d_name);
    }
    if (folder) closedir(folder);
    if (found == 1 || found == SIZE_MAX) return ATTN_OK;
    return attn_fail(ctx, ATTN_E_IO,
                     "%s: expected a model's folder, a GGUF file, or one of llama2.c; found %zu files tok….bin beside "
                     "it, expected tokenizer.bin or one of them",
                     model, found);
}

attn_status attn_tokenizer_of_model(attn_tokenizer **gives, attn_context *ctx, const char *path) {
    static const char *const names[] = {"tokenizer.json", "tokenizer.model", "vocab.json", "encoder.json", "vocab.txt"};
    char file[ATTN_MODEL_PATH];
    *gives = NULL;
    char folder[ATTN_MODEL_PATH];
    if (attn_model_is_file(path) && attn_model_is_safetensors(path)) {
        folder_of(folder, path);
        path = folder;
    } else if (attn_model_is_file(path)) {
        bool gguf;
        ATTN_TRY(attn_model_is_gguf(ctx, &gguf, path));
        if (gguf) return attn_tokenizer_load_gguf(gives, ctx, path);
        ATTN_TRY(beside_bin(ctx, file, path));
        return attn_tokenizer_load(gives, ctx, file);
    }
    for (size_t i = 0; i < ATTN_COUNT(names); i++) {
        ATTN_TRY(attn_model_path(ctx, file, path, names[i]));
        if (access(file, F_OK) == 0) return attn_tokenizer_load(gives, ctx, file);
    }
    ATTN_TRY(attn_model_path(ctx, file, path, names[0]));
    return attn_tokenizer_load(gives, ctx, file);
}

attn_status attn_model_save(const attn_model *model, const char *folder, attn_dtype dtype) {
    char path[ATTN_MODEL_PATH];
    if (dtype != ATTN_F32 && dtype != ATTN_BF16 && dtype != ATTN_I8)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "weights are saved as F32, BF16 or I8, not %s",
                         attn_dtype_name(dtype));
    ATTN_TRY(attn_folder_make(model->ctx, folder));
    ATTN_TRY(attn_model_path(model->ctx, path, folder, "model.safetensors"));
    ATTN_TRY(model->adapter ? attn_adapter_save(model, folder) : attn_weights_save(model, path, dtype));
    ATTN_TRY(attn_model_path(model->ctx, path, folder, "config.json"));
    return attn_file_write(model->ctx, path, model->config, strlen(model->config));
}
