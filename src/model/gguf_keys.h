/* gguf_keys.h: what settings of language models are called in GGUF files and in config.json. */
#ifndef ATTN_MODEL_GGUF_KEYS_H
#define ATTN_MODEL_GGUF_KEYS_H

#include "base/base.h"

typedef enum attn_gguf_key_kind { ATTN_GGUF_NEEDED_SIZE, ATTN_GGUF_SIZE, ATTN_GGUF_NUMBER } attn_gguf_key_kind;
typedef struct attn_gguf_setting {
    const char *stored, *key; /* stored: behind the architecture's name and a dot */
    attn_gguf_key_kind kind;
} attn_gguf_setting;

/* odd_layers: Gemma of so many layers scales scores by hidden_size / heads instead of the heads' size. */
typedef struct attn_gguf_architecture {
    const char *stored, *type;
    bool gpt2, gemma;
    int64_t odd_layers;
    const attn_gguf_setting *key;
    size_t key_count;
} attn_gguf_architecture;
extern const attn_gguf_architecture attn_gguf_architectures[]; /* stored NULL behind the last */

/* By what Llama 3.1's scaling divides the turn of pair i, with low and high frequency factors 1 and 4. */
enum { ATTN_GGUF_LEAST_ORIGINAL = 1 << 10, ATTN_GGUF_MOST_ORIGINAL = 1 << 17 }; /* lengths that the reader tries */
double attn_gguf_llama3_divisor(double theta, double factor, double original, size_t i, size_t half);

#endif
