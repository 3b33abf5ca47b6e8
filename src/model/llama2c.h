/* llama2c.h: a whole Llama in one file as llama2.c writes it (its first form, without a magic number): seven integers,
 * then f32 matrices of one kind after the other, of all layers together. Given are its tensors layer by layer under
 * the names that Meta's own files have. */
#ifndef ATTN_MODEL_LLAMA2C_H
#define ATTN_MODEL_LLAMA2C_H

#include "base/base.h"
#include <attn/io.h>

typedef struct attn_llama2c attn_llama2c;

/* Maps and checks the file: sizes in their ranges, as many bytes as they make. gives. */
attn_status attn_llama2c_open(attn_llama2c **gives, attn_context *ctx, const char *path);
void attn_llama2c_close(attn_llama2c *file); /* NULL is fine */
size_t attn_llama2c_count(const attn_llama2c *file);
const attn_named_tensor *attn_llama2c_at(const attn_llama2c *file, size_t index);
/* The config.json of such a model. gives. */
attn_status attn_llama2c_config(const attn_llama2c *file, char **json);

#endif
