/* 02_additive_attention.c: additive attention on numbers, forward and backward, without model, tape or text.
 *
 *     e_ij = v' tanh(sq_i + hk_j)     alignment_i = softmax of e_i over the visible j     c_i = sum_j alignment_ij h_j
 *
 * Introduces: tensors, which are views of the caller's memory; operations, outputs first; padding by lengths;
 * gradients. One gradient is compared with a difference of two forward passes; the program fails if it is wrong. */
#include <attn/ops.h>

#include <math.h>
#include <stdio.h>

/* sequences, queries, keys, width of queries and keys, width of annotations */
enum { B = 1, T = 2, S = 4, A = 3, C = 2 };

typedef struct problem {
    attn_context *ctx;
    float sq[B * T * A], hk[B * S * A], v[A], h[B * S * C], c[B * T * C], alignment[B * T * S];
    int32_t lengths[B];
} problem;

static attn_status forward(problem *p) {
    attn_tensor sq = attn_tensor_f32(p->sq, 3, (size_t)B, (size_t)T, (size_t)A);
    attn_tensor hk = attn_tensor_f32(p->hk, 3, (size_t)B, (size_t)S, (size_t)A);
    attn_tensor h = attn_tensor_f32(p->h, 3, (size_t)B, (size_t)S, (size_t)C), v = attn_tensor_f32(p->v, 1, (size_t)A);
    attn_tensor c = attn_tensor_f32(p->c, 3, (size_t)B, (size_t)T, (size_t)C);
    attn_tensor alignment = attn_tensor_f32(p->alignment, 3, (size_t)B, (size_t)T, (size_t)S);
    return attn_additive_attention_fwd(p->ctx, &c, NULL, &alignment, NULL, &sq, &hk, &v, &h, p->lengths);
}

/* dhk for the loss sum(c): dc is all ones. Gradients that are NULL are not computed. */
static attn_status backward(problem *p, float dhk_data[B * S * A]) {
    float ones[B * T * C];
    for (int i = 0; i < B * T * C; i++) ones[i] = 1;
    attn_tensor sq = attn_tensor_f32(p->sq, 3, (size_t)B, (size_t)T, (size_t)A);
    attn_tensor hk = attn_tensor_f32(p->hk, 3, (size_t)B, (size_t)S, (size_t)A), dhk = hk;
    attn_tensor h = attn_tensor_f32(p->h, 3, (size_t)B, (size_t)S, (size_t)C), v = attn_tensor_f32(p->v, 1, (size_t)A);
    attn_tensor dc = attn_tensor_f32(ones, 3, (size_t)B, (size_t)T, (size_t)C);
    attn_tensor alignment = attn_tensor_f32(p->alignment, 3, (size_t)B, (size_t)T, (size_t)S);
    dhk.data = dhk_data;
    return attn_additive_attention_bwd(p->ctx, NULL, &dhk, NULL, NULL, &dc, &sq, &hk, &v, &h, &alignment, p->lengths,
                                       false);
}

static double loss(problem *p) {
    double sum = 0;
    if (forward(p) != ATTN_OK) return NAN;
    for (int i = 0; i < B * T * C; i++) sum += (double)p->c[i];
    return sum;
}

int main(void) {
    problem p = {.lengths = {3}}; /* the last of the four keys is padding */
    float dhk[B * S * A];
    if (attn_context_create(&p.ctx, NULL) != ATTN_OK) return 1;
    for (int i = 0; i < T * A; i++) p.sq[i] = 0.3f * (float)(i % 5) - 0.5f;
    for (int i = 0; i < S * A; i++) p.hk[i] = 0.4f * (float)(i % 4) - 0.6f;
    for (int i = 0; i < S * C; i++) p.h[i] = (float)i;
    for (int i = 0; i < A; i++) p.v[i] = (float)(i + 1);
    if (forward(&p) != ATTN_OK || backward(&p, dhk) != ATTN_OK) {
        fprintf(stderr, "%s\n", attn_error(p.ctx));
        return 1;
    }
    for (int i = 0; i < T; i++) {
        const float *a = p.alignment + (size_t)(i * S), *c = p.c + (size_t)(i * C);
        printf("query %d: alignment %.4f %.4f %.4f %.4f  context %.4f %.4f\n", i, (double)a[0], (double)a[1],
               (double)a[2], (double)a[3], (double)c[0], (double)c[1]);
    }
    const float step = 1.0f / 64, was = p.hk[4]; /* key 1, column 1 */
    p.hk[4] = was + step;
    double above = loss(&p);
    p.hk[4] = was - step;
    double difference = (above - loss(&p)) / (2 * (double)step);
    printf("dhk of key 1, column 1: %.5f, by differences %.5f\n", (double)dhk[4], difference);
    attn_context_free(p.ctx);
    return fabs((double)dhk[4] - difference) < 1e-3 && dhk[S * A - 1] == 0 ? 0 : 1;
}
