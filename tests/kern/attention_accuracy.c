/* How near the attention operator comes on usual shapes (docs/numerics.md has the figures), rows that see nothing, and
 * finite biases as great as they get, and strided ones. */
#include "kern/attention_case.h"

#include <float.h>
#include <stdio.h>

static attn_tensor normal_tensor(uint64_t *random, attn_dtype dtype, const size_t *shape, double mean) {
    attn_tensor t = case_tensor(random, dtype, 4, shape, LAYOUT_PLAIN);
    size_t n = attn_tensor_count(&t);
    for (size_t i = 0; i < n; i++) ref_store(&t, (ptrdiff_t)i, (double)(float)(mean + case_normal(random)));
    return t;
}

static struct attention_case plain_call(attn_dtype dtype, size_t h, size_t hk, size_t t, size_t s, size_t d, size_t dv,
                                        double mean) {
    struct attention_case c = {.b = 1, .h = h, .hk = hk, .t = t, .s = s, .d = d, .dv = dv, .seed = t + 1000 * d};
    const size_t q[4] = {1, h, t, d}, k[4] = {1, hk, s, d}, v[4] = {1, hk, s, dv}, o[4] = {1, h, t, dv};
    c.options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT, c.threads = 2;
    uint64_t random = c.seed;
    c.q = normal_tensor(&random, dtype, q, 0), c.k = normal_tensor(&random, dtype, k, 0);
    c.v = normal_tensor(&random, dtype, v, mean), c.dout = normal_tensor(&random, dtype, o, 0);
    c.dlse = case_tensor(&random, ATTN_F32, 3, o, LAYOUT_PLAIN);
    for (size_t i = 0; i < h * t; i++) ref_store(&c.dlse, (ptrdiff_t)i, 1 + (double)(i % 3));
    for (int x = 0; x <= CASE_DV; x++) c.wanted[x] = true, c.dtype[x] = x == CASE_OUT ? dtype : ATTN_F32;
    return c;
}

/* sqrt(Σ (found − expected)² / Σ expected²), and the mean of what found is too great by, relative to the size. */
static double rms_error(const attn_tensor *t, const ref_array *expected, double *bias) {
    double error = 0, size = 0, sum = 0, absolute = 0;
    for (size_t i = 0; i < expected->count; i++) {
        double e = ref_load(t, ref_place(t, i)) - expected->value[i], x = expected->value[i];
        error += e * e, size += x * x, sum += x > 0 ? e : -e, absolute += fabs(x);
    }
    if (bias) *bias = sum / absolute;
    return sqrt(error / size);
}

/* Forward within 3.5e-7, gradients within 1e-6, for N(0, 1). */
static void rms(void **state) {
    (void)state;
    static const size_t shapes[][4] = {{512, 512, 64, 64},  {300, 700, 128, 128}, {256, 256, 256, 256},
                                       {200, 1100, 96, 32}, {1, 2000, 128, 128},  {640, 64, 16, 80}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int causal = 0; causal < 2; causal++) {
            struct attention_case c =
                plain_call(ATTN_F32, 2, 1, shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], 0);
            if (causal) c.options.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
            ref_attention r = case_reference(&c);
            const ref_array *const arrays[] = {&r.out, NULL, &r.dq, &r.dk, &r.dv};
            FOR_LEVELS(level) {
                case_results(&c, LAYOUT_PLAIN);
                attn_context *ctx = case_context(*level, 2);
                assert_ok(ctx, case_run(ctx, &c));
                for (int x = CASE_OUT; x <= CASE_DV; x++) {
                    if (x == CASE_LSE) continue;
                    double error = rms_error(&c.result[x], arrays[x], NULL), most = x == CASE_OUT ? 3.5e-7 : 1e-6;
                    if (getenv("ATTN_CASE_REPORT"))
                        fprintf(stderr, "%s T %zu S %zu D %zu causal %d: %s %.3g\n", *level, c.t, c.s, c.d, causal,
                                case_result_names[x], error);
                    if (!(error <= most))
                        fail_msg("%s, T %zu, S %zu, D %zu, Dv %zu: %s has rms error %.3g, at most %.3g", *level, c.t,
                                 c.s, c.d, c.dv, case_result_names[x], error, most);
                }
            }
            ref_attention_free(&r);
            case_release();
        }
}

