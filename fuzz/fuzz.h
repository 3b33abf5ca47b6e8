/* fuzz.h: what the fuzz targets share: a context that counts its memory, and files made of the input.
 *
 *     int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
 *         attn_context *ctx = fuzz_begin(4 * size + (1 << 20));      // bytes that may be alive at a time
 *         const char *path = fuzz_file("x.json", data, size);
 *         ...
 *         return fuzz_end();                                         // everything was released
 *     }
 *
 * A target ends by abort when something that must hold does not; the sanitizers find the rest. With clang's libFuzzer
 * the program is its usual one; elsewhere driver.c takes its place and understands the same arguments. */
#ifndef ATTN_FUZZ_H
#define ATTN_FUZZ_H

#include <attn/attn.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One context for all inputs, with one thread. */
attn_context *fuzz_begin(size_t most_bytes);
/* Aborts if memory of the context is alive that was not before. Gives 0. */
int fuzz_end(void);
/* Aborts with a sentence. */
void fuzz_fail(const char *format, ...) ATTN_PRINTF(1, 2);
#define FUZZ_CHECK(condition)                                                             \
    do {                                                                                  \
        if (!(condition)) fuzz_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* A folder of this process, in memory where the system has such; removed at the end. */
const char *fuzz_folder(void);
void fuzz_clean(void); /* empties it */
/* Its path of a name, valid until four more were asked for. */
const char *fuzz_path(const char *name);
/* Writes the bytes there. Gives the path. */
const char *fuzz_file(const char *name, const void *data, size_t size);
/* Reads every byte, so that a sanitizer sees one that is not there. */
void fuzz_touch(const void *data, size_t size);

#endif
