/* ops.h: the operations in naive double code, for the tests. Forward only: gradients are differences of these. */
#ifndef ATTN_TESTS_REF_OPS_H
#define ATTN_TESTS_REF_OPS_H

#include <attn/nn.h>

double ref_activation(double x, attn_activation act);
double ref_activation_slope(double x, attn_activation act);
double ref_softmax(double *y, const double *x, size_t n); /* returns log-sum-exp; y may be NULL */
double ref_cross_entropy(const double *x, size_t n, size_t target, double smoothing);
/* mean NULL: RMS */
void ref_norm(double *y, double *mean, double *rstd, const double *x, const double *gain, const double *bias, size_t n,
              double epsilon);
/* One sequence: c (T, C), alignment, energy (T, S; may be NULL) from sq (T, A), hk (S, A), v (A), h (S, C). v NULL: the
 * dot score times scale. Keys from `length` on are not looked at. */
typedef struct ref_alignment {
    size_t t, s, a, c, length;
    const double *query, *key, *v, *value;
    double scale;
} ref_alignment;
void ref_attend(const ref_alignment *r, double *c, double *alignment, double *energy, double *lse);
void ref_gru_point(double *y, const double *gx, const double *gh, const double *h, size_t size);
void ref_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
