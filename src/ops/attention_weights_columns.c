/* attention_weights_columns.c: sums and maxima over rows.
 *
 * A task is a chunk of keys of one head, whole columns of blocks; it walks over the rows in order. So every sum and
 * every maximum has one owner, and its order is that of the rows, whatever the threads do. */
#include "ops/attention_weights.h"

#include <math.h>
#include <string.h>

enum { STRIP = 512 }; /* keys that are walked over at a time, while their rows of K are in the cache */

typedef struct columns_job {
    const attn_look *look;
    const attn_attention_look *wanted;
    size_t chunk, chunks; /* keys of a task; chunks to a head */
} columns_job;

typedef struct columns_scratch {
    attn_look_block block;
    attn_tile tile;
    float *s, *k, *part; /* [ATTN_TILE][lanes], [STRIP][D], [ATTN_TILE] */
    double *sum;         /* [STRIP] */
} columns_scratch;

static size_t columns_layout(const columns_job *job, void *base) {
    const attn_attention *at = &job->look->at;
    attn_scratch scratch = {base, 0};
    columns_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    attn_look_block_layout(&f->block, job->look, &scratch, !base);
    f->s = attn_scratch_floats(&scratch, ATTN_TILE, attn_block_lanes(at));
    f->k = attn_scratch_floats(&scratch, STRIP, job->look->copy_k ? attn_whole(at, at->d) : 0);
    f->part = attn_scratch_floats(&scratch, 1, ATTN_TILE);
    f->sum = attn_scratch_take(&scratch, STRIP * sizeof *f->sum);
    return scratch.used;
}

/* Maxima of keys first … end−1 (which lie in the tile) into the cells of one head. */
static void use_maxima(columns_scratch *f, const columns_job *job, float *cells, size_t first, size_t end) {
    const attn_attention_look *w = job->wanted;
    const attn_block *block = &f->block.block;
    for (size_t lane = 0; lane < block->count;) { /* lanes of one row of blocks */
        if (f->block.row[lane] == SIZE_MAX) {
            lane++;
            continue;
        }
        const size_t row = f->block.row[lane] / w->block_rows;
        uint64_t which = 0;
        for (; lane < block->count; lane++) {
            if (f->block.row[lane] == SIZE_MAX) continue;
            if (f->block.row[lane] / w->block_rows != row) break;
            which |= (uint64_t)1 << lane;
        }
        for (size_t key = first, next; key < end; key = next) {
            next = ATTN_MIN(end, (key / w->block_keys + 1) * w->block_keys);
            float *cell = cells + row * w->block_max->shape[3] + key / w->block_keys;
            const float max = job->look->at.kernels->attention_lane_max(f->s + (key - f->tile.key) * block->lanes,
                                                                        block->lanes, next - key, which);
            if (max > *cell || isnan(max)) *cell = max; /* NaN stays */
        }
    }
}

/* Keys first … end−1, fewer than STRIP from the tile of `first` on, of one block. */
static void use_block(columns_scratch *f, const columns_job *job, const float *k, ptrdiff_t k_row, size_t first,
                      size_t end, float *cells) {
    const attn_look *look = job->look;
    const size_t base = first / ATTN_TILE * ATTN_TILE;
    attn_look_block_load(&f->block, look);
    for (size_t key = base; key < end; key += ATTN_TILE) {
        attn_tile *tile = &f->tile;
        attn_block_tile(tile, &f->block.block, &look->at, key);
        if (tile->class == ATTN_TILE_NONE || tile->key + tile->keys <= first) continue;
        attn_look_weights(f->s, &f->block, look, tile, k + (ptrdiff_t)(tile->key - base) * k_row, k_row,
                          (attn_weights_tile){.keys = 0});
        const size_t from = ATTN_MAX(tile->key, first), to = ATTN_MIN(tile->key + tile->keys, end);
        if (job->wanted->column_sum) {
            look->at.kernels->attention_lane_sums(f->part, f->s, f->block.block.lanes, tile->keys);
            for (size_t j = from; j < to; j++) f->sum[j - base] += (double)f->part[j - tile->key];
        }
        if (cells) use_maxima(f, job, cells, from, to);
    }
}

