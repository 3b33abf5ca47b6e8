/* check.h: what every operation on tensors does first: checks of its arguments, and the division of work.
 *
 *     ATTN_TRY(attn_check_like(ctx, "attn_softmax_fwd: y", y, x));
 *     attn_for_ranges(ctx, rows, 1, 0.5 * rows * columns, softmax_rows, &job); */
#ifndef ATTN_OPS_CHECK_H
#define ATTN_OPS_CHECK_H

#include "base/base.h"
#include <attn/tensor.h>

/* A size that may be anything. */
#define ATTN_ANY SIZE_MAX

/* `what` is the function and the argument; the sentence begins with it. Each refuses a NULL tensor, NULL data where
 * there are elements, and another dtype than f32. */
attn_status attn_check_dense(attn_context *ctx, const char *what, const attn_tensor *t); /* contiguous, any shape */
attn_status attn_check_shape(attn_context *ctx, const char *what, const attn_tensor *t, int rank, const size_t *shape);
attn_status attn_check_like(attn_context *ctx, const char *what, const attn_tensor *t, const attn_tensor *like);
/* Rank 3 at most, any strides but the last, which is 1. */
attn_status attn_check_strided(attn_context *ctx, const char *what, const attn_tensor *t, int rank,
                               const size_t *shape);

/* The same for any dtype. */
attn_status attn_check_view(attn_context *ctx, const char *what, const attn_tensor *t, int rank, const size_t *shape);

/* t as rows of its last dimension: their number and length. */
attn_status attn_check_rows(attn_context *ctx, const char *what, const attn_tensor *t, size_t *rows, size_t *columns);

/* lengths: NULL, or n ints in 0 … longest. */
attn_status attn_check_lengths(attn_context *ctx, const char *what, const int32_t *lengths, size_t n, size_t longest);

typedef void attn_range(void *arg, size_t first, size_t end);

/* Runs fn over 0 … n−1 in ranges that begin at multiples of grain. ns: what all of it costs on one thread, about;
 * under ATTN_SMALL_WORK the calling thread does it alone. What fn writes may not depend on the division. */
void attn_for_ranges(attn_context *ctx, size_t n, size_t grain, double ns, attn_range *fn, void *arg);
#define ATTN_SMALL_WORK 50000.0
/* True if work of ns nanoseconds in n pieces goes to several threads with pieces enough for each. */
static inline bool attn_pieces_suffice(const attn_context *ctx, size_t n, double ns) {
    return ctx->threads == 1 || ns < ATTN_SMALL_WORK || n >= 2 * (size_t)ctx->threads;
}

static inline float *attn_data(const attn_tensor *t) { return t ? t->data : NULL; }

#endif
