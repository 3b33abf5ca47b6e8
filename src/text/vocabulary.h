/* vocabulary.h: texts with numbers, and pairs of numbers with numbers; both find in constant time.
 *
 *     attn_vocabulary words = ATTN_VOCABULARY_INIT(ctx);
 *     ATTN_TRY(attn_vocabulary_add(&words, "cat", 3, &id));    // its id, old or new
 *     attn_vocabulary_text(&words, id);                         // "cat"
 */
#ifndef ATTN_TEXT_VOCABULARY_H
#define ATTN_TEXT_VOCABULARY_H

#include "base/base.h"

/* Ids count from 0 in the order of adding. The order of slots, which no result shows, differs from table to table:
 * nobody can prepare texts that all meet in one slot. */
typedef struct attn_vocabulary {
    attn_context *ctx;
    char *text;    /* all texts, each with a NUL behind */
    size_t *first; /* (count + 1) where each begins in text */
    size_t bytes, text_capacity, count, first_capacity;
    uint32_t *slot; /* (slots) id + 1; 0: empty; a power of two, at most half full */
    size_t slots;
    uint64_t seed;
} attn_vocabulary;
#define ATTN_VOCABULARY_INIT(ctx) \
    { (ctx), NULL, NULL, 0, 0, 0, 0, NULL, 0, 0 }

attn_status attn_vocabulary_add(attn_vocabulary *vocabulary, const char *text, size_t bytes, int32_t *id);
int32_t attn_vocabulary_find(const attn_vocabulary *vocabulary, const char *text, size_t bytes); /* -1: not there */
const char *attn_vocabulary_text(const attn_vocabulary *vocabulary, int32_t id);                 /* NUL-terminated */
size_t attn_vocabulary_bytes(const attn_vocabulary *vocabulary, int32_t id);
void attn_vocabulary_free(attn_vocabulary *vocabulary);

#define ATTN_PAIR_NONE UINT32_MAX

/* (left, right) → a number under ATTN_PAIR_NONE. */
typedef struct attn_pairs {
    attn_context *ctx;
    struct attn_pair_slot {
        int32_t left, right;
        uint32_t value; /* ATTN_PAIR_NONE: empty */
    } * slot;
    size_t slots, count;
    uint64_t seed;
} attn_pairs;
#define ATTN_PAIRS_INIT(ctx) \
    { (ctx), NULL, 0, 0, 0 }

uint32_t attn_pairs_find(const attn_pairs *pairs, int32_t left, int32_t right); /* ATTN_PAIR_NONE: not there */
/* The pair must not be there yet. */
attn_status attn_pairs_add(attn_pairs *pairs, int32_t left, int32_t right, uint32_t value);
void attn_pairs_free(attn_pairs *pairs);

#endif
