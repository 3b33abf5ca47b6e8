/* text_tokenizer.c: training, ids, spans, words, the way back; merges against merging by hand; long input. */
#include "unit/text_support.h"

#include <time.h>

#include "text/tokenizer.h"

static memory m;
static attn_context *ctx;

static const char *const lines[] = {
    "Kannst du mir helfen, diesen Satz zu \xC3\xBC"
    "bersetzen?",
    "Can you help me to translate this sentence?",
    "Ich kann diesen Satz nicht \xC3\xBC"
    "bersetzen.",
    "I can't translate this sentence.",
    "Die Katze schl\xC3\xA4"
    "ft.",
    "The cat sleeps.",
    "Die Katze, die auf dem Dach sa\xC3\x9F, schl\xC3\xA4"
    "ft.",
    "The cat that sat on the roof sleeps.",
    "aaaaaaaa aaaa aab aabb abab",
    "abab abba baab 12 21 122",
    "l'homme qu'il a vu",
    "\xE6\xBC\xA2\xE5\xAD\x97 \xE6\xBC\xA2\xE5\xAD\x97",
};
enum { LINES = sizeof lines / sizeof *lines };

static attn_tokenizer *train(const char *const *text, size_t n, size_t vocab_size, bool lowercase,
                             size_t max_piece_bytes) {
    attn_tokenizer *tokenizer;
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    options.vocab_size = vocab_size;
    options.lowercase = lowercase;
    options.max_piece_bytes = max_piece_bytes;
    CHECK_OK(ctx, attn_tokenizer_train_bpe(&tokenizer, ctx, text, NULL, n, &options));
    return tokenizer;
}

static int set_up(void **state) {
    ctx = memory_context(&m);
    *state = train(lines, LINES, 400, false, 0);
    return 0;
}

static int tear_down(void **state) {
    attn_tokenizer_free(*state);
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

static void test_ids(void **state) {
    const attn_tokenizer *t = *state;
    assert_string_equal(attn_tokenizer_piece(t, ATTN_ID_BOS), "<s>");
    assert_string_equal(attn_tokenizer_piece(t, ATTN_ID_PAD), "<pad>");
    assert_string_equal(attn_tokenizer_piece(t, ATTN_ID_EOS), "</s>");
    assert_string_equal(attn_tokenizer_piece(t, ATTN_ID_UNK), "<unk>");
    assert_string_equal(attn_tokenizer_piece(t, 4), "<0x00>");
    assert_string_equal(attn_tokenizer_piece(t, 259), "<0xFF>");
    assert_null(attn_tokenizer_piece(t, -1));
    assert_null(attn_tokenizer_piece(t, (int32_t)attn_tokenizer_size(t)));
    assert_in_range(attn_tokenizer_size(t), 300, 400);
    for (int32_t id = 261; id < (int32_t)attn_tokenizer_size(t); id++) {
        const char *piece = attn_tokenizer_piece(t, id); /* nothing but words crosses no border */
        if (strlen(piece) > 4) assert_null(strpbrk(piece, " .,?0123456789"));
    }
}

static void round_trip(const attn_tokenizer *t, const char *text, size_t bytes, bool same) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenize(t, &tokens, text, bytes, true));
    if (same) assert_memory_equal(tokens.text, text, bytes + 1);
    size_t at = 0, n = tokens.count;
    int32_t *ids = calloc(n, sizeof *ids), word = 0;
    attn_token *spans = calloc(n, sizeof *spans);
    for (size_t i = 0; i < n; i++) {
        attn_token token = tokens.token[i];
        ids[i] = token.id;
        assert_int_equal(token.first, at);
        assert_true(token.end >= at);
        at = token.end;
        if (i + 1 < n) assert_in_range(token.word, word, word + 1);
        word = token.word;
    }
    assert_int_equal(at, tokens.bytes);
    assert_int_equal(ids[n - 1], ATTN_ID_EOS);
    assert_int_equal(tokens.token[n - 1].word, -1);
    char *out;
    size_t out_bytes;
    CHECK_OK(ctx, attn_detokenize(t, &out, &out_bytes, ids, n, spans));
    assert_int_equal(out_bytes, tokens.bytes);
    assert_memory_equal(out, tokens.text, out_bytes);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(spans[i].id, ids[i]);
        assert_int_equal(spans[i].first, tokens.token[i].first);
        assert_int_equal(spans[i].end, tokens.token[i].end);
        assert_int_equal(spans[i].word, tokens.token[i].word);
    }
    attn_text_free(ctx, out);
    attn_tokens_free(ctx, &tokens);
    free(ids);
    free(spans);
}

