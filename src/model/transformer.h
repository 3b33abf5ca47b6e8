/* transformer.h: the sizes and the parameters of a transformer, which transformer_config.c reads and makes;
 * transformer.c has the equations. */
#ifndef ATTN_MODEL_TRANSFORMER_H
#define ATTN_MODEL_TRANSFORMER_H

#include "model/model.h"

enum { ATTN_TRANSFORMER_LAYERS = 12 }; /* at most, of encoder and decoder */
enum { ATTN_NORM_PRE, ATTN_NORM_POST };

typedef struct attn_transformer_config {
    size_t vocab_size, model_size, feed_forward_size, encoder_layers, decoder_layers, heads, max_positions;
    size_t alignment_layer; /* from 1; 0: the second to last */
    size_t alignment_head;  /* from 1; 0: the mean of all */
    int norm, positions, activation;
    bool tie_embeddings, alignment_follows;
    float dropout, attention_dropout, activation_dropout;
    float coverage_penalty; /* of a search that is told none */
} attn_transformer_config;

typedef struct attn_transformer_linear {
    attn_parameter *w, *b;
} attn_transformer_linear;

typedef struct attn_transformer_norm {
    attn_parameter *gain, *bias;
} attn_transformer_norm;

/* One term of the sums: attention or feed-forward, with its norm. */
typedef struct attn_transformer_attention {
    attn_transformer_norm norm;
    attn_transformer_linear query, key, value, out;
} attn_transformer_attention;

typedef struct attn_transformer_feed_forward {
    attn_transformer_norm norm;
    attn_transformer_linear in, gate, out; /* gate: "swiglu" */
} attn_transformer_feed_forward;

typedef struct attn_transformer_encoder_layer {
    attn_transformer_attention self;
    attn_transformer_feed_forward feed_forward;
} attn_transformer_encoder_layer;

typedef struct attn_transformer_decoder_layer {
    attn_transformer_attention self, cross;
    attn_transformer_feed_forward feed_forward;
} attn_transformer_decoder_layer;

typedef struct attn_transformer {
    attn_model base;
    attn_transformer_config config;
    attn_parameter *source_embedding, *target_embedding, *output;
    attn_parameter *source_positions, *target_positions; /* learned */
    attn_transformer_encoder_layer encoder[ATTN_TRANSFORMER_LAYERS];
    attn_transformer_decoder_layer decoder[ATTN_TRANSFORMER_LAYERS];
    attn_transformer_norm encoder_norm, decoder_norm; /* norm "pre" */
} attn_transformer;

attn_status attn_transformer_configure(attn_model *model, const char *config_json);
attn_status attn_transformer_add_parameters(attn_model *model);
attn_activation attn_transformer_activation(const attn_transformer_config *config);

#endif
