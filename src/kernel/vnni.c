/* vnni.c: decode_i8.h by AVX-512's dot products of bytes. All sums are of integers and exact, so the bits are those of
 * every table. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "kernel/vnni.h"

#include "kernel/simd/avx512.h"

#include "kernel/body/decode_i8.h"

enum { BLOCKS = ATTN_TILE_BLOCKS, ROWS = 4, FOURS = ATTN_KEYS / 4 };

/* The intrinsic's sums go from register to register, and of so many some to memory. */
V_FN __m512i dot(__m512i sum, __m512i bytes, __m512i signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "v"(signed_bytes));
    return sum;
}
V_FN __m512i dot_at(__m512i sum, __m512i bytes, const char *signed_bytes) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(bytes), "m"(*(const __m512i_u *)signed_bytes));
    return sum;
}
V_FN __m512i four_at(const void *p) {
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}

/* ---- scores --------------------------------------------------------------------------------------- */

/* Some rows by some blocks. Keys are bytes with 128 added: 128 · Σ q is taken away at the start. */
V_FN void dots_of(const int rows, const int blocks, const attn_decode_tile *t, size_t row, size_t block) {
    const size_t groups = (t->d + 3) / 4;
    const int8_t *q = t->q8 + (ptrdiff_t)row * t->q8_row;
    const ptrdiff_t q_row = t->q8_row;
    const char *k[BLOCKS];
    __m512i sum[ROWS][BLOCKS];
    ATTN_UNROLL for (int b = 0; b < blocks; b++) k[b] = t->k[block + (size_t)b];
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        ATTN_UNROLL for (int b = 0; b < blocks; b++) sum[r][b] = _mm512_set1_epi32(-128 * t->q_sum[row + (size_t)r]);
    }
    size_t g = 0;
    for (size_t part = 0; part < (size_t)blocks; part++) { /* beside each part a block of the next tile is fetched */
        const size_t end = (part + 1) * groups / (size_t)blocks;
        const char *next = row == 0 ? t->next_k[block + part] : t->k[block + part];
        for (; g < end; g++, q += 4) {
            __m512i key[BLOCKS];
            ATTN_UNROLL for (int b = 0; b < blocks; b++) {
                key[b] = _mm512_loadu_si512(k[b]);
                k[b] += 4 * ATTN_KEYS;
                _mm_prefetch(next + b * 4 * ATTN_KEYS, _MM_HINT_T1);
            }
            next += blocks * 4 * ATTN_KEYS;
            ATTN_UNROLL for (int r = 0; r < rows; r++) {
                const __m512i x = four_at(q + r * q_row);
                ATTN_UNROLL for (int b = 0; b < blocks; b++) sum[r][b] = dot(sum[r][b], key[b], x);
            }
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

V_FN void rows_of(const int blocks, const attn_decode_tile *t, size_t block) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) dots_of(4, blocks, t, row, block);
    switch (t->rows - row) {
    case 3: dots_of(3, blocks, t, row, block); break;
    case 2: dots_of(2, blocks, t, row, block); break;
    case 1: dots_of(1, blocks, t, row, block); break;
    default: break;
    }
}
void attn_vnni_scores_i8(const attn_decode_tile *t) {
    size_t block = t->first;
    for (; block + 4 <= t->end; block += 4) rows_of(4, t, block);
    for (; block < t->end; block++) rows_of(1, t, block);
}

/* ---- weights -------------------------------------------------------------------------------------- */

/* Numbers of steps as two bytes. Fours of keys stand in the order in which packing leaves them: four i of block b is
 * number BLOCKS·i + b. Few fours have an upper byte that is not 0: those are listed, and zeros after them, up to a
 * multiple of LISTED, so that the length is easy to guess. */
enum { LISTED = 2 };
typedef struct step_bytes {
    int32_t low[ATTN_TILE / 4], high[ATTN_TILE / 4], four[ATTN_TILE / 4]; /* high[i] belongs to number four[i] */
    size_t listed;
    _Alignas(64) char end[];
} step_bytes;
_Static_assert(sizeof(step_bytes) == ATTN_STEP_BYTES, "decode.h");

