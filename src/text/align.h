/* align.h: the parts of the word aligner.
 *
 * Words are numbers in a vocabulary that begins with the empty word: 0 is NULL, which explains words without a
 * counterpart. Both directions share one table of the pairs of words that meet in some sentence pair: direction 0
 * explains target words by source words, p(target | source), direction 1 source words by target words. */
#ifndef ATTN_TEXT_ALIGN_H
#define ATTN_TEXT_ALIGN_H

#include "base/base.h"
#include "text/vocabulary.h"
#include <attn/text.h>

/* ---- words ------------------------------------------------------------------------------------ */

/* Numbers of the white-space words of one line. `line` is the text they were read from. */
typedef struct attn_sentence {
    attn_buffer line;
    uint32_t *word;
    size_t count, capacity;
} attn_sentence;
/* Words by their numbers in `known`, 0 where it has none; `add`, the same vocabulary or NULL, takes up new ones. */
attn_status attn_sentence_read(attn_context *ctx, attn_sentence *sentence, const attn_vocabulary *known,
                               attn_vocabulary *add, const char *text, bool lowercase);

/* ---- pairs of words -------------------------------------------------------------------------- */

typedef struct attn_word_pair {
    uint64_t key;      /* source << 32 | target; 0: free */
    uint64_t count[2]; /* expected counts in units of 2^-32: sums of integers do not depend on their order */
    float p[2];
} attn_word_pair;

typedef struct attn_word_pairs {
    attn_word_pair *slot;
    size_t slots, used;
} attn_word_pairs;

static inline uint64_t attn_word_pair_key(uint32_t source, uint32_t target) { return (uint64_t)source << 32 | target; }
attn_status attn_word_pairs_init(attn_context *ctx, attn_word_pairs *table, size_t slots); /* a power of two */
/* NULL if the pair never met. */
attn_word_pair *attn_word_pair_find(const attn_word_pairs *table, uint64_t key);
attn_status attn_word_pair_add(attn_context *ctx, attn_word_pairs *table, attn_word_pair **pair, uint64_t key);
/* Keeps the pairs that are more probable than this in some direction. */
attn_status attn_word_pairs_prune(attn_context *ctx, attn_word_pairs *table, float probability);

/* What a pair of words that is not in the table gets: little enough that the diagonal decides. */
#define ATTN_WORD_PAIR_UNSEEN 1e-9F

/* ---- the model ------------------------------------------------------------------------------- */

typedef struct attn_gloss {
    uint32_t target;
    float probability;
} attn_gloss;

struct attn_aligner {
    attn_context *ctx;
    attn_align_options options;
    attn_vocabulary vocabulary[2]; /* source, target */
    attn_word_pairs pairs;
    double tension[2];
    attn_gloss *gloss; /* [source words, NULL among them] */
};

/* The prior of Dyer et al., without its norm: row[i] = exp(−tension · |(i+1)/n − (j+1)/m|) for i < n. Returns the norm.
 */
double attn_diagonal_row(double *row, size_t j, size_t m, size_t n, double tension);

/* forward[j]: the source word of target word j, or −1; reverse[i]: the target word of source word i, or −1.
 * Gives links, ordered by source, then target. */
attn_status attn_symmetrize_links(attn_context *ctx, attn_links *links, const int32_t *forward, size_t targets,
                                  const int32_t *reverse, size_t sources, attn_symmetrize how);

#endif
