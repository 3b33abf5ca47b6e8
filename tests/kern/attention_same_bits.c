/* What may not change a bit of the attention operator's results: threads, a host's pool, strides, the rest of a batch,
 * packing, prefill in chunks, and whatever is not visible. Random calls, on every CPU level.
 *
 * ATTN_TEST_ROUNDS: how many times as many calls as usual. ATTN_CASE_SEED: this call alone. */
#include "kern/attention_case.h"

#include <stdio.h>

static const struct case_limits limits_any = {.budget = 0x1p21,
                                              .packed = true,
                                              .lengths = true,
                                              .dropout = true,
                                              .sixteen_bits = true,
                                              .strides = true,
                                              .tree = true,
                                              .offset = true,
                                              .broadcast_bias = true,
                                              .junk = true,
                                              .all_wanted = true};

static void run(attn_context *ctx, struct attention_case *c, enum case_layout layout) {
    case_results(c, layout);
    attn_status status = case_run(ctx, c);
    if (status != ATTN_OK) fail_msg("%s: %s\n%s", attn_cpu_level(ctx), attn_error(ctx), case_text(c));
}

static void expect_same(const char *level, const char *what, const struct attention_case *c, const char *name,
                        const attn_tensor *a, const attn_tensor *b) {
    const char *wrong = case_same_bits(name, a, b);
    if (wrong) fail_msg("%s, %s: %s\n%s", level, what, wrong, case_text(c));
}

static void expect_all_same(const char *level, const char *what, const struct attention_case *c,
                            const struct attention_case *other) {
    for (int x = 0; x < CASE_RESULT_COUNT; x++)
        if (c->wanted[x]) expect_same(level, what, c, case_result_names[x], &c->result[x], &other->result[x]);
}

/* Runs the comparison for random calls on every level. */
typedef void comparison(const char *level, struct attention_case *c);
static void compare_calls(comparison *compare, const struct case_limits *limits, uint64_t calls) {
    const char *one = getenv("ATTN_CASE_SEED"), *rounds = getenv("ATTN_TEST_ROUNDS");
    uint64_t first = one && *one ? strtoull(one, NULL, 10) : 1;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    calls = calls / 6 + 1;
#endif
    if (one && *one) calls = 1;
    else if (rounds && *rounds) calls *= strtoull(rounds, NULL, 10);
    for (uint64_t seed = first; seed < first + calls; seed++) FOR_LEVELS(level) {
            struct attention_case c;
            case_make(&c, seed, limits);
            compare(*level, &c);
            case_release();
        }
}

/* ---- threads ------------------------------------------------------------------------------------------ */

static void host_forward(void *user, size_t n, attn_task *fn, void *arg) {
    ++*(int *)user;
    for (size_t i = 0; i < n; i++) fn(arg, i);
}
static void host_backward(void *user, size_t n, attn_task *fn, void *arg) {
    ++*(int *)user;
    for (size_t i = n; i-- > 0;) fn(arg, i);
}

static int host_jobs;
static attn_context *host_context(const char *level, attn_parallel_for_fn *host) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.cpu_level = level, options.threads = 3;
    options.parallel_for = host, options.parallel_user = &host_jobs;
    attn_context *ctx;
    assert_int_equal(attn_context_create(&ctx, &options), ATTN_OK);
    return ctx;
}

static void compare_threads(const char *level, struct attention_case *c) {
    static const int counts[] = {2, 3, 8};
    static attn_parallel_for_fn *const hosts[] = {host_forward, host_backward};
    run(case_context(level, 1), c, LAYOUT_PLAIN);
    for (size_t i = 0; i < 3; i++) {
        struct attention_case other = *c;
        run(case_context(level, counts[i]), &other, LAYOUT_PLAIN);
        expect_all_same(level, "threads", c, &other);
    }
    for (size_t i = 0; i < 2; i++) {
        struct attention_case other = *c;
        attn_context *ctx = host_context(level, hosts[i]);
        run(ctx, &other, LAYOUT_PLAIN);
        attn_context_free(ctx);
        expect_all_same(level, i ? "a host's pool, backwards" : "a host's pool", c, &other);
    }
}

