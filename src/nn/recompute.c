/* recompute.c: parts of a forward pass that are not kept but run again in backward (Chen, Xu, Zhang & Guestrin 2016,
 * "Training Deep Nets with Sublinear Memory Cost").
 *
 * Forward: the part runs on stand-ins of its inputs, its result is copied out, and the memory of all that it made is
 * taken back. Backward: it runs again, with the same numbers of operations and so the same dropout masks, what it
 * records is differentiated at once, weights included, and the memory is taken back again. Every sum has the same terms
 * in the same order as without: the same bits, but for a weight of several parts whose rows, being few, are gathered
 * into one product without. */
#include "nn/tape.h"

#include <string.h>

enum { MAX_INPUTS = 4 };

typedef struct part_node {
    attn_node node;
    attn_tape_part *part;
    void *arg;
    size_t inputs;
    attn_var *input[MAX_INPUTS];
    uint64_t position; /* of the tape when the part began */
} part_node;

void attn_tape_recompute(attn_tape *tape, bool on) { tape->recompute = on; }

/* What stands for the inputs while the part runs: their values, gradients of their own. */
static bool stand_in(attn_tape *tape, attn_var **own, attn_var *const *input, size_t n) {
    for (size_t i = 0; i < n; i++) {
        own[i] = attn_tape_var_of(tape, &input[i]->value, input[i]->needs_grad);
        if (!own[i]) return false;
        if (own[i]->needs_grad && !attn_tape_push(tape, ATTN_OPERATION_input, own[i], sizeof(attn_node))) return false;
    }
    return true;
}

static attn_var *run_once(attn_tape *tape, attn_var *out, attn_tape_part *part, void *arg, attn_var *const *input,
                          size_t n) {
    attn_node *last = tape->last;
    const attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    attn_var *own[MAX_INPUTS], *y = stand_in(tape, own, input, n) ? part(tape, arg, own) : NULL;
    if (y) {
        const size_t elements = attn_tensor_count(&out->value);
        if (attn_tensor_count(&y->value) != elements)
            return attn_tape_fail(tape, ATTN_E_SHAPE, "recompute: a part gives %zu elements, expected the %zu of x[0]",
                                  attn_tensor_count(&y->value), elements);
        attn_copy_floats(tape->ctx, out->value.data, y->value.data, elements);
        out->needs_grad = y->needs_grad; /* nothing to learn: backward does not come here */
    }
    tape->last = last;
    attn_arena_rewind(&tape->arena, mark);
    return y ? out : NULL;
}

attn_var *attn_tape_run(attn_tape *tape, attn_tape_part *part, void *arg, attn_var *const *input, size_t n) {
    if (!tape || tape->status != ATTN_OK) return NULL;
    if (!tape->recompute || !tape->record) return part(tape, arg, input);
    if (n < 1 || n > MAX_INPUTS)
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "recompute: a part of %zu inputs, expected 1 to %d", n,
                              MAX_INPUTS);
    for (size_t i = 0; i < n; i++)
        if (!attn_tape_use(tape, "recompute", "an input", input[i])) return NULL;
    const uint64_t position = tape->position;
    attn_var *out = attn_tape_var(tape, input[0]->value.rank, input[0]->value.shape, true);
    part_node *node = out ? attn_tape_push(tape, ATTN_OPERATION_recompute, out, sizeof *node) : NULL;
    if (!node) return NULL;
    node->part = part;
    node->arg = arg;
    node->inputs = n;
    node->position = position;
    memcpy(node->input, input, n * sizeof *input);
    return run_once(tape, out, part, arg, input, n);
}

/* The gradients of the inputs go on where other readers left them, so that the order of the sums is that of a tape that
 * keeps everything; a first one is copied out. */
static attn_status differentiate(attn_tape *tape, const part_node *own) {
    attn_var *in[MAX_INPUTS];
    if (!stand_in(tape, in, own->input, own->inputs)) return tape->status;
    for (size_t i = 0; i < own->inputs; i++)
        if (own->input[i]->grad_written) in[i]->grad.data = own->input[i]->grad.data, in[i]->grad_written = true;
    attn_var *y = own->part(tape, own->arg, in);
    if (!y) return tape->status == ATTN_OK ? ATTN_E_NOMEM : tape->status;
    ATTN_TRY(attn_grad_pass(tape, y, own->node.out->grad.data));
    ATTN_TRY(attn_tape_visit(tape));
    for (size_t i = 0; i < own->inputs; i++)
        if (in[i]->grad_written && in[i]->grad.data != own->input[i]->grad.data)
            ATTN_TRY(attn_grad_add(tape, own->input[i], in[i]->grad.data));
    return ATTN_OK;
}

/* Memory for x's gradient that outlives the part. */
static bool make_room(attn_tape *tape, attn_var *x) {
    if (!x->needs_grad) return true;
    if (x->parent || x->parameter) return attn_grad_zeroed(tape, x) != NULL;
    if (!x->grad.data) x->grad.data = attn_grad_memory(tape, attn_tensor_count(&x->grad));
    return x->grad.data != NULL;
}

attn_status attn_backward_recompute(attn_tape *tape, attn_node *node) {
    const part_node *own = (const part_node *)node;
    for (size_t i = 0; i < own->inputs; i++)
        if (!make_room(tape, own->input[i])) return ATTN_E_NOMEM;
    const attn_tape before = *tape;
    const attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    tape->last = NULL;
    attn_tape_gather_begin(tape);
    tape->position = own->position;
    tape->recompute = false; /* a part within a part is kept */
    const attn_status status = differentiate(tape, own);
    tape->last = before.last;
    attn_tape_gather_begin(tape);
    tape->gathers = before.gathers;
    tape->gathers_end = before.gathers_end;
    tape->position = before.position;
    tape->recompute = before.recompute;
    memcpy(tape->spare, before.spare, sizeof tape->spare); /* what the part took is free again, what it left is gone */
    tape->spares = before.spares;
    tape->handed = false;
    attn_arena_rewind(&tape->arena, mark);
    return status;
}
