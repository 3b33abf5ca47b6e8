/* cmd_show.c: attn show. */
#include "picture.h"

#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model, *output, *target, *title;
    long long beam_size, threads;
    double scale;
    bool tokens;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder (default: the German-English one that ships)", 0,
     0, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "x.png, x.svg, or - for the terminal (default)", 0, 0, NULL},
    {"target", 0, OPTION_TEXT, AT(target), "TEXT", "look at this translation instead of the model's own", 0, 0, NULL},
    {"title", 0, OPTION_TEXT, AT(title), "TEXT", "above the picture", 0, 0, NULL},
    {"tokens", 0, OPTION_FLAG, AT(tokens), NULL, "tokens and </s> instead of whole words", 0, 0, NULL},
    {"scale", 0, OPTION_FLOAT, AT(scale), "X", "size of a PNG (1)", 0.25, 8, NULL},
    {"beam-size", 'b', OPTION_INT, AT(beam_size), "N", "(5)", 1, 64, NULL},
    {"threads", 't', OPTION_INT, AT(threads), "N", "(all processors)", 1, 1024, NULL},
};

/* The picture of tokens instead of words: labels are the pieces. */
static bool token_labels(const command *c, picture *p, const translator *t, const attn_translation *tr) {
    const attn_hypothesis *h = tr->hypothesis;
    size_t rows = h->count, columns = tr->source.count;
    *p = (picture){.labels = calloc(rows + columns + 1, sizeof *p->labels)};
    p->map = (attn_heatmap){
        .row_axis = "target", .column_axis = "source", .values = h->alignment, .rows = rows, .columns = columns};
    bool fine = p->labels != NULL;
    for (size_t i = 0; i < rows + columns && fine; i++) {
        int32_t id = i < rows ? h->id[i] : tr->source.token[i - rows].id;
        fine = (p->labels[i] = strdup(attn_tokenizer_piece(t->tokenizer, id))) != NULL;
    }
    p->map.row_labels = (const char *const *)p->labels;
    p->map.column_labels = (const char *const *)(p->labels + rows);
    if (!fine) cli_fail(c, "out of memory");
    return fine;
}

static bool draw(const command *c, const settings *s, const picture *p) {
    attn_context *ctx = cli_context();
    const char *path = s->output ? s->output : "-";
    char *data = NULL;
    size_t bytes = 0;
    attn_status status;
    if (!strcmp(path, "-")) {
        terminal t = cli_terminal(stdout);
        attn_terminal_options o = cli_terminal_options(&t);
        status = attn_heatmap_terminal(ctx, &data, &bytes, &p->map, &o);
    } else if (cli_ends_with(path, ".svg")) {
        status = attn_heatmap_svg(ctx, &data, &bytes, &p->map);
    } else {
        status = attn_heatmap_png(ctx, &data, &bytes, &p->map, s->scale);
    }
    bool fine = status == ATTN_OK && cli_write(c, path, data, bytes);
    if (status != ATTN_OK) cli_fail_status(c);
    attn_text_free(ctx, data);
    return fine;
}

static int show(const command *c, const settings *s, const char *text) {
    translator t;
    attn_context *ctx;
    if (!cli_load_translator(c, &t, s->model)) return EXIT_FAILED;
    ctx = cli_context();
    attn_translate_options o = ATTN_TRANSLATE_OPTIONS_INIT;
    o.beam_size = (int)s->beam_size;
    attn_translation tr;
    attn_status status = s->target ? attn_translate_forced(t.model, t.tokenizer, &tr, &text, &s->target, 1, &o)
                                   : attn_translate(t.model, t.tokenizer, &tr, &text, NULL, 1, &o);
    if (status != ATTN_OK) {
        int code = cli_fail_status(c);
        cli_free_translator(&t);
        return code;
    }
    picture p = {0};
    bool fine;
    if (s->tokens && tr.hypothesis->alignment) fine = token_labels(c, &p, &t, &tr);
    else fine = picture_make(c, &p, &tr, tr.hypothesis);
    p.map.title = s->title;
    fine = fine && draw(c, s, &p);
    picture_free(&p);
    attn_translation_clear(ctx, &tr);
    cli_free_translator(&t);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.beam_size = 5, .scale = 1};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first + 1 != argc) return cli_wrong_use(c, "found %d texts, expected 1 (in quotes)", argc - first);
    if (s.output && strcmp(s.output, "-") != 0 && !cli_ends_with(s.output, ".png") && !cli_ends_with(s.output, ".svg"))
        return cli_wrong_use(c, "-o: found \"%s\", expected a name that ends in .png or .svg, or -", s.output);
    if (s.threads) cli_set_threads(s.threads);
    return show(c, &s, argv[first]);
}

const command command_show = {
    .name = "show",
    .summary = "draw which source word each word of a translation looked at",
    .operands = "TEXT",
    .description =
        "Draws the soft alignment of a translation: source words along the top, target words along the left.",
    .example = "  attn show -o alignment.png \"Kannst du mir helfen diesen Satz zu übersetzen\"",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
