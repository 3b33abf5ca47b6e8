/* Parts of a tape that are run again in backward: the same bits as a tape that keeps everything, in less memory. */
#include "support/allocator.h"
#include "support/tape.h"

#include "base/base.h"
#include <attn/ops.h>
#include <stdio.h>

enum { T = 6, B = 4, C = 8, LAYERS = 5 };

typedef struct world {
    struct test_memory memory;
    attn_context *ctx;
    attn_parameters *set;
    attn_parameter *w[LAYERS], *key[LAYERS], *u[LAYERS], *total;
    attn_tape *tape;
    float x[T * B * C], m[T * B * C];
} world;

/* Both inputs are read twice; a GRU has gradients of its own (shadows); dropout must fall the same way again. */
static attn_var *part(attn_tape *tape, void *arg, attn_var *const *x) {
    attn_parameter *const *weights = arg;
    const attn_gru_weights gru = {weights[LAYERS], weights[2 * LAYERS], NULL, NULL};
    attn_var *a = attn_tape_linear(tape, x[1], weights[0], NULL, NULL, ATTN_GELU);
    attn_var *h = attn_tape_add(tape, x[0], attn_tape_dropout(tape, attn_tape_add(tape, a, x[1]), 0.4f));
    return attn_tape_add(tape, h, attn_tape_gru(tape, h, &gru, NULL, NULL, false, true));
}

static attn_var *loss_of(world *w) {
    const attn_tensor tx = attn_tensor_f32(w->x, 3, (size_t)T, (size_t)B, (size_t)C);
    const attn_tensor tm = attn_tensor_f32(w->m, 3, (size_t)T, (size_t)B, (size_t)C);
    attn_var *x[2] = {attn_tape_input(w->tape, &tx, true), attn_tape_input(w->tape, &tm, true)};
    for (size_t l = 0; l < LAYERS; l++) x[0] = attn_tape_run(w->tape, part, &w->w[l], x, 2);
    return test_weighted_sum(w->tape, x[0], w->total);
}

static void world_open(world *w, int threads) {
    *w = (world){.memory = TEST_MEMORY_INIT};
    w->ctx = test_memory_context(&w->memory, threads);
    assert_ok(attn_parameters_create(&w->set, w->ctx, 5));
    assert_ok(attn_tape_create(&w->tape, w->ctx, true));
    char name[32];
    for (int l = 0; l < LAYERS; l++) {
        snprintf(name, sizeof name, "w%d", l);
        w->w[l] = test_parameter(w->set, name, 2, SHAPE(C, C), 0.4f);
        snprintf(name, sizeof name, "key%d", l);
        w->key[l] = test_parameter(w->set, name, 2, SHAPE(3 * C, C), 0.4f);
        snprintf(name, sizeof name, "u%d", l);
        w->u[l] = test_parameter(w->set, name, 2, SHAPE(3 * C, C), 0.4f);
    }
    w->total = test_parameter(w->set, "total", 2, SHAPE(1, T * B * C), 1);
    for (int i = 0; i < T * B * C; i++) w->x[i] = (float)(i % 7) / 7 - 0.4f, w->m[i] = (float)(i % 5) / 5 - 0.3f;
}

static void world_close(world *w) {
    attn_tape_free(w->tape);
    attn_parameters_free(w->set);
    attn_context_free(w->ctx);
    assert_int_equal(w->memory.alive, 0);
}

static attn_status step(world *w, bool recompute) {
    attn_tape_reset(w->tape);
    attn_tape_seed(w->tape, 3, 4);
    attn_tape_recompute(w->tape, recompute);
    attn_parameters_zero_grad(w->set);
    return attn_tape_backward(w->tape, loss_of(w));
}

