/* gpt.c: decoder-only language models.
 *
 *   gpt2                  Radford et al. 2019, "Language Models are Unsupervised Multitask Learners"
 *   llama, mistral,       Touvron et al. 2023; Jiang et al. 2023; Yang et al. 2024 and 2025
 *   qwen2, qwen3
 *   gemma2, gemma3_text   Gemma Team 2024 and 2025
 *
 * Tokens x_1 … x_T; the model gives p(x_{t+1} | x_1 … x_t) for every t at once. C hidden_size, H heads of size D, Hk
 * heads of keys and values, V tokens of the vocabulary.
 *
 *   embedding   h = E x_t (+ P t)                                                         (T, C)
 *   attention   u = norm(h);  q = R_t W_q u,  k = R_t W_k u,  v = W_v u                   (T, H·D), (T, Hk·D)
 *               h ← h + W_o Σ_j α_tj v_j,  α_tj = softmax over j ≤ t of q_t·k_j / √D      (T, C)
 *   MLP         u = norm(h);  h ← h + W_down act(W_up u)                                  (T, C), GPT-2
 *                             h ← h + W_down (act(W_gate u) ∘ W_up u)                     the others
 *   output      p = softmax(E' norm(h)),  E' = E where they are tied                      (T, V)
 *
 * GPT-2 has learned positions P, LayerNorm and biases; the others turn queries and keys by R_t (rotary positions) and
 * have RMSNorm. Their switches: biases of q, k, v (Qwen2), norms of each q and k head (Qwen3), a window of keys in all
 * layers (Mistral) or in some (Gemma, Qwen), norms after attention and MLP too, embeddings times √C, scores and logits
 * capped by c·tanh(·/c) (Gemma). */
#include "model/gpt.h"
#include "nn/tape.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- rotary angles --------------------------------------------------------------------------------- */

/* Turns a position by the pair i of `half`. In f32 as the models were trained with; Llama 3.1 (Grattafiori et al. 2024)
 * slows long waves down by `factor`, keeps short ones, and goes from the one to the other in between. */
static float frequency(const attn_rope *rope, size_t i, size_t half) {
    const float plain = (float)(1 / pow((double)rope->theta, (double)i / (double)half));
    if (rope->kind == ATTN_ROPE_PLAIN) return plain;
    if (rope->kind == ATTN_ROPE_LINEAR) return plain / rope->factor;
    const double wave = 2 * 3.14159265358979323846 / (double)plain, original = (double)rope->original;
    if (wave < original / (double)rope->high) return plain;
    if (wave > original / (double)rope->low) return plain / rope->factor;
    const double smooth = (original / wave - (double)rope->low) / ((double)rope->high - (double)rope->low);
    return (float)((1 - smooth) * (double)plain / (double)rope->factor + smooth * (double)plain);
}

/* Angles for all layers of one kind: of positions 0 … P−1, or of each row where that is less. */
typedef struct angles {
    attn_rotary table;
    const int64_t *index; /* (rows) into the table */
} angles;

static bool make_angles(angles *out, const attn_gpt *m, attn_tape *tape, const attn_rope *rope,
                        const attn_gpt_rows *rows) {
    const size_t half = m->config.head_size / 2;
    int64_t last = -1;
    for (size_t r = 0; r < rows->count; r++) last = ATTN_MAX(last, rows->position[r]);
    const bool by_position = last < (int64_t)rows->count;
    const size_t n = by_position ? (size_t)(last + 1) : rows->count;
    float *cosines = attn_tape_memory(tape, n * half, sizeof *cosines);
    float *sines = attn_tape_memory(tape, n * half, sizeof *sines);
    int64_t *own = attn_tape_memory(tape, rows->count, sizeof *own);
    if (!cosines || !sines || !own) return false;
    for (size_t i = 0; i < half; i++) {
        const float turn = frequency(rope, i, half);
        for (size_t p = 0; p < n; p++) {
            const float angle = (float)(by_position ? (int64_t)p : rows->position[p]) * turn;
            cosines[p * half + i] = (float)cos((double)angle);
            sines[p * half + i] = (float)sin((double)angle);
        }
    }
    for (size_t r = 0; r < rows->count; r++) own[r] = by_position ? rows->position[r] : (int64_t)r;
    out->table = (attn_rotary){attn_tensor_f32(cosines, 2, n, half), attn_tensor_f32(sines, 2, n, half), 0, false};
    out->index = own;
    return true;
}

