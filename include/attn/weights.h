/* attn/weights.h: the weights of attention, looked at without leaving the fused path.
 *
 *     attn_attention_fwd(ctx, &out, &lse, &q, &k, &v, &options);
 *     attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
 *     look.top_values = &values, look.top_keys = &keys;               // (B, H, T, 8) each
 *     if (attn_attention_weights(ctx, &look, &q, &k, &lse, &options) != ATTN_OK) …
 *
 *     p_ij = exp(s_ij − LSE_i)      s with scale, cap, bias and slopes, as in <attn/attention.h>
 *
 * Weights are f32 and before dropout. What is masked has weight 0; with a sink a row sums to less than 1. T×S numbers
 * exist only where `weights` asks for them: memory is linear in what is asked for. */
#ifndef ATTN_WEIGHTS_H
#define ATTN_WEIGHTS_H

#include <attn/attention.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What to look at. All pointers are borrowed; an output that is NULL is not computed. H' is the number of heads looked
 * at, R that of rows; B, T and S are those of q and k, for packed sequences their number and the longest lengths.
 * Outputs are contiguous. Rows that a sequence does not have, and keys past its end, count as masked. */
typedef struct attn_attention_look {
    size_t struct_size;   /* sizeof(attn_attention_look) */
    const int32_t *heads; /* (head_count) query heads, increasing; NULL: all */
    size_t head_count;
    const int64_t *rows; /* (row_count) queries of each sequence, increasing; all ≥ 0, or all negative: −1 is the last
                            one of each sequence; NULL: all T */
    size_t row_count;

    const attn_tensor *weights;    /* f32 (B, H', R, S) */
    const attn_tensor *top_values; /* f32 (B, H', R, n): the n largest weights above 0, largest first, of equal ones */
    const attn_tensor *top_keys;   /* I32 (B, H', R, n)  the lower key first; where there are fewer: 0 and key −1 */
    const attn_tensor *argmax;     /* I32 (B, H', R): the key of the largest weight; −1: none is above 0 */
    const attn_tensor *entropy;    /* f32 (B, H', R): −Σ_j p_ij ln p_ij */
    const attn_tensor *column_sum; /* f32 (B, H', S): Σ_i p_ij over the R rows */
    const attn_tensor *block_max;  /* f32 (B, H', ⌈R / block_rows⌉, ⌈S / block_keys⌉): a level of a pyramid */
    size_t block_rows, block_keys;
} attn_attention_look;

#define ATTN_ATTENTION_LOOK_INIT \
    { .struct_size = sizeof(attn_attention_look) }

/* Looks at the weights of a call of attn_attention_fwd with the same q, k and options, whose lse it reads. Outputs
 * overlap nothing. A row whose LSE is NaN, because a key or query that is visible is, has NaN weights where it sees a
 * key, a NaN entropy and no largest weight. Numerics: scores as in the forward pass; a weight's relative error is at
 * most 16u + |δs| + |δLSE| + 2u |s|, u = 2⁻²⁴; column sums are added in double. options->workspace is not used; memory
 * beside the outputs: for each thread a few tiles and, for the largest weights, a block of n pairs. Column sums and
 * block maxima on one side, the rest on the other, are a pass each. Errors: those of attn_attention_fwd, with the
 * argument's name. The bits do not depend on threads, batch, padding or packing. */
ATTN_API attn_status attn_attention_weights(attn_context *ctx, const attn_attention_look *look, const attn_tensor *q,
                                            const attn_tensor *k, const attn_tensor *lse,
                                            const attn_attention_options *options);

/* What attn_attention_scores stops at. */
typedef enum attn_score_stage {
    ATTN_SCORES_SCALED,        /* scale · q·k, of all pairs, visible or not */
    ATTN_SCORES_CAPPED,        /* and capped */
    ATTN_SCORES_BIASED,        /* with bias and slopes; −inf where not visible */
    ATTN_SCORES_PROBABILITIES, /* softmax of it, before dropout; 0 where not visible */
} attn_score_stage;

/* scores, f32 (B, H, T, S), contiguous (packed: as above; what a sequence does not have is 0, at BIASED −inf): every
 * pair of a small call. At SCALED and CAPPED lengths and masks do not count. Errors and threads as above. */
ATTN_API attn_status attn_attention_scores(attn_context *ctx, const attn_tensor *scores, const attn_tensor *q,
                                           const attn_tensor *k, attn_score_stage stage,
                                           const attn_attention_options *options);

#ifdef __cplusplus
}
#endif
#endif
