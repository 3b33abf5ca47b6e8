/* gemm.c: linear layers against MKL and OpenBLAS, in turn, in one run.
 *
 * usage: gemm THREADS SECONDS [LIBRARY:SYMBOL...]
 *     gemm 2 3 libopenblas.so.0:sgemm_ /path/of/torch/lib/libtorch_cpu.so:SGEMM
 *
 * Prints this machine's FMA peak on the same threads, then for each shape GFLOP/s (the best run), the share of the peak
 * and the ratio to the best peer. Ours is attn_linear_fwd, which packs the weight in every call; outputs are compared
 * first. ATTN_CPU chooses our level; peers have their own variables (OPENBLAS_CORETYPE, MKL_ENABLE_INSTRUCTIONS). */
#include <attn/ops.h>

#include "peak.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void sgemm_function(const char *, const char *, const int *, const int *, const int *, const float *,
                            const float *, const int *, const float *, const int *, const float *, float *,
                            const int *);

enum { PEERS = 4, PEAK_RUNS = 30, BURST_US = 4000, SETTLE_US = 300000 };

static const int shapes[][3] = {/* M, N, K */
                                {2048, 2048, 2048},
                                {1024, 768, 768},
                                {1024, 1536, 512},
                                {64, 1536, 512},
                                {4096, 8000, 256}};

static struct peer {
    const char *name;
    sgemm_function *run;
} peers[PEERS];
static int n_peers;

/* ---- one shape ----------------------------------------------------------------------------------- */

typedef struct problem {
    int m, n, k;
    float *x, *w, *y, *peer_y; /* (m, k) (n, k) (m, n) (m, n) */
    attn_context *ctx;
} problem;

/* which −1: ours. */
static int run_once(const problem *p, int which) {
    const float one = 1.0f, zero = 0.0f;
    if (which >= 0) {
        peers[which].run("T", "N", &p->n, &p->m, &p->k, &one, p->w, &p->k, p->x, &p->k, &zero, p->peer_y, &p->n);
        return 0;
    }
    attn_tensor x = attn_tensor_f32(p->x, 2, (size_t)p->m, (size_t)p->k),
                w = attn_tensor_f32(p->w, 2, (size_t)p->n, (size_t)p->k);
    attn_tensor y = attn_tensor_f32(p->y, 2, (size_t)p->m, (size_t)p->n);
    return attn_linear_fwd(p->ctx, &y, &x, &w, NULL, NULL, ATTN_IDENTITY);
}

static float *random_matrix(int rows, int columns) {
    size_t n = (size_t)rows * (size_t)columns;
    float *x = malloc(n * sizeof *x);
    uint32_t state = 1;
    for (size_t i = 0; x && i < n; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(state >> 8) * 0x1p-24f - 0.5f;
    }
    return x;
}

static int bench(const problem *p, double seconds, double peak) {
    double best[PEERS + 1], flops = 2.0 * p->m * p->n * p->k;
    for (int i = 0; i <= n_peers; i++) best[i] = INFINITY;
    if (run_once(p, -1)) return -1;
    for (int i = 0; i < n_peers; i++) {
        run_once(p, i);
        for (size_t j = 0; j < (size_t)p->m * (size_t)p->n; j++) {
            if (!(fabsf(p->y[j] - p->peer_y[j]) <= 1e-5f * sqrtf((float)p->k))) {
                fprintf(stderr, "%s differs: %g and %g\n", peers[i].name, (double)p->y[j], (double)p->peer_y[j]);
                return -1;
            }
        }
    }
    for (double end = bench_now() + seconds;
         bench_now() < end;) { /* bursts, in turn: a peer's threads spin on for a while */
        for (int i = 0; i <= n_peers; i++) {
            usleep(SETTLE_US); /* until the threads of the one before have gone to sleep */
            double burst = bench_now(), start;
            int runs = 0;
            do {
                start = bench_now();
                if (run_once(p, i - 1)) return -1;
                best[i] = fmin(best[i], bench_now() - start);
            } while (++runs < 2 || bench_now() - burst < 1e-6 * BURST_US);
        }
    }
    double best_peer = INFINITY;
    printf("%5d x %5d x %5d  attn %7.1f", p->m, p->n, p->k, 1e-9 * flops / best[0]);
    if (peak > 0.0) printf(" (%2.0f %% of the peak)", 100.0 * flops / best[0] / peak);
    for (int i = 0; i < n_peers; i++) {
        printf("  %s %7.1f", peers[i].name, 1e-9 * flops / best[i + 1]);
        best_peer = fmin(best_peer, best[i + 1]);
    }
    if (n_peers > 0) printf("  ratio %.2f", best_peer / best[0]);
    printf("\n");
    fflush(stdout);
    return 0;
}

/* "library:symbol", and the number of threads where the library has a function for it. */
static int open_peer(char *text, int threads) {
    char *colon = strrchr(text, ':');
    if (!colon || n_peers == PEERS) return -1;
    *colon = 0;
    void *library = dlopen(text, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return -1;
    }
    struct peer *peer = &peers[n_peers];
    void *symbol = dlsym(library, colon + 1), *set = dlsym(library, "openblas_set_num_threads");
    if (!symbol) return -1;
    memcpy(&peer->run, &symbol, sizeof symbol); /* ISO C has no conversion to a pointer to a function */
    peer->name = strrchr(text, '/') ? strrchr(text, '/') + 1 : text;
    n_peers++;
    if (set) {
        void (*set_threads)(int);
        memcpy(&set_threads, &set, sizeof set);
        set_threads(threads);
    } else if ((set = dlsym(library, "MKL_Set_Num_Threads_Local")) != NULL) {
        int (*set_threads)(int);
        memcpy(&set_threads, &set, sizeof set);
        set_threads(threads);
    }
    return 0;
}

int main(int count, char **arguments) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *ctx;
    options.threads = count > 1 ? (int)strtol(arguments[1], NULL, 10) : 0;
    double seconds = count > 2 ? strtod(arguments[2], NULL) : 2.0;
    if (attn_context_create(&ctx, &options) != ATTN_OK) {
        fprintf(stderr, "usage: gemm THREADS SECONDS [LIBRARY:SYMBOL...]\n");
        return 2;
    }
    for (int i = 3; i < count; i++)
        if (open_peer(arguments[i], attn_threads(ctx))) return 2;
    double peak = peak_measure(ctx, peak_f32(attn_cpu_level(ctx)), PEAK_RUNS);
    printf("%s, %d threads, GFLOP/s; FMA peak %.1f\n", attn_cpu_level(ctx), attn_threads(ctx), 1e-9 * peak);
    int failed = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && !failed; i++) {
        const int m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
        problem p = {m, n, k, random_matrix(m, k), random_matrix(n, k), random_matrix(m, n), random_matrix(m, n), ctx};
        failed = !p.x || !p.w || !p.y || !p.peer_y || bench(&p, seconds, peak);
        free(p.x), free(p.w), free(p.y), free(p.peer_y);
    }
    attn_context_free(ctx);
    return failed ? 1 : 0;
}
