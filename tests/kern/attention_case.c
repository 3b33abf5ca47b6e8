/* Random calls of the attention operator. */
#include "kern/attention_case.h"

const struct case_limits case_any = {.budget = 0x1p20,
                                     .packed = true,
                                     .lengths = true,
                                     .dropout = true,
                                     .sixteen_bits = true,
                                     .strides = true,
                                     .tree = true,
                                     .offset = true,
                                     .broadcast_bias = true,
                                     .junk = true,
                                     .visible_nan = true};

/* What the making of one case hands around. */
struct maker {
    struct attention_case *c;
    const struct case_limits *limits;
    uint64_t random;
    enum case_layout layout;
    size_t lengths_t[64], lengths_s[64]; /* of each sequence, without padding */
};

#define CHANCE(m, p) case_chance(&(m)->random, p)
#define BELOW(m, n) case_below(&(m)->random, n)
#define PICK(m, array) (array)[BELOW(m, sizeof(array) / sizeof((array)[0]))]

/* ---- sizes -------------------------------------------------------------------------------------------- */

static size_t pick_length(struct maker *m) {
    static const size_t borders[] = {16, 24, 32, 48, 64, 96, 128, 192, 256};
    double way = (double)BELOW(m, 1000) / 1000;
    if (way < 0.01) return 0;
    if (way < 0.12) return 1 + BELOW(m, 8);
    if (way < 0.60) return 1 + BELOW(m, 200);
    if (way < 0.93) return PICK(m, borders) + BELOW(m, 3) - 1;
    return (CHANCE(m, 0.7) ? 512 : 1024) + BELOW(m, 3) - 1;
}

static size_t pick_width(struct maker *m) {
    static const size_t usual[] = {8, 16, 32, 40, 64, 64, 80, 96, 112, 128, 128};
    double way = (double)BELOW(m, 1000) / 1000;
    if (way < 0.40) return PICK(m, usual);
    if (way < 0.55) return PICK(m, usual) + BELOW(m, 3) - 1;
    if (way < 0.94) return 1 + BELOW(m, 200);
    if (way < 0.98) return 192 + BELOW(m, 385);
    return 576 - BELOW(m, 2);
}

static void pick_sizes(struct maker *m) {
    struct attention_case *c = m->c;
    static const size_t groups[] = {1, 1, 2, 3, 4, 7, 8};
    c->d = pick_width(m);
    c->dv = CHANCE(m, 0.6) ? c->d : pick_width(m);
    c->longest_t = CHANCE(m, 0.2) ? 1 + BELOW(m, 4) : pick_length(m);
    c->longest_s = c->longest_t < 5 && CHANCE(m, 0.5) ? 1 + BELOW(m, 1500) : pick_length(m);
    double pairs = m->limits->budget / (double)(c->d + c->dv);
    size_t least = m->limits->min_sequences ? m->limits->min_sequences : 1;
    while ((double)(c->longest_t * c->longest_s * least) > pairs) {
        size_t *side = CHANCE(m, 0.5) && c->longest_t > 1 ? &c->longest_t : &c->longest_s;
        if (*side > 1) *side = *side - 1 - BELOW(m, (*side + 1) / 2);
        if (*side == 0) *side = 1;
    }
    double left = pairs / (double)((c->longest_t ? c->longest_t : 1) * (c->longest_s ? c->longest_s : 1));
    size_t most = left < 24 ? (size_t)left : 24;
    c->b = least + (least > 1 ? 0 : BELOW(m, 4)), c->hk = 1 + BELOW(m, 3);
    size_t group = PICK(m, groups);
    while (c->b * c->hk * group > most && c->b * c->hk * group > least) {
        size_t *side = BELOW(m, 3) == 0 ? &c->b : CHANCE(m, 0.5) ? &c->hk : &group;
        if (*side > (side == &c->b ? least : 1)) --*side;
    }
    c->h = c->hk * group;
    c->packed = m->limits->packed && CHANCE(m, 0.25);
}

static size_t pick_part(struct maker *m, size_t n) {
    double way = (double)BELOW(m, 100) / 100;
    return way < 0.25 ? n : way < 0.32 ? 0 : n ? 1 + BELOW(m, n) : 0;
}

