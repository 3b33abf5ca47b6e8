/* Kernels for a cache of bytes, one tile at a time, at every CPU level: scores and outputs to the bit against integers,
 * with and without instructions that only some CPUs of a level have; weights as numbers of steps within half a step. */
#include "kern/harness.h"
#include "kernel/select.h"

#include <math.h>

enum { MOST_ROWS = 9 };

typedef struct tile_case {
    attn_decode_tile t;
    size_t columns;
    uint8_t *k, *v; /* ATTN_TILE keys, as decode.h says */
    int8_t *q8;
    float *k_scale, *v_scale, *q_scale, *s, *max, *sum, *rescale, *parts, *step, *o;
    int32_t *q_sum;
    uint64_t *visible;
} tile_case;

static float *floats(size_t n, float scale, uint64_t *seed) {
    float *x = guarded(n * sizeof *x, GUARD_AFTER);
    for (size_t i = 0; i < n; i++) x[i] = scale * random_float(seed);
    return x;
}
static void *bytes(size_t n, uint64_t *seed) {
    int8_t *x = guarded(n, GUARD_AFTER);
    for (size_t i = 0; i < n; i++) x[i] = (int8_t)(random_below(seed, 255) - 127);
    return x;
}

static void make_case(tile_case *c, size_t lanes, uint64_t *seed) {
    static const size_t sizes[] = {1, 3, 4, 15, 16, 17, 40, 64, 65, 128, 130, 200};
    const size_t d = sizes[random_below(seed, 12)], dv = sizes[random_below(seed, 12)],
                 rows = 1 + random_below(seed, MOST_ROWS), fours = (d + 3) / 4, v_row = (dv + 15) / 16 * 16;
    c->columns = (dv + lanes - 1) / lanes * lanes;
    c->k = bytes(ATTN_TILE * 4 * fours, seed), c->v = bytes(ATTN_TILE * v_row, seed);
    for (size_t i = 0; i < ATTN_TILE * 4 * fours; i++) c->k[i] = (uint8_t)(c->k[i] + 128);
    c->q8 = bytes(rows * 4 * fours, seed), c->q_sum = guarded(rows * sizeof *c->q_sum, GUARD_AFTER);
    for (size_t r = 0; r < rows; r++) {
        c->q_sum[r] = 0;
        for (size_t i = 0; i < 4 * fours; i++) {
            if (i >= d) c->q8[r * 4 * fours + i] = 0;
            c->q_sum[r] += c->q8[r * 4 * fours + i];
        }
    }
    const float spread = (float[]){0.01f, 1.0f, 4.0f, 30.0f}[random_below(seed, 4)];
    c->k_scale = floats(ATTN_TILE, spread / (40.0f * sqrtf((float)d)), seed);
    c->v_scale = floats(ATTN_TILE, random_below(seed, 8) ? 1.0f : 1e-30f, seed), c->q_scale = floats(rows, 0.1f, seed);
    for (size_t j = 0; j < ATTN_TILE; j++) c->v_scale[j] = fabsf(c->v_scale[j]);
    c->s = floats(rows * ATTN_TILE, 1.0f, seed), c->rescale = floats(rows, 1.0f, seed);
    c->step = floats(rows, 1.0f, seed), c->max = floats(rows, 1.0f, seed), c->sum = floats(rows, 1.0f, seed);
    c->o = floats(rows * c->columns, 100.0f, seed);
    c->visible = guarded(rows * sizeof *c->visible, GUARD_AFTER);
    c->parts = floats(rows, 1.0f, seed);
    for (size_t r = 0; r < rows; r++) c->parts[r] = random_below(seed, 2) ? 0x1p12f : 0x1p15f;
    const size_t from = random_below(seed, 3) ? 0 : random_below(seed, ATTN_TILE),
                 to = random_below(seed, 3) ? ATTN_TILE : from + 1 + random_below(seed, ATTN_TILE - from);
    uint64_t any = 0;
    for (size_t r = 0; r < rows; r++) {
        c->max[r] = random_below(seed, 2) ? -INFINITY : rintf(c->max[r]);
        c->sum[r] = c->max[r] == -INFINITY ? 0.0f : fabsf(c->sum[r]);
        const uint64_t random = (uint64_t)random_below(seed, 1 << 30) << 34 ^
                                (uint64_t)random_below(seed, 1 << 30) << 15 ^ (uint64_t)random_below(seed, 1 << 30);
        const uint64_t kept = random_below(seed, 2) ? UINT64_MAX : random_below(seed, 2) ? random : (uint64_t)1 << from;
        c->visible[r] = kept & (to == 64 ? UINT64_MAX : ((uint64_t)1 << to) - 1) & UINT64_MAX << from;
        any |= c->visible[r];
    }
    if (!any) c->visible[0] = any = (uint64_t)1 << from;
    for (size_t j = 0; j < ATTN_TILE; j++) /* what nobody sees is anything */
        if (!(any >> j & 1)) c->v_scale[j] = random_below(seed, 2) ? NAN : INFINITY, c->k_scale[j] = NAN;
    c->t = (attn_decode_tile){.rows = rows,
                              .d = d,
                              .dv = dv,
                              .dtype = ATTN_I8,
                              .keys = ATTN_TILE,
                              .v_row = (ptrdiff_t)v_row,
                              .q8 = c->q8,
                              .q8_row = (ptrdiff_t)(4 * fours),
                              .q_sum = c->q_sum,
                              .q_scale = c->q_scale,
                              .s = c->s,
                              .factor = 1.4427f,
                              .visible = c->visible,
                              .max = c->max,
                              .sum = c->sum,
                              .rescale = c->rescale,
                              .parts = c->parts,
                              .step = c->step,
                              .steps = guarded(rows * ATTN_STEP_BYTES, GUARD_AFTER),
                              .o = c->o,
                              .o_row = (ptrdiff_t)c->columns};
    c->t.from = (size_t)__builtin_ctzll(any), c->t.to = 64 - (size_t)__builtin_clzll(any);
    c->t.first = c->t.from / ATTN_KEYS, c->t.end = (c->t.to + ATTN_KEYS - 1) / ATTN_KEYS;
    for (size_t b = c->t.first; b < c->t.end; b++) {
        c->t.k[b] = c->k + b * ATTN_KEYS * 4 * fours, c->t.v[b] = c->v + b * ATTN_KEYS * v_row;
        c->t.next_k[b] = c->t.k[b], c->t.next_v[b] = c->t.v[b];
        c->t.k_scale[b] = c->k_scale + b * ATTN_KEYS, c->t.v_scale[b] = c->v_scale + b * ATTN_KEYS;
    }
}

