/* instructions.c: prompts with answers from JSON, and what is wrong with such files. */
#include "support/translator.h"
#include <attn/io.h>
#include <attn/text.h>
#include <stdio.h>
#include <unistd.h>

static const char path[] = "instructions-test.json";

static attn_status read_text(attn_context *ctx, attn_corpus **corpus, const char *text, attn_template template,
                             bool preferences) {
    const char *const paths[] = {path};
    assert_ok(attn_file_write(ctx, path, text, strlen(text)));
    const attn_status status = attn_corpus_read_instructions(corpus, ctx, paths, 1, template, preferences);
    unlink(path);
    return status;
}

static void test_forms(void **state) {
    (void)state;
    static const char *const forms[] = {
        "[{\"instruction\": \"Add.\", \"input\": \"1 and 2\", \"output\": \"3\"},\n"
        " {\"instruction\": \"Say ja.\", \"input\": \"\", \"output\": \"ja\", \"more\": [1, {}]}]\n",
        "\xEF\xBB\xBF{\"output\": \"3\", \"instruction\": \"Add.\", \"input\": \"1 and 2\"}\n\n"
        "{\"instruction\": \"Say ja.\", \"input\": null, \"output\": \"ja\"}",
    };
    attn_context *ctx = test_context(1);
    for (size_t i = 0; i < 2; i++) {
        attn_corpus *corpus;
        if (read_text(ctx, &corpus, forms[i], ATTN_TEMPLATE_ALPACA, false) != ATTN_OK) fail_msg("%s", attn_error(ctx));
        assert_int_equal(attn_corpus_count(corpus), 2);
        const attn_pair *pair = attn_corpus_at(corpus, 0);
        assert_string_equal(pair->source, "Below is an instruction that describes a task. Write a response that "
                                          "appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### "
                                          "Input:\n1 and 2\n\n### Response:\n");
        assert_string_equal(pair->target, "3");
        assert_int_equal(pair->source_bytes, strlen(pair->source));
        pair = attn_corpus_at(corpus, 1);
        assert_string_equal(strstr(pair->source, "###"), "### Instruction:\nSay ja.\n\n### Response:\n");
        assert_string_equal(pair->target, "ja");
        assert_int_equal(pair->line, i ? 3 : 2);
        char *prompt;
        size_t bytes;
        assert_ok(attn_prompt(ctx, &prompt, &bytes, ATTN_TEMPLATE_ALPACA, "Say ja.", NULL));
        assert_string_equal(prompt, pair->source);
        attn_text_free(ctx, prompt);
        attn_corpus_free(corpus);
    }
    attn_context_free(ctx);
}

static void test_preferences(void **state) {
    (void)state;
    attn_context *ctx = test_context(1);
    attn_corpus *corpus, *rest;
    char text[2000];
    size_t n = (size_t)sprintf(text, "[");
    for (int i = 0; i < 10; i++)
        n +=
            (size_t)sprintf(text + n, "%s{\"instruction\": \"q%d\", \"chosen\": \"good %d\", \"rejected\": \"bad %d\"}",
                            i ? "," : "", i, i, i);
    sprintf(text + n, "]");
    assert_ok(read_text(ctx, &corpus, text, ATTN_TEMPLATE_CHATML, true));
    assert_int_equal(attn_corpus_count(corpus), 20);
    assert_string_equal(attn_corpus_at(corpus, 4)->source, "<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n");
    assert_string_equal(attn_corpus_at(corpus, 4)->target, "good 2");
    assert_string_equal(attn_corpus_at(corpus, 5)->target, "bad 2");
    assert_ok(attn_corpus_split_pairs(&rest, corpus, 0.25, 2)); /* 2.5 of ten */
    assert_int_equal(attn_corpus_count(corpus), 16);
    assert_int_equal(attn_corpus_count(rest), 4);
    assert_string_equal(attn_corpus_at(rest, 1)->target, "bad 8");
    assert_string_equal(attn_corpus_at(rest, 2)->source, "<|im_start|>user\nq9<|im_end|>\n<|im_start|>assistant\n");
    attn_corpus_free(rest);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", ":1: expected an array of objects, or objects, found the end of the file"},
        {"\n\n  hello", ":3: expected an object, found \"h\""},
        {"[{\"instruction\": \"a\", \"output\": \"b\"},\n 7]", ":2: expected an object, found \"7\""},
        {"[{\"instruction\": \"a\", \"output\": \"b\"}\n\n", ":3: expected a comma or the array's end, found the end"},
        {"[{\"instruction\": \"a\", \"output\": \"b\"}]\nmore", ":2: expected nothing behind the array, found \"m\""},
        {"[\n{\"instruction\": \"a\",\n\"output\": b}]", ":3: invalid token"},
        {"{\"instruction\": \"a\", \"output\": \"b\"}\n{\"instruction\": \"a\"}",
         ":2: \"output\": expected a string, found "
         "nothing"},
        {"{\"instruction\": 7, \"output\": \"b\"}", ":1: \"instruction\": expected a string, found a number"},
        {"{\"instruction\": \"a\", \"input\": [], \"output\": \"b\"}",
         ":1: \"input\": expected a string, found an array"},
        {"{\"instruction\": \"a\", \"output\": \" \\n\"}",
         ":1: \"output\": expected text, found nothing but white space"},
        {"{\"instruction\": \"a\", \"output\": \"\\u0000\"}", ":1: "},
        {"{\"instruction\": \"a\", \"output\": \"\xFF\"}", ":1: "},
    };
    attn_context *ctx = test_context(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        attn_corpus *corpus = NULL;
        assert_int_equal(read_text(ctx, &corpus, cases[i].text, ATTN_TEMPLATE_PLAIN, false), ATTN_E_FORMAT);
        assert_null(corpus);
        if (!strstr(attn_error(ctx), cases[i].says)) fail_msg("case %zu: %s", i, attn_error(ctx));
    }
    attn_corpus *corpus;
    assert_int_equal(read_text(ctx, &corpus, "{\"instruction\": \"a\", \"output\": \"b\"}", ATTN_TEMPLATE_PLAIN, true),
                     ATTN_E_FORMAT);
    assert_non_null(strstr(attn_error(ctx), "\"chosen\": expected a string"));
    assert_int_equal(read_text(ctx, &corpus, "[]", (attn_template)7, true), ATTN_E_ARGUMENT);
    assert_ok(read_text(ctx, &corpus, "[ ]", ATTN_TEMPLATE_PLAIN, true));
    assert_int_equal(attn_corpus_count(corpus), 0);
    attn_corpus_free(corpus);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_preferences),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
