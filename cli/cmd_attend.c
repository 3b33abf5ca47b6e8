/* cmd_attend.c: attn attend. */
#include "attend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *output, *check, *title;
    long long heads, decimals;
    double tolerance, scale;
    bool simplified, causal, additive, json, mermaid;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"simplified", 0, OPTION_FLAG, AT(simplified), NULL,
     "without matrices, as if none were given: q = k = v = x, scale 1", 0, 0, NULL},
    {"causal", 0, OPTION_FLAG, AT(causal), NULL, "no token looks at those behind it", 0, 0, NULL},
    {"heads", 0, OPTION_INT, AT(heads), "N", "heads that the columns are divided into (1)", 1, 1024, NULL},
    {"additive", 0, OPTION_FLAG, AT(additive), NULL, "Bahdanau's: v·tanh(W s + U x), with W, U and v of the file", 0, 0,
     NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE",
     "draw x.svg, x.png or x.mmd (Mermaid) instead of the diagram in text", 0, 0, NULL},
    {"mermaid", 0, OPTION_FLAG, AT(mermaid), NULL, "print the diagram as Mermaid text, and nothing else", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "the numbers as JSON, in the form that --check reads, and nothing else", 0,
     0, NULL},
    {"check", 0, OPTION_TEXT, AT(check), "FILE",
     "compare with the numbers in a JSON file; the first that differs is an error", 0, 0, NULL},
    {"tolerance", 0, OPTION_FLOAT, AT(tolerance), "X", "by how much numbers may differ (0.0001)", 0, 1e6, NULL},
    {"decimals", 0, OPTION_INT, AT(decimals), "N", "of the numbers printed (4)", 1, 9, NULL},
    {"title", 0, OPTION_TEXT, AT(title), "TEXT", "above the diagram", 0, 0, NULL},
    {"scale", 0, OPTION_FLOAT, AT(scale), "X", "size of a PNG (1)", 0.25, 8, NULL},
};

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

static void put_label(const attend_input *in, bool tokens, size_t row) {
    if (!tokens || !in->tokens || row >= in->x.rows) return;
    printf("   ");
    cli_put_text(in->tokens[row], strlen(in->tokens[row]));
}

static void put_rows(const settings *s, const attend_input *in, const matrix *m, size_t first, size_t rows,
                     bool tokens) {
    const int decimals = (int)s->decimals;
    int width = decimals + 2;
    for (size_t i = first * m->columns; i < (first + rows) * m->columns; i++) {
        const int needed = isfinite(m->x[i]) ? snprintf(NULL, 0, "%.*f", decimals, (double)m->x[i]) : 4;
        if (needed > width) width = needed;
    }
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < m->columns; j++) {
            const float x = m->x[(first + i) * m->columns + j];
            if (isfinite(x)) printf("  %*.*f", width, decimals, (double)x);
            else printf("  %*s", width, x < 0 ? "-inf" : "inf"); /* masked */
        }
        put_label(in, tokens, i);
        printf("\n");
    }
}

static void put_matrix(const settings *s, const attend_input *in, const char *name, const char *formula,
                       const matrix *m, size_t heads, bool tokens) {
    if (!m->x) return;
    if (!heads) {
        printf("\n%s%s%s  (%zu × %zu)\n", name, *formula ? " = " : "", formula, m->rows, m->columns);
        put_rows(s, in, m, 0, m->rows, tokens);
        return;
    }
    const size_t rows = m->rows / heads;
    for (size_t h = 0; h < heads; h++) {
        printf("\n%s of head %zu = %s  (%zu × %zu)\n", name, h + 1, formula, rows, m->columns);
        put_rows(s, in, m, h * rows, rows, tokens);
    }
}

static void put_numbers(const settings *s, const attend_input *in, const attend_work *work) {
    printf("%s of %zu tokens", work->kind, work->keys);
    if (work->heads > 1) printf(", %zu heads", work->heads);
    printf("\n");
    put_matrix(s, in, "x", "", &in->x, 0, true);
    if (s->additive) {
        put_matrix(s, in, "queries", "", &in->s, 0, false);
        put_matrix(s, in, "W", "", &in->w, 0, false);
        put_matrix(s, in, "U", "", &in->u, 0, false);
        put_matrix(s, in, "v", "", &in->v, 0, false);
    } else if (work->n > 3) {
        put_matrix(s, in, "W_q", "", &in->w_q, 0, false);
        put_matrix(s, in, "W_k", "", &in->w_k, 0, false);
        put_matrix(s, in, "W_v", "", &in->w_v, 0, false);
    }
    for (size_t i = 0; i < work->n; i++) {
        const attend_result *r = &work->result[i];
        const size_t rows = r->heads ? r->m.rows / r->heads : r->m.rows;
        put_matrix(s, in, r->name, r->formula, &r->m, r->heads, rows == in->x.rows);
    }
    printf("\n");
}

