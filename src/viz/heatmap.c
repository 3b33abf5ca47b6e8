/* heatmap.c: the layout of a heat map in pixels: source words along the top, target words down the left, a colour bar
 * at the right. Cells shrink as the words become more, from 42 pixels with the number in each to one pixel; above MOST
 * cells a side, blocks of cells show their greatest value. */
#include "viz/drawing.h"

#include <math.h>
#include <string.h>

enum { MOST = 2048, NUMBERED = 12, MARGIN = 12, BAR = 14, TIPS_UP_TO = 16384 };

attn_status viz_heatmap_check(attn_context *ctx, const attn_heatmap *map) {
    if (!map) return attn_fail(ctx, ATTN_E_ARGUMENT, "a heat map is NULL; expected an attn_heatmap");
    size_t cells;
    if (!attn_size_mul(&cells, map->rows, map->columns) || !attn_size_mul(&cells, cells, sizeof(float)))
        return attn_fail(ctx, ATTN_E_SHAPE, "a heat map of %zu rows and %zu columns is more than the address space",
                         map->rows, map->columns);
    if (cells && !map->values)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "a heat map of %zu rows and %zu columns has no values (NULL)", map->rows,
                         map->columns);
    return ATTN_OK;
}

/* A block is its greatest weight; one bad value makes the block bad, so that none is hidden. */
static float pooled_value(const attn_heatmap *map, size_t row0, size_t rows, size_t column0, size_t columns) {
    float most = -INFINITY;
    for (size_t i = row0; i < ATTN_MIN(row0 + rows, map->rows); i++)
        for (size_t j = column0; j < ATTN_MIN(column0 + columns, map->columns); j++) {
            float value = map->values[i * map->columns + j];
            if (!viz_is_weight(value)) return value;
            if (value > most) most = value;
        }
    return most;
}

/* What the layout knows of one axis. */
typedef struct map_axis {
    size_t n, block;   /* cells, each of `block` words */
    viz_label *labels; /* of the first word of each block; drawn: every `every`-th */
    size_t every;
    double widest;
} map_axis;

typedef struct layout {
    viz_drawing *drawing;
    viz_font *font;
    const attn_heatmap *map;
    map_axis rows, columns;
    attn_buffer words;
    double cell, size;               /* of a cell; of the words */
    int angle;                       /* of the column words */
    double left, top, right, bottom; /* of the cells */
} layout;

static double cell_size(size_t n) {
    static const struct {
        size_t up_to;
        double size;
    } sizes[] = {{12, 42}, {20, 30}, {32, 22}, {48, 18}, {80, 15}, {128, 11}, {256, 8}, {512, 4}, {1024, 2}};
    for (size_t i = 0; i < ATTN_COUNT(sizes); i++)
        if (n <= sizes[i].up_to) return sizes[i].size;
    return 1.0;
}

static attn_status measure_axis(layout *l, map_axis *axis, const char *const *words, size_t n, double size) {
    axis->block = n > MOST ? (n + MOST - 1) / MOST : 1;
    axis->n = (n + axis->block - 1) / axis->block;
    axis->every = (size_t)ceil(size * 1.1 / l->cell);
    axis->widest = 0.0;
    ATTN_TRY(viz_labels_make(l->drawing->ctx, &l->words, &axis->labels, words, n, VIZ_LABEL_COLUMNS, VIZ_WORD));
    for (size_t i = 0; i < axis->n; i += axis->every) {
        viz_label *label = &axis->labels[i * axis->block];
        double width = viz_text_width(l->font, l->words.data + label->text, label->bytes, size);
        axis->widest = fmax(axis->widest, width);
    }
    return ATTN_OK;
}

static attn_status measure(layout *l) {
    size_t side = ATTN_MAX(l->map->rows, l->map->columns);
    l->cell = cell_size(ATTN_MIN(side, (size_t)MOST));
    l->size = fmax(8.0, fmin(13.0, l->cell * 0.7));
    l->angle = l->cell * 0.7071 >= l->size * 1.15 ? -45 : -90; /* slanted where the lines stay apart */
    ATTN_TRY(measure_axis(l, &l->rows, l->map->row_labels, l->map->rows, l->size));
    return measure_axis(l, &l->columns, l->map->column_labels, l->map->columns, l->size);
}

