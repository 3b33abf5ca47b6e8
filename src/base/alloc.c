/* alloc.c: memory through the context's allocator. The only file that may call the C library's. */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { ALIGNMENT = 64, HUGE_PAGE = 2 << 20 };

static void *default_allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    size_t rounded; /* aligned_alloc wants a multiple of the alignment */
    if (!attn_size_add(&rounded, bytes, alignment - 1)) return NULL;
    return aligned_alloc(alignment, rounded & ~(alignment - 1));
}

static void default_release(void *user, void *pointer) {
    (void)user;
    free(pointer);
}

const attn_allocator attn_default_allocator = {NULL, default_allocate, default_release};

static void *allocate(attn_context *ctx, size_t *bytes, size_t count, size_t size) {
    if (!attn_size_mul(bytes, count, size)) {
        attn_fail(ctx, ATTN_E_NOMEM, "out of memory: %zu elements of %zu bytes are more than the address space", count,
                  size);
        return NULL;
    }
    void *pointer = ctx->allocator.allocate(ctx->allocator.user, ATTN_MAX(*bytes, 1), ALIGNMENT);
    if (!pointer) attn_fail(ctx, ATTN_E_NOMEM, "out of memory: no %zu bytes", *bytes);
    return pointer;
}

void *attn_alloc(attn_context *ctx, size_t count, size_t size) {
    size_t bytes;
    return allocate(ctx, &bytes, count, size);
}

void *attn_alloc_zero(attn_context *ctx, size_t count, size_t size) {
    size_t bytes;
    void *pointer = allocate(ctx, &bytes, count, size);
    if (!pointer) return NULL;
    attn_want_huge_pages(ctx, pointer, bytes); /* all of it is touched */
    return memset(pointer, 0, bytes);
}

void attn_want_huge_pages(attn_context *ctx, void *data, size_t bytes) {
#if defined(__linux__)
    if (ctx->allocator.allocate != default_allocate) return;
    const uintptr_t page = 4096, begin = ((uintptr_t)data + page - 1) / page * page;
    const uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (end > begin + HUGE_PAGE)
        madvise((void *)begin, end - begin, MADV_HUGEPAGE); /* if it cannot be, nothing is lost */
#else
    (void)ctx, (void)data, (void)bytes;
#endif
}

void attn_release(attn_context *ctx, void *pointer) {
    if (pointer) ctx->allocator.release(ctx->allocator.user, pointer);
}

attn_status attn_grow(attn_context *ctx, void *array_pointer, size_t *capacity, size_t wanted, size_t used,
                      size_t size) {
    if (wanted <= *capacity) return ATTN_OK;
    size_t doubled;
    if (!attn_size_mul(&doubled, *capacity, 2)) doubled = wanted;
    size_t count = ATTN_MAX(ATTN_MAX(wanted, doubled), 8);
    /* The array is any T *: its pointer is copied as bytes, not read through a void ** of another type. */
    void *old;
    memcpy(&old, array_pointer, sizeof old);
    void *grown = attn_alloc(ctx, count, size);
    if (!grown && count > wanted) { /* twice as much is a convenience, not a need */
        count = wanted;
        grown = attn_alloc(ctx, count, size);
    }
    if (!grown) return ATTN_E_NOMEM;
    if (used) memcpy(grown, old, used * size);
    attn_release(ctx, old);
    memcpy(array_pointer, &grown, sizeof grown);
    *capacity = count;
    return ATTN_OK;
}

char *attn_copy_text(attn_context *ctx, const char *text, size_t bytes) {
    size_t with_end;
    if (!attn_size_add(&with_end, bytes, 1)) {
        attn_fail(ctx, ATTN_E_NOMEM, "out of memory: a text of %zu bytes is more than the address space", bytes);
        return NULL;
    }
    char *copy = attn_alloc(ctx, with_end, 1);
    if (!copy) return NULL;
    if (bytes) memcpy(copy, text, bytes);
    copy[bytes] = '\0';
    return copy;
}
