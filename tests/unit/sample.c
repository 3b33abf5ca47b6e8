/* A token from logits, beside the plainest way to draw one: sort all, cut, add up. */
#include "support/test.h"

#include "infer/sample.h"

#include <math.h>
#include <stdio.h>

enum { V = 700, ROUNDS = 400 };

typedef struct plain {
    int32_t id;
    double logit, weight;
} plain;

static int compare(const void *a, const void *b) {
    const plain *x = a, *y = b;
    return x->logit != y->logit ? (x->logit > y->logit ? -1 : 1) : x->id < y->id ? -1 : 1;
}

/* The number that the draw of `at` in 0 … 1 falls on, and how near it is to its neighbour. */
static int32_t draw(const float *logits, const int32_t *history, size_t n, const attn_generate_options *o, double at,
                    double *near) {
    static plain c[V];
    for (int i = 0; i < V; i++) c[i] = (plain){i, (double)logits[i], 0};
    for (size_t i = 0; i < n; i++) {
        bool again = false;
        for (size_t j = 0; j < i; j++) again = again || history[j] == history[i];
        double *x = &c[history[i]].logit;
        if (!again) *x = *x > 0 ? *x / (double)o->repetition_penalty : *x * (double)o->repetition_penalty;
    }
    qsort(c, V, sizeof *c, compare);
    *near = 1;
    if (o->temperature == 0) return c[0].id;
    const size_t most = o->top_k && o->top_k < V ? o->top_k : V;
    double sum = 0, reached = 0;
    size_t kept = 0;
    for (size_t i = 0; i < most; i++) sum += c[i].weight = exp((c[i].logit - c[0].logit) / (double)o->temperature);
    while (kept < most &&
           (!kept || (reached < (double)o->top_p * sum && c[kept].weight >= (double)o->min_p * c[0].weight)))
        reached += c[kept++].weight;
    at *= reached;
    for (size_t i = 0; i < kept; at -= c[i++].weight) {
        *near = fmin(*near, fabs(at - c[i].weight));
        if (at < c[i].weight || i + 1 == kept) return c[i].id;
    }
    return -1;
}

static float number(attn_random *random) { return (float)attn_random_normal(random); }

static void test_draws(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    attn_random random = {5, 1, 0};
    for (int round = 0; round < ROUNDS; round++) {
        static const size_t ks[] = {0, 1, 2, 40, 256, 257, 650, V, 10 * V};
        float logits[V];
        int32_t history[20], found;
        const bool ties = attn_random_below(&random, 3) == 0;
        for (int i = 0; i < V; i++) logits[i] = ties ? roundf(2 * number(&random)) : 3 * number(&random);
        if (round % 7 == 0)
            for (int i = 0; i < V; i += 3) logits[i] = -INFINITY;
        for (int i = 0; i < 20; i++) history[i] = (int32_t)attn_random_below(&random, V);
        attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
        o.top_k = ks[attn_random_below(&random, sizeof ks / sizeof ks[0])];
        o.temperature = attn_random_below(&random, 4) ? 0.2f + (float)attn_random_uniform(&random) : 0;
        if (attn_random_below(&random, 2)) o.top_p = (float)attn_random_uniform(&random);
        if (attn_random_below(&random, 2)) o.min_p = 0.3f * (float)attn_random_uniform(&random);
        if (attn_random_below(&random, 2)) o.repetition_penalty = 1.3f;
        attn_sampler sampler;
        assert_ok(attn_sampler_create(&sampler, ctx, V, (uint64_t)round));
        for (int turn = 0; turn < 3; turn++) {
            attn_random same = sampler.random;
            double near;
            const int32_t expected = draw(logits, history, 20, &o, attn_random_uniform(&same), &near);
            assert_ok(attn_sample(&sampler, &found, logits, history, 20, &o));
            if (found != expected && near > 1e-12)
                fail_msg("round %d: top_k %zu top_p %g min_p %g temperature %g penalty %g: drew %d, expected %d", round,
                         o.top_k, (double)o.top_p, (double)o.min_p, (double)o.temperature, (double)o.repetition_penalty,
                         (int)found, (int)expected);
        }
        attn_sampler_free(&sampler);
    }
    attn_context_free(ctx);
}

static void test_refused(void **state) {
    (void)state;
    attn_context *ctx;
    attn_sampler sampler;
    float logits[V] = {0};
    int32_t id;
    const attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
    assert_ok(attn_context_create(&ctx, NULL));
    assert_ok(attn_sampler_create(&sampler, ctx, V, 1));
    logits[V - 1] = NAN;
    assert_int_equal(attn_sample(&sampler, &id, logits, NULL, 0, &o), ATTN_E_NUMERIC);
    assert_string_equal(attn_error(ctx), "the logit of token 699 is nan");
    logits[V - 1] = 0, logits[0] = INFINITY;
    assert_int_equal(attn_sample(&sampler, &id, logits, NULL, 0, &o), ATTN_E_NUMERIC);
    attn_sampler_free(&sampler);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_draws), cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
