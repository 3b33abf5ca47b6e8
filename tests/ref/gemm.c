#include "ref/gemm.h"
#include <math.h>

double ref_activation(double x, attn_activation act) {
    switch (act) {
    case ATTN_IDENTITY: return x;
    case ATTN_TANH: return tanh(x);
    case ATTN_SIGMOID: return 1.0 / (1.0 + exp(-x));
    case ATTN_RELU: return x > 0.0 ? x : 0.0;
    case ATTN_GELU: return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    case ATTN_GELU_TANH: return 0.5 * x * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case ATTN_SILU: return x / (1.0 + exp(-x));
    }
    return NAN;
}

/* A chain of L FMAs from 0 errs by at most (L−1)·u·Σ|a b| to first order, u = 2⁻²⁴, a sum of the chains and of what
 * comes after by u each time. The slope of every activation here is below 1.13; itself it may err by 8 u of its
 * argument's size or of 1. */
double ref_gemm_at(const ref_gemm *g, size_t i, size_t j, double *bound) {
    const double u = 0x1p-24;
    double sum = 0.0, size = 0.0;
    for (size_t p = 0; p < g->k; p++) {
        double product = (double)g->a[(ptrdiff_t)i * g->a_row + (ptrdiff_t)p * g->a_column] *
                         (double)g->b[(ptrdiff_t)p * g->b_row + (ptrdiff_t)j * g->b_column];
        sum += product;
        size += fabs(product);
    }
    double terms = (double)(g->k < 256 ? g->k : 256) + (double)(g->k / 256) + 4.0;
    if (g->c)
        sum += (double)g->c[(ptrdiff_t)i * g->c_row + (ptrdiff_t)j],
            size += fabs((double)g->c[(ptrdiff_t)i * g->c_row + (ptrdiff_t)j]);
    if (g->bias) sum += (double)g->bias[j], size += fabs((double)g->bias[j]);
    if (g->residual) {
        double x = (double)g->residual[(ptrdiff_t)i * g->residual_row + (ptrdiff_t)j];
        sum += x, size += fabs(x);
    }
    *bound = 1.01 * terms * u * size;
    if (g->act != ATTN_IDENTITY) *bound = 1.13 * *bound + 8.0 * u * (1.0 + fabs(sum));
    return ref_activation(sum, g->act);
}
