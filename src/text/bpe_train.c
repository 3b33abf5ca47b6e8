/* bpe_train.c: learning the merges (Sennrich, Haddow & Birch 2016, algorithm 1, with counts kept up to date).
 *
 *   (I1) pair.count = occurrences of the pair in all words, each weighted by its word's frequency
 *   (I2) every word that holds the pair is in its list (which may name words that no longer do)
 *   (I3) the heap has an entry of the pair with a count that is not less than its count
 * The best pair has the greatest count, and among equal ones the least ids: the result depends on nothing else.
 *
 * Ids: 4 special tokens, 256 bytes, the characters in the order of code points, then the merges as they are learned.
 * Characters seen fewer than min_frequency times, and all but the most frequent where more than half of the room would
 * be taken, are left to the bytes. U+0000, which JSON's keys cannot hold, always is. */
#include <stdlib.h>
#include <string.h>

#include "text/normalise.h"
#include "text/tokenizer.h"

/* Longer words count as several: nobody's vocabulary needs them, and time stays linear. */
enum { LONGEST_WORD = 512, FIRST_CHARACTER = 4 + 256 };

typedef struct pair {
    int32_t left, right;
    uint64_t count;
    uint32_t first; /* of its words in node */
    bool risen;     /* it is in the list of pairs whose count rose in this round */
} pair;

typedef struct node {
    uint32_t word, next;
} node;

typedef struct entry {
    uint64_t count;
    uint32_t pair;
} entry;

typedef struct word {
    size_t first; /* in symbol */
    uint32_t length;
    uint64_t count;
} word;

typedef struct character {
    int32_t c;
    uint64_t count;
} character;

typedef struct trainer {
    attn_context *ctx;
    attn_tokenizer *tokenizer;
    size_t vocab_size, max_piece_bytes;
    uint64_t min_frequency;
    attn_vocabulary tags, words; /* words as texts, marks included */
    bool has_tags;
    uint64_t *word_count;
    size_t word_count_capacity;
    word *word;
    int32_t *symbol;
    attn_pairs index; /* of pairs */
    pair *pair;
    size_t pairs, pair_capacity;
    node *node;
    size_t nodes, node_capacity;
    entry *heap;
    size_t entries, heap_capacity;
    uint32_t *risen;
    size_t n_risen, risen_capacity;
} trainer;

/* ---- words ---------------------------------------------------------------------------------- */

static attn_status count_word(trainer *t, const char *text, size_t bytes) {
    int32_t id;
    size_t before = t->words.count;
    ATTN_TRY(attn_vocabulary_add(&t->words, text, bytes, &id));
    ATTN_TRY(attn_grow(t->ctx, &t->word_count, &t->word_count_capacity, t->words.count, before, sizeof *t->word_count));
    if (t->words.count > before) t->word_count[id] = 0;
    t->word_count[id]++;
    return ATTN_OK;
}

static attn_status count_words(trainer *t, attn_buffer *marked, const char *text, size_t bytes) {
    attn_piece piece = {0};
    while (attn_next_piece(t->tokenizer, &piece, text, bytes)) {
        marked->bytes = 0;
        if (piece.marked) attn_buffer_add(marked, ATTN_MARK, ATTN_MARK_BYTES);
        attn_buffer_add(marked, text + piece.body, piece.end - piece.body);
        ATTN_TRY(marked->status);
        size_t first = 0, at = 0;
        for (size_t characters = 1; at < marked->bytes; characters++) {
            attn_utf8_next(marked->data, marked->bytes, &at);
            if (characters % LONGEST_WORD && at < marked->bytes) continue;
            ATTN_TRY(count_word(t, marked->data + first, at - first));
            first = at;
        }
    }
    return ATTN_OK;
}

static attn_status count_lines(trainer *t, const char *const *lines, const size_t *bytes, size_t n) {
    attn_buffer marked = ATTN_BUFFER_INIT(t->ctx);
    attn_status status = ATTN_OK;
    for (size_t i = 0; i < n && status == ATTN_OK; i++) {
        char *text = NULL;
        int32_t id;
        size_t length = bytes ? bytes[i] : strlen(lines[i]);
        const size_t tag = t->has_tags ? attn_text_tag(lines[i], length) : 0;
        if (tag) status = attn_vocabulary_add(&t->tags, lines[i], tag, &id);
        if (status == ATTN_OK)
            status = attn_tokenizer_normalise(t->tokenizer, &text, &length, lines[i] + tag, length - tag);
        if (status == ATTN_OK) status = count_words(t, &marked, text, length);
        attn_release(t->ctx, text);
    }
    attn_buffer_free(&marked);
    return status;
}

