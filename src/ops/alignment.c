/* alignment.c: attention over a memory, once energies are there. */
#include "ops/alignment.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_GRAIN = 64, COLUMN_GRAIN = 128 };

static size_t length_of(const attn_alignment *al, size_t b) { return al->lengths ? (size_t)al->lengths[b] : al->s; }

/* ---- arguments ------------------------------------------------------------------------------------ */

attn_status attn_alignment_rows(attn_alignment *al, attn_rows *rows, const char *where, const char *name,
                                const attn_tensor *t, size_t n, size_t width) {
    *rows = (attn_rows){NULL, 0, 0};
    if (!t) return ATTN_OK;
    char what[80];
    snprintf(what, sizeof what, "%s: %s", where, name);
    ATTN_TRY(attn_check_strided(al->ctx, what, t, 3, (size_t[]){al->b, n, width}));
    *rows = (attn_rows){t->data, t->stride[0], t->stride[1]};
    return ATTN_OK;
}

attn_status attn_alignment_memory(attn_alignment *al, attn_context *ctx, const char *where,
                                  const attn_alignment_names *names, const attn_tensor *query, const attn_tensor *key,
                                  const attn_tensor *value, const int32_t *lengths) {
    const char *name[] = {names->query, names->key, names->value};
    const attn_tensor *tensors[] = {query, key, value};
    for (size_t i = 0; i < ATTN_COUNT(tensors); i++) {
        if (!tensors[i]) return attn_fail(ctx, ATTN_E_ARGUMENT, "%s: %s is NULL", where, name[i]);
        if (tensors[i]->rank != 3)
            return attn_fail(ctx, ATTN_E_SHAPE, "%s: %s has rank %d, expected 3", where, name[i], tensors[i]->rank);
    }
    *al = (attn_alignment){.ctx = ctx, .kernels = ctx->kernels, .lengths = lengths};
    al->b = query->shape[0], al->t = query->shape[1], al->a = query->shape[2];
    al->s = key->shape[1], al->c = value->shape[2];
    char what[80];
    snprintf(what, sizeof what, "%s: lengths", where);
    ATTN_TRY(attn_check_lengths(ctx, what, lengths, al->b, al->s));
    ATTN_TRY(attn_alignment_rows(al, &al->query, where, names->query, query, al->t, al->a));
    ATTN_TRY(attn_alignment_rows(al, &al->key, where, names->key, key, al->s, al->a));
    return attn_alignment_rows(al, &al->value, where, names->value, value, al->s, al->c);
}

/* ---- forward -------------------------------------------------------------------------------------- */

static void softmax_of(const attn_alignment *al, size_t b, size_t i) {
    size_t length = length_of(al, b), rest = al->s - length;
    float *alpha = attn_row_at(&al->alignment, b, i);
    if (al->energy.data) {
        float *e = attn_row_at(&al->energy, b, i);
        memcpy(e, alpha, length * sizeof *e);
        for (size_t j = length; j < al->s; j++) e[j] = -INFINITY;
    }
    float lse = al->kernels->softmax_row(alpha, alpha, length);
    memset(alpha + length, 0, rest * sizeof *alpha);
    if (al->lse.data) *attn_row_at(&al->lse, b, i) = lse;
}

static void context_of(const attn_alignment *al, size_t b, size_t i, size_t first, size_t n) {
    al->kernels->rows_mix(attn_row_at(&al->context, b, i) + first, attn_row_at(&al->alignment, b, i), 1,
                          attn_row_at(&al->value, b, 0) + first, al->value.row, length_of(al, b), n, false);
}

/* All of rows first … end−1 of B·T. */
static void rows_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    for (size_t r = first; r < end; r++) {
        size_t b = r / al->t, i = r % al->t;
        al->energies(al, attn_row_at(&al->alignment, b, i), b, i, 0, length_of(al, b));
        softmax_of(al, b, i);
        context_of(al, b, i, 0, al->c);
    }
}

/* The same in three steps, for few rows: pieces of rows. Index r·pieces + piece. */
static void energies_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    size_t pieces = (al->s - 1) / KEY_GRAIN + 1;
    for (size_t p = first; p < end; p++) {
        size_t b = p / pieces / al->t, i = p / pieces % al->t, key = p % pieces * KEY_GRAIN, length = length_of(al, b);
        if (key >= length) continue;
        al->energies(al, attn_row_at(&al->alignment, b, i) + key, b, i, key, ATTN_MIN((size_t)KEY_GRAIN, length - key));
    }
}

static void softmax_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    for (size_t r = first; r < end; r++) softmax_of(al, r / al->t, r % al->t);
}

static void context_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    size_t pieces = (al->c - 1) / COLUMN_GRAIN + 1;
    for (size_t p = first; p < end; p++) {
        size_t column = p % pieces * COLUMN_GRAIN;
        context_of(al, p / pieces / al->t, p / pieces % al->t, column, ATTN_MIN((size_t)COLUMN_GRAIN, al->c - column));
    }
}

