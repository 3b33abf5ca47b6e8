/* attention_decode.c: attention for few queries, and from a cache: lanes are keys (body/decode.h).
 *
 * With few queries (one block of rows for each key head) a task is a split of ATTN_SPLIT keys: all sequences' splits
 * are one list, so that batches of any lengths keep all threads busy. A task leaves its part in the workspace; the one
 * that finishes last for a sequence and key head merges its parts in the order of keys. With more queries a task is a
 * block of rows, which walks over its splits. Either way a row goes through the operations of attention_fwd.c in their
 * order: same bits. */
#include "ops/cache.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { I8_MANY_KEYS = 1024 };   /* to which weights may be rounded more, since errors of so many even out */
enum { DECODE_MOST_ROWS = 16 }; /* query rows of a key head up to which this path is the faster one */

/* A row of each: maximum, sum, output. */
typedef struct decode_part {
    float *max, *sum, *o; /* [rows], [rows], [rows][columns] */
} decode_part;

typedef struct decode_job {
    const attn_attention *at;
    bool split;     /* a task is a split, else a block of rows */
    size_t rows;    /* of a block, at most */
    size_t blocks;  /* for a key head of the longest sequence */
    size_t columns; /* Dv in whole vectors */
    size_t *before; /* split: [sequences + 1] splits of the sequences before, for one key head */
    char *parts;    /* split: (splits, key heads) parts of part_bytes */
    size_t part_bytes;
    _Atomic size_t *left; /* split: (sequences, key heads) tasks that are not done */
    attn_i8_kernels i8;
} decode_job;

typedef struct decode_scratch {
    attn_block block;
    attn_extras extras;
    attn_tile tile;
    attn_decode_tile t;
    uint64_t words[ATTN_MAX_LANES], visible[ATTN_MAX_LANES];
    float *q, *q_scale, *s, *pairs, *rescale, *parts, *step, *packed, *padded, *values, *zeros, *clean, *turned;
    int8_t *q8;
    int32_t *q_sum;
    void *steps;
    size_t queries; /* split: of this sequence · key heads + key head, those in q and q8; SIZE_MAX: of none yet */
    decode_part part, total;
} decode_scratch;

static decode_part part_of(attn_scratch *scratch, size_t rows, size_t columns) {
    decode_part part;
    part.max = attn_scratch_floats(scratch, 1, rows), part.sum = attn_scratch_floats(scratch, 1, rows);
    part.o = attn_scratch_floats(scratch, rows, columns);
    return part;
}

/* Floats of a query: its elements, or pairs of them. */
static size_t q_floats(const attn_attention *at) { return attn_whole(at, at->fast ? (at->d + 1) / 2 : at->d); }
static size_t d_fours(const attn_attention *at) { return (at->d + 3) / 4 * 4; }
static bool is_i8(const attn_attention *at) { return at->cache && at->cache->options.dtype == ATTN_I8; }