static void threads(void **state) {
    (void)state;
    struct case_limits limits = limits_any;
    limits.budget = 0x1p24;
    host_jobs = 0;
    compare_calls(compare_threads, &limits, 25);
    if (!getenv("ATTN_CASE_SEED")) assert_true(host_jobs > 6); /* the work was worth dividing */
}

/* A dQ that underflows to −0 is added to −0 that was there, where threads make the tasks' first keys invisible ones or
 * not: one query, which sees keys 64 and 65 of 1024, with values 1 and −1. */
static void zeros(void **state) {
    (void)state;
    enum { S = 1024, D = 16 };
    static float q[D], k[S][D], v[S][D], dout[D], out[D], lse[1], dq[2][D];
    static uint8_t mask[S];
    memset(k, 0, sizeof k), memset(v, 0, sizeof v);
    mask[64] = mask[65] = 1;
    for (size_t i = 0; i < D; i++) k[64][i] = -1e-20f, v[64][i] = 1.0f, v[65][i] = -1.0f, dout[i] = 1e-30f;
#define ROWS(x, n) attn_tensor_of(x, ATTN_F32, 4, (size_t[]){1, 1, n, D})
    const attn_tensor tq = ROWS(q, 1), tk = ROWS(k, S), tv = ROWS(v, S), tdout = ROWS(dout, 1), tout = ROWS(out, 1),
                      tlse = attn_tensor_of(lse, ATTN_F32, 3, (size_t[]){1, 1, 1}),
                      tmask = attn_tensor_of(mask, ATTN_U8, 4, (size_t[]){1, 1, 1, S});
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.mask = &tmask;
    FOR_LEVELS(level) {
        for (int i = 0; i < 2; i++) {
            attn_context *ctx = case_context(*level, i ? 8 : 1);
            const attn_tensor tdq = ROWS(dq[i], 1);
            attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
            grads.dq = &tdq, grads.accumulate = true;
            for (size_t j = 0; j < D; j++) dq[i][j] = -0.0f;
            assert_ok(ctx, attn_attention_fwd(ctx, &tout, &tlse, &tq, &tk, &tv, &options));
            assert_ok(ctx, attn_attention_bwd(ctx, &grads, &tdout, NULL, &tq, &tk, &tv, &tout, &tlse, &options));
        }
        if (memcmp(dq[0], dq[1], sizeof dq[0]) != 0)
            fail_msg("%s: %g with 1 thread, %g with 8", *level, dq[0][0], dq[1][0]);
    }
#undef ROWS
}

/* ---- strides ------------------------------------------------------------------------------------------ */

static const attn_tensor *copy_kept(const attn_tensor *t, uint64_t *random) {
    return t ? case_keep(case_copy(t, random, LAYOUT_RANDOM)) : NULL;
}

static void compare_strides(const char *level, struct attention_case *c) {
    uint64_t random = c->seed;
    run(case_context(level, 1), c, LAYOUT_PLAIN);
    for (int i = 0; i < 3; i++) {
        struct attention_case other = *c;
        attn_tensor *inputs[] = {&other.q, &other.k, &other.v, &other.dout, &other.dlse};
        for (size_t k = 0; k < 5; k++) *inputs[k] = case_copy(inputs[k], &random, LAYOUT_RANDOM);
        attn_attention_options *o = &other.options;
        o->mask = copy_kept(o->mask, &random), o->bias = copy_kept(o->bias, &random);
        o->tree = copy_kept(o->tree, &random);
        o->segments_q = copy_kept(o->segments_q, &random), o->segments_k = copy_kept(o->segments_k, &random);
        run(case_context(level, 1), &other, LAYOUT_RANDOM);
        expect_all_same(level, "strides", c, &other);
    }
}

