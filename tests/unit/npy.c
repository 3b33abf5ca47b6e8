/* .npy files: the header byte for byte, the data in row-major order. */
#include "support/allocator.h"
#include <attn/io.h>

#include <stdio.h>
#include <unistd.h>

static char path[64];

static size_t save_and_read(attn_context *ctx, const attn_tensor *tensor, char *out, size_t room) {
    assert_ok(attn_npy_save(ctx, path, tensor));
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(out, 1, room, file);
    fclose(file);
    return n;
}

static void check_header(const char *file, const char *expected) {
    assert_memory_equal(file, "\x93NUMPY\x01\x00", 8);
    size_t length = (unsigned char)file[8] + 256u * (unsigned char)file[9];
    assert_int_equal((10 + length) % 64, 0);
    assert_memory_equal(file + 10, expected, strlen(expected));
    for (size_t i = 10 + strlen(expected); i < 9 + length; i++) assert_int_equal(file[i], ' ');
    assert_int_equal(file[9 + length], '\n');
}

static void test_npy(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    static char file[4096];
    float x[6] = {1, 2, 3, 4, 5, 6};
    attn_tensor t = attn_tensor_f32(x, 2, (size_t)2, (size_t)3);
    assert_int_equal(save_and_read(ctx, &t, file, sizeof file), 128 + sizeof x);
    check_header(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }");
    assert_memory_equal(file + 128, x, sizeof x);

    attn_tensor swapped = attn_tensor_swap(&t, 0, 1);
    const float transposed[6] = {1, 4, 2, 5, 3, 6};
    assert_int_equal(save_and_read(ctx, &swapped, file, sizeof file), 128 + sizeof x);
    check_header(file, "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }");
    assert_memory_equal(file + 128, transposed, sizeof x);

    int64_t ids[3] = {-1, 5, 1LL << 40};
    t = attn_tensor_of(ids, ATTN_I64, 1, (size_t[]){3});
    assert_int_equal(save_and_read(ctx, &t, file, sizeof file), 128 + sizeof ids);
    check_header(file, "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }");
    uint8_t byte = 200;
    t = attn_tensor_of(&byte, ATTN_U8, 0, NULL);
    assert_int_equal(save_and_read(ctx, &t, file, sizeof file), 129);
    check_header(file, "{'descr': '|u1', 'fortran_order': False, 'shape': (), }");
    t = attn_tensor_of(NULL, ATTN_F32, 2, (size_t[]){0, 4});
    assert_int_equal(save_and_read(ctx, &t, file, sizeof file), 128);

    uint16_t half = 0;
    t = attn_tensor_of(&half, ATTN_BF16, 0, NULL);
    assert_int_equal(attn_npy_save(ctx, path, &t), ATTN_E_UNSUPPORTED);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

int main(void) {
    strcpy(path, "/tmp/attn-test-npy-XXXXXX");
    int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_npy)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
