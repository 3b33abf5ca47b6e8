/* attn/encoder.h: BERT-type encoders: states of a text's tokens, and texts as vectors.
 *
 *     attn_embed_options o = ATTN_EMBED_OPTIONS_INIT;
 *     if (attn_embed_options_read(&o, ctx, "models/minilm") != ATTN_OK) …     // what the folder says of pooling
 *     attn_embed(model, tokenizer, vectors, texts, NULL, n, &o);               // (n, C); cosines are inner products */
#ifndef ATTN_ENCODER_H
#define ATTN_ENCODER_H

#include <attn/models.h>

#ifdef __cplusplus
extern "C" {
#endif

/* True for "bert", which attn_model_load reads from folders as transformers writes them: BertModel, and the models with
 * a task's head, which is left out. attn_model_context_length (attn/generate.h) is theirs too. */
ATTN_API bool attn_model_is_encoder(const attn_model *model);
/* C, the elements of a state and of an embedding; 0: the model is no encoder. */
ATTN_API size_t attn_model_state_size(const attn_model *model);

/* states (B, T, C) of ids (B, T): the last layer's. types (B, T): 0 for a first sentence, 1 for a second; NULL: zeros.
 * Sequence b is tokens first[b] … end[b] − 1 (NULL: 0 and T), whose positions begin with 0; what lies outside is
 * padding: it changes nothing, whatever it is, and its rows are zeros. An id or type that the model has not is
 * ATTN_E_ARGUMENT, a sequence above the context length ATTN_E_SHAPE. */
ATTN_API attn_status attn_encoder_states(const attn_model *model, float *states, const int32_t *ids,
                                         const int32_t *types, size_t batch, size_t steps, const int32_t *first,
                                         const int32_t *end);

/* What of a text's states becomes its vector. */
typedef enum attn_pooling {
    ATTN_POOL_MEAN,   /* the mean of all tokens' */
    ATTN_POOL_CLS,    /* the first token's */
    ATTN_POOL_POOLER, /* the model's pooler on the first token's */
} attn_pooling;

typedef struct attn_embed_options {
    size_t struct_size;
    attn_pooling pooling; /* ATTN_POOL_MEAN */
    bool normalise;       /* to length 1; true */
    size_t max_tokens;    /* that a text may have, special ones included; 0: the context length */
    bool truncate;        /* longer texts are cut; false: ATTN_E_SHAPE */
    size_t texts_before;  /* of a batch: messages number its texts from the next on; 0 */
} attn_embed_options;
#define ATTN_EMBED_OPTIONS_INIT \
    { sizeof(attn_embed_options), ATTN_POOL_MEAN, true, 0, false, 0 }

/* Pooling and max_tokens as package sentence-transformers' files beside a model say (1_Pooling/config.json,
 * sentence_bert_config.json); where there are none, options stay as they are. Another pooling, or a layer behind it, is
 * ATTN_E_UNSUPPORTED. */
ATTN_API attn_status attn_embed_options_read(attn_embed_options *options, attn_context *ctx, const char *folder);

/* Writes pooling and max_tokens beside a model, for attn_embed_options_read and for sentence-transformers. The pooler
 * has no name there: ATTN_E_UNSUPPORTED. */
ATTN_API attn_status attn_embed_options_save(const attn_embed_options *options, attn_context *ctx, const char *folder);

/* vectors (n, C) of n texts, with what the tokenizer puts around a text; bytes NULL: they end with a NUL. options NULL:
 * the defaults. A text without any token is ATTN_E_ARGUMENT. The bits of a vector do not depend on the other texts. */
ATTN_API attn_status attn_embed(const attn_model *model, const attn_tokenizer *tokenizer, float *vectors,
                                const char *const *texts, const size_t *bytes, size_t n,
                                const attn_embed_options *options);

#ifdef __cplusplus
}
#endif
#endif
