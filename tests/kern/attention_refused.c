/* Calls of the attention operator that cannot be: each is refused with a status and a sentence that names the argument
 * and what was found beside what was expected; nothing is written. */
#include "kern/guard.h"
#include "ref/attention.h"

#include <stdio.h>

enum { B = 2, H = 4, HK = 2, T = 5, S = 7, D = 8, DV = 6 };

/* A call with everything in it, which each test spoils in one place. */
struct call {
    attn_tensor q, k, v, out, lse, dout, dlse, dq, dk, dv, dbias, dsinks, bias, mask, segments_q, segments_k, tree;
    const attn_tensor *pq, *pk, *pv, *pout, *plse, *pdout, *pdlse; /* what is passed */
    attn_attention_options options;
    attn_attention_grads grads;
    const attn_attention_grads *pgrads;
    int32_t cu_q[B + 1], cu_k[B + 1], q_lengths[B], kv_lengths[B], prefix[B];
    int64_t query_offset[B];
    float alibi[H], sinks[H];
};

static attn_tensor tensor_of(attn_dtype dtype, int rank, size_t a, size_t b, size_t c, size_t d) {
    const size_t shape[4] = {a, b, c, d};
    attn_tensor t = attn_tensor_of(NULL, dtype, rank, shape);
    t.data = guard_bytes(attn_tensor_count(&t) * attn_dtype_size(dtype));
    memset(t.data, dtype == ATTN_U8 ? 1 : 0, attn_tensor_count(&t) * attn_dtype_size(dtype));
    return t;
}

static void call_make(struct call *c) {
    memset(c, 0, sizeof *c);
    c->q = tensor_of(ATTN_F32, 4, B, H, T, D), c->k = tensor_of(ATTN_F32, 4, B, HK, S, D);
    c->v = tensor_of(ATTN_F32, 4, B, HK, S, DV), c->out = tensor_of(ATTN_F32, 4, B, H, T, DV);
    c->lse = tensor_of(ATTN_F32, 3, B, H, T, 0), c->dout = tensor_of(ATTN_F32, 4, B, H, T, DV);
    c->dlse = tensor_of(ATTN_F32, 3, B, H, T, 0), c->dq = tensor_of(ATTN_F32, 4, B, H, T, D);
    c->dk = tensor_of(ATTN_F32, 4, B, HK, S, D), c->dv = tensor_of(ATTN_F32, 4, B, HK, S, DV);
    c->bias = tensor_of(ATTN_F32, 4, 1, H, T, S), c->dbias = tensor_of(ATTN_F32, 4, 1, H, T, S);
    c->dsinks = tensor_of(ATTN_F32, 1, H, 0, 0, 0), c->mask = tensor_of(ATTN_U8, 4, B, 1, T, S);
    c->segments_q = tensor_of(ATTN_I32, 2, B, T, 0, 0), c->segments_k = tensor_of(ATTN_I32, 2, B, S, 0, 0);
    c->tree = tensor_of(ATTN_U8, 3, B, T, 1, 0);
    c->options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    c->grads = (attn_attention_grads)ATTN_ATTENTION_GRADS_INIT;
    c->pq = &c->q, c->pk = &c->k, c->pv = &c->v, c->pout = &c->out, c->plse = &c->lse;
    c->pdout = &c->dout, c->pdlse = &c->dlse, c->pgrads = &c->grads;
    c->grads.dq = &c->dq, c->grads.dk = &c->dk, c->grads.dv = &c->dv, c->grads.dbias = &c->dbias;
    c->grads.dsinks = &c->dsinks;
    c->options.bias = &c->bias, c->options.mask = &c->mask, c->options.sinks = c->sinks, c->options.alibi = c->alibi;
    c->options.segments_q = &c->segments_q, c->options.segments_k = &c->segments_k, c->options.tree = &c->tree;
    for (int b = 0; b < B; b++) c->q_lengths[b] = T, c->kv_lengths[b] = S;
    c->options.q_lengths = c->q_lengths, c->options.kv_lengths = c->kv_lengths;
}