static void strides(void **state) {
    (void)state;
    struct case_limits limits = limits_any;
    limits.strides = false;
    compare_calls(compare_strides, &limits, 80);
}

/* ---- parts of a call ----------------------------------------------------------------------------------- */

/* Queries first … end−1 of a tensor with the rows of mask or bias; columns: SIZE_MAX for all. */
static const attn_tensor *broadcast_part(const attn_tensor *t, size_t b, size_t batch, size_t first, size_t rows,
                                         size_t columns) {
    attn_tensor part = *t;
    if (t->shape[0] != 1) part = case_part(&part, 0, b, batch);
    if (t->shape[2] != 1) part = case_part(&part, 2, first, rows);
    if (t->shape[3] != 1 && columns != SIZE_MAX) part = case_part(&part, 3, 0, columns);
    return case_keep(part);
}

static bool mask_has_bits(const attn_attention_options *o) {
    return o->mask_format == ATTN_MASK_KEEP_BITS || o->mask_format == ATTN_MASK_DROP_BITS;
}

static attn_tensor rows_part(const attn_tensor *t, size_t b, size_t rows) {
    attn_tensor part = case_part(t, 0, b, 1);
    return case_part(&part, 2, 0, rows);
}

static void lengths_of(const struct attention_case *c, size_t b, size_t *t, size_t *s) {
    ref_attention r = {.q = &c->q, .k = &c->k, .v = &c->v, .options = &c->options};
    ref_attention_lengths(&r, b, t, s);
}

/* ---- a sequence alone ------------------------------------------------------------------------------- */

/* Sequence b without padding, in the memory of the batch. */
static struct attention_case sequence_alone(const struct attention_case *c, size_t b) {
    struct attention_case one = *c;
    attn_attention_options *o = &one.options;
    size_t t, s;
    lengths_of(c, b, &t, &s);
    one.b = 1, one.t = one.longest_t = t, one.s = one.longest_s = s;
    one.q = rows_part(&c->q, b, t), one.k = rows_part(&c->k, b, s), one.v = rows_part(&c->v, b, s);
    one.dout = rows_part(&c->dout, b, t), one.dlse = rows_part(&c->dlse, b, t);
    o->q_lengths = o->kv_lengths = NULL;
    if (o->query_offset) o->query_offset += b;
    if (o->prefix) o->prefix += b;
    int64_t id = o->sequence_ids ? o->sequence_ids[b] : (int64_t)b;
    o->sequence_ids = case_array(&id, 1, sizeof id);
    if (o->segments_q) {
        attn_tensor sq = case_part(o->segments_q, 0, b, 1), sk = case_part(o->segments_k, 0, b, 1);
        o->segments_q = case_keep(case_part(&sq, 1, 0, t)), o->segments_k = case_keep(case_part(&sk, 1, 0, s));
    }
    if (o->mask) o->mask = broadcast_part(o->mask, b, 1, 0, t, mask_has_bits(o) ? (s + 7) / 8 : s);
    if (o->bias) o->bias = broadcast_part(o->bias, b, 1, 0, t, s);
    if (o->tree) {
        attn_tensor tree = *o->tree;
        if (tree.shape[0] != 1) tree = case_part(&tree, 0, b, 1);
        tree = case_part(&tree, 1, 0, t);
        o->tree = case_keep(case_part(&tree, 2, 0, (t + 7) / 8));
    }
    one.wanted[CASE_DSINKS] = false;
    one.wanted[CASE_DBIAS] = c->wanted[CASE_DBIAS] && c->options.bias->shape[0] != 1;
    return one;
}

static bool all_zero(const attn_tensor *t) {
    size_t n = attn_tensor_count(t);
    for (size_t i = 0; i < n; i++)
        if (ref_load(t, ref_place(t, i)) != 0) return false;
    return true;
}

