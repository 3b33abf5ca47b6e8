/* The word aligner on made-up languages, and ways to join two directions. */
#include "support/allocator.h"
#include "base/base.h"
#include "text/align.h"

#include <math.h>
#include <stdio.h>

/* ---- a made-up pair of languages: word k is "Ak" here and "bk" there; neighbours may swap ---- */

enum { SENTENCES = 400, WORDS = 25, LONGEST = 9 };

struct made_up {
    char text[2][SENTENCES][96];
    const char *line[2][SENTENCES];
    int place[SENTENCES][LONGEST]; /* of each source word in the target */
    int length[SENTENCES];
};

static void make_up(struct made_up *m) {
    attn_random random = {7, 1, 0};
    memset(m, 0, sizeof *m);
    for (int s = 0; s < SENTENCES; s++) {
        int length = 3 + (int)attn_random_below(&random, LONGEST - 2), word[WORDS], at[LONGEST];
        for (int k = 0; k < WORDS; k++) word[k] = k;
        for (int k = 0; k < length; k++) { /* no word twice */
            int other = k + (int)attn_random_below(&random, (uint64_t)(WORDS - k)), w = word[k];
            word[k] = word[other], word[other] = w, at[k] = k;
        }
        for (int k = 0; k + 1 < length; k++)
            if (attn_random_below(&random, 4) == 0) at[k] = k + 1, at[k + 1] = k, k++;
        char *source = m->text[0][s], *target = m->text[1][s];
        for (int k = 0; k < length; k++) source += sprintf(source, "%sA%d", k ? " " : "", word[k]);
        for (int k = 0; k < length; k++) target += sprintf(target, "%sb%d", k ? "  " : "", word[at[k]]);
        for (int k = 0; k < length; k++) m->place[s][at[k]] = k;
        m->length[s] = length;
        for (int side = 0; side < 2; side++) m->line[side][s] = m->text[side][s];
    }
}

static double error_rate(attn_context *ctx, const attn_aligner *aligner, const struct made_up *m, attn_symmetrize how) {
    attn_aer aer = {0, 0, 0, 0};
    for (int s = 0; s < SENTENCES; s++) {
        attn_link gold[LONGEST];
        attn_links found, sure = {gold, (size_t)m->length[s]};
        for (int k = 0; k < m->length[s]; k++) gold[k] = (attn_link){k, m->place[s][k]};
        assert_ok(attn_aligner_align(aligner, &found, m->line[0][s], m->line[1][s], how));
        attn_aer_add(&aer, &found, &sure, NULL);
        attn_text_free(ctx, found.link);
    }
    return attn_aer_value(&aer);
}

static void test_made_up(void **state) {
    (void)state;
    static struct made_up m;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 2);
    long alive = memory.alive;
    make_up(&m);
    for (int bayes = 0; bayes < 2; bayes++) {
        attn_align_options options = ATTN_ALIGN_OPTIONS_INIT;
        if (!bayes) options.dirichlet_alpha = 0;
        attn_aligner *aligner;
        assert_ok(attn_aligner_train(&aligner, ctx, m.line[0], m.line[1], SENTENCES, &options));
        for (int how = ATTN_SYM_FORWARD; how <= ATTN_SYM_GROW_DIAG_FINAL_AND; how++)
            assert_true(error_rate(ctx, aligner, &m, (attn_symmetrize)how) < 0.005);
        for (int k = 0; k < WORDS; k++) {
            char word[16], want[16];
            float p;
            sprintf(word, k % 2 ? "A%d" : "a%d", k); /* lower case or not */
            sprintf(want, "b%d", k);
            const char *gloss = attn_aligner_gloss(aligner, word, &p);
            assert_non_null(gloss);
            assert_string_equal(gloss, want);
            assert_true(p > 0.5F && p <= 1);
        }
        assert_null(attn_aligner_gloss(aligner, "unknown", NULL));
        assert_null(attn_aligner_gloss(aligner, "", NULL));
        attn_aligner_free(aligner);
    }
    assert_int_equal(memory.alive, alive);
    attn_context_free(ctx);
}

