/* attention.h: the pieces of scaled dot-product attention for one block of queries and one tile of keys.
 *
 * Lanes are queries. A block holds up to V_BLOCK_VECTORS vectors of them; what belongs to it is stored [row][lane] with
 * `lanes` floats to a row: Qᵀ [D][lanes], scores and weights [key][lanes], Oᵀ [Dv][lanes]. So maximum, sum, rescaling
 * and masks are lane-wise, K and V are read as they lie, and every product is the same micro-kernel:
 *
 *     C[row][lane] (+)= Σ_term A[row][term] · B[term][lane]          A broadcast, B and C whole vectors
 *
 *     scores   A = K, B = Qᵀ            output   A = Vᵀ, B = P             (forward)
 *     dP       A = V, B = dOᵀ           dQ       A = dSᵀ, B = K            (backward; lanes are columns here)
 *     dV       A = P, B = dO            dK       A = dS, B = Q
 *
 * Arithmetic, the same in every path (docs/numerics.md): a score is a sum of chains of ATTN_CHAIN fused multiply-adds
 * along D, added in order; an output is one chain for every tile of ATTN_TILE keys, added in order within a split of
 * ATTN_SPLIT keys; splits are merged in order. Products of pairs by tiles have groups instead of chains (tiles.h). */
#ifndef ATTN_KERNEL_BODY_ATTENTION_H
#define ATTN_KERNEL_BODY_ATTENTION_H

#include "kernel/body/activation.h"
#include "kernel/body/ahead.h"
#include "kernel/body/exp.h"
#include "kernel/body/partial.h"
#include "kernel/body/pointwise.h"
#include "kernel/kernels.h"

/* ---- products ------------------------------------------------------------------------------------ */

/* Rows of a tile of so many vectors. A single one wants twice as many chains as just hide an FMA's latency (4 cycles,
 * on two ports), and two as many as three have, if registers allow. */
#define PRODUCT_ROWS(vectors) ((vectors) == 1 ? PRODUCT_MOST_ROWS : (vectors) == 2 ? PRODUCT_TWO_ROWS : V_PRODUCT_ROWS)
#define PRODUCT_MOST_ROWS (V_PRODUCT_ROWS * V_PRODUCT_VECTORS >= 16 ? 16 : 8)
#define PRODUCT_TWO_ROWS (V_PRODUCT_VECTORS == 3 && V_PRODUCT_ROWS == 4 ? 6 : V_PRODUCT_ROWS)

/* rows × vectors of C: one chain each. Always inlined with constant rows and vectors; so is a_row where it is 1. */
V_FN void product_tile(const bool pairs, const int rows, const int vectors, const attn_product *p, const float *a,
                       ptrdiff_t a_row, const float *b, float *c) {
    V chain[PRODUCT_MOST_ROWS][V_PRODUCT_VECTORS];
    ATTN_UNROLL for (int i = 0; i < rows; i++) { ATTN_UNROLL for (int j = 0; j < vectors; j++) chain[i][j] = v_zero(); }
    const ptrdiff_t a_term = p->a_term, b_term = p->b_term, c_row = p->c_row;
    const bool add = p->add;
    for (size_t left = p->terms, some; left > 0; left -= some) {
        some = left < ATTN_AHEAD_TERMS ? left : ATTN_AHEAD_TERMS;
        if (p->ahead) product_ahead(p->ahead);
        for (size_t n = some; n > 0; n--) {
            V row[V_PRODUCT_VECTORS];
            ATTN_UNROLL for (int j = 0; j < vectors; j++) row[j] = v_load(b + j * V_LANES);
            ATTN_UNROLL for (int i = 0; i < rows; i++) {
                V x = v_set(a[i * a_row]);
                ATTN_UNROLL for (int j = 0; j < vectors; j++) {
                    chain[i][j] = pairs ? v_dot_bf16(x, row[j], chain[i][j]) : v_fma(x, row[j], chain[i][j]);
                }
            }
            a += a_term;
            b += b_term;
        }
    }
    ATTN_UNROLL for (int i = 0; i < rows; i++) {
        float *to = c + i * c_row;
        ATTN_UNROLL for (int j = 0; j < vectors; j++) {
            V x = chain[i][j];
            if (add) x = v_add(v_load(to + j * V_LANES), x);
            v_store(to + j * V_LANES, x);
        }
    }
}

