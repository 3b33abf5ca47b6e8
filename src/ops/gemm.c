/* gemm.c: packing, and the spreading of matrix products over threads. The arithmetic is in kernel/body/gemm.h.
 *
 * C is cut into units of rows × panels, never along k, so that the cut cannot change a result. Workers, at most one for
 * each thread, claim units in order; a worker owns the memory for its copies of A. */
#include "ops/gemm.h"
#include "ops/gemm_chunks.h"
#include "kernel/kernels.h"

#include <stdatomic.h>

enum {
    MANY = 16,            /* products of one dispatch */
    UNITS_PER_THREAD = 4, /* so that a thread that lost its processor for a while is waited for less */
    ALONE = 2 << 20,      /* multiply-adds not worth a second thread */
    READ_COST = 8,        /* multiply-adds in the time that it takes to read an element of B */
    PAIR_ROWS_ALIGN = 32, /* as ROWS_ALIGN, where pairs are multiplied by tiles: two of them */
    MOST_ROWS = 384,
    STREAM_BYTES = 1 << 19,
    LARGE_L1 = 44 << 10,     /* has room for a chain of a strip (32 KB) and of a tile of A, if nothing else comes in */
    STRIP_ROWS = 96,         /* B is packed before, or in chunks, for more rows of A */
    CHUNK_ROWS = 512,        /* in chunks for at most so many, or if B is large */
    STRIP_PANELS = 2,        /* packed at a time where B is not packed as a whole */
    STRIP_DEPTH = 8192,      /* and the k it may have for that */
    COPY_COLUMNS = 64,       /* an A whose rows are not contiguous is copied if at least so many columns read it */
    SET_COLUMNS = 256,       /* so is one whose rows lie a multiple of SET_ELEMENTS apart: see gemm_chunks.h */
    PACK_ELEMENTS = 1 << 14, /* packed on one thread */
    PACK_PANELS = 8,         /* packed together: 512 bytes of a row */
    MOST_SPARE = 64 << 20,   /* bytes of a packed right side that a context keeps for the next one */
};

/* ---- packing ------------------------------------------------------------------------------------ */

static size_t panels_of(size_t n) { return n / ATTN_PANEL + (n % ATTN_PANEL != 0); }
static size_t panel_bytes(attn_panel_form form, size_t k) {
    return attn_panel_lines(form, k) * ATTN_PANEL * (form == ATTN_PANEL_BF16 ? sizeof(uint16_t) : sizeof(float));
}

struct pack_job {
    const attn_kernels *kernels;
    const attn_packed *packed;
    const float *b;
    ptrdiff_t row, column;
    size_t panels; /* a task's */
};

static void pack_panels(void *arg, size_t task) {
    const struct pack_job *job = arg;
    const attn_packed *packed = job->packed;
    size_t panel = task * job->panels, first = panel * ATTN_PANEL;
    void *to = (char *)packed->data + panel * panel_bytes(packed->form, packed->k);
    const float *b = job->b + (ptrdiff_t)first * job->column;
    const size_t columns = ATTN_MIN(packed->n - first, job->panels * ATTN_PANEL);
    if (packed->form == ATTN_PANEL_PAIRS)
        job->kernels->gemm_pack_pairs(to, b, job->row, job->column, packed->k, columns);
    else job->kernels->gemm_pack_panels(to, packed->form, b, job->row, job->column, packed->k, columns);
}

attn_status attn_gemm_pack(attn_context *ctx, attn_packed *packed, attn_panel_form form, const float *b, ptrdiff_t row,
                           ptrdiff_t column, size_t k, size_t n) {
    size_t elements, bytes, padded;
    if (!attn_size_add(&padded, n, ATTN_PANEL - 1) || !attn_size_add(&padded, k, 2 * ATTN_PAIR_STEP - 1) ||
        !attn_size_mul(&elements, panels_of(n) * ATTN_PANEL, padded) || !attn_size_mul(&bytes, elements, sizeof(float)))
        return attn_fail(ctx, ATTN_E_NOMEM, "a packed matrix of %zu × %zu does not fit into memory", k, n);
    bytes = panels_of(n) * panel_bytes(form, k);
    if (!packed->data || packed->bytes < bytes) {
        void *data = attn_alloc(ctx, bytes, 1);
        if (!data) return ATTN_E_NOMEM;
        attn_release(ctx, packed->data);
        packed->data = data;
        packed->bytes = bytes;
    }
    packed->k = k;
    packed->n = n;
    packed->form = form;
    const size_t panels = panels_of(n), threads = elements > PACK_ELEMENTS ? (size_t)ctx->threads : 1;
    const size_t share = panels / threads + (panels % threads != 0);
    struct pack_job job = {ctx->kernels, packed, b, row, column, ATTN_MAX(ATTN_MIN(share, PACK_PANELS), 1)};
    const size_t tasks = panels / job.panels + (panels % job.panels != 0);
    if (threads > 1) {
        attn_parallel_for(ctx, tasks, pack_panels, &job);
    } else {
        for (size_t task = 0; task < tasks; task++) pack_panels(&job, task);
    }
    return ATTN_OK;
}

