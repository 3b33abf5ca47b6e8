/* sentences.h: where a text can be cut so that each piece can be translated by itself. */
#ifndef ATTN_TEXT_SENTENCES_H
#define ATTN_TEXT_SENTENCES_H

#include "base/base.h"

typedef struct attn_piece {
    size_t first, end; /* bytes, no white space at either end */
} attn_piece;

/* Sentences, and those of more than max_words words cut at a semicolon, colon, dash or comma, or else between words.
 * Gives *pieces (attn_release), in order, none of them blank; blank text has none. */
attn_status attn_text_split(attn_context *ctx, attn_piece **pieces, size_t *n, const char *text, size_t bytes,
                            size_t max_words);

#endif
