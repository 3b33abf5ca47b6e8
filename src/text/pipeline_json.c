/* pipeline_json.c: the parts, the vocabulary and the added tokens of a tokenizer.json. */
#include <jansson.h>
#include <string.h>

#include "text/pipeline.h"

static attn_status not_the_form(attn_context *ctx, const char *what) {
    return attn_fail(ctx, ATTN_E_FORMAT, "expected %s", what);
}

/* ---- parts ---------------------------------------------------------------------------------- */

static attn_status put_id(attn_tokenizer *tokenizer, int32_t **ids, size_t *count, size_t *capacity, json_t *id) {
    attn_context *ctx = tokenizer->ctx;
    json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
    if (value < 0 || (size_t)value >= tokenizer->vocabulary.count)
        return attn_fail(ctx, ATTN_E_FORMAT, "post_processor: expected ids from 0 to %zu",
                         tokenizer->vocabulary.count - 1);
    ATTN_TRY(attn_grow(ctx, ids, capacity, *count + 1, *count, sizeof **ids));
    (*ids)[(*count)++] = (int32_t)value;
    return ATTN_OK;
}

/* The newest processor is outside: its ids come before all others, and behind them. */
static attn_status put_before(attn_tokenizer *tokenizer, size_t at, json_t *id) {
    attn_pipeline *p = tokenizer->pipeline;
    ATTN_TRY(put_id(tokenizer, &p->before, &p->before_count, &p->before_capacity, id));
    int32_t last = p->before[p->before_count - 1];
    memmove(p->before + at + 1, p->before + at, (p->before_count - 1 - at) * sizeof last);
    p->before[at] = last;
    return ATTN_OK;
}

static attn_status put_after(attn_tokenizer *tokenizer, json_t *id) {
    attn_pipeline *p = tokenizer->pipeline;
    return put_id(tokenizer, &p->after, &p->after_count, &p->after_capacity, id);
}

static attn_status read_template(attn_tokenizer *tokenizer, json_t *json) {
    attn_context *ctx = tokenizer->ctx;
    json_t *single = json_object_get(json, "single"), *names = json_object_get(json, "special_tokens"), *row, *id;
    size_t i, k, before = 0;
    bool inside = false;
    json_array_foreach(single, i, row) {
        json_t *special = json_object_get(row, "SpecialToken");
        if (json_object_get(row, "Sequence")) {
            if (inside) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "post_processor: found the text twice in \"single\"");
            inside = true;
            continue;
        }
        const char *name = json_string_value(json_object_get(special, "id"));
        json_t *ids = name ? json_object_get(json_object_get(names, name), "ids") : NULL;
        if (!json_is_array(ids))
            return attn_fail(ctx, ATTN_E_FORMAT, "post_processor: expected ids of each SpecialToken in special_tokens");
        json_array_foreach(ids, k, id) {
            if (inside) ATTN_TRY(put_after(tokenizer, id));
            else ATTN_TRY(put_before(tokenizer, before++, id));
        }
    }
    return inside ? ATTN_OK : not_the_form(ctx, "post_processor TemplateProcessing with a Sequence in \"single\"");
}

/* BertProcessing and RobertaProcessing: "cls" and "sep", each a token and its id. */
static attn_status read_pair(attn_tokenizer *tokenizer, json_t *json) {
    json_t *cls = json_object_get(json, "cls"), *sep = json_object_get(json, "sep");
    if (json_array_size(cls) != 2 || json_array_size(sep) != 2)
        return not_the_form(tokenizer->ctx, "post_processor with cls and sep, a token and its id each");
    ATTN_TRY(put_before(tokenizer, 0, json_array_get(cls, 1)));
    return put_after(tokenizer, json_array_get(sep, 1));
}

static attn_status read_nothing(attn_tokenizer *tokenizer, json_t *json) {
    (void)tokenizer, (void)json;
    return ATTN_OK;
}

