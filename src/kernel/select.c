#include "kernel/select.h"
#include "kernel/quantised.h"
#include "kernel/vnni.h"
#include <pthread.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

extern const attn_kernels attn_kernels_scalar;
#if defined(__x86_64__)
extern const attn_kernels attn_kernels_avx2, attn_kernels_avx512, attn_kernels_avx512_bf16;
#ifdef ATTN_AMX
extern const attn_kernels attn_kernels_amx;
#endif
#ifdef ATTN_AMX_EMULATED
extern const attn_kernels attn_kernels_amx_emulated;
#endif
/* __builtin_cpu_supports also asks whether the operating system saves these registers. */
static bool has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
/* Intel's AVX512_BF16 takes two multiply-adds' time for two, so there it is worth nothing. */
static bool has_avx512_bf16(void) {
    return has_avx512() && __builtin_cpu_supports("avx512bf16") && !__builtin_cpu_is("intel");
}
/* Linux gives a process the registers of tiles when it asks; threads that live already get them too. */
static bool has_amx(void) {
#if defined(ATTN_AMX) && defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18, EDX_AMX_BF16 = 22, EDX_AMX_TILE = 24 };
    unsigned a, b, c, d = 0;
    return has_avx512() && __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           d >> EDX_AMX_BF16 & 1 && d >> EDX_AMX_TILE & 1 &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}
#elif defined(__aarch64__)
extern const attn_kernels attn_kernels_neon;
#endif

static const attn_kernels *offer(const attn_kernels *best, const attn_kernels *table, const char *level) {
    return !level || strcmp(level, table->level) == 0 ? table : best;
}

#if defined(__x86_64__)
/* Tables of avx512 in which other kernels work on pairs. */
static attn_kernels with_bf16, with_amx, with_emulated;
static void replace_pairs(attn_kernels *table, const attn_kernels *pairs) {
    *table = attn_kernels_avx512;
    table->level = pairs->level, table->fast_bf16 = pairs->fast_bf16;
    table->pair_lanes = pairs->pair_lanes, table->pair_group = pairs->pair_group;
#define REPLACE(result, name, arguments) table->name = pairs->name;
    ATTN_PAIR_KERNEL_LIST(REPLACE)
#undef REPLACE
}
static void make_tables(void) {
    replace_pairs(&with_bf16, &attn_kernels_avx512_bf16);
#ifdef ATTN_AMX
    replace_pairs(&with_amx, &attn_kernels_amx);
#endif
#ifdef ATTN_AMX_EMULATED
    replace_pairs(&with_emulated, &attn_kernels_amx_emulated);
#endif
}

const attn_kernels *attn_kernels_for(const char *level) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_tables);
    const attn_kernels *best = offer(NULL, &attn_kernels_scalar, level);
    if (has_avx2()) best = offer(best, &attn_kernels_avx2, level);
    if (has_avx512()) best = offer(best, &attn_kernels_avx512, level);
    if (has_avx512_bf16()) best = offer(best, &with_bf16, level);
    if (level && has_avx512() && with_emulated.level) best = offer(best, &with_emulated, level); /* never by itself */
    if ((!level || strcmp(level, "amx") == 0) && has_amx()) best = &with_amx; /* the system is asked only then */
    return best;
}
#else
const attn_kernels *attn_kernels_for(const char *level) {
    const attn_kernels *best = offer(NULL, &attn_kernels_scalar, level);
#if defined(__aarch64__)
    best = offer(best, &attn_kernels_neon, level);
#endif
    return best;
}
#endif

static const char *const all_levels[] = {"scalar", "amx_emulated", "neon", "avx2", "avx512", "amx"};
static const char *levels[sizeof all_levels / sizeof all_levels[0] + 1];
static void make_levels(void) {
    size_t n = 0;
    for (size_t i = 0; i < sizeof all_levels / sizeof all_levels[0]; i++)
        if (attn_kernels_for(all_levels[i])) levels[n++] = all_levels[i];
}
const char *const *attn_kernels_levels(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_levels);
    return levels;
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
