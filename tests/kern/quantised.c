/* Products with weights of small integers at every CPU level: against double, and bit for bit against each other. */
#include "kern/harness.h"
#include "kernel/select.h"
#include "ops/quantised.h"
#include "ref/quantised.h"

#include <math.h>

typedef struct weight {
    attn_quantised_form form;
    size_t n, k, row_bytes;
    unsigned char *bytes; /* rows, as in a file */
    float *scale;         /* (n), of I8 */
    const void **row;     /* (n) */
} weight;

/* Half-precision scales of a sensible size at the places where the form has them; everything else is random. */
static void make_weight(weight *w, attn_quantised_form form, size_t n, size_t k, uint64_t *seed) {
    static const struct {
        size_t step, scale, minimum; /* bytes of a block, and where its halves are */
    } places[ATTN_QUANTISED_FORMS] = {
        [ATTN_QUANTISED_Q8_0] = {34, 0, 0},     [ATTN_QUANTISED_Q4_0] = {18, 0, 0}, [ATTN_QUANTISED_Q4_1] = {20, 0, 2},
        [ATTN_QUANTISED_Q5_0] = {22, 0, 0},     [ATTN_QUANTISED_Q5_1] = {24, 0, 2}, [ATTN_QUANTISED_Q4_K] = {144, 0, 2},
        [ATTN_QUANTISED_Q6_K] = {210, 208, 208}};
    *w = (weight){form, n, k, ref_quantised_row_bytes(form, k), NULL, NULL, NULL};
    w->bytes = guarded(n * w->row_bytes, GUARD_AFTER);
    w->scale = guarded(n * sizeof(float), GUARD_AFTER);
    w->row = guarded(n * sizeof(void *), GUARD_AFTER);
    for (size_t i = 0; i < n * w->row_bytes; i++) w->bytes[i] = (unsigned char)random_below(seed, 256);
    for (size_t i = 0; places[form].step && i < n * w->row_bytes; i += places[form].step) {
        const size_t at[2] = {i + places[form].scale, i + places[form].minimum};
        for (size_t j = 0; j < 2; j++) {
            const unsigned bits =
                0x1400 + (unsigned)random_below(seed, 0x1800) + 0x8000 * (unsigned)random_below(seed, 2);
            w->bytes[at[j]] = (unsigned char)bits, w->bytes[at[j] + 1] = (unsigned char)(bits >> 8);
        }
    }
    for (size_t i = 0; i < n; i++) w->row[i] = w->bytes + i * w->row_bytes, w->scale[i] = 0.01f * random_float(seed);
}

static attn_quantised *pack(attn_context *ctx, const weight *w) {
    attn_quantised *packed;
    assert_int_equal(attn_quantised_create(&packed, ctx, NULL, w->form, w->n, w->k, w->row, w->scale), ATTN_OK);
    return packed;
}

/* Rows of very different sizes, with blocks of zeros; some with an element that is far larger than all others. */
static float *make_rows(size_t m, size_t k, size_t row, uint64_t *seed) {
    float *x = guarded(m ? ((m - 1) * row + k) * sizeof(float) : 0, GUARD_AFTER);
    fill_random(x, m ? (m - 1) * row + k : 0, seed);
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < k; j++)
            x[i * row + j] *= j / 32 % 5 == 3 && i % 3 == 1 ? 0.0f : ldexpf(1.0f, (int)((i + j / 32) % 9) - 4);
    for (size_t i = 2; i < m && k > 200; i += 4) x[i * row + random_below(seed, (unsigned)k)] = 900;
    return x;
}

/* What the products of a row and of its second part, if it has one, must give; *uneven counts such rows. */
static double expected(const weight *w, size_t n, const float *x, double *bound, size_t *uneven) {
    int *q = malloc(w->k * sizeof *q);
    float *scale = malloc((w->k / 32 + 1) * sizeof *scale), *rest = malloc(w->k * sizeof *rest);
    ref_quantise(q, scale, x, w->k);
    double sum = ref_quantised_dot(w->form, w->row[n], w->scale[n], q, scale, w->k, bound);
    if (ref_quantised_uneven(scale, w->k)) {
        double more;
        for (size_t k = 0; k < w->k; k++) rest[k] = x[k] - (float)q[k] * scale[k / 32];
        ref_quantise(q, scale, rest, w->k);
        sum += ref_quantised_dot(w->form, w->row[n], w->scale[n], q, scale, w->k, &more);
        *bound += more + 0x1p-23 * fabs(sum);
        *uneven += n == 0;
    }
    free(q);
    free(scale);
    free(rest);
    return sum;
}

