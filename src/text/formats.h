/* formats.h: other forms of tokenizers than tokenizer.json; all become pipelines.
 *
 *     attn_piece_list list = ATTN_PIECE_LIST_INIT(ctx);
 *     ATTN_TRY(attn_piece_list_add(&list, "the", 3, -3.2, ATTN_PIECE_NORMAL));       // in the order of ids
 *     ATTN_TRY(attn_tokenizer_of_pieces(&tokenizer, &list, parts));
 */
#ifndef ATTN_TEXT_FORMATS_H
#define ATTN_TEXT_FORMATS_H

#include "text/pipeline.h"

/* What a piece is, as SentencePiece and GGUF number it. */
typedef enum attn_piece_kind {
    ATTN_PIECE_NORMAL = 1,
    ATTN_PIECE_UNKNOWN = 2,
    ATTN_PIECE_CONTROL = 3,
    ATTN_PIECE_USER = 4,
    ATTN_PIECE_UNUSED = 5,
    ATTN_PIECE_BYTE = 6
} attn_piece_kind;

typedef struct attn_listed_piece {
    size_t first, bytes; /* in text */
    double score;
    attn_piece_kind kind;
} attn_listed_piece;

typedef struct attn_piece_list {
    attn_buffer text;
    attn_listed_piece *piece; /* (count) by id */
    size_t count, capacity;
    attn_subword model;
    bool merge_by_score;  /* BPE: the pair whose joined piece has the greatest score is merged first */
    bool control_in_text; /* a control piece is looked for in the text */
    bool single;          /* Unigram: sums in float */
    bool longest_rule;    /* Precompiled: of the rules about a place the longest, as SentencePiece does */
    int64_t bos, eos;     /* put around a text; −1: not */
} attn_piece_list;
#define ATTN_PIECE_LIST_INIT(ctx) \
    { .text = ATTN_BUFFER_INIT(ctx), .bos = -1, .eos = -1 }

attn_status attn_piece_list_add(attn_piece_list *list, const char *text, size_t bytes, double score,
                                attn_piece_kind kind);
void attn_piece_list_free(attn_piece_list *list);

/* parts: JSON of a tokenizer.json without model and added tokens. merges: (JSON array, or NULL) "left right" by rank.
 * gives. */
attn_status attn_tokenizer_of_pieces(attn_tokenizer **gives, const attn_piece_list *list, const char *parts,
                                     struct json_t *merges);

/* Each from the file's bytes; gives. */
attn_status attn_tokenizer_of_sentencepiece(attn_tokenizer **gives, attn_context *ctx, const char *data, size_t bytes);
attn_status attn_tokenizer_of_tiktoken(attn_tokenizer **gives, attn_context *ctx, const char *data, size_t bytes);

/* A GGUF file's, whatever its name. gives. */
attn_status attn_tokenizer_load_gguf(attn_tokenizer **gives, attn_context *ctx, const char *path);

/* llama2.c's tokenizer.bin, and whether the bytes may be one. */
attn_status attn_tokenizer_of_llama2c(attn_tokenizer **gives, attn_context *ctx, const char *data, size_t bytes);
bool attn_is_llama2c_tokenizer(const char *data, size_t bytes);

/* JSON of the parts around Llama's pieces: spaces as marks, one before the text where there is a prefix, bytes for what
 * has no piece. */
void attn_sentencepiece_parts(attn_buffer *parts, bool prefix);
/* BERT's vocab.txt. settings: tokenizer_config.json's text. */
attn_status attn_tokenizer_of_wordpieces(attn_tokenizer **gives, attn_context *ctx, const char *text, size_t bytes,
                                         const char *settings);

/* JSON of a pre-tokenizer with the pattern of a family of models, "gpt-2", "llama-bpe", "qwen2", "smollm", …; NULL: it
 * is not known. */
const char *attn_pre_tokenizer_named(const char *name, size_t bytes);
/* The name of such a pre-tokenizer, with which merges are ignored for what is a piece, or not; NULL: it has none in
 * GGUF files. */
const char *attn_pre_tokenizer_name(const struct json_t *json, bool ignores_merges);

#endif
