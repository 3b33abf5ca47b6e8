/* quantised.c: weights of small integers: into panels, back into floats, and products with them. */
#include "ops/quantised.h"
#include "base/half.h"

#include <stdatomic.h>
#include <string.h>

enum {
    ROWS = 256,      /* of x that are rounded together */
    ALONE = 1 << 16, /* bytes of W times rows that are not worth a second thread */
    /* So that a thread that lost its processor for a while is waited for less. One row takes microseconds: each thread
     * reads W in one piece. */
    UNITS_PER_THREAD = 4,
    MANY_ROWS = 8, /* are rounded on all threads */
    HEADER = 64,
    SMALLEST_CHUNK = 1 << 18,
    LARGEST_CHUNK = 64 << 20
};

struct attn_quantised {
    attn_quantised_form form;
    size_t n, k, blocks;
    size_t panel_bytes;
    unsigned char *data; /* 64-byte aligned */
    size_t bytes;
    bool owns; /* the data */
};

static size_t panels_of(const attn_quantised *w) { return w->n / ATTN_PANEL + (w->n % ATTN_PANEL != 0); }

/* ---- packing -------------------------------------------------------------------------------------- */

/* A block of 32 as files have it, apart: integers without their offset taken away, I8 and Q8_0 as they are. */
typedef struct loose {
    uint8_t q[ATTN_QUANTISED_BLOCK];
    uint16_t scale, minimum; /* f16 */
    uint8_t own[2];          /* Q4_K: scale and minimum; Q6_K: the scales of the halves */
} loose;

static uint16_t half_at(const unsigned char *x) { return (uint16_t)(x[0] | x[1] << 8); }

static void nibbles(uint8_t q[ATTN_QUANTISED_BLOCK], const unsigned char *x) {
    for (size_t i = 0; i < 16; i++) q[i] = x[i] & 15, q[16 + i] = x[i] >> 4;
}
static void fifth_bits(uint8_t q[ATTN_QUANTISED_BLOCK], const unsigned char *x) {
    for (size_t i = 0; i < 32; i++) q[i] |= (uint8_t)((x[i / 8] >> i % 8 & 1) << 4);
}

