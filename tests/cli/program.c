/* program.c: see program.h. */
#include "cli/program.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_ENVIRONMENT = 16, PATHS = 32, MAX_ARGUMENTS = 64 };

static char folder[64];

/* ---- files ------------------------------------------------------------------------------------------------------ */

int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/attn-cli-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *s, int kind, struct FTW *at) {
    (void)s, (void)kind, (void)at;
    return remove(path);
}

int remove_folder(void **state) {
    (void)state;
    return nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *in_folder(const char *name) {
    static char paths[PATHS][PATH_MAX];
    static size_t next;
    char *path = paths[next++ % PATHS];
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return path;
}

void write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    size_t n = 0, capacity = 1 << 16;
    char *data = malloc(capacity);
    assert_non_null(data);
    if (!file) fail_msg("%s: %s", path, strerror(errno));
    while (file) {
        n += fread(data + n, 1, capacity - n - 1, file);
        if (n < capacity - 1) break;
        data = realloc(data, capacity *= 2);
        assert_non_null(data);
    }
    if (file) fclose(file);
    data[n] = 0;
    if (bytes) *bytes = n;
    return data;
}

bool same_file(const char *a, const char *b) {
    size_t na, nb;
    char *x = read_file(a, &na), *y = read_file(b, &nb);
    bool same = na == nb && !memcmp(x, y, na);
    free(x);
    free(y);
    return same;
}

/* ---- the program ------------------------------------------------------------------------------------------------ */

pid_t start_program(const int descriptors[3], const char *const *environment, const char *const *arguments) {
    static char program[PATH_MAX], share[PATH_MAX];
    const char *env[MAX_ENVIRONMENT] = {share, "LC_ALL=C.UTF-8", "TERM=dumb", "ATTN_NUM_THREADS=1",
                                        "PATH=/usr/bin:/bin"};
    static const char *const kept[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};
    static char values[sizeof kept / sizeof kept[0]][512];
    const char *build = getenv("ATTN_TEST_BUILD"), *source = getenv("ATTN_TEST_SOURCE");
    snprintf(program, sizeof program, "%s/attn", build ? build : ".");
    snprintf(share, sizeof share, "ATTN_SHARE=%s", source ? source : ".");
    size_t n = 5;
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        if (!getenv(kept[i])) continue;
        snprintf(values[i], sizeof values[i], "%s=%s", kept[i], getenv(kept[i]));
        env[n++] = values[i];
    }
    for (; environment && *environment; environment++) {
        size_t name = strcspn(*environment, "="), at = 0;
        while (at < n && strncmp(env[at], *environment, name + 1) != 0) at++;
        env[at] = *environment;
        if (at == n) n++;
    }
    env[n] = NULL;
    char *argv[MAX_ARGUMENTS] = {program};
    for (size_t i = 0; arguments[i]; i++) argv[i + 1] = (char *)arguments[i];

    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGINT);
    sigaddset(&defaults, SIGPIPE);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    assert_int_equal(posix_spawnattr_init(&attributes), 0);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    for (int fd = 0; fd < 3; fd++) {
        if (descriptors[fd] < 0) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
        else posix_spawn_file_actions_adddup2(&actions, descriptors[fd], fd);
    }
    pid_t process = -1;
    int rc = posix_spawn(&process, program, &actions, &attributes, argv, (char **)env);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (rc) fail_msg("%s: %s", program, strerror(rc));
    return process;
}

static int temporary(const char *name, const void *data, size_t bytes) {
    if (bytes) write_file(in_folder(name), data, bytes);
    int fd = open(in_folder(name), O_RDWR | O_CREAT | O_CLOEXEC | (bytes ? 0 : O_TRUNC), 0600);
    assert_true(fd >= 0);
    return fd;
}

