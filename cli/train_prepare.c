/* train_prepare.c: the config, the data, the tokenizer and the model of a training. */
#include "train.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *const train_model_types[] = {"rnn", "bahdanau", "transformer", "gpt2", "llama", "qwen3"};

/* ---- the model's config ------------------------------------------------------------------------------------ */

/* "key=value" as JSON: a number, true, false, or else a string. */
static int set_key(const command *c, json_t *root, const char *text) {
    const char *equal = strchr(text, '=');
    if (!equal || equal == text) return cli_wrong_use(c, "--set: found \"%s\", expected KEY=VALUE", text);
    json_t *value = json_loads(equal + 1, JSON_DECODE_ANY, NULL);
    char *key = strndup(text, (size_t)(equal - text));
    if (!value) value = json_string(equal + 1);
    bool fine = key && value && json_object_set(root, key, value) == 0;
    json_decref(value);
    free(key);
    return fine ? GO_ON : cli_wrong_use(c, "--set: found \"%s\", expected KEY=VALUE in UTF-8", text);
}

static int read_json(const command *c, const char *path, json_t **root) {
    char *text;
    json_error_t error;
    if (attn_read_text(cli_context(), &text, NULL, path) != ATTN_OK) return cli_fail_status(c);
    *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);
    attn_text_free(cli_context(), text);
    if (!*root) return cli_fail(c, "%s:%d: %s, expected a JSON object", path, error.line, error.text);
    if (!json_is_object(*root)) return cli_fail(c, "%s:1: expected a JSON object, found another value", path);
    return GO_ON;
}

static bool is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* The config of a model in one file. */
static int file_config(const command *c, const char *path, json_t **root) {
    attn_model *model;
    if (attn_model_load(&model, cli_context(), path) != ATTN_OK) return cli_fail_status(c);
    *root = json_loads(attn_model_config(model), 0, NULL);
    attn_model_free(model);
    return *root ? GO_ON : cli_fail_memory(c);
}

bool train_is_language_model(const char *folder) {
    char path[PATH_MAX];
    json_error_t error;
    static const char *const language_types[] = {"gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"};
    if (is_file(folder)) return true; /* others have a folder */
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= PATH_MAX) return false;
    json_t *root = json_load_file(path, 0, &error);
    const char *type = json_string_value(json_object_get(root, "model_type"));
    bool known = false;
    for (size_t i = 0; type && i < sizeof language_types / sizeof language_types[0]; i++)
        known |= !strcmp(type, language_types[i]);
    json_decref(root);
    return known;
}

/* --config, --model and --set together, checked as far as possible before hours are spent; GO_ON or an exit code. */
static int read_config(const command *c, const train_settings *s, json_t **root) {
    char path[PATH_MAX];
    const bool tunes = s->language && s->init && !s->config;
    int code = GO_ON;
    if (tunes) snprintf(path, sizeof path, "%s/config.json", s->init); /* what is cut off does not exist */
    if (tunes && is_file(s->init)) code = file_config(c, s->init, root);
    else if (tunes || s->config) code = read_json(c, tunes ? path : s->config, root);
    else *root = json_object();
    if (code != GO_ON) return code;
    json_t *type = json_object_get(*root, "model_type");
    if (!type)
        json_object_set_new(*root, "model_type", json_string(train_model_types[s->model < 0 ? BAHDANAU : s->model]));
    else if (s->model >= 0 && json_is_string(type) && strcmp(json_string_value(type), train_model_types[s->model]) != 0)
        return cli_wrong_use(c, "--model: found \"%s\", expected \"%s\" as in %s", train_model_types[s->model],
                             json_string_value(type), tunes ? path : s->config);
    for (size_t i = 0; i < s->set.count && code == GO_ON; i++) code = set_key(c, *root, s->set.item[i]);
    if (s->guided_alignment > 0 && !json_object_get(*root, "alignment_head")) {
        json_object_set_new(*root, "alignment_head", json_integer(1));
        json_object_set_new(*root, "alignment_follows", json_true());
    }
    return code;
}

