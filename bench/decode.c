/* decode.c: attention of one query as a server of cases, from rows or from a cache; bench/decode.py drives it.
 *
 * usage: decode THREADS FORM, FORM rows, cache, paged or i8; on its input, one a line:
 *     case key=value …   B H Hk T S D Dv dtype, and the folder with q, k and v as f32  →  ok FORM | no WHY not
 *     run N              N calls, one after another                                    →  seconds
 *     roof N             N sums over as many bytes as K and V have in that dtype       →  seconds
 *     save               writes FORM.out as f32                                        →  ok
 *     peak               FLOP/s of f32 products                                        →  key=value  */
#include "line.h"
#include <attn/cache.h>

#include "peak.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 4096, BURSTS = 30, PIECES = 4 };

typedef struct bench_case {
    size_t b, h, hk, t, s, d, dv;
    attn_dtype dtype;
    char folder[LINE];
    attn_tensor q, k, v, out;
    attn_kv_cache *cache;
} bench_case;

static uint16_t to_bf16(float x) { /* to nearest, ties to even; the inputs have no NaN */
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* A file of f32 as a tensor of dtype. */
static bool load(attn_tensor *x, const bench_case *c, const char *name, size_t h, size_t n, size_t d) {
    char path[LINE + 16];
    *x = attn_tensor_of(NULL, c->dtype, 4, (size_t[]){c->b, h, n, d});
    const size_t row = n * d, size = attn_dtype_size(c->dtype);
    char *data = aligned_alloc(64, (attn_tensor_count(x) * size + 63) / 64 * 64);
    float *part = malloc(row * sizeof *part);
    snprintf(path, sizeof path, "%s/%s", c->folder, name);
    FILE *file = fopen(path, "rb");
    bool good = data && part && file;
    x->data = data;
    for (size_t i = 0; good && i < c->b * h; i++, data += row * size) {
        good = fread(part, sizeof *part, row, file) == row;
        if (c->dtype == ATTN_F32) memcpy(data, part, row * size);
        else
            for (size_t j = 0; j < row; j++) ((uint16_t *)(void *)data)[j] = to_bf16(part[j]);
    }
    if (file) fclose(file);
    free(part);
    return good;
}

static void forget(attn_context *ctx, bench_case *c) {
    attn_kv_cache_free(ctx, c->cache);
    free(c->q.data), free(c->k.data), free(c->v.data), free(c->out.data);
    memset(c, 0, sizeof *c);
}

static const char *prepare(attn_context *ctx, bench_case *c, const char *line, const char *form) {
    forget(ctx, c);
    c->b = size_of(line, "B"), c->h = size_of(line, "H"), c->hk = size_of(line, "Hk");
    c->t = size_of(line, "T"), c->s = size_of(line, "S"), c->d = size_of(line, "D"), c->dv = size_of(line, "Dv");
    c->dtype = strncmp(value_of(line, "dtype"), "bf16", 4) == 0 ? ATTN_BF16 : ATTN_F32;
    snprintf(c->folder, sizeof c->folder, "%s", value_of(line, "folder")); /* the last of the line */
    if (!load(&c->q, c, "q", c->h, c->t, c->d) || !load(&c->k, c, "k", c->hk, c->s, c->d) ||
        !load(&c->v, c, "v", c->hk, c->s, c->dv))
        return "the inputs cannot be read";
    c->out = attn_tensor_of(NULL, c->dtype, 4, (size_t[]){c->b, c->h, c->t, c->dv});
    c->out.data = malloc(attn_tensor_count(&c->out) * attn_dtype_size(c->dtype));
    if (!c->out.data) return "out of memory";
    if (strcmp(form, "rows") == 0) return NULL;
    attn_kv_cache_options o = ATTN_KV_CACHE_OPTIONS_INIT;
    o.sequences = c->b, o.key_heads = c->hk, o.d = c->d, o.dv = c->dv, o.capacity = c->s, o.dtype = c->dtype;
    if (strcmp(form, "paged") == 0) o.page = 16;
    if (strcmp(form, "i8") == 0) o.dtype = ATTN_I8;
    if (attn_kv_cache_create(&c->cache, ctx, &o) != ATTN_OK ||
        attn_kv_cache_append(ctx, c->cache, &c->k, &c->v, NULL) != ATTN_OK)
        return attn_error(ctx);
    free(c->k.data), free(c->v.data);
    c->k.data = c->v.data = NULL;
    return NULL;
}

static attn_status run(attn_context *ctx, const bench_case *c) {
    if (c->cache) return attn_kv_cache_attend(ctx, &c->out, NULL, &c->q, c->cache, NULL);
    return attn_attention_fwd(ctx, &c->out, NULL, &c->q, &c->k, &c->v, NULL);
}

/* ---- the roof --------------------------------------------------------------------------------------- */

typedef uint64_t words __attribute__((vector_size(64)));
typedef struct roof_job {
    const words *data;
    size_t count, pieces;
    _Atomic uint64_t sum;
} roof_job;

#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
static uint64_t
sum_of(const words *x, size_t n) {
    words a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 4 <= n; i += 4) a += x[i], b += x[i + 1], c += x[i + 2], d += x[i + 3];
    a += b + c + d;
    return a[0] + a[1] + a[2] + a[3] + a[4] + a[5] + a[6] + a[7];
}

