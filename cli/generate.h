/* generate.h: what attn generate does with one text, and with many. */
#ifndef ATTN_CLI_GENERATE_H
#define ATTN_CLI_GENERATE_H

#include "common.h"

typedef struct generate_settings {
    const char *model, *tokenizer, *prompt, *file, *system, *template, *input;
    int prompt_template;
    text_list stop;
    long long tokens, context, top_k, seed, batch;
    double temperature, top_p, min_p, repetition_penalty;
    int cache, precision;
    bool slide, chat, no_prompt, json;
} generate_settings;

attn_generate_options generate_options(const generate_settings *s);
const char *generate_end_name(attn_generate_end end);
/* The instruction as a prompt; malloc'd, NULL after a message; frees text. */
char *generate_instruction(const command *c, const generate_settings *s, char *text);
/* The chat template, and the id that ends an answer, which the options borrow. */
int generate_load_chat(const command *c, const generate_settings *s, const translator *t, attn_chat **chat,
                       int32_t *end, attn_generate_options *options);
/* Says so, if the context was full before the text had ended. */
int generate_check_context(const command *c, const generate_settings *s, const translator *t, const attn_generator *g);
/* One line; given: the conversation, or NULL. */
void generate_put_json(const char *prompt, const char *given, const char *text, size_t bytes, const char *end);

/* generate_batch.c: prompts are texts[0 … n−1], or lines. */
int generate_batch(const command *c, const generate_settings *s, const translator *t, char **texts, int n);

#endif
