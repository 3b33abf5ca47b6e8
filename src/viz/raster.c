/* raster.c: a drawing in pixels. Boxes end on whole pixels, so that neighbours leave no seam; lines, dots and letters
 * are antialiased by coverage. */
#include "viz/raster.h"

#include <math.h>
#include <string.h>

enum { MOST_PIXELS = 1 << 27 };

attn_status viz_raster_make(viz_raster *raster, attn_context *ctx, double width, double height, double scale) {
    *raster = (viz_raster){.ctx = ctx, .scale = scale};
    if (!(scale >= 0.1 && scale <= 16.0))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "the scale of a picture is %g; expected 0.1 to 16", scale);
    double w = ceil(width * scale), h = ceil(height * scale);
    if (w * h > MOST_PIXELS)
        return attn_fail(ctx, ATTN_E_ARGUMENT,
                         "a picture of %.0f by %.0f pixels is too large; at most %d pixels are drawn", w, h,
                         (int)MOST_PIXELS);
    raster->width = (size_t)fmax(w, 1.0);
    raster->height = (size_t)fmax(h, 1.0);
    raster->rgb = attn_alloc(ctx, raster->width * raster->height, 3);
    raster->mask = attn_alloc_zero(ctx, raster->width * raster->height, 1);
    if (!raster->rgb || !raster->mask) return ATTN_E_NOMEM;
    memset(raster->rgb, 255, 3 * raster->width * raster->height);
    return ATTN_OK;
}

void viz_raster_free(viz_raster *raster) {
    attn_release(raster->ctx, raster->rgb);
    attn_release(raster->ctx, raster->mask);
}

static void put(viz_raster *raster, size_t pixel, viz_colour colour, int coverage) {
    uint8_t *p = raster->rgb + 3 * pixel;
    p[0] = (uint8_t)((p[0] * (255 - coverage) + colour.r * coverage + 127) / 255);
    p[1] = (uint8_t)((p[1] * (255 - coverage) + colour.g * coverage + 127) / 255);
    p[2] = (uint8_t)((p[2] * (255 - coverage) + colour.b * coverage + 127) / 255);
}

/* Pixels of a box: [x0, x1) × [y0, y1), inside the raster. */
typedef struct box {
    size_t x0, y0, x1, y1;
} box;

static size_t inside(double at, size_t most) { return at <= 0.0 ? 0 : at >= (double)most ? most : (size_t)at; }

static box pixels_of(const viz_raster *raster, double x, double y, double w, double h) {
    return (box){inside(floor(x * raster->scale + 0.5), raster->width),
                 inside(floor(y * raster->scale + 0.5), raster->height),
                 inside(floor((x + w) * raster->scale + 0.5), raster->width),
                 inside(floor((y + h) * raster->scale + 0.5), raster->height)};
}

static void fill(viz_raster *raster, double x, double y, double w, double h, viz_colour colour) {
    box b = pixels_of(raster, x, y, w, h);
    for (size_t row = b.y0; row < b.y1; row++)
        for (size_t column = b.x0; column < b.x1; column++) put(raster, row * raster->width + column, colour, 255);
}

static void hatch(viz_raster *raster, double x, double y, double w, double h) {
    box b = pixels_of(raster, x, y, w, h);
    size_t period = (size_t)fmax(4.0, 8.0 * raster->scale), line = (size_t)fmax(1.0, 2.0 * raster->scale);
    for (size_t row = b.y0; row < b.y1; row++)
        for (size_t column = b.x0; column < b.x1; column++)
            put(raster, row * raster->width + column, (row + column) % period < line ? viz_missing_line : viz_missing,
                255);
}

static void frame(viz_raster *raster, const viz_item *item) {
    fill(raster, item->x, item->y, item->w, 1.0, item->colour);
    fill(raster, item->x, item->y + item->h - 1.0, item->w, 1.0, item->colour);
    fill(raster, item->x, item->y, 1.0, item->h, item->colour);
    fill(raster, item->x + item->w - 1.0, item->y, 1.0, item->h, item->colour);
}

static void colour_bar(viz_raster *raster, const viz_item *item) {
    box b = pixels_of(raster, item->x, item->y, item->w, item->h);
    for (size_t row = b.y0; row < b.y1; row++) {
        viz_colour colour = viz_map(1.0 - ((double)(row - b.y0) + 0.5) / (double)(b.y1 - b.y0));
        for (size_t column = b.x0; column < b.x1; column++) put(raster, row * raster->width + column, colour, 255);
    }
}

static void cells(viz_raster *raster, const viz_item *item, const viz_cells *map) {
    double side = item->w / (double)map->columns;
    for (size_t i = 0; i < map->rows * map->columns; i++)
        if (viz_is_weight(map->values[i]))
            fill(raster, item->x + (double)(i % map->columns) * side, item->y + (double)(i / map->columns) * side,
                 side - map->gap, side - map->gap, viz_map(map->values[i]));
}

/* Coverage of a thick segment from a to b, all in pixels, into the mask: the greater of what is there and it. */
static void stroke(viz_raster *raster, double ax, double ay, double bx, double by, double radius) {
    size_t x0 = inside(floor(fmin(ax, bx) - radius - 1.0), raster->width);
    size_t x1 = inside(ceil(fmax(ax, bx) + radius + 1.0), raster->width);
    size_t y0 = inside(floor(fmin(ay, by) - radius - 1.0), raster->height);
    size_t y1 = inside(ceil(fmax(ay, by) + radius + 1.0), raster->height);
    double dx = bx - ax, dy = by - ay, length = dx * dx + dy * dy;
    for (size_t row = y0; row < y1; row++)
        for (size_t column = x0; column < x1; column++) {
            double px = (double)column + 0.5 - ax, py = (double)row + 0.5 - ay;
            double along = length > 0.0 ? fmax(0.0, fmin(1.0, (px * dx + py * dy) / length)) : 0.0;
            double away = sqrt((px - along * dx) * (px - along * dx) + (py - along * dy) * (py - along * dy));
            double coverage = fmax(0.0, fmin(1.0, radius + 0.5 - away));
            uint8_t *mask = &raster->mask[row * raster->width + column];
            *mask = (uint8_t)fmax(*mask, floor(coverage * 255.0 + 0.5));
        }
}

