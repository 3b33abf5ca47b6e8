/* pattern.c: a pattern's own syntax in PCRE2's words, then PCRE2.
 *
 * Where the two differ, the translation writes out what is meant: \s is Unicode's White_Space (PCRE2's has U+180E and
 * lacks U+0085), \w the word characters of Unicode's Technical Standard 18, \h a hexadecimal digit. A quantifier {n,m}
 * with a + behind is refused, since one reads it as possessive and the other does not. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pattern.h"

#include <pcre2.h>
#include <string.h>

#include "text/normalise.h"

#define SPACE \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define NO_SPACE                                                                                    \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/* Alphabetic is L, Nl, marks, and letters in circles and squares; Oniguruma has Latin-1's superscripts and fractions,
 * too. */
#define WORD                                                                                                        \
    "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}" \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-"                                                                              \
    "\\x{1f189}"
#define HEX "0-9a-fA-F"

struct attn_pattern {
    attn_context *ctx;
    char *text;     /* the literal, or the pattern as it was written */
    size_t literal; /* its bytes; 0: a regular expression */
    pcre2_general_context *general;
    pcre2_code *code;
};

/* ---- translation ---------------------------------------------------------------------------- */

typedef struct reader {
    attn_buffer *out;
    const char *at, *end;
} reader;

static attn_status refused(reader *r, const char *what) {
    return attn_fail(r->out->ctx, ATTN_E_UNSUPPORTED, "found %s", what);
}

static void put(reader *r, const char *text) { attn_buffer_text(r->out, text); }

/* Copies n bytes and goes past them. */
static void pass(reader *r, size_t n) {
    n = ATTN_MIN(n, (size_t)(r->end - r->at));
    attn_buffer_add(r->out, r->at, n);
    r->at += n;
}

static bool looks_at(const reader *r, const char *text) {
    size_t n = strlen(text);
    return (size_t)(r->end - r->at) >= n && memcmp(r->at, text, n) == 0;
}

/* What is written otherwise, outside of a class and inside. NULL: refused there. */
static const struct {
    char letter;
    const char *outside, *inside;
} escapes[] = {
    {'s', "[" SPACE "]", SPACE},
    {'S', "[^" SPACE "]", NO_SPACE},
    {'w', "[" WORD "]", WORD},
    {'W', "[^" WORD "]", NULL},
    {'h', "[" HEX "]", HEX},
    {'H', "[^" HEX "]", NULL},
    {'v', "\\x{b}", "\\x{b}"},
    {'b', "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))", "\\x{8}"},
    {'B', "(?:(?<=[" WORD "])(?=[" WORD "])|(?<![" WORD "])(?![" WORD "]))", NULL},
};

