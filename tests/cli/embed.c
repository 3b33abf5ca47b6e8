/* embed.c: attn embed, and attn show on one text, with the tiny encoder of tests/golden and a tiny language model. */
#include "cli/program.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char encoder[256];

static int set_up(void **state) {
    const char *source = getenv("ATTN_TEST_SOURCE");
    snprintf(encoder, sizeof encoder, "%s/tests/golden/bert/bert", source ? source : ".");
    return make_folder(state);
}

static void test_operands(void **state) {
    (void)state;
    const outcome *o = RUN("embed", "-m", encoder, "a b c");
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 1);
    size_t numbers = 1;
    for (const char *at = o->out; *at; at++) numbers += *at == ' ';
    assert_int_equal(numbers, 12);
    o = RUN("embed", "-m", encoder, "a b", "c", "a b"); /* cosines, 1 of a text and itself */
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 4);
    assert_prints(o, "  1.000  1 a b\n");
    assert_prints(o, "  1.000  3 a b\n");
    json_t *root = parse_lines(RUN("embed", "-m", encoder, "--json", "--cosine", "a b"));
    assert_true(json_number_value(json_array_get(json_array_get(json_object_get(root, "cosine"), 0), 0)) > 0.999999);
    json_decref(root);
    o = RUN("embed", "-m", encoder, "--vectors", "a b", "c", "--pooling", "cls", "--no-normalize");
    assert_int_equal(count_lines(o->out), 2);
}

static void test_lines(void **state) {
    (void)state;
    enum { LINES = 1200 };
    char *text = malloc(LINES * 4), *one;
    size_t at = 0;
    for (size_t i = 0; i < LINES; i++) at += (size_t)sprintf(text + at, i % 2 ? "a b\n" : "c\n");
    one = strdup(RUN("embed", "-m", encoder, "a b")->out);
    const outcome *o = RUN_INPUT(text, "embed", "-m", encoder);
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), LINES);
    const char *second = strchr(o->out, '\n') + 1;
    assert_memory_equal(second, one, strlen(one));
    o = RUN_INPUT(text, "embed", "-m", encoder, "-o", in_folder("x.npy"));
    assert_code(o, 0);
    assert_non_null(strstr(o->err, "x.npy: 1200 vectors of 12"));
    size_t bytes;
    char *file = read_file(in_folder("x.npy"), &bytes);
    assert_int_equal(bytes, 128 + LINES * 12 * 4);
    free(file);
    free(one);
    free(text);
    assert_string_equal(RUN_INPUT("", "embed", "-m", encoder)->out, "");
}

/* What a folder says of pooling goes with its model. */
static void test_convert(void **state) {
    (void)state;
    char copy[160], path[200];
    snprintf(copy, sizeof copy, "%s", in_folder("copy"));
    assert_code(RUN("convert", "-q", encoder, "-o", copy), 0);
    char *mean = strdup(RUN("embed", "-m", copy, "a b")->out),
         *cls = strdup(RUN("embed", "-m", copy, "--pooling", "cls", "a b")->out);
    assert_string_equal(mean, RUN("embed", "-m", encoder, "a b")->out);
    assert_string_not_equal(mean, cls);
    snprintf(path, sizeof path, "%s/1_Pooling/config.json", copy);
    write_file(path, "{\"pooling_mode_cls_token\": true}", 32);
    assert_code(RUN("convert", "-q", copy, "--dtype", "bf16", "-o", in_folder("again")), 0);
    assert_string_equal(RUN("embed", "-m", copy, "a b")->out, cls);
    free(cls);
    cls = strdup(RUN("embed", "-m", in_folder("again"), "--pooling", "cls", "a b")->out);
    assert_string_equal(RUN("embed", "-m", in_folder("again"), "a b")->out, cls);
    free(mean);
    free(cls);
}

