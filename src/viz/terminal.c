/* terminal.c: what both terminal pictures need. */
#include "viz/terminal.h"

#include <math.h>
#include <stdlib.h>

enum { NARROWEST = 20, WIDEST = 1000 };

attn_status viz_terminal_read(attn_context *ctx, viz_terminal *terminal, const attn_terminal_options *options) {
    const attn_terminal_options standard = ATTN_TERMINAL_OPTIONS_INIT;
    if (!options) options = &standard;
    if (options->struct_size != sizeof *options)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_terminal_options has %zu bytes; expected %zu", options->struct_size,
                         sizeof *options);
    int width = options->width > 0 ? options->width : 80;
    terminal->width = (size_t)ATTN_MAX((int)NARROWEST, ATTN_MIN(width, (int)WIDEST));
    terminal->colours = options->colours >= 1 << 24 ? 1 << 24 : options->colours >= 256 ? 256 : 0;
    terminal->unicode = options->unicode;
    terminal->label_flags = VIZ_TERMINAL | (options->unicode ? 0u : (unsigned)VIZ_ASCII);
    return ATTN_OK;
}

static int distance(viz_colour a, int r, int g, int b) {
    return (a.r - r) * (a.r - r) + (a.g - g) * (a.g - g) + (a.b - b) * (a.b - b);
}

/* The nearest of the cube 16 … 231 and the greys 232 … 255. */
static int of_256(viz_colour colour) {
    static const int levels[] = {0, 95, 135, 175, 215, 255};
    int best[3], channels[3] = {colour.r, colour.g, colour.b};
    for (int c = 0; c < 3; c++) {
        best[c] = 0;
        for (int i = 1; i < 6; i++)
            if (abs(levels[i] - channels[c]) < abs(levels[best[c]] - channels[c])) best[c] = i;
    }
    int grey = (colour.r + colour.g + colour.b) / 3, step = grey <= 8 ? 0 : ATTN_MIN((grey - 8 + 5) / 10, 23);
    int level = 8 + 10 * step;
    bool is_grey =
        distance(colour, level, level, level) < distance(colour, levels[best[0]], levels[best[1]], levels[best[2]]);
    return is_grey ? 232 + step : 16 + 36 * best[0] + 6 * best[1] + best[2];
}

void viz_terminal_colour(attn_buffer *out, const viz_terminal *terminal, viz_colour colour, bool background) {
    int code = background ? 48 : 38;
    if (terminal->colours >= 1 << 24)
        attn_buffer_printf(out, "\x1b[%d;2;%d;%d;%dm", code, colour.r, colour.g, colour.b);
    else if (terminal->colours) attn_buffer_printf(out, "\x1b[%d;5;%dm", code, of_256(colour));
}

/* The map in 256 colours: getting darker step by step, which the nearest colours of the true map do not. */
void viz_terminal_ground(attn_buffer *out, const viz_terminal *terminal, double value) {
    static const int steps[] = {231, 195, 153, 117, 75, 39, 32, 26, 25, 18, 17};
    if (terminal->colours != 256) viz_terminal_colour(out, terminal, viz_map(value), true);
    else
        attn_buffer_printf(out, "\x1b[48;5;%dm",
                           steps[(int)(fmin(fmax(value, 0.0), 1.0) * (ATTN_COUNT(steps) - 1) + 0.5)]);
}

void viz_terminal_reset(attn_buffer *out, const viz_terminal *terminal) {
    if (terminal->colours) attn_buffer_text(out, "\x1b[0m");
}

void viz_repeat(attn_buffer *out, const char *text, size_t times) {
    for (size_t i = 0; i < times; i++) attn_buffer_text(out, text);
}

void viz_terminal_line(attn_buffer *out, const viz_terminal *terminal, const char *text) {
    if (!text || !*text) return;
    viz_label_add(out, text, terminal->width, terminal->label_flags);
    attn_buffer_text(out, "\n");
}
