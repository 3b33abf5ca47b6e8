/* Matrix products at every CPU level: against double, and bit for bit against other cuts of the same work. */
#include "kern/harness.h"
#include "ops/gemm_chunks.h"
#include "ref/gemm.h"
#include <attn/ops.h>

#include <math.h>

typedef struct operand {
    float *data;
    ptrdiff_t row, column;
    size_t elements;
} operand;

enum { PLAIN, TRANSPOSED, PADDED, SPREAD, LAYOUTS };

/* A rows × columns matrix of random numbers between guard pages, in one of four layouts. */
static operand make_operand(size_t rows, size_t columns, int layout, guard_side side, uint64_t *seed) {
    operand o = {NULL, (ptrdiff_t)columns, 1, rows * columns};
    if (layout == TRANSPOSED) o.row = 1, o.column = (ptrdiff_t)rows;
    if (layout == PADDED) o.row = (ptrdiff_t)columns + 5;
    if (layout == SPREAD) o.column = 3, o.row = 3 * (ptrdiff_t)columns + 1;
    if (rows && columns) o.elements = (rows - 1) * (size_t)o.row + (columns - 1) * (size_t)o.column + 1;
    o.data = guarded(o.elements * sizeof(float), side);
    fill_random(o.data, o.elements, seed);
    return o;
}

typedef struct test_case {
    size_t m, n, k;
    int a_layout, b_layout;
    bool bias, residual, accumulate;
    attn_activation act;
    attn_panel_form form;
} test_case;

static float to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void check_case(attn_context *ctx, const test_case *t, guard_side side, uint64_t seed) {
    operand a = make_operand(t->m, t->k, t->a_layout, side, &seed),
            b = make_operand(t->k, t->n, t->b_layout, side, &seed);
    operand c = make_operand(t->m, t->n, PADDED, side, &seed), was = make_operand(t->m, t->n, PADDED, side, &seed);
    operand bias = make_operand(1, t->n, PLAIN, side, &seed), residual = make_operand(t->m, t->n, PADDED, side, &seed);
    memcpy(was.data, c.data, c.elements * sizeof(float));
    attn_packed packed = ATTN_PACKED_INIT;
    assert_int_equal(attn_gemm_pack(ctx, &packed, t->form, b.data, b.row, b.column, t->k, t->n), ATTN_OK);
    attn_gemm g = {
        .m = t->m,
        .a = a.data,
        .a_row = a.row,
        .a_column = a.column,
        .b = &packed,
        .c = c.data,
        .c_row = c.row,
        .bias = t->bias ? bias.data : NULL,
        .residual = t->residual ? residual.data : NULL,
        .residual_row = residual.row,
        .act = t->act,
        .accumulate = t->accumulate,
    };
    assert_int_equal(attn_gemm_run(ctx, &g), ATTN_OK);
    for (size_t i = 0; t->form != ATTN_PANEL_F32 && i < b.elements; i++) b.data[i] = to_bf16(b.data[i]);
    for (size_t i = 0; t->form == ATTN_PANEL_PAIRS && i < a.elements; i++) a.data[i] = to_bf16(a.data[i]);
    ref_gemm r = {
        .m = t->m,
        .n = t->n,
        .k = t->k,
        .a = a.data,
        .a_row = a.row,
        .a_column = a.column,
        .b = b.data,
        .b_row = b.row,
        .b_column = b.column,
        .bias = g.bias,
        .residual = g.residual,
        .residual_row = residual.row,
        .c = t->accumulate ? was.data : NULL,
        .c_row = c.row,
        .act = t->act,
    };
    for (size_t i = 0; i < t->m; i++) {
        for (size_t j = 0; j < t->n; j++) {
            double bound, wanted = ref_gemm_at(&r, i, j, &bound);
            if (t->form == ATTN_PANEL_PAIRS) bound *= 2.0; /* chains of 256 pairs */
            double found = (double)c.data[(ptrdiff_t)i * c.row + (ptrdiff_t)j];
            if (!(fabs(found - wanted) <= bound))
                fail_msg("%s %zux%zux%zu layouts %d %d act %d form %d acc %d bias %d res %d: c[%zu][%zu] is %.9g, "
                         "expected %.9g ± %.2g",
                         attn_cpu_level(ctx), t->m, t->n, t->k, t->a_layout, t->b_layout, (int)t->act, (int)t->form,
                         t->accumulate, t->bias, t->residual, i, j, found, wanted, bound);
        }
        for (ptrdiff_t j = (ptrdiff_t)t->n; j < c.row && i + 1 < t->m && t->n > 0; j++)
            if (c.data[(ptrdiff_t)i * c.row + j] != was.data[(ptrdiff_t)i * c.row + j])
                fail_msg("%s: row %zu was written past its end", attn_cpu_level(ctx), i);
    }
    attn_packed_free(ctx, &packed);
    guarded_free_all();
}

