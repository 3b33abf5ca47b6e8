/* Gradients of scaled dot-product attention on the tape, and of the layers made of it, against finite differences. */
#include "grad/check.h"

enum { B = 2, T = 3, S = 4, H = 4, HK = 2, D = 3, DV = 2, C = 6 };

static const int32_t q_lengths[B] = {3, 2}, kv_lengths[B] = {4, 3};

static void prepare_attention(check *c) {
    check_input(c, 3, SHAPE(B, T, H * D));
    check_input(c, 3, SHAPE(B, S, HK * D));
    check_input(c, 3, SHAPE(B, S, HK * DV));
}

static attn_attention_inputs inputs_of(attn_var *const *x) {
    return (attn_attention_inputs){.q = x[0], .k = x[1], .v = x[2], .heads = H, .key_heads = HK};
}

static attn_var *build_attention(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_attention_inputs inputs = inputs_of(x);
    attn_var *lse;
    attn_var *y = attn_tape_attention(tape, &inputs, NULL, &lse);
    assert_non_null(lse);
    return y;
}

/* What an option points to is gone before backward runs. */
static attn_var *build_options(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_attention_inputs inputs = inputs_of(x);
    int32_t lengths_q[B], lengths_k[B], prefix[B] = {2, 0};
    float slopes[H] = {0.5f, 0.25f, 0.125f, 0.0625f};
    memcpy(lengths_q, q_lengths, sizeof q_lengths), memcpy(lengths_k, kv_lengths, sizeof kv_lengths);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.causal = ATTN_CAUSAL_BOTTOM_RIGHT, options.window_left = 2, options.scale = 0.8f, options.softcap = 2;
    options.q_lengths = lengths_q, options.kv_lengths = lengths_k, options.alibi = slopes, options.prefix = prefix;
    attn_var *y = attn_tape_attention(tape, &inputs, &options, NULL);
    memset(lengths_q, 1, sizeof lengths_q), memset(lengths_k, 1, sizeof lengths_k), memset(slopes, 1, sizeof slopes);
    memset(prefix, 1, sizeof prefix), memset(&options, 1, sizeof options);
    return y;
}

static attn_var *build_masks(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    static uint8_t mask[B * T * S] = {1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1};
    static int32_t ids_q[B * T] = {0, 0, 1, 5, 5, 5}, ids_k[B * S] = {0, 1, 0, 0, 5, 5, 4, 5};
    attn_tensor kept = attn_tensor_of(mask, ATTN_U8, 4, SHAPE(B, 1, T, S));
    attn_tensor segments_q = attn_tensor_of(ids_q, ATTN_I32, 2, SHAPE(B, T));
    attn_tensor segments_k = attn_tensor_of(ids_k, ATTN_I32, 2, SHAPE(B, S));
    attn_attention_inputs inputs = inputs_of(x);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.mask = &kept, options.segments_q = &segments_q, options.segments_k = &segments_k;
    attn_var *y = attn_tape_attention(tape, &inputs, &options, NULL);
    memset(&kept, 1, sizeof kept), memset(&segments_q, 1, sizeof segments_q), memset(&segments_k, 1, sizeof segments_k);
    return y;
}

static void prepare_learned(check *c) {
    prepare_attention(c);
    check_parameter(c, "bias", 4, SHAPE(1, H, T, S));
    check_parameter(c, "sinks", 1, SHAPE(H));
}

