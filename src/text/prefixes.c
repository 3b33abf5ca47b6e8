/* prefixes.c: texts that share their first bytes stand together in sorted order, the shortest first; each byte narrows
 * the range by two binary searches. */
#include "text/prefixes.h"

#include <stdlib.h>
#include <string.h>

typedef struct row {
    const char *text;
    size_t bytes;
    int32_t id;
} row;

static int compare(const void *a, const void *b) {
    const row *x = a, *y = b;
    int order = memcmp(x->text, y->text, ATTN_MIN(x->bytes, y->bytes));
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

attn_status attn_prefixes_build(attn_context *ctx, attn_prefixes *p, const attn_vocabulary *vocabulary,
                                const bool *left_out) {
    size_t n = 0;
    row *rows = attn_alloc(ctx, vocabulary->count, sizeof *rows);
    p->vocabulary = vocabulary;
    p->order = rows ? attn_alloc(ctx, vocabulary->count, sizeof *p->order) : NULL;
    if (!p->order) {
        attn_release(ctx, rows);
        return ATTN_E_NOMEM;
    }
    for (size_t i = 0; i < vocabulary->count; i++)
        if (!left_out || !left_out[i])
            rows[n++] = (row){attn_vocabulary_text(vocabulary, (int32_t)i),
                              attn_vocabulary_bytes(vocabulary, (int32_t)i), (int32_t)i};
    p->count = n;
    if (n) qsort(rows, n, sizeof *rows, compare);
    size_t at = 0;
    while (at < n && !rows[at].bytes) at++; /* an empty text begins everywhere and is no prefix */
    for (size_t byte = 0; byte < 256; byte++) {
        p->first[byte] = (uint32_t)at;
        while (at < n && (unsigned char)rows[at].text[0] == byte) at++;
    }
    p->first[256] = (uint32_t)at;
    for (size_t i = 0; i < n; i++) p->order[i] = rows[i].id;
    attn_release(ctx, rows);
    return ATTN_OK;
}

void attn_prefixes_free(attn_context *ctx, attn_prefixes *p) {
    attn_release(ctx, p->order);
    *p = (attn_prefixes)ATTN_PREFIXES_INIT;
}

attn_prefix_walk attn_prefixes_walk(const attn_prefixes *p) {
    return (attn_prefix_walk){p->first[0], p->first[256], 0, -1};
}

/* The first of order[low, high) whose byte at depth is `least` or more; a text that ends there has none. */
static uint32_t lower_bound(const attn_prefixes *p, uint32_t low, uint32_t high, size_t depth, int least) {
    const attn_vocabulary *v = p->vocabulary;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int32_t id = p->order[middle];
        size_t first = v->first[id], bytes = v->first[id + 1] - 1 - first;
        int byte = bytes > depth ? (unsigned char)v->text[first + depth] : -1;
        if (byte < least) low = middle + 1;
        else high = middle;
    }
    return low;
}

bool attn_prefixes_step(const attn_prefixes *p, attn_prefix_walk *walk, char byte) {
    int c = (unsigned char)byte;
    if (!walk->depth) {
        walk->low = p->first[c], walk->high = p->first[c + 1];
    } else {
        walk->low = lower_bound(p, walk->low, walk->high, walk->depth, c);
        walk->high = lower_bound(p, walk->low, walk->high, walk->depth, c + 1);
    }
    if (walk->low == walk->high) return false;
    int32_t id = p->order[walk->low];
    walk->id = attn_vocabulary_bytes(p->vocabulary, id) == ++walk->depth ? id : -1;
    return true;
}

int32_t attn_prefixes_longest(const attn_prefixes *p, attn_prefix_walk walk, const char *text, size_t bytes,
                              size_t *length) {
    int32_t found = -1;
    for (size_t i = 0; i < bytes && attn_prefixes_step(p, &walk, text[i]); i++)
        if (walk.id >= 0) found = walk.id, *length = i + 1;
    return found;
}
