/* decode.h: attention for few queries: lanes are keys, rows are queries.
 *
 *     scores   s[row][key] = Σ_d q[row][d] · k[d][key]         blocks of 16 keys, or rows that are turned
 *     output   o[row][c]  (+)= Σ_key p[row][key] · v[key][c]
 *
 * Every number is made by the operations of body/attention.h in their order, so a row's bits are those of the path
 * where lanes are queries: a score is chains of ATTN_CHAIN along D, added in order; the sum of weights and each output
 * are one chain for each tile, in the order of keys. */
#ifndef ATTN_KERNEL_BODY_DECODE_H
#define ATTN_KERNEL_BODY_DECODE_H

#include "kernel/body/attention.h"
#include "kernel/decode.h"
#ifdef ATTN_TILES_HEADER
#include "kernel/body/tiles_decode.h"
#endif

enum {
    KEY_VECTORS = ATTN_KEYS / V_LANES,
    DECODE_CHAINS = V_PRODUCT_ROWS * V_PRODUCT_VECTORS, /* accumulators that fit into the registers */
    DECODE_FIT = DECODE_CHAINS / KEY_VECTORS,
    DECODE_ROWS = DECODE_FIT < 1   ? 1
                  : DECODE_FIT > 8 ? 8
                                   : DECODE_FIT, /* rows of a micro-kernel, at most */
};

/* ---- scores --------------------------------------------------------------------------------------- */

/* How keys or values lie, and what is made of them. SPLIT, PAIRS: two bf16 to a float's place, taken apart, or
 * multiplied as pairs; ZIP: such pairs, of rows that lie one after the other. */
enum lay { LAY_F32, LAY_F16, LAY_BF16, LAY_SPLIT, LAY_PAIRS, LAY_ZIP };
V_FN bool in_pairs(const enum lay lay) { return lay == LAY_PAIRS || lay == LAY_ZIP; }

/* Rows that are done at once: fewer of kinds that are rare, or slow anyway, as each number of them is code of its own.
 */
V_FN size_t most_rows(const enum lay lay) {
    if (in_pairs(lay) && !V_FAST_BF16) return 1;
    return lay == LAY_F32 || in_pairs(lay) || DECODE_ROWS < 4 ? DECODE_ROWS : 4;
}
/* call(n) with a constant for the number of rows, at most `most`, which is constant. */
#define WITH_ROWS(most, rows, call)                           \
    switch (most < 2 ? 1 : most < 5 && rows > 3 ? 4 : rows) { \
    case 1: call(1); break;                                   \
    case 2: call(2); break;                                   \
    case 3: call(3); break;                                   \
    case 4: call(4); break;                                   \
    case 5: WITH_MANY(most, 5, call);                         \
    case 6: WITH_MANY(most, 6, call);                         \
    case 7: WITH_MANY(most, 7, call);                         \
    default: WITH_MANY(most, 8, call);                        \
    }
#define WITH_MANY(most, n, call) \
    if (most >= n) call(n);      \
    break

/* A vector of a term, from a lane on; SPLIT: its lower halves, or from 2 bytes further its upper ones. */
V_FN V load_key(const enum lay lay, const void *k, size_t term, size_t lane) {
    if (lay == LAY_F16) return v_load_f16((const uint16_t *)k + term * ATTN_KEYS + lane);
    if (lay == LAY_SPLIT)
        return v_low_bf16(v_load((const void *)((const uint16_t *)k + term / 2 * 2 * ATTN_KEYS + 2 * lane + term % 2)));
    return v_load((const float *)k + term * ATTN_KEYS + lane);
}
V_FN V multiply_add(const enum lay lay, V a, V b, V c) { return in_pairs(lay) ? v_dot_bf16(a, b, c) : v_fma(a, b, c); }

/* Bytes `at` … at + bytes − 1 are fetched, so that they are in L2 when the next tile begins: streams through memory end
 * at every page for a processor that guesses them, and at every change from keys to values. */
V_FN void fetch(const void *p, size_t at, size_t bytes) {
    ATTN_UNROLL for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)p + at + i, 0, 2);
}
V_FN size_t element_bytes(const enum lay lay) { return lay == LAY_F32 || lay == LAY_PAIRS ? 4 : 2; }

