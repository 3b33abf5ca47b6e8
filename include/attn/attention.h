/* attn/attention.h: scaled dot-product attention, forward and backward, with every option beside every other.
 *
 *     attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
 *     options.causal = ATTN_CAUSAL_TOP_LEFT;
 *     if (attn_attention_fwd(ctx, &out, &lse, &q, &k, &v, &options) != ATTN_OK) fprintf(stderr, "%s\n",
 * attn_error(ctx));
 *
 *     O = softmax(cap(scale · Q Kᵀ) + bias, over the visible keys) · V        Vaswani et al. 2017; online: Dao et al.
 * 2022
 *
 * Shapes: q (B, H, T, D), k (B, Hk, S, D), v (B, Hk, S, Dv), out (B, H, T, Dv), lse (B, H, T). H is a multiple of Hk:
 * query head h reads key head h / (H / Hk). D and Dv are 1 … 576, T and S anything from 0. Any strides, the last one is
 * 1. q, k, v and out are f32, bf16 or f16, all the same; sums are f32. Memory is linear in T and S, whatever the
 * options.
 *
 * Packed sequences (cu_q and cu_k given): q (H, ΣT, D), k (Hk, ΣS, D), v (Hk, ΣS, Dv), out (H, ΣT, Dv), lse (H, ΣT);
 * sequence b has the queries cu_q[b] … cu_q[b+1]−1 and the keys cu_k[b] … cu_k[b+1]−1. Below, T_b and S_b are the
 * lengths of sequence b, and i, j are counted from its own first query and key.
 *
 * A query that sees no key gets O = 0, LSE = −inf (with a sink: LSE = sink) and zero gradients. What is not visible
 * changes no bit, be it NaN or infinite; what is visible goes through as IEEE says. For one CPU level, dtype and
 * precision, a row's bits do not depend on the number of threads, the batch, padding against packing, strides, nor on
 * whether its queries come in one call or in several.                                                               */
#ifndef ATTN_ATTENTION_H
#define ATTN_ATTENTION_H

#include <attn/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which keys j a query i may see at most. */
typedef enum attn_causal {
    ATTN_CAUSAL_NONE,         /* all */
    ATTN_CAUSAL_TOP_LEFT,     /* j ≤ i */
    ATTN_CAUSAL_BOTTOM_RIGHT, /* j ≤ i + S_b − T_b */
    ATTN_CAUSAL_OFFSET,       /* j ≤ i + query_offset[b] */
} attn_causal;

typedef enum attn_mask_format {
    ATTN_MASK_KEEP_BYTES, /* U8; not 0: visible */
    ATTN_MASK_DROP_BYTES, /* U8; 0: visible */
    ATTN_MASK_KEEP_BITS,  /* U8, ⌈S/8⌉ to a row, key j is bit j mod 8 of byte j / 8; 1: visible */
    ATTN_MASK_DROP_BITS,  /* 0: visible */
} attn_mask_format;

typedef enum attn_precision {
    ATTN_PRECISION_DEFAULT, /* fast where the CPU level has 16-bit products, else high */
    ATTN_PRECISION_HIGH,    /* bf16 and f16: softmax weights stay f32 */
    ATTN_PRECISION_FAST,    /* bf16: softmax weights are rounded to bf16 for the product with V */
} attn_precision;

/* All pointers are borrowed. Position of query i: p_i = i (top-left), i + S_b − T_b (bottom-right), else
 * i + query_offset[b]; windows and ALiBi count from it. */
typedef struct attn_attention_options {
    size_t struct_size; /* sizeof(attn_attention_options) */
    float scale;        /* NaN: 1/√D */
    float softcap;      /* cap(x) = c·tanh(x/c), before bias and masks; 0: none */
    attn_causal causal;
    const int64_t *query_offset; /* (B), may be negative, or NULL for zeros; refused beside top-left and bottom-right */
    int64_t window_left;         /* j ≥ p_i − left; −1: open */
    int64_t window_right;        /* j ≤ p_i + right; −1: open */
    const int32_t *q_lengths;    /* (B), 0 … T; NULL: T. Queries past it: O = 0, LSE = −inf */
    const int32_t *kv_lengths;   /* (B), 0 … S; NULL: S */
    const int32_t *cu_q, *cu_k;  /* (sequences + 1): packed; excludes the lengths above */
    size_t sequences;            /* packed only */
    const int32_t *prefix;       /* (B): keys j < prefix[b] are visible whatever `causal` says (prefix LM) */
    const attn_tensor *segments_q; /* I32 (B, T), packed (ΣT): query i sees key j only if their ids are equal; */
    const attn_tensor *segments_k; /* I32 (B, S), packed (ΣS); both or none */
    const attn_tensor *mask; /* rank 4, (B, H, T, S) or 1 in any of the first three; packed: T, S ≥ the longest */
    attn_mask_format mask_format;
    const attn_tensor *tree; /* U8 (B or 1, T, ⌈T/8⌉), bits: query i sees the last T_b keys only where bit
                                j − (S_b − T_b) of row i is set, and all keys before (speculative decoding) */
    const attn_tensor *bias; /* f32, bf16 or f16, rank 4, (B, H, T, S) or 1 in any; −inf: not visible */
    const float *alibi;      /* (H) slopes: bias −slope·|p_i − j| */
    const float *sinks;      /* (H) logits that take part in the softmax and have no value */
    float dropout;           /* p of dropping a weight, rounded to 2⁻¹⁶; what stays is divided by 1 − p */
    uint64_t seed, offset;   /* Philox4x32-10: key seed; counter word 0 offset's low half, word 1 sequence id · H + h,
                                word 2 i, word 3 j / 8; key word 1 is xored with offset's high half; 16 bits for
                                key j: half j mod 2 of output word (j mod 8) / 2; dropped if < p · 2¹⁶ */
    const int64_t *sequence_ids; /* (B) or NULL for 0, 1, 2 …: makes dropout independent of the batch */
    attn_precision precision;
    void *workspace; /* 64-byte aligned memory of workspace_bytes, so that nothing is allocated; or NULL */
    size_t workspace_bytes;
} attn_attention_options;

