/* The reference of a random call, and the call as text. */
#include "kern/attention_case.h"

#include <inttypes.h>
#include <stdio.h>

#define CASE_NAME(name, field) #field,
const char *const case_result_names[] = {CASE_RESULTS(CASE_NAME)};
#undef CASE_NAME

ref_attention case_reference(const struct attention_case *c) {
    bool backward = false;
    for (int x = CASE_DQ; x < CASE_RESULT_COUNT; x++) backward = backward || c->wanted[x];
    ref_attention r = {.q = &c->q, .k = &c->k, .v = &c->v, .options = &c->options};
    if (backward) r.dout = &c->dout, r.dlse = c->with_dlse ? &c->dlse : NULL;
    if (c->q.dtype == ATTN_BF16 && c->options.precision != ATTN_PRECISION_HIGH) r.weight_unit = 0x1p-8;
    ref_attention_run(&r);
    return r;
}

static char *text_end;
static char text_of_case[4000];
static ATTN_PRINTF(1, 2) void say(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    text_end += vsnprintf(text_end, (size_t)(text_of_case + sizeof text_of_case - text_end), format, arguments);
    va_end(arguments);
    if (text_end > text_of_case + sizeof text_of_case - 1) text_end = text_of_case + sizeof text_of_case - 1;
}

static void say_tensor(const char *name, const attn_tensor *t) {
    say(" %s=%s(", name, attn_dtype_name(t->dtype));
    for (int d = 0; d < t->rank; d++) say(d ? ",%zu" : "%zu", t->shape[d]);
    say(")");
    if (attn_tensor_is_contiguous(t)) return;
    say("/(");
    for (int d = 0; d < t->rank; d++) say(d ? ",%td" : "%td", t->stride[d]);
    say(")");
}

#define SAY_ARRAY(name, array, count, format)                                               \
    if (array) {                                                                            \
        say(" " name "=[");                                                                 \
        for (size_t i_ = 0; i_ < (count); i_++) say(i_ ? "," format : format, (array)[i_]); \
        say("]");                                                                           \
    }

const char *case_text(const struct attention_case *c) {
    static const char *const causal[] = {"none", "top-left", "bottom-right", "offset"};
    static const char *const formats[] = {"keep-bytes", "drop-bytes", "keep-bits", "drop-bits"};
    static const char *const precision[] = {"default", "high", "fast"};
    const attn_attention_options *o = &c->options;
    text_end = text_of_case;
    say("ATTN_CASE_SEED=%" PRIu64 ": B=%zu H=%zu Hk=%zu T=%zu S=%zu D=%zu Dv=%zu %s threads=%d%s%s%s", c->seed, c->b,
        c->h, c->hk, c->t, c->s, c->d, c->dv, attn_dtype_name(c->q.dtype), c->threads, c->packed ? " packed" : "",
        c->workspace ? " workspace" : "", c->accumulate ? " accumulate" : "");
    if (!isnan(o->scale)) say(" scale=%g", (double)o->scale);
    if (o->softcap != 0) say(" softcap=%g", (double)o->softcap);
    if (o->causal) say(" causal=%s", causal[o->causal]);
    SAY_ARRAY("query_offset", o->query_offset, c->b, "%" PRId64);
    if (o->window_left >= 0 || o->window_right >= 0)
        say(" window=%" PRId64 ",%" PRId64, o->window_left, o->window_right);
    SAY_ARRAY("q_lengths", o->q_lengths, c->b, "%" PRId32);
    SAY_ARRAY("kv_lengths", o->kv_lengths, c->b, "%" PRId32);
    SAY_ARRAY("cu_q", o->cu_q, c->b + 1, "%" PRId32);
    SAY_ARRAY("cu_k", o->cu_k, c->b + 1, "%" PRId32);
    SAY_ARRAY("prefix", o->prefix, c->b, "%" PRId32);
    if (o->mask) say(" %s", formats[o->mask_format]), say_tensor("mask", o->mask);
    if (o->tree) say_tensor("tree", o->tree);
    if (o->segments_q) say_tensor("segments_q", o->segments_q), say_tensor("segments_k", o->segments_k);
    if (o->bias) say_tensor("bias", o->bias);
    SAY_ARRAY("alibi", o->alibi, c->h, "%g");
    SAY_ARRAY("sinks", o->sinks, c->h, "%g");
    if (o->dropout != 0) {
        say(" dropout=%g seed=%" PRIu64 " offset=%" PRIu64, (double)o->dropout, o->seed, o->offset);
        SAY_ARRAY("sequence_ids", o->sequence_ids, c->b, "%" PRId64);
    }
    if (c->q.dtype != ATTN_F32) say(" precision=%s", precision[o->precision]);
    say_tensor("q", &c->q), say_tensor("k", &c->k), say_tensor("v", &c->v), say_tensor("dout", &c->dout);
    if (c->with_dlse) say_tensor("dlse", &c->dlse);
    for (int x = 0; x < CASE_RESULT_COUNT; x++)
        if (c->wanted[x] && c->result[x].rank) say_tensor(case_result_names[x], &c->result[x]);
    return text_of_case;
}