static bool is_hex(char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'); }

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* At a backslash. */
static attn_status escape(reader *r, bool inside) {
    char what[] = "the escape \\?";
    if (r->end - r->at < 2) return refused(r, "a backslash at the end");
    char c = r->at[1];
    for (size_t i = 0; i < ATTN_COUNT(escapes); i++) {
        if (escapes[i].letter != c) continue;
        const char *text = inside ? escapes[i].inside : escapes[i].outside;
        what[sizeof what - 2] = c;
        if (!text) return refused(r, what);
        put(r, text);
        r->at += 2;
        return ATTN_OK;
    }
    if (c == 'u' && r->end - r->at >= 6 && is_hex(r->at[2]) && is_hex(r->at[3]) && is_hex(r->at[4]) &&
        is_hex(r->at[5])) {
        attn_buffer_printf(r->out, "\\x{%.4s}", r->at + 2);
        r->at += 6;
        return ATTN_OK;
    }
    bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    if (letter && !strchr(inside ? "dDnrtfaexpP" : "dDnrtfaexpPAzZRX", c)) {
        what[sizeof what - 2] = c;
        return refused(r, what);
    }
    pass(r, 2);
    const char *close = strchr("pPx", c) && looks_at(r, "{") ? memchr(r->at, '}', (size_t)(r->end - r->at)) : NULL;
    if (close) pass(r, (size_t)(close + 1 - r->at));
    return ATTN_OK;
}

/* At the opening bracket of a class. */
static attn_status class(reader *r) {
    pass(r, 1);
    if (looks_at(r, "^")) pass(r, 1);
    if (looks_at(r, "]")) return refused(r, "a class that is empty or begins with ]");
    while (r->at < r->end) {
        if (*r->at == ']') {
            pass(r, 1);
            return ATTN_OK;
        }
        if (looks_at(r, "&&")) return refused(r, "an intersection && of classes");
        if (*r->at == '\\') ATTN_TRY(escape(r, true));
        else if (looks_at(r, "[:")) {
            const char *close = memmem(r->at, (size_t)(r->end - r->at), ":]", 2);
            if (!close) return refused(r, "[: without :]");
            pass(r, (size_t)(close + 2 - r->at));
        } else if (*r->at == '[') return refused(r, "a class within a class");
        else pass(r, 1);
    }
    return refused(r, "a class without its ]");
}

/* At an opening parenthesis. Ruby's (?m) lets the dot match line ends, which is (?s) here. */
static attn_status group(reader *r) {
    if (looks_at(r, "(*")) return refused(r, "(*");
    pass(r, 1);
    if (!looks_at(r, "?")) return ATTN_OK;
    pass(r, 1);
    if (r->at == r->end) return refused(r, "(? at the end");
    if (strchr(":=!>#<", *r->at)) {
        if (*r->at == '#') {
            const char *close = memchr(r->at, ')', (size_t)(r->end - r->at));
            pass(r, close ? (size_t)(close - r->at) : (size_t)(r->end - r->at));
        } else pass(r, 1);
        return ATTN_OK;
    }
    while (r->at < r->end && strchr("imx-", *r->at)) {
        put(r, *r->at == 'm' ? "s" : (char[]){*r->at, '\0'});
        r->at++;
    }
    if (!looks_at(r, ":") && !looks_at(r, ")")) return refused(r, "a kind of group (?…) that is not known");
    return ATTN_OK;
}

/* At an opening brace: a quantifier, or the brace itself. */
static attn_status brace(reader *r) {
    const char *at = r->at + 1;
    bool comma = false;
    while (at < r->end && (is_digit(*at) || (*at == ',' && !comma))) comma |= *at++ == ',';
    if (at == r->end || *at != '}' || at == r->at + 1 || (at == r->at + 2 && comma)) {
        put(r, "\\");
        pass(r, 1);
        return ATTN_OK;
    }
    if (at + 1 < r->end && at[1] == '+') return refused(r, "a quantifier {n,m}+");
    pass(r, 1);
    if (looks_at(r, ",")) put(r, "0");
    pass(r, (size_t)(at + 1 - r->at));
    return ATTN_OK;
}

static attn_status translate(reader *r) {
    while (r->at < r->end) switch (*r->at) {
        case '\\': ATTN_TRY(escape(r, false)); break;
        case '[': ATTN_TRY(class(r)); break;
        case '(': ATTN_TRY(group(r)); break;
        case '{': ATTN_TRY(brace(r)); break;
        default: pass(r, 1);
        }
    return r->out->status;
}

/* ---- PCRE2 ---------------------------------------------------------------------------------- */

static void *allocate(PCRE2_SIZE bytes, void *ctx) { return attn_alloc(ctx, bytes, 1); }
static void release(void *pointer, void *ctx) { attn_release(ctx, pointer); }

static attn_status compile(attn_pattern *p, const char *text, size_t bytes, bool ruby) {
    int error = 0;
    PCRE2_SIZE at = 0;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
    p->general = pcre2_general_context_create(allocate, release, p->ctx);
    pcre2_compile_context *settings = p->general ? pcre2_compile_context_create(p->general) : NULL;
    if (!settings) return attn_fail(p->ctx, ATTN_E_NOMEM, "out of memory: a pattern");
    pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
    if (ruby) options |= PCRE2_MULTILINE;
    p->code = pcre2_compile((PCRE2_SPTR)text, bytes, options, &error, &at, settings);
    pcre2_compile_context_free(settings);
    if (p->code) {
        pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* where it cannot, the pattern is interpreted */
        return ATTN_OK;
    }
    if (error == PCRE2_ERROR_HEAP_FAILED) return attn_fail(p->ctx, ATTN_E_NOMEM, "out of memory: a pattern");
    char why[128] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)why, sizeof why);
    return attn_fail(p->ctx, ATTN_E_FORMAT, "%s", why);
}

