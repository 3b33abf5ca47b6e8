/* eval_language.c: attn eval of language models: texts, answers to instructions, preferences, labels. */
#include "eval.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Loss and perplexity of texts. */
static bool evaluate_texts(const eval_job *j) {
    attn_context *ctx = cli_context();
    attn_corpus *texts;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    attn_loss_stats stats = {0};
    if (attn_corpus_read_texts(&texts, ctx, j->settings->data.item, j->settings->data.count) != ATTN_OK)
        return cli_fail_status(j->command) == EXIT_DONE;
    bool fine = true;
    for (size_t i = 0; i < attn_corpus_count(texts) && fine; i++) {
        const attn_pair *text = attn_corpus_at(texts, i);
        fine = attn_tokenize(j->translator.tokenizer, &tokens, text->target, text->target_bytes, false) == ATTN_OK;
        int32_t *ids = fine ? malloc((tokens.count + 1) * sizeof *ids) : NULL;
        for (size_t k = 0; ids && k < tokens.count; k++) ids[k] = tokens.token[k].id;
        const attn_model *model = j->translator.model;
        const bool cached = j->settings->cache >= 0;
        fine =
            ids && (cached ? attn_language_loss_cached(model, &stats, ids, tokens.count, cli_cache(j->settings->cache))
                           : attn_language_loss(model, &stats, ids, tokens.count)) == ATTN_OK;
        if (!fine) cli_fail_status(j->command);
        free(ids);
    }
    attn_tokens_free(ctx, &tokens);
    if (fine && !stats.tokens) fine = cli_fail(j->command, "found no two tokens to measure") == EXIT_DONE;
    if (fine) {
        const double n = (double)stats.tokens;
        json_t *figures = json_object();
        json_object_set_new(figures, "texts", json_integer((json_int_t)attn_corpus_count(texts)));
        eval_add(figures, "loss", stats.nll / n);
        eval_add(figures, "perplexity", exp(stats.nll / n));
        eval_add(figures, "accuracy", (double)stats.correct / n);
        json_object_set_new(figures, "tokens", json_integer((json_int_t)stats.tokens));
        fine = eval_put(j, figures);
    }
    attn_corpus_free(texts);
    return fine;
}

/* Loss of answers to instructions. */
static bool measure_instructions(const eval_job *j, const attn_corpus *corpus, const attn_train_options *o) {
    attn_loss_stats stats = {0};
    if (attn_train_measure(j->translator.model, j->translator.tokenizer, corpus, o, &stats) != ATTN_OK)
        return cli_fail_status(j->command) == EXIT_DONE;
    if (!stats.tokens) return cli_fail(j->command, "found nothing to measure") == EXIT_DONE;
    const double n = (double)stats.tokens;
    json_t *figures = json_object();
    eval_add(figures, "loss", stats.nll / n);
    eval_add(figures, "perplexity", exp(stats.nll / n));
    eval_add(figures, "accuracy", (double)stats.correct / n);
    json_object_set_new(figures, "tokens", json_integer((json_int_t)stats.tokens));
    return eval_put(j, figures);
}

/* How often the chosen answer is the likelier one, as a whole and per token; with a reference how often what training
 * made of its probability is more than of the rejected one's. */
static bool put_preferences(const eval_job *j, const attn_answer *now, const attn_answer *before, size_t n) {
    const double beta = j->settings->beta < 0 ? 0.1 : j->settings->beta;
    double pairs = 0, likelier = 0, per_token = 0, rewarded = 0, margins = 0, loss = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        const attn_answer *chosen = &now[i], *rejected = &now[i + 1];
        if (!chosen->tokens || (before && !before[i].tokens)) continue;
        pairs++;
        likelier += chosen->log_prob > rejected->log_prob;
        per_token += chosen->log_prob / (double)chosen->tokens > rejected->log_prob / (double)rejected->tokens;
        if (!before) continue;
        const double margin =
            beta * ((chosen->log_prob - before[i].log_prob) - (rejected->log_prob - before[i + 1].log_prob));
        rewarded += margin > 0, margins += margin, loss += log1p(exp(-fabs(margin))) + fmax(-margin, 0);
    }
    if (pairs == 0) return cli_fail(j->command, "found nothing to measure") == EXIT_DONE;
    json_t *figures = json_object();
    eval_add(figures, "preferred", likelier / pairs);
    eval_add(figures, "preferred_per_token", per_token / pairs);
    if (before) {
        eval_add(figures, "reward_accuracy", rewarded / pairs);
        eval_add(figures, "reward_margin", margins / pairs);
        eval_add(figures, "loss", loss / pairs);
    }
    json_object_set_new(figures, "pairs", json_integer((json_int_t)pairs));
    return eval_put(j, figures);
}

