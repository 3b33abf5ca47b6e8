/* Memory of the attention operator: nothing is allocated when workspace is given, and no more than it was told; a
 * failing allocation is ATTN_E_NOMEM without a leak, and the context goes on; explain says what is done. */
#include "support/allocator.h"
#include <attn/attention.h>
#include <math.h>
#include <stdio.h>

enum { B = 2, H = 6, HK = 2, T = 150, S = 700, D = 40, DV = 24 };

struct call {
    attn_tensor q, k, v, out, lse, dq, dk, dv, dbias, dsinks, bias;
    float sinks[H];
    attn_attention_options options;
    attn_attention_grads grads;
    float *memory;
};

static attn_tensor next_tensor(float **at, int rank, size_t a, size_t b, size_t c, size_t d) {
    attn_tensor t = attn_tensor_f32(*at, rank, a, b, c, d);
    *at += attn_tensor_count(&t);
    return t;
}

static void call_make(struct call *c) {
    memset(c, 0, sizeof *c);
    const size_t floats = (size_t)B * H * T * (2 * D + DV + 1) + (size_t)B * HK * S * 2 * (D + DV) + 2 * H * S + H;
    float *at = c->memory = malloc(floats * sizeof *at);
    for (size_t i = 0; i < floats; i++) at[i] = (float)((i * 2654435761u >> 7) % 2001) / 1000 - 1;
    c->q = next_tensor(&at, 4, B, H, T, D), c->dq = next_tensor(&at, 4, B, H, T, D);
    c->out = next_tensor(&at, 4, B, H, T, DV), c->lse = next_tensor(&at, 3, B, H, T, 0);
    c->k = next_tensor(&at, 4, B, HK, S, D), c->dk = next_tensor(&at, 4, B, HK, S, D);
    c->v = next_tensor(&at, 4, B, HK, S, DV), c->dv = next_tensor(&at, 4, B, HK, S, DV);
    c->bias = next_tensor(&at, 4, 1, H, 1, S), c->dbias = next_tensor(&at, 4, 1, H, 1, S);
    c->dsinks = next_tensor(&at, 1, H, 0, 0, 0);
    c->options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    c->options.causal = ATTN_CAUSAL_BOTTOM_RIGHT, c->options.softcap = 20, c->options.dropout = 0.1f;
    c->options.bias = &c->bias, c->options.sinks = c->sinks;
    c->grads = (attn_attention_grads)ATTN_ATTENTION_GRADS_INIT;
    c->grads.dq = &c->dq, c->grads.dk = &c->dk, c->grads.dv = &c->dv, c->grads.dbias = &c->dbias;
    c->grads.dsinks = &c->dsinks;
}

static attn_status forward(attn_context *ctx, const struct call *c) {
    return attn_attention_fwd(ctx, &c->out, &c->lse, &c->q, &c->k, &c->v, &c->options);
}
static attn_status backward(attn_context *ctx, const struct call *c) {
    return attn_attention_bwd(ctx, &c->grads, &c->out, &c->lse, &c->q, &c->k, &c->v, &c->out, &c->lse, &c->options);
}

static void workspace(void **state) {
    (void)state;
    for (int threads = 1; threads < 4; threads++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, threads);
        struct call c;
        call_make(&c);
        size_t bytes[2];
        assert_ok(attn_attention_workspace(ctx, &bytes[0], &bytes[1], &c.q, &c.k, &c.v, &c.options));
        size_t one;
        assert_ok(attn_attention_workspace(ctx, &one, NULL, &c.q, &c.k, &c.v, &c.options));
        assert_true(one == bytes[0]);
        assert_ok(attn_attention_workspace(ctx, NULL, &one, &c.q, &c.k, &c.v, &c.options));
        assert_true(one == bytes[1]);
        attn_status (*const calls[])(attn_context *, const struct call *) = {forward, backward};
        for (int i = 0; i < 2; i++) {
            unsigned char *block = aligned_alloc(64, (bytes[i] + 64 + 63) / 64 * 64);
            memset(block, 0xff, bytes[i] + 64);
            c.options.workspace = block, c.options.workspace_bytes = bytes[i];
            memory.fail_after = 0, memory.requests = 0;
            assert_ok(calls[i](ctx, &c));
            assert_int_equal(memory.requests, 0);
            for (int k = 0; k < 64; k++) assert_int_equal(block[bytes[i] + (size_t)k], 0xff);
            c.options.workspace_bytes = bytes[i] - 1; /* too little */
            assert_int_equal(calls[i](ctx, &c), ATTN_E_ARGUMENT);
            c.options.workspace = block + 4, c.options.workspace_bytes = bytes[i]; /* not aligned */
            assert_int_equal(calls[i](ctx, &c), ATTN_E_ARGUMENT);
            c.options.workspace = NULL, c.options.workspace_bytes = 0, memory.fail_after = -1;
            free(block);
        }
        free(c.memory);
        attn_context_free(ctx);
        assert_int_equal(memory.alive, 0);
    }
}

