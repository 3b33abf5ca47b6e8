/* splitters.c: the pre-tokenizers of tokenizer.json: how a text becomes pieces that models see one by one. */
#include "text/parts.h"

#include <jansson.h>
#include <string.h>
#include <utf8proc.h>

/* Puts the new cuts in the place of the old ones. */
static void take_cuts(attn_work *work, attn_cuts *cuts) {
    attn_cut *cut = cuts->cut;
    size_t capacity = cuts->capacity;
    cuts->cut = work->next.cut, cuts->capacity = work->next.capacity, cuts->count = work->next.count;
    work->next.cut = cut, work->next.capacity = capacity, work->next.count = 0;
}

/* Puts the new text and the new cuts in the place of the old ones. */
static void take_text(attn_work *work, attn_cuts *cuts) {
    attn_traced text = cuts->text;
    cuts->text = work->next.text;
    work->next.text = text;
    take_cuts(work, cuts);
}

/* ---- behaviours ----------------------------------------------------------------------------- */

/* One piece at work: its matches, and what lies between them, come from left to right. */
typedef struct cutter {
    attn_cuts *out;
    attn_behaviour behaviour;
    bool invert, was_match;
    size_t floor;   /* cuts of earlier pieces, which nothing is merged with */
    size_t waiting; /* where a match that waits for what is next begins; SIZE_MAX: none waits */
} cutter;

static bool extend(cutter *c, size_t end) {
    if (c->out->count == c->floor) return false;
    c->out->cut[c->out->count - 1].end = end;
    return true;
}

static attn_status put(cutter *c, size_t first, size_t end, bool match) {
    bool was_match = c->was_match;
    match ^= c->invert;
    c->was_match = match;
    switch (c->behaviour) {
    case ATTN_REMOVED: return match ? ATTN_OK : attn_cuts_add(c->out, first, end);
    case ATTN_ISOLATED: break;
    case ATTN_CONTIGUOUS:
        if (match == was_match && extend(c, end)) return ATTN_OK;
        break;
    case ATTN_MERGED_WITH_PREVIOUS:
        if (match && !was_match && extend(c, end)) return ATTN_OK;
        break;
    case ATTN_MERGED_WITH_NEXT: {
        size_t waiting = c->waiting;
        c->waiting = match ? first : SIZE_MAX;
        if (!match) return attn_cuts_add(c->out, waiting == SIZE_MAX ? first : waiting, end);
        return waiting == SIZE_MAX ? ATTN_OK : attn_cuts_add(c->out, waiting, first);
    }
    }
    return attn_cuts_add(c->out, first, end);
}

static cutter begin(attn_work *work, attn_behaviour behaviour, bool invert) {
    return (cutter){&work->next, behaviour, invert, false, work->next.count, SIZE_MAX};
}

static attn_status finish(cutter *c, size_t end) {
    return c->waiting == SIZE_MAX ? ATTN_OK : attn_cuts_add(c->out, c->waiting, end);
}

/* ---- splitting at patterns and at characters ------------------------------------------------ */

static attn_status split_pattern(attn_work *work, const attn_pattern *pattern, attn_behaviour behaviour, bool invert,
                                 attn_cuts *cuts) {
    work->next.count = 0;
    for (size_t i = 0; i < cuts->count; i++) {
        size_t base = cuts->cut[i].first, bytes = cuts->cut[i].end - base, done = 0;
        const char *text = cuts->text.text.data + base;
        cutter c = begin(work, behaviour, invert);
        attn_match match = {0};
        for (;;) {
            ATTN_TRY(attn_pattern_next(pattern, &work->matcher, &match, text, bytes));
            if (match.first == SIZE_MAX) break;
            if (match.first > done) ATTN_TRY(put(&c, base + done, base + match.first, false));
            ATTN_TRY(put(&c, base + match.first, base + match.end, true));
            done = match.end;
        }
        if (done < bytes) ATTN_TRY(put(&c, base + done, base + bytes, false));
        ATTN_TRY(finish(&c, base + bytes));
    }
    take_cuts(work, cuts);
    return ATTN_OK;
}

/* Each character that `matches` is a match by itself. */
static attn_status split_characters(attn_work *work, bool (*matches)(int32_t c), attn_behaviour behaviour,
                                    attn_cuts *cuts) {
    const char *text = cuts->text.text.data;
    work->next.count = 0;
    for (size_t i = 0; i < cuts->count; i++) {
        size_t done = cuts->cut[i].first, end = cuts->cut[i].end;
        cutter c = begin(work, behaviour, false);
        for (size_t at = done; at < end;) {
            size_t first = at;
            if (!matches(attn_utf8_next(text, end, &at))) continue;
            if (first > done) ATTN_TRY(put(&c, done, first, false));
            ATTN_TRY(put(&c, first, at, true));
            done = at;
        }
        if (done < end) ATTN_TRY(put(&c, done, end, false));
        ATTN_TRY(finish(&c, end));
    }
    take_cuts(work, cuts);
    return ATTN_OK;
}

