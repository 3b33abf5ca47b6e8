/* main.c: attn COMMAND [options]. */
#include "commands.h"
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#define COMMAND_POINTER(name) &command_##name,
const command *const commands[] = {COMMAND_LIST(COMMAND_POINTER) NULL};

static void usage(FILE *out) {
    fprintf(out, "attn " ATTN_VERSION " - attention models: translate, train, measure, look\n\n"
                 "usage: attn COMMAND [options]\n\ncommands:\n");
    for (const command *const *c = commands; *c; c++) fprintf(out, "  %-12s%s\n", (*c)->name, (*c)->summary);
    fprintf(out, "\n  man [COMMAND]   a man page: attn man translate | man -l -\n"
                 "  completion      completion for bash: . <(attn completion)\n"
                 "\nattn COMMAND --help tells more; an example:\n"
                 "  attn translate \"Kannst du mir helfen diesen Satz zu übersetzen\"\n");
}

static const command *find(const char *name) {
    for (const command *const *c = commands; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}

/* What was meant by an unknown command; "" if nothing is near. */
static void guess(char *out, size_t size, const char *name) {
    static const char *const others[] = {"help", "man", "completion", "--help", "--version", NULL};
    static const char *const of_run[] = {"test", "lint", "build", "wheel", "bench", "promises", "fuzz", "docs", NULL};
    const char *names[64];
    size_t n = 0;
    for (const command *const *c = commands; *c; c++) names[n++] = (*c)->name;
    for (const char *const *o = others; *o; o++) names[n++] = *o;
    names[n] = NULL;
    const char *near = nearest_word(name, names), *there = nearest_word(name, of_run);
    if (!strcmp(name, "finetune")) snprintf(out, size, "; attn train --init DIR is that, with --task or --lora");
    else if (!strcmp(name, "tokenizer"))
        snprintf(out, size, "; attn tokenize is that, with --train FILE it trains one");
    else if (!strcmp(name, "chat")) snprintf(out, size, "; attn generate --chat is that");
    else if (near) snprintf(out, size, "; did you mean \"%s\"?", near);
    else if (there) snprintf(out, size, "; did you mean \"./run %s\", in the source?", there);
    else *out = 0;
}

static int unknown(const char *name) {
    char hint[96];
    guess(hint, sizeof hint, name);
    return cli_wrong_use(NULL, "unknown command \"%s\"%s", name, hint);
}

/* A closed descriptor would be taken by the next file that is opened, and written to as if it were stdout. */
static bool open_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd) return false;
    return true;
}

static int run(int argc, char **argv, const command **used) {
    if (argc < 2) {
        usage(stderr);
        return EXIT_WRONG_USE;
    }
    const char *name = argv[1];
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help"), man = !strcmp(name, "man");
    bool about = help || man;
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) puts("attn " ATTN_VERSION);
    else if (!strcmp(name, "completion")) options_completion(stdout);
    else if (help && (argc == 2 || !strcmp(argv[2], "help"))) usage(stdout);
    else if (man && argc == 2) options_man(stdout, NULL);
    else {
        const command *c = find(about ? argv[2] : name);
        if (!c) return unknown(about ? argv[2] : name);
        *used = c;
        if (!about) return c->run(c, argc - 1, argv + 1);
        (man ? options_man : options_help)(stdout, c);
    }
    return EXIT_DONE;
}

int main(int argc, char **argv) {
    const command *used = NULL;
    if (!open_standard_streams()) return EXIT_FAILED;
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN); /* a pipe that nobody reads is an error of write */
    signal(SIGXFSZ, SIG_IGN); /* so is a limit on files */
    int code = run(argc, argv, &used);
    code = cli_close_stdout(used, code);
    cli_done();
    return code;
}
