/* weights_save.c: parameters become stored tensors. See weights.h. */
#include "model/weights.h"
#include "nn/parameters.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { OWNED = 5 }; /* allocations of a parameter at most */

/* Divides by the scale itself: its inverse overflows where the row is tiny. */
static void quantise_i8(const float *w, size_t rows, size_t columns, int8_t *q, float *scale) {
    for (size_t n = 0; n < rows; n++) {
        const float *row = w + n * columns;
        float top = 0;
        for (size_t k = 0; k < columns; k++) top = fmaxf(top, fabsf(row[k]));
        scale[n] = top / 127.0f;
        for (size_t k = 0; k < columns; k++)
            q[n * columns + k] = scale[n] > 0 ? (int8_t)lrintf(fminf(fmaxf(row[k] / scale[n], -127), 127)) : 0;
    }
}

static void *own(attn_stored_set *set, size_t count, size_t size) {
    void *data = attn_alloc(set->ctx, count, size);
    if (data) set->owned[set->owned_count++] = data;
    return data;
}

static char *own_name(attn_stored_set *set, const char *name, const char *end) {
    size_t bytes = strlen(name) + strlen(end) + 1;
    char *copy = own(set, bytes, 1);
    if (copy) snprintf(copy, bytes, "%s%s", name, end);
    return copy;
}

/* Puts a parameter into its place in the tensor that it is stored in. */
static attn_status add_part(attn_stored_set *set, const attn_parameter *p, const attn_stored_form *form) {
    const attn_tensor *value = &p->value;
    const float *from = value->data;
    const size_t count = attn_tensor_count(value), n = value->rank ? value->shape[0] : 1, k = n ? count / n : 0;
    const bool transposed = form->transposed && value->rank == 2;
    if (form->part == 0) {
        size_t shape[ATTN_MAX_RANK];
        memcpy(shape, value->shape, sizeof shape);
        shape[0] = n * form->parts;
        if (transposed) shape[0] = k, shape[1] = n * form->parts;
        float *whole = own(set, count * form->parts, sizeof *whole);
        if (!whole) return ATTN_E_NOMEM;
        set->whole = attn_tensor_of(whole, ATTN_F32, value->rank, shape);
    }
    float *to = set->whole.data;
    const size_t first = form->part * n, columns = n * form->parts;
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < k; c++)
            to[transposed ? c * columns + first + r : (first + attn_stored_row(form, r)) * k + c] =
                from[r * k + c] - form->offset;
    return ATTN_OK;
}

static attn_status store_parameter(attn_stored_set *set, const attn_parameter *p, const attn_stored_form *form) {
    ATTN_TRY(attn_parameter_needs_floats(p, "saving"));
    size_t count = attn_tensor_count(&p->value), bad = attn_find_not_finite(p->value.data, count);
    if (bad < count) /* it could not be loaded again */
        return attn_fail(set->ctx, ATTN_E_NUMERIC,
                         "tensor \"%s\": element %zu is not a finite number, nothing is saved", p->name, bad);
    const char *name = own_name(set, form->name, "");
    if (!name) return ATTN_E_NOMEM;
    const bool as_it_is =
        form->parts == 1 && form->offset == 0 && !(form->transposed && p->value.rank == 2) && !form->paired;
    if (!as_it_is) ATTN_TRY(add_part(set, p, form));
    if (form->part + 1 == form->parts)
        set->tensor[set->count++] = (attn_named_tensor){name, as_it_is ? p->value : set->whole};
    return ATTN_OK;
}

attn_status attn_stored_set_make(attn_stored_set *set, const attn_model *model, attn_stored_form_of *form_of) {
    const size_t n = attn_parameters_count(model->parameters);
    set->ctx = model->ctx;
    set->tensor = attn_alloc(set->ctx, n, sizeof *set->tensor);
    set->owned = attn_alloc(set->ctx, n, OWNED * sizeof *set->owned);
    attn_status status = set->tensor && set->owned ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        const attn_parameter *p = attn_parameters_at(model->parameters, i);
        attn_stored_form form;
        form_of(model, &form, p->name);
        status = store_parameter(set, p, &form);
    }
    return status;
}

void attn_stored_set_free(attn_stored_set *set) {
    for (size_t i = 0; i < set->owned_count; i++) attn_release(set->ctx, set->owned[i]);
    attn_release(set->ctx, set->owned);
    attn_release(set->ctx, set->tensor);
}

/* ---- safetensors -------------------------------------------------------------------------------- */

/* Adds a tensor in the wanted dtype. */
static attn_status add_tensor(attn_stored_set *set, attn_named_tensor *out, size_t *n, const attn_named_tensor *from,
                              attn_dtype dtype) {
    const attn_tensor *t = &from->tensor;
    if (dtype == ATTN_F32 || t->rank < 2) {
        out[(*n)++] = *from;
        return ATTN_OK;
    }
    const size_t count = attn_tensor_count(t), rows = t->shape[0];
    void *data = own(set, count, attn_dtype_size(dtype));
    if (!data) return ATTN_E_NOMEM;
    out[(*n)++] = (attn_named_tensor){from->name, attn_tensor_of(data, dtype, t->rank, t->shape)};
    if (dtype == ATTN_BF16) {
        attn_gguf_quantise(data, t->data, count, ATTN_GGUF_BF16);
        return ATTN_OK;
    }
    float *scale = own(set, rows, sizeof *scale);
    char *scale_name = own_name(set, from->name, ".scale");
    if (!scale || !scale_name) return ATTN_E_NOMEM;
    out[(*n)++] = (attn_named_tensor){scale_name, attn_tensor_f32(scale, 1, rows)};
    quantise_i8(t->data, rows, count / (rows ? rows : 1), data, scale);
    return ATTN_OK;
}

static void form_of(const attn_model *model, attn_stored_form *form, const char *name) {
    *form = attn_model_stored_form(model, name);
}

attn_status attn_weights_save(const attn_model *model, const char *path, attn_dtype dtype) {
    attn_context *ctx = model->ctx;
    attn_stored_set set = {0};
    attn_status status = attn_stored_set_make(&set, model, form_of);
    attn_named_tensor *out = status == ATTN_OK ? attn_alloc(ctx, set.count, 2 * sizeof *out) : NULL;
    size_t n = 0;
    if (status == ATTN_OK && !out) status = ATTN_E_NOMEM;
    for (size_t i = 0; i < set.count && status == ATTN_OK; i++)
        status = add_tensor(&set, out, &n, &set.tensor[i], dtype);
    const attn_key_value metadata[] = {{"format", "pt"}, {"model_type", model->class->type}};
    if (status == ATTN_OK) status = attn_safetensors_save(ctx, path, out, n, metadata, ATTN_COUNT(metadata));
    attn_release(ctx, out);
    attn_stored_set_free(&set);
    return status;
}
