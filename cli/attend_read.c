/* attend_read.c: vectors and matrices from JSON, .npy or the notes. Every message names file, place, found, expected.
 */
#include "attend.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the notes' examples ---------------------------------------------------------------------------------------- */

static const char six[] = "{\"x\": [[0.35, 0.15, 0.89], [0.97, 0.80, 0.30], [0.65, 0.34, 0.24],"
                          "         [0.20, 0.87, 0.34], [0.86, 0.13, 0.05], [0.10, 0.20, 0.30]],"
                          " \"W_q\": [[0.30, 0.52], [0.25, 0.69], [0.07, 0.87]],"
                          " \"W_k\": [[0.14, 0.10], [0.18, 0.72], [0.12, 0.58]],"
                          " \"W_v\": [[0.08, 0.20], [0.32, 0.40], [0.12, 0.91]],"
                          " \"W\": [[0.5, -0.3, 0.8, 0.1], [-0.2, 0.7, 0.4, -0.6], [0.9, 0.2, -0.5, 0.3]],"
                          " \"U\": [[-0.4, 0.6, 0.2, 0.7], [0.8, -0.1, 0.5, 0.3], [0.1, 0.9, -0.7, 0.4]],"
                          " \"v\": [0.6, -0.8, 0.3, 0.9]}";
static const char dog[] =
    "{\"tokens\": [\"The\", \"dog\", \"attacks\", \"the\", \"wild\", \"cat\"],"
    " \"x\": [[0.1, 0.2, 0.3], [0.4, 0.1, 0.2], [0.3, 0.2, 0.1], [0.2, 0.3, 0.1], [0.1, 0.4, 0.2], [0.3, 0.1, 0.4]],"
    " \"W_q\": [[0.5, -0.2], [0.1, 0.8], [-0.4, 0.3]],"
    " \"W_k\": [[0.6, 0.1], [-0.3, 0.7], [0.2, -0.5]],"
    " \"W_v\": [[0.9, 0.2], [0.1, 0.4], [-0.6, 0.8]],"
    " \"W\": [[0.5, -0.3, 0.8, 0.1], [-0.2, 0.7, 0.4, -0.6], [0.9, 0.2, -0.5, 0.3]],"
    " \"U\": [[-0.4, 0.6, 0.2, 0.7], [0.8, -0.1, 0.5, 0.3], [0.1, 0.9, -0.7, 0.4]],"
    " \"v\": [0.6, -0.8, 0.3, 0.9]}";
const char *const attend_examples[] = {"six", "dog", NULL};
static const char *const example_texts[] = {six, dog};

/* ---- JSON ----------------------------------------------------------------------------------------------------------
 */

static const char *kind_of(const json_t *j) {
    static const char *const names[] = {"an object", "an array", "text",  "a number",
                                        "a number",  "true",     "false", "null"};
    return j ? names[json_typeof(j)] : "nothing";
}

static bool take_number(const command *c, const char *file, const char *place, const json_t *j, float *to) {
    if (!json_is_number(j)) return cli_fail(c, "%s: %s is %s, expected a number", file, place, kind_of(j)) == EXIT_DONE;
    const double x = json_number_value(j);
    *to = (float)x;
    if (isfinite(*to)) return true;
    return cli_fail(c, "%s: %s is %g, expected a number that f32 holds", file, place, x) == EXIT_DONE;
}

static bool new_matrix(const command *c, matrix *m, size_t rows, size_t columns) {
    *m = (matrix){malloc((rows * columns + 1) * sizeof(float)), rows, columns};
    return m->x || cli_fail_memory(c) == EXIT_DONE;
}

static bool take_matrix(const command *c, const char *file, const char *name, const json_t *j, matrix *m) {
    char place[96];
    const size_t rows = json_array_size(j), columns = json_array_size(json_array_get(j, 0));
    if (!json_is_array(j) || rows == 0)
        return cli_fail(c, "%s: %s is %s, expected an array of rows", file, name, rows ? kind_of(j) : "empty") ==
               EXIT_DONE;
    if (rows > ATTEND_MOST || columns > ATTEND_MOST)
        return cli_fail(c, "%s: %s is %zu × %zu, expected at most %d × %d", file, name, rows, columns, ATTEND_MOST,
                        ATTEND_MOST) == EXIT_DONE;
    if (!new_matrix(c, m, rows, columns)) return false;
    for (size_t i = 0; i < rows; i++) {
        const json_t *row = json_array_get(j, i);
        snprintf(place, sizeof place, "%s[%zu]", name, i);
        if (!json_is_array(row))
            return cli_fail(c, "%s: %s is %s, expected a row of numbers", file, place, kind_of(row)) == EXIT_DONE;
        if (json_array_size(row) != columns || columns == 0)
            return cli_fail(c, "%s: %s has %zu numbers, expected %zu as %s[0] has", file, place, json_array_size(row),
                            columns ? columns : 1, name) == EXIT_DONE;
        for (size_t k = 0; k < columns; k++) {
            snprintf(place, sizeof place, "%s[%zu][%zu]", name, i, k);
            if (!take_number(c, file, place, json_array_get(row, k), m->x + i * columns + k)) return false;
        }
    }
    return true;
}

