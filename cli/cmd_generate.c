/* cmd_generate.c: attn generate. */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

typedef generate_settings settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR",
     "the model's folder, or a file: .gguf, llama2.c's .bin (default: the one that ships, Shakespeare's letters)", 0, 0,
     NULL},
    {"tokenizer", 0, OPTION_TEXT, AT(tokenizer), "FILE", "its tokenizer, if it is not in or beside the model", 0, 0,
     NULL},
    {"prompt", 'p', OPTION_TEXT, AT(prompt), "TEXT", "how the text begins; so do the operands", 0, 0, NULL},
    {"file", 'f', OPTION_TEXT, AT(file), "FILE", "the same from a file (\"-\": standard input)", 0, 0, NULL},
    {"batch", 0, OPTION_INT, AT(batch), "N",
     "each operand, or each line of --file or of standard input, is a prompt of its own; N of them at a time, whose "
     "texts "
     "are those that each gives alone",
     1, 4096, NULL},
    {"chat", 0, OPTION_FLAG, AT(chat), NULL,
     "answer the prompt as the model's chat template has it; without one, each line of standard input in turn", 0, 0,
     NULL},
    {"system", 0, OPTION_TEXT, AT(system), "TEXT", "with --chat: what the model is told before", 0, 0, NULL},
    {"template", 0, OPTION_TEXT, AT(template), "NAME", "a chat template in place of the model's: chatml, llama-3 ...",
     0, 0, NULL},
    {"instruction", 0, OPTION_CHOICE, AT(prompt_template), "FORM",
     "the prompt is an instruction, written as attn train --template has it: alpaca, chatml, plain; prints the answer "
     "alone",
     0, 0, cli_templates},
    {"input", 0, OPTION_TEXT, AT(input), "TEXT", "what the instruction is about", 0, 0, NULL},
    {"tokens", 'n', OPTION_INT, AT(tokens), "N",
     "at most N more tokens (0: until the context is full; of the model that ships 500)", 0, 1e9, NULL},
    {"context", 'c', OPTION_INT, AT(context), "N", "tokens in all, if less than the model's context length", 1, 1e9,
     NULL},
    {"cache", 0, OPTION_CHOICE, AT(cache), "NAME", "keys and values of the tokens so far: f32, or int8 (f32)", 0, 0,
     cli_caches},
    {"slide", 0, OPTION_FLAG, AT(slide), NULL, "when the context is full, go on from its last half", 0, 0, NULL},
    {"temp", 0, OPTION_FLOAT, AT(temperature), "T", "temperature; 0: always the likeliest token (0.8)", 0, 100, NULL},
    {"top-k", 0, OPTION_INT, AT(top_k), "K", "of the K likeliest tokens only (40; 0: all)", 0, 1e9, NULL},
    {"top-p", 0, OPTION_FLOAT, AT(top_p), "P", "of the likeliest tokens that together have P (0.95; 1: all)", 0, 1,
     NULL},
    {"min-p", 0, OPTION_FLOAT, AT(min_p), "P", "of tokens with P times the likeliest one's probability (0.05)", 0, 1,
     NULL},
    {"repetition-penalty", 0, OPTION_FLOAT, AT(repetition_penalty), "X",
     "makes tokens that the text has less likely (1: does not)", 0.01, 100, NULL},
    {"precision", 0, OPTION_CHOICE, AT(precision), "NAME", CLI_WEIGHTS_HELP, 0, 0, cli_weights},
    {"seed", 's', OPTION_INT, AT(seed), "N", "of the draws: the same text each time (1)", 0, 9e15, NULL},
    {"stop", 0, OPTION_LIST, AT(stop), "TEXT", "end before TEXT", 0, 0, NULL},
    {"no-prompt", 0, OPTION_FLAG, AT(no_prompt), NULL, "print the continuation alone", 0, 0, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "prompt, conversation, continuation and why it ended as a JSON object", 0,
     0, NULL},
};

const char *generate_end_name(attn_generate_end end) {
    switch (end) {
    case ATTN_GENERATE_END_TOKEN: return "end token";
    case ATTN_GENERATE_STOP: return "stop";
    case ATTN_GENERATE_MAX_TOKENS: return "tokens";
    case ATTN_GENERATE_CONTEXT: return "context";
    case ATTN_GENERATE_GOES_ON: break;
    }
    return "interrupted";
}

