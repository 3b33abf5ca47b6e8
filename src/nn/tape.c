#include "nn/tape.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    attn_status (*backward)(attn_tape *tape, attn_node *node);
} operations[] = {
#define OPERATION_ROW(name) {#name, attn_backward_##name},
    ATTN_OPERATION_LIST(OPERATION_ROW)
#undef OPERATION_ROW
};

/* ---- life and failure ----------------------------------------------------------------------- */

attn_status attn_tape_create(attn_tape **gives, attn_context *ctx, bool record) {
    *gives = NULL;
    attn_tape *tape = attn_alloc_zero(ctx, 1, sizeof *tape);
    if (!tape) return ATTN_E_NOMEM;
    tape->ctx = ctx;
    tape->arena.ctx = ctx;
    tape->record = record;
    tape->packed = tape->weights = (attn_packed)ATTN_PACKED_INIT;
    attn_tape_reset(tape);
    *gives = tape;
    return ATTN_OK;
}

void attn_tape_free(attn_tape *tape) {
    if (!tape) return;
    attn_context *ctx = tape->ctx;
    attn_packed_free(ctx, &tape->packed);
    attn_packed_free(ctx, &tape->weights);
    attn_arena_free(&tape->arena);
    attn_release(ctx, tape);
}

void attn_tape_reset(attn_tape *tape) {
    attn_arena_reset(&tape->arena);
    tape->status = ATTN_OK;
    tape->text[0] = '\0';
    tape->done = false;
    tape->position = 0;
    tape->last = NULL;
    tape->spares = 0;
    attn_tape_gather_begin(tape);
}

void attn_tape_seed(attn_tape *tape, uint64_t seed, uint64_t step) {
    tape->seed = seed;
    tape->step = step;
}

attn_status attn_tape_precision(attn_tape *tape, attn_dtype dtype) {
    if (dtype != ATTN_F32 && dtype != ATTN_BF16)
        return attn_fail(tape->ctx, ATTN_E_ARGUMENT, "the precision of a tape is %s, expected F32 or BF16",
                         attn_dtype_name(dtype));
    if (tape->position)
        return attn_fail(tape->ctx, ATTN_E_ARGUMENT,
                         "the precision of a tape is set before its first operation, or after a reset");
    tape->panels = dtype == ATTN_BF16 ? ATTN_PANEL_PAIRS : ATTN_PANEL_F32;
    return ATTN_OK;
}

attn_status attn_tape_status(const attn_tape *tape) {
    if (!tape) return ATTN_E_ARGUMENT;
    return tape->status == ATTN_OK ? ATTN_OK : attn_fail(tape->ctx, tape->status, "%s", tape->text);
}

attn_var *attn_tape_fail(attn_tape *tape, attn_status status, const char *format, ...) {
    if (!tape || tape->status != ATTN_OK || status == ATTN_OK) return NULL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(tape->text, sizeof tape->text, format, arguments);
    va_end(arguments);
    tape->status = attn_fail(tape->ctx, status, "%s", tape->text);
    return NULL;
}

bool attn_tape_check(attn_tape *tape, attn_status status) {
    if (status == ATTN_OK) return true;
    if (tape->status == ATTN_OK) {
        snprintf(tape->text, sizeof tape->text, "%s", attn_error(tape->ctx));
        tape->status = status;
    }
    return false;
}

bool attn_tape_begin(attn_tape *tape) {
    if (!tape || tape->status != ATTN_OK) return false;
    tape->position++;
    return true;
}

bool attn_tape_use(attn_tape *tape, const char *operation, const char *name, attn_var *var) {
    if (!var) attn_tape_fail(tape, ATTN_E_ARGUMENT, "%s: %s is NULL, expected a variable", operation, name);
    else if (var->tape != tape)
        attn_tape_fail(tape, ATTN_E_ARGUMENT, "%s: %s is a variable of another tape", operation, name);
    else if (var->spent)
        attn_tape_fail(tape, ATTN_E_ARGUMENT, "%s: %s was given to a cross entropy, which replaced it by its gradient",
                       operation, name);
    else {
        var->readers++;
        return true;
    }
    return false;
}

