/* quantised.h: products with weights of small integers (kernel/quantised.h says how they lie, and the arithmetic).
 *
 *   (I1) The sum of a block's products of integers is exact: 32 · 128 · 127 < 2^24, so it is exact as a float too.
 *   (I2) A lane is a row of W, with one chain over all blocks, in order: a float is added to by the two fused
 *        multiply-adds of a block and nothing else. Where a chain is kept in y between parts of K no bit is lost.
 * So y[m][n] depends on row m of x and row n of W alone: not on other rows, cuts, or the instruction set. */
#ifndef ATTN_KERNEL_BODY_QUANTISED_H
#define ATTN_KERNEL_BODY_QUANTISED_H

#include "kernel/body/partial.h"
#include "kernel/quantised.h"

enum {
    BLOCK = ATTN_QUANTISED_BLOCK,
    GROUPS = ATTN_QUANTISED_GROUPS,
    PARTS = ATTN_PANEL / V_LANES, /* vectors of a panel */
    PART_BYTES = 4 * V_LANES,
    LINE = 4 * ATTN_PANEL,
};

/* ---- x ------------------------------------------------------------------------------------------ */

#define TINY 0x1p-110f /* a block of smaller numbers is zeros: 127 / it might be infinite */

/* to[0 … 32) = round(127 · x / max|x|); a block with a number that is not finite gets the scale NaN. */
V_FN float quantise_block(int8_t *to, int32_t half_sum[2], const float *x, size_t n) {
    V value[BLOCK / V_LANES], top = v_zero(), zeros = v_zero();
    B_UNROLL_WIDE for (size_t i = 0; i < BLOCK / V_LANES; i++) {
        const size_t at = i * V_LANES, left = n > at ? n - at : 0;
        value[i] = n == BLOCK ? v_load(x + at) : v_load_n(x + (left ? at : 0), left < V_LANES ? left : V_LANES);
        top = v_max(top, v_abs(value[i]));
        zeros = v_fma(value[i], v_zero(), zeros);
    }
    const float most = v_max_of(top), wrong = v_sum(zeros);
    const float factor = most > TINY && wrong == 0.0f ? 127.0f / most : 0.0f;
    V sum[2] = {v_zero(), v_zero()};
    B_UNROLL_WIDE for (size_t i = 0; i < BLOCK / V_LANES; i++) {
        const V rounded = factor > 0.0f ? v_round(v_mul(value[i], v_set(factor))) : v_zero();
        b_store_i8(to + i * V_LANES, rounded);
        sum[i * V_LANES / (BLOCK / 2)] = v_add(sum[i * V_LANES / (BLOCK / 2)], rounded);
    }
    half_sum[0] = (int32_t)v_sum(sum[0]), half_sum[1] = (int32_t)v_sum(sum[1]);
    return factor > 0.0f ? most * (1.0f / 127.0f) : wrong;
}

static void quantise_row(const attn_quantised_rows *to, size_t row, const float *x, size_t k,
                         attn_quantised_form form) {
    const size_t blocks = to->blocks;
    const int32_t offset = attn_quantised_layouts[form].bits == 8 ? B_BIAS : attn_quantised_layouts[form].offset;
    int8_t *q = to->q + row * blocks * BLOCK;
    float *scale = to->scale + row * blocks, *sum = to->sum + row * blocks;
    int32_t *start = to->start + 2 * row * blocks;
    for (size_t b = 0; b < blocks; b++) {
        int32_t half[2];
        const size_t left = k - b * BLOCK;
        scale[b] = left >= BLOCK ? quantise_block(q + b * BLOCK, half, x + b * BLOCK, BLOCK)
                                 : quantise_block(q + b * BLOCK, half, x + b * BLOCK, left);
        sum[b] = scale[b] * (float)(half[0] + half[1]);
        start[2 * b] = -offset * (form == ATTN_QUANTISED_Q6_K ? half[0] : half[0] + half[1]);
        start[2 * b + 1] = form == ATTN_QUANTISED_Q6_K ? -offset * half[1] : 0;
    }
}

/* ---- W ------------------------------------------------------------------------------------------ */

V_FN bool has_halves(const attn_quantised_form form) { return form == ATTN_QUANTISED_Q6_K; }
V_FN bool has_minimum(const attn_quantised_form form) {
    return form == ATTN_QUANTISED_Q4_1 || form == ATTN_QUANTISED_Q5_1 || form == ATTN_QUANTISED_Q4_K;
}
V_FN size_t bits_of(const attn_quantised_form form) {
    return form == ATTN_QUANTISED_I8 || form == ATTN_QUANTISED_Q8_0     ? 8
           : form == ATTN_QUANTISED_Q6_K                                ? 6
           : form == ATTN_QUANTISED_Q5_0 || form == ATTN_QUANTISED_Q5_1 ? 5
                                                                        : 4;
}

