/* amx.h: the vocabulary of tiles by AMX: eight registers of 16 rows of 16 floats or pairs of bf16.
 *
 *     T_ZERO(t)   T_LOAD(t, from, row)   T_STORE(t, to, row)      t is 0 … 7 and constant; rows are `row` floats apart
 *     T_DOT(c, a, b)                                              c[i][j] += Σ over 16 pairs of a[i][pair] · b[pair][j]
 *
 * between tiles_begin() and tiles_end(), on the thread itself. T_DOT is exact to the bit (Intel's manual, TDPBF16PS):
 * for each output the first products of the 16 pairs are one chain of FMAs from 0, the second ones another; the sum of
 * the two is added to c; to nearest even, numbers below 2^-126 are 0. */
#ifndef ATTN_KERNEL_TILES_H
#define ATTN_KERNEL_TILES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* The compiler does not know that tiles are loaded from and stored to memory. */
#define T_MEMORY() __asm__ volatile("" ::: "memory")
#define T_ZERO(t) _tile_zero(t)
#define T_LOAD(t, from, row)                                    \
    do {                                                        \
        T_MEMORY();                                             \
        _tile_loadd(t, from, (row) * (ptrdiff_t)sizeof(float)); \
    } while (0)
#define T_STORE(t, to, row)                                    \
    do {                                                       \
        _tile_stored(t, to, (row) * (ptrdiff_t)sizeof(float)); \
        T_MEMORY();                                            \
    } while (0)
#define T_DOT(c, a, b) _tile_dpbf16ps(c, a, b)

#define V_PAIR_GROUP 16

static void tiles_begin(void) {
    static const struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all_whole = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    _tile_loadconfig(&all_whole);
}
static void tiles_end(void) { _tile_release(); }

#endif
