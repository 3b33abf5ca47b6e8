/* picture.h: a translation's alignment or a head as a heat map; every head as a page or as arrays. */
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
/* The tokens' ids, to be freed; NULL after a message. */
int32_t *picture_ids(const command *c, const attn_tokens *tokens);

/* What one side of a head's picture shows: tokens put together to words, special tokens and the start alone. */
typedef struct picture_axis {
    size_t *group; /* of each token */
    size_t tokens, groups;
    char **label; /* (groups) */
} picture_axis;
/* `start`: the tokens are those read, </s> first and the last one not. Each token alone where not `words`. False
 * without memory; to be freed all the same. */
bool axis_make(picture_axis *a, const attn_tokenizer *k, const char *text, const attn_token *token, size_t n,
               bool start, bool words);
void axis_free(picture_axis *a);

/* page.c. Which heads: number 0 is all of them; kind NULL: all kinds, and the alignment. */
typedef struct gallery_choice {
    const attn_look_kind *kind;
    size_t layer, head; /* from 1 */
    bool neurons;       /* queries and keys too */
    const char *title, *about;
    const char *model[2], *type[2], *command; /* what it was made of; a second model that is another, or NULL */
} gallery_choice;
/* Those of n translations, one or two beside one another, each by its model t[i], in FILE.html, FILE.npz or
 * FILE.safetensors. Prints why not. */
bool gallery_of_pairs(const command *c, const translator *t, const attn_translation *tr, size_t n,
                      const gallery_choice *choice, const char *file);
bool gallery_of_texts(const command *c, const translator *t, const attn_tokens *tokens, size_t n,
                      const gallery_choice *choice, const char *file);

#endif
