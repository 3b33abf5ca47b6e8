/* attention_block.c: blocks of queries, tiles of keys, and which pairs are visible. */
#include "ops/attention.h"

#include <math.h>
#include <string.h>

/* ---- intervals -------------------------------------------------------------------------------------- */

static size_t clamp(int64_t x, size_t most) { return x < 0 ? 0 : (uint64_t)x > most ? most : (size_t)x; }

/* Keys from … to−1 are all that query i may see, by position. */
static void interval_of(const attn_attention *at, const attn_sequence *x, size_t i, size_t *from, size_t *to) {
    const attn_attention_options *o = &at->options;
    const int64_t p = (int64_t)i + x->position;
    *from = 0, *to = x->s;
    if (o->causal != ATTN_CAUSAL_NONE) *to = ATTN_MAX(clamp(p + 1, x->s), ATTN_MIN(x->prefix, x->s));
    if (o->window_right >= 0 && p < INT64_MAX - o->window_right)
        *to = ATTN_MIN(*to, clamp(p + o->window_right + 1, x->s));
    if (o->window_left >= 0) *from = clamp(p - o->window_left, x->s);
    if (*from >= *to) *from = *to = 0;
}

void attn_block_set(attn_block *block, const attn_attention *at, const attn_sequence *sequence, size_t key_head,
                    size_t row) {
    attn_block_set_rows(block, at, sequence, key_head, row,
                        ATTN_MIN(attn_block_lanes(at), sequence->t * at->group - row));
}

void attn_block_set_rows(attn_block *block, const attn_attention *at, const attn_sequence *sequence, size_t key_head,
                         size_t row, size_t count) {
    const size_t vector = at->kernels->lanes;
    block->sequence = *sequence;
    block->key_head = key_head, block->row = row;
    block->count = count;
    block->lanes = (block->count + vector - 1) / vector * vector;
    block->low = block->inner_low = 0, block->high = 0, block->inner_high = SIZE_MAX;
    bool any = false;
    if (at->options.causal == ATTN_CAUSAL_NONE && at->options.window_left < 0 && at->options.window_right < 0) {
        for (size_t lane = 0; lane < count; lane++) block->from[lane] = 0, block->to[lane] = sequence->s;
        block->high = block->inner_high = sequence->s;
        return;
    }
    for (size_t lane = 0; lane < block->count; lane++) {
        size_t *from = block->from + lane, *to = block->to + lane;
        if (lane > 0 && attn_block_query(block, at, lane) == attn_block_query(block, at, lane - 1)) {
            *from = from[-1], *to = to[-1];
            continue;
        }
        interval_of(at, sequence, attn_block_query(block, at, lane), from, to);
        block->inner_low = ATTN_MAX(block->inner_low, *from), block->inner_high = ATTN_MIN(block->inner_high, *to);
        if (*from == *to) continue;
        block->low = any ? ATTN_MIN(block->low, *from) : *from, block->high = ATTN_MAX(block->high, *to);
        any = true;
    }
}

void attn_block_rows(const void *rows[ATTN_MAX_LANES], const attn_block *block, const attn_attention *at,
                     const attn_view *view) {
    for (size_t lane = 0; lane < block->lanes; lane++)
        rows[lane] = lane >= block->count
                         ? NULL
                         : attn_view_at(view, block->sequence.index, attn_block_head(block, at, lane),
                                        block->sequence.q_first + (ptrdiff_t)attn_block_query(block, at, lane));
}

/* ---- masks ------------------------------------------------------------------------------------------ */

/* 64 bytes or fewer as bits: bit j is byte j ≠ 0. */
static uint64_t bits_of_bytes(const uint8_t *bytes, size_t n) {
    uint64_t word = 0;
    for (size_t first = 0; first < n; first += 8) {
        uint64_t eight = 0;
        memcpy(&eight, bytes + first, n - first < 8 ? n - first : 8);
        eight |= eight >> 4, eight |= eight >> 2, eight |= eight >> 1; /* low bit of each byte: is it not 0? */
        eight &= 0x0101010101010101u;
        word |= (eight * 0x0102040810204080u >> 56) << first;
    }
    return word;
}

