/* cmd_show.c: attn show. */
#include "picture.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { KIND_ALIGNMENT, KIND_ENCODER, KIND_DECODER, KIND_CROSS };
static const attn_look_kind looks[] = {
    [KIND_ENCODER] = ATTN_LOOK_ENCODER, [KIND_DECODER] = ATTN_LOOK_DECODER, [KIND_CROSS] = ATTN_LOOK_CROSS};
static const char *const kind_names[] = {"alignment", "encoder", "decoder", "cross", NULL};

typedef struct settings {
    const char *model, *output, *target, *title, *beside, *beside_model;
    char *command; /* as it was given */
    int kind;
    long long beam_size, max_source, layer, head;
    double scale;
    bool tokens, posterior, json, neurons;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder (default: the German-English one that ships)", 0,
     0, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE",
     "x.png, x.svg, x.npy (the weights alone, rows by columns), or - for text (the default); of every head, or of "
     "those chosen, a page x.html, x.npz (arrays of layers by heads by rows by columns, and the tokens), or "
     "x.safetensors (the same, with the tokens' ids and bytes in the text, kinds, layers, model and command)",
     0, 0, NULL},
    {"target", 0, OPTION_TEXT, AT(target), "TEXT", "look at this translation instead of the model's own", 0, 0, NULL},
    {"kind", 0, OPTION_CHOICE, AT(kind), "NAME",
     "of a transformer: its alignment (the default), or the attention of the encoder, of the decoder, of the "
     "decoder to the source (cross)",
     0, 0, kind_names},
    {"layer", 0, OPTION_INT, AT(layer), "N", "of a head: which layer, from 1 (the last)", 1, 1000, NULL},
    {"head", 0, OPTION_INT, AT(head), "N", "which head of it, from 1 (the mean of all)", 1, 1000, NULL},
    {"beside", 0, OPTION_TEXT, AT(beside), "TEXT",
     "with a page or arrays a second text: the page shows the two beside one another and, where they have as many "
     "tokens, how they differ",
     0, 0, NULL},
    {"beside-model", 0, OPTION_TEXT, AT(beside_model), "DIR",
     "with a page or arrays another model, of as many layers and heads, on the second text, or on the same where there "
     "is none",
     0, 0, NULL},
    {"neurons", 0, OPTION_FLAG, AT(neurons), NULL,
     "with a page or arrays the queries and keys too, which a page shows number by number: in x.html 2.7 bytes for "
     "each number of each token's, so for GPT-2 (124 M) 49 KB a token",
     0, 0, NULL},
    {"title", 0, OPTION_TEXT, AT(title), "TEXT", "above the picture", 0, 0, NULL},
    {"tokens", 0, OPTION_FLAG, AT(tokens), NULL, "tokens and </s> instead of whole words", 0, 0, NULL},
    {"posterior", 0, OPTION_FLAG, AT(posterior), NULL, "which source word explains each word that came", 0, 0, NULL},
    {"scale", 0, OPTION_FLOAT, AT(scale), "X", "size of a PNG (1)", 0.25, 8, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "the weights as JSON instead: rows, columns, weights", 0, 0, NULL},
    {"beam-size", 'b', OPTION_INT, AT(beam_size), "N", "hypotheses kept at each step (5)", 1, 64, NULL},
    {"max-source", 0, OPTION_INT, AT(max_source), "N", "refuse texts of more than N tokens (1000; 0: no limit)", 0, 1e9,
     NULL},
};

static bool draw(const command *c, const settings *s, const picture *p) {
    attn_context *ctx = cli_context();
    const char *path = s->output ? s->output : "-";
    char *data = NULL;
    size_t bytes = 0;
    attn_status status;
    if (cli_ends_with(path, ".npy")) {
        const size_t shape[2] = {p->map.rows, p->map.columns};
        const attn_tensor weights = attn_tensor_of((float *)(uintptr_t)p->map.values, ATTN_F32, 2, shape);
        return attn_npy_save(ctx, path, &weights) == ATTN_OK || cli_fail_status(c) == EXIT_DONE;
    }
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

static json_t *words(const char *const *labels, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(list, json_string(labels[i]));
    return list;
}

static bool put(const settings *s, const picture *p) {
    const attn_heatmap *m = &p->map;
    json_t *root = json_object();
    if (s->title) json_object_set_new(root, "title", json_string(s->title));
    json_object_set_new(root, "rows", words(m->row_labels, m->rows));
    json_object_set_new(root, "columns", words(m->column_labels, m->columns));
    json_object_set_new(root, "weights", cli_json_matrix(m->values, m->rows, m->columns));
    return cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(7));
}

