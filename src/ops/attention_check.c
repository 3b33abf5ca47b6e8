/* attention_check.c: the arguments of the attention operator, checked once for forward, backward and weights. */
#include "ops/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_COLUMNS = 576 };

/* ---- tensors --------------------------------------------------------------------------------------- */

static bool is_float(attn_dtype dtype) { return dtype == ATTN_F32 || dtype == ATTN_BF16 || dtype == ATTN_F16; }

/* Elements between the lowest and the highest one of t, and the lowest, from data. */
static void extent(const attn_tensor *t, ptrdiff_t *lowest, ptrdiff_t *highest) {
    *lowest = *highest = 0;
    for (int i = 0; i < t->rank; i++) {
        ptrdiff_t step = t->shape[i] ? (ptrdiff_t)(t->shape[i] - 1) * t->stride[i] : 0;
        *(step < 0 ? lowest : highest) += step;
    }
}

/* Elements from the first to the last one along dimensions whose stride is less than `period`; 0 if a greater one is no
 * multiple of it. */
static size_t extent_below(const attn_tensor *t, size_t period) {
    size_t span = 1;
    for (int i = 0; i < t->rank; i++) {
        if (t->shape[i] <= 1) continue;
        if (t->stride[i] < 0) return 0;
        const size_t stride = (size_t)t->stride[i];
        if (stride < period) span += (t->shape[i] - 1) * stride;
        else if (stride % period) return 0;
    }
    return span;
}

/* True if the two surely share no element though their ranges do, as q, k and v of one projection: both repeat with a
 * period and fill different parts of it. */
static bool lie_between(const attn_tensor *a, const attn_tensor *b) {
    const size_t size = attn_dtype_size(a->dtype);
    const size_t distance = (size_t)((const char *)b->data - (const char *)a->data);
    if (b->dtype != a->dtype || distance % size) return false;
    for (int i = 0; i < a->rank; i++) {
        if (a->shape[i] <= 1 || a->stride[i] <= 0) continue;
        const size_t period = (size_t)a->stride[i], bytes = period * size;
        const size_t span = extent_below(a, period), other = extent_below(b, period);
        size_t from = distance % bytes / size;
        if ((const char *)b->data < (const char *)a->data) /* distance wrapped */
            from = (bytes - (size_t)((const char *)a->data - (const char *)b->data) % bytes) % bytes / size;
        if (span && other && from >= span && from + other <= period) return true;
    }
    return false;
}

/* Refuses a written tensor two of whose elements share memory. */
static attn_status check_distinct(const attn_attention *at, const char *name, const attn_tensor *t) {
    bool done[ATTN_MAX_RANK] = {false};
    size_t span = 1;
    for (;;) {
        int next = -1;
        for (int i = 0; i < t->rank; i++)
            if (!done[i] && t->shape[i] > 1 && (next < 0 || llabs(t->stride[i]) < llabs(t->stride[next]))) next = i;
        if (next < 0) return ATTN_OK;
        const size_t stride = (size_t)llabs(t->stride[next]);
        if (stride < span)
            return attn_fail(at->ctx, ATTN_E_ARGUMENT,
                             "%s: %s overlaps itself: its stride %zu of dimension %d is less than %zu", at->where, name,
                             stride, next, span);
        span += (t->shape[next] - 1) * stride;
        done[next] = true;
    }
}

attn_status attn_attention_apart(const attn_attention *at, const char *name, const attn_tensor *written,
                                 const char *other_name, const attn_tensor *other) {
    if (!written || !attn_tensor_count(written)) return ATTN_OK;
    if (!other) return check_distinct(at, name, written);
    if (!attn_tensor_count(other)) return ATTN_OK;
    ptrdiff_t lowest, highest, size = (ptrdiff_t)attn_dtype_size(written->dtype);
    extent(written, &lowest, &highest);
    const char *first = (const char *)written->data + lowest * size,
               *end = (const char *)written->data + (highest + 1) * size;
    size = (ptrdiff_t)attn_dtype_size(other->dtype);
    extent(other, &lowest, &highest);
    const char *other_first = (const char *)other->data + lowest * size,
               *other_end = (const char *)other->data + (highest + 1) * size;
    if (first >= other_end || other_first >= end) return ATTN_OK;
    if (lie_between(written, other)) return ATTN_OK;
    return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: %s overlaps %s: %p to %p and %p to %p", at->where, name, other_name,
                     (const void *)first, (const void *)end, (const void *)other_first, (const void *)other_end);
}

