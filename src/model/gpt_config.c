/* gpt_config.c: config.json of the language models, as the world writes it.
 *
 * Read are both generations of transformers' files: rotary settings as "rope_theta" beside "rope_scaling", or together
 * in "rope_parameters" (by kind of layer, where there are two kinds); windows by "layer_types", or by a pattern.
 * Written is the older one, which the newer reads too. A file that says which program wrote it ("architectures" or
 * "transformers_version") may hold keys that say nothing here; elsewhere an unknown key is an error. */
#include "model/gpt.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

attn_activation attn_gpt_activation(const attn_gpt_config *config) {
    return attn_foreign_activation(config->activation);
}

/* ---- the keys of each family -------------------------------------------------------------------------- */

#define FIELD(key, kind, field, ...) \
    { key, ATTN_FIELD_##kind, offsetof(attn_gpt_config, field), __VA_ARGS__, NULL }
#define SIZE(key, field, fallback, low) FIELD(key, SIZE, field, fallback, low, 1 << 24, NULL)
#define DROPOUT(key, field) FIELD(key, FLOAT, field, 0, 0, 0.95, NULL)
#define FLAG(key, field, fallback) FIELD(key, BOOL, field, fallback, 0, 0, NULL)

static const attn_field gpt2_fields[] = {
    SIZE("vocab_size", vocab_size, 50257, 1),
    SIZE("n_positions", context, 1024, 1),
    SIZE("n_embd", hidden_size, 768, 1),
    FIELD("n_layer", SIZE, num_layers, 12, 1, ATTN_GPT_MAX_LAYERS, NULL),
    SIZE("n_head", heads, 12, 1),
    SIZE("n_inner", inner_size, 0, 0),
    FIELD("activation_function", CHOICE, activation, ATTN_FOREIGN_GELU_NEW, 0, 0, attn_foreign_activations),
    FIELD("layer_norm_epsilon", FLOAT, norm_epsilon, 1e-5, 0, 1, NULL),
    FIELD("initializer_range", FLOAT, init_range, 0.02, 0, 1, NULL),
    DROPOUT("embd_pdrop", embedding_dropout),
    DROPOUT("attn_pdrop", attention_dropout),
    DROPOUT("resid_pdrop", residual_dropout),
    FLAG("tie_word_embeddings", tie, 1),
};

/* What the Llama family shares. */
#define LLAMA_FIELDS(context_length, tied, theta)                                                          \
    SIZE("vocab_size", vocab_size, 32000, 1), SIZE("max_position_embeddings", context, context_length, 1), \
        SIZE("hidden_size", hidden_size, 4096, 1), SIZE("intermediate_size", inner_size, 11008, 1),        \
        FIELD("num_hidden_layers", SIZE, num_layers, 32, 1, ATTN_GPT_MAX_LAYERS, NULL),                    \
        SIZE("num_attention_heads", heads, 32, 1), SIZE("num_key_value_heads", key_heads, 0, 0),           \
        FIELD("rms_norm_eps", FLOAT, norm_epsilon, 1e-6, 0, 1, NULL),                                      \
        FIELD("rope_theta", FLOAT, rope_theta, theta, 1, 1e12, NULL),                                      \
        FIELD("initializer_range", FLOAT, init_range, 0.02, 0, 1, NULL),                                   \
        DROPOUT("attention_dropout", attention_dropout), FLAG("tie_word_embeddings", tie, tied)
#define HEAD_SIZE(fallback) FIELD("head_dim", SIZE, head_size, fallback, 0, 576, NULL)
#define SILU_ACT FIELD("hidden_act", CHOICE, activation, ATTN_FOREIGN_SILU, 0, 0, attn_foreign_activations)
#define WINDOW(fallback) FIELD("sliding_window", SIZE, window, fallback, 0, INT32_MAX, NULL)
#define QWEN_WINDOW \
    FLAG("use_sliding_window", use_window, 0), WINDOW(4096), SIZE("max_window_layers", first_window_layer, 28, 0)
#define GEMMA_FIELDS                                                                                        \
    FIELD("hidden_activation", CHOICE, activation, ATTN_FOREIGN_GELU_TANH, 0, 0, attn_foreign_activations), \
        HEAD_SIZE(256), WINDOW(4096), FLAG("attention_bias", attention_bias, 0),                            \
        FIELD("query_pre_attn_scalar", FLOAT, query_scalar, 256, 1e-6, 1e9, NULL)

static const attn_field llama_fields[] = {LLAMA_FIELDS(2048, 0, 1e4), HEAD_SIZE(0), SILU_ACT,
                                          FLAG("attention_bias", attention_bias, 0), FLAG("mlp_bias", mlp_bias, 0)};
static const attn_field mistral_fields[] = {LLAMA_FIELDS(131072, 0, 1e4), HEAD_SIZE(0), SILU_ACT, WINDOW(4096)};
static const attn_field qwen2_fields[] = {LLAMA_FIELDS(32768, 0, 1e4), HEAD_SIZE(0), SILU_ACT, QWEN_WINDOW};
static const attn_field qwen3_fields[] = {LLAMA_FIELDS(32768, 0, 1e4), HEAD_SIZE(128), SILU_ACT, QWEN_WINDOW,
                                          FLAG("attention_bias", attention_bias, 0)};
static const attn_field gemma2_fields[] = {LLAMA_FIELDS(8192, 1, 1e4), GEMMA_FIELDS,
                                           FIELD("attn_logit_softcapping", FLOAT, attention_softcap, 50, 0, 1e9, NULL),
                                           FIELD("final_logit_softcapping", FLOAT, final_softcap, 30, 0, 1e9, NULL)};
static const attn_field gemma3_fields[] = {LLAMA_FIELDS(131072, 1, 1e6),
                                           GEMMA_FIELDS,
                                           FIELD("attn_logit_softcapping", FLOAT, attention_softcap, 0, 0, 1e9, NULL),
                                           FIELD("final_logit_softcapping", FLOAT, final_softcap, 0, 0, 1e9, NULL),
                                           FIELD("rope_local_base_freq", FLOAT, local_theta, 1e4, 1, 1e12, NULL),
                                           SIZE("sliding_window_pattern", window_pattern, 6, 0)};

#define KEYS(family) .fields = family##_fields, .field_count = ATTN_COUNT(family##_fields)
static const attn_gpt_family families[] = {
    {.type = "gpt2", .architecture = "GPT2LMHeadModel", KEYS(gpt2), .layer_norm = true},
    {.type = "llama", .architecture = "LlamaForCausalLM", KEYS(llama)},
    {.type = "mistral", .architecture = "MistralForCausalLM", KEYS(mistral)},
    {.type = "qwen2", .architecture = "Qwen2ForCausalLM", KEYS(qwen2), .query_bias = true},
    {.type = "qwen3", .architecture = "Qwen3ForCausalLM", KEYS(qwen3), .head_norms = true},
    {.type = "gemma2",
     .architecture = "Gemma2ForCausalLM",
     KEYS(gemma2),
     .outer_norms = true,
     .gain_from_one = true,
     .scale_embeddings = true},
    {.type = "gemma3_text",
     .architecture = "Gemma3ForCausalLM",
     KEYS(gemma3),
     .head_norms = true,
     .outer_norms = true,
     .gain_from_one = true,
     .scale_embeddings = true},
};

static const struct attn_fixed_key fixed[] = {
    {"scale_attn_by_inverse_layer_idx", "false"},
    {"scale_attn_weights", "true"},
    {"add_cross_attention", "false"},
    {"use_bidirectional_attention", "false"},
    {"partial_rotary_factor", "1.0"},
    {"quantization_config", "null"},
    {NULL, NULL},
};

/* Keys that are read here, beside those of the tables. */
static const char *const nested[] = {"rope_parameters",
                                     "rope_scaling",
                                     "layer_types",
                                     "eos_token_id",
                                     "architectures",
                                     "bos_token_id",
                                     "transformers_version",
                                     "pad_token_id",
                                     "dtype",
                                     "torch_dtype",
                                     "use_cache",
                                     "n_ctx",
                                     "reorder_and_upcast_attn",
                                     "id2label",
                                     "label2id",
                                     NULL};

/* ---- reading -------------------------------------------------------------------------------------------- */

typedef struct reader {
    attn_gpt *m;
    attn_context *ctx;
    json_t *root;
} reader;

static const attn_field *field_of(const attn_gpt_family *family, const char *key) {
    for (size_t i = 0; i < family->field_count; i++)
        if (!strcmp(family->fields[i].key, key)) return &family->fields[i];
    return NULL;
}

static attn_status read_fields(const reader *r) {
    static const attn_foreign_keys keys = {nested, fixed};
    const attn_gpt_family *f = r->m->family;
    return attn_config_read_foreign(r->ctx, &r->m->config, f->type, f->fields, f->field_count, r->root, &keys);
}

static attn_status rope_number(attn_context *ctx, float *out, const json_t *object, const char *key, double fallback) {
    const json_t *value = json_object_get(object, key);
    const double x = value && !json_is_null(value) ? json_number_value(value) : fallback;
    if (!(x > 0 && x < 1e12))
        return attn_fail(ctx, ATTN_E_FORMAT, "config: rotary positions: \"%s\": expected a number above 0", key);
    *out = (float)x;
    return ATTN_OK;
}

/* "rope_scaling" or one of "rope_parameters"; NULL and null: nothing but theta. */
static attn_status read_rope(attn_context *ctx, attn_rope *rope, const json_t *object, float theta, size_t context) {
    *rope = (attn_rope){.theta = theta, .factor = 1, .low = 1, .high = 4, .original = (float)context};
    if (!object || json_is_null(object)) return ATTN_OK;
    if (!json_is_object(object))
        return attn_fail(ctx, ATTN_E_FORMAT, "config: rotary positions: expected an object, found another value");
    const json_t *name = json_object_get(object, "rope_type");
    if (!name) name = json_object_get(object, "type");
    const char *type = name ? json_string_value(name) : "default";
    ATTN_TRY(rope_number(ctx, &rope->theta, object, "rope_theta", (double)theta));
    const json_t *part = json_object_get(object, "partial_rotary_factor");
    if (part && json_number_value(part) != 1)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "config: \"partial_rotary_factor\": expected 1, found another value");
    if (type && !strcmp(type, "default")) return ATTN_OK;
    const bool linear = type && !strcmp(type, "linear"), llama3 = type && !strcmp(type, "llama3");
    if (!linear && !llama3)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED,
                         "config: \"rope_type\": expected \"default\", \"linear\" or \"llama3\", found \"%.40s\"",
                         type ? type : "another value");
    rope->kind = linear ? ATTN_ROPE_LINEAR : ATTN_ROPE_LLAMA3;
    ATTN_TRY(rope_number(ctx, &rope->factor, object, "factor", -1));
    if (linear) return ATTN_OK;
    ATTN_TRY(rope_number(ctx, &rope->low, object, "low_freq_factor", -1));
    ATTN_TRY(rope_number(ctx, &rope->high, object, "high_freq_factor", -1));
    ATTN_TRY(rope_number(ctx, &rope->original, object, "original_max_position_embeddings", (double)context));
    if (rope->high <= rope->low)
        return attn_fail(ctx, ATTN_E_FORMAT,
                         "config: \"high_freq_factor\" is %g, expected more than \"low_freq_factor\"",
                         (double)rope->high);
    return ATTN_OK;
}

