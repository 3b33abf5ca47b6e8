/* gru.h: gated recurrent units, one step and a whole sequence, on raw memory; see attn_tape_gru for the formula.
 *
 * Gates are ordered r, z, n. The caller projects the inputs (gx = W x + b) and has U packed: forward as Uᵀ (H, 3H),
 * backward as U (3H, H). In the paper's form, where r acts before the product, U is multiplied twice, with h and with r
 * ∘ h, and a part of each product is not used. */
#ifndef ATTN_OPS_GRU_H
#define ATTN_OPS_GRU_H

#include "ops/gemm.h"
#include <attn/ops.h>

typedef struct attn_gru_step {
    size_t batch, hidden;
    bool reset_after;
    const uint8_t *active; /* (B), 0: y = h; NULL: all active */
    const float *gx;       /* (B, 3H) */
    const float *c;        /* (3H) or NULL */
    const float *h;        /* (B, H) */
    float *y;              /* (B, H) */
    float *gh;             /* (B, 3H) gets the last product with U; reset_after: kept for backward */
    float *rzn;            /* (B, 3H) gets the gates, for backward; NULL, if reset_after, when not wanted */
    float *rh;             /* (B, H) gets r ∘ h, kept for backward; paper's form only, else NULL */
} attn_gru_step;

typedef struct attn_gru_step_grad {
    const float *dy; /* (B, H) */
    float *dgx;      /* (B, 3H) written, zeros where not active; so are the others */
    float *dgh;      /* (B, 3H) gradient of U h + c; in the paper's form of its r and z, zeros for n */
    float *dgq;      /* (B, 3H) gradient of U (r ∘ h) + c: zeros for r and z; paper's form only, else NULL */
    float *dh;       /* (B, H) */
} attn_gru_step_grad;

attn_status attn_gru_step_fwd(attn_context *ctx, const attn_gru_step *step, const attn_packed *u);
attn_status attn_gru_step_bwd(attn_context *ctx, const attn_gru_step *step, const attn_gru_step_grad *grad,
                              const attn_packed *u);

/* The same over time. Buffers have a leading T but for states, which has T + 1 places of (B, H): the first, or the last
 * with reverse, holds h0; y[t] is place t + 1, with reverse place t. Without keep, gh, rzn and rh hold one step. */
typedef struct attn_gru_sequence {
    size_t steps, batch, hidden;
    bool reverse, reset_after, keep;
    const uint8_t *active; /* (T, B) or NULL */
    const float *gx, *c;
    float *states, *gh, *rzn, *rh;
} attn_gru_sequence;

attn_status attn_gru_sequence_fwd(attn_context *ctx, const attn_gru_sequence *sequence, const attn_packed *u);
/* dy (T, B, H) is used up: step by step it becomes the whole gradient of y[t]. dgx, dgh, dgq (T, B, 3H); dh (B, H) is
 * h0's. */
attn_status attn_gru_sequence_bwd(attn_context *ctx, const attn_gru_sequence *sequence, float *dgx, float *dgh,
                                  float *dgq, float *dh, float *dy, const attn_packed *u);

#endif
