/* measures.c: text that is compared, normalised and cut into words: hypothesis, line end, reference. Any bytes are
 * text. */
#include "fuzz.h"

#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_context *ctx = fuzz_begin(512 * size + (4 << 20));
    char *text = NULL, *normal, *again, *words;
    size_t bytes, again_bytes, bad;
    attn_bleu bleu;
    double chrf;
    if (attn_text_normalise(ctx, &normal, &bytes, (const char *)data, size, &bad) == ATTN_OK) {
        FUZZ_CHECK(bad == SIZE_MAX || bad < size);
        FUZZ_CHECK(attn_text_normalise(ctx, &again, &again_bytes, normal, bytes, &bad) == ATTN_OK);
        FUZZ_CHECK(bad == SIZE_MAX && again_bytes == bytes && !memcmp(normal, again, bytes));
        attn_text_free(ctx, again);
        FUZZ_CHECK(attn_text_lowercase(ctx, &again, &again_bytes, normal, bytes) == ATTN_OK);
        attn_text_free(ctx, again);
        attn_text_free(ctx, normal);
    }
    fuzz_file("text", data, size);
    if (attn_read_text(ctx, &text, &bytes, fuzz_path("text")) != ATTN_OK) return fuzz_end();
    char *reference = strchr(text, '\n');
    if (reference) *reference++ = '\0';
    const char *hypotheses[] = {text}, *references[] = {reference ? reference : text};
    for (int lowercase = 0; lowercase < 2; lowercase++) {
        FUZZ_CHECK(attn_bleu_score(ctx, &bleu, hypotheses, references, 1, lowercase) == ATTN_OK);
        FUZZ_CHECK(bleu.score >= 0 && bleu.score <= 100.0001);
        for (int n = 0; n < 4; n++) FUZZ_CHECK(bleu.correct[n] <= bleu.total[n]);
    }
    FUZZ_CHECK(attn_chrf_score(ctx, &chrf, hypotheses, references, 1) == ATTN_OK);
    FUZZ_CHECK(chrf >= 0 && chrf <= 100.0001);
    if (attn_words_split_punctuation(ctx, &words, text) == ATTN_OK) attn_text_free(ctx, words);
    attn_text_free(ctx, text);
    return fuzz_end();
}
