/* tape.h: how operations are recorded and differentiated; what every operation's file uses.
 *
 * An operation computes its value at once. If its output needs a gradient it also pushes a node, whose own struct
 * begins with attn_node and keeps what backward reads. Backward visits the nodes from the last to the first and keeps
 * these true:
 *   (I1) when a node is visited, its output's gradient is complete: every reader of the output comes later on the tape;
 *   (I2) a gradient's first writer writes it and the later ones add to it, so nothing is cleared first; only those that
 *        reach a part of a variable (a row, a slice) start from zeros;
 *   (I3) after its node's visit an output's gradient is read by nobody, so the node may use the memory: change it in
 *        place, or hand it to an input as that input's gradient (attn_grad_pass), and else the tape gives it to the
 *        next gradient;
 *   (I4) rows dy that attn_tape_gather keeps stay as they are until backward ends, rows x in any case. */
#ifndef ATTN_NN_TAPE_H
#define ATTN_NN_TAPE_H

#include "nn/arena.h"
#include "nn/parameters.h"
#include <attn/ops.h>

/* Every operation with a backward, by its function attn_backward_NAME. */
#define ATTN_OPERATION_LIST(X) \
    X(input)                   \
    X(recompute)               \
    X(linear)                  \
    X(embedding)               \
    X(dropout)                 \
    X(add)                     \
    X(scale)                   \
    X(activation)              \
    X(maxout)                  \
    X(concat)                  \
    X(stack)                   \
    X(row)                     \
    X(slice)                   \
    X(select)                  \
    X(last)                    \
    X(reshape)                 \
    X(rotary)                  \
    X(gate)                    \
    X(gru)                     \
    X(gru_cell)                \
    X(additive_attention)      \
    X(dot_attention)           \
    X(attention)               \
    X(guided_alignment)        \
    X(preferences)             \
    X(layer_norm)              \
    X(rms_norm)                \
    X(log_softmax)             \
    X(softmax)                 \
    X(cross_entropy)

typedef enum attn_operation {
#define ATTN_OPERATION_ENUM(name) ATTN_OPERATION_##name,
    ATTN_OPERATION_LIST(ATTN_OPERATION_ENUM)
#undef ATTN_OPERATION_ENUM
} attn_operation;

struct attn_var {
    attn_tape *tape;
    attn_tensor value, grad;
    attn_var *parent;          /* a row's value and gradient lie in its parent's */
    size_t offset;             /* elements into the parent */
    attn_parameter *parameter; /* its gradient is the parameter's */
    float *shadow[2];          /* more gradients, added to the first when the variable's node is visited; mostly NULL */
    size_t readers;            /* operations that use the value */
    bool needs_grad;
    bool grad_written; /* see (I2) */
    bool disposable;   /* nothing reads the value in backward but its readers: cross entropy may overwrite it */
    bool spent;        /* it did */
};

typedef struct attn_node {
    struct attn_node *previous;
    attn_operation operation;
    attn_var *out;
} attn_node;

/* The rows (x, dy) of one use of a weight; x (rows, K) and dy (rows, N) are contiguous. */
typedef struct attn_gather_block {
    struct attn_gather_block *next;
    const float *x, *dy;
    size_t rows;
} attn_gather_block;

/* All uses of one weight, in the tape's order. */
typedef struct attn_gather {
    struct attn_gather *next;
    attn_parameter *w, *b; /* b may be NULL */
    attn_gather_block *blocks;
    size_t rows;
} attn_gather;

/* Memory of a gradient that was used. */
typedef struct attn_spare {
    void *memory;
    size_t bytes;
} attn_spare;

struct attn_tape {
    attn_context *ctx;
    bool record, done; /* done: backward was run */
    bool recompute;    /* attn_tape_run keeps a part's inputs and result alone */
    attn_status status;
    char text[1024]; /* the first failure's sentence */
    uint64_t seed, step, position;
    attn_arena arena;
    attn_node *last;
    attn_spare spare[24];
    size_t spares;
    bool handed;               /* the gradient of the node that is visited is needed further */
    attn_parameters *replaces; /* whose gradients the next backward replaces; or NULL */
    attn_gather *gathers, **gathers_end;
    attn_packed packed;       /* right side of a weight gradient's product */
    const float *packed_rows; /* its rows, as long as they lie there; or NULL */
    attn_packed weights;      /* of a product with weights that are learned */
    attn_panel_form panels;   /* of the products with weights */
};

#define ATTN_OPERATION_BACKWARD(name) attn_status attn_backward_##name(attn_tape *tape, attn_node *node);
ATTN_OPERATION_LIST(ATTN_OPERATION_BACKWARD)
#undef ATTN_OPERATION_BACKWARD

/* ---- forward ------------------------------------------------------------------------------- */

