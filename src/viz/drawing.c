/* drawing.c: the display list. A failure is sticky: only the end needs a check. */
#include "viz/drawing.h"

#include <string.h>

void viz_drawing_start(viz_drawing *drawing, attn_context *ctx) {
    *drawing = (viz_drawing){.ctx = ctx};
    drawing->texts = drawing->summary = drawing->tips = (attn_buffer)ATTN_BUFFER_INIT(ctx);
}

void viz_drawing_free(viz_drawing *drawing) {
    attn_context *ctx = drawing->ctx;
    attn_release(ctx, drawing->items);
    attn_release(ctx, drawing->points);
    attn_release(ctx, drawing->pooled);
    attn_release(ctx, drawing->row_tips);
    attn_release(ctx, drawing->column_tips);
    attn_buffer_free(&drawing->texts);
    attn_buffer_free(&drawing->summary);
    attn_buffer_free(&drawing->tips);
}

attn_status viz_drawing_status(const viz_drawing *drawing) {
    ATTN_TRY(drawing->status);
    ATTN_TRY(drawing->texts.status);
    ATTN_TRY(drawing->summary.status);
    return drawing->tips.status;
}

static void add(viz_drawing *drawing, const viz_item *item) {
    if (drawing->status == ATTN_OK)
        drawing->status = attn_grow(drawing->ctx, &drawing->items, &drawing->capacity, drawing->n + 1, drawing->n,
                                    sizeof *drawing->items);
    if (drawing->status == ATTN_OK) drawing->items[drawing->n++] = *item;
}

void viz_rectangle(viz_drawing *drawing, double x, double y, double w, double h, viz_colour colour) {
    add(drawing, &(viz_item){.kind = VIZ_RECTANGLE, .x = x, .y = y, .w = w, .h = h, .colour = colour});
}

void viz_frame(viz_drawing *drawing, double x, double y, double w, double h, viz_colour colour) {
    add(drawing, &(viz_item){.kind = VIZ_FRAME, .x = x, .y = y, .w = w, .h = h, .colour = colour});
}

void viz_box(viz_drawing *drawing, enum viz_kind kind, double x, double y, double w, double h) {
    add(drawing, &(viz_item){.kind = kind, .x = x, .y = y, .w = w, .h = h});
}

void viz_dot(viz_drawing *drawing, double x, double y, double radius, viz_colour colour) {
    add(drawing, &(viz_item){.kind = VIZ_DOT, .x = x, .y = y, .size = radius, .colour = colour});
}

void viz_point(viz_drawing *drawing, double x, double y) {
    if (drawing->status == ATTN_OK)
        drawing->status = attn_grow(drawing->ctx, &drawing->points, &drawing->points_capacity,
                                    2 * (drawing->n_points + 1), 2 * drawing->n_points, sizeof *drawing->points);
    if (drawing->status != ATTN_OK) return;
    drawing->points[2 * drawing->n_points] = x;
    drawing->points[2 * drawing->n_points + 1] = y;
    drawing->n_points++;
}

void viz_polyline(viz_drawing *drawing, size_t first, double width, viz_colour colour, bool dashed) {
    size_t n = drawing->n_points - first;
    if (n < 2) return;
    add(drawing,
        &(viz_item){.kind = VIZ_POLYLINE, .first = first, .n = n, .size = width, .colour = colour, .dashed = dashed});
}

void viz_text(viz_drawing *drawing, double x, double y, double size, enum viz_anchor anchor, int angle,
              viz_colour colour, const char *text, size_t bytes) {
    viz_item item = {
        .kind = VIZ_TEXT, .x = x, .y = y, .size = size, .anchor = anchor, .angle = angle, .colour = colour};
    item.first = drawing->texts.bytes;
    item.n = bytes;
    if (bytes == 0) return;
    attn_buffer_add(&drawing->texts, text, bytes);
    add(drawing, &item);
}

/* The longest start of the text that fits, cut at a space where there is one. A word longer than the line is cut
 * between characters. */
static size_t line_end(viz_font *font, const char *text, size_t bytes, double size, double width) {
    size_t space = 0, fits = 0;
    for (size_t at = 0; at < bytes;) {
        size_t next = at + 1;
        while (next < bytes && ((unsigned char)text[next] & 0xC0) == 0x80) next++;
        if (text[at] == ' ') space = at;
        if (viz_text_width(font, text, next, size) > width) return space ? space : ATTN_MAX(fits, (size_t)1);
        fits = at = next;
    }
    return bytes;
}

double viz_title(viz_drawing *drawing, viz_font *font, double x, double y, double width, const char *title) {
    enum { LINES = 3, SIZE = 15, LEADING = 20 };
    attn_buffer text = ATTN_BUFFER_INIT(drawing->ctx);
    viz_label_add(&text, title, VIZ_TITLE_COLUMNS, 0);
    if (drawing->status == ATTN_OK) drawing->status = text.status;
    size_t at = 0;
    for (int line = 0; line < LINES && at < text.bytes && drawing->status == ATTN_OK; line++) {
        bool last = line == LINES - 1;
        size_t fits = line_end(font, text.data + at, text.bytes - at, SIZE, last ? width - SIZE : width);
        bool cut = last && at + fits < text.bytes;
        attn_buffer shown = ATTN_BUFFER_INIT(drawing->ctx);
        attn_buffer_add(&shown, text.data + at, fits);
        if (cut) attn_buffer_text(&shown, "\xE2\x80\xA6");
        if (shown.status == ATTN_OK)
            viz_text(drawing, x, y + SIZE, SIZE, VIZ_START, 0, viz_ink, shown.data, shown.bytes);
        else drawing->status = shown.status;
        attn_buffer_free(&shown);
        y += LEADING;
        at += fits;
        while (at < text.bytes && text.data[at] == ' ') at++;
    }
    attn_buffer_free(&text);
    return y;
}