/* All rows for some vectors of lanes. */
V_FN void product_strip(const bool pairs, const int vectors, const attn_product *p, ptrdiff_t a_row, size_t lane) {
    const size_t most = PRODUCT_ROWS(vectors), rows = p->rows;
    const ptrdiff_t c_row = p->c_row;
    const float *a = p->a, *b = p->b + lane;
    float *c = p->c + lane;
    size_t i = 0;
    for (; i + most <= rows; i += most) {
        product_tile(pairs, PRODUCT_ROWS(vectors), vectors, p, a, a_row, b, c);
        a += (ptrdiff_t)most * a_row, c += (ptrdiff_t)most * c_row;
    }
    if (most > 8 && rows - i >= 8) {
        product_tile(pairs, 8, vectors, p, a, a_row, b, c);
        a += 8 * a_row, c += 8 * c_row, i += 8;
    }
    if (most > 4 && rows - i >= 4) {
        product_tile(pairs, 4, vectors, p, a, a_row, b, c);
        a += 4 * a_row, c += 4 * c_row, i += 4;
    }
    if (rows - i >= 2) {
        product_tile(pairs, 2, vectors, p, a, a_row, b, c);
        a += 2 * a_row, c += 2 * c_row, i += 2;
    }
    if (rows - i >= 1) product_tile(pairs, 1, vectors, p, a, a_row, b, c);
}

#define PRODUCT_FUNCTIONS(kind, pairs)                                                                                 \
    static void product_##kind##_rows(const attn_product *p, size_t lane) {                                            \
        product_strip(pairs, V_PRODUCT_VECTORS, p, p->a_row, lane);                                                    \
    }                                                                                                                  \
    static void product_##kind##_columns(const attn_product *p, size_t lane) {                                         \
        product_strip(pairs, V_PRODUCT_VECTORS, p, 1, lane);                                                           \
    }                                                                                                                  \
    static void product_##kind##_2(const attn_product *p, size_t lane) { product_strip(pairs, 2, p, p->a_row, lane); } \
    static void product_##kind##_1(const attn_product *p, size_t lane) {                                               \
        if (p->a_row == 1) product_strip(pairs, 1, p, 1, lane);                                                        \
        else product_strip(pairs, 1, p, p->a_row, lane);                                                               \
    }
PRODUCT_FUNCTIONS(f32, false)
#ifndef ATTN_TILES_HEADER
PRODUCT_FUNCTIONS(bf16, true)
#endif

typedef void product_fn(const attn_product *p, size_t lane);
typedef struct product_strips {
    product_fn *rows, *columns, *two, *one; /* V_PRODUCT_VECTORS with a_row any and 1, two vectors, one */
} product_strips;

/* Vectors lane … lane + vectors − 1. 4 are 2 + 2, not 3 + 1, which would leave too few chains. */
static void product_vectors(const attn_product *p, const product_strips *strips, size_t vector, size_t vectors) {
    while (vectors > 0) {
        const size_t some = vectors == 4 ? 2 : vectors < V_PRODUCT_VECTORS ? vectors : V_PRODUCT_VECTORS;
        if (some == V_PRODUCT_VECTORS) (p->a_row == 1 ? strips->columns : strips->rows)(p, vector * V_LANES);
        else (some == 2 ? strips->two : strips->one)(p, vector * V_LANES);
        vector += some, vectors -= some;
    }
}

/* Where vectors need different rows: as many neighbours together as need the same ones. */
static void product_row_ends(const attn_product *p, const product_strips *strips, size_t vectors) {
    for (size_t from = 0, to = 0; to < p->rows; from = to) {
        to = p->rows;
        for (size_t i = 0; i < vectors; i++)
            if (p->row_ends[i] > from && p->row_ends[i] < to) to = p->row_ends[i];
        attn_product part = *p;
        part.a += (ptrdiff_t)from * p->a_row, part.c += (ptrdiff_t)from * p->c_row, part.rows = to - from;
        for (size_t i = 0, first = 0; i <= vectors; i++) {
            if (i < vectors && p->row_ends[i] > from) continue;
            product_vectors(&part, strips, first, i - first);
            first = i + 1;
        }
    }
}

static void product_term_ends(const attn_product *p, const product_strips *strips, size_t vectors) {
    for (size_t i = 0, n; i < vectors; i += n) {
        for (n = 1; i + n < vectors && p->term_ends[i + n] == p->term_ends[i];) n++;
        attn_product part = *p;
        part.terms = p->term_ends[i];
        if (part.terms > 0 || !p->add) product_vectors(&part, strips, i, n);
    }
}

