/* gguf_save.h: the tokenizer's part of a GGUF file. */
#ifndef ATTN_MODEL_GGUF_SAVE_H
#define ATTN_MODEL_GGUF_SAVE_H

#include "io/gguf_write.h"

/* Ids of the config that begin and end a text; −1: none. */
typedef struct attn_gguf_ends {
    int32_t begin, end;
} attn_gguf_ends;

/* Puts its arrays, for a vocabulary of so many tokens, and flags into the metadata. */
attn_status attn_tokenizer_put_gguf(const attn_tokenizer *tokenizer, attn_gguf_writer *w, size_t vocabulary,
                                    const attn_gguf_ends *ends);

#endif
