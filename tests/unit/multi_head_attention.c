/* Attention on the tape against the double reference; the layers against one another, bit by bit; learning to copy;
 * what is refused; memory that runs out. */
#include "ref/attention.h"
#include "support/allocator.h"
#include "support/tape.h"

#include "base/base.h"
#include <attn/ops.h>
#include <math.h>
#include <stdio.h>

enum { LAYER_D = 24, HEADS = 4, B = 2, T = 9 };

typedef struct world {
    struct test_memory memory;
    attn_context *ctx;
    attn_parameters *set;
    attn_tape *tape;
} world;

static void world_open(world *w, int threads, bool record) {
    w->memory = (struct test_memory)TEST_MEMORY_INIT;
    w->ctx = test_memory_context(&w->memory, threads);
    assert_ok(attn_parameters_create(&w->set, w->ctx, 3));
    assert_ok(attn_tape_create(&w->tape, w->ctx, record));
}

static void world_close(world *w) {
    attn_tape_free(w->tape);
    attn_parameters_free(w->set);
    attn_context_free(w->ctx);
    assert_int_equal(w->memory.alive, 0);
}

static attn_var *must(world *w, attn_var *var) {
    if (!var) fail_msg("%s", attn_error(w->ctx));
    return var;
}

static const float *values(const attn_var *var) { return attn_var_value(var)->data; }

/* A variable of normal numbers, the same for the same name. */
static attn_var *normal(world *w, const char *name, int rank, const size_t *shape) {
    attn_parameter *p = attn_parameters_find(w->set, name);
    if (!p) p = test_parameter(w->set, name, rank, shape, 1);
    return attn_tape_parameter(w->tape, p);
}

/* ---- the double reference ----------------------------------------------------------------------- */

enum { RT = 70, RS = 131, RH = 4, RHK = 2, RD = 24, RDV = 17 };

/* (B, T, H·D) as (B, H, T, D). */
static attn_tensor heads_of(const attn_tensor *t, size_t heads) {
    const size_t size = t->shape[2] / heads;
    const ptrdiff_t row = (ptrdiff_t)t->shape[2];
    return (attn_tensor){t->data,
                         ATTN_F32,
                         4,
                         {t->shape[0], heads, t->shape[1], size},
                         {row * (ptrdiff_t)t->shape[1], (ptrdiff_t)size, row, 1}};
}

/* Each element of t, as (B, H, T, D), within the bound of the reference. */
static void assert_near(const char *what, const attn_tensor *t, size_t heads, const ref_array *right) {
    attn_tensor view = t->rank == 3 && heads ? heads_of(t, heads) : *t;
    assert_non_null(view.data);
    assert_int_equal(attn_tensor_count(&view), right->count);
    for (size_t i = 0; i < right->count; i++) {
        double found = ref_load(&view, ref_place(&view, i));
        if (!(fabs(found - right->value[i]) <= right->bound[i]))
            fail_msg("%s, element %zu: %.9g, expected %.9g within %.3g", what, i, found, right->value[i],
                     right->bound[i]);
    }
}

