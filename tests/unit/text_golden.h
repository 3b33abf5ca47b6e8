/* text_golden.h: a test of text whose truth is a JSON file of tests/golden (.xz too): context and file around each
 * case. */
#ifndef TEST_TEXT_GOLDEN_H
#define TEST_TEXT_GOLDEN_H

#include "unit/text_support.h"

#include <jansson.h>

static memory m;
static attn_context *ctx;
static json_t *golden;

static inline int open_golden(const char *path) {
    char *text;
    size_t bytes;
    json_error_t error;
    ctx = memory_context(&m);
    CHECK_OK(ctx, attn_read_text(ctx, &text, &bytes, source_path(path)));
    golden = json_loadb(text, bytes, JSON_ALLOW_NUL, &error);
    attn_text_free(ctx, text);
    if (!golden) fail_msg("%s: line %d: %s", path, error.line, error.text);
    return 0;
}

static inline int tear_down(void **state) {
    (void)state;
    json_decref(golden);
    attn_context_free(ctx);
    assert_int_equal(m.live, 0);
    return 0;
}

#endif