static void strip(columns_scratch *f, const columns_job *job, const attn_sequence *x, size_t unit, size_t first,
                  size_t end, float *cells) {
    const attn_look *look = job->look;
    const size_t base = first / ATTN_TILE * ATTN_TILE;
    size_t low, high;
    ptrdiff_t k_row;
    const float *k = attn_look_keys(look, x, unit, base, end - base, f->k, &k_row);
    memset(f->sum, 0, STRIP * sizeof *f->sum);
    attn_look_rows(look, x, &low, &high);
    while (low < high) {
        low = attn_look_block_set(&f->block, look, x, unit, low, high);
        const attn_block *block = &f->block.block;
        if (f->block.live && block->low < end && block->high > first) use_block(f, job, k, k_row, first, end, cells);
    }
    if (!job->wanted->column_sum) return;
    float *to = (float *)job->wanted->column_sum->data + (x->index * look->head_count + unit) * look->at.s;
    for (size_t j = first; j < end; j++) to[j] = (float)f->sum[j - base];
}

static void columns_task(void *argument, size_t index, void *memory) {
    const columns_job *job = argument;
    const attn_look *look = job->look;
    columns_scratch *f = memory;
    columns_layout(job, memory);
    const size_t unit = index % look->head_count, b = index / look->head_count % look->at.sequences,
                 chunk = index / look->head_count / look->at.sequences;
    const attn_sequence x = attn_attention_sequence(&look->at, b);
    const size_t last = ATTN_MIN(look->at.s, (chunk + 1) * job->chunk), head = b * look->head_count + unit;
    float *cells = NULL;
    if (job->wanted->block_max) {
        const size_t rows = job->wanted->block_max->shape[2], columns = job->wanted->block_max->shape[3];
        cells = (float *)job->wanted->block_max->data + head * rows * columns;
        const size_t from = chunk * job->chunk / job->wanted->block_keys,
                     to = (last + job->wanted->block_keys - 1) / job->wanted->block_keys;
        for (size_t row = 0; row < rows; row++) memset(cells + row * columns + from, 0, (to - from) * sizeof *cells);
    }
    const size_t end = ATTN_MIN(last, x.s);
    size_t first = chunk * job->chunk;
    while (first < end) {
        const size_t next = ATTN_MIN(end, first / ATTN_TILE * ATTN_TILE + STRIP);
        strip(f, job, &x, unit, first, next, cells);
        first = next;
    }
    if (job->wanted->column_sum && first < last) /* past the sequence's keys */
        memset((float *)job->wanted->column_sum->data + head * look->at.s + first, 0, (last - first) * sizeof(float));
}

attn_status attn_look_columns(const attn_look *every, const attn_attention_look *wanted) {
    const attn_look single = attn_look_single(every), *look = &single;
    const attn_attention *at = &look->at;
    columns_job job = {.look = look, .wanted = wanted, .chunk = STRIP};
    if (at->s == 0 || look->head_count == 0) return ATTN_OK;
    if (wanted->block_max) { /* cells belong to one task */
        const size_t keys = ATTN_MIN(wanted->block_keys, at->s);
        job.chunk = (STRIP + keys - 1) / keys * keys;
        if (wanted->block_keys >= at->s) job.chunk = at->s;
    }
    job.chunks = (at->s + job.chunk - 1) / job.chunk;
    const size_t tasks = job.chunks * at->sequences * look->head_count, bytes = columns_layout(&job, NULL);
    const double pairs = (double)(at->sequences * look->head_count) * (double)look->row_count * (double)at->s;
    const size_t workers = attn_attention_workers(at, tasks, pairs * (double)at->d * 0.02);
    void *workspace, *allocated;
    ATTN_TRY(attn_attention_memory(at, &workspace, &allocated, workers * bytes));
    attn_attention_run(at, NULL, workers, tasks, columns_task, &job, workspace, bytes);
    attn_release(at->ctx, allocated);
    return ATTN_OK;
}
