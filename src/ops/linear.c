/* linear.c: matrix products and linear layers on tensors. */
#include "ops/gemm.h"
#include "kernel/kernels.h"
#include <attn/ops.h>

#include <string.h>

enum { SUM_COLUMNS = 64 }; /* of one piece of a column sum */

/* Rank and f32 (or the other dtype, where one is allowed). */
static attn_status check_tensor(attn_context *ctx, const attn_tensor *t, const char *name, int rank, attn_dtype other) {
    if (t->dtype != ATTN_F32 && t->dtype != other)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected F32", name, attn_dtype_name(t->dtype));
    if (t->rank != rank) return attn_fail(ctx, ATTN_E_SHAPE, "%s has rank %d, expected %d", name, t->rank, rank);
    return ATTN_OK;
}

static attn_status check_matrix(attn_context *ctx, const attn_tensor *t, const char *name, size_t rows, size_t columns,
                                bool unit_stride) {
    ATTN_TRY(check_tensor(ctx, t, name, 2, ATTN_F32));
    if (t->shape[0] != rows || t->shape[1] != columns)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s is (%zu, %zu), expected (%zu, %zu)", name, t->shape[0], t->shape[1], rows,
                         columns);
    if (unit_stride && columns > 1 && t->stride[1] != 1)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s has a last stride of %td, expected 1", name, t->stride[1]);
    return ATTN_OK;
}

static attn_status check_vector(attn_context *ctx, const attn_tensor *t, const char *name, size_t n) {
    ATTN_TRY(check_tensor(ctx, t, name, 1, ATTN_F32));
    if (t->shape[0] != n)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s has %zu elements, expected %zu", name, t->shape[0], n);
    if (n > 1 && t->stride[0] != 1)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s has a stride of %td, expected 1", name, t->stride[0]);
    return ATTN_OK;
}

/* A BF16 matrix into a BF16 panel form: bits are moved, not converted. */
static attn_status pack_bf16(attn_context *ctx, attn_packed *packed, const attn_tensor *b) {
    const size_t k = b->shape[0], n = b->shape[1], panels = n / ATTN_PANEL + (n % ATTN_PANEL != 0);
    size_t elements;
    if (!attn_size_mul(&elements, panels * ATTN_PANEL, k))
        return attn_fail(ctx, ATTN_E_NOMEM, "a packed matrix of %zu × %zu does not fit into memory", k, n);
    uint16_t *to = attn_alloc(ctx, elements, sizeof *to);
    if (!to) return ATTN_E_NOMEM;
    *packed = (attn_packed){k, n, ATTN_BF16, to, elements * sizeof *to};
    const uint16_t *from = b->data;
    for (size_t panel = 0; panel < panels; panel++) {
        for (size_t p = 0; p < k; p++, to += ATTN_PANEL) {
            for (size_t i = 0; i < ATTN_PANEL; i++) {
                size_t j = panel * ATTN_PANEL + i;
                to[i] = j < n ? from[(ptrdiff_t)p * b->stride[0] + (ptrdiff_t)j * b->stride[1]] : 0;
            }
        }
    }
    return ATTN_OK;
}

attn_status attn_matmul(attn_context *ctx, const attn_tensor *c, const attn_tensor *a, const attn_tensor *b,
                        const attn_tensor *bias, const attn_tensor *residual, attn_activation act, bool accumulate) {
    ATTN_TRY(check_tensor(ctx, a, "a", 2, ATTN_F32));
    ATTN_TRY(check_tensor(ctx, b, "b", 2, ATTN_BF16));
    const size_t m = a->shape[0], k = a->shape[1], n = b->shape[1];
    if (b->shape[0] != k)
        return attn_fail(ctx, ATTN_E_SHAPE, "b has %zu rows, expected a's %zu columns", b->shape[0], k);
    ATTN_TRY(check_matrix(ctx, c, "c", m, n, true));
    if (bias) ATTN_TRY(check_vector(ctx, bias, "bias", n));
    if (residual) ATTN_TRY(check_matrix(ctx, residual, "residual", m, n, true));
    attn_gemm gemm = {
        .m = m,
        .a = a->data,
        .a_row = a->stride[0],
        .a_column = a->stride[1],
        .c = c->data,
        .c_row = c->stride[0],
        .bias = bias ? bias->data : NULL,
        .residual = residual ? residual->data : NULL,
        .residual_row = residual ? residual->stride[0] : 0,
        .act = act,
        .accumulate = accumulate,
    };
    if (b->dtype == ATTN_F32)
        return attn_gemm_run_unpacked(ctx, &gemm, b->data, b->stride[0], b->stride[1], k, n);
    attn_packed packed = ATTN_PACKED_INIT;
    ATTN_TRY(pack_bf16(ctx, &packed, b));
    gemm.b = &packed;
    attn_status status = attn_gemm_run(ctx, &gemm);
    attn_packed_free(ctx, &packed);
    return status;
}

attn_status attn_linear_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, const attn_tensor *w,
                            const attn_tensor *b, const attn_tensor *residual, attn_activation act) {
    ATTN_TRY(check_tensor(ctx, w, "w", 2, ATTN_BF16));
    attn_tensor transposed = attn_tensor_swap(w, 0, 1);
    return attn_matmul(ctx, y, x, &transposed, b, residual, act, false);
}

attn_status attn_linear_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dw, const attn_tensor *db,
                            const attn_tensor *dy, const attn_tensor *x, const attn_tensor *w, bool accumulate) {
    ATTN_TRY(check_tensor(ctx, dy, "dy", 2, ATTN_F32));
    if (dx) {
        if (!w) return attn_fail(ctx, ATTN_E_ARGUMENT, "dx is wanted, but w is NULL");
        ATTN_TRY(attn_matmul(ctx, dx, dy, w, NULL, NULL, ATTN_IDENTITY, accumulate));
    }
    if (dw) {
        if (!x) return attn_fail(ctx, ATTN_E_ARGUMENT, "dw is wanted, but x is NULL");
        attn_tensor transposed = attn_tensor_swap(dy, 0, 1);
        ATTN_TRY(attn_matmul(ctx, dw, &transposed, x, NULL, NULL, ATTN_IDENTITY, accumulate));
    }
    if (db) ATTN_TRY(attn_column_sums(ctx, db, dy, accumulate));
    return ATTN_OK;
}

struct sum_job {
    const attn_kernels *kernels;
    const float *x;
    ptrdiff_t x_row;
    float *sums;
    size_t rows, n;
    bool accumulate;
};

static void sum_columns(void *arg, size_t piece) {
    const struct sum_job *job = arg;
    size_t first = piece * SUM_COLUMNS, n = ATTN_MIN(job->n - first, (size_t)SUM_COLUMNS);
    if (!job->accumulate) memset(job->sums + first, 0, n * sizeof *job->sums);
    job->kernels->column_sums(job->sums + first, job->x + first, job->x_row, job->rows, n);
}

attn_status attn_column_sums(attn_context *ctx, const attn_tensor *sums, const attn_tensor *x, bool accumulate) {
    ATTN_TRY(check_tensor(ctx, x, "x", 2, ATTN_F32));
    ATTN_TRY(check_matrix(ctx, x, "x", x->shape[0], x->shape[1], true));
    ATTN_TRY(check_vector(ctx, sums, "sums", x->shape[1]));
    struct sum_job job = {ctx->kernels, x->data, x->stride[0], sums->data, x->shape[0], x->shape[1], accumulate};
    attn_parallel_for(ctx, job.n / SUM_COLUMNS + (job.n % SUM_COLUMNS != 0), sum_columns, &job);
    return ATTN_OK;
}
