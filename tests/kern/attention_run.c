/* Running a random call, and comparing it with the reference. */
#include "kern/attention_case.h"

#include <stdio.h>

attn_context *case_context(const char *level, int threads) {
    static struct {
        const char *level;
        int threads;
        attn_context *ctx;
    } contexts[32];
    size_t i = 0;
    while (contexts[i].ctx && (strcmp(contexts[i].level, level) != 0 || contexts[i].threads != threads)) i++;
    if (!contexts[i].ctx) {
        contexts[i].level = level, contexts[i].threads = threads;
        contexts[i].ctx = guard_context(level, threads);
    }
    return contexts[i].ctx;
}

attn_status case_run(attn_context *ctx, struct attention_case *c) {
    attn_attention_options o = c->options;
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    const attn_tensor *x = c->result, *lse = c->wanted[CASE_LSE] ? &x[CASE_LSE] : NULL;
#define CASE_GIVE(NAME, field) grads.field = c->wanted[CASE_##NAME] ? &x[CASE_##NAME] : NULL;
    CASE_GIVE(DQ, dq)
    CASE_GIVE(DK, dk)
    CASE_GIVE(DV, dv)
    CASE_GIVE(DBIAS, dbias)
    CASE_GIVE(DSINKS, dsinks)
#undef CASE_GIVE
    grads.accumulate = c->accumulate;
    bool backward = grads.dq || grads.dk || grads.dv || grads.dbias || grads.dsinks;
    if (c->workspace) {
        size_t forward_bytes, backward_bytes;
        attn_status status = attn_attention_workspace(ctx, &forward_bytes, &backward_bytes, &c->q, &c->k, &c->v, &o);
        if (status != ATTN_OK) return status;
        o.workspace_bytes = forward_bytes > backward_bytes ? forward_bytes : backward_bytes;
        o.workspace = case_array(NULL, (o.workspace_bytes + 63) / 64 * 64, 1); /* ends at a page, so it is aligned */
        memset(o.workspace, 0xff, o.workspace_bytes);
    }
    attn_status status = attn_attention_fwd(ctx, &x[CASE_OUT], lse, &c->q, &c->k, &c->v, &o);
    if (status != ATTN_OK || !backward) return status;
    if (c->workspace) memset(o.workspace, 0xff, o.workspace_bytes);
    return attn_attention_bwd(ctx, &grads, &c->dout, c->with_dlse ? &c->dlse : NULL, &c->q, &c->k, &c->v, &x[CASE_OUT],
                              lse, &o);
}

static const ref_array *array_of(const ref_attention *r, int result) {
#define CASE_ARRAY(name, field) &r->field,
    const ref_array *const arrays[] = {CASE_RESULTS(CASE_ARRAY)};
#undef CASE_ARRAY
    return arrays[result];
}

/* A bound that is infinite says that any value may come out: weights that vanish times what is infinite. */
static bool near(double found, double expected, double bound, double *ratio) {
    if (isinf(bound)) return true;
    if (isinf(expected) && isnan(bound)) return !isfinite(found);
    if (isnan(expected)) return !isfinite(found);
    if (found == expected) return true;
    if (!isfinite(found) || !isfinite(expected)) return false;
    if (isnan(bound)) return true;
    *ratio = bound > 0 ? fabs(found - expected) / bound : (double)INFINITY;
    return *ratio <= 1;
}

const char *case_compare(const struct attention_case *c, const ref_attention *r, double *const before[],
                         double *worst) {
    static char text[300];
    for (int x = 0; x < CASE_RESULT_COUNT; x++) {
        if (!c->wanted[x]) continue;
        const attn_tensor *t = &c->result[x];
        const ref_array *array = array_of(r, x);
        for (size_t i = 0; i < array->count; i++) {
            double found = ref_load(t, ref_place(t, i)), expected = array->value[i], bound = array->bound[i], ratio = 0;
            if (before && before[x]) { /* the sums of dbias begin with what was there */
                expected += before[x][i];
                bound += ref_ulp(t->dtype, expected) + array->sum_error * fabs(before[x][i]);
            }
            if (t->dtype != ATTN_F32) bound += ref_ulp(t->dtype, fabs(expected) + bound);
            if (!near(found, expected, bound, &ratio)) {
                snprintf(text, sizeof text, "%s[%zu of %zu, row %zu column %zu] is %.9g, expected %.9g, bound %.3g",
                         case_result_names[x], i, array->count, i / t->shape[t->rank - 1], i % t->shape[t->rank - 1],
                         found, expected, bound);
                return text;
            }
            if (worst && ratio > worst[x]) worst[x] = ratio;
        }
    }
    return NULL;
}
