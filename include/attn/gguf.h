/* attn/gguf.h: GGUF files (version 2 and 3): key-value metadata and tensors, which may be quantised.
 *
 *     attn_gguf *file;
 *     if (attn_gguf_open(&file, ctx, "model.gguf") != ATTN_OK) ...
 *     const attn_gguf_tensor *t = attn_gguf_find(file, "token_embd.weight");     // t->shape: rows, columns
 *     attn_gguf_dequantise(row, t, 7 * t->shape[1], t->shape[1]);                // row 7 as f32
 */
#ifndef ATTN_GGUF_H
#define ATTN_GGUF_H

#include <attn/models.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, GGUF's number, elements in a block, bytes of a block). A block is dequantised by itself. */
#define ATTN_GGUF_TYPE_LIST(X) \
    X(F32, 0, 1, 4)            \
    X(F16, 1, 1, 2)            \
    X(Q4_0, 2, 32, 18)         \
    X(Q4_1, 3, 32, 20)         \
    X(Q5_0, 6, 32, 22)         \
    X(Q5_1, 7, 32, 24)         \
    X(Q8_0, 8, 32, 34)         \
    X(Q4_K, 12, 256, 144)      \
    X(Q6_K, 14, 256, 210)      \
    X(BF16, 30, 1, 2)
typedef enum attn_gguf_type {
#define ATTN_GGUF_TYPE_ENUM(name, number, elements, bytes) ATTN_GGUF_##name = number,
    ATTN_GGUF_TYPE_LIST(ATTN_GGUF_TYPE_ENUM)
#undef ATTN_GGUF_TYPE_ENUM
} attn_gguf_type;

/* "Q4_K"; NULL for a number that is none of them. */
ATTN_API const char *attn_gguf_type_name(attn_gguf_type type);
/* Elements in a block and its bytes; false for a number that is none of them. */
ATTN_API bool attn_gguf_type_block(attn_gguf_type type, size_t *elements, size_t *bytes);

#define ATTN_GGUF_MAX_RANK 4

typedef struct attn_gguf_tensor {
    const char *name;
    attn_gguf_type type;
    int rank;                         /* 1 to 4 */
    size_t shape[ATTN_GGUF_MAX_RANK]; /* row-major, as everywhere here: the file's own order is the other way round */
    size_t count, bytes;              /* elements; bytes of data */
    const void *data;                 /* in the mapping, at a multiple of the file's alignment */
} attn_gguf_tensor;

typedef struct attn_gguf attn_gguf; /* a file, mapped read-only */

/* Maps and checks the file: every length, count, type and offset, no name twice, no overlap. A tensor of another type
 * is ATTN_E_UNSUPPORTED, anything else ATTN_E_FORMAT, with file, what was found and what was expected. gives. */
ATTN_API attn_status attn_gguf_open(attn_gguf **gives, attn_context *ctx, const char *path);
ATTN_API void attn_gguf_close(attn_gguf *file); /* NULL is fine */
ATTN_API size_t attn_gguf_count(const attn_gguf *file);
ATTN_API const attn_gguf_tensor *attn_gguf_at(const attn_gguf *file, size_t index);
ATTN_API const attn_gguf_tensor *attn_gguf_find(const attn_gguf *file, const char *name); /* NULL: there is none */

/* n elements from `first` on, both multiples of the type's block, as f32 (bf16 and f16 exactly). */
ATTN_API void attn_gguf_dequantise(float *out, const attn_gguf_tensor *t, size_t first, size_t n);

/* ---- metadata ------------------------------------------------------------------------------- */

/* Of a value that is one text: its bytes, in the mapping, without a NUL behind. false: absent, or of another kind. */
ATTN_API bool attn_gguf_text(const attn_gguf *file, const char *key, const char **text, size_t *bytes);
/* Of one number or truth value. */
ATTN_API bool attn_gguf_integer(const attn_gguf *file, const char *key, int64_t *value);
ATTN_API bool attn_gguf_number(const attn_gguf *file, const char *key, double *value); /* integers, too */
/* Elements of an array; 0: absent, or no array. */
ATTN_API size_t attn_gguf_array(const attn_gguf *file, const char *key);
/* Element i of an array of texts, of numbers; false: it is no such array, or shorter. */
ATTN_API bool attn_gguf_array_text(const attn_gguf *file, const char *key, size_t i, const char **text, size_t *bytes);
ATTN_API bool attn_gguf_array_number(const attn_gguf *file, const char *key, size_t i, double *value);
/* Keys in the file's order; NULL behind the last. */
ATTN_API const char *attn_gguf_key(const attn_gguf *file, size_t index);

/* Integers and halves as the file's types have them, from f32: F32, F16, BF16 (to nearest, ties to even) and Q8_0 (n a
 * multiple of 32); false for another type. */
ATTN_API bool attn_gguf_quantise(void *out, const float *x, size_t n, attn_gguf_type type);

/* A language model (gpt2, llama, qwen2, qwen3, gemma2, gemma3_text) with its tokenizer (byte-level BPE, or Llama's with
 * byte fallback) as one file, which llama.cpp reads too. type: of the matrices, one that attn_gguf_quantise takes;
 * vectors stay F32, and so do matrices whose rows have no whole blocks. chat: the chat template, or NULL. What the
 * format has no place for is ATTN_E_UNSUPPORTED, by name. */
ATTN_API attn_status attn_model_save_gguf(const attn_model *model, const attn_tokenizer *tokenizer, const char *chat,
                                          const char *path, attn_gguf_type type);

/* The tokenizer in the file: "gpt2" with a pattern that is known (gpt-2, smollm, llama-bpe, qwen2, …), or "llama".
 * gives. */
ATTN_API attn_status attn_tokenizer_of_gguf(attn_tokenizer **gives, attn_context *ctx, const attn_gguf *file);

#ifdef __cplusplus
}
#endif
#endif
