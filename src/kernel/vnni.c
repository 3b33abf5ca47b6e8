/* vnni.c: scores of a cache of bytes by AVX-512's dot products of bytes. Sums of products of integers are exact, so the
 * bits are those of decode_scores_i8 of every table. */
#include "kernel/vnni.h"

#include <immintrin.h>
#include <string.h>

enum { BLOCKS = ATTN_TILE_BLOCKS, ROWS = 4 };

/* Some rows by some blocks. Keys are bytes with 128 added: 128 · Σ q is taken away at the start. */
static inline __attribute__((always_inline)) void scores_of(const int rows, const int blocks, const attn_decode_tile *t,
                                                            size_t row, size_t block) {
    const size_t groups = (t->d + 3) / 4;
    __m512i sum[ROWS][BLOCKS];
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        const int8_t *q = t->q8 + (ptrdiff_t)(row + (size_t)r) * t->q8_row;
        int32_t total = 0;
        for (size_t i = 0; i < 4 * groups; i++) total += q[i];
        ATTN_UNROLL for (int b = 0; b < blocks; b++) sum[r][b] = _mm512_set1_epi32(-128 * total);
    }
    for (size_t g = 0; g < groups; g++) {
        __m512i key[BLOCKS];
        ATTN_UNROLL for (int b = 0; b < blocks; b++) {
            key[b] = _mm512_loadu_si512((const char *)t->k[block + (size_t)b] + g * 4 * ATTN_KEYS);
            if (row == 0) _mm_prefetch((const char *)t->next_k[block + (size_t)b] + g * 4 * ATTN_KEYS, _MM_HINT_T1);
        }
        ATTN_UNROLL for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, t->q8 + (ptrdiff_t)(row + (size_t)r) * t->q8_row + g * 4, sizeof four);
            const __m512i x = _mm512_set1_epi32(four);
            ATTN_UNROLL for (int b = 0; b < blocks; b++) sum[r][b] = _mm512_dpbusd_epi32(sum[r][b], key[b], x);
        }
    }
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        const __m512 scale = _mm512_set1_ps(t->q_scale[row + (size_t)r]);
        float *s = t->s + (row + (size_t)r) * ATTN_TILE + block * ATTN_KEYS;
        ATTN_UNROLL for (int b = 0; b < blocks; b++) {
            const __m512 both = _mm512_mul_ps(scale, _mm512_loadu_ps(t->k_scale[block + (size_t)b]));
            _mm512_storeu_ps(s + b * ATTN_KEYS, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[r][b]), both));
        }
    }
}

static void four_blocks(const attn_decode_tile *t, size_t block) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) scores_of(4, 4, t, row, block);
    for (; row + 2 <= t->rows; row += 2) scores_of(2, 4, t, row, block);
    if (row < t->rows) scores_of(1, 4, t, row, block);
}
static void one_block(const attn_decode_tile *t, size_t block) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) scores_of(4, 1, t, row, block);
    for (; row < t->rows; row++) scores_of(1, 1, t, row, block);
}

void attn_vnni_scores_i8(const attn_decode_tile *t) {
    size_t block = t->first;
    for (; block + 4 <= t->end; block += 4) four_blocks(t, block);
    for (; block < t->end; block++) one_block(t, block);
}
