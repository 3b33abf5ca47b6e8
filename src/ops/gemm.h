/* gemm.h: matrix products with packed right sides.
 *
 *     C[m][n] = act(Σ_k A[m][k] · B[k][n] + bias[n] + residual[m][n])      or   C[m][n] += Σ_k A[m][k] · B[k][n]
 *
 * Each output is a chain of FMAs along k for every 256 k, the chains added in order; never a split over k.
 * So a row's bits depend on nothing but the row and B. With B in pairs of bf16, A's elements are rounded to bf16 as B's
 * are, and a chain is 256 pairs of products; by tiles there are no chains, each group of 16 pairs is added to the
 * output.                                                              */
#ifndef ATTN_OPS_GEMM_H
#define ATTN_OPS_GEMM_H

#include "base/base.h"
#include "kernel/kernels.h"

/* B in panels of 16 columns, the last padded with zeros; kernels.h has the forms of a panel. */
typedef struct attn_packed {
    size_t k, n;
    attn_panel_form form;
    void *data;   /* 64-byte aligned */
    size_t bytes; /* capacity: packing again into the same struct reuses it */
} attn_packed;
#define ATTN_PACKED_INIT \
    { 0, 0, ATTN_PANEL_F32, NULL, 0 }

/* Packs B[k][n] = b[k·row + n·column] (b f32; strides in elements), on the context's threads. */
attn_status attn_gemm_pack(attn_context *ctx, attn_packed *packed, attn_panel_form form, const float *b, ptrdiff_t row,
                           ptrdiff_t column, size_t k, size_t n);
void attn_packed_free(attn_context *ctx, attn_packed *packed);

typedef struct attn_gemm {
    size_t m;
    const float *a;
    ptrdiff_t a_row, a_column;
    const attn_packed *b; /* gives n and k */
    float *c;
    ptrdiff_t c_row;
    const float *bias;     /* (n) or NULL */
    const float *residual; /* or NULL */
    ptrdiff_t residual_row;
    attn_activation act;
    bool accumulate; /* excludes bias, residual and act */
} attn_gemm;

attn_status attn_gemm_run(attn_context *ctx, const attn_gemm *gemm);
/* The same with an f32 B that is not packed, B[k][n] = b[k·row + n·column]; gemm->b is not read. B is packed in parts,
 * where and when each is needed (as a whole for an A whose rows are not contiguous). The bits are those of the packed
 * form. */
attn_status attn_gemm_run_unpacked(attn_context *ctx, const attn_gemm *gemm, const float *b, ptrdiff_t row,
                                   ptrdiff_t column, size_t k, size_t n);
/* One after the other with a single dispatch: C_i += … of a list that all write the same C is not allowed here. */
attn_status attn_gemm_run_many(attn_context *ctx, const attn_gemm *gemms, size_t n);

#endif
