/* guide.c: from links of words to links of tokens. */
#include "train/guide.h"

#include <stdlib.h>
#include <string.h>

struct attn_guide {
    attn_context *ctx;
    attn_aligner *aligner;
    attn_buffer piece[2]; /* of source and target, NUL-terminated */
    int32_t *word[2];     /* of each token, −1: none */
    size_t word_capacity[2];
};

/* ---- the aligner ------------------------------------------------------------------------------------ */

static attn_status split_corpus(attn_context *ctx, char **lines, const attn_corpus *corpus) {
    const size_t n = attn_corpus_count(corpus);
    for (size_t i = 0; i < n; i++) {
        const attn_pair *pair = attn_corpus_at(corpus, i);
        const size_t tag = attn_text_tag(pair->source, pair->source_bytes);
        ATTN_TRY(attn_words_split_punctuation(ctx, &lines[i], pair->source + tag));
        ATTN_TRY(attn_words_split_punctuation(ctx, &lines[n + i], pair->target));
    }
    return ATTN_OK;
}

static attn_status train_aligner(attn_guide *guide, const attn_corpus *corpus) {
    attn_context *ctx = guide->ctx;
    const size_t n = attn_corpus_count(corpus);
    char **lines = attn_alloc_zero(ctx, n, 2 * sizeof *lines);
    if (!lines) return ATTN_E_NOMEM;
    attn_status status = split_corpus(ctx, lines, corpus);
    const char *const *read = (const char *const *)lines;
    if (status == ATTN_OK) status = attn_aligner_train(&guide->aligner, ctx, read, read + n, n, NULL);
    for (size_t i = 0; i < 2 * n; i++) attn_text_free(ctx, lines[i]);
    attn_release(ctx, lines);
    return status;
}

attn_status attn_guide_create(attn_guide **gives, attn_context *ctx, const attn_corpus *corpus) {
    *gives = NULL;
    attn_guide *guide = attn_alloc_zero(ctx, 1, sizeof *guide);
    if (!guide) return ATTN_E_NOMEM;
    guide->ctx = ctx;
    guide->piece[0] = guide->piece[1] = (attn_buffer)ATTN_BUFFER_INIT(ctx);
    attn_status status = train_aligner(guide, corpus);
    if (status == ATTN_OK) *gives = guide;
    else attn_guide_free(guide);
    return status;
}

void attn_guide_free(attn_guide *guide) {
    if (!guide) return;
    attn_aligner_free(guide->aligner);
    for (int side = 0; side < 2; side++) {
        attn_buffer_free(&guide->piece[side]);
        attn_release(guide->ctx, guide->word[side]);
    }
    attn_release(guide->ctx, guide);
}

/* ---- words and tokens --------------------------------------------------------------------------------- */

static size_t count_words(const char *split) {
    size_t words = *split != '\0';
    for (; *split; split++) words += *split == ' ';
    return words;
}

/* The word in which each token's first byte that is no space lies. Splitting moves nothing but spaces, so the same
 * byte is as many bytes that are no spaces from the beginning in both texts. */
static attn_status find_words(attn_guide *guide, int side, const attn_tokens *tokens, size_t *words) {
    char *split;
    ATTN_TRY(attn_grow(guide->ctx, &guide->word[side], &guide->word_capacity[side], tokens->count, 0,
                       sizeof *guide->word[side]));
    ATTN_TRY(attn_words_split_punctuation(guide->ctx, &split, tokens->text));
    const char *at = split;
    int32_t word = 0;
    size_t byte = 0;
    for (size_t i = 0; i < tokens->count; i++) {
        const attn_token *token = &tokens->token[i];
        guide->word[side][i] = -1;
        for (byte = ATTN_MAX(byte, token->first); byte < token->end; byte++) {
            if (tokens->text[byte] == ' ') continue;
            if (*at == ' ') at++, word++;
            if (guide->word[side][i] < 0) guide->word[side][i] = word;
            if (*at) at++;
        }
    }
    *words = count_words(split);
    attn_text_free(guide->ctx, split);
    return ATTN_OK;
}

static int by_target(const void *a, const void *b) {
    const attn_link *x = a, *y = b;
    if (x->target != y->target) return x->target < y->target ? -1 : 1;
    return x->source < y->source ? -1 : x->source > y->source;
}

/* All tokens of linked words. */
static attn_status add_links(attn_guide *guide, attn_link **link, size_t *count, size_t *capacity, attn_link words,
                             size_t sources, size_t targets) {
    for (size_t s = 0; s < sources; s++) {
        if (guide->word[0][s] != words.source) continue;
        for (size_t t = 0; t < targets; t++) {
            if (guide->word[1][t] != words.target) continue;
            ATTN_TRY(attn_grow(guide->ctx, link, capacity, *count + 1, *count, sizeof **link));
            (*link)[(*count)++] = (attn_link){(int32_t)s, (int32_t)t};
        }
    }
    return ATTN_OK;
}

static attn_status split_piece(attn_guide *guide, char **split, int side, const attn_joined_text *text, size_t k) {
    const size_t tag = side == 0 ? attn_text_tag(text->text, text->end[0]) : 0;
    const size_t first = k ? text->end[k - 1] + 1 : tag;
    attn_buffer *piece = &guide->piece[side];
    piece->bytes = 0;
    attn_buffer_add(piece, text->text + first, text->end[k] - first);
    attn_buffer_add(piece, "", 1);
    ATTN_TRY(piece->status);
    return attn_words_split_punctuation(guide->ctx, split, piece->data);
}

/* Links of piece k; *words are those before it and after. */
static attn_status link_piece(attn_guide *guide, attn_link **link, size_t *count, size_t *capacity,
                              const attn_joined_text text[2], size_t k, size_t words[2]) {
    char *split[2] = {NULL, NULL};
    attn_links found = {NULL, 0};
    attn_status status = split_piece(guide, &split[0], 0, &text[0], k);
    if (status == ATTN_OK) status = split_piece(guide, &split[1], 1, &text[1], k);
    if (status == ATTN_OK) status = attn_aligner_align(guide->aligner, &found, split[0], split[1], ATTN_SYM_INTERSECT);
    for (size_t i = 0; i < found.count && status == ATTN_OK; i++) {
        const attn_link moved = {found.link[i].source + (int32_t)words[0], found.link[i].target + (int32_t)words[1]};
        status = add_links(guide, link, count, capacity, moved, text[0].tokens->count, text[1].tokens->count);
    }
    attn_text_free(guide->ctx, found.link);
    for (int side = 0; side < 2; side++) {
        if (split[side]) words[side] += count_words(split[side]);
        attn_text_free(guide->ctx, split[side]);
    }
    return status;
}

attn_status attn_guide_links(attn_guide *guide, attn_link **link, size_t *count, size_t *capacity,
                             const attn_joined_text *source, const attn_joined_text *target) {
    const attn_joined_text text[2] = {*source, *target};
    const size_t first = *count;
    size_t all[2], words[2] = {0, 0};
    for (int side = 0; side < 2; side++) ATTN_TRY(find_words(guide, side, text[side].tokens, &all[side]));
    for (size_t k = 0; k < source->pieces; k++) ATTN_TRY(link_piece(guide, link, count, capacity, text, k, words));
    if (words[0] != all[0] || words[1] != all[1]) *count = first; /* normalising changed words: teach nothing wrong */
    if (*count > first) qsort(*link + first, *count - first, sizeof **link, by_target);
    return ATTN_OK;
}
