/* Weights of attention against the double reference: random calls with every option, on every CPU level. A reference
 * whose values are the unit matrix puts out the weights themselves. What is taken from weights (the largest, sums,
 * entropies, maxima) is compared with all weights of the same call. ATTN_CASES=n tries n calls. */
#include "kern/attention_case.h"
#include "ref/attention_row.h"

#include <stdio.h>
#include <time.h>

static void *array(size_t count, size_t size) { return guard_bytes(count * size); }

/* Contexts live until the end: index level · 4 + threads. */
static attn_context *contexts[16];
static attn_context *context_of(const char *level, int threads) {
    size_t number = 0;
    while (strcmp(attn_cpu_levels()[number], level) != 0) number++;
    attn_context **ctx = &contexts[number * 4 + (size_t)threads];
    if (!*ctx) *ctx = guard_context(level, threads);
    return *ctx;
}

/* ---- all weights -------------------------------------------------------------------------------------------- */

/* Shape (sequences, heads, rows, keys) of what a look gives. */
struct shape {
    size_t b, h, t, s;
};
static struct shape shape_of(const struct attention_case *c) {
    return (struct shape){c->b, c->h, c->packed ? c->longest_t : c->t, c->packed ? c->longest_s : c->s};
}

static attn_tensor floats(size_t b, size_t h, size_t t, size_t s) {
    return attn_tensor_f32(array(b * h * t * s, sizeof(float)), 4, b, h, t, s);
}

/* The call without dropout, with unit values. */
static ref_attention unit_reference(const struct attention_case *c, attn_attention_options *options, attn_tensor *v) {
    const size_t s = c->s, shape[4] = {c->b, c->hk, s, s};
    *options = c->options;
    options->dropout = 0;
    double *unit = calloc(s * s + 1, sizeof *unit);
    for (size_t j = 0; j < s; j++) unit[j * s + j] = 1;
    *v = attn_tensor_of(unit, ATTN_F64, c->packed ? 3 : 4, shape + c->packed);
    for (int d = 0; d < v->rank - 2; d++) v->stride[d] = 0;
    ref_attention r = {.q = &c->q, .k = &c->k, .v = v, .options = options};
    ref_attention_run(&r);
    return r;
}

/* NULL, or what is wrong with weights (B, H, T, S). */
static const char *compare_weights(const struct attention_case *c, const ref_attention *r, const float *p,
                                   double *worst) {
    static char text[300];
    const struct call call = ref_call(r);
    const struct shape n = shape_of(c);
    for (size_t b = 0; b < n.b; b++) {
        const struct sequence x = ref_sequence(&call, b);
        for (size_t h = 0; h < n.h; h++)
            for (size_t i = 0; i < n.t; i++, p += n.s) {
                const bool there = i < x.queries;
                const size_t row = there ? ref_row_number(&call, &x, n.h, h, call.t, x.first_q + i) : 0;
                const double lse = there ? r->lse.value[row] : -(double)INFINITY;
                double sum = 0, sum_bound = 0;
                for (size_t j = 0; j < n.s; j++) {
                    const bool seen = there && ref_visible(&call, &x, h, i, j);
                    double expected = 0, bound = 0;
                    if (seen) {
                        const size_t at = row * c->s + x.first_k + j;
                        expected = r->out.value[at];
                        bound = r->out.bound[at] + expected * REF_U * (24 + 6 * fabs(lse) - 2 * log(expected + 1e-300));
                        if (isnan(lse)) expected = (double)NAN;
                    }
                    const double error = fabs((double)p[j] - expected);
                    sum += (double)p[j], sum_bound += bound;
                    if (isnan(expected) ? isnan(p[j]) : error <= bound || (expected < 0x1p-120 && error < 0x1p-120)) {
                        if (bound > 0 && error / bound > *worst && expected > 0x1p-100) *worst = error / bound;
                        continue;
                    }
                    snprintf(text, sizeof text, "weights[%zu, %zu, %zu, %zu] is %.9g, expected %.9g ± %.3g%s", b, h, i,
                             j, (double)p[j], expected, bound, seen ? "" : " (not visible)");
                    return text;
                }
                const bool sinks = c->options.sinks != NULL, empty = lse == -(double)INFINITY || !(sum > 0);
                if (!isnan(lse) && !(sum <= 1 + sum_bound && (sinks || empty || sum >= 1 - sum_bound))) {
                    snprintf(text, sizeof text, "row [%zu, %zu, %zu] sums to %.9g%s", b, h, i, sum,
                             sinks ? ", with a sink" : "");
                    return text;
                }
            }
    }
    return NULL;
}