/* ---- the equations ---------------------------------------------------------------------------------- */

static attn_var *linear(attn_tape *tape, attn_var *x, attn_gpt_linear l, attn_var *residual, attn_activation act) {
    if (!l.lora_a) return attn_tape_linear(tape, x, l.w, l.b, residual, act);
    attn_var *low = attn_tape_linear(tape, x, l.lora_a, NULL, NULL, ATTN_IDENTITY);
    attn_var *y = attn_tape_linear(tape, x, l.w, l.b, residual, ATTN_IDENTITY);
    return attn_tape_linear(tape, attn_tape_scale(tape, low, l.lora_scale), l.lora_b, NULL, y, act);
}

/* Several of one x, at once where they have no adapters. */
static bool linears(attn_tape *tape, attn_var **y, attn_var *x, const attn_gpt_linear *const *l, size_t n) {
    attn_linear_weights plain[ATTN_MANY_LINEARS];
    bool adapted = false;
    for (size_t i = 0; i < n; i++) {
        plain[i] = (attn_linear_weights){l[i]->w, l[i]->b};
        adapted = adapted || l[i]->lora_a;
    }
    if (!adapted) return attn_tape_linears(tape, y, x, plain, n);
    for (size_t i = 0; i < n; i++) y[i] = linear(tape, x, *l[i], NULL, ATTN_IDENTITY);
    return y[n - 1] != NULL;
}

static attn_var *norm(const attn_gpt *m, attn_tape *tape, attn_var *x, attn_gpt_linear n) {
    return m->family->layer_norm ? attn_tape_layer_norm(tape, x, n.w, n.b, m->config.norm_epsilon)
                                 : attn_tape_rms_norm(tape, x, n.w, m->config.norm_epsilon);
}

/* Each head by itself. */
static attn_var *norm_heads(const attn_gpt *m, attn_tape *tape, attn_var *x, attn_parameter *gain, size_t rows,
                            size_t heads) {
    const size_t d = m->config.head_size;
    x = attn_tape_reshape(tape, x, 3, (const size_t[]){rows, heads, d});
    x = attn_tape_rms_norm(tape, x, gain, m->config.norm_epsilon);
    return attn_tape_reshape(tape, x, 2, (const size_t[]){rows, heads * d});
}

/* h + f, or with the norm that Gemma has after f; f has been through its dropout. */
static attn_var *add_to(const attn_gpt *m, attn_tape *tape, attn_var *h, attn_var *f, attn_parameter *gain) {
    return attn_tape_add(tape, h, gain ? attn_tape_rms_norm(tape, f, gain, m->config.norm_epsilon) : f);
}

/* The last linear of attention or MLP, added to h: in one product where nothing comes between. */
static attn_var *project(const attn_gpt *m, attn_tape *tape, attn_var *x, attn_gpt_linear l, attn_var *h,
                         attn_parameter *gain) {
    const float p = m->config.residual_dropout;
    if (!gain && (p == 0 || !tape->record)) return linear(tape, x, l, h, ATTN_IDENTITY);
    return add_to(m, tape, h, attn_tape_dropout(tape, linear(tape, x, l, NULL, ATTN_IDENTITY), p), gain);
}

/* (B·T, heads·D) as (B, heads, T, D). */
static attn_tensor heads_of(const attn_var *x, size_t batch, size_t heads) {
    const attn_tensor *t = attn_var_value(x);
    const size_t steps = t->shape[0] / batch, columns = t->shape[1], d = columns / heads;
    const ptrdiff_t row = (ptrdiff_t)columns;
    return (attn_tensor){
        t->data, ATTN_F32, 4, {batch, heads, steps, d}, {(ptrdiff_t)steps * row, (ptrdiff_t)d, row, 1}};
}

