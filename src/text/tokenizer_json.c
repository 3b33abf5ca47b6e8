/* tokenizer_json.c: tokenizer.json, read and written. */
#include <attn/io.h>
#include <jansson.h>
#include <string.h>

#include "text/pipeline.h"
#include "text/read.h"

/* ---- reading -------------------------------------------------------------------------------- */

static attn_status not_the_form(attn_context *ctx, const char *what) {
    return attn_fail(ctx, ATTN_E_FORMAT, "expected %s", what);
}

/* Settings of the model, each with the only values understood; absent is fine. */
static attn_status check_model(attn_context *ctx, json_t *model) {
    static const struct {
        const char *name, *values[2]; /* as JSON */
    } settings[] = {
        {"type", {"\"BPE\"", NULL}},
        {"dropout", {"null", "0.0"}},
        {"continuing_subword_prefix", {"null", "\"\""}},
        {"end_of_word_suffix", {"null", "\"\""}},
        {"fuse_unk", {"false", "true"}},
        {"byte_fallback", {"true", NULL}},
        {"ignore_merges", {"false", NULL}},
    };
    for (size_t i = 0; i < ATTN_COUNT(settings); i++) {
        json_t *found = json_object_get(model, settings[i].name);
        bool same = !found && strcmp(settings[i].name, "byte_fallback") != 0;
        for (size_t k = 0; k < 2 && !same && found && settings[i].values[k]; k++) {
            json_t *value = json_loads(settings[i].values[k], JSON_DECODE_ANY, NULL);
            if (!value) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: tokenizer.json");
            same = json_equal(value, found);
            json_decref(value);
        }
        if (same) continue;
        const char *text = json_string_value(found);
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "model: %s: found %.64s, expected %s", settings[i].name,
                         text ? text : (found ? "another value" : "nothing"), settings[i].values[0]);
    }
    return ATTN_OK;
}

static attn_status put_piece(attn_context *ctx, const char **piece, size_t n, const char *text, json_t *id) {
    json_int_t at = json_is_integer(id) ? json_integer_value(id) : -1;
    if (at < 0 || (size_t)at >= n)
        return attn_fail(ctx, ATTN_E_FORMAT, "piece \"%.64s\": expected an id from 0 to %zu, without holes", text,
                         n - 1);
    if (!*text) return attn_fail(ctx, ATTN_E_FORMAT, "id %lld: found an empty piece", (long long)at);
    if (piece[at])
        return attn_fail(ctx, ATTN_E_FORMAT, "id %lld: found for \"%.64s\" and for \"%.64s\"", (long long)at, piece[at],
                         text);
    piece[at] = text;
    return ATTN_OK;
}

/* piece: (n) zeros, n the sum of both tables; what the added tokens repeat makes it shorter. */
static attn_status read_pieces(attn_tokenizer *tokenizer, json_t *vocab, json_t *added, const char **piece, size_t n,
                               int32_t *special, size_t *specials) {
    attn_context *ctx = tokenizer->ctx;
    const char *text;
    json_t *id, *row;
    size_t i, count = json_object_size(vocab);
    json_object_foreach(vocab, text, id) ATTN_TRY(put_piece(ctx, piece, n, text, id));
    json_array_foreach(added, i, row) {
        const char *content = json_string_value(json_object_get(row, "content"));
        id = json_object_get(row, "id");
        if (!content) return not_the_form(ctx, "added_tokens with content");
        if (!json_is_true(json_object_get(row, "special")))
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "added token \"%.64s\": found one that is not special", content);
        json_t *known = json_object_get(vocab, content);
        if (known && !json_equal(known, id))
            return attn_fail(ctx, ATTN_E_FORMAT, "added token \"%.64s\": found another id than in the vocabulary",
                             content);
        if (!known) {
            ATTN_TRY(put_piece(ctx, piece, n, content, id));
            count++;
        }
        special[(*specials)++] = (int32_t)json_integer_value(id);
    }
    for (size_t k = 0; k < count; k++) {
        int32_t at;
        if (!piece[k]) return attn_fail(ctx, ATTN_E_FORMAT, "id %zu: found no piece", k);
        ATTN_TRY(attn_vocabulary_add(&tokenizer->vocabulary, piece[k], strlen(piece[k]), &at));
        if ((size_t)at != k)
            return attn_fail(ctx, ATTN_E_FORMAT, "piece \"%.64s\": found ids %d and %zu", piece[k], (int)at, k);
    }
    for (size_t k = count; k < n; k++)
        if (piece[k])
            return attn_fail(ctx, ATTN_E_FORMAT, "piece \"%.64s\": found id %zu of %zu pieces", piece[k], k, count);
    return ATTN_OK;
}

