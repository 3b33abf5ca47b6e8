/* attn/ops.h: operations on tensors, forward and backward.
 *
 * Outputs come first, then inputs, then options. A gradient of x is dx; a NULL gradient is not
 * computed; gradients are written, or added to where `accumulate` says so. Tensors are f32 and
 * contiguous unless a comment allows strides. Outputs may not overlap inputs unless the comment
 * says "in place". Every function checks shapes and names the argument that does not fit.
 * Results do not depend on the number of threads nor on what else is in the batch.              */
#ifndef ATTN_OPS_H
#define ATTN_OPS_H

#include <attn/nn.h> /* attn_activation, attn_loss_stats */
#include <attn/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* y = act(x). In place allowed. */
ATTN_API attn_status attn_activation_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x,
                                         attn_activation act);
/* dx = dy ∘ act'(·). TANH, SIGMOID and RELU read y, the others x (either may be NULL where it is not read). */
ATTN_API attn_status attn_activation_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy,
                                         const attn_tensor *x, const attn_tensor *y, attn_activation act,
                                         bool accumulate);

/* Over the last dimension. */
ATTN_API attn_status attn_softmax_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x);
ATTN_API attn_status attn_softmax_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy,
                                      const attn_tensor *y, bool accumulate);
ATTN_API attn_status attn_log_softmax_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x);
ATTN_API attn_status attn_log_softmax_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy,
                                          const attn_tensor *y, bool accumulate);

/* The k largest of each row of x (R, V), largest first; of equal ones the lower index; NaN counts as −inf. ids and
 * values hold R·k elements; k ≤ V. k = 1 is the argmax. */
ATTN_API attn_status attn_top_k(attn_context *ctx, int32_t *ids, float *values, const attn_tensor *x, size_t k);

/* logits (R, V), targets R ints (negative: padding, its dlogits row is 0). Adds to *stats. Writes
 * dlogits (may be logits itself, in place; NULL: not wanted) already times grad_scale. One pass for both. */
ATTN_API attn_status attn_cross_entropy(attn_context *ctx, attn_loss_stats *stats, const attn_tensor *dlogits,
                                        const attn_tensor *logits, const int32_t *targets, float label_smoothing,
                                        float grad_scale);

/* y = gain ∘ (x − mean) / sqrt(var + ε) + bias. x, y (R, N); gain, bias (N), bias may be NULL;
 * mean, rstd (R) are kept for backward (NULL: not wanted). */
ATTN_API attn_status attn_layer_norm_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *mean,
                                         const attn_tensor *rstd, const attn_tensor *x, const attn_tensor *gain,
                                         const attn_tensor *bias, float epsilon);
ATTN_API attn_status attn_layer_norm_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dgain,
                                         const attn_tensor *dbias, const attn_tensor *dy, const attn_tensor *x,
                                         const attn_tensor *gain, const attn_tensor *mean, const attn_tensor *rstd,
                                         bool accumulate);
/* y = gain ∘ x / sqrt(mean(x²) + ε) */
ATTN_API attn_status attn_rms_norm_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *rstd,
                                       const attn_tensor *x, const attn_tensor *gain, float epsilon);
ATTN_API attn_status attn_rms_norm_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dgain,
                                       const attn_tensor *dy, const attn_tensor *x, const attn_tensor *gain,
                                       const attn_tensor *rstd, bool accumulate);

/* y[i] = table[ids[i]]. table (V, E), y (n, E). An id outside 0 … V−1 is ATTN_E_ARGUMENT. */
ATTN_API attn_status attn_embedding_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *table,
                                        const int32_t *ids, size_t n);
/* dtable[ids[i]] += dy[i], in the order of i. */
ATTN_API attn_status attn_embedding_bwd(attn_context *ctx, const attn_tensor *dtable, const attn_tensor *dy,
                                        const int32_t *ids, size_t n);

/* y = x · keep / (1 − p), keep from Philox4x32-10 with key (seed) and counter (offset, i / 8), 16 bits an
 * element. p is rounded to 2⁻¹⁶. Backward is the same call on dy. In place allowed. */
ATTN_API attn_status attn_dropout(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, float p, uint64_t seed,
                                  uint64_t offset);

/* y += x; y = a + b (in place allowed); bias gradient: db[n] += Σ_rows dy[row][n], rows in order. */
ATTN_API attn_status attn_add(attn_context *ctx, const attn_tensor *y, const attn_tensor *a, const attn_tensor *b);
ATTN_API attn_status attn_column_sums(attn_context *ctx, const attn_tensor *sums, const attn_tensor *x,
                                      bool accumulate);
/* Σ x², in double, order fixed; +inf or NaN come through. */
ATTN_API attn_status attn_sum_of_squares(attn_context *ctx, double *sum, const attn_tensor *x);

