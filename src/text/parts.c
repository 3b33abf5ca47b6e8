/* parts.c: lists of parts, and how their settings are read. */
#include "text/parts.h"

#include <jansson.h>
#include <string.h>

#include "text/charsmap.h"

attn_status attn_cuts_add(attn_cuts *cuts, size_t first, size_t end) {
    if (first >= end) return ATTN_OK;
    size_t n = cuts->count;
    ATTN_TRY(attn_grow(cuts->text.text.ctx, &cuts->cut, &cuts->capacity, n + 1, n, sizeof *cuts->cut));
    cuts->cut[cuts->count++] = (attn_cut){first, end};
    return ATTN_OK;
}

void attn_cuts_free(attn_cuts *cuts) {
    attn_context *ctx = cuts->text.text.ctx;
    attn_traced_free(&cuts->text);
    attn_release(ctx, cuts->cut);
    *cuts = (attn_cuts)ATTN_CUTS_INIT(ctx);
}

void attn_work_free(attn_work *work) {
    attn_matcher_free(&work->matcher);
    attn_release(work->ctx, work->points.c);
    attn_traced_free(&work->spare);
    attn_traced_free(&work->other);
    attn_cuts_free(&work->next);
    *work = (attn_work)ATTN_WORK_INIT(work->ctx);
}

/* ---- lists ---------------------------------------------------------------------------------- */

static const char *type_of(json_t *json) {
    const char *type = json_string_value(json_object_get(json, "type"));
    return type ? type : "";
}

static attn_status not_supported(attn_context *ctx, const attn_part_kind *kind, const char *type) {
    attn_buffer known = ATTN_BUFFER_INIT(ctx);
    for (size_t i = 0; i < kind->count; i++) attn_buffer_printf(&known, "%s, ", kind->type[i].name);
    attn_status status = known.status;
    if (status == ATTN_OK)
        status = attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: found \"%.64s\", expected %sor a Sequence of these",
                           kind->name, type, known.data);
    attn_buffer_free(&known);
    return status;
}

static attn_status add_part(attn_context *ctx, attn_parts *parts, json_t *json, const attn_part_kind *kind) {
    const char *name = type_of(json);
    for (size_t i = 0; i < kind->count; i++) {
        const attn_part_type *type = &kind->type[i];
        if (strcmp(type->name, name) != 0) continue;
        ATTN_TRY(attn_grow(ctx, &parts->at, &parts->capacity, parts->count + 1, parts->count, sizeof *parts->at));
        attn_part *part = &parts->at[parts->count++];
        *part = (attn_part){.type = type};
        attn_status status = type->parse ? type->parse(ctx, part, json) : ATTN_OK;
        return status == ATTN_OK ? ATTN_OK : attn_fail(ctx, status, "%s %s: %s", kind->name, name, attn_error(ctx));
    }
    return not_supported(ctx, kind, name);
}

/* A Sequence in a Sequence in a … is as deep as the JSON reader allows. */
attn_status attn_parts_parse(attn_context *ctx, attn_parts *parts, json_t *json, const attn_part_kind *kind) {
    if (!json || json_is_null(json)) return ATTN_OK;
    if (strcmp(type_of(json), "Sequence") != 0) return add_part(ctx, parts, json, kind);
    json_t *rows = json_object_get(json, kind->members), *row;
    size_t i;
    if (!json_is_array(rows))
        return attn_fail(ctx, ATTN_E_FORMAT, "%s Sequence: expected an array \"%s\"", kind->name, kind->members);
    json_array_foreach(rows, i, row) ATTN_TRY(attn_parts_parse(ctx, parts, row, kind));
    return ATTN_OK;
}

void attn_parts_free(attn_context *ctx, attn_parts *parts) {
    for (size_t i = 0; i < parts->count; i++) {
        attn_pattern_free(parts->at[i].pattern);
        attn_charsmap_free(parts->at[i].charsmap);
        attn_release(ctx, parts->at[i].text);
    }
    attn_release(ctx, parts->at);
    *parts = (attn_parts)ATTN_PARTS_INIT;
}

