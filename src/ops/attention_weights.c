/* attention_weights.c: weights, the largest of each row, entropies; and the public function.
 *
 * A task is up to block_lanes asked pairs of (row, head) of one unit: mostly one block, more where rows lie apart. It
 * walks over the keys once. */
#include "ops/attention_weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- the largest weights of a row ---------------------------------------------------------------------- */

/* A heap of at most `most` weights: the first is the one to go next. Of equal weights the higher key goes first, so
 * the result does not depend on the order of keys. */
typedef struct largest {
    float *value;
    int32_t *key;
    size_t count, most;
} largest;

static bool goes_before(const largest *l, size_t a, size_t b) {
    return l->value[a] < l->value[b] || (l->value[a] == l->value[b] && l->key[a] > l->key[b]);
}

static void swap(largest *l, size_t a, size_t b) {
    const float value = l->value[a];
    const int32_t key = l->key[a];
    l->value[a] = l->value[b], l->key[a] = l->key[b];
    l->value[b] = value, l->key[b] = key;
}

static void sink(largest *l, size_t i, size_t count) {
    for (size_t child; (child = 2 * i + 1) < count; i = child) {
        if (child + 1 < count && goes_before(l, child + 1, child)) child++;
        if (!goes_before(l, child, i)) return;
        swap(l, child, i);
    }
}

static void largest_add(largest *l, float value, int32_t key) {
    if (l->count < l->most) {
        size_t i = l->count++;
        l->value[i] = value, l->key[i] = key;
        for (; i > 0 && goes_before(l, i, (i - 1) / 2); i = (i - 1) / 2) swap(l, i, (i - 1) / 2);
    } else if (value > l->value[0]) {
        l->value[0] = value, l->key[0] = key;
        sink(l, 0, l->count);
    }
}