/* A tension far off finds its way: the made-up target follows the source closely. */
static void test_tension(void **state) {
    (void)state;
    static struct made_up m;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    make_up(&m);
    double tension[2];
    for (int run = 0; run < 2; run++) {
        attn_align_options options = ATTN_ALIGN_OPTIONS_INIT;
        options.tension = run ? 8.0F : 0.5F;
        options.iterations = 12;
        attn_aligner *aligner;
        assert_ok(attn_aligner_train(&aligner, ctx, m.line[0], m.line[1], SENTENCES, &options));
        tension[run] = aligner->tension[0];
        attn_aligner_free(aligner);
    }
    assert_true(tension[0] > 3);
    assert_true(fabs(tension[0] - tension[1]) < 0.5);
    attn_context_free(ctx);
}

static void test_diagonal(void **state) {
    (void)state;
    double row[40];
    for (size_t n = 1; n <= 40; n += 3)
        for (size_t m = 1; m <= 40; m++)
            for (size_t j = 0; j < m; j++) {
                double sum = 0, norm = attn_diagonal_row(row, j, m, n, 4.5);
                for (size_t i = 0; i < n; i++) {
                    double want = exp(-4.5 * fabs((double)(i + 1) / (double)n - (double)(j + 1) / (double)m));
                    assert_true(fabs(row[i] - want) <= 1e-12 * want);
                    sum += want;
                }
                assert_true(fabs(norm - sum) <= 1e-12 * sum);
            }
}

/* ---- the same model from any threads --------------------------------------------------------- */

static void backwards(void *user, size_t n, attn_task *fn, void *arg) {
    (void)user;
    while (n-- > 0) fn(arg, n);
}

static attn_context *context_of(int kind) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *ctx;
    options.threads = kind == 0 ? 1 : kind == 1 ? 3 : 5;
    if (kind == 2) options.parallel_for = backwards;
    assert_ok(attn_context_create(&ctx, &options));
    return ctx;
}

static void test_threads(void **state) {
    (void)state;
    static struct made_up m;
    make_up(&m);
    attn_aligner *aligner[3];
    attn_context *ctx[3];
    for (int kind = 0; kind < 3; kind++) {
        ctx[kind] = context_of(kind);
        assert_ok(attn_aligner_train(&aligner[kind], ctx[kind], m.line[0], m.line[1], SENTENCES, NULL));
    }
    for (int kind = 1; kind < 3; kind++) {
        assert_memory_equal(aligner[0]->tension, aligner[kind]->tension, sizeof aligner[0]->tension);
        assert_int_equal(aligner[0]->pairs.slots, aligner[kind]->pairs.slots);
        assert_int_equal(aligner[0]->pairs.used, aligner[kind]->pairs.used);
        for (size_t s = 0; s < aligner[0]->pairs.slots; s++) {
            const attn_word_pair *a = &aligner[0]->pairs.slot[s], *b = &aligner[kind]->pairs.slot[s];
            assert_true(a->key == b->key);
            if (a->key) assert_memory_equal(a->p, b->p, sizeof a->p); /* every bit */
        }
    }
    for (int kind = 0; kind < 3; kind++) {
        attn_aligner_free(aligner[kind]);
        attn_context_free(ctx[kind]);
    }
}

/* ---- joining two directions ------------------------------------------------------------------ */

static void expect_links(attn_context *ctx, const int32_t *forward, size_t m, const int32_t *reverse, size_t n,
                         attn_symmetrize how, const char *want) {
    attn_links links;
    char text[256] = "", *at = text;
    assert_ok(attn_symmetrize_links(ctx, &links, forward, m, reverse, n, how));
    for (size_t k = 0; k < links.count; k++)
        at += sprintf(at, "%s%d-%d", k ? " " : "", (int)links.link[k].source, (int)links.link[k].target);
    assert_string_equal(text, want);
    attn_release(ctx, links.link);
}

