/* quantised.h: products with weights of small integers, in double, from rows as files have them. */
#ifndef ATTN_TESTS_REF_QUANTISED_H
#define ATTN_TESTS_REF_QUANTISED_H

#include "kernel/quantised.h"

/* Bytes of a row of k numbers in a file. */
size_t ref_quantised_row_bytes(attn_quantised_form form, size_t k);
/* Number k of a row is scale · q + minimum. scale_of_row: of I8. */
typedef struct ref_number {
    double scale, minimum;
    int q;
} ref_number;
ref_number ref_quantised_number(attn_quantised_form form, const unsigned char *row, float scale_of_row, size_t k);

/* x rounded in blocks of 32: q[k] and the scale of each block. */
void ref_quantise(int *q, float *scale, const float *x, size_t k);
/* Whether a row has a second part: its largest block is more than 4 times the mean one. What the first leaves of x is
 * then rounded in the same way. */
bool ref_quantised_uneven(const float *scale, size_t k);
/* Σ_k W[k] · scale[k / 32] · q[k]; *bound: the error that the kernels' arithmetic may make. */
double ref_quantised_dot(attn_quantised_form form, const unsigned char *row, float scale_of_row, const int *q,
                         const float *scale, size_t k, double *bound);

#endif
