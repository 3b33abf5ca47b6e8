/* stream.c: lines in, checked texts, output that is known to have arrived. See common.h. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- lines ------------------------------------------------------------------------------------------------------ */

bool cli_open_lines(const command *c, line_reader *r, const char *path) {
    bool standard = !strcmp(path, "-");
    *r = (line_reader){.name = standard ? "(stdin)" : path, .fd = STDIN_FILENO};
    if (!standard) r->fd = open(path, O_RDONLY | O_CLOEXEC);
    else if (isatty(STDIN_FILENO)) cli_note("a text a line; Ctrl-D ends");
    if (r->fd >= 0) return true;
    r->failed = true;
    cli_fail(c, "%s: cannot open: %s", path, strerror(errno));
    return false;
}

void cli_close_lines(line_reader *r) {
    if (r->fd > STDIN_FILENO) close(r->fd);
    free(r->buffer);
    *r = (line_reader){.fd = -1, .failed = r->failed};
}

bool cli_line_waits(const line_reader *r) {
    if (r->at_end || memchr(r->buffer + r->at, '\n', r->end - r->at)) return true;
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* More bytes behind those that wait; one byte stays free for a NUL. */
static bool fill(const command *c, line_reader *r) {
    memmove(r->buffer, r->buffer + r->at, r->end - r->at);
    r->end -= r->at;
    r->at = 0;
    if (r->end + 1 >= r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : (size_t)1 << 16;
        char *grown = realloc(r->buffer, capacity);
        if (!grown) return cli_fail_memory(c) == EXIT_DONE;
        r->buffer = grown;
        r->capacity = capacity;
    }
    ssize_t n;
    do n = read(r->fd, r->buffer + r->end, r->capacity - r->end - 1);
    while (n < 0 && errno == EINTR);
    if (n < 0) return cli_fail(c, "%s:%zu: cannot read: %s", r->name, r->line, strerror(errno)) == EXIT_DONE;
    r->end += (size_t)n;
    r->at_end = n == 0;
    return true;
}

bool cli_read_line(const command *c, line_reader *r) {
    char *end = NULL;
    if (!r->buffer) {
        r->buffer = malloc(r->capacity = 1 << 16);
        if (!r->buffer) return r->failed = true, cli_fail_memory(c) == EXIT_DONE;
    }
    r->line++;
    for (size_t seen = 0;;) {
        end = memchr(r->buffer + r->at + seen, '\n', r->end - r->at - seen);
        seen = end ? (size_t)(end - r->buffer) - r->at : r->end - r->at;
        if (seen > CLI_MAX_LINE) {
            cli_fail(c, "%s:%zu: found a line of more than %d bytes, expected shorter ones", r->name, r->line,
                     CLI_MAX_LINE);
            return !(r->failed = true);
        }
        if (end || r->at_end) break;
        if (!fill(c, r)) return !(r->failed = true);
    }
    if (!end && r->at == r->end) return false;
    r->text = r->buffer + r->at;
    r->bytes = (end ? (size_t)(end - r->buffer) : r->end) - r->at;
    r->at += r->bytes + (end != NULL);
    if (r->bytes && r->text[r->bytes - 1] == '\r') r->bytes--;
    r->text[r->bytes] = 0;
    if (r->line == 1 && r->bytes >= 3 && !memcmp(r->text, "\xEF\xBB\xBF", 3)) {
        r->text += 3;
        r->bytes -= 3;
    }
    return true;
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

int cli_fail_at(const command *c, const char *name, size_t line, const char *text) {
    return line ? cli_fail(c, "%s:%zu: %s", name, line, text) : cli_fail(c, "%s: %s", name, text);
}

bool cli_check_text(const command *c, const char *name, size_t line, const char *text, size_t bytes) {
    attn_context *ctx = cli_context();
    char *normal, why[128];
    size_t bad;
    const char *nul = memchr(text, 0, bytes);
    if (nul) {
        snprintf(why, sizeof why, "found a NUL as byte %zu, expected text", (size_t)(nul - text) + 1);
        return cli_fail_at(c, name, line, why) == EXIT_DONE;
    }
    if (attn_text_normalise(ctx, &normal, NULL, text, bytes, &bad) != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    attn_text_free(ctx, normal);
    if (bad == SIZE_MAX) return true;
    snprintf(why, sizeof why, "found 0x%02X as byte %zu, expected UTF-8", (unsigned)(unsigned char)text[bad], bad + 1);
    return cli_fail_at(c, name, line, why) == EXIT_DONE;
}

bool cli_check_length(const command *c, const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *name,
                      size_t line, const char *text, size_t bytes, long long most) {
    enum { BYTES_PER_TOKEN = 64, SURE = 4 }; /* so few bytes are never too many tokens */
    char why[128];
    if (!most || bytes < (size_t)most / SURE) return true;
    if (bytes / BYTES_PER_TOKEN > (size_t)most) { /* no tokens are made of 10 MB to learn that */
        snprintf(why, sizeof why, "found %zu bytes, expected at most %lld tokens (--max-source)", bytes, most);
        return cli_fail_at(c, name, line, why) == EXIT_DONE;
    }
    if (attn_tokenize(tokenizer, tokens, text, bytes, false) != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    if (tokens->count <= (size_t)most) return true;
    snprintf(why, sizeof why, "found %zu tokens, expected at most %lld (--max-source)", tokens->count, most);
    return cli_fail_at(c, name, line, why) == EXIT_DONE;
}

bool cli_check_pairs(const command *c, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                     const text_list *files, bool reverse, long long most) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    const char *name[2] = {files->item[0], files->item[files->count - 1]};
    for (int i = 0; i < 2; i++)
        if (!strcmp(name[i], "-")) name[i] = "(stdin)";
    bool fine = true;
    for (size_t i = 0; i < attn_corpus_count(corpus) && fine; i++) {
        const attn_pair *p = attn_corpus_at(corpus, i);
        fine = cli_check_length(c, tokenizer, &tokens, name[reverse], p->line, p->source, p->source_bytes, most) &&
               cli_check_length(c, tokenizer, &tokens, name[!reverse], p->line, p->target, p->target_bytes, most);
    }
    attn_tokens_free(cli_context(), &tokens);
    return fine;
}

char *cli_join(const command *c, char **words, int n) {
    size_t bytes = 1;
    for (int i = 0; i < n; i++) bytes += strlen(words[i]) + 1;
    char *out = malloc(bytes), *at = out;
    if (!out) cli_fail_memory(c);
    for (int i = 0; out && i < n; i++) {
        size_t length = strlen(words[i]);
        if (i) *at++ = ' ';
        memcpy(at, words[i], length);
        at += length;
    }
    if (out) *at = 0;
    return out;
}

/* ---- parallel files --------------------------------------------------------------------------------------------- */

int cli_check_files(const command *c, const char *option, const text_list *files) {
    if (files->count == 1 || files->count == 2) return GO_ON;
    return cli_wrong_use(c, "--%s: found %zu files, expected one (source TAB target) or two", option, files->count);
}

bool cli_check_labels(const command *c, const attn_model *model, const attn_corpus *corpus, const char *file) {
    const size_t labels = attn_model_labels(model);
    for (size_t i = 0; corpus && i < attn_corpus_count(corpus); i++) {
        const attn_pair *pair = attn_corpus_at(corpus, i);
        bool known = false;
        for (size_t k = 0; k < labels && !known; k++) known = !strcmp(pair->target, attn_model_label(model, k));
        if (known) continue;
        cli_fail(c, "%s:%zu: found the label \"%.60s\", expected one of the model's %zu, such as \"%s\"", file,
                 pair->line, pair->target, labels, attn_model_label(model, 0));
        return false;
    }
    return true;
}

bool cli_read_corpus(const command *c, attn_corpus **out, const text_list *files, bool reverse, long long limit) {
    attn_corpus_options o = ATTN_CORPUS_OPTIONS_INIT;
    o.reverse = reverse;
    o.limit = (size_t)limit;
    if (attn_corpus_read(out, cli_context(), files->item, files->count, &o) != ATTN_OK)
        return cli_fail_status(c) == EXIT_DONE;
    if (attn_corpus_count(*out)) return true;
    cli_fail(c, "%s: found no pair, expected at least one", files->item[0]);
    attn_corpus_free(*out);
    *out = NULL;
    return false;
}

/* ---- output ----------------------------------------------------------------------------------------------------- */

static int stdout_errno; /* of the first failure */

bool cli_flush(void) {
    if (fflush(stdout) != 0 && !stdout_errno) stdout_errno = errno;
    if (ferror(stdout) && !stdout_errno) stdout_errno = errno ? errno : EIO;
    return !stdout_errno;
}

/* A reader that has seen enough (head) is told nothing. */
int cli_close_stdout(const command *c, int code) {
    cli_flush();
    if (close(STDOUT_FILENO) != 0 && !stdout_errno) stdout_errno = errno; /* some file systems say it only here */
    if (!stdout_errno) return code;
    if (stdout_errno != EPIPE) cli_fail(c, "(stdout): cannot write: %s", strerror(stdout_errno));
    return code == EXIT_DONE ? EXIT_FAILED : code;
}

void cli_put_text(const char *text, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t n = 0;
        while (at + n < bytes && text[at + n] != '\n' && text[at + n] != '\r' && text[at + n]) n++;
        fwrite(text + at, 1, n, stdout);
        at += n;
        if (at < bytes) putchar(' '), at++;
    }
}

bool cli_put_json(json_t *root, size_t flags) {
    bool fine = root && json_dumpf(root, stdout, flags) == 0;
    json_decref(root);
    putchar('\n');
    return fine && !ferror(stdout);
}

json_t *cli_json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *cli_json_floats(const float *x, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, cli_json_number((double)x[i]));
    return list;
}

json_t *cli_json_matrix(const float *x, size_t rows, size_t columns) {
    json_t *list = json_array();
    for (size_t i = 0; i < rows; i++) json_array_append_new(list, cli_json_floats(x + i * columns, columns));
    return list;
}

bool cli_write(const command *c, const char *path, const char *data, size_t bytes) {
    if (!strcmp(path, "-")) {
        fwrite(data, 1, bytes, stdout);
        return cli_flush();
    }
    return attn_file_write(cli_context(), path, data, bytes) == ATTN_OK || cli_fail_status(c) == EXIT_DONE;
}

bool cli_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

int cli_check_output_name(const command *c, const char *path, const char *const *ends) {
    char list[64] = "";
    if (!path || !strcmp(path, "-")) return GO_ON;
    for (size_t i = 0, at = 0; ends[i]; i++) {
        if (cli_ends_with(path, ends[i])) return GO_ON;
        at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", !i ? "" : ends[i + 1] ? ", " : " or ", ends[i]);
    }
    return cli_wrong_use(c, "-o: found \"%s\", expected a name that ends in %s, or -", path, list);
}

size_t cli_count_words(const char *text) {
    size_t words = 0;
    for (bool inside = false; *text; text++) {
        bool space = *text == ' ' || *text == '\t';
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

size_t cli_clip_links(attn_links *links, size_t source_words, size_t target_words) {
    size_t kept = 0, had = links->count;
    for (size_t i = 0; i < had; i++)
        if ((size_t)links->link[i].source < source_words && (size_t)links->link[i].target < target_words)
            links->link[kept++] = links->link[i];
    links->count = kept;
    return had - kept;
}