attn_status attn_pipeline_post_processor(attn_tokenizer *tokenizer, json_t *json) {
    static const struct {
        const char *type;
        attn_status (*read)(attn_tokenizer *tokenizer, json_t *json);
    } kinds[] = {{"TemplateProcessing", read_template},
                 {"BertProcessing", read_pair},
                 {"RobertaProcessing", read_pair},
                 {"ByteLevel", read_nothing}, /* trims spans, which are exact here */
                 {"Sequence", NULL}};
    if (!json || json_is_null(json)) return ATTN_OK;
    const char *type = json_string_value(json_object_get(json, "type"));
    for (size_t i = 0; type && i < ATTN_COUNT(kinds); i++) {
        if (strcmp(kinds[i].type, type) != 0) continue;
        if (kinds[i].read) return kinds[i].read(tokenizer, json);
        json_t *rows = json_object_get(json, "processors"), *row;
        size_t k;
        if (!json_is_array(rows)) return not_the_form(tokenizer->ctx, "post_processor Sequence with \"processors\"");
        json_array_foreach(rows, k, row) ATTN_TRY(attn_pipeline_post_processor(tokenizer, row));
        return ATTN_OK;
    }
    return attn_fail(tokenizer->ctx, ATTN_E_UNSUPPORTED,
                     "post_processor: found \"%.64s\", expected TemplateProcessing, BertProcessing, "
                     "RobertaProcessing, ByteLevel or a Sequence of these",
                     type ? type : "(no type)");
}

attn_status attn_pipeline_parts(attn_tokenizer *tokenizer, json_t *json) {
    attn_context *ctx = tokenizer->ctx;
    attn_pipeline *p = tokenizer->pipeline;
    ATTN_TRY(attn_parts_parse(ctx, &p->normaliser, json_object_get(json, "normalizer"), &attn_normaliser_kind));
    ATTN_TRY(attn_parts_parse(ctx, &p->splitter, json_object_get(json, "pre_tokenizer"), &attn_splitter_kind));
    ATTN_TRY(attn_parts_parse(ctx, &p->decoder, json_object_get(json, "decoder"), &attn_decoder_kind));
    for (size_t i = 0; i < p->splitter.count; i++) {
        bool bytes = !strcmp(p->splitter.at[i].type->name, "ByteLevel");
        if (bytes && i + 1 < p->splitter.count)
            return attn_fail(ctx, ATTN_E_UNSUPPORTED, "pre_tokenizer: found %s behind ByteLevel, expected nothing",
                             p->splitter.at[i + 1].type->name);
        p->byte_level = bytes;
    }
    json_decref(p->parts);
    p->parts = json_copy(json);
    if (!p->parts) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: tokenizer.json");
    json_object_del(p->parts, "model");
    return ATTN_OK;
}

/* ---- vocabulary ----------------------------------------------------------------------------- */

/* Pieces by their ids, on the way to a vocabulary; NULL: a hole. */
typedef struct piece_table {
    attn_context *ctx;
    const char **at; /* (room) */
    bool *outside;   /* (room) */
    size_t room, count;
} piece_table;

static attn_status put_piece(piece_table *pieces, const char *text, json_t *id) {
    json_int_t at = json_is_integer(id) ? json_integer_value(id) : -1;
    if (at < 0 || (size_t)at >= pieces->room)
        return attn_fail(pieces->ctx, ATTN_E_FORMAT, "piece \"%.64s\": expected an id from 0 to %zu", text,
                         pieces->room - 1);
    if (pieces->at[at])
        return attn_fail(pieces->ctx, ATTN_E_FORMAT, "id %lld: found for \"%.64s\" and for \"%.64s\"", (long long)at,
                         pieces->at[at], text);
    pieces->at[at] = text;
    pieces->count = ATTN_MAX(pieces->count, (size_t)at + 1);
    return ATTN_OK;
}

static attn_status read_scores(attn_tokenizer *tokenizer, piece_table *pieces, json_t *vocab) {
    json_t *row;
    size_t i;
    json_array_foreach(vocab, i, row) {
        json_t *text = json_array_get(row, 0), *score = json_array_get(row, 1);
        if (!json_is_string(text) || !json_is_number(score))
            return attn_fail(pieces->ctx, ATTN_E_FORMAT, "vocab: row %zu: expected a piece and its score", i);
        pieces->at[i] = json_string_value(text);
        pieces->count = i + 1;
        ATTN_TRY(attn_unigram_add(pieces->ctx, &tokenizer->pipeline->unigram, json_number_value(score)));
    }
    return ATTN_OK;
}