/* Keys and values go into the cache, and are read from there: the same bits as without one (attn/cache.h). */
static attn_var *attend_cached(const attn_gpt *m, attn_tape *tape, attn_var *q, attn_var *k, attn_var *v,
                               attn_kv_cache *cache, size_t batch, attn_attention_options *options) {
    if (!q || !k || !v) return NULL;
    attn_var *y = attn_tape_var(tape, 2, attn_var_value(q)->shape, false);
    if (!y) return NULL;
    const attn_tensor keys = heads_of(k, batch, m->config.key_heads), values = heads_of(v, batch, m->config.key_heads);
    const attn_tensor queries = heads_of(q, batch, m->config.heads), out = heads_of(y, batch, m->config.heads);
    options->causal = ATTN_CAUSAL_BOTTOM_RIGHT;
    if (!attn_tape_check(tape, attn_kv_cache_append(tape->ctx, cache, &keys, &values, NULL)) ||
        !attn_tape_check(tape, attn_kv_cache_attend(tape->ctx, &out, NULL, &queries, cache, options)))
        return NULL;
    return y;
}

/* The same of rows that are sequences, each with its own cache. */
static attn_var *attend_each(const attn_gpt *m, attn_tape *tape, attn_var *q, attn_var *k, attn_var *v,
                             const attn_gpt_rows *rows, size_t l, attn_attention_options *options) {
    if (!q || !k || !v) return NULL;
    attn_var *y = attn_tape_var(tape, 2, attn_var_value(q)->shape, false);
    if (!y) return NULL;
    options->causal = ATTN_CAUSAL_BOTTOM_RIGHT;
    const attn_var *var[] = {q, k, v, y};
    for (size_t s = 0; s < rows->sequences; s++) {
        attn_tensor one[4];
        for (size_t i = 0; i < ATTN_COUNT(one); i++) {
            one[i] = heads_of(var[i], rows->count, i % 3 ? m->config.key_heads : m->config.heads);
            one[i].data = (float *)one[i].data + (ptrdiff_t)s * one[i].stride[0];
            one[i].shape[0] = 1;
        }
        attn_kv_cache *cache = rows->caches[s][l];
        if (!attn_tape_check(tape, attn_kv_cache_append(tape->ctx, cache, &one[1], &one[2], NULL)) ||
            !attn_tape_check(tape, attn_kv_cache_attend(tape->ctx, &one[3], NULL, &one[0], cache, options)))
            return NULL;
    }
    return y;
}

static attn_attention_options attention_of(const attn_gpt *m, size_t l) {
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.causal = ATTN_CAUSAL_TOP_LEFT;
    options.scale = 1 / sqrtf(m->config.query_scalar);
    options.softcap = m->config.attention_softcap;
    if (m->layer[l].sliding) options.window_left = (int64_t)m->config.window - 1;
    return options;
}

/* *seen gets what a look at the weights needs; NULL: not wanted. */
static attn_var *attend(const attn_gpt *m, attn_tape *tape, size_t l, attn_var *u, const attn_gpt_rows *rows,
                        const angles *turn, attn_head_of *seen) {
    const attn_gpt_config *c = &m->config;
    const attn_gpt_layer *layer = &m->layer[l];
    attn_var *projected[3];
    const attn_gpt_linear *const projections[] = {&layer->query, &layer->key, &layer->value};
    if (!linears(tape, projected, u, projections, 3)) return NULL;
    attn_var *q = projected[0], *k = projected[1], *v = projected[2];
    if (layer->query_norm) q = norm_heads(m, tape, q, layer->query_norm, rows->count, c->heads);
    if (layer->key_norm) k = norm_heads(m, tape, k, layer->key_norm, rows->count, c->key_heads);
    if (turn) q = attn_tape_rotary(tape, q, c->heads, &turn->table, turn->index);
    if (turn) k = attn_tape_rotary(tape, k, c->key_heads, &turn->table, turn->index);

    attn_attention_options options = attention_of(m, l);
    if (rows->cache) return attend_cached(m, tape, q, k, v, rows->cache[l], rows->sequences, &options);
    if (rows->caches) return attend_each(m, tape, q, k, v, rows, l, &options);
    options.dropout = c->attention_dropout;
    options.cu_q = options.cu_k = rows->cu;
    options.sequences = rows->sequences;
    const attn_attention_inputs inputs = {.q = q, .k = k, .v = v, .heads = c->heads, .key_heads = c->key_heads};
    attn_var *lse, *z = attn_tape_attention(tape, &inputs, &options, seen ? &lse : NULL);
    if (seen) *seen = (attn_head_of){.q = q, .k = k, .lse = lse, .heads = c->heads, .key_heads = c->key_heads};
    return z;
}

