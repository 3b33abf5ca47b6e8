/* svg.c: a drawing as SVG 1.1, well-formed XML 1.0 without script, link or style element. All text is real text. */
#include "viz/drawing.h"

#include <math.h>
#include <string.h>

enum { IMAGE_FROM = 16384 }; /* cells; more become one embedded image of a pixel a cell */

/* Two decimals at most, never "-0". */
static void add_number(attn_buffer *out, double value) {
    char text[VIZ_NUMBER_BYTES];
    viz_number_short(text, value);
    attn_buffer_text(out, text);
}

static void add_attribute(attn_buffer *out, const char *name, double value) {
    attn_buffer_text(out, " ");
    attn_buffer_text(out, name);
    attn_buffer_text(out, "=\"");
    add_number(out, value);
    attn_buffer_text(out, "\"");
}

/* Written out by hand: a megabyte of cells spends its time here. */
static void add_colour(attn_buffer *out, const char *name, viz_colour colour) {
    static const char digits[] = "0123456789abcdef";
    char text[] = {'=',
                   '"',
                   '#',
                   digits[colour.r >> 4],
                   digits[colour.r & 15],
                   digits[colour.g >> 4],
                   digits[colour.g & 15],
                   digits[colour.b >> 4],
                   digits[colour.b & 15],
                   '"',
                   '\0'};
    attn_buffer_text(out, " ");
    attn_buffer_text(out, name);
    attn_buffer_text(out, text);
}

void viz_escape(attn_buffer *out, const char *text, size_t bytes) {
    size_t from = 0;
    for (size_t i = 0; i < bytes; i++) {
        const char *escape = text[i] == '&'    ? "&amp;"
                             : text[i] == '<'  ? "&lt;"
                             : text[i] == '>'  ? "&gt;"
                             : text[i] == '"'  ? "&quot;"
                             : text[i] == '\'' ? "&#39;"
                                               : NULL;
        if (!escape) continue;
        attn_buffer_add(out, text + from, i - from);
        attn_buffer_text(out, escape);
        from = i + 1;
    }
    attn_buffer_add(out, text + from, bytes - from);
}

static void add_box(attn_buffer *out, double x, double y, double w, double h) {
    attn_buffer_text(out, "<rect");
    add_attribute(out, "x", x);
    add_attribute(out, "y", y);
    add_attribute(out, "width", w);
    add_attribute(out, "height", h);
}

static void add_text(attn_buffer *out, const viz_item *item, const char *text) {
    static const char *const anchors[] = {"start", "middle", "end"};
    attn_buffer_text(out, "<text");
    if (item->angle == 0) {
        add_attribute(out, "x", item->x);
        add_attribute(out, "y", item->y);
    } else {
        attn_buffer_text(out, " transform=\"translate(");
        add_number(out, item->x);
        attn_buffer_text(out, " ");
        add_number(out, item->y);
        attn_buffer_printf(out, ") rotate(%d)\"", item->angle);
    }
    add_attribute(out, "font-size", item->size);
    if (item->anchor != VIZ_START) attn_buffer_printf(out, " text-anchor=\"%s\"", anchors[item->anchor]);
    add_colour(out, "fill", item->colour);
    attn_buffer_text(out, ">");
    viz_escape(out, text + item->first, item->n);
    attn_buffer_text(out, "</text>\n");
}

static void add_polyline(attn_buffer *out, const viz_item *item, const double *points) {
    attn_buffer_text(out, "<polyline fill=\"none\" stroke-linejoin=\"round\" stroke-linecap=\"round\"");
    add_colour(out, "stroke", item->colour);
    add_attribute(out, "stroke-width", item->size);
    if (item->dashed) attn_buffer_text(out, " stroke-dasharray=\"6 4\"");
    attn_buffer_text(out, " points=\"");
    for (size_t i = 0; i < 2 * item->n; i++) {
        if (i) attn_buffer_text(out, i % 2 ? "," : " ");
        add_number(out, points[2 * item->first + i]);
    }
    attn_buffer_text(out, "\"/>\n");
}