/* Weights times the scales of their values, and the sum of that. What is not finite becomes 0. */
V_FN void store_steps(const attn_decode_tile *t, size_t row, const V *products, float all) {
    step_bytes *to = (step_bytes *)t->steps + row;
    const V by = v_set(steps_in(t, row, all));
    __m512i n[BLOCKS];
    ATTN_UNROLL for (int b = 0; b < BLOCKS; b++) n[b] = _mm512_cvtps_epi32(v_mul(products[b], by));
    const __m512i a = _mm512_packus_epi32(n[0], n[1]), b = _mm512_packus_epi32(n[2], n[3]);
    const __m512i byte = _mm512_set1_epi16(0xff);
    _mm512_storeu_si512(to->low, _mm512_packus_epi16(_mm512_and_si512(a, byte), _mm512_and_si512(b, byte)));
    const __m512i high = _mm512_packus_epi16(_mm512_srli_epi16(a, 8), _mm512_srli_epi16(b, 8));
    const __mmask16 some = _mm512_test_epi32_mask(high, high);
    const __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    _mm512_storeu_si512(to->high, _mm512_maskz_compress_epi32(some, high));
    /* What follows the list is a number of a block that is there. */
    const __m512i filler = _mm512_set1_epi32((int32_t)t->first);
    _mm512_storeu_si512(to->four, _mm512_mask_compress_epi32(filler, some, numbers));
    to->listed = ((size_t)__builtin_popcount(some) + LISTED - 1) / LISTED * LISTED;
}

V_FN VM sees(const attn_decode_tile *t, size_t row, int block) { return (VM)(t->visible[row] >> block * ATTN_KEYS); }

/* v_sum of four vectors, or with `max` v_max_of: the same pairs, side by side. */
V_FN __m128 across(const bool max, const V *x) {
    V a[2], b[2];
    ATTN_UNROLL for (int i = 0; i < 2; i++) { /* upper halves onto lower ones */
        a[i] = _mm512_shuffle_f32x4(x[2 * i], x[2 * i + 1], 0x44);
        b[i] = _mm512_shuffle_f32x4(x[2 * i], x[2 * i + 1], 0xee);
        a[i] = max ? v_max(a[i], b[i]) : v_add(a[i], b[i]);
    }
    b[0] = _mm512_shuffle_f32x4(a[0], a[1], 0x88), b[1] = _mm512_shuffle_f32x4(a[0], a[1], 0xdd);
    V y = max ? v_max(b[0], b[1]) : v_add(b[0], b[1]), z = _mm512_permute_ps(y, 0x4e); /* a quarter for each */
    y = max ? v_max(y, z) : v_add(y, z), z = _mm512_permute_ps(y, 0xb1);
    y = max ? v_max(y, z) : v_add(y, z);
    const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, y));
}

/* decode_softmax_i8 of some rows, side by side. masked: some do not see all of the tile's keys; those of blocks that
 * are not there nobody sees. */
V_FN void weights_of(const bool masked, const int rows, const attn_decode_tile *t, size_t row) {
    const V empty = v_set(-__builtin_inff());
    V p[ROWS][BLOCKS], top[ROWS], weights[ROWS], scaled[ROWS];
    float lane[ROWS], down[ROWS];
    ATTN_UNROLL for (int r = 0; r < ROWS; r++) {
        if (r >= rows) {
            top[r] = top[0];
            continue;
        }
        top[r] = empty;
        ATTN_UNROLL for (int b = 0; b < BLOCKS; b++) {
            V s = v_load(t->s + (row + (size_t)r) * ATTN_TILE + b * V_LANES);
            if (masked) s = v_select(sees(t, row + (size_t)r, b), s, empty);
            top[r] = v_max(s, top[r]);
        }
    }
    _mm_storeu_ps(lane, across(true, top));
    ATTN_UNROLL for (int r = 0; r < rows; r++) down[r] = softmax_down(t, row + (size_t)r, lane[r]);
    ATTN_UNROLL for (int r = 0; r < ROWS; r++) {
        if (r >= rows) {
            weights[r] = weights[0], scaled[r] = scaled[0];
            continue;
        }
        weights[r] = scaled[r] = v_zero();
        ATTN_UNROLL for (int b = 0; b < BLOCKS; b++) {
            const V s = v_load(t->s + (row + (size_t)r) * ATTN_TILE + b * V_LANES);
            p[r][b] = v_fma(s, v_set(t->factor), v_set(down[r]));
        }
        v_exp2_bf16_all(BLOCKS, p[r]);
        ATTN_UNROLL for (int b = 0; b < BLOCKS; b++) {
            const VM seen = masked ? sees(t, row + (size_t)r, b) : (VM)0xffff;
            const float *scale = masked && !seen ? t->s : t->v_scale[b];
            weights[r] = v_add(weights[r], masked ? v_and_mask(seen, p[r][b]) : p[r][b]);
            p[r][b] = _mm512_maskz_mul_ps(seen, p[r][b], v_load(scale));
            scaled[r] = v_add(scaled[r], p[r][b]);
        }
    }
    _mm_storeu_ps(lane, across(false, weights));
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        float *sum = t->sum + row + r;
        *sum = *sum * t->rescale[row + (size_t)r] + lane[r];
    }
    _mm_storeu_ps(lane, across(false, scaled));
    ATTN_UNROLL for (int r = 0; r < rows; r++) store_steps(t, row + (size_t)r, p[r], lane[r]);
}