/* Takes the picture. */
static bool finish(const command *c, const settings *s, picture *p, bool fine) {
    if (fine) p->map.title = s->title;
    if (fine) fine = s->json ? put(s, p) : draw(c, s, p);
    picture_free(p);
    return fine;
}

/* A head's attention: rows and columns are words or tokens of source or target. */
static bool look_at_head(const command *c, const settings *s, const translator *t, const attn_translation *tr) {
    attn_context *ctx = cli_context();
    const attn_hypothesis *h = tr->hypothesis;
    picture p = {0};
    attn_look where = {looks[s->kind], s->layer ? (size_t)s->layer - 1 : ATTN_LAST_LAYER, (size_t)s->head};
    int32_t *ids = picture_ids(c, &tr->source);
    if (!ids) return false;
    float *weights;
    size_t rows, columns;
    attn_status status =
        attn_look_at_pair(t->model, &weights, &rows, &columns, &where, ids, tr->source.count, h->id, h->count);
    bool fine = status == ATTN_OK;
    if (!fine) cli_fail_status(c);
    if (fine) fine = picture_make_head(c, &p, t->tokenizer, tr, h, where.kind, weights, !s->tokens);
    fine = finish(c, s, &p, fine);
    attn_text_free(ctx, weights);
    free(ids);
    return fine;
}

static bool is_gallery(const settings *s) {
    return s->output && (cli_ends_with(s->output, ".html") || cli_ends_with(s->output, ".npz") ||
                         cli_ends_with(s->output, ".safetensors"));
}

/* t: the model, and the second, which may be the same. */
static gallery_choice choice_of(const settings *s, const translator *t, const attn_look_kind *kind, const char *about) {
    return (gallery_choice){.kind = kind,
                            .layer = (size_t)s->layer,
                            .head = (size_t)s->head,
                            .neurons = s->neurons,
                            .title = s->title,
                            .about = about,
                            .model = {s->model ? s->model : "models/de-en", s->beside_model},
                            .type = {attn_model_type(t[0].model), attn_model_type(t[1].model)},
                            .command = s->command};
}

/* Two models stand with their texts. */
static const char *about_two(const settings *s) { return s->beside_model ? NULL : s->model; }

/* n translations, two for a gallery alone. */
static bool look(const command *c, const settings *s, const translator *t, const attn_translation *tr, size_t n) {
    const attn_hypothesis *h = tr->hypothesis;
    picture p;
    for (size_t i = 0; i < n; i++)
        if (!tr[i].hypothesis->alignment)
            return cli_fail(c, "%s is blank: there is nothing to look at", i ? "--beside" : "the text") == EXIT_DONE;
    if (is_gallery(s)) {
        const gallery_choice choice =
            choice_of(s, t, s->kind == KIND_ALIGNMENT ? NULL : &looks[s->kind], n > 1 ? about_two(s) : h->text);
        return gallery_of_pairs(c, t, tr, n, &choice, s->output);
    }
    if (s->kind != KIND_ALIGNMENT) return look_at_head(c, s, t, tr);
    if (!(s->tokens ? picture_make_tokens(c, &p, t->tokenizer, tr, h) : picture_make(c, &p, tr, h))) return false;
    const bool fine = p.map.rows && p.map.columns;
    if (!fine) cli_fail(c, "the translation is blank: there is nothing to look at");
    return finish(c, s, &p, fine);
}

static bool check_length(const command *c, const settings *s, const translator *t, const char *name, const char *text) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    const bool fine = cli_check_text(c, name, 0, text, strlen(text)) &&
                      cli_check_length(c, t->tokenizer, &tokens, name, 0, text, strlen(text), s->max_source);
    attn_tokens_free(cli_context(), &tokens);
    return fine;
}

static size_t of_texts(const settings *s) { return s->beside || s->beside_model ? 2 : 1; }

