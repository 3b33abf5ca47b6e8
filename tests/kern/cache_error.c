/* The cache against attention in double: as near as its dtype allows; I8 within what its scales allow. The same bits
 * from any number of threads. */
#include "kern/cache_history.h"

#include <stdio.h>

static double widened(const void *x, attn_dtype dtype, size_t i) {
    if (dtype == ATTN_F32) return (double)((const float *)x)[i];
    const uint16_t half = ((const uint16_t *)x)[i];
    if (dtype == ATTN_BF16) {
        const uint32_t bits = (uint32_t)half << 16;
        float y;
        memcpy(&y, &bits, sizeof y);
        return (double)y;
    }
    const int exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    const double size = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
    return half & 0x8000 ? -size : size;
}

static double scale_of(const void *x, attn_dtype dtype, size_t from, size_t n) {
    double most = 0;
    for (size_t i = 0; i < n; i++) { /* not by fmax, which GCC 12 fails on for aarch64 */
        const double size = fabs(widened(x, dtype, from + i));
        if (size > most) most = size;
    }
    return most / 127;
}

enum { KEYS = 900 };

/* One sequence, HK key heads, one query: error of each output against its bound. */
static double worst_of(attn_context *ctx, attn_dtype dtype, attn_dtype given, size_t hk, size_t group, size_t d,
                       size_t dv) {
    struct history h = {.random = d * 31 + dv};
    attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
    o.sequences = 1, o.key_heads = hk, o.d = d, o.dv = dv, o.dtype = dtype, o.capacity = KEYS, o.page = 16;
    attn_kv_cache *cache;
    assert_ok(ctx, attn_kv_cache_create(&cache, ctx, &o));
    const size_t heads = hk * group, size = attn_dtype_size(given);
    void *k = history_numbers(&h, given, hk * KEYS * d), *v = history_numbers(&h, given, hk * KEYS * dv),
         *q = history_numbers(&h, given, heads * d);
    unsigned char *y = guard_bytes(heads * dv * size);
    const attn_tensor tk = attn_tensor_of(k, given, 4, (size_t[]){1, hk, KEYS, d}),
                      tv = attn_tensor_of(v, given, 4, (size_t[]){1, hk, KEYS, dv}),
                      tq = attn_tensor_of(q, given, 4, (size_t[]){1, heads, 1, d}),
                      out = attn_tensor_of(y, given, 4, (size_t[]){1, heads, 1, dv});
    assert_ok(ctx, attn_kv_cache_append(ctx, cache, &tk, &tv, NULL));
    assert_ok(ctx, attn_kv_cache_attend(ctx, &out, NULL, &tq, cache, NULL));
    attn_kv_cache_free(ctx, cache);
    const double scale = 1 / sqrt((double)d), round_out = given == ATTN_F32   ? 0x1p-24
                                                          : given == ATTN_F16 ? 0x1p-11
                                                                              : 0x1p-8;
    double worst = 0, p[KEYS];
    for (size_t head = 0; head < heads; head++) {
        const size_t kh = head / group;
        const double q_scale = scale_of(q, given, head * d, d);
        double sum = 0, top = -1e300, off = 0, widest = 0;
        for (size_t j = 0; j < KEYS; j++) {
            const size_t row = (kh * KEYS + j) * d;
            const double k_scale = scale_of(k, given, row, d);
            double s = 0, bound = 0, terms = 0;
            for (size_t i = 0; i < d; i++) {
                const double a = widened(q, given, head * d + i), b = widened(k, given, row + i);
                s += a * b, terms += fabs(a * b);
                /* (a + e)(b + f) − ab, |e| and |f| at most half a step each */
                bound += fabs(a) * k_scale / 2 + fabs(b) * q_scale / 2 + q_scale * k_scale / 4;
            }
            p[j] = s * scale;
            top = fmax(top, p[j]);
            widest = fmax(widest, terms * scale);
            off = fmax(off, bound * scale);
        }
        if (dtype != ATTN_I8) off = 0;
        for (size_t j = 0; j < KEYS; j++) sum += p[j] = exp(p[j] - top);
        const bool fast = given == ATTN_BF16 && dtype == ATTN_BF16;
        for (size_t c = 0; c < dv; c++) {
            double reference = 0, size_of = 0, v_bound = 0;
            for (size_t j = 0; j < KEYS; j++) {
                const size_t row = (kh * KEYS + j) * dv;
                const double x = widened(v, given, row + c);
                reference += p[j] / sum * x, size_of += p[j] / sum * fabs(x);
                if (dtype == ATTN_I8) v_bound += p[j] / sum * scale_of(v, given, row, dv) / 2;
            }
            /* weights are off by a factor e^±2·off; bf16 weights by 2⁻⁸ */
            const double e = expm1(2 * off), own = 0x1p-20 + 0x1p-21 * widest;
            const double bound =
                size_of * (e + own + (fast ? 0x1p-8 : 0)) + v_bound * (1 + e) + round_out * fabs(reference) + 1e-30;
            worst = fmax(worst, fabs(widened(y, given, head * dv + c) - reference) / bound);
        }
    }
    guard_release();
    return worst;
}

