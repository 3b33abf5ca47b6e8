/* diagram.c: tokens → embeddings → context vectors, laid out; SVG and PNG. */
#include "viz/diagram.h"

#include <math.h>
#include <string.h>

attn_status viz_diagram_check(attn_context *ctx, const attn_diagram *d) {
    if (!d || !d->embeddings || !d->weights || !d->contexts)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_diagram: %s is NULL",
                         !d               ? "the diagram"
                         : !d->embeddings ? "embeddings"
                         : !d->weights    ? "weights"
                                          : "contexts");
    if (d->n < 1 || d->m < 1 || d->n > VIZ_DIAGRAM_MOST || d->m > VIZ_DIAGRAM_MOST)
        return attn_fail(ctx, ATTN_E_SHAPE, "attn_diagram: %zu tokens and %zu context vectors, expected 1 to %d each",
                         d->n, d->m, VIZ_DIAGRAM_MOST);
    return ATTN_OK;
}

void viz_diagram_vector(attn_buffer *out, const float *x, size_t n, size_t most, const char *between) {
    for (size_t i = 0; i < ATTN_MIN(n, most); i++) {
        char text[VIZ_NUMBER_BYTES];
        viz_number(text, (double)x[i], fabsf(x[i]) < 100.0f ? 2 : 0);
        if (i > 0) attn_buffer_text(out, between);
        attn_buffer_text(out, text);
    }
    if (n > most) attn_buffer_text(out, " \xE2\x80\xA6");
}

void viz_diagram_token(attn_buffer *out, const attn_diagram *d, size_t i, unsigned flags) {
    if (d->tokens) viz_label_add(out, d->tokens[i], VIZ_LABEL_COLUMNS, VIZ_WORD | flags);
    else attn_buffer_printf(out, "x%zu", i + 1);
}

/* ---- layout --------------------------------------------------------------------------------------------- */

enum { NUMBERED = 12 }; /* up to so many tokens, weights are written into their cells */
#define MARGIN 16.0
#define SIZE 13.0
#define BOX 26.0  /* height of a box */
#define STEP 40.0 /* from row to row */
#define FAN 190.0 /* where the lines run */

typedef struct column {
    double left, width;
} column;

typedef struct layout {
    viz_drawing *drawing;
    viz_font *font;
    const attn_diagram *diagram;
    attn_buffer text; /* workplace */
    column token, embedding, cells, context;
    double cell, top, shift; /* side of a cell; y of the first row; how far the shorter side is moved down */
} layout;

typedef void text_of(layout *l, size_t i);

static void token_text(layout *l, size_t i) { viz_diagram_token(&l->text, l->diagram, i, 0); }
static void embedding_text(layout *l, size_t i) {
    viz_diagram_vector(&l->text, l->diagram->embeddings + i * l->diagram->d, l->diagram->d, VIZ_DIAGRAM_NUMBERS, "  ");
}
static void context_text(layout *l, size_t i) {
    attn_buffer_printf(&l->text, "z%zu = ", i + 1);
    viz_diagram_vector(&l->text, l->diagram->contexts + i * l->diagram->c, l->diagram->c, VIZ_DIAGRAM_NUMBERS, "  ");
}

/* Empties the workplace, then text i into it. */
static void make_text(layout *l, text_of *of, size_t i) {
    l->text.bytes = 0;
    of(l, i);
    if (l->text.status != ATTN_OK && l->drawing->status == ATTN_OK) l->drawing->status = l->text.status;
}

static double widest(layout *l, text_of *of, size_t n) {
    double most = 0.0;
    for (size_t i = 0; i < n && l->drawing->status == ATTN_OK; i++) {
        make_text(l, of, i);
        if (l->text.bytes) most = fmax(most, viz_text_width(l->font, l->text.data, l->text.bytes, SIZE));
    }
    return most;
}

/* The middle of a row's box; the shorter of both sides stands in the middle of the longer one. */
static double middle(const layout *l, bool context, size_t i) {
    const bool shorter = context ? l->diagram->m < l->diagram->n : l->diagram->n < l->diagram->m;
    return l->top + (shorter ? l->shift : 0.0) + (double)i * STEP + BOX / 2.0;
}

