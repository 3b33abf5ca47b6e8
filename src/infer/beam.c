/* beam.c: batched beam search.
 *
 * For every sentence K beams. A step feeds the last token of each beam and gives log p for every next one. Then
 *   (I1) the alive beams are the K best continuations that do not end, by Σ log p, ties to the lower beam, then rank;
 *   (I2) a continuation that ends is finished if it is among the K best of all; its score is Σ log p / length^α;
 *   (I3) a sentence is done when K hypotheses are finished or its length limit is reached; if none is finished there,
 *        the alive beams are taken as they stand, without </s>.
 * Each step leaves K nodes (parent, token, log p) and K rows of what was seen (alignment …) a sentence; hypotheses are
 * read back along the parents. Sentences that are done leave the batch, so that the rest runs faster. */
#include "infer/beam.h"
#include "infer/posterior.h"
#include "nn/tape.h"

#include <attn/ops.h>
#include <math.h>
#include <string.h>

enum { BANNED = 3 }; /* <s>, <pad> and <unk> are never chosen */

typedef struct node {
    int32_t parent, token;
    float log_prob;
} node;

typedef struct ending {
    size_t step;
    int32_t parent, token;
    float log_prob;
    double score;
} ending;

typedef struct lane { /* one sentence while it is searched */
    attn_search *search;
    size_t limit, width; /* tokens at most; source tokens */
    node *node;          /* (steps, K) */
    float *alignment;    /* (steps, K, width) */
    float *energy, *context, *state;
    float *seen; /* (width) scratch: what each source token got of the alignment */
    size_t node_capacity, alignment_capacity, energy_capacity, context_capacity, state_capacity;
    double score[ATTN_MAX_BEAM]; /* of the alive beams */
    ending finished[2 * ATTN_MAX_BEAM];
    size_t finished_count;
    bool done;
} lane;

typedef struct beam {
    const attn_model *model;
    attn_context *ctx;
    const attn_translate_options *options;
    double coverage_penalty;
    size_t k, lanes, active, candidates;
    lane *lane;
    size_t *slot;     /* active slot → lane */
    int32_t *lengths; /* (active) source lengths */
    int32_t *ids;     /* (K, active) tokens fed next */
    int32_t *parents; /* (K, lanes) beam each new beam comes from */
    int32_t *gather;
    int32_t *top_id; /* (K, active, candidates) */
    float *top_value;
    attn_beam_tapes *tapes;
    attn_decoder decoder;
} beam;

/* ---- choosing --------------------------------------------------------------------------------------- */

typedef struct candidate {
    double score;
    int32_t parent, token;
    float log_prob;
} candidate;

/* Keeps the n best, best first; earlier ones win ties. */
static void keep_best(candidate *best, size_t *count, size_t n, candidate c) {
    if (*count == n && !(c.score > best[n - 1].score)) return;
    size_t at = *count < n ? (*count)++ : n - 1;
    while (at > 0 && c.score > best[at - 1].score) {
        best[at] = best[at - 1];
        at--;
    }
    best[at] = c;
}

static double final_score(const beam *b, double score, size_t length) {
    return score / pow((double)length, (double)b->options->length_penalty);
}

/* Σ_j log min(1, Σ_i α_ij) of the hypothesis that ends with a child of `parent` in this step. */
static double coverage(const beam *b, lane *l, size_t step, int32_t parent) {
    double sum = 0;
    memset(l->seen, 0, l->width * sizeof *l->seen);
    for (size_t i = step + 1; i-- > 0;) {
        const float *row = l->alignment + (i * b->k + (size_t)parent) * l->width;
        for (size_t j = 0; j < l->width; j++) l->seen[j] += row[j];
        if (i > 0) parent = l->node[(i - 1) * b->k + (size_t)parent].parent;
    }
    for (size_t j = 0; j < l->width; j++) sum += log(fmax(fmin((double)l->seen[j], 1), 1e-9));
    return sum;
}

static void finish(beam *b, lane *l, size_t step, const candidate *c) {
    if (l->finished_count == ATTN_COUNT(l->finished)) return;
    double score = final_score(b, c->score, step + 1);
    if (b->coverage_penalty > 0 && l->alignment) score += b->coverage_penalty * coverage(b, l, step, c->parent);
    l->finished[l->finished_count++] = (ending){step, c->parent, c->token, c->log_prob, score};
}

