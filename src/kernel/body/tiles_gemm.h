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
            const tile_place places[2][2] = {{{a, T_SIDE}, {a + depth * T_SIDE, T_SIDE}},
                                             {{b, T_SIDE}, {b + lines * ATTN_PANEL, T_SIDE}}};
            const tile_sums s = {.groups = some / T_SIDE,
                                 .a = {&places[0][0], &places[0][1]},
                                 .b = {&places[1][0], &places[1][1]},
                                 .a_step = T_FLOATS,
                                 .b_step = T_FLOATS,
                                 .c = g->c + (ptrdiff_t)(row + i) * g->c_row + column,
                                 .c_row = g->c_row,
                                 .rows = rows - i < 2 * T_SIDE ? rows - i : 2 * T_SIDE,
                                 .columns = columns,
                                 .add = g->accumulate || line + done > 0};
            tile_sums_run_copies(&s);
        }
    }
}
static void tile_strip(const attn_gemm_block *g, size_t row, size_t rows, size_t panel, size_t panels, size_t line,
                       size_t depth) {
    for (size_t p = 0; p < panels; p += 2)
        tile_two_panels(g, row, rows, panel + p, panels - p < 2 ? 1 : 2, line, depth);
}

#endif
