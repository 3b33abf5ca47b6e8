/* generate_batch.c: attn generate --batch: several prompts at a time. A text that has ended makes room for the next
 * prompt; what is printed is in the order of the prompts. A prompt that the context cannot hold is said, gets no
 * continuation, and leaves the others alone. After an interrupt or a failure all that was begun is printed as far as it
 * came. */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

typedef struct answer {
    char *prompt, *given, *text; /* malloc'd; of the library; of the stream */
    size_t bytes, line;
    FILE *stream;
    attn_generator *g; /* NULL: the text has ended */
    const char *end;   /* why: as generate_end_name, or "blank prompt", "refused" (named on standard error) */
} answer;

typedef struct work {
    const command *c;
    const generate_settings *s;
    const translator *t;
    attn_generate_options options;
    attn_chat *chat;
    int32_t end;
    char **texts; /* operands */
    int n, next;
    line_reader lines;
    answer **answer; /* (count), of which the first `put` are printed */
    size_t count, put;
    attn_generator **g; /* (active) of answers which[…] */
    size_t *which, active;
    bool all_read, failed;
} work;

/* The next prompt, malloc'd; NULL at the end, or after a message with *code set. */
static char *read_prompt(work *w, size_t *line, int *code) {
    const char *text, *name = "the prompt";
    size_t bytes;
    *line = 0;
    w->all_read = w->n && w->next == w->n;
    if (w->all_read) return NULL;
    if (w->n) {
        text = w->texts[w->next++], bytes = strlen(text);
    } else {
        w->all_read = !cli_read_line(w->c, &w->lines);
        if (w->lines.failed) *code = EXIT_FAILED;
        if (w->all_read) return NULL;
        text = w->lines.text, bytes = w->lines.bytes, name = w->lines.name, *line = w->lines.line;
    }
    char *copy = cli_check_text(w->c, name, *line, text, bytes) ? strdup(text) : NULL;
    if (!copy) *code = EXIT_FAILED;
    return copy;
}

static attn_status give_prompt(work *w, answer *a) {
    if (!w->chat) return attn_generator_prompt(a->g, a->prompt, strlen(a->prompt));
    attn_message both[] = {{"system", w->s->system}, {"user", a->prompt}};
    const attn_message *message = w->s->system ? both : both + 1;
    const size_t n = w->s->system ? 2 : 1;
    int32_t *ids = NULL;
    size_t count;
    attn_status status = attn_chat_tokenize(w->chat, &ids, &count, w->t->tokenizer, message, n);
    if (status == ATTN_OK) status = attn_chat_format(w->chat, &a->given, message, n);
    if (status == ATTN_OK) status = attn_generator_prompt_ids(a->g, ids, count);
    attn_text_free(cli_context(), ids);
    return status;
}

/* Begins a text; takes prompt. A blank one has no continuation. */
static int begin(work *w, char *prompt, size_t line) {
    answer **grown = realloc(w->answer, (w->count + 1) * sizeof *grown), *a = calloc(1, sizeof *a);
    if (grown) w->answer = grown;
    if (!grown || !a) {
        free(prompt);
        free(a);
        return cli_fail_memory(w->c);
    }
    *a = (answer){.prompt = prompt, .line = line, .end = *prompt ? "refused" : "blank prompt"};
    w->answer[w->count++] = a;
    if (!*prompt) return EXIT_DONE;
    if (w->s->prompt_template >= 0 && !(a->prompt = generate_instruction(w->c, w->s, prompt))) return EXIT_FAILED;
    if (!(a->stream = open_memstream(&a->text, &a->bytes))) return cli_fail_memory(w->c);
    if (attn_generator_create(&a->g, w->t->model, w->t->tokenizer, &w->options) != ATTN_OK)
        return cli_fail_status(w->c);
    if (give_prompt(w, a) != ATTN_OK) {
        if (line) cli_fail_at(w->c, w->lines.name, line, attn_error(cli_context()));
        else cli_fail_status(w->c);
        attn_generator_free(a->g);
        a->g = NULL;
        w->failed = true;
        return EXIT_DONE;
    }
    w->g[w->active] = a->g;
    w->which[w->active++] = w->count - 1;
    return EXIT_DONE;
}

