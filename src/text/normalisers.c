/* normalisers.c: the normalisers of tokenizer.json. */
#include "text/normalisers.h"

#include <jansson.h>
#include <string.h>
#include <utf8proc.h>

#include "text/charsmap.h"

/* ---- characters, each by itself ------------------------------------------------------------- */

/* What a character becomes: how many (0 to 3), or −1: itself. */
typedef int character_map(int32_t c, int32_t to[3]);

static void map_characters(attn_traced *out, const attn_traced *in, character_map *map) {
    const char *text = in->text.data;
    size_t bytes = in->text.bytes, copied = 0;
    for (size_t at = 0; at < bytes;) {
        size_t first = at;
        int32_t to[3];
        int n = map(attn_utf8_next(text, bytes, &at), to);
        if (n < 0) continue;
        attn_traced_copy(out, in, copied, first);
        copied = at;
        for (int i = 0; i < n; i++) {
            char encoded[4];
            attn_traced_put(out, encoded, attn_utf8_put(encoded, to[i]), in, first, at);
        }
    }
    attn_traced_copy(out, in, copied, bytes);
}

/* As Rust's char::to_lowercase. */
static int lower(int32_t c, int32_t to[3]) {
    if (c == 0x130) return to[0] = 'i', to[1] = 0x307, 2;
    to[0] = utf8proc_tolower(c);
    return to[0] == c ? -1 : 1;
}

static int drop_marks(int32_t c, int32_t to[3]) {
    (void)to;
    if (c < 0x300) return -1;
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME ? 0 : -1;
}

static int drop_nonspacing_marks(int32_t c, int32_t to[3]) {
    (void)to;
    return c >= 0x300 && utf8proc_category(c) == UTF8PROC_CATEGORY_MN ? 0 : -1;
}

/* SentencePiece's rules of the set "nmt". */
static int nmt(int32_t c, int32_t to[3]) {
    static const int32_t dropped[][2] = {{0x01, 0x08}, {0x0B, 0x0B}, {0x0E, 0x1F},
                                         {0x7F, 0x7F}, {0x8F, 0x8F}, {0x9F, 0x9F}};
    static const int32_t spaces[][2] = {{0x09, 0x0A},     {0x0C, 0x0D},     {0x1680, 0x1680}, {0x200B, 0x200F},
                                        {0x2028, 0x2029}, {0x2581, 0x2581}, {0xFEFF, 0xFEFF}, {0xFFFD, 0xFFFD}};
    for (size_t i = 0; i < ATTN_COUNT(dropped); i++)
        if (c >= dropped[i][0] && c <= dropped[i][1]) return 0;
    for (size_t i = 0; i < ATTN_COUNT(spaces); i++)
        if (c >= spaces[i][0] && c <= spaces[i][1]) return to[0] = ' ', 1;
    return -1;
}

/* White space to a space; controls, U+0000 and U+FFFD away. */
static int clean(int32_t c, int32_t to[3]) {
    if (c == '\t' || c == '\n' || c == '\r') return to[0] = ' ', 1;
    if (c == 0 || c == 0xFFFD) return 0;
    if (c >= 0x20 && c < 0x7F) return -1;
    utf8proc_category_t category = utf8proc_category(c);
    if (category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO)
        return 0; /* what is not assigned stays */
    return attn_is_space(c) ? (to[0] = ' ', 1) : -1;
}

