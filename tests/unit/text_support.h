/* text_support.h: what the tests of text share: a context whose allocations are counted and can fail, files. */
#ifndef TEST_TEXT_SUPPORT_H
#define TEST_TEXT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include <attn/text.h>

/* Allocations that live, their bytes now and at most, and after how many more one fails (−1: never). */
typedef struct memory {
    size_t live, bytes, peak;
    long left;
} memory;

enum { HEAD = 64 };

static inline void *memory_allocate(void *user, size_t bytes, size_t alignment) {
    memory *m = user;
    (void)alignment;
    if (m->left == 0) return NULL;
    if (m->left > 0) m->left--;
    char *block = aligned_alloc(HEAD, (bytes + 2 * HEAD - 1) / HEAD * HEAD);
    if (!block) return NULL;
    memcpy(block, &bytes, sizeof bytes);
    m->live++;
    m->bytes += bytes;
    if (m->bytes > m->peak) m->peak = m->bytes;
    return block + HEAD;
}

static inline void memory_release(void *user, void *pointer) {
    memory *m = user;
    size_t bytes;
    char *block = (char *)pointer - HEAD;
    memcpy(&bytes, block, sizeof bytes);
    m->live--;
    m->bytes -= bytes;
    free(block);
}

static inline attn_context *memory_context(memory *m) {
    attn_context *ctx;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    *m = (memory){0, 0, 0, -1};
    options.allocator = (attn_allocator){m, memory_allocate, memory_release};
    options.threads = 1;
    assert_int_equal(attn_context_create(&ctx, &options), ATTN_OK);
    return ctx;
}

/* The folder of the test's files, made anew. */
static inline const char *scratch_path(const char *name) {
    static char folder[64], path[256];
    if (!*folder) {
        strcpy(folder, "/tmp/attn-text-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static inline void scratch_remove(const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) unlink(scratch_path(names[i]));
    char folder[256];
    snprintf(folder, sizeof folder, "%s", scratch_path(""));
    rmdir(folder);
}

static inline void write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static inline const char *source_path(const char *name) {
    static char path[1024];
    const char *root = getenv("ATTN_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/%s", root ? root : ".", name);
    return path;
}

#define CHECK_OK(ctx, call)                                                       \
    do {                                                                          \
        attn_status check_status_ = (call);                                       \
        if (check_status_ != ATTN_OK) fail_msg("%s: %s", #call, attn_error(ctx)); \
    } while (0)

/* The call failed with this status, and its sentence holds the words. */
#define CHECK_FAILS(ctx, call, status, words)                                                                      \
    do {                                                                                                           \
        attn_status check_status_ = (call);                                                                        \
        if (check_status_ != (status) || !strstr(attn_error(ctx), (words)))                                        \
            fail_msg("%s: found %d, \"%s\", expected %d, \"%s\"", #call, check_status_, attn_error(ctx), (status), \
                     (words));                                                                                     \
    } while (0)

#endif
