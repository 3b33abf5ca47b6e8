/* tokenizer_llama2c.c: llama2.c's tokenizer.bin: the length of the longest piece, then of each piece score, length and
 * bytes; SentencePiece's BPE with spaces for its marks, and lines around the names of <s> and </s>. */
#include "text/formats.h"

#include <string.h>

enum { UNKNOWN, BEGIN, END, FIRST_BYTE, FIRST_PIECE = FIRST_BYTE + 256 };

static attn_status add_piece(attn_piece_list *list, const char *text, size_t bytes, double score) {
    static const char *const names[] = {"<unk>", "<s>", "</s>"};
    const size_t id = list->count;
    if (id <= END)
        return attn_piece_list_add(list, names[id], strlen(names[id]), score,
                                   id == UNKNOWN ? ATTN_PIECE_UNKNOWN : ATTN_PIECE_CONTROL);
    attn_buffer marked = ATTN_BUFFER_INIT(list->text.ctx);
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] == ' ') attn_buffer_text(&marked, ATTN_MARK);
        else attn_buffer_add(&marked, text + i, 1);
    }
    attn_status status = marked.status;
    if (status == ATTN_OK)
        status = attn_piece_list_add(list, marked.data ? marked.data : "", marked.bytes, score,
                                     id < FIRST_PIECE ? ATTN_PIECE_BYTE : ATTN_PIECE_NORMAL);
    attn_buffer_free(&marked);
    return status;
}

static attn_status read_pieces(attn_piece_list *list, const char *data, size_t bytes) {
    enum { LONGEST = 4, HEAD = 8 };
    for (size_t at = LONGEST; at < bytes;) {
        float score = 0;
        int32_t length = -1;
        if (bytes - at >= HEAD) {
            memcpy(&score, data + at, 4);
            memcpy(&length, data + at + 4, 4);
            at += HEAD;
        }
        if (length < 0 || (size_t)length > bytes - at || !(score > -1e30f && score < 1e30f))
            return attn_fail(list->text.ctx, ATTN_E_FORMAT,
                             "piece %zu: expected its score, its length and so many bytes, found length %d",
                             list->count, (int)length);
        ATTN_TRY(add_piece(list, data + at, (size_t)length, (double)score));
        at += (size_t)length;
    }
    return list->count >= FIRST_PIECE ? ATTN_OK
                                      : attn_fail(list->text.ctx, ATTN_E_FORMAT,
                                                  "found %zu pieces, expected at least %d", list->count, FIRST_PIECE);
}

bool attn_is_llama2c_tokenizer(const char *data, size_t bytes) {
    return bytes >= 4 && data[2] == 0 && data[3] == 0; /* a length below 65536; texts have no NUL */
}

attn_status attn_tokenizer_of_llama2c(attn_tokenizer **gives, attn_context *ctx, const char *data, size_t bytes) {
    attn_piece_list list = ATTN_PIECE_LIST_INIT(ctx);
    attn_buffer parts = ATTN_BUFFER_INIT(ctx);
    *gives = NULL;
    list.model = ATTN_BPE;
    list.merge_by_score = true;
    list.bos = BEGIN;
    attn_sentencepiece_parts(&parts, true);
    attn_status status = parts.status;
    if (status == ATTN_OK) status = read_pieces(&list, data, bytes);
    if (status == ATTN_OK) status = attn_tokenizer_of_pieces(gives, &list, parts.data, NULL);
    attn_buffer_free(&parts);
    attn_piece_list_free(&list);
    return status;
}
