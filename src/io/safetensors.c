/* safetensors.c: reads safetensors files that may be anything.
 *
 * What is kept true:
 *   (I1) nothing is allocated from a number in the file: counts come from scanning bytes that are there;
 *   (I2) the JSON reader sees one entry at a time, at most ENTRY_MAX bytes (a string value may be longer), since its
 *        objects can be twenty times as large as their text; so memory stays below 4 × file + 1 MB;
 *   (I3) sorted by offset, the tensors fill the data section without overlap or hole.                               */
#include "io/file.h"
#include <attn/io.h>

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ENTRY_MAX = 16384, METADATA_MAX = 4096 };

typedef struct text_span {
    const char *at;
    size_t bytes;
} text_span;

struct attn_safetensors {
    attn_context *ctx;
    attn_mapping mapping;
    char *path;
    attn_named_tensor *tensor; /* (count) in the order of the file */
    size_t *by_name;           /* (count) indices, sorted by name */
    char *names;               /* what tensor[].name points into */
    char *aligned;             /* copies of data that was not aligned in the file */
    size_t count;
    attn_key_value *metadata;
    size_t metadata_count;
    char *strings; /* what metadata[] points into */
};

#define FAIL(file, ...) attn_fail((file)->ctx, ATTN_E_FORMAT, __VA_ARGS__)

/* ---- cutting an object into its entries ------------------------------------------------------- */

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

static const char *skip_space(const char *at, const char *end) {
    while (at < end && is_space(*at)) at++;
    return at;
}

static const char *skip_string(const char *at, const char *end) { /* at: the opening quote; NULL: no closing one */
    for (at++; at < end; at++) {
        if (*at == '"') return at + 1;
        if (*at == '\\') at++;
    }
    return NULL;
}

/* The end of the value that begins at `at`: where brackets balance and a comma or closing brace follows. */
static const char *skip_value(const char *at, const char *end) {
    size_t depth = 0;
    while (at < end) {
        if (*at == '"') {
            if (!(at = skip_string(at, end))) return NULL;
            continue;
        }
        if (*at == '{' || *at == '[') depth++;
        else if (*at == '}' || *at == ']') {
            if (!depth) return at;
            depth--;
        } else if (*at == ',' && !depth) return at;
        at++;
    }
    return depth ? NULL : at;
}

/* Gives the next "key": value of an object's inside and moves *at past its comma. 1: an entry, 0: the end, −1:
 * malformed. */
static int next_entry(const char **at, const char *end, bool *more, text_span *key, text_span *value) {
    const char *here = skip_space(*at, end);
    if (here == end) return *more ? -1 : 0;
    if (*here != '"') return -1;
    const char *after = skip_string(here, end);
    if (!after) return -1;
    *key = (text_span){here, (size_t)(after - here)};
    here = skip_space(after, end);
    if (here == end || *here != ':') return -1;
    here = skip_space(here + 1, end);
    after = skip_value(here, end);
    if (!after || after == here) return -1;
    *value = (text_span){here, (size_t)(after - here)};
    while (value->bytes && is_space(value->at[value->bytes - 1])) value->bytes--;
    *more = after < end && *after == ',';
    if (after < end && !*more) return -1;
    *at = after + *more;
    return 1;
}

/* Decodes a JSON string to *out, which moves on; decoded text and its NUL are never longer than the literal. */
static attn_status take_string(attn_safetensors *file, const char **string, char **out, text_span text,
                               const char *what) {
    json_t *json = NULL;
    if (text.bytes && text.at[0] == '"') json = json_loadb(text.at, text.bytes, JSON_DECODE_ANY, NULL);
    if (!json_is_string(json)) {
        json_decref(json);
        return FAIL(file, "%s: header: %s: expected a JSON string", file->path, what);
    }
    size_t bytes = json_string_length(json) + 1;
    memcpy(*out, json_string_value(json), bytes);
    *string = *out;
    *out += bytes;
    json_decref(json);
    return ATTN_OK;
}

/* ---- one tensor ------------------------------------------------------------------------------- */

static bool find_dtype(attn_dtype *out, const char *text) {
#define CASE(name, spelling, size) \
    if (!strcmp(text, spelling)) return *out = ATTN_##name, true;
    ATTN_DTYPE_LIST(CASE)
#undef CASE
    if (!strcmp(text, "BOOL")) return *out = ATTN_U8, true;
    return false;
}

/* A JSON integer from 0 to SIZE_MAX. */
static bool read_size(size_t *out, const json_t *value) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (size_t)json_integer_value(value);
    return true;
}

