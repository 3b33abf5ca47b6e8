/* common.c: the context, messages, the terminal, shipped files, Ctrl-C. See common.h. */
#include "common.h"

#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#endif

static attn_context *context;
static int threads;
bool cli_quiet;
volatile sig_atomic_t cli_interrupted;

/* ---- messages --------------------------------------------------------------------------------------------------- */

/* Bytes of the character that may be shown; 0: a control character, of C1 too, or no UTF-8. */
static size_t shown_bytes(const unsigned char *at) {
    static const struct {
        unsigned char first, last, low, high, more; /* the first byte, the second one, how many follow */
    } forms[] = {{0xC2, 0xC2, 0xA0, 0xBF, 1}, {0xC3, 0xDF, 0x80, 0xBF, 1}, {0xE0, 0xE0, 0xA0, 0xBF, 2},
                 {0xE1, 0xEC, 0x80, 0xBF, 2}, {0xED, 0xED, 0x80, 0x9F, 2}, {0xEE, 0xEF, 0x80, 0xBF, 2},
                 {0xF0, 0xF0, 0x90, 0xBF, 3}, {0xF1, 0xF3, 0x80, 0xBF, 3}, {0xF4, 0xF4, 0x80, 0x8F, 3}};
    if (*at < 0x80) return *at >= ' ' && *at != 0x7F;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (*at < forms[i].first || *at > forms[i].last || at[1] < forms[i].low || at[1] > forms[i].high) continue;
        size_t n = 2;
        while (n <= forms[i].more && (at[n] & 0xC0) == 0x80) n++;
        return n > forms[i].more ? n : 0;
    }
    return 0;
}

/* One line, in one write: what is not text is written out, so that a file's name cannot drive the terminal. */
static void say(const char *before, const command *c, const char *format, va_list list, bool hint) {
    const char *space = c ? " " : "", *name = c ? c->name : "";
    char *text = NULL, *line = NULL;
    size_t bytes = 0;
    fflush(stdout);
    if (vasprintf(&text, format, list) < 0) text = NULL;
    FILE *out = open_memstream(&line, &bytes);
    if (!out || !text) {
        fputs("attn: out of memory\n", stderr);
    } else {
        if (before) fprintf(out, "%s%s%s: ", before, space, name);
        for (const unsigned char *at = (const unsigned char *)text; *at;) {
            const size_t n = shown_bytes(at);
            if (n) fwrite(at, 1, n, out);
            else fprintf(out, "\\x%02X", *at);
            at += n ? n : 1;
        }
        if (hint) fprintf(out, " (attn%s%s --help tells more)", space, name);
        fputc('\n', out);
    }
    if (out && fclose(out) == 0) fwrite(line, 1, bytes, stderr);
    free(line);
    free(text);
}

int cli_fail(const command *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say("attn", c, format, list, false);
    va_end(list);
    return EXIT_FAILED;
}

int cli_fail_status(const command *c) {
    const char *text = attn_error(context);
    return cli_fail(c, "%s", *text ? text : "failed without a reason");
}

int cli_fail_memory(const command *c) { return cli_fail(c, "out of memory"); }

int cli_wrong_use(const command *c, const char *format, ...) {
    va_list list;
    va_start(list, format);
    say("attn", c, format, list, true);
    va_end(list);
    return EXIT_WRONG_USE;
}

void cli_note(const char *format, ...) {
    va_list list;
    if (cli_quiet) return;
    va_start(list, format);
    say(NULL, NULL, format, list, false);
    va_end(list);
}

/* ---- context ---------------------------------------------------------------------------------------------------- */

void cli_set_threads(int n) { threads = n; }

/* The context says only that it cannot be made; what was wrong in the environment is found out here. */
static bool check_environment(void) {
    const char *count = getenv("ATTN_NUM_THREADS"), *level = getenv("ATTN_CPU");
    if (!threads && count && *count) {
        char *end;
        errno = 0;
        long n = strtol(count, &end, 10);
        if (errno || *end || n < 1 || n > CLI_MAX_THREADS) {
            cli_fail(NULL, "ATTN_NUM_THREADS: found \"%s\", expected an integer from 1 to %d", count, CLI_MAX_THREADS);
            return false;
        }
    }
    if (!level || !*level) return true;
    char list[128] = "";
    for (const char *const *l = attn_cpu_levels(); *l; l++) {
        if (!strcmp(*l, level)) return true;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", *l);
    }
    cli_fail(NULL, "ATTN_CPU: found \"%s\", expected one of this machine's: %s", level, list);
    return false;
}

