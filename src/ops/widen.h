/* widen.h: bf16 arguments of operations that compute in f32: copies in f32 before, rounded results after.
 *
 *     attn_widened wide = {.ctx = ctx};
 *     attn_status status = attn_widen_input(&wide, &x);      // x points to a copy if it was bf16
 *     if (status == ATTN_OK) status = attn_widen_output(&wide, &y, accumulate);
 *     if (status == ATTN_OK) status = operation(ctx, y, x);
 *     return attn_widened_end(&wide, status);                                  // rounds y */
#ifndef ATTN_OPS_WIDEN_H
#define ATTN_OPS_WIDEN_H

#include "ops/check.h"

enum { ATTN_WIDENED_MOST = 12 };
typedef struct attn_widened {
    attn_context *ctx;
    struct {
        attn_tensor t;           /* f32, contiguous */
        const attn_tensor *from; /* bf16 */
        bool written;
    } copy[ATTN_WIDENED_MOST];
    size_t n;
} attn_widened;

/* Replaces *t if it is bf16 with unit last stride; anything else is left for the operation to check. */
attn_status attn_widen_input(attn_widened *wide, const attn_tensor **t);
attn_status attn_widen_output(attn_widened *wide, const attn_tensor **t, bool accumulate);
/* Passes the status on. */
attn_status attn_widened_end(attn_widened *wide, attn_status status);

#endif