static attn_status read_shape(attn_safetensors *file, attn_named_tensor *entry, const json_t *shape, size_t *bytes) {
    size_t rank = json_array_size(shape), dims[ATTN_MAX_RANK] = {0};
    if (!json_is_array(shape)) return FAIL(file, "%s: \"%.80s\": shape: expected an array", file->path, entry->name);
    if (rank > ATTN_MAX_RANK)
        return attn_fail(file->ctx, ATTN_E_UNSUPPORTED,
                         "%s: \"%.80s\": shape: expected at most %d dimensions, found %zu", file->path, entry->name,
                         ATTN_MAX_RANK, rank);
    *bytes = attn_dtype_size(entry->tensor.dtype);
    bool empty = false, fits = true; /* the product without zeros must fit too: strides are made of it */
    for (size_t i = 0; i < rank; i++) {
        if (!read_size(&dims[i], json_array_get(shape, i)))
            return FAIL(file, "%s: \"%.80s\": shape: expected sizes, found something else at %zu", file->path,
                        entry->name, i);
        empty |= dims[i] == 0;
    }
    for (size_t i = 0; i < rank && fits; i++) fits = attn_size_mul(bytes, *bytes, ATTN_MAX(dims[i], 1));
    if (!fits || *bytes > PTRDIFF_MAX)
        return FAIL(file, "%s: \"%.80s\": shape: the number of bytes overflows", file->path, entry->name);
    if (empty) *bytes = 0;
    entry->tensor = attn_tensor_of(NULL, entry->tensor.dtype, (int)rank, dims);
    return ATTN_OK;
}

/* Fills entry->tensor; its data points into the mapping. */
static attn_status read_tensor(attn_safetensors *file, attn_named_tensor *entry, const json_t *object,
                               const unsigned char *data, size_t data_bytes) {
    const char *name = entry->name;
    if (!json_is_object(object) || json_object_size(object) != 3)
        return FAIL(file, "%s: \"%.80s\": expected an object with dtype, shape and data_offsets", file->path, name);
    const char *dtype = json_string_value(json_object_get(object, "dtype"));
    if (!dtype) return FAIL(file, "%s: \"%.80s\": dtype: expected a string", file->path, name);
    if (!find_dtype(&entry->tensor.dtype, dtype))
        return attn_fail(file->ctx, ATTN_E_UNSUPPORTED, "%s: \"%.80s\": dtype \"%.20s\" is not supported", file->path,
                         name, dtype);
    size_t bytes = 0, first = 0, end = 0;
    ATTN_TRY(read_shape(file, entry, json_object_get(object, "shape"), &bytes));
    const json_t *offsets = json_object_get(object, "data_offsets");
    if (json_array_size(offsets) != 2 || !read_size(&first, json_array_get(offsets, 0)) ||
        !read_size(&end, json_array_get(offsets, 1)))
        return FAIL(file, "%s: \"%.80s\": data_offsets: expected two sizes", file->path, name);
    if (first > end || end > data_bytes)
        return FAIL(file, "%s: \"%.80s\": data_offsets: found %zu to %zu, expected them within the %zu bytes of data",
                    file->path, name, first, end, data_bytes);
    if (end - first != bytes)
        return FAIL(file, "%s: \"%.80s\": data_offsets: found %zu bytes, expected %zu for its shape", file->path, name,
                    end - first, bytes);
    entry->tensor.data = (void *)(uintptr_t)(data + first);
    return ATTN_OK;
}

static attn_status parse_tensor(attn_safetensors *file, char **names, text_span key, text_span value,
                                const unsigned char *data, size_t data_bytes) {
    attn_named_tensor *entry = &file->tensor[file->count];
    if (key.bytes > ENTRY_MAX || value.bytes > ENTRY_MAX)
        return FAIL(file, "%s: header: the entry of tensor %zu has more than %d bytes", file->path, file->count,
                    ENTRY_MAX);
    ATTN_TRY(take_string(file, &entry->name, names, key, "the name of a tensor"));
    file->count++;
    json_error_t error;
    json_t *object = json_loadb(value.at, value.bytes, JSON_REJECT_DUPLICATES, &error);
    attn_status status = object ? read_tensor(file, entry, object, data, data_bytes)
                                : FAIL(file, "%s: header: \"%.80s\": %s", file->path, entry->name, error.text);
    json_decref(object);
    return status;
}

/* ---- the header -------------------------------------------------------------------------------- */

/* *bytes: of all keys, and of all values where they are wanted. */
static attn_status count_entries(attn_safetensors *file, text_span inside, size_t *n, size_t *bytes, bool values) {
    const char *at = inside.at, *end = inside.at + inside.bytes;
    bool more = false;
    text_span key, value;
    int found;
    *n = *bytes = 0;
    while ((found = next_entry(&at, end, &more, &key, &value)) == 1) {
        ++*n;
        *bytes += key.bytes + (values ? value.bytes : 0);
    }
    if (found < 0) return FAIL(file, "%s: header: entry %zu: malformed JSON", file->path, *n);
    return ATTN_OK;
}

