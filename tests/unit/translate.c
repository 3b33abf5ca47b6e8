/* translate.c: texts to translations; forced decoding; alignments of words. */
#include "support/allocator.h"
#include "support/translator.h"
#include <math.h>
#include <unistd.h>

enum { VOCABULARY = 300, TEXTS = 9 };

static const char *const lines[] = {
    "the house is old and the garden is small",
    "das Haus ist alt und der Garten ist klein",
    "where is the old garden?",
    "wo ist der alte Garten?",
    "the small house has a small garden.",
    "das kleine Haus hat einen kleinen Garten.",
};

static const char *const texts[TEXTS] = {
    "das Haus",
    "",
    "der Garten ist alt und das Haus ist klein.",
    "wo?",
    "  \t ",
    "Übermäßig 🙂 x",
    "das Haus",
    "ist der Garten klein und ist das Haus alt und wo ist der kleine Garten?",
    ".",
};

typedef struct fixture {
    attn_context *ctx;
    attn_tokenizer *tokenizer;
    attn_model *model;
} fixture;

static attn_tokenizer *make_tokenizer(attn_context *ctx, size_t size) {
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    size_t bytes[ATTN_COUNT(lines)];
    for (size_t i = 0; i < ATTN_COUNT(lines); i++) bytes[i] = strlen(lines[i]);
    options.vocab_size = size;
    attn_tokenizer *tokenizer;
    if (attn_tokenizer_train_bpe(&tokenizer, ctx, lines, bytes, ATTN_COUNT(lines), &options) != ATTN_OK)
        fail_msg("%s", attn_error(ctx));
    return tokenizer;
}

static attn_model *make_model(attn_context *ctx, const attn_tokenizer *tokenizer, const char *type) {
    char config[256];
    snprintf(config, sizeof config,
             "{\"model_type\": \"%s\", \"vocab_size\": %zu, \"embedding_size\": 12, \"hidden_size\": 16%s}", type,
             attn_tokenizer_size(tokenizer), strcmp(type, "rnn") ? ", \"attention_size\": 10" : "");
    return test_model(ctx, config, 41, 0.3);
}

static void make_fixture(fixture *f, attn_context *ctx, const char *type) {
    f->ctx = ctx;
    f->tokenizer = make_tokenizer(ctx, VOCABULARY);
    f->model = make_model(ctx, f->tokenizer, type);
}

static void clear_fixture(fixture *f) {
    attn_model_free(f->model);
    attn_tokenizer_free(f->tokenizer);
    attn_context_free(f->ctx);
}

static void translate(const fixture *f, attn_translation *out, const char *const *source, size_t n,
                      const attn_translate_options *options) {
    if (attn_translate(f->model, f->tokenizer, out, source, NULL, n, options) != ATTN_OK)
        fail_msg("%s", attn_error(f->ctx));
}

static void clear(const fixture *f, attn_translation *t, size_t n) {
    for (size_t i = 0; i < n; i++) attn_translation_clear(f->ctx, &t[i]);
}

static void same_translation(const attn_translation *a, const attn_translation *b) {
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->source.count, b->source.count);
    for (size_t i = 0; i < a->count; i++) {
        const attn_hypothesis *x = &a->hypothesis[i], *y = &b->hypothesis[i];
        assert_string_equal(x->text, y->text);
        assert_int_equal(x->bytes, y->bytes);
        if (x->count || y->count) test_same_hypothesis(x, y, a->source.count, a->context_size, a->state_size);
        for (size_t t = 0; t < x->count; t++) assert_int_equal(x->span[t].word, y->span[t].word);
    }
}

