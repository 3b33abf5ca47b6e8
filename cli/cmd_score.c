/* cmd_score.c: attn score. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model;
    text_list data;
    long long limit, batch_size, threads;
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
    {"batch-size", 0, OPTION_INT, AT(batch_size), "N", "sentences together (64)", 1, 4096, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "a JSON object a line: the log-probability of every token", 0, 0, NULL},
    {"threads", 't', OPTION_INT, AT(threads), "N", "(all processors)", 1, 1024, NULL},
};

static void put(const settings *s, const translator *t, const attn_translation *tr) {
    const attn_hypothesis *h = tr->hypothesis;
    double sum = 0;
    for (size_t i = 0; i < h->count; i++) sum += (double)h->log_prob[i];
    if (!s->json) {
        printf("%.6f\t%zu\n", sum, h->count);
        return;
    }
    json_t *root = json_object(), *list = json_array();
    for (size_t i = 0; i < h->count; i++)
        json_array_append_new(list,
                              json_pack("[s,f]", attn_tokenizer_piece(t->tokenizer, h->id[i]), (double)h->log_prob[i]));
    json_object_set_new(root, "log_prob", json_real(sum));
    json_object_set_new(root, "tokens", list);
    json_dumpf(root, stdout, JSON_COMPACT | JSON_REAL_PRECISION(7));
    putchar('\n');
    json_decref(root);
}

static bool score(const command *c, const settings *s, const translator *t, const attn_corpus *corpus) {
    attn_context *ctx = cli_context();
    attn_translate_options o = ATTN_TRANSLATE_OPTIONS_INIT;
    o.batch_size = (int)s->batch_size;
    size_t n = attn_corpus_count(corpus), chunk = 8 * (size_t)o.batch_size;
    const char **source = malloc(chunk * sizeof *source), **target = malloc(chunk * sizeof *target);
    attn_translation *out = calloc(chunk, sizeof *out);
    bool fine = source && target && out;
    for (size_t at = 0; at < n && fine; at += chunk) {
        size_t some = n - at < chunk ? n - at : chunk;
        for (size_t i = 0; i < some; i++) {
            source[i] = attn_corpus_at(corpus, at + i)->source;
            target[i] = attn_corpus_at(corpus, at + i)->target;
        }
        fine = attn_translate_forced(t->model, t->tokenizer, out, source, target, some, &o) == ATTN_OK;
        if (!fine) cli_fail_status(c);
        for (size_t i = 0; i < some && fine; i++) put(s, t, &out[i]);
        for (size_t i = 0; i < some; i++) attn_translation_clear(ctx, &out[i]);
    }
    free(source);
    free(target);
    free(out);
    return fine;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.batch_size = 64};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if (s.data.count < 1 || s.data.count > 2)
        return cli_wrong_use(c, "--data: found %zu files, expected 1 (TSV) or 2", s.data.count);
    if (s.threads) cli_set_threads(s.threads);
    translator t;
    if (!cli_load_translator(c, &t, s.model)) return EXIT_FAILED;
    attn_corpus *corpus = NULL;
    attn_corpus_options o = ATTN_CORPUS_OPTIONS_INIT;
    o.reverse = s.reverse;
    o.limit = (size_t)s.limit;
    if (attn_corpus_read(&corpus, cli_context(), s.data.item, s.data.count, &o) != ATTN_OK) code = cli_fail_status(c);
    else code = score(c, &s, &t, corpus) ? EXIT_DONE : EXIT_FAILED;
    attn_corpus_free(corpus);
    cli_free_translator(&t);
    return code;
}

const command command_score = {
    .name = "score",
    .summary = "log-probabilities of given translations",
    .operands = "",
    .description =
        "Prints for each pair the log-probability (natural log) of the target given the source, and its tokens.",
    .example = "  printf 'Guten Morgen!\\tGood morning!\\n' | attn score --data -",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
