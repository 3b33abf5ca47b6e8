/* tokenizer_steps.c: the kinds of normalisers, pre-tokenizers and decoders of tokenizer.json that are understood. */
#include "text/tokenizer.h"

#include <jansson.h>
#include <string.h>
#include <utf8proc.h>

#include "text/normalise.h"

static const char *type_of(json_t *json) {
    const char *type = json_string_value(json_object_get(json, "type"));
    return type ? type : "(no type)";
}

static attn_status not_supported(attn_context *ctx, const char *part, json_t *json, const char *expected) {
    return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: found \"%.64s\", expected %s", part, type_of(json), expected);
}

/* ---- normalisers ---------------------------------------------------------------------------- */

static void nfc_apply(const attn_norm_step *step, attn_buffer *out, const char *text, size_t bytes) {
    (void)step;
    attn_pass_nfc(out, text, bytes, NULL);
}

static void lowercase_apply(const attn_norm_step *step, attn_buffer *out, const char *text, size_t bytes) {
    (void)step;
    attn_pass_lowercase(out, text, bytes);
}

static attn_status plain_parse(attn_context *ctx, attn_norm_step *step, json_t *json) {
    (void)ctx, (void)step, (void)json;
    return ATTN_OK;
}

static json_t *plain_write(const attn_norm_step *step) { return json_pack("{ss}", "type", step->type->name); }

static void replace_apply(const attn_norm_step *step, attn_buffer *out, const char *text, size_t bytes) {
    if (step->spaces) attn_pass_spaces(out, text, bytes, step->to, step->to_bytes);
    else attn_pass_replace(out, text, bytes, step->from, step->from_bytes, step->to, step->to_bytes);
}

static attn_status replace_parse(attn_context *ctx, attn_norm_step *step, json_t *json) {
    json_t *pattern = json_object_get(json, "pattern"), *content = json_object_get(json, "content");
    json_t *string = json_object_get(pattern, "String"), *regex = json_object_get(pattern, "Regex");
    const char *from = json_string_value(string ? string : regex), *to = json_string_value(content);
    if (!from || !to || (string && regex))
        return attn_fail(ctx, ATTN_E_FORMAT, "normalizer Replace: expected a pattern (String or Regex) and a content");
    step->spaces = regex != NULL;
    if (regex && strcmp(from, "\\s+") != 0)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "normalizer Replace: found Regex \"%.64s\", expected \"\\s+\"", from);
    step->from_bytes = strlen(from), step->to_bytes = strlen(to);
    if (!step->from_bytes || step->from_bytes >= ATTN_REPLACE_BYTES || step->to_bytes >= ATTN_REPLACE_BYTES)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED,
                         "normalizer Replace: found %zu bytes for %zu, expected at most %d, and a pattern",
                         step->to_bytes, step->from_bytes, ATTN_REPLACE_BYTES - 1);
    memcpy(step->from, from, step->from_bytes + 1);
    memcpy(step->to, to, step->to_bytes + 1);
    return ATTN_OK;
}

static json_t *replace_write(const attn_norm_step *step) {
    return json_pack("{sss{ss}ss}", "type", "Replace", "pattern", step->spaces ? "Regex" : "String", step->from,
                     "content", step->to);
}

static void strip_apply(const attn_norm_step *step, attn_buffer *out, const char *text, size_t bytes) {
    attn_strip(&text, &bytes, step->left, step->right);
    attn_buffer_add(out, text, bytes);
}

static attn_status strip_parse(attn_context *ctx, attn_norm_step *step, json_t *json) {
    json_t *left = json_object_get(json, "strip_left"), *right = json_object_get(json, "strip_right");
    if (!json_is_boolean(left) || !json_is_boolean(right))
        return attn_fail(ctx, ATTN_E_FORMAT, "normalizer Strip: expected strip_left and strip_right, true or false");
    step->left = json_is_true(left), step->right = json_is_true(right);
    return ATTN_OK;
}

static json_t *strip_write(const attn_norm_step *step) {
    return json_pack("{sssbsb}", "type", "Strip", "strip_left", (int)step->left, "strip_right", (int)step->right);
}

enum { NFC, REPLACE, STRIP, LOWERCASE };

static const attn_norm_type norm_types[] = {
    [NFC] = {"NFC", nfc_apply, plain_parse, plain_write},
    [REPLACE] = {"Replace", replace_apply, replace_parse, replace_write},
    [STRIP] = {"Strip", strip_apply, strip_parse, strip_write},
    [LOWERCASE] = {"Lowercase", lowercase_apply, plain_parse, plain_write},
};

static attn_status norm_step_parse(attn_tokenizer *tokenizer, json_t *json) {
    attn_context *ctx = tokenizer->ctx;
    for (size_t i = 0; i < ATTN_COUNT(norm_types); i++) {
        if (strcmp(type_of(json), norm_types[i].name) != 0) continue;
        if (tokenizer->norms == ATTN_NORM_STEPS)
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "normalizer: found more than %d steps", ATTN_NORM_STEPS);
        attn_norm_step *step = tokenizer->norm + tokenizer->norms++;
        step->type = norm_types + i;
        return norm_types[i].parse(ctx, step, json);
    }
    return not_supported(ctx, "normalizer", json, "NFC, Replace, Strip, Lowercase, or a Sequence of these");
}