static void test_same_bits(void **state) {
    (void)state;
    world kept, again;
    for (int threads = 1; threads <= 3; threads++) {
        world_open(&kept, threads);
        world_open(&again, threads);
        assert_ok(step(&kept, false));
        for (int turn = 0; turn < 2; turn++) assert_ok(step(&again, true));
        for (size_t i = 0; i < attn_parameters_count(kept.set); i++) {
            const attn_tensor *a = &attn_parameters_at(kept.set, i)->grad, *b = &attn_parameters_at(again.set, i)->grad;
            double sum = 0;
            assert_memory_equal(a->data, b->data, attn_tensor_count(a) * sizeof(float));
            assert_ok(attn_sum_of_squares(kept.ctx, &sum, a));
            assert_true(sum > 0);
        }
        world_close(&kept);
        world_close(&again);
    }
}

/* The gradients of the inputs, one of which every part adds to. */
static void test_inputs(void **state) {
    (void)state;
    world w;
    float dx[2][2][T * B * C];
    for (int recompute = 0; recompute < 2; recompute++) {
        world_open(&w, 2);
        const attn_tensor tx = attn_tensor_f32(w.x, 3, (size_t)T, (size_t)B, (size_t)C);
        const attn_tensor tm = attn_tensor_f32(w.m, 3, (size_t)T, (size_t)B, (size_t)C);
        attn_var *inputs[2] = {attn_tape_input(w.tape, &tx, true), attn_tape_input(w.tape, &tm, true)}, *x[2];
        attn_tape_recompute(w.tape, recompute);
        x[0] = inputs[0], x[1] = inputs[1];
        for (size_t l = 0; l < LAYERS; l++) x[0] = attn_tape_run(w.tape, part, &w.w[l], x, 2);
        assert_ok(attn_tape_backward(w.tape, test_weighted_sum(w.tape, x[0], w.total)));
        for (int i = 0; i < 2; i++) memcpy(dx[recompute][i], attn_var_grad(inputs[i])->data, sizeof dx[0][0]);
        world_close(&w);
    }
    assert_memory_equal(dx[0], dx[1], sizeof dx[0]);
}

static attn_var *too_small(attn_tape *tape, void *arg, attn_var *const *x) {
    (void)arg;
    return attn_tape_slice(tape, x[0], 0, C - 1);
}

static void test_misuse(void **state) {
    (void)state;
    world w;
    world_open(&w, 1);
    const attn_tensor tx = attn_tensor_f32(w.x, 3, (size_t)T, (size_t)B, (size_t)C);
    attn_tape_recompute(w.tape, true);
    attn_var *x = attn_tape_input(w.tape, &tx, true), *many[5] = {x, x, x, x, x};
    assert_null(attn_tape_run(w.tape, too_small, NULL, &x, 1));
    assert_non_null(strstr(attn_error(w.ctx), "expected the 192 of x[0]"));
    attn_tape_reset(w.tape);
    x = attn_tape_input(w.tape, &tx, true);
    assert_null(attn_tape_run(w.tape, too_small, NULL, many, 5));
    assert_non_null(strstr(attn_error(w.ctx), "5 inputs"));
    attn_tape_reset(w.tape);
    assert_null(attn_tape_run(w.tape, too_small, NULL, (attn_var *[]){NULL}, 1));
    world_close(&w);
}

/* Whichever allocation fails, the step says so, and the next one is right. */
static void test_out_of_memory(void **state) {
    (void)state;
    world w;
    attn_status status = ATTN_E_NOMEM;
    long failed = 0;
    for (long n = 0; status != ATTN_OK; n++) {
        world_open(&w, 1);
        w.memory.fail_after = n;
        status = step(&w, true);
        w.memory.fail_after = -1;
        if (status != ATTN_OK) assert_int_equal(status, ATTN_E_NOMEM);
        failed += status != ATTN_OK;
        assert_ok(step(&w, true));
        world_close(&w);
    }
    assert_true(failed > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_bits), cmocka_unit_test(test_inputs),
                                       cmocka_unit_test(test_misuse), cmocka_unit_test(test_out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
