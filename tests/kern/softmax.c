/* Softmax, log-softmax, cross entropy and top-k on every CPU level. */
#include "kern/guard.h"
#include "ref/ops.h"

struct weighted {
    double *x, *w; /* (n) */
    size_t n, target;
    double smoothing;
    bool log;
};

static double weighted_softmax(void *arg) {
    struct weighted *p = arg;
    double y[64], sum = 0, lse = ref_softmax(y, p->x, p->n);
    for (size_t i = 0; i < p->n; i++) sum += p->w[i] * (p->log ? p->x[i] - lse : y[i]);
    return sum;
}

static double loss_of(void *arg) {
    struct weighted *p = arg;
    return ref_cross_entropy(p->x, p->n, p->target, p->smoothing);
}

static void values(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            size_t n = guard_sizes[k], rows = 3;
            float *x = guard_normal(rows * n, 4), *y = guard_floats(rows * n);
            if (n > 2) x[1] = -INFINITY, x[n] = 1e30f;
            double *in = guard_doubles(x, rows * n), *expected = guard_doubles(NULL, rows * n);
            attn_tensor tx = attn_tensor_f32(x, 2, rows, n), ty = attn_tensor_f32(y, 2, rows, n);
            assert_ok(ctx, attn_softmax_fwd(ctx, &ty, &tx));
            for (size_t r = 0; r < rows; r++) ref_softmax(expected + r * n, in + r * n, n);
            assert_close("softmax", y, expected, rows * n, 1e-37, n < 500 ? 2e-6 : 6e-6); /* long chains in one lane */
            assert_ok(ctx, attn_log_softmax_fwd(ctx, &ty, &tx));
            for (size_t i = 0; i < rows * n; i++) expected[i] = in[i] - ref_softmax(NULL, in + i / n * n, n);
            assert_close("log softmax", y, expected, rows * n, 2e-6, 1e-6);
            assert_ok(ctx, attn_softmax_fwd(ctx, &ty, &tx));
            assert_ok(ctx, attn_softmax_fwd(ctx, &tx, &tx));
            assert_same_bits("in place", x, y, rows * n);
            guard_release();
        }
        attn_context_free(ctx);
    }
}

static void gradients(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t n = 1; n <= 40; n++) {
            for (int log = 0; log < 2; log++) {
                float *x = guard_normal(n, 1), *y = guard_floats(n), *dy = guard_normal(n, 1), *dx = guard_normal(n, 1);
                struct weighted p = {.x = guard_doubles(x, n), .w = guard_doubles(dy, n), .n = n, .log = log};
                double *expected = guard_doubles(dx, n), plain[64];
                for (size_t i = 0; i < n; i++) {
                    plain[i] = guard_slope(weighted_softmax, &p, &p.x[i]);
                    expected[i] += plain[i];
                }
                attn_tensor tx = attn_tensor_f32(x, 1, n), ty = attn_tensor_f32(y, 1, n);
                attn_tensor tdy = attn_tensor_f32(dy, 1, n), tdx = attn_tensor_f32(dx, 1, n);
                assert_ok(ctx, (log ? attn_log_softmax_fwd : attn_softmax_fwd)(ctx, &ty, &tx));
                assert_ok(ctx, (log ? attn_log_softmax_bwd : attn_softmax_bwd)(ctx, &tdx, &tdy, &ty, true));
                assert_close("dx +=", dx, expected, n, 2e-6, 1e-6);
                assert_ok(ctx, (log ? attn_log_softmax_bwd : attn_softmax_bwd)(ctx, &tdx, &tdy, &ty, false));
                assert_close("dx", dx, plain, n, 2e-6, 1e-6);
                guard_release();
            }
        }
        attn_context_free(ctx);
    }
}

static void edges(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t n = 1; n < 40; n += 6) {
            float *x = guard_floats(n), *y = guard_floats(n);
            attn_tensor tx = attn_tensor_f32(x, 1, n), ty = attn_tensor_f32(y, 1, n);
            for (size_t i = 0; i < n; i++) x[i] = -INFINITY;
            assert_ok(ctx, attn_softmax_fwd(ctx, &ty, &tx));
            for (size_t i = 0; i < n; i++) assert_true(y[i] == 0);
            assert_ok(ctx, attn_log_softmax_fwd(ctx, &ty, &tx));
            for (size_t i = 0; i < n; i++) assert_true(y[i] == -INFINITY);
            x[n / 2] = NAN; /* a row of −inf and NaN is not empty */
            assert_ok(ctx, attn_softmax_fwd(ctx, &ty, &tx));
            for (size_t i = 0; i < n; i++) assert_true(isnan(y[i]));
            guard_release();
        }
        attn_tensor empty = attn_tensor_f32(NULL, 2, (size_t)0, (size_t)5);
        assert_ok(ctx, attn_softmax_fwd(ctx, &empty, &empty));
        attn_context_free(ctx);
    }
}

