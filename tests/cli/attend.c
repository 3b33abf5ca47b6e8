/* attend.c: attn attend: numbers against NumPy, the diagram, and what is not a matrix. */
#include "cli/program.h"

#include <stdio.h>

static const char *golden(const char *example, const char *kind) {
    static char path[512];
    snprintf(path, sizeof path, "%s/tests/golden/attend/%s-%s.json", getenv("ATTN_TEST_SOURCE"), example, kind);
    return path;
}

static void test_numbers_are_those_of_numpy(void **state) {
    (void)state;
    static const char *const examples[] = {"six", "dog"};
    static const struct {
        const char *kind, *option, *value;
    } modes[] = {{"simplified", "--simplified", NULL},
                 {"trainable", NULL, NULL},
                 {"heads", "--heads", "2"},
                 {"additive", "--additive", NULL}};
    for (size_t e = 0; e < 2; e++)
        for (size_t m = 0; m < 4; m++)
            for (int causal = 0; causal < 2; causal++) {
                char kind[40];
                if (causal && m == 3) continue;
                snprintf(kind, sizeof kind, "%s%s", modes[m].kind, causal ? "-causal" : "");
                const char *arguments[12] = {"attend", examples[e], "--tolerance", "1e-6", "--check"};
                size_t n = 5;
                arguments[n++] = golden(examples[e], kind);
                if (causal) arguments[n++] = "--causal";
                if (modes[m].option) arguments[n++] = modes[m].option;
                if (modes[m].value) arguments[n++] = modes[m].value;
                const outcome *o = run_with(&(conditions){0}, arguments);
                assert_code(o, 0);
                assert_non_null(strstr(o->err, "numbers agree within 1e-06"));
                assert_int_equal(o->out_bytes, 0);
            }
}