/* Bias and sinks are parameters: twice, so that their gradients add up; the second bias is made by an operation. */
static attn_var *build_learned(check *c, attn_tape *tape, attn_var *const *x) {
    attn_attention_inputs inputs = inputs_of(x);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.kv_lengths = kv_lengths;
    inputs.bias = attn_tape_parameter(tape, check_find(c, "bias"));
    inputs.sinks = attn_tape_parameter(tape, check_find(c, "sinks"));
    attn_var *first = attn_tape_attention(tape, &inputs, &options, NULL);
    inputs.bias = attn_tape_activation(tape, inputs.bias, ATTN_TANH);
    return attn_tape_add(tape, first, attn_tape_attention(tape, &inputs, NULL, NULL));
}
/* Nothing but bias and sinks has a gradient. */
static void prepare_learned_alone(check *c) {
    check_parameter(c, "bias", 4, SHAPE(1, H, T, S));
    check_parameter(c, "sinks", 1, SHAPE(H));
}
static attn_var *build_learned_alone(check *c, attn_tape *tape, attn_var *const *x) {
    (void)x;
    static float data[B * S * H * D];
    for (size_t i = 0; i < ATTN_COUNT(data); i++) data[i] = (float)(i * 7 % 11) / 8 - 0.6f;
    const attn_tensor plain[] = {attn_tensor_of(data, ATTN_F32, 3, SHAPE(B, T, H * D)),
                                 attn_tensor_of(data + 3, ATTN_F32, 3, SHAPE(B, S, HK * D)),
                                 attn_tensor_of(data + 5, ATTN_F32, 3, SHAPE(B, S, HK * DV))};
    attn_var *vars[3];
    for (int i = 0; i < 3; i++) vars[i] = attn_tape_input(tape, &plain[i], false);
    attn_attention_inputs inputs = inputs_of(vars);
    inputs.bias = attn_tape_parameter(tape, check_find(c, "bias"));
    inputs.sinks = attn_tape_parameter(tape, check_find(c, "sinks"));
    return attn_tape_attention(tape, &inputs, NULL, NULL);
}

static void prepare_self(check *c) {
    check_input(c, 3, SHAPE(B, S, C));
    check_input(c, 3, SHAPE(B, S, C));
}

/* Queries, keys and values in one variable, in rows of one, in two. */
static attn_var *build_self(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_var *h = attn_tape_activation(tape, x[0], ATTN_TANH);
    attn_var *simple = attn_tape_simplified_attention(tape, h, NULL);
    attn_attention_inputs two = {.q = simple, .k = x[1], .v = x[1], .heads = 2};
    attn_attention_inputs other = {.q = x[1], .k = h, .v = x[1], .heads = 3};
    attn_var *all[] = {attn_tape_attention(tape, &two, NULL, NULL), attn_tape_attention(tape, &other, NULL, NULL)};
    attn_var *rows = attn_tape_stack(tape, all, 2);
    attn_attention_inputs parts = {
        .q = attn_tape_row(tape, rows, 0), .k = attn_tape_row(tape, rows, 1), .v = attn_tape_row(tape, rows, 0)};
    parts.heads = 2;
    attn_attention_inputs apart = {.q = attn_tape_row(tape, rows, 1), .k = x[0], .v = x[1], .heads = 1};
    attn_var *beside = attn_tape_attention(tape, &apart, NULL, NULL);
    attn_var *sum = attn_tape_add(tape, attn_tape_attention(tape, &parts, NULL, NULL), attn_tape_row(tape, rows, 1));
    return attn_tape_add(tape, beside, sum);
}

/* Three sequences, one of them without queries, one after another. */
static void prepare_packed(check *c) {
    check_input(c, 2, SHAPE(5, H * D));
    check_input(c, 2, SHAPE(7, HK * D));
    check_input(c, 2, SHAPE(7, HK * DV));
}
static attn_var *build_packed(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    const int32_t cu_q[] = {0, 3, 3, 5}, cu_k[] = {0, 3, 4, 7};
    attn_attention_inputs inputs = inputs_of(x);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.cu_q = cu_q, options.cu_k = cu_k, options.sequences = 3, options.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
    return attn_tape_attention(tape, &inputs, &options, NULL);
}

static attn_var *build_dropped(check *c, attn_tape *tape, attn_var *const *x) {
    (void)c;
    attn_attention_inputs inputs = inputs_of(x);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.dropout = 0.4f;
    attn_var *first = attn_tape_attention(tape, &inputs, &options, NULL);
    return attn_tape_add(tape, first, attn_tape_attention(tape, &inputs, &options, NULL)); /* other masks */
}

/* ---- layers ------------------------------------------------------------------------------------- */

