/* normalise.c: UTF-8, NFC, lower case, white space.
 *
 * Code points under U+0300 are in NFC already, start a new sequence and combine with nothing before them. So a text is
 * copied as it is but for its runs of code points from U+0300 on, each taken with the one character before it. */
#include "text/normalise.h"

#include <attn/text.h>
#include <string.h>
#include <utf8proc.h>

enum { FIRST_COMBINING = 0x300, REPLACEMENT = 0xFFFD };

int32_t attn_utf8_next(const char *text, size_t bytes, size_t *at) {
    unsigned char first = (unsigned char)text[*at];
    if (first < 0x80) {
        *at += 1;
        return first;
    }
    utf8proc_int32_t c;
    size_t left = ATTN_MIN(bytes - *at, 4);
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text + *at, (utf8proc_ssize_t)left, &c);
    *at += used > 0 ? (size_t)used : 1;
    return used > 0 ? c : -1;
}

size_t attn_utf8_check(const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t first = at;
        if (attn_utf8_next(text, bytes, &at) < 0) return first;
    }
    return SIZE_MAX;
}

bool attn_is_space(int32_t c) {
    if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool attn_is_word(int32_t c) {
    if (c < 0x80) return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || (c >= '0' && c <= '9') || c == '_';
    utf8proc_category_t category = utf8proc_category(c);
    return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) || category == UTF8PROC_CATEGORY_PC ||
           c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
           (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
}

size_t attn_utf8_put(char out[4], int32_t c) { return (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)out); }

static void add_code_point(attn_buffer *out, int32_t c) {
    char encoded[4];
    attn_buffer_add(out, encoded, attn_utf8_put(encoded, c));
}

unsigned attn_combining_class(int32_t c) { return (unsigned)utf8proc_get_property(c)->combining_class & 0xFF; }

/* Sorts a run of combining marks by class, equal ones in their order. utf8proc's own sort takes quadratic time. */
static attn_status sort_marks(attn_context *ctx, int32_t *c, size_t n) {
    if (n <= 32) {
        for (size_t i = 1; i < n; i++) {
            int32_t mark = c[i];
            size_t j = i;
            for (; j > 0 && attn_combining_class(c[j - 1]) > attn_combining_class(mark); j--) c[j] = c[j - 1];
            c[j] = mark;
        }
        return ATTN_OK;
    }
    int32_t *copy = attn_alloc(ctx, n, sizeof *copy);
    if (!copy) return ATTN_E_NOMEM;
    size_t place[257] = {0};
    for (size_t i = 0; i < n; i++) place[attn_combining_class(c[i]) + 1]++;
    for (size_t k = 1; k < ATTN_COUNT(place); k++) place[k] += place[k - 1];
    memcpy(copy, c, n * sizeof *c);
    for (size_t i = 0; i < n; i++) c[place[attn_combining_class(copy[i])]++] = copy[i];
    attn_release(ctx, copy);
    return ATTN_OK;
}