static void check_values(attn_context *ctx, const weight *w, size_t m, uint64_t seed, size_t *uneven) {
    const size_t x_row = w->k + 3, y_row = w->n + 2;
    float *x = make_rows(m, w->k, x_row, &seed), *y = guarded(((m - 1) * y_row + w->n) * sizeof(float), GUARD_AFTER);
    float *bias = guarded(w->n * sizeof(float), GUARD_AFTER), *residual = make_rows(m, w->n, y_row, &seed);
    fill_random(bias, w->n, &seed);
    attn_quantised *packed = pack(ctx, w);
    const attn_quantised_gemm g = {.w = packed,
                                   .m = m,
                                   .x = x,
                                   .x_row = (ptrdiff_t)x_row,
                                   .y = y,
                                   .y_row = (ptrdiff_t)y_row,
                                   .act = ATTN_RELU,
                                   .bias = seed % 2 ? bias : NULL,
                                   .residual = seed % 4 < 2 ? residual : NULL,
                                   .residual_row = (ptrdiff_t)y_row};
    assert_int_equal(attn_quantised_run(ctx, &g, 1), ATTN_OK);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < w->n; j++) {
            double bound, wanted = expected(w, j, x + i * x_row, &bound, uneven);
            const double found = (double)y[i * y_row + j];
            const double more[2] = {g.bias ? (double)bias[j] : 0, g.residual ? (double)residual[i * y_row + j] : 0};
            bound += 0x1p-23 * (fabs(wanted) + fabs(more[0]) + fabs(more[1])) + 1e-37;
            wanted = fmax(wanted + more[0] + more[1], 0);
            if (!(fabs(found - wanted) <= bound))
                fail_msg("%s %s %zu × %zu × %zu: y[%zu][%zu] is %.9g, expected %.9g ± %.2g", attn_cpu_level(ctx),
                         attn_quantised_layouts[w->form].name, m, w->n, w->k, i, j, found, wanted, bound);
        }
    }
    attn_quantised_free(ctx, packed);
}

static void test_values(void **state) {
    (void)state;
    static const size_t sizes[][3] = {/* m, n, k; the last in blocks of the form */
                                      {1, 1, 1},  {1, 16, 2},  {1, 33, 3}, {2, 16, 1},  {3, 17, 2},
                                      {5, 47, 4}, {6, 32, 27}, {7, 65, 5}, {13, 80, 9}, {1, 100, 49}};
    for_each_level(ctx, 2) {
        uint64_t seed = 3;
        size_t uneven = 0;
        for (int form = 0; form < ATTN_QUANTISED_FORMS; form++)
            for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
                const size_t step = 32 * attn_quantised_layouts[form].share;
                size_t k = sizes[i][2] * step > 1600 ? 1600 / step * step : sizes[i][2] * step;
                if (form == ATTN_QUANTISED_I8) k -= random_below(&seed, 32); /* any number of columns */
                weight w;
                make_weight(&w, (attn_quantised_form)form, sizes[i][1], k, &seed);
                check_values(ctx, &w, sizes[i][0], seed + i, &uneven);
                guarded_free_all();
            }
        assert_true(uneven > 10);
    }
}

/* Rows as floats: the bits that a file of these blocks gives. */
static void test_rows(void **state) {
    (void)state;
    enum { N = 19, K = 512 };
    attn_context *ctx = context_at(NULL, 1);
    uint64_t seed = 8;
    for (int form = 0; form < ATTN_QUANTISED_FORMS; form++) {
        weight w;
        float expected[K], found[K];
        make_weight(&w, (attn_quantised_form)form, N, K, &seed);
        attn_quantised *packed = pack(ctx, &w);
        assert_int_equal(attn_quantised_form_of(packed), form);
        /* As large as the file, but for 13 rows of padding, the scales of Q4_K and up to 63 bytes a panel. */
        assert_true(2 * attn_quantised_panel_bytes(w.form, K / 32) <= 32 * (w.row_bytes + 8) + 2 * 64);
        for (size_t n = 0; n < N; n++) {
            for (size_t i = 0; i < K; i++) {
                const ref_number number = ref_quantised_number(w.form, w.row[n], w.scale[n], i);
                const float product = (float)(number.scale * number.q);
                expected[i] = number.minimum != 0 ? product + (float)number.minimum : product;
            }
            attn_quantised_row(found, packed, n);
            for (size_t i = 0; i < K; i++) assert_true(found[i] == expected[i]);
        }
        attn_quantised_free(ctx, packed);
        guarded_free_all();
    }
    attn_context_free(ctx);
}

