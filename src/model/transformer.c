/* transformer.c: the encoder-decoder of Vaswani et al. 2017, "Attention Is All You Need".
 *
 * Source x_1 … x_S, target y_1 … y_T, rows of d = model_size:
 *   embedding    e_i = √d E x_i + p_i, p sinusoidal or learned
 *   attention    MHA(Q, K, V) = [head_1 … head_H] W_o, head_h = softmax(Q_h K_hᵀ / √D) V_h, D = d / H
 *   encoder      h ← h + MHA(h, h, h);  h ← h + FFN(h)                                     N times   (S, d)
 *   decoder      g ← g + MHA(g, g, g), causal;  g ← g + MHA(g, h, h);  g ← g + FFN(g)      M times   (T, d)
 *   feed-forward FFN(h) = W_2 act(W_1 h + b_1) + b_2,  or  W_2 (silu(W_g h + b_g) ∘ (W_1 h + b_1)) + b_2   ("swiglu",
 *                Shazeer 2020)
 *   output       p(y_i) = softmax(E g_i)
 * A layer norm reads what enters each of the sums (norm "pre", and one more follows the last layer; Xiong et al. 2020)
 * or what leaves it (norm "post", the paper's). In training every term that is added is dropped out, and so are the
 * embeddings, the attention weights and the inner layer of the FFN.
 *
 * Training works on packed rows, sentence after sentence without padding. Decoding works on (B, K, ·), K beams a
 * sentence; the keys and values of the past are carried as the state.
 *
 * What is seen of a step is the cross-attention of alignment_layer: one head's, or the mean of all. The step that
 * writes y_i does not know it yet; with alignment_follows the alignment of y_i is what the next step sees, which reads
 * y_i (Chen, Liu, Chen, Sun & Liu 2020, "Accurate Word Alignment Induction from Neural Machine Translation").
 *
 * What differs from the paper: sines come first, then cosines, not in turns; with norm "pre" frequencies and the first
 * position, 2, are those of fairseq; decoding starts from </s>. So a model is M2M100's ("pre") or Marian's ("post"). */
#include "model/transformer.h"
#include "nn/tape.h"

#include <math.h>
#include <string.h>

typedef attn_transformer translator;

/* ---- the equations ------------------------------------------------------------------------------ */

/* Rows of a batch: packed, ΣT of them, options.cu_q says where each sentence begins; or padded, (B, T). */
typedef struct sequences {
    const int32_t *ids, *positions; /* of every row; positions from 0 */
    int rank;
    size_t shape[2];
    size_t longest;
    attn_attention_options options; /* for attention of the sentences to themselves */
} sequences;

static attn_var *linear_of(attn_tape *tape, attn_var *x, const attn_transformer_linear *l) {
    return attn_tape_linear(tape, x, l->w, l->b, NULL, ATTN_IDENTITY);
}

static attn_var *norm_of(attn_tape *tape, attn_var *x, const attn_transformer_norm *n) {
    return attn_tape_layer_norm(tape, x, n->gain, n->bias, 1e-5f);
}

/* What a block reads of h: with norm "pre" its norm. */
static attn_var *enter(const translator *m, attn_tape *tape, attn_var *h, const attn_transformer_norm *n) {
    return m->config.norm == ATTN_NORM_PRE ? norm_of(tape, h, n) : h;
}

/* h + dropout(f); with norm "post" its norm. */
static attn_var *leave(const translator *m, attn_tape *tape, attn_var *h, attn_var *f, const attn_transformer_norm *n) {
    h = attn_tape_add(tape, h, attn_tape_dropout(tape, f, m->config.dropout));
    return m->config.norm == ATTN_NORM_POST ? norm_of(tape, h, n) : h;
}

static attn_var *feed_forward(const translator *m, attn_tape *tape, attn_var *h,
                              const attn_transformer_feed_forward *block) {
    attn_var *x = enter(m, tape, h, &block->norm);
    const attn_activation act = attn_transformer_activation(&m->config);
    if (block->gate.w) x = attn_tape_gate(tape, linear_of(tape, x, &block->gate), linear_of(tape, x, &block->in), act);
    else x = attn_tape_linear(tape, x, block->in.w, block->in.b, NULL, act);
    x = attn_tape_dropout(tape, x, m->config.activation_dropout);
    return leave(m, tape, h, linear_of(tape, x, &block->out), &block->norm);
}