static void expect_zero_padding(const char *level, const struct attention_case *c, size_t b, size_t t, size_t s) {
    for (int x = CASE_OUT; x <= CASE_DV; x++) {
        if (x == CASE_LSE) continue;
        attn_tensor part = case_part(&c->result[x], 0, b, 1);
        bool queries = x == CASE_OUT || x == CASE_DQ;
        part = case_part(&part, 2, queries ? t : s, queries ? c->t - t : c->s - s);
        if (!all_zero(&part))
            fail_msg("%s: %s of sequence %zu is not zero past its length\n%s", level, case_result_names[x], b,
                     case_text(c));
    }
    attn_tensor lse = case_part(&c->result[CASE_LSE], 0, b, 1);
    for (size_t h = 0; h < c->h; h++)
        for (size_t i = t; i < c->t; i++)
            assert_true(ref_load(&lse, (ptrdiff_t)h * lse.stride[1] + (ptrdiff_t)i * lse.stride[2]) ==
                        -(double)INFINITY);
}

static void compare_alone(const char *level, struct attention_case *c) {
    run(case_context(level, 2), c, LAYOUT_PLAIN);
    for (size_t b = 0; b < c->b; b++) {
        struct attention_case one = sequence_alone(c, b);
        run(case_context(level, 1), &one, LAYOUT_RANDOM);
        for (int x = CASE_OUT; x <= CASE_DV; x++) {
            bool queries = x == CASE_OUT || x == CASE_LSE || x == CASE_DQ;
            attn_tensor part = rows_part(&c->result[x], b, queries ? one.t : one.s);
            expect_same(level, "alone", c, case_result_names[x], &part, &one.result[x]);
        }
        if (one.wanted[CASE_DBIAS]) {
            const attn_tensor *part = broadcast_part(&c->result[CASE_DBIAS], b, 1, 0, one.t, one.s);
            expect_same(level, "alone", c, "dbias", part, &one.result[CASE_DBIAS]);
        }
        expect_zero_padding(level, c, b, one.t, one.s);
    }
}

static void batches(void **state) {
    (void)state;
    struct case_limits limits = limits_any;
    limits.packed = false, limits.min_sequences = 9;
    compare_calls(compare_alone, &limits, 60);
}

/* ---- packed against padded ---------------------------------------------------------------------------- */

/* (B, H, T, …) to (H, ΣT, …): the first length[b] rows of every sequence. */
static attn_tensor pack(const attn_tensor *t, const int32_t *offsets, size_t sequences, uint64_t *random) {
    size_t shape[3] = {t->shape[1], (size_t)offsets[sequences], t->rank == 4 ? t->shape[3] : 0};
    attn_tensor packed = case_tensor(random, t->dtype, t->rank - 1, shape, LAYOUT_RANDOM);
    size_t size = attn_dtype_size(t->dtype), bytes = (t->rank == 4 ? shape[2] : 1) * size;
    for (size_t b = 0; b < sequences; b++)
        for (size_t h = 0; h < shape[0]; h++)
            for (int32_t i = offsets[b]; i < offsets[b + 1]; i++) {
                ptrdiff_t from = (ptrdiff_t)b * t->stride[0] + (ptrdiff_t)h * t->stride[1] +
                                 (ptrdiff_t)(i - offsets[b]) * t->stride[2];
                ptrdiff_t to = (ptrdiff_t)h * packed.stride[0] + (ptrdiff_t)i * packed.stride[1];
                memcpy((char *)packed.data + to * (ptrdiff_t)size, (const char *)t->data + from * (ptrdiff_t)size,
                       bytes);
            }
    return packed;
}

static const attn_tensor *pack_ids(const attn_tensor *t, const int32_t *offsets, size_t sequences) {
    const size_t n = (size_t)offsets[sequences];
    attn_tensor packed = attn_tensor_of(case_array(NULL, n, 4), ATTN_I32, 1, &n);
    for (size_t b = 0; b < sequences; b++)
        for (int32_t i = offsets[b]; i < offsets[b + 1]; i++)
            ref_store(&packed, i,
                      ref_load(t, (ptrdiff_t)b * t->stride[0] + (ptrdiff_t)(i - offsets[b]) * t->stride[1]));
    return case_keep(packed);
}