/* Up to 64 bits from bit `first` on. */
static uint64_t bits_at(const uint8_t *bits, size_t first, size_t n) {
    uint64_t word = 0;
    const size_t shift = first % 8, bytes = (shift + n + 7) / 8;
    memcpy(&word, bits + first / 8, bytes < 8 ? bytes : 8);
    word >>= shift;
    if (bytes > 8) word |= (uint64_t)bits[first / 8 + 8] << (64 - shift);
    return word;
}

/* Keys key … key+63 that a query may see, by mask, tree and segments. */
static uint64_t irregular_word(const attn_attention *at, const attn_block *block, size_t lane, size_t key, size_t n) {
    const attn_attention_options *o = &at->options;
    const attn_sequence *x = &block->sequence;
    const size_t i = attn_block_query(block, at, lane);
    uint64_t word = attn_first_bits(n);
    if (o->mask) {
        const uint8_t *row = attn_view_at(&at->mask, x->index, attn_block_head(block, at, lane), (ptrdiff_t)i);
        bool bits = o->mask_format == ATTN_MASK_KEEP_BITS || o->mask_format == ATTN_MASK_DROP_BITS;
        uint64_t set = bits ? bits_at(row, key, n) : bits_of_bytes(row + key, n);
        word &= o->mask_format == ATTN_MASK_KEEP_BYTES || o->mask_format == ATTN_MASK_KEEP_BITS ? set : ~set;
    }
    const ptrdiff_t tree_key = (ptrdiff_t)x->s - (ptrdiff_t)x->t; /* the key of the tree's first node */
    if (o->tree && (ptrdiff_t)(key + n) > tree_key) {
        const attn_tensor *tree = o->tree;
        const uint8_t *row = (const uint8_t *)tree->data + (ptrdiff_t)i * tree->stride[1];
        if (tree->shape[0] > 1) row += (ptrdiff_t)x->index * tree->stride[0];
        const size_t before = tree_key > (ptrdiff_t)key ? (size_t)(tree_key - (ptrdiff_t)key) : 0;
        const size_t node = (size_t)((ptrdiff_t)(key + before) - tree_key);
        word &= bits_at(row, node, n - before) << before | attn_first_bits(before);
    }
    if (o->segments_q) {
        const attn_tensor *q = o->segments_q, *k = o->segments_k;
        const ptrdiff_t *qs = q->stride + !at->packed, *ks = k->stride + !at->packed;
        const int32_t *ids = (const int32_t *)k->data + (x->k_first + (ptrdiff_t)key) * ks[0];
        const int32_t *own = (const int32_t *)q->data + (x->q_first + (ptrdiff_t)i) * qs[0];
        if (!at->packed) ids += (ptrdiff_t)x->index * k->stride[0], own += (ptrdiff_t)x->index * q->stride[0];
        uint64_t same = 0;
        for (size_t j = 0; j < n; j++) same |= (uint64_t)(ids[(ptrdiff_t)j * ks[0]] == *own) << j;
        word &= same;
    }
    return word;
}

/* Bit j of x[i] ↔ bit i of x[j] (Warren, Hacker's Delight, 7-3). */
static void transpose_bits(uint64_t x[64]) {
    uint64_t mask = 0x00000000ffffffffu;
    for (size_t half = 32; half > 0; half >>= 1, mask ^= mask << half) {
        for (size_t i = 0; i < 64; i = (i + half + 1) & ~half) {
            uint64_t swap = (x[i] >> half ^ x[i + half]) & mask;
            x[i] ^= swap << half, x[i + half] ^= swap;
        }
    }
}

