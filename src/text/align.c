/* align.c: training of the word aligner.
 *
 * Dyer, Chahuneau & Smith 2013, "A simple, fast, and effective reparameterization of IBM model 2". For generated words
 * g_1 … g_m and conditioning words c_1 … c_n:
 *     p(a_j = 0)  = p_null                                                   c_0 is NULL
 *     p(a_j = i)  = (1 − p_null) · exp(−λ |i/n − j/m|) / Z_λ(j, m, n)        near the diagonal; λ is the tension
 *     p(g | a)    = product over j of t(g_j | c_{a_j})
 * Expectation: posterior of a_j, exactly. Maximisation: t by counts, under a Dirichlet prior by the digamma function
 * (variational Bayes); λ by a few steps along its gradient, which is E[|i/n − j/m|] under the prior minus the same
 * under the posterior.
 *
 * Counts are integers in units of 2^-32, added atomically: the sum, and so the model, does not depend on the threads.
 */
#include "text/align.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { MAX_TRAINED_WORDS = 512, TENSION_STEPS = 8 };

static const double UNIT = 4294967296.0; /* 2^32 */

/* All sentences as numbers; sentence k of side s is word[s][first[s][k]] … . */
typedef struct corpus {
    uint32_t *word[2];
    size_t *first[2];
    size_t capacity[2];
    size_t n;
} corpus;

typedef struct length_pair {
    size_t source, target, count;
} length_pair;

/* One sum for each word of a side: expected count and number of different words it met. */
typedef struct word_total {
    uint64_t count;
    uint32_t met;
} word_total;

typedef struct part_scratch {
    double *row;
    attn_word_pair **pair;
} part_scratch;

typedef struct training {
    attn_context *ctx;
    attn_aligner *aligner;
    corpus text;
    length_pair *lengths; /* the different (n, m), for the gradient of the tension */
    size_t length_pairs;
    word_total *total[2];  /* [direction][conditioning word] */
    uint64_t deviation[2]; /* posterior sum of |i/n − j/m|, in units */
    part_scratch *part;
    size_t parts;
    double unseen[2]; /* digamma(alpha), for pairs whose count went to zero */
} training;

/* ---- the diagonal ---------------------------------------------------------------------------- */

double attn_diagonal_row(double *row, size_t j, size_t m, size_t n, double tension) {
    /* From the diagonal outwards each entry is the one before times exp(−tension / n). */
    double at = (double)(j + 1) / (double)m, scale = 1 / (double)n, step = exp(-tension * scale), norm = 0;
    size_t above =
        ATTN_MIN((size_t)((double)(j + 1) * (double)n / (double)m), n); /* the first with (i+1)/n > at, roughly */
    double value = 0;
    for (size_t i = above; i-- > 0;) {
        value = i + 1 == above ? exp(-tension * fabs((double)(i + 1) * scale - at)) : value * step;
        row[i] = value;
        norm += value;
    }
    for (size_t i = above; i < n; i++) {
        value = i == above ? exp(-tension * fabs((double)(i + 1) * scale - at)) : value * step;
        row[i] = value;
        norm += value;
    }
    return norm;
}

static double deviation(size_t i, size_t j, size_t m, size_t n) {
    return fabs((double)(i + 1) / (double)n - (double)(j + 1) / (double)m);
}

/* ---- reading --------------------------------------------------------------------------------- */

static attn_status append(attn_context *ctx, corpus *text, int side, size_t k, const attn_sentence *sentence) {
    size_t first = text->first[side][k], end;
    if (!attn_size_add(&end, first, sentence->count))
        return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: too many words");
    ATTN_TRY(attn_grow(ctx, &text->word[side], &text->capacity[side], end, first, sizeof(uint32_t)));
    if (sentence->count) memcpy(text->word[side] + first, sentence->word, sentence->count * sizeof(uint32_t));
    text->first[side][k + 1] = end;
    return ATTN_OK;
}