static void axis_name(layout *l, const char *name, double x, double y, int angle) {
    attn_buffer text = ATTN_BUFFER_INIT(l->drawing->ctx);
    viz_label_add(&text, name, VIZ_LABEL_COLUMNS, 0);
    if (text.status == ATTN_OK && text.data)
        viz_text(l->drawing, x, y, 12.0, VIZ_MIDDLE, angle, viz_soft_ink, text.data, text.bytes);
    else if (l->drawing->status == ATTN_OK) l->drawing->status = text.status;
    attn_buffer_free(&text);
}

static void draw_words(layout *l) {
    double middle = 0.36 * l->size; /* from the baseline to the middle of small letters */
    for (size_t i = 0; i < l->rows.n; i += l->rows.every) {
        viz_label *label = &l->rows.labels[i * l->rows.block];
        viz_text(l->drawing, l->left - 6.0, l->top + ((double)i + 0.5) * l->cell + middle, l->size, VIZ_END, 0, viz_ink,
                 l->words.data + label->text, label->bytes);
    }
    double turn = l->angle == -45 ? 0.70710678 : 1.0, shift = l->angle == -45 ? 0.70710678 * middle : 0.0;
    for (size_t j = 0; j < l->columns.n; j += l->columns.every) {
        viz_label *label = &l->columns.labels[j * l->columns.block];
        viz_text(l->drawing, l->left + ((double)j + 0.5) * l->cell + middle * turn, l->top - 6.0 + shift, l->size,
                 VIZ_START, l->angle, viz_ink, l->words.data + label->text, label->bytes);
    }
}

/* How far the column words reach above the cells and right of them. */
static void column_reach(layout *l, double *up, double *right) {
    double slant = l->angle == -45 ? 0.70710678 : 0.0;
    *up = l->columns.n ? l->columns.widest * (slant > 0.0 ? slant : 1.0) + 6.0 + (slant > 0.0 ? l->size * 0.6 : 2.0)
                       : 0.0;
    *right = 0.0;
    for (size_t j = 0; j < l->columns.n; j += l->columns.every) {
        viz_label *label = &l->columns.labels[j * l->columns.block];
        double width = viz_text_width(l->font, l->words.data + label->text, label->bytes, l->size);
        *right = fmax(*right, ((double)j + 0.5) * l->cell + width * slant + l->size * 0.7);
    }
}

static void draw_bar(layout *l, double x, double height, bool has_missing) {
    viz_drawing *drawing = l->drawing;
    viz_box(drawing, VIZ_COLOUR_BAR, x, l->top, BAR, height);
    viz_frame(drawing, x, l->top, BAR, height, viz_soft_ink);
    int steps = height >= 160.0 ? 10 : height >= 90.0 ? 5 : 2;
    for (int i = 0; i <= steps; i++) {
        double value = (double)i / steps, y = l->top + height * (1.0 - value);
        char text[VIZ_NUMBER_BYTES];
        viz_number_short(text, value);
        viz_rectangle(drawing, x + BAR, floor(y - 0.5), 4.0, 1.0, viz_soft_ink);
        viz_text(drawing, x + BAR + 7.0, y + 3.8, 11.0, VIZ_START, 0, viz_ink, text, strlen(text));
    }
    if (!has_missing) return;
    viz_box(drawing, VIZ_HATCH, x, l->top + height + 14.0, BAR, BAR);
    viz_frame(drawing, x, l->top + height + 14.0, BAR, BAR, viz_soft_ink);
    viz_text(drawing, x + BAR + 7.0, l->top + height + 25.0, 11.0, VIZ_START, 0, viz_ink, "n/a", 3);
}

