/* model_file.c: a language model in one file, GGUF or llama2.c's. What is loaded computes a loss; its chat template
 * makes a text, whatever else is in it. */
#include "fuzz.h"

#include <string.h>

static void check_loss(attn_context *ctx, const attn_model *model) {
    static const int32_t in[] = {0, 1, 0}, out[] = {1, 0, 1}, length[] = {3};
    const attn_pair_batch batch = {
        .batch = 1, .target_steps = 3, .target_in = in, .target_out = out, .target_lengths = length};
    attn_loss_stats stats = {0};
    attn_tape *tape;
    FUZZ_CHECK(attn_tape_create(&tape, ctx, false) == ATTN_OK);
    attn_model_loss(model, tape, &batch, 0, 1, &stats);
    if (attn_tape_status(tape) == ATTN_OK) FUZZ_CHECK(stats.tokens == 3);
    attn_tape_free(tape);
}

static int try_chat(const char *path, size_t size) {
    static const attn_message messages[] = {{"system", "Be <|im_end|> brief."}, {"user", " the "}};
    attn_context *ctx = fuzz_begin(16 * size + (1 << 20));
    attn_chat *chat;
    attn_status status = attn_chat_load(&chat, ctx, path, NULL);
    FUZZ_CHECK((status == ATTN_OK) == (chat != NULL));
    char *text = NULL;
    if (chat && attn_chat_format(chat, &text, messages + 1, 1) == ATTN_OK) FUZZ_CHECK(strstr(text, "the"));
    attn_text_free(ctx, text);
    attn_chat_free(chat);
    return fuzz_end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { FOR_THE_LOSS = 64 << 20 };
    const char *path = fuzz_file("model.gguf", data, size);
    attn_context *ctx = fuzz_begin(16 * size + (1 << 20)); /* 18 bytes may be 32 numbers */
    attn_model *model;
    attn_status status = attn_model_load(&model, ctx, path);
    FUZZ_CHECK((status == ATTN_OK) == (model != NULL));
    FUZZ_CHECK(model || attn_error(ctx)[0]);
    if (model) {
        attn_model_free(model);
        fuzz_end();
        ctx = fuzz_begin(FOR_THE_LOSS);
        FUZZ_CHECK(attn_model_load(&model, ctx, path) == ATTN_OK);
        check_loss(ctx, model);
        attn_model_free(model);
    }
    fuzz_end();
    return try_chat(path, size);
}
