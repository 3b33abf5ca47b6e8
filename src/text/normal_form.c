/* normal_form.c: NFC, NFD, NFKC, NFKD of traced text.
 *
 * A text is cut into segments that no rule of normalisation crosses: each begins with a character of combining class 0
 * that composes with nothing before it. A segment is decomposed, put in order and composed by itself, and what it
 * becomes comes from all of it. Linear time. */
#include "text/normalisers.h"

#include <string.h>

/* Characters of class 0 that compose with one before them: Hangul vowels and final consonants, vowel signs of Indic
 * scripts. First and last of ranges. */
static const int32_t second_parts[][2] = {
    {0x09BE, 0x09BE},   {0x09D7, 0x09D7},   {0x0B3E, 0x0B3E},   {0x0B56, 0x0B57},   {0x0BBE, 0x0BBE},
    {0x0BD7, 0x0BD7},   {0x0CC2, 0x0CC2},   {0x0CD5, 0x0CD6},   {0x0D3E, 0x0D3E},   {0x0D57, 0x0D57},
    {0x0DCF, 0x0DCF},   {0x0DDF, 0x0DDF},   {0x102E, 0x102E},   {0x1161, 0x1175},   {0x11A7, 0x11C2},
    {0x1B35, 0x1B35},   {0x11127, 0x11127}, {0x1133E, 0x1133E}, {0x11357, 0x11357}, {0x113B8, 0x113C9},
    {0x114B0, 0x114B0}, {0x114BA, 0x114BA}, {0x114BD, 0x114BD}, {0x115AF, 0x115AF}, {0x11930, 0x11930},
    {0x1611E, 0x16129}, {0x16D63, 0x16D63}, {0x16D67, 0x16D67},
};

/* Nothing before c composes with it or changes places with it. */
static bool begins_segment(int32_t c) {
    if (c < 0x300) return true;
    if (attn_combining_class(c)) return false;
    for (size_t i = 0; i < ATTN_COUNT(second_parts); i++)
        if (c >= second_parts[i][0] && c <= second_parts[i][1]) return false;
    return true;
}

/* The points are the characters of text[first, end). */
static bool is_same(const attn_code_points *points, const char *text, size_t first, size_t end) {
    size_t i = 0;
    while (first < end && i < points->count && attn_utf8_next(text, end, &first) == points->c[i]) i++;
    return first == end && i == points->count;
}

/* Writes the first n points, made of in[first, end), and moves those behind them to the front. */
static attn_status put_segment(attn_work *work, attn_traced *out, const attn_traced *in, size_t first, size_t end,
                               size_t n, bool compose) {
    enum { LONGEST = 18 }; /* of the decomposition of the character behind */
    attn_code_points *points = &work->points;
    int32_t behind[LONGEST];
    size_t rest = points->count - n;
    memcpy(behind, points->c + n, rest * sizeof *behind);
    points->count = n;
    ATTN_TRY(attn_arrange(work->ctx, points, compose));
    bool same = is_same(points, in->text.data, first, end);
    if (same) attn_traced_copy(out, in, first, end); /* each comes from itself alone */
    for (size_t i = 0; i < points->count && !same; i++) {
        char encoded[4];
        attn_traced_put(out, encoded, attn_utf8_put(encoded, points->c[i]), in, first, end);
    }
    memcpy(points->c, behind, rest * sizeof *behind);
    points->count = rest;
    return out->text.status;
}

attn_status attn_normal_form(attn_work *work, attn_traced *out, const attn_traced *in, bool compatible, bool compose) {
    const char *text = in->text.data;
    size_t bytes = in->text.bytes, first = 0;
    work->points.count = 0;
    for (size_t at = 0; at < bytes;) {
        size_t before = work->points.count, here = at;
        if (!before) { /* ASCII with ASCII behind it stays */
            while (at < bytes && (unsigned char)text[at] < 0x80 &&
                   (at + 1 == bytes || (unsigned char)text[at + 1] < 0x80))
                at++;
            if (at > here) {
                attn_traced_copy(out, in, here, at);
                first = at;
                continue;
            }
        }
        ATTN_TRY(attn_decompose(work->ctx, &work->points, attn_utf8_next(text, bytes, &at), compatible));
        if (before && begins_segment(work->points.c[before])) {
            ATTN_TRY(put_segment(work, out, in, first, here, before, compose));
            first = here;
        }
        if (at < bytes && (unsigned char)text[at] < 0x80) { /* nothing joins with what follows */
            ATTN_TRY(put_segment(work, out, in, first, at, work->points.count, compose));
            first = at;
        }
    }
    if (work->points.count) ATTN_TRY(put_segment(work, out, in, first, bytes, work->points.count, compose));
    return out->text.status;
}