/* All of it at once: values, LSE and gradients; the same bits from 1, 2 and 3 threads. */
static void test_reference(void **state) {
    (void)state;
    static float first[5][B * RS * RH * RD];
    for (int threads = 1; threads <= 3; threads++) {
        world w;
        world_open(&w, threads, true);
        const float slopes[RH] = {0.1f, 0.2f, 0.05f, 0.4f};
        const int32_t lengths[B] = {RS, 100};
        attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
        options.causal = ATTN_CAUSAL_BOTTOM_RIGHT, options.window_left = 90, options.softcap = 5;
        options.alibi = slopes, options.kv_lengths = lengths;
        attn_attention_inputs inputs = {.heads = RH, .key_heads = RHK};
        inputs.q = normal(&w, "q", 3, SHAPE(B, RT, RH * RD));
        inputs.k = normal(&w, "k", 3, SHAPE(B, RS, RHK * RD));
        inputs.v = normal(&w, "v", 3, SHAPE(B, RS, RHK * RDV));
        inputs.bias = normal(&w, "bias", 4, SHAPE(1, RH, RT, RS));
        inputs.sinks = normal(&w, "sinks", 1, SHAPE(RH));
        attn_parameter *dout = test_parameter(w.set, "dout", 2, SHAPE(1, B * RT * RH * RDV), 1);
        attn_var *lse, *y = must(&w, attn_tape_attention(w.tape, &inputs, &options, &lse));
        if (attn_tape_backward(w.tape, test_weighted_sum(w.tape, y, dout)) != ATTN_OK)
            fail_msg("%s", attn_error(w.ctx));

        const attn_tensor *q = attn_var_value(inputs.q), *k = attn_var_value(inputs.k), *v = attn_var_value(inputs.v);
        attn_tensor q4 = heads_of(q, RH), k4 = heads_of(k, RHK), v4 = heads_of(v, RHK);
        attn_tensor given = attn_tensor_of(dout->value.data, ATTN_F32, 3, SHAPE(B, RT, RH * RDV));
        attn_tensor dout4 = heads_of(&given, RH);
        options.bias = attn_var_value(inputs.bias), options.sinks = values(inputs.sinks);
        const attn_tensor *grads[5] = {attn_var_grad(inputs.q), attn_var_grad(inputs.k), attn_var_grad(inputs.v),
                                       attn_var_grad(inputs.bias), attn_var_grad(inputs.sinks)};
        if (threads == 1) {
            ref_attention r = {.q = &q4, .k = &k4, .v = &v4, .options = &options, .dout = &dout4};
            ref_attention_run(&r);
            assert_near("y", attn_var_value(y), RH, &r.out);
            assert_near("lse", attn_var_value(lse), 0, &r.lse);
            assert_near("dq", grads[0], RH, &r.dq);
            assert_near("dk", grads[1], RHK, &r.dk);
            assert_near("dv", grads[2], RHK, &r.dv);
            assert_near("dbias", grads[3], 0, &r.dbias);
            assert_near("dsinks", grads[4], 0, &r.dsinks);
            ref_attention_free(&r);
        }
        for (int i = 0; i < 5; i++) {
            const size_t bytes = ATTN_MIN(attn_tensor_count(grads[i]) * sizeof(float), sizeof first[i]);
            if (threads == 1) memcpy(first[i], grads[i]->data, bytes);
            else assert_memory_equal(first[i], grads[i]->data, bytes);
        }
        world_close(&w);
    }
}

/* ---- layers -------------------------------------------------------------------------------------- */

static attn_multi_head_attention layer_with(world *w, size_t key_heads, attn_causal causal) {
    attn_multi_head_attention_options options = ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    options.d_in = LAYER_D, options.d_out = LAYER_D, options.heads = HEADS, options.key_heads = key_heads;
    options.qkv_bias = true, options.causal = causal, options.context_length = T;
    attn_multi_head_attention layer;
    assert_ok(attn_multi_head_attention_create(&layer, w->set, "att.", &options));
    for (size_t i = 0; i < attn_parameters_count(w->set); i++) { /* biases that are not zero */
        attn_parameter *p = attn_parameters_at(w->set, i);
        for (size_t j = 0; p->value.rank == 1 && j < p->value.shape[0]; j++)
            ((float *)p->value.data)[j] = (float)j * 0.05f - 0.3f;
    }
    return layer;
}

static void test_names(void **state) {
    (void)state;
    static const char *const names[] = {"att.W_query.weight",  "att.W_query.bias",   "att.W_key.weight",
                                        "att.W_key.bias",      "att.W_value.weight", "att.W_value.bias",
                                        "att.out_proj.weight", "att.out_proj.bias",  "one.W_query.weight",
                                        "one.W_key.weight",    "one.W_value.weight", "W_query.weight"};
    world w;
    world_open(&w, 1, true);
    attn_multi_head_attention layer = layer_with(&w, 2, ATTN_CAUSAL_NONE), one;
    assert_ok(attn_self_attention_create(&one, w.set, "one.", 3, 2, false));
    assert_true(one.heads == 1 && !one.w_out && !one.b_query && one.causal == ATTN_CAUSAL_NONE);
    assert_ok(attn_causal_attention_create(&one, w.set, NULL, 3, 2, 6, 0.5f, false));
    assert_true(one.causal == ATTN_CAUSAL_TOP_LEFT && one.context_length == 6 && one.dropout == 0.5f);
    for (size_t i = 0; i < ATTN_COUNT(names); i++)
        if (!attn_parameters_find(w.set, names[i])) fail_msg("there is no %s", names[i]);
    assert_int_equal(attn_parameters_count(w.set), 14);
    assert_true(layer.w_key->value.shape[0] == LAYER_D / 2 && layer.w_key->value.shape[1] == LAYER_D);
    world_close(&w);
}

