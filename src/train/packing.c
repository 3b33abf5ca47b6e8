/* packing.c: texts → tokens, one text behind the other → windows of equal length → batches.
 *
 * In a training each epoch cuts the windows at another place and shuffles them; what is left over at the ends is seen
 * in another epoch. For validation the windows begin at the first token, and the last one may be shorter. A window that
 * reaches over the end of a text says so (documents): nothing is predicted across it, and nothing seen. */
#include "train/batching.h"

#include <string.h>

enum { STREAM_OFFSET = 4, STREAM_WINDOWS = 5 };

static attn_status add_text(attn_epoch *epoch, const attn_tokens *tokens, int32_t end_id, int32_t document) {
    const size_t n = tokens->count + (end_id >= 0), total = epoch->id_count + n;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->ids, &epoch->id_capacity, total, epoch->id_count, sizeof *epoch->ids));
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->document, &epoch->document_capacity, total, epoch->id_count,
                       sizeof *epoch->document));
    for (size_t i = 0; i < n; i++) {
        epoch->ids[epoch->id_count + i] = i < tokens->count ? tokens->token[i].id : end_id;
        epoch->document[epoch->id_count + i] = document;
    }
    epoch->id_count = total;
    return ATTN_OK;
}

/* The texts do not change from epoch to epoch. */
static attn_status read_texts(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                              const attn_packing_options *options) {
    const size_t n = attn_corpus_count(corpus);
    attn_tokens tokens = ATTN_TOKENS_INIT;
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        const attn_pair *text = attn_corpus_at(corpus, i);
        status = attn_tokenize(tokenizer, &tokens, text->target, text->target_bytes, false);
        if (status == ATTN_OK) status = add_text(epoch, &tokens, options->end_id, (int32_t)i);
    }
    attn_tokens_free(epoch->ctx, &tokens);
    if (status == ATTN_OK) epoch->packed = true;
    return status;
}

static attn_status add_window(attn_epoch *epoch, size_t first, size_t count) {
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->example, &epoch->example_capacity, epoch->count + 1, epoch->count,
                       sizeof *epoch->example));
    epoch->example[epoch->count] = (attn_example){.offset = first, .target = (uint32_t)count, .index = epoch->count};
    epoch->count++;
    epoch->target_tokens += count;
    return ATTN_OK;
}

static attn_status cut_windows(attn_epoch *epoch, const attn_packing_options *options, uint64_t number) {
    const size_t last = epoch->id_count ? epoch->id_count - 1 : 0; /* every token but this one has a next one */
    size_t first = 0;
    epoch->count = epoch->target_tokens = 0;
    if (!options->shuffle) {
        for (; first < last; first += options->window)
            ATTN_TRY(add_window(epoch, first, ATTN_MIN(options->window, last - first)));
        return ATTN_OK;
    }
    if (last < options->window) return last ? add_window(epoch, 0, last) : ATTN_OK;
    attn_random random = {options->seed, (uint64_t)STREAM_OFFSET << 56 | number, 0};
    const size_t spare = ATTN_MIN(options->window, last - options->window + 1);
    const size_t offset = (size_t)attn_random_below(&random, spare);
    for (first = options->fixed ? 0 : offset; first + options->window <= last; first += options->window)
        ATTN_TRY(add_window(epoch, first, options->window));
    random = (attn_random){options->seed, (uint64_t)STREAM_WINDOWS << 56 | number, 0};
    for (size_t i = epoch->count; i > 1; i--) {
        const size_t j = (size_t)attn_random_below(&random, i);
        const attn_example keep = epoch->example[i - 1];
        epoch->example[i - 1] = epoch->example[j];
        epoch->example[j] = keep;
    }
    return ATTN_OK;
}

attn_status attn_epoch_pack(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                            const attn_packing_options *options, uint64_t number) {
    if (!epoch->packed) {
        epoch->id_count = 0;
        ATTN_TRY(read_texts(epoch, tokenizer, corpus, options));
    }
    ATTN_TRY(cut_windows(epoch, options, number));
    const size_t each = ATTN_MAX(options->batch_tokens / options->window, 1);
    epoch->batches = 0;
    for (size_t first = 0; first < epoch->count; first += each)
        ATTN_TRY(attn_epoch_add_batch(epoch, first, ATTN_MIN(each, epoch->count - first)));
    return ATTN_OK;
}

attn_status attn_epoch_packed_batch(attn_epoch *epoch, size_t index, attn_pair_batch *batch) {
    const attn_example *example = epoch->example + epoch->batch_first[index];
    const size_t B = epoch->batch_count[index];
    size_t T = 0, cells;
    for (size_t b = 0; b < B; b++) T = ATTN_MAX(T, example[b].target);
    if (!attn_size_mul(&cells, 3 * T + 1, B)) return attn_fail(epoch->ctx, ATTN_E_SHAPE, "a batch is too large");
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->buffer, &epoch->buffer_capacity, cells, 0, sizeof *epoch->buffer));
    int32_t *in = epoch->buffer, *out = in + T * B, *documents = out + T * B, *lengths = documents + T * B;
    for (size_t b = 0; b < B; b++) {
        lengths[b] = (int32_t)example[b].target;
        for (size_t t = 0; t < T; t++) {
            const size_t at = example[b].offset + t, cell = t * B + b;
            const bool inside = t < example[b].target;
            in[cell] = inside ? epoch->ids[at] : ATTN_ID_PAD;
            documents[cell] = inside ? epoch->document[at] : -1;
            out[cell] = inside && epoch->document[at] == epoch->document[at + 1] ? epoch->ids[at + 1] : -1;
        }
    }
    *batch = (attn_pair_batch){.batch = B,
                               .target_steps = T,
                               .target_in = in,
                               .target_out = out,
                               .target_lengths = lengths,
                               .documents = documents};
    return ATTN_OK;
}