/* Candidates of one sentence from the K·n top rows; sorted. 2K of them always hold K that do not end. At first none
 * ends: a text with words has a translation with some. */
static size_t collect(const beam *b, const lane *l, size_t slot, size_t step, candidate *best) {
    size_t count = 0, n = 2 * b->k;
    for (size_t k = 0; k < (step == 0 ? 1 : b->k); k++) {
        const size_t row = (k * b->active + slot) * b->candidates;
        if (l->score[k] == -INFINITY) continue;
        for (size_t c = 0; c < b->candidates; c++) {
            int32_t id = b->top_id[row + c];
            if (id == ATTN_ID_BOS || id == ATTN_ID_PAD || id == ATTN_ID_UNK) continue;
            if (step == 0 && id == ATTN_ID_EOS) continue;
            float log_prob = b->top_value[row + c];
            if (!(log_prob > -INFINITY)) continue;
            keep_best(best, &count, n, (candidate){l->score[k] + (double)log_prob, (int32_t)k, id, log_prob});
        }
    }
    return count;
}

static attn_status fail_numeric(const beam *b, size_t step) {
    return attn_fail(b->ctx, ATTN_E_NUMERIC, "the %s model's log-probabilities of token %zu are not finite numbers",
                     b->model->class->type, step + 1);
}

static attn_status choose(beam *b, size_t slot, size_t step) {
    lane *l = &b->lane[b->slot[slot]];
    candidate best[2 * ATTN_MAX_BEAM];
    size_t count = collect(b, l, slot, step, best), alive = 0;
    double score[ATTN_MAX_BEAM];
    for (size_t c = 0; c < count && alive < b->k; c++) {
        if (best[c].token == ATTN_ID_EOS) {
            if (c < b->k) finish(b, l, step, &best[c]);
            continue;
        }
        l->node[step * b->k + alive] = (node){best[c].parent, best[c].token, best[c].log_prob};
        score[alive++] = best[c].score;
    }
    if (alive == 0 && l->finished_count == 0) return fail_numeric(b, step);
    l->done = l->finished_count >= b->k || alive == 0 || step + 1 >= l->limit;
    if (step + 1 >= l->limit && l->finished_count == 0)
        for (size_t k = 0; k < alive; k++) {
            const node *n = &l->node[step * b->k + k];
            finish(b, l, step, &(candidate){score[k], n->parent, n->token, n->log_prob});
        }
    for (size_t k = 0; k < b->k; k++) {
        if (k >= alive) l->node[step * b->k + k] = (node){0, ATTN_ID_EOS, 0};
        l->score[k] = k < alive ? score[k] : -INFINITY;
    }
    return ATTN_OK;
}

/* Forced decoding: the token is given. log_prob (V) of the only beam. */
static attn_status choose_forced(beam *b, size_t slot, size_t step, const float *log_prob) {
    lane *l = &b->lane[b->slot[slot]];
    int32_t token = l->search->forced[step];
    float p = log_prob[token];
    if (isnan(p)) return fail_numeric(b, step);
    l->score[0] += (double)p;
    l->node[step] = (node){0, token, p};
    if (step + 1 < l->search->forced_count) return ATTN_OK;
    finish(b, l, step, &(candidate){l->score[0], 0, token, p});
    l->done = true;
    return ATTN_OK;
}

/* ---- what is seen ------------------------------------------------------------------------------------ */

/* Copies rows [k][slot] of x (K, B, n) to a lane's (step, K, width). */
static attn_status keep_rows(beam *b, const attn_var *x, float **rows, size_t *capacity, size_t slot, size_t step,
                             size_t width) {
    if (!x) return ATTN_OK;
    const attn_tensor *t = attn_var_value(x);
    size_t n = t->shape[t->rank - 1], wanted;
    if (!attn_size_mul(&wanted, (step + 1) * b->k, width))
        return attn_fail(b->ctx, ATTN_E_NOMEM, "out of memory: %zu steps of %zu beams by %zu", step + 1, b->k, width);
    ATTN_TRY(attn_grow(b->ctx, rows, capacity, wanted, step * b->k * width, sizeof **rows));
    for (size_t k = 0; k < b->decoder.beams; k++) /* of the first step's one beam all are children */
        memcpy(*rows + (step * b->k + k) * width, (const float *)t->data + (k * b->active + slot) * n,
               width * sizeof(float));
    return ATTN_OK;
}

