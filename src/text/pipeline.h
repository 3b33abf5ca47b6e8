/* pipeline.h: a tokenizer that is what a tokenizer.json says, part by part:
 *
 *     text → added tokens, cut out whole → normaliser → pre-tokenizer → model → ids, with what the post-processor adds
 *     ids → texts of tokens → decoders → text
 *
 * What is trained here does without all this (tokenizer.h); everything else, and every other format, becomes a
 * pipeline. Its vocabulary, merges and infos are the tokenizer's. Spans are bytes of the given text. */
#ifndef ATTN_TEXT_PIPELINE_H
#define ATTN_TEXT_PIPELINE_H

#include "text/parts.h"
#include "text/prefixes.h"
#include "text/tokenizer.h"
#include "text/unigram.h"

#define ATTN_SUBWORD_LIST(X) X(BPE, "BPE") X(WORDPIECE, "WordPiece") X(UNIGRAM, "Unigram") X(WORDLEVEL, "WordLevel")
typedef enum attn_subword {
#define ATTN_SUBWORD_ENUM(name, text) ATTN_##name,
    ATTN_SUBWORD_LIST(ATTN_SUBWORD_ENUM)
#undef ATTN_SUBWORD_ENUM
} attn_subword;

/* A token that is looked for in the text before anything else happens to it. */
typedef struct attn_added {
    int32_t id;
    bool special, single_word, left, right, normalised;
} attn_added;

typedef struct attn_matched {
    attn_vocabulary texts;
    int32_t *token; /* (texts) index in added */
    size_t capacity;
    attn_prefixes prefixes;
} attn_matched;

typedef struct attn_pipeline {
    attn_parts normaliser, splitter, decoder;
    attn_subword model;
    bool byte_level;                                 /* each byte is a character to the model */
    bool byte_fallback, fuse_unknown, ignore_merges; /* BPE, the first also Unigram */
    int32_t unknown;                                 /* −1: there is none */
    bool *outside;                                   /* (vocabulary) added tokens that the model does not know */
    char *prefix, *suffix;                           /* of pieces within a word, of its last piece; NULL: none */
    size_t prefix_bytes, suffix_bytes;
    size_t longest_word;   /* WordPiece: characters; a longer word is unknown */
    int32_t start_id[256]; /* of the bytes' characters, with byte_level; −1: there is none */
    attn_unigram unigram;
    attn_added *added; /* (added_count) */
    size_t added_count, added_capacity;
    attn_prefixes pieces;     /* of the vocabulary; WordPiece and Unigram */
    attn_matched raw, normal; /* added tokens to be found in the text as it is, and when it is normalised */
    int32_t *normal_text;     /* (vocabulary) an added token's index in normal.texts, −1; NULL: all are −1 */
    int32_t *before, *after;  /* what the post-processor puts around a text */
    size_t before_count, before_capacity, after_count, after_capacity;
    struct json_t *parts; /* tokenizer.json without vocabulary and merges */
} attn_pipeline;

/* An empty one in the tokenizer. */
attn_status attn_pipeline_new(attn_tokenizer *tokenizer);
void attn_pipeline_free(attn_context *ctx, attn_pipeline *p);
/* Reads everything of a tokenizer.json but "model" and "added_tokens". Keeps json. */
attn_status attn_pipeline_parts(attn_tokenizer *tokenizer, struct json_t *json);
/* "added_tokens", when the vocabulary holds them all. */
attn_status attn_pipeline_added(attn_tokenizer *tokenizer, struct json_t *json);
/* Fills the tables of ids when vocabulary, merges and added tokens are whole. */
attn_status attn_pipeline_finish(attn_tokenizer *tokenizer);
attn_status attn_pipeline_post_processor(attn_tokenizer *tokenizer, struct json_t *json);

/* A whole tokenizer.json. */
attn_status attn_pipeline_parse(attn_tokenizer *tokenizer, struct json_t *root);
/* NULL: no memory. */
struct json_t *attn_pipeline_write(const attn_tokenizer *tokenizer);

attn_status attn_pipeline_encode(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text, size_t bytes,
                                 const attn_tokenize_options *options);
attn_status attn_pipeline_decode(const attn_tokenizer *tokenizer, char **out, size_t *out_bytes, const int32_t *ids,
                                 size_t n, attn_token *spans);

/* ---- added tokens --------------------------------------------------------------------------- */

/* The next added token in text from *at on, which goes past it; text before `done` is taken already. */
typedef struct attn_added_hit {
    size_t first, end;
    const attn_added *token; /* NULL: none */
} attn_added_hit;
attn_added_hit attn_added_next(const attn_pipeline *p, const attn_matched *matched, const char *text, size_t bytes,
                               size_t *at, size_t done, const attn_tokenize_options *options);
/* Adds a token to those to be found; its text, normalised if it wants that. */
attn_status attn_added_put(attn_pipeline *p, attn_work *work, size_t index, const char *text, size_t bytes);

/* The model's piece of this text; −1: it has none. */
int32_t attn_pipeline_find(const attn_tokenizer *tokenizer, const char *text, size_t bytes);

/* ---- models --------------------------------------------------------------------------------- */

/* One text at work. */
typedef struct attn_encoder {
    const attn_tokenizer *tokenizer;
    const attn_pipeline *p;
    attn_work work;
    attn_traced normal;
    attn_cuts cuts;
    attn_symbols symbols;
    attn_unigram_path path;
    attn_buffer spelled;
    attn_tokens *tokens;
    const attn_tokenize_options *options;
} attn_encoder;

/* Room for so many tokens more. */
attn_status attn_encoder_reserve(attn_encoder *e, size_t tokens);
/* The token of cuts.text[first, end). */
attn_status attn_encoder_add(attn_encoder *e, int32_t id, size_t first, size_t end);
/* The tokens of a piece. */
attn_status attn_encode_piece(attn_encoder *e, attn_cut piece);

#endif
