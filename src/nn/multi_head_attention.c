/* multi_head_attention.c: self-attention, causal attention, multi-head attention: linears around one operation.
 *
 * W_query, W_key and W_value stay three parameters, as checkpoints name them and as groups of heads need them. One
 * stacked matrix would not be faster: 16.4 ms forward and 35.6 ms backward for 1024 rows of 768 against 16.5 and 35.2,
 * since each product fills the threads by itself and backward packs the rows that all three read once. */
#include "nn/tape.h"

#include <stdio.h>
#include <string.h>

attn_var *attn_tape_simplified_attention(attn_tape *tape, attn_var *x, attn_var **lse) {
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.scale = 1;
    return attn_tape_attention(tape, &(attn_attention_inputs){.q = x, .k = x, .v = x, .heads = 1}, &options, lse);
}

/* ---- parameters ------------------------------------------------------------------------------------- */

typedef struct linear_place {
    const char *name;
    attn_parameter **weight, **bias; /* bias NULL: none */
    size_t rows, columns;
} linear_place;

static attn_status add_linear(attn_parameters *set, attn_context *ctx, const char *prefix, const linear_place *place,
                              attn_init init, float scale) {
    char name[256];
    if (snprintf(name, sizeof name, "%s%s.weight", prefix, place->name) >= (int)sizeof name)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "multi-head attention: the prefix has %zu bytes, expected at most %zu",
                         strlen(prefix), sizeof name - sizeof "out_proj.weight");
    ATTN_TRY(
        attn_parameters_add(set, place->weight, name, init, scale, 2, (const size_t[]){place->rows, place->columns}));
    if (!place->bias) return ATTN_OK;
    snprintf(name, sizeof name, "%s%s.bias", prefix, place->name);
    return attn_parameters_add(set, place->bias, name, ATTN_INIT_ZERO, 0, 1, &place->rows);
}

static attn_status check_options(attn_context *ctx, const attn_multi_head_attention_options *o) {
    static const char where[] = "multi-head attention";
    if (o->struct_size != sizeof *o)
        return attn_fail(ctx, ATTN_E_VERSION, "%s: options.struct_size is %zu, expected %zu", where, o->struct_size,
                         sizeof *o);
    if (o->d_in == 0 || o->d_out == 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: d_in is %zu and d_out %zu, expected at least 1", where, o->d_in,
                         o->d_out);
    if (o->heads == 0 || o->d_out % o->heads)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: d_out is %zu, expected a multiple of the %zu heads", where,
                         o->d_out, o->heads);
    if (o->key_heads && o->heads % o->key_heads)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %zu heads, expected a multiple of the %zu key heads", where,
                         o->heads, o->key_heads);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: dropout is %g, expected 0 ≤ p < 1", where, (double)o->dropout);
    if ((unsigned)o->causal > ATTN_CAUSAL_OFFSET)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: causal is %d, expected 0 to %d", where, (int)o->causal,
                         (int)ATTN_CAUSAL_OFFSET);
    return ATTN_OK;
}

static attn_status create(attn_multi_head_attention *layer, attn_parameters *set, const char *prefix,
                          const attn_multi_head_attention_options *o, bool projects) {
    attn_context *ctx = attn_parameters_context(set);
    ATTN_TRY(check_options(ctx, o));
    const size_t key_heads = o->key_heads ? o->key_heads : o->heads, key_columns = o->d_out / o->heads * key_heads;
    const size_t d_context = o->d_context ? o->d_context : o->d_in;
    attn_multi_head_attention made = {.heads = o->heads,
                                      .key_heads = key_heads,
                                      .context_length = o->context_length,
                                      .causal = o->causal,
                                      .dropout = o->dropout};
    const bool bias = o->qkv_bias;
    const linear_place places[] = {
        {"W_query", &made.w_query, bias ? &made.b_query : NULL, o->d_out, o->d_in},
        {"W_key", &made.w_key, bias ? &made.b_key : NULL, key_columns, d_context},
        {"W_value", &made.w_value, bias ? &made.b_value : NULL, key_columns, d_context},
        {"out_proj", &made.w_out, o->out_bias ? &made.b_out : NULL, o->d_out, o->d_out},
    };
    for (size_t i = 0; i < ATTN_COUNT(places) - !projects; i++)
        ATTN_TRY(add_linear(set, ctx, prefix ? prefix : "", &places[i], o->init, o->init_scale));
    *layer = made;
    return ATTN_OK;
}

