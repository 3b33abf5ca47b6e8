/* cmd_plot.c: attn plot. */
#include "common.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_SERIES = 32 };

typedef struct settings {
    const char *output, *x, *title;
    text_list y;
    double scale;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "x.svg, x.png, or - for text (the default)", 0, 0, NULL},
    {"x", 0, OPTION_TEXT, AT(x), "KEY", "what goes to the right (default: words where there, else step)", 0, 0, NULL},
    {"y", 0, OPTION_LIST, AT(y), "KEY",
     "what goes up; may be given again (default: BLEU, nll, valid_nll, those that are there)", 0, 0, NULL},
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
    const char *x_key; /* of the points so far */
    bool bleu;         /* all are of BLEU */
} curves;

static void free_curve(curve *c) {
    free(c->name);
    free(c->x);
    free(c->y);
    *c = (curve){0};
}

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

/* The file's name without folders and ending (log.jsonl: its folder's name), and the key. */
static char *curve_name(const char *path, const char *key, bool with_key) {
    const char *slash = strrchr(path, '/'), *start = slash ? slash + 1 : path, *end = strrchr(start, '.');
    char *out;
    if (!strcmp(start, "log.jsonl") && slash) {
        const char *folder = slash;
        while (folder > path && folder[-1] != '/') folder--;
        if (folder < slash && folder[0] != '.') start = folder, end = slash;
    }
    int n = end && end > start ? (int)(end - start) : (int)strlen(start);
    return asprintf(&out, "%.*s%s%s", n, start, with_key ? " " : "", with_key ? key : "") < 0 ? NULL : out;
}

/* Takes one line's point for every key it has. Steps that a resumed training did again replace the first ones. */
static bool take_points(const command *c, const settings *s, json_t *row, curves *all, curve *own) {
    const char *x_key = s->x ? s->x : json_object_get(row, "words") ? "words" : "step";
    json_t *x = json_object_get(row, x_key);
    if (!json_is_number(x)) return true;
    for (size_t k = 0; k < s->y.count; k++) {
        json_t *y = json_object_get(row, s->y.item[k]);
        if (!json_is_number(y)) continue;
        while (!strcmp(x_key, "step") && own[k].n && own[k].x[own[k].n - 1] >= json_number_value(x)) own[k].n--;
        if (!add_point(&own[k], json_number_value(x), json_number_value(y))) return cli_fail_memory(c) == EXIT_DONE;
        all->x_key = x_key;
    }
    return true;
}

static bool read_lines(const command *c, const settings *s, const char *path, curves *all, curve *own) {
    line_reader reader;
    bool fine = cli_open_lines(c, &reader, path);
    while (fine && cli_read_line(c, &reader)) {
        if (reader.text[strspn(reader.text, " \t")] == 0) continue;
        json_t *row = json_loadb(reader.text, reader.bytes, 0, NULL);
        fine = json_is_object(row);
        if (fine) fine = take_points(c, s, row, all, own);
        else cli_fail(c, "%s:%zu: found \"%.40s\", expected a JSON object", reader.name, reader.line, reader.text);
        json_decref(row);
    }
    cli_close_lines(&reader);
    return fine && !reader.failed;
}

/* Adds the curves of one file: those of the keys that it has. */
static bool read_log(const command *c, const settings *s, const char *path, curves *all) {
    curve own[OPTION_LIST_MAX] = {0};
    size_t found = 0;
    bool fine = read_lines(c, s, path, all, own);
    for (size_t k = 0; k < s->y.count; k++) found += own[k].n > 0;
    for (size_t k = 0; k < s->y.count; k++) {
        if (!fine || !own[k].n) {
            free_curve(&own[k]);
            continue;
        }
        if (all->n == MAX_SERIES) fine = cli_fail(c, "found more than %d curves", MAX_SERIES) == EXIT_DONE;
        if (fine && !(own[k].name = curve_name(path, s->y.item[k], found > 1))) fine = cli_fail_memory(c) == EXIT_DONE;
        if (!fine) {
            free_curve(&own[k]);
            continue;
        }
        all->bleu = (all->n == 0 || all->bleu) && !strcasecmp(s->y.item[k], "bleu");
        all->item[all->n++] = own[k];
    }
    return fine;
}

/* The only key that has a curve, or NULL. */
static const char *y_axis(const settings *s, const curves *all) {
    return s->y.count == 1 ? s->y.item[0] : all->bleu ? "BLEU" : NULL;
}

static bool no_curve(const command *c, const settings *s) {
    char keys[256] = "";
    for (size_t k = 0; k < s->y.count; k++) {
        size_t used = strlen(keys);
        snprintf(keys + used, sizeof keys - used, "%s%s", k ? ", " : "", s->y.item[k]);
    }
    cli_fail(c, "found no line with the numbers to draw, expected %s and one of: %s (--x and --y name others)",
             s->x ? s->x : "step or words", keys);
    return false;
}

static bool draw(const command *c, const settings *s, const curves *all) {
    attn_context *ctx = cli_context();
    attn_plot_series series[MAX_SERIES];
    size_t bytes = 0;
    if (all->n == 0) return no_curve(c, s);
    for (size_t i = 0; i < all->n; i++)
        series[i] = (attn_plot_series){all->item[i].name, all->item[i].x, all->item[i].y, all->item[i].n};
    attn_plot plot = {.title = s->title,
                      .x_axis = all->x_key,
                      .y_axis = y_axis(s, all),
                      .series = series,
                      .n = all->n,
                      .y_from_zero = all->bleu};
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
    if (first == argc) return cli_wrong_use(c, "found no LOG, expected files of JSON lines, or - for stdin");
    if ((code = cli_check_output_name(c, s.output, (const char *const[]){".png", ".svg", NULL})) != GO_ON) return code;
    if (!cli_context()) return EXIT_FAILED;
    if (s.y.count == 0) s.y = (text_list){{"BLEU", "nll", "valid_nll"}, 3};
    bool fine = true;
    for (int i = first; i < argc && fine; i++) fine = read_log(c, &s, argv[i], &all);
    fine = fine && draw(c, &s, &all);
    for (size_t i = 0; i < all.n; i++) free_curve(&all.item[i]);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_plot = {
    .name = "plot",
    .summary = "learning curves of training logs, length curves of attn eval",
    .operands = "LOG...",
    .description =
        "Each LOG is a file of JSON lines: log.jsonl of attn train, or what attn eval --lengths --json prints.",
    .example = "  attn plot out/first/log.jsonl\n  attn plot --y bleu out/rnn/log.jsonl out/bahdanau/log.jsonl\n  attn "
               "plot -o lengths.svg rnn.jsonl bahdanau.jsonl",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
