/* cache.c: the cache of keys and values: pages, append, fork, rollback. */
#include "ops/cache.h"
#include "base/half.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_COLUMNS = 576 };

/* ---- sizes ---------------------------------------------------------------------------------------- */

static attn_status check_options(attn_context *ctx, const char *where, const attn_kv_cache_options *o) {
    if (o->struct_size != sizeof *o)
        return attn_fail(ctx, ATTN_E_VERSION, "%s: options.struct_size is %zu, expected %zu", where, o->struct_size,
                         sizeof *o);
    if (o->d < 1 || o->d > MOST_COLUMNS || o->dv < 1 || o->dv > MOST_COLUMNS)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: head sizes are %zu and %zu, expected 1 to %d", where, o->d, o->dv,
                         MOST_COLUMNS);
    if (o->dtype != ATTN_F32 && o->dtype != ATTN_BF16 && o->dtype != ATTN_F16 && o->dtype != ATTN_I8)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: dtype is %s, expected F32, BF16, F16 or I8", where,
                         attn_dtype_name(o->dtype));
    if (o->page != 0 && o->page != 16 && o->page != 32)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: page is %zu, expected 0, 16 or 32", where, o->page);
    if (o->sequences < 1 || o->key_heads < 1)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: %zu sequences and %zu key heads, expected at least 1", where,
                         o->sequences, o->key_heads);
    if (o->capacity < 1 || o->capacity > ATTN_CACHE_MOST)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: capacity is %zu, expected 1 to %zu", where, o->capacity,
                         ATTN_CACHE_MOST);
    if (o->window < -1 || (o->window >= 0 && (uint64_t)o->window >= o->capacity))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: window is %lld, expected -1 or less than the capacity, %zu", where,
                         (long long)o->window, o->capacity);
    return ATTN_OK;
}

attn_status attn_cache_plan(attn_kv_cache *cache, attn_context *ctx, const char *where,
                            const attn_kv_cache_options *options) {
    *cache = (attn_kv_cache){.options = *options};
    attn_kv_cache_options *o = &cache->options;
    if (o->dv == 0) o->dv = o->d;
    ATTN_TRY(check_options(ctx, where, o));
    const size_t whole = (o->capacity + ATTN_TILE - 1) / ATTN_TILE * ATTN_TILE;
    cache->slots = o->page ? o->capacity : whole;
    cache->page_keys = o->page ? o->page : whole;
    const size_t element = attn_dtype_size(o->dtype);
    cache->k_bytes = o->dtype == ATTN_I8     ? (o->d + 3) / 4 * 4
                     : o->dtype == ATTN_BF16 ? (o->d + 1) / 2 * 4
                                             : o->d * element;
    cache->v_bytes = o->dtype == ATTN_I8 ? (o->dv + 15) / 16 * 16 : o->dv * element;
    const size_t key = cache->k_bytes + cache->v_bytes + (o->dtype == ATTN_I8 ? 2 * sizeof(float) : 0);
    if (!attn_size_mul(&cache->head_bytes, cache->page_keys, key) ||
        !attn_size_add(&cache->head_bytes, cache->head_bytes, 64 + 63) ||
        !attn_size_mul(&cache->page_bytes, cache->head_bytes &= ~(size_t)63, o->key_heads) ||
        cache->page_bytes > SIZE_MAX / 2)
        return attn_fail(ctx, ATTN_E_NOMEM, "%s: %zu keys of %zu heads are more than the address space", where,
                         cache->page_keys, o->key_heads);
    return ATTN_OK;
}

attn_status attn_kv_cache_create(attn_kv_cache **gives, attn_context *ctx, const attn_kv_cache_options *options) {
    static const char where[] = "attn_kv_cache_create";
    *gives = NULL;
    if (!options) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: options is NULL", where);
    attn_kv_cache plan;
    ATTN_TRY(attn_cache_plan(&plan, ctx, where, options));
    attn_kv_cache *cache = attn_alloc(ctx, 1, sizeof *cache);
    if (!cache) return ATTN_E_NOMEM;
    *cache = plan;
    cache->sequences = attn_alloc_zero(ctx, plan.options.sequences, sizeof *cache->sequences);
    if (!cache->sequences) {
        attn_release(ctx, cache);
        return ATTN_E_NOMEM;
    }
    *gives = cache;
    return ATTN_OK;
}