/* The prompt as malloc'd text; NULL, said, if there is none. */
static char *read_prompt(const command *c, const settings *s, char **words, int n, int *code) {
    const int given = (s->prompt != NULL) + (s->file != NULL) + (n > 0);
    const char *name = !s->file ? "the prompt" : strcmp(s->file, "-") ? s->file : "(stdin)";
    char *text = NULL;
    size_t bytes = 0;
    *code = EXIT_FAILED;
    if (given != 1) {
        *code = cli_wrong_use(
            c, given ? "the prompt is given %d times, expected once" : "found no prompt, expected TEXT, -p or -f",
            given);
        return NULL;
    }
    if (s->file) {
        char *read;
        if (attn_read_text(cli_context(), &read, &bytes, s->file) != ATTN_OK) {
            cli_fail_status(c);
            return NULL;
        }
        if ((text = malloc(bytes + 1))) memcpy(text, read, bytes + 1);
        attn_text_free(cli_context(), read);
    } else if ((text = s->prompt ? strdup(s->prompt) : cli_join(c, words, n))) {
        bytes = strlen(text);
    }
    if (!text) cli_fail_memory(c);
    else if (!cli_check_text(c, name, 0, text, bytes)) {
        free(text);
        return NULL;
    }
    return text;
}

char *generate_instruction(const command *c, const settings *s, char *text) {
    char *prompt, *copy = NULL;
    const char *input = s->input;
    if (input && !cli_check_text(c, "--input", 0, input, strlen(input))) input = NULL;
    else if (attn_prompt(cli_context(), &prompt, NULL, (attn_template)s->prompt_template, text, input) != ATTN_OK)
        cli_fail_status(c);
    else {
        if (!(copy = strdup(prompt))) cli_fail_memory(c);
        attn_text_free(cli_context(), prompt);
    }
    free(text);
    return copy;
}

void generate_put_json(const char *prompt, const char *given, const char *text, size_t bytes, const char *end) {
    json_t *root = json_object();
    json_object_set_new(root, "prompt", json_string(prompt));
    if (given) json_object_set_new(root, "conversation", json_string(given));
    json_object_set_new(root, "text", json_stringn(text ? text : "", bytes));
    json_object_set_new(root, "end", json_string(end));
    cli_put_json(root, JSON_COMPACT);
}

/* Prints pieces as they come. given: what the model got, or NULL. answer (NULL: not wanted) gets all of
 * them, malloc'd. */
static int stream(const command *c, const settings *s, attn_generator *g, const char *prompt, const char *given,
                  char **answer) {
    char *all = NULL;
    size_t all_bytes = 0;
    FILE *kept = s->json || answer ? open_memstream(&all, &all_bytes) : NULL;
    if ((s->json || answer) && !kept) return cli_fail_memory(c);
    if (!s->json && !s->no_prompt && !s->chat) fputs(prompt, stdout);
    int code = EXIT_DONE;
    bool begun = *prompt;
    while (code == EXIT_DONE && !cli_interrupted) {
        const char *text;
        size_t bytes;
        if (!s->json && !cli_flush()) break;
        if (attn_generator_next(g, &text, &bytes) != ATTN_OK) code = cli_fail_status(c);
        else if (bytes == 0) break;
        else {
            begun = true;
            if (!s->json) fwrite(text, 1, bytes, stdout);
            if (kept) fwrite(text, 1, bytes, kept);
        }
    }
    const attn_generate_end end = attn_generator_end(g);
    if (!s->json && (begun || code == EXIT_DONE)) fputc('\n', stdout);
    if (kept && fclose(kept) != 0) code = cli_fail_memory(c);
    if (s->json && code == EXIT_DONE) generate_put_json(prompt, given, all, all_bytes, generate_end_name(end));
    if (answer) *answer = all;
    else free(all);
    return code;
}

attn_generate_options generate_options(const settings *s) {
    attn_generate_options o = ATTN_GENERATE_OPTIONS_INIT;
    o.max_tokens = (size_t)s->tokens, o.context = (size_t)s->context;
    o.temperature = (float)s->temperature, o.top_k = (size_t)s->top_k, o.top_p = (float)s->top_p;
    o.min_p = (float)s->min_p, o.repetition_penalty = (float)s->repetition_penalty, o.seed = (uint64_t)s->seed;
    o.stop = s->stop.item, o.stops = s->stop.count, o.slide = s->slide, o.cache = cli_cache(s->cache);
    return o;
}

