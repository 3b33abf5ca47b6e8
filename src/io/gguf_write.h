/* gguf_write.h: a GGUF file, version 3, in the making.
 *
 *     attn_gguf_writer w = ATTN_GGUF_WRITER_INIT(ctx);
 *     attn_gguf_put_text(&w, "general.architecture", "llama");
 *     attn_gguf_put_array(&w, "tokenizer.ggml.tokens", ATTN_GGUF_TEXTS, n);   // and n times:
 *     attn_gguf_element_text(&w, text, bytes);
 *     attn_gguf_put_tensor(&w, "token_embd.weight", ATTN_GGUF_F32, rank, shape, data);
 *     status = attn_gguf_write(&w, path);
 *     attn_gguf_writer_free(&w);
 *
 * A failure is kept; keys and tensors must each come once. */
#ifndef ATTN_IO_GGUF_WRITE_H
#define ATTN_IO_GGUF_WRITE_H

#include "base/base.h"
#include <attn/gguf.h>

typedef struct attn_gguf_put {
    char *name;
    attn_gguf_type type;
    int rank;
    size_t shape[ATTN_GGUF_MAX_RANK], bytes; /* row-major */
    const void *data;                        /* kept */
} attn_gguf_put;

typedef struct attn_gguf_writer {
    attn_buffer metadata; /* and the status of everything */
    size_t keys;
    attn_gguf_put *tensor;
    size_t tensors, capacity;
} attn_gguf_writer;
#define ATTN_GGUF_WRITER_INIT(ctx) \
    { ATTN_BUFFER_INIT(ctx), 0, NULL, 0, 0 }

/* GGUF's numbers of the kinds that are written. */
typedef enum attn_gguf_kind {
    ATTN_GGUF_UINT32 = 4,
    ATTN_GGUF_INT32 = 5,
    ATTN_GGUF_FLOATS = 6,
    ATTN_GGUF_BOOL = 7,
    ATTN_GGUF_TEXTS = 8
} attn_gguf_kind;

void attn_gguf_put_text(attn_gguf_writer *w, const char *key, const char *text);
void attn_gguf_put_size(attn_gguf_writer *w, const char *key, size_t value); /* as 32 bits */
void attn_gguf_put_float(attn_gguf_writer *w, const char *key, float value);
void attn_gguf_put_bool(attn_gguf_writer *w, const char *key, bool value);
void attn_gguf_put_array(attn_gguf_writer *w, const char *key, attn_gguf_kind kind, size_t count);
void attn_gguf_element_text(attn_gguf_writer *w, const char *text, size_t bytes);
void attn_gguf_element_int(attn_gguf_writer *w, int32_t value);
void attn_gguf_element_float(attn_gguf_writer *w, float value);
/* Keeps data. */
void attn_gguf_put_tensor(attn_gguf_writer *w, const char *name, attn_gguf_type type, int rank, const size_t *shape,
                          const void *data);
/* The file, whole or not at all. */
attn_status attn_gguf_write(attn_gguf_writer *w, const char *path);
void attn_gguf_writer_free(attn_gguf_writer *w);

#endif
