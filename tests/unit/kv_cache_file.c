/* The state of a cache of keys and values in a file: as it was, or refused with the file's name. */
#include "support/allocator.h"
#include <attn/io.h>

#include <stdio.h>
#include <unistd.h>

static char path[64];

static void test_file(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    attn_kv_cache_options options = ATTN_KV_CACHE_OPTIONS_INIT;
    options.sequences = 2, options.key_heads = 3, options.d = 4, options.capacity = 50, options.page = 16;
    attn_kv_cache *cache, *back;
    assert_ok(attn_kv_cache_create(&cache, ctx, &options));
    float x[2 * 3 * 20 * 4];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = (float)i;
    const attn_tensor k = attn_tensor_f32(x, 4, (size_t)2, (size_t)3, (size_t)20, (size_t)4);
    assert_ok(attn_kv_cache_append(ctx, cache, &k, &k, NULL));
    assert_ok(attn_kv_cache_save(ctx, cache, path));
    assert_ok(attn_kv_cache_load(&back, ctx, path));
    unsigned char *one, *other;
    size_t bytes, other_bytes;
    assert_ok(attn_kv_cache_serialise(ctx, cache, &one, &bytes));
    assert_ok(attn_kv_cache_serialise(ctx, back, &other, &other_bytes));
    assert_int_equal(bytes, other_bytes);
    assert_memory_equal(one, other, bytes);
    attn_kv_cache_free(ctx, back);

    assert_ok(attn_file_write(ctx, path, one, bytes - 5));
    assert_int_equal(attn_kv_cache_load(&back, ctx, path), ATTN_E_FORMAT);
    assert_null(back);
    assert_non_null(strstr(attn_error(ctx), path));
    one[6] = '2'; /* which is a cache of bytes */
    assert_ok(attn_file_write(ctx, path, one, bytes));
    assert_int_equal(attn_kv_cache_load(&back, ctx, path), ATTN_E_FORMAT);
    assert_non_null(strstr(attn_error(ctx), "F32 begins with attnKV1 (found attnKV2)"));
    assert_ok(attn_file_write(ctx, path, one, 0));
    assert_int_equal(attn_kv_cache_load(&back, ctx, path), ATTN_E_FORMAT);
    unlink(path);
    assert_int_equal(attn_kv_cache_load(&back, ctx, path), ATTN_E_IO);
    attn_kv_cache_bytes_free(ctx, one);
    attn_kv_cache_bytes_free(ctx, other);
    attn_kv_cache_free(ctx, cache);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_file)};
    snprintf(path, sizeof path, "/tmp/attn-cache-%ld", (long)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
