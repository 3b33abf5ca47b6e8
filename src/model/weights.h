/* weights.h: the weights of a folder: model.safetensors, or the shards that model.safetensors.index.json lists; or of
 * one file that is a whole model: GGUF, or llama2.c's .bin.
 *
 * In a folder they are stored as F32, BF16, F16 or I8. An I8 matrix W (N, K) has beside it `name.scale` (N) in F32:
 *     W[n][k] = scale[n] · q[n][k],  scale[n] = max_k |W[n][k]| / 127
 * Vectors are not stored as I8. What is stored becomes f32, but in models that keep integers
 * (attn_model_load_quantised) a matrix stored as such. A model's class may say that a parameter is stored under another
 * name, transposed, or as a part of a larger tensor (attn_stored_form). */
#ifndef ATTN_MODEL_WEIGHTS_H
#define ATTN_MODEL_WEIGHTS_H

#include "model/model.h"
#include <attn/gguf.h>
#include <attn/io.h>

enum { ATTN_MODEL_PATH = 4096, ATTN_MAX_SHARDS = 1024 };

/* A tensor as it lies in a file. */
typedef struct attn_stored {
    const char *name, *path;        /* the file's path; that of the first file where there is no such tensor */
    attn_tensor tensor;             /* without data where it has blocks */
    const attn_gguf_tensor *blocks; /* in one of GGUF's block formats; else NULL */
} attn_stored;

struct attn_weights {
    attn_context *ctx;
    attn_safetensors **file; /* (files) */
    char **path;             /* (files), or one */
    size_t files;
    attn_gguf *gguf;              /* in place of them, */
    struct attn_llama2c *llama2c; /* or this */
    attn_safetensors *adapter;    /* beside them, where the folder holds an adapter (adapter.c); else NULL */
    char *adapter_path;
    float adapter_scale;
};

/* A folder, a GGUF file, a file of llama2.c, a safetensors file. */
attn_status attn_weights_open(attn_weights **gives, attn_context *ctx, const char *path);
void attn_weights_close(attn_weights *weights);
/* False if there is none. out NULL: only that is asked. */
bool attn_weights_find(const attn_weights *weights, attn_stored *out, const char *name);
/* Every stored tensor must be of a parameter, or the scale of one that is stored as I8, or one that the class ignores.
 */
attn_status attn_weights_check_extra(const attn_weights *weights, const attn_model *model);

/* All parameters as they are stored, in F32: tensors with their names; owned data is released together. */
typedef struct attn_stored_set {
    attn_context *ctx;
    attn_named_tensor *tensor;
    void **owned;
    size_t count, owned_count;
    attn_tensor whole; /* of the parts that came so far */
} attn_stored_set;
typedef void attn_stored_form_of(const attn_model *model, attn_stored_form *form, const char *name);
/* set is zeros; to be freed also after a failure. */
attn_status attn_stored_set_make(attn_stored_set *set, const attn_model *model, attn_stored_form_of *form_of);
void attn_stored_set_free(attn_stored_set *set);
/* The stored row that is row r of W: rotary pairs may lie beside each other in it. */
size_t attn_stored_row(const attn_stored_form *form, size_t r);

/* Writes all parameters into a file. */
attn_status attn_weights_save(const attn_model *model, const char *path, attn_dtype dtype);

/* The config.json that a GGUF file's metadata make (gguf_config.c). gives. */
attn_status attn_gguf_config(attn_context *ctx, char **json, const attn_gguf *file, const char *path);
/* The settings of Build a Large Language Model (From Scratch) as GPT-2's config.json; any other text stays
 * (raschka_config.c). */
attn_status attn_raschka_settings(attn_context *ctx, char **json);
/* The config.json of such a model by its tensors' shapes. gives. */
attn_status attn_raschka_guess(attn_context *ctx, char **json, const attn_weights *weights);

attn_stored_form attn_model_stored_form(const attn_model *model, const char *name);
/* Whether a model of this name is one file; else it is a folder. */
bool attn_model_is_file(const char *path);
bool attn_model_is_safetensors(const char *path); /* by its name */
/* Whether the file begins as GGUF does. */
attn_status attn_model_is_gguf(attn_context *ctx, bool *out, const char *path);
attn_status attn_model_path(attn_context *ctx, char path[ATTN_MODEL_PATH], const char *folder, const char *file);
/* A JSON file's text, which must be of sensible size and have no NUL: it may come from anybody. gives. */
attn_status attn_model_read_text(attn_context *ctx, char **gives, const char *path, size_t most);
/* Such a text as JSON; flags: of json_loads. gives. */
struct json_t;
attn_status attn_model_read_json(attn_context *ctx, struct json_t **gives, const char *path, size_t most, size_t flags);
/* The first element that is not finite, or count. */
size_t attn_find_not_finite(const float *x, size_t count);

/* adapter.c. */
#define ATTN_ADAPTER_PREFIX "base_model.model." /* of the names in its file */
bool attn_adapter_is_there(attn_context *ctx, const char *folder);
/* alpha / r and the base's folder, from a folder with an adapter. gives *base. */
attn_status attn_adapter_base(attn_context *ctx, const char *folder, float *scale, char **base);
/* Adds the products of an adapter's file to the weights; each of its matrices must belong to one. */
attn_status attn_adapter_merge(attn_model *model, const attn_safetensors *file, const char *path, float scale);
/* What is learned in a model with an adapter, to the folder's files. */
attn_status attn_adapter_save(const attn_model *model, const char *folder);

#endif
