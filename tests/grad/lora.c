/* lora.c: adapters and frozen weights of a language model, against the model with W + (alpha / r) B A for W.
 *
 * With G the gradient of such a merged weight, in double:   dA = (alpha / r) Bᵀ G,   dB = (alpha / r) G Aᵀ. */
#include "model/gpt.h"
#include "support/translator.h"
#include <math.h>

static const char *const configs[] = {
    "{\"model_type\": \"gpt2\", \"vocab_size\": 23, \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 2, \"n_positions\": "
    "16}",
    "{\"model_type\": \"llama\", \"vocab_size\": 23, \"hidden_size\": 24, \"intermediate_size\": 40, "
    "\"num_hidden_layers\": "
    "2, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"max_position_embeddings\": 16}",
};
enum { STEPS = 7, BATCH = 3, RANK = 3 };

/* The loss and all gradients; the answer is what comes after the first `prompt` tokens. */
static double run(attn_model *model, size_t prompt) {
    int32_t in[STEPS * BATCH], out[STEPS * BATCH];
    for (size_t i = 0; i < STEPS * BATCH; i++) {
        in[i] = (int32_t)((5 * i + 3) % 23);
        out[i] = i / BATCH < prompt ? -1 : (int32_t)((7 * i + 1) % 23);
    }
    const attn_pair_batch batch = {.batch = BATCH, .target_steps = STEPS, .target_in = in, .target_out = out};
    attn_loss_stats stats = {0};
    attn_tape *tape;
    assert_ok(attn_tape_create(&tape, model->ctx, true));
    attn_var *loss = attn_model_loss(model, tape, &batch, 0, 0.1f, &stats);
    if (attn_tape_backward(tape, loss) != ATTN_OK) fail_msg("%s", attn_error(model->ctx));
    attn_tape_free(tape);
    assert_int_equal(stats.tokens, (STEPS - prompt) * BATCH);
    return stats.nll;
}

static const float *values(const attn_model *model, const char *stem, const char *end, bool gradient) {
    char name[160];
    snprintf(name, sizeof name, "%s%s", stem, end);
    const attn_parameter *p = attn_parameters_find(attn_model_parameters(model), name);
    return !p ? NULL : gradient ? p->grad.data : p->value.data;
}

/* Relative to the largest of them. */
static void check_matrix(const char *what, const float *found, const double *expected, size_t n) {
    double off = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        off = fmax(off, fabs((double)found[i] - expected[i]));
        most = fmax(most, fabs(expected[i]));
    }
    if (!(most > 1e-6 && off < 1e-4 * most)) fail_msg("%s: up to %g, off by %g", what, most, off);
}

static size_t compare(const attn_model *adapted, const attn_model *merged, double scale) {
    const attn_parameters *set = attn_model_parameters(merged);
    size_t compared = 0;
    for (size_t p = 0; p < attn_parameters_count(set); p++) {
        const attn_parameter *w = attn_parameters_at(set, p);
        char stem[128];
        snprintf(stem, sizeof stem, "%s", w->name);
        if (!strstr(stem, ".weight")) continue;
        *strstr(stem, ".weight") = '\0';
        const float *a = values(adapted, stem, ".lora_a", false), *b = values(adapted, stem, ".lora_b", false);
        if (!a) continue;
        const size_t n = w->value.shape[0], k = w->value.shape[1];
        const float *g = w->grad.data;
        double *da = calloc(RANK * k, sizeof *da), *db = calloc(RANK * n, sizeof *db);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < k; j++)
                for (size_t r = 0; r < RANK; r++) {
                    da[r * k + j] += scale * (double)b[i * RANK + r] * (double)g[i * k + j];
                    db[i * RANK + r] += scale * (double)a[r * k + j] * (double)g[i * k + j];
                }
        check_matrix(w->name, values(adapted, stem, ".lora_a", true), da, RANK * k);
        check_matrix(w->name, values(adapted, stem, ".lora_b", true), db, RANK * n);
        assert_null(values(adapted, stem, ".weight", true)); /* nothing was computed for what is frozen */
        free(da);
        free(db);
        compared++;
    }
    return compared;
}

static void merge(attn_model *into, const attn_model *adapted, float scale) {
    const attn_parameters *set = attn_model_parameters(into);
    for (size_t p = 0; p < attn_parameters_count(set); p++) {
        attn_parameter *w = attn_parameters_at(set, p);
        const attn_parameter *from = attn_parameters_find(attn_model_parameters(adapted), w->name);
        char stem[128];
        memcpy(w->value.data, from->value.data, attn_tensor_count(&w->value) * sizeof(float));
        snprintf(stem, sizeof stem, "%s", w->name);
        if (strstr(stem, ".weight")) *strstr(stem, ".weight") = '\0';
        const float *a = values(adapted, stem, ".lora_a", false), *b = values(adapted, stem, ".lora_b", false);
        for (size_t i = 0; a && i < w->value.shape[0]; i++)
            for (size_t j = 0; j < w->value.shape[1]; j++)
                for (size_t r = 0; r < RANK; r++)
                    ((float *)w->value.data)[i * w->value.shape[1] + j] +=
                        scale * b[i * RANK + r] * a[r * w->value.shape[1] + j];
        attn_parameter_touch(w);
    }
}

