/* 01_translate.c: translates a sentence and prints what each of its tokens looked at.
 *
 *     ./run build examples/01_translate && build/examples/01_translate FOLDER "Kannst du mir helfen?"
 *
 * Introduces: the context and its sentence about the last failure; a model's folder; the tokenizer; attn_translate;
 * the alignment that every hypothesis carries. */
#include <attn/attn.h>

#include <stdio.h>
#include <string.h>

/* The library never prints or exits: it returns a status and keeps a sentence. */
static int fail(const attn_context *ctx) {
    fprintf(stderr, "%s\n", attn_error(ctx));
    return 1;
}

/* One line for each token of the translation: its probability's logarithm, and where its alignment is largest. */
static void print_alignment(const attn_tokenizer *tokenizer, const attn_translation *t) {
    const attn_hypothesis *h = &t->hypothesis[0];
    size_t columns = t->source.count; /* source tokens, </s> included */
    for (size_t i = 0; i < h->count; i++) {
        printf("  %-16s log p %7.3f", attn_tokenizer_piece(tokenizer, h->id[i]), (double)h->log_prob[i]);
        if (h->alignment) { /* NULL for models without attention */
            const float *row = h->alignment + i * columns;
            size_t best = 0;
            for (size_t j = 1; j < columns; j++)
                if (row[j] > row[best]) best = j;
            printf("   <- %s (%.2f)", attn_tokenizer_piece(tokenizer, t->source.token[best].id), (double)row[best]);
        }
        printf("\n");
    }
}

static int translate(attn_context *ctx, const attn_model *model, const attn_tokenizer *tokenizer, const char *text) {
    attn_translate_options options = ATTN_TRANSLATE_OPTIONS_INIT; /* beam of 5 */
    attn_translation translation;
    if (attn_translate(model, tokenizer, &translation, &text, NULL, 1, &options) != ATTN_OK) return fail(ctx);
    printf("%s\n", translation.hypothesis[0].text);
    print_alignment(tokenizer, &translation);
    attn_translation_clear(ctx, &translation);
    return 0;
}

int main(int count, char **arguments) {
    attn_context *ctx;
    attn_model *model = NULL;
    attn_tokenizer *tokenizer = NULL;
    char path[4096];
    if (count != 3 || strlen(arguments[1]) + sizeof "/tokenizer.json" > sizeof path) {
        fprintf(stderr, "usage: 01_translate FOLDER TEXT\n");
        return 2;
    }
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    snprintf(path, sizeof path, "%s/tokenizer.json", arguments[1]);
    int code =
        attn_model_load(&model, ctx, arguments[1]) == ATTN_OK && attn_tokenizer_load(&tokenizer, ctx, path) == ATTN_OK
            ? translate(ctx, model, tokenizer, arguments[2])
            : fail(ctx);
    attn_tokenizer_free(tokenizer); /* NULL is fine */
    attn_model_free(model);
    attn_context_free(ctx);
    return code;
}
