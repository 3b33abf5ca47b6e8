/* floats.c: moving rows of floats, on the context's threads where there are many. */
#include "nn/tape.h"

#include <string.h>

enum { FLOATS_PER_TASK = 1 << 16 };

attn_tensor attn_rows_of(const attn_tensor *t, const void *data) {
    size_t n = t->rank ? t->shape[t->rank - 1] : 1, rows = 1;
    for (int i = 0; i + 1 < t->rank; i++) rows *= t->shape[i];
    return attn_tensor_f32((void *)data, 2, rows, n);
}

typedef struct move {
    float *out;
    const float *in; /* NULL: zeros */
    size_t out_row, in_row, rows, n, rows_per_task;
    bool accumulate;
} move;

static void move_rows(void *arg, size_t index) {
    const move *job = arg;
    size_t first = index * job->rows_per_task, end = ATTN_MIN(first + job->rows_per_task, job->rows);
    for (size_t r = first; r < end; r++) {
        float *restrict out = job->out + r * job->out_row;
        const float *restrict in = job->in + r * job->in_row;
        if (!job->accumulate) memcpy(out, in, job->n * sizeof *out);
        else
            for (size_t i = 0; i < job->n; i++) out[i] += in[i];
    }
}

void attn_copy_rows(attn_context *ctx, float *out, size_t out_row, const float *in, size_t in_row, size_t rows,
                    size_t n, bool accumulate) {
    if (n == 0 || rows == 0) return;
    size_t per_task = ATTN_MAX(FLOATS_PER_TASK / n, 1);
    move job = {out, in, out_row, in_row, rows, n, per_task, accumulate};
    attn_parallel_for(ctx, (rows + per_task - 1) / per_task, move_rows, &job);
}

static void move_floats(void *arg, size_t index) {
    const move *job = arg;
    size_t first = index * FLOATS_PER_TASK, n = ATTN_MIN((size_t)FLOATS_PER_TASK, job->n - first);
    if (job->in) memcpy(job->out + first, job->in + first, n * sizeof *job->out);
    else memset(job->out + first, 0, n * sizeof *job->out);
}

void attn_copy_floats(attn_context *ctx, float *out, const float *in, size_t n) {
    move job = {.out = out, .in = in, .n = n};
    attn_parallel_for(ctx, (n + FLOATS_PER_TASK - 1) / FLOATS_PER_TASK, move_floats, &job);
}

void attn_fill_zero(attn_context *ctx, float *out, size_t n) { attn_copy_floats(ctx, out, NULL, n); }

attn_status attn_add_floats(attn_context *ctx, float *out, const float *in, size_t n) {
    attn_tensor sum = attn_tensor_f32(out, 1, n), more = attn_tensor_f32((void *)in, 1, n);
    return attn_add(ctx, &sum, &sum, &more);
}

typedef struct scale_job {
    float *out;
    const float *in;
    float factor;
    size_t n;
} scale_job;

static void scale_task(void *arg, size_t index) {
    const scale_job *job = arg;
    size_t first = index * FLOATS_PER_TASK, end = ATTN_MIN(first + FLOATS_PER_TASK, job->n);
    for (size_t i = first; i < end; i++) job->out[i] = job->in[i] * job->factor;
}

void attn_scale_floats(attn_context *ctx, float *out, const float *in, float factor, size_t n) {
    scale_job job = {out, in, factor, n};
    attn_parallel_for(ctx, (n + FLOATS_PER_TASK - 1) / FLOATS_PER_TASK, scale_task, &job);
}
