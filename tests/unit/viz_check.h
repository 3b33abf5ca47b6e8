/* viz_check.h: what the tests of the pictures share: an allocator that fails on demand, a checker of XML structure. */
#ifndef VIZ_CHECK_H
#define VIZ_CHECK_H

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <attn/text.h>
#include <attn/viz.h>
#include <utf8proc.h>

typedef struct counter {
    long live, until_failure; /* until_failure < 0: never */
} counter;

static inline void *counted_allocate(void *user, size_t bytes, size_t alignment) {
    counter *count = user;
    if (count->until_failure == 0) return NULL;
    if (count->until_failure > 0) count->until_failure--;
    void *block = NULL;
    size_t least = alignment < sizeof(void *) ? sizeof(void *) : alignment;
    if (posix_memalign(&block, least, bytes ? bytes : 1)) return NULL;
    count->live++;
    return block;
}

static inline void counted_release(void *user, void *pointer) {
    if (pointer) ((counter *)user)->live--;
    free(pointer);
}

static inline attn_context *counted_context(counter *count) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.allocator = (attn_allocator){count, counted_allocate, counted_release};
    options.threads = 1;
    attn_context *ctx = NULL;
    assert_int_equal(attn_context_create(&ctx, &options), ATTN_OK);
    return ctx;
}

/* Fails the n-th allocation of draw(ctx, &out) for n = 0, 1, … until it succeeds: the status must be ATTN_E_NOMEM,
 * nothing may be given and nothing may leak. */
static inline void check_failing_memory(attn_status (*draw)(attn_context *ctx, char **out)) {
    counter count = {0, -1};
    attn_context *ctx = counted_context(&count);
    long before = count.live;
    for (long n = 0;; n++) {
        char *out = (char *)&n;
        count.until_failure = n;
        attn_status status = draw(ctx, &out);
        count.until_failure = -1;
        if (status == ATTN_OK) {
            assert_non_null(out);
            attn_text_free(ctx, out);
            assert_int_equal(count.live, before);
            assert_true(n > 3);
            break;
        }
        assert_int_equal(status, ATTN_E_NOMEM);
        assert_null(out);
        assert_int_equal(count.live, before);
        assert_true(strlen(attn_error(ctx)) > 0);
    }
    attn_context_free(ctx);
    assert_int_equal(count.live, 0);
}

/* Valid UTF-8 without control characters (but line ends and, if `escapes`, ESC), bidi marks or line separators. */
static inline void check_harmless(const char *text, size_t bytes, bool escapes) {
    for (size_t at = 0; at < bytes;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &c);
        assert_true(used > 0);
        at += (size_t)used;
        if (c == '\n' || (escapes && c == 0x1b) || c == 0x200C || c == 0x200D) continue;
        utf8proc_category_t category = utf8proc_category(c);
        assert_true(category != UTF8PROC_CATEGORY_CC && category != UTF8PROC_CATEGORY_CF);
        assert_true(category != UTF8PROC_CATEGORY_ZL && category != UTF8PROC_CATEGORY_ZP);
        assert_true(category != UTF8PROC_CATEGORY_CN && category != UTF8PROC_CATEGORY_CO);
    }
}

static inline const char *check_entity(const char *at) {
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (!strncmp(at, known[i], strlen(known[i]))) return at + strlen(known[i]);
    fail_msg("an entity that we do not write: %.20s", at);
    return at;
}

static inline size_t xml_name(const char *at) {
    size_t length = 0;
    while (isalnum((unsigned char)at[length]) || at[length] == '-' || at[length] == ':') length++;
    assert_true(length > 0 && length < 31);
    return length;
}

/* Elements nest, attributes are quoted, text is escaped, and every element is one of ours. */
static inline size_t check_svg(const char *text, size_t bytes) {
    static const char ours[] = " svg title defs linearGradient stop pattern rect g text polyline circle image ";
    char open[16][32];
    size_t depth = 0, elements = 0;
    assert_int_equal(strlen(text), bytes);
    check_harmless(text, bytes, false);
    assert_memory_equal(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg ", 44);
    for (const char *at = text + 39; *at;) {
        if (*at == '&') {
            at = check_entity(at);
        } else if (*at != '<') {
            assert_true(*at != '>');
            assert_true(depth > 0 || *at == '\n');
            at++;
        } else if (at[1] == '/') {
            size_t length = xml_name(at + 2);
            assert_true(depth > 0);
            depth--;
            assert_true(strlen(open[depth]) == length && !strncmp(open[depth], at + 2, length));
            assert_int_equal(at[2 + length], '>');
            at += 3 + length;
        } else {
            size_t length = xml_name(at + 1);
            assert_true(depth < 16);
            char name[34] = " ";
            strncat(name, at + 1, length);
            strcpy(open[depth++], name + 1);
            strcat(name, " ");
            assert_non_null(strstr(ours, name));
            elements++;
            at += 1 + length;
            while (*at == ' ') {
                at += 1 + xml_name(at + 1);
                assert_memory_equal(at, "=\"", 2);
                for (at += 2; *at != '"';) {
                    assert_true(*at && *at != '<' && *at != '>');
                    at = *at == '&' ? check_entity(at) : at + 1;
                }
                at++;
            }
            if (*at == '/') depth--, at++;
            assert_int_equal(*at, '>');
            at++;
        }
    }
    assert_int_equal(depth, 0);
    return elements;
}

/* No line is wider than `width` cells; the only escapes are colours, and every line ends without one. */
static inline void check_terminal(const char *text, size_t bytes, size_t width, bool colours) {
    check_harmless(text, bytes, colours);
    size_t used = 0;
    bool coloured = false;
    for (size_t at = 0; at < bytes;) {
        if (text[at] == '\x1b') {
            size_t length = strspn(text + at + 2, "0123456789;");
            assert_true(text[at + 1] == '[' && text[at + 2 + length] == 'm');
            coloured = !(length == 1 && text[at + 2] == '0');
            at += 3 + length;
            continue;
        }
        utf8proc_int32_t c;
        at += (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &c);
        if (c == '\n') {
            assert_true(used <= width);
            assert_false(coloured);
            used = 0;
        } else {
            used += (size_t)utf8proc_charwidth(c);
        }
    }
    assert_int_equal(used, 0);
}

#endif
