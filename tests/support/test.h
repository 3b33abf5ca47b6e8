/* test.h: cmocka with what it wants included before it. */
#ifndef ATTN_TEST_SUPPORT_TEST_H
#define ATTN_TEST_SUPPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* How often a test with random moments or cases goes round: $ATTN_TEST_ROUNDS times as often as usual. */
static inline int test_rounds(int usual) {
    const char *times = getenv("ATTN_TEST_ROUNDS");
    long n = times ? strtol(times, NULL, 10) : 1;
    return usual * (int)(n < 1 ? 1 : n > 10000 ? 10000 : n);
}

#define assert_ok(expression) assert_int_equal((expression), 0)

#endif