/* ---- what is taken from them ------------------------------------------------------------------------------- */

struct choice {
    int32_t heads[64];
    int64_t rows[2048];
    attn_attention_look look;
    attn_tensor weights, values, keys, argmax, entropy, sum, max;
};

static attn_tensor ints(int rank, size_t b, size_t h, size_t t, size_t n) {
    const size_t shape[4] = {b, h, t, n};
    return attn_tensor_of(array(b * h * t * (rank == 4 ? n : 1), sizeof(int32_t)), ATTN_I32, rank, shape);
}

static void choose(struct choice *w, const struct attention_case *c, uint64_t *random) {
    const struct shape n = shape_of(c);
    attn_attention_look *look = &w->look;
    *look = (attn_attention_look)ATTN_ATTENTION_LOOK_INIT;
    size_t heads = n.h, rows = n.t;
    if (case_chance(random, 0.5)) {
        heads = 0;
        for (size_t h = 0; h < n.h; h++)
            if (case_chance(random, 0.5)) w->heads[heads++] = (int32_t)h;
        look->heads = w->heads, look->head_count = heads;
    }
    if (case_chance(random, 0.6)) {
        const bool negative = case_chance(random, 0.5);
        const double density = case_chance(random, 0.5) ? 0.1 : 0.7;
        rows = 0;
        for (size_t i = 0; i < n.t; i++)
            if (case_chance(random, density)) w->rows[rows++] = (int64_t)i - (negative ? (int64_t)n.t : 0);
        look->rows = w->rows, look->row_count = rows;
    }
    const size_t top = case_below(random, 14) * (case_chance(random, 0.1) ? 20 : 1);
    look->block_rows = 1 + case_below(random, case_chance(random, 0.5) ? 8 : 200);
    look->block_keys = 1 + case_below(random, case_chance(random, 0.5) ? 80 : 2000);
    const size_t cells_t = (rows + look->block_rows - 1) / look->block_rows,
                 cells_s = (n.s + look->block_keys - 1) / look->block_keys;
    w->weights = floats(n.b, heads, rows, n.s);
    w->values = floats(n.b, heads, rows, top), w->keys = ints(4, n.b, heads, rows, top);
    w->argmax = ints(3, n.b, heads, rows, 0);
    w->entropy = attn_tensor_f32(array(n.b * heads * rows, 4), 3, n.b, heads, rows);
    w->sum = attn_tensor_f32(array(n.b * heads * n.s, 4), 3, n.b, heads, n.s);
    w->max = floats(n.b, heads, cells_t, cells_s);
    const struct {
        const attn_tensor **where, *t;
    } outputs[] = {{&look->weights, &w->weights},
                   {&look->argmax, &w->argmax},
                   {&look->entropy, &w->entropy},
                   {&look->column_sum, &w->sum},
                   {&look->block_max, &w->max}};
    for (size_t i = 0; i < sizeof outputs / sizeof outputs[0]; i++)
        if (case_chance(random, 0.7)) *outputs[i].where = outputs[i].t;
    if (case_chance(random, 0.7)) look->top_values = &w->values, look->top_keys = &w->keys;
}

