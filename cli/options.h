/* options.h: one table per command; parsing, help, man page and shell completion come from it. */
#ifndef ATTN_CLI_OPTIONS_H
#define ATTN_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

typedef enum option_kind {
    OPTION_FLAG,   /* bool: true when given */
    OPTION_TEXT,   /* const char * */
    OPTION_INT,    /* long long, low … high */
    OPTION_FLOAT,  /* double, low … high */
    OPTION_CHOICE, /* int: index into choices */
    OPTION_LIST,   /* text_list: may be given several times */
} option_kind;

enum { OPTION_LIST_MAX = 64 };
typedef struct text_list {
    const char *item[OPTION_LIST_MAX];
    size_t count;
} text_list;

typedef struct option_spec {
    const char *name; /* "beam-size" */
    char letter;      /* 'b', or 0; t, q and h are every command's */
    option_kind kind;
    size_t offset;     /* in the command's settings */
    const char *value; /* "N" in the help; NULL for flags */
    const char *help;
    double low, high;
    const char *const *choices; /* NULL-terminated */
} option_spec;

typedef struct command {
    const char *name, *summary; /* "translate", "translate text with a trained model" */
    const char *operands;       /* "[TEXT...]" */
    const char *description;    /* paragraphs for the help */
    const char *example;        /* lines, each a command */
    const option_spec *options; /* its own; --threads, --quiet and --help are added to each */
    size_t option_count;
    int (*run)(const struct command *command, int argc, char **argv);
} command;

/* The commands, ended by a NULL. */
extern const command *const commands[];

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_WRONG_USE = 2, GO_ON = -1 };

/* Fills settings. GO_ON, or the exit code (help was asked for, or a message was printed). *first: index of the first
 * operand; operands are moved behind the options. */
int options_parse(const command *command, void *settings, int argc, char **argv, int *first);
void options_help(FILE *out, const command *command);
/* roff; command NULL: the page of attn itself. */
void options_man(FILE *out, const command *command);
/* For bash; zsh takes it after bashcompinit. */
void options_completion(FILE *out);
/* The word nearest to `word` in a NULL-terminated list, or NULL if none is near. */
const char *nearest_word(const char *word, const char *const *words);

#endif