/* ---- characters ----------------------------------------------------------------------------- */

static int by_count(const void *a, const void *b) {
    const character *x = a, *y = b;
    if (x->count != y->count) return x->count < y->count ? 1 : -1;
    return (x->c > y->c) - (x->c < y->c);
}

static int by_code_point(const void *a, const void *b) {
    const character *x = a, *y = b;
    return (x->c > y->c) - (x->c < y->c);
}

static attn_status add_characters(trainer *t, character *all) {
    size_t n = 0, seen = 0;
    for (size_t id = 0; id < t->words.count; id++) {
        const char *text = attn_vocabulary_text(&t->words, (int32_t)id);
        size_t bytes = attn_vocabulary_bytes(&t->words, (int32_t)id);
        for (size_t at = 0; at < bytes;) all[attn_utf8_next(text, bytes, &at)].count += t->word_count[id];
    }
    for (int32_t c = 1; c < 0x110000; c++) {
        seen += all[c].count > 0;
        if (all[c].count >= t->min_frequency && all[c].count > 0) all[n++] = (character){c, all[c].count};
    }
    if (!seen) return attn_fail(t->ctx, ATTN_E_ARGUMENT, "training a tokenizer: found no text");
    qsort(all, n, sizeof *all, by_count);
    n = ATTN_MIN(n, (t->vocab_size - FIRST_CHARACTER - t->tags.count + 1) / 2);
    qsort(all, n, sizeof *all, by_code_point);
    for (size_t i = 0; i < n; i++) {
        int32_t id, c = all[i].c;
        char text[4];
        size_t bytes = attn_utf8_put(text, c);
        ATTN_TRY(attn_vocabulary_add(&t->tokenizer->vocabulary, text, bytes, &id));
    }
    return ATTN_OK;
}

static attn_status add_alphabet(trainer *t) {
    static const char *const special[] = {"<s>", "<pad>", "</s>", "<unk>"};
    attn_vocabulary *vocabulary = &t->tokenizer->vocabulary;
    int32_t id;
    if (t->tags.count >= t->vocab_size - FIRST_CHARACTER)
        return attn_fail(t->ctx, ATTN_E_ARGUMENT, "vocab_size: found %zu, expected more than %d and %zu tags",
                         t->vocab_size, FIRST_CHARACTER, t->tags.count);
    for (size_t i = 0; i < ATTN_COUNT(special); i++)
        ATTN_TRY(attn_vocabulary_add(vocabulary, special[i], strlen(special[i]), &id));
    for (int b = 0; b < 256; b++) {
        static const char digits[] = "0123456789ABCDEF";
        char piece[] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
        ATTN_TRY(attn_vocabulary_add(vocabulary, piece, sizeof piece, &id));
    }
    for (size_t i = 0; i < t->tags.count; i++)
        ATTN_TRY(attn_vocabulary_add(vocabulary, attn_vocabulary_text(&t->tags, (int32_t)i),
                                     attn_vocabulary_bytes(&t->tags, (int32_t)i), &id));
    character *all = attn_alloc_zero(t->ctx, 0x110000, sizeof *all);
    if (!all) return ATTN_E_NOMEM;
    attn_status status = add_characters(t, all);
    attn_release(t->ctx, all);
    return status;
}

/* Words as symbols: ids of characters, −1 for one that is left to the bytes. */
static attn_status spell_words(trainer *t) {
    size_t used = 0;
    t->word = attn_alloc(t->ctx, t->words.count, sizeof *t->word);
    t->symbol = attn_alloc(t->ctx, t->words.bytes, sizeof *t->symbol);
    if (!t->word || !t->symbol) return ATTN_E_NOMEM;
    for (size_t id = 0; id < t->words.count; id++) {
        const char *text = attn_vocabulary_text(&t->words, (int32_t)id);
        size_t bytes = attn_vocabulary_bytes(&t->words, (int32_t)id);
        t->word[id] = (word){used, 0, t->word_count[id]};
        for (size_t at = 0; at < bytes; t->word[id].length++) {
            size_t first = at;
            attn_utf8_next(text, bytes, &at);
            t->symbol[used++] = attn_vocabulary_find(&t->tokenizer->vocabulary, text + first, at - first);
        }
    }
    return ATTN_OK;
}

/* ---- counts of pairs ------------------------------------------------------------------------ */