static attn_status read_lines(training *t, attn_sentence sentence[2], const char *const *sources,
                              const char *const *targets, size_t n) {
    attn_aligner *aligner = t->aligner;
    for (size_t k = 0; k < n; k++) {
        if (!sources[k] || !targets[k])
            return attn_fail(t->ctx, ATTN_E_ARGUMENT, "%s line %zu of %zu is NULL", sources[k] ? "target" : "source",
                             k + 1, n);
        for (int side = 0; side < 2; side++)
            ATTN_TRY(attn_sentence_read(t->ctx, &sentence[side], &aligner->vocabulary[side], &aligner->vocabulary[side],
                                        side ? targets[k] : sources[k], aligner->options.lowercase));
        /* A blank side says nothing; an endless line is no sentence and costs its square. */
        bool used = sentence[0].count && sentence[1].count && sentence[0].count <= MAX_TRAINED_WORDS &&
                    sentence[1].count <= MAX_TRAINED_WORDS;
        for (int side = 0; side < 2; side++) {
            if (!used) sentence[side].count = 0;
            ATTN_TRY(append(t->ctx, &t->text, side, k, &sentence[side]));
        }
    }
    return ATTN_OK;
}

static attn_status read_corpus(training *t, const char *const *sources, const char *const *targets, size_t n) {
    t->text.n = n;
    size_t ends;
    if (!attn_size_add(&ends, n, 1)) return attn_fail(t->ctx, ATTN_E_NOMEM, "out of memory: too many lines");
    for (int side = 0; side < 2; side++) {
        t->text.first[side] = attn_alloc_zero(t->ctx, ends, sizeof(size_t));
        if (!t->text.first[side]) return ATTN_E_NOMEM;
    }
    attn_sentence sentence[2] = {{.line = ATTN_BUFFER_INIT(t->ctx)}, {.line = ATTN_BUFFER_INIT(t->ctx)}};
    attn_status status = read_lines(t, sentence, sources, targets, n);
    for (int side = 0; side < 2; side++) {
        attn_buffer_free(&sentence[side].line);
        attn_release(t->ctx, sentence[side].word);
    }
    return status;
}

/* The table of pairs that meet, NULL with everything. */
static attn_status collect_pairs(training *t) {
    attn_word_pairs *pairs = &t->aligner->pairs;
    attn_word_pair *pair;
    ATTN_TRY(attn_word_pairs_init(t->ctx, pairs, 1 << 12));
    for (uint32_t e = 1; e < t->aligner->vocabulary[0].count; e++)
        ATTN_TRY(attn_word_pair_add(t->ctx, pairs, &pair, attn_word_pair_key(e, 0)));
    for (uint32_t f = 1; f < t->aligner->vocabulary[1].count; f++)
        ATTN_TRY(attn_word_pair_add(t->ctx, pairs, &pair, attn_word_pair_key(0, f)));
    for (size_t k = 0; k < t->text.n; k++)
        for (size_t i = t->text.first[0][k]; i < t->text.first[0][k + 1]; i++)
            for (size_t j = t->text.first[1][k]; j < t->text.first[1][k + 1]; j++)
                ATTN_TRY(attn_word_pair_add(t->ctx, pairs, &pair,
                                            attn_word_pair_key(t->text.word[0][i], t->text.word[1][j])));
    for (size_t i = 0; i < pairs->slots; i++) {
        pairs->slot[i].p[0] = pairs->slot[i].p[1] = 1; /* the first expectation: the diagonal alone */
        if (pairs->slot[i].key) {
            t->total[0][pairs->slot[i].key >> 32].met++;
            t->total[1][(uint32_t)pairs->slot[i].key].met++;
        }
    }
    return ATTN_OK;
}

/* How often each pair of lengths comes: lengths are at most MAX_TRAINED_WORDS, so a square table does. */
static attn_status collect_lengths(training *t) {
    enum { SIDE = MAX_TRAINED_WORDS + 1 };
    size_t *count = attn_alloc_zero(t->ctx, (size_t)SIDE * SIDE, sizeof *count), different = 0;
    if (!count) return ATTN_E_NOMEM;
    for (size_t k = 0; k < t->text.n; k++) {
        size_t n = t->text.first[0][k + 1] - t->text.first[0][k], m = t->text.first[1][k + 1] - t->text.first[1][k];
        if (n && m && !count[n * SIDE + m]++) different++;
    }
    t->lengths = attn_alloc(t->ctx, different, sizeof *t->lengths);
    for (size_t at = 0; t->lengths && at < (size_t)SIDE * SIDE; at++)
        if (count[at]) t->lengths[t->length_pairs++] = (length_pair){at / SIDE, at % SIDE, count[at]};
    attn_release(t->ctx, count);
    return t->lengths ? ATTN_OK : ATTN_E_NOMEM;
}

