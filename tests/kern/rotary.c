/* Rotary position embedding on every CPU level: three dtypes, both forms of pairs, strides, positions, in place, NaN.
 */
#include "kern/guard.h"

/* ---- sixteen bits, through double ------------------------------------------------------------------ */

static double half_value(uint16_t h, attn_dtype dtype) {
    int mantissa_bits = dtype == ATTN_F16 ? 10 : 7, bias = dtype == ATTN_F16 ? 15 : 127;
    int exponent = (h & 0x7fff) >> mantissa_bits, mantissa = h & ((1 << mantissa_bits) - 1);
    double sign = h & 0x8000 ? -1 : 1;
    if (exponent == 2 * bias + 1) return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

/* The nearest number of the dtype, ties to even. */
static double half_nearest(double x, attn_dtype dtype) {
    int mantissa_bits = dtype == ATTN_F16 ? 10 : 7, smallest = dtype == ATTN_F16 ? -14 : -126, exponent;
    if (isnan(x) || isinf(x) || x == 0) return x;
    frexp(x, &exponent);
    double unit = ldexp(1, (exponent - 1 > smallest ? exponent - 1 : smallest) - mantissa_bits);
    double y = rint(x / unit) * unit, largest = dtype == ATTN_F16 ? 65504 : 0x1.fep127;
    return fabs(y) > largest ? copysign((double)INFINITY, x) : y;
}

/* Any bits but a NaN's and, of bf16, but subnormal ones. */
static uint16_t half_random(attn_dtype dtype) {
    for (;;) {
        uint16_t h = (uint16_t)(guard_uniform() * 65536);
        double x = fabs(half_value(h, dtype));
        if (x == 0 || (x > 1e-6 && x < 1e4)) return h;
    }
}

static double value_at(const void *data, size_t i, attn_dtype dtype) {
    return dtype == ATTN_F32 ? (double)((const float *)data)[i] : half_value(((const uint16_t *)data)[i], dtype);
}

/* ---- against the formula --------------------------------------------------------------------------- */

struct shape {
    size_t batch, heads, steps, size, turned;
    bool interleaved, inverse, by_position, in_place, heads_inside, one_table;
};

enum { POSITIONS = 9, GAP = 3 };

/* (B, H, T, D) in memory that is (B, T, H, D + GAP), or (B, H, T, D + GAP). The last row ends at a forbidden page. */
static attn_tensor tensor_of(void *data, attn_dtype dtype, const struct shape *s) {
    size_t shape[] = {s->batch, s->heads, s->steps, s->size};
    attn_tensor t = attn_tensor_of(data, dtype, 4, shape);
    ptrdiff_t row = (ptrdiff_t)(s->size + GAP), heads = (ptrdiff_t)s->heads, steps = (ptrdiff_t)s->steps;
    t.stride[0] = row * heads * steps;
    t.stride[1] = s->heads_inside ? row : row * steps;
    t.stride[2] = s->heads_inside ? row * heads : row;
    return t;
}

static void check_row(const struct shape *s, attn_dtype dtype, const void *y, const void *x, size_t at,
                      const float *cos, const float *sin) {
    size_t half = s->turned / 2;
    for (size_t i = 0; i < s->size; i++) {
        double found = value_at(y, at + i, dtype), x1, x2;
        if (i >= s->turned) {
            if (found != value_at(x, at + i, dtype)) fail_msg("element %zu of what is copied is %g", i, found);
            continue;
        }
        size_t pair = s->interleaved ? i / 2 : i % half;
        bool second = s->interleaved ? i % 2 != 0 : i >= half;
        x1 = value_at(x, at + (s->interleaved ? 2 * pair : pair), dtype);
        x2 = value_at(x, at + (s->interleaved ? 2 * pair + 1 : pair + half), dtype);
        double c = (double)cos[pair], n = s->inverse ? -(double)sin[pair] : (double)sin[pair];
        double exact = second ? x2 * c + x1 * n : x1 * c - x2 * n, size = fabs(x1 * c) + fabs(x2 * n);
        if (second) size = fabs(x2 * c) + fabs(x1 * n);
        if (dtype == ATTN_F32) {
            if (!(fabs(found - exact) <= 0x1p-23 * size))
                fail_msg("element %zu is %.9g, expected %.9g", i, found, exact);
        } else { /* the nearest 16-bit number to the f32 result, to the bit */
            float f1 = (float)x1, f2 = (float)x2, fc = (float)c, fn = (float)n;
            double rounded = (double)(second ? fmaf(f1, fn, f2 * fc) : fmaf(-f2, fn, f1 * fc));
            if (found != half_nearest(rounded, dtype))
                fail_msg("%s: element %zu is %.9g, expected the nearest to %.9g", attn_dtype_name(dtype), i, found,
                         rounded);
        }
    }
}

static void *random_elements(size_t n, attn_dtype dtype) {
    if (dtype == ATTN_F32) return guard_normal(n, 3);
    uint16_t *x = guard_bytes(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = half_random(dtype);
    return x;
}

static void one_case(attn_context *ctx, attn_dtype dtype, const struct shape *s) {
    size_t rows = s->batch * s->heads * s->steps, half = s->turned / 2, n = rows * (s->size + GAP) - GAP;
    size_t bytes = n * attn_dtype_size(dtype), tables = s->by_position ? POSITIONS : s->one_table ? 1 : s->batch;
    char *x = random_elements(n, dtype), *y = guard_bytes(bytes), *before = guard_bytes(bytes);
    size_t angles = tables * (s->by_position ? 1 : s->steps);
    float *cos = guard_normal(angles * half, 1), *sin = guard_normal(angles * half, 1);
    int64_t *positions = s->by_position ? guard_bytes(s->batch * s->steps * sizeof *positions) : NULL;
    for (size_t i = 0; s->by_position && i < s->batch * s->steps; i++)
        positions[i] = (int64_t)(guard_uniform() * POSITIONS);
    memcpy(before, x, bytes);
    memcpy(y, x, bytes);
    if (s->in_place) y = x;
    attn_tensor tx = tensor_of(x, dtype, s), ty = tensor_of(y, dtype, s);
    attn_tensor tc = attn_tensor_f32(cos, 3, tables, s->steps, half), ts = tc;
    if (s->by_position) tc = ts = attn_tensor_f32(cos, 2, tables, half);
    ts.data = sin;
    assert_ok(ctx, attn_rotary_embedding(ctx, &ty, &tx, &tc, &ts, positions, s->turned == s->size ? 0 : s->turned,
                                         s->interleaved, s->inverse));
    for (size_t r = 0; r < rows; r++) {
        size_t i = r % s->steps, h = r / s->steps % s->heads, b = r / s->steps / s->heads;
        size_t at = b * (size_t)tx.stride[0] + h * (size_t)tx.stride[1] + i * (size_t)tx.stride[2];
        size_t angle = positions ? (size_t)positions[b * s->steps + i] : (s->one_table ? 0 : b * s->steps) + i;
        check_row(s, dtype, y, before, at, cos + angle * half, sin + angle * half);
        size_t size = attn_dtype_size(dtype), gap = r + 1 < rows ? GAP * size : 0;
        size_t end = (r * (s->size + GAP) + s->size) * size; /* rows lie one after the other in both layouts */
        if (memcmp(y + end, before + end, gap) != 0) fail_msg("what lies between the rows has changed");
    }
    guard_release();
}

static void formula(void **state) {
    (void)state;
    static const size_t sizes[] = {2, 4, 6, 14, 16, 18, 30, 32, 34, 64, 66, 128, 130, 256, 576};
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_F16};
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 2);
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++)
            for (size_t d = 0; d < 3; d++)
                for (size_t bits = (k + d) % 3; bits < 64; bits += 3) {
                    struct shape s = {.batch = 2, .heads = 3, .steps = 5, .size = sizes[k] + bits % 3};
                    s.turned = s.size == sizes[k] ? s.size : sizes[k];
                    s.interleaved = bits & 1, s.inverse = bits & 2, s.by_position = bits & 4, s.in_place = bits & 8;
                    s.heads_inside = bits & 16, s.one_table = bits & 32;
                    one_case(ctx, dtypes[d], &s);
                }
        attn_context_free(ctx);
    }
}

