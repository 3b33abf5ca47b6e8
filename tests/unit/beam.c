/* beam.c: beam search against a naive one and against all sequences there are; that nothing depends on batch, order and
 * threads; limits and failures. */
#include "support/allocator.h"
#include "support/translator.h"
#include <math.h>

#define SMALL_RNN "\"embedding_size\": 6, \"hidden_size\": 8"
#define SMALL SMALL_RNN ", \"attention_size\": 5"
#define WIDER_TRANSFORMER                                                                                      \
    "\"vocab_size\": 37, \"model_size\": 24, \"heads\": 3, \"feed_forward_size\": 20, \"encoder_layers\": 1, " \
    "\"decoder_layers\": 2"
#define WIDER_RNN "\"vocab_size\": 37, \"embedding_size\": 20, \"hidden_size\": 24"
#define WIDER WIDER_RNN ", \"attention_size\": 18"

static const char *const models[] = {
    "{\"model_type\": \"rnn\", " WIDER_RNN "}",
    "{\"model_type\": \"bahdanau\", " WIDER "}",
    "{\"model_type\": \"bahdanau\", \"score\": \"dot\", \"input_feeding\": true, \"reset_after\": false, " WIDER "}",
    "{\"model_type\": \"bahdanau\", \"num_layers\": 2, \"readout\": \"maxout\", \"tie_embeddings\": false, " WIDER "}",
    "{\"model_type\": \"transformer\", " WIDER_TRANSFORMER "}",
    "{\"model_type\": \"transformer\", \"norm\": \"post\", \"alignment_head\": 2, \"alignment_layer\": 2, "
    "\"coverage_penalty\": 0.5, " WIDER_TRANSFORMER "}",
};

static attn_translate_options options_of(int beam, int n_best, int max_length) {
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    options.beam_size = beam;
    options.n_best = n_best;
    options.max_length = max_length;
    return options;
}

static void search_ok(const attn_model *model, attn_search *search, size_t n, const attn_translate_options *options) {
    if (test_search(model, search, n, options) != ATTN_OK) fail_msg("%s", attn_error(model->ctx));
}

/* ---- a naive search ---------------------------------------------------------------------------------- */

enum { MAX_STEPS = 8, MAX_V = 16, MAX_FOUND = 256 };

typedef struct sequence {
    int32_t id[MAX_STEPS];
    float log_prob[MAX_STEPS];
    size_t count;
    double sum, score;
    size_t parent; /* order of the beam that it continues */
} sequence;

/* Fills log_prob and sum of n sequences by forced decoding. */
static void score_sequences(const attn_model *model, const attn_tokens *source, sequence *s, size_t n, double alpha) {
    static attn_search search[MAX_FOUND];
    attn_translate_options options = options_of(1, 1, 0);
    assert_true(n <= MAX_FOUND);
    for (size_t i = 0; i < n; i++)
        search[i] = (attn_search){.source = source, .forced = s[i].id, .forced_count = s[i].count};
    search_ok(model, search, n, &options);
    for (size_t i = 0; i < n; i++) {
        const attn_hypothesis *h = search[i].hypothesis;
        assert_int_equal(h->count, s[i].count);
        s[i].sum = 0;
        for (size_t t = 0; t < h->count; t++) {
            s[i].log_prob[t] = h->log_prob[t];
            s[i].sum += (double)h->log_prob[t];
        }
        s[i].score = s[i].sum / pow((double)h->count, alpha);
        test_search_clear(model->ctx, &search[i]);
    }
}

/* Best sum first; of equal ones the better beam, then the likelier token, then the lower id. */
static int by_sum(const void *a, const void *b) {
    const sequence *x = a, *y = b;
    if (x->sum != y->sum) return x->sum > y->sum ? -1 : 1;
    if (x->parent != y->parent) return x->parent < y->parent ? -1 : 1;
    float p = x->log_prob[x->count - 1], q = y->log_prob[y->count - 1];
    if (p != q) return p > q ? -1 : 1;
    return x->id[x->count - 1] - y->id[y->count - 1];
}

