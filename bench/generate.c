/* generate.c: a language model reads a prompt and writes, timed.
 *
 * usage: generate MODEL THREADS [f32]
 *     MODEL   a GGUF file or a folder, whose integers stay what they are; f32: they become floats
 * For every line "PROMPT TOKENS" on standard input: a new text of PROMPT tokens, from the first of a fixed English text
 * that is as long as it takes, and TOKENS more, always the likeliest. Prints milliseconds to the first token, the
 * rest's milliseconds, how many tokens those were, and the ids. For a line "bandwidth" it prints the bytes a second
 * that all threads read at most. bench/generate.py runs it beside llama.cpp. */
#include <attn/attn.h>

#include "peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char text[] =
    "The history of the lighthouse is older than the harbour that it guards. Fires were lit on hills long before "
    "anybody "
    "thought of a tower, and sailors who came home at night looked for them as one looks for a window. ";

static double now_ms(void) { return 1e3 * bench_now(); }

static void check(attn_context *ctx, attn_status status) {
    if (status == ATTN_OK) return;
    fprintf(stderr, "generate: %s\n", attn_error(ctx));
    exit(1);
}

/* The text again and again, as n ids. */
static int32_t *prompt_of(attn_context *ctx, const attn_tokenizer *tokenizer, size_t n) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    check(ctx, attn_tokenize(tokenizer, &tokens, text, strlen(text), false));
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    for (size_t i = 0; ids && i < n; i++) ids[i] = tokens.token[i % tokens.count].id;
    attn_tokens_free(ctx, &tokens);
    return ids;
}

static void run(attn_context *ctx, const attn_model *model, const attn_tokenizer *tokenizer, size_t prompt,
                size_t tokens) {
    attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
    attn_generator *g;
    int32_t *ids = prompt_of(ctx, tokenizer, prompt);
    o.temperature = 0, o.max_tokens = tokens + 1, o.context = prompt + tokens + 2;
    check(ctx, attn_generator_create(&g, model, tokenizer, &o));
    check(ctx, attn_generator_prompt_ids(g, ids, prompt));
    const char *piece;
    size_t bytes = 1, count, first = 0;
    double start = now_ms(), read = 0;
    while (bytes && (attn_generator_ids(g, &count), count < prompt + tokens + 1)) {
        check(ctx, attn_generator_next(g, &piece, &bytes));
        if (read > 0) continue;
        read = now_ms() - start;
        attn_generator_ids(g, &first);
    }
    const double all = now_ms() - start;
    const int32_t *written = attn_generator_ids(g, &count);
    printf("%.3f %.3f %zu", read, all - read, count - first);
    for (size_t i = prompt; i < count; i++) printf(" %d", (int)written[i]);
    printf("\n");
    fflush(stdout);
    attn_generator_free(g);
    free(ids);
}

int main(int count, char **arguments) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *ctx;
    attn_model *model;
    attn_tokenizer *tokenizer;
    if (count < 3) {
        fprintf(stderr, "usage: generate MODEL THREADS [f32]\n");
        return 2;
    }
    options.threads = (int)strtol(arguments[2], NULL, 10);
    if (attn_context_create(&ctx, &options) != ATTN_OK) return 2;
    const double start = now_ms();
    check(ctx, count > 3 ? attn_model_load(&model, ctx, arguments[1])
                         : attn_model_load_quantised(&model, ctx, arguments[1]));
    fprintf(stderr, "loaded in %.0f ms\n", now_ms() - start);
    check(ctx, attn_tokenizer_of_model(&tokenizer, ctx, arguments[1]));
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        char *end;
        if (!strcmp(line, "bandwidth\n")) {
            printf("%.0f\n", peak_bandwidth(ctx));
            fflush(stdout);
            continue;
        }
        const size_t prompt = strtoul(line, &end, 10), tokens = strtoul(end, NULL, 10);
        run(ctx, model, tokenizer, prompt, tokens);
    }
    attn_tokenizer_free(tokenizer);
    attn_model_free(model);
    attn_context_free(ctx);
    return 0;
}
