/* attention.c: our attention as a server of cases; bench/attention.py drives it beside the peers.
 *
 * usage: attention THREADS, and on its input, one a line:
 *     case key=value …   prepares a case: B H Hk T S D Dv dtype window dropout backward causal padding, and the folder
 *                        with q, k, v and dout as f32        →  ok WHAT is timed | no WHY not
 *     run N              N calls, one after another          →  seconds
 *     save               writes attn.out, attn.dq … as f32   →  ok
 *     peaks              FLOP/s and bytes/s of this machine  →  key=value …
 *     peak DTYPE         the best burst so far: bf16 products for bf16 where the level has them, else f32  →  FLOP/s */
#include <attn/attention.h>

#include "line.h"
#include "peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 4096, PEAK_BURSTS = 30, FEW_BURSTS = 3 };

enum { Q, K, V, DOUT, OUT, DQ, DK, DV, ARRAYS };
static const char *const names[ARRAYS] = {"q", "k", "v", "dout", "out", "dq", "dk", "dv"};

typedef struct bench_case {
    size_t b, h, hk, t, s, d, dv;
    attn_dtype dtype;
    bool backward;
    char folder[LINE];
    attn_tensor x[ARRAYS], lse; /* (b, h or hk, t or s, d or dv), (b, h, t) */
    int32_t *lengths;           /* (b), or NULL */
    attn_attention_options options;
} bench_case;

/* ---- numbers ------------------------------------------------------------------------------------- */

