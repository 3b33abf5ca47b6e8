/* prefixes.h: all texts of a vocabulary that begin at a place, found in one walk over its bytes.
 *
 *     attn_prefixes prefixes = ATTN_PREFIXES_INIT;
 *     ATTN_TRY(attn_prefixes_build(ctx, &prefixes, &vocabulary, NULL));
 *     attn_prefix_walk walk = attn_prefixes_walk(&prefixes);
 *     for (size_t i = at; i < bytes && attn_prefixes_step(&prefixes, &walk, text[i]); i++)
 *         if (walk.id >= 0) ... vocabulary text walk.id is text[at, i + 1)
 */
#ifndef ATTN_TEXT_PREFIXES_H
#define ATTN_TEXT_PREFIXES_H

#include "text/vocabulary.h"

typedef struct attn_prefixes {
    const attn_vocabulary *vocabulary; /* kept */
    int32_t *order;                    /* (count) ids, sorted by their texts' bytes */
    size_t count;
    uint32_t first[257]; /* where texts that begin with a byte begin in order; the last is count */
} attn_prefixes;
#define ATTN_PREFIXES_INIT   \
    {                        \
        NULL, NULL, 0, { 0 } \
    }

/* The vocabulary does not change any more. left_out (count, or NULL): texts that are not to be found. */
attn_status attn_prefixes_build(attn_context *ctx, attn_prefixes *prefixes, const attn_vocabulary *vocabulary,
                                const bool *left_out);
void attn_prefixes_free(attn_context *ctx, attn_prefixes *prefixes);

typedef struct attn_prefix_walk {
    uint32_t low, high; /* texts of order that begin with the bytes so far */
    size_t depth;       /* how many bytes */
    int32_t id;         /* of the text of just these bytes; −1: there is none */
} attn_prefix_walk;

attn_prefix_walk attn_prefixes_walk(const attn_prefixes *prefixes);
/* One byte more; false: no text begins so. */
bool attn_prefixes_step(const attn_prefixes *prefixes, attn_prefix_walk *walk, char byte);
/* The longest text behind the bytes walked so far, and its own bytes; −1: none. */
int32_t attn_prefixes_longest(const attn_prefixes *prefixes, attn_prefix_walk walk, const char *text, size_t bytes,
                              size_t *length);

#endif
