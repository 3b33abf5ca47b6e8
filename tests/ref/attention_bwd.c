/* What one row adds to the gradients and to their bounds; the derivation is in attention.h. */
#include "ref/attention_row.h"

#include <math.h>
#include <stdlib.h>

/* Of a sum of n products, relative to the sum of their absolute values. */
static double sum_error(size_t n) { return (16 + sqrt((double)n)) * REF_U; }

static void add(ref_array *to, size_t number, double term, double error, double sum) {
    to->value[number] += term;
    to->bound[number] += error + sum * fabs(term) + REF_TINY;
}

/* ds and ds_error of the row, which go into dQ and dK; dBias on the way. */
static void row_ds(ref_attention *r, const struct call *c, const struct sequence *q, size_t h, size_t i,
                   const double *value, const double *dout, double delta, double delta_error, struct row *w) {
    const attn_tensor *bias = c->o.bias;
    size_t shared = 1; /* scores that share an element of the bias, about */
    for (int d = 0; bias && d < 4; d++) {
        const size_t sizes[4] = {c->sequences, c->heads, c->t, c->s};
        if (bias->shape[d] == 1) shared *= sizes[d] ? sizes[d] : 1;
    }
    r->dbias.sum_error = sum_error(shared);
    for (size_t j = 0; j < q->keys; j++) {
        if (!w->seen[j]) continue;
        double g = 0, size = 0, p = w->p[j], t = w->tanh[j];
        for (size_t x = 0; w->factor[j] != 0 && x < c->dv; x++) {
            double product = dout[x] * value[j * c->dv + x];
            g += product, size += fabs(product);
        }
        g *= w->factor[j], size *= w->factor[j];
        double p_error = 16 * REF_U + w->product[j] + w->beside[j] + w->lse_error + 2 * REF_U * fabs(w->z[j]);
        double ds = p * (g - delta);
        double error = (p * p_error + REF_TINY) * fabs(g - delta) +
                       p * (6 * REF_U * size + delta_error + 2 * REF_U * (size + fabs(delta))) + 2 * REF_U * fabs(ds);
        if (isinf(delta_error)) error = (double)INFINITY; /* a weight that vanishes times an infinite value */
        if (bias) add(&r->dbias, ref_bias_number(bias, q->b, h, i, j), ds, error, r->dbias.sum_error);
        double bend = c->o.softcap != 0 ? fabs(2 * t * w->slope[j] / (double)c->o.softcap) : 0;
        w->ds[j] = ds * w->slope[j];
        w->ds_error[j] = error * w->slope[j] +
                         fabs(ds) * (16 * REF_U * t * t + 2 * REF_U + bend * 4 * REF_U * w->size[j]) +
                         c->r->weight_unit * fabs(w->ds[j]);
    }
}

void ref_row_backward(ref_attention *r, const struct call *c, const struct sequence *q, size_t h, size_t i,
                      const double *query, const double *key, const double *value, struct row *w) {
    double key_sum = sum_error(q->queries * c->group), query_sum = sum_error(q->keys);
    size_t kh = h / c->group, row = ref_row_number(c, q, c->heads, h, c->t, q->first_q + i);
    if (!w->any && !c->o.sinks) return;
    double dlse = r->dlse ? ref_load(r->dlse, ref_row_place(c, r->dlse, q->b, h, q->first_q + i)) : 0;
    if (!w->any) { /* LSE is the sink */
        if (w->sink > 0) add(&r->dsinks, h, dlse, 0, sum_error(c->sequences * c->t));
        return;
    }
    double *dout = ref_gather(c, r->dout, q, h, q->first_q + i, 1, c->dv);
    double delta = 0, size = 0, delta_error = 2 * REF_U * fabs(dlse);
    for (size_t x = 0; x < c->dv; x++) {
        delta += dout[x] * w->o[x], size += fabs(dout[x] * w->o[x]);
        delta_error += fabs(dout[x]) * (w->o_error[x] + (r->q->dtype == ATTN_F32 ? 0 : ref_ulp(r->q->dtype, w->o[x])));
    }
    delta -= dlse, delta_error += 4 * REF_U * size;
    row_ds(r, c, q, h, i, value, dout, delta, delta_error, w);
    if (w->sink > 0) {
        double p_error = 16 * REF_U + w->sink_error + w->lse_error + 2 * REF_U * fabs((double)c->o.sinks[h]);
        add(&r->dsinks, h, -w->sink * delta, w->sink * (p_error * fabs(delta) + delta_error),
            sum_error(c->sequences * c->t));
    }
    for (size_t j = 0; j < q->keys; j++) {
        if (!w->seen[j]) continue;
        size_t key_row = ref_row_number(c, q, c->key_heads, kh, c->s, q->first_k + j);
        double weight = w->p[j] * w->factor[j], ds = c->scale * w->ds[j], ds_error = fabs(c->scale) * w->ds_error[j];
        double p_error = 16 * REF_U + w->product[j] + w->beside[j] + w->lse_error + 2 * REF_U * fabs(w->z[j]);
        double weight_error = weight * (p_error + (c->threshold ? 4 * REF_U : 0) + c->r->weight_unit) + REF_TINY;
        for (size_t k = 0; k < c->d; k++) {
            double a = key[j * c->d + k], b = query[k];
            add(&r->dq, row * c->d + k, ds * a, ds_error * fabs(a), query_sum);
            add(&r->dk, key_row * c->d + k, ds * b, ds_error * fabs(b), key_sum);
        }
        for (size_t x = 0; w->factor[j] != 0 && x < c->dv; x++)
            add(&r->dv, key_row * c->dv + x, weight * dout[x], weight_error * fabs(dout[x]), key_sum);
    }
    free(dout);
}