static bool take_vector(const command *c, const char *file, const char *name, const json_t *j, matrix *m) {
    char place[96];
    const size_t n = json_array_size(j);
    if (!json_is_array(j) || n == 0 || n > ATTEND_MOST)
        return cli_fail(c, "%s: %s is %s, expected 1 to %d numbers", file, name, n ? "too long" : kind_of(j),
                        ATTEND_MOST) == EXIT_DONE;
    if (!new_matrix(c, m, 1, n)) return false;
    for (size_t i = 0; i < n; i++) {
        snprintf(place, sizeof place, "%s[%zu]", name, i);
        if (!take_number(c, file, place, json_array_get(j, i), m->x + i)) return false;
    }
    return true;
}

static bool take_tokens(const command *c, attend_input *in, const json_t *j) {
    if (!json_is_array(j) || json_array_size(j) != in->x.rows)
        return cli_fail(c, "%s: tokens is %s of %zu, expected an array of %zu texts, one for each row of x", in->name,
                        kind_of(j), json_array_size(j), in->x.rows) == EXIT_DONE;
    in->tokens = calloc(in->x.rows + 1, sizeof *in->tokens);
    if (!in->tokens) return cli_fail_memory(c) == EXIT_DONE;
    for (size_t i = 0; i < in->x.rows; i++) {
        const json_t *token = json_array_get(j, i);
        if (!json_is_string(token))
            return cli_fail(c, "%s: tokens[%zu] is %s, expected text", in->name, i, kind_of(token)) == EXIT_DONE;
        if (!(in->tokens[i] = strdup(json_string_value(token)))) return cli_fail_memory(c) == EXIT_DONE;
    }
    return true;
}

/* A matrix that is there must fit; wanted 0: any number. */
static bool fits(const command *c, const char *file, const char *name, const matrix *m, size_t rows, size_t columns,
                 const char *as) {
    if (!m->x || ((!rows || m->rows == rows) && (!columns || m->columns == columns))) return true;
    char wanted_rows[24] = "any", wanted_columns[24] = "any";
    if (rows) snprintf(wanted_rows, sizeof wanted_rows, "%zu", rows);
    if (columns) snprintf(wanted_columns, sizeof wanted_columns, "%zu", columns);
    return cli_fail(c, "%s: %s is %zu × %zu, expected %s × %s (%s)", file, name, m->rows, m->columns, wanted_rows,
                    wanted_columns, as) == EXIT_DONE;
}

static bool check_fit(const command *c, const attend_input *in) {
    const char *file = in->name;
    const size_t d = in->x.columns, columns = in->w_q.columns, width = in->v.columns;
    return fits(c, file, "W_q", &in->w_q, d, 0, "rows as x has columns") &&
           fits(c, file, "W_k", &in->w_k, d, columns, "rows as x has columns, columns as W_q") &&
           fits(c, file, "W_v", &in->w_v, d, 0, "rows as x has columns") &&
           fits(c, file, "W", &in->w, in->s.x ? in->s.columns : d, width,
                "rows as queries have columns, columns as v") &&
           fits(c, file, "U", &in->u, d, width, "rows as x has columns, columns as v");
}

static bool take_object(const command *c, attend_input *in, const json_t *root) {
    const struct {
        const char *name;
        matrix *to;
    } matrices[] = {{"x", &in->x},       {"W_q", &in->w_q}, {"W_k", &in->w_k}, {"W_v", &in->w_v},
                    {"queries", &in->s}, {"W", &in->w},     {"U", &in->u}};
    static const char *const known[] = {"x", "W_q", "W_k", "W_v", "queries", "W", "U", "v", "tokens", NULL};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value) {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0) i++;
        if (known[i]) continue;
        const char *near = nearest_word(key, known);
        return cli_fail(c, "%s: found the key \"%s\"%s%s%s, expected x, tokens, W_q, W_k, W_v, queries, W, U, v",
                        in->name, key, near ? "; did you mean \"" : "", near ? near : "",
                        near ? "\"?" : "") == EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        const json_t *j = json_object_get(root, matrices[i].name);
        if (j && !take_matrix(c, in->name, matrices[i].name, j, matrices[i].to)) return false;
    }
    if (!in->x.x)
        return cli_fail(c, "%s: found no x, expected the embeddings, a row for each token", in->name) == EXIT_DONE;
    const json_t *v = json_object_get(root, "v"), *tokens = json_object_get(root, "tokens");
    if (v && !take_vector(c, in->name, "v", v, &in->v)) return false;
    if (tokens && !take_tokens(c, in, tokens)) return false;
    return check_fit(c, in);
}

