/* bert.c: the encoder of Devlin, Chang, Lee & Toutanova 2019, "BERT: Pre-training of Deep Bidirectional Transformers".
 *
 * Tokens x_1 … x_T of types s_t (which of two sentences a token is of); C hidden_size, H heads of size D = C / H:
 *   embedding   h_t = LN(E x_t + P t + S s_t)                                                  (T, C)
 *   attention   h ← LN(h + W_o [Σ_j α_tj v_j] + b_o),  α_tj = softmax over all j of q_t·k_j / √D,
 *               q, k, v = W h + b for each head
 *   MLP         h ← LN(h + W_down act(W_up h + b_up) + b_down)                                 both num_layers times
 *   pooler      tanh(W_p h_1 + b_p), where the file has one                                    (C)
 *
 * The norm follows each sum (Vaswani et al. 2017), and every token sees every other. Sentence embeddings (Reimers &
 * Gurevych 2019) are means of h, or h_1: infer/embed.c. The heads of the tasks that the model was trained on are left
 * in the file. */
#include "model/bert.h"
#include "model/weights.h"
#include "nn/tape.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct config {
    size_t vocab_size, hidden_size, num_layers, heads, inner_size, context, types;
    int activation;
    float norm_epsilon, init_range, hidden_dropout, attention_dropout;
} config;

