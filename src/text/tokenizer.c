/* tokenizer.c: text to ids and back. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "text/normalise.h"
#include "text/pipeline.h"

attn_status attn_tokenizer_new(attn_tokenizer **gives, attn_context *ctx) {
    attn_tokenizer *tokenizer = attn_alloc_zero(ctx, 1, sizeof *tokenizer);
    *gives = tokenizer;
    if (!tokenizer) return ATTN_E_NOMEM;
    tokenizer->ctx = ctx;
    tokenizer->vocabulary = (attn_vocabulary)ATTN_VOCABULARY_INIT(ctx);
    tokenizer->bpe = (attn_bpe)ATTN_BPE_INIT(ctx);
    tokenizer->eos = tokenizer->mark_id = -1;
    return ATTN_OK;
}

void attn_tokenizer_free(attn_tokenizer *tokenizer) {
    if (!tokenizer) return;
    attn_pipeline_free(tokenizer->ctx, tokenizer->pipeline);
    attn_vocabulary_free(&tokenizer->vocabulary);
    attn_bpe_free(&tokenizer->bpe);
    attn_release(tokenizer->ctx, tokenizer->info);
    attn_release(tokenizer->ctx, tokenizer);
}

size_t attn_tokenizer_size(const attn_tokenizer *tokenizer) { return tokenizer->vocabulary.count; }

const char *attn_tokenizer_piece(const attn_tokenizer *tokenizer, int32_t id) {
    if (id < 0 || (size_t)id >= tokenizer->vocabulary.count) return NULL;
    const char *text = attn_vocabulary_text(&tokenizer->vocabulary, id);
    return *text == '\xFF' ? "" : text; /* a hole */
}

int32_t attn_tokenizer_find(const attn_tokenizer *tokenizer, const char *piece) {
    return attn_vocabulary_find(&tokenizer->vocabulary, piece, strlen(piece));
}

bool attn_tokenizer_is_special(const attn_tokenizer *tokenizer, int32_t id) {
    return id >= 0 && (size_t)id < tokenizer->vocabulary.count && tokenizer->info[id].special;
}

void attn_hole(char text[32], size_t id) { snprintf(text, 32, "\xFF%zu", id); }

attn_status attn_tokenizer_make_info(attn_tokenizer *tokenizer) {
    static const char digits[] = "0123456789ABCDEF";
    attn_vocabulary *vocabulary = &tokenizer->vocabulary;
    tokenizer->info = attn_alloc(tokenizer->ctx, vocabulary->count, sizeof *tokenizer->info);
    if (!tokenizer->info) return ATTN_E_NOMEM;
    for (size_t i = 0; i < vocabulary->count; i++) tokenizer->info[i] = (attn_token_info){false, -1};
    for (int b = 0; b < 256; b++) {
        char piece[] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
        int32_t id = tokenizer->byte_id[b] = attn_vocabulary_find(vocabulary, piece, sizeof piece);
        if (id >= 0) tokenizer->info[id].byte = (int16_t)b;
    }
    return ATTN_OK;
}

void attn_tokenizer_find_characters(attn_tokenizer *tokenizer) {
    attn_vocabulary *vocabulary = &tokenizer->vocabulary;
    for (int32_t c = 0; c < ATTN_LOW_CHARACTERS; c++) {
        char piece[2] = {(char)(c < 0x80 ? c : 0xC0 | c >> 6), (char)(0x80 | (c & 0x3F))};
        tokenizer->character_id[c] = attn_vocabulary_find(vocabulary, piece, c < 0x80 ? 1 : 2);
    }
    tokenizer->mark_id = attn_vocabulary_find(vocabulary, ATTN_MARK, ATTN_MARK_BYTES);
    tokenizer->eos = attn_vocabulary_find(vocabulary, "</s>", 4);
}

