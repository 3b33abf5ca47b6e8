/* pipeline.c: a text through all parts. */
#include "text/pipeline.h"

#include <jansson.h>
#include <string.h>

attn_status attn_pipeline_new(attn_tokenizer *tokenizer) {
    attn_context *ctx = tokenizer->ctx;
    attn_pipeline *p = tokenizer->pipeline = attn_alloc_zero(ctx, 1, sizeof *p);
    if (!p) return ATTN_E_NOMEM;
    p->unknown = -1;
    p->unigram = (attn_unigram)ATTN_UNIGRAM_INIT;
    p->raw.texts = p->normal.texts = (attn_vocabulary)ATTN_VOCABULARY_INIT(ctx);
    return ATTN_OK;
}

static void matched_free(attn_context *ctx, attn_matched *matched) {
    attn_prefixes_free(ctx, &matched->prefixes);
    attn_vocabulary_free(&matched->texts);
    attn_release(ctx, matched->token);
}

void attn_pipeline_free(attn_context *ctx, attn_pipeline *p) {
    if (!p) return;
    void *const array[] = {p->prefix, p->suffix, p->outside, p->normal_text, p->added, p->before, p->after};
    for (size_t i = 0; i < ATTN_COUNT(array); i++) attn_release(ctx, array[i]);
    attn_parts_free(ctx, &p->normaliser);
    attn_parts_free(ctx, &p->splitter);
    attn_parts_free(ctx, &p->decoder);
    attn_unigram_free(ctx, &p->unigram);
    attn_prefixes_free(ctx, &p->pieces);
    matched_free(ctx, &p->raw);
    matched_free(ctx, &p->normal);
    json_decref(p->parts);
    attn_release(ctx, p);
}

int32_t attn_pipeline_find(const attn_tokenizer *tokenizer, const char *text, size_t bytes) {
    int32_t id = attn_vocabulary_find(&tokenizer->vocabulary, text, bytes);
    return id >= 0 && tokenizer->pipeline->outside[id] ? -1 : id;
}

attn_status attn_pipeline_finish(attn_tokenizer *tokenizer) {
    attn_pipeline *p = tokenizer->pipeline;
    attn_tokenizer_find_characters(tokenizer);
    for (int c = 0; c < ATTN_LOW_CHARACTERS; c++)
        if (tokenizer->character_id[c] >= 0 && p->outside[tokenizer->character_id[c]]) tokenizer->character_id[c] = -1;
    for (int b = 0; b < 256; b++) {
        char encoded[4];
        size_t bytes = attn_utf8_put(encoded, attn_byte_character((unsigned char)b));
        p->start_id[b] = attn_pipeline_find(tokenizer, encoded, bytes);
    }
    if (p->model == ATTN_WORDPIECE || p->model == ATTN_UNIGRAM)
        ATTN_TRY(attn_prefixes_build(tokenizer->ctx, &p->pieces, &tokenizer->vocabulary, p->outside));
    p->unigram.pieces = &p->pieces;
    if (p->normal.texts.count) {
        p->normal_text = attn_alloc(tokenizer->ctx, tokenizer->vocabulary.count, sizeof *p->normal_text);
        if (!p->normal_text) return ATTN_E_NOMEM;
        for (size_t i = 0; i < tokenizer->vocabulary.count; i++) p->normal_text[i] = -1;
        for (size_t i = 0; i < p->normal.texts.count; i++) p->normal_text[p->added[p->normal.token[i]].id] = (int32_t)i;
    }
    ATTN_TRY(attn_prefixes_build(tokenizer->ctx, &p->raw.prefixes, &p->raw.texts, NULL));
    return attn_prefixes_build(tokenizer->ctx, &p->normal.prefixes, &p->normal.texts, NULL);
}

/* ---- encoding ------------------------------------------------------------------------------- */

attn_status attn_encoder_reserve(attn_encoder *e, size_t tokens) {
    attn_tokens *to = e->tokens;
    return attn_grow(e->work.ctx, &to->token, &to->capacity, to->count + tokens, to->count, sizeof *to->token);
}

static attn_status add_token(attn_encoder *e, int32_t id, attn_origin span) {
    attn_tokens *tokens = e->tokens;
    attn_token token = {id, span.first, span.end, 0};
    ATTN_TRY(attn_encoder_reserve(e, 1));
    tokens->token[tokens->count++] = token;
    return ATTN_OK;
}

attn_status attn_encoder_add(attn_encoder *e, int32_t id, size_t first, size_t end) {
    return add_token(e, id, attn_traced_span(&e->cuts.text, first, end));
}

/* normal[first, end): no added token is in it any more. All of it is not copied: normal gets the other's memory. */
static attn_status encode_cut(attn_encoder *e, size_t first, size_t end) {
    attn_cuts *cuts = &e->cuts;
    const attn_traced *from = &e->normal;
    if (first >= end) return ATTN_OK;
    if (first == 0 && end == from->text.bytes) {
        attn_traced whole = e->normal;
        e->normal = cuts->text;
        cuts->text = whole;
    } else if (from->given) attn_traced_give(&cuts->text, from->text.data + first, end - first, from->base + first);
    else {
        attn_traced_clear(&cuts->text);
        attn_traced_copy(&cuts->text, from, first, end);
    }
    ATTN_TRY(cuts->text.text.status);
    cuts->count = 0;
    ATTN_TRY(attn_cuts_add(cuts, 0, end - first));
    ATTN_TRY(attn_parts_split(&e->work, &e->p->splitter, cuts));
    for (size_t i = 0; i < cuts->count; i++) ATTN_TRY(attn_encode_piece(e, cuts->cut[i]));
    return ATTN_OK;
}

