/* attn/generate.h: language models: what they expect next, and text that goes on. */
#ifndef ATTN_GENERATE_H
#define ATTN_GENERATE_H

#include <attn/models.h>

#ifdef __cplusplus
extern "C" {
#endif

/* True for "gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2" and "gemma3_text", which attn_model_load reads from
 * folders as transformers writes them. */
ATTN_API bool attn_model_is_language_model(const attn_model *model);
/* Tokens that a text may have, prompt and continuation together. */
ATTN_API size_t attn_model_context_length(const attn_model *model);

/* logits (B, T, V) of ids (B, T): row t of sequence b is what comes after its tokens up to t. first: B ints or NULL;
 * the tokens of sequence b before first[b] are padding: they change nothing, whatever they are, and their rows are
 * zeros. An id outside the vocabulary is ATTN_E_ARGUMENT, T above the context length ATTN_E_SHAPE. */
ATTN_API attn_status attn_language_logits(const attn_model *model, float *logits, const int32_t *ids, size_t batch,
                                          size_t steps, const int32_t *first);

#ifdef __cplusplus
}
#endif
#endif
