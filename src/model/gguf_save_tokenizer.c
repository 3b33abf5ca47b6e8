/* gguf_save_tokenizer.c: a tokenizer as GGUF's arrays: tokens, their kinds, merges or scores.
 *
 * "gpt2" is BPE of bytes with a pattern that has a name there. "llama" is BPE of characters with bytes for what has no
 * piece, where the joined piece alone says which pair comes first: its score is minus the rank of its merges, which
 * must be all ways to make it, one behind the other. */
#include "model/gguf_save.h"
#include "text/formats.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name
#define REFUSE(t, ...) attn_fail((t)->ctx, ATTN_E_UNSUPPORTED, "GGUF: the tokenizer " __VA_ARGS__)

/* ---- what it is ---------------------------------------------------------------------------------------------------
 */

/* expected NULL: none; else released. */
static bool is_part(const attn_tokenizer *t, const char *name, json_t *expected) {
    json_t *part = json_object_get(t->pipeline->parts, name);
    const bool same = expected ? part && json_equal(part, expected) : !part || json_is_null(part);
    json_decref(expected);
    return same;
}

static attn_status find_pattern(const attn_tokenizer *t, const char **name) {
    const attn_pipeline *p = t->pipeline;
    *name = attn_pre_tokenizer_name(json_object_get(p->parts, "pre_tokenizer"), p->ignore_merges);
    if (!*name) return REFUSE(t, "has a pattern that has no name there");
    const bool nfc = !strcmp(*name, "qwen2");
    if (!is_part(t, "normalizer", nfc ? json_pack("{s:s}", "type", "NFC") : NULL))
        return REFUSE(t, "normalises, expected %s with the pattern of %s", nfc ? "NFC" : "nothing", *name);
    return ATTN_OK;
}

/* Whether text gets a space before it. */
static attn_status find_prefix(const attn_tokenizer *t, bool *prefix) {
    for (int i = 0; i < 2; i++) {
        attn_buffer parts = ATTN_BUFFER_INIT(t->ctx);
        attn_sentencepiece_parts(&parts, i);
        json_t *root = parts.status == ATTN_OK ? json_loads(parts.data, 0, NULL) : NULL;
        const bool same = root && is_part(t, "normalizer", json_incref(json_object_get(root, "normalizer")));
        json_decref(root);
        attn_buffer_free(&parts);
        *prefix = i;
        if (same && is_part(t, "pre_tokenizer", NULL)) return ATTN_OK;
    }
    return REFUSE(t, "has other parts than those of Llama's");
}

/* ---- arrays ---------------------------------------------------------------------------------------------------------
 */

static attn_piece_kind kind_of(const attn_tokenizer *t, const bool *added, size_t id) {
    const attn_pipeline *p = t->pipeline;
    if (id >= t->vocabulary.count || !*attn_tokenizer_piece(t, (int32_t)id)) return ATTN_PIECE_UNUSED;
    if (!p->byte_level && (int64_t)id == p->unknown) return ATTN_PIECE_UNKNOWN;
    if (t->info[id].special) return ATTN_PIECE_CONTROL;
    if (!p->byte_level && t->info[id].byte >= 0) return ATTN_PIECE_BYTE;
    return added[id] ? ATTN_PIECE_USER : ATTN_PIECE_NORMAL;
}

/* A name that is no piece's. */
static size_t name_hole(const attn_tokenizer *t, char name[64], size_t id) {
    size_t bytes = (size_t)snprintf(name, 64, "[PAD%zu]", id);
    for (size_t other = 1; attn_vocabulary_find(&t->vocabulary, name, bytes) >= 0; other++)
        bytes = (size_t)snprintf(name, 64, "[PAD%zu.%zu]", id, other);
    return bytes;
}

static attn_status put_tokens(const attn_tokenizer *t, attn_gguf_writer *w, size_t n) {
    const attn_pipeline *p = t->pipeline;
    bool *added = attn_alloc_zero(t->ctx, ATTN_MAX(t->vocabulary.count, 1), sizeof *added);
    if (!added) return ATTN_E_NOMEM;
    for (size_t i = 0; i < p->added_count; i++)
        if ((size_t)p->added[i].id < t->vocabulary.count) added[p->added[i].id] = true;
    attn_gguf_put_array(w, KEY("tokens"), ATTN_GGUF_TEXTS, n);
    for (size_t i = 0; i < n; i++) {
        char hole[64];
        if (kind_of(t, added, i) == ATTN_PIECE_UNUSED) attn_gguf_element_text(w, hole, name_hole(t, hole, i));
        else
            attn_gguf_element_text(w, attn_tokenizer_piece(t, (int32_t)i),
                                   attn_vocabulary_bytes(&t->vocabulary, (int32_t)i));
    }
    attn_gguf_put_array(w, KEY("token_type"), ATTN_GGUF_INT32, n);
    for (size_t i = 0; i < n; i++) attn_gguf_element_int(w, (int32_t)kind_of(t, added, i));
    attn_release(t->ctx, added);
    return ATTN_OK;
}