/* The number in each cell of a small map; all that is no weight is hatched. Returns whether there was any. */
static bool draw_cells(layout *l) {
    viz_drawing *drawing = l->drawing;
    const viz_cells *cells = &drawing->cells;
    double gap = cells->gap, side = l->cell;
    bool has_missing = false, numbered = cells->rows <= NUMBERED && cells->columns <= NUMBERED;
    if (gap > 0.0)
        viz_rectangle(drawing, l->left - gap, l->top - gap, (double)cells->columns * side + gap,
                      (double)cells->rows * side + gap, viz_grid);
    viz_box(drawing, VIZ_CELLS, l->left, l->top, (double)cells->columns * side, (double)cells->rows * side);
    for (size_t i = 0; i < cells->rows * cells->columns; i++) {
        float value = cells->values[i];
        double x = l->left + (double)(i % cells->columns) * side, y = l->top + (double)(i / cells->columns) * side;
        if (!viz_is_weight(value)) {
            viz_box(drawing, VIZ_HATCH, x, y, side - gap, side - gap);
            has_missing = true;
        }
        if (!numbered) continue;
        char text[VIZ_NUMBER_BYTES];
        viz_number(text, value, fabsf(value) < 9.995f ? 2 : 0);
        viz_colour ground = viz_is_weight(value) ? viz_map(value) : viz_missing;
        viz_colour ink = viz_is_weight(value) && value < 0.005f ? viz_soft_ink : viz_on_colour(ground);
        viz_text(drawing, x + (side - gap) / 2.0, y + (side - gap) / 2.0 + 4.0, 11.5, VIZ_MIDDLE, 0, ink, text,
                 strlen(text));
    }
    if (gap == 0.0)
        viz_frame(drawing, l->left - 1.0, l->top - 1.0, (double)cells->columns * side + 2.0,
                  (double)cells->rows * side + 2.0, viz_soft_ink);
    return has_missing;
}

static attn_status prepare_cells(layout *l) {
    viz_drawing *drawing = l->drawing;
    attn_context *ctx = drawing->ctx;
    viz_cells *cells = &drawing->cells;
    *cells = (viz_cells){l->map->values, l->rows.n, l->columns.n, l->cell >= 11.0 ? 1.0 : 0.0, NULL, NULL, NULL};
    if (l->rows.block > 1 || l->columns.block > 1) {
        drawing->pooled = attn_alloc(ctx, cells->rows * cells->columns, sizeof(float));
        if (!drawing->pooled) return ATTN_E_NOMEM;
        for (size_t i = 0; i < cells->rows; i++)
            for (size_t j = 0; j < cells->columns; j++)
                drawing->pooled[i * cells->columns + j] =
                    pooled_value(l->map, i * l->rows.block, l->rows.block, j * l->columns.block, l->columns.block);
        cells->values = drawing->pooled;
    } else if (cells->rows * cells->columns <= TIPS_UP_TO) {
        ATTN_TRY(viz_labels_make(ctx, &drawing->tips, &drawing->row_tips, l->map->row_labels, l->map->rows,
                                 VIZ_TIP_COLUMNS, VIZ_WORD));
        ATTN_TRY(viz_labels_make(ctx, &drawing->tips, &drawing->column_tips, l->map->column_labels, l->map->columns,
                                 VIZ_TIP_COLUMNS, VIZ_WORD));
        cells->tips = drawing->tips.data ? drawing->tips.data : ""; /* the pool grows no more */
        cells->row_tips = drawing->row_tips;
        cells->column_tips = drawing->column_tips;
    }
    return ATTN_OK;
}

static void summarise(layout *l) {
    attn_buffer *summary = &l->drawing->summary;
    const attn_heatmap *map = l->map;
    if (map->title && *map->title) {
        viz_label_add(summary, map->title, VIZ_TITLE_COLUMNS, 0);
        attn_buffer_text(summary, ": ");
    }
    attn_buffer_printf(summary, "heat map, %zu ", map->rows);
    viz_label_add(summary, map->row_axis ? map->row_axis : "row", VIZ_LABEL_COLUMNS, 0);
    attn_buffer_printf(summary, " by %zu ", map->columns);
    viz_label_add(summary, map->column_axis ? map->column_axis : "column", VIZ_LABEL_COLUMNS, 0);
    attn_buffer_text(summary, " words");
    if (l->rows.block > 1 || l->columns.block > 1)
        attn_buffer_printf(summary, ", the greatest weight of every %zu by %zu", l->rows.block, l->columns.block);
}

