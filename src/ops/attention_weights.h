/* attention_weights.h: blocks of the rows that a look at the weights asks for.
 *
 * The heads of a block share one key head. Either all heads are looked at: then blocks are those of the operator, in
 * the order (position, head). Or some are: then each is treated as a key head of its own, with a group of 1. The same
 * holds where sums over rows are wanted, whose lanes must belong to one head.
 *
 * Asked row r of a sequence is query attn_look_query(…, r); those that the sequence has are r in low … high−1. */
#ifndef ATTN_OPS_ATTENTION_WEIGHTS_H
#define ATTN_OPS_ATTENTION_WEIGHTS_H

#include "ops/attention.h"
#include <attn/weights.h>

typedef struct attn_look {
    attn_attention at; /* group 1 where heads are treated one by one */
    size_t group;      /* query heads to a key head, really */
    const int32_t *heads;
    const int64_t *rows;
    size_t head_count, row_count; /* H', R */
    bool copy_k;
} attn_look;

/* Units are key heads or, treated one by one, heads that are looked at. */
static inline size_t attn_look_units(const attn_look *look) {
    return look->at.group == 1 ? look->head_count : look->at.key_heads;
}
/* What attn_block_set takes for a key head, and the head of K. */
static inline size_t attn_look_head(const attn_look *look, size_t unit) {
    return look->heads ? (size_t)look->heads[unit] : unit;
}
static inline size_t attn_look_key_head(const attn_look *look, size_t unit) {
    return attn_look_head(look, unit) * look->at.group / look->group;
}
static inline int64_t attn_look_query(const attn_look *look, const attn_sequence *x, size_t r) {
    if (!look->rows) return (int64_t)r;
    return look->rows[r] < 0 ? (int64_t)x->t + look->rows[r] : look->rows[r];
}
/* One by one: as if every query head had its own key head. */
attn_look attn_look_single(const attn_look *look);

typedef struct attn_look_block {
    attn_block block;
    attn_extras extras;
    float *q;                   /* [D][lanes] */
    float lse[ATTN_MAX_LANES];  /* in units of log 2 */
    uint64_t live;              /* lanes that were asked for and whose LSE is not −inf */
    size_t row[ATTN_MAX_LANES]; /* the asked row of each lane; SIZE_MAX: not asked for */
} attn_look_block;

void attn_look_block_layout(attn_look_block *b, const attn_look *look, attn_scratch *scratch, bool counting);
/* A block of asked pairs of (row, head), which count first … end−1 with pair = row · group + member. Returns the pair
 * behind it, at most `end`. Without lse, scores are all that is wanted. The queries are loaded by the second call. */
size_t attn_look_block_set(attn_look_block *b, const attn_look *look, const attn_sequence *x, size_t unit, size_t first,
                           size_t end);
void attn_look_block_load(attn_look_block *b, const attn_look *look);
/* Asked rows that the sequence has. */
void attn_look_rows(const attn_look *look, const attn_sequence *x, size_t *low, size_t *high);

/* Weights [key][lane] of a tile that is not NONE. k: the row of its first key; job: what else is wanted of it. */
bool attn_look_weights(float *s, attn_look_block *b, const attn_look *look, const attn_tile *tile, const float *k,
                       ptrdiff_t k_row, attn_weights_tile job);

/* Keys `key` and `rows` more of K: as they lie, or copied to `copy`. */
const float *attn_look_keys(const attn_look *look, const attn_sequence *x, size_t unit, size_t key, size_t rows,
                            float *copy, ptrdiff_t *k_row);

/* Column sums and block maxima. */
attn_status attn_look_columns(const attn_look *look, const attn_attention_look *wanted);

/* Checks everything but outputs. */
attn_status attn_look_check(attn_look *look, attn_context *ctx, const char *where, const attn_tensor *q,
                            const attn_tensor *k, const attn_attention_options *options);

#endif
