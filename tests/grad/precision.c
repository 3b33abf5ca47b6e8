/* A tape whose products are made in bf16: what is rounded and what is not, how far gradients are from those in f32, the
 * same bits on any number of threads. */
#include "support/tape.h"
#include "support/translator.h"

#include <math.h>

/* Multiples of 1/64 up to 2: bf16 holds them. */
static float coarse(uint32_t *state) {
    *state = *state * 1664525 + 1013904223;
    return (float)((int)(*state >> 24) - 128) / 64;
}

enum { R = 37, K = 70, N = 50 };

typedef struct layer {
    float x[R * K], w[N * K], dy[R * N];
    float y[R * N], dx[R * K], dw[N * K], db[N]; /* results */
} layer;

/* Σ dy ∘ (x Wᵀ + b), and all gradients. */
static void layer_step(layer *l, attn_dtype precision) {
    attn_context *ctx = test_context(2);
    attn_parameters *set;
    attn_tape *tape;
    assert_ok(attn_parameters_create(&set, ctx, 1));
    assert_ok(attn_tape_create(&tape, ctx, true));
    assert_ok(attn_tape_precision(tape, precision));
    attn_parameter *w = test_parameter(set, "w", 2, SHAPE(N, K), 0), *b = test_parameter(set, "b", 1, SHAPE(N), 0);
    attn_parameter *sum = test_parameter(set, "sum", 2, SHAPE(1, R * N), 0);
    memcpy(w->value.data, l->w, sizeof l->w);
    memcpy(sum->value.data, l->dy, sizeof l->dy);
    attn_tensor in = attn_tensor_f32(l->x, 3, (size_t)1, (size_t)R, (size_t)K);
    attn_var *x = attn_tape_input(tape, &in, true);
    attn_var *y = attn_tape_linear(tape, x, w, b, NULL, ATTN_IDENTITY);
    memcpy(l->y, attn_var_value(y)->data, sizeof l->y);
    assert_ok(attn_tape_backward(tape, test_weighted_sum(tape, y, sum)));
    memcpy(l->dx, attn_var_grad(x)->data, sizeof l->dx);
    memcpy(l->dw, w->grad.data, sizeof l->dw);
    memcpy(l->db, b->grad.data, sizeof l->db);
    attn_tape_free(tape);
    attn_parameters_free(set);
    attn_context_free(ctx);
}

/* The largest difference between y and a product in double of operands with the given strides. */
static double off(const float *y, const float *a, int a_row, int a_step, const float *b, int b_row, int b_step, int m,
                  int n, int k) {
    double most = 0;
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int p = 0; p < k; p++) sum += (double)a[i * a_row + p * a_step] * (double)b[j * b_row + p * b_step];
            most = fmax(most, fabs((double)y[i * n + j] - sum));
        }
    return most;
}

/* Operands that bf16 holds: the results are exact, for sums of so few multiples of 2⁻¹² fit into a float. Operands that
 * it does not hold are rounded: off by up to 2⁻⁹ of their size, each of the two. */
