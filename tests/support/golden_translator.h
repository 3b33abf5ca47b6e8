/* golden_translator.h: loss, gradients, and step-by-step decoding of small models against PyTorch in float64. A folder
 * of tests/golden is a model with expected.safetensors beside it; scripts/make_*_goldens.py make them. */
#ifndef ATTN_TESTS_GOLDEN_TRANSLATOR_H
#define ATTN_TESTS_GOLDEN_TRANSLATOR_H

#include "support/golden.h"
#include "support/translator.h"
#include <attn/io.h>
#include <math.h>

#define SMOOTHING 0.1f
#define SCALE 0.25f

static const attn_tensor *get(const attn_safetensors *file, const char *name) {
    const attn_named_tensor *found = attn_safetensors_find(file, name);
    if (!found) fail_msg("the golden file has no %s", name);
    return &found->tensor;
}

static double relative(double found, double expected) { return fabs(found - expected) / fabs(expected); }

static void check_gradient(const attn_safetensors *expected, const attn_parameter *p) {
    char name[128];
    snprintf(name, sizeof name, "grad.%s", p->name);
    const attn_tensor *want = get(expected, name);
    size_t n = attn_tensor_count(&p->value);
    assert_int_equal(attn_tensor_count(want), n);
    if (!p->grad.data) fail_msg("%s has no gradient", p->name);
    const float *found = p->grad.data, *right = want->data;
    double error = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        error += pow((double)found[i] - (double)right[i], 2);
        norm += pow((double)right[i], 2);
    }
    /* The bias of keys moves all scores of a row alike: its gradient is rounding. */
    if (!(sqrt(error) < 1e-4 * sqrt(norm) + 2e-6))
        fail_msg("%s: the gradient is off by %g of its norm %g", p->name, sqrt(error / norm), sqrt(norm));
}

static void check_loss(attn_context *ctx, const attn_model *model, const attn_safetensors *expected) {
    const attn_tensor *source = get(expected, "source"), *target = get(expected, "target_in");
    attn_pair_batch batch = {.batch = source->shape[1],
                             .source_steps = source->shape[0],
                             .target_steps = target->shape[0],
                             .source = source->data,
                             .source_lengths = get(expected, "source_lengths")->data,
                             .target_in = target->data,
                             .target_out = get(expected, "target_out")->data,
                             .target_lengths = get(expected, "target_lengths")->data};
    double loss = *(const double *)get(expected, "loss")->data, nll = *(const double *)get(expected, "nll")->data;
    for (int record = 0; record < 2; record++) {
        attn_tape *tape;
        attn_loss_stats stats = {0};
        assert_ok(attn_tape_create(&tape, ctx, record));
        attn_var *out = attn_model_loss(model, tape, &batch, SMOOTHING, SCALE, &stats);
        assert_ok(attn_tape_status(tape));
        assert_true(relative(stats.loss, loss) < 1e-6);
        assert_true(relative(stats.nll, nll) < 1e-6);
        assert_true(relative((double)*(const float *)attn_var_value(out)->data, SCALE * loss) < 1e-6);
        assert_int_equal(stats.tokens, 9);
        if (record) {
            assert_ok(attn_tape_backward(tape, out));
            attn_parameters *set = attn_model_parameters(model);
            for (size_t i = 0; i < attn_parameters_count(set); i++)
                check_gradient(expected, attn_parameters_at(set, i));
        }
        attn_tape_free(tape);
    }
}

enum { MAX_BATCH = 4 };

/* The translations of the batch, one step at a time: their probabilities, and alignments or posteriors. */
static void check_decoding(attn_context *ctx, const attn_model *model, const attn_safetensors *expected,
                           bool posterior) {
    const attn_tensor *source = get(expected, "source"), *target = get(expected, "target_out");
    const int32_t *source_lengths = get(expected, "source_lengths")->data;
    const int32_t *target_lengths = get(expected, "target_lengths")->data;
    const float *log_prob = get(expected, "log_prob")->data, *alignment = NULL;
    const char *rows = posterior ? "posterior" : "alignment"; /* a model has them if the file does */
    if (attn_safetensors_find(expected, rows)) alignment = get(expected, rows)->data;
    size_t steps = source->shape[0], batch = source->shape[1];
    attn_search search[MAX_BATCH] = {0};
    attn_tokens tokens[MAX_BATCH];
    attn_token token[MAX_BATCH][TEST_SOURCE_MAX];
    int32_t ids[TEST_SOURCE_MAX], forced[MAX_BATCH][TEST_SOURCE_MAX];
    assert_true(batch <= MAX_BATCH);
    for (size_t b = 0; b < batch; b++) {
        for (size_t i = 0; i < (size_t)source_lengths[b]; i++) ids[i] = ((const int32_t *)source->data)[i * batch + b];
        for (size_t i = 0; i < (size_t)target_lengths[b]; i++)
            forced[b][i] = ((const int32_t *)target->data)[i * batch + b];
        tokens[b] = test_source(token[b], ids, (size_t)source_lengths[b]);
        search[b] = (attn_search){.source = &tokens[b], .forced = forced[b], .forced_count = (size_t)target_lengths[b]};
    }
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    options.posterior = posterior;
    attn_status status = test_search(model, search, batch, &options);
    if (posterior && !alignment) {
        assert_fails(ctx, status, ATTN_E_UNSUPPORTED, attn_model_type(model));
        return;
    }
    assert_ok(status);
    for (size_t b = 0; b < batch; b++) {
        assert_int_equal(search[b].count, 1);
        const attn_hypothesis *h = search[b].hypothesis;
        size_t width = tokens[b].count;
        assert_int_equal(h->count, target_lengths[b]);
        assert_int_equal(h->alignment != NULL, alignment != NULL);
        for (size_t i = 0; i < h->count; i++) {
            assert_true(fabsf(h->log_prob[i] - log_prob[i * batch + b]) <
                        2e-6f * fabsf(log_prob[i * batch + b]) + 1e-6f);
            for (size_t j = 0; alignment && j < width; j++)
                assert_true(fabsf(h->alignment[i * width + j] - alignment[(i * batch + b) * steps + j]) < 2e-6f);
        }
        test_search_clear(ctx, &search[b]);
    }
}

static void check_folder(const char *kind, const char *name) {
    attn_context *ctx = test_context(2);
    attn_safetensors *expected = NULL;
    attn_model *model = golden_open(ctx, &expected, kind, name);
    check_loss(ctx, model, expected);
    check_decoding(ctx, model, expected, false);
    check_decoding(ctx, model, expected, true);
    attn_safetensors_close(expected);
    attn_model_free(model);
    attn_context_free(ctx);
}

#endif