/* The bytes of a block for one vector of rows, as b_dot takes them; q is that vector's part of the first line. */
V_FN void unpack(const attn_quantised_form form, VB w[GROUPS], const unsigned char *q) {
    const size_t bits = bits_of(form);
    if (bits == 8) {
        ATTN_UNROLL for (int g = 0; g < GROUPS; g++) w[g] = b_flip(b_load(q + g * LINE));
        return;
    }
    ATTN_UNROLL for (int g = 0; g < GROUPS / 2; g++) {
        const VB line = b_load(q + g * LINE);
        w[g] = b_field(line, 0, 15), w[g + GROUPS / 2] = b_field(line, 4, 15);
    }
    if (bits == 5) {
        const VB high = b_load(q + 4 * LINE);
        ATTN_UNROLL for (int g = 0; g < GROUPS; g++) w[g] = b_join(w[g], b_field(high, g, 1), 4);
    }
    if (bits == 6) {
        const VB high[2] = {b_load(q + 4 * LINE), b_load(q + 5 * LINE)};
        ATTN_UNROLL for (int g = 0; g < GROUPS; g++) w[g] = b_join(w[g], b_field(high[g / 4], g % 4 * 2, 3), 4);
    }
}

/* Scale and minimum of a block for the rows from `lane` on; Q6_K: the scales of its halves. */
V_FN void scales_of(const attn_quantised_form form, V scale[2], const unsigned char *panel, size_t block, size_t lane) {
    if (form == ATTN_QUANTISED_I8) {
        scale[0] = v_load((const float *)(const void *)panel + lane);
    } else if (form == ATTN_QUANTISED_Q4_K) {
        const uint16_t *half = (const uint16_t *)(const void *)(panel + block / 8 * 320) + lane;
        const int8_t *own = (const int8_t *)panel + block / 8 * 320 + 64 + block % 8 * 32 + lane;
        scale[0] = v_mul(v_load_f16(half), v_load_i8(own));
        scale[1] = v_neg(v_mul(v_load_f16(half + ATTN_PANEL), v_load_i8(own + ATTN_PANEL)));
    } else if (form == ATTN_QUANTISED_Q6_K) {
        const V d = v_load_f16((const uint16_t *)(const void *)(panel + block / 8 * 288) + lane);
        const int8_t *own = (const int8_t *)panel + block / 8 * 288 + 32 + block % 8 * 32 + lane;
        scale[0] = v_mul(d, v_load_i8(own)), scale[1] = v_mul(d, v_load_i8(own + ATTN_PANEL));
    } else {
        const uint16_t *half = (const uint16_t *)(const void *)(panel + block * (has_minimum(form) ? 64 : 32)) + lane;
        scale[0] = v_load_f16(half);
        if (has_minimum(form)) scale[1] = v_load_f16(half + ATTN_PANEL);
    }
}

/* ---- one row: W is read as it lies -------------------------------------------------------------- */

/* The next panel is fetched into L2 while this one is read. Into L1 is half as fast: what a processor can wait for
 * there is little. */
#define FETCH(p) __builtin_prefetch(p, 0, 2)

V_FN void one_row(const attn_quantised_form form, const attn_quantised_job *t) {
    const size_t blocks = t->x.blocks, panel_bytes = attn_quantised_panel_bytes(form, blocks);
    const size_t scale_bytes = blocks ? attn_quantised_lines_at(form, blocks) / blocks : 0; /* of a block */
    const unsigned char *panel = t->w;
    for (size_t n = 0; n < t->n; n += ATTN_PANEL, panel += panel_bytes) {
        const unsigned char *q = panel + attn_quantised_lines_at(form, blocks);
        V y[PARTS];
        B_UNROLL_WIDE for (int v = 0; v < PARTS; v++) y[v] = v_zero();
        for (size_t b = 0; b < blocks; b++, q += 64 * bits_of(form)) {
            const int8_t *x = t->x.q + b * BLOCK;
            const V x_scale = v_set(t->x.scale[b]);
            ATTN_UNROLL for (size_t i = 0; i < bits_of(form); i++) FETCH(q + panel_bytes + i * LINE);
            FETCH(panel + panel_bytes + b * scale_bytes);
            B_UNROLL_WIDE for (int v = 0; v < PARTS; v++) {
                VB w[GROUPS];
                V scale[2];
                VI sum[2] = {b_start(t->x.start[2 * b]), b_start(has_halves(form) ? t->x.start[2 * b + 1] : 0)};
                unpack(form, w, q + v * PART_BYTES);
                ATTN_UNROLL for (int g = 0; g < GROUPS; g++) sum[g / 4] =
                    b_dot(sum[g / 4], w[g], b_set(x + 4 * g), bits_of(form) < 8);
                scales_of(form, scale, panel, b, (size_t)v * V_LANES);
                if (has_halves(form)) {
                    y[v] = v_fma(b_float(sum[0]), v_mul(scale[0], x_scale), y[v]);
                    y[v] = v_fma(b_float(sum[1]), v_mul(scale[1], x_scale), y[v]);
                } else {
                    y[v] = v_fma(b_float(b_add(sum[0], sum[1])), v_mul(scale[0], x_scale), y[v]);
                }
                if (has_minimum(form)) y[v] = v_fma(scale[1], v_set(t->x.sum[b]), y[v]);
            }
        }
        B_UNROLL_WIDE for (int v = 0; v < PARTS; v++) {
            const size_t at = n + (size_t)v * V_LANES, left = t->n > at ? t->n - at : 0;
            part_store(t->y + (left ? at : 0), y[v], left < V_LANES ? left : V_LANES);
        }
    }
}