static void test_refused(void **state) {
    (void)state;
    char letters[200] = "";
    for (size_t i = 0; i < 60; i++) strcat(letters, "a ");
    const outcome *o = RUN("embed", "-m", encoder, letters);
    assert_code(o, 1);
    assert_says(o, "the text: found 62 tokens, expected at most 40 (--truncate cuts)");
    assert_code(RUN("embed", "-m", encoder, "--truncate", letters), 0);
    o = RUN_INPUT("a\n\xFF\n", "embed", "-m", encoder);
    assert_code(o, 1);
    assert_says(o, "(stdin):2: found 0xFF");
    o = RUN("embed", "a");
    assert_code(o, 2);
    assert_says(o, "-m DIR is missing");
    assert_code(RUN("embed", "-m", encoder, "-o", "x.txt", "a"), 2);
    o = RUN("translate", "-m", encoder, "a");
    assert_code(o, 1);
    assert_says(o, "a bert model is an encoder, expected a translator; attn embed makes vectors of texts with it");
    o = RUN("eval", "-m", encoder, "-d", encoder);
    assert_says(o, "a bert model is an encoder, expected a translator");
    o = RUN("generate", "-m", encoder, "a");
    assert_says(o, "expected a language model");
    o = RUN("train", "--model", "transformer", "--init", encoder, "-d", encoder, "-o", in_folder("out"));
    assert_code(o, 1);
}

static void test_info(void **state) {
    (void)state;
    const outcome *o = RUN("info", encoder);
    assert_code(o, 0);
    assert_prints(o, "bert");
    assert_prints(o, "layers.1.attention_norm.weight F32 (12)");
}

/* ---- attn show on one text --------------------------------------------------------------------------------------- */

/* The rows' and columns' labels, and each row's sum, 1. */
static void check_picture(const outcome *o, const char *const *labels, size_t n) {
    json_t *root = parse_lines(o);
    for (size_t i = 0; i < n; i++) {
        double sum = 0;
        for (size_t k = 0; k < n; k++)
            sum += json_number_value(json_array_get(json_array_get(json_object_get(root, "weights"), i), k));
        assert_true(sum > 0.99999 && sum < 1.00001);
        assert_string_equal(json_string_value(json_array_get(json_object_get(root, "rows"), i)), labels[i]);
        assert_string_equal(json_string_value(json_array_get(json_object_get(root, "columns"), i)), labels[i]);
    }
    assert_int_equal(json_array_size(json_object_get(root, "rows")), n);
    json_decref(root);
}

static void test_show_encoder(void **state) {
    (void)state;
    static const char *const words[] = {"[CLS]", "a", "b", "c", "[SEP]"};
    check_picture(RUN("show", "-m", encoder, "--json", "--layer", "1", "--head", "3", "a b c"), words, 5);
    check_picture(RUN("show", "-m", encoder, "--json", "--kind", "encoder", "a b c"), words, 5);
    const outcome *o = RUN("show", "-m", encoder, "--layer", "3", "a b");
    assert_code(o, 1);
    assert_says(o, "layer 3, head 0: the model has 2 layers of 3 heads");
    o = RUN("show", "-m", encoder, "--kind", "cross", "a b");
    assert_code(o, 2);
    assert_says(o, "found --kind cross, expected encoder or none");
    o = RUN("show", "-m", encoder, "--target", "x", "a b");
    assert_code(o, 2);
    assert_says(o, "a bert model does not translate");
    assert_code(RUN("show", "-m", encoder, "-o", in_folder("bert.png"), "a b"), 0);
}

/* The view of a page on a b: how many layers and heads, and which are the first. */
static void check_page(const char *option, const char *number, int layers, int heads, int first, int first_head) {
    char *path = strdup(in_folder("bert.html"));
    assert_code(RUN("show", "-m", encoder, "-o", path, "a b", option, number), 0);
    char *page = read_file(path, NULL), *words = strstr(page, "id=\"data\">") + 10;
    *strstr(words, "</script>") = 0;
    json_t *root = json_loads(words, 0, NULL), *view = json_array_get(json_object_get(root, "views"), 0);
    const int expected[] = {layers, heads, first, first_head};
    static const char *const keys[] = {"layers", "heads", "first", "firstHead"};
    for (size_t i = 0; i < 4; i++) assert_int_equal(json_integer_value(json_object_get(view, keys[i])), expected[i]);
    assert_int_equal(json_array_size(json_object_get(json_object_get(view, "rows"), "tokens")), 4);
    json_decref(root);
    free(page);
    free(path);
}

