/* gru.h: the pointwise part of a GRU step (Cho et al. 2014, reset after), gates in the order r, z, n.
 *
 *     r = σ(gx_r + gh_r)   z = σ(gx_z + gh_z)   n = tanh(gx_n + r·gh_n)   y = n + z·(h − n) */
#ifndef ATTN_KERNEL_BODY_GRU_H
#define ATTN_KERNEL_BODY_GRU_H

#include "kernel/body/activation.h"
#include "kernel/body/partial.h"

/* n columns from i on. */
V_FN void gru_point_columns(float *y, float *rzn, const float *gx, const float *gh, const float *h, size_t size,
                            size_t i, size_t n) {
    V r = v_sigmoid(v_add(part_load(gx + i, n), part_load(gh + i, n)));
    V z = v_sigmoid(v_add(part_load(gx + size + i, n), part_load(gh + size + i, n)));
    V c = v_tanh(v_fma(r, part_load(gh + 2 * size + i, n), part_load(gx + 2 * size + i, n)));
    part_store(y + i, v_fma(z, v_sub(part_load(h + i, n), c), c), n);
    if (!rzn) return;
    part_store(rzn + i, r, n);
    part_store(rzn + size + i, z, n);
    part_store(rzn + 2 * size + i, c, n);
}

/* One sequence; gx, gh, rzn have 3·size elements, y and h size. rzn may be NULL. */
static void gru_point_row(float *y, float *rzn, const float *gx, const float *gh, const float *h, size_t size) {
    size_t i = 0;
    for (; i + V_LANES <= size; i += V_LANES) gru_point_columns(y, rzn, gx, gh, h, size, i, V_LANES);
    if (i < size) gru_point_columns(y, rzn, gx, gh, h, size, i, size - i);
}

V_FN void gru_point_columns_bwd(float *dgx, float *dgh, float *dh, const float *dy, const float *rzn, const float *gh,
                                const float *h, size_t size, size_t i, size_t n) {
    V r = part_load(rzn + i, n), z = part_load(rzn + size + i, n), c = part_load(rzn + 2 * size + i, n);
    V d = part_load(dy + i, n), direct = v_mul(d, z);
    V dz = v_mul(v_mul(d, v_sub(part_load(h + i, n), c)), v_fnma(z, z, z));
    V dc = v_mul(v_sub(d, direct), v_fnma(c, c, v_set(1.0f)));
    V dr = v_mul(v_mul(dc, part_load(gh + 2 * size + i, n)), v_fnma(r, r, r));
    part_store(dgx + i, dr, n), part_store(dgh + i, dr, n);
    part_store(dgx + size + i, dz, n), part_store(dgh + size + i, dz, n);
    part_store(dgx + 2 * size + i, dc, n), part_store(dgh + 2 * size + i, v_mul(dc, r), n);
    part_store(dh + i, direct, n);
}

static void gru_point_row_bwd(float *dgx, float *dgh, float *dh, const float *dy, const float *rzn, const float *gh,
                              const float *h, size_t size) {
    size_t i = 0;
    for (; i + V_LANES <= size; i += V_LANES) gru_point_columns_bwd(dgx, dgh, dh, dy, rzn, gh, h, size, i, V_LANES);
    if (i < size) gru_point_columns_bwd(dgx, dgh, dh, dy, rzn, gh, h, size, i, size - i);
}

#endif
