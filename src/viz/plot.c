/* plot.c: the layout of a line chart in pixels: learning curves, quality against length. */
#include "viz/drawing.h"

#include <math.h>
#include <string.h>

enum { WIDTH = 640, HEIGHT = 400, MARGIN = 14, TICK_SIZE = 11, NAME_SIZE = 12, DOTS_UP_TO = 40, COLUMNS = 2048 };

bool viz_is_point(double x, double y) { return fabs(x) <= 1e150 && fabs(y) <= 1e150; }

attn_status viz_plot_check(attn_context *ctx, const attn_plot *plot) {
    if (!plot) return attn_fail(ctx, ATTN_E_ARGUMENT, "a plot is NULL; expected an attn_plot");
    if (plot->n && !plot->series)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "a plot of %zu series has no series (NULL)", plot->n);
    for (size_t i = 0; i < plot->n; i++)
        if (plot->series[i].n && (!plot->series[i].x || !plot->series[i].y))
            return attn_fail(ctx, ATTN_E_ARGUMENT, "series %zu of a plot has %zu points but no x or no y (NULL)", i,
                             plot->series[i].n);
    return ATTN_OK;
}

/* A range of no length (one point, a constant) gets room around it. */
static void widen(double *low, double *high) {
    double most = fmax(fabs(*low), fabs(*high));
    if (*high - *low > 1e-9 * most && *high - *low > 1e-200) return;
    double room = most > 1e-200 ? most * 0.1 : 1.0;
    *low -= room;
    *high += room;
}

viz_range viz_plot_range(const attn_plot *plot) {
    viz_range range = {INFINITY, -INFINITY, INFINITY, -INFINITY, 0};
    for (size_t i = 0; i < plot->n; i++)
        for (size_t j = 0; j < plot->series[i].n; j++) {
            double x = plot->series[i].x[j], y = plot->series[i].y[j];
            if (!viz_is_point(x, y)) continue;
            range.x0 = fmin(range.x0, x), range.x1 = fmax(range.x1, x);
            range.y0 = fmin(range.y0, y), range.y1 = fmax(range.y1, y);
            range.points++;
        }
    if (range.points == 0) return (viz_range){0.0, 1.0, 0.0, 1.0, 0};
    if (plot->y_from_zero) range.y0 = fmin(range.y0, 0.0), range.y1 = fmax(range.y1, 0.0);
    widen(&range.x0, &range.x1);
    widen(&range.y0, &range.y1);
    viz_ticks ticks = viz_ticks_make(range.y0, range.y1, 6); /* end on a round number */
    range.y0 = floor(range.y0 / ticks.step + 1e-6) * ticks.step;
    range.y1 = ceil(range.y1 / ticks.step - 1e-6) * ticks.step;
    return range;
}

typedef struct layout {
    viz_drawing *drawing;
    viz_font *font;
    const attn_plot *plot;
    viz_range range;
    viz_ticks x_ticks, y_ticks;
    double left, top, right, bottom; /* of the chart */
} layout;

static double place_x(const layout *l, double x) {
    return l->left + (x - l->range.x0) / (l->range.x1 - l->range.x0) * (l->right - l->left);
}

static double place_y(const layout *l, double y) {
    return l->bottom - (y - l->range.y0) / (l->range.y1 - l->range.y0) * (l->bottom - l->top);
}

/* A short label of the caller's: axis or series name. Returns its width; draws when `draw`. */
static double name_at(layout *l, const char *name, double x, double y, enum viz_anchor anchor, int angle, bool draw) {
    attn_buffer text = ATTN_BUFFER_INIT(l->drawing->ctx);
    viz_label_add(&text, name ? name : "", 60, 0);
    double width = 0.0;
    if (text.status != ATTN_OK) {
        if (l->drawing->status == ATTN_OK) l->drawing->status = text.status;
    } else if (text.bytes) {
        width = viz_text_width(l->font, text.data, text.bytes, NAME_SIZE);
        if (draw) viz_text(l->drawing, x, y, NAME_SIZE, anchor, angle, viz_ink, text.data, text.bytes);
    }
    attn_buffer_free(&text);
    return width;
}

