/* Tensor views. */
#include "support/test.h"
#include "base/base.h"
#include <attn/tensor.h>

static attn_context *ctx;

static void test_dtypes(void **state) {
    (void)state;
    assert_int_equal(attn_dtype_size(ATTN_F32), 4);
    assert_int_equal(attn_dtype_size(ATTN_BF16), 2);
    assert_int_equal(attn_dtype_size(ATTN_F64), 8);
    assert_string_equal(attn_dtype_name(ATTN_BF16), "BF16");
    assert_int_equal(attn_dtype_size((attn_dtype)99), 0);
    assert_string_equal(attn_dtype_name((attn_dtype)99), "unknown");
}

static void test_views(void **state) {
    (void)state;
    float data[24];
    attn_tensor t = attn_tensor_f32(data, 3, (size_t)2, (size_t)3, (size_t)4);
    assert_int_equal(t.rank, 3);
    assert_int_equal(t.stride[0], 12);
    assert_int_equal(t.stride[1], 4);
    assert_int_equal(t.stride[2], 1);
    assert_int_equal(attn_tensor_count(&t), 24);
    assert_true(attn_tensor_is_contiguous(&t));

    attn_tensor swapped = attn_tensor_swap(&t, 0, 2);
    assert_int_equal(swapped.shape[0], 4);
    assert_int_equal(swapped.stride[0], 1);
    assert_int_equal(swapped.stride[2], 12);
    assert_false(attn_tensor_is_contiguous(&swapped));
    attn_tensor same = attn_tensor_swap(&t, 0, 7); /* no such dimension */
    assert_memory_equal(&same, &t, sizeof t);

    attn_tensor scalar = attn_tensor_of(data, ATTN_F32, 0, NULL);
    assert_int_equal(attn_tensor_count(&scalar), 1);
    assert_true(attn_tensor_is_contiguous(&scalar));
    const size_t empty_shape[2] = {0, SIZE_MAX};
    attn_tensor empty = attn_tensor_of(data, ATTN_F32, 2, empty_shape);
    assert_int_equal(attn_tensor_count(&empty), 0);
    assert_true(attn_tensor_is_contiguous(&empty));
    attn_tensor too_many = attn_tensor_of(data, ATTN_F32, ATTN_MAX_RANK + 1, empty_shape);
    assert_null(too_many.data);
}

static void test_large(void **state) {
    (void)state;
    const size_t shape[2] = {(size_t)1 << 20, (size_t)1 << 14}; /* 2^34 elements */
    attn_tensor t = attn_tensor_of(NULL, ATTN_F32, 2, shape);
    assert_int_equal(attn_tensor_count(&t), (size_t)1 << 34);
    const size_t huge[3] = {SIZE_MAX, SIZE_MAX, SIZE_MAX};
    t = attn_tensor_of(NULL, ATTN_F32, 3, huge);
    assert_int_equal(attn_tensor_count(&t), SIZE_MAX);
}

static void test_reshape(void **state) {
    (void)state;
    float data[24];
    attn_tensor t = attn_tensor_f32(data, 2, (size_t)6, (size_t)4), out;
    const size_t shape[3] = {3, 2, 4}, wrong[2] = {5, 5}, huge[2] = {SIZE_MAX, SIZE_MAX};
    assert_ok(attn_tensor_reshape(ctx, &out, &t, 3, shape));
    assert_int_equal(out.stride[0], 8);
    assert_ptr_equal(out.data, data);
    assert_int_equal(attn_tensor_reshape(ctx, &out, &t, 2, wrong), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "reshape: the new shape has 25 elements, expected 24");
    assert_int_equal(attn_tensor_reshape(ctx, &out, &t, ATTN_MAX_RANK + 1, shape), ATTN_E_SHAPE);
    assert_int_equal(attn_tensor_reshape(ctx, &out, &t, -1, shape), ATTN_E_SHAPE);
    assert_int_equal(attn_tensor_reshape(ctx, &out, &t, 2, huge), ATTN_E_SHAPE);
    attn_tensor strided = attn_tensor_swap(&t, 0, 1);
    assert_int_equal(attn_tensor_reshape(ctx, &out, &strided, 3, shape), ATTN_E_SHAPE);
    /* a dimension of one element may have any stride */
    attn_tensor row = attn_tensor_f32(data, 2, (size_t)1, (size_t)24);
    row.stride[0] = 999;
    assert_true(attn_tensor_is_contiguous(&row));
    assert_ok(attn_tensor_reshape(ctx, &out, &row, 3, shape));
}

static void test_slice(void **state) {
    (void)state;
    float data[24];
    attn_tensor t = attn_tensor_f32(data, 2, (size_t)6, (size_t)4), out;
    assert_ok(attn_tensor_slice(ctx, &out, &t, 0, 2, 3));
    assert_ptr_equal(out.data, data + 8);
    assert_int_equal(out.shape[0], 3);
    assert_true(attn_tensor_is_contiguous(&out));
    assert_ok(attn_tensor_slice(ctx, &out, &t, 1, 1, 2));
    assert_ptr_equal(out.data, data + 1);
    assert_int_equal(out.stride[0], 4);
    assert_false(attn_tensor_is_contiguous(&out));
    assert_ok(attn_tensor_slice(ctx, &out, &t, 0, 6, 0));
    assert_int_equal(attn_tensor_count(&out), 0);
    assert_int_equal(attn_tensor_slice(ctx, &out, &t, 0, 4, 3), ATTN_E_SHAPE);
    assert_string_equal(attn_error(ctx), "slice: 3 elements from 4 in dimension 0, which has 6");
    assert_int_equal(attn_tensor_slice(ctx, &out, &t, 0, 7, 0), ATTN_E_SHAPE);
    assert_int_equal(attn_tensor_slice(ctx, &out, &t, 0, 1, SIZE_MAX), ATTN_E_SHAPE);
    assert_int_equal(attn_tensor_slice(ctx, &out, &t, 2, 0, 1), ATTN_E_SHAPE);
    assert_int_equal(attn_tensor_slice(ctx, &out, &t, -1, 0, 1), ATTN_E_SHAPE);
    t.dtype = ATTN_BF16;
    assert_ok(attn_tensor_slice(ctx, &out, &t, 0, 1, 1));
    assert_ptr_equal(out.data, (char *)data + 8);
}

static int make_context(void **state) {
    (void)state;
    return attn_context_create(&ctx, NULL);
}
static int free_context(void **state) {
    (void)state;
    attn_context_free(ctx);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtypes),  cmocka_unit_test(test_views), cmocka_unit_test(test_large),
        cmocka_unit_test(test_reshape), cmocka_unit_test(test_slice),
    };
    return cmocka_run_group_tests(tests, make_context, free_context);
}
