/* gguf_write.c: header, metadata, descriptions of tensors, and their data at multiples of 32 bytes. Everything is
 * little-endian. */
#include "io/gguf_write.h"
#include "base/half.h"
#include "io/file.h"

#include <math.h>
#include <string.h>

enum { VERSION = 3, ALIGNMENT = 32 };

static void put_number(attn_buffer *out, uint64_t value, size_t bytes) {
    char data[8];
    for (size_t i = 0; i < bytes; i++) data[i] = (char)(value >> (8 * i) & 255);
    attn_buffer_add(out, data, bytes);
}

static void put_text(attn_buffer *out, const char *text, size_t bytes) {
    put_number(out, bytes, 8);
    attn_buffer_add(out, text, bytes);
}

/* ---- metadata ------------------------------------------------------------------------------- */

static attn_buffer *begin(attn_gguf_writer *w, const char *key, attn_gguf_kind kind) {
    w->keys++;
    put_text(&w->metadata, key, strlen(key));
    put_number(&w->metadata, kind, 4);
    return &w->metadata;
}

void attn_gguf_put_text(attn_gguf_writer *w, const char *key, const char *text) {
    put_text(begin(w, key, ATTN_GGUF_TEXTS), text, strlen(text));
}

void attn_gguf_put_size(attn_gguf_writer *w, const char *key, size_t value) {
    if (value > UINT32_MAX && w->metadata.status == ATTN_OK)
        w->metadata.status = attn_fail(w->metadata.ctx, ATTN_E_SHAPE, "\"%s\": %zu is too large", key, value);
    put_number(begin(w, key, ATTN_GGUF_UINT32), value, 4);
}

void attn_gguf_put_float(attn_gguf_writer *w, const char *key, float value) {
    put_number(begin(w, key, ATTN_GGUF_FLOATS), attn_float_bits(value), 4);
}

void attn_gguf_put_bool(attn_gguf_writer *w, const char *key, bool value) {
    put_number(begin(w, key, ATTN_GGUF_BOOL), value, 1);
}

void attn_gguf_put_array(attn_gguf_writer *w, const char *key, attn_gguf_kind kind, size_t count) {
    enum { ARRAY = 9 };
    attn_buffer *out = begin(w, key, (attn_gguf_kind)ARRAY);
    put_number(out, kind, 4);
    put_number(out, count, 8);
}

void attn_gguf_element_text(attn_gguf_writer *w, const char *text, size_t bytes) {
    put_text(&w->metadata, text, bytes);
}

void attn_gguf_element_int(attn_gguf_writer *w, int32_t value) { put_number(&w->metadata, (uint32_t)value, 4); }

void attn_gguf_element_float(attn_gguf_writer *w, float value) { put_number(&w->metadata, attn_float_bits(value), 4); }

/* ---- tensors -------------------------------------------------------------------------------- */

void attn_gguf_put_tensor(attn_gguf_writer *w, const char *name, attn_gguf_type type, int rank, const size_t *shape,
                          const void *data) {
    attn_context *ctx = w->metadata.ctx;
    if (w->metadata.status != ATTN_OK) return;
    w->metadata.status = attn_grow(ctx, &w->tensor, &w->capacity, w->tensors + 1, w->tensors, sizeof *w->tensor);
    if (w->metadata.status != ATTN_OK) return;
    attn_gguf_put *t = &w->tensor[w->tensors];
    size_t elements = 1, bytes = 1, count = 1;
    attn_gguf_type_block(type, &elements, &bytes);
    *t = (attn_gguf_put){.name = attn_copy_text(ctx, name, strlen(name)), .type = type, .rank = rank, .data = data};
    for (int d = 0; d < rank; d++) t->shape[d] = shape[d], count *= shape[d];
    t->bytes = count / elements * bytes;
    if (t->name) w->tensors++;
    else w->metadata.status = ATTN_E_NOMEM;
}

