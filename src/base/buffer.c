/* buffer.c: growing text.
 *   (I1) data is NULL, or data[bytes] is NUL and bytes < capacity
 *   (I2) after a failure nothing is added any more, and status says why */
#include "base/base.h"

#include <stdio.h>
#include <string.h>

/* Room for `bytes` more and the NUL. */
static bool reserve(attn_buffer *buffer, size_t bytes) {
    if (buffer->status != ATTN_OK) return false;
    size_t wanted;
    if (!attn_size_add(&wanted, buffer->bytes, bytes) || !attn_size_add(&wanted, wanted, 1)) {
        buffer->status = attn_fail(buffer->ctx, ATTN_E_NOMEM,
                                   "out of memory: a text of %zu and %zu bytes is more than the address space",
                                   buffer->bytes, bytes);
        return false;
    }
    buffer->status = attn_grow(buffer->ctx, &buffer->data, &buffer->capacity, wanted, buffer->bytes, 1);
    return buffer->status == ATTN_OK;
}

void attn_buffer_add(attn_buffer *buffer, const void *data, size_t bytes) {
    if (!reserve(buffer, bytes)) return;
    if (bytes) memcpy(buffer->data + buffer->bytes, data, bytes);
    buffer->bytes += bytes;
    buffer->data[buffer->bytes] = '\0';
}

void attn_buffer_text(attn_buffer *buffer, const char *text) { attn_buffer_add(buffer, text, strlen(text)); }

void attn_buffer_printf(attn_buffer *buffer, const char *format, ...) {
    if (!reserve(buffer, 0)) return;
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    size_t room = buffer->capacity - buffer->bytes;
    int length = vsnprintf(buffer->data + buffer->bytes, room, format, arguments);
    if (length < 0) {
        buffer->status = attn_fail(buffer->ctx, ATTN_E_ARGUMENT, "a text of the format \"%s\" cannot be made", format);
    } else if ((size_t)length < room) {
        buffer->bytes += (size_t)length;
    } else if (reserve(buffer, (size_t)length)) {
        vsnprintf(buffer->data + buffer->bytes, (size_t)length + 1, format, again);
        buffer->bytes += (size_t)length;
    }
    if (buffer->data) buffer->data[buffer->bytes] = '\0'; /* a failure may have left half a text behind the end */
    va_end(again);
    va_end(arguments);
}

void attn_buffer_free(attn_buffer *buffer) {
    if (buffer->data) attn_release(buffer->ctx, buffer->data);
    *buffer = (attn_buffer)ATTN_BUFFER_INIT(buffer->ctx);
}

attn_status attn_buffer_give(attn_buffer *buffer, char **out, size_t *bytes) {
    *out = NULL;
    if (bytes) *bytes = 0;
    attn_buffer_add(buffer, "", 0); /* an empty buffer gives "" */
    attn_status status = buffer->status;
    if (status == ATTN_OK) {
        *out = buffer->data;
        if (bytes) *bytes = buffer->bytes;
        buffer->data = NULL;
    }
    attn_buffer_free(buffer);
    return status;
}