static bool better(const trainer *t, entry a, entry b) {
    if (a.count != b.count) return a.count > b.count;
    const pair *x = t->pair + a.pair, *y = t->pair + b.pair;
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static attn_status heap_push(trainer *t, entry e) {
    ATTN_TRY(attn_grow(t->ctx, &t->heap, &t->heap_capacity, t->entries + 1, t->entries, sizeof *t->heap));
    size_t i = t->entries++;
    for (; i > 0 && better(t, e, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
    t->heap[i] = e;
    return ATTN_OK;
}

static entry heap_pop(trainer *t) {
    entry top = t->heap[0], e = t->heap[--t->entries];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < t->entries; i = child) {
        if (child + 1 < t->entries && better(t, t->heap[child + 1], t->heap[child])) child++;
        if (!better(t, t->heap[child], e)) break;
        t->heap[i] = t->heap[child];
    }
    t->heap[i] = e;
    return top;
}

/* One more occurrence of the pair, in word w. */
static attn_status pair_rises(trainer *t, int32_t left, int32_t right, uint32_t w) {
    if (left < 0 || right < 0) return ATTN_OK;
    uint32_t i = attn_pairs_find(&t->index, left, right);
    if (i == ATTN_PAIR_NONE) {
        i = (uint32_t)t->pairs;
        ATTN_TRY(attn_grow(t->ctx, &t->pair, &t->pair_capacity, t->pairs + 1, t->pairs, sizeof *t->pair));
        ATTN_TRY(attn_pairs_add(&t->index, left, right, i));
        t->pair[t->pairs++] = (pair){left, right, 0, UINT32_MAX, false};
    }
    pair *p = t->pair + i;
    p->count += t->word[w].count;
    if (p->first == UINT32_MAX || t->node[p->first].word != w) {
        if (t->nodes >= UINT32_MAX) return attn_fail(t->ctx, ATTN_E_UNSUPPORTED, "training a tokenizer: too much text");
        ATTN_TRY(attn_grow(t->ctx, &t->node, &t->node_capacity, t->nodes + 1, t->nodes, sizeof *t->node));
        t->node[t->nodes] = (node){w, p->first};
        p->first = (uint32_t)t->nodes++;
    }
    if (p->risen) return ATTN_OK;
    ATTN_TRY(attn_grow(t->ctx, &t->risen, &t->risen_capacity, t->n_risen + 1, t->n_risen, sizeof *t->risen));
    t->risen[t->n_risen++] = i;
    p->risen = true;
    return ATTN_OK;
}

static void pair_falls(trainer *t, int32_t left, int32_t right, uint32_t w) {
    if (left < 0 || right < 0) return;
    t->pair[attn_pairs_find(&t->index, left, right)].count -= t->word[w].count;
}

/* The end of a round: pairs that rose get an entry. */
static attn_status push_risen(trainer *t) {
    for (size_t i = 0; i < t->n_risen; i++) {
        pair *p = t->pair + t->risen[i];
        p->risen = false;
        if (p->count) ATTN_TRY(heap_push(t, (entry){p->count, t->risen[i]}));
    }
    t->n_risen = 0;
    return ATTN_OK;
}

/* The best pair; false: none is frequent enough. */
static bool best_pair(trainer *t, uint32_t *best) {
    while (t->entries) {
        entry e = t->heap[0];
        uint64_t count = t->pair[e.pair].count;
        if (e.count < t->min_frequency) return false;
        heap_pop(t);
        if (count == e.count) {
            *best = e.pair;
            return true;
        }
        /* It fell since: with its own count it waits again. The place it left has room, so this cannot fail. */
        if (count && count < e.count) (void)heap_push(t, (entry){count, e.pair});
    }
    return false;
}

static attn_status merge_in_word(trainer *t, uint32_t w, int32_t left, int32_t right, int32_t joined) {
    int32_t *s = t->symbol + t->word[w].first;
    uint32_t n = t->word[w].length, kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i + 1 == n || s[i] != left || s[i + 1] != right) {
            s[kept++] = s[i];
            continue;
        }
        pair_falls(t, left, right, w);
        if (kept) {
            pair_falls(t, s[kept - 1], left, w);
            ATTN_TRY(pair_rises(t, s[kept - 1], joined, w));
        }
        if (i + 2 < n) {
            pair_falls(t, right, s[i + 2], w);
            ATTN_TRY(pair_rises(t, joined, s[i + 2], w));
        }
        s[kept++] = joined;
        i++;
    }
    t->word[w].length = kept;
    return ATTN_OK;
}

