/* gemm.h: C = A·B with B packed in panels of 16 columns, [panel][k][16].
 *
 * The arithmetic is fixed; shapes choose only the order in which outputs are made:
 *   (I1) an output is a sum of chains, one for every 256 k, each a chain of FMAs that starts at 0;
 *   (I2) the chains are added to C in increasing k, the first one replaces C unless the caller accumulates;
 *   (I3) bias, then residual, then the activation follow, once, after the last chain.
 * So a row's bits depend on that row of A and on B alone.
 *
 * Loops, from outside: rows that keep their part of A in L2 · k in blocks of that part · strips of panels · chains,
 * whose part of the strip stays in L1 · tiles of rows, which keep their chains in registers. */
#ifndef ATTN_KERNEL_BODY_GEMM_H
#define ATTN_KERNEL_BODY_GEMM_H

#include "kernel/body/activation.h"
#include "kernel/kernels.h"

#define GEMM_CHAIN 256
#define GEMM_BEAT 16 /* k between two groups of prefetches: few at a time, or they hold up the loads */
#define GEMM_PANEL_VECTORS (ATTN_PANEL / V_LANES)
#define GEMM_MOST_VECTORS (V_GEMM_FEW_PANELS * GEMM_PANEL_VECTORS)

typedef struct gemm_tile_args {
    size_t k; /* the length of the chain */
    const float *a;
    ptrdiff_t a_row, a_column;
    const void *b; /* f32 or bf16: the tile function knows */
    size_t b_panel;
    float *c;
    ptrdiff_t c_row;
    size_t n; /* columns of C, at most 16 a panel */
    bool add;
    const char *next; /* is prefetched, next_lines × 64 bytes in each beat */
    size_t next_lines;
} gemm_tile_args;

V_FN V gemm_load_b(const bool bf16, const void *b, size_t at) {
    return bf16 ? v_load_bf16((const uint16_t *)b + at) : v_load((const float *)b + at);
}

/* rows × panels outputs: one chain each. Always inlined with constant rows, panels and bf16. On the way a row of C is
 * fetched in each beat, by the last bytes of its vectors (C need not be aligned): a store that waits for memory at the
 * end would hold up the next tile. */
