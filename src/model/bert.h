/* bert.h: the encoder of Devlin et al. 2019, for texts as vectors. */
#ifndef ATTN_MODEL_BERT_H
#define ATTN_MODEL_BERT_H

#include "model/model.h"

typedef struct attn_bert attn_bert;

/* Rows of tokens of one or more sequences, one behind the other. */
typedef struct attn_bert_rows {
    size_t count;
    const int32_t *id, *position, *type; /* (count); positions from 0 in each sequence */
    size_t sequences;
    const int32_t *cu; /* (sequences + 1): sequence s is rows cu[s] … cu[s+1]−1 */
} attn_bert_rows;

/* NULL, with the error set, for a model of another kind. */
const attn_bert *attn_bert_of(const attn_model *model);
size_t attn_bert_state_size(const attn_bert *m);
/* The last layer's states (count, C). */
attn_var *attn_bert_states(const attn_bert *m, attn_tape *tape, const attn_bert_rows *rows);
/* tanh(W h + b) of states (…, C); a model without a pooler fails the tape. */
attn_var *attn_bert_pool(const attn_bert *m, attn_tape *tape, attn_var *states);

#endif
