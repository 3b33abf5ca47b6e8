/* attn/cache.h: keys and values of sequences that grow, and attention that reads them where they lie.
 *
 *     attn_kv_cache_options options = ATTN_KV_CACHE_OPTIONS_INIT;
 *     options.sequences = 8, options.key_heads = 8, options.d = 128, options.capacity = 4096;
 *     options.dtype = ATTN_BF16, options.page = 16;
 *     attn_kv_cache *cache;
 *     if (attn_kv_cache_create(&cache, ctx, &options) != ATTN_OK) …
 *     attn_kv_cache_append(ctx, cache, &k, &v, new_tokens);          // of one step or of a whole prompt
 *     attn_kv_cache_attend(ctx, &out, NULL, &q, cache, &attention_options);
 *
 * Sequence b holds the keys 0 … length−1; with a window, the last of them. A row of `attend` has the bits that
 * attn_attention_fwd gives for the same keys, however they came in: in one piece or token by token, through forks,
 * rollbacks and around the ring. Appending moves nothing that is there. Every function that fails leaves the cache as
 * it was. One call at a time for a cache. */
#ifndef ATTN_CACHE_H
#define ATTN_CACHE_H

#include <attn/attention.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attn_kv_cache attn_kv_cache;

typedef struct attn_kv_cache_options {
    size_t struct_size;          /* sizeof(attn_kv_cache_options) */
    size_t sequences, key_heads; /* B, Hk */
    size_t d, dv;                /* head sizes, 1 … 576; dv 0: d */
    size_t capacity;             /* keys of a sequence, at most 2³¹ − 64 */
    attn_dtype dtype;            /* F32, BF16, F16, or I8: round(127·x / max|x|) with one scale a token and head */
    size_t page;                 /* 16 or 32: memory comes in pages of so many keys as it is needed, and forks share
                                    it; 0: a sequence's capacity is one piece, taken at its first append */
    int64_t window;              /* −1: none. Else queries see no key more than `window` left of their own position,
                                    and the capacity, > window, is a ring: a sequence grows on, up to 2³¹ − 64 keys,
                                    and the oldest ones go */
} attn_kv_cache_options;
#define ATTN_KV_CACHE_OPTIONS_INIT \
    { .struct_size = sizeof(attn_kv_cache_options), .dtype = ATTN_F32, .window = -1 }

/* Gives a cache of empty sequences; it keeps ctx's allocator, so ctx is freed later. */
ATTN_API attn_status attn_kv_cache_create(attn_kv_cache **gives, attn_context *ctx,
                                          const attn_kv_cache_options *options);
ATTN_API void attn_kv_cache_free(attn_context *ctx, attn_kv_cache *cache); /* NULL is fine */
/* As they were given; dv is set. */
ATTN_API const attn_kv_cache_options *attn_kv_cache_options_of(const attn_kv_cache *cache);
/* Keys that sequence has seen, and the first of them that is still there (not 0 only in a ring). */
ATTN_API size_t attn_kv_cache_length(const attn_kv_cache *cache, size_t sequence);
ATTN_API size_t attn_kv_cache_first(const attn_kv_cache *cache, size_t sequence);
/* Bytes of all pages. */
ATTN_API size_t attn_kv_cache_bytes(const attn_kv_cache *cache);

/* Adds the first lengths[b] of T keys (B, Hk, T, D) and values (B, Hk, T, Dv) to sequence b; lengths NULL: all. Any
 * strides, the last one 1. Their dtype is the cache's; for I8 it is F32, BF16 or F16. More than the capacity is
 * ATTN_E_SHAPE, another dtype ATTN_E_UNSUPPORTED. */
ATTN_API attn_status attn_kv_cache_append(attn_context *ctx, attn_kv_cache *cache, const attn_tensor *k,
                                          const attn_tensor *v, const int32_t *lengths);

/* attn_attention_fwd with the cache's keys: q (B, H, T, D), out (B, H, T, Dv), lse (B, H, T) or NULL; S is the longest
 * sequence's length. q and out have the cache's dtype; for I8 F32, BF16 or F16. kv_lengths, cu_q and cu_k are refused;
 * query i of a sequence whose T_b queries are its newest tokens is causal bottom-right with q_lengths. A query that
 * sees a key that is gone from the ring is ATTN_E_ARGUMENT. I8: the query is rounded as the keys are, with a scale of
 * its own for each row; scores are exact sums of products of integers, times both scales; a weight times its value's
 * scale is rounded to a number of steps (docs/numerics.md), and products with values are of integers too. */
ATTN_API attn_status attn_kv_cache_attend(attn_context *ctx, const attn_tensor *out, const attn_tensor *lse,
                                          const attn_tensor *q, const attn_kv_cache *cache,
                                          const attn_attention_options *options);

/* Sequence `to` becomes the first n keys of `from`; what it held is gone. Whole pages are shared, no more than one is
 * copied; without pages the keys are copied. n beyond from's length (which a reset sequence has not) is
 * ATTN_E_ARGUMENT; so is, in a ring, an n whose window is no longer there. */
ATTN_API attn_status attn_kv_cache_fork(attn_context *ctx, attn_kv_cache *cache, size_t to, size_t from, size_t n);
/* Takes the last n keys away; more than there are, or in a ring so many that the window before what stays is gone, is
 * ATTN_E_ARGUMENT. */
ATTN_API attn_status attn_kv_cache_rollback(attn_context *ctx, attn_kv_cache *cache, size_t sequence, size_t n);
/* Empties a sequence and returns its memory. */
ATTN_API attn_status attn_kv_cache_reset(attn_context *ctx, attn_kv_cache *cache, size_t sequence);

/* The whole state as bytes, little-endian, with a checksum: gives *data (attn_kv_cache_bytes_free). A cache made of
 * them is equal, shared pages included; anything else than such bytes is ATTN_E_FORMAT, and no more memory is asked for
 * than 4 times their number and 1 MB. The same bytes on every CPU level. */
ATTN_API attn_status attn_kv_cache_serialise(attn_context *ctx, const attn_kv_cache *cache, unsigned char **data,
                                             size_t *bytes);
ATTN_API void attn_kv_cache_bytes_free(attn_context *ctx, unsigned char *data);
ATTN_API attn_status attn_kv_cache_deserialise(attn_kv_cache **gives, attn_context *ctx, const unsigned char *data,
                                               size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
