/* The trainer: it learns, the same on any number of threads; what goes wrong is said and costs nothing that was saved.
 */
#include "support/allocator.h"
#include "support/toy.h"
#include "base/base.h"
#include <attn/io.h>
#include "train/trainer.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static attn_context *context(int threads) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    attn_context *ctx = NULL;
    assert_ok(attn_context_create(&ctx, &options));
    return ctx;
}

static attn_status train_toy(const struct toy *toy, const attn_train_options *options, attn_train_callback *callback,
                             void *user) {
    return attn_train(toy->model, toy->tokenizer, toy->train, toy->valid, options, callback, user);
}

/* ---- learning ---------------------------------------------------------------------------------------- */

struct seen {
    size_t steps, validations, saves, notes, done;
    double first_nll, last_nll, bleu, best;
};

static bool watch(void *user, const attn_train_event *event) {
    struct seen *seen = user;
    switch (event->kind) {
    case ATTN_TRAIN_STEP:
        assert_int_equal(event->step, ++seen->steps);
        if (event->step == 1) seen->first_nll = event->nll;
        seen->last_nll = event->nll;
        assert_true(event->grad_norm > 0 && event->learning_rate >= 0 && event->tokens_per_second > 0);
        break;
    case ATTN_TRAIN_VALID:
        seen->validations++;
        seen->best = event->best_bleu;
        assert_true(event->valid_loss > 0 && event->bleu <= event->best_bleu);
        break;
    case ATTN_TRAIN_SAVED: seen->saves++; break;
    case ATTN_TRAIN_NOTE:
        seen->notes++;
        assert_non_null(event->text);
        break;
    case ATTN_TRAIN_DONE:
        seen->done++;
        seen->bleu = event->bleu;
        break;
    }
    return true;
}

static void test_learns(void **state) {
    (void)state;
    attn_context *ctx = context(0);
    struct toy toy;
    char folder[64];
    toy_make(&toy, ctx, 600, 1);
    attn_model_free(toy.model);
    toy.model = toy_model(ctx, attn_tokenizer_size(toy.tokenizer), 64, 1);
    toy_folder(folder);
    attn_train_options options;
    toy_options(&options, folder, 700);
    options.batch_tokens = 400;
    options.valid_steps = 100;
    options.valid_sentences = 0;
    options.average = 3;
    options.augment.drop_final_punctuation = 0;
    struct seen seen = {0};
    if (train_toy(&toy, &options, watch, &seen) != ATTN_OK) fail_msg("%s", attn_error(ctx));
    assert_int_equal(seen.steps, 700);
    assert_int_equal(seen.validations, 7);
    assert_int_equal(seen.saves, 7);
    assert_int_equal(seen.done, 1);
    assert_true(seen.notes >= 2);
    assert_true(seen.first_nll > 5 && seen.last_nll < 1);
    assert_true(seen.bleu >= seen.best);
    if (seen.bleu < 60) fail_msg("BLEU %g", seen.bleu);
    attn_model *result; /* the folder holds what the model holds */
    assert_ok(attn_model_load(&result, ctx, folder));
    for (size_t i = 0; i < attn_parameters_count(attn_model_parameters(toy.model)); i++) {
        const attn_parameter *have = attn_parameters_at(attn_model_parameters(toy.model), i);
        const attn_parameter *read = attn_parameters_find(attn_model_parameters(result), have->name);
        assert_non_null(read);
        assert_memory_equal(have->value.data, read->value.data, attn_tensor_count(&have->value) * sizeof(float));
    }
    attn_model_free(result);
    size_t bytes;
    char *log = toy_read(folder, "log.jsonl", &bytes);
    assert_non_null(strstr(log, "{\"event\": \"step\", \"step\": 10, \"loss\": "));
    assert_non_null(strstr(log, "{\"event\": \"valid\", \"step\": 700, \"valid_loss\": "));
    free(log);
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
}

static void test_threads(void **state) {
    (void)state;
    char folder[4][64];
    for (int turn = 0; turn < 6; turn++) {
        const int threads = 1 + turn % 3;
        attn_context *ctx = context(threads);
        struct toy toy;
        attn_train_options options;
        toy_make(&toy, ctx, 100, 2);
        toy_folder(folder[threads]);
        toy_options(&options, folder[threads], 25);
        options.precision = turn < 3 ? ATTN_F32 : ATTN_BF16;
        assert_ok(train_toy(&toy, &options, NULL, NULL));
        if (threads > 1) toy_same_folder(folder[1], folder[threads]);
        toy_free(&toy);
        attn_context_free(ctx);
        for (int i = 1; threads == 3 && i <= 3; i++) toy_remove(folder[i]);
    }
}

