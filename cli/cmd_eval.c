/* cmd_eval.c: attn eval. */
#include "eval.h"
#include "picture.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { THRESHOLDS = 40, MAX_WORDS = 1000 };

typedef eval_settings settings;
typedef eval_job job;

static const char *const task_names[] = {"next", "instructions", "classify", "preferences", NULL};

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder (default: the German-English one that ships)", 0,
     0, NULL},
    {"data", 'd', OPTION_LIST, AT(data), "FILE",
     "source TAB target, or given twice: source lines, target lines (.xz, .gz too)", 0, 0, NULL},
    {"reverse", 0, OPTION_FLAG, AT(reverse), NULL, "swap source and target", 0, 0, NULL},
    {"precision", 0, OPTION_CHOICE, AT(precision), "NAME", "of language models: " CLI_WEIGHTS_HELP, 0, 0, cli_weights},
    {"limit", 0, OPTION_INT, AT(limit), "N", "the first N pairs only", 0, 1e12, NULL},
    {"lowercase", 0, OPTION_FLAG, AT(lowercase), NULL, "BLEU of lower-cased texts", 0, 0, NULL},
    {"beam-size", 'b', OPTION_INT, AT(beam_size), "N", "hypotheses kept at each step; 1 is greedy (5)", 1, 64, NULL},
    {"length-penalty", 'n', OPTION_FLOAT, AT(length_penalty), "A", "score = sum of log p / length^A (1)", 0, 10, NULL},
    {"coverage-penalty", 0, OPTION_FLOAT, AT(coverage_penalty), "B",
     "add B times the sum over source tokens of log min(1, what looked at it) to a score (the model's: 0 mostly)", 0,
     10, NULL},
    {"max-source", 0, OPTION_INT, AT(max_source), "N", "refuse texts of more than N tokens (1000; 0: no limit)", 0, 1e9,
     NULL},
    {"batch-size", 0, OPTION_INT, AT(batch_size), "N", "sentences decoded together (64)", 1, 4096, NULL},
    {"by-length", 0, OPTION_FLAG, AT(by_length), NULL, "BLEU for each range of source lengths too", 0, 0, NULL},
    {"lengths", 0, OPTION_TEXT, AT(lengths), "LIST",
     "instead: join neighbouring pairs to about so many source words, e.g. 5,10,20,30", 0, 0, NULL},
    {"alignments", 0, OPTION_TEXT, AT(alignments), "GOLD",
     "instead: alignment error rate against links by hand (i-j sure, i?j possible)", 0, 0, NULL},
    {"one-based", 0, OPTION_FLAG, AT(one_based), NULL, "GOLD counts words from 1", 0, 0, NULL},
    {"posterior", 0, OPTION_FLAG, AT(posterior), NULL,
     "with --alignments: which source word explains the word that came", 0, 0, NULL},
    {"hypotheses", 'o', OPTION_TEXT, AT(hypotheses), "FILE", "write the translations, one a line", 0, 0, NULL},
    {"task", 0, OPTION_CHOICE, AT(task), "NAME",
     "of a language model: next (texts), instructions, preferences (JSON, as for attn train), classify (next)", 0, 0,
     task_names},
    {"reference", 0, OPTION_TEXT, AT(reference), "DIR",
     "preferences: the model that training began with; how often the chosen answer has the higher reward", 0, 0, NULL},
    {"beta", 0, OPTION_FLOAT, AT(beta), "X", "with --reference: as in training (0.1)", 1e-6, 1e6, NULL},
    {"template", 0, OPTION_CHOICE, AT(prompt_template), "NAME", "of prompts: alpaca, chatml, plain (alpaca)", 0, 0,
     cli_templates},
    {"max-tokens", 0, OPTION_INT, AT(max_tokens), "N",
     "longer examples are left out, texts to classify cut (0: the context length)", 0, 1e7, NULL},
    {"no-translate", 0, OPTION_FLAG, AT(no_translate), NULL, "loss and perplexity only", 0, 0, NULL},
    {"cache", 0, OPTION_CHOICE, AT(cache), "NAME",
     "language models: go through a cache of keys and values, as generating does: f32, or int8", 0, 0, cli_caches},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "figures as JSON, one object a line", 0, 0, NULL},
};

