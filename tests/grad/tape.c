/* The tape itself: dropout's masks, failures, memory, what may be asked of it and what may not; parameters. */
#include "support/allocator.h"

#include "base/base.h"
#include <attn/nn.h>
#include <math.h>
#include <stdio.h>

enum { T = 3, B = 4, E = 6, H = 5, A = 7, V = 9 };

/* A small translator: embedding, both directions of a GRU, attention, cells, maxout, dropout. */
typedef struct model {
    attn_parameters *set;
    attn_parameter *table, *w, *u, *b, *c, *key, *query, *v, *to_gates, *cell, *start, *read, *read_bias, *out, *gain;
} model;

static attn_status add(model *m, attn_parameter **out, const char *name, int rank, size_t rows, size_t columns) {
    return attn_parameters_add(m->set, out, name, ATTN_INIT_UNIFORM, 0.7f, rank, (const size_t[]){rows, columns});
}

static attn_status model_create(model *m, attn_context *ctx) {
    *m = (model){0};
    attn_status status = attn_parameters_create(&m->set, ctx, 5);
    if (status == ATTN_OK) status = add(m, &m->table, "table", 2, V, E);
    if (status == ATTN_OK) status = add(m, &m->w, "w", 2, 3 * H, E);
    if (status == ATTN_OK) status = add(m, &m->u, "u", 2, 3 * H, H);
    if (status == ATTN_OK) status = add(m, &m->b, "b", 1, 3 * H, 0);
    if (status == ATTN_OK) status = add(m, &m->c, "c", 1, 3 * H, 0);
    if (status == ATTN_OK) status = add(m, &m->key, "key", 2, A, 2 * H);
    if (status == ATTN_OK) status = add(m, &m->query, "query", 2, A, H);
    if (status == ATTN_OK) status = add(m, &m->v, "v", 1, A, 0);
    if (status == ATTN_OK) status = add(m, &m->to_gates, "to_gates", 2, 3 * H, 2 * H);
    if (status == ATTN_OK) status = add(m, &m->cell, "cell", 2, 3 * H, H);
    if (status == ATTN_OK) status = add(m, &m->start, "start", 2, H, H);
    if (status == ATTN_OK) status = add(m, &m->read, "read", 2, 2 * H, H);
    if (status == ATTN_OK) status = add(m, &m->read_bias, "read_bias", 1, 2 * H, 0);
    if (status == ATTN_OK) status = add(m, &m->out, "out", 2, V, H);
    if (status == ATTN_OK) status = add(m, &m->gain, "gain", 1, H, 0);
    return status;
}

static attn_var *model_loss(const model *m, attn_tape *tape, float p, attn_loss_stats *stats) {
    static const int32_t ids[T * B] = {1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3}, lengths[B] = {3, 1, 2, 3};
    static const int32_t targets[T * B] = {2, 3, 4, 5, 6, -1, 8, 0, 1, -1, -1, 4};
    attn_gru_weights weights = {m->w, m->u, m->b, m->c};
    attn_var *x = attn_tape_dropout(tape, attn_tape_embedding(tape, m->table, ids, 2, (const size_t[]){T, B}), p);
    attn_var *ways[] = {attn_tape_gru(tape, x, &weights, NULL, lengths, false, true),
                        attn_tape_gru(tape, x, &weights, NULL, lengths, true, false)};
    attn_var *h = attn_tape_concat(tape, ways, 2), *hk = attn_tape_linear(tape, h, m->key, NULL, NULL, ATTN_IDENTITY);
    attn_var *state = attn_tape_linear(tape, attn_tape_last(tape, ways[0], lengths), m->start, NULL, NULL, ATTN_TANH);
    attn_var *states[T];
    for (int t = 0; t < T; t++) {
        attn_var *sq = attn_tape_linear(tape, state, m->query, NULL, NULL, ATTN_IDENTITY), *weight;
        attn_var *context = attn_tape_additive_attention(tape, sq, hk, m->v, h, lengths, &weight, NULL);
        attn_var *gx = attn_tape_linear(tape, context, m->to_gates, m->b, NULL, ATTN_IDENTITY);
        states[t] = state = attn_tape_gru_cell(tape, gx, state, m->cell, m->c, true);
    }
    attn_var *all = attn_tape_layer_norm(tape, attn_tape_stack(tape, states, T), m->gain, NULL, 1e-5f);
    attn_var *read = attn_tape_linear(tape, all, m->read, m->read_bias, NULL, ATTN_IDENTITY);
    attn_var *out = attn_tape_dropout(tape, attn_tape_maxout(tape, read), p);
    attn_var *logits = attn_tape_linear(tape, out, m->out, NULL, NULL, ATTN_IDENTITY);
    return attn_tape_cross_entropy(tape, logits, targets, 0.1f, 1, stats);
}

