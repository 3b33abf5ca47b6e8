/* picture.c: see picture.h. */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

char *word_text(const char *text, const attn_token *token, size_t n, size_t word) {
    size_t first = (size_t)-1, end = 0;
    for (size_t i = 0; i < n; i++) {
        if (token[i].word != (int32_t)word) continue;
        if (token[i].first < first) first = token[i].first;
        if (token[i].end > end) end = token[i].end;
    }
    if (first > end) first = end = 0;
    while (first < end && text[first] == ' ') first++;
    char *out = malloc(end - first + 1);
    if (!out) return NULL;
    memcpy(out, text + first, end - first);
    out[end - first] = 0;
    return out;
}

bool picture_make(const command *c, picture *out, const attn_translation *t, const attn_hypothesis *h) {
    attn_context *ctx = cli_context();
    size_t rows, columns;
    *out = (picture){0};
    if (!h->alignment) {
        cli_fail(c, "this model has no attention: one fixed vector stands for the whole sentence");
        return false;
    }
    if (attn_alignment_words(ctx, &out->values, &rows, &columns, h->alignment, h->span, h->count, t->source.token,
                             t->source.count, true) != ATTN_OK) {
        cli_fail_status(c);
        return false;
    }
    out->labels = calloc(rows + columns + 1, sizeof *out->labels);
    bool fine = out->labels != NULL;
    for (size_t i = 0; i < rows && fine; i++)
        fine = (out->labels[i] = word_text(h->text, h->span, h->count, i)) != NULL;
    for (size_t i = 0; i < columns && fine; i++)
        fine = (out->labels[rows + i] = word_text(t->source.text, t->source.token, t->source.count, i)) != NULL;
    out->map = (attn_heatmap){
        .row_axis = "target", .column_axis = "source", .values = out->values, .rows = rows, .columns = columns};
    if (!fine) {
        cli_fail(c, "out of memory");
        picture_free(out);
        return false;
    }
    out->map.row_labels = (const char *const *)out->labels;
    out->map.column_labels = (const char *const *)(out->labels + rows);
    return true;
}

void picture_free(picture *p) {
    for (size_t i = 0; p->labels && i < p->map.rows + p->map.columns; i++) free(p->labels[i]);
    free(p->labels);
    attn_text_free(cli_context(), p->values); /* NULL when the map borrows its values */
    *p = (picture){0};
}
