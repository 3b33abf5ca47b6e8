/* common.c: see common.h. */
#include "common.h"

#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

enum { MAX_LINE = 64 << 20 };

static attn_context *context;
static int threads;
bool cli_quiet;
volatile int cli_interrupted;

/* ---- context and messages --------------------------------------------------------------------------------- */

void cli_set_threads(long long n) { threads = (int)n; }

attn_context *cli_context(void) {
    if (context) return context;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_status status = attn_context_create(&context, &options);
    if (status == ATTN_OK) return context;
    const char *level = getenv("ATTN_CPU");
    fprintf(stderr, "attn: no context: %s", attn_status_text(status));
    if (status == ATTN_E_UNSUPPORTED && level) {
        fprintf(stderr, ": ATTN_CPU is \"%s\", this machine has", level);
        for (const char *const *l = attn_cpu_levels(); *l; l++) fprintf(stderr, " %s", *l);
    }
    fputc('\n', stderr);
    return NULL;
}

void cli_done(void) {
    attn_context_free(context);
    context = NULL;
}

static void say(const command *c, const char *format, va_list list) {
    fflush(stdout);
    fprintf(stderr, "attn %s: ", c->name);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
}

int cli_fail(const command *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(c, format, list);
    va_end(list);
    return EXIT_FAILED;
}

int cli_fail_status(const command *c) { return cli_fail(c, "%s", attn_error(context)); }

int cli_wrong_use(const command *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(c, format, list);
    va_end(list);
    fprintf(stderr, "attn %s --help tells more\n", c->name);
    return EXIT_WRONG_USE;
}

void cli_note(const char *format, ...) {
    va_list list;
    if (cli_quiet) return;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
}

int cli_close_stdout(const command *c, int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    if (errno == EPIPE) return code == EXIT_DONE ? EXIT_FAILED : code;
    return cli_fail(c, "standard output: %s", strerror(errno));
}

/* ---- terminal ----------------------------------------------------------------------------------------------- */

terminal cli_terminal(FILE *stream) {
    terminal t = {.is_terminal = isatty(fileno(stream)), .width = 80};
    const char *term = getenv("TERM"), *no = getenv("NO_COLOR"), *force = getenv("FORCE_COLOR"),
               *true_colour = getenv("COLORTERM");
    const char *columns = getenv("COLUMNS");
    struct winsize size;
    if (t.is_terminal && ioctl(fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) t.width = size.ws_col;
    if (columns && strtol(columns, NULL, 10) > 0) t.width = (int)strtol(columns, NULL, 10);
    bool dumb = !term || !strcmp(term, "dumb");
    bool forced = force && *force && strcmp(force, "0") != 0;
    if (forced || (t.is_terminal && !dumb && !(no && *no)))
        t.colours = true_colour && (!strcmp(true_colour, "truecolor") || !strcmp(true_colour, "24bit")) ? 1 << 24 : 256;
    const char *codeset = nl_langinfo(CODESET); /* the C locale says nothing of the terminal: UTF-8 is likely */
    t.unicode = !strcmp(codeset, "UTF-8") || !strcmp(codeset, "ANSI_X3.4-1968") || !strcmp(codeset, "US-ASCII");
    return t;
}

attn_terminal_options cli_terminal_options(const terminal *t) {
    attn_terminal_options o = ATTN_TERMINAL_OPTIONS_INIT;
    o.width = t->width;
    o.colours = t->colours;
    o.unicode = t->unicode;
    return o;
}

/* ---- shipped files -------------------------------------------------------------------------------------------- */

/* The folder above the one the program lies in. */
static bool program_root(char out[PATH_MAX]) {
#ifdef __APPLE__
    uint32_t size = PATH_MAX;
    char raw[PATH_MAX];
    if (_NSGetExecutablePath(raw, &size) != 0 || !realpath(raw, out)) return false;
#else
    ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
    if (n <= 0) return false;
    out[n] = 0;
#endif
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(out, '/');
        if (!slash) return false;
        *slash = 0;
    }
    return true;
}

const char *cli_share(const char *relative) {
    static char path[PATH_MAX];
    char root[PATH_MAX];
    const char *share = getenv("ATTN_SHARE");
    if (share && snprintf(path, sizeof path, "%s/%s", share, relative) < PATH_MAX && access(path, R_OK) == 0)
        return path;
    if (!program_root(root)) return NULL;
    for (size_t i = 0; i < 2; i++) {
        int n = i == 0 ? snprintf(path, sizeof path, "%s/%s", root, relative)
                       : snprintf(path, sizeof path, "%s/share/attn/%s", root, relative);
        if (n < PATH_MAX && access(path, R_OK) == 0) return path;
    }
    return NULL;
}

bool cli_load_translator(const command *c, translator *out, const char *folder) {
    char path[PATH_MAX];
    *out = (translator){NULL, NULL};
    attn_context *ctx = cli_context();
    if (!ctx) return false;
    if (!folder) {
        folder = cli_share("models/de-en");
        if (!folder) {
            cli_fail(c, "the model that ships (models/de-en) was not found; -m FOLDER names another");
            return false;
        }
        snprintf(path, sizeof path, "%s", folder);
        folder = path;
    }
    char tokenizer[PATH_MAX];
    if (snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", folder) >= PATH_MAX) {
        cli_fail(c, "%.60s…: the path is too long", folder);
        return false;
    }
    if (attn_model_load(&out->model, ctx, folder) != ATTN_OK ||
        attn_tokenizer_load(&out->tokenizer, ctx, tokenizer) != ATTN_OK) {
        cli_fail_status(c);
        cli_free_translator(out);
        return false;
    }
    return true;
}

void cli_free_translator(translator *t) {
    attn_model_free(t->model);
    attn_tokenizer_free(t->tokenizer);
    *t = (translator){NULL, NULL};
}

/* ---- input, output -------------------------------------------------------------------------------------------- */

bool cli_read_line(const command *c, line_reader *r) {
    r->line++;
    errno = 0;
    ssize_t n = getline(&r->text, &r->capacity, r->stream);
    if (n < 0) {
        if (ferror(r->stream) && !cli_interrupted) {
            cli_fail(c, "%s: line %zu: %s", r->name, r->line, strerror(errno));
            r->failed = true;
        }
        free(r->text);
        r->text = NULL;
        return false;
    }
    if (n > MAX_LINE) {
        cli_fail(c, "%s: line %zu: found %zd bytes, expected at most %d", r->name, r->line, n, MAX_LINE);
        r->failed = true;
        return false;
    }
    if (n > 0 && r->text[n - 1] == '\n') n--;
    if (n > 0 && r->text[n - 1] == '\r') n--;
    r->text[n] = 0;
    r->bytes = (size_t)n;
    return true;
}

static void on_interrupt(int signal_number) {
    (void)signal_number;
    if (cli_interrupted) _exit(130);
    cli_interrupted = 1;
}

void cli_catch_interrupt(void) {
    struct sigaction action = {.sa_handler = on_interrupt};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_write(const command *c, const char *path, const char *data, size_t bytes) {
    if (!strcmp(path, "-")) {
        if (fwrite(data, 1, bytes, stdout) == bytes && fflush(stdout) == 0) return true;
        cli_fail(c, "standard output: %s", strerror(errno));
        return false;
    }
    if (attn_file_write(context, path, data, bytes) == ATTN_OK) return true;
    cli_fail_status(c);
    return false;
}

bool cli_ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}