/* "a b" or ["a", "b"]. */
static attn_status read_merge(attn_tokenizer *tokenizer, json_t *json, size_t rank, size_t prefix_bytes) {
    attn_context *ctx = tokenizer->ctx;
    const attn_vocabulary *vocabulary = &tokenizer->vocabulary;
    const char *left = json_string_value(json), *right = left ? strchr(left, ' ') : NULL;
    size_t left_bytes = right ? (size_t)(right - left) : 0;
    if (right) right++;
    if (json_array_size(json) == 2) {
        left = json_string_value(json_array_get(json, 0)), right = json_string_value(json_array_get(json, 1));
        left_bytes = left ? strlen(left) : 0;
    } else if (right && strchr(right, ' ')) right = NULL;
    if (!left || !right) return attn_fail(ctx, ATTN_E_FORMAT, "merge %zu: expected \"left right\"", rank);
    attn_merge merge = {attn_vocabulary_find(vocabulary, left, left_bytes),
                        attn_vocabulary_find(vocabulary, right, strlen(right)), -1};
    attn_buffer joined = ATTN_BUFFER_INIT(ctx);
    attn_buffer_add(&joined, left, left_bytes);
    attn_buffer_text(&joined, right + ATTN_MIN(prefix_bytes, strlen(right)));
    attn_status status = joined.status;
    if (status == ATTN_OK) merge.joined = attn_vocabulary_find(vocabulary, joined.data, joined.bytes);
    attn_buffer_free(&joined);
    ATTN_TRY(status);
    if (merge.left < 0 || merge.right < 0 || merge.joined < 0)
        return attn_fail(ctx, ATTN_E_FORMAT, "merge %zu: \"%.64s\" is not of pieces of the vocabulary", rank, left);
    if (attn_pairs_find(&tokenizer->bpe.rank, merge.left, merge.right) != ATTN_PAIR_NONE)
        return attn_fail(ctx, ATTN_E_FORMAT, "merge %zu: \"%.64s\" is there a second time", rank, left);
    return attn_bpe_add(&tokenizer->bpe, merge);
}

attn_status attn_merges_parse(attn_tokenizer *tokenizer, json_t *merges, size_t prefix_bytes) {
    json_t *merge;
    size_t i;
    if (!json_is_array(merges)) return not_the_form(tokenizer->ctx, "an array \"merges\" in the model");
    json_array_foreach(merges, i, merge) ATTN_TRY(read_merge(tokenizer, merge, i, prefix_bytes));
    return ATTN_OK;
}

static attn_status read_model(attn_tokenizer *tokenizer, json_t *root) {
    attn_context *ctx = tokenizer->ctx;
    json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    json_t *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
    if (!json_is_object(model)) return not_the_form(ctx, "an object \"model\"");
    ATTN_TRY(check_model(ctx, model));
    if (!json_object_size(vocab)) return not_the_form(ctx, "an object \"vocab\" in the model");
    if (!json_is_array(merges)) return not_the_form(ctx, "an array \"merges\" in the model");
    size_t n_added = json_array_size(added), n = json_object_size(vocab) + n_added, specials = 0;
    const char **piece = attn_alloc_zero(ctx, n, sizeof *piece);
    int32_t *special = attn_alloc(ctx, n_added, sizeof *special);
    attn_status status = piece && special ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK) status = read_pieces(tokenizer, vocab, added, piece, n, special, &specials);
    if (status == ATTN_OK) status = attn_tokenizer_finish(tokenizer, special, specials);
    attn_release(ctx, piece);
    attn_release(ctx, special);
    ATTN_TRY(status);
    return attn_merges_parse(tokenizer, merges, 0);
}