/* Weights of asked row r: those of all rows, or NULL where the sequence does not have it. */
static const float *row_of(const struct attention_case *c, const ref_attention *r, const struct choice *w,
                           const float *all, size_t b, size_t head, size_t row) {
    const struct shape n = shape_of(c);
    size_t queries, keys, h = w->look.heads ? (size_t)w->look.heads[head] : head;
    ref_attention_lengths(r, b, &queries, &keys);
    int64_t i = w->look.rows ? w->look.rows[row] : (int64_t)row;
    if (i < 0) i += (int64_t)queries;
    if (i < 0 || i >= (int64_t)queries) return NULL;
    return all + ((b * n.h + h) * n.t + (size_t)i) * n.s;
}

static const char *compare_row(const struct choice *w, const float *p, size_t s, size_t number) {
    static char text[300];
    static float zeros[4096];
    const attn_attention_look *look = &w->look;
    if (!p) p = zeros;
    const bool nan = s > 0 && isnan(p[0] * 0 + p[s - 1] * 0);
    if (look->weights && memcmp((float *)w->weights.data + number * s, p, s * sizeof *p) != 0)
        return "weights of chosen rows are not those of all rows";
    size_t best = s;
    double entropy = 0, bound = 0;
    for (size_t j = 0; j < s; j++) {
        if (p[j] > 0 && (best == s || p[j] > p[best])) best = j;
        if (p[j] == 0) continue;
        const double ln = log((double)p[j]);
        entropy -= (double)p[j] * ln;
        bound += (double)p[j] * REF_U * ((80 + (double)s / 64) * fabs(ln) + 4) + 0x1p-115;
    }
    const float found = look->entropy ? ((float *)w->entropy.data)[number] : 0;
    if (look->entropy && !(isnan(entropy) ? isnan(found) : fabs((double)found - entropy) <= bound)) {
        snprintf(text, sizeof text, "entropy[%zu] is %.9g, expected %.9g ± %.3g%s", number, (double)found, entropy,
                 bound, nan ? " (NaN)" : "");
        return text;
    }
    const int32_t argmax = look->argmax ? ((int32_t *)w->argmax.data)[number] : 0;
    if (look->argmax && argmax != (best == s ? -1 : (int32_t)best)) {
        snprintf(text, sizeof text, "argmax[%zu] is %d, expected %zu of %zu", number, argmax, best, s);
        return text;
    }
    if (!look->top_values) return NULL;
    const size_t n = w->values.shape[3];
    const float *values = (float *)w->values.data + number * n;
    const int32_t *keys = (int32_t *)w->keys.data + number * n;
    for (size_t i = 0; i < n; i++) { /* by selection: what comes right behind the one before */
        best = s;
        for (size_t j = 0; j < s; j++) {
            const bool behind = i == 0 || p[j] < values[i - 1] || (p[j] == values[i - 1] && (int32_t)j > keys[i - 1]);
            if (p[j] > 0 && behind && (best == s || p[j] > p[best])) best = j;
        }
        if (keys[i] == (best == s ? -1 : (int32_t)best) && values[i] == (best == s ? 0 : p[best])) continue;
        snprintf(text, sizeof text, "top[%zu, %zu] is key %d with %.9g, expected %zu of %zu", number, i, keys[i],
                 (double)values[i], best, s);
        return text;
    }
    return NULL;
}

