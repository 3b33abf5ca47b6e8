/* bleu.c: corpus BLEU (Papineni, Roukos, Ward & Zhu 2002) in the form of sacreBLEU (Post 2018). */
#include "text/bleu.h"
#include <attn/text.h>

#include <math.h>
#include <string.h>

enum { ORDERS = 4 };

/* ---- 13a tokens ----------------------------------------------------------------------------- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_point(char c) { return c == '.' || c == ','; }

/* [{-~[-` -&(-+:-@/]: ASCII punctuation but ' , - . */
static bool is_separate(char c) {
    return (c >= '{' && c <= '~') || (c >= '[' && c <= '`') || (c >= ' ' && c <= '&') || (c >= '(' && c <= '+') ||
           (c >= ':' && c <= '@') || c == '/';
}

/* One pass over a line. The passes are 13a's substitutions in its order, each on the whole line: what one inserts the
 * next one sees. They work on bytes: a class such as [^0-9] takes a whole character, but only its last byte stands
 * before a point and only its first one behind it. */
typedef void line_pass(attn_buffer *out, const char *s, size_t n);

static void replace(attn_buffer *out, const char *s, size_t n, const char *from, const char *to) {
    size_t bytes = strlen(from), first = 0;
    for (const char *hit; (hit = memmem(s + first, n - first, from, bytes)); first = (size_t)(hit - s) + bytes) {
        attn_buffer_add(out, s + first, (size_t)(hit - s) - first);
        attn_buffer_text(out, to);
    }
    attn_buffer_add(out, s + first, n - first);
}

static void drop_skipped(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "<skipped>", ""); }
static void join_hyphenated(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "-\n", ""); }
static void line_ends(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "\n", " "); }
static void quotes(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "&quot;", "\""); }
static void ampersands(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "&amp;", "&"); }
static void less_signs(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "&lt;", "<"); }
static void greater_signs(attn_buffer *out, const char *s, size_t n) { replace(out, s, n, "&gt;", ">"); }

static void pad(attn_buffer *out, const char *s, size_t n) {
    attn_buffer_text(out, " ");
    attn_buffer_add(out, s, n);
    attn_buffer_text(out, " ");
}

static void separate_punctuation(attn_buffer *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char spaced[3] = {' ', s[i], ' '};
        if (is_separate(s[i])) attn_buffer_add(out, spaced, 3);
        else attn_buffer_add(out, &s[i], 1);
    }
}

/* ([^0-9])([.,]) becomes "\1 \2 ". */
static void points_after_no_digit(attn_buffer *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        attn_buffer_add(out, &s[i], 1);
        if (is_digit(s[i]) || i + 1 == n || !is_point(s[i + 1])) continue;
        char spaced[3] = {' ', s[++i], ' '};
        attn_buffer_add(out, spaced, 3);
    }
}

/* ([.,])([^0-9]) becomes " \1 \2". */
static void points_before_no_digit(attn_buffer *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!is_point(s[i]) || i + 1 == n || is_digit(s[i + 1])) {
            attn_buffer_add(out, &s[i], 1);
            continue;
        }
        char spaced[4] = {' ', s[i], ' ', s[i + 1]};
        attn_buffer_add(out, spaced, 4);
        i++;
    }
}

/* ([0-9])(-) becomes "\1 \2 ". */
static void dashes_after_digit(attn_buffer *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        attn_buffer_add(out, &s[i], 1);
        if (!is_digit(s[i]) || i + 1 == n || s[i + 1] != '-') continue;
        attn_buffer_text(out, " - ");
        i++;
    }
}

static void run_passes(attn_buffer *out, attn_buffer *spare, line_pass *const *pass, size_t n) {
    for (size_t i = 0; i < n; i++) {
        attn_buffer input = *out;
        *out = *spare;
        out->bytes = 0;
        *spare = input;
        if (input.bytes) pass[i](out, input.data, input.bytes);
        else if (pass[i] == pad) attn_buffer_text(out, "  ");
        if (input.status) out->status = input.status;
    }
}

/* Behind the last character that is no white space. */
static size_t stripped(const char *text, size_t bytes) {
    const char *at = text, *limit = text + bytes, *first, *end;
    size_t kept = 0;
    while (attn_word_next(&at, limit, &first, &end)) kept = (size_t)(end - text);
    return kept;
}

/* The 13a tokens of a line, white space between them, in out (emptied first). spare is scratch. */
static void tokens_13a(attn_buffer *out, attn_buffer *spare, const char *line, bool lowercase) {
    static line_pass *const entities[] = {quotes, ampersands, less_signs, greater_signs};
    static line_pass *const clean[] = {drop_skipped, join_hyphenated, line_ends};
    static line_pass *const cut[] = {pad, separate_punctuation, points_after_no_digit, points_before_no_digit,
                                     dashes_after_digit};
    size_t bytes = strlen(line);
    out->bytes = 0;
    if (lowercase) attn_lower_add(out, line, bytes);
    else attn_buffer_add(out, line, bytes);
    if (out->bytes) out->bytes = stripped(out->data, out->bytes);
    run_passes(out, spare, clean, ATTN_COUNT(clean));
    if (out->bytes && memchr(out->data, '&', out->bytes)) run_passes(out, spare, entities, ATTN_COUNT(entities));
    run_passes(out, spare, cut, ATTN_COUNT(cut));
}

/* ---- counting ------------------------------------------------------------------------------- */