static void largest_sort(largest *l) { /* the largest first */
    for (size_t n = l->count; n > 1; n--) {
        swap(l, 0, n - 1);
        sink(l, 0, n - 1);
    }
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

typedef struct rows_job {
    const attn_look *look;
    const attn_attention_look *wanted;
    size_t most;          /* of the largest weights that are kept: n, or 1 for the argmax alone */
    size_t units, chunks; /* chunks of block_lanes pairs to a unit */
} rows_job;

typedef struct rows_scratch {
    attn_look_block block;
    attn_tile tile;
    largest top[ATTN_MAX_LANES];
    float entropy[ATTN_MAX_LANES], threshold[ATTN_MAX_LANES];
    uint64_t above[ATTN_TILE];
    float *s, *k; /* [ATTN_TILE][lanes], [ATTN_TILE][D] */
    float *values;
    int32_t *keys;
} rows_scratch;

static size_t rows_layout(const rows_job *job, void *base) {
    const attn_attention *at = &job->look->at;
    const size_t lanes = attn_block_lanes(at);
    attn_scratch scratch = {base, 0};
    rows_scratch *f = attn_scratch_take(&scratch, sizeof *f), counted;
    if (!f) f = &counted;
    attn_look_block_layout(&f->block, job->look, &scratch, !base);
    f->s = attn_scratch_floats(&scratch, ATTN_TILE, lanes);
    f->k = attn_scratch_floats(&scratch, ATTN_TILE, job->look->copy_k ? attn_whole(at, at->d) : 0);
    f->values = attn_scratch_floats(&scratch, lanes, job->most);
    f->keys = attn_scratch_take(&scratch, lanes * job->most * sizeof *f->keys);
    return scratch.used;
}

/* Number of an asked row among all, (B, H', R). */
static size_t place(const rows_job *job, size_t b, size_t head, size_t row) {
    return (b * job->look->head_count + head) * job->look->row_count + row;
}

/* A row without weights. */
static void clear_row(const rows_job *job, size_t row) {
    const attn_attention_look *w = job->wanted;
    if (w->weights) memset((float *)w->weights->data + row * job->look->at.s, 0, job->look->at.s * sizeof(float));
    if (w->entropy) ((float *)w->entropy->data)[row] = 0;
    if (w->argmax) ((int32_t *)w->argmax->data)[row] = -1;
    const size_t n = w->top_values ? w->top_values->shape[3] : 0;
    for (size_t i = row * n; i < (row + 1) * n; i++)
        ((float *)w->top_values->data)[i] = 0, ((int32_t *)w->top_keys->data)[i] = -1;
}

static void begin_lanes(rows_scratch *f, const rows_job *job) {
    for (size_t lane = 0; lane < f->block.block.lanes; lane++) {
        f->top[lane] = (largest){f->values + lane * job->most, f->keys + lane * job->most, 0, job->most};
        f->entropy[lane] = 0;
        f->threshold[lane] = 0;
    }
}

static void keep_largest(rows_scratch *f) {
    const size_t lanes = f->block.block.lanes;
    for (size_t j = 0; j < f->tile.keys; j++)
        for (uint64_t word = f->above[j]; word; word &= word - 1) {
            const size_t lane = (size_t)__builtin_ctzll(word);
            largest *top = f->top + lane;
            largest_add(top, f->s[j * lanes + lane], (int32_t)(f->tile.key + j));
            if (top->count == top->most) f->threshold[lane] = top->value[0];
        }
}

static void end_lanes(rows_scratch *f, const rows_job *job, const size_t rows[ATTN_MAX_LANES]) {
    const attn_attention_look *w = job->wanted;
    for (size_t lane = 0; lane < f->block.block.count; lane++) {
        const size_t row = rows[lane];
        if (!(f->block.live >> lane & 1)) continue;
        if (w->entropy) ((float *)w->entropy->data)[row] = f->entropy[lane] * (float)ATTN_LN2;
        largest_sort(f->top + lane);
        if (w->argmax && f->top[lane].count > 0) ((int32_t *)w->argmax->data)[row] = f->top[lane].key[0];
        if (!w->top_values) continue;
        const size_t n = w->top_values->shape[3], count = ATTN_MIN(n, f->top[lane].count); /* n may be 0 */
        memcpy((float *)w->top_values->data + row * n, f->top[lane].value, count * sizeof(float));
        memcpy((int32_t *)w->top_keys->data + row * n, f->top[lane].key, count * sizeof(int32_t));
    }
}

static void put_weights(rows_scratch *f, const rows_job *job, const size_t rows[ATTN_MAX_LANES]) {
    const attn_attention *at = &job->look->at;
    void *to[ATTN_MAX_LANES];
    float one[ATTN_MAX_LANES];
    for (size_t lane = 0; lane < f->block.block.lanes; lane++) {
        one[lane] = 1.0f;
        to[lane] = NULL;
        if (f->block.live >> lane & 1)
            to[lane] = (float *)job->wanted->weights->data + rows[lane] * at->s + f->tile.key;
    }
    at->kernels->attention_unpack(to, ATTN_F32, f->s, f->block.block.lanes, one, f->tile.keys);
}

static void rows_block(rows_scratch *f, const rows_job *job, const attn_sequence *x, size_t unit) {
    const attn_look *look = job->look;
    attn_look_block *b = &f->block;
    size_t rows[ATTN_MAX_LANES];
    for (size_t lane = 0; lane < b->block.count; lane++) {
        const size_t head = look->at.group == 1 ? unit : attn_block_head(&b->block, &look->at, lane);
        if (b->row[lane] != SIZE_MAX) rows[lane] = place(job, x->index, head, b->row[lane]);
    }
    begin_lanes(f, job);
    if (b->live) attn_look_block_load(b, look);
    const size_t low = b->live ? b->block.low : b->block.high;
    for (size_t key = low / ATTN_TILE * ATTN_TILE; key < b->block.high && low < b->block.high; key += ATTN_TILE) {
        attn_block_tile(&f->tile, &b->block, &look->at, key);
        if (f->tile.class == ATTN_TILE_NONE) continue;
        ptrdiff_t k_row;
        const float *k = attn_look_keys(look, x, unit, f->tile.key, f->tile.keys, f->k, &k_row);
        attn_weights_tile extra = {.entropy = job->wanted->entropy ? f->entropy : NULL,
                                   .threshold = job->most ? f->threshold : NULL,
                                   .above = f->above};
        if (attn_look_weights(f->s, b, look, &f->tile, k, k_row, extra)) keep_largest(f);
        if (job->wanted->weights) put_weights(f, job, rows);
    }
    end_lanes(f, job, rows);
}

static void rows_task(void *argument, size_t index, void *memory) {
    const rows_job *job = argument;
    const attn_look *look = job->look;
    const size_t lanes = attn_block_lanes(&look->at), group = look->at.group;
    const size_t unit = index % job->units, b = index / job->units % look->at.sequences,
                 chunk = index / job->units / look->at.sequences;
    const attn_sequence x = attn_attention_sequence(&look->at, b);
    rows_scratch *f = memory;
    rows_layout(job, memory);
    size_t first = chunk * lanes, end = ATTN_MIN(first + lanes, look->row_count * group), low, high;
    for (size_t pair = first; pair < end; pair++)
        clear_row(job, place(job, b, group == 1 ? unit : unit * group + pair % group, pair / group));
    attn_look_rows(look, &x, &low, &high);
    first = ATTN_MAX(first, low * group), end = ATTN_MIN(end, high * group);
    while (first < end) {
        first = attn_look_block_set(&f->block, look, &x, unit, first, end);
        rows_block(f, job, &x, unit);
    }
}

static attn_status look_at_rows(const attn_look *look, const attn_attention_look *wanted) {
    const attn_attention *at = &look->at;
    const size_t lanes = attn_block_lanes(at);
    rows_job job = {.look = look, .wanted = wanted, .units = attn_look_units(look)};
    job.most = wanted->top_values ? wanted->top_values->shape[3] : 0;
    if (job.most == 0 && wanted->argmax) job.most = 1;
    job.chunks = (look->row_count * at->group + lanes - 1) / lanes;
    const size_t tasks = job.chunks * at->sequences * job.units, bytes = rows_layout(&job, NULL);
    const double pairs = (double)(at->sequences * look->head_count) * (double)look->row_count * (double)at->s;
    const size_t workers = attn_attention_workers(at, tasks, pairs * (double)at->d * 0.02);
    void *workspace, *allocated;
    ATTN_TRY(attn_attention_memory(at, &workspace, &allocated, workers * bytes));
    attn_attention_run(at, NULL, workers, tasks, rows_task, &job, workspace, bytes);
    attn_release(at->ctx, allocated);
    return ATTN_OK;
}

/* ---- arguments --------------------------------------------------------------------------------------------- */

static attn_status check_choice(attn_look *look, const attn_attention_look *w) {
    const attn_attention *at = &look->at;
    attn_context *ctx = at->ctx;
    if (w->heads) {
        for (size_t i = 0; i < w->head_count; i++) {
            if (w->heads[i] < 0 || (size_t)w->heads[i] >= at->heads)
                return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: heads[%zu] is %d, expected 0 to %zu", at->where, i,
                                 w->heads[i], at->heads - (at->heads > 0));
            if (i > 0 && w->heads[i] <= w->heads[i - 1])
                return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: heads[%zu] is %d after %d, expected increasing heads",
                                 at->where, i, w->heads[i], w->heads[i - 1]);
        }
        look->head_count = w->head_count;
        *look = attn_look_single(look);
        look->heads = w->heads;
    }
    if (!w->rows) return ATTN_OK;
    const int64_t t = (int64_t)at->t;
    for (size_t i = 0; i < w->row_count; i++) {
        const int64_t row = w->rows[i];
        if (row < -t || row >= t)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: rows[%zu] is %lld, expected %lld to %lld", at->where, i,
                             (long long)row, (long long)-t, (long long)(t - 1));
        if (i > 0 && (row <= w->rows[i - 1] || (row < 0) != (w->rows[0] < 0)))
            return attn_fail(ctx, ATTN_E_ARGUMENT,
                             "%s: rows[%zu] is %lld after %lld, expected increasing rows, all negative or none",
                             at->where, i, (long long)row, (long long)w->rows[i - 1]);
    }
    look->rows = w->rows, look->row_count = w->row_count;
    return ATTN_OK;
}

