/* bleu.h: what the measures of translation share: characters as Python's str sees them, and matched n-grams. */
#ifndef ATTN_TEXT_BLEU_H
#define ATTN_TEXT_BLEU_H

#include "base/base.h"

/* The character at *text, which moves on; each byte that is not UTF-8 is U+FFFD. *text < end. */
uint32_t attn_character_next(const char **text, const char *end);
/* str.isspace, which is also where str.split cuts. */
bool attn_character_is_space(uint32_t character);
/* str.lower, with the final sigma and the dotted I; what is not UTF-8 stays as it is. */
void attn_lower_add(attn_buffer *buffer, const char *text, size_t bytes);
/* The next word of str.split at or after *text: true, and [*first, *end); *text moves behind it. */
bool attn_word_next(const char **text, const char *limit, const char **first, const char **end);

enum { ATTN_NGRAM_ORDERS = 6 };

/* N-grams of one pair of sentences; [0] is unigrams. */
typedef struct attn_ngram_counts {
    size_t hypothesis[ATTN_NGRAM_ORDERS], reference[ATTN_NGRAM_ORDERS], match[ATTN_NGRAM_ORDERS];
} attn_ngram_counts;

typedef struct attn_ngram_slot {
    uint64_t key;
    uint32_t id, left; /* id 0: free; left: how often the reference has it and no hypothesis n-gram has used it */
} attn_ngram_slot;

/* Scratch that grows, for many pairs. */
typedef struct attn_ngram_work {
    attn_context *ctx;
    attn_ngram_slot *slot;
    size_t slots;
    uint32_t *prefix;
    size_t prefixes;
} attn_ngram_work;
#define ATTN_NGRAM_WORK_INIT(ctx) \
    { (ctx), NULL, 0, NULL, 0 }

/* Counts n-grams of 1 … orders symbols; match is the sum of the smaller of both counts. Linear time. */
attn_status attn_ngrams_match(attn_ngram_work *work, attn_ngram_counts *counts, const uint32_t *hypothesis,
                              size_t hypothesis_n, const uint32_t *reference, size_t reference_n, int orders);
void attn_ngram_work_free(attn_ngram_work *work);

/* E_ARGUMENT if a line is missing or there is none. */
attn_status attn_measure_check(attn_context *ctx, const char *name, const void *out, const char *const *hypotheses,
                               const char *const *references, size_t n);

#endif