static uint16_t to_bf16(float x) { /* to nearest, ties to even; the inputs have no NaN */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float y;
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* ---- a case -------------------------------------------------------------------------------------- */

static void forget(bench_case *c) {
    for (int i = 0; i < ARRAYS; i++) free(c->x[i].data);
    free(c->lse.data), free(c->lengths);
    memset(c, 0, sizeof *c);
}

static int make(attn_tensor *x, attn_dtype dtype, size_t b, size_t h, size_t n, size_t d) {
    size_t shape[4] = {b, h, n, d};
    *x = attn_tensor_of(NULL, dtype, 4, shape);
    x->data = calloc(attn_tensor_count(x), attn_dtype_size(dtype));
    return x->data ? 0 : -1;
}

/* f32 in the file, the tensor's dtype in memory. */
static int transfer(const bench_case *c, int which, const char *mode) {
    char path[LINE + 16];
    const attn_tensor *x = &c->x[which];
    size_t n = attn_tensor_count(x);
    bool out = mode[0] == 'w', narrow = x->dtype == ATTN_BF16;
    snprintf(path, sizeof path, "%s/%s%s", c->folder, out ? "attn." : "", names[which]);
    float *values = narrow ? malloc(n * sizeof *values) : x->data;
    FILE *file = fopen(path, mode);
    size_t done = 0;
    if (file && values) {
        if (out && narrow)
            for (size_t i = 0; i < n; i++) values[i] = from_bf16(((uint16_t *)x->data)[i]);
        done = out ? fwrite(values, sizeof *values, n, file) : fread(values, sizeof *values, n, file);
        if (!out && narrow)
            for (size_t i = 0; i < n; i++) ((uint16_t *)x->data)[i] = to_bf16(values[i]);
    }
    if (file) fclose(file);
    if (narrow) free(values);
    return done == n ? 0 : -1;
}

static const char *prepare(bench_case *c, const char *line) {
    forget(c);
    c->b = size_of(line, "B"), c->h = size_of(line, "H"), c->hk = size_of(line, "Hk");
    c->t = size_of(line, "T"), c->s = size_of(line, "S"), c->d = size_of(line, "D"), c->dv = size_of(line, "Dv");
    c->backward = size_of(line, "backward") != 0;
    c->dtype = strncmp(value_of(line, "dtype"), "bf16", 4) == 0 ? ATTN_BF16 : ATTN_F32;
    snprintf(c->folder, sizeof c->folder, "%s", value_of(line, "folder")); /* the last of the line */
    int failed = make(&c->x[Q], c->dtype, c->b, c->h, c->t, c->d) | make(&c->x[K], c->dtype, c->b, c->hk, c->s, c->d) |
                 make(&c->x[V], c->dtype, c->b, c->hk, c->s, c->dv) |
                 make(&c->x[OUT], c->dtype, c->b, c->h, c->t, c->dv);
    failed |= make(&c->x[DOUT], c->dtype, c->b, c->h, c->t, c->dv);
    failed |= make(&c->x[DQ], c->dtype, c->b, c->h, c->t, c->d) | make(&c->x[DK], c->dtype, c->b, c->hk, c->s, c->d) |
              make(&c->x[DV], c->dtype, c->b, c->hk, c->s, c->dv) | make(&c->lse, ATTN_F32, c->b, c->h, c->t, 1);
    if (failed) return "out of memory";
    c->lse.rank = 3;
    for (int i = Q; i <= DOUT; i++)
        if (transfer(c, i, "rb")) return "the input files are too short";
    c->options = (attn_attention_options)ATTN_ATTENTION_OPTIONS_INIT;
    if (size_of(line, "causal")) c->options.causal = ATTN_CAUSAL_TOP_LEFT;
    if (size_of(line, "window")) c->options.window_left = (int64_t)size_of(line, "window");
    c->options.dropout = strtof(value_of(line, "dropout"), NULL);
    c->options.seed = 1;
    if (size_of(line, "padding")) {
        c->lengths = malloc(c->b * sizeof *c->lengths);
        if (!c->lengths) return "out of memory";
        for (size_t b = 0; b < c->b; b++) c->lengths[b] = (int32_t)(c->s - b * c->s / (2 * c->b));
        c->options.kv_lengths = c->lengths;
    }
    return NULL;
}

static attn_status run(attn_context *ctx, const bench_case *c) {
    const attn_tensor *x = c->x;
    attn_status status =
        attn_attention_fwd(ctx, &x[OUT], c->backward ? &c->lse : NULL, &x[Q], &x[K], &x[V], &c->options);
    if (status != ATTN_OK || !c->backward) return status;
    attn_attention_grads grads = ATTN_ATTENTION_GRADS_INIT;
    grads.dq = &x[DQ], grads.dk = &x[DK], grads.dv = &x[DV];
    return attn_attention_bwd(ctx, &grads, &x[DOUT], NULL, &x[Q], &x[K], &x[V], &x[OUT], &c->lse, &c->options);
}

/* ---- the server ---------------------------------------------------------------------------------- */

/* The first line of what attn_attention_explain says, in one line. */
static void answer_case(attn_context *ctx, const bench_case *c, const char *problem) {
    char text[LINE] = "";
    if (!problem && run(ctx, c) != ATTN_OK) problem = attn_error(ctx);
    if (problem) {
        printf("no %s\n", problem);
        return;
    }
    if (attn_attention_explain(ctx, text, sizeof text, &c->x[Q], &c->x[K], &c->x[V], &c->options) != ATTN_OK)
        snprintf(text, sizeof text, "%s", attn_cpu_level(ctx));
    for (char *p = text; *p; p++)
        if (*p == '\n') *p = p[1] ? ';' : 0;
    printf("ok %s\n", text);
}

static void answer_peaks(attn_context *ctx) {
    for (const char *const *level = attn_cpu_levels(); *level; level++) {
        peak_kind kinds[2] = {peak_f32(*level), peak_bf16(*level)};
        for (int i = 0; i < 2; i++) {
            double flops = peak_measure(ctx, kinds[i], PEAK_BURSTS);
            const char *space = strchr(kinds[i].name, ' ');
            if (flops > 0.0) printf("%.*s_%s=%.6g ", (int)(space - kinds[i].name), kinds[i].name, space + 1, flops);
        }
    }
    printf("bandwidth=%.6g\n", peak_bandwidth(ctx));
}

/* The best so far, since a burst that others disturb says too little. */
static void answer_peak(attn_context *ctx, const char *dtype) {
    static double best[2];
    peak_kind kind = peak_bf16(attn_cpu_level(ctx));
    bool narrow = strcmp(dtype, "bf16") == 0 && kind.run;
    if (!narrow) kind = peak_f32(attn_cpu_level(ctx));
    best[narrow] = fmax(best[narrow], peak_measure(ctx, kind, FEW_BURSTS));
    printf("%.6g\n", best[narrow]);
}

static void answer_run(attn_context *ctx, const bench_case *c, const char *line) {
    long n = strtol(line, NULL, 10);
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        if (run(ctx, c) != ATTN_OK) {
            printf("no %s\n", attn_error(ctx));
            return;
        }
    }
    printf("%.9f\n", bench_now() - start);
}

int main(int count, char **arguments) {
    static char line[LINE];
    bench_case c = {0};
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *ctx;
    options.threads = count > 1 ? (int)strtol(arguments[1], NULL, 10) : 0;
    if (attn_context_create(&ctx, &options) != ATTN_OK) {
        fprintf(stderr, "usage: attention THREADS\n");
        return 2;
    }
    printf("ready attn %s, %s\n", ATTN_VERSION, attn_cpu_level(ctx));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "case ", 5) == 0) answer_case(ctx, &c, prepare(&c, line + 5));
        else if (strncmp(line, "run ", 4) == 0) answer_run(ctx, &c, line + 4);
        else if (strcmp(line, "peaks") == 0) answer_peaks(ctx);
        else if (strncmp(line, "peak ", 5) == 0) answer_peak(ctx, line + 5);
        else if (strcmp(line, "save") == 0) {
            int failed = 0;
            for (int i = OUT; i <= (c.backward ? DV : OUT); i++) failed |= transfer(&c, i, "wb");
            printf(failed ? "no the results cannot be written\n" : "ok\n");
        } else printf("no such command\n");
        fflush(stdout);
    }
    forget(&c);
    attn_context_free(ctx);
    return 0;
}
