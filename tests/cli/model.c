/* model.c: what the commands do with models, tiny ones trained on the spot, and with broken input. */
#include "cli/program.h"

#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static char attends[128], fixed[128]; /* folders: a bahdanau and an rnn model */

static int set_up(void **state) {
    if (make_folder(state) != 0) return -1;
    write_corpus();
    snprintf(attends, sizeof attends, "%s", in_folder("attends"));
    snprintf(fixed, sizeof fixed, "%s", in_folder("fixed"));
    assert_code(TRAIN_TINY("attends", "--steps", "150", "-q", "--set", "attention_size=16"), 0);
    assert_code(TRAIN_TINY("fixed", "--steps", "10", "-q", "--model", "rnn"), 0);
    return 0;
}

static const outcome *translate(const char *input, size_t bytes) {
    return run_with(&(conditions){.input = input, .input_bytes = bytes},
                    (const char *const[]){"translate", "-m", attends, "-b", "2", NULL});
}

/* ---- translate -------------------------------------------------------------------------------------------------- */

static void test_one_line_in_one_line_out(void **state) {
    (void)state;
    const outcome *o = translate("Der Hund singt.\n\n   \nEine Frau lacht.", 0);
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 4);
    assert_non_null(strstr(o->out, "\n\n\n"));
    assert_int_equal(o->err_bytes, 0);
    char *first = strdup(o->out);
    first[strcspn(first, "\n") + 1] = 0;
    o = translate("\xEF\xBB\xBF"
                  "Der Hund singt.\r\n",
                  0); /* BOM, CR LF */
    assert_string_equal(o->out, first);
    o = RUN("translate", "-m", attends, "-b", "2", "Der", "Hund", "singt."); /* joined, as echo does */
    assert_string_equal(o->out, first);
    o = RUN("translate", "Der", "-m", attends, "Hund", "-b2", "singt."); /* options behind operands */
    assert_string_equal(o->out, first);
    o = run_with(&(conditions){.input = "Der Hund singt.\n"},
                 (const char *const[]){"translate", "-m", attends, "-b", "2", "-", NULL});
    assert_string_equal(o->out, first);
    free(first);
    assert_code(RUN("translate", "-m", attends, "--", "-5 Grad"), 0);
    assert_string_equal(RUN("translate", "-m", attends, "")->out, "\n");
    assert_string_equal(RUN_INPUT("", "translate", "-m", attends)->out, "");
}

/* --to: one of the models that ship, or a tag of the model at hand. */
static void test_target_language(void **state) {
    (void)state;
    const outcome *o = RUN("translate", "--to", "xx", "Der");
    assert_code(o, 2);
    assert_says(o, "--to: found \"xx\", expected en or fr");
    o = RUN("translate", "-m", attends, "--to", "en", "Der");
    assert_code(o, 1);
    assert_says(o, "was not trained with the tag <2en>");
    static const char pairs[] = "<2en> Der Hund\tdog\n<2fr> Der Hund\tchien\n";
    write_file(in_folder("tagged.tsv"), pairs, sizeof pairs - 1);
    char folder[128];
    snprintf(folder, sizeof folder, "%s", in_folder("tagged"));
    assert_code(RUN("train", "-q", "-d", in_folder("tagged.tsv"), "-o", folder, "--steps", "2", "--vocab-size", "300",
                    "--set", "hidden_size=16"),
                0);
    assert_non_null(strstr(RUN("translate", "-m", folder, "--json", "--to", "en", "Hund")->out, "[\"<2en>\""));
    o = run_with(&(conditions){.input = "Hund\n\nHund\n"},
                 (const char *const[]){"translate", "-m", folder, "--json", "--to", "fr", NULL});
    assert_int_equal(count_lines(o->out), 3);
    const char *first = strstr(o->out, "[\"<2fr>\"");
    assert_true(first && strstr(first + 1, "[\"<2fr>\""));
    assert_code(RUN("translate", "-m", folder, "--to", "es", "Der"), 1);
}

static void test_many_lines(void **state) {
    (void)state;
    enum { LINES = 700 };
    char text[LINES * 20], *one;
    size_t at = 0;
    for (size_t i = 0; i < LINES; i++) at += (size_t)sprintf(text + at, i % 3 ? "Ein Mann\n" : "Die Katze\n");
    const outcome *o = translate("Die Katze\nEin Mann\n", 0);
    one = strdup(o->out);
    char *second = strchr(one, '\n') + 1;
    o = translate(text, at);
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), LINES);
    const char *line = o->out;
    for (size_t i = 0; i < LINES; i++) {
        const char *expected = i % 3 ? second : one;
        assert_memory_equal(line, expected, strcspn(expected, "\n") + 1);
        line = strchr(line, '\n') + 1;
    }
    free(one);
}

