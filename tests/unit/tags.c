/* Tags of the target language: a token of their own, one for each example, and a translator that obeys them. */
#include "support/toy.h"
#include "support/translator.h"
#include "train/batching.h"

static void test_form(void **state) {
    (void)state;
    static const struct {
        const char *text;
        size_t bytes;
    } cases[] = {{"<2fr> chat", 5}, {"<2deu>", 6}, {"<2pt-br>x", 8}, {"<2zh_hans> y", 10}, {"<2f> x", 0},
                 {"<2FR> x", 0},    {"<2fr x", 0}, {" <2fr> x", 0},  {"<2fran> x", 0},     {"<2pt-> x", 0},
                 {"<2fr", 0},       {"<2", 0},     {"", 0},          {"<3fr> x", 0},       {"<2pt-abcdefghi> x", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (attn_text_tag(cases[i].text, strlen(cases[i].text)) != cases[i].bytes) fail_msg("%s", cases[i].text);
        assert_int_equal(attn_text_tag(cases[i].text, cases[i].bytes ? cases[i].bytes - 1 : 0), 0);
    }
}

static const char *const lines[] = {"<2fr> rot blau", "<2en> rot blau", "rouge bleu", "red blue", "<2fr> blau rot"};
enum { LINES = 5 };

static attn_tokenizer *trained(attn_context *ctx, bool tags) {
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    attn_tokenizer *tokenizer;
    options.vocab_size = 300;
    options.tags = tags;
    assert_ok(attn_tokenizer_train_bpe(&tokenizer, ctx, lines, NULL, LINES, &options));
    return tokenizer;
}

static void check_tokens(attn_context *ctx, const attn_tokenizer *tokenizer) {
    attn_tokens tokens = ATTN_TOKENS_INIT, rest = ATTN_TOKENS_INIT;
    const int32_t fr = attn_tokenizer_find(tokenizer, "<2fr>");
    assert_true(fr >= 260 && attn_tokenizer_is_special(tokenizer, fr));
    assert_ok(attn_tokenize(tokenizer, &tokens, lines[0], strlen(lines[0]), true));
    assert_ok(attn_tokenize(tokenizer, &rest, "rot blau", 8, true));
    assert_int_equal(tokens.token[0].id, fr);
    assert_int_equal(tokens.token[0].word, -1);
    assert_int_equal(tokens.token[0].end, 0);
    assert_string_equal(tokens.text, "rot blau");
    assert_int_equal(tokens.count, rest.count + 1);
    for (size_t i = 0; i < rest.count; i++) {
        assert_int_equal(tokens.token[i + 1].id, rest.token[i].id);
        assert_int_equal(tokens.token[i + 1].first, rest.token[i].first);
        assert_int_equal(tokens.token[i + 1].word, rest.token[i].word);
    }
    static const char *const texts[] = {"rot <2fr>", "<2es> rot", " <2fr> rot"}; /* behind, unknown, not at the start */
    for (size_t i = 0; i < 3; i++) {
        assert_ok(attn_tokenize(tokenizer, &tokens, texts[i], strlen(texts[i]), true));
        for (size_t k = 0; k < tokens.count; k++) assert_int_not_equal(tokens.token[k].id, fr);
    }
    attn_tokens_free(ctx, &tokens);
    attn_tokens_free(ctx, &rest);
}

static void test_tokens(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_tokenizer *tokenizer = trained(ctx, true), *again, *without = trained(ctx, false);
    check_tokens(ctx, tokenizer);
    char folder[64], path[96];
    toy_folder(folder);
    snprintf(path, sizeof path, "%s/tokenizer.json", folder);
    assert_ok(attn_tokenizer_save(tokenizer, path));
    assert_ok(attn_tokenizer_load(&again, ctx, path));
    check_tokens(ctx, again);
    assert_int_equal(attn_tokenizer_find(without, "<2fr>"), -1);
    assert_int_equal(attn_tokenizer_tag(without, NULL, lines[0], strlen(lines[0])), 0);
    attn_bpe_options small = ATTN_BPE_OPTIONS_INIT;
    attn_tokenizer *none;
    small.vocab_size = 262, small.tags = true;
    assert_fails(ctx, attn_tokenizer_train_bpe(&none, ctx, lines, NULL, LINES, &small), ATTN_E_ARGUMENT, "2 tags");
    toy_remove(folder);
    attn_tokenizer_free(tokenizer);
    attn_tokenizer_free(again);
    attn_tokenizer_free(without);
    attn_context_free(ctx);
}

/* ---- a translator into two languages ------------------------------------------------------------------------- */

enum { WORDS = 6, PAIRS = 400 };
static const char *const words[WORDS][3] = {{"rot", "red", "rouge"}, {"blau", "blue", "bleu"}, {"neu", "new", "neuf"},
                                            {"zwei", "two", "deux"}, {"Tag", "day", "jour"},   {"Wort", "word", "mot"}};

static attn_corpus *two_languages(attn_context *ctx, const char *folder) {
    char path[96];
    snprintf(path, sizeof path, "%s/pairs.tsv", folder);
    FILE *file = fopen(path, "w");
    unsigned seed = 1;
    for (int i = 0; i < PAIRS; i++) {
        int pick[3];
        for (int k = 0; k < 3; k++) pick[k] = (int)((seed = seed * 1664525u + 1013904223u) >> 16) % WORDS;
        fprintf(file, "<2%s> %s %s %s.\t%s %s %s.\n", i % 2 ? "fr" : "en", words[pick[0]][0], words[pick[1]][0],
                words[pick[2]][0], words[pick[0]][1 + i % 2], words[pick[1]][1 + i % 2], words[pick[2]][1 + i % 2]);
    }
    fclose(file);
    attn_corpus *corpus;
    const char *paths[] = {path};
    const attn_corpus_options options = ATTN_CORPUS_OPTIONS_INIT;
    assert_ok(attn_corpus_read(&corpus, ctx, paths, 1, &options));
    return corpus;
}

static attn_tokenizer *tokenizer_of(attn_context *ctx, const attn_corpus *corpus) {
    const char *texts[2 * PAIRS];
    for (size_t i = 0; i < PAIRS; i++) {
        texts[2 * i] = attn_corpus_at(corpus, i)->source;
        texts[2 * i + 1] = attn_corpus_at(corpus, i)->target;
    }
    attn_bpe_options options = ATTN_BPE_OPTIONS_INIT;
    attn_tokenizer *tokenizer;
    options.vocab_size = 330, options.tags = true;
    assert_ok(attn_tokenizer_train_bpe(&tokenizer, ctx, texts, NULL, 2 * PAIRS, &options));
    return tokenizer;
}

/* Joined pairs have the tag of all of them, once, and none of the other language. */
static void check_joined(attn_context *ctx, const attn_corpus *corpus, const attn_tokenizer *tokenizer) {
    const attn_batching_options options = {.batch_tokens = 500,
                                           .max_tokens = 100,
                                           .concatenate = 1,
                                           .concatenate_words = 60,
                                           .augment = {sizeof(attn_augment_options), 0.5f, 0.5f, 0.5f, 0.5f},
                                           .seed = 2,
                                           .shuffle = true};
    attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
    const int32_t tag[2] = {attn_tokenizer_find(tokenizer, "<2en>"), attn_tokenizer_find(tokenizer, "<2fr>")};
    size_t joined = 0;
    assert_ok(attn_epoch_build(&epoch, tokenizer, corpus, &options, 0));
    for (size_t i = 0; i < epoch.count; i++) {
        const attn_example *e = &epoch.example[i];
        const int32_t *source = epoch.ids + e->offset;
        const int language = source[0] == tag[1];
        char *text;
        assert_true(source[0] == tag[0] || language);
        for (size_t k = 1; k < e->source; k++) assert_true(source[k] != tag[0] && source[k] != tag[1]);
        assert_ok(attn_detokenize(tokenizer, &text, NULL, source + e->source, e->target, NULL));
        size_t found = 0;
        for (const char *at = text; at; found++, at = strchr(at + 1, ' ')) {}
        joined += found > 3;
        for (int w = 0; w < WORDS; w++)
            if (strcmp(words[w][1], words[w][2])) assert_null(strstr(text, words[w][language ? 1 : 2]));
        attn_text_free(ctx, text);
    }
    assert_true(joined > 20);
    attn_epoch_free(&epoch);
}

static void check_text(attn_context *ctx, const attn_model *model, const attn_tokenizer *tokenizer, const char *text,
                       const char *expected) {
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
    attn_translation out;
    options.split_words = 50;
    assert_ok(attn_translate(model, tokenizer, &out, &text, NULL, 1, &options));
    assert_string_equal(out.hypothesis->text, expected);
    attn_translation_clear(ctx, &out);
}

static void test_two_languages(void **state) {
    (void)state;
    attn_context *ctx = test_context(0);
    char folder[64];
    toy_folder(folder);
    attn_corpus *corpus = two_languages(ctx, folder);
    attn_tokenizer *tokenizer = tokenizer_of(ctx, corpus);
    check_joined(ctx, corpus, tokenizer);
    attn_model *model = toy_model(ctx, attn_tokenizer_size(tokenizer), 48, 1);
    attn_train_options options;
    char out[96];
    snprintf(out, sizeof out, "%s/out", folder);
    toy_options(&options, out, 500);
    options.batch_tokens = 400;
    options.concatenate = 0.3f;
    options.augment = (attn_augment_options){sizeof options.augment, 0, 0, 0, 0};
    if (attn_train(model, tokenizer, corpus, NULL, &options, NULL, NULL) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    check_text(ctx, model, tokenizer, "<2en> zwei Wort neu.", "two word new.");
    check_text(ctx, model, tokenizer, "<2fr> zwei Wort neu.", "deux mot neuf.");
    check_text(ctx, model, tokenizer, "<2fr> Tag blau rot. Wort zwei neu.", "jour bleu rouge. mot deux neuf.");
    toy_remove(folder);
    attn_model_free(model);
    attn_tokenizer_free(tokenizer);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_form), cmocka_unit_test(test_tokens),
                                       cmocka_unit_test(test_two_languages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
