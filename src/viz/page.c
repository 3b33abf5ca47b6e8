/* page.c: many heads as one HTML page. page.html is its text and style, page.js, page_map.js and page_neurons.js its
 * script; the words go in as JSON without a < that could end its element, the weights as bytes, behind them queries and
 * keys in f16, all deflated, in base64. */
#include "base/half.h"
#include "viz/drawing.h"

#include <jansson.h>
#include <math.h>
#include <string.h>
#include <zlib.h>

extern const char viz_page_file[], viz_page_script[], viz_page_map[], viz_page_neurons[]; /* end with a 0 */

enum { VIEWS = 16, LEVELS = 254, NO_WEIGHT = 255, TIP = VIZ_TIP_COLUMNS };

/* ---- numbers ------------------------------------------------------------------------------------------------- */

/* A weight w is the byte c with w = (c / LEVELS)²: small ones keep more of their digits than in equal steps. */
static uint8_t code_of(float w) {
    if (!viz_is_weight(w)) return NO_WEIGHT;
    return (uint8_t)lrintf((float)LEVELS * sqrtf(fminf(fmaxf(w, 0.0f), 1.0f)));
}

static void *zlib_allocate(void *ctx, unsigned n, unsigned size) { return attn_alloc(ctx, n, size); }
static void zlib_release(void *ctx, void *block) { attn_release(ctx, block); }

/* Whatever the stream has for the buffer, with as much of the input as was given. */
static void drain(attn_buffer *out, z_stream *stream, int flush) {
    unsigned char part[1 << 14];
    do {
        stream->next_out = part;
        stream->avail_out = sizeof part;
        deflate(stream, flush);
        attn_buffer_add(out, part, sizeof part - stream->avail_out);
    } while (stream->avail_out == 0 && out->status == ATTN_OK);
}

/* Numbers as bytes each or, as halves, two, the lower first. */
static void deflate_numbers(attn_buffer *out, z_stream *stream, const float *x, size_t n, bool halves) {
    uint8_t part[1 << 12];
    const size_t bytes = halves ? 2 : 1;
    for (size_t at = 0; at < n && out->status == ATTN_OK;) {
        const size_t m = ATTN_MIN(n - at, sizeof part / bytes);
        for (size_t i = 0; i < m; i++)
            if (halves) {
                const uint16_t half = attn_f16_of(x[at + i]);
                part[2 * i] = (uint8_t)half, part[2 * i + 1] = (uint8_t)(half >> 8);
            } else {
                part[i] = code_of(x[at + i]);
            }
        stream->next_in = part;
        stream->avail_in = (unsigned)(m * bytes);
        drain(out, stream, Z_NO_FLUSH);
        at += m;
    }
}

static size_t weights_of(const attn_page_view *v) { return v->layers * v->heads * v->rows->n * v->columns->n; }
static size_t queries_of(const attn_page_view *v) {
    return v->queries ? v->layers * v->heads * v->rows->n * v->head_size : 0;
}
static size_t keys_of(const attn_page_view *v) {
    return v->queries ? v->layers * v->key_heads * v->columns->n * v->head_size : 0;
}

static attn_status add_weights(attn_buffer *out, const attn_page *page) {
    attn_buffer packed = ATTN_BUFFER_INIT(out->ctx);
    z_stream stream = {.zalloc = zlib_allocate, .zfree = zlib_release, .opaque = out->ctx};
    if (deflateInit(&stream, 6) != Z_OK) return ATTN_E_NOMEM;
    for (size_t i = 0; i < page->n; i++)
        deflate_numbers(&packed, &stream, page->views[i].weights, weights_of(&page->views[i]), false);
    for (size_t i = 0; i < page->n; i++) {
        deflate_numbers(&packed, &stream, page->views[i].queries, queries_of(&page->views[i]), true);
        deflate_numbers(&packed, &stream, page->views[i].keys, keys_of(&page->views[i]), true);
    }
    stream.avail_in = 0;
    drain(&packed, &stream, Z_FINISH);
    deflateEnd(&stream);
    const attn_status status = packed.status;
    if (status == ATTN_OK) viz_base64(out, (const uint8_t *)packed.data, packed.bytes);
    attn_buffer_free(&packed);
    return status == ATTN_OK ? out->status : status;
}

