/* An epoch's batches: every pair once, no batch too large, little padding, the same for the same seed and number. */
#include "support/allocator.h"
#include "support/toy.h"
#include "train/batching.h"

static const attn_batching_options plain = {
    .batch_tokens = 200,
    .max_tokens = 100,
    .concatenate_words = 60,
    .augment = {.struct_size = sizeof(attn_augment_options)},
    .seed = 5,
    .shuffle = true,
};

/* The example's tokens as text. */
static void example_text(const attn_tokenizer *tokenizer, const attn_epoch *epoch, size_t index, char *out,
                         size_t room) {
    const attn_example *example = &epoch->example[index];
    const int32_t *ids = epoch->ids + example->offset;
    char *source, *target;
    assert_ok(attn_detokenize(tokenizer, &source, NULL, ids, example->source, NULL));
    assert_ok(attn_detokenize(tokenizer, &target, NULL, ids + example->source, example->target, NULL));
    snprintf(out, room, "%s\t%s", source, target);
    attn_text_free(epoch->ctx, source);
    attn_text_free(epoch->ctx, target);
}

static void check_batches(attn_epoch *epoch, const attn_batching_options *options) {
    size_t sentences = 0, cells = 0, tokens = 0;
    for (size_t i = 0; i < epoch->batches; i++) {
        attn_pair_batch b;
        assert_ok(attn_epoch_batch(epoch, i, &b));
        sentences += b.batch;
        cells += b.batch * b.target_steps;
        assert_true(b.batch >= 1);
        if (b.batch > 1) assert_true(b.batch * b.target_steps <= options->batch_tokens);
        for (size_t s = 0; s < b.batch; s++) {
            size_t S = (size_t)b.source_lengths[s], T = (size_t)b.target_lengths[s];
            assert_true(S >= 2 && S <= b.source_steps && T >= 2 && T <= b.target_steps);
            tokens += T;
            assert_int_equal(b.source[(S - 1) * b.batch + s], ATTN_ID_EOS);
            assert_int_equal(b.target_out[(T - 1) * b.batch + s], ATTN_ID_EOS);
            assert_int_equal(b.target_in[s], ATTN_ID_BOS);
            for (size_t t = S; t < b.source_steps; t++) assert_int_equal(b.source[t * b.batch + s], ATTN_ID_PAD);
            for (size_t t = 0; t < b.target_steps; t++) {
                if (t + 1 < T) assert_int_equal(b.target_in[(t + 1) * b.batch + s], b.target_out[t * b.batch + s]);
                if (t >= T) assert_int_equal(b.target_out[t * b.batch + s], -1);
                if (t >= T) assert_int_equal(b.target_in[t * b.batch + s], ATTN_ID_PAD);
            }
        }
    }
    assert_int_equal(sentences, epoch->count);
    assert_int_equal(tokens, epoch->target_tokens);
    assert_true(cells < tokens + tokens / 4); /* padding */
}

