/* gallery.h: every head that was looked at, and the files made of it. */
#ifndef ATTN_CLI_GALLERY_H
#define ATTN_CLI_GALLERY_H

#include "picture.h"

enum { SOURCE, READ, TARGET, SIDES }; /* READ: what the decoder reads, a start and the target without its end */

typedef struct side {
    const char *text; /* borrowed, as token is */
    const attn_token *token;
    bool start; /* the tokens are those read: first the start, then all of token but the last */
    picture_axis tokens, words;
    attn_page_axis axis; /* name NULL: there is no such side */
} side;

enum { TEXTS = 2, VIEWS = TEXTS * (ATTN_LOOK_CROSS + 2) }; /* each kind, and the alignment */
typedef struct gallery {
    side side[TEXTS][SIDES];
    char *text[TEXTS]; /* what stands above each; malloc'd */
    size_t texts;
    attn_page_view view[VIEWS];
    const char *kind[VIEWS];                /* encoder, decoder, cross or alignment */
    float *weights[VIEWS], *vectors[VIEWS]; /* malloc'd; vectors: queries, then keys, or NULL */
    size_t n, all;                          /* all: what counts of the views so far */
} gallery;

/* arrays.c: FILE.npz; FILE.safetensors, which says besides what it was made of. Print why not. */
bool gallery_write_arrays(const command *c, const gallery *g, const char *file);
bool gallery_write_capture(const command *c, const gallery *g, const gallery_choice *choice, const char *file);

#endif