static attn_var *attend(const translator *m, attn_tape *tape, attn_var *q, attn_keys_values kv,
                        const attn_attention_options *options, attn_var **lse) {
    attn_attention_options all = *options;
    all.dropout = m->config.attention_dropout;
    return attn_tape_attention(tape, &(attn_attention_inputs){.q = q, .k = kv.k, .v = kv.v, .heads = m->config.heads},
                               &all, lse);
}

static attn_keys_values keys_values(attn_tape *tape, attn_var *x, const attn_transformer_attention *block) {
    attn_var *k = linear_of(tape, x, &block->key);
    return (attn_keys_values){k, linear_of(tape, x, &block->value)};
}

/* h + MHA(h, h, h). */
static attn_var *self_attention(const translator *m, attn_tape *tape, attn_var *h,
                                const attn_transformer_attention *block, const attn_attention_options *options) {
    attn_var *x = enter(m, tape, h, &block->norm), *q = linear_of(tape, x, &block->query);
    attn_var *z = attend(m, tape, q, keys_values(tape, x, block), options, NULL);
    return leave(m, tape, h, linear_of(tape, z, &block->out), &block->norm);
}

/* h + MHA(h, source, source); *q is left for a look at the weights. */
static attn_var *cross_attention(const translator *m, attn_tape *tape, attn_var *h, attn_keys_values source,
                                 const attn_transformer_attention *block, const attn_attention_options *options,
                                 attn_var **q) {
    *q = linear_of(tape, enter(m, tape, h, &block->norm), &block->query);
    attn_var *z = attend(m, tape, *q, source, options, NULL);
    return leave(m, tape, h, linear_of(tape, z, &block->out), &block->norm);
}

/* The sines and cosines of one position (d). */
static void sinusoid(const translator *m, float *out, size_t position) {
    const size_t half = m->config.model_size / 2;
    const bool pre = m->config.norm == ATTN_NORM_PRE;
    const double at = (double)(position + (pre ? 2 : 0)), top = log(10000.0);
    const double step = pre ? top / (double)(half > 1 ? half - 1 : 1) : 2 * top / (double)m->config.model_size;
    for (size_t i = 0; i < half; i++) {
        const double angle = at * exp(-step * (double)i);
        out[i] = (float)sin(angle);
        out[half + i] = (float)cos(angle);
    }
}

static attn_var *positions_of(const translator *m, attn_tape *tape, attn_parameter *learned, const sequences *seq) {
    const size_t d = m->config.model_size, rows = seq->shape[0] * (seq->rank == 2 ? seq->shape[1] : 1);
    if (learned) return attn_tape_embedding(tape, learned, seq->positions, seq->rank, seq->shape);
    const size_t shape[3] = {seq->shape[0], seq->rank == 2 ? seq->shape[1] : d, d};
    float *table = attn_alloc(m->base.ctx, seq->longest, d * sizeof *table);
    attn_var *p = attn_tape_zeros(tape, seq->rank + 1, shape);
    if (!table) attn_tape_fail(tape, ATTN_E_NOMEM, "out of memory for %zu positions", seq->longest);
    if (table && p) {
        const size_t first = seq->longest == 1 && rows ? (size_t)seq->positions[0] : 0;
        for (size_t t = 0; t < seq->longest; t++) sinusoid(m, table + t * d, first + t);
        float *out = attn_var_value(p)->data;
        for (size_t r = 0; r < rows; r++)
            for (size_t i = 0; i < d; i++) out[r * d + i] = table[((size_t)seq->positions[r] - first) * d + i];
    }
    attn_release(m->base.ctx, table);
    return p;
}

static attn_var *embed(const translator *m, attn_tape *tape, attn_parameter *table, attn_parameter *learned,
                       const sequences *seq, size_t last_position) {
    if (last_position >= m->config.max_positions)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "transformer: a sentence has %zu positions, expected at most %zu",
                              last_position + 1, m->config.max_positions);
    attn_var *e = attn_tape_embedding(tape, table, seq->ids, seq->rank, seq->shape);
    e = attn_tape_scale(tape, e, sqrtf((float)m->config.model_size));
    e = attn_tape_add(tape, e, positions_of(m, tape, learned, seq));
    return attn_tape_dropout(tape, e, m->config.dropout);
}

