/* gemm_chunks.c: products with a B that is read once: it is packed in chunks, each where and when it is needed.
 *
 * A unit is a block of rows of C and some columns, whose chunks are a chain of k deep. A worker goes through its units'
 * chunks chain by chain: a chain of A stays in its L2 cache meanwhile, a packed chunk too. What the next chunk is made
 * of comes from memory while this one is multiplied, so that neither packing nor memory is waited for. */
#include "ops/gemm_chunks.h"
#include "kernel/kernels.h"

#include <stdatomic.h>

enum {
    CHUNK_PANELS = 8,
    UNIT_CHUNKS = 3,
    UNITS_PER_THREAD = 3,
    COPYING_UNITS = 2, /* where a unit begins with copies */
    PACK_PANELS = 4,
};

struct chunk_job {
    const attn_kernels *kernels;
    const attn_gemm *gemm;
    const float *b;
    ptrdiff_t row, column;
    size_t k, n;
    size_t rows, blocks;    /* of a block of rows; blocks */
    size_t columns, chunks; /* of a chunk; chunks of a unit */
    size_t units;
    size_t chains;
    bool copies;    /* a unit's chain of A is copied */
    float *scratch; /* [workers][scratch_each]: a chunk, and a copy */
    size_t scratch_each;
    atomic_size_t next;
};

static size_t parts_of(size_t n, size_t part) { return n / part + (n % part != 0); }

/* One chunk of one unit. */
struct place {
    size_t row, rows, column, columns, line, depth;
    bool first, last; /* of its chain in the unit; chain of all */
};

static size_t chunks_of(const struct chunk_job *job, size_t unit) {
    const size_t first = unit / job->blocks * job->chunks * job->columns;
    return ATTN_MIN(parts_of(job->n - first, job->columns), job->chunks);
}

static struct place place_of(const struct chunk_job *job, size_t unit, size_t step) {
    const size_t chunks = chunks_of(job, unit), chain = step / chunks, chunk = step % chunks;
    struct place p = {.row = unit % job->blocks * job->rows, .line = chain * ATTN_GEMM_CHAIN};
    p.rows = ATTN_MIN(job->rows, job->gemm->m - p.row);
    p.depth = ATTN_MIN((size_t)ATTN_GEMM_CHAIN, job->k - p.line);
    p.column = (unit / job->blocks * job->chunks + chunk) * job->columns;
    p.columns = ATTN_MIN(job->columns, job->n - p.column);
    p.first = chunk == 0;
    p.last = chain + 1 == job->chains;
    return p;
}

static attn_gemm_block block_of(const struct chunk_job *job, const struct place *p) {
    const attn_gemm *g = job->gemm;
    return (attn_gemm_block){
        .m = p->rows,
        .n = p->columns,
        .k = p->depth,
        .a = g->a + (ptrdiff_t)p->row * g->a_row + (ptrdiff_t)p->line,
        .a_row = g->a_row,
        .a_column = 1,
        .form = ATTN_PANEL_F32,
        .c = g->c + (ptrdiff_t)p->row * g->c_row + p->column,
        .c_row = g->c_row,
        .bias = p->last && g->bias ? g->bias + p->column : NULL,
        .residual = p->last && g->residual ? g->residual + (ptrdiff_t)p->row * g->residual_row + p->column : NULL,
        .residual_row = g->residual_row,
        .act = p->last ? g->act : ATTN_IDENTITY,
        .accumulate = g->accumulate || p->line > 0,
        .rows = job->rows,
    };
}

/* What is read of B for a chunk, to be fetched while another is multiplied. */
static void fetch_ahead(const struct chunk_job *job, attn_gemm_block *block, const struct place *p) {
    const bool turned = job->row == 1; /* columns of B are contiguous */
    if (!turned && job->column != 1) return;
    block->far = (const char *)(job->b + (ptrdiff_t)p->line * job->row + (ptrdiff_t)p->column * job->column);
    block->far_row = (turned ? job->column : job->row) * (ptrdiff_t)sizeof(float);
    block->far_rows = turned ? p->columns : p->depth;
    block->far_bytes = (turned ? p->depth : p->columns) * sizeof(float);
}

