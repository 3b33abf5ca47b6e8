/* png.c: a drawing as a PNG file. No time, no text, fixed filter and compression: the same picture gives the same
 * bytes. */
#include "viz/raster.h"

#include <png.h>
#include <setjmp.h>

static void png_failed(png_structp png, png_const_charp message) {
    attn_buffer *out = png_get_error_ptr(png);
    if (out->status == ATTN_OK) out->status = attn_fail(out->ctx, ATTN_E_FORMAT, "writing a PNG image: %s", message);
    png_longjmp(png, 1);
}

static void png_warned(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void png_write(png_structp png, png_bytep data, size_t bytes) {
    attn_buffer *out = png_get_io_ptr(png);
    attn_buffer_add(out, data, bytes);
    if (out->status != ATTN_OK) png_error(png, "out of memory");
}

static void png_flushed(png_structp png) { (void)png; }

static png_voidp png_allocate(png_structp png, png_alloc_size_t bytes) {
    attn_buffer *out = png_get_mem_ptr(png);
    void *block = attn_alloc(out->ctx, bytes, 1);
    if (!block && out->status == ATTN_OK) out->status = ATTN_E_NOMEM;
    return block;
}

static void png_release(png_structp png, png_voidp block) {
    attn_release(((attn_buffer *)png_get_mem_ptr(png))->ctx, block);
}

attn_status viz_encode_png(attn_buffer *out, const uint8_t *rgb, size_t width, size_t height) {
    png_structp png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, out, png_failed, png_warned, out, png_allocate, png_release);
    if (!png)
        return out->status != ATTN_OK ? out->status
                                      : attn_fail(out->ctx, ATTN_E_NOMEM, "out of memory for a PNG image");
    png_infop info = png_create_info_struct(png); /* NULL on failure, without a jump; libpng passes over NULL */
    if (!info || setjmp(png_jmpbuf(png))) goto end;
    png_set_write_fn(png, out, png_write, png_flushed);
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE);
    png_set_compression_level(png, 6);
    png_set_sRGB(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
    png_write_info(png, info);
    for (size_t row = 0; row < height; row++) png_write_row(png, rgb + 3 * width * row);
    png_write_end(png, NULL);
end:
    png_destroy_write_struct(&png, &info);
    return out->status; /* set by whoever failed */
}

attn_status viz_write_png(const viz_drawing *drawing, viz_font *font, double scale, char **out, size_t *bytes) {
    viz_raster raster;
    attn_buffer file = ATTN_BUFFER_INIT(drawing->ctx);
    attn_status status = viz_raster_make(&raster, drawing->ctx, drawing->width, drawing->height, scale);
    if (status == ATTN_OK) status = viz_raster_draw(&raster, drawing, font);
    if (status == ATTN_OK) status = viz_encode_png(&file, raster.rgb, raster.width, raster.height);
    viz_raster_free(&raster);
    if (status == ATTN_OK) return attn_buffer_give(&file, out, bytes);
    attn_buffer_free(&file);
    return status;
}