static void check_texts(const fixture *f, const attn_translation *t) {
    for (size_t i = 0; i < t->count; i++) {
        const attn_hypothesis *h = &t->hypothesis[i];
        char *text;
        size_t bytes;
        assert_ok(attn_detokenize(f->tokenizer, &text, &bytes, h->id, h->count, NULL));
        assert_string_equal(h->text, text);
        assert_int_equal(h->bytes, bytes);
        attn_text_free(f->ctx, text);
        for (size_t k = 0; k < h->count; k++) {
            assert_int_equal(h->span[k].id, h->id[k]);
            assert_true(h->span[k].first <= h->span[k].end && h->span[k].end <= h->bytes);
        }
    }
}

static void test_batches(void **state) {
    (void)state;
    static const char *const types[] = {"bahdanau", "rnn"};
    for (size_t m = 0; m < ATTN_COUNT(types); m++) {
        fixture f;
        attn_translation all[TEXTS], one;
        make_fixture(&f, test_context(1), types[m]);
        attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
        options.n_best = 3;
        options.trace = true;
        translate(&f, all, texts, TEXTS, &options);
        for (size_t i = 0; i < TEXTS; i++) {
            bool empty = i == 1 || i == 4;
            assert_int_equal(all[i].count, empty ? 1 : 3);
            check_texts(&f, &all[i]);
            if (empty) {
                assert_string_equal(all[i].hypothesis->text, "");
                assert_int_equal(all[i].hypothesis->count, 0);
            }
            translate(&f, &one, &texts[i], 1, &options);
            same_translation(&all[i], &one);
            clear(&f, &one, 1);
        }
        for (int size = 1; size <= 4; size++) {
            attn_translation again[TEXTS];
            options.batch_size = size;
            translate(&f, again, texts, TEXTS, &options);
            for (size_t i = 0; i < TEXTS; i++) same_translation(&all[i], &again[i]);
            clear(&f, again, TEXTS);
        }
        same_translation(&all[0], &all[6]);
        clear(&f, all, TEXTS);
        assert_null(all[0].hypothesis);
        clear(&f, all, TEXTS); /* twice is fine */
        clear_fixture(&f);
    }
}

/* A text in pieces is its pieces' translations, one after the other; the alignment stays within each. */
static void test_split(void **state) {
    (void)state;
    fixture f;
    const char *const whole[] = {"das Haus. Der Garten ist alt! wo? wo?", "", "das Haus"};
    const char *const piece[] = {"das Haus.", "Der Garten ist alt!", "wo? wo?", "", "das Haus"};
    attn_translation joined[3], part[5];
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    make_fixture(&f, test_context(1), "bahdanau");
    options.max_length = 4;
    translate(&f, part, piece, 5, &options);
    options.split_words = 4;
    translate(&f, joined, whole, 3, &options);
    same_translation(&joined[1], &part[3]);
    same_translation(&joined[2], &part[4]);
    const attn_translation *t = &joined[0];
    const attn_hypothesis *h = t->hypothesis;
    size_t row = 0, column = 0, at = 0, byte = 0;
    assert_int_equal(t->count, 1);
    assert_string_equal(t->source.text, "das Haus. Der Garten ist alt! wo? wo?");
    for (int k = 0; k < 3; k++) {
        const attn_hypothesis *own = part[k].hypothesis;
        const size_t columns = part[k].source.count;
        if (k) assert_int_equal(h->text[at++], ' ');
        assert_memory_equal(h->text + at, own->text, own->bytes);
        for (size_t i = 0; i < own->count; i++, row++) {
            assert_int_equal(h->id[row], own->id[i]);
            assert_true(h->log_prob[row] == own->log_prob[i]);
            assert_int_equal(h->span[row].first, own->span[i].first + at);
            for (size_t j = 0; j < t->source.count; j++) {
                const bool inside = j >= column && j < column + columns;
                assert_true(h->alignment[row * t->source.count + j] ==
                            (inside ? own->alignment[i * columns + j - column] : 0));
            }
        }
        for (size_t j = 0; j < columns; j++) {
            const attn_token *token = &t->source.token[column + j];
            assert_int_equal(token->id, part[k].source.token[j].id);
            assert_true(token->first >= byte || token->first == token->end);
            byte = token->end;
        }
        at += own->bytes;
        column += columns;
    }
    assert_int_equal(row, h->count);
    assert_int_equal(column, t->source.count);
    assert_int_equal(at, h->bytes);
    clear(&f, part, 5);
    clear(&f, joined, 3);
    clear_fixture(&f);
}