static void product_of(const attn_product *p, const product_strips *strips) {
    const size_t vectors = (p->lanes + V_LANES - 1) / V_LANES;
    if (p->row_ends) product_row_ends(p, strips, vectors);
    else if (p->term_ends) product_term_ends(p, strips, vectors);
    else product_vectors(p, strips, 0, vectors);
}
static void attention_product(const attn_product *p) {
    static const product_strips strips = {product_f32_rows, product_f32_columns, product_f32_2, product_f32_1};
    product_of(p, &strips);
}
/* The same where every float of A and B is a pair of bf16, two terms. */
#ifndef ATTN_TILES_HEADER
static void attention_product_bf16(const attn_product *p) {
    static const product_strips strips = {product_bf16_rows, product_bf16_columns, product_bf16_2, product_bf16_1};
    product_of(p, &strips);
}
#endif

/* ---- between rows in memory and lanes ------------------------------------------------------------- */

V_FN V load_any(attn_dtype dtype, const void *p, size_t at, size_t n) {
    switch (dtype) {
    case ATTN_BF16:
        return n == V_LANES ? v_load_bf16((const uint16_t *)p + at) : v_load_bf16_n((const uint16_t *)p + at, n);
    case ATTN_F16:
        return n == V_LANES ? v_load_f16((const uint16_t *)p + at) : v_load_f16_n((const uint16_t *)p + at, n);
    default: return part_load((const float *)p + at, n);
    }
}
V_FN void store_any(attn_dtype dtype, void *p, size_t at, V x, size_t n) {
    if (dtype == ATTN_BF16)
        n == V_LANES ? v_store_bf16((uint16_t *)p + at, x) : v_store_bf16_n((uint16_t *)p + at, x, n);
    else if (dtype == ATTN_F16)
        n == V_LANES ? v_store_f16((uint16_t *)p + at, x) : v_store_f16_n((uint16_t *)p + at, x, n);
    else part_store((float *)p + at, x, n);
}

/* to[column][lane] = rows[lane][column]; a NULL row gives zeros. */
V_FN void pack_of(const attn_dtype dtype, float *to, size_t lanes, const void *const *rows, size_t columns) {
    for (size_t lane = 0; lane < lanes; lane += V_LANES) {
        for (size_t first = 0; first < columns; first += V_LANES) {
            const size_t n = columns - first < V_LANES ? columns - first : V_LANES;
            V block[V_LANES];
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                const void *row = rows[lane + i];
                block[i] = row ? load_any(dtype, row, first, n) : v_zero();
            }
            v_transpose(block);
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                if (i < n) v_store(to + (first + i) * lanes + lane, block[i]);
            }
        }
    }
}
static void attention_pack(float *to, size_t lanes, const void *const *rows, attn_dtype dtype, size_t columns) {
    if (dtype == ATTN_BF16) pack_of(ATTN_BF16, to, lanes, rows, columns);
    else if (dtype == ATTN_F16) pack_of(ATTN_F16, to, lanes, rows, columns);
    else pack_of(ATTN_F32, to, lanes, rows, columns);
}

/* rows[lane][column] = from[column][lane] · factor[lane] (+ 0, so that no result is −0); a NULL row is left out. */
V_FN void unpack_of(const attn_dtype dtype, void *const *rows, const float *from, size_t lanes, const float *factor,
                    size_t columns) {
    for (size_t lane = 0; lane < lanes; lane += V_LANES) {
        const V f = v_load(factor + lane);
        for (size_t first = 0; first < columns; first += V_LANES) {
            const size_t n = columns - first < V_LANES ? columns - first : V_LANES;
            V block[V_LANES];
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                block[i] = i < n ? v_fma(v_load(from + (first + i) * lanes + lane), f, v_zero()) : v_zero();
            }
            v_transpose(block);
            ATTN_UNROLL for (size_t i = 0; i < V_LANES; i++) {
                if (rows[lane + i]) store_any(dtype, rows[lane + i], first, block[i], n);
            }
        }
    }
}
static void attention_unpack(void *const *rows, attn_dtype dtype, const float *from, size_t lanes, const float *factor,
                             size_t columns) {
    if (dtype == ATTN_BF16) unpack_of(ATTN_BF16, rows, from, lanes, factor, columns);
    else if (dtype == ATTN_F16) unpack_of(ATTN_F16, rows, from, lanes, factor, columns);
    else unpack_of(ATTN_F32, rows, from, lanes, factor, columns);
}

