/* validate.c: how good the model is on pairs it is not trained on. */
#include "train/trainer.h"

#include <math.h>

attn_status attn_validate_loss(attn_trainer *trainer, double *loss, double *nll) {
    attn_epoch *epoch = &trainer->valid_epoch;
    if (!epoch->batches) {
        attn_batching_options options = {.batch_tokens = trainer->options.batch_tokens, .max_tokens = SIZE_MAX};
        const attn_packing_options packing = attn_train_packing(trainer, false);
        ATTN_TRY(trainer->continues ? attn_epoch_pack(epoch, trainer->tokenizer, trainer->valid, &packing, 0)
                                    : attn_epoch_build(epoch, trainer->tokenizer, trainer->valid, &options, 0));
    }
    attn_loss_stats stats = {0};
    for (size_t i = 0; i < epoch->batches; i++) {
        attn_pair_batch batch;
        ATTN_TRY(attn_epoch_batch(epoch, i, &batch));
        attn_model_loss(trainer->model, trainer->quiet, &batch, trainer->options.label_smoothing, 1, &stats);
        attn_status status = attn_tape_status(trainer->quiet);
        attn_tape_reset(trainer->quiet);
        ATTN_TRY(status);
    }
    double tokens = stats.tokens ? (double)stats.tokens : 1;
    *loss = stats.loss / tokens;
    *nll = stats.nll / tokens;
    if (!isfinite(*loss) || !isfinite(*nll))
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
    double loss, nll;
    if (!trainer->continues) return validate_bleu(trainer, score);
    ATTN_TRY(attn_validate_loss(trainer, &loss, &nll));
    *score = exp(-nll);
    return ATTN_OK;
}
