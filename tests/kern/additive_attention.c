/* Additive and dot attention on every CPU level: values, gradients against differences, strides as in a time-major
 * decoder, padding that may hold NaN, and the same bits for any threads, any batch and one step at a time. */
#include "kern/guard.h"
#include "ref/ops.h"

enum { ADDITIVE, DOT };
static const float scale = 0.3f;

/* A batch in memory: time-major tensors (S, B, ·), seen as (B, S, ·). */
struct batch {
    size_t b, t, s, a, c;
    const int32_t *lengths;
    float *query, *key, *v, *value, *context, *alignment, *energy, *lse;
    float *dcontext, *dquery, *dkey, *dv, *dvalue;
};

static attn_tensor time_major(float *data, size_t b, size_t n, size_t width) {
    attn_tensor t = attn_tensor_f32(data, 3, n, b, width);
    return attn_tensor_swap(&t, 0, 1);
}

static struct batch batch_make(size_t b, size_t t, size_t s, size_t a, size_t c, const int32_t *lengths) {
    struct batch x = {.b = b, .t = t, .s = s, .a = a, .c = c, .lengths = lengths};
    x.query = guard_normal(t * b * a, 1), x.key = guard_normal(s * b * a, 1), x.v = guard_normal(a, 0.5f);
    x.value = guard_normal(s * b * c, 1), x.dcontext = guard_normal(t * b * c, 1);
    x.context = guard_normal(t * b * c, 1), x.alignment = guard_normal(t * b * s, 1);
    x.energy = guard_normal(t * b * s, 1), x.lse = guard_normal(t * b, 1);
    x.dquery = guard_normal(t * b * a, 1), x.dkey = guard_normal(s * b * a, 1), x.dv = guard_normal(a, 1);
    x.dvalue = guard_normal(s * b * c, 1);
    return x;
}

static void forward(attn_context *ctx, const struct batch *x, int kind) {
    attn_tensor q = time_major(x->query, x->b, x->t, x->a), k = time_major(x->key, x->b, x->s, x->a);
    attn_tensor h = time_major(x->value, x->b, x->s, x->c), c = time_major(x->context, x->b, x->t, x->c);
    attn_tensor alignment = time_major(x->alignment, x->b, x->t, x->s),
                energy = time_major(x->energy, x->b, x->t, x->s);
    attn_tensor v = attn_tensor_f32(x->v, 1, x->a), l = attn_tensor_f32(x->lse, 2, x->t, x->b);
    attn_tensor lse = attn_tensor_swap(&l, 0, 1);
    const attn_tensor *pa = x->alignment ? &alignment : NULL, *pe = x->energy ? &energy : NULL;
    if (kind == ADDITIVE)
        assert_ok(ctx, attn_additive_attention_fwd(ctx, &c, x->lse ? &lse : NULL, pa, pe, &q, &k, &v, &h, x->lengths));
    else assert_ok(ctx, attn_dot_attention_fwd(ctx, &c, pa, pe, &q, &k, &h, scale, x->lengths));
}

static void backward(attn_context *ctx, const struct batch *x, int kind, bool accumulate) {
    attn_tensor q = time_major(x->query, x->b, x->t, x->a), k = time_major(x->key, x->b, x->s, x->a);
    attn_tensor h = time_major(x->value, x->b, x->s, x->c), dc = time_major(x->dcontext, x->b, x->t, x->c);
    attn_tensor alignment = time_major(x->alignment, x->b, x->t, x->s), v = attn_tensor_f32(x->v, 1, x->a);
    attn_tensor dq = time_major(x->dquery, x->b, x->t, x->a), dk = time_major(x->dkey, x->b, x->s, x->a);
    attn_tensor dh = time_major(x->dvalue, x->b, x->s, x->c), dv = attn_tensor_f32(x->dv, 1, x->a);
    const attn_tensor *pq = x->dquery ? &dq : NULL, *pk = x->dkey ? &dk : NULL, *ph = x->dvalue ? &dh : NULL;
    const attn_tensor *pv = x->dv ? &dv : NULL;
    if (kind == ADDITIVE)
        assert_ok(ctx, attn_additive_attention_bwd(ctx, pq, pk, pv, ph, &dc, &q, &k, &v, &h, &alignment, x->lengths,
                                                   accumulate));
    else
        assert_ok(ctx,
                  attn_dot_attention_bwd(ctx, pq, pk, ph, &dc, &q, &k, &h, &alignment, scale, x->lengths, accumulate));
}

