/* npy.c: one array in NumPy's .npy format, version 1.0. */
#include "io/npy.h"

#include "io/file.h"
#include <attn/io.h>

#include <stdio.h>
#include <string.h>

const char *attn_npy_type(attn_dtype dtype) {
    switch (dtype) {
    case ATTN_F32: return "<f4";
    case ATTN_F16: return "<f2";
    case ATTN_F64: return "<f8";
    case ATTN_I32: return "<i4";
    case ATTN_I64: return "<i8";
    case ATTN_I8: return "|i1";
    case ATTN_U8: return "|u1";
    case ATTN_BF16: break;
    }
    return NULL;
}

/* Writes the elements of dimensions dim … rank−1 from `data` in row-major order; the last dimension through `row`. */
static void put_elements(attn_writer *writer, const attn_tensor *tensor, int dim, const char *data, char *row) {
    size_t size = attn_dtype_size(tensor->dtype);
    if (dim + 1 < tensor->rank && dim + 1 < ATTN_MAX_RANK) {
        for (size_t i = 0; i < tensor->shape[dim]; i++)
            put_elements(writer, tensor, dim + 1, data + (ptrdiff_t)i * tensor->stride[dim] * (ptrdiff_t)size, row);
        return;
    }
    size_t n = tensor->shape[dim];
    for (size_t i = 0; i < n; i++)
        memcpy(row + i * size, data + (ptrdiff_t)i * tensor->stride[dim] * (ptrdiff_t)size, size);
    attn_writer_put(writer, row, n * size);
}

size_t attn_npy_header(char header[ATTN_NPY_HEADER], const char *type, int rank, const size_t *shape) {
    /* Two bytes magic length and version, two of header length, then the header padded to 64 with a line end. */
    memcpy(header, "\x93NUMPY\x01", 8);
    size_t at = 10;
    at +=
        (size_t)snprintf(header + at, ATTN_NPY_HEADER - at, "{'descr': '%s', 'fortran_order': False, 'shape': (", type);
    for (int i = 0; i < rank; i++)
        at += (size_t)snprintf(header + at, ATTN_NPY_HEADER - at, "%zu%s", shape[i],
                               rank == 1      ? ","
                               : i + 1 < rank ? ", "
                                              : "");
    at += (size_t)snprintf(header + at, ATTN_NPY_HEADER - at, "), }");
    const size_t total = (at + 1 + 63) / 64 * 64;
    memset(header + at, ' ', total - at);
    header[total - 1] = '\n';
    header[8] = (char)((total - 10) & 255);
    header[9] = (char)((total - 10) >> 8);
    return total;
}

attn_status attn_npy_save(attn_context *ctx, const char *path, const attn_tensor *tensor) {
    const char *type = attn_npy_type(tensor->dtype);
    if (!type) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: .npy has no %s", path, attn_dtype_name(tensor->dtype));
    char header[ATTN_NPY_HEADER];
    const size_t total = attn_npy_header(header, type, tensor->rank, tensor->shape);
    bool contiguous = attn_tensor_is_contiguous(tensor);
    size_t size = attn_dtype_size(tensor->dtype);
    char *row = NULL;
    if (!contiguous && !(row = attn_alloc(ctx, tensor->shape[tensor->rank - 1], size))) return ATTN_E_NOMEM;
    attn_writer writer;
    attn_status status = attn_writer_open(&writer, ctx, path);
    if (status == ATTN_OK) {
        attn_writer_put(&writer, header, total);
        if (contiguous) attn_writer_put(&writer, tensor->data, attn_tensor_count(tensor) * size);
        else put_elements(&writer, tensor, 0, tensor->data, row);
        status = attn_writer_close(&writer);
    }
    attn_release(ctx, row);
    return status;
}