/* ---- pages ---------------------------------------------------------------------------------------- */

attn_page *attn_cache_page(attn_context *ctx, attn_kv_cache *cache) {
    attn_page *page = attn_alloc_zero(ctx, 1, sizeof *page + cache->page_bytes);
    if (!page) return NULL;
    page->users = 1;
    cache->pages++;
    return page;
}

static void drop_page(attn_context *ctx, attn_kv_cache *cache, attn_page *page) {
    if (--page->users > 0) return;
    cache->pages--;
    attn_release(ctx, page);
}

attn_status attn_cache_room(attn_context *ctx, attn_cached *x, size_t count) {
    return attn_grow(ctx, &x->pages, &x->room, count, x->count, sizeof(attn_page *));
}

/* Drops pages of the front and of the end, so that base … end−1 stay. */
static void keep_pages(attn_context *ctx, attn_kv_cache *cache, attn_cached *x, size_t base, size_t end) {
    while (x->count > 0 && x->base + x->count > end) drop_page(ctx, cache, x->pages[--x->count]);
    size_t gone = 0;
    while (gone < x->count && x->base + gone < base) drop_page(ctx, cache, x->pages[gone++]);
    if (gone == 0) return;
    x->count -= gone, x->base += gone;
    memmove(x->pages, x->pages + gone, x->count * sizeof *x->pages);
}

static void empty_sequence(attn_context *ctx, attn_kv_cache *cache, attn_cached *x) {
    keep_pages(ctx, cache, x, 0, 0);
    attn_release(ctx, x->pages);
    *x = (attn_cached){.length = 0};
}

void attn_kv_cache_free(attn_context *ctx, attn_kv_cache *cache) {
    if (!cache) return;
    for (size_t b = 0; b < cache->options.sequences; b++) empty_sequence(ctx, cache, cache->sequences + b);
    attn_release(ctx, cache->sequences);
    attn_release(ctx, cache);
}

const attn_kv_cache_options *attn_kv_cache_options_of(const attn_kv_cache *cache) { return &cache->options; }
size_t attn_kv_cache_length(const attn_kv_cache *cache, size_t sequence) {
    return sequence < cache->options.sequences ? cache->sequences[sequence].length : 0;
}
size_t attn_kv_cache_first(const attn_kv_cache *cache, size_t sequence) {
    return sequence < cache->options.sequences ? cache->sequences[sequence].first : 0;
}
size_t attn_kv_cache_bytes(const attn_kv_cache *cache) { return cache->pages * cache->page_bytes; }

size_t attn_cache_blocks(const void **k, const void **v, const attn_kv_cache *cache, size_t sequence, size_t head,
                         size_t key, size_t first, size_t end) {
    const attn_cached *x = cache->sequences + sequence;
    const size_t keys = cache->page_keys, k_bytes = cache->k_bytes, v_bytes = cache->v_bytes, values = keys * k_bytes;
    if (!cache->options.page) { /* a ring of whole tiles */
        const size_t start = key < keys ? key : key % keys;
        const unsigned char *at = x->pages[0]->data + head * cache->head_bytes;
        for (size_t b = first; b < end; b++) {
            k[b] = at + (start + b * ATTN_KEYS) * k_bytes;
            v[b] = at + values + (start + b * ATTN_KEYS) * v_bytes;
        }
        return start + first * ATTN_KEYS;
    }
    const unsigned shift = keys == 32 ? 5 : 4; /* which spares divisions */
    for (size_t b = first; b < end; b++) {
        const size_t position = key + b * ATTN_KEYS, within = position & (keys - 1);
        const unsigned char *at = x->pages[(position >> shift) - x->base]->data + head * cache->head_bytes;
        k[b] = at + within * k_bytes, v[b] = at + values + within * v_bytes;
    }
    return (key + first * ATTN_KEYS) & (keys - 1);
}

