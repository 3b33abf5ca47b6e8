/* gather.c: gradients of weights from the rows (x, dy) of their uses.
 *
 * Many rows are multiplied at once, while they are in a cache, and nobody needs dy afterwards. Few rows are gathered:
 * those of all uses, such as the steps of a recurrent layer, are stacked and multiplied when backward ends. */
#include "nn/tape.h"

void attn_tape_gather_begin(attn_tape *tape) {
    tape->gathers = NULL;
    tape->gathers_end = &tape->gathers;
    tape->packed_rows = NULL;
}

/* dW += dyᵀ x, db += Σ dy. Several weights may have read the same rows x, as the projections of queries, keys and
 * values do: these are packed once. stays: x is memory that nothing else takes. */
static attn_status add_rows(attn_tape *tape, attn_parameter *w, attn_parameter *b, const float *x, const float *dy,
                            size_t rows, bool stays) {
    const size_t n = w->value.shape[0], k = w->value.shape[1];
    bool accumulate = false;
    float *dw = w->frozen ? NULL : attn_parameter_grad_begin(w, &accumulate);
    if (!dw && !w->frozen) return ATTN_E_NOMEM;
    if (k && n && dw) {
        const bool packed = tape->packed_rows == x && tape->packed.k == rows && tape->packed.n == k;
        tape->packed_rows = NULL;
        if (!packed) ATTN_TRY(attn_gemm_pack(tape->ctx, &tape->packed, tape->panels, x, (ptrdiff_t)k, 1, rows, k));
        if (stays) tape->packed_rows = x;
        attn_gemm gemm = {.m = n,
                          .a = dy,
                          .a_row = 1,
                          .a_column = (ptrdiff_t)n,
                          .b = &tape->packed,
                          .c = dw,
                          .c_row = (ptrdiff_t)k,
                          .accumulate = accumulate};
        ATTN_TRY(attn_gemm_run(tape->ctx, &gemm));
    }
    if (!b || b->frozen) return ATTN_OK;
    float *db = attn_parameter_grad(b);
    if (!db) return ATTN_E_NOMEM;
    attn_tensor sums = attn_tensor_f32(db, 1, n), all = attn_tensor_f32((void *)dy, 2, rows, n);
    return attn_column_sums(tape->ctx, &sums, &all, true);
}

attn_status attn_tape_gather(attn_tape *tape, attn_parameter *w, attn_parameter *b, const float *x, const float *dy,
                             size_t rows) {
    if (rows == 0) return ATTN_OK;
    if (rows >= ATTN_MANY_ROWS) return add_rows(tape, w, b, x, dy, rows, true);
    tape->handed = true;
    attn_gather *gather = tape->gathers;
    while (gather && (gather->w != w || gather->b != b)) gather = gather->next;
    if (!gather) {
        gather = attn_tape_memory(tape, 1, sizeof *gather);
        if (!gather) return ATTN_E_NOMEM;
        *gather = (attn_gather){.w = w, .b = b};
        *tape->gathers_end = gather;
        tape->gathers_end = &gather->next;
    }
    attn_gather_block *block = attn_tape_memory(tape, 1, sizeof *block);
    if (!block) return ATTN_E_NOMEM;
    *block =
        (attn_gather_block){gather->blocks, x, dy, rows}; /* backward goes back: the first becomes the tape's first */
    gather->blocks = block;
    gather->rows += rows;
    return ATTN_OK;
}

/* The gather's rows one after the other. Blocks that already follow one another in memory are used where they are. */
static attn_status stack_blocks(attn_tape *tape, const attn_gather *gather, const float **all_x, const float **all_dy) {
    const size_t n = gather->w->value.shape[0], k = gather->w->value.shape[1];
    const attn_gather_block *first = gather->blocks;
    bool contiguous = true;
    for (const attn_gather_block *block = first; block->next && contiguous; block = block->next)
        contiguous = block->next->x == block->x + block->rows * k && block->next->dy == block->dy + block->rows * n;
    *all_x = first->x, *all_dy = first->dy;
    if (contiguous) return ATTN_OK;
    float *x = attn_tape_memory(tape, gather->rows, k * sizeof *x);
    float *dy = attn_tape_memory(tape, gather->rows, n * sizeof *dy);
    if (!x || !dy) return ATTN_E_NOMEM;
    size_t row = 0;
    for (const attn_gather_block *block = first; block; row += block->rows, block = block->next) {
        attn_copy_floats(tape->ctx, x + row * k, block->x, block->rows * k);
        attn_copy_floats(tape->ctx, dy + row * n, block->dy, block->rows * n);
    }
    *all_x = x, *all_dy = dy;
    return ATTN_OK;
}

attn_status attn_tape_gathered(attn_tape *tape) {
    for (const attn_gather *gather = tape->gathers; gather; gather = gather->next) {
        const attn_arena_mark mark = attn_arena_mark_now(&tape->arena);
        const float *x, *dy;
        ATTN_TRY(stack_blocks(tape, gather, &x, &dy));
        const bool copied = x != gather->blocks->x;
        ATTN_TRY(add_rows(tape, gather->w, gather->b, x, dy, gather->rows, !copied));
        attn_arena_rewind(&tape->arena, mark);
    }
    return ATTN_OK;
}
