/* cache_state.c: the cache as bytes, and back. All numbers are little-endian words of 8 bytes.
 *
 *     "attnKV1\n", or of I8 "attnKV2\n", checksum of what follows
 *     sequences, key heads, D, Dv, capacity, dtype, page, window, pages
 *     of each sequence: length, first, base, number of its pages
 *     of each sequence: the numbers of its pages
 *     the pages
 *
 * States of I8 that begin with attnKV1 had values in another order, and are refused.
 *
 * Bytes may come from anybody: every count is held against the bytes that are left before memory is taken for it. */
#include "ops/cache.h"

#include <string.h>

enum { HEAD_WORDS = 9, SEQUENCE_WORDS = 4, WORD = 8 };
enum { DATA_AT = 2 * WORD };

static const char *magic_of(attn_dtype dtype) { return dtype == ATTN_I8 ? "attnKV2\n" : "attnKV1\n"; }

/* Every step is a bijection of h, so one changed word always changes the result. */
static uint64_t checksum(const unsigned char *data, size_t bytes) {
    uint64_t h = bytes + 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < bytes; i += WORD) {
        uint64_t word = 0;
        memcpy(&word, data + i, bytes - i < WORD ? bytes - i : (size_t)WORD);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    return h;
}

static unsigned char *put_word(unsigned char *at, uint64_t word) {
    memcpy(at, &word, WORD);
    return at + WORD;
}

attn_status attn_kv_cache_serialise(attn_context *ctx, const attn_kv_cache *cache, unsigned char **data,
                                    size_t *bytes) {
    const attn_kv_cache_options *o = &cache->options;
    *data = NULL, *bytes = 0;
    /* Pages are numbered in the order in which the sequences name them; mark is the number + 1. */
    size_t pages = 0, names = 0;
    for (size_t b = 0; b < o->sequences; b++)
        for (size_t i = 0; i < cache->sequences[b].count; i++) cache->sequences[b].pages[i]->mark = 0;
    for (size_t b = 0; b < o->sequences; b++) {
        const attn_cached *x = cache->sequences + b;
        for (size_t i = 0; x->length > 0 && i < x->count; i++, names++)
            if (x->pages[i]->mark == 0) x->pages[i]->mark = ++pages;
    }
    size_t total = DATA_AT + (HEAD_WORDS + SEQUENCE_WORDS * o->sequences + names) * WORD, all_pages;
    if (!attn_size_mul(&all_pages, pages, cache->page_bytes) || !attn_size_add(&total, total, all_pages))
        return attn_fail(ctx, ATTN_E_NOMEM, "attn_kv_cache_serialise: more bytes than the address space");
    unsigned char *start = attn_alloc(ctx, total, 1);
    if (!start) return ATTN_E_NOMEM;
    unsigned char *at = start + DATA_AT;
    const uint64_t head[HEAD_WORDS] = {o->sequences, o->key_heads,        o->d, o->dv, o->capacity, (uint64_t)o->dtype,
                                       o->page,      (uint64_t)o->window, pages};
    for (size_t i = 0; i < HEAD_WORDS; i++) at = put_word(at, head[i]);
    for (size_t b = 0; b < o->sequences; b++) {
        const attn_cached *x = cache->sequences + b;
        at = put_word(at, x->length), at = put_word(at, x->first);
        at = put_word(at, x->base), at = put_word(at, x->length > 0 ? x->count : 0);
    }
    unsigned char *const data_of_pages = at + names * WORD;
    for (size_t b = 0; b < o->sequences; b++) {
        const attn_cached *x = cache->sequences + b;
        for (size_t i = 0; x->length > 0 && i < x->count; i++) {
            const size_t number = x->pages[i]->mark - 1;
            at = put_word(at, number);
            memcpy(data_of_pages + number * cache->page_bytes, x->pages[i]->data, cache->page_bytes);
        }
    }
    memcpy(start, magic_of(o->dtype), WORD);
    put_word(start + WORD, checksum(start + DATA_AT, total - DATA_AT));
    *data = start, *bytes = total;
    return ATTN_OK;
}

