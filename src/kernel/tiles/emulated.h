/* emulated.h: the vocabulary of amx.h in vectors, so that what is made of tiles can be tested, to the bit, on
 * machines without AMX. */
#ifndef ATTN_KERNEL_TILES_H
#define ATTN_KERNEL_TILES_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static _Thread_local float emulated_tiles[8][16][16] __attribute__((aligned(64)));

#define T_ZERO(t) memset(emulated_tiles[t], 0, sizeof emulated_tiles[t])
#define T_LOAD(t, from, row) emulated_load(t, from, row)
#define T_STORE(t, to, row) emulated_store(t, to, row)
#define T_DOT(c, a, b) emulated_dot(c, a, b)

static void emulated_load(int t, const float *from, ptrdiff_t row) {
    for (ptrdiff_t i = 0; i < 16; i++) memcpy(emulated_tiles[t][i], from + i * row, sizeof emulated_tiles[t][i]);
}
static void emulated_store(int t, float *to, ptrdiff_t row) {
    for (ptrdiff_t i = 0; i < 16; i++) memcpy(to + i * row, emulated_tiles[t][i], sizeof emulated_tiles[t][i]);
}

static void emulated_dot(int c, int a, int b) {
    enum { NO_SUBNORMALS = 0x8040 }; /* neither read (bit 6) nor made (bit 15) */
    const unsigned mode = _mm_getcsr();
    _mm_setcsr(mode | NO_SUBNORMALS);
    __asm__ volatile("" ::: "memory"); /* loads and stores, and so what lies between them, stay in here */
    for (int i = 0; i < 16; i++) {
        __m512 first = _mm512_setzero_ps(), second = _mm512_setzero_ps();
        for (int p = 0; p < 16; p++) {
            const V x = v_set(emulated_tiles[a][i][p]), y = v_load(emulated_tiles[b][p]);
            first = v_fma(v_low_bf16(x), v_low_bf16(y), first);
            second = v_fma(v_high_bf16(x), v_high_bf16(y), second);
        }
        v_store(emulated_tiles[c][i], v_add(v_load(emulated_tiles[c][i]), v_add(first, second)));
    }
    __asm__ volatile("" ::: "memory");
    _mm_setcsr(mode);
}

#define V_PAIR_GROUP 16

static void tiles_begin(void) {}
static void tiles_end(void) {}

#endif
