/* Memory, growing arrays and text, status sentences. */
#include "support/allocator.h"
#include "base/base.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static void test_alloc(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    double *numbers = attn_alloc(ctx, 100, sizeof *numbers);
    char *zeros = attn_alloc_zero(ctx, 33, 1);
    void *nothing = attn_alloc(ctx, 0, 8);
    assert_non_null(numbers);
    assert_non_null(nothing);
    assert_int_equal((uintptr_t)numbers % 64, 0);
    for (int i = 0; i < 33; i++) assert_int_equal(zeros[i], 0);
    assert_int_equal(memory.alive, 4); /* the context too */
    attn_release(ctx, numbers);
    attn_release(ctx, zeros);
    attn_release(ctx, nothing);
    attn_release(ctx, NULL);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static void test_default_allocator(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    for (size_t bytes = 0; bytes < 200; bytes++) {
        char *p = attn_alloc(ctx, bytes, 1);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 1, bytes);
        attn_release(ctx, p);
    }
    assert_null(attn_alloc(ctx, SIZE_MAX, 1)); /* no overflow when rounded up */
    assert_null(attn_alloc(ctx, SIZE_MAX / 2, 1));
    attn_context_free(ctx);
}

/* Whether huge pages were asked for where p lies; false too where the system has none. */
static bool has_huge_pages(const void *p) {
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[4096];
    bool inside = false, found = false;
    while (file && fgets(line, sizeof line, file)) {
        unsigned long begin, end;
        if (sscanf(line, "%lx-%lx ", &begin, &end) == 2) inside = (uintptr_t)p >= begin && (uintptr_t)p < end;
        else if (inside && !strncmp(line, "VmFlags:", 8)) found = strstr(line, " hg") != NULL;
    }
    if (file) fclose(file);
    return found;
}

static void test_huge_pages(void **state) {
    (void)state;
    enum { BYTES = 16 << 20 };
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *own, *host = test_memory_context(&memory, 1);
    assert_ok(attn_context_create(&own, NULL));
    char *of_own = attn_alloc(own, BYTES, 1), *of_host = attn_alloc(host, BYTES, 1);
    attn_want_huge_pages(own, of_own, BYTES);
    attn_want_huge_pages(host, of_host, BYTES);
    if (!access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK)) assert_true(has_huge_pages(of_own + BYTES / 2));
    assert_false(has_huge_pages(of_host + BYTES / 2)); /* memory of a host is its own business */
    attn_release(own, of_own), attn_release(host, of_host);
    attn_context_free(own), attn_context_free(host);
}