/* Some rows by some blocks. Always inlined with constant lay, rows and blocks. */
V_FN void scores_of(const enum lay lay, const int rows, const int blocks, const void *const *k, const void *const *next,
                    size_t terms, const float *q, ptrdiff_t q_row, float *s) {
    for (size_t first = 0; first < terms; first += ATTN_CHAIN) {
        const size_t end = terms - first < ATTN_CHAIN ? terms : first + ATTN_CHAIN;
        V chain[8][ATTN_TILE / V_LANES];
        ATTN_UNROLL for (int r = 0; r < rows; r++) {
            ATTN_UNROLL for (int j = 0; j < blocks * KEY_VECTORS; j++) chain[r][j] = v_zero();
        }
        for (size_t i = first; i < end; i++) {
            V key[ATTN_TILE / V_LANES];
            ATTN_UNROLL for (int j = 0; j < blocks * KEY_VECTORS; j++) {
                key[j] = load_key(lay, k[j / KEY_VECTORS], i, (size_t)(j % KEY_VECTORS * V_LANES));
            }
            if (i * element_bytes(lay) % 4 == 0) {
                ATTN_UNROLL for (int b = 0; b < blocks; b++) fetch(next[b], i * element_bytes(lay) * ATTN_KEYS, 64);
            }
            ATTN_UNROLL for (int r = 0; r < rows; r++) {
                const V x = v_set(q[r * q_row + (ptrdiff_t)i]);
                ATTN_UNROLL for (int j = 0; j < blocks * KEY_VECTORS; j++) chain[r][j] =
                    multiply_add(lay, key[j], x, chain[r][j]);
            }
        }
        ATTN_UNROLL for (int r = 0; r < rows; r++) {
            ATTN_UNROLL for (int j = 0; j < blocks * KEY_VECTORS; j++) {
                float *to = s + r * ATTN_TILE + j * V_LANES;
                v_store(to, first > 0 ? v_add(v_load(to), chain[r][j]) : chain[r][j]);
            }
        }
    }
}

/* All `blocks` of them, as many at a time as the registers hold beside `rows`. */
V_FN void scores_rows(const enum lay lay, const int rows, const void *const *k, const void *const *next, size_t blocks,
                      size_t terms, const float *q, ptrdiff_t q_row, float *s) {
    size_t b = 0;
    if (rows * 4 * KEY_VECTORS <= DECODE_CHAINS)
        for (; b + 4 <= blocks; b += 4) scores_of(lay, rows, 4, k + b, next + b, terms, q, q_row, s + b * ATTN_KEYS);
    if (rows * 2 * KEY_VECTORS <= DECODE_CHAINS)
        for (; b + 2 <= blocks; b += 2) scores_of(lay, rows, 2, k + b, next + b, terms, q, q_row, s + b * ATTN_KEYS);
    for (; b < blocks; b++) scores_of(lay, rows, 1, k + b, next + b, terms, q, q_row, s + b * ATTN_KEYS);
}

V_FN void scores_blocks(const enum lay lay, const attn_decode_tile *t, const void *const *k, size_t first,
                        size_t blocks) {
    const size_t terms = lay == LAY_PAIRS ? (t->d + 1) / 2 : t->d, most = most_rows(lay);
    const void *const *next = t->next_k + first;
    const float *q = t->q;
    float *s = t->s + first * ATTN_KEYS;
    for (size_t left = t->rows, groups = (left + most - 1) / most; left > 0; groups--) {
        const size_t rows = (left + groups - 1) / groups;
#define SCORES(n) scores_rows(lay, n, k, next, blocks, terms, q, t->q_row, s)
        WITH_ROWS(most, rows, SCORES)
#undef SCORES
        left -= rows, q += (ptrdiff_t)rows * t->q_row, s += rows * ATTN_TILE, next = k;
    }
}
static void scores_f32(const attn_decode_tile *t, const void *const *k, size_t first, size_t blocks) {
    scores_blocks(LAY_F32, t, k, first, blocks);
}
static void scores_f16(const attn_decode_tile *t, const void *const *k, size_t first, size_t blocks) {
    scores_blocks(LAY_F16, t, k, first, blocks);
}
static void scores_split(const attn_decode_tile *t, const void *const *k, size_t first, size_t blocks) {
    scores_blocks(LAY_SPLIT, t, k, first, blocks);
}
#ifndef ATTN_TILES_HEADER
static void scores_pairs(const attn_decode_tile *t, const void *const *k, size_t first, size_t blocks) {
    scores_blocks(LAY_PAIRS, t, k, first, blocks);
}
#endif

/* ---- scores of keys that lie in rows ----------------------------------------------------------------- */

/* n columns of a row: of keys, or of values, where they lie as rows; SPLIT: of the lower halves. */
V_FN V load_row(const enum lay lay, const void *row, size_t column, size_t n) {
    switch (lay) {
    case LAY_SPLIT: return v_low_bf16(part_load((const void *)((const uint16_t *)row + 2 * column), n));
    case LAY_F16: return load_any(ATTN_F16, row, column, n);
    case LAY_BF16: return load_any(ATTN_BF16, row, column, n);
    default: return part_load((const float *)row + column, n);
    }
}

