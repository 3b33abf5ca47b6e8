/* The GRU against an independent double implementation: values, and gradients by finite differences in double, for both
 * forms, both directions and all lengths; one operation, and step by step. */
#include "support/test.h"

#include "base/base.h"
#include <attn/nn.h>
#include <math.h>

enum { T = 5, B = 4, E = 3, H = 6, V = 4 };
static const int32_t lengths[B] = {5, 2, 0, 3};

/* Everything the loss depends on, in the order of the names below. */
typedef struct numbers {
    double x[T * B * E], h0[B * H], w[3 * H * E], u[3 * H * H], b[3 * H], c[3 * H];
} numbers;
enum { COUNT = sizeof(numbers) / sizeof(double) };

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* h becomes h' for one row. */
static void naive_step(double *h, const double *x, const numbers *p, bool reset_after) {
    double r[H], z[H], next[H];
    for (int i = 0; i < H; i++) {
        double a = p->b[i] + p->c[i], s = p->b[H + i] + p->c[H + i];
        for (int j = 0; j < E; j++) a += p->w[i * E + j] * x[j], s += p->w[(H + i) * E + j] * x[j];
        for (int j = 0; j < H; j++) a += p->u[i * H + j] * h[j], s += p->u[(H + i) * H + j] * h[j];
        r[i] = sigmoid(a), z[i] = sigmoid(s);
    }
    for (int i = 0; i < H; i++) {
        double a = p->b[2 * H + i], s = 0;
        for (int j = 0; j < E; j++) a += p->w[(2 * H + i) * E + j] * x[j];
        for (int j = 0; j < H; j++) s += p->u[(2 * H + i) * H + j] * (reset_after ? h[j] : r[j] * h[j]);
        a += reset_after ? r[i] * (s + p->c[2 * H + i]) : s + p->c[2 * H + i];
        next[i] = (1 - z[i]) * tanh(a) + z[i] * h[i];
    }
    memcpy(h, next, sizeof next);
}

/* y (T, B, H); past its length a sequence keeps its state. */
static void naive(double *y, const numbers *p, const int32_t *length, bool reverse, bool reset_after) {
    for (int b = 0; b < B; b++) {
        double h[H];
        memcpy(h, p->h0 + b * H, sizeof h);
        for (int i = 0; i < T; i++) {
            int t = reverse ? T - 1 - i : i;
            if (!length || t < length[b]) naive_step(h, p->x + (t * B + b) * E, p, reset_after);
            memcpy(y + (t * B + b) * H, h, sizeof h);
        }
    }
}

/* The same numbers on a tape. */
typedef struct fixture {
    attn_context *ctx;
    attn_parameters *set;
    attn_gru_weights weights;
    float x[T * B * E], h0[B * H];
} fixture;

static attn_parameter *parameter(fixture *f, const char *name, const double *values, int rank, size_t rows,
                                 size_t columns) {
    attn_parameter *out;
    assert_ok(attn_parameters_add(f->set, &out, name, ATTN_INIT_ZERO, 1, rank, (const size_t[]){rows, columns}));
    for (size_t i = 0; i < attn_tensor_count(&out->value); i++) ((float *)out->value.data)[i] = (float)values[i];
    return out;
}

/* Random numbers that f32 holds exactly. */
static void draw(double *out, size_t n, uint64_t stream) {
    attn_random random = {11, stream, 0};
    for (size_t i = 0; i < n; i++) out[i] = (double)(float)(attn_random_uniform(&random) * 2 - 1);
}

/* The cross entropy of y Mᵀ. */
static double naive_loss(const double *y, const double *m) {
    double loss = 0;
    for (int r = 0; r < T * B; r++) {
        double e[V], sum = 0;
        for (int v = 0; v < V; v++) {
            e[v] = 0;
            for (int i = 0; i < H; i++) e[v] += m[v * H + i] * y[r * H + i];
            sum += exp(e[v]);
        }
        loss += log(sum) - e[r % V];
    }
    return loss;
}

static attn_var *sequence(fixture *f, attn_tape *tape, attn_var *x, attn_var *h0, const int32_t *length, bool reverse,
                          bool reset_after, bool stepwise) {
    if (!stepwise) return attn_tape_gru(tape, x, &f->weights, h0, length, reverse, reset_after);
    attn_var *state = h0, *states[T];
    for (int i = 0; i < T; i++) {
        int t = reverse ? T - 1 - i : i;
        attn_var *gx =
            attn_tape_linear(tape, attn_tape_row(tape, x, (size_t)t), f->weights.w, f->weights.b, NULL, ATTN_IDENTITY);
        states[t] = state = attn_tape_gru_cell(tape, gx, state, f->weights.u, f->weights.c, reset_after);
    }
    return attn_tape_stack(tape, states, T);
}