#define FIELD(key, kind, field, ...) \
    { key, ATTN_FIELD_##kind, offsetof(config, field), __VA_ARGS__, NULL }
static const attn_field fields[] = {
    FIELD("vocab_size", SIZE, vocab_size, 30522, 1, 1 << 24, NULL),
    FIELD("hidden_size", SIZE, hidden_size, 768, 1, 1 << 16, NULL),
    FIELD("num_hidden_layers", SIZE, num_layers, 12, 1, 1024, NULL),
    FIELD("num_attention_heads", SIZE, heads, 12, 1, 1 << 16, NULL),
    FIELD("intermediate_size", SIZE, inner_size, 3072, 1, 1 << 24, NULL),
    FIELD("hidden_act", CHOICE, activation, ATTN_FOREIGN_GELU, 0, 0, attn_foreign_activations),
    FIELD("max_position_embeddings", SIZE, context, 512, 1, 1 << 24, NULL),
    FIELD("type_vocab_size", SIZE, types, 2, 1, 1 << 16, NULL),
    FIELD("initializer_range", FLOAT, init_range, 0.02, 0, 1, NULL),
    FIELD("layer_norm_eps", FLOAT, norm_epsilon, 1e-12, 0, 1, NULL),
    FIELD("hidden_dropout_prob", FLOAT, hidden_dropout, 0.1, 0, 0.95, NULL), /* kept for who trains it further */
    FIELD("attention_probs_dropout_prob", FLOAT, attention_dropout, 0.1, 0, 0.95, NULL),
};

typedef struct linear {
    attn_parameter *w, *b;
} linear;

typedef struct bert_layer {
    linear query, key, value, out, attention_norm, up, down, norm;
} bert_layer;

struct attn_bert {
    attn_model base;
    config config;
    bert_layer *layer; /* (num_layers) */
    attn_parameter *tokens, *positions, *types;
    linear norm, pooler; /* no pooler: NULL */
    bool has_pooler, old_norms;
    const char *prefix; /* while a folder is read */
};

/* ---- the equations ---------------------------------------------------------------------------------- */

static attn_var *linear_of(attn_tape *tape, attn_var *x, linear l, attn_var *residual, attn_activation act) {
    return attn_tape_linear(tape, x, l.w, l.b, residual, act);
}

static attn_var *norm_of(const attn_bert *m, attn_tape *tape, attn_var *x, linear n) {
    return attn_tape_layer_norm(tape, x, n.w, n.b, m->config.norm_epsilon);
}

static attn_var *embed(const attn_bert *m, attn_tape *tape, const attn_bert_rows *rows) {
    attn_var *h = attn_tape_embedding(tape, m->tokens, rows->id, 1, &rows->count);
    h = attn_tape_add(tape, h, attn_tape_embedding(tape, m->types, rows->type, 1, &rows->count));
    h = attn_tape_add(tape, h, attn_tape_embedding(tape, m->positions, rows->position, 1, &rows->count));
    return norm_of(m, tape, h, m->norm);
}

/* *head gets what a look at its weights needs; NULL: not wanted. */
static attn_var *attend(const attn_bert *m, attn_tape *tape, const bert_layer *layer, attn_var *h,
                        const attn_bert_rows *rows, attn_head_of *head) {
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.cu_q = options.cu_k = rows->cu;
    options.sequences = rows->sequences;
    attn_attention_inputs in = {.heads = m->config.heads};
    attn_var *lse = NULL;
    in.q = linear_of(tape, h, layer->query, NULL, ATTN_IDENTITY);
    in.k = linear_of(tape, h, layer->key, NULL, ATTN_IDENTITY);
    in.v = linear_of(tape, h, layer->value, NULL, ATTN_IDENTITY);
    attn_var *z = attn_tape_attention(tape, &in, &options, head ? &lse : NULL);
    if (head) head->q = in.q, head->k = in.k, head->lse = lse;
    return z;
}

static attn_var *block(const attn_bert *m, attn_tape *tape, const bert_layer *layer, attn_var *h,
                       const attn_bert_rows *rows) {
    attn_var *z = attend(m, tape, layer, h, rows, NULL);
    h = norm_of(m, tape, linear_of(tape, z, layer->out, h, ATTN_IDENTITY), layer->attention_norm);
    attn_var *inner = linear_of(tape, h, layer->up, NULL, attn_foreign_activation(m->config.activation));
    return norm_of(m, tape, linear_of(tape, inner, layer->down, h, ATTN_IDENTITY), layer->norm);
}

/* What enters layer n. */
static attn_var *states_before(const attn_bert *m, attn_tape *tape, const attn_bert_rows *rows, size_t n) {
    float *kept = attn_tape_memory(tape, rows->count, m->config.hidden_size * sizeof *kept);
    attn_var *h = kept ? embed(m, tape, rows) : NULL;
    for (size_t l = 0; h && l < n; l++) {
        const attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
        h = attn_tape_keep_alone(tape, block(m, tape, &m->layer[l], h, rows), mark, kept);
    }
    return h;
}

attn_var *attn_bert_states(const attn_bert *m, attn_tape *tape, const attn_bert_rows *rows) {
    return states_before(m, tape, rows, m->config.num_layers);
}

attn_var *attn_bert_pool(const attn_bert *m, attn_tape *tape, attn_var *states) {
    if (!m->pooler.w) return attn_tape_fail(tape, ATTN_E_UNSUPPORTED, "this bert model has no pooler");
    return linear_of(tape, states, m->pooler, NULL, ATTN_TANH);
}

static attn_status look_at_text(const attn_model *model, attn_tape *tape, attn_seen *seen, const attn_look *look,
                                const int32_t *ids, const int32_t *types, size_t n) {
    const attn_bert *m = (const attn_bert *)model;
    const int32_t cu[2] = {0, (int32_t)n};
    int32_t *position = attn_tape_memory(tape, n, 2 * sizeof *position), *type = position + n;
    if (!position) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) position[i] = (int32_t)i, type[i] = types ? types[i] : 0;
    const attn_bert_rows rows = {n, ids, position, type, 1, cu};
    *seen = (attn_seen){{.heads = m->config.heads, .key_heads = m->config.heads}, ATTN_ATTENTION_OPTIONS_INIT};
    attn_var *h = states_before(m, tape, &rows, look->layer);
    attend(m, tape, &m->layer[look->layer], h, &rows, &seen->of);
    return attn_tape_status(tape);
}

/* ---- files: BertModel's names, with and without "bert." before them ----------------------------------- */

