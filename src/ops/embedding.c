/* embedding.c: rows of a table by id, and the gradient of the table. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/ops.h>
#include <string.h>

enum { COLUMN_GRAIN = 16 };

struct job {
    const attn_kernels *kernels;
    float *to;
    const float *from;
    const int32_t *ids;
    size_t n, columns;
};

static void copy_rows(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t i = first; i < end; i++)
        memcpy(job->to + i * job->columns, job->from + (size_t)job->ids[i] * job->columns,
               job->columns * sizeof *job->to);
}

/* A thread owns columns: so every row of the table is summed in the order of i, whatever the threads. */
static void add_columns(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t i = 0; i < job->n; i++) {
        float *to = job->to + (size_t)job->ids[i] * job->columns + first;
        job->kernels->vector_add(to, to, job->from + i * job->columns + first, end - first);
    }
}

static attn_status check(attn_context *ctx, const char *where, const char *what_table, const char *what_rows,
                         const attn_tensor *table, const attn_tensor *rows, const int32_t *ids, size_t n) {
    ATTN_TRY(attn_check_shape(ctx, what_table, table, 2, (size_t[]){ATTN_ANY, ATTN_ANY}));
    size_t count, columns;
    ATTN_TRY(attn_check_rows(ctx, what_rows, rows, &count, &columns)); /* any leading dimensions that make n */
    if (count != n || columns != table->shape[1])
        return attn_fail(ctx, ATTN_E_SHAPE, "%s has %zu rows of %zu, expected %zu of %zu", what_rows, count, columns, n,
                         table->shape[1]);
    if (n > 0 && !ids) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: ids is NULL", where);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= table->shape[0])
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: ids[%zu] is %d, expected 0 or more, less than %zu", where, i,
                             ids[i], table->shape[0]);
    return ATTN_OK;
}

attn_status attn_embedding_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *table, const int32_t *ids,
                               size_t n) {
    ATTN_TRY(check(ctx, "attn_embedding_fwd", "attn_embedding_fwd: table", "attn_embedding_fwd: y", table, y, ids, n));
    struct job job = {ctx->kernels, y->data, table->data, ids, n, table->shape[1]};
    attn_for_ranges(ctx, n, 1, 0.15 * (double)n * (double)table->shape[1], copy_rows, &job);
    return ATTN_OK;
}

attn_status attn_embedding_bwd(attn_context *ctx, const attn_tensor *dtable, const attn_tensor *dy, const int32_t *ids,
                               size_t n) {
    ATTN_TRY(
        check(ctx, "attn_embedding_bwd", "attn_embedding_bwd: dtable", "attn_embedding_bwd: dy", dtable, dy, ids, n));
    struct job job = {ctx->kernels, dtable->data, dy->data, ids, n, dtable->shape[1]};
    attn_for_ranges(ctx, dtable->shape[1], COLUMN_GRAIN, 0.3 * (double)n * (double)dtable->shape[1], add_columns, &job);
    return ATTN_OK;
}
