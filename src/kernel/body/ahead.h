/* ahead.h: memory that is fetched into the L2 cache while something else is computed. */
#ifndef ATTN_KERNEL_BODY_AHEAD_H
#define ATTN_KERNEL_BODY_AHEAD_H

#include "kernel/attention.h"

/* The next row begins; false if there is none. */
static __attribute__((noinline)) bool ahead_row(attn_ahead *x) {
    for (; x->span < x->spans_n; x->span++) {
        struct attn_span *span = x->spans + x->span;
        if (span->rows == 0) continue;
        x->next = span->row, x->end = span->row + span->bytes, x->written = span->written;
        span->row += span->step, span->rows--;
        return true;
    }
    x->lines = 0;
    return false;
}

/* The lines of one step of a product. */
V_FN void product_ahead(attn_ahead *x) {
    for (size_t n = x->lines; n > 0; n--) {
        if (x->next >= x->end && !ahead_row(x)) return;
        if (x->written) __builtin_prefetch(x->next, 1, 2);
        else __builtin_prefetch(x->next, 0, 2);
        x->next += 64;
    }
}

#endif