/* Names without ".weight" and ".bias"; those of a layer behind the layer's own. */
static const struct {
    const char *own, *stored;
} names[] = {
    {"tokens", "embeddings.word_embeddings"},
    {"positions", "embeddings.position_embeddings"},
    {"types", "embeddings.token_type_embeddings"},
    {"norm", "embeddings.LayerNorm"},
    {"pooler", "pooler.dense"},
    {"layer.query", "attention.self.query"},
    {"layer.key", "attention.self.key"},
    {"layer.value", "attention.self.value"},
    {"layer.out", "attention.output.dense"},
    {"layer.attention_norm", "attention.output.LayerNorm"},
    {"layer.up", "intermediate.dense"},
    {"layer.down", "output.dense"},
    {"layer.norm", "output.LayerNorm"},
};

static void stored_form(const attn_model *model, attn_stored_form *form, const char *name) {
    const attn_bert *m = (const attn_bert *)model;
    char layer[32] = "", own[64];
    unsigned n;
    int at = 0;
    *form = (attn_stored_form){.parts = 1};
    if (sscanf(name, "layers.%u.%n", &n, &at) == 1 && at) snprintf(layer, sizeof layer, "encoder.layer.%u.", n);
    else at = 0;
    const char *end = strrchr(name, '.');
    snprintf(own, sizeof own, "%s%.*s", at ? "layer." : "", (int)(end - name - at), name + at);
    const char *stored = own;
    for (size_t i = 0; i < ATTN_COUNT(names); i++)
        if (!strcmp(names[i].own, own)) stored = names[i].stored;
    const bool reading = model->stored != NULL, norm = strstr(stored, "LayerNorm") != NULL;
    if (reading && m->old_norms && norm) end = !strcmp(end, ".bias") ? ".beta" : ".gamma";
    snprintf(form->name, sizeof form->name, "%s%s%s%s", reading ? m->prefix : "", layer, stored, end);
}

static attn_status recognise(attn_model *model, const attn_weights *weights) {
    attn_bert *m = (attn_bert *)model;
    m->prefix = attn_weights_find(weights, NULL, "bert.embeddings.word_embeddings.weight") ? "bert." : "";
    char name[64];
    snprintf(name, sizeof name, "%sembeddings.LayerNorm.gamma", m->prefix);
    m->old_norms = attn_weights_find(weights, NULL, name);
    snprintf(name, sizeof name, "%spooler.dense.weight", m->prefix);
    m->has_pooler = attn_weights_find(weights, NULL, name);
    return ATTN_OK;
}

/* Heads of tasks, and positions that some files list. */
static bool ignores(const attn_model *model, const char *stored) {
    static const char *const heads[] = {"cls.", "classifier.", "qa_outputs."};
    (void)model;
    for (size_t i = 0; i < ATTN_COUNT(heads); i++)
        if (!strncmp(stored, heads[i], strlen(heads[i]))) return true;
    const char *position = strstr(stored, "embeddings.position_ids");
    return position && (position == stored || !strncmp(stored, "bert.embeddings.", 16));
}

/* ---- parameters ---------------------------------------------------------------------------------- */

static linear add(attn_builder *b, size_t layer, const char *name, size_t out, size_t in) {
    const attn_bert *m = (const attn_bert *)b->model;
    char full[96], prefix[32] = "";
    if (layer != SIZE_MAX) snprintf(prefix, sizeof prefix, "layers.%zu.", layer);
    snprintf(full, sizeof full, "%s%s.weight", prefix, name);
    linear l = {attn_builder_add(b, full, in ? ATTN_INIT_NORMAL : ATTN_INIT_ONE, m->config.init_range, out, in), NULL};
    snprintf(full, sizeof full, "%s%s.bias", prefix, name);
    l.b = attn_builder_add(b, full, ATTN_INIT_ZERO, 0, out, 0);
    return l;
}