void attn_cache_find(attn_decode_tile *tile, const attn_kv_cache *cache, size_t sequence, size_t head, size_t key) {
    const bool i8 = cache->options.dtype == ATTN_I8;
    tile->in_rows = false, tile->paired = cache->options.dtype == ATTN_BF16;
    tile->v_row = (ptrdiff_t)(i8 ? cache->v_bytes : cache->options.dv);
    size_t within = attn_cache_blocks(tile->k, tile->v, cache, sequence, head, key, tile->first, tile->end);
    for (size_t b = tile->first; i8 && b < tile->end; b++, within += ATTN_KEYS) {
        within = within < cache->page_keys ? within : 0;
        const unsigned char *v = tile->v[b];
        const float *scales = (const float *)(const void *)(v + (cache->page_keys - within) * cache->v_bytes);
        tile->k_scale[b] = scales + within, tile->v_scale[b] = scales + cache->page_keys + within;
    }
}

/* ---- append --------------------------------------------------------------------------------------- */

float attn_cache_quantise(int8_t *to, const float *x, size_t n) {
    enum { SIDE_BY_SIDE = 8 };
    int32_t greatest[SIDE_BY_SIDE] = {0}, top = 0; /* |x| as bits, which are in the same order */
    size_t done = 0;
    for (; done + SIDE_BY_SIDE <= n; done += SIDE_BY_SIDE)
        for (size_t i = 0; i < SIDE_BY_SIDE; i++) {
            const int32_t size = (int32_t)(attn_float_bits(x[done + i]) & 0x7fffffff);
            greatest[i] = size > greatest[i] ? size : greatest[i];
        }
    for (; done < n; done++) {
        const int32_t size = (int32_t)(attn_float_bits(x[done]) & 0x7fffffff);
        top = size > top ? size : top;
    }
    for (size_t i = 0; i < SIDE_BY_SIDE; i++) top = greatest[i] > top ? greatest[i] : top;
    const bool finite = top < 0x7f800000;
    const float most = attn_float_of_bits((uint32_t)top);
    const float factor = most > 0.0f && finite ? 127.0f / most : 0.0f;
    if (factor > 0.0f && factor <= 3.4e38f) { /* 1.5·2^23: rounds to nearest, ties to even */
        for (size_t i = 0; i < n; i++) to[i] = (int8_t)((x[i] * factor + 0x1.8p23f) - 0x1.8p23f);
        return most * (1.0f / 127.0f);
    }
    memset(to, 0, n);
    return finite ? 0.0f : NAN;
}

typedef struct append_job {
    const attn_kv_cache *cache;
    attn_view k, v;
    const int32_t *lengths;
    size_t t;
} append_job;

static size_t tokens_of(const append_job *job, size_t b) { return job->lengths ? (size_t)job->lengths[b] : job->t; }

/* x[0 … n) as f32. */
static void widen(const attn_kernels *kernels, float *to, const void *x, attn_dtype dtype, size_t n) {
    kernels->attention_copy(to, 0, x, dtype, 0, 1, n, false);
}

static void put_i8(const append_job *job, const attn_kernels *kernels, unsigned char *head, size_t within,
                   const void *k, const void *v) {
    const attn_kv_cache *cache = job->cache;
    const size_t d = cache->options.d, dv = cache->options.dv;
    float wide[MOST_COLUMNS + ATTN_MAX_LANES];
    int8_t narrow[MOST_COLUMNS + 16];
    unsigned char *values = head + cache->page_keys * cache->k_bytes;
    float *scales = (float *)(void *)(values + cache->page_keys * cache->v_bytes);
    widen(kernels, wide, k, job->k.dtype, d);
    scales[within] = attn_cache_quantise(narrow, wide, d);
    memset(narrow + d, 0, 4);
    unsigned char *block = head + within / ATTN_KEYS * ATTN_KEYS * cache->k_bytes + within % ATTN_KEYS * 4;
    for (size_t i = 0; i < cache->k_bytes; i += 4)
        for (size_t j = 0; j < 4; j++) block[i * ATTN_KEYS + j] = (unsigned char)(narrow[i + j] + 128);
    widen(kernels, wide, v, job->v.dtype, dv);
    scales[cache->page_keys + within] = attn_cache_quantise(narrow, wide, dv);
    unsigned char *column = values + within / 4 * 4 * cache->v_bytes + within % 4;
    for (size_t i = 0; i < dv; i++) column[4 * i] = (unsigned char)narrow[i];
}