static void test_round_trip(void **state) {
    for (size_t i = 0; i < LINES; i++) round_trip(*state, lines[i], strlen(lines[i]), true);
    static const char *const others[] = {"x",
                                         "?",
                                         "\"So?\" \xE2\x80\x9Eja\xE2\x80\x9C",
                                         "\xF0\x9F\x98\x80 \xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80",
                                         "</s><0x41>",
                                         "12.345,67 \xE2\x82\xAC",
                                         "\x01\x7F"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) round_trip(*state, others[i], strlen(others[i]), true);
    round_trip(*state, "", 0, true);
    round_trip(*state, NULL, 0, false);
    round_trip(*state, "a\0b", 3, true);
    round_trip(*state, "  a\xFF \xE2\x96\x81 b\xE2\x80\x99 ", 12, false);
}

static void test_words(void **state) {
    static const struct {
        const char *piece;
        size_t first, end;
        int32_t word;
    } expected[] = {{"\xE2\x96\x81"
                     "Die",
                     0, 3, 0},
                    {"\xE2\x96\x81"
                     "Katze",
                     3, 9, 1},
                    {",", 9, 10, 1},
                    {"\xE2\x96\x81", 10, 11, 2},
                    {"1", 11, 12, 2},
                    {"2", 12, 13, 2},
                    {"</s>", 13, 13, -1}};
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenize(*state, &tokens, "Die  Katze, 12", 14, true));
    assert_int_equal(tokens.count, sizeof expected / sizeof *expected);
    for (size_t i = 0; i < tokens.count; i++) {
        assert_string_equal(attn_tokenizer_piece(*state, tokens.token[i].id), expected[i].piece);
        assert_int_equal(tokens.token[i].first, expected[i].first);
        assert_int_equal(tokens.token[i].end, expected[i].end);
        assert_int_equal(tokens.token[i].word, expected[i].word);
    }
    CHECK_OK(ctx, attn_tokenize(*state, &tokens, "", 0, false)); /* the arrays are used again */
    assert_int_equal(tokens.count, 0);
    assert_string_equal(tokens.text, "");
    attn_tokens_free(ctx, &tokens);
}

static void test_detokenize(void **state) {
    char *out;
    size_t bytes;
    attn_token spans[8];
    const int32_t good[] = {4 + 0xC3, ATTN_ID_PAD, 4 + 0xA4, 4 + 0x41, ATTN_ID_EOS};
    CHECK_OK(ctx, attn_detokenize(*state, &out, &bytes, good, 5, spans));
    assert_string_equal(out, "\xC3\xA4"
                             "A"); /* bytes join across special tokens */
    assert_int_equal(spans[1].first, 1);
    assert_int_equal(spans[1].end, 1);
    assert_int_equal(spans[1].word, -1);
    assert_int_equal(spans[2].end, 2);
    attn_text_free(ctx, out);
    const int32_t broken[] = {4 + 0x41, 4 + 0xC3};
    CHECK_OK(ctx, attn_detokenize(*state, &out, &bytes, broken, 2, spans));
    assert_string_equal(out, "\xEF\xBF\xBD\xEF\xBF\xBD"); /* one bad byte spoils its run, as in the package */
    assert_int_equal(spans[1].first, 3);
    assert_int_equal(spans[1].end, 6);
    attn_text_free(ctx, out);
    CHECK_OK(ctx, attn_detokenize(*state, &out, &bytes, NULL, 0, NULL));
    assert_string_equal(out, "");
    attn_text_free(ctx, out);
    const int32_t beyond[] = {5, (int32_t)attn_tokenizer_size(*state)};
    CHECK_FAILS(ctx, attn_detokenize(*state, &out, &bytes, beyond, 2, NULL), ATTN_E_ARGUMENT, "found id");
    assert_null(out);
}

/* The same merges whatever the order of the lines; the same file each time. */
static void test_deterministic(void **state) {
    const attn_tokenizer *t = *state;
    const char *backwards[LINES];
    for (size_t i = 0; i < LINES; i++) backwards[i] = lines[LINES - 1 - i];
    attn_tokenizer *other = train(backwards, LINES, 400, false, 0);
    assert_int_equal(attn_tokenizer_size(other), attn_tokenizer_size(t));
    for (int32_t id = 0; id < (int32_t)attn_tokenizer_size(t); id++)
        assert_string_equal(attn_tokenizer_piece(other, id), attn_tokenizer_piece(t, id));
    assert_int_equal(other->bpe.count, t->bpe.count);
    for (size_t i = 0; i < t->bpe.count; i++) {
        assert_int_equal(other->bpe.merge[i].left, t->bpe.merge[i].left);
        assert_int_equal(other->bpe.merge[i].right, t->bpe.merge[i].right);
    }
    attn_tokenizer_free(other);
}