static attn_status create_model(attn_model **out, json_t *config, size_t vocab_size, const train_settings *s) {
    json_object_set_new(config, "vocab_size", json_integer((json_int_t)vocab_size));
    char *text = json_dumps(config, JSON_INDENT(2));
    attn_status status = text ? attn_model_create(out, cli_context(), text, (uint64_t)s->seed) : ATTN_E_NOMEM;
    free(text);
    return status;
}

/* ---- the tokenizer ------------------------------------------------------------------------------------------- */

static attn_status train_tokenizer(attn_context *ctx, attn_tokenizer **out, const attn_corpus *corpus,
                                   const train_settings *s) {
    size_t n = attn_corpus_count(corpus);
    const char **lines = malloc(2 * n * sizeof *lines);
    size_t *bytes = malloc(2 * n * sizeof *bytes);
    attn_status status = ATTN_E_NOMEM;
    *out = NULL;
    if (lines && bytes) {
        for (size_t i = 0; i < n; i++) {
            const attn_pair *p = attn_corpus_at(corpus, i);
            lines[2 * i] = p->source;
            bytes[2 * i] = p->source_bytes;
            lines[2 * i + 1] = p->target;
            bytes[2 * i + 1] = p->target_bytes;
        }
        attn_bpe_options bpe = ATTN_BPE_OPTIONS_INIT;
        bpe.vocab_size = (size_t)s->vocab_size;
        bpe.lowercase = s->lowercase;
        bpe.tags = true;
        status = attn_tokenizer_train_bpe(out, ctx, lines, bytes, 2 * n, &bpe);
    }
    free(lines);
    free(bytes);
    return status;
}

/* The lines of all texts for BPE, else the texts for a tokenizer of their characters. */
static attn_status text_tokenizer(attn_context *ctx, attn_tokenizer **out, const attn_corpus *corpus,
                                  const train_settings *s) {
    size_t n = attn_corpus_count(corpus), most = n, lines = 0;
    for (size_t i = 0; i < n && s->vocab_size; i++)
        for (const char *at = attn_corpus_at(corpus, i)->target; *at; at++) most += *at == '\n';
    const char **line = malloc((most + 1) * sizeof *line);
    size_t *bytes = malloc((most + 1) * sizeof *bytes);
    attn_status status = ATTN_E_NOMEM;
    *out = NULL;
    for (size_t i = 0; i < n && line && bytes; i++) {
        const attn_pair *text = attn_corpus_at(corpus, i);
        for (const char *at = text->target, *end = at + text->target_bytes; at < end; lines++) {
            const char *newline = s->vocab_size ? memchr(at, '\n', (size_t)(end - at)) : NULL;
            line[lines] = at;
            bytes[lines] = (size_t)((newline ? newline : end) - at);
            at += bytes[lines] + (newline != NULL);
        }
    }
    attn_bpe_options bpe = ATTN_BPE_OPTIONS_INIT;
    bpe.vocab_size = (size_t)s->vocab_size;
    bpe.lowercase = s->lowercase;
    if (line && bytes)
        status = s->vocab_size ? attn_tokenizer_train_bpe(out, ctx, line, bytes, lines, &bpe)
                               : attn_tokenizer_of_characters(out, ctx, line, bytes, lines);
    free(line);
    free(bytes);
    return status;
}

static attn_status get_tokenizer(attn_context *ctx, attn_tokenizer **out, const attn_corpus *corpus,
                                 const train_settings *s) {
    char path[PATH_MAX];
    if (s->tokenizer) return attn_tokenizer_load(out, ctx, s->tokenizer);
    if (s->init) return attn_tokenizer_of_model(out, ctx, s->init);
    if (s->resume && snprintf(path, sizeof path, "%s/tokenizer.json", s->output) < PATH_MAX && access(path, F_OK) == 0)
        return attn_tokenizer_load(out, ctx, path);
    return s->language ? text_tokenizer(ctx, out, corpus, s) : train_tokenizer(ctx, out, corpus, s);
}

