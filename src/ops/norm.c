/* norm.c: layer normalisation and RMS normalisation, forward and backward. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/ops.h>

enum { COLUMN_GRAIN = 64 };

struct job {
    const attn_kernels *kernels;
    float *y, *mean, *rstd; /* (R, N) (R) (R); mean and rstd may be NULL */
    float *dx, *dgain, *dbias;
    const float *dy, *x, *gain, *bias, *saved_mean, *saved_rstd;
    size_t rows, columns;
    float epsilon;
    bool accumulate;
};

static void layer_rows(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t r = first; r < end; r++) {
        float mean, rstd;
        job->kernels->layer_norm_row(job->y + r * job->columns, &mean, &rstd, job->x + r * job->columns, job->gain,
                                     job->bias, job->columns, job->epsilon);
        if (job->mean) job->mean[r] = mean;
        if (job->rstd) job->rstd[r] = rstd;
    }
}

static void rms_rows(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t r = first; r < end; r++) {
        float rstd;
        job->kernels->rms_norm_row(job->y + r * job->columns, &rstd, job->x + r * job->columns, job->gain, job->columns,
                                   job->epsilon);
        if (job->rstd) job->rstd[r] = rstd;
    }
}

static void layer_rows_bwd(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t r = first; r < end; r++) {
        size_t at = r * job->columns;
        job->kernels->layer_norm_row_bwd(job->dx + at, job->dy + at, job->x + at, job->gain, job->saved_mean[r],
                                         job->saved_rstd[r], job->columns, job->accumulate);
    }
}

static void rms_rows_bwd(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t r = first; r < end; r++) {
        size_t at = r * job->columns;
        job->kernels->rms_norm_row_bwd(job->dx + at, job->dy + at, job->x + at, job->gain, job->saved_rstd[r],
                                       job->columns, job->accumulate);
    }
}

static void columns_bwd(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    job->kernels->norm_columns(job->dgain ? job->dgain + first : NULL, job->dbias ? job->dbias + first : NULL,
                               job->dy + first, job->x + first, (ptrdiff_t)job->columns, job->saved_mean,
                               job->saved_rstd, job->rows, end - first, job->accumulate);
}

attn_status attn_layer_norm_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *mean,
                                const attn_tensor *rstd, const attn_tensor *x, const attn_tensor *gain,
                                const attn_tensor *bias, float epsilon) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_layer_norm_fwd: x", x, &rows, &columns));
    ATTN_TRY(attn_check_like(ctx, "attn_layer_norm_fwd: y", y, x));
    ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_fwd: gain", gain, 1, &columns));
    if (bias) ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_fwd: bias", bias, 1, &columns));
    if (mean) ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_fwd: mean", mean, 1, &rows));
    if (rstd) ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_fwd: rstd", rstd, 1, &rows));
    if (columns == 0) return attn_fail(ctx, ATTN_E_SHAPE, "attn_layer_norm_fwd: rows of x are empty");
    struct job job = {.kernels = ctx->kernels,
                      .y = y->data,
                      .mean = attn_data(mean),
                      .rstd = attn_data(rstd),
                      .x = x->data,
                      .gain = gain->data,
                      .bias = attn_data(bias),
                      .columns = columns,
                      .epsilon = epsilon};
    attn_for_ranges(ctx, rows, 1, 0.2 * (double)rows * (double)columns, layer_rows, &job);
    return ATTN_OK;
}

