/* gguf.c: a GGUF file. Whatever it holds: refused, or every byte of every tensor and value is there, within 4 × its
 * size
 * + 1 MB. */
#include "fuzz.h"

#include <attn/gguf.h>
#include <string.h>

static void touch_values(const attn_gguf *file) {
    const char *key, *text;
    size_t bytes;
    double number;
    for (size_t i = 0; (key = attn_gguf_key(file, i)) != NULL; i++) {
        fuzz_touch(key, strlen(key) + 1);
        if (attn_gguf_text(file, key, &text, &bytes)) fuzz_touch(text, bytes);
        attn_gguf_number(file, key, &number);
        for (size_t k = 0; k <= attn_gguf_array(file, key); k++) {
            if (attn_gguf_array_text(file, key, k, &text, &bytes)) fuzz_touch(text, bytes);
            attn_gguf_array_number(file, key, k, &number);
        }
    }
}

/* The file lies there. */
static int try_tokenizer(const char *path, size_t size) {
    static const char text[] = "Das ist gut. <s> l\xe2\x80\x99homme\t1,000.5 \xc3\xa4 \xf0\x9f\x98\x80";
    attn_context *ctx = fuzz_begin(64 * size + (4 << 20));
    attn_tokenizer *tokenizer;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    if (attn_tokenizer_load(&tokenizer, ctx, path) != ATTN_OK) {
        FUZZ_CHECK(!tokenizer && attn_error(ctx)[0]);
        return fuzz_end();
    }
    (void)attn_tokenize(tokenizer, &tokens, text, sizeof text - 1, true);
    for (size_t i = 0; i < tokens.count; i++)
        FUZZ_CHECK((size_t)tokens.token[i].id < attn_tokenizer_size(tokenizer) && tokens.token[i].end <= tokens.bytes);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(tokenizer);
    return fuzz_end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_context *ctx = fuzz_begin(4 * size + (1 << 20));
    attn_gguf *file;
    const char *path = fuzz_file("x.gguf", data, size);
    if (attn_gguf_open(&file, ctx, path) != ATTN_OK) {
        FUZZ_CHECK(!file && attn_error(ctx)[0]);
        return fuzz_end();
    }
    touch_values(file);
    for (size_t i = 0; i < attn_gguf_count(file); i++) {
        const attn_gguf_tensor *t = attn_gguf_at(file, i);
        size_t elements, bytes;
        float block[256];
        fuzz_touch(t->data, t->bytes);
        FUZZ_CHECK(attn_gguf_find(file, t->name) == t);
        FUZZ_CHECK(attn_gguf_type_block(t->type, &elements, &bytes) && t->count / elements * bytes == t->bytes);
        for (size_t at = 0; at < t->count; at += elements) attn_gguf_dequantise(block, t, at, elements);
    }
    attn_gguf_close(file);
    fuzz_end();
    return try_tokenizer(path, size);
}