static int compare_keys(const void *a, const void *b) {
    return strcmp(((const attn_key_value *)a)->key, ((const attn_key_value *)b)->key);
}

static attn_status parse_metadata(attn_safetensors *file, text_span object) {
    if (object.bytes < 2 || object.at[0] != '{' || object.at[object.bytes - 1] != '}')
        return FAIL(file, "%s: header: __metadata__: expected an object", file->path);
    if (file->metadata) return FAIL(file, "%s: header: __metadata__ stands there twice", file->path);
    text_span inside = {object.at + 1, object.bytes - 2}, key, value;
    size_t n, string_bytes;
    ATTN_TRY(count_entries(file, inside, &n, &string_bytes, true));
    if (n > METADATA_MAX)
        return FAIL(file, "%s: header: __metadata__: expected at most %d entries, found %zu", file->path, METADATA_MAX,
                    n);
    if (!(file->metadata = attn_alloc(file->ctx, n, sizeof *file->metadata))) return ATTN_E_NOMEM;
    if (!(file->strings = attn_alloc(file->ctx, string_bytes, 1))) return ATTN_E_NOMEM;
    char *strings = file->strings;
    const char *at = inside.at, *end = inside.at + inside.bytes;
    bool more = false;
    while (next_entry(&at, end, &more, &key, &value) == 1) {
        attn_key_value *entry = &file->metadata[file->metadata_count];
        ATTN_TRY(take_string(file, &entry->key, &strings, key, "a key of __metadata__"));
        ATTN_TRY(take_string(file, &entry->value, &strings, value, "a value of __metadata__"));
        file->metadata_count++;
    }
    if (n > 1) qsort(file->metadata, n, sizeof *file->metadata, compare_keys);
    for (size_t i = 1; i < n; i++)
        if (!strcmp(file->metadata[i - 1].key, file->metadata[i].key))
            return FAIL(file, "%s: header: __metadata__: two values for \"%.80s\"", file->path, file->metadata[i].key);
    return ATTN_OK;
}

static attn_status parse_header(attn_safetensors *file, text_span header, const unsigned char *data,
                                size_t data_bytes) {
    while (header.bytes && header.at[header.bytes - 1] == ' ') header.bytes--;
    if (header.bytes < 2 || header.at[0] != '{' || header.at[header.bytes - 1] != '}')
        return FAIL(file, "%s: header: expected a JSON object", file->path);
    text_span inside = {header.at + 1, header.bytes - 2}, key, value;
    size_t n, name_bytes;
    ATTN_TRY(count_entries(file, inside, &n, &name_bytes, false));
    if (!(file->tensor = attn_alloc(file->ctx, n, sizeof *file->tensor))) return ATTN_E_NOMEM;
    if (!(file->names = attn_alloc(file->ctx, name_bytes, 1))) return ATTN_E_NOMEM;
    char *names = file->names;
    const char *at = inside.at, *end = inside.at + inside.bytes;
    bool more = false;
    while (next_entry(&at, end, &more, &key, &value) == 1) {
        if (key.bytes == 14 && !memcmp(key.at, "\"__metadata__\"", 14)) ATTN_TRY(parse_metadata(file, value));
        else ATTN_TRY(parse_tensor(file, &names, key, value, data, data_bytes));
    }
    return ATTN_OK;
}

/* ---- what holds for all tensors together ------------------------------------------------------- */

typedef struct sort_item {
    const char *name;
    const unsigned char *data;
    size_t bytes, index;
} sort_item;

static int compare_item_names(const void *a, const void *b) {
    return strcmp(((const sort_item *)a)->name, ((const sort_item *)b)->name);
}

