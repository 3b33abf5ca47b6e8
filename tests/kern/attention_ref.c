/* The reference of the attention operator, before anything is compared with it: what a hand can compute, visible keys
 * as drawings, gradients against differences, and what is masked left alone. */
#include "kern/attention_case.h"

#include <stdio.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void assert_value(const char *what, double found, double expected) {
    if (!(fabs(found - expected) <= 1e-12 * (1 + fabs(expected))))
        fail_msg("%s is %.15g, expected %.15g", what, found, expected);
}

/* ---- by hand ---------------------------------------------------------------------------------------------- */

/* Scores 0 and ln 3: weights 1/4 and 3/4, with a sink of 0 beside them 1/5 and 3/5. */
static void by_hand(void **state) {
    (void)state;
    double query = 1, key[2] = {0, log(3.0)}, value[2] = {10, 20}, dout = 1, dlse = 2;
    const size_t one[4] = {1, 1, 1, 1}, two[4] = {1, 1, 2, 1};
    attn_tensor q = attn_tensor_of(&query, ATTN_F64, 4, one), k = attn_tensor_of(key, ATTN_F64, 4, two),
                v = attn_tensor_of(value, ATTN_F64, 4, two), d = attn_tensor_of(&dout, ATTN_F64, 4, one),
                l = attn_tensor_of(&dlse, ATTN_F64, 3, one);
    ref_attention r = {.q = &q, .k = &k, .v = &v, .dout = &d};
    ref_attention_run(&r);
    assert_value("out", r.out.value[0], 17.5), assert_value("lse", r.lse.value[0], log(4.0));
    assert_value("dv", r.dv.value[0], 0.25), assert_value("dv", r.dv.value[1], 0.75);
    assert_value("dk", r.dk.value[0], -1.875), assert_value("dk", r.dk.value[1], 1.875);
    assert_value("dq", r.dq.value[0], 1.875 * log(3.0));
    ref_attention_free(&r);

    float sink = 0;
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.sinks = &sink;
    r.options = &options, r.dlse = &l;
    ref_attention_run(&r);
    assert_value("out", r.out.value[0], 14), assert_value("lse", r.lse.value[0], log(5.0));
    assert_value("dsinks", r.dsinks.value[0], -0.2 * (14 - 2)); /* −p_sink Δ, Δ = dO·O − dLSE */
    assert_value("dk", r.dk.value[0], 0.2 * (10 - 12));
    ref_attention_free(&r);

    /* Nothing visible: zeros, the sink alone; its slope is that of LSE. */
    const int32_t none = 0;
    options.kv_lengths = &none;
    ref_attention_run(&r);
    assert_value("out", r.out.value[0], 0), assert_value("lse", r.lse.value[0], 0);
    assert_value("dsinks", r.dsinks.value[0], 2), assert_value("dq", r.dq.value[0], 0);
    ref_attention_free(&r);
    options.sinks = NULL;
    ref_attention_run(&r);
    assert_true(r.out.value[0] == 0 && r.lse.value[0] == -(double)INFINITY && r.dv.value[0] == 0);
    ref_attention_free(&r);

    /* cap 1, bias, ALiBi slope 1/2 with the query at 1: tanh(ln 3) = 0.8; z = (b0 − 1/2, 0.8 + b1). */
    float bias[2] = {0.5f, 1.25f}, slope = 0.5f;
    const size_t row[4] = {1, 1, 1, 2};
    const int64_t position = 1;
    attn_tensor bias_tensor = attn_tensor_of(bias, ATTN_F32, 4, row);
    options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    options.softcap = 1, options.bias = &bias_tensor, options.alibi = &slope, options.query_offset = &position;
    r.dlse = NULL;
    ref_attention_run(&r);
    double p1 = 1 / (1 + exp(-2.05));
    assert_value("out", r.out.value[0], 10 + 10 * p1), assert_value("lse", r.lse.value[0], log(1 + exp(2.05)));
    assert_value("dbias", r.dbias.value[1], 10 * p1 * (1 - p1));
    assert_value("dk", r.dk.value[1], 10 * p1 * (1 - p1) * (1 - 0.8 * 0.8));
    ref_attention_free(&r);
}

/* ---- what is visible ----------------------------------------------------------------------------------- */