/* cos 1 and sin 0 give every 16-bit number back, subnormal ones of f16 too; a NaN stays one. */
static void every_half(void **state) {
    (void)state;
    enum { ROWS = 1024, SIZE = 64 };
    for (int d = 0; d < 2; d++) {
        attn_dtype dtype = d ? ATTN_F16 : ATTN_BF16;
        FOR_LEVELS(level) {
            attn_context *ctx = guard_context(*level, 1);
            uint16_t *x = guard_bytes(sizeof *x * ROWS * SIZE), *y = guard_bytes(sizeof *y * ROWS * SIZE);
            float *one = guard_floats(ROWS * SIZE / 2), *zero = guard_floats(ROWS * SIZE / 2);
            for (size_t i = 0; i < ROWS * SIZE; i++) {
                x[i] = (uint16_t)i; /* not finite: alone in its pair, lest 0·∞ reaches the other */
                if (i % SIZE >= SIZE / 2 && !isfinite(half_value(x[i], dtype))) x[i] = 0;
            }
            for (size_t i = 0; i < ROWS * SIZE / 2; i++) one[i] = 1, zero[i] = 0;
            size_t shape[] = {1, 1, ROWS, SIZE};
            attn_tensor tx = attn_tensor_of(x, dtype, 4, shape), ty = attn_tensor_of(y, dtype, 4, shape);
            attn_tensor tc = attn_tensor_f32(one, 3, (size_t)1, (size_t)ROWS, (size_t)SIZE / 2), ts = tc;
            ts.data = zero;
            assert_ok(ctx, attn_rotary_embedding(ctx, &ty, &tx, &tc, &ts, NULL, 0, false, false));
            for (size_t i = 0; i < ROWS * SIZE; i++) {
                double expected = half_value(x[i], dtype), found = half_value(y[i], dtype);
                size_t other = i % SIZE < SIZE / 2 ? i + SIZE / 2 : i - SIZE / 2;
                if (!isfinite(half_value(x[other], dtype))) continue;
                if (dtype == ATTN_BF16 && fabs(expected) < 0x1p-126) continue; /* subnormal f32 count as zero */
                if (found != expected && !(isnan(found) && isnan(expected)))
                    fail_msg("%s %s: %04x gave %04x", *level, attn_dtype_name(dtype), x[i], y[i]);
            }
            guard_release();
            attn_context_free(ctx);
        }
    }
}

