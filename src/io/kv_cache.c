/* kv_cache.c: the state of a cache of keys and values in a file. */
#include "io/file.h"

#include <attn/io.h>
#include <stdio.h>

attn_status attn_kv_cache_save(attn_context *ctx, const attn_kv_cache *cache, const char *path) {
    unsigned char *data;
    size_t bytes;
    ATTN_TRY(attn_kv_cache_serialise(ctx, cache, &data, &bytes));
    attn_status status = attn_file_write(ctx, path, data, bytes);
    attn_kv_cache_bytes_free(ctx, data);
    return status;
}

attn_status attn_kv_cache_load(attn_kv_cache **gives, attn_context *ctx, const char *path) {
    *gives = NULL;
    attn_mapping mapping;
    ATTN_TRY(attn_map_file(&mapping, ctx, path));
    attn_status status = attn_kv_cache_deserialise(gives, ctx, mapping.data, mapping.bytes);
    attn_unmap_file(&mapping);
    if (status == ATTN_OK) return ATTN_OK;
    char sentence[512];
    snprintf(sentence, sizeof sentence, "%s", attn_error(ctx));
    return attn_fail(ctx, status, "%s: %s", path, sentence);
}
