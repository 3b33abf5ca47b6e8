/* formats.c: lists of pieces to pipelines; and files to one of the readers, by their first bytes. */
#include "text/formats.h"

#include <attn/gguf.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/charsmap.h"
#include "text/read.h"

/* ---- lists of pieces ------------------------------------------------------------------------ */

static attn_status add_piece(attn_piece_list *list, size_t first, double score, attn_piece_kind kind) {
    size_t n = list->count;
    ATTN_TRY(list->text.status);
    ATTN_TRY(attn_grow(list->text.ctx, &list->piece, &list->capacity, n + 1, n, sizeof *list->piece));
    list->piece[list->count++] = (attn_listed_piece){first, list->text.bytes - first, score, kind};
    return ATTN_OK;
}

attn_status attn_piece_list_add(attn_piece_list *list, const char *text, size_t bytes, double score,
                                attn_piece_kind kind) {
    size_t first = list->text.bytes;
    attn_buffer_add(&list->text, text, bytes);
    return add_piece(list, first, score, kind);
}

/* The same, each byte as the character that stands for it. */
static attn_status add_bytes(attn_piece_list *list, const char *text, size_t bytes, double score) {
    size_t first = list->text.bytes;
    for (size_t i = 0; i < bytes; i++) {
        char encoded[4];
        attn_buffer_add(&list->text, encoded, attn_utf8_put(encoded, attn_byte_character((unsigned char)text[i])));
    }
    return add_piece(list, first, score, ATTN_PIECE_NORMAL);
}

void attn_piece_list_free(attn_piece_list *list) {
    attn_context *ctx = list->text.ctx;
    attn_release(ctx, list->piece);
    attn_buffer_free(&list->text);
    *list = (attn_piece_list)ATTN_PIECE_LIST_INIT(ctx);
}

/* An id whose text another has before it, or has none, becomes a hole. */
static attn_status fill_vocabulary(attn_tokenizer *tokenizer, const attn_piece_list *list) {
    attn_context *ctx = tokenizer->ctx;
    attn_pipeline *p = tokenizer->pipeline;
    p->outside = attn_alloc(ctx, list->count, sizeof *p->outside);
    if (!p->outside) return ATTN_E_NOMEM;
    for (size_t i = 0; i < list->count; i++) {
        const attn_listed_piece *piece = &list->piece[i];
        const char *text = list->text.data + piece->first;
        char hole[32];
        int32_t id;
        bool usable = piece->bytes && !memchr(text, 0, piece->bytes) &&
                      attn_vocabulary_find(&tokenizer->vocabulary, text, piece->bytes) < 0;
        attn_hole(hole, i);
        p->outside[i] = !usable || piece->kind != ATTN_PIECE_NORMAL;
        ATTN_TRY(attn_vocabulary_add(&tokenizer->vocabulary, usable ? text : hole, usable ? piece->bytes : strlen(hole),
                                     &id));
        if ((size_t)id != i) return attn_fail(ctx, ATTN_E_FORMAT, "piece %zu: found it twice", i);
    }
    return attn_tokenizer_make_info(tokenizer);
}

typedef struct ranked {
    double score;
    int32_t id;
} ranked;

static int by_score(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->id > y->id) - (x->id < y->id);
}

/* All ways to make a piece of two others; they share the rank of the first. */
static attn_status add_splits(attn_tokenizer *tokenizer, int32_t joined) {
    const attn_vocabulary *vocabulary = &tokenizer->vocabulary;
    const char *text = attn_vocabulary_text(vocabulary, joined);
    size_t bytes = attn_vocabulary_bytes(vocabulary, joined), rank = tokenizer->bpe.count;
    for (size_t at = 0; at < bytes;) {
        attn_utf8_next(text, bytes, &at);
        if (at >= bytes) break;
        int32_t left = attn_pipeline_find(tokenizer, text, at);
        int32_t right = attn_pipeline_find(tokenizer, text + at, bytes - at);
        if (left < 0 || right < 0) continue;
        ATTN_TRY(attn_bpe_add_as(&tokenizer->bpe, (attn_merge){left, right, joined}, rank));
    }
    return ATTN_OK;
}

