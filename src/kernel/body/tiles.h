/* tiles.h: products of pairs of bf16 by tiles, 16 rows × 16 pairs times 16 pairs × 16 lanes (tiles/amx.h).
 *
 * Terms are added up in groups of T_SIDE pairs, which begin at term 0 of a product:
 *   (I1) a product whose sums are to have the bits of another one begins at a multiple of T_SIDE of the same grid;
 *   (I2) terms that are left out or are zeros change nothing.
 * So a row of C depends on its row of A and on B alone, and on nothing of the shape. */
#ifndef ATTN_KERNEL_BODY_TILES_H
#define ATTN_KERNEL_BODY_TILES_H

#include "kernel/body/ahead.h"
#include "kernel/kernels.h"
#include <assert.h>

enum { T_SIDE = 16, T_FLOATS = T_SIDE * T_SIDE, T_MOST_GROUPS = ATTN_CHAIN / T_SIDE };

/* Where a tile lies, in memory that it may be read from as a whole. */
typedef struct tile_place {
    const float *at;
    ptrdiff_t row;
} tile_place;

/* rows × terms of x as a tile in `copy`, zeros around them; row or term 1. */
static void tile_copy(float *copy, const float *x, ptrdiff_t row, ptrdiff_t term, size_t rows, size_t terms) {
    V block[T_SIDE];
    const bool turned = term != 1;
    const size_t lines = turned ? terms : rows, width = turned ? rows : terms;
    ATTN_UNROLL for (size_t i = 0; i < T_SIDE; i++) {
        block[i] = i < lines ? v_load_n(x + (ptrdiff_t)i * (turned ? term : row), width) : v_zero();
    }
    if (turned) v_transpose(block);
    ATTN_UNROLL for (size_t i = 0; i < T_SIDE; i++) v_store(copy + i * T_SIDE, block[i]);
}

V_FN tile_place tile_find(float *copy, const float *x, ptrdiff_t row, ptrdiff_t term, size_t rows, size_t terms) {
    if (rows >= T_SIDE && terms >= T_SIDE && term == 1) return (tile_place){x, row};
    tile_copy(copy, x, row, term, rows < T_SIDE ? rows : T_SIDE, terms < T_SIDE ? terms : T_SIDE);
    return (tile_place){copy, T_SIDE};
}

/* Where the groups of A and B lie: each has a place, or it is a step after the last one. T_COPIES: A's are in L2. */
typedef enum tile_groups { T_PLACES, T_STEPS, T_COPIES } tile_groups;

typedef struct tile_sums {
    size_t groups;
    const tile_place *a[2], *b[2]; /* [groups], or [1] and steps */
    ptrdiff_t a_step, b_step;      /* in floats */
    float *c;
    ptrdiff_t c_row;
    size_t rows;    /* of C, at most 16 · row tiles */
    size_t columns; /* of C, at most 16 · lane tiles */
    bool add;
} tile_sums;

/* One tile of C to and from memory where it is less than a tile: through `edge`. */
static void tile_edge_in(float *edge, const float *c, ptrdiff_t c_row, size_t rows, size_t columns) {
    for (size_t i = 0; i < T_SIDE; i++)
        v_store(edge + i * T_SIDE, i < rows ? v_load_n(c + (ptrdiff_t)i * c_row, columns) : v_zero());
}
static void tile_edge_out(float *c, ptrdiff_t c_row, const float *edge, size_t rows, size_t columns) {
    for (size_t i = 0; i < rows; i++) v_store_n(c + (ptrdiff_t)i * c_row, v_load(edge + i * T_SIDE), columns);
}

/* X(tile, row tile, lane tile) for each tile of C. */
#define T_EACH_C(X) X(0, 0, 0) X(1, 0, 1) X(2, 1, 0) X(3, 1, 1)
#define T_BEGIN_C(t, i, j)                                                             \
    if (i < row_tiles && j < lane_tiles) {                                             \
        float *c = s->c + i * T_SIDE * s->c_row + j * T_SIDE;                          \
        if (!s->add) T_ZERO(t);                                                        \
        else if (whole) T_LOAD(t, c, s->c_row);                                        \
        else {                                                                         \
            tile_edge_in(edge, c, s->c_row, s->rows - i * T_SIDE, tile_columns(s, j)); \
            T_LOAD(t, edge, T_SIDE);                                                   \
        }                                                                              \
    }
