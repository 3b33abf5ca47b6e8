/* attn/models.h: models in folders (config.json, model.safetensors, tokenizer.json) or files, and translating with
 * them. */
#ifndef ATTN_MODELS_H
#define ATTN_MODELS_H

#include <attn/nn.h>
#include <attn/text.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct attn_model attn_model;

/* A new model from the text of a config.json ({"model_type": "bahdanau", "hidden_size": 512, …}); keys it does not
 * know, wrong types and values are refused by name. Keys left out have defaults. docs/models.md lists them. gives. */
ATTN_API attn_status attn_model_create(attn_model **gives, attn_context *ctx, const char *config_json, uint64_t seed);
/* Reads a folder's config.json and model.safetensors; a missing, extra or misshaped tensor is named. A language model
 * may be one file: GGUF (gpt2, llama, qwen2, qwen3, gemma2, gemma3), or .bin as llama2.c writes it. gives. */
ATTN_API attn_status attn_model_load(attn_model **gives, attn_context *ctx, const char *path);
/* The same, but matrices of a language model that are stored as integers (I8, GGUF's blocks) stay so, in memory of
 * their size, and are multiplied as integers (docs/numerics.md). Such a model reads and writes texts, and is neither
 * trained nor saved: ATTN_E_UNSUPPORTED. */
ATTN_API attn_status attn_model_load_quantised(attn_model **gives, attn_context *ctx, const char *path);
/* The model's tokenizer: in a folder tokenizer.json, or what else attn_tokenizer_load reads (tokenizer.model,
 * vocab.json, encoder.json, vocab.txt); in a GGUF file itself; beside a .bin, tokenizer.bin or what begins with "tok"
 * and ends with .bin. gives. */
ATTN_API attn_status attn_tokenizer_of_model(attn_tokenizer **gives, attn_context *ctx, const char *path);
/* Such a model's weights in a model of another config, which must have the same sizes: to train it further. A
 * classifier's head that it lacks begins anew, by seed. gives. */
ATTN_API attn_status attn_model_load_as(attn_model **gives, attn_context *ctx, const char *path,
                                        const char *config_json, uint64_t seed);
/* Writes both files, each whole or not at all. dtype: ATTN_F32, ATTN_BF16, or ATTN_I8 (matrices: a scale a row). */
ATTN_API attn_status attn_model_save(const attn_model *model, const char *folder, attn_dtype dtype);
/* A "transformer" as a folder that package transformers loads, and CTranslate2's converter: M2M100 (norm "pre") or
 * Marian (norm "post"), f32, with the tokenizer. Learned positions and untied embeddings are ATTN_E_UNSUPPORTED. */
ATTN_API attn_status attn_model_save_hugging_face(const attn_model *model, const attn_tokenizer *tokenizer,
                                                  const char *folder);
ATTN_API void attn_model_free(attn_model *model);
ATTN_API attn_parameters *attn_model_parameters(const attn_model *model);
ATTN_API const char *attn_model_type(const attn_model *model);   /* its "model_type" */
ATTN_API const char *attn_model_config(const attn_model *model); /* the whole config as JSON text */
ATTN_API size_t attn_model_vocab_size(const attn_model *model);
/* Classes of a language model whose config has "id2label", which classifies texts; 0: it is no such model. */
ATTN_API size_t attn_model_labels(const attn_model *model);
ATTN_API const char *attn_model_label(const attn_model *model, size_t index); /* NULL if there is no such class */

/* Which weights of a language model a training changes: all, those of the last `layers` layers with the last norm and
 * the head (which stays where it is tied to the embeddings), or the head's alone. The others are frozen. */
typedef enum attn_model_part { ATTN_PART_ALL, ATTN_PART_LAST, ATTN_PART_HEAD } attn_model_part;
ATTN_API attn_status attn_model_learn(attn_model *model, attn_model_part part, size_t layers);

/* Low-rank adapters (Hu et al. 2022): y = W x + (alpha / rank) B A x, A (rank, …) and B (…, rank), B 0 at first. Added
 * to the linears of a language model's layers, they are all that is learned but a classifier's head; W is frozen. Then
 * attn_model_save writes them alone, as package peft does, and attn_model_load of that folder gives the model of `base`
 * with W + (alpha / rank) B A for W. */
enum {
    ATTN_LORA_QUERY = 1,
    ATTN_LORA_KEY = 2,
    ATTN_LORA_VALUE = 4,
    ATTN_LORA_OUT = 8,
    ATTN_LORA_MLP = 16,
    ATTN_LORA_ALL = 31
};
typedef struct attn_lora_options {
    size_t struct_size;
    size_t rank;      /* 8 */
    float alpha;      /* 16 */
    unsigned targets; /* ATTN_LORA_ALL */
    const char *base; /* the folder that the model is from, as what is saved will name it */
} attn_lora_options;
#define ATTN_LORA_OPTIONS_INIT \
    { sizeof(attn_lora_options), 8, 16.0f, ATTN_LORA_ALL, NULL }
