/* cache.h: what a cache of keys and values is made of.
 *
 * A page holds, for every key head, the keys and the values of page_keys positions, and for I8 their scales:
 *     K  blocks of 16 keys, [D][16], so that lanes are keys; bf16 [⌈D/2⌉][16][2]; I8 [⌈D/4⌉][16][4] bytes, 128 added
 *     V  [page_keys][Dv]; bf16 [page_keys/2][Dv][2]; I8 [page_keys/4][Dv in whole 16][4] bytes
 * Without `page` a sequence has one page of its whole capacity, in a ring used again and again.
 *   (I1) pages[i] is page base + i; together they hold the positions first … length−1
 *   (I2) a page that has room for position `length` has one user: appending writes to nobody else's page
 *   (I3) what lies past length within a page is never looked at */
#ifndef ATTN_OPS_CACHE_H
#define ATTN_OPS_CACHE_H

#include "kernel/select.h"
#include "ops/attention.h"

typedef struct attn_page {
    size_t users, mark;     /* mark: its number while the state is written */
    struct attn_page *next; /* in a list of new ones */
    _Alignas(64) unsigned char data[];
} attn_page;

typedef struct attn_cached {
    size_t length, first;
    attn_page **pages;
    size_t base, count, room;
} attn_cached;

struct attn_kv_cache {
    attn_kv_cache_options options;
    size_t page_keys, slots; /* slots: keys of a ring, or the capacity */
    size_t k_bytes, v_bytes; /* of a key and of a value, for one head */
    size_t head_bytes, page_bytes;
    size_t pages; /* that exist */
    attn_cached *sequences;
};

#define ATTN_CACHE_MOST (((size_t)1 << 31) - 64)

/* Sizes from checked options. */
attn_status attn_cache_plan(attn_kv_cache *cache, attn_context *ctx, const char *where,
                            const attn_kv_cache_options *options);
attn_page *attn_cache_page(attn_context *ctx, attn_kv_cache *cache);
/* Room for `count` pages in a sequence's list. */
attn_status attn_cache_room(attn_context *ctx, attn_cached *x, size_t count);

/* Position p lies in page number p / page_keys, but without pages all lie in page 0. */
static inline size_t attn_cache_page_number(const attn_kv_cache *cache, size_t position) {
    return cache->options.page ? position / cache->page_keys : 0;
}
static inline unsigned char *attn_cache_head(const attn_kv_cache *cache, const attn_cached *x, size_t head,
                                             size_t position) {
    return x->pages[attn_cache_page_number(cache, position) - x->base]->data + head * cache->head_bytes;
}
/* Where the blocks first … end−1 of the tile at `key` lie: k[b], v[b]. Gives the place of the first within its page. */
size_t attn_cache_blocks(const void **k, const void **v, const attn_kv_cache *cache, size_t sequence, size_t head,
                         size_t key, size_t first, size_t end);
/* Pointers to the blocks first … end−1 of the tile at `key`. */
void attn_cache_find(attn_decode_tile *tile, const attn_kv_cache *cache, size_t sequence, size_t head, size_t key);

/* to = round(x · 127 / max|x|); gives max|x| / 127, by which they are to be multiplied; NaN if some x is not finite. */
float attn_cache_quantise(int8_t *to, const float *x, size_t n);

#endif