static bool show(const command *c, const settings *s, const translator *t, const char *text) {
    const size_t n = of_texts(s);
    const char *const texts[] = {text, s->beside ? s->beside : text};
    bool fine = true;
    for (size_t i = 0; i < n && fine; i++)
        fine = cli_attends(c, &t[i]) && check_length(c, s, &t[i], i && s->beside ? "--beside" : "the text", texts[i]) &&
               (!s->target || check_length(c, s, &t[i], "--target", s->target));
    if (!fine) return false;
    attn_translate_options o = ATTN_TRANSLATE_OPTIONS_INIT;
    o.beam_size = (int)s->beam_size;
    o.max_source_tokens = (size_t)s->max_source;
    attn_translation own[2] = {{.source = ATTN_TOKENS_INIT}, {.source = ATTN_TOKENS_INIT}}, tr[2] = {own[0], own[1]};
    const char *target[2] = {s->target, s->target};
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK && !s->target; i++) {
        status = attn_translate(t[i].model, t[i].tokenizer, &own[i], &texts[i], NULL, 1, &o);
        if (status == ATTN_OK) target[i] = own[i].hypothesis->text;
    }
    o.posterior = s->posterior;
    bool given = s->target || s->posterior;
    for (size_t i = 0; i < n && status == ATTN_OK && given; i++)
        status = attn_translate_forced(t[i].model, t[i].tokenizer, &tr[i], &texts[i], &target[i], 1, &o);
    fine = status == ATTN_OK ? look(c, s, t, given ? tr : own, n) : cli_fail_status(c) == EXIT_DONE;
    for (size_t i = 0; i < n; i++) {
        attn_translation_clear(cli_context(), &own[i]);
        attn_translation_clear(cli_context(), &tr[i]);
    }
    return fine;
}

/* ---- language models and encoders: one text ------------------------------------------------------------------- */

static bool look_at_text(const command *c, const settings *s, const translator *t, const attn_tokens *tokens) {
    attn_context *ctx = cli_context();
    picture p = {0};
    float *weights;
    int32_t *ids = picture_ids(c, tokens);
    if (!ids) return false;
    const size_t layer = s->layer ? (size_t)s->layer - 1 : ATTN_LAST_LAYER;
    bool fine = attn_look_at_text(t->model, &weights, layer, (size_t)s->head, ids, NULL, tokens->count) == ATTN_OK;
    if (!fine) cli_fail_status(c);
    if (fine) fine = picture_make_text(c, &p, t->tokenizer, tokens, weights, !s->tokens);
    fine = finish(c, s, &p, fine);
    attn_text_free(ctx, weights);
    free(ids);
    return fine;
}