static attn_status forward(attn_context *ctx, const struct call *c) {
    return attn_attention_fwd(ctx, c->pout, c->plse, c->pq, c->pk, c->pv, &c->options);
}
static attn_status backward(attn_context *ctx, const struct call *c) {
    return attn_attention_bwd(ctx, c->pgrads, c->pdout, c->pdlse, c->pq, c->pk, c->pv, c->pout, c->plse, &c->options);
}

enum side { FORWARD = 1, BACKWARD = 2, BOTH = 3 };
struct refusal {
    const char *what;
    void (*spoil)(struct call *c);
    enum side side;
    attn_status status;
    const char *words[4]; /* all in the sentence */
};

/* ---- the ways to spoil it ----------------------------------------------------------------------------- */

#define SPOIL(name) static void name(struct call *c)
SPOIL(no_q) { c->pq = NULL; }
SPOIL(no_k) { c->pk = NULL; }
SPOIL(no_v) { c->pv = NULL; }
SPOIL(no_out) { c->pout = NULL; }
SPOIL(no_lse) { c->plse = NULL; }
SPOIL(no_dout) { c->pdout = NULL; }
SPOIL(no_grads) { c->pgrads = NULL; }
SPOIL(no_q_data) { c->q.data = NULL; }
SPOIL(no_v_data) { c->v.data = NULL; }
SPOIL(no_bias_data) { c->bias.data = NULL; }
SPOIL(rank_q) { c->q.rank = 3; }
SPOIL(rank_of_any) { c->k.rank = 77; }
SPOIL(rank_lse) { c->lse.rank = 2; }
SPOIL(rank_mask) { c->mask.rank = 3; }
SPOIL(dtype_q) { c->q.dtype = ATTN_I32; }
SPOIL(dtype_unknown) { c->q.dtype = (attn_dtype)99; }
SPOIL(dtype_f64) { c->q.dtype = c->k.dtype = c->v.dtype = c->out.dtype = ATTN_F64; }
SPOIL(dtype_k) { c->k.dtype = ATTN_BF16; }
SPOIL(dtype_out) { c->out.dtype = ATTN_F16; }
SPOIL(dtype_lse) { c->lse.dtype = ATTN_BF16; }
SPOIL(dtype_mask) { c->mask.dtype = ATTN_F32; }
SPOIL(dtype_bias) { c->bias.dtype = ATTN_I64; }
SPOIL(dtype_ids) { c->segments_k.dtype = ATTN_I64; }
SPOIL(dtype_tree) { c->tree.dtype = ATTN_I8; }
SPOIL(dtype_dq) { c->dq.dtype = ATTN_BF16; }
SPOIL(dtype_dbias) { c->dbias.dtype = ATTN_BF16; }
SPOIL(dtype_dsinks) { c->dsinks.dtype = ATTN_BF16; }
SPOIL(batch_k) { c->k.shape[0] = 3; }
SPOIL(heads) { c->k.shape[1] = c->v.shape[1] = 3; }
SPOIL(heads_v) { c->v.shape[1] = 1; }
SPOIL(size_k) { c->k.shape[3] = 9; }
SPOIL(keys_v) { c->v.shape[2] = 6; }
SPOIL(out_t) { c->out.shape[2] = 4; }
SPOIL(out_dv) { c->out.shape[3] = D; }
SPOIL(lse_t) { c->lse.shape[2] = 6; }
SPOIL(dout_dv) { c->dout.shape[3] = 5; }
SPOIL(dlse_h) { c->dlse.shape[1] = 3; }
SPOIL(dq_d) { c->dq.shape[3] = 9; }
SPOIL(dk_s) { c->dk.shape[2] = 8; }
SPOIL(dbias_h) { c->dbias.shape[1] = 1; }
SPOIL(dsinks_h) { c->dsinks.shape[0] = 3; }
SPOIL(mask_s) { c->mask.shape[3] = 6; }
SPOIL(mask_t) { c->mask.shape[2] = 4; }
SPOIL(mask_bits) { c->mask.shape[3] = 2, c->options.mask_format = ATTN_MASK_KEEP_BITS; }
SPOIL(bias_h) { c->bias.shape[1] = 3; }
SPOIL(bias_s) { c->bias.shape[3] = 8; }
SPOIL(ids_t) { c->segments_q.shape[1] = 6; }
SPOIL(ids_alone) { c->options.segments_k = NULL; }
SPOIL(tree_t) { c->tree.shape[1] = 4; }
SPOIL(no_size) { c->q.shape[3] = c->k.shape[3] = 0; }
SPOIL(great_size) { c->q.shape[3] = c->k.shape[3] = 577, c->q.stride[2] = c->k.stride[2] = 0; }
SPOIL(great_value_size) { c->v.shape[3] = c->out.shape[3] = 600, c->v.stride[2] = 0; }
SPOIL(stride_q) { c->q.stride[3] = 2; }
SPOIL(stride_out) { c->out.stride[3] = -1; }
SPOIL(stride_mask) { c->mask.stride[3] = 3; }
SPOIL(negative_length) { c->q_lengths[1] = -1; }
SPOIL(long_length) { c->q_lengths[0] = 6; }
SPOIL(negative_keys) { c->kv_lengths[0] = -3; }
SPOIL(many_keys) { c->kv_lengths[1] = 8; }
SPOIL(size_of_options) { c->options.struct_size = 24; }
SPOIL(size_of_grads) { c->grads.struct_size = 8; }
SPOIL(offset_top_left) { c->options.causal = ATTN_CAUSAL_TOP_LEFT, c->options.query_offset = c->query_offset; }
SPOIL(offset_bottom_right) { c->options.causal = ATTN_CAUSAL_BOTTOM_RIGHT, c->options.query_offset = c->query_offset; }
SPOIL(causal) { c->options.causal = (attn_causal)9; }
SPOIL(format) { c->options.mask_format = (attn_mask_format)7; }
SPOIL(precision) { c->options.precision = (attn_precision)5; }
SPOIL(window) { c->options.window_left = -2; }
SPOIL(prefix) { c->options.causal = ATTN_CAUSAL_TOP_LEFT, c->options.prefix = c->prefix, c->prefix[1] = -4; }
SPOIL(scale) { c->options.scale = INFINITY; }
SPOIL(cap) { c->options.softcap = -2.5f; }
SPOIL(cap_nan) { c->options.softcap = NAN; }
SPOIL(dropout) { c->options.dropout = 1.5f; }
SPOIL(dropout_all) { c->options.dropout = 1; }
SPOIL(dropout_nan) { c->options.dropout = NAN; }
SPOIL(dbias_alone) { c->options.bias = NULL; }
SPOIL(dsinks_alone) { c->options.sinks = NULL; }
SPOIL(workspace) { c->options.workspace = c->q.data, c->options.workspace_bytes = 3; }