attn_status attn_tokenizer_finish(attn_tokenizer *tokenizer, const int32_t *special, size_t count) {
    ATTN_TRY(attn_tokenizer_make_info(tokenizer));
    for (size_t i = 0; i < count; i++) tokenizer->info[special[i]].special = true;
    for (int b = 0; b < 256; b++)
        if (tokenizer->byte_id[b] < 0)
            return attn_fail(tokenizer->ctx, ATTN_E_UNSUPPORTED,
                             "BPE: found no piece <0x%02X>, expected one for each byte", (unsigned)b);
    attn_tokenizer_find_characters(tokenizer);
    return ATTN_OK;
}

attn_status attn_tokenizer_normalise(const attn_tokenizer *tokenizer, char **out, size_t *out_bytes, const char *text,
                                     size_t bytes) {
    enum { GROWTH = 64, ALLOWANCE = 1 << 20 }; /* replacements of replacements must not fill the memory */
    attn_buffer now = ATTN_BUFFER_INIT(tokenizer->ctx), next = ATTN_BUFFER_INIT(tokenizer->ctx);
    attn_pass_nfc(&now, text, bytes, NULL); /* valid UTF-8 in any case; doing it twice costs little */
    for (size_t i = 0; i < tokenizer->norms && now.status == ATTN_OK; i++) {
        const attn_norm_step *step = tokenizer->norm + i;
        next.bytes = 0;
        step->type->apply(step, &next, now.data, now.bytes);
        attn_buffer done = next;
        next = now;
        now = done;
        if (now.bytes > ALLOWANCE && now.bytes / GROWTH > bytes)
            now.status =
                attn_fail(tokenizer->ctx, ATTN_E_FORMAT, "normalizer: %zu bytes of text became %zu", bytes, now.bytes);
    }
    attn_buffer_free(&next);
    return attn_buffer_give(&now, out, out_bytes);
}

/* ---- text to ids ---------------------------------------------------------------------------- */

static attn_status add_bytes(const attn_tokenizer *tokenizer, attn_symbols *symbols, const char *text, size_t bytes,
                             size_t start, size_t end) {
    for (size_t i = 0; i < bytes; i++, start = ATTN_MIN(start + 1, end))
        ATTN_TRY(attn_symbols_add(tokenizer->ctx, symbols, tokenizer->byte_id[(unsigned char)text[i]], start));
    return ATTN_OK;
}

/* The characters of a piece; what the vocabulary lacks as bytes. */
static attn_status add_characters(const attn_tokenizer *tokenizer, attn_symbols *symbols, const attn_piece *piece,
                                  const char *text) {
    symbols->count = 0;
    if (piece->marked && tokenizer->mark_id >= 0)
        ATTN_TRY(attn_symbols_add(tokenizer->ctx, symbols, tokenizer->mark_id, piece->first));
    else if (piece->marked)
        ATTN_TRY(add_bytes(tokenizer, symbols, ATTN_MARK, ATTN_MARK_BYTES, piece->first, piece->body));
    for (size_t at = piece->body; at < piece->end;) {
        size_t first = at;
        int32_t c = attn_utf8_next(text, piece->end, &at), id;
        if (c < ATTN_LOW_CHARACTERS) id = tokenizer->character_id[ATTN_MAX(c, 0)];
        else id = attn_vocabulary_find(&tokenizer->vocabulary, text + first, at - first);
        if (id >= 0) ATTN_TRY(attn_symbols_add(tokenizer->ctx, symbols, id, first));
        else ATTN_TRY(add_bytes(tokenizer, symbols, text + first, at - first, first, at));
    }
    return ATTN_OK;
}

static attn_status add_token(attn_context *ctx, attn_tokens *tokens, attn_token token) {
    ATTN_TRY(attn_grow(ctx, &tokens->token, &tokens->capacity, tokens->count + 1, tokens->count, sizeof token));
    tokens->token[tokens->count++] = token;
    return ATTN_OK;
}