/* Rows of queries, '1' for a key that is seen. */
static void assert_visible(const char *what, const attn_attention_options *o, size_t queries, size_t keys,
                           const char *drawing) {
    const size_t q_shape[4] = {1, 1, queries, 1}, k_shape[4] = {1, 1, keys, 1};
    attn_tensor q = attn_tensor_of(NULL, ATTN_F32, 4, q_shape), k = attn_tensor_of(NULL, ATTN_F32, 4, k_shape);
    ref_attention r = {.q = &q, .k = &k, .v = &k, .options = o};
    for (size_t i = 0; i < queries; i++)
        for (size_t j = 0; j < keys; j++)
            if (ref_attention_visible(&r, 0, 0, i, j) != (drawing[i * (keys + 1) + j] == '1'))
                fail_msg("%s: query %zu, key %zu is %c", what, i, j, drawing[i * (keys + 1) + j] == '1' ? '0' : '1');
}

static void causal_kinds(void **state) {
    (void)state;
    attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
    const int64_t one = 1, back = -1;
    const int32_t four = 4, two = 2, three = 3;
    assert_visible("none", &o, 3, 5, "11111 11111 11111");
    o.causal = ATTN_CAUSAL_TOP_LEFT;
    assert_visible("top-left", &o, 3, 5, "10000 11000 11100");
    o.window_left = 1;
    assert_visible("window 1 to the left", &o, 3, 5, "10000 11000 01100");
    o.window_left = -1, o.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
    assert_visible("bottom-right", &o, 3, 5, "11100 11110 11111");
    assert_visible("bottom-right, fewer keys", &o, 4, 2, "00 00 10 11");
    o.kv_lengths = &four;
    assert_visible("bottom-right, 4 keys of 5", &o, 3, 5, "11000 11100 11110");
    o.q_lengths = &two;
    assert_visible("bottom-right, 2 queries of 3", &o, 3, 5, "11100 11110 00000");
    o = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    o.causal = ATTN_CAUSAL_OFFSET;
    assert_visible("offset 0", &o, 3, 5, "10000 11000 11100");
    o.query_offset = &one;
    assert_visible("offset 1", &o, 3, 5, "11000 11100 11110");
    o.query_offset = &back;
    assert_visible("offset -1", &o, 3, 5, "00000 10000 11000");
    o.prefix = &three;
    assert_visible("offset -1, prefix 3", &o, 3, 5, "11100 11100 11100");
    o.prefix = NULL, o.causal = ATTN_CAUSAL_NONE, o.window_left = 1, o.window_right = 0, o.query_offset = &one;
    assert_visible("window 1, 0 from 1", &o, 3, 5, "11000 01100 00110");
    o.window_left = 0, o.window_right = 2;
    assert_visible("window 0, 2 from 1", &o, 3, 5, "01110 00111 00011");
}

static void structures(void **state) {
    (void)state;
    attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
    int32_t ids_q[3] = {0, 1, 1}, ids_k[5] = {0, 0, 1, 1, 2};
    const size_t n3[2] = {1, 3}, n5[2] = {1, 5};
    attn_tensor sq = attn_tensor_of(ids_q, ATTN_I32, 2, n3), sk = attn_tensor_of(ids_k, ATTN_I32, 2, n5);
    o.segments_q = &sq, o.segments_k = &sk;
    assert_visible("segments", &o, 3, 5, "11000 00110 00110");
    o.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
    assert_visible("segments, bottom-right", &o, 3, 5, "11000 00110 00110");

    o = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    unsigned char tree[3] = {1, 3, 5};
    const size_t tree_shape[3] = {1, 3, 1};
    attn_tensor t = attn_tensor_of(tree, ATTN_U8, 3, tree_shape);
    o.tree = &t;
    assert_visible("tree", &o, 3, 5, "11100 11110 11101");
    assert_visible("tree, fewer keys than queries", &o, 3, 2, "00 10 01"); /* bits 1 and 2 */

    o = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    unsigned char bytes[10] = {1, 0, 7, 0, 0, 0, 0, 0, 255, 1}, bits[4] = {0x05, 0x00, 0x18, 0x01};
    const size_t byte_shape[4] = {1, 1, 2, 5}, bit_shape[4] = {1, 1, 2, 2}, one_row[4] = {1, 1, 1, 5};
    attn_tensor m = attn_tensor_of(bytes, ATTN_U8, 4, byte_shape);
    o.mask = &m, o.mask_format = ATTN_MASK_KEEP_BYTES;
    assert_visible("keep bytes", &o, 2, 5, "10100 00011");
    o.mask_format = ATTN_MASK_DROP_BYTES;
    assert_visible("drop bytes", &o, 2, 5, "01011 11100");
    m = attn_tensor_of(bytes, ATTN_U8, 4, one_row);
    assert_visible("one row for all", &o, 3, 5, "01011 01011 01011");
    m = attn_tensor_of(bits, ATTN_U8, 4, bit_shape), o.mask_format = ATTN_MASK_DROP_BITS;
    assert_visible("drop bits", &o, 2, 9, "010111111 111001110");
    o.mask_format = ATTN_MASK_KEEP_BITS;
    assert_visible("keep bits", &o, 2, 9, "101000000 000110001");

    o = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    float bias[3] = {-INFINITY, -1e30f, 0};
    const size_t bias_shape[4] = {1, 1, 1, 3};
    attn_tensor b = attn_tensor_of(bias, ATTN_F32, 4, bias_shape);
    o.bias = &b;
    assert_visible("bias", &o, 2, 3, "011 011");
}

