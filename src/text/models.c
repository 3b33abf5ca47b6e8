/* models.c: the tokens of one piece: byte-pair encoding, WordPiece (Wu et al. 2016, section 4.1), Unigram, whole
 * words. */
#include <string.h>

#include "text/pipeline.h"

static attn_status no_unknown(const attn_encoder *e, attn_cut piece) {
    attn_origin span = attn_traced_span(&e->cuts.text, piece.first, piece.end);
    return attn_fail(e->work.ctx, ATTN_E_UNSUPPORTED,
                     "bytes %u to %u of the text have no token, and the tokenizer has none for the unknown", span.first,
                     span.end);
}

/* <0x00> … <0xFF> for each byte; false: there are not all of them. */
static bool has_byte_tokens(const attn_tokenizer *tokenizer, const char *text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (tokenizer->byte_id[(unsigned char)text[i]] < 0) return false;
    return true;
}

/* ---- byte-pair encoding --------------------------------------------------------------------- */

/* Unit number i of a piece (a character; with byte level, a byte) as the vocabulary spells it. */
static int32_t find_unit(attn_encoder *e, const char *text, size_t bytes, bool first, bool last) {
    const attn_pipeline *p = e->p;
    if (!p->prefix && !p->suffix) {
        if (p->byte_level) return p->start_id[(unsigned char)*text];
        if (bytes == 1) return e->tokenizer->character_id[(unsigned char)*text];
        return attn_pipeline_find(e->tokenizer, text, bytes);
    }
    e->spelled.bytes = 0;
    if (p->prefix && !first) attn_buffer_add(&e->spelled, p->prefix, p->prefix_bytes);
    if (p->byte_level) {
        char encoded[4];
        attn_buffer_add(&e->spelled, encoded, attn_utf8_put(encoded, attn_byte_character((unsigned char)*text)));
    } else attn_buffer_add(&e->spelled, text, bytes);
    if (p->suffix && last) attn_buffer_add(&e->spelled, p->suffix, p->suffix_bytes);
    if (e->spelled.status != ATTN_OK) return -1;
    return attn_pipeline_find(e->tokenizer, e->spelled.data, e->spelled.bytes);
}

static attn_status add_units(attn_encoder *e, attn_cut piece) {
    const attn_pipeline *p = e->p;
    const char *text = e->cuts.text.text.data;
    attn_context *ctx = e->work.ctx;
    bool was_unknown = false;
    e->symbols.count = 0;
    for (size_t at = piece.first; at < piece.end;) {
        size_t first = at;
        if (p->byte_level) at++;
        else attn_utf8_next(text, piece.end, &at);
        int32_t id = find_unit(e, text + first, at - first, first == piece.first, at == piece.end);
        if (id >= 0) ATTN_TRY(attn_symbols_add(ctx, &e->symbols, id, first));
        else if (p->byte_fallback && has_byte_tokens(e->tokenizer, text + first, at - first)) {
            for (size_t i = first; i < at; i++)
                ATTN_TRY(attn_symbols_add(ctx, &e->symbols, e->tokenizer->byte_id[(unsigned char)text[i]], i));
        } else if (p->unknown >= 0) {
            if (!was_unknown || !p->fuse_unknown) ATTN_TRY(attn_symbols_add(ctx, &e->symbols, p->unknown, first));
            was_unknown = true;
            continue;
        }
        was_unknown = false;
    }
    return e->spelled.status;
}

/* The piece as the vocabulary spells it. */
static int32_t find_piece(attn_encoder *e, const char *text, size_t bytes) {
    if (!e->p->byte_level) return attn_pipeline_find(e->tokenizer, text, bytes);
    e->spelled.bytes = 0;
    for (size_t i = 0; i < bytes; i++) {
        char encoded[4];
        attn_buffer_add(&e->spelled, encoded, attn_utf8_put(encoded, attn_byte_character((unsigned char)text[i])));
    }
    return e->spelled.status != ATTN_OK ? -1 : attn_pipeline_find(e->tokenizer, e->spelled.data, e->spelled.bytes);
}