/* ---- memory and variables ------------------------------------------------------------------- */

void *attn_tape_memory(attn_tape *tape, size_t count, size_t size) {
    void *memory = attn_arena_alloc(&tape->arena, count, size);
    if (!memory) attn_tape_check(tape, ATTN_E_NOMEM);
    return memory;
}

void *attn_tape_copy(attn_tape *tape, const void *data, size_t count, size_t size) {
    void *copy = attn_tape_memory(tape, count, size);
    if (copy && count) memcpy(copy, data, count * size);
    return copy;
}

attn_var *attn_tape_var_of(attn_tape *tape, const attn_tensor *value, bool needs_grad) {
    attn_var *var = attn_tape_memory(tape, 1, sizeof *var);
    if (!var) return NULL;
    *var = (attn_var){.tape = tape, .value = *value, .grad = *value, .needs_grad = needs_grad && tape->record};
    var->grad.data = NULL;
    return var;
}

attn_var *attn_tape_keep_alone(attn_tape *tape, attn_var *x, attn_arena_mark mark, float *kept) {
    if (!x || tape->record) return x;
    attn_tensor value = x->value;
    attn_copy_floats(tape->ctx, kept, x->value.data, attn_tensor_count(&x->value));
    attn_arena_rewind(&tape->arena, mark);
    value.data = kept;
    return attn_tape_var_of(tape, &value, false);
}

attn_var *attn_tape_var(attn_tape *tape, int rank, const size_t *shape, bool needs_grad) {
    size_t n = 1;
    if (rank < 0 || rank > ATTN_MAX_RANK)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "a variable of rank %d, expected 0 … %d", rank, ATTN_MAX_RANK);
    for (int i = 0; i < rank; i++)
        if (!attn_size_mul(&n, n, shape[i]))
            return attn_tape_fail(tape, ATTN_E_NOMEM, "a variable has more elements than memory can hold");
    float *data = attn_tape_memory(tape, n, sizeof *data);
    if (!data) return NULL;
    attn_tensor value = attn_tensor_of(data, ATTN_F32, rank, shape);
    return attn_tape_var_of(tape, &value, needs_grad);
}

attn_var *attn_tape_var_like(attn_tape *tape, const attn_tensor *t, size_t last, bool needs_grad) {
    size_t shape[ATTN_MAX_RANK];
    memcpy(shape, t->shape, sizeof shape);
    shape[ATTN_MAX(t->rank, 1) - 1] = last;
    return attn_tape_var(tape, ATTN_MAX(t->rank, 1), shape, needs_grad);
}

void *attn_tape_push(attn_tape *tape, attn_operation operation, attn_var *out, size_t bytes) {
    attn_node *node = attn_tape_memory(tape, 1, bytes);
    if (!node) return NULL;
    memset(node, 0, bytes);
    *node = (attn_node){tape->last, operation, out};
    tape->last = node;
    return node;
}

const attn_tensor *attn_var_value(const attn_var *var) { return var ? &var->value : NULL; }
const attn_tensor *attn_var_grad(const attn_var *var) { return var ? &var->grad : NULL; }

attn_var *attn_tape_input(attn_tape *tape, const attn_tensor *tensor, bool needs_grad) {
    if (!attn_tape_begin(tape)) return NULL;
    if (!tensor || tensor->dtype != ATTN_F32 || !attn_tensor_is_contiguous(tensor))
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "input: %s, expected a contiguous F32 tensor",
                              !tensor                     ? "the tensor is NULL"
                              : tensor->dtype != ATTN_F32 ? attn_dtype_name(tensor->dtype)
                                                          : "the tensor is not contiguous");
    attn_var *var = attn_tape_var_of(tape, tensor, needs_grad);
    if (var && var->needs_grad && !attn_tape_push(tape, ATTN_OPERATION_input, var, sizeof(attn_node))) return NULL;
    return var;
}

