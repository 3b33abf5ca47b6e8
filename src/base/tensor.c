/* tensor.c: views of memory. */
#include "base/base.h"
#include <attn/tensor.h>

#include <string.h>

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
#define DTYPE_ROW(name, text, size) [ATTN_##name] = {text, size},
    ATTN_DTYPE_LIST(DTYPE_ROW)
#undef DTYPE_ROW
};

static bool dtype_known(attn_dtype dtype) { return (size_t)dtype < ATTN_COUNT(dtypes); }

size_t attn_dtype_size(attn_dtype dtype) { return dtype_known(dtype) ? dtypes[dtype].size : 0; }
const char *attn_dtype_name(attn_dtype dtype) { return dtype_known(dtype) ? dtypes[dtype].name : "unknown"; }

static bool rank_fits(int rank) { return rank >= 0 && rank <= ATTN_MAX_RANK; }

attn_tensor attn_tensor_of(void *data, attn_dtype dtype, int rank, const size_t *shape) {
    attn_tensor t;
    memset(&t, 0, sizeof t);
    t.dtype = dtype;
    if (!rank_fits(rank)) return t; /* no data: every operation refuses it */
    t.data = data;
    t.rank = rank;
    size_t stride = 1;
    for (int i = rank - 1; i >= 0; i--) {
        t.shape[i] = shape[i];
        t.stride[i] = (ptrdiff_t)stride;
        stride *= shape[i];
    }
    return t;
}

attn_tensor attn_tensor_f32(void *data, int rank, ...) {
    size_t shape[ATTN_MAX_RANK] = {0};
    va_list dimensions;
    va_start(dimensions, rank);
    for (int i = 0; i < rank && i < ATTN_MAX_RANK; i++) shape[i] = va_arg(dimensions, size_t);
    va_end(dimensions);
    return attn_tensor_of(data, ATTN_F32, rank, shape);
}

/* SIZE_MAX if the count is no size_t: no memory can hold it, so it equals no other count. */
static size_t count_of(int rank, const size_t *shape) {
    size_t count = 1;
    bool fits = true;
    for (int i = 0; i < rank; i++) {
        if (shape[i] == 0) return 0;
        fits = fits && attn_size_mul(&count, count, shape[i]);
    }
    return fits ? count : SIZE_MAX;
}

size_t attn_tensor_count(const attn_tensor *t) { return count_of(t->rank, t->shape); }

bool attn_tensor_is_contiguous(const attn_tensor *t) {
    if (attn_tensor_count(t) == 0) return true;
    size_t stride = 1;
    for (int i = t->rank - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != (ptrdiff_t)stride) return false;
        stride *= t->shape[i];
    }
    return true;
}

attn_status attn_tensor_reshape(attn_context *ctx, attn_tensor *out, const attn_tensor *t, int rank,
                                const size_t *shape) {
    if (!rank_fits(rank))
        return attn_fail(ctx, ATTN_E_SHAPE, "reshape: rank %d, expected 0 to %d", rank, ATTN_MAX_RANK);
    if (!attn_tensor_is_contiguous(t))
        return attn_fail(ctx, ATTN_E_SHAPE, "reshape: the tensor is a strided view, expected a contiguous one");
    size_t old_count = attn_tensor_count(t), new_count = count_of(rank, shape);
    if (old_count != new_count || new_count == SIZE_MAX)
        return attn_fail(ctx, ATTN_E_SHAPE, "reshape: the new shape has %zu elements, expected %zu", new_count,
                         old_count);
    *out = attn_tensor_of(t->data, t->dtype, rank, shape);
    return ATTN_OK;
}

attn_status attn_tensor_slice(attn_context *ctx, attn_tensor *out, const attn_tensor *t, int dim, size_t first,
                              size_t count) {
    if (dim < 0 || dim >= t->rank)
        return attn_fail(ctx, ATTN_E_SHAPE, "slice: dimension %d of a tensor of rank %d", dim, t->rank);
    if (first > t->shape[dim] || count > t->shape[dim] - first)
        return attn_fail(ctx, ATTN_E_SHAPE, "slice: %zu elements from %zu in dimension %d, which has %zu", count, first,
                         dim, t->shape[dim]);
    *out = *t;
    out->shape[dim] = count;
    if (t->data && count)
        out->data = (char *)t->data + (ptrdiff_t)first * t->stride[dim] * (ptrdiff_t)attn_dtype_size(t->dtype);
    return ATTN_OK;
}

attn_tensor attn_tensor_swap(const attn_tensor *t, int dim_a, int dim_b) {
    attn_tensor swapped = *t;
    if (dim_a < 0 || dim_a >= t->rank || dim_b < 0 || dim_b >= t->rank) return swapped;
    swapped.shape[dim_a] = t->shape[dim_b], swapped.shape[dim_b] = t->shape[dim_a];
    swapped.stride[dim_a] = t->stride[dim_b], swapped.stride[dim_b] = t->stride[dim_a];
    return swapped;
}