/* One row alone, among others, on any threads, at any level, by any instructions: the same bits. */
static void test_same_bits(void **state) {
    (void)state;
    enum { M = 300, N = 200, SHORT_M = 9 };
    for (int form = 0; form < ATTN_QUANTISED_FORMS; form++) {
        const size_t k = form == ATTN_QUANTISED_I8 ? 830 : 1024;
        uint64_t seed = 77 + (uint64_t)form;
        weight w;
        make_weight(&w, (attn_quantised_form)form, N, k, &seed);
        float *x = make_rows(M, k, k, &seed), *first = guarded(M * N * sizeof(float), GUARD_AFTER);
        float *y = guarded(M * N * sizeof(float), GUARD_AFTER);
        bool have = false;
        for (int threads = 3; threads > 0; threads--) for_each_level(ctx, threads) {
                const bool slow = strcmp(attn_cpu_level(ctx), "scalar") == 0;
                const size_t m = slow || (threads < 3 && form > 3) ? SHORT_M : M;
                attn_quantised *packed = pack(ctx, &w);
                attn_quantised_gemm g = {.w = packed, .m = m, .x = x, .x_row = (ptrdiff_t)k, .y = y, .y_row = N};
                assert_int_equal(attn_quantised_run(ctx, &g, 1), ATTN_OK);
                if (!have && !slow) memcpy(first, y, M * N * sizeof *y);
                have = have || !slow;
                if (have) assert_memory_equal(y, first, m * N * sizeof *y);
                for (size_t row = 0; row < m; row += 1 + m / 8) {
                    float alone[N];
                    g.m = 1, g.x = x + row * k, g.y = alone;
                    assert_int_equal(attn_quantised_run(ctx, &g, 1), ATTN_OK);
                    assert_memory_equal(alone, y + row * N, sizeof alone);
                }
                attn_quantised_free(ctx, packed);
            }
        if (have) {
            float small[SHORT_M * N]; /* scalar was first and is compared last */
            attn_context *ctx = context_at("scalar", 1);
            attn_quantised *packed = pack(ctx, &w);
            const attn_quantised_gemm g = {
                .w = packed, .m = SHORT_M, .x = x, .x_row = (ptrdiff_t)k, .y = small, .y_row = N};
            assert_int_equal(attn_quantised_run(ctx, &g, 1), ATTN_OK);
            assert_memory_equal(small, first, sizeof small);
            attn_quantised_free(ctx, packed);
            attn_context_free(ctx);
        }
        guarded_free_all();
    }
}

/* A row with what is not finite is not finite, and no other changes. */
static void test_not_finite(void **state) {
    (void)state;
    enum { M = 4, N = 35, K = 256 };
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for_each_level(ctx, 2) {
        for (int form = 0; form < ATTN_QUANTISED_FORMS; form++)
            for (size_t i = 0; i < 3; i++) {
                uint64_t seed = 5;
                weight w;
                float y[2][M * N];
                make_weight(&w, (attn_quantised_form)form, N, K, &seed);
                attn_quantised *packed = pack(ctx, &w);
                float *x = make_rows(M, K, K, &seed);
                for (int turn = 0; turn < 2; turn++) {
                    const attn_quantised_gemm g = {.w = packed, .m = M, .x = x, .x_row = K, .y = y[turn], .y_row = N};
                    assert_int_equal(attn_quantised_run(ctx, &g, 1), ATTN_OK);
                    x[2 * K + 77] = wrong[i];
                }
                for (size_t j = 0; j < N; j++) assert_true(isnan(y[1][2 * N + j]));
                assert_memory_equal(y[0], y[1], 2 * N * sizeof(float));
                assert_memory_equal(y[0] + 3 * N, y[1] + 3 * N, N * sizeof(float));
                attn_quantised_free(ctx, packed);
                guarded_free_all();
            }
    }
}

