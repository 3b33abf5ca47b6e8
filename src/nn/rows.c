/* rows.c: operations over the last dimension: softmax, norms, cross entropy. */
#include "nn/tape.h"

typedef struct rows_node {
    attn_node node;
    attn_var *x;
    attn_parameter *gain, *bias;
    float *mean, *rstd;
    float *dlogits; /* cross entropy */
} rows_node;

static rows_node *push(attn_tape *tape, attn_operation operation, attn_var *y, attn_var *x) {
    rows_node *node = attn_tape_push(tape, operation, y, sizeof *node);
    if (node) node->x = x;
    return node;
}

/* ---- softmax ---------------------------------------------------------------------------------- */

typedef attn_status forward_function(attn_context *ctx, const attn_tensor *y, const attn_tensor *x);
typedef attn_status backward_function(attn_context *ctx, const attn_tensor *dx, const attn_tensor *dy,
                                      const attn_tensor *y, bool accumulate);

static attn_var *softmax(attn_tape *tape, attn_var *x, attn_operation operation, const char *name,
                         forward_function *forward) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, name, "x", x)) return NULL;
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, x->needs_grad);
    if (!y) return NULL;
    attn_tensor out = attn_rows_of(&y->value, y->value.data), in = attn_rows_of(&x->value, x->value.data);
    if (!attn_tape_check(tape, forward(tape->ctx, &out, &in))) return NULL;
    return !y->needs_grad || push(tape, operation, y, x) ? y : NULL;
}

static attn_status softmax_backward(attn_tape *tape, attn_node *node, backward_function *backward) {
    attn_var *x = ((rows_node *)node)->x, *y = node->out;
    bool accumulate;
    float *sum = attn_grad_begin(tape, x, &accumulate);
    if (!sum) return ATTN_E_NOMEM;
    attn_tensor dx = attn_rows_of(&x->value, sum), dy = attn_rows_of(&y->value, y->grad.data);
    attn_tensor out = attn_rows_of(&y->value, y->value.data);
    return backward(tape->ctx, &dx, &dy, &out, accumulate);
}

attn_var *attn_tape_softmax(attn_tape *tape, attn_var *x) {
    return softmax(tape, x, ATTN_OPERATION_softmax, "softmax", attn_softmax_fwd);
}
attn_status attn_backward_softmax(attn_tape *tape, attn_node *node) {
    return softmax_backward(tape, node, attn_softmax_bwd);
}
attn_var *attn_tape_log_softmax(attn_tape *tape, attn_var *x) {
    return softmax(tape, x, ATTN_OPERATION_log_softmax, "log softmax", attn_log_softmax_fwd);
}
attn_status attn_backward_log_softmax(attn_tape *tape, attn_node *node) {
    return softmax_backward(tape, node, attn_log_softmax_bwd);
}

/* ---- norms ------------------------------------------------------------------------------------ */

attn_var *attn_tape_layer_norm(attn_tape *tape, attn_var *x, attn_parameter *gain, attn_parameter *bias,
                               float epsilon) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "layer norm", "x", x)) return NULL;
    if (!gain) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "layer norm: gain is NULL, expected a parameter");
    const bool learns = !gain->frozen || (bias && !bias->frozen);
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, learns || x->needs_grad);
    if (!y) return NULL;
    attn_tensor out = attn_rows_of(&y->value, y->value.data), in = attn_rows_of(&x->value, x->value.data);
    size_t rows = in.shape[0];
    attn_tensor mean = attn_tensor_f32(NULL, 1, rows), rstd = mean;
    if (y->needs_grad && (!(mean.data = attn_tape_memory(tape, rows, sizeof(float))) ||
                          !(rstd.data = attn_tape_memory(tape, rows, sizeof(float)))))
        return NULL;
    bool keep = y->needs_grad;
    attn_status status = attn_layer_norm_fwd(tape->ctx, &out, keep ? &mean : NULL, keep ? &rstd : NULL, &in,
                                             &gain->value, bias ? &bias->value : NULL, epsilon);
    if (!attn_tape_check(tape, status)) return NULL;
    if (!keep) return y;
    rows_node *node = push(tape, ATTN_OPERATION_layer_norm, y, x);
    if (!node) return NULL;
    node->gain = gain, node->bias = bias;
    node->mean = mean.data, node->rstd = rstd.data;
    return y;
}

attn_var *attn_tape_rms_norm(attn_tape *tape, attn_var *x, attn_parameter *gain, float epsilon) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "rms norm", "x", x)) return NULL;
    if (!gain) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "rms norm: gain is NULL, expected a parameter");
    attn_var *y = attn_tape_var(tape, x->value.rank, x->value.shape, !gain->frozen || x->needs_grad);
    if (!y) return NULL;
    attn_tensor out = attn_rows_of(&y->value, y->value.data), in = attn_rows_of(&x->value, x->value.data);
    attn_tensor rstd = attn_tensor_f32(NULL, 1, in.shape[0]);
    if (y->needs_grad && !(rstd.data = attn_tape_memory(tape, in.shape[0], sizeof(float)))) return NULL;
    attn_status status = attn_rms_norm_fwd(tape->ctx, &out, y->needs_grad ? &rstd : NULL, &in, &gain->value, epsilon);
    if (!attn_tape_check(tape, status)) return NULL;
    if (!y->needs_grad) return y;
    rows_node *node = push(tape, ATTN_OPERATION_rms_norm, y, x);
    if (!node) return NULL;
    node->gain = gain;
    node->rstd = rstd.data;
    return y;
}

