/* terminal_heatmap.c: a heat map in character cells. Every source word stands on a line of its own, with a line down to
 * its column, so that words of any length and script read normally:
 *
 *            ┌ Kannst
 *            │  ┌ du
 *            │  │  ┌ mir
 *        Can ███░░░    ← Kannst 0.83
 *        you ░░░███    ← du 0.91
 *
 * Cells become narrower as the columns become more. A map that is still too wide is cut into pieces below each other,
 * and the list of best source words follows by itself. */
#include "viz/terminal.h"

#include <math.h>

enum { NUMBERED = 12, BEST_COLUMNS = 5 /* " 0.91" */ };

typedef struct layout {
    attn_context *ctx;
    attn_buffer *out;
    viz_terminal terminal;
    const attn_heatmap *map;
    attn_buffer words;
    viz_label *rows, *columns;
    size_t row_width, column_width; /* of the widest word */
    size_t best_width;              /* of the best source words, the arrow and number included; 0: in a list below */
    size_t cell, piece;             /* characters of a cell; columns of a piece */
} layout;

static size_t widest(const viz_label *labels, size_t n) {
    size_t most = 0;
    for (size_t i = 0; i < n; i++) most = ATTN_MAX(most, labels[i].columns);
    return most;
}

/* SIZE_MAX: no weight in this row. */
static size_t best_column(const attn_heatmap *map, size_t row) {
    size_t best = SIZE_MAX;
    for (size_t j = 0; j < map->columns; j++) {
        float value = map->values[row * map->columns + j];
        if (viz_is_weight(value) && (best == SIZE_MAX || value > map->values[row * map->columns + best])) best = j;
    }
    return best;
}

static void choose_cells(layout *l) {
    size_t n = l->map->columns, width = l->terminal.width, arrow = l->terminal.unicode ? 2 : 3;
    size_t best = 0;
    for (size_t i = 0; i < l->map->rows; i++) {
        size_t j = best_column(l->map, i);
        if (j != SIZE_MAX) best = ATTN_MAX(best, l->columns[j].columns);
    }
    l->best_width = 1 + arrow + best + BEST_COLUMNS;
    size_t side = l->row_width + 1 + ATTN_MAX(l->best_width, l->column_width + 2);
    bool numbered = l->terminal.colours && n <= NUMBERED;
    l->piece = n;
    for (l->cell = numbered ? 5 : n <= NUMBERED ? 3 : 2; l->cell > 0; l->cell--)
        if (side < width && n <= (width - side) / l->cell) return;
    l->best_width = 0;
    side = l->row_width + 1 + ATTN_MIN(l->column_width, (size_t)10) + 2;
    size_t room = width > side + 4 ? width - side : 4;
    for (l->cell = n <= NUMBERED ? 3 : 2; l->cell > 0; l->cell--)
        if (n <= room / l->cell) return;
    size_t pieces = (n + room - 1) / room, wide_pieces = (n + room / 2 - 1) / (room / 2);
    l->cell = wide_pieces <= pieces + 1 ? 2 : 1;
    if (l->cell == 2) pieces = wide_pieces;
    l->piece = (n + pieces - 1) / pieces;
}

static void draw_header(layout *l, size_t from, size_t to) {
    const char *bar = l->terminal.unicode ? "\xE2\x94\x82" : "|",
               *corner = l->terminal.unicode ? "\xE2\x94\x8C " : ". ";
    size_t before = (l->cell - 1) / 2, after = l->cell - 1 - before;
    for (size_t j = from; j < to && l->out->status == ATTN_OK; j++) {
        viz_repeat(l->out, " ", l->row_width + 1);
        for (size_t c = from; c < j; c++) {
            viz_repeat(l->out, " ", before);
            attn_buffer_text(l->out, bar);
            viz_repeat(l->out, " ", after);
        }
        viz_repeat(l->out, " ", before);
        attn_buffer_text(l->out, corner);
        size_t used = l->row_width + 1 + (j - from) * l->cell + before + 2, room = l->terminal.width - used;
        const char *word = l->words.data + l->columns[j].text;
        if (l->columns[j].columns <= room) {
            attn_buffer_add(l->out, word, l->columns[j].bytes);
        } else { /* the pool has no NUL between words */
            char *copy = attn_copy_text(l->ctx, word, l->columns[j].bytes);
            if (copy) viz_label_add(l->out, copy, room, l->terminal.label_flags);
            else l->out->status = ATTN_E_NOMEM;
            attn_release(l->ctx, copy);
        }
        attn_buffer_text(l->out, "\n");
    }
}

