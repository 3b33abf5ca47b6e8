/* 05_self_attention.c: self-attention whose three matrices are learned.
 *
 *     Q = X W_qᵀ    K = X W_kᵀ    V = X W_vᵀ      A = softmax(Q Kᵀ / √d)      Z = A V
 *
 * Introduces: a layer, whose parameters have names in a set; the layer on the tape; learning: the weights are to make
 * the third token's context vector the vector (1, −1). */
#include <attn/attn.h>

#include <math.h>
#include <stdio.h>

enum { TOKENS = 6, D_IN = 3, D_OUT = 2, THIRD = 2, STEPS = 100 };

static float tokens[TOKENS][D_IN] = {{.35f, .15f, .89f}, {.97f, .80f, .30f}, {.65f, .34f, .24f},
                                     {.20f, .87f, .34f}, {.86f, .13f, .05f}, {.10f, .20f, .30f}};
static const float wanted[D_OUT] = {1, -1};

static attn_var *context_vectors(attn_tape *tape, const attn_multi_head_attention *layer) {
    const attn_tensor x = attn_tensor_f32(tokens, 3, (size_t)1, (size_t)TOKENS, (size_t)D_IN);
    return attn_tape_multi_head_attention(tape, layer, attn_tape_input(tape, &x, false), NULL, NULL, NULL, NULL);
}

/* One step down the gradient of |z − wanted|² / 2, which is z − wanted: the loss on the tape is z times it. */
static attn_status learn(attn_tape *tape, attn_parameters *set, const attn_multi_head_attention *layer,
                         attn_parameter *direction, float z[D_OUT]) {
    attn_tape_reset(tape);
    attn_parameters_zero_grad(set);
    attn_var *all = context_vectors(tape, layer);
    attn_var *third = attn_tape_row(tape, attn_tape_row(tape, all, 0), THIRD);
    if (!third) return attn_tape_status(tape);
    for (int i = 0; i < D_OUT; i++) {
        z[i] = ((const float *)attn_var_value(third)->data)[i];
        ((float *)direction->value.data)[i] = z[i] - wanted[i];
    }
    attn_parameter_touch(direction);
    attn_var *loss = attn_tape_linear(tape, third, direction, NULL, NULL, ATTN_IDENTITY);
    if (attn_tape_backward(tape, loss) != ATTN_OK) return attn_tape_status(tape);
    attn_parameter *const learned[] = {layer->w_query, layer->w_key, layer->w_value};
    for (int i = 0; i < 3; i++) {
        float *w = learned[i]->value.data;
        const float *dw = learned[i]->grad.data;
        for (int j = 0; j < D_OUT * D_IN; j++) w[j] -= 0.1f * dw[j];
        attn_parameter_touch(learned[i]); /* packed forms are stale */
    }
    return ATTN_OK;
}

int main(void) {
    attn_context *ctx;
    attn_parameters *set;
    attn_tape *tape;
    attn_parameter *direction;
    attn_multi_head_attention layer;
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    if (attn_parameters_create(&set, ctx, 789) != ATTN_OK || attn_tape_create(&tape, ctx, true) != ATTN_OK ||
        attn_self_attention_create(&layer, set, "att.", D_IN, D_OUT, false) != ATTN_OK ||
        attn_parameters_add(set, &direction, "direction", ATTN_INIT_ZERO, 0, 2, (const size_t[]){1, D_OUT}) != ATTN_OK)
        return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
    for (size_t i = 0; i < 3; i++) printf("%s\n", attn_parameters_at(set, i)->name);
    const attn_var *z = context_vectors(tape, &layer);
    for (int i = 0; z && i < TOKENS; i++) {
        const float *row = (const float *)attn_var_value(z)->data + (size_t)i * D_OUT;
        printf("context %d  %8.4f %8.4f\n", i + 1, (double)row[0], (double)row[1]);
    }
    float third[D_OUT] = {0, 0};
    for (int step = 1; step <= STEPS; step++) {
        if (learn(tape, set, &layer, direction, third) != ATTN_OK) return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
        if (step % 20 == 0) printf("step %3d  context 3  %8.4f %8.4f\n", step, (double)third[0], (double)third[1]);
    }
    attn_tape_free(tape);
    attn_parameters_free(set);
    attn_context_free(ctx);
    return fabsf(third[0] - wanted[0]) < 0.01f && fabsf(third[1] - wanted[1]) < 0.01f ? 0 : 1;
}
