/* golden.h: a model of tests/golden, and what it must give: a folder with expected.safetensors beside its files. */
#ifndef ATTN_TESTS_GOLDEN_H
#define ATTN_TESTS_GOLDEN_H

#include "support/test.h"
#include <attn/io.h>
#include <attn/models.h>
#include <math.h>
#include <stdio.h>

static inline attn_model *golden_open(attn_context *ctx, attn_safetensors **expected, const char *kind,
                                      const char *name) {
    char folder[4096], path[4200];
    const char *root = getenv("ATTN_TEST_SOURCE");
    attn_model *model;
    snprintf(folder, sizeof folder, "%s/tests/golden/%s/%s", root ? root : ".", kind, name);
    snprintf(path, sizeof path, "%s/expected.safetensors", folder);
    if (attn_model_load(&model, ctx, folder) != ATTN_OK || attn_safetensors_open(expected, ctx, path) != ATTN_OK)
        fail_msg("%s: %s", name, attn_error(ctx));
    return model;
}

/* Queries and keys of a layer are those of its weights (heads, rows, columns): where a weight is not 0, it is the
 * softmax of the scores, which are computed here in double. */
static inline void check_look_vectors(const attn_look_vectors *v, const float *weights) {
    double *score = malloc(v->columns * sizeof *score);
    assert_true(v->heads % v->key_heads == 0 && v->head_size > 0);
    for (size_t at = 0; at < v->heads * v->rows; at++) {
        const float *q = v->queries + at * v->head_size, *w = weights + at * v->columns;
        const float *keys = v->keys + at / v->rows * v->key_heads / v->heads * v->columns * v->head_size;
        double sum = 0;
        for (size_t j = 0; j < v->columns; j++) {
            score[j] = 0;
            for (size_t c = 0; c < v->head_size; c++)
                score[j] += (double)q[c] * (double)keys[j * v->head_size + c] * (double)v->scale;
            if (v->softcap != 0) score[j] = (double)v->softcap * tanh(score[j] / (double)v->softcap);
            if (w[j] != 0) sum += exp(score[j]);
        }
        assert_true(sum > 0);
        for (size_t j = 0; j < v->columns; j++)
            if (w[j] != 0 && !(fabs(exp(score[j]) / sum - (double)w[j]) < 1e-5))
                fail_msg("row %zu, column %zu: %g, the weight is %g", at, j, exp(score[j]) / sum, (double)w[j]);
    }
    free(score);
}

#endif
