/* gru.h: the pointwise part of a GRU step (Cho et al. 2014, reset after), gates in the order r, z, n.
 *
 *     r = σ(gx_r + gh_r)   z = σ(gx_z + gh_z)   n = tanh(gx_n + r·gh_n)   y = n + z·(h − n) */
#ifndef ATTN_KERNEL_BODY_GRU_H
#define ATTN_KERNEL_BODY_GRU_H

#include "kernel/body/activation.h"

/* One sequence; gx, gh, rzn have 3·size elements, y and h size. rzn may be NULL. */
static void gru_point_row(float *y, float *rzn, const float *gx, const float *gh, const float *h, size_t size) {
    for (size_t i = 0; i < size; i += V_LANES) {
        size_t m = size - i < V_LANES ? size - i : V_LANES;
        V r = v_sigmoid(v_add(v_load_n(gx + i, m), v_load_n(gh + i, m)));
        V z = v_sigmoid(v_add(v_load_n(gx + size + i, m), v_load_n(gh + size + i, m)));
        V n = v_tanh(v_fma(r, v_load_n(gh + 2 * size + i, m), v_load_n(gx + 2 * size + i, m)));
        v_store_n(y + i, v_fma(z, v_sub(v_load_n(h + i, m), n), n), m);
        if (!rzn) continue;
        v_store_n(rzn + i, r, m);
        v_store_n(rzn + size + i, z, m);
        v_store_n(rzn + 2 * size + i, n, m);
    }
}

static void gru_point_row_bwd(float *dgx, float *dgh, float *dh, const float *dy, const float *rzn, const float *gh,
                              const float *h, size_t size) {
    for (size_t i = 0; i < size; i += V_LANES) {
        size_t m = size - i < V_LANES ? size - i : V_LANES;
        V r = v_load_n(rzn + i, m), z = v_load_n(rzn + size + i, m), n = v_load_n(rzn + 2 * size + i, m);
        V d = v_load_n(dy + i, m), dz_y = v_mul(d, z);
        V dz = v_mul(v_mul(d, v_sub(v_load_n(h + i, m), n)), v_fnma(z, z, z));
        V dn = v_mul(v_sub(d, dz_y), v_fnma(n, n, v_set(1.0f)));
        V dr = v_mul(v_mul(dn, v_load_n(gh + 2 * size + i, m)), v_fnma(r, r, r));
        v_store_n(dgx + i, dr, m), v_store_n(dgh + i, dr, m);
        v_store_n(dgx + size + i, dz, m), v_store_n(dgh + size + i, dz, m);
        v_store_n(dgx + 2 * size + i, dn, m), v_store_n(dgh + 2 * size + i, v_mul(dn, r), m);
        v_store_n(dh + i, dz_y, m);
    }
}

#endif