/* ---- figures out ------------------------------------------------------------------------------------------- */

bool eval_put(const job *j, json_t *figures) {
    const char *key, *between = "";
    json_t *value;
    if (j->settings->json) {
        bool fine = cli_put_json(figures, JSON_COMPACT | JSON_REAL_PRECISION(8));
        return cli_flush() && fine;
    }
    json_object_foreach(figures, key, value) {
        printf("%s%s ", between, key);
        if (json_is_integer(value)) printf("%lld", (long long)json_integer_value(value));
        else if (json_is_string(value)) printf("%s", json_string_value(value));
        else if (json_is_number(value))
            printf(fabs(json_number_value(value)) < 2 ? "%.4f" : "%.2f", json_number_value(value));
        else printf("-"); /* not a finite number */
        between = "  ";
    }
    putchar('\n');
    json_decref(figures);
    return cli_flush();
}

void eval_add(json_t *figures, const char *key, double x) { json_object_set_new(figures, key, cli_json_number(x)); }

/* ---- translations -------------------------------------------------------------------------------------------- */

static attn_translate_options translate_options(const settings *s) {
    attn_translate_options o = ATTN_TRANSLATE_OPTIONS_INIT;
    o.beam_size = (int)s->beam_size;
    o.length_penalty = (float)s->length_penalty;
    o.coverage_penalty = (float)s->coverage_penalty;
    o.batch_size = (int)s->batch_size;
    o.max_source_tokens = 0; /* checked before */
    o.posterior = s->posterior;
    return o;
}

static void free_texts(char **text, size_t n) {
    for (size_t i = 0; text && i < n; i++) free(text[i]);
    free(text);
}

/* Translations of source[0 … n−1]; malloc'd strings. NULL after a message. */
static char **translate_all(const job *j) {
    attn_context *ctx = cli_context();
    attn_translate_options o = translate_options(j->settings);
    size_t chunk = 32 * (size_t)j->settings->batch_size;
    attn_translation *out = calloc(chunk, sizeof *out);
    char **text = calloc(j->n + 1, sizeof *text);
    bool fine = out && text;
    if (!fine) cli_fail_memory(j->command);
    for (size_t at = 0; fine && at < j->n; at += chunk) {
        size_t n = j->n - at < chunk ? j->n - at : chunk;
        fine =
            attn_translate(j->translator.model, j->translator.tokenizer, out, j->source + at, NULL, n, &o) == ATTN_OK;
        if (!fine) cli_fail_status(j->command);
        for (size_t i = 0; i < n && fine; i++)
            if (!(text[at + i] = strdup(out[i].hypothesis->text))) fine = cli_fail_memory(j->command) == EXIT_DONE;
        for (size_t i = 0; i < n; i++) attn_translation_clear(ctx, &out[i]);
    }
    free(out);
    if (fine) return text;
    free_texts(text, j->n);
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
    eval_add(figures, "BLEU", bleu.score);
    eval_add(figures, "chrF", chrf);
    eval_add(figures, "brevity_penalty", bleu.brevity_penalty);
    eval_add(figures, "length_ratio",
             bleu.reference_tokens ? (double)bleu.hypothesis_tokens / (double)bleu.reference_tokens : 0);
    return true;
}

/* One line for each range of source lengths. */
static bool score_by_length(const job *j, char **hypotheses) {
    static const size_t edges[] = {0, 5, 10, 15, 20, 30, 40, 50, 60, SIZE_MAX};
    const char **h = malloc(j->n * sizeof *h), **r = malloc(j->n * sizeof *r);
    bool fine = h && r;
    if (!fine) cli_fail_memory(j->command);
    for (size_t e = 0; e + 1 < sizeof edges / sizeof edges[0] && fine; e++) {
        size_t n = 0, words = 0;
        for (size_t i = 0; i < j->n; i++) {
            size_t w = cli_count_words(j->source[i]);
            if (w <= edges[e] || w > edges[e + 1]) continue;
            h[n] = hypotheses[i];
            r[n++] = j->target[i];
            words += w;
        }
        if (n == 0) continue;
        json_t *figures = json_object();
        eval_add(figures, "words", (double)words / (double)n);
        json_object_set_new(figures, "sentences", json_integer((json_int_t)n));
        fine = score_into(j, figures, h, r, n);
        if (fine) fine = eval_put(j, figures);
        else json_decref(figures);
    }
    free(h);
    free(r);
    return fine;
}

