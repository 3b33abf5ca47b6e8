/* usage.c: help, man pages, completion; what is typed wrongly; streams that take nothing. */
#include "cli/program.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const commands[] = {"translate", "train",    "eval",     "align",    "score",
                                       "show",      "attend",   "plot",     "tokenize", "info",
                                       "convert",   "selftest", "generate", "embed",    "classify"};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

/* The option names of a help page, each "--name" at its place: behind two spaces and a letter or blanks. */
static size_t help_options(const char *page, char names[64][40]) {
    size_t n = 0;
    for (const char *at = strstr(page, "\noptions:\n"); at; at = strchr(at + 1, '\n')) {
        const char *name = at + 7;
        if (strncmp(at, "\n  ", 3) != 0 || strlen(at) < 9 || strncmp(name, "--", 2) != 0) continue;
        snprintf(names[n++], 40, "%.*s", (int)strcspn(name, " \n"), name);
        assert_true(n < 64);
    }
    return n;
}

static void test_help_of_every_command(void **state) {
    (void)state;
    const outcome *o = RUN("--help");
    assert_code(o, 0);
    for (size_t i = 0; i < COMMANDS; i++) assert_prints(o, commands[i]);
    for (size_t i = 0; i < COMMANDS; i++) {
        char names[64][40], usage[64], example[64];
        o = RUN(commands[i], "--help");
        assert_code(o, 0);
        assert_int_equal(o->err_bytes, 0);
        snprintf(usage, sizeof usage, "\nusage: attn %s [options]", commands[i]);
        snprintf(example, sizeof example, "attn %s", commands[i]);
        assert_prints(o, usage);
        assert_non_null(strstr(o->out, "\nexample:\n"));
        assert_non_null(strstr(strstr(o->out, "\nexample:\n"), example));
        size_t n = help_options(o->out, names);
        assert_true(n >= 3);
        assert_string_equal(names[n - 1], "--help");
        for (size_t a = 0; a < n; a++)
            for (size_t b = 0; b < a; b++) assert_string_not_equal(names[a], names[b]);
        char *page = strdup(o->out);
        assert_string_equal(page, RUN("help", commands[i])->out);
        assert_string_equal(page, RUN(commands[i], "-h")->out);
        free(page);
    }
}

/* Lines of descriptions and options end before the terminal does, or behind one word that is too long. */
static void test_help_fits_the_terminal(void **state) {
    (void)state;
    static const struct {
        const char *columns;
        size_t width;
    } cases[] = {{"COLUMNS=20", 60}, {"COLUMNS=71", 71}, {"COLUMNS=1000", 110}};
    for (size_t i = 0; i < COMMANDS; i++)
        for (size_t k = 0; k < 3; k++) {
            const conditions narrow = {.environment = {cases[k].columns}};
            const outcome *o = run_with(&narrow, (const char *const[]){commands[i], "--help", NULL});
            const char *end = strstr(o->out, "\nexample:\n"), *usage = strstr(o->out, "\nusage:");
            size_t longest = 0;
            for (const char *line = strchr(usage + 1, '\n') + 1; line < end; line = strchr(line, '\n') + 1) {
                size_t width = 0;
                for (const char *at = line; *at != '\n'; at++) width += ((unsigned char)*at & 0xC0) != 0x80;
                if (width > longest) longest = width;
                if (width > cases[k].width) fail_msg("%s, %s: %.*s", commands[i], cases[k].columns, (int)width, line);
            }
            assert_true(longest > 50);
        }
}

static void test_man_pages(void **state) {
    (void)state;
    const outcome *o = RUN("man");
    assert_code(o, 0);
    for (size_t i = 0; i < COMMANDS; i++) {
        char help[64][40];
        size_t n = help_options(RUN(commands[i], "--help")->out, help);
        o = RUN("man", commands[i]);
        assert_code(o, 0);
        assert_int_equal(strncmp(o->out, ".TH ", 4), 0);
        static const char *const sections[] = {".SH NAME\n", ".SH SYNOPSIS\n", ".SH OPTIONS\n", ".SH EXAMPLES\n",
                                               ".SH EXIT STATUS\n"};
        for (size_t s = 0; s < 5; s++) assert_prints(o, sections[s]);
        for (size_t k = 0; k < n; k++) { /* --beam-size is \-\-beam\-size */
            char escaped[128];
            size_t at = 0;
            for (const char *c = help[k]; *c; c++) {
                if (*c == '-') escaped[at++] = '\\';
                escaped[at++] = *c;
            }
            escaped[at] = 0;
            assert_prints(o, escaped);
        }
    }
    assert_code(RUN("man", "nothing"), 2);
}