/* text[first, end) of the given text, which has no added token that is looked for before normalisation. */
static attn_status encode_normal(attn_encoder *e, size_t first, size_t end) {
    if (first >= end) return ATTN_OK;
    attn_traced *normal = &e->normal;
    attn_traced_give(normal, e->tokens->text + first, end - first, first);
    ATTN_TRY(normal->text.status);
    ATTN_TRY(attn_parts_normalise(&e->work, &e->p->normaliser, normal));
    for (size_t at = 0, done = 0;;) {
        attn_added_hit hit =
            attn_added_next(e->p, &e->p->normal, normal->text.data, normal->text.bytes, &at, done, e->options);
        ATTN_TRY(encode_cut(e, done, hit.first));
        if (!hit.token) return ATTN_OK;
        ATTN_TRY(add_token(e, hit.token->id, attn_traced_span(normal, hit.first, hit.end)));
        done = hit.end;
    }
}

static attn_status encode_text(attn_encoder *e) {
    const attn_tokens *tokens = e->tokens;
    for (size_t at = 0, done = 0;;) {
        attn_added_hit hit = attn_added_next(e->p, &e->p->raw, tokens->text, tokens->bytes, &at, done, e->options);
        ATTN_TRY(encode_normal(e, done, hit.first));
        if (!hit.token) return ATTN_OK;
        ATTN_TRY(add_token(e, hit.token->id, (attn_origin){(uint32_t)hit.first, (uint32_t)hit.end}));
        done = hit.end;
    }
}

static attn_status encode_with_specials(attn_encoder *e, bool add_special) {
    const attn_pipeline *p = e->p;
    uint32_t bytes = (uint32_t)e->tokens->bytes;
    for (size_t i = 0; add_special && i < p->before_count; i++)
        ATTN_TRY(add_token(e, p->before[i], (attn_origin){0, 0}));
    ATTN_TRY(encode_text(e));
    for (size_t i = 0; add_special && i < p->after_count; i++)
        ATTN_TRY(add_token(e, p->after[i], (attn_origin){bytes, bytes}));
    return ATTN_OK;
}

static bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* A token is of the white-space word in which its first byte that is no space lies, else of the next word. */
static void number_words(const attn_tokenizer *tokenizer, attn_tokens *tokens) {
    const char *text = tokens->text;
    size_t at = 0; /* words of text[0, at) are counted */
    int32_t words = 0;
    for (size_t i = 0; i < tokens->count; i++) {
        attn_token *token = &tokens->token[i];
        size_t place = token->first;
        while (place < token->end && is_ascii_space(text[place])) place++;
        for (; at <= place && at < tokens->bytes; at++)
            words += !is_ascii_space(text[at]) && (at == 0 || is_ascii_space(text[at - 1]));
        bool inside = place < tokens->bytes && !is_ascii_space(text[place]);
        token->word = inside ? words - 1 : words;
        if (tokenizer->info[token->id].special && token->id != tokenizer->pipeline->unknown) token->word = -1;
    }
}

/* What is no UTF-8 becomes U+FFFD, byte by byte. */
static attn_status take_text(attn_context *ctx, attn_tokens *tokens, const char *text, size_t bytes) {
    attn_buffer valid = ATTN_BUFFER_INIT(ctx);
    size_t copied = 0;
    for (size_t at = 0; at < bytes;) {
        size_t first = at;
        if (attn_utf8_next(text, bytes, &at) >= 0) continue;
        attn_buffer_add(&valid, text + copied, first - copied);
        attn_buffer_add(&valid, "\xEF\xBF\xBD", 3);
        copied = at;
    }
    attn_buffer_add(&valid, text + copied, bytes - copied);
    ATTN_TRY(attn_buffer_give(&valid, &tokens->text, &tokens->bytes));
    if (tokens->bytes > UINT32_MAX / 2)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "a text of more than %u bytes", UINT32_MAX / 2);
    return ATTN_OK;
}

attn_status attn_pipeline_encode(const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text, size_t bytes,
                                 const attn_tokenize_options *options) {
    attn_context *ctx = tokenizer->ctx;
    attn_encoder e = {.tokenizer = tokenizer,
                      .p = tokenizer->pipeline,
                      .work = ATTN_WORK_INIT(ctx),
                      .normal = ATTN_TRACED_INIT(ctx),
                      .cuts = ATTN_CUTS_INIT(ctx),
                      .symbols = ATTN_SYMBOLS_INIT,
                      .path = ATTN_UNIGRAM_PATH_INIT,
                      .spelled = ATTN_BUFFER_INIT(ctx),
                      .tokens = tokens,
                      .options = options};
    attn_status status = take_text(ctx, tokens, text, bytes);
    if (status == ATTN_OK) status = encode_with_specials(&e, options->add_special);
    if (status == ATTN_OK) number_words(tokenizer, tokens);
    else tokens->count = 0;
    attn_buffer_free(&e.spelled);
    attn_unigram_path_free(ctx, &e.path);
    attn_symbols_free(&tokenizer->bpe, &e.symbols);
    attn_cuts_free(&e.cuts);
    attn_traced_free(&e.normal);
    attn_work_free(&e.work);
    return status;
}