static attn_status merge_by_score(attn_tokenizer *tokenizer, const attn_piece_list *list) {
    ranked *rows = attn_alloc(tokenizer->ctx, list->count, sizeof *rows);
    size_t n = 0;
    attn_status status = rows ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; i < list->count && rows; i++)
        if (!tokenizer->pipeline->outside[i]) rows[n++] = (ranked){list->piece[i].score, (int32_t)i};
    if (n) qsort(rows, n, sizeof *rows, by_score);
    for (size_t i = 0; i < n && status == ATTN_OK; i++) status = add_splits(tokenizer, rows[i].id);
    attn_release(tokenizer->ctx, rows);
    return status;
}

static bool is_hole(const attn_tokenizer *tokenizer, size_t id) {
    return !*attn_tokenizer_piece(tokenizer, (int32_t)id);
}

/* Gives added_tokens: control pieces are special, user's are found in the text. */
static json_t *list_added(const attn_tokenizer *tokenizer, const attn_piece_list *list) {
    json_t *rows = json_array();
    for (size_t i = 0; i < list->count && rows; i++) {
        attn_piece_kind kind = list->piece[i].kind;
        bool control = (kind == ATTN_PIECE_CONTROL || kind == ATTN_PIECE_UNKNOWN) && list->control_in_text;
        if (is_hole(tokenizer, i) || (!control && kind != ATTN_PIECE_USER)) continue;
        json_array_append_new(rows, json_pack("{sisssbsbsbsbsb}", "id", (int)i, "content",
                                              attn_tokenizer_piece(tokenizer, (int32_t)i), "single_word", 0, "lstrip",
                                              0, "rstrip", 0, "normalized", 0, "special", (int)control));
    }
    return rows;
}

static void add_special(json_t *single, json_t *special, const attn_tokenizer *tokenizer, int64_t id) {
    const char *piece = id >= 0 && id < INT32_MAX ? attn_tokenizer_piece(tokenizer, (int32_t)id) : NULL;
    if (!piece) return;
    json_array_append_new(single, json_pack("{s{sssi}}", "SpecialToken", "id", piece, "type_id", 0));
    json_object_set_new(special, piece, json_pack("{sss[I]s[s]}", "id", piece, "ids", (json_int_t)id, "tokens", piece));
}

/* The post-processor that puts bos and eos around a text. */
static json_t *put_around(const attn_tokenizer *tokenizer, const attn_piece_list *list) {
    json_t *single = json_array(), *special = json_object();
    add_special(single, special, tokenizer, list->bos);
    json_array_append_new(single, json_pack("{s{sssi}}", "Sequence", "id", "A", "type_id", 0));
    add_special(single, special, tokenizer, list->eos);
    json_t *pair = json_deep_copy(single);
    json_array_append_new(pair, json_pack("{s{sssi}}", "Sequence", "id", "B", "type_id", 1));
    return json_pack("{sssososo}", "type", "TemplateProcessing", "single", single, "pair", pair, "special_tokens",
                     special);
}

static attn_status fill(attn_tokenizer *tokenizer, const attn_piece_list *list, json_t *root, json_t *merges) {
    ATTN_TRY(attn_pipeline_new(tokenizer));
    attn_pipeline *p = tokenizer->pipeline;
    size_t bytes = 0;
    p->model = list->model;
    p->longest_word = 100;
    ATTN_TRY(fill_vocabulary(tokenizer, list));
    json_object_set_new(root, "added_tokens", list_added(tokenizer, list));
    if (list->bos >= 0 || list->eos >= 0) json_object_set_new(root, "post_processor", put_around(tokenizer, list));
    ATTN_TRY(attn_pipeline_parts(tokenizer, root));
    for (size_t i = 0; i < p->normaliser.count; i++) p->normaliser.at[i].individual = list->longest_rule;
    for (size_t i = 0; i < list->count; i++) {
        if (list->piece[i].kind == ATTN_PIECE_UNKNOWN) p->unknown = p->unigram.unknown = (int32_t)i;
        tokenizer->info[i].special |=
            list->piece[i].kind == ATTN_PIECE_CONTROL || list->piece[i].kind == ATTN_PIECE_UNKNOWN;
        bytes += list->piece[i].kind == ATTN_PIECE_BYTE;
        if (p->model == ATTN_UNIGRAM) ATTN_TRY(attn_unigram_add(tokenizer->ctx, &p->unigram, list->piece[i].score));
    }
    p->unigram.single = list->single;
    p->byte_fallback = bytes == 256;
    p->fuse_unknown = true;
    if (merges) ATTN_TRY(attn_merges_parse(tokenizer, merges, 0));
    if (list->merge_by_score) ATTN_TRY(merge_by_score(tokenizer, list));
    ATTN_TRY(attn_pipeline_added(tokenizer, json_object_get(root, "added_tokens")));
    ATTN_TRY(attn_pipeline_post_processor(tokenizer, json_object_get(root, "post_processor")));
    return attn_pipeline_finish(tokenizer);
}

