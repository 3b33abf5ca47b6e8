/* Attention on tensors whose elements lie more than 2^31 elements apart, in memory that is mapped but mostly never
 * touched, gives the bits of the same numbers side by side; so do keys whose numbers are past 2^31. */
#include "kern/attention_case.h"

#include <stdio.h>

enum { B = 2, H = 4, HK = 2, T = 3, S = 5, D = 12, DV = 9, MAPS = 32 };

static struct {
    void *start;
    size_t bytes;
} maps[MAPS];
static size_t map_count;

static void *map_sparse(size_t bytes) {
    void *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED || map_count == MAPS) return NULL;
    maps[map_count].start = start, maps[map_count++].bytes = bytes;
    return start;
}
static void unmap_all(void) {
    while (map_count > 0) map_count--, munmap(maps[map_count].start, maps[map_count].bytes);
}

/* The same elements, with 2^31 + 24 elements between neighbours of dimension `far`. False: no address space. */
static bool spread(attn_tensor *to, const attn_tensor *t, int far) {
    *to = *t;
    if (far >= t->rank - 1 && t->rank > 3) far = t->rank - 2;
    ptrdiff_t extent = (ptrdiff_t)t->shape[t->rank - 1];
    for (int d = t->rank - 2; d >= 0; d--)
        if (d != far) to->stride[d] = extent, extent *= (ptrdiff_t)t->shape[d];
    to->stride[far] = ((ptrdiff_t)1 << 31) + 24;
    const size_t size = attn_dtype_size(t->dtype), n = attn_tensor_count(t);
    to->data = map_sparse(((t->shape[far] - 1) * (size_t)to->stride[far] + (size_t)extent) * size);
    if (!to->data) return false;
    for (size_t i = 0; i < n; i++)
        memcpy((char *)to->data + ref_place(to, i) * (ptrdiff_t)size,
               (const char *)t->data + ref_place(t, i) * (ptrdiff_t)size, size);
    return true;
}

static attn_tensor tensor_of(int rank, size_t a, size_t b, size_t c, size_t d) {
    attn_tensor t = attn_tensor_f32(NULL, rank, a, b, c, d);
    t.data = guard_normal(attn_tensor_count(&t), 1);
    return t;
}

static void far_apart(void **state) {
    (void)state;
    for (int far = 0; far < 3; far++) FOR_LEVELS(level) {
            struct attention_case c = {.b = B, .h = H, .hk = HK, .t = T, .s = S, .d = D, .dv = DV}, wide;
            c.options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
            c.q = tensor_of(4, B, H, T, D), c.k = tensor_of(4, B, HK, S, D), c.v = tensor_of(4, B, HK, S, DV);
            c.dout = tensor_of(4, B, H, T, DV), c.dlse = tensor_of(3, B, H, T, 0), c.with_dlse = true;
            attn_tensor bias = tensor_of(4, B, H, T, S), mask = attn_tensor_of(NULL, ATTN_U8, 4, bias.shape), far_bias,
                        far_mask;
            mask.data = guard_bytes(attn_tensor_count(&mask));
            for (size_t i = 0; i < attn_tensor_count(&mask); i++) ref_store(&mask, (ptrdiff_t)i, i % 5 != 0);
            c.options.bias = &bias, c.options.mask = &mask;
            for (int x = 0; x < CASE_DSINKS; x++) c.wanted[x] = true;
            case_results(&c, LAYOUT_PLAIN);
            attn_context *ctx = case_context(*level, 2);
            assert_ok(ctx, case_run(ctx, &c));

            wide = c;
            bool mapped = spread(&wide.q, &c.q, far) && spread(&wide.k, &c.k, far) && spread(&wide.v, &c.v, far) &&
                          spread(&wide.dout, &c.dout, far) && spread(&wide.dlse, &c.dlse, far < 2 ? far : 0) &&
                          spread(&far_bias, &bias, far) && spread(&far_mask, &mask, far);
            attn_tensor results[CASE_RESULT_COUNT];
            for (int x = 0; mapped && x < CASE_DSINKS; x++) {
                size_t n = attn_tensor_count(&c.result[x]);
                float *kept = guard_copy(c.result[x].data, n);
                results[x] = c.result[x], results[x].data = kept;
                memset(c.result[x].data, 0xff, n * sizeof *kept);
                mapped = spread(&wide.result[x], &c.result[x], x == CASE_LSE && far == 2 ? 0 : far);
            }
            if (!mapped) {
                unmap_all(), case_release(), guard_release();
                skip();
            }
            wide.options.bias = &far_bias, wide.options.mask = &far_mask;
            assert_ok(ctx, case_run(ctx, &wide));
            for (int x = 0; x < CASE_DSINKS; x++) {
                const char *wrong = case_same_bits(case_result_names[x], &results[x], &wide.result[x]);
                if (wrong) fail_msg("%s, dimension %d: %s", *level, far, wrong);
            }
            unmap_all(), case_release(), guard_release();
        }
}

/* Queries behind more than 2^31 keys, of which they see the last ones through a window. */
static void many_keys(void **state) {
    (void)state;
    const size_t before = ((size_t)1 << 31) + 512, near = 700, all = before + near;
    FOR_LEVELS(level) {
        attn_context *ctx = case_context(*level, 2);
        attn_tensor q = tensor_of(4, 1, 2, T, 4), k = tensor_of(4, 1, 1, near, 4), v = tensor_of(4, 1, 1, near, 4);
        attn_tensor out = tensor_of(4, 1, 2, T, 4), lse = tensor_of(3, 1, 2, T, 0), far_k = k, far_v = v;
        attn_tensor far_out = tensor_of(4, 1, 2, T, 4), far_lse = tensor_of(3, 1, 2, T, 0);
        float *ks = map_sparse(all * 4 * sizeof *ks), *vs = map_sparse(all * 4 * sizeof *vs);
        if (!ks || !vs) {
            unmap_all(), guard_release();
            skip();
        }
        memcpy(ks + before * 4, k.data, near * 4 * sizeof *ks), memcpy(vs + before * 4, v.data, near * 4 * sizeof *vs);
        far_k.data = ks, far_v.data = vs, far_k.shape[2] = far_v.shape[2] = all;
        for (int d = 0; d < 2; d++) far_k.stride[d] = far_v.stride[d] = (ptrdiff_t)(all * 4);
        float slopes[2] = {0.01f, 0.3f};
        attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
        o.causal = ATTN_CAUSAL_BOTTOM_RIGHT, o.window_left = 600, o.alibi = slopes;
        assert_ok(ctx, attn_attention_fwd(ctx, &out, &lse, &q, &k, &v, &o));
        assert_ok(ctx, attn_attention_fwd(ctx, &far_out, &far_lse, &q, &far_k, &far_v, &o));
        const char *wrong = case_same_bits("out", &out, &far_out);
        if (!wrong) wrong = case_same_bits("lse", &lse, &far_lse);
        if (wrong) fail_msg("%s: %s", *level, wrong);
        unmap_all(), guard_release();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(far_apart), cmocka_unit_test(many_keys)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