static void boxes(layout *l, const column *at, text_of *of, size_t n, bool context) {
    for (size_t i = 0; i < n && l->drawing->status == ATTN_OK; i++) {
        const double y = middle(l, context, i);
        make_text(l, of, i);
        viz_frame(l->drawing, at->left, y - BOX / 2.0, at->width, BOX, viz_soft_ink);
        if (l->text.bytes)
            viz_text(l->drawing, at->left + at->width / 2.0, y + 0.36 * SIZE, SIZE, VIZ_MIDDLE, 0, viz_ink,
                     l->text.data, l->text.bytes);
    }
}

static void line(layout *l, double x0, double y0, double x1, double y1, double width, viz_colour colour) {
    const size_t first = l->drawing->n_points;
    viz_point(l->drawing, x0, y0);
    viz_point(l->drawing, x1, y1);
    viz_polyline(l->drawing, first, width, colour, false);
}

static void arrow(layout *l, double x0, double x1, double y) {
    line(l, x0, y, x1 - 1.0, y, 1.2, viz_soft_ink);
    const size_t first = l->drawing->n_points;
    viz_point(l->drawing, x1 - 6.0, y - 4.0);
    viz_point(l->drawing, x1 - 1.0, y);
    viz_point(l->drawing, x1 - 6.0, y + 4.0);
    viz_polyline(l->drawing, first, 1.2, viz_soft_ink, false);
}

/* Thin and light lines first, so that what matters lies on top. */
static void fan(layout *l) {
    enum { SHADES = 16 };
    const attn_diagram *d = l->diagram;
    float most = 0.0f;
    for (size_t i = 0; i < d->m * d->n; i++)
        if (viz_is_weight(d->weights[i])) most = fmaxf(most, d->weights[i]);
    for (int shade = 1; shade <= SHADES && most > 0.0f; shade++)
        for (size_t i = 0; i < d->m * d->n; i++) {
            if (!viz_is_weight(d->weights[i])) continue;
            const double share = (double)(d->weights[i] / most);
            if ((int)ceil(share * SHADES) != shade) continue;
            line(l, l->embedding.left + l->embedding.width, middle(l, false, i % d->n), l->cells.left - 4.0,
                 middle(l, true, i / d->n), 0.6 + 4.4 * (double)d->weights[i], viz_map(0.12 + 0.88 * share));
        }
}

static void cells(layout *l) {
    const attn_diagram *d = l->diagram;
    viz_drawing *drawing = l->drawing;
    const bool numbered = d->n <= NUMBERED;
    for (size_t i = 0; i < d->m; i++) {
        const double y = middle(l, true, i) - BOX / 2.0;
        for (size_t j = 0; j < d->n; j++) {
            const float weight = d->weights[i * d->n + j];
            const double x = l->cells.left + (double)j * l->cell;
            if (viz_is_weight(weight)) viz_rectangle(drawing, x, y, l->cell - 1.0, BOX, viz_map((double)weight));
            else viz_box(drawing, VIZ_HATCH, x, y, l->cell - 1.0, BOX);
            if (!numbered) continue;
            char text[VIZ_NUMBER_BYTES];
            viz_number(text, (double)weight, 2);
            const viz_colour ground = viz_is_weight(weight) ? viz_map((double)weight) : viz_missing;
            viz_text(drawing, x + (l->cell - 1.0) / 2.0, y + BOX / 2.0 + 4.0, 11.0, VIZ_MIDDLE, 0,
                     weight == 0.0f ? viz_soft_ink : viz_on_colour(ground), text, strlen(text));
        }
        viz_frame(drawing, l->cells.left - 1.0, y - 1.0, (double)d->n * l->cell + 1.0, BOX + 2.0, viz_grid);
        arrow(l, l->cells.left + (double)d->n * l->cell + 2.0, l->context.left, y + BOX / 2.0);
    }
}