static void test_small_sizes(void **state) {
    (void)state;
    for_each_level(ctx, 1) {
        uint64_t seed = 1;
        for (size_t size = 1; size <= 67; size++) {
            for (int turn = 0; turn < 3; turn++) {
                test_case t = {.m = turn == 0 ? size : 1 + random_below(&seed, 67),
                               .n = turn == 1 ? size : 1 + random_below(&seed, 67),
                               .k = turn == 2 ? size : 1 + random_below(&seed, 67),
                               .a_layout = (int)random_below(&seed, LAYOUTS),
                               .b_layout = (int)random_below(&seed, LAYOUTS),
                               .bias = random_below(&seed, 2),
                               .residual = random_below(&seed, 2),
                               .act = (attn_activation)random_below(&seed, 7),
                               .form = (attn_panel_form)random_below(&seed, ATTN_PANEL_FORMS)};
                if (random_below(&seed, 4) == 0) {
                    t.bias = t.residual = false;
                    t.act = ATTN_IDENTITY;
                    t.accumulate = true;
                }
                check_case(ctx, &t, (guard_side)random_below(&seed, 2), seed);
            }
        }
    }
}

static void test_around_blocks(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{11, 31, 255}, {12, 32, 256},   {13, 33, 257},   {119, 47, 511}, {121, 65, 513},
                                      {240, 16, 40}, {250, 96, 300},  {1, 640, 1023},  {3, 17, 1025},  {37, 80, 1300},
                                      {1, 1, 4096},  {131, 64, 1030}, {101, 257, 1024}};
    for_each_level(ctx, 3) {
        uint64_t seed = 5;
        if (strcmp(attn_cpu_level(ctx), "scalar") == 0) {
            test_case t = {.m = 30, .n = 33, .k = 300};
            check_case(ctx, &t, GUARD_AFTER, 3);
        }
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            for (int layout = 0; layout < LAYOUTS; layout++) {
                test_case t = {.m = sizes[i][0],
                               .n = sizes[i][1],
                               .k = sizes[i][2],
                               .a_layout = layout,
                               .b_layout = (layout + (int)i) % LAYOUTS,
                               .accumulate = layout == 2,
                               .form = (attn_panel_form)((i + (size_t)layout) % ATTN_PANEL_FORMS)};
                t.bias = t.residual = !t.accumulate;
                check_case(ctx, &t, layout % 2 ? GUARD_BEFORE : GUARD_AFTER, seed + i);
            }
        }
    }
}

static void test_zero_sizes(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{0, 5, 7}, {5, 0, 7}, {5, 33, 0}, {0, 0, 0}, {200, 64, 0}};
    for_each_level(ctx, 2) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            test_case t = {.m = sizes[i][0],
                           .n = sizes[i][1],
                           .k = sizes[i][2],
                           .bias = true,
                           .residual = true,
                           .act = ATTN_RELU,
                           .form = (attn_panel_form)(i % ATTN_PANEL_FORMS)};
            check_case(ctx, &t, GUARD_AFTER, 9);
            t.bias = t.residual = false, t.act = ATTN_IDENTITY, t.accumulate = true;
            check_case(ctx, &t, GUARD_AFTER, 9);
        }
    }
}

