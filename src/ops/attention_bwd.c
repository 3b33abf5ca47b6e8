/* attention_bwd.c: dQ, dK and dV of the attention operator, from Q, K, V, O, LSE and dO; weights are made again, tile
 * by tile.
 *
 * A task is a few tiles of one key head: it owns their dK and dV and walks over the blocks of queries in order. dQ is
 * added up in memory, one chain for each tile of keys, in the order of the keys:
 *   (I1) `turn` of a block is the number of tasks, of those that see it, that have added to its dQ;
 *   (I2) a task adds when turn is its own place among them. Tasks start in the order of their chunks, so the one it
 *        waits for is running or done.
 * So every sum has one order, whatever the number of threads, and nothing is atomic but the turn. The last one writes
 * dQ; a block that only one task sees is added up in the task's own memory. */
#include "base/half.h"
#include "ops/attention_bwd.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>

enum { MOST_TILES = 8, SPINS = 4096 };

typedef struct backward_job {
    attn_attention *at;
    const attn_attention_grads *grads;
    attn_view dq, dk, dv;
    size_t tiles, chunks, blocks; /* tiles of a chunk; chunks and blocks of a key head of the longest sequence */
    size_t tasks, workers;
    float *dq_sums;          /* [sequence][key head][block][lane][D in whole vectors]; of one chunk: not used */
    _Atomic uint32_t *turns; /* [sequence][key head][block] */
} backward_job;

typedef struct backward_scratch {
    attn_backward_block block;
    attn_backward_keys keys[MOST_TILES];
    float *dk[MOST_TILES], *dv[MOST_TILES], *dq;
    bool dk_set[MOST_TILES], dv_set[MOST_TILES]; /* else nothing is there yet */
    attn_backward_results results;
    float *clean_rows; /* the right side of a product without what is not finite */
    attn_tile tile;
    attn_ahead ahead;
} backward_scratch;

static size_t backward_layout(const backward_job *job, void *base) {
    const attn_attention *at = job->at;
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv);
    attn_scratch scratch = {base, 0};
    backward_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    attn_backward_block_layout(&f->block, at, &scratch, !base);
    for (size_t i = 0; i < job->tiles; i++) {
        attn_backward_keys_layout(f->keys + i, at, &scratch);
        f->dk[i] = attn_scratch_floats(&scratch, ATTN_TILE, d);
        f->dv[i] = attn_scratch_floats(&scratch, ATTN_TILE, dv);
    }
    f->dq = attn_scratch_floats(&scratch, ATTN_MAX_LANES, d);
    attn_backward_results_layout(&f->results, at, &scratch, false);
    f->clean_rows = attn_scratch_floats(&scratch, ATTN_MAX_LANES, ATTN_MAX(d, dv));
    return scratch.used;
}

/* ---- a pair of block and tile ------------------------------------------------------------------------- */

/* sum (+)= weights · rows, where the rows of the right side are lanes (dK, dV) or keys (dQ). Where a lane does not see
 * every key, what is not finite in the rows is left out and added for the pairs that see it. */
typedef struct gradient_product {
    float *sum;           /* [key or lane][columns in whole vectors] */
    const float *weights; /* [key][lane] */
    const uint16_t *bf16; /* fast: the same, [key][ATTN_MAX_LANES]; for dQ weights_pairs instead */
    const float *weights_pairs;
    const float *rows;  /* f32 */
    const float *pairs; /* fast: rows 2i and 2i+1 as pairs */
    size_t columns;
    bool rows_are_keys, clean, add;
} gradient_product;

/* The same product without most of the pairs of keys and vectors of lanes that are not visible. */
static void ragged_product(const attn_product *whole, bool rows_are_lanes, const backward_scratch *f,
                           const attn_attention *at) {
    const size_t vector = at->kernels->lanes, count = f->block.block.count, step = at->fast ? 2 : 1;
    for (size_t lane = 0, key = 0; lane < count; lane += vector) {
        const size_t end = f->tile.ends[lane / vector];
        attn_product part = *whole;
        if (rows_are_lanes) {
            part.rows = ATTN_MIN(vector, count - lane), part.terms = (end + step - 1) / step;
            part.a += (ptrdiff_t)lane * part.a_row, part.c += (ptrdiff_t)lane * part.c_row;
        } else { /* for these keys the lanes before have weight 0 */
            if (end <= key) continue;
            part.rows = end - key, part.terms = (count - lane + step - 1) / step;
            part.a += (ptrdiff_t)key * part.a_row + (ptrdiff_t)(lane / step) * part.a_term;
            part.b += (ptrdiff_t)(lane / step) * part.b_term, part.c += (ptrdiff_t)key * part.c_row;
            key = end;
        }
        (at->fast ? at->kernels->attention_product_bf16 : at->kernels->attention_product)(&part);
    }
}