/* A layer as a part of the tape that need not be kept (attn_tape_run). */
typedef struct layer_pass {
    const translator *m;
    size_t layer;
    attn_attention_options self, cross;
    attn_var *q, *k; /* out: of the cross-attention */
} layer_pass;

static layer_pass *pass_of(const translator *m, attn_tape *tape, size_t layer, const attn_attention_options *self,
                           const attn_attention_options *cross) {
    layer_pass *p = attn_tape_memory(tape, 1, sizeof *p);
    if (p) *p = (layer_pass){m, layer, *self, cross ? *cross : *self, NULL, NULL};
    return p;
}

static attn_var *encoder_pass(attn_tape *tape, void *arg, attn_var *const *x) {
    const layer_pass *p = arg;
    const attn_transformer_encoder_layer *layer = &p->m->encoder[p->layer];
    return feed_forward(p->m, tape, self_attention(p->m, tape, x[0], &layer->self, &p->self), &layer->feed_forward);
}

/* x: the target's states, the source's. */
static attn_var *decoder_pass(attn_tape *tape, void *arg, attn_var *const *x) {
    layer_pass *p = arg;
    const attn_transformer_decoder_layer *layer = &p->m->decoder[p->layer];
    attn_var *h = self_attention(p->m, tape, x[0], &layer->self, &p->self);
    const attn_keys_values source = keys_values(tape, x[1], &layer->cross);
    p->k = source.k;
    h = cross_attention(p->m, tape, h, source, &layer->cross, &p->cross, &p->q);
    return feed_forward(p->m, tape, h, &layer->feed_forward);
}

static attn_var *encode_source(const translator *m, attn_tape *tape, const sequences *source) {
    attn_var *h = embed(m, tape, m->source_embedding, m->source_positions, source, source->longest - 1);
    for (size_t l = 0; h && l < m->config.encoder_layers; l++) {
        layer_pass *p = pass_of(m, tape, l, &source->options, NULL);
        h = p ? attn_tape_run(tape, encoder_pass, p, &h, 1) : NULL;
    }
    return m->config.norm == ATTN_NORM_PRE ? norm_of(tape, h, &m->encoder_norm) : h;
}

static attn_var *predict(const translator *m, attn_tape *tape, attn_var *h) {
    if (m->config.norm == ATTN_NORM_PRE) h = norm_of(tape, h, &m->decoder_norm);
    return attn_tape_linear(tape, h, m->output, NULL, NULL, ATTN_IDENTITY);
}

/* ---- what is seen ----------------------------------------------------------------------------------- */

/* The weights (B, T, S) of a head (from 1; 0: the mean of all). q (B, T, d), k (B, S, d), lse (B, H, T). */
static attn_var *weights_of(const translator *m, attn_tape *tape, const attn_var *q, const attn_var *k,
                            const attn_var *lse, size_t head, const attn_attention_options *options) {
    const attn_head_of from = {q, k, lse, m->config.heads, m->config.heads, head};
    return attn_tape_head_weights(tape, &from, options);
}

/* ---- training: packed rows ------------------------------------------------------------------------ */

/* Packs time-major ids (T, B); `first` (or −1: what is there) stands in for every sentence's first. next (NULL: none)
 * becomes *targets. In the tape's memory, where backward may read it again. */
static bool pack(attn_tape *tape, sequences *seq, int32_t **targets, const int32_t *ids, const int32_t *next,
                 const int32_t *lengths, size_t batch, int32_t first) {
    size_t rows = 0, longest = 0;
    for (size_t b = 0; b < batch; b++) {
        rows += (size_t)lengths[b];
        longest = ATTN_MAX(longest, (size_t)lengths[b]);
    }
    int32_t *all = attn_tape_memory(tape, 3 * rows + batch + 1, sizeof *all);
    if (!all) return false;
    int32_t *positions = all + rows, *out = positions + rows, *cu = out + rows;
    size_t r = 0;
    for (size_t b = 0; b < batch; b++) {
        cu[b] = (int32_t)r;
        for (size_t t = 0; t < (size_t)lengths[b]; t++, r++) {
            all[r] = t == 0 && first >= 0 ? first : ids[t * batch + b];
            positions[r] = (int32_t)t;
            out[r] = next ? next[t * batch + b] : -1;
        }
    }
    cu[batch] = (int32_t)rows;
    *seq = (sequences){all, positions, 1, {rows, 0}, longest, ATTN_ATTENTION_OPTIONS_INIT};
    seq->options.cu_q = seq->options.cu_k = cu;
    seq->options.sequences = batch;
    *targets = out;
    return true;
}