/* e^x for x ≤ 0 shows in the softmax of (0, x), e^x for x > 0 in the gradient of a log-softmax of one element. */
static void exponential(void **state) {
    (void)state;
    enum { N = 40001 };
    float *x = malloc(2 * N * sizeof *x), *y = malloc(2 * N * sizeof *y), *one = malloc(N * sizeof *one);
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (int i = 0; i < N; i++) x[2 * i] = 0, x[2 * i + 1] = -87.3f * (float)i / N, one[i] = 1;
        attn_tensor tx = attn_tensor_f32(x, 2, (size_t)N, (size_t)2), ty = attn_tensor_f32(y, 2, (size_t)N, (size_t)2);
        assert_ok(ctx, attn_softmax_fwd(ctx, &ty, &tx));
        for (int i = 0; i < N; i++) {
            double e = exp((double)x[2 * i + 1]), expected = e / (1 + e);
            if (!(fabs((double)y[2 * i + 1] / expected - 1) < 2.4e-7)) /* e^x, the sum, its inverse, the product */
                fail_msg("%s: e^%g is off by %g", *level, (double)x[2 * i + 1], (double)y[2 * i + 1] / expected - 1);
        }
        for (int i = 0; i < N; i++) x[i] = 17.5f + 71.2f * (float)i / N; /* 1 − e^x is −e^x here */
        x[0] = 89, x[1] = 1000, x[2] = INFINITY, x[3] = 88.72f;
        attn_tensor tl = attn_tensor_f32(x, 2, (size_t)N, (size_t)1), td = attn_tensor_f32(y, 2, (size_t)N, (size_t)1);
        attn_tensor to = attn_tensor_f32(one, 2, (size_t)N, (size_t)1);
        assert_ok(ctx, attn_log_softmax_bwd(ctx, &td, &to, &tl, false));
        for (int i = 0; i < 3; i++) assert_true(y[i] == -INFINITY);
        for (int i = 3; i < N; i++) {
            double expected = 1 - exp((double)x[i]);
            if (!(fabs((double)y[i] / expected - 1) < 1.3e-7))
                fail_msg("%s: e^%g is off by %g", *level, (double)x[i], (double)y[i] / expected - 1);
        }
        attn_context_free(ctx);
    }
    free(x), free(y), free(one);
}

static void cross_entropy(void **state) {
    (void)state;
    static const float smoothings[] = {0, 0.1f};
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            for (int s = 0; s < 2; s++) {
                size_t n = guard_sizes[k], rows = 4;
                float *x = guard_normal(rows * n, 2), *d = guard_floats(rows * n), scale = 0.25f;
                int32_t targets[4] = {0, (int32_t)(n - 1), -1, (int32_t)(n / 2)};
                if (n > 3) x[n] = x[n + n / 2] = x[n + n - 1] = 9; /* a tie: the first one is the argmax */
                double *in = guard_doubles(x, rows * n), *expected = guard_doubles(NULL, rows * n);
                attn_loss_stats stats = {.loss = 10, .nll = 20, .tokens = 5, .correct = 1}, want = stats;
                for (size_t r = 0; r < rows; r++) {
                    struct weighted p = {.x = in + r * n, .n = n, .smoothing = (double)smoothings[s]};
                    if (targets[r] < 0) continue;
                    p.target = (size_t)targets[r];
                    want.loss += loss_of(&p);
                    want.nll += ref_cross_entropy(p.x, n, p.target, 0);
                    want.tokens++;
                    size_t best = 0;
                    for (size_t i = 0; i < n; i++)
                        if (p.x[i] > p.x[best]) best = i;
                    want.correct += best == p.target;
                    for (size_t i = 0; n <= 67 && i < n; i++)
                        expected[r * n + i] = (double)scale * guard_slope(loss_of, &p, &p.x[i]);
                }
                attn_tensor tx = attn_tensor_f32(x, 2, rows, n), td = attn_tensor_f32(d, 2, rows, n);
                assert_ok(ctx, attn_cross_entropy(ctx, &stats, &td, &tx, targets, smoothings[s], scale));
                assert_true(fabs(stats.loss - want.loss) < 1e-5 && fabs(stats.nll - want.nll) < 1e-5);
                assert_int_equal(stats.tokens, want.tokens);
                assert_int_equal(stats.correct, want.correct);
                if (n <= 67) assert_close("dlogits", d, expected, rows * n, 1e-6, 1e-6);
                attn_loss_stats alone = {.loss = 10, .nll = 20, .tokens = 5, .correct = 1};
                assert_ok(ctx, attn_cross_entropy(ctx, &alone, NULL, &tx, targets, smoothings[s], scale));
                assert_true(alone.loss == stats.loss && alone.nll == stats.nll);
                assert_ok(ctx, attn_cross_entropy(ctx, NULL, &tx, &tx, targets, smoothings[s], scale)); /* in place */
                assert_same_bits("in place", x, d, rows * n);
                guard_release();
            }
        }
        float x[6] = {1, 2, 3, 4, NAN, 6};
        int32_t targets[2] = {0, 0}, outside[2] = {0, 3};
        attn_tensor tx = attn_tensor_f32(x, 2, (size_t)2, (size_t)3);
        attn_loss_stats stats = {0};
        assert_ok(ctx, attn_cross_entropy(ctx, &stats, NULL, &tx, targets, 0.1f, 1));
        assert_true(isnan(stats.loss));
        assert_int_equal(attn_cross_entropy(ctx, &stats, NULL, &tx, outside, 0.1f, 1), ATTN_E_ARGUMENT);
        assert_string_equal(attn_error(ctx), "attn_cross_entropy: targets[1] is 3, expected less than 3");
        assert_int_equal(attn_cross_entropy(ctx, &stats, NULL, &tx, targets, -1, 1), ATTN_E_ARGUMENT);
        attn_context_free(ctx);
    }
}