V_FN void gemm_tile(const int rows, const int panels, const bool bf16, const gemm_tile_args *t) {
    const int vectors = panels * GEMM_PANEL_VECTORS;
    V chain[V_GEMM_ROWS][GEMM_MOST_VECTORS];
    ATTN_UNROLL for (int i = 0; i < rows; i++) { ATTN_UNROLL for (int j = 0; j < vectors; j++) chain[i][j] = v_zero(); }
    const float *a = t->a;
    const ptrdiff_t a_row = t->a_row, a_column = t->a_column;
    const char *b = t->b, *next = t->next;
    const float *c_line = t->c;
    const size_t b_size = bf16 ? sizeof(uint16_t) : sizeof(float), b_panel = t->b_panel;
    int c_rows = rows;
    for (size_t left = t->k, beat; left > 0; left -= beat) {
        beat = left < GEMM_BEAT ? left : GEMM_BEAT;
        if (c_rows-- > 0) {
            ATTN_UNROLL for (int j = 0; j < panels; j++)
                __builtin_prefetch(c_line + j * ATTN_PANEL + ATTN_PANEL - 1, 1);
            c_line += t->c_row;
        }
        for (size_t i = t->next_lines; i > 0; i--, next += 64) __builtin_prefetch(next);
        for (size_t step = beat; step > 0; step--) {
            V row[GEMM_MOST_VECTORS];
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                size_t panel = (size_t)j / GEMM_PANEL_VECTORS, lane = (size_t)j % GEMM_PANEL_VECTORS * V_LANES;
                row[j] = gemm_load_b(bf16, b, panel * b_panel + lane);
            }
            ATTN_UNROLL for (int i = 0; i < rows; i++) {
                V x = v_set(a[i * a_row]);
                ATTN_UNROLL for (int j = 0; j < vectors; j++) chain[i][j] = v_fma(x, row[j], chain[i][j]);
            }
            a += a_column;
            b += ATTN_PANEL * b_size;
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
#define GEMM_TILE_FUNCTIONS(rows)                                                                             \
    static void gemm_tile_##rows(const gemm_tile_args *t) { gemm_tile(rows, V_GEMM_PANELS, false, t); }       \
    static void gemm_tile_##rows##_one(const gemm_tile_args *t) { gemm_tile(rows, 1, false, t); }             \
    static void gemm_tile_##rows##_bf16(const gemm_tile_args *t) { gemm_tile(rows, V_GEMM_PANELS, true, t); } \
    static void gemm_tile_##rows##_bf16_one(const gemm_tile_args *t) { gemm_tile(rows, 1, true, t); }
#define GEMM_FEW_FUNCTIONS(rows)                                                                           \
    static void gemm_few_##rows(const gemm_tile_args *t) { gemm_tile(rows, V_GEMM_FEW_PANELS, false, t); } \
    static void gemm_few_##rows##_bf16(const gemm_tile_args *t) { gemm_tile(rows, V_GEMM_FEW_PANELS, true, t); }
V_GEMM_TILES(GEMM_TILE_FUNCTIONS)
V_GEMM_FEW_TILES(GEMM_FEW_FUNCTIONS)

typedef void gemm_tile_fn(const gemm_tile_args *t);
typedef struct gemm_shape {
    size_t rows;
    gemm_tile_fn *strip[2], *one[2]; /* f32, bf16 */
} gemm_shape;
static const gemm_shape gemm_shapes[] = {
#define GEMM_SHAPE(rows) \
    {rows, {gemm_tile_##rows, gemm_tile_##rows##_bf16}, {gemm_tile_##rows##_one, gemm_tile_##rows##_bf16_one}},
    V_GEMM_TILES(GEMM_SHAPE)
#undef GEMM_SHAPE
};
static gemm_tile_fn *const gemm_few[][2] = {
#define GEMM_FEW(rows) {gemm_few_##rows, gemm_few_##rows##_bf16},
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

V_FN void gemm_store_b(void *to, bool bf16, size_t at, V x) {
    if (bf16) v_store_bf16((uint16_t *)to + at, x);
    else v_store((float *)to + at, x);
}

/* to[k][width] = from[j·stride + k] for j < count, zeros past it: blocks are transposed in registers. A vector that is
 * wider than a line spills into the next one, which is written after it. */
V_FN void gemm_transpose(const size_t width, const bool bf16, void *to, const float *from, ptrdiff_t stride, size_t k,
                         size_t count) {
    for (size_t p = 0; p < k; p += V_LANES) {
        const size_t depth = k - p < V_LANES ? k - p : V_LANES;
        for (size_t j = 0; j < width; j += V_LANES) {
            V block[V_LANES];
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                const float *line = from + (ptrdiff_t)(j + i) * stride + p;
                block[i] = j + i >= count ? v_zero() : depth == V_LANES ? v_load(line) : v_load_n(line, depth);
            }
            v_transpose(block);
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                const size_t at = (p + i) * width + j;
                if (i >= depth) continue;
                if (j > 0 && width - j < V_LANES) v_store_n((float *)to + at, block[i], width - j);
                else gemm_store_b(to, bf16, at, block[i]);
            }
        }
    }
}

/* A's rows row … row+rows, k … k+depth into scratch, in the order in which tiles read them: [rows / V_GEMM_ROWS][depth]
 * [V_GEMM_ROWS]. */
static void gemm_pack_a(const attn_gemm_block *g, size_t row, size_t rows, size_t k, size_t depth) {
    enum { AHEAD = 16 };
    const float *a = g->a + (ptrdiff_t)row * g->a_row + (ptrdiff_t)k * g->a_column;
    if (g->a_column == 1) {
        for (size_t i = 0; i < rows; i += V_GEMM_ROWS)
            gemm_transpose(V_GEMM_ROWS, false, g->scratch + i * depth, a + (ptrdiff_t)i * g->a_row, g->a_row, depth,
                           rows - i < V_GEMM_ROWS ? rows - i : V_GEMM_ROWS);
        return;
    }
    for (size_t p = 0; p < depth; p++, a += g->a_column) {
        float *to = g->scratch + p * V_GEMM_ROWS;
        const ptrdiff_t ahead =
            p + AHEAD < depth ? AHEAD * g->a_column : 0; /* too far apart for the hardware's guess */
        for (size_t i = 0; i < rows; i += V_GEMM_ROWS, to += depth * V_GEMM_ROWS) {
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

/* One strip of columns, k … k+depth of it, for `rows` rows. */
static void gemm_strip(const attn_gemm_block *g, size_t row, size_t rows, size_t panel, size_t panels, size_t k,
                       size_t depth) {
    const size_t b_panel = g->k * ATTN_PANEL, line = ATTN_PANEL * (g->b_bf16 ? sizeof(uint16_t) : sizeof(float));
    const size_t all_panels = (g->n + ATTN_PANEL - 1) / ATTN_PANEL;
    const size_t column = panel * ATTN_PANEL, columns = g->n - column;
    gemm_tile_args t = {.a_row = g->a_row, .a_column = g->a_column, .b_panel = b_panel, .c_row = g->c_row};
    /* What is read next, a chain of each panel, is prefetched in parts, one with each tile. */
    const size_t tiles = (rows + V_GEMM_ROWS - 1) / V_GEMM_ROWS, parts = tiles > panels ? tiles / panels : 1;
    const size_t next_lines = (GEMM_BEAT * line / 64 + parts - 1) / parts;
    const size_t part_bytes = next_lines * 64 * (GEMM_CHAIN / GEMM_BEAT);
    t.n = columns < panels * ATTN_PANEL ? columns : panels * ATTN_PANEL;
    if (g->scratch) t.a_row = 1, t.a_column = V_GEMM_ROWS;
    for (size_t done = 0; done < depth; done += t.k) {
        t.k = depth - done < GEMM_CHAIN ? depth - done : GEMM_CHAIN;
        t.add = g->accumulate || k + done > 0;
        /* After this part of the strip comes its next chain, or the first one of the next strip. */
        const bool last = done + t.k == depth;
        const size_t next_panel = last ? panel + panels : panel;
        const size_t next_end = next_panel + panels < all_panels ? next_panel + panels : all_panels;
        const char *next_chain = (const char *)g->b + (last ? k : k + done + t.k) * line;
        t.b = (const char *)g->b + (panel * g->k + k + done) * line;
        for (size_t i = 0; i < rows;) {
            const size_t part = i / V_GEMM_ROWS, from = next_panel + part / parts;
            t.next = next_chain + from * g->k * line + part % parts * part_bytes;
            t.next_lines = from < next_end ? next_lines : 0;
            t.c = g->c + (ptrdiff_t)(row + i) * g->c_row + column;
            t.a = g->a + (ptrdiff_t)(row + i) * g->a_row + (ptrdiff_t)(k + done) * g->a_column;
            if (panels == V_GEMM_FEW_PANELS && rows <= V_GEMM_FEW_ROWS) {
                gemm_few[rows - 1][g->b_bf16](&t);
                break;
            }
            size_t left = rows - i;
            if (g->scratch) {
                const size_t within = i % V_GEMM_ROWS;
                t.a = g->scratch + (i - within) * depth + done * V_GEMM_ROWS + within;
                if (left > V_GEMM_ROWS - within) left = V_GEMM_ROWS - within;
            }
            const gemm_shape *shape = gemm_shape_for(left);
            (panels == V_GEMM_PANELS ? shape->strip : shape->one)[g->b_bf16](&t);
            i += shape->rows;
        }
    }
}

/* All of B for `rows` rows of A and C, k … k+depth. */
static void gemm_rows(const attn_gemm_block *g, size_t row, size_t rows, size_t k, size_t depth) {
    const size_t all_panels = (g->n + ATTN_PANEL - 1) / ATTN_PANEL;
    const bool finish = k + depth == g->k && (g->bias || g->residual || g->act != ATTN_IDENTITY);
    if (g->scratch) gemm_pack_a(g, row, rows, k, depth);
    size_t panels;
    for (size_t panel = 0; panel < all_panels; panel += panels) {
        panels = rows <= V_GEMM_FEW_ROWS && !g->scratch ? V_GEMM_FEW_PANELS : V_GEMM_PANELS;
        if (all_panels - panel < panels) panels = all_panels - panel < V_GEMM_PANELS ? 1 : V_GEMM_PANELS;
        const size_t column = panel * ATTN_PANEL, columns = g->n - column;
        gemm_strip(g, row, rows, panel, panels, k, depth);
        if (finish) gemm_finish(g, row, rows, column, columns < panels * ATTN_PANEL ? columns : panels * ATTN_PANEL);
    }
}

static void gemm_block(const attn_gemm_block *g) {
    if (g->k == 0 && !g->accumulate) gemm_clear(g);
    const size_t most = ATTN_GEMM_ROWS / V_GEMM_ROWS * V_GEMM_ROWS;
    for (size_t row = 0, rows; row < g->m; row += rows) {
        const size_t parts = (g->m - row + most - 1) / most, share = (g->m - row + parts - 1) / parts;
        rows = (share + V_GEMM_ROWS - 1) / V_GEMM_ROWS * V_GEMM_ROWS;
        if (rows > g->m - row) rows = g->m - row;
        size_t k = 0;
        do {
            const size_t depth = g->k - k < ATTN_GEMM_DEPTH ? g->k - k : ATTN_GEMM_DEPTH;
            gemm_rows(g, row, rows, k, depth);
            k += depth;
        } while (k < g->k);
    }
}

/* One panel: to[k][16] = b[k·row + j·column], zeros past `columns`. */
static void gemm_pack_panel(void *to, bool bf16, const float *b, ptrdiff_t row, ptrdiff_t column, size_t k,
                            size_t columns) {
    if (row == 1) {
        if (bf16) gemm_transpose(ATTN_PANEL, true, to, b, column, k, columns);
        else gemm_transpose(ATTN_PANEL, false, to, b, column, k, columns);
        return;
    }
    for (size_t p = 0; p < k; p++) {
        const float *from = b + (ptrdiff_t)p * row;
        float line[ATTN_PANEL] = {0};
        if (column != 1 || columns != ATTN_PANEL) {
            for (size_t j = 0; j < columns; j++) line[j] = from[(ptrdiff_t)j * column];
            from = line;
        }
        ATTN_UNROLL for (size_t j = 0; j < ATTN_PANEL; j += V_LANES) {
            gemm_store_b(to, bf16, p * ATTN_PANEL + j, v_load(from + j));
        }
    }
}

/* sums[j] += Σ_i x[i][j]: chains of 256 rows, added in order. */
static void column_sums(float *sums, const float *x, ptrdiff_t x_row, size_t rows, size_t n) {
    for (size_t first = 0; first < rows; first += GEMM_CHAIN) {
        const float *chain = x + (ptrdiff_t)first * x_row;
        const size_t length = rows - first < GEMM_CHAIN ? rows - first : GEMM_CHAIN;
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
