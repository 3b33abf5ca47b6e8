/* eval.h: what attn eval is told, and what its parts share. */
#ifndef ATTN_CLI_EVAL_H
#define ATTN_CLI_EVAL_H

#include "common.h"

typedef struct eval_settings {
    const char *model, *alignments, *hypotheses, *lengths, *reference;
    text_list data;
    long long beam_size, limit, batch_size, max_source, max_tokens;
    int task, prompt_template;
    double length_penalty, coverage_penalty, beta;
    int cache, precision;
    bool reverse, lowercase, json, by_length, one_based, posterior, no_translate;
} eval_settings;

typedef struct eval_job {
    const command *command;
    const eval_settings *settings;
    translator translator;
    const char **source, **target; /* borrowed from the corpus, or joined */
    size_t n;
} eval_job;

/* One line of figures; takes them. */
bool eval_put(const eval_job *j, json_t *figures);
void eval_add(json_t *figures, const char *key, double x);

/* eval_language.c: texts, answers, or of a classifier labels. */
bool eval_language(const eval_job *j);

#endif
