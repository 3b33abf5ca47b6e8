/* cmd_tokenize.c: attn tokenize, and attn tokenize --train. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model, *tokenizer, *train, *output;
    text_list data;
    long long vocab_size;
    bool ids, json, decode, lowercase;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "a model's folder (default: the German-English one that ships)", 0, 0,
     NULL},
    {"tokenizer", 0, OPTION_TEXT, AT(tokenizer), "FILE", "a tokenizer.json instead", 0, 0, NULL},
    {"ids", 0, OPTION_FLAG, AT(ids), NULL, "numbers instead of pieces", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "a JSON object a line: ids, pieces, byte spans, words", 0, 0, NULL},
    {"decode", 0, OPTION_FLAG, AT(decode), NULL, "ids in, text out", 0, 0, NULL},
    {"train", 0, OPTION_TEXT, AT(train), "FILE",
     "train byte-pair encoding on the text file FILE (.xz, .gz too); needs -o", 0, 0, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "FILE", "where the new tokenizer.json goes", 0, 0, NULL},
    {"vocab-size", 0, OPTION_INT, AT(vocab_size), "N", "(8000)", 300, 1e6, NULL},
    {"lowercase", 0, OPTION_FLAG, AT(lowercase), NULL, "lower-case everything (with --train)", 0, 0, NULL},
};

static bool print_tokens(const command *c, const settings *s, const attn_tokenizer *k, attn_tokens *tokens,
                         const char *text, size_t bytes) {
    if (attn_tokenize(k, tokens, text, bytes, false) != ATTN_OK) {
        cli_fail_status(c);
        return false;
    }
    if (!s->json) {
        for (size_t i = 0; i < tokens->count; i++) {
            if (s->ids) printf("%s%d", i ? " " : "", tokens->token[i].id);
            else printf("%s%s", i ? " " : "", attn_tokenizer_piece(k, tokens->token[i].id));
        }
        putchar('\n');
        return true;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < tokens->count; i++) {
        const attn_token *t = &tokens->token[i];
        json_array_append_new(list,
                              json_pack("{s:i,s:s,s:[II],s:i}", "id", t->id, "piece", attn_tokenizer_piece(k, t->id),
                                        "bytes", (json_int_t)t->first, (json_int_t)t->end, "word", t->word));
    }
    json_t *root = json_pack("{s:o,s:o}", "text", json_stringn(tokens->text, tokens->bytes), "tokens", list);
    json_dumpf(root, stdout, JSON_COMPACT);
    json_decref(root);
    putchar('\n');
    return true;
}

static bool print_text(const command *c, const attn_tokenizer *k, const char *line) {
    size_t n = 0, capacity = strlen(line) / 2 + 1;
    int32_t *ids = malloc(capacity * sizeof *ids);
    char *end, *out;
    if (!ids) return false;
    for (;; line = end) {
        long id = strtol(line, &end, 10);
        if (end == line) break;
        if (id < 0 || (size_t)id >= attn_tokenizer_size(k)) {
            cli_fail(c, "found id %ld, expected 0 to %zu", id, attn_tokenizer_size(k) - 1);
            free(ids);
            return false;
        }
        ids[n++] = (int32_t)id;
    }
    bool fine = line[strspn(line, " \t")] == 0;
    if (!fine) cli_fail(c, "found \"%.20s\", expected ids with spaces between", line + strspn(line, " \t"));
    else if (attn_detokenize(k, &out, NULL, ids, n, NULL) == ATTN_OK) {
        puts(out);
        attn_text_free(cli_context(), out);
    } else {
        cli_fail_status(c);
        fine = false;
    }
    free(ids);
    return fine;
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
    bool fine = line && length;
    n = 0;
    for (char *at = text; fine && at < text + bytes;) {
        char *end = memchr(at, '\n', (size_t)(text + bytes - at));
        if (!end) end = text + bytes;
        line[n] = at;
        length[n++] = (size_t)(end - at);
        at = end + 1;
    }
    attn_bpe_options o = ATTN_BPE_OPTIONS_INIT;
    o.vocab_size = (size_t)s->vocab_size;
    o.lowercase = s->lowercase;
    fine = fine && attn_tokenizer_train_bpe(&k, ctx, line, length, n, &o) == ATTN_OK &&
           attn_tokenizer_save(k, s->output) == ATTN_OK;
    if (!fine) cli_fail_status(c);
    else cli_note("%s: %zu tokens from %zu lines", s->output, attn_tokenizer_size(k), n);
    attn_tokenizer_free(k);
    free(line);
    free(length);
    attn_text_free(ctx, text);
    return fine ? EXIT_DONE : EXIT_FAILED;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.vocab_size = 8000};
    char path[4096];
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    attn_context *ctx = cli_context();
    if (!ctx) return EXIT_FAILED;
    if (s.train) return s.output ? train(c, &s) : cli_wrong_use(c, "--train needs -o FILE");
    if (!s.tokenizer) {
        const char *folder = s.model ? s.model : cli_share("models/de-en");
        if (!folder) return cli_fail(c, "no tokenizer that ships was found; -m FOLDER or --tokenizer FILE names one");
        if (snprintf(path, sizeof path, "%s/tokenizer.json", folder) >= (int)sizeof path)
            return cli_fail(c, "the path is too long");
        s.tokenizer = path;
    }
    attn_tokenizer *k;
    if (attn_tokenizer_load(&k, ctx, s.tokenizer) != ATTN_OK) return cli_fail_status(c);
    attn_tokens tokens = ATTN_TOKENS_INIT;
    bool fine = true;
    for (int i = first; i < argc && fine; i++)
        fine = s.decode ? print_text(c, k, argv[i]) : print_tokens(c, &s, k, &tokens, argv[i], strlen(argv[i]));
    line_reader reader = {.stream = stdin, .name = "standard input"};
    while (first == argc && fine && cli_read_line(c, &reader))
        fine = s.decode ? print_text(c, k, reader.text) : print_tokens(c, &s, k, &tokens, reader.text, reader.bytes);
    free(reader.text);
    attn_tokens_free(ctx, &tokens);
    attn_tokenizer_free(k);
    return fine && !reader.failed ? EXIT_DONE : EXIT_FAILED;
}

const command command_tokenize = {
    .name = "tokenize",
    .summary = "text to tokens and back; train a tokenizer",
    .operands = "[TEXT...]",
    .description = "Prints the tokens of each TEXT, or of each line of standard input.",
    .example = "  attn tokenize --json \"Kannst du mir helfen?\"\n  attn tokenize --train corpus.txt --vocab-size 8000 "
               "-o tokenizer.json",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
