/* _attn_model.h: what the files about models share. A model has a context of its own, so that it outlives changes of
 * the module's threads and level, and a lock: calls from several Python threads wait for each other. */
#ifndef ATTN_PYTHON_ATTN_MODEL_H
#define ATTN_PYTHON_ATTN_MODEL_H

#include "_attn.h"

#include <attn/encoder.h>
#include <attn/generate.h>

typedef struct model_object {
    PyObject_HEAD attn_context *context; /* none is NULL once made, but for the tokenizer */
    attn_model *model;
    attn_tokenizer *tokenizer; /* NULL: the model came without one, `missing` says why */
    char missing[1024];
    PyThread_type_lock lock;
    long process; /* a child of fork needs another lock */
} model_object;

/* fn on the model's context, without the GIL. False with an exception that has the library's sentence. */
bool model_call(model_object *m, context_fn *fn, void *arg);
bool model_needs_tokenizer(const model_object *m); /* false with an exception if there is none */

/* A sequence of bytes as texts; gives both arrays by PyMem_Free, the texts stay the sequence's. */
typedef struct text_array {
    const char **text;
    size_t *bytes, count;
} text_array;
bool texts_take(text_array *out, PyObject *tuple);
void texts_release(text_array *texts);

PyObject *bytes_of_floats(const float *x, size_t n); /* None for NULL */
PyObject *ids_list(const int32_t *ids, size_t n);

PyObject *model_chat(PyObject *self, PyObject *arguments);      /* _attn_chat.c */
PyObject *model_translate(PyObject *self, PyObject *arguments); /* _attn_translate.c */
PyObject *model_look_at_pair(PyObject *self, PyObject *arguments);
/* How many matrices a look gives. */
size_t model_look_matrices(const attn_model *model, attn_look_kind kind, size_t head);

#endif
