/* _attn_model.c: attn._attn.Model, a model of any kind from a folder or file, with its tokenizer. attn.load and the
 * classes of attn/_models.py are what people call. */
#include "_attn_model.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static model_object *model_of(PyObject *self) { return (model_object *)self; }

/* ---- calls ------------------------------------------------------------------------------------------- */

bool model_call(model_object *m, context_fn *fn, void *arg) {
    if (m->process != (long)getpid()) { /* whoever held the lock is not here; the pool knows it too */
        m->lock = PyThread_allocate_lock();
        m->process = (long)getpid();
        if (!m->lock) return PyErr_NoMemory(), false;
    }
    return locked_call(m->lock, m->context, fn, arg);
}

bool model_needs_tokenizer(const model_object *m) {
    if (!m->tokenizer) PyErr_SetString(PyExc_OSError, m->missing);
    return m->tokenizer != NULL;
}

/* ---- making and freeing ------------------------------------------------------------------------------ */

static attn_status load(model_object *m, const char *path, const char *tokenizer) {
    attn_context *ctx = m->context;
    attn_status status = attn_model_load(&m->model, ctx, path);
    if (status != ATTN_OK) return status;
    status = tokenizer ? attn_tokenizer_load(&m->tokenizer, ctx, tokenizer)
                       : attn_tokenizer_of_model(&m->tokenizer, ctx, path);
    if (status == ATTN_E_IO && !tokenizer) {
        snprintf(m->missing, sizeof m->missing, "%s", attn_error(ctx));
        return ATTN_OK;
    }
    return status;
}

/* A translator's tokenizer must have as many tokens as the model, another's no more. */
static bool fits(const model_object *m, const char *path) {
    if (!m->tokenizer) return true;
    const size_t tokens = attn_tokenizer_size(m->tokenizer), expected = attn_model_vocab_size(m->model);
    const bool text = attn_model_is_language_model(m->model) || attn_model_is_encoder(m->model);
    if (tokens == expected || (text && tokens < expected)) return true;
    PyErr_Format(PyExc_ValueError, "%s: the tokenizer has %zu tokens, expected %zu as in the model", path, tokens,
                 expected);
    return false;
}

/* Model(path as bytes, tokenizer's path, empty: the model's own) */
static PyObject *model_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    const char *path, *tokenizer;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "yy:Model", &path, &tokenizer)) return NULL;
    model_object *m = (model_object *)PyType_GenericAlloc(type, 0);
    if (!m) return NULL;
    m->process = (long)getpid();
    m->lock = PyThread_allocate_lock();
    m->context = m->lock ? context_like_the_modules() : (PyErr_NoMemory(), NULL);
    if (m->context) {
        attn_status status;
        Py_BEGIN_ALLOW_THREADS;
        status = load(m, path, *tokenizer ? tokenizer : NULL);
        Py_END_ALLOW_THREADS;
        if (status != ATTN_OK) raise_status(status, attn_error(m->context));
        else if (fits(m, path)) return (PyObject *)m;
    }
    Py_DECREF(m);
    return NULL;
}

static void model_dealloc(PyObject *self) {
    model_object *m = model_of(self);
    PyTypeObject *type = Py_TYPE(self);
    attn_tokenizer_free(m->tokenizer);
    attn_model_free(m->model);
    attn_context_free(m->context);
    if (m->lock) PyThread_free_lock(m->lock);
    freefunc let_go = (freefunc)PyType_GetSlot(type, Py_tp_free);
    let_go(self);
    Py_DECREF(type);
}

/* info() → (kind, model_type, config as JSON, vocab_size, context length, state size, has a tokenizer) */
static PyObject *info(PyObject *self, PyObject *unused) {
    const attn_model *model = model_of(self)->model;
    (void)unused;
    const char *kind = attn_model_is_language_model(model) ? "language" : "translator";
    if (attn_model_is_encoder(model)) kind = "encoder";
    return Py_BuildValue("(sssnnnO)", kind, attn_model_type(model), attn_model_config(model),
                         (Py_ssize_t)attn_model_vocab_size(model), (Py_ssize_t)attn_model_context_length(model),
                         (Py_ssize_t)attn_model_state_size(model), model_of(self)->tokenizer ? Py_True : Py_False);
}

/* ---- values to and fro ------------------------------------------------------------------------------- */

