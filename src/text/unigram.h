/* unigram.h: the pieces of a text whose product of probabilities is the greatest (Kudo 2018, "Subword regularization").
 *
 *     attn_unigram_path path = ATTN_UNIGRAM_PATH_INIT;
 *     ATTN_TRY(attn_unigram_segment(ctx, &unigram, &path, text, bytes));
 *     for (size_t at = 0; at < bytes; at = piece.end) piece = attn_unigram_at(&path, at) ...
 */
#ifndef ATTN_TEXT_UNIGRAM_H
#define ATTN_TEXT_UNIGRAM_H

#include "text/prefixes.h"

typedef struct attn_unigram {
    const attn_prefixes *pieces; /* all of them; kept */
    double *score;               /* (pieces) logarithms */
    size_t count, capacity;
    double unknown_score; /* of a character that no piece covers: 10 less than the least */
    int32_t unknown;      /* −1: there is none */
    bool single;          /* sums in float, as SentencePiece does; else in double, as tokenizers does */
} attn_unigram;
#define ATTN_UNIGRAM_INIT \
    { NULL, NULL, 0, 0, 0, -1, false }

attn_status attn_unigram_add(attn_context *ctx, attn_unigram *unigram, double score); /* in the order of ids */
void attn_unigram_free(attn_context *ctx, attn_unigram *unigram);

typedef struct attn_unigram_piece {
    size_t first, end;
    int32_t id; /* unigram->unknown for what no piece covers, neighbours of that kind together */
} attn_unigram_piece;

typedef struct attn_unigram_path {
    size_t count;                   /* of pieces */
    struct attn_unigram_node *node; /* (bytes + 1) */
    size_t nodes;
} attn_unigram_path;
#define ATTN_UNIGRAM_PATH_INIT \
    { 0, NULL, 0 }
attn_status attn_unigram_segment(attn_context *ctx, const attn_unigram *unigram, attn_unigram_path *path,
                                 const char *text, size_t bytes);
/* The piece of the path that begins at first. */
attn_unigram_piece attn_unigram_at(const attn_unigram_path *path, size_t first);
void attn_unigram_path_free(attn_context *ctx, attn_unigram_path *path);

#endif