/* Counting by hand: the first merges of "aaaa" ×2 are (a, a), then (▁, aa) or (aa, aa), whichever ids are less. */
static void test_first_merges(void **state) {
    (void)state;
    static const char *const text[] = {"aaaa", "aaaa bb", "bb bb bb bb"};
    attn_tokenizer *t = train(text, 3, 300, false, 0);
    static const char *const expected[] = {"a", "b", "\xE2\x96\x81",
                                           "\xE2\x96\x81"
                                           "b",
                                           "aa"};
    for (size_t i = 0; i < 3; i++) assert_string_equal(attn_tokenizer_piece(t, 260 + (int32_t)i), expected[i]);
    /* counts: (a,a) 2·3 = 6, (b,b) 5, (▁,b) 5, (▁,a) 2 */
    assert_string_equal(attn_tokenizer_piece(t, 263), "aa");
    assert_string_equal(attn_tokenizer_piece(t, 264), "bb"); /* (b, b) before (▁, b): least ids */
    assert_string_equal(attn_tokenizer_piece(t, 265), "\xE2\x96\x81"
                                                      "bb");
    attn_tokenizer_free(t);
    t = train(text, 3, 300, false, 2);
    for (int32_t id = 263; id < (int32_t)attn_tokenizer_size(t); id++)
        assert_true(strlen(attn_tokenizer_piece(t, id)) <= 2);
    attn_tokenizer_free(t);
}

static void test_lowercase(void **state) {
    (void)state;
    attn_tokenizer *t = train(lines, LINES, 300, true, 0);
    attn_tokens tokens = ATTN_TOKENS_INIT;
    CHECK_OK(ctx, attn_tokenize(t, &tokens, "DIE \xC3\x9C", 6, false));
    assert_string_equal(tokens.text, "die \xC3\xBC");
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(t);
}

static void test_refusals(void **state) {
    (void)state;
    attn_tokenizer *t;
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    options.vocab_size = 260;
    CHECK_FAILS(ctx, attn_tokenizer_train_bpe(&t, ctx, lines, NULL, LINES, &options), ATTN_E_ARGUMENT, "260");
    options = (attn_bpe_options)ATTN_BPE_OPTIONS_INIT;
    const char *const blank[] = {"", " "};
    CHECK_FAILS(ctx, attn_tokenizer_train_bpe(&t, ctx, blank, NULL, 2, &options), ATTN_E_ARGUMENT, "no text");
    options.struct_size = 4;
    CHECK_FAILS(ctx, attn_tokenizer_train_bpe(&t, ctx, lines, NULL, LINES, &options), ATTN_E_VERSION, "struct_size");
    assert_null(t);
}

/* ---- merging by hand ------------------------------------------------------------------------ */

/* Merges the leftmost pair of least rank until there is none; the word is one piece of ASCII letters. */
static size_t merge_by_hand(const attn_tokenizer *t, const char *word, size_t bytes, int32_t *ids) {
    size_t n = 0;
    ids[n++] = t->mark_id;
    for (size_t i = 0; i < bytes; i++) ids[n++] = t->character_id[(unsigned char)word[i]];
    for (;;) {
        uint32_t best = ATTN_PAIR_NONE;
        size_t at = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t rank = attn_pairs_find(&t->bpe.rank, ids[i], ids[i + 1]);
            if (rank < best) best = rank, at = i;
        }
        if (best == ATTN_PAIR_NONE) return n;
        ids[at] = t->bpe.merge[best].joined;
        memmove(ids + at + 1, ids + at + 2, (n - at - 2) * sizeof *ids);
        n--;
    }
}

static void test_long_words(void **state) {
    const attn_tokenizer *t = *state;
    attn_tokens tokens = ATTN_TOKENS_INIT;
    uint32_t random = 1;
    char word[1200];
    int32_t ids[1201];
    for (size_t trial = 0; trial < 300; trial++) {
        size_t bytes = 1 + trial * 4 % sizeof word, letters = 1 + trial % 5;
        for (size_t i = 0; i < bytes; i++) {
            random = random * 1664525u + 1013904223u;
            word[i] = "abtez"[(random >> 16) % letters];
        }
        size_t n = merge_by_hand(t, word, bytes, ids);
        CHECK_OK(ctx, attn_tokenize(t, &tokens, word, bytes, false));
        assert_int_equal(tokens.count, n);
        for (size_t i = 0; i < n; i++) assert_int_equal(tokens.token[i].id, ids[i]);
    }
    attn_tokens_free(ctx, &tokens);
}