static void test_adapters(void **state) {
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        attn_context *ctx = test_context(2);
        attn_model *adapted = NULL, *merged = test_model(ctx, configs[c], 3, 0.2);
        const attn_lora_options lora = {sizeof lora, RANK, 4.5f, ATTN_LORA_ALL, NULL};
        assert_ok(attn_model_create(&adapted, ctx, configs[c], 3));
        assert_ok(attn_model_add_lora(adapted, &lora));
        test_shake(adapted, 7, 0.2);
        merge(merged, adapted, 4.5f / RANK);
        const double one = run(adapted, 2), other = run(merged, 2);
        if (!(fabs(one - other) < 1e-5 * other)) fail_msg("a loss of %g, merged %g", one, other);
        assert_int_equal(compare(adapted, merged, 4.5 / RANK), c ? 14 : 12);
        assert_int_equal(attn_model_add_lora(adapted, &lora), ATTN_E_ARGUMENT);
        attn_model_free(adapted);
        attn_model_free(merged);
        attn_context_free(ctx);
    }
}

/* The gradients of what is learned are those of a model that learns all, to the bit; nothing else gets one. */
static void test_parts(void **state) {
    (void)state;
    for (size_t c = 0; c < 2; c++)
        for (int part = ATTN_PART_LAST; part <= ATTN_PART_HEAD; part++) {
            attn_context *ctx = test_context(1);
            attn_model *some = test_model(ctx, configs[c], 3, 0.2), *all = test_model(ctx, configs[c], 3, 0.2);
            assert_ok(attn_model_learn(some, (attn_model_part)part, 1));
            assert_true(run(some, 3) == run(all, 3));
            const attn_parameters *set = attn_model_parameters(some);
            size_t learned = 0;
            for (size_t i = 0; i < attn_parameters_count(set); i++) {
                const attn_parameter *p = attn_parameters_at(set, i);
                const attn_parameter *q = attn_parameters_at(attn_model_parameters(all), i);
                if (p->frozen) assert_null(p->grad.data);
                else assert_non_null(p->grad.data);
                /* tied embeddings that stay are not a part of the head's gradient, else they would be */
                if (p->frozen || !strcmp(p->name, "tokens.weight")) continue;
                assert_memory_equal(p->grad.data, q->grad.data, attn_tensor_count(&p->grad) * sizeof(float));
                learned++;
            }
            assert_int_equal(learned, part == ATTN_PART_HEAD ? c : c ? 11 : 18);
            attn_model_free(some);
            attn_model_free(all);
            attn_context_free(ctx);
        }
}

/* The loss of preferences, against its formula in double. */
static void test_preferences(void **state) {
    (void)state;
    enum { ROWS = 7, V = 6, ANSWERS = 4 };
    static const int32_t cu[] = {0, 2, 3, 4, 7}, targets[] = {0, 5, 2, 3, 3, 1, 4};
    static const float reference[] = {-3.5f, -1.2f, -2.5f, -4.8f};
    attn_context *ctx = test_context(2);
    float data[ROWS * V], log_prob[ANSWERS];
    double expected[ANSWERS] = {0}, loss = 0;
    for (size_t i = 0; i < ROWS * V; i++) data[i] = (float)sin(2.3 * (double)i);
    for (size_t b = 0; b < ANSWERS; b++)
        for (int32_t r = cu[b]; r < cu[b + 1]; r++) {
            double sum = 0;
            for (size_t v = 0; v < V; v++) sum += exp((double)data[r * V + v]);
            expected[b] += (double)data[r * V + targets[r]] - log(sum);
        }
    size_t better = 0;
    for (size_t b = 0; b < ANSWERS; b += 2) {
        const double margin = expected[b] - (double)reference[b] - expected[b + 1] + (double)reference[b + 1];
        loss += log(1 + exp(-0.7 * margin));
        better += expected[b] > expected[b + 1];
    }
    attn_tape *tape;
    attn_loss_stats stats = {0};
    assert_ok(attn_tape_create(&tape, ctx, false));
    const attn_tensor logits = attn_tensor_f32(data, 2, (size_t)ROWS, (size_t)V);
    attn_preference_rows rows = {cu, ANSWERS, reference, 0.7f, log_prob};
    attn_var *out = attn_tape_preferences(tape, attn_tape_input(tape, &logits, false), targets, &rows, 0.5f, &stats);
    assert_non_null(out);
    assert_true(fabs((double)*(float *)attn_var_value(out)->data - 0.5 * loss) < 1e-6);
    assert_true(fabs(stats.loss - loss) < 1e-6 && stats.tokens == 2 && stats.correct == better);
    for (size_t b = 0; b < ANSWERS; b++) assert_true(fabs((double)log_prob[b] - expected[b]) < 1e-6);
    rows.sequences = 3;
    assert_null(attn_tape_preferences(tape, attn_tape_input(tape, &logits, false), targets, &rows, 1, NULL));
    assert_int_equal(attn_tape_status(tape), ATTN_E_SHAPE);
    attn_tape_free(tape);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adapters), cmocka_unit_test(test_parts),
                                       cmocka_unit_test(test_preferences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
