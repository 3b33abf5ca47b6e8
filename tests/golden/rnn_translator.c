/* rnn_translator.c: the recurrent translators against PyTorch; scripts/make_translator_goldens.py. */
#include "support/golden_translator.h"

#define GOLDEN(name) \
    static void test_##name(void **state) { (void)state, check_folder("rnn_translator", #name); }
#define GOLDEN_LIST(X) \
    X(rnn) X(rnn_all) X(bahdanau) X(bahdanau_paper) X(bahdanau_deep) X(luong_dot) X(luong_general) X(luong_concat)
#define CONDITIONAL_LIST(X) X(conditional) X(conditional_all)
GOLDEN_LIST(GOLDEN)
CONDITIONAL_LIST(GOLDEN)

int main(void) {
#define ROW(name) cmocka_unit_test(test_##name),
    const struct CMUnitTest tests[] = {GOLDEN_LIST(ROW) CONDITIONAL_LIST(ROW)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
