/* _attn_translate.c: translations as tuples, and the heads that made them. */
#include "_attn_model.h"

#include <string.h>

struct translate_call {
    const model_object *m;
    text_array texts;
    attn_translation *out; /* (texts.count) */
    attn_translate_options options;
};

static attn_status run_translate(attn_context *ctx, void *arg) {
    const struct translate_call *c = arg;
    (void)ctx;
    return attn_translate(c->m->model, c->m->tokenizer, c->out, c->texts.text, c->texts.bytes, c->texts.count,
                          &c->options);
}

/* (text, score, ids, log_prob, alignment or None), numbers as bytes of f32 */
static PyObject *hypothesis_tuple(const attn_hypothesis *h, size_t source) {
    return Py_BuildValue("(y#dNNN)", h->text ? h->text : "", (Py_ssize_t)h->bytes, (double)h->score,
                         ids_list(h->id, h->count), bytes_of_floats(h->log_prob, h->log_prob ? h->count : 0),
                         bytes_of_floats(h->alignment, h->count * source));
}

/* (ids of the source, [hypothesis, …]) */
static PyObject *translation_tuple(const attn_translation *t) {
    PyObject *list = PyList_New((Py_ssize_t)t->count), *source = PyList_New((Py_ssize_t)t->source.count);
    for (size_t i = 0; list && i < t->count; i++) {
        PyObject *row = hypothesis_tuple(&t->hypothesis[i], t->source.count);
        if (!row || PyList_SetItem(list, (Py_ssize_t)i, row) != 0) Py_CLEAR(list);
    }
    for (size_t i = 0; source && i < t->source.count; i++) {
        PyObject *id = PyLong_FromLong(t->source.token[i].id);
        if (!id || PyList_SetItem(source, (Py_ssize_t)i, id) != 0) Py_CLEAR(source);
    }
    if (list && source) return Py_BuildValue("(NN)", source, list);
    Py_XDECREF(list);
    Py_XDECREF(source);
    return NULL;
}

/* translate(tuple of UTF-8, beam, n_best, length_penalty, coverage_penalty, max_length, max_source, split_words)
 * → [(source ids, [(text, score, ids, log_prob, alignment), …]), …] */
PyObject *model_translate(PyObject *self, PyObject *arguments) {
    struct translate_call c = {.m = (model_object *)self, .options = ATTN_TRANSLATE_OPTIONS_INIT};
    PyObject *texts, *list = NULL;
    attn_translate_options *o = &c.options;
    Py_ssize_t most, words;
    if (!PyArg_ParseTuple(arguments, "O!iiffinn:translate", &PyTuple_Type, &texts, &o->beam_size, &o->n_best,
                          &o->length_penalty, &o->coverage_penalty, &o->max_length, &most, &words) ||
        !model_needs_tokenizer(c.m) || !texts_take(&c.texts, texts))
        return NULL;
    o->max_source_tokens = (size_t)most, o->split_words = (size_t)words;
    c.out = PyMem_Calloc(c.texts.count + 1, sizeof *c.out);
    if (!c.out) PyErr_NoMemory();
    if (c.out && model_call((model_object *)self, run_translate, &c)) {
        list = PyList_New((Py_ssize_t)c.texts.count);
        for (size_t i = 0; i < c.texts.count; i++) {
            PyObject *row = list ? translation_tuple(&c.out[i]) : NULL;
            if (list && (!row || PyList_SetItem(list, (Py_ssize_t)i, row) != 0)) Py_CLEAR(list);
            attn_translation_clear(c.m->context, &c.out[i]);
        }
    }
    PyMem_Free(c.out);
    texts_release(&c.texts);
    return list;
}

/* ---- heads --------------------------------------------------------------------------------------------- */

struct pair_call {
    const attn_model *model;
    view out;
    int32_t *source, *target;
    size_t sources, targets;
    attn_look look;
};

static attn_status run_look_at_pair(attn_context *ctx, void *arg) {
    const struct pair_call *c = arg;
    float *weights;
    size_t rows, columns;
    attn_status status =
        attn_look_at_pair(c->model, &weights, &rows, &columns, &c->look, c->source, c->sources, c->target, c->targets);
    if (status == ATTN_OK) memcpy(c->out.tensor.data, weights, attn_tensor_count(&c->out.tensor) * sizeof *weights);
    attn_text_free(ctx, weights);
    return status;
}

/* look_at_pair(out, source ids, target ids, kind, layer from 0, head from 1, 0, or −1: all); out is as large as that */
PyObject *model_look_at_pair(PyObject *self, PyObject *arguments) {
    struct pair_call c = {.model = ((model_object *)self)->model};
    PyObject *out, *source, *target;
    int kind;
    Py_ssize_t layer, head;
    if (!PyArg_ParseTuple(arguments, "OOOinn:look_at_pair", &out, &source, &target, &kind, &layer, &head)) return NULL;
    c.look = (attn_look){(attn_look_kind)kind, (size_t)layer, (size_t)head};
    bool done = view_take(&c.out, out, "out", VIEW_F32, VIEW_WRITE) &&
                int32_take(source, "source", &c.source, &c.sources) &&
                int32_take(target, "target", &c.target, &c.targets);
    const size_t rows = kind == ATTN_LOOK_ENCODER ? c.sources : c.targets;
    const size_t columns = kind == ATTN_LOOK_DECODER ? c.targets : c.sources;
    if (done &&
        attn_tensor_count(&c.out.tensor) != model_look_matrices(c.model, c.look.kind, c.look.head) * rows * columns) {
        PyErr_SetString(PyExc_ValueError, "out has not the size of the weights");
        done = false;
    }
    done = done && model_call((model_object *)self, run_look_at_pair, &c);
    view_release(&c.out);
    PyMem_Free(c.source);
    PyMem_Free(c.target);
    return done ? Py_NewRef(Py_None) : NULL;
}