static int compare_item_places(const void *a, const void *b) {
    const sort_item *x = a, *y = b;
    if (x->data != y->data) return x->data < y->data ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static attn_status check_items(attn_safetensors *file, sort_item *items, const unsigned char *data, size_t data_bytes) {
    if (file->count > 1) qsort(items, file->count, sizeof *items, compare_item_places);
    const unsigned char *expected = data;
    for (size_t i = 0; i < file->count; i++) {
        if (items[i].data != expected)
            return FAIL(file, "%s: \"%.80s\": its data begins at %zu, expected %zu (an overlap or a hole)", file->path,
                        items[i].name, (size_t)(items[i].data - data), (size_t)(expected - data));
        expected += items[i].bytes;
    }
    if ((size_t)(expected - data) != data_bytes)
        return FAIL(file, "%s: expected %zu bytes of data, found %zu", file->path, (size_t)(expected - data),
                    data_bytes);
    if (file->count > 1) qsort(items, file->count, sizeof *items, compare_item_names);
    for (size_t i = 0; i < file->count; i++) {
        if (i && !strcmp(items[i - 1].name, items[i].name))
            return FAIL(file, "%s: two tensors are called \"%.80s\"", file->path, items[i].name);
        file->by_name[i] = items[i].index;
    }
    return ATTN_OK;
}

static attn_status check_layout(attn_safetensors *file, const unsigned char *data, size_t data_bytes) {
    sort_item *items = attn_alloc(file->ctx, file->count, sizeof *items);
    file->by_name = attn_alloc(file->ctx, file->count, sizeof *file->by_name);
    attn_status status = items && file->by_name ? ATTN_OK : ATTN_E_NOMEM;
    for (size_t i = 0; status == ATTN_OK && i < file->count; i++) {
        const attn_tensor *t = &file->tensor[i].tensor;
        items[i] = (sort_item){file->tensor[i].name, t->data, attn_tensor_count(t) * attn_dtype_size(t->dtype), i};
    }
    if (status == ATTN_OK) status = check_items(file, items, data, data_bytes);
    attn_release(file->ctx, items);
    return status;
}

/* Copies what is not aligned to its element in the file; all copies lie in one block. */
static attn_status align_tensors(attn_safetensors *file) {
    for (int pass = 0; pass < 2; pass++) {
        size_t offset = 0;
        for (size_t i = 0; i < file->count; i++) {
            attn_tensor *t = &file->tensor[i].tensor;
            size_t size = attn_dtype_size(t->dtype), bytes = attn_tensor_count(t) * size;
            if ((uintptr_t)t->data % size == 0) continue;
            offset = (offset + size - 1) / size * size;
            if (pass) t->data = memcpy(file->aligned + offset, t->data, bytes);
            offset += bytes;
        }
        if (!offset) break;
        if (!pass && !(file->aligned = attn_alloc(file->ctx, offset, 1))) return ATTN_E_NOMEM;
    }
    return ATTN_OK;
}

/* ---- the public functions ---------------------------------------------------------------------- */

static attn_status read_file(attn_safetensors *file) {
    const unsigned char *bytes = file->mapping.data;
    size_t size = file->mapping.bytes;
    if (size < 8) return FAIL(file, "%s: expected a safetensors file, found %zu bytes", file->path, size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
    if (length > size - 8)
        return FAIL(file, "%s: expected a safetensors file: its header would have %llu bytes, the file has %zu",
                    file->path, (unsigned long long)length, size);
    const unsigned char *data = bytes + 8 + length;
    size_t data_bytes = size - 8 - (size_t)length;
    ATTN_TRY(parse_header(file, (text_span){(const char *)bytes + 8, (size_t)length}, data, data_bytes));
    ATTN_TRY(check_layout(file, data, data_bytes));
    return align_tensors(file);
}

attn_status attn_safetensors_open(attn_safetensors **gives, attn_context *ctx, const char *path) {
    *gives = NULL;
    attn_safetensors *file = attn_alloc_zero(ctx, 1, sizeof *file);
    if (!file) return ATTN_E_NOMEM;
    file->ctx = ctx;
    file->path = attn_copy_text(ctx, path, strlen(path));
    attn_status status = file->path ? attn_map_file(&file->mapping, ctx, path) : ATTN_E_NOMEM;
    if (status == ATTN_OK) status = read_file(file);
    if (status == ATTN_OK) *gives = file;
    else attn_safetensors_close(file);
    return status;
}

void attn_safetensors_close(attn_safetensors *file) {
    if (!file) return;
    attn_context *ctx = file->ctx;
    attn_release(ctx, file->tensor);
    attn_release(ctx, file->by_name);
    attn_release(ctx, file->names);
    attn_release(ctx, file->aligned);
    attn_release(ctx, file->strings);
    attn_release(ctx, file->metadata);
    attn_release(ctx, file->path);
    attn_unmap_file(&file->mapping);
    attn_release(ctx, file);
}

size_t attn_safetensors_count(const attn_safetensors *file) { return file->count; }

const attn_named_tensor *attn_safetensors_at(const attn_safetensors *file, size_t index) {
    return index < file->count ? &file->tensor[index] : NULL;
}

const attn_named_tensor *attn_safetensors_find(const attn_safetensors *file, const char *name) {
    size_t first = 0, end = file->count;
    while (first < end) {
        size_t middle = first + (end - first) / 2;
        const attn_named_tensor *entry = &file->tensor[file->by_name[middle]];
        int order = strcmp(name, entry->name);
        if (order == 0) return entry;
        if (order < 0) end = middle;
        else first = middle + 1;
    }
    return NULL;
}

const char *attn_safetensors_metadata(const attn_safetensors *file, const char *key) {
    for (size_t i = 0; i < file->metadata_count; i++)
        if (!strcmp(file->metadata[i].key, key)) return file->metadata[i].value;
    return NULL;
}
