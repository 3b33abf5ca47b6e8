/* gemm.h: C = A·B with B packed in panels of 16 columns, [panel][k][16].
 *
 * The arithmetic is fixed; shapes choose only the order in which outputs are made:
 *   (I1) an output is a sum of chains, one for every 256 k, each a chain of FMAs that starts at 0;
 *   (I2) the chains are added to C in increasing k, the first one replaces C unless the caller accumulates;
 *   (I3) bias, then residual, then the activation follow, once, after the last chain.
 * So a row's bits depend on that row of A and on B alone. With pairs of bf16 a chain is of 256 pairs, two products
 * each.
 *
 * Loops, from outside: rows that keep their part of A in L2 · k in blocks of that part · strips of panels · chains,
 * whose part of the strip stays in L1 · tiles of rows, which keep their chains in registers. */
#ifndef ATTN_KERNEL_BODY_GEMM_H
#define ATTN_KERNEL_BODY_GEMM_H

#include "kernel/body/activation.h"
#include "kernel/body/partial.h"
#include "kernel/kernels.h"

#define GEMM_AHEAD 16 /* rows that lie apart are prefetched so many before they are copied */
#define GEMM_BEAT 16  /* k between two groups of prefetches: few at a time, or they hold up the loads */
#define GEMM_BEATS (ATTN_GEMM_CHAIN / GEMM_BEAT)
#define GEMM_PANEL_VECTORS (ATTN_PANEL / V_LANES)
#define GEMM_MOST_VECTORS (V_GEMM_FEW_PANELS * GEMM_PANEL_VECTORS)

typedef struct gemm_tile_args {
    size_t lines; /* the length of the chain: k or pairs of k */
    const float *a;
    ptrdiff_t a_row, a_column;
    const void *b; /* in the form that the tile function knows */
    size_t b_panel;
    float *c;
    ptrdiff_t c_row;
    size_t n; /* columns of C, at most 16 a panel */
    bool add;
    const char *next; /* is prefetched, next_lines × 64 bytes in each beat */
    size_t next_lines;
    bool next_to_l2;
    const char *far; /* far_lines × 64 bytes in each beat, far_step bytes apart */
    size_t far_lines;
    ptrdiff_t far_step;
} gemm_tile_args;

V_FN V gemm_load_b(const attn_panel_form form, const void *b, size_t at) {
    return form == ATTN_PANEL_BF16 ? v_load_bf16((const uint16_t *)b + at) : v_load((const float *)b + at);
}
V_FN size_t gemm_line_bytes(attn_panel_form form) {
    return ATTN_PANEL * (form == ATTN_PANEL_BF16 ? sizeof(uint16_t) : sizeof(float));
}
/* The first element that a line of a panel is made of; of pairs the second is ATTN_PAIR_STEP further. */
V_FN size_t gemm_line_start(const attn_panel_form form, size_t line) {
    return form == ATTN_PANEL_PAIRS ? line + line / ATTN_PAIR_STEP * ATTN_PAIR_STEP : line;
}

/* rows × panels outputs: one chain each. Always inlined with constant rows, panels and form. On the way a row of C is
 * fetched in each beat, by the last bytes of its vectors (C need not be aligned): a store that waits for memory at the
 * end would hold up the next tile. */