static attn_status read_ropes(const reader *r) {
    attn_gpt_config *c = &r->m->config;
    const json_t *both = json_object_get(r->root, "rope_parameters"), *local = NULL;
    const json_t *full = json_is_object(both) ? both : json_object_get(r->root, "rope_scaling");
    if (json_object_get(both, "full_attention") || json_object_get(both, "sliding_attention")) {
        full = json_object_get(both, "full_attention");
        local = json_object_get(both, "sliding_attention");
    }
    ATTN_TRY(read_rope(r->ctx, &c->rope, full, c->rope_theta, c->context));
    c->rope_theta = c->rope.theta;
    const float theta = c->local_theta > 0 ? c->local_theta : c->rope_theta;
    if (c->local_theta == 0 && !local) { /* one kind for all layers */
        c->local_rope = c->rope;
        return ATTN_OK;
    }
    ATTN_TRY(read_rope(r->ctx, &c->local_rope, local, theta, c->context));
    if (c->local_theta > 0) c->local_theta = c->local_rope.theta;
    if (c->local_rope.kind != ATTN_ROPE_PLAIN)
        return attn_fail(r->ctx, ATTN_E_UNSUPPORTED, "config: sliding layers: \"rope_type\": expected \"default\"");
    return ATTN_OK;
}

