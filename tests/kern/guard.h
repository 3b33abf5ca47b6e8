/* guard.h: what the tests of kernels share: arrays that end where a forbidden page begins, contexts for every CPU level
 * and number of threads, and comparisons with double references.
 *
 *     float *x = guard_normal(n, 1);          // n floats; reading x[n] or writing x[-1] is found
 *     …
 *     guard_release();                        // all of them; fails if something was written in front of one */
#ifndef ATTN_TESTS_KERN_GUARD_H
#define ATTN_TESTS_KERN_GUARD_H

#include <attn/attn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { GUARD_PAGE = 16384, GUARD_MAX = 4096, GUARD_CANARY = 0xa5 };

static struct guard_block {
    unsigned char *map;
    size_t bytes, front; /* the whole mapping; bytes of canary after its first page */
} guard_blocks[GUARD_MAX];
static size_t guard_count;

static inline void *guard_bytes(size_t bytes) {
    size_t pages = (bytes + GUARD_PAGE - 1) / GUARD_PAGE + 2;
    unsigned char *map = mmap(NULL, pages * GUARD_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || guard_count == GUARD_MAX) fail_msg("guard: no memory");
    size_t front = (pages - 2) * GUARD_PAGE - bytes;
    memset(map + GUARD_PAGE, GUARD_CANARY, front);
    memset(map + GUARD_PAGE + front, 0xff, bytes); /* NaN: what is read without having been written shows */
    mprotect(map, GUARD_PAGE, PROT_NONE);
    mprotect(map + (pages - 1) * GUARD_PAGE, GUARD_PAGE, PROT_NONE);
    guard_blocks[guard_count++] = (struct guard_block){map, pages * GUARD_PAGE, front};
    return map + GUARD_PAGE + front;
}

static inline void guard_release(void) {
    while (guard_count > 0) {
        struct guard_block block = guard_blocks[--guard_count];
        for (size_t i = 0; i < block.front; i++)
            if (block.map[GUARD_PAGE + i] != GUARD_CANARY) fail_msg("something was written in front of an array");
        munmap(block.map, block.bytes);
    }
}

/* Deterministic numbers. */
static uint64_t guard_state = 1;
static inline double guard_uniform(void) {
    guard_state = guard_state * 6364136223846793005u + 1442695040888963407u;
    return (double)(guard_state >> 11) * 0x1p-53;
}
static inline void guard_fill(float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) {
        double u = guard_uniform(), v = guard_uniform();
        x[i] = scale * (float)(sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v));
    }
}
static inline float *guard_floats(size_t n) { return guard_bytes(n * sizeof(float)); }
static inline float *guard_normal(size_t n, float scale) {
    float *x = guard_floats(n);
    guard_fill(x, n, scale);
    return x;
}
static inline float *guard_copy(const float *from, size_t n) {
    float *x = guard_floats(n);
    memcpy(x, from, n * sizeof *x);
    return x;
}
static inline double *guard_doubles(const float *from, size_t n) {
    double *x = guard_bytes(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = from ? (double)from[i] : 0.0;
    return x;
}

static inline attn_context *guard_context(const char *level, int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.cpu_level = level;
    options.threads = threads;
    attn_context *ctx;
    attn_status status = attn_context_create(&ctx, &options);
    if (status != ATTN_OK) fail_msg("no context for %s: %s", level, attn_status_text(status));
    return ctx;
}

#define assert_ok(ctx, call)                                                                                \
    do {                                                                                                    \
        attn_status assert_status_ = (call);                                                                \
        if (assert_status_ != ATTN_OK)                                                                      \
            fail_msg("%s: %s: %s", attn_cpu_level(ctx), attn_status_text(assert_status_), attn_error(ctx)); \
    } while (0)

/* |a − b| ≤ absolute + relative·|b| everywhere; NaN equals NaN. */
static inline void assert_close(const char *what, const float *a, const double *b, size_t n, double absolute,
                                double relative) {
    for (size_t i = 0; i < n; i++) {
        if (isnan(a[i]) && isnan(b[i])) continue;
        if ((double)a[i] == b[i]) continue; /* infinities too */
        if (!(fabs((double)a[i] - b[i]) <= absolute + relative * fabs(b[i])))
            fail_msg("%s[%zu of %zu] is %.9g, expected %.9g", what, i, n, (double)a[i], b[i]);
    }
}

static inline void assert_same_bits(const char *what, const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, sizeof *a) != 0)
            fail_msg("%s[%zu of %zu]: %a and %a", what, i, n, (double)a[i], (double)b[i]);
}

/* d f / d *x by central differences of fourth order. */
static inline double guard_slope(double (*f)(void *), void *arg, double *x) {
    double at = *x, h = 1e-3, d[4];
    static const double step[4] = {-2, -1, 1, 2};
    for (int i = 0; i < 4; i++) {
        *x = at + step[i] * h;
        d[i] = f(arg);
    }
    *x = at;
    return (d[0] - 8 * d[1] + 8 * d[2] - d[3]) / (12 * h);
}

/* The sizes every kernel is tried with. */
static const size_t guard_sizes[] = {1,  2,  3,  4,  5,  6,  7,  8,  9,   10,  11,  12,  13,
                                     14, 15, 16, 17, 18, 23, 24, 25, 31,  32,  33,  34,  47,
                                     48, 49, 50, 63, 64, 65, 66, 67, 127, 128, 129, 200, 1000};
#define GUARD_SIZES (sizeof guard_sizes / sizeof guard_sizes[0])
static const int guard_threads[] = {1, 2, 3, 8};

#define FOR_LEVELS(level) for (const char *const *level = attn_cpu_levels(); *level; level++)

#endif
