/* cmd_score.c: attn score. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model;
    text_list data;
    long long limit, batch_size, max_source;
    bool reverse, json;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder (default: the German-English one that ships)", 0,
     0, NULL},
    {"data", 'd', OPTION_LIST, AT(data), "FILE", "source TAB target, or given twice: source lines, target lines", 0, 0,
     NULL},
    {"reverse", 0, OPTION_FLAG, AT(reverse), NULL, "swap source and target", 0, 0, NULL},
    {"limit", 0, OPTION_INT, AT(limit), "N", "the first N pairs only", 0, 1e12, NULL},
    {"max-source", 0, OPTION_INT, AT(max_source), "N", "refuse texts of more than N tokens (1000; 0: no limit)", 0, 1e9,
     NULL},
    {"batch-size", 0, OPTION_INT, AT(batch_size), "N", "sentences together (64)", 1, 4096, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "a JSON object a line: the log-probability of every token", 0, 0, NULL},
};

static bool put(const settings *s, const translator *t, const attn_translation *tr) {
    const attn_hypothesis *h = tr->hypothesis;
    double sum = 0;
    for (size_t i = 0; i < h->count; i++) sum += (double)h->log_prob[i];
    if (!s->json) return printf("%.6f\t%zu\n", sum, h->count) > 0;
    json_t *root = json_object(), *list = json_array();
    for (size_t i = 0; i < h->count; i++) {
        json_t *one = json_array();
        json_array_append_new(one, json_string(attn_tokenizer_piece(t->tokenizer, h->id[i])));
        json_array_append_new(one, cli_json_number((double)h->log_prob[i]));
        json_array_append_new(list, one);
    }
    json_object_set_new(root, "log_prob", cli_json_number(sum));
    json_object_set_new(root, "tokens", list);
    return cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(7));
}

static bool score(const command *c, const settings *s, const translator *t, const attn_corpus *corpus) {
    attn_context *ctx = cli_context();
    attn_translate_options o = ATTN_TRANSLATE_OPTIONS_INIT;
    o.batch_size = (int)s->batch_size;
    o.max_source_tokens = (size_t)s->max_source;
    size_t n = attn_corpus_count(corpus), chunk = 8 * (size_t)o.batch_size;
    const char **source = malloc(chunk * sizeof *source), **target = malloc(chunk * sizeof *target);
    attn_translation *out = calloc(chunk, sizeof *out);
    bool fine = source && target && out;
    if (!fine) cli_fail_memory(c);
    for (size_t at = 0; at < n && fine; at += chunk) {
        size_t some = n - at < chunk ? n - at : chunk;
        for (size_t i = 0; i < some; i++) {
            source[i] = attn_corpus_at(corpus, at + i)->source;
            target[i] = attn_corpus_at(corpus, at + i)->target;
        }
        fine = attn_translate_forced(t->model, t->tokenizer, out, source, target, some, &o) == ATTN_OK;
        if (!fine) cli_fail_status(c);
        for (size_t i = 0; i < some && fine; i++) fine = put(s, t, &out[i]);
        for (size_t i = 0; i < some; i++) attn_translation_clear(ctx, &out[i]);
        fine = cli_flush() && fine;
    }
    free(source);
    free(target);
    free(out);
    return fine;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.batch_size = 64, .max_source = CLI_MAX_SOURCE};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if ((code = cli_check_files(c, "data", &s.data)) != GO_ON) return code;
    translator t;
    if (!cli_load_translator(c, &t, s.model)) return EXIT_FAILED;
    attn_corpus *corpus = NULL;
    bool fine = cli_read_corpus(c, &corpus, &s.data, s.reverse, s.limit) &&
                cli_check_pairs(c, t.tokenizer, corpus, &s.data, s.reverse, s.max_source) && score(c, &s, &t, corpus);
    attn_corpus_free(corpus);
    cli_free_translator(&t);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_score = {
    .name = "score",
    .summary = "log-probabilities of given translations",
    .operands = "",
    .description =
        "Prints for each pair the log-probability (natural log) of the target given the source, a TAB, and how many\n"
        "tokens the target has, the end included.",
    .example = "  printf 'Guten Morgen!\\tGood morning!\\n' | attn score --data -",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