/* A copy of rows as f32, `to_row` apart, zeros from `columns` to the next whole vector. With clean, elements that are
 * not finite become 0. True if there were such. */
static bool attention_copy(float *to, ptrdiff_t to_row, const void *from, attn_dtype dtype, ptrdiff_t from_row,
                           size_t rows, size_t columns, bool clean) {
    bool dirty = false;
    for (size_t i = 0; i < rows; i++) {
        const void *row = (const char *)from + (ptrdiff_t)i * from_row * (dtype == ATTN_F32 ? 4 : 2);
        float *copy = to + (ptrdiff_t)i * to_row;
        for (size_t j = 0; j < columns; j += V_LANES) {
            V x = load_any(dtype, row, j, columns - j < V_LANES ? columns - j : V_LANES);
            if (clean) {
                VM finite = v_eq(v_mul(x, v_zero()), v_zero());
                dirty |= v_bits(finite) != (uint32_t)((1ull << V_LANES) - 1);
                x = v_and_mask(finite, x);
            }
            v_store(copy + j, x);
        }
    }
    return dirty;
}

/* Rows 2i and 2i+1 (zeros past the last) as one row of pairs of bf16: to[i][column] = (row 2i, row 2i+1). Columns in
 * whole vectors, zeros past the last. */
static void attention_pair_rows(float *to, ptrdiff_t to_row, const void *from, attn_dtype dtype, ptrdiff_t from_row,
                                size_t rows, size_t columns) {
    const ptrdiff_t size = dtype == ATTN_F32 ? 4 : 2;
    for (size_t i = 0; i < rows; i += 2) {
        const void *row = (const char *)from + (ptrdiff_t)i * from_row * size,
                   *next = (const char *)row + from_row * size;
        for (size_t j = 0; j < columns; j += V_LANES) {
            const size_t n = columns - j < V_LANES ? columns - j : V_LANES;
            v_store(to + j,
                    v_pair_bf16(load_any(dtype, row, j, n), i + 1 < rows ? load_any(dtype, next, j, n) : v_zero()));
        }
        to += to_row;
    }
}

/* to = factor · from, or to += it, for rows × columns. −0 is taken for 0, since which of them a sum in parts comes to
 * depends on the parts. */
static void attention_put(void *to, attn_dtype dtype, ptrdiff_t to_row, const float *from, ptrdiff_t from_row,
                          size_t rows, size_t columns, float factor, bool accumulate) {
    const V f = v_set(factor);
    for (size_t i = 0; i < rows; i++) {
        void *row = (char *)to + (ptrdiff_t)i * to_row * (dtype == ATTN_F32 ? 4 : 2);
        for (size_t j = 0; j < columns; j += V_LANES) {
            const size_t n = columns - j < V_LANES ? columns - j : V_LANES;
            V old = accumulate ? load_any(dtype, row, j, n) : v_zero();
            const V x = v_add(part_load(from + (ptrdiff_t)i * from_row + j, n), v_zero());
            store_any(dtype, row, j, v_fma(x, f, old), n);
        }
    }
}

/* dots[lane] = a[lane]·b[lane]; 0 for NULL rows. */
static void attention_row_dots(float *dots, const void *const *a, const void *const *b, attn_dtype dtype, size_t lanes,
                               size_t columns) {
    for (size_t lane = 0; lane < lanes; lane++) {
        V sum = v_zero();
        for (size_t j = 0; a[lane] && b[lane] && j < columns; j += V_LANES) {
            const size_t n = columns - j < V_LANES ? columns - j : V_LANES;
            sum = v_fma(load_any(dtype, a[lane], j, n), load_any(dtype, b[lane], j, n), sum);
        }
        dots[lane] = v_sum(sum);
    }
}

/* True if rows × columns floats are all finite. */
static bool attention_is_finite(const float *x, ptrdiff_t x_row, size_t rows, size_t columns) {
    V sum = v_zero(); /* x·0 is 0, or NaN, which stays */
    for (size_t i = 0; i < rows; i++) {
        const float *row = x + (ptrdiff_t)i * x_row;
        for (size_t j = 0; j < columns; j += V_LANES) {
            sum = v_fma(part_load(row + j, columns - j < V_LANES ? columns - j : V_LANES), v_zero(), sum);
        }
    }
    return v_sum(sum) == 0.0f;
}

