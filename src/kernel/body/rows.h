/* rows.h: sums over a row, and products of a vector with rows that lie a stride apart.
 *
 * A sum over a row has four chains, vector i in chain i mod 4; the chains are added in pairs, then the lanes. So its
 * bits depend on the row alone. */
#ifndef ATTN_KERNEL_BODY_ROWS_H
#define ATTN_KERNEL_BODY_ROWS_H

#include <string.h>

V_FN float row_dot(const float *x, const float *y, size_t n) {
    V a = v_zero(), b = v_zero(), c = v_zero(), d = v_zero();
    size_t i = 0;
    for (; i + 4 * V_LANES <= n; i += 4 * V_LANES) {
        a = v_fma(v_load(x + i), v_load(y + i), a);
        b = v_fma(v_load(x + i + V_LANES), v_load(y + i + V_LANES), b);
        c = v_fma(v_load(x + i + 2 * V_LANES), v_load(y + i + 2 * V_LANES), c);
        d = v_fma(v_load(x + i + 3 * V_LANES), v_load(y + i + 3 * V_LANES), d);
    }
    for (; i < n; i += V_LANES) { /* at most four, one a chain */
        size_t m = n - i < V_LANES ? n - i : V_LANES;
        V t = v_fma(v_load_n(x + i, m), v_load_n(y + i, m), a);
        a = b, b = c, c = d, d = t; /* the next chain moves to the front */
    }
    return v_sum(v_add(v_add(a, b), v_add(c, d)));
}

/* out[j] = scale · Σ_i x[i]·rows[j][i] */
static void rows_dot(float *out, const float *x, const float *rows, ptrdiff_t stride, size_t n, size_t width,
                     float scale) {
    for (size_t j = 0; j < n; j++) out[j] = scale * row_dot(x, rows + (ptrdiff_t)j * stride, width);
}

/* out += Σ of `count` rows, or = without `add`; the sums of an element stay in the order of rows. */
V_FN void rows_mix_few(float *out, const float *w, ptrdiff_t w_stride, const float *rows, ptrdiff_t stride,
                       size_t width, size_t count, bool add) {
    V weight[8];
    for (size_t j = 0; j < count; j++) weight[j] = v_set(w[(ptrdiff_t)j * w_stride]);
    for (size_t i = 0; i + V_LANES <= width; i += V_LANES) {
        V sum = add ? v_load(out + i) : v_zero();
        for (size_t j = 0; j < count; j++) sum = v_fma(weight[j], v_load(rows + (ptrdiff_t)j * stride + i), sum);
        v_store(out + i, sum);
    }
    size_t m = width % V_LANES, i = width - m;
    if (m == 0) return;
    V sum = add ? v_load_n(out + i, m) : v_zero();
    for (size_t j = 0; j < count; j++) sum = v_fma(weight[j], v_load_n(rows + (ptrdiff_t)j * stride + i, m), sum);
    v_store_n(out + i, sum, m);
}

/* out[i] = Σ_j w[j·w_stride]·rows[j][i], in the order of j; with accumulate the chain starts from out. Some rows at a
 * time, each read along its length: rows may lie far apart, and memory is fast in one direction only. */
static void rows_mix(float *out, const float *w, ptrdiff_t w_stride, const float *rows, ptrdiff_t stride, size_t n,
                     size_t width, bool accumulate) {
    size_t j = 0;
    if (n == 0 && !accumulate) memset(out, 0, width * sizeof *out);
    for (; j + 8 <= n; j += 8) /* eight streams */
        rows_mix_few(out, w + (ptrdiff_t)j * w_stride, w_stride, rows + (ptrdiff_t)j * stride, stride, width, 8,
                     accumulate || j > 0);
    for (; j + 2 <= n; j += 2)
        rows_mix_few(out, w + (ptrdiff_t)j * w_stride, w_stride, rows + (ptrdiff_t)j * stride, stride, width, 2,
                     accumulate || j > 0);
    if (j < n)
        rows_mix_few(out, w + (ptrdiff_t)j * w_stride, w_stride, rows + (ptrdiff_t)j * stride, stride, width, 1,
                     accumulate || j > 0);
}

#endif
