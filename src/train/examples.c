/* examples.c: prompts with answers, or texts with labels → sequences of tokens → batches.
 *
 *     instructions   p_1 … p_m a_1 … a_n end      learned: what comes after p_m … a_n, not the prompt
 *     classify       x_1 … x_m                    learned: the label, at x_m
 *     preferences    two sequences as for instructions, the chosen answer's and the rejected one's, in one batch
 *
 * The tokens stay the same from epoch to epoch; each epoch shuffles the examples, and batches have similar lengths. */
#include "train/batching.h"
#include <attn/generate.h>

#include <string.h>

enum { STREAM_EXAMPLES = 6 };

static attn_status add_tokens(attn_epoch *epoch, const attn_tokens *tokens, int32_t end_id) {
    const size_t total = epoch->id_count + tokens->count + (end_id >= 0);
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->ids, &epoch->id_capacity, total, epoch->id_count, sizeof *epoch->ids));
    for (size_t i = 0; i < tokens->count; i++) epoch->ids[epoch->id_count++] = tokens->token[i].id;
    if (end_id >= 0) epoch->ids[epoch->id_count++] = end_id;
    return ATTN_OK;
}

/* Which class a pair's label is. */
static attn_status find_label(attn_epoch *epoch, const attn_example_options *options, const attn_pair *pair,
                              int32_t *label) {
    const size_t n = attn_model_labels(options->model);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(pair->target, attn_model_label(options->model, i))) {
            *label = (int32_t)i;
            return ATTN_OK;
        }
    return attn_fail(epoch->ctx, ATTN_E_ARGUMENT, "line %zu: the label is \"%.60s\", expected \"%s\" or another of %zu",
                     pair->line, pair->target, attn_model_label(options->model, 0), n);
}

/* A pair's sequence; false, with nothing added, if it has more tokens than there may be, or none. Texts to classify
 * are cut instead. */
static attn_status add_sequence(attn_epoch *epoch, const attn_tokenizer *tokenizer, attn_tokens *tokens,
                                const attn_example_options *options, const attn_corpus *corpus, size_t index,
                                bool *fits) {
    const attn_pair *pair = attn_corpus_at(corpus, index);
    const bool classify = options->task == ATTN_TASK_CLASSIFY;
    const size_t first = epoch->id_count;
    attn_learned_text sequence = {.offset = first, .pair = index, .label = -1};
    if (classify) ATTN_TRY(find_label(epoch, options, pair, &sequence.label));
    ATTN_TRY(attn_language_tokenize(tokenizer, tokens, pair->source, pair->source_bytes));
    if (classify) tokens->count = ATTN_MIN(tokens->count, options->most);
    ATTN_TRY(add_tokens(epoch, tokens, -1));
    const size_t prompt = epoch->id_count - first;
    if (!classify) {
        ATTN_TRY(attn_tokenize(tokenizer, tokens, pair->target, pair->target_bytes, false));
        ATTN_TRY(add_tokens(epoch, tokens, options->end_id));
    }
    const size_t all = epoch->id_count - first;
    *fits = all <= options->most + !classify && prompt > 0 && (classify || all > prompt);
    if (!*fits) {
        epoch->too_long += all > options->most + !classify;
        epoch->empty += all <= options->most + !classify;
        epoch->id_count = first;
        return ATTN_OK;
    }
    sequence.prompt = (uint32_t)prompt, sequence.count = (uint32_t)all;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->sequence, &epoch->sequence_capacity, epoch->sequences + 1, epoch->sequences,
                       sizeof *epoch->sequence));
    epoch->sequence[epoch->sequences++] = sequence;
    return ATTN_OK;
}

/* All sequences; of preferences a pair is left out whole. */
static attn_status read_sequences(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                                  const attn_example_options *options, attn_tokens *tokens) {
    const size_t each = options->task == ATTN_TASK_PREFERENCES ? 2 : 1, n = attn_corpus_count(corpus);
    if (n % each)
        return attn_fail(epoch->ctx, ATTN_E_ARGUMENT, "preferences: %zu pairs, expected a rejected one for each chosen",
                         n);
    epoch->id_count = epoch->sequences = epoch->too_long = epoch->empty = 0;
    for (size_t i = 0; i < n; i += each) {
        const size_t sequences = epoch->sequences, ids = epoch->id_count;
        bool fits = true;
        for (size_t k = 0; k < each && fits; k++)
            ATTN_TRY(add_sequence(epoch, tokenizer, tokens, options, corpus, i + k, &fits));
        if (fits) continue;
        epoch->sequences = sequences;
        epoch->id_count = ids;
    }
    epoch->examples = true;
    return ATTN_OK;
}

