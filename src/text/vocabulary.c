/* vocabulary.c: two hash tables with linear probing. */
#include "text/vocabulary.h"

#include <string.h>

/* The finaliser of splitmix64. */
static uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* Unknown to who made the input: an address, which the loader chooses at random. */
static uint64_t seed_from(const void *address) { return mix((uint64_t)(uintptr_t)address); }

/* ---- texts ---------------------------------------------------------------------------------- */

static const char here; /* its address differs from run to run */

/* The slot that holds the text, or the empty one where it belongs. */
static size_t text_slot(const attn_vocabulary *v, const char *text, size_t bytes) {
    size_t at = (size_t)mix(attn_hash_text(text, bytes) ^ v->seed) & (v->slots - 1);
    for (;; at = (at + 1) & (v->slots - 1)) {
        uint32_t held = v->slot[at];
        if (!held) return at;
        size_t first = v->first[held - 1], length = v->first[held] - 1 - first;
        if (length == bytes && memcmp(v->text + first, text, bytes) == 0) return at;
    }
}

static attn_status more_text_slots(attn_vocabulary *v) {
    attn_vocabulary wider = *v;
    wider.slots = v->slots ? v->slots * 2 : 64;
    wider.slot = attn_alloc_zero(v->ctx, wider.slots, sizeof *wider.slot);
    if (!wider.slot) return ATTN_E_NOMEM;
    wider.seed = seed_from(wider.slot) ^ seed_from(&here);
    for (size_t id = 0; id < v->count; id++) {
        size_t first = v->first[id];
        wider.slot[text_slot(&wider, v->text + first, v->first[id + 1] - 1 - first)] = (uint32_t)id + 1;
    }
    attn_release(v->ctx, v->slot);
    *v = wider;
    return ATTN_OK;
}

attn_status attn_vocabulary_add(attn_vocabulary *v, const char *text, size_t bytes, int32_t *id) {
    if (v->count >= INT32_MAX - 1)
        return attn_fail(v->ctx, ATTN_E_UNSUPPORTED, "a vocabulary of more than %d texts", INT32_MAX - 1);
    if ((v->count + 1) * 2 > v->slots) ATTN_TRY(more_text_slots(v));
    size_t at = text_slot(v, text, bytes), wanted;
    if (v->slot[at]) {
        *id = (int32_t)v->slot[at] - 1;
        return ATTN_OK;
    }
    if (!attn_size_add(&wanted, v->bytes, bytes) || !attn_size_add(&wanted, wanted, 1)) wanted = SIZE_MAX;
    ATTN_TRY(attn_grow(v->ctx, &v->text, &v->text_capacity, wanted, v->bytes, 1));
    ATTN_TRY(
        attn_grow(v->ctx, &v->first, &v->first_capacity, v->count + 2, v->count ? v->count + 1 : 0, sizeof *v->first));
    memcpy(v->text + v->bytes, text, bytes);
    v->text[v->bytes + bytes] = '\0';
    v->first[v->count] = v->bytes;
    v->bytes = wanted;
    v->first[v->count + 1] = v->bytes;
    v->slot[at] = (uint32_t)v->count + 1;
    *id = (int32_t)v->count++;
    return ATTN_OK;
}

int32_t attn_vocabulary_find(const attn_vocabulary *v, const char *text, size_t bytes) {
    return v->slots ? (int32_t)v->slot[text_slot(v, text, bytes)] - 1 : -1;
}

const char *attn_vocabulary_text(const attn_vocabulary *v, int32_t id) { return v->text + v->first[id]; }

size_t attn_vocabulary_bytes(const attn_vocabulary *v, int32_t id) { return v->first[id + 1] - 1 - v->first[id]; }

void attn_vocabulary_free(attn_vocabulary *v) {
    attn_release(v->ctx, v->text);
    attn_release(v->ctx, v->first);
    attn_release(v->ctx, v->slot);
    *v = (attn_vocabulary)ATTN_VOCABULARY_INIT(v->ctx);
}

/* ---- pairs ---------------------------------------------------------------------------------- */

static size_t pair_slot(const attn_pairs *pairs, int32_t left, int32_t right) {
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    size_t at = (size_t)mix(key ^ pairs->seed) & (pairs->slots - 1);
    while (pairs->slot[at].value != ATTN_PAIR_NONE && (pairs->slot[at].left != left || pairs->slot[at].right != right))
        at = (at + 1) & (pairs->slots - 1);
    return at;
}

uint32_t attn_pairs_find(const attn_pairs *pairs, int32_t left, int32_t right) {
    return pairs->slots ? pairs->slot[pair_slot(pairs, left, right)].value : ATTN_PAIR_NONE;
}

static attn_status more_pair_slots(attn_pairs *pairs) {
    attn_pairs wider = *pairs;
    wider.slots = pairs->slots ? pairs->slots * 2 : 64;
    wider.slot = attn_alloc(pairs->ctx, wider.slots, sizeof *wider.slot);
    if (!wider.slot) return ATTN_E_NOMEM;
    wider.seed = seed_from(wider.slot) ^ seed_from(&here);
    for (size_t i = 0; i < wider.slots; i++) wider.slot[i].value = ATTN_PAIR_NONE;
    for (size_t i = 0; i < pairs->slots; i++) {
        const struct attn_pair_slot *old = pairs->slot + i;
        if (old->value != ATTN_PAIR_NONE) wider.slot[pair_slot(&wider, old->left, old->right)] = *old;
    }
    attn_release(pairs->ctx, pairs->slot);
    *pairs = wider;
    return ATTN_OK;
}

attn_status attn_pairs_add(attn_pairs *pairs, int32_t left, int32_t right, uint32_t value) {
    if ((pairs->count + 1) * 2 > pairs->slots) ATTN_TRY(more_pair_slots(pairs));
    pairs->slot[pair_slot(pairs, left, right)] = (struct attn_pair_slot){left, right, value};
    pairs->count++;
    return ATTN_OK;
}

void attn_pairs_free(attn_pairs *pairs) {
    attn_release(pairs->ctx, pairs->slot);
    *pairs = (attn_pairs)ATTN_PAIRS_INIT(pairs->ctx);
}
