/* traced.h: text on its way through normalisation, each byte knowing the bytes of the given text that it came from.
 *
 *     attn_traced_copy(&out, &in, first, end);                  // bytes as they are
 *     attn_traced_put(&out, "ss", 2, &in, first, end);          // other bytes for in[first, end)
 */
#ifndef ATTN_TEXT_TRACED_H
#define ATTN_TEXT_TRACED_H

#include "base/base.h"

typedef struct attn_origin {
    uint32_t first, end; /* bytes of the given text */
} attn_origin;

typedef struct attn_traced {
    attn_buffer text;    /* and the status of everything */
    attn_origin *origin; /* (text.bytes); not used while the text is a piece of the given one */
    size_t capacity;
    bool given; /* byte i is byte base + i of the given text */
    size_t base;
} attn_traced;
#define ATTN_TRACED_INIT(ctx) \
    { ATTN_BUFFER_INIT(ctx), NULL, 0, false, 0 }

/* Empties it. */
void attn_traced_clear(attn_traced *t);
void attn_traced_free(attn_traced *t);
/* Makes it bytes of the given text, which lie at base there. */
void attn_traced_give(attn_traced *t, const char *text, size_t bytes, size_t base);
void attn_traced_copy(attn_traced *out, const attn_traced *in, size_t first, size_t end);
void attn_traced_put(attn_traced *out, const char *text, size_t bytes, const attn_traced *in, size_t first, size_t end);
/* The bytes of the given text that [first, end) came from. */
attn_origin attn_traced_span(const attn_traced *t, size_t first, size_t end);

#endif