/* Which layers see a window only where "layer_types" does not say it. */
static bool slides(const attn_gpt *m, size_t layer) {
    const attn_gpt_config *c = &m->config;
    const char *type = m->family->type;
    if (c->window == 0) return false;
    if (!strcmp(type, "mistral")) return true;
    if (!strncmp(type, "qwen", 4)) return c->use_window && layer >= c->first_window_layer;
    if (!strcmp(type, "gemma2")) return layer % 2 == 0;
    return c->window_pattern > 0 && (layer + 1) % c->window_pattern != 0;
}

static attn_status read_layers(const reader *r) {
    attn_gpt *m = r->m;
    const json_t *types = json_object_get(r->root, "layer_types");
    if (types && !json_is_null(types) && json_array_size(types) != m->config.num_layers)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "config: \"layer_types\": expected an array of %zu names, found %zu",
                         m->config.num_layers, json_array_size(types));
    for (size_t l = 0; l < m->config.num_layers; l++) {
        const json_t *entry = json_array_get(types, l);
        const char *name = json_string_value(entry);
        const bool sliding = name && !strcmp(name, "sliding_attention");
        if (entry && !sliding && !(name && !strcmp(name, "full_attention")))
            return attn_fail(r->ctx, ATTN_E_UNSUPPORTED,
                             "config: \"layer_types\": expected \"full_attention\" or \"sliding_attention\", found "
                             "\"%.40s\"",
                             name ? name : "another value");
        m->layer[l].sliding =
            entry && strcmp(m->family->type, "mistral") != 0 ? sliding && m->config.window > 0 : slides(m, l);
    }
    return ATTN_OK;
}

