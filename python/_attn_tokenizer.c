/* _attn_tokenizer.c: attn._attn.Tokenizer, of a file. attn.Tokenizer is what people call. Each has a context of its
 * own, with one thread and no kernels at work, so that it outlives changes of the module's; the GIL guards it. */
#include "_attn.h"

#include <attn/models.h>
#include <string.h>

typedef struct tokenizer {
    PyObject_HEAD attn_context *context; /* neither is NULL once made */
    attn_tokenizer *state;
    attn_tokens tokens; /* used again */
} tokenizer;

static PyObject *fail(const tokenizer *t, attn_status status) {
    raise_status(status, t->context ? attn_error(t->context) : "");
    return NULL;
}

/* Tokenizer(path as bytes, whether it is a model's) */
static PyObject *tokenizer_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    const char *path;
    int of_model;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "yp:Tokenizer", &path, &of_model)) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    tokenizer *t = (tokenizer *)allocate(type, 0);
    if (!t) return NULL;
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    attn_status status = attn_context_create(&t->context, &options);
    if (status == ATTN_OK)
        status = (of_model ? attn_tokenizer_of_model : attn_tokenizer_load)(&t->state, t->context, path);
    if (status == ATTN_OK) return (PyObject *)t;
    fail(t, status);
    Py_DECREF(t);
    return NULL;
}

static void tokenizer_dealloc(PyObject *self) {
    tokenizer *t = (tokenizer *)self;
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    if (t->context) attn_tokens_free(t->context, &t->tokens);
    attn_tokenizer_free(t->state);
    attn_context_free(t->context);
    release(self);
    Py_DECREF(type);
}

/* encode(text as UTF-8, add_special, special_as_text) → [(id, first, end, word)], text that the bytes are of */
static PyObject *encode(PyObject *self, PyObject *arguments) {
    tokenizer *t = (tokenizer *)self;
    const char *text;
    Py_ssize_t bytes;
    int add_special, special_as_text;
    if (!PyArg_ParseTuple(arguments, "y#pp:encode", &text, &bytes, &add_special, &special_as_text)) return NULL;
    attn_tokenize_options options = ATTN_TOKENIZE_OPTIONS_INIT;
    options.add_special = add_special, options.special_as_text = special_as_text;
    attn_status status = attn_tokenize_with(t->state, &t->tokens, text, (size_t)bytes, &options);
    if (status != ATTN_OK) return fail(t, status);
    PyObject *list = PyList_New((Py_ssize_t)t->tokens.count);
    for (size_t i = 0; list && i < t->tokens.count; i++) {
        const attn_token *token = &t->tokens.token[i];
        PyObject *row =
            Py_BuildValue("(inni)", (int)token->id, (Py_ssize_t)token->first, (Py_ssize_t)token->end, (int)token->word);
        if (!row || PyList_SetItem(list, (Py_ssize_t)i, row) != 0) Py_CLEAR(list);
    }
    return list ? Py_BuildValue("(Ny#)", list, t->tokens.text, (Py_ssize_t)t->tokens.bytes) : NULL;
}

/* decode(ids) → UTF-8 */
static PyObject *decode(PyObject *self, PyObject *object) {
    tokenizer *t = (tokenizer *)self;
    int64_t *wide;
    size_t n, bytes;
    char *out;
    if (!integers_take(object, "ids", &wide, &n)) return NULL;
    int32_t *ids = PyMem_Malloc((n + 1) * sizeof *ids);
    if (!ids) {
        PyMem_Free(wide);
        return PyErr_NoMemory();
    }
    for (size_t i = 0; i < n; i++) ids[i] = wide[i] < 0 || wide[i] > INT32_MAX ? -1 : (int32_t)wide[i];
    attn_status status = attn_detokenize(t->state, &out, &bytes, ids, n, NULL);
    PyMem_Free(wide);
    PyMem_Free(ids);
    if (status != ATTN_OK) return fail(t, status);
    PyObject *text = PyBytes_FromStringAndSize(out, (Py_ssize_t)bytes);
    attn_text_free(t->context, out);
    return text;
}

static PyObject *size(PyObject *self, PyObject *unused) {
    (void)unused;
    return PyLong_FromSize_t(attn_tokenizer_size(((tokenizer *)self)->state));
}

/* piece(id) → str, or None */
static PyObject *piece(PyObject *self, PyObject *number) {
    long id = PyLong_AsLong(number);
    if (id == -1 && PyErr_Occurred()) return NULL;
    const char *text = id < 0 || id > INT32_MAX ? NULL : attn_tokenizer_piece(((tokenizer *)self)->state, (int32_t)id);
    return text ? PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace") : Py_NewRef(Py_None);
}

/* find(piece as UTF-8) → id, −1 */
static PyObject *find(PyObject *self, PyObject *arguments) {
    const char *text;
    if (!PyArg_ParseTuple(arguments, "y:find", &text)) return NULL;
    return PyLong_FromLong(attn_tokenizer_find(((tokenizer *)self)->state, text));
}

static PyMethodDef methods[] = {
    {"encode", encode, METH_VARARGS, NULL}, {"decode", decode, METH_O, NULL},   {"size", size, METH_NOARGS, NULL},
    {"piece", piece, METH_O, NULL},         {"find", find, METH_VARARGS, NULL}, {NULL, NULL, 0, NULL},
};

PyObject *tokenizer_type(void) {
    static PyType_Slot slots[] = {
        {Py_tp_new, tokenizer_new}, {Py_tp_dealloc, tokenizer_dealloc}, {Py_tp_methods, methods}, {0, NULL}};
    static PyType_Spec spec = {"attn._attn.Tokenizer", sizeof(tokenizer), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