/* ---- expectation ----------------------------------------------------------------------------- */

static void add_units(uint64_t *sum, double value) {
    uint64_t units = (uint64_t)(value * UNIT + 0.5);
    if (units) __atomic_fetch_add(sum, units, __ATOMIC_RELAXED);
}

/* Adds the expected counts of one sentence pair; returns its part of the deviation. */
static double expect_sentence(const training *t, part_scratch *scratch, int direction, size_t k) {
    const uint32_t *condition = t->text.word[direction] + t->text.first[direction][k];
    const uint32_t *generated = t->text.word[!direction] + t->text.first[!direction][k];
    size_t n = t->text.first[direction][k + 1] - t->text.first[direction][k];
    size_t m = t->text.first[!direction][k + 1] - t->text.first[!direction][k];
    double null = (double)t->aligner->options.p_null, *row = scratch->row, sum_deviation = 0;
    for (size_t j = 0; j < m; j++) {
        uint32_t g = generated[j];
        double norm = attn_diagonal_row(row, j, m, n, t->aligner->tension[direction]);
        attn_word_pair *with_null =
            attn_word_pair_find(&t->aligner->pairs, direction ? attn_word_pair_key(g, 0) : attn_word_pair_key(0, g));
        double null_weight = null * (double)with_null->p[direction], sum = null_weight, scale = (1 - null) / norm;
        for (size_t i = 0; i < n; i++) {
            uint64_t key = direction ? attn_word_pair_key(g, condition[i]) : attn_word_pair_key(condition[i], g);
            scratch->pair[i] = attn_word_pair_find(&t->aligner->pairs, key);
            row[i] *= scale * (double)scratch->pair[i]->p[direction];
            sum += row[i];
        }
        if (!(sum > 0)) continue; /* every probability underflowed: nothing to learn here */
        add_units(&with_null->count[direction], null_weight / sum);
        for (size_t i = 0; i < n; i++) {
            double posterior = row[i] / sum;
            add_units(&scratch->pair[i]->count[direction], posterior);
            sum_deviation += posterior * deviation(i, j, m, n);
        }
    }
    return sum_deviation;
}

static void expect_part(void *arg, size_t part) {
    training *t = arg;
    for (size_t k = part; k < t->text.n; k += t->parts)
        for (int direction = 0; direction < 2; direction++)
            add_units(&t->deviation[direction], expect_sentence(t, &t->part[part], direction, k));
}

/* ---- maximisation ---------------------------------------------------------------------------- */

static double digamma(double x) {
    double result = 0;
    for (; x < 7; x++) result -= 1 / x;
    x -= 0.5; /* then the series in 1/(x − 1/2) converges quickly */
    double x2 = 1 / (x * x), x4 = x2 * x2;
    return result + log(x) + (1.0 / 24) * x2 - (7.0 / 960) * x4 + (31.0 / 8064) * x4 * x2 - (127.0 / 30720) * x4 * x4;
}

/* No subnormal numbers: what becomes of them depends on the mode of the thread. */
static float normal(double value) { return value < (double)FLT_MIN ? 0 : (float)value; }

static void maximise_part(void *arg, size_t part) {
    training *t = arg;
    attn_word_pairs *pairs = &t->aligner->pairs;
    double alpha = (double)t->aligner->options.dirichlet_alpha;
    size_t first = pairs->slots / t->parts * part,
           end = part + 1 == t->parts ? pairs->slots : first + pairs->slots / t->parts;
    for (size_t s = first; s < end; s++) {
        attn_word_pair *pair = &pairs->slot[s];
        if (!pair->key) continue;
        for (int direction = 0; direction < 2; direction++) {
            const word_total *total = &t->total[direction][direction ? (uint32_t)pair->key : pair->key >> 32];
            double count = (double)pair->count[direction] / UNIT, sum = (double)total->count / UNIT;
            if (alpha > 0) {
                double top = pair->count[direction] ? digamma(count + alpha) : t->unseen[direction];
                pair->p[direction] = normal(exp(top - digamma(sum + alpha * (double)total->met)));
            } else {
                pair->p[direction] = total->count ? normal(count / sum) : 0;
            }
            pair->count[direction] = 0;
        }
    }
}