/* The keys of the blocks first … end−1, as rows of whole steps of V_TURNED floats, or pairs. Past the last one it
 * stands again: nobody sees its scores. True if they are copies: widened, or filled up with zeros. */
V_FN bool key_rows(const void **rows, const bool pairs, const attn_decode_tile *t, size_t first, size_t end) {
    const size_t element = t->dtype == ATTN_F32 ? 4 : 2, count = (end - first) * ATTN_KEYS;
    for (size_t j = 0; j < count; j++) {
        const size_t key = first * ATTN_KEYS + j, seen = key < t->keys ? key : t->keys - 1;
        rows[j] = (const char *)t->k[first + j / ATTN_KEYS] + (ptrdiff_t)(seen % ATTN_KEYS * element) * t->k_row;
    }
    const size_t terms = pairs ? (t->d + 1) / 2 : t->d, whole = (terms + V_TURNED - 1) / V_TURNED * V_TURNED;
    if (terms == whole && (pairs ? t->d % 2 == 0 && t->k_row % 2 == 0 : element == 4)) return false;
    for (size_t j = 0; j < count; j++) {
        float *copy = t->padded + j * t->padded_row;
        memset(copy, 0, whole * sizeof *copy);
        if (pairs) memcpy(copy, rows[j], t->d * element);
        else attention_copy(copy, 0, rows[j], t->dtype, 0, 1, t->d, false);
        rows[j] = copy;
    }
    return true;
}

/* Those beside which the registers hold keys that are being turned. */
V_FN size_t most_turned(const enum lay lay) {
    return DECODE_CHAINS / 3 < most_rows(lay) ? DECODE_CHAINS / 3 : most_rows(lay);
}

/* A line of each row of a vector of keys of the next tile. */
V_FN void fetch_rows(const void *const *keys, ptrdiff_t ahead, size_t at) {
    ATTN_UNROLL for (int i = 0; i < V_LANES; i++) fetch((const char *)keys[i] + ahead, at, 64);
}

/* Some rows by some vectors of keys; while one is turned, the chains of the other wait. ahead: from a key to that of
 * the next tile, 0: it is not fetched. Always inlined with constant lay, rows and vectors. */
V_FN void scores_turned(const enum lay lay, const int rows, const int vectors, const void *const *keys,
                        const ptrdiff_t *ahead, size_t terms, const float *q, ptrdiff_t q_row, float *s) {
    for (size_t first = 0; first < terms; first += ATTN_CHAIN) {
        const size_t end = terms - first < ATTN_CHAIN ? terms : first + ATTN_CHAIN;
        V chain[8][2], key[V_TURNED];
        ATTN_UNROLL for (int r = 0; r < rows; r++) chain[r][0] = chain[r][1] = v_zero();
        for (size_t at = first; at < end; at += V_TURNED) { /* what lies past the end is 0 */
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                if (ahead[j] != 0 && at * sizeof(float) % 64 == 0)
                    fetch_rows(keys + j * V_LANES, ahead[j], at * sizeof(float));
                v_load_turned(key, keys + j * V_LANES, at);
                ATTN_UNROLL for (int i = 0; i < V_TURNED; i++) {
                    ATTN_UNROLL for (int r = 0; r < rows; r++) chain[r][j] =
                        multiply_add(lay, key[i], v_set(q[r * q_row + (ptrdiff_t)at + i]), chain[r][j]);
                }
            }
        }
        ATTN_UNROLL for (int r = 0; r < rows; r++) {
            ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                float *to = s + r * ATTN_TILE + j * V_LANES;
                v_store(to, first > 0 ? v_add(v_load(to), chain[r][j]) : chain[r][j]);
            }
        }
    }
}

/* All vectors of keys. */
V_FN void turned_rows_by(const enum lay lay, const int rows, const attn_decode_tile *t, const void *const *keys,
                         const ptrdiff_t *ahead, size_t row) {
    const size_t terms = lay == LAY_PAIRS ? (t->d + 1) / 2 : t->d, vectors = (t->end - t->first) * KEY_VECTORS;
    const float *q = t->q + (ptrdiff_t)row * t->q_row;
    float *s = t->s + row * ATTN_TILE + t->first * ATTN_KEYS;
    size_t j = 0;
    if (rows <= 2) /* one would wait for its chains */
        for (; j + 2 <= vectors; j += 2)
            scores_turned(lay, rows, 2, keys + j * V_LANES, ahead + j, terms, q, t->q_row, s + j * V_LANES);
    for (; j < vectors; j++)
        scores_turned(lay, rows, 1, keys + j * V_LANES, ahead + j, terms, q, t->q_row, s + j * V_LANES);
}

