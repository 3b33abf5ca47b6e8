/* The pointwise part of a GRU step on every CPU level. */
#include "kern/guard.h"
#include "ref/ops.h"

struct problem {
    double *gx, *gh, *h, *w; /* (B, 3H) (B, 3H) (B, H) (B, H) */
    const uint8_t *active;
    size_t batch, size;
};

static double loss_of(void *arg) {
    struct problem *p = arg;
    double sum = 0, y[128];
    for (size_t b = 0; b < p->batch; b++) {
        ref_gru_point(y, p->gx + 3 * b * p->size, p->gh + 3 * b * p->size, p->h + b * p->size, p->size);
        for (size_t i = 0; i < p->size; i++)
            sum += p->w[b * p->size + i] * (p->active[b] ? y[i] : p->h[b * p->size + i]);
    }
    return sum;
}

static void one_size(attn_context *ctx, size_t size) {
    enum { B = 3 };
    static const uint8_t active[B] = {1, 0, 1};
    size_t n = B * size;
    float *gx = guard_normal(3 * n, 1), *gh = guard_normal(3 * n, 1), *h = guard_normal(n, 0.5f), *y = guard_floats(n);
    float *rzn = guard_floats(3 * n), *dy = guard_normal(n, 1), *dgx = guard_floats(3 * n), *dgh = guard_floats(3 * n);
    float *dh = guard_floats(n);
    struct problem p = {
        guard_doubles(gx, 3 * n), guard_doubles(gh, 3 * n), guard_doubles(h, n), guard_doubles(dy, n), active, B, size};
    attn_tensor tgx = attn_tensor_f32(gx, 2, (size_t)B, 3 * size), tgh = attn_tensor_f32(gh, 2, (size_t)B, 3 * size);
    attn_tensor th = attn_tensor_f32(h, 2, (size_t)B, size), ty = attn_tensor_f32(y, 2, (size_t)B, size);
    attn_tensor trzn = attn_tensor_f32(rzn, 2, (size_t)B, 3 * size), tdy = attn_tensor_f32(dy, 2, (size_t)B, size);
    attn_tensor tdgx = attn_tensor_f32(dgx, 2, (size_t)B, 3 * size),
                tdgh = attn_tensor_f32(dgh, 2, (size_t)B, 3 * size);
    attn_tensor tdh = attn_tensor_f32(dh, 2, (size_t)B, size);
    double *ey = guard_doubles(NULL, n);
    for (size_t b = 0; b < B; b++) {
        if (active[b]) ref_gru_point(ey + b * size, p.gx + 3 * b * size, p.gh + 3 * b * size, p.h + b * size, size);
        else memcpy(ey + b * size, p.h + b * size, size * sizeof *ey);
    }
    assert_ok(ctx, attn_gru_point_fwd(ctx, &ty, &trzn, &tgx, &tgh, &th, active));
    assert_close("y", y, ey, n, 5e-7, 1e-6);
    assert_ok(ctx, attn_gru_point_bwd(ctx, &tdgx, &tdgh, &tdh, &tdy, &trzn, &tgh, &th, active));
    if (size <= 67) {
        double *egx = guard_doubles(NULL, 3 * n), *egh = guard_doubles(NULL, 3 * n), *eh = guard_doubles(NULL, n);
        for (size_t i = 0; i < 3 * n; i++) egx[i] = guard_slope(loss_of, &p, &p.gx[i]);
        for (size_t i = 0; i < 3 * n; i++) egh[i] = guard_slope(loss_of, &p, &p.gh[i]);
        for (size_t i = 0; i < n; i++) eh[i] = guard_slope(loss_of, &p, &p.h[i]);
        assert_close("dgx", dgx, egx, 3 * n, 1e-6, 1e-6);
        assert_close("dgh", dgh, egh, 3 * n, 1e-6, 1e-6);
        assert_close("dh", dh, eh, n, 1e-6, 1e-6);
    }
    float *alone = guard_floats(n); /* without rzn, all active: the same bits */
    attn_tensor talone = attn_tensor_f32(alone, 2, (size_t)B, size);
    assert_ok(ctx, attn_gru_point_fwd(ctx, &talone, NULL, &tgx, &tgh, &th, NULL));
    assert_same_bits("y", alone, y, size);
    assert_same_bits("y", alone + 2 * size, y + 2 * size, size);
}

static void sizes(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            one_size(ctx, guard_sizes[k]);
            guard_release();
        }
        attn_context_free(ctx);
    }
}

static void threads(void **state) {
    (void)state;
    enum { B = 67, H = 1003 };
    static float gx[B * 3 * H], gh[B * 3 * H], h[B * H], y[2][B * H], rzn[2][B * 3 * H], dgx[2][B * 3 * H],
        dgh[B * 3 * H], dh[B * H];
    guard_fill(gx, B * 3 * H, 1), guard_fill(gh, B * 3 * H, 1), guard_fill(h, B * H, 1);
    FOR_LEVELS(level) {
        for (int t = 0; t < 4; t++) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            int k = t > 0;
            attn_tensor tgx = attn_tensor_f32(gx, 2, (size_t)B, (size_t)3 * H),
                        tgh = attn_tensor_f32(gh, 2, (size_t)B, (size_t)3 * H);
            attn_tensor th = attn_tensor_f32(h, 2, (size_t)B, (size_t)H),
                        ty = attn_tensor_f32(y[k], 2, (size_t)B, (size_t)H);
            attn_tensor tr = attn_tensor_f32(rzn[k], 2, (size_t)B, (size_t)3 * H),
                        tdgx = attn_tensor_f32(dgx[k], 2, (size_t)B, (size_t)3 * H);
            attn_tensor tdgh = attn_tensor_f32(dgh, 2, (size_t)B, (size_t)3 * H),
                        tdh = attn_tensor_f32(dh, 2, (size_t)B, (size_t)H);
            assert_ok(ctx, attn_gru_point_fwd(ctx, &ty, &tr, &tgx, &tgh, &th, NULL));
            assert_ok(ctx, attn_gru_point_bwd(ctx, &tdgx, &tdgh, &tdh, &ty, &tr, &tgh, &th, NULL));
            if (k) {
                assert_same_bits("y", y[1], y[0], B * H);
                assert_same_bits("rzn", rzn[1], rzn[0], B * 3 * H);
                assert_same_bits("dgx", dgx[1], dgx[0], B * 3 * H);
            }
            attn_context_free(ctx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(sizes), cmocka_unit_test(threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
