/* scalar.h: the vocabulary of dot products of bytes in plain C. It adds to the vocabulary of floats (../simd/scalar.h),
 * of as many lanes: a VB is four bytes in each lane, a VI an integer of 32 bits. All sums are exact, so that every
 * instruction set gives the same.
 *   - b_dot multiplies bytes of a weight w and of a row x, −127 … 127. `small` is known to the compiler: w is 0 … 63;
 *   - w is given to it as b_flip leaves it, or small. Where B_BIAS is not 0 (instructions that multiply unsigned bytes
 *     by signed ones), that is w + B_BIAS, and the sum is B_BIAS · Σ x too large. */
#ifndef ATTN_KERNEL_BYTES_H
#define ATTN_KERNEL_BYTES_H

#include "kernel/simd/scalar.h"

#define B_BIAS 0
#define B_SMALL_IS_FASTER 0
/* Rows of x and panels of W whose sums are in registers. */
#define B_ROWS 2
#define B_PANELS 1
#define B_TILES(X) X(1) X(2)
/* Before the loop over a block's groups in a tile: unrolled only where a product is one instruction. Else compilers
 * make all products first, and there are not so many registers. */
#define B_UNROLL _Pragma("GCC unroll 1")
#define B_UNROLL_WIDE _Pragma("GCC unroll 1") /* before a loop over the vectors of a panel */

typedef uint32_t VB;
typedef int32_t VI;

V_FN VB b_load(const void *p) {
    VB a;
    memcpy(&a, p, sizeof a);
    return a;
}
V_FN void b_store(void *p, VB a) { memcpy(p, &a, sizeof a); }
V_FN VB b_set(const int8_t *p) { return b_load(p); } /* the same four bytes in each lane */
V_FN VB b_flip(VB a) { return a; }
/* The bits of mask in each byte, shifted down; 0 … 7 of them, none of another byte's. */
V_FN VB b_field(VB a, const int shift, const int mask) { return a >> shift & (uint32_t)mask * 0x01010101u; }
V_FN VB b_join(VB low, VB high, const int shift) { return low | high << shift; }

V_FN VI b_start(int32_t x) { return x; }
V_FN VI b_add(VI a, VI b) { return a + b; }
V_FN V b_float(VI a) { return (float)a; }
V_FN VI b_dot(VI sum, VB w, VB x, const bool small) { /* sum + the products of the four bytes of each lane */
    (void)small;
    for (int i = 0; i < 32; i += 8) sum += (int32_t)(int8_t)(w >> i) * (int32_t)(int8_t)(x >> i);
    return sum;
}
V_FN void b_store_i8(int8_t *p, V a) { *p = (int8_t)a; } /* integers in −128 … 127 */

#endif
