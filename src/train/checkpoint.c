/* checkpoint.c: everything a training needs to go on, in one safetensors file.
 *
 * Tensors "model.NAME", "adam.m.NAME", "adam.v.NAME"; metadata: the state's numbers, the settings that must be the
 * same, and the CPU level. No time of day enters it: two runs that did the same steps at one level have the same file,
 * byte for byte. */
#include "train/trainer.h"
#include <attn/io.h>
#include <attn/ops.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char format_name[] = "attn-checkpoint-1";
static const char level_key[] = "cpu_level"; /* for information: other levels add in another order */
static const char *const parts[] = {"model", "adam.m", "adam.v"};

enum { STATE_FIELDS = 9 };
typedef struct state_field {
    const char *key;
    bool real;
    size_t offset;
} state_field;

static const state_field fields[STATE_FIELDS] = {
    {"state.step", false, offsetof(attn_train_state, step)},
    {"state.steps", false, offsetof(attn_train_state, steps)},
    {"state.epoch", false, offsetof(attn_train_state, epoch)},
    {"state.position", false, offsetof(attn_train_state, position)},
    {"state.validations", false, offsetof(attn_train_state, validations)},
    {"state.bad", false, offsetof(attn_train_state, bad)},
    {"state.halvings", false, offsetof(attn_train_state, halvings)},
    {"state.best", true, offsetof(attn_train_state, best)},
    {"state.seconds", true, offsetof(attn_train_state, seconds)},
};

static const attn_tensor *part_of(const attn_trainer *trainer, size_t part, size_t index) {
    if (part == 0) return &trainer->learned[index]->value;
    return part == 1 ? &trainer->m[index] : &trainer->v[index];
}

attn_status attn_checkpoint_check(attn_trainer *trainer) {
    for (size_t i = 0; i < trainer->count; i++) {
        for (size_t part = 0; part < ATTN_COUNT(parts); part++) {
            double sum;
            ATTN_TRY(attn_sum_of_squares(trainer->ctx, &sum, part_of(trainer, part, i)));
            if (!isfinite(sum))
                return attn_fail(trainer->ctx, ATTN_E_NUMERIC,
                                 "step %llu: tensor \"%s.%s\" is not finite; nothing was saved",
                                 (unsigned long long)trainer->state.step, parts[part], trainer->learned[i]->name);
        }
    }
    return ATTN_OK;
}

/* ---- saving --------------------------------------------------------------------------------------------- */

static size_t count_settings(const attn_trainer *trainer) {
    size_t zeros = 0;
    for (size_t i = 0; i < trainer->settings.bytes; i++) zeros += trainer->settings.data[i] == 0;
    return zeros / 2;
}

/* Fills list with format, level, state and settings; `numbers` holds the state's text. */
static void list_metadata(const attn_trainer *trainer, attn_key_value *list, char numbers[STATE_FIELDS][32]) {
    *list++ = (attn_key_value){"format", format_name};
    *list++ = (attn_key_value){level_key, attn_cpu_level(trainer->ctx)};
    for (size_t i = 0; i < STATE_FIELDS; i++) {
        const char *at = (const char *)&trainer->state + fields[i].offset;
        if (fields[i].real) snprintf(numbers[i], 32, "%.17g", *(const double *)at);
        else snprintf(numbers[i], 32, "%llu", (unsigned long long)*(const uint64_t *)at);
        *list++ = (attn_key_value){fields[i].key, numbers[i]};
    }
    for (const char *at = trainer->settings.data, *end = at + trainer->settings.bytes; at < end; list++) {
        list->key = at;
        list->value = at + strlen(at) + 1;
        at = list->value + strlen(list->value) + 1;
    }
}