/* Layers that are run again in backward: the same bits, with dropout, gates, and a head that is taught. */
static void test_recompute(void **state) {
    (void)state;
    char folder[2][64], config[512];
    for (int i = 0; i < 2; i++) {
        attn_context *ctx = context(2);
        struct toy toy;
        attn_train_options options;
        toy_make(&toy, ctx, 100, 2);
        attn_model_free(toy.model);
        snprintf(config, sizeof config,
                 "{\"model_type\": \"transformer\", \"vocab_size\": %zu, \"model_size\": 16, \"heads\": 2, "
                 "\"feed_forward_size\": 20, \"activation\": \"swiglu\", \"dropout\": 0.1, \"alignment_head\": 1, "
                 "\"activation_dropout\": 0.1, \"encoder_layers\": 2}",
                 attn_tokenizer_size(toy.tokenizer));
        assert_ok(attn_model_create(&toy.model, ctx, config, 3));
        toy_folder(folder[i]);
        toy_options(&options, folder[i], 25);
        options.guided_alignment = 0.2f;
        options.recompute = i;
        assert_ok(train_toy(&toy, &options, NULL, NULL));
        toy_free(&toy);
        attn_context_free(ctx);
    }
    toy_same_folder(folder[0], folder[1]);
    for (int i = 0; i < 2; i++) toy_remove(folder[i]);
}

struct step_seen {
    double loss, norm;
    size_t steps;
};

static bool first_step(void *user, const attn_train_event *event) {
    struct step_seen *seen = user;
    if (event->kind == ATTN_TRAIN_STEP && seen->steps++ == 0) seen->loss = event->loss, seen->norm = event->grad_norm;
    return true;
}

/* Many batches in a step are one large batch. */
static void test_accumulate(void **state) {
    (void)state;
    struct step_seen seen[3] = {{0}};
    for (int i = 0; i < 3; i++) {
        attn_context *ctx = context(2);
        struct toy toy;
        attn_train_options options;
        char folder[64], config[256];
        toy_make(&toy, ctx, 100, 2);
        attn_model_free(toy.model);
        snprintf(
            config, sizeof config,
            "{\"model_type\": \"transformer\", \"vocab_size\": %zu, \"model_size\": 16, \"heads\": 2, \"dropout\": 0, "
            "\"attention_dropout\": 0}",
            attn_tokenizer_size(toy.tokenizer));
        assert_ok(attn_model_create(&toy.model, ctx, config, 3));
        toy_folder(folder);
        toy_options(&options, folder, 0);
        options.epochs = 1;
        options.batch_tokens = i == 0 ? 100000 : 60;
        options.accumulate = i == 0 ? 1 : i == 1 ? 1000000 : 3;
        assert_ok(train_toy(&toy, &options, first_step, &seen[i]));
        toy_free(&toy);
        attn_context_free(ctx);
        toy_remove(folder);
    }
    assert_int_equal(seen[0].steps, 1);
    assert_int_equal(seen[1].steps, 1);
    assert_true(seen[2].steps > 2);
    assert_true(fabs(seen[1].loss / seen[0].loss - 1) < 1e-6);
    assert_true(fabs(seen[1].norm / seen[0].norm - 1) < 1e-5);
    assert_true(fabs(seen[2].loss / seen[0].loss - 1) > 1e-6);
}

/* Without validation data: no BLEU, the result is the mean. */
static void test_no_valid(void **state) {
    (void)state;
    attn_context *ctx = context(1);
    struct toy toy;
    attn_train_options options;
    char folder[64];
    toy_make(&toy, ctx, 50, 2);
    toy_folder(folder);
    toy_options(&options, folder, 12);
    options.valid_steps = 5;
    assert_ok(attn_train(toy.model, toy.tokenizer, toy.train, NULL, &options, NULL, NULL));
    attn_model *result;
    assert_ok(attn_model_load(&result, ctx, folder));
    attn_model_free(result);
    options.patience = 1;
    assert_int_equal(attn_train(toy.model, toy.tokenizer, toy.train, NULL, &options, NULL, NULL), ATTN_E_ARGUMENT);
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
}

