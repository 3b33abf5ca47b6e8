/* attn/base.h: status codes, the context, memory, threads.
 *
 *     attn_context *ctx;
 *     if (attn_context_create(&ctx, NULL) != ATTN_OK) ...;
 *     if (attn_softmax_fwd(ctx, &y, &x) != ATTN_OK) fprintf(stderr, "%s\n", attn_error(ctx));
 *     attn_context_free(ctx);
 *
 * Ownership words used in every comment of these headers:
 *   borrows  the callee reads or writes the object during the call only;
 *   keeps    the callee holds the pointer after the call; the caller keeps the object alive;
 *   gives    the callee hands over an object that the caller frees.                        */
#ifndef ATTN_BASE_H
#define ATTN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTN_VERSION "0.1.0"

#if defined(__GNUC__)
#define ATTN_API __attribute__((visibility("default")))
#define ATTN_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define ATTN_API
#define ATTN_PRINTF(f, a)
#endif

/* Every fallible function returns one of these: 0 or negative. */
#define ATTN_STATUS_LIST(X)                               \
    X(OK, 0, "success")                                   \
    X(E_ARGUMENT, -1, "invalid argument")                 \
    X(E_SHAPE, -2, "shapes do not fit")                   \
    X(E_NOMEM, -3, "out of memory")                       \
    X(E_IO, -4, "input or output failed")                 \
    X(E_FORMAT, -5, "malformed data")                     \
    X(E_UNSUPPORTED, -6, "not supported")                 \
    X(E_NUMERIC, -7, "not a finite number")               \
    X(E_INTERRUPTED, -8, "interrupted")                   \
    X(E_VERSION, -9, "struct or file of another version") \
    X(E_NOT_FOUND, -10, "not found")

typedef enum attn_status {
#define ATTN_STATUS_ENUM(name, value, text) ATTN_##name = value,
    ATTN_STATUS_LIST(ATTN_STATUS_ENUM)
#undef ATTN_STATUS_ENUM
} attn_status;

/* The fixed text of a status ("out of memory"). Never NULL. */
ATTN_API const char *attn_status_text(attn_status status);

typedef struct attn_context attn_context;

/* Memory. allocate returns NULL when there is none; alignment is a power of two ≤ 4096. */
typedef struct attn_allocator {
    void *user;
    void *(*allocate)(void *user, size_t bytes, size_t alignment);
    void (*release)(void *user, void *pointer);
} attn_allocator;

/* One piece of a parallel job: index is 0 … n−1. */
typedef void attn_task(void *arg, size_t index);

/* A host's thread pool: runs fn(arg, 0) … fn(arg, n−1), in any order, on any threads, and returns
 * when all are done. Results never depend on how. */
typedef void attn_parallel_for_fn(void *user, size_t n, attn_task *fn, void *arg);

typedef struct attn_context_options {
    size_t struct_size;                 /* sizeof(attn_context_options) */
    attn_allocator allocator;           /* all NULL: the C library's */
    int threads;                        /* 0: $ATTN_NUM_THREADS, else the number of processors */
    const char *cpu_level;              /* NULL: $ATTN_CPU, else the best; "scalar" "avx2" "avx512" "amx" "neon" */
    attn_parallel_for_fn *parallel_for; /* NULL: the context's own pool */
    void *parallel_user;
} attn_context_options;

#define ATTN_CONTEXT_OPTIONS_INIT \
    { sizeof(attn_context_options), {NULL, NULL, NULL}, 0, NULL, NULL, NULL }

/* Makes a context: allocator, thread pool, kernel table, text of the last error.
 * options may be NULL. Gives *ctx (NULL on error). An unknown or unavailable cpu_level is
 * ATTN_E_UNSUPPORTED. One call at a time per context. */
ATTN_API attn_status attn_context_create(attn_context **ctx, const attn_context_options *options);
ATTN_API void attn_context_free(attn_context *ctx); /* NULL is fine */

/* The sentence that belongs to the last failure in this context ("" before the first). */
ATTN_API const char *attn_error(const attn_context *ctx);

/* How many threads the context uses, and the name of its kernels' instruction set. */
ATTN_API int attn_threads(const attn_context *ctx);
ATTN_API const char *attn_cpu_level(const attn_context *ctx);
/* The levels this machine can run, best last; NULL-terminated. */
ATTN_API const char *const *attn_cpu_levels(void);

/* Runs fn(arg, 0 … n−1) on the context's threads. */
ATTN_API void attn_parallel_for(attn_context *ctx, size_t n, attn_task *fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
