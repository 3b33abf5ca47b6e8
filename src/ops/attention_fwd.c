/* attention_fwd.c: O = softmax(Q Kᵀ) V, a few blocks of queries at a time over all their tiles of keys.
 *
 * A task is up to TASK_BLOCKS blocks of one key head. It walks over the keys once; every tile is used by all its blocks
 * while it is in the cache, and the next one is fetched meanwhile. For each block it keeps, until the split of 512 keys
 * ends, Oᵀ with maximum and sum (see body/attention.h), then merges them into the total. A block whose keys fit into
 * one split needs no total. */
#include "base/half.h"
#include "ops/attention.h"

#include <math.h>
#include <string.h>

enum { TASK_BLOCKS = 4, TASK_BLOCKS_F32 = 8 };

typedef struct forward_block {
    attn_block block;
    attn_extras extras;
    float *q;                                 /* [D][lanes], in the fast path [D/2][lanes] pairs */
    float *part, *total;                      /* [Dv][lanes]; fast: one row more, the sum of the rounded weights */
    float *max, *sum, *total_max, *total_sum; /* [lanes] */
    bool seen, merged;                        /* the split has a tile, before that part is not set; total has a split */
} forward_block;

typedef struct forward_scratch {
    forward_block blocks[TASK_BLOCKS_F32];
    float *s, *rescale;     /* [ATTN_TILE][lanes], [lanes] */
    float *k, *v, *clean_v; /* copies of a tile: [ATTN_TILE][D or Dv in whole vectors], or as keys_of_tile says */
    float *wide;            /* [ATTN_TILE][the greater of D and Dv, in whole vectors] */
    float *pairs;           /* fast path: [ATTN_TILE/2][lanes] */
    float *columns;         /* by tiles: clean_v as keys_of_tile says */
    attn_tile tile;
    attn_ahead ahead;
} forward_scratch;

typedef struct forward_job {
    const attn_attention *at;
    size_t task_blocks, chunks; /* of task_blocks blocks, for a key head of the longest sequence */
    size_t tasks, workers;
    bool by_head; /* all tasks of a head, then the next head's: K and V may still be in the cache */
    bool copy_k, copy_v;
} forward_job;

/* A tile's keys and values. In the fast path rows of k are pairs along D, and rows of v pairs of keys (2i, 2i+1), or by
 * tiles its columns are: [Dv][ATTN_TILE/2]. */
typedef struct forward_keys {
    size_t key; /* of the first row */
    const float *k, *v, *raw_v;
    ptrdiff_t k_row, v_row, raw_v_row; /* raw_v: f32 values as they came; known once state is V_DIRTY */
    enum { V_UNKNOWN, V_FINITE, V_DIRTY } state;
} forward_keys;

static size_t output_rows(const attn_attention *at) { return at->dv + at->fast; }

/* Lays a scratch out at `base`, or counts its bytes. */
static size_t forward_layout(const forward_job *job, void *base) {
    const attn_attention *at = job->at;
    const attn_attention_options *o = &at->options;
    const size_t lanes = attn_block_lanes(at), splits = at->s > ATTN_SPLIT;
    attn_scratch scratch = {base, 0};
    forward_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    float *bias = o->bias ? attn_scratch_floats(&scratch, ATTN_TILE, lanes) : NULL;
    float *keep = at->threshold ? attn_scratch_floats(&scratch, ATTN_TILE, lanes) : NULL;
    f->s = attn_scratch_floats(&scratch, ATTN_TILE, lanes);
    f->rescale = attn_scratch_floats(&scratch, 1, lanes);
    const bool room = job->copy_k || at->fast; /* attn_attention_workspace does not know where k will lie */
    f->k = attn_scratch_floats(&scratch, ATTN_TILE, room ? attn_whole(at, at->d) : 0);
    f->v = attn_scratch_floats(&scratch, ATTN_TILE, job->copy_v ? attn_whole(at, at->dv) : 0);
    f->wide = attn_scratch_floats(&scratch, ATTN_TILE, at->fast ? attn_whole(at, ATTN_MAX(at->d, at->dv)) : 0);
    f->pairs = attn_scratch_floats(&scratch, ATTN_TILE / 2, at->fast ? lanes : 0);
    f->clean_v = attn_scratch_floats(&scratch, ATTN_TILE, attn_whole(at, at->dv));
    f->columns = attn_scratch_floats(&scratch, attn_by_tiles(at) ? ATTN_TILE / 2 : 0, attn_whole(at, at->dv));
    for (size_t i = 0; i < job->task_blocks; i++) {
        forward_block *b = f->blocks + i;
        b->extras = (attn_extras){.bias = bias, .keep = keep};
        b->q = attn_scratch_floats(&scratch, at->d, lanes);
        b->part = attn_scratch_floats(&scratch, output_rows(at), lanes);
        b->total = splits ? attn_scratch_floats(&scratch, output_rows(at), lanes) : b->part;
        b->max = attn_scratch_floats(&scratch, 1, lanes), b->sum = attn_scratch_floats(&scratch, 1, lanes);
        b->total_max = splits ? attn_scratch_floats(&scratch, 1, lanes) : b->max;
        b->total_sum = splits ? attn_scratch_floats(&scratch, 1, lanes) : b->sum;
    }
    return scratch.used;
}

