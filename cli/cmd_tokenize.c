/* cmd_tokenize.c: attn tokenize, and attn tokenize --train. */
#include "common.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model, *tokenizer, *train, *output, *file;
    long long vocab_size, window, stride, limit;
    bool ids, json, decode, lowercase, embeddings;
    attn_model *network; /* with --embeddings */
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "a model's folder (default: the German-English one that ships)", 0, 0,
     NULL},
    {"tokenizer", 0, OPTION_TEXT, AT(tokenizer), "FILE",
     "a tokenizer.json instead, a SentencePiece .model, tiktoken ranks, GPT-2's vocab.json, a .gguf", 0, 0, NULL},
    {"ids", 0, OPTION_FLAG, AT(ids), NULL, "numbers instead of pieces", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "a JSON object a line: ids, pieces, byte spans, words", 0, 0, NULL},
    {"decode", 0, OPTION_FLAG, AT(decode), NULL, "ids in, text out", 0, 0, NULL},
    {"file", 'f', OPTION_TEXT, AT(file), "FILE", "a file as one text (.xz, .gz, \"-\" too)", 0, 0, NULL},
    {"window", 0, OPTION_INT, AT(window), "N",
     "windows of N tokens and what a language model learns of each: the same, one token later", 1, 1e7, NULL},
    {"stride", 0, OPTION_INT, AT(stride), "N", "tokens from one window to the next (as many as it has)", 1, 1e7, NULL},
    {"embeddings", 0, OPTION_FLAG, AT(embeddings), NULL,
     "with -m, a language model: the first numbers of each token's vector, its position's, and their sum", 0, 0, NULL},
    {"limit", 0, OPTION_INT, AT(limit), "N", "the first N windows or tokens only", 1, 1e12, NULL},
    {"train", 0, OPTION_TEXT, AT(train), "FILE",
     "train byte-pair encoding on the text file FILE (.xz, .gz too); needs -o", 0, 0, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "where the new tokenizer.json goes", 0, 0, NULL},
    {"vocab-size", 0, OPTION_INT, AT(vocab_size), "N", "of the new tokenizer (8000)", 300, 1e6, NULL},
    {"lowercase", 0, OPTION_FLAG, AT(lowercase), NULL, "lower-case everything (with --train)", 0, 0, NULL},
};

/* What is read, and where: a line of stdin, or an operand (line 0). */
typedef struct input {
    const char *name, *text;
    size_t line, bytes;
} input;

static bool put_json(const attn_tokenizer *k, const attn_tokens *tokens) {
    json_t *list = json_array(), *root = json_object();
    for (size_t i = 0; i < tokens->count; i++) {
        const attn_token *t = &tokens->token[i];
        json_array_append_new(list, json_pack("{s:i,s:s,s:[II],s:i}", "id", (int)t->id, "piece",
                                              attn_tokenizer_piece(k, t->id), "bytes", (json_int_t)t->first,
                                              (json_int_t)t->end, "word", (int)t->word));
    }
    json_object_set_new(root, "text", json_stringn(tokens->text, tokens->bytes));
    json_object_set_new(root, "tokens", list);
    return cli_put_json(root, JSON_COMPACT);
}

static void put_id(int32_t id) {
    char digits[12], *at = digits + sizeof digits; /* printf takes longer than the tokenizer */
    do *--at = (char)('0' + id % 10);
    while (id /= 10);
    fwrite(at, 1, (size_t)(digits + sizeof digits - at), stdout);
}

static void put_range(const settings *s, const attn_tokenizer *k, const attn_tokens *tokens, size_t first, size_t n) {
    for (size_t i = first; i < first + n; i++) {
        if (i > first) putchar(' ');
        if (s->ids) put_id(tokens->token[i].id);
        else fputs(attn_tokenizer_piece(k, tokens->token[i].id), stdout);
    }
}

/* A window and its targets a line, with a TAB between; those that are whole. */
static void put_windows(const settings *s, const attn_tokenizer *k, const attn_tokens *tokens) {
    const size_t n = (size_t)s->window, stride = s->stride ? (size_t)s->stride : n;
    size_t most = s->limit ? (size_t)s->limit : SIZE_MAX;
    for (size_t first = 0; first + n < tokens->count && most--; first += stride) {
        put_range(s, k, tokens, first, n);
        putchar('\t');
        put_range(s, k, tokens, first + 1, n);
        putchar('\n');
    }
}

enum { SHOWN = 4 };

static void put_numbers(const float *a, const float *b, size_t n) {
    putchar('\t');
    for (size_t i = 0; i < SHOWN && i < n; i++)
        printf("%s%7.4f", i ? " " : "", (double)(a ? a[i] : 0) + (double)(b ? b[i] : 0));
}