void viz_base64(attn_buffer *out, const uint8_t *data, size_t bytes) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        uint32_t three =
            (uint32_t)data[i] << 16 | (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (left > 2 ? data[i + 2] : 0);
        char four[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=',
                        left > 2 ? digits[three & 63] : '='};
        attn_buffer_add(out, four, 4);
    }
}

static void add_cell_image(attn_buffer *out, const viz_item *item, const viz_cells *cells) {
    size_t n = cells->rows * cells->columns;
    uint8_t *rgb = attn_alloc(out->ctx, n, 3);
    attn_buffer png = ATTN_BUFFER_INIT(out->ctx);
    if (rgb) {
        for (size_t i = 0; i < n; i++) {
            viz_colour colour = viz_is_weight(cells->values[i]) ? viz_map(cells->values[i]) : viz_missing_line;
            rgb[3 * i] = colour.r, rgb[3 * i + 1] = colour.g, rgb[3 * i + 2] = colour.b;
        }
        png.status = viz_encode_png(&png, rgb, cells->columns, cells->rows);
    } else png.status = ATTN_E_NOMEM;
    if (png.status == ATTN_OK) {
        attn_buffer_text(out, "<image style=\"image-rendering:pixelated\" preserveAspectRatio=\"none\"");
        add_attribute(out, "x", item->x);
        add_attribute(out, "y", item->y);
        add_attribute(out, "width", item->w);
        add_attribute(out, "height", item->h);
        attn_buffer_text(out, " xlink:href=\"data:image/png;base64,");
        viz_base64(out, (const uint8_t *)png.data, png.bytes);
        attn_buffer_text(out, "\"/>\n");
    } else if (out->status == ATTN_OK) out->status = png.status;
    attn_release(out->ctx, rgb);
    attn_buffer_free(&png);
}

static void add_cells(attn_buffer *out, const viz_item *item, const viz_cells *cells) {
    if (cells->rows * cells->columns > IMAGE_FROM) {
        add_cell_image(out, item, cells);
        return;
    }
    double side = item->w / (double)cells->columns;
    attn_buffer_text(out, "<g shape-rendering=\"crispEdges\">\n");
    for (size_t i = 0; i < cells->rows * cells->columns && out->status == ATTN_OK; i++) {
        size_t row = i / cells->columns, column = i % cells->columns;
        float value = cells->values[i];
        add_box(out, item->x + (double)column * side, item->y + (double)row * side, side - cells->gap,
                side - cells->gap);
        add_colour(out, "fill", viz_is_weight(value) ? viz_map(value) : viz_missing);
        if (!cells->tips) {
            attn_buffer_text(out, "/>\n");
            continue;
        }
        char number[VIZ_NUMBER_BYTES];
        viz_number(number, value, 2);
        attn_buffer_text(out, "><title>");
        viz_escape(out, cells->tips + cells->row_tips[row].text, cells->row_tips[row].bytes);
        attn_buffer_text(out, " \xE2\x86\x90 ");
        viz_escape(out, cells->tips + cells->column_tips[column].text, cells->column_tips[column].bytes);
        attn_buffer_printf(out, " %s</title></rect>\n", number);
    }
    attn_buffer_text(out, "</g>\n");
}

