/* softmax.c: softmax and its logarithm over the last dimension, and the largest elements of rows. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/ops.h>

struct job {
    const attn_kernels *kernels;
    float *out;
    const float *dy, *x;
    size_t columns;
    bool accumulate;
};

static void softmax_rows(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t i = first * job->columns; i < end * job->columns; i += job->columns)
        job->kernels->softmax_row(job->out + i, job->x + i, job->columns);
}

static void log_softmax_rows(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t i = first * job->columns; i < end * job->columns; i += job->columns)
        job->kernels->log_softmax_row(job->out + i, job->x + i, job->columns);
}

static void softmax_rows_bwd(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t i = first * job->columns; i < end * job->columns; i += job->columns)
        job->kernels->softmax_row_bwd(job->out + i, job->dy + i, job->x + i, job->columns, 1.0f, job->accumulate);
}

static void log_softmax_rows_bwd(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t i = first * job->columns; i < end * job->columns; i += job->columns)
        job->kernels->log_softmax_row_bwd(job->out + i, job->dy + i, job->x + i, job->columns, job->accumulate);
}

static attn_status run(attn_context *ctx, const char *what_out, const char *what_dy, const char *what_x,
                       const attn_tensor *out, const attn_tensor *dy, const attn_tensor *x, bool accumulate,
                       attn_range *fn) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, what_x, x, &rows, &columns));
    if (what_dy) ATTN_TRY(attn_check_like(ctx, what_dy, dy, x));
    ATTN_TRY(attn_check_like(ctx, what_out, out, x));
    if (columns == 0) return ATTN_OK;
    struct job job = {ctx->kernels, out->data, attn_data(dy), x->data, columns, accumulate};
    attn_for_ranges(ctx, rows, 1, 0.4 * (double)rows * (double)columns, fn, &job);
    return ATTN_OK;
}

attn_status attn_softmax_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x) {
    return run(ctx, "attn_softmax_fwd: y", NULL, "attn_softmax_fwd: x", y, NULL, x, false, softmax_rows);
}

attn_status attn_log_softmax_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x) {
    return run(ctx, "attn_log_softmax_fwd: y", NULL, "attn_log_softmax_fwd: x", y, NULL, x, false, log_softmax_rows);
}

attn_status attn_softmax_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy, const attn_tensor *y,
                             bool accumulate) {
    return run(ctx, "attn_softmax_bwd: dx", "attn_softmax_bwd: dy", "attn_softmax_bwd: y", dx, dy, y, accumulate,
               softmax_rows_bwd);
}

attn_status attn_log_softmax_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy, const attn_tensor *y,
                                 bool accumulate) {
    return run(ctx, "attn_log_softmax_bwd: dx", "attn_log_softmax_bwd: dy", "attn_log_softmax_bwd: y", dx, dy, y,
               accumulate, log_softmax_rows_bwd);
}

struct top_k_job {
    const attn_kernels *kernels;
    int32_t *ids;
    float *values;
    const float *x;
    size_t columns, k;
};

static void top_k_rows(void *arg, size_t first, size_t end) {
    const struct top_k_job *job = arg;
    for (size_t r = first; r < end; r++)
        job->kernels->top_k_row(job->ids + r * job->k, job->values + r * job->k, job->x + r * job->columns,
                                job->columns, job->k);
}

attn_status attn_top_k(attn_context *ctx, int32_t *ids, float *values, const attn_tensor *x, size_t k) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_top_k: x", x, &rows, &columns));
    if (k > columns || columns > INT32_MAX)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_top_k: k is %zu for rows of %zu, expected at most that", k,
                         columns);
    if (k == 0 || rows == 0) return ATTN_OK;
    if (!ids || !values) return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_top_k: %s is NULL", ids ? "values" : "ids");
    struct top_k_job job = {ctx->kernels, ids, values, x->data, columns, k};
    attn_for_ranges(ctx, rows, 1, 0.1 * (double)rows * (double)columns, top_k_rows, &job);
    return ATTN_OK;
}
