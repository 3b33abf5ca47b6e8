/* check.h: a gradient against finite differences of the same forward pass.
 *
 * A case builds a variable y of named inputs and parameters. The loss is the cross entropy of y times a fixed random
 * matrix, so that every direction of y's gradient is seen. With f the loss, summed in double,
 *
 *     f'(x) ≈ [8 (f(x+h) − f(x−h)) − (f(x+2h) − f(x−2h))] / 12h,        error h⁴ f⁽⁵⁾ / 30
 *
 * At h = 1/32 that is 3e-8 f⁽⁵⁾, and f32 rounding of f's parts (some dozens of terms near 1, each wrong by 6e-8 or
 * less) gives about 1e-7 · 18 / 12h = 5e-6. CHECK_TOLERANCE leaves a factor of 40 to 100 for sums and for larger f⁽⁵⁾;
 * a wrong or missing term is of the gradient's own size, 0.01 to 1.
 *
 * Each case is also run on a tape that does not record (same bits), and with 1, 2 and 3 threads (same bits). */
#ifndef ATTN_TEST_GRAD_CHECK_H
#define ATTN_TEST_GRAD_CHECK_H

#include "support/test.h"

#include "base/base.h"
#include <attn/nn.h>

#define CHECK_TOLERANCE 4e-4

enum { CHECK_INPUTS = 4, CHECK_ELEMENTS = 512 };

typedef struct check {
    attn_context *ctx;
    attn_parameters *set;
    attn_tensor input[CHECK_INPUTS];
    float data[CHECK_INPUTS][CHECK_ELEMENTS];
    size_t inputs;
    bool random_forward; /* dropout: finite differences need a recording tape too */
    size_t head;         /* columns of y */
} check;

/* Declares inputs (check_input) and parameters (check_parameter) of a case. */
typedef void check_prepare(check *c);
/* Builds y from inputs and parameters. */
typedef attn_var *check_build(check *c, attn_tape *tape, attn_var *const *inputs);

/* Values in ±(0.2 … 1), so that no kink of relu or maxout is near. */
void check_input(check *c, int rank, const size_t *shape);
attn_parameter *check_parameter(check *c, const char *name, int rank, const size_t *shape);
attn_parameter *check_find(check *c, const char *name);

void check_gradients(check_prepare *prepare, check_build *build, bool random_forward);

/* For a list of cases X(prepare, build, random_forward): the test functions, and their rows of the table. */
#define CHECK_FUNCTION(prepare, build, random_forward)                     \
    static void test_##build(void **state) {                               \
        (void)state;                                                       \
        check_gradients(prepare_##prepare, build_##build, random_forward); \
    }
#define CHECK_ROW(prepare, build, random_forward) cmocka_unit_test(test_##build),

#define SHAPE(...) ((const size_t[]){__VA_ARGS__})

#endif
