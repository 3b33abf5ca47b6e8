/* cmd_align.c: attn align. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

static const char *const symmetrize_names[] = {
    "forward", "reverse", "intersect", "union", "grow-diag", "grow-diag-final-and", NULL};

typedef struct settings {
    text_list data, extra;
    const char *output, *gold, *gloss;
    long long iterations, limit;
    int symmetrize;
    bool reverse, split, one_based, json;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"data", 'd', OPTION_LIST, AT(data), "FILE",
     "source TAB target, or given twice: source lines, target lines; these pairs are aligned", 0, 0, NULL},
    {"extra", 0, OPTION_LIST, AT(extra), "FILE", "more pairs to learn from (once or twice, as --data)", 0, 0, NULL},
    {"reverse", 0, OPTION_FLAG, AT(reverse), NULL, "swap source and target", 0, 0, NULL},
    {"limit", 0, OPTION_INT, AT(limit), "N", "the first N pairs of --data only", 0, 1e12, NULL},
    {"split", 0, OPTION_FLAG, AT(split), NULL, "separate punctuation from words first (text that is not tokenised)", 0,
     0, NULL},
    {"symmetrize", 's', OPTION_CHOICE, AT(symmetrize), "HOW", "join both directions (intersect)", 0, 0,
     symmetrize_names},
    {"iterations", 0, OPTION_INT, AT(iterations), "N", "rounds of expectation-maximisation (5)", 1, 100, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "links, a line a pair, i-j (default: standard output)", 0, 0,
     NULL},
    {"gold", 0, OPTION_TEXT, AT(gold), "FILE", "print the alignment error rate against links by hand instead", 0, 0,
     NULL},
    {"one-based", 0, OPTION_FLAG, AT(one_based), NULL, "the gold file counts words from 1", 0, 0, NULL},
    {"gloss", 0, OPTION_TEXT, AT(gloss), "TEXT", "print TEXT word by word by the learned lexicon instead", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "as JSON, a line a pair", 0, 0, NULL},
};

typedef struct lines {
    const char **source, **target;
    size_t n, own; /* lines; the first `own` are --data's */
    bool split;
} lines;

static bool add_line(const command *c, lines *l, const attn_pair *p) {
    attn_context *ctx = cli_context();
    char *source = NULL, *target = NULL;
    if (!l->split) {
        l->source[l->n] = p->source;
        l->target[l->n++] = p->target;
        return true;
    }
    if (attn_words_split_punctuation(ctx, &source, p->source) != ATTN_OK ||
        attn_words_split_punctuation(ctx, &target, p->target) != ATTN_OK) {
        attn_text_free(ctx, source);
        cli_fail_status(c);
        return false;
    }
    l->source[l->n] = source;
    l->target[l->n++] = target;
    return true;
}

static void free_lines(lines *l) {
    for (size_t i = 0; l->split && i < l->n; i++) {
        attn_text_free(cli_context(), (void *)l->source[i]);
        attn_text_free(cli_context(), (void *)l->target[i]);
    }
    free(l->source);
    free(l->target);
}

static int print_aer(const command *c, const settings *s, const attn_aligner *aligner, const lines *l) {
    attn_context *ctx = cli_context();
    attn_links *sure, *possible, found;
    size_t n, dropped = 0;
    attn_aer aer = {0};
    int code = EXIT_DONE;
    if (attn_gold_read(ctx, &sure, &possible, &n, s->gold, s->one_based) != ATTN_OK) return cli_fail_status(c);
    if (n != l->own) code = cli_fail(c, "%s: found %zu lines, expected %zu as in the data", s->gold, n, l->own);
    for (size_t i = 0; i < n && code == EXIT_DONE; i++) {
        size_t source_words = cli_count_words(l->source[i]), target_words = cli_count_words(l->target[i]);
        dropped += cli_clip_links(&sure[i], source_words, target_words);
        dropped += cli_clip_links(&possible[i], source_words, target_words);
        if (attn_aligner_align(aligner, &found, l->source[i], l->target[i], (attn_symmetrize)s->symmetrize) !=
            ATTN_OK) {
            code = cli_fail_status(c);
            break;
        }
        attn_aer_add(&aer, &found, &sure[i], &possible[i]);
        attn_text_free(ctx, found.link);
    }
    if (code == EXIT_DONE)
        printf(s->json ? "{\"AER\":%.6f,\"symmetrize\":\"%s\",\"sentences\":%zu,\"links_dropped\":%zu}\n"
                       : "AER %.4f  %s  sentences %zu  links_dropped %zu\n",
               attn_aer_value(&aer), symmetrize_names[s->symmetrize], n, dropped);
    attn_gold_free(ctx, sure, n);
    attn_gold_free(ctx, possible, n);
    return code;
}

