#include "infer/caches.h"
#include "nn/tape.h"

enum { PAGE = 32 };

void attn_caches_free(const attn_gpt *m, attn_kv_cache **cache) {
    attn_context *ctx = m->base.ctx;
    for (size_t l = 0; cache && l < m->config.num_layers; l++) attn_kv_cache_free(ctx, cache[l]);
    attn_release(ctx, cache);
}

/* A layer with a window keeps no more than it sees, and what a chunk adds. */
static attn_status create(attn_kv_cache **cache, const attn_gpt *m, size_t context, attn_dtype dtype) {
    const attn_gpt_config *c = &m->config;
    for (size_t l = 0; l < c->num_layers; l++) {
        attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
        o.sequences = 1, o.key_heads = c->key_heads, o.d = c->head_size;
        o.dtype = dtype, o.capacity = context, o.page = PAGE;
        const size_t ring = (c->window + ATTN_CHUNK + PAGE - 1) / PAGE * PAGE;
        if (m->layer[l].sliding && ring < context) o.capacity = ring, o.window = (int64_t)c->window - 1;
        ATTN_TRY(attn_kv_cache_create(&cache[l], m->base.ctx, &o));
    }
    return ATTN_OK;
}

attn_status attn_caches_create(attn_kv_cache ***gives, const attn_gpt *m, size_t context, attn_dtype dtype) {
    attn_context *ctx = m->base.ctx;
    *gives = NULL;
    if (dtype != ATTN_F32 && dtype != ATTN_I8)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "keys and values in the cache are %s, expected F32 or I8",
                         attn_dtype_name(dtype));
    attn_kv_cache **cache = attn_alloc_zero(ctx, m->config.num_layers, sizeof *cache);
    if (!cache) return ATTN_E_NOMEM;
    attn_status status = create(cache, m, context, dtype);
    if (status == ATTN_OK) *gives = cache;
    else attn_caches_free(m, cache);
    return status;
}

attn_status attn_caches_reset(const attn_gpt *m, attn_kv_cache *const *cache) {
    for (size_t l = 0; l < m->config.num_layers; l++) ATTN_TRY(attn_kv_cache_reset(m->base.ctx, cache[l], 0));
    return ATTN_OK;
}

attn_var *attn_caches_run(const attn_gpt *m, attn_tape *tape, attn_kv_cache **cache, const int32_t *text, size_t first,
                          size_t n) {
    int64_t *position = attn_tape_memory(tape, n, sizeof *position);
    if (!position) return NULL;
    for (size_t i = 0; i < n; i++) position[i] = (int64_t)(first + i);
    const attn_gpt_rows rows = {.count = n, .id = text + first, .position = position, .sequences = 1, .cache = cache};
    return attn_gpt_states(m, tape, &rows);
}