/* A NaN or an infinity reaches its own pair and nothing else. */
static void not_finite(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (int interleaved = 0; interleaved < 2; interleaved++) {
            float x[24], y[24], cos[8], sin[8];
            for (int i = 0; i < 24; i++) x[i] = (float)i;
            for (int i = 0; i < 8; i++) cos[i] = 0.6f, sin[i] = 0.8f;
            x[3] = NAN, x[20] = INFINITY;
            attn_tensor tx = attn_tensor_f32(x, 4, (size_t)1, (size_t)1, (size_t)1, (size_t)24), ty = tx;
            attn_tensor tc = attn_tensor_f32(cos, 3, (size_t)1, (size_t)1, (size_t)8), ts = tc;
            ty.data = y, ts.data = sin;
            assert_ok(ctx, attn_rotary_embedding(ctx, &ty, &tx, &tc, &ts, NULL, 16, interleaved, false));
            for (int i = 0; i < 24; i++) {
                bool pair = interleaved ? i == 2 || i == 3 : i == 3 || i == 11;
                if (i == 20) assert_true(isinf(y[i]));
                else assert_int_equal(isnan(y[i]) != 0, pair);
            }
        }
        attn_context_free(ctx);
    }
}

static void threads(void **state) {
    (void)state;
    enum { B = 2, H = 4, T = 300, D = 80 };
    size_t shape[] = {B, H, T, D};
    float *first = NULL;
    FOR_LEVELS(level) { /* pairs have lanes of their own: the levels agree too */
        for (size_t k = 0; k < sizeof guard_threads / sizeof guard_threads[0]; k++) {
            attn_context *ctx = guard_context(*level, guard_threads[k]);
            guard_state = 5;
            float *x = guard_normal((size_t)B * H * T * D, 1), *y = guard_floats((size_t)B * H * T * D);
            float *cos = guard_normal((size_t)T * D / 2, 1), *sin = guard_normal((size_t)T * D / 2, 1);
            attn_tensor tx = attn_tensor_of(x, ATTN_F32, 4, shape), ty = attn_tensor_of(y, ATTN_F32, 4, shape);
            attn_tensor tc = attn_tensor_f32(cos, 3, (size_t)1, (size_t)T, (size_t)D / 2), ts = tc;
            ts.data = sin;
            assert_ok(ctx, attn_rotary_embedding(ctx, &ty, &tx, &tc, &ts, NULL, 0, false, false));
            if (first) assert_same_bits("y", y, first, (size_t)B * H * T * D);
            else first = y;
            attn_context_free(ctx);
        }
    }
    guard_release();
}

