/* attn/train.h: training a model on pairs, a language model on texts, instructions, labels or preferences. */
#ifndef ATTN_TRAIN_H
#define ATTN_TRAIN_H

#include <attn/models.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The learning rate after the warm-up, which rises linearly from 0 over warmup_steps:
 *     CONSTANT      learning_rate
 *     LINEAR        falls to final_learning_rate along a line
 *     COSINE        the same along half a cosine
 *     INVERSE_SQRT  learning_rate · sqrt(warmup_steps / step), never below final_learning_rate
 *     PLATEAU       halved after every second validation in a row without a better BLEU, not below final_learning_rate
 *
 * With max_seconds, LINEAR and COSINE are as far as the steps or the seconds are, whichever is further: such a run ends
 * with its rate at the end of the schedule, but is not reproducible by its number of steps. */
typedef enum attn_schedule {
    ATTN_SCHEDULE_CONSTANT,
    ATTN_SCHEDULE_LINEAR,
    ATTN_SCHEDULE_COSINE,
    ATTN_SCHEDULE_INVERSE_SQRT,
    ATTN_SCHEDULE_PLATEAU
} attn_schedule;

/* What a language model learns; other models learn to translate pairs.
 *     NEXT          what comes next, for each token of texts (attn_corpus_read_texts)
 *     INSTRUCTIONS  answers (targets) to prompts (sources), attn_corpus_read_instructions; the prompt itself is not
 *                   learned
 *     CLASSIFY      which of its labels (targets) a text (source) has; a text that is too long is cut
 *     PREFERENCES   which of two answers is better: of pairs 2i and 2i+1, which have one prompt, the first. The loss is
 *                   that of Rafailov et al. 2023, (7), the reference being the model as it is at the beginning. */
typedef enum attn_train_task {
    ATTN_TASK_NEXT,
    ATTN_TASK_INSTRUCTIONS,
    ATTN_TASK_CLASSIFY,
    ATTN_TASK_PREFERENCES
} attn_train_task;

typedef struct attn_train_options {
    size_t struct_size;
    const char *folder; /* where config, tokenizer, checkpoints, log.jsonl and events go */
    bool resume;        /* go on from folder's checkpoint, byte-exact; from the beginning if there is none */
    uint64_t seed;
    attn_dtype precision;                      /* of the products in a step: F32, or BF16 (attn_tape_precision) */
    double epochs;                             /* 10; 0: without end (then max_steps or max_seconds) */
    size_t max_steps;                          /* 0: none; the smaller of the two counts */
    double max_seconds;                        /* 0: none; ends there as after the last step, and see attn_schedule */
    size_t batch_tokens;                       /* target tokens a batch, padding included; 4000 */
    size_t accumulate;                         /* batches a step: their gradients are added up; 1 */
    bool recompute;                            /* layers are run again in backward, not kept: less memory, same bits */
    size_t max_tokens;                         /* longer pairs are left out (counted and said); 100. Texts are read
                                                  in windows of so many tokens, or of the model's context length */
    bool fixed_windows;                        /* of texts: each epoch has the same windows, else cut elsewhere */
    attn_schedule schedule;                    /* LINEAR */
    float learning_rate, final_learning_rate;  /* 5e-4, 0 */
    size_t warmup_steps;                       /* 200 */
    float beta1, beta2, epsilon, weight_decay; /* .9 .98 1e-9 0; matrices decay, vectors do not */
    float clip;                                /* global norm, 1; 0: none */
    float label_smoothing;                     /* .1 */
    float concatenate;                         /* part of the examples made of 2–8 pairs joined, up to max_words; 0 */
    size_t concatenate_words;                  /* 60 */
    attn_augment_options augment;
    size_t valid_steps;     /* steps between validations; 0: once an epoch */
    size_t valid_sentences; /* BLEU on the first so many, greedy; 500; 0: all */
    bool lowercase_bleu;
    int patience;           /* validations without a better BLEU before stopping; 0: never */
    float guided_alignment; /* weight of the loss of alignments (attn_model_loss), links by an aligner; 0: none */
    int average;            /* the result is the mean of the last so many checkpoints; 5 */
    attn_train_task task;   /* NEXT */
    float beta;             /* PREFERENCES: how far the model may leave the reference, 0.1 */
    double save_seconds;    /* between checkpoints for resume, besides those at validations; 300 */
} attn_train_options;
ATTN_API void attn_train_options_init(attn_train_options *options);

