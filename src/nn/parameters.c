#include "nn/parameters.h"
#include "nn/tape.h"

#include <math.h>
#include <string.h>

typedef struct entry {
    attn_parameter parameter; /* first: a parameter's address is its entry's */
    attn_context *ctx;
    uint64_t hash;
    char *name;
    attn_packed form[ATTN_PANEL_FORMS][ATTN_FORMS];
    bool fresh[ATTN_PANEL_FORMS][ATTN_FORMS];
    bool shares; /* since it was touched it had products that need no form of its own */
    bool old;    /* the gradient's memory holds an earlier one, which counts as 0 */
} entry;

struct attn_parameters {
    attn_context *ctx;
    uint64_t seed;
    entry **items;
    size_t count, capacity;
    attn_quantised_store store;
};

attn_status attn_parameters_create(attn_parameters **gives, attn_context *ctx, uint64_t seed) {
    *gives = NULL;
    attn_parameters *set = attn_alloc_zero(ctx, 1, sizeof *set);
    if (!set) return ATTN_E_NOMEM;
    set->ctx = ctx;
    set->seed = seed;
    *gives = set;
    return ATTN_OK;
}

static void forms_free(attn_context *ctx, entry *item) {
    for (int panels = 0; panels < ATTN_PANEL_FORMS; panels++)
        for (int form = 0; form < ATTN_FORMS; form++) attn_packed_free(ctx, &item->form[panels][form]);
}

static void entry_free(attn_context *ctx, entry *item) {
    if (!item) return;
    forms_free(ctx, item);
    attn_quantised_free(ctx, item->parameter.quantised);
    attn_release(ctx, item->parameter.value.data);
    attn_release(ctx, item->parameter.grad.data);
    attn_release(ctx, item->name);
    attn_release(ctx, item);
}

void attn_parameters_free(attn_parameters *set) {
    if (!set) return;
    attn_context *ctx = set->ctx;
    for (size_t i = 0; i < set->count; i++) entry_free(ctx, set->items[i]);
    attn_quantised_store_free(ctx, &set->store);
    attn_release(ctx, set->items);
    attn_release(ctx, set);
}

/* ---- initial values ------------------------------------------------------------------------ */