static void test_defaults(void **state) {
    (void)state;
    fixture f;
    attn_translation a[2], b[2];
    make_fixture(&f, test_context(1), "bahdanau");
    attn_translate_options options = {sizeof options, 5, 1, 1.0f, 0.0f, 0, 32, false, 1000, 0, ATTN_F32, false};
    translate(&f, a, texts, 2, NULL);
    translate(&f, b, texts, 2, &options);
    for (size_t i = 0; i < 2; i++) same_translation(&a[i], &b[i]);
    assert_true(a[0].hypothesis->count <= 2 * a[0].source.count + 10);
    clear(&f, a, 2);
    clear(&f, b, 2);
    assert_ok(attn_translate(f.model, f.tokenizer, NULL, NULL, NULL, 0, NULL)); /* nothing to do */
    size_t bytes = 8;                                                           /* a text need not end at its NUL */
    const char *longer = "das Haus ist alt";
    assert_ok(attn_translate(f.model, f.tokenizer, a, &longer, &bytes, 1, NULL));
    translate(&f, b, (const char *const[]){"das Haus"}, 1, NULL);
    same_translation(&a[0], &b[0]);
    clear(&f, a, 1);
    clear(&f, b, 1);
    clear_fixture(&f);
}

/* A sentence of more positions than a batch may have is translated by itself. */
static void test_very_long(void **state) {
    (void)state;
    enum { WORDS = 9000 };
    fixture f;
    attn_translation all[3], one;
    make_fixture(&f, test_context(1), "bahdanau");
    char *text = malloc(2 * WORDS + 1);
    assert_non_null(text);
    for (size_t i = 0; i < WORDS; i++) memcpy(text + 2 * i, "? ", 2);
    text[2 * WORDS] = '\0';
    const char *const three[] = {"das Haus", text, "wo?"};
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    options.max_length = 2;
    options.beam_size = 2;
    assert_fails(f.ctx, attn_translate(f.model, f.tokenizer, all, three, NULL, 3, &options), ATTN_E_ARGUMENT,
                 "text 1: found ");
    options.max_source_tokens = 0;
    translate(&f, all, three, 3, &options);
    assert_true(all[1].source.count > WORDS);
    for (size_t i = 0; i < 3; i++) {
        translate(&f, &one, &three[i], 1, &options);
        same_translation(&all[i], &one);
        clear(&f, &one, 1);
    }
    clear(&f, all, 3);
    free(text);
    clear_fixture(&f);
}

static void test_forced(void **state) {
    (void)state;
    static const char *const sources[] = {"das Haus ist alt", "wo ist der Garten?", "", "ist"};
    static const char *const targets[] = {"the house is old", "", "the garden", "is it?"};
    fixture f;
    attn_translation all[4], one;
    make_fixture(&f, test_context(1), "bahdanau");
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    options.length_penalty = 0.5f;
    options.max_length = 1; /* of no importance here */
    assert_ok(attn_translate_forced(f.model, f.tokenizer, all, sources, targets, 4, &options));
    for (size_t i = 0; i < 4; i++) {
        attn_tokens tokens = ATTN_TOKENS_INIT;
        assert_ok(attn_tokenize(f.tokenizer, &tokens, targets[i], strlen(targets[i]), true));
        assert_int_equal(all[i].count, 1);
        const attn_hypothesis *h = all[i].hypothesis;
        assert_int_equal(h->count, tokens.count);
        double sum = 0;
        for (size_t t = 0; t < h->count; t++) {
            assert_int_equal(h->id[t], tokens.token[t].id);
            sum += (double)h->log_prob[t];
        }
        float score = (float)(sum / sqrt((double)h->count));
        assert_true(fabsf(h->score - score) <= 1e-6f * fabsf(score));
        assert_true(score < 0);
        assert_string_equal(h->text, targets[i]);
        attn_tokens_free(f.ctx, &tokens);
        assert_ok(attn_translate_forced(f.model, f.tokenizer, &one, &sources[i], &targets[i], 1, &options));
        same_translation(&all[i], &one);
        clear(&f, &one, 1);
    }
    clear(&f, all, 4);
    clear_fixture(&f);
}

