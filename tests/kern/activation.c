/* The activations on every CPU level: accuracy in ulps over the whole range, special values, shapes, in place, bits. */
#include "kern/guard.h"
#include "ref/ops.h"

#define INF INFINITY

/* The distance of y from the real number r, in units of the last place of r as a float; r below the smallest normal
 * number may be 0. */
static double ulps(float y, double r) {
    double size = fmax(fabs(r), 0x1p-126);
    int exponent;
    frexp(size, &exponent);
    if (fabs(r) < 0x1p-126 && y == 0) return 0;
    return fabs((double)y - r) / ldexp(1, exponent - 24);
}

static const struct bound {
    attn_activation act;
    double fwd; /* ulps of the result */
    double bwd; /* of the slope: absolute */
    float first, last;
} bounds[] = {
    {ATTN_TANH, 2, 2.5e-7, -20, 20}, {ATTN_SIGMOID, 2.2, 2e-7, -95, 95},    {ATTN_RELU, 0, 0, -10, 10},
    {ATTN_GELU, 6, 2.5e-7, -12, 20}, {ATTN_GELU_TANH, 130, 2.5e-7, -9, 20}, /* the tail of e^2u: 2u is rounded */
    {ATTN_SILU, 3, 2.5e-7, -80, 80}, {ATTN_IDENTITY, 0, 0, -10, 10},
};

static void accuracy(void **state) {
    (void)state;
    enum { N = 200001 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), *d = malloc(N * sizeof *d),
          *one = malloc(N * sizeof *one);
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < sizeof bounds / sizeof bounds[0]; k++) {
            const struct bound *bound = &bounds[k];
            for (int i = 0; i < N; i++) {
                one[i] = 1;
                /* half of them even over the range, half of them over all magnitudes */
                if (i % 2) x[i] = bound->first + (bound->last - bound->first) * (float)i / N;
                else x[i] = (float)ldexp(i % 4 ? 1 : -1, -40 + i % 43) * (1 + (float)i / N);
                if (x[i] < bound->first || x[i] > bound->last) x[i] = 0.5f;
            }
            attn_tensor tx = attn_tensor_f32(x, 1, (size_t)N), ty = attn_tensor_f32(y, 1, (size_t)N);
            attn_tensor td = attn_tensor_f32(d, 1, (size_t)N), to = attn_tensor_f32(one, 1, (size_t)N);
            assert_ok(ctx, attn_activation_fwd(ctx, &ty, &tx, bound->act));
            assert_ok(ctx, attn_activation_bwd(ctx, &td, &to, &tx, &ty, bound->act, false));
            double worst = 0, worst_slope = 0;
            float at = 0, at_slope = 0;
            for (int i = 0; i < N; i++) {
                double u = ulps(y[i], ref_activation((double)x[i], bound->act));
                double s = fabs((double)d[i] - ref_activation_slope((double)x[i], bound->act));
                if (u > worst) worst = u, at = x[i];
                if (s > worst_slope) worst_slope = s, at_slope = x[i];
            }
            if (!(worst <= bound->fwd))
                fail_msg("%s: activation %d: %.2f ulp at %g", *level, (int)bound->act, worst, (double)at);
            if (!(worst_slope <= bound->bwd))
                fail_msg("%s: activation %d: slope off by %.2g at %g", *level, (int)bound->act, worst_slope,
                         (double)at_slope);
        }
        attn_context_free(ctx);
    }
    free(x), free(y), free(d), free(one);
}

static void special_values(void **state) {
    (void)state;
    float x[] = {0.0f, -0.0f, NAN,    INF,     -INF,   88.7f,   -88.7f, 1e30f, -1e30f,
                 9.0f, -9.0f, 1e-30f, -1e-30f, 300.0f, -300.0f, 20.0f,  -20.0f};
    enum { N = sizeof x / sizeof x[0] };
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        float y[N], d[N], one[N];
        attn_tensor tx = attn_tensor_f32(x, 1, (size_t)N), ty = attn_tensor_f32(y, 1, (size_t)N);
        attn_tensor td = attn_tensor_f32(d, 1, (size_t)N), to = attn_tensor_f32(one, 1, (size_t)N);
        for (int i = 0; i < N; i++) one[i] = 1;
        for (int act = ATTN_IDENTITY; act <= ATTN_SILU; act++) {
            assert_ok(ctx, attn_activation_fwd(ctx, &ty, &tx, (attn_activation)act));
            assert_ok(ctx, attn_activation_bwd(ctx, &td, &to, &tx, &ty, (attn_activation)act, false));
            for (int i = 0; i < N; i++) {
                if (isnan(x[i])) {
                    assert_true(isnan(y[i]));
                    if (act != ATTN_IDENTITY && act != ATTN_RELU) assert_true(isnan(d[i]));
                    continue;
                }
                double slope = ref_activation_slope(fmin(fmax((double)x[i], -1e4), 1e4), (attn_activation)act);
                assert_true(fabs((double)d[i] - slope) < 1e-6);
                if (act == ATTN_TANH) {
                    assert_true(fabsf(y[i]) <= 1 && !signbit(y[i]) == !signbit(x[i]));
                    if (fabsf(x[i]) >= 20) assert_true(fabsf(y[i]) == 1);
                    if (fabsf(x[i]) <= 1e-30f) assert_true(y[i] == x[i]);
                }
                if (act == ATTN_SIGMOID) {
                    assert_true(y[i] >= 0 && y[i] <= 1);
                    if (x[i] < -100) assert_true(y[i] == 0);
                    if (x[i] > 100) assert_true(y[i] == 1);
                }
            }
        }
        attn_context_free(ctx);
    }
}

