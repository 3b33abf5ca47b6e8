/* npz.c: several arrays in NumPy's .npz: a ZIP archive of .npy files, not compressed. */
#include "io/file.h"
#include "io/npy.h"

#include <attn/io.h>

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>
#include <zlib.h>

enum { LOCAL = 30, CENTRAL = 46, END = 22, NAME = 128, MEMBERS = 1024 };
enum { DAY = 1 << 5 | 1, UTF8 = 1 << 11 }; /* 1 January 1980; names are UTF-8 */

typedef struct member {
    char name[NAME];
    char header[ATTN_NPY_HEADER];
    size_t header_bytes, bytes, at; /* at: of its local header in the file */
    const void *data;
    uint32_t sum;
} member;

/* ---- words ---------------------------------------------------------------------------------------------------- */

/* The next character; a byte that is not UTF-8 is U+FFFD. */
static size_t next_character(utf8proc_int32_t *c, const char *text) {
    const utf8proc_ssize_t used =
        utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)strnlen(text, 4), c);
    if (used > 0) return (size_t)used;
    *c = 0xFFFD;
    return 1;
}

static size_t characters(const char *text) {
    size_t n = 0;
    utf8proc_int32_t c;
    for (; *text; text += next_character(&c, text)) n++;
    return n;
}

/* Words as NumPy's '<U': each in as many characters of 4 bytes as the longest has, zeros behind. */
static attn_status add_words(attn_context *ctx, member *m, const attn_named_words *words) {
    size_t width = 1, all;
    for (size_t i = 0; i < words->n; i++) width = ATTN_MAX(width, characters(words->word[i]));
    if (!attn_size_mul(&all, words->n, width)) return ATTN_E_NOMEM;
    uint32_t *out = attn_alloc_zero(ctx, all + 1, sizeof *out);
    m->data = out;
    if (!out) return ATTN_E_NOMEM;
    for (size_t i = 0; i < words->n; i++) {
        const char *at = words->word[i];
        for (size_t k = 0; *at; k++) {
            utf8proc_int32_t c;
            at += next_character(&c, at);
            out[i * width + k] = (uint32_t)c;
        }
    }
    char type[32];
    snprintf(type, sizeof type, "<U%zu", width);
    m->bytes = all * sizeof *out;
    m->header_bytes = attn_npy_header(m->header, type, 1, &words->n);
    return ATTN_OK;
}

/* ---- the archive ---------------------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++, value >>= 8) *to++ = (uint8_t)value;
    return to;
}

/* What both headers of a member have in the same order. */
static uint8_t *put_common(uint8_t *to, const member *m) {
    const size_t bytes = m->header_bytes + m->bytes;
    to = put(to, 20, 2);   /* version needed */
    to = put(to, UTF8, 4); /* flags, stored */
    to = put(to, (uint32_t)DAY << 16, 4);
    to = put(to, m->sum, 4);
    to = put(to, bytes, 4);
    to = put(to, bytes, 4);
    to = put(to, strlen(m->name), 2);
    return put(to, 0, 2); /* no extra field */
}

static void put_member(attn_writer *writer, const member *m) {
    uint8_t local[LOCAL];
    put_common(put(local, 0x04034b50, 4), m);
    attn_writer_put(writer, local, LOCAL);
    attn_writer_put(writer, m->name, strlen(m->name));
    attn_writer_put(writer, m->header, m->header_bytes);
    attn_writer_put(writer, m->data, m->bytes);
}

static void put_directory(attn_writer *writer, const member *members, size_t n, size_t from, size_t bytes) {
    for (size_t i = 0; i < n; i++) {
        uint8_t central[CENTRAL], *to = put(put(central, 0x02014b50, 4), 20, 2);
        to = put(put_common(to, &members[i]), 0, 10); /* comment, disk, attributes */
        put(to, members[i].at, 4);
        attn_writer_put(writer, central, CENTRAL);
        attn_writer_put(writer, members[i].name, strlen(members[i].name));
    }
    uint8_t end[END], *to = put(put(end, 0x06054b50, 4), 0, 4);
    to = put(put(to, n, 2), n, 2);
    put(put(put(to, bytes, 4), from, 4), 0, 2);
    attn_writer_put(writer, end, END);
}

static uint32_t sum_of(const member *m) {
    const uLong sum = crc32_z(crc32_z(0, NULL, 0), (const Bytef *)m->header, m->header_bytes);
    return (uint32_t)(m->bytes ? crc32_z(sum, m->data, m->bytes) : sum);
}

static attn_status write_all(attn_context *ctx, const char *path, member *members, size_t n) {
    size_t at = 0, directory = 0;
    for (size_t i = 0; i < n; i++) {
        member *m = &members[i];
        m->sum = sum_of(m);
        m->at = at;
        at += LOCAL + strlen(m->name) + m->header_bytes + m->bytes;
        directory += CENTRAL + strlen(m->name);
    }
    attn_writer writer;
    ATTN_TRY(attn_writer_open(&writer, ctx, path));
    for (size_t i = 0; i < n; i++) put_member(&writer, &members[i]);
    put_directory(&writer, members, n, at, directory);
    return attn_writer_close(&writer);
}

static attn_status add_tensor(attn_context *ctx, member *m, const attn_named_tensor *named, const char *path) {
    const attn_tensor *t = &named->tensor;
    const char *type = attn_npy_type(t->dtype);
    if (!type || !attn_tensor_is_contiguous(t))
        return attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: %s: found %s%s, expected a contiguous type of NumPy", path,
                         named->name, type ? "strides, " : "", attn_dtype_name(t->dtype));
    m->data = t->data;
    m->bytes = attn_tensor_count(t) * attn_dtype_size(t->dtype);
    m->header_bytes = attn_npy_header(m->header, type, t->rank, t->shape);
    return ATTN_OK;
}

attn_status attn_npz_save(attn_context *ctx, const char *path, const attn_named_tensor *tensors, size_t n,
                          const attn_named_words *words, size_t n_words) {
    if (n > MEMBERS || n_words > MEMBERS)
        return attn_fail(ctx, ATTN_E_SHAPE, "%s: %zu arrays and %zu lists, expected at most %d", path, n, n_words,
                         MEMBERS);
    member *members = attn_alloc_zero(ctx, n + n_words + 1, sizeof *members);
    if (!members) return ATTN_E_NOMEM;
    attn_status status = ATTN_OK;
    uint64_t all = 0;
    for (size_t i = 0; i < n + n_words && status == ATTN_OK; i++) {
        const char *name = i < n ? tensors[i].name : words[i - n].name;
        if (snprintf(members[i].name, NAME, "%s.npy", name) >= NAME)
            status = attn_fail(ctx, ATTN_E_ARGUMENT, "%s: the name \"%s\" is too long", path, name);
        else
            status =
                i < n ? add_tensor(ctx, &members[i], &tensors[i], path) : add_words(ctx, &members[i], &words[i - n]);
        all += members[i].bytes + 1024;
        if (status == ATTN_OK && (members[i].bytes > UINT32_MAX || all > UINT32_MAX))
            status = attn_fail(ctx, ATTN_E_UNSUPPORTED, "%s: found more than 4 GB, expected less in a .npz", path);
    }
    if (status == ATTN_OK) status = write_all(ctx, path, members, n + n_words);
    for (size_t i = n; i < n + n_words; i++) attn_release(ctx, (void *)(uintptr_t)members[i].data);
    attn_release(ctx, members);
    return status;
}
