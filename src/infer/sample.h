/* sample.h: one token from logits. */
#ifndef ATTN_INFER_SAMPLE_H
#define ATTN_INFER_SAMPLE_H

#include "base/base.h"
#include <attn/generate.h>

enum { ATTN_SAMPLER_LIKELIEST = 256 }; /* so many are found without a look at the others */

typedef struct attn_candidate {
    int32_t id;
    double logit, weight;
} attn_candidate;

typedef struct attn_sampler {
    attn_context *ctx;
    size_t vocabulary;
    attn_random random;
    attn_candidate *candidate; /* (vocabulary), of which there are `count`, */
    size_t count, sorted;      /* and the first `sorted` are in their places, largest first */
    int32_t id[ATTN_SAMPLER_LIKELIEST];
    float value[ATTN_SAMPLER_LIKELIEST];
    bool *seen; /* (vocabulary) for the penalty */
} attn_sampler;

attn_status attn_sampler_create(attn_sampler *sampler, attn_context *ctx, size_t vocabulary, uint64_t seed);
void attn_sampler_free(attn_sampler *sampler);
/* The next token after `history`. Logits that are not finite numbers, but −inf, are ATTN_E_NUMERIC. */
attn_status attn_sample(attn_sampler *sampler, int32_t *id, const float *logits, const int32_t *history, size_t n,
                        const attn_generate_options *options);

#endif
