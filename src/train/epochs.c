/* epochs.c: what a training learns from in an epoch: pairs, windows of texts, or examples of a task. */
#include "model/gpt.h"
#include "train/trainer.h"

/* Tokens of a window, or that an example of a task may have. */
static size_t window_of(const attn_trainer *trainer) {
    return ATTN_MIN(trainer->options.max_tokens, trainer->model->max_positions);
}

static attn_status examples_epoch(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus,
                                  bool validation) {
    const attn_example_options options = {
        .task = trainer->options.task,
        .batch_tokens = trainer->options.batch_tokens,
        .most = window_of(trainer),
        .end_id = attn_model_end_id(trainer->model),
        .model = trainer->model,
        .beta = trainer->options.beta,
        .seed = trainer->options.seed,
        .shuffle = !validation,
    };
    return attn_epoch_examples(epoch, trainer->tokenizer, corpus, &options, validation ? 0 : trainer->state.epoch);
}

static attn_status texts_epoch(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus, bool validation) {
    const attn_packing_options options = {
        .batch_tokens = trainer->options.batch_tokens,
        .window = window_of(trainer),
        .fixed = trainer->options.fixed_windows,
        .end_id = attn_model_end_id(trainer->model),
        .seed = trainer->options.seed,
        .shuffle = !validation,
    };
    return attn_epoch_pack(epoch, trainer->tokenizer, corpus, &options, validation ? 0 : trainer->state.epoch);
}

static attn_status pairs_epoch(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus, bool validation) {
    const attn_train_options *options = &trainer->options;
    attn_batching_options batching = {.batch_tokens = options->batch_tokens, .max_tokens = SIZE_MAX};
    if (!validation) {
        batching.max_tokens = options->max_tokens;
        batching.concatenate = options->concatenate;
        batching.concatenate_words = options->concatenate_words;
        batching.augment = options->augment;
        batching.seed = options->seed;
        batching.shuffle = true;
        batching.guide = trainer->guide;
    }
    return attn_epoch_build(epoch, trainer->tokenizer, corpus, &batching, validation ? 0 : trainer->state.epoch);
}

attn_status attn_train_epoch(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus, bool validation) {
    return trainer->options.task != ATTN_TASK_NEXT ? examples_epoch(trainer, epoch, corpus, validation)
           : trainer->continues                    ? texts_epoch(trainer, epoch, corpus, validation)
                                                   : pairs_epoch(trainer, epoch, corpus, validation);
}

attn_status attn_train_begin_epoch(attn_trainer *trainer) {
    const attn_train_options *options = &trainer->options;
    if (options->guided_alignment > 0 && !trainer->guide)
        ATTN_TRY(attn_guide_create(&trainer->guide, trainer->ctx, trainer->train));
    attn_epoch *epoch = &trainer->epoch;
    ATTN_TRY(attn_train_epoch(trainer, epoch, trainer->train, false));
    if (!epoch->batches && options->task != ATTN_TASK_NEXT)
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT,
                         "no example to train on: %zu have more than %zu tokens, %zu have none", epoch->too_long,
                         window_of(trainer), epoch->empty);
    if (!epoch->batches && trainer->continues)
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "no text to train on: %zu tokens, expected two at least",
                         epoch->id_count);
    if (!epoch->batches)
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT,
                         "no pair to train on: %zu are empty, %zu have more than %zu tokens", epoch->empty,
                         epoch->too_long, options->max_tokens);
    if (trainer->state.position >= epoch->batches)
        return attn_fail(trainer->ctx, ATTN_E_FORMAT, "checkpoint: expected a position below %zu, found %llu",
                         epoch->batches, (unsigned long long)trainer->state.position);
    trainer->epoch_built = true;
    return ATTN_OK;
}

attn_status attn_train_note_epoch(attn_trainer *trainer) {
    const attn_epoch *epoch = &trainer->epoch;
    const bool task = trainer->options.task != ATTN_TASK_NEXT;
    if (epoch->too_long || epoch->empty)
        ATTN_TRY(attn_train_note(trainer, "left out: %zu %s of more than %zu tokens, %zu empty ones", epoch->too_long,
                                 task ? "examples" : "pairs", task ? window_of(trainer) : trainer->options.max_tokens,
                                 epoch->empty));
    if (task)
        return attn_train_note(trainer, "%zu examples make %zu batches an epoch; %zu tokens%s are learned",
                               epoch->count, epoch->batches, epoch->target_tokens,
                               trainer->options.task == ATTN_TASK_CLASSIFY ? "' labels" : "");
    if (trainer->continues)
        return attn_train_note(trainer, "%zu texts of %zu tokens make %zu windows of %zu and %zu batches an epoch",
                               attn_corpus_count(trainer->train), epoch->id_count, epoch->count, window_of(trainer),
                               epoch->batches);
    return attn_train_note(trainer, "%zu pairs make %zu examples and %zu batches an epoch; %zu target tokens",
                           attn_corpus_count(trainer->train), epoch->count, epoch->batches, epoch->target_tokens);
}
