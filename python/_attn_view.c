/* _attn_view.c: other people's arrays as tensors: by the buffer protocol (NumPy) or by DLPack (torch and others). */
#include "_attn.h"
#include "_attn_dlpack.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *letters;
    uint8_t code;
    uint8_t bytes;
    attn_dtype dtype;
} elements[] = {
#define ELEMENT_ROW(name, text, letters, code, bytes, dtype) {text, letters, code, bytes, dtype},
    ELEMENT_LIST(ELEMENT_ROW)
#undef ELEMENT_ROW
};

const char *element_name(element e) { return elements[e].name; }
size_t element_size(element e) { return elements[e].bytes; }

bool element_of_name(element *e, const char *name) {
    for (int i = 0; i < ELEMENT_COUNT; i++)
        if (strcmp(elements[i].name, name) == 0) return *e = (element)i, true;
    return false;
}

bool is_array(PyObject *object) { return PyObject_CheckBuffer(object) || PyObject_HasAttrString(object, "__dlpack__"); }

/* "float32, bfloat16 or float16" */
static void allowed_text(char *text, size_t bytes, unsigned allowed) {
    int left = __builtin_popcount(allowed);
    text[0] = 0;
    if (allowed == VIEW_INTEGERS) {
        snprintf(text, bytes, "integers");
        return;
    }
    for (int i = 0; i < ELEMENT_COUNT; i++) {
        if (!(allowed >> i & 1)) continue;
        left--;
        size_t at = strlen(text);
        snprintf(text + at, bytes - at, "%s%s", elements[i].name, left > 1 ? ", " : left == 1 ? " or " : "");
    }
}

static bool wrong_type(const char *name, const char *found, unsigned allowed) {
    char expected[200];
    allowed_text(expected, sizeof expected, allowed);
    PyErr_Format(PyExc_TypeError, "%s is %s, expected %s", name, found, expected);
    return false;
}

static bool too_many_dimensions(const char *name, long rank, int most) {
    PyErr_Format(PyExc_ValueError, "%s has %ld dimensions, expected at most %d", name, rank, most);
    return false;
}

/* ---- the buffer protocol ----------------------------------------------------------------------------- */

static bool format_element(view *v, const char *format, const char *name, unsigned allowed) {
    const uint16_t one = 1;
    bool little = *(const uint8_t *)&one == 1;
    const char *letter = format ? format : "B";
    if (*letter == '@' || *letter == '=' || *letter == (little ? '<' : '>')) letter++;
    for (int i = 0; *letter && !letter[1] && i < ELEMENT_COUNT; i++)
        if (strchr(elements[i].letters, *letter) && v->buffer.itemsize == elements[i].bytes)
            return v->element = (element)i, true;
    char found[64];
    snprintf(found, sizeof found, "of the format \"%.40s\"", format ? format : "");
    return wrong_type(name, found, allowed);
}

/* NumPy cannot describe ml_dtypes' bfloat16 in a buffer, but it can view it as uint16: *as_bits. NULL if `object` is
 * none of these. */
static PyObject *bfloat16_bits(PyObject *object) {
    PyObject *dtype = PyObject_GetAttrString(object, "dtype"), *name = NULL, *bits = NULL;
    if (dtype) name = PyObject_GetAttrString(dtype, "name");
    if (name && PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "bfloat16") == 0)
        bits = PyObject_CallMethod(object, "view", "s", "uint16");
    Py_XDECREF(dtype);
    Py_XDECREF(name);
    PyErr_Clear();
    return bits;
}

/* The exception that is set, with the argument's name before it, as a TypeError. */
static bool fail_with_cause(const char *name) {
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *text = value ? PyObject_Str(value) : NULL;
    if (text) PyErr_Format(PyExc_TypeError, "%s: %U", name, text);
    else PyErr_Format(PyExc_TypeError, "%s has no memory to look at", name);
    Py_XDECREF(text);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return false;
}

static bool get_buffer(view *v, PyObject *object, const char *name, view_use use) {
    const int flags = PyBUF_STRIDES | PyBUF_FORMAT;
    if (PyObject_GetBuffer(object, &v->buffer, flags | (use == VIEW_WRITE ? PyBUF_WRITABLE : 0)) == 0)
        return v->buffered = true;
    if (use == VIEW_WRITE) {
        PyErr_Clear();
        if (PyObject_GetBuffer(object, &v->buffer, flags) == 0) {
            PyBuffer_Release(&v->buffer);
            PyErr_Format(PyExc_ValueError, "%s is read-only", name);
            return false;
        }
    }
    return fail_with_cause(name);
}