static attn_status tokenize_pieces(const attn_tokenizer *tokenizer, attn_symbols *symbols, attn_tokens *tokens) {
    attn_piece piece = {0};
    while (attn_next_piece(tokenizer, &piece, tokens->text, tokens->bytes)) {
        ATTN_TRY(add_characters(tokenizer, symbols, &piece, tokens->text));
        ATTN_TRY(attn_bpe_merge(&tokenizer->bpe, symbols));
        for (uint32_t i = 0; i != ATTN_SYMBOL_NONE; i = symbols->at[i].next) {
            uint32_t next = symbols->at[i].next;
            size_t end = next == ATTN_SYMBOL_NONE ? piece.end : symbols->at[next].start;
            attn_token token = {symbols->at[i].id, symbols->at[i].start, end, piece.word};
            ATTN_TRY(add_token(tokenizer->ctx, tokens, token));
        }
    }
    return ATTN_OK;
}

/* Of a tokenizer that is trained here: text never becomes a special token, but for a tag that it begins with. */
static attn_status tokenize_words(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text, size_t bytes,
                                  bool add_eos) {
    attn_context *ctx = tokenizer->ctx;
    if (add_eos && tokenizer->eos < 0) return attn_fail(ctx, ATTN_E_ARGUMENT, "the tokenizer has no </s> to end with");
    int32_t id;
    const size_t tag = attn_tokenizer_tag(tokenizer, &id, text, bytes);
    ATTN_TRY(attn_tokenizer_normalise(tokenizer, &tokens->text, &tokens->bytes, text + tag, bytes - tag));
    attn_symbols symbols = ATTN_SYMBOLS_INIT;
    attn_status status = tag ? add_token(ctx, tokens, (attn_token){id, 0, 0, -1}) : ATTN_OK;
    if (status == ATTN_OK) status = tokenize_pieces(tokenizer, &symbols, tokens);
    attn_symbols_free(&tokenizer->bpe, &symbols);
    if (status == ATTN_OK && add_eos)
        status = add_token(ctx, tokens, (attn_token){tokenizer->eos, tokens->bytes, tokens->bytes, -1});
    if (status != ATTN_OK) tokens->count = 0;
    return status;
}

attn_status attn_tokenize_with(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text, size_t bytes,
                               const attn_tokenize_options *options) {
    attn_tokenize_options o = ATTN_TOKENIZE_OPTIONS_INIT;
    tokens->count = 0;
    attn_release(tokenizer->ctx, tokens->text);
    tokens->text = NULL;
    tokens->bytes = 0;
    if (options && options->struct_size != sizeof o)
        return attn_fail(tokenizer->ctx, ATTN_E_VERSION, "attn_tokenize_options: found struct_size %zu, expected %zu",
                         options->struct_size, sizeof o);
    if (options) o = *options;
    if (!text) text = "", bytes = 0;
    if (tokenizer->pipeline) return attn_pipeline_encode(tokenizer, tokens, text, bytes, &o);
    return tokenize_words(tokenizer, tokens, text, bytes, o.add_special);
}

attn_status attn_tokenize(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text, size_t bytes,
                          bool add_special) {
    attn_tokenize_options options = ATTN_TOKENIZE_OPTIONS_INIT;
    options.add_special = add_special;
    return attn_tokenize_with(tokenizer, tokens, text, bytes, &options);
}

void attn_tokens_free(attn_context *ctx, attn_tokens *tokens) {
    attn_release(ctx, tokens->token);
    attn_release(ctx, tokens->text);
    *tokens = (attn_tokens)ATTN_TOKENS_INIT;
}

/* ---- ids to text ---------------------------------------------------------------------------- */

/* Adds the bytes of ids[first …) up to the first token of text, specials skipped: as they are if they are UTF-8 all
 * together, else U+FFFD for each. Returns the index behind. */
