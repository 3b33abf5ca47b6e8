/* The cache of keys and values: bad input, lack of memory and bytes from anybody leave it as it was. */
#include "support/allocator.h"
#undef assert_ok /* guard.h has one that takes the context */
#include "kern/cache_history.h"

#include <stdio.h>

struct state {
    unsigned char *data;
    size_t bytes;
};

static struct state state_of(attn_context *ctx, const attn_kv_cache *cache) {
    struct state s;
    assert_ok(ctx, attn_kv_cache_serialise(ctx, cache, &s.data, &s.bytes));
    return s;
}

/* Expects `status` of call, and the same state after it. */
#define refused(ctx, cache, status, call)                                                                    \
    do {                                                                                                     \
        struct state before_ = state_of(ctx, cache);                                                         \
        assert_int_equal(call, status);                                                                      \
        assert_true(strlen(attn_error(ctx)) > 10);                                                           \
        struct state after_ = state_of(ctx, cache);                                                          \
        assert_true(before_.bytes == after_.bytes && memcmp(before_.data, after_.data, before_.bytes) == 0); \
        attn_kv_cache_bytes_free(ctx, before_.data);                                                         \
        attn_kv_cache_bytes_free(ctx, after_.data);                                                          \
    } while (0)

enum { B = 3, HK = 2, D = 5, DV = 7, T = 40 };

static attn_kv_cache *cache_new(attn_context *ctx, attn_dtype dtype, size_t page, int64_t window, size_t capacity) {
    attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
    o.sequences = B, o.key_heads = HK, o.d = D, o.dv = DV, o.dtype = dtype, o.page = page, o.window = window;
    o.capacity = capacity;
    attn_kv_cache *cache;
    assert_ok(ctx, attn_kv_cache_create(&cache, ctx, &o));
    return cache;
}

static attn_status append(attn_context *ctx, attn_kv_cache *cache, size_t t, attn_dtype dtype) {
    static float zeros[B * HK * 200 * DV];
    for (size_t i = 0; i < sizeof zeros / sizeof *zeros; i++) zeros[i] = (float)(i % 17) * 0.25f;
    const attn_tensor k = attn_tensor_of(zeros, dtype, 4, (size_t[]){B, HK, t, D}),
                      v = attn_tensor_of(zeros, dtype, 4, (size_t[]){B, HK, t, DV});
    return attn_kv_cache_append(ctx, cache, &k, &v, NULL);
}

