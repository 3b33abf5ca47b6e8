/* label.c: any bytes into text that can be seen and does nothing.
 *   (I1) the output is valid UTF-8 of assigned, visible characters, spaces, and marks or joiners that follow one
 *   (I2) it is cut between two grapheme clusters only
 *   (I3) its length is bounded: at most MARKS zero-width characters follow a visible one */
#include "viz/drawing.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

enum { MARKS = 6 };

static bool is_joiner(int32_t c) { return c == 0x200C || c == 0x200D; }
static bool is_variation(int32_t c) { return (c >= 0xFE00 && c <= 0xFE0F) || (c >= 0xE0100 && c <= 0xE01EF); }

/* Fillers: letters by category, blank by nature. */
static bool is_blank_letter(int32_t c) {
    return c == 0x115F || c == 0x1160 || c == 0x3164 || c == 0xFFA0 || c == 0x2800 || c == 0x17B4 || c == 0x17B5 ||
           (c >= 0x180B && c <= 0x180F);
}

static bool is_mark(int32_t c) {
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME;
}

/* Must be shown by its number. */
static bool is_hidden(int32_t c) {
    if (is_blank_letter(c)) return true;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return true;
    default: return false;
    }
}

/* One character (or bad byte) as it will be seen. */
typedef struct shown {
    char text[16];
    size_t bytes, columns;
    bool joins;        /* zero-width: belongs to the character before */
    int32_t character; /* for the grapheme rule */
} shown;

static void show_number(shown *piece, const char *form, int32_t number) {
    piece->bytes = (size_t)snprintf(piece->text, sizeof piece->text, form, (unsigned)number);
    piece->columns = piece->bytes;
    piece->character = '<';
}

static void show_character(shown *piece, int32_t c) {
    piece->bytes = (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)piece->text);
    int width = utf8proc_charwidth(c);
    piece->columns = width > 0 ? (size_t)width : 0;
    piece->character = c;
}

/* Reads one character at text (of `bytes` > 0 left) and returns how many bytes it took. */
static size_t next_piece(shown *piece, const char *text, size_t bytes, bool after_base, bool at_end, unsigned flags) {
    *piece = (shown){.bytes = 0};
    utf8proc_int32_t c;
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)ATTN_MIN(bytes, 4), &c);
    if (used <= 0) {
        show_number(piece, "<0x%02X>", (unsigned char)*text);
        return 1;
    }
    if (is_joiner(c) || is_variation(c) || is_mark(c)) {
        bool dropped = (flags & VIZ_TERMINAL) && (is_joiner(c) || is_variation(c));
        if (is_blank_letter(c) || (!after_base && (is_joiner(c) || is_variation(c)))) {
            show_number(piece, "<U+%04X>", c);
        } else if (!dropped && after_base) {
            show_character(piece, c);
            piece->columns = 0;
            piece->joins = true;
        } else if (!dropped) { /* a mark without a letter sits on a dotted circle */
            size_t circle = (size_t)utf8proc_encode_char(0x25CC, (utf8proc_uint8_t *)piece->text);
            piece->bytes = circle + (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)piece->text + circle);
            piece->columns = 1;
            piece->character = c;
        } else {
            piece->joins = true;
        }
    } else if (is_hidden(c)) {
        show_number(piece, "<U+%04X>", c);
    } else if (at_end && (flags & VIZ_WORD) && utf8proc_category(c) == UTF8PROC_CATEGORY_ZS) {
        if (c != ' ') show_number(piece, "<U+%04X>", c);
        else show_character(piece, flags & VIZ_ASCII ? '_' : 0x2423);
    } else {
        show_character(piece, c);
    }
    return (size_t)used;
}

static bool is_space(const char *text, size_t bytes, size_t *step) {
    utf8proc_int32_t c;
    utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)ATTN_MIN(bytes, 4), &c);
    *step = used > 0 ? (size_t)used : 1;
    return used > 0 && utf8proc_category(c) == UTF8PROC_CATEGORY_ZS;
}

/* Where the text without its outer spaces starts and ends. */
static void find_inside(const char *text, size_t bytes, size_t *start, size_t *end) {
    *start = bytes;
    *end = bytes;
    for (size_t at = 0, step; at < bytes; at += step) {
        if (is_space(text + at, bytes - at, &step)) continue;
        if (*start == bytes) *start = at;
        *end = at + step;
    }
}

size_t viz_label_add(attn_buffer *out, const char *text, size_t columns, unsigned flags) {
    const char *ellipsis = flags & VIZ_ASCII ? "..." : "\xE2\x80\xA6";
    size_t ellipsis_columns = flags & VIZ_ASCII ? 3 : 1, bytes = strlen(text), start, end;
    if (columns < ellipsis_columns) ellipsis = "", ellipsis_columns = 0;
    find_inside(text, bytes, &start, &end);
    size_t used = 0, marks = 0, cut = out->bytes, cut_columns = 0; /* cut: the last place for the ellipsis */
    utf8proc_int32_t before = -1, state = 0;
    for (size_t at = 0; at < bytes && out->status == ATTN_OK;) {
        shown piece;
        bool after_base = before >= 0 && before != ' ';
        at += next_piece(&piece, text + at, bytes - at, after_base, at < start || at >= end, flags);
        if (piece.joins && piece.bytes == 0) continue;
        bool breaks = before < 0 || utf8proc_grapheme_break_stateful(before, piece.character, &state);
        marks = piece.joins ? marks + 1 : 0;
        bool overflows = marks > MARKS || used + piece.columns > columns;
        if ((breaks || marks > MARKS) && used + ellipsis_columns <= columns) cut = out->bytes, cut_columns = used;
        if (overflows) {
            out->bytes = cut;
            if (out->data) out->data[cut] = '\0';
            attn_buffer_text(out, ellipsis);
            return cut_columns + ellipsis_columns;
        }
        attn_buffer_add(out, piece.text, piece.bytes);
        used += piece.columns;
        before = piece.character;
    }
    return used;
}

attn_status viz_labels_make(attn_context *ctx, attn_buffer *pool, viz_label **out, const char *const *words, size_t n,
                            size_t columns, unsigned flags) {
    viz_label *labels = attn_alloc(ctx, n, sizeof *labels);
    *out = labels;
    if (!labels) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        char number[VIZ_NUMBER_BYTES];
        const char *word = words ? words[i] : number;
        if (!words) snprintf(number, sizeof number, "%zu", i);
        labels[i].text = pool->bytes;
        labels[i].columns = viz_label_add(pool, word ? word : "", columns, flags);
        labels[i].bytes = pool->bytes - labels[i].text;
    }
    return pool->status;
}
