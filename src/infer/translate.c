/* translate.c: texts in, translations with their alignments out. */
#include "infer/beam.h"
#include "infer/pieces.h"

#include <stdlib.h>
#include <string.h>

/* ---- options and results ----------------------------------------------------------------------------- */

static attn_status check_options(attn_context *ctx, const attn_translate_options *o) {
    if (o->struct_size != sizeof *o)
        return attn_fail(ctx, ATTN_E_VERSION, "translate options: struct_size is %zu, expected %zu", o->struct_size,
                         sizeof *o);
    if (o->beam_size < 1 || o->beam_size > ATTN_MAX_BEAM)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "beam_size is %d, expected 1 to %d", o->beam_size, ATTN_MAX_BEAM);
    if (o->n_best < 1 || o->n_best > o->beam_size)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "n_best is %d, expected 1 to the beam size %d", o->n_best, o->beam_size);
    if (o->max_length < 0)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "max_length is %d, expected 0 (by the source) or more", o->max_length);
    if (o->batch_size < 1)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "batch_size is %d, expected at least 1", o->batch_size);
    if (o->coverage_penalty != -1 && !(o->coverage_penalty >= 0 && o->coverage_penalty <= 10))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "coverage_penalty is %g, expected 0 to 10, or -1: the model's own",
                         (double)o->coverage_penalty);
    if (o->precision != ATTN_F32 && o->precision != ATTN_BF16)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "precision is %s, expected F32 or BF16", attn_dtype_name(o->precision));
    if (!(o->length_penalty >= 0 && o->length_penalty <= 10))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "length_penalty is %g, expected 0 to 10", (double)o->length_penalty);
    return ATTN_OK;
}

void attn_translation_clear(attn_context *ctx, attn_translation *t) {
    attn_tokens_free(ctx, &t->source);
    for (size_t i = 0; i < t->count; i++) attn_hypothesis_clear(ctx, &t->hypothesis[i]);
    attn_release(ctx, t->hypothesis);
    *t = (attn_translation){.source = ATTN_TOKENS_INIT};
}

static void clear_all(attn_context *ctx, attn_translation *out, size_t n) {
    for (size_t i = 0; i < n; i++) attn_translation_clear(ctx, &out[i]);
}

/* The beam search knows the special tokens by their ids. */
static attn_status check_vocabulary(const attn_model *model, const attn_tokenizer *tokenizer) {
    static const struct {
        int32_t id;
        const char *piece;
    } special[] = {{ATTN_ID_BOS, "<s>"}, {ATTN_ID_PAD, "<pad>"}, {ATTN_ID_EOS, "</s>"}, {ATTN_ID_UNK, "<unk>"}};
    size_t size = attn_tokenizer_size(tokenizer);
    if (size != model->vocab_size)
        return attn_fail(model->ctx, ATTN_E_SHAPE, "the tokenizer has %zu tokens, the model's vocab_size is %zu", size,
                         model->vocab_size);
    for (size_t i = 0; i < ATTN_COUNT(special); i++) {
        const char *piece = attn_tokenizer_piece(tokenizer, special[i].id);
        if (!piece || strcmp(piece, special[i].piece))
            return attn_fail(model->ctx, ATTN_E_UNSUPPORTED, "the tokenizer's token %d is \"%.40s\", expected \"%s\"",
                             (int)special[i].id, piece ? piece : "", special[i].piece);
    }
    return ATTN_OK;
}

static attn_status write_texts(const attn_tokenizer *tokenizer, attn_context *ctx, attn_translation *t) {
    for (size_t i = 0; i < t->count; i++) {
        attn_hypothesis *h = &t->hypothesis[i];
        h->span = attn_alloc(ctx, h->count, sizeof *h->span);
        if (!h->span) return ATTN_E_NOMEM;
        ATTN_TRY(attn_detokenize(tokenizer, &h->text, &h->bytes, h->id, h->count, h->span));
    }
    return ATTN_OK;
}

/* ---- batches: sentences of like length together --------------------------------------------------------- */

/* Source positions in a batch at most, if it has more than one sentence: so memory follows the longest sentence, not
 * batch_size times it. */
enum { BATCH_POSITIONS = 8192 };

enum { BYTES_PER_TOKEN = 64 }; /* more, on average over a text, is no language */

typedef struct ordered {
    size_t tokens, index;
} ordered;

typedef struct job {
    attn_search *search;
    attn_translation *out;
    ordered *order; /* longest first, then as given */
    size_t n;
    attn_beam_tapes tapes;
} job;

