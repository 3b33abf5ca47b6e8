/* attention_bwd.h: one pair of a block of queries and a tile of keys in the backward pass.
 *
 *     S = K Qᵀ    P = 2^(S·factor − LSE)    dP = V dOᵀ    dS = P ∘ (dP − Δ)             all (key, lane)
 *
 * Blocks have up to ATTN_MAX_LANES queries at every level, since dK and dV are written once for each.
 * What the products dV = Pᵀ dO, dK = dSᵀ Q and dQ = dS K read as their right side lies in rows of whole vectors. */
#ifndef ATTN_OPS_ATTENTION_BWD_H
#define ATTN_OPS_ATTENTION_BWD_H

#include "ops/attention.h"

typedef struct attn_backward_block {
    attn_block block;
    attn_extras extras;
    float *q, *dout;                 /* [lane][D], [lane][Dv] in whole vectors; zeros for rows that see nothing */
    float *q_columns, *dout_columns; /* [D][lanes], [Dv][lanes]; fast: pairs, [D/2][lanes], [Dv/2][lanes] */
    float *q_pairs, *dout_pairs;     /* fast: lanes 2i and 2i+1 as pairs, [lanes/2][D or Dv in whole vectors] */
    float lse[ATTN_MAX_LANES];       /* in units of log 2; +inf for rows that see nothing */
    float delta[ATTN_MAX_LANES];     /* dO·O − dLSE */
    bool inspected, q_finite, dout_finite;
} attn_backward_block;

/* A tile's keys and values; the first row is that of key `key`. */
typedef struct attn_backward_keys {
    size_t key, rows;
    float *k, *v;           /* [ATTN_TILE][D], [ATTN_TILE][Dv] in whole vectors */
    float *k_rows, *v_rows; /* what scores and dP read: k and v; fast: pairs, [ATTN_TILE][D/2], [ATTN_TILE][Dv/2] */
    float *k_pairs;         /* fast: keys 2i and 2i+1 as pairs, [ATTN_TILE/2][D in whole vectors] */
    bool inspected, k_finite;
} attn_backward_keys;

void attn_backward_block_layout(attn_backward_block *b, const attn_attention *at, attn_scratch *scratch, bool counting);
/* The rest of a block of which `block` is set. */
void attn_backward_block_set(attn_backward_block *b, const attn_attention *at);
void attn_backward_keys_layout(attn_backward_keys *keys, const attn_attention *at, attn_scratch *scratch);
void attn_backward_keys_set(attn_backward_keys *keys, const attn_attention *at, const attn_sequence *x, size_t key_head,
                            size_t key);
/* Looks which are finite, unless that is known. */
void attn_backward_inspect(attn_backward_block *b, attn_backward_keys *keys, const attn_attention *at);

/* What a pair gives, [key][lane]: weights after dropout and dS; in the fast path as bf16 in rows of ATTN_MAX_LANES, and
 * dS also with keys 2i and 2i+1 as pairs. dbias: dS before the cap's derivative; NULL: not wanted. */
typedef struct attn_backward_results {
    float *s, *ds, *dbias;
    uint16_t *s_bf16, *ds_bf16;
    float *ds_pairs;
} attn_backward_results;
void attn_backward_results_layout(attn_backward_results *results, const attn_attention *at, attn_scratch *scratch,
                                  bool dbias);
void attn_backward_pair(const attn_backward_results *to, attn_backward_block *b, const attn_backward_keys *keys,
                        const attn_tile *tile, attn_ahead *ahead, const attn_attention *at);

/* dbias and dsinks, each in a pass of its own that adds in a fixed order. */
attn_status attn_backward_bias(attn_attention *at, const attn_tensor *dbias, bool accumulate, void *workspace,
                               size_t workers);
size_t attn_backward_bias_bytes(const attn_attention *at); /* of one thread's scratch */
void attn_backward_sinks(attn_attention *at, const attn_tensor *dsinks, bool accumulate);

#endif
