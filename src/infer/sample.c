/* sample.c: from logits to a token.
 *
 * In this order: the repetition penalty (Keskar et al. 2019) on tokens that the text has already; temperature; top-k
 * (Fan et al. 2018); top-p (Holtzman et al. 2020): the likeliest tokens that together have p; min-p (Nguyen et al.
 * 2024): those with at least min-p times the likeliest one's probability; then a draw. Everything is computed in
 * double, in an order that depends on the logits alone. */
#include "infer/sample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

attn_status attn_sampler_create(attn_sampler *sampler, attn_context *ctx, size_t vocabulary, uint64_t seed) {
    *sampler = (attn_sampler){.ctx = ctx, .vocabulary = vocabulary, .random = {seed, 1, 0}};
    sampler->candidate = attn_alloc(ctx, vocabulary, sizeof *sampler->candidate);
    sampler->seen = attn_alloc_zero(ctx, vocabulary, sizeof *sampler->seen);
    if (sampler->candidate && sampler->seen) return ATTN_OK;
    attn_sampler_free(sampler);
    return ATTN_E_NOMEM;
}

void attn_sampler_free(attn_sampler *sampler) {
    attn_release(sampler->ctx, sampler->candidate);
    attn_release(sampler->ctx, sampler->seen);
    sampler->candidate = NULL;
    sampler->seen = NULL;
}

/* Largest first; of equal ones the lower id. */
static int compare(const void *a, const void *b) {
    const attn_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Candidates with the penalty applied. */
static attn_status prepare(attn_sampler *sampler, const float *logits, const int32_t *history, size_t n,
                           double penalty) {
    const bool penalises = penalty != 1;
    for (size_t i = 0; penalises && i < n; i++) sampler->seen[history[i]] = true;
    for (size_t i = 0; i < sampler->vocabulary; i++) {
        double x = (double)logits[i];
        if (isnan(x) || x == (double)INFINITY)
            return attn_fail(sampler->ctx, ATTN_E_NUMERIC, "the logit of token %zu is %g", i, x);
        if (penalises && sampler->seen[i]) x = x > 0 ? x / penalty : x * penalty;
        sampler->candidate[i] = (attn_candidate){(int32_t)i, x, 0};
    }
    for (size_t i = 0; penalises && i < n; i++) sampler->seen[history[i]] = false;
    return ATTN_OK;
}

static int32_t likeliest(const attn_sampler *sampler) {
    size_t best = 0;
    for (size_t i = 1; i < sampler->vocabulary; i++)
        if (sampler->candidate[i].logit > sampler->candidate[best].logit) best = i;
    return sampler->candidate[best].id;
}

/* How many of the sorted candidates stay; their weights sum to *total. */
static size_t keep(attn_sampler *sampler, const attn_generate_options *o, double *total) {
    attn_candidate *c = sampler->candidate;
    size_t n = sampler->vocabulary;
    if (o->top_k > 0 && o->top_k < n) n = o->top_k;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += c[i].weight = exp((c[i].logit - c[0].logit) / (double)o->temperature);
    double reached = 0;
    size_t kept = 0;
    while (kept < n && (kept == 0 || (reached < (double)o->top_p * sum && c[kept].weight >= (double)o->min_p)))
        reached += c[kept++].weight;
    *total = reached;
    return kept;
}

attn_status attn_sample(attn_sampler *sampler, int32_t *id, const float *logits, const int32_t *history, size_t n,
                        const attn_generate_options *options) {
    ATTN_TRY(prepare(sampler, logits, history, n, (double)options->repetition_penalty));
    if (options->temperature == 0) {
        *id = likeliest(sampler);
        return ATTN_OK;
    }
    qsort(sampler->candidate, sampler->vocabulary, sizeof *sampler->candidate, compare);
    double total;
    const size_t kept = keep(sampler, options, &total);
    double at = attn_random_uniform(&sampler->random) * total;
    size_t chosen = 0;
    while (chosen + 1 < kept && at >= sampler->candidate[chosen].weight) at -= sampler->candidate[chosen++].weight;
    *id = sampler->candidate[chosen].id;
    return ATTN_OK;
}
