/* _attn_module.c: the module attn._attn. attn/__init__.py is what people call. */
#include "_attn.h"

static PyMethodDef methods[] = {
#define METHOD_ROW(name) {#name, name, METH_VARARGS, NULL},
    METHOD_LIST(METHOD_ROW)
#undef METHOD_ROW
        {"describe", describe, METH_VARARGS, NULL},
    {"set_num_threads", set_num_threads, METH_O, NULL},
    {"cpu_level", cpu_level, METH_NOARGS, NULL},
    {"set_cpu_level", set_cpu_level, METH_O, NULL},
    {"after_fork", after_fork, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "attn._attn", NULL, -1, methods, NULL, NULL, NULL, NULL};

static bool add_type(PyObject *module, const char *name, PyObject *(*make)(void)) {
    PyObject *type = module ? make() : NULL;
    bool added = type && PyModule_AddObjectRef(module, name, type) == 0;
    Py_XDECREF(type);
    return added;
}

#ifdef ATTN_CORE_ONLY
static bool add_models(PyObject *module) { return module != NULL; }
#else
static bool add_models(PyObject *module) {
    return add_type(module, "Tokenizer", tokenizer_type) && add_type(module, "Model", model_type) &&
           add_type(module, "Generator", generator_type);
}
#endif

PyMODINIT_FUNC PyInit__attn(void);
PyMODINIT_FUNC PyInit__attn(void) {
    PyObject *module = context_start() ? PyModule_Create(&definition) : NULL;
    if (!add_type(module, "Memory", memory_type) || !add_type(module, "Cache", cache_type) || !add_models(module) ||
        PyModule_AddStringConstant(module, "version", ATTN_VERSION) != 0)
        Py_CLEAR(module);
    return module;
}
