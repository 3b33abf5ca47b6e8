/* decoders.c: the decoders of tokenizer.json: texts of tokens to one text.
 *
 * Every decoder writes a new text out of the old one and says, as it goes past the end of a token in the old text,
 * where that is in the new one. So in the end each token knows its bytes. */
#include <jansson.h>
#include <string.h>

#include "text/pipeline.h"

static const char replacement[] = "\xEF\xBF\xBD";

/* Tokens that end at or before `upto` of the old text end where the new one ends now. */
static void passed(attn_decoding *out, const attn_decoding *in, size_t upto) {
    while (out->tokens < in->tokens && in->token_end[out->tokens] <= upto)
        out->token_end[out->tokens++] = out->text.bytes;
}

/* The end of a string of the new text; the old one was read up to `upto`. */
static void end_string(attn_decoding *out, const attn_decoding *in, size_t upto) {
    passed(out, in, upto);
    out->string_end[out->strings++] = out->text.bytes;
}

typedef struct string {
    const char *text;
    size_t first, end; /* in the old text */
} string;

static string string_at(const attn_decoding *in, size_t i) {
    return (string){in->text.data, i ? in->string_end[i - 1] : 0, in->string_end[i]};
}

/* Copies text[first, end) as it is, with the ends of tokens in it. */
static void copy(attn_decoding *out, const attn_decoding *in, size_t first, size_t end) {
    while (first < end) {
        size_t stop = out->tokens < in->tokens ? ATTN_MIN(end, in->token_end[out->tokens]) : end;
        if (stop > first) attn_buffer_add(&out->text, in->text.data + first, stop - first);
        first = ATTN_MAX(first, stop);
        passed(out, in, first);
    }
}

/* ---- strings, one by one -------------------------------------------------------------------- */

static attn_status decode_replace(attn_work *work, const attn_part *part, attn_decoding *out, const attn_decoding *in) {
    for (size_t i = 0; i < in->strings; i++) {
        string s = string_at(in, i);
        size_t done = s.first;
        attn_match match = {0};
        for (;;) {
            ATTN_TRY(attn_pattern_next(part->pattern, &work->matcher, &match, s.text + s.first, s.end - s.first));
            if (match.first == SIZE_MAX) break;
            copy(out, in, done, s.first + match.first);
            attn_buffer_add(&out->text, part->text, part->bytes);
            done = s.first + match.end;
            passed(out, in, done);
        }
        copy(out, in, done, s.end);
        end_string(out, in, s.end);
    }
    return out->text.status;
}

static attn_status decode_strip(attn_work *work, const attn_part *part, attn_decoding *out, const attn_decoding *in) {
    (void)work;
    size_t bytes = part->bytes;
    for (size_t i = 0; i < in->strings; i++) {
        string s = string_at(in, i);
        size_t first = s.first, end = s.end;
        for (size_t n = 0; n < part->start && end - first >= bytes && !memcmp(s.text + first, part->text, bytes); n++)
            first += bytes;
        for (size_t n = 0; n < part->stop && end - first >= bytes && !memcmp(s.text + end - bytes, part->text, bytes);
             n++)
            end -= bytes;
        passed(out, in, first);
        copy(out, in, first, end);
        end_string(out, in, s.end);
    }
    return out->text.status;
}

/* Adds the old string with `what` of it replaced; the first string's disappear. */
static attn_status decode_metaspace(attn_work *work, const attn_part *part, attn_decoding *out,
                                    const attn_decoding *in) {
    (void)work;
    for (size_t i = 0; i < in->strings; i++) {
        string s = string_at(in, i);
        size_t done = s.first;
        for (const char *hit; (hit = memmem(s.text + done, s.end - done, part->text, part->bytes)) != NULL;) {
            size_t at = (size_t)(hit - s.text);
            copy(out, in, done, at);
            if (i || part->prepend == ATTN_PREPEND_NEVER) attn_buffer_add(&out->text, " ", 1);
            done = at + part->bytes;
            passed(out, in, done);
        }
        copy(out, in, done, s.end);
        end_string(out, in, s.end);
    }
    return out->text.status;
}

/* The suffix of a word's last piece to a space, and away at the end of all. */
static attn_status decode_suffix(attn_work *work, const attn_part *part, attn_decoding *out, const attn_decoding *in) {
    (void)work;
    for (size_t i = 0; i < in->strings; i++) {
        string s = string_at(in, i);
        size_t done = s.first;
        for (const char *hit;
             part->bytes && (hit = memmem(s.text + done, s.end - done, part->text, part->bytes)) != NULL;) {
            size_t at = (size_t)(hit - s.text);
            copy(out, in, done, at);
            if (i + 1 < in->strings) attn_buffer_add(&out->text, " ", 1);
            done = at + part->bytes;
            passed(out, in, done);
        }
        copy(out, in, done, s.end);
        end_string(out, in, s.end);
    }
    return out->text.status;
}