attn_status attn_backward_input(attn_tape *tape, attn_node *node) {
    (void)tape, (void)node;
    return ATTN_OK;
}

attn_var *attn_tape_zeros(attn_tape *tape, int rank, const size_t *shape) {
    if (!attn_tape_begin(tape)) return NULL;
    attn_var *var = attn_tape_var(tape, rank, shape, false);
    if (var) attn_fill_zero(tape->ctx, var->value.data, attn_tensor_count(&var->value));
    return var;
}

attn_var *attn_tape_parameter(attn_tape *tape, attn_parameter *parameter) {
    if (!attn_tape_begin(tape)) return NULL;
    if (!parameter) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "parameter: it is NULL");
    if (!attn_tape_check(tape, attn_parameter_needs_floats(parameter, "a variable"))) return NULL;
    attn_var *var = attn_tape_var_of(tape, &parameter->value, !parameter->frozen);
    if (!var || !var->needs_grad) return var;
    var->parameter = parameter;
    return attn_tape_push(tape, ATTN_OPERATION_input, var, sizeof(attn_node)) ? var : NULL;
}

/* ---- gradients of variables ----------------------------------------------------------------- */

enum { LEAST_SPARE = 4096 };

/* The smallest piece that is enough, or a part of it. */
float *attn_grad_memory(attn_tape *tape, size_t n) {
    size_t best = tape->spares, bytes;
    if (!attn_size_mul(&bytes, n, sizeof(float)) || bytes < LEAST_SPARE)
        return attn_tape_memory(tape, n, sizeof(float));
    for (size_t i = 0; i < tape->spares; i++)
        if (tape->spare[i].bytes >= bytes && (best == tape->spares || tape->spare[i].bytes < tape->spare[best].bytes))
            best = i;
    if (best == tape->spares) return attn_tape_memory(tape, n, sizeof(float));
    attn_spare *piece = &tape->spare[best];
    float *memory = piece->memory;
    const size_t taken = ATTN_MIN((bytes + LEAST_SPARE - 1) / LEAST_SPARE * LEAST_SPARE, piece->bytes);
    piece->memory = (char *)piece->memory + taken;
    piece->bytes -= taken;
    if (piece->bytes < LEAST_SPARE) *piece = tape->spare[--tape->spares];
    return memory;
}

void attn_grad_release(attn_tape *tape, void *memory, size_t n) {
    const size_t bytes = n * sizeof(float);
    if (bytes < LEAST_SPARE) return;
    if (tape->spares < ATTN_COUNT(tape->spare)) {
        tape->spare[tape->spares++] = (attn_spare){memory, bytes};
        return;
    }
    attn_spare *least = &tape->spare[0];
    for (size_t i = 1; i < tape->spares; i++)
        if (tape->spare[i].bytes < least->bytes) least = &tape->spare[i];
    if (least->bytes < bytes) *least = (attn_spare){memory, bytes};
}

float *attn_grad_begin(attn_tape *tape, attn_var *var, bool *accumulate) {
    if (var->parent) {
        *accumulate = true;
        float *whole = attn_grad_zeroed(tape, var->parent);
        var->grad.data = whole ? whole + var->offset : NULL;
    } else if (var->parameter) {
        *accumulate = true;
        var->grad.data = attn_parameter_grad(var->parameter);
    } else {
        *accumulate = var->grad_written;
        if (!var->grad.data) var->grad.data = attn_grad_memory(tape, attn_tensor_count(&var->grad));
    }
    var->grad_written = var->grad.data != NULL;
    return var->grad.data;
}

float *attn_grad_zeroed(attn_tape *tape, attn_var *var) {
    bool accumulate;
    float *grad = attn_grad_begin(tape, var, &accumulate);
    if (grad && !accumulate) attn_fill_zero(tape->ctx, grad, attn_tensor_count(&var->grad));
    return grad;
}

