/* gguf.c: reads GGUF files that may be anything.
 *
 * What is kept true:
 *   (I1) every byte is read through `cursor`, which knows how many are left;
 *   (I2) a count in the file is believed only as far as the bytes behind it can hold so many things, so memory stays
 *        below 4 × file + 1 MB;
 *   (I3) sorted by offset, the tensors do not overlap and end inside the file.                                      */
#include "io/file.h"
#include <attn/gguf.h>

#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x46554747, ALIGNMENT = 32, NAME_MAX_BYTES = 65535 };

/* GGUF's kinds of values, and the bytes of those that have a fixed size. */
typedef enum value_kind { U8, I8, U16, I16, U32, I32, FLOAT32, BOOL, TEXT, ARRAY, U64, I64, FLOAT64, KINDS } value_kind;
static const size_t kind_bytes[KINDS] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct entry {
    const char *key;
    value_kind kind, element;   /* element: of an array */
    size_t count;               /* of an array; 1 */
    const unsigned char *data;  /* the value; of a text: its first byte */
    size_t bytes;               /* of a text */
    const unsigned char **text; /* (count) of an array of texts: where each begins, with its length */
} entry;

struct attn_gguf {
    attn_context *ctx;
    attn_mapping mapping;
    char *path;
    char *names, *names_end; /* what keys and names point into, and where the next goes */
    entry *entry;            /* (entries) in the file's order */
    attn_gguf_tensor *tensor;
    size_t *entry_by_key, *tensor_by_name; /* sorted */
    size_t entries, tensors;
};

typedef struct cursor {
    const attn_gguf *file;
    const unsigned char *at, *end;
} cursor;

#define FAIL(file, ...) attn_fail((file)->ctx, ATTN_E_FORMAT, __VA_ARGS__)

static uint64_t little_endian(const unsigned char *at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) value = value << 8 | at[i];
    return value;
}

static attn_status need(const cursor *c, uint64_t bytes, const char *what) {
    size_t left = (size_t)(c->end - c->at);
    if (bytes <= left) return ATTN_OK;
    return FAIL(c->file, "%s: %s: expected %llu bytes, found %zu to the end of the file", c->file->path, what,
                (unsigned long long)bytes, left);
}

static attn_status take(cursor *c, uint64_t *value, size_t bytes, const char *what) {
    ATTN_TRY(need(c, bytes, what));
    *value = little_endian(c->at, bytes);
    c->at += bytes;
    return ATTN_OK;
}

/* A text in place: its length, then its bytes. */
static attn_status take_text(cursor *c, const unsigned char **text, size_t *bytes, const char *what) {
    uint64_t length = 0;
    ATTN_TRY(take(c, &length, 8, what));
    ATTN_TRY(need(c, length, what));
    *text = c->at;
    *bytes = (size_t)length;
    c->at += length;
    return ATTN_OK;
}

/* A name, copied with a NUL behind; the length in the file is longer than that NUL. */
static attn_status take_name(attn_gguf *file, cursor *c, const char **name, const char *what) {
    const unsigned char *text = NULL;
    size_t bytes = 0;
    ATTN_TRY(take_text(c, &text, &bytes, what));
    if (!bytes || bytes > NAME_MAX_BYTES || memchr(text, 0, bytes))
        return FAIL(file, "%s: %s: expected a name of 1 to %d bytes without NUL, found %zu bytes", file->path, what,
                    NAME_MAX_BYTES, bytes);
    memcpy(file->names_end, text, bytes);
    file->names_end[bytes] = '\0';
    *name = file->names_end;
    file->names_end += bytes + 1;
    return ATTN_OK;
}

/* ---- metadata ------------------------------------------------------------------------------- */

static attn_status take_kind(cursor *c, value_kind *out, const char *key) {
    uint64_t value = 0;
    ATTN_TRY(take(c, &value, 4, key));
    if (value >= KINDS)
        return FAIL(c->file, "%s: \"%.80s\": expected a kind of value from 0 to %d, found %llu", c->file->path, key,
                    KINDS - 1, (unsigned long long)value);
    *out = (value_kind)value;
    return ATTN_OK;
}