/* n elements, `step` apart. */
static void scatter(unsigned char *to, size_t step, const void *from, size_t n, attn_dtype dtype) {
    if (dtype == ATTN_F32)
        for (size_t i = 0; i < n; i++) memcpy(to + 4 * i * step, (const float *)from + i, 4);
    else
        for (size_t i = 0; i < n; i++) memcpy(to + 2 * i * step, (const uint16_t *)from + i, 2);
}

static void put_floats(const append_job *job, unsigned char *head, size_t within, const void *k, const void *v) {
    const attn_kv_cache *cache = job->cache;
    const size_t d = cache->options.d, dv = cache->options.dv, lane = within % ATTN_KEYS;
    const attn_dtype dtype = cache->options.dtype;
    unsigned char *block = head + within / ATTN_KEYS * ATTN_KEYS * cache->k_bytes,
                  *values = head + cache->page_keys * cache->k_bytes;
    if (dtype == ATTN_BF16) {
        for (size_t i = 0; i < d; i++)
            memcpy(block + 4 * (i / 2 * ATTN_KEYS + lane) + i % 2 * 2, (const uint16_t *)k + i, 2);
        scatter(values + within / 2 * 2 * cache->v_bytes + within % 2 * 2, 2, v, dv, dtype);
    } else {
        scatter(block + lane * attn_dtype_size(dtype), ATTN_KEYS, k, d, dtype);
        memcpy(values + within * cache->v_bytes, v, cache->v_bytes);
    }
}

struct append_task {
    const append_job *job;
    const attn_kernels *kernels;
};

/* Index: sequence · key heads + head. The pages are there; lengths are still the old ones. */
static void append_heads(void *argument, size_t first, size_t end) {
    const struct append_task *task = argument;
    const append_job *job = task->job;
    const attn_kv_cache *cache = job->cache;
    for (size_t index = first; index < end; index++) {
        const size_t b = index / cache->options.key_heads, h = index % cache->options.key_heads, n = tokens_of(job, b);
        const attn_cached *x = cache->sequences + b;
        for (size_t i = n > cache->slots ? n - cache->slots : 0; i < n; i++) {
            const size_t position = x->length + i, within = position % cache->page_keys;
            unsigned char *head = attn_cache_head(cache, x, h, position);
            const void *k = attn_view_at(&job->k, b, h, (ptrdiff_t)i), *v = attn_view_at(&job->v, b, h, (ptrdiff_t)i);
            if (cache->options.dtype == ATTN_I8) put_i8(job, task->kernels, head, within, k, v);
            else put_floats(job, head, within, k, v);
        }
    }
}

static attn_status check_append(attn_view *view, attn_context *ctx, const attn_kv_cache *cache, const char *name,
                                const attn_tensor *t, size_t tokens, size_t columns) {
    char what[64];
    snprintf(what, sizeof what, "attn_kv_cache_append: %s", name);
    const attn_kv_cache_options *o = &cache->options;
    ATTN_TRY(attn_check_view(ctx, what, t, 4, (size_t[]){o->sequences, o->key_heads, tokens, columns}));
    const bool real = t->dtype == ATTN_F32 || t->dtype == ATTN_BF16 || t->dtype == ATTN_F16;
    if (o->dtype == ATTN_I8 ? !real : t->dtype != o->dtype)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected %s", what, attn_dtype_name(t->dtype),
                         o->dtype == ATTN_I8 ? "F32, BF16 or F16" : attn_dtype_name(o->dtype));
    *view = (attn_view){t->data, t->dtype, t->stride[0], t->stride[1], t->stride[2], 1};
    return ATTN_OK;
}

/* First position that stays when the length becomes `length`. */
static size_t first_kept(const attn_kv_cache *cache, const attn_cached *x, size_t length) {
    const size_t lost = length > cache->slots && cache->options.window >= 0 ? length - cache->slots : 0;
    return ATTN_MAX(x->first, lost);
}