static size_t add_byte_run(const attn_tokenizer *tokenizer, attn_buffer *out, attn_buffer *run, const int32_t *ids,
                           size_t n, size_t first, attn_token *spans) {
    size_t end = first;
    run->bytes = 0;
    for (; end < n && (tokenizer->info[ids[end]].byte >= 0 || tokenizer->info[ids[end]].special); end++) {
        char byte = (char)tokenizer->info[ids[end]].byte;
        if (!tokenizer->info[ids[end]].special) attn_buffer_add(run, &byte, 1);
    }
    if (run->status != ATTN_OK) out->status = run->status;
    if (out->status != ATTN_OK) return n;
    bool valid = attn_utf8_check(run->data, run->bytes) == SIZE_MAX;
    for (size_t i = first, byte = 0; i < end; i++) {
        bool special = tokenizer->info[ids[i]].special;
        size_t at = out->bytes;
        if (!special && valid) attn_buffer_add(out, run->data + byte, 1);
        else if (!special) attn_buffer_add(out, "\xEF\xBF\xBD", 3);
        byte += !special;
        if (spans) spans[i] = (attn_token){ids[i], at, out->bytes, special ? -1 : 0};
    }
    return end;
}

/* Fills in the words: a token is of the word in which its first byte that is no space lies, else of the next word. */
static void number_words(const char *text, attn_token *spans, size_t n) {
    int32_t words = 0;
    bool inside = false;
    for (size_t i = 0; i < n; i++) {
        if (spans[i].word < 0) continue;
        bool found = false;
        spans[i].word = inside && spans[i].first == spans[i].end ? words - 1 : words;
        for (size_t at = spans[i].first; at < spans[i].end; at++) {
            bool space = text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r');
            if (!space && !inside) words++;
            inside = !space;
            if (inside && !found) spans[i].word = words - 1, found = true;
        }
    }
}

/* The decoder's Strip: one space at the start. */
static void strip_first_space(attn_buffer *out, attn_token *spans, size_t n) {
    if (!out->bytes || out->data[0] != ' ') return;
    memmove(out->data, out->data + 1, out->bytes--);
    for (size_t i = 0; spans && i < n; i++) {
        spans[i].first -= spans[i].first > 0;
        spans[i].end -= spans[i].end > 0;
    }
}

attn_status attn_detokenize(const attn_tokenizer *tokenizer, char **out, size_t *out_bytes, const int32_t *ids,
                            size_t n, attn_token *spans) {
    const attn_vocabulary *vocabulary = &tokenizer->vocabulary;
    *out = NULL;
    if (out_bytes) *out_bytes = 0;
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= vocabulary->count)
            return attn_fail(tokenizer->ctx, ATTN_E_ARGUMENT, "found id %d, expected 0 to %zu", (int)ids[i],
                             vocabulary->count - 1);
    if (tokenizer->pipeline) {
        ATTN_TRY(attn_pipeline_decode(tokenizer, out, out_bytes, ids, n, spans));
        if (spans) number_words(*out, spans, n);
        return ATTN_OK;
    }
    attn_buffer text = ATTN_BUFFER_INIT(tokenizer->ctx), run = ATTN_BUFFER_INIT(tokenizer->ctx);
    for (size_t i = 0; i < n && text.status == ATTN_OK;) {
        attn_token_info info = tokenizer->info[ids[i]];
        if (!info.special && info.byte >= 0) {
            i = add_byte_run(tokenizer, &text, &run, ids, n, i, spans);
            continue;
        }
        size_t at = text.bytes;
        if (!info.special)
            attn_pass_replace(&text, attn_vocabulary_text(vocabulary, ids[i]),
                              attn_vocabulary_bytes(vocabulary, ids[i]), ATTN_MARK, ATTN_MARK_BYTES, " ", 1);
        if (spans) spans[i] = (attn_token){ids[i], at, text.bytes, info.special ? -1 : 0};
        i++;
    }
    if (text.status == ATTN_OK) strip_first_space(&text, spans, n);
    if (text.status == ATTN_OK && spans) number_words(text.data, spans, n);
    attn_buffer_free(&run);
    return attn_buffer_give(&text, out, out_bytes);
}
