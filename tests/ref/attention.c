/* Forward: what is visible, scores, weights, outputs and their bounds. Backward is in attention_bwd.c. */
#include "ref/attention_row.h"
#include "ref/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the call ---------------------------------------------------------------------------------------- */

struct call ref_call(const ref_attention *r) {
    struct call c = {.r = r, .o = ATTN_ATTENTION_OPTIONS_INIT};
    if (r->options) c.o = *r->options;
    c.packed = c.o.cu_q != NULL;
    int first = c.packed ? 0 : 1; /* the dimension of heads */
    c.sequences = c.packed ? c.o.sequences : r->q->shape[0];
    c.heads = r->q->shape[first], c.t = r->q->shape[first + 1], c.d = r->q->shape[first + 2];
    c.key_heads = r->k->shape[first], c.s = r->k->shape[first + 1], c.dv = r->v->shape[first + 2];
    c.group = c.heads / c.key_heads;
    c.scale = isnan(c.o.scale) ? 1 / sqrt((double)c.d) : (double)c.o.scale;
    c.threshold = (uint32_t)nearbyint(ldexp((double)c.o.dropout, 16));
    c.keep = 1 - ldexp(c.threshold, -16);
    return c;
}

struct sequence ref_sequence(const struct call *c, size_t b) {
    struct sequence q = {.b = b, .queries = c->t, .keys = c->s, .rows = c->t, .key_rows = c->s};
    if (c->packed) {
        q.first_q = (size_t)c->o.cu_q[b], q.first_k = (size_t)c->o.cu_k[b];
        q.rows = q.queries = (size_t)(c->o.cu_q[b + 1] - c->o.cu_q[b]);
        q.key_rows = q.keys = (size_t)(c->o.cu_k[b + 1] - c->o.cu_k[b]);
    }
    if (c->o.q_lengths) q.queries = (size_t)c->o.q_lengths[b];
    if (c->o.kv_lengths) q.keys = (size_t)c->o.kv_lengths[b];
    switch (c->o.causal) {
    case ATTN_CAUSAL_TOP_LEFT: break;
    case ATTN_CAUSAL_BOTTOM_RIGHT: q.offset = (int64_t)q.keys - (int64_t)q.queries; break;
    case ATTN_CAUSAL_NONE:
    case ATTN_CAUSAL_OFFSET: q.offset = c->o.query_offset ? c->o.query_offset[b] : 0; break;
    }
    q.id = c->o.sequence_ids ? c->o.sequence_ids[b] : (int64_t)b;
    return q;
}

/* ---- places of elements ---------------------------------------------------------------------------- */

ptrdiff_t ref_row_place(const struct call *c, const attn_tensor *t, size_t b, size_t h, size_t i) {
    if (c->packed) return (ptrdiff_t)h * t->stride[0] + (ptrdiff_t)i * t->stride[1];
    return (ptrdiff_t)b * t->stride[0] + (ptrdiff_t)h * t->stride[1] + (ptrdiff_t)i * t->stride[2];
}

size_t ref_row_number(const struct call *c, const struct sequence *q, size_t heads, size_t h, size_t rows, size_t i) {
    return c->packed ? h * rows + i : (q->b * heads + h) * rows + i;
}

/* Element (b, h, i, j) of a tensor whose dimensions may be 1 instead. */
static ptrdiff_t broadcast_place(const attn_tensor *t, size_t b, size_t h, size_t i, size_t j) {
    const size_t index[4] = {b, h, i, j};
    ptrdiff_t place = 0;
    for (int d = 0; d < 4; d++)
        if (t->shape[d] != 1) place += (ptrdiff_t)index[d] * t->stride[d];
    return place;
}

size_t ref_bias_number(const attn_tensor *t, size_t b, size_t h, size_t i, size_t j) {
    const size_t index[4] = {b, h, i, j};
    size_t number = 0;
    for (int d = 0; d < 4; d++) number = number * t->shape[d] + (t->shape[d] != 1 ? index[d] : 0);
    return number;
}

static bool bit_of(const attn_tensor *t, ptrdiff_t row, size_t j) {
    return (unsigned)ref_load(t, row + (ptrdiff_t)(j / 8)) >> j % 8 & 1;
}

/* ---- what is visible ------------------------------------------------------------------------------- */