/* At most three characters: ".83", "1.0", "n/a". */
static const char *short_number(char number[VIZ_NUMBER_BYTES], float value) {
    if (isnan(value)) return "n/a";
    if (!viz_is_weight(value)) return isinf(value) ? "inf" : value > 0.0f ? ">1" : "<0";
    viz_number(number, fmaxf(value, 0.0f), value >= 0.995f ? 1 : 2);
    return value >= 0.995f ? number : number + 1;
}

static void draw_coloured(layout *l, float value, size_t cell) {
    bool is_weight = viz_is_weight(value);
    viz_colour ground = is_weight ? viz_map(value) : viz_missing;
    if (is_weight) viz_terminal_ground(l->out, &l->terminal, value);
    else viz_terminal_colour(l->out, &l->terminal, ground, true);
    if (cell >= 4) {
        char number[VIZ_NUMBER_BYTES];
        viz_colour ink = is_weight && value < 0.005f ? (viz_colour){150, 160, 172} : viz_on_colour(ground);
        viz_terminal_colour(l->out, &l->terminal, ink, false);
        attn_buffer_printf(l->out, " %-*.3s", (int)cell - 1, short_number(number, value));
    } else if (is_weight) {
        viz_repeat(l->out, " ", cell);
    } else {
        viz_terminal_colour(l->out, &l->terminal, viz_soft_ink, false);
        viz_repeat(l->out, l->terminal.unicode ? "\xE2\x95\xB1" : "/", cell);
    }
}

static void draw_shade(layout *l, float value, size_t cell) {
    static const char *const blocks[] = {"", "\xE2\x96\x91", "\xE2\x96\x92", "\xE2\x96\x93", "\xE2\x96\x88"};
    static const char *const letters[] = {" ", ".", ":", "-", "=", "+", "*", "#", "%", "@"};
    bool unicode = l->terminal.unicode;
    if (!viz_is_weight(value)) {
        viz_repeat(l->out, unicode ? "\xE2\x95\xB1" : "?", cell);
    } else if (!unicode) {
        int level = (int)(fminf(fmaxf(value, 0.0f), 1.0f) * 9.0f + 0.5f);
        viz_repeat(l->out, letters[value >= 0.04f ? ATTN_MAX(level, 1) : 0], cell);
    } else if (value < 0.04f) { /* a dot below the line of its column */
        size_t before = (cell - 1) / 2;
        viz_repeat(l->out, " ", before);
        attn_buffer_text(l->out, "\xC2\xB7");
        viz_repeat(l->out, " ", cell - 1 - before);
    } else {
        viz_repeat(l->out, blocks[1 + ATTN_MIN(3, (int)(value * 4.0f))], cell);
    }
}

static void draw_best(layout *l, size_t row) {
    size_t best = best_column(l->map, row);
    attn_buffer_text(l->out, l->terminal.unicode ? " \xE2\x86\x90 " : " <- ");
    char number[VIZ_NUMBER_BYTES] = "n/a";
    if (best != SIZE_MAX) {
        attn_buffer_add(l->out, l->words.data + l->columns[best].text, l->columns[best].bytes);
        attn_buffer_text(l->out, " ");
        viz_number(number, l->map->values[row * l->map->columns + best], 2);
    }
    attn_buffer_text(l->out, number);
}

static void draw_row_word(layout *l, size_t row) {
    viz_repeat(l->out, " ", l->row_width - l->rows[row].columns);
    attn_buffer_add(l->out, l->words.data + l->rows[row].text, l->rows[row].bytes);
}