static attn_status take_array(attn_gguf *file, cursor *c, entry *e) {
    uint64_t count = 0;
    ATTN_TRY(take_kind(c, &e->element, e->key));
    ATTN_TRY(take(c, &count, 8, e->key));
    if (e->element == ARRAY)
        return attn_fail(file->ctx, ATTN_E_UNSUPPORTED, "%s: \"%.80s\": found an array of arrays", file->path, e->key);
    size_t size = e->element == TEXT ? 8 : kind_bytes[e->element], left = (size_t)(c->end - c->at);
    if (count > left / size)
        return FAIL(file, "%s: \"%.80s\": expected %llu elements, found %zu bytes to the end of the file", file->path,
                    e->key, (unsigned long long)count, left);
    e->count = (size_t)count;
    e->data = c->at;
    if (e->element != TEXT) {
        c->at += e->count * size;
        return ATTN_OK;
    }
    e->text = attn_alloc(file->ctx, e->count, sizeof *e->text);
    if (!e->text) return ATTN_E_NOMEM;
    for (size_t i = 0; i < e->count; i++) {
        const unsigned char *text;
        size_t bytes;
        e->text[i] = c->at;
        ATTN_TRY(take_text(c, &text, &bytes, e->key));
    }
    return ATTN_OK;
}

static attn_status take_entry(attn_gguf *file, cursor *c) {
    entry *e = &file->entry[file->entries];
    *e = (entry){.count = 1};
    ATTN_TRY(take_name(file, c, &e->key, "a key of the metadata"));
    file->entries++;
    ATTN_TRY(take_kind(c, &e->kind, e->key));
    if (e->kind == ARRAY) return take_array(file, c, e);
    if (e->kind == TEXT) return take_text(c, &e->data, &e->bytes, e->key);
    e->data = c->at;
    ATTN_TRY(need(c, kind_bytes[e->kind], e->key));
    c->at += kind_bytes[e->kind];
    return ATTN_OK;
}

/* ---- tensors -------------------------------------------------------------------------------- */

/* Its place is an offset until all of the header is read. */
static attn_status take_tensor(attn_gguf *file, cursor *c, uint64_t *offset) {
    attn_gguf_tensor *t = &file->tensor[file->tensors];
    uint64_t rank = 0, type = 0, size = 0;
    *t = (attn_gguf_tensor){.count = 1};
    ATTN_TRY(take_name(file, c, &t->name, "the name of a tensor"));
    file->tensors++;
    ATTN_TRY(take(c, &rank, 4, t->name));
    if (rank < 1 || rank > ATTN_GGUF_MAX_RANK)
        return FAIL(file, "%s: \"%.80s\": expected 1 to %d dimensions, found %llu", file->path, t->name,
                    ATTN_GGUF_MAX_RANK, (unsigned long long)rank);
    t->rank = (int)rank;
    for (size_t i = rank; i-- > 0;) {
        ATTN_TRY(take(c, &size, 8, t->name));
        if (!size || size > SIZE_MAX || !attn_size_mul(&t->count, t->count, (size_t)size) || t->count > PTRDIFF_MAX / 4)
            return FAIL(file, "%s: \"%.80s\": shape: expected sizes above 0 whose product fits, found %llu", file->path,
                        t->name, (unsigned long long)size);
        t->shape[i] = (size_t)size;
    }
    ATTN_TRY(take(c, &type, 4, t->name));
    size_t elements, bytes;
    t->type = (attn_gguf_type)type;
    if (!attn_gguf_type_block(t->type, &elements, &bytes))
        return attn_fail(file->ctx, ATTN_E_UNSUPPORTED, "%s: \"%.80s\": tensors of type %llu are not supported",
                         file->path, t->name, (unsigned long long)type);
    if (t->shape[rank - 1] % elements)
        return FAIL(file, "%s: \"%.80s\": expected rows of whole blocks of %zu elements, found %zu", file->path,
                    t->name, elements, t->shape[rank - 1]);
    if (!attn_size_mul(&t->bytes, t->count / elements, bytes))
        return FAIL(file, "%s: \"%.80s\": the number of bytes overflows", file->path, t->name);
    return take(c, offset, 8, t->name);
}

static int compare_places(const void *a, const void *b) {
    const attn_gguf_tensor *x = *(const attn_gguf_tensor *const *)a, *y = *(const attn_gguf_tensor *const *)b;
    return x->data == y->data ? 0 : x->data < y->data ? -1 : 1;
}

