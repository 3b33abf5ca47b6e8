/* quantised.h: how a weight W (N, K) of small integers lies in memory, and what the kernels of its products take.
 *
 * K is cut into blocks of 32, a multiple of which it is padded to; N into panels of 16 rows, padded with zeros. A
 * number of W is (its block's scale) · (q − offset), plus the block's minimum where the form has one. x is rounded to
 * bytes, 32 with one scale. With I the exact sum of the products of a block's integers and J that of x's alone: y[n] =
 * one chain over the blocks in order: y ← I · (scale of W · scale of x) + y, y ← minimum · (scale of x · J) + y, each
 * one fused multiply-add.
 *
 *   a panel is        its scales, see ATTN_QUANTISED_LIST; padding to 64 bytes; the integers of its blocks
 *   8 bits            [group of 4 k: 8][row: 16][4], signed
 *   4 bits            [4][16][4]: group g in the lower half of line g, group g + 4 in the upper half
 *   5 bits            the same, then a line whose bit g of byte (row, i) is the fifth of group g
 *   6 bits            the same as 4, then two lines; bits 2j and 2j + 1 of line h are the upper ones of group 4h + j */
#ifndef ATTN_KERNEL_QUANTISED_H
#define ATTN_KERNEL_QUANTISED_H

#include "kernel/kernels.h"

enum { ATTN_QUANTISED_BLOCK = 32, ATTN_QUANTISED_GROUPS = 8 };

/* X(name, bits, offset, blocks that share scales, their bytes for a panel, its scale is in halves · integers)
 *     I8          [16] f32, once for the panel
 *     Q8_0 …      [16] f16 scales; Q4_1, Q5_1: then [16] f16 minima
 *     Q4_K        [16] f16 d, [16] f16 m, then for each block [16] bytes s, [16] bytes t: scale d·s, minimum −(m·t)
 *     Q6_K        [16] f16 d, then for each half of a block [16] bytes s: scale d·s */
#define ATTN_QUANTISED_LIST(X) \
    X(I8, 8, 0, 1, 0)          \
    X(Q8_0, 8, 0, 1, 32)       \
    X(Q4_0, 4, 8, 1, 32)       \
    X(Q4_1, 4, 0, 1, 64)       \
    X(Q5_0, 5, 16, 1, 32)      \
    X(Q5_1, 5, 0, 1, 64)       \
    X(Q4_K, 4, 0, 8, 320)      \
    X(Q6_K, 6, 32, 8, 288)
typedef enum attn_quantised_form {
#define ATTN_QUANTISED_ENUM(name, bits, offset, share, bytes) ATTN_QUANTISED_##name,
    ATTN_QUANTISED_LIST(ATTN_QUANTISED_ENUM)
#undef ATTN_QUANTISED_ENUM
        ATTN_QUANTISED_FORMS
} attn_quantised_form;

typedef struct attn_quantised_layout {
    const char *name;
    size_t bits;
    int offset;
    size_t share, scale_bytes;
} attn_quantised_layout;
static const attn_quantised_layout attn_quantised_layouts[] = {
#define ATTN_QUANTISED_ROW(name, bits, offset, share, bytes) {#name, bits, offset, share, bytes},
    ATTN_QUANTISED_LIST(ATTN_QUANTISED_ROW)
#undef ATTN_QUANTISED_ROW
};

/* Bytes from a panel's beginning to its integers; of the integers of a block. */
static inline size_t attn_quantised_lines_at(attn_quantised_form form, size_t blocks) {
    const attn_quantised_layout *l = &attn_quantised_layouts[form];
    const size_t scales = form == ATTN_QUANTISED_I8 ? ATTN_PANEL * sizeof(float) : blocks / l->share * l->scale_bytes;
    return (scales + 63) / 64 * 64;
}
static inline size_t attn_quantised_block_bytes(attn_quantised_form form) {
    return 64 * attn_quantised_layouts[form].bits;
}
static inline size_t attn_quantised_panel_bytes(attn_quantised_form form, size_t blocks) {
    return attn_quantised_lines_at(form, blocks) + blocks * attn_quantised_block_bytes(form);
}

/* Rows of x, rounded. */
typedef struct attn_quantised_rows {
    int8_t *q;    /* (M, 32·blocks) */
    float *scale; /* (M, blocks) */
    float *sum;   /* (M, blocks) scale · J */
    int32_t *start; /* (M, 2·blocks) where the sums of a block's integers begin: −offset · J; with Q6_K of each half */
    size_t blocks;
} attn_quantised_rows;

/* Some panels of W by all rows of x. */
typedef struct attn_quantised_job {
    attn_quantised_form form;
    const unsigned char *w; /* the first panel */
    size_t m, n;            /* rows of x; columns of y that are left from that panel on, or fewer */
    attn_quantised_rows x;
    float *y; /* from that panel on */
    ptrdiff_t y_row;
    void *scratch; /* ATTN_QUANTISED_SCRATCH bytes; not for one row */
} attn_quantised_job;
/* Panels that are unpacked together, and the blocks of them that stay in L1 (the scratch, with scales and minima). */
#define ATTN_QUANTISED_PANELS 2
#define ATTN_QUANTISED_DEPTH 24
#define ATTN_QUANTISED_SCRATCH ((size_t)(ATTN_QUANTISED_DEPTH * ATTN_QUANTISED_PANELS) * (512 + 3 * 64))

/* X(result, name, (arguments)) */
#define ATTN_QUANTISED_KERNEL_LIST(X)                                                                  \
    X(void, quantise_row,                                                                              \
      (const attn_quantised_rows *to, size_t row, const float *x, size_t k, attn_quantised_form form)) \
    X(void, quantised_product, (const attn_quantised_job *job))

typedef struct attn_quantised_kernels {
    const char *name; /* "avx512_vnni" … */
#define ATTN_QUANTISED_POINTER(result, name, arguments) result(*name) arguments;
    ATTN_QUANTISED_KERNEL_LIST(ATTN_QUANTISED_POINTER)
#undef ATTN_QUANTISED_POINTER
} attn_quantised_kernels;

/* The best of the tables for the level of a table of kernels; with `plain` the one that any CPU of that level can run.
 */
const attn_quantised_kernels *attn_quantised_kernels_for(const attn_kernels *table, bool plain);

#endif