static void draw_piece(layout *l, size_t from, size_t to) {
    draw_header(l, from, to);
    for (size_t i = 0; i < l->map->rows && l->out->status == ATTN_OK; i++) {
        draw_row_word(l, i);
        attn_buffer_text(l->out, " ");
        for (size_t j = from; j < to; j++) {
            float value = l->map->values[i * l->map->columns + j];
            if (l->terminal.colours) draw_coloured(l, value, l->cell);
            else draw_shade(l, value, l->cell);
        }
        viz_terminal_reset(l->out, &l->terminal);
        if (l->best_width) draw_best(l, i);
        attn_buffer_text(l->out, "\n");
    }
}

static void draw_scale(layout *l) {
    viz_repeat(l->out, " ", l->row_width - 1);
    attn_buffer_text(l->out, "0 ");
    size_t steps = ATTN_MIN((size_t)20, l->terminal.width - l->row_width - 5);
    for (size_t i = 0; i < steps; i++) {
        float value = (float)i / (float)(steps - 1);
        if (l->terminal.colours) draw_coloured(l, value, 1);
        else draw_shade(l, value, 1);
    }
    viz_terminal_reset(l->out, &l->terminal);
    attn_buffer_text(l->out, " 1\n");
}

static void draw_axis_names(layout *l) {
    const char *row = l->map->row_axis, *column = l->map->column_axis;
    if (!row && !column) return;
    size_t most = (l->terminal.width - 5) / 2;
    if (row) {
        viz_label_add(l->out, row, most, l->terminal.label_flags);
        attn_buffer_text(l->out, l->terminal.unicode ? " \xE2\x86\x93  " : ":  ");
    }
    if (column) {
        viz_label_add(l->out, column, most, l->terminal.label_flags);
        attn_buffer_text(l->out, l->terminal.unicode ? " \xE2\x86\x92" : " ->");
    }
    attn_buffer_text(l->out, "\n");
}

static attn_status draw(layout *l) {
    const attn_heatmap *map = l->map;
    unsigned flags = l->terminal.label_flags | VIZ_WORD;
    size_t most = ATTN_MIN((size_t)VIZ_LABEL_COLUMNS, ATTN_MAX((size_t)5, l->terminal.width / 3 - 2));
    ATTN_TRY(viz_labels_make(l->ctx, &l->words, &l->rows, map->row_labels, map->rows, most, flags));
    ATTN_TRY(viz_labels_make(l->ctx, &l->words, &l->columns, map->column_labels, map->columns, most, flags));
    attn_buffer_text(&l->words, ""); /* never NULL */
    l->row_width = ATTN_MAX(widest(l->rows, map->rows), (size_t)1);
    l->column_width = widest(l->columns, map->columns);
    viz_terminal_line(l->out, &l->terminal, map->title);
    draw_axis_names(l);
    if (map->rows == 0 || map->columns == 0) {
        attn_buffer_text(l->out, "(no words)\n");
        return ATTN_OK;
    }
    choose_cells(l);
    for (size_t from = 0; from < map->columns && l->out->status == ATTN_OK; from += l->piece) {
        if (from) attn_buffer_text(l->out, "\n");
        draw_piece(l, from, ATTN_MIN(from + l->piece, map->columns));
    }
    draw_scale(l);
    if (l->best_width) return ATTN_OK;
    attn_buffer_text(l->out, "\n");
    for (size_t i = 0; i < map->rows && l->out->status == ATTN_OK; i++) {
        draw_row_word(l, i);
        draw_best(l, i);
        attn_buffer_text(l->out, "\n");
    }
    return l->words.status;
}

attn_status attn_heatmap_terminal(attn_context *ctx, char **out, size_t *bytes, const attn_heatmap *map,
                                  const attn_terminal_options *options) {
    *out = NULL;
    attn_buffer text = ATTN_BUFFER_INIT(ctx);
    layout l = {.ctx = ctx, .out = &text, .map = map, .words = ATTN_BUFFER_INIT(ctx)};
    ATTN_TRY(viz_terminal_read(ctx, &l.terminal, options));
    ATTN_TRY(viz_heatmap_check(ctx, map));
    attn_status status = draw(&l);
    attn_release(ctx, l.rows);
    attn_release(ctx, l.columns);
    attn_buffer_free(&l.words);
    if (status == ATTN_OK) return attn_buffer_give(&text, out, bytes);
    attn_buffer_free(&text);
    return status;
}