static size_t decode_layout(const decode_job *job, void *base) {
    const attn_attention *at = job->at;
    const attn_attention_options *o = &at->options;
    const size_t rows = job->rows, lanes = attn_whole(at, rows);
    attn_scratch scratch = {base, 0};
    decode_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    f->extras = (attn_extras){.bias = NULL};
    if (o->bias) f->extras.bias = attn_scratch_floats(&scratch, ATTN_TILE, lanes);
    if (at->threshold) f->extras.keep = attn_scratch_floats(&scratch, ATTN_TILE, lanes);
    f->q = attn_scratch_floats(&scratch, rows, q_floats(at));
    f->s = attn_scratch_floats(&scratch, rows, ATTN_TILE);
    f->rescale = attn_scratch_floats(&scratch, 1, rows);
    f->pairs = attn_scratch_floats(&scratch, rows, at->fast ? ATTN_TILE / 2 : 0);
    const bool fast_rows = at->fast && !at->cache, by_tiles = fast_rows && attn_by_tiles(at);
    f->packed = attn_scratch_floats(&scratch, 2 * ATTN_KEYS, by_tiles ? at->d : 0);
    f->padded = attn_scratch_floats(&scratch, ATTN_TILE, at->cache ? 0 : q_floats(at));
    f->values = attn_scratch_floats(&scratch, ATTN_TILE / 2, by_tiles ? job->columns : 0);
    f->zeros = attn_scratch_floats(&scratch, 1, fast_rows ? job->columns : 0);
    f->clean = attn_scratch_floats(&scratch, 2, job->columns);
    f->turned = attn_scratch_floats(&scratch, ATTN_TILE, at->logits || at->threshold ? ATTN_MAX(lanes, ATTN_TILE) : 0);
    f->q_scale = attn_scratch_floats(&scratch, 1, rows);
    f->parts = attn_scratch_floats(&scratch, 1, rows);
    f->step = attn_scratch_floats(&scratch, 1, rows);
    f->q8 = attn_scratch_take(&scratch, is_i8(at) ? rows * d_fours(at) : 0);
    f->q_sum = attn_scratch_take(&scratch, is_i8(at) ? rows * sizeof *f->q_sum : 0);
    f->steps = attn_scratch_take(&scratch, is_i8(at) ? rows * ATTN_STEP_BYTES : 0);
    f->part = part_of(&scratch, rows, job->columns);
    f->total = part_of(&scratch, rows, job->columns);
    return scratch.used;
}

/* ---- a tile --------------------------------------------------------------------------------------- */

static void begin_part(decode_part *part, const decode_job *job, size_t rows) {
    for (size_t r = 0; r < rows; r++) part->max[r] = -INFINITY, part->sum[r] = 0.0f;
    memset(part->o, 0, rows * job->columns * sizeof *part->o);
}

/* Row r of a block, as the kernels take it. */
static void copy_query(decode_scratch *f, const attn_attention *at, const attn_sequence *x, size_t r) {
    const void *q = attn_view_at(&at->q, x->index, attn_block_head(&f->block, at, r),
                                 x->q_first + (ptrdiff_t)attn_block_query(&f->block, at, r));
    float *wide = f->q + r * q_floats(at);
    if (at->fast) {
        memset(wide, 0, q_floats(at) * sizeof *wide);
        memcpy(wide, q, at->d * sizeof(uint16_t));
        return;
    }
    at->kernels->attention_copy(wide, 0, q, at->dtype, 0, 1, at->d, false);
    if (!is_i8(at)) return;
    int8_t *q8 = f->q8 + r * d_fours(at);
    f->q_scale[r] = attn_cache_quantise(q8, wide, at->d);
    memset(q8 + at->d, 0, d_fours(at) - at->d);
    int32_t sum = 0;
    for (size_t i = 0; i < at->d; i++) sum += q8[i];
    f->q_sum[r] = sum;
}

static void begin_block(decode_scratch *f, const decode_job *job, const attn_sequence *x, size_t key_head, size_t row) {
    const attn_attention *at = job->at;
    attn_block *block = &f->block;
    attn_block_set(block, at, x, key_head, row);
    attn_extras_set(&f->extras, block, at);
    f->t = (attn_decode_tile){.rows = block->count,
                              .d = at->d,
                              .dv = at->dv,
                              .dtype = at->cache ? at->cache->options.dtype : at->dtype,
                              .q = f->q,
                              .fast = at->fast,
                              .exact = at->lse.data != NULL,
                              .q_row = (ptrdiff_t)q_floats(at),
                              .q8 = f->q8,
                              .q8_row = (ptrdiff_t)d_fours(at),
                              .q_sum = f->q_sum,
                              .q_scale = f->q_scale,
                              .packed = f->packed,
                              .padded = f->padded,
                              .padded_row = q_floats(at),
                              .zeros = f->zeros,
                              .s = f->s,
                              .pairs = f->pairs,
                              .factor = at->factor,
                              .visible = f->visible,
                              .rescale = f->rescale,
                              .parts = f->parts,
                              .step = f->step,
                              .steps = f->steps,
                              .rounded = attn_whole(at, at->dv),
                              .o_row = (ptrdiff_t)job->columns};
    if (at->fast && !at->cache) memset(f->zeros, 0, job->columns * sizeof *f->zeros);
    for (size_t r = 0; r < block->count; r++)
        f->parts[r] = block->to[r] - block->from[r] < I8_MANY_KEYS ? 0x1p15f : 0x1p12f;
    const size_t queries = x->index * at->key_heads + key_head;
    if (job->split && f->queries == queries) return;
    f->queries = queries;
    for (size_t r = 0; r < block->count; r++) copy_query(f, at, x, r);
}