attn_status attn_pattern_new(attn_pattern **gives, attn_context *ctx, const char *text, size_t bytes,
                             attn_pattern_syntax syntax) {
    attn_pattern *p = *gives = NULL;
    if (!bytes) return attn_fail(ctx, ATTN_E_FORMAT, "found an empty pattern");
    p = attn_alloc_zero(ctx, 1, sizeof *p);
    if (!p) return ATTN_E_NOMEM;
    p->ctx = ctx;
    p->text = attn_copy_text(ctx, text, bytes);
    attn_status status = p->text ? ATTN_OK : ATTN_E_NOMEM;
    if (syntax == ATTN_PATTERN_LITERAL) p->literal = bytes;
    else if (status == ATTN_OK) {
        attn_buffer out = ATTN_BUFFER_INIT(ctx);
        reader r = {&out, text, text + bytes};
        if (syntax == ATTN_PATTERN_ONIGURUMA) status = translate(&r);
        else attn_buffer_add(&out, text, bytes);
        if (status == ATTN_OK) status = out.status;
        if (status == ATTN_OK) status = compile(p, out.data, out.bytes, syntax == ATTN_PATTERN_ONIGURUMA);
        attn_buffer_free(&out);
        if (status != ATTN_OK && status != ATTN_E_NOMEM)
            status = attn_fail(ctx, status, "pattern \"%.200s\": %s", p->text, attn_error(ctx));
    }
    if (status == ATTN_OK) *gives = p;
    else attn_pattern_free(p);
    return status;
}

void attn_pattern_free(attn_pattern *p) {
    if (!p) return;
    pcre2_code_free(p->code);
    pcre2_general_context_free(p->general);
    attn_release(p->ctx, p->text);
    attn_release(p->ctx, p);
}

static attn_status prepare(attn_matcher *m) {
    enum { HEAP_KIB = 256 << 10 };
    if (m->data) return ATTN_OK;
    if (!m->general) m->general = pcre2_general_context_create(allocate, release, m->ctx);
    if (m->general && !m->match) m->match = pcre2_match_context_create(m->general);
    if (m->match) m->data = pcre2_match_data_create(1, m->general);
    if (!m->data) return attn_fail(m->ctx, ATTN_E_NOMEM, "out of memory: matching a pattern");
    pcre2_set_heap_limit(m->match, HEAP_KIB);
    return ATTN_OK;
}

void attn_matcher_free(attn_matcher *m) {
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->match);
    pcre2_general_context_free(m->general);
    *m = (attn_matcher)ATTN_MATCHER_INIT(m->ctx);
}

static attn_status match_at(const attn_pattern *p, attn_matcher *m, attn_match *match, const char *text, size_t bytes,
                            size_t from) {
    if (p->literal) {
        const char *hit = memmem(text + from, bytes - from, p->text, p->literal);
        size_t at = hit ? (size_t)(hit - text) : SIZE_MAX;
        *match = (attn_match){at, hit ? at + p->literal : SIZE_MAX, 0};
        return ATTN_OK;
    }
    ATTN_TRY(prepare(m));
    int found = pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, m->data, m->match);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT)
        found =
            pcre2_match(p->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->match);
    *match = (attn_match){SIZE_MAX, SIZE_MAX, from};
    if (found == PCRE2_ERROR_NOMATCH) return ATTN_OK;
    if (found < 0) {
        char why[128] = "";
        pcre2_get_error_message(found, (PCRE2_UCHAR *)why, sizeof why);
        return attn_fail(p->ctx, found == PCRE2_ERROR_NOMEMORY ? ATTN_E_NOMEM : ATTN_E_UNSUPPORTED,
                         "pattern \"%.200s\" on %zu bytes of text: %s", p->text, bytes, why);
    }
    const PCRE2_SIZE *place = pcre2_get_ovector_pointer(m->data);
    *match = (attn_match){place[0], ATTN_MAX(place[0], place[1]), 0};
    return ATTN_OK;
}

attn_status attn_pattern_next(const attn_pattern *p, attn_matcher *m, attn_match *match, const char *text,
                              size_t bytes) {
    size_t from = match->next, last = from ? match->end : SIZE_MAX;
    do {
        *match = (attn_match){SIZE_MAX, SIZE_MAX, from};
        if (from > bytes) return ATTN_OK;
        ATTN_TRY(match_at(p, m, match, text, bytes, from));
        if (match->first == SIZE_MAX) return ATTN_OK;
        from = match->end;
        if (match->end == match->first) {
            if (from < bytes) attn_utf8_next(text, bytes, &from);
            else from++;
        }
        match->next = from;
    } while (match->end == match->first && match->first == last);
    return ATTN_OK;
}
