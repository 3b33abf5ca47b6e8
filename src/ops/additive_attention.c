/* additive_attention.c: Bahdanau, Cho & Bengio 2015 on projected inputs.
 *
 *     e_ij = vᵀ tanh(sq_i + hk_j) */
#include "ops/alignment.h"
#include "ops/widen.h"
#include <attn/ops.h>
#include <string.h>

#define TANH_NS 0.15

static const attn_alignment_names names = {"sq", "hk", "h"};

static void energies(const attn_alignment *al, float *e, size_t b, size_t i, size_t first, size_t n) {
    al->kernels->additive_energy(e, attn_row_at(&al->query, b, i), attn_row_at(&al->key, b, first), al->key.row, al->v,
                                 n, al->a);
}

static void energies_bwd(const attn_alignment *al, size_t b, size_t first, size_t n) {
    attn_additive_bwd job = {.t = al->t,
                             .s = al->lengths ? (size_t)al->lengths[b] : al->s,
                             .width = n,
                             .sq = attn_row_at(&al->query, b, 0) + first,
                             .hk = attn_row_at(&al->key, b, 0) + first,
                             .v = al->v + first,
                             .de = attn_row_at(&al->de, b, 0),
                             .sq_stride = al->query.row,
                             .hk_stride = al->key.row,
                             .de_stride = al->de.row,
                             .dv = al->dv_parts ? al->dv_parts + b * al->a + first : NULL,
                             .dsq_stride = al->dquery.row,
                             .dhk_stride = al->dkey.row,
                             .accumulate = al->accumulate};
    if (al->dquery.data) job.dsq = attn_row_at(&al->dquery, b, 0) + first;
    if (al->dkey.data) job.dhk = attn_row_at(&al->dkey, b, 0) + first;
    al->kernels->additive_bwd(&job);
}

static attn_status additive_fwd(attn_context *ctx, const attn_tensor *c, const attn_tensor *lse,
                                const attn_tensor *alignment, const attn_tensor *energy, const attn_tensor *sq,
                                const attn_tensor *hk, const attn_tensor *v, const attn_tensor *h,
                                const int32_t *lengths) {
    static const char where[] = "attn_additive_attention_fwd";
    attn_alignment al;
    ATTN_TRY(attn_alignment_memory(&al, ctx, where, &names, sq, hk, h, lengths));
    ATTN_TRY(attn_check_shape(ctx, "attn_additive_attention_fwd: v", v, 1, &al.a));
    if (!c) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: c is NULL", where);
    ATTN_TRY(attn_alignment_rows(&al, &al.context, where, "c", c, al.t, al.c));
    ATTN_TRY(attn_alignment_rows(&al, &al.alignment, where, "alignment", alignment, al.t, al.s));
    ATTN_TRY(attn_alignment_rows(&al, &al.energy, where, "energy", energy, al.t, al.s));
    if (lse) {
        attn_tensor column = *lse; /* (B, T) as (B, T, 1) */
        if (column.rank == 2) column.rank = 3, column.shape[2] = 1, column.stride[2] = 1;
        ATTN_TRY(attn_alignment_rows(&al, &al.lse, where, "lse", &column, al.t, 1));
    }
    al.v = v->data;
    al.energies = energies;
    al.energy_ns = TANH_NS * (double)al.a;
    return attn_alignment_fwd(&al);
}

attn_status attn_additive_attention_fwd(attn_context *ctx, const attn_tensor *c, const attn_tensor *lse,
                                        const attn_tensor *alignment, const attn_tensor *energy, const attn_tensor *sq,
                                        const attn_tensor *hk, const attn_tensor *v, const attn_tensor *h,
                                        const int32_t *lengths) {
    attn_widened wide = {.ctx = ctx};
    attn_status status = ATTN_OK;
    const attn_tensor **inputs[] = {&sq, &hk, &v, &h};
    for (size_t i = 0; i < ATTN_COUNT(inputs) && status == ATTN_OK; i++) status = attn_widen_input(&wide, inputs[i]);
    if (status == ATTN_OK) status = attn_widen_output(&wide, &c, false);
    if (status == ATTN_OK) status = additive_fwd(ctx, c, lse, alignment, energy, sq, hk, v, h, lengths);
    return attn_widened_end(&wide, status);
}