static bool measure_preferences(const eval_job *j, const attn_corpus *corpus, const attn_train_options *o) {
    const eval_settings *s = j->settings;
    const size_t n = attn_corpus_count(corpus);
    attn_answer *now = calloc(n + 1, 2 * sizeof *now), *before = now ? now + n : NULL;
    if (!now) return cli_fail_memory(j->command) == EXIT_DONE;
    bool fine = attn_train_answers(j->translator.model, j->translator.tokenizer, corpus, o, now) == ATTN_OK ||
                cli_fail_status(j->command) == EXIT_DONE;
    translator reference;
    if (fine && s->reference &&
        (fine = cli_load_language_model(j->command, &reference, s->reference, NULL, s->precision))) {
        fine = attn_train_answers(reference.model, reference.tokenizer, corpus, o, before) == ATTN_OK ||
               cli_fail_status(j->command) == EXIT_DONE;
        cli_free_translator(&reference);
    }
    fine = fine && put_preferences(j, now, s->reference ? before : NULL, n);
    free(now);
    return fine;
}

static bool evaluate_answers(const eval_job *j) {
    const eval_settings *s = j->settings;
    const bool preferences = s->task == ATTN_TASK_PREFERENCES;
    attn_corpus *corpus;
    attn_train_options o;
    attn_train_options_init(&o);
    o.task = (attn_train_task)s->task;
    o.max_tokens = s->max_tokens ? (size_t)s->max_tokens : attn_model_context_length(j->translator.model);
    o.batch_tokens = 2048;
    if (attn_corpus_read_instructions(&corpus, cli_context(), s->data.item, s->data.count,
                                      (attn_template)s->prompt_template, preferences) != ATTN_OK)
        return cli_fail_status(j->command) == EXIT_DONE;
    const bool fine = preferences ? measure_preferences(j, corpus, &o) : measure_instructions(j, corpus, &o);
    attn_corpus_free(corpus);
    return fine;
}

/* Figures of labels that were found: accuracy, and of each label how many there are and how many were found. */
static bool put_labels(const eval_job *j, const attn_corpus *corpus, const float *probability) {
    const attn_model *model = j->translator.model;
    const size_t n = attn_corpus_count(corpus), labels = attn_model_labels(model);
    size_t *count = calloc(2 * labels, sizeof *count), correct = 0;
    double nll = 0;
    if (!count) return cli_fail_memory(j->command) == EXIT_DONE;
    for (size_t i = 0; i < n; i++) {
        const float *p = probability + i * labels;
        size_t best = 0, label = 0;
        for (size_t k = 0; k < labels; k++) {
            if (p[k] > p[best]) best = k;
            if (!strcmp(attn_model_label(model, k), attn_corpus_at(corpus, i)->target)) label = k;
        }
        nll -= log(fmax((double)p[label], 1e-45));
        count[2 * label]++;
        count[2 * label + 1] += best == label;
        correct += best == label;
    }
    json_t *figures = json_object();
    json_object_set_new(figures, "texts", json_integer((json_int_t)n));
    eval_add(figures, "accuracy", (double)correct / (double)n);
    eval_add(figures, "loss", nll / (double)n);
    for (size_t k = 0; k < labels; k++)
        json_object_set_new(figures, attn_model_label(model, k),
                            json_sprintf("%zu of %zu", count[2 * k + 1], count[2 * k]));
    free(count);
    return eval_put(j, figures);
}

static bool evaluate_labels(const eval_job *j) {
    const eval_settings *s = j->settings;
    attn_corpus *corpus = NULL;
    if (!cli_read_corpus(j->command, &corpus, &s->data, true, s->limit)) return false;
    const size_t n = attn_corpus_count(corpus), labels = attn_model_labels(j->translator.model);
    const char **text = malloc(n * sizeof *text);
    float *probability = malloc(n * labels * sizeof *probability);
    bool fine = (text && probability) || cli_fail_memory(j->command) == EXIT_DONE;
    for (size_t i = 0; i < n && fine; i++) text[i] = attn_corpus_at(corpus, i)->source;
    fine = fine && cli_check_labels(j->command, j->translator.model, corpus, s->data.item[0]);
    if (fine && attn_classify(j->translator.model, j->translator.tokenizer, probability, text, NULL, n,
                              (size_t)s->max_tokens) != ATTN_OK)
        fine = cli_fail_status(j->command) == EXIT_DONE;
    fine = fine && put_labels(j, corpus, probability);
    free(probability);
    free(text);
    attn_corpus_free(corpus);
    return fine;
}

bool eval_language(const eval_job *j) {
    if (attn_model_labels(j->translator.model)) return evaluate_labels(j);
    if (j->settings->task == ATTN_TASK_CLASSIFY)
        return cli_fail(j->command, "%s: a model without labels, expected one of attn train --task classify",
                        j->settings->model) == EXIT_DONE;
    return j->settings->task ? evaluate_answers(j) : evaluate_texts(j);
}