/* tanh over every exponent and many mantissas never leaves [−1, 1], is odd, and does not fall by more than an ulp. */
static void tanh_range(void **state) {
    (void)state;
    enum { N = 1 << 16 };
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y), *minus = malloc(N * sizeof *minus);
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        attn_tensor tx = attn_tensor_f32(x, 1, (size_t)N), ty = attn_tensor_f32(y, 1, (size_t)N);
        attn_tensor tm = attn_tensor_f32(minus, 1, (size_t)N);
        for (uint32_t first = 0x3d000000; first < 0x41400000; first += N * 16) {
            for (uint32_t i = 0; i < N; i++) {
                uint32_t bits = first + i * 16;
                memcpy(&x[i], &bits, sizeof bits);
            }
            assert_ok(ctx, attn_activation_fwd(ctx, &ty, &tx, ATTN_TANH));
            for (int i = 0; i < N; i++) x[i] = -x[i];
            assert_ok(ctx, attn_activation_fwd(ctx, &tm, &tx, ATTN_TANH));
            for (int i = 0; i < N; i++) {
                if (!(y[i] <= 1 && y[i] == -minus[i]))
                    fail_msg("tanh(%a) is %a, of −x %a", (double)-x[i], (double)y[i], (double)minus[i]);
                if (i && y[i] < y[i - 1] * (1 - 2.5e-7f)) fail_msg("tanh falls at %a", (double)-x[i]);
            }
        }
        attn_context_free(ctx);
    }
    free(x), free(y), free(minus);
}

static void shapes(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            size_t n = guard_sizes[k];
            for (int act = ATTN_IDENTITY; act <= ATTN_SILU; act++) {
                float *x = guard_normal(n, 2), *y = guard_floats(n), *dy = guard_normal(n, 1), *dx = guard_normal(n, 1);
                double *expected = guard_doubles(NULL, n), *slope = guard_doubles(dx, n);
                for (size_t i = 0; i < n; i++) expected[i] = ref_activation((double)x[i], (attn_activation)act);
                for (size_t i = 0; i < n; i++)
                    slope[i] += (double)dy[i] * ref_activation_slope((double)x[i], (attn_activation)act);
                attn_tensor tx = attn_tensor_f32(x, 1, n), ty = attn_tensor_f32(y, 1, n);
                attn_tensor tdy = attn_tensor_f32(dy, 1, n), tdx = attn_tensor_f32(dx, 1, n);
                assert_ok(ctx, attn_activation_fwd(ctx, &ty, &tx, (attn_activation)act));
                assert_close("y", y, expected, n, 1e-6, 1e-6);
                assert_ok(ctx, attn_activation_bwd(ctx, &tdx, &tdy, &tx, &ty, (attn_activation)act, true));
                assert_close("dx", dx, slope, n, 2e-6, 1e-6);
                assert_ok(ctx, attn_activation_fwd(ctx, &tx, &tx, (attn_activation)act)); /* in place */
                assert_same_bits("in place", x, y, n);
                guard_release();
            }
        }
        attn_context_free(ctx);
    }
}

static void threads(void **state) {
    (void)state;
    enum { N = 400003 };
    float *x = malloc(N * sizeof *x), *y[2] = {malloc(N * sizeof *x), malloc(N * sizeof *x)};
    guard_fill(x, N, 3);
    FOR_LEVELS(level) {
        for (int t = 0; t < 4; t++) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            attn_tensor tx = attn_tensor_f32(x, 1, (size_t)N), ty = attn_tensor_f32(y[t > 0], 1, (size_t)N);
            assert_ok(ctx, attn_activation_fwd(ctx, &ty, &tx, ATTN_GELU));
            if (t) assert_same_bits("gelu", y[1], y[0], N);
            attn_context_free(ctx);
        }
    }
    free(x), free(y[0]), free(y[1]);
}

static void refusals(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    float x[6] = {0}, y[6];
    attn_tensor a = attn_tensor_f32(x, 2, (size_t)2, (size_t)3), b = attn_tensor_f32(y, 2, (size_t)3, (size_t)2);
    assert_int_equal(attn_activation_fwd(ctx, &b, &a, ATTN_TANH), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "attn_activation_fwd: y has shape (3, 2), expected (2, 3)");
    assert_int_equal(attn_activation_fwd(ctx, NULL, &a, ATTN_TANH), ATTN_E_ARGUMENT);
    assert_int_equal(attn_activation_fwd(ctx, &a, &a, (attn_activation)99), ATTN_E_ARGUMENT);
    attn_tensor turned = attn_tensor_swap(&b, 0, 1);
    assert_int_equal(attn_activation_fwd(ctx, &turned, &a, ATTN_TANH), ATTN_E_UNSUPPORTED);
    a.dtype = ATTN_BF16;
    assert_int_equal(attn_activation_fwd(ctx, &a, &a, ATTN_TANH), ATTN_E_UNSUPPORTED);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accuracy), cmocka_unit_test(special_values), cmocka_unit_test(tanh_range),
        cmocka_unit_test(shapes),   cmocka_unit_test(threads),        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