static attn_status encode_bpe(attn_encoder *e, attn_cut piece) {
    if (e->p->ignore_merges) {
        int32_t id = find_piece(e, e->cuts.text.text.data + piece.first, piece.end - piece.first);
        ATTN_TRY(e->spelled.status);
        if (id >= 0) return attn_encoder_add(e, id, piece.first, piece.end);
    }
    ATTN_TRY(add_units(e, piece));
    if (!e->symbols.count) return ATTN_OK;
    ATTN_TRY(attn_bpe_merge(&e->tokenizer->bpe, &e->symbols));
    for (uint32_t i = 0; i != ATTN_SYMBOL_NONE; i = e->symbols.at[i].next) {
        const attn_symbol *symbol = &e->symbols.at[i];
        size_t end = symbol->next == ATTN_SYMBOL_NONE ? piece.end : e->symbols.at[symbol->next].start;
        ATTN_TRY(attn_encoder_add(e, symbol->id, symbol->start, end));
    }
    return ATTN_OK;
}

/* ---- whole words and their pieces ----------------------------------------------------------- */

static attn_status encode_word(attn_encoder *e, attn_cut piece) {
    const char *text = e->cuts.text.text.data;
    int32_t id = attn_pipeline_find(e->tokenizer, text + piece.first, piece.end - piece.first);
    if (id < 0) id = e->p->unknown;
    return id < 0 ? no_unknown(e, piece) : attn_encoder_add(e, id, piece.first, piece.end);
}

static attn_status encode_wordpiece(attn_encoder *e, attn_cut piece) {
    const char *text = e->cuts.text.text.data;
    size_t characters = 0, have = e->tokens->count;
    for (size_t i = piece.first; i < piece.end; i++) characters += ((unsigned char)text[i] & 0xC0) != 0x80;
    bool known = characters <= e->p->longest_word;
    attn_prefix_walk walk = attn_prefixes_walk(&e->p->pieces); /* behind the prefix, but for the first piece */
    for (size_t first = piece.first, length; known && first < piece.end; first += length) {
        int32_t id = attn_prefixes_longest(&e->p->pieces, walk, text + first, piece.end - first, &length);
        known = id >= 0;
        if (!known) break;
        ATTN_TRY(attn_encoder_add(e, id, first, first + length));
        if (first > piece.first) continue;
        for (size_t i = 0; i < e->p->prefix_bytes && known; i++)
            known = attn_prefixes_step(&e->p->pieces, &walk, e->p->prefix[i]);
        known |= piece.end == first + length;
    }
    if (known) return ATTN_OK;
    e->tokens->count = have;
    return e->p->unknown < 0 ? no_unknown(e, piece) : attn_encoder_add(e, e->p->unknown, piece.first, piece.end);
}

/* ---- unigram -------------------------------------------------------------------------------- */

static attn_status encode_unknown(attn_encoder *e, attn_cut piece) {
    const char *text = e->cuts.text.text.data;
    size_t bytes = piece.end - piece.first;
    int32_t id = attn_pipeline_find(e->tokenizer, text + piece.first, bytes);
    if (id < 0 && e->p->byte_fallback && has_byte_tokens(e->tokenizer, text + piece.first, bytes)) {
        for (size_t i = piece.first; i < piece.end; i++)
            ATTN_TRY(attn_encoder_add(e, e->tokenizer->byte_id[(unsigned char)text[i]], i, i + 1));
        return ATTN_OK;
    }
    if (id < 0) id = e->p->unknown;
    return id < 0 ? no_unknown(e, piece) : attn_encoder_add(e, id, piece.first, piece.end);
}

static attn_status encode_unigram(attn_encoder *e, attn_cut piece) {
    const char *text = e->cuts.text.text.data + piece.first;
    const size_t bytes = piece.end - piece.first;
    ATTN_TRY(attn_unigram_segment(e->work.ctx, &e->p->unigram, &e->path, text, bytes));
    ATTN_TRY(attn_encoder_reserve(e, e->path.count));
    attn_unigram_piece part;
    for (size_t at = 0; at < bytes; at = part.end) {
        part = attn_unigram_at(&e->path, at);
        attn_cut cut = {piece.first + part.first, piece.first + part.end};
        if (part.id == e->p->unigram.unknown) ATTN_TRY(encode_unknown(e, cut));
        else ATTN_TRY(attn_encoder_add(e, part.id, cut.first, cut.end));
    }
    return ATTN_OK;
}

attn_status attn_encode_piece(attn_encoder *e, attn_cut piece) {
    switch (e->p->model) {
    case ATTN_BPE: return encode_bpe(e, piece);
    case ATTN_WORDPIECE: return encode_wordpiece(e, piece);
    case ATTN_UNIGRAM: return encode_unigram(e, piece);
    case ATTN_WORDLEVEL: return encode_word(e, piece);
    }
    return ATTN_OK;
}