/* Who types is told how; who pipes is told nothing. */
static void test_terminal(void **state) {
    (void)state;
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int err[2], status;
    char said[512] = "";
    if (terminal < 0 || grantpt(terminal) || unlockpt(terminal)) skip();
    const int keys = open(ptsname(terminal), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(keys >= 0);
    assert_int_equal(pipe2(err, O_CLOEXEC), 0);
    pid_t process =
        start_program((const int[]){keys, -1, err[1]}, NULL, (const char *const[]){"translate", "-m", attends, NULL});
    close(err[1]);
    assert_int_equal(write(terminal, "Ein Mann\n\4", 10), 10);
    for (ssize_t n, at = 0; (n = read(err[0], said + at, sizeof said - 1 - (size_t)at)) > 0; at += n) {}
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_int_equal(status, 0);
    assert_string_equal(said, "a text a line; Ctrl-D ends\n");
    close(err[0]), close(keys), close(terminal);
    assert_int_equal(RUN_INPUT("Ein Mann\n", "translate", "-m", attends)->err_bytes, 0);
}

/* Another program may wait for the answer to a line before it writes the next. */
static void test_answers_at_once(void **state) {
    (void)state;
    int in[2], out[2], status;
    char answer[256];
    assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
    pid_t process = start_program((const int[]){in[0], out[1], -1}, NULL,
                                  (const char *const[]){"translate", "-m", attends, "-q", NULL});
    close(in[0]);
    for (int i = 0; i < 2; i++) {
        struct pollfd ready = {.fd = out[0], .events = POLLIN};
        assert_int_equal(write(in[1], "Ein Mann\n", 9), 9);
        assert_int_equal(poll(&ready, 1, 30000), 1);
        ssize_t n = read(out[0], answer, sizeof answer);
        assert_true(n > 0);
        assert_int_equal(answer[n - 1], '\n');
    }
    close(in[1]);
    close(out[1]);
    close(out[0]);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_int_equal(status, 0);
}

static void test_bad_lines(void **state) {
    (void)state;
    const outcome *o = translate("Ein Mann\nDer \xC3 Hund\nDie Katze\n", 0);
    assert_code(o, 1);
    assert_says(o, "(stdin):2: found 0xC3 as byte 5, expected UTF-8");
    assert_int_equal(count_lines(o->out), 1);
    o = translate("Ein Mann\nDer\0Hund\n", 18);
    assert_code(o, 1);
    assert_says(o, "(stdin):2: found a NUL as byte 4");
    o = RUN("translate", "-m", attends, "\xFF");
    assert_code(o, 1);
    assert_says(o, "the text: found 0xFF as byte 1, expected UTF-8");
    o = RUN_INPUT("gut\n\xFF\n", "tokenize", "-m", attends);
    assert_code(o, 1);
    assert_says(o, "(stdin):2: found 0xFF");

    enum { BYTES = 10 << 20, WORDS = 1500 };
    char *text = malloc(BYTES);
    assert_non_null(text);
    memset(text, 'a', BYTES);
    memcpy(text, "Ein Mann\n", 9);
    o = translate(text, BYTES); /* 10 MB without a space */
    assert_code(o, 1);
    assert_says(o, "(stdin):2: found 10485751 bytes, expected at most 20000 tokens");
    assert_int_equal(count_lines(o->out), 1);
    o = run_with(&(conditions){.input = text, .input_bytes = BYTES},
                 (const char *const[]){"eval", "-m", attends, "-d", "-", NULL});
    assert_code(o, 1);
    assert_says(o, "without a TAB");
    text[8] = '\t';
    o = run_with(&(conditions){.input = text, .input_bytes = BYTES},
                 (const char *const[]){"score", "-m", attends, "-d", "-", NULL});
    assert_code(o, 1);
    assert_says(o, "(stdin):1: found 10485751 bytes, expected at most 1000 tokens");
    size_t at = 0;
    for (size_t i = 0; i < WORDS; i++) at += (size_t)sprintf(text + at, "x ");
    o = run_with(&(conditions){.input = text, .input_bytes = at},
                 (const char *const[]){"translate", "-m", attends, "--split-words", "0", NULL});
    assert_code(o, 1);
    assert_says(o, "expected at most 1000 (--max-source)");
    o = translate(text, at); /* in pieces */
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 1);
    o = RUN("translate", "-m", attends, "--max-source", "2", "Der Hund singt.");
    assert_code(o, 1);
    assert_says(o, "the text: found ");
    free(text);
}