attn_context *cli_context(void) {
    if (context || !check_environment()) return context;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_status status = attn_context_create(&context, &options);
    if (status != ATTN_OK)
        cli_fail(NULL, "cannot begin (with %d threads; 0: all processors): %s", threads, attn_status_text(status));
    return context;
}

void cli_done(void) {
    attn_context_free(context);
    context = NULL;
}

/* ---- terminal --------------------------------------------------------------------------------------------------- */

static int colours_of(bool capable) {
    const char *no = getenv("NO_COLOR"), *force = getenv("FORCE_COLOR"), *kind = getenv("COLORTERM");
    bool full = kind && (!strcmp(kind, "truecolor") || !strcmp(kind, "24bit"));
    if (force && *force) {
        if (!strcmp(force, "0") || !strcmp(force, "false")) return 0;
        return full || !strcmp(force, "3") ? 1 << 24 : 256;
    }
    if (!capable || (no && *no)) return 0;
    return full ? 1 << 24 : 256;
}

terminal cli_terminal(FILE *stream) {
    enum { NARROWEST = 20, WIDEST = 1000 };
    const char *term = getenv("TERM"), *columns = getenv("COLUMNS");
    terminal t = {.is_terminal = isatty(fileno(stream)), .dumb = !term || !strcmp(term, "dumb"), .width = 80};
    struct winsize size;
    long width = columns ? strtol(columns, NULL, 10) : 0;
    if (width <= 0 && t.is_terminal && ioctl(fileno(stream), TIOCGWINSZ, &size) == 0) width = size.ws_col;
    if (width > 0) t.width = width < NARROWEST ? NARROWEST : width > WIDEST ? WIDEST : (int)width;
    t.colours = colours_of(t.is_terminal && !t.dumb);
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

/* ---- shipped files ---------------------------------------------------------------------------------------------- */

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
    if (share && *share && snprintf(path, sizeof path, "%s/%s", share, relative) < PATH_MAX && access(path, R_OK) == 0)
        return path;
    if (!program_root(root)) return NULL;
    for (size_t i = 0; i < 2; i++) {
        int n = i == 0 ? snprintf(path, sizeof path, "%s/%s", root, relative)
                       : snprintf(path, sizeof path, "%s/share/attn/%s", root, relative);
        if (n < PATH_MAX && access(path, R_OK) == 0) return path;
    }
    return NULL;
}

const char *const cli_languages[] = {"en", "fr", NULL};
const char *const cli_precisions[] = {"f32", "bf16", NULL};
const char *const cli_templates[] = {"alpaca", "chatml", "plain", NULL};

const char *const cli_caches[] = {"f32", "int8", NULL};
attn_dtype cli_cache(int place) { return place ? ATTN_I8 : ATTN_F32; }
attn_dtype cli_precision(int place) { return place ? ATTN_BF16 : ATTN_F32; }

/* ---- models ----------------------------------------------------------------------------------------------------- */

typedef enum model_kind { KIND_TRANSLATOR, KIND_LANGUAGE, KIND_ENCODER } model_kind;

/* False after saying what the model is for, and freeing it. */
static bool is_of_kind(const command *c, translator *t, const char *folder, model_kind expected) {
    static const char *const names[] = {"a translator", "a language model", "an encoder"};
    static const char *const uses[] = {"attn translate is for it", "attn generate continues texts with it",
                                       "attn embed makes vectors of texts with it"};
    const model_kind found = attn_model_is_language_model(t->model) ? KIND_LANGUAGE
                             : attn_model_is_encoder(t->model)      ? KIND_ENCODER
                                                                    : KIND_TRANSLATOR;
    if (found == expected) return true;
    cli_fail(c, "%s: a %s model is %s, expected %s; %s", folder, attn_model_type(t->model), names[found],
             names[expected], uses[found]);
    cli_free_translator(t);
    return false;
}

bool cli_translates(const command *c, translator *t, const char *folder) {
    return is_of_kind(c, t, folder, KIND_TRANSLATOR);
}

bool cli_load_translator(const command *c, translator *out, const char *folder) {
    return cli_load_translator_to(c, out, folder, 0);
}

