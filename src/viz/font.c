/* font.c: the built-in font (DejaVu Sans) through FreeType. Unhinted, so that a text has the same width at every scale.
 * What the font lacks is drawn as a box with the hexadecimal number of the character. */
#include "viz/drawing.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_ADVANCES_H
#include FT_MODULE_H
#include FT_OUTLINE_H
#include <utf8proc.h>

extern const unsigned char viz_font_file[], viz_font_file_end[];

enum { CLUSTER = 16 };

struct viz_font {
    attn_context *ctx;
    struct FT_MemoryRec_ memory;
    FT_Library library;
    FT_Face face;
    bool out_of_memory; /* FreeType hides some of its failed allocations */
    uint8_t *coverage;
    size_t capacity;
};

static void *font_allocate(FT_Memory memory, long bytes) {
    viz_font *font = memory->user;
    void *block = attn_alloc(font->ctx, (size_t)bytes, 1);
    if (!block) font->out_of_memory = true;
    return block;
}

static void font_release(FT_Memory memory, void *block) { attn_release(((viz_font *)memory->user)->ctx, block); }

static void *font_reallocate(FT_Memory memory, long old_bytes, long bytes, void *block) {
    void *moved = font_allocate(memory, bytes);
    if (!moved) return NULL;
    memcpy(moved, block, (size_t)ATTN_MIN(old_bytes, bytes));
    font_release(memory, block);
    return moved;
}

static attn_status font_failed(viz_font *font, const char *what, FT_Error error) {
    if (font->out_of_memory || error == FT_Err_Out_Of_Memory) return ATTN_E_NOMEM; /* attn_alloc wrote the sentence */
    return attn_fail(font->ctx, ATTN_E_FORMAT, "the built-in font: %s failed with FreeType error %d", what, (int)error);
}

attn_status viz_font_open(attn_context *ctx, viz_font **out) {
    viz_font *font = attn_alloc_zero(ctx, 1, sizeof *font);
    *out = font;
    if (!font) return ATTN_E_NOMEM;
    font->ctx = ctx;
    font->memory = (struct FT_MemoryRec_){font, font_allocate, font_release, font_reallocate};
    FT_Error error = FT_New_Library(&font->memory, &font->library);
    if (!error) {
        FT_Add_Default_Modules(font->library);
        error = font->out_of_memory ? FT_Err_Out_Of_Memory
                                    : FT_New_Memory_Face(font->library, viz_font_file,
                                                         (FT_Long)(viz_font_file_end - viz_font_file), 0, &font->face);
    }
    if (!error && font->out_of_memory) error = FT_Err_Out_Of_Memory;
    if (!error) return ATTN_OK;
    attn_status status = font_failed(font, "opening", error);
    viz_font_close(font);
    *out = NULL;
    return status;
}

void viz_font_close(viz_font *font) {
    if (!font) return;
    attn_context *ctx = font->ctx;
    if (font->face) FT_Done_Face(font->face);
    if (font->library) FT_Done_Library(font->library);
    attn_release(ctx, font->coverage);
    attn_release(ctx, font);
}

static bool is_zero_width(int32_t c) {
    if (c == 0x200C || c == 0x200D) return true;
    utf8proc_category_t category = utf8proc_category(c);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME;
}

/* The box for a missing glyph: two rows of digits, in em. */
static const double box_digit = 0.46, box_pad = 0.10, box_up = 0.86, box_down = 0.22;

static int box_columns(int32_t c) { return c > 0xFFFF ? 3 : 2; }

static double digit_advance(viz_font *font) {
    FT_Fixed advance = 0;
    FT_Get_Advance(font->face, FT_Get_Char_Index(font->face, '0'), FT_LOAD_NO_SCALE, &advance);
    return (double)advance / font->face->units_per_EM;
}

/* In em. */
static double advance_of(viz_font *font, int32_t c) {
    if (is_zero_width(c)) return 0.0;
    FT_UInt glyph = FT_Get_Char_Index(font->face, (FT_ULong)c);
    FT_Fixed advance = 0;
    if (glyph && !FT_Get_Advance(font->face, glyph, FT_LOAD_NO_SCALE, &advance))
        return (double)advance / font->face->units_per_EM;
    return box_columns(c) * box_digit * digit_advance(font) + 2.0 * box_pad + 0.08;
}