attn_status attn_epoch_examples(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                                const attn_example_options *options, uint64_t number) {
    const size_t each = options->task == ATTN_TASK_PREFERENCES ? 2 : 1;
    if (!epoch->examples) {
        attn_tokens tokens = ATTN_TOKENS_INIT;
        attn_status status = read_sequences(epoch, tokenizer, corpus, options, &tokens);
        attn_tokens_free(epoch->ctx, &tokens);
        ATTN_TRY(status);
    }
    const size_t n = epoch->sequences / each;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->example, &epoch->example_capacity, n, 0, sizeof *epoch->example));
    epoch->count = n;
    epoch->each = each;
    epoch->preferences.beta = options->beta;
    epoch->batches = epoch->target_tokens = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t longest = 0;
        for (size_t k = 0; k < each; k++) {
            const attn_learned_text *s = &epoch->sequence[i * each + k];
            longest = ATTN_MAX(longest, s->count);
            epoch->target_tokens += s->label >= 0 ? 1 : s->count - s->prompt;
        }
        epoch->example[i] = (attn_example){.offset = i * each, .target = longest * (uint32_t)each, .index = i};
    }
    attn_random random = {options->seed, (uint64_t)STREAM_EXAMPLES << 56 | number, 0};
    for (size_t i = options->shuffle ? n : 0; i > 1; i--) {
        const size_t j = (size_t)attn_random_below(&random, i);
        const attn_example keep = epoch->example[i - 1];
        epoch->example[i - 1] = epoch->example[j];
        epoch->example[j] = keep;
    }
    const attn_batching_options cut = {
        .batch_tokens = options->batch_tokens, .seed = options->seed, .shuffle = options->shuffle};
    return n ? attn_epoch_cut(epoch, &cut, number) : ATTN_OK;
}

/* Column b of the batch: the sequence's tokens, and what is learned at each. */
static void put_sequence(const attn_epoch *epoch, const attn_learned_text *s, size_t b, size_t B, size_t T, int32_t *in,
                         int32_t *out) {
    const int32_t *ids = epoch->ids + s->offset;
    const size_t steps = s->count - (s->label < 0);
    for (size_t t = 0; t < T; t++) {
        const size_t cell = t * B + b;
        in[cell] = t < steps ? ids[t] : ATTN_ID_PAD;
        if (s->label >= 0) out[cell] = t + 1 == steps ? s->label : -1;
        else out[cell] = t < steps && t + 1 >= s->prompt ? ids[t + 1] : -1;
    }
}

size_t attn_epoch_sequence(const attn_epoch *epoch, size_t index, size_t b) {
    return epoch->example[epoch->batch_first[index] + b / epoch->each].offset + b % epoch->each;
}

/* The reference's log-probabilities, in the order of the batch. */
static attn_status add_preferences(attn_epoch *epoch, size_t index, attn_pair_batch *batch) {
    const size_t B = batch->batch;
    epoch->preferences.reference = NULL;
    batch->preferences = &epoch->preferences;
    if (!epoch->reference) return ATTN_OK;
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->batch_reference, &epoch->batch_reference_capacity, B, 0,
                       sizeof *epoch->batch_reference));
    for (size_t b = 0; b < B; b++) epoch->batch_reference[b] = epoch->reference[attn_epoch_sequence(epoch, index, b)];
    epoch->preferences.reference = epoch->batch_reference;
    return ATTN_OK;
}

attn_status attn_epoch_example_batch(attn_epoch *epoch, size_t index, attn_pair_batch *batch) {
    const size_t B = epoch->each * epoch->batch_count[index];
    size_t T = 0, cells;
    for (size_t b = 0; b < B; b++) {
        const attn_learned_text *s = &epoch->sequence[attn_epoch_sequence(epoch, index, b)];
        T = ATTN_MAX(T, s->count - (s->label < 0));
    }
    if (!attn_size_mul(&cells, 2 * T + 1, B)) return attn_fail(epoch->ctx, ATTN_E_SHAPE, "a batch is too large");
    ATTN_TRY(attn_grow(epoch->ctx, &epoch->buffer, &epoch->buffer_capacity, cells, 0, sizeof *epoch->buffer));
    int32_t *in = epoch->buffer, *out = in + T * B, *lengths = out + T * B;
    for (size_t b = 0; b < B; b++) {
        const attn_learned_text *s = &epoch->sequence[attn_epoch_sequence(epoch, index, b)];
        lengths[b] = (int32_t)(s->count - (s->label < 0));
        put_sequence(epoch, s, b, B, T, in, out);
    }
    *batch =
        (attn_pair_batch){.batch = B, .target_steps = T, .target_in = in, .target_out = out, .target_lengths = lengths};
    return epoch->each == 2 ? add_preferences(epoch, index, batch) : ATTN_OK;
}