void attn_kv_cache_bytes_free(attn_context *ctx, unsigned char *data) { attn_release(ctx, data); }

/* ---- back ----------------------------------------------------------------------------------------- */

typedef struct state_reader {
    attn_context *ctx;
    const unsigned char *at;
    size_t left;
} state_reader;

static uint64_t take_word(state_reader *reader) { /* the caller knows that it is there */
    uint64_t word;
    memcpy(&word, reader->at, WORD);
    reader->at += WORD, reader->left -= WORD;
    return word;
}

static attn_status refuse(attn_context *ctx, const char *what, uint64_t found) {
    return attn_fail(ctx, ATTN_E_FORMAT, "state of a cache: %s (found %llu)", what, (unsigned long long)found);
}

static attn_status read_head(attn_kv_cache *plan, size_t *pages, state_reader *reader) {
    uint64_t head[HEAD_WORDS];
    for (size_t i = 0; i < HEAD_WORDS; i++) head[i] = take_word(reader);
    attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
    for (size_t i = 0; i < HEAD_WORDS; i++)
        if (i != 7 && head[i] > SIZE_MAX / 2) return refuse(reader->ctx, "a size beyond the address space", head[i]);
    if (head[5] > ATTN_F64) return refuse(reader->ctx, "no dtype", head[5]);
    if (head[3] == 0) return refuse(reader->ctx, "no head size of values", head[3]);
    o.sequences = (size_t)head[0], o.key_heads = (size_t)head[1], o.d = (size_t)head[2], o.dv = (size_t)head[3];
    o.capacity = (size_t)head[4], o.dtype = (attn_dtype)head[5], o.page = (size_t)head[6];
    o.window = (int64_t)head[7], *pages = (size_t)head[8];
    attn_status status = attn_cache_plan(plan, reader->ctx, "state of a cache", &o);
    return status == ATTN_OK ? ATTN_OK : ATTN_E_FORMAT; /* the sentence is there */
}

/* A sequence's words, which say all of (I1) but the pages. */
static attn_status read_sequence(attn_cached *x, size_t *count, const attn_kv_cache *cache, state_reader *reader) {
    const uint64_t length = take_word(reader), first = take_word(reader), base = take_word(reader),
                   names = take_word(reader);
    const bool ring = cache->options.window >= 0;
    if (length > (ring ? ATTN_CACHE_MOST : cache->options.capacity))
        return refuse(reader->ctx, "a length beyond the capacity", length);
    const uint64_t lost = ring && length > cache->slots ? length - cache->slots : 0;
    if (length == 0 ? first != 0 : first >= length || first < lost || (!ring && first > 0))
        return refuse(reader->ctx, "a first key that cannot be", first);
    *x = (attn_cached){.length = (size_t)length, .first = (size_t)first};
    x->base = attn_cache_page_number(cache, x->first);
    *count = length > 0 ? attn_cache_page_number(cache, x->length - 1) + 1 - x->base : 0;
    if (base != x->base) return refuse(reader->ctx, "a first page that cannot be", base);
    if (names != *count) return refuse(reader->ctx, "a number of pages that cannot be", names);
    return ATTN_OK;
}

/* The lists of pages, by their numbers in table. */
static attn_status read_names(attn_kv_cache *cache, attn_page **table, size_t pages, const size_t *counts,
                              state_reader *reader) {
    for (size_t b = 0; b < cache->options.sequences; b++) {
        attn_cached *x = cache->sequences + b;
        if (counts[b] > 0) ATTN_TRY(attn_cache_room(reader->ctx, x, counts[b]));
        for (size_t i = 0; i < counts[b]; i++) {
            const uint64_t number = take_word(reader);
            if (number >= pages) return refuse(reader->ctx, "a page that is not there", number);
            x->pages[x->count++] = table[number];
            table[number]->users++;
        }
    }
    for (size_t b = 0; b < cache->options.sequences; b++) { /* (I2) */
        const attn_cached *x = cache->sequences + b;
        const bool open = x->length > 0 && (!cache->options.page || x->length % cache->page_keys != 0);
        if (open && x->pages[x->count - 1]->users != 1)
            return refuse(reader->ctx, "a page to be written that is shared", x->pages[x->count - 1]->users);
    }
    for (size_t i = 0; i < pages; i++)
        if (table[i]->users == 0) return refuse(reader->ctx, "a page that no sequence has", i);
    return ATTN_OK;
}

