/* diagram_text.c: the diagram in character cells, and as a Mermaid flow chart. */
#include "viz/diagram.h"
#include "viz/terminal.h"

#include <math.h>
#include <string.h>

/* ---- the terminal ---------------------------------------------------------------------------------------- */

typedef struct page {
    attn_buffer *out;
    viz_terminal terminal;
    const attn_diagram *diagram;
    size_t word, embedding, context; /* columns of each part */
    size_t numbers;                  /* of a vector that are shown */
    bool written;                    /* weights as numbers of 5 columns, else shades of one */
} page;

/* Cells that a text of ours takes: one a character. */
static size_t cells_of(const char *text, size_t bytes) {
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++) n += ((unsigned char)text[i] & 0xC0) != 0x80;
    return n;
}

static size_t vector_cells(page *p, const float *x, size_t n, attn_buffer *text) {
    text->bytes = 0;
    viz_diagram_vector(text, x, n, p->numbers, " ");
    return text->data ? cells_of(text->data, text->bytes) : 0;
}

static void put_vector(page *p, const float *x, size_t n, size_t columns, attn_buffer *text) {
    const size_t cells = vector_cells(p, x, n, text);
    attn_buffer_text(p->out, "[");
    attn_buffer_add(p->out, text->data, text->bytes);
    attn_buffer_text(p->out, "]");
    viz_repeat(p->out, " ", columns > cells ? columns - cells : 0);
}

static const char *arrow(const page *p) { return p->terminal.unicode ? " \xE2\x86\x92 " : " -> "; }

static void put_left(page *p, size_t i, attn_buffer *text) {
    text->bytes = 0;
    size_t used = 2;
    const attn_diagram *d = p->diagram;
    if (d->tokens) used = viz_label_add(text, d->tokens[i], VIZ_LABEL_COLUMNS, VIZ_WORD | p->terminal.label_flags);
    else viz_diagram_token(text, d, i, 0), used = text->bytes;
    attn_buffer_add(p->out, text->data, text->bytes);
    viz_repeat(p->out, " ", p->word > used ? p->word - used : 0);
    attn_buffer_text(p->out, arrow(p));
    put_vector(p, d->embeddings + i * d->d, d->d, p->embedding, text);
}

static void put_weight(page *p, float weight) {
    static const char *const shades[] = {" ", "\xE2\x96\x91", "\xE2\x96\x92", "\xE2\x96\x93", "\xE2\x96\x88"};
    static const char *const plain[] = {".", ":", "+", "#", "@"};
    const bool good = viz_is_weight(weight);
    if (p->terminal.colours && good) {
        viz_terminal_ground(p->out, &p->terminal, (double)weight);
        viz_terminal_colour(p->out, &p->terminal, viz_on_colour(viz_map((double)weight)), false);
    }
    if (p->written) {
        char text[VIZ_NUMBER_BYTES];
        viz_number(text, (double)weight, 2);
        attn_buffer_printf(p->out, " %s", text);
    } else if (!good) attn_buffer_text(p->out, "?");
    else if (p->terminal.colours) attn_buffer_text(p->out, " ");
    else attn_buffer_text(p->out, (p->terminal.unicode ? shades : plain)[ATTN_MIN((int)(weight * 5.0f), 4)]);
    if (good) viz_terminal_reset(p->out, &p->terminal);
}

static void put_right(page *p, size_t i, attn_buffer *text) {
    const attn_diagram *d = p->diagram;
    for (size_t j = 0; j < d->n; j++) put_weight(p, d->weights[i * d->n + j]);
    attn_buffer_printf(p->out, "%sz%zu ", arrow(p), i + 1);
    if (d->m > 9 && i < 9) attn_buffer_text(p->out, " ");
    put_vector(p, d->contexts + i * d->c, d->c, 0, text);
}

static void measure(page *p, attn_buffer *text) {
    const attn_diagram *d = p->diagram;
    p->word = 6, p->embedding = 8, p->context = 13;
    for (size_t i = 0; i < d->n; i++) {
        text->bytes = 0;
        if (d->tokens)
            p->word = ATTN_MAX(
                p->word, viz_label_add(text, d->tokens[i], VIZ_LABEL_COLUMNS, VIZ_WORD | p->terminal.label_flags));
        p->embedding = ATTN_MAX(p->embedding, vector_cells(p, d->embeddings + i * d->d, d->d, text));
    }
    for (size_t i = 0; i < d->m; i++)
        p->context = ATTN_MAX(p->context, vector_cells(p, d->contexts + i * d->c, d->c, text));
}

static size_t left_columns(const page *p) { return p->word + (p->terminal.unicode ? 3 : 4) + p->embedding + 2; }
static size_t right_columns(const page *p) {
    return p->diagram->n * (p->written ? 5 : 1) + (p->terminal.unicode ? 3 : 4) + 4 + p->context + 2;
}

