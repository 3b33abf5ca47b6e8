/* translator.h: small translators and searches over ids, without a tokenizer. */
#ifndef ATTN_TEST_SUPPORT_TRANSLATOR_H
#define ATTN_TEST_SUPPORT_TRANSLATOR_H

#include "infer/beam.h"
#include "support/test.h"
#include <stdio.h>

static inline attn_context *test_context(int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_context *ctx = NULL;
    assert_ok(attn_context_create(&ctx, &options));
    return ctx;
}

/* The failure that was expected, with its sentence. */
#define assert_fails(ctx, expression, status, sentence)                                          \
    do {                                                                                         \
        assert_int_equal((expression), (status));                                                \
        if (!strstr(attn_error(ctx), (sentence)))                                                \
            fail_msg("expected \"%s\" in the error, found \"%s\"", (sentence), attn_error(ctx)); \
    } while (0)

/* Makes every parameter normal, so that a small model is not sure of anything. */
static inline void test_shake(attn_model *model, uint64_t seed, double scale) {
    attn_parameters *set = attn_model_parameters(model);
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        attn_parameter *p = attn_parameters_at(set, i);
        attn_random random = {seed, i, 0};
        for (size_t e = 0; e < attn_tensor_count(&p->value); e++)
            ((float *)p->value.data)[e] = (float)(scale * attn_random_normal(&random));
        attn_parameter_touch(p);
    }
}

static inline attn_model *test_model(attn_context *ctx, const char *config, uint64_t seed, double scale) {
    attn_model *model = NULL;
    if (attn_model_create(&model, ctx, config, seed) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    test_shake(model, seed, scale);
    return model;
}

enum { TEST_SOURCE_MAX = 64 };

/* A source of ids, its last </s>. The tokens lie in `token`. */
static inline attn_tokens test_source(attn_token token[TEST_SOURCE_MAX], const int32_t *ids, size_t n) {
    assert_true(n <= TEST_SOURCE_MAX);
    for (size_t i = 0; i < n; i++) token[i] = (attn_token){ids[i], i, i + 1, ids[i] == ATTN_ID_EOS ? -1 : (int32_t)i};
    return (attn_tokens){token, n, n, NULL, 0};
}

static inline attn_status test_search(const attn_model *model, attn_search *sentences, size_t n,
                                      const attn_translate_options *options) {
    attn_beam_tapes tapes = {0};
    attn_status status = attn_beam_search(model, &tapes, sentences, n, options);
    attn_beam_tapes_free(&tapes);
    return status;
}

static inline void test_search_clear(attn_context *ctx, attn_search *search) {
    for (size_t i = 0; i < search->count; i++) attn_hypothesis_clear(ctx, &search->hypothesis[i]);
    attn_release(ctx, search->hypothesis);
    search->hypothesis = NULL;
    search->count = 0;
}

static inline bool test_same_floats(const float *a, const float *b, size_t n) {
    return !a == !b && (!a || memcmp(a, b, n * sizeof *a) == 0);
}

/* Bit for bit, traces too. source: tokens of it. */
static inline void test_same_hypothesis(const attn_hypothesis *a, const attn_hypothesis *b, size_t source,
                                        size_t context_size, size_t state_size) {
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->id, b->id, a->count * sizeof *a->id);
    assert_true(test_same_floats(&a->score, &b->score, 1));
    assert_true(test_same_floats(a->log_prob, b->log_prob, a->count));
    assert_true(test_same_floats(a->alignment, b->alignment, a->count * source));
    assert_true(test_same_floats(a->energy, b->energy, a->count * source));
    assert_true(test_same_floats(a->context, b->context, a->count * context_size));
    assert_true(test_same_floats(a->state, b->state, a->count * state_size));
}

static inline void test_same_search(const attn_search *a, const attn_search *b) {
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->context_size, b->context_size);
    assert_int_equal(a->state_size, b->state_size);
    for (size_t i = 0; i < a->count; i++)
        test_same_hypothesis(&a->hypothesis[i], &b->hypothesis[i], a->source->count, a->context_size, a->state_size);
}

#endif
