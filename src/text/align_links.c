/* align_links.c: the aligner at work: the best links of a sentence pair, and glosses. */
#include "text/align.h"

#include <string.h>

static double probability(const attn_aligner *aligner, int direction, uint32_t condition, uint32_t generated) {
    uint64_t key = direction ? attn_word_pair_key(generated, condition) : attn_word_pair_key(condition, generated);
    const attn_word_pair *pair = generated ? attn_word_pair_find(&aligner->pairs, key) : NULL;
    return (double)(pair ? ATTN_MAX(pair->p[direction], ATTN_WORD_PAIR_UNSEEN) : ATTN_WORD_PAIR_UNSEEN);
}

/* best[j]: the conditioning word that most probably made generated word j; −1: NULL. */
static void best_links(const attn_aligner *aligner, int direction, int32_t *best, double *row,
                       const attn_sentence *condition, const attn_sentence *generated) {
    size_t n = condition->count, m = generated->count;
    double null = (double)aligner->options.p_null;
    for (size_t j = 0; j < m; j++) {
        double norm = attn_diagonal_row(row, j, m, n, aligner->tension[direction]);
        double highest = null * probability(aligner, direction, 0, generated->word[j]);
        best[j] = -1;
        for (size_t i = 0; i < n; i++) {
            double p = (1 - null) * row[i] / norm;
            /* An unknown word is not NULL, though both have number 0. */
            p *= condition->word[i] ? probability(aligner, direction, condition->word[i], generated->word[j])
                                    : (double)ATTN_WORD_PAIR_UNSEEN;
            if (p > highest) highest = p, best[j] = (int32_t)i;
        }
    }
}

static attn_status align(const attn_aligner *aligner, attn_links *links, attn_sentence sentence[2], const char *source,
                         const char *target, attn_symmetrize how) {
    attn_context *ctx = aligner->ctx;
    for (int side = 0; side < 2; side++)
        ATTN_TRY(attn_sentence_read(ctx, &sentence[side], &aligner->vocabulary[side], NULL, side ? target : source,
                                    aligner->options.lowercase));
    size_t n = sentence[0].count, m = sentence[1].count;
    if (n > INT32_MAX || m > INT32_MAX)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "lines of %zu and %zu words; at most 2^31", n, m);
    int32_t *best[2] = {attn_alloc(ctx, m, sizeof(int32_t)), attn_alloc(ctx, n, sizeof(int32_t))};
    double *row = attn_alloc(ctx, ATTN_MAX(n, m), sizeof *row);
    attn_status status = best[0] && best[1] && row ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK) {
        best_links(aligner, 0, best[0], row, &sentence[0], &sentence[1]);
        best_links(aligner, 1, best[1], row, &sentence[1], &sentence[0]);
        status = attn_symmetrize_links(ctx, links, best[0], m, best[1], n, how);
    }
    attn_release(ctx, best[0]);
    attn_release(ctx, best[1]);
    attn_release(ctx, row);
    return status;
}

attn_status attn_aligner_align(const attn_aligner *aligner, attn_links *links, const char *source, const char *target,
                               attn_symmetrize how) {
    if (!aligner) return ATTN_E_ARGUMENT;
    attn_context *ctx = aligner->ctx;
    if (!links || !source || !target) return attn_fail(ctx, ATTN_E_ARGUMENT, "aligning: a NULL argument");
    *links = (attn_links){NULL, 0};
    if ((int)how < ATTN_SYM_FORWARD || how > ATTN_SYM_GROW_DIAG_FINAL_AND)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "symmetrisation %d; %d to %d expected", (int)how, ATTN_SYM_FORWARD,
                         ATTN_SYM_GROW_DIAG_FINAL_AND);
    attn_sentence sentence[2] = {{.line = ATTN_BUFFER_INIT(ctx)}, {.line = ATTN_BUFFER_INIT(ctx)}};
    attn_status status = align(aligner, links, sentence, source, target, how);
    for (int side = 0; side < 2; side++) {
        attn_buffer_free(&sentence[side].line);
        attn_release(ctx, sentence[side].word);
    }
    return status;
}

const char *attn_aligner_gloss(const attn_aligner *aligner, const char *source_word, float *probability_out) {
    if (probability_out) *probability_out = 0;
    if (!aligner || !source_word) return NULL;
    attn_context *ctx = aligner->ctx;
    attn_sentence sentence = {.line = ATTN_BUFFER_INIT(ctx)};
    const char *word = NULL;
    if (attn_sentence_read(ctx, &sentence, &aligner->vocabulary[0], NULL, source_word, aligner->options.lowercase) ==
            ATTN_OK &&
        sentence.count == 1 && sentence.word[0] && aligner->gloss[sentence.word[0]].target) {
        const attn_gloss *gloss = &aligner->gloss[sentence.word[0]];
        word = attn_vocabulary_text(&aligner->vocabulary[1], (int32_t)gloss->target);
        if (probability_out) *probability_out = gloss->probability;
    }
    attn_buffer_free(&sentence.line);
    attn_release(ctx, sentence.word);
    return word;
}