static size_t padded(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static attn_status make_header(attn_buffer *out, const attn_gguf_writer *w) {
    size_t offset = 0;
    attn_buffer_add(out, "GGUF", 4);
    put_number(out, VERSION, 4);
    put_number(out, w->tensors, 8);
    put_number(out, w->keys, 8);
    attn_buffer_add(out, w->metadata.data, w->metadata.bytes);
    for (size_t i = 0; i < w->tensors; i++) {
        const attn_gguf_put *t = &w->tensor[i];
        put_text(out, t->name, strlen(t->name));
        put_number(out, (uint64_t)t->rank, 4);
        for (int d = t->rank; d-- > 0;) put_number(out, t->shape[d], 8); /* the fastest first */
        put_number(out, t->type, 4);
        put_number(out, offset, 8);
        offset += padded(t->bytes);
    }
    while (out->status == ATTN_OK && out->bytes % ALIGNMENT) attn_buffer_add(out, "", 1);
    return out->status;
}

attn_status attn_gguf_write(attn_gguf_writer *w, const char *path) {
    static const char zeros[ALIGNMENT];
    attn_context *ctx = w->metadata.ctx;
    ATTN_TRY(w->metadata.status);
    attn_buffer header = ATTN_BUFFER_INIT(ctx);
    attn_writer writer;
    attn_status status = make_header(&header, w);
    if (status == ATTN_OK) status = attn_writer_open(&writer, ctx, path);
    if (status == ATTN_OK) {
        attn_writer_put(&writer, header.data, header.bytes);
        for (size_t i = 0; i < w->tensors; i++) {
            attn_writer_put(&writer, w->tensor[i].data, w->tensor[i].bytes);
            attn_writer_put(&writer, zeros, padded(w->tensor[i].bytes) - w->tensor[i].bytes);
        }
        status = attn_writer_close(&writer);
    }
    attn_buffer_free(&header);
    return status;
}

void attn_gguf_writer_free(attn_gguf_writer *w) {
    attn_context *ctx = w->metadata.ctx;
    for (size_t i = 0; i < w->tensors; i++) attn_release(ctx, w->tensor[i].name);
    attn_release(ctx, w->tensor);
    attn_buffer_free(&w->metadata);
    *w = (attn_gguf_writer)ATTN_GGUF_WRITER_INIT(ctx);
}

/* ---- numbers -------------------------------------------------------------------------------- */

/* Finite stays finite. */
static uint16_t finite_bf16_of(float x) {
    const uint16_t half = attn_bf16_of(x);
    return isfinite(x) && (half & 0x7FFF) == 0x7F80 ? (uint16_t)(half - 1) : half;
}

static void put_half(unsigned char *to, uint16_t half) { to[0] = half & 255, to[1] = (unsigned char)(half >> 8); }

/* d = max |x| / 127, q = x / d to nearest, ties away from 0. */
static void put_Q8_0(unsigned char *to, const float *x) {
    float top = 0;
    for (int i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[i]));
    const float d = top / 127, inverse = d > 0 ? 1 / d : 0;
    put_half(to, attn_f16_of(d));
    for (int i = 0; i < 32; i++)
        to[2 + i] = (unsigned char)(signed char)lroundf(fminf(fmaxf(x[i] * inverse, -127), 127));
}

bool attn_gguf_quantise(void *out, const float *x, size_t n, attn_gguf_type type) {
    unsigned char *to = out;
    switch (type) {
    case ATTN_GGUF_F32: memcpy(out, x, n * sizeof *x); return true;
    case ATTN_GGUF_F16:
        for (size_t i = 0; i < n; i++) put_half(to + 2 * i, attn_f16_of(x[i]));
        return true;
    case ATTN_GGUF_BF16:
        for (size_t i = 0; i < n; i++) put_half(to + 2 * i, finite_bf16_of(x[i]));
        return true;
    case ATTN_GGUF_Q8_0:
        for (size_t i = 0; i + 32 <= n; i += 32) put_Q8_0(to + i / 32 * 34, x + i);
        return true;
    default: return false;
    }
}
