/* characters.c: a tokenizer whose tokens are the characters of a text.
 *
 * Its tokenizer.json is byte-pair encoding without a merge: nothing is normalised, cut or joined, so that white space
 * and line ends are tokens like others. A character that the text had not becomes <unk>. */
#include <jansson.h>
#include <stdlib.h>

#include "text/normalise.h"
#include "text/tokenizer.h"

enum { CODE_POINTS = 0x110000 };

static size_t write_utf8(char out[5], int32_t c) {
    size_t n = 0;
    if (c < 0x80) out[n++] = (char)c;
    else if (c < 0x800) out[n++] = (char)(0xC0 | c >> 6);
    else if (c < 0x10000) out[n++] = (char)(0xE0 | c >> 12), out[n++] = (char)(0x80 | (c >> 6 & 63));
    else
        out[n++] = (char)(0xF0 | c >> 18), out[n++] = (char)(0x80 | (c >> 12 & 63)),
        out[n++] = (char)(0x80 | (c >> 6 & 63));
    if (c >= 0x80) out[n++] = (char)(0x80 | (c & 63));
    out[n] = '\0';
    return n;
}

static int add_piece(const char *text, size_t bytes, void *out) {
    attn_buffer_add(out, text, bytes);
    return ((const attn_buffer *)out)->status == ATTN_OK ? 0 : -1;
}

/* The whole file. seen: (CODE_POINTS). */
static attn_status write_json(attn_buffer *out, const bool *seen) {
    json_t *vocabulary = json_pack("{s:i}", "<unk>", 0);
    int ids = 1;
    for (int32_t c = 1; c < CODE_POINTS; c++) { /* NUL ends texts, it is in none */
        char piece[5];
        if (!seen[c]) continue;
        write_utf8(piece, c);
        json_object_set_new(vocabulary, piece, json_integer(ids++));
    }
    json_t *unknown = json_pack("{s:i s:s s:b s:b s:b s:b s:b}", "id", 0, "content", "<unk>", "single_word", 0,
                                "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    json_t *root = json_pack("{s:s s:n s:n s:[o] s:n s:n s:n s:{s:s} s:{s:s s:n s:s s:n s:n s:b s:b s:b s:o s:[]}}",
                             "version", "1.0", "truncation", "padding", "added_tokens", unknown, "normalizer",
                             "pre_tokenizer", "post_processor", "decoder", "type", "Fuse", "model", "type", "BPE",
                             "dropout", "unk_token", "<unk>", "continuing_subword_prefix", "end_of_word_suffix",
                             "fuse_unk", 0, "byte_fallback", 0, "ignore_merges", 0, "vocab", vocabulary, "merges");
    const bool written = root && json_dump_callback(root, add_piece, out, JSON_COMPACT) == 0;
    json_decref(root);
    if (!written && out->status == ATTN_OK)
        return attn_fail(out->ctx, ATTN_E_NOMEM, "out of memory: the tokenizer's file");
    return out->status;
}

attn_status attn_tokenizer_of_characters(attn_tokenizer **gives, attn_context *ctx, const char *const *texts,
                                         const size_t *bytes, size_t n) {
    *gives = NULL;
    bool *seen = attn_alloc_zero(ctx, CODE_POINTS, sizeof *seen);
    if (!seen) return ATTN_E_NOMEM;
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        const size_t bad = attn_utf8_check(texts[i], bytes[i]);
        if (bad != SIZE_MAX) status = attn_fail(ctx, ATTN_E_FORMAT, "text %zu: byte %zu is not UTF-8", i, bad);
        for (size_t at = 0; at < bytes[i] && status == ATTN_OK;) seen[attn_utf8_next(texts[i], bytes[i], &at)] = true;
    }
    attn_buffer json = ATTN_BUFFER_INIT(ctx);
    if (status == ATTN_OK) status = write_json(&json, seen);
    if (status == ATTN_OK) status = attn_tokenizer_parse(gives, ctx, json.data, json.bytes);
    attn_buffer_free(&json);
    attn_release(ctx, seen);
    return status;
}