bool cli_load_translator_to(const command *c, translator *out, const char *folder, int language) {
    static const char *const shipped[] = {"models/de-en", "models/en-fr"}; /* by target language */
    *out = (translator){NULL, NULL};
    if (!cli_context()) return false;
    if (!folder && !(folder = cli_share(shipped[language]))) {
        cli_fail(c, "the model that ships (%s) was not found; -m DIR names another", shipped[language]);
        return false;
    }
    if (!cli_load_model(c, out, folder)) return false;
    return is_of_kind(c, out, folder, KIND_TRANSLATOR);
}

const char *const cli_weights[] = {"auto", "f32", "int8", NULL};

/* A model that was to be int8 and has no integers was not meant. */
static bool check_integers(const command *c, const translator *t, const char *path) {
    const attn_parameters *set = attn_model_parameters(t->model);
    for (size_t i = 0; i < attn_parameters_count(set); i++)
        if (!attn_parameters_at(set, i)->value.data) return true;
    return cli_fail(c,
                    "%s: --precision int8: no matrix of a language model is stored as integers there; attn convert "
                    "--dtype i8 stores them",
                    path),
           false;
}

static bool load(const command *c, translator *out, const char *path, const char *tokenizer, int weights) {
    attn_context *ctx = cli_context();
    *out = (translator){NULL, NULL};
    if (!ctx) return false;
    const bool keep = weights == CLI_WEIGHTS_INT8 || (weights == CLI_WEIGHTS_AUTO && cli_ends_with(path, ".gguf"));
    attn_status status =
        keep ? attn_model_load_quantised(&out->model, ctx, path) : attn_model_load(&out->model, ctx, path);
    if (status == ATTN_OK)
        status = tokenizer ? attn_tokenizer_load(&out->tokenizer, ctx, tokenizer)
                           : attn_tokenizer_of_model(&out->tokenizer, ctx, path);
    if (status != ATTN_OK) {
        cli_fail_status(c);
        cli_free_translator(out);
        return false;
    }
    if (weights == CLI_WEIGHTS_INT8 && !check_integers(c, out, path)) {
        cli_free_translator(out);
        return false;
    }
    size_t tokens = attn_tokenizer_size(out->tokenizer), expected = attn_model_vocab_size(out->model);
    if (tokens == expected ||
        (tokens < expected && (attn_model_is_language_model(out->model) || attn_model_is_encoder(out->model))))
        return true;
    cli_fail(c, "%s: the tokenizer%s%s has %zu tokens, expected %zu as in the model", path, tokenizer ? " " : "",
             tokenizer ? tokenizer : "", tokens, expected);
    cli_free_translator(out);
    return false;
}

bool cli_load_model(const command *c, translator *out, const char *folder) {
    return load(c, out, folder, NULL, CLI_WEIGHTS_F32);
}
bool cli_load_model_as(const command *c, translator *out, const char *folder, int weights) {
    return load(c, out, folder, NULL, weights);
}

bool cli_load_language_model(const command *c, translator *out, const char *folder, const char *tokenizer,
                             int weights) {
    static const char shipped[] = "models/shakespeare";
    *out = (translator){NULL, NULL};
    if (!folder && !(folder = cli_share(shipped))) {
        cli_fail(c, "the model that ships (%s) was not found; -m DIR names another", shipped);
        return false;
    }
    return load(c, out, folder, tokenizer, weights) && is_of_kind(c, out, folder, KIND_LANGUAGE);
}

bool cli_load_encoder(const command *c, translator *out, const char *folder) {
    return load(c, out, folder, NULL, CLI_WEIGHTS_F32) && is_of_kind(c, out, folder, KIND_ENCODER);
}

void cli_free_translator(translator *t) {
    attn_model_free(t->model);
    attn_tokenizer_free(t->tokenizer);
    *t = (translator){NULL, NULL};
}

bool cli_attends(const command *c, const translator *t) {
    if (strcmp(attn_model_type(t->model), "rnn") != 0) return true;
    cli_fail(c, "an rnn model has no attention to look at: one fixed vector stands for the whole sentence");
    return false;
}

/* ---- Ctrl-C ----------------------------------------------------------------------------------------------------- */

static void on_interrupt(int signal_number) {
    if (cli_interrupted) _exit(128 + signal_number);
    cli_interrupted = 1;
}

void cli_catch_interrupt(void) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART}, before;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
}