/* What the added tokens have beside the model's pieces. */
static attn_status read_added_pieces(piece_table *pieces, json_t *vocab, json_t *added) {
    json_t *row;
    size_t i;
    json_array_foreach(added, i, row) {
        const char *content = json_string_value(json_object_get(row, "content"));
        json_t *id = json_object_get(row, "id");
        if (!content) return not_the_form(pieces->ctx, "added_tokens with content");
        json_t *known = json_object_get(vocab, content);
        json_int_t at = json_is_integer(id) ? json_integer_value(id) : -1;
        if (known && !json_equal(known, id))
            return attn_fail(pieces->ctx, ATTN_E_FORMAT,
                             "added token \"%.64s\": found another id than in the vocabulary", content);
        bool there = at >= 0 && (size_t)at < pieces->count && pieces->at[at] && !strcmp(pieces->at[at], content);
        if (known || there || !*content) continue;
        ATTN_TRY(put_piece(pieces, content, id));
        pieces->outside[at] = true;
    }
    return ATTN_OK;
}

static attn_status fill_vocabulary(attn_tokenizer *tokenizer, const piece_table *pieces) {
    attn_pipeline *p = tokenizer->pipeline;
    p->outside = attn_alloc(pieces->ctx, pieces->count, sizeof *p->outside);
    if (!p->outside) return ATTN_E_NOMEM;
    for (size_t i = 0; i < pieces->count; i++) {
        char hole[32] = "";
        int32_t id;
        if (!pieces->at[i]) attn_hole(hole, i);
        const char *text = pieces->at[i] ? pieces->at[i] : hole;
        p->outside[i] = pieces->outside[i];
        ATTN_TRY(attn_vocabulary_add(&tokenizer->vocabulary, text, strlen(text), &id));
        if ((size_t)id != i)
            return attn_fail(pieces->ctx, ATTN_E_FORMAT, "piece \"%.64s\": found ids %d and %zu", text, (int)id, i);
    }
    return attn_tokenizer_make_info(tokenizer);
}

static attn_status read_vocabulary(attn_tokenizer *tokenizer, json_t *vocab, json_t *added) {
    enum { HOLES = 1024 };
    attn_context *ctx = tokenizer->ctx;
    bool scores = tokenizer->pipeline->model == ATTN_UNIGRAM;
    size_t n = scores ? json_array_size(vocab) : json_object_size(vocab);
    if (!n) return not_the_form(ctx, scores ? "an array \"vocab\" in the model" : "an object \"vocab\" in the model");
    piece_table pieces = {.ctx = ctx, .room = 2 * (n + json_array_size(added)) + HOLES};
    pieces.at = attn_alloc_zero(ctx, pieces.room, sizeof *pieces.at);
    pieces.outside = attn_alloc_zero(ctx, pieces.room, sizeof *pieces.outside);
    attn_status status = pieces.at && pieces.outside ? ATTN_OK : ATTN_E_NOMEM;
    const char *text;
    json_t *id;
    if (status == ATTN_OK && scores) status = read_scores(tokenizer, &pieces, vocab);
    json_object_foreach(vocab, text, id) { /* nothing, if it is an array */
        if (status == ATTN_OK) status = put_piece(&pieces, text, id);
    }
    if (status == ATTN_OK) status = read_added_pieces(&pieces, scores ? NULL : vocab, added);
    if (status == ATTN_OK) status = fill_vocabulary(tokenizer, &pieces);
    attn_release(ctx, pieces.at);
    attn_release(ctx, pieces.outside);
    return status;
}

attn_status attn_pipeline_added(attn_tokenizer *tokenizer, json_t *json) {
    attn_context *ctx = tokenizer->ctx;
    attn_pipeline *p = tokenizer->pipeline;
    attn_work work = ATTN_WORK_INIT(ctx);
    attn_status status = ATTN_OK;
    json_t *row;
    size_t i;
    json_array_foreach(json, i, row) {
        json_t *content = json_object_get(row, "content");
        const char *text = json_string_value(content);
        int32_t id = text ? attn_vocabulary_find(&tokenizer->vocabulary, text, strlen(text)) : -1;
        attn_added added = {.id = id};
        if (!text || !*text) continue;
        if (id < 0) status = attn_fail(ctx, ATTN_E_FORMAT, "added token \"%.64s\": found no id", text);
        const struct {
            const char *name;
            bool *to;
        } flags[] = {{"special", &added.special},
                     {"single_word", &added.single_word},
                     {"lstrip", &added.left},
                     {"rstrip", &added.right},
                     {"normalized", &added.normalised}};
        added.normalised = !json_is_true(json_object_get(row, "special"));
        for (size_t k = 0; k < ATTN_COUNT(flags); k++)
            if (json_object_get(row, flags[k].name)) *flags[k].to = json_is_true(json_object_get(row, flags[k].name));
        if (status == ATTN_OK)
            status = attn_grow(ctx, &p->added, &p->added_capacity, p->added_count + 1, p->added_count, sizeof added);
        if (status != ATTN_OK) break;
        p->added[p->added_count] = added;
        tokenizer->info[id].special |= added.special;
        status = attn_added_put(p, &work, p->added_count++, text, strlen(text));
        if (status != ATTN_OK) break;
    }
    attn_work_free(&work);
    return status;
}