static void pick_lengths(struct maker *m) {
    struct attention_case *c = m->c;
    bool q = m->limits->lengths && CHANCE(m, 0.35), k = m->limits->lengths && CHANCE(m, 0.4);
    int32_t cu_q[65] = {0}, cu_k[65] = {0}, q_lengths[64], kv_lengths[64];
    size_t longest_t = 0, longest_s = 0;
    for (size_t b = 0; b < c->b; b++) {
        size_t t = q || c->packed ? pick_part(m, c->longest_t) : c->longest_t;
        size_t s = k || c->packed ? pick_part(m, c->longest_s) : c->longest_s;
        m->lengths_t[b] = t, m->lengths_s[b] = s;
        q_lengths[b] = (int32_t)t, kv_lengths[b] = (int32_t)s;
        cu_q[b + 1] = cu_q[b] + (int32_t)t, cu_k[b + 1] = cu_k[b] + (int32_t)s;
        if (t > longest_t) longest_t = t;
        if (s > longest_s) longest_s = s;
    }
    c->t = c->longest_t, c->s = c->longest_s;
    if (c->packed) {
        c->t = (size_t)cu_q[c->b], c->s = (size_t)cu_k[c->b], c->longest_t = longest_t, c->longest_s = longest_s;
        c->options.cu_q = case_array(cu_q, c->b + 1, sizeof *cu_q);
        c->options.cu_k = case_array(cu_k, c->b + 1, sizeof *cu_k);
        c->options.sequences = c->b;
    } else {
        if (q) c->options.q_lengths = case_array(q_lengths, c->b, sizeof *q_lengths);
        if (k) c->options.kv_lengths = case_array(kv_lengths, c->b, sizeof *kv_lengths);
    }
}

/* ---- tensors of a call ---------------------------------------------------------------------------- */

/* (B, heads, rows, width), packed (heads, rows, width); width 0: without the last dimension. */
static attn_tensor rows_tensor(uint64_t *random, const struct attention_case *c, attn_dtype dtype, size_t heads,
                               size_t rows, size_t width, enum case_layout layout) {
    const size_t shape[4] = {c->b, heads, rows, width}, *first = c->packed ? shape + 1 : shape;
    return case_tensor(random, dtype, (c->packed ? 2 : 3) + (width ? 1 : 0), first, layout);
}

static void fill_normal(uint64_t *random, const attn_tensor *t, double scale) {
    size_t n = attn_tensor_count(t);
    for (size_t i = 0; i < n; i++) ref_store(t, ref_place(t, i), (double)(float)(scale * case_normal(random)));
}

static void make_inputs(struct maker *m) {
    struct attention_case *c = m->c;
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_F32, ATTN_BF16, ATTN_F16};
    attn_dtype dtype = m->limits->sixteen_bits ? PICK(m, dtypes) : ATTN_F32;
    if (m->limits->doubles) dtype = ATTN_F64;
    c->q = rows_tensor(&m->random, c, dtype, c->h, c->t, c->d, m->layout);
    c->k = rows_tensor(&m->random, c, dtype, c->hk, c->s, c->d, m->layout);
    c->v = rows_tensor(&m->random, c, dtype, c->hk, c->s, c->dv, m->layout);
    c->dout = rows_tensor(&m->random, c, dtype, c->h, c->t, c->dv, m->layout);
    c->dlse = rows_tensor(&m->random, c, m->limits->doubles ? ATTN_F64 : ATTN_F32, c->h, c->t, 0, m->layout);
    if (m->layout == LAYOUT_RANDOM && !c->packed && CHANCE(m, 0.1)) { /* the same keys for all */
        c->k.stride[0] = c->v.stride[0] = 0;
        if (CHANCE(m, 0.5)) c->k.stride[1] = 0;
        c->shared_inputs = true;
    }
    fill_normal(&m->random, &c->q, 1), fill_normal(&m->random, &c->k, 1), fill_normal(&m->random, &c->v, 1);
    fill_normal(&m->random, &c->dout, 1), fill_normal(&m->random, &c->dlse, 1);
    c->with_dlse = CHANCE(m, 0.4);
    for (int x = 0; x < CASE_RESULT_COUNT; x++) {
        c->dtype[x] = x == CASE_OUT ? dtype : ATTN_F32;
        if (x >= CASE_DQ && x <= CASE_DV && CHANCE(m, 0.6)) c->dtype[x] = dtype;
    }
}