static bool mask_lets(const struct call *c, size_t b, size_t h, size_t i, size_t j) {
    const attn_tensor *m = c->o.mask;
    bool bits = c->o.mask_format == ATTN_MASK_KEEP_BITS || c->o.mask_format == ATTN_MASK_DROP_BITS;
    bool keep = c->o.mask_format == ATTN_MASK_KEEP_BITS || c->o.mask_format == ATTN_MASK_KEEP_BYTES;
    ptrdiff_t row = (ptrdiff_t)(m->shape[0] != 1 ? b : 0) * m->stride[0] +
                    (ptrdiff_t)(m->shape[1] != 1 ? h : 0) * m->stride[1] +
                    (ptrdiff_t)(m->shape[2] != 1 ? i : 0) * m->stride[2];
    bool set = bits ? bit_of(m, row, j) : ref_load(m, row + (ptrdiff_t)j) != 0;
    return set == keep;
}

static bool tree_lets(const struct call *c, const struct sequence *q, size_t i, size_t j) {
    const attn_tensor *t = c->o.tree;
    if (j + q->queries < q->keys) return true; /* before the last T_b keys */
    ptrdiff_t row = (ptrdiff_t)(t->shape[0] != 1 ? q->b : 0) * t->stride[0] + (ptrdiff_t)i * t->stride[1];
    return bit_of(t, row, j + q->queries - q->keys);
}

static bool segments_let(const struct call *c, const struct sequence *q, size_t i, size_t j) {
    const attn_tensor *tq = c->o.segments_q, *tk = c->o.segments_k;
    ptrdiff_t at_q = c->packed ? (ptrdiff_t)(q->first_q + i) * tq->stride[0]
                               : (ptrdiff_t)q->b * tq->stride[0] + (ptrdiff_t)i * tq->stride[1];
    ptrdiff_t at_k = c->packed ? (ptrdiff_t)(q->first_k + j) * tk->stride[0]
                               : (ptrdiff_t)q->b * tk->stride[0] + (ptrdiff_t)j * tk->stride[1];
    return ref_load(tq, at_q) == ref_load(tk, at_k);
}

bool ref_visible(const struct call *c, const struct sequence *q, size_t h, size_t i, size_t j) {
    if (i >= q->queries || j >= q->keys) return false;
    int64_t position = (int64_t)i + q->offset, key = (int64_t)j;
    bool before = c->o.causal == ATTN_CAUSAL_NONE || key <= position;
    if (!before && !(c->o.prefix && key < c->o.prefix[q->b])) return false;
    if (c->o.window_left >= 0 && key < position - c->o.window_left) return false;
    if (c->o.window_right >= 0 && key > position + c->o.window_right) return false;
    if (c->o.segments_q && !segments_let(c, q, i, j)) return false;
    if (c->o.mask && !mask_lets(c, q->b, h, i, j)) return false;
    if (c->o.tree && !tree_lets(c, q, i, j)) return false;
    if (c->o.bias && ref_load(c->o.bias, broadcast_place(c->o.bias, q->b, h, i, j)) == -(double)INFINITY) return false;
    return true;
}

bool ref_attention_visible(const ref_attention *r, size_t b, size_t h, size_t i, size_t j) {
    struct call c = ref_call(r);
    struct sequence q = ref_sequence(&c, b);
    return ref_visible(&c, &q, h, i, j);
}

size_t ref_attention_sequences(const ref_attention *r) { return ref_call(r).sequences; }

void ref_attention_lengths(const ref_attention *r, size_t b, size_t *queries, size_t *keys) {
    struct call c = ref_call(r);
    struct sequence q = ref_sequence(&c, b);
    *queries = q.queries, *keys = q.keys;
}

/* What a weight that is not dropped is multiplied by: 1/(1 − p), or 0. */
static double dropout_factor(const struct call *c, const struct sequence *q, size_t h, size_t i, size_t j) {
    if (c->threshold == 0) return 1;
    const uint32_t counter[4] = {(uint32_t)c->o.offset, (uint32_t)(uint64_t)q->id * (uint32_t)c->heads + (uint32_t)h,
                                 (uint32_t)i, (uint32_t)(j / 8)};
    const uint32_t key[2] = {(uint32_t)c->o.seed, (uint32_t)(c->o.seed >> 32) ^ (uint32_t)(c->o.offset >> 32)};
    uint32_t word[4];
    ref_philox(word, counter, key);
    uint32_t half = word[j % 8 / 2] >> (j % 2 ? 16 : 0) & 0xffff;
    return half < c->threshold ? 0 : 1 / c->keep;
}