/* All continuations of the alive sequences, best first; none ends before it has a word. */
static size_t continue_all(const attn_model *model, const attn_tokens *source, sequence *out, const sequence *alive,
                           size_t n, double alpha) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        for (int32_t id = ATTN_ID_EOS; (size_t)id < model->vocab_size; id++) {
            if (id == ATTN_ID_UNK || (id == ATTN_ID_EOS && !alive[i].count)) continue;
            assert_true(count < MAX_FOUND);
            out[count] = alive[i];
            out[count].id[out[count].count++] = id;
            out[count++].parent = i;
        }
    score_sequences(model, source, out, count, alpha);
    qsort(out, count, sizeof *out, by_sum);
    return count;
}

static size_t naive_search(const attn_model *model, const attn_tokens *source, sequence *finished, size_t k,
                           size_t limit, double alpha) {
    static sequence alive[MAX_FOUND], next[MAX_FOUND];
    size_t n = 1, done = 0;
    alive[0] = (sequence){.count = 0};
    for (size_t step = 0; step < limit && done < k && n > 0; step++) {
        size_t found = continue_all(model, source, next, alive, n, alpha);
        n = 0;
        for (size_t i = 0; i < found && n < k; i++) {
            if (next[i].id[step] != ATTN_ID_EOS) alive[n++] = next[i];
            else if (i < k) finished[done++] = next[i];
        }
    }
    if (done == 0)
        while (done < n) finished[done] = alive[done], done++;
    for (size_t i = 1; i < done; i++) /* stable */
        for (size_t at = i; at > 0 && finished[at].score > finished[at - 1].score; at--) {
            sequence swap = finished[at];
            finished[at] = finished[at - 1];
            finished[at - 1] = swap;
        }
    return done;
}

static void same_as_sequences(const attn_search *search, const sequence *expected, size_t n) {
    assert_int_equal(search->count, n);
    for (size_t i = 0; i < n; i++) {
        const attn_hypothesis *h = &search->hypothesis[i];
        float score = (float)expected[i].score;
        assert_int_equal(h->count, expected[i].count);
        assert_memory_equal(h->id, expected[i].id, h->count * sizeof *h->id);
        assert_memory_equal(h->log_prob, expected[i].log_prob, h->count * sizeof *h->log_prob);
        assert_memory_equal(&h->score, &score, sizeof score);
    }
}

static void against_naive(const char *config, double scale) {
    static sequence expected[MAX_FOUND];
    attn_context *ctx = test_context(1);
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){4, 6, 5, 2}, 4);
    static const float alphas[] = {1.0f, 0.0f, 0.6f};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        attn_model *model = test_model(ctx, config, seed, scale);
        for (size_t a = 0; a < ATTN_COUNT(alphas); a++)
            for (int k = 1; k <= 5; k++)
                for (int limit = 1; limit <= 5; limit += 2) {
                    attn_translate_options options = options_of(k, k, limit);
                    options.length_penalty = alphas[a];
                    attn_search search = {.source = &source};
                    size_t n = naive_search(model, &source, expected, (size_t)k, (size_t)limit, (double)alphas[a]);
                    search_ok(model, &search, 1, &options);
                    same_as_sequences(&search, expected, ATTN_MIN(n, (size_t)k));
                    test_search_clear(ctx, &search);
                }
        attn_model_free(model);
    }
    attn_context_free(ctx);
}

static void test_naive(void **state) {
    (void)state;
    against_naive("{\"model_type\": \"bahdanau\", \"vocab_size\": 8, " SMALL "}", 0.8);
    against_naive("{\"model_type\": \"rnn\", \"vocab_size\": 7, " SMALL_RNN "}", 0.8);
    against_naive("{\"model_type\": \"bahdanau\", \"vocab_size\": 7, \"num_layers\": 2, " SMALL "}", 1.5);
}