attn_status attn_layer_norm_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dgain,
                                const attn_tensor *dbias, const attn_tensor *dy, const attn_tensor *x,
                                const attn_tensor *gain, const attn_tensor *mean, const attn_tensor *rstd,
                                bool accumulate) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_layer_norm_bwd: x", x, &rows, &columns));
    ATTN_TRY(attn_check_like(ctx, "attn_layer_norm_bwd: dy", dy, x));
    ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_bwd: gain", gain, 1, &columns));
    ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_bwd: mean", mean, 1, &rows));
    ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_bwd: rstd", rstd, 1, &rows));
    if (dx) ATTN_TRY(attn_check_like(ctx, "attn_layer_norm_bwd: dx", dx, x));
    if (dgain) ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_bwd: dgain", dgain, 1, &columns));
    if (dbias) ATTN_TRY(attn_check_shape(ctx, "attn_layer_norm_bwd: dbias", dbias, 1, &columns));
    struct job job = {.kernels = ctx->kernels,
                      .dx = attn_data(dx),
                      .dgain = attn_data(dgain),
                      .dbias = attn_data(dbias),
                      .dy = dy->data,
                      .x = x->data,
                      .gain = gain->data,
                      .saved_mean = mean->data,
                      .saved_rstd = rstd->data,
                      .rows = rows,
                      .columns = columns,
                      .accumulate = accumulate};
    double ns = 0.3 * (double)rows * (double)columns;
    if (dx) attn_for_ranges(ctx, rows, 1, ns, layer_rows_bwd, &job);
    if (dgain || dbias) attn_for_ranges(ctx, columns, COLUMN_GRAIN, ns, columns_bwd, &job);
    return ATTN_OK;
}

attn_status attn_rms_norm_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *rstd, const attn_tensor *x,
                              const attn_tensor *gain, float epsilon) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_rms_norm_fwd: x", x, &rows, &columns));
    ATTN_TRY(attn_check_like(ctx, "attn_rms_norm_fwd: y", y, x));
    ATTN_TRY(attn_check_shape(ctx, "attn_rms_norm_fwd: gain", gain, 1, &columns));
    if (rstd) ATTN_TRY(attn_check_shape(ctx, "attn_rms_norm_fwd: rstd", rstd, 1, &rows));
    if (columns == 0) return attn_fail(ctx, ATTN_E_SHAPE, "attn_rms_norm_fwd: rows of x are empty");
    struct job job = {.kernels = ctx->kernels,
                      .y = y->data,
                      .rstd = attn_data(rstd),
                      .x = x->data,
                      .gain = gain->data,
                      .columns = columns,
                      .epsilon = epsilon};
    attn_for_ranges(ctx, rows, 1, 0.15 * (double)rows * (double)columns, rms_rows, &job);
    return ATTN_OK;
}

attn_status attn_rms_norm_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dgain, const attn_tensor *dy,
                              const attn_tensor *x, const attn_tensor *gain, const attn_tensor *rstd, bool accumulate) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_rms_norm_bwd: x", x, &rows, &columns));
    ATTN_TRY(attn_check_like(ctx, "attn_rms_norm_bwd: dy", dy, x));
    ATTN_TRY(attn_check_shape(ctx, "attn_rms_norm_bwd: gain", gain, 1, &columns));
    ATTN_TRY(attn_check_shape(ctx, "attn_rms_norm_bwd: rstd", rstd, 1, &rows));
    if (dx) ATTN_TRY(attn_check_like(ctx, "attn_rms_norm_bwd: dx", dx, x));
    if (dgain) ATTN_TRY(attn_check_shape(ctx, "attn_rms_norm_bwd: dgain", dgain, 1, &columns));
    struct job job = {.kernels = ctx->kernels,
                      .dx = attn_data(dx),
                      .dgain = attn_data(dgain),
                      .dy = dy->data,
                      .x = x->data,
                      .gain = gain->data,
                      .saved_rstd = rstd->data,
                      .rows = rows,
                      .columns = columns,
                      .accumulate = accumulate};
    double ns = 0.3 * (double)rows * (double)columns;
    if (dx) attn_for_ranges(ctx, rows, 1, ns, rms_rows_bwd, &job);
    if (dgain) attn_for_ranges(ctx, columns, COLUMN_GRAIN, ns, columns_bwd, &job);
    return ATTN_OK;
}
