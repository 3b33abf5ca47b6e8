/* 06_causal_attention.c: no token sees those that come after it, and while training some weights are dropped.
 *
 *     S_ij = −∞ for j > i      A = softmax(S / √d)      dropped: A_ij · 0 or 1 / (1 − p)
 *
 * Introduces: attn_causal; dropout, which depends on (seed, step, place on the tape) and is nothing on a tape that does
 * not record; lengths, for a batch of sequences that are not equally long. */
#include <attn/attn.h>

#include <math.h>
#include <stdio.h>

enum { TOKENS = 6, D = 3 };

static float tokens[TOKENS][D] = {{.35f, .15f, .89f}, {.97f, .80f, .30f}, {.65f, .34f, .24f},
                                  {.20f, .87f, .34f}, {.86f, .13f, .05f}, {.10f, .20f, .30f}};
static float eye[TOKENS][TOKENS] = {{1}, {0, 1}, {0, 0, 1}, {0, 0, 0, 1}, {0, 0, 0, 0, 1}, {0, 0, 0, 0, 0, 1}};

/* With V = I the output is the weights. NULL after a failure. */
static const float *weights(attn_tape *tape, float dropout, const int32_t *length) {
    const attn_tensor x = attn_tensor_f32(tokens, 3, (size_t)1, (size_t)TOKENS, (size_t)D);
    const attn_tensor identity = attn_tensor_f32(eye, 3, (size_t)1, (size_t)TOKENS, (size_t)TOKENS);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.causal = ATTN_CAUSAL_TOP_LEFT, options.dropout = dropout, options.kv_lengths = length;
    attn_attention_inputs inputs = {.heads = 1};
    inputs.q = inputs.k = attn_tape_input(tape, &x, false), inputs.v = attn_tape_input(tape, &identity, false);
    const attn_var *a = attn_tape_attention(tape, &inputs, &options, NULL);
    return a ? attn_var_value(a)->data : NULL;
}

static void print(const char *title, const float *a) {
    printf("%s\n", title);
    for (int i = 0; i < TOKENS; i++, a += TOKENS)
        printf("%8.4f %8.4f %8.4f %8.4f %8.4f %8.4f\n", (double)a[0], (double)a[1], (double)a[2], (double)a[3],
               (double)a[4], (double)a[5]);
}

int main(void) {
    attn_context *ctx;
    attn_tape *train, *plain;
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    if (attn_tape_create(&train, ctx, true) != ATTN_OK || attn_tape_create(&plain, ctx, false) != ATTN_OK) return 1;
    attn_tape_seed(train, 123, 1);
    const int32_t length = 4;
    const float *whole = weights(plain, 0.5f, NULL), *shorter = weights(plain, 0, &length),
                *dropped = weights(train, 0.5f, NULL);
    if (!whole || !shorter || !dropped) return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
    print("causal", whole);
    print("causal, four tokens and padding", shorter);
    print("causal, half of the weights dropped, the others doubled", dropped);
    int wrong = 0;
    for (int i = 0; i < TOKENS; i++)
        for (int j = 0; j < TOKENS; j++) {
            const int at = i * TOKENS + j;
            wrong += j > i && (whole[at] != 0 || dropped[at] != 0);
            wrong += j >= length && shorter[at] != 0;
            wrong += dropped[at] != 0 && fabsf(dropped[at] - 2 * whole[at]) > 1e-6f;
        }
    attn_tape_free(plain);
    attn_tape_free(train);
    attn_context_free(ctx);
    return wrong ? 1 : 0;
}