/* The rows sum to 1, whatever else is in the batch; a step over one position leaves no trace in the probabilities. */
static void test_posterior(void **state) {
    (void)state;
    static const char *const sources[] = {"das Haus ist alt", "wo ist der Garten?", "ist"};
    static const char *const targets[] = {"the house is old", "where?", "is it?"};
    fixture f;
    attn_translation plain[3], all[3], one;
    make_fixture(&f, test_context(2), "bahdanau");
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    assert_ok(attn_translate_forced(f.model, f.tokenizer, plain, sources, targets, 3, &options));
    options.posterior = true;
    assert_ok(attn_translate_forced(f.model, f.tokenizer, all, sources, targets, 3, &options));
    bool other = false;
    for (size_t i = 0; i < 3; i++) {
        const attn_hypothesis *a = plain[i].hypothesis, *p = all[i].hypothesis;
        size_t width = all[i].source.count;
        assert_memory_equal(a->log_prob, p->log_prob, a->count * sizeof *a->log_prob);
        for (size_t t = 0; t < p->count; t++) {
            double sum = 0;
            for (size_t j = 0; j < width; j++) {
                sum += (double)p->alignment[t * width + j];
                other = other || fabsf(p->alignment[t * width + j] - a->alignment[t * width + j]) > 1e-4f;
            }
            assert_true(fabs(sum - 1) < 1e-5);
        }
        assert_ok(attn_translate_forced(f.model, f.tokenizer, &one, &sources[i], &targets[i], 1, &options));
        same_translation(&all[i], &one);
        clear(&f, &one, 1);
    }
    assert_true(other);
    clear(&f, plain, 3);
    clear(&f, all, 3);
    assert_fails(f.ctx, attn_translate(f.model, f.tokenizer, &one, sources, NULL, 1, &options), ATTN_E_ARGUMENT,
                 "posterior needs given translations");
    clear_fixture(&f);
    make_fixture(&f, test_context(1), "rnn");
    assert_fails(f.ctx, attn_translate_forced(f.model, f.tokenizer, &one, sources, targets, 1, &options),
                 ATTN_E_UNSUPPORTED, "the rnn model has no alignment");
    clear_fixture(&f);
}