/* Tokens that begin and end a text: for the end one id or several; an id the vocabulary lacks is none. */
static void read_ends(const reader *r) {
    attn_gpt_config *c = &r->m->config;
    const json_t *begin = json_object_get(r->root, "bos_token_id");
    const json_int_t first = json_is_integer(begin) ? json_integer_value(begin) : -1;
    c->begin = first >= 0 && first < (json_int_t)c->vocab_size ? (int32_t)first : -1;
    const json_t *ends = json_object_get(r->root, "eos_token_id");
    const size_t n = json_is_array(ends) ? json_array_size(ends) : 1;
    for (size_t i = 0; i < n && c->end_count < ATTN_GPT_MAX_ENDS; i++) {
        const json_t *id = json_is_array(ends) ? json_array_get(ends, i) : ends;
        if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < (json_int_t)c->vocab_size)
            c->ends[c->end_count++] = (int32_t)json_integer_value(id);
    }
}

/* "id2label" makes a classifier, {"0": "ham", "1": "spam"}; but of a file that says what else it is. */
static attn_status read_labels(const reader *r) {
    static const char classifies[] = "ForSequenceClassification";
    attn_gpt *m = r->m;
    const json_t *labels = json_object_get(r->root, "id2label");
    const char *architecture = json_string_value(json_array_get(json_object_get(r->root, "architectures"), 0));
    if (!labels || json_is_null(labels) || (architecture && !strstr(architecture, classifies))) return ATTN_OK;
    const size_t n = json_object_size(labels);
    if (n < 2 || n > ATTN_GPT_MAX_LABELS)
        return attn_fail(r->ctx, ATTN_E_FORMAT, "config: \"id2label\": expected an object of 2 to %d names, found %zu",
                         ATTN_GPT_MAX_LABELS, n);
    m->label = attn_alloc_zero(r->ctx, n, sizeof *m->label);
    if (!m->label) return ATTN_E_NOMEM;
    for (m->labels = 0; m->labels < n; m->labels++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", m->labels);
        const char *name = json_string_value(json_object_get(labels, key));
        if (!name)
            return attn_fail(r->ctx, ATTN_E_FORMAT, "config: \"id2label\": expected a name for \"%s\", found none",
                             key);
        if (!(m->label[m->labels] = attn_copy_text(r->ctx, name, strlen(name)))) return ATTN_E_NOMEM;
    }
    return ATTN_OK;
}