static size_t last_dimension(const attn_var *x) {
    if (!x) return 0;
    const attn_tensor *t = attn_var_value(x);
    return t->shape[t->rank - 1];
}

static attn_status keep_view(beam *b, const attn_step_view *view, size_t step) {
    for (size_t slot = 0; slot < b->active; slot++) {
        lane *l = &b->lane[b->slot[slot]];
        attn_search *s = l->search;
        ATTN_TRY(attn_grow(b->ctx, &l->node, &l->node_capacity, (step + 1) * b->k, step * b->k, sizeof *l->node));
        ATTN_TRY(keep_rows(b, view->alignment, &l->alignment, &l->alignment_capacity, slot, step, l->width));
        if (!b->options->trace) continue;
        s->context_size = last_dimension(view->context);
        s->state_size = last_dimension(view->state);
        ATTN_TRY(keep_rows(b, view->energy, &l->energy, &l->energy_capacity, slot, step, l->width));
        ATTN_TRY(keep_rows(b, view->context, &l->context, &l->context_capacity, slot, step, s->context_size));
        ATTN_TRY(keep_rows(b, view->state, &l->state, &l->state_capacity, slot, step, s->state_size));
    }
    return ATTN_OK;
}

/* Forced decoding: the rows that the step left become posteriors. before: the decoder as the step found it. */
static attn_status keep_posterior(beam *b, const attn_decoder *before, const attn_step_view *view, size_t step) {
    if (!view->alignment || !b->model->class->source_by_position)
        return attn_fail(b->ctx, ATTN_E_UNSUPPORTED, "posterior: the %s model has no alignment that it can be made of",
                         b->model->class->type);
    for (size_t slot = 0; slot < b->active; slot++) {
        lane *l = &b->lane[b->slot[slot]];
        ATTN_TRY(attn_posterior_row(l->alignment + step * l->width, b->model, b->tapes->single, before, slot, l->width,
                                    b->ids[slot], l->search->forced[step]));
    }
    return ATTN_OK;
}

/* ---- reading hypotheses back -------------------------------------------------------------------------- */

typedef struct row_copy {
    float **to;
    const float *from;
    size_t width;
} row_copy;

static attn_status read_back(beam *b, const lane *l, const ending *e, attn_hypothesis *h) {
    size_t n = e->step + 1;
    h->count = n;
    h->score = (float)e->score;
    h->id = attn_alloc(b->ctx, n, sizeof *h->id);
    h->log_prob = attn_alloc(b->ctx, n, sizeof *h->log_prob);
    if (!h->id || !h->log_prob) return ATTN_E_NOMEM;
    const row_copy copies[] = {{&h->alignment, l->alignment, l->width},
                               {&h->energy, l->energy, l->width},
                               {&h->context, l->context, l->search->context_size},
                               {&h->state, l->state, l->search->state_size}};
    for (size_t c = 0; c < ATTN_COUNT(copies); c++) {
        if (!copies[c].from) continue;
        *copies[c].to = attn_alloc(b->ctx, n, copies[c].width * sizeof(float));
        if (!*copies[c].to) return ATTN_E_NOMEM;
    }
    int32_t parent = e->parent, token = e->token;
    float log_prob = e->log_prob;
    for (size_t i = n; i-- > 0;) {
        h->id[i] = token;
        h->log_prob[i] = log_prob;
        for (size_t c = 0; c < ATTN_COUNT(copies); c++) {
            size_t w = copies[c].width;
            if (copies[c].from)
                memcpy(*copies[c].to + i * w, copies[c].from + (i * b->k + (size_t)parent) * w, w * sizeof(float));
        }
        if (i == 0) break;
        const node *before = &l->node[(i - 1) * b->k + (size_t)parent];
        token = before->token;
        log_prob = before->log_prob;
        parent = before->parent;
    }
    return ATTN_OK;
}

/* Each token gets the row of the step that read it. </s> was read by none: the end of the source is its counterpart;
 * another last token keeps what was seen when it was written. */
