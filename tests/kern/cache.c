/* The cache of keys and values: the same bits as prefill, whatever happened to it; errors that change nothing; states
 * from anybody. */
#include "kern/cache_history.h"

#include <stdio.h>

/* ATTN_CACHE_HISTORIES: so many for each level and dtype. */
static size_t histories(void) {
    const char *text = getenv("ATTN_CACHE_HISTORIES");
    return text ? strtoul(text, NULL, 10) : 60;
}

static void live(const char *level, attn_dtype dtype, uint64_t seed) {
    attn_context *ctx = guard_context(level, 1 + (int)(seed % 3));
    struct history h;
    history_begin(&h, ctx, seed, dtype);
    for (int step = 0; step < 12; step++) {
        history_step(&h);
        if (step % 3 == 2) history_check(&h);
    }
    history_end(&h);
    attn_context_free(ctx);
}

static void test_histories(void **state) {
    (void)state;
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_F16, ATTN_I8};
    const char *only = getenv("ATTN_CACHE_SEED");
    FOR_LEVELS(level) {
        for (size_t i = 0; i < 4; i++) {
            if (only) live(*level, dtypes[i], strtoul(only, NULL, 10));
            for (size_t seed = 0; !only && seed < histories(); seed++) live(*level, dtypes[i], seed * 4 + i);
        }
    }
}

/* ---- few queries on rows ------------------------------------------------------------------------------------ */

static float *junk(struct history *h, size_t n) {
    static const float values[] = {INFINITY, -INFINITY, NAN, 0.0f};
    float *x = history_numbers(h, ATTN_F32, n);
    for (size_t i = 0; i < n; i++)
        if (history_below(h, 400) == 0) x[i] = values[history_below(h, 4)];
    return x;
}

static bool same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

/* The last queries of a longer call, alone: T · group is small, so lanes are keys. */
static void test_few_queries(void **state) {
    (void)state;
    enum { LONG = 40 };
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 2);
        for (uint64_t seed = 0; seed < 150; seed++) {
            struct history h = {.random = seed + 77};
            const size_t b = 1 + history_below(&h, 2), hk = 1 + history_below(&h, 2),
                         group = HISTORY_ONE_OF(&h, 1, 2, 3, 7);
            const size_t t = 1 + history_below(&h, 2), s = LONG + history_below(&h, HISTORY_ONE_OF(&h, 30, 200, 1300));
            const size_t d = HISTORY_ONE_OF(&h, 1, 16, 31, 64, 80, 128, 200),
                         dv = HISTORY_ONE_OF(&h, 1, 16, 40, 64, 128);
            const size_t heads = hk * group;
            float *q = history_numbers(&h, ATTN_F32, b * heads * LONG * d), *k = junk(&h, b * s * hk * d),
                  *v = junk(&h, b * s * hk * dv);
            float *out = guard_floats(b * heads * LONG * dv), *own = guard_floats(b * heads * t * dv);
            float *lse = guard_floats(b * heads * LONG), *own_lse = guard_floats(b * heads * t);
            attn_tensor tq = attn_tensor_f32(q, 4, b, heads, (size_t)LONG, d), tk = attn_tensor_f32(k, 4, b, s, hk, d),
                        tv = attn_tensor_f32(v, 4, b, s, hk, dv), few;
            tk = attn_tensor_swap(&tk, 1, 2), tv = attn_tensor_swap(&tv, 1, 2);
            attn_tensor all = attn_tensor_f32(out, 4, b, heads, (size_t)LONG, dv),
                        y = attn_tensor_f32(own, 4, b, heads, t, dv),
                        l = attn_tensor_f32(lse, 3, b, heads, (size_t)LONG),
                        m = attn_tensor_f32(own_lse, 3, b, heads, t);
            assert_ok(ctx, attn_tensor_slice(ctx, &few, &tq, 2, LONG - t, t));
            attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
            o.causal = history_below(&h, 3) ? ATTN_CAUSAL_BOTTOM_RIGHT : ATTN_CAUSAL_NONE;
            if (o.causal && history_below(&h, 2)) o.window_left = (int64_t)history_below(&h, 600);
            if (history_below(&h, 4) == 0) o.softcap = 2.0f;
            uint8_t *mask = guard_bytes(s);
            float *bias = guard_normal(heads * s, 1.0f);
            for (size_t i = 0; i < s; i++) mask[i] = history_below(&h, 3) > 0;
            for (size_t i = 0; i < heads * s; i++)
                if (history_below(&h, 5) == 0) bias[i] = -INFINITY;
            const attn_tensor tm = attn_tensor_of(mask, ATTN_U8, 4, (size_t[]){1, 1, 1, s}),
                              tb = attn_tensor_f32(bias, 4, (size_t)1, heads, (size_t)1, s);
            if (history_below(&h, 3) == 0) o.mask = &tm;
            if (history_below(&h, 3) == 0) o.bias = &tb;
            assert_ok(ctx, attn_attention_fwd(ctx, &all, &l, &tq, &tk, &tv, &o));
            assert_ok(ctx, attn_attention_fwd(ctx, &y, &m, &few, &tk, &tv, &o));
            for (size_t i = 0; i < b * heads * t; i++) {
                const size_t its = i / t * LONG + LONG - t + i % t;
                if (!same(own + i * dv, out + its * dv, dv) || !same(own_lse + i, lse + its, 1))
                    fail_msg("%s, seed %d: row %zu of %zu sequences, %zu heads on %zu, %zu queries, %zu keys, D %zu Dv "
                             "%zu: other bits "
                             "(%a and %a)",
                             *level, (int)seed, i, b, heads, hk, t, s, d, dv, (double)own[i * dv],
                             (double)out[its * dv]);
            }
            guard_release();
        }
        attn_context_free(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few_queries),
        cmocka_unit_test(test_histories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
