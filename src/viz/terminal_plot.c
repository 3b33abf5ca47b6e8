/* terminal_plot.c: a line chart in character cells: braille dots (2 by 4 to a cell) in the colour of the series, or,
 * without colours or Unicode, a letter for each series. */
#include "viz/terminal.h"

#include <math.h>
#include <string.h>

static const char marks[] = "*o+x#@%&";

typedef struct chart_cell {
    uint8_t dots;    /* as U+2800 has them */
    uint32_t series; /* plus one; 0: empty */
} chart_cell;

typedef struct layout {
    attn_context *ctx;
    attn_buffer *out;
    viz_terminal terminal;
    const attn_plot *plot;
    viz_range range;
    bool braille;
    size_t columns, rows; /* of the chart */
    chart_cell *cells;    /* (rows, columns) */
    size_t label_width;
    viz_ticks x_ticks, y_ticks;
} layout;

static void set(layout *l, size_t x, size_t y, size_t series) {
    static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    size_t across = l->braille ? 2 : 1, down = l->braille ? 4 : 1;
    chart_cell *cell = &l->cells[y / down * l->columns + x / across];
    cell->dots |= l->braille ? bits[y % 4][x % 2] : 1;
    cell->series = (uint32_t)series + 1;
}

/* In dots. */
static double place(double value, double low, double high, size_t dots) {
    return (value - low) / (high - low) * (double)(dots - 1);
}

static void draw_series(layout *l, size_t index) {
    const attn_plot_series *series = &l->plot->series[index];
    size_t wide = l->columns * (l->braille ? 2 : 1), high = l->rows * (l->braille ? 4 : 1);
    bool joined = false;
    double before_x = 0.0, before_y = 0.0;
    for (size_t i = 0; i < series->n; i++) {
        bool is_point = viz_is_point(series->x[i], series->y[i]);
        if (is_point) {
            double x = place(series->x[i], l->range.x0, l->range.x1, wide);
            double y = (double)(high - 1) - place(series->y[i], l->range.y0, l->range.y1, high);
            size_t steps = joined ? (size_t)ceil(fmax(fabs(x - before_x), fabs(y - before_y))) : 0;
            for (size_t s = steps ? 1 : 0; s <= steps; s++) {
                double part = steps ? (double)s / (double)steps : 1.0;
                double at_x = joined ? before_x + part * (x - before_x) : x,
                       at_y = joined ? before_y + part * (y - before_y) : y;
                set(l, (size_t)(fmax(at_x, 0.0) + 0.5), (size_t)(fmax(at_y, 0.0) + 0.5), index);
            }
            before_x = x, before_y = y;
        }
        joined = is_point;
    }
}

/* The dark grey of print would vanish on a dark terminal: there it is the terminal's own colour. */
static void series_colour(layout *l, size_t series) {
    viz_colour colour = viz_series_colour(series);
    if (colour.r != colour.g || colour.g != colour.b) viz_terminal_colour(l->out, &l->terminal, colour, false);
}

static void draw_cell(layout *l, const chart_cell *cell) {
    if (!cell->series) {
        attn_buffer_text(l->out, " ");
        return;
    }
    size_t series = cell->series - 1;
    series_colour(l, series);
    if (l->braille) {
        unsigned dots = 0x2800u + cell->dots;
        char text[4] = {(char)0xE2, (char)(0x80 | (dots >> 6 & 63)), (char)(0x80 | (dots & 63)), '\0'};
        attn_buffer_text(l->out, text);
    } else {
        char text[2] = {marks[series % (sizeof marks - 1)], '\0'};
        attn_buffer_text(l->out, text);
    }
    viz_terminal_reset(l->out, &l->terminal);
}

static void draw_legend(layout *l) {
    size_t used = 0;
    if (l->plot->n == 0 || (l->plot->n == 1 && !l->plot->series[0].name)) return;
    for (size_t i = 0; i < l->plot->n && l->out->status == ATTN_OK; i++) {
        attn_buffer name = ATTN_BUFFER_INIT(l->ctx);
        const char *given = l->plot->series[i].name;
        size_t width = 3 + viz_label_add(&name, given ? given : "", l->terminal.width - 3, l->terminal.label_flags);
        if (used && used + 2 + width > l->terminal.width) {
            attn_buffer_text(l->out, "\n");
            used = 0;
        }
        if (used) attn_buffer_text(l->out, "  ");
        used += width + (used ? 2 : 0);
        series_colour(l, i);
        char mark[3] = {marks[i % (sizeof marks - 1)], marks[i % (sizeof marks - 1)], '\0'};
        attn_buffer_text(l->out, l->braille ? "\xE2\xA0\xA4\xE2\xA0\xA4" : mark);
        viz_terminal_reset(l->out, &l->terminal);
        attn_buffer_text(l->out, " ");
        attn_buffer_add(l->out, name.data ? name.data : "", name.bytes);
        if (name.status != ATTN_OK) l->out->status = name.status;
        attn_buffer_free(&name);
    }
    attn_buffer_text(l->out, "\n");
}

/* The row or column of a tick in characters. */
static size_t tick_row(const layout *l, int i) {
    return l->rows - 1 - (size_t)(place(viz_tick(&l->y_ticks, i), l->range.y0, l->range.y1, l->rows) + 0.5);
}

