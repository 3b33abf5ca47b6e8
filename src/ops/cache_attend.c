/* cache_attend.c: attention with the keys and values of a cache. */
#include "ops/cache.h"

/* A query that sees a key which the ring has overwritten. */
static attn_status check_ring(const attn_attention *at) {
    attn_block block;
    for (size_t b = 0; b < at->sequences; b++) {
        const attn_sequence x = attn_attention_sequence(at, b);
        const size_t first = attn_kv_cache_first(at->cache, b);
        for (size_t row = 0; first > 0 && row < x.t * at->group; row += attn_block_lanes(at)) {
            attn_block_set(&block, at, &x, 0, row);
            for (size_t r = 0; r < block.count; r++)
                if (block.from[r] < block.to[r] && block.from[r] < first)
                    return attn_fail(at->ctx, ATTN_E_ARGUMENT,
                                     "%s: query %zu of sequence %zu sees key %zu, the ring holds those from %zu on",
                                     at->where, attn_block_query(&block, at, r), b, block.from[r], first);
        }
    }
    return ATTN_OK;
}

attn_status attn_kv_cache_attend(attn_context *ctx, const attn_tensor *out, const attn_tensor *lse,
                                 const attn_tensor *q, const attn_kv_cache *cache,
                                 const attn_attention_options *options) {
    static const char where[] = "attn_kv_cache_attend";
    const attn_kv_cache_options *c = &cache->options;
    attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
    if (options && options->struct_size != sizeof o)
        return attn_fail(ctx, ATTN_E_VERSION, "%s: options.struct_size is %zu, expected %zu", where,
                         options->struct_size, sizeof o);
    if (options) o = *options;
    if (o.cu_q || o.cu_k || o.kv_lengths)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is given, but the cache has its own lengths", where,
                         o.kv_lengths ? "kv_lengths"
                         : o.cu_q     ? "cu_q"
                                      : "cu_k");
    if (q && q->rank == 4 && q->shape[0] != c->sequences)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: q has %zu sequences, the cache %zu", where, q->shape[0], c->sequences);
    if (q && q->rank == 4 && q->shape[3] != c->d)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: q has a head size of %zu, the cache %zu", where, q->shape[3], c->d);
    if (q && c->dtype != ATTN_I8 && q->dtype != c->dtype)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: q is %s, the cache %s", where, attn_dtype_name(q->dtype),
                         attn_dtype_name(c->dtype));
    if (c->window >= 0) o.window_left = o.window_left < 0 ? c->window : ATTN_MIN(o.window_left, c->window);
    size_t longest = 0;
    for (size_t b = 0; b < c->sequences; b++) longest = ATTN_MAX(longest, cache->sequences[b].length);
    /* Their shapes are all that is read of these. */
    attn_tensor k = {(void *)cache->sequences,
                     q ? q->dtype : ATTN_F32,
                     4,
                     {c->sequences, c->key_heads, longest, c->d},
                     {0, 0, 0, 1}},
                v = k;
    v.shape[3] = c->dv;
    attn_attention at;
    ATTN_TRY(attn_attention_check(&at, ctx, where, q, &k, &v, &o));
    at.cache = cache, at.fast = at.fast && c->dtype == ATTN_BF16;
    if (c->window >= 0) ATTN_TRY(check_ring(&at));
    return attn_attention_forward(&at, out, lse, q, NULL, NULL);
}
