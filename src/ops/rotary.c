/* rotary.c: rotary position embedding, a row of x at a time. */
#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/attention.h>

#define NAME "attn_rotary_embedding: "

struct job {
    const attn_kernels *kernels;
    const attn_tensor *y, *x;
    const float *cos, *sin;
    const int64_t *positions; /* (B, T) or NULL */
    size_t table_batch;       /* rows of cos for one sequence; 0 if all have the same */
    size_t half;
    bool interleaved, inverse;
};

static char *row_of(const attn_tensor *t, size_t b, size_t h, size_t i) {
    ptrdiff_t at = (ptrdiff_t)b * t->stride[0] + (ptrdiff_t)h * t->stride[1] + (ptrdiff_t)i * t->stride[2];
    return (char *)t->data + at * (ptrdiff_t)attn_dtype_size(t->dtype);
}

static void rotary_rows(void *arg, size_t first, size_t end) {
    const struct job *job = arg;
    const attn_tensor *x = job->x;
    size_t heads = x->shape[1], steps = x->shape[2], size = attn_dtype_size(x->dtype);
    size_t turned = 2 * job->half * size, rest = x->shape[3] * size - turned;
    for (size_t r = first; r < end; r++) {
        size_t i = r % steps, h = r / steps % heads, b = r / steps / heads;
        size_t angle = job->positions ? (size_t)job->positions[b * steps + i] : b * job->table_batch + i;
        char *to = row_of(job->y, b, h, i);
        const char *from = row_of(x, b, h, i);
        job->kernels->rotary_row(to, from, x->dtype, job->cos + angle * job->half, job->sin + angle * job->half,
                                 job->half, job->interleaved, job->inverse);
        if (rest && to != from) memcpy(to + turned, from + turned, rest);
    }
}

static attn_status check_tensor(attn_context *ctx, const char *what, const attn_tensor *t) {
    if (!t) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s is NULL", what);
    if (t->rank != 4) return attn_fail(ctx, ATTN_E_SHAPE, "%s has rank %d, expected 4: (B, H, T, D)", what, t->rank);
    if (t->dtype != ATTN_F32 && t->dtype != ATTN_BF16 && t->dtype != ATTN_F16)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected F32, BF16 or F16", what,
                         attn_dtype_name(t->dtype));
    if (!t->data && attn_tensor_count(t) > 0) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s has no data", what);
    if (t->shape[3] > 1 && t->stride[3] != 1)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s has last stride %td, expected 1", what, t->stride[3]);
    return ATTN_OK;
}

/* The bytes from a tensor's first element in memory to the end of its last. */
static void extent(const attn_tensor *t, uintptr_t *first, uintptr_t *end) {
    ptrdiff_t size = (ptrdiff_t)attn_dtype_size(t->dtype), low = 0, high = 1;
    for (int i = 0; i < t->rank; i++) {
        ptrdiff_t reach = (ptrdiff_t)(t->shape[i] - 1) * t->stride[i];
        if (reach < 0) low += reach;
        else high += reach;
    }
    *first = (uintptr_t)t->data + (uintptr_t)(low * size);
    *end = (uintptr_t)t->data + (uintptr_t)(high * size);
}

