/* 08_core_alone.c: attention in a program of one's own, with nothing but libattn-core.
 *     cc 08_core_alone.c $(pkg-config --cflags --libs attn-core) -o core_alone && ./core_alone
 * Introduces: the small library, found by pkg-config; heads and positions in any order, by strides. */
#include <attn/attention.h>
#include <stdio.h>

enum { T = 128, H = 4, D = 32 };
static float q[T][H][D], k[T][H][D], v[T][H][D], out[T][H][D];

/* (T, H, D) in memory, seen as (1, H, T, D). */
static attn_tensor heads(void *data) {
    attn_tensor t = attn_tensor_f32(data, 4, (size_t)1, (size_t)T, (size_t)H, (size_t)D);
    return attn_tensor_swap(&t, 1, 2);
}

int main(void) {
    for (int i = 0; i < T * H * D; i++) (&q[0][0][0])[i] = (&k[0][0][0])[i] = (float)(i % 7) / 7, (&v[0][0][0])[i] = 2;
    attn_context *ctx;
    if (attn_context_create(&ctx, NULL) != ATTN_OK) return 1;
    attn_tensor o = heads(out), a = heads(q), b = heads(k), c = heads(v);
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    options.causal = ATTN_CAUSAL_TOP_LEFT;
    if (attn_attention_fwd(ctx, &o, NULL, &a, &b, &c, &options) != ATTN_OK) return puts(attn_error(ctx)), 1;
    printf("%s, %d threads: %g\n", attn_cpu_level(ctx), attn_threads(ctx), (double)out[T - 1][H - 1][D - 1]);
    attn_context_free(ctx);
    return out[T - 1][0][0] > 1.99999f && out[T - 1][0][0] < 2.00001f ? 0 : 1; /* a mean of twos */
}
