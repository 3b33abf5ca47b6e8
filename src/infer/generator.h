/* generator.h: the inside of a text that goes on. */
#ifndef ATTN_INFER_GENERATOR_H
#define ATTN_INFER_GENERATOR_H

#include "infer/caches.h"
#include "infer/sample.h"

struct attn_generator {
    attn_context *ctx;
    const attn_gpt *m;
    const attn_tokenizer *tokenizer;
    attn_generate_options options;
    char **stop;   /* copies */
    int32_t *ends; /* so are they */
    size_t context;
    attn_sampler sampler;
    attn_tape *tape;
    attn_kv_cache **cache; /* (num_layers) */
    size_t cached;         /* tokens in the cache */
    int32_t *id;           /* all tokens: prompts and what was generated */
    size_t count, capacity, generated;
    size_t spelled, read; /* tokens before `read` are spelled; from `spelled` on they are spelled again */
    attn_buffer text;     /* spelled and not handed out, but for the first `given` bytes, which the last call gave */
    size_t given;
    attn_generate_end end;
    float *logits; /* (V) after the last token of the cache */
};

/* Ends the text if it has all its tokens; a full context goes on from its last half, if that is wanted, else it ends.
 */
attn_status attn_generator_make_room(attn_generator *g);
/* Brings the cache up to all tokens but the last `but`; with 0 the logits after them are kept. On failure it is empty,
 * so that the next call begins anew. */
attn_status attn_generator_catch_up(attn_generator *g, size_t but);
/* Empties the cache after a failure, which stays the context's. */
attn_status attn_generator_forget(attn_generator *g, attn_status status);

#endif
