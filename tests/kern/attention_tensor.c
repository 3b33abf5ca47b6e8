/* Memory of random calls: tensors of any layout between guard pages. */
#include "kern/attention_case.h"

#include <stdio.h>

/* The blocks that tensors lie in, to look into their gaps. */
static struct block {
    unsigned char *start;
    size_t bytes;
} blocks[GUARD_MAX];
static size_t block_count;

void case_release(void) {
    block_count = 0;
    guard_release();
}

static void *block_new(size_t bytes) {
    unsigned char *start = guard_bytes(bytes);
    blocks[block_count++] = (struct block){start, bytes};
    return start;
}

double case_normal(uint64_t *random) {
    double u = (double)((case_next(random) >> 11) + 1) * 0x1p-53, v = (double)(case_next(random) >> 11) * 0x1p-53;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* Strides from the innermost dimension outwards, which need not be the last but one. */
static size_t choose_strides(attn_tensor *t, uint64_t *random, bool pages, bool gaps, bool permuted) {
    size_t extent = t->shape[t->rank - 1], size = attn_dtype_size(t->dtype), page = 4096 / size;
    int order[ATTN_MAX_RANK];
    for (int d = 0; d < t->rank - 1; d++) order[d] = t->rank - 2 - d;
    for (int d = t->rank - 2; permuted && d > 0; d--) {
        int other = (int)case_below(random, (size_t)d + 1), kept = order[d];
        order[d] = order[other], order[other] = kept;
    }
    t->stride[t->rank - 1] = 1;
    for (int d = 0; d < t->rank - 1; d++) {
        if (gaps && case_chance(random, 0.5)) extent += 1 + case_below(random, 9);
        if (pages && d == 0) extent = (extent + page - 1) / page * page;
        t->stride[order[d]] = (ptrdiff_t)extent;
        extent *= t->shape[order[d]] ? t->shape[order[d]] : 1;
    }
    size_t elements = t->shape[t->rank - 1];
    for (int d = 0; d < t->rank - 1; d++) elements += t->shape[d] ? (t->shape[d] - 1) * (size_t)t->stride[d] : 0;
    return attn_tensor_count(t) ? elements * size : 0;
}

attn_tensor case_tensor(uint64_t *random, attn_dtype dtype, int rank, const size_t *shape, enum case_layout layout) {
    attn_tensor t = attn_tensor_of(NULL, dtype, rank, shape);
    if (layout == LAYOUT_PLAIN || rank == 1) {
        t.data = block_new(attn_tensor_count(&t) * attn_dtype_size(dtype));
        return t;
    }
    bool gaps = case_chance(random, 0.5), pages = case_chance(random, 0.15), permuted = case_chance(random, 0.5);
    if (rank == 4 && case_chance(random, 0.3)) { /* (B, T, H, D) */
        const size_t swapped[4] = {shape[0], shape[2], shape[1], shape[3]};
        t = attn_tensor_of(NULL, dtype, rank, swapped);
        t.data = block_new(attn_tensor_count(&t) * attn_dtype_size(dtype));
        return attn_tensor_swap(&t, 1, 2);
    }
    size_t bytes = choose_strides(&t, random, pages, gaps, permuted);
    if (bytes > (size_t)4 << 20) bytes = choose_strides(&t, random, false, gaps, permuted);
    t.data = block_new(bytes);
    for (int d = 0; d < rank - 1; d++)
        if (t.shape[d] > 1 && attn_tensor_count(&t) && case_chance(random, 0.06)) { /* backwards */
            t.data = (char *)t.data + (ptrdiff_t)(t.shape[d] - 1) * t.stride[d] * (ptrdiff_t)attn_dtype_size(dtype);
            t.stride[d] = -t.stride[d];
        }
    return t;
}

attn_tensor case_copy(const attn_tensor *t, uint64_t *random, enum case_layout layout) {
    attn_tensor copy = case_tensor(random, t->dtype, t->rank, t->shape, layout);
    size_t size = attn_dtype_size(t->dtype), n = attn_tensor_count(t);
    for (size_t i = 0; i < n; i++)
        memcpy((char *)copy.data + ref_place(&copy, i) * (ptrdiff_t)size,
               (const char *)t->data + ref_place(t, i) * (ptrdiff_t)size, size);
    return copy;
}

const attn_tensor *case_keep(attn_tensor t) {
    attn_tensor *kept = guard_bytes(sizeof *kept);
    *kept = t;
    return kept;
}

void *case_array(const void *from, size_t count, size_t size) {
    void *array = guard_bytes(count * size);
    if (from) memcpy(array, from, count * size);
    else memset(array, 0, count * size);
    return array;
}

attn_tensor case_part(const attn_tensor *t, int dim, size_t first, size_t count) {
    attn_tensor part = *t;
    if (count) part.data = (char *)t->data + (ptrdiff_t)first * t->stride[dim] * (ptrdiff_t)attn_dtype_size(t->dtype);
    part.shape[dim] = count;
    return part;
}

const char *case_same_bits(const char *what, const attn_tensor *a, const attn_tensor *b) {
    static char text[200];
    size_t size = attn_dtype_size(a->dtype), n = attn_tensor_count(a);
    for (int d = 0; d < a->rank; d++)
        if (a->rank != b->rank || a->dtype != b->dtype || a->shape[d] != b->shape[d]) {
            snprintf(text, sizeof text, "%s: the test compares two shapes", what);
            return text;
        }
    for (size_t i = 0; i < n; i++) {
        ptrdiff_t pa = ref_place(a, i), pb = ref_place(b, i);
        if (memcmp((const char *)a->data + pa * (ptrdiff_t)size, (const char *)b->data + pb * (ptrdiff_t)size, size)) {
            snprintf(text, sizeof text, "%s[%zu of %zu] is %a and %a", what, i, n, ref_load(a, pa), ref_load(b, pb));
            return text;
        }
    }
    return NULL;
}

double *case_values(const attn_tensor *t) {
    size_t n = attn_tensor_count(t);
    double *x = malloc((n + 1) * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = ref_load(t, ref_place(t, i));
    return x;
}

static const char *check_gaps(const char *what, const attn_tensor *t) {
    static char text[160];
    size_t size = attn_dtype_size(t->dtype), n = attn_tensor_count(t);
    const struct block *block = blocks;
    while (block < blocks + block_count &&
           !((unsigned char *)t->data >= block->start && (unsigned char *)t->data < block->start + block->bytes))
        block++;
    if (block == blocks + block_count || block->bytes > (size_t)1 << 20 || block->bytes == n * size) return NULL;
    unsigned char *own = calloc(block->bytes, 1);
    for (size_t i = 0; i < n; i++)
        memset(own + ((unsigned char *)t->data - block->start) + ref_place(t, i) * (ptrdiff_t)size, 1, size);
    const char *found = NULL;
    for (size_t i = 0; i < block->bytes && !found; i++)
        if (!own[i] && block->start[i] != 0xff) {
            snprintf(text, sizeof text, "%s: written between its rows, at byte %zu of %zu", what, i, block->bytes);
            found = text;
        }
    free(own);
    return found;
}

const char *case_check_gaps(const struct attention_case *c) {
    for (int x = 0; x < CASE_RESULT_COUNT; x++) {
        const char *found = c->wanted[x] ? check_gaps(case_result_names[x], &c->result[x]) : NULL;
        if (found) return found;
    }
    return NULL;
}
