/* safetensors_save.c: writes tensors and metadata as one safetensors file.
 *
 * Layout: 8 bytes length of the header, little-endian; the header, JSON, padded by spaces; the data. Tensors of larger
 * elements come first, so that each is aligned to its element.                                                      */
#include "io/file.h"
#include <attn/io.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DATA_ALIGNMENT = 64 };

static int add_piece(const char *text, size_t bytes, void *out) {
    attn_buffer_add(out, text, bytes);
    return 0;
}

/* Appends text as a JSON string. */
static void add_json(attn_buffer *out, const char *text) {
    json_t *string = json_string(text); /* NULL: not UTF-8 */
    if (string) json_dump_callback(string, add_piece, out, JSON_ENCODE_ANY);
    else if (out->status == ATTN_OK)
        out->status = attn_fail(out->ctx, ATTN_E_ARGUMENT, "safetensors: \"%.60s\" is not UTF-8", text);
    json_decref(string);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names must differ, tensors must be contiguous. */
static attn_status check_tensors(attn_context *ctx, const attn_named_tensor *tensors, size_t n) {
    const char **names = attn_alloc(ctx, n, sizeof *names);
    if (!names) return ATTN_E_NOMEM;
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        names[i] = tensors[i].name;
        if (!strcmp(names[i], "__metadata__"))
            status = attn_fail(ctx, ATTN_E_ARGUMENT, "safetensors: a tensor cannot be called __metadata__");
        else if (!attn_tensor_is_contiguous(&tensors[i].tensor))
            status = attn_fail(ctx, ATTN_E_SHAPE, "safetensors: \"%.80s\": expected a contiguous tensor", names[i]);
    }
    if (status == ATTN_OK && n > 1) qsort(names, n, sizeof *names, compare_names);
    for (size_t i = 1; i < n && status == ATTN_OK; i++)
        if (!strcmp(names[i - 1], names[i]))
            status = attn_fail(ctx, ATTN_E_ARGUMENT, "safetensors: two tensors are called \"%.80s\"", names[i]);
    attn_release(ctx, names);
    return status;
}

static attn_status make_header(attn_buffer *out, const attn_named_tensor *tensors, size_t n,
                               const attn_key_value *metadata, size_t n_metadata) {
    size_t offset = 0;
    bool first = true;
    attn_buffer_add(out, "\0\0\0\0\0\0\0\0{", 9); /* the length is filled in at the end */
    if (n_metadata) {
        attn_buffer_text(out, "\"__metadata__\":{");
        for (size_t i = 0; i < n_metadata; i++) {
            if (i) attn_buffer_text(out, ",");
            add_json(out, metadata[i].key);
            attn_buffer_text(out, ":");
            add_json(out, metadata[i].value);
        }
        attn_buffer_text(out, "}");
        first = false;
    }
    for (size_t size = 8; size >= 1; size /= 2) {
        for (size_t i = 0; i < n; i++) {
            const attn_tensor *tensor = &tensors[i].tensor;
            if (attn_dtype_size(tensor->dtype) != size) continue;
            size_t bytes, end;
            if (!attn_size_mul(&bytes, attn_tensor_count(tensor), size) || !attn_size_add(&end, offset, bytes))
                return attn_fail(out->ctx, ATTN_E_SHAPE, "safetensors: \"%.80s\": too large", tensors[i].name);
            if (!first) attn_buffer_text(out, ",");
            first = false;
            add_json(out, tensors[i].name);
            attn_buffer_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", attn_dtype_name(tensor->dtype));
            for (int d = 0; d < tensor->rank; d++) attn_buffer_printf(out, d ? ",%zu" : "%zu", tensor->shape[d]);
            attn_buffer_printf(out, "],\"data_offsets\":[%zu,%zu]}", offset, end);
            offset = end;
        }
    }
    attn_buffer_text(out, "}");
    while (out->status == ATTN_OK && out->bytes % DATA_ALIGNMENT) attn_buffer_text(out, " ");
    ATTN_TRY(out->status);
    uint64_t length = out->bytes - 8;
    for (int i = 0; i < 8; i++) out->data[i] = (char)(length >> (8 * i) & 255);
    return ATTN_OK;
}

attn_status attn_safetensors_save(attn_context *ctx, const char *path, const attn_named_tensor *tensors, size_t n,
                                  const attn_key_value *metadata, size_t n_metadata) {
    ATTN_TRY(check_tensors(ctx, tensors, n));
    attn_buffer header = ATTN_BUFFER_INIT(ctx);
    attn_writer writer;
    attn_status status = make_header(&header, tensors, n, metadata, n_metadata);
    if (status == ATTN_OK) status = attn_writer_open(&writer, ctx, path);
    if (status == ATTN_OK) {
        attn_writer_put(&writer, header.data, header.bytes);
        for (size_t size = 8; size >= 1; size /= 2)
            for (size_t i = 0; i < n; i++)
                if (attn_dtype_size(tensors[i].tensor.dtype) == size)
                    attn_writer_put(&writer, tensors[i].tensor.data, attn_tensor_count(&tensors[i].tensor) * size);
        status = attn_writer_close(&writer);
    }
    attn_buffer_free(&header);
    return status;
}
