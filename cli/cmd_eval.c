/* cmd_eval.c: attn eval. */
#include "picture.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model, *alignments, *hypotheses, *lengths;
    text_list data;
    long long beam_size, limit, batch_size, threads;
    double length_penalty;
    bool reverse, lowercase, json, by_length, one_based, no_translate, quiet;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder (default: the German-English one that ships)", 0,
     0, NULL},
    {"data", 'd', OPTION_LIST, AT(data), "FILE",
     "source TAB target, or given twice: source lines, target lines (.xz, .gz too)", 0, 0, NULL},
    {"reverse", 0, OPTION_FLAG, AT(reverse), NULL, "swap source and target", 0, 0, NULL},
    {"limit", 0, OPTION_INT, AT(limit), "N", "the first N pairs only", 0, 1e12, NULL},
    {"lowercase", 0, OPTION_FLAG, AT(lowercase), NULL, "BLEU of lower-cased texts", 0, 0, NULL},
    {"beam-size", 'b', OPTION_INT, AT(beam_size), "N", "(5)", 1, 64, NULL},
    {"length-penalty", 'n', OPTION_FLOAT, AT(length_penalty), "A", "(1)", 0, 10, NULL},
    {"batch-size", 0, OPTION_INT, AT(batch_size), "N", "sentences decoded together (64)", 1, 4096, NULL},
    {"by-length", 0, OPTION_FLAG, AT(by_length), NULL, "BLEU for each range of source lengths too", 0, 0, NULL},
    {"lengths", 0, OPTION_TEXT, AT(lengths), "LIST",
     "instead: join neighbouring pairs to about so many source words, e.g. 5,10,20,30", 0, 0, NULL},
    {"alignments", 0, OPTION_TEXT, AT(alignments), "GOLD",
     "instead: alignment error rate against links by hand (i-j sure, i?j possible)", 0, 0, NULL},
    {"one-based", 0, OPTION_FLAG, AT(one_based), NULL, "GOLD counts words from 1", 0, 0, NULL},
    {"hypotheses", 'o', OPTION_TEXT, AT(hypotheses), "FILE", "write the translations, one a line", 0, 0, NULL},
    {"no-translate", 0, OPTION_FLAG, AT(no_translate), NULL, "loss and perplexity only", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "figures as JSON, one object a line", 0, 0, NULL},
    {"threads", 't', OPTION_INT, AT(threads), "N", "(all processors)", 1, 1024, NULL},
    {"quiet", 'q', OPTION_FLAG, AT(quiet), NULL, "no messages", 0, 0, NULL},
};

typedef struct job {
    const command *command;
    const settings *settings;
    translator translator;
    const char **source, **target; /* borrowed from the corpus, or joined */
    size_t n;
} job;

/* ---- figures out ------------------------------------------------------------------------------------------- */

static void put(const job *j, json_t *figures) {
    if (j->settings->json) {
        json_dumpf(figures, stdout, JSON_COMPACT | JSON_REAL_PRECISION(8));
        putchar('\n');
    } else {
        const char *key;
        json_t *value;
        const char *between = "";
        json_object_foreach(figures, key, value) {
            printf("%s%s ", between, key);
            if (json_is_integer(value)) printf("%lld", (long long)json_integer_value(value));
            else if (json_is_string(value)) printf("%s", json_string_value(value));
            else printf(fabs(json_number_value(value)) < 2 ? "%.4f" : "%.2f", json_number_value(value));
            between = "  ";
        }
        putchar('\n');
    }
    fflush(stdout);
    json_decref(figures);
}