/* Rows first … first+rows−1 of a parameter as another one's. */
static attn_parameter *part_of(world *w, const char *name, const attn_parameter *from, size_t first, size_t rows) {
    const size_t columns = from->value.rank == 2 ? from->value.shape[1] : 1;
    attn_parameter *p = test_parameter(w->set, name, from->value.rank, SHAPE(rows, columns), 1);
    memcpy(p->value.data, (const float *)from->value.data + first * columns, rows * columns * sizeof(float));
    return p;
}

/* The book's MultiHeadAttentionWrapper: heads side by side, each a causal attention; groups share their key head. */
static void wrapper(size_t key_heads) {
    world w;
    world_open(&w, 2, true);
    attn_multi_head_attention layer = layer_with(&w, key_heads, ATTN_CAUSAL_TOP_LEFT);
    attn_var *x = normal(&w, "x", 3, SHAPE(B, T, LAYER_D)), *heads[HEADS];
    attn_var *y = must(&w, attn_tape_multi_head_attention(w.tape, &layer, x, NULL, NULL, NULL, NULL));
    const size_t d = LAYER_D / HEADS;
    for (size_t h = 0; h < HEADS; h++) {
        const size_t key = h / (HEADS / key_heads);
        char name[6][16];
        for (int i = 0; i < 6; i++) snprintf(name[i], sizeof name[i], "part%zu.%d", h, i);
        attn_multi_head_attention one = {.w_query = part_of(&w, name[0], layer.w_query, h * d, d),
                                         .w_key = part_of(&w, name[1], layer.w_key, key * d, d),
                                         .w_value = part_of(&w, name[2], layer.w_value, key * d, d),
                                         .b_query = part_of(&w, name[3], layer.b_query, h * d, d),
                                         .b_key = part_of(&w, name[4], layer.b_key, key * d, d),
                                         .b_value = part_of(&w, name[5], layer.b_value, key * d, d),
                                         .heads = 1,
                                         .key_heads = 1,
                                         .causal = ATTN_CAUSAL_TOP_LEFT};
        heads[h] = must(&w, attn_tape_multi_head_attention(w.tape, &one, x, NULL, NULL, NULL, NULL));
    }
    attn_var *z = attn_tape_concat(w.tape, heads, HEADS);
    attn_var *same = must(&w, attn_tape_linear(w.tape, z, layer.w_out, layer.b_out, NULL, ATTN_IDENTITY));
    assert_memory_equal(values(y), values(same), B * T * LAYER_D * sizeof(float));
    world_close(&w);
}
static void test_wrapper(void **state) { (void)state, wrapper(HEADS); }
static void test_groups(void **state) { (void)state, wrapper(2), wrapper(1); }

/* The last row of a prefix is the row of the whole: what a decoder does, with keys and values of its own. */
static void test_prefixes(void **state) {
    (void)state;
    world w;
    world_open(&w, 2, false);
    attn_multi_head_attention layer = layer_with(&w, 2, ATTN_CAUSAL_TOP_LEFT);
    attn_var *x = normal(&w, "x", 3, SHAPE(1, T, LAYER_D)), *lse, *last_lse;
    attn_var *y = must(&w, attn_tape_multi_head_attention(w.tape, &layer, x, NULL, NULL, NULL, &lse));
    for (size_t t = 0; t < T; t++) {
        attn_tensor prefix = *attn_var_value(x), row = prefix;
        prefix.shape[1] = t + 1, row.shape[1] = 1, row.data = (float *)prefix.data + t * LAYER_D;
        prefix.stride[0] = (ptrdiff_t)((t + 1) * LAYER_D), row.stride[0] = LAYER_D;
        attn_keys_values context = attn_tape_keys_values(w.tape, &layer, attn_tape_input(w.tape, &prefix, false));
        attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
        options.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
        attn_var *step = must(&w, attn_tape_multi_head_attention(w.tape, &layer, attn_tape_input(w.tape, &row, false),
                                                                 &context, &options, NULL, &last_lse));
        assert_memory_equal(values(step), values(y) + t * LAYER_D, LAYER_D * sizeof(float));
        for (size_t h = 0; h < HEADS; h++) assert_true(values(last_lse)[h] == values(lse)[h * T + t]);
    }
    world_close(&w);
}

