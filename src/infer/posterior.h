/* posterior.h: which source position explains the token that came. */
#ifndef ATTN_INFER_POSTERIOR_H
#define ATTN_INFER_POSTERIOR_H

#include "model/model.h"

/* One row of a soft alignment, α_i (width), becomes the posterior. before: the decoder as step i found it, of one beam;
 * slot: the sentence in its batch; last: y_{i−1}; next: y_i. The tape is reset. */
attn_status attn_posterior_row(float *alignment, const attn_model *model, attn_tape *tape, const attn_decoder *before,
                               size_t slot, size_t width, int32_t last, int32_t next);

#endif
