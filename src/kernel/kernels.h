/* kernels.h: THE list of kernels. It makes the table of function pointers that a context holds, one per CPU level.
 *
 *     ctx->kernels->gemm_block(&block);
 *
 * A kernel sees raw pointers, sizes and strides (in elements); it never fails, allocates or starts threads.
 * To add one: a line here, a `static` function of that name in a file of body/, and that file's include in isa.c. */
#ifndef ATTN_KERNEL_KERNELS_H
#define ATTN_KERNEL_KERNELS_H

#include "kernel/attention.h"
#include "kernel/decode.h"
#include <attn/nn.h> /* attn_activation */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Before a loop of a constant, small number of turns whose arrays are meant to be registers. */
#if defined(__clang__)
#define ATTN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ATTN_UNROLL _Pragma("GCC unroll 64")
#endif

/* Columns of a packed panel, and multiply-adds in a chain along k, at every level. */
#define ATTN_PANEL 16
#define ATTN_GEMM_CHAIN 256

/* How B lies in its panels. */
typedef enum attn_panel_form {
    ATTN_PANEL_F32,   /* [k][16] */
    ATTN_PANEL_BF16,  /* the same in bf16, widened where it is multiplied */
    ATTN_PANEL_PAIRS, /* [ATTN_PAIR_LINES(k)][16] pairs of bf16; A is rounded to bf16 too, sums stay f32 */
    ATTN_PANEL_FORMS
} attn_panel_form;
/* A pair is k and k + ATTN_PAIR_STEP, with zeros where k ends: a line is made of two whole vectors on either side. */
#define ATTN_PAIR_STEP 16
#define ATTN_PAIR_LINES(k) (((k) / (2 * ATTN_PAIR_STEP) + ((k) % (2 * ATTN_PAIR_STEP) != 0)) * (size_t)ATTN_PAIR_STEP)

/* Lines of a panel of so many k. */
static inline size_t attn_panel_lines(attn_panel_form form, size_t k) {
    return form == ATTN_PANEL_PAIRS ? ATTN_PAIR_LINES(k) : k;
}

/* One block of a matrix product: C = act(A·B + bias + residual), or C += A·B. B begins at a panel. */
typedef struct attn_gemm_block {
    size_t m, n, k; /* n: columns that are left from B's first panel on, or fewer; a multiple of 16 unless it ends C */
    const float *a;
    ptrdiff_t a_row, a_column;
    const void *b; /* [panel], see `form` */
    attn_panel_form form;
    float *c;
    ptrdiff_t c_row;
    const float *bias, *residual; /* or NULL */
    ptrdiff_t residual_row;
    attn_activation act;
    bool accumulate;
    size_t rows; /* about so many share what is read of A, or its copy, while it is in the L2 cache */
    /* attn_gemm_scratch(rows, m, lines) floats, for A in another order; NULL, but not for pairs: A is read where it
     * lies */
    float *scratch;
    bool copied;      /* scratch holds the copy already; the block's rows and lines are those of one part of it */
    const char *next; /* next_bytes that are read after this block, or NULL */
    size_t next_bytes;
    bool next_to_l2; /* what comes next of B is fetched into L2 only */
    /* far_rows rows of far_bytes bytes, far_row bytes apart, are fetched into L2 too; or NULL */
    const char *far;
    ptrdiff_t far_row;
    size_t far_rows, far_bytes;
} attn_gemm_block;
#define ATTN_GEMM_DEPTH 1024 /* lines of a panel (k, or pairs of k) of that copy, a multiple of the chain's 256 */
/* Rows are shared out evenly, so that up to an eighth more than `rows` share a copy; it has whole tiles of 16 rows at
 * most. */
static inline size_t attn_gemm_most_rows(size_t rows) { return rows + rows / 8; }
static inline size_t attn_gemm_scratch(size_t rows, size_t m, size_t lines) {
    const size_t most = attn_gemm_most_rows(rows);
    return ((m < most ? m : most) + 16) * (lines < ATTN_GEMM_DEPTH ? lines : ATTN_GEMM_DEPTH);
}

