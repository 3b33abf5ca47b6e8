/* attend.c: vectors for `attn attend`, and numbers to compare with. The first byte chooses .npy or JSON and the kind of
 * attention; after a byte of 1, which JSON cannot have, come the numbers. What is refused is refused with a sentence
 * that begins with the file's name; what is accepted is finite, fits together, and can be computed or is refused too.
 */
#include "cli/attend.h"
#include "fuzz.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static attn_context *context;
static char said[4096];

/* ---- what the reader needs of the program ------------------------------------------------------------- */

bool cli_quiet;
const command *const commands[] = {NULL};

attn_context *cli_context(void) { return context; }
void cli_set_threads(int threads) { (void)threads; }
terminal cli_terminal(FILE *stream) { return (terminal){.width = stream ? 80 : 0}; }

static void say(const char *format, va_list list) { vsnprintf(said, sizeof said, format, list); }

int cli_fail(const command *c, const char *format, ...) {
    va_list list;
    (void)c;
    va_start(list, format);
    say(format, list);
    va_end(list);
    return EXIT_FAILED;
}
int cli_wrong_use(const command *c, const char *format, ...) {
    (void)c;
    fuzz_fail("wrong use: %s", format);
    return EXIT_WRONG_USE;
}
void cli_note(const char *format, ...) {
    va_list list;
    va_start(list, format);
    say(format, list);
    va_end(list);
}
int cli_fail_status(const command *c) { return cli_fail(c, "%s", attn_error(context)); }
int cli_fail_memory(const command *c) {
    fuzz_fail("memory for what is small");
    return cli_fail(c, " ");
}
bool cli_ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* ---- the target --------------------------------------------------------------------------------------- */

static void check_matrix(const matrix *m) {
    if (!m->x) return;
    FUZZ_CHECK(m->rows >= 1 && m->rows <= ATTEND_MOST && m->columns >= 1 && m->columns <= ATTEND_MOST);
    for (size_t i = 0; i < m->rows * m->columns; i++) FUZZ_CHECK(isfinite(m->x[i]));
}

static void check_input(const attend_input *in) {
    const matrix *all[] = {&in->x, &in->w_q, &in->w_k, &in->w_v, &in->s, &in->w, &in->u, &in->v};
    FUZZ_CHECK(in->x.x);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) check_matrix(all[i]);
    for (size_t i = 0; in->tokens && i < in->x.rows; i++) fuzz_touch(in->tokens[i], strlen(in->tokens[i]));
}

static void compute(const attend_input *in, unsigned kind, const char *numbers) {
    const attend_choice alone = {.additive = true, .heads = 1}; /* the program refuses it with anything else */
    const attend_choice choice = kind & 8 ? alone : (attend_choice){kind & 2, kind & 4, false, 1 + (kind >> 4 & 3)};
    attend_work work;
    said[0] = 0;
    if (attend_compute(NULL, &work, in, &choice)) {
        for (size_t i = 0; i < work.n; i++) {
            const matrix *m = &work.result[i].m;
            fuzz_touch(m->x, m->rows * m->columns * sizeof *m->x);
        }
        fuzz_touch(work.mean, work.rows * work.keys * sizeof *work.mean);
        if (numbers) {
            const int code = attend_check(NULL, &work, numbers, 1e-4);
            FUZZ_CHECK((code == GO_ON || code == EXIT_FAILED) && strstr(said, numbers) == said);
        }
    } else {
        FUZZ_CHECK(said[0]);
    }
    attend_free_work(&work);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    context = fuzz_begin((size_t)256 << 20); /* the workspace of 1024 tokens */
    const unsigned kind = *data++;
    const bool npy = kind & 1;
    size--;
    const uint8_t *split = npy ? NULL : memchr(data, 1, size);
    const char *numbers = split ? fuzz_file("numbers.json", split + 1, size - 1 - (size_t)(split - data)) : NULL;
    const char *path = fuzz_file(npy ? "x.npy" : "x.json", data, split ? (size_t)(split - data) : size);
    attend_input in;
    said[0] = 0;
    if (attend_read(NULL, &in, path)) {
        check_input(&in);
        compute(&in, kind, numbers);
    } else {
        FUZZ_CHECK(strstr(said, path) == said);
    }
    attend_free_input(&in);
    return fuzz_end();
}
