/* batching.c: pairs → examples → windows sorted by length → batches.
 *
 *   1. pairs are shuffled;
 *   2. in that order each becomes an example, alone or joined with those that follow, augmented, as token ids;
 *   3. windows of about WINDOW batches are sorted by (target, source) length and cut;
 *   4. batches are shuffled.
 * Sorting within windows keeps padding small (a few per cent) while neighbours still change from epoch to epoch.     */
#include "train/batching.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW = 64, JOIN_MIN = 2, JOIN_MAX = 8 };

/* Streams of random numbers, one a purpose. */
enum { STREAM_PAIRS = 1, STREAM_JOIN = 2, STREAM_BATCHES = 3 };

static attn_random stream(uint64_t seed, uint64_t purpose, uint64_t number) {
    return (attn_random){seed, purpose << 56 | number, 0};
}

/* Fisher & Yates. */
static void shuffle(size_t *order, size_t n, attn_random random) {
    for (size_t i = n; i > 1; i--) {
        size_t j = (size_t)attn_random_below(&random, i), keep = order[i - 1];
        order[i - 1] = order[j];
        order[j] = keep;
    }
}

/* ---- examples -------------------------------------------------------------------------------------- */

typedef struct builder {
    attn_epoch *epoch;
    const attn_tokenizer *tokenizer;
    const attn_corpus *corpus;
    const attn_batching_options *options;
    uint64_t number;
    bool augments;
    size_t *order; /* (pairs) */
    attn_random join;
    attn_buffer source, target;                        /* texts of the example being made */
    size_t source_end[JOIN_MAX], target_end[JOIN_MAX]; /* where its k-th pair ends in them */
    attn_tokens source_tokens, target_tokens;
} builder;

static size_t count_words(const char *text, size_t bytes) {
    size_t words = 0;
    bool inside = false;
    for (size_t i = 0; i < bytes; i++) {
        bool space = text[i] == ' ' || text[i] == '\t';
        words += !space && !inside;
        inside = !space;
    }
    return words;
}

static void append(attn_buffer *text, size_t *end, const char *add, size_t bytes) {
    if (text->bytes) attn_buffer_add(text, " ", 1);
    attn_buffer_add(text, add, bytes);
    *end = text->bytes;
}

/* Whether a tag of the target language is the one that the example begins with. */
static bool same_tag(const builder *b, const char *tag, size_t bytes) {
    return attn_tokenizer_tag(b->tokenizer, NULL, b->source.data, b->source.bytes) == bytes &&
           memcmp(b->source.data, tag, bytes) == 0;
}

/* Appends pair `index` as the k-th of the example; of its tag only the first one's stays. *fits is false, and nothing
 * appended, if it would get too long. */
static attn_status append_pair(builder *b, size_t index, size_t k, bool *fits) {
    attn_context *ctx = b->epoch->ctx;
    const attn_pair *pair = attn_corpus_at(b->corpus, index);
    const char *source = pair->source, *target = pair->target;
    size_t source_bytes = pair->source_bytes, target_bytes = pair->target_bytes;
    char *new_source = NULL, *new_target = NULL;
    if (b->augments) {
        uint64_t draw = b->number * attn_corpus_count(b->corpus) + index;
        ATTN_TRY(attn_augment_pair(ctx, &new_source, &new_target, pair, &b->options->augment, b->options->seed, draw));
        source = new_source;
        target = new_target;
        source_bytes = strlen(source);
        target_bytes = strlen(target);
    }
    const size_t tag = k ? attn_tokenizer_tag(b->tokenizer, NULL, source, source_bytes) : 0;
    *fits = k == 0 || (same_tag(b, source, tag) &&
                       count_words(b->source.data, b->source.bytes) + count_words(source, source_bytes) <=
                           b->options->concatenate_words &&
                       count_words(b->target.data, b->target.bytes) + count_words(target, target_bytes) <=
                           b->options->concatenate_words);
    if (*fits) {
        append(&b->source, &b->source_end[k], source + tag, source_bytes - tag);
        append(&b->target, &b->target_end[k], target, target_bytes);
    }
    attn_text_free(ctx, new_source);
    attn_text_free(ctx, new_target);
    return b->source.status != ATTN_OK ? b->source.status : b->target.status;
}