static void test_json_and_alignment(void **state) {
    (void)state;
    const outcome *o = RUN("translate", "-m", attends, "--json", "--explain", "--n-best", "2", "Der Hund singt.");
    assert_code(o, 0);
    json_t *root = parse_lines(o), *first = json_array_get(json_object_get(root, "translations"), 0);
    assert_string_equal(json_string_value(json_object_get(root, "source")), "Der Hund singt.");
    size_t source = json_array_size(json_object_get(root, "source_tokens"));
    json_t *alignment = json_object_get(first, "alignment");
    assert_int_equal(json_array_size(alignment), json_array_size(json_object_get(first, "tokens")));
    for (size_t i = 0; i < json_array_size(alignment); i++) {
        double sum = 0;
        json_t *row = json_array_get(alignment, i);
        assert_int_equal(json_array_size(row), source);
        for (size_t k = 0; k < source; k++) sum += json_number_value(json_array_get(row, k));
        assert_true(sum > 0.999 && sum < 1.001);
    }
    static const char *const keys[] = {"energy", "context", "state", "log_prob", "score", "text"};
    for (size_t i = 0; i < 6; i++) assert_non_null(json_object_get(first, keys[i]));
    json_decref(root);
    o = RUN("translate", "-m", attends, "--alignment", "hard", "Der Hund singt.");
    assert_code(o, 0);
    const char *tab = strchr(o->out, '\t');
    assert_non_null(tab);
    assert_true(tab[1] >= '0' && tab[1] <= '2' && tab[2] == '-' && tab[3] == '0');
    assert_code(RUN("translate", "-m", attends, "--alignment", "soft", "Der Hund"), 0);
    o = RUN("translate", "-m", attends, "--show", "Der Hund singt.");
    assert_prints(o, "Hund");
    assert_null(strchr(o->out, 0x1b));
    o = run_with(&(conditions){.environment = {"FORCE_COLOR=1"}},
                 (const char *const[]){"translate", "-m", attends, "--show", "Der Hund singt.", NULL});
    assert_prints(o, "\x1b[");
    o = run_with(&(conditions){.environment = {"FORCE_COLOR=0", "TERM=xterm"}},
                 (const char *const[]){"translate", "-m", attends, "--show", "Der Hund singt.", NULL});
    assert_null(strchr(o->out, 0x1b));
    assert_prints(RUN("translate", "-m", attends, "--explain", "Der Hund"), "energies e_ij");
}

static void test_full_disk_keeps_the_exit_code(void **state) {
    (void)state;
    if (access("/dev/full", W_OK) != 0) skip();
    static const char *const arguments[][4] = {
        {"translate", "Hund"}, {"show", "Hund"}, {"tokenize", "Hund"}, {"translate", "--json", "Hund"}};
    for (size_t i = 0; i < 4; i++) {
        const char *const all[] = {arguments[i][0], "-m", attends, arguments[i][1], arguments[i][2], NULL};
        const outcome *o = run_with(&(conditions){.output = "/dev/full"}, all);
        assert_code(o, 1);
        assert_says(o, "(stdout): cannot write: No space left on device");
    }
}

/* ---- figures ---------------------------------------------------------------------------------------------------- */

