/* cmd_convert.c: attn convert. */
#include "common.h"

#include <stdlib.h>
#include <string.h>

enum { F32, BF16, I8 };
static const char *const dtype_names[] = {"f32", "bf16", "i8", "f16", "q8_0", NULL};
static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_I8};
static const attn_gguf_type gguf_types[] = {ATTN_GGUF_F32, ATTN_GGUF_BF16, ATTN_GGUF_Q8_0, ATTN_GGUF_F16,
                                            ATTN_GGUF_Q8_0};

enum { TO_ATTN, TO_HF, TO_GGUF };
static const char *const form_names[] = {"attn", "hf", "gguf", NULL};

typedef struct settings {
    const char *output;
    int dtype, form;
} settings;

static const option_spec options[] = {
    {"output", 'o', OPTION_TEXT, offsetof(settings, output), "PATH",
     "where the converted model goes: a folder, or of gguf a file", 0, 0, NULL},
    {"dtype", 0, OPTION_CHOICE, offsetof(settings, dtype), "TYPE",
     "of the stored matrices; f16 and q8_0 in GGUF files alone (f32)", 0, 0, dtype_names},
    {"to", 0, OPTION_CHOICE, offsetof(settings, form), "FORM",
     "a folder of ours, a translator for transformers and CTranslate2, a language model for llama.cpp (attn)", 0, 0,
     form_names},
};

/* The token that the config names, or null; of several the first. */
static json_t *token_of(const attn_tokenizer *tokenizer, const json_t *config, const char *key) {
    const json_t *id = json_object_get(config, key);
    if (json_is_array(id)) id = json_array_get(id, 0);
    const char *text = json_is_integer(id) ? attn_tokenizer_piece(tokenizer, (int32_t)json_integer_value(id)) : NULL;
    return text && *text ? json_string(text) : json_null();
}

/* A chat template goes with its model, as tokenizer_config.json. */
static int copy_chat(const command *c, const char *from, const char *to, const translator *t) {
    attn_context *ctx = cli_context();
    char *jinja, path[4096];
    if (attn_chat_template(&jinja, ctx, from) != ATTN_OK) return cli_fail_status(c);
    if (!jinja) return EXIT_DONE;
    if (snprintf(path, sizeof path, "%s/tokenizer_config.json", to) >= (int)sizeof path) {
        attn_text_free(ctx, jinja);
        return cli_fail(c, "%.60s…: the path is too long", to);
    }
    json_t *config = json_loads(attn_model_config(t->model), 0, NULL), *root = json_object();
    json_object_set_new(root, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    json_object_set_new(root, "bos_token", token_of(t->tokenizer, config, "bos_token_id"));
    json_object_set_new(root, "eos_token", token_of(t->tokenizer, config, "eos_token_id"));
    const bool fits = json_object_set_new(root, "chat_template", json_string(jinja)) == 0;
    char *text = fits ? json_dumps(root, JSON_INDENT(2)) : NULL;
    int code = EXIT_DONE;
    if (!fits) code = cli_fail(c, "%s: the chat template is not UTF-8", from);
    else if (!text) code = cli_fail_memory(c);
    else if (attn_file_write(ctx, path, text, strlen(text)) != ATTN_OK) code = cli_fail_status(c);
    free(text);
    json_decref(root);
    json_decref(config);
    attn_text_free(ctx, jinja);
    return code;
}

/* What an encoder's folder says of pooling, and a language model's chat template, go with it. */
static int copy_settings(const command *c, const char *from, const char *to, const translator *t) {
    attn_embed_options o = ATTN_EMBED_OPTIONS_INIT;
    if (attn_model_is_language_model(t->model)) return copy_chat(c, from, to, t);
    if (!attn_model_is_encoder(t->model)) return EXIT_DONE;
    const bool saved = attn_embed_options_read(&o, cli_context(), from) == ATTN_OK &&
                       attn_embed_options_save(&o, cli_context(), to) == ATTN_OK;
    return saved ? EXIT_DONE : cli_fail_status(c);
}

static int to_gguf(const command *c, const settings *s, const translator *t, const char *from) {
    char *chat = NULL;
    attn_status status = attn_chat_template(&chat, cli_context(), from);
    if (status == ATTN_OK) status = attn_model_save_gguf(t->model, t->tokenizer, chat, s->output, gguf_types[s->dtype]);
    attn_text_free(cli_context(), chat);
    if (status != ATTN_OK) return cli_fail_status(c);
    cli_note("%s: %s", s->output, attn_gguf_type_name(gguf_types[s->dtype]));
    return EXIT_DONE;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {0};
    char path[4096];
    translator t;
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first + 1 != argc) return cli_wrong_use(c, "found %d operands, expected one: a model's folder", argc - first);
    if (!s.output) return cli_wrong_use(c, "-o PATH is missing: where the converted model goes");
    if (s.form != TO_GGUF && s.dtype > I8)
        return cli_wrong_use(c, "--dtype %s belongs to --to gguf", dtype_names[s.dtype]);
    if (s.form == TO_HF && s.dtype)
        return cli_wrong_use(c, "found --dtype %s and --to hf, expected f32 with it", dtype_names[s.dtype]);
    if (!cli_load_model(c, &t, argv[first])) return EXIT_FAILED;
    if (s.form == TO_GGUF) {
        code = to_gguf(c, &s, &t, argv[first]);
        cli_free_translator(&t);
        return code;
    }
    if (s.form == TO_HF) {
        code = EXIT_DONE;
        if (attn_model_save_hugging_face(t.model, t.tokenizer, s.output) != ATTN_OK) code = cli_fail_status(c);
        cli_free_translator(&t);
        return code;
    }
    if (snprintf(path, sizeof path, "%s/tokenizer.json", s.output) >= (int)sizeof path)
        code = cli_fail(c, "%.60s…: the path is too long", s.output);
    else if (attn_model_save(t.model, s.output, dtypes[s.dtype]) != ATTN_OK ||
             attn_tokenizer_save(t.tokenizer, path) != ATTN_OK)
        code = cli_fail_status(c);
    else if ((code = copy_settings(c, argv[first], s.output, &t)) == EXIT_DONE) {
        cli_note("%s: %s", s.output, dtype_names[s.dtype]);
    }
    cli_free_translator(&t);
    return code;
}

const command command_convert = {
    .name = "convert",
    .summary = "write a model with other weights (bf16 or 8-bit integers), or in another form",
    .operands = "DIR",
    .description =
        "Matrices become bf16, or 8-bit integers with one scale a row; vectors stay f32. Any of them can be read.\n"
        "--to hf writes a transformer as M2M100 (norm pre) or Marian (norm post), --to gguf a language model with its\n"
        "tokenizer and chat template as one file.",
    .example = "  attn convert out/de-en --dtype i8 -o models/de-en\n"
               "  attn convert out/transformer --to hf -o out/hf\n"
               "  attn convert SmolLM2-135M --to gguf --dtype q8_0 -o smollm2.gguf",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
