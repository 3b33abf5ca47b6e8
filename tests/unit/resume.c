/* A training that was stopped or killed and resumed ends with the same files, byte for byte, as one that was not. */
#include "support/toy.h"
#include <attn/io.h>

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { STEPS = 60, PAIRS = 90 };
static char reference[64];
static attn_dtype precision = ATTN_F32;

static attn_context *context_at(int threads, const char *level) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = threads;
    options.cpu_level = level;
    attn_context *ctx = NULL;
    assert_ok(attn_context_create(&ctx, &options));
    return ctx;
}

static attn_context *context(int threads) { return context_at(threads, NULL); }

static void settings(attn_train_options *options, const char *folder) {
    toy_options(options, folder, STEPS);
    options->valid_steps = 7;
    options->average = 3;
    options->resume = true;
    options->save_seconds = 0.005;
    options->schedule = ATTN_SCHEDULE_PLATEAU;
    options->precision = precision;
}

/* One go on the folder: a fresh context, data and model; ATTN_OK when the training is done. */
static attn_status go_with(attn_context *ctx, const char *folder, uint64_t seed, attn_train_callback *callback,
                           void *user) {
    struct toy toy;
    attn_train_options options;
    toy_make(&toy, ctx, PAIRS, seed);
    settings(&options, folder);
    attn_status status = attn_train(toy.model, toy.tokenizer, toy.train, toy.valid, &options, callback, user);
    if (status != ATTN_OK && status != ATTN_E_INTERRUPTED) fprintf(stderr, "%s\n", attn_error(ctx));
    toy_free(&toy);
    attn_context_free(ctx);
    return status;
}

static attn_status go(const char *folder, int threads, uint64_t seed, attn_train_callback *callback, void *user) {
    return go_with(context(threads), folder, seed, callback, user);
}

