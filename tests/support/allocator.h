/* allocator.h: an allocator that counts what is alive and fails on demand.
 *
 *     struct test_memory memory = TEST_MEMORY_INIT;
 *     attn_context *ctx = test_memory_context(&memory, 1);
 *     memory.fail_after = 3;                      // three allocations more, then none
 *     ...
 *     attn_context_free(ctx);
 *     assert_int_equal(memory.alive, 0);
 */
#ifndef ATTN_TEST_SUPPORT_ALLOCATOR_H
#define ATTN_TEST_SUPPORT_ALLOCATOR_H

#include "support/test.h"
#include <attn/base.h>

struct test_memory {
    long alive;      /* allocations not yet released */
    long fail_after; /* allocations that still succeed; −1: all */
    long requests;
};
#define TEST_MEMORY_INIT \
    { 0, -1, 0 }

static inline void *test_memory_allocate(void *user, size_t bytes, size_t alignment) {
    struct test_memory *memory = user;
    memory->requests++;
    if (memory->fail_after == 0) return NULL;
    if (memory->fail_after > 0) memory->fail_after--;
    void *pointer = NULL;
    if (posix_memalign(&pointer, alignment, bytes ? bytes : 1)) return NULL;
    memset(pointer, 0xA5, bytes); /* what is read before it is written shows */
    memory->alive++;
    return pointer;
}

static inline void test_memory_release(void *user, void *pointer) {
    struct test_memory *memory = user;
    assert_non_null(pointer);
    memory->alive--;
    free(pointer);
}

static inline attn_context *test_memory_context(struct test_memory *memory, int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.allocator = (attn_allocator){memory, test_memory_allocate, test_memory_release};
    options.threads = threads;
    attn_context *ctx = NULL;
    assert_int_equal(attn_context_create(&ctx, &options), ATTN_OK);
    return ctx;
}

#endif
