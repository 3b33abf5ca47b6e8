/* attention_bwd_bias.c: gradients of the bias and of the sinks.
 *
 * A bias may be shared by sequences, heads, queries or keys; its gradient is then a sum over them. A task owns a part
 * of dbias that no other task adds to, and adds in the order of sequences, key heads, queries and heads, keys. */
#include "base/half.h"
#include "ops/attention_bwd.h"

#include <math.h>
#include <string.h>

typedef struct bias_job {
    const attn_attention *at;
    const attn_tensor *dbias;
    size_t tiles; /* tasks along the keys; 1 where the bias is shared by them */
} bias_job;

typedef struct bias_scratch {
    attn_backward_block block;
    attn_backward_keys keys;
    attn_backward_results results;
    attn_tile tile;
} bias_scratch;

static size_t bias_layout(const attn_attention *at, void *base) {
    attn_scratch scratch = {base, 0};
    bias_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    attn_backward_block_layout(&f->block, at, &scratch, !base);
    attn_backward_keys_layout(&f->keys, at, &scratch);
    attn_backward_results_layout(&f->results, at, &scratch, true);
    return scratch.used;
}

size_t attn_backward_bias_bytes(const attn_attention *at) { return at->options.bias ? bias_layout(at, NULL) : 0; }

static size_t at_or_0(const attn_tensor *t, int dim, size_t index) { return t->shape[dim] == 1 ? 0 : index; }

static void add_tile(const bias_scratch *f, const bias_job *job) {
    const attn_attention *at = job->at;
    const attn_block *block = &f->block.block;
    const attn_tensor *d = job->dbias;
    for (size_t lane = 0; lane < block->count; lane++) {
        float *row = (float *)d->data + (ptrdiff_t)at_or_0(d, 0, block->sequence.index) * d->stride[0] +
                     (ptrdiff_t)at_or_0(d, 1, attn_block_head(block, at, lane)) * d->stride[1] +
                     (ptrdiff_t)at_or_0(d, 2, attn_block_query(block, at, lane)) * d->stride[2];
        for (size_t j = 0; j < f->tile.keys; j++)
            row[(ptrdiff_t)at_or_0(d, 3, f->tile.key + j) * d->stride[3]] += f->results.dbias[j * block->lanes + lane];
    }
}

/* One key head of one sequence: keys first … end−1. */
static void add_head(bias_scratch *f, const bias_job *job, size_t b, size_t key_head, size_t first, size_t end) {
    const attn_attention *at = job->at;
    const attn_sequence x = attn_attention_sequence(at, b);
    const size_t lanes = attn_block_lanes(at), rows = x.t * at->group;
    end = ATTN_MIN(end, x.s);
    for (size_t row = 0; row < rows; row += lanes) {
        bool set = false;
        attn_block_set(&f->block.block, at, &x, key_head, row);
        for (size_t key = first; key < end; key += ATTN_TILE) {
            attn_block_tile(&f->tile, &f->block.block, at, key);
            if (f->tile.class == ATTN_TILE_NONE) continue;
            if (!set) attn_backward_block_set(&f->block, at), set = true;
            attn_backward_keys_set(&f->keys, at, &x, key_head, key);
            attn_backward_pair(&f->results, &f->block, &f->keys, &f->tile, NULL, at);
            add_tile(f, job);
        }
    }
}

/* Task index = (sequence or 0) · (key heads or 1) · tiles + (key head or 0) · tiles + tile. */
static void bias_task(void *argument, size_t index, void *memory) {
    const bias_job *job = argument;
    const attn_attention *at = job->at;
    bias_layout(at, memory);
    const size_t tile = index % job->tiles, first = tile * ATTN_TILE,
                 end = job->tiles == 1 ? SIZE_MAX : first + ATTN_TILE;
    const bool all_heads = job->dbias->shape[1] == 1, all_sequences = job->dbias->shape[0] == 1;
    const size_t head_tasks = all_heads ? 1 : at->key_heads, task_head = index / job->tiles % head_tasks;
    const size_t task_sequence = index / job->tiles / head_tasks;
    for (size_t b = all_sequences ? 0 : task_sequence; b < (all_sequences ? at->sequences : task_sequence + 1); b++)
        for (size_t h = all_heads ? 0 : task_head; h < (all_heads ? at->key_heads : task_head + 1); h++)
            add_head(memory, job, b, h, first, end);
}

