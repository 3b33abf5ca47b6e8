/* peak.h: what this machine can do at most, on the threads of a context. */
#ifndef BENCH_PEAK_H
#define BENCH_PEAK_H

#include <attn/base.h>

typedef struct peak_kind {
    const char *name; /* "f32 avx512", "bf16 avx512", "bf16 amx" … */
    attn_task *run;   /* one burst of a thread; arg is not used */
    double flop;      /* of a burst */
} peak_kind;

double bench_now(void); /* seconds */

/* Multiply-adds in registers: of the level's vectors, and those in bf16 which the CPU has at that level. run is NULL
 * where it is not known. */
peak_kind peak_f32(const char *level);
peak_kind peak_bf16(const char *level);
/* FLOP/s: the best of so many bursts on all threads. 0 where run is NULL. */
double peak_measure(attn_context *ctx, peak_kind kind, int bursts);
/* Bytes per second that all threads read from a buffer far larger than the caches. 0 when out of memory. */
double peak_bandwidth(attn_context *ctx);

#endif
