/* .npz archives: members, sums and words, read as ZIP files are; failing allocations. */
#include "support/allocator.h"
#include <attn/io.h>

#include <stdio.h>
#include <unistd.h>
#include <zlib.h>

static char path[64];
static uint8_t file[8192];

static size_t number(const uint8_t *at, int bytes) {
    size_t out = 0;
    for (int i = bytes; i-- > 0;) out = out << 8 | at[i];
    return out;
}

/* The .npy of the i-th entry of the directory at the end, checked against its own header and sum. */
static const uint8_t *entry(size_t size, size_t i, const char *name, size_t *bytes) {
    const uint8_t *end = file + size - 22, *at = file + number(end + 16, 4);
    assert_int_equal(number(end, 4), 0x06054b50);
    assert_int_equal(number(end + 12, 4), (size_t)(end - at));
    for (; i > 0; i--) at += 46 + number(at + 28, 2);
    assert_int_equal(number(at, 4), 0x02014b50);
    assert_int_equal(number(at + 28, 2), strlen(name));
    assert_memory_equal(at + 46, name, strlen(name));
    const uint8_t *local = file + number(at + 42, 4), *data = local + 30 + strlen(name);
    assert_int_equal(number(local, 4), 0x04034b50);
    assert_memory_equal(local + 4, at + 6, 26);
    assert_memory_equal(local + 30, name, strlen(name));
    assert_int_equal(number(at + 8, 2), 1 << 11); /* the name is UTF-8 */
    for (size_t byte = 32; byte < 42; byte++) assert_int_equal(at[byte], 0);
    *bytes = number(at + 24, 4);
    assert_int_equal(number(at + 16, 4), crc32(0, data, (uInt)*bytes));
    return data;
}

static void test_npz(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    float x[6] = {1, 2, 3, 4, 5, 6};
    static const char *const list[] = {"a", "", "\xC3\xBC\xF0\x9F\x98\x80z", "\xFF!"};
    const attn_named_tensor tensors[] = {{"x", attn_tensor_f32(x, 2, (size_t)2, (size_t)3)},
                                         {"l\xC3\xA4r", attn_tensor_of(NULL, ATTN_I32, 1, (size_t[]){0})}};
    const attn_named_words words = {"tokens", list, 4};
    for (long n = 0;; n++) { /* until as many allocations as are needed succeed */
        memory.fail_after = n;
        const attn_status status = attn_npz_save(ctx, path, tensors, 2, &words, 1);
        memory.fail_after = -1;
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_true(n < 100);
    }
    FILE *f = fopen(path, "rb");
    const size_t size = fread(file, 1, sizeof file, f);
    fclose(f);
    size_t bytes;
    const uint8_t *data = entry(size, 0, "x.npy", &bytes);
    assert_int_equal(bytes, 128 + sizeof x);
    assert_memory_equal(data + 128, x, sizeof x);
    assert_non_null(strstr((const char *)data + 10, "(2, 3)"));
    entry(size, 1, "l\xC3\xA4r.npy", &bytes);
    assert_int_equal(bytes, 128);
    data = entry(size, 2, "tokens.npy", &bytes);
    assert_non_null(strstr((const char *)data + 10, "'<U3'"));
    static const uint32_t expected[4][3] = {{'a'}, {0}, {0xFC, 0x1F600, 'z'}, {0xFFFD, '!'}};
    assert_int_equal(bytes, 128 + sizeof expected);
    assert_memory_equal(data + 128, expected, sizeof expected);

    attn_named_tensor bad = {"bf", attn_tensor_of(x, ATTN_BF16, 1, (size_t[]){2})};
    assert_int_equal(attn_npz_save(ctx, path, &bad, 1, NULL, 0), ATTN_E_UNSUPPORTED);
    assert_non_null(strstr(attn_error(ctx), "bf"));
    bad = (attn_named_tensor){"t", attn_tensor_swap(&tensors[0].tensor, 0, 1)};
    assert_int_equal(attn_npz_save(ctx, path, &bad, 1, NULL, 0), ATTN_E_UNSUPPORTED);
    assert_non_null(strstr(attn_error(ctx), "strides"));
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

int main(void) {
    strcpy(path, "/tmp/attn-test-npz-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npz)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
