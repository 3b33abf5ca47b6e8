/* model.c: making models by name. */
#include "model/weights.h"

#include <jansson.h>
#include <string.h>

static const attn_model_class *const classes[] = {&attn_class_rnn, &attn_class_bahdanau, &attn_class_transformer,
                                                  &attn_class_bert,
#define GPT_POINTER(name, type) &attn_class_##name,
                                                  ATTN_GPT_LIST(GPT_POINTER)};

static attn_status unknown_class(attn_context *ctx, const char *type) {
    attn_buffer list = ATTN_BUFFER_INIT(ctx);
    for (size_t i = 0; i < ATTN_COUNT(classes); i++)
        attn_buffer_printf(&list, "%s\"%s\"", i ? ", " : "", classes[i]->type);
    attn_status status =
        attn_fail(ctx, ATTN_E_UNSUPPORTED, "config: \"model_type\": expected one of %s, found \"%.40s\"",
                  list.data ? list.data : "(none)", type);
    attn_buffer_free(&list);
    return status;
}

static attn_status find_class(attn_context *ctx, const attn_model_class **out, const char *config_json) {
    json_error_t error;
    json_t *root = json_loads(config_json, JSON_REJECT_DUPLICATES, &error);
    if (!root) return attn_fail(ctx, ATTN_E_FORMAT, "config: line %d: %s", error.line, error.text);
    const char *type = json_string_value(json_object_get(root, "model_type"));
    attn_status status = ATTN_OK;
    *out = NULL;
    for (size_t i = 0; type && i < ATTN_COUNT(classes); i++)
        if (!strcmp(type, classes[i]->type)) *out = classes[i];
    if (!type) status = attn_fail(ctx, ATTN_E_FORMAT, "config: \"model_type\" is missing or not a string");
    else if (!*out) status = unknown_class(ctx, type);
    json_decref(root);
    return status;
}

attn_status attn_model_configure(attn_model **gives, attn_context *ctx, const char *config_json, uint64_t seed) {
    const attn_model_class *class;
    *gives = NULL;
    ATTN_TRY(find_class(ctx, &class, config_json));
    attn_model *model = attn_alloc_zero(ctx, 1, class->bytes);
    if (!model) return ATTN_E_NOMEM;
    model->ctx = ctx;
    model->class = class;
    attn_status status = attn_parameters_create(&model->parameters, ctx, seed);
    if (status == ATTN_OK) status = class->configure(model, config_json);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

attn_status attn_model_create(attn_model **gives, attn_context *ctx, const char *config_json, uint64_t seed) {
    attn_model *model;
    *gives = NULL;
    ATTN_TRY(attn_model_configure(&model, ctx, config_json, seed));
    attn_status status = model->class->add_parameters(model);
    if (status == ATTN_OK) *gives = model;
    else attn_model_free(model);
    return status;
}

static attn_status add_parameter(attn_model *model, attn_parameter **out, const char *name, attn_init init, float scale,
                                 int rank, const size_t *shape) {
    const bool anew = model->new_head && !strcmp(name, "head.weight") && model->stored &&
                      !attn_weights_find(model->stored, NULL, attn_model_stored_form(model, name).name);
    return model->stored && !anew ? attn_weights_take(model->stored, model, out, name, rank, shape)
                                  : attn_parameters_add(model->parameters, out, name, init, scale, rank, shape);
}

attn_parameter *attn_builder_add(attn_builder *builder, const char *name, attn_init init, float scale, size_t rows,
                                 size_t columns) {
    attn_parameter *p = NULL;
    const size_t shape[2] = {rows, columns};
    if (builder->status == ATTN_OK)
        builder->status = add_parameter(builder->model, &p, name, init, scale, columns ? 2 : 1, shape);
    return p;
}

void attn_model_free(attn_model *model) {
    if (!model) return;
    if (model->class->clear) model->class->clear(model);
    attn_parameters_free(model->parameters);
    attn_release(model->ctx, model->config);
    if (model->adapter) attn_release(model->ctx, model->adapter->base);
    attn_release(model->ctx, model->adapter);
    attn_release(model->ctx, model);
}

attn_parameters *attn_model_parameters(const attn_model *model) { return model->parameters; }
const char *attn_model_type(const attn_model *model) { return model->class->type; }
const char *attn_model_config(const attn_model *model) { return model->config; }
size_t attn_model_vocab_size(const attn_model *model) { return model->vocab_size; }

attn_var *attn_model_loss(const attn_model *model, attn_tape *tape, const attn_pair_batch *batch, float label_smoothing,
                          float grad_scale, attn_loss_stats *stats) {
    const attn_pair_batch *b = batch;
    const bool translates = model->class->encode != NULL;
    if (!model->class->loss)
        return attn_tape_fail(tape, ATTN_E_UNSUPPORTED, "a %s model is not trained here", model->class->type);
    if ((translates && (!b->source || !b->source_lengths)) || !b->target_in || !b->target_out)
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "loss: source, source_lengths, target_in or target_out is NULL");
    if (!b->batch || (translates && !b->source_steps) || !b->target_steps)
        return attn_tape_fail(tape, ATTN_E_SHAPE,
                              "loss: %zu pairs of %zu source and %zu target steps, expected at least one of each",
                              b->batch, b->source_steps, b->target_steps);
    return model->class->loss(model, tape, batch, label_smoothing, grad_scale, stats);
}
