/* gpt.c: language models as transformers saves them, against what transformers computes: logits, gradients, texts. The
 * models and what they must give are made by scripts/make_gpt_goldens.py. */
#include "model/gpt.h"
#include "model/weights.h"
#include "support/golden.h"
#include "support/translator.h"
#include <attn/io.h>
#include <math.h>

static const char *const variants[] = {"gpt2",    "gpt2_old", "raschka", "llama",  "llama3_old",
                                       "mistral", "qwen2",    "qwen3",   "gemma2", "gemma3"};

typedef struct fixture {
    attn_context *ctx;
    attn_model *model;
    attn_safetensors *expected;
    const char *name;
    const int32_t *ids;
    size_t batch, steps, vocabulary;
} fixture;

static void open_fixture(fixture *f, const char *name, int threads) {
    *f = (fixture){.ctx = test_context(threads), .name = name};
    f->model = golden_open(f->ctx, &f->expected, "gpt", name);
    const attn_tensor *ids = &attn_safetensors_find(f->expected, "ids")->tensor;
    f->ids = ids->data, f->batch = ids->shape[0], f->steps = ids->shape[1];
    f->vocabulary = attn_model_vocab_size(f->model);
}

static void close_fixture(fixture *f) {
    attn_safetensors_close(f->expected);
    attn_model_free(f->model);
    attn_context_free(f->ctx);
}

static const void *expected(const fixture *f, const char *name) {
    const attn_named_tensor *found = attn_safetensors_find(f->expected, name);
    if (!found) fail_msg("%s: the golden file has no %s", f->name, name);
    return found->tensor.data;
}

static float *logits_of(const fixture *f, const int32_t *ids, size_t batch, size_t steps, const int32_t *first) {
    float *logits = malloc(batch * steps * f->vocabulary * sizeof *logits);
    assert_non_null(logits);
    if (attn_language_logits(f->model, logits, ids, batch, steps, first) != ATTN_OK)
        fail_msg("%s: %s", f->name, attn_error(f->ctx));
    return logits;
}

static size_t largest(const float *row, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return best;
}

static void for_all(void (*test)(fixture *f)) {
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        fixture f;
        open_fixture(&f, variants[i], 1);
        test(&f);
        close_fixture(&f);
    }
}

/* ---- logits --------------------------------------------------------------------------------------- */

static void check_logits(fixture *f) {
    const float *want = expected(f, "logits");
    float *found = logits_of(f, f->ids, f->batch, f->steps, NULL);
    double worst = 0, top = 0;
    for (size_t i = 0; i < f->batch * f->steps * f->vocabulary; i++) {
        worst = fmax(worst, fabs((double)found[i] - (double)want[i]));
        top = fmax(top, fabs((double)want[i]));
    }
    if (!(worst < 1e-5)) fail_msg("%s: logits up to %g are off by %g", f->name, top, worst);
    free(found);
}
static void test_logits(void **state) {
    (void)state;
    for_all(check_logits);
}

static void check_greedy(fixture *f) {
    enum { NEW = 100, MOST = 256 };
    const int32_t *want = expected(f, "greedy");
    int32_t text[MOST];
    memcpy(text, f->ids, f->steps * sizeof *text);
    for (size_t n = 0; n < NEW; n++) {
        const size_t steps = f->steps + n;
        float *logits = logits_of(f, text, 1, steps, NULL);
        text[steps] = (int32_t)largest(logits + (steps - 1) * f->vocabulary, f->vocabulary);
        free(logits);
        if (text[steps] != want[n])
            fail_msg("%s: token %zu of the continuation is %d, expected %d", f->name, n, (int)text[steps],
                     (int)want[n]);
    }
}
static void test_greedy(void **state) {
    (void)state;
    for_all(check_greedy);
}

/* ---- weights -------------------------------------------------------------------------------------------- */

/* All heads of a layer at once are each of them. */
static void check_every_head(fixture *f, size_t layer, size_t heads, size_t n) {
    float *all, *one;
    assert_ok(attn_look_at_text(f->model, &all, layer, ATTN_EVERY_HEAD, f->ids, NULL, f->steps));
    for (size_t h = 0; h < heads; h++) {
        assert_ok(attn_look_at_text(f->model, &one, layer, h + 1, f->ids, NULL, f->steps));
        assert_memory_equal(all + h * n, one, n * sizeof *one);
        attn_text_free(f->ctx, one);
    }
    attn_look_vectors v;
    assert_ok(attn_look_at_text_vectors(f->model, &v, layer, f->ids, NULL, f->steps));
    assert_true(v.heads == heads && v.rows == f->steps && v.columns == f->steps);
    check_look_vectors(&v, all);
    attn_text_free(f->ctx, v.queries);
    attn_text_free(f->ctx, all);
}

static void check_weights(fixture *f) {
    const attn_tensor *want = &attn_safetensors_find(f->expected, "weights")->tensor;
    const size_t layers = want->shape[0], heads = want->shape[1], n = f->steps * f->steps;
    float *mean = malloc(n * sizeof *mean);
    for (size_t l = 0; l < layers; l++) {
        memset(mean, 0, n * sizeof *mean);
        for (size_t h = 0; h <= heads; h++) { /* the mean last, which is head 0 */
            const float *right = h < heads ? (const float *)want->data + (l * heads + h) * n : mean;
            float *found;
            assert_ok(attn_look_at_text(f->model, &found, l, (h + 1) % (heads + 1), f->ids, NULL, f->steps));
            for (size_t i = 0; i < n; i++) {
                if (!(fabs((double)found[i] - (double)right[i]) < 1e-5))
                    fail_msg("%s: layer %zu, head %zu: weight %zu is %g, expected %g", f->name, l, h, i,
                             (double)found[i], (double)right[i]);
                if (h < heads) mean[i] += right[i] / (float)heads;
            }
            attn_text_free(f->ctx, found);
        }
        check_every_head(f, l, heads, n);
    }
    free(mean);
    float *none;
    size_t have[2];
    attn_model_heads(f->model, ATTN_LOOK_DECODER, &have[0], &have[1]);
    assert_true(have[0] == layers && have[1] == heads);
    attn_model_heads(f->model, ATTN_LOOK_CROSS, &have[0], &have[1]);
    assert_true(have[0] == 0 && have[1] == 0);
    assert_fails(f->ctx, attn_look_at_text(f->model, &none, layers, 0, f->ids, NULL, 2), ATTN_E_ARGUMENT, "layers of");
    assert_fails(f->ctx, attn_look_at_text(f->model, &none, 0, 0, f->ids, f->ids, 2), ATTN_E_ARGUMENT, "token types");
}
static void test_weights(void **state) {
    (void)state;
    for_all(check_weights);
}

