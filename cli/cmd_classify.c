/* cmd_classify.c: attn classify. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

typedef struct settings {
    const char *model;
    long long max_tokens;
    bool json;
} settings;

#define AT(field) offsetof(settings, field)
static const option_spec options[] = {
    {"model", 'm', OPTION_TEXT, AT(model), "DIR", "the model's folder, of attn train --task classify", 0, 0, NULL},
    {"max-tokens", 0, OPTION_INT, AT(max_tokens), "N",
     "read the first N tokens of a text, as in its training (0: the context length)", 0, 1e7, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "a JSON object a line: every label's probability", 0, 0, NULL},
};

static bool put(const settings *s, const attn_model *model, const float *probability) {
    const size_t n = attn_model_labels(model);
    size_t best = 0;
    json_t *all = json_object();
    for (size_t i = 0; i < n; i++) {
        if (probability[i] > probability[best]) best = i;
        json_object_set_new(all, attn_model_label(model, i), cli_json_number((double)probability[i]));
    }
    if (s->json)
        return cli_put_json(json_pack("{s:s, s:o}", "label", attn_model_label(model, best), "probabilities", all),
                            JSON_COMPACT | JSON_REAL_PRECISION(7));
    json_decref(all);
    return printf("%s\t%.4f\n", attn_model_label(model, best), (double)probability[best]) > 0;
}

static bool classify(const command *c, const settings *s, const translator *t, float *probability, const char *name,
                     size_t line, const char *text) {
    const size_t bytes = strlen(text);
    if (!cli_check_text(c, name, line, text, bytes)) return false;
    if (attn_classify(t->model, t->tokenizer, probability, &text, &bytes, 1, (size_t)s->max_tokens) != ATTN_OK)
        return line ? cli_fail_at(c, name, line, attn_error(cli_context())) == EXIT_DONE
                    : cli_fail_status(c) == EXIT_DONE;
    return put(s, t->model, probability);
}

/* The operands as one text, or each line of standard input. */
static bool each_text(const command *c, const settings *s, const translator *t, char **words, int n) {
    line_reader reader = {.fd = -1};
    float *probability = malloc(attn_model_labels(t->model) * sizeof *probability);
    bool fine = probability || cli_fail_memory(c) == EXIT_DONE;
    if (fine && n > 0) {
        char *text = cli_join(c, words, n);
        fine = text && classify(c, s, t, probability, "the text", 0, text);
        free(text);
    } else if (fine) {
        fine = cli_open_lines(c, &reader, "-");
        while (fine && cli_read_line(c, &reader)) {
            fine = classify(c, s, t, probability, reader.name, reader.line, reader.text);
            if (!cli_line_waits(&reader)) fine = cli_flush() && fine;
        }
        fine = fine && !reader.failed;
        cli_close_lines(&reader);
    }
    free(probability);
    return fine;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {0};
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (!s.model) return cli_wrong_use(c, "-m DIR is missing: a model of attn train --task classify");
    translator t;
    if (!cli_load_language_model(c, &t, s.model, NULL, CLI_WEIGHTS_F32)) return EXIT_FAILED;
    code = EXIT_FAILED;
    if (!attn_model_labels(t.model))
        cli_fail(c, "%s: a model without labels, expected one of attn train --task classify", s.model);
    else if (each_text(c, &s, &t, argv + first, argc - first)) code = EXIT_DONE;
    cli_free_translator(&t);
    return code;
}

const command command_classify = {
    .name = "classify",
    .summary = "label texts with a model that was trained for it",
    .operands = "[TEXT...]",
    .description = "Prints the label of TEXT, or of each line of standard input, a TAB, and its probability.",
    .example = "  attn classify -m out/spam \"You have won a prize, call now\"\n"
               "  attn classify -m out/spam --json < messages.txt",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