static void test_symmetrize(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    /* Both have 0-0; 1-1 is near it and in forward only; 3-4 is far from all and in reverse only; 2-0 conflicts. */
    const int32_t forward[] = {0, 1, -1, -1, -1}, reverse[] = {0, -1, 0, 4};
    expect_links(ctx, forward, 5, reverse, 4, ATTN_SYM_FORWARD, "0-0 1-1");
    expect_links(ctx, forward, 5, reverse, 4, ATTN_SYM_REVERSE, "0-0 2-0 3-4");
    expect_links(ctx, forward, 5, reverse, 4, ATTN_SYM_INTERSECT, "0-0");
    expect_links(ctx, forward, 5, reverse, 4, ATTN_SYM_UNION, "0-0 1-1 2-0 3-4");
    /* 1-1 grows from 0-0, then 2-0 from 1-1 (source 2 was not covered); 3-4 only at the end. */
    expect_links(ctx, forward, 5, reverse, 4, ATTN_SYM_GROW_DIAG, "0-0 1-1 2-0");
    expect_links(ctx, forward, 5, reverse, 4, ATTN_SYM_GROW_DIAG_FINAL_AND, "0-0 1-1 2-0 3-4");
    /* At the end both words must be uncovered: 0-3 and 2-3 share a word, forward is asked first. */
    const int32_t forward2[] = {-1, -1, -1, 0}, reverse2[] = {-1, -1, 3};
    expect_links(ctx, forward2, 4, reverse2, 3, ATTN_SYM_GROW_DIAG_FINAL_AND, "0-3");
    expect_links(ctx, forward2, 4, reverse2, 3, ATTN_SYM_GROW_DIAG, "");
    expect_links(ctx, NULL, 0, NULL, 0, ATTN_SYM_UNION, "");
    attn_context_free(ctx);
}

/* Koehn's algorithm with matrices, word for word. */
static void grow_naively(bool chosen[8][8], const int32_t *forward, int m, const int32_t *reverse, int n, bool final) {
    static const int step[8][2] = {{-1, 0}, {0, -1}, {1, 0}, {0, 1}, {-1, -1}, {-1, 1}, {1, -1}, {1, 1}};
    bool both[8][8] = {{false}}, target_covered[8] = {false}, source_covered[8] = {false};
    memset(chosen, 0, 64 * sizeof(bool));
    for (int j = 0; j < m; j++)
        for (int i = 0; i < n; i++) {
            both[j][i] = forward[j] == i || reverse[i] == j;
            if (forward[j] == i && reverse[i] == j) chosen[j][i] = target_covered[j] = source_covered[i] = true;
        }
    for (bool added = true; added;) {
        added = false;
        for (int j = 0; j < m; j++)
            for (int i = 0; i < n; i++)
                for (int s = 0; s < 8 && chosen[j][i]; s++) {
                    int j2 = j + step[s][0], i2 = i + step[s][1];
                    if (j2 < 0 || i2 < 0 || j2 >= m || i2 >= n || !both[j2][i2]) continue;
                    if (target_covered[j2] && source_covered[i2]) continue;
                    chosen[j2][i2] = target_covered[j2] = source_covered[i2] = added = true;
                }
    }
    for (int direction = 0; direction < 2 && final; direction++)
        for (int j = 0; j < m; j++)
            for (int i = 0; i < n; i++)
                if ((direction ? reverse[i] == j : forward[j] == i) && !target_covered[j] && !source_covered[i])
                    chosen[j][i] = target_covered[j] = source_covered[i] = true;
}

