/* tokenizer_gguf.c: the tokenizer in a GGUF file's metadata. */
#include <attn/gguf.h>
#include <jansson.h>
#include <string.h>

#include "text/formats.h"

#define KEY(name) "tokenizer.ggml." name

static bool is_text(const char *text, size_t bytes, const char *expected) {
    return bytes == strlen(expected) && !memcmp(text, expected, bytes);
}

static attn_status read_pieces(attn_piece_list *list, const attn_gguf *file) {
    size_t n = attn_gguf_array(file, KEY("tokens"));
    const char *text;
    size_t bytes;
    for (size_t i = 0; i < n; i++) {
        double score = 0, kind = ATTN_PIECE_NORMAL;
        if (!attn_gguf_array_text(file, KEY("tokens"), i, &text, &bytes))
            return attn_fail(list->text.ctx, ATTN_E_FORMAT, KEY("tokens") ": expected an array of texts");
        attn_gguf_array_number(file, KEY("scores"), i, &score);
        attn_gguf_array_number(file, KEY("token_type"), i, &kind);
        if (!(kind >= ATTN_PIECE_NORMAL && kind <= ATTN_PIECE_BYTE) || !(score > -1e30 && score < 1e30))
            return attn_fail(list->text.ctx, ATTN_E_FORMAT, "token %zu: found type %g and score %g", i, kind, score);
        ATTN_TRY(attn_piece_list_add(list, text, bytes, score, (attn_piece_kind)kind));
    }
    return ATTN_OK;
}

/* gives; NULL: no memory. */
static json_t *read_merges(const attn_gguf *file) {
    json_t *rows = json_array();
    const char *text;
    size_t bytes;
    for (size_t i = 0; rows && attn_gguf_array_text(file, KEY("merges"), i, &text, &bytes); i++) {
        json_t *row = json_stringn(text, bytes);
        json_array_append_new(rows, row ? row : json_null());
    }
    return rows;
}

static bool flag(const attn_gguf *file, const char *key, bool absent) {
    int64_t value = absent;
    attn_gguf_integer(file, key, &value);
    return value != 0;
}

static int64_t wanted_id(const attn_gguf *file, const char *wanted, bool absent, const char *key) {
    int64_t id = -1;
    if (flag(file, wanted, absent)) attn_gguf_integer(file, key, &id);
    return id;
}

static attn_status byte_level_parts(attn_context *ctx, attn_buffer *parts, const attn_gguf *file, bool *llama3) {
    const char *pre = "default";
    size_t bytes = 7;
    attn_gguf_text(file, KEY("pre"), &pre, &bytes);
    const char *json = attn_pre_tokenizer_named(pre, bytes);
    if (!json)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, KEY("pre") ": found \"%.*s\", expected one whose pattern is known",
                         (int)ATTN_MIN(bytes, 60), pre);
    *llama3 = is_text(pre, bytes, "llama-bpe") || is_text(pre, bytes, "llama3");
    attn_buffer_printf(
        parts, "{\"version\":\"1.0\",\"normalizer\":%s,\"pre_tokenizer\":%s,\"decoder\":{\"type\":\"ByteLevel\"}}",
        is_text(pre, bytes, "qwen2") ? "{\"type\":\"NFC\"}" : "null", json);
    return parts->status;
}

void attn_sentencepiece_parts(attn_buffer *parts, bool prefix) {
    attn_buffer_printf(parts,
                       "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[%s{\"type\":"
                       "\"Replace\",\"pattern\":{"
                       "\"String\":\" \"},\"content\":\"" ATTN_MARK
                       "\"}]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
                       "\"Replace\",\"pattern\":{\"String\":\"" ATTN_MARK
                       "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":"
                       "\"Fuse\"}%s]}}",
                       prefix ? "{\"type\":\"Prepend\",\"prepend\":\"" ATTN_MARK "\"}," : "",
                       prefix ? ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}" : "");
}

static attn_status of_gguf(attn_tokenizer **gives, attn_context *ctx, const attn_gguf *file, attn_piece_list *list,
                           attn_buffer *parts) {
    const char *model = "";
    size_t bytes = 0;
    bool llama3 = false;
    json_t *merges = NULL;
    attn_gguf_text(file, KEY("model"), &model, &bytes);
    bool byte_level = is_text(model, bytes, "gpt2"), llama = is_text(model, bytes, "llama");
    if (!byte_level && !llama)
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, KEY("model") ": found \"%.*s\", expected gpt2 or llama",
                         (int)ATTN_MIN(bytes, 60), model);
    ATTN_TRY(read_pieces(list, file));
    list->model = ATTN_BPE;
    list->control_in_text = true;
    list->merge_by_score = llama;
    list->bos = wanted_id(file, KEY("add_bos_token"), llama, KEY("bos_token_id"));
    list->eos = wanted_id(file, KEY("add_eos_token"), false, KEY("eos_token_id"));
    if (llama) attn_sentencepiece_parts(parts, flag(file, KEY("add_space_prefix"), true));
    else {
        ATTN_TRY(byte_level_parts(ctx, parts, file, &llama3));
        merges = read_merges(file);
        if (!merges) return attn_fail(ctx, ATTN_E_NOMEM, "out of memory: merges");
    }
    attn_status status = parts->status;
    if (status == ATTN_OK) status = attn_tokenizer_of_pieces(gives, list, parts->data, merges);
    if (status == ATTN_OK) (*gives)->pipeline->ignore_merges = llama3;
    json_decref(merges);
    return status;
}

attn_status attn_tokenizer_of_gguf(attn_tokenizer **gives, attn_context *ctx, const attn_gguf *file) {
    attn_piece_list list = ATTN_PIECE_LIST_INIT(ctx);
    attn_buffer parts = ATTN_BUFFER_INIT(ctx);
    *gives = NULL;
    attn_status status = of_gguf(gives, ctx, file, &list, &parts);
    attn_buffer_free(&parts);
    attn_piece_list_free(&list);
    return status;
}
