/* Random lives of a cache. */
#include "kern/cache_history.h"

static size_t key_bytes(const struct history *h) { return h->options.d * attn_dtype_size(h->dtype); }
static size_t value_bytes(const struct history *h) { return h->options.dv * attn_dtype_size(h->dtype); }
static char *key_at(const struct history *h, size_t b, size_t head, size_t key) {
    return (char *)h->k + ((b * h->options.key_heads + head) * HISTORY_KEYS + key) * key_bytes(h);
}
static char *value_at(const struct history *h, size_t b, size_t head, size_t key) {
    return (char *)h->v + ((b * h->options.key_heads + head) * HISTORY_KEYS + key) * value_bytes(h);
}

void history_begin(struct history *h, attn_context *ctx, uint64_t seed, attn_dtype dtype) {
    *h = (struct history){.ctx = ctx, .random = seed * 0x9e3779b97f4a7c15u + 1};
    attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
    o.sequences = 1 + history_below(h, HISTORY_SEQUENCES), o.key_heads = 1 + history_below(h, 2);
    o.d = HISTORY_ONE_OF(h, 1, 3, 8, 16, 17, 32, 64, 65, 80, 128, 130);
    o.dv = HISTORY_ONE_OF(h, 0, 0, 0, 1, 5, 24, 48, 64, 100, 128);
    o.dtype = dtype, o.page = HISTORY_ONE_OF(h, 0, 16, 32);
    o.window = history_below(h, 2) ? -1 : (int64_t)history_below(h, 150);
    o.capacity = o.window >= 0 ? (size_t)o.window + 1 + history_below(h, 200) : HISTORY_KEYS;
    assert_ok(ctx, attn_kv_cache_create(&h->cache, ctx, &o));
    h->options = *attn_kv_cache_options_of(h->cache);
    h->group = HISTORY_ONE_OF(h, 1, 1, 2, 3, 4, 5, 7, 8);
    h->dtype = dtype != ATTN_I8 ? dtype : (attn_dtype)HISTORY_ONE_OF(h, ATTN_F32, ATTN_BF16, ATTN_F16);
    const size_t rows = o.sequences * o.key_heads * HISTORY_KEYS;
    h->k = calloc(rows, key_bytes(h)), h->v = calloc(rows, value_bytes(h));
    assert_true(h->k && h->v);
}

void history_end(struct history *h) {
    attn_kv_cache_free(h->ctx, h->cache);
    free(h->k);
    free(h->v);
    guard_release();
}

attn_status history_append(struct history *h, const int32_t *lengths, size_t most) {
    const attn_kv_cache_options *o = &h->options;
    const size_t rows = o->sequences * o->key_heads * most;
    char *k = history_numbers(h, h->dtype, rows * o->d), *v = history_numbers(h, h->dtype, rows * o->dv);
    const attn_tensor tk = attn_tensor_of(k, h->dtype, 4, (size_t[]){o->sequences, o->key_heads, most, o->d}),
                      tv = attn_tensor_of(v, h->dtype, 4, (size_t[]){o->sequences, o->key_heads, most, o->dv});
    const attn_status status = attn_kv_cache_append(h->ctx, h->cache, &tk, &tv, lengths);
    if (status != ATTN_OK) return status;
    for (size_t b = 0; b < o->sequences; b++) {
        const size_t n = lengths ? (size_t)lengths[b] : most;
        for (size_t head = 0; head < o->key_heads; head++) {
            const size_t row = (b * o->key_heads + head) * most;
            memcpy(key_at(h, b, head, h->length[b]), k + row * key_bytes(h), n * key_bytes(h));
            memcpy(value_at(h, b, head, h->length[b]), v + row * value_bytes(h), n * value_bytes(h));
        }
        h->length[b] += n;
    }
    return ATTN_OK;
}

static void step_append(struct history *h) {
    int32_t lengths[HISTORY_SEQUENCES];
    const size_t most = HISTORY_ONE_OF(h, 1, 1, 1, 2, 5, 16, 33, 64, 100, 300);
    for (size_t b = 0; b < h->options.sequences; b++) {
        size_t n = history_below(h, 3) ? most : history_below(h, most + 1);
        if (n > HISTORY_KEYS - h->length[b]) n = HISTORY_KEYS - h->length[b];
        lengths[b] = (int32_t)n;
    }
    assert_ok(h->ctx, history_append(h, lengths, most));
}

static void step_fork(struct history *h) {
    const attn_kv_cache_options *o = &h->options;
    const size_t to = history_below(h, o->sequences), from = history_below(h, o->sequences);
    if (to == from) return;
    const size_t n = history_below(h, 3) ? h->length[from] : history_below(h, h->length[from] + 1);
    const attn_status status = attn_kv_cache_fork(h->ctx, h->cache, to, from, n);
    if (status != ATTN_OK) { /* the window is gone */
        assert_true(o->window >= 0 && status == ATTN_E_ARGUMENT);
        return;
    }
    for (size_t head = 0; head < o->key_heads; head++) {
        memcpy(key_at(h, to, head, 0), key_at(h, from, head, 0), n * key_bytes(h));
        memcpy(value_at(h, to, head, 0), value_at(h, from, head, 0), n * value_bytes(h));
    }
    h->length[to] = n;
}