static void test_eval_and_score(void **state) {
    (void)state;
    const outcome *o = RUN("eval", "-m", attends, "-d", in_folder("train.tsv"), "--json");
    assert_code(o, 0);
    json_t *root = parse_lines(o);
    static const char *const keys[] = {"BLEU", "chrF", "loss", "perplexity"};
    for (size_t i = 0; i < 4; i++) assert_true(json_is_real(json_object_get(root, keys[i])));
    assert_int_equal(json_integer_value(json_object_get(root, "sentences")), 12);
    double nll = json_number_value(json_object_get(root, "loss")) * json_number_value(json_object_get(root, "tokens"));
    json_decref(root);
    o = RUN("score", "-m", attends, "-d", in_folder("train.tsv"), "--json");
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 12);
    json_decref(parse_lines(o));
    o = RUN("score", "-m", attends, "-d", in_folder("train.tsv"));
    double sum = 0;
    char *at = o->out;
    for (int i = 0; i < 12; i++) {
        sum -= strtod(at, &at);
        assert_true(*at == '\t');
        assert_true(strtol(at, &at, 10) > 1 && *at == '\n');
    }
    assert_true(sum / nll > 0.9999 && sum / nll < 1.0001);

    o = RUN("eval", "-m", attends, "-d", in_folder("train.tsv"), "--lengths", "3,6", "--json", "-b", "1");
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 2);
    write_file(in_folder("lengths.jsonl"), o->out, o->out_bytes);
    o = RUN("plot", in_folder("lengths.jsonl"), "-o", "-");
    assert_code(o, 0);
    assert_prints(o, "words");
    o = RUN("eval", "-m", attends, "-d", in_folder("train.tsv"), "--by-length", "-o", in_folder("hypotheses"), "-b",
            "1");
    assert_code(o, 0);
    char *hypotheses = read_file(in_folder("hypotheses"), NULL);
    assert_int_equal(count_lines(hypotheses), 12);
    free(hypotheses);
    o = RUN("eval", "-m", attends, "-d", in_folder("train.tsv"), "--lengths", "900");
    assert_code(o, 1);
    assert_says(o, "fewer than 900 words");

    static const char gold[] = "0-0 1-1\n0-0 1p1 9-9\n0-0\n";
    write_file(in_folder("gold"), gold, sizeof gold - 1);
    o = RUN("eval", "-m", attends, "-d", in_folder("valid.tsv"), "--alignments", in_folder("gold"), "--json");
    assert_code(o, 0);
    root = parse_lines(o);
    assert_true(json_is_real(json_object_get(root, "AER")));
    assert_int_equal(json_integer_value(json_object_get(root, "links_dropped")), 1);
    json_decref(root);
    o = RUN("eval", "-m", attends, "-d", in_folder("valid.tsv"), "--alignments", in_folder("gold"), "--posterior");
    assert_code(o, 0);
    assert_prints(o, "AER ");
    assert_code(RUN("eval", "-m", attends, "-d", in_folder("valid.tsv"), "--posterior"), 2);
    o = RUN("eval", "-m", attends, "-d", in_folder("train.tsv"), "--alignments", in_folder("gold"));
    assert_code(o, 1);
    assert_says(o, "found 3 lines, expected 12");
}

static void test_align(void **state) {
    (void)state;
    const outcome *o = RUN("align", "--split", "-d", in_folder("train.tsv"));
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 12);
    assert_prints(o, "3-3");
    o = RUN("align", "--split", "-d", in_folder("train.tsv"), "--json");
    assert_int_equal(count_lines(o->out), 12);
    json_decref(parse_lines(o));
    o = RUN("align", "--split", "-d", in_folder("train.tsv"), "--gloss", "Hund singt");
    assert_string_equal(o->out, "dog sings\n");
    o = RUN("align", "--split", "-d", in_folder("train.tsv"), "--gloss", "Hund Xylophon", "--json");
    json_t *root = parse_lines(o);
    assert_string_equal(json_string_value(json_object_get(json_array_get(root, 0), "gloss")), "dog");
    assert_true(json_is_null(json_object_get(json_array_get(root, 1), "gloss")));
    json_decref(root);
    assert_code(RUN("align", "-d", in_folder("train.tsv"), "--gold", "x", "--gloss", "y"), 2);
}

/* ---- pictures --------------------------------------------------------------------------------------------------- */