static void test_options(void **state) {
    (void)state;
    fixture f;
    attn_translation out;
    make_fixture(&f, test_context(1), "rnn");
    const attn_translate_options good = ATTN_TRANSLATE_OPTIONS_INIT;
    struct {
        attn_translate_options options;
        attn_status status;
        const char *sentence;
    } cases[] = {
        {good, ATTN_E_VERSION, "translate options: struct_size is 7, expected"},
        {good, ATTN_E_ARGUMENT, "beam_size is 0, expected 1 to 64"},
        {good, ATTN_E_ARGUMENT, "beam_size is 65, expected 1 to 64"},
        {good, ATTN_E_ARGUMENT, "n_best is 0, expected 1 to the beam size 5"},
        {good, ATTN_E_ARGUMENT, "n_best is 6, expected 1 to the beam size 5"},
        {good, ATTN_E_ARGUMENT, "batch_size is 0, expected at least 1"},
        {good, ATTN_E_ARGUMENT, "max_length is -1, expected 0 (by the source) or more"},
        {good, ATTN_E_ARGUMENT, "length_penalty is nan, expected 0 to 10"},
        {good, ATTN_E_ARGUMENT, "length_penalty is -1, expected 0 to 10"},
    };
    cases[0].options.struct_size = 7;
    cases[1].options.beam_size = 0;
    cases[2].options.beam_size = 65;
    cases[3].options.n_best = 0;
    cases[4].options.n_best = 6;
    cases[5].options.batch_size = 0;
    cases[6].options.max_length = -1;
    cases[7].options.length_penalty = (float)fabs(NAN);
    cases[8].options.length_penalty = -1;
    for (size_t i = 0; i < ATTN_COUNT(cases); i++) {
        memset(&out, 0xA5, sizeof out);
        assert_fails(f.ctx, attn_translate(f.model, f.tokenizer, &out, texts, NULL, 1, &cases[i].options),
                     cases[i].status, cases[i].sentence);
        attn_translation_clear(f.ctx, &out); /* is fine after a failure */
        memset(&out, 0xA5, sizeof out);
        assert_fails(f.ctx, attn_translate_forced(f.model, f.tokenizer, &out, texts, texts, 1, &cases[i].options),
                     cases[i].status, cases[i].sentence);
        attn_translation_clear(f.ctx, &out);
    }
    clear_fixture(&f);
}

static void test_tokenizer_of_another_size(void **state) {
    (void)state;
    fixture f;
    attn_translation out;
    char sentence[128];
    make_fixture(&f, test_context(1), "rnn");
    attn_tokenizer *other = make_tokenizer(f.ctx, VOCABULARY - 9);
    snprintf(sentence, sizeof sentence, "the tokenizer has %zu tokens, the model's vocab_size is %zu",
             attn_tokenizer_size(other), attn_tokenizer_size(f.tokenizer));
    assert_fails(f.ctx, attn_translate(f.model, other, &out, texts, NULL, 1, NULL), ATTN_E_SHAPE, sentence);
    assert_fails(f.ctx, attn_translate_forced(f.model, other, &out, texts, texts, 1, NULL), ATTN_E_SHAPE, sentence);
    attn_tokenizer_free(other);
    clear_fixture(&f);
}

/* Another tokenizer may have other special tokens: that would be wrong without a word. */
static void test_tokenizer_of_other_specials(void **state) {
    (void)state;
    fixture f;
    attn_translation out;
    char path[] = "/tmp/attn-translate-XXXXXX", *json;
    make_fixture(&f, test_context(1), "rnn");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_ok(attn_tokenizer_save(f.tokenizer, path));
    assert_ok(attn_read_text(f.ctx, &json, NULL, path));
    for (char *at = json; (at = strstr(at, "<pad>")) != NULL;) at[3] = 'x';
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(json, file);
    fclose(file);
    attn_text_free(f.ctx, json);
    attn_tokenizer *other;
    if (attn_tokenizer_load(&other, f.ctx, path) != ATTN_OK) fail_msg("%s", attn_error(f.ctx));
    assert_fails(f.ctx, attn_translate(f.model, other, &out, texts, NULL, 1, NULL), ATTN_E_UNSUPPORTED,
                 "the tokenizer's token 1 is \"<pax>\", expected \"<pad>\"");
    unlink(path);
    attn_tokenizer_free(other);
    clear_fixture(&f);
}

/* Every allocation fails once. */
static void test_no_memory(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    fixture f;
    attn_translation out[3];
    make_fixture(&f, test_memory_context(&memory, 1), "bahdanau");
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    options.max_length = 4;
    options.beam_size = options.n_best = 2;
    translate(&f, out, texts, 3, &options); /* the packed forms of the weights are made once and stay */
    clear(&f, out, 3);
    for (int forced = 0; forced < 3; forced++) { /* 2: with posteriors */
        options.posterior = forced == 2;
        long before = memory.alive, n = 0;
        for (attn_status status = ATTN_E_NOMEM; status != ATTN_OK; n++) {
            memory.fail_after = n;
            status = forced ? attn_translate_forced(f.model, f.tokenizer, out, texts, texts, 3, &options)
                            : attn_translate(f.model, f.tokenizer, out, texts, NULL, 3, &options);
            memory.fail_after = -1;
            assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
            if (status != ATTN_OK) assert_int_equal(memory.alive, before); /* nothing is given */
            clear(&f, out, 3);
            assert_int_equal(memory.alive, before);
            assert_true(n < 5000);
        }
        assert_true(n > 40);
    }
    clear_fixture(&f);
    assert_int_equal(memory.alive, 0);
}

