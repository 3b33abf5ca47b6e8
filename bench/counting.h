/* counting.h: an allocator for benchmarks that say how much memory the library takes: `in_use` and `peak` are bytes. */
#ifndef ATTN_BENCH_COUNTING_H
#define ATTN_BENCH_COUNTING_H

#include <stdlib.h>
#include <string.h>

static size_t in_use, peak;

/* Counts what the library allocates; the size lies in front. */
static void *take(void *user, size_t bytes, size_t alignment) {
    (void)user;
    const size_t front = alignment < 64 ? 64 : alignment;
    char *p = aligned_alloc(front, (bytes + 2 * front - 1) / front * front);
    if (!p) return NULL;
    memcpy(p + front - sizeof bytes, &bytes, sizeof bytes);
    memcpy(p + front - 2 * sizeof bytes, &front, sizeof front);
    in_use += bytes;
    if (in_use > peak) peak = in_use;
    return p + front;
}
static void give(void *user, void *pointer) {
    (void)user;
    size_t bytes, front;
    if (!pointer) return;
    memcpy(&bytes, (char *)pointer - sizeof bytes, sizeof bytes);
    memcpy(&front, (char *)pointer - 2 * sizeof bytes, sizeof front);
    in_use -= bytes;
    free((char *)pointer - front);
}

#endif
