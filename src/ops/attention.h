/* attention.h: what a call of the attention operator becomes once its arguments are checked, and the blocks and tiles
 * that forward, backward and weights are made of.
 *
 *     attn_attention at;
 *     ATTN_TRY(attn_attention_check(&at, ctx, "attn_attention_fwd", q, k, v, options));
 *     …
 *     attn_block_set(&block, &at, &sequence, key_head, row);
 *     attn_tile tile = attn_block_tile(&block, &at, key);          // NONE, FULL or PARTIAL with its words
 *
 * The rows of a block are the queries of all heads that share a key head, in the order (position, head): row r is query
 * r / group of head key_head · group + r mod group. So a group of any size fills the lanes, and queries of one
 * position, which see the same keys, are neighbours. */
#ifndef ATTN_OPS_ATTENTION_H
#define ATTN_OPS_ATTENTION_H

#include "kernel/kernels.h"
#include "ops/check.h"
#include <attn/attention.h>
#include <attn/cache.h>

/* Elements of a tensor (B, H, rows, …) in memory; batch is 0 for packed sequences. Strides in elements. */
typedef struct attn_view {
    char *data; /* NULL: not given */
    attn_dtype dtype;
    ptrdiff_t batch, head, row, column;
} attn_view;

static inline void *attn_view_at(const attn_view *view, size_t b, size_t h, ptrdiff_t row) {
    ptrdiff_t at = (ptrdiff_t)b * view->batch + (ptrdiff_t)h * view->head + row * view->row;
    return view->data + at * (ptrdiff_t)attn_dtype_size(view->dtype);
}

typedef struct attn_attention {
    attn_context *ctx;
    const attn_kernels *kernels;
    const char *where;
    attn_attention_options options; /* scale set */
    bool packed;
    size_t sequences, heads, key_heads, group, d, dv, t, s; /* t, s: of the longest sequence */
    attn_dtype dtype;
    attn_view q, k, v, out, lse, dout, dlse, mask, bias;
    const attn_kv_cache *cache; /* has the keys and values, instead of k and v; or NULL */
    bool fast;                  /* bf16: products of pairs, weights rounded to bf16 */
    bool logits;                /* scores are not only scaled: cap, bias, slopes, or a factor that is not positive */
    bool irregular;             /* visible keys are more than one interval: mask, tree, segments */
    float factor;               /* scores (or logits) times it are in units of log 2 */
    uint32_t threshold;         /* dropout: p · 2¹⁶ */
    float kept;
} attn_attention;

/* Checks everything but outputs and gradients. */
attn_status attn_attention_check(attn_attention *at, attn_context *ctx, const char *where, const attn_tensor *q,
                                 const attn_tensor *k, const attn_tensor *v, const attn_attention_options *options);
/* One more tensor of (B, H, T, last), packed (H, ΣT, last); last 0: without that dimension. t NULL: an empty view. */
typedef enum attn_side { ATTN_QUERY_SIDE, ATTN_KEY_SIDE } attn_side;
attn_status attn_attention_view(attn_view *view, const attn_attention *at, const char *name, const attn_tensor *t,
                                attn_side side, size_t last, bool f32_too, bool f32_only);
/* Refuses a written tensor that shares memory with another one; other NULL: that shares memory with itself. */
attn_status attn_attention_apart(const attn_attention *at, const char *name, const attn_tensor *written,
                                 const char *other_name, const attn_tensor *other);

typedef struct attn_sequence {
    size_t index, t, s;
    ptrdiff_t q_first, k_first; /* packed: its first row; else 0 */
    int64_t position;           /* of query 0 among the keys */
    size_t prefix;
    uint32_t id;
} attn_sequence;
attn_sequence attn_attention_sequence(const attn_attention *at, size_t b);

/* ---- blocks and tiles ------------------------------------------------------------------------------- */

typedef struct attn_block {
    attn_sequence sequence;
    size_t key_head, row, count, lanes;              /* rows row … row+count−1; lanes: whole vectors */
    size_t low, high;                                /* every visible key of every row is in low … high−1 */
    size_t inner_low, inner_high;                    /* and every row's interval has inner_low … inner_high−1 */
    size_t from[ATTN_MAX_LANES], to[ATTN_MAX_LANES]; /* the interval of each row */
} attn_block;

/* Rows of a block, at most. */
static inline size_t attn_block_lanes(const attn_attention *at) {
    return at->fast ? at->kernels->pair_lanes : at->kernels->block_lanes;
}
void attn_block_set(attn_block *block, const attn_attention *at, const attn_sequence *sequence, size_t key_head,
                    size_t row);