static void test_errors(void **state) {
    (void)state;
    static const attn_dtype given[] = {ATTN_F32, ATTN_BF16, ATTN_F16};
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 2);
        for (size_t i = 0; i < 3; i++)
            for (int i8 = 0; i8 < 2; i8++) {
                double worst = 0;
                worst = fmax(worst, worst_of(ctx, i8 ? ATTN_I8 : given[i], given[i], 2, 3, 64, 64));
                worst = fmax(worst, worst_of(ctx, i8 ? ATTN_I8 : given[i], given[i], 1, 7, 33, 20));
                worst = fmax(worst, worst_of(ctx, i8 ? ATTN_I8 : given[i], given[i], 1, 1, 128, 128));
                if (getenv("ATTN_CACHE_VERBOSE"))
                    fprintf(stderr, "%s %s%s: error / bound %.3f\n", *level, attn_dtype_name(given[i]),
                            i8 ? " in an I8 cache" : "", worst);
                if (!(worst <= 1))
                    fail_msg("%s %s i8 %d: error / bound is %g", *level, attn_dtype_name(given[i]), i8, worst);
            }
        attn_context_free(ctx);
    }
}

/* One row as a cache of bytes keeps it; gives the scale. */
static double kept(double *to, const float *x, size_t n) {
    float most = 0;
    for (size_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    for (size_t i = 0; i < n; i++) to[i] = (double)rintf(x[i] * (127.0f / most));
    return (double)(most * (1.0f / 127.0f));
}

/* What bytes add to the rounding of q, k and v: against attention in double of what is kept, in units of the mean scale
 * of the values. */
static void bytes_add(attn_context *ctx, size_t keys, double *worst, double *mean) {
    enum { D = 64, GROUP = 5, MOST = 1500 };
    struct history h = {.random = keys};
    attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
    o.sequences = 1, o.key_heads = 1, o.d = D, o.dtype = ATTN_I8, o.capacity = keys;
    attn_kv_cache *cache;
    assert_ok(ctx, attn_kv_cache_create(&cache, ctx, &o));
    float *k = history_numbers(&h, ATTN_F32, keys * D), *v = history_numbers(&h, ATTN_F32, keys * D),
          *q = history_numbers(&h, ATTN_F32, GROUP * D), *y = guard_floats(GROUP * D);
    const attn_tensor tk = attn_tensor_f32(k, 4, (size_t)1, (size_t)1, keys, (size_t)D),
                      tv = attn_tensor_f32(v, 4, (size_t)1, (size_t)1, keys, (size_t)D),
                      tq = attn_tensor_f32(q, 4, (size_t)1, (size_t)GROUP, (size_t)1, (size_t)D),
                      out = attn_tensor_f32(y, 4, (size_t)1, (size_t)GROUP, (size_t)1, (size_t)D);
    assert_ok(ctx, attn_kv_cache_append(ctx, cache, &tk, &tv, NULL));
    assert_ok(ctx, attn_kv_cache_attend(ctx, &out, NULL, &tq, cache, NULL));
    attn_kv_cache_free(ctx, cache);
    *worst = *mean = 0;
    for (size_t r = 0; r < GROUP; r++) {
        double one[D], own[D], p[MOST], expected[D] = {0}, sum = 0, scale = 0, top = -1e300;
        const double q_scale = kept(own, q + r * D, D);
        for (size_t j = 0; j < keys; j++) {
            const double by = kept(one, k + j * D, D) * q_scale / sqrt((double)D);
            p[j] = 0;
            for (size_t i = 0; i < D; i++) p[j] += one[i] * own[i] * by;
            top = fmax(top, p[j]);
        }
        for (size_t j = 0; j < keys; j++) sum += p[j] = exp(p[j] - top);
        for (size_t j = 0; j < keys; j++) {
            const double by = kept(one, v + j * D, D) * p[j] / sum;
            scale += by;
            for (size_t i = 0; i < D; i++) expected[i] += one[i] * by;
        }
        for (size_t i = 0; i < D; i++) {
            const double off = fabs((double)y[r * D + i] - expected[i]) / scale;
            *worst = fmax(*worst, off), *mean += off * off / (GROUP * D);
        }
    }
    *mean = sqrt(*mean);
    guard_release();
}

static void test_bytes_add(void **state) {
    (void)state;
    static const struct {
        size_t keys;
        double worst, mean; /* worst: half a step, the sum over its parts, for 64 keys of at most 127 */
    } cases[] = {{20, 0.125, 0.005}, {200, 0.125, 0.002}, {1023, 0.125, 0.001}, {1024, 1.0, 0.008}, {1500, 1.0, 0.007}};
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 2);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            double worst, mean;
            bytes_add(ctx, cases[i].keys, &worst, &mean);
            if (getenv("ATTN_CACHE_VERBOSE"))
                fprintf(stderr, "%s, %zu keys: bytes add %.5f, in the mean %.5f\n", *level, cases[i].keys, worst, mean);
            if (!(worst <= cases[i].worst && mean <= cases[i].mean))
                fail_msg("%s, %zu keys: bytes add %g, in the mean %g", *level, cases[i].keys, worst, mean);
        }
        attn_context_free(ctx);
    }
}