ATTN_API attn_status attn_model_add_lora(attn_model *model, const attn_lora_options *options);

/* Preferences: sequences 2i and 2i + 1 of a batch are the chosen and the rejected answer to one prompt
 * (attn_tape_preferences). */
typedef struct attn_preferences {
    const float *reference; /* (B) */
    float beta;
    float *log_prob; /* (B) */
} attn_preferences;

/* A batch of pairs, time-major; id ATTN_ID_PAD past the lengths. For a language model there is no source: target_out is
 * the token that comes after each of target_in. */
typedef struct attn_pair_batch {
    size_t batch;                      /* B */
    size_t source_steps, target_steps; /* S, T */
    const int32_t *source;             /* (S, B), each ends with </s> */
    const int32_t *source_lengths;     /* (B), with </s> */
    const int32_t *target_in;          /* (T, B), starts with <s> */
    const int32_t *target_out;         /* (T, B), ends with </s>; −1 past the length */
    const int32_t *target_lengths;     /* (B) */
    const attn_links *links;  /* (B) links of tokens, by target, then source: what alignments are taught; or NULL */
    float guided_alignment;   /* weight of that beside the words */
    const int32_t *documents; /* (T, B): language models alone: a step sees those with its number; or NULL */
    const attn_preferences *preferences; /* language models alone: what is learned instead of words; or NULL */
} attn_pair_batch;

/* The training loss of a batch (see attn_tape_cross_entropy); dropout acts when the tape records. With links and
 * guided_alignment > 0, guided_alignment times that of the alignment is added (attn_tape_guided_alignment; in *stats
 * are the words alone): for "transformer" with an alignment_head, else ATTN_E_UNSUPPORTED. */
ATTN_API attn_var *attn_model_loss(const attn_model *model, attn_tape *tape, const attn_pair_batch *batch,
                                   float label_smoothing, float grad_scale, attn_loss_stats *stats);

/* ---- translating ---------------------------------------------------------------------------- */

typedef struct attn_translate_options {
    size_t struct_size;
    int beam_size;        /* 5; 1 is greedy */
    int n_best;           /* 1; ≤ beam_size; fewer come where fewer ended within max_length */
    float length_penalty; /* α of score / length^α, 1.0 */
    float coverage_penalty; /* β: β Σ_j log min(1, Σ_i α_ij) is added to a score (Wu et al. 2016, (14)), so that source
                               tokens that nothing looked at cost; -1: the model's own, mostly 0 */
    int max_length;         /* tokens; 0: 2 × source + 10. If no hypothesis ends before, they have no </s> */
    int batch_size;         /* sentences decoded together at most, 32 */
    bool trace;             /* keep energies, contexts and states of each hypothesis */
    size_t max_source_tokens; /* longer texts, given translations too, are ATTN_E_ARGUMENT; 1000; 0: no limit */
    size_t split_words;       /* attn_translate: a text is cut into sentences, and these into clauses of at most so many
                                 words; each is translated by itself, and they are put together again: one hypothesis,
                                 its alignment a block for each. 0: never; so it is with n_best > 1 and with trace. 0 */
    attn_dtype precision;     /* of products with weights: F32, or BF16 (attn_tape_precision) */
    bool posterior;           /* of given translations: alignment is P(j | y_1 … y_i) instead of α_ij; see below */
} attn_translate_options;
#define ATTN_TRANSLATE_OPTIONS_INIT \
    { sizeof(attn_translate_options), 5, 1, 1.0f, -1.0f, 0, 32, false, 1000, 0, ATTN_F32, false }

typedef struct attn_hypothesis {
    char *text; /* NUL-terminated */
    size_t bytes;
    int32_t *id;      /* with the final </s>, if it was reached */
    attn_token *span; /* (count) bytes and word of each id in text */
    size_t count;
    float *log_prob;  /* (count) */
    float score;      /* Σ log p / count^α, and the penalty of coverage */
    float *alignment; /* (count, S) over source tokens, </s> included; rows sum to 1. NULL for "rnn" */
    float *energy;    /* (count, S), with trace; NULL for "rnn" and "transformer" */
    float *context;   /* (count, context_size), with trace */
    float *state;     /* (count, state_size), with trace */
} attn_hypothesis;

typedef struct attn_translation {
    attn_tokens source; /* with </s> */
    attn_hypothesis *hypothesis;
    size_t count;
    size_t context_size, state_size;
} attn_translation;

/* Translates n texts; out has n elements, each released with attn_translation_clear. Empty texts give empty
 * translations: one hypothesis without tokens. A translation does not depend on what else is in the batch. model and
 * tokenizer belong to one context. On failure nothing is given. */
