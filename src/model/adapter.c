/* adapter.c: low-rank adapters (Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models").
 *
 *     y = W x + (alpha / r) B A x,   A (r, K), B (N, r);  W stays, A and B are learned, B is 0 at first
 *
 * A model that is trained so is saved as package peft does: adapter_config.json says where the base is, and
 * adapter_model.safetensors has A and B, "base_model.model." + the weight's name + ".lora_A.weight", and what else was
 * learned. Reading such a folder reads the base and adds (alpha / r) B A to its weights. */
#include "model/weights.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CONFIG = 1 << 20, NAME = 256 };
static const char prefix[] = ATTN_ADAPTER_PREFIX, config_file[] = "adapter_config.json",
                  tensor_file[] = "adapter_model.safetensors";
static const char a_suffix[] = ".lora_a", b_suffix[] = ".lora_b";

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* What the matrices of a weight ("layers.0.query.weight") are called in the file. GPT-2 stores queries, keys and values
 * as one, which peft gives one adapter: ours are of the parts, and numbered. */
static void file_name(const attn_model *model, char out[NAME], const char *weight, char matrix) {
    const attn_stored_form form = attn_model_stored_form(model, weight);
    size_t n = strlen(form.name);
    if (ends_with(form.name, ".weight")) n -= 7;
    if (form.parts > 1) snprintf(out, NAME, "%s%.*s.%zu.lora_%c.weight", prefix, (int)n, form.name, form.part, matrix);
    else snprintf(out, NAME, "%s%.*s.lora_%c.weight", prefix, (int)n, form.name, matrix);
}

/* A learned parameter's name in the file. */
static void learned_name(const attn_model *model, char out[NAME], const char *name) {
    const bool a = ends_with(name, a_suffix), b = ends_with(name, b_suffix);
    char weight[NAME];
    if (a || b) {
        snprintf(weight, sizeof weight, "%.*s.weight", (int)(strlen(name) - (sizeof a_suffix - 1)), name);
        file_name(model, out, weight, a ? 'A' : 'B');
    } else {
        snprintf(out, NAME, "%s%s", prefix, attn_model_stored_form(model, name).name);
    }
}

/* ---- saving ------------------------------------------------------------------------------------------- */

/* The last parts of the names of weights that have adapters: "q_proj", "v_proj" … */
static json_t *target_modules(const attn_model *model) {
    json_t *list = json_array();
    for (size_t i = 0; i < attn_parameters_count(model->parameters); i++) {
        const char *name = attn_parameters_at(model->parameters, i)->name;
        char full[NAME], *end, *begin;
        if (!ends_with(name, a_suffix)) continue;
        learned_name(model, full, name);
        if (!(end = strstr(full, ".lora_A"))) continue;
        *end = '\0';
        begin = strrchr(full, '.');
        bool there = false;
        for (size_t k = 0; k < json_array_size(list); k++)
            there |= !strcmp(json_string_value(json_array_get(list, k)), begin + 1);
        if (!there) json_array_append_new(list, json_string(begin + 1));
    }
    return list;
}

static attn_status save_config(const attn_model *model, const char *folder) {
    const attn_adapter *adapter = model->adapter;
    char path[ATTN_MODEL_PATH], *text;
    const bool classifies = attn_model_labels(model) > 0;
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:I, s:f, s:f, s:s, s:b, s:b, s:o}", "peft_type", "LORA", "task_type",
                  classifies ? "SEQ_CLS" : "CAUSAL_LM", "base_model_name_or_path", adapter->base ? adapter->base : "",
                  "r", (json_int_t)adapter->rank, "lora_alpha", (double)adapter->alpha, "lora_dropout", 0.0, "bias",
                  "none", "fan_in_fan_out", !strcmp(model->class->type, "gpt2"), "inference_mode", 1, "target_modules",
                  target_modules(model));
    if (root && classifies) json_object_set_new(root, "modules_to_save", json_pack("[s]", "score"));
    ATTN_TRY(attn_json_text(model->ctx, &text, root));
    attn_status status = attn_model_path(model->ctx, path, folder, config_file);
    if (status == ATTN_OK) status = attn_file_write(model->ctx, path, text, strlen(text));
    attn_release(model->ctx, text);
    return status;
}

