/* cmd_translate.c: attn translate. */
#include "picture.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNK = 256 }; /* lines of stdin translated together */

typedef struct settings {
    const char *model, *alignment, *to;
    long long beam_size, n_best, max_length, max_source, batch_size, split_words;
    int precision;
    double length_penalty, coverage_penalty;
    bool show, no_show, explain, json;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder (default: the German-English one that ships)", 0,
     0, NULL},
    {"to", 0, OPTION_TEXT, AT(to), "LANG",
     "the model that ships for en, from German, or fr, from English (en); with -m DIR a language that it has a tag for",
     0, 0, NULL},
    {"split-words", 0, OPTION_INT, AT(split_words), "N",
     "translate sentence by sentence, and those of more than N words clause by clause (50; 0: a text as it is)", 0, 1e6,
     NULL},
    {"beam-size", 'b', OPTION_INT, AT(beam_size), "N", "hypotheses kept at each step; 1 is greedy (5)", 1, 64, NULL},
    {"precision", 0, OPTION_CHOICE, AT(precision), "NAME", "of products with weights (f32): f32, or the faster bf16", 0,
     0, cli_precisions},
    {"length-penalty", 'n', OPTION_FLOAT, AT(length_penalty), "A", "score = sum of log p / length^A (1)", 0, 10, NULL},
    {"coverage-penalty", 0, OPTION_FLOAT, AT(coverage_penalty), "B",
     "add B times the sum over source tokens of log min(1, what looked at it) to a score (the model's: 0 mostly)", 0,
     10, NULL},
    {"n-best", 0, OPTION_INT, AT(n_best), "N", "print the N best, each with its score", 1, 64, NULL},
    {"max-length", 0, OPTION_INT, AT(max_length), "N", "tokens at most (0: twice the source and 10)", 0, 1e5, NULL},
    {"max-source", 0, OPTION_INT, AT(max_source), "N",
     "refuse texts of more than N tokens (1000; 20000 where they are cut; 0: no limit)", 0, 1e9, NULL},
    {"batch-size", 0, OPTION_INT, AT(batch_size), "N", "sentences decoded together (32)", 1, 4096, NULL},
    {"alignment", 'a', OPTION_TEXT, AT(alignment), "HOW",
     "print the word alignment too: soft, hard, or a threshold such as 0.2 (Pharaoh)", 0, 0, NULL},
    {"show", 0, OPTION_FLAG, AT(show), NULL, "draw the alignment below the translation", 0, 0, NULL},
    {"no-show", 0, OPTION_FLAG, AT(no_show), NULL, "do not, not even on a terminal", 0, 0, NULL},
    {"explain", 0, OPTION_FLAG, AT(explain), NULL,
     "print energies, soft alignment, expected annotation and state at every step", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "one JSON object a line: tokens, scores, alignment", 0, 0, NULL},
};

enum alignment_kind { ALIGN_NONE, ALIGN_SOFT, ALIGN_HARD, ALIGN_THRESHOLD };

typedef struct job {
    const command *command;
    const settings *settings;
    translator translator;
    attn_translate_options options;
    enum alignment_kind alignment;
    double threshold;
    char tag[24]; /* before each text, with a space behind; "" */
    bool show;
    terminal terminal;
} job;

/* ---- what is printed ------------------------------------------------------------------------------------- */

/* Pharaoh: "source-target" of word indices; soft: rows of probabilities. */
static bool print_alignment(const job *j, const attn_translation *t, const attn_hypothesis *h) {
    picture p;
    if (!picture_make(j->command, &p, t, h)) return false;
    bool first = true;
    for (size_t i = 0; i < p.map.rows; i++) {
        const float *row = p.values + i * p.map.columns;
        size_t best = 0;
        for (size_t s = 1; s < p.map.columns; s++)
            if (row[s] > row[best]) best = s;
        for (size_t s = 0; s < p.map.columns; s++) {
            if (j->alignment == ALIGN_SOFT) printf("%s%.4f", s ? "," : i ? " " : "", (double)row[s]);
            else if (j->alignment == ALIGN_HARD ? s == best : (double)row[s] >= j->threshold) {
                printf("%s%zu-%zu", first ? "" : " ", s, i);
                first = false;
            }
        }
    }
    picture_free(&p);
    return true;
}

