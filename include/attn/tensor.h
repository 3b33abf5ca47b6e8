/* attn/tensor.h: a view of memory: data, dtype, shape, strides. It never owns its memory. */
#ifndef ATTN_TENSOR_H
#define ATTN_TENSOR_H

#include <attn/base.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ATTN_MAX_RANK 5

#define ATTN_DTYPE_LIST(X) \
    X(F32, "F32", 4)       \
    X(BF16, "BF16", 2)     \
    X(F16, "F16", 2)       \
    X(I8, "I8", 1)         \
    X(U8, "U8", 1)         \
    X(I32, "I32", 4)       \
    X(I64, "I64", 8)       \
    X(F64, "F64", 8)

typedef enum attn_dtype {
#define ATTN_DTYPE_ENUM(name, text, size) ATTN_##name,
    ATTN_DTYPE_LIST(ATTN_DTYPE_ENUM)
#undef ATTN_DTYPE_ENUM
} attn_dtype;

/* Bytes of an element, and the name as safetensors spells it; 0 and "unknown" for no dtype. */
ATTN_API size_t attn_dtype_size(attn_dtype dtype);
ATTN_API const char *attn_dtype_name(attn_dtype dtype);

typedef struct attn_tensor {
    void *data;
    attn_dtype dtype;
    int rank;
    size_t shape[ATTN_MAX_RANK];
    ptrdiff_t stride[ATTN_MAX_RANK]; /* in elements */
} attn_tensor;

/* A contiguous (row-major) view of data. rank ≤ ATTN_MAX_RANK. */
ATTN_API attn_tensor attn_tensor_of(void *data, attn_dtype dtype, int rank, const size_t *shape);
/* The same for f32, shape given inline: attn_tensor_f32(p, 2, rows, columns). */
ATTN_API attn_tensor attn_tensor_f32(void *data, int rank, ...); /* size_t dimensions */
ATTN_API size_t attn_tensor_count(const attn_tensor *t);         /* elements; 1 for rank 0 */
ATTN_API bool attn_tensor_is_contiguous(const attn_tensor *t);
/* The same elements under another shape; the tensor must be contiguous, the counts equal. */
ATTN_API attn_status attn_tensor_reshape(attn_context *ctx, attn_tensor *out, const attn_tensor *t, int rank,
                                         const size_t *shape);
/* Elements first … first+count−1 of dimension dim. */
ATTN_API attn_status attn_tensor_slice(attn_context *ctx, attn_tensor *out, const attn_tensor *t, int dim, size_t first,
                                       size_t count);
ATTN_API attn_tensor attn_tensor_swap(const attn_tensor *t, int dim_a, int dim_b);

#ifdef __cplusplus
}
#endif
#endif
