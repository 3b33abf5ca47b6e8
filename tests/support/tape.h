/* tape.h: a loss whose gradient with respect to y is known: Σ w ∘ y. */
#ifndef ATTN_TEST_SUPPORT_TAPE_H
#define ATTN_TEST_SUPPORT_TAPE_H

#include "support/test.h"
#include <attn/nn.h>

/* y of rank 3; w (1, elements of y), whose values are dL/dy. */
static inline attn_var *test_weighted_sum(attn_tape *tape, attn_var *y, attn_parameter *w) {
    if (!y) return NULL;
    const attn_tensor *t = attn_var_value(y);
    const size_t batch = t->shape[0], steps = t->shape[1];
    attn_var **rows = calloc(batch * steps, sizeof *rows);
    for (size_t b = 0; b < batch; b++)
        for (size_t i = 0; i < steps; i++) rows[b * steps + i] = attn_tape_row(tape, attn_tape_row(tape, y, b), i);
    attn_var *sum = attn_tape_linear(tape, attn_tape_concat(tape, rows, batch * steps), w, NULL, NULL, ATTN_IDENTITY);
    free(rows);
    return sum;
}

static inline attn_parameter *test_parameter(attn_parameters *set, const char *name, int rank, const size_t *shape,
                                             float scale) {
    attn_parameter *p;
    assert_ok(attn_parameters_add(set, &p, name, ATTN_INIT_NORMAL, scale, rank, shape));
    return p;
}

#define SHAPE(...) ((const size_t[]){__VA_ARGS__})

#endif