float *attn_grad_shadow(attn_tape *tape, attn_var *var, int index) {
    float **shadow = &var->shadow[index];
    if (*shadow) return *shadow;
    size_t n = attn_tensor_count(&var->grad);
    *shadow = attn_tape_memory(tape, n, sizeof(float));
    if (*shadow) attn_fill_zero(tape->ctx, *shadow, n);
    return *shadow;
}

attn_status attn_grad_pass(attn_tape *tape, attn_var *var, float *grad) {
    if (!var->parent && !var->parameter && !var->grad_written) {
        var->grad.data = grad;
        var->grad_written = tape->handed = true;
        return ATTN_OK;
    }
    bool accumulate;
    float *sum = attn_grad_begin(tape, var, &accumulate);
    return sum ? attn_add_floats(tape->ctx, sum, grad, attn_tensor_count(&var->grad)) : ATTN_E_NOMEM;
}

attn_status attn_grad_add(attn_tape *tape, attn_var *var, const float *grad) {
    bool accumulate;
    size_t n = attn_tensor_count(&var->grad);
    float *sum = attn_grad_begin(tape, var, &accumulate);
    if (!sum) return ATTN_E_NOMEM;
    if (accumulate) return attn_add_floats(tape->ctx, sum, grad, n);
    attn_copy_floats(tape->ctx, sum, grad, n);
    return ATTN_OK;
}

/* ---- backward ------------------------------------------------------------------------------- */

/* The memory of the gradient of a node that was visited is the tape's again, unless the node handed it on (I3); what an
 * input got is for the caller. */
static void release_gradient(attn_tape *tape, const attn_node *node) {
    const attn_var *out = node->out;
    if (tape->handed || out->parent || out->parameter || node->operation == ATTN_OPERATION_input) return;
    attn_grad_release(tape, out->grad.data, attn_tensor_count(&out->grad));
}

attn_status attn_tape_visit(attn_tape *tape) {
    for (attn_node *node = tape->last; node; node = node->previous) {
        attn_var *out = node->out;
        for (int i = 0; i < 2; i++)
            if (out->shadow[i] && !attn_tape_check(tape, attn_grad_pass(tape, out, out->shadow[i])))
                return tape->status;
        if (!out->grad_written) continue;
        tape->handed = false;
        if (!attn_tape_check(tape, operations[node->operation].backward(tape, node))) return tape->status;
        release_gradient(tape, node);
    }
    attn_tape_check(tape, attn_tape_gathered(tape));
    return tape->status;
}

void attn_tape_replaces_grad(attn_tape *tape, attn_parameters *set) {
    if (tape) tape->replaces = set;
}

attn_status attn_tape_backward(attn_tape *tape, attn_var *loss) {
    ATTN_TRY(attn_tape_status(tape));
    if (!loss || loss->tape != tape || attn_tensor_count(&loss->value) != 1)
        attn_tape_fail(tape, ATTN_E_ARGUMENT, "backward: the loss is not a variable of this tape with one element");
    else if (!tape->record) attn_tape_fail(tape, ATTN_E_ARGUMENT, "backward: the tape was made without recording");
    else if (tape->done)
        attn_tape_fail(tape, ATTN_E_ARGUMENT, "backward: it was run before, the tape must be reset first");
    else if (!loss->needs_grad)
        attn_tape_fail(tape, ATTN_E_ARGUMENT, "backward: the loss depends on nothing that needs a gradient");
    ATTN_TRY(tape->status);
    tape->done = true;

    bool accumulate;
    float *one = attn_grad_begin(tape, loss, &accumulate);
    if (!one) return attn_tape_check(tape, ATTN_E_NOMEM), tape->status;
    *one = accumulate ? *one + 1 : 1;
    attn_parameters *set = tape->replaces;
    tape->replaces = NULL;
    if (set) attn_parameters_replace_grad(set);
    attn_tape_visit(tape);
    if (set) attn_parameters_replaced_grad(set);
    return tape->status;
}