static void test_completion_is_bash(void **state) {
    (void)state;
    const outcome *o = RUN("completion");
    assert_code(o, 0);
    write_file(in_folder("completion"), o->out, o->out_bytes);
    char shell[512], line[256] = "";
    snprintf(shell, sizeof shell,
             "bash -c '. %s; COMP_WORDS=(attn train --model ba); COMP_CWORD=3; _attn; echo ${COMPREPLY[*]}; "
             "COMP_WORDS=(attn tra); COMP_CWORD=1; _attn; echo ${COMPREPLY[*]}; "
             "COMP_WORDS=(attn show --outp); COMP_CWORD=2; _attn; echo ${COMPREPLY[*]}' 2>&1 | tr '\\n' ';'",
             in_folder("completion"));
    FILE *pipe = popen("command -v bash", "r");
    assert_non_null(pipe);
    bool there = fgets(line, sizeof line, pipe) != NULL;
    pclose(pipe);
    if (!there) skip();
    pipe = popen(shell, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(line, sizeof line, pipe));
    pclose(pipe);
    assert_string_equal(line, "bahdanau;translate train;--output;");
}

static void test_typos(void **state) {
    (void)state;
    const outcome *o = RUN("trnslate", "x");
    assert_code(o, 2);
    assert_says(o, "unknown command \"trnslate\"; did you mean \"translate\"?");
    o = RUN("xyzzyxyzzy");
    assert_code(o, 2);
    assert_null(strstr(o->err, "did you mean"));
    o = RUN("--verison");
    assert_code(o, 2);
    assert_says(o, "did you mean \"--version\"?");
    o = RUN("translate", "--beem-size", "3", "x");
    assert_code(o, 2);
    assert_says(o, "attn translate: unknown option --beem-size; did you mean --beam-size?");
    o = RUN("train", "--model", "bahdanu");
    assert_code(o, 2);
    assert_says(o, "--model: found \"bahdanu\", expected one of rnn, bahdanau");
    assert_says(o, "; did you mean \"bahdanau\"?");
    o = RUN("eval", "-Z");
    assert_code(o, 2);
    assert_says(o, "unknown option -Z");
    o = RUN("translate", "\x1b[31mx\nzz", "--\x1b[31mbad");
    assert_code(o, 2);
    assert_says(o, "\\x1B[31mbad");
    assert_null(strchr(o->err, 0x1b));
    o = RUN("\x89\xC2\x9B\xE2\x82zz\xC3\xA9"); /* C1, and what is no UTF-8, is written out too */
    assert_says(o, "\"\\x89\\xC2\\x9B\\xE2\\x82zz\xC3\xA9\"");
    assert_code(RUN("help", "trian"), 2);
    assert_code(o = RUN("finetune"), 2);
    assert_says(o, "attn train --init");
    assert_says(RUN("buid"), "unknown command \"buid\"; did you mean \"./run build\", in the source?");
    char *help = strdup(RUN("help")->out);
    assert_string_equal(help, RUN("help", "help")->out);
    free(help);
    o = run_with(&(conditions){0}, (const char *const[]){NULL});
    assert_code(o, 2);
    assert_int_equal(o->out_bytes, 0);
}