static void test_alloc_failure(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    long requests = memory.requests;
    assert_null(attn_alloc(ctx, SIZE_MAX / 4, 8));
    assert_int_equal(memory.requests, requests); /* the overflow never reaches the allocator */
    assert_non_null(strstr(attn_error(ctx), "address space"));
    memory.fail_after = 0;
    assert_null(attn_alloc(ctx, 3, 5));
    assert_string_equal(attn_error(ctx), "out of memory: no 15 bytes");
    assert_null(attn_alloc_zero(ctx, 1, 1));
    assert_null(attn_copy_text(ctx, "abc", 3));
    assert_null(attn_copy_text(ctx, "abc", SIZE_MAX));
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static void test_grow(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    int *array = NULL;
    size_t capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_ok(attn_grow(ctx, &array, &capacity, (size_t)i + 1, (size_t)i, sizeof *array));
        array[i] = i * 3;
    }
    assert_in_range(capacity, 1000, 2000);
    assert_in_range(memory.requests, 2, 12); /* doubling */
    for (int i = 0; i < 1000; i++) assert_int_equal(array[i], i * 3);

    int *before = array;
    size_t capacity_before = capacity;
    assert_int_equal(attn_grow(ctx, &array, &capacity, SIZE_MAX / 2, 1000, sizeof *array), ATTN_E_NOMEM);
    memory.fail_after = 0;
    assert_int_equal(attn_grow(ctx, &array, &capacity, capacity + 1, 1000, sizeof *array), ATTN_E_NOMEM);
    assert_ptr_equal(array, before);
    assert_int_equal(capacity, capacity_before);
    assert_int_equal(array[999], 2997);
    attn_release(ctx, array);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static void test_buffer(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    attn_buffer buffer = ATTN_BUFFER_INIT(ctx);
    attn_buffer_text(&buffer, "weights");
    attn_buffer_add(&buffer, "\0x", 2);
    attn_buffer_printf(&buffer, "%d %s", 42, "fits");
    for (int i = 0; i < 50; i++) attn_buffer_printf(&buffer, "%0*d;", 40, i); /* grows in the middle of a print */
    assert_int_equal(buffer.bytes, 7 + 2 + 7 + 50 * 41);
    assert_memory_equal(buffer.data, "weights\0x42 fits", 17 - 1);
    assert_int_equal(buffer.data[buffer.bytes], 0);
    assert_string_equal(buffer.data + buffer.bytes - 4, "049;");

    char *text;
    size_t bytes;
    assert_ok(attn_buffer_give(&buffer, &text, &bytes));
    assert_int_equal(bytes, 7 + 2 + 7 + 50 * 41);
    assert_null(buffer.data);
    attn_release(ctx, text);

    assert_ok(attn_buffer_give(&buffer, &text, &bytes)); /* empty */
    assert_string_equal(text, "");
    assert_int_equal(bytes, 0);
    attn_release(ctx, text);
    attn_buffer_free(&buffer);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static void test_buffer_failure(void **state) {
    (void)state;
    for (long allowed = 0; allowed < 6; allowed++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        attn_buffer buffer = ATTN_BUFFER_INIT(ctx);
        memory.fail_after = allowed;
        for (int i = 0; i < 100; i++) attn_buffer_printf(&buffer, "%040d", i);
        attn_buffer_text(&buffer, "more");
        assert_int_equal(buffer.status, ATTN_E_NOMEM);
        if (buffer.data) assert_int_equal(strlen(buffer.data), buffer.bytes);
        assert_int_equal(buffer.bytes % 40, 0); /* whole prints only */
        char *text = (char *)(uintptr_t)1;
        size_t bytes = 1;
        assert_int_equal(attn_buffer_give(&buffer, &text, &bytes), ATTN_E_NOMEM);
        assert_null(text);
        assert_int_equal(bytes, 0);
        attn_context_free(ctx);
        assert_int_equal(memory.alive, 0);
    }
}

static void test_copy_text(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    char *copy = attn_copy_text(ctx, "query", 3);
    assert_string_equal(copy, "que");
    attn_release(ctx, copy);
    copy = attn_copy_text(ctx, NULL, 0);
    assert_string_equal(copy, "");
    attn_release(ctx, copy);
    attn_context_free(ctx);
}

static void test_sentences(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    assert_string_equal(attn_error(ctx), "");
    assert_int_equal(attn_fail(ctx, ATTN_E_SHAPE, "keys: %d, expected %d", 3, 4), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "keys: 3, expected 4");
    attn_fail(ctx, ATTN_E_SHAPE, "layer 2: %s", attn_error(ctx)); /* built on itself */
    assert_string_equal(attn_error(ctx), "layer 2: keys: 3, expected 4");
    errno = ENOENT;
    assert_int_equal(attn_fail_errno(ctx, "model/config.json", "open"), ATTN_E_IO);
    assert_string_equal(attn_error(ctx), "model/config.json: open: No such file or directory");
    char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    attn_fail(ctx, ATTN_E_IO, "%s", longer);
    assert_int_equal(strlen(attn_error(ctx)), sizeof ctx->error - 1);
    assert_int_equal(attn_fail(NULL, ATTN_E_IO, "nowhere to keep it"), ATTN_E_IO);
    assert_string_equal(attn_error(NULL), "");
    attn_context_free(ctx);
}

static void test_status_text(void **state) {
    (void)state;
    assert_string_equal(attn_status_text(ATTN_OK), "success");
    assert_string_equal(attn_status_text(ATTN_E_NOT_FOUND), "not found");
    assert_string_equal(attn_status_text((attn_status)-1234), "unknown status");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alloc),          cmocka_unit_test(test_default_allocator),
        cmocka_unit_test(test_huge_pages),     cmocka_unit_test(test_alloc_failure),
        cmocka_unit_test(test_grow),           cmocka_unit_test(test_buffer),
        cmocka_unit_test(test_buffer_failure), cmocka_unit_test(test_copy_text),
        cmocka_unit_test(test_sentences),      cmocka_unit_test(test_status_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
