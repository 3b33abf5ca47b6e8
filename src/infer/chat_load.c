/* chat_load.c: the chat template of a model. */
#include "infer/chat.h"
#include "model/weights.h"
#include <attn/gguf.h>

#include <jansson.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 16 << 20 };

typedef struct source {
    attn_context *ctx;
    char *jinja, *begin, *end; /* NULL: there is none */
} source;

static attn_status copy(attn_context *ctx, char **out, const char *text, size_t bytes) {
    if (memchr(text, 0, bytes)) return attn_fail(ctx, ATTN_E_FORMAT, "found a NUL byte in the chat template's texts");
    attn_release(ctx, *out);
    *out = attn_copy_text(ctx, text, bytes);
    return *out ? ATTN_OK : ATTN_E_NOMEM;
}

/* ---- a folder -------------------------------------------------------------------------------------------------- */

/* A text by itself, or an object's "content". */
static attn_status take_text(source *s, char **out, const json_t *value) {
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? copy(s->ctx, out, json_string_value(value), json_string_length(value)) : ATTN_OK;
}

/* A text, or of several with names the "default". */
static attn_status take_template(source *s, const json_t *value) {
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && !strcmp(name, "default")) return take_text(s, &s->jinja, json_object_get(entry, "template"));
    }
    return take_text(s, &s->jinja, value);
}

static attn_status read_folder(source *s, const char *folder) {
    char path[ATTN_MODEL_PATH];
    json_t *root;
    ATTN_TRY(attn_model_path(s->ctx, path, folder, "tokenizer_config.json"));
    if (access(path, F_OK) == 0) {
        ATTN_TRY(attn_model_read_json(s->ctx, &root, path, MOST, 0));
        attn_status status = take_template(s, json_object_get(root, "chat_template"));
        if (status == ATTN_OK) status = take_text(s, &s->begin, json_object_get(root, "bos_token"));
        if (status == ATTN_OK) status = take_text(s, &s->end, json_object_get(root, "eos_token"));
        json_decref(root);
        ATTN_TRY(status);
    }
    ATTN_TRY(attn_model_path(s->ctx, path, folder, "chat_template.jinja"));
    if (access(path, F_OK) != 0) return ATTN_OK;
    attn_release(s->ctx, s->jinja);
    s->jinja = NULL;
    return attn_model_read_text(s->ctx, &s->jinja, path, MOST);
}

/* ---- a GGUF file ------------------------------------------------------------------------------------------------ */

static attn_status take_token(source *s, char **out, const attn_gguf *file, const char *key) {
    int64_t id;
    const char *text;
    size_t bytes;
    if (!attn_gguf_integer(file, key, &id) || id < 0 ||
        !attn_gguf_array_text(file, "tokenizer.ggml.tokens", (size_t)id, &text, &bytes))
        return ATTN_OK;
    return copy(s->ctx, out, text, bytes);
}

static attn_status read_gguf(source *s, const char *path) {
    attn_gguf *file;
    const char *text;
    size_t bytes;
    ATTN_TRY(attn_gguf_open(&file, s->ctx, path));
    attn_status status = take_token(s, &s->begin, file, "tokenizer.ggml.bos_token_id");
    if (status == ATTN_OK) status = take_token(s, &s->end, file, "tokenizer.ggml.eos_token_id");
    if (status == ATTN_OK && attn_gguf_text(file, "tokenizer.chat_template", &text, &bytes))
        status = copy(s->ctx, &s->jinja, text, bytes);
    attn_gguf_close(file);
    return status;
}

/* ---- any of them --------------------------------------------------------------------------------------------------
 */

static attn_status read_model(source *s, const char *path) {
    bool gguf = false;
    if (!attn_model_is_file(path)) return read_folder(s, path);
    ATTN_TRY(attn_model_is_gguf(s->ctx, &gguf, path));
    return gguf ? read_gguf(s, path) : ATTN_OK;
}

static attn_status make(attn_chat **gives, source *s, const char *name) {
    const attn_chat_family *family = name ? attn_chat_family_named(name) : NULL;
    if (family) return attn_chat_of_family(gives, s->ctx, family, "", s->begin, s->end);
    if (name) {
        attn_buffer list = ATTN_BUFFER_INIT(s->ctx);
        attn_chat_list_names(&list);
        attn_fail(s->ctx, ATTN_E_ARGUMENT, "no chat template is called \"%.40s\"; known are %s", name,
                  list.data ? list.data : "");
        attn_buffer_free(&list);
        return ATTN_E_ARGUMENT;
    }
    if (s->jinja) return attn_chat_create(gives, s->ctx, s->jinja, s->begin, s->end);
    return attn_fail(s->ctx, ATTN_E_ARGUMENT,
                     "the model has no chat template: it continues texts, or a template must be named");
}

attn_status attn_chat_template(char **gives, attn_context *ctx, const char *path) {
    source s = {.ctx = ctx};
    *gives = NULL;
    attn_status status = read_model(&s, path);
    if (status == ATTN_OK) *gives = s.jinja;
    else attn_release(ctx, s.jinja);
    attn_release(ctx, s.begin);
    attn_release(ctx, s.end);
    return status;
}

attn_status attn_chat_load(attn_chat **gives, attn_context *ctx, const char *path, const char *name) {
    source s = {.ctx = ctx};
    *gives = NULL;
    attn_status status = read_model(&s, path);
    if (status == ATTN_OK && (status = make(gives, &s, name)) != ATTN_OK)
        attn_fail(ctx, status, "%s: %s", path, attn_error(ctx));
    attn_release(ctx, s.jinja);
    attn_release(ctx, s.begin);
    attn_release(ctx, s.end);
    return status;
}