/* ---- the same bits ----------------------------------------------------------------------------------- */

/* Padding on the left, whatever its ids are, changes no bit of the rows behind it. */
static void check_padding(fixture *f) {
    enum { PAD = 3, MOST = 64 };
    const size_t steps = f->steps + PAD, row = f->vocabulary;
    int32_t ids[2 * MOST];
    const int32_t first[2] = {PAD, 0};
    assert_true(f->batch == 2 && steps <= MOST);
    for (size_t t = 0; t < steps; t++) {
        ids[t] = t < PAD ? (int32_t)(t * 5 + 1) : f->ids[t - PAD];
        ids[steps + t] = f->ids[f->steps + t % f->steps];
    }
    float *alone = logits_of(f, f->ids, 1, f->steps, NULL), *both = logits_of(f, ids, 2, steps, first);
    assert_memory_equal(alone, both + PAD * row, f->steps * row * sizeof *alone);
    for (size_t i = 0; i < PAD * row; i++) assert_true(both[i] == 0);
    free(alone);
    free(both);
}
static void test_padding(void **state) {
    (void)state;
    for_all(check_padding);
}

static void check_threads(fixture *f) {
    float *one = logits_of(f, f->ids, f->batch, f->steps, NULL);
    fixture g;
    open_fixture(&g, f->name, 2);
    float *two = logits_of(&g, f->ids, f->batch, f->steps, NULL);
    assert_memory_equal(one, two, f->batch * f->steps * f->vocabulary * sizeof *one);
    free(one);
    free(two);
    close_fixture(&g);
}
static void test_threads(void **state) {
    (void)state;
    for_all(check_threads);
}

/* ---- gradients ---------------------------------------------------------------------------------------- */

/* The gradient as the file lays its parameter out. */
static void check_gradient(const fixture *f, const attn_parameter *p) {
    const attn_stored_form form = attn_model_stored_form(f->model, p->name);
    char name[256];
    snprintf(name, sizeof name, "grad.%s", form.name);
    const float *want = expected(f, name), *found = p->grad.data;
    const size_t n = p->value.shape[0], k = p->value.rank == 2 ? p->value.shape[1] : 1;
    const size_t first = form.part * n, columns = n * form.parts;
    double error = 0, norm = 0;
    if (!found) fail_msg("%s: %s has no gradient", f->name, p->name);
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < k; c++) {
            const double right = (double)want[form.transposed ? c * columns + first + r : (first + r) * k + c];
            error += pow((double)found[r * k + c] - right, 2);
            norm += right * right;
        }
    if (!strcmp(p->name + strlen(p->name) - 8, "key.bias") && norm < 1e-9) norm = 1; /* keys' biases change nothing */
    if (!(sqrt(error / norm) < 1e-4))
        fail_msg("%s: the gradient of %s is off by %g of its norm", f->name, p->name, sqrt(error / norm));
}

static void check_gradients(const char *name) {
    fixture f;
    open_fixture(&f, name, 2);
    const size_t steps = f.steps - 1;
    int32_t in[64], out[64], lengths[2] = {(int32_t)steps, (int32_t)steps};
    for (size_t t = 0; t < steps; t++)
        for (size_t b = 0; b < 2; b++) {
            in[2 * t + b] = f.ids[b * f.steps + t];
            out[2 * t + b] = f.ids[b * f.steps + t + 1];
        }
    const attn_pair_batch batch = {
        .batch = 2, .target_steps = steps, .target_in = in, .target_out = out, .target_lengths = lengths};
    attn_tape *tape;
    assert_ok(attn_tape_create(&tape, f.ctx, true));
    attn_loss_stats stats = {0};
    attn_var *loss = attn_model_loss(f.model, tape, &batch, 0, 1 / (float)(2 * steps), &stats);
    if (attn_tape_backward(tape, loss) != ATTN_OK) fail_msg("%s: %s", name, attn_error(f.ctx));
    const double want = *(const double *)expected(&f, "loss");
    assert_true(fabs(stats.nll / (double)stats.tokens - want) < 1e-6 * want);
    const attn_parameters *set = attn_model_parameters(f.model);
    for (size_t i = 0; i < attn_parameters_count(set); i++) check_gradient(&f, attn_parameters_at(set, i));
    attn_tape_free(tape);
    close_fixture(&f);
}
static void test_gradients_gpt2(void **state) {
    (void)state;
    check_gradients("gpt2");
}
static void test_gradients_llama(void **state) {
    (void)state;
    check_gradients("llama");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),          cmocka_unit_test(test_greedy),  cmocka_unit_test(test_padding),
        cmocka_unit_test(test_weights),         cmocka_unit_test(test_threads), cmocka_unit_test(test_gradients_gpt2),
        cmocka_unit_test(test_gradients_llama),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
