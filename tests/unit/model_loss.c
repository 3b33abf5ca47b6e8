/* model_loss.c: batches that the loss refuses, and no memory for it or its gradients. */
#include "support/allocator.h"
#include "support/translator.h"

#define CONFIG                                                                                     \
    "{\"model_type\": \"bahdanau\", \"vocab_size\": 9, \"embedding_size\": 6, \"hidden_size\": 5," \
    " \"attention_size\": 4, \"num_layers\": 2, \"input_feeding\": true}"

static const int32_t source[] = {4, 5, 6, 2, 2, 1}, target_in[] = {0, 0, 7, 8}, target_out[] = {7, 8, 2, 2};
static const int32_t source_lengths[] = {3, 2}, target_lengths[] = {2, 2};
static const attn_pair_batch good = {.batch = 2,
                                     .source_steps = 3,
                                     .target_steps = 2,
                                     .source = source,
                                     .source_lengths = source_lengths,
                                     .target_in = target_in,
                                     .target_out = target_out,
                                     .target_lengths = target_lengths};

static void test_refused(void **state) {
    (void)state;
    static const int32_t long_lengths[] = {4, 2}, big_id[] = {4, 5, 6, 2, 9, 1}, big_target[] = {7, 9, 2, 2};
    attn_context *ctx = test_context(1);
    attn_model *model = test_model(ctx, CONFIG, 1, 0.5);
    attn_tape *tape;
    assert_ok(attn_tape_create(&tape, ctx, true));
    struct {
        attn_pair_batch batch;
        attn_status status;
        const char *sentence;
    } cases[] = {
        {good, ATTN_E_ARGUMENT, "target_out is NULL"},
        {good, ATTN_E_ARGUMENT, "source_lengths"},
        {good, ATTN_E_SHAPE, "loss: 0 pairs of 3 source and 2 target steps"},
        {good, ATTN_E_SHAPE, "loss: 2 pairs of 0 source and 2 target steps"},
        {good, ATTN_E_SHAPE, "loss: 2 pairs of 3 source and 0 target steps"},
        {good, ATTN_E_ARGUMENT, "length 0 is 4, expected 0 … 3"},
        {good, ATTN_E_ARGUMENT, "ids[4] is 9"},
        {good, ATTN_E_ARGUMENT, "targets[1] is 9"},
    };
    cases[0].batch.target_out = NULL;
    cases[1].batch.source_lengths = NULL;
    cases[2].batch.batch = 0;
    cases[3].batch.source_steps = 0;
    cases[4].batch.target_steps = 0;
    cases[5].batch.source_lengths = long_lengths;
    cases[6].batch.source = big_id;
    cases[7].batch.target_out = big_target;
    for (size_t i = 0; i < ATTN_COUNT(cases); i++) {
        assert_null(attn_model_loss(model, tape, &cases[i].batch, 0, 1, NULL));
        assert_fails(ctx, attn_tape_status(tape), cases[i].status, cases[i].sentence);
        attn_tape_reset(tape);
    }
    assert_non_null(attn_model_loss(model, tape, &good, 0, 1, NULL));
    assert_ok(attn_tape_status(tape));
    attn_tape_free(tape);
    attn_model_free(model);
    attn_context_free(ctx);
}

/* Every allocation fails once, the model's own among them. */
static void test_no_memory(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    long before = memory.alive, n = 0;
    for (attn_status status = ATTN_E_NOMEM; status != ATTN_OK; n++) {
        attn_model *model = NULL;
        attn_tape *tape = NULL;
        memory.fail_after = n;
        status = attn_model_create(&model, ctx, CONFIG, 1);
        if (status == ATTN_OK) status = attn_tape_create(&tape, ctx, true);
        if (status == ATTN_OK) status = attn_tape_backward(tape, attn_model_loss(model, tape, &good, 0.1f, 1, NULL));
        memory.fail_after = -1;
        attn_tape_free(tape);
        attn_model_free(model);
        assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
        assert_int_equal(memory.alive, before);
        assert_true(n < 5000);
    }
    assert_true(n > 100);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused), cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
