/* Layer and RMS normalisation on every CPU level: values, gradients against differences, bits over threads. */
#include "kern/guard.h"
#include "ref/ops.h"

struct problem {
    double *x, *gain, *bias, *w; /* (R, N) (N) (N) (R, N) */
    size_t rows, n;
    bool layer;
};

static double loss_of(void *arg) {
    struct problem *p = arg;
    double sum = 0, y[128], mean;
    for (size_t r = 0; r < p->rows; r++) {
        ref_norm(y, p->layer ? &mean : NULL, NULL, p->x + r * p->n, p->gain, p->layer ? p->bias : NULL, p->n, 1e-5);
        for (size_t i = 0; i < p->n; i++) sum += p->w[r * p->n + i] * y[i];
    }
    return sum;
}

static void one_size(attn_context *ctx, size_t n, bool layer) {
    size_t rows = 3;
    float *x = guard_normal(rows * n, 2), *y = guard_floats(rows * n), *gain = guard_normal(n, 1),
          *bias = guard_normal(n, 1);
    float *mean = guard_floats(rows), *rstd = guard_floats(rows);
    float *dy = guard_normal(rows * n, 1), *dx = guard_normal(rows * n, 1), *dgain = guard_normal(n, 1),
          *dbias = guard_normal(n, 1);
    for (size_t i = 0; i < n; i++) x[i] += 3; /* a mean that is not small */
    struct problem p = {guard_doubles(x, rows * n),
                        guard_doubles(gain, n),
                        guard_doubles(bias, n),
                        guard_doubles(dy, rows * n),
                        rows,
                        n,
                        layer};
    double *ey = guard_doubles(NULL, rows * n), emean[3] = {0}, erstd[3];
    for (size_t r = 0; r < rows; r++)
        ref_norm(ey + r * n, layer ? &emean[r] : NULL, &erstd[r], p.x + r * n, p.gain, layer ? p.bias : NULL, n, 1e-5);
    attn_tensor tx = attn_tensor_f32(x, 2, rows, n), ty = attn_tensor_f32(y, 2, rows, n);
    attn_tensor tg = attn_tensor_f32(gain, 1, n), tb = attn_tensor_f32(bias, 1, n);
    attn_tensor tm = attn_tensor_f32(mean, 1, rows), ts = attn_tensor_f32(rstd, 1, rows);
    if (layer) assert_ok(ctx, attn_layer_norm_fwd(ctx, &ty, &tm, &ts, &tx, &tg, &tb, 1e-5f));
    else assert_ok(ctx, attn_rms_norm_fwd(ctx, &ty, &ts, &tx, &tg, 1e-5f));
    double slack = layer && n < 4 ? 1e-3 : 1e-5; /* with few elements the variance may be tiny */
    assert_close("y", y, ey, rows * n, slack, slack);
    assert_close("rstd", rstd, erstd, rows, 0, slack);
    if (layer) assert_close("mean", mean, emean, rows, 1e-6, 1e-6);
    if (n > 67 || n == 1) return;

    double *ex = guard_doubles(dx, rows * n), *egain = guard_doubles(dgain, n), *ebias = guard_doubles(dbias, n);
    double rough = 0;
    for (size_t r = 0; r < rows; r++) rough = fmax(rough, erstd[r]);
    for (size_t i = 0; i < rows * n; i++) ex[i] += guard_slope(loss_of, &p, &p.x[i]);
    for (size_t i = 0; i < n; i++) {
        egain[i] += guard_slope(loss_of, &p, &p.gain[i]);
        ebias[i] += guard_slope(loss_of, &p, &p.bias[i]);
    }
    attn_tensor tdy = attn_tensor_f32(dy, 2, rows, n), tdx = attn_tensor_f32(dx, 2, rows, n);
    attn_tensor tdg = attn_tensor_f32(dgain, 1, n), tdb = attn_tensor_f32(dbias, 1, n);
    if (layer) assert_ok(ctx, attn_layer_norm_bwd(ctx, &tdx, &tdg, &tdb, &tdy, &tx, &tg, &tm, &ts, true));
    else assert_ok(ctx, attn_rms_norm_bwd(ctx, &tdx, &tdg, &tdy, &tx, &tg, &ts, true));
    if (rough < 10) { /* differences are no reference where the function bends within their step */
        assert_close("dx", dx, ex, rows * n, 3e-5, 1e-5);
        assert_close("dgain", dgain, egain, n, 3e-5, 1e-5);
    }
    if (layer) assert_close("dbias", dbias, ebias, n, 1e-6, 1e-6);
}

static void sizes(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++)
            for (int layer = 0; layer < 2; layer++) {
                one_size(ctx, guard_sizes[k], layer);
                guard_release();
            }
        attn_context_free(ctx);
    }
}

static void threads(void **state) {
    (void)state;
    enum { R = 301, N = 515 };
    static float x[R * N], dy[R * N], gain[N], y[2][R * N], dx[2][R * N], dgain[2][N], dbias[2][N], mean[R], rstd[R];
    guard_fill(x, R * N, 2), guard_fill(dy, R * N, 1), guard_fill(gain, N, 1);
    FOR_LEVELS(level) {
        for (int t = 0; t < 4; t++) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            int k = t > 0;
            attn_tensor tx = attn_tensor_f32(x, 2, (size_t)R, (size_t)N),
                        tdy = attn_tensor_f32(dy, 2, (size_t)R, (size_t)N);
            attn_tensor ty = attn_tensor_f32(y[k], 2, (size_t)R, (size_t)N),
                        tdx = attn_tensor_f32(dx[k], 2, (size_t)R, (size_t)N);
            attn_tensor tg = attn_tensor_f32(gain, 1, (size_t)N), tm = attn_tensor_f32(mean, 1, (size_t)R);
            attn_tensor ts = attn_tensor_f32(rstd, 1, (size_t)R), tdg = attn_tensor_f32(dgain[k], 1, (size_t)N);
            attn_tensor tdb = attn_tensor_f32(dbias[k], 1, (size_t)N);
            assert_ok(ctx, attn_layer_norm_fwd(ctx, &ty, &tm, &ts, &tx, &tg, NULL, 1e-5f));
            assert_ok(ctx, attn_layer_norm_bwd(ctx, &tdx, &tdg, &tdb, &tdy, &tx, &tg, &tm, &ts, false));
            if (k) {
                assert_same_bits("y", y[1], y[0], R * N);
                assert_same_bits("dx", dx[1], dx[0], R * N);
                assert_same_bits("dgain", dgain[1], dgain[0], N);
                assert_same_bits("dbias", dbias[1], dbias[0], N);
            }
            attn_context_free(ctx);
        }
    }
}

static void refusals(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    float x[6] = {0}, g[3] = {1, 1, 1};
    attn_tensor tx = attn_tensor_f32(x, 2, (size_t)2, (size_t)3), tg = attn_tensor_f32(g, 1, (size_t)2);
    assert_int_equal(attn_layer_norm_fwd(ctx, &tx, NULL, NULL, &tx, &tg, NULL, 1e-5f), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "attn_layer_norm_fwd: gain has shape (2), expected (3)");
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(threads), cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
