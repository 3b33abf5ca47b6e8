/* trainer.c: the training loop.
 *
 * What is kept true, so that a killed training loses nothing and repeats nothing differently:
 *   (I1) folder/checkpoint.safetensors is there before the first step and always whole;
 *   (I2) what a step does depends on the checkpointed state and the settings alone;
 *   (I3) best/ and checkpoints/ are written before the checkpoint that counts them, so going on from an older one
 *        writes the same bytes again;
 *   (I4) the result is made from best/ and checkpoints/ after the last checkpoint; making it twice gives the same. */
#include "model/gpt.h"
#include "nn/parameters.h"
#include "io/file.h"
#include "train/trainer.h"
#include <attn/io.h>
#include <attn/ops.h>

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOG_STEPS = 10, PLATEAU_VALIDATIONS = 2 };

/* Sums since the last line of the log. */
typedef struct step_sums {
    double loss, nll, tokens, since;
} step_sums;

double attn_train_clock(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

attn_status attn_train_path(const attn_trainer *trainer, char path[ATTN_TRAIN_PATH], const char *format, ...) {
    int at = snprintf(path, ATTN_TRAIN_PATH, "%s/", trainer->options.folder), n = -1;
    if (at < ATTN_TRAIN_PATH) {
        va_list arguments;
        va_start(arguments, format);
        n = vsnprintf(path + at, (size_t)(ATTN_TRAIN_PATH - at), format, arguments);
        va_end(arguments);
    }
    if (n < 0 || n >= ATTN_TRAIN_PATH - at)
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "%.60s…: the path is too long", trainer->options.folder);
    return ATTN_OK;
}

/* Completes what all events share and calls back. */
static void emit(attn_trainer *trainer, attn_train_event *event) {
    const attn_train_state *state = &trainer->state;
    double now = attn_train_clock();
    event->step = (size_t)state->step;
    event->steps = state->steps == UINT64_MAX ? 0 : (size_t)state->steps;
    event->epoch = (double)state->epoch;
    if (trainer->epoch.batches) event->epoch += (double)state->position / (double)trainer->epoch.batches;
    event->seconds = now - trainer->started + trainer->logged;
    event->best_bleu = trainer->continues ? -1 : state->best;
    event->best_nll = trainer->continues && state->best > 0 ? -log(state->best) : INFINITY;
    double left = INFINITY;
    if (state->steps != UINT64_MAX && state->step > trainer->first_step)
        left = (now - trainer->first_clock) / (double)(state->step - trainer->first_step) *
               (double)(state->steps - state->step);
    if (trainer->options.max_seconds > 0) left = fmin(left, trainer->options.max_seconds - (now - trainer->started));
    event->seconds_left = isfinite(left) ? fmax(left, 0) : 0;
    if (trainer->callback && !trainer->callback(trainer->user, event)) trainer->stop = true;
}

attn_status attn_train_note(attn_trainer *trainer, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ATTN_TRY(attn_journal_text(&trainer->journal, "note", trainer->state.step, text));
    attn_train_event event = {.kind = ATTN_TRAIN_NOTE, .text = text};
    emit(trainer, &event);
    return ATTN_OK;
}

/* ---- one step ------------------------------------------------------------------------------------------- */

/* A loss or gradient is not finite: says in which tensor that shows first. */
static attn_status fail_numeric(attn_trainer *trainer, const char *what, double value) {
    attn_context *ctx = trainer->ctx;
    unsigned long long step = trainer->state.step + 1;
    for (int gradients = 0; gradients < 2; gradients++) /* values first: they are the cause */
        for (size_t i = 0; i < trainer->count; i++) {
            const attn_parameter *parameter = trainer->learned[i];
            double sum;
            ATTN_TRY(attn_sum_of_squares(ctx, &sum, gradients ? &parameter->grad : &parameter->value));
            if (isfinite(sum)) continue;
            return attn_fail(ctx, ATTN_E_NUMERIC,
                             "step %llu: the %s is %g; the first tensor that is not finite: the %s of \"%s\"; "
                             "the last checkpoint stays",
                             step, what, value, gradients ? "gradient" : "value", parameter->name);
        }
    return attn_fail(ctx, ATTN_E_NUMERIC,
                     "step %llu: the %s is %g, though all tensors are finite; the last checkpoint stays", step, what,
                     value);
}