/* English punctuation to the word before it, short forms joined. */
static void clean_up(attn_buffer *out, attn_buffer *spare, const char *text, size_t bytes) {
    static const char *const pairs[][2] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    attn_buffer now = *out;
    now.bytes = 0;
    attn_buffer_add(&now, text, bytes);
    for (size_t i = 0; i < ATTN_COUNT(pairs) && now.status == ATTN_OK; i++) {
        spare->bytes = 0;
        attn_pass_replace(spare, now.data, now.bytes, pairs[i][0], strlen(pairs[i][0]), pairs[i][1],
                          strlen(pairs[i][1]));
        attn_buffer done = *spare;
        *spare = now;
        now = done;
    }
    *out = now;
}

static attn_status decode_wordpiece(attn_work *work, const attn_part *part, attn_decoding *out,
                                    const attn_decoding *in) {
    attn_buffer word = ATTN_BUFFER_INIT(work->ctx), spare = ATTN_BUFFER_INIT(work->ctx);
    for (size_t i = 0; i < in->strings && out->text.status == ATTN_OK; i++) {
        string s = string_at(in, i);
        const char *text = s.text + s.first;
        size_t bytes = s.end - s.first;
        bool inside = i && bytes >= part->bytes && !memcmp(text, part->text, part->bytes);
        attn_buffer joined = ATTN_BUFFER_INIT(work->ctx);
        if (inside) text += part->bytes, bytes -= part->bytes;
        else if (i) attn_buffer_add(&joined, " ", 1);
        attn_buffer_add(&joined, text, bytes);
        if (part->cleanup && joined.status == ATTN_OK) clean_up(&word, &spare, joined.data, joined.bytes);
        const attn_buffer *made = part->cleanup ? &word : &joined;
        if (joined.status != ATTN_OK) out->text.status = joined.status;
        else if (made->status != ATTN_OK) out->text.status = made->status;
        else attn_buffer_add(&out->text, made->data, made->bytes);
        attn_buffer_free(&joined);
        end_string(out, in, s.end);
    }
    attn_buffer_free(&word);
    attn_buffer_free(&spare);
    return out->text.status;
}

/* ---- strings that become one ---------------------------------------------------------------- */

static attn_status decode_fuse(attn_work *work, const attn_part *part, attn_decoding *out, const attn_decoding *in) {
    (void)work, (void)part;
    copy(out, in, 0, in->text.bytes);
    end_string(out, in, in->text.bytes);
    return out->text.status;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10 : -1;
}

/* The byte of <0xC3>; −1: it is another string. */
static int byte_of(string s) {
    const char *at = s.text + s.first;
    if (s.end - s.first != 6 || memcmp(at, "<0x", 3) != 0 || at[5] != '>') return -1;
    return hex(at[3]) < 0 || hex(at[4]) < 0 ? -1 : hex(at[3]) << 4 | hex(at[4]);
}

/* Runs of bytes to the text that they spell; if they spell none, each is U+FFFD. */
static attn_status decode_byte_fallback(attn_work *work, const attn_part *part, attn_decoding *out,
                                        const attn_decoding *in) {
    attn_buffer run = ATTN_BUFFER_INIT(work->ctx);
    (void)part;
    for (size_t i = 0, end; i < in->strings && out->text.status == ATTN_OK; i = end) {
        run.bytes = 0;
        for (end = i; end < in->strings && byte_of(string_at(in, end)) >= 0; end++) {
            char byte = (char)byte_of(string_at(in, end));
            attn_buffer_add(&run, &byte, 1);
        }
        if (end == i) {
            string s = string_at(in, end++);
            copy(out, in, s.first, s.end);
            end_string(out, in, s.end);
            continue;
        }
        if (run.status != ATTN_OK) out->text.status = run.status;
        bool valid = run.status == ATTN_OK && attn_utf8_check(run.data, run.bytes) == SIZE_MAX;
        for (size_t k = i; k < end && out->text.status == ATTN_OK; k++) {
            if (valid) attn_buffer_add(&out->text, run.data + (k - i), 1);
            else attn_buffer_add(&out->text, replacement, 3);
            if (!valid || k + 1 == end) end_string(out, in, in->string_end[k]);
            else passed(out, in, in->string_end[k]);
        }
    }
    attn_buffer_free(&run);
    return out->text.status;
}