static void test_what_is_rounded(void **state) {
    (void)state;
    static layer l;
    uint32_t seed = 3;
    for (int i = 0; i < R * K; i++) l.x[i] = coarse(&seed);
    for (int i = 0; i < N * K; i++) l.w[i] = coarse(&seed);
    for (int i = 0; i < R * N; i++) l.dy[i] = coarse(&seed);
    layer_step(&l, ATTN_BF16);
    assert_true(off(l.y, l.x, K, 1, l.w, K, 1, R, N, K) == 0);
    assert_true(off(l.dx, l.dy, N, 1, l.w, 1, K, R, K, N) == 0);
    assert_true(off(l.dw, l.dy, 1, N, l.x, 1, K, N, K, R) == 0);
    for (int i = 0; i < R * K; i++) l.x[i] *= 1.0f + 0x1p-9f; /* halfway to the next one */
    for (int i = 0; i < N * K; i++) l.w[i] *= 1.0f + 0x1p-9f;
    const struct {
        attn_dtype precision;
        double low, high; /* of the relative error of a sum of up to 70 products of up to 4 */
    } cases[] = {{ATTN_F32, 0, 70 * 4 * 70 * 0x1p-24}, {ATTN_BF16, 0.05, 70 * 4 * 0x1.02p-8}};
    for (size_t i = 0; i < ATTN_COUNT(cases); i++) {
        layer_step(&l, cases[i].precision);
        const double errors[] = {off(l.y, l.x, K, 1, l.w, K, 1, R, N, K), off(l.dx, l.dy, N, 1, l.w, 1, K, R, K, N),
                                 off(l.dw, l.dy, 1, N, l.x, 1, K, N, K, R)};
        for (size_t j = 0; j < ATTN_COUNT(errors); j++)
            if (!(errors[j] >= cases[i].low && errors[j] <= cases[i].high))
                fail_msg("%s, result %zu: off by %g", attn_dtype_name(cases[i].precision), j, errors[j]);
    }
    for (int j = 0; j < N; j++) { /* a bias' gradient has no product in it */
        double sum = 0;
        for (int r = 0; r < R; r++) sum += (double)l.dy[r * N + j];
        assert_true((double)l.db[j] == sum);
    }
}

/* ---- a whole model --------------------------------------------------------------------------------------- */

enum { B = 9, S = 11, T = 10, V = 60 };

typedef struct batch {
    int32_t source[S * B], in[T * B], out[T * B], source_lengths[B], target_lengths[B];
    attn_pair_batch pairs;
} batch;

static void make_batch(batch *b) {
    uint32_t seed = 5;
    for (int i = 0; i < B; i++) b->source_lengths[i] = 1 + (i * 7) % S, b->target_lengths[i] = 1 + (i * 3 + 2) % T;
    b->source_lengths[0] = S, b->target_lengths[0] = T;
    for (int i = 0; i < S * B; i++) b->source[i] = (int32_t)((seed = seed * 1664525 + 1013904223) >> 8) % V;
    for (int i = 0; i < T * B; i++) {
        b->in[i] = (int32_t)((seed = seed * 1664525 + 1013904223) >> 8) % V;
        b->out[i] = i / B < b->target_lengths[i % B] ? (int32_t)((seed >> 4) % V) : -1;
    }
    b->pairs = (attn_pair_batch){.batch = B,
                                 .source_steps = S,
                                 .target_steps = T,
                                 .source = b->source,
                                 .source_lengths = b->source_lengths,
                                 .target_in = b->in,
                                 .target_out = b->out,
                                 .target_lengths = b->target_lengths};
}

/* Gradients, one parameter after the other. */
static float *gradients(const char *config, int threads, attn_dtype precision, double *loss, size_t *count) {
    static batch b;
    attn_context *ctx = test_context(threads);
    attn_model *model = NULL;
    attn_tape *tape;
    attn_loss_stats stats = {0};
    make_batch(&b);
    assert_ok(attn_model_create(&model, ctx, config, 4));
    assert_ok(attn_tape_create(&tape, ctx, true));
    assert_ok(attn_tape_precision(tape, precision));
    attn_status status = attn_tape_backward(tape, attn_model_loss(model, tape, &b.pairs, 0.1f, 1, &stats));
    if (status != ATTN_OK) fail_msg("%s", attn_error(ctx));
    attn_parameters *set = attn_model_parameters(model);
    float *out = calloc(attn_parameters_elements(set), sizeof *out), *at = out;
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        const attn_tensor *grad = &attn_parameters_at(set, i)->grad;
        memcpy(at, grad->data, attn_tensor_count(grad) * sizeof *at);
        at += attn_tensor_count(grad);
    }
    *count = attn_parameters_elements(set);
    *loss = stats.loss;
    attn_tape_free(tape);
    attn_model_free(model);
    attn_context_free(ctx);
    return out;
}