enum { MAX_GRADS = 2048 };

/* Loss and backward; grads gets all gradients. */
static attn_status model_pass(const model *m, attn_tape *tape, float p, double *loss, float *grads) {
    attn_loss_stats stats = {0, 0, 0, 0};
    attn_tape_reset(tape);
    attn_status status = attn_tape_backward(tape, model_loss(m, tape, p, &stats));
    if (status != ATTN_OK) return status;
    *loss = stats.loss;
    size_t at = 0;
    for (size_t i = 0; i < attn_parameters_count(m->set); i++) {
        const attn_tensor *grad = &attn_parameters_at(m->set, i)->grad;
        size_t n = attn_tensor_count(grad);
        assert_true(at + n <= MAX_GRADS);
        assert_non_null(grad->data);
        memcpy(grads + at, grad->data, n * sizeof(float));
        at += n;
    }
    memset(grads + at, 0, (MAX_GRADS - at) * sizeof(float));
    return ATTN_OK;
}

/* One step. */
static attn_status model_step(const model *m, attn_tape *tape, float p, double *loss, float *grads) {
    attn_parameters_zero_grad(m->set);
    return model_pass(m, tape, p, loss, grads);
}

typedef struct world {
    struct test_memory memory;
    attn_context *ctx;
    model m;
    attn_tape *tape;
    double loss;
    float grads[MAX_GRADS];
} world;

static void world_open(world *w, int threads, bool record) {
    w->memory = (struct test_memory)TEST_MEMORY_INIT;
    w->ctx = test_memory_context(&w->memory, threads);
    assert_ok(model_create(&w->m, w->ctx));
    assert_ok(attn_tape_create(&w->tape, w->ctx, record));
}

static void world_close(world *w) {
    attn_tape_free(w->tape);
    attn_parameters_free(w->m.set);
    attn_context_free(w->ctx);
    assert_int_equal(w->memory.alive, 0);
}

/* ---- dropout and threads ------------------------------------------------------------------------ */

static void test_same_seed_same_bits(void **state) {
    (void)state;
    world a, b;
    world_open(&a, 1, true);
    attn_tape_seed(a.tape, 1, 2);
    assert_ok(model_step(&a.m, a.tape, 0.3f, &a.loss, a.grads));
    for (int threads = 1; threads <= 3; threads++) {
        world_open(&b, threads, true);
        attn_tape_seed(b.tape, 1, 3);
        assert_ok(model_step(&b.m, b.tape, 0.3f, &b.loss, b.grads));
        assert_true(b.loss != a.loss); /* another step, other masks */
        attn_tape_seed(b.tape, 2, 2);
        assert_ok(model_step(&b.m, b.tape, 0.3f, &b.loss, b.grads));
        assert_true(b.loss != a.loss);
        attn_tape_seed(b.tape, 1, 2);
        assert_ok(model_step(&b.m, b.tape, 0.3f, &b.loss, b.grads));
        assert_true(b.loss == a.loss);
        assert_memory_equal(b.grads, a.grads, sizeof a.grads);
        world_close(&b);
    }
    world_close(&a);
}