/* Where the tile after this one lies: of the same key head, or the first of the next. */
static void find_next(decode_scratch *f, const decode_job *job, size_t key) {
    const attn_attention *at = job->at;
    attn_decode_tile *t = &f->t;
    const attn_sequence *x = &f->block.sequence;
    size_t head = f->block.key_head, next = key + ATTN_TILE, first = 0, blocks = 0;
    if (next >= f->block.high)
        head++, next = f->block.low / ATTN_TILE * ATTN_TILE, first = (f->block.low - next) / ATTN_KEYS;
    if (head < at->key_heads) blocks = (x->s - next + ATTN_KEYS - 1) / ATTN_KEYS;
    blocks = ATTN_MIN(blocks, (size_t)ATTN_TILE_BLOCKS);
    for (size_t b = 0; b < ATTN_TILE_BLOCKS; b++)
        if (b < first || b >= blocks) t->next_k[b] = t->k[t->first], t->next_v[b] = t->v[t->first];
    if (at->cache && first < blocks)
        attn_cache_blocks(t->next_k, t->next_v, at->cache, x->index, head, next, first, blocks);
    for (size_t b = first; !at->cache && b < blocks; b++) {
        const ptrdiff_t row = x->k_first + (ptrdiff_t)(next + b * ATTN_KEYS);
        t->next_k[b] = attn_view_at(&at->k, x->index, head, row);
        t->next_v[b] = attn_view_at(&at->v, x->index, head, row);
    }
}

/* Where the tile's keys and values lie. */
static void find_keys(decode_scratch *f, const decode_job *job, size_t key) {
    const attn_attention *at = job->at;
    attn_decode_tile *t = &f->t;
    const attn_sequence *x = &f->block.sequence;
    t->keys = ATTN_MIN((size_t)ATTN_TILE, x->s - key);
    if (at->cache) {
        attn_cache_find(t, at->cache, x->index, f->block.key_head, key);
        find_next(f, job, key);
        return;
    }
    t->in_rows = true, t->k_row = at->k.row, t->v_row = at->v.row;
    for (size_t b = t->first; b < t->end; b++) {
        const ptrdiff_t row = x->k_first + (ptrdiff_t)(key + b * ATTN_KEYS);
        t->k[b] = attn_view_at(&at->k, x->index, f->block.key_head, row);
        t->v[b] = attn_view_at(&at->v, x->index, f->block.key_head, row);
    }
    find_next(f, job, key);
    if (!at->fast || !attn_by_tiles(at)) return;
    t->paired = true, t->v_row = (ptrdiff_t)job->columns;
    for (size_t b = t->first; b < t->end; b++) {
        float *pairs = f->values + b * (ATTN_KEYS / 2) * job->columns;
        for (size_t i = 0; i < ATTN_KEYS; i++)
            for (size_t column = 0; column < at->dv; column += 64 / sizeof(uint16_t))
                __builtin_prefetch((const uint16_t *)t->next_v[b] + (ptrdiff_t)i * at->v.row + column, 0, 2);
        at->kernels->attention_pair_rows(pairs, t->v_row, t->v[b], ATTN_BF16, at->v.row,
                                         ATTN_MIN(t->keys - b * ATTN_KEYS, (size_t)ATTN_KEYS), at->dv);
        t->v[b] = t->next_v[b] = pairs;
    }
}

