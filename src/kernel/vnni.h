/* vnni.h: kernels for CPUs that have AVX-512's dot products of bytes besides level avx512. */
#ifndef ATTN_KERNEL_VNNI_H
#define ATTN_KERNEL_VNNI_H

#include "kernel/kernels.h"

void attn_vnni_scores_i8(const attn_decode_tile *tile);
void attn_vnni_softmax_i8(const attn_decode_tile *tile);
void attn_vnni_steps(const attn_decode_tile *tile);
void attn_vnni_mix_i8(const attn_decode_tile *tile);

#endif