static bool write_hypotheses(const job *j, char **text) {
    size_t bytes = 0;
    for (size_t i = 0; i < j->n; i++) bytes += strlen(text[i]) + 1;
    char *all = malloc(bytes + 1), *at = all;
    if (!all) return cli_fail_memory(j->command) == EXIT_DONE;
    for (size_t i = 0; i < j->n; i++) {
        for (const char *from = text[i]; *from; from++) *at++ = *from == '\n' || *from == '\r' ? ' ' : *from;
        *at++ = '\n';
    }
    bool fine = cli_write(j->command, j->settings->hypotheses, all, bytes);
    free(all);
    return fine;
}

/* ---- loss ------------------------------------------------------------------------------------------------------ */

/* −log p of the references, by forced decoding. */
static bool add_loss(const job *j, json_t *figures) {
    attn_context *ctx = cli_context();
    attn_translate_options o = translate_options(j->settings);
    double nll = 0;
    size_t tokens = 0, chunk = 8 * (size_t)o.batch_size;
    attn_translation *out = calloc(chunk, sizeof *out);
    bool fine = out != NULL;
    if (!fine) cli_fail_memory(j->command);
    for (size_t at = 0; fine && at < j->n; at += chunk) {
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
    eval_add(figures, "loss", loss);
    eval_add(figures, "perplexity", exp(loss));
    json_object_set_new(figures, "tokens", json_integer((json_int_t)tokens));
    return fine;
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
    fine = fine && add_loss(j, figures);
    if (fine) fine = eval_put(j, figures);
    else json_decref(figures);
    if (fine && text && j->settings->by_length) fine = score_by_length(j, text);
    if (fine && text && j->settings->hypotheses) fine = write_hypotheses(j, text);
    free_texts(text, j->n);
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

/* Joins neighbouring pairs until the source has at least `words` − 2 words. false after a message. */
static bool join_pairs(const job *all, job *j, size_t words, size_t *total) {
    j->source = calloc(all->n + 1, sizeof *j->source);
    j->target = calloc(all->n + 1, sizeof *j->target);
    j->n = *total = 0;
    bool fine = j->source && j->target;
    for (size_t i = 0, have = 0; i < all->n && fine; i++) {
        char *s = append((char *)j->source[j->n], all->source[i]), *t = append((char *)j->target[j->n], all->target[i]);
        fine = s && t;
        if (s) j->source[j->n] = s;
        if (t) j->target[j->n] = t;
        have += cli_count_words(all->source[i]);
        if (have + 2 < words) continue;
        *total += have;
        have = 0;
        j->n++;
    }
    if (!fine) return cli_fail_memory(j->command) == EXIT_DONE;
    if (j->n) return true;
    cli_fail(j->command, "--lengths: the %zu pairs together have fewer than %zu words", all->n, words);
    return false;
}

static bool evaluate_length(const job *all, size_t words) {
    job j = *all;
    size_t total;
    bool fine = join_pairs(all, &j, words, &total);
    char **text = fine ? translate_all(&j) : NULL;
    if (text) {
        json_t *figures = json_object();
        json_object_set_new(figures, "model", json_string(attn_model_type(j.translator.model)));
        eval_add(figures, "words", (double)total / (double)j.n);
        json_object_set_new(figures, "sentences", json_integer((json_int_t)j.n));
        fine = score_into(&j, figures, (const char *const *)text, j.target, j.n);
        if (fine) fine = eval_put(&j, figures);
        else json_decref(figures);
    }
    fine = fine && text;
    free_texts(text, j.n);
    for (size_t i = 0; i <= all->n; i++) { /* the last one may be a half-joined pair */
        if (j.source) free((char *)j.source[i]);
        if (j.target) free((char *)j.target[i]);
    }
    free(j.source);
    free(j.target);
    return fine;
}

/* Calls evaluate_length for each number of "5,10,20"; j NULL: only checks the list. */
static bool each_length(const job *j, const char *list) {
    for (const char *at = list; at;) {
        char *end;
        long words = strtol(at, &end, 10);
        if (end == at || words < 1 || words > MAX_WORDS || (*end && *end != ',')) return false;
        if (j && !evaluate_length(j, (size_t)words)) return false;
        at = *end ? end + 1 : NULL;
    }
    return true;
}

/* ---- alignment error rate --------------------------------------------------------------------------------------- */

typedef struct gold {
    attn_links *sure, *possible;
    size_t n, dropped;
} gold;

/* Adds one sentence at every threshold to half `half`. */
static bool add_sentence(const job *j, gold *g, size_t i, const attn_translation *t, attn_aer aer[2][THRESHOLDS]) {
    picture p;
    if (!t->hypothesis->alignment) return true; /* a blank sentence */
    if (!picture_make(j->command, &p, t, t->hypothesis)) return false;
    size_t rows = p.map.rows, columns = p.map.columns;
    attn_links found = {malloc((rows * columns + 1) * sizeof *found.link), 0};
    g->dropped += cli_clip_links(&g->sure[i], columns, rows) + cli_clip_links(&g->possible[i], columns, rows);
    for (size_t k = 0; k < THRESHOLDS && found.link; k++) {
        found.count = 0;
        for (size_t r = 0; r < rows; r++)
            for (size_t s = 0; s < columns; s++)
                if (p.values[r * columns + s] >= (float)(k + 1) / (THRESHOLDS + 1))
                    found.link[found.count++] = (attn_link){(int32_t)s, (int32_t)r};
        attn_aer_add(&aer[i % 2][k], &found, &g->sure[i], &g->possible[i]);
    }
    bool fine = found.link != NULL;
    if (!fine) cli_fail_memory(j->command);
    free(found.link);
    picture_free(&p);
    return fine;
}

/* The threshold of each half is the best of the other half. */
static bool put_aer(const job *j, const gold *g, attn_aer aer[2][THRESHOLDS]) {
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
    eval_add(figures, "AER", attn_aer_value(&sum));
    eval_add(figures, "precision", sum.links ? (double)sum.hits_possible / (double)sum.links : 0);
    eval_add(figures, "recall", sum.sure ? (double)sum.hits_sure / (double)sum.sure : 0);
    eval_add(figures, "threshold_even", (double)(best[1] + 1) / (THRESHOLDS + 1));
    eval_add(figures, "threshold_odd", (double)(best[0] + 1) / (THRESHOLDS + 1));
    json_object_set_new(figures, "sentences", json_integer((json_int_t)g->n));
    json_object_set_new(figures, "links_dropped", json_integer((json_int_t)g->dropped));
    return eval_put(j, figures);
}

static bool evaluate_alignments(const job *j) {
    attn_context *ctx = cli_context();
    gold g = {0};
    attn_aer aer[2][THRESHOLDS] = {0};
    attn_translate_options o = translate_options(j->settings);
    if (attn_gold_read(ctx, &g.sure, &g.possible, &g.n, j->settings->alignments, j->settings->one_based) != ATTN_OK)
        return cli_fail_status(j->command) == EXIT_DONE;
    bool fine = g.n == j->n;
    if (!fine)
        cli_fail(j->command, "%s: found %zu lines, expected %zu as in the data", j->settings->alignments, g.n, j->n);
    attn_translation *out = calloc(j->n + 1, sizeof *out);
    if (fine && !out) fine = cli_fail_memory(j->command) == EXIT_DONE;
    if (fine && attn_translate_forced(j->translator.model, j->translator.tokenizer, out, j->source, j->target, j->n,
                                      &o) != ATTN_OK) {
        cli_fail_status(j->command);
        fine = false;
    }
    for (size_t i = 0; i < j->n && fine; i++) fine = add_sentence(j, &g, i, &out[i], aer);
    fine = fine && put_aer(j, &g, aer);
    for (size_t i = 0; out && i < j->n; i++) attn_translation_clear(ctx, &out[i]);
    free(out);
    attn_gold_free(ctx, g.sure, g.n);
    attn_gold_free(ctx, g.possible, g.n);
    return fine;
}

/* ---- the command ------------------------------------------------------------------------------------------------ */

static bool with_corpus(job *j, const attn_corpus *corpus) {
    const settings *s = j->settings;
    if (!cli_check_pairs(j->command, j->translator.tokenizer, corpus, &s->data, s->reverse, s->max_source))
        return false;
    j->n = attn_corpus_count(corpus);
    j->source = malloc(j->n * sizeof *j->source);
    j->target = malloc(j->n * sizeof *j->target);
    bool fine = j->source && j->target;
    if (!fine) cli_fail_memory(j->command);
    for (size_t i = 0; i < j->n && fine; i++) {
        const attn_pair *p = attn_corpus_at(corpus, i);
        j->source[i] = p->source;
        j->target[i] = p->target;
    }
    if (fine) fine = s->alignments ? evaluate_alignments(j) : s->lengths ? each_length(j, s->lengths) : evaluate(j);
    free(j->source);
    free(j->target);
    return fine;
}

/* What excludes what. */
static int check_settings(const command *c, const settings *s) {
    if (s->lengths && !each_length(NULL, s->lengths))
        return cli_wrong_use(c, "--lengths: found \"%s\", expected numbers from 1 to %d with commas between",
                             s->lengths, MAX_WORDS);
    if (s->alignments && s->lengths) return cli_wrong_use(c, "found --alignments and --lengths, expected one of them");
    if (s->posterior && !s->alignments) return cli_wrong_use(c, "found --posterior without --alignments");
    if (s->beta >= 0 && !s->reference) return cli_wrong_use(c, "found --beta without --reference");
    if ((s->no_translate || s->alignments || s->lengths) && (s->by_length || s->hypotheses))
        return cli_wrong_use(c, "--%s needs the usual translations, found --%s too",
                             s->by_length ? "by-length" : "hypotheses",
                             s->no_translate ? "no-translate"
                             : s->alignments ? "alignments"
                                             : "lengths");
    if (s->reference && s->task != ATTN_TASK_PREFERENCES)
        return cli_wrong_use(c, "--reference belongs to --task preferences");
    return cli_check_files(c, "data", &s->data);
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.beam_size = 5,
                  .length_penalty = 1,
                  .coverage_penalty = -1,
                  .batch_size = 64,
                  .max_source = CLI_MAX_SOURCE,
                  .beta = -1, /* 0.1 */
                  .cache = -1};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if ((code = check_settings(c, &s)) != GO_ON) return code;
    job j = {.command = c, .settings = &s};
    if (!(s.model ? cli_load_model_as(c, &j.translator, s.model, s.precision)
                  : cli_load_translator(c, &j.translator, NULL)))
        return EXIT_FAILED;
    if (attn_model_is_language_model(j.translator.model)) {
        const bool measured = eval_language(&j);
        cli_free_translator(&j.translator);
        return measured ? EXIT_DONE : EXIT_FAILED;
    }
    if (!cli_translates(c, &j.translator, s.model ? s.model : "")) return EXIT_FAILED;
    attn_corpus *corpus = NULL;
    bool fine = (!s.alignments || cli_attends(c, &j.translator)) &&
                cli_read_corpus(c, &corpus, &s.data, s.reverse, s.limit) && with_corpus(&j, corpus);
    attn_corpus_free(corpus);
    cli_free_translator(&j.translator);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_eval = {
    .name = "eval",
    .summary = "measure a model: BLEU, chrF, loss, length curve, alignment error rate",
    .operands = "",
    .description =
        "Of a language model: loss and perplexity of texts, in windows of its context length; of answers, with "
        "--task;\n"
        "of a classifier: accuracy on lines of label TAB text.\n"
        "BLEU and chrF are sacreBLEU's (13a). With --alignments the references are forced, white space separates\n"
        "words, and each half of the sentences takes the threshold that is best on the other half.",
    .example = "  attn eval -m models/de-en --data data/tatoeba/de-en.test.tsv.xz\n"
               "  attn eval -m out/rnn --data test.tsv --lengths 5,10,20,30,40,50,60 --json > rnn.jsonl",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
