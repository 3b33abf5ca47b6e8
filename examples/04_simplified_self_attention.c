/* 04_simplified_self_attention.c: six tokens look at one another, without any weights to learn.
 *
 *     S = X Xᵀ      A = softmax of each row      Z = A X          z_i, the context vector of token i
 *
 * Introduces: the attention operator; its options (scale 1 here); the log-sum-exp, from which scores and weights can be
 * had again; the weights themselves, as the output for V = I. */
#include <attn/attention.h>

#include <math.h>
#include <stdio.h>

enum { TOKENS = 6, WIDTH = 3, THIRD = 2 };

static const float tokens[TOKENS][WIDTH] = {{.35f, .15f, .89f}, {.97f, .80f, .30f}, {.65f, .34f, .24f},
                                            {.20f, .87f, .34f}, {.86f, .13f, .05f}, {.10f, .20f, .30f}};

static void print_row(const char *name, int row, const float *x, int n) {
    printf("%-10s %d ", name, row + 1);
    for (int i = 0; i < n; i++) printf(" %8.4f", (double)x[i]);
    printf("\n");
}

/* One sequence, one head: tensors (1, 1, TOKENS, columns). */
static attn_tensor matrix(void *data, size_t columns) {
    return attn_tensor_f32(data, 4, (size_t)1, (size_t)1, (size_t)TOKENS, columns);
}

int main(void) {
    float z[TOKENS][WIDTH], lse[TOKENS], weights[TOKENS][TOKENS], eye[TOKENS][TOKENS] = {{0}}, error = 0;
    for (int i = 0; i < TOKENS; i++) eye[i][i] = 1;
    attn_tensor x = matrix((void *)tokens, WIDTH), out = matrix(z, WIDTH), identity = matrix(eye, TOKENS),
                a = matrix(weights, TOKENS), sums = attn_tensor_f32(lse, 3, (size_t)1, (size_t)1, (size_t)TOKENS);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.scale = 1;
    attn_context *ctx;
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    if (attn_attention_fwd(ctx, &out, &sums, &x, &x, &x, &options) != ATTN_OK ||
        attn_attention_fwd(ctx, &a, NULL, &x, &x, &identity, &options) != ATTN_OK) {
        fprintf(stderr, "%s\n", attn_error(ctx));
        return 1;
    }
    float scores[TOKENS], sum = 0;
    for (int j = 0; j < TOKENS; j++) {
        scores[j] = logf(weights[THIRD][j]) + lse[THIRD]; /* weight = e^(score − LSE) */
        float dot = 0;
        for (int c = 0; c < WIDTH; c++) dot += tokens[THIRD][c] * tokens[j][c];
        error = fmaxf(error, fabsf(dot - scores[j])), sum += weights[THIRD][j];
    }
    print_row("scores", THIRD, scores, TOKENS);
    for (int i = 0; i < TOKENS; i++) print_row("weights", i, weights[i], TOKENS);
    for (int i = 0; i < TOKENS; i++) print_row("context", i, z[i], WIDTH);
    attn_context_free(ctx);
    return error < 1e-6f && fabsf(sum - 1) < 1e-6f ? 0 : 1;
}