const outcome *run_with(const conditions *c, const char *const *arguments) {
    static outcome result;
    struct rlimit before, limit;
    free(result.out);
    free(result.err);
    size_t bytes = c->input_bytes ? c->input_bytes : c->input ? strlen(c->input) : 0;
    int fds[3] = {temporary("stdin", c->input, bytes), -1, temporary("stderr", NULL, 0)};
    fds[1] = c->output ? open(c->output, O_WRONLY | O_CLOEXEC) : temporary("stdout", NULL, 0);
    assert_true(fds[1] >= 0);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    if (c->file_limit) limit.rlim_cur = c->file_limit;
    setrlimit(RLIMIT_FSIZE, &limit);
    pid_t process = start_program(fds, c->environment, arguments);
    setrlimit(RLIMIT_FSIZE, &before);
    int status;
    while (waitpid(process, &status, 0) < 0 && errno == EINTR) {}
    for (int i = 0; i < 3; i++) close(fds[i]);
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
    result.out = c->output ? strdup("") : read_file(in_folder("stdout"), &result.out_bytes);
    result.err = read_file(in_folder("stderr"), &result.err_bytes);
    return &result;
}

/* ---- checks ----------------------------------------------------------------------------------------------------- */

void check_code(const outcome *o, int expected, const char *file, int line) {
    if (o->code == expected) return;
    print_error("%s:%d: exit code %d, expected %d\nstdout: %.2000s\nstderr: %.4000s\n", file, line, o->code, expected,
                o->out, o->err);
    _fail(file, line);
}

size_t count_lines(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

void check_says(const outcome *o, const char *text, const char *file, int line) {
    bool one_line = count_lines(o->err) == 1 && o->err[o->err_bytes - 1] == '\n';
    if (strstr(o->err, text) && !strncmp(o->err, "attn", 4) && one_line) return;
    print_error("%s:%d: expected one line of stderr with: %s\nfound: %.4000s\n", file, line, text, o->err);
    _fail(file, line);
}

void check_prints(const outcome *o, const char *text, const char *file, int line) {
    if (strstr(o->out, text)) return;
    print_error("%s:%d: expected in stdout: %s\nfound: %.4000s\nstderr: %.1000s\n", file, line, text, o->out, o->err);
    _fail(file, line);
}

json_t *parse_lines(const outcome *o) {
    json_t *last = NULL;
    for (const char *at = o->out; *at;) {
        size_t n = strcspn(at, "\n");
        json_error_t error;
        json_decref(last);
        last = json_loadb(at, n, 0, &error);
        if (!last) fail_msg("no JSON: %s: %.200s", error.text, at);
        at += n + (at[n] == '\n');
    }
    if (!last) fail_msg("expected JSON, found nothing; stderr: %s", o->err);
    return last;
}

/* ---- a tiny model ----------------------------------------------------------------------------------------------- */

void write_corpus(void) {
    static const char *const nouns[][2] = {
        {"Der Hund", "The dog"}, {"Die Katze", "The cat"}, {"Ein Mann", "A man"}, {"Eine Frau", "A woman"}};
    static const char *const verbs[][2] = {{"schläft", "sleeps"}, {"singt", "sings"}, {"lacht", "laughs"}};
    char text[2048];
    size_t at = 0, first = 0;
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 3; k++) {
            at += (size_t)snprintf(text + at, sizeof text - at, "%s %s.\t%s %s.\n", nouns[i][0], verbs[k][0],
                                   nouns[i][1], verbs[k][1]);
            if (i == 0) first = at;
        }
    write_file(in_folder("train.tsv"), text, at);
    write_file(in_folder("valid.tsv"), text, first);
}

const outcome *train_tiny(const char *name, const char *const *more) {
    const char *arguments[MAX_ARGUMENTS] = {"train",
                                            "--set",
                                            "hidden_size=16",
                                            "--set",
                                            "embedding_size=16",
                                            "--vocab-size",
                                            "330",
                                            "--batch-tokens",
                                            "40",
                                            "--lr",
                                            "0.01",
                                            "--warmup",
                                            "10",
                                            "--epochs",
                                            "1000",
                                            "--valid-sentences",
                                            "3",
                                            "-d"};
    size_t n = 0;
    char data[PATH_MAX], valid[PATH_MAX], output[PATH_MAX];
    snprintf(data, sizeof data, "%s", in_folder("train.tsv"));
    snprintf(valid, sizeof valid, "%s", in_folder("valid.tsv"));
    snprintf(output, sizeof output, "%s", in_folder(name));
    while (arguments[n]) n++;
    arguments[n++] = data;
    arguments[n++] = "--valid";
    arguments[n++] = valid;
    arguments[n++] = "-o";
    arguments[n++] = output;
    for (; *more; more++) arguments[n++] = *more;
    return run_with(&(conditions){0}, arguments);
}