/* Names of the series in rows above the chart, so that they never cover a curve. Returns the y below. */
static double draw_legend(layout *l, double y) {
    double x = MARGIN;
    if (l->plot->n == 0 || (l->plot->n == 1 && !l->plot->series[0].name)) return y;
    for (size_t i = 0; i < l->plot->n; i++) {
        const char *name = l->plot->series[i].name;
        double width = 30.0 + name_at(l, name, 0.0, 0.0, VIZ_START, 0, false);
        if (x > MARGIN && x + width > WIDTH - MARGIN) x = MARGIN, y += 18.0;
        size_t first = l->drawing->n_points;
        viz_point(l->drawing, x, y + 8.0);
        viz_point(l->drawing, x + 22.0, y + 8.0);
        viz_polyline(l->drawing, first, 2.0, viz_series_colour(i), viz_series_dashed(i));
        name_at(l, name, x + 28.0, y + 12.0, VIZ_START, 0, true);
        x += width + 18.0;
    }
    return y + 22.0;
}

static double widest_tick(layout *l, const viz_ticks *ticks) {
    double widest = 0.0;
    for (int i = 0; i < ticks->n; i++) {
        char text[VIZ_NUMBER_BYTES];
        viz_tick_text(text, ticks, i);
        widest = fmax(widest, viz_text_width(l->font, text, strlen(text), TICK_SIZE));
    }
    return widest;
}

static void draw_axes(layout *l) {
    viz_drawing *drawing = l->drawing;
    char text[VIZ_NUMBER_BYTES];
    for (int i = 0; i < l->y_ticks.n; i++) {
        double y = place_y(l, viz_tick(&l->y_ticks, i));
        viz_rectangle(drawing, l->left, floor(y), l->right - l->left, 1.0, viz_grid);
        viz_tick_text(text, &l->y_ticks, i);
        viz_text(drawing, l->left - 7.0, y + 4.0, TICK_SIZE, VIZ_END, 0, viz_ink, text, strlen(text));
    }
    for (int i = 0; i < l->x_ticks.n; i++) {
        double x = place_x(l, viz_tick(&l->x_ticks, i));
        viz_rectangle(drawing, floor(x), l->top, 1.0, l->bottom - l->top, viz_grid);
        viz_rectangle(drawing, floor(x), l->bottom, 1.0, 5.0, viz_soft_ink);
        viz_tick_text(text, &l->x_ticks, i);
        viz_text(drawing, x, l->bottom + 18.0, TICK_SIZE, VIZ_MIDDLE, 0, viz_ink, text, strlen(text));
    }
    viz_rectangle(drawing, l->left, l->top, 1.0, l->bottom - l->top, viz_soft_ink);
    viz_rectangle(drawing, l->left, l->bottom, l->right - l->left + 1.0, 1.0, viz_soft_ink);
}

/* The points that fell into one column of pixels: first, lowest, highest and last show all that can be seen of them. */
typedef struct pixel_column {
    size_t n, seen[4]; /* index of the first, lowest, highest, last */
} pixel_column;

static void flush_column(layout *l, const attn_plot_series *series, pixel_column *column) {
    size_t order[4], n = 0;
    for (size_t i = 0; column->n && i < 4; i++) {
        size_t at = n++;
        for (; at > 0 && order[at - 1] > column->seen[i]; at--) order[at] = order[at - 1];
        order[at] = column->seen[i];
    }
    for (size_t i = 0; i < n; i++)
        if (i == 0 || order[i] != order[i - 1])
            viz_point(l->drawing, place_x(l, series->x[order[i]]), place_y(l, series->y[order[i]]));
    column->n = 0;
}