/* C = act(A·B + bias + residual), or C += A·B with accumulate. A (M, K) and B (K, N) may have any strides
 * (so every transpose); C (M, N) has unit last stride. bias (N), residual (M, N) or NULL. B may be bf16. */
ATTN_API attn_status attn_matmul(attn_context *ctx, const attn_tensor *c, const attn_tensor *a, const attn_tensor *b,
                                 const attn_tensor *bias, const attn_tensor *residual, attn_activation act,
                                 bool accumulate);
/* y = act(x Wᵀ + b + residual). x (R, K), w (N, K), b (N). */
ATTN_API attn_status attn_linear_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x,
                                     const attn_tensor *w, const attn_tensor *b, const attn_tensor *residual,
                                     attn_activation act);
ATTN_API attn_status attn_linear_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dw,
                                     const attn_tensor *db, const attn_tensor *dy, const attn_tensor *x,
                                     const attn_tensor *w, bool accumulate);

/* Bahdanau's attention on projected inputs; see attn_tape_additive_attention. Any strides with unit last stride:
 * sq (B, T, A), hk (B, S, A), v (A), h (B, S, C), c (B, T, C), alignment and energy (B, T, S), lse (B, T); alignment,
 * energy and lse may be NULL. lengths: B ints or NULL. Energies past the length are −inf, alignments 0. Inputs and c
 * may be bf16: computed in f32 from copies, c rounded at the end; so may gradients. */
ATTN_API attn_status attn_additive_attention_fwd(attn_context *ctx, const attn_tensor *c, const attn_tensor *lse,
                                                 const attn_tensor *alignment, const attn_tensor *energy,
                                                 const attn_tensor *sq, const attn_tensor *hk, const attn_tensor *v,
                                                 const attn_tensor *h, const int32_t *lengths);
/* Reads the alignment of the forward pass (B, T, S). dsq, dhk, dh may be strided; with accumulate they are added to
 * (dv always follows the same flag). */
ATTN_API attn_status attn_additive_attention_bwd(attn_context *ctx, const attn_tensor *dsq, const attn_tensor *dhk,
                                                 const attn_tensor *dv, const attn_tensor *dh, const attn_tensor *dc,
                                                 const attn_tensor *sq, const attn_tensor *hk, const attn_tensor *v,
                                                 const attn_tensor *h, const attn_tensor *alignment,
                                                 const int32_t *lengths, bool accumulate);
/* Luong's dot: e = scale · q·k. q (B, T, C), k (B, S, C), h (B, S, Cv). bf16 as above. */
ATTN_API attn_status attn_dot_attention_fwd(attn_context *ctx, const attn_tensor *c, const attn_tensor *alignment,
                                            const attn_tensor *energy, const attn_tensor *q, const attn_tensor *k,
                                            const attn_tensor *h, float scale, const int32_t *lengths);
ATTN_API attn_status attn_dot_attention_bwd(attn_context *ctx, const attn_tensor *dq, const attn_tensor *dk,
                                            const attn_tensor *dh, const attn_tensor *dc, const attn_tensor *q,
                                            const attn_tensor *k, const attn_tensor *h, const attn_tensor *alignment,
                                            float scale, const int32_t *lengths, bool accumulate);

/* The pointwise part of a GRU step; see attn_tape_gru for the formula. gx, gh (B, 3H), h, y (B, H);
 * rzn (B, 3H) keeps r, z, n for backward (NULL: not wanted). active: B flags, 0 copies h to y (NULL: all). reset_after
 * form. */
ATTN_API attn_status attn_gru_point_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *rzn,
                                        const attn_tensor *gx, const attn_tensor *gh, const attn_tensor *h,
                                        const uint8_t *active);
/* dgx, dgh (B, 3H) are written; dh (B, H) is written: the direct part z ∘ dy (all of dy where not active). */
ATTN_API attn_status attn_gru_point_bwd(attn_context *ctx, const attn_tensor *dgx, const attn_tensor *dgh,
                                        const attn_tensor *dh, const attn_tensor *dy, const attn_tensor *rzn,
                                        const attn_tensor *gh, const attn_tensor *h, const uint8_t *active);

/* AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019), one tensor. step counts from 1. The gradient is multiplied by
 * grad_scale first (clipping). */
typedef struct attn_adamw_options {
    size_t struct_size;
    float learning_rate, beta1, beta2, epsilon, weight_decay, grad_scale;
    uint64_t step;
} attn_adamw_options;
ATTN_API attn_status attn_adamw(attn_context *ctx, const attn_tensor *value, const attn_tensor *m, const attn_tensor *v,
                                const attn_tensor *grad, const attn_adamw_options *options);

#ifdef __cplusplus
}
#endif
#endif