static attn_status gradient_norm(attn_trainer *trainer, double *norm) {
    double total = 0;
    for (size_t i = 0; i < trainer->count; i++) {
        const attn_parameter *parameter = trainer->learned[i];
        double sum;
        ATTN_TRY(attn_sum_of_squares(trainer->ctx, &sum, &parameter->grad));
        total += sum;
    }
    *norm = sqrt(total);
    return ATTN_OK;
}

/* Weight decay is for matrices: gains and biases have no reason to be small. */
static attn_status update_parameters(attn_trainer *trainer, double rate, double scale) {
    const attn_train_options *options = &trainer->options;
    attn_adamw_options adam = {sizeof adam,      (float)rate, options->beta1, options->beta2,
                               options->epsilon, 0,           (float)scale,   trainer->state.step + 1};
    for (size_t i = 0; i < trainer->count; i++) {
        attn_parameter *parameter = trainer->learned[i];
        adam.weight_decay = parameter->value.rank > 1 ? options->weight_decay : 0;
        ATTN_TRY(attn_adamw(trainer->ctx, &parameter->value, &trainer->m[i], &trainer->v[i], &parameter->grad, &adam));
        attn_parameter_touch(parameter);
    }
    return ATTN_OK;
}

/* What the loss of a batch is the mean of. */
static size_t count_learned(const attn_trainer *trainer, const attn_pair_batch *batch) {
    size_t n = 0;
    if (trainer->options.task == ATTN_TASK_PREFERENCES) return batch->batch / 2;
    if (trainer->options.task == ATTN_TASK_NEXT)
        for (size_t b = 0; b < batch->batch; b++) n += (size_t)batch->target_lengths[b];
    else
        for (size_t i = 0; i < batch->batch * batch->target_steps; i++) n += batch->target_out[i] >= 0;
    return n;
}

/* Adds the gradients of one batch, the index-th of its step. */
static attn_status add_gradients(attn_trainer *trainer, attn_pair_batch *batch, size_t index, size_t tokens,
                                 attn_loss_stats *stats) {
    const attn_train_options *options = &trainer->options;
    attn_tape_reset(trainer->tape);
    attn_tape_seed(trainer->tape, options->seed, trainer->state.step * options->accumulate + index + 1);
    batch->guided_alignment = options->guided_alignment;
    attn_var *loss =
        attn_model_loss(trainer->model, trainer->tape, batch, options->label_smoothing, 1 / (float)tokens, stats);
    ATTN_TRY(attn_tape_status(trainer->tape));
    return attn_tape_backward(trainer->tape, loss);
}

/* The gradients of the step's batches, which end where the epoch does. */
static attn_status forward_backward(attn_trainer *trainer, attn_loss_stats *stats) {
    attn_train_state *state = &trainer->state;
    const size_t first = (size_t)state->position;
    const size_t end = ATTN_MIN(first + trainer->options.accumulate, trainer->epoch.batches);
    size_t tokens = 0;
    attn_pair_batch batch;
    for (size_t i = end; i-- > first;) { /* the last that is counted is the first to learn from */
        ATTN_TRY(attn_epoch_batch(&trainer->epoch, i, &batch));
        tokens += count_learned(trainer, &batch);
    }
    attn_tape_replaces_grad(trainer->tape, trainer->parameters);
    for (size_t i = first; i < end; i++) {
        if (i > first) ATTN_TRY(attn_epoch_batch(&trainer->epoch, i, &batch));
        ATTN_TRY(add_gradients(trainer, &batch, i - first, tokens, stats));
    }
    state->position = end;
    return ATTN_OK;
}