/* The log says of each step once, in order, what the uninterrupted training's says; the seconds go on. */
static void check_log(const char *folder) {
    size_t bytes, steps[2][STEPS], count[2] = {0, 0};
    const char *const folders[] = {reference, folder};
    static const char start[] = "{\"event\": \"step\", \"step\": ";
    for (int i = 0; i < 2; i++) {
        double before = 0;
        char *log = toy_read(folders[i], "log.jsonl", &bytes), *rest;
        assert_non_null(log);
        for (char *line = strtok_r(log, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            const char *spent = strstr(line, "\"seconds\": ");
            if (strncmp(line, start, sizeof start - 1) != 0) continue;
            assert_non_null(spent);
            double seconds = strtod(spent + 11, NULL);
            assert_true(seconds > before && count[i] < STEPS);
            steps[i][count[i]++] = strtoul(line + sizeof start - 1, NULL, 10);
            before = seconds;
        }
        free(log);
    }
    assert_int_equal(count[0], count[1]);
    assert_true(count[0] >= STEPS / 10);
    assert_memory_equal(steps[0], steps[1], count[0] * sizeof *steps[0]);
}

static int make_reference(void **state) {
    (void)state;
    toy_folder(reference);
    return go(reference, 1, 5, NULL, NULL) == ATTN_OK ? 0 : -1;
}

static int remove_reference(void **state) {
    (void)state;
    toy_remove(reference);
    return 0;
}

static bool stop_at(void *user, const attn_train_event *event) {
    return event->kind != ATTN_TRAIN_STEP || event->step < *(size_t *)user;
}

static void test_stops(void **state) {
    (void)state;
    char folder[64];
    toy_folder(folder);
    int goes = 0;
    for (size_t step = 1;; step += 1 + (step * 7) % 11) {
        attn_status status = go(folder, 1 + goes++ % 3, 5, stop_at, &step);
        if (status == ATTN_OK) break;
        assert_int_equal(status, ATTN_E_INTERRUPTED);
    }
    assert_true(goes > 4);
    toy_same_folder(reference, folder);
    check_log(folder);
    assert_ok(go(folder, 2, 5, NULL, NULL)); /* resuming what is done changes nothing */
    toy_same_folder(reference, folder);
    toy_remove(folder);
}

static void test_stops_bf16(void **state) {
    (void)state;
    char whole[64], folder[64];
    size_t steps[] = {13, 32, STEPS + 1};
    precision = ATTN_BF16;
    toy_folder(whole);
    toy_folder(folder);
    assert_ok(go(whole, 2, 5, NULL, NULL));
    assert_false(toy_same_file(whole, reference, "model.safetensors"));
    for (int i = 0; i < 3; i++)
        assert_int_equal(go(folder, 1 + i, 5, stop_at, &steps[i]), i < 2 ? ATTN_E_INTERRUPTED : ATTN_OK);
    toy_same_folder(whole, folder);
    precision = ATTN_F32;
    toy_remove(whole);
    toy_remove(folder);
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void test_kills(void **state) {
    (void)state;
    int rounds = test_rounds(6);
    double began = seconds_now();
    char probe[64];
    toy_folder(probe);
    assert_ok(go(probe, 2, 5, NULL, NULL));
    double whole = seconds_now() - began;
    toy_remove(probe);
    srand(11);
    int kills = 0;
    for (int round = 0; round < rounds; round++) {
        char folder[64];
        toy_folder(folder);
        for (int tries = 0;; tries++) {
            pid_t child = fork();
            if (!child) _exit(go(folder, 1 + tries % 3, 5, NULL, NULL) == ATTN_OK ? 0 : 1);
            if (tries < 10) {
                usleep((useconds_t)(1e6 * whole * (0.02 + 0.9 * rand() / RAND_MAX)));
                kill(child, SIGKILL);
            }
            int status;
            waitpid(child, &status, 0);
            if (WIFEXITED(status)) {
                assert_int_equal(WEXITSTATUS(status), 0);
                break;
            }
            kills++;
        }
        toy_same_folder(reference, folder);
        check_log(folder);
        toy_remove(folder);
    }
    assert_true(kills >= rounds);
}

struct notes {
    size_t stop, other_level;
    char text[256];
};

static bool note_and_stop(void *user, const attn_train_event *event) {
    struct notes *notes = user;
    if (event->kind == ATTN_TRAIN_NOTE && strstr(event->text, "the checkpoint was made at")) {
        notes->other_level++;
        snprintf(notes->text, sizeof notes->text, "%s", event->text);
    }
    return event->kind != ATTN_TRAIN_STEP || event->step < notes->stop;
}

/* Going on at another CPU level gives other bits: it says so and does it. */
static void test_other_level(void **state) {
    (void)state;
    const char *const *levels = attn_cpu_levels(), *best = NULL;
    for (size_t i = 0; levels[i]; i++) best = levels[i];
    if (!strcmp(best, levels[0])) skip();
    char folder[64], expected[256];
    struct notes notes = {.stop = 5};
    toy_folder(folder);
    assert_int_equal(go_with(context_at(2, best), folder, 5, note_and_stop, &notes), ATTN_E_INTERRUPTED);
    notes.stop = 9;
    assert_int_equal(go_with(context_at(1, best), folder, 5, note_and_stop, &notes), ATTN_E_INTERRUPTED);
    assert_int_equal(notes.other_level, 0);
    notes.stop = 14;
    assert_int_equal(go_with(context_at(1, levels[0]), folder, 5, note_and_stop, &notes), ATTN_E_INTERRUPTED);
    assert_int_equal(notes.other_level, 1);
    snprintf(expected, sizeof expected,
             "the checkpoint was made at %s, this is %s: the bits will differ from an uninterrupted run's", best,
             levels[0]);
    assert_string_equal(notes.text, expected);
    size_t bytes;
    char *log = toy_read(folder, "log.jsonl", &bytes);
    assert_non_null(strstr(log, expected));
    free(log);
    notes.stop = 16; /* the checkpoint is of that level now */
    assert_int_equal(go_with(context_at(1, levels[0]), folder, 5, note_and_stop, &notes), ATTN_E_INTERRUPTED);
    assert_int_equal(notes.other_level, 1);
    toy_remove(folder);
}

/* ---- refusals --------------------------------------------------------------------------------------------- */

static void test_refusals(void **state) {
    (void)state;
    attn_context *ctx = context(1);
    struct toy toy;
    attn_train_options options, changed;
    size_t before_bytes, after_bytes;
    toy_make(&toy, ctx, PAIRS, 5);
    settings(&options, reference);
    char *before = toy_read(reference, "checkpoint.safetensors", &before_bytes);
#define REFUSED(change, says)                                                                              \
    do {                                                                                                   \
        changed = options;                                                                                 \
        change;                                                                                            \
        assert_int_equal(attn_train(toy.model, toy.tokenizer, toy.train, toy.valid, &changed, NULL, NULL), \
                         ATTN_E_ARGUMENT);                                                                 \
        if (!strstr(attn_error(ctx), says)) fail_msg("expected \"%s\" in: %s", says, attn_error(ctx));     \
    } while (0)
    REFUSED(changed.resume = false, "already holds a training");
    REFUSED(changed.seed = 2, "seed was 1 in the checkpoint and is 2 now");
    REFUSED(changed.learning_rate = 1e-3f, "learning_rate was 0.00499999989");
    REFUSED(changed.max_steps = 61, "max_steps was 60");
    REFUSED(changed.precision = ATTN_BF16, "precision was F32 in the checkpoint and is BF16 now");
    REFUSED(changed.epochs = 3, "epochs");
    REFUSED(changed.batch_tokens = 121, "batch_tokens");
    REFUSED(changed.schedule = ATTN_SCHEDULE_COSINE, "schedule");
    REFUSED(changed.augment.fold_umlauts = 0, "augment.fold_umlauts");
    REFUSED(changed.average = 5, "average");
    REFUSED(changed.lowercase_bleu = true, "lowercase_bleu");
    attn_corpus *corpus = toy.train;
    toy.train = toy_corpus(ctx, PAIRS, 2);
    REFUSED((void)0, "data.train");
    attn_corpus_free(toy.train);
    toy.train = corpus;
    corpus = toy.valid;
    toy.valid = toy.train;
    REFUSED((void)0, "data.valid");
    toy.valid = corpus;
    attn_model *model = toy.model;
    toy.model = toy_model(ctx, attn_tokenizer_size(toy.tokenizer), 16, 5);
    REFUSED((void)0, "model.config");
    attn_model_free(toy.model);
    toy.model = model;
    char *after = toy_read(reference, "checkpoint.safetensors", &after_bytes);
    assert_int_equal(before_bytes, after_bytes);
    assert_memory_equal(before, after, before_bytes);
    changed = options; /* what may change */
    changed.save_seconds = 77;
    assert_ok(attn_train(toy.model, toy.tokenizer, toy.train, toy.valid, &changed, NULL, NULL));
    free(before);
    free(after);
    toy_free(&toy);
    attn_context_free(ctx);
}

/* A damaged checkpoint: refused, or, where only numbers of tensors changed, used; the model is unharmed when refused.
 */
static void test_damaged(void **state) {
    (void)state;
    attn_context *ctx = context(1);
    struct toy toy;
    attn_train_options options;
    char folder[64], path[128];
    toy_make(&toy, ctx, PAIRS, 5);
    toy_folder(folder);
    settings(&options, folder);
    size_t bytes, stop = 3;
    assert_int_equal(attn_train(toy.model, toy.tokenizer, toy.train, toy.valid, &options, stop_at, &stop),
                     ATTN_E_INTERRUPTED);
    char *good = toy_read(folder, "checkpoint.safetensors", &bytes), *copy = malloc(bytes);
    size_t header = 8 + (unsigned char)good[0] + 256u * (unsigned char)good[1];
    snprintf(path, sizeof path, "%s/checkpoint.safetensors", folder);
    size_t once = 0, refused = 0;
    for (size_t i = 0; i < header; i += 5) {
        memcpy(copy, good, bytes);
        copy[i] ^= (char)(1 << i % 8);
        unlink(path);
        assert_ok(attn_file_write(ctx, path, copy, bytes));
        attn_status status = attn_train(toy.model, toy.tokenizer, toy.train, toy.valid, &options, stop_at, &once);
        assert_true(status < 0); /* at the latest the callback stops it */
        if (status != ATTN_E_INTERRUPTED) {
            size_t after;
            char *still = toy_read(folder, "checkpoint.safetensors", &after);
            assert_int_equal(after, bytes);
            assert_memory_equal(still, copy, bytes);
            free(still);
            refused++;
        }
    }
    assert_true(refused * 10 > header / 5 * 8); /* the rest: digits of the state, and padding */
    for (size_t n = 0; n < bytes; n += 997) {
        unlink(path);
        assert_ok(attn_file_write(ctx, path, good, n));
        assert_int_equal(attn_train(toy.model, toy.tokenizer, toy.train, toy.valid, &options, stop_at, &once),
                         ATTN_E_FORMAT);
    }
    free(good);
    free(copy);
    toy_remove(folder);
    toy_free(&toy);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stops),       cmocka_unit_test(test_stops_bf16), cmocka_unit_test(test_kills),
        cmocka_unit_test(test_other_level), cmocka_unit_test(test_refusals),   cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, make_reference, remove_reference);
}
