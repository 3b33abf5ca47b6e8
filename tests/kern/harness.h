/* harness.h: what tests of kernels share: every CPU level in one process, memory between guard pages, random numbers.
 *
 *     for_each_level(ctx, threads) { … attn_cpu_level(ctx) … }
 *     float *x = guarded(n * sizeof *x, GUARD_AFTER);      // x[n] is a fault
 *     …
 *     guarded_free_all();                                                                                        */
#ifndef ATTN_TESTS_KERN_HARNESS_H
#define ATTN_TESTS_KERN_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <attn/base.h>

/* ---- levels -------------------------------------------------------------------------------------- */

static inline attn_context *context_at(const char *level, int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *ctx = NULL;
    options.cpu_level = level;
    options.threads = threads;
    assert_int_equal(attn_context_create(&ctx, &options), ATTN_OK);
    return ctx;
}

static inline attn_context *next_level(const char *const **level, int threads, attn_context *last) {
    attn_context_free(last);
    return **level ? context_at(*(*level)++, threads) : NULL;
}

/* A loop over contexts, one for each level of this machine. Leave it at its end only. */
#define for_each_level(ctx, threads)                                                          \
    for (const char *const *level_##ctx = attn_cpu_levels(); level_##ctx; level_##ctx = NULL) \
        for (attn_context *ctx = next_level(&level_##ctx, threads, NULL); ctx;                \
             ctx = next_level(&level_##ctx, threads, ctx))

/* ---- memory between guard pages ------------------------------------------------------------------ */

typedef enum { GUARD_BEFORE, GUARD_AFTER } guard_side; /* the page that touches the memory; the other is near */

enum { GUARDED_MAX = 256 };
static struct {
    void *pages;
    size_t bytes;
} guarded_list[GUARDED_MAX];
static size_t guarded_count;

static inline void *guarded(size_t bytes, guard_side side) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), middle = (bytes + page - 1) / page * page;
    char *pages = mmap(NULL, middle + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(pages != MAP_FAILED && guarded_count < GUARDED_MAX);
    if (middle) assert_int_equal(mprotect(pages + page, middle, PROT_READ | PROT_WRITE), 0);
    guarded_list[guarded_count].pages = pages;
    guarded_list[guarded_count++].bytes = middle + 2 * page;
    memset(pages + page, 0xff, middle); /* NaN: what is read without having been written shows */
    return side == GUARD_BEFORE ? pages + page : pages + page + middle - bytes;
}

static inline void guarded_free_all(void) {
    while (guarded_count > 0) {
        guarded_count--;
        munmap(guarded_list[guarded_count].pages, guarded_list[guarded_count].bytes);
    }
}

/* ---- numbers -------------------------------------------------------------------------------------- */

/* xorshift64*: the top bits are good enough for test data. */
static inline uint64_t next_random(uint64_t *state) {
    uint64_t x = *state ? *state : 88172645463325252u;
    x ^= x >> 12, x ^= x << 25, x ^= x >> 27;
    *state = x;
    return x * 2685821657736338717u;
}
static inline size_t random_below(uint64_t *state, size_t n) { return (size_t)((next_random(state) >> 32) % n); }
static inline float random_float(uint64_t *state) { /* −1 … 1 */
    return (float)((double)(next_random(state) >> 11) * 0x1p-52 - 1.0);
}
static inline void fill_random(float *x, size_t n, uint64_t *state) {
    for (size_t i = 0; i < n; i++) x[i] = random_float(state);
}

#endif
