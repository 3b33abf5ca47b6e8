/* select.h: the kernel table of a CPU level. */
#ifndef ATTN_KERNEL_SELECT_H
#define ATTN_KERNEL_SELECT_H

#include "kernel/kernels.h"

/* The table of a level; NULL level: the best. false if this build or this machine does not have it. */
bool attn_kernels_get(attn_kernels *table, const char *level);
/* The levels this machine can run, best last; NULL-terminated. */
const char *const *attn_kernels_levels(void);

/* The kernels of a table for a cache of bytes, or the same by instructions that only some CPUs of its level have. */
typedef struct attn_i8_kernels {
    void (*scores)(const attn_decode_tile *tile), (*softmax)(const attn_decode_tile *tile),
        (*steps)(const attn_decode_tile *tile), (*mix)(const attn_decode_tile *tile);
} attn_i8_kernels;
attn_i8_kernels attn_i8_kernels_for(const attn_kernels *table);

#endif