attn_status attn_parts_normalise(attn_work *work, const attn_parts *parts, attn_traced *text) {
    enum { GROWTH = 64, ALLOWANCE = 1 << 20 }; /* replacements of replacements must not fill the memory */
    size_t bytes = text->text.bytes;
    for (size_t i = 0; i < parts->count; i++) {
        attn_traced_clear(&work->spare);
        ATTN_TRY(parts->at[i].type->normalise(work, &parts->at[i], &work->spare, text));
        ATTN_TRY(work->spare.text.status);
        if (work->spare.text.bytes > ALLOWANCE && work->spare.text.bytes / GROWTH > bytes)
            return attn_fail(work->ctx, ATTN_E_FORMAT, "normalizer: %zu bytes of text became %zu", bytes,
                             work->spare.text.bytes);
        attn_traced done = work->spare;
        work->spare = *text;
        *text = done;
    }
    return ATTN_OK;
}

attn_status attn_parts_split(attn_work *work, const attn_parts *parts, attn_cuts *cuts) {
    for (size_t i = 0; i < parts->count; i++) ATTN_TRY(parts->at[i].type->split(work, &parts->at[i], cuts));
    return ATTN_OK;
}

/* ---- settings ------------------------------------------------------------------------------- */

attn_status attn_part_bool(attn_context *ctx, bool *out, json_t *json, const char *name, bool absent) {
    json_t *found = json_object_get(json, name);
    *out = found ? json_is_true(found) : absent;
    if (found && !json_is_boolean(found)) return attn_fail(ctx, ATTN_E_FORMAT, "%s: expected true or false", name);
    return ATTN_OK;
}

attn_status attn_part_text(attn_context *ctx, attn_part *part, json_t *json, const char *name, const char *absent) {
    json_t *found = json_object_get(json, name);
    const char *text = found ? json_string_value(found) : absent;
    if (!text) return attn_fail(ctx, ATTN_E_FORMAT, "%s: expected a text", name);
    part->bytes = strlen(text);
    part->text = attn_copy_text(ctx, text, part->bytes);
    return part->text ? ATTN_OK : ATTN_E_NOMEM;
}

attn_status attn_part_behaviour(attn_context *ctx, attn_part *part, json_t *json, attn_behaviour absent) {
    static const char *const names[] = {
#define BEHAVIOUR_NAME(name, text) text,
        ATTN_BEHAVIOUR_LIST(BEHAVIOUR_NAME)
#undef BEHAVIOUR_NAME
    };
    json_t *found = json_object_get(json, "behavior");
    const char *text = json_string_value(found);
    part->behaviour = absent;
    if (!found) return ATTN_OK;
    for (size_t i = 0; text && i < ATTN_COUNT(names); i++)
        if (!strcmp(names[i], text)) return part->behaviour = (attn_behaviour)i, ATTN_OK;
    return attn_fail(ctx, ATTN_E_UNSUPPORTED,
                     "behavior: found \"%.64s\", expected Removed, Isolated, MergedWithPrevious, MergedWithNext or "
                     "Contiguous",
                     text ? text : "");
}

attn_status attn_part_pattern(attn_context *ctx, attn_part *part, json_t *json) {
    json_t *pattern = json_object_get(json, "pattern");
    const char *string = json_string_value(json_object_get(pattern, "String"));
    const char *regex = json_string_value(json_object_get(pattern, "Regex"));
    if (json_is_string(pattern)) string = json_string_value(pattern);
    if (!string == !regex) return attn_fail(ctx, ATTN_E_FORMAT, "expected a pattern, String or Regex");
    const char *text = string ? string : regex;
    return attn_pattern_new(&part->pattern, ctx, text, strlen(text),
                            string ? ATTN_PATTERN_LITERAL : ATTN_PATTERN_ONIGURUMA);
}

/* ---- byte level ----------------------------------------------------------------------------- */

static bool is_visible(int c) { return (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xFF && c != 0xAD); }

int32_t attn_byte_character(unsigned char byte) {
    if (is_visible(byte)) return byte;
    /* the hidden ones in order: 0x00–0x20, 0x7F–0xA0, 0xAD */
    if (byte <= 0x20) return 0x100 + byte;
    return byte == 0xAD ? 0x143 : 0x121 + byte - 0x7F;
}

int attn_character_byte(int32_t c) {
    if (c < 0x100) return c >= 0 && is_visible(c) ? c : -1;
    if (c <= 0x120) return c - 0x100;
    if (c <= 0x142) return c - 0x121 + 0x7F;
    return c == 0x143 ? 0xAD : -1;
}