/* ---- models --------------------------------------------------------------------------------- */

static attn_status read_flag(attn_context *ctx, bool *out, json_t *model, const char *name) {
    return attn_part_bool(ctx, out, model, name, false);
}

/* A text, or nothing. */
static attn_status read_affix(attn_context *ctx, char **out, size_t *bytes, json_t *model, const char *name,
                              const char *absent) {
    json_t *found = json_object_get(model, name);
    const char *text = found ? json_string_value(found) : absent;
    if (found && !text && !json_is_null(found)) return attn_fail(ctx, ATTN_E_FORMAT, "%s: expected a text", name);
    if (!text || !*text) return ATTN_OK;
    *bytes = strlen(text);
    *out = attn_copy_text(ctx, text, *bytes);
    return *out ? ATTN_OK : ATTN_E_NOMEM;
}

static attn_status read_model(attn_tokenizer *tokenizer, json_t *model) {
    enum { LONGEST_WORD = 100 };
    attn_context *ctx = tokenizer->ctx;
    attn_pipeline *p = tokenizer->pipeline;
    json_t *dropout = json_object_get(model, "dropout"), *longest = json_object_get(model, "max_input_chars_per_word");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "dropout: found %g, expected none", json_number_value(dropout));
    if (longest && (!json_is_integer(longest) || json_integer_value(longest) < 0))
        return attn_fail(ctx, ATTN_E_FORMAT, "max_input_chars_per_word: expected a number");
    p->longest_word = longest ? (size_t)json_integer_value(longest) : LONGEST_WORD;
    ATTN_TRY(read_flag(ctx, &p->byte_fallback, model, "byte_fallback"));
    ATTN_TRY(read_flag(ctx, &p->fuse_unknown, model, "fuse_unk"));
    ATTN_TRY(read_flag(ctx, &p->ignore_merges, model, "ignore_merges"));
    ATTN_TRY(read_affix(ctx, &p->prefix, &p->prefix_bytes, model, "continuing_subword_prefix",
                        p->model == ATTN_WORDPIECE ? "##" : NULL));
    return read_affix(ctx, &p->suffix, &p->suffix_bytes, model, "end_of_word_suffix", NULL);
}

/* By its name, or (Unigram) by its id. */
static attn_status read_unknown(attn_tokenizer *tokenizer, json_t *model) {
    attn_pipeline *p = tokenizer->pipeline;
    const char *name = json_string_value(json_object_get(model, "unk_token"));
    json_t *id = json_object_get(model, "unk_id");
    if (p->model == ATTN_WORDPIECE && !name) name = "[UNK]";
    if (name && p->model != ATTN_UNIGRAM) p->unknown = attn_pipeline_find(tokenizer, name, strlen(name));
    if (p->model == ATTN_UNIGRAM && json_is_integer(id)) {
        if (json_integer_value(id) < 0 || (size_t)json_integer_value(id) >= p->unigram.count)
            return attn_fail(tokenizer->ctx, ATTN_E_FORMAT, "unk_id: expected an id of the vocabulary");
        p->unknown = p->unigram.unknown = (int32_t)json_integer_value(id);
    }
    return ATTN_OK;
}

static attn_status find_model(attn_tokenizer *tokenizer, json_t *model) {
    static const char *const names[] = {
#define SUBWORD_NAME(name, text) text,
        ATTN_SUBWORD_LIST(SUBWORD_NAME)
#undef SUBWORD_NAME
    };
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!type && json_object_get(model, "vocab")) /* older files leave the type out */
        type = json_object_get(model, "merges")                      ? "BPE"
               : json_object_get(model, "continuing_subword_prefix") ? "WordPiece"
               : json_is_array(json_object_get(model, "vocab"))      ? "Unigram"
                                                                     : "WordLevel";
    for (size_t i = 0; type && i < ATTN_COUNT(names); i++)
        if (!strcmp(names[i], type)) return tokenizer->pipeline->model = (attn_subword)i, ATTN_OK;
    return attn_fail(tokenizer->ctx, ATTN_E_UNSUPPORTED,
                     "model: found \"%.64s\", expected BPE, WordPiece, Unigram or WordLevel",
                     type ? type : "(no type)");
}

