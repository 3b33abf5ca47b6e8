/* diagram.h: what the surfaces of a diagram share. */
#ifndef ATTN_VIZ_DIAGRAM_H
#define ATTN_VIZ_DIAGRAM_H

#include "viz/drawing.h"

enum { VIZ_DIAGRAM_MOST = 64, VIZ_DIAGRAM_NUMBERS = 8 };

attn_status viz_diagram_check(attn_context *ctx, const attn_diagram *diagram);
/* "0.35 0.15 0.89", at most `most` numbers, then " …". */
void viz_diagram_vector(attn_buffer *out, const float *x, size_t n, size_t most, const char *between);
/* The token's text or "x3"; context vector i is z(i + 1). */
void viz_diagram_token(attn_buffer *out, const attn_diagram *diagram, size_t i, unsigned flags);

#endif
