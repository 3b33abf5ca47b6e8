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

#define assert_ok(expression) assert_int_equal((expression), 0)

#endif
