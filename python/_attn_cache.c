/* _attn_cache.c: attn._attn.Cache, keys and values of sequences that grow. attn.KVCache is what people call. A cache's
 * memory belongs to no context in particular, since all of the module's take theirs from malloc: it outlives a change
 * of threads or level. */
#include "_attn.h"

#include <string.h>

typedef struct cache {
    PyObject_HEAD attn_kv_cache *state; /* never NULL once made */
} cache;

static attn_kv_cache *state_of(PyObject *self) { return ((cache *)self)->state; }

/* ---- making and freeing ------------------------------------------------------------------------------ */

struct creation {
    attn_kv_cache *state;
    attn_kv_cache_options options;
    const unsigned char *data; /* of a state, or NULL */
    size_t bytes;
};

static attn_status create(attn_context *ctx, void *arg) {
    struct creation *c = arg;
    if (c->data) return attn_kv_cache_deserialise(&c->state, ctx, c->data, c->bytes);
    return attn_kv_cache_create(&c->state, ctx, &c->options);
}

static attn_status release(attn_context *ctx, void *state) {
    attn_kv_cache_free(ctx, state);
    return ATTN_OK;
}

static bool take_size(PyObject *tuple, Py_ssize_t i, const char *name, size_t *to) {
    PyObject *object = PyTuple_GetItem(tuple, i);
    Py_ssize_t value = object ? PyNumber_AsSsize_t(object, NULL) : -1; /* cut to what fits */
    if (value < 0 && !PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "%s is %zd, expected 0 or more", name, value);
    *to = (size_t)value;
    return value >= 0;
}

static bool take_options(PyObject *arguments, attn_kv_cache_options *o) {
    *o = (attn_kv_cache_options)ATTN_KV_CACHE_OPTIONS_INIT;
    size_t dtype;
    if (!take_size(arguments, 0, "batch", &o->sequences) || !take_size(arguments, 1, "kv_heads", &o->key_heads) ||
        !take_size(arguments, 2, "head_dim", &o->d) || !take_size(arguments, 3, "v_head_dim", &o->dv) ||
        !take_size(arguments, 4, "capacity", &o->capacity) || !take_size(arguments, 5, "dtype", &dtype) ||
        !take_size(arguments, 6, "page", &o->page))
        return false;
    static const attn_dtype dtypes[] = {ATTN_F32, ATTN_BF16, ATTN_F16, ATTN_I8};
    o->dtype = dtypes[dtype % (sizeof dtypes / sizeof *dtypes)];
    o->window = PyLong_AsLongLong(PyTuple_GetItem(arguments, 7));
    return !PyErr_Occurred();
}

/* Cache(batch, kv_heads, head_dim, v_head_dim, capacity, dtype's number, page, window), or Cache(state) */
static PyObject *cache_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    struct creation c = {0};
    Py_buffer buffer = {0};
    (void)keywords;
    bool of_state = PyTuple_Size(arguments) == 1;
    if (of_state) {
        if (PyObject_GetBuffer(PyTuple_GetItem(arguments, 0), &buffer, PyBUF_SIMPLE) != 0) return NULL;
        c.data = buffer.len ? buffer.buf : (const void *)"";
        c.bytes = (size_t)buffer.len;
    } else if (PyTuple_Size(arguments) != 8) {
        PyErr_SetString(PyExc_TypeError, "Cache: expected 8 arguments, or the bytes of a state");
        return NULL;
    } else if (!take_options(arguments, &c.options)) return NULL;
    bool made = context_call(create, &c);
    if (of_state) PyBuffer_Release(&buffer);
    if (!made) return NULL;
    cache *self = (cache *)PyType_GenericAlloc(type, 0);
    if (self) self->state = c.state;
    else context_call(release, c.state);
    return (PyObject *)self;
}

static void cache_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject *error, *value, *trace;
    PyErr_Fetch(&error, &value, &trace);
    if (state_of(self) && !context_call(release, state_of(self))) PyErr_Clear();
    PyErr_Restore(error, value, trace);
    freefunc let_go = (freefunc)PyType_GetSlot(type, Py_tp_free);
    let_go(self);
    Py_DECREF(type);
}

/* ---- append and attend ------------------------------------------------------------------------------- */

enum { APPEND_K, APPEND_V, APPEND };

struct append_call {
    view views[APPEND];
    attn_kv_cache *state;
    int32_t *lengths;
};