typedef struct word_slot {
    const char *text;
    size_t bytes;
    uint32_t id; /* 0: free */
} word_slot;

/* Words of one pair of sentences as numbers. */
typedef struct sentence_words {
    attn_context *ctx;
    attn_buffer line[2], spare;
    uint32_t *symbol[2];
    size_t count[2], capacity[2];
    word_slot *slot;
    size_t slots;
} sentence_words;

static attn_status number_words(sentence_words *words, int side, size_t slots, uint32_t *ids) {
    const attn_buffer *line = &words->line[side];
    const char *at = line->data, *limit = line->data + line->bytes, *first, *end;
    words->count[side] = 0;
    while (attn_word_next(&at, limit, &first, &end)) {
        size_t bytes = (size_t)(end - first), hash = (size_t)attn_hash_text(first, bytes) & (slots - 1);
        word_slot *slot = &words->slot[hash];
        while (slot->id && (slot->bytes != bytes || memcmp(slot->text, first, bytes) != 0)) {
            hash = (hash + 1) & (slots - 1);
            slot = &words->slot[hash];
        }
        if (!slot->id) *slot = (word_slot){first, bytes, ++*ids};
        size_t n = words->count[side];
        ATTN_TRY(attn_grow(words->ctx, &words->symbol[side], &words->capacity[side], n + 1, n, sizeof(uint32_t)));
        words->symbol[side][n] = slot->id;
        words->count[side]++;
    }
    return ATTN_OK;
}

static attn_status read_pair(sentence_words *words, const char *hypothesis, const char *reference, bool lowercase) {
    tokens_13a(&words->line[0], &words->spare, hypothesis, lowercase);
    tokens_13a(&words->line[1], &words->spare, reference, lowercase);
    ATTN_TRY(words->line[0].status);
    ATTN_TRY(words->line[1].status);
    /* A word has at least two bytes, its own and the space behind it. */
    size_t slots = 16;
    while (slots < words->line[0].bytes + words->line[1].bytes) slots *= 2;
    ATTN_TRY(attn_grow(words->ctx, &words->slot, &words->slots, slots, 0, sizeof *words->slot));
    memset(words->slot, 0, slots * sizeof *words->slot);
    uint32_t ids = 0;
    ATTN_TRY(number_words(words, 0, slots, &ids));
    return number_words(words, 1, slots, &ids);
}

static attn_status count_corpus(sentence_words *words, attn_ngram_work *work, attn_bleu *bleu,
                                const char *const *hypotheses, const char *const *references, size_t n,
                                bool lowercase) {
    for (size_t i = 0; i < n; i++) {
        attn_ngram_counts counts;
        ATTN_TRY(read_pair(words, hypotheses[i], references[i], lowercase));
        ATTN_TRY(attn_ngrams_match(work, &counts, words->symbol[0], words->count[0], words->symbol[1], words->count[1],
                                   ORDERS));
        bleu->hypothesis_tokens += words->count[0];
        bleu->reference_tokens += words->count[1];
        for (int k = 0; k < ORDERS; k++) {
            bleu->correct[k] += counts.match[k];
            bleu->total[k] += counts.hypothesis[k];
        }
    }
    return ATTN_OK;
}

/* The sums in the order of sacreBLEU, so that the last bits agree too. */
static void score_counts(attn_bleu *bleu) {
    double smooth = 1, log_sum = 0, h = (double)bleu->hypothesis_tokens, r = (double)bleu->reference_tokens;
    bleu->brevity_penalty = h >= r ? 1 : h > 0 ? exp(1 - r / h) : 0;
    if (!(bleu->correct[0] || bleu->correct[1] || bleu->correct[2] || bleu->correct[3])) return;
    for (int k = 0; k < ORDERS && bleu->total[k]; k++) {
        if (bleu->correct[k]) {
            bleu->precision[k] = 100 * (double)bleu->correct[k] / (double)bleu->total[k];
        } else {
            smooth *= 2;
            bleu->precision[k] = 100 / (smooth * (double)bleu->total[k]);
        }
    }
    for (int k = 0; k < ORDERS; k++) log_sum += bleu->precision[k] > 0 ? log(bleu->precision[k]) : -9999999999.0;
    bleu->score = bleu->brevity_penalty * exp(log_sum / ORDERS);
}

attn_status attn_bleu_score(attn_context *ctx, attn_bleu *bleu, const char *const *hypotheses,
                            const char *const *references, size_t n, bool lowercase) {
    ATTN_TRY(attn_measure_check(ctx, "BLEU", bleu, hypotheses, references, n));
    *bleu = (attn_bleu){0};
    sentence_words words = {
        .ctx = ctx, .line = {ATTN_BUFFER_INIT(ctx), ATTN_BUFFER_INIT(ctx)}, .spare = ATTN_BUFFER_INIT(ctx)};
    attn_ngram_work work = ATTN_NGRAM_WORK_INIT(ctx);
    attn_status status = count_corpus(&words, &work, bleu, hypotheses, references, n, lowercase);
    if (status == ATTN_OK) score_counts(bleu);
    attn_ngram_work_free(&work);
    attn_buffer_free(&words.line[0]);
    attn_buffer_free(&words.line[1]);
    attn_buffer_free(&words.spare);
    attn_release(ctx, words.symbol[0]);
    attn_release(ctx, words.symbol[1]);
    attn_release(ctx, words.slot);
    return status;
}
