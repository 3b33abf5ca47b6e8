/* packing.c: texts in files, split, as characters, and as packed windows. */
#include "support/translator.h"
#include "train/batching.h"
#include <attn/io.h>
#include <stdio.h>
#include <unistd.h>

static char folder[] = "/tmp/attn-packing-XXXXXX";
static char path[2][64];

static int set_up(void **state) {
    attn_context *ctx = test_context(1);
    *state = ctx;
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < 2; i++) snprintf(path[i], sizeof path[i], "%s/%d.txt", folder, i);
    return 0;
}

static int tear_down(void **state) {
    for (int i = 0; i < 2; i++) unlink(path[i]);
    assert_int_equal(rmdir(folder), 0);
    attn_context_free(*state);
    return 0;
}

static void write_text(attn_context *ctx, int i, const char *text) {
    assert_ok(attn_file_write(ctx, path[i], text, strlen(text)));
}

static attn_corpus *read_both(attn_context *ctx) {
    const char *const paths[] = {path[0], path[1]};
    attn_corpus *corpus;
    if (attn_corpus_read_texts(&corpus, ctx, paths, 2) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    return corpus;
}

static void expect_texts(const attn_corpus *corpus, size_t n, const char *const *texts) {
    assert_int_equal(attn_corpus_count(corpus), n);
    for (size_t i = 0; i < n; i++) {
        assert_string_equal(attn_corpus_at(corpus, i)->target, texts[i]);
        assert_int_equal(attn_corpus_at(corpus, i)->target_bytes, strlen(texts[i]));
        assert_string_equal(attn_corpus_at(corpus, i)->source, "");
    }
}

static void test_texts(void **state) {
    attn_context *ctx = *state;
    write_text(ctx, 0, "\xEF\xBB\xBFone\n\n two<|endoftext|>\n<|endoftext|>\r\n \n<|endoftext|>\nthree");
    write_text(ctx, 1, "grün");
    attn_corpus *corpus = read_both(ctx), *rest;
    expect_texts(corpus, 3, (const char *const[]){"one\n\n two<|endoftext|>\n", "three", "grün"});
    /* 33 bytes; the last 3 begin within ü, which goes over whole */
    assert_ok(attn_corpus_split_texts(&rest, corpus, 2.5 / 33));
    expect_texts(corpus, 3, (const char *const[]){"one\n\n two<|endoftext|>\n", "three", "gr"});
    expect_texts(rest, 1, (const char *const[]){"ün"});
    attn_corpus_free(rest);
    assert_ok(attn_corpus_split_texts(&rest, corpus, 0.2));
    assert_int_equal(attn_corpus_count(corpus), 2);
    assert_int_equal(attn_corpus_count(rest), 2);
    assert_string_equal(attn_corpus_at(rest, 1)->target, "gr");
    attn_corpus_free(rest);
    assert_fails(ctx, attn_corpus_split_texts(&rest, corpus, 2), ATTN_E_ARGUMENT, "expected 0 to 1");
    assert_null(rest);
    attn_corpus_free(corpus);
}

static void test_bad_texts(void **state) {
    attn_context *ctx = *state;
    const char *const paths[] = {path[0]};
    attn_corpus *corpus;
    write_text(ctx, 0, "one\ntwo\xFF\n");
    assert_fails(ctx, attn_corpus_read_texts(&corpus, ctx, paths, 1), ATTN_E_FORMAT, "0.txt:2: found 0xFF as byte 8");
    assert_ok(attn_file_write(ctx, path[0], "a\0b", 3));
    assert_fails(ctx, attn_corpus_read_texts(&corpus, ctx, paths, 1), ATTN_E_FORMAT, "found a NUL as byte 2");
    unlink(path[0]);
    assert_fails(ctx, attn_corpus_read_texts(&corpus, ctx, paths, 1), ATTN_E_IO, "0.txt");
    assert_null(corpus);
}

static attn_tokenizer *characters_of(attn_context *ctx, const attn_corpus *corpus) {
    const char *texts[4];
    size_t bytes[4], n = attn_corpus_count(corpus);
    for (size_t i = 0; i < n; i++) texts[i] = attn_corpus_at(corpus, i)->target, bytes[i] = strlen(texts[i]);
    attn_tokenizer *tokenizer;
    if (attn_tokenizer_of_characters(&tokenizer, ctx, texts, bytes, n) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    return tokenizer;
}

/* Every character is a token, in the order of code points, and comes back; others are <unk>. Saved and read the same.
 */
static void test_characters(void **state) {
    attn_context *ctx = *state;
    static const char text[] = "b a\n\tü€😀 a";
    write_text(ctx, 0, text);
    write_text(ctx, 1, "b\xC2\xA0");
    attn_corpus *corpus = read_both(ctx);
    attn_tokenizer *tokenizer = characters_of(ctx, corpus), *again;
    static const char *const pieces[] = {"<unk>", "\t", "\n", " ", "a", "b", "\xC2\xA0", "ü", "€", "😀"};
    assert_int_equal(attn_tokenizer_size(tokenizer), 10);
    for (int i = 0; i < 10; i++) assert_string_equal(attn_tokenizer_piece(tokenizer, i), pieces[i]);
    assert_ok(attn_tokenizer_save(tokenizer, path[0]));
    assert_ok(attn_tokenizer_load(&again, ctx, path[0]));
    attn_tokens tokens = ATTN_TOKENS_INIT;
    int32_t ids[16];
    for (int k = 0; k < 2; k++) {
        static const int32_t expected[] = {5, 3, 4, 2, 1, 7, 8, 9, 3, 4};
        const attn_tokenizer *t = k ? again : tokenizer;
        char *back;
        assert_ok(attn_tokenize(t, &tokens, text, strlen(text), false));
        assert_int_equal(tokens.count, 10);
        for (size_t i = 0; i < 10; i++) assert_int_equal(ids[i] = tokens.token[i].id, expected[i]);
        assert_ok(attn_detokenize(t, &back, NULL, ids, 10, NULL));
        assert_string_equal(back, text);
        attn_text_free(ctx, back);
        assert_ok(attn_tokenize(t, &tokens, "xa", 2, false));
        assert_int_equal(tokens.count, 2);
        assert_int_equal(tokens.token[0].id, 0);
    }
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(again);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
}

/* ---- windows ------------------------------------------------------------------------------------------- */

enum { WINDOW = 5, LETTERS = 23 };

/* The texts: letters a … w, and xyz. */
static attn_corpus *letters(attn_context *ctx) {
    char text[LETTERS + 1] = "";
    for (int i = 0; i < LETTERS; i++) text[i] = (char)('a' + i);
    write_text(ctx, 0, text);
    write_text(ctx, 1, "xyz");
    return read_both(ctx);
}

/* Of each epoch: a token's next one is right, none is seen twice, and nothing is predicted across the end of a text. */
static void test_windows(void **state) {
    attn_context *ctx = *state;
    attn_corpus *corpus = letters(ctx);
    attn_tokenizer *tokenizer = characters_of(ctx, corpus);
    attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
    const attn_packing_options options = {
        .batch_tokens = 12, .window = WINDOW, .end_id = -1, .seed = 3, .shuffle = true};
    int ever[32] = {0}, first_window[8], orders = 0;
    for (uint64_t number = 0; number < 8; number++) {
        int seen[32] = {0};
        assert_ok(attn_epoch_pack(&epoch, tokenizer, corpus, &options, number));
        assert_int_equal(epoch.id_count, LETTERS + 3);
        assert_true(epoch.count == 4 || epoch.count == 5);
        for (size_t i = 0; i < epoch.batches; i++) {
            attn_pair_batch b;
            assert_ok(attn_epoch_batch(&epoch, i, &b));
            assert_true(b.batch <= 2 && b.target_steps == WINDOW && !b.source);
            if (i == 0) first_window[number] = b.target_in[0];
            for (size_t at = 0; at < b.batch; at++)
                for (size_t t = 0; t < WINDOW; t++) {
                    const int32_t in = b.target_in[t * b.batch + at], out = b.target_out[t * b.batch + at];
                    assert_int_equal(seen[in]++, 0);
                    ever[in]++;
                    assert_int_equal(out, in == LETTERS ? -1 : in + 1); /* ids are from 1: w is 23 */
                    assert_int_equal(b.documents[t * b.batch + at], in > LETTERS);
                }
        }
    }
    for (int id = 1; id <= LETTERS + 2; id++) assert_true(ever[id] > 0);
    for (int k = 1; k < 8; k++) orders += first_window[k] != first_window[0];
    assert_true(orders > 0);
    attn_epoch_free(&epoch);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
}

/* For validation every token is predicted once, the last window is what is left; an end token ends each text. */
static void test_all_windows(void **state) {
    attn_context *ctx = *state;
    attn_corpus *corpus = letters(ctx);
    attn_tokenizer *tokenizer = characters_of(ctx, corpus);
    attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
    const attn_packing_options options = {.batch_tokens = 1000, .window = WINDOW, .end_id = 0};
    assert_ok(attn_epoch_pack(&epoch, tokenizer, corpus, &options, 0));
    assert_int_equal(epoch.id_count, LETTERS + 5);
    assert_int_equal(epoch.target_tokens, LETTERS + 4);
    assert_int_equal(epoch.batches, 1);
    attn_pair_batch b;
    assert_ok(attn_epoch_batch(&epoch, 0, &b));
    assert_int_equal(b.batch, 6);
    assert_int_equal(b.target_lengths[5], 2);
    assert_int_equal(b.target_out[2 * b.batch + 4], 0);  /* w is followed by the end */
    assert_int_equal(b.target_out[3 * b.batch + 4], -1); /* and the end by another text */
    assert_int_equal(b.target_out[2 * b.batch + 5], -1); /* past the length */
    attn_epoch_free(&epoch);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
}

/* Windows that stay: each epoch has those from the first token on, in another order. */
static void test_fixed_windows(void **state) {
    attn_context *ctx = *state;
    attn_corpus *corpus = letters(ctx);
    attn_tokenizer *tokenizer = characters_of(ctx, corpus);
    attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
    const attn_packing_options options = {
        .batch_tokens = 1, .window = WINDOW, .end_id = -1, .seed = 3, .shuffle = true, .fixed = true};
    for (uint64_t number = 0; number < 4; number++) {
        bool seen[32] = {false};
        assert_ok(attn_epoch_pack(&epoch, tokenizer, corpus, &options, number));
        for (size_t i = 0; i < epoch.batches; i++) {
            attn_pair_batch b;
            assert_ok(attn_epoch_batch(&epoch, i, &b));
            assert_int_equal((b.target_in[0] - 1) % WINDOW, 0);
            assert_false(seen[b.target_in[0]]);
            seen[b.target_in[0]] = true;
        }
        assert_true(seen[1]);
    }
    attn_epoch_free(&epoch);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_texts),   TEST(test_bad_texts),   TEST(test_characters),
                                       TEST(test_windows), TEST(test_all_windows), TEST(test_fixed_windows)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
