/* Many rows at once: the gradients of weights are then multiplied at once too, and gradients take the memory of earlier
 * ones. The same rows in parts of a few, whose gradients are gathered, say what is right. */
#include "support/allocator.h"
#include "support/tape.h"

#include "nn/parameters.h"
#include <attn/ops.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SEQUENCES = 4, T = 100, ROWS = SEQUENCES * T, C = 24, HEADS = 2, V = 40, LAYERS = 3, WEIGHTS = 8 };
_Static_assert(ROWS >= (int)ATTN_MANY_ROWS && T < (int)ATTN_MANY_ROWS && T * C * sizeof(float) > 4096,
               "both ways are taken");

typedef struct world {
    struct test_memory memory;
    attn_context *ctx;
    attn_parameters *set;
    attn_parameter *table, *layer[LAYERS][WEIGHTS];
    attn_tape *tape;
    int32_t ids[ROWS], targets[ROWS], cu[SEQUENCES + 1];
    size_t sequences; /* of the pass */
} world;

typedef struct layer_part {
    const world *w;
    size_t layer;
} layer_part;

static attn_var *layer(attn_tape *tape, void *arg, attn_var *const *x) {
    const layer_part *own = arg;
    attn_parameter *const *w = own->w->layer[own->layer];
    attn_var *u = attn_tape_layer_norm(tape, x[0], w[0], NULL, 1e-5f), *all[3];
    for (int i = 0; i < 3; i++) all[i] = attn_tape_linear(tape, u, w[1 + i], NULL, NULL, ATTN_IDENTITY);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.causal = ATTN_CAUSAL_TOP_LEFT;
    options.cu_q = options.cu_k = own->w->cu;
    options.sequences = own->w->sequences;
    const attn_attention_inputs in = {.q = all[0], .k = all[1], .v = all[2], .heads = HEADS, .key_heads = HEADS};
    attn_var *z = attn_tape_attention(tape, &in, &options, NULL);
    attn_var *h = attn_tape_linear(tape, z, w[4], NULL, x[0], ATTN_IDENTITY);
    attn_var *inner = attn_tape_linear(tape, h, w[5], w[6], NULL, ATTN_GELU);
    attn_var *stacked = attn_tape_stack(tape, (attn_var *[]){h, inner}, 2);
    h = attn_tape_add(tape, attn_tape_row(tape, stacked, 0),
                      attn_tape_dropout(tape, attn_tape_row(tape, stacked, 1), 0));
    return attn_tape_linear(tape, h, w[7], w[6], x[0], ATTN_TANH); /* the bias has two readers */
}

/* Sequences first … first + n, the gradients added. */
static void pass(world *w, size_t first, size_t n, bool recompute) {
    layer_part part[LAYERS];
    const size_t rows = n * T;
    attn_tape_reset(w->tape);
    attn_tape_recompute(w->tape, recompute);
    w->sequences = n;
    attn_var *h = attn_tape_embedding(w->tape, w->table, w->ids + first * T, 1, &rows);
    for (size_t l = 0; l < LAYERS; l++) {
        part[l] = (layer_part){w, l};
        h = attn_tape_run(w->tape, layer, &part[l], &h, 1);
    }
    attn_var *logits = attn_tape_linear(w->tape, h, w->table, NULL, NULL, ATTN_IDENTITY);
    assert_ok(
        attn_tape_backward(w->tape, attn_tape_cross_entropy(w->tape, logits, w->targets + first * T, 0, 0.1f, NULL)));
}

static void world_open(world *w, int threads) {
    *w = (world){.memory = TEST_MEMORY_INIT};
    w->ctx = test_memory_context(&w->memory, threads);
    assert_ok(attn_parameters_create(&w->set, w->ctx, 5));
    assert_ok(attn_tape_create(&w->tape, w->ctx, true));
    w->table = test_parameter(w->set, "table", 2, SHAPE(V, C), 0.7f);
    for (size_t l = 0; l < LAYERS; l++)
        for (size_t i = 0; i < WEIGHTS; i++) {
            char name[32];
            snprintf(name, sizeof name, "%zu.%zu", l, i);
            w->layer[l][i] = test_parameter(w->set, name, i % 6 ? 2 : 1, SHAPE(C, C), 0.5f);
        }
    for (int i = 0; i < ROWS; i++) w->ids[i] = i * i % V, w->targets[i] = i % 9 ? (i * 7 + 3) % V : -1;
    for (int s = 0; s <= SEQUENCES; s++) w->cu[s] = s * T;
}

static void world_close(world *w) {
    attn_tape_free(w->tape);
    attn_parameters_free(w->set);
    attn_context_free(w->ctx);
    assert_int_equal(w->memory.alive, 0);
}

static void test_parts(void **state) {
    (void)state;
    world whole, parts;
    for (int recompute = 0; recompute < 2; recompute++) {
        world_open(&whole, 2);
        world_open(&parts, 1);
        for (int turn = 0; turn < 2; turn++) { /* twice: the memory is not fresh */
            attn_parameters_zero_grad(whole.set);
            pass(&whole, 0, SEQUENCES, recompute);
        }
        for (size_t s = 0; s < SEQUENCES; s++) pass(&parts, s, 1, false);
        for (size_t i = 0; i < attn_parameters_count(whole.set); i++) {
            const attn_parameter *a = attn_parameters_at(whole.set, i), *b = attn_parameters_at(parts.set, i);
            const float *x = a->grad.data, *y = b->grad.data;
            const size_t n = attn_tensor_count(&a->grad);
            double squares = 0, off = 0;
            for (size_t j = 0; j < n; j++) {
                squares += (double)y[j] * (double)y[j];
                off += ((double)x[j] - (double)y[j]) * ((double)x[j] - (double)y[j]);
            }
            if (!(squares > 0 && off <= 1e-11 * squares))
                fail_msg("gradient of %s: %g of its norm off", a->name, sqrt(off / squares));
        }
        world_close(&whole);
        world_close(&parts);
    }
}

static void test_same_bits(void **state) {
    (void)state;
    world first, other;
    world_open(&first, 1);
    pass(&first, 0, SEQUENCES, false);
    for (int threads = 1; threads <= 3; threads++) {
        world_open(&other, threads);
        for (int recompute = 0; recompute < 2; recompute++) {
            attn_parameters_zero_grad(other.set);
            pass(&other, 0, SEQUENCES, recompute);
            for (size_t i = 0; i < attn_parameters_count(first.set); i++) {
                const attn_tensor *a = &attn_parameters_at(first.set, i)->grad;
                assert_memory_equal(a->data, attn_parameters_at(other.set, i)->grad.data,
                                    attn_tensor_count(a) * sizeof(float));
            }
        }
        world_close(&other);
    }
    world_close(&first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