/* Paints the mask in a box and clears it. */
static void paint_mask(viz_raster *raster, double x0, double y0, double x1, double y1, viz_colour colour) {
    size_t left = inside(floor(x0), raster->width), right = inside(ceil(x1), raster->width);
    size_t top = inside(floor(y0), raster->height), bottom = inside(ceil(y1), raster->height);
    for (size_t row = top; row < bottom; row++)
        for (size_t column = left; column < right; column++) {
            uint8_t *mask = &raster->mask[row * raster->width + column];
            if (*mask) put(raster, row * raster->width + column, colour, *mask);
            *mask = 0;
        }
}

/* Walks a segment in dashes of 6 and gaps of 4; `at` is the length walked so far. */
static double stroke_dashed(viz_raster *raster, double ax, double ay, double bx, double by, double radius, double at) {
    double dash = 6.0 * raster->scale, period = 10.0 * raster->scale;
    double length = sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay)), done = 0.0;
    while (done < length) {
        double phase = fmod(at + done, period);
        double step = fmin(length - done, fmax(phase < dash ? dash - phase : period - phase, 1e-3));
        double u = done / length, v = (done + step) / length;
        if (phase < dash)
            stroke(raster, ax + u * (bx - ax), ay + u * (by - ay), ax + v * (bx - ax), ay + v * (by - ay), radius);
        done += step;
    }
    return at + length;
}

static void polyline(viz_raster *raster, const viz_item *item, const double *points) {
    const double *p = points + 2 * item->first;
    double scale = raster->scale, radius = item->size * scale / 2.0, walked = 0.0;
    double x0 = INFINITY, y0 = INFINITY, x1 = -INFINITY, y1 = -INFINITY;
    for (size_t i = 0; i < item->n; i++) {
        double x = p[2 * i] * scale, y = p[2 * i + 1] * scale;
        x0 = fmin(x0, x), x1 = fmax(x1, x), y0 = fmin(y0, y), y1 = fmax(y1, y);
        if (i == 0) continue;
        double from_x = p[2 * i - 2] * scale, from_y = p[2 * i - 1] * scale;
        if (item->dashed) walked = stroke_dashed(raster, from_x, from_y, x, y, radius, walked);
        else stroke(raster, from_x, from_y, x, y, radius);
    }
    paint_mask(raster, x0 - radius - 2.0, y0 - radius - 2.0, x1 + radius + 2.0, y1 + radius + 2.0, item->colour);
}

static void dot(viz_raster *raster, const viz_item *item) {
    double x = item->x * raster->scale, y = item->y * raster->scale, radius = item->size * raster->scale;
    stroke(raster, x, y, x, y, radius);
    paint_mask(raster, x - radius - 2.0, y - radius - 2.0, x + radius + 2.0, y + radius + 2.0, item->colour);
}

typedef struct text_ink {
    viz_raster *raster;
    viz_colour colour;
} text_ink;

static void blend(void *user, int x, int y, int width, int height, const uint8_t *coverage) {
    const text_ink *ink = user;
    for (int row = 0; row < height; row++)
        for (int column = 0; column < width; column++) {
            int at_x = x + column, at_y = y + row, cover = coverage[(size_t)row * (size_t)width + (size_t)column];
            if (cover == 0 || at_x < 0 || at_y < 0) continue;
            if ((size_t)at_x >= ink->raster->width || (size_t)at_y >= ink->raster->height) continue;
            put(ink->raster, (size_t)at_y * ink->raster->width + (size_t)at_x, ink->colour, cover);
        }
}

static attn_status text(viz_raster *raster, const viz_item *item, const char *pool, viz_font *font) {
    const char *start = pool + item->first;
    double scale = raster->scale, turn = item->angle * 3.14159265358979323846 / 180.0;
    double width = item->anchor == VIZ_START ? 0.0 : viz_text_width(font, start, item->n, item->size);
    double back = item->anchor == VIZ_MIDDLE ? width / 2.0 : width;
    double x = item->x - back * (item->angle ? cos(turn) : 1.0), y = item->y - back * (item->angle ? sin(turn) : 0.0);
    text_ink ink = {raster, item->colour};
    return viz_font_draw(font, start, item->n, x * scale, y * scale, item->size * scale, item->angle, blend, &ink);
}

attn_status viz_raster_draw(viz_raster *raster, const viz_drawing *drawing, viz_font *font) {
    for (size_t i = 0; i < drawing->n; i++) {
        const viz_item *item = &drawing->items[i];
        switch (item->kind) {
        case VIZ_RECTANGLE: fill(raster, item->x, item->y, item->w, item->h, item->colour); break;
        case VIZ_FRAME: frame(raster, item); break;
        case VIZ_HATCH: hatch(raster, item->x, item->y, item->w, item->h); break;
        case VIZ_COLOUR_BAR: colour_bar(raster, item); break;
        case VIZ_POLYLINE: polyline(raster, item, drawing->points); break;
        case VIZ_DOT: dot(raster, item); break;
        case VIZ_CELLS: cells(raster, item, &drawing->cells); break;
        case VIZ_TEXT: ATTN_TRY(text(raster, item, drawing->texts.data, font)); break;
        }
    }
    return ATTN_OK;
}