/* bf16 weights are rounded to nearest: many of them leave no bias, as dropping their last bits would. */
static void no_bias(void **state) {
    (void)state;
    static const attn_precision precisions[] = {ATTN_PRECISION_HIGH, ATTN_PRECISION_FAST};
    for (int p = 0; p < 2; p++) {
        struct attention_case c = plain_call(ATTN_BF16, 4, 2, 200, 400, 64, 64, 1);
        c.options.precision = precisions[p];
        ref_attention r = case_reference(&c);
        FOR_LEVELS(level) {
            case_results(&c, LAYOUT_PLAIN);
            attn_context *ctx = case_context(*level, 2);
            assert_ok(ctx, case_run(ctx, &c));
            double bias, error = rms_error(&c.result[CASE_OUT], &r.out, &bias);
            if (getenv("ATTN_CASE_REPORT")) fprintf(stderr, "%s bf16 %d: %.3g, bias %.3g\n", *level, p, error, bias);
            if (!(error <= 0x1p-8) || !(fabs(bias) <= 0x1p-14))
                fail_msg("%s, precision %d: rms error %.3g, bias %.3g", *level, (int)precisions[p], error, bias);
        }
        ref_attention_free(&r);
        case_release();
    }
}

/* ---- rows that see nothing ---------------------------------------------------------------------------- */

enum { H = 2, T = 70, S = 90, D = 20, DV = 12 };

static void hide(struct attention_case *c, int way) {
    static const int32_t no_keys[1] = {0};
    static const int64_t far_back[1] = {-1000}, far_ahead[1] = {1000};
    const size_t ids_q[2] = {1, T}, ids_k[2] = {1, S}, plane[4] = {1, 1, T, S}, row[4] = {1, 1, 1, S};
    uint64_t random = 1;
    attn_attention_options *o = &c->options;
    attn_tensor t;
    switch (way) {
    case 0: o->kv_lengths = no_keys; break;
    case 1: o->causal = ATTN_CAUSAL_OFFSET, o->query_offset = far_back; break;
    case 2: o->window_left = 10, o->query_offset = far_ahead; break;
    case 3:
        t = case_tensor(&random, ATTN_U8, 4, plane, LAYOUT_PLAIN);
        memset(t.data, 0, T * S);
        o->mask = case_keep(t);
        break;
    case 4:
        t = case_tensor(&random, ATTN_F32, 4, row, LAYOUT_PLAIN);
        for (ptrdiff_t j = 0; j < S; j++) ref_store(&t, j, -(double)INFINITY);
        o->bias = case_keep(t);
        break;
    default:
        t = case_tensor(&random, ATTN_I32, 2, ids_q, LAYOUT_PLAIN);
        memset(t.data, 1, T * 4);
        o->segments_q = case_keep(t);
        t = case_tensor(&random, ATTN_I32, 2, ids_k, LAYOUT_PLAIN);
        memset(t.data, 2, S * 4);
        o->segments_k = case_keep(t);
    }
}

static void empty_rows(void **state) {
    (void)state;
    static const float sinks[H] = {0.7f, -31.3f};
    for (int way = 0; way < 6; way++)
        for (int sink = 0; sink < 2; sink++) FOR_LEVELS(level) {
                struct attention_case c = plain_call(ATTN_F32, H, 1, T, S, D, DV, 0);
                hide(&c, way);
                if (sink) c.options.sinks = sinks, c.wanted[CASE_DSINKS] = true;
                if (c.options.bias) c.wanted[CASE_DBIAS] = true;
                for (ptrdiff_t i = 0; i < H * T * D; i++) ref_store(&c.q, i, i % 3 ? (double)NAN : (double)INFINITY);
                for (ptrdiff_t i = 0; i < S * DV; i++) ref_store(&c.v, i, (double)NAN);
                for (ptrdiff_t i = 0; i < H * T * DV; i++) ref_store(&c.dout, i, (double)NAN);
                c.dtype[CASE_DBIAS] = c.dtype[CASE_DSINKS] = ATTN_F32, c.with_dlse = true;
                case_results(&c, LAYOUT_PLAIN);
                attn_context *ctx = case_context(*level, 2);
                assert_ok(ctx, case_run(ctx, &c));
                double total = 0;
                for (size_t i = 0; i < T; i++) total += ref_load(&c.dlse, (ptrdiff_t)i);
                for (int x = 0; x < CASE_RESULT_COUNT; x++) {
                    size_t n = c.wanted[x] ? attn_tensor_count(&c.result[x]) : 0;
                    for (size_t i = 0; i < n; i++) {
                        double found = ref_load(&c.result[x], (ptrdiff_t)i), expected = 0;
                        if (x == CASE_LSE) expected = sink ? (double)sinks[i / T] : -(double)INFINITY;
                        if (x == CASE_DSINKS && i == 0) expected = total;
                        if (x == CASE_DSINKS && i > 0) continue;
                        if (found != expected || (x != CASE_LSE && signbit(found)))
                            fail_msg("%s, way %d%s: %s[%zu] is %g, expected %g", *level, way, sink ? ", a sink" : "",
                                     case_result_names[x], i, found, expected);
                    }
                }
                case_release();
            }
}

