/* attend_compute.c: attention by the library's operators, and the comparison with given numbers. */
#include "attend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static attn_tensor tensor_of(const matrix *m) { return attn_tensor_f32(m->x, 2, m->rows, m->columns); }

/* One more result; NULL after a message. */
static matrix *add(const command *c, attend_work *work, const char *name, const char *formula, size_t heads,
                   size_t rows, size_t columns) {
    attend_result *r = &work->result[work->n];
    *r = (attend_result){.name = name, .formula = formula, .heads = heads};
    r->m = (matrix){calloc(rows * columns + 1, sizeof(float)), rows, columns};
    if (!r->m.x) {
        cli_fail_memory(c);
        return NULL;
    }
    work->n++;
    return &r->m;
}

static bool fine(const command *c, attn_status status) { return status == ATTN_OK || cli_fail_status(c) == EXIT_DONE; }

/* y = x W */
static bool project(const command *c, matrix *y, const matrix *x, const matrix *w) {
    attn_tensor to = tensor_of(y), a = tensor_of(x), b = tensor_of(w);
    return fine(c, attn_matmul(cli_context(), &to, &a, &b, NULL, NULL, ATTN_IDENTITY, false));
}

static bool average(const command *c, attend_work *work, const float *weights) {
    const size_t count = work->rows * work->keys;
    work->mean = calloc(count + 1, sizeof *work->mean);
    if (!work->mean) return cli_fail_memory(c) == EXIT_DONE;
    for (size_t h = 0; h < work->heads; h++)
        for (size_t i = 0; i < count; i++) work->mean[i] += weights[h * count + i] / (float)work->heads;
    return true;
}

/* (rows, heads · width) as (1, heads, rows, width). */
static attn_tensor by_heads(const matrix *m, size_t heads) {
    const size_t width = m->columns / heads;
    attn_tensor t = attn_tensor_f32(m->x, 4, (size_t)1, heads, m->rows, width);
    t.stride[1] = (ptrdiff_t)width, t.stride[2] = (ptrdiff_t)m->columns;
    return t;
}

static bool dot_attention(const command *c, attend_work *work, const matrix *q, const matrix *k, const matrix *v,
                          bool causal, bool scaled) {
    attn_context *ctx = cli_context();
    const size_t n = q->rows, heads = work->heads, shown = heads > 1 ? heads : 0;
    attn_attention_options options = ATTN_ATTENTION_OPTIONS_INIT;
    if (!scaled) options.scale = 1;
    if (causal) options.causal = ATTN_CAUSAL_TOP_LEFT;
    matrix *scores = add(c, work, "scores", scaled ? "q·k / √d" : "x·x", shown, heads * n, n);
    matrix *weights = add(c, work, "weights", "softmax of each row", shown, heads * n, n);
    matrix *context = add(c, work, "context", scaled ? "weights · values" : "weights · x", 0, n, v->columns);
    float *sums = malloc((heads * n + 1) * sizeof *sums);
    if (!scores || !weights || !context || !sums) {
        free(sums);
        return scores && weights && context && cli_fail_memory(c) == EXIT_DONE;
    }
    attn_tensor tq = by_heads(q, heads), tk = by_heads(k, heads), tv = by_heads(v, heads),
                out = by_heads(context, heads);
    attn_tensor s = attn_tensor_f32(scores->x, 4, (size_t)1, heads, n, n);
    attn_tensor p = attn_tensor_f32(weights->x, 4, (size_t)1, heads, n, n);
    attn_tensor lse = attn_tensor_f32(sums, 3, (size_t)1, heads, n);
    attn_attention_look look = ATTN_ATTENTION_LOOK_INIT;
    look.weights = &p;
    attn_status status = attn_attention_scores(ctx, &s, &tq, &tk, ATTN_SCORES_BIASED, &options);
    if (status == ATTN_OK) status = attn_attention_fwd(ctx, &out, &lse, &tq, &tk, &tv, &options);
    if (status == ATTN_OK) status = attn_attention_weights(ctx, &look, &tq, &tk, &lse, &options);
    free(sums);
    work->rows = work->keys = n, work->contexts = work->n - 1;
    return fine(c, status) && average(c, work, weights->x);
}

