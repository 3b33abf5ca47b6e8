/* gemm_chunks.h: see attn_gemm_run_unpacked; and what all products are cut by. */
#ifndef ATTN_OPS_GEMM_CHUNKS_H
#define ATTN_OPS_GEMM_CHUNKS_H

#include "ops/gemm.h"

enum {
    ROWS_ALIGN = 12,     /* a cut between rows falls on whole tiles of most levels */
    LEAST_ROWS = 96,     /* that share what is read of A; fewer read B too often */
    SET_ELEMENTS = 1024, /* a tile's rows that lie a multiple of it apart share a set of the L1 cache (4 KB) */
};

/* C = act(A·B + …) for many rows of A, which are contiguous; B[k][n] = b[k·row + n·column]. */
attn_status attn_gemm_run_chunks(attn_context *ctx, const attn_gemm *gemm, const float *b, ptrdiff_t row,
                                 ptrdiff_t column, size_t k, size_t n);

#endif
