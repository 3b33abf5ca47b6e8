/* augment.c: spellings that people type and careful corpora lack. */
#include <attn/text.h>
#include <string.h>
#include <utf8proc.h>

#include "base/base.h"
#include "text/normalise.h"

/* Full stops, question and exclamation marks, colons, semicolons, commas and dots at the end, and white space around
 * them. A text of nothing else stays. */
static void drop_final_punctuation(char *text) {
    static const char *const ends[] = {".", "!", "?", ":", ";", ",", "\xE2\x80\xA6"};
    const char *start = text;
    size_t bytes = strlen(text), kept;
    do {
        attn_strip(&start, &bytes, false, true);
        kept = bytes;
        for (size_t i = 0; i < ATTN_COUNT(ends); i++) {
            size_t n = strlen(ends[i]);
            if (bytes >= n && memcmp(text + bytes - n, ends[i], n) == 0) bytes -= n;
        }
    } while (bytes < kept);
    if (bytes) text[bytes] = '\0';
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Commas inside numbers stay. */
static void drop_commas(char *text) {
    char *to = text, before = '\0';
    for (char *from = text; *from; before = *from++)
        if (*from != ',' || (is_digit(before) && is_digit(from[1]))) *to++ = *from;
    *to = '\0';
}

/* ä → ae, Ä → Ae, or AE where the next letter is a capital too. */
static attn_status fold_umlauts(attn_context *ctx, char **text) {
    static const struct {
        int32_t c;
        const char *folded, *capitals;
    } table[] = {
        {0xE4, "ae", "ae"}, {0xF6, "oe", "oe"}, {0xFC, "ue", "ue"}, {0xDF, "ss", "ss"},
        {0xC4, "Ae", "AE"}, {0xD6, "Oe", "OE"}, {0xDC, "Ue", "UE"}, {0x1E9E, "SS", "SS"},
    };
    attn_buffer out = ATTN_BUFFER_INIT(ctx);
    size_t bytes = strlen(*text);
    for (size_t at = 0; at < bytes;) {
        size_t first = at, peek;
        int32_t c = attn_utf8_next(*text, bytes, &at);
        const char *folded = NULL;
        for (size_t i = 0; i < ATTN_COUNT(table) && !folded; i++) {
            if (c != table[i].c) continue;
            peek = at;
            bool capital = at < bytes && utf8proc_category(attn_utf8_next(*text, bytes, &peek)) == UTF8PROC_CATEGORY_LU;
            folded = capital ? table[i].capitals : table[i].folded;
        }
        if (folded) attn_buffer_text(&out, folded);
        else attn_buffer_add(&out, *text + first, at - first);
    }
    char *given;
    ATTN_TRY(attn_buffer_give(&out, &given, NULL));
    attn_release(ctx, *text);
    *text = given;
    return ATTN_OK;
}

static attn_status lowercase(attn_context *ctx, char **text) {
    char *given;
    ATTN_TRY(attn_text_lowercase(ctx, &given, NULL, *text, strlen(*text)));
    attn_release(ctx, *text);
    *text = given;
    return ATTN_OK;
}

/* Every draw is made, whatever the probabilities: changing one leaves the others' outcomes. */
static attn_status augment(attn_context *ctx, char **source, char **target, const attn_augment_options *o,
                           attn_random random) {
    bool lower = attn_random_uniform(&random) < (double)o->lowercase_source;
    bool final = attn_random_uniform(&random) < (double)o->drop_final_punctuation;
    bool commas = attn_random_uniform(&random) < (double)o->drop_source_commas;
    bool umlauts = attn_random_uniform(&random) < (double)o->fold_umlauts;
    if (final) {
        drop_final_punctuation(*source);
        drop_final_punctuation(*target);
    }
    if (commas) drop_commas(*source);
    if (lower) ATTN_TRY(lowercase(ctx, source));
    return umlauts ? fold_umlauts(ctx, source) : ATTN_OK;
}

attn_status attn_augment_pair(attn_context *ctx, char **source, char **target, const attn_pair *pair,
                              const attn_augment_options *options, uint64_t seed, uint64_t index) {
    *source = *target = NULL;
    if (options->struct_size != sizeof *options)
        return attn_fail(ctx, ATTN_E_VERSION, "attn_augment_options: found struct_size %zu, expected %zu",
                         options->struct_size, sizeof *options);
    *source = attn_copy_text(ctx, pair->source, pair->source_bytes);
    *target = attn_copy_text(ctx, pair->target, pair->target_bytes);
    attn_status status = *source && *target ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK) status = augment(ctx, source, target, options, (attn_random){seed, index, 0});
    if (status == ATTN_OK) return ATTN_OK;
    attn_release(ctx, *source);
    attn_release(ctx, *target);
    *source = *target = NULL;
    return status;
}
