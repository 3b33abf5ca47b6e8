/* isa.c: all kernels, for one instruction set. Compiled once for each, with
 *     -DATTN_ISA=avx2 -DATTN_ISA_HEADER="simd/avx2.h" and that instruction set's compiler flags,
 *     and -DATTN_LEVEL="avx2", the level's name; with -DATTN_PAIRS_ONLY the table has nothing but what
 *     works on pairs of bf16; with -DATTN_TILES_HEADER="tiles/amx.h" pairs are multiplied by
 *     tiles. */
#ifdef ATTN_PAIRS_ONLY
#pragma GCC diagnostic ignored "-Wunused-function"
#endif
#include ATTN_ISA_HEADER
#ifdef ATTN_TILES_HEADER
#include ATTN_TILES_HEADER
#else
#define V_PAIR_GROUP 1
static void tiles_begin(void) {}
static void tiles_end(void) {}
#endif
#include "kernel/kernels.h"

#include "kernel/body/exp.h"
#include "kernel/body/rows.h"
#include "kernel/body/activation.h"
#include "kernel/body/softmax.h"
#include "kernel/body/norm.h"
#include "kernel/body/pointwise.h"
#include "kernel/body/additive.h"
#include "kernel/body/gru.h"
#include "kernel/body/rotary.h"
#include "kernel/body/gemm.h"
#include "kernel/body/attention.h"
#include "kernel/body/decode.h"
#include "kernel/body/decode_i8.h"
#include "kernel/body/weights.h"

#define ATTN_ISA_JOIN_(a, b) a##b
#define ATTN_ISA_JOIN(a, b) ATTN_ISA_JOIN_(a, b)

#define ATTN_ISA_TABLE ATTN_ISA_JOIN(attn_kernels_, ATTN_ISA)
extern const attn_kernels ATTN_ISA_TABLE;

const attn_kernels ATTN_ISA_TABLE = {.level = ATTN_LEVEL,
                                     .lanes = V_LANES,
                                     .fast_bf16 = V_FAST_BF16 || V_PAIR_GROUP > 1,
                                     .block_lanes = V_BLOCK_VECTORS * V_LANES,
                                     .pair_lanes = V_PAIR_GROUP > 1 ? ATTN_MAX_LANES : V_BLOCK_VECTORS *V_LANES,
                                     .pair_group = V_PAIR_GROUP,
#define ATTN_KERNEL_ENTRY(result, name, arguments) .name = name,
#ifndef ATTN_PAIRS_ONLY
                                     ATTN_KERNEL_LIST(ATTN_KERNEL_ENTRY) ATTN_ATTENTION_KERNEL_LIST(ATTN_KERNEL_ENTRY)
                                         ATTN_DECODE_KERNEL_LIST(ATTN_KERNEL_ENTRY)
#endif
                                             ATTN_PAIR_KERNEL_LIST(ATTN_KERNEL_ENTRY)
#undef ATTN_KERNEL_ENTRY
};