/* The weights, by V = I: all keys have the same score. */
enum { N = 200 };
static const float *dropped(world *w, uint64_t step) {
    static float ones[N * N];
    for (size_t i = 0; i < ATTN_COUNT(ones); i++) ones[i] = i / N == i % N;
    const attn_tensor eye = attn_tensor_of(ones, ATTN_F32, 3, SHAPE(1, N, N));
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.dropout = 0.25f;
    attn_tape_seed(w->tape, 7, step);
    attn_var *x = attn_tape_zeros(w->tape, 3, SHAPE(1, N, 8));
    attn_attention_inputs inputs = {.q = x, .k = x, .v = attn_tape_input(w->tape, &eye, true), .heads = 1};
    return values(must(w, attn_tape_attention(w->tape, &inputs, &options, NULL)));
}

/* Nothing is dropped without recording; the mean stays; every operation and every step has its own mask. */
static void test_dropout(void **state) {
    (void)state;
    world w, plain, other;
    world_open(&w, 2, true), world_open(&plain, 2, false), world_open(&other, 1, true);
    const float *weights = dropped(&w, 1), *next = dropped(&w, 1), *whole = dropped(&plain, 1);
    const float *step = dropped(&other, 2);
    int kept = 0, same[2] = {0, 0};
    for (size_t i = 0; i < N * N; i++) {
        assert_true(fabsf(whole[i] - 1.0f / N) < 1e-8f);
        assert_true(weights[i] == 0 || fabsf(weights[i] - 1.0f / (0.75f * N)) < 1e-8f);
        kept += weights[i] != 0;
        same[0] += (weights[i] != 0) == (next[i] != 0), same[1] += (weights[i] != 0) == (step[i] != 0);
    }
    assert_true(abs(kept - 30000) < 6 * 87); /* binomial */
    for (int i = 0; i < 2; i++) assert_true(abs(same[i] - 25000) < 6 * 97);
    attn_tape_reset(other.tape);
    assert_memory_equal(dropped(&other, 1), weights, N * N * sizeof(float));
    world_close(&w), world_close(&plain), world_close(&other);
}

/* ---- learning ------------------------------------------------------------------------------------ */

enum { WORDS = 8, HALF = 5, STEPS = 2 * HALF - 1, COPIES = 16, WIDTH = 32, TRAINING = 250, MOST = 16 };

/* Said five words, say them again: the next word is the one HALF − 1 places back. Only attention can look there. */
static void copy_batch(uint32_t random, int32_t ids[COPIES * STEPS], int32_t places[COPIES * STEPS],
                       int32_t targets[COPIES * STEPS]) {
    for (size_t b = 0; b < COPIES; b++)
        for (size_t t = 0; t < STEPS; t++) {
            random = random * 1664525u + 1013904223u;
            int32_t *id = ids + b * STEPS + t;
            *id = t < HALF ? (int32_t)(random >> 16) % WORDS : id[-HALF];
            places[b * STEPS + t] = (int32_t)t;
            targets[b * STEPS + t] = t < HALF - 1 ? -1 : id[1 - HALF];
        }
}

static void test_copy(void **state) {
    (void)state;
    world w;
    world_open(&w, 2, true);
    attn_multi_head_attention_options options = ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    options.d_in = WIDTH, options.d_out = WIDTH, options.heads = HEADS, options.key_heads = 2;
    options.causal = ATTN_CAUSAL_TOP_LEFT, options.context_length = STEPS;
    attn_multi_head_attention layer;
    assert_ok(attn_multi_head_attention_create(&layer, w.set, "att.", &options));
    attn_parameter *words = test_parameter(w.set, "words", 2, SHAPE(WORDS, WIDTH), 0.5f),
                   *places = test_parameter(w.set, "places", 2, SHAPE(STEPS, WIDTH), 0.5f),
                   *out = test_parameter(w.set, "out", 2, SHAPE(WORDS, WIDTH), 0.2f);
    static float moments[2][MOST][WIDTH * WIDTH];
    int32_t ids[COPIES * STEPS], place[COPIES * STEPS], targets[COPIES * STEPS];
    attn_loss_stats stats = {0};
    attn_adamw_options adam = {sizeof adam, 5e-3f, 0.9f, 0.98f, 1e-9f, 0, 1, 0};
    assert_true(attn_parameters_count(w.set) <= MOST);
    double begin = 0;
    for (uint32_t step = 1; step <= TRAINING; step++) {
        stats = (attn_loss_stats){0};
        copy_batch(step, ids, place, targets);
        attn_tape_reset(w.tape);
        attn_parameters_zero_grad(w.set);
        attn_var *x = attn_tape_add(w.tape, attn_tape_embedding(w.tape, words, ids, 2, SHAPE(COPIES, STEPS)),
                                    attn_tape_embedding(w.tape, places, place, 2, SHAPE(COPIES, STEPS)));
        attn_var *y = attn_tape_multi_head_attention(w.tape, &layer, x, NULL, NULL, x, NULL);
        attn_var *logits = attn_tape_linear(w.tape, y, out, NULL, NULL, ATTN_IDENTITY);
        attn_var *loss = attn_tape_cross_entropy(w.tape, logits, targets, 0, 1.0f / (COPIES * HALF), &stats);
        if (attn_tape_backward(w.tape, loss) != ATTN_OK) fail_msg("%s", attn_error(w.ctx));
        adam.step = step;
        for (size_t i = 0; i < attn_parameters_count(w.set); i++) {
            attn_parameter *p = attn_parameters_at(w.set, i);
            attn_tensor m = p->value, v = p->value;
            m.data = moments[0][i], v.data = moments[1][i];
            assert_ok(attn_adamw(w.ctx, &p->value, &m, &v, &p->grad, &adam));
            attn_parameter_touch(p);
        }
        if (step == 1) begin = stats.loss / COPIES / HALF;
    }
    assert_true(begin > 1.5); /* ln 8 is 2.08 */
    if (!(stats.loss / COPIES / HALF < 0.01))
        fail_msg("the loss is %g after %d steps", stats.loss / COPIES / HALF, TRAINING);
    assert_int_equal(stats.correct, COPIES * HALF);
    world_close(&w);
}

