/* widen.c: see widen.h. */
#include "ops/widen.h"
#include "base/half.h"
#include "kernel/kernels.h"

#include <string.h>

typedef struct rows_job {
    const attn_tensor *bf16;
    float *f32;
    const attn_kernels *kernels;
} rows_job;

static size_t columns_of(const attn_tensor *t) { return t->shape[t->rank - 1]; }

static uint16_t *row_at(const attn_tensor *t, size_t row) {
    ptrdiff_t at = 0;
    for (int d = t->rank - 2; d >= 0; d--) {
        at += (ptrdiff_t)(row % t->shape[d]) * t->stride[d];
        row /= t->shape[d];
    }
    return (uint16_t *)t->data + at;
}

static void widen_rows(void *argument, size_t first, size_t end) {
    const rows_job *job = argument;
    const size_t n = columns_of(job->bf16);
    for (size_t row = first; row < end; row++) {
        const uint16_t *from = row_at(job->bf16, row);
        float *to = job->f32 + row * n;
        for (size_t i = 0; i < n; i++) to[i] = attn_float_of_bf16(from[i]);
    }
}

static void round_rows(void *argument, size_t first, size_t end) {
    const rows_job *job = argument;
    const size_t n = columns_of(job->bf16);
    for (size_t row = first; row < end; row++)
        job->kernels->attention_put(row_at(job->bf16, row), ATTN_BF16, 0, job->f32 + row * n, 0, 1, n, 1.0f, false);
}

static void each_row(attn_widened *wide, size_t index, attn_range *fn) {
    const attn_tensor *t = wide->copy[index].from;
    const size_t count = attn_tensor_count(t);
    rows_job job = {t, wide->copy[index].t.data, wide->ctx->kernels};
    if (count > 0) attn_for_ranges(wide->ctx, count / columns_of(t), 16, 0.2 * (double)count, fn, &job);
}

static attn_status widen(attn_widened *wide, const attn_tensor **t, bool read, bool written) {
    const attn_tensor *from = *t;
    if (!from || from->dtype != ATTN_BF16 || from->rank < 1 || from->rank > 3) return ATTN_OK;
    if (from->stride[from->rank - 1] != 1 || !from->data) return ATTN_OK;
    float *data = attn_alloc(wide->ctx, attn_tensor_count(from), sizeof *data);
    if (!data) return ATTN_E_NOMEM;
    const size_t index = wide->n++;
    wide->copy[index].t = attn_tensor_of(data, ATTN_F32, from->rank, from->shape);
    wide->copy[index].from = from;
    wide->copy[index].written = written;
    if (read) each_row(wide, index, widen_rows);
    *t = &wide->copy[index].t;
    return ATTN_OK;
}

attn_status attn_widen_input(attn_widened *wide, const attn_tensor **t) { return widen(wide, t, true, false); }

attn_status attn_widen_output(attn_widened *wide, const attn_tensor **t, bool accumulate) {
    return widen(wide, t, accumulate, true);
}

attn_status attn_widened_end(attn_widened *wide, attn_status status) {
    for (size_t i = 0; i < wide->n; i++) {
        if (status == ATTN_OK && wide->copy[i].written) each_row(wide, i, round_rows);
        attn_release(wide->ctx, wide->copy[i].t.data);
    }
    return status;
}