static attn_var *block(const attn_gpt *m, attn_tape *tape, size_t l, attn_var *h, const attn_gpt_rows *rows,
                       const angles *turn) {
    const attn_gpt_layer *layer = &m->layer[l];
    const attn_activation act = attn_gpt_activation(&m->config);
    attn_var *z = attend(m, tape, l, norm(m, tape, h, layer->input_norm), rows, turn, NULL);
    h = project(m, tape, z, layer->out, h, layer->attention_out_norm);

    attn_var *u = norm(m, tape, h, layer->mlp_norm), *inner;
    if (layer->gate.w) {
        attn_var *both[2];
        if (!linears(tape, both, u, (const attn_gpt_linear *const[]){&layer->gate, &layer->up}, 2)) return NULL;
        inner = attn_tape_gate(tape, both[0], both[1], act);
    } else {
        inner = linear(tape, u, layer->up, NULL, act);
    }
    return project(m, tape, inner, layer->down, h, layer->mlp_out_norm);
}

/* A layer as a part of the tape that need not be kept (attn_tape_run). */
typedef struct layer_pass {
    const attn_gpt *m;
    size_t layer;
    attn_gpt_rows rows;
    angles turn;
    bool turns;
} layer_pass;

static attn_var *run_layer_pass(attn_tape *tape, void *arg, attn_var *const *x) {
    const layer_pass *p = arg;
    return block(p->m, tape, p->layer, x[0], &p->rows, p->turns ? &p->turn : NULL);
}

static attn_var *run_layer(const attn_gpt *m, attn_tape *tape, size_t l, attn_var *h, const attn_gpt_rows *rows,
                           const angles *turn) {
    layer_pass *p = attn_tape_memory(tape, 1, sizeof *p);
    if (!p) return NULL;
    *p = (layer_pass){.m = m, .layer = l, .rows = *rows, .turns = turn != NULL};
    if (turn) p->turn = *turn;
    return attn_tape_run(tape, run_layer_pass, p, &h, 1);
}

static attn_var *embed(const attn_gpt *m, attn_tape *tape, const attn_gpt_rows *rows) {
    attn_var *h = attn_tape_embedding(tape, m->tokens, rows->id, 1, &rows->count);
    if (m->family->scale_embeddings) h = attn_tape_scale(tape, h, sqrtf((float)m->config.hidden_size));
    if (m->positions) {
        int32_t *position = attn_tape_memory(tape, rows->count, sizeof *position);
        for (size_t r = 0; position && r < rows->count; r++)
            position[r] = (int32_t)ATTN_MIN(rows->position[r], (int64_t)INT32_MAX);
        if (!position) return NULL;
        h = attn_tape_add(tape, h, attn_tape_embedding(tape, m->positions, position, 1, &rows->count));
    }
    return attn_tape_dropout(tape, h, m->config.embedding_dropout);
}

attn_var *attn_gpt_states(const attn_gpt *m, attn_tape *tape, const attn_gpt_rows *rows) {
    angles full, local, *turn[2] = {NULL, NULL};
    attn_var *h = embed(m, tape, rows);
    if (!h) return NULL;
    if (!m->positions) {
        if (!make_angles(&full, m, tape, &m->config.rope, rows) ||
            !make_angles(&local, m, tape, &m->config.local_rope, rows))
            return NULL;
        turn[0] = &full, turn[1] = &local;
    }
    /* Without a recording nothing of a layer is needed by the next but h: memory is that of one layer. */
    const size_t elements = rows->count * m->config.hidden_size;
    float *kept = tape->record ? NULL : attn_tape_memory(tape, elements, sizeof *kept);
    if (!tape->record && !kept) return NULL;
    for (size_t l = 0; h && l < m->config.num_layers; l++) {
        const attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
        if (rows->seen && l == rows->seen_layer) {
            rows->seen->options = attention_of(m, l);
            attend(m, tape, l, norm(m, tape, h, m->layer[l].input_norm), rows, turn[m->layer[l].sliding],
                   &rows->seen->of);
            return NULL;
        }
        h = attn_tape_keep_alone(tape, run_layer(m, tape, l, h, rows, turn[m->layer[l].sliding]), mark, kept);
    }
    return norm(m, tape, h, m->final_norm);
}

