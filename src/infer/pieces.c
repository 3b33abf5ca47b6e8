/* pieces.c: see pieces.h. */
#include "infer/pieces.h"
#include "text/sentences.h"

#include <math.h>
#include <string.h>

/* Where the arrays of pieces grow. */
typedef struct room {
    size_t text, own, bytes;
} room;

static attn_status make_room(attn_context *ctx, attn_pieces *p, room *r, size_t more) {
    const size_t at = p->count;
    ATTN_TRY(attn_grow(ctx, &p->text, &r->text, at + more, at, sizeof *p->text));
    ATTN_TRY(attn_grow(ctx, &p->own, &r->own, at + more, at, sizeof *p->own));
    return attn_grow(ctx, &p->bytes, &r->bytes, at + more, at, sizeof *p->bytes);
}

/* One piece, with a tag before it if there is one. */
static attn_status put_piece(attn_context *ctx, attn_pieces *p, const char *tag, size_t tag_bytes, const char *text,
                             size_t bytes) {
    const size_t at = p->count;
    p->own[at] = NULL;
    p->text[at] = text;
    p->bytes[at] = bytes;
    if (tag_bytes && bytes) {
        attn_buffer joined = ATTN_BUFFER_INIT(ctx);
        attn_buffer_add(&joined, tag, tag_bytes);
        attn_buffer_add(&joined, " ", 1);
        attn_buffer_add(&joined, text, bytes);
        ATTN_TRY(attn_buffer_give(&joined, &p->own[at], &p->bytes[at]));
        p->text[at] = p->own[at];
    }
    p->count++;
    return ATTN_OK;
}

static attn_status put_text(attn_context *ctx, attn_pieces *p, room *r, const attn_tokenizer *tokenizer,
                            const char *text, size_t bytes, size_t max_words) {
    const size_t tag = attn_tokenizer_tag(tokenizer, NULL, text, bytes);
    attn_piece *cut;
    size_t count;
    ATTN_TRY(attn_text_split(ctx, &cut, &count, text + tag, bytes - tag, max_words));
    attn_status status = make_room(ctx, p, r, ATTN_MAX(count, 1));
    for (size_t k = 0; k < count && status == ATTN_OK; k++)
        status = put_piece(ctx, p, text, tag, text + tag + cut[k].first, cut[k].end - cut[k].first);
    if (!count && status == ATTN_OK) status = put_piece(ctx, p, text, 0, "", 0); /* a blank text is one blank piece */
    attn_release(ctx, cut);
    return status;
}

attn_status attn_pieces_make(attn_context *ctx, attn_pieces *pieces, const attn_tokenizer *tokenizer,
                             const char *const *texts, const size_t *bytes, size_t n, size_t max_words) {
    room r = {0};
    *pieces = (attn_pieces){.first = attn_alloc(ctx, n + 1, sizeof *pieces->first)};
    if (!pieces->first) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        pieces->first[i] = pieces->count;
        ATTN_TRY(put_text(ctx, pieces, &r, tokenizer, texts[i], bytes ? bytes[i] : strlen(texts[i]), max_words));
    }
    pieces->first[n] = pieces->count;
    return ATTN_OK;
}

void attn_pieces_free(attn_context *ctx, attn_pieces *pieces) {
    for (size_t i = 0; i < pieces->count; i++) attn_release(ctx, pieces->own[i]);
    attn_release(ctx, pieces->text);
    attn_release(ctx, pieces->own);
    attn_release(ctx, pieces->bytes);
    attn_release(ctx, pieces->first);
    *pieces = (attn_pieces){0};
}

/* ---- joining ---------------------------------------------------------------------------------------------- */

/* Appends tokens of a text that begins at byte `at` of the joined one, after `words` words; returns its words. */
static int32_t append_tokens(attn_token *out, const attn_token *token, size_t n, size_t at, int32_t words) {
    int32_t own = 0;
    for (size_t i = 0; i < n; i++) {
        out[i] = token[i];
        out[i].first += at;
        out[i].end += at;
        if (token[i].word < 0) continue;
        own = ATTN_MAX(own, token[i].word + 1);
        out[i].word += words;
    }
    return own;
}