V_FN void scores_of_rows(const enum lay lay, const attn_decode_tile *t) {
    const void *keys[ATTN_TILE];
    ptrdiff_t ahead[ATTN_TILE_BLOCKS * KEY_VECTORS];
    const bool copied = key_rows(keys, lay == LAY_PAIRS, t, t->first, t->end);
    for (size_t j = 0; j < (t->end - t->first) * KEY_VECTORS; j++) {
        const size_t block = t->first + j / KEY_VECTORS;
        ahead[j] = copied ? 0 : (const char *)t->next_k[block] - (const char *)t->k[block];
    }
    const size_t most = most_turned(lay);
    for (size_t row = 0, groups = (t->rows + most - 1) / most; row < t->rows; groups--) {
        const size_t rows = (t->rows - row + groups - 1) / groups;
#define SCORES(n) turned_rows_by(lay, n, t, keys, ahead, row)
        WITH_ROWS(most, rows, SCORES)
#undef SCORES
        row += rows;
        memset(ahead, 0, sizeof ahead);
    }
}
static void scores_of_rows_f32(const attn_decode_tile *t) { scores_of_rows(LAY_F32, t); }
#ifndef ATTN_TILES_HEADER
static void scores_of_rows_pairs(const attn_decode_tile *t) { scores_of_rows(LAY_PAIRS, t); }
#else
/* By tiles: two blocks at a time are turned into scratch first. */
static void scores_of_rows_pairs(const attn_decode_tile *t) {
    for (size_t b = t->first; b < t->end; b += 2) {
        const size_t blocks = t->end - b < 2 ? 1 : 2;
        const void *k[2] = {t->packed, t->packed + t->d * ATTN_KEYS}, *rows[2 * ATTN_KEYS];
        key_rows(rows, true, t, b, b + blocks);
        for (size_t i = 0; i < blocks * ATTN_KEYS; i++) {
            const char *next = t->next_k[b + i / ATTN_KEYS];
            for (size_t at = 0; at < 2 * t->d; at += 64)
                fetch(next + (ptrdiff_t)(i % ATTN_KEYS * 2) * t->k_row, at, 64);
        }
        for (size_t i = 0; i < blocks; i++)
            attention_pack(t->packed + i * t->d * ATTN_KEYS, ATTN_KEYS, rows + i * ATTN_KEYS, ATTN_F32, (t->d + 1) / 2);
        scores_pairs(t, k, b, blocks);
    }
}
#endif

/* s[row][key] of the blocks first … end−1. */
static void decode_scores(const attn_decode_tile *t) {
    const void *const *k = t->k + t->first;
    const size_t blocks = t->end - t->first;
    if (t->in_rows) scores_of_rows_f32(t);
    else if (t->dtype == ATTN_BF16) scores_split(t, k, t->first, blocks);
    else if (t->dtype == ATTN_F16) scores_f16(t, k, t->first, blocks);
    else scores_f32(t, k, t->first, blocks);
}

/* The same by products of pairs. */
static void decode_scores_bf16(const attn_decode_tile *t) {
    if (t->in_rows) scores_of_rows_pairs(t);
    else scores_pairs(t, t->k + t->first, t->first, t->end - t->first);
}

/* ---- softmax -------------------------------------------------------------------------------------- */

/* attention_softmax for one row; the sum of weights is left to the caller. top: the greatest score. The row's maximum
 * and rescale follow, and what is to be added to scores times the factor is returned. */
static __attribute__((noinline)) float softmax_raise(const attn_decode_tile *t, size_t row, float most) { /* rare */
    float higher[V_LANES], rescale[V_LANES];
    v_store(higher, v_ceil(v_set(most)));
    v_store(rescale, v_exp2(v_sub(v_set(t->max[row]), v_load(higher))));
    t->rescale[row] = rescale[0], t->max[row] = higher[0];
    return -higher[0];
}
V_FN float softmax_down(const attn_decode_tile *t, size_t row, float top) {
    const float most = top * t->factor, max = t->max[row];
    if (most > max + LAZY_MAX) return softmax_raise(t, row, most);
    t->rescale[row] = 1.0f;
    return max > -__builtin_inff() ? -max : -0.0f;
}
V_FN void softmax_keys(const bool masked, const bool fast, const attn_decode_tile *t, size_t row) {
    const V empty = v_set(-__builtin_inff()), c = v_set(t->factor);
    const uint64_t visible = t->visible[row];
    float *s = t->s + row * ATTN_TILE;
    const size_t first = t->first * ATTN_KEYS, end = t->end * ATTN_KEYS;
    V top = empty;
    for (size_t j = first; j < end; j += V_LANES) {
        V a = v_load(s + j);
        if (masked) a = v_select(v_of_bits((uint32_t)(visible >> j)), a, empty);
        top = v_max(a, top);
    }
    const V down = v_set(softmax_down(t, row, v_max_of(top)));
    for (size_t j = first; j < end; j += V_LANES) {
        const V below = v_fma(v_load(s + j), c, down);
        V p = fast ? v_exp2_bf16(below) : v_exp2(below);
        if (masked) p = v_and_mask(v_of_bits((uint32_t)(visible >> j)), p);
        v_store(s + j, p);
    }
}

