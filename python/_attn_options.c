/* _attn_options.c: the keywords of attention() as the library's options. */
#include "_attn.h"

#include <stdio.h>
#include <string.h>

/* The value of a keyword, borrowed; NULL if it is absent or None. */
static PyObject *given(PyObject *keywords, const char *name) {
    PyObject *value = PyDict_GetItemString(keywords, name);
    return value == Py_None ? NULL : value;
}

static bool keep(call_options *o, void *block) {
    if (o->block_count == CALL_BLOCKS) {
        PyMem_Free(block);
        PyErr_SetString(PyExc_SystemError, "attn: more options than CALL_BLOCKS");
        return false;
    }
    o->blocks[o->block_count++] = block;
    return true;
}

/* ---- lists and arrays of numbers --------------------------------------------------------------------- */

static bool array_integers(PyObject *object, const char *name, int64_t **gives, size_t *count) {
    view v;
    if (!view_take(&v, object, name, VIEW_INTEGERS, VIEW_READ)) return false;
    *count = attn_tensor_count(&v.tensor);
    int64_t *values = PyMem_Malloc((*count + 1) * sizeof *values);
    bool fine = values != NULL;
    if (!fine) PyErr_NoMemory();
    for (size_t i = 0; fine && i < *count; i++) fine = view_integer(&v, name, i, &values[i]);
    view_release(&v);
    if (!fine) PyMem_Free(values);
    else *gives = values;
    return fine;
}

static bool one_integer(PyObject *item, const char *name, int64_t *value) {
    PyObject *index = PyNumber_Index(item);
    if (!index) {
        PyErr_Format(PyExc_TypeError, "%s: %R is not an integer", name, item);
        return false;
    }
    int overflow = 0;
    *value = PyLong_AsLongLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow) PyErr_Format(PyExc_ValueError, "%s: %S is too large", name, item);
    return !overflow;
}

bool integers_take(PyObject *object, const char *name, int64_t **gives, size_t *count) {
    if (is_array(object)) return array_integers(object, name, gives, count);
    Py_ssize_t n = PySequence_Check(object) ? PySequence_Size(object) : -1;
    if (n < 0) {
        PyErr_Format(PyExc_TypeError, "%s is %R, expected integers", name, object);
        return false;
    }
    int64_t *values = PyMem_Malloc(((size_t)n + 1) * sizeof *values);
    bool fine = values != NULL;
    if (!fine) PyErr_NoMemory();
    for (Py_ssize_t i = 0; fine && i < n; i++) {
        PyObject *item = PySequence_GetItem(object, i);
        fine = item && one_integer(item, name, &values[i]);
        Py_XDECREF(item);
    }
    if (!fine) {
        PyMem_Free(values);
        return false;
    }
    *gives = values;
    *count = (size_t)n;
    return true;
}

static bool count_fits(const char *name, size_t count, size_t expected, const char *what) {
    if (count != expected)
        PyErr_Format(PyExc_ValueError, "%s has %zu elements, expected %zu (%s)", name, count, expected, what);
    return count == expected;
}

/* n int64 of a keyword; *to stays NULL without it. */
static bool take_int64(call_options *o, PyObject *keywords, const char *name, size_t n, const char *what,
                       const int64_t **to) {
    PyObject *object = given(keywords, name);
    int64_t *values;
    size_t count;
    if (!object) return true;
    if (!integers_take(object, name, &values, &count)) return false;
    if (!keep(o, values)) return false;
    *to = values;
    return count_fits(name, count, n, what);
}

/* int64 to int32 in place. */
static bool narrow(const char *name, int64_t *values, size_t n) {
    int32_t *to = (int32_t *)(void *)values;
    for (size_t i = 0; i < n; i++) {
        int64_t value;
        memcpy(&value, (const char *)values + i * sizeof value, sizeof value);
        if (value < INT32_MIN || value > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "%s[%zu] is %lld, expected 32 bits", name, i, (long long)value);
            return false;
        }
        memcpy(to + i, &(int32_t){(int32_t)value}, sizeof *to);
    }
    return true;
}

