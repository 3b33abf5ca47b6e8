/* attention.c: scaled dot-product attention on the tape: heads are seen in the columns that linears give.
 *
 * Kept for backward: q, k, v and the output, which the tape has anyway, LSE (B, H, T), and the options. Never T×S. */
#include "nn/tape.h"

#include <string.h>

typedef struct attention_node {
    attn_node node;
    attn_attention_inputs in;
    attn_attention_options options; /* with copies behind its pointers */
    attn_tensor lse;
} attention_node;

/* ---- heads in columns ------------------------------------------------------------------------------- */

/* (B, T, H·D) as (B, H, T, D); packed (ΣT, H·D) as (H, ΣT, D). */
static attn_tensor heads_of(const attn_tensor *t, void *data, size_t heads) {
    const size_t rows = t->shape[t->rank - 2], columns = t->shape[t->rank - 1], size = columns / heads;
    const ptrdiff_t row = (ptrdiff_t)columns;
    if (t->rank == 2) return (attn_tensor){data, ATTN_F32, 3, {heads, rows, size}, {(ptrdiff_t)size, row, 1}};
    return (attn_tensor){
        data, ATTN_F32, 4, {t->shape[0], heads, rows, size}, {(ptrdiff_t)rows * row, (ptrdiff_t)size, row, 1}};
}

static bool columns_fit(attn_tape *tape, const char *name, const attn_var *var, int rank, size_t heads) {
    const attn_tensor *t = &var->value;
    if (t->rank != rank)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "attention: %s has rank %d, expected %d (%s)", name, t->rank, rank,
                              rank == 2 ? "packed: rows, heads · head size" : "batch, steps, heads · head size"),
               false;
    const size_t columns = t->shape[rank - 1];
    if (heads == 0 || columns % heads)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "attention: %s has %zu columns, expected a multiple of its %zu heads",
                              name, columns, heads),
               false;
    return true;
}

/* ---- options that live as long as the tape ---------------------------------------------------------- */

/* `place` is that of a pointer of any type. */
static bool keep_array(attn_tape *tape, void *place, size_t count, size_t size) {
    void *array;
    memcpy(&array, place, sizeof array);
    if (array && !(array = attn_tape_copy(tape, array, count, size))) return false;
    memcpy(place, &array, sizeof array);
    return true;
}

static bool keep_tensor(attn_tape *tape, const attn_tensor **tensor) {
    return !*tensor || (*tensor = attn_tape_copy(tape, *tensor, 1, sizeof **tensor));
}

static bool keep_options(attn_tape *tape, attn_attention_options *o, size_t sequences, size_t heads) {
    return keep_array(tape, &o->query_offset, sequences, sizeof *o->query_offset) &&
           keep_array(tape, &o->q_lengths, sequences, sizeof *o->q_lengths) &&
           keep_array(tape, &o->kv_lengths, sequences, sizeof *o->kv_lengths) &&
           keep_array(tape, &o->cu_q, sequences + 1, sizeof *o->cu_q) &&
           keep_array(tape, &o->cu_k, sequences + 1, sizeof *o->cu_k) &&
           keep_array(tape, &o->prefix, sequences, sizeof *o->prefix) &&
           keep_array(tape, &o->sequence_ids, sequences, sizeof *o->sequence_ids) &&
           keep_array(tape, &o->alibi, heads, sizeof *o->alibi) &&
           keep_array(tape, &o->sinks, heads, sizeof *o->sinks) && keep_tensor(tape, &o->segments_q) &&
           keep_tensor(tape, &o->segments_k) && keep_tensor(tape, &o->mask) && keep_tensor(tape, &o->tree) &&
           keep_tensor(tape, &o->bias);
}