/* ---- words ---------------------------------------------------------------------------------------------------- */

static json_t *label(attn_buffer *text, const char *word, size_t columns, unsigned flags) {
    text->bytes = 0;
    attn_buffer_text(text, "");
    viz_label_add(text, word ? word : "", columns, flags);
    return text->status == ATTN_OK ? json_stringn(text->data, text->bytes) : NULL;
}

/* A text in one line: what would end it becomes a space. */
static attn_status add_line(attn_buffer *out, const char *from) {
    attn_buffer one = ATTN_BUFFER_INIT(out->ctx);
    attn_buffer_text(&one, from ? from : "");
    for (char *at = one.data; at && *at; at++)
        if (*at == '\n' || *at == '\t' || *at == '\r') *at = ' ';
    if (one.data) viz_label_add(out, one.data, VIZ_TITLE_COLUMNS, 0);
    const attn_status status = one.status;
    attn_buffer_free(&one);
    return status == ATTN_OK ? out->status : status;
}

static json_t *line(attn_buffer *text, const char *from) {
    text->bytes = 0;
    const attn_status status = add_line(text, from);
    if (text->status == ATTN_OK) text->status = status;
    return status == ATTN_OK ? json_stringn(text->data ? text->data : "", text->bytes) : NULL;
}

/* Without memory, for the item or for its place, there is no list any more. */
static void append(json_t **list, json_t *item) {
    if (json_array_append_new(*list, item) == 0) return;
    json_decref(*list);
    *list = NULL;
}

static json_t *labels(attn_buffer *text, const char *const *words, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) append(&list, label(text, words[i], TIP, VIZ_WORD));
    return list;
}

static json_t *axis_json(attn_buffer *text, const attn_page_axis *axis) {
    const bool whole = !axis->words; /* words are tokens */
    json_t *word = json_array();
    for (size_t i = 0; i < axis->n; i++) append(&word, json_integer((json_int_t)(whole ? i : axis->word[i])));
    return json_pack("{s:o, s:o, s:o, s:o}", "name", label(text, axis->name, TIP, 0), "tokens",
                     labels(text, axis->tokens, axis->n), "words",
                     labels(text, whole ? axis->tokens : axis->words, whole ? axis->n : axis->n_words), "word", word);
}

/* Where its numbers begin, and how many of what they are; null: there are none. */
static json_t *vectors_json(const attn_page_view *v, size_t at) {
    if (!v->queries) return json_null();
    return json_pack("{s:I, s:I, s:I, s:f, s:f}", "at", (json_int_t)at, "keyHeads", (json_int_t)v->key_heads, "size",
                     (json_int_t)v->head_size, "scale", (double)v->scale, "softcap", (double)v->softcap);
}

/* at, vectors_at: where its weights, its queries and keys begin. */
static json_t *view_json(attn_buffer *text, const attn_page_view *v, size_t at, size_t vectors_at) {
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:o}", "name", label(text, v->name, TIP, 0),
                     "rows", axis_json(text, v->rows), "columns", axis_json(text, v->columns), "at", (json_int_t)at,
                     "layers", (json_int_t)v->layers, "heads", (json_int_t)v->heads, "first",
                     (json_int_t)ATTN_MAX(v->first_layer, 1), "firstHead", (json_int_t)ATTN_MAX(v->first_head, 1),
                     "square", v->rows == v->columns, "whole", v->whole, "vectors", vectors_json(v, vectors_at));
}