static void draw(page *p, attn_buffer *text) {
    const attn_diagram *d = p->diagram;
    const size_t width = p->terminal.width;
    p->written = true, p->numbers = VIZ_DIAGRAM_NUMBERS;
    measure(p, text);
    bool side = left_columns(p) + 3 + right_columns(p) <= width; /* both parts on one line */
    if (!side && right_columns(p) > width) p->written = false;
    while ((left_columns(p) > width || right_columns(p) > width) && p->numbers > 1) p->numbers--, measure(p, text);
    viz_terminal_line(p->out, &p->terminal, d->title);
    const size_t rows = side ? ATTN_MAX(d->n, d->m) : d->n;
    attn_buffer_printf(p->out, "%-*s%s%-*s", (int)p->word, "tokens", arrow(p), (int)p->embedding + 2, "embeddings");
    if (side) attn_buffer_printf(p->out, "   %-*s%scontext vectors", (int)d->n * 5, " weights", arrow(p));
    attn_buffer_text(p->out, "\n");
    for (size_t i = 0; i < rows; i++) {
        if (i < d->n) put_left(p, i, text);
        else viz_repeat(p->out, " ", left_columns(p));
        attn_buffer_text(p->out, side ? "   " : "");
        if (side && i < d->m) put_right(p, i, text);
        attn_buffer_text(p->out, "\n");
    }
    if (side) return;
    attn_buffer_printf(p->out, "weights%scontext vectors\n", arrow(p));
    for (size_t i = 0; i < d->m; i++) {
        put_right(p, i, text);
        attn_buffer_text(p->out, "\n");
    }
}

attn_status attn_diagram_terminal(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram,
                                  const attn_terminal_options *options) {
    *out = NULL;
    attn_buffer page_text = ATTN_BUFFER_INIT(ctx), text = ATTN_BUFFER_INIT(ctx);
    page p = {.out = &page_text, .diagram = diagram};
    ATTN_TRY(viz_terminal_read(ctx, &p.terminal, options));
    ATTN_TRY(viz_diagram_check(ctx, diagram));
    draw(&p, &text);
    if (page_text.status == ATTN_OK) page_text.status = text.status;
    attn_buffer_free(&text);
    return attn_buffer_give(&page_text, out, bytes);
}

/* ---- Mermaid --------------------------------------------------------------------------------------------- */

/* A node's text in quotes; what has a meaning to Mermaid or HTML becomes an entity of Mermaid's. */
static void put_escaped(attn_buffer *out, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (strchr("\"<>&#;`\\", text[i]) && text[i]) attn_buffer_printf(out, "#%d;", text[i]);
        else attn_buffer_add(out, text + i, 1);
    }
}

attn_status attn_diagram_mermaid(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *d) {
    *out = NULL;
    ATTN_TRY(viz_diagram_check(ctx, d));
    attn_buffer page_text = ATTN_BUFFER_INIT(ctx), text = ATTN_BUFFER_INIT(ctx), *to = &page_text;
    if (d->title && *d->title) {
        viz_label_add(&text, d->title, VIZ_TITLE_COLUMNS, 0);
        attn_buffer_text(to, "---\ntitle: \"");
        put_escaped(to, text.data, text.bytes);
        attn_buffer_text(to, "\"\n---\n");
    }
    attn_buffer_text(to, "flowchart LR\n    subgraph tokens\n");
    for (size_t i = 0; i < d->n; i++) {
        text.bytes = 0;
        viz_diagram_token(&text, d, i, 0);
        attn_buffer_printf(to, "        t%zu[\"", i + 1);
        put_escaped(to, text.data, text.bytes);
        attn_buffer_text(to, "\"]\n");
    }
    attn_buffer_text(to, "    end\n    subgraph embeddings\n");
    for (size_t i = 0; i < d->n; i++) {
        attn_buffer_printf(to, "        x%zu[\"[", i + 1);
        viz_diagram_vector(to, d->embeddings + i * d->d, d->d, VIZ_DIAGRAM_NUMBERS, ", ");
        attn_buffer_text(to, "]\"]\n");
    }
    attn_buffer_text(to, "    end\n    subgraph contexts [\"context vectors\"]\n");
    for (size_t i = 0; i < d->m; i++) {
        attn_buffer_printf(to, "        z%zu[\"z%zu = [", i + 1, i + 1);
        viz_diagram_vector(to, d->contexts + i * d->c, d->c, VIZ_DIAGRAM_NUMBERS, ", ");
        attn_buffer_text(to, "]\"]\n");
    }
    attn_buffer_text(to, "    end\n");
    for (size_t i = 0; i < d->n; i++) attn_buffer_printf(to, "    t%zu --> x%zu\n", i + 1, i + 1);
    for (size_t i = 0; i < d->m; i++)
        for (size_t j = 0; j < d->n; j++) {
            char number[VIZ_NUMBER_BYTES];
            if (d->weights[i * d->n + j] == 0.0f) continue;
            viz_number(number, (double)d->weights[i * d->n + j], 2);
            attn_buffer_printf(to, "    x%zu -- \"%s\" --> z%zu\n", j + 1, number, i + 1);
        }
    if (to->status == ATTN_OK) to->status = text.status;
    attn_buffer_free(&text);
    return attn_buffer_give(to, out, bytes);
}
