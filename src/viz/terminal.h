/* terminal.h: character cells with colours. */
#ifndef ATTN_VIZ_TERMINAL_H
#define ATTN_VIZ_TERMINAL_H

#include "viz/drawing.h"

/* The caller's options with the blanks filled in. */
typedef struct viz_terminal {
    size_t width;
    int colours; /* 0, 256 or 1 << 24 */
    bool unicode;
    unsigned label_flags;
} viz_terminal;

attn_status viz_terminal_read(attn_context *ctx, viz_terminal *terminal, const attn_terminal_options *options);
void viz_terminal_colour(attn_buffer *out, const viz_terminal *terminal, viz_colour colour, bool background);
void viz_terminal_ground(attn_buffer *out, const viz_terminal *terminal, double value); /* the map as background */
void viz_terminal_reset(attn_buffer *out, const viz_terminal *terminal);
void viz_repeat(attn_buffer *out, const char *text, size_t times);
/* A text of the caller's, cut to the width, on a line of its own; nothing for NULL or "". */
void viz_terminal_line(attn_buffer *out, const viz_terminal *terminal, const char *text);

#endif
