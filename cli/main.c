/* main.c: attn COMMAND [options]. */
#include "commands.h"
#include "common.h"

#include <locale.h>
#include <signal.h>
#include <string.h>

#define COMMAND_POINTER(name) &command_##name,
const command *const commands[] = {COMMAND_LIST(COMMAND_POINTER) NULL};

static void usage(FILE *out) {
    fprintf(out,
            "attn " ATTN_VERSION
            " - attention models: translate, train, measure, look\n\nusage: attn COMMAND [options]\n\ncommands:\n");
    for (const command *const *c = commands; *c; c++) fprintf(out, "  %-12s%s\n", (*c)->name, (*c)->summary);
    fprintf(out, "\nattn COMMAND --help tells more; an example:\n  attn translate \"Kannst du mir helfen diesen Satz "
                 "zu übersetzen\"\n");
}

static const command *find(const char *name) {
    for (const command *const *c = commands; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}

static int unknown(const char *name) {
    const char *names[32];
    size_t n = 0;
    for (const command *const *c = commands; *c; c++) names[n++] = (*c)->name;
    names[n] = NULL;
    const char *near = nearest_word(name, names);
    fprintf(stderr, "attn: unknown command \"%s\"", name);
    if (near) fprintf(stderr, "; did you mean \"%s\"?", near);
    fprintf(stderr, " (attn --help lists all)\n");
    return EXIT_WRONG_USE;
}

int main(int argc, char **argv) {
    setlocale(LC_CTYPE, "");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file limit is an error of write */
    if (argc < 2) {
        usage(stderr);
        return EXIT_WRONG_USE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) return puts("attn " ATTN_VERSION) < 0;
    bool help = !strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help");
    if (help && argc == 2) {
        usage(stdout);
        return EXIT_DONE;
    }
    if (!strcmp(name, "completion")) {
        options_completion(stdout);
        return EXIT_DONE;
    }
    bool man = !strcmp(name, "man");
    const command *c = find((help || man) && argc > 2 ? argv[2] : name);
    if (!c) return unknown((help || man) && argc > 2 ? argv[2] : name);
    if (help || man) {
        if (man) options_man(stdout, c);
        else options_help(stdout, c);
        return EXIT_DONE;
    }
    int code = cli_close_stdout(c, c->run(c, argc - 1, argv + 1));
    cli_done();
    return code;
}
