/* _attn_chat.c: conversations as prompts. */
#include "_attn_model.h"

#include <attn/chat.h>
#include <string.h>

struct chat_call {
    const model_object *m;
    const char *path, *name; /* name NULL: the model's own template */
    attn_message *message;   /* (count) of texts that the caller holds */
    size_t count, id_count;
    int32_t *ids, end;
};

static attn_status run_chat(attn_context *ctx, void *arg) {
    struct chat_call *c = arg;
    attn_chat *chat;
    attn_status status = attn_chat_load(&chat, ctx, c->path, c->name);
    if (status != ATTN_OK) return status;
    c->end = attn_chat_end(chat, c->m->tokenizer);
    status = attn_chat_tokenize(chat, &c->ids, &c->id_count, c->m->tokenizer, c->message, c->count);
    attn_chat_free(chat);
    return status;
}

/* role, text, role, text … as messages; PyMem_Free them. */
static bool take_messages(struct chat_call *c, const text_array *texts) {
    c->count = texts->count / 2;
    c->message = PyMem_Calloc(c->count + 1, sizeof *c->message);
    if (!c->message) return PyErr_NoMemory(), false;
    for (size_t i = 0; i < texts->count; i++)
        if (strlen(texts->text[i]) != texts->bytes[i])
            return PyErr_Format(PyExc_ValueError, "message %zu has a NUL", i / 2), false;
    for (size_t i = 0; i < c->count; i++) c->message[i] = (attn_message){texts->text[2 * i], texts->text[2 * i + 1]};
    return true;
}

/* chat(path, name of a template or empty, tuple of UTF-8: role, text, role, text …) → (ids, the id that ends the answer
 * or −1) */
PyObject *model_chat(PyObject *self, PyObject *arguments) {
    struct chat_call c = {.m = (model_object *)self};
    text_array texts = {0};
    PyObject *list, *ids = NULL;
    if (!PyArg_ParseTuple(arguments, "yyO!:chat", &c.path, &c.name, &PyTuple_Type, &list) ||
        !model_needs_tokenizer(c.m) || !texts_take(&texts, list))
        return NULL;
    if (!*c.name) c.name = NULL;
    if (take_messages(&c, &texts) && model_call((model_object *)self, run_chat, &c)) {
        ids = ids_list(c.ids, c.id_count);
        attn_text_free(c.m->context, c.ids);
    }
    PyMem_Free(c.message);
    texts_release(&texts);
    return ids ? Py_BuildValue("(Ni)", ids, (int)c.end) : NULL;
}