/* Its links are those from `links` on. */
static attn_status add_example(attn_epoch *epoch, const attn_tokens *source, const attn_tokens *target, size_t links) {
    size_t total = epoch->id_count + source->count + target->count;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->ids, &epoch->id_capacity, total, epoch->id_count, sizeof *epoch->ids));
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->example, &epoch->example_capacity, epoch->count + 1, epoch->count,
                       sizeof *epoch->example));
    if (source->count > INT32_MAX || target->count > INT32_MAX)
        return attn_fail(epoch->ctx, ATTN_E_SHAPE, "a pair has more than %d tokens", INT32_MAX);
    epoch->example[epoch->count] =
        (attn_example){epoch->id_count, (uint32_t)source->count,  (uint32_t)target->count, epoch->count,
                       links,           epoch->link_count - links};
    epoch->count++;
    int32_t *ids = epoch->ids + epoch->id_count;
    for (size_t i = 0; i < source->count; i++) *ids++ = source->token[i].id;
    for (size_t i = 0; i < target->count; i++) *ids++ = target->token[i].id;
    epoch->id_count = total;
    epoch->target_tokens += target->count;
    return ATTN_OK;
}

/* Makes the example that begins at place `at` of the order; *used gets how many pairs it took. */
static attn_status make_example(builder *b, size_t at, size_t *used) {
    const attn_batching_options *options = b->options;
    size_t n = attn_corpus_count(b->corpus), want = 1, k = 0;
    if (options->concatenate > 0 && attn_random_uniform(&b->join) < (double)options->concatenate)
        want = JOIN_MIN + (size_t)attn_random_below(&b->join, JOIN_MAX - JOIN_MIN + 1);
    b->source.bytes = b->target.bytes = 0;
    for (bool fits = true; k < want && at + k < n; k++) {
        ATTN_TRY(append_pair(b, b->order[at + k], k, &fits));
        if (!fits) break;
    }
    for (;; k--) { /* what has too many tokens is tried again with a pair less */
        ATTN_TRY(attn_tokenize(b->tokenizer, &b->source_tokens, b->source.data, b->source_end[k - 1], true));
        ATTN_TRY(attn_tokenize(b->tokenizer, &b->target_tokens, b->target.data, b->target_end[k - 1], true));
        size_t longer = ATTN_MAX(b->source_tokens.count, b->target_tokens.count);
        size_t shorter = ATTN_MIN(b->source_tokens.count, b->target_tokens.count);
        *used = k;
        if (shorter <= 1 && k == 1) return b->epoch->empty++, ATTN_OK;
        if (longer - 1 <= options->max_tokens) break;
        if (k == 1) return b->epoch->too_long++, ATTN_OK;
    }
    attn_epoch *epoch = b->epoch;
    const size_t links = epoch->link_count;
    const attn_joined_text source = {b->source.data, b->source_end, k, &b->source_tokens};
    const attn_joined_text target = {b->target.data, b->target_end, k, &b->target_tokens};
    if (options->guide)
        ATTN_TRY(attn_guide_links(options->guide, &epoch->link, &epoch->link_count, &epoch->link_capacity, &source,
                                  &target));
    return add_example(epoch, &b->source_tokens, &b->target_tokens, links);
}

static attn_status make_examples(builder *b) {
    size_t n = attn_corpus_count(b->corpus);
    b->order = attn_alloc(b->epoch->ctx, n, sizeof *b->order);
    if (!b->order) return ATTN_E_NOMEM;
    for (size_t i = 0; i < n; i++) b->order[i] = i;
    if (b->options->shuffle) shuffle(b->order, n, stream(b->options->seed, STREAM_PAIRS, b->number));
    for (size_t at = 0, used = 0; at < n; at += used) ATTN_TRY(make_example(b, at, &used));
    return ATTN_OK;
}