void attn_block_words(attn_tile *tile, uint64_t words[ATTN_MAX_LANES], const attn_block *block,
                      const attn_attention *at, size_t key) {
    const size_t end = ATTN_MIN(key + ATTN_TILE, block->sequence.s);
    tile->class = ATTN_TILE_NONE;
    if (end <= block->low || key >= block->high) return;
    /* Only what some row may see; whole groups in front: random numbers come in eights, and pairs may be added in
     * groups. */
    const size_t group = ATTN_MAX(8, at->fast ? 2 * at->kernels->pair_group : 0);
    tile->key = ATTN_MAX(key, block->low / group * group);
    tile->keys = ATTN_MIN(end, block->high) - tile->key;
    if (!at->irregular && tile->key >= block->inner_low && tile->key + tile->keys <= block->inner_high) {
        tile->class = ATTN_TILE_FULL;
        return;
    }
    uint64_t any = 0, all = UINT64_MAX;
    for (size_t lane = 0; lane < block->count; lane++) {
        const size_t from = ATTN_MAX(block->from[lane], tile->key),
                     to = ATTN_MIN(block->to[lane], tile->key + tile->keys);
        uint64_t word = from < to ? attn_first_bits(to - tile->key) & ~attn_first_bits(from - tile->key) : 0;
        if (word && at->irregular) word &= irregular_word(at, block, lane, tile->key, tile->keys);
        words[lane] = word, any |= word, all &= word;
    }
    if (!any) return;
    tile->class = all == attn_first_bits(tile->keys) ? ATTN_TILE_FULL : ATTN_TILE_PARTIAL;
}

void attn_block_tile(attn_tile *tile, const attn_block *block, const attn_attention *at, size_t key) {
    uint64_t words[ATTN_MAX_LANES];
    attn_block_words(tile, words, block, at, key);
    if (tile->class != ATTN_TILE_PARTIAL) return;
    tile->ragged = false;
    const size_t vector = at->kernels->lanes;
    for (size_t first = 0; first < block->count; first += vector) {
        uint64_t seen = 0;
        for (size_t lane = first; lane < ATTN_MIN(first + vector, block->count); lane++) seen |= words[lane];
        const uint8_t limit = seen ? (uint8_t)(64 - __builtin_clzll(seen)) : 0;
        tile->ends[first / vector] = limit;
        tile->ragged |= limit < tile->keys;
    }
    memset(words + block->count, 0, (ATTN_MAX_LANES - block->count) * sizeof *words);
    transpose_bits(words);
    memcpy(tile->visible, words, tile->keys * sizeof *words);
}

/* ---- logits and dropout ------------------------------------------------------------------------------- */

void attn_extras_set(attn_extras *extras, const attn_block *block, const attn_attention *at) {
    if (!at->options.alibi && !at->threshold) return;
    for (size_t lane = 0; lane < block->lanes; lane++) {
        const bool used = lane < block->count;
        const size_t h = used ? attn_block_head(block, at, lane) : 0;
        extras->slope[lane] = used && at->options.alibi ? at->options.alibi[h] : 0.0f;
        extras->stream[lane] = block->sequence.id * (uint32_t)at->heads + (uint32_t)h;
        extras->query[lane] = used ? (uint32_t)attn_block_query(block, at, lane) : 0;
    }
}

/* The bias of a tile, (key, lane). */
static void bias_tile(const attn_tile *tile, float *to, const attn_block *block, const attn_attention *at) {
    const void *rows[ATTN_MAX_LANES];
    const size_t size = attn_dtype_size(at->bias.dtype);
    float copies[ATTN_MAX_LANES + 1][ATTN_TILE]; /* the last element of a row is written as a whole vector */
    for (size_t lane = 0; lane < block->lanes; lane++) {
        rows[lane] = NULL;
        if (lane >= block->count) continue;
        const char *row = attn_view_at(&at->bias, block->sequence.index, attn_block_head(block, at, lane),
                                       (ptrdiff_t)attn_block_query(block, at, lane));
        row += (ptrdiff_t)(tile->key * size) * at->bias.column;
        rows[lane] = row;
        if (at->bias.column == 1) continue;
        for (size_t j = 0; j < tile->keys; j++, row += (ptrdiff_t)size * at->bias.column)
            at->kernels->attention_copy(copies[lane] + j, 0, row, at->bias.dtype, 0, 1, 1, false);
        rows[lane] = copies[lane];
    }
    at->kernels->attention_pack(to, block->lanes, rows, at->bias.column == 1 ? at->bias.dtype : ATTN_F32, tile->keys);
}