/* [row][key] to [key][lane], or back. */
static void turn(const attn_kernels *kernels, float *to, size_t to_row, const float *from, size_t from_row, size_t rows,
                 size_t columns) {
    const void *pointers[ATTN_TILE];
    for (size_t i = 0; i < to_row; i++) pointers[i] = i < rows ? from + i * from_row : NULL;
    kernels->attention_pack(to, to_row, pointers, ATTN_F32, columns);
}

/* Cap, bias and slopes are applied where lanes are queries. A bias of −inf hides a key. */
static void turn_logits(decode_scratch *f, const attn_attention *at, size_t shift) {
    const size_t lanes = f->block.lanes, rows = f->block.count;
    turn(at->kernels, f->turned, lanes, f->s, ATTN_TILE, rows, ATTN_TILE);
    attn_tile_logits(&f->tile, f->turned + shift * lanes, &f->extras, &f->block, at);
    turn(at->kernels, f->s, ATTN_TILE, f->turned, lanes, ATTN_TILE, rows);
    for (size_t j = 0; f->extras.bias && j < f->tile.keys; j++)
        for (size_t r = 0; r < rows; r++)
            if (f->extras.bias[j * lanes + r] == -INFINITY) f->visible[r] &= ~((uint64_t)1 << (shift + j));
}

static void drop_weights(decode_scratch *f, const attn_attention *at, size_t shift) {
    const size_t lanes = f->block.lanes, rows = f->block.count;
    const float *keep = attn_tile_keep(&f->tile, &f->extras, &f->block, at);
    turn(at->kernels, f->turned, ATTN_TILE, keep, lanes, f->tile.keys, rows);
    const size_t keys = f->tile.keys / at->kernels->lanes * at->kernels->lanes;
    for (size_t r = 0; r < rows; r++) {
        float *p = f->s + r * ATTN_TILE + shift;
        const float *by = f->turned + r * ATTN_TILE;
        at->kernels->attention_multiply(p, by, keys);
        for (size_t j = keys; j < f->tile.keys; j++) p[j] *= by[j];
    }
}

/* True if the value of a key (of its pair, where they lie in pairs) is not finite. */
static bool is_dirty(const decode_scratch *f, const attn_attention *at, size_t key) {
    const attn_decode_tile *t = &f->t;
    const size_t in_block = key % ATTN_KEYS, size = attn_dtype_size(t->dtype);
    const char *row = t->v[key / ATTN_KEYS];
    row += t->paired ? (ptrdiff_t)(in_block / 2 * sizeof(float)) * t->v_row : (ptrdiff_t)(in_block * size) * t->v_row;
    return at->kernels->attention_copy(f->clean, 0, row, t->dtype, 0, 1, t->paired ? 2 * at->dv : at->dv, true);
}

/* Whether a weight of 0 meets a value that is not finite: of a key between those that a row sees, or in a pair of one.
 */
static bool hides_infinity(const decode_scratch *f, const attn_attention *at) {
    const attn_decode_tile *t = &f->t;
    if (t->dtype == ATTN_I8) return false;
    const size_t from = at->fast ? t->from / 2 * 2 : t->from, to = at->fast ? (t->to + 1) / 2 * 2 : t->to;
    uint64_t hidden = 0;
    for (size_t r = 0; r < t->rows; r++) hidden |= ~f->visible[r];
    hidden &= attn_first_bits(to) & ~attn_first_bits(from);
    if (!t->paired) hidden &= attn_first_bits(t->keys); /* pairs are filled up with zeros */
    for (; hidden; hidden &= hidden - 1)
        if (is_dirty(f, at, (size_t)__builtin_ctzll(hidden))) return true;
    return false;
}