/* Bias and sinks that are variables take the place of the options' constants. */
static bool use_variables(attn_tape *tape, const attn_attention_inputs *in, attn_attention_options *o) {
    if ((in->bias && o->bias) || (in->sinks && o->sinks))
        return attn_tape_fail(tape, ATTN_E_ARGUMENT, "attention: %s is given as a variable and in the options",
                              in->bias && o->bias ? "bias" : "sinks"),
               false;
    if (in->bias) {
        if (!attn_tape_use(tape, "attention", "bias", in->bias)) return false;
        o->bias = &in->bias->value;
    }
    if (!in->sinks) return true;
    if (!attn_tape_use(tape, "attention", "sinks", in->sinks)) return false;
    const attn_tensor *sinks = &in->sinks->value;
    if (sinks->rank != 1 || sinks->shape[0] != in->heads)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "attention: sinks has %zu elements of rank %d, expected (%zu)",
                              attn_tensor_count(sinks), sinks->rank, in->heads),
               false;
    o->sinks = sinks->data;
    return true;
}

/* Workspace is the tape's: what one call used, the next one uses again. */
static bool take_workspace(attn_tape *tape, attn_attention_options *o, size_t bytes) {
    o->workspace = attn_tape_memory(tape, bytes, 1);
    o->workspace_bytes = bytes;
    return o->workspace != NULL;
}

/* ---- forward ---------------------------------------------------------------------------------------- */

static attn_var *lse_var(attn_tape *tape, const attn_attention_inputs *in) {
    const attn_tensor *q = &in->q->value;
    if (q->rank == 2) return attn_tape_var(tape, 2, (const size_t[]){in->heads, q->shape[0]}, false);
    return attn_tape_var(tape, 3, (const size_t[]){q->shape[0], in->heads, q->shape[1]}, false);
}

static bool inputs_fit(attn_tape *tape, attn_attention_inputs *in, bool packed) {
    if (!attn_tape_use(tape, "attention", "q", in->q) || !attn_tape_use(tape, "attention", "k", in->k) ||
        !attn_tape_use(tape, "attention", "v", in->v))
        return false;
    if (in->key_heads == 0) in->key_heads = in->heads;
    const int rank = packed ? 2 : 3;
    return columns_fit(tape, "q", in->q, rank, in->heads) && columns_fit(tape, "k", in->k, rank, in->key_heads) &&
           columns_fit(tape, "v", in->v, rank, in->key_heads);
}

static bool forward(attn_tape *tape, const attention_node *own, attn_var *y, attn_var *lse) {
    const attn_attention_inputs *in = &own->in;
    attn_attention_options options = own->options;
    attn_tensor q = heads_of(&in->q->value, in->q->value.data, in->heads);
    attn_tensor k = heads_of(&in->k->value, in->k->value.data, in->key_heads);
    attn_tensor v = heads_of(&in->v->value, in->v->value.data, in->key_heads);
    attn_tensor out = heads_of(&y->value, y->value.data, in->heads);
    attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    size_t bytes;
    const bool done =
        attn_tape_check(tape, attn_attention_workspace(tape->ctx, &bytes, NULL, &q, &k, &v, &options)) &&
        take_workspace(tape, &options, bytes) &&
        attn_tape_check(tape, attn_attention_fwd(tape->ctx, &out, lse ? &lse->value : NULL, &q, &k, &v, &options));
    attn_arena_rewind(&tape->arena, mark);
    return done;
}

attn_var *attn_tape_attention(attn_tape *tape, const attn_attention_inputs *inputs,
                              const attn_attention_options *options, attn_var **lse) {
    static const attn_attention_options defaults = ATTN_ATTENTION_OPTIONS_INIT;
    if (lse) *lse = NULL;
    if (!attn_tape_begin(tape)) return NULL;
    if (!inputs) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "attention: the inputs are NULL");
    attention_node own = {.in = *inputs, .options = options ? *options : defaults};
    attn_attention_options *o = &own.options;
    if (o->struct_size != sizeof *o)
        return attn_tape_fail(tape, ATTN_E_VERSION, "attention: options.struct_size is %zu, expected %zu",
                              o->struct_size, sizeof *o);
    const bool packed = o->cu_q || o->cu_k;
    if (!inputs_fit(tape, &own.in, packed) || !use_variables(tape, &own.in, o)) return NULL;
    const attn_attention_inputs *in = &own.in;
    if (!tape->record) o->dropout = 0;
    o->seed = attn_tape_dropout_seed(tape), o->offset = tape->position;
    const size_t sequences = packed ? o->sequences : in->q->value.shape[0];
    const bool needs_grad = in->q->needs_grad || in->k->needs_grad || in->v->needs_grad ||
                            (in->bias && in->bias->needs_grad) || (in->sinks && in->sinks->needs_grad);
    const size_t columns = in->v->value.shape[in->v->value.rank - 1] / in->key_heads * in->heads;
    attn_var *y = attn_tape_var_like(tape, &in->q->value, columns, needs_grad), *sums = NULL;
    if (!y || ((y->needs_grad || lse) && !(sums = lse_var(tape, in)))) return NULL;
    if (y->needs_grad && !keep_options(tape, o, sequences, in->heads)) return NULL;
    if (!forward(tape, &own, y, sums)) return NULL;
    if (y->needs_grad) {
        attention_node *node = attn_tape_push(tape, ATTN_OPERATION_attention, y, sizeof *node);
        if (!node) return NULL;
        own.node = node->node;
        own.lse = sums->value;
        *node = own;
    }
    if (lse) *lse = sums;
    return y;
}

