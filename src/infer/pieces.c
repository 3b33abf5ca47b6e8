/* pieces.c: see pieces.h. */
#include "infer/pieces.h"
#include "text/sentences.h"

#include <math.h>
#include <string.h>

attn_status attn_pieces_make(attn_context *ctx, attn_pieces *pieces, const char *const *texts, const size_t *bytes,
                             size_t n, size_t max_words) {
    size_t text_capacity = 0, bytes_capacity = 0;
    *pieces = (attn_pieces){.first = attn_alloc(ctx, n + 1, sizeof *pieces->first)};
    if (!pieces->first) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        attn_piece *cut;
        size_t count, length = bytes ? bytes[i] : strlen(texts[i]);
        ATTN_TRY(attn_text_split(ctx, &cut, &count, texts[i], length, max_words));
        const size_t at = pieces->first[i] = pieces->count, more = ATTN_MAX(count, 1);
        attn_status status = attn_grow(ctx, &pieces->text, &text_capacity, at + more, at, sizeof *pieces->text);
        if (status == ATTN_OK)
            status = attn_grow(ctx, &pieces->bytes, &bytes_capacity, at + more, at, sizeof *pieces->bytes);
        for (size_t k = 0; k < more && status == ATTN_OK; k++) { /* a blank text is one blank piece */
            pieces->text[at + k] = count ? texts[i] + cut[k].first : "";
            pieces->bytes[at + k] = count ? cut[k].end - cut[k].first : 0;
        }
        attn_release(ctx, cut);
        ATTN_TRY(status);
        pieces->count = at + more;
    }
    pieces->first[n] = pieces->count;
    return ATTN_OK;
}

void attn_pieces_free(attn_context *ctx, attn_pieces *pieces) {
    attn_release(ctx, pieces->text);
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
