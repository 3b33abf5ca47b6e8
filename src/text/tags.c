/* tags.c: tags of the target language before a source text (Johnson et al. 2017, "Google's Multilingual Neural Machine
 * Translation System"): <2fr>, <2pt-br>. */
#include "text/tokenizer.h"

#include <string.h>

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }

size_t attn_text_tag(const char *text, size_t bytes) {
    enum { SHORTEST = 2, LONGEST = 3, REGION = 8 };
    size_t at = 2, first;
    if (bytes < 5 || memcmp(text, "<2", 2) != 0) return 0;
    while (at < bytes && is_lower(text[at])) at++;
    if (at - 2 < SHORTEST || at - 2 > LONGEST || at == bytes) return 0;
    if (text[at] == '-' || text[at] == '_') {
        for (first = ++at; at < bytes && is_lower(text[at]);) at++;
        if (at == first || at - first > REGION) return 0;
    }
    return at < bytes && text[at] == '>' ? at + 1 : 0;
}

size_t attn_tokenizer_tag(const attn_tokenizer *tokenizer, int32_t *id, const char *text, size_t bytes) {
    const size_t tag = attn_text_tag(text, bytes);
    const int32_t found = tag ? attn_vocabulary_find(&tokenizer->vocabulary, text, tag) : -1;
    if (id) *id = found;
    return attn_tokenizer_is_special(tokenizer, found) ? tag : 0;
}