static void test_pictures(void **state) {
    (void)state;
    size_t bytes;
    const outcome *o = RUN("show", "-m", attends, "-o", in_folder("x.png"), "Der Hund singt.");
    assert_code(o, 0);
    assert_int_equal(o->out_bytes, 0);
    char *data = read_file(in_folder("x.png"), &bytes);
    assert_true(bytes > 100);
    assert_memory_equal(data, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 16);
    assert_memory_equal(data + bytes - 8, "IEND\xae\x42\x60\x82", 8);
    free(data);
    assert_code(RUN("show", "-m", attends, "--target", "The dog", "-o", in_folder("x.svg"), "Der", "Hund"), 0);
    data = read_file(in_folder("x.svg"), &bytes);
    assert_non_null(strstr(data, "<svg"));
    assert_non_null(strstr(data, "dog"));
    assert_string_equal(data + bytes - 7, "</svg>\n");
    free(data);
    assert_prints(RUN("show", "-m", attends, "--tokens", "Der Hund"), "</s>");
    json_t *root = parse_lines(RUN("show", "-m", attends, "--json", "--target", "The dog", "Der Hund"));
    assert_int_equal(json_array_size(json_object_get(root, "rows")), 2);
    assert_int_equal(json_array_size(json_object_get(root, "columns")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(root, "rows"), 1)), "dog");
    assert_code(RUN("show", "-m", attends, "-o", in_folder("x.npy"), "--target", "The dog", "Der Hund"), 0);
    data = read_file(in_folder("x.npy"), &bytes);
    assert_memory_equal(data, "\x93NUMPY", 6);
    assert_non_null(strstr(data + 10, "'shape': (2, 2)"));
    for (size_t i = 0; i < 4; i++) {
        float weight;
        memcpy(&weight, data + bytes - 16 + 4 * i, sizeof weight);
        const json_t *row = json_array_get(json_object_get(root, "weights"), i / 2);
        assert_true(fabs(json_number_value(json_array_get(row, i % 2)) - (double)weight) < 1e-6);
    }
    free(data);
    json_decref(root);
    assert_prints(RUN("show", "-m", attends, "--posterior", "--target", "The dog", "Der Hund"), "Hund");
    assert_code(RUN("show", "-m", attends, "--posterior", "Der Hund"), 0);
    o = RUN("show", "-m", attends, "  ");
    assert_code(o, 1);
    assert_says(o, "the text is blank");
    o = RUN("show", "-m", attends, "-o", in_folder("none/x.png"), "Der Hund");
    assert_code(o, 1);
    assert_says(o, "none/x.png");
}

/* A page of all there is, or of what was chosen. */
static void test_page(void **state) {
    (void)state;
    assert_code(RUN("show", "-m", attends, "-o", in_folder("x.html"), "--target", "The dog", "--title", "</script>",
                    "Der Hund"),
                0);
    size_t bytes;
    char *page = read_file(in_folder("x.html"), &bytes), *words = strstr(page, "id=\"data\">") + 10;
    assert_memory_equal(page, "<!doctype html>", 15);
    assert_string_equal(page + bytes - 8, "</html>\n");
    *strstr(words, "</script>") = 0;
    json_t *root = json_loads(words, 0, NULL), *view = json_array_get(json_object_get(root, "views"), 0);
    assert_string_equal(json_string_value(json_object_get(root, "title")), "</script>");
    assert_string_equal(json_string_value(json_object_get(root, "about")), "The dog");
    assert_string_equal(json_string_value(json_object_get(view, "name")), "alignment");
    const json_t *rows = json_object_get(json_object_get(view, "rows"), "words");
    assert_string_equal(json_string_value(json_array_get(rows, 1)), "dog");
    assert_string_equal(json_string_value(json_array_get(rows, 2)), "</s>");
    json_decref(root);
    free(page);
    assert_code(RUN("show", "-m", attends, "-o", in_folder("none/x.html"), "Der Hund"), 1);
    assert_code(RUN("show", "-m", attends, "-o", in_folder("two.html"), "--beside", "Hund", "--target", "The dog",
                    "--posterior", "Der Hund"),
                0);
    page = read_file(in_folder("two.html"), &bytes);
    assert_non_null(strstr(page, "<title>Der Hund → The dog | Hund → The dog</title>"));
    free(page);
    assert_says(RUN("show", "-m", attends, "-o", in_folder("two.html"), "--beside", " ", "Der Hund"),
                "--beside is blank");
    const outcome *o;
    for (int html = 0; html < 2; html++) { /* a recurrent model has no heads */
        o = RUN("show", "-m", attends, "-o", in_folder(html ? "h.html" : "h.npz"), "--neurons", "Der Hund");
        assert_code(o, 1);
        assert_says(o, "the bahdanau model has no heads to look at");
        o = RUN("show", "-m", attends, "-o", in_folder(html ? "h.html" : "h.npz"), "--kind", "encoder", "Der Hund");
        assert_code(o, 1);
        assert_says(o, "the bahdanau model has no heads to look at");
    }
    o = RUN("show", "-m", attends, "-o", "x.htm", "Der Hund");
    assert_code(o, 2);
    assert_says(o, "expected a name that ends in .png, .svg, .npy, .html, .npz or .safetensors");
}

