#include "grad/check.h"

#include <math.h>
#include <stdio.h>

enum { HEAD_ROWS = 5, MAX_ROWS = 128, MAX_GRADS = 8192 };

static void fill(float *out, size_t n, uint64_t stream) {
    attn_random random = {7, stream, 0};
    for (size_t i = 0; i < n; i++) {
        double u = attn_random_uniform(&random);
        out[i] = (float)((attn_random_u32(&random) & 1 ? 1 : -1) * (0.2 + 0.8 * u));
    }
}

void check_input(check *c, int rank, const size_t *shape) {
    assert_true(c->inputs < CHECK_INPUTS);
    float *data = c->data[c->inputs];
    attn_tensor t = attn_tensor_of(data, ATTN_F32, rank, shape);
    assert_true(attn_tensor_count(&t) <= CHECK_ELEMENTS);
    fill(data, attn_tensor_count(&t), 100 + c->inputs);
    c->input[c->inputs++] = t;
}

attn_parameter *check_parameter(check *c, const char *name, int rank, const size_t *shape) {
    attn_parameter *parameter;
    assert_ok(attn_parameters_add(c->set, &parameter, name, ATTN_INIT_ZERO, 1, rank, shape));
    fill(parameter->value.data, attn_tensor_count(&parameter->value), attn_hash_text(name, strlen(name)));
    return parameter;
}

attn_parameter *check_find(check *c, const char *name) {
    attn_parameter *parameter = attn_parameters_find(c->set, name);
    assert_non_null(parameter);
    return parameter;
}

static attn_context *context(int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, &options));
    return ctx;
}

/* One forward pass; with grads also backward, all gradients copied there. Returns the loss. */
static double run(check *c, attn_tape *tape, check_build *build, float *grads, size_t *count) {
    attn_tape_reset(tape);
    attn_tape_seed(tape, 3, 4);
    attn_var *inputs[CHECK_INPUTS];
    for (size_t i = 0; i < c->inputs; i++) inputs[i] = attn_tape_input(tape, &c->input[i], true);
    attn_var *y = build(c, tape, inputs);
    if (!y) fail_msg("%s", attn_error(c->ctx));
    const attn_tensor *value = attn_var_value(y);
    size_t columns = value->shape[value->rank - 1], rows = attn_tensor_count(value) / columns;
    assert_true(rows <= MAX_ROWS);
    attn_parameter *head = attn_parameters_find(c->set, "head");
    if (!head) head = check_parameter(c, "head", 2, SHAPE(HEAD_ROWS, columns));
    int32_t targets[MAX_ROWS];
    for (size_t i = 0; i < rows; i++) targets[i] = (int32_t)(i * 7 % HEAD_ROWS);
    attn_loss_stats stats = {0, 0, 0, 0};
    attn_var *logits = attn_tape_linear(tape, y, head, NULL, NULL, ATTN_IDENTITY);
    attn_var *loss = attn_tape_cross_entropy(tape, logits, targets, 0.1f, 0.5f, &stats);
    if (attn_tape_status(tape) != ATTN_OK) fail_msg("%s", attn_error(c->ctx));
    assert_float_equal(*(float *)attn_var_value(loss)->data, 0.5 * stats.loss, 1e-4);
    if (!grads) return 0.5 * stats.loss;

    attn_parameters_zero_grad(c->set);
    if (attn_tape_backward(tape, loss) != ATTN_OK) fail_msg("%s", attn_error(c->ctx));
    *count = 0;
    for (size_t i = 0; i < c->inputs + attn_parameters_count(c->set); i++) {
        const attn_tensor *grad =
            i < c->inputs ? attn_var_grad(inputs[i]) : &attn_parameters_at(c->set, i - c->inputs)->grad;
        size_t n = attn_tensor_count(grad);
        assert_true(*count + n <= MAX_GRADS);
        if (grad->data) memcpy(grads + *count, grad->data, n * sizeof(float));
        else memset(grads + *count, 0, n * sizeof(float));
        *count += n;
    }
    return 0.5 * stats.loss;
}

/* Moves one element, of an input or a parameter, and runs. */
static double run_at(check *c, attn_tape *tape, check_build *build, float *element, attn_parameter *parameter,
                     float old, double move) {
    *element = (float)(old + move);
    if (parameter) attn_parameter_touch(parameter);
    double loss = run(c, tape, build, NULL, NULL);
    *element = old;
    if (parameter) attn_parameter_touch(parameter);
    return loss;
}

static void compare(check *c, attn_tape *tape, check_build *build, const float *grads) {
    const double h = 1.0 / 32;
    size_t at = 0;
    double largest = 0;
    for (size_t i = 0; i < c->inputs + attn_parameters_count(c->set); i++) {
        attn_parameter *parameter = i < c->inputs ? NULL : attn_parameters_at(c->set, i - c->inputs);
        const attn_tensor *t = parameter ? &parameter->value : &c->input[i];
        float *data = t->data;
        for (size_t j = 0; j < attn_tensor_count(t); j++, at++) {
            float old = data[j];
            double near = run_at(c, tape, build, data + j, parameter, old, h) -
                          run_at(c, tape, build, data + j, parameter, old, -h);
            double far = run_at(c, tape, build, data + j, parameter, old, 2 * h) -
                         run_at(c, tape, build, data + j, parameter, old, -2 * h);
            double expected = (8 * near - far) / (12 * h);
            largest = fmax(largest, fabs(expected));
            if (!(fabs(grads[at] - expected) <= CHECK_TOLERANCE * fmax(1, fabs(expected))))
                fail_msg("%s %zu, element %zu: gradient %.7g, finite differences %.7g",
                         parameter ? parameter->name : "input", i, j, (double)grads[at], expected);
        }
    }
    assert_true(largest > 0.01); /* a case without any gradient checks nothing */
}

void check_gradients(check_prepare *prepare, check_build *build, bool random_forward) {
    static float grads[3][MAX_GRADS];
    size_t count = 0;
    double loss[3];
    for (int threads = 1; threads <= 3; threads++) {
        check c = {.ctx = context(threads)};
        assert_ok(attn_parameters_create(&c.set, c.ctx, 1));
        prepare(&c);
        attn_tape *tape, *plain;
        assert_ok(attn_tape_create(&tape, c.ctx, true));
        assert_ok(attn_tape_create(&plain, c.ctx, random_forward));
        loss[threads - 1] = run(&c, tape, build, grads[threads - 1], &count);
        assert_true(loss[threads - 1] == run(&c, plain, build, NULL, NULL));
        assert_true(loss[threads - 1] == loss[0]);
        assert_memory_equal(grads[0], grads[threads - 1], count * sizeof(float));
        if (threads == 1) compare(&c, plain, build, grads[0]);
        attn_tape_free(plain);
        attn_tape_free(tape);
        attn_parameters_free(c.set);
        attn_context_free(c.ctx);
    }
}
