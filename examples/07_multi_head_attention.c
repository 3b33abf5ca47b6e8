/* 07_multi_head_attention.c: several heads, each with its own columns of Q, K and V, and a projection of all of them.
 *
 *     head h:  columns h·D … h·D+D−1 of Q, K, V, D = d_out / H        Y = [Z_1 … Z_H] W_oᵀ + b_o
 *
 * Introduces: attn_multi_head_attention, self and cross, causal or not; the log-sum-exp of every head, for looking at
 * weights; a tape that does not record. The decoder's way is checked: one step at a time gives the same bits. */
#include <attn/attn.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 6, D_IN = 3, D_OUT = 4, HEADS = 2, D = D_OUT / HEADS };

static float tokens[TOKENS][D_IN] = {{.35f, .15f, .89f}, {.97f, .80f, .30f}, {.65f, .34f, .24f},
                                     {.20f, .87f, .34f}, {.86f, .13f, .05f}, {.10f, .20f, .30f}};

/* Tokens first … first+count−1 as (1, count, D_IN). */
static attn_var *some(attn_tape *tape, size_t first, size_t count) {
    const attn_tensor x = attn_tensor_f32(tokens[first], 3, (size_t)1, count, (size_t)D_IN);
    return attn_tape_input(tape, &x, false);
}

static const float *data(const attn_var *var) { return attn_var_value(var)->data; }

/* weight = e^(q·k / √D − LSE): any pair of any head, without the others. */
static void print_weights(attn_tape *tape, const attn_multi_head_attention *layer, const attn_var *lse) {
    const attn_var *q = attn_tape_linear(tape, some(tape, 0, TOKENS), layer->w_query, NULL, NULL, ATTN_IDENTITY);
    const attn_var *k = attn_tape_linear(tape, some(tape, 0, TOKENS), layer->w_key, NULL, NULL, ATTN_IDENTITY);
    for (int h = 0; q && k && h < HEADS; h++)
        for (int i = 0; i < TOKENS; i++) {
            printf("head %d, token %d looks at ", h + 1, i + 1);
            for (int j = 0; j <= i; j++) {
                float dot = 0;
                for (int c = h * D; c < h * D + D; c++) dot += data(q)[i * D_OUT + c] * data(k)[j * D_OUT + c];
                printf(" %6.4f", (double)expf(dot / sqrtf((float)D) - data(lse)[h * TOKENS + i]));
            }
            printf("\n");
        }
}

int main(void) {
    attn_context *ctx;
    attn_parameters *set;
    attn_tape *tape;
    attn_multi_head_attention layer;
    attn_multi_head_attention_options options = ATTN_MULTI_HEAD_ATTENTION_OPTIONS_INIT;
    options.d_in = D_IN, options.d_out = D_OUT, options.heads = HEADS;
    options.context_length = TOKENS, options.causal = ATTN_CAUSAL_TOP_LEFT;
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    if (attn_parameters_create(&set, ctx, 123) != ATTN_OK || attn_tape_create(&tape, ctx, false) != ATTN_OK ||
        attn_multi_head_attention_create(&layer, set, "att.", &options) != ATTN_OK)
        return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
    attn_var *lse, *y = attn_tape_multi_head_attention(tape, &layer, some(tape, 0, TOKENS), NULL, NULL, NULL, &lse);
    if (!y) return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
    print_weights(tape, &layer, lse);
    int same = 0;
    for (size_t t = 0; t < TOKENS; t++) {
        /* The last token asks all so far; causal counts from the end of the keys. */
        const attn_keys_values context = attn_tape_keys_values(tape, &layer, some(tape, 0, t + 1));
        attn_attention_options step = ATTN_ATTENTION_OPTIONS_INIT;
        step.causal = ATTN_CAUSAL_BOTTOM_RIGHT;
        const attn_var *row =
            attn_tape_multi_head_attention(tape, &layer, some(tape, t, 1), &context, &step, NULL, NULL);
        const float *whole = data(y) + t * D_OUT;
        if (!row) return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
        same += !memcmp(data(row), whole, D_OUT * sizeof(float));
        printf("y %zu  %8.4f %8.4f %8.4f %8.4f\n", t + 1, (double)whole[0], (double)whole[1], (double)whole[2],
               (double)whole[3]);
    }
    printf("%d of %d rows are the same bits when they are made one by one\n", same, TOKENS);
    attn_tape_free(tape);
    attn_parameters_free(set);
    attn_context_free(ctx);
    return same == TOKENS ? 0 : 1;
}