static void test_grow_diag(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    attn_random random = {3, 0, 0};
    for (int trial = 0; trial < 5000; trial++) {
        int m = 1 + (int)attn_random_below(&random, 8), n = 1 + (int)attn_random_below(&random, 8);
        int32_t forward[8], reverse[8];
        for (int j = 0; j < m; j++) forward[j] = (int32_t)attn_random_below(&random, (uint64_t)n + 1) - 1;
        for (int i = 0; i < n; i++) reverse[i] = (int32_t)attn_random_below(&random, (uint64_t)m + 1) - 1;
        for (int final = 0; final < 2; final++) {
            bool want[8][8];
            size_t count = 0;
            attn_links links;
            grow_naively(want, forward, m, reverse, n, final != 0);
            assert_ok(attn_symmetrize_links(ctx, &links, forward, (size_t)m, reverse, (size_t)n,
                                            final ? ATTN_SYM_GROW_DIAG_FINAL_AND : ATTN_SYM_GROW_DIAG));
            for (int j = 0; j < m; j++)
                for (int i = 0; i < n; i++) count += want[j][i];
            assert_int_equal(links.count, count);
            for (size_t k = 0; k < links.count; k++) {
                assert_true(want[links.link[k].target][links.link[k].source]);
                if (k)
                    assert_true(links.link[k - 1].source < links.link[k].source ||
                                (links.link[k - 1].source == links.link[k].source &&
                                 links.link[k - 1].target < links.link[k].target));
            }
            attn_release(ctx, links.link);
        }
    }
    attn_context_free(ctx);
}

/* ---- punctuation ----------------------------------------------------------------------------- */

static void test_split_punctuation(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"  ", ""},
        {"Hallo!", "Hallo !"},
        {" \tKannst du  mir helfen?\n", "Kannst du mir helfen ?"},
        {"It costs 1,000.5 dollars, no?", "It costs 1,000.5 dollars , no ?"},
        {"5. a.b .5", "5 . a . b . 5"},
        {"a six-year plan - yes -", "a six-year plan - yes -"},
        {"Wait... what?!", "Wait ... what ? !"},
        {"Tom's dog; we'll see, I've seen, don't", "Tom 's dog ; we 'll see , I 've seen , don 't"},
        {"Geht’s? L’homme qu'il d'or", "Geht ’s ? L’ homme qu' il d' or"},
        {"president 's 'quoted'", "president 's ' quoted '"},
        {"„So“, sagte «er» (20 %)", "„ So “ , sagte « er » ( 20 % )"},
        {"10€ C++", "10 € C ++"},
        {"\xff\xfeok.", "\xff\xfeok ."},
        {"a\xc2\xa0"
         "b",
         "a b"},
    };
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    for (size_t k = 0; k < ATTN_COUNT(cases); k++) {
        char *out;
        assert_ok(attn_words_split_punctuation(ctx, &out, cases[k][0]));
        assert_string_equal(out, cases[k][1]);
        attn_text_free(ctx, out);
    }
    assert_int_equal(attn_words_split_punctuation(ctx, NULL, ""), ATTN_E_ARGUMENT);
    attn_context_free(ctx);
}

/* ---- odd lines and arguments ----------------------------------------------------------------- */

