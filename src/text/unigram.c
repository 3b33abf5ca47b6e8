/* unigram.c: Viterbi's algorithm over the ends of pieces. Time is the text's length times the longest piece's.
 *   (I1) node[i] is the best way to cover text[0, i) with whole pieces, of the ways tried so far; the first of equals
 *   (I2) when position i is left, node[i] is final: pieces end behind where they begin
 *   (I3) on the way back from the end, node[i] of a piece that begins at i is that piece; what ended there is read */
#include "text/unigram.h"

#include "text/normalise.h"

struct attn_unigram_node {
    double score;
    int32_t id;
    uint32_t bytes; /* of the piece that ends here; 0: none does */
};
typedef struct attn_unigram_node node;

attn_status attn_unigram_add(attn_context *ctx, attn_unigram *u, double score) {
    enum { PENALTY = 10 };
    size_t n = u->count;
    ATTN_TRY(attn_grow(ctx, &u->score, &u->capacity, n + 1, n, sizeof *u->score));
    u->score[u->count++] = score;
    if (!n || score - PENALTY < u->unknown_score) u->unknown_score = score - PENALTY;
    return ATTN_OK;
}

void attn_unigram_free(attn_context *ctx, attn_unigram *u) {
    attn_release(ctx, u->score);
    *u = (attn_unigram)ATTN_UNIGRAM_INIT;
}

static void offer(const attn_unigram *u, node *to, double before, double score, int32_t id, size_t bytes) {
    double sum = u->single ? (double)((float)before + (float)score) : before + score;
    if (to->bytes && !(sum > to->score)) return;
    *to = (node){sum, id, (uint32_t)bytes};
}

/* Turns the links round: from what ends at a node to what begins there. */
static void turn_round(const attn_unigram *u, attn_unigram_path *path, size_t bytes) {
    node *n = path->node, back = n[bytes];
    for (size_t end = bytes, first; end > 0; end = first) {
        const node piece = back;
        first = end - piece.bytes;
        back = n[first];
        n[first] = piece;
        path->count++;
        if (end == bytes || piece.id != u->unknown || n[end].id != u->unknown) continue;
        n[first].bytes += n[end].bytes;
        path->count--;
    }
}

attn_status attn_unigram_segment(attn_context *ctx, const attn_unigram *u, attn_unigram_path *path, const char *text,
                                 size_t bytes) {
    path->count = 0;
    if (bytes >= UINT32_MAX) return attn_fail(ctx, ATTN_E_UNSUPPORTED, "a text of more than %u bytes", UINT32_MAX);
    ATTN_TRY(attn_grow(ctx, &path->node, &path->nodes, bytes + 1, 0, sizeof *path->node));
    node *n = path->node;
    for (size_t i = 0; i <= bytes; i++) n[i].bytes = 0;
    n[0].score = 0;
    for (size_t at = 0, next; at < bytes; at = next) {
        bool covered = false;
        attn_prefix_walk walk = attn_prefixes_walk(u->pieces);
        next = at;
        attn_utf8_next(text, bytes, &next);
        for (size_t i = at; i < bytes && attn_prefixes_step(u->pieces, &walk, text[i]); i++) {
            if (walk.id < 0) continue;
            offer(u, &n[i + 1], n[at].score, u->score[walk.id], walk.id, i + 1 - at);
            covered |= i + 1 == next;
        }
        if (!covered) offer(u, &n[next], n[at].score, u->unknown_score, u->unknown, next - at);
    }
    turn_round(u, path, bytes);
    return ATTN_OK;
}

attn_unigram_piece attn_unigram_at(const attn_unigram_path *path, size_t first) {
    return (attn_unigram_piece){first, first + path->node[first].bytes, path->node[first].id};
}

void attn_unigram_path_free(attn_context *ctx, attn_unigram_path *path) {
    attn_release(ctx, path->node);
    *path = (attn_unigram_path)ATTN_UNIGRAM_PATH_INIT;
}
