/* alignment.h: what additive and dot attention over a memory have in common: energies to alignment to context, and
 * back.
 *
 *     α_i = softmax of e_ij over j < length      c_i = Σ_j α_ij h_j
 *     dα_ij = dc_i · h_j     de_ij = α_ij (dα_ij − Σ_k α_ik dα_ik)     dh_j = Σ_i α_ij dc_i
 *
 * The two kinds differ in two functions only. Keys past the length are never read. */
#ifndef ATTN_OPS_ALIGNMENT_H
#define ATTN_OPS_ALIGNMENT_H

#include "kernel/kernels.h"
#include "ops/check.h"

/* Elements of tensor (B, T or S, …): row (b, i). */
typedef struct attn_rows {
    float *data; /* NULL: not given */
    ptrdiff_t batch, row;
} attn_rows;

static inline float *attn_row_at(const attn_rows *rows, size_t b, size_t i) {
    return rows->data + (ptrdiff_t)b * rows->batch + (ptrdiff_t)i * rows->row;
}

typedef struct attn_alignment attn_alignment;
struct attn_alignment {
    attn_context *ctx;
    const attn_kernels *kernels;
    size_t b, t, s, a, c; /* a: width of queries and keys */
    const int32_t *lengths;
    attn_rows query, key, value;              /* (B, T, a) (B, S, a) (B, S, c) */
    attn_rows alignment, energy, context;     /* (B, T, S) (B, T, S) or NULL, (B, T, c) */
    attn_rows lse;                            /* (B, T, 1) or NULL */
    attn_rows dquery, dkey, dvalue, dcontext; /* backward; the first three may be NULL */
    attn_rows de;                             /* (B, T, S), scratch of the backward pass */
    bool accumulate;
    const float *v;   /* additive: (a) */
    float *dv_parts;  /* additive: (B, a), or NULL */
    float scale;      /* dot */
    double energy_ns; /* time for one product of a query and a key, about */

    /* e[0 … n−1] = energies of query (b, i) with keys first … first+n−1. */
    void (*energies)(const attn_alignment *, float *e, size_t b, size_t i, size_t first, size_t n);
    /* Gradients of energies, from de, for columns first … first+n−1 of queries and keys of sequence b. */
    void (*energies_bwd)(const attn_alignment *, size_t b, size_t first, size_t n);
};

/* What the caller calls them. */
typedef struct attn_alignment_names {
    const char *query, *key, *value;
} attn_alignment_names;

/* Checks what both have in common and fills the fields from tensors; `where` is the public function's name. */
attn_status attn_alignment_memory(attn_alignment *al, attn_context *ctx, const char *where,
                                  const attn_alignment_names *names, const attn_tensor *query, const attn_tensor *key,
                                  const attn_tensor *value, const int32_t *lengths);
/* One more tensor of shape (B, n, width); NULL gives an empty one. name: the argument's. */
attn_status attn_alignment_rows(attn_alignment *al, attn_rows *rows, const char *where, const char *name,
                                const attn_tensor *t, size_t n, size_t width);

attn_status attn_alignment_fwd(attn_alignment *al);
attn_status attn_alignment_bwd(attn_alignment *al);

#endif