static json_t *page_json(attn_buffer *text, const attn_page *page) {
    const attn_page_view *open = &page->views[page->open];
    json_t *views = json_array(), *map = json_array();
    size_t at = 0, vectors_at = 0;
    for (size_t i = 0; i < page->n; i++) vectors_at += weights_of(&page->views[i]);
    for (size_t i = 0; i < page->n; i++) {
        const attn_page_view *v = &page->views[i];
        append(&views, view_json(text, v, at, vectors_at));
        at += weights_of(v);
        vectors_at += 2 * (queries_of(v) + keys_of(v));
    }
    for (size_t i = 0; i < VIZ_MAP_STOPS; i++)
        append(&map, json_pack("[i, i, i]", viz_map_stops[i].r, viz_map_stops[i].g, viz_map_stops[i].b));
    /* the mean of the last layer, where there are several heads */
    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I, s:i, s:I, s:[o, o]}", "title", line(text, page->title), "about",
                     line(text, page->about), "map", map, "views", views, "view", (json_int_t)page->open, "layer",
                     (json_int_t)open->layers - 1, "head", open->heads > 1 ? -1 : 0, "beside", (json_int_t)page->beside,
                     "texts", line(text, page->texts[0]), line(text, page->texts[1]));
}

/* ASCII alone, and no <, > or & in its strings: nothing of it means anything to HTML. */
static int add_json(const char *json, size_t bytes, void *out) {
    attn_buffer *to = out;
    for (size_t at = 0; at < bytes;) {
        size_t n = 0;
        while (at + n < bytes && !strchr("<>&", json[at + n])) n++;
        attn_buffer_add(to, json + at, n);
        at += n;
        if (at < bytes) attn_buffer_printf(to, "\\u%04x", (unsigned)json[at++]);
    }
    return to->status == ATTN_OK ? 0 : -1;
}

static attn_status add_words(attn_buffer *out, const attn_page *page) {
    attn_buffer text = ATTN_BUFFER_INIT(out->ctx);
    json_t *root = page_json(&text, page);
    attn_status status = text.status;
    if (status == ATTN_OK && (!root || json_dump_callback(root, add_json, out, JSON_COMPACT | JSON_ENSURE_ASCII) != 0))
        status = out->status != ATTN_OK ? out->status : attn_fail(out->ctx, ATTN_E_NOMEM, "out of memory for a page");
    json_decref(root);
    attn_buffer_free(&text);
    return status;
}

static attn_status add_title(attn_buffer *out, const attn_page *page) {
    attn_buffer text = ATTN_BUFFER_INIT(out->ctx);
    const attn_status status = add_line(&text, page->title ? page->title : "attention");
    if (status == ATTN_OK && text.data) viz_escape(out, text.data, text.bytes);
    attn_buffer_free(&text);
    return status == ATTN_OK ? out->status : status;
}

static attn_status add_script(attn_buffer *out, const attn_page *page) {
    (void)page;
    attn_buffer_text(out, viz_page_script);
    attn_buffer_text(out, viz_page_map);
    attn_buffer_text(out, viz_page_neurons);
    return out->status;
}

/* ---- the page ------------------------------------------------------------------------------------------------- */

static attn_status check_axis(attn_context *ctx, const attn_page_axis *axis, const char *view) {
    if (!axis || !axis->tokens || !axis->n || (axis->words && !axis->word))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "a page's \"%s\" has rows or columns without tokens", view);
    for (size_t i = 0; axis->words && i < axis->n; i++)
        if (axis->word[i] >= axis->n_words)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "a page's \"%s\": token %zu is of word %zu, expected less than %zu",
                             view, i, axis->word[i], axis->n_words);
    return ATTN_OK;
}

/* The bytes of a view's numbers added to *all; false: too many. */
static bool count(size_t *all, const attn_page_view *v) {
    const size_t parts[][5] = {{v->layers, v->heads, v->rows->n, v->columns->n, 1},
                               {v->layers, v->heads, v->rows->n, v->head_size, 2},
                               {v->layers, v->key_heads, v->columns->n, v->head_size, 2}};
    for (size_t i = 0; i < (v->queries ? ATTN_COUNT(parts) : 1); i++) {
        size_t n = 1;
        for (size_t k = 0; k < ATTN_COUNT(parts[i]); k++)
            if (!attn_size_mul(&n, n, parts[i][k])) return false;
        if (!attn_size_add(all, *all, n)) return false;
    }
    return *all <= ATTN_PAGE_WEIGHTS;
}

