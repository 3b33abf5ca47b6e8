/* pointwise.c: sums of tensors, the sum of squares, dropout, AdamW. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/ops.h>
#include <math.h>

enum { GRAIN = 4096 };

/* ---- y = a + b ---------------------------------------------------------------------------------- */

struct add_job {
    const attn_kernels *kernels;
    float *y;
    const float *a, *b;
};

static void add_range(void *arg, size_t first, size_t end) {
    const struct add_job *job = arg;
    job->kernels->vector_add(job->y + first, job->a + first, job->b + first, end - first);
}

attn_status attn_add(attn_context *ctx, const attn_tensor *y, const attn_tensor *a, const attn_tensor *b) {
    ATTN_TRY(attn_check_dense(ctx, "attn_add: a", a));
    ATTN_TRY(attn_check_like(ctx, "attn_add: b", b, a));
    ATTN_TRY(attn_check_like(ctx, "attn_add: y", y, a));
    struct add_job job = {ctx->kernels, y->data, a->data, b->data};
    size_t n = attn_tensor_count(a);
    attn_for_ranges(ctx, n, GRAIN, 0.2 * (double)n, add_range, &job);
    return ATTN_OK;
}

/* ---- Σ x² ----------------------------------------------------------------------------------------- */

struct squares_job {
    const attn_kernels *kernels;
    const float *x;
    double *sums; /* one for every GRAIN elements */
};

static void squares_range(void *arg, size_t first, size_t end) {
    const struct squares_job *job = arg;
    for (size_t i = first; i < end; i += GRAIN)
        job->sums[i / GRAIN] = job->kernels->sum_of_squares(job->x + i, ATTN_MIN((size_t)GRAIN, end - i));
}

attn_status attn_sum_of_squares(attn_context *ctx, double *sum, const attn_tensor *x) {
    ATTN_TRY(attn_check_dense(ctx, "attn_sum_of_squares: x", x));
    if (!sum) return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_sum_of_squares: sum is NULL");
    size_t n = attn_tensor_count(x), blocks = n / GRAIN + (n % GRAIN != 0);
    double *sums = attn_alloc(ctx, blocks, sizeof *sums);
    if (!sums) return ATTN_E_NOMEM;
    struct squares_job job = {ctx->kernels, x->data, sums};
    attn_for_ranges(ctx, n, GRAIN, 0.15 * (double)n, squares_range, &job);
    double total = 0;
    for (size_t i = 0; i < blocks; i++) total += sums[i];
    attn_release(ctx, sums);
    *sum = total;
    return ATTN_OK;
}

/* ---- dropout ---------------------------------------------------------------------------------------- */

struct dropout_job {
    const attn_kernels *kernels;
    float *y;
    const float *x;
    uint32_t threshold;
    float scale;
    uint64_t seed, offset;
};

static void dropout_range(void *arg, size_t first, size_t end) {
    const struct dropout_job *job = arg;
    job->kernels->dropout(job->y + first, job->x + first, end - first, job->threshold, job->scale, job->seed,
                          job->offset, first / 8);
}

attn_status attn_dropout(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, float p, uint64_t seed,
                         uint64_t offset) {
    ATTN_TRY(attn_check_dense(ctx, "attn_dropout: x", x));
    ATTN_TRY(attn_check_like(ctx, "attn_dropout: y", y, x));
    if (!(p >= 0 && p <= 1))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_dropout: p is %g, expected 0 to 1", (double)p);
    uint32_t threshold = (uint32_t)(p * 65536.0f + 0.5f);
    float scale = threshold < 65536 ? 65536.0f / (float)(65536 - threshold) : 0.0f;
    struct dropout_job job = {ctx->kernels, y->data, x->data, threshold, scale, seed, offset};
    size_t n = attn_tensor_count(x);
    attn_for_ranges(ctx, n, GRAIN, 0.5 * (double)n, dropout_range, &job);
    return ATTN_OK;
}

/* ---- AdamW ------------------------------------------------------------------------------------------- */

struct adamw_job {
    const attn_kernels *kernels;
    float *value, *m, *v;
    const float *grad;
    attn_adamw_factors factors;
};

static void adamw_range(void *arg, size_t first, size_t end) {
    const struct adamw_job *job = arg;
    job->kernels->adamw(job->value + first, job->m + first, job->v + first, job->grad + first, end - first,
                        &job->factors);
}

attn_status attn_adamw(attn_context *ctx, const attn_tensor *value, const attn_tensor *m, const attn_tensor *v,
                       const attn_tensor *grad, const attn_adamw_options *o) {
    ATTN_TRY(attn_check_dense(ctx, "attn_adamw: value", value));
    ATTN_TRY(attn_check_like(ctx, "attn_adamw: m", m, value));
    ATTN_TRY(attn_check_like(ctx, "attn_adamw: v", v, value));
    ATTN_TRY(attn_check_like(ctx, "attn_adamw: grad", grad, value));
    if (!o) return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_adamw: options is NULL");
    if (o->struct_size != sizeof *o)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_adamw: options has struct_size %zu, expected %zu", o->struct_size,
                         sizeof *o);
    if (o->step == 0) return attn_fail(ctx, ATTN_E_ARGUMENT, "attn_adamw: step is 0, expected 1 or more");
    double correction1 = 1 - pow((double)o->beta1, (double)o->step);
    double correction2 = 1 - pow((double)o->beta2, (double)o->step);
    struct adamw_job job = {
        .kernels = ctx->kernels, .value = value->data, .m = m->data, .v = v->data, .grad = grad->data};
    job.factors.beta1 = o->beta1;
    job.factors.beta2 = o->beta2;
    job.factors.epsilon = o->epsilon;
    job.factors.grad_scale = o->grad_scale;
    job.factors.decay = (float)(1 - (double)o->learning_rate * (double)o->weight_decay);
    job.factors.rate = (float)((double)o->learning_rate / correction1);
    job.factors.correction = (float)(1 / sqrt(correction2));
    size_t n = attn_tensor_count(value);
    attn_for_ranges(ctx, n, GRAIN, 0.5 * (double)n, adamw_range, &job);
    return ATTN_OK;
}
