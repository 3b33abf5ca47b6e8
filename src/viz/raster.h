/* raster.h: pixels: 8-bit RGB on white paper. Coordinates are those of the drawing; the raster applies the scale. */
#ifndef ATTN_VIZ_RASTER_H
#define ATTN_VIZ_RASTER_H

#include "viz/drawing.h"

typedef struct viz_raster {
    attn_context *ctx;
    uint8_t *rgb;  /* (height, width, 3) */
    uint8_t *mask; /* (height, width): coverage of the line being drawn, else all zero */
    size_t width, height;
    double scale;
} viz_raster;

attn_status viz_raster_make(viz_raster *raster, attn_context *ctx, double width, double height, double scale);
void viz_raster_free(viz_raster *raster);
attn_status viz_raster_draw(viz_raster *raster, const viz_drawing *drawing, viz_font *font);

#endif
