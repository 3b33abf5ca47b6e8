/* picture.c: see picture.h. */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

int32_t *picture_ids(const command *c, const attn_tokens *tokens) {
    int32_t *ids = malloc((tokens->count + 1) * sizeof *ids);
    if (!ids) return cli_fail_memory(c), NULL;
    for (size_t i = 0; i < tokens->count; i++) ids[i] = tokens->token[i].id;
    return ids;
}

/* The k-th white-space word of text, by the tokens' spans; malloc'd. */
static char *word_text(const char *text, const attn_token *token, size_t n, size_t word) {
    size_t first = SIZE_MAX, end = 0;
    for (size_t i = 0; i < n; i++) {
        if (token[i].word != (int32_t)word) continue;
        if (token[i].first < first) first = token[i].first;
        if (token[i].end > end) end = token[i].end;
    }
    if (first > end) first = end = 0;
    size_t seen = first; /* without the space before it, unless it is nothing else */
    while (seen < end && strchr(" \n\r\t", text[seen])) seen++;
    if (seen < end) first = seen;
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

/* ---- a head ------------------------------------------------------------------------------------------------ */

void axis_free(picture_axis *a) {
    for (size_t i = 0; a->label && i < a->groups; i++) free(a->label[i]);
    free(a->label);
    free(a->group);
    *a = (picture_axis){0};
}

bool axis_make(picture_axis *a, const attn_tokenizer *k, const char *text, const attn_token *token, size_t n,
               bool start, bool words) {
    *a = (picture_axis){calloc(n + 1, sizeof *a->group), n, 0, calloc(n + 1, sizeof *a->label)};
    bool fine = a->group && a->label;
    for (size_t i = 0; i < n && fine; i++) {
        const attn_token *own = start ? i ? &token[i - 1] : NULL : &token[i];
        const attn_token *before = !i ? NULL : start ? i > 1 ? &token[i - 2] : NULL : &token[i - 1];
        if (words && own && before && own->word >= 0 && own->word == before->word) {
            a->group[i] = a->groups - 1;
            continue;
        }
        const char *piece = attn_tokenizer_piece(k, own ? own->id : ATTN_ID_EOS);
        a->group[i] = a->groups++;
        a->label[a->group[i]] =
            words && own && own->word >= 0 ? word_text(text, token, n, (size_t)own->word) : strdup(piece ? piece : "?");
        fine = a->label[a->group[i]] != NULL;
    }
    return fine;
}

/* Sums over the keys of a group, means over its queries. */
static void merge(float *out, const picture_axis *row, const picture_axis *column, const float *weights) {
    for (size_t i = 0, first = 0; i < row->tokens; i++) {
        if (i && row->group[i] != row->group[i - 1]) first = i;
        size_t n = 0;
        for (size_t r = first; r < row->tokens && row->group[r] == row->group[i]; r++) n++;
        for (size_t j = 0; j < column->tokens; j++)
            out[row->group[i] * column->groups + column->group[j]] += weights[i * column->tokens + j] / (float)n;
    }
}

/* Takes both axes' labels, and frees the axes. */
static bool make_head(const command *c, picture *out, picture_axis *row, picture_axis *column, const float *weights,
                      bool fine) {
    *out = (picture){0};
    if (fine) fine = (out->labels = calloc(row->groups + column->groups + 1, sizeof *out->labels)) != NULL;
    if (fine) fine = (out->merged = calloc(row->groups * column->groups, sizeof *out->merged)) != NULL;
    if (fine) {
        merge(out->merged, row, column, weights);
        memcpy(out->labels, row->label, row->groups * sizeof *row->label);
        memcpy(out->labels + row->groups, column->label, column->groups * sizeof *column->label);
        free(row->label);
        free(column->label);
        row->label = column->label = NULL; /* the picture has them */
    }
    fine = finish(c, out, out->merged, fine ? row->groups : 0, fine ? column->groups : 0, fine);
    axis_free(row);
    axis_free(column);
    return fine;
}

bool picture_make_head(const command *c, picture *out, const attn_tokenizer *k, const attn_translation *t,
                       const attn_hypothesis *h, attn_look_kind kind, const float *weights, bool words) {
    static const char *const axes[] = {"source", "target read", "target"};
    const bool from_source = kind == ATTN_LOOK_ENCODER, to_source = kind != ATTN_LOOK_DECODER;
    const bool start = kind == ATTN_LOOK_DECODER;
    picture_axis row, column = {0};
    bool fine = from_source ? axis_make(&row, k, t->source.text, t->source.token, t->source.count, false, words)
                            : axis_make(&row, k, h->text, h->span, h->count, start, words);
    if (fine)
        fine = to_source ? axis_make(&column, k, t->source.text, t->source.token, t->source.count, false, words)
                         : axis_make(&column, k, h->text, h->span, h->count, start, words);
    if (!make_head(c, out, &row, &column, weights, fine)) return false;
    out->map.row_axis = axes[kind], out->map.column_axis = to_source ? axes[0] : axes[kind];
    return true;
}

bool picture_make_text(const command *c, picture *out, const attn_tokenizer *k, const attn_tokens *tokens,
                       const float *weights, bool words) {
    picture_axis row, column = {0};
    bool fine = axis_make(&row, k, tokens->text, tokens->token, tokens->count, false, words) &&
                axis_make(&column, k, tokens->text, tokens->token, tokens->count, false, words);
    if (!make_head(c, out, &row, &column, weights, fine)) return false;
    out->map.row_axis = "who reads", out->map.column_axis = "what is read";
    return true;
}

void picture_free(picture *p) {
    for (size_t i = 0; p->labels && i < p->map.rows + p->map.columns; i++) free(p->labels[i]);
    free(p->labels);
    if (p->values) attn_text_free(cli_context(), p->values);
    free(p->merged);
    *p = (picture){0};
}