static void test_refused(void **state) {
    (void)state;
    attn_context *ctx = guard_context(best_level(), 1);
    for (size_t page = 0; page <= 32; page += 16) {
        attn_kv_cache *cache = cache_new(ctx, ATTN_F32, page, -1, 100), *ring = cache_new(ctx, ATTN_F32, page, 20, 40);
        assert_ok(ctx, append(ctx, cache, T, ATTN_F32));
        refused(ctx, cache, ATTN_E_SHAPE, append(ctx, cache, 61, ATTN_F32));
        refused(ctx, cache, ATTN_E_UNSUPPORTED, append(ctx, cache, 1, ATTN_BF16));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_rollback(ctx, cache, 1, T + 1));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_rollback(ctx, cache, B, 1));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_fork(ctx, cache, 0, 1, T + 1));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_fork(ctx, cache, 0, 0, 1));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_fork(ctx, cache, B, 0, 1));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_reset(ctx, cache, B));
        assert_ok(ctx, attn_kv_cache_reset(ctx, cache, 2));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_fork(ctx, cache, 0, 2, 1)); /* freed */
        const int32_t lengths[B] = {0, 3, 0};
        float x[B * HK * DV * 2] = {0};
        const attn_tensor k = attn_tensor_f32(x, 4, (size_t)B, (size_t)HK, (size_t)2, (size_t)D),
                          v = attn_tensor_f32(x, 4, (size_t)B, (size_t)HK, (size_t)2, (size_t)DV),
                          one = attn_tensor_f32(x, 4, (size_t)1, (size_t)HK, (size_t)1, (size_t)D),
                          q = attn_tensor_f32(x, 4, (size_t)B, (size_t)HK, (size_t)1, (size_t)D);
        attn_tensor half = q;
        half.dtype = ATTN_F16;
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_append(ctx, cache, &k, &v, lengths));
        refused(ctx, cache, ATTN_E_SHAPE, attn_kv_cache_append(ctx, cache, &v, &v, NULL));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_append(ctx, cache, NULL, &v, NULL));
        float y[B * HK * DV];
        const attn_tensor out = attn_tensor_f32(y, 4, (size_t)B, (size_t)HK, (size_t)1, (size_t)DV);
        refused(ctx, cache, ATTN_E_SHAPE, attn_kv_cache_attend(ctx, &out, NULL, &one, cache, NULL));
        refused(ctx, cache, ATTN_E_UNSUPPORTED, attn_kv_cache_attend(ctx, &out, NULL, &half, cache, NULL));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_attend(ctx, &out, NULL, NULL, cache, NULL));
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_attend(ctx, NULL, NULL, &q, cache, NULL));
        attn_attention_options o = ATTN_ATTENTION_OPTIONS_INIT;
        o.kv_lengths = lengths;
        refused(ctx, cache, ATTN_E_ARGUMENT, attn_kv_cache_attend(ctx, &out, NULL, &q, cache, &o));
        o.struct_size--;
        refused(ctx, cache, ATTN_E_VERSION, attn_kv_cache_attend(ctx, &out, NULL, &q, cache, &o));

        for (int i = 0; i < 5; i++) assert_ok(ctx, append(ctx, ring, T, ATTN_F32));
        assert_true(attn_kv_cache_length(ring, 0) == 5 * T && attn_kv_cache_first(ring, 0) > 0);
        refused(ctx, ring, ATTN_E_ARGUMENT, attn_kv_cache_attend(ctx, &out, NULL, &q, ring, NULL)); /* position 0 */
        refused(ctx, ring, ATTN_E_ARGUMENT, attn_kv_cache_rollback(ctx, ring, 0, 5 * T - 1));
        refused(ctx, ring, ATTN_E_ARGUMENT, attn_kv_cache_fork(ctx, ring, 1, 0, 60));
        attn_kv_cache_free(ctx, cache);
        attn_kv_cache_free(ctx, ring);
    }
    attn_kv_cache_options bad[] = {
        {0, 1, 1, 8, 8, 8, ATTN_F32, 0, -1},
        {sizeof *bad, 0, 1, 8, 8, 8, ATTN_F32, 0, -1},
        {sizeof *bad, 1, 1, 577, 8, 8, ATTN_F32, 0, -1},
        {sizeof *bad, 1, 1, 8, 8, 0, ATTN_F32, 0, -1},
        {sizeof *bad, 1, 1, 8, 8, 8, ATTN_I32, 0, -1},
        {sizeof *bad, 1, 1, 8, 8, 8, ATTN_F32, 8, -1},
        {sizeof *bad, 1, 1, 8, 8, 8, ATTN_F32, 0, 8},
        {sizeof *bad, 1, SIZE_MAX / 2, 8, 8, 8, ATTN_F32, 0, -1},
        {sizeof *bad, SIZE_MAX / 2, 1, 8, 8, 8, ATTN_F32, 0, -1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        attn_kv_cache *cache;
        assert_int_not_equal(attn_kv_cache_create(&cache, ctx, bad + i), ATTN_OK);
        assert_null(cache);
    }
    attn_context_free(ctx);
}

