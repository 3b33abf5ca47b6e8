/* rnn_translator.c: the recurrent translators, one file, one switch.
 *
 *   rnn        Cho et al. 2014, "Learning Phrase Representations using RNN Encoder-Decoder"
 *   bahdanau   Bahdanau, Cho & Bengio 2015, "Neural Machine Translation by Jointly Learning to Align and Translate"
 *
 * Source x_1 … x_S, target y_1 … y_T, everything time-major.
 *   annotations   h_j = [forward_j ; backward_j], a bidirectional GRU over the source            (S, B, 2H)
 *   first state   s_0 = tanh(W_s backward_1)                                                     (B, H)
 *   context       bahdanau: c_i = Σ_j α_ij h_j, the expected annotation                          (B, 2H)
 *                 rnn:      c   = [forward_S ; backward_1], one fixed vector for every step
 *   state         s_i = GRU(s_{i−1}, [E y_{i−1} ; c_i])                                          (B, H)
 *   output        p(y_i) = softmax(W_o t_i), t_i = tanh(U_o s_i + C_o c_i + V_o E y_{i−1})       (B, V)
 *
 * Luong's scores (Luong, Pham & Manning 2015) read the new state s_i instead of s_{i−1}; then the context enters the
 * output alone, and with input feeding (t_{i−1} beside E y_{i−1}) the next step's input.
 *
 * With conditional_gru (Sennrich et al. 2017, "Nematus: a Toolkit for Neural Machine Translation") the decoder reads
 * y_{i−1} before it attends, so that the alignment depends on the word just written:
 *   proposal      s'_i = GRU₁(s_{i−1}, E y_{i−1})                                                (B, H)
 *   context       e_ij, α_ij and c_i from s'_i in place of s_{i−1}, by any score                 (B, 2H)
 *   state         s_i = GRU₂(s'_i, c_i)                                                          (B, H)
 *
 * With num_layers > 1 the encoder's layers read the annotations below, the decoder's GRUs the state below, every
 * decoder layer starts from a tanh(W_s backward_1) of its own, and attention and output see the top state; but s' and s
 * of the conditional GRU are the first layer's, and so is what its attention sees.
 *
 * What differs from the papers:
 *   - the output reads s_i; 2015 reads s_{i−1}. It is tanh by default, 2015's maxout is a choice;
 *   - rnn's encoder is bidirectional, and c is both its ends; 2014's goes forward alone, c from its last state;
 *   - z keeps the old state, h' = (1 − z) ∘ n + z ∘ h, as in 2014 and PyTorch; 2015 writes the opposite;
 *   - r acts on U_n h + c_n by default (PyTorch, cuDNN); the papers' r ∘ h is reset_after false;
 *   - all linear maps but those that are added to another one have a bias, the GRUs two; the papers
 *     do not write them;
 *   - one embedding for source, target and output by default, and dropout. */
#include "model/model.h"

#include <math.h>
#include <stdio.h>

enum { SCORE_ADDITIVE, SCORE_DOT, SCORE_GENERAL, SCORE_CONCAT };
enum { READOUT_TANH, READOUT_MAXOUT };
enum { MAX_LAYERS = 4 };

static const char *const score_names[] = {"additive", "dot", "general", "concat", NULL};
static const char *const readout_names[] = {"tanh", "maxout", NULL};

typedef struct config {
    size_t vocab_size, embedding_size, hidden_size, attention_size, num_layers;
    int score, readout;
    bool conditional_gru, input_feeding, tie_embeddings, reset_after;
    float embedding_dropout, annotation_dropout, output_dropout;
} config;