static void repair(const gradient_product *g, backward_scratch *f, const attn_attention *at) {
    const attn_block *block = &f->block.block;
    const size_t width = attn_whole(at, g->columns), row = ATTN_MAX_LANES;
    float *widened = f->results.s; /* what was there is in bf16 by now */
    for (size_t j = 0; at->fast && j < f->tile.keys; j++)
        for (size_t lane = 0; lane < block->lanes; lane++)
            widened[j * block->lanes + lane] = attn_float_of_bf16(g->bf16[j * row + lane]);
    attn_repair job = {.tile = &f->tile,
                       .bias = f->block.extras.bias,
                       .lanes = block->lanes,
                       .a = at->fast ? widened : g->weights,
                       .c = g->sum,
                       .c_row = (ptrdiff_t)width,
                       .c_column = 1,
                       .b = g->rows,
                       .b_row = (ptrdiff_t)width,
                       .columns = g->columns,
                       .count = block->count};
    if (g->rows_are_keys) attn_repair_keys(&job);
    else attn_repair_lanes(&job);
}

static void gradient(const gradient_product *g, backward_scratch *f, const attn_attention *at) {
    const attn_kernels *kernels = at->kernels;
    const attn_block *block = &f->block.block;
    const size_t width = attn_whole(at, g->columns), lanes = block->lanes, keys = f->tile.keys;
    const size_t terms = g->rows_are_keys ? keys : block->count;
    const float *rows = at->fast ? g->pairs : g->rows;
    if (g->clean) {
        rows = f->clean_rows;
        kernels->attention_copy(f->clean_rows, (ptrdiff_t)width, g->rows, ATTN_F32, (ptrdiff_t)width, terms, width,
                                true);
        if (at->fast)
            kernels->attention_pair_rows(f->clean_rows, (ptrdiff_t)width, f->clean_rows, ATTN_F32, (ptrdiff_t)width,
                                         terms, width);
    }
    attn_product product = {.rows = g->rows_are_keys ? block->count : keys,
                            .terms = at->fast ? (terms + 1) / 2 : terms,
                            .lanes = width,
                            .a = g->weights,
                            .a_row = g->rows_are_keys ? 1 : (ptrdiff_t)lanes,
                            .a_term = g->rows_are_keys ? (ptrdiff_t)lanes : 1,
                            .b = rows,
                            .b_term = (ptrdiff_t)width,
                            .c = g->sum,
                            .c_row = (ptrdiff_t)width,
                            .add = g->add,
                            .ahead = &f->ahead};
    if (at->fast && g->rows_are_keys) product.a = g->weights_pairs;
    else if (at->fast) product.a = (const float *)(const void *)g->bf16, product.a_row = ATTN_MAX_LANES / 2;
    /* A vector of lanes is to be whole pairs; by tiles there are no products of less than two. */
    const bool even = !at->fast || (!attn_by_tiles(at) && (g->rows_are_keys || kernels->lanes % 2 == 0));
    if (f->tile.class == ATTN_TILE_PARTIAL && f->tile.ragged && even) ragged_product(&product, g->rows_are_keys, f, at);
    else at->fast ? kernels->attention_product_bf16(&product) : kernels->attention_product(&product);
    if (g->clean) repair(g, f, at);
}

static void wait_for_turn(_Atomic uint32_t *turn, uint32_t mine) {
    for (uint32_t spins = 0; atomic_load_explicit(turn, memory_order_acquire) != mine;)
        if (++spins > SPINS) sched_yield();
}

/* Before a product that adds to dK or dV of a tile: whether something is there already. One that does not write all of
 * it wants zeros there. */
