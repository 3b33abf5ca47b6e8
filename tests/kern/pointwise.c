/* Sums, sums of squares, dropout, AdamW and embeddings on every CPU level. */
#include "kern/guard.h"
#include "ref/ops.h"

static void add(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            size_t n = guard_sizes[k];
            float *a = guard_normal(n, 1), *b = guard_normal(n, 1), *y = guard_floats(n);
            attn_tensor ta = attn_tensor_f32(a, 1, n), tb = attn_tensor_f32(b, 1, n), ty = attn_tensor_f32(y, 1, n);
            assert_ok(ctx, attn_add(ctx, &ty, &ta, &tb));
            for (size_t i = 0; i < n; i++) assert_true(y[i] == a[i] + b[i]);
            assert_ok(ctx, attn_add(ctx, &ta, &ta, &tb));
            assert_same_bits("in place", a, y, n);
            guard_release();
        }
        attn_context_free(ctx);
    }
}

static void sum_of_squares(void **state) {
    (void)state;
    enum { N = 300001 };
    float *x = malloc(N * sizeof *x);
    guard_fill(x, N, 1);
    double expected = 0, first = 0;
    for (int i = 0; i < N; i++) expected += (double)x[i] * (double)x[i];
    FOR_LEVELS(level) {
        for (int t = 0; t < 4; t++) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            attn_tensor tx = attn_tensor_f32(x, 1, (size_t)N);
            double sum;
            assert_ok(ctx, attn_sum_of_squares(ctx, &sum, &tx));
            assert_true(fabs(sum / expected - 1) < 1e-12);
            if (first == 0) first = sum;
            assert_true(sum == first); /* at every level, too */
            for (size_t n = 0; n < 70; n++) {
                float *y = guard_copy(x, n);
                attn_tensor ty = attn_tensor_f32(y, 1, n);
                double small = 0;
                for (size_t i = 0; i < n; i++) small += (double)x[i] * (double)x[i];
                assert_ok(ctx, attn_sum_of_squares(ctx, &sum, &ty));
                assert_true(fabs(sum - small) <= 1e-14 * small);
                guard_release();
            }
            float special[3] = {1e30f, 1, 1};
            attn_tensor ts = attn_tensor_f32(special, 1, (size_t)3);
            assert_ok(ctx, attn_sum_of_squares(ctx, &sum, &ts));
            assert_true(sum > 0.99e60 && sum < 1.01e60);
            special[1] = INFINITY;
            assert_ok(ctx, attn_sum_of_squares(ctx, &sum, &ts));
            assert_true(sum == INFINITY);
            special[2] = NAN;
            assert_ok(ctx, attn_sum_of_squares(ctx, &sum, &ts));
            assert_true(isnan(sum));
            attn_context_free(ctx);
        }
    }
    free(x);
}

/* Philox's own test vectors (Random123), so that the reference here and in the library is the published one. */
static void philox_vectors(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        ref_philox(out, known[i].counter, known[i].key);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static bool kept(size_t i, uint64_t seed, uint64_t offset, uint32_t threshold) {
    uint64_t block = i / 8;
    uint32_t counter[4] = {(uint32_t)offset, (uint32_t)(offset >> 32), (uint32_t)block, (uint32_t)(block >> 32)};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)}, out[4];
    ref_philox(out, counter, key);
    uint32_t word = out[i % 8 / 2];
    return (i % 2 ? word >> 16 : word & 0xffff) >= threshold;
}

static void dropout(void **state) {
    (void)state;
    const uint64_t seed = 0x123456789abcdef0u, offset = 0xfedcba9876543210u;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            size_t n = guard_sizes[k];
            float *x = guard_normal(n, 1), *y = guard_floats(n);
            attn_tensor tx = attn_tensor_f32(x, 1, n), ty = attn_tensor_f32(y, 1, n);
            static const float ps[] = {0, 0.1f, 0.5f, 1};
            for (int j = 0; j < 4; j++) {
                uint32_t threshold = (uint32_t)lroundf(ps[j] * 65536);
                assert_ok(ctx, attn_dropout(ctx, &ty, &tx, ps[j], seed, offset));
                for (size_t i = 0; i < n; i++)
                    assert_true(
                        y[i] ==
                        (kept(i, seed, offset, threshold) ? x[i] * (65536.0f / (65536 - (float)threshold)) : 0));
            }
            x[0] = NAN; /* what is dropped is 0, whatever it was */
            assert_ok(ctx, attn_dropout(ctx, &tx, &tx, 1, seed, offset));
            for (size_t i = 0; i < n; i++) assert_true(x[i] == 0);
            guard_release();
        }
        float one = 1;
        attn_tensor t1 = attn_tensor_f32(&one, 1, (size_t)1);
        assert_int_equal(attn_dropout(ctx, &t1, &t1, 1.5f, 1, 1), ATTN_E_ARGUMENT);
        assert_int_equal(attn_dropout(ctx, &t1, &t1, NAN, 1, 1), ATTN_E_ARGUMENT);
        attn_context_free(ctx);
    }
}

