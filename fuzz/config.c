/* config.c: the text of a config.json. What is accepted is written again, and that means the same. */
#include "fuzz.h"
#include "model/model.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_context *ctx = fuzz_begin(4 * size + (1 << 20));
    attn_model *model, *again;
    char *text = attn_copy_text(ctx, (const char *)data, size);
    FUZZ_CHECK(text);
    if (attn_model_configure(&model, ctx, text, 1) == ATTN_OK) {
        FUZZ_CHECK(attn_model_vocab_size(model) >= 1);
        FUZZ_CHECK(attn_model_configure(&again, ctx, attn_model_config(model), 1) == ATTN_OK);
        FUZZ_CHECK(!strcmp(attn_model_config(model), attn_model_config(again)));
        attn_model_free(again);
        attn_model_free(model);
    } else {
        FUZZ_CHECK(!model && attn_error(ctx)[0]);
    }
    attn_release(ctx, text);
    return fuzz_end();
}
