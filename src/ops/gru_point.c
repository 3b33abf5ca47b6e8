/* gru_point.c: the pointwise part of a GRU step over a batch, forward and backward. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/ops.h>
#include <string.h>

struct job {
    const attn_kernels *kernels;
    float *y, *rzn;        /* forward: (B, H) (B, 3H) */
    float *dgx, *dgh, *dh; /* backward */
    const float *gx, *gh, *h, *dy, *saved;
    const uint8_t *active;
    size_t size;
};

static void fwd_range(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    size_t size = job->size;
    for (size_t b = first; b < end; b++) {
        float *rzn = job->rzn ? job->rzn + 3 * b * size : NULL;
        if (!job->active || job->active[b]) {
            job->kernels->gru_point_row(job->y + b * size, rzn, job->gx + 3 * b * size, job->gh + 3 * b * size,
                                        job->h + b * size, size);
        } else {
            memcpy(job->y + b * size, job->h + b * size, size * sizeof *job->y);
            if (rzn) memset(rzn, 0, 3 * size * sizeof *rzn);
        }
    }
}

static void bwd_range(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    size_t size = job->size;
    for (size_t b = first; b < end; b++) {
        float *dgx = job->dgx + 3 * b * size, *dgh = job->dgh + 3 * b * size;
        if (!job->active || job->active[b]) {
            job->kernels->gru_point_row_bwd(dgx, dgh, job->dh + b * size, job->dy + b * size, job->saved + 3 * b * size,
                                            job->gh + 3 * b * size, job->h + b * size, size);
        } else {
            memset(dgx, 0, 3 * size * sizeof *dgx);
            memset(dgh, 0, 3 * size * sizeof *dgh);
            memcpy(job->dh + b * size, job->dy + b * size, size * sizeof *dgx);
        }
    }
}

attn_status attn_gru_point_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *rzn, const attn_tensor *gx,
                               const attn_tensor *gh, const attn_tensor *h, const uint8_t *active) {
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_fwd: h", h, 2, (size_t[]){ATTN_ANY, ATTN_ANY}));
    size_t batch = h->shape[0], size = h->shape[1], wide[2] = {batch, 3 * size};
    ATTN_TRY(attn_check_like(ctx, "attn_gru_point_fwd: y", y, h));
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_fwd: gx", gx, 2, wide));
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_fwd: gh", gh, 2, wide));
    if (rzn) ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_fwd: rzn", rzn, 2, wide));
    struct job job = {.kernels = ctx->kernels,
                      .y = y->data,
                      .rzn = attn_data(rzn),
                      .gx = gx->data,
                      .gh = gh->data,
                      .h = h->data,
                      .active = active,
                      .size = size};
    attn_for_ranges(ctx, batch, 1, 1.5 * (double)batch * (double)size, fwd_range, &job);
    return ATTN_OK;
}

attn_status attn_gru_point_bwd(attn_context *ctx, const attn_tensor *dgx, const attn_tensor *dgh, const attn_tensor *dh,
                               const attn_tensor *dy, const attn_tensor *rzn, const attn_tensor *gh,
                               const attn_tensor *h, const uint8_t *active) {
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_bwd: h", h, 2, (size_t[]){ATTN_ANY, ATTN_ANY}));
    size_t batch = h->shape[0], size = h->shape[1], wide[2] = {batch, 3 * size};
    ATTN_TRY(attn_check_like(ctx, "attn_gru_point_bwd: dh", dh, h));
    ATTN_TRY(attn_check_like(ctx, "attn_gru_point_bwd: dy", dy, h));
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_bwd: dgx", dgx, 2, wide));
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_bwd: dgh", dgh, 2, wide));
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_bwd: rzn", rzn, 2, wide));
    ATTN_TRY(attn_check_shape(ctx, "attn_gru_point_bwd: gh", gh, 2, wide));
    struct job job = {.kernels = ctx->kernels,
                      .dgx = dgx->data,
                      .dgh = dgh->data,
                      .dh = dh->data,
                      .dy = dy->data,
                      .saved = rzn->data,
                      .gh = gh->data,
                      .h = h->data,
                      .active = active,
                      .size = size};
    attn_for_ranges(ctx, batch, 1, 0.6 * (double)batch * (double)size, bwd_range, &job);
    return ATTN_OK;
}