/* Block `part` of a block of 256. */
static void loosen_Q4_K(loose *to, const unsigned char *x, size_t part) {
    const unsigned char *six = x + 4, *q = x + 16 + part / 2 * 32;
    to->scale = half_at(x), to->minimum = half_at(x + 2);
    to->own[0] = part < 4 ? six[part] & 63 : (six[part + 4] & 15) | (six[part - 4] >> 6) << 4;
    to->own[1] = part < 4 ? six[part + 4] & 63 : six[part + 4] >> 4 | (six[part] >> 6) << 4;
    for (size_t i = 0; i < 32; i++) to->q[i] = part % 2 ? q[i] >> 4 : q[i] & 15;
}
static void loosen_Q6_K(loose *to, const unsigned char *x, size_t part) {
    const unsigned char *low = x + part / 4 * 64 + part % 2 * 32, *high = x + 128 + part / 4 * 32;
    const size_t low_shift = part % 4 / 2 * 4, high_shift = part % 4 * 2;
    to->scale = half_at(x + 208);
    memcpy(to->own, x + 192 + part * 2, 2);
    for (size_t i = 0; i < 32; i++) to->q[i] = (uint8_t)((low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4);
}

static void loosen(loose *to, attn_quantised_form form, const unsigned char *row, size_t block, size_t k) {
    memset(to, 0, sizeof *to);
    switch (form) {
    case ATTN_QUANTISED_I8: {
        const size_t left = k - block * ATTN_QUANTISED_BLOCK;
        memcpy(to->q, row + block * ATTN_QUANTISED_BLOCK, ATTN_MIN(left, (size_t)ATTN_QUANTISED_BLOCK));
        return;
    }
    case ATTN_QUANTISED_Q8_0:
        row += block * 34;
        to->scale = half_at(row);
        memcpy(to->q, row + 2, 32);
        return;
    case ATTN_QUANTISED_Q4_0:
        row += block * 18;
        to->scale = half_at(row);
        nibbles(to->q, row + 2);
        return;
    case ATTN_QUANTISED_Q4_1:
        row += block * 20;
        to->scale = half_at(row), to->minimum = half_at(row + 2);
        nibbles(to->q, row + 4);
        return;
    case ATTN_QUANTISED_Q5_0:
        row += block * 22;
        to->scale = half_at(row);
        nibbles(to->q, row + 6);
        fifth_bits(to->q, row + 2);
        return;
    case ATTN_QUANTISED_Q5_1:
        row += block * 24;
        to->scale = half_at(row), to->minimum = half_at(row + 2);
        nibbles(to->q, row + 8);
        fifth_bits(to->q, row + 4);
        return;
    case ATTN_QUANTISED_Q4_K: loosen_Q4_K(to, row + block / 8 * 144, block % 8); return;
    case ATTN_QUANTISED_Q6_K: loosen_Q6_K(to, row + block / 8 * 210, block % 8); return;
    case ATTN_QUANTISED_FORMS: break;
    }
}

/* Where four numbers of row r of a line lie. */
static size_t word_at(size_t line, size_t r) { return line * 4 * ATTN_PANEL + r * 4; }

static void add_bits(unsigned char *q, size_t line, size_t r, uint32_t bits) {
    uint32_t word;
    memcpy(&word, q + word_at(line, r), sizeof word);
    word |= bits;
    memcpy(q + word_at(line, r), &word, sizeof word);
}

/* Puts a block into row r of a panel, which is zeros there. Four bytes at a time: no bit leaves its byte. */
static void tighten(const attn_quantised *w, unsigned char *panel, size_t r, size_t block, const loose *from) {
    const attn_quantised_layout *l = &attn_quantised_layouts[w->form];
    unsigned char *q =
        panel + attn_quantised_lines_at(w->form, w->blocks) + block * attn_quantised_block_bytes(w->form);
    for (size_t group = 0; group < ATTN_QUANTISED_GROUPS; group++) {
        uint32_t four;
        memcpy(&four, from->q + 4 * group, sizeof four);
        const uint32_t high = four >> 4 & 0x0f0f0f0f;
        if (l->bits == 8) {
            add_bits(q, group, r, four);
            continue;
        }
        add_bits(q, group % 4, r, (four & 0x0f0f0f0f) << group / 4 * 4);
        if (l->bits == 5) add_bits(q, 4, r, high << group);
        if (l->bits == 6) add_bits(q, 4 + group / 4, r, high << group % 4 * 2);
    }
    if (w->form == ATTN_QUANTISED_I8) return;
    unsigned char *scales = panel + block / l->share * l->scale_bytes;
    const size_t own = l->scale_bytes - 8 * 32 + block % 8 * 32 + r; /* of forms that share */
    memcpy(scales + 2 * r, &from->scale, 2);
    if (l->scale_bytes == 64 || l->scale_bytes == 320) memcpy(scales + 32 + 2 * r, &from->minimum, 2);
    if (l->share > 1) scales[own] = from->own[0], scales[own + ATTN_PANEL] = from->own[1];
}

struct pack_job {
    const attn_quantised *w;
    const void *const *row;
    const float *scale;
    _Atomic size_t wrong; /* the first row with a scale that is not finite */
};

static void note_wrong(struct pack_job *job, size_t row) {
    size_t first = atomic_load(&job->wrong);
    while (row < first && !atomic_compare_exchange_weak(&job->wrong, &first, row)) {}
}
static bool is_finite_half(uint16_t h) { return (h & 0x7c00) != 0x7c00; }

static void pack_panel(void *arg, size_t p) {
    struct pack_job *job = arg;
    const attn_quantised *w = job->w;
    unsigned char *panel = w->data + p * w->panel_bytes;
    memset(panel, 0, w->panel_bytes);
    for (size_t r = 0; r < ATTN_PANEL && p * ATTN_PANEL + r < w->n; r++) {
        const size_t n = p * ATTN_PANEL + r;
        if (w->form == ATTN_QUANTISED_I8) memcpy(panel + r * sizeof(float), job->scale + n, sizeof(float));
        if (w->form == ATTN_QUANTISED_I8 && !(job->scale[n] - job->scale[n] == 0)) note_wrong(job, n);
        for (size_t b = 0; b < w->blocks; b++) {
            loose block;
            loosen(&block, w->form, job->row[n], b, w->k);
            tighten(w, panel, r, b, &block);
            if (!is_finite_half(block.scale) || !is_finite_half(block.minimum)) note_wrong(job, n);
        }
    }
}

struct attn_quantised_chunk {
    struct attn_quantised_chunk *before;
    size_t bytes, used; /* behind a header of HEADER bytes */
};

static void *take_memory(attn_context *ctx, attn_quantised_store *store, size_t bytes) {
    struct attn_quantised_chunk *chunk = store ? store->last : NULL;
    if (!store) {
        void *own = attn_alloc(ctx, bytes, 1);
        if (own) attn_want_huge_pages(ctx, own, bytes);
        return own;
    }
    if (!chunk || chunk->bytes - chunk->used < bytes) {
        const size_t good = ATTN_MIN(ATTN_MAX(store->held, (size_t)SMALLEST_CHUNK), (size_t)LARGEST_CHUNK);
        const size_t all = ATTN_MAX(good, bytes);
        if (all > SIZE_MAX - HEADER || !(chunk = attn_alloc(ctx, HEADER + all, 1))) return NULL;
        attn_want_huge_pages(ctx, chunk, HEADER + all);
        *chunk = (struct attn_quantised_chunk){store->last, all, 0};
        store->last = chunk;
        store->held += all;
    }
    void *piece = (char *)chunk + HEADER + chunk->used;
    chunk->used += bytes; /* a multiple of 64, as panels are */
    return piece;
}

void attn_quantised_store_free(attn_context *ctx, attn_quantised_store *store) {
    while (store->last) {
        struct attn_quantised_chunk *chunk = store->last;
        store->last = chunk->before;
        attn_release(ctx, chunk);
    }
    store->held = 0;
}

attn_status attn_quantised_create(attn_quantised **gives, attn_context *ctx, attn_quantised_store *store,
                                  attn_quantised_form form, size_t n, size_t k, const void *const *row,
                                  const float *scale) {
    *gives = NULL;
    const size_t step = form == ATTN_QUANTISED_I8 ? 1 : attn_quantised_layouts[form].share * ATTN_QUANTISED_BLOCK;
    if (k % step != 0)
        return attn_fail(ctx, ATTN_E_SHAPE, "a weight in %s has %zu columns, expected a multiple of %zu",
                         attn_quantised_layouts[form].name, k, step);
    attn_quantised w = {.form = form, .n = n, .k = k, .blocks = k / ATTN_QUANTISED_BLOCK};
    w.blocks += k % ATTN_QUANTISED_BLOCK != 0;
    w.panel_bytes = attn_quantised_panel_bytes(form, w.blocks);
    if (k > SIZE_MAX / 64 || !attn_size_mul(&w.bytes, panels_of(&w), w.panel_bytes))
        return attn_fail(ctx, ATTN_E_NOMEM, "a weight of %zu × %zu does not fit into memory", n, k);
    attn_quantised *out = attn_alloc(ctx, 1, sizeof *out);
    w.data = out ? take_memory(ctx, store, w.bytes) : NULL;
    w.owns = !store;
    if (!w.data) {
        attn_release(ctx, out);
        return ATTN_E_NOMEM;
    }
    *out = w;
    struct pack_job job = {out, row, scale, SIZE_MAX};
    attn_parallel_for(ctx, panels_of(out), pack_panel, &job);
    const size_t wrong = atomic_load(&job.wrong);
    if (wrong != SIZE_MAX) {
        attn_quantised_free(ctx, out);
        return attn_fail(ctx, ATTN_E_NUMERIC, "a scale in row %zu is not a finite number", wrong);
    }
    *gives = out;
    return ATTN_OK;
}

void attn_quantised_free(attn_context *ctx, attn_quantised *w) {
    if (!w) return;
    if (w->owns) attn_release(ctx, w->data);
    attn_release(ctx, w);
}

bool attn_quantised_form_named(attn_quantised_form *out, const char *name) {
    for (size_t i = 0; i < ATTN_QUANTISED_FORMS; i++)
        if (!strcmp(attn_quantised_layouts[i].name, name)) {
            *out = (attn_quantised_form)i;
            return true;
        }
    return false;
}

attn_quantised_form attn_quantised_form_of(const attn_quantised *w) { return w->form; }

/* ---- back ------------------------------------------------------------------------------------------- */

static float from_half(const unsigned char *at) { return attn_float_of_f16(half_at(at)); }

void attn_quantised_row(float *out, const attn_quantised *w, size_t n) {
    const attn_quantised_layout *l = &attn_quantised_layouts[w->form];
    const unsigned char *panel = w->data + n / ATTN_PANEL * w->panel_bytes;
    const unsigned char *q = panel + attn_quantised_lines_at(w->form, w->blocks);
    const size_t r = n % ATTN_PANEL;
    for (size_t b = 0; b < w->blocks; b++, q += attn_quantised_block_bytes(w->form)) {
        const unsigned char *scales = panel + b / l->share * l->scale_bytes;
        const unsigned char *own = scales + l->scale_bytes - 8 * 32 + b % 8 * 32 + r;
        const bool has_minimum = l->scale_bytes == 64 || l->scale_bytes == 320;
        float scale[2] = {0, 0}, minimum = 0;
        if (w->form == ATTN_QUANTISED_I8) memcpy(scale, panel + r * sizeof(float), sizeof(float));
        else scale[0] = from_half(scales + 2 * r);
        scale[1] = scale[0];
        if (has_minimum) minimum = from_half(scales + 32 + 2 * r);
        if (w->form == ATTN_QUANTISED_Q4_K) {
            minimum = -(minimum * (float)own[ATTN_PANEL]);
            scale[0] *= (float)own[0], scale[1] = scale[0];
        }
        if (w->form == ATTN_QUANTISED_Q6_K)
            scale[0] *= (float)(int8_t)own[0], scale[1] *= (float)(int8_t)own[ATTN_PANEL];
        for (size_t i = 0; i < ATTN_QUANTISED_BLOCK && b * ATTN_QUANTISED_BLOCK + i < w->k; i++) {
            const size_t group = i / 4;
            const unsigned char *lines = q + word_at(0, r) + i % 4;
            int value =
                l->bits == 8 ? (int8_t)lines[word_at(group, 0)] : lines[word_at(group % 4, 0)] >> group / 4 * 4 & 15;
            if (l->bits == 5) value |= (lines[word_at(4, 0)] >> group & 1) << 4;
            if (l->bits == 6) value |= (lines[word_at(4 + group / 4, 0)] >> group % 4 * 2 & 3) << 4;
            const float product = scale[i / 16] * (float)(value - l->offset);
            out[b * ATTN_QUANTISED_BLOCK + i] = has_minimum ? product + minimum : product;
        }
    }
}

/* ---- products --------------------------------------------------------------------------------------- */

typedef struct product {
    const attn_context *ctx;
    const attn_quantised_kernels *kernels;
    const attn_quantised_gemm *gemms; /* (n) */
    size_t n;
    size_t row, rows; /* of x that are done together */
    attn_quantised_rows x;
    size_t *fine; /* (rows) those of x that have a second part: `fines` of them */
    size_t fines;
    attn_quantised_rows x2; /* of these */
    float *rest;            /* (fines, K) what the first part leaves */
    float *y2;              /* (fines, columns) */
    size_t columns;         /* of all weights together */
    unsigned char *scratch; /* [unit][ATTN_QUANTISED_SCRATCH] or NULL */
    size_t units, pairs;    /* of panels, of all weights */
} product;

static void round_row(void *arg, size_t row) {
    const product *p = arg;
    const attn_quantised_gemm *g = p->gemms;
    p->kernels->quantise_row(&p->x, row, g->x + (ptrdiff_t)(p->row + row) * g->x_row, g->w->k, g->w->form);
}

/* The second part of a row: what the first one leaves, rounded again. */
static void round_rest(void *arg, size_t i) {
    const product *p = arg;
    const attn_quantised_gemm *g = p->gemms;
    const size_t row = p->fine[i], k = g->w->k, blocks = g->w->blocks;
    const float *x = g->x + (ptrdiff_t)(p->row + row) * g->x_row, *scale = p->x.scale + row * blocks;
    const int8_t *q = p->x.q + row * blocks * ATTN_QUANTISED_BLOCK;
    float *rest = p->rest + i * k;
    for (size_t c = 0; c < k; c++) rest[c] = x[c] - (float)q[c] * scale[c / ATTN_QUANTISED_BLOCK];
    p->kernels->quantise_row(&p->x2, i, rest, k, g->w->form);
}

/* act(y + bias + residual) in a row's columns. */
static void finish(const attn_kernels *kernels, const attn_quantised_gemm *g, float *y, size_t row, size_t first,
                   size_t n) {
    if (g->bias) kernels->vector_add(y, y, g->bias + first, n);
    if (g->residual) kernels->vector_add(y, y, g->residual + (ptrdiff_t)row * g->residual_row + first, n);
    if (g->act != ATTN_IDENTITY) kernels->activation_fwd(y, y, n, g->act);
}

static size_t pairs_of(const attn_quantised *w) { return (panels_of(w) + 1) / 2; }

/* Pairs of panels pair … end−1 of one weight. */
static void run_pairs(const product *p, const attn_quantised_gemm *g, size_t pair, size_t end, void *scratch) {
    const attn_quantised *w = g->w;
    const size_t first = 2 * pair * ATTN_PANEL, n = ATTN_MIN(2 * end * ATTN_PANEL, w->n) - first;
    const attn_quantised_job job = {
        .form = w->form,
        .w = w->data + 2 * pair * w->panel_bytes,
        .m = p->rows,
        .n = n,
        .x = p->x,
        .y = g->y + (ptrdiff_t)p->row * g->y_row + first,
        .y_row = g->y_row,
        .scratch = scratch,
    };
    p->kernels->quantised_product(&job);
    if (p->fines) {
        attn_quantised_job second = job;
        size_t before = first;
        for (const attn_quantised_gemm *other = p->gemms; other < g; other++) before += other->w->n;
        second.m = p->fines, second.x = p->x2, second.y = p->y2 + before, second.y_row = (ptrdiff_t)p->columns;
        p->kernels->quantised_product(&second);
        for (size_t i = 0; i < p->fines; i++) {
            float *y = job.y + (ptrdiff_t)p->fine[i] * job.y_row;
            p->ctx->kernels->vector_add(y, y, second.y + (ptrdiff_t)i * second.y_row, n);
        }
    }
    for (size_t r = 0; r < p->rows; r++)
        finish(p->ctx->kernels, g, job.y + (ptrdiff_t)r * job.y_row, p->row + r, first, n);
}

/* A part of all pairs of panels. */
static void run_unit(void *arg, size_t unit) {
    const product *p = arg;
    const size_t first = p->pairs * unit / p->units, end = p->pairs * (unit + 1) / p->units;
    unsigned char *scratch = p->scratch ? p->scratch + unit * ATTN_QUANTISED_SCRATCH : NULL;
    for (size_t i = 0, before = 0; i < p->n && before < end; before += pairs_of(p->gemms[i++].w)) {
        const size_t own = pairs_of(p->gemms[i].w), from = ATTN_MAX(first, before), to = ATTN_MIN(end, before + own);
        if (from < to) run_pairs(p, &p->gemms[i], from - before, to - before, scratch);
    }
}

/* The rounded rows' arrays in one piece of memory, whose bytes are given. */
static size_t lay_rows(attn_quantised_rows *x, unsigned char *memory, size_t rows, size_t blocks) {
    const size_t cells = rows * blocks, wide = (cells * sizeof(float) + 63) / 64 * 64;
    x->blocks = blocks;
    x->q = (int8_t *)memory;
    x->scale = (float *)(void *)(memory + cells * ATTN_QUANTISED_BLOCK + cells % 2 * 32);
    x->sum = x->scale + wide / sizeof(float);
    x->start = (int32_t *)(void *)(x->sum + wide / sizeof(float));
    return cells * ATTN_QUANTISED_BLOCK + 32 + 4 * wide;
}

/* Whether a few elements of a row are so large that one byte is not enough for the others of their blocks: the massive
 * activations that language models keep at a text's first token (Sun, Chen, Kolter & Liu 2024). */
static bool is_uneven(const product *p, size_t row) {
    enum { UNEVEN = 4 }; /* the largest scale of a block by the mean of all */
    const float *scale = p->x.scale + row * p->x.blocks;
    float largest = 0, sum = 0;
    for (size_t b = 0; b < p->x.blocks; b++) {
        largest = ATTN_MAX(largest, scale[b]);
        sum += scale[b];
    }
    return largest * (float)p->x.blocks > UNEVEN * sum;
}

/* Finds these rows and rounds what the first part leaves of them. Gives *memory, NULL where there are none. */
static attn_status add_second_parts(attn_context *ctx, product *p, unsigned char **memory) {
    const size_t k = p->gemms->w->k, blocks = p->gemms->w->blocks;
    *memory = NULL;
    p->fines = 0;
    for (size_t r = 0; r < p->rows; r++)
        if (is_uneven(p, r)) p->fine[p->fines++] = r;
    if (!p->fines) return ATTN_OK;
    attn_quantised_rows sizes;
    unsigned char here[1];
    const size_t rounded = (lay_rows(&sizes, here, p->fines, blocks) + 63) / 64 * 64;
    const size_t floats = p->fines * (k + p->columns);
    unsigned char *m = *memory = attn_alloc(ctx, rounded + floats * sizeof(float), 1);
    if (!m) return ATTN_E_NOMEM;
    lay_rows(&p->x2, m, p->fines, blocks);
    p->rest = (float *)(void *)(m + rounded);
    p->y2 = p->rest + p->fines * k;
    attn_parallel_for(ctx, p->fines, round_rest, p);
    return ATTN_OK;
}

bool attn_quantised_alike(const attn_quantised *a, const attn_quantised *b) {
    return a->form == b->form && a->k == b->k;
}

attn_status attn_quantised_run(attn_context *ctx, const attn_quantised_gemm *gemms, size_t n) {
    const size_t m = gemms->m, blocks = gemms->w->blocks, rows = ATTN_MIN(m, (size_t)ROWS);
    product p = {
        .ctx = ctx, .gemms = gemms, .n = n, .kernels = attn_quantised_kernels_for(ctx->kernels, false), .units = 1};
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        p.pairs += pairs_of(gemms[i].w);
        p.columns += gemms[i].w->n;
        bytes += gemms[i].w->bytes;
    }
    if (m == 0 || p.pairs == 0) return ATTN_OK;
    if (ctx->threads > 1 && bytes / ALONE * rows + bytes % ALONE * rows / ALONE > 0)
        p.units = ATTN_MIN(p.pairs, (size_t)ctx->threads * (m > 1 ? UNITS_PER_THREAD : 1));
    attn_quantised_rows sizes;
    unsigned char here[1];
    const size_t row_bytes = (lay_rows(&sizes, here, rows, blocks) + 63) / 64 * 64;
    const size_t list = (rows * sizeof *p.fine + 63) / 64 * 64;
    unsigned char *memory = attn_alloc(ctx, row_bytes + list + (m > 1 ? p.units * ATTN_QUANTISED_SCRATCH : 0), 1);
    if (!memory) return ATTN_E_NOMEM;
    p.fine = (size_t *)(void *)(memory + row_bytes);
    if (m > 1) p.scratch = memory + row_bytes + list;
    attn_status status = ATTN_OK;
    for (p.row = 0; p.row < m && status == ATTN_OK; p.row += p.rows) {
        p.rows = ATTN_MIN(m - p.row, (size_t)ROWS);
        lay_rows(&p.x, memory, p.rows, blocks);
        if (p.rows < MANY_ROWS) {
            for (size_t r = 0; r < p.rows; r++) round_row(&p, r);
        } else {
            attn_parallel_for(ctx, p.rows, round_row, &p);
        }
        unsigned char *second;
        if ((status = add_second_parts(ctx, &p, &second)) == ATTN_OK) attn_parallel_for(ctx, p.units, run_unit, &p);
        attn_release(ctx, second);
    }
    attn_release(ctx, memory);
    return status;
}