#define ATTN_ATTENTION_OPTIONS_INIT                                                                    \
    {                                                                                                  \
        .struct_size = sizeof(attn_attention_options), .scale = __builtin_nanf(""), .window_left = -1, \
        .window_right = -1                                                                             \
    }

/* out = attention(q, k, v); lse (f32): natural logarithm of the softmax's sum, with scale, cap, bias and sink in it;
 * NULL: not wanted. options NULL: the defaults. out and lse overlap nothing. Errors: ATTN_E_ARGUMENT, ATTN_E_SHAPE,
 * ATTN_E_UNSUPPORTED, ATTN_E_VERSION with the argument's name and both values; ATTN_E_NOMEM. Nothing is written then.
 */
ATTN_API attn_status attn_attention_fwd(attn_context *ctx, const attn_tensor *out, const attn_tensor *lse,
                                        const attn_tensor *q, const attn_tensor *k, const attn_tensor *v,
                                        const attn_attention_options *options);

/* A NULL gradient is not computed. dq, dk, dv: shapes of q, k, v; their dtype or f32. dbias: f32, the bias's shape,
 * dimensions of 1 summed. dsinks: f32 (H). */
typedef struct attn_attention_grads {
    size_t struct_size; /* sizeof(attn_attention_grads) */
    const attn_tensor *dq, *dk, *dv, *dbias, *dsinks;
    bool accumulate; /* added to what is there; else written */
} attn_attention_grads;
#define ATTN_ATTENTION_GRADS_INIT \
    { .struct_size = sizeof(attn_attention_grads) }

/* Gradients from dout (shape and dtype of out) and dlse (that of lse; NULL: zeros). out and lse are those of the
 * forward call with the same options. With Δ_i = dO_i·O_i − dLSE_i:
 *     dV = Pᵀ dO                        dS = P ∘ (dO Vᵀ − Δ)              dbias = dS
 *     dQ = scale · (cap' ∘ dS) K        dK = scale · (cap' ∘ dS)ᵀ Q                     */
ATTN_API attn_status attn_attention_bwd(attn_context *ctx, const attn_attention_grads *grads, const attn_tensor *dout,
                                        const attn_tensor *dlse, const attn_tensor *q, const attn_tensor *k,
                                        const attn_tensor *v, const attn_tensor *out, const attn_tensor *lse,
                                        const attn_attention_options *options);

/* Bytes of workspace that the forward and the backward call with these tensors (data is not read) and options need in
 * this context; either pointer may be NULL. */
ATTN_API attn_status attn_attention_workspace(attn_context *ctx, size_t *forward, size_t *backward,
                                              const attn_tensor *q, const attn_tensor *k, const attn_tensor *v,
                                              const attn_attention_options *options);

/* Writes a few lines, NUL-terminated and cut to `bytes`: kernels, tiles, how many of them are full, partial and
 * skipped, workspace, and why. */
ATTN_API attn_status attn_attention_explain(attn_context *ctx, char *text, size_t bytes, const attn_tensor *q,
                                            const attn_tensor *k, const attn_tensor *v,
                                            const attn_attention_options *options);

/* y = x with pairs (x1, x2) of the first rotary_dim elements of each row turned by the angle of its position
 * (Su et al. 2021):  y1 = x1 cos − x2 sin,  y2 = x2 cos + x1 sin;  what follows is copied. x, y (B, H, T, D), any
 * strides with unit last stride, f32, bf16 or f16; y may be x. cos, sin f32 contiguous (P, rotary_dim/2), row
 * positions[b·T + t], each 0 … P−1; positions NULL: cos, sin are (B or 1, T, rotary_dim/2). rotary_dim 0: D; even.
 * Pairs are (i, i + rotary_dim/2), or with `interleaved` (2i, 2i + 1). Backward is the same with `inverse`: sin
 * negated. */
ATTN_API attn_status attn_rotary_embedding(attn_context *ctx, const attn_tensor *y, const attn_tensor *x,
                                           const attn_tensor *cos, const attn_tensor *sin, const int64_t *positions,
                                           size_t rotary_dim, bool interleaved, bool inverse);

#ifdef __cplusplus
}
#endif
#endif