PyObject *ids_list(const int32_t *ids, size_t n) {
    PyObject *list = PyList_New((Py_ssize_t)n);
    for (size_t i = 0; list && i < n; i++) {
        PyObject *id = PyLong_FromLong(ids[i]);
        if (!id || PyList_SetItem(list, (Py_ssize_t)i, id) != 0) Py_CLEAR(list);
    }
    return list;
}

PyObject *bytes_of_floats(const float *x, size_t n) {
    if (!x) return Py_NewRef(Py_None);
    return PyBytes_FromStringAndSize((const char *)x, (Py_ssize_t)(n * sizeof *x));
}

bool texts_take(text_array *out, PyObject *tuple) {
    const Py_ssize_t n = PyTuple_Size(tuple);
    *out = (text_array){NULL, NULL, 0};
    if (n < 0) return false;
    out->text = PyMem_Malloc(((size_t)n + 1) * sizeof *out->text);
    out->bytes = PyMem_Malloc(((size_t)n + 1) * sizeof *out->bytes);
    bool fine = out->text && out->bytes;
    if (!fine) PyErr_NoMemory();
    for (Py_ssize_t i = 0; fine && i < n; i++, out->count++) {
        char *text;
        Py_ssize_t bytes;
        fine = PyBytes_AsStringAndSize(PyTuple_GetItem(tuple, i), &text, &bytes) == 0;
        if (fine) out->text[i] = text, out->bytes[i] = (size_t)bytes;
    }
    if (!fine) texts_release(out);
    return fine;
}

void texts_release(text_array *texts) {
    PyMem_Free(texts->text);
    PyMem_Free(texts->bytes);
    *texts = (text_array){NULL, NULL, 0};
}

/* ---- tokens ------------------------------------------------------------------------------------------- */

struct token_call {
    const model_object *m;
    const char *text;
    size_t bytes;
    attn_tokens tokens;
    int32_t *ids; /* decoding */
    size_t count;
    char *out;
};

static attn_status run_tokenize(attn_context *ctx, void *arg) {
    struct token_call *c = arg;
    (void)ctx;
    if (attn_model_is_language_model(c->m->model))
        return attn_language_tokenize(c->m->tokenizer, &c->tokens, c->text, c->bytes);
    return attn_tokenize(c->m->tokenizer, &c->tokens, c->text, c->bytes, true);
}

/* tokenize(text as UTF-8) → ids, as the model reads the text */
static PyObject *tokenize(PyObject *self, PyObject *arguments) {
    model_object *m = model_of(self);
    struct token_call c = {.m = m, .tokens = ATTN_TOKENS_INIT};
    Py_ssize_t bytes;
    PyObject *list = NULL;
    if (!PyArg_ParseTuple(arguments, "y#:tokenize", &c.text, &bytes) || !model_needs_tokenizer(m)) return NULL;
    c.bytes = (size_t)bytes;
    if (model_call(m, run_tokenize, &c)) {
        list = PyList_New((Py_ssize_t)c.tokens.count);
        for (size_t i = 0; list && i < c.tokens.count; i++) {
            PyObject *id = PyLong_FromLong(c.tokens.token[i].id);
            if (!id || PyList_SetItem(list, (Py_ssize_t)i, id) != 0) Py_CLEAR(list);
        }
    }
    attn_tokens_free(m->context, &c.tokens);
    return list;
}

static attn_status run_detokenize(attn_context *ctx, void *arg) {
    struct token_call *c = arg;
    (void)ctx;
    return attn_detokenize(c->m->tokenizer, &c->out, &c->bytes, c->ids, c->count, NULL);
}

/* detokenize(ids) → UTF-8 */
static PyObject *detokenize(PyObject *self, PyObject *ids) {
    model_object *m = model_of(self);
    struct token_call c = {.m = m};
    PyObject *text = NULL;
    if (!model_needs_tokenizer(m) || !int32_take(ids, "ids", &c.ids, &c.count)) return NULL;
    if (model_call(m, run_detokenize, &c)) {
        text = PyBytes_FromStringAndSize(c.out, (Py_ssize_t)c.bytes);
        attn_text_free(m->context, c.out);
    }
    PyMem_Free(c.ids);
    return text;
}

/* piece(id) → str, or None */
static PyObject *piece(PyObject *self, PyObject *number) {
    const model_object *m = model_of(self);
    long id = PyLong_AsLong(number);
    if ((id == -1 && PyErr_Occurred()) || !model_needs_tokenizer(m)) return NULL;
    const char *text = id < 0 || id > INT32_MAX ? NULL : attn_tokenizer_piece(m->tokenizer, (int32_t)id);
    return text ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace") : Py_NewRef(Py_None);
}