static bool print_picture(const job *j, const attn_translation *t, const attn_hypothesis *h) {
    picture p;
    char *text;
    if (!picture_make(j->command, &p, t, h)) return false;
    attn_terminal_options o = cli_terminal_options(&j->terminal);
    attn_status status = ATTN_OK;
    if (p.map.rows && p.map.columns) {
        status = attn_heatmap_terminal(cli_context(), &text, NULL, &p.map, &o);
        if (status == ATTN_OK) {
            printf("\n%s", text);
            attn_text_free(cli_context(), text);
        } else {
            cli_fail_status(j->command);
        }
    }
    picture_free(&p);
    return status == ATTN_OK;
}

static void print_vector(const char *name, const float *x, size_t n, size_t most) {
    printf("    %-20s", name);
    for (size_t i = 0; i < n && i < most; i++) printf(" %8.4f", (double)x[i]);
    printf("%s\n", n > most ? " …" : "");
}

/* Every step of the decoder, in the paper's words. */
static void print_steps(const job *j, const attn_translation *t, const attn_hypothesis *h) {
    size_t s = t->source.count;
    printf("\nsource tokens:");
    for (size_t i = 0; i < s; i++)
        printf(" %zu:%s", i, attn_tokenizer_piece(j->translator.tokenizer, t->source.token[i].id));
    printf("\n");
    for (size_t i = 0; i < h->count; i++) {
        printf("  step %zu: y = %s, log p = %.4f\n", i + 1, attn_tokenizer_piece(j->translator.tokenizer, h->id[i]),
               (double)h->log_prob[i]);
        if (h->energy) print_vector("energies e_ij", h->energy + i * s, s, s);
        if (h->alignment) print_vector("soft alignment a_ij", h->alignment + i * s, s, s);
        if (h->context)
            print_vector(h->alignment ? "expected annotation" : "fixed context", h->context + i * t->context_size,
                         t->context_size, 8);
        if (h->state) print_vector("state s_i", h->state + i * t->state_size, t->state_size, 8);
    }
}

static void add_piece(const job *j, json_t *list, int32_t id) {
    json_array_append_new(list, json_string(attn_tokenizer_piece(j->translator.tokenizer, id)));
}

static bool print_json(const job *j, const attn_translation *t) {
    json_t *root = json_object(), *list = json_array(), *tokens = json_array();
    size_t columns = t->source.count;
    for (size_t i = 0; i < columns; i++) add_piece(j, tokens, t->source.token[i].id);
    json_object_set_new(root, "source", json_stringn(t->source.text ? t->source.text : "", t->source.bytes));
    json_object_set_new(root, "source_tokens", tokens);
    for (size_t n = 0; n < t->count; n++) {
        const attn_hypothesis *h = &t->hypothesis[n];
        json_t *one = json_object();
        tokens = json_array();
        for (size_t i = 0; i < h->count; i++) add_piece(j, tokens, h->id[i]);
        json_object_set_new(one, "text", json_stringn(h->text, h->bytes));
        json_object_set_new(one, "score", cli_json_number((double)h->score));
        json_object_set_new(one, "tokens", tokens);
        json_object_set_new(one, "log_prob", cli_json_floats(h->log_prob, h->count));
        if (h->alignment) json_object_set_new(one, "alignment", cli_json_matrix(h->alignment, h->count, columns));
        if (h->energy) json_object_set_new(one, "energy", cli_json_matrix(h->energy, h->count, columns));
        if (h->context) json_object_set_new(one, "context", cli_json_matrix(h->context, h->count, t->context_size));
        if (h->state) json_object_set_new(one, "state", cli_json_matrix(h->state, h->count, t->state_size));
        json_array_append_new(list, one);
    }
    json_object_set_new(root, "translations", list);
    return cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(7));
}

