/* ahead.h: memory that is fetched into the L2 cache while something else is computed. */
#ifndef ATTN_KERNEL_BODY_AHEAD_H
#define ATTN_KERNEL_BODY_AHEAD_H

#include "kernel/attention.h"

/* With a product's tile of so many terms. */
static void product_ahead(attn_ahead *x, size_t terms) {
    for (size_t n = x->lines < terms / 4 ? x->lines : terms / 4; n > 0 && x->span < x->spans_n; n--) {
        struct attn_span *span = x->spans + x->span;
        __builtin_prefetch(span->row + x->at, 0, 2);
        x->at += 64;
        if (x->at < span->bytes) continue;
        x->at = 0, span->row += span->step;
        if (--span->rows == 0) x->span++;
    }
}

#endif
