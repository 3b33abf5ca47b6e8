/* result.c: which weights a training hands over.
 *
 * Each validation's weights go into a ring of `average` files (checkpoints/average-K.safetensors). At the end their
 * mean is the result, unless the best single validation translated better. */
#include "model/model.h"
#include "train/trainer.h"
#include <attn/io.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

static attn_status save_tokenizer(attn_trainer *trainer, const char *folder) {
    char path[ATTN_TRAIN_PATH];
    ATTN_TRY(attn_train_path(trainer, path, "%s%stokenizer.json", folder, *folder ? "/" : ""));
    return attn_tokenizer_save(trainer->tokenizer, path);
}

attn_status attn_result_keep(attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    uint64_t size = (uint64_t)ATTN_MAX(trainer->options.average, 1);
    ATTN_TRY(attn_train_path(trainer, path, "checkpoints/average-%llu.safetensors",
                             (unsigned long long)(trainer->state.validations % size)));
    attn_named_tensor *tensors = attn_alloc(trainer->ctx, trainer->count, sizeof *tensors);
    if (!tensors) return ATTN_E_NOMEM;
    for (size_t i = 0; i < trainer->count; i++) {
        const attn_parameter *parameter = trainer->learned[i];
        tensors[i] = (attn_named_tensor){parameter->name, parameter->value};
    }
    attn_status status = attn_safetensors_save(trainer->ctx, path, tensors, trainer->count, NULL, 0);
    attn_release(trainer->ctx, tensors);
    return status;
}

attn_status attn_result_best(attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    ATTN_TRY(attn_train_path(trainer, path, "best"));
    ATTN_TRY(attn_model_save(trainer->model, path, ATTN_F32));
    return save_tokenizer(trainer, "best");
}

/* ---- the mean --------------------------------------------------------------------------------------------- */

/* parameter = mean over files, summed in double in the order of the files. */
static attn_status average_parameter(attn_trainer *trainer, attn_parameter *parameter, attn_safetensors *const *files,
                                     size_t n) {
    const float *rows[1000];
    size_t count = attn_tensor_count(&parameter->value);
    for (size_t f = 0; f < n; f++) {
        const attn_named_tensor *found = attn_safetensors_find(files[f], parameter->name);
        if (!found || found->tensor.dtype != ATTN_F32 || attn_tensor_count(&found->tensor) != count)
            return attn_fail(trainer->ctx, ATTN_E_FORMAT,
                             "checkpoints/average-%zu.safetensors: tensor \"%s\": expected %zu F32", f, parameter->name,
                             count);
        rows[f] = found->tensor.data;
    }
    float *value = parameter->value.data;
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t f = 0; f < n; f++) sum += (double)rows[f][i];
        value[i] = (float)(sum / (double)n);
    }
    attn_parameter_touch(parameter);
    return ATTN_OK;
}

static attn_status average_ring(attn_trainer *trainer, size_t n) {
    attn_safetensors **files = attn_alloc_zero(trainer->ctx, n, sizeof *files);
    if (!files) return ATTN_E_NOMEM;
    attn_status status = ATTN_OK;
    for (size_t f = 0; f < n && status == ATTN_OK; f++) {
        char path[ATTN_TRAIN_PATH];
        status = attn_train_path(trainer, path, "checkpoints/average-%zu.safetensors", f);
        if (status == ATTN_OK) status = attn_safetensors_open(&files[f], trainer->ctx, path);
    }
    for (size_t i = 0; i < trainer->count && status == ATTN_OK; i++)
        status = average_parameter(trainer, trainer->learned[i], files, n);
    for (size_t f = 0; f < n; f++) attn_safetensors_close(files[f]);
    attn_release(trainer->ctx, files);
    return status;
}

static attn_status take_best(attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    attn_model *best;
    ATTN_TRY(attn_train_path(trainer, path, "best"));
    if (trainer->model->adapter) return attn_adapter_read(trainer->model, path);
    ATTN_TRY(attn_model_load(&best, trainer->ctx, path));
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < trainer->count && status == ATTN_OK; i++) {
        attn_parameter *to = trainer->learned[i];
        const attn_parameter *from = attn_parameters_find(attn_model_parameters(best), to->name);
        size_t count = attn_tensor_count(&to->value);
        if (!from || attn_tensor_count(&from->value) != count) {
            status = attn_fail(trainer->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" does not fit the model", path, to->name);
            break;
        }
        memcpy(to->value.data, from->value.data, count * sizeof(float));
        attn_parameter_touch(to);
    }
    attn_model_free(best);
    return status;
}

static const char *score_text(const attn_trainer *trainer, char out[32], double score) {
    if (trainer->options.task != ATTN_TASK_NEXT) snprintf(out, 32, "loss %.4f", -log(score));
    else
        snprintf(out, 32, trainer->continues ? "perplexity %.4f" : "BLEU %.2f", trainer->continues ? 1 / score : score);
    return out;
}

attn_status attn_result_finish(attn_trainer *trainer, double *score) {
    const attn_train_state *state = &trainer->state;
    size_t n = (size_t)ATTN_MIN(state->validations, (uint64_t)ATTN_MAX(trainer->options.average, 1));
    char mean[32], best[32];
    *score = -1;
    if (n) ATTN_TRY(average_ring(trainer, n));
    if (trainer->valid) {
        ATTN_TRY(attn_validate_score(trainer, score));
        if (*score >= state->best) {
            ATTN_TRY(attn_train_note(trainer,
                                     "the result is the mean of the last %zu checkpoints: %s (best single: %s)", n,
                                     score_text(trainer, mean, *score), score_text(trainer, best, state->best)));
        } else {
            ATTN_TRY(attn_train_note(trainer, "the result is the best single checkpoint: %s (mean of the last %zu: %s)",
                                     score_text(trainer, best, state->best), n, score_text(trainer, mean, *score)));
            ATTN_TRY(take_best(trainer));
            *score = state->best;
        }
    }
    ATTN_TRY(attn_model_save(trainer->model, trainer->options.folder, ATTN_F32));
    return save_tokenizer(trainer, "");
}