static attn_multi_head_attention layer_of(check *c) {
    return (attn_multi_head_attention){.w_query = check_find(c, "W_query"),
                                       .w_key = check_find(c, "W_key"),
                                       .w_value = check_find(c, "W_value"),
                                       .b_query = check_find(c, "b_query"),
                                       .b_key = check_find(c, "b_key"),
                                       .b_value = check_find(c, "b_value"),
                                       .w_out = check_find(c, "out_proj"),
                                       .b_out = check_find(c, "b_out"),
                                       .heads = 4,
                                       .key_heads = 2};
}
static void prepare_layer(check *c) {
    prepare_self(c);
    enum { KEYS = 4 };
    check_parameter(c, "W_query", 2, SHAPE(8, C));
    check_parameter(c, "W_key", 2, SHAPE(KEYS, C));
    check_parameter(c, "W_value", 2, SHAPE(KEYS, C));
    check_parameter(c, "b_query", 1, SHAPE(8));
    check_parameter(c, "b_key", 1, SHAPE(KEYS));
    check_parameter(c, "b_value", 1, SHAPE(KEYS));
    check_parameter(c, "out_proj", 2, SHAPE(C, 8));
    check_parameter(c, "b_out", 1, SHAPE(C));
    for (size_t i = 0; i < attn_parameters_count(c->set); i++) { /* products of three matrices: smaller ones */
        attn_tensor *value = &attn_parameters_at(c->set, i)->value;
        for (size_t j = 0; j < attn_tensor_count(value); j++) ((float *)value->data)[j] *= 0.6f;
    }
}
static attn_var *build_layer(check *c, attn_tape *tape, attn_var *const *x) {
    attn_multi_head_attention layer = layer_of(c);
    layer.causal = ATTN_CAUSAL_TOP_LEFT;
    return attn_tape_multi_head_attention(tape, &layer, x[0], NULL, NULL, x[0], NULL);
}
/* Keys and values made once, used by two layers of queries. */
static attn_var *build_cross(check *c, attn_tape *tape, attn_var *const *x) {
    attn_multi_head_attention layer = layer_of(c);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.kv_lengths = kv_lengths;
    attn_keys_values context = attn_tape_keys_values(tape, &layer, x[1]);
    attn_var *first = attn_tape_multi_head_attention(tape, &layer, x[0], &context, &options, NULL, NULL);
    return attn_tape_multi_head_attention(tape, &layer, first, &context, &options, first, NULL);
}
/* Weights of one shape: on the same rows, on others, on several that are stacked. */
static attn_var *build_projections(check *c, attn_tape *tape, attn_var *const *x) {
    attn_parameter *a = check_find(c, "W_key"), *b = check_find(c, "W_value"), *d = check_find(c, "W_other"),
                   *e = check_find(c, "W_more");
    attn_var *sum = attn_tape_linear(tape, x[0], a, NULL, NULL, ATTN_IDENTITY);
    sum = attn_tape_linear(tape, x[1], b, NULL, sum, ATTN_TANH);
    for (int i = 0; i < 4; i++)
        sum = attn_tape_linear(tape, x[i == 1 || i == 2], i < 2 ? d : e, NULL, sum, i % 2 ? ATTN_IDENTITY : ATTN_TANH);
    return sum;
}
static void prepare_projections(check *c) {
    prepare_layer(c);
    check_parameter(c, "W_other", 2, SHAPE(4, C));
    check_parameter(c, "W_more", 2, SHAPE(4, C));
}
static attn_var *build_layer_dropped(check *c, attn_tape *tape, attn_var *const *x) {
    attn_multi_head_attention layer = layer_of(c);
    layer.dropout = 0.3f;
    return attn_tape_multi_head_attention(tape, &layer, x[0], NULL, NULL, NULL, NULL);
}

#define CASES(X)                           \
    X(attention, attention, false)         \
    X(attention, options, false)           \
    X(attention, masks, false)             \
    X(learned, learned, false)             \
    X(learned_alone, learned_alone, false) \
    X(self, self, false)                   \
    X(packed, packed, false)               \
    X(attention, dropped, true)            \
    X(layer, layer, false)                 \
    X(layer, cross, false)                 \
    X(layer, layer_dropped, true)          \
    X(projections, projections, false)

CASES(CHECK_FUNCTION)

int main(void) {
    const struct CMUnitTest tests[] = {CASES(CHECK_ROW)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