/* ---- a block ---------------------------------------------------------------------------------------- */

static void fill(float *x, size_t n, float value) {
    for (size_t i = 0; i < n; i++) x[i] = value;
}

static void begin_split(forward_block *b, const attn_attention *at) {
    fill(b->max, b->block.lanes, -INFINITY);
    memset(b->sum, 0, b->block.lanes * sizeof *b->sum);
    if (at->fast) memset(b->part + at->dv * b->block.lanes, 0, b->block.lanes * sizeof *b->part);
    b->seen = false;
}

/* A copy of rows of an odd number of bf16 with a 0 behind each. */
static void copy_padded(float *to, const void *from, ptrdiff_t from_row, size_t rows, size_t columns) {
    const size_t pairs = (columns + 1) / 2;
    memset(to, 0, rows * pairs * sizeof *to);
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * pairs, (const uint16_t *)from + (ptrdiff_t)i * from_row, columns * sizeof(uint16_t));
}

static void pack_queries(forward_block *b, forward_scratch *f, const attn_attention *at) {
    const void *rows[ATTN_MAX_LANES];
    attn_block_rows(rows, &b->block, at, &at->q);
    if (!at->fast) {
        at->kernels->attention_pack(b->q, b->block.lanes, rows, at->dtype, at->d);
        return;
    }
    const size_t pairs = (at->d + 1) / 2;
    for (size_t lane = 0; !attn_rows_are_pairs(&at->q, at->d) && lane < b->block.count; lane++) {
        copy_padded(f->wide + lane * pairs, rows[lane], 0, 1, at->d);
        rows[lane] = f->wide + lane * pairs;
    }
    at->kernels->attention_pack(b->q, b->block.lanes, rows, ATTN_F32, pairs);
}

static void begin_block(forward_block *b, forward_scratch *f, const attn_attention *at, const attn_sequence *sequence,
                        size_t key_head, size_t row, size_t count) {
    attn_block_set_rows(&b->block, at, sequence, key_head, row, count);
    attn_extras_set(&b->extras, &b->block, at);
    pack_queries(b, f, at);
    b->merged = false;
    begin_split(b, at);
}

static void end_split(forward_block *b, const attn_attention *at) {
    if (b->total == b->part || !b->seen) return;
    const size_t lanes = b->block.lanes;
    if (!b->merged) {
        fill(b->total_max, lanes, -INFINITY);
        memset(b->total_sum, 0, lanes * sizeof *b->total_sum);
        memset(b->total, 0, output_rows(at) * lanes * sizeof *b->total);
        b->merged = true;
    }
    at->kernels->attention_merge(b->total, b->total_max, b->total_sum, b->part, b->max, b->sum, lanes, output_rows(at));
    begin_split(b, at);
}