/* Outputs in memory that is read, or written otherwise. */
SPOIL(out_is_q) { c->out.data = c->q.data; }
SPOIL(out_in_k) { c->out.data = (float *)c->k.data + 3; }
SPOIL(out_is_v) { c->v.shape[3] = DV, c->out.data = c->v.data; }
SPOIL(lse_is_out) { c->lse.data = c->out.data; }
SPOIL(lse_in_q) { c->lse.data = (float *)c->q.data + 1; }
SPOIL(out_is_bias) { c->out.data = c->bias.data; }
SPOIL(dq_is_q) { c->dq.data = c->q.data; }
SPOIL(dk_is_k) { c->dk.data = c->k.data; }
SPOIL(dv_is_dout) { c->dv.data = c->dout.data; }
SPOIL(dk_is_dv) { c->dk.data = c->dv.data; }
SPOIL(dbias_is_bias) { c->dbias.data = c->bias.data; }
SPOIL(dsinks_is_dq) { c->dsinks.data = c->dq.data; }
SPOIL(dsinks_is_sinks) { c->dsinks.data = c->sinks; }
SPOIL(dq_is_dlse) { c->dlse.data = c->dq.data; }
SPOIL(out_on_itself) { c->out.stride[2] = 0; }
SPOIL(dq_on_itself) { c->dq.stride[2] = D - 1; }
/* q and out in one array with rows of 16, where out begins inside of q's rows */
SPOIL(out_between_q) {
    c->q = tensor_of(ATTN_F32, 4, B, H, T, 16), c->out = c->q;
    c->q.shape[3] = D, c->out.shape[3] = DV, c->out.data = (float *)c->q.data + 4;
}

