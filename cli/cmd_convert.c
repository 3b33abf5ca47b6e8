/* cmd_convert.c: attn convert. */
#include "common.h"

#include <string.h>

static const char *const dtype_names[] = {"f32", "bf16", "i8", NULL};
static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_I8};

enum { TO_ATTN, TO_HF };
static const char *const form_names[] = {"attn", "hf", NULL};

typedef struct settings {
    const char *output;
    int dtype, form;
} settings;

static const option_spec options[] = {
    {"output", 'o', OPTION_TEXT, offsetof(settings, output), "DIR", "where the converted model goes", 0, 0, NULL},
    {"dtype", 0, OPTION_CHOICE, offsetof(settings, dtype), "TYPE", "of the stored matrices (f32)", 0, 0, dtype_names},
    {"to", 0, OPTION_CHOICE, offsetof(settings, form), "FORM",
     "attn, or hf: a transformer as transformers and CTranslate2 read it (attn)", 0, 0, form_names},
};

/* What an encoder's folder says of pooling goes with it. */
static bool copy_settings(const char *from, const char *to, const attn_model *model) {
    attn_embed_options o = ATTN_EMBED_OPTIONS_INIT;
    if (!attn_model_is_encoder(model)) return true;
    return attn_embed_options_read(&o, cli_context(), from) == ATTN_OK &&
           attn_embed_options_save(&o, cli_context(), to) == ATTN_OK;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {0};
    char path[4096];
    translator t;
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first + 1 != argc) return cli_wrong_use(c, "found %d operands, expected one: a model's folder", argc - first);
    if (!s.output) return cli_wrong_use(c, "-o DIR is missing: where the converted model goes");
    if (s.form == TO_HF && s.dtype)
        return cli_wrong_use(c, "found --dtype %s and --to hf, expected f32 with it", dtype_names[s.dtype]);
    if (!cli_load_model(c, &t, argv[first])) return EXIT_FAILED;
    if (s.form == TO_HF) {
        code = EXIT_DONE;
        if (attn_model_save_hugging_face(t.model, t.tokenizer, s.output) != ATTN_OK) code = cli_fail_status(c);
        cli_free_translator(&t);
        return code;
    }
    if (snprintf(path, sizeof path, "%s/tokenizer.json", s.output) >= (int)sizeof path)
        code = cli_fail(c, "%.60s…: the path is too long", s.output);
    else if (attn_model_save(t.model, s.output, dtypes[s.dtype]) != ATTN_OK ||
             attn_tokenizer_save(t.tokenizer, path) != ATTN_OK || !copy_settings(argv[first], s.output, t.model))
        code = cli_fail_status(c);
    else {
        cli_note("%s: %s", s.output, dtype_names[s.dtype]);
        code = EXIT_DONE;
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
        "--to hf writes a transformer as M2M100 (norm pre) or Marian (norm post).",
    .example = "  attn convert out/de-en --dtype i8 -o models/de-en\n"
               "  attn convert out/transformer --to hf -o out/hf",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
