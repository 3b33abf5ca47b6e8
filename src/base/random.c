/* random.c: Philox4x32-10 and what is drawn from it.
 *
 * A stream's word number p is word p mod 4 of the block with counter (p / 4, stream) and key seed, so that any place of
 * any stream can be computed alone.
 *
 * Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3". */
#include "base/base.h"

#include <math.h>

void attn_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u; /* the golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) − 1 */
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* The next n ≤ 4 words; one block is computed, or two where they straddle. */
static void take(attn_random *random, uint32_t *words, int n) {
    uint64_t computed = UINT64_MAX; /* no block: positions are divided by 4 */
    uint32_t block[4];
    for (int i = 0; i < n; i++, random->position++) {
        uint64_t number = random->position / 4;
        if (number != computed) {
            const uint32_t counter[4] = {(uint32_t)number, (uint32_t)(number >> 32), (uint32_t)random->stream,
                                         (uint32_t)(random->stream >> 32)};
            const uint32_t key[2] = {(uint32_t)random->seed, (uint32_t)(random->seed >> 32)};
            attn_philox(block, counter, key);
            computed = number;
        }
        words[i] = block[random->position % 4];
    }
}

static uint64_t take_u64(attn_random *random) {
    uint32_t words[2];
    take(random, words, 2);
    return (uint64_t)words[1] << 32 | words[0];
}

uint32_t attn_random_u32(attn_random *random) {
    uint32_t word;
    take(random, &word, 1);
    return word;
}

/* Lemire 2019, "Fast random integer generation in an interval": the high half of a product, with the few low halves
 * drawn again that would make some results likelier. */
uint64_t attn_random_below(attn_random *random, uint64_t n) {
    if (n == 0) return 0;
    unsigned __int128 product = (unsigned __int128)take_u64(random) * n;
    if ((uint64_t)product < n) {
        uint64_t unfair = (0 - n) % n; /* 2^64 mod n */
        while ((uint64_t)product < unfair) product = (unsigned __int128)take_u64(random) * n;
    }
    return (uint64_t)(product >> 64);
}

double attn_random_uniform(attn_random *random) { return (double)(take_u64(random) >> 11) * 0x1p-53; }

/* Box & Muller 1958; one of the pair, from four words. 1 − u is in (0, 1], so the logarithm is finite. */
double attn_random_normal(attn_random *random) {
    uint32_t words[4];
    take(random, words, 4);
    double u = (double)(((uint64_t)words[1] << 32 | words[0]) >> 11) * 0x1p-53;
    double v = (double)(((uint64_t)words[3] << 32 | words[2]) >> 11) * 0x1p-53;
    return sqrt(-2.0 * log(1.0 - u)) * cos(6.283185307179586476925 * v);
}

uint64_t attn_hash_text(const char *text, size_t bytes) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return hash;
}
