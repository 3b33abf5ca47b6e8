/* The attention operator for random shapes, options and strides, forward and backward: each call against one double
 * reference, on every CPU level.
 *
 * ATTN_CASES: how many calls (2,000). ATTN_CASE_SEED: the first one's number; then one call unless ATTN_CASES says
 * otherwise. ATTN_CASE_REPORT=1: how near to their bounds the errors came. */
#include "kern/attention_case.h"

#include <inttypes.h>
#include <stdio.h>

/* error / bound, at most, of each result, level and dtype */
enum { LEVELS = 8, DTYPES = 3 };
static double worst[LEVELS][DTYPES][CASE_RESULT_COUNT];

static const char *run_at(const char *level, struct attention_case *c, const ref_attention *r, double *ratios) {
    static char text[2400];
    attn_context *ctx = case_context(level, c->threads);
    double *before[CASE_RESULT_COUNT] = {NULL};
    case_results(c, c->q.stride[c->q.rank - 2] == (ptrdiff_t)c->d && c->seed % 2 ? LAYOUT_PLAIN : LAYOUT_RANDOM);
    for (int x = CASE_DQ; c->accumulate && x < CASE_RESULT_COUNT; x++)
        if (c->wanted[x]) before[x] = case_values(&c->result[x]);
    attn_status status = case_run(ctx, c);
    const char *wrong = status != ATTN_OK ? attn_error(ctx) : case_compare(c, r, before, ratios);
    if (!wrong) wrong = case_check_gaps(c);
    for (int x = 0; x < CASE_RESULT_COUNT; x++) free(before[x]);
    if (!wrong) return NULL;
    snprintf(text, sizeof text, "%s: %s", level, wrong);
    return text;
}

static uint64_t number_from(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { USUAL = 300 };
#else
enum { USUAL = 2000 };
#endif

static void random_calls(void **state) {
    (void)state;
    const char *one = getenv("ATTN_CASE_SEED");
    uint64_t first = number_from("ATTN_CASE_SEED", 1), count = number_from("ATTN_CASES", one && *one ? 1 : USUAL);
    size_t failures = 0;
    char first_failure[4000] = "";
    for (uint64_t seed = first; seed < first + count && failures < 20; seed++) {
        struct attention_case c;
        case_make(&c, seed, &case_any);
        ref_attention r = case_reference(&c);
        int level_number = 0, dtype = c.q.dtype == ATTN_F32 ? 0 : c.q.dtype == ATTN_BF16 ? 1 : 2;
        bool failed = false;
        FOR_LEVELS(level) {
            const char *wrong = run_at(*level, &c, &r, worst[level_number++][dtype]);
            if (!wrong) continue;
            fprintf(stderr, "seed %" PRIu64 ": %s\n", seed, wrong);
            if (!failures) snprintf(first_failure, sizeof first_failure, "%s\n%s", wrong, case_text(&c));
            if (!failed) fprintf(stderr, "    %s\n", case_text(&c));
            failed = true;
        }
        failures += failed;
        ref_attention_free(&r);
        case_release();
    }
    if (failures) fail_msg("%zu calls differ; the first: %s", failures, first_failure);
}

/* A sink that leaves so little to the keys that the output's square is no float any more: s = 0, out = e^−60·v. */
static void small_outputs(void **state) {
    (void)state;
    enum { D = 16 };
    static float q[D], k[D], v[D], dout[D], out[D], lse[1], dsinks[1];
    const float sink = 60;
    for (size_t i = 0; i < D; i++) v[i] = dout[i] = 1;
#define ROW(x) attn_tensor_of(x, ATTN_F32, 4, (size_t[]){1, 1, 1, D})
    const attn_tensor tq = ROW(q), tk = ROW(k), tv = ROW(v), tdout = ROW(dout), tout = ROW(out),
                      tlse = attn_tensor_of(lse, ATTN_F32, 3, (size_t[]){1, 1, 1}),
                      tdsinks = attn_tensor_of(dsinks, ATTN_F32, 1, (size_t[]){1});
#undef ROW
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.sinks = &sink;
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    grads.dsinks = &tdsinks;
    FOR_LEVELS(level) {
        attn_context *ctx = case_context(*level, 1);
        assert_ok(ctx, attn_attention_fwd(ctx, &tout, &tlse, &tq, &tk, &tv, &options));
        assert_ok(ctx, attn_attention_bwd(ctx, &grads, &tdout, NULL, &tq, &tk, &tv, &tout, &tlse, &options));
        const double expected = -D * exp(-60.0);
        if (!(fabs((double)dsinks[0] / expected - 1) < 1e-4))
            fail_msg("%s: dsink is %g, expected %g", *level, (double)dsinks[0], expected);
    }
}

static void report(void) {
    static const char *const dtypes[] = {"F32", "BF16", "F16"};
    int number = 0;
    FOR_LEVELS(level) {
        for (int d = 0; d < DTYPES; d++) {
            fprintf(stderr, "%-7s %-4s error/bound:", *level, dtypes[d]);
            for (int x = 0; x < CASE_RESULT_COUNT; x++)
                fprintf(stderr, " %s %.3f", case_result_names[x], worst[number][d][x]);
            fprintf(stderr, "\n");
        }
        number++;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_calls), cmocka_unit_test(small_outputs)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (getenv("ATTN_CASE_REPORT")) report();
    return failed;
}