/* What follows from other keys, and what does not fit together. */
static attn_status complete(const reader *r) {
    attn_gpt_config *c = &r->m->config;
    const bool gpt2 = r->m->family->layer_norm;
    if (c->key_heads == 0) c->key_heads = c->heads;
    if (c->head_size == 0) {
        if (c->hidden_size % c->heads)
            return attn_fail(r->ctx, ATTN_E_FORMAT, "config: \"%s\" is %zu, expected a multiple of \"%s\", %zu",
                             gpt2 ? "n_embd" : "hidden_size", c->hidden_size, gpt2 ? "n_head" : "num_attention_heads",
                             c->heads);
        c->head_size = c->hidden_size / c->heads;
    }
    if (c->inner_size == 0) c->inner_size = 4 * c->hidden_size;
    if (c->query_scalar == 0) c->query_scalar = (float)c->head_size;
    if (c->heads % c->key_heads)
        return attn_fail(r->ctx, ATTN_E_FORMAT,
                         "config: \"num_attention_heads\" is %zu, expected a multiple of \"num_key_value_heads\", %zu",
                         c->heads, c->key_heads);
    if (c->head_size > 576 || (!gpt2 && c->head_size % 2))
        return attn_fail(r->ctx, ATTN_E_UNSUPPORTED, "config: heads have %zu columns, expected %s up to 576",
                         c->head_size, gpt2 ? "any number" : "an even number");
    return ATTN_OK;
}

static attn_status read_root(reader *r) {
    attn_gpt *m = r->m;
    ATTN_TRY(read_fields(r));
    ATTN_TRY(complete(r));
    m->layer = attn_alloc_zero(r->ctx, m->config.num_layers, sizeof *m->layer);
    if (!m->layer) return ATTN_E_NOMEM;
    if (!m->family->layer_norm) ATTN_TRY(read_ropes(r));
    ATTN_TRY(read_layers(r));
    read_ends(r);
    ATTN_TRY(read_labels(r));
    m->base.vocab_size = m->config.vocab_size;
    m->base.max_positions = m->config.context;
    m->base.layers[ATTN_LOOK_DECODER] = m->config.num_layers, m->base.heads = m->config.heads;
    return attn_gpt_write_config(m);
}

attn_status attn_gpt_configure(attn_model *model, const char *config_json) {
    reader r = {.m = (attn_gpt *)model, .ctx = model->ctx};
    json_error_t error;
    for (size_t i = 0; i < ATTN_COUNT(families); i++)
        if (!strcmp(families[i].type, model->class->type)) r.m->family = &families[i];
    r.root = json_loads(config_json, JSON_REJECT_DUPLICATES, &error);
    if (!r.root) return attn_fail(r.ctx, ATTN_E_FORMAT, "config: line %d: %s", error.line, error.text);
    attn_status status = read_root(&r);
    json_decref(r.root);
    return status;
}