attn_status attn_tokenizer_of_pieces(attn_tokenizer **gives, const attn_piece_list *list, const char *parts,
                                     json_t *merges) {
    attn_context *ctx = list->text.ctx;
    json_t *root = json_loads(parts, 0, NULL);
    attn_tokenizer *tokenizer = NULL;
    *gives = NULL;
    if (!list->count) {
        json_decref(root);
        return attn_fail(ctx, ATTN_E_FORMAT, "expected pieces, found none");
    }
    attn_status status = root ? attn_tokenizer_new(&tokenizer, ctx) : attn_fail(ctx, ATTN_E_NOMEM, "out of memory");
    if (status == ATTN_OK) status = fill(tokenizer, list, root, merges);
    json_decref(root);
    if (status == ATTN_OK) *gives = tokenizer;
    else attn_tokenizer_free(tokenizer);
    return status;
}

/* ---- patterns ------------------------------------------------------------------------------- */

#define BYTE_LEVEL(regex) \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":" regex "}"
#define SPLIT(regex)                                                                                \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"" regex \
    "\"},\"behavior\":\"Isolated\",\"invert\":false}," BYTE_LEVEL("false") "]}"
#define WORDS(numbers)                                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|" numbers \
    "| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+"
#define UPPER "\\\\p{Lu}\\\\p{Lt}\\\\p{Lm}\\\\p{Lo}\\\\p{M}"
#define LOWER "\\\\p{Ll}\\\\p{Lm}\\\\p{Lo}\\\\p{M}"
#define SHORT_FORMS "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
#define O200K                                                                                                     \
    "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[" UPPER "]*[" LOWER "]+" SHORT_FORMS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[" UPPER \
    "]+[" LOWER "]*" SHORT_FORMS                                                                                  \
    "|\\\\p{N}{1,3}| ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n/]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|"               \
    "\\\\s+"

#define DIGITS                                                                                                \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":true}," BYTE_LEVEL( \
        "true") "]}"
static const struct {
    const char *name, *json;
    bool ignores_merges, is_read; /* is_read: it has the name in GGUF files too, and is the first one of its pattern */
} families[] = {
    {"gpt-2", BYTE_LEVEL("true"), false, true},
    {"smollm", DIGITS, false, true},
    {"starcoder", DIGITS, false, false},
    {"refact", DIGITS, false, false},
    {"llama-bpe", SPLIT(WORDS("\\\\p{N}{1,3}")), true, true},
    {"llama3", SPLIT(WORDS("\\\\p{N}{1,3}")), true, false},
    {"cl100k", SPLIT(WORDS("\\\\p{N}{1,3}")), false, false},
    {"qwen2", SPLIT(WORDS("\\\\p{N}")), false, true},
    {"gpt-4o", SPLIT(O200K), false, true},
};

const char *attn_pre_tokenizer_named(const char *name, size_t bytes) {
    for (size_t i = 0; i < ATTN_COUNT(families); i++)
        if (strlen(families[i].name) == bytes && !memcmp(families[i].name, name, bytes)) return families[i].json;
    return NULL;
}

/* Offsets are no matter of ids. */
static void leave_offsets_out(json_t *json) {
    const char *key;
    json_t *value;
    size_t i;
    json_object_del(json, "trim_offsets");
    json_object_foreach(json, key, value) leave_offsets_out(value);
    json_array_foreach(json, i, value) leave_offsets_out(value);
}

const char *attn_pre_tokenizer_name(const json_t *json, bool ignores_merges) {
    json_t *given = json_deep_copy(json);
    const char *found = NULL;
    leave_offsets_out(given);
    for (size_t i = 0; i < ATTN_COUNT(families) && given; i++) {
        json_t *family = json_loads(families[i].json, 0, NULL);
        leave_offsets_out(family);
        if (!found && families[i].is_read && families[i].ignores_merges == ignores_merges && json_equal(given, family))
            found = families[i].name;
        json_decref(family);
    }
    json_decref(given);
    return found;
}