/* A loaded vocabulary may make one piece in two ways; then a merge of lower rank can follow one of higher rank. */
static void test_ranks_that_fall(void **state) {
    (void)state;
    attn_tokenizer *t;
    CHECK_OK(ctx, attn_tokenizer_new(&t, ctx));
    attn_tokenizer_default_steps(t, false);
    static const char *const pieces[] = {"a", "b", "c", "d", "bc", "abc", "ab", "abcd", "\xE2\x96\x81"};
    enum { A, B, C, D, BC, ABC, AB, ABCD };
    int32_t id;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        CHECK_OK(ctx, attn_vocabulary_add(&t->vocabulary, pieces[i], strlen(pieces[i]), &id));
    for (int b = 0; b < 256; b++) {
        char piece[8];
        snprintf(piece, sizeof piece, "<0x%02X>", b);
        CHECK_OK(ctx, attn_vocabulary_add(&t->vocabulary, piece, 6, &id));
    }
    static const attn_merge merges[] = {{ABC, D, ABCD}, {ABCD, A, -1}, {B, C, BC}, {A, BC, ABC}};
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++)
        if (merges[i].joined >= 0) CHECK_OK(ctx, attn_bpe_add(&t->bpe, merges[i]));
    CHECK_OK(ctx, attn_tokenizer_finish(t, NULL, 0));
    attn_tokens tokens = ATTN_TOKENS_INIT;
    char word[1200];
    int32_t ids[1201];
    for (size_t i = 0; i < sizeof word; i++) word[i] = "abcd"[(i * i + i / 7) % 11 < 8 ? i % 4 : i % 3];
    size_t n = merge_by_hand(t, word, sizeof word, ids);
    CHECK_OK(ctx, attn_tokenize(t, &tokens, word, sizeof word, false));
    assert_int_equal(tokens.count, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(tokens.token[i].id, ids[i]);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(t);
}

static void test_ten_megabytes(void **state) {
    enum { BYTES = 10000000 };
    char *text = malloc(BYTES);
    attn_tokens tokens = ATTN_TOKENS_INIT;
    static const char *const patterns[] = {"a", "ab", "a b"};
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        size_t length = strlen(patterns[p]);
        for (size_t i = 0; i < BYTES; i++) text[i] = patterns[p][i % length];
        clock_t start = clock();
        CHECK_OK(ctx, attn_tokenize(*state, &tokens, text, BYTES, false));
        assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 15); /* 1 s; a quadratic way takes hours */
    }
    attn_tokens_free(ctx, &tokens);
    free(text);
}

/* ---- out of memory -------------------------------------------------------------------------- */

static void test_out_of_memory(void **state) {
    (void)state;
    char word[300];
    memset(word, 'a', sizeof word);
    for (long left = 0;; left++) {
        size_t live = m.live;
        attn_tokenizer *t = NULL;
        attn_tokens tokens = ATTN_TOKENS_INIT;
        char *out = NULL;
        const int32_t ids[] = {4 + 0xC3, 4 + 0xA4, 262};
        attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
        options.vocab_size = 330;
        m.left = left;
        attn_status status = attn_tokenizer_train_bpe(&t, ctx, lines, NULL, LINES, &options);
        if (status == ATTN_OK) status = attn_tokenize(t, &tokens, word, sizeof word, true);
        if (status == ATTN_OK) status = attn_tokenize(t, &tokens, "e\xCC\x81", 3, true);
        if (status == ATTN_OK) status = attn_detokenize(t, &out, NULL, ids, 3, NULL);
        m.left = -1;
        if (t && status != ATTN_OK) { /* still usable */
            CHECK_OK(ctx, attn_tokenize(t, &tokens, "Die Katze", 9, false));
            assert_in_range(tokens.count, 2, 10);
        }
        attn_text_free(ctx, out);
        attn_tokens_free(ctx, &tokens);
        attn_tokenizer_free(t);
        assert_int_equal(m.live, live);
        if (status == ATTN_OK) return;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_true(left < 10000);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(test_ids),           TEST(test_round_trip),      TEST(test_words),         TEST(test_detokenize),
        TEST(test_deterministic), TEST(test_first_merges),    TEST(test_lowercase),     TEST(test_refusals),
        TEST(test_long_words),    TEST(test_ranks_that_fall), TEST(test_ten_megabytes), TEST(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