attn_status attn_attention_view(attn_view *view, const attn_attention *at, const char *name, const attn_tensor *t,
                                attn_side side, size_t last, bool f32_too, bool f32_only) {
    *view = (attn_view){.data = NULL};
    if (!t) return ATTN_OK;
    char what[80];
    snprintf(what, sizeof what, "%s: %s", at->where, name);
    const attn_attention_options *o = &at->options;
    size_t heads = side == ATTN_QUERY_SIDE ? at->heads : at->key_heads, rows = side == ATTN_QUERY_SIDE ? at->t : at->s;
    if (at->packed) rows = (size_t)(side == ATTN_QUERY_SIDE ? o->cu_q : o->cu_k)[at->sequences];
    const size_t shape[4] = {at->sequences, heads, rows, last};
    const int first = at->packed, rank = (last ? 4 : 3) - first;
    attn_tensor checked = *t; /* without a last dimension every stride is free */
    if (!last && rank > 0 && t->rank == rank && t->rank > 0) checked.stride[rank - 1] = 1;
    ATTN_TRY(attn_check_view(at->ctx, what, &checked, rank, shape + first));
    bool good = f32_only ? t->dtype == ATTN_F32 : t->dtype == at->dtype || (f32_too && t->dtype == ATTN_F32);
    if (!good)
        return attn_fail(at->ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected %s", what, attn_dtype_name(t->dtype),
                         f32_only ? "F32" : attn_dtype_name(at->dtype));
    const ptrdiff_t *stride = t->stride - first;
    *view = (attn_view){t->data, t->dtype, at->packed ? 0 : t->stride[0], stride[1], stride[2], 1};
    return ATTN_OK;
}

/* Mask and bias: rank 4, every dimension 1 or the call's. */
static attn_status broadcast_view(attn_view *view, const attn_attention *at, const char *name, const attn_tensor *t,
                                  size_t last, bool last_may_be_one) {
    char what[80];
    snprintf(what, sizeof what, "%s: %s", at->where, name);
    if (t->rank != 4) return attn_fail(at->ctx, ATTN_E_SHAPE, "%s has rank %d, expected 4", what, t->rank);
    if (!t->data && attn_tensor_count(t) > 0) return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s has no data", what);
    const size_t wanted[4] = {at->sequences, at->heads, at->t, last};
    for (int i = 0; i < 4; i++) {
        bool one = t->shape[i] == 1 && (i < 3 || last_may_be_one),
             longer = at->packed && i >= 2 && t->shape[i] >= wanted[i];
        if (!one && !longer && t->shape[i] != wanted[i])
            return attn_fail(at->ctx, ATTN_E_SHAPE, "%s has %zu for dimension %d, expected %zu%s", what, t->shape[i], i,
                             wanted[i], i < 3 || last_may_be_one ? " or 1" : "");
    }
    ptrdiff_t stride[4];
    for (int i = 0; i < 4; i++) stride[i] = t->shape[i] == 1 ? 0 : t->stride[i];
    if (!last_may_be_one && t->shape[3] > 1 && t->stride[3] != 1)
        return attn_fail(at->ctx, ATTN_E_UNSUPPORTED, "%s has last stride %td, expected 1", what, t->stride[3]);
    *view = (attn_view){t->data, t->dtype, stride[0], stride[1], stride[2], stride[3]};
    return ATTN_OK;
}

/* ---- options --------------------------------------------------------------------------------------- */

static attn_status refuse_together(const attn_attention *at, const char *one, const char *other) {
    return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: %s and %s exclude each other", at->where, one, other);
}

