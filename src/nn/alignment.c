/* alignment.c: additive and dot attention over the annotations of a sequence, for one decoder step or for all of them.
 */
#include "nn/tape.h"

typedef struct attention_node {
    attn_node node;
    attn_var *query, *key, *h;
    attn_parameter *v; /* additive; dot: NULL */
    const attn_tensor *alignment;
    float scale;
    int32_t *lengths;
} attention_node;

/* Time-major (B, C) or (T, B, C) as batch-major (B, T, C), the operators' order; only the strides change. */
static attn_tensor batch_major(const attn_tensor *t, void *data) {
    attn_tensor whole = *t;
    whole.data = data;
    if (t->rank == 3) return attn_tensor_swap(&whole, 0, 1);
    return attn_tensor_f32(data, 3, t->shape[0], (size_t)1, t->shape[1]);
}

static attn_status forward(attn_context *ctx, const attention_node *own, const attn_tensor *context,
                           const attn_tensor *alignment, const attn_tensor *energy) {
    attn_tensor query = batch_major(&own->query->value, own->query->value.data);
    attn_tensor key = batch_major(&own->key->value, own->key->value.data);
    attn_tensor h = batch_major(&own->h->value, own->h->value.data);
    if (own->v)
        return attn_additive_attention_fwd(ctx, context, NULL, alignment, energy, &query, &key, &own->v->value, &h,
                                           own->lengths);
    return attn_dot_attention_fwd(ctx, context, alignment, energy, &query, &key, &h, own->scale, own->lengths);
}

/* `own` holds what the two kinds differ in. */
static attn_var *attend(attn_tape *tape, attention_node *own, attn_operation operation, const char *name,
                        const int32_t *lengths, attn_var **alignment, attn_var **energy) {
    if (alignment) *alignment = NULL;
    if (energy) *energy = NULL;
    if (!attn_tape_begin(tape) || !attn_tape_use(tape, name, "the query", own->query) ||
        !attn_tape_use(tape, name, "the key", own->key) || !attn_tape_use(tape, name, "h", own->h))
        return NULL;
    const attn_tensor *query = &own->query->value, *key = &own->key->value, *h = &own->h->value;
    if ((query->rank != 2 && query->rank != 3) || key->rank != 3 || h->rank != 3)
        return attn_tape_fail(tape, ATTN_E_SHAPE, "%s: query, key and h have ranks %d, %d, %d, expected 2 or 3, 3, 3",
                              name, query->rank, key->rank, h->rank);
    size_t batch = query->shape[query->rank - 2];
    bool needs_grad = own->v || own->query->needs_grad || own->key->needs_grad || own->h->needs_grad;
    attn_var *c = attn_tape_var_like(tape, query, h->shape[2], needs_grad);
    if (!c) return NULL;
    if (lengths && !(own->lengths = attn_tape_copy(tape, lengths, batch, sizeof *lengths))) return NULL;
    attn_var *weights = NULL, *scores = NULL;
    if ((alignment || c->needs_grad) && !(weights = attn_tape_var_like(tape, query, key->shape[0], false))) return NULL;
    if (energy && !(scores = attn_tape_var_like(tape, query, key->shape[0], false))) return NULL;
    attn_tensor context = batch_major(&c->value, c->value.data);
    attn_tensor weight_tensor = weights ? batch_major(&weights->value, weights->value.data) : context;
    attn_tensor score_tensor = scores ? batch_major(&scores->value, scores->value.data) : context;
    attn_status status =
        forward(tape->ctx, own, &context, weights ? &weight_tensor : NULL, scores ? &score_tensor : NULL);
    if (!attn_tape_check(tape, status)) return NULL;
    if (c->needs_grad) {
        attention_node *node = attn_tape_push(tape, operation, c, sizeof *node);
        if (!node) return NULL;
        own->node = node->node;
        own->alignment = &weights->value;
        *node = *own;
    }
    if (alignment) *alignment = weights;
    if (energy) *energy = scores;
    return c;
}

/* The keys' and annotations' gradients gather over all steps of a decoder: they are cleared once and then added to, and
 * so, for the sake of one flag, is the query's. */
static attn_status attend_backward(attn_tape *tape, attn_node *node) {
    const attention_node *own = (const attention_node *)node;
    attn_var *vars[3] = {own->query, own->key, own->h};
    attn_tensor value[3], grad[3];
    const attn_tensor *wanted[3] = {NULL, NULL, NULL};
    for (int i = 0; i < 3; i++) {
        value[i] = batch_major(&vars[i]->value, vars[i]->value.data);
        if (!vars[i]->needs_grad) continue;
        /* The operator's outputs may not overlap: of several that lie in one variable all but the first go beside it.
         */
        bool again = (i > 0 && attn_var_root(vars[i]) == attn_var_root(vars[0])) ||
                     (i > 1 && attn_var_root(vars[i]) == attn_var_root(vars[1]));
        float *data = again ? attn_grad_shadow(tape, vars[i], i - 1) : attn_grad_zeroed(tape, vars[i]);
        if (!data) return ATTN_E_NOMEM;
        grad[i] = batch_major(&vars[i]->value, data);
        wanted[i] = &grad[i];
    }
    attn_var *c = node->out;
    attn_tensor dc = batch_major(&c->value, c->grad.data);
    attn_tensor alignment = batch_major(own->alignment, own->alignment->data);
    if (own->v) {
        if (!attn_parameter_grad(own->v)) return ATTN_E_NOMEM;
        return attn_additive_attention_bwd(tape->ctx, wanted[0], wanted[1], &own->v->grad, wanted[2], &dc, &value[0],
                                           &value[1], &own->v->value, &value[2], &alignment, own->lengths, true);
    }
    return attn_dot_attention_bwd(tape->ctx, wanted[0], wanted[1], wanted[2], &dc, &value[0], &value[1], &value[2],
                                  &alignment, own->scale, own->lengths, true);
}

attn_status attn_backward_additive_attention(attn_tape *tape, attn_node *node) { return attend_backward(tape, node); }
attn_status attn_backward_dot_attention(attn_tape *tape, attn_node *node) { return attend_backward(tape, node); }

attn_var *attn_tape_additive_attention(attn_tape *tape, attn_var *sq, attn_var *hk, attn_parameter *v, attn_var *h,
                                       const int32_t *lengths, attn_var **alignment, attn_var **energy) {
    attention_node own = {.query = sq, .key = hk, .h = h, .v = v};
    if (!v && tape) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "additive attention: v is NULL, expected a parameter");
    return attend(tape, &own, ATTN_OPERATION_additive_attention, "additive attention", lengths, alignment, energy);
}

attn_var *attn_tape_dot_attention(attn_tape *tape, attn_var *q, attn_var *k, attn_var *h, float scale,
                                  const int32_t *lengths, attn_var **alignment, attn_var **energy) {
    attention_node own = {.query = q, .key = k, .h = h, .scale = scale};
    return attend(tape, &own, ATTN_OPERATION_dot_attention, "dot attention", lengths, alignment, energy);
}