/* What was in the gradients' memory is replaced once, where no gradient comes too; then it is added to again. */
static void test_replaces_grad(void **state) {
    (void)state;
    static float grads[MAX_GRADS];
    for (int threads = 1; threads <= 2; threads++) {
        world w;
        world_open(&w, threads, true);
        assert_ok(model_step(&w.m, w.tape, 0, &w.loss, w.grads));
        for (size_t i = 0; i < attn_parameters_count(w.m.set); i++) {
            const attn_tensor *grad = &attn_parameters_at(w.m.set, i)->grad;
            for (size_t k = 0; k < attn_tensor_count(grad); k++) ((float *)grad->data)[k] = NAN;
        }
        attn_tape_replaces_grad(w.tape, w.m.set);
        assert_ok(model_pass(&w.m, w.tape, 0, &w.loss, grads));
        assert_memory_equal(grads, w.grads, sizeof grads);
        assert_ok(model_pass(&w.m, w.tape, 0, &w.loss, grads));
        for (int i = 0; i < MAX_GRADS; i++)
            assert_true(fabsf(grads[i] - 2 * w.grads[i]) <= 1e-5f * (1 + fabsf(grads[i])));
        w.m.read->frozen = true;
        attn_tape_replaces_grad(w.tape, w.m.set);
        assert_ok(model_pass(&w.m, w.tape, 0, &w.loss, grads));
        const float *unreached = w.m.read->grad.data;
        for (size_t k = 0; k < attn_tensor_count(&w.m.read->grad); k++) assert_true(unreached[k] == 0);
        world_close(&w);
    }
}

static void test_dropout_mask(void **state) {
    (void)state;
    enum { N = 4000 };
    static float ones[N];
    world w;
    world_open(&w, 2, true);
    for (int i = 0; i < N; i++) ones[i] = 1;
    attn_tensor t = attn_tensor_f32(ones, 1, (size_t)N);
    attn_var *x = attn_tape_input(w.tape, &t, true);
    attn_var *first = attn_tape_dropout(w.tape, x, 0.25f), *second = attn_tape_dropout(w.tape, x, 0.25f);
    const float *a = attn_var_value(first)->data, *b = attn_var_value(second)->data;
    int kept = 0, same = 0;
    for (int i = 0; i < N; i++) {
        assert_true(a[i] == 0 || fabsf(a[i] - 4.0f / 3) < 1e-6f);
        kept += a[i] != 0;
        same += (a[i] != 0) == (b[i] != 0);
    }
    /* Binomial: standard deviations 27 and 31; two places on the tape have independent masks, equal 5 times in 8. */
    assert_true(abs(kept - 3000) < 6 * 27);
    assert_true(abs(same - 2500) < 6 * 31);
    assert_ptr_equal(attn_tape_dropout(w.tape, x, 0), x);
    assert_null(attn_tape_dropout(w.tape, x, 1));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_ARGUMENT);
    world_close(&w);

    world_open(&w, 2, false);
    x = attn_tape_input(w.tape, &t, true);
    assert_ptr_equal(attn_tape_dropout(w.tape, x, 0.25f), x); /* nothing is dropped when nothing is recorded */
    world_close(&w);
}

/* ---- failures ----------------------------------------------------------------------------------- */

static void test_failure_sticks(void **state) {
    (void)state;
    world w;
    world_open(&w, 1, true);
    float data[6] = {1, 2, 3, 4, 5, 6};
    attn_tensor good = attn_tensor_f32(data, 2, (size_t)1, (size_t)E),
                bad = attn_tensor_f32(data, 2, (size_t)2, (size_t)3);
    attn_var *x = attn_tape_input(w.tape, &good, true), *narrow = attn_tape_input(w.tape, &bad, true);
    assert_null(attn_tape_linear(w.tape, narrow, w.m.w, NULL, NULL, ATTN_IDENTITY));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_SHAPE);
    char first[512];
    snprintf(first, sizeof first, "%s", attn_error(w.ctx));
    assert_non_null(strstr(first, "3 columns"));
    /* All that follows is refused, whatever it is; the first sentence stays. */
    assert_null(attn_tape_linear(w.tape, x, w.m.w, NULL, NULL, ATTN_IDENTITY));
    assert_null(attn_tape_add(w.tape, NULL, NULL));
    assert_null(attn_tape_fail(w.tape, ATTN_E_NUMERIC, "another"));
    attn_parameter *none;
    assert_int_equal(attn_parameters_add(w.m.set, &none, "w", ATTN_INIT_ZERO, 1, 0, NULL), ATTN_E_ARGUMENT);
    assert_int_equal(attn_tape_backward(w.tape, NULL), ATTN_E_SHAPE);
    assert_string_equal(attn_error(w.ctx), first);
    attn_tape_reset(w.tape);
    assert_ok(attn_tape_status(w.tape));
    assert_ok(model_step(&w.m, w.tape, 0, &w.loss, w.grads));
    assert_null(attn_tape_fail(w.tape, ATTN_E_NUMERIC, "the model's own %d", 7));
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_NUMERIC);
    assert_string_equal(attn_error(w.ctx), "the model's own 7");
    world_close(&w);
}

