/* colour.c: the colours of the pictures. */
#include "viz/drawing.h"

/* White to dark blue, lightness falling evenly (0.985 … 0.27 in OKLab) with the hue turning from 228° to 264°: reads
 * the same for every kind of colour vision, in grey, and in print. */
const viz_colour viz_map_stops[VIZ_MAP_STOPS] = {
    {246, 251, 253}, {213, 240, 254}, {184, 228, 253}, {156, 215, 250}, {129, 201, 246}, {104, 187, 242},
    {81, 173, 235},  {59, 158, 228},  {38, 142, 219},  {17, 127, 208},  {0, 112, 196},   {0, 97, 182},
    {0, 82, 167},    {0, 68, 151},    {1, 55, 133},    {4, 42, 115},    {6, 30, 96}};

const viz_colour viz_ink = {28, 32, 38}, viz_soft_ink = {92, 100, 112}, viz_grid = {222, 226, 232},
                 viz_paper = {255, 255, 255}, viz_missing = {238, 238, 238}, viz_missing_line = {150, 150, 150};

viz_colour viz_map(double value) {
    double clamped = value > 0.0 ? ATTN_MIN(value, 1.0) : 0.0;
    int at = (int)(clamped * (VIZ_MAP_STOPS - 1) * 256.0 + 0.5); /* 24.8 fixed point, so that rounding is ours alone */
    int stop = ATTN_MIN(at >> 8, VIZ_MAP_STOPS - 2), part = at - (stop << 8);
    viz_colour a = viz_map_stops[stop], b = viz_map_stops[stop + 1];
    return (viz_colour){(uint8_t)((a.r * (256 - part) + b.r * part + 128) >> 8),
                        (uint8_t)((a.g * (256 - part) + b.g * part + 128) >> 8),
                        (uint8_t)((a.b * (256 - part) + b.b * part + 128) >> 8)};
}

viz_colour viz_on_colour(viz_colour ground) {
    int luma = (299 * ground.r + 587 * ground.g + 114 * ground.b) / 1000;
    return luma < 112 ? viz_paper : viz_ink;
}

/* Okabe & Ito 2008, without the yellow that white paper swallows. */
static const viz_colour series[] = {{0, 114, 178}, {213, 94, 0},   {0, 158, 115}, {204, 121, 167},
                                    {230, 159, 0}, {86, 180, 233}, {70, 70, 70}};

viz_colour viz_series_colour(size_t index) { return series[index % ATTN_COUNT(series)]; }

bool viz_series_dashed(size_t index) { return index / ATTN_COUNT(series) % 2 == 1; }