static size_t alignment_layer(const translator *m) {
    const size_t last = m->config.decoder_layers, chosen = m->config.alignment_layer;
    return chosen ? chosen - 1 : last > 1 ? last - 2 : 0;
}

/* guided_alignment times the loss of the chosen head's alignment against the batch's links. */
static attn_var *alignment_loss(const translator *m, attn_tape *tape, attn_var *q, attn_var *k, const int32_t *cu_q,
                                const int32_t *cu_k, const attn_pair_batch *batch, float grad_scale) {
    size_t links = 0, at = 0;
    if (m->config.alignment_head == 0)
        return attn_tape_fail(tape, ATTN_E_UNSUPPORTED,
                              "transformer: guided alignment needs an alignment_head, found 0");
    for (size_t b = 0; b < batch->batch; b++) links += batch->links[b].count;
    int32_t *query = attn_alloc(m->base.ctx, links + 1, 2 * sizeof *query), *key = query + links;
    if (!query) return attn_tape_fail(tape, ATTN_E_NOMEM, "out of memory for %zu links", links);
    for (size_t b = 0; b < batch->batch; b++)
        for (size_t i = 0; i < batch->links[b].count; i++) {
            const int32_t row = cu_q[b] + batch->links[b].link[i].target + (m->config.alignment_follows ? 1 : 0);
            if (row >= cu_q[b + 1]) continue; /* nothing reads the last token */
            query[at] = row;
            key[at++] = cu_k[b] + batch->links[b].link[i].source;
        }
    const attn_guided_alignment guided = {.q = q,
                                          .k = k,
                                          .heads = m->config.heads,
                                          .head = m->config.alignment_head - 1,
                                          .cu_q = cu_q,
                                          .cu_k = cu_k,
                                          .sequences = batch->batch,
                                          .query = query,
                                          .key = key,
                                          .links = at};
    attn_var *loss = attn_tape_guided_alignment(tape, &guided, batch->guided_alignment * grad_scale);
    attn_release(m->base.ctx, query);
    return loss;
}

static attn_var *packed_loss(const translator *m, attn_tape *tape, const sequences *source, const sequences *target,
                             const int32_t *targets, const attn_pair_batch *batch, float label_smoothing,
                             float grad_scale, attn_loss_stats *stats) {
    const bool guides = batch->links && batch->guided_alignment > 0;
    attn_var *guided = NULL;
    attn_var *memory = encode_source(m, tape, source);
    attn_attention_options causal = target->options, cross = target->options;
    causal.causal = ATTN_CAUSAL_TOP_LEFT;
    cross.cu_k = source->options.cu_k;
    attn_var *h = embed(m, tape, m->target_embedding, m->target_positions, target, target->longest - 1);
    for (size_t l = 0; h && l < m->config.decoder_layers; l++) {
        const bool taught = guides && l == alignment_layer(m);
        layer_pass *p = pass_of(m, tape, l, &causal, &cross);
        attn_var *const x[] = {h, memory};
        h = !p ? NULL : taught ? decoder_pass(tape, p, x) : attn_tape_run(tape, decoder_pass, p, x, 2);
        if (taught && p) guided = alignment_loss(m, tape, p->q, p->k, cross.cu_q, cross.cu_k, batch, grad_scale);
    }
    attn_var *words = attn_tape_cross_entropy(tape, predict(m, tape, h), targets, label_smoothing, grad_scale, stats);
    return guides ? attn_tape_add(tape, words, guided) : words;
}

static attn_var *loss(const attn_model *model, attn_tape *tape, const attn_pair_batch *batch, float label_smoothing,
                      float grad_scale, attn_loss_stats *stats) {
    const translator *m = (const translator *)model;
    sequences source, target;
    int32_t *targets;
    if (!pack(tape, &source, &targets, batch->source, NULL, batch->source_lengths, batch->batch, -1) ||
        !pack(tape, &target, &targets, batch->target_in, batch->target_out, batch->target_lengths, batch->batch,
              ATTN_ID_EOS))
        return NULL;
    return packed_loss(m, tape, &source, &target, targets, batch, label_smoothing, grad_scale, stats);
}