int generate_check_context(const command *c, const settings *s, const translator *t, const attn_generator *g) {
    if (attn_generator_end(g) != ATTN_GENERATE_CONTEXT) return EXIT_DONE;
    const size_t length = attn_model_context_length(t->model), wanted = (size_t)s->context;
    const size_t limit = wanted && wanted < length ? wanted : length;
    if (s->tokens)
        return cli_fail(c,
                        "the context of %zu tokens was full before -n %lld tokens came; a smaller -n, or --slide to go "
                        "on from its last half",
                        limit, s->tokens);
    cli_note("the context of %zu tokens is full; --slide goes on from its last half", limit);
    return EXIT_DONE;
}

static int generate(const command *c, const settings *s, const translator *t, const char *prompt) {
    const attn_generate_options o = generate_options(s);
    attn_generator *g;
    if (attn_generator_create(&g, t->model, t->tokenizer, &o) != ATTN_OK) return cli_fail_status(c);
    int code = attn_generator_prompt(g, prompt, strlen(prompt)) == ATTN_OK ? stream(c, s, g, prompt, NULL, NULL)
                                                                           : cli_fail_status(c);
    if (code == EXIT_DONE) code = generate_check_context(c, s, t, g);
    attn_generator_free(g);
    return code;
}

/* ---- conversations ------------------------------------------------------------------------------------------- */

typedef struct conversation {
    const command *c;
    const settings *s;
    const translator *t;
    attn_chat *chat;
    attn_generate_options options;
    int32_t end;
    attn_generator *g;
    attn_message *message; /* (count) with malloc'd texts */
    size_t count;
} conversation;

/* Takes text. */
static bool add_message(conversation *v, const char *role, char *text) {
    attn_message *grown = text ? realloc(v->message, (v->count + 1) * sizeof *grown) : NULL;
    if (!grown) {
        free(text);
        return cli_fail_memory(v->c) == EXIT_DONE;
    }
    v->message = grown;
    v->message[v->count++] = (attn_message){role, text};
    return true;
}

/* What the generator has of the conversation stays in its cache; if it is another text, it begins anew. */
static bool feed(conversation *v, const int32_t *ids, size_t n) {
    size_t count = 0;
    const int32_t *before = v->g ? attn_generator_ids(v->g, &count) : NULL;
    if (!v->g || count >= n || memcmp(before, ids, count * sizeof *ids) != 0) {
        attn_generator_free(v->g);
        v->g = NULL;
        count = 0;
        if (attn_generator_create(&v->g, v->t->model, v->t->tokenizer, &v->options) != ATTN_OK) return false;
    }
    return attn_generator_prompt_ids(v->g, ids + count, n - count) == ATTN_OK;
}

static int take_turn(conversation *v, const char *text) {
    int32_t *ids = NULL;
    size_t n;
    char *answer = NULL, *given = NULL;
    if (!add_message(v, "user", strdup(text))) return EXIT_FAILED;
    const bool fed = attn_chat_tokenize(v->chat, &ids, &n, v->t->tokenizer, v->message, v->count) == ATTN_OK &&
                     feed(v, ids, n) && attn_chat_format(v->chat, &given, v->message, v->count) == ATTN_OK;
    attn_text_free(cli_context(), ids);
    if (!fed) return cli_fail_status(v->c);
    int code = stream(v->c, v->s, v->g, text, given, &answer);
    attn_text_free(cli_context(), given);
    if (code == EXIT_DONE) code = generate_check_context(v->c, v->s, v->t, v->g);
    if (!answer || !add_message(v, "assistant", answer)) return EXIT_FAILED;
    return code;
}

/* Each line is a turn. */
static int converse(conversation *v) {
    line_reader lines;
    int code = EXIT_DONE;
    const bool asks = cli_terminal(stdin).is_terminal && !cli_quiet;
    if (!cli_open_lines(v->c, &lines, "-")) return EXIT_FAILED;
    while (code == EXIT_DONE && !cli_interrupted) {
        if (asks) fputs("> ", stderr);
        if (!cli_read_line(v->c, &lines)) break;
        if (!cli_check_text(v->c, lines.name, lines.line, lines.text, lines.bytes)) code = EXIT_FAILED;
        else if (lines.bytes) code = take_turn(v, lines.text);
        if (!cli_flush()) break;
    }
    if (lines.failed) code = EXIT_FAILED;
    cli_close_lines(&lines);
    return code;
}