static attn_status check_output(attn_context *ctx, const attn_tensor *y, const attn_tensor *x) {
    bool same = y->data == x->data, empty = attn_tensor_count(y) == 0;
    if (y->dtype != x->dtype)
        return attn_fail(ctx, ATTN_E_ARGUMENT, NAME "y is %s, but x is %s", attn_dtype_name(y->dtype),
                         attn_dtype_name(x->dtype));
    for (int i = 0; i < 4; i++) {
        if (y->shape[i] != x->shape[i])
            return attn_fail(ctx, ATTN_E_SHAPE, NAME "y has shape (%zu, %zu, %zu, %zu), but x has (%zu, %zu, %zu, %zu)",
                             y->shape[0], y->shape[1], y->shape[2], y->shape[3], x->shape[0], x->shape[1], x->shape[2],
                             x->shape[3]);
        if (!empty && y->shape[i] > 1 && y->stride[i] == 0)
            return attn_fail(ctx, ATTN_E_ARGUMENT, NAME "y has stride 0 in dimension %d of %zu", i, y->shape[i]);
        same = same && (y->shape[i] < 2 || y->stride[i] == x->stride[i]);
    }
    if (same || empty) return ATTN_OK;
    uintptr_t y_first, y_end, x_first, x_end;
    extent(y, &y_first, &y_end);
    extent(x, &x_first, &x_end);
    /* Two views with gaps may lie in between each other, as q, k and v of one projection do. */
    bool gaps = !attn_tensor_is_contiguous(y) && !attn_tensor_is_contiguous(x) && y->data != x->data;
    if (!gaps && y_first < x_end && x_first < y_end)
        return attn_fail(ctx, ATTN_E_ARGUMENT, NAME "y overlaps x, expected x itself or memory of its own");
    return ATTN_OK;
}

static attn_status check_angles(attn_context *ctx, const attn_tensor *cos, const attn_tensor *sin,
                                const int64_t *positions, const attn_tensor *x, size_t half) {
    size_t by_position[] = {ATTN_ANY, half}, by_step[] = {ATTN_ANY, x->shape[2], half};
    ATTN_TRY(attn_check_shape(ctx, NAME "cos", cos, positions ? 2 : 3, positions ? by_position : by_step));
    ATTN_TRY(attn_check_like(ctx, NAME "sin", sin, cos));
    if (!positions && cos->shape[0] != 1 && cos->shape[0] != x->shape[0])
        return attn_fail(ctx, ATTN_E_SHAPE, NAME "cos has %zu sequences, expected %zu or 1", cos->shape[0],
                         x->shape[0]);
    size_t n = positions && x->shape[1] && x->shape[3] ? x->shape[0] * x->shape[2] : 0;
    for (size_t i = 0; i < n; i++)
        if (positions[i] < 0 || (size_t)positions[i] >= cos->shape[0])
            return attn_fail(ctx, ATTN_E_ARGUMENT, NAME "positions[%zu] is %lld, expected 0 to %lld: cos has %zu rows",
                             i, (long long)positions[i], (long long)cos->shape[0] - 1, cos->shape[0]);
    return ATTN_OK;
}

attn_status attn_rotary_embedding(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, const attn_tensor *cos,
                                  const attn_tensor *sin, const int64_t *positions, size_t rotary_dim, bool interleaved,
                                  bool inverse) {
    ATTN_TRY(check_tensor(ctx, NAME "x", x));
    ATTN_TRY(check_tensor(ctx, NAME "y", y));
    ATTN_TRY(check_output(ctx, y, x));
    size_t wanted = rotary_dim ? rotary_dim : x->shape[3];
    if (wanted > x->shape[3] || wanted % 2 != 0)
        return attn_fail(ctx, ATTN_E_SHAPE, NAME "rotary_dim is %zu, expected an even number up to D, %zu", wanted,
                         x->shape[3]);
    ATTN_TRY(check_angles(ctx, cos, sin, positions, x, wanted / 2));
    size_t count = attn_tensor_count(x);
    if (count == 0) return ATTN_OK;
    struct job job = {.kernels = ctx->kernels,
                      .y = y,
                      .x = x,
                      .cos = cos->data,
                      .sin = sin->data,
                      .positions = positions,
                      .table_batch = !positions && cos->shape[0] > 1 ? x->shape[2] : 0,
                      .half = wanted / 2,
                      .interleaved = interleaved,
                      .inverse = inverse};
    attn_for_ranges(ctx, count / x->shape[3], 1, 0.2 * (double)count, rotary_rows, &job);
    return ATTN_OK;
}
