/* sample.c: from logits to a token.
 *
 * In this order: the repetition penalty (Keskar et al. 2019) on tokens that the text has already; temperature; top-k
 * (Fan et al. 2018); top-p (Holtzman et al. 2020): the likeliest tokens that together have p; min-p (Nguyen et al.
 * 2024): those with at least min-p times the likeliest one's probability; then a draw. Everything is computed in
 * double, in an order that depends on the logits alone. Of a vocabulary only as many tokens are sorted as are looked
 * at. */
#include "infer/sample.h"
#include <attn/ops.h>

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

static attn_status check(const attn_sampler *sampler, const float *logits) {
    bool wrong = false;
    for (size_t i = 0; i < sampler->vocabulary; i++) wrong |= !(logits[i] < INFINITY); /* NaN too; without a branch */
    for (size_t i = 0; wrong && i < sampler->vocabulary; i++)
        if (!(logits[i] < INFINITY))
            return attn_fail(sampler->ctx, ATTN_E_NUMERIC, "the logit of token %zu is %g", i, (double)logits[i]);
    return ATTN_OK;
}

/* The k likeliest, sorted; nobody else is a candidate. */
static attn_status take_likeliest(attn_sampler *sampler, const float *logits, size_t k) {
    const attn_tensor row = attn_tensor_f32((void *)(uintptr_t)logits, 2, (size_t)1, sampler->vocabulary);
    ATTN_TRY(attn_top_k(sampler->ctx, sampler->id, sampler->value, &row, k));
    for (size_t i = 0; i < k; i++)
        sampler->candidate[i] = (attn_candidate){sampler->id[i], (double)sampler->value[i], 0};
    sampler->count = sampler->sorted = k;
    return ATTN_OK;
}

/* All tokens as candidates, with the penalty applied. */
static void take_all(attn_sampler *sampler, const float *logits, const int32_t *history, size_t n, double penalty) {
    const bool penalises = penalty != 1;
    for (size_t i = 0; penalises && i < n; i++) sampler->seen[history[i]] = true;
    for (size_t i = 0; i < sampler->vocabulary; i++) {
        double x = (double)logits[i];
        if (penalises && sampler->seen[i]) x = x > 0 ? x / penalty : x * penalty;
        sampler->candidate[i] = (attn_candidate){(int32_t)i, x, 0};
    }
    for (size_t i = 0; penalises && i < n; i++) sampler->seen[history[i]] = false;
    sampler->count = sampler->vocabulary;
    sampler->sorted = 0;
}

/* Puts the k largest of n first, in any order (Hoare 1961). */
static void select_largest(attn_candidate *c, size_t n, size_t k) {
    while (k > 0 && k < n) {
        const attn_candidate middle = c[(n - 1) / 2];
        size_t i = 0, j = n - 1;
        for (;; i++, j--) {
            while (compare(&c[i], &middle) < 0) i++;
            while (compare(&c[j], &middle) > 0) j--;
            if (i >= j) break;
            const attn_candidate other = c[i];
            c[i] = c[j], c[j] = other;
        }
        const size_t left = j + 1; /* 0 < left < n: these are no smaller than the middle one, the others no larger */
        if (k <= left) {
            n = left;
        } else {
            c += left, n -= left, k -= left;
        }
    }
}

/* At least the first n candidates are in their places. */
static void sort_to(attn_sampler *sampler, size_t n) {
    enum { FIRST = 64, TIMES = 4 };
    if (n <= sampler->sorted) return;
    const size_t from = sampler->sorted, wanted = ATTN_MAX(ATTN_MAX(n, (size_t)FIRST), TIMES * from);
    const size_t end = ATTN_MIN(wanted, sampler->count);
    select_largest(sampler->candidate + from, sampler->count - from, end - from);
    qsort(sampler->candidate + from, end - from, sizeof *sampler->candidate, compare);
    sampler->sorted = end;
}

/* How many of the candidates, in their order, stay; their weights sum to *total. */
static size_t keep(attn_sampler *sampler, const attn_generate_options *o, double *total) {
    attn_candidate *c = sampler->candidate;
    size_t n = sampler->count;
    if (o->top_k > 0 && o->top_k < n) sort_to(sampler, n = o->top_k);
    sort_to(sampler, 1);
    const double top = c[0].logit;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += c[i].weight = exp((c[i].logit - top) / (double)o->temperature);
    *total = sum;
    if (o->top_p >= 1 && o->min_p == 0) return n;
    double reached = 0;
    size_t kept = 0;
    while (kept < n) {
        sort_to(sampler, kept + 1);
        if (kept > 0 && !(reached < (double)o->top_p * sum && c[kept].weight >= (double)o->min_p)) break;
        reached += c[kept++].weight;
    }
    *total = reached;
    return kept;
}

attn_status attn_sample(attn_sampler *sampler, int32_t *id, const float *logits, const int32_t *history, size_t n,
                        const attn_generate_options *options) {
    const double penalty = (double)options->repetition_penalty;
    const size_t k = options->temperature == 0 ? 1 : options->top_k;
    ATTN_TRY(check(sampler, logits));
    if (penalty == 1 && k > 0 && k <= ATTN_SAMPLER_LIKELIEST && k <= sampler->vocabulary)
        ATTN_TRY(take_likeliest(sampler, logits, k));
    else take_all(sampler, logits, history, n, penalty);
    if (options->temperature == 0) {
        sort_to(sampler, 1);
        *id = sampler->candidate[0].id;
        return ATTN_OK;
    }
    double total;
    const size_t kept = keep(sampler, options, &total);
    double at = attn_random_uniform(&sampler->random) * total;
    size_t chosen = 0;
    for (sort_to(sampler, 1); chosen + 1 < kept && at >= sampler->candidate[chosen].weight;
         sort_to(sampler, chosen + 1))
        at -= sampler->candidate[chosen++].weight;
    *id = sampler->candidate[chosen].id;
    return ATTN_OK;
}