/* Token, position, and what the first layer gets of both; a model without learned positions has none. */
static bool put_embeddings(const command *c, const settings *s, const attn_model *model, const attn_tokenizer *k,
                           const attn_tokens *tokens) {
    const attn_parameter *token = attn_parameters_find(attn_model_parameters(model), "tokens.weight");
    const attn_parameter *position = attn_parameters_find(attn_model_parameters(model), "positions.weight");
    if (!token || token->value.rank != 2)
        return cli_fail(c, "%s: a %s model, expected a language model", s->model, attn_model_type(model)) == EXIT_DONE;
    const size_t width = token->value.shape[1], most = s->limit ? (size_t)s->limit : SIZE_MAX;
    for (size_t i = 0; i < tokens->count && i < most; i++) {
        if (position && i >= position->value.shape[0])
            return cli_fail(c, "the text has %zu tokens, the model %zu positions", tokens->count,
                            position->value.shape[0]) == EXIT_DONE;
        const int32_t id = tokens->token[i].id;
        const float *e = (const float *)token->value.data + (size_t)id * width;
        const float *p = position ? (const float *)position->value.data + i * width : NULL;
        printf("%zu\t%d\t%s", i, (int)id, attn_tokenizer_piece(k, id));
        put_numbers(e, NULL, width);
        if (p) put_numbers(NULL, p, width);
        if (p) put_numbers(e, p, width);
        putchar('\n');
    }
    return true;
}