/* ---- writing -------------------------------------------------------------------------------------------- */

static json_t *rope_json(const attn_rope *rope) {
    if (rope->kind == ATTN_ROPE_LINEAR)
        return json_pack("{s:s, s:f}", "rope_type", "linear", "factor", (double)rope->factor);
    return json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", (double)rope->factor,
                     "low_freq_factor", (double)rope->low, "high_freq_factor", (double)rope->high,
                     "original_max_position_embeddings", (json_int_t)rope->original);
}

static json_t *layers_json(const attn_gpt *m) {
    json_t *types = json_array();
    for (size_t l = 0; l < m->config.num_layers; l++)
        json_array_append_new(types, json_string(m->layer[l].sliding ? "sliding_attention" : "full_attention"));
    return types;
}

static json_t *ends_json(const attn_gpt_config *c) {
    if (c->end_count == 0) return json_null();
    if (c->end_count == 1) return json_integer(c->ends[0]);
    json_t *ends = json_array();
    for (size_t i = 0; i < c->end_count; i++) json_array_append_new(ends, json_integer(c->ends[i]));
    return ends;
}

/* "LlamaForCausalLM", or of a classifier "LlamaForSequenceClassification". */
static json_t *architecture_json(const attn_gpt *m) {
    const char *name = m->family->architecture, *what = strstr(name, m->family->layer_norm ? "LMHead" : "ForCausal");
    if (!m->labels || !what) return json_pack("[s]", name);
    json_t *text = json_sprintf("%.*sForSequenceClassification", (int)(what - name), name);
    return json_pack("[o]", text);
}

static json_t *labels_json(const attn_gpt *m, bool by_name) {
    json_t *object = json_object();
    for (size_t i = 0; i < m->labels; i++) {
        char key[24];
        snprintf(key, sizeof key, "%zu", i);
        if (by_name) json_object_set_new(object, m->label[i], json_integer((json_int_t)i));
        else json_object_set_new(object, key, json_string(m->label[i]));
    }
    return object;
}

attn_status attn_gpt_write_config(attn_gpt *m) {
    attn_context *ctx = m->base.ctx;
    const attn_gpt_config *c = &m->config;
    const attn_gpt_family *f = m->family;
    char *flat;
    ATTN_TRY(attn_config_write(ctx, &flat, f->type, c, f->fields, f->field_count));
    json_t *root = json_loads(flat, 0, NULL);
    attn_release(ctx, flat);
    bool failed = !root;
    failed |= json_object_set_new(root, "architectures", architecture_json(m)) != 0;
    if (m->labels) {
        failed |= json_object_set_new(root, "id2label", labels_json(m, false)) != 0;
        failed |= json_object_set_new(root, "label2id", labels_json(m, true)) != 0;
    }
    if (!f->layer_norm && c->rope.kind != ATTN_ROPE_PLAIN)
        failed |= json_object_set_new(root, "rope_scaling", rope_json(&c->rope)) != 0;
    if (field_of(f, "sliding_window") && strcmp(f->type, "mistral") != 0)
        failed |= json_object_set_new(root, "layer_types", layers_json(m)) != 0;
    if (field_of(f, "sliding_window") && c->window == 0)
        failed |= json_object_set_new(root, "sliding_window", json_null()) != 0;
    json_t *begin = c->begin < 0 ? json_null() : json_integer(c->begin);
    failed |= json_object_set_new(root, "bos_token_id", begin) != 0; /* else transformers takes its own defaults */
    failed |= json_object_set_new(root, "eos_token_id", ends_json(c)) != 0;
    if (failed) {
        json_decref(root);
        root = NULL;
    }
    char *text;
    ATTN_TRY(attn_json_text(ctx, &text, root));
    attn_release(ctx, m->base.config);
    m->base.config = text;
    return ATTN_OK;
}