/* ---- softmax ------------------------------------------------------------------------------------- */

/* Online softmax over tiles of keys (Milakov & Gimelshein 2018). After each tile, for every lane:
 *   (I1) max is −inf, or an integer that no score (in units of log 2) seen so far exceeds by more than LAZY_MAX;
 *   (I2) sum = Σ 2^(score − max) over the keys seen, and so is what the caller keeps as output, weighted with V.
 * max moves rarely, and by an integer, so rescaling is exact. Weights rounded to bf16 have a sum of their own, by which
 * the output is divided: so a row that one key dominates loses nothing to the rounding of its weight. */
#define LAZY_MAX 8.0f

V_FN V v_ceil(V x) {
    V n = v_round(x);
    return v_add(n, v_and_mask(v_lt(n, x), v_set(1.0f)));
}

V_FN V softmax_score(const bool masked, const attn_softmax_tile *t, size_t j, size_t lane) {
    V s = v_load(t->s + j * t->lanes + lane);
    return masked ? v_select(v_of_bits((uint32_t)(t->visible[j] >> lane)), s, v_set(-__builtin_inff())) : s;
}

/* Weights of n keys in place of the scores; gives chain + their sum. */
V_FN V softmax_weights_some(const int n, float *s, size_t lanes, const uint64_t *visible, size_t lane, V c, V down,
                            V chain) {
    V p[EXP2_MOST];
    ATTN_UNROLL for (int i = 0; i < n; i++) p[i] = v_fma(v_load(s + (size_t)i * lanes), c, down);
    v_exp2_all(n, p);
    ATTN_UNROLL for (int i = 0; i < n; i++) {
        if (visible) p[i] = v_and_mask(v_of_bits((uint32_t)(visible[i] >> lane)), p[i]);
        chain = v_add(chain, p[i]);
        v_store(s + (size_t)i * lanes, p[i]);
    }
    return chain;
}

/* Weights in place of the scores; gives their sum. */
V_FN V softmax_weights(const bool masked, const attn_softmax_tile *t, size_t lane, size_t keys, V c, V down) {
    const uint64_t *visible = t->visible;
    const size_t lanes = t->lanes;
    float *s = t->s + lane;
    V chain = v_zero();
    size_t j = 0;
    for (; j + EXP2_MOST <= keys; j += EXP2_MOST, s += EXP2_MOST * lanes)
        chain = softmax_weights_some(EXP2_MOST, s, lanes, masked ? visible + j : NULL, lane, c, down, chain);
    for (; j < keys; j++, s += lanes)
        chain = softmax_weights_some(1, s, lanes, masked ? visible + j : NULL, lane, c, down, chain);
    return chain;
}

/* What a vector of lanes of softmax_pairs goes through: where the next key is, and sums so far. */
typedef struct softmax_lanes {
    const float *s, *keep;
    float *to;
    V c, down, chain, rounded;
} softmax_lanes;

/* Weights of n keys from j on, times `keep`, as pairs; the sums are of what they were before that, exact and rounded.
 */
V_FN void softmax_pairs_some(const bool masked, const int n, const attn_softmax_tile *t, size_t j, size_t lane,
                             softmax_lanes *x) {
    const size_t lanes = t->lanes;
    const V one = v_set(1.0f), ones = v_pair_bf16(one, one);
    V p[EXP2_MOST];
    ATTN_UNROLL for (int i = 0; i < n; i++) p[i] = v_fma(v_load(x->s + (size_t)i * lanes), x->c, x->down);
    v_exp2_bf16_all(n, p);
    ATTN_UNROLL for (int i = 0; i < n; i++) {
        if (masked) p[i] = v_and_mask(v_of_bits((uint32_t)(t->visible[j + (size_t)i] >> lane)), p[i]);
        x->chain = v_add(x->chain, p[i]);
    }
    ATTN_UNROLL for (int i = 0; i < n; i += 2) {
        V low = p[i], high = i + 1 < n ? p[i + 1] : v_zero(), both = v_pair_bf16(low, high);
        x->rounded = v_dot_bf16(both, ones, x->rounded);
        if (x->keep) {
            low = v_mul(low, v_load(x->keep + (size_t)i * lanes));
            if (i + 1 < n) high = v_mul(high, v_load(x->keep + (size_t)(i + 1) * lanes));
            both = v_pair_bf16(low, high);
        }
        v_store(x->to + (size_t)(i / 2) * lanes, both);
    }
    x->s += (size_t)n * lanes, x->to += (size_t)(n / 2) * lanes;
    if (x->keep) x->keep += (size_t)n * lanes;
}

