/* transformer.c: the transformer against PyTorch; scripts/make_transformer_goldens.py. */
#include "support/golden_translator.h"

/* All heads of a layer at once are each of them. */
static void check_every_head(const attn_model *model, attn_context *ctx, attn_look look, const int32_t *x, size_t S,
                             const int32_t *y, size_t T) {
    float *all, *one;
    size_t layers, heads, rows, columns;
    attn_model_heads(model, look.kind, &layers, &heads);
    assert_true(layers > look.layer && heads > 1);
    look.head = ATTN_EVERY_HEAD;
    assert_ok(attn_look_at_pair(model, &all, &rows, &columns, &look, x, S, y, T));
    for (look.head = 1; look.head <= heads; look.head++) {
        assert_ok(attn_look_at_pair(model, &one, &rows, &columns, &look, x, S, y, T));
        assert_memory_equal(all + (look.head - 1) * rows * columns, one, rows * columns * sizeof *one);
        attn_text_free(ctx, one);
    }
    attn_look_vectors v;
    assert_ok(attn_look_at_pair_vectors(model, &v, look.kind, look.layer, x, S, y, T));
    assert_true(v.heads == heads && v.key_heads == heads && v.rows == rows && v.columns == columns);
    check_look_vectors(&v, all);
    attn_text_free(ctx, v.queries);
    attn_text_free(ctx, all);
}

/* What attn_look_at_pair sees is what the step-by-step decoder saw; rows are distributions, the decoder's causal. */
static void check_look(const char *name) {
    attn_context *ctx = test_context(2);
    attn_safetensors *expected;
    attn_model *model = golden_open(ctx, &expected, "transformer", name);
    const attn_tensor *source = get(expected, "source"), *target = get(expected, "target_out");
    const float *alignment = get(expected, "alignment")->data;
    const size_t S = source->shape[0], T = target->shape[0], B = source->shape[1];
    const bool learned = !strcmp(name, "learned"); /* the others: the mean of the second to last layer's heads */
    const size_t shift = !strcmp(name, "follows"); /* a head's rows are those of the steps that write */
    int32_t x[TEST_SOURCE_MAX], y[TEST_SOURCE_MAX];
    for (size_t i = 0; i < S; i++) x[i] = ((const int32_t *)source->data)[i * B];
    for (size_t i = 0; i < T; i++) y[i] = ((const int32_t *)target->data)[i * B];
    for (attn_look_kind kind = ATTN_LOOK_ENCODER; kind <= ATTN_LOOK_CROSS; kind++) {
        const size_t layer = kind != ATTN_LOOK_CROSS ? 0 : learned || !strcmp(name, "post") ? 1 : 0;
        const attn_look look = {kind, layer, learned ? 2 : 0};
        float *weights;
        size_t rows, columns;
        assert_ok(attn_look_at_pair(model, &weights, &rows, &columns, &look, x, S, y, T));
        assert_int_equal(rows, kind == ATTN_LOOK_ENCODER ? S : T);
        assert_int_equal(columns, kind == ATTN_LOOK_DECODER ? T : S);
        for (size_t i = 0; i < rows; i++) {
            float sum = 0;
            for (size_t j = 0; j < columns; j++) {
                const float w = weights[i * columns + j];
                sum += w;
                if (kind == ATTN_LOOK_CROSS && i >= shift)
                    assert_true(fabsf(w - alignment[(i - shift) * B * S + j]) < 2e-6f);
                if (kind == ATTN_LOOK_DECODER && j > i) assert_true(w == 0);
            }
            assert_true(fabsf(sum - 1) < 1e-5f);
        }
        check_every_head(model, ctx, look, x, S, y, T);
        attn_text_free(ctx, weights);
    }
    float *none;
    size_t n;
    assert_fails(ctx, attn_look_at_pair(model, &none, &n, &n, &(attn_look){ATTN_LOOK_CROSS, 3, 1}, x, S, y, T),
                 ATTN_E_ARGUMENT, "layer 4");
    const attn_look_kind other = (attn_look_kind)(ATTN_LOOK_CROSS + 1);
    assert_fails(ctx, attn_look_at_pair(model, &none, &n, &n, &(attn_look){other, 0, 1}, x, S, y, T), ATTN_E_ARGUMENT,
                 "0 layers");
    attn_safetensors_close(expected);
    attn_model_free(model);
    attn_context_free(ctx);
}

#define GOLDEN(name) \
    static void test_##name(void **state) { (void)state, check_folder("transformer", #name), check_look(#name); }
#define GOLDEN_LIST(X) X(pre) X(post) X(learned) X(follows) X(swiglu)
GOLDEN_LIST(GOLDEN)

int main(void) {
#define ROW(name) cmocka_unit_test(test_##name),
    const struct CMUnitTest tests[] = {GOLDEN_LIST(ROW)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
