/* attention_scores.c: all scores of a small call, at a stage. */
#include "ops/attention_weights.h"

#include <math.h>
#include <string.h>

typedef struct scores_job {
    const attn_look *look;
    attn_score_stage stage;
    float *scores; /* (B, H, T, S) */
    size_t chunks;
} scores_job;

typedef struct scores_scratch {
    attn_look_block block;
    attn_tile tile;
    float *s, *copy, *k;
} scores_scratch;

static size_t scores_layout(const scores_job *job, void *base) {
    const attn_attention *at = &job->look->at;
    const size_t lanes = attn_block_lanes(at);
    attn_scratch scratch = {base, 0};
    scores_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    attn_look_block_layout(&f->block, job->look, &scratch, !base);
    f->s = attn_scratch_floats(&scratch, ATTN_TILE, lanes);
    f->copy = attn_scratch_floats(&scratch, ATTN_TILE, lanes);
    f->k = attn_scratch_floats(&scratch, ATTN_TILE, job->look->copy_k ? attn_whole(at, at->d) : 0);
    return scratch.used;
}

/* Logits in natural units: those of attn_tile_logits are for powers of 2. That function gets a copy of the scores, to
 * fill in bias and slopes. */
static void logits(scores_scratch *f, const attn_attention *at) {
    const attn_attention_options *o = &at->options;
    const size_t lanes = f->block.block.lanes;
    if (o->bias || o->alibi) {
        memcpy(f->copy, f->s, f->tile.keys * lanes * sizeof *f->s);
        attn_tile_logits(&f->tile, f->copy, &f->block.extras, &f->block.block, at);
    }
    attn_logits_tile job = {.keys = f->tile.keys,
                            .lanes = lanes,
                            .s = f->s,
                            .scale = o->scale,
                            .softcap = o->softcap,
                            .unit = 1.0f,
                            .bias = o->bias ? f->block.extras.bias : NULL,
                            .slope = o->alibi ? f->block.extras.slope : NULL,
                            .position = f->block.extras.position};
    at->kernels->attention_logits(&job);
    for (size_t j = 0; f->tile.class == ATTN_TILE_PARTIAL && j < f->tile.keys; j++)
        for (size_t lane = 0; lane < f->block.block.count; lane++)
            if (!(f->tile.visible[j] >> lane & 1)) f->s[j * lanes + lane] = -INFINITY;
}

static void scores_task(void *argument, size_t index, void *memory) {
    const scores_job *job = argument;
    const attn_look *look = job->look;
    const attn_attention *at = &look->at;
    const size_t lanes = attn_block_lanes(at), h = index % at->heads, b = index / at->heads % at->sequences,
                 first = index / at->heads / at->sequences * lanes, end = ATTN_MIN(first + lanes, at->t);
    const attn_sequence x = attn_attention_sequence(at, b);
    float *rows = job->scores + ((b * at->heads + h) * at->t + first) * at->s, one[ATTN_MAX_LANES];
    const float nothing = job->stage == ATTN_SCORES_BIASED ? -INFINITY : 0.0f;
    scores_scratch *f = memory;
    scores_layout(job, memory);
    for (size_t i = 0; i < (end - first) * at->s; i++) rows[i] = nothing;
    if (first >= x.t) return;
    attn_look_block_set(&f->block, look, &x, h, first, ATTN_MIN(end, x.t));
    attn_look_block_load(&f->block, look);
    for (size_t lane = 0; lane < lanes; lane++) one[lane] = 1.0f;
    for (size_t key = 0; key < x.s; key += ATTN_TILE) {
        attn_block_tile(&f->tile, &f->block.block, at, key);
        if (f->tile.class == ATTN_TILE_NONE) continue;
        ptrdiff_t k_row;
        const float *k = attn_look_keys(look, &x, h, f->tile.key, f->tile.keys, f->k, &k_row);
        const attn_product product =
            attn_score_product(f->s, f->tile.keys, at->d, f->block.block.lanes, k, k_row, f->block.q);
        attn_chained_product(at->kernels->attention_product, &product);
        logits(f, at);
        void *to[ATTN_MAX_LANES] = {NULL};
        for (size_t lane = 0; lane < f->block.block.count; lane++) to[lane] = rows + lane * at->s + f->tile.key;
        at->kernels->attention_unpack(to, ATTN_F32, f->s, f->block.block.lanes, one, f->tile.keys);
    }
}