/* Numbers of the pages that an append of n keys adds: *from … *end−1. */
static void new_pages(const attn_kv_cache *cache, const attn_cached *x, size_t n, size_t *from, size_t *end) {
    *from = *end = 0;
    if (n == 0) return;
    const size_t have = x->base + x->count, first = first_kept(cache, x, x->length + n);
    *from = ATTN_MAX(have, attn_cache_page_number(cache, first));
    *end = ATTN_MAX(*from, attn_cache_page_number(cache, x->length + n - 1) + 1);
}

attn_status attn_kv_cache_append(attn_context *ctx, attn_kv_cache *cache, const attn_tensor *k, const attn_tensor *v,
                                 const int32_t *lengths) {
    static const char where[] = "attn_kv_cache_append";
    const attn_kv_cache_options *o = &cache->options;
    append_job job = {.cache = cache, .lengths = lengths, .t = k && k->rank == 4 ? k->shape[2] : 0};
    ATTN_TRY(check_append(&job.k, ctx, cache, "k", k, job.t, o->d));
    ATTN_TRY(check_append(&job.v, ctx, cache, "v", v, job.t, o->dv));
    ATTN_TRY(attn_check_lengths(ctx, "attn_kv_cache_append: lengths", lengths, o->sequences, job.t));
    const size_t most = o->window >= 0 ? ATTN_CACHE_MOST : o->capacity;
    double elements = 0;
    for (size_t b = 0; b < o->sequences; b++) {
        const size_t n = tokens_of(&job, b), length = cache->sequences[b].length;
        if (n > most - length)
            return attn_fail(ctx, ATTN_E_SHAPE, "%s: sequence %zu has %zu keys and gets %zu, the capacity is %zu",
                             where, b, length, n, most);
        elements += (double)n * (double)(o->key_heads * (o->d + o->dv));
    }
    /* All that can fail comes first: room in the lists, new pages. */
    attn_page *fresh = NULL;
    attn_status status = ATTN_OK;
    for (size_t b = 0; b < o->sequences && status == ATTN_OK; b++) {
        attn_cached *x = cache->sequences + b;
        size_t from, end;
        new_pages(cache, x, tokens_of(&job, b), &from, &end);
        if (from == end) continue;
        status = attn_cache_room(ctx, x, x->count + (end - from));
        for (size_t i = from; i < end && status == ATTN_OK; i++) {
            attn_page *page = attn_cache_page(ctx, cache);
            if (!page) status = ATTN_E_NOMEM;
            else page->next = fresh, fresh = page;
        }
    }
    while (status != ATTN_OK && fresh) {
        attn_page *page = fresh;
        fresh = page->next;
        drop_page(ctx, cache, page);
    }
    ATTN_TRY(status);
    for (size_t b = 0; b < o->sequences; b++) {
        attn_cached *x = cache->sequences + b;
        const size_t n = tokens_of(&job, b);
        size_t from, end;
        new_pages(cache, x, n, &from, &end);
        x->first = n > 0 ? first_kept(cache, x, x->length + n) : x->first;
        if (o->page) keep_pages(ctx, cache, x, attn_cache_page_number(cache, x->first), SIZE_MAX);
        if (x->count == 0) x->base = from;
        for (; from < end; from++, fresh = fresh->next) x->pages[x->count++] = fresh;
    }
    struct append_task task = {&job, ctx->kernels};
    attn_for_ranges(ctx, o->sequences * o->key_heads, 1, elements, append_heads, &task);
    for (size_t b = 0; b < o->sequences; b++) cache->sequences[b].length += tokens_of(&job, b);
    return ATTN_OK;
}

/* ---- fork, rollback, reset ------------------------------------------------------------------------ */

static attn_status check_sequence(attn_context *ctx, const attn_kv_cache *cache, const char *where, const char *name,
                                  size_t sequence) {
    if (sequence < cache->options.sequences) return ATTN_OK;
    return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is %zu, expected 0 to %zu", where, name, sequence,
                     cache->options.sequences - 1);
}