static void maximise(training *t) {
    const attn_word_pairs *pairs = &t->aligner->pairs;
    for (int direction = 0; direction < 2; direction++)
        for (size_t w = 0; w < t->aligner->vocabulary[direction].count; w++) t->total[direction][w].count = 0;
    for (size_t s = 0; s < pairs->slots; s++) {
        if (!pairs->slot[s].key) continue;
        t->total[0][pairs->slot[s].key >> 32].count += pairs->slot[s].count[0];
        t->total[1][(uint32_t)pairs->slot[s].key].count += pairs->slot[s].count[1];
    }
    attn_parallel_for(t->ctx, t->parts, maximise_part, t);
}

/* Steps of gradient ascent on the expected log-likelihood, in the mean over generated words. */
static void optimise_tension(training *t, int direction) {
    double *row = t->part[0].row, words = (double)t->text.first[!direction][t->text.n];
    double posterior = (double)t->deviation[direction] / UNIT / words, tension = t->aligner->tension[direction];
    for (int step = 0; step < TENSION_STEPS; step++) {
        double prior = 0;
        for (size_t l = 0; l < t->length_pairs; l++) {
            size_t n = direction ? t->lengths[l].target : t->lengths[l].source;
            size_t m = direction ? t->lengths[l].source : t->lengths[l].target;
            double expected = 0;
            for (size_t j = 0; j < m; j++) {
                double norm = attn_diagonal_row(row, j, m, n, tension), sum = 0;
                for (size_t i = 0; i < n; i++) sum += row[i] * deviation(i, j, m, n);
                expected += sum / norm;
            }
            prior += expected * (double)t->lengths[l].count;
        }
        tension += 20 * (prior / words - posterior);
        tension = ATTN_MIN(ATTN_MAX(tension, 0.1), 14.0);
    }
    t->aligner->tension[direction] = tension;
}