attn_status attn_norm_steps_parse(attn_tokenizer *tokenizer, json_t *json) {
    if (!json || json_is_null(json)) return ATTN_OK;
    if (strcmp(type_of(json), "Sequence") != 0) return norm_step_parse(tokenizer, json);
    json_t *steps = json_object_get(json, "normalizers"), *step;
    size_t i;
    if (!json_is_array(steps))
        return attn_fail(tokenizer->ctx, ATTN_E_FORMAT, "normalizer Sequence: expected an array \"normalizers\"");
    json_array_foreach(steps, i, step) ATTN_TRY(norm_step_parse(tokenizer, step));
    return ATTN_OK;
}

/* {"type": "Sequence", name: rows}; takes rows over. */
static json_t *sequence(const char *name, json_t *rows, bool whole) {
    if (!rows || !whole) {
        json_decref(rows);
        return NULL;
    }
    return json_pack("{ssso}", "type", "Sequence", name, rows);
}

json_t *attn_norm_steps_write(const attn_tokenizer *tokenizer) {
    json_t *rows = json_array();
    bool whole = rows != NULL;
    for (size_t i = 0; i < tokenizer->norms && whole; i++)
        whole = json_array_append_new(rows, tokenizer->norm[i].type->write(tokenizer->norm + i)) == 0;
    return sequence("normalizers", rows, whole);
}

static void norm_step_add(attn_tokenizer *tokenizer, int type, bool spaces, const char *from, const char *to) {
    attn_norm_step *step = tokenizer->norm + tokenizer->norms++;
    *step = (attn_norm_step){.type = norm_types + type, .spaces = spaces, .left = true, .right = true};
    step->from_bytes = strlen(from), step->to_bytes = strlen(to);
    memcpy(step->from, from, step->from_bytes + 1);
    memcpy(step->to, to, step->to_bytes + 1);
}

/* ---- pre-tokenizers ------------------------------------------------------------------------- */

static bool is_word_character(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ME) || c == '\'' || c == 0x2581;
}

static bool not_of_a_word(int32_t c) { return !is_word_character(c); }

static bool is_punctuation(int32_t c) {
    if (c < 0x80) return c > ' ' && c < 0x7F && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9');
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

static bool is_number(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

/* The first is what training uses. */
static const attn_splitter splitters[] = {
    {"Split", not_of_a_word,
     "{\"pattern\": {\"Regex\": \"[^\\\\p{L}\\\\p{M}\xE2\x96\x81']\"}, \"behavior\": \"Isolated\", \"invert\": false}"},
    {"Punctuation", is_punctuation, "{\"behavior\": \"Isolated\"}"},
    {"Digits", is_number, "{\"individual_digits\": true}"},
};

static const char metaspace_settings[] =
    "{\"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}";

/* {"type": type, …settings}; NULL: no memory. */
static json_t *with_settings(const char *type, const char *settings) {
    json_t *row = json_pack("{ss}", "type", type), *rest = json_loads(settings, 0, NULL);
    if (row && (!rest || json_object_update(row, rest) != 0)) {
        json_decref(row);
        row = NULL;
    }
    json_decref(rest);
    return row;
}

static attn_status same_settings(attn_context *ctx, bool *same, json_t *json, const char *type, const char *settings) {
    json_t *row = with_settings(type, settings);
    if (!row) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: tokenizer.json");
    *same = json_equal(row, json);
    json_decref(row);
    return ATTN_OK;
}

static attn_status splitter_parse(attn_tokenizer *tokenizer, json_t *json, bool first) {
    attn_context *ctx = tokenizer->ctx;
    const char *settings = NULL;
    bool same = false;
    if (strcmp(type_of(json), "Metaspace") == 0) {
        settings = metaspace_settings;
        ATTN_TRY(same_settings(ctx, &same, json, "Metaspace", settings));
        if (same && first) return ATTN_OK;
        if (same) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "pre_tokenizer: found Metaspace behind others");
    } else if (first) return not_supported(ctx, "pre_tokenizer", json, "Metaspace first");
    for (size_t i = 0; i < ATTN_COUNT(splitters) && !same; i++) {
        if (strcmp(type_of(json), splitters[i].type) != 0) continue;
        settings = splitters[i].settings;
        ATTN_TRY(same_settings(ctx, &same, json, splitters[i].type, settings));
        if (!same) continue;
        if (tokenizer->splitters == ATTN_SPLITTERS)
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "pre_tokenizer: found more than %d parts", ATTN_SPLITTERS);
        tokenizer->splitter[tokenizer->splitters++] = splitters + i;
    }
    if (same) return ATTN_OK;
    if (!settings)
        return not_supported(ctx, "pre_tokenizer", json,
                             "Metaspace, Split, Punctuation, Digits, or a Sequence of these");
    return attn_fail(ctx, ATTN_E_UNSUPPORTED, "pre_tokenizer %.64s: found other settings than the expected %s",
                     type_of(json), settings);
}