/* ---- tiktoken ------------------------------------------------------------------------------- */

/* Lines of a token in base64 and its rank. The pattern is not in the file: its number of tokens tells the family. */
attn_status attn_tokenizer_of_tiktoken(attn_tokenizer **gives, attn_context *ctx, const char *data, size_t bytes) {
    static const struct {
        size_t tokens;
        const char *name;
    } sizes[] = {{50256, "gpt-2"}, {100256, "cl100k"}, {128000, "llama3"}, {199998, "gpt-4o"}};
    attn_piece_list list = ATTN_PIECE_LIST_INIT(ctx);
    attn_status status = ATTN_OK;
    const char *pre = NULL, *end = data + bytes;
    *gives = NULL;
    for (const char *at = data; at < end && status == ATTN_OK;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *space;
        if (!stop) stop = end;
        space = memchr(at, ' ', (size_t)(stop - at));
        size_t rank = 0, size = 0;
        const char *digit = space ? space + 1 : stop;
        char *token = NULL;
        for (; digit < stop && *digit >= '0' && *digit <= '9' && rank < INT32_MAX; digit++)
            rank = rank * 10 + (size_t)(*digit - '0');
        bool whole = space && digit > space + 1 && (digit == stop || *digit == '\r') && rank == list.count;
        if (at == stop) whole = stop + 1 >= end;
        else if (whole) status = attn_base64(ctx, &token, &size, at, (size_t)(space - at));
        if (status == ATTN_OK && token) status = add_bytes(&list, token, size, -(double)rank);
        if (status == ATTN_OK && !whole)
            status = attn_fail(ctx, ATTN_E_FORMAT, "line %zu: expected a token in base64 and its rank, %zu",
                               list.count + 1, list.count);
        attn_release(ctx, token);
        at = stop + 1;
    }
    for (size_t i = 0; i < ATTN_COUNT(sizes); i++)
        if (sizes[i].tokens == list.count) pre = attn_pre_tokenizer_named(sizes[i].name, strlen(sizes[i].name));
    if (status == ATTN_OK && !pre)
        status =
            attn_fail(ctx, ATTN_E_UNSUPPORTED,
                      "found %zu tokens, expected the 50256, 100256, 128000 or 199998 of a family whose pattern is "
                      "known",
                      list.count);
    attn_buffer parts = ATTN_BUFFER_INIT(ctx);
    attn_buffer_printf(&parts, "{\"normalizer\":null,\"pre_tokenizer\":%s,\"decoder\":{\"type\":\"ByteLevel\"}}",
                       pre ? pre : "null");
    if (status == ATTN_OK) status = parts.status;
    list.model = ATTN_BPE;
    list.merge_by_score = true;
    if (status == ATTN_OK) status = attn_tokenizer_of_pieces(gives, &list, parts.data, NULL);
    if (status == ATTN_OK) (*gives)->pipeline->ignore_merges = true;
    attn_buffer_free(&parts);
    attn_piece_list_free(&list);
    return status;
}

/* ---- GPT-2 ---------------------------------------------------------------------------------- */

/* Lines "left right"; a first line that begins with #version is none. */
static json_t *merge_lines(const char *text, size_t bytes) {
    json_t *rows = json_array();
    const char *end = text + bytes;
    for (const char *at = text, *stop; at < end && rows; at = stop + 1) {
        stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        size_t length = (size_t)(stop - at);
        if (length && at[length - 1] == '\r') length--;
        if (!length || (at == text && length > 8 && !memcmp(at, "#version", 8))) continue;
        json_t *row = json_stringn(at, length);
        json_array_append_new(rows, row ? row : json_null());
    }
    return rows;
}