/* A few panels at a time: the lines of all lie a multiple of a page apart. */
static void pack(const struct chunk_job *job, float *to, const struct place *p) {
    const float *from = job->b + (ptrdiff_t)p->line * job->row + (ptrdiff_t)p->column * job->column;
    const size_t some = PACK_PANELS * ATTN_PANEL;
    for (size_t j = 0; j < p->columns; j += some, to += some * p->depth)
        job->kernels->gemm_pack_panels(to, ATTN_PANEL_F32, from + (ptrdiff_t)j * job->column, job->row, job->column,
                                       p->depth, ATTN_MIN(p->columns - j, some));
}

static void run_worker(void *arg, size_t worker) {
    struct chunk_job *job = arg;
    float *scratch = job->scratch + worker * job->scratch_each;
    size_t unit = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed), upcoming = unit;
    for (; unit < job->units; unit = upcoming) {
        const size_t steps = chunks_of(job, unit) * job->chains;
        for (size_t step = 0; step < steps; step++) {
            const struct place p = place_of(job, unit, step);
            attn_gemm_block block = block_of(job, &p);
            block.b = scratch;
            if (job->copies) block.scratch = scratch + job->columns * ATTN_GEMM_CHAIN, block.copied = !p.first;
            if (step + 1 == steps) upcoming = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed);
            if (step + 1 < steps || upcoming < job->units) {
                const struct place next = step + 1 < steps ? place_of(job, unit, step + 1) : place_of(job, upcoming, 0);
                fetch_ahead(job, &block, &next);
            }
            pack(job, scratch, &p);
            job->kernels->gemm_block(&block);
        }
    }
}

/* A block's chain of A has half of the L2 cache. */
static void make_cut(struct chunk_job *job, const attn_context *ctx) {
    const size_t m = job->gemm->m, fit = ctx->l2_bytes / 2 / (ATTN_GEMM_CHAIN * sizeof(float));
    const size_t wanted = (size_t)ctx->threads * (job->copies ? COPYING_UNITS : UNITS_PER_THREAD);
    const size_t blocks = parts_of(m, ATTN_MAX(fit, (size_t)LEAST_ROWS));
    job->rows = parts_of(parts_of(m, blocks), ROWS_ALIGN) * ROWS_ALIGN;
    job->blocks = parts_of(m, job->rows);
    job->chains = parts_of(job->k, ATTN_GEMM_CHAIN);
    const size_t panels = parts_of(job->n, ATTN_PANEL), share = parts_of(panels, parts_of(wanted, job->blocks));
    job->chunks = ATTN_MIN(parts_of(share, CHUNK_PANELS), (size_t)UNIT_CHUNKS);
    job->columns = ATTN_MIN(parts_of(parts_of(share, job->chunks), 2) * 2, (size_t)CHUNK_PANELS) * ATTN_PANEL;
    job->units = parts_of(job->n, job->columns * job->chunks) * job->blocks;
}

attn_status attn_gemm_run_chunks(attn_context *ctx, const attn_gemm *gemm, const float *b, ptrdiff_t row,
                                 ptrdiff_t column, size_t k, size_t n) {
    struct chunk_job job = {.kernels = ctx->kernels,
                            .gemm = gemm,
                            .b = b,
                            .row = row,
                            .column = column,
                            .k = k,
                            .n = n,
                            .copies = gemm->a_row % SET_ELEMENTS == 0};
    make_cut(&job, ctx);
    const size_t workers = ATTN_MIN((size_t)ctx->threads, job.units);
    job.scratch_each =
        job.columns * ATTN_GEMM_CHAIN + (job.copies ? attn_gemm_scratch(job.rows, gemm->m, ATTN_GEMM_CHAIN) : 0);
    job.scratch = attn_alloc(ctx, workers * job.scratch_each, sizeof *job.scratch);
    if (!job.scratch) return ATTN_E_NOMEM;
    attn_parallel_for(ctx, workers, run_worker, &job);
    attn_release(ctx, job.scratch);
    return ATTN_OK;
}
