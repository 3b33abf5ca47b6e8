/* guide.h: word alignments that an attention head is taught: links between the tokens of a training example.
 *
 * An aligner (Dyer et al. 2013) learns from the training pairs themselves. The links of a pair's words, both directions
 * intersected, become links of all tokens of these words (Chen, Matusov, Khadivi & Peter 2016, "Guided Alignment
 * Training for Topic-Aware Neural Machine Translation"; the intersection as in Garg et al. 2019). */
#ifndef ATTN_TRAIN_GUIDE_H
#define ATTN_TRAIN_GUIDE_H

#include "base/base.h"
#include <attn/text.h>

typedef struct attn_guide attn_guide;
/* gives. */
attn_status attn_guide_create(attn_guide **gives, attn_context *ctx, const attn_corpus *corpus);
void attn_guide_free(attn_guide *guide);

/* One text of an example, made of pieces: piece k ends at byte end[k], the next one begins after a space. */
typedef struct attn_joined_text {
    const char *text;
    const size_t *end;
    size_t pieces;
    const attn_tokens *tokens; /* of all of it */
} attn_joined_text;

/* Appends the links of tokens to link[*count …], by target, then source. */
attn_status attn_guide_links(attn_guide *guide, attn_link **link, size_t *count, size_t *capacity,
                             const attn_joined_text *source, const attn_joined_text *target);

#endif
