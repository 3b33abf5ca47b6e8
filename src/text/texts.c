/* texts.c: corpora of texts, for language models. All files lie one behind the other, with a NUL after each text. */
#include <string.h>

#include "text/corpus.h"
#include "text/normalise.h"

static const char border[] = "<|endoftext|>";

static attn_status check_text(attn_context *ctx, const char *path, const char *text, size_t bytes) {
    const char *shown = strcmp(path, "-") == 0 ? "(stdin)" : path, *nul = memchr(text, 0, bytes);
    if (nul)
        return attn_fail(ctx, ATTN_E_FORMAT, "%s: found a NUL as byte %zu, expected text", shown,
                         (size_t)(nul - text) + 1);
    const size_t bad = attn_utf8_check(text, bytes);
    if (bad == SIZE_MAX) return ATTN_OK;
    size_t line = 1;
    for (size_t i = 0; i < bad; i++) line += text[i] == '\n';
    return attn_fail(ctx, ATTN_E_FORMAT, "%s:%zu: found 0x%02X as byte %zu of the file, expected UTF-8", shown, line,
                     (unsigned)(unsigned char)text[bad], bad + 1);
}

/* One more text; the pointer is set when all are there, since the memory may move. */
static attn_status add_text(attn_corpus *corpus, attn_buffer *all, const char *text, size_t bytes) {
    const char *at = text;
    size_t rest = bytes;
    attn_strip(&at, &rest, true, true);
    if (rest == 0) return ATTN_OK;
    ATTN_TRY(attn_grow(corpus->ctx, &corpus->pair, &corpus->capacity, corpus->count + 1, corpus->count,
                       sizeof *corpus->pair));
    corpus->pair[corpus->count++] = (attn_pair){.target_bytes = bytes, .line = 1};
    attn_buffer_add(all, text, bytes);
    attn_buffer_add(all, "", 1);
    return all->status;
}

static void set_pointers(attn_corpus *corpus) {
    char *at = corpus->text[0];
    for (size_t i = 0; i < corpus->count; i++) {
        corpus->pair[i].target = at;
        at += corpus->pair[i].target_bytes;
        corpus->pair[i].source = at; /* the NUL */
        at++;
    }
}

/* Cuts a file at lines that are a border. */
static attn_status add_file(attn_corpus *corpus, attn_buffer *all, const char *text, size_t bytes) {
    const size_t length = sizeof border - 1;
    size_t first = bytes >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0, line = first;
    while (line < bytes) {
        const char *end = memchr(text + line, '\n', bytes - line);
        const size_t next = end ? (size_t)(end - text) + 1 : bytes;
        size_t n = next - line;
        while (n && (text[line + n - 1] == '\n' || text[line + n - 1] == '\r')) n--;
        if (n == length && !memcmp(text + line, border, length)) {
            ATTN_TRY(add_text(corpus, all, text + first, line - first));
            first = next;
        }
        line = next;
    }
    return first < bytes ? add_text(corpus, all, text + first, bytes - first) : ATTN_OK;
}

attn_status attn_corpus_read_texts(attn_corpus **gives, attn_context *ctx, const char *const *paths, size_t n) {
    *gives = NULL;
    attn_corpus *corpus = attn_alloc_zero(ctx, 1, sizeof *corpus);
    if (!corpus) return ATTN_E_NOMEM;
    corpus->ctx = ctx;
    attn_buffer all = ATTN_BUFFER_INIT(ctx);
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        char *text = NULL;
        size_t bytes = 0;
        status = attn_read_text(ctx, &text, &bytes, paths[i]);
        if (status == ATTN_OK) status = check_text(ctx, paths[i], text, bytes);
        if (status == ATTN_OK) status = add_file(corpus, &all, text, bytes);
        attn_text_free(ctx, text);
    }
    if (status == ATTN_OK) status = attn_buffer_give(&all, &corpus->text[0], NULL);
    else attn_buffer_free(&all);
    if (status == ATTN_OK) {
        set_pointers(corpus);
        *gives = corpus;
    } else {
        attn_corpus_free(corpus);
    }
    return status;
}

attn_status attn_corpus_split_texts(attn_corpus **gives, attn_corpus *corpus, double part) {
    attn_context *ctx = corpus->ctx;
    size_t total = 0, kept = 0;
    *gives = NULL;
    if (!(part >= 0 && part <= 1))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "the part of the texts to split off is %g, expected 0 to 1", part);
    attn_corpus *rest = attn_alloc_zero(ctx, 1, sizeof *rest);
    if (!rest) return ATTN_E_NOMEM;
    rest->ctx = ctx;
    for (size_t i = 0; i < corpus->count; i++) total += corpus->pair[i].target_bytes;
    size_t left = (size_t)((1 - part) * (double)total);
    attn_buffer all = ATTN_BUFFER_INIT(ctx);
    attn_status status = ATTN_OK;
    size_t count = corpus->count;
    for (size_t i = 0; i < corpus->count && status == ATTN_OK; i++) {
        attn_pair *pair = &corpus->pair[i];
        size_t stay = ATTN_MIN(left, pair->target_bytes);
        while (stay < pair->target_bytes && stay > 0 && ((unsigned char)pair->target[stay] & 0xC0) == 0x80) stay--;
        left -= stay;
        if (stay == pair->target_bytes) {
            kept = i + 1;
            continue;
        }
        left = 0;
        status = add_text(rest, &all, pair->target + stay, pair->target_bytes - stay);
        if (stay == 0) continue;
        corpus->text[0][pair->target - corpus->text[0] + (ptrdiff_t)stay] = '\0';
        pair->target_bytes = stay;
        pair->source = pair->target + stay;
        kept = i + 1;
    }
    if (status == ATTN_OK) count = kept;
    corpus->count = count;
    if (status == ATTN_OK) status = attn_buffer_give(&all, &rest->text[0], NULL);
    else attn_buffer_free(&all);
    if (status == ATTN_OK) {
        set_pointers(rest);
        *gives = rest;
    } else {
        attn_corpus_free(rest);
    }
    return status;
}
