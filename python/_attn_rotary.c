/* _attn_rotary.c: rotary position embedding. */
#include "_attn.h"

#include <string.h>

struct call {
    view y, x, cos, sin;
    int64_t *positions;
    size_t rotary_dim;
    int interleaved, inverse;
};

static attn_status run(attn_context *ctx, void *arg) {
    const struct call *c = arg;
    return attn_rotary_embedding(ctx, &c->y.tensor, &c->x.tensor, &c->cos.tensor, &c->sin.tensor, c->positions,
                                 c->rotary_dim, c->interleaved, c->inverse);
}

/* One position for each of x's (B, T); one dimension stands for every sequence. */
static bool take_positions(struct call *c, PyObject *object) {
    size_t count, expected, steps;
    if (object == Py_None) return true;
    if (!integers_take(object, "positions", &c->positions, &count)) return false;
    if (c->x.tensor.rank != 4) return true; /* the library says so */
    steps = c->x.tensor.shape[2], expected = c->x.tensor.shape[0] * steps;
    if (count == steps && count != expected) {
        int64_t *all = PyMem_Malloc((expected + 1) * sizeof *all);
        if (!all) return PyErr_NoMemory(), false;
        for (size_t i = 0; i < expected; i++) all[i] = c->positions[i % steps];
        PyMem_Free(c->positions);
        c->positions = all;
        count = expected;
    }
    if (count != expected)
        PyErr_Format(PyExc_ValueError, "positions has %zu elements, expected %zu (B, T) or %zu (T)", count, expected,
                     steps);
    return count == expected;
}

/* Tables of (P, half) with positions, else of (B or 1, T, half); two dimensions then stand for every sequence. */
static bool take_table(struct call *c, view *table, PyObject *object, const char *name) {
    if (!view_take(table, object, name, VIEW_NUMBERS, VIEW_READ)) return false;
    if (!c->positions && table->tensor.rank == 2 && !view_raise(table, name, 3)) return false;
    return view_dense_floats(table);
}

/* rotary_embedding(y, x, cos, sin, positions or None, rotary_dim, interleaved, inverse) */
PyObject *rotary_embedding(PyObject *module, PyObject *arguments) {
    PyObject *y, *x, *cos, *sin, *positions;
    Py_ssize_t rotary_dim;
    struct call c;
    (void)module;
    memset(&c, 0, sizeof c);
    if (!PyArg_ParseTuple(arguments, "OOOOOnpp:rotary_embedding", &y, &x, &cos, &sin, &positions, &rotary_dim,
                          &c.interleaved, &c.inverse))
        return NULL;
    c.rotary_dim = (size_t)rotary_dim;
    bool done = view_take(&c.x, x, "x", VIEW_FLOATS, VIEW_READ) && view_take(&c.y, y, "y", VIEW_FLOATS, VIEW_WRITE) &&
                take_positions(&c, positions) && take_table(&c, &c.cos, cos, "cos") &&
                take_table(&c, &c.sin, sin, "sin") && context_call(run, &c);
    view_release(&c.x);
    view_release(&c.y);
    view_release(&c.cos);
    view_release(&c.sin);
    PyMem_Free(c.positions);
    return done ? Py_NewRef(Py_None) : NULL;
}