/* Weights, times `keep`, to `pairs`, and the sum of the rounded ones before that. */
V_FN V softmax_pairs(const bool masked, const attn_softmax_tile *t, size_t lane, size_t keys, V c, V down) {
    softmax_lanes x = {.s = t->s + lane,
                       .keep = t->keep ? t->keep + lane : NULL,
                       .to = t->pairs + lane,
                       .c = c,
                       .down = down,
                       .chain = v_zero(),
                       .rounded = v_zero()};
    size_t j = 0;
    for (; j + EXP2_MOST <= keys; j += EXP2_MOST) softmax_pairs_some(masked, EXP2_MOST, t, j, lane, &x);
    for (; j + 2 <= keys; j += 2) softmax_pairs_some(masked, 2, t, j, lane, &x);
    if (j < keys) softmax_pairs_some(masked, 1, t, j, lane, &x);
    v_store(t->rounded_sum + lane, v_fma(v_load(t->rounded_sum + lane), v_load(t->rescale + lane), x.rounded));
    return x.chain;
}

V_FN bool softmax_vector(const bool masked, const bool pairs, const attn_softmax_tile *t, size_t lane) {
    const V empty = v_set(-__builtin_inff()), c = v_set(t->factor);
    const size_t keys = masked && t->ends ? t->ends[lane / V_LANES] : t->keys;
    V tops[4] = {empty, empty, empty, empty}; /* side by side, as each waits for its last maximum */
    size_t j = 0;
    for (; j + 4 <= keys; j += 4) {
        ATTN_UNROLL for (size_t i = 0; i < 4; i++) tops[i] = v_max(softmax_score(masked, t, j + i, lane), tops[i]);
    }
    for (; j < keys; j++) tops[0] = v_max(softmax_score(masked, t, j, lane), tops[0]);
    const V top = v_mul(v_max(v_max(tops[0], tops[1]), v_max(tops[2], tops[3])), c);
    V max = v_load(t->max + lane), sum = v_load(t->sum + lane);
    VM raise = v_gt(top, v_add(max, v_set(LAZY_MAX)));
    const bool raised = v_any(raise);
    if (raised) {
        V higher = v_select(raise, v_ceil(top), max);
        V rescale = v_select(raise, v_exp2(v_sub(max, higher)), v_set(1.0f));
        v_store(t->rescale + lane, rescale);
        v_store(t->max + lane, higher);
        sum = v_mul(sum, rescale);
        max = higher;
    } else {
        v_store(t->rescale + lane, v_set(1.0f));
    }
    const V down = v_neg(v_and_mask(v_gt(max, empty), max));
    const V chain =
        pairs ? softmax_pairs(masked, t, lane, keys, c, down) : softmax_weights(masked, t, lane, keys, c, down);
    v_store(t->sum + lane, v_add(sum, chain));
    return raised;
}

/* Scores become weights. Returns whether some lane's maximum moved: then the output so far is to be multiplied by
 * `rescale`. */
static bool attention_softmax(const attn_softmax_tile *tile) {
    const attn_softmax_tile copy = *tile, *t = &copy; /* nothing that is stored can be its pointers */
    bool raised = false;
    for (size_t lane = 0; lane < t->lanes; lane += V_LANES)
        raised |= t->visible ? softmax_vector(true, false, t, lane) : softmax_vector(false, false, t, lane);
    return raised;
}
/* The same, and weights, times `keep`, go to `pairs` as bf16: keys 2i and 2i+1 are row i. */
static bool attention_softmax_bf16(const attn_softmax_tile *tile) {
    const attn_softmax_tile copy = *tile, *t = &copy; /* nothing that is stored can be its pointers */
    bool raised = false;
    for (size_t lane = 0; lane < t->lanes; lane += V_LANES)
        raised |= t->visible ? softmax_vector(true, true, t, lane) : softmax_vector(false, true, t, lane);
    return raised;
}

