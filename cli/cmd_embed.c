/* cmd_embed.c: attn embed. */
#include "common.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POOL_OF_MODEL, POOL_MEAN, POOL_CLS, POOL_POOLER };
static const char *const pooling_names[] = {"model", "mean", "cls", "pooler", NULL};

typedef struct settings {
    const char *model, *output;
    long long max_tokens;
    int pooling;
    bool cosine, vectors, truncate, raw, json;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the folder of a BERT-type model", 0, 0, NULL},
    {"cosine", 0, OPTION_FLAG, AT(cosine), NULL, "how alike each two texts are (of two operands or more the default)",
     0, 0, NULL},
    {"vectors", 0, OPTION_FLAG, AT(vectors), NULL, "the vectors, a text a line (else the default)", 0, 0, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "the vectors as x.npy", 0, 0, NULL},
    {"pooling", 0, OPTION_CHOICE, AT(pooling), "NAME",
     "the mean of the tokens' states, the first token's (cls), or the model's pooler of that; by default what the "
     "model's folder says, else the mean",
     0, 0, pooling_names},
    {"no-normalize", 0, OPTION_FLAG, AT(raw), NULL, "leave the vectors' lengths as they are", 0, 0, NULL},
    {"truncate", 0, OPTION_FLAG, AT(truncate), NULL, "cut texts that are too long instead of refusing them", 0, 0,
     NULL},
    {"max-tokens", 0, OPTION_INT, AT(max_tokens), "N",
     "of a text, special ones included (what the model's folder says, else its context length)", 1, 1e9, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "JSON: an object a text, or one with all cosines", 0, 0, NULL},
};

/* Texts that wait, and the vectors of those that do not. */
typedef struct state {
    const command *c;
    const settings *s;
    const translator *t;
    attn_embed_options options;
    size_t width, limit;
    char **text;    /* (count) */
    float *vectors; /* (count, width) */
    size_t count, done, capacity;
    attn_tokens tokens;
    bool kept; /* all vectors are needed at the end */
} state;

static bool grow(state *e) {
    const size_t capacity = e->capacity ? 2 * e->capacity : 64;
    char **text = realloc(e->text, capacity * sizeof *text);
    if (text) e->text = text;
    float *vectors = text ? realloc(e->vectors, capacity * e->width * sizeof *vectors) : NULL;
    if (!vectors) return cli_fail_memory(e->c) == EXIT_DONE;
    e->vectors = vectors;
    e->capacity = capacity;
    return true;
}

static bool add(state *e, const char *name, size_t line, const char *text, size_t bytes) {
    char why[128];
    if (!cli_check_text(e->c, name, line, text, bytes)) return false;
    if (attn_tokenize(e->t->tokenizer, &e->tokens, text, bytes, true) != ATTN_OK)
        return cli_fail_status(e->c) == EXIT_DONE;
    if (e->tokens.count > e->limit && !e->s->truncate) {
        snprintf(why, sizeof why, "found %zu tokens, expected at most %zu (--truncate cuts)", e->tokens.count,
                 e->limit);
        return cli_fail_at(e->c, name, line, why) == EXIT_DONE;
    }
    if (e->count == e->capacity && !grow(e)) return false;
    if (!(e->text[e->count] = strdup(text))) return cli_fail_memory(e->c) == EXIT_DONE;
    e->count++;
    return true;
}

static bool put_vector(const state *e, size_t i) {
    const float *v = e->vectors + i * e->width;
    if (e->s->json) {
        json_t *root = json_object();
        json_object_set_new(root, "text", json_string(e->text[i]));
        json_object_set_new(root, "embedding", cli_json_floats(v, e->width));
        return cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    }
    for (size_t k = 0; k < e->width; k++) printf("%s%.9g", k ? " " : "", (double)v[k]);
    putchar('\n');
    return !ferror(stdout);
}

/* Vectors of the texts that wait, printed if that is all. */
static bool run_waiting(state *e) {
    const char *const *texts = (const char *const *)(e->text + e->done);
    if (attn_embed(e->t->model, e->t->tokenizer, e->vectors + e->done * e->width, texts, NULL, e->count - e->done,
                   &e->options) != ATTN_OK)
        return cli_fail_status(e->c) == EXIT_DONE;
    bool fine = true;
    for (size_t i = e->done; i < e->count && fine && !e->s->cosine && !e->s->output; i++) fine = put_vector(e, i);
    for (size_t i = e->done; i < e->count && !e->kept; i++) free(e->text[i]);
    if (!e->kept) e->count = 0;
    e->done = e->count;
    return fine && cli_flush();
}

static double cosine(const float *a, const float *b, size_t n) {
    double dot = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : 0;
}

