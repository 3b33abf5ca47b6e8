/* attention_explain.c: what a call of the attention operator would do, in words, and how much memory it wants. */
#include "ops/attention.h"

#include <stdio.h>

attn_status attn_attention_workspace(attn_context *ctx, size_t *forward, size_t *backward, const attn_tensor *q,
                                     const attn_tensor *k, const attn_tensor *v,
                                     const attn_attention_options *options) {
    attn_attention at;
    ATTN_TRY(attn_attention_check(&at, ctx, "attn_attention_workspace", q, k, v, options));
    if (forward) *forward = attn_attention_forward_bytes(&at);
    if (backward) *backward = attn_attention_backward_bytes(&at);
    return ATTN_OK;
}

typedef struct tile_counts {
    size_t of[3];           /* by class */
    double visible, looked; /* pairs in tiles that are not skipped: visible by position, and computed */
} tile_counts;

static tile_counts count_tiles(const attn_attention *at) {
    tile_counts counts = {{0, 0, 0}, 0.0, 0.0};
    attn_block block;
    attn_tile tile;
    for (size_t b = 0; b < at->sequences; b++) {
        const attn_sequence x = attn_attention_sequence(at, b);
        for (size_t head = 0; head < at->key_heads; head++)
            for (size_t row = 0; row < x.t * at->group; row += attn_block_lanes(at)) {
                attn_block_set(&block, at, &x, head, row);
                for (size_t lane = 0; lane < block.count; lane++)
                    counts.visible += (double)(block.to[lane] - block.from[lane]);
                for (size_t key = 0; key < x.s; key += ATTN_TILE) {
                    attn_block_tile(&tile, &block, at, key);
                    counts.of[tile.class]++;
                    if (tile.class != ATTN_TILE_NONE) counts.looked += (double)tile.keys * (double)block.count;
                }
            }
    }
    return counts;
}

attn_status attn_attention_explain(attn_context *ctx, char *text, size_t bytes, const attn_tensor *q,
                                   const attn_tensor *k, const attn_tensor *v, const attn_attention_options *options) {
    static const char where[] = "attn_attention_explain";
    attn_attention at;
    if (!text || bytes == 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: text is %p, bytes %zu", where, (void *)text, bytes);
    ATTN_TRY(attn_attention_check(&at, ctx, where, q, k, v, options));
    const attn_attention_options *o = &at.options;
    const tile_counts counts = count_tiles(&at);
    char blocks[96];
    if (attn_decode_fits(&at))
        snprintf(blocks, sizeof blocks, "few queries: lanes are keys, splits of %d keys merged in order", ATTN_SPLIT);
    else snprintf(blocks, sizeof blocks, "lanes are queries, blocks of %zu", attn_block_lanes(&at));
    static const char *const causal[] = {"none", "top-left", "bottom-right", "offset"};
    snprintf(
        text, bytes,
        "%zu sequences, %zu query heads on %zu key heads (%zu share one), %zu queries, %zu keys, head sizes %zu and "
        "%zu, %s\n"
        "kernels: %s, %s, tiles of %d keys, %s\n"
        "visible: causal %s%s%s%s%s\n"
        "tiles: %zu full, %zu partial, %zu skipped; %.4g of %.4g pairs computed, %.4g of them visible by position\n"
        "scores: %s\n"
        "memory: %zu bytes forward, %zu backward, for up to %d threads; nothing of the size of T times S\n",
        at.sequences, at.heads, at.key_heads, at.group, at.t, at.s, at.d, at.dv, attn_dtype_name(at.dtype),
        attn_cpu_level(ctx), blocks, ATTN_TILE,
        at.dtype == ATTN_F32 ? "K and V read where they lie unless their rows share a cache set"
                             : "K and V widened to f32 tile by tile",
        causal[o->causal], o->window_left >= 0 || o->window_right >= 0 ? ", window" : "", o->mask ? ", mask" : "",
        o->tree ? ", tree" : "", o->segments_q ? ", segments" : "", counts.of[ATTN_TILE_FULL],
        counts.of[ATTN_TILE_PARTIAL], counts.of[ATTN_TILE_NONE], counts.looked,
        (double)at.sequences * (double)at.heads * (double)at.t * (double)at.s, counts.visible,
        at.logits ? "a pass for cap, bias, slopes or a scale that is not positive"
                  : "straight from the product into the softmax",
        attn_attention_forward_bytes(&at), attn_attention_backward_bytes(&at), attn_threads(ctx));
    return ATTN_OK;
}