void attn_vnni_softmax_i8(const attn_decode_tile *t) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) {
        const uint64_t seen = t->visible[row] & t->visible[row + 1] & t->visible[row + 2] & t->visible[row + 3];
        if (seen != UINT64_MAX) break;
        weights_of(false, 4, t, row);
    }
    const size_t left = t->rows - row;
    if (left == 2 && (t->visible[row] & t->visible[row + 1]) == UINT64_MAX) {
        weights_of(false, 2, t, row);
    } else if (left == 3 && (t->visible[row] & t->visible[row + 1] & t->visible[row + 2]) == UINT64_MAX) {
        weights_of(false, 3, t, row);
    } else {
        for (; row < t->rows; row++)
            t->visible[row] == UINT64_MAX ? weights_of(false, 1, t, row) : weights_of(true, 1, t, row);
    }
}

void attn_vnni_steps(const attn_decode_tile *t) {
    for (size_t row = 0; row < t->rows; row++) {
        V p[BLOCKS], scaled = v_zero();
        ATTN_UNROLL for (int b = 0; b < BLOCKS; b++) {
            const VM seen = sees(t, row, b);
            const V weight = v_load(t->s + row * ATTN_TILE + b * V_LANES);
            p[b] = _mm512_maskz_mul_ps(seen, weight, v_load(seen ? t->v_scale[b] : t->s));
            scaled = v_add(scaled, p[b]);
        }
        store_steps(t, row, p, v_sum(scaled));
    }
}

/* ---- output --------------------------------------------------------------------------------------- */

V_FN const char *bytes_at(const attn_decode_tile *t, size_t block, size_t four, size_t column) {
    return (const char *)t->v[block] + (ptrdiff_t)(4 * four) * t->v_row + 4 * column;
}

/* Some rows by some vectors of columns. */
V_FN void sums_of(const int rows, const int vectors, const attn_decode_tile *t, size_t row, size_t column,
                  const step_bytes *n) {
    __m512i sum[ROWS][8];
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        ATTN_UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = _mm512_setzero_si512();
        for (size_t i = 0; i < n[r].listed; i++) {
            const size_t number = (size_t)n[r].four[i];
            const char *v = bytes_at(t, number % BLOCKS, number / BLOCKS, column);
            const __m512i x = four_at(n[r].high + i);
            ATTN_UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = dot_at(sum[r][j], x, v + 64 * j);
        }
        ATTN_UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = _mm512_slli_epi32(sum[r][j], 8);
    }
    for (size_t b = t->first; b < t->end; b++) {
        const char *v = bytes_at(t, b, 0, column), *next = row == 0 ? (const char *)t->next_v[b] + 4 * column : v;
        const int32_t *low = n->low + b;
        _Pragma("GCC unroll 1") for (size_t i = 0; i < FOURS;
                                     i++, v += 4 * t->v_row, next += 4 * t->v_row, low += BLOCKS) {
            __m512i value[8];
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                value[j] = _mm512_loadu_si512(v + 64 * j);
                _mm_prefetch(next + 64 * j, _MM_HINT_T1);
            }
            ATTN_UNROLL for (int r = 0; r < rows; r++) {
                const __m512i x = four_at(low + (size_t)r * (sizeof *n / sizeof *low));
                ATTN_UNROLL for (int j = 0; j < vectors; j++) sum[r][j] = dot(sum[r][j], x, value[j]);
            }
        }
    }
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        float *to = t->o + (ptrdiff_t)(row + (size_t)r) * t->o_row + column;
        const __m512 rescale = _mm512_set1_ps(t->rescale[row + (size_t)r]),
                     step = _mm512_set1_ps(t->step[row + (size_t)r]);
        ATTN_UNROLL for (int j = 0; j < vectors; j++) {
            const __m512 old = _mm512_mul_ps(_mm512_loadu_ps(to + 16 * j), rescale);
            _mm512_storeu_ps(to + 16 * j, _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][j]), step, old));
        }
    }
}

V_FN void sums_rows(const int rows, const attn_decode_tile *t, size_t row) {
    const step_bytes *n = (const step_bytes *)t->steps + row;
    size_t column = 0;
    if (rows == 1)
        for (; column + 128 <= t->dv; column += 128) sums_of(rows, 8, t, row, column, n);
    for (; column + 64 <= t->dv; column += 64) sums_of(rows, 4, t, row, column, n);
    for (; column < t->dv; column += 16) sums_of(rows, 1, t, row, column, n);
}

void attn_vnni_mix_i8(const attn_decode_tile *t) {
    for (size_t left = t->rows, groups = (left + ROWS - 1) / ROWS; left > 0; groups--) {
        const size_t rows = (left + groups - 1) / groups, row = t->rows - left;
        switch (rows) {
        case 1: sums_rows(1, t, row); break;
        case 2: sums_rows(2, t, row); break;
        case 3: sums_rows(3, t, row); break;
        default: sums_rows(4, t, row);
        }
        left -= rows;
    }
}