/* The chains of some rows side by side, as each waits for its last addition. */
V_FN void sum_weights(const size_t rows, const attn_decode_tile *t, size_t row) {
    const float *p = t->s + row * ATTN_TILE;
    float chain[4] = {0};
    for (size_t j = t->from; j < t->to; j++) {
        ATTN_UNROLL for (size_t r = 0; r < rows; r++) chain[r] += p[r * ATTN_TILE + j];
    }
    for (size_t r = 0; r < rows; r++) t->sum[row + r] = t->sum[row + r] * t->rescale[row + r] + chain[r];
}

/* Weights as bf16: pairs[row][i] is keys 2i and 2i+1. */
static void decode_pairs(const attn_decode_tile *t) {
    for (size_t r = 0; r < t->rows; r++)
        for (size_t j = t->first * ATTN_KEYS; j < t->end * ATTN_KEYS; j += V_LANES)
            v_store_bf16((uint16_t *)(t->pairs + r * (ATTN_TILE / 2)) + j, v_load(t->s + r * ATTN_TILE + j));
}

/* rounded = rounded · rescale + one chain over the pairs of weights. */
V_FN void sum_pairs(const size_t rows, const attn_decode_tile *t, size_t row) {
    const V ones = v_pair_bf16(v_set(1.0f), v_set(1.0f));
    const float *pairs = t->pairs + row * (ATTN_TILE / 2);
    V chain[4];
    ATTN_UNROLL for (size_t r = 0; r < rows; r++) chain[r] = v_zero();
    for (size_t i = t->from / 2; i < (t->to + 1) / 2; i++) {
        ATTN_UNROLL for (size_t r = 0; r < rows; r++) {
            chain[r] = v_dot_bf16(v_set(pairs[r * (ATTN_TILE / 2) + i]), ones, chain[r]);
        }
    }
    ATTN_UNROLL for (size_t r = 0; r < rows; r++) {
        float *to = t->o + (ptrdiff_t)(row + r) * t->o_row + t->rounded;
        v_store(to, v_fma(v_load(to), v_set(t->rescale[row + r]), chain[r]));
    }
}

/* Scores become weights. o is to be multiplied by rescale. */
V_FN void softmax_rows(const bool fast, const attn_decode_tile *t) {
    const size_t first = t->first * ATTN_KEYS, keys = t->end * ATTN_KEYS - first;
    const uint64_t all = (keys == 64 ? UINT64_MAX : ((uint64_t)1 << keys) - 1) << first;
    for (size_t row = 0; row < t->rows; row++) {
        const bool masked = t->visible[row] != all;
        masked ? softmax_keys(true, fast, t, row) : softmax_keys(false, fast, t, row);
    }
}
static void decode_softmax(const attn_decode_tile *t) { softmax_rows(false, t); }
static void decode_softmax_bf16(const attn_decode_tile *t) {
    softmax_rows(true, t);
    decode_pairs(t);
}

/* sum = sum · rescale + one chain over the weights. */
static void decode_sums(const attn_decode_tile *t) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) sum_weights(4, t, row);
    for (; row < t->rows; row++) sum_weights(1, t, row);
}
/* And that of the weights as they are rounded. Without `exact` it is the only one. */
static void decode_sums_bf16(const attn_decode_tile *t) {
    size_t row = 0;
    for (; row + 4 <= t->rows; row += 4) sum_pairs(4, t, row);
    for (; row < t->rows; row++) sum_pairs(1, t, row);
    if (t->exact) decode_sums(t);
    else
        for (row = 0; row < t->rows; row++) t->sum[row] = t->o[(ptrdiff_t)row * t->o_row + (ptrdiff_t)t->rounded];
}

/* ---- output --------------------------------------------------------------------------------------- */