bool int32_take(PyObject *object, const char *name, int32_t **gives, size_t *count) {
    int64_t *values;
    if (!integers_take(object, name, &values, count)) return false;
    if (!narrow(name, values, *count)) {
        PyMem_Free(values);
        return false;
    }
    *gives = (int32_t *)(void *)values;
    return true;
}

bool lengths_take(PyObject *object, const char *name, size_t n, int32_t **gives) {
    size_t count;
    *gives = NULL;
    if (object == Py_None) return true;
    return int32_take(object, name, gives, &count) && count_fits(name, count, n, "B");
}

/* The same as int32. *found, if not NULL, is the count, which may then be anything. */
static bool take_int32(call_options *o, PyObject *keywords, const char *name, size_t n, const char *what,
                       const int32_t **to, size_t *found) {
    PyObject *object = given(keywords, name);
    int32_t *values;
    size_t count;
    if (!object) return true;
    if (!int32_take(object, name, &values, &count)) return false;
    if (!keep(o, values)) return false;
    *to = values;
    if (found) *found = count;
    return found || count_fits(name, count, n, what);
}

/* H floats: an array, or a list. */
static bool take_floats(call_options *o, PyObject *keywords, const char *name, size_t n, const float **to) {
    PyObject *object = given(keywords, name);
    if (!object) return true;
    float *values = PyMem_Malloc((n + 1) * sizeof *values);
    if (!values) return PyErr_NoMemory(), false;
    if (!keep(o, values)) return false;
    *to = values;
    if (is_array(object)) {
        view v;
        if (!view_take(&v, object, name, VIEW_NUMBERS, VIEW_READ)) return false;
        bool fine = count_fits(name, attn_tensor_count(&v.tensor), n, "H");
        for (size_t i = 0; fine && i < n; i++) values[i] = (float)view_number(&v, i);
        view_release(&v);
        return fine;
    }
    Py_ssize_t count = PySequence_Check(object) ? PySequence_Size(object) : -1;
    if (count < 0) {
        PyErr_Format(PyExc_TypeError, "%s is %R, expected numbers", name, object);
        return false;
    }
    if (!count_fits(name, (size_t)count, n, "H")) return false;
    for (size_t i = 0; i < n; i++) {
        PyObject *item = PySequence_GetItem(object, (Py_ssize_t)i);
        double value = item ? PyFloat_AsDouble(item) : -1;
        Py_XDECREF(item);
        if (PyErr_Occurred()) return false;
        values[i] = (float)value;
    }
    return true;
}

/* ---- single numbers and names ------------------------------------------------------------------------ */

static bool take_float(PyObject *keywords, const char *name, float *to) {
    PyObject *object = given(keywords, name);
    if (!object) return true;
    double value = PyFloat_AsDouble(object);
    if (value == -1 && PyErr_Occurred()) {
        PyErr_Format(PyExc_TypeError, "%s is %R, expected a number", name, object);
        return false;
    }
    *to = (float)value;
    return true;
}

/* 0 … 2⁶⁴ − 1 */
static bool take_uint64(PyObject *keywords, const char *name, uint64_t *to) {
    PyObject *object = given(keywords, name);
    if (!object) return true;
    PyObject *index = PyNumber_Index(object);
    if (!index) return false;
    *to = PyLong_AsUnsignedLongLong(index);
    Py_DECREF(index);
    if (!PyErr_Occurred()) return true;
    PyErr_Format(PyExc_ValueError, "%s is %S, expected 0 to 2**64 - 1", name, object);
    return false;
}

struct choice {
    const char *text;
    int value;
};

static bool take_choice(PyObject *keywords, const char *name, const struct choice *choices, int *to) {
    PyObject *object = given(keywords, name);
    if (!object) return true;
    for (const struct choice *c = choices; c->text && PyUnicode_Check(object); c++)
        if (PyUnicode_CompareWithASCIIString(object, c->text) == 0) return *to = c->value, true;
    char expected[120] = "None";
    for (const struct choice *c = choices; c->text; c++) {
        size_t at = strlen(expected);
        snprintf(expected + at, sizeof expected - at, "%s\"%s\"", c[1].text ? ", " : " or ", c->text);
    }
    PyErr_Format(PyUnicode_Check(object) ? PyExc_ValueError : PyExc_TypeError, "%s is %R, expected %s", name, object,
                 expected);
    return false;
}