void attn_packed_free(attn_context *ctx, attn_packed *packed) {
    if (!packed) return;
    attn_release(ctx, packed->data);
    *packed = (attn_packed)ATTN_PACKED_INIT;
}

/* ---- products ----------------------------------------------------------------------------------- */

/* How one product is cut: rows into `down` parts, panels into `across` parts. */
struct cut {
    const attn_gemm *gemm;
    attn_packed b; /* data NULL: B lies at raw */
    const float *raw;
    ptrdiff_t raw_row, raw_column;
    size_t down, across;
    size_t end;   /* units up to and with this product's */
    size_t rows;  /* that share a part of A in the L2 cache */
    size_t copy;  /* floats of scratch for A, or 0 */
    size_t strip; /* floats of scratch for a strip of B, or 0 */
};

struct gemm_job {
    const attn_kernels *kernels;
    struct cut cuts[MANY];
    size_t n, units;
    size_t l1_bytes;
    float *scratch; /* [workers][scratch_each] or NULL */
    size_t scratch_each;
    bool pairs; /* some B is of pairs */
    atomic_size_t next;
};

/* Part i of n parts of `count`, in whole steps: where it begins. */
static size_t part_start(size_t count, size_t step, size_t n, size_t i) {
    size_t steps = count / step + (count % step != 0), start = (steps / n * i + ATTN_MIN(i, steps % n)) * step;
    return ATTN_MIN(start, count);
}

static bool wants_copy(const attn_gemm *gemm, size_t n) {
    if (gemm->b && gemm->b->form == ATTN_PANEL_PAIRS) return true;
    return gemm->a_column != 1 ? n >= COPY_COLUMNS : gemm->a_row % SET_ELEMENTS == 0 && n >= SET_COLUMNS;
}

static size_t rows_align(const attn_kernels *kernels, const attn_packed *b) {
    return b->form == ATTN_PANEL_PAIRS && kernels->pair_group > 1 ? PAIR_ROWS_ALIGN : ROWS_ALIGN;
}

/* What is read of A, up to ATTN_GEMM_DEPTH of its columns, stays in a core's L2 cache while all of B passes, from
 * memory or from a cache that cores share: a block of 96 rows asks for 4/3 bytes of B in the time of 32 multiply-adds,
 * a cycle of a core with two ports, one of 256 rows for 1/2. B and C pass through L2 too and get STREAM_BYTES and as
 * much as A. */
static size_t rows_of(const attn_context *ctx, attn_panel_form form, size_t lines) {
    if (form == ATTN_PANEL_PAIRS) return LEAST_ROWS;
    const size_t bytes = ctx->l2_bytes > STREAM_BYTES ? (ctx->l2_bytes - STREAM_BYTES) / 2 : 0;
    const size_t fit = bytes / sizeof(float) / ATTN_MAX(ATTN_MIN(lines, (size_t)ATTN_GEMM_DEPTH), 1);
    return ATTN_MAX(ATTN_MIN(fit, (size_t)MOST_ROWS), (size_t)LEAST_ROWS);
}

