/* quantised.h: products with a weight of small integers, which stay what they are in memory.
 *
 *     y[m][n] = act(Σ_k x[m][k] · W[n][k] + bias[n] + residual[m][n])
 *
 * kernel/quantised.h says how W lies and what the sum is. A row's bits depend on the row and W alone: not on the other
 * rows, on threads, or on the instruction set. */
#ifndef ATTN_OPS_QUANTISED_H
#define ATTN_OPS_QUANTISED_H

#include "base/base.h"
#include "kernel/quantised.h"

typedef struct attn_quantised attn_quantised;

/* Memory for the weights of a model: pieces of allocations that are as large as what was there before, in huge pages
 * where the system has them. Begins as zeros. */
typedef struct attn_quantised_store {
    struct attn_quantised_chunk *last;
    size_t held; /* bytes */
} attn_quantised_store;
void attn_quantised_store_free(attn_context *ctx, attn_quantised_store *store);

/* W (N, K) from rows as files have them: blocks of 32, of the K forms of 256 (io/gguf_blocks.c), which K is a multiple
 * of. row[n]: where row n begins. I8: bytes, with scale (N). A scale that is not finite is ATTN_E_NUMERIC. store: keeps
 * it, and W is to be freed before it; NULL: memory of its own. gives. */
attn_status attn_quantised_create(attn_quantised **gives, attn_context *ctx, attn_quantised_store *store,
                                  attn_quantised_form form, size_t n, size_t k, const void *const *row,
                                  const float *scale);
void attn_quantised_free(attn_context *ctx, attn_quantised *w);

/* The form of that name; false: there is none. */
bool attn_quantised_form_named(attn_quantised_form *out, const char *name);
attn_quantised_form attn_quantised_form_of(const attn_quantised *w);
/* Row n as floats, with the roundings that the forms define: scale times integer, then the sum with the minimum. */
void attn_quantised_row(float *out, const attn_quantised *w, size_t n);

typedef struct attn_quantised_gemm {
    const attn_quantised *w;
    size_t m;
    const float *x; /* (m, K), rows x_row apart */
    ptrdiff_t x_row;
    float *y; /* (m, N) */
    ptrdiff_t y_row;
    const float *bias;     /* (N) or NULL */
    const float *residual; /* or NULL */
    ptrdiff_t residual_row;
    attn_activation act;
} attn_quantised_gemm;
/* n products of one x (x, x_row and m are the first's) with weights of one form and one K, in one dispatch. */
attn_status attn_quantised_run(attn_context *ctx, const attn_quantised_gemm *gemms, size_t n);
/* Whether two weights may be of one run. */
bool attn_quantised_alike(const attn_quantised *a, const attn_quantised *b);

#endif
