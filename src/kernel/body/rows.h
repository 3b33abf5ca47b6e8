/* rows.h: sums over a row, and products of a vector with rows that lie a stride apart.
 *
 * A sum over a row has four chains, vector i in chain i mod 4; the chains are added in pairs, then the lanes. So its
 * bits depend on the row alone. */
#ifndef ATTN_KERNEL_BODY_ROWS_H
#define ATTN_KERNEL_BODY_ROWS_H

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

/* out[i] = Σ_j w[j·w_stride]·rows[j][i], in the order of j; with accumulate the chain starts from out. */
static void rows_mix(float *out, const float *w, ptrdiff_t w_stride, const float *rows, ptrdiff_t stride, size_t n,
                     size_t width, bool accumulate) {
    size_t i = 0;
    for (; i + 4 * V_LANES <= width; i += 4 * V_LANES) {
        V a = v_zero(), b = a, c = a, d = a;
        if (accumulate) {
            a = v_load(out + i), b = v_load(out + i + V_LANES);
            c = v_load(out + i + 2 * V_LANES), d = v_load(out + i + 3 * V_LANES);
        }
        for (size_t j = 0; j < n; j++) {
            const float *row = rows + (ptrdiff_t)j * stride + i;
            V weight = v_set(w[(ptrdiff_t)j * w_stride]);
            a = v_fma(weight, v_load(row), a);
            b = v_fma(weight, v_load(row + V_LANES), b);
            c = v_fma(weight, v_load(row + 2 * V_LANES), c);
            d = v_fma(weight, v_load(row + 3 * V_LANES), d);
        }
        v_store(out + i, a), v_store(out + i + V_LANES, b);
        v_store(out + i + 2 * V_LANES, c), v_store(out + i + 3 * V_LANES, d);
    }
    for (; i < width; i += V_LANES) {
        size_t m = width - i < V_LANES ? width - i : V_LANES;
        V a = accumulate ? v_load_n(out + i, m) : v_zero();
        for (size_t j = 0; j < n; j++)
            a = v_fma(v_set(w[(ptrdiff_t)j * w_stride]), v_load_n(rows + (ptrdiff_t)j * stride + i, m), a);
        v_store_n(out + i, a, m);
    }
}

#endif