/* Leaves loss, nll, rate and norm in the event. */
static attn_status train_step(attn_trainer *trainer, attn_train_event *event, step_sums *sums) {
    attn_train_state *state = &trainer->state;
    const attn_train_options *options = &trainer->options;
    attn_loss_stats stats = {0};
    ATTN_TRY(forward_backward(trainer, &stats));
    double tokens = stats.tokens ? (double)stats.tokens : 1, norm, seconds = 0;
    event->loss = stats.loss / tokens;
    event->nll = stats.nll / tokens;
    if (!isfinite(event->loss)) return fail_numeric(trainer, "loss", event->loss);
    ATTN_TRY(gradient_norm(trainer, &norm));
    if (!isfinite(norm)) return fail_numeric(trainer, "gradient's norm", norm);
    if (options->max_seconds > 0) seconds = attn_train_clock() - trainer->started;
    double scale = options->clip > 0 && norm > (double)options->clip ? (double)options->clip / norm : 1;
    event->grad_norm = norm;
    event->learning_rate = attn_schedule_rate(options, state->step + 1, state->steps, seconds, state->halvings);
    ATTN_TRY(update_parameters(trainer, event->learning_rate, scale));
    state->step++;
    if (state->position == trainer->epoch.batches) {
        state->position = 0;
        state->epoch++;
        trainer->epoch_built = false;
    }
    sums->loss += stats.loss;
    sums->nll += stats.nll;
    sums->tokens += tokens;
    return ATTN_OK;
}

static attn_status log_step(attn_trainer *trainer, const attn_train_event *event, step_sums *sums) {
    double now = attn_train_clock(), seconds = fmax(now - sums->since, 1e-9);
    const attn_scalar scalars[] = {
        {"loss", "train/loss", sums->loss / sums->tokens},
        {"nll", "train/nll", sums->nll / sums->tokens},
        {"lr", "train/lr", event->learning_rate},
        {"grad_norm", "train/grad_norm", event->grad_norm},
        {"tokens_per_second", "train/tokens_per_second", sums->tokens / seconds},
        {"seconds", NULL, now - trainer->started + trainer->logged},
    };
    *sums = (step_sums){.since = now};
    return attn_journal_scalars(&trainer->journal, "step", trainer->state.step, scalars, ATTN_COUNT(scalars));
}

/* ---- between steps --------------------------------------------------------------------------------------- */

/* The loss of valid, in the event and in the log. */
static attn_status measure(attn_trainer *trainer, attn_train_event *event, double *score) {
    attn_train_state *state = &trainer->state;
    const bool task = trainer->options.task != ATTN_TASK_NEXT;
    const double began = attn_train_clock();
    attn_measure found;
    ATTN_TRY(attn_validate_loss(trainer, &found));
    event->valid_loss = found.loss;
    event->nll = found.nll;
    event->accuracy = task ? found.accuracy : -1;
    *score = exp(-found.nll);
    if (!trainer->continues) ATTN_TRY(attn_validate_score(trainer, score));
    event->bleu = trainer->continues ? -1 : *score;
    const attn_scalar scalars[] = {
        {"valid_loss", "valid/loss", found.loss},
        {"valid_nll", "valid/nll", found.nll},
        {"valid_seconds", NULL, attn_train_clock() - began},
        {task ? "accuracy" : "bleu", task ? "valid/accuracy" : "valid/bleu", task ? found.accuracy : event->bleu},
        {"best_bleu", NULL, fmax(state->best, *score)},
    };
    const size_t n = trainer->continues ? ATTN_COUNT(scalars) - 2 + task : ATTN_COUNT(scalars);
    return attn_journal_scalars(&trainer->journal, "valid", state->step, scalars, n);
}

static attn_status validate(attn_trainer *trainer) {
    attn_train_state *state = &trainer->state;
    attn_train_event event = {.kind = ATTN_TRAIN_VALID};
    ATTN_TRY(attn_checkpoint_check(trainer));
    if (trainer->valid) {
        double score;
        ATTN_TRY(measure(trainer, &event, &score));
        if (score > state->best) {
            state->best = score;
            state->bad = 0;
            ATTN_TRY(attn_result_best(trainer));
        } else if (++state->bad % PLATEAU_VALIDATIONS == 0) state->halvings++;
    }
    ATTN_TRY(attn_result_keep(trainer));
    state->validations++;
    if (trainer->valid) emit(trainer, &event);
    return ATTN_OK;
}