/* ---- a row ------------------------------------------------------------------------------------------ */

static void row_scores(const struct call *c, const struct sequence *q, size_t h, size_t i, const double *query,
                       const double *key, struct row *w) {
    double slope = c->o.alibi ? (double)c->o.alibi[h] : 0, cap = (double)c->o.softcap;
    w->any = false;
    for (size_t j = 0; j < q->keys; j++) {
        w->seen[j] = ref_visible(c, q, h, i, j);
        if (!w->seen[j]) continue;
        w->any = true;
        double x = 0, size = 0;
        for (size_t k = 0; k < c->d; k++) {
            double product = query[k] * key[j * c->d + k];
            x += product, size += fabs(product);
        }
        x *= c->scale;
        w->size[j] = fabs(c->scale) * size;
        w->tanh[j] = cap != 0 ? tanh(x / cap) : 0;
        w->slope[j] = 1 - w->tanh[j] * w->tanh[j];
        double z = cap != 0 ? cap * w->tanh[j] : x, beside = cap != 0 ? 8 * REF_U * fabs(z) : 0;
        if (c->o.bias) {
            double bias = ref_load(c->o.bias, broadcast_place(c->o.bias, q->b, h, i, j));
            z += bias, beside += 4 * REF_U * fabs(bias);
        }
        double alibi = -slope * fabs((double)((int64_t)i + q->offset - (int64_t)j));
        w->z[j] = z + alibi;
        w->product[j] = 4 * REF_U * w->slope[j] * w->size[j];
        w->beside[j] = beside + 4 * REF_U * fabs(alibi);
        w->factor[j] = dropout_factor(c, q, h, i, j);
    }
}

static void row_softmax(const struct call *c, const struct sequence *q, size_t h, struct row *w) {
    double max = -(double)INFINITY, sum = 0, sink = c->o.sinks ? (double)c->o.sinks[h] : -(double)INFINITY;
    for (size_t j = 0; j < q->keys; j++)
        if (w->seen[j] && !(w->z[j] <= max)) max = w->z[j]; /* NaN stays */
    if (sink > max) max = sink;
    for (size_t j = 0; j < q->keys; j++)
        if (w->seen[j]) sum += exp(w->z[j] - max);
    if (sink > -(double)INFINITY) sum += exp(sink - max);
    w->lse = sum != 0 ? max + log(sum) : -(double)INFINITY;
    w->sink = sink > -(double)INFINITY ? exp(sink - w->lse) : 0;
    w->sink_error = w->sink > 0 ? 4 * REF_U * fabs(sink) : 0;
    w->max_product = w->mean_error = w->mean_beside = 0;
    for (size_t j = 0; j < q->keys; j++) {
        if (!w->seen[j]) continue;
        w->p[j] = exp(w->z[j] - w->lse);
        if (!(w->product[j] <= w->max_product)) w->max_product = w->product[j];
        w->mean_error += w->p[j] * (w->product[j] + w->beside[j]);
        w->mean_beside += w->p[j] * w->beside[j];
    }
    w->mean_error += w->sink * w->sink_error;
    w->mean_beside += w->sink * w->sink_error;
    w->lse_error = w->any ? w->mean_error + 24 * REF_U + 4 * REF_U * fabs(w->lse) + c->r->weight_unit : 0;
}

static void row_output(const struct call *c, const struct sequence *q, const double *value, struct row *w) {
    double unit = c->r->weight_unit, constant = (c->threshold ? 20 : 16) * REF_U + 2 * w->max_product + unit;
    for (size_t x = 0; x < c->dv; x++) {
        double o = 0, size = 0, beside = 0, tail = 0, vanish = 0;
        for (size_t j = 0; j < q->keys; j++) {
            double weight, v = value[j * c->dv + x];
            if (!w->seen[j] || (weight = w->p[j] * w->factor[j]) == 0) {
                if (w->seen[j] && !isfinite(v)) vanish = (double)INFINITY; /* 0 · v */
                continue;
            }
            o += weight * v, size += weight * fabs(v), beside += weight * w->beside[j] * fabs(v);
            tail += fabs(v);
            if (!isfinite(v) && weight < REF_TINY) vanish = (double)INFINITY;
        }
        w->o[x] = o;
        w->o_error[x] = constant * size + beside + (w->mean_beside + unit) * fabs(o) + REF_TINY * tail + vanish;
    }
}