static attn_status list_tensors(const attn_trainer *trainer, attn_named_tensor *list, attn_buffer *names) {
    for (size_t part = 0; part < ATTN_COUNT(parts); part++)
        for (size_t i = 0; i < trainer->count; i++) {
            attn_buffer_printf(names, "%s.%s", parts[part], trainer->learned[i]->name);
            attn_buffer_add(names, "", 1);
        }
    ATTN_TRY(names->status);
    const char *name = names->data;
    for (size_t part = 0; part < ATTN_COUNT(parts); part++)
        for (size_t i = 0; i < trainer->count; i++, name += strlen(name) + 1)
            *list++ = (attn_named_tensor){name, *part_of(trainer, part, i)};
    return ATTN_OK;
}

attn_status attn_checkpoint_save(attn_trainer *trainer) {
    attn_context *ctx = trainer->ctx;
    char path[ATTN_TRAIN_PATH], numbers[STATE_FIELDS][32];
    ATTN_TRY(attn_train_path(trainer, path, "checkpoint.safetensors"));
    ATTN_TRY(attn_checkpoint_check(trainer));
    if (trainer->options.max_seconds > 0) trainer->state.seconds = attn_train_clock() - trainer->started;
    size_t n = trainer->count * ATTN_COUNT(parts), n_metadata = 2 + STATE_FIELDS + count_settings(trainer);
    attn_named_tensor *tensors = attn_alloc(ctx, n, sizeof *tensors);
    attn_key_value *metadata = attn_alloc(ctx, n_metadata, sizeof *metadata);
    attn_buffer names = ATTN_BUFFER_INIT(ctx);
    attn_status status = tensors && metadata ? list_tensors(trainer, tensors, &names) : ATTN_E_NOMEM;
    if (status == ATTN_OK) {
        list_metadata(trainer, metadata, numbers);
        status = attn_safetensors_save(ctx, path, tensors, n, metadata, n_metadata);
    }
    attn_buffer_free(&names);
    attn_release(ctx, metadata);
    attn_release(ctx, tensors);
    trainer->saved = attn_train_clock();
    return status;
}

/* ---- loading -------------------------------------------------------------------------------------------- */

bool attn_checkpoint_exists(const attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    return attn_train_path(trainer, path, "checkpoint.safetensors") == ATTN_OK && access(path, F_OK) == 0;
}

/* Options that older checkpoints do not name, and what held then. */
static const attn_key_value later[] = {{"option.precision", "F32"},
                                       {"option.task", "0"},
                                       {"option.fixed_windows", "0"},
                                       {"option.accumulate", "1"},
                                       {"option.beta", "0.100000001"}};

static attn_status check_settings(const attn_trainer *trainer, const attn_safetensors *file) {
    const char *at = trainer->settings.data, *end = at + trainer->settings.bytes;
    while (at < end) {
        const char *key = at, *value = key + strlen(key) + 1;
        const char *was = attn_safetensors_metadata(file, key);
        for (size_t i = 0; i < ATTN_COUNT(later) && !was; i++)
            if (!strcmp(key, later[i].key)) was = later[i].value;
        at = value + strlen(value) + 1;
        if (was && !strcmp(was, value)) continue;
        if (!was)
            return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "cannot resume: the checkpoint does not say its %s", key);
        if (strlen(was) + strlen(value) > 200)
            return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "cannot resume: %s differs from the checkpoint's", key);
        return attn_fail(trainer->ctx, ATTN_E_ARGUMENT, "cannot resume: %s was %s in the checkpoint and is %s now", key,
                         was, value);
    }
    return ATTN_OK;
}

static attn_status read_state(attn_trainer *trainer, const char *path, const attn_safetensors *file,
                              attn_train_state *state) {
    for (size_t i = 0; i < STATE_FIELDS; i++) {
        const char *text = attn_safetensors_metadata(file, fields[i].key);
        char *at = (char *)state + fields[i].offset, *end = NULL;
        bool good = text && *text && strlen(text) < 32;
        if (good && fields[i].real) {
            double value = strtod(text, &end);
            *(double *)at = value;
            good = !*end && isfinite(value);
        } else if (good) {
            *(uint64_t *)at = strtoull(text, &end, 10);
            good = !*end && text[0] >= '0' && text[0] <= '9';
        }
        if (!good)
            return attn_fail(trainer->ctx, ATTN_E_FORMAT, "%s: %s: expected a number, found \"%.40s\"", path,
                             fields[i].key, text ? text : "nothing");
    }
    if (state->step > state->steps || state->validations > state->step)
        return attn_fail(trainer->ctx, ATTN_E_FORMAT, "%s: its step, steps and validations do not fit each other",
                         path);
    return ATTN_OK;
}