/* Each of these is a mistake of the caller that has to be refused with a sentence. */
static void test_misuse(void **state) {
    (void)state;
    world w, other;
    world_open(&w, 1, true);
    world_open(&other, 1, false);
    float data[12] = {0};
    attn_tensor cube = attn_tensor_f32(data, 3, (size_t)1, (size_t)2, (size_t)E), half = cube, integers = cube;
    attn_tensor flipped = attn_tensor_swap(&cube, 1, 2);
    integers.dtype = ATTN_I32;
    half.shape[2] = 3, half.stride[1] = 3, half.stride[0] = 6;
    const int32_t long_one[2] = {2, 0}, negative[2] = {-1, 0}, outside[2] = {0, V};
    const attn_gru_weights weights = {w.m.w, w.m.u, w.m.b, w.m.c}, twisted = {w.m.u, w.m.w, NULL, NULL};
    for (int i = 0;; i++) {
        attn_tape_reset(w.tape);
        attn_tape_reset(other.tape);
        attn_var *x = attn_tape_input(w.tape, &cube, true), *stranger = attn_tape_input(other.tape, &cube, true);
        attn_var *small = attn_tape_input(w.tape, &half, true), *y = x;
        attn_var *row = attn_tape_row(w.tape, x, 0);
        assert_non_null(row);
        switch (i) {
        case 0: y = attn_tape_input(w.tape, &flipped, false); break;
        case 1: y = attn_tape_input(w.tape, &integers, false); break;
        case 2: y = attn_tape_add(w.tape, x, stranger); break;
        case 3: y = attn_tape_add(w.tape, x, small); break;
        case 4: y = attn_tape_add(w.tape, x, NULL); break;
        case 5: y = attn_tape_row(w.tape, x, 1); break;
        case 6: y = attn_tape_slice(w.tape, x, 5, 2); break;
        case 7: y = attn_tape_slice(w.tape, x, SIZE_MAX, 2); break;
        case 8: y = attn_tape_concat(w.tape, &x, 0); break;
        case 9: y = attn_tape_stack(w.tape, (attn_var *[]){x, small}, 2); break;
        case 10: y = attn_tape_maxout(w.tape, small); break;
        case 11: y = attn_tape_last(w.tape, x, long_one); break;
        case 12: y = attn_tape_last(w.tape, x, negative); break;
        case 13: y = attn_tape_gru(w.tape, x, &weights, NULL, long_one, false, true); break;
        case 14: y = attn_tape_gru(w.tape, x, &twisted, NULL, NULL, false, true); break;
        case 15: y = attn_tape_gru(w.tape, x, &weights, row, NULL, false, true); break;
        case 16: y = attn_tape_gru_cell(w.tape, row, row, w.m.u, NULL, true); break;
        case 17: y = attn_tape_embedding(w.tape, w.m.table, outside, 1, (const size_t[]){2}); break;
        case 18: y = attn_tape_select(w.tape, x, 1, outside, 2); break;
        case 19: y = attn_tape_select(w.tape, attn_tape_zeros(w.tape, 2, cube.shape + 1), 1, outside, 2); break;
        case 20: y = attn_tape_linear(w.tape, x, w.m.w, w.m.v, NULL, ATTN_IDENTITY); break;
        case 21: y = attn_tape_linear(w.tape, x, w.m.w, w.m.b, x, ATTN_IDENTITY); break;
        case 22: y = attn_tape_additive_attention(w.tape, row, x, w.m.v, x, NULL, NULL, NULL); break;
        case 23: y = attn_tape_dot_attention(w.tape, row, small, x, 1, NULL, NULL, NULL); break;
        case 24: y = attn_tape_layer_norm(w.tape, x, w.m.gain, NULL, 1e-5f); break;
        case 25: y = attn_tape_linear(w.tape, x, NULL, NULL, NULL, ATTN_IDENTITY); break;
        case 26: y = attn_tape_zeros(w.tape, 2, (const size_t[]){SIZE_MAX, 2}); break;
        case 27: y = attn_tape_cross_entropy(w.tape, x, outside, 0, 1, NULL) ? x : NULL; break; /* V > columns */
        default: world_close(&w), world_close(&other); return;
        }
        if (y || attn_tape_status(w.tape) == ATTN_OK || !attn_error(w.ctx)[0]) fail_msg("case %d was accepted", i);
    }
}