static attn_status lay_out(layout *l) {
    viz_drawing *drawing = l->drawing;
    const attn_heatmap *map = l->map;
    ATTN_TRY(measure(l));
    ATTN_TRY(prepare_cells(l));
    summarise(l);
    double up, reach, map_width = (double)l->columns.n * l->cell, map_height = (double)l->rows.n * l->cell;
    column_reach(l, &up, &reach);
    l->left = ceil(MARGIN + (map->row_axis ? 20.0 : 0.0) + l->rows.widest + 6.0);
    l->right = l->left + map_width;
    double bar_x = l->right + 18.0, bar_height = fmax(60.0, fmin(220.0, map_height));
    drawing->width = ceil(fmax(fmax(bar_x + BAR + 34.0, l->left + reach + MARGIN), 220.0));
    double y = MARGIN;
    if (map->title && *map->title)
        y = viz_title(drawing, l->font, MARGIN, y, drawing->width - 2.0 * MARGIN, map->title) + 6.0;
    if (map->column_axis) y += 16.0;
    double name_y = y - 3.0;
    l->top = ceil(y + up);
    l->bottom = l->top + map_height;
    if (map->column_axis) axis_name(l, map->column_axis, l->left + map_width / 2.0, name_y, 0);
    if (map->row_axis) axis_name(l, map->row_axis, MARGIN + 11.0, l->top + map_height / 2.0, -90);
    drawing->height = ceil(fmax(l->bottom, l->top + bar_height + 6.0) + MARGIN);
    if (l->rows.n == 0 || l->columns.n == 0) {
        viz_text(drawing, l->left, l->top + 14.0, 12.0, VIZ_START, 0, viz_soft_ink, "no words", 8);
        return viz_drawing_status(drawing);
    }
    bool has_missing = draw_cells(l);
    if (has_missing) drawing->height = fmax(drawing->height, ceil(l->top + bar_height + 28.0 + MARGIN));
    draw_words(l);
    draw_bar(l, bar_x, bar_height, has_missing);
    return viz_drawing_status(drawing);
}

attn_status viz_heatmap_layout(viz_drawing *drawing, viz_font *font, const attn_heatmap *map) {
    ATTN_TRY(viz_heatmap_check(drawing->ctx, map));
    layout l = {.drawing = drawing, .font = font, .map = map, .words = ATTN_BUFFER_INIT(drawing->ctx)};
    attn_status status = lay_out(&l);
    attn_release(drawing->ctx, l.rows.labels);
    attn_release(drawing->ctx, l.columns.labels);
    attn_buffer_free(&l.words);
    return status;
}

attn_status attn_heatmap_svg(attn_context *ctx, char **out, size_t *bytes, const attn_heatmap *map) {
    *out = NULL;
    viz_font *font;
    ATTN_TRY(viz_font_open(ctx, &font));
    viz_drawing drawing;
    viz_drawing_start(&drawing, ctx);
    attn_status status = viz_heatmap_layout(&drawing, font, map);
    if (status == ATTN_OK) status = viz_write_svg(&drawing, out, bytes);
    viz_drawing_free(&drawing);
    viz_font_close(font);
    return status;
}

attn_status attn_heatmap_png(attn_context *ctx, char **out, size_t *bytes, const attn_heatmap *map, double scale) {
    *out = NULL;
    viz_font *font;
    ATTN_TRY(viz_font_open(ctx, &font));
    viz_drawing drawing;
    viz_drawing_start(&drawing, ctx);
    attn_status status = viz_heatmap_layout(&drawing, font, map);
    if (status == ATTN_OK) status = viz_write_png(&drawing, font, scale, out, bytes);
    viz_drawing_free(&drawing);
    viz_font_close(font);
    return status;
}
