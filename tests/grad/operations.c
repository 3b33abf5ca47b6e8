/* Every operation of the tape against finite differences. Sizes are odd on purpose: nothing fills a vector. */
#include "grad/check.h"

enum { T = 3, B = 4, E = 3, N = 5, S = 4, A = 7 };

static const int32_t lengths[B] = {4, 2, 0, 3};

/* ---- linear ------------------------------------------------------------------------------------ */

static void prepare_linear(check *c) {
    check_input(c, 3, SHAPE(2, B, E));
    check_input(c, 3, SHAPE(2, B, N));
    check_parameter(c, "w", 2, SHAPE(N, E));
    float *b = check_parameter(c, "b", 1, SHAPE(N))->value.data;
    for (int i = 0; i < N; i++)
        b[i] = i % 2 ? 5.0f : -5.0f; /* far from relu's kink; the sum of the others is below 4 */
}

/* Biases of ±5 saturate tanh and sigmoid, so there is a product without them too. The residual has an earlier reader:
 * its gradient grows after the product's, which must not change the rows kept for the weight. */
static attn_var *linear_with(check *c, attn_tape *tape, attn_var *const *x, attn_activation act) {
    attn_parameter *w = check_find(c, "w"), *b = check_find(c, "b");
    attn_var *early = attn_tape_activation(tape, x[1], ATTN_TANH);
    attn_var *y = attn_tape_linear(tape, x[0], w, act == ATTN_RELU ? b : NULL, x[1], act);
    if (act != ATTN_RELU) y = attn_tape_add(tape, y, attn_tape_linear(tape, x[0], w, b, NULL, act));
    return attn_tape_add(tape, early, y);
}
static attn_var *build_linear_identity(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_IDENTITY);
}
static attn_var *build_linear_tanh(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_TANH);
}
static attn_var *build_linear_sigmoid(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_SIGMOID);
}
static attn_var *build_linear_relu(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_RELU);
}
static attn_var *build_linear_gelu(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_GELU);
}
static attn_var *build_linear_gelu_tanh(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_GELU_TANH);
}
static attn_var *build_linear_silu(check *c, attn_tape *tape, attn_var *const *x) {
    return linear_with(c, tape, x, ATTN_SILU);
}

/* One weight at several steps, its rows apart in memory, and once with another bias: gathered gradients. */
static void prepare_steps(check *c) {
    check_input(c, 2, SHAPE(B, N));
    check_input(c, 2, SHAPE(3, N));
    float *w = check_parameter(c, "w", 2, SHAPE(N, N))->value.data;
    for (int i = 0; i < N * N; i++) w[i] *= 0.4f; /* higher derivatives grow with every step */
    check_parameter(c, "b", 1, SHAPE(N));
    check_parameter(c, "other", 1, SHAPE(N));
}
static attn_var *build_steps(check *c, attn_tape *tape, attn_var *const *x) {
    attn_parameter *w = check_find(c, "w");
    attn_var *state = x[0], *states[4];
    for (int t = 0; t < 4; t++)
        states[t] = state =
            attn_tape_linear(tape, state, w, check_find(c, t == 2 ? "other" : "b"), t ? state : NULL, ATTN_TANH);
    attn_var *more = attn_tape_linear(tape, x[1], w, NULL, NULL, ATTN_IDENTITY); /* fewer rows, no bias */
    attn_var *all = attn_tape_stack(tape, states, 4);
    attn_var *sum = attn_tape_add(tape, attn_tape_row(tape, all, 3), attn_tape_row(tape, all, 0));
    attn_var *parts[] = {attn_tape_row(tape, sum, 1), attn_tape_row(tape, more, 2), attn_tape_row(tape, more, 2)};
    return attn_tape_add(tape, sum, attn_tape_stack(tape, (attn_var *[]){parts[0], parts[1], parts[2], parts[0]}, 4));
}

/* ---- elements ---------------------------------------------------------------------------------- */

