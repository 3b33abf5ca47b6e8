/* sentencepiece.c: SentencePiece's .model: a protocol buffer of pieces, and of the rules of its normaliser.
 *
 *   ModelProto       1 pieces, each { 1 text, 2 score, 3 kind }   2 trainer { 3 model }
 *                    3 normaliser { 2 table of characters, 3 dummy prefix, 4 no extra spaces, 5 spaces to ▁ }
 *
 * (I1) every field is read through a span that knows its end; other fields are stepped over. */
#include <string.h>

#include "text/charsmap.h"
#include "text/formats.h"

typedef struct span {
    const unsigned char *at, *end;
} span;

typedef struct field {
    uint32_t number, wire;
    uint64_t value; /* wire 0, and the bits of 1 and 5 */
    span bytes;     /* wire 2 */
} field;

static bool take_varint(span *s, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64 && s->at < s->end; shift += 7) {
        unsigned char byte = *s->at++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return true;
    }
    return false;
}

/* 1: a field, 0: the end, −1: broken. */
static int next_field(span *s, field *f) {
    uint64_t key, length;
    if (s->at == s->end) return 0;
    if (!take_varint(s, &key) || key >> 3 == 0 || key >> 3 > 1 << 29) return -1;
    *f = (field){.number = (uint32_t)(key >> 3), .wire = (uint32_t)(key & 7)};
    size_t left;
    switch (f->wire) {
    case 0: return take_varint(s, &f->value) ? 1 : -1;
    case 1:
    case 5:
        length = f->wire == 1 ? 8 : 4;
        if (length > (size_t)(s->end - s->at)) return -1;
        for (size_t i = 0; i < length; i++) f->value |= (uint64_t)s->at[i] << (8 * i);
        s->at += length;
        return 1;
    case 2:
        if (!take_varint(s, &length)) return -1;
        left = (size_t)(s->end - s->at);
        if (length > left) return -1;
        f->bytes = (span){s->at, s->at + length};
        s->at += length;
        return 1;
    default: return -1;
    }
}

typedef struct model {
    attn_context *ctx;
    attn_piece_list list;
    uint64_t type; /* 1 Unigram, 2 BPE */
    bool dummy_prefix, no_extra_spaces, escape;
    span table;
} model;

static attn_status broken(const model *m) {
    return attn_fail(m->ctx, ATTN_E_FORMAT, "piece %zu: expected a protocol buffer of SentencePiece", m->list.count);
}

static attn_status read_piece(model *m, span s) {
    field f;
    span text = {NULL, NULL};
    float score = 0;
    uint64_t kind = ATTN_PIECE_NORMAL;
    int found;
    while ((found = next_field(&s, &f)) == 1) {
        uint32_t bits = (uint32_t)f.value;
        if (f.number == 1 && f.wire == 2) text = f.bytes;
        else if (f.number == 2 && f.wire == 5) memcpy(&score, &bits, sizeof score);
        else if (f.number == 3 && f.wire == 0) kind = f.value;
    }
    if (found < 0 || kind < ATTN_PIECE_NORMAL || kind > ATTN_PIECE_BYTE || !(score > -1e30f && score < 1e30f))
        return broken(m);
    return attn_piece_list_add(&m->list, text.at ? (const char *)text.at : "", (size_t)(text.end - text.at),
                               (double)score, (attn_piece_kind)kind);
}

static attn_status read_trainer(model *m, span s) {
    field f;
    int found;
    while ((found = next_field(&s, &f)) == 1)
        if (f.number == 3 && f.wire == 0) m->type = f.value;
    return found < 0 ? broken(m) : ATTN_OK;
}

static attn_status read_normaliser(model *m, span s) {
    field f;
    int found;
    while ((found = next_field(&s, &f)) == 1) {
        if (f.number == 2 && f.wire == 2) m->table = f.bytes;
        else if (f.number == 3 && f.wire == 0) m->dummy_prefix = f.value != 0;
        else if (f.number == 4 && f.wire == 0) m->no_extra_spaces = f.value != 0;
        else if (f.number == 5 && f.wire == 0) m->escape = f.value != 0;
    }
    return found < 0 ? broken(m) : ATTN_OK;
}

