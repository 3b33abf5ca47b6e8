/* attend.h: what attn attend reads, computes and compares. */
#ifndef ATTN_CLI_ATTEND_H
#define ATTN_CLI_ATTEND_H

#include "common.h"

enum { ATTEND_MOST = 1024 }; /* tokens, and columns of a matrix */

typedef struct matrix {
    float *x; /* (rows, columns); NULL: not given */
    size_t rows, columns;
} matrix;

/* What an input file holds. */
typedef struct attend_input {
    const char *name; /* in messages */
    char **tokens;    /* x.rows of them, or NULL */
    matrix x;         /* embeddings */
    matrix w_q, w_k, w_v;
    matrix s, w, u, v; /* additive: queries (or NULL: x), W, U, v as one row */
} attend_input;

/* path: a .json or .npy file, "-" (JSON) or the name of an example. Prints why not. */
bool attend_read(const command *c, attend_input *out, const char *path);
void attend_free_input(attend_input *in);
extern const char *const attend_examples[]; /* NULL-terminated */

/* Named results in the order they are made; (heads, rows, columns), heads 0: a matrix. */
typedef struct attend_result {
    const char *name, *formula;
    matrix m; /* rows of all heads one below the other */
    size_t heads;
} attend_result;

enum { ATTEND_RESULTS = 8 };
typedef struct attend_work {
    attend_result result[ATTEND_RESULTS];
    size_t n, heads;
    const char *kind;  /* "simplified self-attention" … */
    float *mean;       /* weights, averaged over heads (rows, keys) */
    size_t contexts;   /* index of the context vectors */
    size_t rows, keys; /* queries, tokens */
} attend_work;

typedef struct attend_choice {
    bool simplified, causal, additive;
    size_t heads;
} attend_choice;

bool attend_compute(const command *c, attend_work *out, const attend_input *in, const attend_choice *choice);
void attend_free_work(attend_work *work);

/* Compares with the numbers in a JSON file, whose keys are names of results. Says the first that differs; GO_ON if none
 * does. */
int attend_check(const command *c, const attend_work *work, const char *path, double tolerance);

#endif