static attn_status check_offsets(attn_attention *at, const char *name, const int32_t *offsets, size_t *longest) {
    *longest = 0;
    if (offsets[0] != 0)
        return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: %s[0] is %d, expected 0", at->where, name, offsets[0]);
    for (size_t b = 0; b < at->sequences; b++) {
        if (offsets[b + 1] < offsets[b])
            return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: %s[%zu] is %d, expected at least %s[%zu], %d", at->where,
                             name, b + 1, offsets[b + 1], name, b, offsets[b]);
        *longest = ATTN_MAX(*longest, (size_t)(offsets[b + 1] - offsets[b]));
    }
    return ATTN_OK;
}

/* Sizes from q, k and v. */
static attn_status check_sizes(attn_attention *at, const attn_tensor *q, const attn_tensor *k, const attn_tensor *v) {
    const attn_attention_options *o = &at->options;
    attn_context *ctx = at->ctx;
    if (!q || !k || !v) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is NULL", at->where, !q ? "q" : !k ? "k" : "v");
    at->packed = o->cu_q || o->cu_k;
    const int rank = at->packed ? 3 : 4;
    const struct {
        const char *name;
        const attn_tensor *t;
    } three[] = {{"q", q}, {"k", k}, {"v", v}};
    for (size_t i = 0; i < 3; i++) {
        if (three[i].t->rank != rank)
            return attn_fail(ctx, ATTN_E_SHAPE, "%s: %s has rank %d, expected %d", at->where, three[i].name,
                             three[i].t->rank, rank);
        if (!is_float(three[i].t->dtype))
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: %s is %s, expected F32, BF16 or F16", at->where,
                             three[i].name, attn_dtype_name(three[i].t->dtype));
    }
    const size_t *qs = q->shape - at->packed, *ks = k->shape - at->packed, *vs = v->shape - at->packed;
    at->dtype = q->dtype;
    at->heads = qs[1], at->key_heads = ks[1], at->d = qs[3], at->dv = vs[3];
    if (at->packed) {
        if (!o->cu_q || !o->cu_k)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is given, but not %s", at->where, o->cu_q ? "cu_q" : "cu_k",
                             o->cu_q ? "cu_k" : "cu_q");
        if (o->q_lengths || o->kv_lengths)
            return refuse_together(at, "cu_q, cu_k", o->q_lengths ? "q_lengths" : "kv_lengths");
        at->sequences = o->sequences;
        ATTN_TRY(check_offsets(at, "cu_q", o->cu_q, &at->t));
        ATTN_TRY(check_offsets(at, "cu_k", o->cu_k, &at->s));
        if ((size_t)o->cu_q[at->sequences] != qs[2] || (size_t)o->cu_k[at->sequences] != ks[2])
            return attn_fail(ctx, ATTN_E_SHAPE, "%s: cu_q ends at %d and cu_k at %d, but q has %zu rows and k has %zu",
                             at->where, o->cu_q[at->sequences], o->cu_k[at->sequences], qs[2], ks[2]);
    } else {
        at->sequences = qs[0], at->t = qs[2], at->s = ks[2];
    }
    if (at->d < 1 || at->d > MOST_COLUMNS || at->dv < 1 || at->dv > MOST_COLUMNS)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: head size of q is %zu and of v %zu, expected 1 to %d", at->where,
                         at->d, at->dv, MOST_COLUMNS);
    if (at->key_heads == 0 ? at->heads != 0 : at->heads % at->key_heads != 0)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: q has %zu heads, expected a multiple of k's %zu", at->where, at->heads,
                         at->key_heads);
    const size_t sizes[2][4] = {{at->sequences, at->heads, at->t, at->d + at->dv},
                                {at->sequences, at->key_heads, at->s, at->d + at->dv}};
    for (int i = 0; i < 2; i++) {
        size_t product = 64; /* what is computed with these, in bytes, with room */
        for (int j = 0; j < 4; j++)
            if (sizes[i][j] && !attn_size_mul(&product, product, sizes[i][j]))
                return attn_fail(ctx, ATTN_E_SHAPE, "%s: %s has %zu x %zu x %zu rows, more than memory can have",
                                 at->where, i ? "k" : "q", sizes[i][0], sizes[i][1], sizes[i][2]);
    }
    at->group = at->key_heads ? at->heads / at->key_heads : 1;
    ATTN_TRY(attn_attention_view(&at->q, at, "q", q, ATTN_QUERY_SIDE, at->d, false, false));
    ATTN_TRY(attn_attention_view(&at->k, at, "k", k, ATTN_KEY_SIDE, at->d, false, false));
    return attn_attention_view(&at->v, at, "v", v, ATTN_KEY_SIDE, at->dv, false, false);
}