void attn_block_set_rows(attn_block *block, const attn_attention *at, const attn_sequence *sequence, size_t key_head,
                         size_t row, size_t count);
static inline size_t attn_block_query(const attn_block *block, const attn_attention *at, size_t lane) {
    return at->group == 1 ? block->row + lane : (block->row + lane) / at->group;
}
static inline size_t attn_block_head(const attn_block *block, const attn_attention *at, size_t lane) {
    return at->group == 1 ? block->key_head : block->key_head * at->group + (block->row + lane) % at->group;
}
/* Pointers to the rows of a view for each lane; NULL past count. */
void attn_block_rows(const void *rows[ATTN_MAX_LANES], const attn_block *block, const attn_attention *at,
                     const attn_view *view);

typedef enum attn_tile_class { ATTN_TILE_NONE, ATTN_TILE_FULL, ATTN_TILE_PARTIAL } attn_tile_class;
typedef struct attn_tile {
    attn_tile_class class;
    size_t key, keys; /* keys key … key+keys−1 are worth a look; the tile's grid begins at a multiple of 64 */
    uint64_t visible[ATTN_TILE];  /* PARTIAL: [keys] lanes that see it */
    uint8_t ends[ATTN_MAX_LANES]; /* PARTIAL: for each vector of lanes, keys from there on are seen by none */
    bool ragged;                  /* some of these are less than keys */
} attn_tile;
/* The tile whose grid begins at `key`, a multiple of ATTN_TILE below sequence.s. */
void attn_block_tile(attn_tile *tile, const attn_block *block, const attn_attention *at, size_t key);
/* The same with the keys that each row sees instead of tile->visible: PARTIAL: words[row], bit j is key tile->key + j.
 */
void attn_block_words(attn_tile *tile, uint64_t words[ATTN_MAX_LANES], const attn_block *block,
                      const attn_attention *at, size_t key);

static inline uint64_t attn_first_bits(size_t n) { return n >= 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1; }

/* Scratch for what turns scores into logits. */
typedef struct attn_extras {
    float *bias, *keep, *capped; /* [ATTN_TILE][lanes]; NULL where the call has no such option (capped: forward too) */
    float slope[ATTN_MAX_LANES], position[ATTN_MAX_LANES];
    uint32_t stream[ATTN_MAX_LANES], query[ATTN_MAX_LANES];
} attn_extras;
/* For a new block: slopes and the counters of dropout. */
void attn_extras_set(attn_extras *extras, const attn_block *block, const attn_attention *at);
/* Scores [keys][lanes] of a tile become logits in units of log 2; nothing where at->logits is false. */
void attn_tile_logits(const attn_tile *tile, float *s, attn_extras *extras, const attn_block *block,
                      const attn_attention *at);
/* What each weight is multiplied by, into extras->keep. The first row is that of key tile->key. */
const float *attn_tile_keep(const attn_tile *tile, attn_extras *extras, const attn_block *block,
                            const attn_attention *at);

/* Pairs are multiplied in groups of more than one, by tiles: their terms begin on the grid of groups, and the left side
 * of a product had better have its terms one after the other. */
static inline bool attn_by_tiles(const attn_attention *at) { return at->fast && at->kernels->pair_group > 1; }

/* Rows of bf16 as rows of pairs, one to a float: read where they lie if every row is whole pairs and lies as a float
 * does. */
static inline bool attn_rows_are_pairs(const attn_view *view, size_t columns) {
    const bool even = columns % 2 == 0 && view->row % 2 == 0 && view->head % 2 == 0 && view->batch % 2 == 0;
    return even && (uintptr_t)view->data % sizeof(float) == 0;
}

/* Rows of a tensor as memory that is wanted soon; keys: rows of k and v, as many of `rows` as there are. They return
 * the cache lines. */
static inline void attn_ahead_clear(attn_ahead *ahead) {
    ahead->next = ahead->end = NULL, ahead->span = ahead->spans_n = 0;
}
size_t attn_ahead_add(attn_ahead *ahead, const attn_view *view, size_t b, size_t head, ptrdiff_t row, size_t rows,
                      size_t columns, bool written);
size_t attn_ahead_keys(attn_ahead *ahead, const attn_attention *at, const attn_sequence *x, size_t key_head, size_t key,
                       size_t rows);