#define T_END_C(t, i, j)                                                                         \
    if (i < row_tiles && j < lane_tiles) {                                                       \
        float *c = s->c + i * T_SIDE * s->c_row + j * T_SIDE;                                    \
        if (whole) T_STORE(t, c, s->c_row);                                                      \
        else {                                                                                   \
            const size_t left = s->rows - i * T_SIDE;                                            \
            T_STORE(t, edge, T_SIDE);                                                            \
            tile_edge_out(c, s->c_row, edge, left < T_SIDE ? left : T_SIDE, tile_columns(s, j)); \
        }                                                                                        \
    }

V_FN size_t tile_columns(const tile_sums *s, size_t lane_tile) {
    const size_t left = s->columns - lane_tile * T_SIDE;
    return left < T_SIDE ? left : T_SIDE;
}

V_FN tile_place tile_of_group(const tile_groups kind, const tile_place *first, ptrdiff_t step, size_t g) {
    return kind == T_PLACES ? first[g] : (tile_place){first->at + (ptrdiff_t)g * step, first->row};
}
/* The tiles of a copy of A: those that are needed next but one are fetched meanwhile. */
V_FN void tile_fetch(const tile_groups kind, const tile_place a) {
    if (kind != T_COPIES) return;
    ATTN_UNROLL for (int line = 0; line < T_SIDE; line++) __builtin_prefetch(a.at + 2 * T_FLOATS + line * T_SIDE);
}

/* Always inlined with constant numbers of tiles. */
V_FN void tile_sums_of(const tile_groups kind, const int row_tiles, const int lane_tiles, const tile_sums *s) {
    float edge[T_FLOATS] __attribute__((aligned(64)));
    const bool whole = s->rows == (size_t)row_tiles * T_SIDE && s->columns == (size_t)lane_tiles * T_SIDE;
    T_EACH_C(T_BEGIN_C)
    for (size_t g = 0; g < s->groups; g++) {
        const tile_place a = tile_of_group(kind, s->a[0], s->a_step, g), b = tile_of_group(kind, s->b[0], s->b_step, g);
        tile_fetch(kind, a);
        T_LOAD(6, b.at, b.row);
        T_LOAD(4, a.at, a.row);
        T_DOT(0, 4, 6);
        if (lane_tiles > 1) {
            const tile_place next = tile_of_group(kind, s->b[1], s->b_step, g);
            T_LOAD(7, next.at, next.row);
            T_DOT(1, 4, 7);
        }
        if (row_tiles > 1) {
            const tile_place next = tile_of_group(kind, s->a[1], s->a_step, g);
            tile_fetch(kind, next);
            T_LOAD(5, next.at, next.row);
            T_DOT(2, 5, 6);
            if (lane_tiles > 1) T_DOT(3, 5, 7);
        }
    }
    T_EACH_C(T_END_C)
}

V_FN void tile_sums_any(const tile_groups kind, const tile_sums *s) {
    const bool tall = s->rows > T_SIDE, wide = s->columns > T_SIDE;
    if (tall && wide) tile_sums_of(kind, 2, 2, s);
    else if (tall) tile_sums_of(kind, 2, 1, s);
    else if (wide) tile_sums_of(kind, 1, 2, s);
    else tile_sums_of(kind, 1, 1, s);
}
static void tile_sums_run(const tile_sums *s) { tile_sums_any(T_PLACES, s); }
static void tile_sums_run_copies(const tile_sums *s) { tile_sums_any(T_COPIES, s); }

/* ---- attention ------------------------------------------------------------------------------------ */

/* A product whose operands may have to be copied, since rows or terms are less than a tile or the vectors need
 * different numbers of terms. */