/* Scores of a tile, then weights: into s, in the fast path into pairs. */
static void weigh(forward_scratch *f, forward_block *b, const forward_keys *keys, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const attn_tile *tile = &f->tile;
    const size_t lanes = b->block.lanes;
    const float *k = keys->k + (ptrdiff_t)(tile->key - keys->key) * keys->k_row;
    const bool partial = tile->class == ATTN_TILE_PARTIAL;
    const uint8_t *ends = partial && tile->ragged ? tile->ends : NULL;
    attn_product scores =
        attn_score_product(f->s, tile->keys, at->fast ? (at->d + 1) / 2 : at->d, lanes, k, keys->k_row, b->q);
    scores.row_ends = ends, scores.ahead = &f->ahead;
    attn_chained_product(at->fast ? kernels->attention_product_bf16 : kernels->attention_product, &scores);
    attn_tile_logits(tile, f->s, &b->extras, &b->block, at);
    attn_softmax_tile softmax = {.keys = tile->keys,
                                 .lanes = lanes,
                                 .s = f->s,
                                 .factor = at->factor,
                                 .visible = partial ? tile->visible : NULL,
                                 .ends = ends,
                                 .max = b->max,
                                 .sum = b->sum,
                                 .rescale = f->rescale,
                                 .pairs = f->pairs,
                                 .rounded_sum = b->part + at->dv * lanes};
    const float *keep = at->threshold ? attn_tile_keep(tile, &b->extras, &b->block, at) : NULL;
    softmax.keep = keep;
    const bool raised = at->fast ? kernels->attention_softmax_bf16(&softmax) : kernels->attention_softmax(&softmax);
    if (raised && b->seen) kernels->attention_scale(b->part, lanes, at->dv, f->rescale);
    if (keep && !at->fast) kernels->attention_multiply(f->s, keep, tile->keys * lanes);
}

/* Rows of pairs as columns. */
static void turn_pairs(float *to, const float *pairs, ptrdiff_t row, size_t rows, size_t columns,
                       const attn_attention *at) {
    const void *lanes[ATTN_TILE / 2];
    for (size_t i = 0; i < ATTN_TILE / 2; i++) lanes[i] = 2 * i < rows ? pairs + (ptrdiff_t)i * row : NULL;
    at->kernels->attention_pack(to, ATTN_TILE / 2, lanes, ATTN_F32, columns);
}

/* Looks whether all values of the tile are finite; if not, makes clean_v. */
static void inspect_values(forward_scratch *f, forward_keys *keys, size_t rows, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const ptrdiff_t width = (ptrdiff_t)attn_whole(at, at->dv);
    if (at->fast) {
        kernels->attention_copy(f->wide, width, keys->raw_v, ATTN_BF16, keys->raw_v_row, rows, at->dv, false);
        keys->raw_v = f->wide, keys->raw_v_row = width;
    }
    keys->state = V_FINITE;
    if (kernels->attention_is_finite(keys->raw_v, keys->raw_v_row, rows, at->dv)) return;
    keys->state = V_DIRTY;
    kernels->attention_copy(f->clean_v, width, keys->raw_v, ATTN_F32, keys->raw_v_row, rows, at->dv, true);
    if (at->fast)
        kernels->attention_pair_rows(f->clean_v, width, f->clean_v, ATTN_F32, width, rows, at->dv); /* in place */
    if (attn_by_tiles(at)) turn_pairs(f->columns, f->clean_v, width, rows, at->dv, at);
}

/* Weights that were rounded to bf16 as floats again. */
static void widen_weights(float *s, const float *pairs, size_t keys, size_t lanes) {
    for (size_t j = 0; j < keys; j++)
        for (size_t lane = 0; lane < lanes; lane++) {
            const uint32_t pair = attn_float_bits(pairs[j / 2 * lanes + lane]);
            s[j * lanes + lane] = attn_float_of_bits(j % 2 ? pair & 0xffff0000u : pair << 16);
        }
}