/* ---- words ------------------------------------------------------------------------------------------- */

static void expect_words(const float *expected, size_t rows, size_t columns, const float *alignment,
                         const attn_token *target, size_t target_count, const attn_token *source, size_t source_count,
                         bool renormalise) {
    attn_context *ctx = test_context(1);
    float *words;
    size_t r, c;
    assert_ok(
        attn_alignment_words(ctx, &words, &r, &c, alignment, target, target_count, source, source_count, renormalise));
    assert_int_equal(r, rows);
    assert_int_equal(c, columns);
    for (size_t i = 0; i < rows * columns; i++) assert_true(fabsf(words[i] - expected[i]) < 1e-6f);
    attn_text_free(ctx, words);
    attn_context_free(ctx);
}

static void test_words(void **state) {
    (void)state;
    /* source: two tokens of word 0, one of word 1, </s>; target: one of word 0, two of word 1, </s> */
    static const attn_token source[] = {{9, 0, 1, 0}, {8, 1, 2, 0}, {7, 3, 4, 1}, {2, 4, 4, -1}};
    static const attn_token target[] = {{9, 0, 1, 0}, {8, 2, 3, 1}, {7, 3, 4, 1}, {2, 4, 4, -1}};
    static const float alignment[] = {0.5f, 0.25f, 0.125f, 0.125f, 0.0f,  0.5f,  0.25f, 0.25f,
                                      0.5f, 0.0f,  0.0f,   0.5f,   0.25f, 0.25f, 0.25f, 0.25f};
    expect_words((float[]){0.75f, 0.125f, 0.5f, 0.125f}, 2, 2, alignment, target, 4, source, 4, false);
    expect_words((float[]){6 / 7.0f, 1 / 7.0f, 0.8f, 0.2f}, 2, 2, alignment, target, 4, source, 4, true);
    /* all of a row at </s>: nothing to make a sum of */
    expect_words((float[]){0}, 1, 1, (float[]){0, 1}, target, 1, (attn_token[]){source[0], source[3]}, 2, true);
    /* a word without a token of its own gets zeros */
    expect_words((float[]){0, 0, 0.5f, 0.25f}, 2, 2, (float[]){0.5f, 0.25f, 0.25f}, &target[1], 1, &source[1], 3,
                 false);
    expect_words(NULL, 0, 1, (float[]){1}, &target[3], 1, source, 1, true);
    expect_words(NULL, 0, 0, NULL, NULL, 0, NULL, 0, true);
}

static void test_words_refused(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    float *words = (float *)&ctx;
    size_t rows, columns;
    static const attn_token word = {9, 0, 1, 0}, far = {9, 0, 1, INT32_MAX};
    assert_fails(ctx, attn_alignment_words(ctx, &words, &rows, &columns, NULL, &word, 1, &word, 1, true),
                 ATTN_E_ARGUMENT, "a model without attention has none");
    assert_null(words);
    assert_int_equal(attn_alignment_words(ctx, &words, &rows, &columns, (float[]){1}, &far, 1, &far, 1, true),
                     ATTN_E_NOMEM);
    assert_null(words);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_very_long),
        cmocka_unit_test(test_forced),
        cmocka_unit_test(test_posterior),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_tokenizer_of_another_size),
        cmocka_unit_test(test_tokenizer_of_other_specials),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_words_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
