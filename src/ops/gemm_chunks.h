/* gemm_chunks.h: see attn_gemm_run_unpacked. */
#ifndef ATTN_OPS_GEMM_CHUNKS_H
#define ATTN_OPS_GEMM_CHUNKS_H

#include "ops/gemm.h"

/* C = act(A·B + …) for many rows of A, which are contiguous; B[k][n] = b[k·row + n·column]. */
attn_status attn_gemm_run_chunks(attn_context *ctx, const attn_gemm *gemm, const float *b, ptrdiff_t row,
                                 ptrdiff_t column, size_t k, size_t n);

#endif