/* Column sums and maxima of one head of one sequence. */
static const char *compare_columns(const struct attention_case *c, const ref_attention *r, const struct choice *w,
                                   const float *all, size_t b, size_t head, size_t heads, size_t rows) {
    static char text[300];
    const size_t s = shape_of(c).s, columns = w->max.shape[3];
    for (size_t j = 0; j < s; j++) {
        double sum = 0;
        for (size_t row = 0; row < rows; row++) {
            const float *p = row_of(c, r, w, all, b, head, row);
            sum += p ? (double)p[j] : 0;
        }
        const float found = w->look.column_sum ? ((float *)w->sum.data)[(b * heads + head) * s + j] : 0;
        if (!w->look.column_sum ||
            (isnan(sum) ? isnan(found) : fabs((double)found - sum) <= 20 * REF_U * sum + 0x1p-115))
            continue;
        snprintf(text, sizeof text, "column_sum[%zu, %zu, %zu] is %.9g, expected %.9g", b, head, j, (double)found, sum);
        return text;
    }
    for (size_t cell = 0; w->look.block_max && cell < w->max.shape[2] * columns; cell++) {
        const size_t top = cell / columns * w->look.block_rows, left = cell % columns * w->look.block_keys;
        float max = 0, found = ((float *)w->max.data)[(b * heads + head) * w->max.shape[2] * columns + cell];
        for (size_t row = top; row < rows && row < top + w->look.block_rows; row++) {
            const float *p = row_of(c, r, w, all, b, head, row);
            for (size_t j = left; p && j < s && j < left + w->look.block_keys; j++)
                if (!(p[j] <= max)) max = isnan(max) ? max : p[j];
        }
        if (found == max || (isnan(found) && isnan(max))) continue;
        snprintf(text, sizeof text, "block_max[%zu, %zu, %zu] is %.9g, expected %.9g", b, head, cell, (double)found,
                 (double)max);
        return text;
    }
    return NULL;
}

static const char *compare_look(const struct attention_case *c, const ref_attention *r, const struct choice *w,
                                const float *all) {
    const struct shape n = shape_of(c);
    const size_t heads = w->look.heads ? w->look.head_count : n.h, rows = w->look.rows ? w->look.row_count : n.t;
    const char *wrong = NULL;
    for (size_t b = 0; b < n.b && !wrong; b++)
        for (size_t head = 0; head < heads && !wrong; head++) {
            for (size_t row = 0; row < rows && !wrong; row++)
                wrong = compare_row(w, row_of(c, r, w, all, b, head, row), n.s, (b * heads + head) * rows + row);
            if (!wrong) wrong = compare_columns(c, r, w, all, b, head, heads, rows);
        }
    return wrong;
}

/* ---- scores --------------------------------------------------------------------------------------------------- */

static const char *compare_scores(const struct attention_case *c, const ref_attention *r, const float *found,
                                  attn_score_stage stage) {
    static char text[300];
    const struct call call = ref_call(r);
    const struct shape n = shape_of(c);
    for (size_t b = 0; b < n.b; b++) {
        const struct sequence x = ref_sequence(&call, b);
        const size_t queries = c->packed ? x.queries : n.t, keys = c->packed ? x.keys : n.s;
        for (size_t h = 0; h < n.h; h++)
            for (size_t i = 0; i < n.t; i++)
                for (size_t j = 0; j < n.s; j++, found++) {
                    const bool there = i < queries && j < keys, seen = there && ref_visible(&call, &x, h, i, j);
                    double z = stage == ATTN_SCORES_BIASED ? -(double)INFINITY : 0, bound = 0;
                    if (stage == ATTN_SCORES_BIASED ? seen : there) {
                        double size = 0;
                        z = 0;
                        const ptrdiff_t q = ref_row_place(&call, r->q, b, h, x.first_q + i),
                                        k = ref_row_place(&call, r->k, b, h / call.group, x.first_k + j);
                        for (size_t d = 0; d < call.d; d++) {
                            const double product = ref_load(r->q, q + (ptrdiff_t)d) * ref_load(r->k, k + (ptrdiff_t)d);
                            z += product, size += fabs(product);
                        }
                        /* The worst that chains of 64 can do, as this is no mean of many scores. */
                        z *= call.scale, bound = 64 < call.d ? 64 + (double)call.d / 64 : (double)call.d;
                        bound = (bound + 3) * REF_U * fabs(call.scale) * size;
                        const double cap = (double)call.o.softcap;
                        if (stage >= ATTN_SCORES_CAPPED && cap > 0)
                            z = cap * tanh(z / cap), bound += 8 * REF_U * fabs(z);
                        if (stage == ATTN_SCORES_BIASED && call.o.bias) {
                            const attn_tensor *t = call.o.bias;
                            const size_t index[4] = {b, h, i, j};
                            ptrdiff_t at = 0;
                            for (int d = 0; d < 4; d++) at += t->shape[d] != 1 ? (ptrdiff_t)index[d] * t->stride[d] : 0;
                            z += ref_load(t, at), bound += 4 * REF_U * fabs(ref_load(t, at));
                        }
                        if (stage == ATTN_SCORES_BIASED && call.o.alibi) {
                            const double far = fabs((double)((int64_t)i + x.offset - (int64_t)j));
                            z -= (double)call.o.alibi[h] * far, bound += 4 * REF_U * (double)call.o.alibi[h] * far;
                        }
                        bound += 2 * REF_U * fabs(z) + 0x1p-115;
                    }
                    const double x_found = (double)*found;
                    if (x_found == z || fabs(x_found - z) <= bound || (isnan(z) && isnan(x_found))) continue;
                    if (!isfinite(z) && !isfinite(x_found) && z != -(double)INFINITY) continue; /* junk overflows */
                    snprintf(text, sizeof text, "scores at stage %d [%zu, %zu, %zu, %zu] is %.9g, expected %.9g ± %.3g",
                             (int)stage, b, h, i, j, x_found, z, bound);
                    return text;
                }
    }
    return NULL;
}

