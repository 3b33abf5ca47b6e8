/* charsmap.c: the table is a number of bytes, so many bytes of a double array (Aoe 1989, as darts-clone packs it), and
 * texts with a NUL behind each. Every step through the array is checked. */
#include "text/charsmap.h"

#include <string.h>

struct attn_charsmap {
    attn_context *ctx;
    uint32_t *unit; /* (units) */
    size_t units;
    char *texts;
    size_t bytes; /* of texts; the last is a NUL */
};

static uint32_t little_endian(const unsigned char *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

attn_status attn_charsmap_new(attn_charsmap **gives, attn_context *ctx, const void *data, size_t bytes) {
    const unsigned char *at = data;
    *gives = NULL;
    size_t array = bytes >= 4 ? little_endian(at) : 0;
    if (bytes < 4 || array > bytes - 4 || array % 4 || !array || (bytes - 4 - array && at[bytes - 1] != 0))
        return attn_fail(ctx, ATTN_E_FORMAT,
                         "table of characters: found %zu bytes for a trie and texts of %zu bytes, expected whole ones",
                         array, bytes);
    attn_charsmap *map = attn_alloc_zero(ctx, 1, sizeof *map);
    if (!map) return ATTN_E_NOMEM;
    *map = (attn_charsmap){.ctx = ctx, .units = array / 4, .bytes = bytes - 4 - array};
    map->unit = attn_alloc(ctx, map->units, sizeof *map->unit);
    map->texts = attn_copy_text(ctx, (const char *)at + 4 + array, map->bytes);
    if (!map->unit || !map->texts) {
        attn_charsmap_free(map);
        return ATTN_E_NOMEM;
    }
    for (size_t i = 0; i < map->units; i++) map->unit[i] = little_endian(at + 4 + 4 * i);
    *gives = map;
    return ATTN_OK;
}

void attn_charsmap_free(attn_charsmap *map) {
    if (!map) return;
    attn_release(map->ctx, map->unit);
    attn_release(map->ctx, map->texts);
    attn_release(map->ctx, map);
}

/* The fields of a unit. */
static uint32_t label_of(uint32_t unit) { return unit & (1u << 31 | 0xFF); }
static uint32_t offset_of(uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); }
static bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) == 1; }
static uint32_t value_of(uint32_t unit) { return unit & ((1u << 31) - 1); }

bool attn_charsmap_find(const attn_charsmap *map, const char *text, size_t bytes, bool longest,
                        attn_charsmap_rule *rule) {
    bool found = false;
    size_t node = offset_of(map->unit[0]);
    for (size_t i = 0; i < bytes && text[i]; i++) {
        unsigned char c = (unsigned char)text[i];
        node ^= c;
        if (node >= map->units || label_of(map->unit[node]) != c) break;
        uint32_t unit = map->unit[node];
        node ^= offset_of(unit);
        if (!has_leaf(unit) || node >= map->units) continue;
        size_t first = value_of(map->unit[node]);
        if (first >= map->bytes) continue;
        *rule = (attn_charsmap_rule){i + 1, map->texts + first, strlen(map->texts + first)};
        found = true;
        if (!longest) break;
    }
    return found;
}

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void attn_base64_write(attn_buffer *out, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i += 3) {
        uint32_t bits = (uint32_t)at[i] << 16 | (i + 1 < bytes ? (uint32_t)at[i + 1] << 8 : 0) |
                        (i + 2 < bytes ? (uint32_t)at[i + 2] : 0);
        char four[4] = {alphabet[bits >> 18], alphabet[bits >> 12 & 63], '=', '='};
        if (i + 1 < bytes) four[2] = alphabet[bits >> 6 & 63];
        if (i + 2 < bytes) four[3] = alphabet[bits & 63];
        attn_buffer_add(out, four, sizeof four);
    }
}

attn_status attn_base64(attn_context *ctx, char **gives, size_t *out_bytes, const char *text, size_t bytes) {
    size_t n = 0, kept = bytes;
    *gives = NULL;
    while (kept && bytes - kept < 2 && text[kept - 1] == '=') kept--;
    char *out = attn_alloc(ctx, kept / 4 * 3 + 3, 1);
    if (!out) return ATTN_E_NOMEM;
    uint32_t bits = 0;
    for (size_t i = 0; i < kept; i++) {
        const char *at = text[i] ? strchr(alphabet, text[i]) : NULL;
        if (!at || kept % 4 == 1) {
            attn_release(ctx, out);
            return attn_fail(ctx, ATTN_E_FORMAT, "base64: found something else at character %zu", i);
        }
        bits = bits << 6 | (uint32_t)(at - alphabet);
        if (i % 4 == 3) out[n++] = (char)(bits >> 16), out[n++] = (char)(bits >> 8), out[n++] = (char)bits;
    }
    if (kept % 4 == 2) out[n++] = (char)(bits >> 4);
    if (kept % 4 == 3) out[n++] = (char)(bits >> 10), out[n++] = (char)(bits >> 2);
    *gives = out;
    *out_bytes = n;
    return ATTN_OK;
}