static void test_backward_rules(void **state) {
    (void)state;
    world w;
    world_open(&w, 1, true);
    float data[E] = {1, 2, 3, 4, 5, 6};
    attn_tensor t = attn_tensor_f32(data, 2, (size_t)1, (size_t)E), one = attn_tensor_f32(data, 0);
    const int32_t target = 1;
    assert_int_equal(attn_tape_backward(w.tape, attn_tape_input(w.tape, &t, true)),
                     ATTN_E_ARGUMENT); /* not one element */
    attn_tape_reset(w.tape);
    assert_int_equal(attn_tape_backward(w.tape, attn_tape_input(w.tape, &one, false)), ATTN_E_ARGUMENT);
    attn_tape_reset(w.tape);
    attn_var *x = attn_tape_input(w.tape, &t, true), *unused = attn_tape_input(w.tape, &t, true);
    attn_var *logits = attn_tape_linear(w.tape, x, w.m.w, NULL, NULL, ATTN_IDENTITY);
    attn_var *loss = attn_tape_cross_entropy(w.tape, logits, &target, 0, 1, NULL);
    assert_ok(attn_tape_backward(w.tape, loss));
    assert_non_null(attn_var_grad(x)->data);
    assert_null(attn_var_grad(unused)->data);
    assert_int_equal(attn_tape_backward(w.tape, loss), ATTN_E_ARGUMENT); /* twice */
    attn_tape_reset(w.tape);
    x = attn_tape_input(w.tape, &t, true);
    logits = attn_tape_linear(w.tape, x, w.m.w, NULL, NULL, ATTN_IDENTITY);
    assert_non_null(attn_tape_cross_entropy(w.tape, logits, &target, 0, 1, NULL));
    assert_null(attn_tape_softmax(w.tape, logits)); /* they became their gradient */
    assert_int_equal(attn_tape_status(w.tape), ATTN_E_ARGUMENT);
    world_close(&w);

    world_open(&w, 1, false); /* the same is fine where nothing is recorded */
    x = attn_tape_input(w.tape, &t, true);
    logits = attn_tape_linear(w.tape, x, w.m.w, NULL, NULL, ATTN_IDENTITY);
    loss = attn_tape_cross_entropy(w.tape, logits, &target, 0, 1, NULL);
    assert_non_null(attn_tape_softmax(w.tape, logits));
    assert_int_equal(attn_tape_backward(w.tape, loss), ATTN_E_ARGUMENT);
    world_close(&w);
}

/* A NaN in a weight or an input comes out of loss and gradients. */
static void test_nan_is_not_hidden(void **state) {
    (void)state;
    world w;
    world_open(&w, 2, true);
    static const char *const names[] = {"table", "w", "u", "key", "v", "cell", "read", "out", "gain"};
    for (size_t i = 0; i < ATTN_COUNT(names); i++) {
        attn_parameter *parameter = attn_parameters_find(w.m.set, names[i]);
        float *value = (float *)parameter->value.data + (i ? 0 : E),
              old = *value; /* row 0 of the table may be padding */
        *value = NAN;
        attn_parameter_touch(parameter);
        assert_ok(model_step(&w.m, w.tape, 0, &w.loss, w.grads));
        if (!isnan(w.loss)) fail_msg("NaN in %s does not reach the loss", names[i]);
        *value = old;
        attn_parameter_touch(parameter);
    }
    float pairs[6] = {NAN, 1, 1, NAN, -1, 2};
    attn_tensor t = attn_tensor_f32(pairs, 1, (size_t)6);
    attn_tape_reset(w.tape);
    const float *y = attn_var_value(attn_tape_maxout(w.tape, attn_tape_input(w.tape, &t, false)))->data;
    assert_true(isnan(y[0]) && isnan(y[1]) && y[2] == 2);
    assert_ok(model_step(&w.m, w.tape, 0, &w.loss, w.grads));
    assert_true(isfinite(w.loss));
    world_close(&w);
}