static attn_status check_places(attn_gguf *file) {
    const attn_gguf_tensor **sorted = attn_alloc(file->ctx, file->tensors, sizeof *sorted);
    if (!sorted) return ATTN_E_NOMEM;
    for (size_t i = 0; i < file->tensors; i++) sorted[i] = &file->tensor[i];
    if (file->tensors) qsort(sorted, file->tensors, sizeof *sorted, compare_places);
    attn_status status = ATTN_OK;
    for (size_t i = 1; i < file->tensors && status == ATTN_OK; i++)
        if ((const char *)sorted[i - 1]->data + sorted[i - 1]->bytes > (const char *)sorted[i]->data)
            status =
                FAIL(file, "%s: \"%.80s\" and \"%.80s\" overlap", file->path, sorted[i - 1]->name, sorted[i]->name);
    attn_release(file->ctx, sorted);
    return status;
}

static attn_status place_tensors(attn_gguf *file, const cursor *c, const uint64_t *offset) {
    int64_t alignment = ALIGNMENT;
    attn_gguf_integer(file, "general.alignment", &alignment);
    if (alignment < 8 || alignment > 1 << 20 || (alignment & (alignment - 1)))
        return FAIL(file, "%s: general.alignment: expected a power of 2 from 8 on, found %lld", file->path,
                    (long long)alignment);
    size_t header = (size_t)(c->at - file->mapping.data), first;
    if (!attn_size_add(&first, header, (size_t)alignment - 1)) first = SIZE_MAX;
    first -= first % (size_t)alignment;
    size_t room = file->mapping.bytes > first ? file->mapping.bytes - first : 0;
    for (size_t i = 0; i < file->tensors; i++) {
        attn_gguf_tensor *t = &file->tensor[i];
        if (offset[i] % (uint64_t)alignment || offset[i] > room || t->bytes > room - offset[i])
            return FAIL(file,
                        "%s: \"%.80s\": expected %zu bytes within the %zu of data at a multiple of %lld, found offset "
                        "%llu",
                        file->path, t->name, t->bytes, room, (long long)alignment, (unsigned long long)offset[i]);
        t->data = file->mapping.data + first + offset[i];
    }
    return check_places(file);
}

/* ---- finding -------------------------------------------------------------------------------- */

typedef struct name_row {
    const char *name;
    size_t index;
} name_row;

static int compare_names(const void *a, const void *b) {
    return strcmp(((const name_row *)a)->name, ((const name_row *)b)->name);
}

/* Gives indices in the order of names; two equal ones are refused. */
static attn_status sort_names(attn_gguf *file, size_t **gives, name_row *rows, size_t n) {
    *gives = attn_alloc(file->ctx, n, sizeof **gives);
    if (!*gives) return ATTN_E_NOMEM;
    if (n) qsort(rows, n, sizeof *rows, compare_names);
    for (size_t i = 0; i < n; i++) {
        if (i && !strcmp(rows[i - 1].name, rows[i].name))
            return FAIL(file, "%s: found \"%.80s\" twice", file->path, rows[i].name);
        (*gives)[i] = rows[i].index;
    }
    return ATTN_OK;
}

static attn_status sort_all(attn_gguf *file) {
    name_row *rows = attn_alloc(file->ctx, ATTN_MAX(file->entries, file->tensors), sizeof *rows);
    if (!rows) return ATTN_E_NOMEM;
    for (size_t i = 0; i < file->entries; i++) rows[i] = (name_row){file->entry[i].key, i};
    attn_status status = sort_names(file, &file->entry_by_key, rows, file->entries);
    for (size_t i = 0; i < file->tensors; i++) rows[i] = (name_row){file->tensor[i].name, i};
    if (status == ATTN_OK) status = sort_names(file, &file->tensor_by_name, rows, file->tensors);
    attn_release(file->ctx, rows);
    return status;
}