static attn_status run_append(attn_context *ctx, void *arg) {
    const struct append_call *c = arg;
    return attn_kv_cache_append(ctx, c->state, view_tensor(c->views + APPEND_K), view_tensor(c->views + APPEND_V),
                                c->lengths);
}

/* append(k, v, lengths or None) */
static PyObject *append(PyObject *self, PyObject *arguments) {
    static const argument tensors[APPEND] = {{"k", VIEW_FLOATS, VIEW_READ, false},
                                             {"v", VIEW_FLOATS, VIEW_READ, false}};
    struct append_call c = {.state = state_of(self)};
    bool done = views_take(c.views, tensors, APPEND, arguments, 1) &&
                lengths_take(PyTuple_GetItem(arguments, APPEND), "lengths",
                             attn_kv_cache_options_of(c.state)->sequences, &c.lengths) &&
                context_call(run_append, &c);
    views_release(c.views, APPEND);
    PyMem_Free(c.lengths);
    return done ? Py_NewRef(Py_None) : NULL;
}

enum { OUT, LSE, Q, ATTEND };

struct attend_call {
    view views[ATTEND];
    attn_kv_cache *state;
    attn_tensor keys; /* the longest sequence's, in shape alone */
    call_options options;
};

static attn_status run_attend(attn_context *ctx, void *arg) {
    const struct attend_call *c = arg;
    const view *v = c->views;
    return attn_kv_cache_attend(ctx, view_tensor(v + OUT), view_tensor(v + LSE), view_tensor(v + Q), c->state,
                                &c->options.options);
}

static attn_status measure(attn_context *ctx, void *arg) {
    struct attend_call *c = arg;
    (void)ctx;
    const attn_kv_cache_options *o = attn_kv_cache_options_of(c->state);
    size_t longest = 0;
    for (size_t b = 0; b < o->sequences; b++) {
        size_t length = attn_kv_cache_length(c->state, b);
        longest = length > longest ? length : longest;
    }
    c->keys = attn_tensor_of(NULL, ATTN_F32, 4, (size_t[]){o->sequences, o->key_heads, longest, o->d});
    return ATTN_OK;
}

/* attend(out, lse or None, q, keywords) */
static PyObject *attend(PyObject *self, PyObject *arguments) {
    static const argument tensors[ATTEND] = {{"out", VIEW_FLOATS, VIEW_WRITE, false},
                                             {"lse", VIEW_F32, VIEW_WRITE, true},
                                             {"q", VIEW_FLOATS, VIEW_READ, false}};
    struct attend_call c = {.state = state_of(self)};
    bool done = views_take(c.views, tensors, ATTEND, arguments, 1) && context_call(measure, &c) &&
                options_take(&c.options, PyTuple_GetItem(arguments, ATTEND), &c.views[Q].tensor, &c.keys) &&
                context_call(run_attend, &c);
    views_release(c.views, ATTEND);
    options_release(&c.options);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* ---- fork, rollback, reset --------------------------------------------------------------------------- */

struct change {
    attn_kv_cache *state;
    size_t numbers[3];
};

static PyObject *change(PyObject *self, PyObject *arguments, context_fn *run, const char *const *names, Py_ssize_t n) {
    struct change c = {.state = state_of(self)};
    for (Py_ssize_t i = 0; i < n; i++)
        if (!take_size(arguments, i, names[i], &c.numbers[i])) return NULL;
    return context_call(run, &c) ? Py_NewRef(Py_None) : NULL;
}

static attn_status run_fork(attn_context *ctx, void *arg) {
    const struct change *c = arg;
    return attn_kv_cache_fork(ctx, c->state, c->numbers[1], c->numbers[0], c->numbers[2]);
}
static attn_status run_rollback(attn_context *ctx, void *arg) {
    const struct change *c = arg;
    return attn_kv_cache_rollback(ctx, c->state, c->numbers[0], c->numbers[1]);
}
static attn_status run_reset(attn_context *ctx, void *arg) {
    const struct change *c = arg;
    return attn_kv_cache_reset(ctx, c->state, c->numbers[0]);
}

static const char *const names_of_fork[] = {"src", "dst", "n"}, *const names_of_rollback[] = {"sequence", "n"};

/* fork(src, dst, n) */
static PyObject *fork_sequence(PyObject *self, PyObject *arguments) {
    return change(self, arguments, run_fork, names_of_fork, 3);
}
/* rollback(sequence, n) */
static PyObject *rollback(PyObject *self, PyObject *arguments) {
    return change(self, arguments, run_rollback, names_of_rollback, 2);
}
/* reset(sequence) */
static PyObject *reset(PyObject *self, PyObject *arguments) {
    return change(self, arguments, run_reset, names_of_rollback, 1);
}

/* ---- what is there ----------------------------------------------------------------------------------- */

struct reading {
    attn_kv_cache *state;
    size_t *lengths, *first, bytes;
    unsigned char *data;
};

static attn_status read_sizes(attn_context *ctx, void *arg) {
    struct reading *r = arg;
    (void)ctx;
    for (size_t b = 0; b < attn_kv_cache_options_of(r->state)->sequences; b++) {
        r->lengths[b] = attn_kv_cache_length(r->state, b);
        r->first[b] = attn_kv_cache_first(r->state, b);
    }
    r->bytes = attn_kv_cache_bytes(r->state);
    return ATTN_OK;
}

static PyObject *list_of(const size_t *values, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *value = PyLong_FromSize_t(values[i]);
        if (!value || PyList_SetItem(list, (Py_ssize_t)i, value) != 0) Py_CLEAR(list);
    }
    return list;
}

