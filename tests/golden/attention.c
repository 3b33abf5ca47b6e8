/* attention.c: the worked example, six tokens of three numbers: scores, weights, context vectors and gradients of
 * simplified, trainable, causal and multi-head attention, against the NumPy of docs/math/attention.md
 * (scripts/make_attention_goldens.py). */
#include "support/tape.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

enum { TOKENS = 6, MOST = 64 };

typedef struct example {
    attn_context *ctx;
    attn_parameters *set;
    attn_tape *tape;
    json_t *all, *one; /* the file; the case */
    float x[TOKENS * 3];
} example;

/* All numbers of a nested list. */
static size_t numbers(const json_t *value, double *out, size_t n) {
    if (json_is_number(value)) {
        assert_true(n < MOST * MOST);
        out[n++] = json_number_value(value);
    }
    for (size_t i = 0; i < json_array_size(value); i++) n = numbers(json_array_get(value, i), out, n);
    return n;
}

static void assert_near(const char *what, const float *found, const json_t *expected, size_t count, double within) {
    double right[MOST * MOST];
    assert_int_equal(numbers(expected, right, 0), count);
    for (size_t i = 0; i < count; i++) {
        bool masked = right[i] == -1e30;
        if (masked ? found[i] != -INFINITY : !(fabs((double)found[i] - right[i]) <= within * fmax(1, fabs(right[i]))))
            fail_msg("%s[%zu] is %.9g, expected %.9g", what, i, (double)found[i], right[i]);
    }
}

static void assert_variable(const char *what, const attn_var *var, const json_t *expected) {
    if (!var) fail_msg("there is no %s", what);
    assert_near(what, attn_var_value(var)->data, expected, attn_tensor_count(attn_var_value(var)), 1e-6);
}

static attn_parameter *weight(example *e, const char *name) {
    const json_t *given = json_object_get(json_object_get(e->one, "weights"), name);
    if (!given) return NULL;
    double value[MOST * MOST];
    const size_t count = numbers(given, value, 0), rows = json_array_size(given);
    attn_parameter *p = test_parameter(e->set, name, count > rows ? 2 : 1, SHAPE(rows, count / rows), 1);
    for (size_t i = 0; i < count; i++) ((float *)p->value.data)[i] = (float)value[i];
    return p;
}

/* Weights and scores come out of the operator: with V = I the output is the weights, and ln weight + LSE the score. */
static void check_weights(example *e, attn_var *q, attn_var *k, size_t heads, float scale, bool causal) {
    static float eyes[TOKENS * MOST];
    for (size_t i = 0; i < TOKENS * TOKENS * heads; i++) eyes[i] = i % TOKENS == i / (TOKENS * heads);
    const attn_tensor eye = attn_tensor_of(eyes, ATTN_F32, 3, SHAPE(1, TOKENS, TOKENS * heads));
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.scale = scale, options.causal = causal ? ATTN_CAUSAL_TOP_LEFT : ATTN_CAUSAL_NONE;
    attn_attention_inputs inputs = {.q = q, .k = k, .v = attn_tape_input(e->tape, &eye, false), .heads = heads};
    attn_var *lse, *weights = attn_tape_attention(e->tape, &inputs, &options, &lse);
    assert_non_null(weights);
    assert_variable("lse", lse, json_object_get(e->one, "lse"));
    float by_head[TOKENS * MOST], scores[TOKENS * MOST];
    for (size_t i = 0; i < TOKENS * TOKENS * heads; i++) {
        const size_t h = i / (TOKENS * TOKENS), t = i / TOKENS % TOKENS, s = i % TOKENS;
        by_head[i] = ((const float *)attn_var_value(weights)->data)[(t * heads + h) * TOKENS + s];
        scores[i] = logf(by_head[i]) + ((const float *)attn_var_value(lse)->data)[h * TOKENS + t];
    }
    assert_near("weights", by_head, json_object_get(e->one, "attention"), TOKENS * TOKENS * heads, 1e-6);
    assert_near("scores", scores, json_object_get(e->one, "scores"), TOKENS * TOKENS * heads, 1e-6);
}

