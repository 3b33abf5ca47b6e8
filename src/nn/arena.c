#include "nn/arena.h"

enum { ALIGNMENT = 64, HEADER = 64, SMALLEST_CHUNK = 1 << 20 };
_Static_assert(sizeof(attn_arena_chunk) <= HEADER, "the header fits before the first piece");

static attn_arena_chunk *new_chunk(attn_arena *arena, size_t bytes) {
    size_t whole;
    if (!attn_size_add(&whole, bytes, HEADER)) {
        attn_fail(arena->ctx, ATTN_E_NOMEM, "out of memory: a piece of %zu bytes", bytes);
        return NULL;
    }
    attn_arena_chunk *chunk = attn_alloc(arena->ctx, whole, 1);
    if (!chunk) return NULL;
    attn_want_huge_pages(arena->ctx, chunk, whole);
    *chunk = (attn_arena_chunk){NULL, bytes, 0};
    return chunk;
}

/* Makes a chunk of at least `bytes` the current one: the next that is there, or a new one behind the current. */
static bool advance(attn_arena *arena, size_t bytes) {
    attn_arena_chunk *last = arena->current;
    for (attn_arena_chunk *next = last ? last->next : arena->first; next; next = next->next) {
        last = next;
        if (next->bytes < bytes) continue;
        next->used = 0;
        arena->current = next;
        return true;
    }
    size_t good = ATTN_MAX((size_t)SMALLEST_CHUNK, arena->held / 2);
    if (!arena->first) good = ATTN_MAX(good, arena->merged);
    attn_arena_chunk *chunk = good > bytes ? new_chunk(arena, good) : NULL;
    if (!chunk) chunk = new_chunk(arena, bytes); /* the exact size may still fit where the good one did not */
    if (!chunk) return false;
    if (last) last->next = chunk;
    else arena->first = chunk;
    arena->current = chunk;
    arena->held += chunk->bytes;
    return true;
}

void *attn_arena_alloc(attn_arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (!attn_size_mul(&bytes, count, size) || !attn_size_add(&bytes, bytes, ALIGNMENT)) {
        attn_fail(arena->ctx, ATTN_E_NOMEM, "out of memory: %zu elements of %zu bytes", count, size);
        return NULL;
    }
    bytes &= ~(size_t)(ALIGNMENT - 1); /* at least one byte more than asked: pieces never share an address */
    attn_arena_chunk *chunk = arena->current;
    if (!chunk || chunk->bytes - chunk->used < bytes) {
        if (!advance(arena, bytes)) return NULL;
        chunk = arena->current;
    }
    char *piece = (char *)chunk + HEADER + chunk->used;
    chunk->used += bytes;
    return piece;
}

attn_arena_mark attn_arena_mark_now(const attn_arena *arena) {
    return (attn_arena_mark){arena->current, arena->current ? arena->current->used : 0};
}

void attn_arena_rewind(attn_arena *arena, attn_arena_mark mark) {
    arena->current = mark.chunk;
    if (mark.chunk) mark.chunk->used = mark.used;
}

static void release_chunks(attn_arena *arena) {
    for (attn_arena_chunk *chunk = arena->first, *next; chunk; chunk = next) {
        next = chunk->next;
        attn_release(arena->ctx, chunk);
    }
    arena->first = arena->current = NULL;
    arena->held = 0;
}

void attn_arena_reset(attn_arena *arena) {
    if (arena->first && arena->first->next) {
        arena->merged = arena->held;
        release_chunks(arena);
    }
    arena->current = NULL;
}

void attn_arena_free(attn_arena *arena) { release_chunks(arena); }
