/* gold.c: a file of gold links. What is sure is possible too, and against itself has no error. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    attn_context *ctx = fuzz_begin(64 * size + (1 << 20));
    const char *path = fuzz_file("gold", data, size);
    for (int one_based = 0; one_based < 2; one_based++) {
        attn_links *sure, *possible;
        size_t n;
        if (attn_gold_read(ctx, &sure, &possible, &n, path, one_based) != ATTN_OK) {
            FUZZ_CHECK(attn_error(ctx)[0]);
            continue;
        }
        for (size_t i = 0; i < n; i++) {
            attn_aer aer = {0};
            attn_aer_add(&aer, &sure[i], &sure[i], &possible[i]);
            FUZZ_CHECK(aer.hits_sure <= aer.links && aer.hits_possible <= aer.links);
            if (aer.links) FUZZ_CHECK(attn_aer_value(&aer) < 1e-9);
            for (size_t k = 0; k < sure[i].count; k++)
                FUZZ_CHECK(sure[i].link[k].source >= 0 && sure[i].link[k].target >= 0);
        }
        attn_gold_free(ctx, sure, n);
        attn_gold_free(ctx, possible, n);
    }
    return fuzz_end();
}