/* The tokens above the first row of cells. */
static void cell_names(layout *l, double y) {
    for (size_t j = 0; j < l->diagram->n && l->drawing->status == ATTN_OK; j++) {
        make_text(l, token_text, j);
        if (l->text.bytes)
            viz_text(l->drawing, l->cells.left + ((double)j + 0.5) * l->cell + 4.0, y, 11.0, VIZ_START, -45,
                     viz_soft_ink, l->text.data, l->text.bytes);
    }
}

static void heading(layout *l, const column *at, double y, const char *text) {
    viz_text(l->drawing, at->left + at->width / 2.0, y, 12.0, VIZ_MIDDLE, 0, viz_soft_ink, text, strlen(text));
}

static attn_status lay_out(layout *l) {
    const attn_diagram *d = l->diagram;
    viz_drawing *drawing = l->drawing;
    if (d->title && *d->title) {
        viz_label_add(&drawing->summary, d->title, VIZ_TITLE_COLUMNS, 0);
        attn_buffer_text(&drawing->summary, ": ");
    }
    attn_buffer_printf(&drawing->summary, "diagram, %zu tokens, their embeddings, %zu context vectors", d->n, d->m);
    const double words = widest(l, token_text, d->n);
    l->cell = d->n <= NUMBERED ? 36.0 : 14.0;
    l->token = (column){MARGIN, ceil(fmax(words + 20.0, 52.0))};
    l->embedding =
        (column){l->token.left + l->token.width + 30.0, ceil(fmax(widest(l, embedding_text, d->n) + 20.0, 80.0))};
    l->cells = (column){l->embedding.left + l->embedding.width + FAN, (double)d->n * l->cell};
    l->context =
        (column){l->cells.left + l->cells.width + 34.0, ceil(fmax(widest(l, context_text, d->m) + 20.0, 100.0))};
    drawing->width = l->context.left + l->context.width + MARGIN;
    double y = MARGIN;
    if (d->title && *d->title)
        y = viz_title(drawing, l->font, MARGIN, y, drawing->width - 2.0 * MARGIN, d->title) + 6.0;
    heading(l, &l->token, y + 12.0, "tokens");
    heading(l, &l->embedding, y + 12.0, "embeddings");
    heading(l, &l->cells, y + 12.0, "weights");
    heading(l, &l->context, y + 12.0, "context vectors");
    const double reach = words * 11.0 / SIZE * 0.70710678 + 14.0;
    l->top = ceil(y + 18.0 + reach);
    l->shift = STEP * fabs((double)d->n - (double)d->m) / 2.0;
    drawing->height = l->top + (double)(ATTN_MAX(d->n, d->m) - 1) * STEP + BOX + MARGIN;
    fan(l);
    boxes(l, &l->token, token_text, d->n, false);
    boxes(l, &l->embedding, embedding_text, d->n, false);
    for (size_t i = 0; i < d->n; i++) arrow(l, l->token.left + l->token.width, l->embedding.left, middle(l, false, i));
    cells(l);
    cell_names(l, middle(l, true, 0) - BOX / 2.0 - 6.0);
    boxes(l, &l->context, context_text, d->m, true);
    return viz_drawing_status(drawing);
}

/* SVG without a scale, else PNG. */
static attn_status draw(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram,
                        const double *scale) {
    *out = NULL;
    ATTN_TRY(viz_diagram_check(ctx, diagram));
    viz_font *font;
    ATTN_TRY(viz_font_open(ctx, &font));
    viz_drawing drawing;
    viz_drawing_start(&drawing, ctx);
    layout l = {.drawing = &drawing, .font = font, .diagram = diagram, .text = ATTN_BUFFER_INIT(ctx)};
    attn_status status = lay_out(&l);
    if (status == ATTN_OK)
        status = scale ? viz_write_png(&drawing, font, *scale, out, bytes) : viz_write_svg(&drawing, out, bytes);
    attn_buffer_free(&l.text);
    viz_drawing_free(&drawing);
    viz_font_close(font);
    return status;
}

attn_status attn_diagram_svg(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram) {
    return draw(ctx, out, bytes, diagram, NULL);
}

attn_status attn_diagram_png(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram, double scale) {
    return draw(ctx, out, bytes, diagram, &scale);
}
