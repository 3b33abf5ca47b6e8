/* check.c: checks of arguments, and the division of work over threads. */
#include "ops/check.h"

#include <stdio.h>

/* "(2, ?, 512)" */
static const char *shape_text(char *text, size_t bytes, int rank, const size_t *shape) {
    size_t at = (size_t)snprintf(text, bytes, "(");
    for (int i = 0; i < rank && at < bytes; i++) {
        const char *comma = i ? ", " : "";
        if (shape[i] == ATTN_ANY) at += (size_t)snprintf(text + at, bytes - at, "%s?", comma);
        else at += (size_t)snprintf(text + at, bytes - at, "%s%zu", comma, shape[i]);
    }
    if (at < bytes) snprintf(text + at, bytes - at, ")");
    return text;
}

static attn_status check_memory(attn_context *ctx, const char *what, const attn_tensor *t) {
    if (!t) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s is NULL", what);
    if (t->rank < 0 || t->rank > ATTN_MAX_RANK)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s has rank %d, expected 0 to %d", what, t->rank, ATTN_MAX_RANK);
    if (!t->data && attn_tensor_count(t) > 0) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s has no data", what);
    return ATTN_OK;
}

static attn_status check_basics(attn_context *ctx, const char *what, const attn_tensor *t) {
    ATTN_TRY(check_memory(ctx, what, t));
    if (t->dtype != ATTN_F32)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected F32", what, attn_dtype_name(t->dtype));
    return ATTN_OK;
}

attn_status attn_check_dense(attn_context *ctx, const char *what, const attn_tensor *t) {
    ATTN_TRY(check_basics(ctx, what, t));
    if (!attn_tensor_is_contiguous(t)) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s is not contiguous", what);
    return ATTN_OK;
}

static attn_status check_sizes(attn_context *ctx, const char *what, const attn_tensor *t, int rank,
                               const size_t *shape) {
    bool same = t->rank == rank;
    for (int i = 0; same && i < rank; i++) same = shape[i] == ATTN_ANY || t->shape[i] == shape[i];
    if (same) return ATTN_OK;
    char found[160], expected[160];
    return attn_fail(ctx, ATTN_E_SHAPE, "%s has shape %s, expected %s", what,
                     shape_text(found, sizeof found, t->rank, t->shape),
                     shape_text(expected, sizeof expected, rank, shape));
}

attn_status attn_check_shape(attn_context *ctx, const char *what, const attn_tensor *t, int rank, const size_t *shape) {
    ATTN_TRY(attn_check_dense(ctx, what, t));
    return check_sizes(ctx, what, t, rank, shape);
}

attn_status attn_check_like(attn_context *ctx, const char *what, const attn_tensor *t, const attn_tensor *like) {
    return attn_check_shape(ctx, what, t, like->rank, like->shape);
}

attn_status attn_check_strided(attn_context *ctx, const char *what, const attn_tensor *t, int rank,
                               const size_t *shape) {
    ATTN_TRY(check_basics(ctx, what, t));
    return attn_check_view(ctx, what, t, rank, shape);
}

attn_status attn_check_view(attn_context *ctx, const char *what, const attn_tensor *t, int rank, const size_t *shape) {
    ATTN_TRY(check_memory(ctx, what, t));
    ATTN_TRY(check_sizes(ctx, what, t, rank, shape));
    if (t->shape[rank - 1] > 1 && t->stride[rank - 1] != 1)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s has last stride %td, expected 1", what, t->stride[rank - 1]);
    return ATTN_OK;
}

attn_status attn_check_rows(attn_context *ctx, const char *what, const attn_tensor *t, size_t *rows, size_t *columns) {
    ATTN_TRY(attn_check_dense(ctx, what, t));
    if (t->rank < 1) return attn_fail(ctx, ATTN_E_SHAPE, "%s is a scalar, expected at least one dimension", what);
    *columns = t->shape[t->rank - 1];
    *rows = 1;
    for (int i = 0; i + 1 < t->rank; i++) *rows *= t->shape[i];
    return ATTN_OK;
}

attn_status attn_check_lengths(attn_context *ctx, const char *what, const int32_t *lengths, size_t n, size_t longest) {
    for (size_t i = 0; lengths && i < n; i++)
        if (lengths[i] < 0 || (size_t)lengths[i] > longest)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s[%zu] is %d, expected 0 to %zu", what, i, lengths[i], longest);
    return ATTN_OK;
}

struct range_job {
    attn_range *fn;
    void *arg;
    size_t n, step;
};

static void range_task(void *arg, size_t index) {
    const struct range_job *job = arg;
    size_t first = index * job->step, end = ATTN_MIN(first + job->step, job->n);
    job->fn(job->arg, first, end);
}

void attn_for_ranges(attn_context *ctx, size_t n, size_t grain, double ns, attn_range *fn, void *arg) {
    if (n == 0) return;
    size_t grains = (n - 1) / grain + 1, tasks = 1;
    if (ctx->threads > 1 && ns >= ATTN_SMALL_WORK) {
        /* No piece under half of what is small; up to four a thread, so that a late thread costs little. */
        double most = ns / (0.5 * ATTN_SMALL_WORK);
        tasks = 4 * (size_t)ctx->threads;
        if (most < (double)tasks) tasks = (size_t)most;
        tasks = ATTN_MIN(tasks, grains);
    }
    size_t step = ((grains - 1) / tasks + 1) * grain;
    struct range_job job = {fn, arg, n, step};
    attn_parallel_for(ctx, (n - 1) / step + 1, range_task, &job);
}