static bool take_buffer(view *v, PyObject *object, const char *name, unsigned allowed, view_use use,
                        ptrdiff_t *stride) {
    PyObject *bits = bfloat16_bits(object);
    bool got = get_buffer(v, bits ? bits : object, name, use);
    bool bfloat16 = bits != NULL;
    Py_XDECREF(bits); /* the buffer keeps what it needs */
    if (!got) return false;
    if (v->buffer.ndim > ATTN_MAX_RANK) return too_many_dimensions(name, v->buffer.ndim, ATTN_MAX_RANK);
    if (bfloat16) v->element = ELEMENT_BF16;
    else if (!format_element(v, v->buffer.format, name, allowed)) return false;
    v->tensor.data = v->buffer.buf;
    v->tensor.rank = v->buffer.ndim;
    for (int i = 0; i < v->tensor.rank; i++) {
        v->tensor.shape[i] = (size_t)v->buffer.shape[i];
        stride[i] = v->buffer.strides[i];
    }
    return true;
}

/* ---- DLPack ------------------------------------------------------------------------------------------ */

/* object.__dlpack__(max_version=(1, 0)), or without it for those who do not know it. */
static PyObject *call_dlpack(PyObject *object) {
    PyObject *method = PyObject_GetAttrString(object, "__dlpack__");
    if (!method) return NULL;
    PyObject *none = PyTuple_New(0), *keywords = Py_BuildValue("{s(ii)}", "max_version", 1, 0);
    PyObject *capsule = none && keywords ? PyObject_Call(method, none, keywords) : NULL;
    if (!capsule && none && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        capsule = PyObject_CallNoArgs(method);
    }
    Py_XDECREF(none);
    Py_XDECREF(keywords);
    Py_DECREF(method);
    return capsule;
}

static bool dlpack_element(view *v, const dl_tensor *t, const char *name, unsigned allowed) {
    for (int i = 0; t->lanes == 1 && i < ELEMENT_COUNT; i++)
        if (elements[i].code == t->code && elements[i].bytes * 8 == t->bits) return v->element = (element)i, true;
    char found[64];
    snprintf(found, sizeof found, "of the DLPack type %d with %d bits", t->code, t->bits);
    return wrong_type(name, found, allowed);
}

/* The capsule keeps its name and so its destructor: what is borrowed here goes back with it. */
static bool take_dlpack(view *v, PyObject *object, const char *name, unsigned allowed, view_use use,
                        ptrdiff_t *stride) {
    v->capsule = call_dlpack(object);
    if (!v->capsule) return fail_with_cause(name);
    const dl_tensor *t = NULL;
    if (PyCapsule_IsValid(v->capsule, "dltensor_versioned")) {
        const dl_versioned *versioned = PyCapsule_GetPointer(v->capsule, "dltensor_versioned");
        if (versioned->major == 1) t = &versioned->tensor;
        if (use == VIEW_WRITE && versioned->flags & DL_READ_ONLY) {
            PyErr_Format(PyExc_ValueError, "%s is read-only", name);
            return false;
        }
    } else if (PyCapsule_IsValid(v->capsule, "dltensor")) {
        t = &((const dl_managed *)PyCapsule_GetPointer(v->capsule, "dltensor"))->tensor;
    }
    if (!t) {
        PyErr_Format(PyExc_TypeError, "%s: its __dlpack__ gave something unknown", name);
        return false;
    }
    if (t->device != DL_CPU && t->device != DL_CUDA_HOST) {
        PyErr_Format(PyExc_ValueError, "%s is on another device (DLPack's number %d), expected the CPU", name,
                     t->device);
        return false;
    }
    if (t->rank > ATTN_MAX_RANK) return too_many_dimensions(name, t->rank, ATTN_MAX_RANK);
    if (!dlpack_element(v, t, name, allowed)) return false;
    ptrdiff_t size = elements[v->element].bytes, dense = size;
    v->tensor.data = t->data ? (char *)t->data + t->byte_offset : NULL;
    v->tensor.rank = t->rank;
    for (int i = t->rank - 1; i >= 0; i--) {
        v->tensor.shape[i] = (size_t)t->shape[i];
        stride[i] = t->strides ? (ptrdiff_t)t->strides[i] * size : dense;
        dense *= t->shape[i];
    }
    return true;
}

/* ---- both -------------------------------------------------------------------------------------------- */

static void copy_elements(char **to, const char *from, const size_t *shape, const ptrdiff_t *stride, int rank,
                          size_t size) {
    if (rank == 0) {
        memcpy(*to, from, size);
        *to += size;
        return;
    }
    for (size_t i = 0; i < shape[0]; i++)
        copy_elements(to, from + (ptrdiff_t)i * stride[0], shape + 1, stride + 1, rank - 1, size);
}