static void test_time_and_patience(void **state) {
    (void)state;
    attn_context *ctx = context(1);
    struct toy toy;
    attn_train_options options;
    char folder[64];
    toy_make(&toy, ctx, 50, 2);
    toy_folder(folder);
    toy_options(&options, folder, 0);
    options.epochs = 0;
    options.max_seconds = 1;
    struct seen seen = {0};
    assert_ok(train_toy(&toy, &options, watch, &seen));
    assert_true(seen.steps > 3 && seen.steps < 100000);
    assert_int_equal(seen.done, 1);
    assert_true(seen.validations > seen.steps / 10 - 1);
    toy_remove(folder);

    toy_folder(folder);
    toy_options(&options, folder, 100000);
    options.learning_rate = 1e-9f; /* never better than the first time */
    options.patience = 3;
    seen = (struct seen){0};
    assert_ok(train_toy(&toy, &options, watch, &seen));
    assert_int_equal(seen.steps, 40);
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
}

/* ---- what goes wrong ----------------------------------------------------------------------------------- */

struct poison {
    attn_model *model;
    size_t step;
    const char *name;
    float value;
};

static bool put_poison(void *user, const attn_train_event *event) {
    struct poison *poison = user;
    if (event->kind == ATTN_TRAIN_STEP && event->step == poison->step) {
        attn_parameter *parameter = attn_parameters_find(attn_model_parameters(poison->model), poison->name);
        assert_non_null(parameter);
        ((float *)parameter->value.data)[0] = poison->value;
        attn_parameter_touch(parameter);
    }
    return true;
}

static void test_not_finite(void **state) {
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        attn_context *ctx = context(2);
        struct toy toy;
        attn_train_options options;
        char folder[64], reference[64];
        toy_make(&toy, ctx, 100, 2);
        toy_folder(folder);
        toy_folder(reference);
        toy_options(&options, reference, 20);
        options.max_steps = 20;
        options.epochs = 7;
        struct poison poison = {toy.model, 14, NULL, kind == 1 ? INFINITY : NAN};
        size_t count = attn_parameters_count(attn_model_parameters(toy.model));
        poison.name = attn_parameters_at(attn_model_parameters(toy.model), kind == 2 ? 0 : count - 1)->name;
        options.folder = folder;
        options.save_seconds = kind == 2 ? 0 : 300; /* 2: it shows when saving */
        attn_status status = train_toy(&toy, &options, put_poison, &poison);
        assert_int_equal(status, ATTN_E_NUMERIC);
        if (!strstr(attn_error(ctx), kind == 2 ? "step 14" : "step 15") || !strstr(attn_error(ctx), poison.name))
            fail_msg("expected step and %s: %s", poison.name, attn_error(ctx));
        attn_model_free(toy.model); /* the checkpoint is good: going on reaches the end */
        toy.model = toy_model(ctx, attn_tokenizer_size(toy.tokenizer), 24, 2);
        options.resume = true;
        assert_ok(train_toy(&toy, &options, NULL, NULL));
        attn_model_free(toy.model);
        toy.model = toy_model(ctx, attn_tokenizer_size(toy.tokenizer), 24, 2);
        options.folder = reference;
        assert_ok(train_toy(&toy, &options, NULL, NULL));
        toy_same_folder(folder, reference);
        toy_remove(folder);
        toy_remove(reference);
        toy_free(&toy);
        attn_context_free(ctx);
    }
}