static void shift_alignment(attn_hypothesis *h, size_t width) {
    float *last = h->alignment + (h->count - 1) * width;
    memmove(h->alignment, h->alignment + width, (h->count - 1) * width * sizeof *last);
    if (h->id[h->count - 1] != ATTN_ID_EOS) return;
    memset(last, 0, width * sizeof *last);
    last[width - 1] = 1;
}

/* The n best endings of a lane become hypotheses. */
static attn_status give_hypotheses(beam *b, lane *l) {
    size_t n = ATTN_MIN((size_t)b->options->n_best, l->finished_count);
    for (size_t i = 1; i < l->finished_count; i++) { /* stable insertion sort, best first */
        ending e = l->finished[i];
        size_t at = i;
        for (; at > 0 && e.score > l->finished[at - 1].score; at--) l->finished[at] = l->finished[at - 1];
        l->finished[at] = e;
    }
    l->search->hypothesis = attn_alloc_zero(b->ctx, n, sizeof *l->search->hypothesis);
    if (!l->search->hypothesis) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        l->search->count = i + 1;
        attn_hypothesis *h = &l->search->hypothesis[i];
        ATTN_TRY(read_back(b, l, &l->finished[i], h));
        if (h->alignment && b->model->alignment_follows) shift_alignment(h, l->width);
    }
    return ATTN_OK;
}

/* ---- moving state -------------------------------------------------------------------------------------- */

/* Rows of every part of the state: to[r] = from[parent[r]], with room for what the next step adds. */
typedef struct moves {
    const float *from[ATTN_DECODER_PARTS];
    float *to[ATTN_DECODER_PARTS];
    size_t n[ATTN_DECODER_PARTS], room, parts, rows;
    const int32_t *parent;
} moves;

enum { ROWS_PER_MOVE = 16 };

static void move_rows(void *arg, size_t index) {
    const moves *job = arg;
    const size_t part = index % job->parts, first = index / job->parts * ROWS_PER_MOVE, n = job->n[part];
    for (size_t r = first; r < ATTN_MIN(first + ROWS_PER_MOVE, job->rows); r++)
        memcpy(job->to[part] + r * (n + job->room), job->from[part] + (size_t)job->parent[r] * n, n * sizeof(float));
}

static void move_state(beam *b, attn_tape *next, size_t kept) {
    moves job = {.room = b->decoder.room, .rows = b->k * kept, .parent = b->parents};
    for (size_t i = b->decoder.fixed; i < b->decoder.count; i++, job.parts++) {
        const size_t n = last_dimension(b->decoder.part[i]);
        attn_var *to = attn_tape_var(next, 3, (const size_t[]){b->k, kept, n + job.room}, false);
        if (!to) return;
        job.n[job.parts] = n;
        job.from[job.parts] = attn_var_value(b->decoder.part[i])->data;
        job.to[job.parts] = attn_var_value(to)->data;
        b->decoder.part[i] = to;
    }
    attn_parallel_for(b->ctx, job.parts * ((job.rows + ROWS_PER_MOVE - 1) / ROWS_PER_MOVE), move_rows, &job);
}

/* Takes the sentences that are done out of the batch and puts every beam's state where its child is. */
static attn_status advance(beam *b, size_t step) {
    size_t old = b->active, kept = 0;
    for (size_t slot = 0; slot < old; slot++) {
        lane *l = &b->lane[b->slot[slot]];
        if (l->done) continue;
        b->gather[kept] = (int32_t)slot;
        b->slot[kept] = b->slot[slot];
        kept++;
    }
    attn_tape *next = b->tapes->step[0];
    b->tapes->step[0] = b->tapes->step[1]; /* holds the state that the step just made */
    b->tapes->step[1] = next;
    attn_tape_reset(next);
    if (kept < old && kept > 0) {
        attn_tape_reset(b->tapes->source[1]);
        for (size_t i = 0; i < b->decoder.fixed; i++) {
            attn_tensor t = *attn_var_value(b->decoder.part[i]);
            b->decoder.part[i] = attn_tape_select(b->tapes->source[1], attn_tape_input(b->tapes->source[1], &t, false),
                                                  1, b->gather, kept);
        }
        ATTN_TRY(attn_tape_status(b->tapes->source[1]));
        attn_tape *swap = b->tapes->source[0];
        b->tapes->source[0] = b->tapes->source[1];
        b->tapes->source[1] = swap;
        for (size_t i = 0; i < kept; i++) b->lengths[i] = b->lengths[b->gather[i]];
    }
    for (size_t k = 0; k < b->k; k++)
        for (size_t i = 0; i < kept; i++) {
            const node *n = &b->lane[b->slot[i]].node[step * b->k + k];
            b->parents[k * kept + i] = n->parent * (int32_t)old + b->gather[i];
            b->ids[k * kept + i] = n->token;
        }
    if (kept > 0) move_state(b, next, kept);
    b->decoder.beams = b->k;
    b->active = b->decoder.batch = kept;
    return attn_tape_status(next);
}