/* ---- options ------------------------------------------------------------------------------------------ */

static void pick_causal(struct maker *m) {
    struct attention_case *c = m->c;
    attn_attention_options *o = &c->options;
    static const attn_causal kinds[] = {ATTN_CAUSAL_NONE, ATTN_CAUSAL_NONE, ATTN_CAUSAL_TOP_LEFT,
                                        ATTN_CAUSAL_BOTTOM_RIGHT, ATTN_CAUSAL_OFFSET};
    o->causal = PICK(m, kinds);
    bool free = o->causal == ATTN_CAUSAL_NONE || o->causal == ATTN_CAUSAL_OFFSET;
    if (free && m->limits->offset && CHANCE(m, 0.6)) {
        int64_t offsets[64];
        for (size_t b = 0; b < c->b; b++)
            offsets[b] = (int64_t)BELOW(m, c->longest_s + c->longest_t / 2 + 2) - (int64_t)(c->longest_t / 2);
        o->query_offset = case_array(offsets, c->b, sizeof *offsets);
    }
    if (CHANCE(m, 0.3)) {
        size_t most = CHANCE(m, 0.5) ? 20 : c->longest_s + 1;
        o->window_left = CHANCE(m, 0.25) ? -1 : (int64_t)BELOW(m, most);
        o->window_right = CHANCE(m, 0.4) ? -1 : (int64_t)BELOW(m, most);
    }
    if (CHANCE(m, 0.15)) {
        int32_t prefix[64];
        for (size_t b = 0; b < c->b; b++) prefix[b] = (int32_t)BELOW(m, m->lengths_s[b] + 1);
        o->prefix = case_array(prefix, c->b, sizeof *prefix);
    }
}

/* Ids of documents: runs, sometimes any order. */
static const attn_tensor *make_segments(struct maker *m, size_t n) {
    const size_t shape[2] = {m->c->b, n}, *first = m->c->packed ? shape + 1 : shape;
    attn_tensor t = case_tensor(&m->random, ATTN_I32, m->c->packed ? 1 : 2, first, m->layout);
    size_t run = 1 + BELOW(m, n / 2 + 2), count = attn_tensor_count(&t);
    bool scattered = CHANCE(m, 0.2);
    for (size_t i = 0; i < count; i++)
        ref_store(&t, ref_place(&t, i), scattered ? (double)BELOW(m, 3) - 1 : (double)(i % (n ? n : 1) / run));
    return case_keep(t);
}

static attn_tensor broadcast_tensor(struct maker *m, attn_dtype dtype, size_t columns, bool last) {
    struct attention_case *c = m->c;
    size_t extra = c->packed && CHANCE(m, 0.3) ? BELOW(m, 4) : 0;
    size_t shape[4] = {c->b, c->h, c->longest_t + extra, columns};
    bool broadcast = m->limits->broadcast_bias;
    for (int d = 0; d < (last ? 4 : 3); d++)
        if (CHANCE(m, d == 3 ? 0.15 : 0.4) && (broadcast || d > 0)) shape[d] = 1;
    return case_tensor(&m->random, dtype, 4, shape, m->layout);
}