static bool begin_sum(bool *set, float *sum, size_t width, const backward_scratch *f, const attn_backward_keys *keys) {
    const bool whole = f->tile.keys == keys->rows && !(f->tile.class == ATTN_TILE_PARTIAL && f->tile.ragged);
    if (!*set && !whole) memset(sum, 0, ATTN_TILE * width * sizeof *sum), *set = true;
    const bool add = *set;
    *set = true;
    return add;
}

/* turn NULL: nothing to wait for. */
static void use_pair(backward_scratch *f, const backward_job *job, size_t tile, float *dq, bool dq_add,
                     _Atomic uint32_t *turn, uint32_t mine) {
    const attn_attention *at = job->at;
    attn_backward_block *b = &f->block;
    attn_backward_keys *keys = f->keys + tile;
    const attn_backward_results *r = &f->results;
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv), skipped = f->tile.key - keys->key;
    const bool some = f->tile.class == ATTN_TILE_PARTIAL || b->extras.bias;
    const bool half = at->fast && f->tile.keys % 2; /* a pair may hold a key that no lane sees */
    if (some || half) attn_backward_inspect(b, keys, at);
    attn_backward_pair(r, b, keys, &f->tile, &f->ahead, at);
    gradient_product g = {.sum = f->dv[tile] + skipped * dv,
                          .weights = r->s,
                          .bf16 = r->s_bf16,
                          .rows = b->dout,
                          .pairs = b->dout_pairs,
                          .columns = at->dv,
                          .clean = some && !b->dout_finite};
    if (job->dv.data) g.add = begin_sum(f->dv_set + tile, f->dv[tile], dv, f, keys), gradient(&g, f, at);
    g = (gradient_product){.sum = f->dk[tile] + skipped * d,
                           .weights = r->ds,
                           .bf16 = r->ds_bf16,
                           .rows = b->q,
                           .pairs = b->q_pairs,
                           .columns = at->d,
                           .clean = some && !b->q_finite};
    if (job->dk.data) g.add = begin_sum(f->dk_set + tile, f->dk[tile], d, f, keys), gradient(&g, f, at);
    g = (gradient_product){.sum = dq,
                           .weights = r->ds,
                           .bf16 = r->ds_bf16,
                           .weights_pairs = r->ds_pairs,
                           .rows = keys->k + skipped * d,
                           .columns = at->d,
                           .rows_are_keys = true,
                           .clean = (some || half) && !keys->k_finite,
                           .add = dq_add};
    if (at->fast) g.pairs = keys->k_pairs + skipped / 2 * d;
    if (turn) wait_for_turn(turn, mine);
    if (dq) gradient(&g, f, at);
}

/* ---- blocks ------------------------------------------------------------------------------------------ */

/* Blocks of `rows` queries: whole vectors, as equal as can be. */
static size_t blocks_of(const attn_attention *at, size_t rows) {
    return (attn_whole(at, rows) + ATTN_MAX_LANES - 1) / ATTN_MAX_LANES;
}
static size_t block_start(const attn_attention *at, size_t rows, size_t block) {
    const size_t vector = at->kernels->lanes, vectors = attn_whole(at, rows) / vector;
    return ATTN_MIN(vectors * block / blocks_of(at, rows) * vector, rows);
}

/* dQ of a block to where it belongs. */
static void put_queries(const backward_job *job, const attn_block *block, const float *dq) {
    const attn_attention *at = job->at;
    const size_t d = attn_whole(at, at->d);
    const attn_sequence *x = &block->sequence;
    const bool one = at->group == 1; /* the rows of a block are neighbours */
    for (size_t lane = 0; lane < (one ? 1 : block->count); lane++) {
        void *to = attn_view_at(&job->dq, x->index, attn_block_head(block, at, lane),
                                x->q_first + (ptrdiff_t)attn_block_query(block, at, lane));
        at->kernels->attention_put(to, job->dq.dtype, job->dq.row, dq + lane * d, (ptrdiff_t)d, one ? block->count : 1,
                                   at->d, at->options.scale, job->grads->accumulate);
    }
}

