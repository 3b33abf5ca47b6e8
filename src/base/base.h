/* base.h: what every file of the library uses: errors, memory, checked arithmetic, growing text, random numbers.
 *
 *     ATTN_TRY(attn_folder_make(ctx, path));
 *     float *row = attn_alloc(ctx, n, sizeof *row);
 *     if (!row) return ATTN_E_NOMEM;               // the text is already set
 */
#ifndef ATTN_BASE_BASE_H
#define ATTN_BASE_BASE_H

#include <attn/base.h>
#include <stdarg.h>

struct attn_kernels;
struct attn_pool;

struct attn_context {
    attn_allocator allocator;
    const struct attn_kernels *kernels;
    struct attn_pool *pool;             /* NULL with a host's pool or one thread */
    attn_parallel_for_fn *parallel_for; /* NULL: pool */
    void *parallel_user;
    int threads;
    size_t l1_bytes; /* a core's L1 cache of data, */
    size_t l2_bytes; /* and its L2 cache: they choose the order of work, never a result */
    void *spare;     /* memory of the last packed right side, for the next: fresh pages cost more than packing does */
    size_t spare_bytes;
    char error[2048];
};

/* Passes a failure on. */
#define ATTN_TRY(expression)                            \
    do {                                                \
        attn_status try_status_ = (expression);         \
        if (try_status_ != ATTN_OK) return try_status_; \
    } while (0)

#define ATTN_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ATTN_MIN(a, b) ((a) < (b) ? (a) : (b))
#define ATTN_MAX(a, b) ((a) > (b) ? (a) : (b))

/* Keeps the sentence in the context and returns status. The sentence names what was found and what was expected. */
attn_status attn_fail(attn_context *ctx, attn_status status, const char *format, ...) ATTN_PRINTF(3, 4);
/* ATTN_E_IO with `path: what: strerror(errno)`. */
attn_status attn_fail_errno(attn_context *ctx, const char *path, const char *what);

/* 64-byte aligned. NULL, with the error set, if count·size overflows or there is no memory. Zero elements give a valid
 * pointer. */
void *attn_alloc(attn_context *ctx, size_t count, size_t size);
void *attn_alloc_zero(attn_context *ctx, size_t count, size_t size);
/* Makes *array hold at least `wanted` elements (doubling); *capacity follows. The contents stay; on failure nothing
 * changes. */
attn_status attn_grow(attn_context *ctx, void *array_pointer, size_t *capacity, size_t wanted, size_t used,
                      size_t size);
/* Asks the system for huge pages where fresh memory of attn_alloc is large, for what is read from one end to the other.
 * A host's allocator gets no such request: its memory may lie among other things of the host. */
void attn_want_huge_pages(attn_context *ctx, void *data, size_t bytes);
void attn_release(attn_context *ctx, void *pointer);                     /* NULL is fine */
char *attn_copy_text(attn_context *ctx, const char *text, size_t bytes); /* NUL-terminated copy */

/* false on overflow. */
static inline bool attn_size_mul(size_t *out, size_t a, size_t b) { return !__builtin_mul_overflow(a, b, out); }
static inline bool attn_size_add(size_t *out, size_t a, size_t b) { return !__builtin_add_overflow(a, b, out); }

/* Growing text; a failure is sticky, so that only the end needs a check. */
typedef struct attn_buffer {
    attn_context *ctx;
    char *data; /* NUL-terminated once something was added */
    size_t bytes, capacity;
    attn_status status;
} attn_buffer;
#define ATTN_BUFFER_INIT(ctx) \
    { (ctx), NULL, 0, 0, ATTN_OK }
void attn_buffer_add(attn_buffer *buffer, const void *data, size_t bytes);
void attn_buffer_text(attn_buffer *buffer, const char *text);
void attn_buffer_printf(attn_buffer *buffer, const char *format, ...) ATTN_PRINTF(2, 3);
void attn_buffer_free(attn_buffer *buffer);
/* Hands data over (NULL with the status set on failure; an empty buffer gives ""). */
attn_status attn_buffer_give(attn_buffer *buffer, char **out, size_t *bytes);

/* Philox4x32-10 (Salmon, Moraes, Dror & Shaw 2011). */
void attn_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);
/* A stream of numbers from (seed, stream); copying the struct copies the state. */
typedef struct attn_random {
    uint64_t seed, stream, position;
} attn_random;
uint32_t attn_random_u32(attn_random *random);
uint64_t attn_random_below(attn_random *random, uint64_t n); /* unbiased */
double attn_random_uniform(attn_random *random);             /* [0, 1) */
double attn_random_normal(attn_random *random);
uint64_t attn_hash_text(const char *text, size_t bytes); /* FNV-1a, 64 bits */

#endif
