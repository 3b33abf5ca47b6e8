/* context.c: what a caller holds: allocator, threads, kernel table, text of the last error. */
#include "base/alloc.h"
#include "base/pool.h"
#include "kernel/select.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024 };

/* Of a core, as far as the system says: what several cores share, or larger than it would be, counts as `large`. */
static size_t cache_bytes(int name, size_t small, size_t usual, size_t large) {
    const long bytes = name ? sysconf(name) : 0;
    return bytes <= 0 ? usual : ATTN_MAX(ATTN_MIN((size_t)bytes, large), small);
}
#if defined(_SC_LEVEL1_DCACHE_SIZE) && defined(_SC_LEVEL2_CACHE_SIZE)
enum { L1_SIZE = _SC_LEVEL1_DCACHE_SIZE, L2_SIZE = _SC_LEVEL2_CACHE_SIZE };
#else
enum { L1_SIZE = 0, L2_SIZE = 0 };
#endif

/* threads, or $ATTN_NUM_THREADS, or the number of processors; 0 if what is asked for is no number of threads. */
static int threads_wanted(int threads) {
    const char *text = getenv("ATTN_NUM_THREADS");
    if (threads != 0) return threads > 0 && threads <= MAX_THREADS ? threads : 0;
    if (!text || !*text) return ATTN_MIN(attn_processor_count(), MAX_THREADS);
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    return !errno && !*end && value > 0 && value <= MAX_THREADS ? (int)value : 0;
}

/* A context and its table of kernels, in one piece of memory. */
struct whole {
    attn_context context;
    attn_kernels kernels;
};

attn_status attn_context_create(attn_context **gives, const attn_context_options *options) {
    static const attn_context_options defaults = ATTN_CONTEXT_OPTIONS_INIT;
    if (!gives) return ATTN_E_ARGUMENT;
    *gives = NULL;
    if (!options) options = &defaults;
    if (options->struct_size != sizeof *options) return ATTN_E_VERSION;

    attn_allocator allocator = options->allocator;
    if (!allocator.allocate != !allocator.release) return ATTN_E_ARGUMENT;
    if (!allocator.allocate) allocator = attn_default_allocator;
    int threads = threads_wanted(options->threads);
    if (!threads) return ATTN_E_ARGUMENT;
    const char *level = options->cpu_level ? options->cpu_level : getenv("ATTN_CPU");
    attn_kernels kernels;
    if (!attn_kernels_get(&kernels, level && *level ? level : NULL)) return ATTN_E_UNSUPPORTED;

    struct whole *whole = allocator.allocate(allocator.user, sizeof *whole, 64);
    if (!whole) return ATTN_E_NOMEM;
    *whole = (struct whole){.kernels = kernels};
    attn_context *ctx = &whole->context;
    ctx->allocator = allocator;
    ctx->kernels = &whole->kernels;
    ctx->threads = threads;
    ctx->l1_bytes = cache_bytes(L1_SIZE, 1 << 14, 1 << 15, 1 << 16);
    ctx->l2_bytes = cache_bytes(L2_SIZE, 1 << 18, 1 << 20, 1 << 21);
    ctx->parallel_for = options->parallel_for;
    ctx->parallel_user = options->parallel_user;
    if (!ctx->parallel_for && threads > 1) {
        attn_status status = attn_pool_create(&ctx->pool, ctx, threads);
        if (status != ATTN_OK) {
            attn_context_free(ctx);
            return status;
        }
    }
    *gives = ctx;
    return ATTN_OK;
}

void attn_context_free(attn_context *ctx) {
    if (!ctx) return;
    attn_pool_free(ctx, ctx->pool);
    attn_release(ctx, ctx->spare);
    attn_allocator allocator = ctx->allocator; /* ctx, which struct whole begins with, is its own memory's allocator */
    allocator.release(allocator.user, ctx);
}

int attn_threads(const attn_context *ctx) { return ctx->threads; }
const char *attn_cpu_level(const attn_context *ctx) { return ctx->kernels->level; }
const char *const *attn_cpu_levels(void) { return attn_kernels_levels(); }

struct host_job {
    attn_task *fn;
    void *arg;
};

static void host_task(void *arg, size_t index) {
    const struct host_job *job = arg;
    attn_task_run(job->fn, job->arg, index, index + 1);
}

void attn_parallel_for(attn_context *ctx, size_t n, attn_task *fn, void *arg) {
    if (n == 0) return;
    if (ctx->threads == 1 || n == 1 || attn_in_task()) {
        attn_task_run_alone(fn, arg, n);
    } else if (ctx->parallel_for) {
        struct host_job job = {fn, arg};
        ctx->parallel_for(ctx->parallel_user, n, host_task, &job);
    } else {
        attn_pool_run(ctx->pool, n, fn, arg);
    }
}