void attn_tile_logits(const attn_tile *tile, float *s, attn_extras *extras, const attn_block *block,
                      const attn_attention *at) {
    if (!at->logits) return;
    const attn_attention_options *o = &at->options;
    if (o->bias) bias_tile(tile, extras->bias, block, at);
    for (size_t lane = 0; o->alibi && lane < block->lanes; lane++) {
        const int64_t i = lane < block->count ? (int64_t)attn_block_query(block, at, lane) : 0;
        extras->position[lane] = (float)(i + block->sequence.position - (int64_t)tile->key);
    }
    attn_logits_tile job = {.keys = tile->keys,
                            .lanes = block->lanes,
                            .s = s,
                            .scale = o->scale,
                            .softcap = o->softcap,
                            .unit = ATTN_LOG2E,
                            .bias = o->bias ? extras->bias : NULL,
                            .slope = o->alibi ? extras->slope : NULL,
                            .position = extras->position,
                            .capped = extras->capped};
    at->kernels->attention_logits(&job);
}

const float *attn_tile_keep(const attn_tile *tile, attn_extras *extras, const attn_block *block,
                            const attn_attention *at) {
    const attn_attention_options *o = &at->options;
    attn_dropout_tile job = {.keys = tile->keys,
                             .lanes = block->lanes,
                             .keep = extras->keep,
                             .stream = extras->stream,
                             .query = extras->query,
                             .word0 = (uint32_t)o->offset,
                             .group = (uint32_t)(tile->key / 8),
                             .key = {(uint32_t)o->seed, (uint32_t)(o->seed >> 32) ^ (uint32_t)(o->offset >> 32)},
                             .threshold = at->threshold,
                             .kept = at->kept};
    at->kernels->attention_dropout(&job);
    return extras->keep;
}

/* ---- products --------------------------------------------------------------------------------------- */

void attn_chained_product(attn_product_kernel *kernel, const attn_product *product) {
    attn_product chain = *product;
    for (size_t left = product->terms; left > 0; left -= chain.terms) {
        chain.terms = ATTN_MIN(left, (size_t)ATTN_CHAIN);
        kernel(&chain);
        chain.a += (ptrdiff_t)chain.terms * chain.a_term, chain.b += (ptrdiff_t)chain.terms * chain.b_term;
        chain.add = true;
    }
}

static bool sees(const attn_repair *r, size_t key, size_t lane) {
    if (r->tile->class == ATTN_TILE_PARTIAL && !(r->tile->visible[key] >> lane & 1)) return false;
    return !r->bias || r->bias[key * r->lanes + lane] != -INFINITY;
}

void attn_repair_keys(const attn_repair *r) {
    for (size_t j = 0; j < r->tile->keys; j++)
        for (size_t c = 0; c < r->columns; c++) {
            const float x = r->b[(ptrdiff_t)j * r->b_row + (ptrdiff_t)c];
            if (isfinite(x)) continue;
            for (size_t lane = 0; lane < r->count; lane++)
                if (sees(r, j, lane))
                    r->c[(ptrdiff_t)lane * r->c_row + (ptrdiff_t)c * r->c_column] += r->a[j * r->lanes + lane] * x;
        }
}

void attn_repair_lanes(const attn_repair *r) {
    for (size_t lane = 0; lane < r->count; lane++)
        for (size_t c = 0; c < r->columns; c++) {
            const float x = r->b[(ptrdiff_t)lane * r->b_row + (ptrdiff_t)c];
            if (isfinite(x)) continue;
            for (size_t j = 0; j < r->tile->keys; j++)
                if (sees(r, j, lane))
                    r->c[(ptrdiff_t)j * r->c_row + (ptrdiff_t)c * r->c_column] += r->a[j * r->lanes + lane] * x;
        }
}