/* AdamW's numbers for one step: see body/pointwise.h. */
typedef struct attn_adamw_factors {
    float beta1, beta2, epsilon, grad_scale;
    float decay;      /* 1 − learning rate · weight decay */
    float rate;       /* learning rate / (1 − β1^step) */
    float correction; /* 1 / sqrt(1 − β2^step) */
} attn_adamw_factors;

/* Gradients of additive energies for some columns; rows are `…_stride` apart. See body/additive.h. */
typedef struct attn_additive_bwd {
    size_t t, s, width;
    const float *sq, *hk, *v, *de; /* (t, width) (s, width) (width) (t, s) */
    ptrdiff_t sq_stride, hk_stride, de_stride;
    float *dsq, *dhk, *dv; /* (t, width) (s, width) (width), or NULL */
    ptrdiff_t dsq_stride, dhk_stride;
    bool accumulate;
} attn_additive_bwd;

/* X(result, name, (arguments)); one section for each file of body/. */
#define ATTN_KERNEL_LIST(X)                                                                                         \
    /* body/gemm.h */                                                                                               \
    X(void, gemm_block, (const attn_gemm_block *block))                                                             \
    X(void, gemm_pack_panels,                                                                                       \
      (void *to, attn_panel_form form, const float *b, ptrdiff_t row, ptrdiff_t column, size_t k, size_t columns))  \
    X(void, column_sums, (float *sums, const float *x, ptrdiff_t x_row, size_t rows, size_t n))                     \
    /* body/activation.h */                                                                                         \
    X(void, activation_fwd, (float *y, const float *x, size_t n, attn_activation act))                              \
    X(void, activation_bwd,                                                                                         \
      (float *dx, const float *dy, const float *xy, size_t n, attn_activation act, bool accumulate))                \
    /* body/softmax.h */                                                                                            \
    X(float, softmax_row, (float *y, const float *x, size_t n))                                                     \
    X(void, softmax_row_bwd, (float *dx, const float *dy, const float *y, size_t n, float scale, bool accumulate))  \
    X(void, log_softmax_row, (float *y, const float *x, size_t n))                                                  \
    X(void, log_softmax_row_bwd, (float *dx, const float *dy, const float *y, size_t n, bool accumulate))           \
    X(bool, cross_entropy_row,                                                                                      \
      (float *dx, const float *x, size_t n, size_t target, float smoothing, float scale, double out[2]))            \
    X(void, top_k_row, (int32_t * ids, float *values, const float *x, size_t n, size_t k))                          \
    /* body/norm.h */                                                                                               \
    X(void, layer_norm_row,                                                                                         \
      (float *y, float *mean, float *rstd, const float *x, const float *gain, const float *bias, size_t n,          \
       float epsilon))                                                                                              \
    X(void, layer_norm_row_bwd,                                                                                     \
      (float *dx, const float *dy, const float *x, const float *gain, float mean, float rstd, size_t n,             \
       bool accumulate))                                                                                            \
    X(void, rms_norm_row, (float *y, float *rstd, const float *x, const float *gain, size_t n, float epsilon))      \
    X(void, rms_norm_row_bwd,                                                                                       \
      (float *dx, const float *dy, const float *x, const float *gain, float rstd, size_t n, bool accumulate))       \
    X(void, norm_columns,                                                                                           \
      (float *dgain, float *dbias, const float *dy, const float *x, ptrdiff_t stride, const float *mean,            \
       const float *rstd, size_t rows, size_t width, bool accumulate))                                              \
    /* body/pointwise.h */                                                                                          \
    X(void, vector_add, (float *y, const float *a, const float *b, size_t n))                                       \
    X(double, sum_of_squares, (const float *x, size_t n))                                                           \
    X(void, adamw, (float *value, float *m, float *v, const float *grad, size_t n, const attn_adamw_factors *f))    \
    X(void, dropout,                                                                                                \
      (float *y, const float *x, size_t n, uint32_t threshold, float scale, uint64_t seed, uint64_t offset,         \
       uint64_t block))                                                                                             \
    /* body/rows.h */                                                                                               \
    X(void, rows_dot,                                                                                               \
      (float *out, const float *x, const float *rows, ptrdiff_t stride, size_t n, size_t width, float scale))       \
    X(void, rows_mix,                                                                                               \
      (float *out, const float *w, ptrdiff_t w_stride, const float *rows, ptrdiff_t stride, size_t n, size_t width, \
       bool accumulate))                                                                                            \
    /* body/additive.h */                                                                                           \
    X(void, additive_energy,                                                                                        \
      (float *e, const float *sq, const float *hk, ptrdiff_t hk_stride, const float *v, size_t n, size_t width))    \
    X(void, additive_bwd, (const attn_additive_bwd *p))                                                             \
    /* body/gru.h */                                                                                                \
    X(void, gru_point_row, (float *y, float *rzn, const float *gx, const float *gh, const float *h, size_t size))   \
    X(void, gru_point_row_bwd,                                                                                      \
      (float *dgx, float *dgh, float *dh, const float *dy, const float *rzn, const float *gh, const float *h,       \
       size_t size))                                                                                                \
    /* body/rotary.h */                                                                                             \
    X(void, rotary_row,                                                                                             \
      (void *y, const void *x, attn_dtype dtype, const float *cos, const float *sin, size_t half, bool interleaved, \
       bool inverse))