/* One sequence of the batch in doubles, (T, ·) and (S, ·). */
struct sequence {
    ref_alignment r;
    double *query, *key, *v, *value, *dcontext, *context;
};

static double *gather(const float *from, size_t b, size_t batch, size_t n, size_t width) {
    double *to = guard_doubles(NULL, n * width);
    for (size_t i = 0; i < n * width; i++) to[i] = (double)from[(i / width * batch + b) * width + i % width];
    return to;
}

static struct sequence sequence_of(const struct batch *x, size_t b, int kind) {
    struct sequence q = {.query = gather(x->query, b, x->b, x->t, x->a),
                         .key = gather(x->key, b, x->b, x->s, x->a),
                         .value = gather(x->value, b, x->b, x->s, x->c),
                         .dcontext = gather(x->dcontext, b, x->b, x->t, x->c),
                         .context = guard_doubles(NULL, x->t * x->c),
                         .v = guard_doubles(x->v, x->a)};
    q.r = (ref_alignment){x->t,
                          x->s,
                          x->a,
                          x->c,
                          x->lengths ? (size_t)x->lengths[b] : x->s,
                          q.query,
                          q.key,
                          kind == ADDITIVE ? q.v : NULL,
                          q.value,
                          (double)scale};
    return q;
}

static double loss_of(void *arg) {
    struct sequence *q = arg;
    double sum = 0;
    ref_attend(&q->r, q->context, NULL, NULL, NULL);
    for (size_t i = 0; i < q->r.t * q->r.c; i++) sum += q->dcontext[i] * q->context[i];
    return sum;
}

/* out (n, B, width)[:, b] against expected (n, width). */
static void compare(const char *what, const float *out, size_t b, size_t batch, size_t n, size_t width,
                    const double *expected, double slack) {
    float *row = guard_floats(n * width);
    for (size_t i = 0; i < n * width; i++) row[i] = out[(i / width * batch + b) * width + i % width];
    assert_close(what, row, expected, n * width, slack, slack);
}

static void compare_slopes(const char *what, const float *out, const float *before, size_t b, size_t batch, size_t n,
                           size_t width, struct sequence *q, double *x) {
    double *expected = gather(before, b, batch, n, width);
    for (size_t i = 0; i < n * width; i++) expected[i] += guard_slope(loss_of, q, &x[i]);
    compare(what, out, b, batch, n, width, expected, 5e-6);
}

