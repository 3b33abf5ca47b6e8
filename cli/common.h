/* common.h: what the commands share: the context, messages, the terminal, models, lines of input, Ctrl-C. */
#ifndef ATTN_CLI_COMMON_H
#define ATTN_CLI_COMMON_H

#include "options.h"

#include <attn/attn.h>
#include <jansson.h>

/* The context of this process, made at the first call with ATTN_NUM_THREADS or set_threads; NULL after printing why
 * not. */
attn_context *cli_context(void);
void cli_set_threads(long long threads); /* before cli_context */
void cli_done(void);

/* "attn translate: " + text on stderr; EXIT_FAILED. */
int cli_fail(const command *c, const char *format, ...) ATTN_PRINTF(2, 3);
/* The same with the context's error text. */
int cli_fail_status(const command *c);
int cli_wrong_use(const command *c, const char *format, ...) ATTN_PRINTF(2, 3);
void cli_note(const char *format, ...) ATTN_PRINTF(1, 2); /* stderr, unless -q */
extern bool cli_quiet;

/* Flushes stdout; a full disk or a closed pipe is a failure. */
int cli_close_stdout(const command *c, int code);

typedef struct terminal {
    bool is_terminal, unicode;
    int width, colours;
} terminal;
terminal cli_terminal(FILE *stream); /* isatty, COLUMNS, NO_COLOR, FORCE_COLOR, TERM, locale */
attn_terminal_options cli_terminal_options(const terminal *t);

/* Where the shipped models, data are: $ATTN_SHARE, else beside the program (../models), else the installed share
 * folder. Static storage. NULL if there is no such file. */
const char *cli_share(const char *relative);

typedef struct translator {
    attn_model *model;
    attn_tokenizer *tokenizer;
} translator;
/* folder NULL: the shipped model. Prints why not. */
bool cli_load_translator(const command *c, translator *out, const char *folder);
void cli_free_translator(translator *t);

/* Lines of a stream: gives text without the line end; false at the end. A line above 64 MB is an error. */
typedef struct line_reader {
    FILE *stream;
    const char *name;
    char *text;
    size_t capacity, bytes, line;
    bool failed;
} line_reader;
bool cli_read_line(const command *c, line_reader *reader);

/* Ctrl-C: the first is noted, the second ends the program. */
void cli_catch_interrupt(void);
extern volatile int cli_interrupted;

/* Writes a picture or text to a file ("-": stdout); prints why not. */
bool cli_write(const command *c, const char *path, const char *data, size_t bytes);
bool cli_ends_with(const char *text, const char *end);

#endif
