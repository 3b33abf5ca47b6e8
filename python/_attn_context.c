/* _attn_context.c: the module's context. There is one, made at the first call, and a lock: calls from several Python
 * threads wait for each other, since each of them uses all of the context's threads. */
#include "_attn.h"

#include <stdlib.h>
#include <stdio.h>
#include <string.h>

static struct {
    PyThread_type_lock lock;
    attn_context *context; /* NULL: not made yet, or its settings changed */
    int threads;           /* 0: $ATTN_NUM_THREADS, or the processors */
    const char *level;     /* of attn_cpu_levels; NULL: $ATTN_CPU, or the best */
} state;

bool context_start(void) {
    if (!state.lock) state.lock = PyThread_allocate_lock();
    if (!state.lock) PyErr_NoMemory();
    return state.lock != NULL;
}

/* A child of fork has neither the threads of the pool nor whoever held the lock: both stay where they are, unused. */
PyObject *after_fork(PyObject *module, PyObject *unused) {
    (void)module, (void)unused;
    state.lock = NULL;
    state.context = NULL;
    return context_start() ? Py_NewRef(Py_None) : NULL;
}

static void levels_text(char *text, size_t bytes) {
    text[0] = 0;
    for (const char *const *level = attn_cpu_levels(); *level; level++) {
        size_t at = strlen(text);
        snprintf(text + at, bytes - at, "%s%s", at ? ", " : "", *level);
    }
}

/* Why no context could be made; the sentence, since there is no context that could have one. */
static void explain_creation(attn_status status, char *text, size_t bytes) {
    const char *threads = getenv("ATTN_NUM_THREADS"), *level = getenv("ATTN_CPU");
    char levels[100];
    levels_text(levels, sizeof levels);
    if (status == ATTN_E_UNSUPPORTED && level)
        snprintf(text, bytes, "ATTN_CPU is \"%.40s\", but this machine has %s", level, levels);
    else if (status == ATTN_E_ARGUMENT && threads)
        snprintf(text, bytes, "ATTN_NUM_THREADS is \"%.40s\", expected a number from 1 to 1024", threads);
    else snprintf(text, bytes, "no context: %s", attn_status_text(status));
}

void raise_status(attn_status status, const char *text) {
    PyObject *type = PyExc_RuntimeError;
    switch (status) {
    case ATTN_E_NOMEM: type = PyExc_MemoryError; break;
    case ATTN_E_IO: type = PyExc_OSError; break;
    case ATTN_E_ARGUMENT:
    case ATTN_E_SHAPE:
    case ATTN_E_UNSUPPORTED:
    case ATTN_E_FORMAT:
    case ATTN_E_VERSION:
    case ATTN_E_NUMERIC: type = PyExc_ValueError; break;
    default: break;
    }
    PyErr_SetString(type, *text ? text : attn_status_text(status));
}

/* With the lock. */
static attn_status create(attn_context **gives, char *text, size_t bytes) {
    attn_context_options options = ATTN_CONTEXT_OPTIONS_INIT;
    options.threads = state.threads;
    options.cpu_level = state.level;
    attn_status status = attn_context_create(gives, &options);
    if (status != ATTN_OK) explain_creation(status, text, bytes);
    return status;
}

attn_context *context_like_the_modules(void) {
    attn_context *context = NULL;
    attn_status status;
    char text[256] = "";
    Py_BEGIN_ALLOW_THREADS;
    PyThread_acquire_lock(state.lock, WAIT_LOCK);
    status = create(&context, text, sizeof text);
    PyThread_release_lock(state.lock);
    Py_END_ALLOW_THREADS;
    if (status != ATTN_OK) raise_status(status, text);
    return context;
}

/* *context NULL: made now. */
static bool call(PyThread_type_lock lock, attn_context **context, context_fn *fn, void *arg) {
    attn_status status = ATTN_OK;
    char text[2048] = "";
    Py_BEGIN_ALLOW_THREADS;
    PyThread_acquire_lock(lock, WAIT_LOCK);
    if (!*context) status = create(context, text, sizeof text);
    if (status == ATTN_OK) {
        status = fn(*context, arg);
        if (status != ATTN_OK) snprintf(text, sizeof text, "%s", attn_error(*context));
    }
    PyThread_release_lock(lock);
    Py_END_ALLOW_THREADS;
    if (status != ATTN_OK) raise_status(status, text);
    return status == ATTN_OK;
}

bool context_call(context_fn *fn, void *arg) { return call(state.lock, &state.context, fn, arg); }

bool locked_call(PyThread_type_lock lock, attn_context *context, context_fn *fn, void *arg) {
    return call(lock, &context, fn, arg);
}

/* The next call makes another context. */
static PyObject *change(int threads, const char *level) {
    Py_BEGIN_ALLOW_THREADS;
    PyThread_acquire_lock(state.lock, WAIT_LOCK);
    attn_context_free(state.context);
    state.context = NULL;
    if (threads) state.threads = threads;
    if (level) state.level = level;
    PyThread_release_lock(state.lock);
    Py_END_ALLOW_THREADS;
    return Py_NewRef(Py_None);
}

PyObject *set_num_threads(PyObject *module, PyObject *number) {
    (void)module;
    PyObject *index = PyNumber_Index(number);
    if (!index) return NULL;
    int overflow;
    long n = PyLong_AsLongAndOverflow(index, &overflow);
    Py_DECREF(index);
    if (overflow || n < 1 || n > 1024) {
        PyErr_Format(PyExc_ValueError, "set_num_threads: n is %S, expected 1 to 1024", number);
        return NULL;
    }
    return change((int)n, NULL);
}

PyObject *set_cpu_level(PyObject *module, PyObject *name) {
    (void)module;
    const char *wanted = PyUnicode_AsUTF8AndSize(name, NULL);
    if (!wanted) return NULL;
    for (const char *const *level = attn_cpu_levels(); *level; level++)
        if (strcmp(*level, wanted) == 0) return change(0, *level);
    char levels[100];
    levels_text(levels, sizeof levels);
    PyErr_Format(PyExc_ValueError, "set_cpu_level: \"%U\" is not among this machine's levels: %s", name, levels);
    return NULL;
}

static attn_status read_level(attn_context *ctx, void *arg) {
    *(const char **)arg = attn_cpu_level(ctx);
    return ATTN_OK;
}

PyObject *cpu_level(PyObject *module, PyObject *unused) {
    const char *level;
    (void)module, (void)unused;
    return context_call(read_level, &level) ? PyUnicode_FromString(level) : NULL;
}