static bool read_text(const command *c, const settings *s, const translator *t, attn_tokens *tokens, const char *text,
                      const char *name) {
    if (!cli_check_text(c, name, 0, text, strlen(text))) return false;
    const attn_status status = attn_model_is_encoder(t->model)
                                   ? attn_tokenize(t->tokenizer, tokens, text, strlen(text), true)
                                   : attn_language_tokenize(t->tokenizer, tokens, text, strlen(text));
    if (status != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    if (!tokens->count) return cli_fail(c, "%s has no tokens, expected at least one", name) == EXIT_DONE;
    if (!s->max_source || tokens->count <= (size_t)s->max_source) return true;
    return cli_fail(c, "%s: found %zu tokens, expected at most %lld (--max-source)", name, tokens->count,
                    s->max_source) == EXIT_DONE;
}

static bool show_text(const command *c, const settings *s, const translator *t, const char *text) {
    attn_tokens tokens[2] = {ATTN_TOKENS_INIT, ATTN_TOKENS_INIT};
    const gallery_choice choice = choice_of(s, t, NULL, about_two(s));
    bool fine = read_text(c, s, t, &tokens[0], text, "the text");
    if (fine && of_texts(s) > 1)
        fine = read_text(c, s, &t[1], &tokens[1], s->beside ? s->beside : text, s->beside ? "--beside" : "the text");
    if (fine)
        fine = is_gallery(s) ? gallery_of_texts(c, t, tokens, of_texts(s), &choice, s->output)
                             : look_at_text(c, s, t, tokens);
    for (int i = 0; i < 2; i++) attn_tokens_free(cli_context(), &tokens[i]);
    return fine;
}

/* What belongs to the other models. */
static int check_kind(const command *c, const settings *s, const attn_model *model) {
    const char *type = attn_model_type(model);
    const bool encoder = attn_model_is_encoder(model), text = encoder || attn_model_is_language_model(model);
    if (!text && (s->layer || s->head) && s->kind == KIND_ALIGNMENT)
        return cli_wrong_use(c, "found --layer or --head, expected --kind encoder, decoder or cross with it");
    if (!text) return GO_ON;
    if (s->target || s->posterior)
        return cli_wrong_use(c, "found %s, expected none: a %s model does not translate",
                             s->target ? "--target" : "--posterior", type);
    if (s->kind != KIND_ALIGNMENT && s->kind != (encoder ? KIND_ENCODER : KIND_DECODER))
        return cli_wrong_use(c, "found --kind %s, expected %s or none: it is what a %s model has", kind_names[s->kind],
                             kind_names[encoder ? KIND_ENCODER : KIND_DECODER], type);
    return GO_ON;
}

/* The words of a command as a shell takes them; malloc'd, NULL without memory. */
static char *command_line(int argc, char **argv) {
    size_t bytes = sizeof "attn";
    for (int i = 0; i < argc; i++) bytes += 4 * strlen(argv[i]) + 3; /* each byte may be a quote */
    char *out = malloc(bytes), *to = out;
    if (out) to += snprintf(out, bytes, "attn");
    for (int i = 0; i < argc && out; i++) {
        const bool plain = *argv[i] && !strpbrk(argv[i], " \t\r\n'\"\\$`!*?[](){}<>|&;#~");
        *to++ = ' ';
        if (!plain) *to++ = '\'';
        for (const char *at = argv[i]; *at; at++) {
            if (!plain && *at == '\'') memcpy(to, "'\\'", 3), to += 3;
            *to++ = *at;
        }
        if (!plain) *to++ = '\'';
        *to = 0;
    }
    return out;
}

static bool reads_text(const attn_model *model) {
    return attn_model_is_encoder(model) || attn_model_is_language_model(model);
}

/* t[1], which reads as t[0] does; freed already where it is not GO_ON. */
static int load_second(const command *c, const settings *s, translator *t) {
    if (!cli_load_model(c, &t[1], s->beside_model)) return EXIT_FAILED;
    if (reads_text(t[0].model) == reads_text(t[1].model)) return GO_ON;
    cli_fail(c, "%s: found a %s model, expected one that %s, as the first", s->beside_model,
             attn_model_type(t[1].model), reads_text(t[0].model) ? "reads one text" : "translates");
    cli_free_translator(&t[1]);
    return EXIT_FAILED;
}

static int show_what(const command *c, settings s, int argc, char **argv, int first) {
    int code;
    if (first == argc) return cli_wrong_use(c, "found no TEXT, expected one to translate and look at");
    static const char *const ends[] = {".png", ".svg", ".npy", ".html", ".npz", ".safetensors", NULL};
    if ((code = cli_check_output_name(c, s.output, ends)) != GO_ON) return code;
    if (s.posterior && s.kind != KIND_ALIGNMENT)
        return cli_wrong_use(c, "found --posterior and --kind %s, expected one of them", kind_names[s.kind]);
    if ((s.neurons || of_texts(&s) > 1) && !is_gallery(&s))
        return cli_wrong_use(c, "found %s, expected -o x.html, x.npz or x.safetensors with it",
                             s.neurons  ? "--neurons"
                             : s.beside ? "--beside"
                                        : "--beside-model");
    if (s.json && s.output) return cli_wrong_use(c, "found -o and --json, expected one of them");
    translator t[2];
    if (!(s.model ? cli_load_model(c, &t[0], s.model) : cli_load_translator(c, &t[0], NULL))) return EXIT_FAILED;
    code = check_kind(c, &s, t[0].model);
    t[1] = t[0];
    if (code == GO_ON && s.beside_model) code = load_second(c, &s, t);
    if (code == GO_ON) {
        char *given = cli_join(c, argv + first, argc - first);
        code = given && (reads_text(t[0].model) ? show_text : show)(c, &s, t, given) ? EXIT_DONE : EXIT_FAILED;
        free(given);
        if (s.beside_model) cli_free_translator(&t[1]);
    }
    cli_free_translator(&t[0]);
    return code;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.beam_size = 5, .scale = 1, .max_source = CLI_MAX_SOURCE};
    s.command = command_line(argc, argv);
    if (!s.command) return cli_fail_memory(c);
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code == GO_ON) code = show_what(c, s, argc, argv, first);
    free(s.command);
    return code;
}

const command command_show = {
    .name = "show",
    .summary = "draw what a model looks at: a translation's alignment, or any head on a text",
    .operands = "TEXT...",
    .description =
        "Draws the soft alignment of a translation: source words along the top, target words along the left.\n"
        "It is made before a word is chosen; with --posterior it is weighed by how well each source word explains the\n"
        "word that came. --kind draws any head of any layer of a transformer, or the mean of a layer's heads: what is\n"
        "read along the top, who reads it along the left. So it draws a language model or an encoder on one text,\n"
        "without --kind. A page, x.html, is one file for a browser with all heads beside one another.",
    .example =
        "  attn show -o alignment.png \"Kannst du mir helfen diesen Satz zu übersetzen\"\n"
        "  attn show --kind encoder --layer 2 --head 1 -o head.svg \"Das Buch, das auf dem Tisch liegt, gehört mir\"\n"
        "  attn show -o heads.html \"Das Buch, das auf dem Tisch liegt, gehört mir\"\n"
        "  attn show -m models/shakespeare -o two.html --beside \"my lady comes\" \"my lord comes\"\n"
        "  attn show -m smollm2.gguf --layer 3 --head 5 \"The cat that was sitting on the mat jumped\"",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