static void test_models_without_attention(void **state) {
    (void)state;
    assert_code(RUN("translate", "-m", fixed, "Der Hund"), 0);
    static const char *const arguments[][3] = {
        {"show", "Der Hund"}, {"translate", "--show", "Hund"}, {"translate", "--alignment=hard", "Hund"}};
    for (size_t i = 0; i < 3; i++) {
        const char *const all[] = {arguments[i][0], "-m", fixed, arguments[i][1], arguments[i][2], NULL};
        const outcome *o = run_with(&(conditions){0}, all);
        assert_code(o, 1);
        assert_says(o, "an rnn model has no attention to look at");
    }
}

static void test_plot(void **state) {
    (void)state;
    char log[160];
    size_t bytes;
    snprintf(log, sizeof log, "%s/log.jsonl", attends);
    const outcome *o = RUN("plot", log);
    assert_code(o, 0);
    assert_prints(o, "attends nll");
    assert_prints(o, "attends valid_nll");
    assert_prints(o, "step");
    assert_prints(RUN("plot", "--y", "bleu", log), "bleu");
    assert_code(RUN("plot", log, "-o", in_folder("p.svg")), 0);
    char *data = read_file(in_folder("p.svg"), &bytes);
    assert_non_null(strstr(data, "<svg"));
    free(data);
    assert_code(RUN("plot", log, "--scale", "2", "-o", in_folder("p.png")), 0);
    data = read_file(in_folder("p.png"), &bytes);
    assert_memory_equal(data, "\x89PNG", 4);
    free(data);
    o = RUN("plot", "--y", "nothing", log);
    assert_code(o, 1);
    assert_says(o, "expected step or words and one of: nothing");
    o = RUN_INPUT("{\"step\":1,\"nll\":2}\n\n{\"step\":\n", "plot", "-");
    assert_code(o, 1);
    assert_says(o, "(stdin):3: found \"{\"step\":\", expected a JSON object");
    o = RUN_INPUT("{\"step\":1,\"nll\":2}\n{\"step\":2,\"nll\":1}\n", "plot", "-");
    assert_code(o, 0);
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static void test_info_and_convert(void **state) {
    (void)state;
    char same[128], path[192], other[192];
    json_t *root;
    json_error_t error;
    const outcome *o = RUN("info", "--json", attends);
    assert_code(o, 0);
    root = json_loads(o->out, 0, &error);
    assert_string_equal(json_string_value(json_object_get(root, "model_type")), "bahdanau");
    assert_int_equal(json_integer_value(json_object_get(root, "hidden_size")), 16);
    json_decref(root);
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", attends);
    assert_prints(RUN("info", path), "attn-checkpoint-1");
    static const char *const types[] = {"f32", "bf16", "i8"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(same, sizeof same, "%s", in_folder(types[i]));
        assert_code(RUN("convert", attends, "--dtype", types[i], "-o", same), 0);
        assert_code(RUN("translate", "-m", same, "Der Hund singt."), 0);
        snprintf(path, sizeof path, "%s/tokenizer.json", attends);
        snprintf(other, sizeof other, "%s/tokenizer.json", same);
        assert_true(same_file(path, other));
        snprintf(path, sizeof path, "%s/model.safetensors", attends);
        snprintf(other, sizeof other, "%s/model.safetensors", same);
        assert_true(same_file(path, other) == (i == 0));
    }
    o = RUN("convert", attends, "-o", in_folder("train.tsv/below"));
    assert_code(o, 1);
    assert_says(o, "train.tsv");
}

static void test_tokenize(void **state) {
    (void)state;
    const outcome *o = RUN_INPUT("Der Hund singt.\n\nEine Frau\n", "tokenize", "--ids", "-m", attends);
    assert_code(o, 0);
    assert_int_equal(count_lines(o->out), 3);
    char *ids = strdup(o->out);
    o = RUN_INPUT(ids, "tokenize", "--decode", "-m", attends);
    assert_code(o, 0);
    assert_string_equal(o->out, "Der Hund singt.\n\nEine Frau\n");
    free(ids);
    o = RUN("tokenize", "--json", "-m", attends, "Der  Hund");
    json_t *root = parse_lines(o);
    assert_string_equal(json_string_value(json_object_get(root, "text")), "Der Hund");
    assert_true(json_array_size(json_object_get(root, "tokens")) > 1);
    json_decref(root);
    static const char *const wrong[] = {"5 x", "99999", "-1", "99999999999999999999", "1.5", "3x"};
    for (size_t i = 0; i < 6; i++) {
        o = RUN("tokenize", "--decode", "-m", attends, "--", wrong[i]);
        assert_code(o, 1);
        assert_says(o, "expected ids from 0 to 329");
    }
    o = RUN_INPUT("5\nx\n", "tokenize", "--decode", "-m", attends);
    assert_says(o, "(stdin):2: found \"x\"");
    assert_code(
        RUN("tokenize", "-q", "--train", in_folder("train.tsv"), "--vocab-size", "300", "-o", in_folder("t.json")), 0);
    o = RUN("tokenize", "--tokenizer", in_folder("t.json"), "Der Hund");
    assert_code(o, 0);
    assert_prints(o, "D");
    write_file(in_folder("picture"), "\x89PNG\n\0\n", 7);
    o = RUN("tokenize", "--train", in_folder("picture"), "-o", in_folder("none.json"));
    assert_code(o, 1);
    assert_says(o, "picture:1: found 0x89 as byte 1, expected UTF-8");
    write_file(in_folder("picture"), "PNG\n\0\n", 6);
    o = RUN("tokenize", "--train", in_folder("picture"), "-o", in_folder("none.json"));
    assert_says(o, "picture:2: found a NUL as byte 1, expected text");
    assert_int_not_equal(access(in_folder("none.json"), F_OK), 0);
}

/* A copy of the model with one file replaced; bytes of `data`, or the first `bytes` of the old one. */
static const char *damaged(const char *file, const char *data, size_t bytes) {
    static const char *const files[] = {"config.json", "tokenizer.json", "model.safetensors"};
    static char copy[128];
    char from[192], to[192];
    snprintf(copy, sizeof copy, "%s", in_folder("damaged"));
    assert_code(RUN("convert", "-q", attends, "-o", copy), 0);
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(files[i], file) != 0) continue;
        snprintf(from, sizeof from, "%s/%s", attends, file);
        snprintf(to, sizeof to, "%s/%s", copy, file);
        char *old = read_file(from, NULL);
        write_file(to, data ? data : old, bytes);
        free(old);
    }
    return copy;
}