/* Counts an operation; false if the tape failed before. */
bool attn_tape_begin(attn_tape *tape);
/* Notes that the operation reads var; false, with the tape failed, if it cannot. */
bool attn_tape_use(attn_tape *tape, const char *operation, const char *name, attn_var *var);
/* false, with the tape failed, if status is not ATTN_OK; its sentence is the context's. */
bool attn_tape_check(attn_tape *tape, attn_status status);
/* Memory until reset; NULL, with the tape failed. */
void *attn_tape_memory(attn_tape *tape, size_t count, size_t size);
void *attn_tape_copy(attn_tape *tape, const void *data, size_t count, size_t size);
/* A variable with memory for its value, which is not cleared; NULL, with the tape failed. */
attn_var *attn_tape_var(attn_tape *tape, int rank, const size_t *shape, bool needs_grad);
/* x alone of what was made since the mark, its value in `kept`; the rest of that memory is taken back. Nothing on a
 * tape that records. */
attn_var *attn_tape_keep_alone(attn_tape *tape, attn_var *x, attn_arena_mark mark, float *kept);
/* A variable whose value is memory that is there. */
attn_var *attn_tape_var_of(attn_tape *tape, const attn_tensor *value, bool needs_grad);
/* y[i] = x W[i]ᵀ + b[i], as attn_tape_linear; at once where that is faster. */
enum { ATTN_MANY_LINEARS = 3 };
typedef struct attn_linear_weights {
    attn_parameter *w, *b; /* b may be NULL */
} attn_linear_weights;
bool attn_tape_linears(attn_tape *tape, attn_var **y, attn_var *x, const attn_linear_weights *l, size_t n);
/* The same shape as t but for the last dimension. */
attn_var *attn_tape_var_like(attn_tape *tape, const attn_tensor *t, size_t last, bool needs_grad);
/* Seed of the masks of this step; with tape->position as the offset each operation has its own. */
uint64_t attn_tape_dropout_seed(const attn_tape *tape);
/* Records that `out` came from an operation; the node's struct has `bytes` and begins cleared. NULL, with the tape
 * failed. */
void *attn_tape_push(attn_tape *tape, attn_operation operation, attn_var *out, size_t bytes);

/* ---- backward ------------------------------------------------------------------------------ */

/* Memory of var's gradient, of which all is to be written (*accumulate false) or added to. NULL: no memory. */
float *attn_grad_begin(attn_tape *tape, attn_var *var, bool *accumulate);
/* The same, always to be added to; for those who reach a part of it. */
float *attn_grad_zeroed(attn_tape *tape, attn_var *var);
/* Another gradient of var, to be added to, where one operation has several gradients of the same variable. */
float *attn_grad_shadow(attn_tape *tape, attn_var *var, int index);
/* Adds `grad`, as large as var and no longer needed, to var's gradient; takes the memory if it is the first. */
attn_status attn_grad_pass(attn_tape *tape, attn_var *var, float *grad);
/* The same for memory that is still needed: copied if it is the first. */
attn_status attn_grad_add(attn_tape *tape, attn_var *var, const float *grad);
/* What var is a part of, at last. */
static inline const attn_var *attn_var_root(const attn_var *var) {
    while (var->parent) var = var->parent;
    return var;
}
/* Memory for a gradient of n floats, and back: the next one may take it. */
float *attn_grad_memory(attn_tape *tape, size_t n);
void attn_grad_release(attn_tape *tape, void *memory, size_t n);
/* dW += dyᵀ x and db += Σ dy: of ATTN_MANY_ROWS at once, else when backward ends. */
attn_status attn_tape_gather(attn_tape *tape, attn_parameter *w, attn_parameter *b, const float *x, const float *dy,
                             size_t rows);
void attn_tape_gather_begin(attn_tape *tape);
attn_status attn_tape_gathered(attn_tape *tape); /* what was left for the end */

/* Visits all nodes from the last to the first, then does what was gathered. */
attn_status attn_tape_visit(attn_tape *tape);

/* ---- small tools ---------------------------------------------------------------------------- */

/* (…, N) as (R, N); rank 0 as (1, 1). */
attn_tensor attn_rows_of(const attn_tensor *t, const void *data);
/* On the context's threads where it is worth it. */
void attn_fill_zero(attn_context *ctx, float *out, size_t n);
void attn_copy_floats(attn_context *ctx, float *out, const float *in, size_t n);
attn_status attn_add_floats(attn_context *ctx, float *out, const float *in, size_t n);          /* out += in */
void attn_scale_floats(attn_context *ctx, float *out, const float *in, float factor, size_t n); /* out may be in */
/* out[r][0 … n−1] = or += in[r][0 … n−1] for rows at the given distances. */
void attn_copy_rows(attn_context *ctx, float *out, size_t out_row, const float *in, size_t in_row, size_t rows,
                    size_t n, bool accumulate);

#endif