static void put_merges(const attn_tokenizer *t, attn_gguf_writer *w) {
    const attn_vocabulary *v = &t->vocabulary;
    attn_buffer row = ATTN_BUFFER_INIT(t->ctx);
    attn_gguf_put_array(w, KEY("merges"), ATTN_GGUF_TEXTS, t->bpe.count);
    for (size_t i = 0; i < t->bpe.count; i++) {
        const attn_merge *merge = &t->bpe.merge[i];
        row.bytes = 0;
        attn_buffer_add(&row, attn_vocabulary_text(v, merge->left), attn_vocabulary_bytes(v, merge->left));
        attn_buffer_add(&row, " ", 1);
        attn_buffer_add(&row, attn_vocabulary_text(v, merge->right), attn_vocabulary_bytes(v, merge->right));
        if (row.status == ATTN_OK) attn_gguf_element_text(w, row.data, row.bytes);
    }
    if (row.status != ATTN_OK) w->metadata.status = row.status;
    attn_buffer_free(&row);
}

/* How many pairs of pieces make a piece. */
static size_t count_splits(const attn_tokenizer *t, int32_t joined) {
    const char *text = attn_vocabulary_text(&t->vocabulary, joined);
    const size_t bytes = attn_vocabulary_bytes(&t->vocabulary, joined);
    size_t n = 0;
    for (size_t at = 0; at < bytes;) {
        attn_utf8_next(text, bytes, &at);
        if (at < bytes) n += attn_pipeline_find(t, text, at) >= 0 && attn_pipeline_find(t, text + at, bytes - at) >= 0;
    }
    return n;
}

static attn_status put_scores(const attn_tokenizer *t, attn_gguf_writer *w, size_t n) {
    float *score = attn_alloc_zero(t->ctx, n, sizeof *score);
    if (!score) return ATTN_E_NOMEM;
    attn_status status = ATTN_OK;
    for (size_t i = 0, end; i < t->bpe.count && status == ATTN_OK; i = end) {
        const int32_t joined = t->bpe.merge[i].joined;
        for (end = i; end < t->bpe.count && t->bpe.merge[end].joined == joined; end++) {}
        if (end - i != count_splits(t, joined) || score[joined] != 0)
            status = REFUSE(t, "has merges that its pieces alone do not order, such as \"%.40s\"",
                            attn_vocabulary_text(&t->vocabulary, joined));
        score[joined] = -(float)(i + 1);
    }
    attn_gguf_put_array(w, KEY("scores"), ATTN_GGUF_FLOATS, n);
    for (size_t i = 0; i < n; i++) attn_gguf_element_float(w, score[i]);
    attn_release(t->ctx, score);
    return status;
}

/* ---- all of it ------------------------------------------------------------------------------------------------------
 */

static attn_status check_around(const attn_tokenizer *t, const attn_gguf_ends *ends) {
    const attn_pipeline *p = t->pipeline;
    if (p->before_count > 1 || (p->before_count && p->before[0] != ends->begin))
        return REFUSE(t, "puts before a text what is not \"bos_token_id\" of the config");
    if (p->after_count > 1 || (p->after_count && p->after[0] != ends->end))
        return REFUSE(t, "puts behind a text what is not the first \"eos_token_id\" of the config");
    return ATTN_OK;
}

attn_status attn_tokenizer_put_gguf(const attn_tokenizer *t, attn_gguf_writer *w, size_t vocabulary,
                                    const attn_gguf_ends *ends) {
    const attn_pipeline *p = t->pipeline;
    const char *pattern = "default";
    bool prefix = false;
    if (!p || p->model != ATTN_BPE || p->prefix || p->suffix)
        return REFUSE(t, "is of a kind that has no form there, expected BPE of bytes or as Llama has it");
    if (t->vocabulary.count > vocabulary)
        return REFUSE(t, "has %zu tokens, the model %zu", t->vocabulary.count, vocabulary);
    ATTN_TRY(check_around(t, ends));
    ATTN_TRY(p->byte_level ? find_pattern(t, &pattern) : find_prefix(t, &prefix));
    attn_gguf_put_text(w, KEY("model"), p->byte_level ? "gpt2" : "llama");
    attn_gguf_put_text(w, KEY("pre"), pattern);
    ATTN_TRY(put_tokens(t, w, vocabulary));
    if (p->byte_level) put_merges(t, w);
    else ATTN_TRY(put_scores(t, w, vocabulary));
    if (p->unknown >= 0) attn_gguf_put_size(w, KEY("unknown_token_id"), (size_t)p->unknown);
    attn_gguf_put_bool(w, KEY("add_bos_token"), p->before_count > 0);
    attn_gguf_put_bool(w, KEY("add_eos_token"), p->after_count > 0);
    if (!p->byte_level) attn_gguf_put_bool(w, KEY("add_space_prefix"), prefix);
    return w->metadata.status;
}
