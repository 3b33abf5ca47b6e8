/* cross_entropy.h: the losses of rows one by one, where their sum is not enough. */
#ifndef ATTN_OPS_CROSS_ENTROPY_H
#define ATTN_OPS_CROSS_ENTROPY_H

#include <attn/ops.h>

/* nll[r] = −log softmax(logits)[targets[r]] for each row, and where it is wanted its gradient, dlogits = softmax −
 * one-hot, which may be logits. targets are not negative. */
attn_status attn_token_losses(attn_context *ctx, double *nll, const attn_tensor *dlogits, const attn_tensor *logits,
                              const int32_t *targets);

#endif