static void one_shape(attn_context *ctx, int kind, size_t t, size_t s, size_t a, size_t c) {
    enum { B = 3 };
    const int32_t lengths[B] = {(int32_t)s, (int32_t)(s / 2), 0};
    struct batch x = batch_make(B, t, s, a, c, lengths);
    for (size_t b = 0; b < B; b++) /* padding may hold anything */
        for (size_t j = (size_t)lengths[b]; j < s; j++) {
            for (size_t i = 0; i < a; i++) x.key[(j * B + b) * a + i] = NAN;
            for (size_t i = 0; i < c; i++) x.value[(j * B + b) * c + i] = i % 2 ? NAN : INFINITY;
        }
    struct batch before = x;
    before.dquery = guard_copy(x.dquery, t * B * a), before.dkey = guard_copy(x.dkey, s * B * a);
    before.dv = guard_copy(x.dv, a), before.dvalue = guard_copy(x.dvalue, s * B * c);
    forward(ctx, &x, kind);
    backward(ctx, &x, kind, true);
    double *dv = guard_doubles(before.dv, a);
    for (size_t b = 0; b < B; b++) {
        struct sequence q = sequence_of(&x, b, kind);
        double *alignment = guard_doubles(NULL, t * s), *energy = guard_doubles(NULL, t * s),
               *lse = guard_doubles(NULL, t);
        ref_attend(&q.r, q.context, alignment, energy, lse);
        compare("context", x.context, b, B, t, c, q.context, 3e-6);
        compare("alignment", x.alignment, b, B, t, s, alignment, 3e-6);
        compare("energy", x.energy, b, B, t, s, energy, 3e-6);
        if (kind == ADDITIVE) compare("lse", x.lse, b, B, t, 1, lse, 3e-6);
        if (a * s * t > 1500) continue;
        compare_slopes("dquery", x.dquery, before.dquery, b, B, t, a, &q, q.query);
        compare_slopes("dkey", x.dkey, before.dkey, b, B, s, a, &q, q.key);
        compare_slopes("dvalue", x.dvalue, before.dvalue, b, B, s, c, &q, q.value);
        for (size_t i = 0; i < a; i++) dv[i] += guard_slope(loss_of, &q, &q.v[i]);
    }
    if (kind == ADDITIVE && a * s * t <= 1500) assert_close("dv", x.dv, dv, a, 1e-5, 5e-6);
    /* Written instead of added: the rows of padding become 0, the rest is the same sum without what was there. */
    backward(ctx, &x, kind, false);
    for (size_t b = 0; b < B; b++)
        for (size_t j = (size_t)lengths[b]; j < s; j++) {
            for (size_t i = 0; i < a; i++) assert_true(x.dkey[(j * B + b) * a + i] == 0);
            for (size_t i = 0; i < c; i++) assert_true(x.dvalue[(j * B + b) * c + i] == 0);
        }
    struct batch zero = x;
    zero.dquery = guard_floats(t * B * a), zero.dkey = guard_floats(s * B * a), zero.dv = guard_floats(a);
    zero.dvalue = guard_floats(s * B * c);
    memset(zero.dquery, 0, t * B * a * 4), memset(zero.dkey, 0, s * B * a * 4), memset(zero.dv, 0, a * 4);
    memset(zero.dvalue, 0, s * B * c * 4);
    backward(ctx, &zero, kind, true);
    assert_same_bits("dquery", zero.dquery, x.dquery, t * B * a);
    assert_same_bits("dkey", zero.dkey, x.dkey, s * B * a);
    assert_same_bits("dvalue", zero.dvalue, x.dvalue, s * B * c);
    if (kind == ADDITIVE) assert_same_bits("dv", zero.dv, x.dv, a);
}

static void shapes(void **state) {
    (void)state;
    static const size_t shapes[][4] = {{1, 1, 1, 1},    {1, 2, 3, 5},       {2, 5, 7, 6},   {3, 4, 16, 16},
                                       {1, 9, 33, 31},  {2, 6, 64, 65},     {2, 17, 31, 8}, {1, 66, 67, 9},
                                       {4, 3, 65, 130}, {1, 16, 515, 1027}, {5, 33, 48, 64}};
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++)
            for (int kind = ADDITIVE; kind <= DOT; kind++) {
                one_shape(ctx, kind, shapes[k][0], shapes[k][1], shapes[k][2], shapes[k][3]);
                guard_release();
            }
        attn_context_free(ctx);
    }
}

/* Outputs that are not wanted change nothing in the others. */
static void without(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 1);
        for (int kind = ADDITIVE; kind <= DOT; kind++) {
            const size_t b = 2, t = 2, s = 7, a = 37, c = 21;
            struct batch x = batch_make(b, t, s, a, c, NULL), y;
            forward(ctx, &x, kind);
            backward(ctx, &x, kind, false);
            y = x;
            y.alignment = y.energy = y.lse = NULL, y.context = guard_floats(t * b * c);
            forward(ctx, &y, kind);
            assert_same_bits("context", y.context, x.context, t * b * c);
            for (int left = 0; left < 4; left++) {
                y = x;
                y.dquery = left == 0 ? guard_normal(t * b * a, 1) : NULL;
                y.dkey = left == 1 ? guard_normal(s * b * a, 1) : NULL;
                y.dvalue = left == 2 ? guard_normal(s * b * c, 1) : NULL;
                y.dv = left == 3 ? guard_normal(a, 1) : NULL;
                backward(ctx, &y, kind, false);
                if (y.dquery) assert_same_bits("dquery", y.dquery, x.dquery, t * b * a);
                if (y.dkey) assert_same_bits("dkey", y.dkey, x.dkey, s * b * a);
                if (y.dvalue) assert_same_bits("dvalue", y.dvalue, x.dvalue, s * b * c);
                if (y.dv && kind == ADDITIVE) assert_same_bits("dv", y.dv, x.dv, a);
            }
            guard_release();
        }
        attn_context_free(ctx);
    }
}

