/* picture.c: see picture.h. */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

/* The k-th white-space word of text, by the tokens' spans; malloc'd. */
static char *word_text(const char *text, const attn_token *token, size_t n, size_t word) {
    size_t first = SIZE_MAX, end = 0;
    for (size_t i = 0; i < n; i++) {
        if (token[i].word != (int32_t)word) continue;
        if (token[i].first < first) first = token[i].first;
        if (token[i].end > end) end = token[i].end;
    }
    if (first > end) first = end = 0;
    while (first < end && text[first] == ' ') first++;
    return strndup(text + first, end - first);
}

/* Takes the labels. */
static bool finish(const command *c, picture *p, const float *values, size_t rows, size_t columns, bool fine) {
    p->map = (attn_heatmap){
        .row_axis = "target", .column_axis = "source", .values = values, .rows = rows, .columns = columns};
    if (!fine) {
        cli_fail_memory(c);
        picture_free(p);
        return false;
    }
    p->map.row_labels = (const char *const *)p->labels;
    p->map.column_labels = (const char *const *)(p->labels + rows);
    return true;
}

bool picture_make(const command *c, picture *out, const attn_translation *t, const attn_hypothesis *h) {
    size_t rows, columns;
    *out = (picture){0};
    if (attn_alignment_words(cli_context(), &out->values, &rows, &columns, h->alignment, h->span, h->count,
                             t->source.token, t->source.count, true) != ATTN_OK)
        return cli_fail_status(c) == EXIT_DONE;
    out->labels = calloc(rows + columns + 1, sizeof *out->labels);
    bool fine = out->labels != NULL;
    for (size_t i = 0; i < rows && fine; i++)
        fine = (out->labels[i] = word_text(h->text, h->span, h->count, i)) != NULL;
    for (size_t i = 0; i < columns && fine; i++)
        fine = (out->labels[rows + i] = word_text(t->source.text, t->source.token, t->source.count, i)) != NULL;
    return finish(c, out, out->values, rows, columns, fine);
}

bool picture_make_tokens(const command *c, picture *out, const attn_tokenizer *k, const attn_translation *t,
                         const attn_hypothesis *h) {
    size_t rows = h->count, columns = t->source.count;
    *out = (picture){.labels = calloc(rows + columns + 1, sizeof *out->labels)};
    bool fine = out->labels != NULL;
    for (size_t i = 0; i < rows + columns && fine; i++) {
        const char *piece = attn_tokenizer_piece(k, i < rows ? h->id[i] : t->source.token[i - rows].id);
        fine = (out->labels[i] = strdup(piece ? piece : "?")) != NULL;
    }
    return finish(c, out, h->alignment, rows, columns, fine);
}

void picture_free(picture *p) {
    for (size_t i = 0; p->labels && i < p->map.rows + p->map.columns; i++) free(p->labels[i]);
    free(p->labels);
    if (p->values) attn_text_free(cli_context(), p->values);
    *p = (picture){0};
}