V_FN void gemm_tile(const int rows, const int panels, const attn_panel_form form, const gemm_tile_args *t) {
    const int vectors = panels * GEMM_PANEL_VECTORS;
    V chain[V_GEMM_ROWS][GEMM_MOST_VECTORS];
    ATTN_UNROLL for (int i = 0; i < rows; i++) { ATTN_UNROLL for (int j = 0; j < vectors; j++) chain[i][j] = v_zero(); }
    const float *a = t->a;
    const ptrdiff_t a_row = t->a_row, a_column = t->a_column;
    const char *b = t->b, *next = t->next, *far = t->far;
    const float *c_line = t->c;
    const size_t b_panel = t->b_panel;
    int c_rows = rows;
    for (size_t left = t->lines, beat; left > 0; left -= beat) {
        beat = left < GEMM_BEAT ? left : GEMM_BEAT;
        if (c_rows-- > 0) {
            ATTN_UNROLL for (int j = 0; j < panels; j++)
                __builtin_prefetch(c_line + j * ATTN_PANEL + ATTN_PANEL - 1, 1);
            c_line += t->c_row;
        }
        if (t->next_to_l2) {
            for (size_t i = t->next_lines; i > 0; i--, next += 64) __builtin_prefetch(next, 0, 2);
        } else {
            for (size_t i = t->next_lines; i > 0; i--, next += 64) __builtin_prefetch(next);
        }
        for (size_t i = 0; i < t->far_lines; i++) __builtin_prefetch(far + 64 * i);
        far += t->far_step;
        for (size_t step = beat; step > 0; step--) {
            V row[GEMM_MOST_VECTORS];
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                size_t panel = (size_t)j / GEMM_PANEL_VECTORS, lane = (size_t)j % GEMM_PANEL_VECTORS * V_LANES;
                row[j] = gemm_load_b(form, b, panel * b_panel + lane);
            }
            ATTN_UNROLL for (int i = 0; i < rows; i++) {
                V x = v_set(a[i * a_row]);
                ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                    chain[i][j] =
                        form == ATTN_PANEL_PAIRS ? v_dot_bf16(x, row[j], chain[i][j]) : v_fma(x, row[j], chain[i][j]);
                }
            }
            a += a_column;
            b += gemm_line_bytes(form);
        }
    }
    ATTN_UNROLL for (int i = 0; i < rows; i++) {
        float *c = t->c + i * t->c_row;
        if (t->n == (size_t)panels * ATTN_PANEL) {
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                V x = chain[i][j];
                if (t->add) x = v_add(v_load(c + j * V_LANES), x);
                v_store(c + j * V_LANES, x);
            }
        } else {
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                size_t first = (size_t)j * V_LANES, left = t->n > first ? t->n - first : 0;
                size_t lanes = left < V_LANES ? left : V_LANES;
                V x = chain[i][j];
                if (t->add) x = v_add(v_load_n(c + first, lanes), x);
                v_store_n(c + first, x, lanes);
            }
        }
    }
}

/* X(rows) for each number of rows that the vocabulary names. A strip is V_GEMM_PANELS wide, one where C ends, or
 * V_GEMM_FEW_PANELS for up to V_GEMM_FEW_ROWS rows, which would make too few chains to hide an FMA's latency. */
#define GEMM_TILE_FUNCTION(name, rows, panels, form) \
    static void gemm_##name##_##rows(const gemm_tile_args *t) { gemm_tile(rows, panels, form, t); }
#define GEMM_TILE_FUNCTIONS(rows)                                          \
    GEMM_TILE_FUNCTION(strip_f32, rows, V_GEMM_PANELS, ATTN_PANEL_F32)     \
    GEMM_TILE_FUNCTION(strip_bf16, rows, V_GEMM_PANELS, ATTN_PANEL_BF16)   \
    GEMM_TILE_FUNCTION(strip_pairs, rows, V_GEMM_PANELS, ATTN_PANEL_PAIRS) \
    GEMM_TILE_FUNCTION(one_f32, rows, 1, ATTN_PANEL_F32)                   \
    GEMM_TILE_FUNCTION(one_bf16, rows, 1, ATTN_PANEL_BF16)                 \
    GEMM_TILE_FUNCTION(one_pairs, rows, 1, ATTN_PANEL_PAIRS)
#define GEMM_FEW_FUNCTIONS(rows)                                           \
    GEMM_TILE_FUNCTION(few_f32, rows, V_GEMM_FEW_PANELS, ATTN_PANEL_F32)   \
    GEMM_TILE_FUNCTION(few_bf16, rows, V_GEMM_FEW_PANELS, ATTN_PANEL_BF16) \
    GEMM_TILE_FUNCTION(few_pairs, rows, V_GEMM_FEW_PANELS, ATTN_PANEL_PAIRS)
V_GEMM_TILES(GEMM_TILE_FUNCTIONS)
V_GEMM_FEW_TILES(GEMM_FEW_FUNCTIONS)