static attn_status read_model(model *m, span s) {
    field f;
    int found;
    while ((found = next_field(&s, &f)) == 1) {
        if (f.wire != 2) continue;
        if (f.number == 1) ATTN_TRY(read_piece(m, f.bytes));
        else if (f.number == 2) ATTN_TRY(read_trainer(m, f.bytes));
        else if (f.number == 3) ATTN_TRY(read_normaliser(m, f.bytes));
    }
    if (found < 0) return broken(m);
    if (m->type != 1 && m->type != 2)
        return attn_fail(m->ctx, ATTN_E_UNSUPPORTED, "found model type %llu, expected 1 (Unigram) or 2 (BPE)",
                         (unsigned long long)m->type);
    return m->escape ? ATTN_OK : attn_fail(m->ctx, ATTN_E_UNSUPPORTED, "escape_whitespaces: found false");
}

/* The parts of a tokenizer.json that do the same. */
static void write_parts(const model *m, attn_buffer *out) {
#define REPLACE(pattern, content) "{\"type\":\"Replace\",\"pattern\":{" pattern "},\"content\":\"" content "\"},"
    attn_buffer_text(out, "{\"version\":\"1.0\",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
    if (m->table.at != m->table.end) {
        attn_buffer_text(out, "{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"");
        attn_base64_write(out, m->table.at, (size_t)(m->table.end - m->table.at));
        attn_buffer_text(out, "\"},");
    }
    if (m->no_extra_spaces)
        attn_buffer_text(out, REPLACE("\"Regex\":\"\\\\A +\"", "") REPLACE("\"Regex\":\" {2,}\"", " "));
    if (m->dummy_prefix) attn_buffer_text(out, "{\"type\":\"Prepend\",\"prepend\":\"" ATTN_MARK "\"},");
    if (m->no_extra_spaces) /* at the end marks go, too; the lookbehind keeps a run from being tried at each of them */
        attn_buffer_text(out, REPLACE("\"String\":\" \"", ATTN_MARK)
                                  REPLACE("\"Regex\":\"(?<!" ATTN_MARK ")(?:" ATTN_MARK ")++\\\\z\"", ""));
    attn_buffer_text(out, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" ATTN_MARK "\"}]},");
    attn_buffer_text(out, "\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":\"Sequence\","
                          "\"decoders\":[" REPLACE("\"String\":\"" ATTN_MARK "\"", " ") "{\"type\":\"ByteFallback\"},"
                                                                                        "{\"type\":\"Fuse\"}");
    if (m->dummy_prefix) attn_buffer_text(out, ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}");
    attn_buffer_text(out, "]}}");
#undef REPLACE
}

attn_status attn_tokenizer_of_sentencepiece(attn_tokenizer **gives, attn_context *ctx, const char *data, size_t bytes) {
    model m = {.ctx = ctx,
               .list = ATTN_PIECE_LIST_INIT(ctx),
               .type = 1,
               .dummy_prefix = true,
               .no_extra_spaces = true,
               .escape = true};
    attn_buffer parts = ATTN_BUFFER_INIT(ctx);
    *gives = NULL;
    attn_status status = read_model(&m, (span){(const unsigned char *)data, (const unsigned char *)data + bytes});
    m.list.model = m.type == 2 ? ATTN_BPE : ATTN_UNIGRAM;
    m.list.merge_by_score = m.type == 2;
    m.list.single = m.list.longest_rule = true;
    if (status == ATTN_OK) write_parts(&m, &parts);
    if (status == ATTN_OK) status = parts.status;
    if (status == ATTN_OK) status = attn_tokenizer_of_pieces(gives, &m.list, parts.data, NULL);
    attn_buffer_free(&parts);
    attn_piece_list_free(&m.list);
    return status;
}