/* ---- memory ------------------------------------------------------------------------------------- */

/* Whichever allocation fails, the step says so, and the same objects then give the right result. */
static void out_of_memory(int threads) {
    world right, w;
    world_open(&right, threads, true);
    assert_ok(model_step(&right.m, right.tape, 0.2f, &right.loss, right.grads));
    long failed = 0;
    for (long n = 0;; n++) {
        world_open(&w, threads, true);
        w.memory.fail_after = n;
        attn_status status = model_step(&w.m, w.tape, 0.2f, &w.loss, w.grads);
        bool exhausted = w.memory.fail_after == 0;
        w.memory.fail_after = -1;
        if (status != ATTN_OK) {
            assert_int_equal(status, ATTN_E_NOMEM);
            assert_non_null(strstr(attn_error(w.ctx), "memory"));
            failed++;
        }
        assert_ok(model_step(&w.m, w.tape, 0.2f, &w.loss, w.grads));
        assert_true(w.loss == right.loss);
        assert_memory_equal(w.grads, right.grads, sizeof w.grads);
        world_close(&w);
        if (status == ATTN_OK && !exhausted) break;
    }
    assert_true(failed > 20);
    world_close(&right);
}
static void test_out_of_memory(void **state) { (void)state, out_of_memory(1); }
static void test_out_of_memory_threads(void **state) { (void)state, out_of_memory(3); }

static void test_out_of_memory_parameters(void **state) {
    (void)state;
    for (long n = 0;; n++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        memory.fail_after = n;
        model m;
        attn_tape *tape = NULL;
        attn_status status = model_create(&m, ctx);
        if (status == ATTN_OK) status = attn_tape_create(&tape, ctx, true);
        attn_tape_free(tape);
        attn_parameters_free(m.set);
        attn_context_free(ctx);
        assert_int_equal(memory.alive, 0);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
    }
}

/* From the third step on nothing of the tape's is allocated; what the products take per call is given back. */
static void test_steady_state(void **state) {
    (void)state;
    world w;
    world_open(&w, 1, true);
    float big[64 * 1024] = {0};
    attn_tensor t = attn_tensor_f32(big, 2, (size_t)64, (size_t)1024);
    long requests[6], alive[6];
    for (int i = 0; i < 6; i++) {
        long before = w.memory.requests;
        attn_tape_reset(w.tape);
        attn_var *x = attn_tape_input(w.tape, &t, true);
        for (int layer = 0; layer < 40; layer++) x = attn_tape_activation(w.tape, x, ATTN_TANH); /* 10 MiB: chunks */
        assert_non_null(x);
        requests[i] = w.memory.requests - before;
        alive[i] = w.memory.alive;
    }
    assert_true(requests[0] > 1);
    assert_int_equal(requests[1], 1); /* the merged chunk */
    for (int i = 2; i < 6; i++) {
        assert_int_equal(requests[i], 0);
        assert_int_equal(alive[i], alive[1]);
    }
    world_close(&w);
}

/* ---- parameters --------------------------------------------------------------------------------- */