/* ---- backward --------------------------------------------------------------------------------------- */

enum { Q, K, V, BIAS, SINKS, INPUTS };

/* Where each input's gradient goes; whether all are to be added to. The operator has one flag for all its outputs:
 * unless none has been written, those that have not start from zeros. */
static attn_status gradients_of(attn_tape *tape, attn_var *const var[INPUTS], float *grad[INPUTS], bool *accumulate) {
    bool again[INPUTS] = {false}, some = false;
    for (int i = 0; i < INPUTS; i++) {
        if (!var[i] || !var[i]->needs_grad) continue;
        /* The operator's outputs may not overlap: of several in one variable all but the first go beside it. */
        for (int j = 0; j < i; j++) again[i] |= i < BIAS && attn_var_root(var[j]) == attn_var_root(var[i]);
        some |= again[i] || var[i]->parent || var[i]->parameter || var[i]->grad_written;
    }
    *accumulate = some;
    for (int i = 0; i < INPUTS; i++) {
        if (!var[i] || !var[i]->needs_grad) continue;
        bool ignored;
        grad[i] = again[i] ? attn_grad_shadow(tape, var[i], i - K)
                  : some   ? attn_grad_zeroed(tape, var[i])
                           : attn_grad_begin(tape, var[i], &ignored);
        if (!grad[i]) return ATTN_E_NOMEM;
    }
    return ATTN_OK;
}

attn_status attn_backward_attention(attn_tape *tape, attn_node *node) {
    const attention_node *own = (const attention_node *)node;
    const attn_attention_inputs *in = &own->in;
    attn_var *const var[INPUTS] = {in->q, in->k, in->v, in->bias, in->sinks};
    float *grad[INPUTS] = {NULL};
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    ATTN_TRY(gradients_of(tape, var, grad, &grads.accumulate));

    attn_tensor value[SINKS], wanted[INPUTS];
    const attn_tensor **const place[INPUTS] = {&grads.dq, &grads.dk, &grads.dv, &grads.dbias, &grads.dsinks};
    for (int i = 0; i < INPUTS; i++) {
        const size_t heads = i == Q ? in->heads : in->key_heads;
        if (i < BIAS) value[i] = heads_of(&var[i]->value, var[i]->value.data, heads);
        if (!grad[i]) continue;
        wanted[i] = i < BIAS ? heads_of(&var[i]->value, grad[i], heads) : var[i]->value;
        wanted[i].data = grad[i];
        *place[i] = &wanted[i];
    }
    const attn_var *y = node->out;
    const attn_tensor out = heads_of(&y->value, y->value.data, in->heads),
                      dout = heads_of(&y->value, y->grad.data, in->heads);
    attn_attention_options options = own->options;
    attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    size_t bytes;
    ATTN_TRY(attn_attention_workspace(tape->ctx, NULL, &bytes, &value[Q], &value[K], &value[V], &options));
    if (!take_workspace(tape, &options, bytes)) return ATTN_E_NOMEM;
    attn_status status =
        attn_attention_bwd(tape->ctx, &grads, &dout, NULL, &value[Q], &value[K], &value[V], &out, &own->lse, &options);
    attn_arena_rewind(&tape->arena, mark);
    return status;
}
