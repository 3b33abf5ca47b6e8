/* model.h: what every model is to the trainer and to the translator.
 *
 * A model file is the forward equations of its paper. It fills one attn_model_class; everything else (files, training,
 * beam search) goes through that table.                                                                             */
#ifndef ATTN_MODEL_MODEL_H
#define ATTN_MODEL_MODEL_H

#include "base/base.h"
#include <attn/models.h>

/* Low-rank matrices beside the weights, which are what is saved (adapter.c). */
typedef struct attn_adapter {
    size_t rank;
    float alpha;
    char *base; /* folder */
} attn_adapter;

struct attn_model {
    attn_context *ctx;
    const struct attn_model_class *class;
    attn_parameters *parameters;
    const struct attn_weights *stored; /* while a folder is read: where the parameters' values come from; else NULL */
    bool new_head;                     /* while a folder is read: a head that it lacks begins anew */
    bool keeps_integers;               /* matrices that are stored as integers stay so */
    char *config;                      /* JSON text, every key with its value */
    size_t vocab_size;
    float coverage_penalty;  /* what a search takes that is told none */
    bool alignment_follows;  /* a token's alignment is the one seen by the step that reads the token, not writes it */
    attn_adapter *adapter;   /* NULL: all weights are saved */
    size_t layers[3], heads; /* of each attn_look_kind, that can be looked at; 0: there are none */
    size_t max_positions;    /* tokens that a source or a target may have, with </s>; 0: any number */
};

/* The most beams a sentence may have. */
enum { ATTN_MAX_BEAM = 64 };

/* What a decoder carries from step to step. Every part has its sentences in dimension 1: (·, B, ·). The first `fixed`
 * parts are the encoded source, the others the state (K, B, ·) of K beams; a step may make them longer, and the first
 * one adds those that there were none of. */
enum { ATTN_DECODER_PARTS = 48 };
typedef struct attn_decoder {
    attn_var *part[ATTN_DECODER_PARTS];
    size_t fixed, count;
    size_t room;         /* elements that each row of the state is longer when a step gets it: for what it adds */
    size_t beams, batch; /* K, B; the first step has one beam, since they are all alike */
    const int32_t *source_lengths; /* (B) */
} attn_decoder;

/* What one step lets be seen; NULL where the model has none. */
typedef struct attn_step_view {
    attn_var *alignment; /* (K, B, S) */
    attn_var *energy;    /* (K, B, S) */
    attn_var *context;   /* (K, B, context_size) */
    attn_var *state;     /* (K, B, state_size) */
} attn_step_view;

/* How a parameter W (N, …) lies in a file. */
typedef struct attn_stored_form {
    char name[192];
    bool transposed; /* a matrix is stored as (K, N) */
    size_t part, parts; /* W is rows part·N … part·N+N−1 of what is stored; its parts are added one after the other */
    float offset;       /* W is what is stored plus this */
    bool optional;      /* where nothing is stored, W is zeros */
    size_t paired; /* rows of heads of so many lie in rotary pairs: rows i and i + paired/2 of W are 2i and 2i + 1; 0:
                      no */
} attn_stored_form;
typedef struct attn_weights attn_weights; /* model/weights.h */

/* An attention that was computed: q (B, T, heads·D), k (B, S, key_heads·D), without B for one sequence; LSE. */
typedef struct attn_head_of {
    const attn_var *q, *k, *lse;
    size_t heads, key_heads;
    size_t head; /* from 1; 0: the mean of all; ATTN_EVERY_HEAD */
} attn_head_of;
typedef struct attn_seen {
    attn_head_of of;
    attn_attention_options options; /* without pointers */
} attn_seen;

typedef struct attn_model_class {
    const char *type;
    size_t bytes; /* of the struct that begins with attn_model */
    /* Reads the config (JSON text) into the model, completes model->config and vocab_size. */
    attn_status (*configure)(attn_model *model, const char *config_json);
    /* Adds the parameters by attn_builder_add. */
    attn_status (*add_parameters)(attn_model *model);
    void (*clear)(attn_model *model); /* releases what the model has besides; NULL: nothing */
    /* NULL, as encode and step are: an encoder, which is not trained here. */
    attn_var *(*loss)(const attn_model *model, attn_tape *tape, const attn_pair_batch *batch, float label_smoothing,
                      float grad_scale, attn_loss_stats *stats);
    /* Encodes source (S, B) for `beams` beams each; fills decoder. NULL, as step is: a language model. */
    void (*encode)(const attn_model *model, attn_tape *tape, attn_decoder *decoder, const int32_t *source,
                   size_t steps);
    /* Feeds ids (K, B); the state parts are replaced. Gives logits (K, B, V). */
    attn_var *(*step)(const attn_model *model, attn_tape *tape, attn_decoder *decoder, const int32_t *ids,
                      attn_step_view *view);
    /* The fixed parts are (S, B, ·): all of the source that a step reads, and each position of it can be given alone.
     */
    bool source_by_position;
    /* What the heads of a layer, which there is, see on a pair of id sequences, in the tape's memory; look->head is the
     * caller's to see to. NULL: the model has no such heads. */
    attn_status (*look)(const attn_model *model, attn_tape *tape, attn_seen *seen, const attn_look *look,
                        const int32_t *source, size_t source_count, const int32_t *target, size_t target_count);
    /* The same while the model reads one text; look->kind says nothing. types may be NULL. */
    attn_status (*look_at_text)(const attn_model *model, attn_tape *tape, attn_seen *seen, const attn_look *look,
                                const int32_t *ids, const int32_t *types, size_t n);

    /* Of files that others write too; NULL: parameters are stored under their names, and nothing else is. */
    attn_status (*recognise)(attn_model *model, const attn_weights *weights); /* before parameters are added */
    void (*stored_form)(const attn_model *model, attn_stored_form *form, const char *name);
    bool (*ignores)(const attn_model *model, const char *stored); /* tensors that are no weights */
} attn_model_class;