/* ---- gradients against differences ------------------------------------------------------------------ */

static double loss_of(const struct attention_case *c, const double *dout, const double *dlse) {
    ref_attention r = {.q = &c->q, .k = &c->k, .v = &c->v, .options = &c->options};
    ref_attention_run(&r);
    double sum = 0;
    for (size_t i = 0; i < r.out.count; i++) sum += dout[i] * r.out.value[i];
    for (size_t i = 0; c->with_dlse && i < r.lse.count; i++)
        if (isfinite(r.lse.value[i])) sum += dlse[i] * r.lse.value[i];
    ref_attention_free(&r);
    return sum;
}

static void check_slopes(struct attention_case *c, const char *what, const attn_tensor *x, const ref_array *gradient,
                         const double *dout, const double *dlse, double h) {
    static const double steps[4] = {-2, -1, 1, 2}, factors[4] = {1, -8, 8, -1};
    uint64_t random = c->seed;
    for (int n = 0; gradient->count && n < 5; n++) {
        size_t i = case_below(&random, gradient->count);
        ptrdiff_t place = ref_place(x, i);
        double at = ref_load(x, place), slope = 0;
        if (!isfinite(at)) continue;
        for (int k = 0; k < 4; k++) {
            ref_store(x, place, at + steps[k] * h);
            slope += factors[k] * loss_of(c, dout, dlse) / (12 * h);
        }
        ref_store(x, place, at);
        if (!(fabs(slope - gradient->value[i]) <= 2e-6 * (1 + fabs(slope))))
            fail_msg("%s[%zu] is %.12g, by differences %.12g: %s", what, i, gradient->value[i], slope, case_text(c));
    }
}

static void differences(void **state) {
    (void)state;
    struct case_limits limits = case_any;
    limits.budget = 4096, limits.doubles = limits.all_wanted = true, limits.junk = limits.visible_nan = false;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct attention_case c;
        case_make(&c, seed, &limits);
        if (c.shared_inputs) {
            case_release();
            continue;
        }
        double *dout = case_values(&c.dout), *dlse = case_values(&c.dlse);
        ref_attention r = {.q = &c.q, .k = &c.k, .v = &c.v, .options = &c.options, .dout = &c.dout};
        r.dlse = c.with_dlse ? &c.dlse : NULL;
        ref_attention_run(&r);
        check_slopes(&c, "dq", &c.q, &r.dq, dout, dlse, 0x1p-10);
        check_slopes(&c, "dk", &c.k, &r.dk, dout, dlse, 0x1p-10);
        check_slopes(&c, "dv", &c.v, &r.dv, dout, dlse, 0x1p-10);
        if (c.options.bias) check_slopes(&c, "dbias", c.options.bias, &r.dbias, dout, dlse, 0x1p-10);
        if (c.options.sinks) {
            attn_tensor sinks = attn_tensor_of((float *)(uintptr_t)c.options.sinks, ATTN_F32, 1, &c.h);
            check_slopes(&c, "dsinks", &sinks, &r.dsinks, dout, dlse, 0x1p-8);
        }
        ref_attention_free(&r);
        free(dout), free(dlse);
        case_release();
    }
}

/* ---- what is masked ------------------------------------------------------------------------------------- */

