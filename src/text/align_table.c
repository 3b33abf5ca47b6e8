/* align_table.c: the table of pairs of words: open addressing, entries of half a cache line. */
#include "text/align.h"

#include <string.h>

static size_t slot_of(const attn_word_pairs *table, uint64_t key) {
    uint64_t hash = (key ^ (key >> 29)) * UINT64_C(0xBF58476D1CE4E5B9);
    size_t mask = table->slots - 1, at = (size_t)(hash ^ (hash >> 32)) & mask;
    while (table->slot[at].key && table->slot[at].key != key) at = (at + 1) & mask;
    return at;
}

attn_status attn_word_pairs_init(attn_context *ctx, attn_word_pairs *table, size_t slots) {
    *table = (attn_word_pairs){attn_alloc_zero(ctx, slots, sizeof *table->slot), slots, 0};
    return table->slot ? ATTN_OK : ATTN_E_NOMEM;
}

attn_word_pair *attn_word_pair_find(const attn_word_pairs *table, uint64_t key) {
    attn_word_pair *pair = &table->slot[slot_of(table, key)];
    return pair->key ? pair : NULL;
}

attn_status attn_word_pair_add(attn_context *ctx, attn_word_pairs *table, attn_word_pair **pair, uint64_t key) {
    *pair = &table->slot[slot_of(table, key)];
    if ((*pair)->key) return ATTN_OK;
    if (3 * (table->used + 1) > 2 * table->slots) {
        attn_word_pairs larger;
        ATTN_TRY(attn_word_pairs_init(ctx, &larger, table->slots * 2));
        for (size_t i = 0; i < table->slots; i++)
            if (table->slot[i].key) larger.slot[slot_of(&larger, table->slot[i].key)] = table->slot[i];
        larger.used = table->used;
        attn_release(ctx, table->slot);
        *table = larger;
        *pair = &table->slot[slot_of(table, key)];
    }
    table->used++;
    (*pair)->key = key;
    return ATTN_OK;
}

attn_status attn_word_pairs_prune(attn_context *ctx, attn_word_pairs *table, float probability) {
    size_t kept = 0, slots = 16;
    for (size_t i = 0; i < table->slots; i++)
        kept += table->slot[i].key && (table->slot[i].p[0] > probability || table->slot[i].p[1] > probability);
    while (2 * slots < 3 * (kept + 1)) slots *= 2;
    attn_word_pairs smaller;
    ATTN_TRY(attn_word_pairs_init(ctx, &smaller, slots));
    for (size_t i = 0; i < table->slots; i++) {
        const attn_word_pair *pair = &table->slot[i];
        if (!pair->key || !(pair->p[0] > probability || pair->p[1] > probability)) continue;
        smaller.slot[slot_of(&smaller, pair->key)] = *pair;
        smaller.used++;
    }
    attn_release(ctx, table->slot);
    *table = smaller;
    return ATTN_OK;
}
