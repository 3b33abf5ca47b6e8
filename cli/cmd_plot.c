/* cmd_plot.c: attn plot. */
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SERIES = 32 };

typedef struct settings {
    const char *output, *x, *title;
    text_list y;
    double scale;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "x.svg, x.png, or - for the terminal (default)", 0, 0, NULL},
    {"x", 0, OPTION_TEXT, AT(x), "KEY", "what goes to the right (default: words if there, else step)", 0, 0, NULL},
    {"y", 0, OPTION_LIST, AT(y), "KEY", "what goes up; may be given again (default: BLEU if there, else the losses)", 0,
     0, NULL},
    {"title", 0, OPTION_TEXT, AT(title), "TEXT", "above the picture", 0, 0, NULL},
    {"scale", 0, OPTION_FLOAT, AT(scale), "X", "size of a PNG (1)", 0.25, 8, NULL},
};

typedef struct curve {
    char *name;
    double *x, *y;
    size_t n, capacity;
} curve;

typedef struct curves {
    curve item[MAX_SERIES];
    size_t n;
} curves;

static bool add_point(curve *c, double x, double y) {
    if (c->n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 64;
        double *nx = realloc(c->x, capacity * sizeof *nx);
        if (nx) c->x = nx;
        double *ny = realloc(c->y, capacity * sizeof *ny);
        if (ny) c->y = ny;
        if (!nx || !ny) return false;
        c->capacity = capacity;
    }
    c->x[c->n] = x;
    c->y[c->n++] = y;
    return true;
}

/* The file's name without folders and ending, and the key where one file gives several curves. */
static char *curve_name(const char *path, const char *key, bool with_key) {
    const char *slash = strrchr(path, '/'), *start = slash ? slash + 1 : path;
    if (!strcmp(start, "log.jsonl") && slash && slash > path) { /* the folder says more */
        for (start = slash; start > path && start[-1] != '/'; start--) {}
    }
    int n = (int)strcspn(start, "./");
    size_t bytes = (size_t)n + strlen(key) + 3;
    char *out = malloc(bytes);
    if (out) snprintf(out, bytes, with_key ? "%.*s %s" : "%.*s", n, start, key);
    return out;
}

/* Takes one line's point for every key it has. */
static bool read_line(const command *c, const settings *s, json_t *row, curves *all, const size_t *of_key) {
    const char *x_key = s->x ? s->x : json_object_get(row, "words") ? "words" : "step";
    json_t *x = json_object_get(row, x_key);
    if (!json_is_number(x)) return true;
    for (size_t k = 0; k < s->y.count; k++) {
        json_t *y = json_object_get(row, s->y.item[k]);
        if (json_is_number(y) && !add_point(&all->item[of_key[k]], json_number_value(x), json_number_value(y))) {
            cli_fail(c, "out of memory");
            return false;
        }
    }
    return true;
}

static bool read_log(const command *c, const settings *s, const char *path, curves *all) {
    line_reader reader = {.stream = strcmp(path, "-") ? fopen(path, "r") : stdin, .name = path};
    size_t of_key[OPTION_LIST_MAX];
    if (!reader.stream) {
        cli_fail(c, "%s: %s", path, strerror(errno));
        return false;
    }
    bool fine = true;
    for (size_t k = 0; k < s->y.count && fine; k++) {
        of_key[k] = all->n;
        fine = all->n < MAX_SERIES && (all->item[all->n].name = curve_name(path, s->y.item[k], s->y.count > 1)) != NULL;
        if (fine) all->n++;
        else cli_fail(c, "more than %d curves", MAX_SERIES);
    }
    while (fine && cli_read_line(c, &reader)) {
        json_error_t error;
        if (reader.text[strspn(reader.text, " \t")] == 0) continue;
        json_t *row = json_loadb(reader.text, reader.bytes, 0, &error);
        fine = row && json_is_object(row);
        if (!fine) cli_fail(c, "%s: line %zu: expected a JSON object, found \"%.30s\"", path, reader.line, reader.text);
        else fine = read_line(c, s, row, all, of_key);
        json_decref(row);
    }
    free(reader.text);
    if (reader.stream != stdin) fclose(reader.stream);
    return fine && !reader.failed;
}

static bool draw(const command *c, const settings *s, const curves *all) {
    attn_context *ctx = cli_context();
    attn_plot_series series[MAX_SERIES];
    size_t n = 0, bytes = 0;
    bool from_zero = false;
    for (size_t i = 0; i < all->n; i++)
        if (all->item[i].n)
            series[n++] = (attn_plot_series){all->item[i].name, all->item[i].x, all->item[i].y, all->item[i].n};
    if (n == 0) {
        cli_fail(c, "no line has the keys to draw; --x and --y name them");
        return false;
    }
    for (size_t k = 0; k < s->y.count; k++) from_zero |= !strcmp(s->y.item[k], "BLEU");
    attn_plot plot = {.title = s->title,
                      .x_axis = s->x        ? s->x
                                : from_zero ? "words"
                                            : "step",
                      .y_axis = s->y.count == 1 ? s->y.item[0] : NULL,
                      .series = series,
                      .n = n,
                      .y_from_zero = from_zero};
    const char *path = s->output ? s->output : "-";
    char *data = NULL;
    attn_status status;
    if (!strcmp(path, "-")) {
        terminal t = cli_terminal(stdout);
        attn_terminal_options o = cli_terminal_options(&t);
        status = attn_plot_terminal(ctx, &data, &bytes, &plot, &o);
    } else if (cli_ends_with(path, ".svg")) {
        status = attn_plot_svg(ctx, &data, &bytes, &plot);
    } else {
        status = attn_plot_png(ctx, &data, &bytes, &plot, s->scale);
    }
    bool fine = status == ATTN_OK && cli_write(c, path, data, bytes);
    if (status != ATTN_OK) cli_fail_status(c);
    attn_text_free(ctx, data);
    return fine;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.scale = 1};
    curves all = {0};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first == argc) return cli_wrong_use(c, "found no files, expected logs (JSON lines)");
    if (s.output && strcmp(s.output, "-") != 0 && !cli_ends_with(s.output, ".png") && !cli_ends_with(s.output, ".svg"))
        return cli_wrong_use(c, "-o: found \"%s\", expected a name that ends in .png or .svg, or -", s.output);
    if (!cli_context()) return EXIT_FAILED;
    if (s.y.count == 0) {
        const char *const keys[] = {"BLEU", "nll", "valid_nll"};
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) s.y.item[s.y.count++] = keys[i];
    }
    bool fine = true;
    for (int i = first; i < argc && fine; i++) fine = read_log(c, &s, argv[i], &all);
    for (size_t i = 0; i < all.n; i++) /* a file with one of the default curves is named by itself */
        if (all.item[i].n && cli_ends_with(all.item[i].name, " BLEU"))
            all.item[i].name[strlen(all.item[i].name) - 5] = 0;
    fine = fine && draw(c, &s, &all);
    for (size_t i = 0; i < all.n; i++) {
        free(all.item[i].name);
        free(all.item[i].x);
        free(all.item[i].y);
    }
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_plot = {
    .name = "plot",
    .summary = "learning curves of training logs, length curves of attn eval",
    .operands = "LOG...",
    .description =
        "Each LOG is a file of JSON lines: log.jsonl of attn train, or what attn eval --lengths --json prints.",
    .example = "  attn plot out/first/log.jsonl\n  attn plot -o lengths.svg rnn.jsonl bahdanau.jsonl",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