/* ---- more rows: W is unpacked, two panels at a time --------------------------------------------- */

/* What tiles read: [block][group][panel][row][4] bytes, and [block][panel][row] scales, minima or second scales. */
typedef struct strip {
    unsigned char *w;
    float *scale, *second;
} strip;
enum { WIDE = B_PANELS * PARTS, STRIP_LINE = B_PANELS * LINE };

V_FN void fill_strip(const attn_quantised_form form, const strip *to, const attn_quantised_job *t, size_t panel,
                     size_t panels, size_t block, size_t blocks) {
    const size_t all = t->x.blocks, panel_bytes = attn_quantised_panel_bytes(form, all);
    for (size_t p = 0; p < panels; p++) {
        const unsigned char *from = t->w + (panel + p) * panel_bytes;
        const unsigned char *q = from + attn_quantised_lines_at(form, all) + block * 64 * bits_of(form);
        for (size_t b = 0; b < blocks; b++, q += 64 * bits_of(form)) {
            B_UNROLL_WIDE for (int v = 0; v < PARTS; v++) {
                VB w[GROUPS];
                V scale[2];
                const size_t at = (b * B_PANELS + p) * ATTN_PANEL + (size_t)v * V_LANES;
                unpack(form, w, q + v * PART_BYTES);
                ATTN_UNROLL for (int g = 0; g < GROUPS; g++)
                    b_store(to->w + (b * GROUPS + (size_t)g) * STRIP_LINE + p * LINE + (size_t)v * PART_BYTES, w[g]);
                scales_of(form, scale, from, block + b, (size_t)v * V_LANES);
                v_store(to->scale + at, scale[0]);
                if (has_minimum(form) || has_halves(form)) v_store(to->second + at, scale[1]);
            }
        }
    }
}

typedef struct tile_args {
    const strip *w;
    size_t blocks;     /* of the strip */
    size_t row_blocks; /* of a whole row of x */
    const int8_t *q;
    const float *scale, *sum;
    const int32_t *start;
    float *y;
    ptrdiff_t y_row;
    size_t n; /* columns of y, at most 16 a panel */
    bool add, minimum;
} tile_args;

/* `groups` of a block (all of it, or a half) into the chains. */
V_FN void tile_groups(const int rows, const int groups, const bool small, V y[B_ROWS][WIDE], const tile_args *t,
                      size_t block, const int half, const float *scales) {
    const size_t row_bytes = t->row_blocks * BLOCK, begin = block * GROUPS + (size_t)(half * groups);
    const unsigned char *w = t->w->w + begin * STRIP_LINE;
    const int8_t *q = t->q + begin * 4;
    VI sum[B_ROWS][WIDE];
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        const int32_t start = t->start[2 * ((size_t)r * t->row_blocks + block) + (size_t)half];
        B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) sum[r][v] = b_start(start);
    }
    B_UNROLL for (int g = 0; g < groups; g++) {
        VB line[WIDE];
        B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) line[v] = b_load(w + g * STRIP_LINE + v * PART_BYTES);
        ATTN_UNROLL for (int r = 0; r < rows; r++) {
            const VB x = b_set(q + (size_t)r * row_bytes + 4 * g);
            B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) sum[r][v] = b_dot(sum[r][v], line[v], x, small);
        }
    }
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        const V x_scale = v_set(t->scale[(size_t)r * t->row_blocks + block]);
        B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) {
            y[r][v] = v_fma(b_float(sum[r][v]), v_mul(v_load(scales + v * V_LANES), x_scale), y[r][v]);
        }
    }
}