static bool put_cosines(const state *e) {
    const size_t n = e->count;
    json_t *texts = json_array(), *rows = json_array();
    for (size_t j = 0; j < n && !e->s->json; j++) printf("%7zu%s", j + 1, j + 1 < n ? "" : "\n");
    for (size_t i = 0; i < n; i++) {
        json_t *row = json_array();
        for (size_t j = 0; j < n; j++) {
            const double x = cosine(e->vectors + i * e->width, e->vectors + j * e->width, e->width);
            json_array_append_new(row, json_real(x));
            if (!e->s->json) printf("%7.3f", x);
        }
        json_array_append_new(rows, row);
        json_array_append_new(texts, json_string(e->text[i]));
        if (e->s->json) continue;
        printf("  %zu ", i + 1);
        cli_put_text(e->text[i], strlen(e->text[i]));
        putchar('\n');
    }
    if (!e->s->json) {
        json_decref(texts);
        json_decref(rows);
        return !ferror(stdout);
    }
    return cli_put_json(json_pack("{s:o, s:o}", "texts", texts, "cosine", rows), JSON_COMPACT | JSON_REAL_PRECISION(9));
}

static bool finish(state *e) {
    if (e->s->output) {
        const attn_tensor all = attn_tensor_of(e->vectors, ATTN_F32, 2, (const size_t[]){e->count, e->width});
        if (attn_npy_save(cli_context(), e->s->output, &all) != ATTN_OK) return cli_fail_status(e->c) == EXIT_DONE;
        cli_note("%s: %zu vectors of %zu", e->s->output, e->count, e->width);
    }
    return !e->s->cosine || put_cosines(e);
}

static bool read_texts(state *e, char **words, int n) {
    enum { WAITING = 512 };
    line_reader reader = {.fd = -1};
    bool fine = true;
    if (n && !(n == 1 && !strcmp(words[0], "-"))) {
        for (int i = 0; i < n && fine; i++) fine = add(e, "the text", 0, words[i], strlen(words[i]));
        return fine && run_waiting(e);
    }
    fine = cli_open_lines(e->c, &reader, "-");
    while (fine && cli_read_line(e->c, &reader)) {
        fine = add(e, reader.name, reader.line, reader.text, reader.bytes);
        if (fine && (e->count - e->done >= WAITING || !cli_line_waits(&reader))) fine = run_waiting(e);
    }
    fine = fine && !reader.failed && run_waiting(e);
    cli_close_lines(&reader);
    return fine;
}

static int embed(const command *c, const settings *s, const translator *t, char **words, int n) {
    state e = {.c = c, .s = s, .t = t, .options = ATTN_EMBED_OPTIONS_INIT, .tokens = ATTN_TOKENS_INIT};
    if (attn_embed_options_read(&e.options, cli_context(), s->model) != ATTN_OK) return cli_fail_status(c);
    if (s->pooling != POOL_OF_MODEL) e.options.pooling = (attn_pooling)(s->pooling - POOL_MEAN);
    if (s->max_tokens) e.options.max_tokens = (size_t)s->max_tokens;
    e.options.normalise = !s->raw;
    e.options.truncate = s->truncate;
    e.width = attn_model_state_size(t->model);
    e.limit = attn_model_context_length(t->model);
    if (e.options.max_tokens && e.options.max_tokens < e.limit) e.limit = e.options.max_tokens;
    e.kept = s->cosine || s->output;
    bool fine = read_texts(&e, words, n) && finish(&e);
    for (size_t i = 0; i < e.count; i++) free(e.text[i]);
    free(e.text);
    free(e.vectors);
    attn_tokens_free(cli_context(), &e.tokens);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {0};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (!s.model) return cli_wrong_use(c, "-m DIR is missing: the folder of a BERT-type model; none ships");
    if (s.cosine && s.vectors) return cli_wrong_use(c, "found --cosine and --vectors, expected one of them");
    if (s.output && !cli_ends_with(s.output, ".npy"))
        return cli_wrong_use(c, "-o: found \"%s\", expected a name that ends in .npy", s.output);
    if (s.output && s.vectors) return cli_wrong_use(c, "found -o and --vectors, expected one of them");
    s.cosine |= argc - first > 1 && !s.vectors && !s.output;
    translator t;
    if (!cli_load_encoder(c, &t, s.model)) return EXIT_FAILED;
    code = embed(c, &s, &t, argv + first, argc - first);
    cli_free_translator(&t);
    return code;
}

const command command_embed = {
    .name = "embed",
    .summary = "texts as vectors, and how alike they are, by a BERT-type model",
    .operands = "[TEXT...]",
    .description =
        "Each TEXT, or each line of standard input, becomes a vector of length 1. Of one text, or of lines,\n"
        "the numbers are printed; of several operands the cosine of each two.",
    .example = "  attn embed -m minilm \"A cat sits on the mat.\" \"A kitten lies on a rug.\" \"Stocks fell today.\"\n"
               "  attn embed -m minilm -o vectors.npy < lines.txt",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
