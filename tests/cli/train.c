/* train.c: attn train: what it refuses, how it is stopped, how it goes on. */
#include "cli/program.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int set_up(void **state) {
    if (make_folder(state) != 0) return -1;
    write_corpus();
    return 0;
}

static void test_figures(void **state) {
    (void)state;
    const outcome *o = TRAIN_TINY("figures", "--steps", "4", "--valid-steps", "2", "--json");
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 3);
    json_t *root = parse_lines(o);
    assert_string_equal(json_string_value(json_object_get(root, "event")), "done");
    assert_int_equal(json_integer_value(json_object_get(root, "step")), 4);
    json_decref(root);
    assert_non_null(strstr(o->err, "perplexity"));
    assert_non_null(strstr(o->err, "  done: attn translate -m "));
    assert_null(strchr(o->err, '\r')); /* no bar where no terminal is */
    o = TRAIN_TINY("figures", "--steps", "4", "-q");
    assert_code(o, 1);
    assert_says(o, "already holds a training");
    assert_code(TRAIN_TINY("quiet", "--steps", "2", "-q"), 0);
    assert_int_equal(TRAIN_TINY("quiet", "--steps", "2", "--valid-steps", "0", "-q", "--resume")->err_bytes, 0);
}

static void test_precision(void **state) {
    (void)state;
    assert_code(TRAIN_TINY("bf16", "--steps", "4", "-q", "--precision", "bf16"), 0);
    assert_code(TRAIN_TINY("f32", "--steps", "4", "-q", "--precision", "f32"), 0);
    assert_code(TRAIN_TINY("default", "--steps", "4", "-q"), 0);
    assert_true(same_file(in_folder("f32/model.safetensors"), in_folder("default/model.safetensors")));
    assert_false(same_file(in_folder("f32/model.safetensors"), in_folder("bf16/model.safetensors")));
    const outcome *o = TRAIN_TINY("bf16", "--steps", "4", "-q", "--resume");
    assert_code(o, 1);
    assert_says(o, "precision was BF16 in the checkpoint and is F32 now");
    o = TRAIN_TINY("never", "--precision", "f16");
    assert_code(o, 2);
    assert_says(o, "found \"f16\", expected one of f32, bf16");
}

static void test_configs(void **state) {
    (void)state;
    static const struct {
        const char *config, *says;
    } cases[] = {
        {"{\"hidden_size\": \"large\"}", "\"hidden_size\": expected an integer, found a string"},
        {"{\"hidden_size\": 0}", "\"hidden_size\""},
        {"{\"hiden_size\": 8}", "hiden_size"},
        {"{\"hidden_size\": 8,\n \"hidden_size\": 9}", "config.json:2: "},
        {"{\"model_type\": \"lstm\"}", "lstm"},
        {"{\n\n\"hidden_size\": }", "config.json:3: "},
        {"[1]", "expected a JSON object"},
        {"", "config.json:1: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(in_folder("config.json"), cases[i].config, strlen(cases[i].config));
        const outcome *o = RUN("train", "-q", "--config", in_folder("config.json"), "-d", in_folder("train.tsv"), "-o",
                               in_folder("never"));
        assert_code(o, 1);
        assert_says(o, cases[i].says);
    }
    write_file(in_folder("config.json"), "{\"model_type\": \"rnn\"}", 21);
    const outcome *o = RUN("train", "--config", in_folder("config.json"), "--model", "bahdanau", "-d",
                           in_folder("train.tsv"), "-o", in_folder("never"));
    assert_code(o, 2);
    assert_says(o, "--model: found \"bahdanau\", expected \"rnn\"");
    o = TRAIN_TINY("never", "-q", "--set", "hidden_size");
    assert_code(o, 2);
    assert_says(o, "--set: found \"hidden_size\", expected KEY=VALUE");
    o = TRAIN_TINY("never", "-q", "--set", "hidden_size=wide");
    assert_code(o, 1);
    assert_says(o, "expected an integer, found a string");
    assert_int_not_equal(access(in_folder("never"), F_OK), 0); /* nothing was begun */
}

static void test_broken_corpora(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"a\tb\nno tab\n", ":2: found a line without a TAB"},
        {"a\tb\n\xC3(\tb\n", ":2: found 0xC3"},
        {"a\tb\n \tb\n", ":2: found nothing but white space"},
        {"", "found no pair"},
        {"\n\n", "found no pair"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_file(in_folder("broken.tsv"), cases[i].text, strlen(cases[i].text));
        const outcome *o = RUN("train", "-q", "-d", in_folder("broken.tsv"), "-o", in_folder("never2"));
        assert_code(o, 1);
        assert_says(o, "broken.tsv");
        assert_says(o, cases[i].says);
    }
}