static void check_gradients(example *e, attn_var *x, attn_var *z) {
    const size_t count = attn_tensor_count(attn_var_value(z));
    double dz[MOST * MOST];
    assert_int_equal(numbers(json_object_get(e->one, "dcontext"), dz, 0), count);
    attn_parameter *w = test_parameter(e->set, "dcontext", 2, SHAPE(1, count), 1);
    for (size_t i = 0; i < count; i++) ((float *)w->value.data)[i] = (float)dz[i];
    assert_ok(attn_tape_backward(e->tape, test_weighted_sum(e->tape, z, w)));
    const char *name;
    json_t *right;
    json_object_foreach(json_object_get(e->one, "gradients"), name, right) {
        const attn_parameter *p = attn_parameters_find(e->set, name);
        const attn_tensor *grad = p ? &p->grad : attn_var_grad(x);
        assert_near(name, grad->data, right, attn_tensor_count(grad), 2e-6);
    }
}

static void worked(const char *name) {
    example e = {.all = NULL};
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/attention.json", getenv("ATTN_TEST_SOURCE"));
    e.all = json_load_file(path, 0, NULL);
    assert_non_null(e.all);
    e.one = json_object_get(e.all, name);
    double value[MOST * MOST];
    assert_int_equal(numbers(json_object_get(e.all, "x"), value, 0), TOKENS * 3);
    for (size_t i = 0; i < TOKENS * 3; i++) e.x[i] = (float)value[i];
    assert_ok(attn_context_create(&e.ctx, NULL));
    assert_ok(attn_parameters_create(&e.set, e.ctx, 1));
    assert_ok(attn_tape_create(&e.tape, e.ctx, true));

    const bool causal = json_is_true(json_object_get(e.one, "causal"));
    attn_multi_head_attention layer = {.heads = (size_t)json_integer_value(json_object_get(e.one, "heads")),
                                       .causal = causal ? ATTN_CAUSAL_TOP_LEFT : ATTN_CAUSAL_NONE};
    layer.key_heads = layer.heads;
    layer.w_query = weight(&e, "W_query"), layer.w_key = weight(&e, "W_key"), layer.w_value = weight(&e, "W_value");
    layer.w_out = weight(&e, "out_proj"), layer.b_out = weight(&e, "out_bias");
    const attn_tensor tokens = attn_tensor_of(e.x, ATTN_F32, 3, SHAPE(1, TOKENS, 3));
    attn_var *x = attn_tape_input(e.tape, &tokens, true), *z, *lse;
    if (!layer.w_query) {
        z = attn_tape_simplified_attention(e.tape, x, &lse);
        check_weights(&e, x, x, 1, 1, false);
    } else {
        z = attn_tape_multi_head_attention(e.tape, &layer, x, NULL, NULL, NULL, &lse);
        attn_var *q = attn_tape_linear(e.tape, x, layer.w_query, NULL, NULL, ATTN_IDENTITY);
        attn_var *k = attn_tape_linear(e.tape, x, layer.w_key, NULL, NULL, ATTN_IDENTITY);
        check_weights(&e, q, k, layer.heads, NAN, causal);
    }
    assert_variable("context", z, json_object_get(e.one, "context"));
    assert_variable("lse", lse, json_object_get(e.one, "lse"));
    check_gradients(&e, x, z);
    attn_tape_free(e.tape);
    attn_parameters_free(e.set);
    attn_context_free(e.ctx);
    json_decref(e.all);
}

static void test_simplified(void **state) { (void)state, worked("simplified"); }
static void test_trainable(void **state) { (void)state, worked("trainable"); }
static void test_causal(void **state) { (void)state, worked("causal"); }
static void test_multi_head(void **state) { (void)state, worked("multi_head"); }

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_simplified), cmocka_unit_test(test_trainable),
                                       cmocka_unit_test(test_causal), cmocka_unit_test(test_multi_head)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