/* ---- random calls --------------------------------------------------------------------------------------------- */

static void try_level(const char *level, struct attention_case *c, const ref_attention *r, double *worst) {
    attn_context *ctx = context_of(level, c->threads);
    const struct shape n = shape_of(c);
    uint64_t random = c->seed ^ 0x6c6f6f6b;
    case_results(c, case_chance(&random, 0.5) ? LAYOUT_RANDOM : LAYOUT_PLAIN);
    assert_ok(ctx,
              attn_attention_fwd(ctx, &c->result[CASE_OUT], &c->result[CASE_LSE], &c->q, &c->k, &c->v, &c->options));
    attn_tensor all = floats(n.b, n.h, n.t, n.s), again = floats(n.b, n.h, n.t, n.s);
    attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
    look.weights = &all;
    assert_ok(ctx, attn_attention_weights(ctx, &look, &c->q, &c->k, &c->result[CASE_LSE], &c->options));
    const char *wrong = compare_weights(c, r, all.data, worst);
    if (wrong) fail_msg("%s: %s\n%s", level, wrong, case_text(c));

    struct choice w;
    choose(&w, c, &random);
    assert_ok(ctx, attn_attention_weights(ctx, &w.look, &c->q, &c->k, &c->result[CASE_LSE], &c->options));
    wrong = compare_look(c, r, &w, all.data);
    if (wrong) fail_msg("%s: %s\n%s", level, wrong, case_text(c));

    for (int stage = 0; stage <= 3; stage++) {
        assert_ok(ctx, attn_attention_scores(ctx, &again, &c->q, &c->k, (attn_score_stage)stage, &c->options));
        double unused = 0;
        wrong = stage < 3 ? compare_scores(c, r, again.data, (attn_score_stage)stage)
                          : compare_weights(c, r, again.data, &unused);
        if (wrong) fail_msg("%s: %s\n%s", level, wrong, case_text(c));
    }
}