static bool put_json(const attend_input *in, const attend_work *work) {
    json_t *root = json_object();
    json_object_set_new(root, "kind", json_string(work->kind));
    if (in->tokens) {
        json_t *list = json_array();
        for (size_t i = 0; i < in->x.rows; i++) json_array_append_new(list, json_string(in->tokens[i]));
        json_object_set_new(root, "tokens", list);
    }
    for (size_t i = 0; i < work->n; i++) {
        const attend_result *r = &work->result[i];
        if (!r->heads) {
            json_object_set_new(root, r->name, cli_json_matrix(r->m.x, r->m.rows, r->m.columns));
            continue;
        }
        json_t *list = json_array();
        const size_t rows = r->m.rows / r->heads;
        for (size_t h = 0; h < r->heads; h++)
            json_array_append_new(list, cli_json_matrix(r->m.x + h * rows * r->m.columns, rows, r->m.columns));
        json_object_set_new(root, r->name, list);
    }
    return cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
}

/* ---- the diagram ------------------------------------------------------------------------------------------------- */

static bool draw(const command *c, const settings *s, const attend_input *in, const attend_work *work) {
    attn_context *ctx = cli_context();
    const matrix *z = &work->result[work->contexts].m;
    const attn_diagram d = {.title = s->title,
                            .tokens = (const char *const *)in->tokens,
                            .embeddings = in->x.x,
                            .weights = work->mean,
                            .contexts = z->x,
                            .n = in->x.rows,
                            .d = in->x.columns,
                            .m = z->rows,
                            .c = z->columns};
    const char *path = s->output ? s->output : "-";
    char *data = NULL;
    size_t bytes = 0;
    attn_status status;
    if (s->mermaid || cli_ends_with(path, ".mmd")) status = attn_diagram_mermaid(ctx, &data, &bytes, &d);
    else if (cli_ends_with(path, ".svg")) status = attn_diagram_svg(ctx, &data, &bytes, &d);
    else if (cli_ends_with(path, ".png")) status = attn_diagram_png(ctx, &data, &bytes, &d, s->scale);
    else {
        terminal t = cli_terminal(stdout);
        attn_terminal_options o = cli_terminal_options(&t);
        status = attn_diagram_terminal(ctx, &data, &bytes, &d, &o);
    }
    const bool fine = status == ATTN_OK && cli_write(c, path, data, bytes);
    if (status != ATTN_OK) cli_fail_status(c);
    attn_text_free(ctx, data);
    return fine;
}

static bool attend(const command *c, const settings *s, const attend_input *in) {
    const attend_choice choice = {s->simplified, s->causal, s->additive, (size_t)s->heads};
    attend_work work;
    bool fine = attend_compute(c, &work, in, &choice);
    if (fine && s->check) {
        fine = attend_check(c, &work, s->check, s->tolerance) == GO_ON;
    } else if (fine && s->json) {
        fine = put_json(in, &work);
    } else if (fine) {
        if (!s->mermaid) put_numbers(s, in, &work);
        const bool too_many =
            !s->output && !s->mermaid && (work.keys > 64 || work.rows > 64); /* a picture has limits */
        if (!too_many) fine = draw(c, s, in, &work);
    }
    attend_free_work(&work);
    return fine;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.heads = 1, .decimals = 4, .tolerance = 1e-4, .scale = 1};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (argc - first != 1)
        return cli_wrong_use(c, "found %d operands, expected one: FILE.json, FILE.npy, -, or an example: six, dog",
                             argc - first);
    if (s.additive && (s.causal || s.simplified || s.heads > 1))
        return cli_wrong_use(c, "found --additive with %s, expected it alone",
                             s.causal       ? "--causal"
                             : s.simplified ? "--simplified"
                                            : "--heads");
    const char *o = s.output;
    if (o && strcmp(o, "-") != 0 && !cli_ends_with(o, ".svg") && !cli_ends_with(o, ".png") && !cli_ends_with(o, ".mmd"))
        return cli_wrong_use(c, "found -o \"%s\", expected a name that ends with .svg, .png or .mmd, or -", o);
    if (!!s.json + !!s.mermaid + !!s.check + !!s.output > 1)
        return cli_wrong_use(c, "found more than one of -o, --json, --mermaid and --check, expected one");
    if (!cli_context()) return EXIT_FAILED;
    attend_input in;
    const bool fine = attend_read(c, &in, argv[first]) && attend(c, &s, &in);
    attend_free_input(&in);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_attend = {
    .name = "attend",
    .summary = "attention on given vectors, every number printed",
    .operands = "FILE.json|FILE.npy|six|dog",
    .description =
        "Prints scores, weights and context vectors of self-attention, and draws tokens, embeddings and context "
        "vectors.\n"
        "FILE is JSON, { \"x\": [[…], …] } with a row for each token, or an array of rows; \"tokens\" names them. "
        "With\n"
        "\"W_q\", \"W_k\" and \"W_v\" attention is scaled and trainable, else simplified: x looks at itself. "
        "--additive\n"
        "takes \"W\", \"U\", \"v\" and, if there are such, \"queries\". six and dog are the worked examples of the "
        "notes.\n"
        "--check compares the results with a JSON file whose keys are names that are printed; null is a masked score.",
    .example = "  attn attend --simplified six\n  attn attend --causal --heads 2 -o dog.svg dog\n"
               "  attn attend --check mine.json exercise.json",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
