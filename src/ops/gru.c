#include "ops/gru.h"

#include "kernel/kernels.h"

#include <string.h>

/* c = a·B (+ bias), or c += a·B, for contiguous rows. */
static attn_status product(attn_context *ctx, float *c, const float *a, size_t rows, const attn_packed *b,
                           const float *bias, bool accumulate) {
    attn_gemm gemm = {.m = rows,
                      .a = a,
                      .a_row = (ptrdiff_t)b->k,
                      .a_column = 1,
                      .b = b,
                      .c = c,
                      .c_row = (ptrdiff_t)b->n,
                      .bias = bias,
                      .accumulate = accumulate};
    return attn_gemm_run(ctx, &gemm);
}

/* ---- the paper's form: n = tanh(W_n x + b_n + U_n (r ∘ h) + c_n) ------------------------------------------------ */

typedef struct paper_job {
    const attn_gru_step *step;
    const attn_gru_step_grad *grad;
    const attn_kernels *kernels;
} paper_job;

static bool is_active(const attn_gru_step *step, size_t b) { return !step->active || step->active[b]; }

/* r, z and r ∘ h of one sequence, once gh = U h + c. */
static void paper_gates(void *arg, size_t b) {
    const paper_job *job = arg;
    const attn_gru_step *step = job->step;
    size_t n = step->hidden;
    float *rzn = step->rzn + b * 3 * n, *rh = step->rh + b * n;
    if (!is_active(step, b)) {
        memset(rzn, 0, 3 * n * sizeof *rzn);
        memset(rh, 0, n * sizeof *rh);
        return;
    }
    job->kernels->vector_add(rzn, step->gx + b * 3 * n, step->gh + b * 3 * n, 2 * n);
    job->kernels->activation_fwd(rzn, rzn, 2 * n, ATTN_SIGMOID);
    for (size_t i = 0; i < n; i++) rh[i] = rzn[i] * step->h[b * n + i];
}

/* n and y of one sequence, once gh = U (r ∘ h) + c. */
static void paper_state(void *arg, size_t b) {
    const paper_job *job = arg;
    const attn_gru_step *step = job->step;
    size_t n = step->hidden;
    const float *h = step->h + b * n, *z = step->rzn + b * 3 * n + n;
    float *candidate = step->rzn + b * 3 * n + 2 * n, *y = step->y + b * n;
    if (!is_active(step, b)) {
        memcpy(y, h, n * sizeof *y);
        return;
    }
    job->kernels->vector_add(candidate, step->gx + b * 3 * n + 2 * n, step->gh + b * 3 * n + 2 * n, n);
    job->kernels->activation_fwd(candidate, candidate, n, ATTN_TANH);
    for (size_t i = 0; i < n; i++) y[i] = candidate[i] + z[i] * (h[i] - candidate[i]);
}

static attn_status paper_fwd(attn_context *ctx, const attn_gru_step *step, const attn_packed *u) {
    paper_job job = {step, NULL, ctx->kernels};
    ATTN_TRY(product(ctx, step->gh, step->h, step->batch, u, step->c, false));
    attn_parallel_for(ctx, step->batch, paper_gates, &job);
    ATTN_TRY(product(ctx, step->gh, step->rh, step->batch, u, step->c, false));
    attn_parallel_for(ctx, step->batch, paper_state, &job);
    return ATTN_OK;
}

/* The gradients of z and n, before their activations. */
static void paper_state_bwd(void *arg, size_t b) {
    const paper_job *job = arg;
    const attn_gru_step *step = job->step;
    size_t n = step->hidden;
    const float *dy = job->grad->dy + b * n, *h = step->h + b * n, *rzn = step->rzn + b * 3 * n;
    float *dgx = job->grad->dgx + b * 3 * n, *dgh = job->grad->dgh + b * 3 * n, *dgq = job->grad->dgq + b * 3 * n;
    memset(dgx, 0, 3 * n * sizeof *dgx);
    memset(dgh, 0, 3 * n * sizeof *dgh);
    memset(dgq, 0, 3 * n * sizeof *dgq);
    if (!is_active(step, b)) return;
    for (size_t i = 0; i < n; i++) {
        float z = rzn[n + i], candidate = rzn[2 * n + i];
        dgx[n + i] = dgh[n + i] = dy[i] * (h[i] - candidate) * (z - z * z);
        dgx[2 * n + i] = dgq[2 * n + i] = (dy[i] - dy[i] * z) * (1 - candidate * candidate);
    }
}

/* The gradient of r and the direct part of h's, once dh = dgq · U, the gradient of r ∘ h. */
static void paper_gates_bwd(void *arg, size_t b) {
    const paper_job *job = arg;
    const attn_gru_step *step = job->step;
    size_t n = step->hidden;
    const float *dy = job->grad->dy + b * n, *h = step->h + b * n, *rzn = step->rzn + b * 3 * n;
    float *dgx = job->grad->dgx + b * 3 * n, *dgh = job->grad->dgh + b * 3 * n, *dh = job->grad->dh + b * n;
    if (!is_active(step, b)) {
        memcpy(dh, dy, n * sizeof *dh);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        float r = rzn[i], z = rzn[n + i], drh = dh[i];
        dgx[i] = dgh[i] = drh * h[i] * (r - r * r);
        dh[i] = dy[i] * z + drh * r;
    }
}