static void test_folders_that_cannot_be(void **state) {
    (void)state;
    const outcome *o = TRAIN_TINY("train.tsv/below", "-q", "--steps", "2");
    assert_code(o, 1);
    assert_says(o, "train.tsv");
    if (access("/proc/self", F_OK) != 0) skip();
    o = RUN("train", "-q", "-d", in_folder("train.tsv"), "-o", "/proc/attn/x");
    assert_code(o, 1);
    assert_says(o, "/proc/attn");
}

/* A limit of file sizes stands for the full disk. */
static void test_full_disk(void **state) {
    (void)state;
    char data[128], folder[128], before[160], copy[128];
    snprintf(data, sizeof data, "%s", in_folder("train.tsv"));
    snprintf(folder, sizeof folder, "%s", in_folder("full"));
    snprintf(before, sizeof before, "%s/checkpoint.safetensors", folder);
    snprintf(copy, sizeof copy, "%s", in_folder("copy"));
    const char *const arguments[] = {"train",        "-q",      "-d", data,    "-o",
                                     folder,         "--steps", "4",  "--set", "hidden_size=16",
                                     "--vocab-size", "330",     NULL};
    const outcome *o = run_with(&(conditions){.file_limit = 20000}, arguments);
    assert_code(o, 1);
    assert_says(o, "File too large");
    assert_int_not_equal(access(before, F_OK), 0); /* whole or not there */
    assert_code(run_with(&(conditions){0}, arguments), 0);
    const char *const to[] = {"convert", folder, "-o", copy, NULL};
    o = run_with(&(conditions){.file_limit = 100000}, to);
    assert_code(o, 1);
    assert_says(o, "model.safetensors");
}

/* ---- stopping and going on -------------------------------------------------------------------------------------- */

enum { PIECE = 256 };

/* Starts the training, sends SIGINT as soon as it said that it runs, and waits. The pipe is so narrow that a training
 * of 120 steps cannot end before it is read. */
static int interrupt(const char *const *arguments) {
    int pipes[2], status;
    static char text[1 << 16];
    size_t bytes = 0;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
#ifdef F_SETPIPE_SZ
    fcntl(pipes[0], F_SETPIPE_SZ, 4096);
#endif
    pid_t process = start_program((const int[]){-1, -1, pipes[1]}, NULL, arguments);
    close(pipes[1]);
    bool sent = false;
    for (ssize_t n; (n = read(pipes[0], text + bytes, PIECE)) > 0;) {
        text[bytes += (size_t)n] = 0;
        assert_true(bytes + PIECE < sizeof text);
        if (sent || !strstr(text, "perplexity")) continue;
        kill(process, SIGINT);
        sent = true;
    }
    close(pipes[0]);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    assert_true(sent);
    if (WEXITSTATUS(status) == 1) assert_non_null(strstr(text, "--resume goes on"));
    return WEXITSTATUS(status);
}

static void test_resume_gives_the_same_bytes(void **state) {
    (void)state;
    char data[128], valid[128], whole[128], stopped[128], a[160], b[160];
    snprintf(data, sizeof data, "%s", in_folder("train.tsv"));
    snprintf(whole, sizeof whole, "%s", in_folder("whole"));
    snprintf(stopped, sizeof stopped, "%s", in_folder("stopped"));
    snprintf(valid, sizeof valid, "%s", in_folder("valid.tsv"));
    /* clang-format off */
    const char *arguments[] = {
        "train", "-d", data, "--valid", valid, "--valid-sentences", "1", "--set", "hidden_size=16", "--set",
        "embedding_size=16", "--set", "attention_size=16", "--vocab-size", "330", "--batch-tokens", "40", "--epochs",
        "1000", "--average", "2", "--steps", "120", "--valid-steps", "2", "-o", whole, NULL, NULL};
    /* clang-format on */
    size_t last = 0;
    while (arguments[last]) last++;
    assert_code(run_with(&(conditions){0}, arguments), 0);
    arguments[last - 1] = stopped;
    int code = interrupt(arguments);
    arguments[last] = "--resume";
    assert_int_equal(code, 1);
    code = interrupt(arguments); /* and again */
    assert_true(code == 0 || code == 1);
    assert_code(run_with(&(conditions){0}, arguments), 0);
    static const char *const files[] = {"model.safetensors", "config.json", "tokenizer.json", "best/model.safetensors"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(a, sizeof a, "%s/%s", whole, files[i]);
        snprintf(b, sizeof b, "%s/%s", stopped, files[i]);
        assert_true(same_file(a, b));
    }
    arguments[last - 5] = "121"; /* --steps */
    const outcome *o = run_with(&(conditions){0}, arguments);
    assert_code(o, 1);
    assert_non_null(strstr(o->err, "max_steps"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_configs),
        cmocka_unit_test(test_broken_corpora),
        cmocka_unit_test(test_folders_that_cannot_be),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_resume_gives_the_same_bytes),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
