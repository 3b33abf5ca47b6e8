/* drawing.h: the one drawing model of the pictures.
 *
 *     heatmap.c, plot.c     lay a picture out, once, as a display list (viz_drawing), in pixels at scale 1
 *     svg.c, png.c          write that list
 *     terminal_*.c          have character cells instead of pixels: a layout of their own from the same labels,
 * numbers, ticks and colours
 *
 * Labels become harmless in one place (label.c): what leaves viz_label_add is valid UTF-8 without control characters,
 * bidi marks or anything else that cannot be seen; backends add only the escapes of their own syntax. */
#ifndef ATTN_VIZ_DRAWING_H
#define ATTN_VIZ_DRAWING_H

#include "base/base.h"

#include <attn/viz.h>

/* ---- colours (colour.c) ----------------------------------------------------------------------- */

typedef struct viz_colour {
    uint8_t r, g, b;
} viz_colour;

enum { VIZ_MAP_STOPS = 17 };
extern const viz_colour viz_map_stops[VIZ_MAP_STOPS]; /* evenly spaced over 0 … 1 */
extern const viz_colour viz_ink, viz_soft_ink, viz_grid, viz_paper, viz_missing, viz_missing_line;

viz_colour viz_map(double value);            /* value in 0 … 1, clamped */
viz_colour viz_on_colour(viz_colour ground); /* ink or white: what reads better on ground */
viz_colour viz_series_colour(size_t index);
bool viz_series_dashed(size_t index); /* true when the colours start over */
/* A weight, as far as rounding goes; all else (NaN, infinite, negative, above one) is hatched. */
static inline bool viz_is_weight(float value) { return value >= -1e-6f && value <= 1.001f; }

/* ---- numbers (number.c); never the locale's ---------------------------------------------------- */

enum { VIZ_NUMBER_BYTES = 48 };
void viz_number(char out[VIZ_NUMBER_BYTES], double value, int decimals); /* "0.83", "n/a", "inf" */
void viz_number_short(char out[VIZ_NUMBER_BYTES], double value);         /* two decimals at most, no trailing zeros */

/* Ticks at round numbers (1, 2 or 5 times a power of ten): index·step for first ≤ index < first + n. */
typedef struct viz_ticks {
    double step;
    int64_t first;
    int n, power, exponent, thousands; /* step = {1, 2, 5}·10^power */
} viz_ticks;
viz_ticks viz_ticks_make(double low, double high, int wanted);
static inline double viz_tick(const viz_ticks *ticks, int index) {
    return (double)(ticks->first + index) * ticks->step;
}
void viz_tick_text(char out[VIZ_NUMBER_BYTES], const viz_ticks *ticks, int index);

/* ---- labels (label.c) -------------------------------------------------------------------------- */

enum { VIZ_LABEL_COLUMNS = 24, VIZ_TIP_COLUMNS = 120, VIZ_TITLE_COLUMNS = 400 };
enum viz_label_flags {
    VIZ_WORD = 1,     /* show spaces at the ends: "␣the" */
    VIZ_TERMINAL = 2, /* without joiners and variation selectors, whose width terminals disagree on */
    VIZ_ASCII = 4     /* our own signs in ASCII */
};
/* Appends text as it may be seen, cut with an ellipsis to at most `columns` character cells; returns the cells used.
 * What cannot be seen becomes <U+202E>, a byte that is not UTF-8 <0xE2>. */
size_t viz_label_add(attn_buffer *out, const char *text, size_t columns, unsigned flags);

/* A label made ready for all its uses, at an offset in a text pool. */
typedef struct viz_label {
    size_t text, bytes, columns;
} viz_label;
/* Labels of `n` words into pool and *out (attn_release); words NULL: 0 … n−1. */
attn_status viz_labels_make(attn_context *ctx, attn_buffer *pool, viz_label **out, const char *const *words, size_t n,
                            size_t columns, unsigned flags);

/* ---- the display list (drawing.c) --------------------------------------------------------------- */

enum viz_kind { VIZ_RECTANGLE, VIZ_FRAME, VIZ_HATCH, VIZ_POLYLINE, VIZ_DOT, VIZ_TEXT, VIZ_CELLS, VIZ_COLOUR_BAR };
enum viz_anchor { VIZ_START, VIZ_MIDDLE, VIZ_END };