/* One flag says whether the norm's backward adds, for x and the parameters alike, but x may be fresh where the
 * parameters never are. So the parameters' gradients go through small buffers that start from zero. */
static attn_status norm_backward(attn_tape *tape, attn_node *node) {
    const rows_node *own = (const rows_node *)node;
    attn_context *ctx = tape->ctx;
    attn_var *x = own->x;
    size_t rows = attn_rows_of(&x->value, NULL).shape[0], n = attn_tensor_count(&own->gain->value);
    bool accumulate = false;
    float *sum = x->needs_grad ? attn_grad_begin(tape, x, &accumulate) : NULL;
    const bool to_gain = !own->gain->frozen, to_bias = own->bias && !own->bias->frozen;
    float *gain_grad = to_gain ? attn_parameter_grad(own->gain) : NULL;
    float *bias_grad = to_bias ? attn_parameter_grad(own->bias) : NULL;
    if ((x->needs_grad && !sum) || (to_gain && !gain_grad) || (to_bias && !bias_grad)) return ATTN_E_NOMEM;

    attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
    float *work = attn_tape_memory(tape, n, 2 * sizeof *work);
    if (!work) return ATTN_E_NOMEM;
    attn_fill_zero(ctx, work, 2 * n);
    attn_tensor dgain = attn_tensor_f32(work, 1, n), dbias = attn_tensor_f32(work + n, 1, n);
    attn_tensor dx = attn_rows_of(&x->value, sum), in = attn_rows_of(&x->value, x->value.data);
    attn_tensor dy = attn_rows_of(&x->value, node->out->grad.data);
    attn_tensor mean = attn_tensor_f32(own->mean, 1, rows), rstd = attn_tensor_f32(own->rstd, 1, rows);
    if (own->mean)
        ATTN_TRY(attn_layer_norm_bwd(ctx, sum ? &dx : NULL, &dgain, own->bias ? &dbias : NULL, &dy, &in,
                                     &own->gain->value, &mean, &rstd, accumulate));
    else ATTN_TRY(attn_rms_norm_bwd(ctx, sum ? &dx : NULL, &dgain, &dy, &in, &own->gain->value, &rstd, accumulate));
    if (gain_grad) ATTN_TRY(attn_add_floats(ctx, gain_grad, work, n));
    if (bias_grad) ATTN_TRY(attn_add_floats(ctx, bias_grad, work + n, n));
    attn_arena_rewind(&tape->arena, mark);
    return ATTN_OK;
}

attn_status attn_backward_layer_norm(attn_tape *tape, attn_node *node) { return norm_backward(tape, node); }
attn_status attn_backward_rms_norm(attn_tape *tape, attn_node *node) { return norm_backward(tape, node); }

/* ---- cross entropy ---------------------------------------------------------------------------- */

/* The gradient of the logits is made in the same pass as the loss. Where nobody else needs the logits it replaces them:
 * they are the largest variable of a training step. */
attn_var *attn_tape_cross_entropy(attn_tape *tape, attn_var *logits, const int32_t *targets, float label_smoothing,
                                  float grad_scale, attn_loss_stats *stats) {
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, "cross entropy", "logits", logits)) return NULL;
    attn_var *loss = attn_tape_var(tape, 0, NULL, logits->needs_grad);
    if (!loss) return NULL;
    attn_tensor in = attn_rows_of(&logits->value, logits->value.data), dlogits = in;
    bool in_place = loss->needs_grad && logits->disposable && logits->readers == 1;
    if (loss->needs_grad && !in_place &&
        !(dlogits.data = attn_tape_memory(tape, attn_tensor_count(&in), sizeof(float))))
        return NULL;
    attn_loss_stats seen = {0, 0, 0, 0};
    attn_status status = attn_cross_entropy(tape->ctx, &seen, loss->needs_grad ? &dlogits : NULL, &in, targets,
                                            label_smoothing, grad_scale);
    if (!attn_tape_check(tape, status)) return NULL;
    logits->spent = in_place;
    *(float *)loss->value.data = (float)(seen.loss * grad_scale);
    if (stats) {
        stats->loss += seen.loss;
        stats->nll += seen.nll;
        stats->tokens += seen.tokens;
        stats->correct += seen.correct;
    }
    if (!loss->needs_grad) return loss;
    rows_node *node = push(tape, ATTN_OPERATION_cross_entropy, loss, logits);
    if (!node) return NULL;
    node->dlogits = dlogits.data;
    return loss;
}

attn_status attn_backward_cross_entropy(attn_tape *tape, attn_node *node) {
    const rows_node *own = (const rows_node *)node;
    size_t n = attn_tensor_count(&own->x->value);
    const float factor = *(const float *)node->out->grad.data;
    if (factor != 1) attn_scale_floats(tape->ctx, own->dlogits, own->dlogits, factor, n);
    return attn_grad_pass(tape, own->x, own->dlogits);
}
