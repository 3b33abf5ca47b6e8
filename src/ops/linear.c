/* linear.c: matrix products and linear layers on tensors. */
#include "ops/check.h"
#include "ops/gemm.h"
#include "kernel/kernels.h"
#include <attn/ops.h>

#include <string.h>

enum { SUM_COLUMNS = 64 }; /* pieces of a column sum begin at multiples of this */

/* What an error calls the tensors of a product. */
struct names {
    const char *c, *a, *b, *bias, *residual;
};

/* A matrix with any strides; f32 or, where `half` says so, BF16. */
static attn_status check_operand(attn_context *ctx, const char *what, const attn_tensor *t, bool half) {
    if (!t) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s is NULL", what);
    if (t->dtype != ATTN_F32 && !(half && t->dtype == ATTN_BF16))
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected F32%s", what, attn_dtype_name(t->dtype),
                         half ? " or BF16" : "");
    if (t->rank != 2) return attn_fail(ctx, ATTN_E_SHAPE, "%s has rank %d, expected 2", what, t->rank);
    if (!t->data && attn_tensor_count(t) > 0) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s has no data", what);
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
    *packed = (attn_packed){k, n, ATTN_PANEL_BF16, to, elements * sizeof *to};
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

static attn_status product(attn_context *ctx, const struct names *names, const attn_tensor *c, const attn_tensor *a,
                           const attn_tensor *b, const attn_tensor *bias, const attn_tensor *residual,
                           attn_activation act, bool accumulate) {
    ATTN_TRY(check_operand(ctx, names->a, a, false));
    ATTN_TRY(check_operand(ctx, names->b, b, true));
    const size_t m = a->shape[0], k = a->shape[1], n = b->shape[1];
    if (b->shape[0] != k)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s is (%zu, %zu), %s (%zu, %zu): the sum goes over %zu and %zu elements",
                         names->a, m, k, names->b, b->shape[0], n, k, b->shape[0]);
    ATTN_TRY(attn_check_strided(ctx, names->c, c, 2, (size_t[]){m, n}));
    if (bias) ATTN_TRY(attn_check_strided(ctx, names->bias, bias, 1, (size_t[]){n}));
    if (residual) ATTN_TRY(attn_check_strided(ctx, names->residual, residual, 2, (size_t[]){m, n}));
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
    if (b->dtype == ATTN_F32) return attn_gemm_run_unpacked(ctx, &gemm, b->data, b->stride[0], b->stride[1], k, n);
    attn_packed packed = ATTN_PACKED_INIT;
    ATTN_TRY(pack_bf16(ctx, &packed, b));
    gemm.b = &packed;
    attn_status status = attn_gemm_run(ctx, &gemm);
    attn_packed_free(ctx, &packed);
    return status;
}

attn_status attn_matmul(attn_context *ctx, const attn_tensor *c, const attn_tensor *a, const attn_tensor *b,
                        const attn_tensor *bias, const attn_tensor *residual, attn_activation act, bool accumulate) {
    static const struct names names = {"attn_matmul: c", "attn_matmul: a", "attn_matmul: b", "attn_matmul: bias",
                                       "attn_matmul: residual"};
    return product(ctx, &names, c, a, b, bias, residual, act, accumulate);
}

attn_status attn_linear_fwd(attn_context *ctx, const attn_tensor *y, const attn_tensor *x, const attn_tensor *w,
                            const attn_tensor *b, const attn_tensor *residual, attn_activation act) {
    static const struct names names = {"attn_linear_fwd: y", "attn_linear_fwd: x", "attn_linear_fwd: w, transposed,",
                                       "attn_linear_fwd: b", "attn_linear_fwd: residual"};
    ATTN_TRY(check_operand(ctx, "attn_linear_fwd: w", w, true));
    attn_tensor transposed = attn_tensor_swap(w, 0, 1);
    return product(ctx, &names, y, x, &transposed, b, residual, act, false);
}

attn_status attn_linear_bwd(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dw, const attn_tensor *db,
                            const attn_tensor *dy, const attn_tensor *x, const attn_tensor *w, bool accumulate) {
    static const struct names of_x = {"attn_linear_bwd: dx", "attn_linear_bwd: dy", "attn_linear_bwd: w", NULL, NULL};
    static const struct names of_w = {"attn_linear_bwd: dw", "attn_linear_bwd: dy, transposed,", "attn_linear_bwd: x",
                                      NULL, NULL};
    ATTN_TRY(check_operand(ctx, "attn_linear_bwd: dy", dy, false));
    if (dx) ATTN_TRY(product(ctx, &of_x, dx, dy, w, NULL, NULL, ATTN_IDENTITY, accumulate));
    if (dw) {
        attn_tensor transposed = attn_tensor_swap(dy, 0, 1);
        ATTN_TRY(product(ctx, &of_w, dw, &transposed, x, NULL, NULL, ATTN_IDENTITY, accumulate));
    }
    return db ? attn_column_sums(ctx, db, dy, accumulate) : ATTN_OK;
}

struct sum_job {
    const attn_kernels *kernels;
    const float *x;
    ptrdiff_t x_row;
    float *sums;
    size_t rows, n;
    bool accumulate;
};

static void sum_columns(void *arg, size_t first, size_t end) {
    const struct sum_job *job = arg;
    if (!job->accumulate) memset(job->sums + first, 0, (end - first) * sizeof *job->sums);
    job->kernels->column_sums(job->sums + first, job->x + first, job->x_row, job->rows, end - first);
}

attn_status attn_column_sums(attn_context *ctx, const attn_tensor *sums, const attn_tensor *x, bool accumulate) {
    ATTN_TRY(attn_check_strided(ctx, "attn_column_sums: x", x, 2, (size_t[]){ATTN_ANY, ATTN_ANY}));
    ATTN_TRY(attn_check_strided(ctx, "attn_column_sums: sums", sums, 1, &x->shape[1]));
    struct sum_job job = {ctx->kernels, x->data, x->stride[0], sums->data, x->shape[0], x->shape[1], accumulate};
    attn_for_ranges(ctx, job.n, SUM_COLUMNS, 0.1 * (double)job.rows * (double)job.n, sum_columns, &job);
    return ATTN_OK;
}