/* All weights zero: every continuation is as good as any other. */
static void test_ties(void **state) {
    (void)state;
    against_naive("{\"model_type\": \"bahdanau\", \"vocab_size\": 9, " SMALL "}", 0);
}

/* One word beside the special tokens: fewer continuations than beams. */
static void test_fewer_continuations_than_beams(void **state) {
    (void)state;
    static sequence expected[MAX_FOUND];
    attn_context *ctx = test_context(1);
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){4, 4, 2}, 3);
    attn_model *model = test_model(ctx, "{\"model_type\": \"bahdanau\", \"vocab_size\": 5, " SMALL "}", 2, 1);
    for (int k = 1; k <= 6; k++) {
        attn_translate_options options = options_of(k, k, 6);
        attn_search search = {.source = &source};
        size_t n = naive_search(model, &source, expected, (size_t)k, 6, 1);
        search_ok(model, &search, 1, &options);
        same_as_sequences(&search, expected, ATTN_MIN(n, (size_t)k));
        test_search_clear(ctx, &search);
    }
    attn_model_free(model);
    attn_context_free(ctx);
}

/* ---- all sequences there are ----------------------------------------------------------------------------- */

static int by_score(const void *a, const void *b) {
    const sequence *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score;
}

static size_t enumerate(sequence *out, size_t n, sequence prefix, size_t v, size_t limit) {
    sequence whole = prefix;
    whole.id[whole.count++] = ATTN_ID_EOS;
    assert_true(n < MAX_FOUND);
    if (whole.count > 1) out[n++] = whole;
    if (whole.count == limit) return n;
    for (size_t id = ATTN_ID_UNK + 1; id < v; id++) {
        sequence longer = prefix;
        longer.id[longer.count++] = (int32_t)id;
        n = enumerate(out, n, longer, v, limit);
    }
    return n;
}

static void exhaustive(const char *config, size_t v, size_t limit, size_t expected_count) {
    static sequence all[MAX_FOUND];
    attn_context *ctx = test_context(1);
    attn_model *model = test_model(ctx, config, 11, 0.7);
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){5, 4, 4, 5, 2}, 5);
    attn_translate_options options = options_of(ATTN_MAX_BEAM, ATTN_MAX_BEAM, (int)limit);
    attn_search search = {.source = &source};
    size_t n = enumerate(all, 0, (sequence){.count = 0}, v, limit);
    assert_int_equal(n, expected_count);
    score_sequences(model, &source, all, n, 1);
    qsort(all, n, sizeof *all, by_score);
    search_ok(model, &search, 1, &options);
    same_as_sequences(&search, all, n);
    test_search_clear(ctx, &search);
    attn_model_free(model);
    attn_context_free(ctx);
}

static void test_exhaustive(void **state) {
    (void)state;
    exhaustive("{\"model_type\": \"bahdanau\", \"vocab_size\": 6, " SMALL "}", 6, 5, 2 + 4 + 8 + 16);
    exhaustive("{\"model_type\": \"rnn\", \"vocab_size\": 7, " SMALL_RNN "}", 7, 3, 3 + 9);
    exhaustive(
        "{\"model_type\": \"bahdanau\", \"score\": \"general\", \"input_feeding\": true, \"vocab_size\": 7, " SMALL "}",
        7, 3, 3 + 9);
}

/* Greedy: at every step the likeliest allowed token. */
static void test_greedy(void **state) {
    (void)state;
    static sequence next[MAX_FOUND];
    attn_context *ctx = test_context(1);
    attn_model *model = test_model(ctx, "{\"model_type\": \"bahdanau\", \"vocab_size\": 16, " SMALL "}", 5, 0.6);
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){7, 12, 9, 2}, 4);
    sequence best = {.count = 0};
    while (best.count < MAX_STEPS && (best.count == 0 || best.id[best.count - 1] != ATTN_ID_EOS)) {
        continue_all(model, &source, next, &best, 1, 1);
        best = next[0];
    }
    attn_translate_options options = options_of(1, 1, MAX_STEPS);
    attn_search search = {.source = &source};
    search_ok(model, &search, 1, &options);
    same_as_sequences(&search, &best, 1);
    test_search_clear(ctx, &search);
    attn_model_free(model);
    attn_context_free(ctx);
}

