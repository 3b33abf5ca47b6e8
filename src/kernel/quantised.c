/* quantised.c: products with weights of small integers, for one instruction set. Compiled once for each, as isa.c is,
 * with -DATTN_ISA=avx512_vnni -DATTN_BYTES_HEADER="bytes/avx512.h" and that instruction set's compiler flags. */
#include ATTN_BYTES_HEADER
#include "kernel/quantised.h"

#include "kernel/body/quantised.h"

#define ATTN_ISA_JOIN_(a, b) a##b
#define ATTN_ISA_JOIN(a, b) ATTN_ISA_JOIN_(a, b)
#define ATTN_ISA_TEXT_(a) #a
#define ATTN_ISA_TEXT(a) ATTN_ISA_TEXT_(a)

#define ATTN_ISA_TABLE ATTN_ISA_JOIN(attn_quantised_kernels_, ATTN_ISA)
extern const attn_quantised_kernels ATTN_ISA_TABLE;

const attn_quantised_kernels ATTN_ISA_TABLE = {.name = ATTN_ISA_TEXT(ATTN_ISA),
#define ATTN_QUANTISED_ENTRY(result, name, arguments) .name = name,
                                               ATTN_QUANTISED_KERNEL_LIST(ATTN_QUANTISED_ENTRY)
#undef ATTN_QUANTISED_ENTRY
};