static int longest_first(const void *a, const void *b) {
    const ordered *x = a, *y = b;
    if (x->tokens != y->tokens) return x->tokens < y->tokens ? 1 : -1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static attn_status run_batch(const attn_model *model, const attn_tokenizer *tokenizer, job *j, size_t first, size_t n,
                             const attn_translate_options *options) {
    attn_status status = attn_beam_search(model, &j->tapes, j->search + first, n, options);
    for (size_t i = first; i < first + n; i++) {
        attn_translation *t = &j->out[j->order[i].index];
        t->hypothesis = j->search[i].hypothesis;
        t->count = j->search[i].count;
        t->context_size = j->search[i].context_size;
        t->state_size = j->search[i].state_size;
        if (status == ATTN_OK) status = write_texts(tokenizer, model->ctx, t);
    }
    return status;
}

/* As many sentences from `first` on as go together. */
static size_t batch_at(const job *j, size_t first, const attn_translate_options *options) {
    size_t fit = ATTN_MAX(BATCH_POSITIONS / j->order[first].tokens, 1);
    return ATTN_MIN(ATTN_MIN((size_t)options->batch_size, fit), j->n - first);
}

/* Texts without a word need no model. */
static attn_status give_empty(attn_context *ctx, attn_translation *t) {
    t->hypothesis = attn_alloc_zero(ctx, 1, sizeof *t->hypothesis);
    if (!t->hypothesis) return ATTN_E_NOMEM;
    t->count = 1;
    t->hypothesis->text = attn_copy_text(ctx, "", 0);
    return t->hypothesis->text ? ATTN_OK : ATTN_E_NOMEM;
}

static attn_status run_all(const attn_model *model, const attn_tokenizer *tokenizer, attn_translation *out, size_t n,
                           const attn_tokens *forced, const attn_translate_options *options) {
    attn_context *ctx = model->ctx;
    job j = {
        .search = attn_alloc_zero(ctx, n, sizeof *j.search), .out = out, .order = attn_alloc(ctx, n, sizeof *j.order)};
    attn_status status = j.search && j.order ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        if (forced || out[i].source.count > 1) j.order[j.n++] = (ordered){out[i].source.count, i};
        else status = give_empty(ctx, &out[i]);
    }
    if (status == ATTN_OK) qsort(j.order, j.n, sizeof *j.order, longest_first);
    int32_t *ids = NULL;
    size_t ids_count = 0, at = 0;
    for (size_t i = 0; forced && i < n; i++) ids_count += forced[i].count;
    if (forced && status == ATTN_OK && !(ids = attn_alloc(ctx, ids_count, sizeof *ids))) status = ATTN_E_NOMEM;
    for (size_t i = 0; i < j.n && status == ATTN_OK; i++) {
        j.search[i].source = &out[j.order[i].index].source;
        if (!forced) continue;
        const attn_tokens *target = &forced[j.order[i].index];
        j.search[i].forced = ids + at;
        j.search[i].forced_count = target->count;
        for (size_t k = 0; k < target->count; k++) ids[at++] = target->token[k].id;
    }
    for (size_t i = 0, some; i < j.n && status == ATTN_OK; i += some) {
        some = batch_at(&j, i, options);
        status = run_batch(model, tokenizer, &j, i, some, options);
    }
    attn_beam_tapes_free(&j.tapes);
    attn_release(ctx, ids);
    attn_release(ctx, j.order);
    attn_release(ctx, j.search);
    return status;
}

/* Refuses what is too long, by its bytes where these already tell: no tokens are made of 10 MB. */
static attn_status tokenize(attn_context *ctx, const attn_tokenizer *tokenizer, attn_tokens *tokens, const char *text,
                            size_t bytes, size_t index, const attn_translate_options *options) {
    size_t most = options->max_source_tokens;
    if (most && bytes / BYTES_PER_TOKEN > most)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "text %zu: found %zu bytes, expected at most %zu tokens of %d bytes",
                         index, bytes, most, BYTES_PER_TOKEN);
    ATTN_TRY(attn_tokenize(tokenizer, tokens, text, bytes, true));
    if (most && tokens->count - 1 > most)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "text %zu: found %zu tokens, expected at most %zu", index,
                         tokens->count - 1, most);
    return ATTN_OK;
}

static attn_status translate_whole(const attn_model *model, const attn_tokenizer *tokenizer, attn_translation *out,
                                   const char *const *texts, const size_t *bytes, size_t n,
                                   const attn_translate_options *options) {
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++)
        status =
            tokenize(model->ctx, tokenizer, &out[i].source, texts[i], bytes ? bytes[i] : strlen(texts[i]), i, options);
    return status == ATTN_OK ? run_all(model, tokenizer, out, n, NULL, options) : status;
}

static attn_status translate_pieces(const attn_model *model, const attn_tokenizer *tokenizer, attn_translation *out,
                                    size_t n, const attn_pieces *pieces, const attn_translate_options *options) {
    attn_context *ctx = model->ctx;
    attn_translation *part = attn_alloc_zero(ctx, pieces->count, sizeof *part);
    if (!part) return ATTN_E_NOMEM;
    attn_status status = translate_whole(model, tokenizer, part, pieces->text, pieces->bytes, pieces->count, options);
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        attn_translation *first = part + pieces->first[i];
        const size_t count = pieces->first[i + 1] - pieces->first[i];
        if (count > 1) {
            status = attn_pieces_join(ctx, &out[i], first, count, options->length_penalty);
        } else {
            out[i] = *first;
            *first = (attn_translation){.source = ATTN_TOKENS_INIT};
        }
    }
    clear_all(ctx, part, pieces->count);
    attn_release(ctx, part);
    return status;
}

