/* added.c: tokens that are cut out of the text whole, before anything else happens to it: the leftmost, and of those
 * that begin there the longest. */
#include "text/pipeline.h"

attn_status attn_added_put(attn_pipeline *p, attn_work *work, size_t index, const char *text, size_t bytes) {
    enum { LONGEST = 1024 }; /* time is the text's length times this one's */
    attn_matched *matched = p->added[index].normalised ? &p->normal : &p->raw;
    attn_traced normal = ATTN_TRACED_INIT(work->ctx);
    int32_t place = 0;
    if (bytes > LONGEST)
        return attn_fail(work->ctx, ATTN_E_UNSUPPORTED, "added token \"%.64s…\": found %zu bytes, expected at most %d",
                         text, bytes, LONGEST);
    attn_traced_give(&normal, text, bytes, 0);
    attn_status status = normal.text.status;
    if (status == ATTN_OK && p->added[index].normalised) status = attn_parts_normalise(work, &p->normaliser, &normal);
    size_t before = matched->texts.count;
    if (status == ATTN_OK && normal.text.bytes)
        status = attn_vocabulary_add(&matched->texts, normal.text.data, normal.text.bytes, &place);
    if (status == ATTN_OK && matched->texts.count > before)
        status = attn_grow(work->ctx, &matched->token, &matched->capacity, before + 1, before, sizeof *matched->token);
    if (status == ATTN_OK && matched->texts.count > before) matched->token[place] = (int32_t)index;
    attn_traced_free(&normal);
    return status;
}

/* Special tokens after normalisation, where places are others, are text if anything was typed. */
static bool is_text(const attn_tokenize_options *options, bool raw, size_t first, size_t end) {
    size_t low = 0, high = options->typed_count;
    if (options->special_as_text || (!raw && options->typed_count)) return true;
    while (low < high) { /* the first range that ends behind `first` */
        const size_t middle = low + (high - low) / 2;
        if (options->typed[middle].end > first) high = middle;
        else low = middle + 1;
    }
    return low < options->typed_count && options->typed[low].first < end;
}

attn_added_hit attn_added_next(const attn_pipeline *p, const attn_matched *matched, const char *text, size_t bytes,
                               size_t *at, size_t done, const attn_tokenize_options *options) {
    const attn_prefixes *prefixes = &matched->prefixes;
    while (prefixes->count && *at < bytes) {
        size_t first = *at, length = 0;
        unsigned char byte = (unsigned char)text[first];
        int32_t place = -1;
        if (prefixes->first[byte] < prefixes->first[byte + 1])
            place = attn_prefixes_longest(prefixes, attn_prefixes_walk(prefixes), text + first, bytes - first, &length);
        *at += place < 0 ? 1 : length;
        if (place < 0) continue;
        const attn_added *token = &p->added[matched->token[place]];
        size_t end = *at, next = end;
        if (token->special && is_text(options, matched == &p->raw, first, *at)) continue;
        if (token->single_word) {
            size_t before = first;
            while (before > 0 && ((unsigned char)text[--before] & 0xC0) == 0x80) {}
            if (first > 0 && attn_is_word(attn_utf8_next(text, bytes, &before))) continue;
            if (end < bytes && attn_is_word(attn_utf8_next(text, bytes, &next))) continue;
        }
        if (token->left) {
            const char *start = text + done;
            size_t left = first > done ? first - done : 0;
            attn_strip(&start, &left, false, true);
            first = ATTN_MIN(first, done + left);
        }
        if (token->right)
            for (next = end; next < bytes && attn_is_space(attn_utf8_next(text, bytes, &next));) end = next;
        first = ATTN_MAX(first, done);
        return (attn_added_hit){first, ATTN_MAX(first, end), token};
    }
    return (attn_added_hit){bytes, bytes, NULL};
}