/* sizes() → (lengths, first keys, bytes) */
static PyObject *sizes(PyObject *self, PyObject *unused) {
    (void)unused;
    struct reading r = {.state = state_of(self)};
    const size_t n = attn_kv_cache_options_of(r.state)->sequences;
    r.lengths = PyMem_Calloc(2 * n, sizeof *r.lengths);
    if (!r.lengths) return PyErr_NoMemory();
    r.first = r.lengths + n;
    PyObject *lengths = NULL, *first = NULL, *result = NULL;
    if (context_call(read_sizes, &r) && (lengths = list_of(r.lengths, n)) && (first = list_of(r.first, n)))
        result = Py_BuildValue("(OOn)", lengths, first, (Py_ssize_t)r.bytes);
    Py_XDECREF(lengths);
    Py_XDECREF(first);
    PyMem_Free(r.lengths);
    return result;
}

/* options() → (batch, kv_heads, head_dim, v_head_dim, capacity, dtype's name, page, window) */
static PyObject *options(PyObject *self, PyObject *unused) {
    (void)unused;
    const attn_kv_cache_options *o = attn_kv_cache_options_of(state_of(self));
    return Py_BuildValue("(nnnnnsnL)", (Py_ssize_t)o->sequences, (Py_ssize_t)o->key_heads, (Py_ssize_t)o->d,
                         (Py_ssize_t)o->dv, (Py_ssize_t)o->capacity, attn_dtype_name(o->dtype), (Py_ssize_t)o->page,
                         (long long)o->window);
}

static attn_status serialise(attn_context *ctx, void *arg) {
    struct reading *r = arg;
    return attn_kv_cache_serialise(ctx, r->state, &r->data, &r->bytes);
}
static attn_status free_bytes(attn_context *ctx, void *arg) {
    attn_kv_cache_bytes_free(ctx, arg);
    return ATTN_OK;
}

/* state() → bytes */
static PyObject *state(PyObject *self, PyObject *unused) {
    (void)unused;
    struct reading r = {.state = state_of(self)};
    if (!context_call(serialise, &r)) return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)r.data, (Py_ssize_t)r.bytes);
    if (!context_call(free_bytes, r.data)) Py_CLEAR(bytes);
    return bytes;
}

static PyMethodDef methods[] = {
    {"append", append, METH_VARARGS, NULL},
    {"attend", attend, METH_VARARGS, NULL},
    {"fork", fork_sequence, METH_VARARGS, NULL},
    {"rollback", rollback, METH_VARARGS, NULL},
    {"reset", reset, METH_VARARGS, NULL},
    {"sizes", sizes, METH_NOARGS, NULL},
    {"options", options, METH_NOARGS, NULL},
    {"state", state, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyObject *cache_type(void) {
    static PyType_Slot slots[] = {
        {Py_tp_doc, (char *)"Keys and values of sequences that grow: see attn.KVCache"},
        {Py_tp_new, (void *)cache_new},
        {Py_tp_dealloc, (void *)cache_dealloc},
        {Py_tp_methods, methods},
        {0, NULL},
    };
    static PyType_Spec spec = {"attn._attn.Cache", sizeof(cache), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