/* Visible in blocks, so that whole tiles are empty, full and in between. */
static void make_mask(struct maker *m) {
    struct attention_case *c = m->c;
    static const size_t sizes[] = {1, 1, 8, 16, 64};
    c->options.mask_format = (attn_mask_format)BELOW(m, 4);
    bool bits = c->options.mask_format == ATTN_MASK_KEEP_BITS || c->options.mask_format == ATTN_MASK_DROP_BITS;
    bool keep = c->options.mask_format == ATTN_MASK_KEEP_BITS || c->options.mask_format == ATTN_MASK_KEEP_BYTES;
    size_t columns = c->longest_s + (c->packed && CHANCE(m, 0.3) ? BELOW(m, 9) : 0);
    attn_tensor t = broadcast_tensor(m, ATTN_U8, bits ? (columns + 7) / 8 : columns, false);
    size_t width = t.shape[3], rows = width ? attn_tensor_count(&t) / width : 0, block = PICK(m, sizes);
    double density = CHANCE(m, 0.5) ? 0.7 : 0.3;
    uint64_t pattern = case_next(&m->random);
    for (size_t row = 0; row < rows; row++)
        for (size_t j = 0; j < (bits ? 8 * width : width); j++) {
            uint64_t at = pattern + row / block * 1000003 + j / block;
            bool set = case_chance(&at, density) == keep;
            ptrdiff_t place = ref_place(&t, row * width + (bits ? j / 8 : j));
            if (!bits) ref_store(&t, place, set ? 1 + (double)BELOW(m, 255) : 0);
            else if (j % 8 == 0) ref_store(&t, place, set);
            else ref_store(&t, place, ref_load(&t, place) + (set ? ldexp(1, (int)(j % 8)) : 0));
        }
    c->options.mask = case_keep(t);
}

static void make_tree(struct maker *m) {
    struct attention_case *c = m->c;
    size_t t_size = c->longest_t;
    const size_t shape[3] = {CHANCE(m, 0.5) ? 1 : c->b, t_size, (t_size + 7) / 8};
    attn_tensor t = case_tensor(&m->random, ATTN_U8, 3, shape, m->layout);
    size_t n = attn_tensor_count(&t);
    for (size_t i = 0; i < n; i++) {
        size_t row = i / shape[2] % t_size, byte = i % shape[2];
        uint64_t bits = BELOW(m, 256) & BELOW(m, 256);
        if (row / 8 == byte) bits |= (uint64_t)1 << row % 8; /* itself */
        ref_store(&t, ref_place(&t, i), (double)(bits & 255));
    }
    c->options.tree = case_keep(t);
}

static void make_bias(struct maker *m) {
    struct attention_case *c = m->c;
    attn_dtype dtype = m->limits->doubles || CHANCE(m, 0.6) ? c->q.dtype : ATTN_F32;
    attn_tensor t = broadcast_tensor(m, dtype, c->longest_s, true);
    fill_normal(&m->random, &t, CHANCE(m, 0.8) ? 1 : 4);
    size_t n = attn_tensor_count(&t);
    bool holes = CHANCE(m, 0.5);
    for (size_t i = 0; holes && i < n; i++)
        if (CHANCE(m, 0.06)) ref_store(&t, ref_place(&t, i), CHANCE(m, 0.7) ? -(double)INFINITY : -1e4);
    c->options.bias = case_keep(t);
}

static void make_heads(struct maker *m) { /* ALiBi, sinks */
    struct attention_case *c = m->c;
    float slopes[64], sinks[64];
    for (size_t h = 0; h < c->h; h++) {
        slopes[h] = (float)ldexp(1 + (double)BELOW(m, 256) / 256, -1 - (int)BELOW(m, 9));
        sinks[h] = (float)(nearbyint(256 * 2 * case_normal(&m->random)) / 256);
    }
    if (CHANCE(m, 0.2)) c->options.alibi = case_array(slopes, c->h, sizeof *slopes);
    if (CHANCE(m, 0.2)) c->options.sinks = case_array(sinks, c->h, sizeof *sinks);
}

static void pick_numbers(struct maker *m) {
    struct attention_case *c = m->c;
    static const float caps[] = {0.5f, 2, 5, 30, 50}, drops[] = {0.1f, 0.1f, 0.25f, 0.5f, 0.9f, 0x1.8p-17f};
    attn_attention_options *o = &c->options;
    if (CHANCE(m, 0.4)) {
        const float scales[] = {0, 1, 0.5f, -0.3f, 0.01f + (float)BELOW(m, 1000) / 2000};
        o->scale = PICK(m, scales);
    }
    if (CHANCE(m, 0.2)) o->softcap = PICK(m, caps);
    if (m->limits->dropout && CHANCE(m, 0.15)) {
        o->dropout = PICK(m, drops), o->seed = case_next(&m->random);
        o->offset = CHANCE(m, 0.5) ? BELOW(m, 1000) : case_next(&m->random);
        int64_t ids[64];
        for (size_t b = 0; b < c->b; b++) ids[b] = (int64_t)BELOW(m, 1000);
        if (CHANCE(m, 0.5)) o->sequence_ids = case_array(ids, c->b, sizeof *ids);
    }
    o->precision = (attn_precision)BELOW(m, 3);
}