/* ---- numbers of one text ------------------------------------------------------------------------------ */

/* out, and the ids that it is of. */
struct ids_call {
    const attn_model *model;
    view out;
    int32_t *ids, *types; /* types NULL: none */
    size_t count, type_count;
    size_t layer, head, seen; /* seen: matrices of a look */
    attn_loss_stats stats;
};

/* (out, ids, types or None, …): what follows is the caller's. columns: of a row of out, a token's; 0: of a look. */
static bool ids_call_take(struct ids_call *c, PyObject *self, PyObject *arguments, size_t columns) {
    c->model = model_of(self)->model;
    if (!view_take(&c->out, PyTuple_GetItem(arguments, 0), "out", VIEW_F32, VIEW_WRITE)) return false;
    PyObject *types = PyTuple_GetItem(arguments, 2);
    if (!int32_take(PyTuple_GetItem(arguments, 1), "ids", &c->ids, &c->count)) return false;
    if (types != Py_None && !int32_take(types, "types", &c->types, &c->type_count)) return false;
    if (c->types && c->type_count != c->count) {
        PyErr_Format(PyExc_ValueError, "types has %zu elements, expected one for each of the %zu ids", c->type_count,
                     c->count);
        return false;
    }
    if (attn_tensor_count(&c->out.tensor) == c->count * (columns ? columns : c->count * c->seen)) return true;
    PyErr_Format(PyExc_ValueError, "out has not the size of %zu ids", c->count);
    return false;
}

static PyObject *ids_call_done(struct ids_call *c, bool done) {
    view_release(&c->out);
    PyMem_Free(c->ids);
    PyMem_Free(c->types);
    return done ? Py_NewRef(Py_None) : NULL;
}

static attn_status run_logits(attn_context *ctx, void *arg) {
    const struct ids_call *c = arg;
    (void)ctx;
    return attn_language_logits(c->model, c->out.tensor.data, c->ids, 1, c->count, NULL);
}

/* logits(out (T, V), ids, None) */
static PyObject *logits(PyObject *self, PyObject *arguments) {
    struct ids_call c = {0};
    bool done = ids_call_take(&c, self, arguments, attn_model_vocab_size(model_of(self)->model)) &&
                model_call(model_of(self), run_logits, &c);
    return ids_call_done(&c, done);
}

static attn_status run_states(attn_context *ctx, void *arg) {
    const struct ids_call *c = arg;
    (void)ctx;
    return attn_encoder_states(c->model, c->out.tensor.data, c->ids, c->types, 1, c->count, NULL, NULL);
}

/* states(out (T, C), ids, types or None) */
static PyObject *states(PyObject *self, PyObject *arguments) {
    struct ids_call c = {0};
    bool done = ids_call_take(&c, self, arguments, attn_model_state_size(model_of(self)->model)) &&
                model_call(model_of(self), run_states, &c);
    return ids_call_done(&c, done);
}

static attn_status run_look(attn_context *ctx, void *arg) {
    const struct ids_call *c = arg;
    float *weights;
    attn_status status = attn_look_at_text(c->model, &weights, c->layer, c->head, c->ids, c->types, c->count);
    if (status == ATTN_OK) memcpy(c->out.tensor.data, weights, c->seen * c->count * c->count * sizeof *weights);
    attn_text_free(ctx, weights);
    return status;
}

size_t model_look_matrices(const attn_model *model, attn_look_kind kind, size_t head) {
    size_t layers, heads;
    attn_model_heads(model, kind, &layers, &heads);
    return head == ATTN_EVERY_HEAD && heads ? heads : 1;
}

/* look(out (T, T), ids, types or None, layer from 0, head from 1, 0, or −1: all of them into (H, T, T)) */
static PyObject *look(PyObject *self, PyObject *arguments) {
    struct ids_call c = {0};
    const attn_model *model = model_of(self)->model;
    c.layer = (size_t)PyLong_AsSsize_t(PyTuple_GetItem(arguments, 3));
    c.head = PyErr_Occurred() ? 0 : (size_t)PyLong_AsSsize_t(PyTuple_GetItem(arguments, 4));
    c.seen = model_look_matrices(model, attn_model_is_encoder(model) ? ATTN_LOOK_ENCODER : ATTN_LOOK_DECODER, c.head);
    const bool done =
        !PyErr_Occurred() && ids_call_take(&c, self, arguments, 0) && model_call(model_of(self), run_look, &c);
    return ids_call_done(&c, done);
}