/* CPUs without the instructions that this one has. */
static void test_plain(void **state) {
    (void)state;
    enum { M = 7, N = 48, BLOCKS = 24, K = 32 * BLOCKS };
    for_each_level(ctx, 1) {
        const attn_quantised_kernels *const tables[] = {attn_quantised_kernels_for(ctx->kernels, false),
                                                        attn_quantised_kernels_for(ctx->kernels, true)};
        if (tables[0] == tables[1]) continue;
        for (int form = 0; form < ATTN_QUANTISED_FORMS; form++) {
            uint64_t seed = 15;
            const size_t panel = attn_quantised_panel_bytes((attn_quantised_form)form, BLOCKS);
            unsigned char *w = guarded(N / 16 * panel, GUARD_AFTER);
            for (size_t i = 0; i < N / 16 * panel; i++) w[i] = (unsigned char)random_below(&seed, 0x3c);
            float *x = make_rows(M, K, K, &seed), y[2][M + 1][N];
            for (int i = 0; i < 2; i++) {
                attn_quantised_rows rows = {.q = guarded(M * K, GUARD_AFTER),
                                            .scale = guarded(M * BLOCKS * sizeof(float), GUARD_AFTER),
                                            .sum = guarded(M * BLOCKS * sizeof(float), GUARD_AFTER),
                                            .start = guarded(2 * M * BLOCKS * sizeof(int32_t), GUARD_AFTER),
                                            .blocks = BLOCKS};
                for (size_t r = 0; r < M; r++)
                    tables[i]->quantise_row(&rows, r, x + r * K, K, (attn_quantised_form)form);
                attn_quantised_job job = {
                    .form = (attn_quantised_form)form, .w = w, .m = M, .n = N, .x = rows, .y_row = N};
                job.y = y[i][0], job.scratch = guarded(ATTN_QUANTISED_SCRATCH, GUARD_AFTER);
                tables[i]->quantised_product(&job);
                job.m = 1, job.y = y[i][M], job.scratch = NULL;
                tables[i]->quantised_product(&job);
            }
            assert_memory_equal(y[0], y[1], sizeof y[0]);
            assert_memory_equal(y[0][0], y[0][M], sizeof y[0][0]);
            guarded_free_all();
        }
    }
}

/* Weights of several heights in one run: the bits of each alone. */
static void test_together(void **state) {
    (void)state;
    enum { M = 3, K = 576, MOST = 200 };
    static const size_t n[] = {MOST, 1, 70};
    for_each_level(ctx, 3) {
        uint64_t seed = 4;
        weight w[3];
        attn_quantised *packed[3];
        static float y[2][3][M * MOST];
        float *x = make_rows(M, K, K, &seed);
        attn_quantised_gemm g[3];
        for (int i = 0; i < 3; i++) {
            make_weight(&w[i], ATTN_QUANTISED_Q4_1, n[i], K, &seed);
            packed[i] = pack(ctx, &w[i]);
            assert_true(attn_quantised_alike(packed[0], packed[i]));
            g[i] = (attn_quantised_gemm){
                .w = packed[i], .m = M, .x = x, .x_row = K, .y = y[0][i], .y_row = (ptrdiff_t)n[i]};
            assert_int_equal(attn_quantised_run(ctx, &g[i], 1), ATTN_OK);
            g[i].y = y[1][i];
        }
        for (size_t m = 1; m <= M; m += 2) {
            memset(y[1], 0, sizeof y[1]);
            for (int i = 0; i < 3; i++) g[i].m = m;
            assert_int_equal(attn_quantised_run(ctx, g, 3), ATTN_OK);
            for (int i = 0; i < 3; i++) assert_memory_equal(y[0][i], y[1][i], m * n[i] * sizeof(float));
        }
        for (int i = 0; i < 3; i++) attn_quantised_free(ctx, packed[i]);
        guarded_free_all();
    }
}

static void test_refused(void **state) {
    (void)state;
    attn_context *ctx = context_at(NULL, 1);
    attn_quantised *w;
    assert_int_equal(attn_quantised_create(&w, ctx, NULL, ATTN_QUANTISED_Q4_K, 4, 288, NULL, NULL), ATTN_E_SHAPE);
    assert_null(w);
    assert_string_equal(attn_error(ctx), "a weight in Q4_K has 288 columns, expected a multiple of 256");
    for (int form = 0; form < ATTN_QUANTISED_FORMS; form++) {
        uint64_t seed = 1;
        weight wrong;
        make_weight(&wrong, (attn_quantised_form)form, 21, 256, &seed);
        wrong.scale[19] = NAN;
        const size_t last = form == ATTN_QUANTISED_Q6_K ? 209 : 1; /* the upper half of a scale */
        wrong.bytes[19 * wrong.row_bytes + last] = 0x7c;
        assert_int_equal(attn_quantised_create(&w, ctx, NULL, wrong.form, wrong.n, wrong.k, wrong.row, wrong.scale),
                         ATTN_E_NUMERIC);
        assert_null(w);
        assert_string_equal(attn_error(ctx), "a scale in row 19 is not a finite number");
        guarded_free_all();
    }
    assert_int_equal(attn_quantised_create(&w, ctx, NULL, ATTN_QUANTISED_I8, SIZE_MAX / 4, 64, NULL, NULL),
                     ATTN_E_NOMEM);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),     cmocka_unit_test(test_rows),  cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_plain), cmocka_unit_test(test_together),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