/* The whole product once, on one thread; then on 2, 3 and 8 threads, in other layouts, and row by row. */
static void same_bits_at(const char *level, size_t m, size_t n, size_t k, attn_panel_form form) {
    uint64_t seed = 77;
    operand a = make_operand(m, k, PLAIN, GUARD_AFTER, &seed), b = make_operand(k, n, TRANSPOSED, GUARD_AFTER, &seed);
    operand bias = make_operand(1, n, PLAIN, GUARD_AFTER, &seed), c = make_operand(m, n, PLAIN, GUARD_AFTER, &seed);
    operand other = make_operand(m, n, PLAIN, GUARD_AFTER, &seed);
    float *transposed = guarded(m * k * sizeof *transposed, GUARD_AFTER);
    for (size_t i = 0; i < m; i++)
        for (size_t p = 0; p < k; p++) transposed[p * m + i] = a.data[i * k + p];
    for (int threads = 1; threads <= 8; threads += threads == 3 ? 5 : 1) {
        attn_context *ctx = context_at(level, threads);
        attn_packed packed = ATTN_PACKED_INIT;
        assert_int_equal(attn_gemm_pack(ctx, &packed, form, b.data, b.row, b.column, k, n), ATTN_OK);
        attn_gemm g = {.m = m,
                       .a = a.data,
                       .a_row = a.row,
                       .a_column = 1,
                       .b = &packed,
                       .c = threads == 1 ? c.data : other.data,
                       .c_row = c.row,
                       .bias = bias.data,
                       .act = ATTN_TANH};
        assert_int_equal(attn_gemm_run(ctx, &g), ATTN_OK);
        if (threads > 1) assert_memory_equal(c.data, other.data, m * n * sizeof(float));
        attn_gemm turned = g;
        turned.a = transposed, turned.a_row = 1, turned.a_column = (ptrdiff_t)m, turned.c = other.data;
        memset(other.data, 0, m * n * sizeof(float));
        assert_int_equal(attn_gemm_run(ctx, &turned), ATTN_OK);
        assert_memory_equal(c.data, other.data, m * n * sizeof(float));
        memset(other.data, 0, m * n * sizeof(float));
        for (size_t row = 0, rows = 1; row < m; row += rows, rows = 1 + rows % 9) {
            attn_gemm part = g;
            part.m = rows < m - row ? rows : m - row;
            part.a = a.data + row * k, part.c = other.data + row * n;
            assert_int_equal(attn_gemm_run(ctx, &part), ATTN_OK);
        }
        assert_memory_equal(c.data, other.data, m * n * sizeof(float));
        attn_packed_free(ctx, &packed);
        attn_context_free(ctx);
    }
    guarded_free_all();
}

static void test_same_bits(void **state) {
    (void)state;
    for (const char *const *level = attn_cpu_levels(); *level; level++) {
        bool scalar = strcmp(*level, "scalar") == 0;
        same_bits_at(*level, scalar ? 40 : 263, scalar ? 50 : 210, 530, ATTN_PANEL_F32);
        same_bits_at(*level, 37, scalar ? 40 : 1200, 300, ATTN_PANEL_BF16);
        same_bits_at(*level, 64, scalar ? 40 : 1536, scalar ? 300 : 512, ATTN_PANEL_F32);
        same_bits_at(*level, scalar ? 7 : 101, 260, scalar ? 1024 : 2048,
                     ATTN_PANEL_F32); /* rows that share a cache set */
        same_bits_at(*level, scalar ? 40 : 263, scalar ? 50 : 210, scalar ? 300 : 2500, ATTN_PANEL_PAIRS);
        same_bits_at(*level, scalar ? 9 : 64, scalar ? 40 : 1536, 65, ATTN_PANEL_PAIRS);
    }
}

static void test_run_many(void **state) {
    (void)state;
    enum { PRODUCTS = 37 };
    for_each_level(ctx, 3) {
        uint64_t seed = 4;
        attn_gemm list[PRODUCTS];
        attn_packed packed[PRODUCTS];
        float *expected[PRODUCTS];
        for (size_t i = 0; i < PRODUCTS; i++) {
            size_t m = 1 + random_below(&seed, 90), n = 1 + random_below(&seed, 90), k = random_below(&seed, 300);
            operand a = make_operand(m, k, (int)random_below(&seed, LAYOUTS), GUARD_AFTER, &seed);
            operand b = make_operand(k, n, (int)random_below(&seed, LAYOUTS), GUARD_AFTER, &seed);
            operand c = make_operand(m, n, PLAIN, GUARD_AFTER, &seed),
                    single = make_operand(m, n, PLAIN, GUARD_AFTER, &seed);
            packed[i] = (attn_packed)ATTN_PACKED_INIT;
            assert_int_equal(
                attn_gemm_pack(ctx, &packed[i], (attn_panel_form)(i % ATTN_PANEL_FORMS), b.data, b.row, b.column, k, n),
                ATTN_OK);
            list[i] = (attn_gemm){.m = m,
                                  .a = a.data,
                                  .a_row = a.row,
                                  .a_column = a.column,
                                  .b = &packed[i],
                                  .c = single.data,
                                  .c_row = (ptrdiff_t)n};
            assert_int_equal(attn_gemm_run(ctx, &list[i]), ATTN_OK);
            expected[i] = single.data;
            list[i].c = c.data;
        }
        assert_int_equal(attn_gemm_run_many(ctx, list, PRODUCTS), ATTN_OK);
        for (size_t i = 0; i < PRODUCTS; i++) {
            assert_memory_equal(list[i].c, expected[i], list[i].m * packed[i].n * sizeof(float));
            attn_packed_free(ctx, &packed[i]);
        }
        assert_int_equal(attn_gemm_run_many(ctx, NULL, 0), ATTN_OK);
        guarded_free_all();
    }
}