static double dot(const double *a, const double *b, size_t n) {
    double sum[4] = {0, 0, 0, 0};
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        for (size_t j = 0; j < 4; j++) sum[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum[0] += a[i] * b[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

typedef struct elimination {
    double *rows; /* (count, n) */
    size_t pivot, n, count;
} elimination;

enum { ROWS_PER_TASK = 64 };

/* Takes the pivot row's direction out of the rows of one task. */
static void eliminate(void *arg, size_t index) {
    const elimination *job = arg;
    const double *pivot = job->rows + job->pivot * job->n;
    size_t first = job->pivot + 1 + index * ROWS_PER_TASK, end = ATTN_MIN(first + ROWS_PER_TASK, job->count);
    for (size_t r = first; r < end; r++) {
        double *row = job->rows + r * job->n, along = dot(row, pivot, job->n);
        for (size_t i = 0; i < job->n; i++) row[i] -= along * pivot[i];
    }
}

/* Modified Gram-Schmidt on normal random rows. Its loss of orthogonality is the condition number (about n here) times
 * 2⁻⁵³, far below what a float shows.                                                                              */
static attn_status fill_orthogonal(attn_context *ctx, attn_random *random, float *out, size_t rows, size_t n,
                                   float scale) {
    size_t block = ATTN_MIN(rows, n), elements;
    if (!attn_size_mul(&elements, block, n)) return attn_fail(ctx, ATTN_E_NOMEM, "a block of %zu rows is too big", n);
    double *work = attn_alloc(ctx, elements, sizeof *work);
    if (!work) return ATTN_E_NOMEM;
    for (size_t first = 0; first < rows; first += block) {
        size_t count = ATTN_MIN(block, rows - first);
        for (size_t i = 0; i < count * n; i++) work[i] = attn_random_normal(random);
        for (size_t r = 0; r < count; r++) {
            double *row = work + r * n, factor = 1 / fmax(sqrt(dot(row, row, n)), 1e-300);
            for (size_t i = 0; i < n; i++) row[i] *= factor;
            elimination job = {work, r, n, count};
            attn_parallel_for(ctx, (count - r - 1 + ROWS_PER_TASK - 1) / ROWS_PER_TASK, eliminate, &job);
        }
        for (size_t i = 0; i < count * n; i++) out[first * n + i] = (float)(scale * work[i]);
    }
    attn_release(ctx, work);
    return ATTN_OK;
}

static void fill_uniform(attn_random *random, float *out, size_t n, double limit) {
    for (size_t i = 0; i < n; i++) out[i] = (float)(limit * (2 * attn_random_uniform(random) - 1));
}

static attn_status fill(attn_context *ctx, const attn_tensor *value, attn_init init, float scale, attn_random random) {
    float *out = value->data;
    size_t n = attn_tensor_count(value), columns = value->rank ? value->shape[value->rank - 1] : 1;
    size_t rows = columns ? n / columns : 0;
    switch (init) {
    case ATTN_INIT_ZERO: memset(out, 0, n * sizeof *out); return ATTN_OK;
    case ATTN_INIT_ONE:
        for (size_t i = 0; i < n; i++) out[i] = 1;
        return ATTN_OK;
    case ATTN_INIT_NORMAL:
        for (size_t i = 0; i < n; i++) out[i] = (float)(scale * attn_random_normal(&random));
        return ATTN_OK;
    case ATTN_INIT_UNIFORM: fill_uniform(&random, out, n, scale); return ATTN_OK;
    case ATTN_INIT_XAVIER:
        fill_uniform(&random, out, n, scale * sqrt(6.0 / ((double)rows + (double)columns)));
        return ATTN_OK;
    case ATTN_INIT_ORTHOGONAL: return n ? fill_orthogonal(ctx, &random, out, rows, columns, scale) : ATTN_OK;
    }
    return attn_fail(ctx, ATTN_E_ARGUMENT, "initialiser %d is not one of attn_init", (int)init);
}

/* ---- the set ------------------------------------------------------------------------------- */

/* An entry at the set's end, without a value yet. */
static attn_status add_entry(attn_parameters *set, entry **out, const char *name, int rank, const size_t *shape) {
    attn_context *ctx = set->ctx;
    size_t n = 1;
    if (rank < 0 || rank > ATTN_MAX_RANK)
        return attn_fail(ctx, ATTN_E_SHAPE, "parameter %s has rank %d, expected 0 … %d", name, rank, ATTN_MAX_RANK);
    if (attn_parameters_find(set, name))
        return attn_fail(ctx, ATTN_E_ARGUMENT, "parameter %s is there already, names are unique", name);
    for (int i = 0; i < rank; i++)
        if (!attn_size_mul(&n, n, shape[i]))
            return attn_fail(ctx, ATTN_E_NOMEM, "parameter %s has more elements than memory can hold", name);
    ATTN_TRY(attn_grow(ctx, &set->items, &set->capacity, set->count + 1, set->count, sizeof(entry *)));
    entry *item = attn_alloc_zero(ctx, 1, sizeof *item);
    if (!item) return ATTN_E_NOMEM;
    item->ctx = ctx;
    item->name = attn_copy_text(ctx, name, strlen(name));
    if (!item->name) {
        entry_free(ctx, item);
        return ATTN_E_NOMEM;
    }
    item->hash = attn_hash_text(name, strlen(name));
    item->parameter.name = item->name;
    item->parameter.value = item->parameter.grad = attn_tensor_of(NULL, ATTN_F32, rank, shape);
    item->parameter.packed = item->form[0];
    set->items[set->count++] = *out = item;
    return ATTN_OK;
}

attn_status attn_parameters_add(attn_parameters *set, attn_parameter **out, const char *name, attn_init init,
                                float scale, int rank, const size_t *shape) {
    entry *item = NULL;
    *out = NULL;
    ATTN_TRY(add_entry(set, &item, name, rank, shape));
    attn_tensor *value = &item->parameter.value;
    value->data = attn_alloc(set->ctx, attn_tensor_count(value), sizeof(float));
    attn_status status = value->data ? ATTN_OK : ATTN_E_NOMEM;
    if (status == ATTN_OK) attn_want_huge_pages(set->ctx, value->data, attn_tensor_count(value) * sizeof(float));
    if (status == ATTN_OK) status = fill(set->ctx, value, init, scale, (attn_random){set->seed, item->hash, 0});
    if (status == ATTN_OK) *out = &item->parameter;
    else entry_free(set->ctx, set->items[--set->count]);
    return status;
}

attn_status attn_parameters_add_quantised(attn_parameters *set, attn_parameter **out, const char *name,
                                          attn_quantised *takes, size_t n, size_t k) {
    entry *item = NULL;
    *out = NULL;
    attn_status status = add_entry(set, &item, name, 2, (const size_t[]){n, k});
    if (status != ATTN_OK) {
        attn_quantised_free(set->ctx, takes);
        return status;
    }
    item->parameter.quantised = takes;
    *out = &item->parameter;
    return ATTN_OK;
}

attn_status attn_parameter_needs_floats(const attn_parameter *parameter, const char *wants) {
    const entry *item = (const entry *)parameter;
    if (!parameter->quantised) return ATTN_OK;
    return attn_fail(item->ctx, ATTN_E_UNSUPPORTED, "%s: %s is kept as %s, expected F32: load the model in f32", wants,
                     item->name, attn_quantised_layouts[attn_quantised_form_of(parameter->quantised)].name);
}

attn_quantised_store *attn_parameters_store(attn_parameters *set) { return &set->store; }

attn_context *attn_parameters_context(const attn_parameters *set) { return set->ctx; }

size_t attn_parameters_count(const attn_parameters *set) { return set->count; }

attn_parameter *attn_parameters_at(const attn_parameters *set, size_t index) {
    return index < set->count ? &set->items[index]->parameter : NULL;
}

attn_parameter *attn_parameters_find(const attn_parameters *set, const char *name) {
    uint64_t hash = attn_hash_text(name, strlen(name));
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i]->hash == hash && strcmp(set->items[i]->name, name) == 0) return &set->items[i]->parameter;
    return NULL;
}

size_t attn_parameters_elements(const attn_parameters *set) {
    size_t sum = 0;
    for (size_t i = 0; i < set->count; i++) sum += attn_tensor_count(&set->items[i]->parameter.value);
    return sum;
}

static void clear_grad(void *arg, size_t index) {
    const attn_parameter *parameter = &((entry **)arg)[index]->parameter;
    if (parameter->grad.data) memset(parameter->grad.data, 0, attn_tensor_count(&parameter->grad) * sizeof(float));
}

void attn_parameters_zero_grad(attn_parameters *set) {
    attn_parallel_for(set->ctx, set->count, clear_grad, set->items);
}

/* Forms that only a validation made are not kept until the next. */
void attn_parameter_touch(attn_parameter *parameter) {
    entry *item = (entry *)parameter;
    memset(item->fresh, 0, sizeof item->fresh);
    if (item->shares) forms_free(item->ctx, item);
    item->shares = false;
}

static attn_status pack_form(const entry *item, attn_form form, attn_panel_form panels, attn_packed *packed) {
    const attn_tensor *w = &item->parameter.value;
    ATTN_TRY(attn_parameter_needs_floats(&item->parameter, "a product with weights"));
    if (w->rank != 2)
        return attn_fail(item->ctx, ATTN_E_SHAPE, "parameter %s has rank %d, expected a matrix", item->name, w->rank);
    const size_t rows = w->shape[0], columns = w->shape[1];
    return form == ATTN_FORM_FORWARD
               ? attn_gemm_pack(item->ctx, packed, panels, w->data, 1, (ptrdiff_t)columns, columns, rows)
               : attn_gemm_pack(item->ctx, packed, panels, w->data, (ptrdiff_t)columns, 1, rows, columns);
}

const attn_packed *attn_parameter_form(attn_parameter *parameter, attn_form form, attn_panel_form panels) {
    entry *item = (entry *)parameter;
    attn_packed *packed = &item->form[panels][form];
    if (item->fresh[panels][form]) return packed;
    if (pack_form(item, form, panels, packed) != ATTN_OK) return NULL;
    item->fresh[panels][form] = true;
    return packed;
}

attn_status attn_parameter_multiply_once(attn_gemm *gemm, attn_parameter *parameter, attn_form form,
                                         attn_panel_form panels, attn_packed *shared) {
    entry *item = (entry *)parameter;
    const attn_tensor *w = &parameter->value;
    if (parameter->frozen || gemm->m < ATTN_MANY_ROWS || item->fresh[panels][form]) {
        gemm->b = attn_parameter_form(parameter, form, panels);
        return gemm->b ? attn_gemm_run(item->ctx, gemm) : ATTN_E_NOMEM;
    }
    item->shares = true;
    if (panels == ATTN_PANEL_F32 && w->rank == 2) {
        const size_t rows = w->shape[0], columns = w->shape[1];
        return form == ATTN_FORM_FORWARD
                   ? attn_gemm_run_unpacked(item->ctx, gemm, w->data, 1, (ptrdiff_t)columns, columns, rows)
                   : attn_gemm_run_unpacked(item->ctx, gemm, w->data, (ptrdiff_t)columns, 1, rows, columns);
    }
    ATTN_TRY(pack_form(item, form, panels, shared));
    gemm->b = shared;
    return attn_gemm_run(item->ctx, gemm);
}

float *attn_parameter_grad_begin(attn_parameter *parameter, bool *accumulate) {
    entry *item = (entry *)parameter;
    *accumulate = !item->old;
    item->old = false;
    if (attn_parameter_needs_floats(parameter, "a gradient") != ATTN_OK) return NULL;
    if (!parameter->grad.data)
        parameter->grad.data = attn_alloc_zero(item->ctx, attn_tensor_count(&parameter->grad), sizeof(float));
    return parameter->grad.data;
}

float *attn_parameter_grad(attn_parameter *parameter) {
    bool accumulate;
    float *grad = attn_parameter_grad_begin(parameter, &accumulate);
    if (grad && !accumulate) attn_fill_zero(((entry *)parameter)->ctx, grad, attn_tensor_count(&parameter->grad));
    return grad;
}

void attn_parameters_replace_grad(attn_parameters *set) {
    for (size_t i = 0; i < set->count; i++) set->items[i]->old = set->items[i]->parameter.grad.data != NULL;
}

void attn_parameters_replaced_grad(attn_parameters *set) {
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i]->old) attn_parameter_grad(&set->items[i]->parameter);
}