static void compare(const int32_t *length, bool reverse, bool reset_after, bool stepwise) {
    numbers p;
    double m[V * H], y[T * B * H];
    draw((double *)&p, COUNT, 1);
    draw(m, V * H, 2);
    fixture f;
    attn_tape *tape;
    assert_ok(attn_context_create(&f.ctx, NULL));
    assert_ok(attn_parameters_create(&f.set, f.ctx, 1));
    assert_ok(attn_tape_create(&tape, f.ctx, true));
    f.weights = (attn_gru_weights){parameter(&f, "w", p.w, 2, 3 * H, E), parameter(&f, "u", p.u, 2, 3 * H, H),
                                   parameter(&f, "b", p.b, 1, 3 * H, 0), parameter(&f, "c", p.c, 1, 3 * H, 0)};
    attn_parameter *head = parameter(&f, "head", m, 2, V, H);
    for (int i = 0; i < T * B * E; i++) {
        bool hidden = length && i / E / B >= length[i / E % B];
        f.x[i] = hidden ? NAN : (float)p.x[i]; /* what is past a length cannot be seen, not even a NaN */
    }
    for (int i = 0; i < B * H; i++) f.h0[i] = (float)p.h0[i];
    attn_tensor xt = attn_tensor_f32(f.x, 3, (size_t)T, (size_t)B, (size_t)E);
    attn_tensor ht = attn_tensor_f32(f.h0, 2, (size_t)B, (size_t)H);
    attn_var *x = attn_tape_input(tape, &xt, true), *h0 = attn_tape_input(tape, &ht, true);
    attn_var *out = sequence(&f, tape, x, h0, length, reverse, reset_after, stepwise);
    assert_non_null(out);

    naive(y, &p, length, reverse, reset_after);
    /* A state is a mean of values within ±1 over 5 steps of some 10 f32 operations each. */
    for (int i = 0; i < T * B * H; i++) assert_float_equal(((float *)attn_var_value(out)->data)[i], y[i], 3e-6);

    int32_t targets[T * B];
    for (int r = 0; r < T * B; r++) targets[r] = r % V;
    attn_loss_stats stats = {0, 0, 0, 0};
    attn_var *logits = attn_tape_linear(tape, out, head, NULL, NULL, ATTN_IDENTITY);
    attn_var *loss = attn_tape_cross_entropy(tape, logits, targets, 0, 1, &stats);
    if (attn_tape_backward(tape, loss) != ATTN_OK) fail_msg("%s", attn_error(f.ctx));
    assert_float_equal(stats.loss, naive_loss(y, m), 1e-4);

    const attn_tensor *grads[] = {attn_var_grad(x),   attn_var_grad(h0),  &f.weights.w->grad,
                                  &f.weights.u->grad, &f.weights.b->grad, &f.weights.c->grad};
    double *at = (double *)&p;
    for (size_t g = 0; g < ATTN_COUNT(grads); g++)
        for (size_t i = 0; i < attn_tensor_count(grads[g]); i++, at++) {
            const double h = 1e-5, old = *at;
            *at = old + h;
            naive(y, &p, length, reverse, reset_after);
            double above = naive_loss(y, m);
            *at = old - h;
            naive(y, &p, length, reverse, reset_after);
            double expected = (above - naive_loss(y, m)) / (2 * h);
            *at = old;
            double found = ((const float *)grads[g]->data)[i];
            /* f32: about T·B·10 terms below 1, each wrong by 6e-8 */
            if (!(fabs(found - expected) <= 2e-5 * fmax(1, fabs(expected))))
                fail_msg("gradient %zu, element %zu: %.8g, in double %.8g", g, i, found, expected);
        }
    attn_tape_free(tape);
    attn_parameters_free(f.set);
    attn_context_free(f.ctx);
}

static void test_forward(void **state) { (void)state, compare(NULL, false, true, false); }
static void test_reverse(void **state) { (void)state, compare(NULL, true, true, false); }
static void test_lengths(void **state) { (void)state, compare(lengths, false, true, false); }
static void test_reverse_lengths(void **state) { (void)state, compare(lengths, true, true, false); }
static void test_paper(void **state) { (void)state, compare(NULL, false, false, false); }
static void test_paper_reverse_lengths(void **state) { (void)state, compare(lengths, true, false, false); }
static void test_paper_lengths(void **state) { (void)state, compare(lengths, false, false, false); }
static void test_cells(void **state) { (void)state, compare(NULL, false, true, true); }
static void test_cells_paper(void **state) { (void)state, compare(NULL, true, false, true); }

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),       cmocka_unit_test(test_reverse),
        cmocka_unit_test(test_lengths),       cmocka_unit_test(test_reverse_lengths),
        cmocka_unit_test(test_paper),         cmocka_unit_test(test_paper_reverse_lengths),
        cmocka_unit_test(test_paper_lengths), cmocka_unit_test(test_cells),
        cmocka_unit_test(test_cells_paper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
