/* peak.c: independent chains of multiply-adds in registers, and sums over memory. */
#include "peak.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { TURNS = 500000, TILE_TURNS = 20000, CHAINS = 12, TILES = 4, READ_BYTES = 1 << 28, READ_RUNS = 5 };

double bench_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#if defined(__x86_64__)
/* One turn: a step of each chain. The chains have names because an array of them may end up in memory. */
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define START(i) c##i = x;
#define KEEP(i) __asm__ volatile("" : "+v"(c##i));
__attribute__((target("avx512f"))) static void f32_avx512(void *arg, size_t index) {
    (void)arg, (void)index;
    __m512 x = _mm512_set1_ps(0.999f), c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
#define STEP(i) c##i = _mm512_fmadd_ps(x, c##i, x);
    EACH(START)
    for (int i = 0; i < TURNS; i++) {
        EACH(STEP)
        EACH(KEEP)
    }
#undef STEP
}
__attribute__((target("avx2,fma"))) static void f32_avx2(void *arg, size_t index) {
    (void)arg, (void)index;
    __m256 x = _mm256_set1_ps(0.999f), c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
#define STEP(i) c##i = _mm256_fmadd_ps(x, c##i, x);
    EACH(START)
    for (int i = 0; i < TURNS; i++) {
        EACH(STEP)
        EACH(KEEP)
    }
#undef STEP
}
__attribute__((target("avx512f,avx512bf16"))) static void bf16_avx512(void *arg, size_t index) {
    (void)arg, (void)index;
    __m512 x = _mm512_set1_ps(0.999f), c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
    __m512bh y = _mm512_cvtne2ps_pbh(x, x);
#define STEP(i) c##i = _mm512_dpbf16_ps(c##i, y, y);
    EACH(START)
    for (int i = 0; i < TURNS; i++) {
        EACH(STEP)
        EACH(KEEP)
    }
#undef STEP
}

/* A bit of cpuid leaf 7; register 0 is eax, 3 edx. */
static bool cpu_has(unsigned subleaf, int reg, int bit) {
    unsigned r[4] = {0};
    return __get_cpuid_count(7, subleaf, &r[0], &r[1], &r[2], &r[3]) && r[reg] >> bit & 1;
}

#if defined(__linux__)
/* Four sums of 16×16, from two tiles of 16×32 each side: 16 · 16 · 32 multiply-adds an instruction. */
__attribute__((target("amx-tile,amx-bf16"))) static void bf16_amx(void *arg, size_t index) {
    static const struct { /* constant, as the compiler does not know that all of it is read */
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};
    static const uint16_t zeros[16 * 32];
    (void)arg, (void)index;
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    _tile_loadd(6, zeros, 64);
    _tile_loadd(7, zeros, 64);
    for (int i = 0; i < TILE_TURNS; i++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
}

/* The kernel gives tiles to those who ask. */
static bool may_use_tiles(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18, EDX_AMX_BF16 = 22, EDX_AMX_TILE = 24 };
    return cpu_has(0, 3, EDX_AMX_BF16) && cpu_has(0, 3, EDX_AMX_TILE) &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#endif
#endif

peak_kind peak_f32(const char *level) {
    (void)level;
#if defined(__x86_64__)
    if (strcmp(level, "avx512") == 0 || strcmp(level, "amx") == 0)
        return (peak_kind){"f32 avx512", f32_avx512, 2.0 * 16 * CHAINS * TURNS};
    if (strcmp(level, "avx2") == 0) return (peak_kind){"f32 avx2", f32_avx2, 2.0 * 8 * CHAINS * TURNS};
#endif
    return (peak_kind){"f32", NULL, 0.0};
}

peak_kind peak_bf16(const char *level) {
    (void)level;
#if defined(__x86_64__)
    enum { EAX_AVX512_BF16 = 5 };
    bool wide = strcmp(level, "avx512") == 0;
#if defined(__linux__)
    if (strcmp(level, "amx") == 0 && may_use_tiles())
        return (peak_kind){"bf16 amx", bf16_amx, 2.0 * 16 * 16 * 32 * TILES * TILE_TURNS};
#endif
    if (wide && cpu_has(1, 0, EAX_AVX512_BF16))
        return (peak_kind){"bf16 avx512", bf16_avx512, 2.0 * 32 * CHAINS * TURNS};
#endif
    return (peak_kind){"bf16", NULL, 0.0};
}

double peak_measure(attn_context *ctx, peak_kind kind, int bursts) {
    double best = INFINITY;
    size_t threads = (size_t)attn_threads(ctx);
    if (!kind.run) return 0.0;
    for (int i = 0; i < bursts; i++) {
        double start = bench_now();
        attn_parallel_for(ctx, threads, kind.run, NULL);
        best = fmin(best, bench_now() - start);
    }
    return kind.flop * (double)threads / best;
}

/* ---- memory -------------------------------------------------------------------------------------- */

typedef struct reading {
    const uint64_t *words;
    size_t count; /* of a thread */
    volatile uint64_t sink;
} reading;

static void read_share(void *arg, size_t index) {
    reading *r = arg;
    const uint64_t *p = r->words + index * r->count;
    uint64_t sum[16] = {0};
    for (size_t i = 0; i + 16 <= r->count; i += 16)
        for (size_t j = 0; j < 16; j++) sum[j] += p[i + j];
    for (int j = 1; j < 16; j++) sum[0] += sum[j];
    r->sink = sum[0];
}

double peak_bandwidth(attn_context *ctx) {
    size_t threads = (size_t)attn_threads(ctx);
    uint64_t *words = malloc(READ_BYTES);
    double best = INFINITY;
    if (!words) return 0.0;
    memset(words, 1, READ_BYTES);
    reading r = {words, READ_BYTES / sizeof *words / threads, 0};
    for (int i = 0; i < READ_RUNS; i++) {
        double start = bench_now();
        attn_parallel_for(ctx, threads, read_share, &r);
        best = fmin(best, bench_now() - start);
    }
    free(words);
    return (double)(r.count * threads * sizeof *words) / best;
}
