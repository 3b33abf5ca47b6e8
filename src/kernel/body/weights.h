/* weights.h: weights of attention from scores and log-sum-exp, and what is taken from a tile of them.
 *
 * Lanes are queries, as in attention.h. */
#ifndef ATTN_KERNEL_BODY_WEIGHTS_H
#define ATTN_KERNEL_BODY_WEIGHTS_H

#include "kernel/body/exp.h"
#include "kernel/kernels.h"

/* Scores (or logits) become  p = 2^(s·factor − lse),  0 where a pair is not visible, a lane not live, or s is −inf.
 * With entropy: entropy[lane] += −Σ p log2 p. With threshold: above[key] is the lanes with p > threshold; true if there
 * are any. */
V_FN bool weights_vector(const bool more, const attn_weights_tile *t, size_t lane) {
    const V c = v_set(t->factor), lse = v_load(t->lse + lane), empty = v_set(-__builtin_inff());
    const V least = v_set(-200.0f); /* of log2 p where p is 0: 0 · −inf is NaN */
    const V threshold = t->threshold ? v_load(t->threshold + lane) : v_zero();
    V entropy = v_zero();
    bool any = false;
    for (size_t j = 0; j < t->keys; j++) {
        float *at = t->s + j * t->lanes + lane;
        const uint64_t word = t->visible ? t->visible[j] & t->live : t->live;
        const V s = v_load(at), x = v_fma(s, c, v_neg(lse));
        const V p = v_and_mask(v_of_bits((uint32_t)(word >> lane)), v_select(v_eq(s, empty), v_zero(), v_exp2(x)));
        v_store(at, p);
        if (!more) continue;
        if (t->entropy) {
            V product = v_mul(p, v_max(least, x));
            entropy = v_sub(entropy, v_and_mask(v_of_bits((uint32_t)(word >> lane)), product));
        }
        if (t->threshold) {
            const uint64_t bits = (uint64_t)v_bits(v_gt(p, threshold)) << lane;
            t->above[j] |= bits, any |= bits != 0;
        }
    }
    if (more && t->entropy) v_store(t->entropy + lane, v_add(v_load(t->entropy + lane), entropy));
    return any;
}

static bool attention_weights(const attn_weights_tile *t) {
    bool any = false;
    const bool more = t->entropy || t->threshold;
    for (size_t j = 0; t->threshold && j < t->keys; j++) t->above[j] = 0;
    for (size_t lane = 0; lane < t->lanes; lane += V_LANES)
        any |= more ? weights_vector(true, t, lane) : weights_vector(false, t, lane);
    return any;
}

/* sums[key] = Σ over lanes */
static void attention_lane_sums(float *sums, const float *x, size_t lanes, size_t keys) {
    for (size_t j = 0; j < keys; j++, x += lanes) {
        V sum = v_load(x);
        for (size_t lane = V_LANES; lane < lanes; lane += V_LANES) sum = v_add(sum, v_load(x + lane));
        sums[j] = v_sum(sum);
    }
}

/* The greatest of x ≥ 0 over the keys and those lanes; NaN if there is one. */
static float attention_lane_max(const float *x, size_t lanes, size_t keys, uint64_t which) {
    V max = v_zero();
    bool nan = false;
    for (size_t lane = 0; lane < lanes; lane += V_LANES) {
        const VM mask = v_of_bits((uint32_t)(which >> lane));
        for (size_t j = 0; j < keys; j++) {
            V p = v_and_mask(mask, v_load(x + j * lanes + lane));
            nan |= v_any(v_is_nan(p));
            max = v_max(p, max);
        }
    }
    return nan ? __builtin_nanf("") : v_max_of(max);
}

#endif