/* ---- decoding: the same equations, a step at a time, K beams ---------------------------------------- */

/* x in another shape of as many elements; forward only. */
static attn_var *view(attn_tape *tape, const attn_var *x, int rank, const size_t *shape) {
    if (!x) return NULL;
    const attn_tensor t = attn_tensor_of(attn_var_value(x)->data, ATTN_F32, rank, shape);
    return attn_tape_input(tape, &t, false);
}

/* Source parts of layer l: keys, values (1, B, S·d); state parts: keys, values (K, B, t·d). */
static void encode(const attn_model *model, attn_tape *tape, attn_decoder *decoder, const int32_t *ids, size_t steps) {
    const translator *m = (const translator *)model;
    const size_t batch = decoder->batch, d = m->config.model_size;
    int32_t *rows = attn_alloc(model->ctx, batch * steps, 2 * sizeof *rows), *positions = rows + batch * steps;
    if (!rows) {
        attn_tape_fail(tape, ATTN_E_NOMEM, "out of memory for %zu source tokens", batch * steps);
        return;
    }
    for (size_t b = 0; b < batch; b++)
        for (size_t s = 0; s < steps; s++) {
            rows[b * steps + s] = ids[s * batch + b];
            positions[b * steps + s] = (int32_t)s;
        }
    sequences source = {rows, positions, 2, {batch, steps}, steps, ATTN_ATTENTION_OPTIONS_INIT};
    source.options.kv_lengths = source.options.q_lengths = decoder->source_lengths;
    attn_var *memory = encode_source(m, tape, &source);
    attn_release(model->ctx, rows);
    size_t n = 0;
    for (size_t l = 0; l < m->config.decoder_layers; l++) {
        const attn_keys_values kv = keys_values(tape, memory, &m->decoder[l].cross);
        decoder->part[n++] = view(tape, kv.k, 3, (const size_t[]){1, batch, steps * d});
        decoder->part[n++] = view(tape, kv.v, 3, (const size_t[]){1, batch, steps * d});
    }
    decoder->fixed = decoder->count = n;
    decoder->room = d;
}

/* α (K, B, S) of a step from q (B, K, d), k (B, S, d). */
static attn_var *alignment_of(const translator *m, attn_tape *tape, const attn_decoder *decoder, const attn_var *q,
                              const attn_var *k, const attn_var *lse) {
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.kv_lengths = decoder->source_lengths;
    const attn_var *mean = weights_of(m, tape, q, k, lse, m->config.alignment_head, &options);
    if (!mean) return NULL;
    const size_t beams = decoder->beams, batch = decoder->batch, steps = attn_var_value(mean)->shape[2];
    attn_var *out = attn_tape_zeros(tape, 3, (const size_t[]){beams, batch, steps});
    if (!out) return NULL;
    const float *from = attn_var_value(mean)->data;
    for (size_t b = 0; b < batch; b++)
        for (size_t r = 0; r < beams; r++, from += steps)
            memcpy((float *)attn_var_value(out)->data + (r * batch + b) * steps, from, steps * sizeof *from);
    return out;
}

/* Where row k·B + b of (K, B) goes in (B, K), and back. */
typedef struct orders {
    int32_t *by_sentence, *by_beam;
} orders;

static attn_var *cross_step(const translator *m, attn_tape *tape, const attn_decoder *decoder, attn_var *h, size_t l,
                            const orders *order, attn_step_view *seen) {
    const attn_transformer_attention *block = &m->decoder[l].cross;
    const size_t d = m->config.model_size, batch = decoder->batch, beams = decoder->beams, rows = batch * beams;
    const attn_tensor *part = decoder->part[2 * l] ? attn_var_value(decoder->part[2 * l]) : NULL;
    if (!part) return NULL;
    const size_t steps = part->shape[2] / d, source_shape[3] = {batch, steps, d};
    const attn_keys_values source = {view(tape, decoder->part[2 * l], 3, source_shape),
                                     view(tape, decoder->part[2 * l + 1], 3, source_shape)};
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.kv_lengths = decoder->source_lengths;
    attn_var *q = linear_of(tape, enter(m, tape, h, &block->norm), &block->query), *lse = NULL;
    q = attn_tape_select(tape, q, 0, order->by_sentence, rows);
    q = view(tape, q, 3, (const size_t[]){batch, beams, d});
    const bool looks = seen && l == alignment_layer(m);
    attn_var *z = attend(m, tape, q, source, &options, looks ? &lse : NULL);
    z = attn_tape_select(tape, view(tape, z, 2, (const size_t[]){rows, d}), 0, order->by_beam, rows);
    if (looks) {
        seen->alignment = alignment_of(m, tape, decoder, q, source.k, lse);
        seen->context = view(tape, z, 3, (const size_t[]){beams, batch, d});
    }
    return leave(m, tape, h, linear_of(tape, z, &block->out), &block->norm);
}

