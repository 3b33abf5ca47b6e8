/* attention_bwd_pair.c: what the backward pass and the bias's gradient have in common. */
#include "ops/attention_bwd.h"

#include <math.h>

void attn_backward_block_layout(attn_backward_block *b, const attn_attention *at, attn_scratch *scratch,
                                bool counting) {
    const size_t lanes = ATTN_MAX_LANES;
    float *q = attn_scratch_floats(scratch, attn_whole(at, at->d), lanes);
    float *dout = attn_scratch_floats(scratch, attn_whole(at, at->dv), lanes);
    float *q_columns = attn_scratch_floats(scratch, at->d, lanes),
          *dout_columns = attn_scratch_floats(scratch, at->dv, lanes);
    float *q_pairs = attn_scratch_floats(scratch, attn_whole(at, at->d) + 1, at->fast ? lanes / 2 : 0);
    float *dout_pairs = attn_scratch_floats(scratch, attn_whole(at, at->dv) + 1, at->fast ? lanes / 2 : 0);
    float *bias = at->options.bias ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    float *keep = at->threshold ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    float *capped = at->options.softcap > 0 ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    if (counting) return;
    b->q_pairs = q_pairs, b->dout_pairs = dout_pairs;
    b->q = q, b->dout = dout, b->q_columns = q_columns, b->dout_columns = dout_columns;
    b->extras.bias = bias, b->extras.keep = keep, b->extras.capped = capped;
}

static size_t pairs_of(size_t columns) { return (columns + 1) / 2; }

/* Rows of f32 that hold bf16 values, [row][width], as rows of pairs along the columns, an odd last one with 0. */
static void pair_columns(float *to, const float *rows, size_t width, size_t n, size_t columns,
                         const attn_attention *at) {
    const size_t pairs = pairs_of(columns);
    memset(to, 0, n * pairs * sizeof *to);
    at->kernels->attention_put(to, ATTN_BF16, (ptrdiff_t)pairs * 2, rows, (ptrdiff_t)width, n, columns, 1.0f, false);
}

/* [lane][width] as columns, in the fast path of pairs; `pairs` holds the rows of pairs there before the pairs of lanes.
 */
static void set_columns(float *to, float *pairs, const float *rows, size_t width, size_t columns,
                        const attn_block *block, const attn_attention *at) {
    const void *lanes[ATTN_MAX_LANES];
    const size_t half = pairs_of(columns);
    if (at->fast) pair_columns(pairs, rows, width, block->count, columns, at);
    for (size_t lane = 0; lane < block->lanes; lane++) {
        if (at->fast) lanes[lane] = lane < block->count ? pairs + lane * half : NULL;
        else lanes[lane] = rows + lane * width;
    }
    at->kernels->attention_pack(to, block->lanes, lanes, ATTN_F32, at->fast ? half : columns);
    if (at->fast)
        at->kernels->attention_pair_rows(pairs, (ptrdiff_t)width, rows, ATTN_F32, (ptrdiff_t)width, block->count,
                                         columns);
}

/* Rows of a view for the lanes in use, as f32 in whole vectors. */
static void copy_rows(float *to, const void *const *rows, const attn_view *view, const attn_block *block,
                      size_t columns, const attn_attention *at) {
    const size_t width = attn_whole(at, columns);
    if (at->group == 1) {
        at->kernels->attention_copy(to, (ptrdiff_t)width, rows[0], at->dtype, view->row, block->count, columns, false);
        return;
    }
    for (size_t lane = 0; lane < block->count; lane++)
        at->kernels->attention_copy(to + lane * width, 0, rows[lane], at->dtype, 0, 1, columns, false);
}