attn_status attn_decompose(attn_context *ctx, attn_code_points *points, int32_t c, bool compatible) {
    enum { LONGEST = 18 }; /* of any decomposition */
    ATTN_TRY(attn_grow(ctx, &points->c, &points->capacity, points->count + LONGEST, points->count, sizeof *points->c));
    int boundary = 0;
    utf8proc_option_t options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE | (compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_ssize_t n = utf8proc_decompose_char(c, points->c + points->count, LONGEST, options, &boundary);
    if (n <= 0 || n > LONGEST) { /* no such code point has a decomposition */
        points->c[points->count] = c;
        n = 1;
    }
    points->count += (size_t)n;
    return ATTN_OK;
}

attn_status attn_arrange(attn_context *ctx, attn_code_points *points, bool compose) {
    for (size_t i = 0; i < points->count;) {
        size_t end = i;
        while (end < points->count && attn_combining_class(points->c[end])) end++;
        if (end - i > 1) ATTN_TRY(sort_marks(ctx, points->c + i, end - i));
        i = end + 1;
    }
    if (!compose) return ATTN_OK;
    /* utf8proc takes U+11A7, which is no trailing consonant, for one that leaves no trace: what begins with it is
     * composed by itself. Nothing composes with it. */
    size_t kept = 0;
    for (size_t first = 0, end; first < points->count; first = end) {
        for (end = first + 1; end < points->count && points->c[end] != 0x11A7;) end++;
        utf8proc_ssize_t n = utf8proc_normalize_utf32(points->c + first, (utf8proc_ssize_t)(end - first),
                                                      UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n < 0) return attn_fail(ctx, ATTN_E_FORMAT, "NFC: %s", utf8proc_errmsg(n));
        memmove(points->c + kept, points->c + first, (size_t)n * sizeof *points->c);
        kept += (size_t)n;
    }
    points->count = kept;
    return ATTN_OK;
}

static attn_status flush(attn_buffer *out, attn_code_points *points) {
    ATTN_TRY(attn_arrange(out->ctx, points, true));
    for (size_t i = 0; i < points->count; i++) add_code_point(out, points->c[i]);
    points->count = 0;
    return out->status;
}

void attn_pass_nfc(attn_buffer *out, const char *text, size_t bytes, size_t *bad) {
    attn_code_points points = ATTN_CODE_POINTS_INIT;
    size_t copied = 0, last = SIZE_MAX, first_bad = SIZE_MAX; /* last: where the character before this one begins */
    for (size_t at = 0; at < bytes && out->status == ATTN_OK;) {
        size_t first = at;
        int32_t c = attn_utf8_next(text, bytes, &at);
        if (c >= 0 && c < FIRST_COMBINING) {
            last = first;
            continue;
        }
        size_t before = last == SIZE_MAX ? first : last;
        attn_buffer_add(out, text + copied, before - copied);
        for (at = before; at < bytes && out->status == ATTN_OK;) {
            first = at;
            c = attn_utf8_next(text, bytes, &at);
            if (c >= 0 && c < FIRST_COMBINING && first > before) {
                at = first;
                break;
            }
            if (c < 0) {
                c = REPLACEMENT;
                if (first_bad == SIZE_MAX) first_bad = first;
            }
            out->status = attn_decompose(out->ctx, &points, c, false);
        }
        if (out->status == ATTN_OK) out->status = flush(out, &points);
        copied = at;
        last = SIZE_MAX;
    }
    if (out->status == ATTN_OK) attn_buffer_add(out, text + copied, bytes - copied);
    if (bad) *bad = first_bad;
    attn_release(out->ctx, points.c);
}

void attn_pass_lowercase(attn_buffer *out, const char *text, size_t bytes) {
    size_t copied = 0;
    for (size_t at = 0; at < bytes;) {
        size_t first = at;
        int32_t c = attn_utf8_next(text, bytes, &at);
        int32_t lower = c < 0 ? REPLACEMENT : utf8proc_tolower(c);
        if (lower == c) continue;
        attn_buffer_add(out, text + copied, first - copied);
        add_code_point(out, lower);
        if (c == 0x130) add_code_point(out, 0x307); /* İ: the only letter whose lower case is two characters */
        copied = at;
    }
    attn_buffer_add(out, text + copied, bytes - copied);
}

void attn_pass_replace(attn_buffer *out, const char *text, size_t bytes, const char *from, size_t from_bytes,
                       const char *to, size_t to_bytes) {
    size_t copied = 0;
    for (const char *hit; copied < bytes && (hit = memmem(text + copied, bytes - copied, from, from_bytes)) != NULL;) {
        size_t at = (size_t)(hit - text);
        attn_buffer_add(out, text + copied, at - copied);
        attn_buffer_add(out, to, to_bytes);
        copied = at + from_bytes;
    }
    attn_buffer_add(out, text + copied, bytes - copied);
}

void attn_pass_spaces(attn_buffer *out, const char *text, size_t bytes, const char *to, size_t to_bytes) {
    size_t copied = 0;
    for (size_t at = 0; at < bytes;) {
        size_t first = at, end;
        if (!attn_is_space(attn_utf8_next(text, bytes, &at))) continue;
        for (end = at; at < bytes && attn_is_space(attn_utf8_next(text, bytes, &at));) end = at;
        at = end;
        attn_buffer_add(out, text + copied, first - copied);
        attn_buffer_add(out, to, to_bytes);
        copied = end;
    }
    attn_buffer_add(out, text + copied, bytes - copied);
}

void attn_strip(const char **text, size_t *bytes, bool left, bool right) {
    size_t first = 0, end = *bytes;
    for (size_t at = 0; left && at < end && attn_is_space(attn_utf8_next(*text, end, &at));) first = at;
    while (right && end > first) {
        size_t at = end - 1;
        while (at > first && end - at < 4 && ((unsigned char)(*text)[at] & 0xC0) == 0x80) at--;
        size_t next = at;
        if (!attn_is_space(attn_utf8_next(*text, end, &next)) || next != end) break;
        end = at;
    }
    *text += first;
    *bytes = end - first;
}

attn_status attn_text_normalise(attn_context *ctx, char **out, size_t *out_bytes, const char *text, size_t bytes,
                                size_t *bad) {
    attn_buffer nfc = ATTN_BUFFER_INIT(ctx), mapped = ATTN_BUFFER_INIT(ctx), given = ATTN_BUFFER_INIT(ctx);
    attn_pass_nfc(&nfc, text, bytes, bad);
    if (nfc.status == ATTN_OK) attn_pass_replace(&mapped, nfc.data, nfc.bytes, "\xE2\x80\x99", 3, "'", 1);
    else mapped.status = nfc.status;
    if (mapped.status == ATTN_OK) {
        const char *stripped = mapped.data;
        size_t left = mapped.bytes;
        attn_strip(&stripped, &left, true, true);
        attn_pass_spaces(&given, stripped, left, " ", 1);
    } else given.status = mapped.status;
    attn_buffer_free(&nfc);
    attn_buffer_free(&mapped);
    return attn_buffer_give(&given, out, out_bytes);
}

attn_status attn_text_lowercase(attn_context *ctx, char **out, size_t *out_bytes, const char *text, size_t bytes) {
    attn_buffer given = ATTN_BUFFER_INIT(ctx);
    attn_pass_lowercase(&given, text, bytes);
    return attn_buffer_give(&given, out, out_bytes);
}

void attn_text_free(attn_context *ctx, void *text) { attn_release(ctx, text); }