static const char *const configs[] = {
    "{\"model_type\": \"bahdanau\", \"vocab_size\": 60, \"embedding_size\": 40, \"hidden_size\": 50}",
    "{\"model_type\": \"bahdanau\", \"vocab_size\": 60, \"embedding_size\": 33, \"hidden_size\": 33, \"num_layers\": 2,"
    " \"input_feeding\": true, \"reset_after\": false}",
    "{\"model_type\": \"rnn\", \"vocab_size\": 60, \"embedding_size\": 32, \"hidden_size\": 64}",
};

/* Each operand is off by 2⁻⁹ of its size at most, by 2⁻¹⁰·⁸ on average over mantissas and signs; a gradient passes
 * through some tens of products one after the other, whose errors do not add up in the same direction. */
static void test_gradients_are_near(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(configs); i++) {
        double loss[2];
        size_t count;
        float *exact = gradients(configs[i], 2, ATTN_F32, &loss[0], &count);
        float *rounded = gradients(configs[i], 2, ATTN_BF16, &loss[1], &count);
        double error = 0, size = 0;
        for (size_t j = 0; j < count; j++) {
            error += pow((double)rounded[j] - (double)exact[j], 2);
            size += pow((double)exact[j], 2);
        }
        error = sqrt(error / size);
        if (!(error < 3 * 0x1p-9 && error > 0x1p-13)) fail_msg("config %zu: gradients differ by %g", i, error);
        if (!(fabs(loss[1] / loss[0] - 1) < 0x1p-11)) fail_msg("config %zu: losses %.9g and %.9g", i, loss[0], loss[1]);
        free(exact);
        free(rounded);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(configs); i++) {
        double loss[2];
        size_t count;
        float *alone = gradients(configs[i], 1, ATTN_BF16, &loss[0], &count);
        for (int threads = 2; threads <= 3; threads++) {
            float *more = gradients(configs[i], threads, ATTN_BF16, &loss[1], &count);
            assert_true(loss[0] == loss[1]);
            assert_memory_equal(alone, more, count * sizeof *more);
            free(more);
        }
        free(alone);
    }
}

/* Both precisions of one set of weights, in turn: neither sees the other's forms, nor old ones. */
static void test_in_turn(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_parameters *set;
    attn_tape *tapes[2];
    float data[3] = {1.0f + 0x1p-9f, 0, 0};
    assert_ok(attn_parameters_create(&set, ctx, 1));
    attn_parameter *w = test_parameter(set, "w", 2, SHAPE(1, 3), 0);
    attn_tensor x = attn_tensor_f32(data, 2, (size_t)1, (size_t)3);
    for (int i = 0; i < 2; i++) assert_ok(attn_tape_create(&tapes[i], ctx, false));
    assert_ok(attn_tape_precision(tapes[1], ATTN_BF16));
    for (int turn = 1; turn <= 3; turn++) {
        *(float *)w->value.data = (float)turn;
        attn_parameter_touch(w);
        for (int i = 0; i < 2; i++) {
            attn_tape_reset(tapes[i]);
            attn_var *in = attn_tape_input(tapes[i], &x, false);
            const float *y = attn_var_value(attn_tape_linear(tapes[i], in, w, NULL, NULL, ATTN_IDENTITY))->data;
            assert_true(*y == (i ? (float)turn : (float)turn * data[0]));
        }
    }
    assert_fails(ctx, attn_tape_precision(tapes[0], ATTN_BF16), ATTN_E_ARGUMENT, "before its first operation");
    attn_tape_reset(tapes[0]);
    assert_fails(ctx, attn_tape_precision(tapes[0], ATTN_F16), ATTN_E_ARGUMENT, "is F16, expected F32 or BF16");
    for (int i = 0; i < 2; i++) attn_tape_free(tapes[i]);
    attn_parameters_free(set);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_rounded),
        cmocka_unit_test(test_gradients_are_near),
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