attn_var *attn_gpt_logits(const attn_gpt *m, attn_tape *tape, attn_var *states) {
    const float cap = m->config.final_softcap;
    attn_var *logits = attn_tape_linear(tape, states, m->head, NULL, NULL, ATTN_IDENTITY);
    if (cap == 0) return logits;
    logits = attn_tape_activation(tape, attn_tape_scale(tape, logits, 1 / cap), ATTN_TANH);
    return attn_tape_scale(tape, logits, cap);
}

/* ---- training: a batch's targets, without their padding --------------------------------------------- */

/* Of the states (n, C) the rows that have a target; the targets move together. */
static attn_var *with_targets(attn_tape *tape, attn_var *states, int32_t *target, size_t n) {
    int32_t *row = attn_tape_memory(tape, n, sizeof *row);
    size_t kept = 0;
    if (!row) return NULL;
    for (size_t r = 0; r < n; r++)
        if (target[r] >= 0) {
            row[kept] = (int32_t)r;
            target[kept++] = target[r];
        }
    return kept == n || kept == 0 ? states : attn_tape_select(tape, states, 0, row, kept);
}

/* Of two answers the better one: only their tokens count. */
static attn_var *preferences(const attn_gpt *m, attn_tape *tape, attn_var *states, int32_t *target,
                             const attn_gpt_rows *rows, const attn_preferences *wanted, float grad_scale,
                             attn_loss_stats *stats) {
    int32_t *cu = attn_tape_memory(tape, rows->sequences + 1, sizeof *cu);
    if (!cu) return NULL;
    cu[0] = 0;
    for (size_t s = 0; s < rows->sequences; s++) {
        cu[s + 1] = cu[s];
        for (int32_t r = rows->cu[s]; r < rows->cu[s + 1]; r++) cu[s + 1] += target[r] >= 0;
    }
    const attn_preference_rows answers = {cu, rows->sequences, wanted->reference, wanted->beta, wanted->log_prob};
    attn_var *logits = attn_gpt_logits(m, tape, with_targets(tape, states, target, rows->count));
    return attn_tape_preferences(tape, logits, target, &answers, grad_scale, stats);
}

static attn_var *loss(const attn_model *model, attn_tape *tape, const attn_pair_batch *batch, float label_smoothing,
                      float grad_scale, attn_loss_stats *stats) {
    const attn_gpt *m = (const attn_gpt *)model;
    const size_t steps = batch->target_steps, most = steps * batch->batch;
    int32_t *id = attn_tape_memory(tape, most, sizeof *id), *target = attn_tape_memory(tape, most, sizeof *target);
    int32_t *cu = attn_tape_memory(tape, most + 1, sizeof *cu);
    int64_t *position = attn_tape_memory(tape, most, sizeof *position);
    if (!id || !target || !cu || !position) return NULL;
    size_t n = 0, sequences = 0;
    for (size_t b = 0; b < batch->batch; b++) {
        const size_t length = batch->target_lengths ? (size_t)batch->target_lengths[b] : steps;
        for (size_t t = 0; t < ATTN_MIN(length, steps); t++, n++) {
            const size_t at = t * batch->batch + b;
            const bool begins =
                t == 0 || (batch->documents && batch->documents[at] != batch->documents[at - batch->batch]);
            if (begins) cu[sequences++] = (int32_t)n;
            id[n] = batch->target_in[at];
            target[n] = batch->target_out[at];
            position[n] = begins ? 0 : position[n - 1] + 1;
        }
    }
    cu[sequences] = (int32_t)n;
    const attn_gpt_rows rows = {.count = n, .id = id, .position = position, .sequences = sequences, .cu = cu};
    attn_var *all = attn_gpt_states(m, tape, &rows);
    if (batch->preferences) return preferences(m, tape, all, target, &rows, batch->preferences, grad_scale, stats);
    attn_var *logits = attn_gpt_logits(m, tape, with_targets(tape, all, target, n));
    return attn_tape_cross_entropy(tape, logits, target, label_smoothing, grad_scale, stats);
}