static void add_definitions(attn_buffer *out) {
    attn_buffer_text(out, "<defs>\n<linearGradient id=\"attn-map\" x1=\"0\" y1=\"1\" x2=\"0\" y2=\"0\">");
    for (int i = 0; i < VIZ_MAP_STOPS; i++) {
        attn_buffer_text(out, "<stop");
        char offset[VIZ_NUMBER_BYTES];
        viz_number(offset, (double)i / (VIZ_MAP_STOPS - 1), 4);
        attn_buffer_printf(out, " offset=\"%s\"", offset);
        add_colour(out, "stop-color", viz_map_stops[i]);
        attn_buffer_text(out, "/>");
    }
    attn_buffer_text(out,
                     "</linearGradient>\n<pattern id=\"attn-hatch\" width=\"6\" height=\"6\" "
                     "patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\"");
    add_colour(out, "fill", viz_missing);
    attn_buffer_text(out, "/><rect width=\"1.5\" height=\"6\"");
    add_colour(out, "fill", viz_missing_line);
    attn_buffer_text(out, "/></pattern>\n</defs>\n");
}

static void add_item(attn_buffer *out, const viz_drawing *drawing, const viz_item *item) {
    switch (item->kind) {
    case VIZ_RECTANGLE:
        add_box(out, item->x, item->y, item->w, item->h);
        add_colour(out, "fill", item->colour);
        attn_buffer_text(out, " shape-rendering=\"crispEdges\"/>\n");
        break;
    case VIZ_FRAME:
        add_box(out, item->x + 0.5, item->y + 0.5, item->w - 1.0, item->h - 1.0);
        attn_buffer_text(out, " fill=\"none\"");
        add_colour(out, "stroke", item->colour);
        attn_buffer_text(out, "/>\n");
        break;
    case VIZ_HATCH: /* lies over its cell, which keeps the tooltip */
        add_box(out, item->x, item->y, item->w, item->h);
        attn_buffer_text(out, " fill=\"url(#attn-hatch)\" pointer-events=\"none\"/>\n");
        break;
    case VIZ_COLOUR_BAR:
        add_box(out, item->x, item->y, item->w, item->h);
        attn_buffer_text(out, " fill=\"url(#attn-map)\"/>\n");
        break;
    case VIZ_DOT:
        attn_buffer_text(out, "<circle");
        add_attribute(out, "cx", item->x);
        add_attribute(out, "cy", item->y);
        add_attribute(out, "r", item->size);
        add_colour(out, "fill", item->colour);
        attn_buffer_text(out, "/>\n");
        break;
    case VIZ_POLYLINE: add_polyline(out, item, drawing->points); break;
    case VIZ_TEXT: add_text(out, item, drawing->texts.data); break;
    case VIZ_CELLS: add_cells(out, item, &drawing->cells); break;
    }
}

attn_status viz_write_svg(const viz_drawing *drawing, char **out, size_t *bytes) {
    attn_buffer svg = ATTN_BUFFER_INIT(drawing->ctx);
    attn_buffer_text(&svg, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
                           "xmlns:xlink=\"http://www.w3.org/1999/xlink\"");
    add_attribute(&svg, "width", drawing->width);
    add_attribute(&svg, "height", drawing->height);
    attn_buffer_text(&svg, " viewBox=\"0 0 ");
    add_number(&svg, drawing->width);
    attn_buffer_text(&svg, " ");
    add_number(&svg, drawing->height);
    attn_buffer_text(&svg, "\" role=\"img\" aria-label=\"");
    viz_escape(&svg, drawing->summary.data, drawing->summary.bytes);
    attn_buffer_text(
        &svg, "\" font-family=\"'DejaVu Sans', Verdana, 'Noto Sans', 'Noto Sans CJK SC', sans-serif\">\n<title>");
    viz_escape(&svg, drawing->summary.data, drawing->summary.bytes);
    attn_buffer_text(&svg, "</title>\n");
    add_definitions(&svg);
    add_box(&svg, 0.0, 0.0, drawing->width, drawing->height);
    add_colour(&svg, "fill", viz_paper);
    attn_buffer_text(&svg, "/>\n");
    for (size_t i = 0; i < drawing->n && svg.status == ATTN_OK; i++) add_item(&svg, drawing, &drawing->items[i]);
    attn_buffer_text(&svg, "</svg>\n");
    return attn_buffer_give(&svg, out, bytes);
}