static attn_status check_output(const attn_look *look, const char *name, const attn_tensor *t, attn_dtype dtype,
                                int rank, size_t third, size_t last) {
    if (!t) return ATTN_OK;
    char what[80];
    snprintf(what, sizeof what, "%s: %s", look->at.where, name);
    const size_t shape[4] = {look->at.sequences, look->head_count, third, last};
    ATTN_TRY(attn_check_view(look->at.ctx, what, t, rank, shape));
    if (t->dtype != dtype)
        return attn_fail(look->at.ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected %s", what, attn_dtype_name(t->dtype),
                         attn_dtype_name(dtype));
    if (!attn_tensor_is_contiguous(t)) return attn_fail(look->at.ctx, ATTN_E_UNSUPPORTED, "%s is not contiguous", what);
    return ATTN_OK;
}

static size_t blocks_of(size_t n, size_t block) { return n ? (n - 1) / block + 1 : 0; }

static attn_status check_outputs(const attn_look *look, const attn_attention_look *w) {
    attn_context *ctx = look->at.ctx;
    const char *where = look->at.where;
    const size_t r = look->row_count, s = look->at.s;
    ATTN_TRY(check_output(look, "weights", w->weights, ATTN_F32, 4, r, s));
    if (!w->top_values != !w->top_keys)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is given, but not %s", where,
                         w->top_keys ? "top_keys" : "top_values", w->top_keys ? "top_values" : "top_keys");
    if (w->top_values) {
        const size_t n = w->top_values->rank == 4 ? w->top_values->shape[3] : 0;
        ATTN_TRY(check_output(look, "top_values", w->top_values, ATTN_F32, 4, r, n));
        ATTN_TRY(check_output(look, "top_keys", w->top_keys, ATTN_I32, 4, r, n));
    }
    ATTN_TRY(check_output(look, "argmax", w->argmax, ATTN_I32, 3, r, 0));
    ATTN_TRY(check_output(look, "entropy", w->entropy, ATTN_F32, 3, r, 0));
    ATTN_TRY(check_output(look, "column_sum", w->column_sum, ATTN_F32, 3, s, 0));
    if (!w->block_max) return ATTN_OK;
    if (w->block_rows == 0 || w->block_keys == 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: blocks are %zu × %zu, expected at least 1 × 1", where,
                         w->block_rows, w->block_keys);
    return check_output(look, "block_max", w->block_max, ATTN_F32, 4, blocks_of(r, w->block_rows),
                        blocks_of(s, w->block_keys));
}