/* Packed: cu_q and cu_k. */
static void packed(struct call *c) {
    const int32_t cu_q[B + 1] = {0, 2, T}, cu_k[B + 1] = {0, 4, S};
    memcpy(c->cu_q, cu_q, sizeof cu_q), memcpy(c->cu_k, cu_k, sizeof cu_k);
    c->q = tensor_of(ATTN_F32, 3, H, T, D, 0), c->k = tensor_of(ATTN_F32, 3, HK, S, D, 0);
    c->v = tensor_of(ATTN_F32, 3, HK, S, DV, 0), c->out = tensor_of(ATTN_F32, 3, H, T, DV, 0);
    c->lse = tensor_of(ATTN_F32, 2, H, T, 0, 0);
    c->options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    c->options.cu_q = c->cu_q, c->options.cu_k = c->cu_k, c->options.sequences = B;
}
SPOIL(packed_alone) { packed(c), c->options.cu_k = NULL; }
SPOIL(packed_lengths) { packed(c), c->options.kv_lengths = c->kv_lengths; }
SPOIL(packed_back) { packed(c), c->cu_q[1] = 6; }
SPOIL(packed_begin) { packed(c), c->cu_k[0] = 1; }
SPOIL(packed_end) { packed(c), c->cu_k[B] = 8; }
SPOIL(packed_rank) { packed(c), c->q = tensor_of(ATTN_F32, 4, 1, H, T, D); }
SPOIL(packed_out) { packed(c), c->out.shape[1] = 4; }