#ifdef ATTN_PAIRS_ONLY /* then nothing else is to be in the tables */
#define GEMM_FLOATS(function) NULL
#else
#define GEMM_FLOATS(function) function
#endif
typedef void gemm_tile_fn(const gemm_tile_args *t);
typedef struct gemm_shape {
    size_t rows;
    gemm_tile_fn *strip[ATTN_PANEL_FORMS], *one[ATTN_PANEL_FORMS];
} gemm_shape;
static const gemm_shape gemm_shapes[] = {
#define GEMM_SHAPE(rows)                                                                                 \
    {rows,                                                                                               \
     {GEMM_FLOATS(gemm_strip_f32_##rows), GEMM_FLOATS(gemm_strip_bf16_##rows), gemm_strip_pairs_##rows}, \
     {GEMM_FLOATS(gemm_one_f32_##rows), GEMM_FLOATS(gemm_one_bf16_##rows), gemm_one_pairs_##rows}},
    V_GEMM_TILES(GEMM_SHAPE)
#undef GEMM_SHAPE
};
static gemm_tile_fn *const gemm_few[][ATTN_PANEL_FORMS] = {
#define GEMM_FEW(rows) {GEMM_FLOATS(gemm_few_f32_##rows), GEMM_FLOATS(gemm_few_bf16_##rows), gemm_few_pairs_##rows},
    V_GEMM_FEW_TILES(GEMM_FEW)
#undef GEMM_FEW
};

/* The tile to begin `rows` rows with: the largest, but not so that too small a tile for full speed is left. */
static const gemm_shape *gemm_shape_for(size_t rows) {
    enum { SMALL = 4 };
    const gemm_shape *shape = gemm_shapes + sizeof gemm_shapes / sizeof gemm_shapes[0] - 1;
    if (rows > V_GEMM_ROWS && rows < V_GEMM_ROWS + SMALL) rows = (rows + 1) / 2;
    while (shape->rows > rows) shape--;
    if (rows < V_GEMM_ROWS && rows - shape->rows > 0 && rows - shape->rows < SMALL) {
        rows = (rows + 1) / 2;
        while (shape->rows > rows) shape--;
    }
    return shape;
}

/* act(C + bias + residual) over a strip that was just written. */
static void gemm_finish(const attn_gemm_block *g, size_t row, size_t rows, size_t column, size_t columns) {
    for (size_t i = row; i < row + rows; i++) {
        float *c = g->c + (ptrdiff_t)i * g->c_row + column;
        const float *residual = g->residual ? g->residual + (ptrdiff_t)i * g->residual_row + column : NULL;
        for (size_t j = 0; j < columns; j += V_LANES) {
            size_t lanes = columns - j < V_LANES ? columns - j : V_LANES;
            V x = v_load_n(c + j, lanes);
            if (g->bias) x = v_add(x, v_load_n(g->bias + column + j, lanes));
            if (residual) x = v_add(x, v_load_n(residual + j, lanes));
            v_store_n(c + j, x, lanes);
        }
    }
    if (g->act == ATTN_IDENTITY) return;
    for (size_t i = row; i < row + rows; i++) {
        float *c = g->c + (ptrdiff_t)i * g->c_row + column;
        activation_fwd(c, c, columns, g->act);
    }
}

static void gemm_clear(const attn_gemm_block *g) {
    for (size_t i = 0; i < g->m; i++) memset(g->c + (ptrdiff_t)i * g->c_row, 0, g->n * sizeof *g->c);
}

V_FN void gemm_store_b(void *to, const attn_panel_form form, size_t at, V x) {
    if (form == ATTN_PANEL_BF16) v_store_bf16((uint16_t *)to + at, x);
    else v_store((float *)to + at, x);
}

/* Elements k … of a row that has `depth` of them from there on. */
V_FN V gemm_load_some(const float *row, size_t k, size_t depth) {
    return k + V_LANES <= depth ? v_load(row + k) : k < depth ? v_load_n(row + k, depth - k) : v_zero();
}

/* to[line][width] = line k of from[j·stride + k] for j < count, zeros past it: blocks are transposed in registers. A
 * vector that is wider than a line spills into the next one, which is written after it. */
V_FN void gemm_transpose(const size_t width, const attn_panel_form form, void *to, const float *from, ptrdiff_t stride,
                         size_t k, size_t count) {
    const size_t lines = attn_panel_lines(form, k);
    for (size_t p = 0; p < lines; p += V_LANES) {
        const size_t first = gemm_line_start(form, p);
        for (size_t j = 0; j < width; j += V_LANES) {
            V block[V_LANES];
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                const float *row = from + (ptrdiff_t)(j + i) * stride;
                if (j + i >= count) block[i] = v_zero();
                else if (form == ATTN_PANEL_PAIRS)
                    block[i] =
                        v_pair_bf16(gemm_load_some(row, first, k), gemm_load_some(row, first + ATTN_PAIR_STEP, k));
                else block[i] = gemm_load_some(row, first, k);
            }
            v_transpose(block);
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                const size_t at = (p + i) * width + j;
                if (p + i >= lines) continue;
                if (j > 0 && width - j < V_LANES) v_store_n((float *)to + at, block[i], width - j);
                else gemm_store_b(to, form, at, block[i]);
            }
        }
    }
}

/* A's rows into scratch, `lines` lines from `line` on, in the order in which tiles read them: [rows / V_GEMM_ROWS]
 * [lines][V_GEMM_ROWS]. */
static void gemm_pack_a_floats(const attn_gemm_block *g, size_t row, size_t rows, size_t line, size_t lines) {
    const float *a = g->a + (ptrdiff_t)row * g->a_row + (ptrdiff_t)line * g->a_column;
    for (size_t p = 0; p < lines; p++, a += g->a_column) {
        float *to = g->scratch + p * V_GEMM_ROWS;
        const ptrdiff_t ahead =
            p + GEMM_AHEAD < lines ? GEMM_AHEAD * g->a_column : 0; /* too far apart for the hardware's guess */
        for (size_t i = 0; i < rows; i += V_GEMM_ROWS, to += lines * V_GEMM_ROWS) {
            const size_t some = rows - i < V_GEMM_ROWS ? rows - i : V_GEMM_ROWS;
            const float *from = a + (ptrdiff_t)i * g->a_row;
            __builtin_prefetch(from + ahead);
            if (g->a_row == 1 && some == V_GEMM_ROWS) {
                memcpy(to, from, V_GEMM_ROWS * sizeof *to);
            } else {
                for (size_t r = 0; r < some; r++) to[r] = from[(ptrdiff_t)r * g->a_row];
            }
        }
    }
}

/* to[j] = (x[j], y[j]) for j < n. */
V_FN void gemm_pair(float *to, const float *x, const float *y, size_t n) {
    for (size_t j = 0; j < n; j += V_LANES) {
        const size_t some = n - j < V_LANES ? n - j : V_LANES;
        part_store(to + j, v_pair_bf16(part_load(x + j, some), part_load(y + j, some)), some);
    }
}

static void gemm_pack_a_pairs(const attn_gemm_block *g, size_t row, size_t rows, size_t line, size_t lines) {
    static const float zeros[V_GEMM_ROWS];
    float gathered[2][V_GEMM_ROWS];
    for (size_t p = 0; p < lines; p++) {
        const size_t k = gemm_line_start(ATTN_PANEL_PAIRS, line + p);
        for (size_t i = 0; i < rows; i += V_GEMM_ROWS) {
            const size_t some = rows - i < V_GEMM_ROWS ? rows - i : V_GEMM_ROWS;
            const float *half[2];
            for (size_t h = 0; h < 2; h++) {
                half[h] = zeros;
                if (k + h * ATTN_PAIR_STEP >= g->k) continue;
                half[h] = g->a + (ptrdiff_t)(row + i) * g->a_row + (ptrdiff_t)(k + h * ATTN_PAIR_STEP) * g->a_column;
                if (k + h * ATTN_PAIR_STEP + 2 * ATTN_PAIR_STEP < g->k)
                    __builtin_prefetch(half[h] + 2 * ATTN_PAIR_STEP * g->a_column);
                if (g->a_row == 1) continue;
                for (size_t r = 0; r < some; r++) gathered[h][r] = half[h][(ptrdiff_t)r * g->a_row];
                half[h] = gathered[h];
            }
            float *to = g->scratch + i * lines + p * V_GEMM_ROWS;
            if (some == V_GEMM_ROWS) gemm_pair(to, half[0], half[1], V_GEMM_ROWS);
            else gemm_pair(to, half[0], half[1], some);
        }
    }
}

static void gemm_pack_a(const attn_gemm_block *g, size_t row, size_t rows, size_t line, size_t lines) {
    const bool pairs = g->form == ATTN_PANEL_PAIRS;
    if (g->a_column != 1) {
        (pairs ? gemm_pack_a_pairs : gemm_pack_a_floats)(g, row, rows, line, lines);
        return;
    }
    const size_t first = pairs ? 2 * line : line, most = pairs ? 2 * lines : lines;
    const size_t k = g->k - first < most ? g->k - first : most;
    for (size_t i = 0; i < rows; i += V_GEMM_ROWS) {
        float *to = g->scratch + i * lines;
        const float *from = g->a + (ptrdiff_t)(row + i) * g->a_row + (ptrdiff_t)first;
        const size_t some = rows - i < V_GEMM_ROWS ? rows - i : V_GEMM_ROWS;
        if (pairs) gemm_transpose(V_GEMM_ROWS, ATTN_PANEL_PAIRS, to, from, g->a_row, k, some);
        else gemm_transpose(V_GEMM_ROWS, ATTN_PANEL_F32, to, from, g->a_row, k, some);
    }
}

#ifdef ATTN_TILES_HEADER
#include "kernel/body/tiles_gemm.h"
enum { GEMM_PAIR_ROWS = 2 * T_SIDE };
#else
#define tile_pack_a gemm_pack_a
#define tile_strip gemm_strip
enum { GEMM_PAIR_ROWS = V_GEMM_ROWS };
#endif

/* One strip of columns, lines line … line+depth of it, for `rows` rows. */
static void gemm_strip(const attn_gemm_block *g, size_t row, size_t rows, size_t panel, size_t panels, size_t line,
                       size_t depth) {
    const size_t lines = attn_panel_lines(g->form, g->k), bytes = gemm_line_bytes(g->form);
    const size_t all_panels = (g->n + ATTN_PANEL - 1) / ATTN_PANEL;
    const size_t column = panel * ATTN_PANEL, columns = g->n - column;
    gemm_tile_args t = {.a_row = g->a_row,
                        .a_column = g->a_column,
                        .b_panel = lines * ATTN_PANEL,
                        .c_row = g->c_row,
                        .next_to_l2 = g->next_to_l2};
    /* What is read next, a chain of each panel, is prefetched in parts, one with each tile. */
    const size_t tiles = (rows + V_GEMM_ROWS - 1) / V_GEMM_ROWS, parts = tiles > panels ? tiles / panels : 1;
    const size_t next_lines = (GEMM_BEAT * bytes / 64 + parts - 1) / parts;
    const size_t part_bytes = next_lines * 64 * GEMM_BEATS;
    const size_t beats = tiles * (lines / ATTN_GEMM_CHAIN + 1) * GEMM_BEATS;
    const size_t each = (g->next_bytes / 64 + beats - 1) / beats; /* a block with `next` is one strip */
    const char *next = g->next;
    /* The far rows: as many as a tile has beats with each tile, a part of their bytes at a time. */
    const size_t all_tiles = tiles * ((all_panels + panels - 1) / panels),
                 far_groups = (g->far_rows + GEMM_BEATS - 1) / GEMM_BEATS;
    const size_t far_lines = ((g->far_bytes + 63) / 64 * far_groups + all_tiles - 1) / all_tiles;
    size_t far_tile = panel / panels * tiles;
    t.far_step = g->far_row;
    t.n = columns < panels * ATTN_PANEL ? columns : panels * ATTN_PANEL;
    if (g->scratch) t.a_row = 1, t.a_column = V_GEMM_ROWS;
    for (size_t done = 0; done < depth; done += t.lines) {
        t.lines = depth - done < ATTN_GEMM_CHAIN ? depth - done : ATTN_GEMM_CHAIN;
        t.add = g->accumulate || line + done > 0;
        /* After this part of the strip comes its next chain, or the first one of the next strip. */
        const bool last = done + t.lines == depth;
        const size_t next_panel = last ? panel + panels : panel;
        const size_t next_end = next_panel + panels < all_panels ? next_panel + panels : all_panels;
        const char *next_chain = (const char *)g->b + (last ? line : line + done + t.lines) * bytes;
        t.b = (const char *)g->b + (panel * lines + line + done) * bytes;
        for (size_t i = 0; i < rows;) {
            const size_t part = i / V_GEMM_ROWS, from = next_panel + part / parts;
            t.next = next_chain + from * lines * bytes + part % parts * part_bytes;
            t.next_lines = from < next_end ? next_lines : 0;
            t.c = g->c + (ptrdiff_t)(row + i) * g->c_row + column;
            size_t left = rows - i;
            if (g->scratch) {
                const size_t within = i % V_GEMM_ROWS;
                t.a = g->scratch + (i - within) * depth + done * V_GEMM_ROWS + within;
                if (left > V_GEMM_ROWS - within) left = V_GEMM_ROWS - within;
            } else {
                t.a = g->a + (ptrdiff_t)(row + i) * g->a_row + (ptrdiff_t)(line + done) * g->a_column;
            }
            if (g->next) t.next = next, t.next_lines = each, next += each * 64 * GEMM_BEATS;
            if (g->far) {
                const size_t at = far_tile / far_groups * far_lines * 64;
                t.far = g->far + (ptrdiff_t)(far_tile % far_groups * GEMM_BEATS) * g->far_row + at;
                t.far_lines = at < g->far_bytes ? far_lines : 0;
                far_tile++;
            }
            if (panels == V_GEMM_FEW_PANELS && rows <= V_GEMM_FEW_ROWS) {
                gemm_few[rows - 1][g->form](&t);
                break;
            }
            const gemm_shape *shape = gemm_shape_for(left);
            (panels == V_GEMM_PANELS ? shape->strip : shape->one)[g->form](&t);
            i += shape->rows;
        }
    }
}

/* All of B for `rows` rows of A and C, lines line … line+depth. */
V_FN void gemm_rows(const bool pairs, const attn_gemm_block *g, size_t row, size_t rows, size_t line, size_t depth) {
    const size_t all_panels = (g->n + ATTN_PANEL - 1) / ATTN_PANEL;
    const bool last = line + depth == attn_panel_lines(g->form, g->k);
    const bool finish = last && (g->bias || g->residual || g->act != ATTN_IDENTITY);
    if (g->scratch && !g->copied) (pairs ? tile_pack_a : gemm_pack_a)(g, row, rows, line, depth);
    size_t panels;
    for (size_t panel = 0; panel < all_panels; panel += panels) {
        panels = rows <= V_GEMM_FEW_ROWS ? V_GEMM_FEW_PANELS : V_GEMM_PANELS;
        if (all_panels - panel < panels) panels = all_panels - panel < V_GEMM_PANELS ? 1 : V_GEMM_PANELS;
        const size_t column = panel * ATTN_PANEL, columns = g->n - column;
        (pairs ? tile_strip : gemm_strip)(g, row, rows, panel, panels, line, depth);
        if (finish) gemm_finish(g, row, rows, column, columns < panels * ATTN_PANEL ? columns : panels * ATTN_PANEL);
    }
}

V_FN void gemm_block_of(const bool pairs, const attn_gemm_block *g) {
    if (g->k == 0 && !g->accumulate) gemm_clear(g);
    const size_t step = pairs ? GEMM_PAIR_ROWS : V_GEMM_ROWS;
    const size_t most = attn_gemm_most_rows(g->rows) / step * step, lines = attn_panel_lines(g->form, g->k);
    for (size_t row = 0, rows; row < g->m; row += rows) {
        const size_t parts = (g->m - row + most - 1) / most, share = (g->m - row + parts - 1) / parts;
        rows = (share + step - 1) / step * step;
        if (rows > g->m - row) rows = g->m - row;
        size_t line = 0;
        do {
            const size_t depth = lines - line < ATTN_GEMM_DEPTH ? lines - line : ATTN_GEMM_DEPTH;
            gemm_rows(pairs, g, row, rows, line, depth);
            line += depth;
        } while (line < lines);
    }
}

static void gemm_block(const attn_gemm_block *g) { gemm_block_of(false, g); }
static void gemm_block_pairs(const attn_gemm_block *g) { gemm_block_of(true, g); }

/* Panels of B[k][j] = b[k·row + j·column]: line by line through all of them, since rows may lie a page apart. */
V_FN void gemm_pack_rows(const attn_panel_form form, char *to, const float *b, ptrdiff_t row, ptrdiff_t column,
                         size_t k, size_t columns) {
    const size_t halves = form == ATTN_PANEL_PAIRS ? 2 : 1, lines = attn_panel_lines(form, k);
    for (size_t p = 0; p < lines; p++) {
        const size_t first = gemm_line_start(form, p);
        char *at = to + p * gemm_line_bytes(form);
        for (size_t panel = 0; panel < columns; panel += ATTN_PANEL, at += lines * gemm_line_bytes(form)) {
            const size_t some = columns - panel < ATTN_PANEL ? columns - panel : ATTN_PANEL;
            if (halves == 1 && column == 1 && some == ATTN_PANEL) {
                const float *from = b + (ptrdiff_t)p * row + (ptrdiff_t)panel;
                if (p + GEMM_AHEAD < k) __builtin_prefetch(from + GEMM_AHEAD * row);
                ATTN_UNROLL for (size_t j = 0; j < ATTN_PANEL; j += V_LANES)
                    gemm_store_b(at, form, j, v_load(from + j));
                continue;
            }
            float line[2][ATTN_PANEL] = {{0}};
            const float *half[2] = {line[0], line[1]};
            for (size_t h = 0; h < halves && first + h * ATTN_PAIR_STEP < k; h++) {
                const float *from = b + (ptrdiff_t)(first + h * ATTN_PAIR_STEP) * row + (ptrdiff_t)panel * column;
                if (first + h * ATTN_PAIR_STEP + GEMM_AHEAD < k) __builtin_prefetch(from + GEMM_AHEAD * row);
                half[h] = from;
                if (column == 1 && some == ATTN_PANEL) continue;
                for (size_t j = 0; j < some; j++) line[h][j] = from[(ptrdiff_t)j * column];
                half[h] = line[h];
            }
            ATTN_UNROLL for (size_t j = 0; j < ATTN_PANEL; j += V_LANES) {
                V x = v_load(half[0] + j);
                if (halves == 2) x = v_pair_bf16(x, v_load(half[1] + j));
                gemm_store_b(at, form, j, x);
            }
        }
    }
}

/* The same where k is contiguous. */
V_FN void gemm_pack_columns(const attn_panel_form form, char *to, const float *b, ptrdiff_t column, size_t k,
                            size_t columns) {
    for (size_t panel = 0; panel < columns; panel += ATTN_PANEL) {
        const size_t some = columns - panel < ATTN_PANEL ? columns - panel : ATTN_PANEL;
        gemm_transpose(ATTN_PANEL, form, to, b + (ptrdiff_t)panel * column, column, k, some);
        to += attn_panel_lines(form, k) * gemm_line_bytes(form);
    }
}

#define GEMM_PACK(form)                                               \
    if (row == 1) gemm_pack_columns(form, to, b, column, k, columns); \
    else gemm_pack_rows(form, to, b, row, column, k, columns)
static void gemm_pack_panels(void *to, attn_panel_form form, const float *b, ptrdiff_t row, ptrdiff_t column, size_t k,
                             size_t columns) {
    switch (form) {
    case ATTN_PANEL_BF16: GEMM_PACK(ATTN_PANEL_BF16); break;
    default: GEMM_PACK(ATTN_PANEL_F32); break;
    }
}

static void gemm_pack_pairs(void *to, const float *b, ptrdiff_t row, ptrdiff_t column, size_t k, size_t columns) {
    GEMM_PACK(ATTN_PANEL_PAIRS);
}

/* sums[j] += Σ_i x[i][j]: chains of 256 rows, added in order. */
static void column_sums(float *sums, const float *x, ptrdiff_t x_row, size_t rows, size_t n) {
    for (size_t first = 0; first < rows; first += ATTN_GEMM_CHAIN) {
        const float *chain = x + (ptrdiff_t)first * x_row;
        const size_t length = rows - first < ATTN_GEMM_CHAIN ? rows - first : ATTN_GEMM_CHAIN;
        size_t j = 0;
        for (; j + 4 * V_LANES <= n; j += 4 * V_LANES) { /* 4: the latency of an addition */
            V sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
            for (size_t i = 0; i < length; i++) {
                const float *row = chain + (ptrdiff_t)i * x_row + j;
                for (size_t v = 0; v < 4; v++) sum[v] = v_add(sum[v], v_load(row + v * V_LANES));
            }
            for (size_t v = 0; v < 4; v++)
                v_store(sums + j + v * V_LANES, v_add(v_load(sums + j + v * V_LANES), sum[v]));
        }
        for (; j < n; j += V_LANES) {
            size_t lanes = n - j < V_LANES ? n - j : V_LANES;
            V sum = v_zero();
            for (size_t i = 0; i < length; i++) sum = v_add(sum, v_load_n(chain + (ptrdiff_t)i * x_row + j, lanes));
            v_store_n(sums + j, v_add(v_load_n(sums + j, lanes), sum), lanes);
        }
    }
}

#endif
