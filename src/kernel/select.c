#include "kernel/select.h"
#include "kernel/quantised.h"
#include "kernel/vnni.h"
#include <string.h>
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

extern const attn_kernels attn_kernels_scalar;
#if defined(__x86_64__)
extern const attn_kernels attn_kernels_avx2, attn_kernels_avx512, attn_kernels_avx512_bf16;
/* __builtin_cpu_supports also asks whether the operating system saves these registers. */
static bool has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#elif defined(__aarch64__)
extern const attn_kernels attn_kernels_neon;
#endif

static const attn_kernels *offer(const attn_kernels *best, const attn_kernels *table, const char *level) {
    return !level || strcmp(level, table->level) == 0 ? table : best;
}

const attn_kernels *attn_kernels_for(const char *level) {
    const attn_kernels *best = offer(NULL, &attn_kernels_scalar, level);
#if defined(__x86_64__)
    if (has_avx2()) best = offer(best, &attn_kernels_avx2, level);
    if (has_avx512()) best = offer(best, &attn_kernels_avx512, level);
    if (has_avx512() && __builtin_cpu_supports("avx512bf16")) best = offer(best, &attn_kernels_avx512_bf16, level);
#elif defined(__aarch64__)
    best = offer(best, &attn_kernels_neon, level);
#endif
    return best;
}

const char *const *attn_kernels_levels(void) {
#if defined(__x86_64__)
    static const char *const levels[] = {"scalar", "avx2", "avx512", NULL};
    static const char *const up_to_avx2[] = {"scalar", "avx2", NULL};
    static const char *const up_to_scalar[] = {"scalar", NULL};
    if (has_avx512()) return levels;
    if (has_avx2()) return up_to_avx2;
    return up_to_scalar;
#elif defined(__aarch64__)
    static const char *const levels[] = {"scalar", "neon", NULL};
    return levels;
#else
    static const char *const levels[] = {"scalar", NULL};
    return levels;
#endif
}

attn_scores_i8 *attn_scores_i8_for(const attn_kernels *table) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (table->lanes == 16 && __builtin_cpu_supports("avx512vnni")) return attn_vnni_scores_i8;
#endif
    return table->decode_scores_i8;
}

extern const attn_quantised_kernels attn_quantised_kernels_scalar;
#if defined(__x86_64__)
extern const attn_quantised_kernels attn_quantised_kernels_avx2, attn_quantised_kernels_avx2_vnni;
extern const attn_quantised_kernels attn_quantised_kernels_avx512_vnni;
#elif defined(__aarch64__)
extern const attn_quantised_kernels attn_quantised_kernels_neon, attn_quantised_kernels_neon_dot;
static bool has_dot_products(void) {
#if defined(__linux__)
    return getauxval(AT_HWCAP) >> 20 & 1; /* HWCAP_ASIMDDP */
#elif defined(__APPLE__)
    return true;
#else
    return false;
#endif
}
#endif

const attn_quantised_kernels *attn_quantised_kernels_for(const attn_kernels *table, bool plain) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (table->lanes == 16 && !plain && __builtin_cpu_supports("avx512vnni"))
        return &attn_quantised_kernels_avx512_vnni;
    if (table->lanes >= 8 && !plain && __builtin_cpu_supports("avxvnni")) return &attn_quantised_kernels_avx2_vnni;
    if (table->lanes >= 8) return &attn_quantised_kernels_avx2;
#elif defined(__aarch64__)
    if (table->lanes == 4)
        return !plain && has_dot_products() ? &attn_quantised_kernels_neon_dot : &attn_quantised_kernels_neon;
#endif
    (void)plain;
    return &attn_quantised_kernels_scalar;
}
