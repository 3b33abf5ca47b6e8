/* picture.h: a translation's alignment as a heat map. */
#ifndef ATTN_CLI_PICTURE_H
#define ATTN_CLI_PICTURE_H

#include "common.h"

typedef struct picture {
    attn_heatmap map;
    char **labels; /* rows, then columns */
    float *values; /* NULL: the map borrows the hypothesis's */
    float *merged; /* of a head */
} picture;

/* Rows are words of the hypothesis, columns words of the source; h->alignment is not NULL. Both may be none. Prints why
 * not. */
bool picture_make(const command *c, picture *out, const attn_translation *t, const attn_hypothesis *h);
/* The same of tokens, </s> included. Borrows h. */
bool picture_make_tokens(const command *c, picture *out, const attn_tokenizer *k, const attn_translation *t,
                         const attn_hypothesis *h);
/* A head's weights, as attn_look_at_pair gives them for the hypothesis; words: the tokens of a word are put together.
 */
bool picture_make_head(const command *c, picture *out, const attn_tokenizer *k, const attn_translation *t,
                       const attn_hypothesis *h, attn_look_kind kind, const float *weights, bool words);
/* The same of one text that a model reads, as attn_look_at_text gives it. */
bool picture_make_text(const command *c, picture *out, const attn_tokenizer *k, const attn_tokens *tokens,
                       const float *weights, bool words);
void picture_free(picture *p);

#endif