/* ---- what a translation does not depend on ---------------------------------------------------------------- */

enum { SENTENCES = 9 };

typedef struct batch {
    attn_token token[SENTENCES][TEST_SOURCE_MAX];
    attn_tokens source[SENTENCES];
    attn_search search[SENTENCES];
} batch;

static void make_batch(batch *b, size_t v) {
    static const size_t lengths[SENTENCES] = {5, 1, 12, 3, 2, 7, 12, 4, 31};
    int32_t ids[TEST_SOURCE_MAX];
    attn_random random = {9, 9, 0};
    for (size_t i = 0; i < SENTENCES; i++) {
        for (size_t t = 0; t + 1 < lengths[i]; t++) ids[t] = (int32_t)(4 + attn_random_below(&random, v - 4));
        ids[lengths[i] - 1] = ATTN_ID_EOS;
        b->source[i] = test_source(b->token[i], ids, lengths[i]);
        b->search[i] = (attn_search){.source = &b->source[i]};
    }
}

static void clear_batch(attn_context *ctx, batch *b) {
    for (size_t i = 0; i < SENTENCES; i++) test_search_clear(ctx, &b->search[i]);
}

static void together_and_apart(const char *config, int beam, int n_best) {
    attn_context *ctx = test_context(1);
    attn_model *model = test_model(ctx, config, 17, 0.35);
    static batch together, apart, reversed;
    attn_translate_options options = options_of(beam, n_best, 0);
    options.trace = true;
    make_batch(&together, model->vocab_size);
    make_batch(&apart, model->vocab_size);
    make_batch(&reversed, model->vocab_size);
    for (size_t i = 0; i < SENTENCES; i++) reversed.search[i].source = &reversed.source[SENTENCES - 1 - i];
    search_ok(model, together.search, SENTENCES, &options);
    search_ok(model, reversed.search, SENTENCES, &options);
    size_t shortest = SIZE_MAX, longest = 0;
    for (size_t i = 0; i < SENTENCES; i++) {
        search_ok(model, &apart.search[i], 1, &options);
        test_same_search(&together.search[i], &apart.search[i]);
        test_same_search(&together.search[i], &reversed.search[SENTENCES - 1 - i]);
        assert_true(together.search[i].count >= 1);
        shortest = ATTN_MIN(shortest, together.search[i].hypothesis[0].count);
        longest = ATTN_MAX(longest, together.search[i].hypothesis[0].count);
    }
    assert_true(longest > shortest); /* sentences left the batch at different steps */
    for (int threads = 2; threads <= 3; threads++) {
        attn_context *other = test_context(threads);
        attn_model *same = test_model(other, config, 17, 0.35);
        static batch again;
        make_batch(&again, model->vocab_size);
        search_ok(same, again.search, SENTENCES, &options);
        for (size_t i = 0; i < SENTENCES; i++) test_same_search(&together.search[i], &again.search[i]);
        clear_batch(other, &again);
        attn_model_free(same);
        attn_context_free(other);
    }
    clear_batch(ctx, &together);
    clear_batch(ctx, &apart);
    clear_batch(ctx, &reversed);
    attn_model_free(model);
    attn_context_free(ctx);
}

static void test_independence(void **state) {
    (void)state;
    for (size_t i = 0; i < ATTN_COUNT(models); i++) {
        together_and_apart(models[i], 1, 1);
        together_and_apart(models[i], 4, 4);
    }
}

/* ---- what a hypothesis holds -------------------------------------------------------------------------------- */