/* (left, right) */
static bool take_window(PyObject *keywords, attn_attention_options *options) {
    PyObject *object = given(keywords, "window");
    int64_t *sides;
    size_t count;
    if (!object) return true;
    if (!integers_take(object, "window", &sides, &count)) return false;
    bool fine = count_fits("window", count, 2, "left, right; -1 is open");
    if (fine) options->window_left = sides[0], options->window_right = sides[1];
    PyMem_Free(sides);
    return fine;
}

/* One integer for all sequences, or one for each. */
static bool take_query_offset(call_options *o, PyObject *keywords, size_t sequences) {
    PyObject *object = given(keywords, "query_offset");
    if (!object || !PyLong_Check(object))
        return take_int64(o, keywords, "query_offset", sequences, "B", &o->options.query_offset);
    int64_t value, *values;
    if (!one_integer(object, "query_offset", &value)) return false;
    values = PyMem_Malloc((sequences + 1) * sizeof *values);
    if (!values) return PyErr_NoMemory(), false;
    for (size_t i = 0; i < sequences; i++) values[i] = value;
    o->options.query_offset = values;
    return keep(o, values);
}

/* ---- tensors ----------------------------------------------------------------------------------------- */

/* Integers of any kind as an I32 tensor of the same shape. */
static bool take_ids(call_options *o, PyObject *object, const char *name, attn_tensor *to) {
    view v;
    if (!view_take(&v, object, name, VIEW_INTEGERS, VIEW_READ)) return false;
    size_t n = attn_tensor_count(&v.tensor);
    int64_t *values = PyMem_Malloc((n + 1) * sizeof *values);
    bool fine = values != NULL;
    if (!fine) PyErr_NoMemory();
    for (size_t i = 0; fine && i < n; i++) fine = view_integer(&v, name, i, &values[i]);
    if (fine) *to = attn_tensor_of(values, ATTN_I32, v.tensor.rank, v.tensor.shape);
    view_release(&v);
    if (values && !keep(o, values)) return false;
    return fine && narrow(name, values, n);
}

static bool take_segments(call_options *o, PyObject *keywords) {
    PyObject *pair = given(keywords, "segments");
    if (!pair) return true;
    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "segments: expected a tuple (ids of the queries, ids of the keys)");
        return false;
    }
    o->options.segments_q = &o->segments_q;
    o->options.segments_k = &o->segments_k;
    return take_ids(o, PyTuple_GetItem(pair, 0), "segments[0]", &o->segments_q) &&
           take_ids(o, PyTuple_GetItem(pair, 1), "segments[1]", &o->segments_k);
}

static bool take_mask(call_options *o, PyObject *keywords, size_t keys) {
    PyObject *object = given(keywords, "mask"), *keeps = given(keywords, "mask_keeps");
    if (!object) return true;
    if (!view_take(&o->mask, object, "mask", VIEW_BOOL, VIEW_READ) || !view_raise(&o->mask, "mask", 4)) return false;
    /* The library broadcasts all dimensions but this one. */
    if (o->mask.tensor.shape[3] == 1 && keys != 1 && !view_repeat_last(&o->mask, keys)) return false;
    int truth = keeps ? PyObject_IsTrue(keeps) : 1;
    o->options.mask = &o->mask.tensor;
    o->options.mask_format = truth ? ATTN_MASK_KEEP_BYTES : ATTN_MASK_DROP_BYTES;
    return truth >= 0;
}

static bool take_bias(call_options *o, PyObject *keywords) {
    PyObject *object = given(keywords, "bias");
    if (!object) return true;
    o->options.bias = &o->bias.tensor;
    return view_take(&o->bias, object, "bias", VIEW_FLOATS, VIEW_READ) && view_raise(&o->bias, "bias", 4);
}

