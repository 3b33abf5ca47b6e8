/* instructions.c: instructions and their answers, from JSON.
 *
 * A file is an array of objects, or objects one behind the other, as in JSON lines. Each is parsed by itself, so that
 * what is wrong with it has a line of the file. */
#include <jansson.h>
#include <string.h>

#include "text/corpus.h"
#include "text/normalise.h"

static const struct {
    const char *before, *input, *behind; /* the instruction, its input if there is one, the answer */
} templates[] = {
    [ATTN_TEMPLATE_ALPACA] = {"Below is an instruction that describes a task. Write a response that appropriately "
                              "completes the request.\n\n### Instruction:\n",
                              "\n\n### Input:\n", "\n\n### Response:\n"},
    [ATTN_TEMPLATE_CHATML] = {"<|im_start|>user\n", "\n\n", "<|im_end|>\n<|im_start|>assistant\n"},
    [ATTN_TEMPLATE_PLAIN] = {"", "\n", "\n"},
};

static void put_prompt(attn_buffer *out, attn_template template, const char *instruction, const char *input) {
    attn_buffer_text(out, templates[template].before);
    attn_buffer_text(out, instruction);
    if (input && *input) {
        attn_buffer_text(out, templates[template].input);
        attn_buffer_text(out, input);
    }
    attn_buffer_text(out, templates[template].behind);
}

static attn_status check_template(attn_context *ctx, attn_template template) {
    return (size_t) template <ATTN_COUNT(templates)
                                  ? ATTN_OK
                                  : attn_fail(ctx, ATTN_E_ARGUMENT, "the template is %d, expected one of attn_template",
                                              (int)template);
}

attn_status attn_prompt(attn_context *ctx, char **gives, size_t *bytes, attn_template template, const char *instruction,
                        const char *input) {
    *gives = NULL;
    ATTN_TRY(check_template(ctx, template));
    attn_buffer out = ATTN_BUFFER_INIT(ctx);
    put_prompt(&out, template, instruction, input);
    return attn_buffer_give(&out, gives, bytes);
}

/* ---- one object --------------------------------------------------------------------------------------- */

typedef struct reader {
    attn_context *ctx;
    attn_corpus *corpus;
    attn_buffer all; /* source NUL target NUL … */
    attn_template template;
    bool preferences;
    const char *path;
    size_t line; /* where the object begins */
} reader;

static const char *kind_of(const json_t *value) {
    return !value                   ? "nothing"
           : json_is_string(value)  ? "a string"
           : json_is_object(value)  ? "an object"
           : json_is_array(value)   ? "an array"
           : json_is_number(value)  ? "a number"
           : json_is_boolean(value) ? "true or false"
                                    : "null";
}

/* A string that is not blank, unless it may be missing. */
static attn_status get_text(const reader *r, const char **out, const json_t *object, const char *key, bool required) {
    const json_t *value = json_object_get(object, key);
    *out = json_string_value(value);
    const char *at = *out;
    size_t bytes = at ? strlen(at) : 0;
    if (at) attn_strip(&at, &bytes, true, true);
    if (!required && (!value || json_is_null(value))) return ATTN_OK;
    if (!*out)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "%s:%zu: \"%s\": expected a string, found %s", r->path, r->line, key,
                         kind_of(value));
    if (required && bytes == 0)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "%s:%zu: \"%s\": expected text, found %s", r->path, r->line, key,
                         **out ? "nothing but white space" : "an empty string");
    return ATTN_OK;
}

static attn_status add_pair(reader *r, const char *instruction, const char *input, const char *answer) {
    attn_corpus *corpus = r->corpus;
    ATTN_TRY(
        attn_grow(r->ctx, &corpus->pair, &corpus->capacity, corpus->count + 1, corpus->count, sizeof *corpus->pair));
    const size_t first = r->all.bytes, bytes = strlen(answer);
    put_prompt(&r->all, r->template, instruction, input);
    const size_t source_bytes = r->all.bytes - first;
    attn_buffer_add(&r->all, "", 1);
    attn_buffer_add(&r->all, answer, bytes + 1);
    corpus->pair[corpus->count++] = (attn_pair){.source_bytes = source_bytes, .target_bytes = bytes, .line = r->line};
    return r->all.status;
}

static attn_status add_object(reader *r, const json_t *object) {
    const char *instruction, *input, *answer, *rejected;
    if (!json_is_object(object))
        return attn_fail(r->ctx, ATTN_E_FORMAT, "%s:%zu: expected an object with \"instruction\", found %s", r->path,
                         r->line, kind_of(object));
    ATTN_TRY(get_text(r, &instruction, object, "instruction", true));
    ATTN_TRY(get_text(r, &input, object, "input", false));
    ATTN_TRY(get_text(r, &answer, object, r->preferences ? "chosen" : "output", true));
    if (r->preferences) ATTN_TRY(get_text(r, &rejected, object, "rejected", true));
    ATTN_TRY(add_pair(r, instruction, input, answer));
    return r->preferences ? add_pair(r, instruction, input, rejected) : ATTN_OK;
}

/* ---- a file ------------------------------------------------------------------------------------------- */

/* Passes over white space and counts its lines. */
static void skip_space(reader *r, const char *text, size_t bytes, size_t *at) {
    for (; *at < bytes && strchr(" \t\r\n", text[*at]) && text[*at]; (*at)++) r->line += text[*at] == '\n';
}