static void check_hypothesis(const attn_model *model, const attn_search *search, const attn_hypothesis *h,
                             const attn_translate_options *options) {
    size_t width = search->source->count;
    double sum = 0;
    for (size_t t = 0; t < h->count; t++) {
        double row = 0;
        sum += (double)h->log_prob[t];
        assert_true(h->log_prob[t] < 0);
        assert_true(h->id[t] == ATTN_ID_EOS || h->id[t] > ATTN_ID_UNK);
        assert_true(h->id[t] != ATTN_ID_EOS || t + 1 == h->count);
        for (size_t j = 0; h->alignment && j < width; j++) {
            assert_true(h->alignment[t * width + j] >= 0);
            row += (double)h->alignment[t * width + j];
        }
        assert_true(!h->alignment || fabs(row - 1) < 1e-5);
    }
    sum /= pow((double)h->count, (double)options->length_penalty);
    if (options->coverage_penalty > 0 && h->alignment) {
        double covered = 0;
        for (size_t j = 0; j < width; j++) {
            float seen = 0;
            for (size_t t = h->count; t-- > 0;) seen += h->alignment[t * width + j];
            covered += log(fmin((double)seen, 1));
        }
        sum += (double)options->coverage_penalty * covered;
    }
    float score = (float)sum;
    assert_memory_equal(&h->score, &score, sizeof score);
    attn_search forced = {.source = search->source, .forced = h->id, .forced_count = h->count};
    search_ok(model, &forced, 1, options);
    assert_int_equal(forced.count, 1);
    test_same_hypothesis(h, forced.hypothesis, width, search->context_size, search->state_size);
    test_search_clear(model->ctx, &forced);
}

static void test_hypotheses(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    for (size_t m = 0; m < ATTN_COUNT(models); m++) {
        attn_model *model = test_model(ctx, models[m], 23, 0.35);
        static batch b;
        make_batch(&b, model->vocab_size);
        attn_translate_options options = options_of(5, 5, 0);
        options.trace = true;
        options.length_penalty = 0.7f;
        options.coverage_penalty = m == 5 ? -1 : m % 2 ? 0.5f : 0; /* −1: the config's */
        search_ok(model, b.search, SENTENCES, &options);
        if (m == 5) options.coverage_penalty = 0.5f;
        for (size_t i = 0; i < SENTENCES; i++) {
            const attn_search *s = &b.search[i];
            assert_in_range(s->count, 1, 5);
            const bool heads = !strcmp(attn_model_type(model), "transformer");
            assert_int_equal(s->context_size, heads ? 24 : 48);
            assert_int_equal(s->state_size, 24);
            for (size_t n = 0; n < s->count; n++) {
                const attn_hypothesis *h = &s->hypothesis[n];
                assert_true(n == 0 || h->score <= h[-1].score);
                assert_int_equal(h->alignment != NULL, m > 0);
                assert_int_equal(h->energy != NULL, m > 0 && !heads);
                assert_true(h->context && h->state);
                check_hypothesis(model, s, h, &options);
            }
        }
        clear_batch(ctx, &b);
        /* without a trace there is none, and the rest is the same */
        attn_search plain = {.source = &b.source[0]};
        options.trace = false;
        search_ok(model, &plain, 1, &options);
        assert_null(plain.hypothesis->energy);
        assert_null(plain.hypothesis->context);
        assert_null(plain.hypothesis->state);
        test_search_clear(ctx, &plain);
        attn_model_free(model);
    }
    attn_context_free(ctx);
}

/* ---- limits and failures ------------------------------------------------------------------------------------ */

static void bias(attn_model *model, int32_t id, float value) {
    attn_parameter *p = attn_parameters_find(attn_model_parameters(model), "output.bias");
    assert_non_null(p);
    ((float *)p->value.data)[id] = value;
    attn_parameter_touch(p);
}