static attn_status encode(beam *b) {
    size_t steps = 0;
    for (size_t i = 0; i < b->lanes; i++) {
        b->lengths[i] = (int32_t)b->lane[i].width;
        steps = ATTN_MAX(steps, b->lane[i].width);
    }
    int32_t *source = attn_alloc(b->ctx, steps, b->lanes * sizeof *source);
    if (!source) return ATTN_E_NOMEM;
    for (size_t s = 0; s < steps; s++)
        for (size_t i = 0; i < b->lanes; i++)
            source[s * b->lanes + i] = s < b->lane[i].width ? b->lane[i].search->source->token[s].id : ATTN_ID_PAD;
    b->decoder = (attn_decoder){.beams = 1, .batch = b->lanes, .source_lengths = b->lengths};
    b->model->class->encode(b->model, b->tapes->source[0], &b->decoder, source, steps);
    attn_release(b->ctx, source);
    return attn_tape_status(b->tapes->source[0]);
}

static attn_status search(beam *b, bool forced) {
    ATTN_TRY(encode(b));
    for (size_t i = 0; i < b->k * b->lanes; i++) b->ids[i] = ATTN_ID_BOS;
    for (size_t step = 0; b->active > 0; step++) {
        attn_tape *tape = b->tapes->step[1];
        attn_decoder in = b->decoder;
        for (size_t i = 0; i < in.count; i++) {
            const attn_tensor *t = attn_var_value(in.part[i]);
            b->decoder.part[i] = attn_tape_input(tape, t, false);
        }
        attn_step_view view = {0};
        attn_var *logits = b->model->class->step(b->model, tape, &b->decoder, b->ids, &view);
        for (size_t i = 0; i < in.fixed; i++) b->decoder.part[i] = in.part[i];
        attn_var *log_probs = attn_tape_log_softmax(tape, logits);
        ATTN_TRY(attn_tape_status(tape));
        ATTN_TRY(keep_view(b, &view, step));
        if (b->options->posterior) ATTN_TRY(keep_posterior(b, &in, &view, step));
        const attn_tensor *value = attn_var_value(log_probs);
        size_t v = b->model->vocab_size;
        if (!forced) {
            attn_tensor flat = attn_tensor_f32(value->data, 2, b->decoder.beams * b->active, v);
            ATTN_TRY(attn_top_k(b->ctx, b->top_id, b->top_value, &flat, b->candidates));
        }
        for (size_t slot = 0; slot < b->active; slot++) {
            if (forced) ATTN_TRY(choose_forced(b, slot, step, (const float *)value->data + slot * v));
            else ATTN_TRY(choose(b, slot, step));
        }
        for (size_t slot = 0; slot < b->active; slot++)
            if (b->lane[b->slot[slot]].done) ATTN_TRY(give_hypotheses(b, &b->lane[b->slot[slot]]));
        ATTN_TRY(advance(b, step));
    }
    return ATTN_OK;
}

/* ---- set-up --------------------------------------------------------------------------------------------- */

static attn_status open_tape(beam *b, attn_tape **tape) {
    if (*tape) attn_tape_reset(*tape);
    else ATTN_TRY(attn_tape_create(tape, b->ctx, false));
    return attn_tape_precision(*tape, b->options->precision);
}

