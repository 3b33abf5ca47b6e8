/* additive.h: the energies of additive attention (Bahdanau, Cho & Bengio 2015) and their gradients.
 *
 *     e_ij = Σ_a v_a tanh(sq_ia + hk_ja)
 *
 * The tanh is computed again in the backward pass: nothing of size T·S·A exists. */
#ifndef ATTN_KERNEL_BODY_ADDITIVE_H
#define ATTN_KERNEL_BODY_ADDITIVE_H

#include "kernel/body/activation.h"
#include "kernel/body/partial.h"
#include <string.h>

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

/* One pair: with d = g·v·(1 − tanh²), dsq += d, dhk += d (= d without add), dv += g·tanh, for n ≤ V_LANES columns. */
V_FN void additive_bwd_columns(float *dsq, float *dhk, float *dv, const float *sq, const float *hk, const float *v, V g,
                               size_t n, bool add) {
    V t = v_tanh(v_add(part_load(sq, n), part_load(hk, n)));
    V gv = v_mul(g, part_load(v, n)), slope = v_fnma(t, t, v_set(1.0f));
    if (dv) part_store(dv, v_fma(g, t, part_load(dv, n)), n);
    if (dsq) part_store(dsq, v_fma(gv, slope, part_load(dsq, n)), n);
    if (dhk) part_store(dhk, v_fma(gv, slope, add ? part_load(dhk, n) : v_zero()), n);
}

/* Gradients for `width` columns of all t × s pairs, in the order of (i, j), each pair along its row: keys may lie far
 * apart. dsq, dhk and dv may be NULL. Without accumulate the sums start from 0; dv always does. */
static void additive_bwd(const attn_additive_bwd *p) {
    if (p->dv) memset(p->dv, 0, p->width * sizeof *p->dv);
    for (size_t j = 0; p->t == 0 && p->dhk && !p->accumulate && j < p->s; j++) /* no pair writes it */
        memset(p->dhk + (ptrdiff_t)j * p->dhk_stride, 0, p->width * sizeof *p->dhk);
    for (size_t i = 0; i < p->t; i++) {
        const float *sq = p->sq + (ptrdiff_t)i * p->sq_stride, *de = p->de + (ptrdiff_t)i * p->de_stride;
        float *dsq = p->dsq ? p->dsq + (ptrdiff_t)i * p->dsq_stride : NULL, *dv = p->dv;
        if (dsq && !p->accumulate) memset(dsq, 0, p->width * sizeof *dsq);
        for (size_t j = 0; j < p->s; j++) {
            const float *hk = p->hk + (ptrdiff_t)j * p->hk_stride;
            float *dhk = p->dhk ? p->dhk + (ptrdiff_t)j * p->dhk_stride : NULL;
            bool add = i > 0 || p->accumulate;
            V g = v_set(de[j]);
            size_t a = 0;
            for (; a + V_LANES <= p->width; a += V_LANES)
                additive_bwd_columns(dsq ? dsq + a : NULL, dhk ? dhk + a : NULL, dv ? dv + a : NULL, sq + a, hk + a,
                                     p->v + a, g, V_LANES, add);
            if (a < p->width)
                additive_bwd_columns(dsq ? dsq + a : NULL, dhk ? dhk + a : NULL, dv ? dv + a : NULL, sq + a, hk + a,
                                     p->v + a, g, p->width - a, add);
        }
    }
}

#endif