static attn_status join_sources(attn_context *ctx, attn_tokens *out, const attn_translation *piece, size_t n) {
    attn_buffer text = ATTN_BUFFER_INIT(ctx);
    int32_t words = 0;
    for (size_t k = 0; k < n; k++) out->capacity += piece[k].source.count;
    out->token = attn_alloc(ctx, out->capacity, sizeof *out->token);
    if (!out->token) return ATTN_E_NOMEM;
    for (size_t k = 0; k < n; k++) {
        const attn_tokens *source = &piece[k].source;
        if (k) attn_buffer_add(&text, " ", 1);
        words += append_tokens(out->token + out->count, source->token, source->count, text.bytes, words);
        if (source->bytes) attn_buffer_add(&text, source->text, source->bytes);
        out->count += source->count;
    }
    return attn_buffer_give(&text, &out->text, &out->bytes);
}

/* Rows of a hypothesis from column `column` on, in rows of `width`. */
static void put_block(float *out, size_t width, size_t column, const float *block, size_t rows, size_t columns) {
    for (size_t i = 0; i < rows; i++) memcpy(out + i * width + column, block + i * columns, columns * sizeof *block);
}

static attn_status join_hypotheses(attn_context *ctx, attn_hypothesis *out, const attn_translation *piece, size_t n,
                                   size_t width, float length_penalty) {
    attn_buffer text = ATTN_BUFFER_INIT(ctx);
    size_t count = 0, column = 0;
    int32_t words = 0;
    bool aligned = true;
    for (size_t k = 0; k < n; k++) {
        count += piece[k].hypothesis->count;
        aligned = aligned && (piece[k].hypothesis->alignment || !piece[k].hypothesis->count);
    }
    out->id = attn_alloc(ctx, count, sizeof *out->id);
    out->span = attn_alloc(ctx, count, sizeof *out->span);
    out->log_prob = attn_alloc(ctx, count, sizeof *out->log_prob);
    if (aligned) out->alignment = attn_alloc_zero(ctx, count, width * sizeof *out->alignment);
    if (!out->id || !out->span || !out->log_prob || (aligned && !out->alignment)) return ATTN_E_NOMEM;
    double sum = 0;
    for (size_t k = 0; k < n; k++) {
        const attn_hypothesis *h = piece[k].hypothesis;
        if (!h->count) {
            column += piece[k].source.count;
            continue;
        }
        if (text.bytes) attn_buffer_add(&text, " ", 1);
        memcpy(out->id + out->count, h->id, h->count * sizeof *h->id);
        memcpy(out->log_prob + out->count, h->log_prob, h->count * sizeof *h->log_prob);
        words += append_tokens(out->span + out->count, h->span, h->count, text.bytes, words);
        if (aligned)
            put_block(out->alignment + out->count * width, width, column, h->alignment, h->count,
                      piece[k].source.count);
        for (size_t i = 0; i < h->count; i++) sum += (double)h->log_prob[i];
        attn_buffer_add(&text, h->text, h->bytes);
        out->count += h->count;
        column += piece[k].source.count;
    }
    out->score = (float)(sum / pow((double)count, (double)length_penalty));
    return attn_buffer_give(&text, &out->text, &out->bytes);
}

attn_status attn_pieces_join(attn_context *ctx, attn_translation *out, const attn_translation *piece, size_t n,
                             float length_penalty) {
    ATTN_TRY(join_sources(ctx, &out->source, piece, n));
    out->hypothesis = attn_alloc_zero(ctx, 1, sizeof *out->hypothesis);
    if (!out->hypothesis) return ATTN_E_NOMEM;
    out->count = 1;
    return join_hypotheses(ctx, out->hypothesis, piece, n, out->source.count, length_penalty);
}