/* Few long sequences take the path that divides rows, many take the one that does not; threads choose between them. */
static void threads(void **state) {
    (void)state;
    static const size_t shapes[][5] = {
        {1, 1, 700, 515, 1030}, {1, 9, 130, 300, 260}, {33, 1, 17, 515, 1030}, {6, 4, 30, 200, 300}};
    FOR_LEVELS(level) {
        for (size_t k = 0; k < sizeof shapes / sizeof shapes[0]; k++) {
            for (int kind = ADDITIVE; kind <= DOT; kind++) {
                size_t b = shapes[k][0], t = shapes[k][1], s = shapes[k][2], a = shapes[k][3], c = shapes[k][4];
                int32_t lengths[64];
                for (size_t i = 0; i < b; i++) lengths[i] = (int32_t)(i ? s - i % s : s);
                struct batch x = batch_make(b, t, s, a, c, lengths), y = x;
                attn_context *ctx = guard_context(*level, 1);
                forward(ctx, &x, kind), backward(ctx, &x, kind, false);
                attn_context_free(ctx);
                y.context = guard_floats(t * b * c), y.alignment = guard_floats(t * b * s);
                y.dquery = guard_floats(t * b * a), y.dkey = guard_floats(s * b * a);
                y.dv = guard_floats(a), y.dvalue = guard_floats(s * b * c);
                for (int n = 1; n < 4; n++) {
                    ctx = guard_context(*level, guard_threads[n]);
                    forward(ctx, &y, kind), backward(ctx, &y, kind, false);
                    assert_same_bits("context", y.context, x.context, t * b * c);
                    assert_same_bits("alignment", y.alignment, x.alignment, t * b * s);
                    assert_same_bits("dquery", y.dquery, x.dquery, t * b * a);
                    assert_same_bits("dkey", y.dkey, x.dkey, s * b * a);
                    assert_same_bits("dvalue", y.dvalue, x.dvalue, s * b * c);
                    if (kind == ADDITIVE) assert_same_bits("dv", y.dv, x.dv, a);
                    attn_context_free(ctx);
                }
                guard_release();
            }
        }
    }
}