static struct attention_case packed_case(const struct attention_case *c) {
    struct attention_case p = *c;
    attn_attention_options *o = &p.options;
    uint64_t random = c->seed;
    int32_t cu_q[65] = {0}, cu_k[65] = {0};
    p.longest_t = p.longest_s = 0;
    for (size_t b = 0; b < c->b; b++) {
        size_t t, s;
        lengths_of(c, b, &t, &s);
        cu_q[b + 1] = cu_q[b] + (int32_t)t, cu_k[b + 1] = cu_k[b] + (int32_t)s;
        if (t > p.longest_t) p.longest_t = t;
        if (s > p.longest_s) p.longest_s = s;
    }
    o->cu_q = case_array(cu_q, c->b + 1, sizeof *cu_q), o->cu_k = case_array(cu_k, c->b + 1, sizeof *cu_k);
    o->sequences = c->b, o->q_lengths = o->kv_lengths = NULL;
    p.packed = true, p.t = (size_t)cu_q[c->b], p.s = (size_t)cu_k[c->b];
    p.q = pack(&c->q, cu_q, c->b, &random), p.k = pack(&c->k, cu_k, c->b, &random);
    p.v = pack(&c->v, cu_k, c->b, &random), p.dout = pack(&c->dout, cu_q, c->b, &random);
    p.dlse = pack(&c->dlse, cu_q, c->b, &random);
    if (o->segments_q) {
        o->segments_q = pack_ids(o->segments_q, cu_q, c->b);
        o->segments_k = pack_ids(o->segments_k, cu_k, c->b);
    }
    if (o->tree) {
        attn_tensor tree = case_part(o->tree, 1, 0, p.longest_t);
        o->tree = case_keep(case_part(&tree, 2, 0, (p.longest_t + 7) / 8));
    }
    return p;
}

static void compare_packed(const char *level, struct attention_case *c) {
    struct attention_case p = packed_case(c);
    uint64_t random = c->seed;
    run(case_context(level, 1), c, LAYOUT_PLAIN);
    run(case_context(level, 2), &p, LAYOUT_RANDOM);
    for (int x = 0; x < CASE_RESULT_COUNT; x++) {
        if (!c->wanted[x]) continue;
        if (x >= CASE_DBIAS) {
            expect_same(level, "packed", c, case_result_names[x], &c->result[x], &p.result[x]);
            continue;
        }
        bool queries = x == CASE_OUT || x == CASE_LSE || x == CASE_DQ;
        attn_tensor part = pack(&c->result[x], queries ? p.options.cu_q : p.options.cu_k, c->b, &random);
        expect_same(level, "packed", c, case_result_names[x], &part, &p.result[x]);
    }
}

static void packing(void **state) {
    (void)state;
    struct case_limits limits = limits_any;
    limits.packed = false;
    compare_calls(compare_packed, &limits, 80);
}

/* ---- prefill in chunks ---------------------------------------------------------------------------------- */

/* Queries first … first+rows−1 of all sequences, in the memory of the whole; keys: all, or with `grow` only those that
 * come up to the chunk's last query. */
