/* tokenizer.h: a tokenizer is the parts of its tokenizer.json, in their order: steps of normalisation, the mark before
 * words, splitters, merges, decoder. Other programs' are in pipeline.h.
 *
 * What is trained here is
 *   normaliser     NFC; ▁ to a space (it is the mark); ’ to '; runs of white space to one space; none at the ends;
 *                  lower case if asked for
 *   pre-tokenizer  a space, and the start of the text, becomes the mark ▁ of the word behind it; letters, combining
 *                  marks and apostrophes form words, and every other character (digit, punctuation, symbol) is a piece
 *                  by itself: "▁übersetzen" and "?". So words with and without punctuation share their pieces, numbers
 *                  are spelt by digits, and "▁don't" or "▁l'homme" may still be learned whole
 *   model          BPE with byte fallback: a character without a piece is its UTF-8 bytes <0xC3> <0xA4>
 *   decoder        ▁ to a space, bytes to characters, the first space away: exactly the normalised text
 *
 * Text never becomes a special token, "</s>" typed by somebody is four characters, but for a tag such as <2fr> at its
 * start, where the tokenizer was trained with tags. */
#ifndef ATTN_TEXT_TOKENIZER_H
#define ATTN_TEXT_TOKENIZER_H

#include <attn/text.h>

#include "text/bpe.h"
#include "text/vocabulary.h"

struct json_t;

enum { ATTN_NORM_STEPS = 16, ATTN_SPLITTERS = 8, ATTN_REPLACE_BYTES = 64, ATTN_LOW_CHARACTERS = 0x180 };

typedef struct attn_norm_step attn_norm_step;

/* A kind of step; a row of the table in tokenizer_steps.c. */
typedef struct attn_norm_type {
    const char *name; /* "type" in tokenizer.json */
    void (*apply)(const attn_norm_step *step, attn_buffer *out, const char *text, size_t bytes);
    attn_status (*parse)(attn_context *ctx, attn_norm_step *step, struct json_t *json);
    struct json_t *(*write)(const attn_norm_step *step);
} attn_norm_type;

struct attn_norm_step {
    const attn_norm_type *type;
    bool spaces, left, right; /* Replace of \s+; Strip */
    size_t from_bytes, to_bytes;
    char from[ATTN_REPLACE_BYTES], to[ATTN_REPLACE_BYTES];
};

/* A pre-tokenizer that sets some characters apart, each a piece by itself. */
typedef struct attn_splitter {
    const char *type;
    bool (*isolates)(int32_t c);
    const char *settings; /* JSON of what must stand beside "type" */
} attn_splitter;

typedef struct attn_token_info {
    bool special;
    int16_t byte; /* of <0x00> … <0xFF>, else −1 */
} attn_token_info;

struct attn_tokenizer {
    attn_context *ctx;
    struct attn_pipeline *pipeline; /* NULL: of the kind that is trained here, with the steps below */
    attn_norm_step norm[ATTN_NORM_STEPS];
    size_t norms;
    const attn_splitter *splitter[ATTN_SPLITTERS];
    size_t splitters;
    attn_vocabulary vocabulary;
    attn_bpe bpe;
    attn_token_info *info;                     /* (vocabulary.count) */
    int32_t byte_id[256];                      /* of <0x00> … <0xFF>; −1: there is none */
    int32_t character_id[ATTN_LOW_CHARACTERS]; /* −1: it has no piece; higher characters are looked up */
    int32_t mark_id, eos;                      /* −1: there is none */
};

/* An empty one. gives. */
attn_status attn_tokenizer_new(attn_tokenizer **gives, attn_context *ctx);
/* The normaliser and pre-tokenizer of what is trained here. */
void attn_tokenizer_default_steps(attn_tokenizer *tokenizer, bool lowercase);
/* Fills info and the tables of ids when the vocabulary is whole. special: (count) ids. Every byte must have a token. */
attn_status attn_tokenizer_finish(attn_tokenizer *tokenizer, const int32_t *special, size_t count);

/* The parts of that, for a pipeline: no special tokens yet; bytes and characters that have tokens. */
attn_status attn_tokenizer_make_info(attn_tokenizer *tokenizer);
void attn_tokenizer_find_characters(attn_tokenizer *tokenizer);
/* The text of an id that no piece has: it is not UTF-8, so that nothing is ever found to be it. */
void attn_hole(char text[32], size_t id);

/* tokenizer.json in memory; attn_tokenizer_load without the file. gives. */
attn_status attn_tokenizer_parse(attn_tokenizer **gives, attn_context *ctx, const char *text, size_t bytes);
/* Parts of tokenizer.json; what is not in the tables is refused by name. */
attn_status attn_norm_steps_parse(attn_tokenizer *tokenizer, struct json_t *json);
attn_status attn_splitters_parse(attn_tokenizer *tokenizer, struct json_t *json);
attn_status attn_decoder_parse(attn_context *ctx, struct json_t *json);
/* prefix_bytes: of a right piece within a word, which the joined piece lacks. */
attn_status attn_merges_parse(attn_tokenizer *tokenizer, struct json_t *merges, size_t prefix_bytes);
/* NULL: no memory. */
struct json_t *attn_merges_write(const attn_tokenizer *tokenizer);
struct json_t *attn_vocabulary_write(const attn_tokenizer *tokenizer);
struct json_t *attn_norm_steps_write(const attn_tokenizer *tokenizer);
struct json_t *attn_splitters_write(const attn_tokenizer *tokenizer);
struct json_t *attn_decoder_write(void);

/* Gives the text after all steps of normalisation. */
attn_status attn_tokenizer_normalise(const attn_tokenizer *tokenizer, char **out, size_t *out_bytes, const char *text,
                                     size_t bytes);

/* A piece of normalised text, which merges do not cross. */
typedef struct attn_piece {
    size_t first, body, end; /* [first, body) is the space that the mark stands for, empty at the start of the text */
    bool marked;             /* begins a word */
    int32_t word;
} attn_piece;

/* The next piece at *piece (zeroed before the first); false at the end. */
bool attn_next_piece(const attn_tokenizer *tokenizer, attn_piece *piece, const char *text, size_t bytes);

#endif