/* ---- refused ------------------------------------------------------------------------------------- */

static void test_misuse(void **state) {
    (void)state;
    world w;
    world_open(&w, 1, true);
    attn_multi_head_attention layer = layer_with(&w, 2, ATTN_CAUSAL_TOP_LEFT), one;
    assert_ok(attn_self_attention_create(&one, w.set, "one.", LAYER_D, LAYER_D, false));
    const int32_t lengths[B] = {3, T + 1}, cu[3] = {0, 1, 2}, long_ones[3] = {0, 10, 20};
    attn_tensor constant = attn_tensor_of((void *)lengths, ATTN_F32, 4, SHAPE(1, 1, 1, 1));
    static const char *const words[] = {"q is NULL",      "4 heads, expected a multiple of k's 5",
                                        "5 heads",        "rank 3, expected 2",
                                        "struct_size",    "bias is given as a variable",
                                        "sinks has 9",    "kv_lengths",
                                        "dropout",        "residual",
                                        "context length", "inputs are NULL",
                                        "has 10 steps"};
    for (size_t i = 0; i <= ATTN_COUNT(words); i++) {
        attn_tape_reset(w.tape);
        attn_var *x = normal(&w, "x", 3, SHAPE(B, T, LAYER_D)), *y = NULL;
        attn_var *longer = normal(&w, "longer", 3, SHAPE(B, T + 1, LAYER_D)), *nine = normal(&w, "9", 1, SHAPE(9));
        attn_attention_inputs inputs = {.q = x, .k = x, .v = x, .heads = 4};
        attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
        switch (i) {
        case 0: inputs.q = NULL; break;
        case 1: inputs.key_heads = 5, inputs.k = normal(&w, "k", 3, SHAPE(B, T, 30)), inputs.v = inputs.k; break;
        case 2: inputs.heads = 5; break;
        case 3: options.cu_q = options.cu_k = cu, options.sequences = 2; break;
        case 4: options.struct_size = 8; break;
        case 5: options.bias = &constant, inputs.bias = normal(&w, "bias", 4, SHAPE(1, 1, 1, 1)); break;
        case 6: inputs.sinks = nine; break;
        case 7: options.kv_lengths = lengths; break;
        case 8: options.dropout = 0.1f; break;
        case 12: options.cu_q = options.cu_k = long_ones, options.sequences = 2; break;
        default: break;
        }
        if (i < 8) y = attn_tape_attention(w.tape, &inputs, &options, NULL);
        else if (i == 8) y = attn_tape_multi_head_attention(w.tape, &layer, x, NULL, &options, NULL, NULL);
        else if (i == 9) y = attn_tape_multi_head_attention(w.tape, &one, x, NULL, NULL, x, NULL);
        else if (i == 10) y = attn_tape_multi_head_attention(w.tape, &layer, longer, NULL, NULL, NULL, NULL);
        else if (i == 11) y = attn_tape_attention(w.tape, NULL, NULL, NULL);
        else if (i == 12)
            y = attn_tape_multi_head_attention(w.tape, &layer, normal(&w, "packed", 2, SHAPE(20, LAYER_D)), NULL,
                                               &options, NULL, NULL);
        else break;
        if (y || attn_tape_status(w.tape) == ATTN_OK) fail_msg("case %zu was accepted", i);
        if (!strstr(attn_error(w.ctx), words[i])) fail_msg("case %zu: %s", i, attn_error(w.ctx));
    }
    attn_multi_head_attention_options options = ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    assert_int_equal(attn_multi_head_attention_create(&one, w.set, "no.", &options), ATTN_E_ARGUMENT); /* d_in 0 */
    options.d_in = options.d_out = 6, options.heads = 4;
    assert_int_equal(attn_multi_head_attention_create(&one, w.set, "no.", &options), ATTN_E_ARGUMENT);
    options.heads = 3, options.key_heads = 2;
    assert_int_equal(attn_multi_head_attention_create(&one, w.set, "no.", &options), ATTN_E_ARGUMENT);
    options.key_heads = 0, options.dropout = 1;
    assert_int_equal(attn_multi_head_attention_create(&one, w.set, "no.", &options), ATTN_E_ARGUMENT);
    options.dropout = 0, options.struct_size--;
    assert_int_equal(attn_multi_head_attention_create(&one, w.set, "no.", &options), ATTN_E_VERSION);
    assert_null(attn_parameters_find(w.set, "no.W_query.weight"));
    world_close(&w);
}

