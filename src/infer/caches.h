/* caches.h: the keys and values of a language model's layers. */
#ifndef ATTN_INFER_CACHES_H
#define ATTN_INFER_CACHES_H

#include "model/gpt.h"

/* A text goes through a model in chunks of so many tokens at most. */
enum { ATTN_CHUNK = 256 };

/* One cache for each layer, of one sequence of `context` tokens; dtype F32, or I8 (bytes with a scale for each token
 * and head). gives. */
attn_status attn_caches_create(attn_kv_cache ***gives, const attn_gpt *m, size_t context, attn_dtype dtype);
/* The last layer's states of tokens first … first+n−1 of a text, those before which are in the cache. NULL, with the
 * tape failed. */
attn_var *attn_caches_run(const attn_gpt *m, attn_tape *tape, attn_kv_cache **cache, const int32_t *text, size_t first,
                          size_t n);
attn_status attn_caches_reset(const attn_gpt *m, attn_kv_cache *const *cache);
void attn_caches_free(const attn_gpt *m, attn_kv_cache **cache);

#endif
