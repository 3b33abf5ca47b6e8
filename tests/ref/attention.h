/* attention.h: a call of attn_attention_fwd and _bwd in naive double code, written from the formulas of
 * <attn/attention.h>, with the amount by which a computation in f32 may differ from it.
 *
 *     ref_attention r = {.q = &q, .k = &k, .v = &v, .options = &options, .dout = &dout, .dlse = &dlse};
 *     ref_attention_run(&r);
 *     … r.out.value[((b * H + h) * T + i) * Dv + c], r.dq.value[…] …
 *     ref_attention_free(&r);
 *
 * Each pair of query and key is asked first whether it is visible; what is not is not used. Tensors may be F64 too.
 *
 * Bounds. u = 2⁻²⁴ is half a unit in the last place of 1. To first order, with z_j the score of key j in the exponent,
 * δz_j its error, w_j the weight (p_j, or with dropout p_j/(1 − p) or 0):
 *
 *     δO = Σ w_j δz_j v_j − (Σ p_l δz_l) O,     so that |δO| ≤ Σ w_j |δz_j| |v_j| + (Σ p_l |δz_l|) |O|
 *
 * A score's error has these parts:
 *   product  4u · scale Σ_k |q_k k_jk|, times the slope of the cap: chains of at most 64 FMAs, the rounding of scale
 *            and of log2(e), their product. |δO| takes it twice, at its largest: the 2⁻²¹ of the contract
 *   cap      8u |cap(x)|: tanh 2 ulp = 4u, the quotient by the cap, the product with it and with log2(e), u each, a
 *            relative error r of the argument being at most r of tanh
 *   bias     4u |bias|, 4u |slope (p_i − j)|: each rounded once in units of log2, by a constant that is itself rounded,
 *            and once when added; the sink's logit likewise
 * The exponential, its argument's rounding after the maximum is subtracted, and the sums of weights and of products
 * with V in chains of at most 64 are 16u together: the 2⁻²⁰ of the contract. Dropout's factor adds 4u. Weights that are
 * rounded to bf16 for the product (weight_unit 2⁻⁸) add at most 2⁻⁸ (Σ w_j |v_j| + |O|).
 *
 * LSE: Σ p_l |δz_l| + 24u (the sum; its logarithm, which is below 16) + 4u |LSE| (the maximum times ln 2; rounding).
 *
 * Backward. p_ij = e^(z_ij − LSE_i) has the relative error π_ij = 16u + |δz_ij| + |δLSE_i| + 2u |z_ij|. With
 * g_ij = w_ij/p_ij · Σ_c dO_ic v_jc and G_ij the same of absolute values, and δO with its rounding to the dtype:
 *     δΔ_i  = Σ_c |dO_ic| |δO_ic| + 4u Σ_c |dO_ic O_ic| + 2u |dLSE_i|
 *     δdS   = p (π |g − Δ| + 6u G + δΔ + 2u (G + |Δ|)) + 2u |dS|
 *     δcap' = 16u tanh² + 2u + |2 tanh/cap (1 − tanh²)| 4u Σ|q k|, the first two relative to 1
 * and a sum of n products adds (16 + √n) u of the sum of their absolute values: chains of 64, whose partial sums are
 * added in order. Rounding dS to bf16 adds 2⁻⁸ |dS| to what goes into dQ and dK. A result in 16 bits is one ulp (of its
 * dtype) farther away; the caller adds it.
 *
 * Weights below 2⁻¹⁰⁰ may count as zero.                                                                           */
#ifndef ATTN_TESTS_REF_ATTENTION_H
#define ATTN_TESTS_REF_ATTENTION_H

#include <attn/attention.h>

/* Elements in row-major order of the tensor's shape. */
typedef struct ref_array {
    double *value, *bound;
    size_t count;
    double sum_error; /* of dbias: what its sums add to the bound, relative to the size of their terms */
} ref_array;

typedef struct ref_attention {
    const attn_tensor *q, *k, *v;
    const attn_attention_options *options; /* or NULL */
    const attn_tensor *dout, *dlse;        /* or NULL; without dout only out and lse are computed */
    double weight_unit;                    /* by which weights and dS are rounded for products: 0, bf16: 2⁻⁸ */
    ref_array out, lse, dq, dk, dv, dbias, dsinks;
} ref_attention;

void ref_attention_run(ref_attention *r);
void ref_attention_free(ref_attention *r);

/* Whether query i of sequence b, head h, sees key j; both count from the sequence's first. */
bool ref_attention_visible(const ref_attention *r, size_t b, size_t h, size_t i, size_t j);
/* How many sequences there are, and how many queries and keys (T_b, S_b) sequence b has. */
size_t ref_attention_sequences(const ref_attention *r);
void ref_attention_lengths(const ref_attention *r, size_t b, size_t *queries, size_t *keys);

/* ---- elements of tensors in any dtype ------------------------------------------------------------- */

double ref_load(const attn_tensor *t, ptrdiff_t place);
void ref_store(const attn_tensor *t, ptrdiff_t place, double x); /* rounded to nearest even */
/* Distance between neighbours at |x|; 0 for F64. */
double ref_ulp(attn_dtype dtype, double x);
/* Where the element with this row-major number lies. */
ptrdiff_t ref_place(const attn_tensor *t, size_t number);

#endif
