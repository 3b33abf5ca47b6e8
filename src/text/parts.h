/* parts.h: the parts of a tokenizer.json: normalisers, pre-tokenizers and decoders, each a row of a table with the
 * settings that it read. A Sequence is its members, one after the other.
 *
 *     attn_parts normaliser = ATTN_PARTS_INIT;
 *     ATTN_TRY(attn_parts_parse(ctx, &normaliser, json, &attn_normaliser_kind));
 *     ATTN_TRY(normaliser.at[0].type->normalise(&work, &normaliser.at[0], &out, &in));
 */
#ifndef ATTN_TEXT_PARTS_H
#define ATTN_TEXT_PARTS_H

#include "text/normalise.h"
#include "text/pattern.h"
#include "text/traced.h"

struct json_t;
typedef struct attn_part attn_part;

/* What becomes of the matches of a pattern, and of what lies between them. */
#define ATTN_BEHAVIOUR_LIST(X) \
    X(REMOVED, "Removed")      \
    X(ISOLATED, "Isolated")    \
    X(MERGED_WITH_PREVIOUS, "MergedWithPrevious") X(MERGED_WITH_NEXT, "MergedWithNext") X(CONTIGUOUS, "Contiguous")
typedef enum attn_behaviour {
#define ATTN_BEHAVIOUR_ENUM(name, text) ATTN_##name,
    ATTN_BEHAVIOUR_LIST(ATTN_BEHAVIOUR_ENUM)
#undef ATTN_BEHAVIOUR_ENUM
} attn_behaviour;

/* Metaspace's mark before text that does not begin with one. */
typedef enum attn_prepend { ATTN_PREPEND_ALWAYS, ATTN_PREPEND_FIRST, ATTN_PREPEND_NEVER } attn_prepend;

/* A piece of text that later steps take by itself. */
typedef struct attn_cut {
    size_t first, end;
} attn_cut;

typedef struct attn_cuts {
    attn_traced text;
    attn_cut *cut;
    size_t count, capacity;
} attn_cuts;
#define ATTN_CUTS_INIT(ctx) \
    { ATTN_TRACED_INIT(ctx), NULL, 0, 0 }
attn_status attn_cuts_add(attn_cuts *cuts, size_t first, size_t end);
void attn_cuts_free(attn_cuts *cuts);

/* Texts of tokens on their way through the decoders: one text, cut where tokens end, and where strings end, which
 * decoders see one by one (a string is one token until something fuses them). */
typedef struct attn_decoding {
    attn_buffer text;
    size_t *token_end, *string_end; /* (tokens) (strings) ends in text */
    size_t tokens, strings;
} attn_decoding;
/* An empty one with room. */
attn_status attn_decoding_new(attn_context *ctx, attn_decoding *d, size_t tokens, size_t strings);
void attn_decoding_free(attn_context *ctx, attn_decoding *d);

/* What one thread needs at work. */
typedef struct attn_work {
    attn_context *ctx;
    attn_matcher matcher;
    attn_code_points points;
    attn_traced spare, other; /* for normalisers of several passes */
    attn_cuts next;           /* what a splitter makes, before it takes the place of what it read */
} attn_work;
#define ATTN_WORK_INIT(ctx)                                                                                 \
    {                                                                                                       \
        (ctx), ATTN_MATCHER_INIT(ctx), ATTN_CODE_POINTS_INIT, ATTN_TRACED_INIT(ctx), ATTN_TRACED_INIT(ctx), \
            ATTN_CUTS_INIT(ctx)                                                                             \
    }
void attn_work_free(attn_work *work);

/* A row of a table; one of the three functions is there. */
typedef struct attn_part_type {
    const char *name;
    attn_status (*parse)(attn_context *ctx, attn_part *part, struct json_t *json); /* NULL: no settings */
    attn_status (*normalise)(attn_work *work, const attn_part *part, attn_traced *out, const attn_traced *in);
    attn_status (*split)(attn_work *work, const attn_part *part, attn_cuts *cuts);
    attn_status (*decode)(attn_work *work, const attn_part *part, attn_decoding *out, const attn_decoding *in);
} attn_part_type;

typedef struct attn_part_kind {
    const char *name, *members; /* "pre_tokenizer", "pretokenizers" */
    const attn_part_type *type;
    size_t count;
} attn_part_kind;
extern const attn_part_kind attn_normaliser_kind, attn_splitter_kind, attn_decoder_kind;

struct attn_part {
    const attn_part_type *type;
    attn_pattern *pattern;    /* Replace, Split */
    char *text;               /* Replace's content, Prepend, a replacement, a prefix, a suffix, what Strip strips */
    size_t bytes;             /* of text */
    attn_behaviour behaviour; /* Split, Punctuation */
    attn_prepend prepend;     /* Metaspace */
    struct attn_charsmap *charsmap;
    size_t start, stop;                            /* Strip */
    bool clean, chinese, strip_accents, lowercase; /* BertNormalizer */
    bool left, right;                              /* Strip */
    bool invert, individual, split, regex, cleanup; /* Split, Digits (Precompiled: SentencePiece's way), Metaspace, … */
    bool prefix_space;                              /* ByteLevel */
};

typedef struct attn_parts {
    attn_part *at;
    size_t count, capacity;
} attn_parts;
#define ATTN_PARTS_INIT \
    { NULL, 0, 0 }
/* json may be NULL or null: no parts. Adds to what is there; what is not in the table is refused by name. */
attn_status attn_parts_parse(attn_context *ctx, attn_parts *parts, struct json_t *json, const attn_part_kind *kind);
void attn_parts_free(attn_context *ctx, attn_parts *parts);
/* All steps one after the other; the result is in *text. A text that grows out of all proportion is refused. */
attn_status attn_parts_normalise(attn_work *work, const attn_parts *parts, attn_traced *text);
attn_status attn_parts_split(attn_work *work, const attn_parts *parts, attn_cuts *cuts);

/* ---- reading settings; a sentence of failure gets the part's name in front ------------------ */

attn_status attn_part_bool(attn_context *ctx, bool *out, struct json_t *json, const char *name, bool absent);
/* Into part->text; absent may be NULL: it must be there. */
attn_status attn_part_text(attn_context *ctx, attn_part *part, struct json_t *json, const char *name,
                           const char *absent);
attn_status attn_part_behaviour(attn_context *ctx, attn_part *part, struct json_t *json, attn_behaviour absent);
attn_status attn_part_pattern(attn_context *ctx, attn_part *part, struct json_t *json);
/* Metaspace is a pre-tokenizer and a decoder. */
attn_status attn_metaspace_parse(attn_context *ctx, attn_part *part, struct json_t *json);

/* ---- byte level ------------------------------------------------------------------------------ */

/* The characters that stand for the bytes 0 … 255 (Radford et al. 2019): themselves where they can be seen, the others
 * from U+0100 on. */
int32_t attn_byte_character(unsigned char byte);
/* The byte that the character stands for, −1: none. */
int attn_character_byte(int32_t c);

#endif