typedef struct attn_train_event {
    enum { ATTN_TRAIN_STEP, ATTN_TRAIN_VALID, ATTN_TRAIN_SAVED, ATTN_TRAIN_NOTE, ATTN_TRAIN_DONE } kind;
    size_t step, steps;                  /* steps: the planned total */
    double epoch, seconds, seconds_left; /* seconds: those of the resumed training's earlier processes too */
    double loss, nll, learning_rate, grad_norm, tokens_per_second; /* per token */
    double valid_loss, bleu, best_bleu;                            /* bleu and best_bleu −1 for language models */
    double best_nll;                                               /* theirs */
    double accuracy;  /* of the validation: of tokens, labels, or preferred answers; −1: not measured */
    const char *text; /* NOTE: a sentence; SAVED: the file */
} attn_train_event;
/* Called from the training thread; returning false saves and stops (ATTN_E_INTERRUPTED). */
typedef bool attn_train_callback(void *user, const attn_train_event *event);

/* Trains model on train; keeps nothing after return. valid may be NULL. A language model (attn/generate.h) learns the
 * texts of attn_corpus_read_texts: what comes next, for each token of packed windows; its best weights are those with
 * the least validation loss, where others have the best BLEU.
 *
 * Writes into the folder: config.json and tokenizer.json; model.safetensors at the end, the result, which the model
 * holds on return; best/, a model's folder with the best weights so far; checkpoint.safetensors and checkpoints/, all
 * that resume needs, from before the first step; log.jsonl and events.out.tfevents.*, what happened, for people and for
 * TensorBoard.
 *
 * The result is the mean of the last checkpoints if it translates valid at least as well as the best one, else the
 * best. A training that was killed at any moment and resumed, on any number of threads, ends with the same bytes in all
 * files but the logs (unless max_seconds is given, or the CPU level is another one, which a note says). What log.jsonl
 * says of steps after the checkpoint is taken out of it on resume. A folder that holds a training is refused without
 * resume; resume with other options, data, tokenizer or config is ATTN_E_ARGUMENT and names the difference (max_seconds
 * and save_seconds may change).
 *
 * A loss, gradient or weight that is not finite stops with ATTN_E_NUMERIC, the step and the tensor named; what was
 * saved stays. So it does when a file cannot be written (ATTN_E_IO). */
ATTN_API attn_status attn_train(attn_model *model, const attn_tokenizer *tokenizer, const attn_corpus *train,
                                const attn_corpus *valid, const attn_train_options *options,
                                attn_train_callback *callback, void *user);

/* Adds to *stats the loss of a corpus as a training counts it, in tokens, labels or preferences, without training; of
 * the options only task, batch_tokens, max_tokens, beta and precision matter. Preferences have the model itself as
 * their reference: what counts is stats->correct, the pairs whose chosen answer is the likelier one. */
ATTN_API attn_status attn_train_measure(const attn_model *model, const attn_tokenizer *tokenizer,
                                        const attn_corpus *corpus, const attn_train_options *options,
                                        attn_loss_stats *stats);

/* log p of each answer of a corpus of preferences (attn_corpus_read_instructions), the chosen and the rejected one in
 * turn, and its tokens with the end; 0 of both for pairs that are longer than max_tokens. answer: attn_corpus_count. By
 * two models it makes the implicit reward beta (log p − log p of the reference) of Rafailov et al. 2023, section 4. */
typedef struct attn_answer {
    double log_prob;
    size_t tokens;
} attn_answer;
ATTN_API attn_status attn_train_answers(const attn_model *model, const attn_tokenizer *tokenizer,
                                        const attn_corpus *corpus, const attn_train_options *options,
                                        attn_answer *answer);

#ifdef __cplusplus
}
#endif
#endif