/* What add_special_tokens of other programs does; attn_tokenize has its own argument for it. */
static json_t *post_processor(int32_t eos) {
    return json_pack("{sss[{s{sssi}}{s{sssi}}]s[{s{sssi}}{s{sssi}}{s{sssi}}]s{s{sss[i]s[s]}}}", "type",
                     "TemplateProcessing", "single", "Sequence", "id", "A", "type_id", 0, "SpecialToken", "id", "</s>",
                     "type_id", 0, "pair", "Sequence", "id", "A", "type_id", 0, "Sequence", "id", "B", "type_id", 0,
                     "SpecialToken", "id", "</s>", "type_id", 0, "special_tokens", "</s>", "id", "</s>", "ids",
                     (int)eos, "tokens", "</s>");
}

static attn_status check_post_processor(const attn_tokenizer *tokenizer, json_t *json) {
    if (!json || json_is_null(json)) return ATTN_OK;
    json_t *ours = post_processor(tokenizer->eos);
    if (!ours) return attn_fail(tokenizer->ctx, ATTN_E_NOMEM, "out of memory: tokenizer.json");
    bool same = tokenizer->eos >= 0 && json_equal(ours, json);
    json_decref(ours);
    const char *type = json_string_value(json_object_get(json, "type"));
    return same ? ATTN_OK
                : attn_fail(tokenizer->ctx, ATTN_E_UNSUPPORTED,
                            "post_processor: found \"%.64s\", expected none or a TemplateProcessing that adds </s>",
                            type ? type : "(no type)");
}

static attn_status read_parts(attn_tokenizer *tokenizer, json_t *root) {
    static const char *const call_time[] = {"truncation", "padding"};
    if (!json_is_object(root)) return not_the_form(tokenizer->ctx, "an object");
    for (size_t i = 0; i < ATTN_COUNT(call_time); i++) {
        json_t *found = json_object_get(root, call_time[i]);
        if (found && !json_is_null(found))
            return attn_fail(tokenizer->ctx, ATTN_E_UNSUPPORTED, "%s: found one, expected null", call_time[i]);
    }
    ATTN_TRY(attn_norm_steps_parse(tokenizer, json_object_get(root, "normalizer")));
    ATTN_TRY(attn_splitters_parse(tokenizer, json_object_get(root, "pre_tokenizer")));
    ATTN_TRY(attn_decoder_parse(tokenizer->ctx, json_object_get(root, "decoder")));
    ATTN_TRY(read_model(tokenizer, root));
    return check_post_processor(tokenizer, json_object_get(root, "post_processor"));
}

