#include "ref/ops.h"

#include <math.h>

static double sigmoid(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
static double normal(double x) { return 0.5 * erfc(-x / sqrt(2.0)); }

static const double pi = 3.14159265358979323846;

double ref_activation(double x, attn_activation act) {
    switch (act) {
    case ATTN_IDENTITY: return x;
    case ATTN_TANH: return tanh(x);
    case ATTN_SIGMOID: return sigmoid(x);
    case ATTN_RELU: return x > 0 || x != x ? x : 0;
    case ATTN_GELU: return x * normal(x);
    case ATTN_GELU_TANH: return x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x * x * x)); /* = x (1 + tanh u) / 2 */
    case ATTN_SILU: return x * sigmoid(x);
    }
    return x;
}

double ref_activation_slope(double x, attn_activation act) {
    double s, u;
    switch (act) {
    case ATTN_IDENTITY: return 1;
    case ATTN_TANH: return 1 - tanh(x) * tanh(x);
    case ATTN_SIGMOID: return sigmoid(x) * sigmoid(-x);
    case ATTN_RELU: return x > 0;
    case ATTN_GELU: return normal(x) + x * exp(-x * x / 2) / sqrt(2 * pi);
    case ATTN_GELU_TANH:
        u = 2 * sqrt(2 / pi) * (x + 0.044715 * x * x * x), s = sigmoid(u);
        return s + x * s * sigmoid(-u) * 2 * sqrt(2 / pi) * (1 + 3 * 0.044715 * x * x);
    case ATTN_SILU: s = sigmoid(x); return s + x * s * sigmoid(-x);
    }
    return 1;
}

double ref_softmax(double *y, const double *x, size_t n) {
    double max = -INFINITY, sum = 0;
    for (size_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (size_t i = 0; i < n; i++) sum += exp(x[i] - max);
    for (size_t i = 0; y && i < n; i++) y[i] = exp(x[i] - max) / sum;
    return max + log(sum);
}

double ref_cross_entropy(const double *x, size_t n, size_t target, double smoothing) {
    double lse = ref_softmax(NULL, x, n), mean = 0;
    for (size_t i = 0; i < n; i++) mean += (lse - x[i]) / (double)n;
    return (1 - smoothing) * (lse - x[target]) + smoothing * mean;
}

void ref_norm(double *y, double *mean, double *rstd, const double *x, const double *gain, const double *bias, size_t n,
              double epsilon) {
    double center = 0, square = 0;
    for (size_t i = 0; mean && i < n; i++) center += x[i] / (double)n;
    for (size_t i = 0; i < n; i++) square += (x[i] - center) * (x[i] - center) / (double)n;
    double scale = 1 / sqrt(square + epsilon);
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - center) * scale * gain[i] + (bias ? bias[i] : 0);
    if (mean) *mean = center;
    if (rstd) *rstd = scale;
}

void ref_attend(const ref_alignment *r, double *c, double *alignment, double *energy, double *lse) {
    for (size_t i = 0; i < r->t; i++) {
        double e[256], alpha[256];
        for (size_t j = 0; j < r->length; j++) {
            e[j] = 0;
            for (size_t a = 0; a < r->a; a++) {
                double q = r->query[i * r->a + a], k = r->key[j * r->a + a];
                e[j] += r->v ? r->v[a] * tanh(q + k) : r->scale * q * k;
            }
        }
        double l = ref_softmax(alpha, e, r->length);
        if (lse) lse[i] = r->length ? l : -INFINITY;
        for (size_t j = 0; j < r->s; j++) {
            if (alignment) alignment[i * r->s + j] = j < r->length ? alpha[j] : 0;
            if (energy) energy[i * r->s + j] = j < r->length ? e[j] : -INFINITY;
        }
        for (size_t k = 0; k < r->c; k++) {
            c[i * r->c + k] = 0;
            for (size_t j = 0; j < r->length; j++) c[i * r->c + k] += alpha[j] * r->value[j * r->c + k];
        }
    }
}

void ref_gru_point(double *y, const double *gx, const double *gh, const double *h, size_t size) {
    for (size_t i = 0; i < size; i++) {
        double r = sigmoid(gx[i] + gh[i]), z = sigmoid(gx[size + i] + gh[size + i]);
        double n = tanh(gx[2 * size + i] + r * gh[2 * size + i]);
        y[i] = (1 - z) * n + z * h[i];
    }
}

void ref_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]) {
    uint32_t x[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)0xd2511f53 * x[0], q = (uint64_t)0xcd9e8d57 * x[2];
        uint32_t next[4] = {(uint32_t)(q >> 32) ^ x[1] ^ k[0], (uint32_t)q, (uint32_t)(p >> 32) ^ x[3] ^ k[1],
                            (uint32_t)p};
        for (int i = 0; i < 4; i++) x[i] = next[i];
        k[0] += 0x9e3779b9, k[1] += 0xbb67ae85;
    }
    for (int i = 0; i < 4; i++) out[i] = x[i];
}