attn_status attn_alignment_fwd(attn_alignment *al) {
    attn_context *ctx = al->ctx;
    size_t rows = al->b * al->t;
    float *scratch = NULL;
    if (!al->alignment.data) {
        size_t count;
        if (!attn_size_mul(&count, rows, al->s)) return attn_fail(ctx, ATTN_E_NOMEM, "alignment: B·T·S overflows");
        scratch = attn_alloc(ctx, count, sizeof *scratch);
        if (!scratch) return ATTN_E_NOMEM;
        al->alignment = (attn_rows){scratch, (ptrdiff_t)(al->t * al->s), (ptrdiff_t)al->s};
    }
    double pairs = (double)rows * (double)al->s, energy_ns = pairs * al->energy_ns,
           mix_ns = pairs * (double)al->c * 0.08;
    if (attn_pieces_suffice(ctx, rows, energy_ns + mix_ns)) {
        attn_for_ranges(ctx, rows, 1, energy_ns + mix_ns, rows_range, al);
    } else {
        if (al->s > 0) attn_for_ranges(ctx, rows * ((al->s - 1) / KEY_GRAIN + 1), 1, energy_ns, energies_range, al);
        attn_for_ranges(ctx, rows, 1, pairs * 2, softmax_range, al);
        if (al->c > 0) attn_for_ranges(ctx, rows * ((al->c - 1) / COLUMN_GRAIN + 1), 1, mix_ns, context_range, al);
    }
    attn_release(ctx, scratch);
    return ATTN_OK;
}

/* ---- backward ------------------------------------------------------------------------------------- */

static bool wants_energies(const attn_alignment *al) { return al->dquery.data || al->dkey.data || al->dv_parts; }

static void de_of(const attn_alignment *al, size_t b, size_t i) {
    size_t length = length_of(al, b);
    float *de = attn_row_at(&al->de, b, i);
    al->kernels->rows_dot(de, attn_row_at(&al->dcontext, b, i), attn_row_at(&al->value, b, 0), al->value.row, length,
                          al->c, 1.0f);
    al->kernels->softmax_row_bwd(de, de, attn_row_at(&al->alignment, b, i), length, al->scale, false);
}

/* Rows past the length of a gradient that is written, not added to. */
static void clear_padding(const attn_alignment *al, const attn_rows *rows, size_t b, size_t first, size_t n) {
    if (al->accumulate) return;
    for (size_t j = length_of(al, b); j < al->s; j++)
        memset(attn_row_at(rows, b, j) + first, 0, n * sizeof *rows->data);
}

static void energies_bwd_of(const attn_alignment *al, size_t b, size_t first, size_t n) {
    al->energies_bwd(al, b, first, n);
    if (al->dkey.data) clear_padding(al, &al->dkey, b, first, n);
}

static void dvalue_of(const attn_alignment *al, size_t b, size_t first, size_t n) {
    for (size_t j = 0; j < length_of(al, b); j++)
        al->kernels->rows_mix(attn_row_at(&al->dvalue, b, j) + first, attn_row_at(&al->alignment, b, 0) + j,
                              al->alignment.row, attn_row_at(&al->dcontext, b, 0) + first, al->dcontext.row, al->t, n,
                              al->accumulate);
    clear_padding(al, &al->dvalue, b, first, n);
}

static void batch_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    for (size_t b = first; b < end; b++) {
        if (wants_energies(al)) {
            for (size_t i = 0; i < al->t; i++) de_of(al, b, i);
            energies_bwd_of(al, b, 0, al->a);
        }
        if (al->dvalue.data) dvalue_of(al, b, 0, al->c);
    }
}

static void de_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    for (size_t r = first; r < end; r++) de_of(al, r / al->t, r % al->t);
}

static void energies_bwd_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    size_t pieces = (al->a - 1) / COLUMN_GRAIN + 1;
    for (size_t p = first; p < end; p++) {
        size_t column = p % pieces * COLUMN_GRAIN;
        energies_bwd_of(al, p / pieces, column, ATTN_MIN((size_t)COLUMN_GRAIN, al->a - column));
    }
}

static void dvalue_range(void *arg, size_t first, size_t end) {
    const attn_alignment *al = arg;
    size_t pieces = (al->c - 1) / COLUMN_GRAIN + 1;
    for (size_t p = first; p < end; p++) {
        size_t column = p % pieces * COLUMN_GRAIN;
        dvalue_of(al, p / pieces, column, ATTN_MIN((size_t)COLUMN_GRAIN, al->c - column));
    }
}

attn_status attn_alignment_bwd(attn_alignment *al) {
    attn_context *ctx = al->ctx;
    size_t count, rows = al->b * al->t;
    if (!attn_size_mul(&count, rows, al->s)) return attn_fail(ctx, ATTN_E_NOMEM, "alignment: B·T·S overflows");
    float *scratch = attn_alloc(ctx, wants_energies(al) ? count : 0, sizeof *scratch);
    if (!scratch) return ATTN_E_NOMEM;
    al->de = (attn_rows){scratch, (ptrdiff_t)(al->t * al->s), (ptrdiff_t)al->s};
    double pairs = (double)count, mix_ns = pairs * (double)al->c * 0.1, energy_ns = pairs * al->energy_ns * 1.3;
    if (attn_pieces_suffice(ctx, al->b, 2 * mix_ns + energy_ns)) {
        attn_for_ranges(ctx, al->b, 1, 2 * mix_ns + energy_ns, batch_range, al);
    } else {
        if (wants_energies(al)) {
            attn_for_ranges(ctx, rows, 1, mix_ns, de_range, al);
            if (al->a > 0)
                attn_for_ranges(ctx, al->b * ((al->a - 1) / COLUMN_GRAIN + 1), 1, energy_ns, energies_bwd_range, al);
        }
        if (al->dvalue.data && al->c > 0)
            attn_for_ranges(ctx, al->b * ((al->c - 1) / COLUMN_GRAIN + 1), 1, mix_ns, dvalue_range, al);
    }
    attn_release(ctx, scratch);
    return ATTN_OK;
}