/* Zeros for queries that no task has seen, and for those past a sequence's length. */
static void clear_queries(const backward_job *job) {
    const attn_attention *at = job->at;
    const size_t bytes = at->d * attn_dtype_size(job->dq.dtype);
    for (size_t head = 0; !job->grads->accumulate && head < at->sequences * at->key_heads; head++) {
        const attn_sequence x = attn_attention_sequence(at, head / at->key_heads);
        const size_t rows = x.t * at->group, blocks = blocks_of(at, rows);
        for (size_t block = 0; block <= blocks; block++) { /* the last one: past the length */
            if (block < blocks && atomic_load_explicit(job->turns + head * job->blocks + block, memory_order_acquire))
                continue;
            const size_t first = block < blocks ? block_start(at, rows, block) : rows;
            const size_t all = at->packed ? rows : at->t * at->group;
            for (size_t r = first; r < (block < blocks ? block_start(at, rows, block + 1) : all); r++)
                memset(attn_view_at(&job->dq, x.index, head % at->key_heads * at->group + r % at->group,
                                    x.q_first + (ptrdiff_t)(r / at->group)),
                       0, bytes);
        }
    }
}

/* ---- a task ----------------------------------------------------------------------------------------- */

typedef struct backward_part {
    size_t sequence, key_head, first_key;
} backward_part;
/* Task index = chunk · sequences · key heads + sequence · key heads + key head. */
static backward_part part_of(const backward_job *job, size_t index) {
    const attn_attention *at = job->at;
    return (backward_part){index / at->key_heads % at->sequences, index % at->key_heads,
                           index / at->key_heads / at->sequences * job->tiles * ATTN_TILE};
}

/* While a block is used, the queries from row `next` on come, that is the next block; with the last one the gradients
 * that are written then, and what this thread's next task reads first, as a guess. */
static void fetch_ahead(backward_scratch *f, const backward_job *job, size_t index, size_t next) {
    const attn_attention *at = job->at;
    const attn_block *block = &f->block.block;
    attn_ahead *ahead = &f->ahead;
    attn_sequence x = block->sequence;
    backward_part part = part_of(job, index);
    size_t lines = 0;
    attn_ahead_clear(ahead);
    if (job->dq.data && at->group == 1)
        lines += attn_ahead_add(ahead, &job->dq, x.index, part.key_head, x.q_first + (ptrdiff_t)block->row,
                                block->count, at->d, true);
    if (next >= x.t * at->group) {
        const size_t keys = ATTN_MIN(job->tiles * ATTN_TILE, x.s - part.first_key);
        const ptrdiff_t key = x.k_first + (ptrdiff_t)part.first_key;
        if (job->dk.data) lines += attn_ahead_add(ahead, &job->dk, x.index, part.key_head, key, keys, at->d, true);
        if (job->dv.data) lines += attn_ahead_add(ahead, &job->dv, x.index, part.key_head, key, keys, at->dv, true);
        index += job->workers, next = 0;
        if (index < job->tasks) {
            part = part_of(job, index), x = attn_attention_sequence(at, part.sequence);
            lines += attn_ahead_keys(ahead, at, &x, part.key_head, part.first_key, job->tiles * ATTN_TILE);
            if (at->options.causal != ATTN_CAUSAL_NONE) next = part.first_key;
        }
    }
    if (index < job->tasks && at->group == 1 && next < x.t) {
        const struct {
            const attn_view *view;
            size_t columns;
        } read[] = {{&at->q, at->d}, {&at->dout, at->dv}, {&at->out, at->dv}};
        for (size_t i = 0; i < ATTN_COUNT(read); i++)
            lines += attn_ahead_add(ahead, read[i].view, x.index, part.key_head, x.q_first + (ptrdiff_t)next,
                                    ATTN_MIN(x.t - next, (size_t)ATTN_MAX_LANES), read[i].columns, false);
    }
    /* Five products, each of so many steps of ATTN_AHEAD_TERMS, or more. */
    const size_t steps = 5 * (attn_by_tiles(at) ? 4 : at->fast ? 16 : 32);
    ahead->lines = lines / (job->tiles * steps) + 1;
}