static attn_status check_ranges(const attn_attention *at) {
    const attn_attention_options *o = &at->options;
    attn_context *ctx = at->ctx;
    if (!isfinite(o->scale)) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: scale is %g", at->where, (double)o->scale);
    if (!(o->softcap >= 0) || isinf(o->softcap))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: softcap is %g, expected 0 or more", at->where, (double)o->softcap);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: dropout is %g, expected 0 to less than 1", at->where,
                         (double)o->dropout);
    if ((unsigned)o->causal > ATTN_CAUSAL_OFFSET)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: causal is %d, expected 0 to %d", at->where, (int)o->causal,
                         (int)ATTN_CAUSAL_OFFSET);
    if ((unsigned)o->mask_format > ATTN_MASK_DROP_BITS)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: mask_format is %d, expected 0 to %d", at->where,
                         (int)o->mask_format, (int)ATTN_MASK_DROP_BITS);
    if ((unsigned)o->precision > ATTN_PRECISION_FAST)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: precision is %d, expected 0 to %d", at->where, (int)o->precision,
                         (int)ATTN_PRECISION_FAST);
    if (o->window_left < -1 || o->window_right < -1)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: window is %lld, %lld, expected -1 (open) or more", at->where,
                         (long long)o->window_left, (long long)o->window_right);
    if (o->query_offset && (o->causal == ATTN_CAUSAL_TOP_LEFT || o->causal == ATTN_CAUSAL_BOTTOM_RIGHT))
        return refuse_together(at, "query_offset",
                               o->causal == ATTN_CAUSAL_TOP_LEFT ? "causal top-left" : "causal bottom-right");
    for (size_t b = 0; o->prefix && b < at->sequences; b++)
        if (o->prefix[b] < 0)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: prefix[%zu] is %d, expected 0 or more", at->where, b,
                             o->prefix[b]);
    char what[80];
    snprintf(what, sizeof what, "%s: q_lengths", at->where);
    ATTN_TRY(attn_check_lengths(ctx, what, o->q_lengths, at->sequences, at->t));
    snprintf(what, sizeof what, "%s: kv_lengths", at->where);
    return attn_check_lengths(ctx, what, o->kv_lengths, at->sequences, at->s);
}

static attn_status check_ids(const attn_attention *at, const char *name, const attn_tensor *t, size_t rows,
                             size_t packed_rows) {
    char what[80];
    snprintf(what, sizeof what, "%s: %s", at->where, name);
    const size_t shape[2] = {at->sequences, rows};
    ATTN_TRY(attn_check_view(at->ctx, what, t, at->packed ? 1 : 2, at->packed ? &packed_rows : shape));
    if (t->dtype != ATTN_I32)
        return attn_fail(at->ctx, ATTN_E_UNSUPPORTED, "%s is %s, expected I32", what, attn_dtype_name(t->dtype));
    return ATTN_OK;
}

static attn_status check_u8(const attn_attention *at, const char *name, const attn_tensor *t) {
    if (t->dtype == ATTN_U8) return ATTN_OK;
    return attn_fail(at->ctx, ATTN_E_UNSUPPORTED, "%s: %s is %s, expected U8", at->where, name,
                     attn_dtype_name(t->dtype));
}

