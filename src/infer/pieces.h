/* pieces.h: long texts translated in pieces and put together again. */
#ifndef ATTN_INFER_PIECES_H
#define ATTN_INFER_PIECES_H

#include "model/model.h"

/* Texts as pieces: those of text i are text[first[i]] … text[first[i + 1] − 1]. A tag of the target language stands
 * before each. */
typedef struct attn_pieces {
    const char **text;
    char **own; /* (count) what of text was made anew; else NULL */
    size_t *bytes, *first, count;
} attn_pieces;

attn_status attn_pieces_make(attn_context *ctx, attn_pieces *pieces, const attn_tokenizer *tokenizer,
                             const char *const *texts, const size_t *bytes, size_t n, size_t max_words);
void attn_pieces_free(attn_context *ctx, attn_pieces *pieces);

/* One translation of n ≥ 1 pieces, of one hypothesis each; the pieces stay the caller's. Tokens follow one another,
 * </s> of each piece among them; the alignment is a block for each piece. */
attn_status attn_pieces_join(attn_context *ctx, attn_translation *out, const attn_translation *piece, size_t n,
                             float length_penalty);

#endif