static bool limit_files(void *user, const attn_train_event *event) {
    if (event->kind == ATTN_TRAIN_STEP && event->step == 12) {
        struct rlimit limit = {*(rlim_t *)user, RLIM_INFINITY};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    return true;
}

/* No file may grow past a limit, as on a full disk: the training stops, the checkpoint stays, going on works. */
static void test_full_disk(void **state) {
    (void)state;
    const rlim_t limits[] = {0, 3000, 30000, 100000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        attn_context *ctx = context(1);
        struct toy toy;
        attn_train_options options;
        char folder[64], reference[64];
        size_t bytes;
        toy_make(&toy, ctx, 100, 2);
        toy_folder(folder);
        toy_folder(reference);
        toy_options(&options, folder, 30);
        pid_t child = fork();
        if (!child) {
            signal(SIGXFSZ, SIG_IGN);
            attn_context *own = context(1); /* threads do not survive a fork */
            struct toy mine;
            toy_make(&mine, own, 100, 2);
            rlim_t limit = limits[i];
            attn_status status = train_toy(&mine, &options, limit_files, &limit);
            _exit(status == ATTN_E_IO && strstr(attn_error(own), "cannot write") ? 0 : 1);
        }
        int status;
        waitpid(child, &status, 0);
        assert_int_equal(status, 0);
        char *checkpoint = toy_read(folder, "checkpoint.safetensors", &bytes);
        assert_true(checkpoint && bytes > 100000);
        free(checkpoint);
        options.resume = true;
        if (train_toy(&toy, &options, NULL, NULL) != ATTN_OK) fail_msg("%s", attn_error(ctx));
        attn_model_free(toy.model);
        toy.model = toy_model(ctx, attn_tokenizer_size(toy.tokenizer), 24, 2);
        options.folder = reference;
        assert_ok(train_toy(&toy, &options, NULL, NULL));
        toy_same_folder(folder, reference);
        toy_remove(folder);
        toy_remove(reference);
        toy_free(&toy);
        attn_context_free(ctx);
    }
}

/* Nothing grows from step to step; nothing is left at the end. */
struct growth {
    const struct test_memory *memory;
    long early, most;
};

static bool watch_memory(void *user, const attn_train_event *event) {
    struct growth *growth = user;
    if (event->kind == ATTN_TRAIN_STEP && event->step == 100) growth->early = growth->memory->alive;
    if (event->kind == ATTN_TRAIN_STEP && event->step > 100)
        growth->most = ATTN_MAX(growth->most, growth->memory->alive);
    return true;
}

static void test_no_growth(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    struct toy toy;
    attn_train_options options;
    char folder[64];
    toy_make(&toy, ctx, 60, 2);
    toy_folder(folder);
    toy_options(&options, folder, 500);
    options.valid_steps = 50;
    struct growth growth = {&memory, 0, 0};
    assert_ok(train_toy(&toy, &options, watch_memory, &growth));
    assert_true(growth.most <= growth.early + 8);
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

/* The n-th allocation fails: an error, no leak, and the folder can be resumed. */
static void test_out_of_memory(void **state) {
    (void)state;
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    struct toy toy;
    attn_train_options options;
    char folder[64];
    toy_make(&toy, ctx, 10, 2);
    toy_folder(folder);
    toy_options(&options, folder, 3);
    options.resume = true;
    options.valid_steps = 2;
    options.valid_sentences = 2;
    attn_status status = ATTN_E_NOMEM;
    for (long n = 0; status != ATTN_OK; n += 1 + n / 12) {
        memory.fail_after = n;
        status = train_toy(&toy, &options, NULL, NULL);
        memory.fail_after = -1;
        if (status != ATTN_OK && status != ATTN_E_NOMEM) fail_msg("%ld: %s", n, attn_error(ctx));
    }
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
}

static void test_bad_inputs(void **state) {
    (void)state;
    attn_context *ctx = context(1);
    struct toy toy;
    attn_train_options options;
    char folder[64];
    toy_make(&toy, ctx, 10, 2);
    toy_folder(folder);
    toy_options(&options, folder, 3);
#define REFUSED(change, status, says)                                                                  \
    do {                                                                                               \
        attn_train_options changed = options;                                                          \
        change;                                                                                        \
        assert_int_equal(train_toy(&toy, &changed, NULL, NULL), status);                               \
        if (!strstr(attn_error(ctx), says)) fail_msg("expected \"%s\" in: %s", says, attn_error(ctx)); \
    } while (0)
    REFUSED(changed.struct_size = 8, ATTN_E_VERSION, "struct");
    REFUSED(changed.folder = NULL, ATTN_E_ARGUMENT, "folder");
    REFUSED(changed.learning_rate = NAN, ATTN_E_ARGUMENT, "learning_rate");
    REFUSED(changed.beta2 = 1, ATTN_E_ARGUMENT, "beta2");
    REFUSED(changed.concatenate = 2, ATTN_E_ARGUMENT, "concatenate");
    REFUSED(changed.batch_tokens = 0, ATTN_E_ARGUMENT, "batch_tokens");
    REFUSED(changed.epochs = changed.max_steps = 0, ATTN_E_ARGUMENT, "epochs");
    REFUSED(changed.max_tokens = 1, ATTN_E_ARGUMENT, "no pair");
    REFUSED(changed.folder = "/proc/none", ATTN_E_IO, "/proc/none");
    attn_model *model = toy.model;
    toy.model = toy_model(ctx, 1000, 8, 1);
    REFUSED((void)0, ATTN_E_SHAPE, "1000");
    attn_model_free(toy.model);
    toy.model = model;
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
}

/* ---- parts ---------------------------------------------------------------------------------------------- */

static void test_schedules(void **state) {
    (void)state;
    attn_train_options o;
    attn_train_options_init(&o);
    o.learning_rate = 1;
    o.final_learning_rate = 0.25f;
    o.warmup_steps = 100;
#define RATE(step, steps, seconds, halvings, expected) \
    assert_float_equal(attn_schedule_rate(&o, step, steps, seconds, halvings), expected, 1e-7)
    for (int s = ATTN_SCHEDULE_CONSTANT; s <= ATTN_SCHEDULE_PLATEAU; s++) {
        o.schedule = (attn_schedule)s;
        RATE(1, 1100, 0, 0, 0.01);
        RATE(50, 1100, 0, 0, 0.5);
        RATE(100, 1100, 0, 0, 1);
    }
    o.schedule = ATTN_SCHEDULE_CONSTANT;
    RATE(1100, 1100, 0, 0, 1);
    o.schedule = ATTN_SCHEDULE_LINEAR;
    RATE(600, 1100, 0, 0, 0.625);
    RATE(1100, 1100, 0, 0, 0.25);
    RATE(600, UINT64_MAX, 0, 0, 1);
    o.schedule = ATTN_SCHEDULE_COSINE;
    RATE(350, 1100, 0, 0, 0.25 + 0.75 * 0.5 * (1 + cos(3.14159265358979323846 / 4)));
    RATE(600, 1100, 0, 0, 0.625);
    RATE(1100, 1100, 0, 0, 0.25);
    o.schedule = ATTN_SCHEDULE_INVERSE_SQRT;
    RATE(400, 1100, 0, 0, 0.5);
    RATE(1000000, 1100000, 0, 0, 0.25);
    o.schedule = ATTN_SCHEDULE_PLATEAU;
    RATE(900, 1100, 0, 1, 0.5);
    RATE(900, 1100, 0, 9, 0.25);
    o.schedule = ATTN_SCHEDULE_LINEAR; /* the further of steps and seconds counts */
    o.max_seconds = 100;
    RATE(600, 1100, 20, 0, 0.625);
    RATE(600, 1100, 80, 0, 0.4);
    RATE(600, UINT64_MAX, 200, 0, 0.25);
}

static uint64_t little(const unsigned char *at, int bytes) {
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--) value = value << 8 | at[i];
    return value;
}

static void test_journal(void **state) {
    (void)state;
    assert_int_equal(attn_crc32c("123456789", 9), 0xe3069283u); /* the check value of CRC-32C */
    assert_int_equal(attn_crc32c("", 0), 0);
    attn_context *ctx = context(1);
    char folder[64], command[256], name[256] = "";
    toy_folder(folder);
    attn_journal journal;
    assert_ok(attn_journal_open(&journal, ctx, folder, 7));
    const attn_scalar scalars[] = {{"loss", "train/loss", 2.5}, {"bad", "bad", NAN}, {"seconds", NULL, 3}};
    assert_ok(attn_journal_scalars(&journal, "step", 8, scalars, 3));
    assert_ok(attn_journal_text(&journal, "note", 8, "a \"text\"\n"));
    attn_journal_close(&journal);
    size_t bytes;
    char *log = toy_read(folder, "log.jsonl", &bytes);
    assert_string_equal(log, "{\"event\": \"step\", \"step\": 8, \"loss\": 2.5, \"seconds\": 3}\n"
                             "{\"event\": \"note\", \"step\": 8, \"text\": \"a \\\"text\\\"\\n\"}\n");
    free(log);
    snprintf(command, sizeof command, "cd %s && ls events.out.tfevents.*", folder);
    FILE *list = popen(command, "r");
    assert_non_null(fgets(name, sizeof name, list));
    pclose(list);
    name[strcspn(name, "\n")] = 0;
    unsigned char *events = (unsigned char *)toy_read(folder, name, &bytes);
    size_t at = 0, records = 0;
    while (at < bytes) {
        size_t length = (size_t)little(events + at, 8);
        assert_int_equal(little(events + at + 8, 4), attn_crc32c_masked(events + at, 8));
        assert_true(at + 16 + length <= bytes);
        const unsigned char *event = events + at + 12;
        assert_int_equal(little(event + length, 4), attn_crc32c_masked(event, length));
        assert_int_equal(event[0], 1 << 3 | 1); /* wall_time */
        assert_int_equal(event[9], 2 << 3);     /* step */
        assert_int_equal(event[10], records == 0 ? 0 : 8);
        static const unsigned char version[] = "\x1a\x0d"
                                               "brain.Event:2",
                                   start[] = "\x3a\x02\x08\x01";
        static const unsigned char summary[] = "\x2a\x13\x0a\x11\x0a\x0a"
                                               "train/loss"
                                               "\x15\x00\x00\x20\x40";
        const unsigned char *const want[] = {version, start, summary};
        const size_t sizes[] = {sizeof version - 1, sizeof start - 1, sizeof summary - 1};
        assert_int_equal(length, 11 + sizes[records]);
        assert_memory_equal(event + 11, want[records], sizes[records]);
        at += 16 + length;
        records++;
    }
    assert_int_equal(records, 3);
    free(events);
    toy_remove(folder);
    attn_context_free(ctx);
}

/* Lines of later steps and a broken end go; what is no line of a step stays, byte for byte. */
static void test_take_back(void **state) {
    (void)state;
    static const char log[] = "{\"event\": \"note\", \"step\": 0, \"text\": \"x\"}\n"
                              "{\"event\": \"step\", \"step\": 10, \"seconds\": 3.5}\n"
                              "no JSON\n\n"
                              "{\"event\":\"valid\",\"step\":12}\n";
    static const char later[] = "{\"event\": \"step\", \"step\": 13, \"seconds\": 9}\n"
                                "{\"event\": \"step\", \"step\": 18446744073709551615}\n"
                                "{\"event\": \"step\", \"st";
    struct test_memory memory = TEST_MEMORY_INIT;
    attn_context *ctx = test_memory_context(&memory, 1);
    char folder[64], path[128], text[512];
    double seconds = -1;
    size_t bytes;
    toy_folder(folder);
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    assert_ok(attn_journal_take_back(ctx, folder, 12, &seconds)); /* there is none */
    assert_true(seconds == 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(attn_file_write(ctx, path, "", 0));
    assert_ok(attn_journal_take_back(ctx, folder, 12, &seconds));
    snprintf(text, sizeof text, "%s%s", log, later);
    for (int k = 0;; k++) { /* whatever fails, the file is whole */
        unlink(path);
        assert_ok(attn_file_write(ctx, path, text, strlen(text)));
        memory.fail_after = k;
        attn_status status = attn_journal_take_back(ctx, folder, 12, &seconds);
        memory.fail_after = -1;
        char *found = toy_read(folder, "log.jsonl", &bytes);
        /* A number beyond 64 bits is no JSON for us: such a line stays. */
        char expected[512];
        snprintf(expected, sizeof expected, "%s{\"event\": \"step\", \"step\": 18446744073709551615}\n", log);
        assert_string_equal(found, status == ATTN_OK ? expected : text);
        free(found);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_NOMEM);
    }
    assert_true(seconds == 3.5);
    struct stat before, after; /* nothing to take out: not touched */
    assert_int_equal(stat(path, &before), 0);
    assert_ok(attn_journal_take_back(ctx, folder, 12, &seconds));
    assert_int_equal(stat(path, &after), 0);
    assert_true(before.st_ino == after.st_ino && seconds == 3.5);
    assert_ok(attn_journal_take_back(ctx, folder, 0, &seconds));
    assert_true(seconds == 0);
    attn_context_free(ctx);
    assert_int_equal(memory.alive, 0);
    toy_remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),  cmocka_unit_test(test_journal),
        cmocka_unit_test(test_bad_inputs), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_recompute),  cmocka_unit_test(test_accumulate),
        cmocka_unit_test(test_no_valid),   cmocka_unit_test(test_time_and_patience),
        cmocka_unit_test(test_not_finite), cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_no_growth),  cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_learns),     cmocka_unit_test(test_take_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