static void roof_task(void *argument, size_t index) {
    roof_job *job = argument;
    const size_t each = job->count / job->pieces;
    job->sum += sum_of(job->data + index * each, each);
}

static double roof(attn_context *ctx, const bench_case *c, size_t calls) {
    const size_t elements = c->b * c->hk * c->s * (c->d + c->dv);
    const size_t bytes =
        elements * (c->cache && attn_kv_cache_options_of(c->cache)->dtype == ATTN_I8 ? 1 : attn_dtype_size(c->dtype));
    roof_job job = {.count = bytes / sizeof(words), .pieces = PIECES * (size_t)attn_threads(ctx)};
    words *data = aligned_alloc(64, bytes);
    if (!data) return NAN;
    memset(data, 1, bytes);
    job.data = data;
    attn_parallel_for(ctx, job.pieces, roof_task, &job);
    const double start = bench_now();
    for (size_t i = 0; i < calls; i++) attn_parallel_for(ctx, job.pieces, roof_task, &job);
    const double seconds = bench_now() - start;
    free(data);
    return seconds;
}

static const char *save(const bench_case *c, const char *form) {
    char path[LINE + 16];
    snprintf(path, sizeof path, "%s/%s.out", c->folder, form);
    FILE *file = fopen(path, "wb");
    bool good = file != NULL;
    for (size_t i = 0; good && i < attn_tensor_count(&c->out); i++) {
        float x;
        const uint32_t bits = c->dtype == ATTN_BF16 ? (uint32_t)((uint16_t *)c->out.data)[i] << 16 : 0;
        if (c->dtype == ATTN_BF16) memcpy(&x, &bits, sizeof x);
        else x = ((float *)c->out.data)[i];
        good = fwrite(&x, sizeof x, 1, file) == 1;
    }
    if (file) fclose(file);
    return good ? "ok" : "no file";
}

int main(int argc, char **argv) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    attn_context *ctx;
    static bench_case c;
    char line[LINE];
    if (argc != 3) return 2;
    options.threads = atoi(argv[1]);
    if (attn_context_create(&ctx, &options) != ATTN_OK) return 1;
    printf("ready attn %s %s %s\n", ATTN_VERSION, attn_cpu_level(ctx), argv[2]);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        size_t n = 0;
        if (strncmp(line, "case ", 5) == 0) {
            const char *problem = prepare(ctx, &c, line + 5, argv[2]);
            if (!problem && run(ctx, &c) != ATTN_OK) problem = attn_error(ctx);
            printf("%s %s\n", problem ? "no" : "ok", problem ? problem : argv[2]);
        } else if (sscanf(line, "run %zu", &n) == 1) {
            const double start = bench_now();
            for (size_t i = 0; i < n; i++) run(ctx, &c);
            printf("%.9f\n", bench_now() - start);
        } else if (sscanf(line, "roof %zu", &n) == 1) {
            printf("%.9f\n", roof(ctx, &c, n));
        } else if (strcmp(line, "save") == 0) {
            printf("%s\n", save(&c, argv[2]));
        } else if (strcmp(line, "peak") == 0) {
            printf("f32=%.0f bf16=%.0f\n", peak_measure(ctx, peak_f32(attn_cpu_level(ctx)), BURSTS),
                   peak_measure(ctx, peak_bf16(attn_cpu_level(ctx)), BURSTS));
        }
        fflush(stdout);
    }
    forget(ctx, &c);
    attn_context_free(ctx);
    return 0;
}