/* Spaces around ideographs. */
static int space_ideographs(int32_t c, int32_t to[3]) {
    static const int32_t blocks[][2] = {{0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
                                        {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
    for (size_t i = 0; i < ATTN_COUNT(blocks); i++)
        if (c >= blocks[i][0] && c <= blocks[i][1]) return to[0] = ' ', to[1] = c, to[2] = ' ', 3;
    return -1;
}

static int byte_level(int32_t c, int32_t to[3]) { /* of one byte */
    to[0] = attn_byte_character((unsigned char)c);
    return to[0] == c ? -1 : 1;
}

#define MAP_PART(name, map)                                                                                    \
    static attn_status name(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in) { \
        (void)work, (void)part;                                                                                \
        map_characters(out, in, map);                                                                          \
        return out->text.status;                                                                               \
    }
MAP_PART(normalise_lowercase, lower)
MAP_PART(normalise_strip_accents, drop_marks)
MAP_PART(normalise_nmt, nmt)
#undef MAP_PART

static attn_status normalise_byte_level(attn_work *work, const attn_part *part, attn_traced *out,
                                        const attn_traced *in) {
    (void)work, (void)part;
    for (size_t i = 0; i < in->text.bytes; i++) {
        int32_t to[3];
        char encoded[4];
        if (byte_level((unsigned char)in->text.data[i], to) < 0 && (unsigned char)in->text.data[i] < 0x80)
            attn_traced_copy(out, in, i, i + 1);
        else attn_traced_put(out, encoded, attn_utf8_put(encoded, to[0]), in, i, i + 1);
    }
    return out->text.status;
}

/* ---- normal forms --------------------------------------------------------------------------- */

#define FORM_PART(name, compatible, compose)                                                                   \
    static attn_status name(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in) { \
        (void)part;                                                                                            \
        return attn_normal_form(work, out, in, compatible, compose);                                           \
    }
FORM_PART(normalise_nfc, false, true)
FORM_PART(normalise_nfd, false, false)
FORM_PART(normalise_nfkc, true, true)
FORM_PART(normalise_nfkd, true, false)
#undef FORM_PART

/* ---- BERT ----------------------------------------------------------------------------------- */

static attn_status bert_parse(attn_context *ctx, attn_part *part, json_t *json) {
    json_t *accents = json_object_get(json, "strip_accents");
    ATTN_TRY(attn_part_bool(ctx, &part->clean, json, "clean_text", true));
    ATTN_TRY(attn_part_bool(ctx, &part->chinese, json, "handle_chinese_chars", true));
    ATTN_TRY(attn_part_bool(ctx, &part->lowercase, json, "lowercase", true));
    part->strip_accents = part->lowercase;
    if (!accents || json_is_null(accents)) return ATTN_OK;
    return attn_part_bool(ctx, &part->strip_accents, json, "strip_accents", false);
}

static attn_status normalise_bert(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in) {
    struct {
        bool wanted;
        character_map *map; /* NULL: NFD */
    } const passes[] = {{part->clean, clean},
                        {part->chinese, space_ideographs},
                        {part->strip_accents, NULL},
                        {part->strip_accents, drop_nonspacing_marks},
                        {part->lowercase, lower}};
    attn_traced *other = &work->other;
    const attn_traced *now = in;
    for (size_t i = 0; i < ATTN_COUNT(passes); i++) { /* now is `in`, then *out after each pass */
        if (!passes[i].wanted) continue;
        attn_traced_clear(other);
        if (passes[i].map) map_characters(other, now, passes[i].map);
        else ATTN_TRY(attn_normal_form(work, other, now, false, false));
        ATTN_TRY(other->text.status);
        attn_traced done = *other;
        *other = *out;
        *out = done;
        now = out;
    }
    if (now == in) attn_traced_copy(out, in, 0, in->text.bytes);
    return out->text.status;
}

/* ---- pieces of text ------------------------------------------------------------------------- */

static attn_status replace_parse(attn_context *ctx, attn_part *part, json_t *json) {
    ATTN_TRY(attn_part_pattern(ctx, part, json));
    return attn_part_text(ctx, part, json, "content", NULL);
}

static attn_status normalise_replace(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in) {
    size_t copied = 0;
    attn_match match = {0};
    for (;;) {
        ATTN_TRY(attn_pattern_next(part->pattern, &work->matcher, &match, in->text.data, in->text.bytes));
        if (match.first == SIZE_MAX) break;
        attn_traced_copy(out, in, copied, match.first);
        attn_traced_put(out, part->text, part->bytes, in, match.first, match.end);
        copied = match.end;
    }
    attn_traced_copy(out, in, copied, in->text.bytes);
    return out->text.status;
}

static attn_status strip_parse(attn_context *ctx, attn_part *part, json_t *json) {
    ATTN_TRY(attn_part_bool(ctx, &part->left, json, "strip_left", true));
    return attn_part_bool(ctx, &part->right, json, "strip_right", true);
}

static attn_status normalise_strip(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in) {
    (void)work;
    const char *text = in->text.data;
    size_t bytes = in->text.bytes;
    attn_strip(&text, &bytes, part->left, part->right);
    size_t first = (size_t)(text - in->text.data);
    attn_traced_copy(out, in, first, first + bytes);
    return out->text.status;
}

static attn_status prepend_parse(attn_context *ctx, attn_part *part, json_t *json) {
    return attn_part_text(ctx, part, json, "prepend", NULL);
}

/* What is put before a text comes from its first character. */
static attn_status normalise_prepend(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in) {
    (void)work;
    size_t end = 0;
    if (!in->text.bytes) return ATTN_OK;
    attn_utf8_next(in->text.data, in->text.bytes, &end);
    attn_traced_put(out, part->text, part->bytes, in, 0, end);
    attn_traced_copy(out, in, 0, in->text.bytes);
    return out->text.status;
}

/* ---- SentencePiece's table ------------------------------------------------------------------ */

static attn_status precompiled_parse(attn_context *ctx, attn_part *part, json_t *json) {
    json_t *map = json_object_get(json, "precompiled_charsmap");
    char *data;
    size_t bytes;
    if (!json_is_string(map)) return attn_fail(ctx, ATTN_E_FORMAT, "precompiled_charsmap: expected a text");
    ATTN_TRY(attn_base64(ctx, &data, &bytes, json_string_value(map), json_string_length(map)));
    attn_status status = attn_charsmap_new(&part->charsmap, ctx, data, bytes);
    attn_release(ctx, data);
    return status;
}

/* The end of the extended grapheme cluster at `at`. */
static size_t cluster_end(const char *text, size_t bytes, size_t at) {
    utf8proc_int32_t state = 0;
    int32_t before = attn_utf8_next(text, bytes, &at);
    if (at < bytes && before >= ' ' && before < 0x7F && (unsigned char)text[at] < 0x80)
        return at; /* two of ASCII are two */
    while (at < bytes) {
        size_t next = at;
        int32_t c = attn_utf8_next(text, bytes, &next);
        if (utf8proc_grapheme_break_stateful(before, c, &state)) break;
        before = c;
        at = next;
    }
    return at;
}

/* What the rule puts for in[first, end), behind what stays as it is. */
static void put_rule(attn_traced *out, const attn_traced *in, const attn_charsmap_rule *rule, size_t *copied,
                     size_t first, size_t end) {
    attn_traced_copy(out, in, *copied, first);
    attn_traced_put(out, rule->text, rule->text_bytes, in, first, end);
    *copied = end;
}

/* The package `tokenizers` looks a short cluster up as a whole, and takes the first rule about its beginning for all of
 * it; else each character. */
static attn_status normalise_precompiled(attn_work *work, const attn_part *part, attn_traced *out,
                                         const attn_traced *in) {
    enum { SHORT = 6 };
    (void)work;
    const char *text = in->text.data;
    size_t bytes = in->text.bytes;
    attn_charsmap_rule rule;
    size_t copied = 0;
    for (size_t at = 0, end = 0; part->individual && at < bytes && out->text.status == ATTN_OK; at = end) {
        end = at; /* SentencePiece: the longest rule about this place */
        if (attn_charsmap_find(part->charsmap, text + at, bytes - at, true, &rule))
            put_rule(out, in, &rule, &copied, at, end += rule.bytes);
        else attn_utf8_next(text, bytes, &end);
    }
    for (size_t at = part->individual ? bytes : 0, end; at < bytes && out->text.status == ATTN_OK; at = end) {
        end = cluster_end(text, bytes, at);
        if (end - at < SHORT && attn_charsmap_find(part->charsmap, text + at, end - at, false, &rule)) {
            put_rule(out, in, &rule, &copied, at, end);
            continue;
        }
        for (size_t next = at, first; next < end;) {
            first = next;
            attn_utf8_next(text, end, &next);
            if (attn_charsmap_find(part->charsmap, text + first, next - first, false, &rule))
                put_rule(out, in, &rule, &copied, first, next);
        }
    }
    attn_traced_copy(out, in, copied, bytes);
    return out->text.status;
}

static const attn_part_type types[] = {
    {"NFC", NULL, normalise_nfc, NULL, NULL},
    {"NFD", NULL, normalise_nfd, NULL, NULL},
    {"NFKC", NULL, normalise_nfkc, NULL, NULL},
    {"NFKD", NULL, normalise_nfkd, NULL, NULL},
    {"Lowercase", NULL, normalise_lowercase, NULL, NULL},
    {"StripAccents", NULL, normalise_strip_accents, NULL, NULL},
    {"Strip", strip_parse, normalise_strip, NULL, NULL},
    {"Replace", replace_parse, normalise_replace, NULL, NULL},
    {"Prepend", prepend_parse, normalise_prepend, NULL, NULL},
    {"BertNormalizer", bert_parse, normalise_bert, NULL, NULL},
    {"Precompiled", precompiled_parse, normalise_precompiled, NULL, NULL},
    {"Nmt", NULL, normalise_nmt, NULL, NULL},
    {"ByteLevel", NULL, normalise_byte_level, NULL, NULL},
};

const attn_part_kind attn_normaliser_kind = {"normalizer", "normalizers", types, ATTN_COUNT(types)};