static void same_values(const struct attention_case *c, const char *what, const ref_array *a, const ref_array *b) {
    if (a->count && (memcmp(a->value, b->value, a->count * sizeof *a->value) != 0 ||
                     memcmp(a->bound, b->bound, a->count * sizeof *a->bound) != 0))
        fail_msg("%s depends on what is masked: %s", what, case_text(c));
}

static void masked(void **state) {
    (void)state;
    struct case_limits limits = case_any;
    limits.budget = 16384, limits.junk = limits.visible_nan = false, limits.all_wanted = true;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct attention_case c;
        case_make(&c, seed, &limits);
        ref_attention clean = case_reference(&c), dirty;
        if (!c.shared_inputs) case_plant_junk(&c);
        dirty = case_reference(&c);
#define SAME(name, field) same_values(&c, #field, &clean.field, &dirty.field);
        CASE_RESULTS(SAME)
#undef SAME
        for (size_t i = 0; i < dirty.out.count; i++) assert_true(isfinite(dirty.out.value[i]));
        ref_attention_free(&clean), ref_attention_free(&dirty);
        case_release();
    }
}

/* ---- numbers --------------------------------------------------------------------------------------------- */

static void sixteen_bits(void **state) {
    (void)state;
    static const attn_dtype dtypes[] = {ATTN_BF16, ATTN_F16};
    const size_t two = 2;
    for (size_t d = 0; d < COUNT(dtypes); d++) {
        uint16_t bits[2];
        attn_tensor t = attn_tensor_of(bits, dtypes[d], 1, &two);
        for (uint32_t x = 0; x < 0xffff; x++) {
            bits[0] = (uint16_t)x, bits[1] = (uint16_t)(x + 1);
            double a = ref_load(&t, 0), b = ref_load(&t, 1);
            if (!isfinite(a) || !isfinite(b) || (x & 0x7fff) == 0x7fff) continue;
            ref_store(&t, 0, a);
            assert_int_equal(bits[0], x);
            assert_true(fabs(b - a) == ref_ulp(dtypes[d], a));
            ref_store(&t, 0, a + (b - a) / 2); /* to even */
            assert_int_equal(bits[0], x % 2 ? x + 1 : x);
            ref_store(&t, 0, a + (b - a) * 0.51);
            assert_int_equal(bits[0], x + 1);
        }
    }
    uint16_t bits;
    attn_tensor t = attn_tensor_of(&bits, ATTN_F16, 0, NULL);
    ref_store(&t, 0, 65519), assert_true(ref_load(&t, 0) == 65504);
    ref_store(&t, 0, -65520), assert_true(ref_load(&t, 0) == -(double)INFINITY);
    ref_store(&t, 0, 1), assert_int_equal(bits, 0x3c00);
    ref_store(&t, 0, NAN), assert_true(isnan(ref_load(&t, 0)));
}

/* As many are dropped as p says, and the rest is divided by 1 − p. */
static void dropped(void **state) {
    (void)state;
    enum { N = 4096 };
    const size_t q_shape[4] = {1, 2, 3, 1}, k_shape[4] = {1, 1, N, 1};
    double *zeros = calloc(N, sizeof *zeros), *ones = malloc(N * sizeof *ones);
    for (size_t i = 0; i < N; i++) ones[i] = 1;
    attn_tensor q = attn_tensor_of(zeros, ATTN_F64, 4, q_shape), k = attn_tensor_of(zeros, ATTN_F64, 4, k_shape),
                v = attn_tensor_of(ones, ATTN_F64, 4, k_shape);
    attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
    o.dropout = 0.25f, o.seed = 7;
    ref_attention r = {.q = &q, .k = &k, .v = &v, .options = &o};
    ref_attention_run(&r);
    for (size_t i = 0; i < r.out.count; i++) {
        assert_true(fabs(r.out.value[i] - 1) < 0.05 && r.out.value[i] != 1);
        for (size_t j = 0; j < i; j++) assert_true(r.out.value[i] != r.out.value[j]);
    }
    assert_value("lse", r.lse.value[0], log(N));
    ref_attention_free(&r);
    free(zeros), free(ones);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_hand),    cmocka_unit_test(causal_kinds),
                                       cmocka_unit_test(structures), cmocka_unit_test(differences),
                                       cmocka_unit_test(masked),     cmocka_unit_test(sixteen_bits),
                                       cmocka_unit_test(dropped)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