static size_t tick_column(const layout *l, int i) {
    return (size_t)(place(viz_tick(&l->x_ticks, i), l->range.x0, l->range.x1, l->columns) + 0.5);
}

static void draw_chart(layout *l) {
    for (size_t row = 0; row < l->rows && l->out->status == ATTN_OK; row++) {
        char text[VIZ_NUMBER_BYTES] = "";
        for (int i = 0; i < l->y_ticks.n; i++)
            if (tick_row(l, i) == row) viz_tick_text(text, &l->y_ticks, i);
        attn_buffer_printf(l->out, "%*s ", (int)l->label_width, text);
        attn_buffer_text(l->out, l->terminal.unicode ? (*text ? "\xE2\x94\xA4" : "\xE2\x94\x82") : *text ? "+" : "|");
        size_t last = l->columns;
        while (last > 0 && !l->cells[row * l->columns + last - 1].series) last--;
        for (size_t column = 0; column < last; column++) draw_cell(l, &l->cells[row * l->columns + column]);
        attn_buffer_text(l->out, "\n");
    }
}

static void draw_x_axis(layout *l) {
    const char *corner = l->terminal.unicode ? "\xE2\x94\x94" : "+", *line = l->terminal.unicode ? "\xE2\x94\x80" : "-",
               *mark = l->terminal.unicode ? "\xE2\x94\xAC" : "+";
    viz_repeat(l->out, " ", l->label_width + 1);
    attn_buffer_text(l->out, corner);
    for (size_t column = 0; column < l->columns; column++) {
        bool is_tick = false;
        for (int i = 0; i < l->x_ticks.n; i++) is_tick = is_tick || tick_column(l, i) == column;
        attn_buffer_text(l->out, is_tick ? mark : line);
    }
    attn_buffer_text(l->out, "\n");
    size_t used = 0, start = l->label_width + 2;
    for (int i = 0; i < l->x_ticks.n; i++) {
        char text[VIZ_NUMBER_BYTES];
        viz_tick_text(text, &l->x_ticks, i);
        size_t length = strlen(text), middle = start + tick_column(l, i),
               at = middle > length / 2 ? middle - length / 2 : 0;
        if (at + length > l->terminal.width) at = l->terminal.width - length;
        if (used && at < used + 2) continue; /* no room */
        viz_repeat(l->out, " ", at - used);
        attn_buffer_text(l->out, text);
        used = at + length;
    }
    attn_buffer_text(l->out, "\n");
    if (!l->plot->x_axis || !*l->plot->x_axis) return;
    attn_buffer name = ATTN_BUFFER_INIT(l->ctx);
    size_t width = viz_label_add(&name, l->plot->x_axis, l->columns, l->terminal.label_flags);
    viz_repeat(l->out, " ", start + (l->columns - width) / 2);
    attn_buffer_add(l->out, name.data ? name.data : "", name.bytes);
    attn_buffer_text(l->out, "\n");
    if (name.status != ATTN_OK) l->out->status = name.status;
    attn_buffer_free(&name);
}

static attn_status draw(layout *l) {
    l->range = viz_plot_range(l->plot);
    l->braille = l->terminal.unicode && (l->terminal.colours || l->plot->n <= 1);
    l->rows = ATTN_MAX((size_t)8, ATTN_MIN((size_t)20, l->terminal.width / 4));
    l->y_ticks = viz_ticks_make(l->range.y0, l->range.y1, l->rows >= 14 ? 6 : 4);
    for (int i = 0; i < l->y_ticks.n; i++) {
        char text[VIZ_NUMBER_BYTES];
        viz_tick_text(text, &l->y_ticks, i);
        l->label_width = ATTN_MAX(l->label_width, strlen(text));
    }
    l->columns = l->terminal.width > l->label_width + 10 ? l->terminal.width - l->label_width - 2 : 8;
    l->x_ticks =
        viz_ticks_make(l->range.x0, l->range.x1, (int)ATTN_MAX((size_t)2, ATTN_MIN((size_t)8, l->columns / 9)));
    l->cells = attn_alloc_zero(l->ctx, l->rows * l->columns, sizeof *l->cells);
    if (!l->cells) return ATTN_E_NOMEM;
    viz_terminal_line(l->out, &l->terminal, l->plot->title);
    draw_legend(l);
    viz_terminal_line(l->out, &l->terminal, l->plot->y_axis);
    if (l->range.points == 0) attn_buffer_text(l->out, "(no data)\n");
    for (size_t i = 0; i < l->plot->n && l->range.points; i++) draw_series(l, i);
    draw_chart(l);
    draw_x_axis(l);
    return ATTN_OK;
}

attn_status attn_plot_terminal(attn_context *ctx, char **out, size_t *bytes, const attn_plot *plot,
                               const attn_terminal_options *options) {
    *out = NULL;
    attn_buffer text = ATTN_BUFFER_INIT(ctx);
    layout l = {.ctx = ctx, .out = &text, .plot = plot};
    ATTN_TRY(viz_terminal_read(ctx, &l.terminal, options));
    ATTN_TRY(viz_plot_check(ctx, plot));
    attn_status status = draw(&l);
    attn_release(ctx, l.cells);
    if (status == ATTN_OK) return attn_buffer_give(&text, out, bytes);
    attn_buffer_free(&text);
    return status;
}