/* How many bytes are the beginning of a character that then breaks off: at least 1. */
static size_t broken_bytes(const unsigned char *at, size_t bytes) {
    size_t wanted = at[0] >= 0xC2 && at[0] <= 0xDF   ? 2
                    : (at[0] & 0xF0) == 0xE0         ? 3
                    : at[0] >= 0xF0 && at[0] <= 0xF4 ? 4
                                                     : 1;
    unsigned char low = at[0] == 0xE0 ? 0xA0 : at[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = at[0] == 0xED ? 0x9F : at[0] == 0xF4 ? 0x8F : 0xBF;
    if (wanted == 1 || bytes < 2 || at[1] < low || at[1] > high) return 1;
    size_t n = 2;
    while (n < wanted && n < bytes && (at[n] & 0xC0) == 0x80) n++;
    return n;
}

/* Bytes with the ends of tokens to valid text, one string. */
static void put_valid(attn_decoding *out, const attn_decoding *raw) {
    size_t at = 0;
    while (at < raw->text.bytes) {
        size_t next = at;
        if (attn_utf8_next(raw->text.data, raw->text.bytes, &next) >= 0) copy(out, raw, at, next);
        else {
            next = at + broken_bytes((const unsigned char *)raw->text.data + at, raw->text.bytes - at);
            attn_buffer_add(&out->text, replacement, 3);
        }
        at = next;
        passed(out, raw, at);
    }
    end_string(out, raw, raw->text.bytes);
}

static attn_status decode_byte_level(attn_work *work, const attn_part *part, attn_decoding *out,
                                     const attn_decoding *in) {
    attn_decoding raw;
    (void)part;
    ATTN_TRY(attn_decoding_new(work->ctx, &raw, in->tokens, in->strings));
    for (size_t i = 0; i < in->strings; i++) {
        string s = string_at(in, i);
        bool all = true;
        for (size_t at = s.first; at < s.end && all;)
            all = attn_character_byte(attn_utf8_next(s.text, s.end, &at)) >= 0;
        if (!all) copy(&raw, in, s.first, s.end);
        for (size_t at = s.first; at < s.end && all;) {
            char byte = (char)attn_character_byte(attn_utf8_next(s.text, s.end, &at));
            attn_buffer_add(&raw.text, &byte, 1);
            passed(&raw, in, at);
        }
        end_string(&raw, in, s.end);
    }
    if (raw.text.status == ATTN_OK) put_valid(out, &raw);
    else out->text.status = raw.text.status;
    attn_decoding_free(work->ctx, &raw);
    return out->text.status;
}

/* ---- settings ------------------------------------------------------------------------------- */

static attn_status replace_parse(attn_context *ctx, attn_part *part, json_t *json) {
    ATTN_TRY(attn_part_pattern(ctx, part, json));
    return attn_part_text(ctx, part, json, "content", NULL);
}

static attn_status strip_parse(attn_context *ctx, attn_part *part, json_t *json) {
    json_t *start = json_object_get(json, "start"), *stop = json_object_get(json, "stop");
    ATTN_TRY(attn_part_text(ctx, part, json, "content", NULL));
    if (!part->bytes || !json_is_integer(start) || !json_is_integer(stop) || json_integer_value(start) < 0 ||
        json_integer_value(stop) < 0)
        return attn_fail(ctx, ATTN_E_FORMAT, "expected content, and start and stop of 0 or more");
    part->start = (size_t)json_integer_value(start), part->stop = (size_t)json_integer_value(stop);
    return ATTN_OK;
}

static attn_status wordpiece_parse(attn_context *ctx, attn_part *part, json_t *json) {
    ATTN_TRY(attn_part_bool(ctx, &part->cleanup, json, "cleanup", true));
    return attn_part_text(ctx, part, json, "prefix", "##");
}

static attn_status suffix_parse(attn_context *ctx, attn_part *part, json_t *json) {
    return attn_part_text(ctx, part, json, "suffix", "</w>");
}

static const attn_part_type types[] = {
    {"ByteLevel", NULL, NULL, NULL, decode_byte_level},
    {"ByteFallback", NULL, NULL, NULL, decode_byte_fallback},
    {"Fuse", NULL, NULL, NULL, decode_fuse},
    {"WordPiece", wordpiece_parse, NULL, NULL, decode_wordpiece},
    {"Metaspace", attn_metaspace_parse, NULL, NULL, decode_metaspace},
    {"Replace", replace_parse, NULL, NULL, decode_replace},
    {"Strip", strip_parse, NULL, NULL, decode_strip},
    {"BPEDecoder", suffix_parse, NULL, NULL, decode_suffix},
};

const attn_part_kind attn_decoder_kind = {"decoder", "decoders", types, ATTN_COUNT(types)};
