/* pattern.h: regular expressions of tokenizers, run by PCRE2 with the meaning that their programs give them.
 *
 *     attn_pattern *pattern;
 *     ATTN_TRY(attn_pattern_new(&pattern, ctx, "\\s+", 3, ATTN_PATTERN_ONIGURUMA));
 *     attn_matcher matcher = ATTN_MATCHER_INIT(ctx);
 *     attn_match match = {0};
 *     while (attn_pattern_next(pattern, &matcher, &match, text, bytes) == ATTN_OK && match.first != SIZE_MAX) ...
 *     attn_matcher_free(&matcher);
 */
#ifndef ATTN_TEXT_PATTERN_H
#define ATTN_TEXT_PATTERN_H

#include "base/base.h"

/* LITERAL: the bytes themselves. ONIGURUMA: Ruby's syntax, as tokenizer.json has it; what PCRE2 reads otherwise is
 * written in its words, or refused by name. PERL: as it is. */
typedef enum attn_pattern_syntax {
    ATTN_PATTERN_LITERAL,
    ATTN_PATTERN_ONIGURUMA,
    ATTN_PATTERN_PERL
} attn_pattern_syntax;

typedef struct attn_pattern attn_pattern;

/* gives; NULL on failure. */
attn_status attn_pattern_new(attn_pattern **gives, attn_context *ctx, const char *text, size_t bytes,
                             attn_pattern_syntax syntax);
void attn_pattern_free(attn_pattern *pattern); /* NULL is fine */

/* What one thread needs to match any pattern. */
typedef struct attn_matcher {
    attn_context *ctx;
    void *general, *match, *data; /* PCRE2's; made when they are needed */
} attn_matcher;
#define ATTN_MATCHER_INIT(ctx) \
    { (ctx), NULL, NULL, NULL }
void attn_matcher_free(attn_matcher *matcher);

typedef struct attn_match {
    size_t first, end; /* SIZE_MAX: there is none */
    size_t next;       /* where the search goes on; 0: it has not begun */
} attn_match;

/* The next match behind *match. text is valid UTF-8. An empty match does not stand at the end of the one before.
 * ATTN_E_UNSUPPORTED: the pattern tries too long. */
attn_status attn_pattern_next(const attn_pattern *pattern, attn_matcher *matcher, attn_match *match, const char *text,
                              size_t bytes);

#endif