attn_status attn_pipeline_parse(attn_tokenizer *tokenizer, json_t *root) {
    attn_context *ctx = tokenizer->ctx;
    json_t *model = json_object_get(root, "model"), *added = json_object_get(root, "added_tokens");
    if (!json_is_object(root)) return not_the_form(ctx, "an object");
    if (!json_is_object(model)) return not_the_form(ctx, "an object \"model\"");
    ATTN_TRY(attn_pipeline_new(tokenizer));
    attn_pipeline *p = tokenizer->pipeline;
    ATTN_TRY(find_model(tokenizer, model));
    ATTN_TRY(attn_pipeline_parts(tokenizer, root));
    attn_status status = read_model(tokenizer, model);
    if (status != ATTN_OK) return attn_fail(ctx, status, "model: %s", attn_error(ctx));
    if (p->byte_level && p->model != ATTN_BPE)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "pre_tokenizer: found ByteLevel with another model than BPE");
    ATTN_TRY(read_vocabulary(tokenizer, json_object_get(model, "vocab"), added));
    if (p->model == ATTN_BPE) ATTN_TRY(attn_merges_parse(tokenizer, json_object_get(model, "merges"), p->prefix_bytes));
    ATTN_TRY(read_unknown(tokenizer, model));
    ATTN_TRY(attn_pipeline_added(tokenizer, added));
    ATTN_TRY(attn_pipeline_post_processor(tokenizer, json_object_get(root, "post_processor")));
    return attn_pipeline_finish(tokenizer);
}

/* ---- writing -------------------------------------------------------------------------------- */

static json_t *write_scores(const attn_tokenizer *tokenizer) {
    const attn_unigram *unigram = &tokenizer->pipeline->unigram;
    json_t *rows = json_array();
    bool whole = rows != NULL;
    for (size_t i = 0; i < unigram->count && whole; i++)
        whole = json_array_append_new(rows, json_pack("[sf]", attn_vocabulary_text(&tokenizer->vocabulary, (int32_t)i),
                                                      unigram->score[i])) == 0;
    if (whole) return rows;
    json_decref(rows);
    return NULL;
}

static json_t *write_model(const attn_tokenizer *tokenizer) {
    const attn_pipeline *p = tokenizer->pipeline;
    const char *unknown = p->unknown < 0 ? NULL : attn_tokenizer_piece(tokenizer, p->unknown);
    switch (p->model) {
    case ATTN_BPE:
        return json_pack("{sssnss?ss?ss?sbsbsbsoso}", "type", "BPE", "dropout", "unk_token", unknown,
                         "continuing_subword_prefix", p->prefix, "end_of_word_suffix", p->suffix, "fuse_unk",
                         (int)p->fuse_unknown, "byte_fallback", (int)p->byte_fallback, "ignore_merges",
                         (int)p->ignore_merges, "vocab", attn_vocabulary_write(tokenizer), "merges",
                         attn_merges_write(tokenizer));
    case ATTN_WORDPIECE:
        return json_pack("{sssssssIso}", "type", "WordPiece", "unk_token", unknown ? unknown : "[UNK]",
                         "continuing_subword_prefix", p->prefix ? p->prefix : "", "max_input_chars_per_word",
                         (json_int_t)p->longest_word, "vocab", attn_vocabulary_write(tokenizer));
    case ATTN_UNIGRAM:
        return json_pack("{sssosbso}", "type", "Unigram", "unk_id",
                         p->unknown < 0 ? json_null() : json_integer(p->unknown), "byte_fallback",
                         (int)p->byte_fallback, "vocab", write_scores(tokenizer));
    case ATTN_WORDLEVEL:
        return json_pack("{ssssso}", "type", "WordLevel", "unk_token", unknown ? unknown : "", "vocab",
                         attn_vocabulary_write(tokenizer));
    }
    return NULL;
}

json_t *attn_pipeline_write(const attn_tokenizer *tokenizer) {
    json_t *root = json_copy(tokenizer->pipeline->parts);
    if (root && json_object_set_new(root, "model", write_model(tokenizer)) == 0) return root;
    json_decref(root);
    return NULL;
}