/* A sequence alone, contiguous and without padding, gives the bits it gives in the batch; so does one query alone. */
static void alone(void **state) {
    (void)state;
    FOR_LEVELS(level) {
        attn_context *ctx = guard_context(*level, 2);
        for (int kind = ADDITIVE; kind <= DOT; kind++) {
            const size_t B = 5, t = 3, s = 23, a = 83, c = 101;
            const int32_t lengths[] = {23, 1, 9, 16, 22};
            struct batch x = batch_make(B, t, s, a, c, lengths);
            forward(ctx, &x, kind), backward(ctx, &x, kind, false);
            for (size_t b = 0; b < B; b++) {
                size_t n = (size_t)lengths[b];
                struct batch y = batch_make(1, t, n, a, c, NULL);
                y.v = x.v;
#define TAKE(name, rows, width) \
    for (size_t i = 0; i < (rows); i++) memcpy(y.name + i * (width), x.name + (i * B + b) * (width), (width)*4)
#define SAME(name, rows, width)         \
    for (size_t i = 0; i < (rows); i++) \
    assert_same_bits(#name, y.name + i * (width), x.name + (i * B + b) * (width), width)
                TAKE(query, t, a);
                TAKE(key, n, a);
                TAKE(value, n, c);
                TAKE(dcontext, t, c);
                forward(ctx, &y, kind), backward(ctx, &y, kind, false);
                SAME(context, t, c);
                SAME(dquery, t, a);
                SAME(dkey, n, a);
                SAME(dvalue, n, c);
                /* step by step, gradients of keys and values added up in the order of steps */
                struct batch z = y;
                z.t = 1, z.dkey = guard_floats(n * a), z.dvalue = guard_floats(n * c), z.energy = z.lse = NULL;
                memset(z.dkey, 0, n * a * 4), memset(z.dvalue, 0, n * c * 4);
                float *context = guard_floats(c), *alignment = guard_floats(n);
                z.context = context, z.alignment = alignment, z.dquery = z.dv = NULL;
                for (size_t i = 0; i < t; i++) {
                    z.query = y.query + i * a, z.dcontext = y.dcontext + i * c;
                    forward(ctx, &z, kind), backward(ctx, &z, kind, true);
                    assert_same_bits("step context", context, y.context + i * c, c);
                }
                assert_same_bits("steps dkey", z.dkey, y.dkey, n * a);
                assert_same_bits("steps dvalue", z.dvalue, y.dvalue, n * c);
            }
            guard_release();
        }
        attn_context_free(ctx);
    }
}

static void refusals(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    float data[64] = {0};
    attn_tensor q = attn_tensor_f32(data, 3, (size_t)2, (size_t)1, (size_t)4),
                k = attn_tensor_f32(data, 3, (size_t)2, (size_t)3, (size_t)4);
    attn_tensor v = attn_tensor_f32(data, 1, (size_t)4), c = attn_tensor_f32(data, 3, (size_t)2, (size_t)1, (size_t)4);
    attn_tensor bad = attn_tensor_f32(data, 3, (size_t)2, (size_t)3, (size_t)5), turned = attn_tensor_swap(&k, 1, 2);
    const int32_t lengths[] = {3, 4};
    assert_int_equal(attn_additive_attention_fwd(ctx, &c, NULL, NULL, NULL, &q, &bad, &v, &k, NULL), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "attn_additive_attention_fwd: hk has shape (2, 3, 5), expected (2, 3, 4)");
    assert_int_equal(attn_additive_attention_fwd(ctx, &c, NULL, NULL, NULL, &q, &k, &v, &k, lengths), ATTN_E_ARGUMENT);
    assert_string_equal(attn_error(ctx), "attn_additive_attention_fwd: lengths[1] is 4, expected 0 to 3");
    assert_int_equal(attn_additive_attention_fwd(ctx, NULL, NULL, NULL, NULL, &q, &k, &v, &k, NULL), ATTN_E_ARGUMENT);
    assert_int_equal(attn_dot_attention_fwd(ctx, &c, NULL, NULL, &q, &k, &turned, 1, NULL), ATTN_E_SHAPE);
    assert_int_equal(attn_dot_attention_bwd(ctx, NULL, NULL, NULL, &c, &q, &k, &k, NULL, 1, NULL, false),
                     ATTN_E_ARGUMENT);
    /* no keys at all: zeros */
    attn_tensor none = attn_tensor_f32(data, 3, (size_t)2, (size_t)0, (size_t)4),
                out = attn_tensor_f32(data + 16, 3, (size_t)2, (size_t)1, (size_t)4);
    data[16] = 5;
    assert_ok(ctx, attn_additive_attention_fwd(ctx, &out, NULL, NULL, NULL, &q, &none, &v, &none, NULL));
    for (int i = 16; i < 24; i++) assert_true(data[i] == 0);
    attn_context_free(ctx);
}

/* Without queries the gradients of keys, values and v are 0, and what is added to stays. */
static void no_queries(void **state) {
    (void)state;
    for (const char *const *level = attn_cpu_levels(); *level; level++) {
        attn_context *ctx = guard_context(*level, 1);
        float x[2 * 3 * 19], dhk[2 * 3 * 19], dh[2 * 3 * 19], dv[19];
        for (size_t i = 0; i < 2 * 3 * 19; i++) x[i] = 1.0f;
        const attn_tensor none = attn_tensor_f32(x, 3, (size_t)2, (size_t)0, (size_t)19),
                          alpha = attn_tensor_f32(x, 3, (size_t)2, (size_t)0, (size_t)3),
                          h = attn_tensor_f32(x, 3, (size_t)2, (size_t)3, (size_t)19),
                          v = attn_tensor_f32(x, 1, (size_t)19);
        attn_tensor gk = h, gh = h, gv = v;
        gk.data = dhk, gh.data = dh, gv.data = dv;
        for (int accumulate = 0; accumulate <= 1; accumulate++)
            for (int dot = 0; dot <= 1; dot++) {
                for (size_t i = 0; i < 2 * 3 * 19; i++) dhk[i] = dh[i] = 5.0f;
                for (size_t i = 0; i < 19; i++) dv[i] = 5.0f;
                if (dot)
                    assert_ok(ctx, attn_dot_attention_bwd(ctx, NULL, &gk, &gh, &none, &none, &h, &h, &alpha, 1.0f, NULL,
                                                          accumulate));
                else
                    assert_ok(ctx, attn_additive_attention_bwd(ctx, NULL, &gk, &gv, &gh, &none, &none, &h, &v, &h,
                                                               &alpha, NULL, accumulate));
                for (size_t i = 0; i < 2 * 3 * 19; i++) {
                    assert_true(dhk[i] == (accumulate ? 5.0f : 0.0f));
                    assert_true(dh[i] == (accumulate ? 5.0f : 0.0f));
                }
                for (size_t i = 0; i < 19 && !dot; i++) assert_true(dv[i] == (accumulate ? 5.0f : 0.0f));
            }
        attn_context_free(ctx);
    }
}

/* n floats cut to bf16 in place, and their upper halves. */
static uint16_t *cut(float *x, size_t n) {
    uint16_t *half = guard_bytes(n * sizeof *half);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bits &= 0xffff0000u, half[i] = (uint16_t)(bits >> 16);
        memcpy(x + i, &bits, 4);
    }
    return half;
}

