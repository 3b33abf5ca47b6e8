/* additive.h: the energies of additive attention (Bahdanau, Cho & Bengio 2015) and their gradients.
 *
 *     e_ij = Σ_a v_a tanh(sq_ia + hk_ja)
 *
 * The tanh is computed again in the backward pass: nothing of size T·S·A exists. */
#ifndef ATTN_KERNEL_BODY_ADDITIVE_H
#define ATTN_KERNEL_BODY_ADDITIVE_H

#include "kernel/body/activation.h"

/* e[j] for n keys and one query. Two chains along a, added; then the lanes. */
static void additive_energy(float *e, const float *sq, const float *hk, ptrdiff_t hk_stride, const float *v, size_t n,
                            size_t width) {
    for (size_t j = 0; j < n; j++, hk += hk_stride) {
        V even = v_zero(), odd = v_zero();
        size_t a = 0;
        for (; a + 2 * V_LANES <= width; a += 2 * V_LANES) {
            V t = v_tanh(v_add(v_load(sq + a), v_load(hk + a)));
            V u = v_tanh(v_add(v_load(sq + a + V_LANES), v_load(hk + a + V_LANES)));
            even = v_fma(v_load(v + a), t, even);
            odd = v_fma(v_load(v + a + V_LANES), u, odd);
        }
        for (; a < width; a += V_LANES) {
            size_t m = width - a < V_LANES ? width - a : V_LANES;
            V t = v_tanh(v_add(v_load_n(sq + a, m), v_load_n(hk + a, m)));
            even = v_fma(v_load_n(v + a, m), t, even);
        }
        e[j] = v_sum(v_add(even, odd));
    }
}

/* Gradients for `width` columns of all t × s pairs. With g = de_ij and d = g·v·(1 − tanh²), in the order of (i, j):
 *     dsq_i += d    dhk_j += d    dv += g·tanh
 * dsq, dhk and dv may be NULL. Without accumulate the sums start from 0; dv always does. */
static void additive_bwd(const attn_additive_bwd *p) {
    for (size_t a = 0; a < p->width; a += V_LANES) {
        size_t m = p->width - a < V_LANES ? p->width - a : V_LANES;
        V v = v_load_n(p->v + a, m), dv = v_zero(), one = v_set(1.0f);
        for (size_t i = 0; i < p->t; i++) {
            const float *de = p->de + (ptrdiff_t)i * p->de_stride;
            float *dsq_row = p->dsq ? p->dsq + (ptrdiff_t)i * p->dsq_stride + a : NULL;
            V sq = v_load_n(p->sq + (ptrdiff_t)i * p->sq_stride + a, m);
            V dsq = dsq_row && p->accumulate ? v_load_n(dsq_row, m) : v_zero();
            for (size_t j = 0; j < p->s; j++) {
                V g = v_set(de[j]), t = v_tanh(v_add(sq, v_load_n(p->hk + (ptrdiff_t)j * p->hk_stride + a, m)));
                V gv = v_mul(g, v), slope = v_fnma(t, t, one);
                dv = v_fma(g, t, dv);
                dsq = v_fma(gv, slope, dsq);
                if (!p->dhk) continue;
                float *dhk = p->dhk + (ptrdiff_t)j * p->dhk_stride + a;
                v_store_n(dhk, v_fma(gv, slope, i || p->accumulate ? v_load_n(dhk, m) : v_zero()), m);
            }
            if (dsq_row) v_store_n(dsq_row, dsq, m);
        }
        if (p->dv) v_store_n(p->dv + a, dv, m);
    }
}

#endif
