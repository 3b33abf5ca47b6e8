/* 03_train_tiny.c: trains a model of one attention on a toy task: say the digit that is marked.
 *
 * Introduces: parameters, the tape (a recorded forward pass, backward, reset), the cross entropy, AdamW. Only a model
 * that looks at the marked digit can say it; the program fails if it did not learn to. */
#include <attn/ops.h>
#include <stdio.h>
#include <stdlib.h>

/* batch, length, digits, width of embeddings and annotations, width of the attention, steps; parameters at most */
enum { B = 32, S = 8, DIGITS = 10, E = 16, A = 16, STEPS = 300, MOST = 4 };

typedef struct model {
    attn_parameters *set;
    attn_parameter *embedding, *key, *v, *output;
} model;

/* A failure leaves NULLs behind; the caller looks at the last one. */
static attn_parameter *add(attn_parameters *set, const char *name, attn_init init, size_t rows, size_t columns) {
    attn_parameter *p;
    attn_parameters_add(set, &p, name, init, 1, columns ? 2 : 1, (size_t[]){rows, columns});
    return p;
}

static attn_var *logits(const model *m, attn_tape *tape, const int32_t *ids) {
    attn_var *h = attn_tape_embedding(tape, m->embedding, ids, 2, (size_t[]){S, B}); /* (S, B, E) */
    attn_var *keys = attn_tape_linear(tape, h, m->key, NULL, NULL, ATTN_IDENTITY);
    attn_var *query = attn_tape_zeros(tape, 2, (size_t[]){B, A}); /* all sequences are asked the same */
    attn_var *c = attn_tape_additive_attention(tape, query, keys, m->v, h, NULL, NULL, NULL); /* (B, E) */
    return attn_tape_linear(tape, c, m->output, NULL, NULL, ATTN_IDENTITY);                   /* (B, DIGITS) */
}

static void make_batch(uint32_t random, int32_t ids[S * B], int32_t targets[B]) {
    for (int b = 0; b < B; b++) {
        for (int s = 0; s < S; s++) ids[s * B + b] = (int32_t)((random = random * 1664525u + 1013904223u) >> 16) % 10;
        int32_t *marked = &ids[(random >> 8) % S * B + (uint32_t)b];
        targets[b] = *marked, *marked += DIGITS; /* a marked digit is another symbol */
    }
}

int main(void) {
    attn_context *ctx;
    attn_tape *tape;
    model m;
    if (attn_context_create(&ctx, NULL) != ATTN_OK || attn_parameters_create(&m.set, ctx, 1) != ATTN_OK ||
        attn_tape_create(&tape, ctx, true) != ATTN_OK)
        return 1;
    m.embedding = add(m.set, "embedding", ATTN_INIT_XAVIER, 2 * DIGITS, E);
    m.key = add(m.set, "key", ATTN_INIT_XAVIER, A, E);
    m.v = add(m.set, "v", ATTN_INIT_XAVIER, A, 0), m.output = add(m.set, "output", ATTN_INIT_XAVIER, DIGITS, E);
    const size_t count = attn_parameters_count(m.set);
    attn_tensor moments[2][MOST]; /* Adam's, which begin as zeros */
    for (size_t i = 0; i < 2 * count; i++) {
        attn_tensor *t = &moments[i % 2][i / 2];
        *t = attn_parameters_at(m.set, i / 2)->value;
        t->data = calloc(attn_tensor_count(t), sizeof(float));
    }
    int32_t ids[S * B], targets[B];
    attn_loss_stats stats = {0};
    attn_adamw_options adam = {sizeof adam, 1e-2f, 0.9f, 0.98f, 1e-9f, 0, 1, 0};
    for (int step = 1; step <= STEPS; step++) {
        stats = (attn_loss_stats){0};
        make_batch((uint32_t)step, ids, targets);
        attn_tape_reset(tape);
        attn_parameters_zero_grad(m.set);
        attn_var *loss = attn_tape_cross_entropy(tape, logits(&m, tape, ids), targets, 0, 1.0f / B, &stats);
        if (attn_tape_backward(tape, loss) != ATTN_OK) return fprintf(stderr, "%s\n", attn_error(ctx)), 1;
        adam.step = (uint64_t)step;
        for (size_t i = 0; i < count; i++) {
            attn_parameter *p = attn_parameters_at(m.set, i);
            if (attn_adamw(ctx, &p->value, &moments[0][i], &moments[1][i], &p->grad, &adam) != ATTN_OK) return 1;
            attn_parameter_touch(p); /* its packed forms are stale */
        }
        if (step % 50 == 0) printf("step %3d  loss %.4f  %zu of %d right\n", step, stats.loss / B, stats.correct, B);
    }
    for (size_t i = 0; i < 2 * count; i++) free(moments[i % 2][i / 2].data);
    attn_tape_free(tape);
    attn_parameters_free(m.set);
    attn_context_free(ctx);
    return stats.correct >= B * 9 / 10 ? 0 : 1;
}
