/* cache_history.h: random lives of a cache beside plain arrays that say what it should hold.
 *
 *     struct history h;
 *     history_begin(&h, ctx, seed, dtype);
 *     for (…) { history_step(&h); history_check(&h); }
 *     history_end(&h);
 */
#ifndef ATTN_TESTS_KERN_CACHE_HISTORY_H
#define ATTN_TESTS_KERN_CACHE_HISTORY_H

#include "kern/guard.h"

enum { HISTORY_SEQUENCES = 3, HISTORY_KEYS = 1400, HISTORY_ROLLBACK = 90 };

struct history {
    attn_context *ctx;
    uint64_t random;
    attn_kv_cache_options options;
    attn_kv_cache *cache;
    size_t group;
    size_t length[HISTORY_SEQUENCES];
    void *k, *v; /* (sequences, key heads, HISTORY_KEYS, D or Dv), in the dtype of what is appended */
    attn_dtype dtype;
    bool simple; /* no cap, slopes, sinks */
};

static inline const char *best_level(void) {
    const char *const *levels = attn_cpu_levels();
    while (levels[1]) levels++;
    return *levels;
}
static inline uint64_t history_next(struct history *h) {
    h->random = h->random * 6364136223846793005u + 1442695040888963407u;
    return h->random >> 33;
}
static inline size_t history_below(struct history *h, size_t n) { return (size_t)(history_next(h) % n); }
#define HISTORY_ONE_OF(h, ...) \
    ((const size_t[]){__VA_ARGS__})[history_below(h, sizeof((const size_t[]){__VA_ARGS__}) / sizeof(size_t))]

/* n numbers of a dtype in guarded memory. */
static inline void *history_numbers(struct history *h, attn_dtype dtype, size_t n) {
    const size_t size = attn_dtype_size(dtype);
    unsigned char *to = guard_bytes(n * size);
    for (size_t i = 0; i < n; i++) {
        const double u = (double)(history_next(h) + 1) * 0x1p-31 - 1.0;
        const float x = (float)(u * (history_below(h, 40) == 0 ? 6.0 : 1.7));
        if (dtype == ATTN_F32) memcpy(to + i * size, &x, size);
        else {
            uint32_t bits;
            memcpy(&bits, &x, sizeof bits);
            uint16_t half = (uint16_t)(bits >> 16); /* bf16, cut */
            if (dtype == ATTN_F16) half = (uint16_t)(0x3800 + history_below(h, 0x400) + 0x8000 * history_below(h, 2));
            memcpy(to + i * size, &half, size);
        }
    }
    return to;
}

void history_begin(struct history *h, attn_context *ctx, uint64_t seed, attn_dtype dtype);
void history_step(struct history *h);
/* Appends n keys to each sequence, n[b] ≤ most of them. */
attn_status history_append(struct history *h, const int32_t *lengths, size_t most);
/* Attention from the cache against the same from arrays. */
void history_check(struct history *h);
void history_end(struct history *h);

#endif