static attn_status find_tensor(attn_trainer *trainer, const char *path, const attn_safetensors *file, size_t part,
                               size_t i, const attn_named_tensor **found) {
    char name[512];
    const attn_tensor *want = part_of(trainer, part, i);
    snprintf(name, sizeof name, "%s.%s", parts[part], trainer->learned[i]->name);
    *found = attn_safetensors_find(file, name);
    if (!*found) return attn_fail(trainer->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" is missing", path, name);
    const attn_tensor *have = &(*found)->tensor;
    bool same = have->dtype == ATTN_F32 && have->rank == want->rank;
    for (int d = 0; same && d < want->rank; d++) same = have->shape[d] == want->shape[d];
    if (!same)
        return attn_fail(trainer->ctx, ATTN_E_FORMAT, "%s: tensor \"%s\" has another dtype or shape than the model's",
                         path, name);
    double sum;
    ATTN_TRY(attn_sum_of_squares(trainer->ctx, &sum, have));
    if (!isfinite(sum)) return attn_fail(trainer->ctx, ATTN_E_NUMERIC, "%s: tensor \"%s\" is not finite", path, name);
    return ATTN_OK;
}

/* Checks everything first: on failure the model is as it was. */
static attn_status read_checkpoint(attn_trainer *trainer, const char *path, const attn_safetensors *file) {
    const char *format = attn_safetensors_metadata(file, "format");
    if (!format || strcmp(format, format_name))
        return attn_fail(trainer->ctx, ATTN_E_VERSION, "%s: expected format \"%s\", found \"%.40s\"", path, format_name,
                         format ? format : "none");
    attn_train_state state;
    const attn_named_tensor *found;
    ATTN_TRY(check_settings(trainer, file));
    ATTN_TRY(read_state(trainer, path, file, &state));
    if (attn_safetensors_count(file) != trainer->count * ATTN_COUNT(parts))
        return attn_fail(trainer->ctx, ATTN_E_FORMAT, "%s: expected %zu tensors, found %zu", path,
                         trainer->count * ATTN_COUNT(parts), attn_safetensors_count(file));
    for (int pass = 0; pass < 2; pass++)
        for (size_t part = 0; part < ATTN_COUNT(parts); part++)
            for (size_t i = 0; i < trainer->count; i++) {
                ATTN_TRY(find_tensor(trainer, path, file, part, i, &found));
                const attn_tensor *t = part_of(trainer, part, i);
                if (pass) memcpy(t->data, found->tensor.data, attn_tensor_count(t) * sizeof(float));
            }
    for (size_t i = 0; i < trainer->count; i++) attn_parameter_touch(trainer->learned[i]);
    trainer->state = state;
    const char *level = attn_safetensors_metadata(file, level_key);
    if (level && strlen(level) < sizeof trainer->other_level && strcmp(level, attn_cpu_level(trainer->ctx)) != 0)
        memcpy(trainer->other_level, level, strlen(level) + 1);
    return ATTN_OK;
}

attn_status attn_checkpoint_load(attn_trainer *trainer) {
    char path[ATTN_TRAIN_PATH];
    ATTN_TRY(attn_train_path(trainer, path, "checkpoint.safetensors"));
    attn_safetensors *file;
    ATTN_TRY(attn_safetensors_open(&file, trainer->ctx, path));
    attn_status status = read_checkpoint(trainer, path, file);
    attn_safetensors_close(file);
    return status;
}