static void iterate(training *t) {
    const attn_align_options *options = &t->aligner->options;
    for (int iteration = 0; iteration < options->iterations; iteration++) {
        t->deviation[0] = t->deviation[1] = 0;
        attn_parallel_for(t->ctx, t->parts, expect_part, t);
        for (int direction = 0; direction < 2 && iteration > 0 && options->optimise_tension; direction++)
            optimise_tension(t, direction);
        maximise(t);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

static void collect_glosses(attn_aligner *aligner) {
    for (size_t s = 0; s < aligner->pairs.slots; s++) {
        const attn_word_pair *pair = &aligner->pairs.slot[s];
        uint32_t target = (uint32_t)pair->key;
        attn_gloss *gloss = &aligner->gloss[pair->key >> 32];
        if (!pair->key || !target) continue;
        if (pair->p[0] > gloss->probability || (pair->p[0] == gloss->probability && target < gloss->target))
            *gloss = (attn_gloss){target, pair->p[0]};
    }
}

static attn_status make_scratch(training *t) {
    for (int side = 0; side < 2; side++) {
        t->total[side] = attn_alloc_zero(t->ctx, t->aligner->vocabulary[side].count, sizeof *t->total[side]);
        if (!t->total[side]) return ATTN_E_NOMEM;
    }
    t->parts = 4 * (size_t)ATTN_MAX(attn_threads(t->ctx), 1);
    t->part = attn_alloc_zero(t->ctx, t->parts, sizeof *t->part);
    if (!t->part) return ATTN_E_NOMEM;
    for (size_t part = 0; part < t->parts; part++) {
        t->part[part].row = attn_alloc(t->ctx, MAX_TRAINED_WORDS, sizeof(double));
        t->part[part].pair = attn_alloc(t->ctx, MAX_TRAINED_WORDS, sizeof(attn_word_pair *));
        if (!t->part[part].row || !t->part[part].pair) return ATTN_E_NOMEM;
    }
    return ATTN_OK;
}

static attn_status train(training *t, const char *const *sources, const char *const *targets, size_t n) {
    attn_aligner *aligner = t->aligner;
    for (int side = 0; side < 2; side++) {
        int32_t null;
        ATTN_TRY(attn_vocabulary_add(&aligner->vocabulary[side], "", 0, &null));
    }
    ATTN_TRY(read_corpus(t, sources, targets, n));
    if (!t->text.first[0][n])
        return attn_fail(t->ctx, ATTN_E_ARGUMENT, "no pair of lines with 1 to %d words each, of %zu pairs",
                         MAX_TRAINED_WORDS, n);
    ATTN_TRY(make_scratch(t));
    ATTN_TRY(collect_pairs(t));
    ATTN_TRY(collect_lengths(t));
    if (aligner->options.dirichlet_alpha > 0)
        t->unseen[0] = t->unseen[1] = digamma((double)aligner->options.dirichlet_alpha);
    iterate(t);
    aligner->gloss = attn_alloc_zero(t->ctx, aligner->vocabulary[0].count, sizeof *aligner->gloss);
    if (!aligner->gloss) return ATTN_E_NOMEM;
    collect_glosses(aligner);
    return attn_word_pairs_prune(t->ctx, &aligner->pairs, ATTN_WORD_PAIR_UNSEEN);
}

static attn_status check_options(attn_context *ctx, const attn_align_options *options) {
    if (options->struct_size != sizeof *options)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_align_options of %zu bytes; %zu expected", options->struct_size,
                         sizeof *options);
    if (options->iterations < 1)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%d iterations; at least 1 expected", options->iterations);
    if (!(options->p_null >= 0 && options->p_null < 1))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "p_null is %g; 0 up to, not including, 1 expected",
                         (double)options->p_null);
    if (!(options->tension >= 0 && options->tension <= 100)) /* more would underflow */
        return attn_fail(ctx, ATTN_E_ARGUMENT, "tension is %g; 0 to 100 expected", (double)options->tension);
    if (!(options->dirichlet_alpha >= 0 && isfinite(options->dirichlet_alpha)))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "dirichlet_alpha is %g; 0 or more expected",
                         (double)options->dirichlet_alpha);
    return ATTN_OK;
}

attn_status attn_aligner_train(attn_aligner **gives, attn_context *ctx, const char *const *sources,
                               const char *const *targets, size_t n, const attn_align_options *options) {
    static const attn_align_options defaults = ATTN_ALIGN_OPTIONS_INIT;
    if (!ctx) return ATTN_E_ARGUMENT;
    if (!gives || !sources || !targets) return attn_fail(ctx, ATTN_E_ARGUMENT, "training an aligner: a NULL argument");
    *gives = NULL;
    if (!options) options = &defaults;
    ATTN_TRY(check_options(ctx, options));
    attn_aligner *aligner = attn_alloc_zero(ctx, 1, sizeof *aligner);
    if (!aligner) return ATTN_E_NOMEM;
    *aligner = (attn_aligner){
        .ctx = ctx, .options = *options, .tension = {(double)options->tension, (double)options->tension}};
    for (int side = 0; side < 2; side++) aligner->vocabulary[side] = (attn_vocabulary)ATTN_VOCABULARY_INIT(ctx);
    training t = {.ctx = ctx, .aligner = aligner};
    attn_status status = train(&t, sources, targets, n);
    for (int side = 0; side < 2; side++) {
        attn_release(ctx, t.text.word[side]);
        attn_release(ctx, t.text.first[side]);
        attn_release(ctx, t.total[side]);
    }
    attn_release(ctx, t.lengths);
    for (size_t part = 0; t.part && part < t.parts; part++) {
        attn_release(ctx, t.part[part].row);
        attn_release(ctx, t.part[part].pair);
    }
    attn_release(ctx, t.part);
    if (status != ATTN_OK) attn_aligner_free(aligner);
    else *gives = aligner;
    return status;
}

void attn_aligner_free(attn_aligner *aligner) {
    if (!aligner) return;
    attn_context *ctx = aligner->ctx;
    for (int side = 0; side < 2; side++) attn_vocabulary_free(&aligner->vocabulary[side]);
    attn_release(ctx, aligner->pairs.slot);
    attn_release(ctx, aligner->gloss);
    attn_release(ctx, aligner);
}