static int compare_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static void test_every_pair_once(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    attn_corpus *corpus = toy_corpus(ctx, 700, 3);
    attn_tokenizer *tokenizer = toy_tokenizer(ctx, corpus);
    attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
    long alive = memory.alive;
    char **want = calloc(700, sizeof *want), **have = calloc(700, sizeof *have), text[512];
    for (int number = 0; number < 3; number++) {
        assert_ok(attn_epoch_build(&epoch, tokenizer, corpus, &plain, (uint64_t)number));
        assert_int_equal(epoch.count, 700);
        check_batches(&epoch, &plain);
        for (size_t i = 0; i < 700; i++) {
            const attn_pair *pair = attn_corpus_at(corpus, i);
            snprintf(text, sizeof text, "%s\t%s", pair->source, pair->target);
            want[i] = strdup(text);
            example_text(tokenizer, &epoch, i, text, sizeof text);
            have[i] = strdup(text);
        }
        qsort(want, 700, sizeof *want, compare_text);
        qsort(have, 700, sizeof *have, compare_text);
        for (size_t i = 0; i < 700; i++) {
            assert_string_equal(want[i], have[i]);
            free(want[i]);
            free(have[i]);
        }
    }
    free(want);
    free(have);
    attn_epoch_free(&epoch);
    assert_int_equal(memory.alive, alive);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static uint64_t epoch_hash(attn_epoch *epoch) {
    uint64_t hash = 0;
    for (size_t i = 0; i < epoch->batches; i++) {
        attn_pair_batch b;
        assert_ok(attn_epoch_batch(epoch, i, &b));
        hash = hash * 31 + attn_hash_text((const char *)b.source, b.source_steps * b.batch * sizeof *b.source);
        hash = hash * 31 + attn_hash_text((const char *)b.target_out, b.target_steps * b.batch * sizeof *b.target_out);
    }
    return hash;
}

static void test_deterministic(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    attn_corpus *corpus = toy_corpus(ctx, 500, 3);
    attn_tokenizer *tokenizer = toy_tokenizer(ctx, corpus);
    attn_batching_options options = plain;
    options.concatenate = 0.3f;
    options.augment.lowercase_source = options.augment.fold_umlauts = 0.5f;
    attn_epoch a = ATTN_EPOCH_INIT(ctx), b = ATTN_EPOCH_INIT(ctx);
    assert_ok(attn_epoch_build(&a, tokenizer, corpus, &options, 7));
    assert_ok(attn_epoch_build(&b, tokenizer, corpus, &options, 3)); /* what was built before must not matter */
    assert_int_not_equal(epoch_hash(&a), epoch_hash(&b));
    assert_ok(attn_epoch_build(&b, tokenizer, corpus, &options, 7));
    assert_int_equal(epoch_hash(&a), epoch_hash(&b));
    options.seed++;
    assert_ok(attn_epoch_build(&b, tokenizer, corpus, &options, 7));
    assert_int_not_equal(epoch_hash(&a), epoch_hash(&b));
    attn_epoch_free(&a);
    attn_epoch_free(&b);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
}

static size_t words_of(const char *text, char until) {
    size_t n = 1;
    for (; *text && *text != until; text++) n += *text == ' ';
    return n;
}

/* Joined examples: about the part asked for, none longer than allowed, every pair's words still there once. */
static void test_concatenate(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    attn_corpus *corpus = toy_corpus(ctx, 2000, 4);
    attn_tokenizer *tokenizer = toy_tokenizer(ctx, corpus);
    attn_batching_options options = plain;
    options.concatenate = 0.3f;
    options.concatenate_words = 25;
    attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
    assert_ok(attn_epoch_build(&epoch, tokenizer, corpus, &options, 1));
    check_batches(&epoch, &options);
    size_t joined = 0, pairs = 0, words = 0, expected = 0;
    for (size_t i = 0; i < epoch.count; i++) {
        char text[2048];
        example_text(tokenizer, &epoch, i, text, sizeof text);
        size_t stops = 0, target_stops = 0;
        const char *tab = strchr(text, '\t');
        for (const char *at = text; at < tab; at++) stops += *at == '.';
        for (const char *at = tab; *at; at++) target_stops += *at == '.';
        assert_int_equal(stops, target_stops);
        assert_true(stops >= 1 && stops <= 8);
        joined += stops > 1;
        pairs += stops;
        words += words_of(text, '\t');
        if (stops > 1) assert_true(words_of(text, '\t') <= 25 && words_of(tab + 1, 0) <= 25);
    }
    for (size_t i = 0; i < 2000; i++) expected += words_of(attn_corpus_at(corpus, i)->source, 0);
    assert_int_equal(pairs, 2000);
    assert_int_equal(words, expected);
    assert_true(joined * 100 > epoch.count * 25 && joined * 100 < epoch.count * 35);

    options.max_tokens = 12; /* joined examples that are too long fall back to fewer pairs */
    assert_ok(attn_epoch_build(&epoch, tokenizer, corpus, &options, 1));
    size_t longest = 0, alone = 0;
    for (size_t i = 0; i < epoch.count; i++)
        longest = ATTN_MAX(longest, ATTN_MAX(epoch.example[i].source, epoch.example[i].target));
    assert_true(longest <= 13);
    for (size_t i = 0; i < 2000; i++) {
        attn_tokens tokens = ATTN_TOKENS_INIT;
        const attn_pair *pair = attn_corpus_at(corpus, i);
        bool over = false;
        assert_ok(attn_tokenize(tokenizer, &tokens, pair->source, pair->source_bytes, false));
        over |= tokens.count > 12;
        assert_ok(attn_tokenize(tokenizer, &tokens, pair->target, pair->target_bytes, false));
        over |= tokens.count > 12;
        alone += over;
        attn_tokens_free(ctx, &tokens);
    }
    assert_int_equal(epoch.too_long, alone);
    attn_epoch_free(&epoch);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
}

static void test_out_of_memory(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    attn_corpus *corpus = toy_corpus(ctx, 30, 4);
    attn_tokenizer *tokenizer = toy_tokenizer(ctx, corpus);
    attn_batching_options options = plain;
    options.concatenate = 0.3f;
    options.augment.lowercase_source = 0.5f;
    long alive = memory.alive;
    for (long n = 0;; n++) {
        attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
        memory.fail_after = n;
        attn_status status = attn_epoch_build(&epoch, tokenizer, corpus, &options, 0);
        memory.fail_after = -1;
        attn_epoch_free(&epoch);
        assert_int_equal(memory.alive, alive);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
    }
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_pair_once),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_concatenate),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