static attn_status open_tapes(beam *b) {
    for (int i = 0; i < 2; i++) {
        ATTN_TRY(open_tape(b, &b->tapes->source[i]));
        ATTN_TRY(open_tape(b, &b->tapes->step[i]));
    }
    return b->options->posterior ? open_tape(b, &b->tapes->single) : ATTN_OK;
}

void attn_beam_tapes_free(attn_beam_tapes *tapes) {
    for (int i = 0; i < 2; i++) {
        attn_tape_free(tapes->source[i]);
        attn_tape_free(tapes->step[i]);
    }
    attn_tape_free(tapes->single);
    *tapes = (attn_beam_tapes){0};
}

static attn_status prepare(beam *b, attn_search *sentences, size_t n) {
    size_t k = b->k;
    b->lane = attn_alloc_zero(b->ctx, n, sizeof *b->lane);
    b->slot = attn_alloc(b->ctx, n, sizeof *b->slot);
    b->lengths = attn_alloc(b->ctx, n, sizeof *b->lengths);
    b->gather = attn_alloc(b->ctx, n, sizeof *b->gather);
    b->ids = attn_alloc(b->ctx, n * k, sizeof *b->ids);
    b->parents = attn_alloc(b->ctx, n * k, sizeof *b->parents);
    b->top_id = attn_alloc(b->ctx, n * k, b->candidates * sizeof *b->top_id);
    b->top_value = attn_alloc(b->ctx, n * k, b->candidates * sizeof *b->top_value);
    if (!b->lane || !b->slot || !b->lengths || !b->gather || !b->ids || !b->parents || !b->top_id || !b->top_value)
        return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        size_t width = sentences[i].source->count;
        b->slot[i] = i;
        b->lane[i].search = &sentences[i];
        b->lane[i].width = width;
        if (b->coverage_penalty > 0 && !(b->lane[i].seen = attn_alloc(b->ctx, width, sizeof(float))))
            return ATTN_E_NOMEM;
        b->lane[i].limit = b->options->max_length > 0 ? (size_t)b->options->max_length : 2 * width + 10;
        if (b->model->max_positions) b->lane[i].limit = ATTN_MIN(b->lane[i].limit, b->model->max_positions);
        sentences[i].hypothesis = NULL;
        sentences[i].count = 0;
    }
    return open_tapes(b);
}

static void clean_up(beam *b) {
    for (size_t i = 0; b->lane && i < b->lanes; i++) {
        attn_release(b->ctx, b->lane[i].node);
        attn_release(b->ctx, b->lane[i].seen);
        attn_release(b->ctx, b->lane[i].alignment);
        attn_release(b->ctx, b->lane[i].energy);
        attn_release(b->ctx, b->lane[i].context);
        attn_release(b->ctx, b->lane[i].state);
    }
    void *const arrays[] = {b->lane, b->slot, b->lengths, b->gather, b->ids, b->parents, b->top_id, b->top_value};
    for (size_t i = 0; i < ATTN_COUNT(arrays); i++) attn_release(b->ctx, arrays[i]);
}

attn_status attn_beam_search(const attn_model *model, attn_beam_tapes *tapes, attn_search *sentences, size_t n,
                             const attn_translate_options *options) {
    if (!model->class->encode)
        return attn_fail(model->ctx, ATTN_E_ARGUMENT, "a %s model does not translate", model->class->type);
    bool forced = n > 0 && sentences[0].forced;
    beam b = {.model = model, .ctx = model->ctx, .options = options, .tapes = tapes, .lanes = n, .active = n};
    b.coverage_penalty = (double)(options->coverage_penalty < 0 ? model->coverage_penalty : options->coverage_penalty);
    b.k = forced ? 1 : (size_t)options->beam_size;
    b.candidates = ATTN_MIN(2 * b.k + BANNED, model->vocab_size);
    attn_status status = prepare(&b, sentences, n);
    if (status == ATTN_OK) status = search(&b, forced);
    clean_up(&b);
    return status;
}

void attn_hypothesis_clear(attn_context *ctx, attn_hypothesis *h) {
    void *const arrays[] = {h->text, h->id, h->span, h->log_prob, h->alignment, h->energy, h->context, h->state};
    for (size_t i = 0; i < ATTN_COUNT(arrays); i++) attn_release(ctx, arrays[i]);
    *h = (attn_hypothesis){0};
}
