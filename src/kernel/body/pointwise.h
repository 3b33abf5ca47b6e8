/* pointwise.h: element by element: sums, AdamW, dropout, sums of squares. */
#ifndef ATTN_KERNEL_BODY_POINTWISE_H
#define ATTN_KERNEL_BODY_POINTWISE_H

/* y = a + b; y may be a or b. */
static void vector_add(float *y, const float *a, const float *b, size_t n) {
    size_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) v_store(y + i, v_add(v_load(a + i), v_load(b + i)));
    if (i < n) v_store_n(y + i, v_add(v_load_n(a + i, n - i), v_load_n(b + i, n - i)), n - i);
}

/* Σ x² in double: sixteen chains, added in order. */
static double sum_of_squares(const float *x, size_t n) {
    double chain[16] = {0}, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) chain[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; i + j < n; j++) chain[j] += (double)x[i + j] * (double)x[i + j];
    for (size_t j = 0; j < 16; j++) sum += chain[j];
    return sum;
}

/* m = β1·m + (1 − β1)·g    v = β2·v + (1 − β2)·g²    value = decay·value − rate·m / (sqrt(v)·correction + ε) */
static void adamw(float *value, float *m, float *v, const float *grad, size_t n, const attn_adamw_factors *f) {
    V beta1 = v_set(f->beta1), beta2 = v_set(f->beta2), rest1 = v_set(1.0f - f->beta1), rest2 = v_set(1.0f - f->beta2);
    V scale = v_set(f->grad_scale), decay = v_set(f->decay), rate = v_set(f->rate);
    V correction = v_set(f->correction), epsilon = v_set(f->epsilon);
    for (size_t i = 0; i < n; i += V_LANES) {
        size_t k = n - i < V_LANES ? n - i : V_LANES;
        V g = v_mul(v_load_n(grad + i, k), scale);
        V first = v_fma(beta1, v_load_n(m + i, k), v_mul(rest1, g));
        V second = v_fma(beta2, v_load_n(v + i, k), v_mul(rest2, v_mul(g, g)));
        V step = v_div(first, v_fma(v_sqrt(second), correction, epsilon));
        v_store_n(m + i, first, k);
        v_store_n(v + i, second, k);
        v_store_n(value + i, v_fnma(rate, step, v_mul(decay, v_load_n(value + i, k))), k);
    }
}

/* Sixteen counters of Philox4x32-10 at once: counter (offset, block + i), key seed. The bits of block + i are
 * bits[8i … 8i + 7], the low half of a word first. */
static void philox_blocks(uint16_t bits[128], uint64_t seed, uint64_t offset, uint64_t block) {
    uint32_t a[16], b[16], c[16], d[16], key0 = (uint32_t)seed, key1 = (uint32_t)(seed >> 32);
    for (size_t i = 0; i < 16; i++) {
        a[i] = (uint32_t)offset, b[i] = (uint32_t)(offset >> 32);
        c[i] = (uint32_t)(block + i), d[i] = (uint32_t)((block + i) >> 32);
    }
    for (int round = 0; round < 10; round++, key0 += 0x9e3779b9u, key1 += 0xbb67ae85u) {
        for (size_t i = 0; i < 16; i++) {
            uint64_t p = (uint64_t)a[i] * 0xd2511f53u, q = (uint64_t)c[i] * 0xcd9e8d57u;
            a[i] = (uint32_t)(q >> 32) ^ b[i] ^ key0;
            c[i] = (uint32_t)(p >> 32) ^ d[i] ^ key1;
            b[i] = (uint32_t)q;
            d[i] = (uint32_t)p;
        }
    }
    for (size_t i = 0; i < 16; i++) {
        uint32_t words[4] = {a[i], b[i], c[i], d[i]};
        for (size_t j = 0; j < 4; j++) {
            bits[8 * i + 2 * j] = (uint16_t)words[j];
            bits[8 * i + 2 * j + 1] = (uint16_t)(words[j] >> 16);
        }
    }
}

/* y = x·scale where the element's 16 bits are ≥ threshold, else 0. Element 0 is the first of block; y may be x. */
static void dropout(float *y, const float *x, size_t n, uint32_t threshold, float scale, uint64_t seed, uint64_t offset,
                    uint64_t block) {
    uint16_t bits[128];
    for (size_t i = 0; i < n; i += 128, block += 16) {
        size_t m = n - i < 128 ? n - i : 128;
        philox_blocks(bits, seed, offset, block);
        if (m == 128)
            for (size_t j = 0; j < 128; j++) y[i + j] = bits[j] >= threshold ? x[i + j] * scale : 0.0f;
        else
            for (size_t j = 0; j < m; j++) y[i + j] = bits[j] >= threshold ? x[i + j] * scale : 0.0f;
    }
}

#endif