attn_status attn_translate(const attn_model *model, const attn_tokenizer *tokenizer, attn_translation *out,
                           const char *const *texts, const size_t *bytes, size_t n,
                           const attn_translate_options *options) {
    attn_translate_options defaults = ATTN_TRANSLATE_OPTIONS_INIT;
    attn_context *ctx = model->ctx;
    if (!options) options = &defaults;
    for (size_t i = 0; i < n; i++) out[i] = (attn_translation){.source = ATTN_TOKENS_INIT};
    ATTN_TRY(check_options(ctx, options));
    if (options->posterior)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "posterior needs given translations: attn_translate_forced");
    ATTN_TRY(check_vocabulary(model, tokenizer));
    attn_status status;
    if (options->split_words && options->n_best == 1 && !options->trace) {
        attn_pieces pieces;
        status = attn_pieces_make(ctx, &pieces, tokenizer, texts, bytes, n, options->split_words);
        if (status == ATTN_OK) status = translate_pieces(model, tokenizer, out, n, &pieces, options);
        attn_pieces_free(ctx, &pieces);
    } else {
        status = translate_whole(model, tokenizer, out, texts, bytes, n, options);
    }
    if (status != ATTN_OK) clear_all(ctx, out, n);
    return status;
}

attn_status attn_translate_forced(const attn_model *model, const attn_tokenizer *tokenizer, attn_translation *out,
                                  const char *const *sources, const char *const *targets, size_t n,
                                  const attn_translate_options *options) {
    attn_translate_options defaults = ATTN_TRANSLATE_OPTIONS_INIT;
    attn_context *ctx = model->ctx;
    if (!options) options = &defaults;
    for (size_t i = 0; i < n; i++) out[i] = (attn_translation){.source = ATTN_TOKENS_INIT};
    ATTN_TRY(check_options(ctx, options));
    ATTN_TRY(check_vocabulary(model, tokenizer));
    attn_tokens *forced = attn_alloc_zero(ctx, n, sizeof *forced);
    attn_status status = forced ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        status = tokenize(ctx, tokenizer, &out[i].source, sources[i], strlen(sources[i]), i, options);
        if (status == ATTN_OK)
            status = tokenize(ctx, tokenizer, &forced[i], targets[i], strlen(targets[i]), i, options);
    }
    if (status == ATTN_OK) status = run_all(model, tokenizer, out, n, forced, options);
    for (size_t i = 0; forced && i < n; i++) attn_tokens_free(ctx, &forced[i]);
    attn_release(ctx, forced);
    if (status != ATTN_OK) clear_all(ctx, out, n);
    return status;
}

/* ---- words ---------------------------------------------------------------------------------------------- */

static size_t word_count(const attn_token *token, size_t n) {
    size_t words = 0;
    for (size_t i = 0; i < n; i++)
        if (token[i].word >= 0) words = ATTN_MAX(words, (size_t)token[i].word + 1);
    return words;
}

attn_status attn_alignment_words(attn_context *ctx, float **out, size_t *rows, size_t *columns, const float *alignment,
                                 const attn_token *target, size_t target_count, const attn_token *source,
                                 size_t source_count, bool renormalise) {
    *rows = word_count(target, target_count);
    *columns = word_count(source, source_count);
    *out = NULL;
    if (!alignment && target_count && source_count)
        return attn_fail(ctx, ATTN_E_ARGUMENT, "the alignment is NULL: a model without attention has none");
    float *words = attn_alloc_zero(ctx, *rows * *columns, sizeof *words); /* 2³¹ each at most: no overflow */
    size_t *tokens = words ? attn_alloc_zero(ctx, *rows, sizeof *tokens) : NULL;
    if (!words || !tokens) {
        attn_release(ctx, words);
        attn_release(ctx, tokens);
        return ATTN_E_NOMEM;
    }
    for (size_t i = 0; i < target_count; i++) {
        if (target[i].word < 0) continue;
        float *row = words + (size_t)target[i].word * *columns;
        tokens[target[i].word]++;
        for (size_t j = 0; j < source_count; j++)
            if (source[j].word >= 0) row[source[j].word] += alignment[i * source_count + j];
    }
    for (size_t i = 0; i < *rows; i++) {
        float sum = 0, *row = words + i * *columns;
        for (size_t j = 0; j < *columns; j++) sum += row[j];
        float scale = renormalise ? (sum > 0 ? 1 / sum : 0) : (tokens[i] ? 1 / (float)tokens[i] : 0);
        for (size_t j = 0; j < *columns; j++) row[j] *= scale;
    }
    attn_release(ctx, tokens);
    *out = words;
    return ATTN_OK;
}