static void prepare_pair(check *c) {
    check_input(c, 2, SHAPE(B, 6));
    check_input(c, 2, SHAPE(B, 6));
}
static attn_var *build_activations(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *sum = attn_tape_scale(tape, attn_tape_activation(tape, x[0], ATTN_IDENTITY), -1.5f);
    for (attn_activation act = ATTN_TANH; act <= ATTN_SILU; act++)
        sum = attn_tape_add(tape, sum, attn_tape_activation(tape, x[act % 2], act));
    return sum;
}
static void prepare_pairs_apart(check *c) {
    prepare_pair(c);
    float *data = c->data[0]; /* neighbours at least 0.3 apart */
    for (size_t i = 0; i < B * 6; i += 2)
        if (data[i] - data[i + 1] < 0.3f && data[i + 1] - data[i] < 0.3f) data[i] = data[i + 1] - 0.5f;
}
static attn_var *build_maxout(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    return attn_tape_add(tape, attn_tape_maxout(tape, x[0]), attn_tape_maxout(tape, x[0]));
}
static attn_var *build_add_twice(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *twice = attn_tape_add(tape, x[0], x[0]);
    return attn_tape_add(tape, attn_tape_add(tape, twice, x[1]), attn_tape_activation(tape, twice, ATTN_TANH));
}
static attn_var *build_dropout(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *once = attn_tape_dropout(tape, attn_tape_activation(tape, x[0], ATTN_TANH), 0.5f);
    attn_var *kept = attn_tape_dropout(tape, x[1], 0.25f);
    return attn_tape_add(tape, attn_tape_add(tape, once, kept), attn_tape_dropout(tape, kept, 0));
}

/* ---- arranging --------------------------------------------------------------------------------- */

static void prepare_arrange(check *c) {
    check_input(c, 3, SHAPE(T, B, N));
    check_input(c, 3, SHAPE(T, B, 2));
}
static attn_var *build_concat(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *parts[] = {x[0], x[1], attn_tape_activation(tape, x[0], ATTN_TANH), x[1]};
    return attn_tape_concat(tape, parts, 4);
}
static attn_var *build_stack(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *first = attn_tape_row(tape, x[0], 0), *second = attn_tape_activation(tape, first, ATTN_TANH);
    attn_var *all = attn_tape_stack(tape, (attn_var *[]){first, second, second, attn_tape_row(tape, x[0], 2)}, 4);
    return attn_tape_add(tape, attn_tape_row(tape, all, 1), attn_tape_activation(tape, second, ATTN_SIGMOID));
}
static attn_var *build_row(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *middle = attn_tape_row(tape, x[0], 1);
    attn_var *whole = attn_tape_activation(tape, x[0], ATTN_TANH);
    return attn_tape_add(tape, attn_tape_add(tape, middle, attn_tape_row(tape, whole, 2)),
                         attn_tape_activation(tape, middle, ATTN_SILU));
}
static attn_var *build_slice(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *left = attn_tape_slice(tape, x[0], 0, 2), *right = attn_tape_slice(tape, x[0], 3, 2);
    return attn_tape_add(tape, attn_tape_add(tape, left, right),
                         attn_tape_add(tape, x[1], attn_tape_slice(tape, x[0], 1, 2)));
}
/* One piece twice, one not at all, and another reader. */
static attn_var *build_select(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *some = attn_tape_select(tape, x[0], 1, (const int32_t[]){2, 0, 2, 3}, B);
    attn_var *steps = attn_tape_select(tape, x[0], 0, (const int32_t[]){1, 1, 2}, T);
    return attn_tape_add(tape, x[0], attn_tape_add(tape, some, steps));
}
static attn_var *build_last(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *whole = attn_tape_activation(tape, x[0], ATTN_TANH);
    return attn_tape_add(tape, attn_tape_last(tape, whole, (const int32_t[]){3, 1, 0, 2}),
                         attn_tape_row(tape, whole, 0));
}

/* ---- tables and parameters ---------------------------------------------------------------------- */

static void prepare_embedding(check *c) { check_parameter(c, "table", 2, SHAPE(6, N)); }
static attn_var *build_embedding(check *c, attn_tape *tape, attn_var *const *x) {
    (void)x;
    attn_parameter *table = check_find(c, "table"); /* used as a table, as a weight and as a variable */
    attn_var *rows = attn_tape_embedding(tape, table, (const int32_t[]){0, 5, 2, 2, 3, 0}, 2, SHAPE(2, 3));
    attn_var *scores = attn_tape_linear(tape, rows, table, NULL, NULL, ATTN_TANH);
    attn_var *whole = attn_tape_activation(tape, attn_tape_parameter(tape, table), ATTN_SIGMOID);
    attn_var *row = attn_tape_row(tape, whole, 4);
    attn_var *spread = attn_tape_stack(tape, (attn_var *[]){row, row, row}, 3);
    attn_var *both = attn_tape_stack(tape, (attn_var *[]){spread, spread}, 2);
    return attn_tape_concat(tape, (attn_var *[]){scores, both}, 2);
}

