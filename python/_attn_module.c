/* _attn_module.c: the module attn._attn. attn/__init__.py is what people call. */
#include "_attn.h"

static PyMethodDef methods[] = {
    {"attention_fwd", attention_fwd, METH_VARARGS, NULL},
    {"attention_bwd", attention_bwd, METH_VARARGS, NULL},
    {"rotary_embedding", rotary_embedding, METH_VARARGS, NULL},
    {"describe", describe, METH_VARARGS, NULL},
    {"set_num_threads", set_num_threads, METH_O, NULL},
    {"cpu_level", cpu_level, METH_NOARGS, NULL},
    {"set_cpu_level", set_cpu_level, METH_O, NULL},
    {"after_fork", after_fork, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "attn._attn", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__attn(void);
PyMODINIT_FUNC PyInit__attn(void) {
    PyObject *module = context_start() ? PyModule_Create(&definition) : NULL, *memory = module ? memory_type() : NULL;
    if (!memory || PyModule_AddObjectRef(module, "Memory", memory) != 0 ||
        PyModule_AddStringConstant(module, "version", ATTN_VERSION) != 0)
        Py_CLEAR(module);
    Py_XDECREF(memory);
    return module;
}
