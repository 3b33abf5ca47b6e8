/* gemm.h: matrix products in double, as the formula says. */
#ifndef ATTN_TESTS_REF_GEMM_H
#define ATTN_TESTS_REF_GEMM_H

#include <attn/nn.h>
#include <stddef.h>

double ref_activation(double x, attn_activation act);

typedef struct ref_gemm {
    size_t m, n, k;
    const float *a;
    ptrdiff_t a_row, a_column;
    const float *b;
    ptrdiff_t b_row, b_column;
    const float *bias, *residual; /* or NULL */
    ptrdiff_t residual_row;
    const float *c; /* what is added to, or NULL */
    ptrdiff_t c_row;
    attn_activation act;
} ref_gemm;

/* Element (i, j); *bound is what an f32 result made of chains of 256 may differ by. */
double ref_gemm_at(const ref_gemm *g, size_t i, size_t j, double *bound);

#endif
