/* parameters.h: what the tape needs of parameters beyond their public face. */
#ifndef ATTN_NN_PARAMETERS_H
#define ATTN_NN_PARAMETERS_H

#include "ops/gemm.h"
#include "ops/quantised.h"

/* Right sides made of a weight W (N, K), kept until attn_parameter_touch. */
typedef enum attn_form {
    ATTN_FORM_FORWARD,  /* Wᵀ (K, N), for y = x Wᵀ */
    ATTN_FORM_BACKWARD, /* W (N, K), for dx = dy W */
    ATTN_FORMS
} attn_form;

/* Adds a matrix (n, k) that stays what it is in memory: for tapes that do not record, in linears and embeddings. Takes
 * it, on failure too. */
attn_status attn_parameters_add_quantised(attn_parameters *set, attn_parameter **out, const char *name,
                                          attn_quantised *takes, size_t n, size_t k);
/* Where such matrices' memory may come from. */
attn_quantised_store *attn_parameters_store(attn_parameters *set);
/* Fails where the parameter is kept as integers, which what `wants` it cannot do with. */
attn_status attn_parameter_needs_floats(const attn_parameter *parameter, const char *wants);

/* So many rows make a product worth doing by itself: packing is a small part of it. */
enum { ATTN_MANY_ROWS = 192 };

attn_context *attn_parameters_context(const attn_parameters *set);
/* NULL with the error set in the context of the parameter's set. */
const attn_packed *attn_parameter_form(attn_parameter *parameter, attn_form form, attn_panel_form panels);
/* gemm, without its right side, times a form while the parameter is learned: a weight has one product between two of
 * its steps, so where there are many rows it is packed in passing, or into *shared, which all weights use in turn; for
 * few rows there is the parameter's own form. */
attn_status attn_parameter_multiply_once(attn_gemm *gemm, attn_parameter *parameter, attn_form form,
                                         attn_panel_form panels, attn_packed *shared);
/* The gradient's memory, made (as zeros) if there was none; NULL as above. */
float *attn_parameter_grad(attn_parameter *parameter);
/* The same for a writer of all of it: *accumulate false where it is to be replaced. */
float *attn_parameter_grad_begin(attn_parameter *parameter, bool *accumulate);
/* From here on the first writer of each gradient replaces it; the end clears those that had none. */
void attn_parameters_replace_grad(attn_parameters *set);
void attn_parameters_replaced_grad(attn_parameters *set);

#endif