/* A form is packed again and again, as in training: memory is kept, and grows only where it has to. */
static void test_pack_again(void **state) {
    (void)state;
    for_each_level(ctx, 1) {
        float b[40 * 40] = {0};
        attn_packed packed = ATTN_PACKED_INIT;
        assert_int_equal(attn_gemm_pack(ctx, &packed, ATTN_PANEL_F32, b, 40, 1, 40, 40), ATTN_OK);
        void *first = packed.data;
        assert_int_equal((uintptr_t)first % 64, 0);
        assert_int_equal(attn_gemm_pack(ctx, &packed, ATTN_PANEL_BF16, b, 1, 40, 40, 40), ATTN_OK);
        assert_ptr_equal(packed.data, first);
        assert_int_equal(packed.form, ATTN_PANEL_BF16);
        assert_int_equal(attn_gemm_pack(ctx, &packed, ATTN_PANEL_F32, b, 40, 1, SIZE_MAX / 8, SIZE_MAX / 8),
                         ATTN_E_NOMEM);
        assert_ptr_equal(packed.data, first);
        attn_packed_free(ctx, &packed);
        assert_null(packed.data);
        attn_packed_free(ctx, NULL);
    }
}

/* Products that pack their right sides into the memory of the one before give the bits of packed ones. */
static void test_matmul_again(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{100, 40, 30}, {130, 20, 17}, {100, 90, 70}, {97, 1, 1}, {100, 40, 30}};
    for_each_level(ctx, 2) {
        uint64_t seed = 12;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            const size_t m = sizes[i][0], n = sizes[i][1], k = sizes[i][2];
            operand a = make_operand(m, k, PLAIN, GUARD_AFTER, &seed),
                    b = make_operand(k, n, PLAIN, GUARD_AFTER, &seed);
            operand c = make_operand(m, n, PLAIN, GUARD_AFTER, &seed),
                    d = make_operand(m, n, PLAIN, GUARD_AFTER, &seed);
            attn_tensor ta = attn_tensor_f32(a.data, 2, m, k), tb = attn_tensor_f32(b.data, 2, k, n),
                        tc = attn_tensor_f32(c.data, 2, m, n);
            assert_int_equal(attn_matmul(ctx, &tc, &ta, &tb, NULL, NULL, ATTN_IDENTITY, false), ATTN_OK);
            attn_packed packed = ATTN_PACKED_INIT;
            assert_int_equal(attn_gemm_pack(ctx, &packed, ATTN_PANEL_F32, b.data, b.row, 1, k, n), ATTN_OK);
            attn_gemm g = {
                .m = m, .a = a.data, .a_row = a.row, .a_column = 1, .b = &packed, .c = d.data, .c_row = d.row};
            assert_int_equal(attn_gemm_run(ctx, &g), ATTN_OK);
            assert_memory_equal(c.data, d.data, m * n * sizeof(float));
            attn_packed_free(ctx, &packed);
        }
        guarded_free_all();
    }
}