static attn_status paper_bwd(attn_context *ctx, const attn_gru_step *step, const attn_gru_step_grad *grad,
                             const attn_packed *u) {
    paper_job job = {step, grad, ctx->kernels};
    attn_parallel_for(ctx, step->batch, paper_state_bwd, &job);
    ATTN_TRY(product(ctx, grad->dh, grad->dgq, step->batch, u, NULL, false));
    attn_parallel_for(ctx, step->batch, paper_gates_bwd, &job);
    return product(ctx, grad->dh, grad->dgh, step->batch, u, NULL, true);
}

/* ---- one step ---------------------------------------------------------------------------------------------------- */

attn_status attn_gru_step_fwd(attn_context *ctx, const attn_gru_step *step, const attn_packed *u) {
    if (!step->reset_after) return paper_fwd(ctx, step, u);
    ATTN_TRY(product(ctx, step->gh, step->h, step->batch, u, step->c, false));
    size_t rows = step->batch, n = step->hidden;
    attn_tensor y = attn_tensor_f32(step->y, 2, rows, n), h = attn_tensor_f32((void *)step->h, 2, rows, n);
    attn_tensor gx = attn_tensor_f32((void *)step->gx, 2, rows, 3 * n), gh = attn_tensor_f32(step->gh, 2, rows, 3 * n);
    attn_tensor rzn = attn_tensor_f32(step->rzn, 2, rows, 3 * n);
    return attn_gru_point_fwd(ctx, &y, step->rzn ? &rzn : NULL, &gx, &gh, &h, step->active);
}

attn_status attn_gru_step_bwd(attn_context *ctx, const attn_gru_step *step, const attn_gru_step_grad *grad,
                              const attn_packed *u) {
    if (!step->reset_after) return paper_bwd(ctx, step, grad, u);
    size_t rows = step->batch, n = step->hidden;
    attn_tensor dgx = attn_tensor_f32(grad->dgx, 2, rows, 3 * n), dgh = attn_tensor_f32(grad->dgh, 2, rows, 3 * n);
    attn_tensor dh = attn_tensor_f32(grad->dh, 2, rows, n), dy = attn_tensor_f32((void *)grad->dy, 2, rows, n);
    attn_tensor rzn = attn_tensor_f32(step->rzn, 2, rows, 3 * n), gh = attn_tensor_f32(step->gh, 2, rows, 3 * n);
    attn_tensor h = attn_tensor_f32((void *)step->h, 2, rows, n);
    ATTN_TRY(attn_gru_point_bwd(ctx, &dgx, &dgh, &dh, &dy, &rzn, &gh, &h, step->active));
    return product(ctx, grad->dh, grad->dgh, rows, u, NULL, true);
}

/* ---- a sequence -------------------------------------------------------------------------------------------------- */

static attn_gru_step step_at(const attn_gru_sequence *sequence, size_t t) {
    size_t n = sequence->hidden, state = sequence->batch * n, kept = sequence->keep ? t : 0;
    float *before = sequence->states + (sequence->reverse ? t + 1 : t) * state;
    float *after = sequence->states + (sequence->reverse ? t : t + 1) * state;
    return (attn_gru_step){.batch = sequence->batch,
                           .hidden = n,
                           .reset_after = sequence->reset_after,
                           .active = sequence->active ? sequence->active + t * sequence->batch : NULL,
                           .gx = sequence->gx + t * 3 * state,
                           .c = sequence->c,
                           .h = before,
                           .y = after,
                           .gh = sequence->gh + kept * 3 * state,
                           .rzn = sequence->rzn ? sequence->rzn + kept * 3 * state : NULL,
                           .rh = sequence->rh ? sequence->rh + kept * state : NULL};
}

attn_status attn_gru_sequence_fwd(attn_context *ctx, const attn_gru_sequence *sequence, const attn_packed *u) {
    for (size_t i = 0; i < sequence->steps; i++) {
        attn_gru_step step = step_at(sequence, sequence->reverse ? sequence->steps - 1 - i : i);
        ATTN_TRY(attn_gru_step_fwd(ctx, &step, u));
    }
    return ATTN_OK;
}

attn_status attn_gru_sequence_bwd(attn_context *ctx, const attn_gru_sequence *sequence, float *dgx, float *dgh,
                                  float *dgq, float *dh, float *dy, const attn_packed *u) {
    size_t state = sequence->batch * sequence->hidden;
    if (sequence->steps == 0) memset(dh, 0, state * sizeof *dh);
    for (size_t i = 0; i < sequence->steps; i++) {
        size_t t = sequence->reverse ? i : sequence->steps - 1 - i;
        attn_gru_step step = step_at(sequence, t);
        float *here = dy + t * state;
        if (i > 0) { /* dh came from the step that follows this one in time */
            attn_tensor sum = attn_tensor_f32(here, 1, state), later = attn_tensor_f32(dh, 1, state);
            ATTN_TRY(attn_add(ctx, &sum, &sum, &later));
        }
        attn_gru_step_grad grad = {here, dgx + t * 3 * state, dgh + t * 3 * state, dgq ? dgq + t * 3 * state : NULL,
                                   dh};
        ATTN_TRY(attn_gru_step_bwd(ctx, &step, &grad, u));
    }
    return ATTN_OK;
}