/* All tiles of the chunk for one block, whose bounds are set. */
static void use_block(backward_scratch *f, const backward_job *job, const attn_sequence *x, size_t key_head,
                      size_t block, size_t first_key, size_t end_key) {
    const attn_attention *at = job->at;
    const size_t chunk_keys = job->tiles * ATTN_TILE;
    const attn_block *bounds = &f->block.block;
    if (bounds->low >= ATTN_MIN(end_key, bounds->high) || bounds->high <= first_key) return;
    attn_backward_block_set(&f->block, at);
    const size_t place = (x->index * at->key_heads + key_head) * job->blocks + block;
    const size_t chunk = first_key / chunk_keys, first = bounds->low / chunk_keys,
                 last = (bounds->high - 1) / chunk_keys;
    const uint32_t mine = (uint32_t)(chunk - first);
    _Atomic uint32_t *turn = job->turns + place;
    float *dq = NULL;
    if (job->dq.data) dq = first == last ? f->dq : job->dq_sums + place * ATTN_MAX_LANES * attn_whole(at, at->d);
    bool waited = !dq || first == last, add = mine > 0;
    for (size_t tile = 0; tile < job->tiles && first_key + tile * ATTN_TILE < end_key; tile++) {
        attn_block_tile(&f->tile, bounds, at, first_key + tile * ATTN_TILE);
        if (f->tile.class == ATTN_TILE_NONE) continue;
        use_pair(f, job, tile, dq, add, waited ? NULL : turn, mine);
        waited = add = true;
    }
    if (!dq) return;
    if (!waited) wait_for_turn(turn, mine);
    if (!add) memset(dq, 0, ATTN_MAX_LANES * attn_whole(at, at->d) * sizeof *dq); /* nothing was visible after all */
    if (chunk == last) put_queries(job, bounds, dq);
    atomic_store_explicit(turn, mine + 1, memory_order_release);
}

static void put_keys(const attn_view *to, const attn_attention *at, const attn_sequence *x, size_t key_head, size_t key,
                     size_t rows, const float *from, size_t columns, float factor, bool accumulate) {
    if (!to->data) return;
    at->kernels->attention_put(attn_view_at(to, x->index, key_head, x->k_first + (ptrdiff_t)key), to->dtype, to->row,
                               from, (ptrdiff_t)attn_whole(at, columns), rows, columns, factor, accumulate);
}

static void backward_task(void *argument, size_t index, void *memory) {
    const backward_job *job = argument;
    const attn_attention *at = job->at;
    backward_scratch *f = memory;
    backward_layout(job, memory);
    const backward_part part = part_of(job, index);
    const size_t key_head = part.key_head, first_key = part.first_key;
    const attn_sequence x = attn_attention_sequence(at, part.sequence);
    const size_t end_key = ATTN_MIN(first_key + job->tiles * ATTN_TILE, x.s), last = at->packed ? x.s : at->s;
    const size_t d = attn_whole(at, at->d), dv = attn_whole(at, at->dv);
    for (size_t i = 0; i < job->tiles; i++) {
        const size_t key = first_key + i * ATTN_TILE;
        if (key < end_key) attn_backward_keys_set(f->keys + i, at, &x, key_head, key);
        f->dk_set[i] = f->dv_set[i] = false;
    }
    const size_t rows = x.t * at->group, blocks = blocks_of(at, rows);
    for (size_t block = 0; first_key < end_key && block < blocks; block++) {
        const size_t row = block_start(at, rows, block), next = block_start(at, rows, block + 1);
        attn_block_set_rows(&f->block.block, at, &x, key_head, row, next - row);
        fetch_ahead(f, job, index, next);
        use_block(f, job, &x, key_head, block, first_key, end_key);
    }
    for (size_t i = 0; i < job->tiles && first_key + i * ATTN_TILE < last; i++) { /* padding too: zeros */
        const size_t key = first_key + i * ATTN_TILE, keys = ATTN_MIN((size_t)ATTN_TILE, last - key);
        const size_t real = key < end_key ? f->keys[i].rows : 0, dk_rows = f->dk_set[i] ? real : 0,
                     dv_rows = f->dv_set[i] ? real : 0;
        memset(f->dk[i] + dk_rows * d, 0, (keys - dk_rows) * d * sizeof(float));
        memset(f->dv[i] + dv_rows * dv, 0, (keys - dv_rows) * dv * sizeof(float));
        put_keys(&job->dk, at, &x, key_head, key, keys, f->dk[i], at->d, at->options.scale, job->grads->accumulate);
        put_keys(&job->dv, at, &x, key_head, key, keys, f->dv[i], at->dv, 1.0f, job->grads->accumulate);
    }
}

/* ---- the call --------------------------------------------------------------------------------------- */