static float *copy_of(const float *x, size_t n) {
    float *to = guarded(n * sizeof *to, GUARD_AFTER);
    memcpy(to, x, n * sizeof *to);
    return to;
}

static void check_scores(const tile_case *c) {
    const attn_decode_tile *t = &c->t;
    for (size_t r = 0; r < t->rows; r++)
        for (size_t j = t->first * ATTN_KEYS; j < t->end * ATTN_KEYS; j++) {
            int32_t sum = 0;
            for (size_t i = 0; i < t->d; i++) {
                const uint8_t *block = c->k + j / ATTN_KEYS * ATTN_KEYS * (size_t)t->q8_row;
                sum +=
                    c->q8[r * (size_t)t->q8_row + i] * (block[(i / 4 * ATTN_KEYS + j % ATTN_KEYS) * 4 + i % 4] - 128);
            }
            const float expected = (float)sum * (c->q_scale[r] * c->k_scale[j]), found = c->s[r * ATTN_TILE + j];
            if (expected != found && !(isnan(expected) && isnan(found)))
                fail_msg("row %zu key %zu: score %a, expected %a", r, j, (double)found, (double)expected);
        }
}

/* Numbers of steps against weights in double. */
static void check_steps(const tile_case *c, const float *scores, const float *old_sum) {
    const attn_decode_tile *t = &c->t;
    for (size_t r = 0; r < t->rows; r++) {
        double weights = 0, scaled = 0, most = 0;
        for (size_t j = 0; j < ATTN_TILE; j++) {
            if (!(t->visible[r] >> j & 1)) continue;
            const double p = exp2((double)scores[r * ATTN_TILE + j] * (double)t->factor - (double)t->max[r]);
            weights += p, scaled += p * (double)c->v_scale[j];
            most = fmax(most, fabs((double)scores[r * ATTN_TILE + j] * (double)t->factor));
        }
        const double near = 0x1p-19 + 0x1p-22 * most, sum = (double)old_sum[r] * (double)t->rescale[r] + weights;
        if (fabs((double)t->sum[r] - sum) > near * fabs(sum) + 1e-36)
            fail_msg("row %zu: sum %g, expected %g", r, (double)t->sum[r], sum);
        const double step = (double)t->step[r], parts = (double)c->parts[r];
        if (!t->visible[r]) assert_true(step == 0);
        else if (scaled > 0x1p-89 && !(2 * step * parts > scaled * (1 - near) && step * parts <= scaled * (1 + near)))
            fail_msg("row %zu: step %g of %g", r, step, scaled);
        for (size_t j = t->first * ATTN_KEYS; j < t->end * ATTN_KEYS; j++) {
            const double n = (double)t->s[r * ATTN_TILE + j];
            if (!(t->visible[r] >> j & 1) || step == 0) {
                assert_true(n == 0);
                continue;
            }
            const double p = exp2((double)scores[r * ATTN_TILE + j] * (double)t->factor - (double)t->max[r]),
                         w = p * (double)c->v_scale[j];
            assert_true(n == rint(n) && n >= 0 && n <= fmin(2 * parts, 65535));
            if (fabs(n * step - w) > step / 2 + near * w + (n == 65535) * step)
                fail_msg("row %zu key %zu: %g steps of %g, the weight is %g", r, j, n, step, w);
        }
    }
}