/* ---- a key of weight 0 -------------------------------------------------------------------------------- */

/* A score of −inf is a weight of 0 for all queries that are there, and so are that key's gradients, whatever comes of
 * it in lanes that no query uses. */
static void weightless_key(void **state) {
    (void)state;
    static const size_t counts[] = {1, 2, 3, 15, 17, 31, 63, 65};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (int fast = 0; fast < 2; fast++) FOR_LEVELS(level) {
                struct attention_case c = plain_call(ATTN_BF16, 1, 1, counts[i], S, D, DV, 0);
                c.options.precision = fast ? ATTN_PRECISION_FAST : ATTN_PRECISION_HIGH;
                ref_store(&c.k, 4 * D, -(double)INFINITY);
                for (size_t t = 0; t < c.t; t++) ref_store(&c.q, (ptrdiff_t)(t * D), 1);
                case_results(&c, LAYOUT_PLAIN);
                attn_context *ctx = case_context(*level, 1);
                assert_ok(ctx, case_run(ctx, &c));
                for (int x = CASE_DK; x <= CASE_DV; x++) {
                    const size_t n = x == CASE_DK ? D : DV;
                    for (size_t at = 0; at < S * n; at++) {
                        const double found = ref_load(&c.result[x], (ptrdiff_t)at);
                        if (at / n == 4 ? found != 0 : !isfinite(found))
                            fail_msg("%s%s, T %zu: %s[%zu, %zu] is %g", *level, fast ? " fast" : "", c.t,
                                     case_result_names[x], at / n, at % n, found);
                    }
                }
                case_release();
            }
}

/* ---- great biases --------------------------------------------------------------------------------------- */

/* What people write for "masked": a key with such a bias is visible, but its weight is 0 beside others; a row of them
 * is an average, and nothing is NaN. */
static void great_bias(void **state) {
    (void)state;
    static const float values[] = {-1e4f, -1e9f, -FLT_MAX};
    for (int value = 0; value < 3; value++) FOR_LEVELS(level) {
            struct attention_case c = plain_call(ATTN_F32, H, 1, T, S, D, DV, 0), hidden = c;
            uint64_t random = 5;
            const size_t plane[4] = {1, 1, T, S};
            attn_tensor bias = case_tensor(&random, ATTN_F32, 4, plane, LAYOUT_PLAIN), inf;
            for (ptrdiff_t i = 0; i < T * S; i++)
                ref_store(&bias, i, i / S == 3 || case_chance(&random, 0.4) ? (double)values[value] : 0);
            inf = case_copy(&bias, &random, LAYOUT_PLAIN);
            for (ptrdiff_t i = 0; i < T * S; i++)
                if (ref_load(&inf, i) != 0) ref_store(&inf, i, -(double)INFINITY);
            c.options.bias = &bias, hidden.options.bias = &inf;
            attn_context *ctx = case_context(*level, 1);
            case_results(&c, LAYOUT_PLAIN), case_results(&hidden, LAYOUT_PLAIN);
            assert_ok(ctx, case_run(ctx, &c));
            assert_ok(ctx, case_run(ctx, &hidden));
            double highest = 0;
            for (ptrdiff_t i = 0; i < S * DV; i++) highest = fmax(highest, fabs(ref_load(&c.v, i)));
            for (ptrdiff_t h = 0; h < H; h++)
                for (ptrdiff_t i = 0; i < T; i++)
                    for (ptrdiff_t x = 0; x < DV; x++) {
                        ptrdiff_t at = (h * T + i) * DV + x;
                        double found = ref_load(&c.result[CASE_OUT], at);
                        if (i == 3 ? !(fabs(found) <= highest) : found != ref_load(&hidden.result[CASE_OUT], at))
                            fail_msg("%s, bias %g: out[%td, %td, %td] is %g, %g with -inf", *level,
                                     (double)values[value], h, i, x, found, ref_load(&hidden.result[CASE_OUT], at));
                    }
            for (int r = CASE_DQ; r <= CASE_DV; r++)
                for (size_t i = 0; i < attn_tensor_count(&c.result[r]); i++)
                    if (!isfinite(ref_load(&c.result[r], (ptrdiff_t)i)))
                        fail_msg("%s, bias %g: %s[%zu] is %g", *level, (double)values[value], case_result_names[r], i,
                                 ref_load(&c.result[r], (ptrdiff_t)i));
            case_release();
        }
}