static attn_status check(attn_context *ctx, const attn_page *page) {
    if (!page || !page->views || page->n < 1 || page->n > VIEWS || page->open >= page->n)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "a page has %zu views, of which number %zu is open; expected 1 to %d",
                         page ? page->n : 0, page ? page->open : 0, VIEWS);
    if (page->beside && (page->n != 2 * page->beside || page->open >= page->beside))
        return attn_fail(ctx, ATTN_E_ARGUMENT,
                         "a page of two texts has %zu views, of which number %zu is open; expected "
                         "twice %zu, and one of the first text",
                         page->n, page->open, page->beside);
    size_t all = 0;
    for (size_t i = 0; i < page->n; i++) {
        const attn_page_view *v = &page->views[i], *other = &page->views[page->beside ? i % page->beside : i];
        const char *name = v->name ? v->name : "";
        ATTN_TRY(check_axis(ctx, v->rows, name));
        ATTN_TRY(check_axis(ctx, v->columns, name));
        if (!v->weights || !v->layers || !v->heads)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "a page's \"%s\" has no weights", name);
        if (v->layers != other->layers || v->heads != other->heads)
            return attn_fail(ctx, ATTN_E_ARGUMENT,
                             "a page's \"%s\" has %zu layers of %zu heads, expected the %zu of %zu of the first text",
                             name, v->layers, v->heads, other->layers, other->heads);
        if (!v->queries != !other->queries)
            return attn_fail(ctx, ATTN_E_ARGUMENT, "a page's \"%s\" has %s, expected %s as the first text has", name,
                             v->queries ? "queries" : "no queries", v->queries ? "none" : "them");
        if (v->queries && !(isfinite(v->scale) && isfinite(v->softcap)))
            return attn_fail(ctx, ATTN_E_ARGUMENT, "a page's \"%s\" has the scale %g and softcap %g, expected numbers",
                             name, (double)v->scale, (double)v->softcap);
        if (v->queries && (!v->keys || !v->head_size || !v->key_heads || v->heads % v->key_heads))
            return attn_fail(ctx, ATTN_E_ARGUMENT,
                             "a page's \"%s\" has queries of %zu heads with %zu numbers each and %s of %zu key heads, "
                             "expected keys, and a divisor of the heads",
                             name, v->heads, v->head_size, v->keys ? "keys" : "no keys", v->key_heads);
        if (!count(&all, v))
            return attn_fail(ctx, ATTN_E_SHAPE,
                             "a page's \"%s\" has %zu layers of %zu heads of %zu × %zu weights, expected at most %d in "
                             "all: fewer layers or a shorter text",
                             name, v->layers, v->heads, v->rows->n, v->columns->n, ATTN_PAGE_WEIGHTS);
    }
    return ATTN_OK;
}

attn_status attn_page_html(attn_context *ctx, char **out, size_t *bytes, const attn_page *page) {
    static const struct {
        const char *mark;
        attn_status (*add)(attn_buffer *out, const attn_page *page);
    } parts[] = {{"@TITLE@", add_title}, {"@DATA@", add_words}, {"@WEIGHTS@", add_weights}, {"@SCRIPT@", add_script}};
    *out = NULL;
    ATTN_TRY(check(ctx, page));
    attn_buffer html = ATTN_BUFFER_INIT(ctx);
    attn_status status = ATTN_OK;
    const char *at = viz_page_file;
    for (size_t i = 0; i < ATTN_COUNT(parts) && status == ATTN_OK; i++) {
        const char *mark = strstr(at, parts[i].mark);
        attn_buffer_add(&html, at, (size_t)(mark - at));
        at = mark + strlen(parts[i].mark);
        status = parts[i].add(&html, page);
    }
    attn_buffer_text(&html, at);
    if (status == ATTN_OK) return attn_buffer_give(&html, out, bytes);
    attn_buffer_free(&html);
    return status;
}
