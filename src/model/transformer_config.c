/* transformer_config.c: a transformer's config.json, and its parameters. */
#include "model/transformer.h"

#include <math.h>
#include <stdio.h>

enum { POSITIONS_SINUSOIDAL, POSITIONS_LEARNED };
enum { SWIGLU = 4 };
static const char *const norm_names[] = {"pre", "post", NULL};
static const char *const position_names[] = {"sinusoidal", "learned", NULL};
static const char *const activation_names[] = {"relu", "gelu", "gelu_tanh", "silu", "swiglu", NULL};
static const attn_activation activations[] = {ATTN_RELU, ATTN_GELU, ATTN_GELU_TANH, ATTN_SILU, ATTN_SILU};

attn_activation attn_transformer_activation(const attn_transformer_config *config) {
    return activations[config->activation];
}

/* ---- config.json --------------------------------------------------------------------------------- */

#define FIELD(key, kind, ...) \
    { #key, ATTN_FIELD_##kind, offsetof(attn_transformer_config, key), __VA_ARGS__, NULL }
static const attn_field fields[] = {
    FIELD(vocab_size, SIZE, 0, 5, 1 << 24, NULL),
    FIELD(model_size, SIZE, 256, 4, 1 << 14, NULL),
    FIELD(feed_forward_size, SIZE, 1024, 1, 1 << 16, NULL),
    FIELD(encoder_layers, SIZE, 3, 1, ATTN_TRANSFORMER_LAYERS, NULL),
    FIELD(decoder_layers, SIZE, 3, 1, ATTN_TRANSFORMER_LAYERS, NULL),
    FIELD(heads, SIZE, 8, 1, 256, NULL),
    FIELD(max_positions, SIZE, 512, 1, 1 << 20, NULL),
    FIELD(norm, CHOICE, ATTN_NORM_PRE, 0, 0, norm_names),
    FIELD(positions, CHOICE, POSITIONS_SINUSOIDAL, 0, 0, position_names),
    FIELD(activation, CHOICE, 0, 0, 0, activation_names),
    FIELD(tie_embeddings, BOOL, 1, 0, 0, NULL),
    FIELD(dropout, FLOAT, 0.1, 0, 0.95, NULL),
    FIELD(attention_dropout, FLOAT, 0.1, 0, 0.95, NULL),
    FIELD(activation_dropout, FLOAT, 0, 0, 0.95, NULL),
    FIELD(alignment_layer, SIZE, 0, 0, ATTN_TRANSFORMER_LAYERS, NULL),
    FIELD(alignment_head, SIZE, 0, 0, 256, NULL),
    FIELD(alignment_follows, BOOL, 0, 0, 0, NULL),
    FIELD(coverage_penalty, FLOAT, 0, 0, 10, NULL),
};

static attn_status check_config(attn_context *ctx, const attn_transformer_config *c) {
    if (c->model_size % c->heads)
        return attn_fail(ctx, ATTN_E_FORMAT, "config: \"model_size\": expected a multiple of the %zu heads, found %zu",
                         c->heads, c->model_size);
    if (c->model_size % 2 && c->positions == POSITIONS_SINUSOIDAL)
        return attn_fail(ctx, ATTN_E_FORMAT, "config: \"model_size\": expected an even number, found %zu",
                         c->model_size);
    if (c->alignment_layer > c->decoder_layers)
        return attn_fail(ctx, ATTN_E_FORMAT, "config: \"alignment_layer\": expected at most %zu layers, found %zu",
                         c->decoder_layers, c->alignment_layer);
    if (c->alignment_head > c->heads)
        return attn_fail(ctx, ATTN_E_FORMAT, "config: \"alignment_head\": expected at most %zu heads, found %zu",
                         c->heads, c->alignment_head);
    return ATTN_OK;
}

attn_status attn_transformer_configure(attn_model *model, const char *config_json) {
    attn_transformer *m = (attn_transformer *)model;
    const char *type = model->class->type;
    ATTN_TRY(attn_config_read(model->ctx, &m->config, type, fields, ATTN_COUNT(fields), config_json));
    ATTN_TRY(check_config(model->ctx, &m->config));
    ATTN_TRY(attn_config_write(model->ctx, &model->config, type, &m->config, fields, ATTN_COUNT(fields)));
    model->vocab_size = m->config.vocab_size;
    model->max_positions = m->config.max_positions;
    model->layers[ATTN_LOOK_ENCODER] = m->config.encoder_layers, model->heads = m->config.heads;
    model->layers[ATTN_LOOK_DECODER] = model->layers[ATTN_LOOK_CROSS] = m->config.decoder_layers;
    model->alignment_follows = m->config.alignment_follows;
    model->coverage_penalty = m->config.coverage_penalty;
    return ATTN_OK;
}

/* ---- parameters ---------------------------------------------------------------------------------- */

static attn_parameter *add_part(attn_builder *b, const char *prefix, const char *name, const char *part, attn_init init,
                                float scale, size_t rows, size_t columns) {
    char full[96];
    snprintf(full, sizeof full, "%s.%s.%s", prefix, name, part);
    return attn_builder_add(b, full, init, scale, rows, columns);
}

static attn_transformer_linear add_linear(attn_builder *b, const char *prefix, const char *name, size_t out,
                                          size_t in) {
    attn_transformer_linear l = {add_part(b, prefix, name, "weight", ATTN_INIT_XAVIER, 1, out, in), NULL};
    l.b = add_part(b, prefix, name, "bias", ATTN_INIT_ZERO, 0, out, 0);
    return l;
}

static attn_transformer_norm add_norm(attn_builder *b, const char *prefix, const char *name, size_t d) {
    attn_transformer_norm n = {add_part(b, prefix, name, "weight", ATTN_INIT_ONE, 0, d, 0), NULL};
    n.bias = add_part(b, prefix, name, "bias", ATTN_INIT_ZERO, 0, d, 0);
    return n;
}

static attn_transformer_attention add_attention(attn_builder *b, const char *layer, const char *name, size_t d) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.%s", layer, name);
    attn_transformer_attention block = {.norm = add_norm(b, prefix, "norm", d)};
    block.query = add_linear(b, prefix, "query", d, d);
    block.key = add_linear(b, prefix, "key", d, d);
    block.value = add_linear(b, prefix, "value", d, d);
    block.out = add_linear(b, prefix, "out", d, d);
    return block;
}

