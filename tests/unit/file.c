/* Files that are whole or not there: every system call fails in turn, processes are killed. */
#include "support/allocator.h"
#include "io/file.h"
#include <attn/io.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64];
static attn_file_calls real;

static int make_folder(void **state) {
    (void)state;
    strcpy(folder, "/tmp/attn-test-file-XXXXXX");
    real = attn_file_system;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    attn_file_system = real;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static const char *path_of(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int count_files(void) {
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) n += strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..");
    closedir(dir);
    return n;
}

static size_t read_whole(const char *path, char *out, size_t room) {
    FILE *file = fopen(path, "rb");
    if (!file) return 0;
    size_t n = fread(out, 1, room, file);
    fclose(file);
    return n;
}

/* ---- failing calls -------------------------------------------------------------------------------- */

static int calls_left, call_errno;
static bool short_writes, no_nameless;

static bool fails(void) {
    if (calls_left < 0) return false;
    if (calls_left-- > 0) return false;
    errno = call_errno;
    return true;
}

static int bad_open(const char *path, int flags, mode_t mode) {
#ifdef O_TMPFILE
    if (no_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
#endif
    return fails() ? -1 : real.open(path, flags, mode);
}
static ssize_t bad_write(int fd, const void *data, size_t bytes) {
    if (fails()) return -1;
    return real.write(fd, data, short_writes && bytes > 3 ? 3 : bytes);
}
static int bad_fsync(int fd) { return fails() ? -1 : real.fsync(fd); }
static int bad_close(int fd) { /* a failing close closes */
    int rc = real.close(fd);
    return fails() ? -1 : rc;
}
static int bad_link(int fd, const char *path) { return fails() ? -1 : real.link(fd, path); }
static int bad_rename(const char *from, const char *to) { return fails() ? -1 : real.rename(from, to); }
static const attn_file_calls bad = {bad_open, bad_write, bad_fsync, bad_close, bad_link, bad_rename, unlink};

/* The k-th call fails, for all k, until a write goes through with no failure used. */
static void fail_each(attn_context *ctx, int error) {
    char path[256], content[64];
    strcpy(path, path_of("x"));
    for (int k = 0; k < 200; k++) {
        attn_file_system = real;
        assert_ok(attn_file_write(ctx, path, "old", 3));
        attn_file_system = bad;
        calls_left = k;
        call_errno = error;
        attn_status status = attn_file_write(ctx, path, "the new bytes", 13);
        bool used = calls_left < 0;
        calls_left = -1;
        size_t n = read_whole(path, content, sizeof content);
        assert_int_equal(count_files(), 1);
        if (status == ATTN_OK) assert_true(n == 13 && !memcmp(content, "the new bytes", 13));
        else assert_true((n == 3 && !memcmp(content, "old", 3)) || (n == 13 && !memcmp(content, "the new bytes", 13)));
        if (status != ATTN_OK) {
            assert_int_equal(status, ATTN_E_IO);
            assert_non_null(strstr(attn_error(ctx), folder));
        }
        if (!used) {
            assert_int_equal(status, ATTN_OK);
            assert_true(k >= 5);
            return;
        }
    }
    fail_msg("the calls never ended");
}

static void test_failures(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    const int errors[] = {ENOSPC, EIO, EINTR, EDQUOT};
    for (size_t e = 0; e < sizeof errors / sizeof *errors; e++)
        for (int way = 0; way < 4; way++) {
            short_writes = way & 1;
            no_nameless = way & 2;
            fail_each(ctx, errors[e]);
        }
    short_writes = no_nameless = false;
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static void test_out_of_memory(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    char content[64];
    assert_ok(attn_file_write(ctx, path_of("y"), "old", 3));
    for (int k = 0;; k++) {
        assert_true(k < 50);
        memory.fail_after = k;
        attn_status status = attn_file_write(ctx, path_of("y"), "new", 3);
        memory.fail_after = -1;
        assert_int_equal(read_whole(path_of("y"), content, sizeof content), 3);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_memory_equal(content, "old", 3);
    }
    assert_memory_equal(content, "new", 3);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

/* A file-size limit: what a full disk looks like from inside. */
static void test_full_disk(void **state) {
    (void)state;
    pid_t child = fork();
    if (!child) {
        attn_context *ctx;
        char *large = calloc(1, 1 << 20);
        signal(SIGXFSZ, SIG_IGN);
        if (attn_context_create(&ctx, NULL) != ATTN_OK) _exit(10);
        if (attn_file_write(ctx, path_of("z"), "old", 3) != ATTN_OK) _exit(11);
        struct rlimit limit = {65536, 65536};
        setrlimit(RLIMIT_FSIZE, &limit);
        if (attn_file_write(ctx, path_of("z"), large, 1 << 20) != ATTN_E_IO) _exit(12);
        _exit(0);
    }
    int status;
    char content[8];
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(read_whole(path_of("z"), content, sizeof content), 3);
}

/* A writer that is killed at a random moment leaves one whole version and nothing else. */
static void test_kills(void **state) {
    (void)state;
    enum { SIZE = 1 << 18 };
    static char content[SIZE + 1];
    char path[256];
    strcpy(path, path_of("k"));
    int kills = 0, versions[256] = {0}, extra = 0, window = 4000,
        before = -1; /* microseconds; grows on a busy machine */
    srand(7);
    for (int files = count_files(), rounds = test_rounds(500); kills < rounds; kills++) {
        pid_t child = fork();
        if (!child) {
            attn_context *ctx;
            if (attn_context_create(&ctx, NULL) != ATTN_OK) _exit(1);
            for (unsigned char version = (unsigned char)kills;; version++) {
                memset(content, version, SIZE);
                if (attn_file_write(ctx, path, content, SIZE) != ATTN_OK) _exit(2);
            }
        }
        usleep((useconds_t)(rand() % window));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));
        size_t n = read_whole(path, content, sizeof content);
        const int now = n ? (unsigned char)content[0] : -1;
        window = now == before ? ATTN_MIN(2 * window, 200000) : ATTN_MAX(window / 2, 4000);
        before = now;
        if (!n) continue; /* killed before the first was there */
        assert_int_equal(n, SIZE);
        for (size_t i = 1; i < SIZE; i++) assert_int_equal(content[i], content[0]);
        versions[(unsigned char)content[0]]++;
        extra = ATTN_MAX(extra, count_files() - files - 1);
    }
    assert_true(extra <= 1); /* the one name between link and rename; the next save takes it away */
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    assert_ok(attn_file_write(ctx, path, "end", 3));
    attn_context_free(ctx);
    int different = 0;
    for (int i = 0; i < 256; i++) different += versions[i] > 0;
    assert_true(different > 20); /* it did write */
    char temporary[256];
    snprintf(temporary, sizeof temporary, "%s/.k.tmp", folder);
    assert_int_equal(access(temporary, F_OK), -1);
}

/* One process at a time: a second lock is refused until the first goes. */
static void test_lock(void **state) {
    (void)state;
    attn_context *ctx;
    int first, second;
    assert_int_equal(attn_context_create(&ctx, NULL), ATTN_OK);
    assert_ok(attn_folder_lock(&first, ctx, folder));
    assert_int_equal(attn_folder_lock(&second, ctx, folder), ATTN_E_IO);
    assert_int_equal(second, -1);
    assert_non_null(strstr(attn_error(ctx), "another process"));
    attn_folder_unlock(first);
    assert_ok(attn_folder_lock(&second, ctx, folder));
    attn_folder_unlock(second);
    assert_int_equal(attn_folder_lock(&second, ctx, path_of("absent")), ATTN_E_IO);
    attn_context_free(ctx);
}

static void test_folders(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    assert_ok(attn_folder_make(ctx, path_of("a/b//c")));
    assert_ok(attn_folder_make(ctx, path_of("a/b/c/")));
    struct stat info;
    assert_int_equal(stat(path_of("a/b/c"), &info), 0);
    assert_ok(attn_file_write(ctx, path_of("a/file"), "1", 1));
    assert_int_equal(attn_folder_make(ctx, path_of("a/file")), ATTN_E_IO);
    assert_int_equal(attn_folder_make(ctx, path_of("a/file/d")), ATTN_E_IO);
    assert_int_equal(attn_folder_make(ctx, ""), ATTN_E_ARGUMENT);
    assert_int_equal(attn_file_write(ctx, path_of("none/file"), "1", 1), ATTN_E_IO);
    assert_int_equal(attn_file_write(ctx, path_of("a/"), "1", 1), ATTN_E_ARGUMENT);
    assert_ok(attn_file_write(ctx, path_of("a/empty"), NULL, 0));
    assert_int_equal(stat(path_of("a/empty"), &info), 0);
    assert_int_equal(info.st_size, 0);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failures), cmocka_unit_test(test_out_of_memory), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_kills),    cmocka_unit_test(test_folders),       cmocka_unit_test(test_lock),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