static attn_status read_object(reader *r, const char *text, size_t bytes, size_t *at) {
    json_error_t error;
    json_t *object = json_loadb(text + *at, bytes - *at, JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK, &error);
    if (!object)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "%s:%zu: %s, expected JSON", r->path,
                         r->line + (size_t)ATTN_MAX(error.line, 1) - 1, error.text);
    attn_status status = add_object(r, object);
    json_decref(object);
    for (const size_t end = *at + (size_t)error.position; *at < end; (*at)++) r->line += text[*at] == '\n';
    return status;
}

static attn_status expected(const reader *r, const char *what, const char *text, size_t bytes, size_t at) {
    if (at == bytes)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "%s:%zu: expected %s, found the end of the file", r->path, r->line,
                         what);
    return attn_fail(r->ctx, ATTN_E_FORMAT, "%s:%zu: expected %s, found \"%c\"", r->path, r->line, what,
                     text[at] >= ' ' && text[at] < 127 ? text[at] : '?');
}

static attn_status read_array(reader *r, const char *text, size_t bytes, size_t at) {
    for (bool first = true;; first = false) {
        at++; /* [ or , */
        skip_space(r, text, bytes, &at);
        if (first && at < bytes && text[at] == ']') break;
        if (at == bytes || text[at] != '{') return expected(r, "an object", text, bytes, at);
        ATTN_TRY(read_object(r, text, bytes, &at));
        skip_space(r, text, bytes, &at);
        if (at < bytes && text[at] == ']') break;
        if (at == bytes || text[at] != ',') return expected(r, "a comma or the array's end", text, bytes, at);
    }
    at++;
    skip_space(r, text, bytes, &at);
    return at == bytes ? ATTN_OK : expected(r, "nothing behind the array", text, bytes, at);
}

static attn_status read_file(reader *r, const char *text, size_t bytes) {
    size_t at = bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0;
    r->line = 1;
    skip_space(r, text, bytes, &at);
    if (at < bytes && text[at] == '[') return read_array(r, text, bytes, at);
    if (at == bytes) return expected(r, "an array of objects, or objects", text, bytes, at);
    while (at < bytes) {
        if (text[at] != '{') return expected(r, "an object", text, bytes, at);
        ATTN_TRY(read_object(r, text, bytes, &at));
        skip_space(r, text, bytes, &at);
    }
    return ATTN_OK;
}

/* ---- the corpus --------------------------------------------------------------------------------------- */

static void set_pointers(attn_corpus *corpus) {
    char *at = corpus->text[0];
    for (size_t i = 0; i < corpus->count; i++) {
        attn_pair *pair = &corpus->pair[i];
        pair->source = at;
        pair->target = at + pair->source_bytes + 1;
        at += pair->source_bytes + pair->target_bytes + 2;
    }
}

/* Takes the buffer; frees the corpus on failure. */
static attn_status give(attn_corpus **gives, attn_corpus *corpus, attn_buffer *all, attn_status status) {
    if (status == ATTN_OK) status = attn_buffer_give(all, &corpus->text[0], NULL);
    else attn_buffer_free(all);
    if (status != ATTN_OK) {
        attn_corpus_free(corpus);
        return status;
    }
    set_pointers(corpus);
    *gives = corpus;
    return ATTN_OK;
}

attn_status attn_corpus_read_instructions(attn_corpus **gives, attn_context *ctx, const char *const *paths, size_t n,
                                          attn_template template, bool preferences) {
    *gives = NULL;
    ATTN_TRY(check_template(ctx, template));
    attn_corpus *corpus = attn_alloc_zero(ctx, 1, sizeof *corpus);
    if (!corpus) return ATTN_E_NOMEM;
    corpus->ctx = ctx;
    reader r = {ctx, corpus, ATTN_BUFFER_INIT(ctx), template, preferences, NULL, 1};
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        char *text = NULL;
        size_t bytes = 0;
        r.path = strcmp(paths[i], "-") ? paths[i] : "(stdin)";
        status = attn_read_text(ctx, &text, &bytes, paths[i]);
        if (status == ATTN_OK) status = read_file(&r, text, bytes);
        attn_text_free(ctx, text);
    }
    return give(gives, corpus, &r.all, status);
}

attn_status attn_corpus_split_pairs(attn_corpus **gives, attn_corpus *corpus, double part, size_t together) {
    attn_context *ctx = corpus->ctx;
    *gives = NULL;
    if (!(part >= 0 && part <= 1) || together == 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "the part of the pairs to split off is %g, expected 0 to 1", part);
    const size_t groups = corpus->count / together, kept = together * (size_t)((1 - part) * (double)groups + 0.5);
    attn_corpus *rest = attn_alloc_zero(ctx, 1, sizeof *rest);
    if (!rest) return ATTN_E_NOMEM;
    rest->ctx = ctx;
    attn_buffer all = ATTN_BUFFER_INIT(ctx);
    attn_status status = attn_grow(ctx, &rest->pair, &rest->capacity, corpus->count - kept, 0, sizeof *rest->pair);
    for (size_t i = kept; i < corpus->count && status == ATTN_OK; i++) {
        const attn_pair *pair = &corpus->pair[i];
        attn_buffer_add(&all, pair->source, pair->source_bytes);
        attn_buffer_add(&all, "", 1);
        attn_buffer_add(&all, pair->target, pair->target_bytes);
        attn_buffer_add(&all, "", 1);
        rest->pair[rest->count++] = *pair;
        status = all.status;
    }
    ATTN_TRY(give(gives, rest, &all, status));
    corpus->count = kept;
    return ATTN_OK;
}