/* What works on pairs of bf16. Some CPUs of a level have instructions for these alone (select.c). */
#define ATTN_PAIR_KERNEL_LIST(X)                                                                                    \
    /* body/gemm.h */                                                                                               \
    X(void, gemm_block_pairs, (const attn_gemm_block *block))                                                       \
    X(void, gemm_pack_pairs, (void *to, const float *b, ptrdiff_t row, ptrdiff_t column, size_t k, size_t columns)) \
    /* tiles/….h: around the use of what is below and of gemm_block_pairs, on each thread */                      \
    X(void, tiles_begin, (void))                                                                                    \
    X(void, tiles_end, (void))                                                                                      \
    /* body/attention.h */                                                                                          \
    X(void, attention_product_bf16, (const attn_product *product))                                                  \
    X(void, attention_pair_rows,                                                                                    \
      (float *to, ptrdiff_t to_row, const void *from, attn_dtype dtype, ptrdiff_t from_row, size_t rows,            \
       size_t columns))                                                                                             \
    X(bool, attention_softmax_bf16, (const attn_softmax_tile *tile))                                                \
    X(void, attention_backward_bf16, (const attn_backward_tile *tile))                                              \
    /* body/decode.h */                                                                                             \
    X(void, decode_scores_bf16, (const attn_decode_tile *tile))                                                     \
    X(void, decode_softmax_bf16, (const attn_decode_tile *tile))                                                    \
    X(void, decode_pairs, (const attn_decode_tile *tile))                                                           \
    X(void, decode_sums_bf16, (const attn_decode_tile *tile))                                                       \
    X(void, decode_mix_bf16, (const attn_decode_tile *tile))                                                        \
    X(void, decode_mix_row_bf16, (const attn_decode_tile *tile, size_t row))

typedef struct attn_kernels {
    const char *level;  /* "scalar", "avx2", "avx512", "amx", "neon" */
    size_t lanes;       /* floats in a vector */
    bool fast_bf16;     /* products of pairs of bf16 are faster than those of floats */
    size_t block_lanes; /* queries in a block of attention */
    size_t pair_lanes;  /* the same where products are of pairs */
    size_t pair_group; /* pairs that are added up before they join a sum, counted from the first: 16 in tiles, else 1 */
#define ATTN_KERNEL_POINTER(result, name, arguments) result(*name) arguments;
    ATTN_KERNEL_LIST(ATTN_KERNEL_POINTER)
    ATTN_ATTENTION_KERNEL_LIST(ATTN_KERNEL_POINTER)
    ATTN_DECODE_KERNEL_LIST(ATTN_KERNEL_POINTER)
    ATTN_PAIR_KERNEL_LIST(ATTN_KERNEL_POINTER)
#undef ATTN_KERNEL_POINTER
} attn_kernels;

#endif