/* S = K Qᵀ and the like: a product of any number of terms, not added to C, in chains of ATTN_CHAIN terms. */
typedef void attn_product_kernel(const attn_product *product);
void attn_chained_product(attn_product_kernel *kernel, const attn_product *product);
/* The scores of a tile: rows of k times the queries of a block, [D][lanes]. */
static inline attn_product attn_score_product(float *s, size_t keys, size_t terms, size_t lanes, const float *k,
                                              ptrdiff_t k_row, const float *q) {
    return (attn_product){.rows = keys,
                          .terms = terms,
                          .lanes = lanes,
                          .a = k,
                          .a_row = k_row,
                          .a_term = 1,
                          .b = q,
                          .b_term = (ptrdiff_t)lanes,
                          .c = s,
                          .c_row = (ptrdiff_t)lanes};
}

/* c[row][column] += Σ a[row][term] · x for the elements x of b[term][column] that are not finite, over visible pairs.
 * Rows are keys and terms lanes, or (rows_are_lanes) the other way round. Everything else of the product was made with
 * zeros in their place. */
typedef struct attn_repair {
    const attn_tile *tile;
    const float *bias; /* pairs with −inf are not visible; or NULL */
    size_t lanes;      /* of a and bias */
    const float *a;    /* [key][lane] */
    float *c;
    ptrdiff_t c_row, c_column;
    const float *b;
    ptrdiff_t b_row;
    size_t columns, count; /* lanes in use */
} attn_repair;
void attn_repair_keys(const attn_repair *repair);  /* b's rows are keys, c's are lanes */
void attn_repair_lanes(const attn_repair *repair); /* b's rows are lanes, c's are keys */

/* ---- work ------------------------------------------------------------------------------------------- */

/* Runs task(job, index, scratch) for 0 … n−1, in increasing order of their start, with one scratch of `bytes` for each
 * thread, out of `workspace` (workers · bytes). */
typedef void attn_attention_task(void *job, size_t index, void *scratch);
size_t attn_attention_workers(const attn_attention *at, size_t tasks, double ns);
/* With shares (or NULL), for tasks that each read much memory of their own: they are dealt out, and every thread begins
 * with a share that is the same in every call of so many tasks, since its caches may still hold what it read there. Who
 * is done helps others, from the end of their share; so then the order is not increasing. */
typedef struct attn_share {
    _Alignas(64) _Atomic uint64_t left; /* begin · 2^32 + end */
} attn_share;
void attn_attention_run(const attn_attention *at, attn_share *shares /* (workers) */, size_t workers, size_t tasks,
                        attn_attention_task *task, void *job, void *workspace, size_t bytes);
/* options.workspace if it suffices, else memory that *allocated keeps for attn_release. */
attn_status attn_attention_memory(const attn_attention *at, void **workspace, void **allocated, size_t bytes);

/* The second half of attn_attention_fwd, for a checked call; k and v may be NULL. */
attn_status attn_attention_forward(attn_attention *at, const attn_tensor *out, const attn_tensor *lse,
                                   const attn_tensor *q, const attn_tensor *k, const attn_tensor *v);
/* Row i of head h ends with these: what its output is multiplied by; its LSE is written. A sink joins the sum here.
 * rounded: the sum of the rounded weights, or NULL. */
float attn_row_end(const attn_attention *at, const attn_sequence *sequence, size_t h, size_t i, float max, float sum,
                   const float *rounded);

/* Few queries (attention_decode.c), or keys in a cache: the same bits by kernels whose lanes are keys. */
bool attn_decode_fits(const attn_attention *at);
size_t attn_decode_bytes(const attn_attention *at);
attn_status attn_decode_run(const attn_attention *at);

/* What forward and backward need, all threads together. */
size_t attn_attention_forward_bytes(attn_attention *at);
size_t attn_attention_backward_bytes(attn_attention *at);

/* Hands out pieces of scratch, 64-byte aligned; with base NULL it only counts. */
typedef struct attn_scratch {
    char *base;
    size_t used;
} attn_scratch;
static inline void *attn_scratch_take(attn_scratch *scratch, size_t bytes) {
    void *piece = scratch->base ? scratch->base + scratch->used : NULL;
    scratch->used += (bytes + 63) / 64 * 64;
    return piece;
}
static inline float *attn_scratch_floats(attn_scratch *scratch, size_t rows, size_t lanes) {
    return attn_scratch_take(scratch, rows * lanes * sizeof(float));
}

/* Columns in whole vectors. */
static inline size_t attn_whole(const attn_attention *at, size_t columns) {
    return (columns + at->kernels->lanes - 1) / at->kernels->lanes * at->kernels->lanes;
}

#define ATTN_LOG2E 1.44269504088896340736f
#define ATTN_LN2 0.693147180559945309417

#endif