typedef struct backward_plan {
    backward_job job;
    size_t tasks, workers, bytes, blocks; /* bytes of one scratch; all blocks */
} backward_plan;

static backward_plan plan_of(attn_attention *at) {
    backward_plan plan = {.job = {.at = at}};
    const size_t heads = at->sequences * at->key_heads;
    const size_t tiles = (at->s + ATTN_TILE - 1) / ATTN_TILE;
    const size_t tile_bytes = ATTN_TILE * 2 * (at->d + at->dv) * sizeof(float),
                 fit = at->ctx->l2_bytes / 4 / tile_bytes;
    const size_t wanted = tiles * heads / (8 * (size_t)at->ctx->threads), most = ATTN_MIN(fit, (size_t)MOST_TILES);
    plan.job.tiles = ATTN_MAX(ATTN_MIN(wanted, most), (size_t)1);
    plan.job.chunks = (tiles + plan.job.tiles - 1) / plan.job.tiles;
    plan.job.blocks = blocks_of(at, at->t * at->group);
    plan.tasks = plan.job.chunks * heads, plan.blocks = plan.job.blocks * heads;
    const double pairs = (double)at->t * (double)at->heads * (double)at->sequences * (double)at->s;
    plan.workers = attn_attention_workers(at, plan.tasks, pairs * (double)(at->d + at->dv) * 0.05);
    plan.job.tasks = plan.tasks, plan.job.workers = plan.workers;
    plan.bytes = ATTN_MAX(backward_layout(&plan.job, NULL), attn_backward_bias_bytes(at));
    return plan;
}

/* Lays the workspace out: dQ's sums, turns, scratches. */
static size_t workspace_layout(backward_plan *plan, void *base, void **scratches) {
    const attn_attention *at = plan->job.at;
    attn_scratch scratch = {base, 0};
    plan->job.turns = attn_scratch_take(&scratch, plan->blocks * sizeof *plan->job.turns);
    const size_t summed = plan->job.chunks > 1 ? plan->blocks * ATTN_MAX_LANES : 0;
    plan->job.dq_sums = attn_scratch_floats(&scratch, summed, attn_whole(at, at->d));
    *scratches = attn_scratch_take(&scratch, plan->workers * plan->bytes);
    return scratch.used;
}

size_t attn_attention_backward_bytes(attn_attention *at) {
    backward_plan plan = plan_of(at);
    void *scratches;
    return workspace_layout(&plan, NULL, &scratches);
}

static attn_status check_gradients(backward_job *job, const attn_attention_grads *grads) {
    attn_attention *at = job->at;
    const attn_attention_options *o = &at->options;
    ATTN_TRY(attn_attention_view(&job->dq, at, "dq", grads->dq, ATTN_QUERY_SIDE, at->d, true, false));
    ATTN_TRY(attn_attention_view(&job->dk, at, "dk", grads->dk, ATTN_KEY_SIDE, at->d, true, false));
    ATTN_TRY(attn_attention_view(&job->dv, at, "dv", grads->dv, ATTN_KEY_SIDE, at->dv, true, false));
    if (grads->dbias) {
        if (!o->bias)
            return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: dbias is given, but options.bias is NULL", at->where);
        char what[80] = "attn_attention_bwd: dbias";
        ATTN_TRY(attn_check_view(at->ctx, what,
                                 &(attn_tensor){.data = grads->dbias->data,
                                                .dtype = grads->dbias->dtype,
                                                .rank = grads->dbias->rank,
                                                .shape = {grads->dbias->shape[0], grads->dbias->shape[1],
                                                          grads->dbias->shape[2], grads->dbias->shape[3]},
                                                .stride = {0, 0, 0, 1}},
                                 4, o->bias->shape));
        if (grads->dbias->dtype != ATTN_F32)
            return attn_fail(at->ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected F32", what,
                             attn_dtype_name(grads->dbias->dtype));
    }
    if (grads->dsinks) {
        if (!o->sinks)
            return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: dsinks is given, but options.sinks is NULL", at->where);
        ATTN_TRY(attn_check_shape(at->ctx, "attn_attention_bwd: dsinks", grads->dsinks, 1, &at->heads));
    }
    return ATTN_OK;
}