attn_status attn_tokenizer_parse(attn_tokenizer **gives, attn_context *ctx, const char *text, size_t bytes) {
    json_error_t error;
    *gives = NULL;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return attn_fail(ctx, json_error_code(&error) == json_error_out_of_memory ? ATTN_E_NOMEM : ATTN_E_FORMAT,
                         "line %d: %s", error.line, error.text);
    attn_tokenizer *tokenizer;
    attn_status status = attn_tokenizer_new(&tokenizer, ctx);
    if (status == ATTN_OK) status = read_parts(tokenizer, root);
    if (status == ATTN_E_UNSUPPORTED) { /* not of the kind that is trained here */
        attn_tokenizer_free(tokenizer);
        status = attn_tokenizer_new(&tokenizer, ctx);
        if (status == ATTN_OK) status = attn_pipeline_parse(tokenizer, root);
    }
    json_decref(root);
    if (status != ATTN_OK) attn_tokenizer_free(tokenizer);
    else *gives = tokenizer;
    return status;
}

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *write_added(const attn_tokenizer *tokenizer) {
    json_t *rows = json_array();
    bool whole = rows != NULL;
    for (size_t id = 0; id < tokenizer->vocabulary.count && whole; id++)
        if (tokenizer->info[id].special)
            whole =
                json_array_append_new(rows, json_pack("{sisssbsbsbsbsb}", "id", (int)id, "content",
                                                      attn_tokenizer_piece(tokenizer, (int32_t)id), "single_word", 0,
                                                      "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1)) == 0;
    if (whole) return rows;
    json_decref(rows);
    return NULL;
}

/* A merge is "left right"; no piece holds a space, since the mark stands for it. */
json_t *attn_merges_write(const attn_tokenizer *tokenizer) {
    const attn_vocabulary *vocabulary = &tokenizer->vocabulary;
    json_t *rows = json_array();
    bool whole = rows != NULL;
    for (size_t i = 0; i < tokenizer->bpe.count && whole; i++) {
        attn_merge merge = tokenizer->bpe.merge[i];
        const char *left = attn_vocabulary_text(vocabulary, merge.left),
                   *right = attn_vocabulary_text(vocabulary, merge.right);
        bool spaces = strchr(left, ' ') || strchr(right, ' ');
        json_t *row = spaces ? json_pack("[ss]", left, right) : json_sprintf("%s %s", left, right);
        whole = json_array_append_new(rows, row) == 0;
    }
    if (whole) return rows;
    json_decref(rows);
    return NULL;
}

json_t *attn_vocabulary_write(const attn_tokenizer *tokenizer) {
    json_t *table = json_object();
    bool whole = table != NULL;
    for (size_t id = 0; id < tokenizer->vocabulary.count && whole; id++) {
        const char *piece = attn_tokenizer_piece(tokenizer, (int32_t)id);
        if (*piece) whole = json_object_set_new(table, piece, json_integer((json_int_t)id)) == 0;
    }
    if (whole) return table;
    json_decref(table);
    return NULL;
}

/* NULL: no memory. ("o" takes a reference over, and all of them if one is NULL.) */
static json_t *write_root(const attn_tokenizer *tokenizer) {
    bool unknown = attn_vocabulary_find(&tokenizer->vocabulary, "<unk>", 5) >= 0;
    json_t *model =
        json_pack("{sssnss?snsnsbsbsbsoso}", "type", "BPE", "dropout", "unk_token", unknown ? "<unk>" : NULL,
                  "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0, "byte_fallback", 1, "ignore_merges",
                  0, "vocab", attn_vocabulary_write(tokenizer), "merges", attn_merges_write(tokenizer));
    json_t *post = tokenizer->eos >= 0 ? post_processor(tokenizer->eos) : json_null();
    return json_pack("{sssnsnsosososososo}", "version", "1.0", "truncation", "padding", "added_tokens",
                     write_added(tokenizer), "normalizer", attn_norm_steps_write(tokenizer), "pre_tokenizer",
                     attn_splitters_write(tokenizer), "post_processor", post, "decoder", attn_decoder_write(), "model",
                     model);
}

static int add_to_buffer(const char *text, size_t bytes, void *buffer) {
    attn_buffer_add(buffer, text, bytes);
    return ((attn_buffer *)buffer)->status == ATTN_OK ? 0 : -1;
}

attn_status attn_tokenizer_save(const attn_tokenizer *tokenizer, const char *path) {
    attn_context *ctx = tokenizer->ctx;
    json_t *root = tokenizer->pipeline ? attn_pipeline_write(tokenizer) : write_root(tokenizer);
    if (!root) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: %s", path);
    attn_buffer text = ATTN_BUFFER_INIT(ctx);
    int failed = json_dump_callback(root, add_to_buffer, &text, JSON_INDENT(1));
    json_decref(root);
    attn_buffer_text(&text, "\n");
    attn_status status = text.status;
    if (status == ATTN_OK && failed) status = attn_fail(ctx, ATTN_E_NOMEM, "out of memory: %s", path);
    if (status == ATTN_OK) status = attn_file_write(ctx, path, text.data, text.bytes);
    attn_buffer_free(&text);
    return status;
}