static const struct refusal refusals[] = {
    {"q NULL", no_q, BOTH, ATTN_E_ARGUMENT, {"q", "NULL"}},
    {"k NULL", no_k, BOTH, ATTN_E_ARGUMENT, {"k", "NULL"}},
    {"v NULL", no_v, BOTH, ATTN_E_ARGUMENT, {"v", "NULL"}},
    {"out NULL", no_out, BOTH, ATTN_E_ARGUMENT, {"out", "NULL"}},
    {"lse NULL", no_lse, BACKWARD, ATTN_E_ARGUMENT, {"lse", "NULL"}},
    {"dout NULL", no_dout, BACKWARD, ATTN_E_ARGUMENT, {"dout", "NULL"}},
    {"grads NULL", no_grads, BACKWARD, ATTN_E_ARGUMENT, {"grads", "NULL"}},
    {"q without data", no_q_data, BOTH, ATTN_E_ARGUMENT, {": q", "data"}},
    {"v without data", no_v_data, BOTH, ATTN_E_ARGUMENT, {": v", "data"}},
    {"bias without data", no_bias_data, BOTH, ATTN_E_ARGUMENT, {"bias", "data"}},
    {"rank of q", rank_q, BOTH, ATTN_E_SHAPE, {": q", "3", "4"}},
    {"rank of k", rank_of_any, BOTH, ATTN_E_SHAPE, {": k", "77", "4"}},
    {"rank of lse", rank_lse, BOTH, ATTN_E_SHAPE, {"lse", "(2, 4)", "(2, 4, 5)"}},
    {"rank of the mask", rank_mask, BOTH, ATTN_E_SHAPE, {"mask", "3", "4"}},
    {"dtype of q", dtype_q, BOTH, ATTN_E_UNSUPPORTED, {": q", "I32", "F32"}},
    {"no dtype", dtype_unknown, BOTH, ATTN_E_UNSUPPORTED, {": q", "unknown", "F32"}},
    {"f64", dtype_f64, BOTH, ATTN_E_UNSUPPORTED, {": q", "F64", "F32"}},
    {"dtype of k", dtype_k, BOTH, ATTN_E_UNSUPPORTED, {": k", "BF16", "F32"}},
    {"dtype of out", dtype_out, BOTH, ATTN_E_UNSUPPORTED, {"out", "F16", "F32"}},
    {"dtype of lse", dtype_lse, BOTH, ATTN_E_UNSUPPORTED, {"lse", "BF16", "F32"}},
    {"dtype of the mask", dtype_mask, BOTH, ATTN_E_UNSUPPORTED, {"mask", "F32", "U8"}},
    {"dtype of the bias", dtype_bias, BOTH, ATTN_E_UNSUPPORTED, {"bias", "I64", "F32"}},
    {"dtype of ids", dtype_ids, BOTH, ATTN_E_UNSUPPORTED, {"segments_k", "I64", "I32"}},
    {"dtype of the tree", dtype_tree, BOTH, ATTN_E_UNSUPPORTED, {"tree", "I8", "U8"}},
    {"dtype of dq", dtype_dq, BACKWARD, ATTN_E_UNSUPPORTED, {"dq", "BF16", "F32"}},
    {"dtype of dbias", dtype_dbias, BACKWARD, ATTN_E_UNSUPPORTED, {"dbias", "BF16", "F32"}},
    {"dtype of dsinks", dtype_dsinks, BACKWARD, ATTN_E_UNSUPPORTED, {"dsinks", "BF16", "F32"}},
    {"batch of k", batch_k, BOTH, ATTN_E_SHAPE, {": k", "(3,", "(2,"}},
    {"heads", heads, BOTH, ATTN_E_SHAPE, {": q", "4", "3"}},
    {"heads of v", heads_v, BOTH, ATTN_E_SHAPE, {": v", "(2, 1,", "(2, 2,"}},
    {"head size of k", size_k, BOTH, ATTN_E_SHAPE, {": k", "9)", "8)"}},
    {"keys of v", keys_v, BOTH, ATTN_E_SHAPE, {": v", "6, 6)", "7, 6)"}},
    {"queries of out", out_t, BOTH, ATTN_E_SHAPE, {"out", "4, 6)", "5, 6)"}},
    {"head size of out", out_dv, BOTH, ATTN_E_SHAPE, {"out", "8)", "6)"}},
    {"queries of lse", lse_t, BOTH, ATTN_E_SHAPE, {"lse", "6)", "5)"}},
    {"head size of dout", dout_dv, BACKWARD, ATTN_E_SHAPE, {"dout", "5)", "6)"}},
    {"heads of dlse", dlse_h, BACKWARD, ATTN_E_SHAPE, {"dlse", "(2, 3,", "(2, 4,"}},
    {"head size of dq", dq_d, BACKWARD, ATTN_E_SHAPE, {"dq", "9)", "8)"}},
    {"keys of dk", dk_s, BACKWARD, ATTN_E_SHAPE, {"dk", "8, 8)", "7, 8)"}},
    {"heads of dbias", dbias_h, BACKWARD, ATTN_E_SHAPE, {"dbias", "(1, 1,", "(1, 4,"}},
    {"heads of dsinks", dsinks_h, BACKWARD, ATTN_E_SHAPE, {"dsinks", "3", "4"}},
    {"keys of the mask", mask_s, BOTH, ATTN_E_SHAPE, {"mask", "6", "7"}},
    {"queries of the mask", mask_t, BOTH, ATTN_E_SHAPE, {"mask", "4", "5"}},
    {"bytes of a mask of bits", mask_bits, BOTH, ATTN_E_SHAPE, {"mask", "2", "1"}},
    {"heads of the bias", bias_h, BOTH, ATTN_E_SHAPE, {"bias", "3", "4"}},
    {"keys of the bias", bias_s, BOTH, ATTN_E_SHAPE, {"bias", "8", "7"}},
    {"queries of ids", ids_t, BOTH, ATTN_E_SHAPE, {"segments_q", "6)", "5)"}},
    {"ids of one side", ids_alone, BOTH, ATTN_E_ARGUMENT, {"segments_q", "segments_k"}},
    {"queries of the tree", tree_t, BOTH, ATTN_E_SHAPE, {"tree", "4, 1)", "5, 1)"}},
    {"head size 0", no_size, BOTH, ATTN_E_SHAPE, {"q", "0", "576"}},
    {"head size 577", great_size, BOTH, ATTN_E_SHAPE, {"q", "577", "576"}},
    {"head size of v 600", great_value_size, BOTH, ATTN_E_SHAPE, {"v", "600", "576"}},
    {"stride of q", stride_q, BOTH, ATTN_E_UNSUPPORTED, {": q", "2", "1"}},
    {"stride of out", stride_out, BOTH, ATTN_E_UNSUPPORTED, {"out", "-1", "1"}},
    {"stride of the mask", stride_mask, BOTH, ATTN_E_UNSUPPORTED, {"mask", "3", "1"}},
    {"negative length", negative_length, BOTH, ATTN_E_ARGUMENT, {"q_lengths[1]", "-1", "5"}},
    {"length beyond T", long_length, BOTH, ATTN_E_ARGUMENT, {"q_lengths[0]", "6", "5"}},
    {"negative number of keys", negative_keys, BOTH, ATTN_E_ARGUMENT, {"kv_lengths[0]", "-3", "7"}},
    {"length beyond S", many_keys, BOTH, ATTN_E_ARGUMENT, {"kv_lengths[1]", "8", "7"}},
    {"options of another version", size_of_options, BOTH, ATTN_E_VERSION, {"options", "24"}},
    {"grads of another version", size_of_grads, BACKWARD, ATTN_E_VERSION, {"grads", "8"}},
    {"offset, top-left", offset_top_left, BOTH, ATTN_E_ARGUMENT, {"query_offset", "top-left"}},
    {"offset, bottom-right", offset_bottom_right, BOTH, ATTN_E_ARGUMENT, {"query_offset", "bottom-right"}},
    {"no kind of causal", causal, BOTH, ATTN_E_ARGUMENT, {"causal", "9", "3"}},
    {"no format", format, BOTH, ATTN_E_ARGUMENT, {"mask_format", "7", "3"}},
    {"no precision", precision, BOTH, ATTN_E_ARGUMENT, {"precision", "5", "2"}},
    {"window", window, BOTH, ATTN_E_ARGUMENT, {"window", "-2", "-1"}},
    {"negative prefix", prefix, BOTH, ATTN_E_ARGUMENT, {"prefix[1]", "-4", "0"}},
    {"infinite scale", scale, BOTH, ATTN_E_ARGUMENT, {"scale", "inf"}},
    {"negative cap", cap, BOTH, ATTN_E_ARGUMENT, {"softcap", "-2.5", "0"}},
    {"cap NaN", cap_nan, BOTH, ATTN_E_ARGUMENT, {"softcap", "nan", "0"}},
    {"dropout above 1", dropout, BOTH, ATTN_E_ARGUMENT, {"dropout", "1.5", "1"}},
    {"dropout 1", dropout_all, BOTH, ATTN_E_ARGUMENT, {"dropout", "1"}},
    {"dropout NaN", dropout_nan, BOTH, ATTN_E_ARGUMENT, {"dropout", "nan", "1"}},
    {"dbias without bias", dbias_alone, BACKWARD, ATTN_E_ARGUMENT, {"dbias", "bias"}},
    {"dsinks without sinks", dsinks_alone, BACKWARD, ATTN_E_ARGUMENT, {"dsinks", "sinks"}},
    {"small workspace", workspace, BOTH, ATTN_E_ARGUMENT, {"workspace", "3 bytes"}},
    {"out is q", out_is_q, FORWARD, ATTN_E_ARGUMENT, {"out", "q", "overlap"}},
    {"out in k", out_in_k, FORWARD, ATTN_E_ARGUMENT, {"out", "k", "overlap"}},
    {"out is v", out_is_v, FORWARD, ATTN_E_ARGUMENT, {"out", "v", "overlap"}},
    {"lse is out", lse_is_out, FORWARD, ATTN_E_ARGUMENT, {"lse", "out", "overlap"}},
    {"lse in q", lse_in_q, FORWARD, ATTN_E_ARGUMENT, {"lse", "q", "overlap"}},
    {"out is the bias", out_is_bias, FORWARD, ATTN_E_ARGUMENT, {"out", "bias", "overlap"}},
    {"out between q", out_between_q, FORWARD, ATTN_E_ARGUMENT, {"out", "q", "overlap"}},
    {"out on itself", out_on_itself, FORWARD, ATTN_E_ARGUMENT, {"out", "overlap"}},
    {"dq is q", dq_is_q, BACKWARD, ATTN_E_ARGUMENT, {"dq", "q", "overlap"}},
    {"dk is k", dk_is_k, BACKWARD, ATTN_E_ARGUMENT, {"dk", "k", "overlap"}},
    {"dv is dout", dv_is_dout, BACKWARD, ATTN_E_ARGUMENT, {"dv", "dout", "overlap"}},
    {"dk is dv", dk_is_dv, BACKWARD, ATTN_E_ARGUMENT, {"dk", "dv", "overlap"}},
    {"dbias is bias", dbias_is_bias, BACKWARD, ATTN_E_ARGUMENT, {"dbias", "bias", "overlap"}},
    {"dsinks is dq", dsinks_is_dq, BACKWARD, ATTN_E_ARGUMENT, {"dsinks", "dq", "overlap"}},
    {"dsinks is sinks", dsinks_is_sinks, BACKWARD, ATTN_E_ARGUMENT, {"dsinks", "sinks", "overlap"}},
    {"dq is dlse", dq_is_dlse, BACKWARD, ATTN_E_ARGUMENT, {"dq", "dlse", "overlap"}},
    {"dq on itself", dq_on_itself, BACKWARD, ATTN_E_ARGUMENT, {"dq", "overlap"}},
    {"cu_q alone", packed_alone, FORWARD, ATTN_E_ARGUMENT, {"cu_q", "cu_k"}},
    {"packed with lengths", packed_lengths, FORWARD, ATTN_E_ARGUMENT, {"cu_", "kv_lengths"}},
    {"cu_q goes back", packed_back, FORWARD, ATTN_E_ARGUMENT, {"cu_q[2]", "5", "6"}},
    {"cu_k begins at 1", packed_begin, FORWARD, ATTN_E_ARGUMENT, {"cu_k[0]", "1", "0"}},
    {"cu_k ends too late", packed_end, FORWARD, ATTN_E_SHAPE, {"cu_k", "8", "7"}},
    {"packed rank", packed_rank, FORWARD, ATTN_E_SHAPE, {": q", "4", "3"}},
    {"packed out", packed_out, FORWARD, ATTN_E_SHAPE, {"out", "(4, 4, 6)", "(4, 5, 6)"}},
};