/* inputs: q, k, v, dout, out, lse, dlse. */
static attn_status check_overlaps(const attn_attention *at, const attn_attention_grads *grads,
                                  const attn_tensor *const inputs[7]) {
    const size_t heads[1] = {at->heads};
    const attn_tensor sinks = attn_tensor_of((void *)(uintptr_t)at->options.sinks, ATTN_F32, 1, heads);
    const struct {
        const char *name;
        const attn_tensor *t;
    } written[] = {{"dq", grads->dq},
                   {"dk", grads->dk},
                   {"dv", grads->dv},
                   {"dbias", grads->dbias},
                   {"dsinks", grads->dsinks}},
      read[] = {{"q", inputs[0]},           {"k", inputs[1]},
                {"v", inputs[2]},           {"dout", inputs[3]},
                {"out", inputs[4]},         {"lse", inputs[5]},
                {"dlse", inputs[6]},        {"bias", at->options.bias},
                {"mask", at->options.mask}, {"sinks", at->options.sinks ? &sinks : NULL}};
    for (size_t i = 0; i < ATTN_COUNT(written); i++) {
        ATTN_TRY(attn_attention_apart(at, written[i].name, written[i].t, NULL, NULL));
        for (size_t j = 0; j < ATTN_COUNT(read); j++)
            if (read[j].t) ATTN_TRY(attn_attention_apart(at, written[i].name, written[i].t, read[j].name, read[j].t));
        for (size_t j = 0; j < i; j++)
            if (written[j].t)
                ATTN_TRY(attn_attention_apart(at, written[i].name, written[i].t, written[j].name, written[j].t));
    }
    return ATTN_OK;
}

attn_status attn_attention_bwd(attn_context *ctx, const attn_attention_grads *grads, const attn_tensor *dout,
                               const attn_tensor *dlse, const attn_tensor *q, const attn_tensor *k,
                               const attn_tensor *v, const attn_tensor *out, const attn_tensor *lse,
                               const attn_attention_options *options) {
    static const char where[] = "attn_attention_bwd";
    attn_attention at;
    ATTN_TRY(attn_attention_check(&at, ctx, where, q, k, v, options));
    const struct {
        const char *name;
        const void *given;
    } needed[] = {{"grads", grads}, {"dout", dout}, {"out", out}, {"lse", lse}};
    for (size_t i = 0; i < ATTN_COUNT(needed); i++)
        if (!needed[i].given) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is NULL", where, needed[i].name);
    if (grads->struct_size != sizeof *grads)
        return attn_fail(ctx, ATTN_E_VERSION, "%s: grads.struct_size is %zu, expected %zu", where, grads->struct_size,
                         sizeof *grads);
    ATTN_TRY(attn_attention_view(&at.dout, &at, "dout", dout, ATTN_QUERY_SIDE, at.dv, false, false));
    ATTN_TRY(attn_attention_view(&at.out, &at, "out", out, ATTN_QUERY_SIDE, at.dv, false, false));
    ATTN_TRY(attn_attention_view(&at.lse, &at, "lse", lse, ATTN_QUERY_SIDE, 0, false, true));
    ATTN_TRY(attn_attention_view(&at.dlse, &at, "dlse", dlse, ATTN_QUERY_SIDE, 0, false, true));
    backward_plan plan = plan_of(&at);
    plan.job.grads = grads;
    ATTN_TRY(check_gradients(&plan.job, grads));
    ATTN_TRY(check_overlaps(&at, grads, (const attn_tensor *const[]){q, k, v, dout, out, lse, dlse}));

    void *workspace, *allocated, *scratches;
    ATTN_TRY(attn_attention_memory(&at, &workspace, &allocated, workspace_layout(&plan, NULL, &scratches)));
    workspace_layout(&plan, workspace, &scratches);
    if (grads->dq || grads->dk || grads->dv) {
        for (size_t i = 0; i < plan.blocks; i++) atomic_init(plan.job.turns + i, 0);
        attn_attention_run(&at, NULL, plan.workers, plan.tasks, backward_task, &plan.job, scratches, plan.bytes);
        if (grads->dq) clear_queries(&plan.job);
    }
    attn_status status = ATTN_OK;
    if (grads->dbias) status = attn_backward_bias(&at, grads->dbias, grads->accumulate, scratches, plan.workers);
    if (grads->dsinks) attn_backward_sinks(&at, grads->dsinks, grads->accumulate);
    attn_release(ctx, allocated);
    return status;
}