attn_status attn_adapter_save(const attn_model *model, const char *folder) {
    attn_context *ctx = model->ctx;
    const size_t all = attn_parameters_count(model->parameters);
    char path[ATTN_MODEL_PATH];
    size_t n = 0;
    attn_named_tensor *tensor = attn_alloc(ctx, all, sizeof *tensor);
    char(*name)[NAME] = attn_alloc(ctx, all, sizeof *name);
    attn_status status = tensor && name ? attn_model_path(ctx, path, folder, tensor_file) : ATTN_E_NOMEM;
    for (size_t i = 0; i < all && status == ATTN_OK; i++) {
        const attn_parameter *p = attn_parameters_at(model->parameters, i);
        if (p->frozen) continue;
        learned_name(model, name[n], p->name);
        tensor[n] = (attn_named_tensor){name[n], p->value};
        n++;
    }
    const attn_key_value metadata[] = {{"format", "pt"}};
    if (status == ATTN_OK) status = attn_safetensors_save(ctx, path, tensor, n, metadata, ATTN_COUNT(metadata));
    if (status == ATTN_OK) status = save_config(model, folder);
    attn_release(ctx, tensor);
    attn_release(ctx, name);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------ */

attn_status attn_adapter_read(attn_model *model, const char *folder) {
    char path[ATTN_MODEL_PATH], name[NAME];
    attn_safetensors *file;
    ATTN_TRY(attn_model_path(model->ctx, path, folder, tensor_file));
    ATTN_TRY(attn_safetensors_open(&file, model->ctx, path));
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < attn_parameters_count(model->parameters) && status == ATTN_OK; i++) {
        attn_parameter *p = attn_parameters_at(model->parameters, i);
        if (p->frozen) continue;
        learned_name(model, name, p->name);
        const attn_named_tensor *found = attn_safetensors_find(file, name);
        const size_t n = attn_tensor_count(&p->value);
        if (!found || found->tensor.dtype != ATTN_F32 || attn_tensor_count(&found->tensor) != n) {
            status = attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" does not fit the model", path, name);
            break;
        }
        memcpy(p->value.data, found->tensor.data, n * sizeof(float));
        attn_parameter_touch(p);
    }
    attn_safetensors_close(file);
    return status;
}

bool attn_adapter_is_there(attn_context *ctx, const char *folder) {
    char path[ATTN_MODEL_PATH];
    return attn_model_path(ctx, path, folder, config_file) == ATTN_OK && access(path, F_OK) == 0;
}

/* What would change the result and is not understood: the only values that are. */
static attn_status check_config(attn_context *ctx, const char *path, const json_t *root) {
    static const char *const off[] = {"use_dora",      "use_rslora", "rank_pattern",
                                      "alpha_pattern", "lora_bias",  "layer_replication"};
    const char *type = json_string_value(json_object_get(root, "peft_type"));
    if (!type || strcmp(type, "LORA") != 0)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: \"peft_type\": expected \"LORA\", found \"%.40s\"", path,
                         type ? type : "nothing");
    for (size_t i = 0; i < ATTN_COUNT(off); i++) {
        const json_t *value = json_object_get(root, off[i]);
        if (json_is_true(value) || json_object_size(value) || json_array_size(value))
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: \"%s\": expected none, found some", path, off[i]);
    }
    return ATTN_OK;
}

