/* cmd_train.c: attn train. */
#include "train.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const model_names[] = {"rnn", "bahdanau", "transformer", "gpt", "llama", "qwen3", NULL};
static const char *const schedule_names[] = {"constant", "linear", "cosine", "inverse-sqrt", "plateau", NULL};
static const char *const task_names[] = {"next", "instructions", "classify", "preferences", NULL};
static const char *const part_names[] = {"all", "last", "head", NULL};

#define AT(field) offsetof(train_settings, field)
static const option_spec options[] = {
    {"model", 0, OPTION_CHOICE, AT(model), "NAME", "what to train (bahdanau)", 0, 0, model_names},
    {"config", 0, OPTION_TEXT, AT(config), "FILE", "the model's config.json (sizes, dropout); see --set", 0, 0, NULL},
    {"set", 0, OPTION_LIST, AT(set), "KEY=VALUE", "one value of the config, e.g. --set hidden_size=256", 0, 0, NULL},
    {"data", 'd', OPTION_LIST, AT(data), "FILE",
     "source TAB target, or given twice: source lines, target lines; for language models texts (.xz, .gz too)", 0, 0,
     NULL},
    {"valid", 0, OPTION_LIST, AT(valid), "FILE",
     "pairs to choose the best weights by, once or twice as --data; without them the last weights are taken", 0, 0,
     NULL},
    {"holdout", 0, OPTION_FLOAT, AT(holdout), "P",
     "language models: the last part P of --data is --valid, e.g. 0.1 (0)", 0, 0.9, NULL},
    {"sample", 0, OPTION_FLAG, AT(sample), NULL,
     "the small German-English sample that ships as --data and --valid, with a small model", 0, 0, NULL},
    {"output", 'o', OPTION_TEXT, AT(output), "DIR", "folder for the model, checkpoints and logs", 0, 0, NULL},
    {"resume", 0, OPTION_FLAG, AT(resume), NULL,
     "go on from DIR's checkpoint, to the same bytes; the other options must be the same (--init begins anew with its "
     "weights)",
     0, 0, NULL},
    {"init", 0, OPTION_TEXT, AT(init), "DIR",
     "begin with the weights and the tokenizer of a model (fine-tuning); translators: of the same sizes", 0, 0, NULL},
    {"task", 0, OPTION_CHOICE, AT(task), "NAME",
     "of a language model: next (texts), instructions (JSON: instruction, input, output), classify (label TAB text), "
     "preferences (JSON: chosen, rejected) (next)",
     0, 0, task_names},
    {"template", 0, OPTION_CHOICE, AT(prompt_template), "NAME", "of prompts: alpaca, chatml, plain (alpaca)", 0, 0,
     cli_templates},
    {"train", 0, OPTION_CHOICE, AT(part), "PART",
     "of a language model: all, last (the last layers, the last norm and the head) or head (all)", 0, 0, part_names},
    {"layers", 0, OPTION_INT, AT(layers), "N", "how many are the last layers (1)", 1, 1e4, NULL},
    {"lora", 0, OPTION_INT, AT(lora), "RANK",
     "of a language model: leave the weights and learn adapters of this rank beside them", 1, 1e4, NULL},
    {"lora-alpha", 0, OPTION_FLOAT, AT(lora_alpha), "A", "adapters count A / RANK (twice the rank)", 1e-3, 1e6, NULL},
    {"lora-targets", 0, OPTION_TEXT, AT(lora_targets), "LIST",
     "weights that get adapters, of q,k,v,o,mlp with commas between (all)", 0, 0, NULL},
    {"beta", 0, OPTION_FLOAT, AT(beta), "X", "preferences: how strongly the model is kept near what it was (0.1)", 1e-6,
     1e6, NULL},
    {"reverse", 0, OPTION_FLAG, AT(reverse), NULL, "swap source and target", 0, 0, NULL},
    {"lowercase", 0, OPTION_FLAG, AT(lowercase), NULL, "lower-case everything (part of the tokenizer)", 0, 0, NULL},
    {"limit", 0, OPTION_INT, AT(limit), "N", "use the first N pairs only", 0, 1e12, NULL},
    {"tokenizer", 0, OPTION_TEXT, AT(tokenizer), "FILE", "a tokenizer.json; default: one is trained on the data", 0, 0,
     NULL},
    {"vocab-size", 0, OPTION_INT, AT(vocab_size), "N",
     "tokens of the joint vocabulary (8000; language models: 0, a token for each character)", 0, 1e6, NULL},
    {"epochs", 'e', OPTION_FLOAT, AT(epochs), "N", "passes over the data (10)", 0, 1e6, NULL},
    {"steps", 0, OPTION_INT, AT(max_steps), "N", "stop after N steps", 0, 1e12, NULL},
    {"minutes", 0, OPTION_FLOAT, AT(minutes), "N", "stop after N minutes; the schedule ends there too", 0, 1e6, NULL},
    {"batch-tokens", 'b', OPTION_INT, AT(batch_tokens), "N", "target tokens a batch (4000)", 1, 1e7, NULL},
    {"accumulate", 0, OPTION_INT, AT(accumulate), "N", "batches a step, their gradients added up (1)", 1, 1e6, NULL},
    {"recompute", 0, OPTION_FLAG, AT(recompute), NULL,
     "run each layer again in the backward pass: less memory, a third more time, the same result", 0, 0, NULL},
    {"max-tokens", 0, OPTION_INT, AT(max_tokens), "N",
     "leave out pairs longer than N tokens (100); language models: tokens of a window (the context length)", 2, 1e7,
     NULL},
    {"fixed-windows", 0, OPTION_FLAG, AT(fixed_windows), NULL,
     "language models: each epoch has the same windows (else they are cut at other places)", 0, 0, NULL},
    {"lr", 0, OPTION_FLOAT, AT(learning_rate), "X", "peak learning rate (1e-3)", 0, 10, NULL},
    {"final-lr", 0, OPTION_FLOAT, AT(final_learning_rate), "X", "learning rate at the end (0)", 0, 10, NULL},
    {"schedule", 0, OPTION_CHOICE, AT(schedule), "NAME", "from the one to the other (linear)", 0, 0, schedule_names},
    {"warmup", 0, OPTION_INT, AT(warmup), "N", "steps of rising learning rate (200)", 0, 1e9, NULL},
    {"weight-decay", 0, OPTION_FLOAT, AT(weight_decay), "X", "AdamW's (0)", 0, 10, NULL},
    {"clip", 0, OPTION_FLOAT, AT(clip), "X", "largest norm of the gradient (1)", 0, 1e9, NULL},
    {"label-smoothing", 0, OPTION_FLOAT, AT(label_smoothing), "X",
     "part of the probability spread over all tokens (0.1)", 0, 0.99, NULL},
    {"precision", 0, OPTION_CHOICE, AT(precision), "NAME",
     "of products: f32, or bf16 with sums and weights in f32, faster where the processor has AMX or AVX512_BF16 (f32)",
     0, 0, cli_precisions},
    {"augment", 0, OPTION_FLAG, AT(augment), NULL,
     "also train on lower-cased sources, without final punctuation, commas, umlauts", 0, 0, NULL},
    {"augment-probability", 0, OPTION_FLOAT, AT(augment_probability), "P", "of each of these (0.1)", 0, 1, NULL},
    {"concatenate", 0, OPTION_FLOAT, AT(concatenate), "P", "part of the examples made of 2-8 joined pairs (0)", 0, 1,
     NULL},
    {"concatenate-words", 0, OPTION_INT, AT(concatenate_words), "N", "their longest (60)", 2, 1e4, NULL},
    {"guided-alignment", 0, OPTION_FLOAT, AT(guided_alignment), "W",
     "teach a head of the transformer the alignments of attn align, by a loss of weight W (0)", 0, 100, NULL},
    {"valid-steps", 0, OPTION_INT, AT(valid_steps), "N", "steps between validations (0: once an epoch)", 0, 1e9, NULL},
    {"valid-sentences", 0, OPTION_INT, AT(valid_sentences), "N", "BLEU on the first N valid pairs (500)", 1, 1e9, NULL},
    {"patience", 0, OPTION_INT, AT(patience), "N", "stop after N validations without a better BLEU (0: never)", 0, 1e6,
     NULL},
    {"average", 0, OPTION_INT, AT(average), "N", "the result is the mean of the last N checkpoints (5)", 1, 100, NULL},
    {"json", 0, OPTION_FLAG, AT(json), NULL, "validations and the result on standard output, a JSON object a line", 0,
     0, NULL},
    {"seed", 0, OPTION_INT, AT(seed), "N", "of all random numbers (1)", 0, 9e15, NULL},
};