/* Right sides that are packed in passing give the bits of packed ones, whatever their strides. */
static void test_chunks(void **state) {
    (void)state;
    static const size_t sizes[][3] = {{97, 1, 1},       {97, 130, 257},  {193, 210, 530}, {100, 50, 1024},
                                      {101, 270, 2048}, {1060, 33, 300}, {110, 800, 256}};
    for (const char *const *level = attn_cpu_levels(); *level; level++) {
        uint64_t seed = 14;
        for (size_t i = 0; i < 4 * ATTN_COUNT(sizes); i++) {
            const size_t m = sizes[i / 4][0], n = sizes[i / 4][1], k = sizes[i / 4][2];
            attn_context *ctx = context_at(*level, 1 + (int)(i % 3));
            operand a = make_operand(m, k, PLAIN, GUARD_AFTER, &seed),
                    bias = make_operand(1, n, PLAIN, GUARD_AFTER, &seed);
            operand b = make_operand(k, n, (int)(i % LAYOUTS), i % 2 ? GUARD_BEFORE : GUARD_AFTER, &seed);
            operand c = make_operand(m, n, PADDED, GUARD_AFTER, &seed),
                    d = make_operand(m, n, PADDED, GUARD_AFTER, &seed);
            memcpy(d.data, c.data, c.elements * sizeof(float));
            attn_packed packed = ATTN_PACKED_INIT;
            assert_int_equal(attn_gemm_pack(ctx, &packed, ATTN_PANEL_F32, b.data, b.row, b.column, k, n), ATTN_OK);
            const bool accumulate = i % 5 == 0;
            attn_gemm g = {.m = m,
                           .a = a.data,
                           .a_row = a.row,
                           .a_column = 1,
                           .b = &packed,
                           .c = c.data,
                           .c_row = c.row,
                           .bias = accumulate ? NULL : bias.data,
                           .residual = accumulate ? NULL : a.data,
                           .residual_row = 1,
                           .act = accumulate ? ATTN_IDENTITY : ATTN_TANH,
                           .accumulate = accumulate};
            if (n > k * m / 2) g.residual = NULL;
            assert_int_equal(attn_gemm_run(ctx, &g), ATTN_OK);
            g.c = d.data, g.b = NULL;
            assert_int_equal(attn_gemm_run_chunks(ctx, &g, b.data, b.row, b.column, k, n), ATTN_OK);
            if (memcmp(c.data, d.data, c.elements * sizeof(float)) != 0)
                fail_msg("%s: %zu × %zu × %zu in layout %zu differs", *level, m, n, k, i % LAYOUTS);
            attn_packed_free(ctx, &packed);
            attn_context_free(ctx);
            guarded_free_all();
        }
    }
}

static void test_column_sums(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{0, 5}, {1, 1}, {7, 67}, {256, 33}, {600, 130}, {257, 64}};
    for_each_level(ctx, 3) {
        uint64_t seed = 21;
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            size_t rows = sizes[i][0], n = sizes[i][1];
            operand x = make_operand(rows, n, PADDED, GUARD_AFTER, &seed),
                    sums = make_operand(1, n, PLAIN, GUARD_AFTER, &seed);
            attn_tensor tx = attn_tensor_f32(x.data, 2, rows, n), ts = attn_tensor_f32(sums.data, 1, n);
            tx.stride[0] = x.row;
            for (int accumulate = 0; accumulate < 2; accumulate++) {
                assert_int_equal(attn_column_sums(ctx, &ts, &tx, accumulate), ATTN_OK);
                for (size_t j = 0; j < n; j++) {
                    double wanted = 0.0;
                    for (size_t r = 0; r < rows; r++) wanted += (double)x.data[(ptrdiff_t)r * x.row + (ptrdiff_t)j];
                    wanted *= 1 + accumulate;
                    assert_true(fabs((double)sums.data[j] - wanted) <= 260.0 * 0x1p-24 * (double)rows * 2.0);
                }
            }
        }
        guarded_free_all();
    }
}