static bool print_translation(const job *j, const attn_translation *t) {
    if (j->settings->json) return print_json(j, t);
    for (size_t n = 0; n < t->count; n++) {
        const attn_hypothesis *h = &t->hypothesis[n];
        if (j->settings->n_best) printf("%.4f\t", (double)h->score);
        cli_put_text(h->text, h->bytes);
        if (j->alignment != ALIGN_NONE) {
            putchar('\t');
            if (h->alignment && !print_alignment(j, t, h)) return false;
        }
        putchar('\n');
        if (j->show && h->alignment && !print_picture(j, t, h)) return false;
        if (j->settings->explain) print_steps(j, t, h);
    }
    return true;
}

/* ---- where texts come from --------------------------------------------------------------------------------- */

static bool translate(const job *j, const char *const *texts, const size_t *bytes, size_t n) {
    attn_context *ctx = cli_context();
    attn_translation *out = calloc(n, sizeof *out);
    if (!out) return cli_fail_memory(j->command) == EXIT_DONE;
    bool fine =
        attn_translate(j->translator.model, j->translator.tokenizer, out, texts, bytes, n, &j->options) == ATTN_OK;
    if (!fine) cli_fail_status(j->command);
    for (size_t i = 0; i < n && fine; i++) fine = print_translation(j, &out[i]);
    for (size_t i = 0; i < n; i++) attn_translation_clear(ctx, &out[i]);
    free(out);
    return cli_flush() && fine;
}

/* Text with the tag before it; NULL, after saying so, where there is no memory. */
static char *with_tag(const job *j, const char *text, size_t bytes, size_t *all) {
    const size_t tag = strlen(j->tag);
    char *out = malloc(tag + bytes + 1);
    if (!out) return cli_fail_memory(j->command), NULL;
    memcpy(out, j->tag, tag);
    memcpy(out + tag, text, bytes);
    out[ *all = tag + bytes] = '\0';
    return out;
}

static bool check(const job *j, attn_tokens *tokens, const char *name, size_t line, const char *text, size_t bytes) {
    return cli_check_text(j->command, name, line, text, bytes) &&
           cli_check_length(j->command, j->translator.tokenizer, tokens, name, line, text, bytes,
                            j->settings->max_source);
}

/* One line in, one line out, blank ones too. What was read is answered before a read that would wait, so that two
 * programs can talk. A bad line ends it; those before it are answered. */
static bool translate_stream(const job *j) {
    line_reader reader;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    size_t n = 0, bytes[CHUNK];
    char *texts[CHUNK];
    bool fine = cli_open_lines(j->command, &reader, "-"), more = fine;
    while (fine && more) {
        bool good = true;
        more = cli_read_line(j->command, &reader);
        if (more && check(j, &tokens, reader.name, reader.line, reader.text, reader.bytes)) {
            texts[n] = with_tag(j, reader.text, reader.bytes, &bytes[n]);
            good = texts[n] != NULL;
            n += good;
        } else {
            good = !more;
        }
        if (n == CHUNK || !more || !good || !cli_line_waits(&reader)) {
            fine = n == 0 || translate(j, (const char *const *)texts, bytes, n);
            for (size_t i = 0; i < n; i++) free(texts[i]);
            n = 0;
        }
        fine = fine && good;
    }
    attn_tokens_free(cli_context(), &tokens);
    cli_close_lines(&reader);
    return fine && !reader.failed;
}

static bool translate_operands(const job *j, char **words, int n) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    char *text = cli_join(j->command, words, n), *tagged = NULL;
    size_t bytes;
    bool fine = text && check(j, &tokens, "the text", 0, text, strlen(text)) &&
                (tagged = with_tag(j, text, strlen(text), &bytes)) &&
                translate(j, (const char *const *)&tagged, &bytes, 1);
    attn_tokens_free(cli_context(), &tokens);
    free(text);
    free(tagged);
    return fine;
}

static bool read_alignment(job *j, const char *text) {
    char *end;
    if (!text) return true;
    if (!strcmp(text, "soft")) j->alignment = ALIGN_SOFT;
    else if (!strcmp(text, "hard")) j->alignment = ALIGN_HARD;
    else {
        j->alignment = ALIGN_THRESHOLD;
        j->threshold = strtod(text, &end);
        return end != text && !*end && j->threshold >= 0 && j->threshold <= 1;
    }
    return true;
}