/* One tile: scores, weights, and their part of the output. */
static void use_tile(forward_scratch *f, forward_block *b, forward_keys *keys, const attn_attention *at) {
    const attn_tile *tile = &f->tile;
    const size_t lanes = b->block.lanes, skipped = tile->key - keys->key;
    const size_t rows = ATTN_MIN((size_t)ATTN_TILE, b->block.sequence.s - keys->key);
    const float *v = keys->v;
    ptrdiff_t v_row = keys->v_row;
    weigh(f, b, keys, at);
    /* 0 · NaN must not reach a lane that does not see the key; a pair may hold a key that no lane sees. */
    const bool half = at->fast && tile->keys % 2 && skipped + tile->keys < rows;
    const bool some = tile->class == ATTN_TILE_PARTIAL || b->extras.bias || half;
    if (some && keys->state == V_UNKNOWN) inspect_values(f, keys, rows, at);
    const bool dirty = some && keys->state == V_DIRTY;
    if (dirty) v = f->clean_v, v_row = (ptrdiff_t)attn_whole(at, at->dv);
    if (dirty && attn_by_tiles(at)) v = f->columns, v_row = ATTN_TILE / 2;
    uint8_t ends[ATTN_MAX_LANES];
    const bool ragged = tile->class == ATTN_TILE_PARTIAL && tile->ragged;
    for (size_t i = 0; ragged && i < lanes / at->kernels->lanes; i++)
        ends[i] = at->fast ? (uint8_t)((tile->ends[i] + 1) / 2) : tile->ends[i];
    attn_product mix = {.rows = at->dv,
                        .terms = at->fast ? (tile->keys + 1) / 2 : tile->keys,
                        .lanes = lanes,
                        .a = v + (ptrdiff_t)(at->fast ? skipped / 2 : skipped) * v_row,
                        .a_row = 1,
                        .a_term = v_row,
                        .b = at->fast ? f->pairs : f->s,
                        .b_term = (ptrdiff_t)lanes,
                        .c = b->part,
                        .c_row = (ptrdiff_t)lanes,
                        .add = b->seen,
                        .term_ends = ragged ? ends : NULL,
                        .ahead = &f->ahead};
    if (attn_by_tiles(at)) mix.a = v + skipped / 2, mix.a_row = v_row, mix.a_term = 1;
    at->fast ? at->kernels->attention_product_bf16(&mix) : at->kernels->attention_product(&mix);
    b->seen = true;
    if (!dirty) return;
    if (at->fast) widen_weights(f->s, f->pairs, tile->keys, lanes);
    attn_repair repair = {.tile = tile,
                          .bias = b->extras.bias,
                          .lanes = lanes,
                          .a = f->s,
                          .c = b->part,
                          .c_row = 1,
                          .c_column = (ptrdiff_t)lanes,
                          .b = keys->raw_v + (ptrdiff_t)skipped * keys->raw_v_row,
                          .b_row = keys->raw_v_row,
                          .columns = at->dv,
                          .count = b->block.count};
    attn_repair_keys(&repair);
}

float attn_row_end(const attn_attention *at, const attn_sequence *sequence, size_t h, size_t i, float max, float sum,
                   const float *rounded) {
    double m = (double)max, l = (double)sum, scale = 1.0, sink_weight = 0.0;
    if (at->options.sinks) {
        const double sink = (double)at->options.sinks[h] / ATTN_LN2, top = sink > m ? sink : m;
        if (top > -INFINITY) {
            scale = m > -INFINITY ? exp2(m - top) : 0.0;
            sink_weight = exp2(sink - top);
            l = l * scale + sink_weight, m = top;
        }
    }
    if (at->lse.data) {
        float *lse = attn_view_at(&at->lse, sequence->index, h, sequence->q_first + (ptrdiff_t)i);
        *lse = l == 0.0 ? -INFINITY : (float)((m + log2(l)) * ATTN_LN2);
    }
    const double divisor = rounded ? (double)*rounded * scale + sink_weight : l;
    return l == 0.0 ? 0.0f : (float)(scale / divisor);
}

/* Output and log-sum-exp of a block. */
static void end_block(forward_block *b, const attn_attention *at) {
    const attn_block *block = &b->block;
    const float *max = b->max, *sum = b->sum, *o = b->part;
    if (b->merged) max = b->total_max, sum = b->total_sum, o = b->total;
    else if (!b->seen) memset(b->part, 0, at->dv * block->lanes * sizeof *b->part);
    void *rows[ATTN_MAX_LANES];
    float factor[ATTN_MAX_LANES] = {0};
    for (size_t lane = 0; lane < block->lanes; lane++) {
        rows[lane] = NULL;
        if (lane >= block->count) continue;
        const size_t h = attn_block_head(block, at, lane), i = attn_block_query(block, at, lane);
        rows[lane] = attn_view_at(&at->out, block->sequence.index, h, block->sequence.q_first + (ptrdiff_t)i);
        const float *rounded = at->fast ? o + at->dv * block->lanes + lane : NULL;
        factor[lane] = attn_row_end(at, &block->sequence, h, i, max[lane], sum[lane], rounded);
    }
    at->kernels->attention_unpack(rows, at->dtype, o, block->lanes, factor, at->dv);
}

