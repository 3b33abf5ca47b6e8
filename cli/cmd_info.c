/* cmd_info.c: attn info. */
#include "common.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct settings {
    bool json;
} settings;

static const option_spec options[] = {{"json", 0, OPTION_FLAG, offsetof(settings, json), NULL, "as JSON", 0, 0, NULL}};

/* Takes root. */
static void put(const settings *s, json_t *root) {
    const char *key;
    json_t *value;
    if (s->json) {
        cli_put_json(root, JSON_INDENT(2));
        return;
    }
    json_object_foreach(root, key, value) {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        const char *shown = text ? text : json_string_value(value);
        printf("%-28s %s\n", key, shown ? shown : "?");
        free(text);
    }
    json_decref(root);
}

static int machine(const settings *s) {
    attn_context *ctx = cli_context();
    json_t *root = json_object(), *levels = json_array();
    json_object_set_new(root, "version", json_string(ATTN_VERSION));
    json_object_set_new(root, "cpu_level", json_string(attn_cpu_level(ctx)));
    for (const char *const *l = attn_cpu_levels(); *l; l++) json_array_append_new(levels, json_string(*l));
    json_object_set_new(root, "cpu_levels", levels);
    json_object_set_new(root, "threads", json_integer(attn_threads(ctx)));
    put(s, root);
    return EXIT_DONE;
}

static void add_tensor(json_t *root, const char *name, const attn_tensor *t) {
    char text[256];
    int at = snprintf(text, sizeof text, "%s (", attn_dtype_name(t->dtype));
    for (int i = 0; i < t->rank && at < (int)sizeof text; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%zu", i ? ", " : "", t->shape[i]);
    if (at < (int)sizeof text) snprintf(text + at, sizeof text - (size_t)at, ")");
    json_object_set_new(root, name, json_string(text));
}

static int tensors(const command *c, const settings *s, const char *path) {
    attn_safetensors *file;
    if (attn_safetensors_open(&file, cli_context(), path) != ATTN_OK) return cli_fail_status(c);
    static const char *const keys[] = {"format",     "model",       "model_type", "command",
                                       "state.step", "state.steps", "state.epoch"};
    json_t *root = json_object();
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *value = attn_safetensors_metadata(file, keys[i]);
        if (value) json_object_set_new(root, keys[i], json_string(value));
    }
    for (size_t i = 0; i < attn_safetensors_count(file); i++) {
        const attn_named_tensor *t = attn_safetensors_at(file, i);
        add_tensor(root, t->name, &t->tensor);
    }
    put(s, root);
    attn_safetensors_close(file);
    return EXIT_DONE;
}

static int model(const command *c, const settings *s, const char *folder) {
    translator t;
    if (!cli_load_model(c, &t, folder)) return EXIT_FAILED;
    json_t *root = json_loads(attn_model_config(t.model), 0, NULL);
    if (!root) root = json_object();
    attn_parameters *set = attn_model_parameters(t.model);
    json_object_set_new(root, "parameters", json_integer((json_int_t)attn_parameters_elements(set)));
    json_object_set_new(root, "tokens", json_integer((json_int_t)attn_tokenizer_size(t.tokenizer)));
    for (size_t i = 0; i < attn_parameters_count(set); i++) {
        const attn_parameter *p = attn_parameters_at(set, i);
        add_tensor(root, p->name, &p->value);
    }
    put(s, root);
    cli_free_translator(&t);
    return EXIT_DONE;
}

static int run(const command *c, int argc, char **argv) {
    settings s = {0};
    struct stat st;
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code != GO_ON) return code;
    if (first + 1 < argc) return cli_wrong_use(c, "found %d operands, expected at most one", argc - first);
    if (!cli_context()) return EXIT_FAILED;
    if (first == argc) return machine(&s);
    const bool folder = stat(argv[first], &st) == 0 && S_ISDIR(st.st_mode);
    if (folder || cli_ends_with(argv[first], ".gguf") || cli_ends_with(argv[first], ".bin"))
        return model(c, &s, argv[first]);
    return tensors(c, &s, argv[first]);
}

const command command_info = {
    .name = "info",
    .summary = "describe a model, a safetensors file, or this machine",
    .operands = "[DIR|FILE]",
    .description = "Prints what config.json says and every tensor's type and shape; without an operand this machine's\n"
                   "instruction sets and threads.",
    .example = "  attn info\n  attn info models/de-en",
    .options = options,
    .option_count = 1,
    .run = run,
};
