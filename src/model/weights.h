/* weights.h: the weights of a folder: model.safetensors, or the shards that model.safetensors.index.json lists.
 *
 * They are stored as F32, BF16, F16 or I8. An I8 matrix W (N, K) has beside it `name.scale` (N) in F32:
 *     W[n][k] = scale[n] · q[n][k],  scale[n] = max_k |W[n][k]| / 127
 * Vectors are not stored as I8. Whatever is stored, a loaded model computes in f32. A model's class may say that a
 * parameter is stored under another name, transposed, or as a part of a larger tensor (attn_stored_form). */
#ifndef ATTN_MODEL_WEIGHTS_H
#define ATTN_MODEL_WEIGHTS_H

#include "model/model.h"
#include <attn/io.h>

enum { ATTN_MODEL_PATH = 4096, ATTN_MAX_SHARDS = 1024 };

struct attn_weights {
    attn_context *ctx;
    attn_safetensors **file; /* (files) */
    char **path;             /* (files) */
    size_t files;
};

attn_status attn_weights_open(attn_weights **gives, attn_context *ctx, const char *folder);
void attn_weights_close(attn_weights *weights);
/* NULL if there is none. *path (NULL: not wanted) gets the file's. */
const attn_tensor *attn_weights_find(const attn_weights *weights, const char *name, const char **path);
/* Every stored tensor must be of a parameter, or the scale of one that is stored as I8, or one that the class ignores.
 */
attn_status attn_weights_check_extra(const attn_weights *weights, const attn_model *model);

/* Writes all parameters into a file. */
attn_status attn_weights_save(const attn_model *model, const char *path, attn_dtype dtype);

attn_stored_form attn_model_stored_form(const attn_model *model, const char *name);
attn_status attn_model_path(attn_context *ctx, char path[ATTN_MODEL_PATH], const char *folder, const char *file);
/* A JSON file's text, which must be of sensible size and have no NUL: it may come from anybody. gives. */
attn_status attn_model_read_text(attn_context *ctx, char **gives, const char *path, size_t most);
/* The first element that is not finite, or count. */
size_t attn_find_not_finite(const float *x, size_t count);

#endif