/* The place of --to among the languages of the models that ship; −1: there is none. */
static int shipped_language(const char *to) {
    for (int i = 0; to && cli_languages[i]; i++)
        if (!strcmp(to, cli_languages[i])) return i;
    return to ? -1 : 0;
}

/* The tag of --to, which the model that was loaded must know. */
static bool choose_tag(job *j, const char *to) {
    const int n = snprintf(j->tag, sizeof j->tag, "<2%.16s> ", to);
    if (attn_tokenizer_tag(j->translator.tokenizer, NULL, j->tag, (size_t)n) == (size_t)n - 1) return true;
    cli_fail(j->command, "--to: found \"%s\", but the model %s was not trained with the tag <2%s>", to,
             j->settings->model, to);
    return false;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.beam_size = 5,
                  .length_penalty = 1,
                  .coverage_penalty = -1,
                  .batch_size = 32,
                  .max_source = -1,
                  .split_words = 50};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    job j = {.command = c, .settings = &s, .options = ATTN_TRANSLATE_OPTIONS_INIT, .terminal = cli_terminal(stdout)};
    if (!read_alignment(&j, s.alignment))
        return cli_wrong_use(c, "--alignment: found \"%s\", expected soft, hard, or a threshold from 0 to 1",
                             s.alignment);
    if (s.n_best > s.beam_size)
        return cli_wrong_use(c, "--n-best: found %lld, expected at most the beam size %lld", s.n_best, s.beam_size);
    const bool cuts = s.split_words && s.n_best <= 1 && !s.explain;
    if (s.max_source < 0) s.max_source = cuts ? CLI_MAX_CUT_SOURCE : CLI_MAX_SOURCE;
    if (s.show && s.no_show) return cli_wrong_use(c, "found --show and --no-show, expected one of them");
    j.options.beam_size = (int)s.beam_size;
    j.options.n_best = s.n_best ? (int)s.n_best : 1;
    j.options.length_penalty = (float)s.length_penalty;
    j.options.coverage_penalty = (float)s.coverage_penalty;
    j.options.max_length = (int)s.max_length;
    j.options.batch_size = (int)s.batch_size;
    j.options.max_source_tokens = (size_t)s.max_source;
    j.options.trace = s.explain;
    j.options.precision = cli_precision(s.precision);
    j.options.split_words = (size_t)s.split_words;
    bool operands = first < argc && !(first + 1 == argc && !strcmp(argv[first], "-"));
    j.show = !s.no_show && (s.show || (operands && j.terminal.is_terminal && !s.json && j.alignment == ALIGN_NONE));
    const int language = s.model ? 0 : shipped_language(s.to);
    if (language < 0) return cli_wrong_use(c, "--to: found \"%s\", expected en or fr; or -m DIR with it", s.to);
    if (!cli_load_translator_to(c, &j.translator, s.model, language)) return EXIT_FAILED;
    bool fine = !s.model || !s.to || choose_tag(&j, s.to);
    fine = fine && ((j.alignment == ALIGN_NONE && !s.show) || cli_attends(c, &j.translator));
    if (fine) fine = operands ? translate_operands(&j, argv + first, argc - first) : translate_stream(&j);
    cli_free_translator(&j.translator);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_translate = {
    .name = "translate",
    .summary = "translate text with a trained model",
    .operands = "[TEXT...]",
    .description =
        "Translates TEXT (several are joined with spaces), or each line of standard input into a line of output:\n"
        "one line in, one line out, blank ones too. On a terminal the alignment of TEXT follows: which source word\n"
        "each word of the translation looked at. A line that is not UTF-8 or is too long ends the run with an error\n"
        "that names it; the lines before it have been translated.",
    .example = "  attn translate \"Kannst du mir helfen diesen Satz zu übersetzen\"\n"
               "  attn translate --alignment hard < german.txt > english.txt",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
