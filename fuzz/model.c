/* model.c: a model's folder. Input: config.json, a NUL, model.safetensors. What is loaded computes a loss, and what
 * reads one text states and weights. */
#include "fuzz.h"

#include <string.h>

static void check_loss(attn_context *ctx, const attn_model *model) {
    static const int32_t source[] = {3, 4, ATTN_ID_EOS}, in[] = {ATTN_ID_BOS, 4}, out[] = {4, ATTN_ID_EOS};
    static const int32_t source_length[] = {3}, target_length[] = {2};
    const attn_pair_batch batch = {.batch = 1,
                                   .source_steps = 3,
                                   .target_steps = 2,
                                   .source = source,
                                   .source_lengths = source_length,
                                   .target_in = in,
                                   .target_out = out,
                                   .target_lengths = target_length};
    attn_loss_stats stats = {0};
    attn_tape *tape;
    FUZZ_CHECK(attn_tape_create(&tape, ctx, false) == ATTN_OK);
    attn_model_loss(model, tape, &batch, 0.1f, 1, &stats);
    if (attn_tape_status(tape) == ATTN_OK) FUZZ_CHECK(stats.tokens == 2);
    attn_tape_free(tape);
}

/* What reads one text: its states, and a look at its heads. */
static void check_text(attn_context *ctx, const attn_model *model) {
    static const int32_t ids[] = {3, 4, 3};
    static float states[1 << 20];
    float *weights;
    const size_t width = attn_model_state_size(model);
    if (width && 3 * width <= sizeof states / sizeof *states)
        attn_encoder_states(model, states, ids, NULL, 1, 3, NULL, NULL);
    attn_look_at_text(model, &weights, ATTN_LAST_LAYER, 1, ids, NULL, 3);
    attn_text_free(ctx, weights);
    attn_look_vectors vectors;
    attn_look_at_text_vectors(model, &vectors, ATTN_LAST_LAYER, ids, NULL, 3);
    attn_text_free(ctx, vectors.queries);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { FOR_THE_LOSS = 64 << 20 };
    const uint8_t *cut = size ? memchr(data, 0, size) : NULL;
    size_t config_bytes = cut ? (size_t)(cut - data) : size, bytes = cut ? size - config_bytes - 1 : 0;
    attn_context *ctx = fuzz_begin(4 * size + (1 << 20));
    attn_model *model;
    fuzz_file("config.json", data, config_bytes);
    fuzz_file("model.safetensors", cut ? cut + 1 : data, bytes);
    attn_status status = attn_model_load(&model, ctx, fuzz_folder());
    FUZZ_CHECK((status == ATTN_OK) == (model != NULL));
    if (model) {
        attn_model_free(model);
        ctx = fuzz_begin(FOR_THE_LOSS);
        FUZZ_CHECK(attn_model_load(&model, ctx, fuzz_folder()) == ATTN_OK);
        check_loss(ctx, model);
        check_text(ctx, model);
        attn_model_free(model);
    }
    return fuzz_end();
}