/* Workspace is the tape's: from the third step on nothing is allocated. */
static void test_steady_state(void **state) {
    (void)state;
    world w;
    world_open(&w, 2, true);
    for (int step = 0; step < 5; step++) {
        attn_tape_reset(w.tape);
        attn_attention_inputs inputs = {.heads = RH, .key_heads = RHK};
        inputs.q = normal(&w, "q", 3, SHAPE(B, RT, RH * RD)), inputs.k = normal(&w, "k", 3, SHAPE(B, RS, RHK * RD));
        inputs.v = normal(&w, "v", 3, SHAPE(B, RS, RHK * RDV));
        const long before = w.memory.requests;
        attn_var *y = NULL;
        for (int i = 0; i < 3; i++) y = must(&w, attn_tape_attention(w.tape, &inputs, NULL, NULL));
        if (step > 1) assert_int_equal(w.memory.requests, before);
        attn_parameter *dout = attn_parameters_find(w.set, "dout");
        if (!dout) dout = test_parameter(w.set, "dout", 2, SHAPE(1, B * RT * RH * RDV), 1);
        assert_ok(attn_tape_backward(w.tape, test_weighted_sum(w.tape, y, dout)));
    }
    world_close(&w);
}

/* Whichever allocation fails, the step says so; the next one is right. */
static void test_out_of_memory(void **state) {
    (void)state;
    float right = 0;
    for (long n = -1;; n++) {
        world w;
        world_open(&w, 2, true);
        attn_multi_head_attention layer = layer_with(&w, 2, ATTN_CAUSAL_TOP_LEFT);
        attn_parameter *dout = test_parameter(w.set, "dout", 2, SHAPE(1, B * T * LAYER_D), 1);
        (void)normal(&w, "x", 3, SHAPE(B, T, LAYER_D));
        attn_tape_free(w.tape);
        assert_ok(attn_tape_create(&w.tape, w.ctx, true));
        w.memory.fail_after = n;
        attn_status status = ATTN_OK;
        for (int again = 0; again < 2; again++) {
            attn_tape_reset(w.tape);
            attn_var *x = normal(&w, "x", 3, NULL);
            attn_var *y = attn_tape_multi_head_attention(w.tape, &layer, x, NULL, NULL, x, NULL);
            attn_var *loss = test_weighted_sum(w.tape, y, dout);
            attn_status done = attn_tape_backward(w.tape, loss);
            if (again == 0) status = done;
            else assert_ok(done);
            if (done != ATTN_OK) assert_int_equal(done, ATTN_E_NOMEM);
            else if (n < 0) right = values(loss)[0];
            else assert_true(values(loss)[0] == right);
            if (w.memory.fail_after == 0) w.memory.fail_after = -1; /* there is memory again */
        }
        world_close(&w);
        if (n > 0 && status == ATTN_OK) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),     cmocka_unit_test(test_names),    cmocka_unit_test(test_wrapper),
        cmocka_unit_test(test_groups),        cmocka_unit_test(test_prefixes), cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_copy),          cmocka_unit_test(test_misuse),   cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
