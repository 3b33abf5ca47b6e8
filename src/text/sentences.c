/* sentences.c: a text cut into sentences, long ones into clauses.
 *
 * A sentence ends with . ! ? or … (and closing quotes or brackets after it) before white space and a beginning: a
 * capital, a digit, an opening quote. A full stop ends none after a number ("am 3. Mai"), a single letter ("J. S.
 * Bach") or a known short form ("Dr. Huber"). */
#include "text/sentences.h"
#include "text/normalise.h"

#include <string.h>
#include <utf8proc.h>

typedef struct cutter {
    attn_context *ctx;
    const char *text;
    size_t bytes, max_words;
    attn_piece *piece;
    size_t count, capacity;
} cutter;

/* ---- characters ---------------------------------------------------------------------------------------- */

static bool is_end(int32_t c) { return c == '.' || c == '!' || c == '?' || c == 0x2026; }

static bool is_closing(int32_t c) {
    const utf8proc_category_t category = utf8proc_category(c);
    return c == '"' || c == '\'' || category == UTF8PROC_CATEGORY_PE || category == UTF8PROC_CATEGORY_PF ||
           category == UTF8PROC_CATEGORY_PI; /* “ closes in German, » opens in some places */
}

static bool begins_sentence(int32_t c) {
    const utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT || category == UTF8PROC_CATEGORY_LO ||
           category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_PS || category == UTF8PROC_CATEGORY_PI ||
           c == '"' || c == '\'' || c == 0x201E || c == 0x2013 || c == 0x2014 || c == 0xBF || c == 0xA1;
}

/* ---- full stops that end nothing --------------------------------------------------------------------------- */

static bool is_short_form(const char *word, size_t bytes) {
    static const char *const forms[] = {"Dr",  "Prof", "Hr",  "Fr",  "Mr",   "Mrs", "Ms",  "St",   "Nr",     "No",
                                        "bzw", "ca",   "vgl", "usw", "evtl", "Str", "Jr",  "Sr",   "vs",     "etc",
                                        "Abs", "Art",  "Bd",  "Mio", "Mrd",  "Tel", "Mme", "Mlle", "approx", "inkl"};
    for (size_t i = 0; i < ATTN_COUNT(forms); i++)
        if (strlen(forms[i]) == bytes && !memcmp(forms[i], word, bytes)) return true;
    return false;
}

/* text[at] is a full stop: does the word before it take it for itself? */
static bool belongs_to_word(const cutter *c, size_t at) {
    size_t first = at, letters = 0, digits = 0, others = 0;
    while (first > 0 && c->text[first - 1] != ' ' && c->text[first - 1] != '(' && c->text[first - 1] != '.') first--;
    for (size_t i = first; i < at;) {
        const utf8proc_category_t category = utf8proc_category(attn_utf8_next(c->text, at, &i));
        if (category == UTF8PROC_CATEGORY_ND) digits++;
        else if (category <= UTF8PROC_CATEGORY_LO && category >= UTF8PROC_CATEGORY_LU) letters++;
        else others++;
    }
    if (others) return false;
    if (digits && !letters) return digits <= 2;
    return (letters == 1 && !digits) || is_short_form(c->text + first, at - first);
}

/* ---- pieces ---------------------------------------------------------------------------------------------------- */

static void trim(const cutter *c, size_t *first, size_t *end) {
    const char *text = c->text + *first;
    size_t bytes = *end - *first;
    attn_strip(&text, &bytes, true, true);
    *first = (size_t)(text - c->text);
    *end = *first + bytes;
}

static attn_status add(cutter *c, size_t first, size_t end) {
    trim(c, &first, &end);
    if (first == end) return ATTN_OK;
    ATTN_TRY(attn_grow(c->ctx, &c->piece, &c->capacity, c->count + 1, c->count, sizeof *c->piece));
    c->piece[c->count++] = (attn_piece){first, end};
    return ATTN_OK;
}

/* How good a place the end of a word is to cut a long sentence at. */
static int cut_quality(const char *text, size_t end) {
    const char c = text[end - 1];
    if (c == ';' || c == ':') return 3;
    if (end >= 3 && (!memcmp(text + end - 3, "\xE2\x80\x93", 3) || !memcmp(text + end - 3, "\xE2\x80\x94", 3)))
        return 3;
    return c == ',' ? 2 : 1;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static size_t word_end(const cutter *c, size_t at, size_t end) {
    while (at < end && is_space(c->text[at])) at++;
    while (at < end && !is_space(c->text[at])) at++;
    return at;
}

static size_t count_words(const cutter *c, size_t first, size_t end) {
    size_t words = 0;
    for (size_t at = word_end(c, first, end); first < end; first = at, at = word_end(c, at, end)) words++;
    return words;
}

/* A sentence: whole, or the best cut in the second half of what fits, again and again. */
static attn_status add_sentence(cutter *c, size_t first, size_t end) {
    trim(c, &first, &end);
    while (count_words(c, first, end) > c->max_words) {
        size_t at = first, cut = 0;
        int best = 0;
        for (size_t words = 1; words <= c->max_words; words++) {
            at = word_end(c, at, end);
            if (2 * words < c->max_words && c->max_words > 1) continue;
            const int quality = cut_quality(c->text, at);
            if (quality >= best) best = quality, cut = at;
        }
        ATTN_TRY(add(c, first, cut));
        first = cut;
        trim(c, &first, &end);
    }
    return add(c, first, end);
}

static attn_status split(cutter *c) {
    size_t first = 0, at = 0;
    while (at < c->bytes) {
        const size_t here = at;
        int32_t mark = attn_utf8_next(c->text, c->bytes, &at);
        if (!is_end(mark) || (mark == '.' && belongs_to_word(c, here))) continue;
        size_t next = at;
        while (at < c->bytes) { /* what closes with it: ...!?" and, after a space, » */
            while (next < c->bytes && is_space(c->text[next])) next++;
            const bool apart = next > at;
            mark = next < c->bytes ? attn_utf8_next(c->text, c->bytes, &next) : 0;
            if (apart ? mark != 0xBB : !is_end(mark) && !is_closing(mark)) break;
            at = next;
        }
        if (at >= c->bytes || !is_space(c->text[at])) continue;
        next = at;
        while (next < c->bytes && is_space(c->text[next])) next++;
        size_t peek = next;
        if (next == c->bytes || !begins_sentence(attn_utf8_next(c->text, c->bytes, &peek))) continue;
        ATTN_TRY(add_sentence(c, first, at));
        first = at = next;
    }
    return add_sentence(c, first, c->bytes);
}

attn_status attn_text_split(attn_context *ctx, attn_piece **pieces, size_t *n, const char *text, size_t bytes,
                            size_t max_words) {
    cutter c = {.ctx = ctx, .text = text, .bytes = bytes, .max_words = ATTN_MAX(max_words, 1)};
    attn_status status = split(&c);
    if (status != ATTN_OK) {
        attn_release(ctx, c.piece);
        c.piece = NULL, c.count = 0;
    }
    *pieces = c.piece;
    *n = c.count;
    return status;
}
