/* gpt.h: the decoder-only language models: GPT-2 and the Llama family, one set of equations (gpt.c) with switches that
 * a config.json sets (gpt_config.c), and the names that their weights have in files (gpt_names.c). */
#ifndef ATTN_MODEL_GPT_H
#define ATTN_MODEL_GPT_H

#include "model/model.h"
#include <attn/cache.h>
#include <attn/generate.h>

enum { ATTN_GPT_MAX_LAYERS = 1024, ATTN_GPT_MAX_ENDS = 16, ATTN_GPT_MAX_LABELS = 4096 };

/* What is fixed by "model_type". */
typedef struct attn_gpt_family {
    const char *type, *architecture;
    const attn_field *fields;
    size_t field_count;
    bool layer_norm;    /* LayerNorm with biases, learned positions, biases everywhere (GPT-2); else RMSNorm, rotary */
    bool query_bias;    /* biases of queries, keys and values, whatever "attention_bias" says */
    bool head_norms;    /* RMSNorm of each query and key head before it is turned */
    bool outer_norms;   /* attention and MLP are normed before and after */
    bool gain_from_one; /* norms are stored as gain − 1 */
    bool scale_embeddings; /* by sqrt(hidden_size) */
} attn_gpt_family;

typedef enum attn_rope_kind { ATTN_ROPE_PLAIN, ATTN_ROPE_LINEAR, ATTN_ROPE_LLAMA3 } attn_rope_kind;
typedef struct attn_rope {
    float theta;
    attn_rope_kind kind;
    float factor, low, high, original; /* LLAMA3: all; LINEAR: factor */
} attn_rope;

typedef struct attn_gpt_config {
    size_t vocab_size, hidden_size, num_layers, heads, key_heads, head_size, inner_size, context;
    size_t window, first_window_layer, window_pattern; /* keys that a sliding layer's query sees, itself too; 0: all */
    bool use_window, tie, attention_bias, mlp_bias;
    int activation;
    float norm_epsilon, rope_theta, local_theta, query_scalar, attention_softcap, final_softcap, init_range;
    float embedding_dropout, attention_dropout, residual_dropout;
    attn_rope rope, local_rope; /* of full and of sliding layers */
    int32_t begin;              /* "bos_token_id"; −1: none */
    int32_t ends[ATTN_GPT_MAX_ENDS];
    size_t end_count;
} attn_gpt_config;

typedef struct attn_gpt_linear {
    attn_parameter *w, *b;
    attn_parameter *lora_a, *lora_b; /* an adapter, or NULL: y = W x + scale · B A x + b */
    float lora_scale;
} attn_gpt_linear;

typedef struct attn_gpt_layer {
    attn_gpt_linear input_norm, query, key, value, out, mlp_norm, gate, up, down;
    attn_parameter *query_norm, *key_norm, *attention_out_norm, *mlp_out_norm;
    bool sliding;
} attn_gpt_layer;

typedef struct attn_gpt {
    attn_model base;
    const attn_gpt_family *family;
    attn_gpt_config config;
    attn_gpt_layer *layer;                     /* (num_layers) */
    attn_parameter *tokens, *positions, *head; /* head: (V, C), or of a classifier (labels, C) */
    char **label;                              /* (labels) names of the classes; none: it goes on with texts */
    size_t labels;
    attn_gpt_linear final_norm;
    size_t names; /* column of gpt_names.c while a folder is read */
    const char *prefix;
} attn_gpt;

/* gpt_config.c */
attn_status attn_gpt_configure(attn_model *model, const char *config_json);
/* The config as text again, after it was changed. */
attn_status attn_gpt_write_config(attn_gpt *m);
attn_activation attn_gpt_activation(const attn_gpt_config *config);

/* gpt_names.c */
attn_status attn_gpt_recognise(attn_model *model, const attn_weights *weights);
void attn_gpt_stored_form(const attn_model *model, attn_stored_form *form, const char *name);
void attn_gpt_gguf_form(const attn_model *model, attn_stored_form *form, const char *name); /* as GGUF has it */
bool attn_gpt_ignores(const attn_model *model, const char *stored);

/* Rows of tokens of one or more sequences, one behind the other. */
typedef struct attn_gpt_rows {
    size_t count;
    const int32_t *id;       /* (count) */
    const int64_t *position; /* (count) in the token's own sequence */
    size_t sequences;
    const int32_t *cu; /* (sequences + 1): sequence s is rows cu[s] … cu[s+1]−1; not with a cache */
    attn_seen *seen;   /* of one sequence: gets what layer seen_layer sees, and no states are given; or NULL */
    size_t seen_layer;
    attn_kv_cache **cache; /* (num_layers) of `sequences` sequences, which get count / sequences tokens each; or NULL */
    attn_kv_cache **const *caches; /* (sequences) of (num_layers): each its own, and one token; or NULL */
} attn_gpt_rows;

/* gpt.c: the last layer's normed states (count, C); logits (…, V) of such rows. */
attn_var *attn_gpt_states(const attn_gpt *m, attn_tape *tape, const attn_gpt_rows *rows);
attn_var *attn_gpt_logits(const attn_gpt *m, attn_tape *tape, attn_var *states);
/* The id that ends a text, −1 if there is none. */
int32_t attn_model_end_id(const attn_model *model);
/* NULL, with the error set, for a model of another kind. */
const attn_gpt *attn_gpt_of(const attn_model *model);

#endif
