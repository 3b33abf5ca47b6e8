/* generate.c: attn with language models that are one file: continuing, conversations, converting, describing. */
#include "cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *golden(const char *name) {
    static char path[4][512];
    static unsigned turn;
    const char *source = getenv("ATTN_TEST_SOURCE");
    char *out = path[turn++ % 4];
    snprintf(out, sizeof path[0], "%s/tests/golden/gguf/%s.gguf", source ? source : ".", name);
    return out;
}

/* A GGUF file and the folder that is made of it continue a text alike. */
static void test_convert(void **state) {
    (void)state;
    const char *file = golden("llama"), *folder = in_folder("llama");
    const outcome *o = RUN("generate", "-m", file, "--temp", "0", "-n", "20", "the ");
    assert_code(o, 0);
    char *text = strdup(o->out);
    assert_true(strlen(text) > 5);
    assert_code(RUN("convert", "-q", file, "-o", folder), 0);
    o = RUN("generate", "-m", folder, "--temp", "0", "-n", "20", "the ");
    assert_code(o, 0);
    assert_string_equal(o->out, text);
    free(text);
    o = RUN("info", file);
    assert_code(o, 0);
    assert_prints(o, "model_type");
    assert_prints(o, "llama");
    o = RUN("tokenize", "-m", file, "--ids", "the in");
    assert_code(o, 0);
    char *ids = strdup(o->out);
    o = RUN("tokenize", "-m", folder, "--ids", "the in");
    assert_string_equal(o->out, ids);
    free(ids);
    o = RUN("translate", "-m", file, "the");
    assert_code(o, 1);
    assert_says(o, "language model");
    o = RUN("generate", "-m", file, "--tokenizer", "/nonexistent.json", "the");
    assert_code(o, 1);
    assert_says(o, "/nonexistent.json");
    o = RUN("generate", "-m", "/nonexistent.gguf", "the");
    assert_code(o, 1);
    assert_says(o, "/nonexistent.gguf: cannot open");
}

/* As a GGUF file, its template with it: the same text, and the same answer. */
static void test_gguf(void **state) {
    (void)state;
    const char *file = golden("llama");
    char folder[256], again[256];
    snprintf(folder, sizeof folder, "%s", in_folder("folder"));
    snprintf(again, sizeof again, "%s", in_folder("again.gguf"));
    const outcome *o = RUN("generate", "-m", file, "--precision", "f32", "--chat", "--temp", "0", "-n", "20", "the ");
    assert_code(o, 0);
    char *text = strdup(o->out);
    assert_code(RUN("convert", "-q", file, "--to", "gguf", "-o", again), 0);
    assert_code(o = RUN("generate", "-m", again, "--precision", "f32", "--chat", "--temp", "0", "-n", "20", "the "), 0);
    assert_string_equal(o->out, text);
    assert_code(RUN("convert", "-q", again, "-o", folder), 0);
    assert_code(o = RUN("generate", "-m", folder, "--precision", "f32", "--chat", "--temp", "0", "-n", "20", "the "),
                0);
    assert_string_equal(o->out, text);
    assert_code(RUN("convert", "-q", folder, "--to", "gguf", "--dtype", "q8_0", "-o", again), 0);
    assert_code(o = RUN("generate", "-m", again, "-n", "20", "the "), 0);
    free(text);
    o = RUN("convert", folder, "--dtype", "f16", "-o", again);
    assert_code(o, 2);
    assert_says(o, "--dtype f16 belongs to --to gguf");
    o = RUN("convert", file, "--to", "gguf", "-o", "/nonexistent/x.gguf");
    assert_code(o, 1);
    assert_says(o, "/nonexistent/x.gguf");
}

static void test_prompts_that_are_none(void **state) {
    (void)state;
    const outcome *o = RUN("generate", ""); /* the model that ships has no token that texts begin with */
    assert_code(o, 1);
    assert_says(o, "there is no prompt");
    assert_int_equal(o->out_bytes, 0);
    o = run_with(&(conditions){.input = "a\0b", .input_bytes = 3}, (const char *const[]){"generate", "-f", "-", NULL});
    assert_code(o, 1);
    assert_says(o, "(stdin): found a NUL as byte 2, expected text");
    o = RUN_INPUT("ab\xff", "generate", "-f", "-");
    assert_code(o, 1);
    assert_says(o, "(stdin): found 0xFF as byte 3, expected UTF-8");
}

