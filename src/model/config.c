/* config.c: a model's config.json by a table of fields. */
#include "model/model.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *json_type_name(const json_t *value) {
    static const char *const names[] = {"an object", "an array", "a string", "an integer",
                                        "a number",  "true",     "false",    "null"};
    return names[json_typeof(value)];
}

static attn_status wrong_type(attn_context *ctx, const char *key, const char *expected, const json_t *value) {
    return attn_fail(ctx, ATTN_E_FORMAT, "config: \"%s\": expected %s, found %s", key, expected, json_type_name(value));
}

static attn_status set_number(attn_context *ctx, char *at, const attn_field *field, double x) {
    if (!(x >= field->low && x <= field->high))
        return attn_fail(ctx, ATTN_E_FORMAT, "config: \"%s\": expected %.9g to %.9g, found %.9g", field->key,
                         field->low, field->high, x);
    if (field->kind == ATTN_FIELD_FLOAT) *(float *)at = (float)x;
    else *(size_t *)at = (size_t)x;
    return ATTN_OK;
}

static attn_status set_choice(attn_context *ctx, char *at, const attn_field *field, const char *text) {
    attn_buffer list = ATTN_BUFFER_INIT(ctx);
    for (int i = 0; field->choices[i]; i++) {
        if (!strcmp(field->choices[i], text)) {
            *(int *)at = i;
            attn_buffer_free(&list);
            return ATTN_OK;
        }
        attn_buffer_printf(&list, "%s\"%s\"", i ? ", " : "", field->choices[i]);
    }
    attn_status status = attn_fail(ctx, ATTN_E_FORMAT, "config: \"%s\": expected one of %s, found \"%.40s\"",
                                   field->key, list.data ? list.data : "(none)", text);
    attn_buffer_free(&list);
    return status;
}

static attn_status set_field(attn_context *ctx, char *at, const attn_field *field, const json_t *value) {
    switch (field->kind) {
    case ATTN_FIELD_SIZE:
        if (!json_is_integer(value)) return wrong_type(ctx, field->key, "an integer", value);
        return set_number(ctx, at, field, (double)json_integer_value(value));
    case ATTN_FIELD_FLOAT:
        if (!json_is_number(value)) return wrong_type(ctx, field->key, "a number", value);
        return set_number(ctx, at, field, json_number_value(value));
    case ATTN_FIELD_BOOL:
        if (!json_is_boolean(value)) return wrong_type(ctx, field->key, "true or false", value);
        *(bool *)at = json_is_true(value);
        return ATTN_OK;
    case ATTN_FIELD_CHOICE:
        if (!json_is_string(value)) return wrong_type(ctx, field->key, "a string", value);
        return set_choice(ctx, at, field, json_string_value(value));
    }
    return ATTN_OK;
}

static attn_status set_fallback(attn_context *ctx, char *at, const attn_field *field) {
    switch (field->kind) {
    case ATTN_FIELD_SIZE:
    case ATTN_FIELD_FLOAT:
        if (field->fallback < field->low) return attn_fail(ctx, ATTN_E_FORMAT, "config: \"%s\" is missing", field->key);
        return set_number(ctx, at, field, field->fallback);
    case ATTN_FIELD_BOOL: *(bool *)at = field->fallback != 0; break;
    case ATTN_FIELD_CHOICE: *(int *)at = (int)field->fallback; break;
    }
    return ATTN_OK;
}

static bool has_meaning(const attn_field *field, const char *model_type) {
    return !field->only || !strcmp(field->only, model_type);
}

static attn_status unknown_key(attn_context *ctx, const char *key, const char *model_type, const attn_field *fields,
                               size_t n) {
    attn_buffer list = ATTN_BUFFER_INIT(ctx);
    for (size_t i = 0; i < n; i++)
        if (has_meaning(&fields[i], model_type))
            attn_buffer_printf(&list, "%s%s", list.bytes ? ", " : "", fields[i].key);
    attn_status status = attn_fail(ctx, ATTN_E_FORMAT, "config: unknown key \"%.60s\", expected one of %s", key,
                                   list.data ? list.data : "none");
    attn_buffer_free(&list);
    return status;
}

static attn_status check_key(attn_context *ctx, const char *key, const char *model_type, const attn_field *fields,
                             size_t n) {
    if (!strcmp(key, "model_type") || key[0] == '_') return ATTN_OK;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(key, fields[i].key) != 0) continue;
        if (has_meaning(&fields[i], model_type)) return ATTN_OK;
        return attn_fail(ctx, ATTN_E_FORMAT, "config: \"%s\" has no meaning for \"%s\", only for \"%s\"", key,
                         model_type, fields[i].only);
    }
    return unknown_key(ctx, key, model_type, fields, n);
}

static attn_status read_object(attn_context *ctx, char *config, const char *model_type, const attn_field *fields,
                               size_t n, json_t *root) {
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) ATTN_TRY(check_key(ctx, key, model_type, fields, n));
    for (size_t i = 0; i < n; i++) {
        value = json_object_get(root, fields[i].key);
        if (value) ATTN_TRY(set_field(ctx, config + fields[i].offset, &fields[i], value));
        else ATTN_TRY(set_fallback(ctx, config + fields[i].offset, &fields[i]));
    }
    return ATTN_OK;
}

