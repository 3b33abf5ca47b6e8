/* partial.h: a step over the lanes of one vector, written once for whole vectors and for the rest of a row.
 *
 *     size_t i = 0;
 *     for (; i + V_LANES <= n; i += V_LANES) step(y + i, x + i, V_LANES);   // n known: no masks are left
 *     if (i < n) step(y + i, x + i, n - i); */
#ifndef ATTN_KERNEL_BODY_PARTIAL_H
#define ATTN_KERNEL_BODY_PARTIAL_H

V_FN V part_load(const float *p, size_t n) { return n == V_LANES ? v_load(p) : v_load_n(p, n); }
V_FN void part_store(float *p, V a, size_t n) {
    if (n == V_LANES) v_store(p, a);
    else v_store_n(p, a, n);
}
/* a with zeros from lane n on. */
V_FN V part_keep(V a, size_t n) { return n == V_LANES ? a : v_and_mask(v_first(n), a); }
/* p = a, or p += a. */
V_FN void part_add(float *p, V a, size_t n, bool accumulate) {
    part_store(p, accumulate ? v_add(part_load(p, n), a) : a, n);
}

#endif
