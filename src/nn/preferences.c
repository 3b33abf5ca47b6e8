/* preferences.c: the loss of Rafailov et al. 2023, "Direct Preference Optimization", (7).
 *
 * Of two answers to one prompt people preferred the first. l_c and l_r are their log-probabilities (sums over tokens),
 * k_c and k_r those of the reference:
 *     m = beta ((l_c − k_c) − (l_r − k_r)),   loss = −log σ(m),   dl_c = −beta σ(−m),   dl_r = beta σ(−m)
 * The forward pass leaves dlogits of −log p in place of the logits, row by row; backward multiplies a row by −dl of its
 * sequence. */
#include "nn/tape.h"
#include "ops/cross_entropy.h"

#include <math.h>

typedef struct preferences_node {
    attn_node node;
    attn_var *logits;
    float *dlogits;    /* (R, V) softmax − one-hot */
    const int32_t *cu; /* (B + 1) rows of each sequence */
    float *factor;     /* (B) −dl */
    size_t sequences;
} preferences_node;

static bool check(attn_tape *tape, const attn_var *logits, const attn_preference_rows *rows) {
    const size_t n = rows->sequences, count = attn_rows_of(&logits->value, NULL).shape[0];
    if (n % 2)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "preferences: %zu answers, expected a chosen and a rejected each", n),
               false;
    if (rows->cu[0] != 0 || (size_t)rows->cu[n] != count)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "preferences: cu ends at %d, expected %zu rows", (int)rows->cu[n],
                              count),
               false;
    if (!(rows->beta > 0))
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "preferences: beta is %g, expected a number above 0",
                              (double)rows->beta),
               false;
    return true;
}

/* Fills factor; adds to stats; gives the sum of losses. */
static double compare(const attn_preference_rows *rows, const double *log_prob, float *factor, float grad_scale,
                      attn_loss_stats *stats) {
    const double beta = (double)rows->beta;
    double sum = 0;
    for (size_t b = 0; b + 1 < rows->sequences; b += 2) {
        double margin = 0; /* the reference is the model itself */
        if (rows->reference)
            margin = beta *
                     ((log_prob[b] - (double)rows->reference[b]) - (log_prob[b + 1] - (double)rows->reference[b + 1]));
        const double loss = margin > 0 ? log1p(exp(-margin)) : log1p(exp(margin)) - margin;
        const double wrong = 1 / (1 + exp(margin)); /* σ(−m) */
        factor[b] = (float)(beta * wrong) * grad_scale;
        factor[b + 1] = -factor[b];
        sum += loss;
        if (!stats) continue;
        stats->loss += loss;
        stats->nll += loss;
        stats->tokens++;
        stats->correct += log_prob[b] > log_prob[b + 1];
    }
    return sum;
}

attn_var *attn_tape_preferences(attn_tape *tape, attn_var *logits, const int32_t *targets,
                                const attn_preference_rows *rows, float grad_scale, attn_loss_stats *stats) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "preferences", "logits", logits) || !check(tape, logits, rows))
        return NULL;
    const size_t n = rows->sequences;
    attn_var *loss = attn_tape_var(tape, 0, NULL, logits->needs_grad);
    attn_tensor in = attn_rows_of(&logits->value, logits->value.data), dlogits = in;
    double *nll = attn_tape_memory(tape, in.shape[0] + n, sizeof *nll), *log_prob = nll ? nll + in.shape[0] : NULL;
    float *factor = attn_tape_memory(tape, n, sizeof *factor);
    if (!loss || !nll || !factor) return NULL;
    const bool in_place = loss->needs_grad && logits->disposable && logits->readers == 1;
    if (loss->needs_grad && !in_place &&
        !(dlogits.data = attn_tape_memory(tape, attn_tensor_count(&in), sizeof(float))))
        return NULL;
    if (!attn_tape_check(tape, attn_token_losses(tape->ctx, nll, loss->needs_grad ? &dlogits : NULL, &in, targets)))
        return NULL;
    logits->spent = in_place;
    for (size_t b = 0; b < n; b++) {
        log_prob[b] = 0;
        for (int32_t r = rows->cu[b]; r < rows->cu[b + 1]; r++) log_prob[b] -= nll[r];
        if (rows->log_prob) rows->log_prob[b] = (float)log_prob[b];
    }
    *(float *)loss->value.data = (float)(compare(rows, log_prob, factor, grad_scale, stats) * (double)grad_scale);
    if (!loss->needs_grad) return loss;
    const int32_t *cu = attn_tape_copy(tape, rows->cu, n + 1, sizeof *cu);
    preferences_node *node = cu ? attn_tape_push(tape, ATTN_OPERATION_preferences, loss, sizeof *node) : NULL;
    if (!node) return NULL;
    node->logits = logits;
    node->dlogits = dlogits.data;
    node->cu = cu, node->factor = factor, node->sequences = n;
    return loss;
}

attn_status attn_backward_preferences(attn_tape *tape, attn_node *node) {
    const preferences_node *own = (const preferences_node *)node;
    const float dloss = *(const float *)node->out->grad.data;
    const size_t v = attn_rows_of(&own->logits->value, NULL).shape[1];
    for (size_t b = 0; b < own->sequences; b++) {
        float *rows = own->dlogits + (size_t)own->cu[b] * v;
        attn_scale_floats(tape->ctx, rows, rows, own->factor[b] * dloss, (size_t)(own->cu[b + 1] - own->cu[b]) * v);
    }
    return attn_grad_pass(tape, own->logits, own->dlogits);
}