/* ---- rows --------------------------------------------------------------------------------------- */

static void prepare_rows(check *c) {
    check_input(c, 2, SHAPE(B, A));
    check_parameter(c, "gain", 1, SHAPE(A));
    check_parameter(c, "bias", 1, SHAPE(A));
}
static attn_var *build_softmax(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    return attn_tape_add(tape, attn_tape_softmax(tape, x[0]), attn_tape_log_softmax(tape, x[0]));
}
static attn_var *build_layer_norm(check *c, attn_tape *tape, attn_var *const *x) {
    attn_parameter *gain = check_find(c, "gain"), *bias = check_find(c, "bias");
    attn_var *once = attn_tape_layer_norm(tape, x[0], gain, bias, 1e-5f);
    return attn_tape_add(tape, attn_tape_layer_norm(tape, once, gain, NULL, 1e-5f), x[0]);
}
static attn_var *build_rms_norm(check *c, attn_tape *tape, attn_var *const *x) {
    attn_parameter *gain = check_find(c, "gain");
    attn_var *once = attn_tape_rms_norm(tape, x[0], gain, 1e-5f);
    return attn_tape_add(tape, attn_tape_rms_norm(tape, once, gain, 1e-5f), x[0]);
}
static attn_var *build_cross_entropy(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c; /* logits that others use too, padding, and a gradient of the loss that is not 1 */
    attn_var *loss = attn_tape_cross_entropy(tape, x[0], (const int32_t[]){6, -1, 0, 2}, 0.2f, 0.3f, NULL);
    attn_var *losses[] = {loss, loss, loss, loss};
    attn_var *all = attn_tape_stack(tape, losses, 4); /* (4) */
    attn_var *rows = attn_tape_stack(tape, (attn_var *[]){all, all, all, all}, 4);
    return attn_tape_concat(tape, (attn_var *[]){x[0], rows}, 2);
}

/* ---- attention ---------------------------------------------------------------------------------- */

static void prepare_additive(check *c) {
    check_input(c, 3, SHAPE(T, B, A));
    check_input(c, 3, SHAPE(S, B, A));
    check_input(c, 3, SHAPE(S, B, N));
    check_parameter(c, "v", 1, SHAPE(A));
}
static attn_var *build_additive(check *c, attn_tape *tape, attn_var *const *x) {
    return attn_tape_additive_attention(tape, x[0], x[1], check_find(c, "v"), x[2], lengths, NULL, NULL);
}
/* Step by step, the states feeding back. */
static attn_var *build_additive_steps(check *c, attn_tape *tape, attn_var *const *x) {
    attn_var *context[T], *query = attn_tape_row(tape, x[0], 0), *weights, *energy;
    for (size_t t = 0; t < T; t++) {
        context[t] = attn_tape_additive_attention(tape, query, x[1], check_find(c, "v"), x[2], t ? lengths : NULL,
                                                  &weights, &energy);
        attn_var *left = attn_tape_slice(tape, context[t], 0, 3);
        attn_var *wide = attn_tape_concat(tape, (attn_var *[]){left, attn_tape_slice(tape, context[t], 1, 4)}, 2);
        if (t + 1 < T) query = attn_tape_add(tape, attn_tape_row(tape, x[0], t + 1), wide);
        assert_non_null(weights), assert_non_null(energy);
    }
    return attn_tape_stack(tape, context, T);
}
static void prepare_dot(check *c) {
    check_input(c, 3, SHAPE(T, B, A));
    check_input(c, 3, SHAPE(S, B, A));
    check_input(c, 3, SHAPE(S, B, N));
}
static attn_var *build_dot(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    return attn_tape_dot_attention(tape, x[0], x[1], x[2], 0.4f, lengths, NULL, NULL);
}
/* Queries, keys and annotations in one variable. */
static attn_var *build_dot_self(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *h = attn_tape_activation(tape, x[1], ATTN_TANH);
    attn_var *row = attn_tape_dot_attention(tape, attn_tape_row(tape, h, 1), h, h, 0.4f, lengths, NULL, NULL);
    attn_var *self = attn_tape_dot_attention(tape, h, h, h, 0.5f, lengths, NULL, NULL);
    attn_var *cross = attn_tape_dot_attention(tape, x[0], x[1], x[1], 0.3f, NULL, NULL, NULL);
    return attn_tape_add(tape, attn_tape_add(tape, row, attn_tape_row(tape, self, 2)), attn_tape_row(tape, cross, 0));
}