/* One cluster: a character and the marks on it, composed where Unicode has a letter for both. */
static size_t next_cluster(const char *text, size_t bytes, int32_t cluster[CLUSTER], size_t *n) {
    size_t at = 0;
    *n = 0;
    while (at < bytes && *n < CLUSTER) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &c);
        if (used <= 0) c = 0xFFFD, used = 1;
        if (*n > 0 && !is_zero_width(c)) break;
        at += (size_t)used;
        bool invisible = c == 0x200C || c == 0x200D || (c >= 0xFE00 && c <= 0xFE0F) || (c >= 0xE0100 && c <= 0xE01EF);
        if (!invisible || *n == 0) cluster[(*n)++] = c;
    }
    if (*n > 1) {
        utf8proc_ssize_t composed =
            utf8proc_normalize_utf32(cluster, (utf8proc_ssize_t)*n, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (composed > 0) *n = (size_t)composed;
    }
    return at;
}

double viz_text_width(viz_font *font, const char *text, size_t bytes, double size) {
    double width = 0.0;
    for (size_t at = 0; at < bytes;) {
        int32_t cluster[CLUSTER];
        size_t n;
        at += next_cluster(text + at, bytes - at, cluster, &n);
        width += advance_of(font, cluster[0]);
    }
    return width * size;
}

/* ---- drawing ------------------------------------------------------------------------------------ */

typedef struct text_pen {
    viz_font *font;
    double x, y, size, cosine, sine;
    viz_blend *blend;
    void *user;
} text_pen;

/* Draws an outline given upright, in 26.6 pixels, with its origin `along` em right of the start and `up` em above it.
 */
static attn_status draw_outline(const text_pen *pen, FT_Outline *outline, double along, double up) {
    viz_font *font = pen->font;
    double x = pen->x + (along * pen->cosine + up * pen->sine) * pen->size;
    double y = pen->y + (along * pen->sine - up * pen->cosine) * pen->size;
    int left = (int)floor(x), bottom = (int)floor(y);
    FT_Matrix turn = {lround(pen->cosine * 65536.0), lround(pen->sine * 65536.0), -lround(pen->sine * 65536.0),
                      lround(pen->cosine * 65536.0)};
    if (pen->sine != 0.0) FT_Outline_Transform(outline, &turn);
    FT_Outline_Translate(outline, lround((x - left) * 64.0), -lround((y - bottom) * 64.0));
    FT_BBox box;
    FT_Outline_Get_CBox(outline, &box);
    long x0 = box.xMin >> 6, y0 = box.yMin >> 6, w = ((box.xMax + 63) >> 6) - x0, h = ((box.yMax + 63) >> 6) - y0;
    if (w <= 0 || h <= 0) return ATTN_OK;
    size_t bytes = (size_t)w * (size_t)h;
    ATTN_TRY(attn_grow(font->ctx, &font->coverage, &font->capacity, bytes, 0, 1));
    memset(font->coverage, 0, bytes);
    FT_Outline_Translate(outline, -x0 * 64, -y0 * 64);
    FT_Bitmap bitmap = {.rows = (unsigned)h,
                        .width = (unsigned)w,
                        .pitch = (int)w,
                        .buffer = font->coverage,
                        .num_grays = 256,
                        .pixel_mode = FT_PIXEL_MODE_GRAY};
    FT_Error error = FT_Outline_Get_Bitmap(font->library, outline, &bitmap);
    if (error) return font_failed(font, "drawing a glyph", error);
    pen->blend(pen->user, left + (int)x0, bottom - (int)(y0 + h), (int)w, (int)h, font->coverage);
    return ATTN_OK;
}

/* `shrink` < 1: digits of the box. A mark is centred over the advance of the letter it belongs to. */
static attn_status draw_glyph(const text_pen *pen, FT_UInt glyph, double along, double up, double shrink,
                              double centre_over) {
    viz_font *font = pen->font;
    FT_Error error = FT_Set_Char_Size(font->face, 0, (FT_F26Dot6)lround(pen->size * shrink * 64.0), 72, 72);
    if (!error) error = FT_Load_Glyph(font->face, glyph, FT_LOAD_NO_HINTING | FT_LOAD_NO_BITMAP);
    if (error) return font_failed(font, "loading a glyph", error);
    FT_Outline *outline = &font->face->glyph->outline;
    if (outline->n_points == 0) return ATTN_OK;
    if (centre_over > 0.0) {
        FT_BBox box;
        FT_Outline_Get_CBox(outline, &box);
        along -= centre_over / 2.0 + (double)(box.xMin + box.xMax) / 128.0 / pen->size;
    }
    return draw_outline(pen, outline, along, up);
}