static void test_chat(void **state) {
    (void)state;
    const char *file = golden("llama");
    const outcome *o =
        RUN("generate", "-m", file, "--chat", "--json", "--temp", "0", "-n", "5", "--system", "x", "the");
    assert_code(o, 0);
    json_t *root = parse_lines(o);
    assert_string_equal(json_string_value(json_object_get(root, "prompt")), "the");
    char *first = strdup(json_string_value(json_object_get(root, "text")));
    json_decref(root);
    /* The first of two turns is the same; the second has the first before it. */
    o = RUN_INPUT("the\n\nthe\n", "generate", "-m", file, "--chat", "--json", "--temp", "0", "-n", "5", "--system",
                  "x");
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 2);
    assert_non_null(strstr(o->out, "\"prompt\":\"the\""));
    char *end = strchr(o->out, '\n');
    assert_non_null(end);
    json_error_t error;
    root = json_loadb(o->out, (size_t)(end - o->out), 0, &error);
    assert_string_equal(json_string_value(json_object_get(root, "text")), first);
    json_decref(root);
    free(first);
    o = RUN("generate", "-m", file, "--chat", "--temp", "0", "-n", "5", "the");
    assert_code(o, 0);
    assert_true(strncmp(o->out, "the", 3) != 0 || strlen(o->out) > 4);
    assert_code(RUN("generate", "-m", file, "--chat", "--template", "zephyr", "-n", "3", "the"), 0);
    o = RUN("generate", "-m", file, "--chat", "--template", "alpaca", "the");
    assert_code(o, 1);
    assert_says(o, "no chat template is called \"alpaca\"; known are chatml, ");
    o = RUN("generate", "-m", golden("qwen3"), "--chat", "the");
    assert_code(o, 1);
    assert_says(o, "qwen3.gguf: the model has no chat template");
    assert_code(RUN("generate", "-m", file, "--system", "x", "the"), 2);
    o = RUN("generate", "-m", file, "--chat", "-c", "20", "the the the the the the the the the the the the");
    assert_code(o, 1);
    assert_says(o, "the context length is 20: shorten it");
    o = RUN("generate", "-m", file, "--chat", "-c", "40", "-n", "39", "the");
    assert_code(o, 1);
    assert_says(o, "the context of 40 tokens was full before -n 39 tokens came");
}

/* Each prompt's text is the one that it gives alone, in the order of the prompts, whatever goes on beside it. */
static void test_batch(void **state) {
    (void)state;
    const char *file = golden("llama");
    static const char *const prompts[] = {"the ", "in", "the in the", "a", "and the "}, sizes[][3] = {"1", "2", "4"};
    char alone[4000] = "", lines[200] = "";
    const outcome *o;
    for (size_t i = 0; i < 5; i++) {
        assert_code(o = RUN("generate", "-m", file, "-n", "12", prompts[i]), 0);
        strcat(alone, o->out);
        strcat(lines, prompts[i]);
        strcat(lines, i == 2 ? "\n\n" : "\n");
        if (i == 2) strcat(alone, "\n");
    }
    for (size_t i = 0; i < 3; i++) {
        assert_code(o = RUN_INPUT(lines, "generate", "-m", file, "-n", "12", "--batch", sizes[i]), 0);
        assert_string_equal(o->out, alone);
    }
    write_file(in_folder("prompts"), lines, strlen(lines));
    assert_code(o = RUN("generate", "-m", file, "-n", "12", "--batch", "3", "-f", in_folder("prompts")), 0);
    assert_string_equal(o->out, alone);
    assert_code(o = RUN("generate", "-m", file, "-n", "12", "--batch", "9", "--json", "the ", "in"), 0);
    assert_int_equal(count_lines(o->out), 2);
    assert_prints(o, "{\"prompt\":\"the \",\"text\":\"");

    assert_code(o = RUN("generate", "-m", file, "--chat", "-n", "5", "--system", "x", "the"), 0);
    char *said = strdup(o->out);
    assert_code(
        o = RUN_INPUT("in\nthe\n", "generate", "-m", file, "--chat", "-n", "5", "--system", "x", "--batch", "2"), 0);
    assert_string_equal(o->out + strlen(o->out) - strlen(said), said);
    free(said);

    /* One that is too long is said and leaves the others alone. */
    o = RUN_INPUT("the the the the the the the the the the the the the the the the the the\nthe\n", "generate", "-m",
                  file, "-c", "12", "-n", "3", "--batch", "2", "--json");
    assert_code(o, 1);
    assert_says(o, "(stdin):1: the prompt has ");
    assert_int_equal(count_lines(o->out), 2);
    assert_code(RUN("generate", "-m", file, "--batch", "2", "-p", "the"), 2);
    assert_code(RUN("generate", "-m", file, "--batch", "2", "-f", in_folder("prompts"), "the"), 2);
    o = RUN("generate", "-m", file, "--batch", "2", "-f", "/nonexistent");
    assert_code(o, 1);
    assert_says(o, "/nonexistent: cannot open");
}

/* Prompts that go on for ever, after a blank one, which is printed at once and says that it runs. */
static void test_batch_interrupted(void **state) {
    (void)state;
    static char out[4 << 20];
    size_t bytes = 0;
    int pipes[2], status;
    const char *file = golden("llama");
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t process = start_program((const int[]){-1, pipes[1], -1}, NULL,
                                  (const char *const[]){"generate", "-m", file, "-n", "900000000", "--slide", "--temp",
                                                        "0", "--batch", "3", "--json", "", "the ", "in", NULL});
    close(pipes[1]);
    bool sent = false;
    for (ssize_t n; bytes + 1 < sizeof out && (n = read(pipes[0], out + bytes, sizeof out - 1 - bytes)) > 0;) {
        out[bytes += (size_t)n] = 0;
        if (!sent) kill(process, SIGINT);
        sent = true;
    }
    close(pipes[0]);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status) && sent);
    assert_non_null(strstr(out, "\"end\":\"blank prompt\""));
    assert_non_null(strstr(out, "{\"prompt\":\"the \",\"text\":\""));
    assert_non_null(strstr(out, "{\"prompt\":\"in\",\"text\":\""));
    assert_non_null(strstr(out, "\"end\":\"interrupted\""));
    assert_int_equal(count_lines(out), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convert), cmocka_unit_test(test_gguf),  cmocka_unit_test(test_prompts_that_are_none),
        cmocka_unit_test(test_chat),    cmocka_unit_test(test_batch), cmocka_unit_test(test_batch_interrupted)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
