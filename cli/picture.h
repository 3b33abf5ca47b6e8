/* picture.h: a translation's alignment as a heat map. */
#ifndef ATTN_CLI_PICTURE_H
#define ATTN_CLI_PICTURE_H

#include "common.h"

typedef struct picture {
    attn_heatmap map;
    char **labels; /* rows, then columns */
    float *values; /* NULL: the map borrows the hypothesis's */
} picture;

/* Rows are words of the hypothesis, columns words of the source; h->alignment is not NULL. Both may be none. Prints why
 * not. */
bool picture_make(const command *c, picture *out, const attn_translation *t, const attn_hypothesis *h);
/* The same of tokens, </s> included. Borrows h. */
bool picture_make_tokens(const command *c, picture *out, const attn_tokenizer *k, const attn_translation *t,
                         const attn_hypothesis *h);
void picture_free(picture *p);

#endif
