/* bleu_ngrams.c: characters and words as Python's str has them; n-grams that two sentences share. */
#include "text/bleu.h"

#include <string.h>
#include <utf8proc.h>

/* ---- characters ----------------------------------------------------------------------------- */

uint32_t attn_character_next(const char **text, const char *end) {
    const unsigned char *at = (const unsigned char *)*text;
    if (at[0] < 0x80) {
        *text += 1;
        return at[0];
    }
    utf8proc_int32_t character = -1;
    size_t left = (size_t)(end - *text);
    utf8proc_ssize_t bytes = utf8proc_iterate(at, (utf8proc_ssize_t)ATTN_MIN(left, (size_t)4), &character);
    *text += bytes > 0 ? bytes : 1;
    return bytes > 0 ? (uint32_t)character : 0xFFFD;
}

bool attn_character_is_space(uint32_t c) {
    if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool attn_word_next(const char **text, const char *limit, const char **first, const char **end) {
    const char *at = *text;
    *first = NULL;
    while (at < limit) {
        const char *here = at;
        bool space = attn_character_is_space(attn_character_next(&at, limit));
        if (space && *first) {
            *end = here;
            *text = at;
            return true;
        }
        if (!space && !*first) *first = here;
    }
    *text = *end = limit;
    return *first != NULL;
}

/* ---- lower case ----------------------------------------------------------------------------- */

/* The properties Cased and Case_Ignorable of Unicode, as far as they decide about a final sigma. */
static bool is_cased(uint32_t c) {
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    if (category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT)
        return true;
    return c == 0xAA || c == 0xBA || (c >= 0x2B0 && c <= 0x2B8) || c == 0x2C0 || c == 0x2C1 ||
           (c >= 0x2E0 && c <= 0x2E4) || c == 0x37A || (c >= 0x1D2C && c <= 0x1D6A) || c == 0x1D78 ||
           (c >= 0x1D9B && c <= 0x1DBF) || c == 0x2071 || c == 0x207F || (c >= 0x2090 && c <= 0x209C) ||
           (c >= 0x2160 && c <= 0x217F) || (c >= 0x24B6 && c <= 0x24E9);
}

static bool is_case_ignorable(uint32_t c) {
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK: return true;
    default: break;
    }
    return c == '\'' || c == '.' || c == ':' || c == 0xB7 || c == 0x387 || c == 0x55F || c == 0x5F4 || c == 0x2018 ||
           c == 0x2019 || c == 0x2024 || c == 0x2027 || c == 0xFE13 || c == 0xFE52 || c == 0xFE55 || c == 0xFF07 ||
           c == 0xFF0E || c == 0xFF1A;
}

/* A capital sigma in [text, limit), at [at, after): a cased letter before it and none behind, marks between not
 * counted. */
static bool is_final_sigma(const char *text, const char *at, const char *after, const char *limit) {
    uint32_t before = 0;
    for (const char *end = at; end > text;) {
        const char *first = end - 1;
        while (first > text && ((unsigned char)*first & 0xC0) == 0x80) first--;
        const char *next = first;
        uint32_t c = attn_character_next(&next, end);
        if (!is_case_ignorable(c)) {
            before = c;
            break;
        }
        end = first;
    }
    if (!before || !is_cased(before)) return false;
    while (after < limit) {
        uint32_t c = attn_character_next(&after, limit);
        if (!is_case_ignorable(c)) return !is_cased(c);
    }
    return true;
}

void attn_lower_add(attn_buffer *buffer, const char *text, size_t bytes) {
    const char *limit = text + bytes;
    for (const char *at = text; at < limit;) {
        const char *here = at;
        uint32_t c = attn_character_next(&at, limit);
        if (c < 0x80) {
            char lower = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
            attn_buffer_add(buffer, &lower, 1);
            continue;
        }
        if (c == 0x130) {
            attn_buffer_add(buffer, "i\xCC\x87", 3);
            continue;
        }
        uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        if (c == 0x3A3 && is_final_sigma(text, here, at, limit)) lower = 0x3C2;
        if (lower == c) {
            attn_buffer_add(buffer, here, (size_t)(at - here));
        } else {
            utf8proc_uint8_t encoded[4];
            attn_buffer_add(buffer, encoded, (size_t)utf8proc_encode_char((utf8proc_int32_t)lower, encoded));
        }
    }
}