/* A bias whose keys lie apart is copied first; as great as blocks and tiles get, so that a write past the copy shows.
 */
static void strided_bias(void **state) {
    (void)state;
    enum { QUERIES = 64, KEYS = 64, APART = 3 };
    FOR_LEVELS(level) {
        struct attention_case c = plain_call(ATTN_F32, H, 1, QUERIES, KEYS, D, DV, 0), apart = c;
        uint64_t random = 6;
        attn_tensor bias = normal_tensor(&random, ATTN_F32, (size_t[]){1, 1, QUERIES, KEYS}, 0);
        attn_tensor wide = case_tensor(&random, ATTN_F32, 4, (size_t[]){1, 1, QUERIES, KEYS * APART}, LAYOUT_PLAIN);
        wide.shape[3] = KEYS, wide.stride[3] = APART;
        for (ptrdiff_t i = 0; i < QUERIES * KEYS; i++) ref_store(&wide, i * APART, ref_load(&bias, i));
        c.options.bias = &bias, apart.options.bias = &wide;
        attn_context *ctx = case_context(*level, 1);
        case_results(&c, LAYOUT_PLAIN), case_results(&apart, LAYOUT_PLAIN);
        assert_ok(ctx, case_run(ctx, &c));
        assert_ok(ctx, case_run(ctx, &apart));
        for (int x = 0; x <= CASE_DV; x++)
            for (size_t i = 0; i < attn_tensor_count(&c.result[x]); i++)
                if (ref_load(&c.result[x], (ptrdiff_t)i) != ref_load(&apart.result[x], (ptrdiff_t)i))
                    fail_msg("%s: %s[%zu] is %g, and %g where the bias lies apart", *level, case_result_names[x], i,
                             ref_load(&c.result[x], (ptrdiff_t)i), ref_load(&apart.result[x], (ptrdiff_t)i));
        case_release();
    }
}

/* Keys of one row that stands again and again, by the path of few queries and by that of many. */
static void repeated_key(void **state) {
    (void)state;
    static const size_t queries[] = {1, 40};
    for (int i = 0; i < 2; i++) FOR_LEVELS(level) {
            struct attention_case c = plain_call(ATTN_F32, H, 1, queries[i], S, D, DV, 0), again = c;
            again.k.stride[2] = 0;
            for (ptrdiff_t s = 1; s < S; s++)
                for (ptrdiff_t d = 0; d < D; d++) ref_store(&c.k, s * D + d, ref_load(&c.k, d));
            attn_context *ctx = case_context(*level, 1);
            case_results(&c, LAYOUT_PLAIN), case_results(&again, LAYOUT_PLAIN);
            assert_ok(ctx, case_run(ctx, &c));
            assert_ok(ctx, case_run(ctx, &again));
            for (size_t x = 0; x < attn_tensor_count(&c.result[CASE_OUT]); x++)
                if (ref_load(&c.result[CASE_OUT], (ptrdiff_t)x) != ref_load(&again.result[CASE_OUT], (ptrdiff_t)x))
                    fail_msg("%s, T %zu: out[%zu] is %g, and %g with a stride of 0", *level, c.t, x,
                             ref_load(&c.result[CASE_OUT], (ptrdiff_t)x),
                             ref_load(&again.result[CASE_OUT], (ptrdiff_t)x));
            case_release();
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rms),         cmocka_unit_test(no_bias),
                                       cmocka_unit_test(empty_rows),  cmocka_unit_test(weightless_key),
                                       cmocka_unit_test(great_bias),  cmocka_unit_test(strided_bias),
                                       cmocka_unit_test(repeated_key)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
