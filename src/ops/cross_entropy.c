/* cross_entropy.c: the loss of rows of logits, and its gradient in the same sweep. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include "ops/cross_entropy.h"
#include <attn/ops.h>
#include <string.h>

struct row_result {
    double loss, nll;
    bool counted, correct;
};

struct job {
    const attn_kernels *kernels;
    float *dlogits; /* (R, V) or NULL */
    const float *logits;
    const int32_t *targets;
    size_t columns;
    float smoothing, scale;
    struct row_result *results; /* (R) */
};

static void rows_range(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    for (size_t r = first; r < end; r++) {
        float *d = job->dlogits ? job->dlogits + r * job->columns : NULL;
        struct row_result *result = &job->results[r];
        double out[2] = {0, 0};
        result->counted = job->targets[r] >= 0;
        result->correct = false;
        if (result->counted)
            result->correct = job->kernels->cross_entropy_row(d, job->logits + r * job->columns, job->columns,
                                                              (size_t)job->targets[r], job->smoothing, job->scale, out);
        else if (d) memset(d, 0, job->columns * sizeof *d);
        result->loss = out[0], result->nll = out[1];
    }
}

static attn_status check_targets(attn_context *ctx, const char *where, const int32_t *targets, size_t rows,
                                 size_t columns, bool all) {
    if (rows > 0 && !targets) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: targets is NULL", where);
    for (size_t r = 0; r < rows; r++)
        if ((targets[r] < 0 && all) || (targets[r] >= 0 && (size_t)targets[r] >= columns))
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: targets[%zu] is %d, expected less than %zu%s", where, r,
                             targets[r], columns, all ? " and not below 0" : "");
    return ATTN_OK;
}

static double cost(size_t rows, size_t columns) { return 0.5 * (double)rows * (double)columns; }

attn_status attn_token_losses(attn_context *ctx, double *nll, const attn_tensor *dlogits, const attn_tensor *logits,
                              const int32_t *targets) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_token_losses: logits", logits, &rows, &columns));
    if (dlogits) ATTN_TRY(attn_check_like(ctx, "attn_token_losses: dlogits", dlogits, logits));
    ATTN_TRY(check_targets(ctx, "attn_token_losses", targets, rows, columns, true));
    struct row_result *results = attn_alloc(ctx, rows, sizeof *results);
    if (!results) return ATTN_E_NOMEM;
    struct job job = {ctx->kernels, attn_data(dlogits), logits->data, targets, columns, 0, 1, results};
    attn_for_ranges(ctx, rows, 1, cost(rows, columns), rows_range, &job);
    for (size_t r = 0; r < rows; r++) nll[r] = results[r].nll;
    attn_release(ctx, results);
    return ATTN_OK;
}

attn_status attn_cross_entropy(attn_context *ctx, attn_loss_stats *stats, const attn_tensor *dlogits,
                               const attn_tensor *logits, const int32_t *targets, float label_smoothing,
                               float grad_scale) {
    size_t rows, columns;
    ATTN_TRY(attn_check_rows(ctx, "attn_cross_entropy: logits", logits, &rows, &columns));
    if (dlogits) ATTN_TRY(attn_check_like(ctx, "attn_cross_entropy: dlogits", dlogits, logits));
    if (!(label_smoothing >= 0 && label_smoothing <= 1))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_cross_entropy: label_smoothing is %g, expected 0 to 1",
                         (double)label_smoothing);
    ATTN_TRY(check_targets(ctx, "attn_cross_entropy", targets, rows, columns, false));
    struct row_result *results = attn_alloc(ctx, rows, sizeof *results);
    if (!results) return ATTN_E_NOMEM;
    struct job job = {ctx->kernels, attn_data(dlogits), logits->data, targets,
                      columns,      label_smoothing,    grad_scale,   results};
    attn_for_ranges(ctx, rows, 1, cost(rows, columns), rows_range, &job);
    double loss = 0, nll = 0;
    size_t tokens = 0, correct = 0;
    for (size_t r = 0; r < rows; r++) {
        loss += results[r].loss;
        nll += results[r].nll;
        tokens += results[r].counted;
        correct += results[r].correct;
    }
    attn_release(ctx, results);
    if (stats) {
        stats->loss += loss;
        stats->nll += nll;
        stats->tokens += tokens;
        stats->correct += correct;
    }
    return ATTN_OK;
}
