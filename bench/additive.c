/* additive.c: additive attention (Bahdanau), forward and backward, timed. B64 S32 T16, A512, H1024.
 *
 * A line on stdin is one pass: "core" on projected inputs (gradients of all four), "core-bf16" with bf16 inputs where
 * the library has it, "projected" with the projections of states and annotations and their gradients too, or
 * "memory T S", the peak of a pass on projected inputs. Prints milliseconds, or bytes. bench/additive.py drives it. */
#include "counting.h"
#include <attn/attn.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { B = 64, A = 512, H = 1024 };

static attn_context *ctx;

static void check(attn_status status) {
    if (status == ATTN_OK) return;
    fprintf(stderr, "additive: %s\n", attn_error(ctx));
    exit(1);
}

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static attn_tensor normal(size_t a, size_t b, size_t c, float scale) {
    float *x = malloc(a * b * c * sizeof *x);
    for (size_t i = 0; i < a * b * c; i++) {
        float sum = 0;
        for (int k = 0; k < 4; k++) sum += (float)rand() / (float)RAND_MAX - 0.5f;
        x[i] = scale * 1.7f * sum;
    }
    return attn_tensor_f32(x, 3, a, b, c);
}

typedef struct arrays {
    size_t t, s;
    attn_tensor state, h, w, u, sq, hk, v, c, dc, alignment, dsq, dhk, dv, dh, dh2, dstate, dw, du;
} arrays;

static attn_tensor flat(const attn_tensor *t) {
    return attn_tensor_f32(t->data, 2, t->shape[0] * t->shape[1], t->shape[2]);
}

static arrays make(size_t t, size_t s) {
    arrays x = {.t = t, .s = s};
    x.state = normal(B, t, H, 1), x.h = normal(B, s, H, 1), x.w = normal(1, A, H, 0.03f), x.u = normal(1, A, H, 0.03f);
    x.sq = normal(B, t, A, 1), x.hk = normal(B, s, A, 1), x.v = normal(1, 1, A, 0.05f);
    x.c = normal(B, t, H, 1), x.dc = normal(B, t, H, 1), x.alignment = normal(B, t, s, 1);
    x.dsq = normal(B, t, A, 1), x.dhk = normal(B, s, A, 1), x.dv = normal(1, 1, A, 1), x.dh = normal(B, s, H, 1);
    x.dh2 = normal(B, s, H, 1), x.dstate = normal(B, t, H, 1), x.dw = normal(1, A, H, 1), x.du = normal(1, A, H, 1);
    x.v.rank = x.dv.rank = 1, x.v.shape[0] = x.dv.shape[0] = A, x.v.stride[0] = x.dv.stride[0] = 1;
    return x;
}

static void free_arrays(arrays *x) {
    attn_tensor *all[] = {&x->state,     &x->h,   &x->w,   &x->u,  &x->sq, &x->hk,  &x->v,      &x->c,  &x->dc,
                          &x->alignment, &x->dsq, &x->dhk, &x->dv, &x->dh, &x->dh2, &x->dstate, &x->dw, &x->du};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]->data);
}

static void core(arrays *x) {
    check(attn_additive_attention_fwd(ctx, &x->c, NULL, &x->alignment, NULL, &x->sq, &x->hk, &x->v, &x->h, NULL));
    check(attn_additive_attention_bwd(ctx, &x->dsq, &x->dhk, &x->dv, &x->dh, &x->dc, &x->sq, &x->hk, &x->v, &x->h,
                                      &x->alignment, NULL, false));
}

static void projected(arrays *x) {
    attn_tensor state = flat(&x->state), h = flat(&x->h), sq = flat(&x->sq), hk = flat(&x->hk), w = flat(&x->w),
                u = flat(&x->u), dsq = flat(&x->dsq), dhk = flat(&x->dhk), dstate = flat(&x->dstate), dh = flat(&x->dh),
                dw = flat(&x->dw), du = flat(&x->du);
    check(attn_linear_fwd(ctx, &sq, &state, &w, NULL, NULL, ATTN_IDENTITY));
    check(attn_linear_fwd(ctx, &hk, &h, &u, NULL, NULL, ATTN_IDENTITY));
    core(x);
    check(attn_linear_bwd(ctx, &dstate, &dw, NULL, &dsq, &state, &w, false));
    memset(x->du.data, 0, A * H * sizeof(float));
    check(attn_linear_bwd(ctx, &dh, &du, NULL, &dhk, &h, &u, true)); /* added to what the context gave */
}

int main(void) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.allocator = (attn_allocator){NULL, take, give};
    if (attn_context_create(&ctx, &options) != ATTN_OK) return 1;
    srand(1);
    arrays x = make(16, 32);
    char line[80];
    while (fgets(line, sizeof line, stdin)) {
        size_t t, s;
        const double start = now_ms();
        if (sscanf(line, "memory %zu %zu", &t, &s) == 2) {
            arrays y = make(t, s);
            peak = in_use;
            const size_t before = in_use;
            core(&y);
            printf("%zu\n", peak - before);
            free_arrays(&y);
        } else {
            if (!strncmp(line, "projected", 9)) projected(&x);
            else core(&x);
            printf("%.3f\n", now_ms() - start);
        }
        fflush(stdout);
    }
    free_arrays(&x);
    attn_context_free(ctx);
    return 0;
}
