/* chrf.c: corpus chrF2 (Popović 2015) in the form of sacreBLEU. */
#include "text/bleu.h"
#include <attn/text.h>

#include <string.h>

enum { ORDERS = ATTN_NGRAM_ORDERS, BETA = 2 };

typedef struct characters {
    uint32_t *symbol;
    size_t count, capacity;
} characters;

static attn_status read_characters(attn_context *ctx, characters *line, const char *text) {
    const char *limit = text + strlen(text);
    ATTN_TRY(attn_grow(ctx, &line->symbol, &line->capacity, (size_t)(limit - text) + 1, 0, sizeof *line->symbol));
    line->count = 0;
    while (text < limit) {
        uint32_t c = attn_character_next(&text, limit);
        if (!attn_character_is_space(c)) line->symbol[line->count++] = c;
    }
    return ATTN_OK;
}

/* Precision and recall are averaged over the orders that both sides have, then made one F. */
static double f_score(const attn_ngram_counts *sum) {
    double precision = 0, recall = 0, factor = BETA * BETA;
    int orders = 0;
    for (int k = 0; k < ORDERS; k++) {
        if (!sum->hypothesis[k] || !sum->reference[k]) continue;
        precision += (double)sum->match[k] / (double)sum->hypothesis[k];
        recall += (double)sum->match[k] / (double)sum->reference[k];
        orders++;
    }
    if (!orders) return 0;
    precision /= orders;
    recall /= orders;
    if (precision + recall == 0) return 0;
    double score = (1 + factor) * precision * recall;
    score /= factor * precision + recall;
    return 100 * score;
}

static attn_status count_corpus(attn_context *ctx, attn_ngram_work *work, characters line[2], attn_ngram_counts *sum,
                                const char *const *hypotheses, const char *const *references, size_t n) {
    for (size_t i = 0; i < n; i++) {
        attn_ngram_counts counts;
        ATTN_TRY(read_characters(ctx, &line[0], hypotheses[i]));
        ATTN_TRY(read_characters(ctx, &line[1], references[i]));
        ATTN_TRY(
            attn_ngrams_match(work, &counts, line[0].symbol, line[0].count, line[1].symbol, line[1].count, ORDERS));
        for (int k = 0; k < ORDERS; k++) {
            /* A reference too short to have such n-grams does not count against the hypothesis. */
            sum->hypothesis[k] += counts.reference[k] ? counts.hypothesis[k] : 0;
            sum->reference[k] += counts.reference[k];
            sum->match[k] += counts.match[k];
        }
    }
    return ATTN_OK;
}

attn_status attn_chrf_score(attn_context *ctx, double *score, const char *const *hypotheses,
                            const char *const *references, size_t n) {
    ATTN_TRY(attn_measure_check(ctx, "chrF", score, hypotheses, references, n));
    attn_ngram_work work = ATTN_NGRAM_WORK_INIT(ctx);
    characters line[2] = {{NULL, 0, 0}, {NULL, 0, 0}};
    attn_ngram_counts sum = {{0}, {0}, {0}};
    attn_status status = count_corpus(ctx, &work, line, &sum, hypotheses, references, n);
    *score = status == ATTN_OK ? f_score(&sum) : 0;
    attn_ngram_work_free(&work);
    attn_release(ctx, line[0].symbol);
    attn_release(ctx, line[1].symbol);
    return status;
}