static void test_wrong_values(void **state) {
    (void)state;
    static const struct {
        const char *arguments[5], *says;
    } cases[] = {
        {{"translate", "-b", "zero"}, "--beam-size: found \"zero\", expected an integer from 1 to 64"},
        {{"translate", "-b", "0"}, "found \"0\""},
        {{"translate", "-b", "1.5"}, "found \"1.5\""},
        {{"translate", "-b", "3x"}, "found \"3x\""},
        {{"translate", "-b", ""}, "found \"\""},
        {{"translate", "-n", "-1"}, "--length-penalty: found \"-1\", expected a number from 0 to 10"},
        {{"translate", "-n", "nan"}, "found \"nan\""},
        {{"translate", "--beam-size"}, "--beam-size needs a value"},
        {{"translate", "-qb"}, "--beam-size needs a value"},
        {{"translate", "--json=1"}, "--json: found a value"},
        {{"translate", "--help=1"}, "--help: found a value"},
        {{"translate", "-t", "5000"}, "--threads: found \"5000\", expected an integer from 1 to 1024"},
        {{"translate", "--alignment", "often"}, "--alignment: found \"often\""},
        {{"translate", "--alignment", "1.5"}, "--alignment: found \"1.5\""},
        {{"translate", "--n-best", "6"}, "--n-best: found 6, expected at most the beam size 5"},
        {{"translate", "-5 Grad"}, "goes behind --"},
        {{"train"}, "-o DIR is missing"},
        {{"train", "-o", "x"}, "--data: found 0 files"},
        {{"train", "-o", "x", "y"}, "found operand \"y\""},

        {{"eval"}, "--data: found 0 files, expected one (source TAB target) or two"},
        {{"eval", "-d", "x", "--lengths", "5,,6"}, "--lengths: found \"5,,6\""},
        {{"eval", "-d", "x", "--lengths", ""}, "--lengths: found \"\""},
        {{"score", "x"}, "found operand \"x\""},
        {{"align"}, "--data: found 0 files"},
        {{"show"}, "found no TEXT"},
        {{"tokenizer", "train"}, "attn tokenize is that, with --train FILE it trains one"},
        {{"show", "-o", "x.gif", "x"}, "expected a name that ends in .png, .svg, .npy"},
        {{"attend"}, "found 0 operands"},
        {{"attend", "six", "--additive", "--causal"}, "found --additive with --causal"},
        {{"attend", "six", "-o", "x.gif"}, "expected a name that ends with .svg"},
        {{"plot"}, "found no LOG"},
        {{"plot", "-o", "x", "y"}, "expected a name that ends in .png or .svg"},
        {{"convert", "x"}, "-o PATH is missing"},
        {{"convert", "-o", "x"}, "found 0 operands"},
        {{"convert", "--dtype", "i4", "x"}, "--dtype: found \"i4\", expected one of f32, bf16, i8"},
        {{"tokenize", "--train", "x"}, "--train needs -o FILE"},
        {{"info", "a", "b"}, "found 2 operands"},
        {{"selftest", "a"}, "found operand \"a\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const outcome *o = run_with(&(conditions){0}, cases[i].arguments);
        assert_code(o, 2);
        assert_says(o, cases[i].says);
        assert_int_equal(o->out_bytes, 0);
    }
}

static void test_environment(void **state) {
    (void)state;
    static const char *const arguments[] = {"info", "--json", NULL};
    const outcome *o = run_with(&(conditions){.environment = {"ATTN_CPU=z80"}}, arguments);
    assert_code(o, 1);
    assert_says(o, "ATTN_CPU: found \"z80\", expected one of this machine's: scalar");
    o = run_with(&(conditions){.environment = {"ATTN_NUM_THREADS=many"}}, arguments);
    assert_code(o, 1);
    assert_says(o, "ATTN_NUM_THREADS: found \"many\", expected an integer from 1 to 1024");
    o = run_with(&(conditions){.environment = {"ATTN_NUM_THREADS=3", "ATTN_CPU=scalar"}}, arguments);
    assert_code(o, 0);
    json_error_t error;
    json_t *root = json_loads(o->out, 0, &error);
    assert_int_equal(json_integer_value(json_object_get(root, "threads")), 3);
    assert_string_equal(json_string_value(json_object_get(root, "cpu_level")), "scalar");
    json_decref(root);
    o = RUN("info", "-t", "2");
    assert_prints(o, "threads                      2\n");
}

static void test_full_disk(void **state) {
    (void)state;
    static const char *const arguments[][3] = {{"--help"},         {"--version"},         {"man", "train"},
                                               {"completion"},     {"train", "-h"},       {"info"},
                                               {"info", "--json"}, {"selftest", "--json"}};
    if (access("/dev/full", W_OK) != 0) skip();
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++) {
        const char *const four[] = {arguments[i][0], arguments[i][1], arguments[i][2], NULL};
        const outcome *o = run_with(&(conditions){.output = "/dev/full"}, four);
        assert_code(o, 1);
        assert_non_null(strstr(o->err, "(stdout): cannot write: No space left on device"));
    }
}

/* head(1) has seen enough: no message, no crash. */
static void test_closed_pipe(void **state) {
    (void)state;
    int pipes[2], status;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    close(pipes[0]);
    pid_t process = start_program((const int[]){-1, pipes[1], -1}, NULL, (const char *const[]){"--help", NULL});
    close(pipes[1]);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void test_missing_files(void **state) {
    (void)state;
    const char *none = in_folder("none");
    static const char *const texts[] = {"translate", "show", "tokenize", "embed"};
    for (size_t i = 0; i < 4; i++) {
        const outcome *o = RUN(texts[i], "-m", none, "Hund");
        assert_code(o, 1);
        assert_says(o, none);
        assert_says(o, "No such file");
    }
    const outcome *o = RUN("info", none);
    assert_code(o, 1);
    assert_says(o, none);
    o = RUN("plot", none);
    assert_code(o, 1);
    assert_says(o, none);
    o = RUN("convert", none, "-o", in_folder("converted"));
    assert_code(o, 1);
    assert_says(o, none);
    o = RUN("align", "-d", none);
    assert_code(o, 1);
    assert_says(o, none);
    o = RUN("train", "-d", none, "-o", in_folder("out"));
    assert_code(o, 1);
    assert_says(o, none);
    o = RUN("train", "-d", none, "--config", in_folder("no.json"), "-o", in_folder("out"));
    assert_code(o, 1);
    assert_says(o, "no.json");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_help_of_every_command),
        cmocka_unit_test(test_help_fits_the_terminal),
        cmocka_unit_test(test_man_pages),
        cmocka_unit_test(test_completion_is_bash),
        cmocka_unit_test(test_typos),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_closed_pipe),
        cmocka_unit_test(test_missing_files),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