static void test_odd_lines(void **state) {
    (void)state;
    static char endless[4096];
    for (size_t k = 0; k < 2000; k++) endless[k] = k % 2 ? ' ' : 'x';
    const char *source[] = {"", "haus", endless, "  ", "das haus", "das buch"};
    const char *target[] = {"house", "house", "x", "y", "the house", "the book"};
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    attn_aligner *aligner;
    attn_links links;
    assert_ok(attn_aligner_train(&aligner, ctx, source, target, 6, NULL));
    assert_string_equal(attn_aligner_gloss(aligner, "Haus", NULL), "house");
    assert_ok(attn_aligner_align(aligner, &links, "das buch", "the book", ATTN_SYM_INTERSECT));
    assert_int_equal(links.count, 2);
    assert_int_equal(links.link[1].source, 1);
    assert_int_equal(links.link[1].target, 1);
    attn_text_free(ctx, links.link);
    /* Unknown words follow the diagonal. */
    assert_ok(attn_aligner_align(aligner, &links, "q w e", "r t z", ATTN_SYM_INTERSECT));
    assert_int_equal(links.count, 3);
    for (int k = 0; k < 3; k++) assert_true(links.link[k].source == k && links.link[k].target == k);
    attn_text_free(ctx, links.link);
    const char *pairs[][2] = {{"", ""}, {"", "a b"}, {"a b", ""}, {endless, endless}};
    for (size_t k = 0; k < ATTN_COUNT(pairs); k++) {
        assert_ok(attn_aligner_align(aligner, &links, pairs[k][0], pairs[k][1], ATTN_SYM_GROW_DIAG_FINAL_AND));
        assert_int_equal(links.count, 0); /* in a line so long NULL is likelier than any place */
        attn_text_free(ctx, links.link);
    }
    assert_int_equal(attn_aligner_align(aligner, &links, "a", "b", (attn_symmetrize)17), ATTN_E_ARGUMENT);
    assert_int_equal(attn_aligner_align(aligner, &links, NULL, "b", ATTN_SYM_UNION), ATTN_E_ARGUMENT);
    attn_aligner_free(aligner);
    attn_aligner_free(NULL);

    assert_int_equal(attn_aligner_train(&aligner, ctx, source, target, 1, NULL), ATTN_E_ARGUMENT);
    assert_null(aligner);
    assert_int_equal(attn_aligner_train(&aligner, ctx, source, target, 0, NULL), ATTN_E_ARGUMENT);
    source[5] = NULL;
    assert_int_equal(attn_aligner_train(&aligner, ctx, source, target, 6, NULL), ATTN_E_ARGUMENT);
    static const float bad[][3] = {{-0.1F, 4, 0},    {1, 4, 0},  {NAN, 4, 0}, {0, -1, 0},
                                   {0, INFINITY, 0}, {0, 4, -1}, {0, 4, NAN}};
    for (size_t k = 0; k < ATTN_COUNT(bad); k++) {
        attn_align_options options = ATTN_ALIGN_OPTIONS_INIT;
        options.p_null = bad[k][0], options.tension = bad[k][1], options.dirichlet_alpha = bad[k][2];
        assert_int_equal(attn_aligner_train(&aligner, ctx, source, target, 5, &options), ATTN_E_ARGUMENT);
    }
    attn_align_options options = ATTN_ALIGN_OPTIONS_INIT;
    options.iterations = 0;
    assert_int_equal(attn_aligner_train(&aligner, ctx, source, target, 5, &options), ATTN_E_ARGUMENT);
    options.struct_size--;
    assert_int_equal(attn_aligner_train(&aligner, ctx, source, target, 5, &options), ATTN_E_VERSION);
    attn_context_free(ctx);
}

static void test_no_memory(void **state) {
    (void)state;
    const char *source[] = {"das haus", "das buch", "ein buch"}, *target[] = {"the house", "the book", "a book"};
    for (long fail_after = 0;; fail_after++) {
        struct test_memory memory = TEST_MEMORY_INIT;
        attn_context *ctx = test_memory_context(&memory, 1);
        long alive = memory.alive;
        attn_aligner *aligner;
        attn_links links = {NULL, 0};
        memory.fail_after = fail_after;
        attn_status status = attn_aligner_train(&aligner, ctx, source, target, 3, NULL);
        if (status == ATTN_OK) status = attn_aligner_align(aligner, &links, "das buch", "the book", ATTN_SYM_UNION);
        assert_true(status == ATTN_OK || status == ATTN_E_NOMEM);
        attn_text_free(ctx, links.link);
        attn_aligner_free(aligner);
        assert_int_equal(memory.alive, alive);
        attn_context_free(ctx);
        if (status == ATTN_OK) break;
        assert_true(fail_after < 1000);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_made_up),   cmocka_unit_test(test_tension),           cmocka_unit_test(test_diagonal),
        cmocka_unit_test(test_threads),   cmocka_unit_test(test_symmetrize),        cmocka_unit_test(test_grow_diag),
        cmocka_unit_test(test_odd_lines), cmocka_unit_test(test_split_punctuation), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