static void step_rollback(struct history *h) {
    const size_t b = history_below(h, h->options.sequences);
    const size_t n = history_below(h, HISTORY_ROLLBACK < h->length[b] ? HISTORY_ROLLBACK + 1 : h->length[b] + 1);
    const attn_status status = attn_kv_cache_rollback(h->ctx, h->cache, b, n);
    if (status == ATTN_OK) h->length[b] -= n;
    else assert_true(h->options.window >= 0 && status == ATTN_E_ARGUMENT);
}

void history_step(struct history *h) {
    switch (history_below(h, 12)) {
    case 0: step_fork(h); break;
    case 1: step_rollback(h); break;
    case 2:
        if (history_below(h, 4) == 0) {
            const size_t b = history_below(h, h->options.sequences);
            assert_ok(h->ctx, attn_kv_cache_reset(h->ctx, h->cache, b));
            h->length[b] = 0;
        }
        break;
    default: step_append(h);
    }
    for (size_t b = 0; b < h->options.sequences; b++) assert_int_equal(attn_kv_cache_length(h->cache, b), h->length[b]);
}

/* ---- against arrays ------------------------------------------------------------------------------------- */

/* Every page is full but the last of each sequence, and for a ring the first. */
static void check_memory(const struct history *h) {
    const attn_kv_cache_options *o = &h->options;
    if (!o->page) return;
    size_t most = 0;
    for (size_t b = 0; b < o->sequences; b++)
        most += (h->length[b] - attn_kv_cache_first(h->cache, b) + o->page - 1) / o->page + (o->window >= 0);
    const size_t element = o->dtype == ATTN_I8 ? 1 : attn_dtype_size(o->dtype);
    const size_t k = o->dtype == ATTN_I8 ? o->d + 3 : (o->d + (o->dtype == ATTN_BF16)) * element,
                 v = o->dtype == ATTN_I8 ? o->dv + 15 : o->dv * element;
    const size_t head = o->page * (k + v + (o->dtype == ATTN_I8 ? 8 : 0)) + 128;
    assert_true(attn_kv_cache_bytes(h->cache) <= most * head * o->key_heads);
}

/* The same keys as another cache has them that got them in one piece; for I8. */
static attn_kv_cache *filled_at_once(const struct history *h) {
    attn_kv_cache_options o = h->options;
    o.window = -1, o.capacity = HISTORY_KEYS, o.page = o.page == 16 ? 0 : 16;
    attn_kv_cache *cache;
    assert_ok(h->ctx, attn_kv_cache_create(&cache, h->ctx, &o));
    int32_t lengths[HISTORY_SEQUENCES];
    for (size_t b = 0; b < o.sequences; b++) lengths[b] = (int32_t)h->length[b];
    const attn_tensor k = attn_tensor_of(h->k, h->dtype, 4, (size_t[]){o.sequences, o.key_heads, HISTORY_KEYS, o.d}),
                      v = attn_tensor_of(h->v, h->dtype, 4, (size_t[]){o.sequences, o.key_heads, HISTORY_KEYS, o.dv});
    assert_ok(h->ctx, attn_kv_cache_append(h->ctx, cache, &k, &v, lengths));
    return cache;
}

