/* _attn_memory.c: attn._attn.Memory(shape, dtype), zeros that any library can take over by DLPack. Results for arrays
 * that are neither NumPy's nor torch's are made in it. */
#include "_attn.h"
#include "_attn_dlpack.h"

#include <stdlib.h>

typedef struct memory {
    PyObject_HEAD void *block, *data; /* data: the first multiple of 64 in block */
    element element;
    int32_t rank;
    int64_t shape[ATTN_MAX_RANK], stride[ATTN_MAX_RANK];
} memory;

static PyObject *memory_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    static const char *const names[] = {"shape", "dtype", NULL};
    PyObject *shape;
    const char *dtype;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O!s:Memory", (char **)names, &PyTuple_Type, &shape, &dtype))
        return NULL;
    Py_ssize_t rank = PyTuple_Size(shape);
    element e;
    if (rank > ATTN_MAX_RANK || !element_of_name(&e, dtype)) {
        PyErr_Format(PyExc_ValueError, "Memory: %zd dimensions of %s", rank, dtype);
        return NULL;
    }
    memory *self = (memory *)PyType_GenericAlloc(type, 0);
    if (!self) return NULL;
    self->element = e;
    self->rank = (int32_t)rank;
    size_t bytes = element_size(e);
    for (Py_ssize_t i = rank - 1; i >= 0; i--) {
        self->stride[i] = (int64_t)(bytes / element_size(e));
        self->shape[i] = PyLong_AsLongLong(PyTuple_GetItem(shape, i));
        if (self->shape[i] < 0 || __builtin_mul_overflow(bytes, (size_t)self->shape[i], &bytes)) {
            if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "Memory: a size is negative or too large");
            Py_DECREF(self);
            return NULL;
        }
    }
    self->block = calloc(1, bytes + 64 > bytes ? bytes + 64 : bytes);
    if (!self->block) {
        Py_DECREF(self);
        return PyErr_NoMemory();
    }
    self->data = (char *)self->block + (64 - (uintptr_t)self->block % 64) % 64;
    return (PyObject *)self;
}

static void memory_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    free(((memory *)object)->block);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(object);
    Py_DECREF(type);
}

static void fill(dl_tensor *t, memory *self) {
    static const uint8_t codes[] = {
#define MEMORY_CODE(name, text, letters, code, bytes, dtype) code,
        ELEMENT_LIST(MEMORY_CODE)
#undef MEMORY_CODE
    };
    t->data = self->data;
    t->device = DL_CPU;
    t->rank = self->rank;
    t->code = codes[self->element];
    t->bits = (uint8_t)(8 * element_size(self->element));
    t->lanes = 1;
    t->shape = self->shape;
    t->strides = self->stride;
}

static void let_go(PyObject *owner) {
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(owner);
    PyGILState_Release(state);
}
static void delete_managed(dl_managed *managed) {
    let_go(managed->user);
    free(managed);
}
static void delete_versioned(dl_versioned *managed) {
    let_go(managed->user);
    free(managed);
}

/* Who takes the tensor over renames the capsule. */
static void end_managed(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor")) delete_managed(PyCapsule_GetPointer(capsule, "dltensor"));
}
static void end_versioned(PyObject *capsule) {
    if (PyCapsule_IsValid(capsule, "dltensor_versioned"))
        delete_versioned(PyCapsule_GetPointer(capsule, "dltensor_versioned"));
}

/* max_version (1, …) gives the versioned struct; a stream or a device other than the CPU means nothing here. */
static PyObject *memory_dlpack(PyObject *object, PyObject *arguments, PyObject *keywords) {
    static const char *const names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    PyObject *stream = NULL, *version = NULL, *device = NULL, *copy = NULL;
    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "|$OOOO:__dlpack__", (char **)names, &stream, &version,
                                     &device, &copy))
        return NULL;
    if (copy && PyObject_IsTrue(copy)) {
        PyErr_SetString(PyExc_BufferError, "Memory is not copied");
        return NULL;
    }
    PyObject *major = version && version != Py_None ? PySequence_GetItem(version, 0) : NULL, *capsule;
    bool versioned = major && PyLong_AsLong(major) >= 1;
    Py_XDECREF(major);
    if (PyErr_Occurred()) return NULL;
    if (versioned) {
        dl_versioned *managed = calloc(1, sizeof *managed);
        if (!managed) return PyErr_NoMemory();
        managed->major = 1;
        managed->user = object;
        managed->deleter = delete_versioned;
        fill(&managed->tensor, (memory *)object);
        capsule = PyCapsule_New(managed, "dltensor_versioned", end_versioned);
        if (!capsule) free(managed);
    } else {
        dl_managed *managed = calloc(1, sizeof *managed);
        if (!managed) return PyErr_NoMemory();
        managed->user = object;
        managed->deleter = delete_managed;
        fill(&managed->tensor, (memory *)object);
        capsule = PyCapsule_New(managed, "dltensor", end_managed);
        if (!capsule) free(managed);
    }
    if (capsule) Py_INCREF(object);
    return capsule;
}

static PyObject *memory_device(PyObject *object, PyObject *unused) {
    (void)object, (void)unused;
    return Py_BuildValue("(ii)", DL_CPU, 0);
}

static PyMethodDef memory_methods[] = {
    {"__dlpack__", (PyCFunction)(void (*)(void))memory_dlpack, METH_VARARGS | METH_KEYWORDS, NULL},
    {"__dlpack_device__", memory_device, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyObject *memory_type(void) {
    static PyType_Slot slots[] = {
        {Py_tp_doc, (char *)"Memory(shape, dtype): zeros, for from_dlpack of another library"},
        {Py_tp_new, (void *)memory_new},
        {Py_tp_dealloc, (void *)memory_dealloc},
        {Py_tp_methods, memory_methods},
        {0, NULL},
    };
    static PyType_Spec spec = {"attn._attn.Memory", sizeof(memory), 0, Py_TPFLAGS_DEFAULT, slots};
    return PyType_FromSpec(&spec);
}