/* Loss, statistics and gradients have the same bits for any number of threads, and a row's gradient is its own. */
static void cross_entropy_threads(void **state) {
    (void)state;
    enum { R = 70, N = 5003 };
    float *x = malloc(R * N * sizeof *x), *d[2] = {malloc(R * N * sizeof *x), malloc(R * N * sizeof *x)};
    int32_t targets[R];
    guard_fill(x, R * N, 3);
    for (int r = 0; r < R; r++) targets[r] = r % 7 ? r * 31 : -1;
    attn_tensor tx = attn_tensor_f32(x, 2, (size_t)R, (size_t)N);
    FOR_LEVELS(level) {
        attn_loss_stats first = {0};
        for (int t = 0; t < 4; t++) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            attn_tensor td = attn_tensor_f32(d[t > 0], 2, (size_t)R, (size_t)N);
            attn_loss_stats stats = {0};
            assert_ok(ctx, attn_cross_entropy(ctx, &stats, &td, &tx, targets, 0.1f, 1.0f / R));
            if (t == 0) first = stats;
            assert_true(stats.loss == first.loss && stats.nll == first.nll && stats.correct == first.correct);
            if (t) assert_same_bits("dlogits", d[1], d[0], R * N);
            attn_tensor row = attn_tensor_f32(x + 17 * N, 2, (size_t)1, (size_t)N);
            attn_tensor drow = attn_tensor_f32(d[1], 2, (size_t)1, (size_t)N);
            assert_ok(ctx, attn_cross_entropy(ctx, &stats, &drow, &row, targets + 17, 0.1f, 1.0f / R));
            assert_same_bits("one row", d[1], d[0] + 17 * N, N);
            attn_context_free(ctx);
        }
    }
    free(x), free(d[0]), free(d[1]);
}

static void top_k(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 2);
        for (size_t s = 0; s < GUARD_SIZES; s++) {
            size_t n = guard_sizes[s], rows = 3;
            for (size_t k = 1; k <= n && k <= 12; k++) {
                float *x = guard_normal(rows * n, 1), *best = guard_floats(rows * k);
                int32_t *ids = guard_bytes(rows * k * sizeof *ids);
                for (size_t i = 0; i < rows * n; i++) x[i] = roundf(x[i] * 3); /* many ties */
                if (n > 1) x[0] = NAN, x[n - 1] = -INFINITY, x[n + n / 2] = INFINITY;
                attn_tensor tx = attn_tensor_f32(x, 2, rows, n);
                assert_ok(ctx, attn_top_k(ctx, ids, best, &tx, k));
                for (size_t r = 0; r < rows; r++) {
                    bool *taken = guard_bytes(n);
                    memset(taken, 0, n);
                    for (size_t j = 0; j < k; j++) {
                        size_t at = n;
                        for (size_t i = 0; i < n; i++) {
                            float a = isnan(x[r * n + i]) ? -INFINITY : x[r * n + i];
                            float b = at < n && !isnan(x[r * n + at]) ? x[r * n + at] : -INFINITY;
                            if (!taken[i] && (at == n || a > b)) at = i;
                        }
                        taken[at] = true;
                        assert_int_equal(ids[r * k + j], at);
                        assert_true(best[r * k + j] == (isnan(x[r * n + at]) ? -INFINITY : x[r * n + at]));
                    }
                }
                guard_release();
            }
        }
        float x[3] = {0}, best[4];
        int32_t ids[4];
        attn_tensor tx = attn_tensor_f32(x, 1, (size_t)3);
        assert_int_equal(attn_top_k(ctx, ids, best, &tx, 4), ATTN_E_ARGUMENT);
        attn_context_free(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),      cmocka_unit_test(gradients),     cmocka_unit_test(edges),
        cmocka_unit_test(exponential), cmocka_unit_test(cross_entropy), cmocka_unit_test(cross_entropy_threads),
        cmocka_unit_test(top_k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