static void product_of_places(const attn_product *p) {
    float a_copies[2][T_MOST_GROUPS][T_FLOATS] __attribute__((aligned(64)));
    float b_copies[2][T_MOST_GROUPS][T_FLOATS] __attribute__((aligned(64)));
    tile_place a[2][T_MOST_GROUPS], b[2][T_MOST_GROUPS];
    tile_sums sums = {.a = {a[0], a[1]}, .b = {b[0], b[1]}, .c_row = p->c_row, .add = p->add};
    for (size_t row = 0; row < p->rows; row += 2 * T_SIDE) {
        const size_t rows = p->rows - row < 2 * T_SIDE ? p->rows - row : 2 * T_SIDE;
        for (size_t i = 0; i * T_SIDE < rows; i++)
            for (size_t g = 0; g * T_SIDE < p->terms; g++)
                a[i][g] =
                    tile_find(a_copies[i][g],
                              p->a + (ptrdiff_t)(row + i * T_SIDE) * p->a_row + (ptrdiff_t)(g * T_SIDE) * p->a_term,
                              p->a_row, p->a_term, rows - i * T_SIDE, p->terms - g * T_SIDE);
        const size_t step = p->term_ends ? T_SIDE : 2 * T_SIDE;
        for (size_t lane = 0; lane < p->lanes; lane += step) {
            const size_t lanes = p->lanes - lane < step ? p->lanes - lane : step;
            const size_t terms = p->term_ends ? p->term_ends[lane / T_SIDE] : p->terms;
            for (size_t j = 0; j * T_SIDE < lanes; j++)
                for (size_t g = 0; g * T_SIDE < terms; g++) {
                    const float *at = p->b + (ptrdiff_t)(g * T_SIDE) * p->b_term + lane + j * T_SIDE;
                    b[j][g] = tile_find(b_copies[j][g], at, p->b_term, 1, terms - g * T_SIDE, T_SIDE);
                }
            sums.groups = (terms + T_SIDE - 1) / T_SIDE;
            sums.c = p->c + (ptrdiff_t)row * p->c_row + lane;
            sums.rows = rows, sums.columns = lanes;
            if (p->ahead) product_ahead(p->ahead);
            if (sums.groups > 0 || !p->add) tile_sums_run(&sums);
        }
    }
}

/* 2 × 2 tiles of C, all groups whole: operands are read where they lie. */
V_FN void product_square(const attn_product *p, const float *a, const float *b, float *c) {
    const tile_place places[4] = {
        {a, p->a_row}, {a + T_SIDE * p->a_row, p->a_row}, {b, p->b_term}, {b + T_SIDE, p->b_term}};
    const tile_sums sums = {.groups = p->terms / T_SIDE,
                            .a = {places, places + 1},
                            .b = {places + 2, places + 3},
                            .a_step = T_SIDE,
                            .b_step = T_SIDE * p->b_term,
                            .c = c,
                            .c_row = p->c_row,
                            .rows = 2 * T_SIDE,
                            .columns = 2 * T_SIDE,
                            .add = p->add};
    tile_sums_of(T_STEPS, 2, 2, &sums);
}

/* attention_product_bf16 by tiles: the groups are added to C one after the other. row_ends are not needed; where a
 * vector has few terms only those are used. */
static void attention_product_bf16(const attn_product *p) {
    enum { SIDE = 2 * T_SIDE };
    assert(p->terms <= ATTN_CHAIN);
    if (p->rows % SIDE || p->lanes % SIDE || p->terms % T_SIDE || p->a_term != 1 || p->term_ends) {
        product_of_places(p);
        return;
    }
    for (size_t row = 0; row < p->rows; row += SIDE)
        for (size_t lane = 0; lane < p->lanes; lane += SIDE) {
            if (p->ahead) product_ahead(p->ahead);
            product_square(p, p->a + (ptrdiff_t)row * p->a_row, p->b + lane, p->c + (ptrdiff_t)row * p->c_row + lane);
        }
}

#endif