static size_t count_words(const char *text) {
    size_t words = 0;
    for (bool inside = false; *text; text++) {
        bool space = *text == ' ' || *text == '\t';
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

/* ---- translations -------------------------------------------------------------------------------------------- */

static attn_translate_options translate_options(const settings *s) {
    attn_translate_options o = ATTN_TRANSLATE_OPTIONS_INIT;
    o.beam_size = (int)s->beam_size;
    o.length_penalty = (float)s->length_penalty;
    o.batch_size = (int)s->batch_size;
    return o;
}

/* Translations of source[0 … n−1]; malloc'd strings. NULL after a message. */
static char **translate_all(const job *j) {
    attn_context *ctx = cli_context();
    attn_translate_options o = translate_options(j->settings);
    attn_translation *out = calloc(j->n + 1, sizeof *out);
    char **text = calloc(j->n + 1, sizeof *text);
    bool fine = out && text;
    size_t chunk = 32 * (size_t)j->settings->batch_size;
    for (size_t at = 0; fine && at < j->n && !cli_interrupted; at += chunk) {
        size_t n = j->n - at < chunk ? j->n - at : chunk;
        fine = attn_translate(j->translator.model, j->translator.tokenizer, out + at, j->source + at, NULL, n, &o) ==
               ATTN_OK;
        if (!fine) cli_fail_status(j->command);
        for (size_t i = at; i < at + n && fine; i++) fine = (text[i] = strdup(out[i].hypothesis->text)) != NULL;
        for (size_t i = at; i < at + n; i++) attn_translation_clear(ctx, &out[i]);
    }
    free(out);
    if (fine && !cli_interrupted) return text;
    for (size_t i = 0; text && i < j->n; i++) free(text[i]);
    free(text);
    return NULL;
}

static bool score_into(const job *j, json_t *figures, const char *const *hypotheses, const char *const *references,
                       size_t n) {
    attn_bleu bleu;
    double chrf;
    attn_context *ctx = cli_context();
    if (attn_bleu_score(ctx, &bleu, hypotheses, references, n, j->settings->lowercase) != ATTN_OK ||
        attn_chrf_score(ctx, &chrf, hypotheses, references, n) != ATTN_OK) {
        cli_fail_status(j->command);
        return false;
    }
    json_object_set_new(figures, "BLEU", json_real(bleu.score));
    json_object_set_new(figures, "chrF", json_real(chrf));
    json_object_set_new(figures, "brevity_penalty", json_real(bleu.brevity_penalty));
    json_object_set_new(
        figures, "length_ratio",
        json_real(bleu.reference_tokens ? (double)bleu.hypothesis_tokens / (double)bleu.reference_tokens : 0));
    return true;
}

/* One line for each range of source lengths. */
static bool score_by_length(const job *j, char **hypotheses) {
    static const size_t edges[] = {0, 5, 10, 15, 20, 30, 40, 50, 60, (size_t)-1};
    const char **h = malloc(j->n * sizeof *h), **r = malloc(j->n * sizeof *r);
    bool fine = h && r;
    for (size_t e = 0; e + 1 < sizeof edges / sizeof edges[0] && fine; e++) {
        size_t n = 0, words = 0;
        for (size_t i = 0; i < j->n; i++) {
            size_t w = count_words(j->source[i]);
            if (w <= edges[e] || w > edges[e + 1]) continue;
            h[n] = hypotheses[i];
            r[n++] = j->target[i];
            words += w;
        }
        if (n == 0) continue;
        json_t *figures = json_object();
        json_object_set_new(figures, "words", json_real((double)words / (double)n));
        json_object_set_new(figures, "sentences", json_integer((json_int_t)n));
        fine = score_into(j, figures, h, r, n);
        put(j, figures);
    }
    free(h);
    free(r);
    return fine;
}

static bool write_hypotheses(const job *j, char **text) {
    size_t bytes = 0;
    for (size_t i = 0; i < j->n; i++) bytes += strlen(text[i]) + 1;
    char *all = malloc(bytes + 1), *at = all;
    if (!all) return false;
    for (size_t i = 0; i < j->n; i++) at += sprintf(at, "%s\n", text[i]);
    bool fine = cli_write(j->command, j->settings->hypotheses, all, bytes);
    free(all);
    return fine;
}

/* ---- loss ------------------------------------------------------------------------------------------------------ */

/* −log p of the references, by forced decoding. */
static bool add_loss(const job *j, json_t *figures) {
    attn_context *ctx = cli_context();
    attn_translate_options o = translate_options(j->settings);
    o.beam_size = 1;
    double nll = 0;
    size_t tokens = 0, chunk = 8 * (size_t)o.batch_size;
    attn_translation *out = calloc(chunk, sizeof *out);
    bool fine = out != NULL;
    for (size_t at = 0; fine && at < j->n && !cli_interrupted; at += chunk) {
        size_t n = j->n - at < chunk ? j->n - at : chunk;
        fine = attn_translate_forced(j->translator.model, j->translator.tokenizer, out, j->source + at, j->target + at,
                                     n, &o) == ATTN_OK;
        if (!fine) cli_fail_status(j->command);
        for (size_t i = 0; i < n && fine; i++)
            for (size_t k = 0; k < out[i].hypothesis->count; k++, tokens++)
                nll -= (double)out[i].hypothesis->log_prob[k];
        for (size_t i = 0; i < n; i++) attn_translation_clear(ctx, &out[i]);
    }
    free(out);
    double loss = tokens ? nll / (double)tokens : 0;
    json_object_set_new(figures, "loss", json_real(loss));
    json_object_set_new(figures, "perplexity", json_real(exp(loss)));
    json_object_set_new(figures, "tokens", json_integer((json_int_t)tokens));
    return fine && !cli_interrupted;
}

static bool evaluate(const job *j) {
    json_t *figures = json_object();
    json_object_set_new(figures, "sentences", json_integer((json_int_t)j->n));
    bool fine = true;
    char **text = NULL;
    if (!j->settings->no_translate) {
        text = translate_all(j);
        fine = text && score_into(j, figures, (const char *const *)text, j->target, j->n);
    }
    if (fine) fine = add_loss(j, figures);
    if (fine) put(j, json_incref(figures));
    json_decref(figures);
    if (fine && text && j->settings->by_length) fine = score_by_length(j, text);
    if (fine && text && j->settings->hypotheses) fine = write_hypotheses(j, text);
    for (size_t i = 0; text && i < j->n; i++) free(text[i]);
    free(text);
    return fine;
}

/* ---- joined pairs: what length does (Bahdanau et al. 2015, figure 2) -------------------------------------------- */

static char *append(char *text, const char *more) {
    size_t a = text ? strlen(text) : 0, b = strlen(more);
    char *out = realloc(text, a + b + 2);
    if (!out) return NULL;
    if (a) out[a++] = ' ';
    memcpy(out + a, more, b + 1);
    return out;
}

/* Joins neighbouring pairs until the source has at least `words` − 2 words. */
static bool evaluate_length(const job *all, size_t words) {
    job j = *all;
    j.source = calloc(all->n + 1, sizeof *j.source);
    j.target = calloc(all->n + 1, sizeof *j.target);
    j.n = 0;
    bool fine = j.source && j.target;
    size_t total = 0;
    for (size_t i = 0, have = 0; i < all->n && fine; i++) {
        char *s = append((char *)j.source[j.n], all->source[i]), *t = append((char *)j.target[j.n], all->target[i]);
        fine = s && t;
        if (s) j.source[j.n] = s;
        if (t) j.target[j.n] = t;
        have += count_words(all->source[i]);
        if (have + 2 < words) continue;
        total += have;
        have = 0;
        j.n++;
    }
    char **text = fine ? translate_all(&j) : NULL;
    json_t *figures = json_object();
    json_object_set_new(figures, "model", json_string(attn_model_type(j.translator.model)));
    json_object_set_new(figures, "words", json_real(j.n ? (double)total / (double)j.n : 0));
    json_object_set_new(figures, "sentences", json_integer((json_int_t)j.n));
    fine = text && score_into(&j, figures, (const char *const *)text, j.target, j.n);
    if (fine) put(&j, json_incref(figures));
    json_decref(figures);
    for (size_t i = 0; i <= j.n && i <= all->n; i++) {
        if (text && i < j.n) free(text[i]);
        if (j.source) free((char *)j.source[i]);
        if (j.target) free((char *)j.target[i]);
    }
    free(text);
    free(j.source);
    free(j.target);
    return fine;
}

static int evaluate_lengths(const job *j) {
    const char *at = j->settings->lengths;
    while (*at) {
        char *end;
        long words = strtol(at, &end, 10);
        if (end == at || words < 1 || words > 1000 || (*end && *end != ','))
            return cli_wrong_use(j->command, "--lengths: found \"%s\", expected numbers from 1 to 1000 with commas",
                                 j->settings->lengths);
        if (!evaluate_length(j, (size_t)words)) return EXIT_FAILED;
        at = *end ? end + 1 : end;
    }
    return EXIT_DONE;
}

/* ---- alignment error rate --------------------------------------------------------------------------------------- */

enum { THRESHOLDS = 40 };

typedef struct gold {
    attn_links *sure, *possible;
    size_t n, dropped;
} gold;

/* Links outside the sentences are dropped and counted. */
static void drop_outside(attn_links *links, size_t rows, size_t columns, size_t *dropped) {
    size_t kept = 0;
    for (size_t i = 0; i < links->count; i++) {
        if ((size_t)links->link[i].source < columns && (size_t)links->link[i].target < rows)
            links->link[kept++] = links->link[i];
        else (*dropped)++;
    }
    links->count = kept;
}

/* Adds one sentence at every threshold to half `half`. */
static bool add_sentence(const job *j, gold *g, size_t i, const attn_translation *t, attn_aer aer[2][THRESHOLDS]) {
    picture p;
    if (!picture_make(j->command, &p, t, t->hypothesis)) return false;
    size_t rows = p.map.rows, columns = p.map.columns;
    attn_links found = {malloc((rows * columns + 1) * sizeof *found.link), 0};
    drop_outside(&g->sure[i], rows, columns, &g->dropped);
    drop_outside(&g->possible[i], rows, columns, &g->dropped);
    for (size_t k = 0; k < THRESHOLDS && found.link; k++) {
        found.count = 0;
        for (size_t r = 0; r < rows; r++)
            for (size_t s = 0; s < columns; s++)
                if (p.values[r * columns + s] >= (float)(k + 1) / (THRESHOLDS + 1))
                    found.link[found.count++] = (attn_link){(int32_t)s, (int32_t)r};
        attn_aer_add(&aer[i % 2][k], &found, &g->sure[i], &g->possible[i]);
    }
    bool fine = found.link != NULL;
    free(found.link);
    picture_free(&p);
    return fine;
}

/* The threshold of each half is the best of the other half. */
static void put_aer(const job *j, const gold *g, attn_aer aer[2][THRESHOLDS]) {
    size_t best[2] = {0, 0};
    for (int half = 0; half < 2; half++)
        for (size_t k = 0; k < THRESHOLDS; k++)
            if (attn_aer_value(&aer[half][k]) < attn_aer_value(&aer[half][best[half]])) best[half] = k;
    attn_aer sum = aer[0][best[1]];
    const attn_aer *other = &aer[1][best[0]];
    sum.hits_sure += other->hits_sure;
    sum.hits_possible += other->hits_possible;
    sum.links += other->links;
    sum.sure += other->sure;
    json_t *figures = json_object();
    json_object_set_new(figures, "AER", json_real(attn_aer_value(&sum)));
    json_object_set_new(figures, "precision", json_real(sum.links ? (double)sum.hits_possible / (double)sum.links : 0));
    json_object_set_new(figures, "recall", json_real(sum.sure ? (double)sum.hits_sure / (double)sum.sure : 0));
    json_object_set_new(figures, "threshold_even", json_real((double)(best[1] + 1) / (THRESHOLDS + 1)));
    json_object_set_new(figures, "threshold_odd", json_real((double)(best[0] + 1) / (THRESHOLDS + 1)));
    json_object_set_new(figures, "sentences", json_integer((json_int_t)g->n));
    json_object_set_new(figures, "links_dropped", json_integer((json_int_t)g->dropped));
    put(j, figures);
}

static int evaluate_alignments(const job *j) {
    attn_context *ctx = cli_context();
    gold g = {0};
    attn_aer aer[2][THRESHOLDS] = {0};
    attn_translate_options o = translate_options(j->settings);
    if (attn_gold_read(ctx, &g.sure, &g.possible, &g.n, j->settings->alignments, j->settings->one_based) != ATTN_OK)
        return cli_fail_status(j->command);
    bool fine = g.n == j->n;
    if (!fine)
        cli_fail(j->command, "%s: found %zu lines, expected %zu as in the data", j->settings->alignments, g.n, j->n);
    attn_translation *out = calloc(j->n + 1, sizeof *out);
    fine = fine && out;
    if (fine && attn_translate_forced(j->translator.model, j->translator.tokenizer, out, j->source, j->target, j->n,
                                      &o) != ATTN_OK) {
        cli_fail_status(j->command);
        fine = false;
    }
    for (size_t i = 0; i < j->n && fine; i++) fine = add_sentence(j, &g, i, &out[i], aer);
    if (fine) put_aer(j, &g, aer);
    for (size_t i = 0; out && i < j->n; i++) attn_translation_clear(ctx, &out[i]);
    free(out);
    attn_gold_free(ctx, g.sure, g.n);
    attn_gold_free(ctx, g.possible, g.n);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

/* ---- ------------------------------------------------------------------------------------------------------------- */

static int with_corpus(job *j, const attn_corpus *corpus) {
    j->n = attn_corpus_count(corpus);
    j->source = malloc((j->n + 1) * sizeof *j->source);
    j->target = malloc((j->n + 1) * sizeof *j->target);
    int code = EXIT_FAILED;
    if (j->source && j->target) {
        for (size_t i = 0; i < j->n; i++) {
            const attn_pair *p = attn_corpus_at(corpus, i);
            j->source[i] = p->source;
            j->target[i] = p->target;
        }
        if (j->settings->alignments) code = evaluate_alignments(j);
        else if (j->settings->lengths) code = evaluate_lengths(j);
        else code = evaluate(j) ? EXIT_DONE : EXIT_FAILED;
    }
    free(j->source);
    free(j->target);
    return code;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.beam_size = 5, .length_penalty = 1, .batch_size = 64};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if (s.data.count < 1 || s.data.count > 2)
        return cli_wrong_use(c, "--data: found %zu files, expected 1 (TSV) or 2", s.data.count);
    cli_quiet = s.quiet;
    if (s.threads) cli_set_threads(s.threads);
    job j = {.command = c, .settings = &s};
    if (!cli_load_translator(c, &j.translator, s.model)) return EXIT_FAILED;
    attn_corpus_options o = ATTN_CORPUS_OPTIONS_INIT;
    o.reverse = s.reverse;
    o.limit = (size_t)s.limit;
    attn_corpus *corpus = NULL;
    cli_catch_interrupt();
    if (attn_corpus_read(&corpus, cli_context(), s.data.item, s.data.count, &o) != ATTN_OK) code = cli_fail_status(c);
    else code = with_corpus(&j, corpus);
    attn_corpus_free(corpus);
    cli_free_translator(&j.translator);
    return code;
}

const command command_eval = {
    .name = "eval",
    .summary = "measure a model: BLEU, chrF, loss, length curve, alignment error rate",
    .operands = "",
    .description =
        "BLEU and chrF are sacreBLEU's (13a). With --alignments the references are forced, white space separates\n"
        "words, and each half of the sentences takes the threshold that is best on the other half.",
    .example = "  attn eval -m models/de-en --data data/tatoeba/de-en.test.tsv.xz\n"
               "  attn eval -m out/rnn --data test.tsv --lengths 5,10,20,30,40,50,60 --json > rnn.jsonl",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