static void random_calls(void **state) {
    (void)state;
    const char *wanted = getenv("ATTN_CASES"), *one = getenv("ATTN_CASE_SEED");
    const uint64_t count = wanted ? strtoull(wanted, NULL, 10) : 2000, first = one ? strtoull(one, NULL, 10) : 1;
    struct case_limits limits = case_any;
    limits.budget = 0x1p18;
    double worst = 0;
    for (uint64_t seed = first; seed < first + (one ? 1 : count); seed++) {
        struct attention_case c;
        attn_attention_options options;
        attn_tensor unit;
        limits.tree = true;
        case_make(&c, seed, &limits);
        if (c.packed && c.options.tree && c.options.tree->shape[1] != c.longest_t) { /* is refused */
            limits.tree = false;
            case_make(&c, seed, &limits);
        }
        for (int x = CASE_DQ; x < CASE_RESULT_COUNT; x++) c.wanted[x] = false;
        c.wanted[CASE_LSE] = true;
        ref_attention r = unit_reference(&c, &options, &unit);
        FOR_LEVELS(level) try_level(*level, &c, &r, &worst);
        ref_attention_free(&r);
        free(unit.data);
        case_release();
        guard_release(); /* this file's own */
    }
    print_message("%llu calls; largest error / bound of a weight: %.2f\n", (unsigned long long)count, worst);
}

/* ---- one shape ------------------------------------------------------------------------------------------------- */

/* Every output of a causal call, for three numbers of threads: the same bits. */
static void same_bits(void **state) {
    (void)state;
    enum { B = 2, H = 4, HK = 2, T = 300, D = 24, N = 5 };
    FOR_LEVELS(level) {
        attn_tensor q = attn_tensor_f32(guard_normal(B * H * T * D, 1), 4, (size_t)B, (size_t)H, (size_t)T, (size_t)D);
        attn_tensor k =
            attn_tensor_f32(guard_normal(B * HK * T * D, 1), 4, (size_t)B, (size_t)HK, (size_t)T, (size_t)D);
        attn_tensor out = attn_tensor_f32(guard_floats(B * H * T * D), 4, (size_t)B, (size_t)H, (size_t)T, (size_t)D);
        attn_tensor lse = attn_tensor_f32(guard_floats(B * H * T), 3, (size_t)B, (size_t)H, (size_t)T);
        attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
        options.causal = ATTN_CAUSAL_TOP_LEFT;
        struct choice w[3];
        for (int i = 0; i < 3; i++) {
            static const int threads[] = {1, 2, 3};
            attn_context *ctx = context_of(*level, threads[i]);
            w[i].look = (attn_attention_look)ATTN_ATTENTION_LOOK_INIT;
            w[i].weights = floats(B, H, T, T), w[i].values = floats(B, H, T, N), w[i].keys = ints(4, B, H, T, N);
            w[i].argmax = ints(3, B, H, T, 0),
            w[i].entropy = attn_tensor_f32(guard_floats(B * H * T), 3, (size_t)B, (size_t)H, (size_t)T);
            w[i].sum = attn_tensor_f32(guard_floats(B * H * T), 3, (size_t)B, (size_t)H, (size_t)T);
            w[i].look.block_rows = 16, w[i].look.block_keys = 40;
            w[i].max = floats(B, H, (T + 15) / 16, (T + 39) / 40);
            w[i].look.weights = &w[i].weights, w[i].look.top_values = &w[i].values, w[i].look.top_keys = &w[i].keys;
            w[i].look.argmax = &w[i].argmax, w[i].look.entropy = &w[i].entropy, w[i].look.column_sum = &w[i].sum;
            w[i].look.block_max = &w[i].max;
            assert_ok(ctx, attn_attention_fwd(ctx, &out, &lse, &q, &k, &k, &options));
            assert_ok(ctx, attn_attention_weights(ctx, &w[i].look, &q, &k, &lse, &options));
            const attn_tensor *a[] = {&w[0].weights, &w[0].values, &w[0].keys, &w[0].argmax,
                                      &w[0].entropy, &w[0].sum,    &w[0].max},
                              *b[] = {&w[i].weights, &w[i].values, &w[i].keys, &w[i].argmax,
                                      &w[i].entropy, &w[i].sum,    &w[i].max};
            for (size_t j = 0; j < 7; j++) {
                const char *wrong = case_same_bits("an output", a[j], b[j]);
                if (wrong) fail_msg("%s, %d threads: %s (%zu)", *level, threads[i], wrong, j);
            }
        }
        guard_release();
    }
}

