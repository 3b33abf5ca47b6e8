/* npy.h: what .npy and .npz share. */
#ifndef ATTN_IO_NPY_H
#define ATTN_IO_NPY_H

#include "base/base.h"
#include <attn/tensor.h>

enum { ATTN_NPY_HEADER = 320 };
/* "<f4"; NULL where there is none. */
const char *attn_npy_type(attn_dtype dtype);
/* Magic, version, what the elements are; how many bytes, a multiple of 64. */
size_t attn_npy_header(char header[ATTN_NPY_HEADER], const char *type, int rank, const size_t *shape);

#endif