/* A term is a key; PAIRS: two keys. SPLIT: terms 2i and 2i+1 are the halves of one row. */
V_FN const char *value_row(const enum lay lay, const attn_decode_tile *t, size_t term) {
    const size_t key = in_pairs(lay) ? 2 * term : term, in_block = key % ATTN_KEYS;
    const char *block = t->v[key / ATTN_KEYS];
    if (lay == LAY_PAIRS) return block + (ptrdiff_t)(in_block / 2 * sizeof(float)) * t->v_row;
    if (lay == LAY_SPLIT) return block + (ptrdiff_t)(in_block / 2 * sizeof(float)) * t->v_row + in_block % 2 * 2;
    return block + (ptrdiff_t)in_block * t->v_row * (lay == LAY_F32 ? 4 : 2);
}

/* What o becomes at the end of a tile. */
V_FN V scale_add(V o, V rescale, V chain) { return v_add(v_mul(o, rescale), chain); }

V_FN V zip_of(const uint16_t *a, const uint16_t *b, size_t n) {
    return v_pair_bf16(load_any(ATTN_BF16, a, 0, n), load_any(ATTN_BF16, b, 0, n));
}
/* Vectors of columns of a term's values. ZIP: `upper` is the other row of the pair. */
V_FN void load_values(V *value, const enum lay lay, const int vectors, const char *from, const char *upper,
                      size_t column, size_t n) {
    if (lay != LAY_ZIP) {
        ATTN_UNROLL for (int j = 0; j < vectors; j++) value[j] =
            load_row(lay, from, column + (size_t)(j * V_LANES), j + 1 < vectors ? V_LANES : n);
        return;
    }
    const uint16_t *a = (const uint16_t *)(const void *)from + column,
                   *b = (const uint16_t *)(const void *)upper + column;
    ATTN_UNROLL for (int j = 0; j + 1 < vectors; j += 2) {
        if (j + 2 < vectors || n == V_LANES) v_zip_bf16(value + j, a + j * V_LANES, b + j * V_LANES);
        else {
            value[j] = zip_of(a + j * V_LANES, b + j * V_LANES, V_LANES);
            value[j + 1] = zip_of(a + (j + 1) * V_LANES, b + (j + 1) * V_LANES, n);
        }
    }
    if (vectors % 2) value[vectors - 1] = zip_of(a + (vectors - 1) * V_LANES, b + (vectors - 1) * V_LANES, n);
}

/* Some rows by some vectors of columns; n: columns of the last vector. sums: the weights' too, as of a column of ones.
 */
V_FN void mix_of(const enum lay lay, const bool sums, const int rows, const int vectors, const attn_decode_tile *t,
                 size_t row, size_t column, size_t n) {
    const bool pairs = in_pairs(lay);
    const float *p = pairs ? t->pairs + row * (ATTN_TILE / 2) : t->s + row * ATTN_TILE;
    const size_t p_row = pairs ? ATTN_TILE / 2 : ATTN_TILE, in_block = pairs ? ATTN_KEYS / 2 : ATTN_KEYS;
    size_t term = pairs ? t->from / 2 : t->from;
    const size_t all = pairs ? (t->to + 1) / 2 : t->to;
    const size_t width = lay == LAY_SPLIT ? 4 : element_bytes(lay); /* bytes of a column */
    const V ones = v_pair_bf16(v_set(1.0f), v_set(1.0f));
    V chain[8][8], sum[8];
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        sum[r] = v_zero();
        ATTN_UNROLL for (int j = 0; j < vectors; j++) chain[r][j] = v_zero();
    }
    while (term < all) {
        const size_t block_end = (term / in_block + 1) * in_block, end = block_end < all ? block_end : all;
        const char *v = value_row(lay, t, term), *next = t->next_v[term / in_block], *now = t->v[term / in_block];
        const ptrdiff_t step = t->v_row * (ptrdiff_t)(lay == LAY_ZIP ? 4 : element_bytes(lay));
        const ptrdiff_t ahead = row > 0 ? 0 : next - now;
        for (; term < end; term++, v += step) {
            const char *from = lay == LAY_SPLIT ? value_row(lay, t, term) : v, *upper = v;
            if (lay == LAY_ZIP) upper = 2 * term + 1 < t->keys ? v + step / 2 : (const char *)t->zeros;
            V value[8];
            if (lay != LAY_SPLIT || term % 2 == 0)
                fetch(v + ahead, column * width, (size_t)(vectors * V_LANES) * width);
            if (lay == LAY_ZIP) fetch(v + step / 2 + ahead, column * width, (size_t)(vectors * V_LANES) * width);
            load_values(value, lay, vectors, from, upper, column, n);
            ATTN_UNROLL for (int r = 0; r < rows; r++) {
                const V x = v_set(p[(size_t)r * p_row + term]);
                ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                    chain[r][j] = multiply_add(lay, value[j], x, chain[r][j]);
                }
                if (sums) sum[r] = pairs ? v_dot_bf16(x, ones, sum[r]) : v_add(sum[r], x);
            }
        }
    }
    ATTN_UNROLL for (int r = 0; r < rows; r++) {
        float *to = t->o + (ptrdiff_t)(row + (size_t)r) * t->o_row + column;
        const V rescale = v_set(t->rescale[row + (size_t)r]);
        ATTN_UNROLL for (int j = 0; j < vectors; j++) {
            v_store(to + j * V_LANES, scale_add(v_load(to + j * V_LANES), rescale, chain[r][j]));
        }
        if (!sums) continue;
        float lane[V_LANES], *total = t->sum + row + (size_t)r, *rounded = to - column + t->rounded;
        if (pairs) {
            v_store(rounded, v_fma(v_load(rounded), rescale, sum[r]));
            if (!t->exact) *total = *rounded;
        } else {
            v_store(lane, sum[r]);
            *total = *total * t->rescale[row + (size_t)r] + lane[0];
        }
    }
}
/* Whether the registers hold the sums beside so much, DECODE_CHAINS being three quarters of them. */
V_FN bool sums_fit(const int rows, const int vectors) { return 3 * (rows + 1) * (vectors + 1) <= 4 * DECODE_CHAINS; }
V_FN bool sums_beside(const enum lay lay, const attn_decode_tile *t) {
    return (lay == LAY_F32 || in_pairs(lay)) && !t->summed && t->dv >= 4 * V_LANES;
}