void attn_backward_block_set(attn_backward_block *b, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const void *q[ATTN_MAX_LANES], *dout[ATTN_MAX_LANES], *out[ATTN_MAX_LANES];
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv);
    attn_block *block = &b->block;
    const attn_sequence *x = &block->sequence;
    attn_extras_set(&b->extras, block, at);
    attn_block_rows(q, block, at, &at->q);
    attn_block_rows(dout, block, at, &at->dout);
    attn_block_rows(out, block, at, &at->out);
    copy_rows(b->q, q, &at->q, block, at->d, at);
    copy_rows(b->dout, dout, &at->dout, block, at->dv, at);
    for (size_t lane = 0; lane < block->lanes; lane++) {
        float lse = -INFINITY;
        if (lane < block->count)
            lse = *(const float *)attn_view_at(&at->lse, x->index, attn_block_head(block, at, lane),
                                               x->q_first + (ptrdiff_t)attn_block_query(block, at, lane));
        const bool empty = lse == -INFINITY || lane >= block->count || block->from[lane] == block->to[lane];
        b->lse[lane] = empty ? INFINITY : lse * ATTN_LOG2E;
        if (!empty) continue;
        memset(b->q + lane * d, 0, d * sizeof *b->q), memset(b->dout + lane * dv, 0, dv * sizeof *b->dout);
        out[lane] = NULL;
    }
    set_columns(b->q_columns, b->q_pairs, b->q, d, at->d, block, at);
    kernels->attention_row_dots(b->delta, dout, out, at->dtype, block->lanes, at->dv);
    for (size_t lane = 0; lane < block->lanes; lane++) {
        if (at->dlse.data && out[lane])
            b->delta[lane] -= *(const float *)attn_view_at(&at->dlse, x->index, attn_block_head(block, at, lane),
                                                           x->q_first + (ptrdiff_t)attn_block_query(block, at, lane));
    }
    set_columns(b->dout_columns, b->dout_pairs, b->dout, dv, at->dv, block, at);
    b->inspected = false;
}

void attn_backward_inspect(attn_backward_block *b, attn_backward_keys *keys, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const ptrdiff_t d = (ptrdiff_t)attn_whole(at, at->d), dv = (ptrdiff_t)attn_whole(at, at->dv);
    if (!b->inspected) {
        b->q_finite = kernels->attention_is_finite(b->q, d, b->block.count, at->d);
        b->dout_finite = kernels->attention_is_finite(b->dout, dv, b->block.count, at->dv);
        b->inspected = true;
    }
    if (!keys->inspected) {
        keys->k_finite = kernels->attention_is_finite(keys->k, d, keys->rows, at->d);
        keys->inspected = true;
    }
}

void attn_backward_keys_layout(attn_backward_keys *keys, const attn_attention *at, attn_scratch *scratch) {
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv), rows = at->fast ? ATTN_TILE : 0;
    float *k = attn_scratch_floats(scratch, ATTN_TILE, d), *v = attn_scratch_floats(scratch, ATTN_TILE, dv);
    float *k_rows = attn_scratch_floats(scratch, rows, pairs_of(at->d));
    float *v_rows = attn_scratch_floats(scratch, rows, pairs_of(at->dv));
    float *k_pairs = attn_scratch_floats(scratch, rows / 2, d);
    if (!k) return;
    *keys = (attn_backward_keys){.k = k, .v = v, .k_rows = k, .v_rows = v};
    if (at->fast) keys->k_rows = k_rows, keys->v_rows = v_rows, keys->k_pairs = k_pairs;
}

void attn_backward_results_layout(attn_backward_results *to, const attn_attention *at, attn_scratch *scratch,
                                  bool dbias) {
    const size_t lanes = ATTN_MAX_LANES, rows = at->fast ? ATTN_TILE : 0;
    to->s = attn_scratch_floats(scratch, ATTN_TILE, lanes), to->ds = attn_scratch_floats(scratch, ATTN_TILE, lanes);
    to->dbias = dbias ? attn_scratch_floats(scratch, ATTN_TILE, lanes) : NULL;
    to->s_bf16 = attn_scratch_take(scratch, rows * lanes * sizeof(uint16_t));
    to->ds_bf16 = attn_scratch_take(scratch, rows * lanes * sizeof(uint16_t));
    to->ds_pairs = attn_scratch_floats(scratch, rows / 2, lanes);
}