static attn_status look_at_text(const attn_model *model, attn_tape *tape, attn_seen *seen, const attn_look *look,
                                const int32_t *ids, const int32_t *types, size_t n) {
    const attn_gpt *m = (const attn_gpt *)model;
    const int32_t cu[2] = {0, (int32_t)n};
    if (types) return attn_fail(model->ctx, ATTN_E_ARGUMENT, "a %s model has no token types", model->class->type);
    int64_t *position = attn_tape_memory(tape, n, sizeof *position);
    if (!position) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) position[i] = (int64_t)i;
    *seen = (attn_seen){0};
    const attn_gpt_rows rows = {
        .count = n, .id = ids, .position = position, .sequences = 1, .cu = cu, .seen = seen, .seen_layer = look->layer};
    attn_gpt_states(m, tape, &rows);
    return attn_tape_status(tape);
}

/* ---- parameters ---------------------------------------------------------------------------------- */

typedef struct builder {
    attn_builder all;
    attn_gpt *m;
    size_t layer;
} builder;

static attn_gpt_linear add_linear(builder *b, const char *name, size_t out, size_t in, bool bias, float scale) {
    char full[96];
    attn_gpt_linear l = {0};
    snprintf(full, sizeof full, "layers.%zu.%s.weight", b->layer, name);
    l.w = attn_builder_add(&b->all, full, ATTN_INIT_NORMAL, scale, out, in);
    snprintf(full, sizeof full, "layers.%zu.%s.bias", b->layer, name);
    if (bias) l.b = attn_builder_add(&b->all, full, ATTN_INIT_ZERO, 0, out, 0);
    return l;
}

static attn_gpt_linear add_norm(builder *b, const char *name, size_t size, bool bias) {
    char full[96];
    attn_gpt_linear n = {0};
    snprintf(full, sizeof full, "layers.%zu.%s.weight", b->layer, name);
    n.w = attn_builder_add(&b->all, full, ATTN_INIT_ONE, 0, size, 0);
    snprintf(full, sizeof full, "layers.%zu.%s.bias", b->layer, name);
    if (bias) n.b = attn_builder_add(&b->all, full, ATTN_INIT_ZERO, 0, size, 0);
    return n;
}

/* Queries, keys and values come one after the other, weights and biases apart: GPT-2 stores them as one. */
static void add_projections(builder *b, attn_gpt_layer *layer, bool bias) {
    const attn_gpt_config *c = &b->m->config;
    const size_t keys = c->key_heads * c->head_size;
    attn_gpt_linear *const all[] = {&layer->query, &layer->key, &layer->value};
    static const char *const names[] = {"query", "key", "value"};
    char full[96];
    for (size_t i = 0; i < 3; i++) {
        snprintf(full, sizeof full, "layers.%zu.%s.weight", b->layer, names[i]);
        all[i]->w = attn_builder_add(&b->all, full, ATTN_INIT_NORMAL, c->init_range, i ? keys : c->heads * c->head_size,
                                     c->hidden_size);
    }
    for (size_t i = 0; bias && i < 3; i++) {
        snprintf(full, sizeof full, "layers.%zu.%s.bias", b->layer, names[i]);
        all[i]->b = attn_builder_add(&b->all, full, ATTN_INIT_ZERO, 0, i ? keys : c->heads * c->head_size, 0);
    }
}