int generate_load_chat(const command *c, const settings *s, const translator *t, attn_chat **chat, int32_t *end,
                       attn_generate_options *o) {
    if (!s->model) return cli_fail(c, "the model that ships answers nothing: -m names one that does");
    if (attn_chat_load(chat, cli_context(), s->model, s->template) != ATTN_OK) return cli_fail_status(c);
    *end = attn_chat_end(*chat, t->tokenizer);
    o->ends = end, o->end_count = *end >= 0;
    return EXIT_DONE;
}

static int chat(const command *c, const settings *s, const translator *t, const char *prompt) {
    conversation v = {.c = c, .s = s, .t = t, .options = generate_options(s)};
    int code;
    if ((code = generate_load_chat(c, s, t, &v.chat, &v.end, &v.options)) != EXIT_DONE) return code;
    code = EXIT_FAILED;
    if (!s->system || add_message(&v, "system", strdup(s->system)))
        code = prompt ? take_turn(&v, prompt) : converse(&v);
    for (size_t i = 0; i < v.count; i++) free((char *)(uintptr_t)v.message[i].text);
    free(v.message);
    attn_generator_free(v.g);
    attn_chat_free(v.chat);
    return code;
}

static int batch(const command *c, settings *s, char **texts, int n) {
    translator t;
    int code = EXIT_FAILED;
    s->no_prompt |= s->prompt_template >= 0;
    if (!cli_load_language_model(c, &t, s->model, s->tokenizer, s->precision)) return code;
    cli_catch_interrupt();
    code = generate_batch(c, s, &t, texts, n);
    cli_free_translator(&t);
    return code;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {.temperature = 0.8,
                  .top_k = 40,
                  .top_p = 0.95,
                  .min_p = 0.05,
                  .repetition_penalty = 1,
                  .seed = 1,
                  .prompt_template = -1};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (!s.model) { /* its context is short */
        s.slide = true;
        if (!s.tokens) s.tokens = 500;
    }
    if (!s.chat && (s.system || s.template)) return cli_wrong_use(c, "--system and --template belong to --chat");
    if (s.input && s.prompt_template < 0) return cli_wrong_use(c, "--input belongs to --instruction");
    if (s.chat && s.prompt_template >= 0)
        return cli_wrong_use(c, "found --chat and --instruction, expected one of them");
    if (s.batch && (s.prompt || (s.file && first < argc)))
        return cli_wrong_use(c, "with --batch prompts are operands, or lines of --file or of standard input");
    if (!cli_context()) return EXIT_FAILED;
    if (s.batch) return batch(c, &s, argv + first, argc - first);
    const bool lines = s.chat && !s.prompt && !s.file && first == argc;
    char *prompt = lines ? NULL : read_prompt(c, &s, argv + first, argc - first, &code);
    if (prompt && s.prompt_template >= 0) {
        s.no_prompt = true;
        prompt = generate_instruction(c, &s, prompt);
        code = EXIT_FAILED;
    }
    if (!prompt && !lines) return code;
    translator t;
    code = EXIT_FAILED;
    if (cli_load_language_model(c, &t, s.model, s.tokenizer, s.precision)) {
        cli_catch_interrupt();
        code = s.chat ? chat(c, &s, &t, prompt) : generate(c, &s, &t, prompt);
        cli_free_translator(&t);
    }
    free(prompt);
    return code;
}

const command command_generate = {
    .name = "generate",
    .summary = "continue a text with a language model",
    .operands = "[TEXT...]",
    .description =
        "Prints the prompt and what the model thinks comes next, as it comes. The same seed gives the same text, on\n"
        "any number of threads. Models are folders as transformers writes them, GGUF files and llama2.c's: GPT-2,\n"
        "Llama, Mistral, Qwen2, Qwen3, Gemma 2 and 3. With --chat the text is a conversation in the form that the\n"
        "model was taught (ChatML, Llama 2 and 3, Mistral, Gemma, Zephyr), and its answer is printed.",
    .example = "  attn generate \"ROMEO:\"\n"
               "  attn generate --batch 8 -n 100 -f prompts.txt --json\n"
               "  attn generate -m out/gpt -p \"KING RICHARD\" -n 400 --slide --temp 0.7\n"
               "  attn generate -m SmolLM2-135M-Instruct.Q4_1.gguf --chat \"What is the capital of France?\"",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