static void use_tile(decode_scratch *f, const decode_job *job, decode_part *part, size_t key) {
    const attn_attention *at = job->at;
    const attn_kernels *kernels = at->kernels;
    attn_decode_tile *t = &f->t;
    attn_block_words(&f->tile, f->words, &f->block, at, key);
    if (f->tile.class == ATTN_TILE_NONE) return;
    const size_t shift = f->tile.key - key;
    const uint64_t full = attn_first_bits(f->tile.keys) << shift;
    uint64_t any = 0;
    for (size_t r = 0; r < t->rows; r++) {
        f->visible[r] = f->tile.class == ATTN_TILE_FULL ? full : f->words[r] << shift;
        any |= f->visible[r];
    }
    t->from = (size_t)__builtin_ctzll(any), t->to = 64 - (size_t)__builtin_clzll(any);
    t->first = t->from / ATTN_KEYS, t->end = (t->to + ATTN_KEYS - 1) / ATTN_KEYS;
    find_keys(f, job, key);
    const bool i8 = t->dtype == ATTN_I8;
    if (i8) job->i8.scores(t);
    else if (at->fast) kernels->decode_scores_bf16(t);
    else kernels->decode_scores(t);
    if (at->logits) turn_logits(f, at, shift);
    t->max = part->max, t->sum = part->sum, t->o = part->o;
    if (i8 && !at->threshold) job->i8.softmax(t);
    else at->fast ? kernels->decode_softmax_bf16(t) : kernels->decode_softmax(t);
    const bool hides = hides_infinity(f, at);
    t->summed = hides || at->threshold;
    if (t->summed) at->fast ? kernels->decode_sums_bf16(t) : kernels->decode_sums(t);
    if (at->threshold) {
        drop_weights(f, at, shift);
        if (at->fast) kernels->decode_pairs(t);
        if (i8) job->i8.steps(t);
    }
    if (i8) job->i8.mix(t);
    else if (!hides) at->fast ? kernels->decode_mix_bf16(t) : kernels->decode_mix(t);
    else
        for (size_t r = 0; r < t->rows; r++)
            at->fast ? kernels->decode_mix_row_bf16(t, r) : kernels->decode_mix_row(t, r);
}

/* All tiles of a split, into part. */
static void use_split(decode_scratch *f, const decode_job *job, decode_part *part, size_t split) {
    const size_t high = ATTN_MIN(f->block.high, (split + 1) * ATTN_SPLIT);
    size_t key = ATTN_MAX(f->block.low / ATTN_TILE * ATTN_TILE, split * ATTN_SPLIT);
    begin_part(part, job, f->block.count);
    for (; key < high; key += ATTN_TILE) use_tile(f, job, part, key);
}

static void merge(const decode_scratch *f, const decode_job *job, const decode_part *total, const decode_part *part) {
    job->at->kernels->decode_merge(total->o, total->max, total->sum, part->o, part->max, part->sum, f->block.count,
                                   job->columns);
}

static void write_rows(const decode_scratch *f, const decode_job *job, const decode_part *part) {
    const attn_attention *at = job->at;
    const attn_sequence *x = &f->block.sequence;
    for (size_t r = 0; r < f->block.count; r++) {
        const size_t h = attn_block_head(&f->block, at, r), i = attn_block_query(&f->block, at, r);
        void *to = attn_view_at(&at->out, x->index, h, x->q_first + (ptrdiff_t)i);
        const float *o = part->o + r * job->columns, *rounded = at->fast ? o + attn_whole(at, at->dv) : NULL;
        const float factor = attn_row_end(at, x, h, i, part->max[r], part->sum[r], rounded);
        at->kernels->attention_put(to, at->dtype, 0, o, 0, 1, at->dv, factor, false);
    }
}

/* ---- tasks ---------------------------------------------------------------------------------------- */