/* Takes the pieces with their ids. */
static attn_status gpt2_of_pieces(attn_tokenizer **gives, attn_context *ctx, json_t *vocab, const char *merges,
                                  size_t merges_bytes) {
    static const char parts[] = "{\"version\":\"1.0\",\"added_tokens\":[],\"pre_tokenizer\":" BYTE_LEVEL(
        "true") ",\"decoder\":" BYTE_LEVEL("true") ",\"model\":{\"type\":\"BPE\"}}";
    json_t *root = json_loads(parts, 0, NULL), *end = json_object_get(vocab, "<|endoftext|>");
    json_t *model = json_object_get(root, "model");
    if (json_is_integer(end))
        json_array_append_new(json_object_get(root, "added_tokens"),
                              json_pack("{sIsssbsb}", "id", json_integer_value(end), "content", "<|endoftext|>",
                                        "special", 1, "normalized", 0));
    json_object_set_new(model, "vocab", vocab);
    json_object_set_new(model, "merges", merge_lines(merges, merges_bytes));
    attn_tokenizer *tokenizer;
    attn_status status = attn_tokenizer_new(&tokenizer, ctx);
    if (status == ATTN_OK && !root) status = attn_fail(ctx, ATTN_E_NOMEM, "out of memory");
    if (status == ATTN_OK) status = attn_pipeline_parse(tokenizer, root);
    json_decref(root);
    if (status == ATTN_OK) *gives = tokenizer;
    else attn_tokenizer_free(tokenizer);
    return status;
}

/* GPT-2's two files: pieces and their ids, and merges. */
static attn_status of_gpt2(attn_tokenizer **gives, attn_context *ctx, const char *vocabulary, size_t vocabulary_bytes,
                           const char *merges, size_t merges_bytes) {
    json_error_t error;
    *gives = NULL;
    json_t *vocab = json_loadb(vocabulary, vocabulary_bytes, JSON_REJECT_DUPLICATES, &error);
    if (!vocab) return attn_fail(ctx, ATTN_E_FORMAT, "line %d: %s", error.line, error.text);
    return gpt2_of_pieces(gives, ctx, vocab, merges, merges_bytes);
}

static bool is_printable(int byte) { return (byte >= 33 && byte < 127) || (byte >= 161 && byte != 173); }

/* The ids that follow from GPT-2's merges alone: the bytes, those that print first, what each merge makes, the end. */
static json_t *pieces_of_merges(const json_t *merges) {
    json_t *pieces = json_object();
    size_t id = 0, i;
    for (int prints = 1; prints >= 0; prints--)
        for (int byte = 0; byte < 256; byte++) {
            if (is_printable(byte) != (prints == 1)) continue;
            char name[5] = "";
            name[attn_utf8_put(name, attn_byte_character((unsigned char)byte))] = '\0';
            json_object_set_new(pieces, name, json_integer((json_int_t)id++));
        }
    const json_t *merge;
    json_array_foreach(merges, i, merge) {
        const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
        if (!space) continue; /* refused where the merges are read */
        json_t *name = json_sprintf("%.*s%s", (int)(space - text), text, space + 1);
        json_object_set_new(pieces, json_string_value(name), json_integer((json_int_t)id++));
        json_decref(name);
    }
    json_object_set_new(pieces, "<|endoftext|>", json_integer((json_int_t)id));
    return pieces;
}

static attn_status load_merges(attn_tokenizer **gives, attn_context *ctx, const char *text, size_t bytes) {
    json_t *merges = merge_lines(text, bytes), *pieces = pieces_of_merges(merges);
    json_decref(merges);
    return gpt2_of_pieces(gives, ctx, pieces, text, bytes);
}

/* ---- files ---------------------------------------------------------------------------------- */

enum { MOST = 256 << 20 };

/* A file beside path. */
static attn_status read_beside(attn_context *ctx, char **gives, size_t *bytes, const char *path, const char *file) {
    const char *slash = strrchr(path, '/');
    attn_buffer name = ATTN_BUFFER_INIT(ctx);
    attn_buffer_add(&name, path, slash ? (size_t)(slash + 1 - path) : 0);
    attn_buffer_text(&name, file);
    const attn_status status =
        name.status == ATTN_OK ? attn_read_file(ctx, gives, bytes, name.data, MOST) : name.status;
    attn_buffer_free(&name);
    return status;
}

