/* corpus.c: pairs of lines. The texts stay where the file was read to, with a NUL in place of what ended them. */
#include <string.h>

#include "text/corpus.h"
#include "text/normalise.h"

/* A file being cut into lines. */
typedef struct lines {
    attn_context *ctx;
    const char *path;
    char *text;
    size_t bytes, at, line; /* line: number of the last one, from 1 */
} lines;

static const char *shown(const char *path) { return strcmp(path, "-") == 0 ? "(stdin)" : path; }

/* The next line, NUL-terminated, checked. *line is NULL at the end. */
static attn_status next_line(lines *l, char **line, size_t *bytes) {
    *line = NULL;
    *bytes = 0;
    if (l->at >= l->bytes) return ATTN_OK;
    char *first = l->text + l->at, *end = memchr(first, '\n', l->bytes - l->at);
    size_t n = end ? (size_t)(end - first) : l->bytes - l->at;
    l->at += n + (end != NULL);
    l->line++;
    if (n && first[n - 1] == '\r') n--;
    const char *path = shown(l->path);
    const char *nul = memchr(first, '\0', n);
    if (nul)
        return attn_fail(l->ctx, ATTN_E_FORMAT, "%s:%zu: found a NUL as byte %zu of the line, expected text", path,
                         l->line, (size_t)(nul - first) + 1);
    size_t bad = attn_utf8_check(first, n);
    if (bad != SIZE_MAX)
        return attn_fail(l->ctx, ATTN_E_FORMAT, "%s:%zu: found 0x%02X as byte %zu of the line, expected UTF-8", path,
                         l->line, (unsigned)(unsigned char)first[bad], bad + 1);
    first[n] = '\0';
    *line = first;
    *bytes = n;
    return ATTN_OK;
}

static bool is_blank(const char *text, size_t bytes) {
    attn_strip(&text, &bytes, true, false);
    return bytes == 0;
}

static attn_status add_pair(attn_corpus *corpus, attn_pair pair, bool reverse) {
    ATTN_TRY(attn_grow(corpus->ctx, &corpus->pair, &corpus->capacity, corpus->count + 1, corpus->count, sizeof pair));
    if (reverse) pair = (attn_pair){pair.target, pair.source, pair.target_bytes, pair.source_bytes, pair.line};
    corpus->pair[corpus->count++] = pair;
    return ATTN_OK;
}

/* A pair of which one side is blank is a mistake in the file; one of which both are is no pair. */
static attn_status add_lines(attn_corpus *corpus, attn_pair pair, bool reverse, const char *path, const char *other) {
    bool source = is_blank(pair.source, pair.source_bytes), target = is_blank(pair.target, pair.target_bytes);
    if (source && target) return ATTN_OK;
    if (source || target)
        return attn_fail(corpus->ctx, ATTN_E_FORMAT, "%s:%zu: found nothing but white space%s, expected text",
                         shown(source || !other ? path : other), pair.line,
                         other ? "" : (source ? " before the TAB" : " behind the TAB"));
    return add_pair(corpus, pair, reverse);
}

static attn_status read_tsv(attn_corpus *corpus, lines *l, bool reverse, size_t limit) {
    while (corpus->count < limit) {
        char *line;
        size_t bytes;
        ATTN_TRY(next_line(l, &line, &bytes));
        if (!line) return ATTN_OK;
        if (is_blank(line, bytes)) continue;
        char *tab = memchr(line, '\t', bytes);
        if (!tab)
            return attn_fail(corpus->ctx, ATTN_E_FORMAT,
                             "%s:%zu: found a line without a TAB, expected source TAB target", shown(l->path), l->line);
        char *target = tab + 1, *further = memchr(target, '\t', bytes - (size_t)(target - line));
        size_t target_bytes = further ? (size_t)(further - target) : bytes - (size_t)(target - line);
        *tab = target[target_bytes] = '\0';
        attn_pair pair = {line, target, (size_t)(tab - line), target_bytes, l->line};
        ATTN_TRY(add_lines(corpus, pair, reverse, l->path, NULL));
    }
    return ATTN_OK;
}

static attn_status read_two(attn_corpus *corpus, lines *l, bool reverse, size_t limit) {
    while (corpus->count < limit) {
        char *line[2];
        size_t bytes[2];
        for (int side = 0; side < 2; side++) ATTN_TRY(next_line(l + side, line + side, bytes + side));
        if (!line[0] && !line[1]) return ATTN_OK;
        if (!line[0] || !line[1]) {
            int ended = line[0] ? 1 : 0;
            return attn_fail(corpus->ctx, ATTN_E_FORMAT, "%s:%zu: found the end of the file, expected a line as in %s",
                             shown(l[ended].path), l[ended].line + 1, shown(l[!ended].path));
        }
        attn_pair pair = {line[0], line[1], bytes[0], bytes[1], l->line};
        ATTN_TRY(add_lines(corpus, pair, reverse, l[0].path, l[1].path));
    }
    return ATTN_OK;
}

attn_status attn_corpus_read(attn_corpus **gives, attn_context *ctx, const char *const *paths, size_t n,
                             const attn_corpus_options *options) {
    attn_corpus_options o = ATTN_CORPUS_OPTIONS_INIT;
    *gives = NULL;
    if (options && options->struct_size != sizeof o)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_corpus_options: found struct_size %zu, expected %zu",
                         options->struct_size, sizeof o);
    if (options) o = *options;
    if (n != 1 && n != 2) return attn_fail(ctx, ATTN_E_ARGUMENT, "a corpus: found %zu files, expected one or two", n);
    if (n == 2 && strcmp(paths[0], "-") == 0 && strcmp(paths[1], "-") == 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "a corpus: found stdin twice, expected two files");
    attn_corpus *corpus = attn_alloc_zero(ctx, 1, sizeof *corpus);
    if (!corpus) return ATTN_E_NOMEM;
    corpus->ctx = ctx;
    lines l[2] = {{0}, {0}};
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        l[i] = (lines){.ctx = ctx, .path = paths[i]};
        status = attn_read_text(ctx, &l[i].text, &l[i].bytes, paths[i]);
        corpus->text[i] = l[i].text;
    }
    size_t limit = o.limit ? o.limit : SIZE_MAX;
    if (status == ATTN_OK)
        status = n == 1 ? read_tsv(corpus, l, o.reverse, limit) : read_two(corpus, l, o.reverse, limit);
    if (status != ATTN_OK) attn_corpus_free(corpus);
    else *gives = corpus;
    return status;
}

void attn_corpus_free(attn_corpus *corpus) {
    if (!corpus) return;
    attn_release(corpus->ctx, corpus->text[0]);
    attn_release(corpus->ctx, corpus->text[1]);
    attn_release(corpus->ctx, corpus->pair);
    attn_release(corpus->ctx, corpus);
}

size_t attn_corpus_count(const attn_corpus *corpus) { return corpus->count; }

const attn_pair *attn_corpus_at(const attn_corpus *corpus, size_t index) {
    return index < corpus->count ? corpus->pair + index : NULL;
}
