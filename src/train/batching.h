/* batching.h: one epoch of a corpus as batches of similar length.
 *
 *     attn_epoch epoch = ATTN_EPOCH_INIT(ctx);
 *     ATTN_TRY(attn_epoch_build(&epoch, tokenizer, corpus, &options, 3));
 *     for (size_t i = 0; i < epoch.batches; i++) {
 *         attn_pair_batch batch;
 *         ATTN_TRY(attn_epoch_batch(&epoch, i, &batch));      // valid until the next call
 *     }
 *     attn_epoch_free(&epoch);
 *
 * What an epoch holds depends on (corpus, tokenizer, options, seed, its number) alone.                            */
#ifndef ATTN_TRAIN_BATCHING_H
#define ATTN_TRAIN_BATCHING_H

#include "train/guide.h"
#include <attn/train.h>

typedef struct attn_batching_options {
    size_t batch_tokens;      /* sentences × longest target ≤ this; × longest source ≤ twice this */
    size_t max_tokens;        /* a side with more tokens (</s> not counted): the pair is left out */
    float concatenate;        /* part of the examples that are 2–8 pairs joined by a space */
    size_t concatenate_words; /* no side of a joined example is longer */
    attn_augment_options augment;
    uint64_t seed;
    bool shuffle;      /* false: all pairs sorted by length, in one window */
    attn_guide *guide; /* borrowed; NULL: no links */
} attn_batching_options;

/* ids[offset …] are the source's tokens, then the target's; both end with </s>. */
typedef struct attn_example {
    size_t offset;
    uint32_t source, target; /* tokens */
    size_t index;            /* when it was made: the last sort key */
    size_t link_first, link_count;
} attn_example;

/* A sequence that examples.c makes: ids[offset …], of which the prompt comes first; label −1: none. */
typedef struct attn_learned_text {
    size_t offset, pair; /* of the corpus */
    uint32_t prompt, count;
    int32_t label;
} attn_learned_text;

typedef struct attn_epoch {
    attn_context *ctx;
    int32_t *ids;
    size_t id_count, id_capacity;
    attn_link *link; /* of tokens, with a guide */
    size_t link_count, link_capacity;
    attn_example *example;
    size_t count, example_capacity;
    size_t *batch_first, *batch_count; /* (batches) examples of each batch */
    size_t batches, first_capacity, count_capacity;
    size_t too_long, empty; /* pairs left out */
    size_t target_tokens;
    int32_t *buffer; /* what attn_epoch_batch hands out */
    size_t buffer_capacity;
    attn_links *links; /* the same of links, one of each pair */
    bool packed;       /* windows of texts: ids are those of all of them, in document the number of its text */
    int32_t *document; /* (id_count) */
    size_t document_capacity;
    size_t links_capacity;
    bool examples;               /* of examples.c: an example's offset is its first sequence, it has `each` of them */
    attn_learned_text *sequence; /* (sequences) */
    size_t sequences, sequence_capacity, each;
    attn_preferences preferences; /* of the batch: PREFERENCES */
    float *reference;             /* (sequences) of all of them; NULL until it is known */
    float *batch_reference;
    size_t batch_reference_capacity;
} attn_epoch;
#define ATTN_EPOCH_INIT(context) \
    { .ctx = (context) }

/* Fills epoch anew; its memory is used again. */
attn_status attn_epoch_build(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                             const attn_batching_options *options, uint64_t number);
/* The same for a language model, of the targets of a corpus, which are texts. */
typedef struct attn_packing_options {
    size_t batch_tokens, window; /* a batch has windows of so many tokens, one at least */
    int32_t end_id;              /* put behind each text; −1: nothing */
    uint64_t seed;
    bool shuffle;
    bool fixed; /* the windows of each epoch begin at the same tokens */
} attn_packing_options;
attn_status attn_epoch_pack(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                            const attn_packing_options *options, uint64_t number);
attn_status attn_epoch_packed_batch(attn_epoch *epoch, size_t index, attn_pair_batch *batch);
/* The same for prompts (sources) with answers or labels (targets), as `task` says. */
typedef struct attn_example_options {
    attn_train_task task;    /* not ATTN_TASK_NEXT */
    size_t batch_tokens;     /* sequences × longest ≤ this, or one example */
    size_t most;             /* what a model may read: longer ones are left out, texts to classify are cut */
    int32_t end_id;          /* behind each answer; −1: nothing */
    const attn_model *model; /* its labels */
    float beta;
    uint64_t seed;
    bool shuffle;
} attn_example_options;
attn_status attn_epoch_examples(attn_epoch *epoch, const attn_tokenizer *tokenizer, const attn_corpus *corpus,
                                const attn_example_options *options, uint64_t number);
attn_status attn_epoch_example_batch(attn_epoch *epoch, size_t index, attn_pair_batch *batch);
/* Which sequence column b of a batch is. */
size_t attn_epoch_sequence(const attn_epoch *epoch, size_t index, size_t b);

attn_status attn_epoch_add_batch(attn_epoch *epoch, size_t first, size_t count);
/* Cuts all examples into batches of similar length (batch_tokens, seed and shuffle of the options). */
attn_status attn_epoch_cut(attn_epoch *epoch, const attn_batching_options *options, uint64_t number);

/* The arrays belong to the epoch and stay until the next call. */
attn_status attn_epoch_batch(attn_epoch *epoch, size_t index, attn_pair_batch *batch);
void attn_epoch_free(attn_epoch *epoch);

#endif
