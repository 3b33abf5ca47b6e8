/* common.h: what the commands share: the context, messages, the terminal, models, lines of input, output, Ctrl-C. */
#ifndef ATTN_CLI_COMMON_H
#define ATTN_CLI_COMMON_H

#include "options.h"

#include <attn/attn.h>
#include <jansson.h>
#include <signal.h>

enum { CLI_MAX_THREADS = 1024, CLI_MAX_LINE = 16 << 20, CLI_MAX_SOURCE = 1000, CLI_MAX_CUT_SOURCE = 20000 };

/* ---- the context and messages -------------------------------------------------------------------------------- */

/* The context of this process, made at the first call; NULL after printing why not. */
attn_context *cli_context(void);
void cli_set_threads(int threads); /* before cli_context; 0: $ATTN_NUM_THREADS, else all */
void cli_done(void);

/* "attn translate: " + one line on stderr, whatever is in the arguments; EXIT_FAILED. */
int cli_fail(const command *c, const char *format, ...) ATTN_PRINTF(2, 3);
/* The same with the context's error text. */
int cli_fail_status(const command *c);
int cli_fail_memory(const command *c);
/* The same, EXIT_WRONG_USE. c NULL: the program itself. */
int cli_wrong_use(const command *c, const char *format, ...) ATTN_PRINTF(2, 3);
void cli_note(const char *format, ...) ATTN_PRINTF(1, 2); /* one line on stderr, unless -q */
extern bool cli_quiet;

/* ---- the terminal ---------------------------------------------------------------------------------------------- */

typedef struct terminal {
    bool is_terminal, dumb, unicode;
    int width, colours;
} terminal;
/* isatty, COLUMNS, NO_COLOR, FORCE_COLOR (which goes before both; 0 means none), TERM, COLORTERM, locale. */
terminal cli_terminal(FILE *stream);
attn_terminal_options cli_terminal_options(const terminal *t);

/* ---- files ----------------------------------------------------------------------------------------------------- */

/* Where the models and data that ship are: $ATTN_SHARE, else above the program's folder, else its share folder. Static
 * storage. NULL if there is no such file. */
const char *cli_share(const char *relative);

typedef struct translator {
    attn_model *model;
    attn_tokenizer *tokenizer;
} translator;
/* --precision of a language model: what its matrices are multiplied as. auto: int8 if it is a GGUF file. */
extern const char *const cli_weights[];
enum { CLI_WEIGHTS_AUTO, CLI_WEIGHTS_F32, CLI_WEIGHTS_INT8 };
#define CLI_WEIGHTS_HELP \
    "f32, or int8: stored integers are multiplied as such (auto: int8 for GGUF files, f32 for the others)"
/* folder NULL: the model that ships. Prints why not. */
bool cli_load_model(const command *c, translator *out, const char *folder); /* of any kind; folder is not NULL */
bool cli_load_model_as(const command *c, translator *out, const char *folder, int weights); /* of any kind */
/* NULL: the one that ships; tokenizer NULL: its own, else the file that has it. */
bool cli_load_language_model(const command *c, translator *out, const char *folder, const char *tokenizer, int weights);
/* False after saying what another model is for, and freeing it. */
bool cli_translates(const command *c, translator *t, const char *folder);
bool cli_load_encoder(const command *c, translator *out, const char *folder); /* folder is not NULL */
bool cli_load_translator(const command *c, translator *out, const char *folder);
/* The same, of those that ship the one that translates into a language: its place in cli_languages. */
extern const char *const cli_languages[];
/* Precisions by name, and which is at a place of the list. */
extern const char *const cli_precisions[];
/* The same of the cache of a language model's keys and values. */
extern const char *const cli_caches[];
attn_dtype cli_cache(int place);
attn_dtype cli_precision(int place);
extern const char *const cli_templates[]; /* names of attn_template */
bool cli_load_translator_to(const command *c, translator *out, const char *folder, int language);
void cli_free_translator(translator *t);
/* False after saying that the model has no attention to look at. */
bool cli_attends(const command *c, const translator *t);