/* ---- the data ------------------------------------------------------------------------------------------------- */

/* Texts of language models, the last part of them for validation. */
static bool read_texts(const command *c, attn_corpus **data, attn_corpus **valid, const train_settings *s) {
    attn_context *ctx = cli_context();
    attn_status status = attn_corpus_read_texts(data, ctx, s->data.item, s->data.count);
    if (status == ATTN_OK && s->valid.count) status = attn_corpus_read_texts(valid, ctx, s->valid.item, s->valid.count);
    else if (status == ATTN_OK && s->holdout > 0) status = attn_corpus_split_texts(valid, *data, s->holdout);
    if (status == ATTN_OK && attn_corpus_count(*data)) return true;
    if (status != ATTN_OK) cli_fail_status(c);
    else cli_fail(c, "%s: found no text", s->data.item[0]);
    return false;
}

/* Instructions, preferences, or labels with texts. */
static bool read_examples(const command *c, attn_corpus **out, const text_list *files, const train_settings *s) {
    if (s->task == ATTN_TASK_CLASSIFY) return cli_read_corpus(c, out, files, true, s->limit);
    if (attn_corpus_read_instructions(out, cli_context(), files->item, files->count, (attn_template)s->prompt_template,
                                      s->task == ATTN_TASK_PREFERENCES) != ATTN_OK)
        return cli_fail_status(c) == EXIT_DONE;
    return attn_corpus_count(*out) || cli_fail(c, "%s: found no instruction", files->item[0]) == EXIT_DONE;
}

static bool read_data(const command *c, const train_settings *s, train_job *j) {
    const size_t together = s->task == ATTN_TASK_PREFERENCES ? 2 : 1;
    if (s->task == ATTN_TASK_NEXT && s->language) return read_texts(c, &j->data, &j->valid, s);
    if (s->task == ATTN_TASK_NEXT)
        return (!s->valid.count || cli_read_corpus(c, &j->valid, &s->valid, s->reverse, 0)) &&
               cli_read_corpus(c, &j->data, &s->data, s->reverse, s->limit);
    if (!read_examples(c, &j->data, &s->data, s)) return false;
    if (s->valid.count) return read_examples(c, &j->valid, &s->valid, s);
    return s->holdout == 0 || attn_corpus_split_pairs(&j->valid, j->data, s->holdout, together) == ATTN_OK ||
           cli_fail_status(c) == EXIT_DONE;
}

/* ---- labels ------------------------------------------------------------------------------------------------------ */

