/* wordpiece_vocab.c: BERT's vocab.txt: a piece a line, its id the line's number. How text is prepared is not in the
 * file: as BERT's own tokenizer does it, in lower case unless tokenizer_config.json beside it says otherwise. */
#include "text/formats.h"

#include <jansson.h>
#include <string.h>

static const char parts[] =
    "{\"version\":\"1.0\",\"added_tokens\":[],\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"decoder\":{\"type\":\"WordPiece\",\"prefix\":\"##\","
    "\"cleanup\":true},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":100}}";

/* One of them if the vocabulary has both. */
static json_t *around(const json_t *vocab) {
    const json_t *first = json_object_get(vocab, "[CLS]"), *last = json_object_get(vocab, "[SEP]");
    if (!first || !last) return json_null();
    return json_pack("{s:s, s:[{s:{s:s,s:i}}, {s:{s:s,s:i}}, {s:{s:s,s:i}}], s:[], s:{s:{s:s,s:[I],s:[s]}, "
                     "s:{s:s,s:[I],s:[s]}}}",
                     "type", "TemplateProcessing", "single", "SpecialToken", "id", "[CLS]", "type_id", 0, "Sequence",
                     "id", "A", "type_id", 0, "SpecialToken", "id", "[SEP]", "type_id", 0, "pair", "special_tokens",
                     "[CLS]", "id", "[CLS]", "ids", json_integer_value(first), "tokens", "[CLS]", "[SEP]", "id",
                     "[SEP]", "ids", json_integer_value(last), "tokens", "[SEP]");
}

static void add_special(json_t *added, const json_t *vocab) {
    static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    for (size_t i = 0; i < ATTN_COUNT(names); i++) {
        const json_t *id = json_object_get(vocab, names[i]);
        if (id)
            json_array_append_new(added, json_pack("{s:I, s:s, s:b, s:b, s:b, s:b, s:b}", "id", json_integer_value(id),
                                                   "content", names[i], "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                   "normalized", 0, "special", 1));
    }
}

/* Gives the pieces and their ids. */
static attn_status read_pieces(attn_context *ctx, json_t **gives, const char *text, size_t bytes) {
    const char *end = text + bytes;
    json_t *vocab = json_object();
    json_int_t id = 0;
    *gives = vocab;
    for (const char *at = text, *stop; at < end && vocab; at = stop + 1, id++) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        size_t length = (size_t)(stop - at);
        if (length && at[length - 1] == '\r') length--;
        char *piece = attn_copy_text(ctx, at, length);
        if (!piece) return ATTN_E_NOMEM;
        const bool again = json_object_get(vocab, piece) != NULL;
        const bool bad = !length || memchr(at, 0, length) || json_object_set_new(vocab, piece, json_integer(id)) != 0;
        attn_release(ctx, piece);
        if (again || bad)
            return attn_fail(ctx, ATTN_E_FORMAT, "line %lld: expected a piece, found %s", (long long)id + 1,
                             again ? "one that stands further up" : "none, or no UTF-8");
    }
    return vocab ? ATTN_OK : attn_fail(ctx, ATTN_E_NOMEM, "out of memory");
}

static json_t *setting(const json_t *settings, const char *key, json_t *fallback) {
    json_t *value = json_object_get(settings, key);
    if (!value) return fallback;
    json_decref(fallback);
    return json_incref(value);
}

attn_status attn_tokenizer_of_wordpieces(attn_tokenizer **gives, attn_context *ctx, const char *text, size_t bytes,
                                         const char *settings_text) {
    json_t *vocab, *root = json_loads(parts, 0, NULL), *settings = json_loads(settings_text, 0, NULL);
    attn_tokenizer *tokenizer = NULL;
    *gives = NULL;
    attn_status status = read_pieces(ctx, &vocab, text, bytes);
    if (status == ATTN_OK && !root) status = attn_fail(ctx, ATTN_E_NOMEM, "out of memory");
    if (status == ATTN_OK) {
        json_t *normalizer = json_object_get(root, "normalizer");
        json_object_set_new(normalizer, "lowercase", setting(settings, "do_lower_case", json_true()));
        json_object_set_new(normalizer, "strip_accents", setting(settings, "strip_accents", json_null()));
        json_object_set_new(normalizer, "handle_chinese_chars",
                            setting(settings, "tokenize_chinese_chars", json_true()));
        add_special(json_object_get(root, "added_tokens"), vocab);
        json_object_set_new(root, "post_processor", around(vocab));
        json_object_set(json_object_get(root, "model"), "vocab", vocab);
        status = attn_tokenizer_new(&tokenizer, ctx);
    }
    if (status == ATTN_OK) status = attn_pipeline_parse(tokenizer, root);
    json_decref(vocab);
    json_decref(root);
    json_decref(settings);
    if (status == ATTN_OK) *gives = tokenizer;
    else attn_tokenizer_free(tokenizer);
    return status;
}
