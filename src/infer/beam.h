/* beam.h: batched beam search over any model's decoder (see model/model.h). */
#ifndef ATTN_INFER_BEAM_H
#define ATTN_INFER_BEAM_H

#include "model/model.h"

/* One sentence of a search: in, the source tokens and, to force a translation, its ids (with </s>); out, hypotheses
 * without text and spans, best first. The hypotheses' arrays are given to the caller (attn_release). */
typedef struct attn_search {
    const attn_tokens *source;
    const int32_t *forced;
    size_t forced_count;
    attn_hypothesis *hypothesis;
    size_t count, context_size, state_size;
} attn_search;

/* The memory of a search, kept for the next one; begins as zeros. */
typedef struct attn_beam_tapes {
    attn_tape *source[2], *step[2]; /* what is read, what is written */
    attn_tape *single;              /* steps that attend to one position alone */
} attn_beam_tapes;
attn_status attn_beam_search(const attn_model *model, attn_beam_tapes *tapes, attn_search *sentences, size_t n,
                             const attn_translate_options *options);
void attn_beam_tapes_free(attn_beam_tapes *tapes);
void attn_hypothesis_clear(attn_context *ctx, attn_hypothesis *hypothesis);

#endif