static int print_gloss(const command *c, const settings *s, const attn_aligner *aligner) {
    attn_context *ctx = cli_context();
    char *text, *save;
    json_t *list = s->json ? json_array() : NULL;
    if (attn_words_split_punctuation(ctx, &text, s->gloss) != ATTN_OK) {
        json_decref(list);
        return cli_fail_status(c);
    }
    bool first = true;
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        float probability = 0;
        const char *gloss = attn_aligner_gloss(aligner, word, &probability);
        if (!list) printf("%s%s", first ? "" : " ", gloss ? gloss : word);
        else if (gloss)
            json_array_append_new(
                list, json_pack("{s:s,s:s,s:f}", "word", word, "gloss", gloss, "probability", (double)probability));
        else json_array_append_new(list, json_pack("{s:s,s:n}", "word", word, "gloss"));
        first = false;
    }
    if (list) cli_put_json(list, JSON_COMPACT | JSON_REAL_PRECISION(7));
    else putchar('\n');
    attn_text_free(ctx, text);
    return EXIT_DONE;
}

static void put_links(FILE *out, const attn_links *links, bool json) {
    if (json) fputc('[', out);
    for (size_t k = 0; k < links->count; k++) {
        int source = links->link[k].source, target = links->link[k].target;
        if (json) fprintf(out, "%s[%d,%d]", k ? "," : "", source, target);
        else fprintf(out, "%s%d-%d", k ? " " : "", source, target);
    }
    fputs(json ? "]\n" : "\n", out);
}

static int print_links(const command *c, const settings *s, const attn_aligner *aligner, const lines *l) {
    attn_context *ctx = cli_context();
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    if (!out) return cli_fail_memory(c);
    bool fine = true;
    for (size_t i = 0; i < l->own && fine; i++) {
        attn_links links;
        fine =
            attn_aligner_align(aligner, &links, l->source[i], l->target[i], (attn_symmetrize)s->symmetrize) == ATTN_OK;
        if (!fine) {
            cli_fail_status(c);
            break;
        }
        put_links(out, &links, s->json);
        attn_text_free(ctx, links.link);
    }
    if (ferror(out) | fclose(out)) fine = cli_fail_memory(c) == EXIT_DONE;
    fine = fine && cli_write(c, s->output ? s->output : "-", text, bytes);
    free(text);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

static int align(const command *c, const settings *s, lines *l, const attn_corpus *data, const attn_corpus *extra) {
    attn_context *ctx = cli_context();
    size_t n = attn_corpus_count(data), more = extra ? attn_corpus_count(extra) : 0;
    l->split = s->split;
    l->source = malloc((n + more + 1) * sizeof *l->source);
    l->target = malloc((n + more + 1) * sizeof *l->target);
    if (!l->source || !l->target) return cli_fail_memory(c);
    for (size_t i = 0; i < n; i++)
        if (!add_line(c, l, attn_corpus_at(data, i))) return EXIT_FAILED;
    l->own = l->n;
    for (size_t i = 0; i < more; i++)
        if (!add_line(c, l, attn_corpus_at(extra, i))) return EXIT_FAILED;
    attn_align_options o = ATTN_ALIGN_OPTIONS_INIT;
    o.iterations = (int)s->iterations;
    attn_aligner *aligner;
    if (attn_aligner_train(&aligner, ctx, l->source, l->target, l->n, &o) != ATTN_OK) return cli_fail_status(c);
    int code = s->gold    ? print_aer(c, s, aligner, l)
               : s->gloss ? print_gloss(c, s, aligner)
                          : print_links(c, s, aligner, l);
    attn_aligner_free(aligner);
    return code;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.symmetrize = ATTN_SYM_INTERSECT, .iterations = 5};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if ((code = cli_check_files(c, "data", &s.data)) != GO_ON) return code;
    if (s.extra.count && (code = cli_check_files(c, "extra", &s.extra)) != GO_ON) return code;
    if ((s.gold != NULL) + (s.gloss != NULL) + (s.output != NULL) > 1)
        return cli_wrong_use(c, "found more than one of --gold, --gloss and -o");
    if (!cli_context()) return EXIT_FAILED;
    attn_corpus *data = NULL, *extra = NULL;
    lines l = {0};
    bool fine = (!s.extra.count || cli_read_corpus(c, &extra, &s.extra, s.reverse, 0)) &&
                cli_read_corpus(c, &data, &s.data, s.reverse, s.limit);
    code = fine ? align(c, &s, &l, data, extra) : EXIT_FAILED;
    free_lines(&l);
    attn_corpus_free(data);
    attn_corpus_free(extra);
    return code;
}

const command command_align = {
    .name = "align",
    .summary = "align the words of a parallel text (Dyer, Chahuneau & Smith 2013)",
    .operands = "",
    .description =
        "Learns word alignments in both directions from the text alone and joins them. White space separates words.",
    .example = "  attn align --split --data data/tatoeba/de-en.train.tsv.xz -o links.txt\n"
               "  attn align --split --data data/tatoeba/de-en.train.tsv.xz --gloss \"Kannst du mir helfen\"",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