/* The room at the end of each row of a part is filled. */
static void put_last(const attn_var *part, const attn_var *newest, size_t d) {
    const attn_tensor *to = attn_var_value(part), *from = attn_var_value(newest);
    const size_t n = to->shape[2], rows = to->shape[0] * to->shape[1];
    for (size_t r = 0; r < rows; r++)
        memcpy((float *)to->data + r * n + n - d, (const float *)from->data + r * d, d * sizeof(float));
}

/* Self-attention of the newest token to all before it; the state grows by one. */
static attn_var *self_step(const translator *m, attn_tape *tape, attn_decoder *decoder, attn_var *h, size_t l,
                           size_t t) {
    const attn_transformer_attention *block = &m->decoder[l].self;
    const size_t d = m->config.model_size, rows = decoder->batch * decoder->beams;
    attn_var **part = decoder->part + decoder->fixed + 2 * l;
    attn_var *x = enter(m, tape, h, &block->norm), *q = linear_of(tape, x, &block->query);
    const attn_keys_values now = keys_values(tape, x, block);
    attn_var *const newest[2] = {now.k, now.v};
    if (!now.v) return NULL;
    for (int i = 0; i < 2; i++) {
        if (!t) part[i] = view(tape, newest[i], 3, (const size_t[]){decoder->beams, decoder->batch, d});
        else put_last(part[i], newest[i], d);
    }
    const size_t past[3] = {rows, t + 1, d};
    const attn_keys_values all = {view(tape, part[0], 3, past), view(tape, part[1], 3, past)};
    const attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    attn_var *z = attend(m, tape, view(tape, q, 3, (const size_t[]){rows, 1, d}), all, &options, NULL);
    z = view(tape, z, 2, (const size_t[]){rows, d});
    return leave(m, tape, h, linear_of(tape, z, &block->out), &block->norm);
}

static attn_var *step(const attn_model *model, attn_tape *tape, attn_decoder *decoder, const int32_t *ids,
                      attn_step_view *seen) {
    const translator *m = (const translator *)model;
    const size_t d = m->config.model_size, batch = decoder->batch, beams = decoder->beams, rows = batch * beams;
    const bool first = decoder->count == decoder->fixed;
    const size_t t = first ? 0 : attn_var_value(decoder->part[decoder->fixed])->shape[2] / d - 1;
    int32_t *memory = attn_alloc(model->ctx, rows, 4 * sizeof *memory);
    if (!memory) return attn_tape_fail(tape, ATTN_E_NOMEM, "out of memory for %zu beams", rows);
    int32_t *inputs = memory, *positions = memory + rows;
    const orders order = {memory + 2 * rows, memory + 3 * rows};
    for (size_t k = 0; k < beams; k++)
        for (size_t b = 0; b < batch; b++) {
            inputs[k * batch + b] = first ? ATTN_ID_EOS : ids[k * batch + b];
            positions[k * batch + b] = (int32_t)t;
            order.by_sentence[b * beams + k] = (int32_t)(k * batch + b);
            order.by_beam[k * batch + b] = (int32_t)(b * beams + k);
        }
    const sequences newest = {inputs, positions, 1, {rows, 0}, 1, ATTN_ATTENTION_OPTIONS_INIT};
    attn_var *h = embed(m, tape, m->target_embedding, m->target_positions, &newest, t);
    for (size_t l = 0; l < m->config.decoder_layers; l++) {
        h = self_step(m, tape, decoder, h, l, t);
        h = cross_step(m, tape, decoder, h, l, &order, seen);
        h = feed_forward(m, tape, h, &m->decoder[l].feed_forward);
    }
    decoder->count = decoder->fixed + 2 * m->config.decoder_layers;
    attn_release(model->ctx, memory);
    if (seen) seen->state = view(tape, h, 3, (const size_t[]){beams, batch, d});
    return view(tape, predict(m, tape, h), 3, (const size_t[]){beams, batch, m->config.vocab_size});
}