static attn_transformer_feed_forward add_feed_forward(attn_builder *b, const char *layer, size_t d, size_t inner,
                                                      bool gated) {
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.feed_forward", layer);
    attn_transformer_feed_forward block = {.norm = add_norm(b, prefix, "norm", d)};
    if (gated) block.gate = add_linear(b, prefix, "gate", inner, d);
    block.in = add_linear(b, prefix, "in", inner, d);
    block.out = add_linear(b, prefix, "out", d, inner);
    return block;
}

static void add_embeddings(attn_transformer *m, attn_builder *b) {
    const attn_transformer_config *c = &m->config;
    const float scale = 1 / sqrtf((float)c->model_size);
    if (c->tie_embeddings) {
        m->source_embedding = m->target_embedding = m->output =
            attn_builder_add(b, "embedding.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->model_size);
    } else {
        m->source_embedding =
            attn_builder_add(b, "encoder.embedding.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->model_size);
        m->target_embedding =
            attn_builder_add(b, "decoder.embedding.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->model_size);
        m->output = attn_builder_add(b, "output.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->model_size);
    }
    if (c->positions == POSITIONS_SINUSOIDAL) return;
    m->source_positions =
        attn_builder_add(b, "encoder.positions.weight", ATTN_INIT_NORMAL, 0.02f, c->max_positions, c->model_size);
    m->target_positions =
        attn_builder_add(b, "decoder.positions.weight", ATTN_INIT_NORMAL, 0.02f, c->max_positions, c->model_size);
}

attn_status attn_transformer_add_parameters(attn_model *model) {
    attn_transformer *m = (attn_transformer *)model;
    const attn_transformer_config *c = &m->config;
    const size_t d = c->model_size, inner = c->feed_forward_size;
    const bool gated = c->activation == SWIGLU;
    attn_builder b = {model, ATTN_OK};
    char layer[32];
    add_embeddings(m, &b);
    for (size_t l = 0; l < c->encoder_layers; l++) {
        snprintf(layer, sizeof layer, "encoder.%zu", l);
        m->encoder[l].self = add_attention(&b, layer, "self", d);
        m->encoder[l].feed_forward = add_feed_forward(&b, layer, d, inner, gated);
    }
    for (size_t l = 0; l < c->decoder_layers; l++) {
        snprintf(layer, sizeof layer, "decoder.%zu", l);
        m->decoder[l].self = add_attention(&b, layer, "self", d);
        m->decoder[l].cross = add_attention(&b, layer, "cross", d);
        m->decoder[l].feed_forward = add_feed_forward(&b, layer, d, inner, gated);
    }
    if (c->norm == ATTN_NORM_PRE) {
        m->encoder_norm = add_norm(&b, "encoder", "norm", d);
        m->decoder_norm = add_norm(&b, "decoder", "norm", d);
    }
    return b.status;
}
