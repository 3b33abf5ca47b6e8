/* corpus.h: what a corpus is made of. */
#ifndef ATTN_TEXT_CORPUS_H
#define ATTN_TEXT_CORPUS_H

#include <attn/text.h>

#include "base/base.h"

struct attn_corpus {
    attn_context *ctx;
    char *text[2]; /* the files; the second is NULL for TSV and for texts */
    attn_pair *pair;
    size_t count, capacity;
};

#endif