static const entry *find_entry(const attn_gguf *file, const char *key) {
    size_t low = 0, high = file->entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const entry *e = &file->entry[file->entry_by_key[middle]];
        int order = strcmp(e->key, key);
        if (!order) return e;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

const attn_gguf_tensor *attn_gguf_find(const attn_gguf *file, const char *name) {
    size_t low = 0, high = file->tensors;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const attn_gguf_tensor *t = &file->tensor[file->tensor_by_name[middle]];
        int order = strcmp(t->name, name);
        if (!order) return t;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

size_t attn_gguf_count(const attn_gguf *file) { return file->tensors; }
const attn_gguf_tensor *attn_gguf_at(const attn_gguf *file, size_t index) { return &file->tensor[index]; }
const char *attn_gguf_key(const attn_gguf *file, size_t index) {
    return index < file->entries ? file->entry[index].key : NULL;
}

/* ---- values --------------------------------------------------------------------------------- */

static bool read_integer(value_kind kind, const unsigned char *at, int64_t *value) {
    uint64_t bits = kind_bytes[kind] ? little_endian(at, kind_bytes[kind]) : 0;
    switch (kind) {
    case I8: *value = (int8_t)bits; return true;
    case I16: *value = (int16_t)bits; return true;
    case I32: *value = (int32_t)bits; return true;
    case I64: *value = (int64_t)bits; return true;
    case BOOL: *value = bits != 0; return true;
    case U64: *value = (int64_t)bits; return bits <= INT64_MAX;
    case U8:
    case U16:
    case U32: *value = (int64_t)bits; return true;
    default: return false;
    }
}

static bool read_number(value_kind kind, const unsigned char *at, double *value) {
    int64_t integer;
    if (kind == FLOAT32) {
        uint32_t bits = (uint32_t)little_endian(at, 4);
        float number;
        memcpy(&number, &bits, 4);
        *value = (double)number;
        return true;
    }
    if (kind == FLOAT64) {
        uint64_t bits = little_endian(at, 8);
        memcpy(value, &bits, 8);
        return true;
    }
    if (!read_integer(kind, at, &integer)) return false;
    *value = (double)integer;
    return true;
}

bool attn_gguf_text(const attn_gguf *file, const char *key, const char **text, size_t *bytes) {
    const entry *e = find_entry(file, key);
    if (!e || e->kind != TEXT) return false;
    *text = (const char *)e->data;
    *bytes = e->bytes;
    return true;
}

bool attn_gguf_integer(const attn_gguf *file, const char *key, int64_t *value) {
    const entry *e = find_entry(file, key);
    return e && read_integer(e->kind, e->data, value);
}

bool attn_gguf_number(const attn_gguf *file, const char *key, double *value) {
    const entry *e = find_entry(file, key);
    return e && read_number(e->kind, e->data, value);
}

size_t attn_gguf_array(const attn_gguf *file, const char *key) {
    const entry *e = find_entry(file, key);
    return e && e->kind == ARRAY ? e->count : 0;
}

bool attn_gguf_array_text(const attn_gguf *file, const char *key, size_t i, const char **text, size_t *bytes) {
    const entry *e = find_entry(file, key);
    if (!e || !e->text || i >= e->count) return false;
    *text = (const char *)e->text[i] + 8;
    *bytes = (size_t)little_endian(e->text[i], 8);
    return true;
}

bool attn_gguf_array_number(const attn_gguf *file, const char *key, size_t i, double *value) {
    const entry *e = find_entry(file, key);
    if (!e || e->kind != ARRAY || e->element == TEXT || i >= e->count) return false;
    return read_number(e->element, e->data + i * kind_bytes[e->element], value);
}

/* ---- the file ------------------------------------------------------------------------------- */

static attn_status read_header(attn_gguf *file, cursor *c, uint64_t *tensors, uint64_t *entries) {
    enum { MOST_ENTRIES = 8192, TENSOR_LEAST = 8 + 1 + 4 + 8 + 4 + 8 };
    uint64_t magic = 0, version = 0;
    ATTN_TRY(take(c, &magic, 4, "the first bytes"));
    if (magic != MAGIC) return FAIL(file, "%s: expected a file that begins with GGUF", file->path);
    ATTN_TRY(take(c, &version, 4, "version"));
    if (version != 2 && version != 3)
        return attn_fail(file->ctx, ATTN_E_UNSUPPORTED, "%s: found version %llu, expected 2 or 3", file->path,
                         (unsigned long long)version);
    ATTN_TRY(take(c, tensors, 8, "the number of tensors"));
    ATTN_TRY(take(c, entries, 8, "the number of keys"));
    size_t left = (size_t)(c->end - c->at);
    if (*entries > MOST_ENTRIES)
        return FAIL(file, "%s: expected at most %d keys, found %llu", file->path, MOST_ENTRIES,
                    (unsigned long long)*entries);
    if (*tensors > left / TENSOR_LEAST)
        return FAIL(file, "%s: expected %llu tensors, found %zu bytes to the end of the file", file->path,
                    (unsigned long long)*tensors, left);
    return ATTN_OK;
}

/* Bytes of all names, and a NUL behind each: the header is read once before, only to count. */
static attn_status count_names(const cursor *start, uint64_t entries, uint64_t tensors, size_t *bytes) {
    cursor c = *start;
    const unsigned char *text;
    size_t length = 0;
    uint64_t rank = 0;
    *bytes = 0;
    for (uint64_t i = 0; i < entries; i++) {
        value_kind kind = U8, element = U8;
        uint64_t count = 1;
        ATTN_TRY(take_text(&c, &text, &length, "a key of the metadata"));
        *bytes += length + 1; /* no more than the file has */
        ATTN_TRY(take_kind(&c, &kind, "the metadata"));
        if (kind == ARRAY) {
            ATTN_TRY(take_kind(&c, &element, "the metadata"));
            ATTN_TRY(take(&c, &count, 8, "the metadata"));
            kind = element;
        }
        if (kind == TEXT)
            for (uint64_t k = 0; k < count; k++) ATTN_TRY(take_text(&c, &text, &length, "a text of the metadata"));
        else if (kind != ARRAY) {
            size_t left = (size_t)(c.end - c.at) / kind_bytes[kind];
            if (count > left) return need(&c, UINT64_MAX, "an array of the metadata");
            c.at += count * kind_bytes[kind];
        } else return attn_fail(c.file->ctx, ATTN_E_UNSUPPORTED, "%s: found an array of arrays", c.file->path);
    }
    for (uint64_t i = 0; i < tensors; i++) {
        ATTN_TRY(take_text(&c, &text, &length, "the name of a tensor"));
        *bytes += length + 1;
        ATTN_TRY(take(&c, &rank, 4, "the dimensions of a tensor"));
        ATTN_TRY(need(&c, rank * 8 + 12, "a tensor"));
        c.at += rank * 8 + 12;
    }
    return ATTN_OK;
}

static attn_status read_file(attn_gguf *file) {
    cursor c = {file, file->mapping.data, file->mapping.data + file->mapping.bytes};
    uint64_t tensors = 0, entries = 0;
    size_t names = 0;
    ATTN_TRY(read_header(file, &c, &tensors, &entries));
    ATTN_TRY(count_names(&c, entries, tensors, &names));
    file->names = file->names_end = attn_alloc(file->ctx, names, 1);
    file->entry = attn_alloc(file->ctx, (size_t)entries, sizeof *file->entry);
    file->tensor = attn_alloc(file->ctx, (size_t)tensors, sizeof *file->tensor);
    uint64_t *offset = attn_alloc(file->ctx, (size_t)tensors, sizeof *offset);
    attn_status status = file->names && file->entry && file->tensor && offset ? ATTN_OK : ATTN_E_NOMEM;
    for (uint64_t i = 0; i < entries && status == ATTN_OK; i++) status = take_entry(file, &c);
    for (uint64_t i = 0; i < tensors && status == ATTN_OK; i++) status = take_tensor(file, &c, &offset[i]);
    if (status == ATTN_OK) status = sort_all(file);
    if (status == ATTN_OK) status = place_tensors(file, &c, offset);
    attn_release(file->ctx, offset);
    return status;
}

attn_status attn_gguf_open(attn_gguf **gives, attn_context *ctx, const char *path) {
    *gives = NULL;
    attn_gguf *file = attn_alloc_zero(ctx, 1, sizeof *file);
    if (!file) return ATTN_E_NOMEM;
    file->ctx = ctx;
    file->path = attn_copy_text(ctx, path, strlen(path));
    attn_status status = file->path ? attn_map_file(&file->mapping, ctx, path) : ATTN_E_NOMEM;
    if (status == ATTN_OK) status = read_file(file);
    if (status == ATTN_OK) *gives = file;
    else attn_gguf_close(file);
    return status;
}

void attn_gguf_close(attn_gguf *file) {
    if (!file) return;
    attn_context *ctx = file->ctx;
    for (size_t i = 0; i < file->entries; i++) attn_release(ctx, file->entry[i].text);
    void *const array[] = {file->path,   file->names,        file->entry,
                           file->tensor, file->entry_by_key, file->tensor_by_name};
    for (size_t i = 0; i < ATTN_COUNT(array); i++) attn_release(ctx, array[i]);
    attn_unmap_file(&file->mapping);
    attn_release(ctx, file);
}