/* Row-major, in memory of the view's own. The old memory must stay until then. */
static bool copy_view(view *v, const ptrdiff_t *stride) {
    size_t size = elements[v->element].bytes, bytes = attn_tensor_count(&v->tensor) * size;
    void *copy = PyMem_Malloc(bytes ? bytes : 1);
    if (!copy) return PyErr_NoMemory(), false;
    char *to = copy;
    copy_elements(&to, v->tensor.data, v->tensor.shape, stride, v->tensor.rank, size);
    PyMem_Free(v->copy);
    v->copy = copy;
    v->tensor = attn_tensor_of(copy, v->tensor.dtype, v->tensor.rank, v->tensor.shape);
    return true;
}

/* Strides from bytes to elements; a copy if that or the library's rules are in the way. */
static bool settle_strides(view *v, const char *name, view_use use, const ptrdiff_t *stride) {
    attn_tensor *t = &v->tensor;
    ptrdiff_t size = (ptrdiff_t)elements[v->element].bytes;
    if (attn_tensor_count(t) == 0) {
        *t = attn_tensor_of(t->data, t->dtype, t->rank, t->shape);
        return true;
    }
    bool askew = (uintptr_t)t->data % (uintptr_t)size != 0;
    for (int i = 0; i < t->rank; i++) {
        t->stride[i] = stride[i] / size;
        askew = askew || (t->shape[i] > 1 && stride[i] % size != 0);
    }
    bool gaps = t->rank > 0 && t->shape[t->rank - 1] > 1 && t->stride[t->rank - 1] != 1;
    if (!askew && !gaps) return true;
    if (use == VIEW_READ) return copy_view(v, stride);
    PyErr_Format(PyExc_ValueError, askew ? "%s: its elements are not aligned" : "%s has a last stride that is not 1",
                 name);
    return false;
}

bool view_take(view *v, PyObject *object, const char *name, unsigned allowed, view_use use) {
    ptrdiff_t stride[ATTN_MAX_RANK] = {0};
    bool taken;
    memset(v, 0, sizeof *v);
    if (PyObject_CheckBuffer(object)) {
        taken = take_buffer(v, object, name, allowed, use, stride);
    } else if (PyObject_HasAttrString(object, "__dlpack__")) {
        taken = take_dlpack(v, object, name, allowed, use, stride);
    } else {
        PyObject *type = PyType_GetName(Py_TYPE(object));
        if (type)
            PyErr_Format(PyExc_TypeError, "%s is a %U, expected a NumPy array or something with DLPack", name, type);
        Py_XDECREF(type);
        return false;
    }
    if (taken && !(allowed >> v->element & 1)) taken = wrong_type(name, elements[v->element].name, allowed);
    v->tensor.dtype = elements[v->element].dtype;
    taken = taken && settle_strides(v, name, use, stride);
    if (!taken) view_release(v);
    return taken;
}

void view_release(view *v) {
    if (v->buffered) PyBuffer_Release(&v->buffer);
    Py_XDECREF(v->capsule);
    PyMem_Free(v->copy);
    memset(v, 0, sizeof *v);
}

const attn_tensor *view_tensor(const view *v) { return v->buffered || v->capsule ? &v->tensor : NULL; }

bool views_take(view *views, const argument *arguments, size_t n, PyObject *tuple, size_t extra) {
    if ((size_t)PyTuple_Size(tuple) != n + extra) {
        PyErr_Format(PyExc_TypeError, "%zd arguments, expected %zu", PyTuple_Size(tuple), n + extra);
        return false;
    }
    for (int pass = VIEW_READ; pass <= VIEW_WRITE; pass++)
        for (size_t i = 0; i < n; i++) {
            const argument *a = &arguments[i];
            PyObject *object = PyTuple_GetItem(tuple, (Py_ssize_t)i);
            if ((int)a->use != pass || (a->optional && object == Py_None)) continue;
            if (!view_take(&views[i], object, a->name, a->allowed, a->use)) return false;
        }
    return true;
}

void views_release(view *views, size_t n) {
    for (size_t i = 0; i < n; i++) view_release(&views[i]);
}

bool view_raise(view *v, const char *name, int rank) {
    attn_tensor *t = &v->tensor;
    int more = rank - t->rank;
    if (more < 0) return too_many_dimensions(name, t->rank, rank);
    for (int i = rank - 1; i >= 0; i--) {
        t->shape[i] = i >= more ? t->shape[i - more] : 1;
        t->stride[i] = i >= more ? t->stride[i - more] : 0;
    }
    t->rank = rank;
    if (more && more == rank) t->stride[rank - 1] = 1; /* it was a scalar */
    return true;
}