static int compare_texts(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The labels of the data, sorted, as the config's "id2label", unless it has them already. */
static int add_labels(const command *c, const train_settings *s, train_job *j) {
    enum { MOST = 1000 };
    const size_t n = attn_corpus_count(j->data);
    if (json_object_get(j->config, "id2label")) return GO_ON;
    const char **label = malloc(n * sizeof *label);
    if (!label) return cli_fail_memory(c);
    for (size_t i = 0; i < n; i++) label[i] = attn_corpus_at(j->data, i)->target;
    qsort(label, n, sizeof *label, compare_texts);
    size_t found = 0;
    json_t *names = json_object();
    for (size_t i = 0; i < n; i++) {
        char key[24];
        if (i && !strcmp(label[i], label[i - 1])) continue;
        snprintf(key, sizeof key, "%zu", found++);
        if (found <= MOST) json_object_set_new(names, key, json_string(label[i]));
    }
    free(label);
    json_object_set_new(j->config, "id2label", names);
    json_object_set_new(j->config, "architectures", json_pack("[s]", "ForSequenceClassification"));
    return found >= 2 && found <= MOST ? GO_ON
                                       : cli_fail(c, "%s: found %zu labels, expected 2 to %d: a line is label TAB text",
                                                  s->data.item[0], found, MOST);
}

/* ---- the model --------------------------------------------------------------------------------------------------- */

/* The model of --init, with what --set and the task change. */
static int load_model(const command *c, const train_settings *s, train_job *j) {
    int code = s->task == ATTN_TASK_CLASSIFY ? add_labels(c, s, j) : GO_ON;
    if (code != GO_ON) return code;
    char *text = json_dumps(j->config, JSON_INDENT(2));
    attn_status status =
        text ? attn_model_load_as(&j->model, cli_context(), s->init, text, (uint64_t)s->seed) : ATTN_E_NOMEM;
    free(text);
    if (status != ATTN_OK) return cli_fail_status(c);
    if (!attn_model_is_language_model(j->model))
        return cli_fail(c, "--init %s: a %s model is not trained here", s->init, attn_model_type(j->model));
    if (s->task != ATTN_TASK_CLASSIFY) return GO_ON;
    return cli_check_labels(c, j->model, j->data, s->data.item[0]) &&
                   cli_check_labels(c, j->model, j->valid, s->valid.count ? s->valid.item[0] : s->data.item[0])
               ? GO_ON
               : EXIT_FAILED;
}

/* The values of all parameters come from another model, which must have the same. */
static int take_weights(const command *c, attn_model *model, const char *folder) {
    attn_model *from;
    if (attn_model_load(&from, cli_context(), folder) != ATTN_OK) return cli_fail_status(c);
    const attn_parameters *to = attn_model_parameters(model), *set = attn_model_parameters(from);
    int code = GO_ON;
    if (attn_parameters_count(to) != attn_parameters_count(set))
        code = cli_fail(c, "--init %s: found %zu tensors, expected %zu", folder, attn_parameters_count(set),
                        attn_parameters_count(to));
    for (size_t i = 0; i < attn_parameters_count(to) && code == GO_ON; i++) {
        attn_parameter *own = attn_parameters_at(to, i), *other = attn_parameters_find(set, own->name);
        const size_t n = attn_tensor_count(&own->value);
        if (!other || attn_tensor_count(&other->value) != n) {
            code = cli_fail(c, "--init %s: tensor \"%s\" is missing or has another size", folder, own->name);
            continue;
        }
        memcpy(own->value.data, other->value.data, n * sizeof(float));
        attn_parameter_touch(own);
    }
    attn_model_free(from);
    return code;
}

static int prepare_model(const command *c, const train_settings *s, train_job *j) {
    if (!read_data(c, s, j)) return EXIT_FAILED;
    if (get_tokenizer(cli_context(), &j->tokenizer, j->data, s) != ATTN_OK) return cli_fail_status(c);
    if (s->language && s->init) return load_model(c, s, j);
    if (create_model(&j->model, j->config, attn_tokenizer_size(j->tokenizer), s) != ATTN_OK) return cli_fail_status(c);
    return s->init ? take_weights(c, j->model, s->init) : GO_ON;
}

/* Everything that can be wrong and is quickly seen comes first: the folder, the config, the files. */
int train_prepare(const command *c, const train_settings *s, train_job *j) {
    int code = read_config(c, s, &j->config);
    if (code != GO_ON) return code;
    if ((s->config || s->set.count) &&
        !(s->language && s->init)) { /* a wrong key is found before a tokenizer is trained */
        enum { SOME_TOKENS = 300 };
        attn_model *trial;
        if (create_model(&trial, j->config, SOME_TOKENS, s) != ATTN_OK) return cli_fail_status(c);
        attn_model_free(trial);
    }
    const bool absent = access(s->output, F_OK) != 0;
    if (attn_folder_make(cli_context(), s->output) != ATTN_OK) return cli_fail_status(c);
    code = prepare_model(c, s, j);
    if (code != GO_ON && absent) rmdir(s->output); /* nothing is in it yet */
    return code;
}

void train_free(train_job *j) {
    attn_model_free(j->model);
    attn_tokenizer_free(j->tokenizer);
    attn_corpus_free(j->data);
    attn_corpus_free(j->valid);
    json_decref(j->config);
}