attn_status attn_multi_head_attention_create(attn_multi_head_attention *layer, attn_parameters *set, const char *prefix,
                                             const attn_multi_head_attention_options *options) {
    return create(layer, set, prefix, options, true);
}

attn_status attn_self_attention_create(attn_multi_head_attention *layer, attn_parameters *set, const char *prefix,
                                       size_t d_in, size_t d_out, bool qkv_bias) {
    attn_multi_head_attention_options options = ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    options.d_in = d_in, options.d_out = d_out, options.qkv_bias = qkv_bias;
    return create(layer, set, prefix, &options, false);
}

attn_status attn_causal_attention_create(attn_multi_head_attention *layer, attn_parameters *set, const char *prefix,
                                         size_t d_in, size_t d_out, size_t context_length, float dropout,
                                         bool qkv_bias) {
    attn_multi_head_attention_options options = ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    options.d_in = d_in, options.d_out = d_out, options.qkv_bias = qkv_bias;
    options.context_length = context_length, options.dropout = dropout, options.causal = ATTN_CAUSAL_TOP_LEFT;
    return create(layer, set, prefix, &options, false);
}

/* ---- on the tape ------------------------------------------------------------------------------------ */

static bool length_fits(attn_tape *tape, const attn_multi_head_attention *layer, const char *name, const attn_var *var,
                        const int32_t *cu, size_t sequences) {
    const attn_tensor *t = &var->value;
    size_t longest = t->rank == 3 ? t->shape[1] : 0;
    for (size_t i = 0; cu && i < sequences; i++)
        if (cu[i + 1] > cu[i]) longest = ATTN_MAX(longest, (size_t)(cu[i + 1] - cu[i]));
    if (layer->context_length == 0 || longest <= layer->context_length) return true;
    return attn_tape_fail(tape, ATTN_E_SHAPE, "multi-head attention: %s has %zu steps, the context length is %zu", name,
                          longest, layer->context_length),
           false;
}

attn_keys_values attn_tape_keys_values(attn_tape *tape, const attn_multi_head_attention *layer, attn_var *context) {
    attn_keys_values made = {NULL, NULL};
    made.k = attn_tape_linear(tape, context, layer->w_key, layer->b_key, NULL, ATTN_IDENTITY);
    made.v = attn_tape_linear(tape, context, layer->w_value, layer->b_value, NULL, ATTN_IDENTITY);
    return made;
}

attn_var *attn_tape_multi_head_attention(attn_tape *tape, const attn_multi_head_attention *layer, attn_var *x,
                                         const attn_keys_values *context, const attn_attention_options *options,
                                         attn_var *residual, attn_var **lse) {
    attn_attention_options all = ATTN_ATTENTION_OPTIONS_INIT;
    if (lse) *lse = NULL;
    if (options) all = *options;
    if (all.dropout != 0)
        return attn_tape_fail(tape, ATTN_E_ARGUMENT,
                              "multi-head attention: dropout is %g in the options, expected 0: it is the layer's",
                              (double)all.dropout);
    if (residual && !layer->w_out)
        return attn_tape_fail(tape, ATTN_E_ARGUMENT,
                              "multi-head attention: a residual is given, but there is no output projection");
    all.dropout = layer->dropout;
    if (all.causal == ATTN_CAUSAL_NONE) all.causal = layer->causal;
    attn_var *q = attn_tape_linear(tape, x, layer->w_query, layer->b_query, NULL, ATTN_IDENTITY);
    attn_keys_values own = context ? *context : attn_tape_keys_values(tape, layer, x);
    if (!q || !own.k || !own.v) return attn_tape_fail(tape, ATTN_E_ARGUMENT, "multi-head attention: no keys or values");
    if (!length_fits(tape, layer, "x", q, all.cu_q, all.sequences) ||
        !length_fits(tape, layer, "the context", own.k, all.cu_k, all.sequences))
        return NULL;
    const attn_attention_inputs inputs = {
        .q = q, .k = own.k, .v = own.v, .heads = layer->heads, .key_heads = layer->key_heads};
    attn_var *z = attn_tape_attention(tape, &inputs, &all, lse);
    return layer->w_out ? attn_tape_linear(tape, z, layer->w_out, layer->b_out, residual, ATTN_IDENTITY) : z;
}