static double number_at(element e, const void *p) {
    uint16_t h;
    uint32_t bits;
    float x;
    switch (e) {
    case ELEMENT_F32: return (double)*(const float *)p;
    case ELEMENT_F64: return *(const double *)p;
    case ELEMENT_BF16:
        bits = (uint32_t) * (const uint16_t *)p << 16;
        memcpy(&x, &bits, sizeof x);
        return (double)x;
    default: /* f16 */
        h = *(const uint16_t *)p;
        double sign = h & 0x8000 ? -1 : 1, mantissa = h & 0x3ff;
        int exponent = h >> 10 & 31;
        if (exponent == 31) return mantissa > 0 ? (double)__builtin_nan("") : sign * (double)__builtin_inff();
        if (exponent == 0) return sign * mantissa * 0x1p-24;
        return sign * (1024 + mantissa) * (double)(1ull << exponent) * 0x1p-25;
    }
}

bool view_dense_floats(view *v) {
    if (!attn_tensor_is_contiguous(&v->tensor)) {
        ptrdiff_t stride[ATTN_MAX_RANK];
        for (int i = 0; i < v->tensor.rank; i++)
            stride[i] = v->tensor.stride[i] * (ptrdiff_t)elements[v->element].bytes;
        if (!copy_view(v, stride)) return false;
    }
    if (v->element == ELEMENT_F32) return true;
    size_t n = attn_tensor_count(&v->tensor);
    float *floats = PyMem_Malloc((n + 1) * sizeof *floats);
    if (!floats) return PyErr_NoMemory(), false;
    const char *from = v->tensor.data;
    for (size_t i = 0; i < n; i++) floats[i] = (float)number_at(v->element, from + i * elements[v->element].bytes);
    PyMem_Free(v->copy);
    v->copy = floats;
    v->element = ELEMENT_F32;
    v->tensor = attn_tensor_of(floats, ATTN_F32, v->tensor.rank, v->tensor.shape);
    return true;
}

bool view_repeat_last(view *v, size_t n) {
    ptrdiff_t stride[ATTN_MAX_RANK], size = (ptrdiff_t)elements[v->element].bytes;
    attn_tensor *t = &v->tensor;
    for (int i = 0; i < t->rank; i++) stride[i] = t->stride[i] * size;
    stride[t->rank - 1] = 0;
    t->shape[t->rank - 1] = n;
    return copy_view(v, stride);
}

/* ---- element by element ------------------------------------------------------------------------------ */

static const char *element_at(const view *v, size_t i) {
    ptrdiff_t at = 0;
    for (int d = v->tensor.rank - 1; d >= 0; d--) {
        at += (ptrdiff_t)(i % v->tensor.shape[d]) * v->tensor.stride[d];
        i /= v->tensor.shape[d];
    }
    return (const char *)v->tensor.data + at * (ptrdiff_t)elements[v->element].bytes;
}

bool view_integer(const view *v, const char *name, size_t i, int64_t *value) {
    const void *p = element_at(v, i);
    switch (v->element) {
    case ELEMENT_I8: *value = *(const int8_t *)p; break;
    case ELEMENT_I16: *value = *(const int16_t *)p; break;
    case ELEMENT_I32: *value = *(const int32_t *)p; break;
    case ELEMENT_I64: *value = *(const int64_t *)p; break;
    case ELEMENT_U8: *value = *(const uint8_t *)p; break;
    case ELEMENT_U16: *value = *(const uint16_t *)p; break;
    case ELEMENT_U32: *value = *(const uint32_t *)p; break;
    default: {
        uint64_t large = *(const uint64_t *)p;
        if (large > INT64_MAX) {
            PyErr_Format(PyExc_ValueError, "%s[%zu] is %llu, which is too large", name, i, (unsigned long long)large);
            return false;
        }
        *value = (int64_t)large;
    }
    }
    return true;
}

double view_number(const view *v, size_t i) { return number_at(v->element, element_at(v, i)); }

PyObject *describe(PyObject *module, PyObject *arguments) {
    PyObject *object;
    const char *name;
    view v;
    (void)module;
    if (!PyArg_ParseTuple(arguments, "Os:describe", &object, &name)) return NULL;
    if (!view_take(&v, object, name, VIEW_ANY, VIEW_READ)) return NULL;
    PyObject *shape = PyTuple_New(v.tensor.rank);
    for (int i = 0; shape && i < v.tensor.rank; i++) {
        PyObject *size = PyLong_FromSize_t(v.tensor.shape[i]);
        if (!size || PyTuple_SetItem(shape, i, size) != 0) Py_CLEAR(shape);
    }
    PyObject *result = shape ? Py_BuildValue("(Os)", shape, elements[v.element].name) : NULL;
    Py_XDECREF(shape);
    view_release(&v);
    return result;
}