static void add_layer(builder *b) {
    attn_gpt *m = b->m;
    const attn_gpt_config *c = &m->config;
    const attn_gpt_family *f = m->family;
    attn_gpt_layer *layer = &m->layer[b->layer];
    /* What is added to h is the smaller the more layers add to it (Radford et al. 2019). */
    const float scale = c->init_range, last = f->layer_norm ? scale / sqrtf(2 * (float)c->num_layers) : scale;
    const bool bias = f->layer_norm;
    layer->input_norm = add_norm(b, "input_norm", c->hidden_size, bias);
    add_projections(b, layer, bias || f->query_bias || c->attention_bias);
    if (f->head_norms) layer->query_norm = add_norm(b, "query_norm", c->head_size, false).w;
    if (f->head_norms) layer->key_norm = add_norm(b, "key_norm", c->head_size, false).w;
    layer->out = add_linear(b, "out", c->hidden_size, c->heads * c->head_size, bias || c->attention_bias, last);
    if (f->outer_norms) layer->attention_out_norm = add_norm(b, "attention_out_norm", c->hidden_size, false).w;
    layer->mlp_norm = add_norm(b, "mlp_norm", c->hidden_size, bias);
    if (!f->layer_norm) layer->gate = add_linear(b, "gate", c->inner_size, c->hidden_size, c->mlp_bias, scale);
    layer->up = add_linear(b, "up", c->inner_size, c->hidden_size, bias || c->mlp_bias, scale);
    layer->down = add_linear(b, "down", c->hidden_size, c->inner_size, bias || c->mlp_bias, last);
    if (f->outer_norms) layer->mlp_out_norm = add_norm(b, "mlp_out_norm", c->hidden_size, false).w;
}

static attn_status add_parameters(attn_model *model) {
    attn_gpt *m = (attn_gpt *)model;
    const attn_gpt_config *c = &m->config;
    builder b = {{model, ATTN_OK}, m, 0};
    m->tokens =
        attn_builder_add(&b.all, "tokens.weight", ATTN_INIT_NORMAL, c->init_range, c->vocab_size, c->hidden_size);
    if (m->family->layer_norm)
        m->positions =
            attn_builder_add(&b.all, "positions.weight", ATTN_INIT_NORMAL, c->init_range, c->context, c->hidden_size);
    for (; b.layer < c->num_layers && b.all.status == ATTN_OK; b.layer++) add_layer(&b);
    m->final_norm.w = attn_builder_add(&b.all, "final_norm.weight", ATTN_INIT_ONE, 0, c->hidden_size, 0);
    if (m->family->layer_norm)
        m->final_norm.b = attn_builder_add(&b.all, "final_norm.bias", ATTN_INIT_ZERO, 0, c->hidden_size, 0);
    m->head =
        m->labels ? attn_builder_add(&b.all, "head.weight", ATTN_INIT_NORMAL, c->init_range, m->labels, c->hidden_size)
        : c->tie
            ? m->tokens
            : attn_builder_add(&b.all, "head.weight", ATTN_INIT_NORMAL, c->init_range, c->vocab_size, c->hidden_size);
    return b.all.status;
}

static void clear(attn_model *model) {
    attn_gpt *m = (attn_gpt *)model;
    for (size_t i = 0; m->label && i < m->labels; i++) attn_release(model->ctx, m->label[i]);
    attn_release(model->ctx, m->label);
    attn_release(model->ctx, m->layer);
}

#define CLASS(name, type_name)                   \
    const attn_model_class attn_class_##name = { \
        .type = type_name,                       \
        .bytes = sizeof(attn_gpt),               \
        .configure = attn_gpt_configure,         \
        .add_parameters = add_parameters,        \
        .clear = clear,                          \
        .loss = loss,                            \
        .look_at_text = look_at_text,            \
        .recognise = attn_gpt_recognise,         \
        .stored_form = attn_gpt_stored_form,     \
        .ignores = attn_gpt_ignores,             \
    };
ATTN_GPT_LIST(CLASS)

const attn_gpt *attn_gpt_of(const attn_model *model) {
    const attn_gpt *m = (const attn_gpt *)model;
    if (model->class->loss != loss)
        attn_fail(model->ctx, ATTN_E_ARGUMENT, "a %s model is no language model", model->class->type);
    else if (m->labels)
        attn_fail(model->ctx, ATTN_E_ARGUMENT, "this %s model classifies texts: it does not say how they go on",
                  model->class->type);
    else return m;
    return NULL;
}

size_t attn_model_labels(const attn_model *model) {
    return model->class->loss == loss ? ((const attn_gpt *)model)->labels : 0;
}

const char *attn_model_label(const attn_model *model, size_t index) {
    return index < attn_model_labels(model) ? ((const attn_gpt *)model)->label[index] : NULL;
}

int32_t attn_model_end_id(const attn_model *model) {
    const attn_gpt *m = (const attn_gpt *)model;
    return model->class->loss == loss && m->config.end_count ? m->config.ends[0] : -1;
}
