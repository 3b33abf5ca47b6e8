/* attn/generate.h: language models: what they expect next, and text that goes on. */
#ifndef ATTN_GENERATE_H
#define ATTN_GENERATE_H

#include <attn/models.h>

#ifdef __cplusplus
extern "C" {
#endif

/* True for "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2" and "gemma3_text", which attn_model_load reads from
 * folders as transformers writes them. */
ATTN_API bool attn_model_is_language_model(const attn_model *model);
/* Tokens that a text may have, prompt and continuation together. */
ATTN_API size_t attn_model_context_length(const attn_model *model);

/* A text's tokens as generation and attn_language_loss want them: with what the tokenizer puts before a text, <s> or
 * the like; a tokenizer that was trained here adds nothing. *tokens as in attn_tokenize. */
ATTN_API attn_status attn_language_tokenize(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text,
                                            size_t bytes);

/* logits (B, T, V) of ids (B, T): row t of sequence b is what comes after its tokens up to t. first: B ints or NULL;
 * the tokens of sequence b before first[b] are padding: they change nothing, whatever they are, and their rows are
 * zeros. An id outside the vocabulary is ATTN_E_ARGUMENT, T above the context length ATTN_E_SHAPE. */
ATTN_API attn_status attn_language_logits(const attn_model *model, float *logits, const int32_t *ids, size_t batch,
                                          size_t steps, const int32_t *first);

/* Adds to *stats the loss of each token of ids but the first: in windows of the context length, each of which begins
 * with the last token of the one before and sees nothing else of it. Perplexity is exp(stats->nll / stats->tokens). */
ATTN_API attn_status attn_language_loss(const attn_model *model, attn_loss_stats *stats, const int32_t *ids, size_t n);

/* The same through a cache of keys and values of that dtype, as generating goes: F32, the same loss; I8, what bytes
 * cost.
 */
ATTN_API attn_status attn_language_loss_cached(const attn_model *model, attn_loss_stats *stats, const int32_t *ids,
                                               size_t n, attn_dtype dtype);
/* Probabilities (n, labels) of the labels of n texts, by a model that has some (attn_model_labels). bytes NULL: texts
 * end with a NUL. Of a text its first max_tokens are read (0: as many as the context has); one without a token is
 * ATTN_E_ARGUMENT. What else is in the batch changes nothing but by rounding. */
ATTN_API attn_status attn_classify(const attn_model *model, const attn_tokenizer *tokenizer, float *probability,
                                   const char *const *texts, const size_t *bytes, size_t n, size_t max_tokens);

/* ---- a text that goes on ---------------------------------------------------------------------
 *
 *     attn_generator *g;
 *     if (attn_generator_create(&g, model, tokenizer, NULL) != ATTN_OK) …
 *     attn_generator_prompt(g, "ROMEO:", 6);
 *     for (const char *text; attn_generator_next(g, &text, &bytes) == ATTN_OK && bytes;) fwrite(text, 1, bytes,
 * stdout); attn_generator_free(g);                                                                           */

typedef struct attn_generator attn_generator;

typedef struct attn_generate_options {
    size_t struct_size;
    size_t max_tokens;        /* of the continuation; 0: until the context is full */
    float temperature;        /* logits are divided by it; 0: always the likeliest token. 1 */
    size_t top_k;             /* only the k likeliest tokens; 0: all */
    float top_p;              /* only the likeliest tokens that have p together; 1: all */
    float min_p;              /* only tokens with at least so many times the likeliest one's probability; 0 */
    float repetition_penalty; /* of tokens that the text has: positive logits are divided, negative multiplied. 1 */
    uint64_t seed;
    const char *const *stop; /* strings that end the text and are not given */
    size_t stops;
    const int32_t *ends; /* ids that end it, beside the config's "eos_token_id" */
    size_t end_count;
    size_t context;   /* tokens at most, if less than the model's context length; 0 */
    attn_dtype cache; /* of keys and values: F32, or I8, a quarter of the memory (attn/cache.h) */
    bool slide;       /* when the context is full the text goes on from its last half; false: it ends there */
} attn_generate_options;
#define ATTN_GENERATE_OPTIONS_INIT                                                                           \
    {                                                                                                        \
        .struct_size = sizeof(attn_generate_options), .temperature = 1, .top_p = 1, .repetition_penalty = 1, \
        .cache = ATTN_F32                                                                                    \
    }

/* Keeps model and tokenizer; copies options (NULL: the defaults) and what they point to. gives. */
ATTN_API attn_status attn_generator_create(attn_generator **gives, const attn_model *model,
                                           const attn_tokenizer *tokenizer, const attn_generate_options *options);
ATTN_API void attn_generator_free(attn_generator *generator);
/* Adds to the text, which begins with what the tokenizer puts before one; what was generated before stays part of it.
 * More than the context holds is ATTN_E_SHAPE, with its length and what to do, and changes nothing. */
ATTN_API attn_status attn_generator_prompt(attn_generator *generator, const char *text, size_t bytes);
ATTN_API attn_status attn_generator_prompt_ids(attn_generator *generator, const int32_t *ids, size_t n);
/* The next piece of the text, UTF-8, valid until the next call; *bytes 0: it has ended. Depends on the prompts, the
 * options and the model alone: the same bytes on any number of threads. */
ATTN_API attn_status attn_generator_next(attn_generator *generator, const char **text, size_t *bytes);

/* What attn_generator_next needs for the next token, for several texts of one model in one pass, which reads the
 * weights once: each text stays the one that it is alone, whatever the others are.
 *
 *     while (n) {
 *         attn_generators_advance(g, n);
 *         for (size_t i = 0; i < n; i++) attn_generator_next(g[i], &text, &bytes) …  // take ended ones out, put others
 * in
 *     }
 */
ATTN_API attn_status attn_generators_advance(attn_generator *const *generators, size_t n);

typedef enum attn_generate_end {
    ATTN_GENERATE_GOES_ON,
    ATTN_GENERATE_END_TOKEN,  /* one of the config's "eos_token_id", or of ends */
    ATTN_GENERATE_STOP,       /* a stop string */
    ATTN_GENERATE_MAX_TOKENS, /* max_tokens are reached */
    ATTN_GENERATE_CONTEXT,    /* the context is full */
} attn_generate_end;
ATTN_API attn_generate_end attn_generator_end(const attn_generator *generator);
/* All tokens of the context; valid until the next call. */
ATTN_API const int32_t *attn_generator_ids(const attn_generator *generator, size_t *count);

#ifdef __cplusplus
}
#endif
#endif