struct dv_job {
    float *dv;
    const float *parts; /* (B, A) */
    size_t b, a;
    const attn_kernels *kernels;
};

static void dv_range(void *arg, size_t first, size_t end) {
    const struct dv_job *job = arg;
    job->kernels->column_sums(job->dv + first, job->parts + first, (ptrdiff_t)job->a, job->b, end - first);
}

static attn_status additive_bwd(attn_context *ctx, const attn_tensor *dsq, const attn_tensor *dhk,
                                const attn_tensor *dv, const attn_tensor *dh, const attn_tensor *dc,
                                const attn_tensor *sq, const attn_tensor *hk, const attn_tensor *v,
                                const attn_tensor *h, const attn_tensor *alignment, const int32_t *lengths,
                                bool accumulate) {
    static const char where[] = "attn_additive_attention_bwd";
    attn_alignment al;
    ATTN_TRY(attn_alignment_memory(&al, ctx, where, &names, sq, hk, h, lengths));
    ATTN_TRY(attn_check_shape(ctx, "attn_additive_attention_bwd: v", v, 1, &al.a));
    if (dv) ATTN_TRY(attn_check_shape(ctx, "attn_additive_attention_bwd: dv", dv, 1, &al.a));
    if (!dc || !alignment) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is NULL", where, dc ? "alignment" : "dc");
    ATTN_TRY(attn_alignment_rows(&al, &al.dcontext, where, "dc", dc, al.t, al.c));
    ATTN_TRY(attn_alignment_rows(&al, &al.alignment, where, "alignment", alignment, al.t, al.s));
    ATTN_TRY(attn_alignment_rows(&al, &al.dquery, where, "dsq", dsq, al.t, al.a));
    ATTN_TRY(attn_alignment_rows(&al, &al.dkey, where, "dhk", dhk, al.s, al.a));
    ATTN_TRY(attn_alignment_rows(&al, &al.dvalue, where, "dh", dh, al.s, al.c));
    al.v = v->data;
    al.scale = 1.0f;
    al.accumulate = accumulate;
    al.energies_bwd = energies_bwd;
    al.energy_ns = TANH_NS * (double)al.a;
    if (dv) {
        size_t count;
        if (!attn_size_mul(&count, al.b, al.a)) return attn_fail(ctx, ATTN_E_NOMEM, "%s: B·A overflows", where);
        al.dv_parts = attn_alloc(ctx, count, sizeof *al.dv_parts);
        if (!al.dv_parts) return ATTN_E_NOMEM;
    }
    attn_status status = attn_alignment_bwd(&al);
    if (status == ATTN_OK && dv) {
        if (!accumulate) memset(dv->data, 0, al.a * sizeof(float));
        struct dv_job job = {dv->data, al.dv_parts, al.b, al.a, ctx->kernels};
        attn_for_ranges(ctx, al.a, 64, 0.1 * (double)al.a * (double)al.b, dv_range, &job);
    }
    attn_release(ctx, al.dv_parts);
    return status;
}

attn_status attn_additive_attention_bwd(attn_context *ctx, const attn_tensor *dsq, const attn_tensor *dhk,
                                        const attn_tensor *dv, const attn_tensor *dh, const attn_tensor *dc,
                                        const attn_tensor *sq, const attn_tensor *hk, const attn_tensor *v,
                                        const attn_tensor *h, const attn_tensor *alignment, const int32_t *lengths,
                                        bool accumulate) {
    attn_widened wide = {.ctx = ctx};
    attn_status status = ATTN_OK;
    const attn_tensor **inputs[] = {&dc, &sq, &hk, &v, &h};
    for (size_t i = 0; i < ATTN_COUNT(inputs) && status == ATTN_OK; i++) status = attn_widen_input(&wide, inputs[i]);
    const attn_tensor **outputs[] = {&dsq, &dhk, &dv, &dh};
    for (size_t i = 0; i < ATTN_COUNT(outputs) && status == ATTN_OK; i++)
        status = attn_widen_output(&wide, outputs[i], accumulate);
    if (status == ATTN_OK)
        status = additive_bwd(ctx, dsq, dhk, dv, dh, dc, sq, hk, v, h, alignment, lengths, accumulate);
    return attn_widened_end(&wide, status);
}