/* The three gradients of y = x Wᵀ + b against sums in double. */
static void test_linear(void **state) {
    (void)state;
    enum { R = 37, N = 50, K = 70 };
    for_each_level(ctx, 2) {
        uint64_t seed = 8;
        static float x[R * K], w[N * K], b[N], dy[R * N], y[R * N], dx[R * K], dw[N * K], db[N], residual[R * N];
        float *all[] = {x, w, b, dy, residual};
        size_t counts[] = {R * K, N * K, N, R * N, R * N};
        for (size_t i = 0; i < 5; i++) fill_random(all[i], counts[i], &seed);
        size_t r = R, n = N, k = K;
        attn_tensor tx = attn_tensor_f32(x, 2, r, k), tw = attn_tensor_f32(w, 2, n, k), tb = attn_tensor_f32(b, 1, n);
        attn_tensor ty = attn_tensor_f32(y, 2, r, n), tdy = attn_tensor_f32(dy, 2, r, n),
                    tdx = attn_tensor_f32(dx, 2, r, k);
        attn_tensor tdw = attn_tensor_f32(dw, 2, n, k), tdb = attn_tensor_f32(db, 1, n),
                    tr = attn_tensor_f32(residual, 2, r, n);
        assert_int_equal(attn_linear_fwd(ctx, &ty, &tx, &tw, &tb, &tr, ATTN_TANH), ATTN_OK);
        ref_gemm forward = {R, N, K, x, K, 1, w, 1, K, b, residual, N, NULL, 0, ATTN_TANH};
        ref_gemm of_x = {R, K, N, dy, N, 1, w, K, 1, NULL, NULL, 0, NULL, 0, ATTN_IDENTITY};
        ref_gemm of_w = {N, K, R, dy, 1, N, x, K, 1, NULL, NULL, 0, NULL, 0, ATTN_IDENTITY};
        double bound;
        for (size_t i = 0; i < R; i++)
            for (size_t j = 0; j < N; j++)
                assert_true(fabs((double)y[i * N + j] - ref_gemm_at(&forward, i, j, &bound)) <= bound);
        for (int times = 1; times <= 2; times++) { /* the second call adds */
            assert_int_equal(attn_linear_bwd(ctx, &tdx, &tdw, &tdb, &tdy, &tx, &tw, times == 2), ATTN_OK);
            for (size_t i = 0; i < R; i++)
                for (size_t j = 0; j < K; j++)
                    assert_true(fabs((double)dx[i * K + j] - times * ref_gemm_at(&of_x, i, j, &bound)) <= 3.0 * bound);
            for (size_t i = 0; i < N; i++)
                for (size_t j = 0; j < K; j++)
                    assert_true(fabs((double)dw[i * K + j] - times * ref_gemm_at(&of_w, i, j, &bound)) <= 3.0 * bound);
        }
        assert_int_equal(attn_linear_bwd(ctx, NULL, NULL, NULL, &tdy, NULL, NULL, false), ATTN_OK);
        assert_int_equal(attn_linear_bwd(ctx, &tdx, NULL, NULL, &tdy, NULL, NULL, false), ATTN_E_ARGUMENT);
        assert_int_equal(attn_linear_fwd(ctx, &tdx, &tx, &tw, NULL, NULL, ATTN_IDENTITY), ATTN_E_SHAPE);
        assert_int_equal(attn_matmul(ctx, &ty, &tx, &tw, NULL, NULL, ATTN_IDENTITY, false), ATTN_E_SHAPE);
        assert_true(strlen(attn_error(ctx)) > 0);
        attn_tensor swapped = attn_tensor_swap(&tw, 0, 1);
        assert_int_equal(attn_matmul(ctx, &ty, &tx, &swapped, &tb, NULL, ATTN_IDENTITY, true), ATTN_E_ARGUMENT);
    }
}

/* A BF16 tensor as B gives the bits that its f32 values, packed as BF16, give. */
static void test_matmul_bf16(void **state) {
    (void)state;
    enum { M = 9, N = 35, K = 40 };
    for_each_level(ctx, 1) {
        uint64_t seed = 30;
        float a[M * K], b[K * N], c[M * N], expected[M * N];
        uint16_t half[K * N];
        fill_random(a, M * K, &seed);
        for (size_t i = 0; i < K * N; i++) {
            b[i] = to_bf16(random_float(&seed));
            uint32_t bits;
            memcpy(&bits, &b[i], sizeof bits);
            half[i] = (uint16_t)(bits >> 16);
        }
        size_t m = M, n = N, k = K;
        attn_tensor ta = attn_tensor_f32(a, 2, m, k), tb = attn_tensor_f32(b, 2, k, n),
                    tc = attn_tensor_f32(c, 2, m, n);
        attn_tensor te = attn_tensor_f32(expected, 2, m, n), th = attn_tensor_of(half, ATTN_BF16, 2, tb.shape);
        assert_int_equal(attn_matmul(ctx, &te, &ta, &tb, NULL, NULL, ATTN_IDENTITY, false), ATTN_OK);
        assert_int_equal(attn_matmul(ctx, &tc, &ta, &th, NULL, NULL, ATTN_IDENTITY, false), ATTN_OK);
        assert_memory_equal(c, expected, sizeof c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_sizes),  cmocka_unit_test(test_around_blocks), cmocka_unit_test(test_zero_sizes),
        cmocka_unit_test(test_same_bits),    cmocka_unit_test(test_run_many),      cmocka_unit_test(test_pack_again),
        cmocka_unit_test(test_column_sums),  cmocka_unit_test(test_linear),        cmocka_unit_test(test_matmul_bf16),
        cmocka_unit_test(test_matmul_again), cmocka_unit_test(test_chunks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