static attn_status run_loss(attn_context *ctx, void *arg) {
    struct ids_call *c = arg;
    (void)ctx;
    return attn_language_loss(c->model, &c->stats, c->ids, c->count);
}

/* loss(ids) → (sum of −log p of all but the first, how many) */
static PyObject *loss(PyObject *self, PyObject *ids) {
    struct ids_call c = {.model = model_of(self)->model};
    if (!int32_take(ids, "ids", &c.ids, &c.count)) return NULL;
    bool done = model_call(model_of(self), run_loss, &c);
    PyMem_Free(c.ids);
    return done ? Py_BuildValue("(dn)", c.stats.nll, (Py_ssize_t)c.stats.tokens) : NULL;
}

/* ---- texts as vectors ----------------------------------------------------------------------------------- */

struct embed_call {
    const model_object *m;
    view out;
    text_array texts;
    attn_embed_options options;
};

static attn_status run_embed(attn_context *ctx, void *arg) {
    const struct embed_call *c = arg;
    (void)ctx;
    return attn_embed(c->m->model, c->m->tokenizer, c->out.tensor.data, c->texts.text, c->texts.bytes, c->texts.count,
                      &c->options);
}

/* embed(out (n, C), tuple of UTF-8, pooling, normalise, max_tokens, truncate, texts before these) */
static PyObject *embed(PyObject *self, PyObject *arguments) {
    struct embed_call c = {.m = model_of(self), .options = ATTN_EMBED_OPTIONS_INIT};
    PyObject *out, *texts;
    int pooling, normalise, truncate;
    Py_ssize_t most, before;
    if (!PyArg_ParseTuple(arguments, "OO!ipnpn:embed", &out, &PyTuple_Type, &texts, &pooling, &normalise, &most,
                          &truncate, &before) ||
        !model_needs_tokenizer(c.m))
        return NULL;
    c.options.pooling = (attn_pooling)pooling, c.options.normalise = normalise, c.options.truncate = truncate;
    c.options.max_tokens = (size_t)most, c.options.texts_before = (size_t)before;
    bool done = view_take(&c.out, out, "out", VIEW_F32, VIEW_WRITE) && texts_take(&c.texts, texts);
    if (done && attn_tensor_count(&c.out.tensor) != c.texts.count * attn_model_state_size(c.m->model)) {
        PyErr_SetString(PyExc_ValueError, "out has not the size of the vectors");
        done = false;
    }
    done = done && model_call(model_of(self), run_embed, &c);
    view_release(&c.out);
    texts_release(&c.texts);
    return done ? Py_NewRef(Py_None) : NULL;
}

struct folder_call {
    const char *folder;
    attn_embed_options options;
};

static attn_status run_options(attn_context *ctx, void *arg) {
    struct folder_call *c = arg;
    return attn_embed_options_read(&c->options, ctx, c->folder);
}

/* embed_options(folder) → (pooling, max_tokens), as the folder says */
static PyObject *embed_options(PyObject *self, PyObject *arguments) {
    struct folder_call c = {.options = ATTN_EMBED_OPTIONS_INIT};
    if (!PyArg_ParseTuple(arguments, "y:embed_options", &c.folder) || !model_call(model_of(self), run_options, &c))
        return NULL;
    return Py_BuildValue("(in)", (int)c.options.pooling, (Py_ssize_t)c.options.max_tokens);
}

static PyMethodDef methods[] = {
    {"info", info, METH_NOARGS, NULL},
    {"tokenize", tokenize, METH_VARARGS, NULL},
    {"detokenize", detokenize, METH_O, NULL},
    {"piece", piece, METH_O, NULL},
    {"logits", logits, METH_VARARGS, NULL},
    {"states", states, METH_VARARGS, NULL},
    {"look", look, METH_VARARGS, NULL},
    {"loss", loss, METH_O, NULL},
    {"embed", embed, METH_VARARGS, NULL},
    {"embed_options", embed_options, METH_VARARGS, NULL},
    {"translate", model_translate, METH_VARARGS, NULL},
    {"look_at_pair", model_look_at_pair, METH_VARARGS, NULL},
    {"chat", model_chat, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyObject *model_type(void) {
    static PyType_Slot slots[] = {
        {Py_tp_new, model_new}, {Py_tp_dealloc, model_dealloc}, {Py_tp_methods, methods}, {0, NULL}};
    static PyType_Spec spec = {"attn._attn.Model", sizeof(model_object), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
