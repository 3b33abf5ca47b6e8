/* _attn.h: what the files of the extension module share. The package's own Python files are its only callers: they make
 * the output arrays, and hand everything else over as it came.
 *
 *     view v;
 *     if (!view_take(&v, object, "q", VIEW_FLOATS, VIEW_READ)) return NULL;     // a Python exception is set
 *     … v.tensor …
 *     view_release(&v);                                                                                     */
#ifndef ATTN_PYTHON_ATTN_H
#define ATTN_PYTHON_ATTN_H

#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <attn/cache.h>
#include <attn/ops.h>
#include <attn/weights.h>

/* ---- views of other people's arrays: _attn_view.c ---------------------------------------------------- */

/* X(name, Python's name, letters of the buffer protocol, DLPack's code, bytes, dtype). What the library has no dtype
 * for is read by view_integer alone. */
#define ELEMENT_LIST(X)                      \
    X(F32, "float32", "f", 2, 4, ATTN_F32)   \
    X(BF16, "bfloat16", "", 4, 2, ATTN_BF16) \
    X(F16, "float16", "e", 2, 2, ATTN_F16)   \
    X(F64, "float64", "d", 2, 8, ATTN_F64)   \
    X(I8, "int8", "b", 0, 1, ATTN_I8)        \
    X(I16, "int16", "h", 0, 2, ATTN_I8)      \
    X(I32, "int32", "il", 0, 4, ATTN_I32)    \
    X(I64, "int64", "qln", 0, 8, ATTN_I64)   \
    X(U8, "uint8", "B", 1, 1, ATTN_U8)       \
    X(U16, "uint16", "H", 1, 2, ATTN_U8)     \
    X(U32, "uint32", "IL", 1, 4, ATTN_U8)    \
    X(U64, "uint64", "QLN", 1, 8, ATTN_U8)   \
    X(BOOL, "bool", "?", 6, 1, ATTN_U8)
typedef enum element {
#define ELEMENT_ENUM(name, text, letters, code, bytes, dtype) ELEMENT_##name,
    ELEMENT_LIST(ELEMENT_ENUM)
#undef ELEMENT_ENUM
        ELEMENT_COUNT
} element;

#define VIEW_FLOATS (1u << ELEMENT_F32 | 1u << ELEMENT_BF16 | 1u << ELEMENT_F16)
#define VIEW_NUMBERS (VIEW_FLOATS | 1u << ELEMENT_F64)
#define VIEW_F32 (1u << ELEMENT_F32)
#define VIEW_F32_BF16 (1u << ELEMENT_F32 | 1u << ELEMENT_BF16)
#define VIEW_I32 (1u << ELEMENT_I32)
#define VIEW_BOOL (1u << ELEMENT_BOOL)
#define VIEW_INTEGERS                                                                                  \
    (1u << ELEMENT_I8 | 1u << ELEMENT_I16 | 1u << ELEMENT_I32 | 1u << ELEMENT_I64 | 1u << ELEMENT_U8 | \
     1u << ELEMENT_U16 | 1u << ELEMENT_U32 | 1u << ELEMENT_U64)
#define VIEW_ANY ((1u << ELEMENT_COUNT) - 1)

typedef enum view_use { VIEW_READ, VIEW_WRITE } view_use;

typedef struct view {
    attn_tensor tensor;
    element element;
    Py_buffer buffer; /* where `buffered` */
    bool buffered;
    PyObject *capsule; /* DLPack's, or NULL */
    void *copy;        /* of what the library cannot read in place, or NULL */
} view;

/* Borrows the memory of a NumPy array, of anything with the buffer protocol, or of anything with DLPack. `allowed` are
 * bits of `element`. To be read: a copy is made if the last stride is not 1 or elements lie askew. To be written:
 * refused then, as is what is read-only. False with a TypeError or ValueError that names the argument. */
bool view_take(view *v, PyObject *object, const char *name, unsigned allowed, view_use use);
void view_release(view *v);
/* NULL where nothing was taken. */
const attn_tensor *view_tensor(const view *v);
/* The shape with ones in front, up to rank; false with a ValueError if there are more dimensions. */
bool view_raise(view *v, const char *name, int rank);
/* A last dimension of 1 repeated n times, in a copy. */
bool view_repeat_last(view *v, size_t n);
/* Any floats as contiguous f32; a copy if they are not that. */
bool view_dense_floats(view *v);
/* Element i in row-major order, of VIEW_INTEGERS; false with an OverflowError. */
bool view_integer(const view *v, const char *name, size_t i, int64_t *value);
double view_number(const view *v, size_t i); /* of any float */