/* A batch of lengths 0 to 3000 in one call: from 1, 2, 3 and 8 threads, and each sequence alone. */
static void test_batch(void **state) {
    (void)state;
    enum { B = 6, HK = 2, G = 3, D = 32 };
    static const int32_t lengths[B] = {3000, 0, 1, 513, 64, 1500};
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_I8};
    for (size_t n = 0; n < 3; n++) {
        struct history h = {.random = 3 + n};
        const attn_dtype given = dtypes[n] == ATTN_BF16 ? ATTN_BF16 : ATTN_F32;
        const size_t size = attn_dtype_size(given), bytes = (size_t)B * HK * G * D * size;
        void *k = history_numbers(&h, given, (size_t)B * HK * 3000 * D),
             *v = history_numbers(&h, given, (size_t)B * HK * 3000 * D),
             *q = history_numbers(&h, given, (size_t)B * HK * G * D);
        unsigned char *first = guard_bytes(bytes), *other = guard_bytes(bytes), *alone = guard_bytes(bytes / B);
        for (int threads = 1; threads <= 8; threads += threads < 3 ? 1 : 5) {
            attn_context *ctx = guard_context(best_level(), threads);
            attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
            o.sequences = B, o.key_heads = HK, o.d = D, o.dtype = dtypes[n], o.capacity = 3000, o.page = 32;
            attn_kv_cache *cache;
            assert_ok(ctx, attn_kv_cache_create(&cache, ctx, &o));
            attn_tensor tk = attn_tensor_of(k, given, 4, (size_t[]){B, HK, 3000, D}),
                        tv = attn_tensor_of(v, given, 4, (size_t[]){B, HK, 3000, D}),
                        tq = attn_tensor_of(q, given, 4, (size_t[]){B, HK * G, 1, D}),
                        out = attn_tensor_of(threads == 1 ? first : other, given, 4, (size_t[]){B, HK * G, 1, D});
            assert_ok(ctx, attn_kv_cache_append(ctx, cache, &tk, &tv, lengths));
            assert_ok(ctx, attn_kv_cache_attend(ctx, &out, NULL, &tq, cache, NULL));
            if (threads > 1) assert_memory_equal(first, other, bytes);
            attn_kv_cache_free(ctx, cache);
            o.sequences = 1;
            for (size_t b = 0; b < B; b++) {
                attn_tensor one[4] = {tk, tv, tq, attn_tensor_of(alone, given, 4, (size_t[]){1, HK * G, 1, D})};
                for (int i = 0; i < 3; i++) assert_ok(ctx, attn_tensor_slice(ctx, one + i, one + i, 0, b, 1));
                assert_ok(ctx, attn_kv_cache_create(&cache, ctx, &o));
                assert_ok(ctx, attn_kv_cache_append(ctx, cache, one, one + 1, lengths + b));
                assert_ok(ctx, attn_kv_cache_attend(ctx, one + 3, NULL, one + 2, cache, NULL));
                assert_memory_equal(alone, first + b * bytes / B, bytes / B);
                attn_kv_cache_free(ctx, cache);
            }
            attn_context_free(ctx);
        }
        guard_release();
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_bytes_add),
        cmocka_unit_test(test_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