static bool print_tokens(const command *c, const settings *s, const attn_tokenizer *k, attn_tokens *tokens,
                         const input *in) {
    if (!cli_check_text(c, in->name, in->line, in->text, in->bytes)) return false;
    if (attn_tokenize(k, tokens, in->text, in->bytes, false) != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    if (s->json) return put_json(k, tokens);
    if (s->network) return put_embeddings(c, s, s->network, k, tokens) && !ferror(stdout);
    if (s->window) {
        put_windows(s, k, tokens);
        return !ferror(stdout);
    }
    put_range(s, k, tokens, 0, tokens->count);
    putchar('\n');
    return !ferror(stdout);
}

/* Ids with white space between; malloc'd. NULL after a message. */
static int32_t *read_ids(const command *c, const attn_tokenizer *k, const input *in, size_t *n) {
    int32_t *ids = malloc((in->bytes / 2 + 1) * sizeof *ids);
    const char *at = in->text + strspn(in->text, " \t");
    char why[128];
    if (!ids) cli_fail_memory(c);
    for (*n = 0; ids && *at; at += strspn(at, " \t")) {
        char *end;
        long id = strtol(at, &end, 10);
        if (end == at || (*end && *end != ' ' && *end != '\t') || id < 0 || (size_t)id >= attn_tokenizer_size(k)) {
            size_t length = strcspn(at, " \t");
            snprintf(why, sizeof why, "found \"%.*s\", expected ids from 0 to %zu", length < 40 ? (int)length : 40, at,
                     attn_tokenizer_size(k) - 1);
            cli_fail_at(c, in->name, in->line, why);
            free(ids);
            return NULL;
        }
        ids[(*n)++] = (int32_t)id;
        at = end;
    }
    return ids;
}

static bool print_text(const command *c, const attn_tokenizer *k, const input *in) {
    size_t n, bytes;
    char *out;
    int32_t *ids = read_ids(c, k, in, &n);
    if (!ids) return false;
    attn_status status = attn_detokenize(k, &out, &bytes, ids, n, NULL);
    free(ids);
    if (status != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    cli_put_text(out, bytes);
    putchar('\n');
    attn_text_free(cli_context(), out);
    return !ferror(stdout);
}

static bool whole_file(const command *c, const settings *s, const attn_tokenizer *k) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    char *text;
    size_t bytes;
    if (attn_read_text(cli_context(), &text, &bytes, s->file) != ATTN_OK) return cli_fail_status(c) == EXIT_DONE;
    const input in = {strcmp(s->file, "-") ? s->file : "(stdin)", text, 0, bytes};
    const bool fine = print_tokens(c, s, k, &tokens, &in);
    attn_tokens_free(cli_context(), &tokens);
    attn_text_free(cli_context(), text);
    return fine;
}

/* Operands, else lines of stdin. */
static bool each_text(const command *c, const settings *s, const attn_tokenizer *k, char **words, int n) {
    attn_tokens tokens = ATTN_TOKENS_INIT;
    line_reader reader = {.fd = -1};
    bool fine = true, stream = n == 0 || (n == 1 && !strcmp(words[0], "-"));
    for (int i = 0; i < n && fine && !stream; i++) {
        input in = {"the text", words[i], 0, strlen(words[i])};
        fine = s->decode ? print_text(c, k, &in) : print_tokens(c, s, k, &tokens, &in);
    }
    if (stream) fine = cli_open_lines(c, &reader, "-");
    while (stream && fine && cli_read_line(c, &reader)) {
        input in = {reader.name, reader.text, reader.line, reader.bytes};
        fine = s->decode ? print_text(c, k, &in) : print_tokens(c, s, k, &tokens, &in);
        if (!cli_line_waits(&reader)) fine = cli_flush() && fine;
    }
    cli_close_lines(&reader);
    attn_tokens_free(cli_context(), &tokens);
    return fine && !reader.failed;
}

static int train(const command *c, const settings *s) {
    attn_context *ctx = cli_context();
    char *text;
    size_t bytes, n = 0;
    if (attn_read_text(ctx, &text, &bytes, s->train) != ATTN_OK) return cli_fail_status(c);
    for (size_t i = 0; i < bytes; i++) n += text[i] == '\n';
    const char **line = malloc((n + 1) * sizeof *line);
    size_t *length = malloc((n + 1) * sizeof *length);
    attn_tokenizer *k = NULL;
    bool fine = (line && length) || cli_fail_memory(c) == EXIT_DONE;
    n = 0;
    for (char *at = text; fine && at < text + bytes;) {
        char *end = memchr(at, '\n', (size_t)(text + bytes - at));
        if (!end) end = text + bytes;
        line[n] = at;
        length[n++] = (size_t)(end - at);
        fine = cli_check_text(c, strcmp(s->train, "-") ? s->train : "(stdin)", n, at, (size_t)(end - at));
        at = end + 1;
    }
    attn_bpe_options o = ATTN_BPE_OPTIONS_INIT;
    o.vocab_size = (size_t)s->vocab_size;
    o.lowercase = s->lowercase;
    if (fine)
        fine = (attn_tokenizer_train_bpe(&k, ctx, line, length, n, &o) == ATTN_OK &&
                attn_tokenizer_save(k, s->output) == ATTN_OK) ||
               cli_fail_status(c) == EXIT_DONE;
    if (fine) cli_note("%s: %zu tokens from %zu lines", s->output, attn_tokenizer_size(k), n);
    attn_tokenizer_free(k);
    free(line);
    free(length);
    attn_text_free(ctx, text);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.vocab_size = 8000};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (s.train && !s.output) return cli_wrong_use(c, "--train needs -o FILE: where the new tokenizer goes");
    if (s.train && first < argc)
        return cli_wrong_use(c, "found operand \"%s\", expected none with --train", argv[first]);
    if (!s.train && s.output) return cli_wrong_use(c, "-o belongs to --train");
    if (s.decode && (s.json || s.ids)) return cli_wrong_use(c, "--decode prints text, found --json or --ids too");
    if (s.file && (first < argc || s.decode))
        return cli_wrong_use(c, "--file is the text, found %s too", first < argc ? "an operand" : "--decode");
    if (s.embeddings && (!s.model || s.tokenizer || s.window || s.json))
        return cli_wrong_use(c, "--embeddings needs -m DIR, and no --tokenizer, --window or --json");
    if ((s.stride && !s.window) || (s.limit && !s.window && !s.embeddings))
        return cli_wrong_use(c, "--%s belongs to --window", s.stride ? "stride" : "limit");
    attn_context *ctx = cli_context();
    if (!ctx) return EXIT_FAILED;
    if (s.train) return train(c, &s);
    if (!s.tokenizer) {
        const char *folder = s.model ? s.model : cli_share("models/de-en");
        if (!folder) return cli_fail(c, "no tokenizer that ships was found; -m DIR or --tokenizer FILE names one");
        s.model = folder;
    }
    attn_tokenizer *k;
    attn_status status =
        s.tokenizer ? attn_tokenizer_load(&k, ctx, s.tokenizer) : attn_tokenizer_of_model(&k, ctx, s.model);
    if (status != ATTN_OK) return cli_fail_status(c);
    bool fine =
        !s.embeddings || attn_model_load(&s.network, ctx, s.model) == ATTN_OK || cli_fail_status(c) == EXIT_DONE;
    if (fine) fine = s.file ? whole_file(c, &s, k) : each_text(c, &s, k, argv + first, argc - first);
    attn_model_free(s.network);
    attn_tokenizer_free(k);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

const command command_tokenize = {
    .name = "tokenize",
    .summary = "text to tokens and back; train a tokenizer",
    .operands = "[TEXT...]",
    .description = "Prints the tokens of each TEXT, or of each line of standard input; byte spans are those of the "
                   "text that --json prints.",
    "  attn tokenize --json \"Kannst du mir helfen?\"\n  attn tokenize --train corpus.txt --vocab-size 8000 "
    "-o tokenizer.json",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
