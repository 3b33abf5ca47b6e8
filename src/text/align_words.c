/* align_words.c: lines to words, words to numbers. */
#include "text/align.h"
#include "text/bleu.h"

#include <string.h>
#include <utf8proc.h>

/* ---- punctuation apart from words ------------------------------------------------------------- */

static bool is_punctuation(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return c != 0xFFFD;
    default: return false;
    }
}

static bool is_number(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND; }
static bool is_word_part(uint32_t c) { return c && !is_punctuation(c) && !attn_character_is_space(c); }
static bool is_apostrophe(uint32_t c) { return c == '\'' || c == 0x2019; }
static bool is_hyphen(uint32_t c) { return c == '-' || c == 0x2010 || c == 0x2011; }

/* Behind an apostrophe: one of the short forms of English, and then the word's end. */
static bool is_short_form(const char *at, const char *limit) {
    static const char *const form[] = {"s", "t", "m", "d", "ll", "re", "ve"};
    for (size_t i = 0; i < ATTN_COUNT(form); i++) {
        size_t bytes = strlen(form[i]);
        if ((size_t)(limit - at) < bytes) continue;
        bool same = true;
        for (size_t k = 0; k < bytes; k++) same = same && ((unsigned char)at[k] | 0x20) == (unsigned char)form[i][k];
        if (!same) continue;
        const char *next = at + bytes;
        if (next == limit || !is_word_part(attn_character_next(&next, limit))) return true;
    }
    return false;
}

typedef enum cut { CUT_NONE = 0, CUT_BEFORE = 1, CUT_AFTER = 2 } cut;

/* Where a mark c between `before` and what follows is cut off. */
static cut cut_at(uint32_t before, uint32_t c, const char *at, const char *limit) {
    const char *next = at;
    uint32_t after = at < limit ? attn_character_next(&next, limit) : 0;
    if ((c == '.' || c == ',') && is_number(before) && is_number(after)) return CUT_NONE; /* 1,000.5 */
    if (is_hyphen(c) && is_word_part(before) && is_word_part(after)) return CUT_NONE;     /* six-year */
    if (is_apostrophe(c)) {
        if (is_short_form(at, limit)) return CUT_BEFORE;                   /* Tom 's, we 'll, geht 's */
        if (is_word_part(before) && is_word_part(after)) return CUT_AFTER; /* l' homme */
    }
    if (c == before && c == after) return CUT_NONE; /* ... stays together */
    if (c == before) return CUT_AFTER;
    return c == after ? CUT_BEFORE : (cut)(CUT_BEFORE | CUT_AFTER);
}

attn_status attn_words_split_punctuation(attn_context *ctx, char **out, const char *text) {
    if (!ctx) return ATTN_E_ARGUMENT;
    if (!out || !text) return attn_fail(ctx, ATTN_E_ARGUMENT, "splitting off punctuation: a NULL argument");
    attn_buffer buffer = ATTN_BUFFER_INIT(ctx);
    uint32_t before = 0; /* the character just written; 0 at a word's start */
    bool space = false;  /* one is due before the next character */
    for (const char *limit = text + strlen(text); text < limit;) {
        const char *here = text;
        uint32_t c = attn_character_next(&text, limit);
        if (attn_character_is_space(c)) {
            space = true, before = 0;
            continue;
        }
        cut at = is_punctuation(c) ? cut_at(before, c, text, limit) : CUT_NONE;
        if ((space || at & CUT_BEFORE) && buffer.bytes && buffer.data[buffer.bytes - 1] != ' ')
            attn_buffer_text(&buffer, " ");
        attn_buffer_add(&buffer, here, (size_t)(text - here));
        space = (at & CUT_AFTER) != 0;
        before = c;
    }
    size_t bytes;
    attn_status status = attn_buffer_give(&buffer, out, &bytes);
    if (status != ATTN_OK) attn_buffer_free(&buffer);
    return status;
}

/* ---- words ------------------------------------------------------------------------------------ */

attn_status attn_sentence_read(attn_context *ctx, attn_sentence *sentence, const attn_vocabulary *known,
                               attn_vocabulary *add, const char *text, bool lowercase) {
    size_t bytes = strlen(text);
    sentence->count = 0;
    sentence->line.bytes = 0;
    if (lowercase) attn_lower_add(&sentence->line, text, bytes);
    else attn_buffer_add(&sentence->line, text, bytes);
    ATTN_TRY(sentence->line.status);
    if (!sentence->line.bytes) return ATTN_OK;
    const char *at = sentence->line.data, *limit = at + sentence->line.bytes, *first, *end;
    while (attn_word_next(&at, limit, &first, &end)) {
        int32_t id;
        size_t n = sentence->count, length = (size_t)(end - first);
        if (add) ATTN_TRY(attn_vocabulary_add(add, first, length, &id));
        else id = attn_vocabulary_find(known, first, length);
        ATTN_TRY(attn_grow(ctx, &sentence->word, &sentence->capacity, n + 1, n, sizeof *sentence->word));
        sentence->word[n] = id < 0 ? 0 : (uint32_t)id;
        sentence->count++;
    }
    return ATTN_OK;
}