double *ref_gather(const struct call *c, const attn_tensor *t, const struct sequence *q, size_t h, size_t first,
                   size_t rows, size_t width) {
    double *x = malloc((rows * width + 1) * sizeof *x);
    for (size_t i = 0; i < rows; i++) {
        ptrdiff_t row = ref_row_place(c, t, q->b, h, first + i);
        for (size_t k = 0; k < width; k++) x[i * width + k] = ref_load(t, row + (ptrdiff_t)k);
    }
    return x;
}

static struct row row_new(const struct call *c) {
    size_t n = c->s + 1;
    double *x = malloc((12 * n + 3 * (c->dv + 1)) * sizeof *x);
    return (struct row){.memory = x,
                        .seen = malloc(n),
                        .z = x,
                        .size = x + n,
                        .tanh = x + 2 * n,
                        .slope = x + 3 * n,
                        .product = x + 4 * n,
                        .beside = x + 5 * n,
                        .factor = x + 6 * n,
                        .p = x + 7 * n,
                        .ds = x + 8 * n,
                        .ds_error = x + 9 * n,
                        .o = x + 12 * n,
                        .o_error = x + 12 * n + c->dv + 1};
}

static void one_head(ref_attention *r, const struct call *c, const struct sequence *q, size_t h, struct row *w) {
    size_t kh = h / c->group;
    double *query = ref_gather(c, r->q, q, h, q->first_q, q->queries, c->d);
    double *key = ref_gather(c, r->k, q, kh, q->first_k, q->keys, c->d);
    double *value = ref_gather(c, r->v, q, kh, q->first_k, q->keys, c->dv);
    for (size_t i = 0; i < q->rows; i++) {
        size_t number = ref_row_number(c, q, c->heads, h, c->t, q->first_q + i);
        double *out = r->out.value + number * c->dv, *bound = r->out.bound + number * c->dv;
        if (i >= q->queries) { /* padding: no sink either */
            r->lse.value[number] = -(double)INFINITY;
            continue;
        }
        row_scores(c, q, h, i, query + i * c->d, key, w);
        row_softmax(c, q, h, w);
        if (w->any) {
            row_output(c, q, value, w);
            memcpy(out, w->o, c->dv * sizeof *out);
            memcpy(bound, w->o_error, c->dv * sizeof *out);
        }
        r->lse.value[number] = w->lse, r->lse.bound[number] = w->lse_error;
        if (r->dout) ref_row_backward(r, c, q, h, i, query + i * c->d, key, value, w);
    }
    free(query), free(key), free(value);
}

static ref_array array_new(size_t count) {
    return (ref_array){calloc(count + 1, sizeof(double)), calloc(count + 1, sizeof(double)), count, 0};
}

void ref_attention_run(ref_attention *r) {
    struct call c = ref_call(r);
    size_t b = c.packed ? 1 : c.sequences;
    r->out = array_new(b * c.heads * c.t * c.dv), r->lse = array_new(b * c.heads * c.t);
    if (r->dout) {
        r->dq = array_new(b * c.heads * c.t * c.d);
        r->dk = array_new(b * c.key_heads * c.s * c.d), r->dv = array_new(b * c.key_heads * c.s * c.dv);
        if (c.o.bias) r->dbias = array_new(attn_tensor_count(c.o.bias));
        if (c.o.sinks) r->dsinks = array_new(c.heads);
    }
    struct row w = row_new(&c);
    for (size_t s = 0; s < c.sequences; s++) {
        struct sequence q = ref_sequence(&c, s);
        for (size_t h = 0; h < c.heads; h++) one_head(r, &c, &q, h, &w);
    }
    free(w.memory), free(w.seen);
}

void ref_attention_free(ref_attention *r) {
    ref_array *arrays[] = {&r->out, &r->lse, &r->dq, &r->dk, &r->dv, &r->dbias, &r->dsinks};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(arrays[i]->value), free(arrays[i]->bound);
        *arrays[i] = (ref_array){NULL, NULL, 0, 0};
    }
}