attn_status attn_config_read(attn_context *ctx, void *config, const char *model_type, const attn_field *fields,
                             size_t n, const char *json) {
    json_error_t error;
    json_t *root = json_loads(json, JSON_REJECT_DUPLICATES, &error);
    if (!root) return attn_fail(ctx, ATTN_E_FORMAT, "config: line %d: %s", error.line, error.text);
    attn_status status = json_is_object(root) ? read_object(ctx, config, model_type, fields, n, root)
                                              : attn_fail(ctx, ATTN_E_FORMAT, "config: expected an object, found %s",
                                                          json_type_name(root));
    json_decref(root);
    return status;
}

/* ---- what package transformers writes ------------------------------------------------------------------- */

const char *const attn_foreign_activations[] = {"gelu_new", "gelu_pytorch_tanh", "gelu", "relu", "silu", "swish", NULL};

attn_activation attn_foreign_activation(int choice) {
    static const attn_activation activations[] = {ATTN_GELU_TANH, ATTN_GELU_TANH, ATTN_GELU,
                                                  ATTN_RELU,      ATTN_SILU,      ATTN_SILU};
    return activations[choice];
}

static attn_status check_fixed(attn_context *ctx, const json_t *root, const struct attn_fixed_key *fixed) {
    for (; fixed->key; fixed++) {
        json_t *found = json_object_get(root, fixed->key), *want = json_loads(fixed->value, JSON_DECODE_ANY, NULL);
        if (!want) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: the config");
        const bool same = !found || json_is_null(found) || json_equal(found, want) ||
                          (json_is_number(found) && json_number_value(found) == json_number_value(want));
        json_decref(want);
        if (!same)
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "config: \"%s\": expected %s, found another value", fixed->key,
                             fixed->value);
    }
    return ATTN_OK;
}

static const attn_field *find_field(const attn_field *fields, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++)
        if (!strcmp(fields[i].key, key)) return &fields[i];
    return NULL;
}

static bool is_known(const char *key, const attn_foreign_keys *keys) {
    for (const char *const *passed = keys->passed; *passed; passed++)
        if (!strcmp(key, *passed)) return true;
    for (const struct attn_fixed_key *fixed = keys->fixed; fixed->key; fixed++)
        if (!strcmp(key, fixed->key)) return true;
    return !strcmp(key, "model_type") || key[0] == '_';
}

/* The keys of the table as an object by itself. */
static attn_status select_keys(attn_context *ctx, json_t *out, json_t *root, const char *model_type,
                               const attn_field *fields, size_t n, const attn_foreign_keys *keys) {
    const bool foreign = json_object_get(root, "architectures") || json_object_get(root, "transformers_version");
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        const attn_field *field = find_field(fields, n, key);
        if (!field && !foreign && !is_known(key, keys)) return unknown_key(ctx, key, model_type, fields, n);
        if (!field) continue;
        if (!json_is_null(value)) json_object_set(out, key, value);
        else if (field->kind <= ATTN_FIELD_FLOAT && field->low == 0) json_object_set_new(out, key, json_integer(0));
    }
    return ATTN_OK;
}

attn_status attn_config_read_foreign(attn_context *ctx, void *config, const char *model_type, const attn_field *fields,
                                     size_t n, json_t *root, const attn_foreign_keys *keys) {
    ATTN_TRY(check_fixed(ctx, root, keys->fixed));
    json_t *selected = json_object();
    if (!selected) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: the config");
    attn_status status = select_keys(ctx, selected, root, model_type, fields, n, keys);
    if (status == ATTN_OK) status = read_object(ctx, config, model_type, fields, n, selected);
    json_decref(selected);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

/* The float as the shortest decimal that reads back as it, so that 0.3 is written 0.3. */
static double shortest(float x) {
    char text[32];
    double decimal = (double)x;
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)x);
        decimal = strtod(text, NULL); /* in the same locale */
        if ((float)decimal == x) break;
    }
    return decimal;
}

static json_t *field_json(const attn_field *field, const char *at) {
    switch (field->kind) {
    case ATTN_FIELD_SIZE: return json_integer((json_int_t) * (const size_t *)at);
    case ATTN_FIELD_FLOAT: return json_real(shortest(*(const float *)at));
    case ATTN_FIELD_BOOL: return json_boolean(*(const bool *)at);
    case ATTN_FIELD_CHOICE: return json_string(field->choices[*(const int *)at]);
    }
    return NULL;
}

static int add_text(const char *text, size_t bytes, void *out) {
    attn_buffer_add(out, text, bytes);
    return ((const attn_buffer *)out)->status == ATTN_OK ? 0 : -1;
}

attn_status attn_json_text(attn_context *ctx, char **text, json_t *root) {
    attn_buffer out = ATTN_BUFFER_INIT(ctx);
    *text = NULL;
    const int failed = !root || json_dump_callback(root, add_text, &out, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(root);
    attn_buffer_text(&out, "\n");
    if (failed && out.status == ATTN_OK) out.status = attn_fail(ctx, ATTN_E_NOMEM, "out of memory: a JSON text");
    return attn_buffer_give(&out, text, NULL);
}

/* By jansson, not printf: a host's locale may write 0,3. */
attn_status attn_config_write(attn_context *ctx, char **json, const char *model_type, const void *config,
                              const attn_field *fields, size_t n) {
    *json = NULL;
    json_t *root = json_object();
    int failed = json_object_set_new(root, "model_type", json_string(model_type));
    for (size_t i = 0; i < n; i++)
        if (has_meaning(&fields[i], model_type))
            failed |= json_object_set_new(root, fields[i].key,
                                          field_json(&fields[i], (const char *)config + fields[i].offset));
    if (failed) {
        json_decref(root);
        return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: the text of the config");
    }
    return attn_json_text(ctx, json, root);
}