/* ---- a task ----------------------------------------------------------------------------------------- */

static void load_keys(forward_keys *keys, forward_scratch *f, const forward_job *job, const attn_sequence *x,
                      size_t key_head, size_t key) {
    const attn_attention *at = job->at;
    const size_t rows = ATTN_MIN((size_t)ATTN_TILE, x->s - key);
    const void *k = attn_view_at(&at->k, x->index, key_head, x->k_first + (ptrdiff_t)key);
    const void *v = attn_view_at(&at->v, x->index, key_head, x->k_first + (ptrdiff_t)key);
    *keys = (forward_keys){.key = key, .k = k, .v = v, .raw_v = v, .k_row = at->k.row, .v_row = at->v.row};
    keys->raw_v_row = at->v.row;
    const ptrdiff_t d = (ptrdiff_t)attn_whole(at, at->d), dv = (ptrdiff_t)attn_whole(at, at->dv);
    if (at->fast) {
        keys->k_row = at->k.row / 2;
        if (job->copy_k) {
            keys->k = f->k, keys->k_row = (ptrdiff_t)(at->d + 1) / 2;
            copy_padded(f->k, k, at->k.row, rows, at->d);
        }
        keys->v = f->v, keys->v_row = dv;
        float *pairs = attn_by_tiles(at) ? f->wide : f->v;
        at->kernels->attention_pair_rows(pairs, dv, v, ATTN_BF16, at->v.row, rows, at->dv);
        if (!attn_by_tiles(at)) return;
        keys->v_row = ATTN_TILE / 2;
        turn_pairs(f->v, pairs, dv, rows, at->dv, at);
        return;
    }
    if (job->copy_k) {
        keys->k = f->k, keys->k_row = d;
        at->kernels->attention_copy(f->k, d, k, at->dtype, at->k.row, rows, at->d, false);
    }
    if (job->copy_v) {
        keys->v = keys->raw_v = f->v, keys->v_row = keys->raw_v_row = dv;
        at->kernels->attention_copy(f->v, dv, v, at->dtype, at->v.row, rows, at->dv, false);
    }
}

/* Which blocks of which key head a task has: index = chunk · heads + head, or (by_head) head · chunks + chunk, where
 * heads are sequences · key heads; the last chunks first: with a causal mask they are the longest. */
typedef struct forward_part {
    size_t sequence, key_head, first; /* block */
} forward_part;
static forward_part part_of(const forward_job *job, size_t index) {
    const size_t key_heads = job->at->key_heads, heads = job->at->sequences * key_heads;
    const size_t head = job->by_head ? index / job->chunks : index % heads;
    const size_t chunk = job->by_head ? index % job->chunks : index / heads;
    return (forward_part){head / key_heads, head % key_heads, (job->chunks - 1 - chunk) * job->task_blocks};
}

/* The rows of a task in q or out. */
static size_t add_rows_ahead(attn_ahead *ahead, const forward_job *job, const attn_view *view, const attn_sequence *x,
                             const forward_part *part, size_t columns, bool written) {
    const size_t lanes = attn_block_lanes(job->at), row = part->first * lanes; /* or a vector less */
    if (job->at->group > 1 || row >= x->t) return 0;
    return attn_ahead_add(ahead, view, x->index, part->key_head, x->q_first + (ptrdiff_t)row,
                          ATTN_MIN(x->t - row, job->task_blocks * lanes), columns, written);
}

/* While so many blocks use the tile at `key`, the next one comes; with the last tile what the task writes, and what
 * this thread's next task reads first, as a guess. */
static void fetch_ahead(forward_scratch *f, const forward_job *job, const attn_sequence *x, const forward_part *part,
                        size_t index, size_t key, size_t end, size_t users) {
    const attn_attention *at = job->at;
    attn_ahead *ahead = &f->ahead;
    attn_ahead_clear(ahead);
    size_t lines = 0;
    if (key + ATTN_TILE < end) lines = attn_ahead_keys(ahead, at, x, part->key_head, key + ATTN_TILE, ATTN_TILE);
    else {
        lines = add_rows_ahead(ahead, job, &at->out, x, part, at->dv, true);
        if (index + job->workers < job->tasks) {
            const forward_part next = part_of(job, index + job->workers);
            const attn_sequence y = attn_attention_sequence(at, next.sequence);
            lines += add_rows_ahead(ahead, job, &at->q, &y, &next, at->d, false);
            if (at->options.window_left < 0) lines += attn_ahead_keys(ahead, at, &y, next.key_head, 0, ATTN_TILE);
        }
    }
    /* The products of its blocks have so many tiles, or more, and so many steps of ATTN_AHEAD_TERMS each. */
    const size_t tiles = users * (ATTN_TILE + at->dv) / (attn_by_tiles(at) ? 16 : 8), steps = at->fast ? 1 : 4;
    ahead->lines = lines / (tiles * steps) + 1;
}