static attn_status read_config(attn_context *ctx, const char *path, const json_t *root, float *scale, char **base) {
    const json_t *r = json_object_get(root, "r"), *alpha = json_object_get(root, "lora_alpha");
    const char *name = json_string_value(json_object_get(root, "base_model_name_or_path"));
    if (!json_is_object(root))
        return attn_fail(ctx, ATTN_E_FORMAT, "%s: expected an object, found another value", path);
    ATTN_TRY(check_config(ctx, path, root));
    if (!json_is_integer(r) || json_integer_value(r) < 1 || json_integer_value(r) > 1 << 20)
        return attn_fail(ctx, ATTN_E_FORMAT, "%s: \"r\": expected an integer above 0", path);
    if (!json_is_number(alpha)) return attn_fail(ctx, ATTN_E_FORMAT, "%s: \"lora_alpha\": expected a number", path);
    if (!name || !*name)
        return attn_fail(ctx, ATTN_E_FORMAT, "%s: \"base_model_name_or_path\": expected the base's folder", path);
    *scale = (float)(json_number_value(alpha) / (double)json_integer_value(r));
    *base = attn_copy_text(ctx, name, strlen(name));
    return *base ? ATTN_OK : ATTN_E_NOMEM;
}

attn_status attn_adapter_base(attn_context *ctx, const char *folder, float *scale, char **base) {
    char path[ATTN_MODEL_PATH];
    json_t *root;
    *base = NULL;
    ATTN_TRY(attn_model_path(ctx, path, folder, config_file));
    ATTN_TRY(attn_model_read_json(ctx, &root, path, MAX_CONFIG, JSON_REJECT_DUPLICATES));
    attn_status status = read_config(ctx, path, root, scale, base);
    json_decref(root);
    return status;
}

/* ---- merging ------------------------------------------------------------------------------------------ */

/* W += scale · B A. */
static void add_product(float *w, const float *b, const float *a, size_t n, size_t k, size_t r, float scale) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < r; j++) {
            const float factor = scale * b[i * r + j];
            for (size_t c = 0; c < k; c++) w[i * k + c] += factor * a[j * k + c];
        }
}

static attn_status merge_weight(attn_model *model, const attn_safetensors *file, const char *path, attn_parameter *p,
                                float scale, size_t *used) {
    char name[2][NAME];
    const attn_named_tensor *found[2];
    for (int i = 0; i < 2; i++) {
        file_name(model, name[i], p->name, "AB"[i]);
        found[i] = attn_safetensors_find(file, name[i]);
    }
    if (!found[0] && !found[1]) return ATTN_OK;
    if (!found[0] || !found[1])
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" is missing", path, name[!found[0] ? 0 : 1]);
    const attn_tensor *a = &found[0]->tensor, *b = &found[1]->tensor;
    const size_t n = p->value.shape[0], k = p->value.shape[1];
    if (a->dtype != ATTN_F32 || b->dtype != ATTN_F32 || a->rank != 2 || b->rank != 2 || a->shape[1] != k ||
        b->shape[0] != n || a->shape[0] != b->shape[1])
        return attn_fail(model->ctx, ATTN_E_FORMAT,
                         "%s: tensors \"%s\" and B: expected F32 of shapes (r, %zu) and (%zu, r), found others", path,
                         name[0], k, n);
    const size_t r = a->shape[0];
    if (attn_find_not_finite(a->data, r * k) < r * k || attn_find_not_finite(b->data, n * r) < n * r)
        return attn_fail(model->ctx, ATTN_E_NUMERIC, "%s: tensor \"%s\" or B is not finite", path, name[0]);
    add_product(p->value.data, b->data, a->data, n, k, r, scale);
    *used += 2;
    return ATTN_OK;
}

attn_status attn_adapter_merge(attn_model *model, const attn_safetensors *file, const char *path, float scale) {
    size_t used = 0, matrices = 0;
    for (size_t i = 0; i < attn_parameters_count(model->parameters); i++) {
        attn_parameter *p = attn_parameters_at(model->parameters, i);
        if (p->value.rank == 2) ATTN_TRY(merge_weight(model, file, path, p, scale, &used));
    }
    for (size_t i = 0; i < attn_safetensors_count(file); i++)
        matrices += strstr(attn_safetensors_at(file, i)->name, ".lora_") != NULL;
    if (used != matrices)
        return attn_fail(model->ctx, ATTN_E_FORMAT, "%s: %zu of %zu matrices belong to no weight of this %s model",
                         path, matrices - used, matrices, model->class->type);
    return ATTN_OK;
}
