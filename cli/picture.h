/* picture.h: a translation's alignment as a heat map of words. */
#ifndef ATTN_CLI_PICTURE_H
#define ATTN_CLI_PICTURE_H

#include "common.h"

typedef struct picture {
    attn_heatmap map;
    char **labels; /* rows, then columns */
    float *values;
} picture;

/* Rows are target words, columns source words. false (with a message) if the model has no alignment or memory is short.
 */
bool picture_make(const command *c, picture *out, const attn_translation *t, const attn_hypothesis *h);
void picture_free(picture *p);
/* The k-th white-space word of text, by the tokens' spans; malloc'd. */
char *word_text(const char *text, const attn_token *token, size_t n, size_t word);

#endif
