/* _attn_dlpack.h: DLPack's structs (version 1.0 of its ABI, and the one before), as its specification fixes them. */
#ifndef ATTN_PYTHON_DLPACK_H
#define ATTN_PYTHON_DLPACK_H

#include <stdint.h>

enum { DL_CPU = 1, DL_CUDA_HOST = 3, DL_READ_ONLY = 1 };

typedef struct dl_tensor {
    void *data;
    int32_t device, device_id;
    int32_t rank;
    uint8_t code, bits;
    uint16_t lanes;
    int64_t *shape, *strides; /* in elements; strides NULL: row-major */
    uint64_t byte_offset;
} dl_tensor;

/* In a capsule named "dltensor". */
typedef struct dl_managed {
    dl_tensor tensor;
    void *user;
    void (*deleter)(struct dl_managed *self);
} dl_managed;

/* In a capsule named "dltensor_versioned". */
typedef struct dl_versioned {
    uint32_t major, minor;
    void *user;
    void (*deleter)(struct dl_versioned *self);
    uint64_t flags;
    dl_tensor tensor;
} dl_versioned;

#endif