/* A frame is two rectangles that turn opposite ways. */
static attn_status draw_box(const text_pen *pen, int32_t c, double along, double advance) {
    double left = 0.04, right = advance - 0.04, line = ATTN_MAX(0.06, 0.9 / pen->size);
    double edges[2][4] = {{left, -box_down, right, box_up},
                          {left + line, line - box_down, right - line, box_up - line}};
    FT_Vector points[8];
    for (int ring = 0; ring < 2; ring++)
        for (int corner = 0; corner < 4; corner++) {
            int turned = ring ? 3 - corner : corner;
            double x = edges[ring][turned == 1 || turned == 2 ? 2 : 0], y = edges[ring][turned >= 2 ? 3 : 1];
            points[4 * ring + corner] = (FT_Vector){lround(x * pen->size * 64.0), lround(y * pen->size * 64.0)};
        }
    char tags[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    short contours[2] = {3, 7};
    FT_Outline frame = {.n_contours = 2, .n_points = 8, .points = points, .tags = tags, .contours = contours};
    ATTN_TRY(draw_outline(pen, &frame, along, 0.0));
    char digits[16];
    int columns = box_columns(c), n = snprintf(digits, sizeof digits, "%0*X", 2 * columns, (unsigned)c);
    double step = box_digit * digit_advance(pen->font), start = (advance - columns * step) / 2.0;
    for (int i = 0; i < n; i++)
        ATTN_TRY(draw_glyph(pen, FT_Get_Char_Index(pen->font->face, (FT_ULong)digits[i]),
                            along + start + i % columns * step, i < columns ? 0.41 : -0.10, box_digit, 0.0));
    return ATTN_OK;
}

static bool is_right_to_left(int32_t c) {
    utf8proc_bidi_class_t class = (utf8proc_bidi_class_t)utf8proc_get_property(c)->bidi_class;
    return class == UTF8PROC_BIDI_CLASS_R || class == UTF8PROC_BIDI_CLASS_AL;
}

/* The end of a run of right-to-left letters (and what stands between two of them), and its width. */
static size_t right_to_left_run(viz_font *font, const char *text, size_t bytes, double *width) {
    size_t end = 0;
    double so_far = 0.0;
    for (size_t at = 0; at < bytes;) {
        int32_t cluster[CLUSTER];
        size_t n;
        at += next_cluster(text + at, bytes - at, cluster, &n);
        utf8proc_bidi_class_t class = (utf8proc_bidi_class_t)utf8proc_get_property(cluster[0])->bidi_class;
        if (class == UTF8PROC_BIDI_CLASS_L || class == UTF8PROC_BIDI_CLASS_EN) break;
        so_far += advance_of(font, cluster[0]);
        if (is_right_to_left(cluster[0])) end = at, *width = so_far;
    }
    return end;
}

attn_status viz_font_draw(viz_font *font, const char *text, size_t bytes, double x, double y, double size, int angle,
                          viz_blend *blend, void *user) {
    double turn = angle * 3.14159265358979323846 / 180.0;
    text_pen pen = {font, x, y, size, angle ? cos(turn) : 1.0, angle ? sin(turn) : 0.0, blend, user};
    double along = 0.0, run_right = 0.0, after_run = 0.0;
    size_t run_end = 0;
    for (size_t at = 0; at < bytes;) {
        int32_t cluster[CLUSTER];
        size_t n, start = at;
        at += next_cluster(text + at, bytes - at, cluster, &n);
        double advance = advance_of(font, cluster[0]);
        if (start >= run_end && is_right_to_left(cluster[0])) {
            double width = 0.0;
            run_end = start + right_to_left_run(font, text + start, bytes - start, &width);
            run_right = after_run = along + width;
        }
        bool mirrored = start < run_end;
        double place = mirrored ? (run_right -= advance) : along;
        FT_UInt glyph = FT_Get_Char_Index(font->face, (FT_ULong)cluster[0]);
        if (glyph) ATTN_TRY(draw_glyph(&pen, glyph, place, 0.0, 1.0, 0.0));
        else ATTN_TRY(draw_box(&pen, cluster[0], place, advance));
        for (size_t i = 1; i < n; i++) {
            FT_UInt mark = FT_Get_Char_Index(font->face, (FT_ULong)cluster[i]);
            if (mark) ATTN_TRY(draw_glyph(&pen, mark, place + advance, 0.0, 1.0, advance));
        }
        along = mirrored ? after_run : along + advance;
    }
    return ATTN_OK;
}