/* What follows the head, into a cache whose sequences are empty. On failure pages are users' or in table with none. */
static attn_status read_body(attn_kv_cache *cache, attn_page **table, size_t pages, size_t *counts,
                             state_reader *reader) {
    size_t names = 0, wanted;
    for (size_t b = 0; b < cache->options.sequences; b++) {
        ATTN_TRY(read_sequence(cache->sequences + b, counts + b, cache, reader));
        names += counts[b]; /* each is less than 2^31, and there are less than 2^59 of them */
    }
    if (names > reader->left / WORD) return refuse(reader->ctx, "more pages than bytes", names);
    if (!attn_size_mul(&wanted, pages, cache->page_bytes) || wanted != reader->left - names * WORD)
        return refuse(reader->ctx, "another number of bytes than the pages have", reader->left);
    for (size_t i = 0; i < pages; i++) {
        table[i] = attn_cache_page(reader->ctx, cache);
        if (!table[i]) return ATTN_E_NOMEM;
        table[i]->users = 0;
        memcpy(table[i]->data, reader->at + names * WORD + i * cache->page_bytes, cache->page_bytes);
    }
    return read_names(cache, table, pages, counts, reader);
}

attn_status attn_kv_cache_deserialise(attn_kv_cache **gives, attn_context *ctx, const unsigned char *data,
                                      size_t bytes) {
    *gives = NULL;
    if (bytes < DATA_AT + HEAD_WORDS * WORD) return refuse(ctx, "too short", bytes);
    state_reader reader = {ctx, data + DATA_AT, bytes - DATA_AT};
    if (memcmp(data, magic_of(ATTN_F32), WORD) != 0 && memcmp(data, magic_of(ATTN_I8), WORD) != 0)
        return refuse(ctx, "it does not begin with attnKV1 or attnKV2", data[0]);
    uint64_t sum;
    memcpy(&sum, data + WORD, WORD);
    if (sum != checksum(reader.at, reader.left)) return refuse(ctx, "the checksum is wrong", sum);
    attn_kv_cache plan;
    size_t pages = 0;
    ATTN_TRY(read_head(&plan, &pages, &reader));
    if (memcmp(data, magic_of(plan.options.dtype), WORD) != 0)
        return attn_fail(ctx, ATTN_E_FORMAT, "state of a cache: %s begins with %.7s (found %.7s%s)",
                         attn_dtype_name(plan.options.dtype), magic_of(plan.options.dtype), (const char *)data,
                         plan.options.dtype == ATTN_I8 ? ", an older order of the bytes: fill the cache anew" : "");
    const size_t sequences = plan.options.sequences;
    if (sequences > reader.left / (SEQUENCE_WORDS * WORD)) return refuse(ctx, "more sequences than bytes", sequences);
    if (pages > reader.left / WORD) return refuse(ctx, "more pages than bytes", pages);
    attn_kv_cache *cache;
    ATTN_TRY(attn_kv_cache_create(&cache, ctx, &plan.options));
    attn_page **table = attn_alloc_zero(ctx, pages, sizeof(attn_page *));
    size_t *counts = attn_alloc_zero(ctx, sequences, sizeof *counts);
    attn_status status = table && counts ? read_body(cache, table, pages, counts, &reader) : ATTN_E_NOMEM;
    for (size_t i = 0; table && i < pages; i++)
        if (table[i] && table[i]->users == 0) attn_release(ctx, table[i]);
    attn_release(ctx, table);
    attn_release(ctx, counts);
    if (status == ATTN_OK) *gives = cache;
    else attn_kv_cache_free(ctx, cache);
    return status;
}
