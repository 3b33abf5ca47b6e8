/* activation.c: y = act(x), and its gradient. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/ops.h>

enum { GRAIN = 1024 };

struct job {
    const attn_kernels *kernels;
    float *out;
    const float *dy, *x; /* x: what the function or its derivative reads */
    attn_activation act;
    bool accumulate;
};

static void fwd_range(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    job->kernels->activation_fwd(job->out + first, job->x + first, end - first, job->act);
}

static void bwd_range(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    job->kernels->activation_bwd(job->out + first, job->dy + first, job->x ? job->x + first : NULL, end - first,
                                 job->act, job->accumulate);
}

static attn_status check_act(attn_context *ctx, const char *where, attn_activation act) {
    if ((int)act < ATTN_IDENTITY || act > ATTN_SILU)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: act is %d, expected an attn_activation", where, (int)act);
    return ATTN_OK;
}

attn_status attn_activation_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, attn_activation act) {
    ATTN_TRY(attn_check_dense(ctx, "attn_activation_fwd: x", x));
    ATTN_TRY(attn_check_like(ctx, "attn_activation_fwd: y", y, x));
    ATTN_TRY(check_act(ctx, "attn_activation_fwd", act));
    struct job job = {ctx->kernels, y->data, NULL, x->data, act, false};
    size_t n = attn_tensor_count(x);
    attn_for_ranges(ctx, n, GRAIN, 0.4 * (double)n, fwd_range, &job);
    return ATTN_OK;
}

attn_status attn_activation_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy, const attn_tensor *x,
                                const attn_tensor *y, attn_activation act, bool accumulate) {
    ATTN_TRY(attn_check_dense(ctx, "attn_activation_bwd: dy", dy));
    ATTN_TRY(attn_check_like(ctx, "attn_activation_bwd: dx", dx, dy));
    ATTN_TRY(check_act(ctx, "attn_activation_bwd", act));
    bool of_y = act == ATTN_TANH || act == ATTN_SIGMOID || act == ATTN_RELU;
    const attn_tensor *read = act == ATTN_IDENTITY ? dy : of_y ? y : x;
    ATTN_TRY(attn_check_like(ctx, of_y ? "attn_activation_bwd: y" : "attn_activation_bwd: x", read, dy));
    struct job job = {ctx->kernels, dx->data, dy->data, read->data, act, accumulate};
    size_t n = attn_tensor_count(dy);
    attn_for_ranges(ctx, n, GRAIN, 0.5 * (double)n, bwd_range, &job);
    return ATTN_OK;
}
