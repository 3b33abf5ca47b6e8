/* tokenizer.c: a tokenizer.json. If it is read, it tokenizes: spans lie in the text, ids are in the vocabulary. */
#include "fuzz.h"

#include <string.h>

static void check_text(attn_context *ctx, const attn_tokenizer *tokenizer, const char *text, size_t bytes) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    int32_t ids[600];
    size_t n = 0, out_bytes;
    char *out;
    if (attn_tokenize(tokenizer, &tokens, text, bytes, true) == ATTN_OK) {
        for (size_t i = 0; i < tokens.count; i++) {
            const attn_token *token = &tokens.token[i];
            FUZZ_CHECK(token->first <= token->end && token->end <= tokens.bytes);
            FUZZ_CHECK(token->id >= 0 && (size_t)token->id < attn_tokenizer_size(tokenizer));
            if (n < 600) ids[n++] = token->id;
        }
        if (attn_detokenize(tokenizer, &out, &out_bytes, ids, n, NULL) == ATTN_OK) {
            FUZZ_CHECK(strlen(out) <= out_bytes);
            attn_text_free(ctx, out);
        }
    }
    attn_tokens_free(ctx, &tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "Das ist gut. </s> l\xe2\x80\x99homme\t1,000.5 \xff\xc3\xa4\xcc\x88 \xf0\x9f\x98\x80";
    attn_context *ctx = fuzz_begin(16 * size + (4 << 20));
    attn_tokenizer *tokenizer;
    if (attn_tokenizer_load(&tokenizer, ctx, fuzz_file("tokenizer.json", data, size)) != ATTN_OK) {
        FUZZ_CHECK(!tokenizer && attn_error(ctx)[0]);
        return fuzz_end();
    }
    for (size_t i = 0; i < attn_tokenizer_size(tokenizer); i++) {
        const char *piece = attn_tokenizer_piece(tokenizer, (int32_t)i);
        if (piece) fuzz_touch(piece, strlen(piece) + 1);
    }
    check_text(ctx, tokenizer, text, sizeof text - 1);
    check_text(ctx, tokenizer, (const char *)data, size < 500 ? size : 500);
    attn_tokenizer_free(tokenizer);
    return fuzz_end();
}