/* Where the rows of a block end. The last but one gives a vector to a last one that would have only one, for which more
 * of K and V would be loaded than is multiplied. */
static size_t block_end(const attn_attention *at, size_t block, size_t rows) {
    const size_t lanes = attn_block_lanes(at), vector = at->kernels->lanes, end = (block + 1) * lanes;
    const bool last_but_one = end > 0 && end < rows && rows - end <= vector;
    return last_but_one && lanes == 3 * vector ? end - vector : ATTN_MIN(end, rows);
}

static void forward_task(void *argument, size_t index, void *memory) {
    const forward_job *job = argument;
    const attn_attention *at = job->at;
    forward_scratch *f = memory;
    forward_layout(job, memory);
    const forward_part part = part_of(job, index);
    const size_t key_head = part.key_head;
    const attn_sequence x = attn_attention_sequence(at, part.sequence);
    const size_t rows = x.t * at->group;
    size_t count = 0, low = SIZE_MAX, high = 0, row = block_end(at, part.first - 1, rows);
    for (size_t next; count < job->task_blocks && row < rows; count++, row = next) {
        forward_block *block = f->blocks + count;
        next = block_end(at, part.first + count, rows);
        begin_block(block, f, at, &x, key_head, row, next - row);
        if (block->block.low == block->block.high) continue;
        low = ATTN_MIN(low, block->block.low), high = ATTN_MAX(high, block->block.high);
    }
    for (size_t key = low / ATTN_TILE * ATTN_TILE; key < high; key += ATTN_TILE) {
        forward_keys keys = {.k = NULL};
        size_t users = 0;
        for (size_t i = 0; i < count; i++)
            users += f->blocks[i].block.low < key + ATTN_TILE && f->blocks[i].block.high > key;
        fetch_ahead(f, job, &x, &part, index, key, high, ATTN_MAX(users, (size_t)1));
        for (size_t i = 0; i < count; i++) {
            attn_block_tile(&f->tile, &f->blocks[i].block, at, key);
            if (f->tile.class == ATTN_TILE_NONE) continue;
            if (!keys.k) load_keys(&keys, f, job, &x, key_head, key);
            use_tile(f, f->blocks + i, &keys, at);
        }
        if ((key + ATTN_TILE) % ATTN_SPLIT == 0 || key + ATTN_TILE >= high)
            for (size_t i = 0; i < count; i++) end_split(f->blocks + i, at);
    }
    for (size_t i = 0; i < count; i++) end_block(f->blocks + i, at);
}

/* Queries past a sequence's length. */
static void clear_padding(const attn_attention *at) {
    if (!at->options.q_lengths) return;
    const size_t bytes = at->dv * attn_dtype_size(at->dtype);
    for (size_t b = 0; b < at->sequences; b++)
        for (size_t h = 0; h < at->heads; h++)
            for (size_t i = (size_t)at->options.q_lengths[b]; i < at->t; i++) {
                memset(attn_view_at(&at->out, b, h, (ptrdiff_t)i), 0, bytes);
                if (at->lse.data) *(float *)attn_view_at(&at->lse, b, h, (ptrdiff_t)i) = -INFINITY;
            }
}

/* ---- the call --------------------------------------------------------------------------------------- */

typedef struct forward_plan {
    forward_job job;
    size_t tasks, workers, bytes; /* bytes of one scratch */
} forward_plan;

/* Rows that lie a multiple of 4 KB apart fall into the same set of the cache. */
static bool wants_copy(const attn_attention *at, const attn_view *view) {
    return at->dtype != ATTN_F32 || (view->row * (ptrdiff_t)sizeof(float)) % 4096 == 0;
}

