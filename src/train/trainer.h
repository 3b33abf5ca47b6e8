/* trainer.h: what the trainer's files share. A training is a loop over steps whose whole state is
 *     weights, Adam's m and v, and attn_train_state;
 * everything random follows from (seed, epoch, step). So a checkpoint is these, and going on from one is exact. */
#ifndef ATTN_TRAIN_TRAINER_H
#define ATTN_TRAIN_TRAINER_H

#include "train/batching.h"
#include "train/journal.h"
#include <attn/train.h>

typedef struct attn_train_state {
    uint64_t step, steps;     /* done; planned (UINT64_MAX: unknown) */
    uint64_t epoch, position; /* the next batch */
    uint64_t validations;     /* done; the ring of checkpoints holds the last of them */
    uint64_t bad;             /* validations since the best */
    uint64_t halvings;        /* of the learning rate, PLATEAU */
    double best;              /* score (attn_validate_score); −1: none yet */
    double seconds;           /* kept only where max_seconds makes the run depend on them */
} attn_train_state;

typedef struct attn_trainer {
    attn_context *ctx;
    attn_model *model;
    const attn_tokenizer *tokenizer;
    const attn_corpus *train, *valid; /* valid may be NULL */
    attn_train_options options;
    attn_parameters *parameters;
    attn_parameter **learned; /* (count) those that are not frozen */
    size_t count;
    attn_tensor *m, *v; /* (count) Adam's moments */
    attn_train_state state;
    attn_buffer settings; /* what a resume must find unchanged: key NUL value NUL … */
    attn_tape *tape;      /* records */
    attn_tape *quiet;     /* does not: validation */
    attn_epoch epoch, valid_epoch;
    attn_guide *guide; /* NULL: alignments are not taught */
    bool epoch_built;
    bool continues; /* the model is a language model: the corpora's targets are texts */
    attn_journal journal;
    double started;     /* clock when this process began, less the seconds of earlier ones that max_seconds counts */
    double logged;      /* seconds of earlier ones that it does not count: in the log and in events only */
    double first_clock; /* and its first step, for the rate */
    uint64_t first_step;
    double saved; /* clock of the last save */
    attn_train_callback *callback;
    void *user;
    bool stop;            /* a callback said so */
    char other_level[16]; /* the CPU level that the checkpoint was made at; "" where it is this one, or unknown */
    int lock;             /* of the folder; −1: none */
} attn_trainer;

/* A path in the training's folder; a result that does not fit is ATTN_E_ARGUMENT. */
enum { ATTN_TRAIN_PATH = 4096 };
attn_status attn_train_path(const attn_trainer *trainer, char path[ATTN_TRAIN_PATH], const char *format, ...)
    ATTN_PRINTF(3, 4);

/* options.c */
attn_status attn_train_options_check(attn_context *ctx, const attn_train_options *options, bool has_valid);
/* Fills trainer->settings: options, data, tokenizer and model, as text. */
attn_status attn_train_describe(attn_trainer *trainer);

/* schedule.c: the rate of a step (from 1). */
double attn_schedule_rate(const attn_train_options *options, uint64_t step, uint64_t steps, double seconds,
                          uint64_t halvings);

/* checkpoint.c */
attn_status attn_checkpoint_save(attn_trainer *trainer);
/* A missing file is ATTN_E_IO (see attn_checkpoint_exists). Settings that differ are named; another CPU level is kept
 * in trainer->other_level. On failure the model is as it was. */
attn_status attn_checkpoint_load(attn_trainer *trainer);
bool attn_checkpoint_exists(const attn_trainer *trainer);
/* Names the first weight or moment that is not finite. */
attn_status attn_checkpoint_check(attn_trainer *trainer);

/* validate.c */
typedef struct attn_measure {
    double loss, nll, accuracy; /* means: of tokens, or of what the task counts */
} attn_measure;
attn_status attn_validate_loss(attn_trainer *trainer, attn_measure *out);
/* The larger the better: BLEU, or of a language model the mean probability of a token, 1 / perplexity. */
attn_status attn_validate_score(attn_trainer *trainer, double *score);

/* The log-probabilities of an epoch's answers by the model as it is: the reference of preferences. */
attn_status attn_reference_make(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus);

/* result.c: the ring of the last validations' weights, the best model, and what is made of them at the end. */
attn_status attn_result_keep(attn_trainer *trainer); /* weights → ring */
attn_status attn_result_best(attn_trainer *trainer); /* weights → best/ */
/* Leaves the better of mean and best in the model and in the folder. */
attn_status attn_result_finish(attn_trainer *trainer, double *score);

/* epochs.c */
/* Fills epoch with the corpus, of the trainer's own or of validation. */
attn_status attn_train_epoch(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus, bool validation);
attn_status attn_train_begin_epoch(attn_trainer *trainer); /* trainer->epoch; nothing to learn from is an error */
attn_status attn_train_note_epoch(attn_trainer *trainer);  /* says what there is */

/* trainer.c */
/* Whether model, tokenizer, corpus and task go together. */
attn_status attn_train_check_inputs(const attn_trainer *trainer);
double attn_train_clock(void);
attn_status attn_train_note(attn_trainer *trainer, const char *format, ...) ATTN_PRINTF(2, 3);

#endif