static size_t first_split(const attn_block *block) { return block->low / ATTN_SPLIT; }
static size_t end_split(const attn_block *block) {
    return ATTN_MAX((block->high + ATTN_SPLIT - 1) / ATTN_SPLIT, first_split(block) + 1); /* an empty row has one too */
}

/* Task index: a block of rows of (sequence, key head), the last ones, which see most under a causal mask, first. */
static void block_task(void *argument, size_t index, void *memory) {
    const decode_job *job = argument;
    const attn_attention *at = job->at;
    decode_scratch *f = memory;
    decode_layout(job, memory);
    const size_t key_head = index % at->key_heads, b = index / at->key_heads % at->sequences;
    const size_t row = (job->blocks - 1 - index / at->key_heads / at->sequences) * job->rows;
    const attn_sequence x = attn_attention_sequence(at, b);
    if (row >= x.t * at->group) return;
    begin_block(f, job, &x, key_head, row);
    const size_t first = first_split(&f->block), end = end_split(&f->block);
    if (end - first > 1) begin_part(&f->total, job, f->block.count);
    for (size_t split = first; split < end; split++) {
        use_split(f, job, &f->part, split);
        if (end - first > 1) merge(f, job, &f->total, &f->part);
    }
    write_rows(f, job, end - first > 1 ? &f->total : &f->part);
}

static decode_part stored_part(const decode_job *job, size_t splits_before, size_t key_head) {
    attn_scratch scratch = {job->parts + (splits_before * job->at->key_heads + key_head) * job->part_bytes, 0};
    return part_of(&scratch, job->rows, job->columns);
}

/* Task index: a split of (sequence, key head), in this order with splits innermost. */
static void split_task(void *argument, size_t index, void *memory) {
    const decode_job *job = argument;
    const attn_attention *at = job->at;
    decode_scratch *f = memory;
    decode_layout(job, memory);
    size_t b = 0, end = at->sequences; /* the last b with before[b] · key heads ≤ index */
    while (end - b > 1) {
        const size_t middle = b + (end - b) / 2;
        if (job->before[middle] * at->key_heads <= index) b = middle;
        else end = middle;
    }
    const size_t splits = job->before[b + 1] - job->before[b], within = index - job->before[b] * at->key_heads;
    const size_t key_head = within / splits, split = within % splits;
    const attn_sequence x = attn_attention_sequence(at, b);
    begin_block(f, job, &x, key_head, 0);
    const size_t first = first_split(&f->block);
    if (splits == 1) {
        use_split(f, job, &f->part, first);
        write_rows(f, job, &f->part);
        return;
    }
    decode_part part = stored_part(job, job->before[b] + split, key_head);
    use_split(f, job, &part, first + split);
    if (atomic_fetch_sub(&job->left[b * at->key_heads + key_head], 1) > 1) return;
    begin_part(&f->total, job, f->block.count);
    for (size_t i = 0; i < splits; i++) {
        part = stored_part(job, job->before[b] + i, key_head);
        merge(f, job, &f->total, &part);
    }
    write_rows(f, job, &f->total);
}

/* ---- the call ------------------------------------------------------------------------------------- */

bool attn_decode_fits(const attn_attention *at) {
    if (at->cache) return true;
    const size_t rows = at->t * at->group;
    return rows > 0 && rows <= DECODE_MOST_ROWS && at->key_heads > 0 && at->s > 0;
}

typedef struct decode_plan {
    decode_job job;
    attn_share *shares; /* (workers) */
    size_t tasks, workers;
    size_t splits;        /* of all sequences, for one key head */
    size_t shared, bytes; /* bytes for all threads, and for each */
} decode_plan;