static void test_parameters(void **state) {
    (void)state;
    world w;
    world_open(&w, 2, true);
    attn_parameters *set, *alone;
    attn_parameter *a, *b, *q, *c;
    assert_ok(attn_parameters_create(&set, w.ctx, 9));
    assert_ok(attn_parameters_add(set, &a, "a", ATTN_INIT_NORMAL, 2, 2, (const size_t[]){100, 50}));
    assert_ok(attn_parameters_add(set, &b, "b", ATTN_INIT_XAVIER, 1, 2, (const size_t[]){30, 20}));
    assert_ok(attn_parameters_add(set, &q, "q", ATTN_INIT_ORTHOGONAL, 1.5f, 2, (const size_t[]){90, 40}));
    assert_int_equal(attn_parameters_add(set, &c, "b", ATTN_INIT_ZERO, 1, 1, (const size_t[]){2}), ATTN_E_ARGUMENT);
    assert_null(c);
    assert_int_equal(attn_parameters_add(set, &c, "c", ATTN_INIT_ZERO, 1, 2, (const size_t[]){SIZE_MAX, 2}),
                     ATTN_E_NOMEM);
    assert_int_equal(attn_parameters_add(set, &c, "c", (attn_init)77, 1, 1, (const size_t[]){2}), ATTN_E_ARGUMENT);
    assert_int_equal(attn_parameters_count(set), 3);
    assert_ptr_equal(attn_parameters_at(set, 1), b);
    assert_null(attn_parameters_at(set, 3));
    assert_ptr_equal(attn_parameters_find(set, "q"), q);
    assert_null(attn_parameters_find(set, "r"));
    assert_int_equal(attn_parameters_elements(set), 5000 + 600 + 3600);
    assert_null(a->grad.data);

    /* (seed, name) alone: the same in a set where it comes first, another with another seed. */
    for (uint64_t seed = 9; seed <= 10; seed++) {
        assert_ok(attn_parameters_create(&alone, w.ctx, seed));
        assert_ok(attn_parameters_add(alone, &c, "b", ATTN_INIT_XAVIER, 1, 2, (const size_t[]){30, 20}));
        assert_int_equal(memcmp(c->value.data, b->value.data, 600 * sizeof(float)) == 0, seed == 9);
        attn_parameters_free(alone);
    }
    const float *x = a->value.data;
    double sum = 0, squares = 0, limit = sqrt(6.0 / 50);
    for (int i = 0; i < 5000; i++) sum += x[i], squares += (double)x[i] * x[i];
    assert_true(fabs(sum / 5000) < 6 * 2 / sqrt(5000));
    assert_true(fabs(squares / 5000 / 4 - 1) < 6 * sqrt(2.0 / 5000));
    double largest = 0;
    for (int i = 0; i < 600; i++) largest = fmax(largest, fabs(((float *)b->value.data)[i]));
    assert_true(largest <= limit && largest > 0.95 * limit);
    for (int i = 0; i < 90; i++)
        for (int j = 0; j <= i; j++) {
            if (i / 40 != j / 40) continue;
            double product = 0;
            for (int k = 0; k < 40; k++)
                product += (double)((float *)q->value.data)[i * 40 + k] * ((float *)q->value.data)[j * 40 + k];
            assert_true(fabs(product - (i == j ? 2.25 : 0)) < 1e-6);
        }
    attn_parameters_free(set);
    attn_parameters_free(NULL);
    attn_tape_free(NULL);
    world_close(&w);
}

/* Packed forms follow the value only after attn_parameter_touch, which is what an optimizer calls. */
static void test_touch(void **state) {
    (void)state;
    world w;
    world_open(&w, 1, true);
    double first;
    assert_ok(model_step(&w.m, w.tape, 0, &first, w.grads));
    float *value = w.m.u->value.data;
    value[0] += 1;
    attn_parameter_touch(w.m.u);
    assert_ok(model_step(&w.m, w.tape, 0, &w.loss, w.grads));
    assert_true(w.loss != first);
    value[0] -= 1;
    attn_parameter_touch(w.m.u);
    assert_ok(model_step(&w.m, w.tape, 0, &w.loss, w.grads));
    assert_true(fabs(w.loss - first) < 1e-5);
    world_close(&w);
}

/* select takes rows of a dimension, in any order and number. */
static void test_select(void **state) {
    (void)state;
    world w;
    world_open(&w, 1, false);
    float data[24];
    for (int i = 0; i < 24; i++) data[i] = (float)i;
    attn_tensor t = attn_tensor_f32(data, 3, (size_t)2, (size_t)4, (size_t)3);
    attn_var *x = attn_tape_input(w.tape, &t, false);
    const attn_tensor *y = attn_var_value(attn_tape_select(w.tape, x, 1, (const int32_t[]){3, 0, 3, 2, 1}, 5));
    assert_int_equal(y->shape[1], 5);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 5; j++)
            for (int k = 0; k < 3; k++)
                assert_true(((float *)y->data)[(i * 5 + j) * 3 + k] == (float)(i * 12 + "\3\0\3\2\1"[j] * 3 + k));
    y = attn_var_value(attn_tape_select(w.tape, x, 0, (const int32_t[]){1}, 1));
    assert_memory_equal(y->data, data + 12, 12 * sizeof(float));
    y = attn_var_value(attn_tape_select(w.tape, x, 2, (const int32_t[]){2, 2}, 2));
    assert_true(((float *)y->data)[15] == 23);
    world_close(&w);
}