static void clear(const attn_tensor *t) {
    for (size_t a = 0; a < t->shape[0]; a++)
        for (size_t b = 0; b < t->shape[1]; b++)
            for (size_t c = 0; c < t->shape[2]; c++)
                for (size_t d = 0; d < t->shape[3]; d++)
                    ((float *)t->data)[(ptrdiff_t)a * t->stride[0] + (ptrdiff_t)b * t->stride[1] +
                                       (ptrdiff_t)c * t->stride[2] + (ptrdiff_t)d * t->stride[3]] = 0.0f;
}

attn_status attn_backward_bias(attn_attention *at, const attn_tensor *dbias, bool accumulate, void *workspace,
                               size_t workers) {
    if (!accumulate) clear(dbias);
    const bool keys_shared = dbias->shape[3] == 1;
    bias_job job = {at, dbias, keys_shared ? 1 : ATTN_MAX((at->s + ATTN_TILE - 1) / ATTN_TILE, (size_t)1)};
    const size_t heads = dbias->shape[1] == 1 ? 1 : at->key_heads, sequences = dbias->shape[0] == 1 ? 1 : at->sequences;
    attn_attention_run(at, NULL, workers, job.tiles * heads * sequences, bias_task, &job, workspace,
                       bias_layout(at, NULL));
    return ATTN_OK;
}

typedef struct sink_job {
    const attn_attention *at;
    float *dsinks;
    bool accumulate;
} sink_job;

/* Whether any of n elements is not 0. */
static bool is_some(const void *x, attn_dtype dtype, size_t n) {
    uint32_t bits = 0; /* all but the signs */
    for (size_t i = 0; i < n; i++)
        bits |=
            dtype == ATTN_F32 ? attn_float_bits(((const float *)x)[i]) << 1 : (uint32_t)((const uint16_t *)x)[i] << 17;
    return bits != 0;
}

/* dsink = −Σ e^(sink − LSE)·Δ over sequences and queries, in order. A row that is all 0, as one that sees nothing, has
 * dO·O = 0, be dO NaN. */
static void sink_task(void *argument, size_t h) {
    const sink_job *job = argument;
    const attn_attention *at = job->at;
    double sum = 0.0;
    for (size_t b = 0; b < at->sequences; b++) {
        const attn_sequence x = attn_attention_sequence(at, b);
        for (size_t i = 0; i < x.t; i++) {
            const ptrdiff_t row = x.q_first + (ptrdiff_t)i;
            const float lse = *(const float *)attn_view_at(&at->lse, b, h, row);
            const void *dout = attn_view_at(&at->dout, b, h, row), *out = attn_view_at(&at->out, b, h, row);
            float dot = 0.0f;
            if (is_some(out, at->dtype, at->dv))
                at->kernels->attention_row_dots(&dot, &dout, &out, at->dtype, 1, at->dv);
            double delta = (double)dot;
            if (at->dlse.data) delta -= (double)*(const float *)attn_view_at(&at->dlse, b, h, row);
            if (lse > -INFINITY) sum -= exp((double)at->options.sinks[h] - (double)lse) * delta;
        }
    }
    float *to = job->dsinks + h;
    *to = (job->accumulate ? *to : 0.0f) + (float)sum;
}

void attn_backward_sinks(attn_attention *at, const attn_tensor *dsinks, bool accumulate) {
    sink_job job = {at, dsinks->data, accumulate};
    attn_parallel_for(at->ctx, at->heads, sink_task, &job);
}