/* ---- what is not visible ---------------------------------------------------------------------------- */

static double junk(uint64_t *random) {
    static const double values[] = {NAN, INFINITY, -INFINITY, 3e4};
    return values[case_below(random, 4)];
}

static void junk_row(uint64_t *random, const struct attention_case *c, const attn_tensor *t, size_t b, size_t h,
                     size_t i) {
    ptrdiff_t at = c->packed ? (ptrdiff_t)h * t->stride[0] + (ptrdiff_t)i * t->stride[1]
                             : (ptrdiff_t)b * t->stride[0] + (ptrdiff_t)h * t->stride[1] + (ptrdiff_t)i * t->stride[2];
    bool all = case_chance(random, 0.5);
    size_t n = t->rank == (c->packed ? 2 : 3) ? 1 : t->shape[t->rank - 1]; /* LSE: no last dimension */
    for (size_t k = 0; k < n; k++)
        if (all || case_chance(random, 0.3)) ref_store(t, at + (ptrdiff_t)k, junk(random));
}

/* Sequence b, query head h: counts what each key, query and element of the bias is seen by. */
static void count_visible(const ref_attention *r, size_t b, size_t h, size_t queries, size_t keys, size_t *of_query,
                          size_t *of_key, size_t *of_bias) {
    const attn_tensor *bias = r->options->bias;
    for (size_t i = 0; i < queries; i++)
        for (size_t j = 0; j < keys; j++) {
            if (!ref_attention_visible(r, b, h, i, j)) continue;
            of_query[i]++, of_key[j]++;
            if (!bias) continue;
            const size_t index[4] = {b, h, i, j};
            size_t number = 0;
            for (int d = 0; d < 4; d++) number = number * bias->shape[d] + (bias->shape[d] != 1 ? index[d] : 0);
            of_bias[number]++;
        }
}

void case_plant_junk(struct attention_case *c) {
    ref_attention r = {.q = &c->q, .k = &c->k, .v = &c->v, .options = &c->options};
    const attn_tensor *bias = c->options.bias;
    uint64_t random = c->seed ^ 0x6a756e6b;
    size_t *of_bias = bias ? calloc(attn_tensor_count(bias) + 1, sizeof *of_bias) : NULL;
    for (size_t b = 0; b < c->b; b++) {
        size_t first_q = 0, first_k = 0, rows = c->t, key_rows = c->s, queries, keys;
        ref_attention_lengths(&r, b, &queries, &keys);
        if (c->packed)
            first_q = (size_t)c->options.cu_q[b], first_k = (size_t)c->options.cu_k[b], rows = queries, key_rows = keys;
        for (size_t kh = 0; kh < c->hk; kh++) {
            size_t *of_key = calloc(key_rows + 1, sizeof *of_key);
            for (size_t h = kh * (c->h / c->hk); h < (kh + 1) * (c->h / c->hk); h++) {
                size_t *of_query = calloc(rows + 1, sizeof *of_query);
                count_visible(&r, b, h, queries, keys, of_query, of_key, of_bias);
                for (size_t i = 0; i < rows; i++) {
                    if (of_query[i]) continue;
                    junk_row(&random, c, &c->q, b, h, first_q + i), junk_row(&random, c, &c->dout, b, h, first_q + i);
                    if (i >= queries || !c->options.sinks) junk_row(&random, c, &c->dlse, b, h, first_q + i);
                }
                free(of_query);
            }
            for (size_t j = 0; j < key_rows; j++)
                if (!of_key[j])
                    junk_row(&random, c, &c->k, b, kh, first_k + j), junk_row(&random, c, &c->v, b, kh, first_k + j);
            free(of_key);
        }
    }
    for (size_t i = 0; bias && i < attn_tensor_count(bias); i++)
        if (!of_bias[i] && ref_load(bias, ref_place(bias, i)) != -(double)INFINITY)
            ref_store(bias, ref_place(bias, i), case_chance(&random, 0.5) ? (double)NAN : (double)INFINITY);
    free(of_bias);
}