/* Weights that are learned are packed for each product of many rows, into memory that all share: the rows' bits are
 * those of few rows, whose products keep what is packed, also after a step. */
enum { MANY = 200, LAYERS = 12, WIDTH = 48 };

static long layers_pass(attn_context *ctx, struct test_memory *memory, attn_parameters *set, size_t rows, float *out,
                        float *sum) {
    static int32_t ids[MANY];
    attn_tape *tape;
    for (size_t i = 0; i < MANY; i++) ids[i] = (int32_t)(i * 7 % WIDTH);
    attn_parameters_zero_grad(set);
    const long before = memory->alive;
    for (size_t first = 0; first < MANY; first += rows) {
        assert_ok(attn_tape_create(&tape, ctx, true));
        attn_var *h = attn_tape_embedding(tape, attn_parameters_at(set, 0), ids + first, 1, &rows);
        for (size_t l = 1; l <= LAYERS; l++)
            h = attn_tape_linear(tape, h, attn_parameters_at(set, l), NULL, h, ATTN_IDENTITY);
        memcpy(out + first * WIDTH, attn_var_value(h)->data, rows * WIDTH * sizeof *out);
        assert_ok(attn_tape_backward(tape, attn_tape_cross_entropy(tape, h, ids + first, 0, 1, NULL)));
        attn_tape_free(tape);
    }
    memcpy(sum, attn_parameters_at(set, 0)->grad.data, WIDTH * WIDTH * sizeof *sum);
    return memory->alive - before;
}

static void test_shared_forms(void **state) {
    (void)state;
    static float out[2][MANY * WIDTH], grad[2][WIDTH * WIDTH];
    for (int step = 0; step < 2; step++) {
        for (int few = 0; few < 2; few++) {
            struct test_memory memory = TEST_MEMORY_INIT;
            attn_context *ctx = test_memory_context(&memory, 1 + few);
            attn_parameters *set;
            assert_ok(attn_parameters_create(&set, ctx, 5));
            for (int l = 0; l <= LAYERS; l++) {
                attn_parameter *p;
                char name[8];
                snprintf(name, sizeof name, "w%d", l);
                assert_ok(
                    attn_parameters_add(set, &p, name, ATTN_INIT_UNIFORM, 0.2f, 2, (const size_t[]){WIDTH, WIDTH}));
            }
            for (int done = 0; done <= step; done++) {
                const size_t rows = few ? MANY / 4 : MANY;
                const long kept = layers_pass(ctx, &memory, set, rows, out[few], grad[few]);
                if (done == 0) assert_int_equal(kept, few ? 3 * LAYERS + 1 : LAYERS + 1); /* gradients, and forms */
                for (size_t i = 0; i < attn_parameters_count(set); i++) {
                    attn_parameter *p = attn_parameters_at(set, i);
                    for (size_t k = 0; k < WIDTH * WIDTH; k++) ((float *)p->value.data)[k] *= 1.25f;
                    attn_parameter_touch(p);
                }
            }
            attn_parameters_free(set);
            attn_context_free(ctx);
            assert_int_equal(memory.alive, 0);
        }
        assert_memory_equal(out[0], out[1], sizeof out[0]);
        for (size_t i = 0; i < WIDTH * WIDTH; i++)
            assert_true(fabsf(grad[0][i] - grad[1][i]) <= 1e-4f * (1 + fabsf(grad[0][i])));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_bits),
        cmocka_unit_test(test_replaces_grad),
        cmocka_unit_test(test_dropout_mask),
        cmocka_unit_test(test_failure_sticks),
        cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_backward_rules),
        cmocka_unit_test(test_nan_is_not_hidden),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_out_of_memory_threads),
        cmocka_unit_test(test_out_of_memory_parameters),
        cmocka_unit_test(test_steady_state),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_touch),
        cmocka_unit_test(test_shared_forms),
        cmocka_unit_test(test_select),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