static void refusals(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    float x[64] = {0}, y[64] = {0}, table[64] = {0};
    int64_t positions[] = {0, 1, 2, 4};
    attn_tensor tx = attn_tensor_f32(x, 4, (size_t)2, (size_t)1, (size_t)2, (size_t)6), ty = tx;
    ty.data = y;
    attn_tensor steps = attn_tensor_f32(table, 3, (size_t)1, (size_t)2, (size_t)3);
    attn_tensor rows = attn_tensor_f32(table, 2, (size_t)4, (size_t)3), bad, odd;
#define REFUSED(status, text, ...)                                                       \
    do {                                                                                 \
        assert_int_equal(attn_rotary_embedding(ctx, __VA_ARGS__, false, false), status); \
        assert_string_equal(attn_error(ctx), "attn_rotary_embedding: " text);            \
    } while (0)
    REFUSED(ATTN_E_ARGUMENT, "x is NULL", &ty, NULL, &steps, &steps, NULL, 0);
    REFUSED(ATTN_E_ARGUMENT, "y is NULL", NULL, &tx, &steps, &steps, NULL, 0);
    REFUSED(ATTN_E_ARGUMENT, "cos is NULL", &ty, &tx, NULL, &steps, NULL, 0);
    REFUSED(ATTN_E_ARGUMENT, "sin is NULL", &ty, &tx, &steps, NULL, NULL, 0);
    REFUSED(ATTN_E_SHAPE, "rotary_dim is 8, expected an even number up to D, 6", &ty, &tx, &steps, &steps, NULL, 8);
    REFUSED(ATTN_E_SHAPE, "rotary_dim is 3, expected an even number up to D, 6", &ty, &tx, &steps, &steps, NULL, 3);
    REFUSED(ATTN_E_SHAPE, "cos has shape (1, 2, 3), expected (?, 2, 2)", &ty, &tx, &steps, &steps, NULL, 4);
    REFUSED(ATTN_E_SHAPE, "cos has shape (4, 3), expected (?, 2, 3)", &ty, &tx, &rows, &rows, NULL, 0);
    REFUSED(ATTN_E_SHAPE, "sin has shape (1, 2, 3), expected (4, 3)", &ty, &tx, &rows, &steps, positions, 0);
    REFUSED(ATTN_E_ARGUMENT, "positions[3] is 4, expected 0 to 3: cos has 4 rows", &ty, &tx, &rows, &rows, positions,
            0);
    bad = attn_tensor_f32(table, 3, (size_t)3, (size_t)2, (size_t)3);
    REFUSED(ATTN_E_SHAPE, "cos has 3 sequences, expected 2 or 1", &ty, &tx, &bad, &bad, NULL, 0);
    bad = tx, bad.dtype = ATTN_I32;
    REFUSED(ATTN_E_UNSUPPORTED, "x is I32, expected F32, BF16 or F16", &ty, &bad, &steps, &steps, NULL, 0);
    bad = ty, bad.dtype = ATTN_F16;
    REFUSED(ATTN_E_ARGUMENT, "y is F16, but x is F32", &bad, &tx, &steps, &steps, NULL, 0);
    bad = ty, bad.shape[2] = 1;
    REFUSED(ATTN_E_SHAPE, "y has shape (2, 1, 1, 6), but x has (2, 1, 2, 6)", &bad, &tx, &steps, &steps, NULL, 0);
    bad = ty, bad.stride[2] = 0;
    REFUSED(ATTN_E_ARGUMENT, "y has stride 0 in dimension 2 of 2", &bad, &tx, &steps, &steps, NULL, 0);
    bad = tx, bad.data = x + 1;
    REFUSED(ATTN_E_ARGUMENT, "y overlaps x, expected x itself or memory of its own", &bad, &tx, &steps, &steps, NULL,
            0);
    odd = tx, odd.stride[3] = 2;
    REFUSED(ATTN_E_UNSUPPORTED, "x has last stride 2, expected 1", &ty, &odd, &steps, &steps, NULL, 0);
    bad = tx, bad.rank = 3;
    REFUSED(ATTN_E_SHAPE, "x has rank 3, expected 4: (B, H, T, D)", &ty, &bad, &steps, &steps, NULL, 0);
    bad = tx, bad.data = NULL;
    REFUSED(ATTN_E_ARGUMENT, "x has no data", &ty, &bad, &steps, &steps, NULL, 0);
#undef REFUSED
    attn_tensor none = attn_tensor_f32(NULL, 4, (size_t)2, (size_t)0, (size_t)2, (size_t)6);
    assert_ok(ctx, attn_rotary_embedding(ctx, &none, &none, &steps, &steps, NULL, 0, false, false));
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formula), cmocka_unit_test(every_half),
                                       cmocka_unit_test(not_finite), cmocka_unit_test(threads),
                                       cmocka_unit_test(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