/* Rows are cut first: each part reads all of B but only its rows of A. Few rows: B's panels are cut. */
static void make_cut(const attn_context *ctx, struct cut *cut) {
    const size_t threads = (size_t)ctx->threads, wanted = threads * UNITS_PER_THREAD;
    const size_t m = cut->gemm->m, n = cut->b.n, k = cut->b.k;
    const size_t align = rows_align(ctx->kernels, &cut->b);
    const size_t row_steps = m / align + (m % align != 0), panel_steps = (panels_of(n) + 1) / 2;
    cut->rows = cut->raw ? STRIP_ROWS : rows_of(ctx, cut->b.form, attn_panel_lines(cut->b.form, k));
    cut->down = cut->across = 1;
    if (threads > 1 && (double)(m + READ_COST) * (double)n * (double)ATTN_MAX(k, 1) > ALONE) {
        if (row_steps >= 2 * wanted && !cut->raw) { /* parts of whole blocks, as many for each thread */
            const size_t blocks = (m + cut->rows - 1) / cut->rows;
            cut->down = ATTN_MIN((blocks + threads - 1) / threads * threads, wanted);
            if (cut->b.form == ATTN_PANEL_PAIRS) cut->down = wanted;
            cut->across = ATTN_MIN((wanted + cut->down - 1) / cut->down, panel_steps);
        } else {
            cut->across = ATTN_MIN(wanted, panel_steps);
            if (!cut->raw) cut->down = ATTN_MIN(wanted / cut->across, row_steps);
        }
    }
    if (!cut->raw && wants_copy(cut->gemm, n))
        cut->copy = attn_gemm_scratch(cut->rows, m, attn_panel_lines(cut->b.form, k));
    if (cut->raw) cut->strip = STRIP_PANELS * ATTN_PANEL * k;
}

/* Columns column … column_end of a unit's rows. */
static void run_columns(const struct gemm_job *job, const struct cut *cut, size_t row, size_t row_end, size_t column,
                        size_t column_end, const void *b, float *copy, const float *next, size_t next_floats) {
    const attn_gemm *g = cut->gemm;
    const attn_gemm_block block = {
        .m = row_end - row,
        .n = column_end - column,
        .k = cut->b.k,
        .a = g->a + (ptrdiff_t)row * g->a_row,
        .a_row = g->a_row,
        .a_column = g->a_column,
        .b = b,
        .form = cut->b.form,
        .c = g->c + (ptrdiff_t)row * g->c_row + column,
        .c_row = g->c_row,
        .bias = g->bias ? g->bias + column : NULL,
        .residual = g->residual ? g->residual + (ptrdiff_t)row * g->residual_row + column : NULL,
        .residual_row = g->residual_row,
        .act = g->act,
        .accumulate = g->accumulate,
        .rows = cut->rows,
        .scratch = copy,
        .next = (const char *)next,
        .next_bytes = next_floats * sizeof *next,
        .next_to_l2 = job->l1_bytes >= LARGE_L1,
    };
    if (block.m == 0 || block.n == 0) return;
    if (block.form == ATTN_PANEL_PAIRS) job->kernels->gemm_block_pairs(&block);
    else job->kernels->gemm_block(&block);
}

static void run_unit(const struct gemm_job *job, const struct cut *cut, size_t unit, float *scratch) {
    const attn_packed *b = &cut->b;
    const size_t down = unit / cut->across, across = unit % cut->across, panels = panels_of(b->n);
    const size_t align = rows_align(job->kernels, b);
    const size_t row = part_start(cut->gemm->m, align, cut->down, down);
    const size_t row_end = part_start(cut->gemm->m, align, cut->down, down + 1);
    const size_t panel = part_start(panels, 2, cut->across, across);
    const size_t panel_end = part_start(panels, 2, cut->across, across + 1);
    const size_t column = panel * ATTN_PANEL, column_end = ATTN_MIN(b->n, panel_end * ATTN_PANEL);
    if (!cut->raw) {
        const char *data = (const char *)b->data + panel * panel_bytes(b->form, b->k);
        run_columns(job, cut, row, row_end, column, column_end, data, cut->copy ? scratch : NULL, NULL, 0);
        return;
    }
    for (size_t first = panel; first < panel_end; first += STRIP_PANELS) {
        const size_t end = ATTN_MIN(first + STRIP_PANELS, panel_end);
        const size_t j = first * ATTN_PANEL, j_end = ATTN_MIN(b->n, end * ATTN_PANEL);
        job->kernels->gemm_pack_panels(scratch, ATTN_PANEL_F32, cut->raw + (ptrdiff_t)j * cut->raw_column, cut->raw_row,
                                       cut->raw_column, b->k, j_end - j);
        /* Columns of B that are contiguous: the next strip comes while this one is multiplied. */
        const bool ahead = cut->raw_row == 1 && cut->raw_column == (ptrdiff_t)b->k && end < panel_end;
        run_columns(job, cut, row, row_end, j, j_end, scratch, NULL,
                    ahead ? cut->raw + (ptrdiff_t)j_end * cut->raw_column : NULL, (j_end - j) * b->k);
    }
}