static attn_status save(attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    ATTN_TRY(attn_checkpoint_save(trainer));
    ATTN_TRY(attn_train_path(trainer, path, "checkpoint.safetensors"));
    attn_train_event event = {.kind = ATTN_TRAIN_SAVED, .text = path};
    emit(trainer, &event);
    return ATTN_OK;
}

static bool out_of_time(const attn_trainer *trainer) {
    return trainer->options.max_seconds > 0 && attn_train_clock() - trainer->started >= trainer->options.max_seconds;
}

static bool out_of_patience(const attn_trainer *trainer) {
    return trainer->options.patience > 0 && trainer->state.bad >= (uint64_t)trainer->options.patience;
}

static attn_status run(attn_trainer *trainer) {
    attn_train_state *state = &trainer->state;
    const attn_train_options *options = &trainer->options;
    step_sums sums = {.since = attn_train_clock()};
    bool over = state->step >= state->steps || out_of_time(trainer) || out_of_patience(trainer);
    while (!over) {
        if (!trainer->epoch_built) ATTN_TRY(attn_train_begin_epoch(trainer));
        double began = attn_train_clock(), tokens = sums.tokens;
        attn_train_event event = {.kind = ATTN_TRAIN_STEP};
        ATTN_TRY(train_step(trainer, &event, &sums));
        event.tokens_per_second = (sums.tokens - tokens) / fmax(attn_train_clock() - began, 1e-9);
        if (state->step % LOG_STEPS == 0 || state->step == state->steps) ATTN_TRY(log_step(trainer, &event, &sums));
        emit(trainer, &event);
        bool due = options->valid_steps ? state->step % options->valid_steps == 0 : state->position == 0;
        over = state->step == state->steps || out_of_time(trainer);
        if (due || over) {
            double paused = attn_train_clock();
            ATTN_TRY(validate(trainer));
            ATTN_TRY(save(trainer));
            over = over || out_of_patience(trainer);
            sums.since += attn_train_clock() - paused; /* the log's tokens a second are those of training */
        } else if (trainer->stop || attn_train_clock() - trainer->saved >= options->save_seconds) {
            ATTN_TRY(save(trainer));
        }
        if (trainer->stop)
            return attn_fail(trainer->ctx, ATTN_E_INTERRUPTED,
                             "training was stopped after step %llu of %llu and can be resumed",
                             (unsigned long long)state->step, (unsigned long long)state->steps);
    }
    return ATTN_OK;
}

/* ---- beginning and end ------------------------------------------------------------------------------------ */

attn_status attn_train_check_inputs(const attn_trainer *trainer) {
    size_t have = attn_tokenizer_size(trainer->tokenizer), want = attn_model_vocab_size(trainer->model);
    if (trainer->continues ? have > want : have != want)
        return attn_fail(trainer->ctx, ATTN_E_SHAPE, "the tokenizer has %zu tokens, the model's vocab_size is %zu",
                         have, want);
    if (!trainer->train || !attn_corpus_count(trainer->train))
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "there are no pairs to train on");
    const attn_train_options *options = &trainer->options;
    const size_t labels = attn_model_labels(trainer->model);
    if (!trainer->continues && options->task != ATTN_TASK_NEXT)
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "training options: this task is for language models");
    if ((options->task == ATTN_TASK_CLASSIFY) != (labels > 0))
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT,
                         labels ? "this model classifies texts, expected the task for that"
                                : "classifying needs a model with labels (\"id2label\" in its config)");
    if (trainer->continues && (options->concatenate > 0 || options->guided_alignment > 0))
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "training options: %s is for pairs, not for texts",
                         options->concatenate > 0 ? "concatenate" : "guided_alignment");
    return ATTN_OK;
}

static attn_status make_folders(attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    ATTN_TRY(attn_train_path(trainer, path, "checkpoints"));
    ATTN_TRY(attn_folder_make(trainer->ctx, path));
    ATTN_TRY(attn_train_path(trainer, path, "best"));
    return attn_folder_make(trainer->ctx, path);
}