ATTN_API attn_status attn_translate(const attn_model *model, const attn_tokenizer *tokenizer, attn_translation *out,
                                    const char *const *texts, const size_t *bytes, size_t n,
                                    const attn_translate_options *options);
/* The same for given translations (forced decoding): one hypothesis each, its log-probabilities and alignment. With
 * options->posterior the alignment is, by Bayes' rule, the position that explains the given token y_i:
 *   P(j | y_1 … y_i) = α_ij p(y_i | j) / Σ_k α_ik p(y_i | k),  p(y_i | j) with all attention on position j
 * (Shankar & Sarawagi 2019); about as much work again for each source token. A model without attention is
 * ATTN_E_UNSUPPORTED, attn_translate with this option ATTN_E_ARGUMENT. */
ATTN_API attn_status attn_translate_forced(const attn_model *model, const attn_tokenizer *tokenizer,
                                           attn_translation *out, const char *const *sources,
                                           const char *const *targets, size_t n, const attn_translate_options *options);
ATTN_API void attn_translation_clear(attn_context *ctx, attn_translation *translation);

/* Which attention to look at: rows are queries, columns keys. */
typedef enum attn_look_kind {
    ATTN_LOOK_ENCODER, /* source to source */
    ATTN_LOOK_DECODER, /* target to target, causal; row i is what is read to write token i + 1, column 0 the start */
    ATTN_LOOK_CROSS,   /* target to source; row i wrote token i */
} attn_look_kind;
#define ATTN_LAST_LAYER SIZE_MAX
#define ATTN_EVERY_HEAD SIZE_MAX /* all of a layer, one behind the other: weights (heads, rows, columns) */
typedef struct attn_look {
    attn_look_kind kind;
    size_t layer; /* from 0, or ATTN_LAST_LAYER */
    size_t head;  /* from 1; 0: the mean of all; or ATTN_EVERY_HEAD */
} attn_look;
/* How many there are; 0: nothing to look at. A language model's are of DECODER, an encoder's of ENCODER. */
ATTN_API void attn_model_heads(const attn_model *model, attn_look_kind kind, size_t *layers, size_t *heads);
/* The weights of a head of a "transformer" while it reads source and writes target (ids with </s>), or the mean of a
 * layer's heads. Gives *weights (*rows, *columns), released with attn_text_free. Other models: ATTN_E_UNSUPPORTED; a
 * layer or head that there is not: ATTN_E_ARGUMENT. */
ATTN_API attn_status attn_look_at_pair(const attn_model *model, float **weights, size_t *rows, size_t *columns,
                                       const attn_look *look, const int32_t *source, size_t source_count,
                                       const int32_t *target, size_t target_count);

/* The same for one text of n tokens that a language model or an encoder (attn/encoder.h) reads: weights (n, n), row i
 * of token i. layer and head as above. types: of an encoder's tokens, or NULL. Gives *weights (attn_text_free). */
ATTN_API attn_status attn_look_at_text(const attn_model *model, float **weights, size_t layer, size_t head,
                                       const int32_t *ids, const int32_t *types, size_t n);

/* What the heads of a layer compare: the score of a pair is scale · q·k, then softcap · tanh(score / softcap) where
 * softcap is not 0; positions are in the vectors where the model turns them. Head h's keys are those of key head h ·
 * key_heads / heads. The weights are the softmax over the keys that the query may see. */
typedef struct attn_look_vectors {
    float *queries; /* (heads, rows, head_size) */
    float *keys;    /* (key_heads, columns, head_size), in the same block */
    size_t heads, key_heads, rows, columns, head_size;
    float scale, softcap;
} attn_look_vectors;
/* As attn_look_at_pair and attn_look_at_text, of all heads of a layer. Give out->queries (attn_text_free). */
ATTN_API attn_status attn_look_at_pair_vectors(const attn_model *model, attn_look_vectors *out, attn_look_kind kind,
                                               size_t layer, const int32_t *source, size_t source_count,
                                               const int32_t *target, size_t target_count);
ATTN_API attn_status attn_look_at_text_vectors(const attn_model *model, attn_look_vectors *out, size_t layer,
                                               const int32_t *ids, const int32_t *types, size_t n);

/* Token alignment (T, S) → word alignment (words of target, words of source): summed over a source word's tokens,
 * averaged over a target word's; special tokens left out; rows are made to sum to 1 again where renormalise. out:
 * (*rows, *columns), gives (attn_text_free). */
ATTN_API attn_status attn_alignment_words(attn_context *ctx, float **out, size_t *rows, size_t *columns,
                                          const float *alignment, const attn_token *target, size_t target_count,
                                          const attn_token *source, size_t source_count, bool renormalise);

#ifdef __cplusplus
}
#endif
#endif
