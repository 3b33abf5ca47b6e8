/* select.h: the kernel table of a CPU level. */
#ifndef ATTN_KERNEL_SELECT_H
#define ATTN_KERNEL_SELECT_H

#include "kernel/kernels.h"

/* The table of a level; NULL level: the best. false if this build or this machine does not have it. */
bool attn_kernels_get(attn_kernels *table, const char *level);
/* The levels this machine can run, best last; NULL-terminated. */
const char *const *attn_kernels_levels(void);

/* decode_scores_i8 of the table, or the same by instructions that only some CPUs of its level have. */
typedef void attn_scores_i8(const attn_decode_tile *tile);
attn_scores_i8 *attn_scores_i8_for(const attn_kernels *table);

#endif