#define FIELD(key, kind, ...) \
    { #key, ATTN_FIELD_##kind, offsetof(config, key), __VA_ARGS__, NULL }
#define FIELD_OF(type, key, kind, ...) \
    { #key, ATTN_FIELD_##kind, offsetof(config, key), __VA_ARGS__, type }
static const attn_field fields[] = {
    FIELD(vocab_size, SIZE, 0, 5, 1 << 24, NULL),
    FIELD(embedding_size, SIZE, 256, 1, 1 << 16, NULL),
    FIELD(hidden_size, SIZE, 512, 1, 1 << 16, NULL),
    FIELD_OF("bahdanau", attention_size, SIZE, 512, 1, 1 << 16, NULL),
    FIELD(num_layers, SIZE, 1, 1, MAX_LAYERS, NULL),
    FIELD_OF("bahdanau", score, CHOICE, SCORE_ADDITIVE, 0, 0, score_names),
    FIELD_OF("bahdanau", conditional_gru, BOOL, 0, 0, 0, NULL),
    FIELD(readout, CHOICE, READOUT_TANH, 0, 0, readout_names),
    FIELD(input_feeding, BOOL, 0, 0, 0, NULL),
    FIELD(tie_embeddings, BOOL, 1, 0, 0, NULL),
    FIELD(reset_after, BOOL, 1, 0, 0, NULL),
    FIELD(embedding_dropout, FLOAT, 0.3, 0, 0.95, NULL),
    FIELD(annotation_dropout, FLOAT, 0.3, 0, 0.95, NULL),
    FIELD(output_dropout, FLOAT, 0.5, 0, 0.95, NULL),
};

typedef struct linear {
    attn_parameter *w, *b;
} linear;

typedef struct translator {
    attn_model base;
    config config;
    bool attends; /* bahdanau; false: rnn */
    attn_parameter *source_embedding, *target_embedding;
    attn_gru_weights forward[MAX_LAYERS], backward[MAX_LAYERS];
    linear first_state[MAX_LAYERS];                /* W_s */
    linear attention_query, attention_key;         /* W_a, U_a */
    attn_parameter *attention_v;                   /* v_a */
    linear gates_y;                                /* W: the input's part of the first GRU */
    linear gates_c;                                /* C: the context's part; with a bias it is GRU₂'s input */
    attn_parameter *gates_feed;                    /* the fed-back readout's part */
    attn_parameter *conditional_u, *conditional_c; /* GRU₂'s recurrent part */
    linear gates_above[MAX_LAYERS];                /* the layers above the first */
    attn_parameter *recurrent_u[MAX_LAYERS], *recurrent_c[MAX_LAYERS];
    linear readout_y;                      /* V_o */
    attn_parameter *readout_c, *readout_s; /* C_o, U_o */
    linear output;                         /* W_o */
} translator;

/* When a step attends: from s_{i−1}, from s'_i, from s_i, or never. */
typedef enum moment { BEFORE_STATE, WITHIN_STATE, AFTER_STATE, NEVER } moment;

static moment attention_moment(const translator *m) {
    if (!m->attends) return NEVER;
    if (m->config.conditional_gru) return WITHIN_STATE;
    return m->config.score == SCORE_ADDITIVE ? BEFORE_STATE : AFTER_STATE;
}

/* ---- the equations ------------------------------------------------------------------------------ */

/* A source sentence as the decoder sees it. */
typedef struct source {
    attn_var *annotations; /* bahdanau: h (S, B, 2H) */
    attn_var *keys;        /* bahdanau: U h (S, B, A), computed once a sentence */
    attn_var *context;     /* rnn: [forward_S ; backward_1] */
    const int32_t *lengths;
} source;

/* The decoder between two steps. */
typedef struct state {
    attn_var *s[MAX_LAYERS]; /* (B, H) */
    attn_var *feed;          /* the last readout t (B, E), with input feeding */
} state;

static attn_var *embed(const translator *m, attn_tape *tape, attn_parameter *table, const int32_t *ids, size_t steps,
                       size_t batch) {
    attn_var *e = attn_tape_embedding(tape, table, ids, 2, (size_t[]){steps, batch});
    return attn_tape_dropout(tape, e, m->config.embedding_dropout);
}

/* Annotations of the source and the decoder's first state. */
static void encode_source(const translator *m, attn_tape *tape, source *src, state *first, const int32_t *ids,
                          const int32_t *lengths, size_t steps, size_t batch) {
    attn_var *x = embed(m, tape, m->source_embedding, ids, steps, batch), *forward = NULL, *backward = NULL;
    for (size_t l = 0; l < m->config.num_layers; l++) {
        forward = attn_tape_gru(tape, x, &m->forward[l], NULL, lengths, false, m->config.reset_after);
        backward = attn_tape_gru(tape, x, &m->backward[l], NULL, lengths, true, m->config.reset_after);
        x = attn_tape_concat(tape, (attn_var *[]){forward, backward}, 2);
        x = attn_tape_dropout(tape, x, m->config.annotation_dropout);
    }
    attn_var *backward_1 = attn_tape_row(tape, backward, 0);
    for (size_t l = 0; l < m->config.num_layers; l++)
        first->s[l] = attn_tape_linear(tape, backward_1, m->first_state[l].w, m->first_state[l].b, NULL, ATTN_TANH);

    *src = (source){.lengths = lengths};
    if (!m->attends) {
        attn_var *forward_S = attn_tape_last(tape, forward, lengths);
        src->context = attn_tape_concat(tape, (attn_var *[]){forward_S, backward_1}, 2);
        src->context = attn_tape_dropout(tape, src->context, m->config.annotation_dropout);
        return;
    }
    src->annotations = x;
    if (m->config.score == SCORE_DOT) {
        size_t h = m->config.hidden_size;
        src->keys = attn_tape_add(tape, attn_tape_slice(tape, x, 0, h), attn_tape_slice(tape, x, h, h));
    } else {
        src->keys = attn_tape_linear(tape, x, m->attention_key.w, NULL, NULL, ATTN_IDENTITY);
    }
}

/* Soft alignment α_i and expected annotation c_i for a decoder state. */
static attn_var *attend(const translator *m, attn_tape *tape, const source *src, attn_var *s, attn_step_view *view) {
    attn_var **alignment = view ? &view->alignment : NULL, **energy = view ? &view->energy : NULL;
    if (m->config.score == SCORE_DOT || m->config.score == SCORE_GENERAL)
        return attn_tape_dot_attention(tape, s, src->keys, src->annotations, 1.0f, src->lengths, alignment, energy);
    attn_var *query = attn_tape_linear(tape, s, m->attention_query.w, m->attention_query.b, NULL, ATTN_IDENTITY);
    return attn_tape_additive_attention(tape, query, src->keys, m->attention_v, src->annotations, src->lengths,
                                        alignment, energy);
}

/* t_i from y_{i−1}, c_i and s_i, for one step or for all at once. */
static attn_var *read_out(const translator *m, attn_tape *tape, attn_var *y, attn_var *c, attn_var *s) {
    bool maxout = m->config.readout == READOUT_MAXOUT;
    attn_var *t = attn_tape_linear(tape, y, m->readout_y.w, m->readout_y.b, NULL, ATTN_IDENTITY);
    t = attn_tape_linear(tape, c, m->readout_c, NULL, t, ATTN_IDENTITY);
    t = attn_tape_linear(tape, s, m->readout_s, NULL, t, maxout ? ATTN_IDENTITY : ATTN_TANH);
    return maxout ? attn_tape_maxout(tape, t) : t;
}

static attn_var *predict(const translator *m, attn_tape *tape, attn_var *t) {
    t = attn_tape_dropout(tape, t, m->config.output_dropout);
    return attn_tape_linear(tape, t, m->output.w, m->output.b, NULL, ATTN_IDENTITY);
}

/* One step of the decoder. gates_y = W y_{i−1} + b. Gives c_i; the state moves from s_{i−1} to s_i. */
static attn_var *decoder_step(const translator *m, attn_tape *tape, const source *src, state *st, attn_var *gates_y,
                              attn_step_view *view) {
    size_t top = m->config.num_layers - 1;
    moment when = attention_moment(m);
    attn_var *gates = gates_y, *c = src->context;
    if (when == BEFORE_STATE) c = attend(m, tape, src, st->s[top], view);
    if (when == BEFORE_STATE || when == NEVER)
        gates = attn_tape_linear(tape, c, m->gates_c.w, NULL, gates, ATTN_IDENTITY);
    if (m->config.input_feeding) gates = attn_tape_linear(tape, st->feed, m->gates_feed, NULL, gates, ATTN_IDENTITY);
    for (size_t l = 0; l <= top; l++) {
        if (l > 0)
            gates = attn_tape_linear(tape, st->s[l - 1], m->gates_above[l].w, m->gates_above[l].b, NULL, ATTN_IDENTITY);
        st->s[l] =
            attn_tape_gru_cell(tape, gates, st->s[l], m->recurrent_u[l], m->recurrent_c[l], m->config.reset_after);
        if (l > 0 || when != WITHIN_STATE) continue;
        c = attend(m, tape, src, st->s[0], view);
        gates = attn_tape_linear(tape, c, m->gates_c.w, m->gates_c.b, NULL, ATTN_IDENTITY);
        st->s[0] = attn_tape_gru_cell(tape, gates, st->s[0], m->conditional_u, m->conditional_c, m->config.reset_after);
    }
    if (when == AFTER_STATE) c = attend(m, tape, src, st->s[top], view);
    if (view) {
        view->context = c;
        view->state = st->s[top];
    }
    return c;
}

/* ---- training: all steps, the output layer once for all ------------------------------------------- */

static attn_var *zero_feed(const translator *m, attn_tape *tape, int rank, size_t beams, size_t batch) {
    size_t e = m->config.embedding_size;
    return rank == 3 ? attn_tape_zeros(tape, 3, (size_t[]){beams, batch, e})
                     : attn_tape_zeros(tape, 2, (size_t[]){batch, e});
}

static attn_var *loss(const attn_model *model, attn_tape *tape, const attn_pair_batch *batch, float label_smoothing,
                      float grad_scale, attn_loss_stats *stats) {
    const translator *m = (const translator *)model;
    size_t steps = batch->target_steps, top = m->config.num_layers - 1;
    if (batch->links && batch->guided_alignment > 0)
        return attn_tape_fail(tape, ATTN_E_UNSUPPORTED, "%s: guided alignment is for the transformer",
                              model->class->type);
    attn_var **rows = attn_alloc(model->ctx, steps, 3 * sizeof *rows);
    if (!rows) return attn_tape_fail(tape, ATTN_E_NOMEM, "out of memory for %zu target steps", steps);
    attn_var **states = rows, **contexts = rows + steps, **readouts = rows + 2 * steps;

    source src;
    state st = {0};
    encode_source(m, tape, &src, &st, batch->source, batch->source_lengths, batch->source_steps, batch->batch);
    attn_var *y = embed(m, tape, m->target_embedding, batch->target_in, steps, batch->batch);
    attn_var *gates_y = attn_tape_linear(tape, y, m->gates_y.w, m->gates_y.b, NULL, ATTN_IDENTITY);
    if (m->config.input_feeding) st.feed = zero_feed(m, tape, 2, 1, batch->batch);
    for (size_t i = 0; i < steps; i++) {
        contexts[i] = decoder_step(m, tape, &src, &st, attn_tape_row(tape, gates_y, i), NULL);
        states[i] = st.s[top];
        if (m->config.input_feeding)
            readouts[i] = st.feed = read_out(m, tape, attn_tape_row(tape, y, i), contexts[i], states[i]);
    }
    attn_var *t = m->config.input_feeding ? attn_tape_stack(tape, readouts, steps)
                                          : read_out(m, tape, y, attn_tape_stack(tape, contexts, steps),
                                                     attn_tape_stack(tape, states, steps));
    attn_var *logits = predict(m, tape, t);
    attn_release(model->ctx, rows);
    return attn_tape_cross_entropy(tape, logits, batch->target_out, label_smoothing, grad_scale, stats);
}

/* ---- decoding: the same equations, a step at a time, K beams ---------------------------------------- */

static attn_var *for_beams(attn_tape *tape, attn_var *x, size_t beams) {
    attn_var *copies[ATTN_MAX_BEAM];
    if (beams > ATTN_COUNT(copies))
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "beam_size is %zu, at most %zu is possible", beams,
                              ATTN_COUNT(copies));
    for (size_t k = 0; k < beams; k++) copies[k] = x;
    return attn_tape_stack(tape, copies, beams);
}

static void encode(const attn_model *model, attn_tape *tape, attn_decoder *decoder, const int32_t *ids, size_t steps) {
    const translator *m = (const translator *)model;
    source src;
    state st = {0};
    encode_source(m, tape, &src, &st, ids, decoder->source_lengths, steps, decoder->batch);
    size_t n = 0;
    if (m->attends) {
        decoder->part[n++] = src.annotations;
        decoder->part[n++] = src.keys;
    } else {
        decoder->part[n++] = for_beams(tape, src.context, 1);
    }
    decoder->fixed = n;
    for (size_t l = 0; l < m->config.num_layers; l++) decoder->part[n++] = for_beams(tape, st.s[l], decoder->beams);
    if (m->config.input_feeding) decoder->part[n++] = zero_feed(m, tape, 3, decoder->beams, decoder->batch);
    decoder->count = n;
}

static attn_var *step(const attn_model *model, attn_tape *tape, attn_decoder *decoder, const int32_t *ids,
                      attn_step_view *view) {
    const translator *m = (const translator *)model;
    attn_var **part = decoder->part + decoder->fixed;
    size_t layers = m->config.num_layers;
    source src = {.lengths = decoder->source_lengths};
    if (m->attends) {
        src.annotations = decoder->part[0];
        src.keys = decoder->part[1];
    } else {
        src.context = for_beams(tape, attn_tape_row(tape, decoder->part[0], 0), decoder->beams);
    }
    state st = {.feed = m->config.input_feeding ? part[layers] : NULL};
    for (size_t l = 0; l < layers; l++) st.s[l] = part[l];

    attn_var *y = embed(m, tape, m->target_embedding, ids, decoder->beams, decoder->batch);
    attn_var *gates_y = attn_tape_linear(tape, y, m->gates_y.w, m->gates_y.b, NULL, ATTN_IDENTITY);
    attn_var *c = decoder_step(m, tape, &src, &st, gates_y, view);
    attn_var *t = read_out(m, tape, y, c, st.s[layers - 1]);
    for (size_t l = 0; l < layers; l++) part[l] = st.s[l];
    if (m->config.input_feeding) part[layers] = t;
    return predict(m, tape, t);
}

/* ---- parameters ---------------------------------------------------------------------------------- */

static linear add_linear(attn_builder *b, const char *name, size_t out, size_t in, bool bias) {
    char full[96];
    linear l = {NULL, NULL};
    snprintf(full, sizeof full, "%s.weight", name);
    l.w = attn_builder_add(b, full, ATTN_INIT_XAVIER, 1, out, in);
    if (!bias) return l;
    snprintf(full, sizeof full, "%s.bias", name);
    l.b = attn_builder_add(b, full, ATTN_INIT_ZERO, 0, out, 0);
    return l;
}

static attn_gru_weights add_gru(attn_builder *b, const char *name, size_t hidden, size_t in) {
    char full[96];
    attn_gru_weights g;
    snprintf(full, sizeof full, "%s.weight_input", name);
    g.w = attn_builder_add(b, full, ATTN_INIT_XAVIER, 1, 3 * hidden, in);
    snprintf(full, sizeof full, "%s.weight_recurrent", name);
    g.u = attn_builder_add(b, full, ATTN_INIT_ORTHOGONAL, 1, 3 * hidden, hidden);
    snprintf(full, sizeof full, "%s.bias_input", name);
    g.b = attn_builder_add(b, full, ATTN_INIT_ZERO, 0, 3 * hidden, 0);
    snprintf(full, sizeof full, "%s.bias_recurrent", name);
    g.c = attn_builder_add(b, full, ATTN_INIT_ZERO, 0, 3 * hidden, 0);
    return g;
}

static void add_embeddings(translator *m, attn_builder *b) {
    const config *c = &m->config;
    float scale = 1.0f / sqrtf((float)c->embedding_size);
    if (c->tie_embeddings) {
        m->source_embedding = m->target_embedding = m->output.w =
            attn_builder_add(b, "embedding.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->embedding_size);
    } else {
        m->source_embedding =
            attn_builder_add(b, "encoder.embedding.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->embedding_size);
        m->target_embedding =
            attn_builder_add(b, "decoder.embedding.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->embedding_size);
        m->output.w = attn_builder_add(b, "output.weight", ATTN_INIT_NORMAL, scale, c->vocab_size, c->embedding_size);
    }
    m->output.b = attn_builder_add(b, "output.bias", ATTN_INIT_ZERO, 0, c->vocab_size, 0);
}

static void add_attention(translator *m, attn_builder *b) {
    const config *c = &m->config;
    size_t h = c->hidden_size;
    if (c->score == SCORE_ADDITIVE || c->score == SCORE_CONCAT) {
        m->attention_query = add_linear(b, "attention.query", c->attention_size, h, true);
        m->attention_key = add_linear(b, "attention.key", c->attention_size, 2 * h, false);
        m->attention_v = attn_builder_add(b, "attention.v", ATTN_INIT_UNIFORM,
                                          sqrtf(6.0f / (float)(c->attention_size + 1)), c->attention_size, 0);
    } else if (c->score == SCORE_GENERAL) {
        m->attention_key = add_linear(b, "attention.key", h, 2 * h, false);
    }
}

static attn_status add_parameters(attn_model *model) {
    translator *m = (translator *)model;
    const config *c = &m->config;
    attn_builder b = {model, ATTN_OK};
    size_t e = c->embedding_size, h = c->hidden_size, out = c->readout == READOUT_MAXOUT ? 2 * e : e;
    moment when = attention_moment(m);
    char name[64];
    add_embeddings(m, &b);
    for (size_t l = 0; l < c->num_layers; l++) {
        snprintf(name, sizeof name, "encoder.%zu.forward", l);
        m->forward[l] = add_gru(&b, name, h, l ? 2 * h : e);
        snprintf(name, sizeof name, "encoder.%zu.backward", l);
        m->backward[l] = add_gru(&b, name, h, l ? 2 * h : e);
        snprintf(name, sizeof name, "decoder.%zu.first_state", l);
        m->first_state[l] = add_linear(&b, name, h, h, true);
        snprintf(name, sizeof name, "decoder.%zu.weight_recurrent", l);
        m->recurrent_u[l] = attn_builder_add(&b, name, ATTN_INIT_ORTHOGONAL, 1, 3 * h, h);
        snprintf(name, sizeof name, "decoder.%zu.bias_recurrent", l);
        m->recurrent_c[l] = attn_builder_add(&b, name, ATTN_INIT_ZERO, 0, 3 * h, 0);
        snprintf(name, sizeof name, "decoder.%zu.input", l);
        if (l > 0) m->gates_above[l] = add_linear(&b, name, 3 * h, h, true);
        else m->gates_y = add_linear(&b, name, 3 * h, e, true);
    }
    if (when != AFTER_STATE) m->gates_c = add_linear(&b, "decoder.0.context", 3 * h, 2 * h, when == WITHIN_STATE);
    if (when == WITHIN_STATE) {
        m->conditional_u =
            attn_builder_add(&b, "decoder.0.conditional.weight_recurrent", ATTN_INIT_ORTHOGONAL, 1, 3 * h, h);
        m->conditional_c = attn_builder_add(&b, "decoder.0.conditional.bias_recurrent", ATTN_INIT_ZERO, 0, 3 * h, 0);
    }
    if (c->input_feeding) m->gates_feed = attn_builder_add(&b, "decoder.0.feed.weight", ATTN_INIT_XAVIER, 1, 3 * h, e);
    if (m->attends) add_attention(m, &b);
    m->readout_y = add_linear(&b, "readout.input", out, e, true);
    m->readout_c = attn_builder_add(&b, "readout.context.weight", ATTN_INIT_XAVIER, 1, out, 2 * h);
    m->readout_s = attn_builder_add(&b, "readout.state.weight", ATTN_INIT_XAVIER, 1, out, h);
    return b.status;
}

static attn_status configure(attn_model *model, const char *config_json) {
    translator *m = (translator *)model;
    m->attends = model->class == &attn_class_bahdanau;
    const char *type = model->class->type;
    ATTN_TRY(attn_config_read(model->ctx, &m->config, type, fields, ATTN_COUNT(fields), config_json));
    ATTN_TRY(attn_config_write(model->ctx, &model->config, type, &m->config, fields, ATTN_COUNT(fields)));
    model->vocab_size = m->config.vocab_size;
    return ATTN_OK;
}

#define CLASS(name, attends)                                                                                 \
    {                                                                                                        \
        .type = name, .bytes = sizeof(translator), .configure = configure, .add_parameters = add_parameters, \
        .loss = loss, .encode = encode, .step = step, .source_by_position = attends                          \
    }
const attn_model_class attn_class_rnn = CLASS("rnn", false), attn_class_bahdanau = CLASS("bahdanau", true);