/* Every allocation of a life fails once; then the state is the old one, and nothing is lost. */
static void test_memory(void **unused) {
    (void)unused;
    for (size_t page = 0; page <= 32; page += 16) {
        for (long n = 0;; n++) {
            struct test_memory memory = TEST_MEMORY_INIT;
            attn_context *ctx = test_memory_context(&memory, 1);
            attn_kv_cache *cache = cache_new(ctx, ATTN_BF16, page, -1, 200), *copy = NULL;
            assert_ok(ctx, append(ctx, cache, 21, ATTN_BF16));
            uint16_t x[B * HK * DV] = {0}, y[B * HK * DV];
            const attn_tensor q = attn_tensor_of(x, ATTN_BF16, 4, (size_t[]){B, HK, 1, D}),
                              out = attn_tensor_of(y, ATTN_BF16, 4, (size_t[]){B, HK, 1, DV});
            bool failed = false;
            for (int step = 0; step < 7 && !failed; step++) {
                struct state before = state_of(ctx, cache);
                attn_status status = ATTN_OK;
                unsigned char *data = NULL;
                size_t bytes;
                memory.fail_after = n;
                switch (step) {
                case 0: status = append(ctx, cache, 30, ATTN_BF16); break;
                case 1: status = attn_kv_cache_fork(ctx, cache, 1, 0, 45); break;
                case 2: status = attn_kv_cache_fork(ctx, cache, 2, 0, 48); break;
                case 3: status = attn_kv_cache_rollback(ctx, cache, 2, 5); break;
                case 4: status = attn_kv_cache_attend(ctx, &out, NULL, &q, cache, NULL); break;
                case 5:
                    status = attn_kv_cache_serialise(ctx, cache, &data, &bytes);
                    attn_kv_cache_bytes_free(ctx, data);
                    break;
                default: status = attn_kv_cache_deserialise(&copy, ctx, before.data, before.bytes);
                }
                const long left = memory.fail_after;
                memory.fail_after = -1;
                failed = status != ATTN_OK;
                assert_true(status == ATTN_OK || (status == ATTN_E_NOMEM && left == 0));
                struct state after = state_of(ctx, cache);
                if (failed)
                    assert_true(before.bytes == after.bytes && memcmp(before.data, after.data, before.bytes) == 0);
                attn_kv_cache_bytes_free(ctx, before.data);
                attn_kv_cache_bytes_free(ctx, after.data);
            }
            attn_kv_cache_free(ctx, cache);
            attn_kv_cache_free(ctx, copy);
            attn_context_free(ctx);
            assert_int_equal(memory.alive, 0);
            if (!failed) break;
        }
    }
}

/* ---- states --------------------------------------------------------------------------------------------------- */

/* As cache_state.c has it, so that damage goes past it. */
static void sign(unsigned char *data, size_t bytes) {
    uint64_t h = bytes - 16 + 0x9e3779b97f4a7c15u;
    for (size_t i = 16; i < bytes; i += 8) {
        uint64_t word = 0;
        memcpy(&word, data + i, bytes - i < 8 ? bytes - i : 8);
        h = (h ^ word) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    memcpy(data + 8, &h, 8);
}

static size_t asked;
static void *counting_allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    asked += bytes;
    void *p = NULL;
    return posix_memalign(&p, alignment, bytes ? bytes : 1) ? NULL : p;
}
static void counting_release(void *user, void *p) {
    (void)user;
    free(p);
}

static attn_context *counting_context(void) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.allocator = (attn_allocator){NULL, counting_allocate, counting_release};
    options.threads = 1;
    attn_context *ctx;
    assert_int_equal(attn_context_create(&ctx, &options), ATTN_OK);
    return ctx;
}

/* Whatever comes of it: no crash, not more memory than promised, a usable cache or a status. */
static bool try_state(attn_context *ctx, const unsigned char *data, size_t bytes) {
    unsigned char *guarded = guard_bytes(bytes);
    memcpy(guarded, data, bytes);
    attn_kv_cache *cache;
    asked = 0;
    const attn_status status = attn_kv_cache_deserialise(&cache, ctx, guarded, bytes);
    assert_true(asked <= 4 * bytes + (1 << 20));
    if (status == ATTN_OK) {
        const attn_kv_cache_options *o = attn_kv_cache_options_of(cache);
        for (size_t b = 0; b < o->sequences; b++) {
            attn_kv_cache_rollback(ctx, cache, b, 1);
            attn_kv_cache_fork(ctx, cache, b, (b + 1) % o->sequences,
                               attn_kv_cache_length(cache, (b + 1) % o->sequences));
        }
        attn_kv_cache_free(ctx, cache);
    } else {
        assert_true(status == ATTN_E_FORMAT && cache == NULL);
    }
    guard_release();
    return status == ATTN_OK;
}