/* ---- all --------------------------------------------------------------------------------------------- */

static bool take_packing(call_options *o, PyObject *keywords, size_t *longest) {
    attn_attention_options *options = &o->options;
    size_t n_q = 0, n_k = 0;
    if (!take_int32(o, keywords, "cu_q", 0, "", &options->cu_q, &n_q)) return false;
    if (!take_int32(o, keywords, "cu_k", 0, "", &options->cu_k, &n_k)) return false;
    if (!options->cu_q != !options->cu_k || n_q != n_k || (options->cu_q && n_q == 0)) {
        PyErr_Format(PyExc_ValueError,
                     "cu_q has %zu elements and cu_k has %zu, expected both with one more than sequences", n_q, n_k);
        return false;
    }
    options->sequences = options->cu_q ? n_q - 1 : 0;
    for (size_t b = 0; b < options->sequences; b++) {
        int64_t keys = (int64_t)options->cu_k[b + 1] - options->cu_k[b];
        if (keys > 0 && (size_t)keys > *longest) *longest = (size_t)keys;
    }
    return true;
}

bool options_take(call_options *o, PyObject *keywords, const attn_tensor *q, const attn_tensor *k) {
    static const struct choice causal[] = {{"top-left", ATTN_CAUSAL_TOP_LEFT},
                                           {"bottom-right", ATTN_CAUSAL_BOTTOM_RIGHT},
                                           {"offset", ATTN_CAUSAL_OFFSET},
                                           {NULL, 0}};
    static const struct choice precision[] = {{"high", ATTN_PRECISION_HIGH}, {"fast", ATTN_PRECISION_FAST}, {NULL, 0}};
    *o = (call_options){.options = ATTN_ATTENTION_OPTIONS_INIT};
    attn_attention_options *options = &o->options;
    size_t longest = 0;
    if (!take_packing(o, keywords, &longest)) return false;
    bool packed = options->cu_q != NULL;
    if (q->rank != (packed ? 3 : 4)) {
        PyErr_Format(PyExc_ValueError, "q has %d dimensions, expected %s", q->rank,
                     packed ? "3 beside cu_q and cu_k: (H, total, D)" : "4: (B, H, T, D)");
        return false;
    }
    size_t sequences = packed ? options->sequences : q->shape[0], heads = q->shape[packed ? 0 : 1];
    size_t keys = packed ? longest : k->rank == 4 ? k->shape[2] : 0;
    int causal_value = ATTN_CAUSAL_NONE, precision_value = ATTN_PRECISION_DEFAULT;
    if (!take_choice(keywords, "causal", causal, &causal_value)) return false;
    if (!take_choice(keywords, "precision", precision, &precision_value)) return false;
    options->causal = (attn_causal)causal_value;
    options->precision = (attn_precision)precision_value;
    return take_float(keywords, "scale", &options->scale) && take_float(keywords, "softcap", &options->softcap) &&
           take_float(keywords, "dropout", &options->dropout) && take_window(keywords, options) &&
           take_uint64(keywords, "seed", &options->seed) && take_uint64(keywords, "offset", &options->offset) &&
           take_query_offset(o, keywords, sequences) &&
           take_int32(o, keywords, "q_lengths", sequences, "B", &options->q_lengths, NULL) &&
           take_int32(o, keywords, "kv_lengths", sequences, "B", &options->kv_lengths, NULL) &&
           take_int32(o, keywords, "prefix", sequences, "B", &options->prefix, NULL) &&
           take_int64(o, keywords, "sequence_ids", sequences, "B", &options->sequence_ids) &&
           take_floats(o, keywords, "alibi", heads, &options->alibi) &&
           take_floats(o, keywords, "sinks", heads, &options->sinks) && take_segments(o, keywords) &&
           take_mask(o, keywords, keys) && take_bias(o, keywords);
}

void options_release(call_options *o) {
    view_release(&o->mask);
    view_release(&o->bias);
    for (int i = 0; i < o->block_count; i++) PyMem_Free(o->blocks[i]);
    memset(o, 0, sizeof *o);
}