static bool trainable(const command *c, attend_work *work, const attend_input *in, bool causal) {
    const size_t n = in->x.rows;
    const struct {
        const char *name;
        const matrix *m;
    } three[] = {{"W_q", &in->w_q}, {"W_k", &in->w_k}, {"W_v", &in->w_v}};
    for (size_t i = 0; i < 3; i++) {
        if (!three[i].m->x)
            return cli_fail(c, "%s: found no %s, expected %zu rows of it beside the other matrices", in->name,
                            three[i].name, in->x.columns) == EXIT_DONE;
        if (three[i].m->columns % work->heads != 0)
            return cli_fail(c, "%s: %s has %zu columns, expected a multiple of %zu heads", in->name, three[i].name,
                            three[i].m->columns, work->heads) == EXIT_DONE;
    }
    matrix *q = add(c, work, "queries", "x · W_q", 0, n, in->w_q.columns);
    matrix *k = add(c, work, "keys", "x · W_k", 0, n, in->w_k.columns);
    matrix *v = add(c, work, "values", "x · W_v", 0, n, in->w_v.columns);
    return q && k && v && project(c, q, &in->x, &in->w_q) && project(c, k, &in->x, &in->w_k) &&
           project(c, v, &in->x, &in->w_v) && dot_attention(c, work, q, k, v, causal, true);
}

static bool additive(const command *c, attend_work *work, const attend_input *in) {
    attn_context *ctx = cli_context();
    const matrix *s = in->s.x ? &in->s : &in->x;
    const size_t t = s->rows, n = in->x.rows, width = in->v.columns;
    const struct {
        const char *name;
        const matrix *m;
    } three[] = {{"W", &in->w}, {"U", &in->u}, {"v", &in->v}};
    for (size_t i = 0; i < 3; i++)
        if (!three[i].m->x)
            return cli_fail(c, "%s: found no %s, expected W, U and v for --additive", in->name, three[i].name) ==
                   EXIT_DONE;
    matrix *sq = add(c, work, "queries", in->s.x ? "queries · W" : "x · W", 0, t, width);
    matrix *hk = add(c, work, "keys", "x · U", 0, n, width);
    matrix *energies = add(c, work, "energies", "v · tanh(query + key)", 0, t, n);
    matrix *weights = add(c, work, "weights", "soft alignment: softmax of each row", 0, t, n);
    matrix *context = add(c, work, "context", "expected annotation: weights · x", 0, t, in->x.columns);
    if (!sq || !hk || !energies || !weights || !context) return false;
    if (!project(c, sq, s, &in->w) || !project(c, hk, &in->x, &in->u)) return false;
    attn_tensor q = attn_tensor_f32(sq->x, 3, (size_t)1, t, width), k = attn_tensor_f32(hk->x, 3, (size_t)1, n, width);
    attn_tensor v = attn_tensor_f32(in->v.x, 1, width), h = attn_tensor_f32(in->x.x, 3, (size_t)1, n, in->x.columns);
    attn_tensor to = attn_tensor_f32(context->x, 3, (size_t)1, t, in->x.columns);
    attn_tensor alignment = attn_tensor_f32(weights->x, 3, (size_t)1, t, n),
                energy = attn_tensor_f32(energies->x, 3, (size_t)1, t, n);
    work->rows = t, work->keys = n, work->contexts = work->n - 1;
    return fine(c, attn_additive_attention_fwd(ctx, &to, NULL, &alignment, &energy, &q, &k, &v, &h, NULL)) &&
           average(c, work, weights->x);
}

bool attend_compute(const command *c, attend_work *work, const attend_input *in, const attend_choice *choice) {
    *work = (attend_work){.heads = choice->heads, .kind = choice->causal ? "causal self-attention" : "self-attention"};
    if (choice->additive) {
        work->kind = "additive attention";
        return additive(c, work, in);
    }
    const bool matrices = in->w_q.x || in->w_k.x || in->w_v.x;
    if (matrices && !choice->simplified) {
        if (choice->heads > 1)
            work->kind = choice->causal ? "causal multi-head self-attention" : "multi-head self-attention";
        return trainable(c, work, in, choice->causal);
    }
    work->kind = choice->causal ? "simplified causal self-attention" : "simplified self-attention";
    if (in->x.columns % work->heads != 0)
        return cli_fail(c, "%s: x has %zu columns, expected a multiple of %zu heads", in->name, in->x.columns,
                        work->heads) == EXIT_DONE;
    return dot_attention(c, work, &in->x, &in->x, &in->x, choice->causal, false);
}

void attend_free_work(attend_work *work) {
    for (size_t i = 0; i < work->n; i++) free(work->result[i].m.x);
    free(work->mean);
    *work = (attend_work){.n = 0};
}