static attn_status learn_merge(trainer *t, attn_buffer *text, uint32_t best) {
    attn_vocabulary *vocabulary = &t->tokenizer->vocabulary;
    int32_t left = t->pair[best].left, right = t->pair[best].right, joined;
    text->bytes = 0;
    attn_buffer_add(text, attn_vocabulary_text(vocabulary, left), attn_vocabulary_bytes(vocabulary, left));
    attn_buffer_add(text, attn_vocabulary_text(vocabulary, right), attn_vocabulary_bytes(vocabulary, right));
    ATTN_TRY(text->status);
    if (t->max_piece_bytes && text->bytes > t->max_piece_bytes) return ATTN_OK; /* popped, it does not come back */
    ATTN_TRY(attn_vocabulary_add(vocabulary, text->data, text->bytes, &joined));
    ATTN_TRY(attn_bpe_add(&t->tokenizer->bpe, (attn_merge){left, right, joined}));
    for (uint32_t i = t->pair[best].first; i != UINT32_MAX; i = t->node[i].next)
        ATTN_TRY(merge_in_word(t, t->node[i].word, left, right, joined));
    return push_risen(t);
}

static attn_status learn(trainer *t) {
    for (size_t w = 0; w < t->words.count; w++) {
        const int32_t *s = t->symbol + t->word[w].first;
        for (uint32_t i = 0; i + 1 < t->word[w].length; i++) ATTN_TRY(pair_rises(t, s[i], s[i + 1], (uint32_t)w));
    }
    ATTN_TRY(push_risen(t));
    attn_buffer text = ATTN_BUFFER_INIT(t->ctx);
    attn_status status = ATTN_OK;
    uint32_t best;
    while (status == ATTN_OK && t->tokenizer->vocabulary.count < t->vocab_size && best_pair(t, &best))
        status = learn_merge(t, &text, best);
    attn_buffer_free(&text);
    return status;
}

static void trainer_free(trainer *t) {
    void *const array[] = {t->word_count, t->word, t->symbol, t->pair, t->node, t->heap, t->risen};
    for (size_t i = 0; i < ATTN_COUNT(array); i++) attn_release(t->ctx, array[i]);
    attn_vocabulary_free(&t->tags);
    attn_vocabulary_free(&t->words);
    attn_pairs_free(&t->index);
}

static attn_status finish(trainer *t) {
    static const int32_t special[] = {ATTN_ID_BOS, ATTN_ID_PAD, ATTN_ID_EOS, ATTN_ID_UNK};
    ATTN_TRY(attn_tokenizer_finish(t->tokenizer, special, ATTN_COUNT(special)));
    for (size_t i = 0; i < t->tags.count; i++) t->tokenizer->info[FIRST_CHARACTER + i].special = true;
    return ATTN_OK;
}

attn_status attn_tokenizer_train_bpe(attn_tokenizer **gives, attn_context *ctx, const char *const *lines,
                                     const size_t *bytes, size_t n, const attn_bpe_options *options) {
    attn_bpe_options o = ATTN_BPE_OPTIONS_INIT;
    *gives = NULL;
    if (options && options->struct_size != sizeof o)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_bpe_options: found struct_size %zu, expected %zu",
                         options->struct_size, sizeof o);
    if (options) o = *options;
    if (o.vocab_size <= FIRST_CHARACTER || o.vocab_size > INT32_MAX / 2)
        return attn_fail(ctx, ATTN_E_ARGUMENT,
                         "vocab_size: found %zu, expected more than %d (special tokens and bytes)", o.vocab_size,
                         FIRST_CHARACTER);
    attn_tokenizer *tokenizer;
    ATTN_TRY(attn_tokenizer_new(&tokenizer, ctx));
    attn_tokenizer_default_steps(tokenizer, o.lowercase);
    trainer t = {.ctx = ctx, .tokenizer = tokenizer, .vocab_size = o.vocab_size, .max_piece_bytes = o.max_piece_bytes};
    t.has_tags = o.tags;
    t.tags = (attn_vocabulary)ATTN_VOCABULARY_INIT(ctx);
    t.min_frequency = ATTN_MAX(o.min_frequency, 1);
    t.words = (attn_vocabulary)ATTN_VOCABULARY_INIT(ctx);
    t.index = (attn_pairs)ATTN_PAIRS_INIT(ctx);
    attn_status status = count_lines(&t, lines, bytes, n);
    if (status == ATTN_OK) status = add_alphabet(&t);
    if (status == ATTN_OK) status = spell_words(&t);
    if (status == ATTN_OK) status = learn(&t);
    if (status == ATTN_OK) status = finish(&t);
    trainer_free(&t);
    if (status != ATTN_OK) attn_tokenizer_free(tokenizer);
    else *gives = tokenizer;
    return status;
}
