/* validate.c: how good the model is on pairs it is not trained on. */
#include "model/model.h"
#include "train/trainer.h"
#include <attn/generate.h>

#include <math.h>

static attn_status add_loss(attn_trainer *trainer, attn_loss_stats *stats) {
    attn_epoch *epoch = &trainer->valid_epoch;
    if (!epoch->batches) ATTN_TRY(attn_train_epoch(trainer, epoch, trainer->valid, true));
    for (size_t i = 0; i < epoch->batches; i++) {
        attn_pair_batch batch;
        ATTN_TRY(attn_epoch_batch(epoch, i, &batch));
        attn_model_loss(trainer->model, trainer->quiet, &batch, trainer->options.label_smoothing, 1, stats);
        attn_status status = attn_tape_status(trainer->quiet);
        attn_tape_reset(trainer->quiet);
        ATTN_TRY(status);
    }
    return ATTN_OK;
}

static attn_status fill_reference(attn_trainer *trainer, attn_epoch *epoch, size_t index, float *reference,
                                  float *log_prob) {
    attn_pair_batch batch;
    ATTN_TRY(attn_epoch_batch(epoch, index, &batch));
    const attn_preferences wanted = {NULL, trainer->options.beta, log_prob};
    batch.preferences = &wanted;
    attn_model_loss(trainer->model, trainer->quiet, &batch, 0, 1, NULL);
    attn_status status = attn_tape_status(trainer->quiet);
    attn_tape_reset(trainer->quiet);
    for (size_t b = 0; b < batch.batch && status == ATTN_OK; b++)
        reference[attn_epoch_sequence(epoch, index, b)] = log_prob[b];
    return status;
}

attn_status attn_reference_make(attn_trainer *trainer, attn_epoch *epoch, const attn_corpus *corpus) {
    ATTN_TRY(attn_train_epoch(trainer, epoch, corpus, true));
    float *reference = attn_alloc(trainer->ctx, epoch->sequences, sizeof *reference);
    float *log_prob = attn_alloc(trainer->ctx, epoch->sequences, sizeof *log_prob); /* of a batch: not more */
    attn_status status = reference && log_prob ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < epoch->batches && status == ATTN_OK; i++)
        status = fill_reference(trainer, epoch, i, reference, log_prob);
    attn_release(trainer->ctx, log_prob);
    if (status == ATTN_OK) epoch->reference = reference;
    else attn_release(trainer->ctx, reference);
    return status;
}

static attn_status read_answers(attn_trainer *trainer, attn_answer *answer) {
    attn_epoch *epoch = &trainer->valid_epoch;
    for (size_t i = 0; i < attn_corpus_count(trainer->valid); i++) answer[i] = (attn_answer){0, 0};
    ATTN_TRY(attn_reference_make(trainer, epoch, trainer->valid));
    for (size_t i = 0; i < epoch->sequences; i++) {
        const attn_learned_text *s = &epoch->sequence[i];
        answer[s->pair] = (attn_answer){(double)epoch->reference[i], s->count - s->prompt};
    }
    return ATTN_OK;
}

/* stats, or answer. */
static attn_status look(const attn_model *model, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                        const attn_train_options *options, attn_loss_stats *stats, attn_answer *answer) {
    attn_train_options own = *options;
    own.label_smoothing = 0;
    if (!own.folder) own.folder = "."; /* nothing is written */
    ATTN_TRY(attn_train_options_check(model->ctx, &own, true));
    attn_trainer trainer = {
        .ctx = model->ctx,
        .model = (attn_model *)model,
        .tokenizer = tokenizer,
        .train = corpus,
        .valid = corpus,
        .options = own,
        .continues = attn_model_is_language_model(model),
        .valid_epoch = ATTN_EPOCH_INIT(model->ctx),
    };
    ATTN_TRY(attn_train_check_inputs(&trainer));
    ATTN_TRY(attn_tape_create(&trainer.quiet, model->ctx, false));
    attn_status status = attn_tape_precision(trainer.quiet, own.precision);
    if (status == ATTN_OK) status = stats ? add_loss(&trainer, stats) : read_answers(&trainer, answer);
    attn_tape_free(trainer.quiet);
    attn_epoch_free(&trainer.valid_epoch);
    return status;
}

attn_status attn_train_measure(const attn_model *model, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                               const attn_train_options *options, attn_loss_stats *stats) {
    return look(model, tokenizer, corpus, options, stats, NULL);
}

attn_status attn_train_answers(const attn_model *model, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                               const attn_train_options *options, attn_answer *answer) {
    attn_train_options own = *options;
    own.task = ATTN_TASK_PREFERENCES;
    return look(model, tokenizer, corpus, &own, NULL, answer);
}

attn_status attn_validate_loss(attn_trainer *trainer, attn_measure *out) {
    attn_loss_stats stats = {0};
    ATTN_TRY(add_loss(trainer, &stats));
    double tokens = stats.tokens ? (double)stats.tokens : 1;
    *out = (attn_measure){stats.loss / tokens, stats.nll / tokens, (double)stats.correct / tokens};
    if (!isfinite(out->loss) || !isfinite(out->nll))
        return attn_fail(trainer->ctx, ATTN_E_NUMERIC, "step %llu: the validation loss is not a finite number",
                         (unsigned long long)trainer->state.step);
    return ATTN_OK;
}

static attn_status validate_bleu(attn_trainer *trainer, double *bleu) {
    attn_context *ctx = trainer->ctx;
    size_t n = attn_corpus_count(trainer->valid), wanted = trainer->options.valid_sentences;
    if (wanted && wanted < n) n = wanted;
    const char **source = attn_alloc(ctx, n, 3 * sizeof *source);
    size_t *bytes = attn_alloc(ctx, n, sizeof *bytes);
    attn_translation *translation = attn_alloc_zero(ctx, n, sizeof *translation);
    attn_status status = source && bytes && translation ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK) {
        const char **reference = source + n, **hypothesis = reference + n;
        for (size_t i = 0; i < n; i++) {
            const attn_pair *pair = attn_corpus_at(trainer->valid, i);
            source[i] = pair->source;
            bytes[i] = pair->source_bytes;
            reference[i] = pair->target;
        }
        attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT;
        options.beam_size = 1;
        options.batch_size = 64;
        options.max_source_tokens = 0;
        status = attn_translate(trainer->model, trainer->tokenizer, translation, source, bytes, n, &options);
        attn_bleu score;
        if (status == ATTN_OK) {
            for (size_t i = 0; i < n; i++)
                hypothesis[i] = translation[i].count ? translation[i].hypothesis[0].text : "";
            status = attn_bleu_score(ctx, &score, hypothesis, reference, n, trainer->options.lowercase_bleu);
        }
        if (status == ATTN_OK) *bleu = score.score;
        for (size_t i = 0; i < n; i++) attn_translation_clear(ctx, &translation[i]);
    }
    attn_release(ctx, translation);
    attn_release(ctx, bytes);
    attn_release(ctx, source);
    return status;
}

attn_status attn_validate_score(attn_trainer *trainer, double *score) {
    attn_measure measure;
    if (!trainer->continues) return validate_bleu(trainer, score);
    ATTN_TRY(attn_validate_loss(trainer, &measure));
    *score = exp(-measure.nll);
    return ATTN_OK;
}
