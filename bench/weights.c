/* weights.c: what a look at the weights of a long prefill costs: causal, 32 heads, 32768 queries and keys, head size
 * 128.
 *
 *     ./run build bench/weights && build/bench/weights [HEADS timed for what needs all rows, 1] [LENGTH, 32768]
 *
 * Prints the time of the forward pass (HEADS of them timed, times 32 / HEADS), of the 8 largest weights of the last 64
 * rows of all heads, and of column sums over all rows, with the peak of allocated memory beside inputs and outputs. */
#include "counting.h"
#include <attn/attn.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { H = 32, D = 128, LAST = 64, TOP = 8 };

static attn_context *ctx;

static void check(attn_status status) {
    if (status == ATTN_OK) return;
    fprintf(stderr, "weights: %s\n", attn_error(ctx));
    exit(1);
}

static double start;
static size_t before;
static void begin(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    start = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    peak = before = in_use;
}
static double end(const char *what, double factor) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    const double seconds = ((double)t.tv_sec + 1e-9 * (double)t.tv_nsec - start) * factor;
    printf("%-48s %9.3f s  %8.2f MB\n", what, seconds, 1e-6 * (double)(peak - before));
    return seconds;
}

static attn_tensor make(size_t heads, size_t rows, size_t columns) {
    const size_t n = heads * rows * columns;
    float *x = malloc(n * sizeof *x);
    uint64_t state = 88172645463325252u + n;
    for (size_t i = 0; x && i < n; i++) { /* sums of four uniform numbers, about normal */
        float sum = 0;
        for (int k = 0; k < 4; k++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            sum += (float)(state >> 40) * 0x1p-24f - 0.5f;
        }
        x[i] = 1.7f * sum;
    }
    if (!x) exit(1);
    return attn_tensor_f32(x, 4, (size_t)1, heads, rows, columns);
}

/* The first heads, or the last rows, of a tensor. */
static attn_tensor part(const attn_tensor *t, int dim, size_t first, size_t count) {
    attn_tensor some;
    check(attn_tensor_slice(ctx, &some, t, dim, first, count));
    return some;
}

int main(int argc, char **argv) {
    const size_t heads = argc > 1 ? strtoul(argv[1], NULL, 10) : 1, n = argc > 2 ? strtoul(argv[2], NULL, 10) : 32768;
    const double factor = (double)H / (double)heads;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.allocator = (attn_allocator){NULL, take, give};
    if (attn_context_create(&ctx, &options) != ATTN_OK) return 1;
    printf("%s, %d threads; causal, %d heads, %zu queries and keys, head size %d, f32\n", attn_cpu_level(ctx),
           attn_threads(ctx), H, n, D);
    attn_tensor q = make(H, n, D), k = make(H, n, D), out = make(H, n, D), lse = make(H, n, 1);
    lse.rank = 3;
    attn_attention_options causal = ATTN_ATTENTION_OPTIONS_INIT;
    causal.causal = ATTN_CAUSAL_BOTTOM_RIGHT;

    attn_tensor q1 = part(&q, 1, 0, heads), k1 = part(&k, 1, 0, heads), o1 = part(&out, 1, 0, heads),
                l1 = part(&lse, 1, 0, heads);
    begin();
    check(attn_attention_fwd(ctx, &o1, &l1, &q1, &k1, &k1, &causal));
    const double forward = end("forward", factor);

    attn_tensor ql = part(&q, 2, n - LAST, LAST), ol = part(&out, 2, n - LAST, LAST),
                ll = part(&lse, 2, n - LAST, LAST);
    check(attn_attention_fwd(ctx, &ol, &ll, &ql, &k, &k, &causal)); /* the LSE of the rows that are looked at */
    int64_t rows[LAST];
    for (int i = 0; i < LAST; i++) rows[i] = i - LAST;
    attn_tensor values = make(H, LAST, TOP), keys = make(H, LAST, TOP);
    keys.dtype = ATTN_I32;
    attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
    look.rows = rows, look.row_count = LAST, look.top_values = &values, look.top_keys = &keys;
    begin();
    check(attn_attention_weights(ctx, &look, &q, &k, &lse, &causal));
    const double top = end("the 8 largest weights of the last 64 rows", 1);
    printf("%-48s %9.2f %%\n", "  of the forward pass", 100 * top / forward);

    attn_tensor sums = make(heads, n, 1);
    sums.rank = 3;
    look = (attn_attention_look)ATTN_ATTENTION_LOOK_INIT;
    look.column_sum = &sums;
    begin();
    check(attn_attention_weights(ctx, &look, &q1, &k1, &l1, &causal));
    const double columns = end("column sums over all rows", factor);
    printf("%-48s %9.2f %%\n", "  of the forward pass", 100 * columns / forward);
    double total = 0;
    for (size_t j = 0; j < n * heads; j++) total += (double)((float *)sums.data)[j];
    printf("%-48s %9.6f\n", "  sum of the column sums / rows", total / (double)(n * heads));
    free(q.data), free(k.data), free(out.data), free(lse.data), free(values.data), free(keys.data), free(sums.data);
    attn_context_free(ctx);
    return 0;
}