/* Its own numbers agree; one that is changed is named, the first of them. */
static void test_check_names_the_first_that_differs(void **state) {
    (void)state;
    const outcome *o = RUN("attend", "six", "--causal", "--heads", "2", "--json");
    assert_code(o, 0);
    json_t *numbers = parse_lines(o);
    char path[512]; /* in_folder's own is used again */
    snprintf(path, sizeof path, "%s", in_folder("numbers.json"));
    write_file(path, o->out, o->out_bytes);
    assert_code(RUN("attend", "six", "--causal", "--heads", "2", "--tolerance", "1e-7", "--check", path), 0);
    json_t *row = json_array_get(json_array_get(json_object_get(numbers, "weights"), 1), 3);
    json_array_set_new(row, 2, json_real(0.5));
    json_array_set_new(json_array_get(json_object_get(numbers, "context"), 0), 0, json_real(7));
    json_dump_file(numbers, path, 0);
    o = RUN("attend", "six", "--causal", "--heads", "2", "--check", path);
    assert_code(o, 1);
    assert_says(o, "numbers.json: weights[1][3][2] is 0.5, expected 0.19206");
    json_decref(numbers);
    static const struct {
        const char *text, *says;
    } cases[] = {{"{\"weights\": [[1]]}", "weights has 1 rows, expected 6"},
                 {"{\"weights\": [[1],[1],[1],[1],[1],[1]]}", "weights[0] has 1 numbers, expected 6"},
                 {"{\"weight\": []}", "found the key \"weight\", expected weights"},
                 {"{}", "found nothing to compare"},
                 {"[1", ":1:2: "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(path, cases[i].text, strlen(cases[i].text));
        o = RUN("attend", "six", "--check", path);
        assert_code(o, 1);
        assert_says(o, cases[i].says);
    }
}

static void test_every_number_is_printed(void **state) {
    (void)state;
    const outcome *o = RUN("attend", "dog", "--simplified", "--decimals", "6");
    assert_code(o, 0);
    static const char *const parts[] = {"simplified self-attention of 6 tokens",
                                        "\nx  (6 × 3)\n",
                                        "\nscores = x·x  (6 × 6)\n",
                                        "  0.140000  0.120000  0.100000  0.110000  0.150000  0.170000   The\n",
                                        "\nweights = softmax of each row  (6 × 6)\n",
                                        "\ncontext = weights · x  (6 × 3)\n",
                                        "attacks",
                                        "context vectors"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) assert_prints(o, parts[i]);
    o = RUN("attend", "six", "--causal");
    assert_prints(o, "-inf");
    assert_prints(o, "causal self-attention of 6 tokens");
    assert_prints(o, "  1.0000  0.0000  0.0000  0.0000  0.0000  0.0000\n");
    o = RUN("attend", "six", "--additive");
    assert_prints(o, "\nenergies = v · tanh(query + key)  (6 × 6)\n");
    assert_prints(o, "\ncontext = expected annotation: weights · x  (6 × 3)\n");
}

static void test_diagram(void **state) {
    (void)state;
    const outcome *o = RUN("attend", "dog", "--mermaid", "--simplified");
    assert_code(o, 0);
    assert_prints(o, "flowchart LR\n");
    assert_prints(o, "        t2[\"dog\"]\n");
    assert_prints(o, "        x2[\"[0.40, 0.10, 0.20]\"]\n");
    assert_prints(o, "    t2 --> x2\n    ");
    assert_prints(o, "    x6 -- \"0.17\" --> z1\n");
    static const char *const names[] = {"d.svg", "d.png", "d.mmd"}, *const starts[] = {"<?xml", "\x89PNG",
                                                                                       "flowchart LR"};
    for (size_t i = 0; i < 3; i++) {
        size_t bytes;
        assert_code(RUN("attend", "dog", "-o", in_folder(names[i])), 0);
        char *data = read_file(in_folder(names[i]), &bytes);
        assert_memory_equal(data, starts[i], strlen(starts[i]));
        if (i == 0) assert_non_null(strstr(data, ">attacks</text>"));
        free(data);
    }
    /* Tokens are text, whatever they hold. */
    static const char hostile[] = "{\"x\": [[1]], \"tokens\": [\"<b>\\\"]--&;\\u202e\"]}";
    o = RUN_INPUT(hostile, "attend", "-", "--mermaid");
    assert_code(o, 0);
    assert_prints(o, "t1[\"#60;b#62;#34;]--#38;#59;#60;U+202E#62;\"]");
}

static void test_npy(void **state) {
    (void)state;
    char file[128 + 24] = "\x93NUMPY\x01";
    const char header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
    const float x[6] = {1, 2, 3, 4, 5, 6};
    memset(file + 10, ' ', 118);
    memcpy(file + 10, header, sizeof header - 1);
    file[8] = 118, file[127] = '\n';
    memcpy(file + 128, x, sizeof x);
    char path[512];
    snprintf(path, sizeof path, "%s", in_folder("x.npy"));
    write_file(path, file, sizeof file);
    const outcome *o = RUN("attend", path);
    assert_code(o, 0);
    assert_prints(o, "  5.0000  6.0000\n");
    write_file(path, file, sizeof file - 4);
    assert_says(RUN("attend", path), "found 5 numbers, expected 6");
    const float nan = __builtin_nanf("");
    memcpy(file + 128 + 12, &nan, 4);
    write_file(path, file, sizeof file);
    assert_says(RUN("attend", path), "x.npy: x[1][1] is nan, expected a finite number");
    memcpy(file + 10 + 11, "<i4", 3);
    write_file(path, file, sizeof file);
    assert_says(RUN("attend", path), "dtype is <i4");
    write_file(path, file, 9);
    assert_says(RUN("attend", path), "found no .npy header");
}

static void test_what_is_no_matrix(void **state) {
    (void)state;
    const outcome *folder = RUN("attend", "/");
    assert_code(folder, 1);
    assert_says(folder, "/: Is a directory; expected a file or an example: six, dog");
    static const struct {
        const char *text, *option, *says;
    } cases[] = {
        {"{\"x\": [[1, 2], [3]]}", "-q", "(stdin): x[1] has 1 numbers, expected 2 as x[0] has"},
        {"{\"x\": [[1, NaN]]}", "-q", "(stdin):1:"},
        {"{\"x\": [[1, null]]}", "-q", "(stdin): x[0][1] is null, expected a number"},
        {"{\"x\": [[1, 1e300]]}", "-q", "x[0][1] is 1e+300, expected a number that f32 holds"},
        {"{\"x\": [[1, \"2\"]]}", "-q", "x[0][1] is text"},
        {"{\"x\": [1, 2]}", "-q", "x[0] is a number, expected a row"},
        {"{\"x\": []}", "-q", "x is empty, expected an array of rows"},
        {"{\"x\": [[]]}", "-q", "x[0] has 0 numbers, expected 1"},
        {"{\"w\": [[1]]}", "-q", "found the key \"w\""},
        {"{}", "-q", "found no x"},
        {"7", "-q", "(stdin):1:1:"},
        {"{\"x\": [[1, 2]], \"W_q\": [[1], [2]], \"W_v\": [[1], [2]]}", "-q", "found no W_k, expected 2 rows"},
        {"{\"x\": [[1, 2]], \"W_q\": [[1]]}", "-q", "W_q is 1 × 1, expected 2 × any"},
        {"{\"x\": [[1, 2]], \"W_q\": [[1], [2]], \"W_k\": [[1, 2], [2, 3]]}", "-q", "W_k is 2 × 2, expected 2 × 1"},
        {"{\"x\": [[1]], \"tokens\": [\"a\", \"b\"]}", "-q", "expected an array of 1 texts"},
        {"{\"x\": [[1]], \"tokens\": [1]}", "-q", "tokens[0] is a number, expected text"},
        {"{\"x\": [[1]]}", "--additive", "found no W, expected W, U and v"},
        {"{\"x\": [[1]]}", "--heads=2", "x has 1 columns, expected a multiple of 2 heads"},
        {"{\"x\": [[1]], \"x\": [[2]]}", "-q", "(stdin):1:"},
        {"", "-q", "expected JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const outcome *o = RUN_INPUT(cases[i].text[0] ? cases[i].text : " ", "attend", "-", cases[i].option);
        assert_code(o, 1);
        assert_says(o, cases[i].says);
    }
    assert_says(RUN("attend", in_folder("nothing.json")), "expected a file or an example: six, dog");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numbers_are_those_of_numpy),
                                       cmocka_unit_test(test_check_names_the_first_that_differs),
                                       cmocka_unit_test(test_every_number_is_printed),
                                       cmocka_unit_test(test_diagram),
                                       cmocka_unit_test(test_npy),
                                       cmocka_unit_test(test_what_is_no_matrix)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
