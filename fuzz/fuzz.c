/* fuzz.c: see fuzz.h. */
#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __APPLE__
#include <malloc/malloc.h>
#define malloc_usable_size malloc_size
#else
#include <malloc.h>
#endif

static attn_context *context;
static size_t alive, before, most;
static char folder[256];

void fuzz_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}

/* ---- memory -------------------------------------------------------------------------------------- */

static void *allocate(void *user, size_t bytes, size_t alignment) {
    (void)user;
    void *pointer = NULL;
    if (context && bytes > most - (alive - before))
        fuzz_fail("%zu bytes wanted with %zu alive, at most %zu are fine", bytes, alive - before, most);
    if (posix_memalign(&pointer, alignment, bytes ? bytes : 1)) return NULL;
    alive += malloc_usable_size(pointer);
    return pointer;
}

static void release(void *user, void *pointer) {
    (void)user;
    alive -= malloc_usable_size(pointer);
    free(pointer);
}

attn_context *fuzz_begin(size_t most_bytes) {
    if (!context) {
        attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
        options.allocator = (attn_allocator){NULL, allocate, release};
        options.threads = 1;
        attn_context *made;
        if (attn_context_create(&made, &options) != ATTN_OK) fuzz_fail("no context");
        context = made;
    }
    before = alive;
    most = most_bytes + most_bytes / 8 + 4096; /* what malloc rounds up */
    return context;
}

int fuzz_end(void) {
    if (alive != before) fuzz_fail("%zu bytes are alive, expected %zu", alive, before);
    return 0;
}

/* ---- files --------------------------------------------------------------------------------------- */

static void remove_all(const char *path) {
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        char inside[sizeof folder + 256 + 2];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if (snprintf(inside, sizeof inside, "%s/%s", path, entry->d_name) >= (int)sizeof inside) continue;
        if (unlink(inside) != 0) remove_all(inside);
    }
    if (dir) closedir(dir);
    rmdir(path);
}

static void remove_folder(void) { remove_all(folder); }

const char *fuzz_folder(void) {
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "%s/attn-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (!mkdtemp(folder)) fuzz_fail("%s: cannot make the folder", folder);
        atexit(remove_folder);
    }
    return folder;
}

void fuzz_clean(void) {
    remove_all(fuzz_folder());
    if (mkdir(folder, 0700) != 0) fuzz_fail("%s: cannot make the folder again", folder);
}

const char *fuzz_path(const char *name) {
    static char paths[4][sizeof folder + 128];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder(), name);
    return path;
}

const char *fuzz_file(const char *name, const void *data, size_t size) {
    const char *path = fuzz_path(name);
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    if (fd < 0 || (size && write(fd, data, size) != (ssize_t)size) || close(fd) != 0)
        fuzz_fail("%s: cannot write", path);
    return path;
}

void fuzz_touch(const void *data, size_t size) {
    const unsigned char *at = data;
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < size; i++) sum = (unsigned char)(sum ^ at[i]);
}
