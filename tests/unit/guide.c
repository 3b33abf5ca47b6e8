/* Links of tokens from links of words: they join what belongs together, in joined texts too. */
#include "support/toy.h"
#include "train/batching.h"

/* One joined text of `pieces` pairs of the corpus. */
typedef struct side {
    char text[1024];
    size_t end[8], words[8]; /* bytes and white-space words up to and with each piece */
    attn_tokens tokens;
} side;

static void join(side *s, const attn_tokenizer *tokenizer, const attn_corpus *corpus, size_t first, size_t pieces,
                 bool target) {
    size_t at = 0, words = 0;
    for (size_t k = 0; k < pieces; k++) {
        const attn_pair *pair = attn_corpus_at(corpus, first + k);
        const char *text = target ? pair->target : pair->source;
        at += (size_t)sprintf(s->text + at, "%s%s", k ? " " : "", text);
        words++;
        for (; *text; text++) words += *text == ' ';
        s->end[k] = at;
        s->words[k] = words;
    }
    s->tokens = (attn_tokens)ATTN_TOKENS_INIT;
    assert_ok(attn_tokenize(tokenizer, &s->tokens, s->text, at, true));
}

static void test_links(void **state) {
    (void)state;
    enum { PAIRS = 300, EXAMPLES = 40 };
    struct toy toy;
    attn_context *ctx;
    assert_ok(attn_context_create(&ctx, NULL));
    toy_make(&toy, ctx, PAIRS, 1);
    attn_guide *guide;
    attn_link *link = NULL;
    size_t count = 0, capacity = 0, right = 0, all = 0, linked = 0, words = 0;
    assert_ok(attn_guide_create(&guide, ctx, toy.train));
    for (size_t i = 0; i < EXAMPLES; i++) {
        const size_t pieces = 1 + i % 3, before = count;
        side source, target;
        join(&source, toy.tokenizer, toy.train, i, pieces, false);
        join(&target, toy.tokenizer, toy.train, i, pieces, true);
        const attn_joined_text s = {source.text, source.end, pieces, &source.tokens};
        const attn_joined_text t = {target.text, target.end, pieces, &target.tokens};
        assert_ok(attn_guide_links(guide, &link, &count, &capacity, &s, &t));
        for (size_t n = before; n < count; n++) {
            const attn_link l = link[n];
            assert_true((size_t)l.source < source.tokens.count && (size_t)l.target < target.tokens.count);
            const size_t from = (size_t)source.tokens.token[l.source].word;
            const size_t to = (size_t)target.tokens.token[l.target].word;
            if (n > before && l.target == link[n - 1].target) assert_true(l.source > link[n - 1].source);
            else if (n > before) assert_true(l.target > link[n - 1].target);
            size_t k = 0;
            while (from >= source.words[k]) k++;
            const size_t first = k ? source.words[k - 1] : 0, end = source.words[k];
            assert_true(to >= first && to < end); /* the same piece: a pair has as many words on both sides */
            /* "c b a ." stands for "a b c ." */
            right += from == end - 1 ? to == from : to == first + (end - 2 - from);
            all++;
            linked += n == before || l.target != link[n - 1].target;
        }
        words += target.tokens.count - 1;
        attn_tokens_free(ctx, &source.tokens);
        attn_tokens_free(ctx, &target.tokens);
    }
    assert_true(right > all - all / 10);
    assert_true(linked > words / 2);
    attn_text_free(ctx, link);
    attn_guide_free(guide);
    toy_free(&toy);
    attn_context_free(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_links)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
