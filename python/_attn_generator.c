/* _attn_generator.c: attn._attn.Generator, a text that goes on. */
#include "_attn_model.h"

typedef struct generator {
    PyObject_HEAD model_object *model; /* a reference */
    attn_generator *state;
} generator;

static generator *generator_of(PyObject *self) { return (generator *)self; }

/* One call's arguments and results. */
struct generator_call {
    generator *g;
    attn_generate_options options;
    text_array stops;
    const char *text;
    size_t bytes;
    int32_t *ids; /* the prompt, if it is ids */
    size_t count;
};

static attn_status run_create(attn_context *ctx, void *arg) {
    struct generator_call *c = arg;
    (void)ctx;
    return attn_generator_create(&c->g->state, c->g->model->model, c->g->model->tokenizer, &c->options);
}

static attn_status run_prompt(attn_context *ctx, void *arg) {
    const struct generator_call *c = arg;
    (void)ctx;
    return c->ids ? attn_generator_prompt_ids(c->g->state, c->ids, c->count)
                  : attn_generator_prompt(c->g->state, c->text, c->bytes);
}

static attn_status run_next(attn_context *ctx, void *arg) {
    struct generator_call *c = arg;
    (void)ctx;
    return attn_generator_next(c->g->state, &c->text, &c->bytes);
}

static attn_status run_free(attn_context *ctx, void *state) {
    (void)ctx;
    attn_generator_free(state);
    return ATTN_OK;
}

static bool take_stops(struct generator_call *c, PyObject *stops) {
    if (!texts_take(&c->stops, stops)) return false;
    c->options.stop = c->stops.text, c->options.stops = c->stops.count;
    return true;
}

/* Generator(model, max_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, tuple of stops as UTF-8,
 * context, slide, keys and values as bytes, an id that ends the text beside the model's own, −1: none) */
static PyObject *generator_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    struct generator_call c = {.options = ATTN_GENERATE_OPTIONS_INIT};
    attn_generate_options *o = &c.options;
    PyObject *model, *stops;
    Py_ssize_t tokens, top_k, context;
    unsigned long long seed;
    int slide, small, end;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OnfnfffKO!nppi:Generator", &model, &tokens, &o->temperature, &top_k, &o->top_p,
                          &o->min_p, &o->repetition_penalty, &seed, &PyTuple_Type, &stops, &context, &slide, &small,
                          &end))
        return NULL;
    if (!model_needs_tokenizer((model_object *)model)) return NULL;
    o->max_tokens = (size_t)tokens, o->top_k = (size_t)top_k, o->seed = seed, o->context = (size_t)context;
    const int32_t end_id = end;
    o->ends = &end_id, o->end_count = end >= 0;
    o->slide = slide, o->cache = small ? ATTN_I8 : ATTN_F32;
    generator *g = (generator *)PyType_GenericAlloc(type, 0);
    if (!g) return NULL;
    g->model = (model_object *)Py_NewRef(model);
    c.g = g;
    const bool made = take_stops(&c, stops) && model_call(g->model, run_create, &c);
    texts_release(&c.stops);
    if (!made) Py_CLEAR(g);
    return (PyObject *)g;
}

static void generator_dealloc(PyObject *self) {
    generator *g = generator_of(self);
    PyTypeObject *type = Py_TYPE(self);
    PyObject *error, *value, *trace;
    PyErr_Fetch(&error, &value, &trace);
    if (g->state && !model_call(g->model, run_free, g->state)) PyErr_Clear();
    PyErr_Restore(error, value, trace);
    Py_XDECREF((PyObject *)g->model);
    freefunc let_go = (freefunc)PyType_GetSlot(type, Py_tp_free);
    let_go(self);
    Py_DECREF(type);
}

/* prompt(UTF-8, or ids) */
static PyObject *prompt(PyObject *self, PyObject *text) {
    struct generator_call c = {.g = generator_of(self)};
    if (PyBytes_Check(text)) {
        char *bytes;
        Py_ssize_t n;
        if (PyBytes_AsStringAndSize(text, &bytes, &n) != 0) return NULL;
        c.text = bytes, c.bytes = (size_t)n;
    } else if (!int32_take(text, "prompt", &c.ids, &c.count)) return NULL;
    const bool done = model_call(c.g->model, run_prompt, &c);
    PyMem_Free(c.ids);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* next() → UTF-8; empty: the text has ended */
static PyObject *next(PyObject *self, PyObject *unused) {
    struct generator_call c = {.g = generator_of(self)};
    (void)unused;
    if (!model_call(c.g->model, run_next, &c)) return NULL;
    return PyBytes_FromStringAndSize(c.text, (Py_ssize_t)c.bytes);
}

/* end() → why the text ended, None while it goes on */
static PyObject *end(PyObject *self, PyObject *unused) {
    static const char *const names[] = {NULL, "end token", "stop", "tokens", "context"};
    (void)unused;
    const char *name = names[attn_generator_end(generator_of(self)->state)];
    return name ? PyUnicode_FromString(name) : Py_NewRef(Py_None);
}

struct advance_call {
    attn_generator **state;
    size_t count;
};

static attn_status run_advance(attn_context *ctx, void *arg) {
    const struct advance_call *c = arg;
    (void)ctx;
    return attn_generators_advance(c->state, c->count);
}

/* advance(tuple of generators of this one's model): the next token of each, in one pass */
static PyObject *advance(PyObject *self, PyObject *others) {
    if (!PyTuple_Check(others)) return PyErr_Format(PyExc_TypeError, "expected a tuple of generators");
    const Py_ssize_t n = PyTuple_Size(others);
    struct advance_call c = {PyMem_Calloc((size_t)n + 1, sizeof(attn_generator *)), 0};
    if (!c.state) return PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *other = PyTuple_GetItem(others, i);
        if (Py_TYPE(other) != Py_TYPE(self) || generator_of(other)->model != generator_of(self)->model) {
            PyMem_Free(c.state);
            return PyErr_Format(PyExc_TypeError, "expected generators of one model");
        }
        c.state[c.count++] = generator_of(other)->state;
    }
    const bool done = model_call(generator_of(self)->model, run_advance, &c);
    PyMem_Free(c.state);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *ids(PyObject *self, PyObject *unused) {
    size_t n;
    (void)unused;
    const int32_t *all = attn_generator_ids(generator_of(self)->state, &n);
    return ids_list(all, n);
}

static PyMethodDef methods[] = {{"prompt", prompt, METH_O, NULL},   {"next", next, METH_NOARGS, NULL},
                                {"end", end, METH_NOARGS, NULL},    {"ids", ids, METH_NOARGS, NULL},
                                {"advance", advance, METH_O, NULL}, {NULL, NULL, 0, NULL}};

PyObject *generator_type(void) {
    static PyType_Slot slots[] = {
        {Py_tp_new, generator_new}, {Py_tp_dealloc, generator_dealloc}, {Py_tp_methods, methods}, {0, NULL}};
    static PyType_Spec spec = {"attn._attn.Generator", sizeof(generator), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