/* Whether x cut to `length` keys still has its window. */
static attn_status check_cut(attn_context *ctx, const attn_kv_cache *cache, const char *where, const attn_cached *x,
                             size_t length) {
    const size_t window = cache->options.window >= 0 ? (size_t)cache->options.window : 0;
    const size_t needed = length > window ? length - window : 0;
    if (x->first == 0 || (x->first <= needed && x->first < length)) return ATTN_OK;
    return attn_fail(ctx, ATTN_E_ARGUMENT,
                     "%s: after a cut to %zu keys those from %zu on are needed, the ring has them from %zu on", where,
                     length, needed, x->first);
}

/* The last page of x cut to `length` keys, as a copy, where that page is shared or will be; else *gives is NULL. */
static attn_status copy_last_page(attn_page **gives, attn_context *ctx, attn_kv_cache *cache, const attn_cached *x,
                                  size_t length, bool always) {
    *gives = NULL;
    if (length == 0 || (cache->options.page && length % cache->page_keys == 0)) return ATTN_OK;
    const attn_page *last = x->pages[attn_cache_page_number(cache, length - 1) - x->base];
    if (!always && last->users == 1) return ATTN_OK;
    attn_page *copy = attn_cache_page(ctx, cache);
    if (!copy) return ATTN_E_NOMEM;
    memcpy(copy->data, last->data, cache->page_bytes);
    *gives = copy;
    return ATTN_OK;
}

attn_status attn_kv_cache_fork(attn_context *ctx, attn_kv_cache *cache, size_t to, size_t from, size_t n) {
    static const char where[] = "attn_kv_cache_fork";
    ATTN_TRY(check_sequence(ctx, cache, where, "to", to));
    ATTN_TRY(check_sequence(ctx, cache, where, "from", from));
    const attn_cached *x = cache->sequences + from;
    if (to == from) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: to and from are both %zu", where, to);
    if (n > x->length)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: n is %zu, but sequence %zu has %zu keys", where, n, from,
                         x->length);
    ATTN_TRY(check_cut(ctx, cache, where, x, n));
    attn_cached made = {.length = n, .first = x->first, .base = x->base};
    const size_t pages = n > 0 ? attn_cache_page_number(cache, n - 1) + 1 - x->base : 0;
    if (pages > 0) {
        attn_page *copy;
        ATTN_TRY(copy_last_page(&copy, ctx, cache, x, n, true));
        if (attn_cache_room(ctx, &made, pages) != ATTN_OK) {
            if (copy) drop_page(ctx, cache, copy);
            return ATTN_E_NOMEM;
        }
        for (; made.count < pages; made.count++) made.pages[made.count] = x->pages[made.count];
        if (copy) made.pages[pages - 1] = copy;
        for (size_t i = 0; i < pages; i++) made.pages[i]->users += made.pages[i] != copy;
    }
    empty_sequence(ctx, cache, cache->sequences + to);
    cache->sequences[to] = made;
    return ATTN_OK;
}

attn_status attn_kv_cache_rollback(attn_context *ctx, attn_kv_cache *cache, size_t sequence, size_t n) {
    static const char where[] = "attn_kv_cache_rollback";
    ATTN_TRY(check_sequence(ctx, cache, where, "sequence", sequence));
    attn_cached *x = cache->sequences + sequence;
    if (n > x->length)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: n is %zu, but sequence %zu has %zu keys", where, n, sequence,
                         x->length);
    const size_t length = x->length - n;
    if (n > 0) ATTN_TRY(check_cut(ctx, cache, where, x, length));
    if (cache->options.page && n > 0) {
        attn_page *copy; /* (I2) */
        ATTN_TRY(copy_last_page(&copy, ctx, cache, x, length, false));
        keep_pages(ctx, cache, x, 0, length > 0 ? attn_cache_page_number(cache, length - 1) + 1 : 0);
        if (copy) {
            drop_page(ctx, cache, x->pages[x->count - 1]);
            x->pages[x->count - 1] = copy;
        }
    }
    x->length = length;
    return ATTN_OK;
}

attn_status attn_kv_cache_reset(attn_context *ctx, attn_kv_cache *cache, size_t sequence) {
    ATTN_TRY(check_sequence(ctx, cache, "attn_kv_cache_reset", "sequence", sequence));
    empty_sequence(ctx, cache, cache->sequences + sequence);
    return ATTN_OK;
}
