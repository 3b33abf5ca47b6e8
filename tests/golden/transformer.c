/* transformer.c: the transformer against PyTorch; scripts/make_transformer_goldens.py. */
#include "support/golden_translator.h"

#define GOLDEN(name) \
    static void test_##name(void **state) { (void)state, check_folder("transformer", #name); }
#define GOLDEN_LIST(X) X(pre) X(post) X(learned)
GOLDEN_LIST(GOLDEN)

int main(void) {
#define ROW(name) cmocka_unit_test(test_##name),
    const struct CMUnitTest tests[] = {GOLDEN_LIST(ROW)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