static void check_output(const tile_case *c, const float *numbers, const float *old) {
    const attn_decode_tile *t = &c->t;
    for (size_t r = 0; r < t->rows; r++)
        for (size_t i = 0; i < t->dv; i++) {
            int64_t sum = 0;
            for (size_t j = t->first * ATTN_KEYS; j < t->end * ATTN_KEYS; j++)
                sum += (int64_t)numbers[r * ATTN_TILE + j] * (int8_t)c->v[j / 4 * 4 * (size_t)t->v_row + 4 * i + j % 4];
            const size_t at = r * c->columns + i;
            const float expected = fmaf((float)sum, t->step[r], old[at] * t->rescale[r]);
            if (c->o[at] != expected)
                fail_msg("row %zu column %zu: %a, expected %a", r, i, (double)c->o[at], (double)expected);
        }
}

/* A table's own kernels, and the best ones for it. */
static void find_ways(attn_i8_kernels ways[2], attn_kernels *kernels, const char *level) {
    assert_true(attn_kernels_get(kernels, level));
    ways[0] = (attn_i8_kernels){kernels->decode_scores_i8, kernels->decode_softmax_i8, kernels->decode_steps,
                                kernels->decode_mix_i8};
    ways[1] = attn_i8_kernels_for(kernels);
}

static void test_tiles(void **state) {
    (void)state;
    for (const char *const *level = attn_kernels_levels(); *level; level++) {
        attn_kernels kernels;
        attn_i8_kernels ways[2];
        find_ways(ways, &kernels, *level);
        for (uint64_t i = 0; i < 400; i++) {
            uint64_t seed = 1 + i;
            tile_case c;
            make_case(&c, kernels.lanes, &seed);
            const size_t n = c.t.rows * c.columns, rows = c.t.rows;
            const float *old = copy_of(c.o, n), *old_sum = copy_of(c.sum, rows), *old_max = copy_of(c.max, rows);
            const float *numbers = NULL, *sum = NULL, *step = NULL, *max = NULL, *weights = NULL;
            const bool drop = i % 5 == 0; /* weights change between softmax and steps */
            for (size_t way = 0; way < 2; way++) {
                memcpy(c.o, old, n * sizeof *old);
                memcpy(c.sum, old_sum, rows * sizeof *old_sum);
                memcpy(c.max, old_max, rows * sizeof *old_max);
                ways[way].scores(&c.t);
                check_scores(&c);
                const float *scores = copy_of(c.s, rows * ATTN_TILE);
                ways[way].softmax(&c.t);
                if (way == 0) {
                    check_steps(&c, scores, old_sum);
                    sum = copy_of(c.sum, rows), max = copy_of(c.max, rows);
                }
                assert_memory_equal(c.sum, sum, rows * sizeof *sum);
                assert_memory_equal(c.max, max, rows * sizeof *max);
                if (drop) {
                    if (!weights) weights = copy_of(c.s, rows * ATTN_TILE);
                    memcpy(c.s, weights, rows * ATTN_TILE * sizeof *weights);
                    ways[way].steps(&c.t);
                }
                if (way == 0) numbers = copy_of(c.s, rows * ATTN_TILE), step = copy_of(c.step, rows);
                assert_memory_equal(c.step, step, rows * sizeof *step);
                ways[way].mix(&c.t);
                check_output(&c, numbers, old);
            }
            guarded_free_all();
        }
    }
}

/* A value that is not finite has a scale of NaN, which comes through where it is seen. */
static void test_not_finite(void **state) {
    (void)state;
    for (const char *const *level = attn_kernels_levels(); *level; level++) {
        attn_kernels kernels;
        attn_i8_kernels ways[2];
        find_ways(ways, &kernels, *level);
        for (size_t way = 0; way < 2; way++) {
            uint64_t seed = 7;
            tile_case c;
            make_case(&c, kernels.lanes, &seed);
            c.v_scale[c.t.from] = NAN;
            ways[way].scores(&c.t);
            ways[way].softmax(&c.t);
            ways[way].mix(&c.t);
            for (size_t r = 0; r < c.t.rows; r++)
                for (size_t j = 0; j < c.t.dv; j++)
                    assert_true(isnan(c.o[r * c.columns + j]) == (c.visible[r] >> c.t.from & 1));
            guarded_free_all();
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_tiles), cmocka_unit_test(test_not_finite)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