/* ---- batches --------------------------------------------------------------------------------------- */

static int compare_lengths(const void *a, const void *b) {
    const attn_example *x = a, *y = b;
    if (x->target != y->target) return x->target < y->target ? -1 : 1;
    if (x->source != y->source) return x->source < y->source ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

attn_status attn_epoch_add_batch(attn_epoch *epoch, size_t first, size_t count) {
    size_t n = epoch->batches;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->batch_first, &epoch->first_capacity, n + 1, n, sizeof(size_t)));
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->batch_count, &epoch->count_capacity, n + 1, n, sizeof(size_t)));
    epoch->batch_first[n] = first;
    epoch->batch_count[n] = count;
    epoch->batches++;
    return ATTN_OK;
}

/* Sorts examples first … end−1 and cuts them into batches. */
static attn_status cut_window(attn_epoch *epoch, size_t first, size_t end, size_t batch_tokens) {
    qsort(epoch->example + first, end - first, sizeof *epoch->example, compare_lengths);
    size_t begin = first, longest_source = 0;
    for (size_t i = first; i < end; i++) {
        const attn_example *example = &epoch->example[i];
        size_t n = i - begin + 1, source = ATTN_MAX(longest_source, example->source);
        /* sorted: this target is the longest so far */
        if (n > 1 && (n * example->target > batch_tokens || n * source / 2 > batch_tokens)) {
            ATTN_TRY(attn_epoch_add_batch(epoch, begin, i - begin));
            begin = i;
            source = example->source;
        }
        longest_source = source;
    }
    return attn_epoch_add_batch(epoch, begin, end - begin);
}

static attn_status shuffle_batches(attn_epoch *epoch, attn_random random) {
    size_t n = epoch->batches;
    size_t *order = attn_alloc(epoch->ctx, n, 3 * sizeof *order);
    if (!order) return ATTN_E_NOMEM;
    size_t *first = order + n, *count = first + n;
    for (size_t i = 0; i < n; i++) order[i] = i;
    memcpy(first, epoch->batch_first, n * sizeof *first);
    memcpy(count, epoch->batch_count, n * sizeof *count);
    shuffle(order, n, random);
    for (size_t i = 0; i < n; i++) {
        epoch->batch_first[i] = first[order[i]];
        epoch->batch_count[i] = count[order[i]];
    }
    attn_release(epoch->ctx, order);
    return ATTN_OK;
}

attn_status attn_epoch_cut(attn_epoch *epoch, const attn_batching_options *options, uint64_t number) {
    size_t window_tokens, tokens = 0, first = 0;
    if (!options->shuffle || !attn_size_mul(&window_tokens, options->batch_tokens, WINDOW)) window_tokens = SIZE_MAX;
    for (size_t i = 0; i < epoch->count; i++) {
        tokens += epoch->example[i].target;
        if (tokens < window_tokens && i + 1 < epoch->count) continue;
        ATTN_TRY(cut_window(epoch, first, i + 1, options->batch_tokens));
        first = i + 1;
        tokens = 0;
    }
    return options->shuffle ? shuffle_batches(epoch, stream(options->seed, STREAM_BATCHES, number)) : ATTN_OK;
}

/* ---- the epoch --------------------------------------------------------------------------------------- */