/* The shared memory at `base`, or its bytes. */
static size_t shared_layout(decode_plan *plan, void *base) {
    decode_job *job = &plan->job;
    const attn_attention *at = job->at;
    attn_scratch scratch = {base, 0};
    plan->shares = attn_scratch_take(&scratch, plan->workers * sizeof *plan->shares);
    if (!job->split) return scratch.used;
    job->before = attn_scratch_take(&scratch, (at->sequences + 1) * sizeof *job->before);
    job->left = attn_scratch_take(&scratch, at->sequences * at->key_heads * sizeof *job->left);
    job->parts = attn_scratch_take(&scratch, plan->splits * at->key_heads * job->part_bytes);
    return scratch.used;
}

/* The block of rows from 0 on of a sequence, whatever the key head. */
static attn_block first_block(const attn_attention *at, size_t b) {
    const attn_sequence x = attn_attention_sequence(at, b);
    attn_block block = {.count = 0};
    if (x.t > 0) attn_block_set(&block, at, &x, 0, 0);
    return block;
}

static decode_plan plan_of(const attn_attention *at) {
    const size_t most = attn_block_lanes(at), rows = at->t * at->group;
    decode_plan plan = {.job = {.at = at, .rows = ATTN_MAX(ATTN_MIN(rows, most), (size_t)1)}};
    plan.job.i8 = attn_i8_kernels_for(at->kernels);
    plan.job.split = rows <= most, plan.job.columns = attn_whole(at, at->dv) + (at->fast ? at->kernels->lanes : 0);
    plan.job.blocks = (rows + most - 1) / most;
    attn_scratch part = {NULL, 0};
    part_of(&part, plan.job.rows, plan.job.columns);
    plan.job.part_bytes = part.used;
    double keys = 0;
    for (size_t b = 0; b < at->sequences && rows > 0; b++) {
        const attn_block block = first_block(at, b);
        if (block.count > 0) plan.splits += end_split(&block) - first_split(&block);
        keys += plan.job.split ? (double)(block.high - block.low) : (double)at->s;
    }
    plan.tasks = (plan.job.split ? plan.splits : plan.job.blocks * at->sequences) * at->key_heads;
    const double element = (double)attn_dtype_size(at->cache ? at->cache->options.dtype : at->dtype),
                 ns = keys * (double)at->key_heads * (double)(at->d + at->dv) *
                      ATTN_MAX(0.06 * element, 0.02 * (double)rows);
    plan.workers = attn_attention_workers(at, plan.tasks, ns);
    plan.bytes = decode_layout(&plan.job, NULL);
    plan.shared = shared_layout(&plan, NULL);
    return plan;
}

size_t attn_decode_bytes(const attn_attention *at) {
    const decode_plan plan = plan_of(at);
    return plan.shared + plan.workers * plan.bytes;
}

attn_status attn_decode_run(const attn_attention *at) {
    decode_plan plan = plan_of(at);
    void *workspace, *allocated;
    if (plan.tasks == 0) return ATTN_OK;
    ATTN_TRY(attn_attention_memory(at, &workspace, &allocated, plan.shared + plan.workers * plan.bytes));
    shared_layout(&plan, workspace);
    for (size_t b = 0, before = 0; plan.job.split && b < at->sequences; b++) {
        const attn_block block = first_block(at, b);
        const size_t splits = block.count > 0 ? end_split(&block) - first_split(&block) : 0;
        plan.job.before[b] = before;
        plan.job.before[b + 1] = before += splits;
        for (size_t h = 0; h < at->key_heads; h++) atomic_init(&plan.job.left[b * at->key_heads + h], splits);
    }
    for (size_t i = 0; i < plan.workers; i++)
        ((decode_scratch *)(void *)((char *)workspace + plan.shared + i * plan.bytes))->queries = SIZE_MAX;
    attn_attention_run(at, plan.shares, plan.workers, plan.tasks, plan.job.split ? split_task : block_task, &plan.job,
                       (char *)workspace + plan.shared, plan.bytes);
    attn_release(at->ctx, allocated);
    return ATTN_OK;
}
