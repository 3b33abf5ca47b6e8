/* traced.c: text whose bytes know where they came from. */
#include "text/traced.h"

#include <string.h>

void attn_traced_clear(attn_traced *t) {
    t->text.bytes = 0;
    t->given = false;
    t->base = 0;
}

void attn_traced_free(attn_traced *t) {
    attn_context *ctx = t->text.ctx;
    attn_buffer_free(&t->text);
    attn_release(ctx, t->origin);
    *t = (attn_traced)ATTN_TRACED_INIT(ctx);
}

void attn_traced_give(attn_traced *t, const char *text, size_t bytes, size_t base) {
    attn_traced_clear(t);
    attn_buffer_add(&t->text, text, bytes);
    t->given = true;
    t->base = base;
}

attn_origin attn_traced_span(const attn_traced *t, size_t first, size_t end) {
    if (t->given) return (attn_origin){(uint32_t)(t->base + first), (uint32_t)(t->base + end)};
    if (!t->text.bytes) return (attn_origin){0, 0};
    if (first >= t->text.bytes) { /* nothing, at the end */
        uint32_t at = t->origin[t->text.bytes - 1].end;
        return (attn_origin){at, at};
    }
    attn_origin span = t->origin[first];
    if (end > first) span.end = ATTN_MAX(span.end, t->origin[end - 1].end);
    else span.end = span.first;
    return span;
}

static bool reserve(attn_traced *t, size_t bytes) {
    size_t have = t->text.bytes, wanted;
    if (t->text.status != ATTN_OK) return false;
    if (!attn_size_add(&wanted, have, bytes)) wanted = SIZE_MAX;
    t->text.status = attn_grow(t->text.ctx, &t->origin, &t->capacity, wanted, have, sizeof *t->origin);
    return t->text.status == ATTN_OK;
}

void attn_traced_copy(attn_traced *out, const attn_traced *in, size_t first, size_t end) {
    size_t have = out->text.bytes;
    if (first >= end || !reserve(out, end - first)) return;
    if (in->given) {
        uint32_t at = (uint32_t)(in->base + first);
        for (size_t i = 0; i < end - first; i++, at++) out->origin[have + i] = (attn_origin){at, at + 1};
    } else memcpy(out->origin + have, in->origin + first, (end - first) * sizeof *out->origin);
    attn_buffer_add(&out->text, in->text.data + first, end - first);
}

void attn_traced_put(attn_traced *out, const char *text, size_t bytes, const attn_traced *in, size_t first,
                     size_t end) {
    size_t have = out->text.bytes;
    if (!reserve(out, bytes)) return;
    attn_origin span = attn_traced_span(in, first, end);
    for (size_t i = 0; i < bytes; i++) out->origin[have + i] = span;
    attn_buffer_add(&out->text, text, bytes);
}