static attn_status check_apart(const attn_look *look, const attn_attention_look *w, const attn_tensor *q,
                               const attn_tensor *k, const attn_tensor *lse) {
    const struct {
        const char *name;
        const attn_tensor *t;
    } all[] = {{"weights", w->weights},
               {"top_values", w->top_values},
               {"top_keys", w->top_keys},
               {"argmax", w->argmax},
               {"entropy", w->entropy},
               {"column_sum", w->column_sum},
               {"block_max", w->block_max},
               {"q", q},
               {"k", k},
               {"lse", lse},
               {"mask", look->at.options.mask},
               {"bias", look->at.options.bias}};
    enum { OUTPUTS = 7 };
    for (size_t i = 0; i < OUTPUTS; i++)
        for (size_t j = i + 1; j < ATTN_COUNT(all); j++)
            if (all[j].t) ATTN_TRY(attn_attention_apart(&look->at, all[i].name, all[i].t, all[j].name, all[j].t));
    return ATTN_OK;
}

attn_status attn_attention_weights(attn_context *ctx, const attn_attention_look *wanted, const attn_tensor *q,
                                   const attn_tensor *k, const attn_tensor *lse,
                                   const attn_attention_options *options) {
    static const char where[] = "attn_attention_weights";
    if (!wanted || !lse) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is NULL", where, wanted ? "lse" : "look");
    if (wanted->struct_size != sizeof *wanted)
        return attn_fail(ctx, ATTN_E_VERSION, "%s: look.struct_size is %zu, expected %zu", where, wanted->struct_size,
                         sizeof *wanted);
    attn_look look;
    ATTN_TRY(attn_look_check(&look, ctx, where, q, k, options));
    ATTN_TRY(attn_attention_view(&look.at.lse, &look.at, "lse", lse, ATTN_QUERY_SIDE, 0, false, true));
    ATTN_TRY(check_choice(&look, wanted));
    ATTN_TRY(check_outputs(&look, wanted));
    ATTN_TRY(check_apart(&look, wanted, q, k, lse));
    if (wanted->weights || wanted->top_values || wanted->argmax || wanted->entropy)
        ATTN_TRY(look_at_rows(&look, wanted));
    if (wanted->column_sum || wanted->block_max) return attn_look_columns(&look, wanted);
    return ATTN_OK;
}
