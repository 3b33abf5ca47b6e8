/* driver.c: runs a fuzz target where the compiler has no libFuzzer.
 *
 *     fuzz-TARGET [-runs=N] [-seed=S] [-max_len=BYTES] FILE|FOLDER...
 *
 * Runs each file, then N changes of them, the same for the same seed. On a crash or after 60 seconds on one input that
 * input lies in ./crash-input. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SEEDS = 1024, MAX_FILE = 1 << 22, SECONDS = 60 };

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static input seeds[MAX_SEEDS], current;
static size_t seed_count, max_len = 1 << 16;
static uint64_t random_state;

static uint64_t next_random(void) { /* SplitMix64 */
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static size_t below(size_t n) { return (size_t)(next_random() % n); }

/* ---- crashes ------------------------------------------------------------------------------------- */

const char *__asan_default_options(void); /* the sanitizers ask for these */
const char *__ubsan_default_options(void);
const char *__asan_default_options(void) { return "abort_on_error=1:allocator_may_return_null=1"; }
const char *__ubsan_default_options(void) { return "abort_on_error=1:print_stacktrace=1"; }

static void crashed(int number) {
    static const char text[] = "driver: the input is in ./crash-input\n";
    int fd = open("crash-input", O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd >= 0 && write(fd, current.data, current.size) == (ssize_t)current.size && close(fd) == 0)
        if (write(2, text, sizeof text - 1) < 0) _exit(1);
    signal(number, SIG_DFL);
    raise(number);
}

static void run(const uint8_t *data, size_t size) {
    memcpy(current.data, data, size);
    current.size = size;
    alarm(SECONDS);
    LLVMFuzzerTestOneInput(data, size);
    alarm(0);
}

/* ---- seeds --------------------------------------------------------------------------------------- */

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void add_seeds(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) fuzz_fail("%s: not there", path);
    if (S_ISDIR(info.st_mode)) {
        struct dirent **entries;
        int n = scandir(path, &entries, NULL, by_name);
        for (int i = 0; i < n; i++) {
            char inside[4096];
            bool hidden = entries[i]->d_name[0] == '.';
            if (!hidden && snprintf(inside, sizeof inside, "%s/%s", path, entries[i]->d_name) < (int)sizeof inside)
                add_seeds(inside);
            free(entries[i]);
        }
        if (n >= 0) free(entries);
        return;
    }
    FILE *file = fopen(path, "rb");
    input *seed = &seeds[seed_count];
    if (!file || info.st_size > MAX_FILE || seed_count == MAX_SEEDS) fuzz_fail("%s: cannot read, or too much", path);
    seed->data = malloc((size_t)info.st_size + 1);
    FUZZ_CHECK(seed->data);
    seed->size = fread(seed->data, 1, (size_t)info.st_size, file);
    fclose(file);
    seed_count++;
}

/* ---- changes ------------------------------------------------------------------------------------- */

static void insert(input *in, size_t at, const uint8_t *bytes, size_t n) {
    if (in->size + n > max_len) return;
    memmove(in->data + at + n, in->data + at, in->size - at);
    memmove(in->data + at, bytes, n);
    in->size += n;
}

static void erase(input *in, size_t at, size_t n) {
    memmove(in->data + at, in->data + at + n, in->size - at - n);
    in->size -= n;
}

static void change(input *in) {
    static const char *const tokens[] = {"{",
                                         "}",
                                         "[",
                                         "]",
                                         "\"",
                                         ":",
                                         ",",
                                         "\\",
                                         "\\u0000",
                                         "-1",
                                         "1e999",
                                         "\t",
                                         "\n",
                                         "0",
                                         "99999999999999999999",
                                         "18446744073709551615",
                                         "null",
                                         "\xff",
                                         "\xed\xa0\x80"};
    static const uint8_t edges[] = {0, 1, 0x7f, 0x80, 0xff, 0xfe};
    size_t at = below(in->size + 1), left = in->size - at, n = 1 + below(16);
    uint8_t piece[64];
    const input *other = &seeds[below(seed_count)];
    switch (below(9)) {
    case 0:
        if (left) in->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (left) in->data[at] = (uint8_t)below(256);
        break;
    case 2:
        if (left) in->data[at] = edges[below(sizeof edges)];
        break;
    case 3: erase(in, at, n < left ? n : left); break;
    case 4: /* a piece of it again, elsewhere */
        n = n * 4 < left ? n * 4 : left;
        memcpy(piece, in->data + at, n);
        insert(in, below(in->size + 1), piece, n);
        break;
    case 5: {
        const char *token = tokens[below(sizeof tokens / sizeof *tokens)];
        insert(in, at, (const uint8_t *)token, strlen(token));
        break;
    }
    case 6: /* a digit, where one is near */
        for (size_t i = at; i < in->size && i < at + 40; i++)
            if (in->data[i] >= '0' && in->data[i] <= '9') {
                in->data[i] = (uint8_t)('0' + below(10));
                break;
            }
        break;
    case 7: in->size = below(4) ? in->size : at; break;
    default: /* goes on as another seed */
        if (below(4) == 0 && other->size) {
            size_t from = below(other->size), rest = other->size - from;
            in->size = at;
            insert(in, at, other->data + from, rest < max_len - at ? rest : max_len - at);
        }
    }
}

int main(int argc, char **argv) {
    unsigned long long runs = 0;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "-runs=", 6)) runs = strtoull(argv[i] + 6, NULL, 10);
        else if (!strncmp(argv[i], "-seed=", 6)) random_state = strtoull(argv[i] + 6, NULL, 10);
        else if (!strncmp(argv[i], "-max_len=", 9)) max_len = strtoul(argv[i] + 9, NULL, 10);
        else if (argv[i][0] != '-') add_seeds(argv[i]);
        else fuzz_fail("%s: expected -runs=N, -seed=S, -max_len=BYTES or files", argv[i]);
    }
    size_t room = max_len > MAX_FILE ? max_len : MAX_FILE;
    input in = {malloc(room + 64), 0};
    current.data = malloc(room);
    FUZZ_CHECK(in.data && current.data);
    const int signals[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) signal(signals[i], crashed);

    for (size_t i = 0; i < seed_count; i++) run(seeds[i].data, seeds[i].size);
    if (!seed_count) seeds[seed_count++] = (input){malloc(1), 0};
    for (unsigned long long k = 0; k < runs; k++) {
        const input *seed = &seeds[below(seed_count)];
        in.size = seed->size < max_len ? seed->size : max_len;
        memcpy(in.data, seed->data, in.size);
        for (size_t n = 1 + below(4); n > 0; n--) change(&in);
        uint8_t *exact = malloc(in.size ? in.size : 1); /* so that a byte too far is seen */
        FUZZ_CHECK(exact);
        memcpy(exact, in.data, in.size);
        run(exact, in.size);
        free(exact);
    }
    for (size_t i = 0; i < seed_count; i++) free(seeds[i].data);
    free(in.data);
    free(current.data);
    return 0;
}