attn_status attn_splitters_parse(attn_tokenizer *tokenizer, json_t *json) {
    if (strcmp(type_of(json), "Sequence") != 0) return splitter_parse(tokenizer, json, true);
    json_t *rows = json_object_get(json, "pretokenizers"), *row;
    size_t i;
    if (!json_array_size(rows))
        return attn_fail(tokenizer->ctx, ATTN_E_FORMAT, "pre_tokenizer Sequence: expected an array \"pretokenizers\"");
    json_array_foreach(rows, i, row) ATTN_TRY(splitter_parse(tokenizer, row, i == 0));
    return ATTN_OK;
}

json_t *attn_splitters_write(const attn_tokenizer *tokenizer) {
    json_t *rows = json_array();
    bool whole = rows && json_array_append_new(rows, with_settings("Metaspace", metaspace_settings)) == 0;
    for (size_t i = 0; i < tokenizer->splitters && whole; i++) {
        const attn_splitter *splitter = tokenizer->splitter[i];
        whole = json_array_append_new(rows, with_settings(splitter->type, splitter->settings)) == 0;
    }
    return sequence("pretokenizers", rows, whole);
}

void attn_tokenizer_default_steps(attn_tokenizer *tokenizer, bool lowercase) {
    norm_step_add(tokenizer, NFC, false, "", "");
    norm_step_add(tokenizer, REPLACE, false, ATTN_MARK, " ");
    norm_step_add(tokenizer, REPLACE, false, "\xE2\x80\x99", "'");
    norm_step_add(tokenizer, REPLACE, true, "\\s+", " "); /* U+00A0 and U+202F are white space */
    norm_step_add(tokenizer, STRIP, false, "", "");
    if (lowercase) norm_step_add(tokenizer, LOWERCASE, false, "", "");
    tokenizer->splitter[tokenizer->splitters++] = splitters;
}

bool attn_next_piece(const attn_tokenizer *tokenizer, attn_piece *piece, const char *text, size_t bytes) {
    size_t at = piece->end;
    if (at >= bytes) return false;
    bool had_body = piece->end > piece->body;
    piece->first = at;
    if (text[at] == ' ') at += 1, piece->marked = true;
    else if (bytes - at >= ATTN_MARK_BYTES && memcmp(text + at, ATTN_MARK, ATTN_MARK_BYTES) == 0)
        at += ATTN_MARK_BYTES, piece->marked = true;
    else piece->marked = at == 0 && !piece->marked; /* a mark without a space, once */
    if (piece->marked && had_body) piece->word++;
    piece->body = at;
    while (at < bytes) {
        size_t first = at;
        int32_t c = attn_utf8_next(text, bytes, &at);
        bool mark = c == ' ' || c == 0x2581, alone = false;
        for (size_t i = 0; i < tokenizer->splitters && !mark && !alone; i++)
            alone = tokenizer->splitter[i]->isolates(c);
        if (!mark && !alone) continue;
        if (mark || piece->marked || first > piece->first) at = first; /* it begins the next piece */
        break;
    }
    piece->end = at;
    return true;
}

/* ---- decoders ------------------------------------------------------------------------------- */

/* All of them, in this order: what attn_detokenize does. */
static const struct decoder {
    const char *type, *settings;
} decoders[] = {
    {"Replace", "{\"pattern\": {\"String\": \"\xE2\x96\x81\"}, \"content\": \" \"}"},
    {"ByteFallback", "{}"},
    {"Fuse", "{}"},
    {"Strip", "{\"content\": \" \", \"start\": 1, \"stop\": 0}"},
};

attn_status attn_decoder_parse(attn_context *ctx, json_t *json) {
    const char *expected = "a Sequence of Replace, ByteFallback, Fuse, Strip";
    json_t *rows = json_object_get(json, "decoders");
    if (strcmp(type_of(json), "Sequence") != 0) return not_supported(ctx, "decoder", json, expected);
    if (json_array_size(rows) != ATTN_COUNT(decoders))
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "decoder: found %zu parts, expected %s", json_array_size(rows),
                         expected);
    for (size_t i = 0; i < ATTN_COUNT(decoders); i++) {
        bool same = false;
        json_t *row = json_array_get(rows, i);
        ATTN_TRY(same_settings(ctx, &same, row, decoders[i].type, decoders[i].settings));
        if (!same)
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "decoder: found \"%.64s\" as part %zu, expected %s with %s",
                             type_of(row), i + 1, decoders[i].type, decoders[i].settings);
    }
    return ATTN_OK;
}

json_t *attn_decoder_write(void) {
    json_t *rows = json_array();
    bool whole = rows != NULL;
    for (size_t i = 0; i < ATTN_COUNT(decoders) && whole; i++)
        whole = json_array_append_new(rows, with_settings(decoders[i].type, decoders[i].settings)) == 0;
    return sequence("decoders", rows, whole);
}