/* While texts go on, no line is waited for. */
static int fill(work *w) {
    int code = EXIT_DONE;
    while (code == EXIT_DONE && !w->all_read && w->active < (size_t)w->s->batch && !cli_interrupted) {
        size_t line;
        if (w->active && !w->n && !cli_line_waits(&w->lines)) break;
        char *prompt = read_prompt(w, &line, &code);
        if (prompt) code = begin(w, prompt, line);
    }
    return code;
}

static int finish(work *w, answer *a) {
    w->failed |= generate_check_context(w->c, w->s, w->t, a->g) != EXIT_DONE;
    a->end = generate_end_name(attn_generator_end(a->g));
    attn_generator_free(a->g);
    a->g = NULL;
    const bool fine = fclose(a->stream) == 0;
    a->stream = NULL;
    return fine ? EXIT_DONE : cli_fail_memory(w->c);
}

/* A token of each text. */
static int step(work *w) {
    int code = EXIT_DONE;
    if (attn_generators_advance(w->g, w->active) != ATTN_OK) return cli_fail_status(w->c);
    for (size_t i = 0; i < w->active && code == EXIT_DONE;) {
        const char *text;
        size_t bytes;
        answer *a = w->answer[w->which[i]];
        if (attn_generator_next(a->g, &text, &bytes) != ATTN_OK) return cli_fail_status(w->c);
        fwrite(text, 1, bytes, a->stream);
        if (bytes) {
            i++;
            continue;
        }
        code = finish(w, a);
        w->active--;
        w->g[i] = w->g[w->active], w->which[i] = w->which[w->active];
    }
    return code;
}

static void clear(answer *a) {
    attn_generator_free(a->g);
    if (a->stream) fclose(a->stream);
    attn_text_free(cli_context(), a->given);
    free(a->prompt);
    free(a->text);
    free(a);
}

/* Prints what has ended, as far as nothing before it goes on. */
static void put(work *w) {
    for (; w->put < w->count && !w->answer[w->put]->g; w->put++) {
        answer *a = w->answer[w->put];
        if (!a->prompt) { /* it never began, which was said */
            clear(a);
            continue;
        }
        if (w->s->json) generate_put_json(a->prompt, a->given, a->text, a->bytes, a->end);
        else {
            if (!w->s->no_prompt && !w->chat) fputs(a->prompt, stdout);
            if (a->bytes) fwrite(a->text, 1, a->bytes, stdout);
            fputc('\n', stdout);
        }
        clear(a);
    }
}

static int run(work *w) {
    int code = EXIT_DONE;
    while (code == EXIT_DONE && !cli_interrupted) {
        code = fill(w);
        if (code == EXIT_DONE && w->active) code = step(w);
        put(w);
        if (!cli_flush() || (w->all_read && !w->active)) break;
    }
    for (size_t i = 0; i < w->active; i++)
        if (finish(w, w->answer[w->which[i]]) != EXIT_DONE) code = EXIT_FAILED;
    put(w);
    return w->failed ? EXIT_FAILED : code;
}

int generate_batch(const command *c, const generate_settings *s, const translator *t, char **texts, int n) {
    work w = {.c = c, .s = s, .t = t, .options = generate_options(s), .texts = texts, .n = n};
    int code = EXIT_DONE;
    if (s->chat) code = generate_load_chat(c, s, t, &w.chat, &w.end, &w.options);
    w.g = calloc((size_t)s->batch, sizeof(attn_generator *));
    w.which = calloc((size_t)s->batch, sizeof *w.which);
    if (code == EXIT_DONE && (!w.g || !w.which)) code = cli_fail_memory(c);
    const bool open = code == EXIT_DONE && !n;
    if (open && !cli_open_lines(c, &w.lines, s->file ? s->file : "-")) code = EXIT_FAILED;
    if (code == EXIT_DONE) code = run(&w);
    if (open) cli_close_lines(&w.lines);
    for (size_t i = w.put; i < w.count; i++) clear(w.answer[i]);
    free(w.answer);
    free(w.g);
    free(w.which);
    attn_chat_free(w.chat);
    return code;
}