static bool is_punctuation(int32_t c) {
    if (c < 0x80) return c > ' ' && c < 0x7F && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9');
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

static bool is_number(int32_t c) {
    if (c < 0x80) return c >= '0' && c <= '9';
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

static attn_status split_split(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    return split_pattern(work, part->pattern, part->behaviour, part->invert, cuts);
}

/* Runs of word characters, and runs of what is neither that nor white space. */
static attn_status split_whitespace(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    const char *text = cuts->text.text.data;
    (void)part;
    work->next.count = 0;
    for (size_t i = 0; i < cuts->count; i++) {
        size_t end = cuts->cut[i].end, first = cuts->cut[i].first;
        enum { SPACE, WORD, OTHER } run = SPACE, kind;
        for (size_t at = first; at < end; run = kind) {
            size_t here = at;
            int32_t c = attn_utf8_next(text, end, &at);
            kind = attn_is_word(c) ? WORD : attn_is_space(c) ? SPACE : OTHER;
            if (kind == run) continue;
            if (run != SPACE) ATTN_TRY(attn_cuts_add(&work->next, first, here));
            first = here;
        }
        if (run != SPACE) ATTN_TRY(attn_cuts_add(&work->next, first, end));
    }
    take_cuts(work, cuts);
    return ATTN_OK;
}

static attn_status split_whitespace_split(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    (void)part;
    return split_characters(work, attn_is_space, ATTN_REMOVED, cuts);
}

static attn_status split_bert(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    (void)part;
    ATTN_TRY(split_characters(work, attn_is_space, ATTN_REMOVED, cuts));
    return split_characters(work, is_punctuation, ATTN_ISOLATED, cuts);
}

static attn_status split_digits(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    return split_characters(work, is_number, part->individual ? ATTN_ISOLATED : ATTN_CONTIGUOUS, cuts);
}

static attn_status split_punctuation(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    return split_characters(work, is_punctuation, part->behaviour, cuts);
}

static attn_status split_delimiter(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    return split_pattern(work, part->pattern, ATTN_REMOVED, false, cuts);
}

/* ---- splitters that change the text --------------------------------------------------------- */

static bool begins_with(const attn_cuts *cuts, const attn_cut *cut, const char *text, size_t bytes) {
    return cut->end - cut->first >= bytes && memcmp(cuts->text.text.data + cut->first, text, bytes) == 0;
}

/* Text before a piece; it comes from the piece's first character. */
static void put_before(attn_traced *out, const attn_cuts *cuts, const attn_cut *cut, const char *text, size_t bytes) {
    size_t end = cut->first;
    attn_utf8_next(cuts->text.text.data, cut->end, &end);
    attn_traced_put(out, text, bytes, &cuts->text, cut->first, end);
}

/* A space to the mark, and a mark in front; each mark begins a piece. */
static attn_status split_metaspace(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    attn_traced *out = &work->next.text;
    attn_traced_clear(out);
    work->next.count = 0;
    for (size_t i = 0; i < cuts->count; i++) {
        const attn_cut *cut = &cuts->cut[i];
        const char *text = cuts->text.text.data;
        size_t first = out->text.bytes, copied = cut->first;
        bool marked = text[cut->first] == ' ' || begins_with(cuts, cut, part->text, part->bytes);
        bool wanted =
            part->prepend == ATTN_PREPEND_ALWAYS ||
            (part->prepend == ATTN_PREPEND_FIRST && !attn_traced_span(&cuts->text, cut->first, cut->first + 1).first);
        if (wanted && !marked) put_before(out, cuts, cut, part->text, part->bytes);
        for (size_t at = cut->first; at < cut->end; at++) {
            if (text[at] != ' ') continue;
            attn_traced_copy(out, &cuts->text, copied, at);
            attn_traced_put(out, part->text, part->bytes, &cuts->text, at, at + 1);
            copied = at + 1;
        }
        attn_traced_copy(out, &cuts->text, copied, cut->end);
        ATTN_TRY(out->text.status);
        ATTN_TRY(attn_cuts_add(&work->next, first, out->text.bytes));
    }
    take_text(work, cuts);
    return part->split ? split_pattern(work, part->pattern, ATTN_MERGED_WITH_NEXT, false, cuts) : ATTN_OK;
}

/* A space in front; words with the space before them. That each byte becomes a character is the model's business. */
static attn_status split_byte_level(attn_work *work, const attn_part *part, attn_cuts *cuts) {
    if (part->prefix_space) {
        attn_traced *out = &work->next.text;
        attn_traced_clear(out);
        work->next.count = 0;
        for (size_t i = 0; i < cuts->count; i++) {
            size_t first = out->text.bytes;
            if (!begins_with(cuts, &cuts->cut[i], " ", 1)) put_before(out, cuts, &cuts->cut[i], " ", 1);
            attn_traced_copy(out, &cuts->text, cuts->cut[i].first, cuts->cut[i].end);
            ATTN_TRY(out->text.status);
            ATTN_TRY(attn_cuts_add(&work->next, first, out->text.bytes));
        }
        take_text(work, cuts);
    }
    return part->pattern ? split_pattern(work, part->pattern, ATTN_ISOLATED, false, cuts) : ATTN_OK;
}

/* ---- settings ------------------------------------------------------------------------------- */

static attn_status split_parse(attn_context *ctx, attn_part *part, json_t *json) {
    ATTN_TRY(attn_part_pattern(ctx, part, json));
    ATTN_TRY(attn_part_bool(ctx, &part->invert, json, "invert", false));
    return attn_part_behaviour(ctx, part, json, ATTN_REMOVED);
}

static attn_status set_pattern(attn_context *ctx, attn_part *part, const char *text, attn_pattern_syntax syntax) {
    return attn_pattern_new(&part->pattern, ctx, text, strlen(text), syntax);
}

static attn_status digits_parse(attn_context *ctx, attn_part *part, json_t *json) {
    return attn_part_bool(ctx, &part->individual, json, "individual_digits", false);
}

static attn_status punctuation_parse(attn_context *ctx, attn_part *part, json_t *json) {
    return attn_part_behaviour(ctx, part, json, ATTN_ISOLATED);
}

static attn_status delimiter_parse(attn_context *ctx, attn_part *part, json_t *json) {
    ATTN_TRY(attn_part_text(ctx, part, json, "delimiter", NULL));
    return set_pattern(ctx, part, part->text, ATTN_PATTERN_LITERAL);
}

attn_status attn_metaspace_parse(attn_context *ctx, attn_part *part, json_t *json) {
    static const char *const schemes[] = {"always", "first", "never"};
    json_t *scheme = json_object_get(json, "prepend_scheme");
    bool prefix = true, known = !scheme;
    ATTN_TRY(attn_part_text(ctx, part, json, "replacement", ATTN_MARK));
    ATTN_TRY(attn_part_bool(ctx, &part->split, json, "split", true));
    ATTN_TRY(attn_part_bool(ctx, &prefix, json, "add_prefix_space", true)); /* the older files */
    part->prepend = prefix ? ATTN_PREPEND_ALWAYS : ATTN_PREPEND_NEVER;
    for (size_t i = 0; i < ATTN_COUNT(schemes) && scheme; i++)
        if (json_is_string(scheme) && !strcmp(json_string_value(scheme), schemes[i]))
            part->prepend = (attn_prepend)i, known = true;
    if (!known) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "prepend_scheme: expected always, first or never");
    return set_pattern(ctx, part, part->text, ATTN_PATTERN_LITERAL);
}

static attn_status byte_level_parse(attn_context *ctx, attn_part *part, json_t *json) {
    static const char words[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    ATTN_TRY(attn_part_bool(ctx, &part->prefix_space, json, "add_prefix_space", true));
    ATTN_TRY(attn_part_bool(ctx, &part->regex, json, "use_regex", true));
    return part->regex ? set_pattern(ctx, part, words, ATTN_PATTERN_ONIGURUMA) : ATTN_OK;
}

static const attn_part_type types[] = {
    {"ByteLevel", byte_level_parse, NULL, split_byte_level, NULL},
    {"Split", split_parse, NULL, split_split, NULL},
    {"Whitespace", NULL, NULL, split_whitespace, NULL},
    {"WhitespaceSplit", NULL, NULL, split_whitespace_split, NULL},
    {"BertPreTokenizer", NULL, NULL, split_bert, NULL},
    {"Digits", digits_parse, NULL, split_digits, NULL},
    {"Punctuation", punctuation_parse, NULL, split_punctuation, NULL},
    {"Metaspace", attn_metaspace_parse, NULL, split_metaspace, NULL},
    {"CharDelimiterSplit", delimiter_parse, NULL, split_delimiter, NULL},
};

const attn_part_kind attn_splitter_kind = {"pre_tokenizer", "pretokenizers", types, ATTN_COUNT(types)};
