/* Parameters that are kept as integers, on the tape: products, rows of a table, and what they cannot do. */
#include "support/tape.h"
#include "support/test.h"

#include "base/base.h"
#include "nn/parameters.h"
#include "nn/tape.h"

#include <math.h>

enum { N = 40, K = 96, M = 5 };

typedef struct world {
    attn_context *ctx;
    attn_parameters *set;
    attn_tape *tape;
    attn_parameter *w;
    float x[M * K], bias[N];
} world;

/* W[n][k] = (n + 1) / 64 · ((7n + 3k) mod 255 − 127), all of it exact. */
static int integer(size_t n, size_t k) { return (int)((7 * n + 3 * k) % 255) - 127; }

static attn_quantised *table(attn_context *ctx) {
    int8_t q[N * K];
    float scale[N];
    const void *row[N];
    attn_quantised *w;
    for (size_t n = 0; n < N; n++) {
        scale[n] = (float)(n + 1) / 64, row[n] = q + n * K;
        for (size_t k = 0; k < K; k++) q[n * K + k] = (int8_t)integer(n, k);
    }
    assert_ok(attn_quantised_create(&w, ctx, NULL, ATTN_QUANTISED_I8, N, K, row, scale));
    return w;
}

static void open_world(world *w, bool record) {
    assert_ok(attn_context_create(&w->ctx, NULL));
    assert_ok(attn_parameters_create(&w->set, w->ctx, 1));
    assert_ok(attn_tape_create(&w->tape, w->ctx, record));
    assert_ok(attn_parameters_add_quantised(w->set, &w->w, "w", table(w->ctx), N, K));
    /* Integers of up to 127, which is in each block: rounding changes nothing, and every product is exact. */
    for (size_t i = 0; i < M * K; i++) w->x[i] = i % 32 == 5 ? 127 : (float)((i * 31) % 200) - 100;
    for (size_t n = 0; n < N; n++) w->bias[n] = (float)n / 8;
}

static void close_world(world *w) {
    attn_tape_free(w->tape);
    attn_parameters_free(w->set);
    attn_context_free(w->ctx);
}

static void test_linear(void **state) {
    (void)state;
    world w;
    open_world(&w, false);
    attn_parameter *bias;
    assert_ok(attn_parameters_add(w.set, &bias, "b", ATTN_INIT_ZERO, 0, 1, (const size_t[]){N}));
    memcpy(bias->value.data, w.bias, sizeof w.bias);
    const attn_tensor x = attn_tensor_f32(w.x, 2, (size_t)M, (size_t)K);
    attn_var *in = attn_tape_input(w.tape, &x, false);
    attn_var *once = attn_tape_linear(w.tape, in, w.w, bias, NULL, ATTN_IDENTITY);
    attn_var *twice = attn_tape_linear(w.tape, in, w.w, NULL, once, ATTN_RELU);
    if (!twice) fail_msg("%s", attn_error(w.ctx));
    const float *y = attn_var_value(once)->data, *z = attn_var_value(twice)->data;
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            double sum = 0;
            for (size_t k = 0; k < K; k++) sum += (double)(n + 1) / 64 * integer(n, k) * (double)w.x[m * K + k];
            assert_float_equal(y[m * N + n], sum + (double)n / 8, 1e-5 * fabs(sum) + 1e-2);
            assert_true(z[m * N + n] >= 0);
            if (sum > 0) assert_float_equal(z[m * N + n], 2 * sum + (double)n / 8, 1e-5 * sum + 1e-2);
        }
    close_world(&w);
}

static void test_embedding(void **state) {
    (void)state;
    world w;
    open_world(&w, false);
    const int32_t ids[] = {3, N - 1, 0, 3};
    const size_t shape[] = {2, 2};
    attn_var *y = attn_tape_embedding(w.tape, w.w, ids, 2, shape);
    if (!y) fail_msg("%s", attn_error(w.ctx));
    const float *row = attn_var_value(y)->data;
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < K; k++)
            assert_true(row[i * K + k] == (float)(ids[i] + 1) / 64 * (float)integer((size_t)ids[i], k));
    const int32_t wrong = N;
    assert_null(attn_tape_embedding(w.tape, w.w, &wrong, 0, NULL));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_ARGUMENT);
    assert_non_null(strstr(attn_error(w.ctx), "ids[0] is 40"));
    close_world(&w);
}

static void test_refused(void **state) {
    (void)state;
    world w;
    open_world(&w, true);
    const attn_tensor x = attn_tensor_f32(w.x, 2, (size_t)M, (size_t)K);
    const int32_t id = 1;
    assert_null(attn_tape_linear(w.tape, attn_tape_input(w.tape, &x, false), w.w, NULL, NULL, ATTN_IDENTITY));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_UNSUPPORTED);
    assert_string_equal(attn_error(w.ctx),
                        "linear on a tape that records: w is kept as I8, expected F32: load the model in f32");
    attn_tape_reset(w.tape);
    assert_null(attn_tape_embedding(w.tape, w.w, &id, 0, NULL));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_UNSUPPORTED);
    attn_tape_reset(w.tape);
    assert_null(attn_tape_parameter(w.tape, w.w));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_UNSUPPORTED);
    assert_null(attn_parameter_grad(w.w));
    assert_null(attn_parameter_form(w.w, ATTN_FORM_FORWARD, ATTN_PANEL_F32));
    attn_parameter *again;
    assert_int_equal(attn_parameters_add_quantised(w.set, &again, "w", table(w.ctx), N, K), ATTN_E_ARGUMENT);
    assert_null(again);
    close_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_linear), cmocka_unit_test(test_embedding),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
