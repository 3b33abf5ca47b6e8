/* attention_work.c: the division of work over threads, each with a scratch of its own. */
#include "base/pool.h"
#include "ops/attention.h"

#include <stdatomic.h>

size_t attn_attention_workers(const attn_attention *at, size_t tasks, double ns) {
    size_t threads = (size_t)at->ctx->threads;
    if (ns < ATTN_SMALL_WORK) threads = 1;
    return ATTN_MAX(ATTN_MIN(threads, tasks), (size_t)1);
}

size_t attn_ahead_add(attn_ahead *ahead, const attn_view *view, size_t b, size_t head, ptrdiff_t row, size_t rows,
                      size_t columns, bool written) {
    const size_t size = attn_dtype_size(view->dtype);
    struct attn_span *span = ahead->spans + ahead->spans_n++;
    *span = (struct attn_span){.row = attn_view_at(view, b, head, row),
                               .step = view->row * (ptrdiff_t)size,
                               .bytes = columns * size,
                               .rows = rows,
                               .written = written};
    if (span->step == (ptrdiff_t)span->bytes) span->bytes *= rows, span->rows = 1;
    return rows * (columns * size + 63) / 64;
}

size_t attn_ahead_keys(attn_ahead *ahead, const attn_attention *at, const attn_sequence *x, size_t key_head, size_t key,
                       size_t rows) {
    if (key >= x->s) return 0;
    if (rows > x->s - key) rows = x->s - key;
    const ptrdiff_t row = x->k_first + (ptrdiff_t)key;
    return attn_ahead_add(ahead, &at->k, x->index, key_head, row, rows, at->d, false) +
           attn_ahead_add(ahead, &at->v, x->index, key_head, row, rows, at->dv, false);
}

struct work {
    attn_attention_task *task;
    void *job;
    char *workspace;
    size_t bytes, tasks, workers;
    _Atomic size_t next;
    attn_share *shares;          /* (workers), or NULL: `next` counts */
    bool numbered;               /* threads are the context's own */
    const attn_kernels *kernels; /* NULL: products are not of pairs */
};

/* Takes a task of a share, from its front or its end; false if there is none. */
static bool take(attn_share *share, bool front, size_t *task) {
    uint64_t left = atomic_load(&share->left);
    for (;;) {
        const uint64_t begin = left >> 32, end = left & UINT32_MAX;
        if (begin == end) return false;
        const uint64_t rest = front ? left + ((uint64_t)1 << 32) : left - 1;
        if (!atomic_compare_exchange_weak(&share->left, &left, rest)) continue; /* left is read anew */
        *task = front ? begin : end - 1;
        return true;
    }
}

static void worker(void *arg, size_t index) {
    struct work *work = arg;
    void *scratch = work->workspace + index * work->bytes;
    size_t task;
    if (work->kernels) work->kernels->tiles_begin();
    if (!work->shares) {
        while ((task = atomic_fetch_add(&work->next, 1)) < work->tasks) work->task(work->job, task, scratch);
    } else {
        const size_t own = work->numbered ? attn_thread_number() % work->workers : index;
        for (size_t i = 0; i < work->workers; i++)
            while (take(work->shares + (own + i) % work->workers, i == 0, &task)) work->task(work->job, task, scratch);
    }
    if (work->kernels) work->kernels->tiles_end();
}

void attn_attention_run(const attn_attention *at, attn_share *shares, size_t workers, size_t tasks,
                        attn_attention_task *task, void *job, void *workspace, size_t bytes) {
    struct work work = {.task = task,
                        .job = job,
                        .workspace = workspace,
                        .bytes = bytes,
                        .tasks = tasks,
                        .workers = workers,
                        .shares = tasks <= UINT32_MAX ? shares : NULL,
                        .numbered = !at->ctx->parallel_for,
                        .kernels = at->fast ? at->kernels : NULL};
    atomic_init(&work.next, 0);
    for (size_t i = 0; work.shares && i < workers; i++)
        atomic_init(&shares[i].left, (uint64_t)(tasks * i / workers) << 32 | tasks * (i + 1) / workers);
    if (tasks > 0) attn_parallel_for(at->ctx, workers, worker, &work);
}

attn_status attn_attention_memory(const attn_attention *at, void **workspace, void **allocated, size_t bytes) {
    *allocated = NULL;
    *workspace = at->options.workspace;
    if (*workspace) {
        if (at->options.workspace_bytes >= bytes && (uintptr_t)*workspace % 64 == 0) return ATTN_OK;
        return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: workspace is %zu bytes at %p, expected %zu at a multiple of 64",
                         at->where, at->options.workspace_bytes, *workspace, bytes);
    }
    *workspace = *allocated = attn_alloc(at->ctx, bytes, 1);
    return *allocated ? ATTN_OK : ATTN_E_NOMEM;
}
