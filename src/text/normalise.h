/* normalise.h: UTF-8, and one pass over a text for each step of normalisation.
 *
 *     attn_buffer out = ATTN_BUFFER_INIT(ctx);
 *     attn_pass_nfc(&out, text, bytes, NULL);          // every pass appends to out; a failure sticks to it
 *     attn_pass_lowercase(&next, out.data, out.bytes);
 */
#ifndef ATTN_TEXT_NORMALISE_H
#define ATTN_TEXT_NORMALISE_H

#include "base/base.h"

/* U+2581 ▁, which stands for the space before a word in the pieces of a vocabulary. */
#define ATTN_MARK "\xE2\x96\x81"
enum { ATTN_MARK_BYTES = 3 };

/* The code point at *at, which moves past it; -1 for a byte that is not part of valid UTF-8 (and *at moves by one). */
int32_t attn_utf8_next(const char *text, size_t bytes, size_t *at);
/* Writes the code point's 1 to 4 bytes; returns how many. */
size_t attn_utf8_put(char out[4], int32_t c);
/* The offset of the first byte that is not valid UTF-8; SIZE_MAX if there is none. */
size_t attn_utf8_check(const char *text, size_t bytes);
/* Unicode's White_Space. */
bool attn_is_space(int32_t c);
/* Letters, marks, digits and what joins them (\w of Unicode's Technical Standard 18). */
bool attn_is_word(int32_t c);

/* Unicode's canonical combining class. */
unsigned attn_combining_class(int32_t c);
/* A sequence that is decomposed as it grows, then put in order and, for NFC and NFKC, composed again. */
typedef struct attn_code_points {
    int32_t *c;
    size_t count, capacity;
} attn_code_points;
#define ATTN_CODE_POINTS_INIT \
    { NULL, 0, 0 }
attn_status attn_decompose(attn_context *ctx, attn_code_points *points, int32_t c, bool compatible);
attn_status attn_arrange(attn_context *ctx, attn_code_points *points, bool compose);

/* NFC; each bad byte becomes U+FFFD; *bad (may be NULL) gets the offset of the first, or SIZE_MAX. Linear time. */
void attn_pass_nfc(attn_buffer *out, const char *text, size_t bytes, size_t *bad);
/* Each character's full lower case by itself, as Rust's char::to_lowercase: no rule looks at the neighbours. */
void attn_pass_lowercase(attn_buffer *out, const char *text, size_t bytes);
void attn_pass_replace(attn_buffer *out, const char *text, size_t bytes, const char *from, size_t from_bytes,
                       const char *to, size_t to_bytes);
/* Each run of white space becomes `to`. */
void attn_pass_spaces(attn_buffer *out, const char *text, size_t bytes, const char *to, size_t to_bytes);
/* Moves *text and *bytes past the white space at the ends. */
void attn_strip(const char **text, size_t *bytes, bool left, bool right);

#endif
