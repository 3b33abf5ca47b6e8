/* tiles_gemm.h: blocks of a matrix product of pairs of bf16, by tiles. B's panels are tiles as they lie, 16 lines of 16
 * pairs each; A is copied into tiles. (I1) of gemm.h becomes: an output is the sum of groups of 16 pairs, added to it
 * in increasing k. */
#ifndef ATTN_KERNEL_BODY_TILES_GEMM_H
#define ATTN_KERNEL_BODY_TILES_GEMM_H

#include "kernel/body/tiles.h"

/* 16 elements of A's row from k on, zeros past its end. */
V_FN V tile_row_part(const attn_gemm_block *g, const float *row, size_t k) {
    if (g->a_column == 1) return gemm_load_some(row, k, g->k);
    float part[T_SIDE] = {0};
    for (size_t i = 0; i < T_SIDE && k + i < g->k; i++) part[i] = row[(ptrdiff_t)(k + i) * g->a_column];
    return v_load(part);
}

/* A's rows into scratch, lines line … line+lines−1: [rows / 16][lines / 16][16 rows][16 pairs]. */
static void tile_pack_a(const attn_gemm_block *g, size_t row, size_t rows, size_t line, size_t lines) {
    float *to = g->scratch;
    for (size_t i = 0; i < rows; i += T_SIDE) {
        const size_t some = rows - i < T_SIDE ? rows - i : T_SIDE;
        const float *a = g->a + (ptrdiff_t)(row + i) * g->a_row;
        for (size_t group = 0; group < lines; group += T_SIDE, to += T_FLOATS) {
            const size_t k = 2 * (line + group);
            V block[T_SIDE];
            if (g->a_row == 1 && g->a_column != 1) {
                ATTN_UNROLL for (size_t p = 0; p < T_SIDE; p++) {
                    const float *low = a + (ptrdiff_t)(k + p) * g->a_column, *high = low + T_SIDE * g->a_column;
                    block[p] = v_pair_bf16(k + p < g->k ? v_load_n(low, some) : v_zero(),
                                           k + p + T_SIDE < g->k ? v_load_n(high, some) : v_zero());
                }
                v_transpose(block);
            } else {
                for (size_t r = 0; r < T_SIDE; r++) {
                    const float *from = a + (ptrdiff_t)r * g->a_row;
                    block[r] = r < some ? v_pair_bf16(tile_row_part(g, from, k), tile_row_part(g, from, k + T_SIDE))
                                        : v_zero();
                }
            }
            for (size_t r = 0; r < T_SIDE; r++) v_store(to + r * T_SIDE, block[r]);
        }
    }
}

/* A part of C: `groups` tiles of A and of B, each T_FLOATS after the last one. */
V_FN void tile_gemm_of(const int row_tiles, const int lane_tiles, const tile_sums *s, const float *a, size_t a_next,
                       const float *b, size_t b_next) {
    float edge[T_FLOATS] __attribute__((aligned(64)));
    const bool whole = s->rows == (size_t)row_tiles * T_SIDE && s->columns == (size_t)lane_tiles * T_SIDE;
    T_EACH_C(T_BEGIN_C)
    for (size_t g = 0; g < s->groups; g++, a += T_FLOATS, b += T_FLOATS) {
        /* The tiles of A come from L2; the two that are needed next but one are fetched meanwhile. */
        ATTN_UNROLL for (int line = 0; line < T_SIDE; line++) {
            __builtin_prefetch(a + 2 * T_FLOATS + line * T_SIDE);
            if (row_tiles > 1) __builtin_prefetch(a + a_next + 2 * T_FLOATS + line * T_SIDE);
        }
        T_LOAD(6, b, T_SIDE);
        T_LOAD(4, a, T_SIDE);
        T_DOT(0, 4, 6);
        if (lane_tiles > 1) {
            T_LOAD(7, b + b_next, T_SIDE);
            T_DOT(1, 4, 7);
        }
        if (row_tiles > 1) {
            T_LOAD(5, a + a_next, T_SIDE);
            T_DOT(2, 5, 6);
            if (lane_tiles > 1) T_DOT(3, 5, 7);
        }
    }
    T_EACH_C(T_END_C)
}

/* Up to two panels for `rows` rows, lines line … line+depth−1: their part of C. */
static void tile_two_panels(const attn_gemm_block *g, size_t row, size_t rows, size_t panel, size_t panels, size_t line,
                            size_t depth) {
    enum { LINES = 256 }; /* of two panels: 32 KB, which stay in L1 */
    const size_t lines = ATTN_PAIR_LINES(g->k), column = panel * ATTN_PANEL;
    const size_t columns = g->n - column < panels * ATTN_PANEL ? g->n - column : panels * ATTN_PANEL;
    for (size_t done = 0; done < depth; done += LINES) {
        const size_t some = depth - done < LINES ? depth - done : LINES;
        const float *b = (const float *)g->b + (panel * lines + line + done) * ATTN_PANEL;
        for (size_t i = 0; i < rows; i += 2 * T_SIDE) {
            const float *a = g->scratch + i * depth + done * T_SIDE;
            const tile_sums s = {.groups = some / T_SIDE,
                                 .c = g->c + (ptrdiff_t)(row + i) * g->c_row + column,
                                 .c_row = g->c_row,
                                 .rows = rows - i < 2 * T_SIDE ? rows - i : 2 * T_SIDE,
                                 .columns = columns,
                                 .add = g->accumulate || line + done > 0};
            const size_t a_next = depth * T_SIDE, b_next = lines * ATTN_PANEL;
            const bool tall = s.rows > T_SIDE, wide = columns > T_SIDE;
            if (tall && wide) tile_gemm_of(2, 2, &s, a, a_next, b, b_next);
            else if (tall) tile_gemm_of(2, 1, &s, a, a_next, b, b_next);
            else if (wide) tile_gemm_of(1, 2, &s, a, a_next, b, b_next);
            else tile_gemm_of(1, 1, &s, a, a_next, b, b_next);
        }
    }
}
static void tile_strip(const attn_gemm_block *g, size_t row, size_t rows, size_t panel, size_t panels, size_t line,
                       size_t depth) {
    for (size_t p = 0; p < panels; p += 2)
        tile_two_panels(g, row, rows, panel + p, panels - p < 2 ? 1 : 2, line, depth);
}

#endif