extern const attn_model_class attn_class_rnn, attn_class_bahdanau, attn_class_transformer, attn_class_bert;
/* The language models (gpt.h): X(name, "model_type"). */
#define ATTN_GPT_LIST(X) \
    X(gpt2, "gpt2")      \
    X(llama, "llama")    \
    X(mistral, "mistral") X(qwen2, "qwen2") X(qwen3, "qwen3") X(gemma2, "gemma2") X(gemma3, "gemma3_text")
#define ATTN_GPT_CLASS(name, type) extern const attn_model_class attn_class_##name;
ATTN_GPT_LIST(ATTN_GPT_CLASS)
#undef ATTN_GPT_CLASS

/* Values of what is learned in a model with an adapter, from a folder that attn_model_save wrote. */
attn_status attn_adapter_read(attn_model *model, const char *folder);
/* A model with its configuration and no parameters yet. gives. */
attn_status attn_model_configure(attn_model **gives, attn_context *ctx, const char *config_json, uint64_t seed);
/* Adds parameters one after the other; the first failure is kept, and what comes after it is NULL. columns 0: a vector.
 * They have initial values, or, while a folder is read, the stored ones. Nothing is allocated for a parameter that the
 * folder does not hold, so that memory is bounded by the file, whatever the config says. */
typedef struct attn_builder {
    attn_model *model;
    attn_status status;
} attn_builder;
attn_parameter *attn_builder_add(attn_builder *builder, const char *name, attn_init init, float scale, size_t rows,
                                 size_t columns);

/* A parameter from the folder that is being read. */
attn_status attn_weights_take(const attn_weights *weights, attn_model *model, attn_parameter **out, const char *name,
                              int rank, const size_t *shape);

/* ---- a look at heads: look.c -------------------------------------------------------------------- */

/* The weights (B, T, S) of an attention, of every head (B, heads, T, S), without gradient. */
attn_var *attn_tape_head_weights(attn_tape *tape, const attn_head_of *from, const attn_attention_options *options);

/* ---- configuration: a table of fields makes reader, writer and checks ------------------------ */

typedef enum attn_field_kind { ATTN_FIELD_SIZE, ATTN_FIELD_FLOAT, ATTN_FIELD_BOOL, ATTN_FIELD_CHOICE } attn_field_kind;

typedef struct attn_field {
    const char *key;
    attn_field_kind kind;
    size_t offset;              /* in the config struct: size_t, float, bool, int */
    double fallback, low, high; /* default and allowed range; a fallback below `low` means: must be given */
    const char *const *choices; /* NULL-terminated; the value is the index */
    const char *only;           /* the model_type that it has a meaning for; NULL: all of the table's */
} attn_field;

/* Fills config by the table. "model_type" and keys that begin with "_" are passed over; any other unknown key is
 * refused, and so is one without a meaning for model_type: its field gets the default. */
attn_status attn_config_read(attn_context *ctx, void *config, const char *model_type, const attn_field *fields,
                             size_t n, const char *json);
/* What else a config.json of package transformers holds, beside the keys of the table. */
typedef struct attn_foreign_keys {
    const char *const *passed; /* NULL-terminated: read elsewhere, or without a meaning here */
    /* Would change what a model computes: the only value that is understood, as JSON. The last one's key is NULL. */
    const struct attn_fixed_key { const char *key, *value; } * fixed;
} attn_foreign_keys;
/* The same from such a file's object: null where a number may be 0 stands for 0, "none", else for the default. A file
 * that says which program wrote it ("architectures" or "transformers_version") may hold keys that say nothing here;
 * elsewhere an unknown key is an error. */
struct json_t;
attn_status attn_config_read_foreign(attn_context *ctx, void *config, const char *model_type, const attn_field *fields,
                                     size_t n, struct json_t *root, const attn_foreign_keys *keys);
/* Activations as such files name them; choice is an index of the names. */
enum {
    ATTN_FOREIGN_GELU_NEW,
    ATTN_FOREIGN_GELU_TANH,
    ATTN_FOREIGN_GELU,
    ATTN_FOREIGN_RELU,
    ATTN_FOREIGN_SILU,
};
extern const char *const attn_foreign_activations[];
attn_activation attn_foreign_activation(int choice);
/* Gives the indented text of root, and takes root, which may be NULL: out of memory. */
attn_status attn_json_text(attn_context *ctx, char **text, struct json_t *root);
/* Gives the JSON text of all fields that model_type has. */
attn_status attn_config_write(attn_context *ctx, char **json, const char *model_type, const void *config,
                              const attn_field *fields, size_t n);

#endif