static void test_states(void **unused) {
    (void)unused;
    attn_context *ctx = counting_context();
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_F16, ATTN_I8};
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct history h;
        history_begin(&h, ctx, seed + 900, dtypes[seed % 4]);
        for (int step = 0; step < 8; step++) history_step(&h);
        struct state s = state_of(ctx, h.cache);
        attn_kv_cache *copy;
        assert_ok(ctx, attn_kv_cache_deserialise(&copy, ctx, s.data, s.bytes));
        struct state again = state_of(ctx, copy);
        assert_true(again.bytes == s.bytes && memcmp(again.data, s.data, s.bytes) == 0);
        assert_true(attn_kv_cache_bytes(copy) <= attn_kv_cache_bytes(h.cache));
        attn_kv_cache_free(ctx, h.cache);
        h.cache = copy; /* and it goes on as the old one would */
        for (int step = 0; step < 4; step++) history_step(&h), history_check(&h);
        attn_kv_cache_bytes_free(ctx, s.data);
        attn_kv_cache_bytes_free(ctx, again.data);
        history_end(&h);
    }
    attn_context_free(ctx);
}

static void test_hostile(void **unused) {
    (void)unused;
    attn_context *ctx = counting_context();
    for (size_t page = 0; page <= 16; page += 16)
        for (int64_t window = -1; window < 20; window += 20) {
            attn_kv_cache *cache = cache_new(ctx, ATTN_I8, page, window, 50);
            assert_ok(ctx, append(ctx, cache, 18, ATTN_F32));
            assert_ok(ctx, attn_kv_cache_fork(ctx, cache, 1, 0, 17));
            assert_ok(ctx, attn_kv_cache_reset(ctx, cache, 2));
            struct state s = state_of(ctx, cache);
            assert_true(try_state(ctx, s.data, s.bytes));
            assert_memory_equal(s.data, "attnKV2\n", 8);
            s.data[6] = '1'; /* as it was when values lay in another order */
            assert_false(try_state(ctx, s.data, s.bytes));
            assert_non_null(strstr(attn_error(ctx), "I8 begins with attnKV2 (found attnKV1, an older order"));
            s.data[6] = '2';
            for (size_t n = 0; n < s.bytes; n++) assert_false(try_state(ctx, s.data, n));
            for (size_t bit = 0; bit < 8 * s.bytes; bit += bit < 8 * 300 ? 1 : 37) {
                s.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
                assert_false(try_state(ctx, s.data, s.bytes));
                s.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
            }
            /* The same with a checksum that is right: numbers of every kind in every word of the head. */
            uint64_t random = 5;
            for (int i = 0; i < 6000; i++) {
                unsigned char *x = malloc(s.bytes);
                memcpy(x, s.data, s.bytes);
                for (int changes = 0; changes < 1 + i % 3; changes++) {
                    static const uint64_t words[] = {0,
                                                     1,
                                                     2,
                                                     16,
                                                     17,
                                                     63,
                                                     64,
                                                     1u << 31,
                                                     (uint64_t)1 << 32,
                                                     (uint64_t)1 << 60,
                                                     UINT64_MAX,
                                                     UINT64_MAX - 1,
                                                     (uint64_t)1 << 63};
                    random = random * 6364136223846793005u + 1442695040888963407u;
                    const size_t at = 16 + (random >> 33) % 26 * 8;
                    uint64_t word = words[(random >> 20) % (sizeof words / sizeof *words)];
                    if (random >> 60 & 1) {
                        memcpy(&word, x + at, 8);
                        word += (random >> 61 & 1) ? 1 : UINT64_MAX;
                    }
                    if (at + 8 <= s.bytes) memcpy(x + at, &word, 8);
                }
                size_t bytes = s.bytes - (i % 5 == 0 ? 8 * (random >> 50 & 7) : 0);
                sign(x, bytes);
                try_state(ctx, x, bytes);
                free(x);
            }
            attn_kv_cache_bytes_free(ctx, s.data);
            attn_kv_cache_free(ctx, cache);
        }
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_states),
        cmocka_unit_test(test_hostile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