static attn_status check_masks(attn_attention *at) {
    const attn_attention_options *o = &at->options;
    if (!o->segments_q != !o->segments_k)
        return attn_fail(at->ctx, ATTN_E_ARGUMENT, "%s: %s is given, but not %s", at->where,
                         o->segments_q ? "segments_q" : "segments_k", o->segments_q ? "segments_k" : "segments_q");
    if (o->segments_q) {
        ATTN_TRY(check_ids(at, "segments_q", o->segments_q, at->t, at->packed ? (size_t)o->cu_q[at->sequences] : 0));
        ATTN_TRY(check_ids(at, "segments_k", o->segments_k, at->s, at->packed ? (size_t)o->cu_k[at->sequences] : 0));
    }
    if (o->tree) {
        char what[80];
        snprintf(what, sizeof what, "%s: tree", at->where);
        ATTN_TRY(check_u8(at, "tree", o->tree));
        const size_t rows = o->tree->rank == 3 && o->tree->shape[0] == 1 ? 1 : at->sequences;
        ATTN_TRY(attn_check_view(at->ctx, what, o->tree, 3, (size_t[]){rows, at->t, (at->t + 7) / 8}));
    }
    if (o->mask) {
        ATTN_TRY(check_u8(at, "mask", o->mask));
        bool bits = o->mask_format == ATTN_MASK_KEEP_BITS || o->mask_format == ATTN_MASK_DROP_BITS;
        ATTN_TRY(broadcast_view(&at->mask, at, "mask", o->mask, bits ? (at->s + 7) / 8 : at->s, false));
    }
    if (o->bias) {
        if (!is_float(o->bias->dtype))
            return attn_fail(at->ctx, ATTN_E_UNSUPPORTED, "%s: bias is %s, expected F32, BF16 or F16", at->where,
                             attn_dtype_name(o->bias->dtype));
        ATTN_TRY(broadcast_view(&at->bias, at, "bias", o->bias, at->s, true));
    }
    return ATTN_OK;
}

attn_status attn_attention_check(attn_attention *at, attn_context *ctx, const char *where, const attn_tensor *q,
                                 const attn_tensor *k, const attn_tensor *v, const attn_attention_options *options) {
    static const attn_attention_options defaults = ATTN_ATTENTION_OPTIONS_INIT;
    if (!options) options = &defaults;
    if (options->struct_size != sizeof *options)
        return attn_fail(ctx, ATTN_E_VERSION, "%s: options.struct_size is %zu, expected %zu", where,
                         options->struct_size, sizeof *options);
    *at = (attn_attention){.ctx = ctx, .kernels = ctx->kernels, .where = where, .options = *options};
    attn_attention_options *o = &at->options;
    ATTN_TRY(check_sizes(at, q, k, v));
    if (isnan(o->scale)) o->scale = (float)(1.0 / sqrt((double)at->d));
    ATTN_TRY(check_ranges(at));
    ATTN_TRY(check_masks(at));
    at->logits = o->softcap > 0 || o->bias || o->alibi || !(o->scale > 0);
    at->irregular = o->mask || o->tree || o->segments_q;
    at->factor = at->logits ? 1.0f : o->scale * ATTN_LOG2E;
    at->fast = at->dtype == ATTN_BF16 && o->precision != ATTN_PRECISION_HIGH &&
               (at->kernels->fast_bf16 || o->precision == ATTN_PRECISION_FAST);
    at->threshold = ATTN_MIN((uint32_t)lrintf(o->dropout * 65536.0f), 65535u);
    at->kept = at->threshold ? 65536.0f / (65536.0f - (float)at->threshold) : 1.0f;
    return ATTN_OK;
}

attn_sequence attn_attention_sequence(const attn_attention *at, size_t b) {
    const attn_attention_options *o = &at->options;
    attn_sequence x = {.index = b, .t = at->t, .s = at->s};
    if (at->packed) {
        x.q_first = o->cu_q[b], x.k_first = o->cu_k[b];
        x.t = (size_t)(o->cu_q[b + 1] - o->cu_q[b]), x.s = (size_t)(o->cu_k[b + 1] - o->cu_k[b]);
    } else {
        if (o->q_lengths) x.t = (size_t)o->q_lengths[b];
        if (o->kv_lengths) x.s = (size_t)o->kv_lengths[b];
        if (at->cache) x.s = attn_kv_cache_length(at->cache, b);
    }
    if (o->causal == ATTN_CAUSAL_BOTTOM_RIGHT) x.position = (int64_t)x.s - (int64_t)x.t;
    else if (o->causal != ATTN_CAUSAL_TOP_LEFT && o->query_offset) x.position = o->query_offset[b];
    if (o->prefix) x.prefix = (size_t)o->prefix[b];
    x.id = (uint32_t)(o->sequence_ids ? o->sequence_ids[b] : (int64_t)b);
    return x;
}