/* ---- progress ------------------------------------------------------------------------------------------- */

typedef struct progress {
    const command *command;
    terminal terminal;
    const char *use, *folder; /* the command that uses the result */
    bool json, line_open;
    double last;
} progress;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void duration(char out[32], double seconds) {
    long s = seconds > 0 && seconds < 1e9 ? (long)seconds : 0;
    if (s >= 3600) snprintf(out, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else snprintf(out, 32, "%ld:%02ld", s / 60, s % 60);
}

/* The line that is drawn over itself; never wider than the terminal, or it would scroll. */
static void show_step(progress *p, const attn_train_event *e) {
    enum { BAR = 20 };
    double t = now();
    char left[32], bar[BAR + 1], line[256];
    if (!p->terminal.is_terminal || p->terminal.dumb || t - p->last < 0.2) return;
    p->last = t;
    int filled = e->steps ? (int)(BAR * ((double)e->step / (double)e->steps)) : 0;
    for (int i = 0; i < BAR; i++) bar[i] = i < filled ? '#' : '.';
    bar[BAR] = 0;
    duration(left, e->seconds_left);
    snprintf(line, sizeof line, "%s left [%s] step %zu/%zu  epoch %.2f  loss %.3f  %.0f tokens/s", left, bar, e->step,
             e->steps, e->epoch, e->nll, e->tokens_per_second);
    fprintf(stderr, "\r%.*s\x1b[K", p->terminal.width - 1, line);
    fflush(stderr);
    p->line_open = true;
}

static void end_line(progress *p) {
    if (p->line_open) fputs("\r\x1b[K", stderr);
    p->line_open = false;
}

static void put_event(const attn_train_event *e) {
    bool valid = e->kind == ATTN_TRAIN_VALID;
    json_t *root = json_object();
    json_object_set_new(root, "event", json_string(valid ? "valid" : "done"));
    json_object_set_new(root, "step", json_integer((json_int_t)e->step));
    json_object_set_new(root, "epoch", cli_json_number(e->epoch));
    json_object_set_new(root, "seconds", cli_json_number(e->seconds));
    if (valid) json_object_set_new(root, "valid_nll", cli_json_number(e->nll));
    if (valid && e->accuracy >= 0) json_object_set_new(root, "accuracy", cli_json_number(e->accuracy));
    if (e->bleu >= 0) json_object_set_new(root, "bleu", cli_json_number(e->bleu));
    cli_put_json(root, JSON_COMPACT | JSON_REAL_PRECISION(8));
}

static bool on_event(void *user, const attn_train_event *e) {
    progress *p = user;
    char spent[32];
    duration(spent, e->seconds);
    if (e->kind == ATTN_TRAIN_STEP) {
        if (!cli_quiet) show_step(p, e);
        return !cli_interrupted;
    }
    end_line(p);
    if (e->kind == ATTN_TRAIN_VALID && e->bleu < 0 && e->accuracy >= 0)
        cli_note("%8s  step %6zu  epoch %6.2f  valid loss %.4f  accuracy %.2f %%", spent, e->step, e->epoch, e->nll,
                 100 * e->accuracy);
    else if (e->kind == ATTN_TRAIN_VALID && e->bleu < 0)
        cli_note("%8s  step %6zu  epoch %6.2f  valid loss %.4f  perplexity %.3f (best %.3f)", spent, e->step, e->epoch,
                 e->nll, exp(e->nll), exp(e->best_nll));
    else if (e->kind == ATTN_TRAIN_VALID)
        cli_note("%8s  step %6zu  epoch %6.2f  valid loss %.3f  perplexity %.2f  BLEU %.2f (best %.2f)", spent, e->step,
                 e->epoch, e->nll, exp(e->nll), e->bleu, e->best_bleu);
    else if (e->kind == ATTN_TRAIN_NOTE && e->text) cli_note("%8s  %s", spent, e->text);
    else if (e->kind == ATTN_TRAIN_DONE)
        cli_note("%8s  step %6zu  epoch %6.2f  done: attn %s -m %s", spent, e->step, e->epoch, p->use, p->folder);
    if (p->json && (e->kind == ATTN_TRAIN_VALID || e->kind == ATTN_TRAIN_DONE)) {
        put_event(e);
        if (!cli_flush()) return false; /* nobody gets the figures: save and stop */
    }
    return !cli_interrupted;
}

/* ---- training ---------------------------------------------------------------------------------------------- */

static void fill_options(attn_train_options *o, const train_settings *s) {
    attn_train_options_init(o);
    o->folder = s->output;
    o->resume = s->resume;
    o->seed = (uint64_t)s->seed;
    o->precision = cli_precision(s->precision);
    o->epochs = s->epochs;
    o->max_steps = (size_t)s->max_steps;
    o->max_seconds = 60 * s->minutes;
    o->batch_tokens = (size_t)s->batch_tokens;
    o->accumulate = (size_t)s->accumulate;
    o->recompute = s->recompute;
    o->max_tokens = (size_t)s->max_tokens;
    o->schedule = (attn_schedule)s->schedule;
    o->learning_rate = (float)s->learning_rate;
    o->final_learning_rate = (float)s->final_learning_rate;
    o->warmup_steps = (size_t)s->warmup;
    o->weight_decay = (float)s->weight_decay;
    o->clip = (float)s->clip;
    o->label_smoothing = (float)s->label_smoothing;
    o->concatenate = (float)s->concatenate;
    o->concatenate_words = (size_t)s->concatenate_words;
    if (s->augment) {
        float p = (float)s->augment_probability;
        o->augment = (attn_augment_options){sizeof o->augment, p, p, p, p};
    }
    o->valid_steps = (size_t)s->valid_steps;
    o->valid_sentences = (size_t)s->valid_sentences;
    o->lowercase_bleu = s->lowercase;
    o->guided_alignment = (float)s->guided_alignment;
    o->patience = (int)s->patience;
    o->average = (int)s->average;
    o->fixed_windows = s->fixed_windows;
    o->task = (attn_train_task)s->task;
    o->beta = (float)s->beta;
}

/* "q,v" as bits; 0: there is another word. */
static unsigned lora_targets(const char *list) {
    static const char *const names[] = {"q", "k", "v", "o", "mlp"};
    unsigned bits = 0;
    if (!list) return ATTN_LORA_ALL;
    for (const char *at = list;; at++) {
        const size_t n = strcspn(at, ",");
        unsigned bit = 0;
        for (unsigned i = 0; i < 5; i++)
            if (strlen(names[i]) == n && !strncmp(at, names[i], n)) bit = 1U << i;
        if (!bit) return 0;
        bits |= bit;
        at += n;
        if (!*at) return bits;
    }
}

static int add_adapters(const command *c, const train_settings *s, attn_model *model) {
    char base[PATH_MAX];
    attn_lora_options o = ATTN_LORA_OPTIONS_INIT;
    o.rank = (size_t)s->lora;
    o.alpha = s->lora_alpha > 0 ? (float)s->lora_alpha : 2 * (float)s->lora;
    o.targets = lora_targets(s->lora_targets);
    o.base = realpath(s->init, base);
    if (snprintf(base + strlen(base), sizeof base - strlen(base), "/adapter_config.json") < PATH_MAX &&
        access(base, F_OK) == 0)
        return cli_fail(c, "--init %s: it is an adapter itself, expected a whole model: attn convert makes one of it",
                        s->init);
    *strrchr(base, '/') = '\0';
    return attn_model_add_lora(model, &o) == ATTN_OK ? GO_ON : cli_fail_status(c);
}

static int train(const command *c, const train_settings *s, train_job *j) {
    attn_context *ctx = cli_context();
    int code = train_prepare(c, s, j);
    if (code != GO_ON) return code;
    progress p = {.command = c, .terminal = cli_terminal(stderr), .folder = s->output, .json = s->json};
    p.use = s->task == ATTN_TASK_CLASSIFY ? "classify" : s->language ? "generate" : "translate";
    const char *what = s->task == ATTN_TASK_CLASSIFY ? "labelled texts"
                       : s->task != ATTN_TASK_NEXT   ? "prompts with answers"
                       : s->language                 ? "texts"
                                                     : "pairs";
    cli_note("%s: %.1f M parameters, %zu tokens in the vocabulary, %zu %s; %d threads, %s", attn_model_type(j->model),
             1e-6 * (double)attn_parameters_elements(attn_model_parameters(j->model)),
             attn_tokenizer_size(j->tokenizer), attn_corpus_count(j->data), what, attn_threads(ctx),
             attn_cpu_level(ctx));
    if (s->lora && (code = add_adapters(c, s, j->model)) != GO_ON) return code;
    if (s->part && attn_model_learn(j->model, (attn_model_part)s->part, (size_t)s->layers) != ATTN_OK)
        return cli_fail_status(c);
    attn_train_options o;
    fill_options(&o, s);
    cli_catch_interrupt();
    attn_status status = attn_train(j->model, j->tokenizer, j->data, j->valid, &o, on_event, &p);
    end_line(&p);
    if (status == ATTN_E_INTERRUPTED) return cli_fail(c, "%s; --resume goes on", attn_error(ctx));
    return status == ATTN_OK ? EXIT_DONE : cli_fail_status(c);
}

static bool sample_files(train_settings *s) {
    static char data[PATH_MAX], valid[PATH_MAX];
    const char *path = cli_share("data/tatoeba/de-en.sample.train.tsv.xz");
    if (!path) return false;
    snprintf(data, sizeof data, "%s", path);
    path = cli_share("data/tatoeba/de-en.sample.valid.tsv.xz");
    if (!path) return false;
    snprintf(valid, sizeof valid, "%s", path);
    s->data = (text_list){{data}, 1};
    s->valid = (text_list){{valid}, 1};
    return true;
}

/* The library's defaults but for the peak learning rate; what the library has no word for is given here. */
static train_settings default_settings(void) {
    attn_train_options o;
    attn_train_options_init(&o);
    return (train_settings){.model = -1,
                            .schedule = o.schedule,
                            .vocab_size = 8000,
                            .epochs = o.epochs,
                            .batch_tokens = (long long)o.batch_tokens,
                            .accumulate = (long long)o.accumulate,
                            .max_tokens = (long long)o.max_tokens,
                            .learning_rate = 1e-3,
                            .warmup = (long long)o.warmup_steps,
                            .clip = (double)o.clip,
                            .label_smoothing = (double)o.label_smoothing,
                            .augment_probability = 0.1,
                            .concatenate_words = (long long)o.concatenate_words,
                            .valid_sentences = (long long)o.valid_sentences,
                            .average = o.average,
                            .beta = (double)o.beta,
                            .layers = 1,
                            .seed = (long long)o.seed};
}

/* A small model and small batches, for 20,000 short pairs. */
static train_settings sample_settings(int model) {
    train_settings s = default_settings();
    s.vocab_size = 4000;
    s.batch_tokens = 800;
    s.learning_rate = 2e-3;
    s.epochs = 12;
    s.set = model == TRANSFORMER ? (text_list){{"model_size=192", "feed_forward_size=768", "heads=6", "dropout=0.2"}, 4}
                                 : (text_list){{"embedding_size=192", "hidden_size=256", "embedding_dropout=0.2",
                                                "annotation_dropout=0.2", "output_dropout=0.3"},
                                               5};
    return s;
}

/* A language model of 3 million parameters on characters. */
static train_settings language_settings(int model) {
    train_settings s = default_settings();
    s.vocab_size = 0;
    s.batch_tokens = 4096;
    s.max_tokens = 1 << 20;
    s.schedule = ATTN_SCHEDULE_COSINE;
    s.final_learning_rate = 1e-4;
    s.warmup = 100;
    s.weight_decay = 0.1;
    s.label_smoothing = 0;
    s.average = 1;
    s.set = model == GPT
                ? (text_list){{"n_positions=128", "n_embd=256", "n_layer=4", "n_head=4", "embd_pdrop=0.1",
                               "attn_pdrop=0.1", "resid_pdrop=0.1"},
                              7}
                : (text_list){{"max_position_embeddings=128", "hidden_size=256", "intermediate_size=688",
                               "num_hidden_layers=4", "num_attention_heads=4", "attention_dropout=0.1", "head_dim=64"},
                              7};
    return s;
}

/* For a model that knows much already: it is to change little. */
static train_settings tuning_settings(void) {
    train_settings s = language_settings(GPT);
    s.set.count = 0;
    s.batch_tokens = 1024;
    s.learning_rate = 1e-4;
    s.final_learning_rate = 0;
    s.warmup = 20;
    s.weight_decay = 0.01;
    s.epochs = 2;
    return s;
}

/* What does not go together. */
static int check_settings(const command *c, const train_settings *s) {
    const bool examples = s->task != ATTN_TASK_NEXT;
    int code = GO_ON;
    if (!s->output) return cli_wrong_use(c, "-o DIR is missing: where the model goes");
    if (s->sample && (s->data.count || s->valid.count))
        return cli_wrong_use(c, "--sample stands for --data and --valid, found one of them too");
    if (examples && !(s->init && s->language))
        return cli_wrong_use(c, "--task %s needs --init DIR, the folder of a language model", task_names[s->task]);
    if (s->part && !s->language) return cli_wrong_use(c, "--train is for language models");
    if (s->lora && !(s->init && s->language))
        return cli_wrong_use(c, "--lora needs --init DIR, the folder of a language model");
    if (s->lora && s->part) return cli_wrong_use(c, "found --lora and --train, expected one of them");
    if (s->lora_targets && !lora_targets(s->lora_targets))
        return cli_wrong_use(c, "--lora-targets: found \"%s\", expected some of q,k,v,o,mlp", s->lora_targets);
    if (s->task == ATTN_TASK_CLASSIFY && (s->data.count > 1 || s->valid.count > 1))
        return cli_wrong_use(c, "--task classify: found several files, expected one of label TAB text");
    if (s->language ? !s->data.count : !s->sample && (code = cli_check_files(c, "data", &s->data)) != GO_ON)
        return s->language ? cli_wrong_use(c, "--data FILE is missing: what to learn from") : code;
    if (!s->language && s->valid.count && (code = cli_check_files(c, "valid", &s->valid)) != GO_ON) return code;
    if (!s->language && s->holdout > 0) return cli_wrong_use(c, "--holdout is for language models");
    if (s->vocab_size < 300 && (!s->language || s->vocab_size > 0))
        return cli_wrong_use(c, "--vocab-size: found %lld, expected 300 or more", s->vocab_size);
    if (!s->sample && !s->valid.count && s->holdout == 0 && (s->patience || s->schedule == ATTN_SCHEDULE_PLATEAU))
        return cli_wrong_use(c, "%s needs --valid", s->patience ? "--patience" : "--schedule plateau");
    if (s->epochs == 0 && !s->max_steps && s->minutes == 0)
        return cli_wrong_use(c, "found no end, expected one of --epochs, --steps and --minutes");
    return GO_ON;
}

static int run(const command *c, int argc, char **argv) {
    train_settings s = default_settings();
    int first, code = options_parse(c, &s, argc, argv, &first);
    if (code == GO_ON && s.sample) { /* other defaults, under the same options */
        s = sample_settings(s.model);
        code = options_parse(c, &s, argc, argv, &first);
    } else if (code == GO_ON && (s.model >= GPT || (s.init && train_is_language_model(s.init)))) {
        const bool own = s.config != NULL;
        s = s.init ? tuning_settings() : language_settings(s.model);
        s.language = true;
        if (own) s.set.count = 0;
        code = options_parse(c, &s, argc, argv, &first);
    }
    if (code != GO_ON) return code;
    if (first < argc) return cli_wrong_use(c, "found operand \"%s\", expected options only", argv[first]);
    if ((code = check_settings(c, &s)) != GO_ON) return code;
    if (s.sample && !sample_files(&s)) return cli_fail(c, "the sample (data/tatoeba) was not found");
    if (!cli_context()) return EXIT_FAILED;
    train_job j = {0};
    code = train(c, &s, &j);
    train_free(&j);
    return code;
}

const command command_train = {
    .name = "train",
    .summary = "train a model",
    .operands = "",
    .description =
        "Trains a translator on pairs of sentences, or a language model (gpt, llama, qwen3) on texts. DIR holds the\n"
        "model (config.json, model.safetensors, tokenizer.json), the checkpoint for --resume, log.jsonl and\n"
        "TensorBoard events. Ctrl-C saves and stops, a second one stops at once; both exit with 1 or more.",
    .example = "  attn train --sample --minutes 5 -o out/first\n"
               "  attn train --model gpt --data data/shakespeare/tinyshakespeare.txt.xz --holdout 0.1 --minutes 30 -o "
               "out/gpt\n"
               "  attn train --model bahdanau --data train.tsv.xz --valid valid.tsv.xz --augment -o out/de-en",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