/* ---- one pair, looked at ----------------------------------------------------------------------------- */

static sequences one_sentence(const int32_t *ids, const int32_t *positions, size_t n) {
    return (sequences){ids, positions, 2, {1, n}, n, ATTN_ATTENTION_OPTIONS_INIT};
}

/* What a block that would read h sees. */
static attn_seen look_at(const translator *m, attn_tape *tape, attn_var *h, attn_var *source,
                         const attn_transformer_attention *block, const attn_attention_options *options) {
    attn_var *x = enter(m, tape, h, &block->norm), *lse;
    attn_var *q = linear_of(tape, x, &block->query), *k = linear_of(tape, source ? source : x, &block->key);
    attend(m, tape, q, (attn_keys_values){k, k}, options, &lse);
    return (attn_seen){{.q = q, .k = k, .lse = lse, .heads = m->config.heads, .key_heads = m->config.heads}, *options};
}

static attn_seen look_at_pair(const translator *m, attn_tape *tape, const attn_look *where, const sequences *source,
                              const sequences *target) {
    const attn_attention_options *open = &source->options;
    attn_attention_options causal = target->options;
    causal.causal = ATTN_CAUSAL_TOP_LEFT;
    attn_var *h = embed(m, tape, m->source_embedding, m->source_positions, source, source->longest - 1);
    for (size_t l = 0; l < m->config.encoder_layers; l++) {
        if (where->kind == ATTN_LOOK_ENCODER && l == where->layer)
            return look_at(m, tape, h, NULL, &m->encoder[l].self, open);
        h = self_attention(m, tape, h, &m->encoder[l].self, open);
        h = feed_forward(m, tape, h, &m->encoder[l].feed_forward);
    }
    if (m->config.norm == ATTN_NORM_PRE) h = norm_of(tape, h, &m->encoder_norm);
    attn_var *g = embed(m, tape, m->target_embedding, m->target_positions, target, target->longest - 1);
    for (size_t l = 0; l < m->config.decoder_layers; l++) {
        const attn_transformer_decoder_layer *layer = &m->decoder[l];
        attn_var *q;
        if (where->kind == ATTN_LOOK_DECODER && l == where->layer)
            return look_at(m, tape, g, NULL, &layer->self, &causal);
        g = self_attention(m, tape, g, &layer->self, &causal);
        if (where->kind == ATTN_LOOK_CROSS && l == where->layer) return look_at(m, tape, g, h, &layer->cross, open);
        g = cross_attention(m, tape, g, keys_values(tape, h, &layer->cross), &layer->cross, open, &q);
        g = feed_forward(m, tape, g, &layer->feed_forward);
    }
    return (attn_seen){0};
}

static attn_status look(const attn_model *model, attn_tape *tape, attn_seen *seen, const attn_look *look,
                        const int32_t *source, size_t source_count, const int32_t *target, size_t target_count) {
    const translator *m = (const translator *)model;
    const size_t most = ATTN_MAX(source_count, target_count);
    int32_t *positions = attn_alloc(model->ctx, most + target_count, sizeof *positions), *in = positions + most;
    if (!positions) return ATTN_E_NOMEM;
    for (size_t i = 0; i < most; i++) positions[i] = (int32_t)i;
    for (size_t i = 0; i < target_count; i++) in[i] = i ? target[i - 1] : ATTN_ID_EOS;
    const sequences x = one_sentence(source, positions, source_count), y = one_sentence(in, positions, target_count);
    *seen = look_at_pair(m, tape, look, &x, &y);
    attn_release(model->ctx, positions);
    return attn_tape_status(tape);
}

const attn_model_class attn_class_transformer = {
    .type = "transformer",
    .bytes = sizeof(translator),
    .configure = attn_transformer_configure,
    .add_parameters = attn_transformer_add_parameters,
    .loss = loss,
    .encode = encode,
    .step = step,
    .look = look,
};
