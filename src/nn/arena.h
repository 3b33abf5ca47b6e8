/* arena.h: memory that is given out in order and taken back all at once.
 *
 * Pieces are 64-byte aligned. Reset keeps the memory; if it lay in several chunks they are merged into one, so that
 * work of the same size, done again, allocates nothing.                                                          */
#ifndef ATTN_NN_ARENA_H
#define ATTN_NN_ARENA_H

#include "base/base.h"

typedef struct attn_arena_chunk {
    struct attn_arena_chunk *next;
    size_t bytes, used; /* of what follows the header */
} attn_arena_chunk;

typedef struct attn_arena {
    attn_context *ctx;
    attn_arena_chunk *first, *current;
    size_t held;   /* bytes of all chunks */
    size_t merged; /* what the next first chunk should hold */
} attn_arena;

typedef struct attn_arena_mark {
    attn_arena_chunk *chunk;
    size_t used;
} attn_arena_mark;

/* count·size bytes, not cleared; NULL with the error set if they overflow or there is no memory. */
void *attn_arena_alloc(attn_arena *arena, size_t count, size_t size);
/* What was given out since the mark is taken back. */
attn_arena_mark attn_arena_mark_now(const attn_arena *arena);
void attn_arena_rewind(attn_arena *arena, attn_arena_mark mark);
void attn_arena_reset(attn_arena *arena);
void attn_arena_free(attn_arena *arena);

#endif
