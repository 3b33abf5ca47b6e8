/* attention_row.h: what attention.c and attention_bwd.c share: the sizes of a call, a sequence, a row of scores. */
#ifndef ATTN_TESTS_REF_ATTENTION_ROW_H
#define ATTN_TESTS_REF_ATTENTION_ROW_H

#include "ref/attention.h"

#define REF_U 0x1p-24
#define REF_TINY 0x1p-100

struct call {
    const ref_attention *r;
    attn_attention_options o;
    bool packed;
    size_t sequences, heads, key_heads, group, t, s, d, dv; /* t, s: of the tensors */
    double scale, keep;                                     /* keep = 1 − p */
    uint32_t threshold;                                     /* p · 2¹⁶ */
};

struct sequence {
    size_t b, first_q, first_k; /* packed: where it begins */
    size_t queries, keys;       /* T_b, S_b */
    size_t rows, key_rows;      /* with padding */
    int64_t offset, id;         /* position of query 0; for dropout */
};

/* A query against the keys of its sequence. What is not seen has no values. */
struct row {
    bool *seen, any;
    double *z, *size;                        /* score with all that is added; scale Σ |q_k k_jk| */
    double *tanh, *slope;                    /* of the cap: tanh(x/cap) and cap' */
    double *product, *beside;                /* |δz| from the product, from the rest */
    double *factor, *p;                      /* of dropout; e^(z − lse) */
    double *ds, *ds_error;                   /* gradient of the score before the cap, times cap' */
    double *o, *o_error;                     /* (Dv) */
    double lse, lse_error, sink, sink_error; /* sink: its weight */
    double max_product, mean_error, mean_beside;
    double *memory;
};

struct call ref_call(const ref_attention *r);
struct sequence ref_sequence(const struct call *c, size_t b);
bool ref_visible(const struct call *c, const struct sequence *q, size_t h, size_t i, size_t j);
/* Place of row i, which counts from the tensor's first, and the row's number among all. */
ptrdiff_t ref_row_place(const struct call *c, const attn_tensor *t, size_t b, size_t h, size_t i);
size_t ref_row_number(const struct call *c, const struct sequence *q, size_t heads, size_t h, size_t rows, size_t i);
size_t ref_bias_number(const attn_tensor *bias, size_t b, size_t h, size_t i, size_t j);
/* rows × width of a head, from row `first` on; free it. */
double *ref_gather(const struct call *c, const attn_tensor *t, const struct sequence *q, size_t h, size_t first,
                   size_t rows, size_t width);
void ref_row_backward(ref_attention *r, const struct call *c, const struct sequence *q, size_t h, size_t i,
                      const double *query, const double *key, const double *value, struct row *w);

#endif