static forward_plan plan_of(const attn_attention *at) {
    forward_plan plan = {.job = {.at = at, .copy_k = wants_copy(at, &at->k), .copy_v = wants_copy(at, &at->v)}};
    if (at->fast) plan.job.copy_k = !attn_rows_are_pairs(&at->k, at->d);
    const size_t rows = at->t * at->group, heads = at->sequences * at->key_heads;
    const size_t blocks = (rows + attn_block_lanes(at) - 1) / attn_block_lanes(at);
    const size_t most =
        at->fast && !attn_by_tiles(at) ? TASK_BLOCKS : TASK_BLOCKS_F32; /* half of an L2 cache has room for them */
    const size_t fit =
        at->ctx->l2_bytes / 2 / ((at->d / (1 + at->fast) + 2 * at->dv) * attn_block_lanes(at) * sizeof(float));
    const size_t wanted = ATTN_MIN(blocks * heads / (4 * (size_t)at->ctx->threads), blocks);
    plan.job.task_blocks = ATTN_MAX(ATTN_MIN(wanted, ATTN_MIN(fit, most)), (size_t)1);
    plan.job.chunks = (blocks + plan.job.task_blocks - 1) / plan.job.task_blocks;
    plan.job.by_head = plan.job.chunks >= (size_t)at->ctx->threads;
    plan.tasks = plan.job.chunks * heads;
    const double pairs = (double)rows * (double)heads * (double)at->s;
    plan.workers = attn_attention_workers(at, plan.tasks, pairs * (double)(at->d + at->dv) * 0.02);
    plan.job.tasks = plan.tasks, plan.job.workers = plan.workers;
    plan.bytes = forward_layout(&plan.job, NULL);
    return plan;
}

size_t attn_attention_forward_bytes(attn_attention *at) {
    if (attn_decode_fits(at)) return attn_decode_bytes(at);
    forward_plan plan = plan_of(at);
    return plan.workers * plan.bytes;
}

attn_status attn_attention_forward(attn_attention *at, const attn_tensor *out, const attn_tensor *lse,
                                   const attn_tensor *q, const attn_tensor *k, const attn_tensor *v) {
    if (!out) return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: out is NULL", at->where);
    ATTN_TRY(attn_attention_view(&at->out, at, "out", out, ATTN_QUERY_SIDE, at->dv, false, false));
    ATTN_TRY(attn_attention_view(&at->lse, at, "lse", lse, ATTN_QUERY_SIDE, 0, false, true));
    const struct {
        const char *name;
        const attn_tensor *t;
    } inputs[] = {{"q", q}, {"k", k}, {"v", v}, {"mask", at->options.mask}, {"bias", at->options.bias}};
    for (size_t i = 0; i < ATTN_COUNT(inputs); i++) {
        if (!inputs[i].t) continue;
        ATTN_TRY(attn_attention_apart(at, "out", out, inputs[i].name, inputs[i].t));
        ATTN_TRY(attn_attention_apart(at, "lse", lse, inputs[i].name, inputs[i].t));
    }
    ATTN_TRY(attn_attention_apart(at, "lse", lse, "out", out));
    ATTN_TRY(attn_attention_apart(at, "out", out, NULL, NULL));
    ATTN_TRY(attn_attention_apart(at, "lse", lse, NULL, NULL));

    if (attn_decode_fits(at)) {
        ATTN_TRY(attn_decode_run(at));
    } else {
        forward_plan plan = plan_of(at);
        void *workspace, *allocated;
        ATTN_TRY(attn_attention_memory(at, &workspace, &allocated, plan.workers * plan.bytes));
        attn_attention_run(at, NULL, plan.workers, plan.tasks, forward_task, &plan.job, workspace, plan.bytes);
        attn_release(at->ctx, allocated);
    }
    clear_padding(at);
    return ATTN_OK;
}

attn_status attn_attention_fwd(attn_context *ctx, const attn_tensor *out, const attn_tensor *lse, const attn_tensor *q,
                               const attn_tensor *k, const attn_tensor *v, const attn_attention_options *options) {
    static const char where[] = "attn_attention_fwd";
    attn_attention at;
    ATTN_TRY(attn_attention_check(&at, ctx, where, q, k, v, options));
    return attn_attention_forward(&at, out, lse, q, k, v);
}