/* ---- the Llama family's ------------------------------------------------------------------------ */

static attn_var *build_reshape(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c; /* a variable that is read in both shapes */
    attn_var *h = attn_tape_activation(tape, x[0], ATTN_TANH);
    attn_var *flat = attn_tape_softmax(tape, attn_tape_reshape(tape, h, 2, SHAPE(B, T * N)));
    return attn_tape_add(tape, attn_tape_reshape(tape, flat, 3, SHAPE(T, B, N)), h);
}
/* Heads of 7, of which 4 columns turn; positions in no order and twice the same. */
static attn_var *build_rotary(check *c, attn_tape *tape, attn_var *const *x) {
    static float cos[10] = {1, 1, 0.6f, -0.8f, 0, 1, 0.28f, -0.6f, -1, 0.8f};
    static float sin[10] = {0, 0, 0.8f, 0.6f, 1, 0, -0.96f, 0.8f, 0, 0.6f};
    static const int64_t positions[T * B / 2] = {4, 1, 3, 0, 3, 2};
    (void)c;
    attn_rotary table = {attn_tensor_f32(cos, 2, (size_t)5, (size_t)2), attn_tensor_f32(sin, 2, (size_t)5, (size_t)2),
                         4, false};
    attn_var *wide = attn_tape_reshape(tape, x[0], 2, SHAPE(T * B / 2, 2 * N));
    attn_var *once = attn_tape_rotary(tape, attn_tape_activation(tape, wide, ATTN_TANH), 2, &table, positions);
    table.interleaved = true;
    return attn_tape_add(tape, once, attn_tape_rotary(tape, wide, 1, &table, positions));
}
static attn_var *build_gate(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *y = attn_tape_gate(tape, x[0], x[1], ATTN_SILU);
    y = attn_tape_add(tape, y, attn_tape_gate(tape, x[1], x[0], ATTN_GELU_TANH));
    return attn_tape_gate(tape, y, y, ATTN_TANH); /* both sides one variable */
}

/* ---- recurrence --------------------------------------------------------------------------------- */

static void prepare_gru(check *c) {
    check_input(c, 3, SHAPE(S, B, E));
    check_input(c, 2, SHAPE(B, N));
    check_parameter(c, "w", 2, SHAPE(3 * N, E));
    check_parameter(c, "u", 2, SHAPE(3 * N, N));
    check_parameter(c, "b", 1, SHAPE(3 * N));
    check_parameter(c, "c", 1, SHAPE(3 * N));
}
static attn_var *gru_both(check *c, attn_tape *tape, attn_var *const *x, bool reset_after) {
    attn_gru_weights all = {check_find(c, "w"), check_find(c, "u"), check_find(c, "b"), check_find(c, "c")};
    attn_gru_weights bare = {all.w, all.u, NULL, NULL};
    attn_var *ways[] = {attn_tape_gru(tape, x[0], &all, x[1], lengths, false, reset_after),
                        attn_tape_gru(tape, x[0], &all, x[1], lengths, true, reset_after),
                        attn_tape_gru(tape, x[0], &bare, NULL, NULL, true, reset_after)};
    return attn_tape_concat(tape, ways, 3);
}
static attn_var *build_gru(check *c, attn_tape *tape, attn_var *const *x) { return gru_both(c, tape, x, true); }
static attn_var *build_gru_paper(check *c, attn_tape *tape, attn_var *const *x) { return gru_both(c, tape, x, false); }
static attn_var *cells(check *c, attn_tape *tape, attn_var *const *x, bool reset_after) {
    attn_var *state = x[1], *states[S];
    for (size_t t = 0; t < S; t++) {
        attn_var *gx = attn_tape_linear(tape, attn_tape_row(tape, x[0], t), check_find(c, "w"), check_find(c, "b"),
                                        NULL, ATTN_IDENTITY);
        states[t] = state =
            attn_tape_gru_cell(tape, gx, state, check_find(c, "u"), t % 2 ? NULL : check_find(c, "c"), reset_after);
    }
    return attn_tape_stack(tape, states, S);
}
static attn_var *build_cells(check *c, attn_tape *tape, attn_var *const *x) { return cells(c, tape, x, true); }
static attn_var *build_cells_paper(check *c, attn_tape *tape, attn_var *const *x) { return cells(c, tape, x, false); }