attn_status attn_epoch_build(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                             const attn_batching_options *options, uint64_t number) {
    const attn_augment_options *augment = &options->augment;
    builder b = {
        .epoch = epoch,
        .tokenizer = tokenizer,
        .corpus = corpus,
        .options = options,
        .number = number,
        .augments = augment->lowercase_source > 0 || augment->drop_final_punctuation > 0 ||
                    augment->drop_source_commas > 0 || augment->fold_umlauts > 0,
        .join = stream(options->seed, STREAM_JOIN, number),
        .source = ATTN_BUFFER_INIT(epoch->ctx),
        .target = ATTN_BUFFER_INIT(epoch->ctx),
        .source_tokens = ATTN_TOKENS_INIT,
        .target_tokens = ATTN_TOKENS_INIT,
    };
    epoch->link_count = epoch->id_count = epoch->count = epoch->batches = epoch->too_long = epoch->empty =
        epoch->target_tokens = 0;
    attn_status status = make_examples(&b);
    if (status == ATTN_OK) status = attn_epoch_cut(epoch, options, number);
    attn_release(epoch->ctx, b.order);
    attn_buffer_free(&b.source);
    attn_buffer_free(&b.target);
    attn_tokens_free(epoch->ctx, &b.source_tokens);
    attn_tokens_free(epoch->ctx, &b.target_tokens);
    return status;
}

attn_status attn_epoch_batch(attn_epoch *epoch, size_t index, attn_pair_batch *batch) {
    if (epoch->packed) return attn_epoch_packed_batch(epoch, index, batch);
    if (epoch->examples) return attn_epoch_example_batch(epoch, index, batch);
    const attn_example *example = epoch->example + epoch->batch_first[index];
    size_t B = epoch->batch_count[index], S = 0, T = 0, cells;
    for (size_t b = 0; b < B; b++) {
        S = ATTN_MAX(S, example[b].source);
        T = ATTN_MAX(T, example[b].target);
    }
    if (!attn_size_mul(&cells, S + 2 * T + 2, B)) return attn_fail(epoch->ctx, ATTN_E_SHAPE, "a batch is too large");
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->buffer, &epoch->buffer_capacity, cells, 0, sizeof *epoch->buffer));
    int32_t *source = epoch->buffer, *target_in = source + S * B, *target_out = target_in + T * B;
    int32_t *source_lengths = target_out + T * B, *target_lengths = source_lengths + B;
    for (size_t b = 0; b < B; b++) {
        const int32_t *ids = epoch->ids + example[b].offset, *target = ids + example[b].source;
        source_lengths[b] = (int32_t)example[b].source;
        target_lengths[b] = (int32_t)example[b].target;
        for (size_t s = 0; s < S; s++) source[s * B + b] = s < example[b].source ? ids[s] : ATTN_ID_PAD;
        for (size_t t = 0; t < T; t++) {
            bool inside = t < example[b].target;
            target_in[t * B + b] = t == 0 ? ATTN_ID_BOS : inside ? target[t - 1] : ATTN_ID_PAD;
            target_out[t * B + b] = inside ? target[t] : -1;
        }
    }
    *batch =
        (attn_pair_batch){B, S, T, source, source_lengths, target_in, target_out, target_lengths, NULL, 0, NULL, NULL};
    if (!epoch->link) return ATTN_OK;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->links, &epoch->links_capacity, B, 0, sizeof *epoch->links));
    for (size_t b = 0; b < B; b++)
        epoch->links[b] = (attn_links){epoch->link + example[b].link_first, example[b].link_count};
    batch->links = epoch->links;
    return ATTN_OK;
}

void attn_epoch_free(attn_epoch *epoch) {
    attn_release(epoch->ctx, epoch->ids);
    attn_release(epoch->ctx, epoch->document);
    attn_release(epoch->ctx, epoch->sequence);
    attn_release(epoch->ctx, epoch->reference);
    attn_release(epoch->ctx, epoch->batch_reference);
    attn_release(epoch->ctx, epoch->link);
    attn_release(epoch->ctx, epoch->links);
    attn_release(epoch->ctx, epoch->example);
    attn_release(epoch->ctx, epoch->batch_first);
    attn_release(epoch->ctx, epoch->batch_count);
    attn_release(epoch->ctx, epoch->buffer);
    *epoch = (attn_epoch){.ctx = epoch->ctx};
}
