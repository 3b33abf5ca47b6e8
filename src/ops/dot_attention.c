/* dot_attention.c: Luong, Pham & Manning 2015, the dot score: e_ij = scale · q_i · k_j. */
#include "ops/alignment.h"
#include "ops/widen.h"
#include <attn/ops.h>

#define MULTIPLY_NS 0.08

static const attn_alignment_names names = {"q", "k", "h"};

static void energies(const attn_alignment *al, float *e, size_t b, size_t i, size_t first, size_t n) {
    al->kernels->rows_dot(e, attn_row_at(&al->query, b, i), attn_row_at(&al->key, b, first), al->key.row, n, al->a,
                          al->scale);
}

/* de holds the scale already: dq_i = Σ_j de_ij k_j, dk_j = Σ_i de_ij q_i. */
static void energies_bwd(const attn_alignment *al, size_t b, size_t first, size_t n) {
    size_t length = al->lengths ? (size_t)al->lengths[b] : al->s;
    if (al->dquery.data)
        for (size_t i = 0; i < al->t; i++)
            al->kernels->rows_mix(attn_row_at(&al->dquery, b, i) + first, attn_row_at(&al->de, b, i), 1,
                                  attn_row_at(&al->key, b, 0) + first, al->key.row, length, n, al->accumulate);
    if (al->dkey.data)
        for (size_t j = 0; j < length; j++)
            al->kernels->rows_mix(attn_row_at(&al->dkey, b, j) + first, attn_row_at(&al->de, b, 0) + j, al->de.row,
                                  attn_row_at(&al->query, b, 0) + first, al->query.row, al->t, n, al->accumulate);
}

static attn_status dot_fwd(attn_context *ctx, const attn_tensor *c, const attn_tensor *alignment,
                           const attn_tensor *energy, const attn_tensor *q, const attn_tensor *k, const attn_tensor *h,
                           float scale, const int32_t *lengths) {
    static const char where[] = "attn_dot_attention_fwd";
    attn_alignment al;
    ATTN_TRY(attn_alignment_memory(&al, ctx, where, &names, q, k, h, lengths));
    if (!c) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: c is NULL", where);
    ATTN_TRY(attn_alignment_rows(&al, &al.context, where, "c", c, al.t, al.c));
    ATTN_TRY(attn_alignment_rows(&al, &al.alignment, where, "alignment", alignment, al.t, al.s));
    ATTN_TRY(attn_alignment_rows(&al, &al.energy, where, "energy", energy, al.t, al.s));
    al.scale = scale;
    al.energies = energies;
    al.energy_ns = MULTIPLY_NS * (double)al.a;
    return attn_alignment_fwd(&al);
}

attn_status attn_dot_attention_fwd(attn_context *ctx, const attn_tensor *c, const attn_tensor *alignment,
                                   const attn_tensor *energy, const attn_tensor *q, const attn_tensor *k,
                                   const attn_tensor *h, float scale, const int32_t *lengths) {
    attn_widened wide = {.ctx = ctx};
    attn_status status = ATTN_OK;
    const attn_tensor **inputs[] = {&q, &k, &h};
    for (size_t i = 0; i < ATTN_COUNT(inputs) && status == ATTN_OK; i++) status = attn_widen_input(&wide, inputs[i]);
    if (status == ATTN_OK) status = attn_widen_output(&wide, &c, false);
    if (status == ATTN_OK) status = dot_fwd(ctx, c, alignment, energy, q, k, h, scale, lengths);
    return attn_widened_end(&wide, status);
}

static attn_status dot_bwd(attn_context *ctx, const attn_tensor *dq, const attn_tensor *dk, const attn_tensor *dh,
                           const attn_tensor *dc, const attn_tensor *q, const attn_tensor *k, const attn_tensor *h,
                           const attn_tensor *alignment, float scale, const int32_t *lengths, bool accumulate) {
    static const char where[] = "attn_dot_attention_bwd";
    attn_alignment al;
    ATTN_TRY(attn_alignment_memory(&al, ctx, where, &names, q, k, h, lengths));
    if (!dc || !alignment) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is NULL", where, dc ? "alignment" : "dc");
    ATTN_TRY(attn_alignment_rows(&al, &al.dcontext, where, "dc", dc, al.t, al.c));
    ATTN_TRY(attn_alignment_rows(&al, &al.alignment, where, "alignment", alignment, al.t, al.s));
    ATTN_TRY(attn_alignment_rows(&al, &al.dquery, where, "dq", dq, al.t, al.a));
    ATTN_TRY(attn_alignment_rows(&al, &al.dkey, where, "dk", dk, al.s, al.a));
    ATTN_TRY(attn_alignment_rows(&al, &al.dvalue, where, "dh", dh, al.s, al.c));
    al.scale = scale;
    al.accumulate = accumulate;
    al.energies_bwd = energies_bwd;
    al.energy_ns = 2 * MULTIPLY_NS * (double)al.a;
    return attn_alignment_bwd(&al);
}

attn_status attn_dot_attention_bwd(attn_context *ctx, const attn_tensor *dq, const attn_tensor *dk,
                                   const attn_tensor *dh, const attn_tensor *dc, const attn_tensor *q,
                                   const attn_tensor *k, const attn_tensor *h, const attn_tensor *alignment,
                                   float scale, const int32_t *lengths, bool accumulate) {
    attn_widened wide = {.ctx = ctx};
    attn_status status = ATTN_OK;
    const attn_tensor **inputs[] = {&dc, &q, &k, &h};
    for (size_t i = 0; i < ATTN_COUNT(inputs) && status == ATTN_OK; i++) status = attn_widen_input(&wide, inputs[i]);
    const attn_tensor **outputs[] = {&dq, &dk, &dh};
    for (size_t i = 0; i < ATTN_COUNT(outputs) && status == ATTN_OK; i++)
        status = attn_widen_output(&wide, outputs[i], accumulate);
    if (status == ATTN_OK) status = dot_bwd(ctx, dq, dk, dh, dc, q, k, h, alignment, scale, lengths, accumulate);
    return attn_widened_end(&wide, status);
}