static const char *wrong_about(const struct refusal *r, attn_context *ctx, attn_status status, const char *function) {
    static char text[600];
    const char *found = status != r->status ? attn_status_text(r->status) : NULL;
    const char *sentence = attn_error(ctx);
    if (!found && !strstr(sentence, function)) found = function;
    for (int i = 0; !found && i < 4 && r->words[i]; i++)
        if (!strstr(sentence, r->words[i])) found = r->words[i];
    if (!found) return NULL;
    snprintf(text, sizeof text, "%s, %s: %s: \"%s\", expected \"%s\" in it", r->what, function,
             attn_status_text(status), status == ATTN_OK ? "" : sentence, found);
    return text;
}

static void refused(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    size_t wrong = 0;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        const struct refusal *r = refusals + i;
        for (int side = FORWARD; side <= BACKWARD; side++) {
            struct call c;
            if (!(r->side & side)) continue;
            call_make(&c);
            assert_int_equal(side == FORWARD ? forward(ctx, &c) : backward(ctx, &c), ATTN_OK);
            float *out = c.out.data, *copy = guard_copy(out, (size_t)B * H * T * DV);
            r->spoil(&c);
            attn_status status = side == FORWARD ? forward(ctx, &c) : backward(ctx, &c);
            const char *text =
                wrong_about(r, ctx, status, side == FORWARD ? "attn_attention_fwd" : "attn_attention_bwd");
            if (text) wrong++, fprintf(stderr, "%s\n", text);
            else assert_same_bits(r->what, out, copy, (size_t)B * H * T * DV);
            guard_release();
        }
    }
    attn_context_free(ctx);
    if (wrong) fail_msg("%zu of the calls are not refused as they should be", wrong);
}

