/* corpus.c: a file of pairs. Input: a byte for the ending (t, x or z), then the file. A corpus that is read has the
 * lines of the file's text. */
#include "fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { DICTIONARY = 300 << 20 }; /* of an .xz file */
    if (!size) return 0;
    const char *name = data[0] == 'x' ? "x.tsv.xz" : data[0] == 'z' ? "x.tsv.gz" : "x.tsv";
    attn_context *ctx = fuzz_begin(DICTIONARY);
    const char *path = fuzz_file(name, data + 1, size - 1);
    attn_corpus_options options = ATTN_CORPUS_OPTIONS_INIT;
    attn_corpus *corpus, *both;
    size_t bytes;
    char *text;
    if (attn_corpus_read(&corpus, ctx, &path, 1, &options) == ATTN_OK) {
        FUZZ_CHECK(attn_read_text(ctx, &text, &bytes, path) == ATTN_OK);
        FUZZ_CHECK(!text[bytes]);
        size_t lines = 1;
        for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
        for (size_t i = 0, before = 0; i < attn_corpus_count(corpus); i++) {
            const attn_pair *pair = attn_corpus_at(corpus, i);
            FUZZ_CHECK(strlen(pair->source) == pair->source_bytes && strlen(pair->target) == pair->target_bytes);
            FUZZ_CHECK(pair->line > before && pair->line <= lines);
            before = pair->line;
        }
        attn_text_free(ctx, text);
        attn_corpus_free(corpus);
    } else {
        FUZZ_CHECK(!corpus && attn_error(ctx)[0]);
    }
    const char *const twice[] = {path, path};
    options.reverse = true;
    options.limit = 3;
    if (attn_corpus_read(&both, ctx, twice, 2, &options) == ATTN_OK) {
        FUZZ_CHECK(attn_corpus_count(both) <= 3);
        attn_corpus_free(both);
    }
    return fuzz_end();
}