/* ---- refused ---------------------------------------------------------------------------------------------------- */

static void refused(void **state) {
    (void)state;
    attn_context *ctx = context_of("scalar", 1);
    attn_tensor q = attn_tensor_f32(guard_normal(2 * 3 * 4, 1), 4, (size_t)1, (size_t)2, (size_t)3, (size_t)4), k = q;
    attn_tensor lse = attn_tensor_f32(guard_normal(6, 1), 3, (size_t)1, (size_t)2, (size_t)3);
    attn_tensor weights = floats(1, 2, 3, 3), sum = attn_tensor_f32(array(6, 4), 3, (size_t)1, (size_t)2, (size_t)3);
    const int64_t mixed[] = {-1, 1}, same[] = {1, 1}, far[] = {3}, low[] = {-4};
    const int32_t no_head[] = {2}, down[] = {1, 0};
    attn_attention_look good = ATTN_ATTENTION_LOOK_INIT, look;
    good.weights = &weights;
#define REFUSED(status, text)                                                                        \
    do {                                                                                             \
        assert_int_equal(attn_attention_weights(ctx, &look, &q, &k, &lse, NULL), status);            \
        if (!strstr(attn_error(ctx), text)) fail_msg("\"%s\" has no \"%s\"", attn_error(ctx), text); \
    } while (0)
    assert_ok(ctx, attn_attention_weights(ctx, &good, &q, &k, &lse, NULL));
    look = good, look.struct_size = 8;
    REFUSED(ATTN_E_VERSION, "look.struct_size is 8");
    look = good, look.rows = mixed, look.row_count = 2;
    REFUSED(ATTN_E_ARGUMENT, "rows[1] is 1 after -1");
    look.rows = same;
    REFUSED(ATTN_E_ARGUMENT, "rows[1] is 1 after 1");
    look.rows = far, look.row_count = 1;
    REFUSED(ATTN_E_ARGUMENT, "rows[0] is 3, expected -3 to 2");
    look.rows = low;
    REFUSED(ATTN_E_ARGUMENT, "rows[0] is -4");
    look = good, look.heads = no_head, look.head_count = 1;
    REFUSED(ATTN_E_ARGUMENT, "heads[0] is 2, expected 0 to 1");
    look.heads = down, look.head_count = 2;
    REFUSED(ATTN_E_ARGUMENT, "heads[1] is 0 after 1");
    look = good, look.top_values = &weights;
    REFUSED(ATTN_E_ARGUMENT, "top_values is given, but not top_keys");
    look.top_keys = &weights;
    REFUSED(ATTN_E_UNSUPPORTED, "top_keys is F32, expected I32");
    look = good, look.block_max = &weights;
    REFUSED(ATTN_E_ARGUMENT, "blocks are 0 × 0");
    look = good, look.weights = &sum;
    REFUSED(ATTN_E_SHAPE, "weights");
    look = good, look.weights = NULL, sum.data = lse.data, look.column_sum = &sum;
    REFUSED(ATTN_E_ARGUMENT, "column_sum overlaps lse");
#undef REFUSED
    assert_int_equal(attn_attention_weights(ctx, NULL, &q, &k, &lse, NULL), ATTN_E_ARGUMENT);
    assert_int_equal(attn_attention_scores(ctx, &weights, &q, &k, (attn_score_stage)4, NULL), ATTN_E_ARGUMENT);
    assert_int_equal(attn_attention_scores(ctx, &sum, &q, &k, ATTN_SCORES_SCALED, NULL), ATTN_E_SHAPE);
    guard_release();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_calls), cmocka_unit_test(same_bits),
                                       cmocka_unit_test(refused)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < sizeof contexts / sizeof contexts[0]; i++) attn_context_free(contexts[i]);
    return failed;
}