/* Those that are not frozen. */
static attn_status find_learned(attn_trainer *trainer) {
    const size_t n = attn_parameters_count(trainer->parameters);
    trainer->learned = attn_alloc(trainer->ctx, n, sizeof(attn_parameter *));
    if (!trainer->learned) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        attn_parameter *parameter = attn_parameters_at(trainer->parameters, i);
        ATTN_TRY(attn_parameter_needs_floats(parameter, "training"));
        if (!parameter->frozen) trainer->learned[trainer->count++] = parameter;
    }
    return trainer->count ? ATTN_OK : attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "all weights are frozen");
}

static attn_status make_state(attn_trainer *trainer) {
    attn_context *ctx = trainer->ctx;
    trainer->m = attn_alloc_zero(ctx, trainer->count, sizeof *trainer->m);
    trainer->v = attn_alloc_zero(ctx, trainer->count, sizeof *trainer->v);
    if (!trainer->m || !trainer->v) return ATTN_E_NOMEM;
    for (size_t i = 0; i < trainer->count; i++) {
        attn_parameter *parameter = trainer->learned[i];
        const attn_tensor *value = &parameter->value;
        /* All have a gradient from the start: one that no loss reached yet is updated like after a resume. */
        if (!attn_parameter_grad(parameter)) return ATTN_E_NOMEM;
        trainer->m[i] = trainer->v[i] = *value;
        trainer->m[i].data = attn_alloc_zero(ctx, attn_tensor_count(value), sizeof(float));
        trainer->v[i].data = attn_alloc_zero(ctx, attn_tensor_count(value), sizeof(float));
        if (!trainer->m[i].data || !trainer->v[i].data) return ATTN_E_NOMEM;
    }
    ATTN_TRY(attn_tape_create(&trainer->tape, ctx, true));
    ATTN_TRY(attn_tape_precision(trainer->tape, trainer->options.precision));
    attn_tape_recompute(trainer->tape, trainer->options.recompute);
    return attn_tape_create(&trainer->quiet, ctx, false);
}

/* Plans the steps from the batches of the first epoch. */
static attn_status begin(attn_trainer *trainer) {
    const attn_train_options *options = &trainer->options;
    attn_train_state *state = &trainer->state;
    char path[ATTN_TRAIN_PATH];
    ATTN_TRY(attn_train_begin_epoch(trainer));
    state->steps = UINT64_MAX;
    const size_t batches = trainer->epoch.batches, steps = (batches + options->accumulate - 1) / options->accumulate;
    if (options->epochs > 0) state->steps = (uint64_t)fmax(1, ceil(options->epochs * (double)steps));
    if (options->max_steps) state->steps = ATTN_MIN(state->steps, options->max_steps);
    ATTN_TRY(attn_train_path(trainer, path, "tokenizer.json"));
    ATTN_TRY(attn_tokenizer_save(trainer->tokenizer, path));
    const char *config = attn_model_config(trainer->model);
    ATTN_TRY(attn_train_path(trainer, path, "config.json"));
    ATTN_TRY(attn_file_write(trainer->ctx, path, config, strlen(config)));
    return attn_checkpoint_save(trainer);
}

/* How good the model was at the task before. */
static attn_status measure_before(attn_trainer *trainer) {
    attn_train_event event = {.kind = ATTN_TRAIN_VALID};
    double score;
    ATTN_TRY(measure(trainer, &event, &score));
    emit(trainer, &event);
    return ATTN_OK;
}