static void assert_rounded(const char *what, const uint16_t *half, const float *x, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, 4);
        bits += 0x7fff + (bits >> 16 & 1); /* to nearest, ties to even */
        if (half[i] != bits >> 16) fail_msg("%s[%zu] is %04x, expected %04x", what, i, half[i], bits >> 16);
    }
}

static attn_tensor half_major(uint16_t *data, size_t b, size_t n, size_t width) {
    const size_t shape[3] = {n, b, width};
    attn_tensor t = attn_tensor_of(data, ATTN_BF16, 3, shape);
    return attn_tensor_swap(&t, 0, 1);
}

/* bf16 everywhere gives the rounded results of f32, written or added to. */
static void sixteen_bits(void **state) {
    (void)state;
    enum { B = 3, T = 4, S = 9, A = 21, C = 37 };
    static const int32_t lengths[B] = {9, 0, 5};
    FOR_LEVELS(level)
    for (int kind = ADDITIVE; kind <= DOT; kind++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            attn_context *ctx = guard_context(*level, 2);
            struct batch x = batch_make(B, T, S, A, C, lengths);
            uint16_t *q = cut(x.query, T * B * A), *k = cut(x.key, S * B * A), *v = cut(x.v, A),
                     *h = cut(x.value, S * B * C), *dc = cut(x.dcontext, T * B * C), *c = guard_bytes(2 * T * B * C),
                     *dq = cut(x.dquery, T * B * A), *dk = cut(x.dkey, S * B * A), *dv = cut(x.dv, A),
                     *dh = cut(x.dvalue, S * B * C);
            forward(ctx, &x, kind), backward(ctx, &x, kind, accumulate);
            const size_t width = A;
            attn_tensor tq = half_major(q, B, T, A), tk = half_major(k, B, S, A), th = half_major(h, B, S, C),
                        tc = half_major(c, B, T, C), tdc = half_major(dc, B, T, C), tdq = half_major(dq, B, T, A),
                        tdk = half_major(dk, B, S, A), tdh = half_major(dh, B, S, C),
                        tv = attn_tensor_of(v, ATTN_BF16, 1, &width), tdv = attn_tensor_of(dv, ATTN_BF16, 1, &width);
            attn_tensor alignment = time_major(guard_floats(T * B * S), B, T, S);
            if (kind == ADDITIVE) {
                assert_ok(ctx,
                          attn_additive_attention_fwd(ctx, &tc, NULL, &alignment, NULL, &tq, &tk, &tv, &th, lengths));
                assert_ok(ctx, attn_additive_attention_bwd(ctx, &tdq, &tdk, &tdv, &tdh, &tdc, &tq, &tk, &tv, &th,
                                                           &alignment, lengths, accumulate));
                assert_rounded("dv", dv, x.dv, A);
            } else {
                assert_ok(ctx, attn_dot_attention_fwd(ctx, &tc, &alignment, NULL, &tq, &tk, &th, scale, lengths));
                assert_ok(ctx, attn_dot_attention_bwd(ctx, &tdq, &tdk, &tdh, &tdc, &tq, &tk, &th, &alignment, scale,
                                                      lengths, accumulate));
            }
            assert_rounded("c", c, x.context, T * B * C);
            assert_rounded("dq", dq, x.dquery, T * B * A), assert_rounded("dk", dk, x.dkey, S * B * A);
            assert_rounded("dh", dh, x.dvalue, S * B * C);
            guard_release();
            attn_context_free(ctx);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),       cmocka_unit_test(without),  cmocka_unit_test(threads),
        cmocka_unit_test(alone),        cmocka_unit_test(refusals), cmocka_unit_test(no_queries),
        cmocka_unit_test(sixteen_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