/* All columns of some rows, as many vectors at a time as the registers hold. */
V_FN void mix_rows(const enum lay lay, const int rows, const attn_decode_tile *t, size_t row) {
    size_t column = 0;
    if (sums_beside(lay, t)) {
        if (sums_fit(rows, 8) && t->dv >= 8 * V_LANES) {
            mix_of(lay, true, rows, 8, t, row, 0, V_LANES);
            column = 8 * V_LANES;
        } else if (sums_fit(rows, 4)) {
            mix_of(lay, true, rows, 4, t, row, 0, V_LANES);
            column = 4 * V_LANES;
        } else {
            mix_of(lay, true, rows, 2, t, row, 0, V_LANES);
            column = 2 * V_LANES;
        }
    }
    if (rows * 8 <= DECODE_CHAINS)
        for (; column + 8 * V_LANES <= t->dv; column += 8 * V_LANES)
            mix_of(lay, false, rows, 8, t, row, column, V_LANES);
    if (rows * 4 <= DECODE_CHAINS)
        for (; column + 4 * V_LANES <= t->dv; column += 4 * V_LANES)
            mix_of(lay, false, rows, 4, t, row, column, V_LANES);
    if (rows * 4 > DECODE_CHAINS)
        for (; column + 2 * V_LANES <= t->dv; column += 2 * V_LANES)
            mix_of(lay, false, rows, 2, t, row, column, V_LANES);
    for (; column + V_LANES <= t->dv; column += V_LANES) mix_of(lay, false, rows, 1, t, row, column, V_LANES);
    if (column < t->dv) mix_of(lay, false, rows, 1, t, row, column, t->dv - column);
}

V_FN void mix_all(const enum lay lay, const attn_decode_tile *t) {
    size_t row = 0;
    const size_t most = most_rows(lay);
    if (!t->summed && !sums_beside(lay, t)) in_pairs(lay) ? decode_sums_bf16(t) : decode_sums(t);
    else if (in_pairs(lay) && !t->summed && t->exact) decode_sums(t);
    for (size_t groups = (t->rows + most - 1) / most; row < t->rows; groups--) {
        const size_t rows = (t->rows - row + groups - 1) / groups;
#define MIX(n) mix_rows(lay, n, t, row)
        WITH_ROWS(most, rows, MIX)
#undef MIX
        row += rows;
    }
}
static void mix_f32(const attn_decode_tile *t) { mix_all(LAY_F32, t); }
static void mix_f16(const attn_decode_tile *t) { mix_all(LAY_F16, t); }
static void mix_bf16(const attn_decode_tile *t) { mix_all(LAY_BF16, t); }
static void mix_split(const attn_decode_tile *t) { mix_all(LAY_SPLIT, t); }
#ifndef ATTN_TILES_HEADER
static void mix_pairs(const attn_decode_tile *t) { mix_all(LAY_PAIRS, t); }
static void mix_zip(const attn_decode_tile *t) { mix_all(LAY_ZIP, t); }
#endif