/* The merges beside GPT-2's pieces. */
static attn_status load_gpt2(attn_tokenizer **gives, attn_context *ctx, const char *path, const char *text,
                             size_t bytes) {
    static const char *const names[] = {"merges.txt", "vocab.bpe"};
    size_t merges_bytes = 0;
    char *merges = NULL;
    attn_status status = ATTN_E_IO;
    for (size_t i = 0; i < ATTN_COUNT(names) && status == ATTN_E_IO; i++)
        status = read_beside(ctx, &merges, &merges_bytes, path, names[i]);
    if (status == ATTN_E_IO) return attn_fail(ctx, ATTN_E_IO, "expected merges.txt or vocab.bpe beside it");
    if (status == ATTN_OK) status = of_gpt2(gives, ctx, text, bytes, merges, merges_bytes);
    attn_release(ctx, merges);
    return status;
}

/* "model" with an object: GPT-2's pieces have numbers. */
static bool has_model(const char *text, size_t bytes) {
    const char *end = text + bytes, *at = text;
    while ((at = memmem(at, (size_t)(end - at), "\"model\"", 7)) != NULL) {
        for (at += 7; at < end && (*at == ' ' || *at == ':' || *at == '\n' || *at == '\r' || *at == '\t');) at++;
        if (at < end && *at == '{') return true;
    }
    return false;
}

/* BERT's pieces; what tokenizer_config.json beside them says of lower case and accents. */
static attn_status load_wordpieces(attn_tokenizer **gives, attn_context *ctx, const char *path, const char *text,
                                   size_t bytes) {
    char *settings = NULL;
    size_t settings_bytes;
    attn_status status = read_beside(ctx, &settings, &settings_bytes, path, "tokenizer_config.json");
    if (status != ATTN_OK && status != ATTN_E_IO) return status;
    status = attn_tokenizer_of_wordpieces(gives, ctx, text, bytes, settings ? settings : "{}");
    attn_release(ctx, settings);
    return status;
}

static attn_status load_bytes(attn_tokenizer **gives, attn_context *ctx, const char *path, const char *text,
                              size_t bytes) {
    static const char wordpieces[] = "vocab.txt";
    const size_t length = strlen(path), end = sizeof wordpieces - 1;
    size_t at = 0;
    if (length >= end && !strcmp(path + length - end, wordpieces))
        return load_wordpieces(gives, ctx, path, text, bytes);
    while (at < bytes && (text[at] == ' ' || text[at] == '\n' || text[at] == '\r' || text[at] == '\t')) at++;
    if (at < bytes && text[at] == '{')
        return has_model(text, bytes) || !memmem(text, bytes, "\"<|endoftext|>\"", 15)
                   ? attn_tokenizer_parse(gives, ctx, text, bytes)
                   : load_gpt2(gives, ctx, path, text, bytes);
    if (bytes > 8 && !memcmp(text, "#version", 8)) return load_merges(gives, ctx, text, bytes);
    if (bytes > 2 && text[0] == '\n' && text[1] > 0 && text[2] == '\n') /* field 1, and its field 1 */
        return attn_tokenizer_of_sentencepiece(gives, ctx, text, bytes);
    if (attn_is_llama2c_tokenizer(text, bytes)) return attn_tokenizer_of_llama2c(gives, ctx, text, bytes);
    if (memchr(text, ' ', ATTN_MIN(bytes, 1000)) && bytes && text[0] != '\n')
        return attn_tokenizer_of_tiktoken(gives, ctx, text, bytes);
    return attn_tokenizer_parse(gives, ctx, text, bytes);
}

attn_status attn_tokenizer_load_gguf(attn_tokenizer **gives, attn_context *ctx, const char *path) {
    attn_gguf *file;
    ATTN_TRY(attn_gguf_open(&file, ctx, path));
    attn_status status = attn_tokenizer_of_gguf(gives, ctx, file);
    attn_gguf_close(file);
    return status == ATTN_OK ? ATTN_OK : attn_fail(ctx, status, "%s: %s", path, attn_error(ctx));
}

attn_status attn_tokenizer_load(attn_tokenizer **gives, attn_context *ctx, const char *path) {
    char *text;
    size_t bytes = strlen(path);
    *gives = NULL;
    if (bytes > 5 && !strcmp(path + bytes - 5, ".gguf")) return attn_tokenizer_load_gguf(gives, ctx, path);
    ATTN_TRY(attn_read_file(ctx, &text, &bytes, path, MOST));
    attn_status status = load_bytes(gives, ctx, path, text, bytes);
    attn_release(ctx, text);
    return status == ATTN_OK ? ATTN_OK : attn_fail(ctx, status, "%s: %s", path, attn_error(ctx));
}
