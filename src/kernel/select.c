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
#ifdef ATTN_AMX
/* Linux gives a process the registers of tiles when it asks; threads that live already get them too. */
static bool has_amx(void) {
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18, EDX_AMX_BF16 = 22, EDX_AMX_TILE = 24 };
    unsigned a, b, c, d = 0;
    return has_avx512() && __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d) &&
           d >> EDX_AMX_BF16 & 1 && d >> EDX_AMX_TILE & 1 &&
           syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}
#endif
#elif defined(__aarch64__)
extern const attn_kernels attn_kernels_neon;
#endif

static bool always(void) { return true; }

/* What a machine may run, best last: a table, and one of those that have nothing but what works on pairs. */
typedef struct offer {
    const attn_kernels *table, *pairs; /* pairs: NULL, or these instead of the table's */
    bool (*runs)(void);
    bool only_by_name;
} offer;
static const offer offers[] = {
    {&attn_kernels_scalar, NULL, always, false},
#if defined(__x86_64__)
#ifdef ATTN_AMX_EMULATED
    {&attn_kernels_avx512, &attn_kernels_amx_emulated, has_avx512, true},
#endif
    {&attn_kernels_avx2, NULL, has_avx2, false},
    {&attn_kernels_avx512, NULL, has_avx512, false},
    {&attn_kernels_avx512, &attn_kernels_avx512_bf16, has_avx512_bf16, false},
#ifdef ATTN_AMX
    {&attn_kernels_avx512, &attn_kernels_amx, has_amx, false},
#endif
#elif defined(__aarch64__)
    {&attn_kernels_neon, NULL, always, false},
#endif
};
enum { OFFERS = sizeof offers / sizeof offers[0] };
static const char *level_of(const offer *o) { return o->pairs ? o->pairs->level : o->table->level; }

bool attn_kernels_get(attn_kernels *table, const char *level) {
    for (size_t i = OFFERS; i-- > 0;) {
        const offer *o = offers + i;
        if (level ? strcmp(level, level_of(o)) != 0 : o->only_by_name) continue;
        if (!o->runs()) continue;
        *table = *o->table;
        if (!o->pairs) return true;
        table->level = o->pairs->level, table->fast_bf16 = o->pairs->fast_bf16;
        table->pair_lanes = o->pairs->pair_lanes, table->pair_group = o->pairs->pair_group;
#define REPLACE(result, name, arguments) table->name = o->pairs->name;
        ATTN_PAIR_KERNEL_LIST(REPLACE)
#undef REPLACE
        return true;
    }
    return false;
}

static const char *levels[OFFERS + 1];
static void find_levels(void) {
    size_t n = 0;
    for (size_t i = 0; i < OFFERS; i++) {
        const bool other = n == 0 || strcmp(levels[n - 1], level_of(offers + i)) != 0;
        if (other && offers[i].runs()) levels[n++] = level_of(offers + i);
    }
}
const char *const *attn_kernels_levels(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_levels);
    return levels;
}

attn_i8_kernels attn_i8_kernels_for(const attn_kernels *table) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (table->lanes == 16 && __builtin_cpu_supports("avx512vnni"))
        return (attn_i8_kernels){attn_vnni_scores_i8, attn_vnni_softmax_i8, attn_vnni_steps, attn_vnni_mix_i8};
#endif
    return (attn_i8_kernels){table->decode_scores_i8, table->decode_softmax_i8, table->decode_steps,
                             table->decode_mix_i8};
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