static struct attention_case chunk_of(const struct attention_case *c, size_t first, size_t rows, bool grow) {
    struct attention_case x = *c;
    attn_attention_options *o = &x.options;
    int32_t q_lengths[64], kv_lengths[64];
    int64_t offsets[64];
    for (size_t b = 0; b < c->b; b++) {
        size_t t, s;
        lengths_of(c, b, &t, &s);
        int64_t base = o->causal == ATTN_CAUSAL_TOP_LEFT       ? 0
                       : o->causal == ATTN_CAUSAL_BOTTOM_RIGHT ? (int64_t)s - (int64_t)t
                       : o->query_offset                       ? o->query_offset[b]
                                                               : 0;
        q_lengths[b] = (int32_t)(t <= first ? 0 : t - first < rows ? t - first : rows);
        offsets[b] = base + (int64_t)first;
        int64_t last = offsets[b] + (int64_t)rows, keys = (int64_t)s;
        if (o->prefix && o->prefix[b] > last) last = o->prefix[b];
        if (grow && last < keys) keys = last < 0 ? 0 : last;
        kv_lengths[b] = (int32_t)keys;
    }
    o->q_lengths = case_array(q_lengths, c->b, sizeof *q_lengths);
    if (o->kv_lengths || grow) o->kv_lengths = case_array(kv_lengths, c->b, sizeof *kv_lengths);
    if (o->causal != ATTN_CAUSAL_NONE || o->query_offset || o->alibi || o->window_left >= 0 || o->window_right >= 0)
        o->query_offset = case_array(offsets, c->b, sizeof *offsets);
    if (o->causal != ATTN_CAUSAL_NONE) o->causal = ATTN_CAUSAL_OFFSET;
    x.t = x.longest_t = rows;
    x.q = case_part(&c->q, 2, first, rows), x.dout = case_part(&c->dout, 2, first, rows);
    x.dlse = case_part(&c->dlse, 2, first, rows);
    if (o->segments_q) o->segments_q = case_keep(case_part(o->segments_q, 1, first, rows));
    if (o->mask) o->mask = broadcast_part(o->mask, 0, c->b, first, rows, SIZE_MAX);
    if (o->bias) o->bias = broadcast_part(o->bias, 0, c->b, first, rows, SIZE_MAX);
    return x;
}

static void compare_chunks(const char *level, struct attention_case *c) {
    uint64_t random = c->seed;
    bool grow = c->options.causal != ATTN_CAUSAL_NONE && case_chance(&random, 0.5);
    size_t most = case_chance(&random, 0.4) ? 1 + c->t / 20 : 1 + c->t / 2;
    c->wanted[CASE_DK] = c->wanted[CASE_DV] = c->wanted[CASE_DBIAS] = c->wanted[CASE_DSINKS] = false;
    run(case_context(level, 1), c, LAYOUT_PLAIN);
    for (size_t first = 0, rows; first < c->t; first += rows) {
        rows = 1 + case_below(&random, most);
        if (rows > c->t - first) rows = c->t - first;
        struct attention_case x = chunk_of(c, first, rows, grow);
        run(case_context(level, 1), &x, LAYOUT_PLAIN);
        for (int r = CASE_OUT; r <= CASE_DQ; r++) {
            attn_tensor part = case_part(&c->result[r], 2, first, rows);
            expect_same(level, grow ? "chunks, keys grow" : "chunks", c, case_result_names[r], &part, &x.result[r]);
        }
    }
}

static void chunks(void **state) {
    (void)state;
    struct case_limits limits = limits_any;
    limits.packed = limits.dropout = limits.tree = false;
    compare_calls(compare_chunks, &limits, 80);
}

/* ---- what is not visible -------------------------------------------------------------------------------- */

static void compare_masked(const char *level, struct attention_case *c) {
    if (c->shared_inputs) return;
    struct attention_case dirty = *c;
    run(case_context(level, 2), c, LAYOUT_PLAIN);
    case_plant_junk(c);
    run(case_context(level, 2), &dirty, LAYOUT_PLAIN);
    expect_all_same(level, "masked", c, &dirty);
    for (int x = 0; x < CASE_RESULT_COUNT; x++) {
        size_t n = c->wanted[x] && x != CASE_LSE ? attn_tensor_count(&c->result[x]) : 0;
        for (size_t i = 0; i < n; i++) assert_true(isfinite(ref_load(&c->result[x], ref_place(&c->result[x], i))));
    }
}

static void masked(void **state) {
    (void)state;
    struct case_limits limits = limits_any;
    limits.junk = false;
    compare_calls(compare_masked, &limits, 150);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads), cmocka_unit_test(zeros),   cmocka_unit_test(strides),
                                       cmocka_unit_test(batches), cmocka_unit_test(packing), cmocka_unit_test(chunks),
                                       cmocka_unit_test(masked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
