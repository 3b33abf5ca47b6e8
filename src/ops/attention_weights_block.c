/* attention_weights_block.c: blocks of asked rows and their tiles. */
#include "ops/attention_weights.h"

#include <math.h>

attn_status attn_look_check(attn_look *look, attn_context *ctx, const char *where, const attn_tensor *q,
                            const attn_tensor *k, const attn_attention_options *options) {
    *look = (attn_look){.heads = NULL};
    attn_attention *at = &look->at;
    ATTN_TRY(attn_attention_check(at, ctx, where, q, k, k, options)); /* values are of no interest */
    at->fast = false;                                                 /* weights are made of products of floats */
    if (at->s > INT32_MAX) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: %zu keys, at most 2^31 − 1", where, at->s);
    at->options.workspace = NULL, at->options.workspace_bytes = 0;
    look->group = at->group;
    look->head_count = at->heads, look->row_count = at->t;
    /* Rows that lie a multiple of 4 KB apart fall into the same set of the cache. */
    look->copy_k = at->dtype != ATTN_F32 || (at->k.row * (ptrdiff_t)sizeof(float)) % 4096 == 0;
    return ATTN_OK;
}

attn_look attn_look_single(const attn_look *look) {
    attn_look single = *look;
    single.at.group = 1, single.at.key_heads = single.at.heads;
    return single;
}

void attn_look_rows(const attn_look *look, const attn_sequence *x, size_t *low, size_t *high) {
    *low = 0, *high = look->row_count;
    while (*low < *high && attn_look_query(look, x, *low) < 0) ++*low;
    while (*high > *low && attn_look_query(look, x, *high - 1) >= (int64_t)x->t) --*high;
}

void attn_look_block_layout(attn_look_block *b, const attn_look *look, attn_scratch *scratch, bool counting) {
    const size_t lanes = attn_block_lanes(&look->at);
    float *q = attn_scratch_floats(scratch, look->at.d, lanes);
    float *bias = look->at.options.bias ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    if (counting) return;
    b->q = q;
    b->extras = (attn_extras){.bias = bias};
}

size_t attn_look_block_set(attn_look_block *b, const attn_look *look, const attn_sequence *x, size_t unit, size_t first,
                           size_t end) {
    const attn_attention *at = &look->at;
    const size_t group = at->group, vector = at->kernels->lanes;
    const size_t start = (size_t)attn_look_query(look, x, first / group) * group + first % group;
    attn_block *block = &b->block;
    attn_block_set(block, at, x, attn_look_head(look, unit), start);
    for (size_t lane = 0; lane < block->count; lane++) b->row[lane] = SIZE_MAX;
    size_t used = 0;
    b->live = 0;
    while (first < end) {
        const size_t lane = (size_t)attn_look_query(look, x, first / group) * group + first % group - start;
        if (lane >= block->count) break;
        b->row[lane] = first / group;
        b->lse[lane] = 0;
        if (at->lse.data) {
            const float lse = *(const float *)attn_view_at(&at->lse, x->index, attn_block_head(block, at, lane),
                                                           x->q_first + (ptrdiff_t)attn_block_query(block, at, lane));
            if (lse != -INFINITY) b->lse[lane] = lse * ATTN_LOG2E, b->live |= (uint64_t)1 << lane;
        }
        used = lane + 1;
        first++;
    }
    /* Fewer lanes see no more: what the block's bounds promise still holds. */
    block->count = used;
    block->lanes = (used + vector - 1) / vector * vector;
    for (size_t lane = 0; lane < block->lanes; lane++)
        if (lane >= used || b->row[lane] == SIZE_MAX) b->row[lane] = SIZE_MAX, b->lse[lane] = 0;
    return first;
}

void attn_look_block_load(attn_look_block *b, const attn_look *look) {
    const void *rows[ATTN_MAX_LANES];
    attn_extras_set(&b->extras, &b->block, &look->at);
    attn_block_rows(rows, &b->block, &look->at, &look->at.q);
    look->at.kernels->attention_pack(b->q, b->block.lanes, rows, look->at.dtype, look->at.d);
}

const float *attn_look_keys(const attn_look *look, const attn_sequence *x, size_t unit, size_t key, size_t rows,
                            float *copy, ptrdiff_t *k_row) {
    const attn_attention *at = &look->at;
    const void *k = attn_view_at(&at->k, x->index, attn_look_key_head(look, unit), x->k_first + (ptrdiff_t)key);
    *k_row = at->k.row;
    if (!look->copy_k) return k;
    *k_row = (ptrdiff_t)attn_whole(at, at->d);
    at->kernels->attention_copy(copy, *k_row, k, at->dtype, at->k.row, rows, at->d, false);
    return copy;
}

bool attn_look_weights(float *s, attn_look_block *b, const attn_look *look, const attn_tile *tile, const float *k,
                       ptrdiff_t k_row, attn_weights_tile job) {
    const attn_attention *at = &look->at;
    const attn_product product = attn_score_product(s, tile->keys, at->d, b->block.lanes, k, k_row, b->q);
    attn_chained_product(at->kernels->attention_product, &product);
    attn_tile_logits(tile, s, &b->extras, &b->block, at);
    job.keys = tile->keys, job.lanes = b->block.lanes;
    job.s = s, job.factor = at->factor, job.lse = b->lse, job.live = b->live;
    job.visible = tile->class == ATTN_TILE_PARTIAL ? tile->visible : NULL;
    return at->kernels->attention_weights(&job);
}