static bool take_json(const command *c, attend_input *in, json_t *root, const json_error_t *error) {
    if (!root)
        return cli_fail(c, "%s:%d:%d: %s, expected JSON", in->name, error->line, error->column, error->text) ==
               EXIT_DONE;
    bool fine;
    if (json_is_array(root)) fine = take_matrix(c, in->name, "x", root, &in->x);
    else if (json_is_object(root)) fine = take_object(c, in, root);
    else
        fine = cli_fail(c, "%s: found %s, expected an object with x, or an array of rows", in->name, kind_of(root)) ==
               EXIT_DONE;
    json_decref(root);
    return fine;
}

/* ---- .npy ----------------------------------------------------------------------------------------------------------
 */

/* The text behind a key of the header, a Python dictionary. */
static const char *npy_value(const char *header, const char *key) {
    const char *at = strstr(header, key);
    if (!at) return "";
    at += strlen(key);
    return at + strspn(at, "': ");
}

static bool take_npy(const command *c, attend_input *in, FILE *file) {
    unsigned char start[12];
    char header[1024];
    const size_t got = fread(start, 1, 10, file);
    if (got < 10 || memcmp(start, "\x93NUMPY", 6) != 0)
        return cli_fail(c, "%s: found no .npy header in its first %zu bytes", in->name, got) == EXIT_DONE;
    size_t bytes = start[8] + 256u * start[9];
    if (start[6] > 1) { /* version 2 has two bytes more */
        if (fread(start + 10, 1, 2, file) != 2) bytes = sizeof header;
        else bytes += 65536u * start[10] + 16777216u * start[11];
    }
    if (bytes >= sizeof header || fread(header, 1, bytes, file) != bytes)
        return cli_fail(c, "%s: the .npy header ends early or has more than %zu bytes", in->name, sizeof header) ==
               EXIT_DONE;
    header[bytes] = '\0';
    const char *type = npy_value(header, "'descr'"), *shape = npy_value(header, "'shape'");
    const bool doubles = !strncmp(type, "<f8", 3);
    if (!doubles && strncmp(type, "<f4", 3) != 0)
        return cli_fail(c, "%s: dtype is %.8s, expected <f4 or <f8", in->name, type) == EXIT_DONE;
    if (strncmp(npy_value(header, "'fortran_order'"), "False", 5) != 0)
        return cli_fail(c, "%s: found Fortran order, expected C order", in->name) == EXIT_DONE;
    unsigned long long rows = 0, columns = 0;
    char end = 0;
    if (sscanf(shape, "(%llu, %llu%c", &rows, &columns, &end) != 3 || end != ')')
        return cli_fail(c, "%s: shape is %.24s, expected two dimensions", in->name, shape) == EXIT_DONE;
    if (rows < 1 || columns < 1 || rows > ATTEND_MOST || columns > ATTEND_MOST)
        return cli_fail(c, "%s: shape is %llu × %llu, expected 1 to %d each", in->name, rows, columns, ATTEND_MOST) ==
               EXIT_DONE;
    if (!new_matrix(c, &in->x, (size_t)rows, (size_t)columns)) return false;
    for (size_t i = 0; i < in->x.rows * in->x.columns; i++) {
        double x = 0;
        float y = 0;
        if (fread(doubles ? (void *)&x : (void *)&y, doubles ? 8 : 4, 1, file) != 1)
            return cli_fail(c, "%s: found %zu numbers, expected %zu", in->name, i, in->x.rows * in->x.columns) ==
                   EXIT_DONE;
        in->x.x[i] = doubles ? (float)x : y;
        if (!isfinite(in->x.x[i]))
            return cli_fail(c, "%s: x[%zu][%zu] is %g, expected a finite number", in->name, i / in->x.columns,
                            i % in->x.columns, doubles ? x : (double)y) == EXIT_DONE;
    }
    return true;
}

bool attend_read(const command *c, attend_input *in, const char *path) {
    *in = (attend_input){.name = strcmp(path, "-") ? path : "(stdin)"};
    json_error_t error;
    for (size_t i = 0; attend_examples[i]; i++)
        if (!strcmp(attend_examples[i], path)) return take_json(c, in, json_loads(example_texts[i], 0, &error), &error);
    if (!strcmp(path, "-")) return take_json(c, in, json_loadf(stdin, JSON_REJECT_DUPLICATES, &error), &error);
    FILE *file = fopen(path, "rb");
    struct stat about;
    if (file && fstat(fileno(file), &about) == 0 && S_ISDIR(about.st_mode)) {
        fclose(file), file = NULL;
        errno = EISDIR;
    }
    if (!file)
        return cli_fail(c, "%s: %s; expected a file or an example: six, dog", path, strerror(errno)) == EXIT_DONE;
    const bool fine = cli_ends_with(path, ".npy")
                          ? take_npy(c, in, file)
                          : take_json(c, in, json_loadf(file, JSON_REJECT_DUPLICATES, &error), &error);
    fclose(file);
    return fine;
}

void attend_free_input(attend_input *in) {
    for (size_t i = 0; in->tokens && i < in->x.rows; i++) free(in->tokens[i]);
    free(in->tokens);
    float *all[] = {in->x.x, in->w_q.x, in->w_k.x, in->w_v.x, in->s.x, in->w.x, in->u.x, in->v.x};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
    *in = (attend_input){.name = NULL};
}
