/* decode.c: ids to text. */
#include <string.h>

#include "text/pipeline.h"

attn_status attn_decoding_new(attn_context *ctx, attn_decoding *d, size_t tokens, size_t strings) {
    *d = (attn_decoding){.text = ATTN_BUFFER_INIT(ctx)};
    d->token_end = attn_alloc(ctx, tokens, sizeof *d->token_end);
    d->string_end = attn_alloc(ctx, strings + 1, sizeof *d->string_end);
    attn_buffer_add(&d->text, "", 0);
    if (d->token_end && d->string_end && d->text.status == ATTN_OK) return ATTN_OK;
    attn_decoding_free(ctx, d);
    return ATTN_E_NOMEM;
}

void attn_decoding_free(attn_context *ctx, attn_decoding *d) {
    attn_buffer_free(&d->text);
    attn_release(ctx, d->token_end);
    attn_release(ctx, d->string_end);
    d->token_end = d->string_end = NULL;
}

/* Each token a string, an added one as it is looked for; without decoders there are spaces between them. */
static attn_status take_tokens(const attn_tokenizer *tokenizer, attn_decoding *d, const int32_t *ids, size_t n) {
    const attn_pipeline *p = tokenizer->pipeline;
    for (size_t i = 0; i < n; i++) {
        if (tokenizer->info[ids[i]].special) continue;
        if (d->strings && !p->decoder.count) attn_buffer_add(&d->text, " ", 1);
        int32_t normal = p->normal_text ? p->normal_text[ids[i]] : -1;
        attn_buffer_text(&d->text, normal < 0 ? attn_tokenizer_piece(tokenizer, ids[i])
                                              : attn_vocabulary_text(&p->normal.texts, normal));
        d->token_end[d->tokens++] = d->string_end[d->strings++] = d->text.bytes;
    }
    return d->text.status;
}

static attn_status run_decoders(attn_work *work, const attn_parts *decoder, attn_decoding *now) {
    for (size_t i = 0; i < decoder->count; i++) {
        attn_decoding next;
        if (!now->strings) return ATTN_OK;
        ATTN_TRY(attn_decoding_new(work->ctx, &next, now->tokens, now->strings));
        attn_status status = decoder->at[i].type->decode(work, &decoder->at[i], &next, now);
        if (status == ATTN_OK) status = next.text.status;
        attn_decoding done = *now;
        *now = next;
        attn_decoding_free(work->ctx, &done);
        ATTN_TRY(status);
    }
    return ATTN_OK;
}

attn_status attn_pipeline_decode(const attn_tokenizer *tokenizer, char **out, size_t *out_bytes, const int32_t *ids,
                                 size_t n, attn_token *spans) {
    attn_context *ctx = tokenizer->ctx;
    attn_work work = ATTN_WORK_INIT(ctx);
    attn_decoding d;
    ATTN_TRY(attn_decoding_new(ctx, &d, n, n));
    attn_status status = take_tokens(tokenizer, &d, ids, n);
    if (status == ATTN_OK) status = run_decoders(&work, &tokenizer->pipeline->decoder, &d);
    for (size_t i = 0, token = 0, at = 0; status == ATTN_OK && spans && i < n; i++) {
        bool special = tokenizer->info[ids[i]].special;
        size_t end = special ? at : d.token_end[token++];
        spans[i] = (attn_token){ids[i], at, end, special ? -1 : 0};
        at = end;
    }
    if (status == ATTN_OK) status = attn_buffer_give(&d.text, out, out_bytes);
    attn_decoding_free(ctx, &d);
    attn_work_free(&work);
    return status;
}