static attn_status add_parameters(attn_model *model) {
    attn_bert *m = (attn_bert *)model;
    const config *c = &m->config;
    const size_t d = c->hidden_size;
    attn_builder b = {model, ATTN_OK};
    m->tokens = attn_builder_add(&b, "tokens.weight", ATTN_INIT_NORMAL, c->init_range, c->vocab_size, d);
    m->positions = attn_builder_add(&b, "positions.weight", ATTN_INIT_NORMAL, c->init_range, c->context, d);
    m->types = attn_builder_add(&b, "types.weight", ATTN_INIT_NORMAL, c->init_range, c->types, d);
    m->norm = add(&b, SIZE_MAX, "norm", d, 0);
    for (size_t l = 0; l < c->num_layers && b.status == ATTN_OK; l++) {
        bert_layer *own = &m->layer[l];
        own->query = add(&b, l, "query", d, d);
        own->key = add(&b, l, "key", d, d);
        own->value = add(&b, l, "value", d, d);
        own->out = add(&b, l, "out", d, d);
        own->attention_norm = add(&b, l, "attention_norm", d, 0);
        own->up = add(&b, l, "up", c->inner_size, d);
        own->down = add(&b, l, "down", d, c->inner_size);
        own->norm = add(&b, l, "norm", d, 0);
    }
    if (m->has_pooler) m->pooler = add(&b, SIZE_MAX, "pooler", d, d);
    return b.status;
}

static attn_status configure_root(attn_bert *m, json_t *root) {
    static const char *const passed[] = {"pad_token_id", "bos_token_id", "eos_token_id", "use_cache", "dtype",
                                         "torch_dtype",  "id2label",     "label2id",     NULL};
    static const struct attn_fixed_key fixed[] = {{"is_decoder", "false"},
                                                  {"add_cross_attention", "false"},
                                                  {"position_embedding_type", "\"absolute\""},
                                                  {"quantization_config", "null"},
                                                  {NULL, NULL}};
    static const attn_foreign_keys keys = {passed, fixed};
    attn_context *ctx = m->base.ctx;
    const config *c = &m->config;
    const char *type = m->base.class->type;
    ATTN_TRY(attn_config_read_foreign(ctx, &m->config, type, fields, ATTN_COUNT(fields), root, &keys));
    if (c->hidden_size % c->heads || c->hidden_size / c->heads > 576)
        return attn_fail(ctx, ATTN_E_FORMAT,
                         "config: \"hidden_size\" is %zu, expected a multiple of \"num_attention_heads\", %zu, and up "
                         "to 576 columns a head",
                         c->hidden_size, c->heads);
    m->layer = attn_alloc_zero(ctx, c->num_layers, sizeof *m->layer);
    if (!m->layer) return ATTN_E_NOMEM;
    m->has_pooler = true;
    m->base.vocab_size = c->vocab_size;
    m->base.max_positions = c->context;
    m->base.layers[ATTN_LOOK_ENCODER] = c->num_layers, m->base.heads = c->heads;
    return attn_config_write(ctx, &m->base.config, type, c, fields, ATTN_COUNT(fields));
}

static attn_status configure(attn_model *model, const char *config_json) {
    json_error_t error;
    json_t *root = json_loads(config_json, JSON_REJECT_DUPLICATES, &error);
    if (!root) return attn_fail(model->ctx, ATTN_E_FORMAT, "config: line %d: %s", error.line, error.text);
    attn_status status = configure_root((attn_bert *)model, root);
    json_decref(root);
    return status;
}

static void clear(attn_model *model) { attn_release(model->ctx, ((attn_bert *)model)->layer); }

const attn_model_class attn_class_bert = {
    .type = "bert",
    .bytes = sizeof(attn_bert),
    .configure = configure,
    .add_parameters = add_parameters,
    .clear = clear,
    .look_at_text = look_at_text,
    .recognise = recognise,
    .stored_form = stored_form,
    .ignores = ignores,
};

size_t attn_bert_state_size(const attn_bert *m) { return m->config.hidden_size; }

const attn_bert *attn_bert_of(const attn_model *model) {
    if (model->class == &attn_class_bert) return (const attn_bert *)model;
    attn_fail(model->ctx, ATTN_E_ARGUMENT, "a %s model is no encoder of single texts, expected a bert model",
              model->class->type);
    return NULL;
}