/* What takes part at a stage. */
static attn_attention_options options_of(const attn_attention_options *all, attn_score_stage stage) {
    attn_attention_options o = *all;
    o.sinks = NULL, o.dropout = 0;
    if (stage == ATTN_SCORES_BIASED) return o;
    o = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    o.scale = all->scale, o.cu_q = all->cu_q, o.cu_k = all->cu_k, o.sequences = all->sequences;
    if (stage == ATTN_SCORES_CAPPED) o.softcap = all->softcap;
    return o;
}

/* LSE from a forward pass whose values are one column of K, then the weights. */
static attn_status probabilities(attn_context *ctx, const attn_tensor *scores, const attn_tensor *q,
                                 const attn_tensor *k, const attn_attention *at) {
    attn_tensor v = *k, out = *q, lse;
    attn_attention_options o = at->options; /* without dropout: it does not change the LSE */
    o.dropout = 0;
    v.shape[v.rank - 1] = 1, out.shape[out.rank - 1] = 1;
    size_t count = attn_tensor_count(&out);
    char *memory = attn_alloc(ctx, count, 2 * sizeof(float));
    if (!memory) return ATTN_E_NOMEM;
    out = attn_tensor_of(memory + count * sizeof(float), q->dtype, q->rank, out.shape);
    lse = attn_tensor_of(memory, ATTN_F32, q->rank - 1, out.shape);
    attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
    look.weights = scores;
    attn_status status = attn_attention_fwd(ctx, &out, &lse, q, k, &v, &o);
    if (status == ATTN_OK) status = attn_attention_weights(ctx, &look, q, k, &lse, &o);
    attn_release(ctx, memory);
    return status;
}

attn_status attn_attention_scores(attn_context *ctx, const attn_tensor *scores, const attn_tensor *q,
                                  const attn_tensor *k, attn_score_stage stage, const attn_attention_options *options) {
    static const char where[] = "attn_attention_scores";
    attn_look every;
    if ((unsigned)stage > ATTN_SCORES_PROBABILITIES)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: stage is %d, expected 0 to %d", where, (int)stage,
                         (int)ATTN_SCORES_PROBABILITIES);
    ATTN_TRY(attn_look_check(&every, ctx, where, q, k, options));
    const attn_attention *at = &every.at;
    const size_t shape[4] = {at->sequences, at->heads, at->t, at->s};
    ATTN_TRY(attn_check_shape(ctx, "attn_attention_scores: scores", scores, 4, shape));
    const struct {
        const char *name;
        const attn_tensor *t;
    } inputs[] = {{"q", q}, {"k", k}, {"mask", at->options.mask}, {"bias", at->options.bias}};
    for (size_t i = 0; i < ATTN_COUNT(inputs); i++)
        if (inputs[i].t) ATTN_TRY(attn_attention_apart(at, "scores", scores, inputs[i].name, inputs[i].t));
    if (stage == ATTN_SCORES_PROBABILITIES) return probabilities(ctx, scores, q, k, at);

    const attn_attention_options reduced = options_of(&at->options, stage);
    attn_look part;
    ATTN_TRY(attn_look_check(&part, ctx, where, q, k, &reduced));
    const attn_look look = attn_look_single(&part);
    scores_job job = {.look = &look, .stage = stage, .scores = scores->data};
    const size_t lanes = attn_block_lanes(at);
    job.chunks = (at->t + lanes - 1) / lanes;
    const size_t tasks = job.chunks * at->sequences * at->heads, bytes = scores_layout(&job, NULL);
    const double pairs = (double)attn_tensor_count(scores);
    const size_t workers = attn_attention_workers(at, tasks, pairs * (double)at->d * 0.02);
    void *workspace, *allocated;
    ATTN_TRY(attn_attention_memory(&look.at, &workspace, &allocated, workers * bytes));
    attn_attention_run(&look.at, NULL, workers, tasks, scores_task, &job, workspace, bytes);
    attn_release(ctx, allocated);
    return ATTN_OK;
}