void attn_backward_keys_set(attn_backward_keys *keys, const attn_attention *at, const attn_sequence *x, size_t key_head,
                            size_t key) {
    const size_t rows = ATTN_MIN((size_t)ATTN_TILE, x->s - key);
    const ptrdiff_t d = (ptrdiff_t)attn_whole(at, at->d), dv = (ptrdiff_t)attn_whole(at, at->dv);
    const void *k = attn_view_at(&at->k, x->index, key_head, x->k_first + (ptrdiff_t)key);
    const void *v = attn_view_at(&at->v, x->index, key_head, x->k_first + (ptrdiff_t)key);
    keys->key = key, keys->rows = rows, keys->inspected = false;
    at->kernels->attention_copy(keys->k, d, k, at->dtype, at->k.row, rows, at->d, false);
    at->kernels->attention_copy(keys->v, dv, v, at->dtype, at->v.row, rows, at->dv, false);
    if (at->fast) {
        pair_columns(keys->k_rows, keys->k, (size_t)d, rows, at->d, at);
        pair_columns(keys->v_rows, keys->v, (size_t)dv, rows, at->dv, at);
        at->kernels->attention_pair_rows(keys->k_pairs, d, keys->k, ATTN_F32, d, rows, at->d);
    }
}

void attn_backward_pair(const attn_backward_results *to, attn_backward_block *b, const attn_backward_keys *keys,
                        const attn_tile *tile, attn_ahead *ahead, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const size_t lanes = b->block.lanes, skipped = tile->key - keys->key;
    const size_t d = at->fast ? pairs_of(at->d) : attn_whole(at, at->d), d_terms = at->fast ? d : at->d;
    const size_t dv = at->fast ? pairs_of(at->dv) : attn_whole(at, at->dv), dv_terms = at->fast ? dv : at->dv;
    const uint8_t *ends = tile->class == ATTN_TILE_PARTIAL && tile->ragged ? tile->ends : NULL;
    attn_product_kernel *product = at->fast ? kernels->attention_product_bf16 : kernels->attention_product;
    attn_product scores =
        attn_score_product(to->s, tile->keys, d_terms, lanes, keys->k_rows + skipped * d, (ptrdiff_t)d, b->q_columns);
    scores.row_ends = ends, scores.ahead = ahead;
    attn_chained_product(product, &scores);
    attn_tile_logits(tile, to->s, &b->extras, &b->block, at);
    attn_product dp = attn_score_product(to->ds, tile->keys, dv_terms, lanes, keys->v_rows + skipped * dv,
                                         (ptrdiff_t)dv, b->dout_columns);
    dp.row_ends = ends, dp.ahead = ahead;
    attn_chained_product(product, &dp);
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
                              .s = to->s,
                              .dp = to->ds,
                              .weights = to->s_bf16,
                              .ds = to->ds_bf16,
                              .ds_pairs = to->ds_pairs,
                              .row = ATTN_MAX_LANES,
                              .factor = at->factor,
                              .lse = b->lse,
                              .delta = b->delta,
                              .visible = visible,
                              .ends = ends,
                              .keep = at->threshold ? attn_tile_keep(tile, &b->extras, &b->block, at) : NULL,
                              .capped = b->extras.capped,
                              .dbias = to->dbias};
    at->fast ? kernels->attention_backward_bf16(&job) : kernels->attention_backward(&job);
    /* The last of an odd number of queries shares its pair with a lane that is not in use, whose score of a key that is
     * not finite is NaN. */
    const size_t unused = b->block.count;
    for (size_t j = 0; at->fast && unused % 2 && j < tile->keys; j++)
        job.weights[j * job.row + unused] = job.ds[j * job.row + unused] = 0;
}
