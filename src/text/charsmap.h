/* charsmap.h: SentencePiece's compiled normalisation rules: a double-array trie of byte sequences, and what each
 * becomes.
 *
 *     if (attn_charsmap_find(map, text, bytes, &rule)) ... rule.bytes become rule.text (rule.text_bytes of them)
 */
#ifndef ATTN_TEXT_CHARSMAP_H
#define ATTN_TEXT_CHARSMAP_H

#include "base/base.h"

typedef struct attn_charsmap attn_charsmap;

typedef struct attn_charsmap_rule {
    size_t bytes; /* of the text that the rule is about */
    const char *text;
    size_t text_bytes;
} attn_charsmap_rule;

/* From the bytes of the table; gives. */
attn_status attn_charsmap_new(attn_charsmap **gives, attn_context *ctx, const void *data, size_t bytes);
void attn_charsmap_free(attn_charsmap *map); /* NULL is fine */
/* A rule about the beginning of text: the longest one, or the shortest. false: there is none. */
bool attn_charsmap_find(const attn_charsmap *map, const char *text, size_t bytes, bool longest,
                        attn_charsmap_rule *rule);
/* Gives the bytes that base64 text stands for. */
attn_status attn_base64(attn_context *ctx, char **gives, size_t *out_bytes, const char *text, size_t bytes);
void attn_base64_write(attn_buffer *out, const void *data, size_t bytes);

#endif