/* One argument of an operation; the optional ones may be None. */
typedef struct argument {
    const char *name;
    unsigned allowed;
    view_use use;
    bool optional;
} argument;

/* The first n items of the tuple, first those that are read. What is taken when it returns is the caller's to release,
 * also after a failure; views is zeros before. `extra` more items follow: another number is a TypeError. */
bool views_take(view *views, const argument *arguments, size_t n, PyObject *tuple, size_t extra);
void views_release(view *views, size_t n);

const char *element_name(element e);
size_t element_size(element e);
bool element_of_name(element *e, const char *name);
bool is_array(PyObject *object); /* has a buffer or DLPack */
/* describe(object, name) → (shape, dtype's name) */
PyObject *describe(PyObject *module, PyObject *arguments);

/* ---- options: _attn_options.c ------------------------------------------------------------------------ */

enum { CALL_BLOCKS = 12 };

/* One call's options and the memory under them. */
typedef struct call_options {
    attn_attention_options options;
    view mask, bias;
    attn_tensor segments_q, segments_k;
    void *blocks[CALL_BLOCKS];
    int block_count;
} call_options;

/* From a dict of the Python function's keywords; what is absent or None is the default. q and k give the sizes. */
bool options_take(call_options *o, PyObject *keywords, const attn_tensor *q, const attn_tensor *k);
void options_release(call_options *o);
/* A sequence or an array of integers as int64 (gives by PyMem_Free). */
bool integers_take(PyObject *object, const char *name, int64_t **gives, size_t *count);
/* The same as int32. */
bool int32_take(PyObject *object, const char *name, int32_t **gives, size_t *count);
/* n lengths, one a sequence; None gives NULL. */
bool lengths_take(PyObject *object, const char *name, size_t n, int32_t **gives);

/* ---- the context: _attn_context.c -------------------------------------------------------------------- */

typedef attn_status context_fn(attn_context *ctx, void *arg);

/* fn on the module's context, without the GIL, one call at a time. False with an exception that has the library's
 * sentence. */
bool context_call(context_fn *fn, void *arg);
bool context_start(void); /* once, when the module is made */
/* The same on another context, which `lock` guards. */
bool locked_call(PyThread_type_lock lock, attn_context *context, context_fn *fn, void *arg);
/* A new context with the threads and the level that the module's would have now; NULL with an exception. */
attn_context *context_like_the_modules(void);
/* The exception of a failure; text "": the status's own. */
void raise_status(attn_status status, const char *text);
PyObject *set_num_threads(PyObject *module, PyObject *number);
PyObject *cpu_level(PyObject *module, PyObject *unused);
PyObject *set_cpu_level(PyObject *module, PyObject *name);
PyObject *after_fork(PyObject *module, PyObject *unused);

/* ---- operations: each file's functions are METHOD_LIST's, with the arguments that stand above each ------- */

#define METHOD_LIST(X)                        \
    X(attention_fwd) /* _attn_attention.c */  \
    X(attention_bwd)                          \
    X(rotary_embedding) /* _attn_rotary.c */  \
    X(look_shape)       /* _attn_weights.c */ \
    X(attention_weights)                      \
    X(attention_scores)                       \
    X(additive_fwd) /* _attn_alignment.c */   \
    X(additive_bwd)                           \
    X(dot_fwd)                                \
    X(dot_bwd)                                \
    X(softmax) /* _attn_layers.c */           \
    X(gelu)                                   \
    X(norm)                                   \
    X(gru) /* _attn_gru.c */
#define METHOD_DECLARATION(name) PyObject *name(PyObject *module, PyObject *arguments);
METHOD_LIST(METHOD_DECLARATION)
#undef METHOD_DECLARATION

/* ---- types, each in its file: new references ------------------------------------------------------------ */

PyObject *memory_type(void); /* memory that goes to another library by DLPack */
PyObject *cache_type(void);  /* keys and values of growing sequences */
PyObject *tokenizer_type(void);
PyObject *model_type(void);
PyObject *generator_type(void);

#endif