/* What the calls may need grows with T + S, not with T · S. */
static void linear(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 2);
    struct call c;
    call_make(&c);
    size_t before[2] = {0, 0};
    for (size_t n = 1024; n <= 65536; n *= 2) {
        c.q.shape[2] = n, c.k.shape[2] = c.v.shape[2] = n, c.bias.shape[3] = n;
        size_t bytes[2];
        assert_ok(attn_attention_workspace(ctx, &bytes[0], &bytes[1], &c.q, &c.k, &c.v, &c.options));
        for (int i = 0; i < 2 && n > 1024; i++) assert_true(bytes[i] <= before[i] * 2 + 4096);
        before[0] = bytes[0], before[1] = bytes[1];
    }
    free(c.memory);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

/* The n-th allocation fails, for all n. */
static void no_memory(void **state) {
    (void)state;
    for (int threads = 1; threads < 4; threads += 2) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, threads);
        struct call c;
        call_make(&c);
        attn_status (*const calls[])(attn_context *, const struct call *) = {forward, backward};
        const long alive = memory.alive;
        assert_ok(forward(ctx, &c));
        for (int i = 0; i < 2; i++) {
            const size_t floats = attn_tensor_count(&c.out);
            float *out = malloc(floats * sizeof *out);
            memcpy(out, c.out.data, floats * sizeof *out);
            attn_status status = ATTN_E_NOMEM;
            for (long allowed = 0; status != ATTN_OK; allowed++) {
                assert_true(allowed < 100);
                memory.fail_after = allowed;
                status = calls[i](ctx, &c);
                memory.fail_after = -1;
                assert_int_equal(memory.alive, alive);
                if (status == ATTN_OK) break;
                assert_int_equal(status, ATTN_E_NOMEM);
                assert_non_null(strstr(attn_error(ctx), "memory"));
                assert_int_equal(memcmp(out, c.out.data, floats * sizeof *out), 0);
            }
            assert_ok(calls[i](ctx, &c));
            assert_int_equal(memcmp(out, c.out.data, floats * sizeof *out), 0);
            free(out);
        }
        free(c.memory);
        attn_context_free(ctx);
        assert_int_equal(memory.alive, 0);
    }
}

static void explain(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 2);
    struct call c;
    call_make(&c);
    char text[4096], few[16];
    assert_ok(attn_attention_explain(ctx, text, sizeof text, &c.q, &c.k, &c.v, &c.options));
    size_t bytes[2];
    assert_ok(attn_attention_workspace(ctx, &bytes[0], &bytes[1], &c.q, &c.k, &c.v, &c.options));
    char forward_bytes[32], backward_bytes[32];
    snprintf(forward_bytes, sizeof forward_bytes, "%zu", bytes[0]);
    snprintf(backward_bytes, sizeof backward_bytes, "%zu", bytes[1]);
    const char *const words[] = {attn_cpu_level(ctx), "bottom-right", "full",        "partial",
                                 "skipped",           forward_bytes,  backward_bytes};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (!strstr(text, words[i])) fail_msg("\"%s\" is not in the explanation:\n%s", words[i], text);
    assert_non_null(strstr(text, "lanes are queries"));
    attn_tensor one = c.q;
    one.shape[2] = 1;
    char decode[4096];
    assert_ok(attn_attention_explain(ctx, decode, sizeof decode, &one, &c.k, &c.v, &c.options));
    assert_non_null(strstr(decode, "lanes are keys"));
    memset(few, 'x', sizeof few);
    assert_ok(attn_attention_explain(ctx, few, 10, &c.q, &c.k, &c.v, &c.options));
    assert_int_equal(strlen(few), 9);
    assert_int_equal(few[10], 'x');
    assert_int_equal(strncmp(few, text, 9), 0);
    assert_int_equal(attn_attention_explain(ctx, NULL, 10, &c.q, &c.k, &c.v, &c.options), ATTN_E_ARGUMENT);
    c.k.shape[3] = 3;
    assert_int_equal(attn_attention_explain(ctx, text, sizeof text, &c.q, &c.k, &c.v, &c.options), ATTN_E_SHAPE);
    free(c.memory);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(workspace), cmocka_unit_test(linear),
                                       cmocka_unit_test(no_memory), cmocka_unit_test(explain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