static void dropout_threads(void **state) {
    (void)state;
    enum { N = 500009 };
    float *x = malloc(N * sizeof *x), *y[2] = {malloc(N * sizeof *x), malloc(N * sizeof *x)};
    for (int i = 0; i < N; i++) x[i] = 1;
    bool first = true;
    FOR_LEVELS(level) {
        for (int t = 0; t < 4; t++, first = false) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            attn_tensor tx = attn_tensor_f32(x, 1, (size_t)N), ty = attn_tensor_f32(y[!first], 1, (size_t)N);
            assert_ok(ctx, attn_dropout(ctx, &ty, &tx, 0.3f, 7, 9));
            if (!first) assert_same_bits("dropout", y[1], y[0], N);
            attn_context_free(ctx);
        }
    }
    double mean = 0;
    for (int i = 0; i < N; i++) mean += (double)y[0][i] / N;
    assert_true(fabs(mean - 1) < 5 * sqrt(0.3 / 0.7 / N));
    free(x), free(y[0]), free(y[1]);
}

static void adamw(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < GUARD_SIZES; k++) {
            size_t n = guard_sizes[k];
            float *value = guard_normal(n, 1), *m = guard_floats(n), *v = guard_floats(n), *grad = guard_floats(n);
            double *evalue = guard_doubles(value, n), *em = guard_doubles(NULL, n), *ev = guard_doubles(NULL, n);
            memset(m, 0, n * sizeof *m), memset(v, 0, n * sizeof *v);
            attn_adamw_options o = {sizeof o, 1e-2f, 0.9f, 0.98f, 1e-9f, 0.1f, 0.5f, 1};
            attn_tensor tvalue = attn_tensor_f32(value, 1, n), tm = attn_tensor_f32(m, 1, n);
            attn_tensor tv = attn_tensor_f32(v, 1, n), tg = attn_tensor_f32(grad, 1, n);
            for (o.step = 1; o.step <= 5; o.step++) {
                guard_fill(grad, n, 1);
                assert_ok(ctx, attn_adamw(ctx, &tvalue, &tm, &tv, &tg, &o));
                double b1 = (double)o.beta1, b2 = (double)o.beta2, lr = (double)o.learning_rate;
                for (size_t i = 0; i < n; i++) {
                    double g = (double)grad[i] * (double)o.grad_scale;
                    em[i] = b1 * em[i] + (1 - b1) * g;
                    ev[i] = b2 * ev[i] + (1 - b2) * g * g;
                    double mhat = em[i] / (1 - pow(b1, (double)o.step)), vhat = ev[i] / (1 - pow(b2, (double)o.step));
                    evalue[i] =
                        evalue[i] * (1 - lr * (double)o.weight_decay) - lr * mhat / (sqrt(vhat) + (double)o.epsilon);
                }
            }
            assert_close("m", m, em, n, 1e-7, 1e-6);
            assert_close("v", v, ev, n, 1e-9, 1e-6);
            assert_close("value", value, evalue, n, 1e-6, 1e-6);
            o.step = 0;
            assert_int_equal(attn_adamw(ctx, &tvalue, &tm, &tv, &tg, &o), ATTN_E_ARGUMENT);
            o.struct_size--;
            assert_int_equal(attn_adamw(ctx, &tvalue, &tm, &tv, &tg, &o), ATTN_E_VERSION);
            guard_release();
        }
        attn_context_free(ctx);
    }
}

static void embedding(void **state) {
    (void)state;
    enum { V = 11, N = 57 };
    FOR_LEVELS(level) {
        for (int t = 0; t < 4; t++) {
            attn_context *ctx = guard_context(*level, guard_threads[t]);
            for (size_t k = 0; k < GUARD_SIZES; k++) {
                size_t e = guard_sizes[k];
                float *table = guard_normal(V * e, 1), *y = guard_floats(N * e), *dy = guard_normal(N * e, 1);
                float *dtable = guard_normal(V * e, 1), *expected = guard_copy(dtable, V * e);
                int32_t ids[N];
                for (size_t i = 0; i < N; i++) ids[i] = (int32_t)(i * i % 7 + i % 5);
                attn_tensor tt = attn_tensor_f32(table, 2, (size_t)V, e), td = attn_tensor_f32(dtable, 2, (size_t)V, e);
                attn_tensor ty = attn_tensor_f32(y, 2, (size_t)N, e), tdy = attn_tensor_f32(dy, 2, (size_t)N, e);
                assert_ok(ctx, attn_embedding_fwd(ctx, &ty, &tt, ids, N));
                for (size_t i = 0; i < N; i++)
                    assert_memory_equal(y + i * e, table + (size_t)ids[i] * e, e * sizeof *y);
                assert_ok(ctx, attn_embedding_bwd(ctx, &td, &tdy, ids, N));
                for (size_t i = 0; i < N; i++)
                    for (size_t j = 0; j < e; j++) expected[(size_t)ids[i] * e + j] += dy[i * e + j];
                assert_same_bits("dtable", dtable, expected, V * e); /* the order of i is part of the contract */
                ids[3] = V;
                assert_int_equal(attn_embedding_fwd(ctx, &ty, &tt, ids, N), ATTN_E_ARGUMENT);
                ids[3] = -1;
                assert_int_equal(attn_embedding_bwd(ctx, &td, &tdy, ids, N), ATTN_E_ARGUMENT);
                guard_release();
            }
            attn_context_free(ctx);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(add),       cmocka_unit_test(sum_of_squares),  cmocka_unit_test(philox_vectors),
        cmocka_unit_test(dropout),   cmocka_unit_test(dropout_threads), cmocka_unit_test(adamw),
        cmocka_unit_test(embedding),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