/* What is allowed: views side by side in one array, nothing to do, strides of 0 among inputs, defaults. */
static void allowed(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    const size_t n = B * T * (H + 2 * HK) * D;
    float *qkv = guard_normal(n, 1), *o = guard_floats(B * T * H * D);
    const ptrdiff_t row = (H + 2 * HK) * D;
    attn_tensor q = attn_tensor_f32(qkv, 4, (size_t)B, (size_t)H, (size_t)T, (size_t)D), k = q, v, out = q;
    q.stride[0] = T * row, q.stride[1] = D, q.stride[2] = row;
    k = q, k.shape[1] = HK, k.data = qkv + H * D, v = k, v.data = qkv + (H + HK) * D;
    out.data = o;
    assert_ok(ctx, attn_attention_fwd(ctx, &out, NULL, &q, &k, &v, NULL));

    attn_tensor dq = q, dk = k, dv = v,
                lse = attn_tensor_f32(guard_floats(B * H * T), 3, (size_t)B, (size_t)H, (size_t)T);
    float *dqkv = guard_floats(n);
    dq.data = dqkv, dk.data = dqkv + H * D, dv.data = dqkv + (H + HK) * D;
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    grads.dq = &dq, grads.dk = &dk, grads.dv = &dv;
    assert_ok(ctx, attn_attention_fwd(ctx, &out, &lse, &q, &k, &v, NULL));
    assert_ok(ctx, attn_attention_bwd(ctx, &grads, &out, NULL, &q, &k, &v, &out, &lse, NULL));
    for (size_t i = 0; i < n; i++) assert_true(isfinite(dqkv[i]));

    k.stride[0] = k.stride[1] = 0, v.stride[0] = 0; /* shared by all */
    assert_ok(ctx, attn_attention_fwd(ctx, &out, &lse, &q, &k, &v, NULL));
    q.shape[2] = out.shape[2] = lse.shape[2] = 0, q.data = out.data = lse.data = NULL;
    assert_ok(ctx, attn_attention_fwd(ctx, &out, &lse, &q, &k, &v, NULL));
    guard_release();
    attn_context_free(ctx);
}

/* Sizes whose products do not fit are refused, whatever memory they claim to have. */
static void overflow(void **state) {
    (void)state;
    attn_context *ctx = guard_context("scalar", 1);
    float x[64] = {0};
    static const size_t shapes[][4] = {{1, 1, SIZE_MAX, 8},
                                       {1, SIZE_MAX / 2, 4, 8},
                                       {SIZE_MAX / 8, 4, 4, 8},
                                       {(size_t)1 << 31, (size_t)1 << 31, (size_t)1 << 31, 8},
                                       {1, 1, SIZE_MAX / 64, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        attn_tensor q = attn_tensor_of(x, ATTN_F32, 4, shapes[i]);
        for (int d = 0; d < 3; d++) q.stride[d] = 0;
        attn_tensor k = q;
        k.shape[2] = 4;
        size_t forward_bytes = 0, backward_bytes = 0;
        attn_status status = attn_attention_workspace(ctx, &forward_bytes, &backward_bytes, &q, &k, &k, NULL);
        if (status == ATTN_OK) fail_msg("shape %zu: workspace of %zu and %zu bytes", i, forward_bytes, backward_bytes);
    }
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(refused), cmocka_unit_test(allowed),
                                       cmocka_unit_test(overflow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
