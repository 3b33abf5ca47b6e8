/* golden.h: a model of tests/golden, and what it must give: a folder with expected.safetensors beside its files. */
#ifndef ATTN_TESTS_GOLDEN_H
#define ATTN_TESTS_GOLDEN_H

#include "support/test.h"
#include <attn/io.h>
#include <attn/models.h>
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

#endif