/* A key or value that some queries see and others do not. */
static void plant_visible(struct maker *m) {
    struct attention_case *c = m->c;
    for (int n = 0; n < 2; n++) {
        bool key = CHANCE(m, 0.5);
        const attn_tensor *t = key ? &c->k : &c->v;
        size_t count = attn_tensor_count(t);
        if (!count) return;
        ref_store(t, ref_place(t, BELOW(m, count)), key || CHANCE(m, 0.5) ? (double)NAN : (double)INFINITY);
    }
}

/* ---- all of it ------------------------------------------------------------------------------------------ */

void case_make(struct attention_case *c, uint64_t seed, const struct case_limits *limits) {
    struct maker m = {.c = c, .limits = limits, .random = seed * 0x9e3779b97f4a7c15u + 12345};
    *c = (struct attention_case){.seed = seed, .options = ATTN_ATTENTION_OPTIONS_INIT};
    bool simple = CHANCE(&m, 0.1); /* no options */
    m.layout = limits->strides && CHANCE(&m, 0.6) ? LAYOUT_RANDOM : LAYOUT_PLAIN;
    pick_sizes(&m);
    pick_lengths(&m);
    make_inputs(&m);
    if (!simple) {
        pick_causal(&m);
        pick_numbers(&m);
        if (CHANCE(&m, 0.15)) {
            c->options.segments_q = make_segments(&m, c->t);
            c->options.segments_k = make_segments(&m, c->s);
        }
        if (CHANCE(&m, 0.25)) make_mask(&m);
        if (limits->tree && CHANCE(&m, 0.1)) make_tree(&m);
        if (CHANCE(&m, 0.25)) make_bias(&m);
        make_heads(&m);
    }
    bool backward = limits->all_wanted || CHANCE(&m, 0.85);
    c->wanted[CASE_OUT] = true, c->wanted[CASE_LSE] = backward || CHANCE(&m, 0.5);
    for (int x = CASE_DQ; x < CASE_RESULT_COUNT; x++)
        c->wanted[x] = backward && (limits->all_wanted || CHANCE(&m, 0.85));
    if (!c->options.bias) c->wanted[CASE_DBIAS] = false;
    if (!c->options.sinks) c->wanted[CASE_DSINKS] = false;
    c->accumulate = !limits->all_wanted && CHANCE(&m, 0.3);
    c->workspace = CHANCE(&m, 0.3);
    c->threads = (int)(1 + BELOW(&m, 3));
    bool junk_there = limits->junk && !c->shared_inputs && CHANCE(&m, 0.5);
    if (limits->visible_nan && c->options.dropout == 0 && !c->shared_inputs && CHANCE(&m, 0.08)) plant_visible(&m);
    if (junk_there) case_plant_junk(c);
}

void case_results(struct attention_case *c, enum case_layout layout) {
    uint64_t random = c->seed ^ 0x7265736c;
    const attn_tensor *bias = c->options.bias;
    attn_tensor *x = c->result;
    x[CASE_OUT] = rows_tensor(&random, c, c->dtype[CASE_OUT], c->h, c->t, c->dv, layout);
    x[CASE_LSE] = rows_tensor(&random, c, c->dtype[CASE_LSE], c->h, c->t, 0, layout);
    x[CASE_DQ] = rows_tensor(&random, c, c->dtype[CASE_DQ], c->h, c->t, c->d, layout);
    x[CASE_DK] = rows_tensor(&random, c, c->dtype[CASE_DK], c->hk, c->s, c->d, layout);
    x[CASE_DV] = rows_tensor(&random, c, c->dtype[CASE_DV], c->hk, c->s, c->dv, layout);
    if (bias) x[CASE_DBIAS] = case_tensor(&random, c->dtype[CASE_DBIAS], 4, bias->shape, layout);
    x[CASE_DSINKS] = case_tensor(&random, c->dtype[CASE_DSINKS], 1, &c->h, layout);
    for (int i = CASE_DQ; c->accumulate && i < CASE_RESULT_COUNT; i++)
        if (c->wanted[i]) fill_normal(&random, &x[i], 1);
}
