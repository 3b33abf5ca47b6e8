/* Where texts are cut: sentences, long ones into clauses; nothing is lost. */
#include "support/allocator.h"
#include "text/normalise.h"
#include "text/sentences.h"

#include <stdio.h>
#include <string.h>

/* The pieces joined by | are `expected`. */
static void check(attn_context *ctx, const char *text, size_t max_words, const char *expected) {
    attn_piece *piece;
    size_t n, at = 0;
    char joined[1024] = "";
    assert_ok(attn_text_split(ctx, &piece, &n, text, strlen(text), max_words));
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(joined + at, sizeof joined - at, "%s%.*s", i ? "|" : "",
                               (int)(piece[i].end - piece[i].first), text + piece[i].first);
    assert_string_equal(joined, expected);
    attn_release(ctx, piece);
}

static void test_sentences(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    static const char *const cases[][2] = {
        {"", ""},
        {"  \t ", ""},
        {"Hallo", "Hallo"},
        {"Ich gehe. Du bleibst!  Warum? Darum…", "Ich gehe.|Du bleibst!|Warum?|Darum…"},
        {"Er sagte: \"Geh!\" Dann ging er.", "Er sagte: \"Geh!\"|Dann ging er."},
        {"„Geh!“ Sie ging.", "„Geh!“|Sie ging."},
        {"Was?! Wirklich?", "Was?!|Wirklich?"},
        {"Am 3. Mai kam Dr. Huber zu J. S. Bach.", "Am 3. Mai kam Dr. Huber zu J. S. Bach."},
        {"Das ist z. B. gut. 1999 war es so.", "Das ist z. B. gut.|1999 war es so."},
        {"Es kostet 3.50 Euro. Billig!", "Es kostet 3.50 Euro.|Billig!"},
        {"Geh nach www.example.org. Dort ist es.", "Geh nach www.example.org.|Dort ist es."},
        {"und so weiter ... und so fort", "und so weiter ... und so fort"},
        {"Übermut. Ärger? Öl!", "Übermut.|Ärger?|Öl!"},
        {" Er kam.\nSie ging. ", "Er kam.|Sie ging."},
        {"Je pars. « Restez ! » Il est parti. À demain.", "Je pars.|« Restez ! »|Il est parti.|À demain."},
    };
    for (size_t i = 0; i < ATTN_COUNT(cases); i++) check(ctx, cases[i][0], 100, cases[i][1]);
    attn_context_free(ctx);
}

static void test_clauses(void **state) {
    (void)state;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    check(ctx, "a b c, d e f", 6, "a b c, d e f");
    check(ctx, "a b c, d e f", 5, "a b c,|d e f");
    check(ctx, "a b c, d; e f", 5, "a b c, d;|e f");
    check(ctx, "a b c d e f g", 3, "a b c|d e f|g");
    check(ctx, "a, b c d e f", 4, "a, b c d|e f"); /* a comma in the first half leaves too little */
    check(ctx, "a b c – d e f", 4, "a b c –|d e f");
    check(ctx, "a b", 0, "a|b");
    check(ctx, "eins, zwei. Drei vier fünf sechs", 2, "eins, zwei.|Drei vier|fünf sechs");
    attn_context_free(ctx);
}

/* Whatever the bytes: pieces in order, no byte that is no white space outside of them. */
static void test_any_bytes(void **state) {
    (void)state;
    attn_context *ctx;
    unsigned seed = 1;
    assert_ok(attn_context_create(&ctx, NULL));
    for (int round = 0; round < 2000; round++) {
        static const char alphabet[] = ". ! ?,;:aBc 1\xC3\xA4\xE2\x80\xA6\t\n\"";
        char text[60];
        size_t bytes = 0, n, at = 0;
        attn_piece *piece;
        for (; bytes < sizeof text; bytes++) {
            seed = seed * 1664525u + 1013904223u;
            text[bytes] = alphabet[(seed >> 16) % (sizeof alphabet - 1)];
        }
        assert_ok(attn_text_split(ctx, &piece, &n, text, bytes, 1 + (seed >> 8) % 5));
        for (size_t i = 0; i <= n; i++) {
            const size_t until = i < n ? piece[i].first : bytes;
            const char *between = text + at;
            size_t left = until - at;
            attn_strip(&between, &left, true, true);
            assert_int_equal(left, 0);
            if (i == n) break;
            assert_true(piece[i].first < piece[i].end && piece[i].end <= bytes);
            at = piece[i].end;
        }
        attn_release(ctx, piece);
    }
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sentences), cmocka_unit_test(test_clauses),
                                       cmocka_unit_test(test_any_bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