static void run_worker(void *arg, size_t worker) {
    struct gemm_job *job = arg;
    float *scratch = job->scratch ? job->scratch + worker * job->scratch_each : NULL;
    size_t unit, product = 0;
    if (job->pairs) job->kernels->tiles_begin();
    while ((unit = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->units) {
        while (unit >= job->cuts[product].end) product++;
        run_unit(job, &job->cuts[product], unit - (product ? job->cuts[product - 1].end : 0), scratch);
    }
    if (job->pairs) job->kernels->tiles_end();
}

static attn_status check_epilogue(attn_context *ctx, const attn_gemm *g) {
    if (!g->accumulate || (!g->bias && !g->residual && g->act == ATTN_IDENTITY)) return ATTN_OK;
    return attn_fail(ctx, ATTN_E_ARGUMENT, "gemm: accumulate excludes bias, residual and activation");
}

static attn_status run_job(attn_context *ctx, struct gemm_job *job) {
    for (size_t i = 0; i < job->n; i++) {
        struct cut *cut = &job->cuts[i];
        const attn_gemm *g = cut->gemm;
        ATTN_TRY(check_epilogue(ctx, g));
        make_cut(ctx, cut);
        job->pairs |= cut->b.form == ATTN_PANEL_PAIRS;
        cut->end = job->units += cut->down * cut->across;
        job->scratch_each = ATTN_MAX(job->scratch_each, ATTN_MAX(cut->copy, cut->strip));
    }
    const size_t workers = ATTN_MIN((size_t)ctx->threads, job->units);
    if (job->scratch_each) {
        job->scratch = attn_alloc(ctx, workers * job->scratch_each, sizeof *job->scratch);
        if (!job->scratch) return ATTN_E_NOMEM;
    }
    attn_parallel_for(ctx, workers, run_worker, job);
    attn_release(ctx, job->scratch);
    return ATTN_OK;
}

attn_status attn_gemm_run_many(attn_context *ctx, const attn_gemm *gemms, size_t n) {
    for (size_t first = 0; first < n; first += MANY) {
        struct gemm_job job = {
            .kernels = ctx->kernels, .l1_bytes = ctx->l1_bytes, .n = ATTN_MIN(n - first, (size_t)MANY)};
        for (size_t i = 0; i < job.n; i++)
            job.cuts[i] = (struct cut){.gemm = &gemms[first + i], .b = *gemms[first + i].b};
        ATTN_TRY(run_job(ctx, &job));
    }
    return ATTN_OK;
}

attn_status attn_gemm_run(attn_context *ctx, const attn_gemm *gemm) { return attn_gemm_run_many(ctx, gemm, 1); }

attn_status attn_gemm_run_unpacked(attn_context *ctx, const attn_gemm *gemm, const float *b, ptrdiff_t row,
                                   ptrdiff_t column, size_t k, size_t n) {
    const bool chunks = gemm->m <= CHUNK_ROWS || (double)k * (double)n * sizeof(float) > MOST_SPARE;
    if (gemm->m > STRIP_ROWS && chunks && gemm->a_column == 1 && k && n) {
        ATTN_TRY(check_epilogue(ctx, gemm));
        return attn_gemm_run_chunks(ctx, gemm, b, row, column, k, n);
    }
    if (gemm->m > STRIP_ROWS || k > STRIP_DEPTH) {
        attn_packed packed = {.data = ctx->spare, .bytes = ctx->spare_bytes};
        ctx->spare = NULL, ctx->spare_bytes = 0;
        attn_status status = attn_gemm_pack(ctx, &packed, ATTN_PANEL_F32, b, row, column, k, n);
        attn_gemm with = *gemm;
        with.b = &packed;
        if (status == ATTN_OK) status = attn_gemm_run(ctx, &with);
        if (packed.bytes > MOST_SPARE) attn_packed_free(ctx, &packed);
        ctx->spare = packed.data, ctx->spare_bytes = packed.bytes;
        return status;
    }
    struct gemm_job job = {.kernels = ctx->kernels, .l1_bytes = ctx->l1_bytes, .n = 1};
    job.cuts[0] = (struct cut){
        .gemm = gemm, .b = {k, n, ATTN_PANEL_F32, NULL, 0}, .raw = b, .raw_row = row, .raw_column = column};
    return run_job(ctx, &job);
}
