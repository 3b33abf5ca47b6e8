/* select.h: the kernel table of a CPU level. */
#ifndef ATTN_KERNEL_SELECT_H
#define ATTN_KERNEL_SELECT_H

#include "kernel/kernels.h"

/* The table of a level; NULL level: the best. NULL if this build or this machine does not have it. */
const attn_kernels *attn_kernels_for(const char *level);
/* The levels this machine can run, best last; NULL-terminated. */
const char *const *attn_kernels_levels(void);
static inline const char *attn_kernels_level(const attn_kernels *kernels) { return kernels->level; }

#endif