/* ---- the list ----------------------------------------------------------------------------------- */

/* ---- guided alignment: three sequences, the middle one without links, one query with two -------------- */

static void prepare_guided(check *c) {
    check_input(c, 2, SHAPE(5, 6));
    check_input(c, 2, SHAPE(7, 6));
}
static attn_var *build_guided(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    static const int32_t cu_q[] = {0, 2, 3, 5}, cu_k[] = {0, 3, 5, 7};
    static const int32_t query[] = {0, 1, 1, 4}, key[] = {2, 0, 1, 5};
    attn_guided_alignment guided = {.q = x[0],
                                    .k = x[1],
                                    .heads = 2,
                                    .cu_q = cu_q,
                                    .cu_k = cu_k,
                                    .sequences = 3,
                                    .query = query,
                                    .key = key,
                                    .links = 4};
    attn_var *first = attn_tape_guided_alignment(tape, &guided, 0.7f);
    guided.head = 1;
    return attn_tape_stack(tape, (attn_var *[]){first, attn_tape_guided_alignment(tape, &guided, 0.3f)}, 2);
}

/* Answers of 2, 1, 1 and 3 tokens; their reference by hand. */
static attn_var *preferences_of(attn_tape *tape, attn_var *logits, float beta, const float *reference) {
    static const int32_t cu[] = {0, 2, 3, 4, 7}, targets[] = {0, 5, 2, 3, 3, 1, 4};
    const attn_preference_rows rows = {cu, 4, reference, beta, NULL};
    return attn_tape_preferences(tape, logits, targets, &rows, 0.8f, NULL);
}
static void prepare_preferences(check *c) {
    check_input(c, 2, SHAPE(7, 6));
    check_input(c, 2, SHAPE(7, 6));
}
static attn_var *build_preferences(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    static const float reference[] = {-3.5f, -1.2f, -2.5f, -4.8f};
    attn_var *used_up = attn_tape_add(tape, x[0], x[1]); /* its memory becomes the gradient's */
    return attn_tape_stack(
        tape,
        (attn_var *[]){preferences_of(tape, x[0], 0.7f, reference), preferences_of(tape, used_up, 0.3f, reference)}, 2);
}

#define CASES(X)                       \
    X(linear, linear_identity, false)  \
    X(linear, linear_tanh, false)      \
    X(linear, linear_sigmoid, false)   \
    X(linear, linear_relu, false)      \
    X(linear, linear_gelu, false)      \
    X(linear, linear_gelu_tanh, false) \
    X(linear, linear_silu, false)      \
    X(steps, steps, false)             \
    X(pair, activations, false)        \
    X(pairs_apart, maxout, false)      \
    X(pair, add_twice, false)          \
    X(pair, dropout, true)             \
    X(arrange, concat, false)          \
    X(arrange, stack, false)           \
    X(arrange, row, false)             \
    X(arrange, slice, false)           \
    X(arrange, select, false)          \
    X(arrange, reshape, false)         \
    X(arrange, rotary, false)          \
    X(pair, gate, false)               \
    X(arrange, last, false)            \
    X(embedding, embedding, false)     \
    X(rows, softmax, false)            \
    X(rows, layer_norm, false)         \
    X(rows, rms_norm, false)           \
    X(rows, cross_entropy, false)      \
    X(guided, guided, false)           \
    X(preferences, preferences, false) \
    X(additive, additive, false)       \
    X(additive, additive_steps, false) \
    X(dot, dot, false)                 \
    X(dot, dot_self, false)            \
    X(gru, gru, false)                 \
    X(gru, gru_paper, false)           \
    X(gru, cells, false)               \
    X(gru, cells_paper, false)

CASES(CHECK_FUNCTION)

int main(void) {
    const struct CMUnitTest tests[] = {CASES(CHECK_ROW)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