/* ---- given numbers --------------------------------------------------------------------------------------------------
 */

typedef struct check {
    const command *c;
    const char *file;
    double tolerance;
    size_t compared;
} check;

/* Rows first … first + rows − 1 of a result. */
static bool same_rows(check *k, const char *name, const json_t *given, const matrix *m, size_t first, size_t rows) {
    if (!json_is_array(given) || json_array_size(given) != rows)
        return cli_fail(k->c, "%s: %s has %zu rows, expected %zu", k->file, name, json_array_size(given), rows) ==
               EXIT_DONE;
    for (size_t i = 0; i < rows; i++) {
        const json_t *row = json_array_get(given, i);
        if (!json_is_array(row) || json_array_size(row) != m->columns)
            return cli_fail(k->c, "%s: %s[%zu] has %zu numbers, expected %zu", k->file, name, i, json_array_size(row),
                            m->columns) == EXIT_DONE;
        for (size_t j = 0; j < m->columns; j++) {
            const json_t *number = json_array_get(row, j);
            const double expected = (double)m->x[(first + i) * m->columns + j];
            if (json_is_null(number) && !isfinite(expected)) continue; /* null: masked */
            if (!json_is_number(number))
                return cli_fail(k->c, "%s: %s[%zu][%zu] is no number, expected %.6g", k->file, name, i, j, expected) ==
                       EXIT_DONE;
            const double found = json_number_value(number);
            if (!(fabs(found - expected) <= k->tolerance))
                return cli_fail(k->c, "%s: %s[%zu][%zu] is %.7g, expected %.7g", k->file, name, i, j, found,
                                expected) == EXIT_DONE;
            k->compared++;
        }
    }
    return true;
}

static bool same_result(check *k, const attend_result *r, const json_t *given) {
    if (r->heads == 0) return same_rows(k, r->name, given, &r->m, 0, r->m.rows);
    if (!json_is_array(given) || json_array_size(given) != r->heads)
        return cli_fail(k->c, "%s: %s has %zu heads, expected %zu", k->file, r->name, json_array_size(given),
                        r->heads) == EXIT_DONE;
    for (size_t h = 0; h < r->heads; h++) {
        char name[64];
        snprintf(name, sizeof name, "%s[%zu]", r->name, h);
        const size_t rows = r->m.rows / r->heads;
        if (!same_rows(k, name, json_array_get(given, h), &r->m, h * rows, rows)) return false;
    }
    return true;
}

static bool same_results(check *k, const attend_work *work, const json_t *root) {
    const char *names[ATTEND_RESULTS + 1] = {NULL};
    for (size_t i = 0; i < work->n; i++) names[i] = work->result[i].name;
    if (!json_is_object(root))
        return cli_fail(k->c, "%s: found no object, expected one with %s, … as keys", k->file, names[0]) == EXIT_DONE;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)root, key, value) {
        size_t i = 0;
        while (names[i] && strcmp(names[i], key) != 0) i++;
        const char *near = names[i] ? NULL : nearest_word(key, names);
        if (!names[i] && strcmp(key, "kind") != 0 && strcmp(key, "tokens") != 0)
            return cli_fail(k->c, "%s: found the key \"%s\", expected %s%s", k->file, key, near ? near : names[0],
                            near ? "" : ", …") == EXIT_DONE;
    }
    for (size_t i = 0; i < work->n; i++) { /* in the order they are made: the first that differs comes first */
        const json_t *given = json_object_get(root, work->result[i].name);
        if (given && !same_result(k, &work->result[i], given)) return false;
    }
    return k->compared > 0 || cli_fail(k->c, "%s: found nothing to compare", k->file) == EXIT_DONE;
}

int attend_check(const command *c, const attend_work *work, const char *path, double tolerance) {
    json_error_t error;
    check k = {.c = c, .file = path, .tolerance = tolerance};
    json_t *root = json_load_file(path, 0, &error);
    if (!root) {
        if (error.line < 0) return cli_fail(c, "%s", error.text);
        return cli_fail(c, "%s:%d:%d: %s, expected JSON", path, error.line, error.column, error.text);
    }
    const bool same = same_results(&k, work, root);
    json_decref(root);
    if (!same) return EXIT_FAILED;
    cli_note("%s: %zu numbers agree within %g", path, k.compared, tolerance);
    return GO_ON;
}