/* x[row][lane] *= factor[lane] */
static void attention_scale(float *x, size_t lanes, size_t rows, const float *factor) {
    for (size_t lane = 0; lane < lanes; lane += V_LANES) {
        const V f = v_load(factor + lane);
        for (size_t i = 0; i < rows; i++) v_store(x + i * lanes + lane, v_mul(v_load(x + i * lanes + lane), f));
    }
}

/* total = total·f + part·g, with f = 2^(total_max − m), g = 2^(max − m), m the greater of the two; sums likewise. */
static void attention_merge(float *total, float *total_max, float *total_sum, const float *part, const float *max,
                            const float *sum, size_t lanes, size_t rows) {
    const V empty = v_set(-__builtin_inff());
    for (size_t lane = 0; lane < lanes; lane += V_LANES) {
        V a = v_load(total_max + lane), b = v_load(max + lane), m = v_max(a, b);
        VM seen = v_gt(m, empty);
        V f = v_and_mask(seen, v_exp2(v_sub(a, m))), g = v_and_mask(seen, v_exp2(v_sub(b, m)));
        v_store(total_max + lane, m);
        v_store(total_sum + lane, v_fma(v_load(total_sum + lane), f, v_mul(v_load(sum + lane), g)));
        for (size_t i = 0; i < rows; i++) {
            float *to = total + i * lanes + lane;
            v_store(to, v_fma(v_load(to), f, v_mul(v_load(part + i * lanes + lane), g)));
        }
    }
}

/* Scores q·k become logits in units of log 2: (cap(scale·s) + bias − slope·|position − key|) · log2 e. */
static void attention_logits(const attn_logits_tile *t) {
    const V scale = v_set(t->scale), unit = v_set(t->unit), cap = v_set(t->softcap);
    const V empty = v_set(-__builtin_inff());
    const V inverse = v_set(t->softcap > 0 ? 1.0f / t->softcap : 0.0f);
    for (size_t lane = 0; lane < t->lanes; lane += V_LANES) {
        const V slope = t->slope ? v_load(t->slope + lane) : v_zero(),
                position = t->slope ? v_load(t->position + lane) : v_zero();
        for (size_t j = 0; j < t->keys; j++) {
            float *at = t->s + j * t->lanes + lane;
            V x = v_mul(v_load(at), scale);
            if (t->softcap > 0) {
                V y = v_tanh(v_mul(x, inverse));
                if (t->capped) v_store(t->capped + j * t->lanes + lane, y);
                x = v_mul(y, cap);
            }
            if (t->bias) { /* −inf: not visible, whatever the score is, be it NaN */
                const V bias = v_load(t->bias + j * t->lanes + lane);
                x = v_select(v_eq(bias, empty), empty, v_add(x, bias));
            }
            if (t->slope) x = v_fnma(slope, v_abs(v_sub(position, v_set((float)j))), x);
            v_store(at, v_mul(x, unit));
        }
    }
}

/* x ∘= y, n floats, a multiple of the lanes. */
static void attention_multiply(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i += V_LANES) v_store(x + i, v_mul(v_load(x + i), v_load(y + i)));
}

/* ---- dropout ------------------------------------------------------------------------------------- */

/* keep[key][lane] = `kept` or 0, for whole groups of 8 keys: Philox4x32-10 with counter (word0, stream[lane],
 * query[lane], group), 16 bits a key: half key mod 2 of word (key mod 8) / 2; kept if they are ≥ threshold. */
static void attention_dropout(const attn_dropout_tile *t) {
    enum { MOST = 64 };
    uint32_t words[4][MOST];
    for (size_t group = 0; group < (t->keys + 7) / 8; group++) {
        uint32_t *a = words[0], *b = words[1], *c = words[2], *d = words[3];
        for (size_t i = 0; i < t->lanes; i++) {
            a[i] = t->word0, b[i] = t->stream[i], c[i] = t->query[i], d[i] = t->group + (uint32_t)group;
        }
        philox_rounds(a, b, c, d, t->lanes, t->key[0], t->key[1]);
        for (size_t j = 0; j < 4; j++) {
            float *low = t->keep + (group * 8 + j * 2) * t->lanes, *high = low + t->lanes;
            for (size_t i = 0; i < t->lanes; i++) {
                low[i] = (words[j][i] & 0xffff) >= t->threshold ? t->kept : 0.0f;
                high[i] = words[j][i] >> 16 >= t->threshold ? t->kept : 0.0f;
            }
        }
    }
}

/* ---- backward ------------------------------------------------------------------------------------ */