/* ---- n-grams -------------------------------------------------------------------------------- */

static uint64_t scramble(uint64_t key) { /* the finisher of SplitMix64 */
    key = (key ^ (key >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    key = (key ^ (key >> 27)) * UINT64_C(0x94D049BB133111EB);
    return key ^ (key >> 31);
}

static attn_ngram_slot *find(attn_ngram_slot *slot, size_t mask, uint64_t key, uint32_t *ids) {
    size_t at = (size_t)scramble(key) & mask;
    while (slot[at].id && slot[at].key != key) at = (at + 1) & mask;
    if (!slot[at].id) slot[at] = (attn_ngram_slot){key, ++*ids, 0};
    return &slot[at];
}

/* An n-gram is its (n−1)-gram, known by number, and one more symbol: so every order costs the same. */
attn_status attn_ngrams_match(attn_ngram_work *work, attn_ngram_counts *counts, const uint32_t *hypothesis,
                              size_t hypothesis_n, const uint32_t *reference, size_t reference_n, int orders) {
    memset(counts, 0, sizeof *counts);
    size_t both;
    if (!attn_size_add(&both, hypothesis_n, reference_n) || both > UINT32_MAX / 4)
        return attn_fail(work->ctx, ATTN_E_ARGUMENT, "a pair of lines of %zu and %zu symbols; at most %u together",
                         hypothesis_n, reference_n, (unsigned)(UINT32_MAX / 4));
    size_t slots = 16;
    while (slots < 2 * both) slots *= 2;
    ATTN_TRY(attn_grow(work->ctx, &work->slot, &work->slots, slots, 0, sizeof *work->slot));
    ATTN_TRY(attn_grow(work->ctx, &work->prefix, &work->prefixes, both + 1, 0, sizeof *work->prefix));
    uint32_t *hypothesis_prefix = work->prefix, *reference_prefix = work->prefix + hypothesis_n;
    memset(work->prefix, 0, both * sizeof *work->prefix);
    for (int order = 1; order <= orders; order++) {
        size_t length = (size_t)order, k = length - 1;
        uint32_t ids = 0;
        memset(work->slot, 0, slots * sizeof *work->slot);
        for (size_t i = 0; i + length <= reference_n; i++) {
            uint64_t key = (uint64_t)reference_prefix[i] << 32 | reference[i + k];
            attn_ngram_slot *slot = find(work->slot, slots - 1, key, &ids);
            slot->left++;
            reference_prefix[i] = slot->id;
            counts->reference[k]++;
        }
        for (size_t i = 0; i + length <= hypothesis_n; i++) {
            uint64_t key = (uint64_t)hypothesis_prefix[i] << 32 | hypothesis[i + k];
            attn_ngram_slot *slot = find(work->slot, slots - 1, key, &ids);
            if (slot->left) slot->left--, counts->match[k]++;
            hypothesis_prefix[i] = slot->id;
            counts->hypothesis[k]++;
        }
    }
    return ATTN_OK;
}

void attn_ngram_work_free(attn_ngram_work *work) {
    attn_release(work->ctx, work->slot);
    attn_release(work->ctx, work->prefix);
    *work = (attn_ngram_work)ATTN_NGRAM_WORK_INIT(work->ctx);
}

attn_status attn_measure_check(attn_context *ctx, const char *name, const void *out, const char *const *hypotheses,
                               const char *const *references, size_t n) {
    if (!ctx) return ATTN_E_ARGUMENT;
    if (!out || !hypotheses || !references) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: a NULL argument", name);
    if (!n) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s of no sentence; at least one is needed", name);
    for (size_t i = 0; i < n; i++)
        if (!hypotheses[i] || !references[i])
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s %zu of %zu is NULL", name,
                             hypotheses[i] ? "reference" : "hypothesis", i + 1, n);
    return ATTN_OK;
}
