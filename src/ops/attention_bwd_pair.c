/* attention_bwd_pair.c: what the backward pass and the bias's gradient have in common. */
#include "ops/attention_bwd.h"

#include <math.h>

void attn_backward_block_layout(attn_backward_block *b, const attn_attention *at, attn_scratch *scratch,
                                bool counting) {
    const size_t lanes = at->kernels->block_lanes;
    float *q = attn_scratch_floats(scratch, attn_whole(at, at->d), lanes);
    float *dout = attn_scratch_floats(scratch, attn_whole(at, at->dv), lanes);
    float *q_columns = attn_scratch_floats(scratch, at->d, lanes),
          *dout_columns = attn_scratch_floats(scratch, at->dv, lanes);
    float *bias = at->options.bias ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    float *keep = at->threshold ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    float *capped = at->options.softcap > 0 ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    if (counting) return;
    b->q = q, b->dout = dout, b->q_columns = q_columns, b->dout_columns = dout_columns;
    b->extras.bias = bias, b->extras.keep = keep, b->extras.capped = capped;
}

void attn_backward_block_set(attn_backward_block *b, const attn_attention *at, const attn_sequence *x, size_t key_head,
                             size_t row) {
    const attn_kernels *kernels = at->kernels;
    const void *q[ATTN_MAX_LANES], *dout[ATTN_MAX_LANES], *out[ATTN_MAX_LANES];
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv);
    attn_block *block = &b->block;
    attn_block_set(block, at, x, key_head, row);
    attn_extras_set(&b->extras, block, at);
    attn_block_rows(q, block, at, &at->q);
    attn_block_rows(dout, block, at, &at->dout);
    attn_block_rows(out, block, at, &at->out);
    for (size_t lane = 0; lane < block->lanes; lane++) {
        float *q_row = b->q + lane * d, *dout_row = b->dout + lane * dv;
        float lse = -INFINITY;
        if (lane < block->count)
            lse = *(const float *)attn_view_at(&at->lse, x->index, attn_block_head(block, at, lane),
                                               x->q_first + (ptrdiff_t)attn_block_query(block, at, lane));
        const bool empty = lse == -INFINITY || lane >= block->count || block->from[lane] == block->to[lane];
        b->lse[lane] = empty ? INFINITY : lse * ATTN_LOG2E;
        if (empty) {
            memset(q_row, 0, d * sizeof *q_row), memset(dout_row, 0, dv * sizeof *dout_row);
            out[lane] = NULL;
        } else {
            kernels->attention_copy(q_row, 0, q[lane], at->dtype, 0, 1, at->d, false);
            kernels->attention_copy(dout_row, 0, dout[lane], at->dtype, 0, 1, at->dv, false);
        }
        q[lane] = q_row;
    }
    kernels->attention_pack(b->q_columns, block->lanes, q, ATTN_F32, at->d);
    kernels->attention_row_dots(b->delta, dout, out, at->dtype, block->lanes, at->dv);
    for (size_t lane = 0; lane < block->lanes; lane++) {
        dout[lane] = b->dout + lane * dv;
        if (at->dlse.data && out[lane])
            b->delta[lane] -= *(const float *)attn_view_at(&at->dlse, x->index, attn_block_head(block, at, lane),
                                                           x->q_first + (ptrdiff_t)attn_block_query(block, at, lane));
    }
    kernels->attention_pack(b->dout_columns, block->lanes, dout, ATTN_F32, at->dv);
    b->q_finite = kernels->attention_is_finite(b->q, (ptrdiff_t)d, block->count, at->d);
    b->dout_finite = kernels->attention_is_finite(b->dout, (ptrdiff_t)dv, block->count, at->dv);
}

void attn_backward_keys_layout(attn_backward_keys *keys, const attn_attention *at, attn_scratch *scratch) {
    float *k = attn_scratch_floats(scratch, ATTN_TILE, attn_whole(at, at->d));
    float *v = attn_scratch_floats(scratch, ATTN_TILE, attn_whole(at, at->dv));
    if (k) keys->k = k, keys->v = v;
}

void attn_backward_keys_set(attn_backward_keys *keys, const attn_attention *at, const attn_sequence *x, size_t key_head,
                            size_t key) {
    const size_t rows = ATTN_MIN((size_t)ATTN_TILE, x->s - key);
    const ptrdiff_t d = (ptrdiff_t)attn_whole(at, at->d), dv = (ptrdiff_t)attn_whole(at, at->dv);
    const void *k = attn_view_at(&at->k, x->index, key_head, x->k_first + (ptrdiff_t)key);
    const void *v = attn_view_at(&at->v, x->index, key_head, x->k_first + (ptrdiff_t)key);
    keys->key = key;
    at->kernels->attention_copy(keys->k, d, k, at->dtype, at->k.row, rows, at->d, false);
    at->kernels->attention_copy(keys->v, dv, v, at->dtype, at->v.row, rows, at->dv, false);
    keys->k_finite = at->kernels->attention_is_finite(keys->k, d, rows, at->d);
}

void attn_backward_pair(float *s, float *ds, float *dbias, attn_backward_block *b, const attn_backward_keys *keys,
                        const attn_tile *tile, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const size_t lanes = b->block.lanes, skipped = tile->key - keys->key;
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv);
    const uint8_t *ends = tile->class == ATTN_TILE_PARTIAL && tile->ragged ? tile->ends : NULL;
    attn_chained_product(kernels->attention_product, s, tile->keys, at->d, lanes, keys->k + skipped * d, (ptrdiff_t)d,
                         b->q_columns, ends);
    attn_tile_logits(tile, s, &b->extras, &b->block, at);
    attn_chained_product(kernels->attention_product, ds, tile->keys, at->dv, lanes, keys->v + skipped * dv,
                         (ptrdiff_t)dv, b->dout_columns, ends);
    uint64_t seen[ATTN_TILE]; /* with a bias of −inf a pair is not visible either */
    const uint64_t *visible = tile->class == ATTN_TILE_PARTIAL ? tile->visible : NULL;
    if (b->extras.bias) {
        for (size_t j = 0; j < tile->keys; j++) {
            seen[j] = visible ? visible[j] : UINT64_MAX;
            for (size_t lane = 0; lane < lanes; lane++)
                if (b->extras.bias[j * lanes + lane] == -INFINITY) seen[j] &= ~((uint64_t)1 << lane);
        }
        visible = seen;
    }
    attn_backward_tile job = {.keys = tile->keys,
                              .lanes = lanes,
                              .s = s,
                              .dp = ds,
                              .factor = at->factor,
                              .lse = b->lse,
                              .delta = b->delta,
                              .visible = visible,
                              .ends = ends,
                              .keep = at->threshold ? attn_tile_keep(tile, &b->extras, &b->block, at) : NULL,
                              .capped = b->extras.capped,
                              .dbias = dbias};
    kernels->attention_backward(&job);
}