typedef struct viz_item {
    enum viz_kind kind;
    enum viz_anchor anchor; /* of a text */
    int angle;              /* of a text: 0, −45 or −90 degrees */
    bool dashed;            /* a polyline */
    double x, y, w, h;      /* a text starts, on its baseline, at (x, y); a dot has its centre there */
    double size;            /* of a text: the em; of a line: its width; of a dot: its radius */
    viz_colour colour;
    size_t first, n; /* bytes in the text pool, or points */
} viz_item;

/* The cells of a heat map, drawn by one item. Values are the (pooled) matrix. */
typedef struct viz_cells {
    const float *values; /* (rows, columns) */
    size_t rows, columns;
    double gap;       /* of every cell, left free at the right and below */
    const char *tips; /* pool of the two below, or NULL: none */
    const viz_label *row_tips, *column_tips;
} viz_cells;

typedef struct viz_drawing {
    attn_context *ctx;
    attn_status status; /* sticky */
    double width, height;
    viz_item *items;
    size_t n, capacity;
    double *points; /* x, y */
    size_t n_points, points_capacity;
    attn_buffer texts;
    attn_buffer summary; /* one sentence for those who do not see the picture */
    viz_cells cells;
    float *pooled; /* values of the cells, when they are not the caller's */
    attn_buffer tips;
    viz_label *row_tips, *column_tips;
} viz_drawing;

typedef struct viz_font viz_font;

void viz_drawing_start(viz_drawing *drawing, attn_context *ctx);
void viz_drawing_free(viz_drawing *drawing);
attn_status viz_drawing_status(const viz_drawing *drawing);
void viz_rectangle(viz_drawing *drawing, double x, double y, double w, double h, viz_colour colour);
void viz_frame(viz_drawing *drawing, double x, double y, double w, double h, viz_colour colour);
void viz_box(viz_drawing *drawing, enum viz_kind kind, double x, double y, double w, double h);
void viz_dot(viz_drawing *drawing, double x, double y, double radius, viz_colour colour);
void viz_point(viz_drawing *drawing, double x, double y);
/* A line through the points added since `first`; one point alone draws nothing. */
void viz_polyline(viz_drawing *drawing, size_t first, double width, viz_colour colour, bool dashed);
/* text must have come through viz_label_add, or be ours. */
void viz_text(viz_drawing *drawing, double x, double y, double size, enum viz_anchor anchor, int angle,
              viz_colour colour, const char *text, size_t bytes);
/* The title in at most three lines of `width`; returns the y below it. */
double viz_title(viz_drawing *drawing, viz_font *font, double x, double y, double width, const char *title);

attn_status viz_heatmap_layout(viz_drawing *drawing, viz_font *font, const attn_heatmap *map);
attn_status viz_plot_layout(viz_drawing *drawing, viz_font *font, const attn_plot *plot);

/* Every backend gives its bytes. */
attn_status viz_write_svg(const viz_drawing *drawing, char **out, size_t *bytes);
attn_status viz_write_png(const viz_drawing *drawing, viz_font *font, double scale, char **out, size_t *bytes);
/* For content and attributes of XML and HTML alike. */
void viz_escape(attn_buffer *out, const char *text, size_t bytes);
void viz_base64(attn_buffer *out, const uint8_t *data, size_t bytes);
/* An 8-bit RGB image (rows of 3·width bytes) as a PNG file into a buffer. */
attn_status viz_encode_png(attn_buffer *out, const uint8_t *rgb, size_t width, size_t height);

/* ---- the font (font.c) -------------------------------------------------------------------------- */

attn_status viz_font_open(attn_context *ctx, viz_font **font);
void viz_font_close(viz_font *font); /* NULL is fine */
double viz_text_width(viz_font *font, const char *text, size_t bytes, double size);
/* Coverage of a glyph, 0 … 255, to be blended at (x, y). */
typedef void viz_blend(void *user, int x, int y, int width, int height, const uint8_t *coverage);
/* Draws text from (x, y) on the baseline, `angle` degrees (down is positive). */
attn_status viz_font_draw(viz_font *font, const char *text, size_t bytes, double x, double y, double size, int angle,
                          viz_blend *blend, void *user);

/* ---- checks of what the caller gave (heatmap.c, plot.c) ------------------------------------------- */

attn_status viz_heatmap_check(attn_context *ctx, const attn_heatmap *map);
attn_status viz_plot_check(attn_context *ctx, const attn_plot *plot);

/* What a plot covers; finite points only. */
typedef struct viz_range {
    double x0, x1, y0, y1;
    size_t points; /* 0: nothing to draw */
} viz_range;
viz_range viz_plot_range(const attn_plot *plot);
bool viz_is_point(double x, double y);

#endif