static void test_page_of_encoder(void **state) {
    (void)state;
    check_page(NULL, NULL, 2, 3, 1, 1);
    check_page("--layer", "2", 1, 3, 2, 1);
    check_page("--head", "3", 2, 1, 1, 3);
    const outcome *o = RUN("show", "-m", encoder, "--neurons", "a b");
    assert_code(o, 2);
    assert_says(o, "found --neurons, expected -o x.html, x.npz or x.safetensors with it");
    o = RUN("show", "-m", encoder, "--beside", "b", "-o", in_folder("x.png"), "a b");
    assert_code(o, 2);
    assert_says(o, "found --beside, expected -o x.html, x.npz or x.safetensors with it");
    o = RUN("show", "-m", encoder, "--beside-model", encoder, "a b");
    assert_code(o, 2);
    assert_says(o, "found --beside-model, expected -o x.html");
    assert_code(RUN("show", "-m", encoder, "--beside-model", encoder, "-o", in_folder("two.html"), "a b"), 0);
    assert_code(RUN("show", "-m", encoder, "--beside-model", in_folder("nowhere"), "-o", in_folder("two.html"), "a b"),
                1);
    assert_code(RUN("show", "-m", encoder, "--beside", "b", "--neurons", "-o", in_folder("two.npz"), "a b"), 0);
    o = RUN("show", "-m", encoder, "--beside", "b", "--max-source", "3", "-o", in_folder("two.npz"), "b");
    assert_code(o, 0);
    o = RUN("show", "-m", encoder, "--beside", "a b", "--max-source", "3", "-o", in_folder("two.npz"), "b");
    assert_code(o, 1);
    assert_says(o, "--beside: found 4 tokens, expected at most 3 (--max-source)");
    o = RUN("show", "-m", encoder, "-o", in_folder("none.html"), "--head", "4", "a b");
    assert_code(o, 1);
    assert_says(o, "layer 0, head 4: the model has 2 layers of 3 heads");
}

static void test_show_language_model(void **state) {
    (void)state;
    static const char text[] = "the dog and the cat sing and the dog and the cat laugh\n", *words[] = {"the", "dog"};
    static const char *const letters[] = {"t", "h", "e", " ", "d", "o", "g"};
    char model[160];
    write_file(in_folder("text.txt"), text, strlen(text));
    snprintf(model, sizeof model, "%s", in_folder("gpt"));
    assert_code(RUN("train", "-q", "--model", "gpt", "-d", in_folder("text.txt"), "--valid", in_folder("text.txt"),
                    "--steps", "2", "--set", "n_embd=8", "--set", "n_head=2", "--set", "n_layer=1", "--set",
                    "n_positions=16", "-o", model),
                0);
    check_picture(RUN("show", "-m", model, "--json", "--head", "2", "the", "dog"), words, 2);
    check_picture(RUN("show", "-m", model, "--json", "--tokens", "--head", "2", "the", "dog"), letters, 7);
    assert_prints(RUN("show", "-m", model, "the dog"), "who reads");
    const outcome *o = RUN("show", "-m", model, "--kind", "encoder", "the dog");
    assert_code(o, 2);
    assert_says(o, "expected decoder or none");
    o = RUN("show", "-m", model, "the dog and the cat");
    assert_code(o, 1);
    assert_says(o, "the text has 19 tokens, the model's context length is 16");
    o = RUN("show", "-m", model, "--max-source", "3", "the dog");
    assert_says(o, "found 7 tokens, expected at most 3");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operands),        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_refused),         cmocka_unit_test(test_info),
        cmocka_unit_test(test_convert),         cmocka_unit_test(test_show_encoder),
        cmocka_unit_test(test_page_of_encoder), cmocka_unit_test(test_show_language_model),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