/* Prefill of PREFILL queries by blocks whose lanes are queries, and the last few of them from the cache. */
void history_check(struct history *h) {
    enum { PREFILL = 24 };
    const attn_kv_cache_options *o = &h->options;
    check_memory(h);
    const size_t heads = o->key_heads * h->group, most = 1 + history_below(h, 3), size = attn_dtype_size(h->dtype);
    const size_t room = o->capacity - (size_t)(o->window < 0 ? 0 : o->window); /* queries whose window a ring holds */
    const size_t t = o->window >= 0 && most > room ? 1 : most;
    size_t longest = 0;
    for (size_t b = 0; b < o->sequences; b++) longest = h->length[b] > longest ? h->length[b] : longest;
    const size_t rows = o->sequences * heads;
    char *many = history_numbers(h, h->dtype, rows * PREFILL * o->d), *few = guard_bytes(rows * t * o->d * size);
    char *out = guard_bytes(rows * PREFILL * o->dv * size), *own = guard_bytes(rows * t * o->dv * size);
    float *lse = guard_floats(rows * PREFILL), *own_lse = guard_floats(rows * t);
    int32_t lengths[HISTORY_SEQUENCES], queries[HISTORY_SEQUENCES];
    for (size_t b = 0; b < o->sequences; b++) {
        lengths[b] = (int32_t)h->length[b], queries[b] = (int32_t)(history_below(h, 4) ? t : history_below(h, t + 1));
        for (size_t i = 0; i < heads * (size_t)queries[b]; i++) {
            const size_t head = i / (size_t)queries[b], row = i % (size_t)queries[b];
            memcpy(few + ((b * heads + head) * t + row) * o->d * size,
                   many + ((b * heads + head) * PREFILL + PREFILL - (size_t)queries[b] + row) * o->d * size,
                   o->d * size);
        }
    }
    for (size_t b = 0; b < o->sequences; b++) /* queries past a length are anything */
        for (size_t i = 0; i < heads; i++)
            memset(few + ((b * heads + i) * t + (size_t)queries[b]) * o->d * size, 0xff,
                   (t - (size_t)queries[b]) * o->d * size);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
    float *slopes = guard_normal(heads, 0.1f), *sinks = guard_normal(heads, 1.0f);
    if (history_below(h, 4) == 0) options.softcap = 3.0f;
    if (history_below(h, 4) == 0) options.alibi = slopes;
    if (history_below(h, 4) == 0) options.sinks = sinks;
    if (history_below(h, 8) == 0) options.scale = -0.3f;
    if (history_below(h, 4) == 0) options.window_left = (int64_t)history_below(h, 100);
    const size_t q_shape[4] = {o->sequences, heads, PREFILL, o->d}, few_shape[4] = {o->sequences, heads, t, o->d},
                 out_shape[4] = {o->sequences, heads, PREFILL, o->dv}, own_shape[4] = {o->sequences, heads, t, o->dv};
    const attn_tensor q = attn_tensor_of(many, h->dtype, 4, q_shape), x = attn_tensor_of(few, h->dtype, 4, few_shape),
                      all = attn_tensor_of(out, h->dtype, 4, out_shape),
                      y = attn_tensor_of(own, h->dtype, 4, own_shape), l = attn_tensor_of(lse, ATTN_F32, 3, q_shape),
                      m = attn_tensor_of(own_lse, ATTN_F32, 3, few_shape);
    options.q_lengths = queries;
    const int64_t window = options.window_left < 0 || options.window_left > o->window ? o->window : options.window_left;
    bool gone = false; /* after a rollback the ring may lack a key that the first query sees */
    for (size_t b = 0; b < o->sequences && o->window >= 0; b++)
        gone |= queries[b] > 0 &&
                (int64_t)attn_kv_cache_first(h->cache, b) > (int64_t)h->length[b] - queries[b] - window &&
                attn_kv_cache_first(h->cache, b) > 0;
    const attn_status status = attn_kv_cache_attend(h->ctx, &y, &m, &x, h->cache, &options);
    if (gone) {
        assert_int_equal(status, ATTN_E_ARGUMENT);
        guard_release();
        return;
    }
    assert_ok(h->ctx, status);
    options.q_lengths = NULL;
    if (o->window >= 0 && (options.window_left < 0 || options.window_left > o->window)) options.window_left = o->window;
    if (o->dtype == ATTN_I8) {
        attn_kv_cache *cache = filled_at_once(h);
        assert_ok(h->ctx, attn_kv_cache_attend(h->ctx, &all, &l, &q, cache, &options));
        attn_kv_cache_free(h->ctx, cache);
    } else {
        attn_tensor k = attn_tensor_of(h->k, h->dtype, 4, (size_t[]){o->sequences, o->key_heads, HISTORY_KEYS, o->d}),
                    v = attn_tensor_of(h->v, h->dtype, 4, (size_t[]){o->sequences, o->key_heads, HISTORY_KEYS, o->dv});
        k.shape[2] = v.shape[2] = longest;
        options.kv_lengths = lengths;
        assert_ok(h->ctx, attn_attention_fwd(h->ctx, &all, &l, &q, &k, &v, &options));
    }
    for (size_t b = 0; b < o->sequences; b++)
        for (size_t i = 0; i < heads * (size_t)queries[b]; i++) {
            const size_t head = i / (size_t)queries[b], row = i % (size_t)queries[b];
            const size_t mine = (b * heads + head) * t + row,
                         its = (b * heads + head) * PREFILL + PREFILL - (size_t)queries[b] + row;
            if (memcmp(own + mine * o->dv * size, out + its * o->dv * size, o->dv * size) != 0 ||
                memcmp(own_lse + mine, lse + its, sizeof *lse) != 0)
                fail_msg("%s, %s: sequence %zu of %zu keys, head %zu of %zu on %zu, query %zu of %d, D %zu Dv %zu page "
                         "%zu window %lld: "
                         "other bits (lse %a and %a)",
                         attn_cpu_level(h->ctx), attn_dtype_name(o->dtype), b, h->length[b], head, heads, o->key_heads,
                         row, queries[b], o->d, o->dv, o->page, (long long)o->window, (double)own_lse[mine],
                         (double)lse[its]);
        }
    guard_release();
}