static void test_limits(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_model *model = test_model(ctx, models[1], 29, 0.2);
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){4, 9, 30, 2}, 4);
    for (int32_t id = 0; id <= ATTN_ID_UNK; id++) bias(model, id, 50);
    bias(model, ATTN_ID_EOS, -50); /* never ends */
    static const struct {
        int max_length;
        size_t expected;
    } cases[] = {{0, 18}, {1, 1}, {7, 7}, {40, 40}};
    for (size_t c = 0; c < ATTN_COUNT(cases); c++)
        for (int beam = 1; beam <= 4; beam += 3) {
            attn_translate_options options = options_of(beam, beam, cases[c].max_length);
            attn_search search = {.source = &source};
            search_ok(model, &search, 1, &options);
            assert_int_equal(search.count, beam);
            for (size_t i = 0; i < search.count; i++) {
                const attn_hypothesis *h = &search.hypothesis[i];
                assert_int_equal(h->count, cases[c].expected);
                for (size_t t = 0; t < h->count; t++) assert_true(h->id[t] > ATTN_ID_UNK);
                assert_true(i == 0 || h->score <= h[-1].score);
            }
            test_search_clear(ctx, &search);
        }
    bias(model, ATTN_ID_EOS, 100); /* ends as soon as it may: with a word */
    attn_translate_options options = options_of(3, 3, 0);
    attn_search search = {.source = &source};
    search_ok(model, &search, 1, &options);
    assert_int_equal(search.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(search.hypothesis[i].count, 2);
        assert_int_equal(search.hypothesis[i].id[1], ATTN_ID_EOS);
    }
    test_search_clear(ctx, &search);
    /* where at the limit only some have ended, those are given, and no others */
    bool some = false;
    for (int x = -40; x <= 40; x++) {
        bias(model, ATTN_ID_EOS, (float)x / 4);
        options = options_of(3, 3, 2);
        search_ok(model, &search, 1, &options);
        size_t ended = 0;
        for (size_t i = 0; i < search.count; i++) ended += search.hypothesis[i].id[1] == ATTN_ID_EOS;
        assert_true(ended == 0 || ended == search.count);
        some |= ended == 1 || ended == 2;
        test_search_clear(ctx, &search);
    }
    assert_true(some);
    attn_model_free(model);
    attn_context_free(ctx);
}

static void test_not_a_number(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_model *model = test_model(ctx, models[1], 31, 0.2);
    attn_token token[TEST_SOURCE_MAX];
    attn_tokens source = test_source(token, (int32_t[]){4, 2}, 2);
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    bias(model, 5, NAN);
    attn_search search = {.source = &source};
    assert_fails(ctx, test_search(model, &search, 1, &options), ATTN_E_NUMERIC,
                 "the bahdanau model's log-probabilities of token 1 are not finite numbers");
    test_search_clear(ctx, &search);
    search = (attn_search){.source = &source, .forced = (int32_t[]){7, 2}, .forced_count = 2};
    assert_fails(ctx, test_search(model, &search, 1, &options), ATTN_E_NUMERIC, "token 1");
    test_search_clear(ctx, &search);
    attn_model_free(model);
    attn_context_free(ctx);
}

/* Every allocation fails once. */
static void test_no_memory(void **state) {
    (void)state;
    static batch b;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    attn_model *model = test_model(ctx, models[1], 37, 0.3);
    attn_translate_options options = options_of(2, 2, 12);
    options.trace = true;
    make_batch(&b, model->vocab_size);
    search_ok(model, b.search, 3, &options); /* the packed forms of the weights are made once and stay */
    clear_batch(ctx, &b);
    long before = memory.alive, n = 0;
    for (attn_status status = ATTN_E_NOMEM; status != ATTN_OK; n++) {
        memory.fail_after = n;
        status = test_search(model, b.search, 3, &options);
        memory.fail_after = -1;
        assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
        clear_batch(ctx, &b);
        assert_int_equal(memory.alive, before);
        assert_true(n < 5000);
    }
    assert_true(n > 40);
    attn_model_free(model);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_naive),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_fewer_continuations_than_beams),
        cmocka_unit_test(test_exhaustive),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_independence),
        cmocka_unit_test(test_hypotheses),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_not_a_number),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
