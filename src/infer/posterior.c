/* posterior.c: which source position explains the token that came.
 *
 * α_ij is computed before y_i is known: it says where the model looks for the next token, whichever that will be. Where
 * a translation is given, Bayes' rule says where y_i came from (Shankar & Sarawagi 2019, "Posterior Attention Models
 * for Sequence to Sequence Learning"): P(j | y_1 … y_i) = α_ij p(y_i | j) / Σ_k α_ik p(y_i | k) p(y_i | j) is the
 * model's probability of y_i when all attention is on position j. A source of one position leaves no choice, so one
 * step of the decoder over S sources, each a single position of the sentence, gives it for every j. */
#include "infer/posterior.h"

#include <math.h>

/* A part of the decoder for `width` sources of one position: the encoded source (S, B, n) gives each its position, the
 * state (1, B, n) is the same for all. */
static attn_var *spread(attn_tape *tape, const attn_var *part, bool fixed, const int32_t *slots, size_t width) {
    const attn_tensor *t = attn_var_value(part);
    attn_var *x = attn_tape_select(tape, attn_tape_input(tape, t, false), 1, slots, fixed ? 1 : width);
    if (!x || !fixed) return x;
    attn_tensor positions = attn_tensor_f32(attn_var_value(x)->data, 3, (size_t)1, width, t->shape[2]);
    return attn_tape_input(tape, &positions, false);
}

/* α_j p_j / Σ α_k p_k; log_probs (width, V). */
static void weigh(float *alignment, size_t width, const float *log_probs, size_t vocab_size, int32_t next) {
    float most = -INFINITY, sum = 0;
    for (size_t j = 0; j < width; j++) {
        alignment[j] = logf(alignment[j]) + log_probs[j * vocab_size + (size_t)next];
        most = fmaxf(most, alignment[j]);
    }
    for (size_t j = 0; j < width; j++) sum += alignment[j] = expf(alignment[j] - most);
    for (size_t j = 0; j < width; j++) alignment[j] /= sum;
}

attn_status attn_posterior_row(float *alignment, const attn_model *model, attn_tape *tape, const attn_decoder *before,
                               size_t slot, size_t width, int32_t last, int32_t next) {
    int32_t *slots = attn_alloc(model->ctx, width, 3 * sizeof *slots);
    if (!slots) return ATTN_E_NOMEM;
    int32_t *ids = slots + width, *lengths = slots + 2 * width;
    for (size_t j = 0; j < width; j++) {
        slots[j] = (int32_t)slot;
        ids[j] = last;
        lengths[j] = 1;
    }
    attn_tape_reset(tape);
    attn_decoder one = {
        .fixed = before->fixed, .count = before->count, .beams = 1, .batch = width, .source_lengths = lengths};
    for (size_t i = 0; i < one.count; i++) one.part[i] = spread(tape, before->part[i], i < one.fixed, slots, width);
    attn_var *log_probs = NULL;
    if (attn_tape_status(tape) == ATTN_OK)
        log_probs = attn_tape_log_softmax(tape, model->class->step(model, tape, &one, ids, NULL));
    if (attn_tape_status(tape) == ATTN_OK)
        weigh(alignment, width, attn_var_value(log_probs)->data, model->vocab_size, next);
    attn_release(model->ctx, slots);
    return attn_tape_status(tape);
}
