/* attn/io.h: files that other tools read too: safetensors and .npy; files that are whole or not there. */
#ifndef ATTN_IO_H
#define ATTN_IO_H

#include <attn/cache.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes bytes to a temporary file beside path, syncs, renames, syncs the folder: path holds the old bytes or all of
 * the new ones, whatever happens. On failure no temporary file stays. */
ATTN_API attn_status attn_file_write(attn_context *ctx, const char *path, const void *data, size_t bytes);
/* Makes a folder and those above it. An existing folder is fine. */
ATTN_API attn_status attn_folder_make(attn_context *ctx, const char *path);

/* A cache's state (attn_kv_cache_serialise) in a file that is whole or not there; back from it, as ATTN_E_FORMAT with
 * the file's name if it is anything else. gives. */
ATTN_API attn_status attn_kv_cache_save(attn_context *ctx, const attn_kv_cache *cache, const char *path);
ATTN_API attn_status attn_kv_cache_load(attn_kv_cache **gives, attn_context *ctx, const char *path);

/* ---- safetensors ---------------------------------------------------------------------------- */

typedef struct attn_safetensors attn_safetensors; /* a file, mapped read-only */

typedef struct attn_named_tensor {
    const char *name;
    attn_tensor tensor;
} attn_named_tensor;

typedef struct attn_key_value {
    const char *key, *value;
} attn_key_value;

/* Maps and checks the file: header length, JSON, dtypes, shapes, offsets inside the file, no overlap, no hole, no
 * duplicate name. Anything else is ATTN_E_FORMAT with file, tensor, found, expected. gives. */
ATTN_API attn_status attn_safetensors_open(attn_safetensors **gives, attn_context *ctx, const char *path);
ATTN_API void attn_safetensors_close(attn_safetensors *file);
ATTN_API size_t attn_safetensors_count(const attn_safetensors *file);
/* The tensor's data points into the mapping (aligned to its element size, or copied by the reader so that it is). */
ATTN_API const attn_named_tensor *attn_safetensors_at(const attn_safetensors *file, size_t index);
ATTN_API const attn_named_tensor *attn_safetensors_find(const attn_safetensors *file, const char *name);
ATTN_API const char *attn_safetensors_metadata(const attn_safetensors *file, const char *key); /* NULL if absent */
/* Atomic, streaming (no second copy of the data in memory); data starts at a multiple of 64 bytes. Tensors are
 * contiguous. */
ATTN_API attn_status attn_safetensors_save(attn_context *ctx, const char *path, const attn_named_tensor *tensors,
                                           size_t n, const attn_key_value *metadata, size_t n_metadata);

/* ---- .npy ----------------------------------------------------------------------------------- */

ATTN_API attn_status attn_npy_save(attn_context *ctx, const char *path,
                                   const attn_tensor *tensor); /* f32, i32, i64, u8, i8, f64 */

typedef struct attn_named_words {
    const char *name;
    const char *const *word; /* (n) */
    size_t n;
} attn_named_words;
/* Several arrays, contiguous, and lists of words (NumPy's str; what is not UTF-8 is U+FFFD) as one .npz, less than 4
 * GB. The same input gives the same bytes. */
ATTN_API attn_status attn_npz_save(attn_context *ctx, const char *path, const attn_named_tensor *tensors, size_t n,
                                   const attn_named_words *words, size_t n_words);

#ifdef __cplusplus
}
#endif
#endif