V_FN void tile(const int rows, const bool halves, const bool small, const tile_args *t) {
    V y[B_ROWS][WIDE];
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) {
            const size_t at = (size_t)v * V_LANES, left = t->n > at ? t->n - at : 0;
            y[r][v] =
                !t->add ? v_zero() : part_load(t->y + r * t->y_row + (left ? at : 0), left < V_LANES ? left : V_LANES);
        }
    }
    for (size_t b = 0; b < t->blocks; b++) {
        const float *first = t->w->scale + b * B_PANELS * ATTN_PANEL,
                    *second = t->w->second + b * B_PANELS * ATTN_PANEL;
        if (halves) {
            tile_groups(rows, GROUPS / 2, small, y, t, b, 0, first);
            tile_groups(rows, GROUPS / 2, small, y, t, b, 1, second);
        } else {
            tile_groups(rows, GROUPS, small, y, t, b, 0, first);
        }
        if (!t->minimum) continue;
        ATTN_UNROLL for (int r = 0; r < rows; r++) {
            const V x_sum = v_set(t->sum[(size_t)r * t->row_blocks + b]);
            B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) y[r][v] = v_fma(v_load(second + v * V_LANES), x_sum, y[r][v]);
        }
    }
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        B_UNROLL_WIDE for (int v = 0; v < WIDE; v++) {
            const size_t at = (size_t)v * V_LANES, left = t->n > at ? t->n - at : 0;
            part_store(t->y + r * t->y_row + (left ? at : 0), y[r][v], left < V_LANES ? left : V_LANES);
        }
    }
}

/* kind: 0 bytes, 1 small, 2 small in halves. */
typedef void tile_function(const tile_args *t);
#define TILE_FUNCTIONS(rows)                                                                        \
    static void tile_bytes_##rows(const tile_args *t) { tile(rows, false, !B_SMALL_IS_FASTER, t); } \
    static void tile_small_##rows(const tile_args *t) { tile(rows, false, true, t); }               \
    static void tile_halves_##rows(const tile_args *t) { tile(rows, true, true, t); }
B_TILES(TILE_FUNCTIONS)
static tile_function *const tiles[][3] = {
#define TILE_ROW(rows) {tile_bytes_##rows, tile_small_##rows, tile_halves_##rows},
    B_TILES(TILE_ROW)
#undef TILE_ROW
};
V_FN int kind_of(const attn_quantised_form form) { return has_halves(form) ? 2 : bits_of(form) < 8 ? 1 : 0; }

V_FN void more_rows(const attn_quantised_form form, const attn_quantised_job *t) {
    const size_t depth = ATTN_QUANTISED_DEPTH, all = t->x.blocks, panels = (t->n + ATTN_PANEL - 1) / ATTN_PANEL;
    strip w = {.w = t->scratch};
    w.scale = (float *)(void *)(w.w + depth * GROUPS * STRIP_LINE), w.second = w.scale + depth * B_PANELS * ATTN_PANEL;
    if (panels < B_PANELS) memset(t->scratch, 0, ATTN_QUANTISED_SCRATCH); /* lanes that nobody looks at */
    for (size_t panel = 0; panel < panels; panel += B_PANELS) {
        const size_t some = panels - panel < B_PANELS ? panels - panel : B_PANELS, left = t->n - panel * ATTN_PANEL;
        tile_args a = {.w = &w, .row_blocks = all, .y_row = t->y_row, .minimum = has_minimum(form)};
        a.n = left < B_PANELS * ATTN_PANEL ? left : B_PANELS * ATTN_PANEL;
        for (size_t block = 0; block < all; block += a.blocks) {
            a.blocks = all - block < depth ? all - block : depth;
            a.add = block > 0;
            fill_strip(form, &w, t, panel, some, block, a.blocks);
            for (size_t row = 0, rows; row < t->m; row += rows) {
                rows = t->m - row < B_ROWS ? t->m - row : B_ROWS;
                a.q = t->x.q + (row * all + block) * BLOCK;
                a.scale = t->x.scale + row * all + block, a.sum = t->x.sum + row * all + block;
                a.start = t->x.start + 2 * (row * all + block);
                a.y = t->y + (ptrdiff_t)row * t->y_row + panel * ATTN_PANEL;
                tiles[rows - 1][kind_of(form)](&a);
            }
        }
    }
}

#define FORM_FUNCTIONS(name, bits, offset, share, bytes)                                               \
    static void one_row_##name(const attn_quantised_job *job) { one_row(ATTN_QUANTISED_##name, job); } \
    static void more_rows_##name(const attn_quantised_job *job) { more_rows(ATTN_QUANTISED_##name, job); }
ATTN_QUANTISED_LIST(FORM_FUNCTIONS)

static void quantised_product(const attn_quantised_job *job) {
    static void (*const products[][2])(const attn_quantised_job *) = {
#define FORM_ROW(name, bits, offset, share, bytes) {one_row_##name, more_rows_##name},
        ATTN_QUANTISED_LIST(FORM_ROW)
#undef FORM_ROW
    };
    if (job->m > 0 && job->n > 0) products[job->form][job->m > 1](job);
}

#endif
