/* aer.c: alignment error rate, and files of links made by hand. */
#include "base/base.h"
#include <attn/text.h>

#include <stdlib.h>
#include <string.h>

/* ---- the measure ----------------------------------------------------------------------------- */

static bool contains(const attn_links *links, attn_link link) {
    for (size_t i = 0; links && i < links->count; i++)
        if (links->link[i].source == link.source && links->link[i].target == link.target) return true;
    return false;
}

void attn_aer_add(attn_aer *aer, const attn_links *found, const attn_links *sure, const attn_links *possible) {
    for (size_t i = 0; found && i < found->count; i++) {
        bool is_sure = contains(sure, found->link[i]);
        aer->hits_sure += is_sure;
        aer->hits_possible += is_sure || contains(possible, found->link[i]); /* what is sure is possible */
    }
    aer->links += found ? found->count : 0;
    aer->sure += sure ? sure->count : 0;
}

double attn_aer_value(const attn_aer *aer) {
    size_t all = aer->links + aer->sure;
    return all ? 1 - (double)(aer->hits_sure + aer->hits_possible) / (double)all : 0;
}

/* ---- gold links ------------------------------------------------------------------------------ */

typedef struct link_list {
    attn_link *link;
    size_t count, capacity;
} link_list;

typedef struct gold_reader {
    attn_context *ctx;
    const char *path;
    size_t line;
    bool one_based;
    link_list list[2]; /* sure, possible: of the line being read */
} gold_reader;

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* Digits up to INT32_MAX. */
static bool read_index(const char **at, const char *end, int32_t *value) {
    int64_t sum = 0;
    const char *first = *at;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        sum = sum * 10 + (**at - '0');
        if (sum > INT32_MAX) return false;
    }
    *value = (int32_t)sum;
    return *at > first;
}

static attn_status read_link(gold_reader *reader, const char *first, const char *end) {
    const char *at = first;
    attn_link link = {0, 0};
    bool good = read_index(&at, end, &link.source) && at < end;
    char kind = good ? *at++ : 0;
    good = good && (kind == '-' || kind == 'p' || kind == '?') && read_index(&at, end, &link.target) && at == end;
    if (!good || (reader->one_based && (link.source == 0 || link.target == 0))) {
        int shown = (int)ATTN_MIN((size_t)(end - first), (size_t)40);
        return attn_fail(reader->ctx, ATTN_E_FORMAT,
                         "%s:%zu: \"%.*s\"; a link i-j, i?j or ipj with indices from %d expected", reader->path,
                         reader->line, shown, first, reader->one_based);
    }
    link.source -= reader->one_based;
    link.target -= reader->one_based;
    link_list *list = &reader->list[kind != '-'];
    ATTN_TRY(attn_grow(reader->ctx, &list->link, &list->capacity, list->count + 1, list->count, sizeof *list->link));
    list->link[list->count++] = link;
    return ATTN_OK;
}

static int compare_links(const void *a, const void *b) {
    const attn_link *p = a, *q = b;
    if (p->source != q->source) return p->source < q->source ? -1 : 1;
    return (p->target > q->target) - (p->target < q->target);
}

/* Sorted copies, each link once. */
static attn_status give_links(gold_reader *reader, attn_links *links, const link_list *list) {
    links->link = attn_alloc(reader->ctx, list->count, sizeof *links->link);
    if (!links->link) return ATTN_E_NOMEM;
    if (list->count) qsort(list->link, list->count, sizeof *list->link, compare_links);
    links->count = 0;
    for (size_t i = 0; i < list->count; i++)
        if (!i || compare_links(&list->link[i - 1], &list->link[i]) != 0) links->link[links->count++] = list->link[i];
    return ATTN_OK;
}

static attn_status read_line(gold_reader *reader, const char *at, const char *end, attn_links *sure,
                             attn_links *possible) {
    reader->list[0].count = reader->list[1].count = 0;
    while (at < end) {
        if (is_blank(*at)) {
            at++;
            continue;
        }
        const char *first = at;
        while (at < end && !is_blank(*at)) at++;
        ATTN_TRY(read_link(reader, first, at));
    }
    ATTN_TRY(give_links(reader, sure, &reader->list[0]));
    return give_links(reader, possible, &reader->list[1]);
}

static attn_status read_gold(gold_reader *reader, const char *text, size_t bytes, attn_links *gold[2], size_t lines) {
    const char *at = text, *limit = text + bytes;
    for (int kind = 0; kind < 2; kind++) {
        gold[kind] = attn_alloc_zero(reader->ctx, lines, sizeof *gold[kind]);
        if (!gold[kind]) return ATTN_E_NOMEM;
    }
    for (size_t k = 0; k < lines; k++) {
        const char *end = memchr(at, '\n', (size_t)(limit - at));
        if (!end) end = limit;
        reader->line = k + 1;
        ATTN_TRY(read_line(reader, at, end, &gold[0][k], &gold[1][k]));
        at = end < limit ? end + 1 : limit;
    }
    return ATTN_OK;
}

attn_status attn_gold_read(attn_context *ctx, attn_links **sure, attn_links **possible, size_t *n, const char *path,
                           bool one_based) {
    if (!ctx) return ATTN_E_ARGUMENT;
    if (!sure || !possible || !n || !path)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "reading gold links: a NULL argument");
    *sure = *possible = NULL;
    *n = 0;
    char *data;
    size_t bytes, lines = 0;
    ATTN_TRY(attn_read_text(ctx, &data, &bytes, path));
    const char *text = data;
    if (bytes >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3, bytes -= 3; /* BOM */
    for (const char *at = text; (at = memchr(at, '\n', bytes - (size_t)(at - text))); at++) lines++;
    if (bytes && text[bytes - 1] != '\n') lines++;
    gold_reader reader = {.ctx = ctx, .path = path, .one_based = one_based};
    attn_links *gold[2] = {NULL, NULL};
    attn_status status = read_gold(&reader, text, bytes, gold, lines);
    for (int kind = 0; kind < 2; kind++) {
        attn_release(ctx, reader.list[kind].link);
        if (status != ATTN_OK) attn_gold_free(ctx, gold[kind], lines);
    }
    attn_text_free(ctx, data);
    if (status != ATTN_OK) return status;
    *sure = gold[0];
    *possible = gold[1];
    *n = lines;
    return ATTN_OK;
}

void attn_gold_free(attn_context *ctx, attn_links *links, size_t n) {
    for (size_t k = 0; links && k < n; k++) attn_release(ctx, links[k].link);
    attn_release(ctx, links);
}
