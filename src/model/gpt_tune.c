/* gpt_tune.c: which weights of a language model are learned: a part of them, or adapters beside them. */
#include "model/gpt.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Whether a parameter is of the last layers, the last norm or the head. */
static bool is_last(const attn_gpt *m, const attn_parameter *parameter, size_t layers) {
    size_t layer;
    if (parameter == m->head) return m->head != m->tokens;
    if (parameter == m->final_norm.w || parameter == m->final_norm.b) return true;
    return sscanf(parameter->name, "layers.%zu.", &layer) == 1 && layer + layers >= m->config.num_layers;
}

attn_status attn_model_learn(attn_model *model, attn_model_part part, size_t layers) {
    const attn_gpt *m = (const attn_gpt *)model;
    if (model->class->configure != attn_gpt_configure)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "parts of a model: a %s model is no language model",
                         model->class->type);
    for (size_t i = 0; i < attn_parameters_count(model->parameters); i++) {
        attn_parameter *parameter = attn_parameters_at(model->parameters, i);
        parameter->frozen = part == ATTN_PART_HEAD   ? parameter != m->head
                            : part == ATTN_PART_LAST ? !is_last(m, parameter, layers)
                                                     : false;
    }
    return ATTN_OK;
}

/* ---- adapters ----------------------------------------------------------------------------------------- */

typedef struct adapter_builder {
    attn_gpt *m;
    const attn_lora_options *options;
    attn_status status;
} adapter_builder;

static void add_matrices(adapter_builder *b, attn_gpt_linear *l, unsigned target) {
    attn_parameters *set = b->m->base.parameters;
    char name[128];
    if (!l->w || !(b->options->targets & target) || b->status != ATTN_OK) return;
    const size_t n = l->w->value.shape[0], k = l->w->value.shape[1], r = b->options->rank;
    const int stem = (int)(strlen(l->w->name) - strlen(".weight"));
    snprintf(name, sizeof name, "%.*s.lora_a", stem, l->w->name);
    b->status =
        attn_parameters_add(set, &l->lora_a, name, ATTN_INIT_UNIFORM, 1 / sqrtf((float)k), 2, (const size_t[]){r, k});
    snprintf(name, sizeof name, "%.*s.lora_b", stem, l->w->name);
    if (b->status == ATTN_OK)
        b->status = attn_parameters_add(set, &l->lora_b, name, ATTN_INIT_ZERO, 0, 2, (const size_t[]){n, r});
    l->lora_scale = b->options->alpha / (float)r;
}

static attn_status note_adapter(attn_model *model, const attn_lora_options *options) {
    attn_context *ctx = model->ctx;
    if (!(model->adapter = attn_alloc_zero(ctx, 1, sizeof *model->adapter))) return ATTN_E_NOMEM;
    *model->adapter = (attn_adapter){options->rank, options->alpha, NULL};
    if (!options->base) return ATTN_OK;
    model->adapter->base = attn_copy_text(ctx, options->base, strlen(options->base));
    return model->adapter->base ? ATTN_OK : ATTN_E_NOMEM;
}

attn_status attn_model_add_lora(attn_model *model, const attn_lora_options *options) {
    attn_gpt *m = (attn_gpt *)model;
    if (options->struct_size != sizeof *options)
        return attn_fail(model->ctx, ATTN_E_VERSION, "lora options: expected a struct of %zu bytes, found %zu",
                         sizeof *options, options->struct_size);
    if (model->class->configure != attn_gpt_configure)
        return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "adapters: a %s model is no language model",
                         model->class->type);
    if (model->adapter) return attn_fail(model->ctx, ATTN_E_ARGUMENT, "adapters: the model has them already");
    if (options->rank < 1 || options->rank > m->config.hidden_size || !(options->alpha > 0) || !options->targets)
        return attn_fail(
            model->ctx, ATTN_E_ARGUMENT,
            "adapters: rank %zu, alpha %g and targets %u, expected a rank from 1 to %zu, and others above 0",
            options->rank, (double)options->alpha, options->targets, m->config.hidden_size);
    for (size_t i = 0; i < attn_parameters_count(model->parameters); i++) {
        attn_parameter *parameter = attn_parameters_at(model->parameters, i);
        parameter->frozen = !m->labels || parameter != m->head;
    }
    ATTN_TRY(note_adapter(model, options));
    adapter_builder b = {m, options, ATTN_OK};
    for (size_t i = 0; i < m->config.num_layers; i++) {
        attn_gpt_layer *layer = &m->layer[i];
        add_matrices(&b, &layer->query, ATTN_LORA_QUERY);
        add_matrices(&b, &layer->key, ATTN_LORA_KEY);
        add_matrices(&b, &layer->value, ATTN_LORA_VALUE);
        add_matrices(&b, &layer->out, ATTN_LORA_OUT);
        add_matrices(&b, &layer->gate, ATTN_LORA_MLP);
        add_matrices(&b, &layer->up, ATTN_LORA_MLP);
        add_matrices(&b, &layer->down, ATTN_LORA_MLP);
    }
    return b.status;
}