static attn_status begin_or_resume(attn_trainer *trainer) {
    attn_train_state *state = &trainer->state;
    ATTN_TRY(make_folders(trainer));
    ATTN_TRY(attn_folder_lock(&trainer->lock, trainer->ctx, trainer->options.folder));
    bool there = attn_checkpoint_exists(trainer), resumes = there && trainer->options.resume;
    if (there && !resumes)
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT,
                         "%s already holds a training: resume it, or choose another folder", trainer->options.folder);
    double seconds = 0;
    ATTN_TRY(resumes ? attn_checkpoint_load(trainer) : begin(trainer));
    if (resumes) ATTN_TRY(attn_journal_take_back(trainer->ctx, trainer->options.folder, state->step, &seconds));
    ATTN_TRY(attn_journal_open(&trainer->journal, trainer->ctx, trainer->options.folder, state->step));
    trainer->saved = trainer->first_clock = attn_train_clock();
    trainer->started = trainer->first_clock - state->seconds;
    trainer->logged = fmax(seconds - state->seconds, 0);
    trainer->first_step = state->step;
    if (trainer->other_level[0])
        ATTN_TRY(attn_train_note(trainer,
                                 "the checkpoint was made at %s, this is %s: the bits will differ from an "
                                 "uninterrupted run's",
                                 trainer->other_level, attn_cpu_level(trainer->ctx)));
    if (resumes)
        return attn_train_note(trainer, "goes on after step %llu of %llu", (unsigned long long)state->step,
                               (unsigned long long)state->steps);
    ATTN_TRY(attn_train_note_epoch(trainer));
    return trainer->options.task != ATTN_TASK_NEXT && trainer->valid ? measure_before(trainer) : ATTN_OK;
}

static attn_status train(attn_trainer *trainer) {
    ATTN_TRY(attn_train_check_inputs(trainer));
    ATTN_TRY(find_learned(trainer));
    ATTN_TRY(attn_train_describe(trainer));
    ATTN_TRY(make_state(trainer));
    if (trainer->options.task == ATTN_TASK_PREFERENCES) {
        ATTN_TRY(attn_reference_make(trainer, &trainer->epoch, trainer->train));
        if (trainer->valid) ATTN_TRY(attn_reference_make(trainer, &trainer->valid_epoch, trainer->valid));
    }
    ATTN_TRY(begin_or_resume(trainer));
    ATTN_TRY(run(trainer));
    attn_train_event event = {.kind = ATTN_TRAIN_DONE};
    ATTN_TRY(attn_result_finish(trainer, &event.bleu));
    if (trainer->continues) {
        event.nll = event.bleu > 0 ? -log(event.bleu) : INFINITY;
        event.bleu = -1;
    }
    emit(trainer, &event);
    return ATTN_OK;
}

static void trainer_free(attn_trainer *trainer) {
    for (size_t i = 0; i < trainer->count; i++) {
        if (trainer->m) attn_release(trainer->ctx, trainer->m[i].data);
        if (trainer->v) attn_release(trainer->ctx, trainer->v[i].data);
    }
    attn_release(trainer->ctx, trainer->learned);
    attn_release(trainer->ctx, trainer->m);
    attn_release(trainer->ctx, trainer->v);
    attn_tape_free(trainer->tape);
    attn_tape_free(trainer->quiet);
    attn_guide_free(trainer->guide);
    attn_epoch_free(&trainer->epoch);
    attn_epoch_free(&trainer->valid_epoch);
    attn_buffer_free(&trainer->settings);
    attn_journal_close(&trainer->journal);
    attn_folder_unlock(trainer->lock);
}

attn_status attn_train(attn_model *model, const attn_tokenizer *tokenizer, const attn_corpus *train_corpus,
                       const attn_corpus *valid, const attn_train_options *options, attn_train_callback *callback,
                       void *user) {
    attn_context *ctx = model->ctx;
    if (valid && !attn_corpus_count(valid)) valid = NULL;
    ATTN_TRY(attn_train_options_check(ctx, options, valid != NULL));
    attn_trainer trainer = {
        .ctx = ctx,
        .model = model,
        .tokenizer = tokenizer,
        .train = train_corpus,
        .valid = valid,
        .options = *options,
        .parameters = attn_model_parameters(model),
        .state = {.best = -1},
        .lock = -1,
        .continues = attn_model_is_language_model(model),
        .settings = ATTN_BUFFER_INIT(ctx),
        .epoch = ATTN_EPOCH_INIT(ctx),
        .valid_epoch = ATTN_EPOCH_INIT(ctx),
        .callback = callback,
        .user = user,
    };
    trainer.started = attn_train_clock();
    attn_status status = train(&trainer);
    trainer_free(&trainer);
    return status;
}