/* FILE once (TSV) or twice. GO_ON, or EXIT_WRONG_USE after a message. */
int cli_check_files(const command *c, const char *option, const text_list *files);
/* Prints why not; a corpus without a pair is an error. */
bool cli_read_corpus(const command *c, attn_corpus **out, const text_list *files, bool reverse, long long limit);

/* Whether every label (target) is one of the model's; says which is not. corpus may be NULL. */
bool cli_check_labels(const command *c, const attn_model *model, const attn_corpus *corpus, const char *file);

/* ---- texts ------------------------------------------------------------------------------------------------------ */

/* Lines of a file or pipe. A line above CLI_MAX_LINE bytes is an error; a BOM and CR before the line end are dropped.
 */
typedef struct line_reader {
    const char *name; /* in messages */
    int fd;
    char *text; /* the last line, NUL-terminated */
    size_t bytes, line;
    bool failed;
    char *buffer;
    size_t capacity, at, end;
    bool at_end;
} line_reader;
bool cli_open_lines(const command *c, line_reader *reader, const char *path); /* "-": stdin. Prints why not */
bool cli_read_line(const command *c, line_reader *reader);                    /* false at the end, or failed */
bool cli_line_waits(const line_reader *reader); /* more can be read at once, so an answer may still be put off */
void cli_close_lines(line_reader *reader);

/* "FILE:LINE: text", or "NAME: text" for line 0; EXIT_FAILED. */
int cli_fail_at(const command *c, const char *name, size_t line, const char *text);
/* False after a message if the text is not UTF-8 or has a NUL. line 0: not of a file. */
bool cli_check_text(const command *c, const char *name, size_t line, const char *text, size_t bytes);
/* And if it has more than `most` tokens (0: no limit). tokens is a workplace. */
bool cli_check_length(const command *c, const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *name,
                      size_t line, const char *text, size_t bytes, long long most);
/* Both sides of each pair. */
bool cli_check_pairs(const command *c, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                     const text_list *files, bool reverse, long long most);
/* The operands with spaces between; malloc'd, NULL (said) without memory. */
char *cli_join(const command *c, char **words, int n);

/* ---- output ----------------------------------------------------------------------------------------------------- */

/* False if stdout took not everything so far; cli_close_stdout says so, once, at the end. */
bool cli_flush(void);
int cli_close_stdout(const command *c, int code);
/* A text as one line: what would end it becomes a space. No line end is added. */
void cli_put_text(const char *text, size_t bytes);
/* One line of JSON, or indented; takes root. */
bool cli_put_json(json_t *root, size_t flags);
json_t *cli_json_number(double x); /* null where x is not finite */
json_t *cli_json_floats(const float *x, size_t n);
json_t *cli_json_matrix(const float *x, size_t rows, size_t columns);
/* Writes a picture or text to a file ("-": stdout); prints why not. */
bool cli_write(const command *c, const char *path, const char *data, size_t bytes);
bool cli_ends_with(const char *text, const char *end);

/* Words with spaces or tabs between. */
size_t cli_count_words(const char *text);
/* Drops links to words that a sentence does not have; how many. */
size_t cli_clip_links(attn_links *links, size_t source_words, size_t target_words);
/* NULL (the terminal), "-", or a name with one of the ends (few, then NULL): GO_ON, else EXIT_WRONG_USE after a
 * message. */
int cli_check_output_name(const command *c, const char *path, const char *const *ends);

/* ---- Ctrl-C ------------------------------------------------------------------------------------------------------ */

/* The first SIGINT, SIGTERM or SIGHUP is noted, the second ends the program. What was ignored stays so. */
void cli_catch_interrupt(void);
extern volatile sig_atomic_t cli_interrupted;

#endif