/* o = o · rescale + one chain over the keys from … to−1, and decode_sums where that is to be done. */
static void decode_mix(const attn_decode_tile *t) {
    if (t->dtype == ATTN_BF16) t->paired ? mix_split(t) : mix_bf16(t);
    else t->dtype == ATTN_F16 ? mix_f16(t) : mix_f32(t);
}

/* The same for one row, over the keys it sees alone, since others may hold a NaN. */
V_FN void mix_seen(const enum lay lay, const attn_decode_tile *t, size_t row, size_t column, size_t n) {
    V chain = v_zero();
    for (uint64_t word = t->visible[row]; word;) {
        const size_t key = (size_t)__builtin_ctzll(word);
        if (!in_pairs(lay)) {
            const V p = v_set(t->s[row * ATTN_TILE + key]);
            chain = v_fma(load_row(lay, value_row(lay, t, key), column, n), p, chain);
            word &= word - 1;
            continue;
        }
        const char *v = value_row(lay, t, key / 2), *upper = v + (lay == LAY_ZIP ? 2 * t->v_row : 2);
        const enum lay half = lay == LAY_ZIP ? LAY_BF16 : LAY_SPLIT;
        const uint64_t both = word >> (key & ~(size_t)1) & 3;
        const V low = both & 1 ? load_row(half, v, column, n) : v_zero(),
                high = both & 2 ? load_row(half, upper, column, n) : v_zero();
        chain = v_dot_bf16(v_pair_bf16(low, high), v_set(t->pairs[row * (ATTN_TILE / 2) + key / 2]), chain);
        word &= ~((uint64_t)3 << (key & ~(size_t)1));
    }
    float *to = t->o + (ptrdiff_t)row * t->o_row + column;
    v_store(to, scale_add(v_load(to), v_set(t->rescale[row]), chain));
}
static void decode_mix_row(const attn_decode_tile *t, size_t row) {
    for (size_t column = 0; column < t->dv; column += V_LANES) {
        const size_t n = t->dv - column < V_LANES ? t->dv - column : V_LANES;
        if (t->dtype == ATTN_BF16 && t->paired) mix_seen(LAY_SPLIT, t, row, column, n);
        else if (t->dtype == ATTN_BF16) mix_seen(LAY_BF16, t, row, column, n);
        else if (t->dtype == ATTN_F16) mix_seen(LAY_F16, t, row, column, n);
        else mix_seen(LAY_F32, t, row, column, n);
    }
}

/* Both by products of pairs. */
static void decode_mix_bf16(const attn_decode_tile *t) {
#ifdef ATTN_TILES_HEADER
    if (!t->summed) decode_sums_bf16(t);
#endif
#ifndef ATTN_TILES_HEADER
    if (!t->paired) {
        mix_zip(t);
        return;
    }
#endif
    mix_pairs(t);
}
static void decode_mix_row_bf16(const attn_decode_tile *t, size_t row) {
#ifdef ATTN_TILES_HEADER
    mix_pairs_seen(t, row);
#else
    for (size_t column = 0; column < t->dv; column += V_LANES) {
        const size_t n = t->dv - column < V_LANES ? t->dv - column : V_LANES;
        t->paired ? mix_seen(LAY_PAIRS, t, row, column, n) : mix_seen(LAY_ZIP, t, row, column, n);
    }
#endif
}

/* attention_merge with queries as rows; columns in whole vectors. */
static void decode_merge(float *total, float *total_max, float *total_sum, const float *part, const float *max,
                         const float *sum, size_t rows, size_t columns) {
    const V empty = v_set(-__builtin_inff());
    for (size_t r = 0; r < rows; r++) {
        const V a = v_set(total_max[r]), b = v_set(max[r]), m = v_max(a, b);
        const VM seen = v_gt(m, empty);
        const V f = v_and_mask(seen, v_exp2(v_sub(a, m))), g = v_and_mask(seen, v_exp2(v_sub(b, m)));
        float lane[V_LANES];
        v_store(lane, m);
        total_max[r] = lane[0];
        v_store(lane, v_fma(v_set(total_sum[r]), f, v_mul(v_set(sum[r]), g)));
        total_sum[r] = lane[0];
        for (size_t j = 0; j < columns; j += V_LANES) {
            float *to = total + r * columns + j;
            v_store(to, v_fma(v_load(to), f, v_mul(v_load(part + r * columns + j), g)));
        }
    }
}

#endif