static void test_damaged_models(void **state) {
    (void)state;
    static const struct {
        const char *file, *data, *says;
        size_t bytes;
    } cases[] = {
        {"model.safetensors", NULL, "model.safetensors", 0},
        {"model.safetensors", NULL, "model.safetensors", 7},
        {"model.safetensors", NULL, "model.safetensors", 100},
        {"model.safetensors", NULL, "model.safetensors", 20000},
        {"config.json", NULL, "config.json", 20},
        {"config.json", "[]", "config.json", 2},
        {"config.json", "{\"model_type\":\"lstm\"}", "found \"lstm\"", 21},
        {"tokenizer.json", NULL, "tokenizer.json", 100},
        {"tokenizer.json", "{}", "tokenizer.json", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *folder = damaged(cases[i].file, cases[i].data, cases[i].bytes);
        const outcome *o = RUN("translate", "-m", folder, "Der Hund");
        assert_code(o, 1);
        assert_says(o, cases[i].says);
        assert_int_equal(o->out_bytes, 0);
    }
    const outcome *o = RUN("translate", "-m", in_folder("train.tsv"), "Der Hund");
    assert_code(o, 1);
    assert_says(o, "expected a model's folder, a GGUF file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_line_in_one_line_out),
        cmocka_unit_test(test_target_language),
        cmocka_unit_test(test_many_lines),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_answers_at_once),
        cmocka_unit_test(test_bad_lines),
        cmocka_unit_test(test_json_and_alignment),
        cmocka_unit_test(test_full_disk_keeps_the_exit_code),
        cmocka_unit_test(test_eval_and_score),
        cmocka_unit_test(test_align),
        cmocka_unit_test(test_pictures),
        cmocka_unit_test(test_page),
        cmocka_unit_test(test_models_without_attention),
        cmocka_unit_test(test_plot),
        cmocka_unit_test(test_info_and_convert),
        cmocka_unit_test(test_tokenize),
        cmocka_unit_test(test_damaged_models),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