/* Scores (or logits) and dP become P and dS:  P = 2^(s·factor − lse),  dS = P ∘ (dP − Δ), both 0 where not visible.
 * With keep: P is multiplied by it after dS, dP before. With capped: dS ∘= 1 − capped². */
V_FN void backward_pair(const bool masked, const bool extra, const bool pairs, const attn_backward_tile *t, size_t j,
                        size_t lane, V *weight, V *ds) {
    const size_t at = j * t->lanes + lane;
    const V below = v_fma(v_load(t->s + at), v_set(t->factor), v_neg(v_load(t->lse + lane)));
    V p = pairs ? v_exp2_bf16(below) : v_exp2(below), dp = v_load(t->dp + at);
    VM visible = masked ? v_of_bits((uint32_t)(t->visible[j] >> lane)) : v_first(V_LANES);
    *weight = p;
    if (extra && t->keep) {
        V keep = v_load(t->keep + at);
        dp = v_select(v_gt(keep, v_zero()), v_mul(dp, keep), v_zero());
        *weight = v_mul(p, keep);
    }
    *ds = v_mul(p, v_sub(dp, v_load(t->delta + lane)));
    if (masked) *weight = v_and_mask(visible, *weight), *ds = v_and_mask(visible, *ds);
    if (extra && t->dbias) v_store(t->dbias + at, *ds);
    if (extra && t->capped) {
        V y = v_load(t->capped + at);
        *ds = v_mul(*ds, v_fnma(y, y, v_set(1.0f)));
        if (masked) *ds = v_and_mask(visible, *ds);
    }
}

V_FN void backward_vector(const bool masked, const bool extra, const attn_backward_tile *t, size_t lane) {
    const size_t end = masked && t->ends ? t->ends[lane / V_LANES] : t->keys;
    for (size_t j = 0; j < t->keys; j++) {
        const size_t at = j * t->lanes + lane;
        V weight = v_zero(), ds = v_zero();
        if (j < end) backward_pair(masked, extra, false, t, j, lane, &weight, &ds);
        else if (extra && t->dbias) v_store(t->dbias + at, v_zero());
        v_store(t->s + at, weight);
        v_store(t->dp + at, ds);
    }
}

V_FN void backward_vector_bf16(const bool masked, const bool extra, const attn_backward_tile *t, size_t lane) {
    const size_t end = masked && t->ends ? t->ends[lane / V_LANES] : t->keys;
    for (size_t j = 0; j < t->keys; j += 2) {
        V weight[2] = {v_zero(), v_zero()}, ds[2] = {v_zero(), v_zero()};
        for (size_t i = 0; i < 2 && j + i < t->keys; i++) {
            if (j + i < end) backward_pair(masked, extra, true, t, j + i, lane, weight + i, ds + i);
            else if (extra && t->dbias) v_store(t->dbias + (j + i) * t->lanes + lane, v_zero());
        }
        const V ds_pair = v_pair_bf16(ds[0], ds[1]);
        const size_t at = j * t->row + lane, next = at + t->row;
        v_split_bf16(t->weights + at, t->weights + next, v_pair_bf16(weight[0], weight[1]));
        v_split_bf16(t->ds + at, t->ds + next, ds_pair);
        v_store(t->ds_pairs + j / 2 * t->lanes + lane, ds_pair);
    }
}

static void attention_backward(const attn_backward_tile *tile) {
    const attn_backward_tile copy = *tile, *t = &copy; /* as above */
    const bool extra = t->keep || t->capped || t->dbias;
    for (size_t lane = 0; lane < t->lanes; lane += V_LANES) {
        if (extra) t->visible ? backward_vector(true, true, t, lane) : backward_vector(false, true, t, lane);
        else t->visible ? backward_vector(true, false, t, lane) : backward_vector(false, false, t, lane);
    }
}

/* The same, and the results are bf16; of an odd number of keys a row more is written. */
static void attention_backward_bf16(const attn_backward_tile *tile) {
    const attn_backward_tile copy = *tile, *t = &copy; /* as above */
    const bool extra = t->keep || t->capped || t->dbias;
    for (size_t lane = 0; lane < t->lanes; lane += V_LANES) {
        if (extra) t->visible ? backward_vector_bf16(true, true, t, lane) : backward_vector_bf16(false, true, t, lane);
        else t->visible ? backward_vector_bf16(true, false, t, lane) : backward_vector_bf16(false, false, t, lane);
    }
}

#endif
