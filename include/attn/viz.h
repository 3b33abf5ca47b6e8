/* attn/viz.h: pictures of attention and of learning: terminal, SVG, PNG, one drawing on three surfaces; a page of many
 * heads. All deterministic. */
#ifndef ATTN_VIZ_H
#define ATTN_VIZ_H

#include <attn/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A matrix of weights in 0 … 1 with a word for each row and column. Words are any UTF-8; they are drawn as text, never
 * interpreted: control characters, bidi marks and markup are escaped or shown. */
typedef struct attn_heatmap {
    const char *title;                  /* or NULL */
    const char *row_axis, *column_axis; /* "target", "source"; or NULL */
    const char *const *row_labels, *const *column_labels;
    const float *values; /* (rows, columns) */
    size_t rows, columns;
} attn_heatmap;

typedef struct attn_plot_series {
    const char *name;
    const double *x, *y;
    size_t n;
} attn_plot_series;

typedef struct attn_plot {
    const char *title, *x_axis, *y_axis;
    const attn_plot_series *series;
    size_t n;
    bool y_from_zero;
} attn_plot;

/* What attention makes of a few vectors, as text books draw it: tokens → embeddings → context vectors. */
typedef struct attn_diagram {
    const char *title;         /* or NULL */
    const char *const *tokens; /* (n); NULL: x1, x2 … */
    const float *embeddings;   /* (n, d) */
    const float *weights;      /* (m, n): row i says how much of each token is in context vector i */
    const float *contexts;     /* (m, c) */
    size_t n, d, m, c;         /* n, m: 1 … 64; d, c: any, at most 8 numbers of each vector are shown */
} attn_diagram;

typedef struct attn_terminal_options {
    size_t struct_size;
    int width;    /* columns; 0: 80 */
    int colours;  /* 0: none (NO_COLOR, TERM=dumb), 256, or 1 << 24 */
    bool unicode; /* block characters allowed */
} attn_terminal_options;
#define ATTN_TERMINAL_OPTIONS_INIT \
    { sizeof(attn_terminal_options), 0, 0, true }

/* Each gives text or bytes (attn_text_free); bytes may be NULL. The same input gives the same bytes, in every locale.
 * Labels NULL: 0, 1, …; what cannot be seen in a label becomes <U+202E>, a byte that is not UTF-8 <0xE2>. A value that
 * is no weight (NaN, infinite, negative, above one) is hatched, and in a plot leaves a gap. PNG: scale 0.1 to 16; at
 * most 2^27 pixels. Errors: ATTN_E_ARGUMENT (NULL, scale, size), ATTN_E_SHAPE, ATTN_E_VERSION (struct_size),
 * ATTN_E_NOMEM. Threads: one call at a time per context. */
ATTN_API attn_status attn_heatmap_terminal(attn_context *ctx, char **out, size_t *bytes, const attn_heatmap *map,
                                           const attn_terminal_options *options);
ATTN_API attn_status attn_heatmap_svg(attn_context *ctx, char **out, size_t *bytes, const attn_heatmap *map);
ATTN_API attn_status attn_heatmap_png(attn_context *ctx, char **out, size_t *bytes, const attn_heatmap *map,
                                      double scale);
ATTN_API attn_status attn_plot_terminal(attn_context *ctx, char **out, size_t *bytes, const attn_plot *plot,
                                        const attn_terminal_options *options);
ATTN_API attn_status attn_plot_svg(attn_context *ctx, char **out, size_t *bytes, const attn_plot *plot);
ATTN_API attn_status attn_plot_png(attn_context *ctx, char **out, size_t *bytes, const attn_plot *plot, double scale);
ATTN_API attn_status attn_diagram_terminal(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram,
                                           const attn_terminal_options *options);
ATTN_API attn_status attn_diagram_svg(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram);
ATTN_API attn_status attn_diagram_png(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram,
                                      double scale);
/* As a flow chart in the language of Mermaid, a weight on each arrow; weights of 0 have none. */
ATTN_API attn_status attn_diagram_mermaid(attn_context *ctx, char **out, size_t *bytes, const attn_diagram *diagram);

/* ---- a page ----------------------------------------------------------------------------------------------------- */

/* What a side of a page's matrices is: tokens, and the words that they are pieces of. */
typedef struct attn_page_axis {
    const char *name; /* "source" */
    const char *const *tokens;
    size_t n;
    const char *const *words; /* NULL: each token is one */
    const size_t *word;       /* (n) of each token, rising by 0 or 1 */
    size_t n_words;
} attn_page_axis;

/* The heads of some layers over the same texts: each row says how much its token looked at each column's. */
typedef struct attn_page_view {
    const char *name;                     /* "encoder" */
    const attn_page_axis *rows, *columns; /* the same axis: a text that looks at itself */
    const float *weights;                 /* (layers, heads, rows, columns) */
    size_t layers, heads;
    size_t first_layer, first_head; /* their numbers, from 1; 0: 1 */
    bool whole;                     /* all layers and heads that the model has */
    /* What was compared (attn_look_vectors), of these layers and heads; or NULL. Head h has the keys of key head
     * h · key_heads / heads. */
    const float *queries; /* (layers, heads, rows, head_size) */
    const float *keys;    /* (layers, key_heads, columns, head_size) */
    size_t key_heads, head_size;
    float scale, softcap;
} attn_page_view;

typedef struct attn_page {
    const char *title, *about; /* a line above the rest; or NULL */
    const attn_page_view *views;
    size_t n;    /* 1 … 16 */
    size_t open; /* the view that is seen at first */
    /* Two texts beside one another: view i + beside is of the second what view i is of the first, with as many layers
     * and heads, and n is 2 · beside; 0: one text. */
    size_t beside;
    const char *texts[2]; /* what stands above each */
} attn_page;
enum { ATTN_PAGE_WEIGHTS = 1 << 28 }; /* at most; a number of a query or key counts as two */

/* One HTML file that needs nothing else and may load nothing: every head small, one of them large, as a heat map with
 * rulers that can be enlarged, or as lines; words or tokens; means, rollout, heads by their scores; with queries and
 * keys also a head's, number by number; of two texts both, and how they differ. Weights are kept as bytes, to within
 * 0.004, the vectors in f16. Gives text as those above; labels and values that are no weights as there. Errors:
 * besides, ATTN_E_SHAPE for more than ATTN_PAGE_WEIGHTS. */
ATTN_API attn_status attn_page_html(attn_context *ctx, char **out, size_t *bytes, const attn_page *page);

#ifdef __cplusplus
}
#endif
#endif