static void draw_series(layout *l, size_t index) {
    const attn_plot_series *series = &l->plot->series[index];
    viz_drawing *drawing = l->drawing;
    viz_colour colour = viz_series_colour(index);
    size_t first = drawing->n_points;
    pixel_column column = {0, {0, 0, 0, 0}};
    int at_column = -1;
    for (size_t i = 0; i <= series->n && drawing->status == ATTN_OK; i++) {
        bool is_point = i < series->n && viz_is_point(series->x[i], series->y[i]);
        int now = is_point ? (int)((place_x(l, series->x[i]) - l->left) / (l->right - l->left) * COLUMNS) : -1;
        if (now != at_column || series->n <= COLUMNS) flush_column(l, series, &column);
        at_column = now;
        if (!is_point) { /* a gap in the curve, or its end */
            if (drawing->n_points - first == 1 && series->n > DOTS_UP_TO)
                viz_dot(drawing, drawing->points[2 * first], drawing->points[2 * first + 1], 2.0, colour);
            viz_polyline(drawing, first, 2.0, colour, viz_series_dashed(index));
            first = drawing->n_points;
            continue;
        }
        if (column.n == 0) column.seen[0] = column.seen[1] = column.seen[2] = i;
        if (series->y[i] < series->y[column.seen[1]]) column.seen[1] = i;
        if (series->y[i] > series->y[column.seen[2]]) column.seen[2] = i;
        column.seen[3] = i;
        column.n++;
        if (series->n <= DOTS_UP_TO) viz_dot(drawing, place_x(l, series->x[i]), place_y(l, series->y[i]), 3.0, colour);
    }
}

attn_status viz_plot_layout(viz_drawing *drawing, viz_font *font, const attn_plot *plot) {
    ATTN_TRY(viz_plot_check(drawing->ctx, plot));
    layout l = {.drawing = drawing, .font = font, .plot = plot, .range = viz_plot_range(plot)};
    if (plot->title && *plot->title) {
        viz_label_add(&drawing->summary, plot->title, VIZ_TITLE_COLUMNS, 0);
        attn_buffer_text(&drawing->summary, ": ");
    }
    attn_buffer_printf(&drawing->summary, "line chart, %zu series", plot->n);
    drawing->width = WIDTH;
    double y = MARGIN;
    if (plot->title && *plot->title) y = viz_title(drawing, font, MARGIN, y, WIDTH - 2.0 * MARGIN, plot->title) + 4.0;
    y = draw_legend(&l, y);
    l.y_ticks = viz_ticks_make(l.range.y0, l.range.y1, 6);
    l.x_ticks = viz_ticks_make(l.range.x0, l.range.x1, 8);
    bool has_x = plot->x_axis && *plot->x_axis, has_y = plot->y_axis && *plot->y_axis;
    l.left = ceil(MARGIN + (has_y ? 20.0 : 0.0) + widest_tick(&l, &l.y_ticks) + 8.0);
    l.top = ceil(y + 6.0);
    l.right = WIDTH - MARGIN - ceil(widest_tick(&l, &l.x_ticks) / 2.0);
    l.bottom = l.top + HEIGHT - 90.0;
    drawing->height = l.bottom + (has_x ? 46.0 : 28.0);
    draw_axes(&l);
    if (has_x) name_at(&l, plot->x_axis, (l.left + l.right) / 2.0, l.bottom + 37.0, VIZ_MIDDLE, 0, true);
    if (has_y) name_at(&l, plot->y_axis, MARGIN + 10.0, (l.top + l.bottom) / 2.0, VIZ_MIDDLE, -90, true);
    if (l.range.points == 0)
        viz_text(drawing, (l.left + l.right) / 2.0, (l.top + l.bottom) / 2.0, 13.0, VIZ_MIDDLE, 0, viz_soft_ink,
                 "no data", 7);
    for (size_t i = 0; i < plot->n && l.range.points; i++) draw_series(&l, i);
    return viz_drawing_status(drawing);
}

attn_status attn_plot_svg(attn_context *ctx, char **out, size_t *bytes, const attn_plot *plot) {
    *out = NULL;
    viz_font *font;
    ATTN_TRY(viz_font_open(ctx, &font));
    viz_drawing drawing;
    viz_drawing_start(&drawing, ctx);
    attn_status status = viz_plot_layout(&drawing, font, plot);
    if (status == ATTN_OK) status = viz_write_svg(&drawing, out, bytes);
    viz_drawing_free(&drawing);
    viz_font_close(font);
    return status;
}

attn_status attn_plot_png(attn_context *ctx, char **out, size_t *bytes, const attn_plot *plot, double scale) {
    *out = NULL;
    viz_font *font;
    ATTN_TRY(viz_font_open(ctx, &font));
    viz_drawing drawing;
    viz_drawing_start(&drawing, ctx);
    attn_status status = viz_plot_layout(&drawing, font, plot);
    if (status == ATTN_OK) status = viz_write_png(&drawing, font, scale, out, bytes);
    viz_drawing_free(&drawing);
    viz_font_close(font);
    return status;
}
