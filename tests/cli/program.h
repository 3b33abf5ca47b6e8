/* program.h: runs the attn program and says what came of it. */
#ifndef ATTN_TEST_CLI_PROGRAM_H
#define ATTN_TEST_CLI_PROGRAM_H

#include "support/test.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>

typedef struct outcome {
    int code;        /* exit code; 256 + signal where one ended it */
    char *out, *err; /* NUL-terminated */
    size_t out_bytes, err_bytes;
} outcome;

typedef struct conditions {
    const char *input;          /* stdin; NULL: empty */
    size_t input_bytes;         /* 0: strlen(input) */
    const char *output;         /* a file for stdout ("/dev/full"); NULL: into the outcome */
    const char *environment[4]; /* "NAME=value" */
    size_t file_limit;          /* RLIMIT_FSIZE; 0: none */
} conditions;

/* Arguments ended by NULL. What came of it lives until the next call. */
const outcome *run_with(const conditions *conditions, const char *const *arguments);
/* Starts it with the given descriptors (−1: /dev/null); the process. */
pid_t start_program(const int descriptors[3], const char *const *environment, const char *const *arguments);

#define RUN(...) run_with(&(conditions){0}, (const char *const[]){__VA_ARGS__, NULL})
#define RUN_INPUT(text, ...) run_with(&(conditions){.input = (text)}, (const char *const[]){__VA_ARGS__, NULL})

/* The outcome's parts, or the test fails and shows them. */
#define assert_code(outcome, expected) check_code(outcome, expected, __FILE__, __LINE__)
#define assert_says(outcome, text) check_says(outcome, text, __FILE__, __LINE__)     /* err has it, in one line */
#define assert_prints(outcome, text) check_prints(outcome, text, __FILE__, __LINE__) /* out has it */
void check_code(const outcome *outcome, int expected, const char *file, int line);
void check_says(const outcome *outcome, const char *text, const char *file, int line);
void check_prints(const outcome *outcome, const char *text, const char *file, int line);
/* Every line of out is a JSON object or array; gives the last. */
json_t *parse_lines(const outcome *outcome);
size_t count_lines(const char *text);

/* A folder for this program, removed at the end. Paths in it are in static storage, 32 at a time. */
int make_folder(void **state);
int remove_folder(void **state);
const char *in_folder(const char *name);
void write_file(const char *path, const void *data, size_t bytes);
char *read_file(const char *path, size_t *bytes); /* free() */
bool same_file(const char *a, const char *b);
/* "train.tsv" and "valid.tsv" of a tiny language in the folder. */
void write_corpus(void);
/* Trains a tiny model into the folder's `name`; further arguments as for RUN. */
const outcome *train_tiny(const char *name, const char *const *more);
#define TRAIN_TINY(name, ...) train_tiny(name, (const char *const[]){__VA_ARGS__, NULL})

#endif
